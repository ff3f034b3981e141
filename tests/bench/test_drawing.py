"""Tokens are drawn with the probabilities that the logits say."""

from __future__ import annotations

import numpy as np
import pytest

from bench.completions import Sampling
from bench.drawing import Drawer, is_in_nucleus

SHARES = np.array([0.5, 0.25, 0.125, 0.125])
N_DRAWS = 20_000


def drawn_shares(sampling: Sampling, logits: np.ndarray) -> np.ndarray:
    drawer = Drawer(sampling, prompt=(1, 2, 3))
    return np.bincount([drawer.draw(logits) for _ in range(N_DRAWS)], minlength=len(logits)) / N_DRAWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), SHARES),
        (Sampling(seed=7), SHARES),
        (Sampling(temperature=0.5), SHARES**2 / (SHARES**2).sum()),
        (Sampling(temperature=2.0), SHARES**0.5 / (SHARES**0.5).sum()),
        (Sampling(top_p=0.7), np.array([2 / 3, 1 / 3, 0, 0])),
        (Sampling(top_p=0.4), np.array([1.0, 0, 0, 0])),
        (Sampling(temperature=0.01), np.array([1.0, 0, 0, 0])),
    ],
)
def test_tokens_come_with_their_probabilities(sampling: Sampling, expected: np.ndarray) -> None:
    found = drawn_shares(sampling, np.log(SHARES) + 3.0)  # a constant makes no difference
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / N_DRAWS))  # 5 standard errors


def test_what_is_drawn_depends_on_seed_and_prompt_alone() -> None:
    logits = np.random.default_rng(0).normal(size=100)

    def drawn(seed: int, prompt: tuple[int, ...]) -> list[int]:
        drawer = Drawer(Sampling(seed=seed), prompt)
        return [drawer.draw(logits) for _ in range(20)]

    first = drawn(0, (5, 6))
    assert drawn(0, (5, 6)) == first
    assert len({tuple(tokens) for tokens in (first, drawn(1, (5, 6)), drawn(0, (56,)), drawn(0, (6, 5)))}) == 4


def test_rounding_of_the_logits_changes_next_to_nothing() -> None:
    """As much noise as batches of another shape make in float32; tokens are the same but for one in thousands."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=50_000)
    one, other = (Drawer(Sampling(), (1,)) for _ in range(2))
    pairs = [(one.draw(logits), other.draw(logits + 1e-5 * rng.normal(size=len(logits)))) for _ in range(300)]
    assert sum(first != second for first, second in pairs) <= 1
    assert len({first for first, _ in pairs}) > 100


def test_a_token_that_cannot_come_never_comes() -> None:
    drawer = Drawer(Sampling(temperature=10.0), (1,))
    assert {drawer.draw(np.array([-np.inf, 0.0, -np.inf])) for _ in range(50)} == {1}


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.1, "0"), (0.5, "0"), (0.51, "01"), (0.75, "01"), (0.76, "012"), (0.999, "0123"), (1.0, "0123")],
)
def test_the_nucleus_holds_the_fewest_that_reach_the_share(top_p: float, expected: str) -> None:
    assert "".join(map(str, np.flatnonzero(is_in_nucleus(8 * SHARES, top_p)))) == expected
    assert list(np.flatnonzero(is_in_nucleus(SHARES[::-1], 0.6))) == [2, 3]
