"""Held-out errors, intervals and verdicts: whether a prediction from emergence does better than cheaper ones.

Everything that is fitted, scaling, imputation and strength of the penalty included, is fitted without the fold it
predicts. Folds are whole families or whole tasks, never rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import UsageError
from bench.fits import Comparison, Covered, Excluded, Importance, Level, PredictorErrors, Role, Unit
from bench.intervals import T_95
from bench.records import rounded
from proxies.ability import accuracy_of
from proxies.grouped_ridge import GroupedRidge, dealt_out

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MOST_FOLDS = 40
"""Up to so many families or tasks are left out one by one; more are dealt out, whole, into `FOLDS_OF_MANY` folds."""
FOLDS_OF_MANY = 10

FEWEST_FOLDS_FOR_INTERVALS = 8
"""With fewer clusters a bootstrap over them draws the same few again and again, and its intervals are too narrow."""

FEWEST_ROWS: dict[Level, int] = {"80": 6, "90": 12}
"""Rows that an interval of a prediction needs: jackknife+ ranks residuals, and of 8 of them none is a 90 % quantile."""

FEWEST_GROUPS: dict[Level, int] = {"80": 4, "90": 7}
"""Groups that it needs, for rows of one group are off together: of four groups the worst is an 80 % quantile. By that
count 90 % would take nine; with what differs within groups seven do, on planted zoos (tests)."""

SHARE_TO_COMPARE = 0.5
"""Of the rows on trial, that a baseline must predict to be held against: else few rows would decide, by chance."""

N_HALVINGS = 60
"""Of the range that an end of an interval is in: as far as doubles go."""

N_BOOTSTRAPS = 4000
N_SHUFFLES = 20

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """One way to predict.

    Attributes:
        columns: of the frame, given to the regression; none: the mean of the training rows.
        given: those of them that are no emergence: what the permutation test takes for granted.
        as_is: a column that is the prediction itself, on the scale of the fit; nothing is fitted then.
        in_unit: a column that is the prediction itself, in the unit of the problem.
        median_of: the prediction is the median of training rows that are equal in these columns, of all where none is:
            the constant with the least absolute error, and what anybody would say without a fit.
        needs_all: whether a row that lacks a column is left out, in training too; else the column is imputed.
    """

    name: str
    role: Role
    columns: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    as_is: str | None = None
    in_unit: str | None = None
    median_of: tuple[str, ...] | None = None
    needs_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Rows to be predicted, and by what.

    Attributes:
        frame: one row a unit of observation, with the columns `y` (on the scale of the fit, finite), `fold`, `unit` and
            `block` (permutations exchange units within a block, all rows of a unit together), `model`, `family`,
            `task`, `n_shots`, for accuracy `accuracy`, `chance` and `n_answered`, and those of the predictors.
    """

    frame: pd.DataFrame
    unit: Unit
    fold_unit: Literal["task", "family"]
    predictors: tuple[Predictor, ...]
    proxies: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What came of a problem; arrays have one entry a row, NaN where there is no prediction.

    Attributes:
        predictions: by predictor, in the unit of the problem, held out.
        intervals: by predictor and level, (n_rows, 2).
    """

    folds: Integers
    truth: Array
    predictions: dict[str, Array]
    intervals: dict[str, dict[Level, Array]]
    errors: tuple[PredictorErrors, ...]
    comparisons: tuple[Comparison, ...]
    importances: tuple[Importance, ...]


def validate(problem: Problem, *, n_permutations: int, seed: int) -> Validation:
    """Predict every row from the other folds, and compare."""
    frame = problem.frame
    if not np.isfinite(frame["y"]).all():
        raise ValueError("y contains NaN or infinity; leave rows without a target out of the problem")
    folds = fold_numbers(frame["fold"])
    truth = _truth(problem)
    plain = {one.name: said for one in problem.predictors if (said := _plain(one, frame, folds, truth)) is not None}
    fitted = {one.name: held_out(one, frame, folds) for one in problem.predictors if one.name not in plain}
    predictions = plain | {name: in_unit(values, problem) for name, values in fitted.items()}
    intervals = {
        one.name: held_out_intervals(one, problem, folds) for one in problem.predictors if one.role != "baseline"
    }
    errors = tuple(
        _errors(
            one, problem, folds, fitted.get(one.name), predictions[one.name], truth, intervals.get(one.name, {}), seed
        )
        for one in problem.predictors
    )
    comparisons = tuple(
        _compare(one, problem, folds, predictions, truth, n_permutations, seed)
        for one in problem.predictors
        if one.role != "baseline"
    )
    alone = next((one for one in problem.predictors if one.role == "tested"), None)
    return Validation(
        folds=folds,
        truth=truth,
        predictions=predictions,
        intervals=intervals,
        errors=errors,
        comparisons=comparisons,
        importances=() if alone is None else _importances(alone, problem, folds, truth, seed),
    )


def fold_numbers(labels: pd.Series) -> Integers:
    """The fold of each row, from 0: one for each label, or few folds of whole labels where there are many."""
    n_labels = labels.nunique()
    return dealt_out(pd.factorize(labels, sort=True)[0], n_labels if n_labels <= MOST_FOLDS else FOLDS_OF_MANY)


def _plain(predictor: Predictor, frame: pd.DataFrame, folds: Integers, truth: Array) -> Array | None:
    """Predictions of a predictor that fits nothing, in the unit of the problem; None of any other."""
    if predictor.in_unit is not None:
        there: Array = frame[predictor.in_unit].to_numpy(dtype=np.float64)
        return there
    if predictor.median_of is None:
        return None
    found = np.full(len(truth), np.nan)
    for fold in range(folds.max() + 1):
        training, test = folds != fold, folds == fold
        if training.any():
            found[test] = medians(predictor, frame[training], truth[training], frame[test])
    return found


def medians(predictor: Predictor, training: pd.DataFrame, truth: Array, wanted: pd.DataFrame) -> Array:
    """Of the training rows that are equal in the columns `median_of`; of all training rows where none is."""
    columns = list(predictor.median_of or ())
    overall = float(np.median(truth))
    if not columns:
        return np.full(len(wanted), overall)
    by_key = training.assign(truth=truth).groupby(columns)["truth"].median()
    keys = [tuple(row) if len(columns) > 1 else row[0] for row in wanted[columns].to_numpy().tolist()]
    return np.array([by_key.get(key, overall) for key in keys], dtype=np.float64)


def held_out(predictor: Predictor, frame: pd.DataFrame, folds: Integers, targets: Array | None = None) -> Array:
    """Predictions on the scale of the fit, each from the other folds; NaN where there is nothing to go by.

    Args:
        targets: shape (n_rows, n_targets), instead of the column `y`.

    Returns:
        Shape (n_rows,), or that of `targets`.
    """
    y = frame["y"].to_numpy() if targets is None else targets
    if predictor.as_is is not None:
        as_it_is: Array = frame[predictor.as_is].to_numpy(dtype=np.float64)
        return as_it_is
    inputs, usable = _inputs(predictor, frame)
    found = np.full(y.shape, np.nan)
    for fold in range(folds.max() + 1):
        training, test = usable & (folds != fold), usable & (folds == fold)
        if training.any() and test.any():
            found[test] = GroupedRidge().fit(inputs[training], y[training]).predict(inputs[test])
    return found


def held_out_intervals(predictor: Predictor, problem: Problem, folds: Integers) -> dict[Level, Array]:
    """Jackknife+ intervals in the unit of the problem, each from the other folds, left out one by one in turn.

    They cover at the stated rate if the fold is one of a kind with the others, which a family never quite is.
    """
    inputs, usable = _inputs(predictor, problem.frame)
    y = problem.frame["y"].to_numpy()
    found: dict[Level, Array] = {level: np.full((len(y), 2), np.nan) for level in FEWEST_ROWS}
    for fold in range(folds.max() + 1):
        training, test = usable & (folds != fold), usable & (folds == fold)
        if test.any():
            for level, ends in jackknife_plus(inputs[training], y[training], inputs[test]).items():
                found[level][test] = ends
    return {level: in_unit_to_the_edge(ends, problem) for level, ends in found.items() if not np.isnan(ends).all()}


def jackknife_plus(inputs: Array, y: Array, wanted: Array) -> dict[Level, Array]:
    """Both ends of the interval of each row of `wanted`, (n, 2), by level: none without enough rows and groups.

    Equal to MAPIE's `CrossConformalRegressor` with method "plus" (tested against it), which takes minutes for ten
    thousand rows where this takes seconds.

    Args:
        inputs: column 0 is the group of a row; whole groups are left out.

    Source: Barber et al. 2021, "Predictive inference with the jackknife+", section 3.2 (CV+).
    """
    n = len(y)
    n_groups = len(np.unique(inputs[:, 0]))
    ranks: dict[Level, int] = {
        level: math.ceil(round((n + 1) * int(level) / 100, 9))
        for level in FEWEST_ROWS
        if n >= FEWEST_ROWS[level] and n_groups >= FEWEST_GROUPS[level]
    }
    if not ranks:
        return {}
    folds = dealt_out(inputs[:, 0], FOLDS_OF_MANY)
    said, residuals = [], []  # of each fold, by the fit without it
    for fold in range(folds.max() + 1):
        left_out = folds == fold
        regression = GroupedRidge().fit(inputs[~left_out], y[~left_out])
        said.append(regression.predict(wanted))
        residuals.append(np.sort(np.abs(y[left_out] - regression.predict(inputs[left_out]))))
    centres = np.stack(said)  # (n_folds, n)
    return {
        level: np.column_stack([-_ranked(-centres, residuals, rank), _ranked(centres, residuals, rank)])
        for level, rank in ranks.items()
    }


def _ranked(centres: Array, residuals: Sequence[Array], rank: int) -> Array:
    """The `rank`-th smallest of centre + residual over all residuals, (n,), by halving the range that it is in.

    Args:
        centres: of each fold, (n_folds, n).
        residuals: of each fold, in order.
    """
    low = centres.min(axis=0) + min(one[0] for one in residuals)
    high = centres.max(axis=0) + max(one[-1] for one in residuals)
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        below = sum(np.searchsorted(one, middle - at, side="right") for one, at in zip(residuals, centres, strict=True))
        low, high = np.where(below >= rank, low, middle), np.where(below >= rank, middle, high)
    found: Array = high
    return found


def in_unit_to_the_edge(ends: Array, problem: Problem) -> Array:
    """Ends of intervals, (n_rows, 2), in the unit of the problem.

    What the answers of a row cannot tell from 0 or 1 is an ability of at most log(2n + 1) in size: an end there, or
    beyond, takes the whole way to 0 or 1.
    """
    if problem.unit == "bits":
        return ends
    edges = np.log(2 * problem.frame["n_answered"].to_numpy() + 1) * (1 - 1e-9)
    low, high = (in_unit(ends[:, side], problem) for side in (0, 1))
    return np.column_stack([np.where(ends[:, 0] <= -edges, 0.0, low), np.where(ends[:, 1] >= edges, 1.0, high)])


def permutations(frame: pd.DataFrame, n: int, rng: np.random.Generator) -> Integers:
    """Orders of the rows, (n, n_rows): units of one block with rows at the same shots change places."""
    orders = np.tile(np.arange(len(frame)), (n, 1))
    members = [np.asarray(rows) for rows in frame.groupby("unit", sort=True).indices.values()]
    kinds: dict[tuple[object, str], list[Integers]] = {}
    for rows in members:
        shots = ",".join(map(str, frame["n_shots"].iloc[rows]))
        kinds.setdefault((frame["block"].iloc[rows[0]], shots), []).append(rows)
    for units in kinds.values():
        stacked = np.stack(units)  # (n_units, n_rows_of_a_unit)
        for order in orders:
            order[stacked] = stacked[rng.permutation(len(stacked))]
    return orders


def permutation_p(
    predictor: Predictor, frame: pd.DataFrame, folds: Integers, n: int, rng: np.random.Generator
) -> float:
    """How often a prediction does as well with emergence at random: 1 + how many, over 1 + n.

    What the columns `given` explain stays with its row; the rest of the target changes places. The statistic is the
    held-out squared error on the scale of the fit, over that of a fit on the columns `given` alone: a ratio hardly
    depends on how much these explain (tests).

    Source: Freedman & Lane 1983, "A nonstochastic interpretation of reported significance levels".
    """
    y = frame["y"].to_numpy()
    explained = _explained(frame, predictor.given)
    residuals = (y - explained)[permutations(frame, n, rng)]  # (n, n_rows)
    targets = np.column_stack([y, *(explained + residuals)])
    cheap = Predictor(name="what is given", role="baseline", columns=predictor.given)
    with_it, without = (
        np.nanmean(np.square(held_out(one, frame, folds, targets) - targets), axis=0) for one in (predictor, cheap)
    )
    errors = with_it / np.maximum(without, np.finfo(np.float64).tiny)
    return float((1 + np.sum(errors[1:] <= errors[0] * (1 + 1e-12))) / (1 + n))


def over_folds(values: Array, folds: Integers, seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of a mean over rows, with whole folds drawn anew; None of too few folds."""
    labels, members = np.unique(folds, return_inverse=True)
    if len(labels) < FEWEST_FOLDS_FOR_INTERVALS:
        return None
    sums, counts = np.bincount(members, weights=values), np.bincount(members)
    drawn = np.random.default_rng(seed).integers(len(labels), size=(N_BOOTSTRAPS, len(labels)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def _inputs(predictor: Predictor, frame: pd.DataFrame) -> tuple[Array, npt.NDArray[np.bool_]]:
    """What the regression is given, the group of a row in column 0; and which rows it can do with."""
    groups = pd.factorize(frame["fold"], sort=True)[0].astype(np.float64)
    columns = frame[list(predictor.columns)].to_numpy(dtype=np.float64)
    usable = ~np.isnan(columns).any(axis=1) if predictor.needs_all else np.ones(len(frame), dtype=np.bool_)
    return np.column_stack([groups, columns]), usable


def _truth(problem: Problem) -> Array:
    truth: Array = problem.frame["accuracy" if problem.unit == "accuracy" else "y"].to_numpy(dtype=np.float64)
    return truth


def in_unit(values: Array, problem: Problem) -> Array:
    """Numbers on the scale of the fit, the last axis a row of the problem each, in its unit."""
    return accuracy_of(values, problem.frame["chance"].to_numpy()) if problem.unit == "accuracy" else values


def _explained(frame: pd.DataFrame, given: Sequence[str]) -> Array:
    """What least squares makes of the target from columns, gaps at their mean; the mean without any."""
    known = [name for name in given if frame[name].notna().any()]
    columns = frame[known].to_numpy(dtype=np.float64)
    columns = np.where(np.isnan(columns), np.nanmean(columns, axis=0) if known else 0.0, columns)
    design = np.column_stack([np.ones(len(frame)), columns])
    found: Array = design @ np.linalg.lstsq(design, frame["y"].to_numpy(), rcond=None)[0]
    return found


def _errors(
    predictor: Predictor,
    problem: Problem,
    folds: Integers,
    fitted: Array | None,
    predicted: Array,
    truth: Array,
    intervals: dict[Level, Array],
    seed: int,
) -> PredictorErrors:
    known = ~np.isnan(predicted)
    absolute = np.abs(predicted - truth)[known]
    between = over_folds(absolute, folds[known], seed) if known.any() else None
    y = problem.frame["y"].to_numpy()
    coverage: dict[Level, Covered] = {}
    for level, ends in intervals.items():
        inside = (truth >= ends[:, 0]) & (truth <= ends[:, 1])
        coverage[level] = Covered(n_inside=int(inside.sum()), n_rows=int((~np.isnan(ends[:, 0])).sum()))
    return PredictorErrors(
        name=predictor.name,
        role=predictor.role,
        columns=predictor.columns,
        n_rows=int(known.sum()),
        mean_absolute_error=rounded(absolute.mean()) if known.any() else None,
        low=None if between is None else rounded(between[0]),
        high=None if between is None else rounded(between[1]),
        root_mean_squared_error=(
            None if fitted is None or not known.any() else rounded(np.sqrt(np.square(fitted - y)[known].mean()))
        ),
        coverage=coverage,
    )


def _compare(
    predictor: Predictor,
    problem: Problem,
    folds: Integers,
    predictions: dict[str, Array],
    truth: Array,
    n_permutations: int,
    seed: int,
) -> Comparison:
    """Against the baseline that it does worst against, on the rows that both predict."""
    differences = {}
    for baseline in problem.predictors:
        if baseline.role == "baseline":
            difference = np.abs(predictions[predictor.name] - truth) - np.abs(predictions[baseline.name] - truth)
            n_predicted = np.sum(~np.isnan(predictions[predictor.name]))
            if np.sum(~np.isnan(difference)) >= max(1, SHARE_TO_COMPARE * n_predicted):
                differences[baseline.name] = difference
    if not differences:
        raise UsageError(f"{predictor.name}: no baseline predicts the rows that it predicts")
    worst = max(differences, key=lambda name: (np.nanmean(differences[name]), name))
    known = ~np.isnan(differences[worst])
    values, at = differences[worst][known], folds[known]
    between = over_folds(values, at, seed)
    by_fold = [values[at == fold].mean() for fold in np.unique(at)]
    p = permutation_p(predictor, problem.frame, folds, n_permutations, np.random.default_rng([seed, 1]))
    mean = float(values.mean())
    beats = between is not None and rounded(between[1]) < 0 and p <= SIGNIFICANT  # as it is written down
    return Comparison(
        predictor=predictor.name,
        baseline=worst,
        n_rows=int(known.sum()),
        n_folds=len(by_fold),
        difference=rounded(mean),
        low=None if between is None else rounded(between[0]),
        high=None if between is None else rounded(between[1]),
        n_folds_better=int(np.sum(np.asarray(by_fold) < 0)),
        p_value=round(p, 6),
        beats=beats,
        verdict=_verdict(problem, predictor.name, worst, mean, between, by_fold, p, predictor.given, beats=beats),
    )


def _verdict(
    problem: Problem,
    name: str,
    baseline: str,
    difference: float,
    between: tuple[float, float] | None,
    by_fold: Sequence[float],
    p: float,
    given: Sequence[str],
    *,
    beats: bool,
) -> str:
    unit = "bits" if problem.unit == "bits" else "of accuracy"
    larger = f"{abs(difference):.3f} {unit} {'larger' if difference >= 0 else 'smaller'}"
    interval = "" if between is None else f", {between[0]:+.3f} to {between[1]:+.3f}"
    opening = (
        f"{name} {'beats' if beats else 'does not beat'} its baseline ({baseline}): its held-out error is {larger}"
    )
    reasons = []
    if between is None and difference < 0:
        n_better = sum(value < 0 for value in by_fold)
        folds = f"{len(by_fold)} {'families' if problem.fold_unit == 'family' else 'tasks'}"
        reasons.append(f"{folds} are too few for an interval (smaller in {n_better} of them)")
    if between is not None and difference < 0 <= rounded(between[1]):
        reasons.append("the interval holds 0")
    if p > SIGNIFICANT and difference < 0:
        reasons.append("emergence at random does as well too often")
    because = f"; {', and '.join(reasons)}" if reasons else ""
    beside = f", with {', '.join(given)} given" if given else ""
    return f"{opening}{interval}{because}; permutation p = {p:.3f}{beside}"


def _importances(
    predictor: Predictor, problem: Problem, folds: Integers, truth: Array, seed: int
) -> tuple[Importance, ...]:
    """Coefficients over the refits, and how the held-out error grows with a feature of another row in its place."""
    inputs, usable = _inputs(predictor, problem.frame)
    y, rng = problem.frame["y"].to_numpy(), np.random.default_rng([seed, 2])
    n_columns = len(predictor.columns)
    orders = np.stack([rng.permutation(len(y)) for _ in range(N_SHUFFLES)])  # (s, n)
    usual = np.full(len(y), np.nan)
    shuffled = np.full((n_columns, N_SHUFFLES, len(y)), np.nan)
    slopes = []
    for fold in range(folds.max() + 1):
        training, test = usable & (folds != fold), usable & (folds == fold)
        if not training.any() or not test.any():
            continue
        regression = GroupedRidge().fit(inputs[training], y[training])
        slopes.append(regression.coef_[:, 0])
        usual[test] = regression.predict(inputs[test])
        scaled = regression.scaling_.transform(inputs[:, 1:])
        for column, slope in enumerate(regression.coef_[:, 0]):
            moved = scaled[:, column][orders[:, test]] - scaled[test, column]  # (s, n_test)
            shuffled[column][:, test] = usual[test] + slope * moved
    errors = np.abs(in_unit(shuffled, problem) - truth) - np.abs(in_unit(usual, problem) - truth)
    known = ~np.isnan(usual)
    by_row = errors[:, :, known].mean(axis=1)  # (n_columns, n)
    increases = by_row.mean(axis=1)
    labels = np.unique(folds[known])
    by_fold = np.stack(
        [by_row[:, folds[known] == fold].mean(axis=1) for fold in labels], axis=1
    )  # (n_columns, n_folds)
    helps = np.zeros(n_columns, dtype=np.bool_)
    if len(labels) > 1:
        quantile = T_95[min(len(labels) - 1, len(T_95)) - 1]
        helps = by_fold.mean(axis=1) > quantile * by_fold.std(axis=1, ddof=1) / np.sqrt(len(labels))
    table = np.array(slopes)  # (n_refits, n_columns)
    signs = np.sign(np.round(table, 9))
    return tuple(
        Importance(
            feature=name,
            coefficient=rounded(table[:, column].mean()),
            lowest=rounded(table[:, column].min()),
            highest=rounded(table[:, column].max()),
            error_increase=rounded(increases[column]),
            survives=bool(abs(signs[:, column].sum()) == len(table) and helps[column]),
        )
        for column, name in enumerate(predictor.columns)
    )
