"""Held-out errors, intervals and verdicts, on zoos where the truth is planted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from mapie.regression import CrossConformalRegressor
from pydantic import ValidationError
from scipy import stats
from sklearn.model_selection import PredefinedSplit

from bench.errors import UsageError
from bench.fits import Comparison, Covered, PredictorErrors
from proxies import validation
from proxies.ability import accuracy_of
from proxies.grouped_ridge import GroupedRidge
from proxies.regression import ALONE, BESIDE, cells_problem, emergence_problem, models_problem, published_problem
from proxies.validation import (
    FEWEST_ROWS,
    N_BOOTSTRAPS,
    SIGNIFICANT,
    Predictor,
    Problem,
    Validation,
    fold_numbers,
    held_out,
    held_out_intervals,
    in_unit_to_the_edge,
    jackknife_plus,
    over_folds,
    permutation_p,
    permutations,
    validate,
)
from tests.zoo_factory import MEAN, PROXIES, SIBLING, SIZE, cells_frame, in_accuracy, only, siblings, task_zoo, zoo

Array = npt.NDArray[np.float64]


def named(problem: Problem, name: str) -> Predictor:
    (found,) = [one for one in problem.predictors if one.name == name]
    return found


def errors_of(found: Validation, name: str) -> PredictorErrors:
    (errors,) = [one for one in found.errors if one.name == name]
    return errors


def compared(found: Validation, name: str = ALONE) -> Comparison:
    (comparison,) = [one for one in found.comparisons if one.predictor == name]
    return comparison


def changed(problem: Problem, **columns: object) -> Problem:
    return replace(problem, frame=problem.frame.assign(**columns))


@pytest.fixture
def without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time goes into intervals of predictions, which verdicts do not use."""
    monkeypatch.setattr(validation, "held_out_intervals", lambda *_: {})


# Nothing of a fold is in the fit that predicts it.


def with_gaps(problem: Problem) -> Problem:
    """A fifth of what the predictors on trial are given is not known: so that it matters what gaps are filled from."""
    rng, frame = np.random.default_rng(3), problem.frame.copy()
    for name in dict.fromkeys(name for one in problem.predictors if one.role != "baseline" for name in one.columns):
        frame.loc[rng.random(len(frame)) < 0.2, name] = np.nan
    return replace(problem, frame=frame)


def problem_of(kind: str) -> Problem:
    features, frame = ("emergence", "over_twin"), cells_frame(0, n_families=5, n_other_tasks=5)
    match kind:
        case "cells":
            return cells_problem(frame, target="model-0-0", features=features, mode="completion")
        case "models":
            return models_problem(frame, features=features, mode="completion")
        case "emergence":
            return emergence_problem(frame, mode="completion")
        case "published":
            return published_problem(siblings(0, frame), frame, features=features)
        case _:  # more tasks than are left out one by one
            return only(task_zoo(0, n_tasks=45, n_shots=1, shots=0.0), MEAN, PROXIES, ALONE)


@cache
def validated(kind: str) -> tuple[Problem, Validation]:
    problem = with_gaps(problem_of(kind))
    return problem, validate(problem, n_permutations=1, seed=0)


