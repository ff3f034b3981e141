"""Macro minus mean micro, with numbers small enough to do by hand."""

import numpy as np
import pytest

from bench.emergence import Estimates, emergence


def estimates(values: list[list[float]], errors: list[list[float]] | None = None) -> Estimates:
    array = np.array(values)
    return Estimates(values=array, errors=np.zeros_like(array) if errors is None else np.array(errors))


def test_emergence_by_hand() -> None:
    """Two blocks, positions name-separator-name-separator, micro 2 bits at a name and 0 at the separator."""
    macro = estimates([[2, 2, 3, 3], [1, 1, 4, 4]])
    micro = estimates([[2, 0], [1, 0.5]])
    found = emergence(macro, micro, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(found.values, [[0, 1, 3 - 4 / 3, 2], [0, 1 - 0.75, 4 - 2.5 / 3, 4 - 0.75]])


def test_errors_of_a_shared_micro_population_add_up_and_those_of_different_ones_do_not() -> None:
    macro = estimates([[0, 0]], [[0.3, 0.3]])
    shared = emergence(macro, estimates([[0]], [[0.4]]), np.array([0, 0]))
    np.testing.assert_allclose(shared.errors, [[0.5, 0.5]])  # hypot(0.3, 0.4): the mean of one number twice
    apart = emergence(macro, estimates([[0, 0]], [[0.4, 0.4]]), np.array([0, 1]))
    np.testing.assert_allclose(apart.errors, [[0.5, np.sqrt(0.09 + 0.08)]])


def test_errors_match_the_spread_of_simulated_estimates() -> None:
    rng = np.random.default_rng(0)
    of_position = np.array([0, 1, 0])
    runs = [
        emergence(
            estimates(rng.normal(5, [[0.1, 0.2, 0.3]]).tolist()),
            estimates(rng.normal(1, [[0.2, 0.1]]).tolist()),
            of_position,
        ).values
        for _ in range(4000)
    ]
    stated = emergence(estimates([[5, 5, 5]], [[0.1, 0.2, 0.3]]), estimates([[1, 1]], [[0.2, 0.1]]), of_position).errors
    np.testing.assert_allclose(np.std(runs, axis=0), stated, rtol=0.05)  # 4,000 runs: 1.1 % standard error


def test_the_mean_over_blocks_averages_independent_errors() -> None:
    mean = estimates([[1, 2], [3, 4]], [[0.3, 0], [0.4, 0]]).mean_over_blocks()
    np.testing.assert_allclose(mean.values, [2, 3])
    np.testing.assert_allclose(mean.errors, [0.25, 0])


def test_what_needs_a_missing_number_is_missing_and_nothing_else() -> None:
    """Micro population 1 is missing in block 0: position 0 does not need it, every later position does."""
    macro = estimates([[2, 2, np.nan], [1, 1, 4]], [[0.1, 0.1, np.nan], [0.1, 0.1, 0.1]])
    micro = estimates([[2, np.nan], [1, 0.5]], [[0.1, np.nan], [0.1, 0.1]])
    found = emergence(macro, micro, np.array([0, 1, 0]))
    np.testing.assert_allclose(found.values, [[0, np.nan, np.nan], [0, 0.25, 4 - 2.5 / 3]])
    assert (np.isnan(found.errors) == np.isnan(found.values)).all()
    mean = found.mean_over_blocks()
    np.testing.assert_allclose(mean.values, [0, np.nan, np.nan])
    np.testing.assert_allclose(mean.errors, [0.1, np.nan, np.nan])  # sqrt(2 (0.1^2 + 0.1^2)) / 2


def test_a_difference_adds_errors_in_quadrature() -> None:
    difference = estimates([[1]], [[0.3]]) - estimates([[3]], [[0.4]])
    assert difference.values[0, 0] == -2
    assert difference.errors[0, 0] == pytest.approx(0.5)
