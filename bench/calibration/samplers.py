"""Pairs (x, y) in many dimensions whose mutual information is known in closed form.

Mutual information does not change under an injective map of either side, so a few latent coordinates with a known
value can be bent, mixed and embedded at will. After Czyz et al. 2023, "Beyond Normal: On the Evaluation of Mutual
Information Estimators" (arXiv 2306.11078), which has the Student t, the additive uniform noise, the half-cube and the
spiral; the embedding with a background in the orthogonal complement is ours.

Everything structural (mixing matrices, isometries) comes from the sampler's own `structure_seed`; the generator passed
to `draw` chooses only the samples, so two generators give two samples of one distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import EstimationError
from bench.estimators.protocol import Pairs, pair_up
from tasks.seeds import generator

Population = Literal["sampled", "enumerated"]
Side = Literal["x", "y"]

RANK = 8
"""Latent coordinates of each side unless told otherwise; other ranks are part of a sampler's name."""

BACKGROUND = 0.1
"""Standard deviation of the background in each direction that the latents leave free."""

SCALE_RANGE = (0.5, 2.0)
"""Singular values of a mixing matrix: its condition number is at most 4."""


class Sampler(Protocol):
    """A distribution of pairs whose mutual information is known."""

    @property
    def name(self) -> str:
        """A slug that never changes its meaning: `low-rank-gaussian-256d-5bit`."""
        ...

    @property
    def description(self) -> str:
        """What it is, on one line."""
        ...

    @property
    def truth_nats(self) -> float:
        """I(X; Y)."""
        ...

    @property
    def truth_error_nats(self) -> float:
        """The standard error of `truth_nats`; 0 for a closed form."""
        ...

    @property
    def population(self) -> Population:
        """Whether `draw` gives a sample to generalise from or the whole population."""
        ...

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """Draw pairs of float32 rows. An enumerated population ignores both arguments and comes whole."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseGaussian:
    """Jointly Gaussian x and y with `d_model` equal canonical correlations, each side mixed by a dense matrix."""

    d_model: int
    truth_bits: float
    structure_seed: int = 0

    population: ClassVar[Population] = "sampled"
    truth_error_nats: ClassVar[float] = 0.0  # a closed form

    def __post_init__(self) -> None:
        _check_bits(self.truth_bits)

    @property
    def name(self) -> str:
        """See `Sampler`."""
        return f"dense-gaussian-{self.d_model}d-{self.truth_bits:g}bit{structure_suffix(self.structure_seed)}"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        return f"Gaussian, {self.truth_bits:g} bits spread equally over {self.d_model} canonical correlations"

    @property
    def correlation(self) -> float:
        """Each canonical correlation."""
        return equal_correlation(self.truth_bits * math.log(2), self.d_model)

    @property
    def truth_nats(self) -> float:
        """See `Sampler`."""
        return truth_of_canonical([self.correlation] * self.d_model)

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """See `Sampler`. The mixing matrices are made once a process: seconds at 2,048 dimensions."""
        x = rng.standard_normal((n_samples, self.d_model), dtype=np.float32)
        y = rng.standard_normal((n_samples, self.d_model), dtype=np.float32)
        y *= math.sqrt(1 - self.correlation**2)
        y += self.correlation * x
        x = x @ mixing(self.d_model, self.structure_seed, "x")
        y = y @ mixing(self.d_model, self.structure_seed, "y")
        return pair_up(torch.from_numpy(x), torch.from_numpy(y))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentPairs:
    """Latent coordinates of both sides, each of shape (n_samples, rank), float64, row i of x with row i of y."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


