"""The one regression behind every fit, against scikit-learn and against what was planted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler

from proxies.grouped_ridge import STRENGTHS, GroupedRidge, dealt_out

Array = npt.NDArray[np.float64]


class RidgePerRow(Ridge):  # type: ignore[misc]
    """scikit-learn's ridge with a penalty that is a multiple of the number of rows."""

    def fit(self, X: Array, y: Array) -> RidgePerRow:
        strength = self.alpha
        self.alpha = strength * len(X)
        super().fit(X, y)
        self.alpha = strength
        return self


def minus_squares(regression: Ridge, X: Array, y: Array) -> float:
    """Summed, not averaged, over a fold: folds of more rows count for more."""
    return -float(np.square(regression.predict(X) - y).sum())


def searched(inputs: Array, y: Array) -> GridSearchCV:
    """The slow twin, fitted; it is given scaled columns. The strongest first: the search takes the first of equals."""
    search = GridSearchCV(
        RidgePerRow(), {"alpha": sorted(STRENGTHS, reverse=True)}, scoring=minus_squares, cv=LeaveOneGroupOut()
    )
    return search.fit(scaled(inputs, inputs), y, groups=inputs[:, 0])


def scaled(training: Array, wanted: Array) -> Array:
    """Columns without the group, by scikit-learn from the training rows."""
    imputer = SimpleImputer(keep_empty_features=True).fit(training[:, 1:])
    scaler = StandardScaler().fit(imputer.transform(training[:, 1:]))
    found: Array = scaler.transform(imputer.transform(wanted[:, 1:]))
    return found


