"""Finite sets of codes: distinct as promised, and their noisy truths against quadrature and the noisy channel."""

import math

import numpy as np
import pytest
import torch

from bench.calibration.codes import TRUTH_ERROR_NATS, HypercubeCodes, ListCodes, NoisyCodes, hypercube_information
from bench.calibration.samplers import Sampler
from bench.errors import EstimationError
from bench.estimators import Reading, pair_up
from bench.estimators.exact import exact_information
from bench.estimators.noisy_channel import NoisyChannel

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""


def random_codes(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


@pytest.mark.parametrize(("n_names", "n_items", "n_lists"), [(25, 1, 25), (16, 4, 43_680), (25, 4, 303_600)])
def test_list_codes_are_every_list_once(n_names: int, n_items: int, n_lists: int) -> None:
    """Distinct rows counted by numpy's sort of a random projection in float64, apart from the hashes of `pair_up`."""
    sampler = ListCodes(n_names=n_names, n_items=n_items, d_model=32)
    pairs = sampler.draw(1, np.random.default_rng(0))
    assert pairs.n_samples == n_lists == sampler.n_lists
    direction = np.random.default_rng(1).standard_normal(32)
    for rows in (pairs.inputs, pairs.outputs):
        assert rows.shape == (n_lists, 32) and rows.dtype == torch.float32
        assert len(np.unique(rows.numpy() @ direction)) == n_lists
    assert sampler.truth_nats == pytest.approx(math.lgamma(n_names + 1) - math.lgamma(n_names - n_items + 1))
    assert exact_information(pairs) == pytest.approx(sampler.truth_nats, abs=1e-9)  # summing 303,600 equal terms


def test_list_codes_are_a_sum_over_positions_that_tells_them_apart() -> None:
    """With two positions, (a, b) - (c, b) is the same for every b; and (a, b) is not (b, a)."""
    pairs = ListCodes(n_names=5, n_items=2, d_model=16).draw(1, np.random.default_rng(0))
    lists = [(a, b) for a in range(5) for b in range(5) if a != b]
    code = dict(zip(lists, pairs.inputs.numpy(), strict=True))
    assert code[0, 3] - code[1, 3] == pytest.approx(code[0, 4] - code[1, 4], abs=1e-6)  # float32
    assert np.abs(code[0, 1] - code[1, 0]).max() > 0.1
    residual = (pairs.outputs - pairs.inputs).numpy()
    step = dict(zip(lists, residual, strict=True))
    assert np.abs(step[0, 3] - step[1, 3] - step[0, 4] + step[1, 4]).max() > 0.01  # not additive: a GELU came between


def test_list_codes_in_too_few_dimensions_are_refused() -> None:
    """303,600 sums in one float32 dimension collide (2^24 values an octave, birthday)."""
    with pytest.raises(EstimationError, match="expected 303600 distinct inputs, got .*; raise d_model=1"):
        ListCodes(n_names=25, n_items=4, d_model=1).draw(1, np.random.default_rng(0))
    with pytest.raises(EstimationError, match="expected 1 to 3 items of 3 names, got 4"):
        ListCodes(n_names=3, n_items=4, d_model=8)


@pytest.mark.parametrize("k", [1, 12])
def test_a_cube_gives_k_bits_without_noise_and_none_in_noise(k: int) -> None:
    assert hypercube_information(k, 1e-3) == pytest.approx(k * math.log(2), abs=1e-12)
    assert 0 < hypercube_information(k, 1e4) < 1e-7  # about 1 / (2 s^2) = 5e-9


@pytest.mark.parametrize("scale", [0.3, 0.64, 2.0])
def test_a_cube_against_gauss_hermite(scale: float) -> None:
    """The entropy of the channel's output itself, h(Y) - h(Z), on 200 Gauss-Hermite nodes around each input.

    With amplitude over noise r <= 1 / (0.3 sqrt(12)) = 1 the integrand is smooth on the scale of the nodes.
    """
    k = 12
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    ratio = 1 / (scale * math.sqrt(k))

    def log_output_density(y: np.ndarray) -> np.ndarray:
        terms = [-np.square(y - sign * ratio) / 2 for sign in (1, -1)]
        return np.logaddexp(*terms) - math.log(2) - math.log(2 * math.pi) / 2

    entropy = -sum(float(weights @ log_output_density(nodes + sign * ratio)) for sign in (1, -1)) / 2
    truth = k * (entropy - math.log(2 * math.pi * math.e) / 2)
    assert hypercube_information(k, scale) == pytest.approx(truth, abs=1e-8)


def test_a_square_against_a_grid_in_the_plane() -> None:
    """k = 2 in two dimensions at once: the coordinates do act apart. Trapezoidal rule, smooth: 1e-8 to spare."""
    scale, step = 0.5, 0.02
    axis = np.arange(-6, 6 + step, step)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    corners = np.array([(a, b) for a in (-1, 1) for b in (-1, 1)]) / math.sqrt(2)
    kernels = [np.exp(-np.square(grid - corner).sum(axis=-1) / (2 * scale**2)) for corner in corners]
    density = sum(kernels) / 4 / (2 * math.pi * scale**2)
    entropy = -(step**2) * float(np.sum(density * np.log(density)))
    truth = entropy - math.log(2 * math.pi * math.e * scale**2)
    assert hypercube_information(2, scale) == pytest.approx(truth, abs=1e-8)


def test_the_noisy_channel_reads_a_cube_as_it_should() -> None:
    sampler = HypercubeCodes(k=10, d_model=40)
    pairs = sampler.draw(1, np.random.default_rng(0))
    assert pairs.n_samples == 2**10 and torch.equal(pairs.inputs, pairs.outputs)
    gram = (pairs.inputs @ pairs.inputs.T).numpy()
    assert gram == pytest.approx(gram.round(), abs=1e-5)  # products of corners are whole numbers
    assert gram.diagonal() == pytest.approx(np.full(2**10, 10), abs=1e-5)
    assert exact_information(pairs) == pytest.approx(sampler.truth_nats)
    found = NoisyChannel().estimate(pairs, np.random.default_rng(1))
    assert set(sampler.truth_at) == set(found.readings)
    for name, truth in sampler.truth_at.items():
        reading = found.readings[name]
        assert abs(reading.value_nats - truth) <= FOUR_SIGMA * reading.standard_error_nats, name


def channel_reading(inputs: torch.Tensor, outputs: torch.Tensor, scale: float) -> Reading:
    channel = NoisyChannel(scales=(scale,), headline_scale=scale, n_draws=4000)
    pairs = pair_up(inputs, outputs)
    return channel.estimate(pairs, np.random.default_rng(2)).readings[channel.headline]


def agree(sampler: NoisyCodes, reading: Reading) -> None:
    error = math.hypot(sampler.truth_error_nats, reading.standard_error_nats)
    assert abs(sampler.truth_nats - reading.value_nats) <= FOUR_SIGMA * error


@pytest.mark.parametrize("scale", [0.04, 0.16, 0.32, 0.64])
def test_noisy_codes_agree_with_the_noisy_channel(scale: float) -> None:
    inputs, outputs = random_codes(300, 12), 5 * random_codes(300, 20, seed=1) + 3
    sampler = NoisyCodes(inputs=inputs, outputs=outputs, scale=scale, name="random-codes")
    assert 0 < sampler.truth_error_nats <= TRUTH_ERROR_NATS
    agree(sampler, channel_reading(inputs, outputs, scale))


@pytest.mark.parametrize("scale", [0.16, 0.64])
def test_noisy_codes_with_equal_inputs_agree_with_the_noisy_channel(scale: float) -> None:
    """Inputs that do not tell 300 outputs apart: classes of 1, 2, ... rows."""
    rng = np.random.default_rng(3)
    inputs, outputs = random_codes(40, 12)[rng.integers(40, size=300)], random_codes(300, 20, seed=1)
    sampler = NoisyCodes(inputs=inputs, outputs=outputs, scale=scale, name="shared-inputs")
    agree(sampler, channel_reading(inputs, outputs, scale))


@pytest.mark.parametrize("scale", [0.16, 0.32, 0.64])
def test_the_truth_of_a_noisy_cube(scale: float) -> None:
    codes = HypercubeCodes(k=8, d_model=10).draw(1, np.random.default_rng(0)).outputs
    sampler = NoisyCodes(inputs=codes, outputs=codes, scale=scale, name="noisy-cube")
    assert abs(sampler.truth_nats - hypercube_information(8, scale)) <= FOUR_SIGMA * sampler.truth_error_nats


def test_a_standard_error_of_the_truth_is_the_spread_of_truths() -> None:
    """The deviation of 30 values is known within 1 / sqrt(60) = 13 %: 1/2 to 2 is four of those and more."""
    codes = random_codes(50, 6)
    samplers = [
        NoisyCodes(inputs=codes, outputs=codes, scale=0.32, name="again", structure_seed=seed) for seed in range(30)
    ]
    spread = np.std([sampler.truth_nats for sampler in samplers], ddof=1)
    assert 0.5 < spread / np.mean([sampler.truth_error_nats for sampler in samplers]) < 2


def test_noisy_codes_draw_codes_in_noise() -> None:
    inputs, outputs = random_codes(5, 3), 7 * random_codes(5, 4, seed=1) - 2
    sampler = NoisyCodes(inputs=inputs, outputs=outputs, scale=0.1, name="five-codes")
    n = 20_000
    pairs = sampler.draw(n, np.random.default_rng(0))
    rows = [(pairs.inputs == code).all(dim=1) for code in inputs]
    counts = np.array([int(found.sum()) for found in rows])
    assert counts.sum() == n and np.abs(counts - n / 5).max() < FOUR_SIGMA * math.sqrt(n * 0.2 * 0.8)
    centred = outputs - outputs.mean(dim=0)
    centres = centred / centred.square().sum(dim=1).mean().sqrt()
    for found, centre in zip(rows, centres, strict=True):
        noise = (pairs.outputs[found] - centre).numpy() / 0.1
        assert np.abs(noise.mean(axis=0)).max() < FOUR_SIGMA / math.sqrt(len(noise))
        assert np.abs(np.cov(noise.T) - np.eye(4)).max() < FOUR_SIGMA * math.sqrt(2 / len(noise))
    assert int(pairs.input_labels.max()) == 4 and int(pairs.output_labels.max()) == n - 1


def test_noisy_codes_ask_for_a_scale_and_a_spread() -> None:
    with pytest.raises(EstimationError, match="expected a positive noise scale, got 0"):
        NoisyCodes(inputs=random_codes(4, 2), outputs=random_codes(4, 2), scale=0, name="silent")
    with pytest.raises(EstimationError, match="all output codes are equal"):
        NoisyCodes(inputs=random_codes(4, 2), outputs=torch.ones(4, 2), scale=0.1, name="flat")
    with pytest.raises(EstimationError, match=r"expected 1 <= k <= min\(20, d_model=4\), got k=5"):
        HypercubeCodes(k=5, d_model=4)


def test_codes_keep_their_structure_and_their_names() -> None:
    codes = random_codes(4, 2)
    samplers: list[Sampler] = [
        ListCodes(n_names=6, n_items=3, d_model=16),
        ListCodes(n_names=6, n_items=3, d_model=16, structure_seed=1),
        HypercubeCodes(k=4, d_model=16),
        HypercubeCodes(k=4, d_model=16, structure_seed=1),
    ]
    first, other = samplers[0].draw(1, np.random.default_rng(0)), samplers[1].draw(1, np.random.default_rng(0))
    again = samplers[0].draw(99, np.random.default_rng(1))
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.outputs, again.outputs)
    assert not (first.inputs == other.inputs).any()
    noisy = NoisyCodes(inputs=codes, outputs=codes, scale=0.1, name="four-codes")
    one, same, another = (noisy.draw(50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.outputs, same.outputs) and not (one.outputs == another.outputs).any()
    everything: list[Sampler] = [*samplers, noisy]
    assert [sampler.name for sampler in everything] == [
        "list-codes-6p3-16d",
        "list-codes-6p3-16d-structure1",
        "hypercube-4bit-16d",
        "hypercube-4bit-16d-structure1",
        "four-codes",
    ]
    assert [sampler.population for sampler in everything] == ["enumerated"] * 4 + ["sampled"]
    assert all(sampler.description and "\n" not in sampler.description for sampler in everything)
