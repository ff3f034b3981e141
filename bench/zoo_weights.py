"""What is known of the weights and tokenizers of the model zoo: each is read once, however many jobs ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ModelError
from bench.progress import Progress
from bench.sources import Derivation, ModelEntry
from bench.task_names import find_tasks

if TYPE_CHECKING:
    from bench.models import WeightsIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooWeights:
    """What is known of the weights and tokenizers of models: gigabytes of weights are read once, not for each job.

    Attributes:
        found: by name of a model its identity, or why it cannot be had.
        reasons: by original, seed and task why there is no population; None where there is one.
    """

    progress: Progress
    found: dict[str, WeightsIdentity | ModelError] = field(default_factory=dict)
    reasons: dict[tuple[str, int, str], str | None] = field(default_factory=dict)

    def identity(self, entry: ModelEntry) -> WeightsIdentity:
        """The identity that `bench.models.identify` gives.

        Raises:
            ModelError: the model cannot be had.
        """
        if entry.name not in self.found:
            self.progress.stage(f"{entry.name}: finding the weights")
            try:
                self.found[entry.name] = self._identify(entry)
            except ModelError as error:  # told to every job, but tried once: a network that is down takes its time
                self.found[entry.name] = error
        found = self.found[entry.name]
        if isinstance(found, ModelError):
            raise found
        return found

    def n_parameters(self, entry: ModelEntry) -> int | None:
        """As the catalog says, else as many numbers as are stored; None where that cannot be read.

        Raises:
            ModelError: the model cannot be had.
        """
        if entry.n_parameters is not None:
            return entry.n_parameters
        from safetensors import SafetensorError

        from bench.fetch import fetch
        from bench.weights import n_stored_parameters

        try:
            return n_stored_parameters(fetch(entry.original or entry)) or None
        except (OSError, SafetensorError):  # the run itself says what is wrong with them
            return None

    def _identify(self, entry: ModelEntry) -> WeightsIdentity:
        from bench.models import identify

        if entry.original is None or entry.derivation != Derivation(n_bits=entry.derivation.n_bits):
            return identify(entry, self.progress.stage)
        return rounded_identity(entry, self.identity(entry.original))

    def undrawable(self, entry: ModelEntry, model: str, tasks: tuple[str, ...], seed: int) -> dict[str, str]:
        """Why tasks have no population under the tokenizer of a model, which derived models share with their original.

        Args:
            model: what `bench.catalog.resolve` makes the entry of.

        Raises:
            ModelError: the tokenizer cannot be had.
        """
        from bench.request import RunRequest
        from bench.run import undrawable

        original = (entry.original or entry).name
        unknown = tuple(task for task in tasks if (original, seed, task) not in self.reasons)
        if unknown:
            self.progress.stage(f"{original}: looking for names in its tokenizer")
            request = RunRequest(models=(model,), tasks=find_tasks(unknown), out=Path(), seed=seed)
            reasons = undrawable(request, model)
            self.reasons.update({(original, seed, task): reasons.get(task) for task in unknown})
        told = {task: self.reasons[original, seed, task] for task in tasks}
        return {task: reason for task, reason in told.items() if reason is not None}


def rounded_identity(entry: ModelEntry, original: WeightsIdentity) -> WeightsIdentity:
    """What `bench.models.identify` says of a model in fewer bits, from what it said of the original."""
    from bench.derived import recipe_sha256
    from bench.fetch import fetch
    from bench.models import WeightsIdentity
    from bench.weights import configuration_listing, files_sha256

    digest = recipe_sha256(original.weights_sha256, entry.derivation)
    return WeightsIdentity(
        revision=f"{original.revision}{entry.derivation.suffix}",
        weights_sha256=digest,
        files_sha256=files_sha256(configuration_listing(fetch(entry)), digest),
    )
