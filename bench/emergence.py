"""Emergence: macro minus mean micro, with errors propagated. Pure arithmetic on arrays, in whatever unit they come in.

    E(l, t) = I(h_l^ma ; h_{l+1}^ma) at position t  -  mean over s <= t of I(h_l^mi_s ; h_{l+1}^mi_s)

Source: arXiv 2405.12617, eq. 4 to 6. Errors: positions that share one micro population (every name position of a list
has the same names) share its estimate too, so their errors add up linearly, not in quadrature.

A number that does not exist, because its estimator refused to give it, is NaN, and so is everything that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """Numbers and their standard errors, two arrays of one shape; NaN in both where there is no number."""

    values: Floats
    errors: Floats

    def __sub__(self, other: Estimates) -> Estimates:
        """Difference of independent estimates."""
        return Estimates(values=self.values - other.values, errors=np.hypot(self.errors, other.errors))

    def mean_over_blocks(self) -> Estimates:
        """Mean over the first axis; every block has draws of its own, so their errors are independent."""
        n_blocks = len(self.values)
        return Estimates(values=self.values.mean(axis=0), errors=np.sqrt(np.square(self.errors).sum(axis=0)) / n_blocks)


def emergence(macro: Estimates, micro: Estimates, micro_of_position: npt.NDArray[np.int64]) -> Estimates:
    """Emergence of every (block, position).

    Args:
        macro: information about the sequence so far, shape (n_blocks, n_positions).
        micro: information about single tokens, one column a distinct micro population, shape (n_blocks, n_micro).
        micro_of_position: which column of `micro` belongs to each position, shape (n_positions,).

    Returns:
        Shape (n_blocks, n_positions).
    """
    return macro - mean_micro(micro, micro_of_position)


def mean_micro(micro: Estimates, micro_of_position: npt.NDArray[np.int64]) -> Estimates:
    """Mean micro term over the positions so far, at every (block, position); arguments as for `emergence`."""
    n_positions = len(micro_of_position)
    counts = np.cumsum(np.eye(micro.values.shape[1])[micro_of_position], axis=0)  # (n_positions, n_micro)
    shares = counts / np.arange(1, n_positions + 1)[:, None]
    is_missing = np.isnan(micro.values)
    values = np.where(is_missing, 0.0, micro.values) @ shares.T  # NaN times a share of 0 would be NaN too
    errors = np.sqrt(np.square(np.where(is_missing, 0.0, micro.errors)) @ np.square(shares).T)
    is_undefined = is_missing @ (shares.T > 0)  # (n_blocks, n_positions), bool
    return Estimates(values=np.where(is_undefined, np.nan, values), errors=np.where(is_undefined, np.nan, errors))
