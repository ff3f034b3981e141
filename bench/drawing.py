"""Tokens drawn from the distribution that logits give, each answer with a generator of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.completions import Sampling


class Drawer:
    """Draws the tokens of one answer, one after the other.

    What it draws depends on the seed, the tokens of the prompt and the logits alone, not on what else is answered.

    A token is the winner of a race: i arrives at E_i / p_i with independent E_i ~ Exp(1), and i is first with
    probability p_i. Another way of drawing, by one uniform number in the sum of all probabilities, adds the rounding of
    tens of thousands of logits up; here rounding matters only where the two first are as close as that.

    Source of `top_p`: Holtzman et al., "The curious case of neural text degeneration", ICLR 2020 (nucleus sampling).
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        content = repr((sampling.seed, tuple(map(int, prompt)))).encode()
        self._rng = np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest(), "big"))

    def draw(self, logits: npt.NDArray[np.float64]) -> int:
        """The next token by logits of shape (n_vocabulary,), of which -inf are never drawn."""
        scores = (logits - logits.max()) / self._temperature
        weights = np.exp(scores)  # the most probable has 1
        if self._top_p < 1:
            weights[~is_in_nucleus(weights, self._top_p)] = 0.0
        arrivals = self._rng.standard_exponential(len(weights))  # as many for every token that is drawn
        return int(np.argmax(weights / np.maximum(arrivals, np.finfo(np.float64).tiny)))


def is_in_nucleus(weights: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.bool_]:
    """The fewest entries whose share of all weights is at least `top_p`; the first of equal ones. At least one."""
    order = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    chosen = np.zeros(len(weights), dtype=np.bool_)
    chosen[order[before < top_p * weights.sum()]] = True
    return chosen
