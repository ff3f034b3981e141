"""Each closed-form truth against the log-density ratio of draws in few dimensions, and what may not change it."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.calibration.samplers import (
    BACKGROUND,
    BENDS,
    BentLatents,
    DenseGaussian,
    GaussianLatents,
    LatentPairs,
    Latents,
    LowRank,
    Sampler,
    StudentLatents,
    UniformNoiseLatents,
    equal_correlation,
    half_cube,
    isometry,
    mixing,
    spiral,
    student_excess_nats,
    truth_of_canonical,
    uniform_half_width,
    uniform_noise_information,
)
from bench.errors import EstimationError

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""

BIT = math.log(2)
ALL_BITS = (0.0, 0.5, 2.0, 5.0, 10.0)


def all_latents(bits: float, rank: int = 8) -> list[Latents]:
    gaussian = GaussianLatents(truth_bits=bits, rank=rank)
    uniform = [UniformNoiseLatents(truth_bits=bits, rank=rank)] if bits else []
    return [
        gaussian,
        *(BentLatents(latents=gaussian, bend=bend) for bend in BENDS),
        *(StudentLatents(df=df, gaussian_bits=bits, rank=rank) for df in (3, 5)),
        *uniform,
    ]


SAMPLERS: list[Sampler] = [
    DenseGaussian(d_model=12, truth_bits=2),
    *(LowRank(latents=latents, d_model=24) for latents in all_latents(2)),
]


def plug_in_information(x: np.ndarray, y: np.ndarray) -> float:
    """The Gaussian formula on the sample covariance, in nats."""
    covariance = np.cov(np.hstack([x, y]).astype(np.float64).T)
    d = x.shape[1]
    volumes = [np.linalg.slogdet(block)[1] for block in (covariance[:d, :d], covariance[d:, d:], covariance)]
    return float(volumes[0] + volumes[1] - volumes[2]) / 2


def plug_in_tolerance(truth_nats: float, d: int, n: int) -> float:
    """Bias d^2 / 2n (degrees of freedom) plus four standard deviations sqrt(sum of rho^2 / n), to leading order."""
    return d**2 / (2 * n) + FOUR_SIGMA * math.sqrt(d * equal_correlation(truth_nats, d) ** 2 / n)


def mean_agrees(ratios: np.ndarray, truth: float) -> None:
    error = ratios.std(ddof=1) / math.sqrt(len(ratios))
    assert abs(ratios.mean() - truth) <= FOUR_SIGMA * error + 1e-12


def log_normal(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    quadratic = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(covariance), rows)
    return -(quadratic + np.linalg.slogdet(2 * math.pi * covariance)[1]) / 2


def log_student(rows: np.ndarray, scatter: np.ndarray, df: float) -> np.ndarray:
    d = len(scatter)
    quadratic = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(scatter), rows)
    constant = math.lgamma((df + d) / 2) - math.lgamma(df / 2) - d / 2 * math.log(math.pi * df)
    return constant - np.linalg.slogdet(scatter)[1] / 2 - (df + d) / 2 * np.log1p(quadratic / df)


def log_ratios(
    pairs: LatentPairs, rho: float, log_density: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """log p(x, y) - log p(x) - log p(y) at each pair, every coordinate of x correlated with its partner by rho."""
    one = np.eye(pairs.x.shape[1])
    joint = np.block([[one, rho * one], [rho * one, one]])
    both = np.hstack([pairs.x, pairs.y])
    return log_density(both, joint) - log_density(pairs.x, one) - log_density(pairs.y, one)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("rank", [1, 2])
def test_gaussian_truth_is_the_mean_log_density_ratio(rank: int, bits: float) -> None:
    latents = GaussianLatents(truth_bits=bits, rank=rank)
    assert latents.truth_nats == pytest.approx(bits * BIT, rel=1e-9, abs=0)  # rounding of 1 - rho^2 near rho = 1
    draws = latents.draw(100_000, np.random.default_rng(1))
    mean_agrees(log_ratios(draws, latents.correlation, log_normal), latents.truth_nats)


@pytest.mark.parametrize("bits", [0.0, 2.0])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("df", [3, 5])
def test_student_truth_is_the_mean_log_density_ratio(df: int, rank: int, bits: float) -> None:
    latents = StudentLatents(df=df, gaussian_bits=bits, rank=rank)
    draws = latents.draw(200_000, np.random.default_rng(2))
    ratios = log_ratios(draws, latents.correlation, lambda rows, scatter: log_student(rows, scatter, df))
    mean_agrees(ratios, latents.truth_nats)
    assert latents.truth_nats > bits * BIT  # dependent even without correlation


def test_student_excess_vanishes_with_its_tails() -> None:
    """It falls as (rank / df)^2: the squared norms of x and y share a relative variance of 2 / df.

    As Gaussian variables of variance 2 rank that share 2 rank^2 / df, they have correlation rank / df and information
    (rank / df)^2 / 2; the next order is rank / df = 1 % of it.
    """
    excesses = [student_excess_nats(8, df) for df in (3, 5, 10, 100, 800)]
    assert excesses == sorted(excesses, reverse=True)
    assert excesses[-1] == pytest.approx((8 / 800) ** 2 / 2, rel=0.05)


def trapezoid_information(half_width: float) -> float:
    """h(X + e U) - log 2e with the density of the sum by its overlap integral, on midpoints."""
    edges = np.linspace(-half_width, 1 + half_width, 400_001)
    y, step = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    density = (np.minimum(y + half_width, 1) - np.maximum(y - half_width, 0)) / (2 * half_width)
    assert step * density.sum() == pytest.approx(1, abs=1e-9)
    return float(-step * np.sum(density * np.log(density))) - math.log(2 * half_width)


@pytest.mark.parametrize("half_width", [0.01, 0.2, 0.499, 0.5, 0.501, 1.0, 30.0])
def test_uniform_noise_against_quadrature(half_width: float) -> None:
    """Midpoint rule with a step of at most 2e-4 on a density with kinks and p log p at the ends: 1e-7 to spare."""
    assert uniform_noise_information(half_width) == pytest.approx(trapezoid_information(half_width), abs=1e-7)


@pytest.mark.parametrize("nats", [0.01, 0.49, 0.5, 0.51, 3.0, 10.0])
def test_uniform_noise_is_as_wide_as_its_information_asks(nats: float) -> None:
    """Bisection runs to the last bit of e, and dI = de / e relative, so rounding alone is left."""
    assert uniform_noise_information(uniform_half_width(nats)) == pytest.approx(nats, abs=1e-12)


@pytest.mark.parametrize("bits", [0.5, 10.0])  # noise wider than the signal, and narrower
def test_uniform_latents_are_uniform_noise_on_uniform_x(bits: float) -> None:
    latents = UniformNoiseLatents(truth_bits=bits, rank=4)
    assert latents.truth_nats == pytest.approx(bits * BIT, abs=1e-11)
    draws = latents.draw(50_000, np.random.default_rng(3))
    x = draws.x * math.sqrt(1 / 12) + 0.5
    y = draws.y * math.sqrt(1 / 12 + latents.half_width**2 / 3) + 0.5
    u = (y - x) / latents.half_width
    assert x.min() >= -1e-12 and x.max() <= 1 + 1e-12 and np.abs(u).max() <= 1 + 1e-9
    for values in (
        x,
        (u + 1) / 2,
    ):  # the Kolmogorov-Smirnov distance of 200,000 draws passes 2.2 / sqrt(n) in 1 of 8,000
        order = np.sort(values.ravel())
        assert np.abs(order - (np.arange(len(order)) + 0.5) / len(order)).max() < 2.2 / math.sqrt(len(order))
    assert abs(np.corrcoef(x.ravel(), u.ravel())[0, 1]) < FOUR_SIGMA / math.sqrt(x.size)
    assert np.abs([draws.x.std() - 1, draws.y.std() - 1]).max() < 0.01  # a uniform has sd(sd) = 0.45 / sqrt(200,000)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_gaussian_samplers_against_the_sample_covariance(bits: float) -> None:
    for sampler in (
        DenseGaussian(d_model=8, truth_bits=bits),
        LowRank(latents=GaussianLatents(truth_bits=bits), d_model=8),
    ):
        assert sampler.truth_nats == pytest.approx(bits * BIT, abs=1e-9)
        pairs = sampler.draw(20_000, np.random.default_rng(4))
        found = plug_in_information(pairs.inputs.numpy(), pairs.outputs.numpy())
        assert abs(found - sampler.truth_nats) <= plug_in_tolerance(sampler.truth_nats, 8, 20_000)


def test_dense_mixing_is_dense_well_conditioned_and_not_the_same_on_both_sides() -> None:
    x, y = mixing(64, 0, "x"), mixing(64, 0, "y")
    for matrix in (x, y):
        singular = np.linalg.svd(matrix, compute_uv=False)
        assert 0.499 < singular.min() and singular.max() < 2.001  # the stated range, and float32
        assert np.mean(np.abs(matrix) > 1e-3) > 0.95
    assert not np.allclose(x, y, atol=0.1)


def test_the_background_is_orthogonal_independent_and_a_tenth() -> None:
    """What is left of each side off its latents carries the background, and knows nothing of either latent side."""
    sampler = LowRank(latents=GaussianLatents(truth_bits=10), d_model=16)
    n = 20_000
    pairs = sampler.draw(n, np.random.default_rng(5))
    latents, backgrounds = [], []
    for rows, side in ((pairs.inputs.numpy(), "x"), (pairs.outputs.numpy(), "y")):
        basis = isometry(8, 16, 0, side)
        assert basis @ basis.T == pytest.approx(np.eye(8), abs=1e-6)  # float32
        rest = np.linalg.svd(basis, full_matrices=True)[2][8:]  # (8, 16), the orthogonal complement
        latents.append(rows @ basis.T)
        backgrounds.append(rows @ rest.T / BACKGROUND)
        covariance = np.cov(backgrounds[-1].T)
        assert np.abs(covariance - np.eye(8)).max() < 5 * math.sqrt(2 / n)  # 36 entries of deviation at most sqrt(2/n)
    assert abs(plug_in_information(*latents) - 10 * BIT) <= plug_in_tolerance(10 * BIT, 8, n)
    for one, other in ((backgrounds[0], backgrounds[1]), (backgrounds[0], np.hstack(latents))):
        cross = np.corrcoef(one.T, other.T)[:8, 8:]
        assert np.abs(cross).max() < 5 / math.sqrt(n)  # 128 entries of deviation 1/sqrt(n)


def test_latents_come_back_from_the_embedding() -> None:
    sampler = LowRank(latents=GaussianLatents(truth_bits=2), d_model=300)
    pairs = sampler.draw(50, np.random.default_rng(6))
    latents = sampler.latents.draw(50, np.random.default_rng(6))  # drawn before the background
    assert pairs.inputs.numpy() @ isometry(8, 300, 0, "x").T == pytest.approx(latents.x, abs=1e-5)
    assert pairs.outputs.numpy() @ isometry(8, 300, 0, "y").T == pytest.approx(latents.y, abs=1e-5)


def test_the_bends_can_be_undone() -> None:
    z = np.random.default_rng(7).standard_normal((1000, 8))
    bent = half_cube(z)
    assert np.sign(bent) * np.abs(bent) ** (2 / 3) == pytest.approx(z, abs=1e-12)
    for speed in (1.0, 3.0):
        turned = spiral(z, speed)
        assert np.linalg.norm(turned, axis=1) == pytest.approx(np.linalg.norm(z, axis=1), abs=1e-12)
        assert np.abs(turned - z).max() > 1
        assert spiral(turned, -speed) == pytest.approx(z, abs=1e-12)


def test_a_spiral_has_unit_jacobian_and_keeps_a_standard_normal() -> None:
    point, step = np.random.default_rng(8).standard_normal(4), 1e-6
    shifts = np.vstack([np.eye(4), -np.eye(4)]) * step
    moved = spiral(point + shifts, 3.0)
    jacobian = (moved[:4] - moved[4:]) / (2 * step)
    assert abs(np.linalg.det(jacobian)) == pytest.approx(1, abs=1e-6)  # central differences: step^2 and 1e-16 / step
    turned = spiral(np.random.default_rng(9).standard_normal((50_000, 4)), 3.0)
    assert np.abs(np.cov(turned.T) - np.eye(4)).max() < 5 * math.sqrt(2 / 50_000)


@pytest.mark.parametrize(("bend", "left_bits"), [("half-cube", 4.7), ("spiral", 2.5), ("fast-spiral", 0.04)])
def test_a_bend_hides_information_from_the_covariance_only(bend: str, left_bits: float) -> None:
    latents = BentLatents(latents=GaussianLatents(truth_bits=5), bend=bend)
    assert latents.truth_nats == pytest.approx(5 * BIT)
    draws = latents.draw(100_000, np.random.default_rng(10))
    assert plug_in_information(draws.x, draws.y) / BIT == pytest.approx(left_bits, abs=0.06)  # rounding + 4 deviations


def test_an_odd_rank_does_not_spiral() -> None:
    latents = BentLatents(latents=GaussianLatents(truth_bits=1, rank=3), bend="spiral")
    with pytest.raises(EstimationError, match="a spiral turns pairs of coordinates, got rank 3; take an even one"):
        latents.draw(10, np.random.default_rng(0))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_one_seed_one_sample_another_seed_another(sampler: Sampler) -> None:
    one, same, other = (sampler.draw(500, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.inputs.numpy().tobytes() == same.inputs.numpy().tobytes()
    assert one.outputs.numpy().tobytes() == same.outputs.numpy().tobytes()
    assert not (one.inputs == other.inputs).any() and not (one.outputs == other.outputs).any()
    assert one.inputs.dtype == one.outputs.dtype == other.inputs.dtype
    assert str(one.inputs.dtype) == "torch.float32" and one.n_samples == 500


@pytest.mark.parametrize("latents", all_latents(2), ids=lambda latents: latents.kind)
def test_another_seed_draws_other_latents_not_only_another_background(latents: Latents) -> None:
    one, same, other = (latents.draw(500, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one.x, same.x) and np.array_equal(one.y, same.y)
    assert not (one.x == other.x).any() and not (one.y == other.y).any()


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=lambda sampler: sampler.name)
def test_samples_of_two_seeds_have_one_structure(sampler: Sampler) -> None:
    """Their cross-covariances agree; those of two structures do not."""
    n = 20_000

    def cross_covariance(sampler: Sampler, seed: int) -> np.ndarray:
        pairs = sampler.draw(n, np.random.default_rng(seed))
        return pairs.inputs.numpy().T @ pairs.outputs.numpy() / n

    other = (
        DenseGaussian(d_model=12, truth_bits=2, structure_seed=1)
        if isinstance(sampler, DenseGaussian)
        else LowRank(latents=GaussianLatents(truth_bits=2), d_model=24, structure_seed=1)
    )
    one, two, elsewhere = cross_covariance(sampler, 0), cross_covariance(sampler, 1), cross_covariance(other, 0)
    sampling_error = (
        math.sqrt(2 / n) * 4 * 2
    )  # of a difference of products, of variances up to 4, times two for E[x^2 y^2]
    assert np.abs(one - two).max() < 5 * sampling_error
    assert np.linalg.norm(one - elsewhere) > 5 * np.linalg.norm(one - two)
    assert other.name == sampler.name + "-structure1"


def test_names_are_unique_and_stable() -> None:
    samplers: list[Sampler] = [DenseGaussian(d_model=d, truth_bits=bits) for d in (64, 256) for bits in ALL_BITS]
    for bits in ALL_BITS:
        for rank in (4, 8):
            samplers += [LowRank(latents=latents, d_model=256) for latents in all_latents(bits, rank)]
    names = [sampler.name for sampler in samplers]
    assert len(set(names)) == len(names)
    assert {
        "dense-gaussian-64d-0.5bit",
        "low-rank-gaussian-256d-5bit",
        "low-rank-gaussian-fast-spiral-256d-10bit",
        "low-rank-student3df-256d-0bit-and-tails",
        "low-rank-uniform-noise-256d-2bit-rank4",
    } <= set(names)
    assert all(sampler.description and "\n" not in sampler.description for sampler in samplers)
    assert {sampler.truth_error_nats for sampler in samplers} == {0.0}
    assert {sampler.population for sampler in samplers} == {"sampled"}


def test_canonical_correlations_by_hand() -> None:
    assert truth_of_canonical([]) == 0
    assert truth_of_canonical([0.0, 0.0]) == 0
    assert truth_of_canonical([0.6, 0.8]) == pytest.approx(-math.log(0.8) - math.log(0.6))
    assert equal_correlation(-math.log(0.8) * 3, 3) == pytest.approx(0.6)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(EstimationError, match="8 latent coordinates need as many dimensions, got d_model=4"):
        LowRank(latents=GaussianLatents(truth_bits=1), d_model=4)
    with pytest.raises(EstimationError, match="at least 0 bits, got -1"):
        DenseGaussian(d_model=4, truth_bits=-1)
    with pytest.raises(EstimationError, match="leaves some information, got truth_bits=0"):
        UniformNoiseLatents(truth_bits=0)
    with pytest.raises(EstimationError, match="at least 3 degrees of freedom, got 2"):
        StudentLatents(df=2, gaussian_bits=1)
    with pytest.raises(EstimationError, match="out of half-cube, spiral, fast-spiral, got 'knot'"):
        BentLatents(latents=GaussianLatents(truth_bits=1), bend="knot")
