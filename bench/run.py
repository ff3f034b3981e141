"""The main job: models x tasks -> records. What is on disk is never measured again; a killed run goes on from there."""

from __future__ import annotations

import gc
import hashlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bench.activations import Extractor
from bench.catalog import resolve
from bench.errors import UsageError
from bench.estimators import Estimator
from bench.measure import check_memory, measure
from bench.models import (
    LoadedModel,
    Tokenizer,
    WeightsIdentity,
    bos_token_id,
    find_blocks,
    identify,
    load,
    load_tokenizer,
    model_info,
    untrained_twin,
)
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import (
    CONDITIONS,
    METHOD_VERSION,
    SCHEMA_VERSION,
    Condition,
    EmergenceRecord,
    Measurement,
    ModelInfo,
    RecordKey,
    UnitKey,
)
from bench.request import RunRequest, changed_settings, estimator_for, make_estimator, preset_for
from bench.sources import ModelEntry, pinned, source_revision
from bench.store import Store
from bench.summary import summarise
from bench.task_names import task_options
from tasks import RANKED_TASKS, load_task
from tasks.prompts import (
    AlignedPool,
    Encode,
    Population,
    PromptError,
    align,
    list_population,
    random_word_population,
    random_word_windows,
    windows,
)
from tasks.seeds import generator
from tasks.task import ListTask, PairTask, Preset, Task, TextTask

N_CHECKED = 128
"""Neighbouring sequences on which the block-by-block pass is compared with the model's own, once per condition: they
fill a bin of the forest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One record, and whether it was there before."""

    record: EmergenceRecord
    path: Path
    was_there: bool


def run(request: RunRequest, progress: Progress) -> tuple[RunOutcome, ...]:
    """Measure every model on every task; returns one outcome each, in the order asked for.

    Raises:
        UsageError: the request cannot be met. Apart from what only the loaded weights can tell (damage, a width that
            does not fit the memory budget), everything is looked at before anything is measured.
        StorageError: the results folder cannot be written.
    """
    job = _Run(
        request=request,
        progress=progress,
        store=Store(request.out),
        start=Start.now(),
    )
    parts = parts_of(request)
    entries = [resolve(name, request.revision) for name in request.models]
    plans = []
    for entry in dict.fromkeys(entries):
        plans.append(job.plan(entry, parts))
        if plans[-1].missing:
            job.store.check_writable(entry.name)
    return tuple(outcome for plan in plans for outcome in job.carry_out(plan))


def missing(
    request: RunRequest, progress: Progress, known: Mapping[str, WeightsIdentity] = MappingProxyType({})
) -> tuple[RecordKey, ...]:
    """The records that a run would have to measure; no weights are loaded and nothing is written.

    Args:
        known: identities by the names of models, which saves reading their weights once more.

    Raises:
        UsageError: the request cannot be met, apart from what only the tokenizer tells; see `undrawable`.
    """
    store, parts = Store(request.out), parts_of(request)
    keys = []
    for entry in dict.fromkeys(resolve(name, request.revision) for name in request.models):
        identity = known.get(entry.name) or identify(entry, progress.stage)
        keys += [_record_key(request, entry, identity, part) for part in parts]
    return tuple(key for key in keys if store.record(key) is None)


def undrawable(request: RunRequest, model: str) -> dict[str, str]:
    """Why tasks have no population under the tokenizer of a model, by the name of the task; no weights are loaded."""
    tokenizer = load_tokenizer(resolve(model, request.revision))
    reasons = {}
    for part in parts_of(request):
        try:
            populations_of(request, part, tokenizer)
        except UsageError as error:
            reasons[part.task.name] = str(error)
    return reasons