@pytest.mark.parametrize("change", ["y", "inputs shifted", "inputs unknown", "inputs of others"])
@pytest.mark.parametrize("kind", ["cells", "models", "emergence", "published", "many tasks"])
def test_nothing_of_a_fold_is_in_what_predicts_it(kind: str, change: str) -> None:
    """A fold is changed but for the inputs of one row, the probe: what is said of that row is the same to the bit.

    So are imputation, scaling, strength and coefficients of the fit behind it, and the residuals of its intervals.
    """
    problem, before = validated(kind)
    rng, frame = np.random.default_rng(4), problem.frame.copy()
    fold = before.folds == before.folds[len(frame) // 2]
    frame.loc[fold, "y"] = 1e6 - frame.loc[fold, "y"]
    frame.loc[fold, "accuracy"] = 1 - frame.loc[fold, "accuracy"]
    same = np.flatnonzero(fold)
    if change != "y":
        same, others = same[:1], same[1:]
        assert len(others)
        given = {name for one in problem.predictors for name in (*one.columns, *filter(None, [one.as_is]))}
        for name in sorted(given - {"y", "accuracy"}):
            values = frame[name].to_numpy(copy=True)
            replacements = {
                "inputs shifted": values[others] + 1e6,
                "inputs unknown": np.nan,
                "inputs of others": rng.permutation(values[~fold])[: len(others)],
            }
            values[others] = replacements[change]
            frame[name] = values
    after = validate(replace(problem, frame=frame), n_permutations=1, seed=0)
    assert {one.role for one in problem.predictors} >= {"baseline", "tested"} and before.intervals
    for name, predictions in before.predictions.items():
        np.testing.assert_array_equal(after.predictions[name][same], predictions[same], err_msg=name)
    for name, by_level in before.intervals.items():
        assert by_level or kind == "published"  # whose measured families are too few
        for level, ends in by_level.items():
            np.testing.assert_array_equal(after.intervals[name][level][same], ends[same], err_msg=f"{name}, {level}")
    others_moved = [
        not np.array_equal(after.predictions[name][~fold], before.predictions[name][~fold], equal_nan=True)
        for name in (one.name for one in problem.predictors if (one.as_is, one.in_unit, one.median_of) == (None,) * 3)
    ]
    assert all(others_moved)  # so that what is said of other folds does depend on this one


def test_predictions_are_those_of_a_regression_on_the_other_folds() -> None:
    problem = with_gaps(zoo(1, coefficients=(1.0, 0.5, 0.0)))
    frame, y = problem.frame, problem.frame["y"].to_numpy()
    targets = np.column_stack([y, -y, y**2])
    for name, columns in ((ALONE, ["feature_0", "feature_1", "feature_2"]), (SIZE, ["log_bits"]), (MEAN, [])):
        alone = held_out(named(problem, name), frame, fold_numbers(frame["fold"]))
        together = held_out(named(problem, name), frame, fold_numbers(frame["fold"]), targets)
        np.testing.assert_allclose(together[:, 0], alone, atol=1e-12)
        for family in frame["family"].unique():
            test = (frame["family"] == family).to_numpy()
            groups = frame["family"].str[-3:].astype(float)
            inputs = np.column_stack([groups, frame[columns]]).astype(np.float64)
            regression = GroupedRidge().fit(inputs[~test], targets[~test])
            np.testing.assert_allclose(together[test], regression.predict(inputs[test]), atol=1e-12)


def test_what_needs_all_its_columns_neither_learns_from_nor_predicts_rows_without() -> None:
    problem = task_zoo(0, gaps=0.0)
    frame, folds = problem.frame.copy(), fold_numbers(problem.frame["fold"])
    lacking = np.arange(len(frame)) % 5 == 0
    frame.loc[lacking, "proxies_ability"] = np.nan
    found = held_out(named(problem, PROXIES), frame, folds)
    np.testing.assert_array_equal(np.isnan(found), lacking)
    frame.loc[lacking, "y"] += 1e6
    np.testing.assert_array_equal(held_out(named(problem, PROXIES), frame, folds), found)
    assert not np.isnan(held_out(named(problem, BESIDE), frame, folds)).any()  # imputes


def test_a_column_that_is_the_prediction_is_left_as_it_is() -> None:
    problem = zoo(0)
    found = held_out(named(problem, SIBLING), problem.frame, fold_numbers(problem.frame["fold"]))
    np.testing.assert_array_equal(found, problem.frame["sibling_ability"])


@pytest.mark.parametrize(("n_labels", "n_folds"), [(1, 1), (3, 3), (40, 40), (41, 10), (500, 10)])
def test_folds_are_whole_labels(n_labels: int, n_folds: int) -> None:
    labels = pd.Series(np.random.default_rng(0).permutation([f"label {place}" for place in range(n_labels)] * 3))
    folds = fold_numbers(labels)
    assert set(folds) == set(range(n_folds))
    assert pd.Series(folds).groupby(labels).nunique().eq(1).all()
    shuffled = labels.sample(frac=1, random_state=1)
    assert pd.Series(fold_numbers(shuffled), index=shuffled.index).sort_index().tolist() == folds.tolist()


def test_the_order_of_the_rows_does_not_matter(without_intervals: None) -> None:
    problem = zoo(0, n_models=3)
    order = np.random.default_rng(0).permutation(len(problem.frame))
    moved = replace(problem, frame=problem.frame.iloc[order].reset_index(drop=True))
    before, after = (validate(one, n_permutations=9, seed=0) for one in (problem, moved))
    for name, predictions in before.predictions.items():
        np.testing.assert_allclose(after.predictions[name], predictions[order], atol=1e-9)
    assert [one.model_dump() for one in after.errors] == [
        one.model_dump() | {"root_mean_squared_error": pytest.approx(one.root_mean_squared_error, abs=2e-6)}
        for one in before.errors
    ]


# Errors are those planted, in the unit that they are said to be in.


def test_errors_are_the_planted_noise() -> None:
    """Over 20 zoos of 64 rows with noise of 0.5.

    Four coefficients from 56 rows add sqrt(1 + 4 / 56) - 1 = 3.5 %; a mean over 20 zoos swings by 0.5 / sqrt(2 * 1280),
    2 %, so that from -2 % to 9 % is what may be.
    """
    squares = []
    for seed in range(20):
        problem = zoo(seed, n_models=8, coefficients=(1.0, -0.5, 0.0))
        predicted = held_out(named(problem, ALONE), problem.frame, fold_numbers(problem.frame["fold"]))
        squares.append(np.square(predicted - problem.frame["y"]).mean())
    assert 0.98 * 0.5 < np.sqrt(np.mean(squares)) < 1.09 * 0.5


def test_errors_of_families_not_seen_hold_the_effect_of_a_family() -> None:
    """Noise of 0.5 and families of 0.5 make sqrt(0.5) = 0.71; their mean is of 7 families only, which adds 1 / 7."""
    squares = []
    for seed in range(30):
        problem = zoo(seed, n_models=8, family_effect=0.5)
        predicted = held_out(named(problem, ALONE), problem.frame, fold_numbers(problem.frame["fold"]))
        squares.append(np.square(predicted - problem.frame["y"]).mean())
    assert np.sqrt(np.mean(squares)) == pytest.approx(np.sqrt(0.25 + 0.25 * (1 + 1 / 7)), rel=0.1)


def test_errors_are_in_the_unit_of_the_problem(without_intervals: None) -> None:
    """Mean absolute errors in accuracy, root mean squares in log odds: both by hand."""
    problem = task_zoo(2, n_tasks=8)
    frame, found = problem.frame, validate(problem, n_permutations=1, seed=0)
    folds = fold_numbers(frame["fold"])
    for predictor in problem.predictors:
        fitted = held_out(predictor, frame, folds)
        by_hand = 0.1 + 0.9 / (1 + np.exp(-fitted))
        np.testing.assert_allclose(found.predictions[predictor.name], by_hand, rtol=1e-12)
        errors = errors_of(found, predictor.name)
        assert errors.mean_absolute_error == pytest.approx(np.abs(by_hand - frame["accuracy"]).mean(), abs=1e-6)
        assert errors.root_mean_squared_error == pytest.approx(np.sqrt(np.square(fitted - frame["y"]).mean()), abs=1e-6)
        assert errors.n_rows == len(frame)
    np.testing.assert_array_equal(found.truth, frame["accuracy"])
    baseline = errors_of(found, compared(found).baseline).mean_absolute_error
    assert compared(found).difference == pytest.approx(errors_of(found, ALONE).mean_absolute_error - baseline, abs=2e-6)


def test_a_model_is_held_against_a_baseline_on_the_rows_that_both_predict(without_intervals: None) -> None:
    problem = only(zoo(0, n_models=3), SIBLING, ALONE)
    found = validate(problem, n_permutations=1, seed=0)
    known = problem.frame["sibling_ability"].notna().to_numpy()
    absolute = {name: np.abs(values - found.truth)[known] for name, values in found.predictions.items()}
    assert (compared(found).n_rows, errors_of(found, SIBLING).n_rows, errors_of(found, ALONE).n_rows) == (16, 16, 24)
    assert compared(found).difference == pytest.approx((absolute[ALONE] - absolute[SIBLING]).mean(), abs=1e-6)


# Intervals of predictions.


def coverage(n_zoos: int, **planted: float) -> dict[str, Array]:
    """By level, the share of the held-out rows inside, for each of `n_zoos` zoos of 8 families of 7 models.

    49 rows are left to rank: 80 and 90 % of 50 are whole numbers, so that rounding up to a rank adds nothing.
    """
    found: dict[str, list[float]] = {level: [] for level in FEWEST_ROWS}
    for seed in range(n_zoos):
        problem = zoo(seed, n_models=7, coefficients=(1.0, 0.0), **planted)
        y = problem.frame["y"].to_numpy()
        intervals = held_out_intervals(named(problem, ALONE), problem, fold_numbers(problem.frame["fold"]))
        for level, ends in intervals.items():
            found[level].append(float(((y >= ends[:, 0]) & (y <= ends[:, 1])).mean()))
    return {level: np.array(shares) for level, shares in found.items()}


@pytest.mark.parametrize("n_zoos", [pytest.param(15, id="few"), pytest.param(200, marks=pytest.mark.long, id="many")])
def test_intervals_cover_at_their_rate_where_families_are_alike(n_zoos: int) -> None:
    """Within 3 points, and 2 standard errors over zoos of what few of them can tell. 200 say 80.3 and 90.5 %."""
    for level, shares in coverage(n_zoos).items():
        error = shares.std(ddof=1) / np.sqrt(n_zoos) if n_zoos < 200 else 0.0
        assert abs(shares.mean() - int(level) / 100) < 0.03 + 2 * error


@pytest.mark.parametrize("n_zoos", [pytest.param(10, id="few"), pytest.param(200, marks=pytest.mark.long, id="many")])
def test_intervals_of_families_that_differ_cover_a_little_less(n_zoos: int) -> None:
    """Families that differ as much as models do: 80 and 89 % of 50 such zoos. Twice as much: 79 and 88 %."""
    for level, shares in coverage(n_zoos, family_effect=0.5).items():
        error = shares.std(ddof=1) / np.sqrt(n_zoos) if n_zoos < 200 else 0.0
        assert abs(shares.mean() - int(level) / 100) < 0.05 + 2 * error


def test_intervals_are_those_of_the_paper() -> None:
    """CV+ by its definition, written out: quantiles over rows of what the fit without its group says, plus and minus
    how far that fit is off the row."""
    rng = np.random.default_rng(0)
    sizes = (3, 5, 1, 4, 2, 4, 2)
    groups = np.repeat(np.arange(7), sizes)
    columns = rng.normal(size=(21, 4))
    y = columns @ [1.0, 0.5, 0.0, 0.0] + 0.5 * rng.normal(size=21)
    inputs, wanted = np.column_stack([groups, columns]), np.column_stack([np.zeros(30), rng.normal(size=(30, 4))])
    lows, highs = [], []
    for row in range(21):
        others = groups != groups[row]
        regression = GroupedRidge().fit(inputs[others], y[others])
        residual = abs(y[row] - regression.predict(inputs[row : row + 1])[0])
        lows.append(regression.predict(wanted) - residual)
        highs.append(regression.predict(wanted) + residual)
    found = jackknife_plus(inputs, y, wanted)
    for level, rank in (("80", 18), ("90", 20)):  # of 22: rounded up, 0.8 * 22 = 17.6 and 0.9 * 22 = 19.8
        expected = np.column_stack([np.sort(lows, axis=0)[21 - rank], np.sort(highs, axis=0)[rank - 1]])
        np.testing.assert_allclose(found[level], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("n_rows", "levels"), [(5, set()), (6, {"80"}), (11, {"80"}), (12, {"80", "90"}), (30, {"80", "90"})]
)
def test_intervals_need_rows_enough(n_rows: int, levels: set[str]) -> None:
    rng = np.random.default_rng(0)
    inputs = np.column_stack([np.arange(n_rows) % 7, rng.normal(size=n_rows)])
    found = jackknife_plus(inputs, rng.normal(size=n_rows), inputs[:4])
    assert set(found) == levels
    for ends in found.values():
        assert ends.shape == (4, 2) and np.isfinite(ends).all() and (ends[:, 0] < ends[:, 1]).all()
    for n_groups, allowed in ((1, set()), (3, set()), (4, {"80"}), (6, {"80"})):
        inputs[:, 0] = np.arange(n_rows) % n_groups
        assert set(jackknife_plus(inputs, rng.normal(size=n_rows), inputs[:4])) == levels & allowed


def test_an_end_beyond_what_answers_can_tell_takes_the_whole_way() -> None:
    problem = in_accuracy(changed(zoo(0, n_families=1), n_answered=[1.0, 10.0, 100.0, 1000.0], chance=0.25))
    edges = np.log([3.0, 21.0, 201.0, 2001.0])
    ends = in_unit_to_the_edge(np.column_stack([-edges, edges]), problem)
    np.testing.assert_array_equal(ends, [[0.0, 1.0]] * 4)
    ends = in_unit_to_the_edge(np.column_stack([-0.9 * edges, 0.9 * edges]), problem)
    np.testing.assert_allclose(ends[:, 0], accuracy_of(-0.9 * edges, 0.25))
    np.testing.assert_allclose(ends[:, 1], accuracy_of(0.9 * edges, 0.25))
    bits = np.array([[-1e3, 1e3]] * 4)
    np.testing.assert_array_equal(in_unit_to_the_edge(bits, replace(problem, unit="bits")), bits)


def test_coverage_is_the_share_of_rows_inside() -> None:
    problem = in_accuracy(only(zoo(0, n_families=8, n_models=4), MEAN, ALONE))
    found = validate(problem, n_permutations=1, seed=0)
    assert set(found.intervals) == {ALONE} and set(errors_of(found, ALONE).coverage) == {"80", "90"}
    for level, ends in found.intervals[ALONE].items():
        assert ((ends >= 0) & (ends <= 1)).all()
        inside = [low <= accuracy <= high for (low, high), accuracy in zip(ends, found.truth, strict=True)]
        assert errors_of(found, ALONE).coverage[level] == Covered(n_inside=int(sum(inside)), n_rows=len(inside))


def test_a_constant_target_is_predicted_and_nothing_is_claimed() -> None:
    problem = only(changed(zoo(0, n_families=8, n_models=2), y=1.5), MEAN, SIZE, ALONE)
    found = validate(problem, n_permutations=9, seed=0)
    for one in found.errors:
        assert one.mean_absolute_error == one.root_mean_squared_error == 0
    np.testing.assert_allclose(found.intervals[ALONE]["80"], 1.5, atol=1e-12)
    assert not compared(found).beats and not any(one.survives for one in found.importances)


def test_a_target_that_is_not_a_number_is_refused() -> None:
    problem = zoo(0, n_models=2)
    with pytest.raises(ValueError, match="y contains NaN"):
        validate(changed(problem, y=problem.frame["y"].where(problem.frame.index != 3)), n_permutations=1, seed=0)


# Permutations and p-values.


def test_units_change_places_within_blocks_and_keep_their_rows_in_order() -> None:
    frame = pd.DataFrame(
        {
            "unit": ["a", "b", "a", "c", "c", "b", "d", "e", "f", "g", "g", "g"],
            "block": ["1", "1", "1", "1", "1", "1", "1", "1", "2", "2", "2", "2"],
            "n_shots": [1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0],
        }
    )
    orders = permutations(frame, 400, np.random.default_rng(0))
    assert orders.shape == (400, 12)
    pairs = {"a": (0, 2), "b": (1, 5), "c": (3, 4)}
    seen = set()
    for order in orders:
        assert sorted(order) == list(range(12))
        np.testing.assert_array_equal(order[8:], [8, 9, 10, 11])  # alone of its size in its block
        assert tuple(order[6:8]) in {(6, 7), (7, 6)}
        moved = tuple(tuple(int(order[row]) for row in rows) for rows in pairs.values())
        assert sorted(moved) == sorted(pairs.values())
        seen.add((moved, tuple(order[6:8])))
    assert len(seen) == 6 * 2  # all there are
    counts = pd.Series([tuple(order[:6]) for order in orders]).value_counts()
    assert stats.chisquare(counts).pvalue > 0.001  # and as often as each other


def test_p_counts_permutations_that_do_as_well_and_the_one_that_is() -> None:
    """Against a loop that fits each permutation by itself."""
    problem = zoo(1, n_families=4, n_models=3, coefficients=(0.15, 0.0))
    frame, folds, predictor = problem.frame, fold_numbers(problem.frame["fold"]), named(problem, ALONE)
    y = frame["y"].to_numpy()

    def error(target: Array) -> float:
        return float(np.square(held_out(predictor, frame.assign(y=target), folds) - target).mean())

    n_as_well = sum(error(y[order]) <= error(y) for order in permutations(frame, 19, np.random.default_rng(5)))
    p = permutation_p(predictor, frame, folds, 19, np.random.default_rng(5))
    assert p == (1 + n_as_well) / 20 and 1 / 20 < p < 1  # else all loops would agree


def p_values(problems: Sequence[Problem], name: str, n: int = 99) -> Array:
    """Those that `validate` comes to with the place of the problem as its seed."""
    return np.array(
        [
            permutation_p(
                named(one, name), one.frame, fold_numbers(one.frame["fold"]), n, np.random.default_rng([seed, 1])
            )
            for seed, one in enumerate(problems)
        ]
    )


def null_zoos(kind: str, n: int) -> list[Problem]:
    """Performance that does not depend on emergence; it does on what is cheap."""
    match kind:
        case "models":
            return [zoo(seed, coefficients=(0.0, 0.0), size=1.0) for seed in range(n)]
        case "families that differ":
            effects = {"family_effect": 1.0, "feature_family_effect": 1.0}
            return [zoo(seed, coefficients=(0.0, 0.0), size=1.0, **effects) for seed in range(n)]
        case _:
            return [task_zoo(seed, n_tasks=8, coefficients=(0.0, 0.0), task_effect=0.5) for seed in range(n)]


N_NULL = [pytest.param(30, id="few"), pytest.param(300, marks=pytest.mark.long, id="many")]


@pytest.mark.usefixtures("without_intervals")
@pytest.mark.parametrize("n_zoos", N_NULL)
@pytest.mark.parametrize("kind", ["models", "families that differ", "tasks"])
@pytest.mark.parametrize("name", [ALONE, BESIDE])
def test_of_nothing_p_is_uniform_and_nothing_is_claimed(kind: str, name: str, n_zoos: int) -> None:
    """Kolmogorov and Smirnov would refuse one in a thousand right ones; so would the binomial bounds."""
    zoos = null_zoos(kind, n_zoos)
    found = p_values(zoos, name)
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert abs(found.mean() - 0.505) < 3.3 * np.sqrt(1 / 12 / n_zoos)  # of 0.01, 0.02 ... 1
    most = stats.binom.ppf(0.999, n_zoos, SIGNIFICANT)
    small = np.flatnonzero(found <= SIGNIFICANT)
    assert len(small) <= most
    for seed in small:  # elsewhere there is no claim
        comparison = compared(validate(zoos[seed], n_permutations=99, seed=int(seed)), name)
        assert comparison.p_value == pytest.approx(found[seed])
        if comparison.beats:
            assert comparison.high is not None and comparison.high < 0


def test_of_much_p_is_small_and_it_is_claimed(without_intervals: None) -> None:
    """Emergence explains four fifths of the variance and what is cheap explains none."""
    zoos = [zoo(seed) for seed in range(15)]
    for name in (ALONE, BESIDE):
        assert (p_values(zoos, name) <= SIGNIFICANT).mean() >= 0.95
    zoos = [zoo(seed, n_families=12, family_effect=0.3) for seed in range(3)]
    for seed, problem in enumerate(zoos):
        for comparison in validate(problem, n_permutations=49, seed=seed).comparisons:
            assert comparison.beats and comparison.p_value <= SIGNIFICANT
            assert comparison.high is not None and comparison.high < 0 and comparison.n_folds == 12
            assert comparison.verdict.startswith(f"{comparison.predictor} beats its baseline ({comparison.baseline})")


def test_where_nothing_can_change_places_nothing_is_claimed(without_intervals: None) -> None:
    """One model a family: each permutation is what is."""
    found = validate(only(zoo(0, n_families=9, n_models=1), MEAN, ALONE), n_permutations=19, seed=0)
    assert compared(found).p_value == 1 and not compared(found).beats


# Verdicts.


def test_seven_families_allow_no_interval_and_no_claim(without_intervals: None) -> None:
    found = validate(zoo(0, n_families=7, noise=0.1), n_permutations=49, seed=0)
    for comparison in found.comparisons:
        assert (comparison.low, comparison.high, comparison.beats) == (None, None, False)
        assert comparison.n_folds == comparison.n_folds_better == 7 and comparison.p_value == 0.02
        assert "does not beat its baseline" in comparison.verdict
        assert "; 7 families are too few for an interval (smaller in 7 of them); permutation" in comparison.verdict
    assert all(one.low is None and one.high is None for one in found.errors)


def test_tasks_are_called_tasks(without_intervals: None) -> None:
    comparison = compared(validate(task_zoo(0, n_tasks=7, noise=0.1), n_permutations=49, seed=0))
    assert "7 tasks are too few for an interval" in comparison.verdict and " of accuracy smaller" in comparison.verdict


def test_a_tie_is_no_win(without_intervals: None) -> None:
    """A baseline that is given the same predicts the same; of equal baselines the last by name is held against."""
    problem = only(zoo(0, n_models=2), ALONE)
    twins = [Predictor(name=name, role="baseline", columns=("feature_0", "feature_1")) for name in ("b", "c", "a")]
    comparison = compared(
        validate(replace(problem, predictors=(*twins, *problem.predictors)), n_permutations=49, seed=0)
    )
    assert (comparison.difference, comparison.low, comparison.high, comparison.n_folds_better) == (0, 0, 0, 0)
    assert comparison.baseline == "c" and comparison.p_value <= 0.05 and not comparison.beats
    assert "does not beat its baseline (c): its held-out error is 0.000 bits larger" in comparison.verdict


def test_it_is_held_against_the_baseline_that_it_does_worst_against(without_intervals: None) -> None:
    found = validate(zoo(1, n_models=2, coefficients=(0.3, 0.0), size=1.0), n_permutations=1, seed=0)
    errors = {one.name: one.mean_absolute_error for one in found.errors}
    assert compared(found).baseline == SIZE and errors[SIZE] < min(errors[MEAN], errors[SIBLING])
    assert compared(found).difference == pytest.approx(errors[ALONE] - errors[SIZE], abs=2e-6)


def test_no_baseline_that_says_anything_is_refused() -> None:
    with pytest.raises(UsageError, match="emergence: no baseline predicts the rows that it predicts"):
        validate(zoo(0, n_families=1), n_permutations=1, seed=0)


EARNED = {
    "predictor": ALONE, "baseline": MEAN, "n_rows": 20, "n_folds": 8, "difference": -0.1, "low": -0.2, "high": -0.01,
    "n_folds_better": 8, "p_value": 0.05, "beats": True, "verdict": "emergence beats its baseline",
}  # fmt: skip


@pytest.mark.parametrize("lacking", [{"p_value": 0.051}, {"high": 0.0}, {"high": 0.01}, {"low": None, "high": None}])
def test_a_claim_that_is_not_earned_cannot_be_written(lacking: dict[str, float | None]) -> None:
    assert Comparison(**EARNED).beats
    with pytest.raises(ValidationError, match="only with an interval below 0 and p of at most 0.05"):
        Comparison(**EARNED | lacking)
    assert not Comparison(**EARNED | lacking | {"beats": False}).beats


def test_an_interval_over_folds_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    folds = np.repeat(np.arange(9) * 2, rng.integers(1, 6, size=9))  # numbers with gaps, unequal sizes
    values = rng.normal(size=len(folds))
    labels = sorted(set(folds.tolist()))
    drawn = np.random.default_rng(11).integers(9, size=(N_BOOTSTRAPS, 9))
    means = [np.mean(np.concatenate([values[folds == labels[place]] for place in draw])) for draw in drawn]
    assert over_folds(values, folds, 11) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    for n_folds, is_enough in ((7, False), (8, True)):
        assert (over_folds(np.arange(20.0), np.arange(20) % n_folds, 0) is not None) == is_enough


def test_an_interval_over_folds_has_the_width_of_whole_folds() -> None:
    """Ten copies of a row tell no more than one."""
    values = np.random.default_rng(0).normal(size=30)
    once, often = (over_folds(np.repeat(values, n), np.repeat(np.arange(30), n), 0) for n in (1, 10))
    assert once == pytest.approx(often)
    assert once is not None and once[1] - once[0] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(30), rel=0.1)


