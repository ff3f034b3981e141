"""Costs: the paper's recipe and ours in one process, on the same activations of a real model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from bench.cache import Tell
from bench.calibration.activations import RealCodes, embedded, real_codes
from bench.calibration.results import CALIBRATION_SCHEMA, CostKey, CostResult, CostRow
from bench.errors import UsageError
from bench.estimators import Estimator, Reading
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import exact_information
from bench.estimators.mine_paper import N_WARM_UP, MinePaper
from bench.estimators.noisy_channel import HEADLINE_SCALE, NoisyChannel, label
from bench.provenance import Start, provenance
from bench.records import METHOD_VERSION, Bits, in_bits
from tasks.seeds import generator
from tasks.task import QUICK

PLACE = "middle"
"""Of the block whose states are used."""

D_MODEL = 768
"""Width of the states, or slices of states, that the paper's critic takes."""

PAPER = MinePaper()
"""The recipe with all its epochs and rows."""

N_EPOCHS = 40
"""A minute or two of the days that the recipe takes."""

FINEST_SCALE = 0.01
"""Where the noise takes nothing from the lists of a trained model: the reading should be the exact information."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Generic[Result]):
    """What a call returned, and how long it took."""

    result: Result
    seconds: float

    @classmethod
    def of(cls, call: Callable[[], Result]) -> Timed[Result]:
        """Make the call."""
        started = time.perf_counter()
        result = call()
        return cls(result=result, seconds=time.perf_counter() - started)


def cost_key(
    model: str,
    files_sha256: str,
    *,
    seed: int = 0,
    n_epochs: int = N_EPOCHS,
    n_lists: int = math.perm(QUICK.n_names, QUICK.n_shots),
    d_model: int = D_MODEL,
    crossfit: CrossfitNCE | None = None,
) -> CostKey:
    """What identifies a comparison.

    Args:
        model, files_sha256: as `RealCodes` has them.
        seed: chooses the lists and whatever estimators draw.
        n_epochs: of the paper's recipe, which are run.
        n_lists: rows; every list of the quick preset unless told otherwise.
        d_model: the width that the states are embedded in.
        crossfit: with other settings than the defaults.
    """
    estimators: tuple[Estimator, ...] = (MinePaper(n_epochs=n_epochs), NoisyChannel(), crossfit or CrossfitNCE())
    return CostKey(
        schema_version=CALIBRATION_SCHEMA,
        method_version=METHOD_VERSION,
        case=f"{model}-{PLACE}-block-{d_model}d",
        weights_sha256=files_sha256,
        d_model=d_model,
        n_rows=n_lists,
        n_epochs=n_epochs,
        seed=seed,
        estimators={estimator.name: dict(estimator.settings) for estimator in estimators},
    )


def compare_costs(
    model: str,
    key: CostKey,
    *,
    start: Start,
    command: str | None = None,
    device: str = "cpu",
    progress: Tell | None = None,
) -> CostResult:
    """Time the paper's recipe and ours at the last position of the middle block of a real model.

    The recipe sees the rows as every estimator does, three quarters of them to train on. What is timed of it is the
    training alone; its full time is that of an epoch times all epochs, on these rows and not on the paper's many.

    Args:
        model: as `bench.catalog.resolve` takes it.
        key: from `cost_key`.
        start: see `bench.provenance`.
        command: that measures the same; None means `bench calibrate`.

    Raises:
        UsageError: the model cannot be used, or is not the one of the key.
        Refusal: the recipe's values overflow on these activations.
    """
    codes = real_codes(model, n_lists=key.n_rows, seed=key.seed, device=device, progress=progress)
    if codes.files_sha256 != key.weights_sha256:
        raise UsageError(
            f"{model} is not the model of the comparison: expected files_sha256 {key.weights_sha256[:12]}..., found "
            f"{codes.files_sha256[:12]}...; leave its files alone and run again"
        )
    command = command or f"bench calibrate --part cost --model {codes.model} --seed {key.seed}"
    return compare_costs_on(codes, key, start=start, command=command, device=device, progress=progress)


def compare_costs_on(
    codes: RealCodes, key: CostKey, *, start: Start, command: str, device: str = "cpu", progress: Tell | None = None
) -> CostResult:
    """The same on codes in hand, in the model's own width. All but the seconds follows from codes and key."""
    started = time.perf_counter()
    recipe, channel = MinePaper(n_epochs=key.n_epochs), NoisyChannel()
    crossfit = CrossfitNCE(**key.estimators[CrossfitNCE.name])  # type: ignore[arg-type]
    block = embedded(codes, key.d_model, key.seed).at(PLACE)
    pairs = block.pairs().on(device)
    exact_nats = exact_information(pairs)

    def rng(purpose: str) -> np.random.Generator:
        return generator(key.seed, "cost", key.case, purpose)

    def announce(estimator: Estimator) -> None:
        if progress is not None:
            progress(f"{key.case}, {pairs.n_samples:,} lists: {estimator.name}")

    def row(estimator: Estimator, name: str, reading: Reading, seconds: float, full_seconds: float) -> CostRow:
        return CostRow(
            estimator=estimator.name,
            reading=name,
            seconds=round(seconds, 3),
            full_seconds=round(full_seconds, 3),
            value=Bits(value_bits=in_bits(reading.value_nats), error_bits=in_bits(reading.standard_error_nats)),
            error_bits=in_bits(reading.value_nats - exact_nats),
        )

    announce(recipe)
    MinePaper(n_epochs=N_WARM_UP + 1).fit(pairs, rng("warm-up"))  # the first epochs allocate
    fitted = Timed.of(lambda: recipe.fit(pairs, rng(recipe.name)))
    trained = recipe.read(fitted.result, pairs)
    full_seconds = fitted.seconds / fitted.result.run.n_epochs * PAPER.n_epochs
    announce(channel)
    noisy = Timed.of(lambda: channel.estimate(pairs, rng(channel.name)))
    announce(crossfit)
    learned = Timed.of(lambda: crossfit.estimate(pairs, rng(crossfit.name)))
    return CostResult(
        schema_version=CALIBRATION_SCHEMA,
        key=key,
        description=(
            f"{pairs.n_samples:,} lists of {codes.task}, states after the last demonstration, block {block.index} of "
            f"{codes.model}, {codes.d_model} dimensions embedded in {key.d_model}. mine_paper: {key.n_epochs} of the "
            f"recipe's {PAPER.n_epochs:,} epochs, values after these; its full time is extrapolated to all, on these "
            f"rows. crossfit_nce can say at most {learned.result.cap_nats / math.log(2):.2f} bits here."
        ),
        exact_bits=in_bits(exact_nats),
        paper_epochs=PAPER.n_epochs,
        paper_rows=PAPER.n_samples,
        rows=(
            *(row(recipe, name, trained[name], fitted.seconds, full_seconds) for name in ("train_max", "held_out")),
            *(
                row(channel, name, noisy.result.readings[name], noisy.seconds, noisy.seconds)
                for name in (label(HEADLINE_SCALE), label(FINEST_SCALE))
            ),
            row(
                crossfit,
                crossfit.headline,
                learned.result.readings[crossfit.headline],
                learned.seconds,
                learned.seconds,
            ),
        ),
        provenance=provenance(start, command=command, device=device, seconds=time.perf_counter() - started),
    )
