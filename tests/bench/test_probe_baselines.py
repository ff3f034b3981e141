"""The baselines of the text probe on cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

from bench.probe_baselines import auc, bag_of_tokens, perplexity, welch

N_GROUPS = 4


def groups(n_windows: int) -> tuple[np.ndarray, ...]:
    return tuple(np.arange(first, n_windows, N_GROUPS) for first in range(N_GROUPS))


def test_welch_is_the_interval_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values, others = rng.normal(1.0, 2.0, size=7), rng.normal(0.0, 0.5, size=11)
    expected = ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    interval = welch(values, others)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert interval.value == pytest.approx(values.mean() - others.mean(), abs=1e-6)


def test_welch_of_numbers_that_do_not_vary_has_no_width() -> None:
    interval = welch(np.full(3, 2.0), np.full(4, 0.5))
    assert (interval.low, interval.value, interval.high) == (1.5, 1.5, 1.5)


def test_welch_holds_the_truth_in_19_of_20_cases() -> None:
    """1,000 null cases of 8 against 8: 95 % ± 3 binomial standard errors of 0.7 %."""
    rng = np.random.default_rng(1)
    rate = np.mean([welch(rng.normal(size=8), rng.normal(size=8)).excludes(0.0) for _ in range(1000)])
    assert rate == pytest.approx(0.05, abs=0.021)


def test_auc_by_hand() -> None:
    """Of the pairs (3, 1), (3, 2), (2, 1) and (2, 2) three are won and one is tied."""
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))[0] == 0.875


def test_auc_is_that_of_sklearn_and_its_variance_that_of_delong() -> None:
    rng = np.random.default_rng(2)
    positives, negatives = rng.integers(0, 9, 40) + 1.0, rng.integers(0, 9, 30) + 0.0  # with ties
    value, variance = auc(positives, negatives)
    truth = np.repeat([1, 0], [40, 30])
    assert value == pytest.approx(roc_auc_score(truth, np.concatenate([positives, negatives])))
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    assert variance == pytest.approx(wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 30)


def windows_with(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Windows of tokens 2 to 9 at random, in which token 1 is first with a probability."""
    windows = rng.integers(2, 10, size=(n, 4))
    windows[rng.random(n) < share, 0] = 1
    return windows


@pytest.mark.parametrize(("share", "other_share"), [(1.0, 0.0), (0.8, 0.3)])
def test_bag_of_tokens_finds_the_token_that_tells_texts_apart(share: float, other_share: float) -> None:
    """One binary token with shares p and q, all else alike: no bag can reach more than 1/2 + (p - q)/2.

    It loses a little of it to the other tokens, whose weights are noise.
    """
    rng = np.random.default_rng(3)
    windows, others = windows_with(rng, 1600, share), windows_with(rng, 1600, other_share)
    found = bag_of_tokens(windows, others, groups(1600))
    assert found.value == pytest.approx(0.5 + (share - other_share) / 2, abs=0.03)
    assert found.low > 0.5


def test_bag_of_tokens_finds_nothing_where_there_is_nothing() -> None:
    """Held out, hence without the optimism of a fit: 40 null cases average 1/2 within 3 standard errors."""
    rng = np.random.default_rng(4)
    found = [bag_of_tokens(windows_with(rng, 60, 0.5), windows_with(rng, 60, 0.5), groups(60)).value for _ in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=3 * np.std(found) / np.sqrt(40))


def test_the_order_of_tokens_does_not_matter_to_a_bag() -> None:
    rng = np.random.default_rng(5)
    windows, others = windows_with(rng, 80, 0.7), windows_with(rng, 80, 0.4)
    assert bag_of_tokens(windows, others, groups(80)) == bag_of_tokens(windows[:, ::-1], others, groups(80))


def test_perplexity_says_which_text_is_easier() -> None:
    """Losses of 1, 2 and 3 bits against 3 and 5: the text is easier in 5 of 6 pairs and ties in one."""
    found = perplexity(np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0]))
    assert (found.text_bits, found.reference_bits, found.difference_bits.value) == (2.0, 4.0, -2.0)
    assert found.auc.value == pytest.approx(5.5 / 6, abs=1e-6)