# What features do.


def test_the_feature_that_was_planted_survives(without_intervals: None) -> None:
    found = validate(only(zoo(0, n_models=6, coefficients=(1.0, 0.0, -1.0)), MEAN, ALONE), n_permutations=1, seed=0)
    rising, nothing, falling = found.importances
    assert [one.feature for one in found.importances] == ["feature_0", "feature_1", "feature_2"]
    for one, sign in ((rising, 1), (falling, -1)):  # standard normal: a standard error of 0.5 / sqrt(42) = 0.08
        assert one.survives and one.coefficient == pytest.approx(sign, abs=0.25) and one.error_increase > 0.3
        assert one.lowest <= one.coefficient <= one.highest and one.lowest * one.highest > 0
    assert abs(nothing.coefficient) < 0.25 and abs(nothing.error_increase) < 0.05


def test_a_fit_of_thousands_of_rows_takes_seconds() -> None:
    """500 tasks at 20 shots, 12 columns, of processor time."""
    problem = task_zoo(0, n_tasks=500, n_shots=20, coefficients=(1.0, 0.5) + (0.0,) * 8)
    before = time.process_time()
    found = validate(problem, n_permutations=199, seed=0)
    assert time.process_time() - before < 20
    assert all(one.beats for one in found.comparisons)
    for level, share in errors_of(found, BESIDE).coverage.items():  # 10,000 rows: a standard error of 0.4 points
        assert share.n_inside / share.n_rows == pytest.approx(int(level) / 100, abs=0.015)


