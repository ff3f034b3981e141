"""Ridge regression whose strength is chosen by leaving out whole groups: the one regression behind every fit."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Array = npt.NDArray[np.float64]

STRENGTHS = tuple(float(strength) for strength in np.logspace(-4, 3, 15))
"""Penalties that are tried, as multiples of the number of rows. Columns are standardised, so that 1 halves the
coefficient of a single one, and the largest leaves little but the mean."""

EQUAL = 1e-10
"""Errors that differ by less, as a share of the sum of squares of y, differ by rounding: where a column is constant in
all groups but one, so that no strength says more of that one than another."""

MOST_FOLDS = 10
"""Groups beyond that are dealt out into as many folds, each group whole: leaving out each by itself costs more time
than it tells."""


class GroupedRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Imputation by the mean, standardisation and ridge regression, all fitted on what `fit` is given.

    The strength is that of `strengths` with the least squared error over groups left out, each with a regression on the
    other groups; of equal errors, up to rounding, the strongest. Equal to scikit-learn's `GridSearchCV` over `Ridge`
    with `GroupKFold`, up to how groups are dealt out, but from sums of products over each fold, so that thousands of
    targets are fitted at once (tested against it).

    X has shape (n_rows, 1 + n_columns). Its column 0 is the group of a row, as a number: so a group stays with its rows
    wherever scikit-learn or MAPIE cuts the data. y has shape (n_rows,) or (n_rows, n_targets), one strength for each.
    """

    def __init__(self, strengths: tuple[float, ...] = STRENGTHS, most_folds: int = MOST_FOLDS) -> None:
        self.strengths = strengths
        self.most_folds = most_folds

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Choose the strength and fit on all rows. Rows of a single group are taken as groups of their own."""
        rows, targets = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        self.n_features_in_ = rows.shape[1]
        self.is_single_ = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.scaling_: Pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        columns: Array = self.scaling_.fit_transform(rows[:, 1:]) if rows.shape[1] > 1 else rows[:, 1:]
        folds = dealt_out(rows[:, 0], self.most_folds)
        sums = [_Sums.of(columns[folds == fold], targets[folds == fold]) for fold in range(folds.max() + 1)]
        total = _Sums.total(sums)
        strengths = np.sort(np.asarray(self.strengths))[::-1]
        errors = np.zeros((len(strengths), targets.shape[1]))
        if len(sums) > 1:
            for left_out in sums:
                intercepts, slopes = total.without(left_out).ridge(strengths)
                errors += left_out.squared_errors(intercepts, slopes)
        is_least = errors <= errors.min(axis=0) + EQUAL * total.yy
        chosen, each = np.argmax(is_least, axis=0), np.arange(targets.shape[1])  # the strongest of them
        self.strengths_ = strengths[chosen]
        intercepts, slopes = total.ridge(strengths)
        self.intercept_, self.coef_ = intercepts[chosen, each], slopes[chosen, :, each].T  # (t,), (p, t)
        return self

    def predict(self, X: npt.ArrayLike) -> Array:
        """Predictions of shape (n_rows,), or (n_rows, n_targets) where `fit` was given several."""
        rows = np.asarray(X, dtype=np.float64)
        columns = self.scaling_.transform(rows[:, 1:]) if rows.shape[1] > 1 else rows[:, 1:]
        found: Array = columns @ self.coef_ + self.intercept_
        return found[:, 0] if self.is_single_ else found


def dealt_out(groups: npt.ArrayLike, most: int) -> npt.NDArray[np.int64]:
    """The fold of each row: one for every group, or groups dealt out in order where there are more than `most`."""
    labels, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(labels) == 1:
        members = np.arange(len(members))
    return members.astype(np.int64) % most


class _Sums:
    """Sums over rows: all that ridge regression and its squared error need."""

    def __init__(self, n: float, x: Array, y: Array, xx: Array, xy: Array, yy: Array) -> None:
        self.n, self.x, self.y, self.xx, self.xy, self.yy = n, x, y, xx, xy, yy  # -, (p,), (t,), (p, p), (p, t), (t,)

    @classmethod
    def of(cls, x: Array, y: Array) -> _Sums:
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y, np.square(y).sum(0))

    @classmethod
    def total(cls, parts: list[_Sums]) -> _Sums:
        first, *others = parts
        return cls(*(sum((getattr(part, name) for part in others), getattr(first, name)) for name in _NAMES))

    def without(self, part: _Sums) -> _Sums:
        return _Sums(*(getattr(self, name) - getattr(part, name) for name in _NAMES))

    def ridge(self, strengths: Array) -> tuple[Array, Array]:
        """Intercepts (s, t) and coefficients (s, p, t) for every strength; the intercept is not penalised."""
        x_mean, y_mean = self.x / self.n, self.y / self.n
        values, vectors = np.linalg.eigh(self.xx / self.n - np.outer(x_mean, x_mean))
        projected = vectors.T @ (self.xy / self.n - np.outer(x_mean, y_mean))  # (p, t)
        shrunk = projected / (np.maximum(values, 0)[:, None] + strengths[:, None, None])  # (s, p, t)
        slopes = vectors @ shrunk
        return y_mean - np.einsum("p,spt->st", x_mean, slopes), slopes

    def squared_errors(self, intercepts: Array, slopes: Array) -> Array:
        """Sum of squared errors of predictions on these rows, (s, t)."""
        fitted = np.einsum("spt,pt->st", slopes, self.xy) + intercepts * self.y
        squares = np.einsum("spt,spt->st", slopes, self.xx @ slopes) + self.n * intercepts**2
        crossed = 2 * intercepts * np.einsum("p,spt->st", self.x, slopes)
        found: Array = self.yy - 2 * fitted + squares + crossed
        return found


_NAMES = ("n", "x", "y", "xx", "xy", "yy")