def planted(
    seed: int, sizes: tuple[int, ...], coefficients: tuple[float, ...], *, noise: float = 0.5, level: float = 3.0
) -> tuple[Array, Array]:
    """Rows with their group in column 0, in random order, and y."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    columns = rng.normal(size=(len(groups), len(coefficients)))
    y = level + columns @ np.asarray(coefficients) + noise * rng.normal(size=len(groups))
    return np.column_stack([groups, columns]), y


@pytest.mark.parametrize("seed", range(50))
def test_where_rounding_alone_would_choose_the_strongest_is_taken(seed: int) -> None:
    """Two groups, in each of which the column is constant: leaving out one, every slope is 0."""
    rng = np.random.default_rng(seed)
    column = np.repeat(rng.normal(18, 3, size=2), 5)
    found = GroupedRidge().fit(np.column_stack([np.repeat([0, 1], 5), column]), rng.normal(8, 1, size=10))
    assert found.strengths_[0] == max(STRENGTHS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sizes", "coefficients", "noise"),
    [
        ((4,) * 8, (1.0, 0.0), 0.5),
        ((1, 2, 3, 9, 5), (0.3, -0.2, 0.0, 0.1), 1.0),
        ((3, 3, 4), (0.0,) * 12, 1.0),  # more columns than rows
        ((1,) * 10, (2.0,), 0.01),
    ],
)
def test_it_is_the_search_of_scikit_learn(
    seed: int, sizes: tuple[int, ...], coefficients: tuple[float, ...], noise: float
) -> None:
    inputs, y = planted(seed, sizes, coefficients, noise=noise)
    inputs[:, 1:] = 100 + 7 * inputs[:, 1:]
    inputs[np.random.default_rng(seed).random(inputs.shape) < np.r_[0, [0.1] * len(coefficients)]] = np.nan
    wanted, _ = planted(seed + 100, sizes, coefficients)
    search, found = searched(inputs, y), GroupedRidge().fit(inputs, y)
    assert found.strengths_[0] == search.best_params_["alpha"]
    np.testing.assert_allclose(found.coef_[:, 0], search.best_estimator_.coef_, atol=1e-9)
    assert found.intercept_[0] == pytest.approx(search.best_estimator_.intercept_, abs=1e-9)
    np.testing.assert_allclose(found.predict(wanted), search.predict(scaled(inputs, wanted)), rtol=1e-9, atol=1e-9)


def test_strengths_of_all_sizes_are_chosen_by_what_there_is_to_see() -> None:
    """Else the comparison above would be of one strength."""
    chosen = {
        float(GroupedRidge().fit(*planted(seed, (4,) * 8, (coefficient,) * 6, noise=1.0)).strengths_[0])
        for seed in range(4)
        for coefficient in (0.0, 0.2, 3.0)
    }
    assert min(chosen) < 0.02 and max(chosen) == max(STRENGTHS) and len(chosen) >= 4


def test_many_targets_at_once_are_those_one_by_one() -> None:
    inputs, y = planted(0, (3,) * 8, (1.0, 0.0, 0.2))
    rng = np.random.default_rng(1)
    targets = np.column_stack([y, *(rng.permutation(y) for _ in range(40)), 0.1 * inputs[:, 1], np.ones(len(y))])
    together = GroupedRidge().fit(inputs, targets)
    assert together.predict(inputs).shape == targets.shape
    for place, target in enumerate(targets.T[:-1]):  # of a constant one all strengths are equal but for rounding
        alone = GroupedRidge().fit(inputs, target)
        assert alone.strengths_[0] == together.strengths_[place]
        np.testing.assert_allclose(alone.coef_[:, 0], together.coef_[:, place], atol=1e-12)
        np.testing.assert_allclose(alone.predict(inputs), together.predict(inputs)[:, place], atol=1e-12)
    np.testing.assert_allclose(together.predict(inputs)[:, -1], 1.0, atol=1e-12)


def test_gaps_and_scales_are_those_of_the_rows_it_is_given() -> None:
    """What `predict` is given changes neither: a gap becomes the mean of training, whatever stands beside it."""
    inputs, y = planted(0, (4,) * 6, (1.0, -1.0))
    inputs[::5, 1] = np.nan
    found = GroupedRidge().fit(inputs, y)
    wanted = np.array([[0, np.nan, 0.5], [0, 1e9, np.nan], [0, np.nanmean(inputs[:, 1]), 0.5]])
    gap, _, mean = found.predict(wanted)
    assert gap == pytest.approx(mean, abs=1e-12)
    assert found.predict(wanted[:1])[0] == gap
    wide = inputs * np.array([1, 1e6, 1e-6]) + np.array([0, -3e6, 5.0])
    np.testing.assert_allclose(GroupedRidge().fit(wide, y).predict(wide), found.predict(inputs), atol=1e-7)


def test_without_columns_it_is_the_mean() -> None:
    inputs, y = planted(0, (3, 5, 2), ())
    found = GroupedRidge().fit(inputs, y)
    np.testing.assert_allclose(found.predict(inputs), y.mean(), rtol=1e-14)
    many = GroupedRidge().fit(inputs, np.column_stack([y, 2 * y]))
    np.testing.assert_allclose(many.predict(inputs[:2]), [[y.mean(), 2 * y.mean()]] * 2, rtol=1e-14)


@pytest.mark.parametrize("filling", [7.0, np.nan, 0.0, 1e8])
def test_a_column_that_says_nothing_changes_nothing(filling: float) -> None:
    """Constant, or not known in any row; even where it has another value in the rows that are predicted."""
    inputs, y = planted(0, (4,) * 6, (1.0, -1.0))
    without = GroupedRidge().fit(inputs, y).predict(inputs)
    found = GroupedRidge().fit(np.insert(inputs, 2, filling, axis=1), y)
    np.testing.assert_allclose(found.predict(np.insert(inputs, 2, filling, axis=1)), without, atol=1e-9)
    np.testing.assert_allclose(found.predict(np.insert(inputs, 2, 12.0, axis=1)), without, atol=1e-9)
    assert found.coef_[1, 0] == pytest.approx(0, abs=1e-12)


def test_planted_coefficients_come_back_as_rows_grow() -> None:
    """Standard errors are 0.5 / sqrt(n): five of them, and a hundredth for what the penalty takes."""
    truth = np.array([1.5, -0.7, 0.0, 0.2])
    for n_of_group in (5, 50, 1000):
        inputs, y = planted(3, (n_of_group,) * 8, tuple(truth))
        found = GroupedRidge().fit(inputs, y)
        slopes = found.coef_[:, 0] / inputs[:, 1:].std(axis=0)  # back to the scale of the columns
        assert np.abs(slopes - truth).max() < 5 * 0.5 / np.sqrt(len(y)) + 0.01
        level = found.predict(np.zeros((1, 5)))[0]
        assert abs(level - 3.0) < 5 * 0.5 / np.sqrt(len(y)) + 0.01


def test_nothing_planted_is_shrunk_to_the_mean() -> None:
    """With the strongest penalty, 1000 times the rows, a coefficient is a thousandth of that of least squares."""
    shares = []
    for seed in range(20):
        inputs, y = planted(seed, (4,) * 10, (0.0,) * 5, noise=1.0)
        shares.append(GroupedRidge().fit(inputs, y).predict(inputs).std() / y.std())
    assert np.median(shares) < 0.1  # of least squares it is sqrt(5 / 40) = 0.35


def test_the_order_of_rows_and_of_groups_does_not_matter() -> None:
    inputs, y = planted(0, (2, 5, 3, 4, 1), (0.5, 0.0, -0.2), noise=1.0)
    found, rng = GroupedRidge().fit(inputs, y), np.random.default_rng(0)
    for _ in range(5):
        order, names = rng.permutation(len(y)), rng.permutation(5) * 10 - 7.5
        moved = inputs[order].copy()
        moved[:, 0] = names[moved[:, 0].astype(int)]
        again = GroupedRidge().fit(moved, y[order])
        assert again.strengths_ == found.strengths_
        np.testing.assert_allclose(again.coef_, found.coef_, atol=1e-12)
        np.testing.assert_allclose(again.predict(inputs), found.predict(inputs), atol=1e-12)


def test_another_unit_or_origin_of_the_target_is_that_of_its_predictions() -> None:
    inputs, y = planted(0, (4,) * 6, (0.5, 0.0), noise=1.0)
    found, moved = GroupedRidge().fit(inputs, y), GroupedRidge().fit(inputs, 1000 - 20 * y)
    assert moved.strengths_ == found.strengths_
    np.testing.assert_allclose(moved.predict(inputs), 1000 - 20 * found.predict(inputs), rtol=1e-12)


def test_groups_stay_whole() -> None:
    """Twins within a group: strengths chosen by leaving out rows would see the answer and shrink too little."""
    rng = np.random.default_rng(5)
    level, columns = rng.normal(size=12), rng.normal(size=(12, 10))  # noise in 10 columns, one value a group
    inputs = np.column_stack([np.arange(12), columns])
    twins, y = np.repeat(inputs, 4, axis=0), np.repeat(level, 4)
    rows_apart = twins.copy()
    rows_apart[:, 0] = np.arange(48)
    assert GroupedRidge(most_folds=48).fit(rows_apart, y).strengths_[0] == min(STRENGTHS)
    assert GroupedRidge(most_folds=48).fit(twins, y).strengths_[0] >= 1


def test_rows_of_one_group_are_left_out_by_themselves() -> None:
    inputs, y = planted(0, (9,), (1.0, 0.0))
    apart = inputs.copy()
    apart[:, 0] = np.arange(9)
    one, each = GroupedRidge().fit(inputs, y), GroupedRidge().fit(apart, y)
    assert one.strengths_ == each.strengths_
    np.testing.assert_array_equal(one.predict(inputs), each.predict(inputs))


def test_one_row_is_its_own_prediction() -> None:
    found = GroupedRidge().fit([[0, 1.0, np.nan]], [4.0])
    np.testing.assert_allclose(found.predict([[0, 1.0, 0.0], [5, -3.0, 2.0]]), 4.0)


@pytest.mark.parametrize(("n_groups", "most"), [(3, 10), (10, 10), (11, 10), (37, 10), (500, 10), (5, 2)])
def test_groups_are_dealt_out_whole_into_folds_of_like_size(n_groups: int, most: int) -> None:
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(n_groups) * 3 - 4, 3))
    folds = dealt_out(groups, most)
    assert set(folds) == set(range(min(n_groups, most)))
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    n_of_folds = [len(set(groups[folds == fold])) for fold in set(folds)]
    assert max(n_of_folds) - min(n_of_folds) <= 1