def test_of_nothing_beside_much_that_is_cheap_p_is_uniform() -> None:
    """Three columns that explain nine tenths, one of emergence that explains nothing. As above, 1 in 1000."""
    cheap = ("feature_0", "feature_1", "feature_2")
    beside = Predictor(name=BESIDE, role="both", columns=(*cheap, "feature_3"), given=cheap)
    zoos = [replace(zoo(seed, coefficients=(1.0, -1.0, 0.5, 0.0)), predictors=(beside,)) for seed in range(40)]
    found = p_values(zoos, BESIDE)
    assert abs(found.mean() - 0.505) < 3.3 * np.sqrt(1 / 12 / len(zoos))
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_proxies_that_were_never_asked_leave_the_rest_to_be_fitted() -> None:
    """Base models are asked by completion, a service's model by chat: none of the proxies has an accuracy then."""
    frame = cells_frame(0, n_other_tasks=5)
    is_target = frame["model"] == "model-0-0"
    frame.loc[~is_target, ["accuracy", "ability", "repeats", "n_answered", "chance"]] = np.nan
    frame["mode"] = np.where(is_target, "chat", "")
    problem = cells_problem(frame, target="model-0-0", features=("emergence",), mode="chat")
    found = validate(problem, n_permutations=9, seed=0)
    assert {one.predictor for one in found.comparisons} == {ALONE, BESIDE}
    assert [one.n_rows for one in found.errors if one.name == "the proxies' accuracy"] == [0]


