"""Counting, against entropies known by hand; the populations of the paper."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from bench.emergence import Estimates, emergence
from bench.estimators import pair_up
from bench.estimators.exact import exact_information
from bench.measure import micro_populations
from bench.prefix_forest import plant


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


@pytest.mark.parametrize(
    ("x", "y", "bits"),
    [
        (column(0, 1, 2, 3), column(5, 6, 7, 8), 2.0),  # a bijection
        (column(0, 1, 2, 3), column(5, 5, 6, 6), 1.0),  # two to one
        (column(0, 0, 1, 1), column(0, 1, 0, 1), 0.0),  # independent
        (column(0, 0, 0, 1), column(2, 2, 2, 3), 0.811278),  # H(1/4)
        (column(0, 0, 1, 1), column(0, 1, 1, 1), 0.311278),  # H(1/2) + H(1/4) - H(1/4, 1/4, 1/2)
    ],
)
def test_counting_by_hand(x: torch.Tensor, y: torch.Tensor, bits: float) -> None:
    assert exact_information(pair_up(x, y)) / math.log(2) == pytest.approx(bits, abs=1e-6)


def test_it_is_symmetric_and_does_not_depend_on_order() -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.integers(0, 4, (200, 2)).astype(np.float32)) for _ in range(2))
    order = torch.from_numpy(rng.permutation(200))
    value = exact_information(pair_up(x, y))
    assert value == pytest.approx(exact_information(pair_up(y, x)))
    assert value == pytest.approx(exact_information(pair_up(x[order], y[order])))


@pytest.mark.parametrize(
    ("n", "k", "macro", "mean_micro", "expected"),
    [(25, 4, 18.212, 2.322, 15.890), (16, 4, 15.415, 2.000, 13.415), (15, 5, 18.459, 1.953, 16.506)],
)
def test_emergence_of_an_injective_block(n: int, k: int, macro: float, mean_micro: float, expected: float) -> None:
    """Synthetic codes: each distinct prefix, and each single token, has a row of its own."""
    orders = np.array(list(permutations(range(n), k)))
    sequences = np.stack([orders, np.full_like(orders, n)], axis=2).reshape(len(orders), 2 * k)
    forest = plant(sequences)
    rng = np.random.default_rng(0)

    def information(weights: np.ndarray) -> float:
        rows = torch.from_numpy(rng.standard_normal((len(weights), 3), dtype=np.float32))
        return exact_information(pair_up(rows, rows * 2 + 1, weights)) / math.log(2)

    macros = np.array([[information(weights) for weights in forest.weights]])
    populations, of_position = micro_populations(sequences)
    micros = np.array([[information(population.weights) for population in populations]])
    found = emergence(
        Estimates(values=macros, errors=np.zeros_like(macros)),
        Estimates(values=micros, errors=np.zeros_like(micros)),
        of_position,
    )
    assert macros[0, -1] == pytest.approx(macro, abs=5e-4) == pytest.approx(math.log2(math.perm(n, k)), abs=5e-4)
    assert micros[0, of_position].mean() == pytest.approx(mean_micro, abs=5e-4)
    assert found.values[0, -1] == pytest.approx(expected, abs=5e-4)
    assert len(populations) == 2  # the names, and the separator
