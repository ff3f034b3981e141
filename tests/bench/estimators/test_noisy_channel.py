"""The noisy channel against quadrature, a slow readable twin, and its invariances."""

import math

import numpy as np
import pytest
import torch

from bench.errors import EstimationError
from bench.estimators import MutualInformation, pair_up
from bench.estimators.noisy_channel import HEADLINE_SCALE, SCALES, NoisyChannel, normalise, stratified_draws

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""


def estimate(
    rows: torch.Tensor, weights: np.ndarray | None = None, seed: int = 0, **settings: object
) -> MutualInformation:
    channel = NoisyChannel(**settings)  # type: ignore[arg-type]
    return channel.estimate(pair_up(rows, rows, weights), np.random.default_rng(seed))


def codes(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


def agree(one: MutualInformation, other: MutualInformation) -> None:
    for label in one.readings:
        a, b = one.readings[label], other.readings[label]
        error = math.hypot(a.standard_error_nats, b.standard_error_nats)
        assert abs(a.value_nats - b.value_nats) <= FOUR_SIGMA * error + 1e-4, label


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_two_codes_are_the_binary_input_gaussian_channel(scale: float) -> None:
    """I = log 2 - E log(1 + exp(-2 (1 + s g) / s^2)), by the trapezoidal rule over twelve standard deviations."""
    nodes = np.linspace(-12, 12, 100_001)
    weights = np.exp(-np.square(nodes) / 2)
    weights = weights / weights.sum()
    truth = math.log(2) - float(weights @ np.logaddexp(0, -2 * (1 + scale * nodes) / scale**2))
    found = estimate(torch.tensor([[-5.0], [5.0]]), scales=(scale,), headline_scale=scale, n_draws=20_000)
    assert abs(found.value_nats - truth) <= FOUR_SIGMA * found.standard_error_nats


def slow_twin(
    inputs: np.ndarray, rows: np.ndarray, weights: np.ndarray, scale: float, n_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Log-densities of the mixtures as they are written, in float64, one draw after the other."""
    centred = rows - weights @ rows
    unit = centred / math.sqrt(weights @ np.square(centred).sum(axis=1))
    ratios = []
    for _ in range(n_draws):
        index = rng.choice(len(rows), p=weights)
        y = unit[index] + scale * rng.standard_normal(rows.shape[1])
        log_kernel = -np.square(y - unit).sum(axis=1) / (2 * scale**2)
        mates = inputs == inputs[index]
        given_x = np.logaddexp.reduce(log_kernel[mates] + np.log(weights[mates] / weights[mates].sum()))
        ratios.append(given_x - np.logaddexp.reduce(log_kernel + np.log(weights)))
    return float(np.mean(ratios)), float(np.std(ratios, ddof=1) / math.sqrt(n_draws))


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.6])
@pytest.mark.parametrize("is_injective", [True, False])
def test_it_agrees_with_the_slow_twin_on_unequal_weights(scale: float, is_injective: bool) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40, 6))
    weights = rng.dirichlet(np.ones(40) * 3)
    inputs = np.arange(40) if is_injective else np.arange(40) // 8
    pairs = pair_up(torch.from_numpy(inputs)[:, None], torch.from_numpy(rows), weights)
    found = NoisyChannel(scales=(scale,), headline_scale=scale, n_draws=4000).estimate(pairs, np.random.default_rng(2))
    value, error = slow_twin(inputs, rows, weights, scale, 4000, rng)
    assert abs(found.value_nats - value) <= FOUR_SIGMA * math.hypot(found.standard_error_nats, error)


def test_it_changes_nothing_to_rotate_move_rescale_embed_or_permute_the_codes() -> None:
    rows = codes(200, 12)
    rotation = torch.linalg.qr(codes(12, 12, seed=3)).Q
    isometry = torch.linalg.qr(codes(50, 12, seed=4)).Q.T  # (12, 50), orthonormal rows
    order = torch.from_numpy(np.random.default_rng(5).permutation(200))
    reference = estimate(rows)
    for variant in (rows @ rotation, rows + 7.0, rows * 1e3, rows * 1e-3, rows @ isometry, rows[order]):
        agree(reference, estimate(variant, seed=9))


def test_rescaling_alone_gives_the_same_numbers_with_the_same_draws() -> None:
    """No tolerance beyond float32 rounding: nothing but the Gram matrix over s^2 enters."""
    one, other = estimate(codes(200, 12)), estimate(codes(200, 12) * 1024)
    for label in one.readings:
        assert one.readings[label].value_nats == pytest.approx(other.readings[label].value_nats, abs=1e-5)


def test_the_curve_falls_from_the_entropy_to_zero() -> None:
    scales = (1e-3, 0.05, 0.2, 0.5, 1.0, 4.0, 100.0)
    found = estimate(codes(500, 32), scales=scales, headline_scale=0.05)
    values = [reading.value_nats for reading in found.readings.values()]
    assert values[0] == pytest.approx(math.log(500), abs=0.02 * math.log(2))
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.0, abs=0.01)


def test_standard_errors_match_the_spread_of_repeated_runs() -> None:
    """Over 60 runs the spread is known to 9 %; stratified draws make the stated error too large, not too small."""
    runs = [estimate(codes(300, 8), seed=seed, scales=(0.2,), headline_scale=0.2, n_draws=200) for seed in range(60)]
    spread = np.std([run.value_nats for run in runs], ddof=1)
    stated = np.mean([run.standard_error_nats for run in runs])
    assert 0.6 * stated <= spread <= 1.25 * stated


def test_twelve_of_sixteen_letters_at_full_width_in_seconds() -> None:
    """16P4 = 43,680 codes of width 768: entropy at small noise, standard error at most 0.1 bit at every scale."""
    found = estimate(codes(43_680, 768))
    assert found.readings["s=0.01"].value_nats == pytest.approx(math.log(43_680), abs=0.02 * math.log(2))
    assert max(reading.standard_error_nats for reading in found.readings.values()) <= 0.1 * math.log(2)
    assert found.seconds < 20


def test_draws_are_stratified_by_weight() -> None:
    drawn = stratified_draws(np.array([0.5, 0.25, 0.25]), 1000, np.random.default_rng(0))
    assert np.abs(np.bincount(drawn) - [500, 250, 250]).max() <= 1


def test_codes_are_centred_and_have_unit_mean_squared_norm_under_the_weights() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(50))
    unit = normalise(codes(50, 9) * 40 + 1000, weights)
    assert unit is not None
    np.testing.assert_allclose(weights @ unit.numpy(), 0, atol=1e-4)
    assert float(weights @ unit.square().sum(dim=1).numpy()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": (0.2, 0.1), "headline_scale": 0.1}, "ascending positive noise scales"),
        ({"scales": (0.0, 0.1), "headline_scale": 0.1}, "ascending positive noise scales"),
        ({"scales": (0.1,), "headline_scale": 0.2}, "hold the headline scale"),
        ({"n_draws": 1}, "at least 2 draws, got 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EstimationError, match=message):
        NoisyChannel(**settings)  # type: ignore[arg-type]


def test_the_default_curve_has_at_least_five_scales_and_holds_the_headline() -> None:
    assert len(SCALES) >= 5
    assert HEADLINE_SCALE in SCALES