def test_what_is_rounded_is_what_is_judged(without_intervals: None) -> None:
    """An interval that ends below 0 by less than is written down: no claim, and no claim that cannot be written."""
    problem = zoo(0)
    tiny = only(changed(problem, y=problem.frame["y"] * 1e-7), MEAN, ALONE)
    comparison = compared(validate(tiny, n_permutations=49, seed=0))
    assert comparison.high == 0 and comparison.p_value <= SIGNIFICANT and not comparison.beats


@pytest.mark.parametrize("n_groups", [4, 8])
def test_intervals_are_those_of_mapie(n_groups: int) -> None:
    rng = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), 7)
    inputs = np.column_stack([groups, rng.normal(size=(len(groups), 3))])
    y = inputs[:, 1] + rng.normal(size=len(groups))
    wanted = np.column_stack([np.zeros(11), rng.normal(size=(11, 3))])
    oracle = CrossConformalRegressor(
        estimator=GroupedRidge(), confidence_level=[0.8, 0.9], method="plus", cv=PredefinedSplit(groups)
    ).fit_conformalize(inputs, y)
    _, ends = oracle.predict_interval(wanted)
    found = jackknife_plus(inputs, y, wanted)
    assert set(found) == ({"80"} if n_groups == 4 else {"80", "90"})
    for place, level in enumerate(found):
        assert found[level] == pytest.approx(ends[:, :, place], abs=1e-12)


