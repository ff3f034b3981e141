"""The door for data, and what every estimator in the table must do."""

import math

import numpy as np
import pytest
import torch

from bench.controls import break_pairs
from bench.errors import EstimationError
from bench.estimators import ESTIMATORS, Pairs, pair_up
from bench.estimators.protocol import label_rows


def codes(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


def injective(n: int = 64, d: int = 16) -> Pairs:
    return pair_up(codes(n, d, seed=1), codes(n, d, seed=2))


def within_error(name: str, pairs: Pairs, truth: float, tolerance: float = 1e-6) -> None:
    """The headline number is the truth within four standard errors (one false alarm in 16,000)."""
    found = ESTIMATORS[name]().estimate(pairs, np.random.default_rng(0))
    assert abs(found.value_nats - truth) <= 4 * found.standard_error_nats + tolerance


@pytest.mark.parametrize("name", ESTIMATORS)
class TestEveryEstimator:
    def test_no_reading_exceeds_the_exact_information_of_the_population(self, name: str) -> None:
        found = ESTIMATORS[name]().estimate(injective(), np.random.default_rng(0))
        assert found.ceiling_nats == pytest.approx(math.log(64))
        assert max(reading.value_nats for reading in found.readings.values()) <= found.ceiling_nats + 1e-6
        assert set(found.readings) == set(ESTIMATORS[name]().labels) and found.headline in found.readings
        assert (found.n_samples, found.d_model) == (64, 16)

    def test_broken_pairs_carry_nothing(self, name: str) -> None:
        within_error(name, break_pairs(injective(), np.random.default_rng(0)), truth=0.0)

    def test_a_constant_side_carries_nothing(self, name: str) -> None:
        constant, rows = torch.full((20, 4), 3.7), codes(20, 4)
        within_error(name, pair_up(constant, rows), truth=0.0)
        within_error(name, pair_up(rows, constant), truth=0.0)

    def test_one_sample_is_a_population_without_information(self, name: str) -> None:
        within_error(name, pair_up(codes(1, 4), codes(1, 4)), truth=0.0)

    def test_a_repeated_row_is_a_row_of_double_weight(self, name: str) -> None:
        rows = codes(3, 8) * 100
        repeated = pair_up(rows[[0, 1, 2, 2]], rows[[0, 1, 2, 2]])
        weighted = pair_up(rows, rows, np.array([0.25, 0.25, 0.5]))
        one, other = (ESTIMATORS[name]().estimate(pairs, np.random.default_rng(0)) for pairs in (repeated, weighted))
        assert one.ceiling_nats == pytest.approx(other.ceiling_nats) == pytest.approx(1.5 * math.log(2))
        assert (
            abs(one.value_nats - other.value_nats) <= 4 * (one.standard_error_nats + other.standard_error_nats) + 1e-6
        )

    def test_the_same_generator_gives_the_same_numbers(self, name: str) -> None:
        one, other = (ESTIMATORS[name]().estimate(injective(), np.random.default_rng(5)) for _ in range(2))
        assert one.readings == other.readings


@pytest.mark.parametrize(
    ("inputs", "outputs", "weights", "message"),
    [
        (codes(3, 2), codes(4, 2), None, r"equally many rows, got shapes \(3, 2\) and \(4, 2\)"),
        (codes(3, 2)[0], codes(3, 2), None, "expected two matrices"),
        (codes(0, 2), codes(0, 2), None, "at least one sample, got 0"),
        (codes(3, 2), codes(3, 2) / 0, None, "3 of 3 output rows hold NaN or infinite values"),
        (torch.tensor([[math.nan], [1.0]]), codes(2, 1), None, "1 of 2 input rows"),
        (codes(2, 2), codes(2, 2), np.array([0.5, 0.6]), "sum to 1, got shape .* and sum 1.1"),
        (codes(2, 2), codes(2, 2), np.array([1.0, 0.0]), "2 positive weights"),
        (codes(2, 2), codes(2, 2), np.array([1.0]), "2 positive weights"),
    ],
)
def test_bad_data_is_refused_in_words(
    inputs: torch.Tensor, outputs: torch.Tensor, weights: np.ndarray | None, message: str
) -> None:
    with pytest.raises(EstimationError, match=message):
        pair_up(inputs, outputs, weights)


def test_rows_are_equal_bit_for_bit_with_one_zero() -> None:
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0 + 2**-23]])
    assert label_rows(rows).tolist() == [0, 0, 1, 2]


def test_a_permutation_does_not_break_the_pairs_of_an_enumerated_population() -> None:
    """Why the shuffled control is a product: any permutation of a bijection is one again."""
    pairs = injective()
    permuted = pair_up(pairs.inputs, pairs.outputs[torch.randperm(64, generator=torch.Generator().manual_seed(0))])
    exact = ESTIMATORS["exact"]()
    assert exact.estimate(permuted, np.random.default_rng(0)).value_nats == pytest.approx(math.log(64))
    broken = break_pairs(pairs, np.random.default_rng(0))
    assert broken.n_samples == 32 * 32
    assert exact.estimate(broken, np.random.default_rng(0)).value_nats == pytest.approx(0.0, abs=1e-12)


def test_saturation_is_half_a_bit_below_the_ceiling() -> None:
    found = ESTIMATORS["exact"]().estimate(injective(), np.random.default_rng(0))
    assert found.is_saturated
    noisy = ESTIMATORS["noisy_channel"](scales=(0.01, 3.0), headline_scale=3.0)  # type: ignore[call-arg]
    assert not noisy.estimate(injective(), np.random.default_rng(0)).is_saturated