def aligned_pool(task: ListTask | PairTask, model: str, revision: str | None = None) -> AlignedPool:
    """Which names of a task are one token each under the tokenizer of a model; its weights are not loaded."""
    return align(task, encoder(load_tokenizer(resolve(model, revision))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of a request does not depend on the model: a task, its sizes and the estimator that fits it."""

    task: Task
    preset: Preset
    estimator: Estimator


def parts_of(request: RunRequest) -> list[Part]:
    """The parts of a request, all of which is looked at apart from its models."""
    parts = [
        Part(
            task=task,
            preset=preset_for(request, task),
            estimator=make_estimator(request.estimator or estimator_for(task), request.settings),
        )
        for task in request.tasks
    ]
    if not request.models or not parts:
        raise UsageError("nothing to do: give at least one model and one task")
    if request.bos not in ("tokenizer", "none"):
        raise UsageError(f"--bos must be tokenizer or none, got {request.bos!r}")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Missing:
    """A record to be made: its key, its populations, and the conditions measured so far."""

    key: RecordKey
    estimator: Estimator
    populations: Mapping[Condition, Population]
    done: dict[Condition, Measurement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What there is to do for one model: a finished or a missing record per task, in the order asked for."""

    entry: ModelEntry
    identity: WeightsIdentity
    bos: int | None
    records: tuple[EmergenceRecord | _Missing, ...]

    @property
    def missing(self) -> tuple[_Missing, ...]:
        return tuple(record for record in self.records if isinstance(record, _Missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One request on its way; what all its steps share."""

    request: RunRequest
    progress: Progress
    store: Store
    start: Start

    def plan(self, entry: ModelEntry, parts: list[Part]) -> _Plan:
        """Look at a model without loading it: which records are there, and what lists the others need."""
        self.progress.stage(f"{entry.name}: finding the weights")
        identity = identify(entry, self.progress.stage)
        entry = pinned(entry, identity.revision)
        keys = [_record_key(self.request, entry, identity, part) for part in parts]
        found = [self.store.record(key) for key in keys]
        if all(found):
            return _Plan(entry=entry, identity=identity, bos=None, records=tuple(filter(None, found)))
        tokenizer = load_tokenizer(entry, self.progress.stage)
        return _Plan(
            entry=entry,
            identity=identity,
            bos=bos_token_id(tokenizer) if self.request.bos == "tokenizer" else None,
            records=tuple(
                record
                or _Missing(
                    key=key, estimator=part.estimator, populations=populations_of(self.request, part, tokenizer)
                )
                for record, key, part in zip(found, keys, parts, strict=True)
            ),
        )

    def carry_out(self, plan: _Plan) -> Iterator[RunOutcome]:
        """Measure what is missing and write it."""
        info = self._measure_missing(plan) if plan.missing else None
        for record in plan.records:
            if isinstance(record, EmergenceRecord):
                yield RunOutcome(record=record, path=self.store.record_path(record.key), was_there=True)
            else:
                assert info is not None
                finished = self._finished(record, info, plan.bos)
                yield RunOutcome(record=finished, path=self.store.write_record(finished), was_there=False)

    def _measure_missing(self, plan: _Plan) -> ModelInfo:
        """Fill in every condition; one model in memory at a time, the trained one first."""
        entry, request = plan.entry, self.request
        self.progress.stage(f"{entry.name}: loading")
        loaded = load(
            entry, dtype=request.dtype, device=request.device, progress=self.progress.stage, expected=plan.identity
        )
        info = model_info(loaded)
        for record in plan.missing:
            check_memory(record.populations["trained"].sequences, loaded.d_model, request.memory_bytes)
        self.progress.plan(info.n_blocks * len(CONDITIONS) * len(plan.missing))
        self._measure_conditions(plan, loaded, ("trained", "random_words"))
        del loaded
        gc.collect()
        self.progress.stage(f"{entry.name}: initialising its untrained twin")
        twin = untrained_twin(entry, seed=request.seed, dtype=request.dtype, device=request.device)
        self._measure_conditions(plan, twin, ("untrained_twin",))
        return info

    def _measure_conditions(self, plan: _Plan, loaded: LoadedModel, conditions: tuple[Condition, ...]) -> None:
        for record in plan.missing:
            for condition in conditions:
                text = f"{plan.entry.name}, {record.key.task}, {condition.replace('_', ' ')}"
                record.done[condition] = self._measured(record, condition, loaded, plan.bos, text=text)

    def _measured(
        self, record: _Missing, condition: Condition, loaded: LoadedModel, bos: int | None, *, text: str
    ) -> Measurement:
        """One condition, from the store if it was measured before."""
        population, estimator = record.populations[condition], record.estimator
        key = UnitKey(
            method_version=METHOD_VERSION,
            files_sha256=loaded.files_sha256,
            dtype=self.request.dtype,
            bos=bos,
            sequences_sha256=hashlib.sha256(population.sequences.tobytes()).hexdigest(),
            estimator=estimator.name,
            settings=dict(estimator.settings),
            seed=self.request.seed,
            shuffled=condition == "trained",
        )
        known = self.store.unit(key)
        if known is not None:
            for _ in range(loaded.n_blocks):
                self.progress.block(text)
            return known
        measurement = measure(
            key=key,
            names=population.names,
            sequences=population.sequences,
            extractor=Extractor(
                loaded.model, find_blocks(loaded.model), bos=bos, sample=population.sequences[:N_CHECKED]
            ),
            estimator=estimator,
            device=self.request.device,
            memory_bytes=self.request.memory_bytes,
            on_block=lambda: self.progress.block(text),
        )
        self.store.write_unit(measurement)
        return measurement

    def _finished(self, record: _Missing, info: ModelInfo, bos: int | None) -> EmergenceRecord:
        population = record.populations["trained"]
        return EmergenceRecord(
            schema_version=SCHEMA_VERSION,
            key=record.key,
            model=info,
            bos_token=bos,
            n_pool=population.n_pool,
            n_survivors=population.n_survivors,
            demonstration_length=population.demonstration_length,
            is_enumerated=population.is_enumerated,
            measurements=dict(record.done),
            summary=summarise(
                record.done, n_shots=record.key.n_shots, demonstration_length=population.demonstration_length
            ),
            provenance=provenance(
                self.start,
                command=_equivalent_command(record.key, changed_settings(record.estimator)),
                device=self.request.device,
                seconds=sum(measurement.seconds for measurement in record.done.values()),
            ),
        )


def _record_key(request: RunRequest, entry: ModelEntry, identity: WeightsIdentity, part: Part) -> RecordKey:
    task, preset = part.task, part.preset
    return RecordKey(
        schema_version=SCHEMA_VERSION,
        method_version=METHOD_VERSION,
        model=entry.name,
        revision=identity.revision,
        files_sha256=identity.files_sha256,
        dtype=request.dtype,
        bos=request.bos,
        task=task.name,
        task_version=task.version,
        task_hash=task.content_hash,
        preset=preset.name,
        n_names=preset.n_names,
        n_shots=preset.n_shots,
        limit=request.limit,
        estimator=part.estimator.name,
        settings=dict(part.estimator.settings),
        seed=request.seed,
    )


def populations_of(request: RunRequest, part: Part, tokenizer: Tokenizer) -> dict[Condition, Population]:
    """The population of every condition under a tokenizer.

    Raises:
        UsageError: there is none.
    """
    task, encode, seed = part.task, encoder(tokenizer), request.seed
    excluded = task.surface_forms.union(*(load_task(name).surface_forms for name in RANKED_TASKS))
    try:
        if isinstance(task, TextTask):
            lists = windows(
                task,
                encode,
                n_windows=part.preset.n_names,
                n_tokens=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "windows", task.name),
            )
            words = random_word_windows(
                lists,
                encode,
                tokenizer.decode,
                vocabulary_size=len(tokenizer),
                excluded=excluded,
                special=frozenset(tokenizer.all_special_ids),
                rng=generator(seed, "random words"),
            )
        else:
            lists = list_population(
                task,
                encode,
                n_names=part.preset.n_names,
                n_shots=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "names", task.name),
            )
            words = random_word_population(
                task,
                encode,
                tokenizer.decode,
                vocabulary_size=len(tokenizer),
                excluded=excluded,
                n_names=part.preset.n_names,
                n_shots=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "random words"),
                like=lists.parts,
            )
    except PromptError as error:
        raise UsageError(str(error)) from error
    return {"trained": lists, "untrained_twin": lists, "random_words": words}


def encoder(tokenizer: Tokenizer) -> Encode:
    """From text to token ids, nothing added."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return encode


def _equivalent_command(key: RecordKey, settings: tuple[tuple[str, str], ...]) -> str:
    """The command that measures the same, on a machine where the model goes by the same name."""
    command = ["bench", "run", key.model, *task_options(key.task)]
    if key.preset == "custom":
        command += ["--n-names", str(key.n_names), "--n-shots", str(key.n_shots)]
    else:
        command += ["--preset", key.preset]
    command += ["--estimator", key.estimator]
    command += [part for name, value in settings for part in ("--setting", f"{name}={value}")]
    command += ["--seed", str(key.seed)]
    command += [] if key.revision.startswith("sha256:") else ["--revision", source_revision(key.revision)]
    command += [] if key.limit is None else ["--limit", str(key.limit)]
    command += [] if key.dtype == "float32" else ["--dtype", key.dtype]
    command += [] if key.bos == "tokenizer" else ["--bos", key.bos]
    return shlex.join(command)
