"""Accuracy above chance on the logistic scale, and back: the scale that performance is fitted on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def ability(accuracy: npt.ArrayLike, chance: npt.ArrayLike, n: npt.ArrayLike) -> Array:
    """Log odds of the accuracy above chance, (accuracy - chance) / (1 - chance).

    What n questions cannot tell from 0 or 1 is drawn in by half a question: no accuracy is worth more than log(2n + 1),
    below chance none is worth less than chance itself.

    Source: the half question is Haldane's and Anscombe's correction of the empirical logit, 1956.
    """
    above = (np.asarray(accuracy) - chance) / (1 - np.asarray(chance))
    edge = 0.5 / (np.asarray(n) + 1.0)
    share = np.clip(above, edge, 1 - edge)
    found: Array = np.log(share) - np.log1p(-share)
    return found


def accuracy_of(ability: npt.ArrayLike, chance: npt.ArrayLike) -> Array:
    """The accuracy that an ability stands for: between chance and 1."""
    chance = np.asarray(chance)
    found: Array = chance + (1 - chance) / (1 + np.exp(-np.clip(ability, -700, 700)))
    return found
