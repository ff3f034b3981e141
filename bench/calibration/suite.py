"""What is calibrated: which estimator answers which problem, with how many samples.

A problem is a sampler with known information, built only when one of its results is missing: some need a mixture
integrated or a model loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from bench.calibration.activations import RealCodes
from bench.calibration.codes import HypercubeCodes, ListCodes, NoisyCodes, mixture_information
from bench.calibration.samplers import (
    BentLatents,
    DenseGaussian,
    GaussianLatents,
    LowRank,
    Population,
    Sampler,
    StudentLatents,
    UniformNoiseLatents,
)
from bench.calibration.tried import TRIED
from bench.controls import break_pairs
from bench.errors import UsageError
from bench.estimators import ESTIMATORS, Estimator, Pairs, pair_up
from bench.estimators.noisy_channel import HEADLINE_SCALE, label, normalise
from tasks.seeds import generator

Family = Literal["dense", "low rank", "transformed", "heavy tails", "uniform noise", "codes", "activations"]

BITS = (0.0, 0.5, 2.0, 5.0, 10.0)
WIDTHS = (64, 256, 768, 2048)
N_SAMPLES = 8_000
N_WIDE = 20_480
"""Samples at 2,048 dimensions: the ten a dimension that `gaussian` asks for."""

N_REAL = 2_000
"""Lists whose activations make a problem: few enough to integrate their mixture."""

REAL_SCALES = (0.08, 0.16, 0.32)
REAL_NOISES = REAL_SCALES[:2]
"""Of those, the noises in which estimators of samples meet the activations."""

SHORT_MINE = {"n_epochs": 300, "n_samples": 3_000, "learning_rate": 5e-4}
"""`mine_paper` cut to what a processor can do in half a minute: the recipe's own 10,000 epochs on 300,000 rows take
days (`--part cost`). A higher learning rate makes up for some of the epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One sampler, its size, and the estimators that are put to it.

    Attributes:
        name: of the sampler, known before it is built.
        weights_sha256: of the model whose activations it is made of.
    """

    name: str
    family: Family
    build: Callable[[], Sampler]
    n_samples: int
    estimators: tuple[Estimator, ...]
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """Another sampler with its pairs broken: the same rows, and nothing to find."""

    sampler: Sampler

    truth_nats: ClassVar[float] = 0.0
    truth_error_nats: ClassVar[float] = 0.0

    @property
    def name(self) -> str:
        """See `Sampler`."""
        return f"{self.sampler.name}-shuffled"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        return f"{self.sampler.description}; pairs broken"

    @property
    def population(self) -> Population:
        """See `Sampler`."""
        return self.sampler.population

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """See `Sampler`."""
        return break_pairs(self.sampler.draw(n_samples, rng), rng, is_sample=self.population == "sampled")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeCodes:
    """An enumerated population whose information through Gaussian noise is integrated apart from `noisy_channel`.

    Attributes:
        truth_nats: without noise.
        scales: where the noise is integrated.
    """

    name: str
    description: str
    pairs: Pairs
    truth_nats: float
    scales: tuple[float, ...]
    truth_at: Mapping[str, float] = field(init=False)
    truth_error_nats: float = field(init=False)

    population: ClassVar[Population] = "enumerated"

    def __post_init__(self) -> None:
        codes = normalise(self.pairs.outputs, self.pairs.weights)
        if codes is None:
            raise UsageError(f"{self.name}: all codes are equal")
        found = {
            label(scale): mixture_information(
                self.pairs.input_labels, codes.double(), scale, generator(0, "calibration", self.name, label(scale))
            )
            for scale in self.scales
        }
        derived = {
            "truth_at": {name: reading.value_nats for name, reading in found.items()},
            "truth_error_nats": max(reading.standard_error_nats for reading in found.values()),
        }
        for attribute, value in derived.items():
            object.__setattr__(self, attribute, value)  # frozen for everyone else

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """The whole population; neither argument is used."""
        return self.pairs


def problems(
    names: tuple[str, ...], *, is_quick: bool, real: Callable[[], RealCodes] | None, real_id: tuple[str, str] | None
) -> tuple[Problem, ...]:
    """The suite, or its quick form, for some estimators.

    Args:
        names: of the estimators.
        real: fetches the activations of a real model; None leaves them out.
        real_id: name and `files_sha256` of that model.
    """
    found = _quick() if is_quick else _full()
    if real is not None and real_id is not None:
        found = (*found, *_real(real, *real_id))
    kept = []
    for problem in found:
        estimators = tuple(estimator for estimator in problem.estimators if estimator.name in names)
        if estimators:
            kept.append(replace(problem, estimators=estimators))
    return tuple(kept)


def _quick() -> tuple[Problem, ...]:
    """A minute on two cores: every estimator on what it is for, on what it must refuse, and on nothing at all."""
    gaussian, crossfit = _make("gaussian"), _make("crossfit_nce", n_steps=100, n_samples=2_000)
    mine = _make("mine_paper", n_epochs=100, n_samples=1_000, learning_rate=2e-3)
    anchor = _make("infonce_anchor", n_steps=100, n_samples=2_000)
    low_rank = LowRank(latents=GaussianLatents(truth_bits=2), d_model=64)
    return (
        _problem("dense", DenseGaussian(d_model=64, truth_bits=2), 4_000, gaussian, crossfit),
        _problem("low rank", LowRank(latents=GaussianLatents(truth_bits=0), d_model=64), 4_000, gaussian, crossfit),
        _problem("low rank", low_rank, 4_000, gaussian, crossfit, anchor, mine),
        _problem("low rank", Shuffled(sampler=low_rank), 4_000, gaussian, crossfit, mine),
        _problem("codes", ListCodes(n_names=25, n_items=1, d_model=64), 25, *_on_codes(), gaussian, crossfit),
        _problem("codes", HypercubeCodes(k=8, d_model=64), 256, *_on_codes()),
    )


def _full() -> tuple[Problem, ...]:
    gaussian, crossfit, anchor = _make("gaussian"), _make("crossfit_nce"), _make("infonce_anchor")
    mine = _make("mine_paper", **SHORT_MINE)
    tried = tuple(make() for make in TRIED.values())
    learned, everything = (crossfit, anchor), (gaussian, crossfit, anchor, mine)
    found = []
    for d_model in WIDTHS:
        n_samples = N_WIDE if d_model > 768 else N_SAMPLES
        is_main = d_model == 256
        for bits in BITS:
            on_dense: tuple[Estimator, ...] = (gaussian, crossfit) if d_model <= 256 or bits == 5 else (gaussian,)
            on_dense = everything if is_main and bits == 5 else on_dense
            found.append(_problem("dense", DenseGaussian(d_model=d_model, truth_bits=bits), n_samples, *on_dense))
            on_low_rank = everything if is_main else (gaussian, crossfit)
            on_low_rank = (*on_low_rank, *tried) if is_main and bits >= 5 else on_low_rank
            found.append(_problem("low rank", _low_rank(bits, d_model), n_samples, *on_low_rank))
    for bend in ("half-cube", "spiral"):
        for d_model in (64, 256, 768):
            on_bent = everything if d_model == 256 else (gaussian, crossfit)
            found.append(_bent(bend, d_model, *on_bent))
    found.append(_bent("fast-spiral", 256, gaussian, *learned))
    for df in (3, 5):
        tails = LowRank(latents=StudentLatents(df=df, gaussian_bits=2), d_model=256)
        found.append(_problem("heavy tails", tails, N_SAMPLES, gaussian, *learned))
    for bits in (2.0, 5.0):
        uniform = LowRank(latents=UniformNoiseLatents(truth_bits=bits), d_model=256)
        found.append(_problem("uniform noise", uniform, N_SAMPLES, gaussian, *learned))
    found.append(_problem("low rank", Shuffled(sampler=_low_rank(5.0, 256)), N_SAMPLES, *everything))
    for n_names, n_items in ((25, 1), (16, 4), (25, 4)):
        codes = ListCodes(n_names=n_names, n_items=n_items, d_model=768)
        estimators = _on_codes() if (n_names, n_items) == (25, 4) else (*_on_codes(), gaussian, *learned)
        found.append(_problem("codes", codes, codes.n_lists, *estimators))
    found.append(_problem("codes", ListCodes(n_names=16, n_items=4, d_model=64), 43_680, mine))
    for d_model in (16, 32):  # of full rank, with more than ten codes a dimension: for `gaussian` to see through
        found.append(_problem("codes", ListCodes(n_names=16, n_items=4, d_model=d_model), 43_680, gaussian))
    broken = Shuffled(sampler=ListCodes(n_names=16, n_items=4, d_model=64))
    found.append(_problem("codes", broken, 1_024, *_on_codes()))
    found.append(_problem("codes", HypercubeCodes(k=12, d_model=768), 4_096, *_on_codes()))
    return tuple(found)


def _real(real: Callable[[], RealCodes], model: str, files_sha256: str) -> Iterator[Problem]:
    """Activations of a real model: whole, for the estimators of populations, and in noise, for those of samples."""
    gaussian, crossfit, anchor = _make("gaussian"), _make("crossfit_nce"), _make("infonce_anchor")
    mine = _make("mine_paper", **SHORT_MINE)
    for place in ("early", "middle"):
        codes_name = f"{model}-{place}-block"

        def whole(place: str = place, name: str = codes_name) -> WholeCodes:
            block = real().at(place)
            pairs = pair_up(block.inputs, block.outputs)
            return WholeCodes(
                name=name,
                description=f"states of block {block.index} of {model} after 4 names, {len(block.inputs):,} lists",
                pairs=pairs,
                truth_nats=float(np.log(len(block.inputs))),
                scales=REAL_SCALES,
            )

        yield Problem(
            name=codes_name,
            family="activations",
            build=whole,
            n_samples=N_REAL,
            estimators=_on_codes(),
            weights_sha256=files_sha256,
        )
        for scale in REAL_NOISES if place == "middle" else (HEADLINE_SCALE,):
            name = f"{codes_name}-noise-{scale:g}"

            def noisy(place: str = place, scale: float = scale, name: str = name) -> NoisyCodes:
                block = real().at(place)
                return NoisyCodes(name=name, inputs=block.inputs, outputs=block.outputs, scale=scale)

            yield Problem(
                name=name,
                family="activations",
                build=noisy,
                n_samples=N_SAMPLES,
                estimators=(gaussian, crossfit, anchor, mine) if place == "middle" else (gaussian, crossfit),
                weights_sha256=files_sha256,
            )


def _problem(family: Family, sampler: Sampler, n_samples: int, *estimators: Estimator) -> Problem:
    return Problem(name=sampler.name, family=family, build=lambda: sampler, n_samples=n_samples, estimators=estimators)


def _low_rank(bits: float, d_model: int) -> LowRank:
    return LowRank(latents=GaussianLatents(truth_bits=bits), d_model=d_model)


def _bent(bend: str, d_model: int, *estimators: Estimator) -> Problem:
    latents = BentLatents(latents=GaussianLatents(truth_bits=5), bend=bend)
    return _problem("transformed", LowRank(latents=latents, d_model=d_model), N_SAMPLES, *estimators)


def _make(name: str, **settings: float) -> Estimator:
    return ESTIMATORS[name](**settings)


def _on_codes() -> tuple[Estimator, ...]:
    return _make("exact"), _make("noisy_channel")
