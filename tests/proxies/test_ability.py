"""The logistic scale of accuracy above chance: values by hand, edges, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxies.ability import ability, accuracy_of


@pytest.mark.parametrize(
    ("accuracy", "chance", "n", "log_odds"),
    [
        (0.5, 0.0, 10, 0.0),
        (0.75, 0.0, 100, math.log(3)),
        (0.625, 0.25, 100, 0.0),  # half of the way from chance to 1
        (0.9, 0.6, 1000, math.log(3)),  # three quarters of it
        (0.4, 0.25, 100, math.log(0.2 / 0.8)),
        (0.55, 0.5, 1000, math.log(0.1 / 0.9)),
    ],
)
def test_values_by_hand(accuracy: float, chance: float, n: int, log_odds: float) -> None:
    assert ability(accuracy, chance, n) == pytest.approx(log_odds, abs=1e-12)


@pytest.mark.parametrize("n", [1, 4, 100, 10_000])
@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5])
def test_edges_are_half_a_question_away(n: int, chance: float) -> None:
    """All right is worth log(2n + 1); chance, and whatever is below it, minus that."""
    assert ability(1.0, chance, n) == pytest.approx(math.log(2 * n + 1), rel=1e-12)
    for accuracy in (chance, chance / 2, 0.0):
        assert ability(accuracy, chance, n) == pytest.approx(-math.log(2 * n + 1), rel=1e-12)


def test_one_wrong_answer_is_worth_less_than_none_and_more_than_two() -> None:
    n = 50
    scores = ability(np.arange(n + 1) / n, 0.0, n)
    assert (np.diff(scores) > 0).all()
    np.testing.assert_allclose(scores, -scores[::-1], atol=1e-12)  # wrong answers mirror right ones


@given(
    log_odds=st.floats(-7, 7),
    chance=st.floats(0, 0.9),
    n=st.integers(1000, 100_000),  # 7 is below log(2 * 1000 + 1)
)
def test_each_undoes_the_other(log_odds: float, chance: float, n: int) -> None:
    accuracy = float(accuracy_of(log_odds, chance))
    assert chance < accuracy < 1
    # The accuracy of a large ability is 1 to within 1e-3, and rounding of it in float64 is blown up by as much.
    assert ability(accuracy, chance, n) == pytest.approx(log_odds, abs=1e-10)
    assert accuracy_of(ability(accuracy, chance, n), chance) == pytest.approx(accuracy, abs=1e-13)


@pytest.mark.parametrize("chance", [0.0, 0.25])
def test_no_ability_is_so_large_that_it_overflows(chance: float) -> None:
    """Warnings are errors here."""
    found = accuracy_of([-np.inf, -1e6, 0.0, 1e6, np.inf], chance)
    np.testing.assert_allclose(found, [chance, chance, chance + (1 - chance) / 2, 1.0, 1.0], atol=1e-300)


def test_rows_have_their_own_chance_and_their_own_n() -> None:
    accuracy, chance, n = np.array([0.5, 0.5, 1.0]), np.array([0.0, 0.25, 0.5]), np.array([10, 100, 7])
    found = ability(accuracy, chance, n)
    assert found == pytest.approx([float(ability(*row)) for row in zip(accuracy, chance, n, strict=True)])
    assert accuracy_of(found[:2], chance[:2]) == pytest.approx(accuracy[:2])


def test_what_is_not_known_stays_so() -> None:
    assert np.isnan(ability(math.nan, 0.0, 10)) and np.isnan(accuracy_of(math.nan, 0.0))
