"""The closed form against known truths, its invariances, a slow readable twin, and what it refuses."""

import math

import numpy as np
import pytest
import torch

from bench.controls import break_pairs
from bench.errors import Refusal
from bench.estimators import MutualInformation, Pairs, pair_up
from bench.estimators.gaussian import Gaussian, bias

BIT = math.log(2)

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""


def estimate(pairs: Pairs) -> MutualInformation:
    return Gaussian().estimate(pairs, np.random.default_rng(0))


def correlated(
    rng: np.random.Generator, n: int, d_input: int, d_output: int, correlation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal rows with equal canonical correlations in as many dimensions as both sides have."""
    x, y = rng.standard_normal((n, d_input)), rng.standard_normal((n, d_output))
    shared = min(d_input, d_output)
    y[:, :shared] = correlation * x[:, :shared] + math.sqrt(1 - correlation**2) * y[:, :shared]
    return x, y


def mixing(rng: np.random.Generator, d: int) -> np.ndarray:
    """A random matrix whose singular values lie between 1/3 and 3."""
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    return left * np.exp(rng.uniform(-math.log(3), math.log(3), d)) @ right


def pairs_of(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Pairs:
    return pair_up(torch.from_numpy(x), torch.from_numpy(y), weights)


def sample(n: int = 400, d: int = 6, correlation: float = 0.6, seed: int = 0) -> Pairs:
    return pairs_of(*correlated(np.random.default_rng(seed), n, d, d, correlation))


@pytest.mark.parametrize("bits", [0.0, 0.5, 2.0, 5.0, 10.0])
def test_dense_gaussians_at_256_and_256_dimensions_within_a_tenth_of_a_bit(bits: float) -> None:
    """The mean error of four samples, each of them within its own four standard errors.

    One sample has a standard error of 0.034 bits at 0 and 0.067 at 10, of which sqrt(sum rho^2 / n) = 0.059 is the
    Cramer-Rao bound, so a tenth of a bit is three standard errors of the mean of four at 10 bits, and six at 0.
    """
    rng = np.random.default_rng(1)
    correlation = math.sqrt(1 - math.exp(-2 * bits * BIT / 256))
    left, right = mixing(rng, 256), mixing(rng, 256)
    errors = []
    for _ in range(4):
        x, y = correlated(rng, 8000, 256, 256, correlation)
        found = estimate(pairs_of(x @ left, y @ right))
        errors.append(found.value_nats / BIT - bits)
        assert abs(errors[-1]) <= FOUR_SIGMA * found.standard_error_nats / BIT
    assert abs(np.mean(errors)) <= 0.10


@pytest.mark.parametrize(
    ("n", "d_input", "d_output", "correlation"),
    [(400, 8, 8, 0.0), (400, 4, 4, 0.9), (2000, 32, 32, 0.3), (80, 8, 3, 0.5)],
    ids=["independent", "correlated", "dense", "ten samples a dimension"],
)
def test_it_is_unbiased_and_ninety_percent_intervals_cover(
    n: int, d_input: int, d_output: int, correlation: float
) -> None:
    """Coverage over 1,000 samples: 0.94, 0.89, 0.92, 0.87 in this order; 400 samples show it to 0.015.

    Independent sides are covered too often: r^2 that chance leaves after its correction only adds to the error.
    """
    rng = np.random.default_rng(2)
    truth = -0.5 * min(d_input, d_output) * math.log1p(-(correlation**2))
    found = [estimate(pairs_of(*correlated(rng, n, d_input, d_output, correlation))) for _ in range(400)]
    errors = np.array([estimate.value_nats for estimate in found]) - truth
    stated = np.array([estimate.standard_error_nats for estimate in found])
    assert abs(errors.mean()) <= FOUR_SIGMA * errors.std(ddof=1) / math.sqrt(400)
    assert 0.85 <= np.mean(np.abs(errors) <= 1.645 * stated) <= 0.95


def test_the_bias_of_one_dimension_a_side_is_known_by_hand() -> None:
    """With n = 4 it is (2 psi(3/2) - psi(3/2) - psi(1)) / 2 = (psi(3/2) - psi(1)) / 2 = 1 - log 2."""
    assert bias(4, 1, 1) == pytest.approx(1 - math.log(2))
    assert bias(10**6, 20, 30) == pytest.approx(20 * 30 / (2 * 10**6), rel=1e-3)


def slow_twin(x: np.ndarray, y: np.ndarray) -> float:
    """Log-determinants of the correlation matrices as they are written, and the mean of log chi^2 summed over them."""
    n, p, q = len(x), x.shape[1], y.shape[1]

    def log_determinant(rows: np.ndarray) -> float:
        return float(np.linalg.slogdet(np.atleast_2d(np.corrcoef(rows, rowvar=False)))[1])

    def mean_log_chi_squared(freedom: int) -> float:
        return math.log(2) + float(torch.special.digamma(torch.tensor(freedom / 2, dtype=torch.float64)))

    plug_in = log_determinant(x) + log_determinant(y) - log_determinant(np.hstack([x, y]))
    too_much = sum(mean_log_chi_squared(n - i) for i in range(1, p + 1))
    too_much += sum(mean_log_chi_squared(n - i) for i in range(1, q + 1))
    too_much -= sum(mean_log_chi_squared(n - i) for i in range(1, p + q + 1))
    return (plug_in - too_much) / 2


@pytest.mark.parametrize(("d_input", "d_output"), [(1, 1), (5, 5), (2, 9), (9, 2)])
def test_it_agrees_with_the_slow_twin(d_input: int, d_output: int) -> None:
    """Both in float64 from the same float32 rows."""
    x, y = correlated(np.random.default_rng(3), 5000, d_input, d_output, 0.7)  # more rows than fit one chunk
    x, y = (rows.astype(np.float32).astype(np.float64) for rows in (x * 30 + 500, y))
    found = estimate(pairs_of(x, y))
    assert found.value_nats == pytest.approx(slow_twin(x, y), abs=1e-9)
    assert found.d_model == d_output


def test_linear_maps_and_the_order_of_samples_change_nothing() -> None:
    """Up to the rounding of the mapped rows to float32, 6e-8 of each."""
    rng = np.random.default_rng(4)
    x, y = correlated(rng, 600, 7, 4, 0.8)
    reference = estimate(pairs_of(x, y))
    order = rng.permutation(600)
    for variant in (
        (x @ mixing(rng, 7) + 3, y @ mixing(rng, 4) - 5),
        (x * np.geomspace(1e-3, 1e3, 7), y * -1e4),
        (x[order], y[order]),
        (y, x),
    ):
        found = estimate(pairs_of(*variant))
        assert found.value_nats == pytest.approx(reference.value_nats, abs=1e-5)


def test_the_standard_error_is_the_same_from_either_side() -> None:
    """Wilks' Lambda of (p, q) and of (q, p) have the same law."""
    x, y = correlated(np.random.default_rng(5), 300, 9, 4, 0.5)
    one, other = estimate(pairs_of(x, y)), estimate(pairs_of(y, x))
    assert one.standard_error_nats == pytest.approx(other.standard_error_nats, rel=1e-6)


def test_broken_pairs_carry_nothing_and_the_error_falls_with_the_sample() -> None:
    few, many = sample(200), sample(20_000)
    for seed in range(5):
        broken = estimate(break_pairs(few, np.random.default_rng(seed), is_sample=True))
        assert abs(broken.value_nats) <= FOUR_SIGMA * broken.standard_error_nats
    assert estimate(many).standard_error_nats < estimate(few).standard_error_nats / 8


def test_no_number_above_the_logarithm_of_the_sample_count_is_given() -> None:
    with pytest.raises(Refusal, match=r"bits is more than the log2\(n\) = 6.6 that 100 samples can vouch for"):
        estimate(sample(n=100, d=8, correlation=0.95))
    found = estimate(sample(n=400, d=4, correlation=0.9))
    assert found.direction == "none" and found.ceiling_nats == pytest.approx(math.log(400))
    assert set(found.readings) == set(Gaussian().labels) == {"gaussian"} and not Gaussian().settings


def test_a_deterministic_map_that_no_correlation_shows_is_refused_for_its_value() -> None:
    """y = sign(x) |x|^1.5 in 16 dimensions: correlations of 0.97, a closed form of more bits than samples can tell."""
    x = np.random.default_rng(0).standard_normal((8_000, 16))
    with pytest.raises(Refusal, match="Y looks like a function of X; use noisy_channel"):
        estimate(pairs_of(x, np.sign(x) * np.abs(x) ** 1.5))


def nearly_deterministic() -> Pairs:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((500, 8))
    return pairs_of(x, x @ mixing(rng, 8) + 1e-6 * rng.standard_normal((500, 8)))


def with_columns(rows: torch.Tensor, *columns: int, value: float) -> torch.Tensor:
    changed = rows.clone()
    changed[:, list(columns)] = value
    return changed


def refused_pairs() -> dict[str, tuple[Pairs, str]]:
    good = sample()
    repeated = torch.cat([torch.arange(400), torch.arange(3)])
    summed = torch.cat([good.outputs[:, :5], good.outputs[:, :5].sum(dim=1, keepdim=True)], dim=1)
    weights = np.full(400, 1 / 400)
    weights[:2] = [0.5 / 400, 1.5 / 400]
    constant = with_columns(good.inputs, 1, 4, value=3.7)
    return {
        "deterministic": (nearly_deterministic(), r"correlation of (1|0\.9999\d*) is above 0.999.*use noisy_channel"),
        "too few": (sample(n=59), "6 dimensions need at least 60 samples, got 59; .* fewer dimensions"),
        "one sample": (sample(n=1), "need at least 60 samples, got 1"),
        "constant": (pair_up(constant, good.outputs), "2 of 6 input columns are constant"),
        "all constant": (pair_up(good.inputs, torch.ones(400, 6)), "6 of 6 output columns are constant"),
        "repeats": (pair_up(good.inputs[repeated], good.outputs[repeated]), "got 3 repeats among 403"),
        "weights": (
            pair_up(good.inputs, good.outputs, weights),
            r"got weights from 0.00125 to 0.00375: .*use noisy_channel",
        ),
        "singular": (pair_up(good.inputs, summed), "1 of 6 directions of the output rows have no variance"),
    }


@pytest.mark.parametrize("case", refused_pairs())
def test_it_refuses_in_words_what_is_no_sample_of_a_gaussian(case: str) -> None:
    pairs, message = refused_pairs()[case]
    with pytest.raises(Refusal, match=message):
        estimate(pairs)


def test_an_input_may_occur_with_several_outputs() -> None:
    """Only a repeat of the whole pair betrays an enumerated population."""
    x, y = correlated(np.random.default_rng(7), 300, 2, 2, 0.5)
    x[1] = x[0]
    assert estimate(pairs_of(x, y)).n_samples == 300
