"""Coverage: how often an estimator's stated interval holds what it should, over many seeds.

Each seed draws data and the estimator's own randomness anew. What an interval should hold depends on the estimator:
that of an unbiased one the truth; that of trained critics, which knows nothing of the critics that another sample
would have trained, the expected value of these same critics on fresh samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from bench.cache import Tell
from bench.calibration.codes import HypercubeCodes, ListCodes, mixture_information
from bench.calibration.results import CALIBRATION_SCHEMA, CoverageKey, CoverageResult
from bench.calibration.samplers import (
    BentLatents,
    DenseGaussian,
    GaussianLatents,
    Latents,
    LowRank,
    Population,
    Sampler,
    StudentLatents,
    UniformNoiseLatents,
    structure_suffix,
)
from bench.errors import EstimationError
from bench.estimators import Estimator, Pairs, Reading, crossfit_nce, mine_paper, pair_up
from bench.estimators.critics import CrossFitted
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.gaussian import Gaussian
from bench.estimators.infonce_anchor import InfonceAnchor, mean_log_ratio
from bench.estimators.mine_paper import MinePaper
from bench.estimators.noisy_channel import HEADLINE_SCALE, NoisyChannel, label, normalise
from bench.intervals import Z_90
from bench.provenance import Start, provenance
from bench.records import METHOD_VERSION, Bits, in_bits
from tasks.seeds import generator

Floats = npt.NDArray[np.float64]
ValueOf = Callable[[torch.Tensor, Floats], float]
"""From scores of a batch and the weights of its rows to what an estimator says of it, nats."""

N_SEEDS = 1_000
"""Of estimators that do not train: a coverage of 90 % is known to 1 point."""

N_TRAINED_SEEDS = 100
"""Of estimators that train: a coverage of 90 % is known to 3 points."""

N_QUICK_SEEDS = 5

N_FRESH_BATCHES = 25
"""Fresh samples of the size of what was held out, over which a critic's value is averaged: the standard error of the
mean is 1 / sqrt(25) = 0.2 of that of the estimate, which takes 0.7 points of a coverage of 90 %."""

N_INTEGRALS = 4
"""Mixture integrals that are averaged: a standard error of 0.005 bits, beside 0.03 to 0.07 of the noisy channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCodes:
    """Gaussian codes of which several share an input: an enumerated population of no structure.

    The outputs are distinct, so that the information without noise is the entropy of the inputs.
    """

    n_inputs: int
    n_codes: int
    d_model: int
    structure_seed: int = 0

    population: ClassVar[Population] = "enumerated"
    truth_error_nats: ClassVar[float] = 0.0  # a closed form

    def __post_init__(self) -> None:
        if self.n_inputs < 2 or self.n_codes % self.n_inputs:
            raise EstimationError(
                f"expected at least 2 inputs with equally many codes each, got {self.n_codes} codes of {self.n_inputs}"
            )

    @property
    def name(self) -> str:
        """See `Sampler`."""
        return f"random-codes-{self.n_codes}of{self.n_inputs}-{self.d_model}d{structure_suffix(self.structure_seed)}"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        return f"{self.n_codes:,} Gaussian codes of {self.n_inputs:,} inputs in {self.d_model} dimensions"

    @property
    def truth_nats(self) -> float:
        """See `Sampler`: log n_inputs."""
        return math.log(self.n_inputs)

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """The whole population, once each; neither argument is used."""
        structure = generator(self.structure_seed, "calibration", "random-codes", self.n_inputs, self.n_codes)
        inputs = structure.standard_normal((self.n_inputs, self.d_model), dtype=np.float32)
        outputs = structure.standard_normal((self.n_codes, self.d_model), dtype=np.float32)
        shared = np.repeat(inputs, self.n_codes // self.n_inputs, axis=0)
        return pair_up(torch.from_numpy(shared), torch.from_numpy(outputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One seed: what the estimator said, and what its interval should hold."""

    reading: Reading
    target_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One reading of one estimator on one sampler, over many seeds.

    Attributes:
        n_samples: rows of each sample; an enumerated population has its own number.
        reading: the label of the reading whose interval is looked at.
    """

    sampler: Sampler
    estimator: Estimator
    n_samples: int
    n_seeds: int
    reading: str

    @property
    def case(self) -> str:
        """The name of the sampler."""
        return self.sampler.name

    def key(self, first_seed: int) -> CoverageKey:
        """What identifies its result."""
        return CoverageKey(
            schema_version=CALIBRATION_SCHEMA,
            method_version=METHOD_VERSION,
            case=self.case,
            estimator=self.estimator.name,
            settings=dict(self.estimator.settings),
            n_samples=self.n_samples,
            n_seeds=self.n_seeds,
            seed=first_seed,
        )

    @property
    def target(self) -> str:
        """What the interval should hold, in words."""
        match self.estimator:
            case CrossfitNCE():
                return "the expected InfoNCE of the same critics on fresh samples of the size of each fold, over folds"
            case InfonceAnchor():
                return "the expected log-ratio of the same critics on fresh samples, over folds"
            case MinePaper():
                return "the expected value of the same critic on fresh samples of the size of the held-out rows"
            case NoisyChannel():
                return f"the information through the noise of {self.reading}"
            case _:
                return "the information"

    def command(self, first_seed: int) -> str:
        """A command that carries it out, with others of the same estimator."""
        quick = " --quick" if self.n_seeds == N_QUICK_SEEDS else ""
        return f"bench calibrate --part coverage --estimator {self.estimator.name} --seed {first_seed}{quick}"

    def truth(self) -> Reading:
        """What there is to find in the sampler, with the error of the integration."""
        if isinstance(self.estimator, NoisyChannel):
            return noisy_truth(self.sampler, self.estimator, self.reading)
        return Reading(value_nats=self.sampler.truth_nats, standard_error_nats=self.sampler.truth_error_nats)

    def trial(self, seed: int, truth_nats: float) -> Trial:
        """Draw, estimate, and find what the interval should hold.

        Raises:
            Refusal: the estimator has no answer for such a sample.
        """
        sample, own, fresh = (
            generator(seed, "coverage", self.case, self.estimator.name, purpose)
            for purpose in ("sample", "estimator", "fresh samples")
        )
        pairs = self.sampler.draw(self.n_samples, sample)
        match self.estimator:
            case CrossfitNCE():
                fitted = self.estimator.fit(pairs, own)
                return self._trial_of_critics(fitted, crossfit_nce.held_out_reading(fitted, pairs), fresh, _infonce)
            case InfonceAnchor():
                fitted = self.estimator.fit(pairs, own)
                return self._trial_of_critics(fitted, mean_log_ratio(fitted, pairs), fresh, _mean_of_own)
            case MinePaper():
                return self._trial_of_critic(self.estimator, pairs, own, fresh)
            case _:
                found = self.estimator.estimate(pairs, own)
                return Trial(reading=found.readings[self.reading], target_nats=truth_nats)

    def _trial_of_critics(
        self, fitted: CrossFitted, reading: Reading, fresh: np.random.Generator, value_of: ValueOf
    ) -> Trial:
        means = [
            np.mean(
                [
                    value_of(fitted.scores(index, batch.inputs, batch.outputs), batch.weights)
                    for batch in self._batches(len(fold.held_out), fresh)
                ]
            )
            for index, fold in enumerate(fitted.folds)
        ]
        return Trial(reading=reading, target_nats=float(crossfit_nce.fold_masses(fitted) @ means))

    def _trial_of_critic(
        self, estimator: MinePaper, pairs: Pairs, own: np.random.Generator, fresh: np.random.Generator
    ) -> Trial:
        fitted = estimator.fit(pairs, own)
        rows = fitted.split.held_out
        reading = mine_paper.held_out_reading(fitted.critic, pairs, rows, fitted.generator)
        every = np.arange(len(rows))
        values = [
            mine_paper.held_out_reading(fitted.critic, batch, every, fitted.generator).value_nats
            for batch in self._batches(len(rows), fresh)
        ]
        return Trial(reading=reading, target_nats=float(np.mean(values)))

    def _batches(self, n: int, rng: np.random.Generator) -> Iterator[Pairs]:
        return (self.sampler.draw(n, rng) for _ in range(N_FRESH_BATCHES))


def _infonce(scores: torch.Tensor, weights: Floats) -> float:
    return crossfit_nce.infonce(scores, weights).value_nats


def _mean_of_own(scores: torch.Tensor, weights: Floats) -> float:
    return float(scores.diagonal().double().mean())


def noisy_truth(sampler: Sampler, channel: NoisyChannel, reading: str) -> Reading:
    """Information of an enumerated population through the noise of a reading: in closed form, or integrated.

    The integrals are those of `mixture_information`, written apart from the channel.
    """
    known: Mapping[str, float] = getattr(sampler, "truth_at", {})
    if reading in known:
        return Reading(value_nats=known[reading], standard_error_nats=0.0)
    scale = dict(zip(channel.labels, channel.scales, strict=True))[reading]
    pairs = sampler.draw(1, generator(0, "coverage", sampler.name))
    codes = normalise(pairs.outputs, pairs.weights)
    assert codes is not None, "random codes differ"
    integrals = [
        mixture_information(
            pairs.input_labels, codes.double(), scale, generator(index, "coverage", sampler.name, reading)
        )
        for index in range(N_INTEGRALS)
    ]
    return Reading(
        value_nats=float(np.mean([integral.value_nats for integral in integrals])),
        standard_error_nats=math.hypot(*(integral.standard_error_nats for integral in integrals)) / N_INTEGRALS,
    )


def coverage_experiments(quick: bool, estimators: Sequence[str]) -> tuple[Experiment, ...]:
    """The experiments of some estimators by name: three samplers each, or one with few seeds.

    `exact` has no interval, and so no experiment.
    """
    found = [EXPERIMENTS[name] for name in estimators if name in EXPERIMENTS]
    if quick:
        return tuple(replace(experiments[0], n_seeds=N_QUICK_SEEDS) for experiments in found)
    return tuple(experiment for experiments in found for experiment in experiments)


def _of_noisy_channel() -> tuple[Experiment, ...]:
    """At scales where some of the information is left and some is gone."""
    channel, headline, coarse = NoisyChannel(), label(HEADLINE_SCALE), label(0.32)
    populations: tuple[tuple[Sampler, int, str], ...] = (
        (HypercubeCodes(k=8, d_model=64), 256, coarse),
        (ListCodes(n_names=16, n_items=3, d_model=64), 3_360, headline),
        (RandomCodes(n_inputs=250, n_codes=1_000, d_model=16), 1_000, coarse),
    )
    return tuple(
        Experiment(sampler=sampler, estimator=channel, n_samples=n_samples, n_seeds=N_SEEDS, reading=reading)
        for sampler, n_samples, reading in populations
    )


def _of_gaussian() -> tuple[Experiment, ...]:
    samplers: tuple[tuple[Sampler, int], ...] = (
        (DenseGaussian(d_model=16, truth_bits=2), 800),
        (LowRank(latents=GaussianLatents(truth_bits=5), d_model=64), 2_000),
        (DenseGaussian(d_model=32, truth_bits=0), 2_000),
    )
    return tuple(
        Experiment(
            sampler=sampler, estimator=Gaussian(), n_samples=n_samples, n_seeds=N_SEEDS, reading=Gaussian.headline
        )
        for sampler, n_samples in samplers
    )


def _of_trained(estimator: Estimator, n_samples: int, d_model: int, *latents: Latents) -> tuple[Experiment, ...]:
    return tuple(
        Experiment(
            sampler=LowRank(latents=shape, d_model=d_model),
            estimator=estimator,
            n_samples=n_samples,
            n_seeds=N_TRAINED_SEEDS,
            reading="held_out",
        )
        for shape in latents
    )


_STRAIGHT = GaussianLatents(truth_bits=2)
_BENT = BentLatents(latents=_STRAIGHT, bend="half-cube")
_UNIFORM = UniformNoiseLatents(truth_bits=2)
_TAILS = StudentLatents(df=5, gaussian_bits=2)

EXPERIMENTS: Mapping[str, tuple[Experiment, ...]] = {
    "noisy_channel": _of_noisy_channel(),
    "gaussian": _of_gaussian(),
    "crossfit_nce": _of_trained(CrossfitNCE(n_steps=60, batch_size=64), 500, 32, _STRAIGHT, _BENT, _TAILS),
    "infonce_anchor": _of_trained(InfonceAnchor(n_steps=60, batch_size=64), 500, 32, _STRAIGHT, _BENT, _TAILS),
    "mine_paper": _of_trained(
        MinePaper(n_epochs=200, n_samples=750, learning_rate=2e-3, hidden_width=32),
        1_000,
        8,
        _STRAIGHT,
        _BENT,
        _UNIFORM,
    ),
}
"""By estimator. Trained critics are small and few of their steps are taken: what is tried is the standard error."""


def run_experiment(
    experiment: Experiment,
    *,
    first_seed: int = 0,
    start: Start,
    command: str | None = None,
    progress: Tell | None = None,
) -> CoverageResult:
    """Carry an experiment out, seed by seed on the processor. All but the seconds follows from `first_seed`.

    Args:
        start: see `bench.provenance`.
        command: that measures the same; None means `bench calibrate` for this estimator.
        progress: told before each seed.

    Raises:
        Refusal: the estimator has no answer for one of the samples.
    """
    started = time.perf_counter()
    truth = experiment.truth()
    trials = []
    for index in range(experiment.n_seeds):
        if progress is not None:
            progress(f"{experiment.case}, {experiment.estimator.name}: seed {index + 1} of {experiment.n_seeds}")
        trials.append(experiment.trial(first_seed + index, truth.value_nats))
    values, errors, targets = np.array(
        [(trial.reading.value_nats, trial.reading.standard_error_nats, trial.target_nats) for trial in trials]
    ).T
    seconds = time.perf_counter() - started
    return CoverageResult(
        schema_version=CALIBRATION_SCHEMA,
        key=experiment.key(first_seed),
        reading=experiment.reading,
        target=experiment.target,
        truth=Bits(value_bits=in_bits(truth.value_nats), error_bits=in_bits(truth.standard_error_nats)),
        values_bits=tuple(map(in_bits, values)),
        errors_bits=tuple(map(in_bits, errors)),
        targets_bits=tuple(map(in_bits, targets)),
        n_covered=n_covered(values, errors, targets),
        n_covered_mean=n_covered(values, errors, np.full(len(values), values.mean())),
        seconds=round(seconds, 1),
        provenance=provenance(start, command=command or experiment.command(first_seed), device="cpu", seconds=seconds),
    )


def n_covered(values: Floats, errors: Floats, targets: Floats) -> int:
    """How many 90 % intervals hold their target, shapes (n_seeds,)."""
    return int((np.abs(values - targets) <= Z_90 * errors).sum())