def test_of_nothing_hardly_any_feature_survives() -> None:
    """Five features of 40 zoos that say nothing: Student's interval lets one in forty pass, the sign fewer."""
    survivors = [
        one.survives
        for seed in range(40)
        for one in validate(
            only(zoo(seed, n_families=8, n_models=4, coefficients=(0.0,) * 5), MEAN, ALONE), n_permutations=1, seed=0
        ).importances
    ]
    assert len(survivors) == 200 and sum(survivors) <= 12


def test_medians_are_of_the_other_folds_and_of_equal_rows() -> None:
    problem = in_accuracy(only(zoo(0, n_families=4, n_models=3), MEAN, ALONE))
    frame = problem.frame.assign(n_shots=[1.0, 2.0, 4.0] * 4)
    plain = (
        Predictor(name="median", role="baseline", median_of=()),
        Predictor(name="at these shots", role="baseline", median_of=("n_shots",)),
    )
    found = validate(replace(problem, frame=frame, predictors=(*problem.predictors, *plain)), n_permutations=1, seed=0)
    truth = frame["accuracy"].to_numpy()
    for place in range(len(frame)):
        others = found.folds != found.folds[place]
        equal = others & (frame["n_shots"] == frame["n_shots"].iloc[place]).to_numpy()
        assert found.predictions["median"][place] == pytest.approx(np.median(truth[others]))
        assert found.predictions["at these shots"][place] == pytest.approx(np.median(truth[equal]))
    assert errors_of(found, "median").root_mean_squared_error is None