class Latents(Protocol):
    """A distribution of few coordinates a side, of about unit variance, that carries all the information."""

    @property
    def rank(self) -> int:
        """Coordinates of each side."""
        ...

    @property
    def kind(self) -> str:
        """The family, as it stands in the sampler's name: `gaussian-spiral`."""
        ...

    @property
    def amount(self) -> str:
        """How much information, as it stands in the sampler's name: `5bit`."""
        ...

    @property
    def truth_nats(self) -> float:
        """I(X; Y), exact."""
        ...

    def draw(self, n_samples: int, rng: np.random.Generator) -> LatentPairs:
        """Draw the coordinates."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Latent coordinates embedded in `d_model` dimensions of each side, with an independent Gaussian background.

    Each side has its own random isometry. The background lives only in the orthogonal complement of its image and is
    independent of everything, so the truth is exactly that of the latents.
    """

    latents: Latents
    d_model: int
    structure_seed: int = 0

    population: ClassVar[Population] = "sampled"
    truth_error_nats: ClassVar[float] = 0.0  # a closed form

    def __post_init__(self) -> None:
        if self.d_model < self.latents.rank:
            raise EstimationError(
                f"{self.latents.rank} latent coordinates need as many dimensions, got d_model={self.d_model}"
            )

    @property
    def name(self) -> str:
        """See `Sampler`."""
        rank = "" if self.latents.rank == RANK else f"-rank{self.latents.rank}"
        structure = structure_suffix(self.structure_seed)
        return f"low-rank-{self.latents.kind}-{self.d_model}d-{self.latents.amount}{rank}{structure}"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        bits = self.truth_nats / math.log(2)
        return (
            f"{self.latents.kind} latents of rank {self.latents.rank} with {bits:.4g} bits "
            f"in {self.d_model} dimensions, background {BACKGROUND:g}"
        )

    @property
    def truth_nats(self) -> float:
        """See `Sampler`."""
        return self.latents.truth_nats

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """See `Sampler`."""
        latents = self.latents.draw(n_samples, rng)
        return pair_up(self._embed(latents.x, "x", rng), self._embed(latents.y, "y", rng))

    def _embed(self, latents: npt.NDArray[np.float64], side: Side, rng: np.random.Generator) -> torch.Tensor:
        basis = isometry(self.latents.rank, self.d_model, self.structure_seed, side)  # (rank, d_model)
        rows = rng.standard_normal((len(latents), self.d_model), dtype=np.float32)
        rows *= BACKGROUND
        rows -= (rows @ basis.T) @ basis
        rows += latents.astype(np.float32) @ basis
        return torch.from_numpy(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianLatents:
    """Standard normal coordinates, each of x correlated with its partner in y, all equally."""

    truth_bits: float
    rank: int = RANK

    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        _check_bits(self.truth_bits)

    @property
    def amount(self) -> str:
        """See `Latents`."""
        return f"{self.truth_bits:g}bit"

    @property
    def correlation(self) -> float:
        """Each canonical correlation."""
        return equal_correlation(self.truth_bits * math.log(2), self.rank)

    @property
    def truth_nats(self) -> float:
        """See `Latents`."""
        return truth_of_canonical([self.correlation] * self.rank)

    def draw(self, n_samples: int, rng: np.random.Generator) -> LatentPairs:
        """See `Latents`."""
        x, noise = rng.standard_normal((2, n_samples, self.rank))
        return LatentPairs(x=x, y=self.correlation * x + math.sqrt(1 - self.correlation**2) * noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class BentLatents:
    """Other latents with each side under an injective map, one of `BENDS`: the same information, told differently."""

    latents: Latents
    bend: str

    def __post_init__(self) -> None:
        if self.bend not in BENDS:
            raise EstimationError(f"expected a bend out of {', '.join(BENDS)}, got {self.bend!r}")

    @property
    def rank(self) -> int:
        """See `Latents`."""
        return self.latents.rank

    @property
    def kind(self) -> str:
        """See `Latents`."""
        return f"{self.latents.kind}-{self.bend}"

    @property
    def amount(self) -> str:
        """See `Latents`."""
        return self.latents.amount

    @property
    def truth_nats(self) -> float:
        """That of the latents."""
        return self.latents.truth_nats

    def draw(self, n_samples: int, rng: np.random.Generator) -> LatentPairs:
        """See `Latents`."""
        return BENDS[self.bend](self.latents.draw(n_samples, rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentLatents:
    """x and y jointly multivariate Student t: correlated Gaussians divided by one common random scale.

    Attributes:
        df: degrees of freedom; the variance of a coordinate is df / (df - 2).
        gaussian_bits: I(X; Y) of the Gaussians. The common scale adds `student_excess_nats` to it, so that x and y
            are dependent even when they are uncorrelated.
        rank: coordinates of each side.
    """

    df: int
    gaussian_bits: float
    rank: int = RANK

    def __post_init__(self) -> None:
        _check_bits(self.gaussian_bits)
        if self.df < 3:
            raise EstimationError(f"a finite variance needs at least 3 degrees of freedom, got {self.df}")

    @property
    def kind(self) -> str:
        """See `Latents`."""
        return f"student{self.df}df"

    @property
    def amount(self) -> str:
        """See `Latents`: the Gaussian part, and the word that it is not all."""
        return f"{self.gaussian_bits:g}bit-and-tails"

    @property
    def correlation(self) -> float:
        """Each canonical correlation."""
        return equal_correlation(self.gaussian_bits * math.log(2), self.rank)

    @property
    def truth_nats(self) -> float:
        """See `Latents`."""
        return truth_of_canonical([self.correlation] * self.rank) + student_excess_nats(self.rank, self.df)

    def draw(self, n_samples: int, rng: np.random.Generator) -> LatentPairs:
        """See `Latents`."""
        normal = GaussianLatents(truth_bits=self.gaussian_bits, rank=self.rank).draw(n_samples, rng)
        scale = np.sqrt(self.df / rng.chisquare(self.df, size=(n_samples, 1)))
        return LatentPairs(x=scale * normal.x, y=scale * normal.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformNoiseLatents:
    """y = x + e u in each coordinate, with x uniform on [0, 1] and u on [-1, 1]; both then brought to unit variance."""

    truth_bits: float
    rank: int = RANK

    kind: ClassVar[str] = "uniform-noise"

    def __post_init__(self) -> None:
        _check_bits(self.truth_bits)
        if self.truth_bits == 0:
            raise EstimationError("uniform noise of finite width leaves some information, got truth_bits=0; take 0.5")

    @property
    def amount(self) -> str:
        """See `Latents`."""
        return f"{self.truth_bits:g}bit"

    @property
    def half_width(self) -> float:
        """The e of the class."""
        return uniform_half_width(self.truth_bits * math.log(2) / self.rank)

    @property
    def truth_nats(self) -> float:
        """See `Latents`."""
        return self.rank * uniform_noise_information(self.half_width)

    def draw(self, n_samples: int, rng: np.random.Generator) -> LatentPairs:
        """See `Latents`."""
        x = rng.random((n_samples, self.rank)) - 0.5
        y = x + self.half_width * rng.uniform(-1.0, 1.0, size=x.shape)
        return LatentPairs(x=x / math.sqrt(1 / 12), y=y / math.sqrt(1 / 12 + self.half_width**2 / 3))


def truth_of_canonical(rhos: Sequence[float]) -> float:
    """I(X; Y) in nats of jointly Gaussian X and Y with these canonical correlations: -1/2 sum log(1 - rho^2)."""
    return 0.5 * math.fsum(-math.log1p(-(rho**2)) for rho in rhos)


def equal_correlation(nats: float, rank: int) -> float:
    """The canonical correlation that `rank` equal ones need to carry `nats` together."""
    return math.sqrt(-math.expm1(-2 * nats / rank))


def half_cube(latents: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply z -> sign(z) |z|^1.5 to each coordinate: monotone, with heavier tails."""
    return np.sign(latents) * np.abs(latents) ** 1.5


def spiral(latents: npt.NDArray[np.float64], speed: float) -> npt.NDArray[np.float64]:
    """Turn the coordinate pairs (0, 1), (2, 3), ... of each row by `speed` radians per unit of the norm of the row.

    The norm is kept, so turning back undoes it: injective, with unit Jacobian. Standard normal rows stay standard
    normal; only their dependence on others stops being linear. A correlation shrinks by about exp(-speed^2 / 4), since
    the norm has a standard deviation near 1 / sqrt(2).
    """
    if (rank := latents.shape[1]) % 2:
        raise EstimationError(f"a spiral turns pairs of coordinates, got rank {rank}; take an even one")
    angle = speed * np.linalg.norm(latents, axis=1, keepdims=True)  # (n_samples, 1)
    first, second = latents[:, 0::2], latents[:, 1::2]  # (n_samples, rank / 2)
    turned = np.empty_like(latents)
    turned[:, 0::2] = np.cos(angle) * first - np.sin(angle) * second
    turned[:, 1::2] = np.sin(angle) * first + np.cos(angle) * second
    return turned


BENDS: dict[str, Callable[[LatentPairs], LatentPairs]] = {
    "half-cube": lambda pairs: LatentPairs(x=half_cube(pairs.x), y=half_cube(pairs.y)),
    "spiral": lambda pairs: LatentPairs(x=spiral(pairs.x, 1.0), y=pairs.y),
    "fast-spiral": lambda pairs: LatentPairs(x=spiral(pairs.x, 3.0), y=pairs.y),
}
"""Injective maps of latents by name. Of 5 bits that Gaussian latents of rank 8 carry, the linear correlations that are
left after the bend would carry 4.7, 2.5 and 0.04."""


def student_excess_nats(rank: int, df: float) -> float:
    """What a common Student scale adds to the information of two correlated Gaussians of `rank` coordinates each.

    It does not depend on the correlations. From h(X) + h(Y) - h(X, Y) with the differential entropy of a Student t
    in d dimensions, 1/2 log|S| + log(G(a) / G(b)) + b (psi(b) - psi(a)) + d/2 log(pi df), a = df / 2 and
    b = (df + d) / 2; the terms in S give the Gaussian part and those in pi cancel.

    Source: Arellano-Valle et al. 2013, "Shannon entropy and mutual information for multivariate skew-elliptical
    distributions"; Czyz et al. 2023, appendix.
    """

    def entropy(dimensions: int) -> float:
        low, high = df / 2, (df + dimensions) / 2
        return math.lgamma(low) - math.lgamma(high) + high * (_digamma(high) - _digamma(low))

    return 2 * entropy(rank) - entropy(2 * rank)


def uniform_noise_information(half_width: float) -> float:
    """I(X; X + e U) in nats for X uniform on [0, 1], U on [-1, 1] and e = `half_width`.

    The sum of two independent uniforms of widths a >= b has a trapezoidal density with entropy log a + b / (2 a), and
    h(Y | X) = log 2e. With e <= 1/2 (a = 1, b = 2e) that leaves e - log 2e, otherwise (a = 2e, b = 1) 1 / (4e).
    """
    return half_width - math.log(2 * half_width) if half_width <= 0.5 else 1 / (4 * half_width)


def uniform_half_width(nats: float) -> float:
    """The e at which `uniform_noise_information` is `nats` (> 0): in closed form or by bisection."""
    if nats <= 0.5:
        return 1 / (4 * nats)
    low, high = math.exp(-nats) / 2, 0.5  # the information is nats + low at `low`, and falls with e
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if uniform_noise_information(middle) > nats else (low, middle)
    return low


def isometry(rank: int, d_model: int, structure_seed: int, side: Side) -> npt.NDArray[np.float32]:
    """Orthonormal rows in a random position, shape (rank, d_model)."""
    rng = generator(structure_seed, "calibration", "isometry", side, rank, d_model)
    basis = np.linalg.qr(rng.standard_normal((d_model, rank)))[0].T
    return np.ascontiguousarray(basis, dtype=np.float32)


@lru_cache(maxsize=16)  # both sides of the widths in use; 17 MB each at 2,048 dimensions
def mixing(d_model: int, structure_seed: int, side: Side) -> npt.NDArray[np.float32]:
    """A rotation, a scaling of each coordinate within `SCALE_RANGE`, another rotation: shape (d_model, d_model)."""
    rng = generator(structure_seed, "calibration", "mixing", side, d_model)
    first, second = (np.linalg.qr(rng.standard_normal((d_model, d_model)))[0] for _ in range(2))
    low, high = SCALE_RANGE
    scales = np.exp(rng.uniform(math.log(low), math.log(high), size=d_model))
    matrix: npt.NDArray[np.float32] = ((first * scales) @ second).astype(np.float32)
    matrix.setflags(write=False)  # shared by every caller
    return matrix


def _digamma(value: float) -> float:
    return float(torch.special.digamma(torch.tensor(value, dtype=torch.float64)))


def structure_suffix(structure_seed: int) -> str:
    """The part of a name that tells one structure from another; none for the first."""
    return "" if structure_seed == 0 else f"-structure{structure_seed}"


def _check_bits(bits: float) -> None:
    if not 0 <= bits < math.inf:
        raise EstimationError(f"expected a finite mutual information of at least 0 bits, got {bits}")
