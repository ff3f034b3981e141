"""Problems -> fits: the record of one, what it says of rows that it has not seen, an estimate of emergence."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import UsageError
from bench.estimates import Source
from bench.fits import (
    FIT_SCHEMA,
    FIT_VERSION,
    PERFORMANCE,
    Between,
    FitKey,
    FitRecord,
    FitRow,
    Level,
    PredictorErrors,
    ProblemName,
)
from bench.provenance import Start, provenance
from bench.records import rounded
from proxies.grouped_ridge import GroupedRidge
from proxies.regression import SHOTS_READ, original_of, performance_features
from proxies.validation import (
    FEWEST_ROWS,
    Predictor,
    Problem,
    Validation,
    in_unit,
    in_unit_to_the_edge,
    jackknife_plus,
    medians,
    validate,
)

MANY_ROWS = 500
"""With more rows fewer permutations are drawn: a p-value in steps of 1/200 is fine enough, and a fit takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Emergence of a model that gives no activations, from what it gets right or from what it writes."""

    model: str
    value_bits: float
    intervals: dict[Level, Between]
    inputs: dict[str, float]
    trained_on: tuple[str, ...]
    left_out: tuple[str, ...]
    """Models of the family that is held out."""
    errors: PredictorErrors
    """Held-out errors of the fit behind it, over families."""
    source: Source = "performance"
    n_questions: int = 0
    """Answers that it is from."""
    family: str | None = None
    """Held out; None where the model is of none of the families measured."""
    n_families: int = 0
    """That it is fitted on."""
    spread_bits: float = 0.0
    """Between the lowest and the highest that the fit says of the models that it is over."""


def key_of(
    problem: Problem,
    *,
    name: ProblemName,
    target: str,
    features: Sequence[str],
    estimator: str,
    mode: str,
    seed: int,
    proxies: Sequence[str] = (),
) -> FitKey:
    """What identifies the fit of a problem."""
    return FitKey(
        schema_version=FIT_SCHEMA,
        fit_version=FIT_VERSION,
        problem=name,
        target=target,
        features=tuple(features),
        proxies=tuple(sorted(set(proxies))),
        estimator=estimator,
        mode=mode,
        n_permutations=999 if len(problem.frame) <= MANY_ROWS else 199,
        seed=seed,
        rows_sha256=rows_sha256(problem),
    )


def rows_sha256(problem: Problem) -> str:
    """Of everything that the fit is given, to 9 significant digits."""
    columns = _columns(problem)
    ordered = problem.frame[["model", "family", "task", "n_shots", "fold", "unit", "block", "y", *columns]]
    text = ordered.to_csv(index=False, float_format="%.9g")
    described = repr(
        [
            (one.name, one.columns, one.given, one.as_is, one.in_unit, one.median_of, one.needs_all)
            for one in problem.predictors
        ]
    )
    beside = repr((problem.proxies, problem.tasks, problem.excluded, problem.remarks))
    return hashlib.sha256((text + described + beside).encode("utf-8", "surrogatepass")).hexdigest()


def fit(problem: Problem, key: FitKey, *, command: str, start: Start, before: float) -> FitRecord:
    """Validate a problem and make its record.

    Args:
        before: what `time.perf_counter` said when the work began.
    """
    found = validate(problem, n_permutations=key.n_permutations, seed=key.seed)
    seconds = time.perf_counter() - before
    return FitRecord(
        schema_version=FIT_SCHEMA,
        key=key,
        unit=problem.unit,
        fold_unit=problem.fold_unit,
        n_folds=int(found.folds.max()) + 1,
        n_models=problem.frame["model"].nunique(),
        families=tuple(sorted(set(problem.frame["family"]))),
        proxies=problem.proxies,
        rows=_rows(problem, found),
        errors=found.errors,
        comparisons=found.comparisons,
        importances=found.importances,
        remarks=problem.remarks,
        excluded=problem.excluded,
        provenance=provenance(start, command=command, device="cpu", seconds=seconds),
    )


def predict(problem: Problem, predictor: Predictor, wanted: pd.DataFrame) -> pd.DataFrame:
    """What a fit on all rows says of other rows: columns `predicted`, `low_80`, `high_80`, `low_90`, `high_90`.

    All in the unit of the problem; ends that few rows do not allow are NaN.

    Args:
        wanted: the columns of the predictor and, for accuracy, `chance` and `n_answered`.
    """
    there = replace(problem, frame=wanted)
    if predictor.in_unit is not None:
        return wanted.assign(predicted=wanted[predictor.in_unit], **_ends({}, there))
    if predictor.median_of is not None:
        truth = problem.frame["accuracy" if problem.unit == "accuracy" else "y"].to_numpy(dtype=np.float64)
        return wanted.assign(predicted=medians(predictor, problem.frame, truth, wanted), **_ends({}, there))
    if predictor.as_is is not None:
        return wanted.assign(predicted=in_unit(wanted[predictor.as_is].to_numpy(), there), **_ends({}, there))
    frame, columns = problem.frame, list(predictor.columns)
    training = frame[~frame[columns].isna().any(axis=1)] if predictor.needs_all else frame
    inputs = np.column_stack(
        [pd.factorize(training["fold"], sort=True)[0], training[columns].to_numpy(dtype=np.float64)]
    )
    asked = np.column_stack([np.zeros(len(wanted)), wanted[columns].to_numpy(dtype=np.float64)])
    y = training["y"].to_numpy()
    values = in_unit(GroupedRidge().fit(inputs, y).predict(asked), there)
    return wanted.assign(predicted=values, **_ends(jackknife_plus(inputs, y, asked), there))


def _ends(found: dict[Level, npt.NDArray[np.float64]], problem: Problem) -> dict[str, npt.NDArray[np.float64]]:
    nothing = np.full((len(problem.frame), 2), np.nan)
    return {
        f"{side}_{level}": in_unit_to_the_edge(found.get(level, nothing), problem)[:, place]
        for level in FEWEST_ROWS
        for place, side in enumerate(("low", "high"))
    }


def estimate_emergence(
    problem: Problem, errors: PredictorErrors, answers: pd.DataFrame, *, model: str, family: str | None
) -> Estimate:
    """Emergence of a model from its answers, by a fit that has not seen its family.

    Args:
        problem: that of `proxies.regression.emergence_problem`.
        errors: those of its predictor from performance.
        answers: the rows of the model in the frame of cells.
        family: left out of the fit; None where the model is of none of the families measured.

    Raises:
        UsageError: it was not asked the tasks that the fit is on, or with other shots only; too few models are left.
    """
    lacking = [task for task in problem.tasks if task not in set(answers["task"])]
    if lacking:
        raise UsageError(
            f"{model} was not asked {', '.join(lacking)}, which the estimate is from; ask it with "
            f"`bench query {model} --tasks {','.join(lacking)}`"
        )
    inputs = performance_features(answers, problem.tasks)
    if not all(math.isfinite(value) for value in inputs.values()):
        shots = " and ".join(map(str, SHOTS_READ))
        raise UsageError(
            f"{model} has no answers to the same task with {shots} shots, which the estimate is from; ask it with "
            f"--shots {','.join(map(str, SHOTS_READ))}"
        )
    asked = answers[answers["task"].isin(problem.tasks) & answers["n_shots"].isin(SHOTS_READ)]
    found = estimate_without(problem, errors, inputs, model=model, family=family, predictor=PERFORMANCE)
    return replace(found, n_questions=int(asked["n_answered"].sum()))


def estimate_without(
    problem: Problem,
    errors: PredictorErrors,
    inputs: dict[str, float],
    *,
    model: str,
    family: str | None,
    predictor: str,
    source: Source = "performance",
) -> Estimate:
    """Emergence of a model from the columns of one predictor, by a fit that has not seen its family.

    Args:
        family: left out of the fit; None where the model is of none of the families measured.

    Raises:
        UsageError: too few models are left.
    """
    is_own = (problem.frame["family"] == family) | (problem.frame["model"].map(original_of) == original_of(model))
    others = replace(problem, frame=problem.frame[~is_own].reset_index(drop=True))
    if others.frame["family"].nunique() < 2:
        raise UsageError(
            f"without the family {family}, {others.frame['family'].nunique()} families are left, and 2 are needed"
        )
    chosen = next(one for one in problem.predictors if one.name == predictor)
    wanted = pd.DataFrame([{name: inputs[name] for name in chosen.columns}])
    said = predict(others, chosen, wanted).iloc[0]
    of_all = predict(others, chosen, others.frame)["predicted"]
    intervals: dict[Level, Between] = {
        level: Between(low=rounded(said[f"low_{level}"]), high=rounded(said[f"high_{level}"]))
        for level in FEWEST_ROWS
        if not math.isnan(said[f"low_{level}"])
    }
    return Estimate(
        model=model,
        value_bits=rounded(said["predicted"]),
        intervals=intervals,
        inputs=inputs,
        trained_on=tuple(others.frame["model"]),
        left_out=tuple(problem.frame.loc[is_own, "model"]),
        errors=errors,
        source=source,
        family=family,
        n_families=others.frame["family"].nunique(),
        spread_bits=rounded(of_all.max() - of_all.min()),
    )


def _columns(problem: Problem) -> list[str]:
    used = [name for one in problem.predictors for name in (*one.columns, *filter(None, (one.as_is, one.in_unit)))]
    answers = ("accuracy", "chance", "n_answered") if problem.unit == "accuracy" else ()
    return list(dict.fromkeys((*used, *answers)))


def _rows(problem: Problem, found: Validation) -> tuple[FitRow, ...]:
    columns = _columns(problem)
    return tuple(
        FitRow(
            model=str(row["model"]),
            family=str(row["family"]),
            task=str(row["task"]) or None,
            n_shots=_number_of_shots(row["n_shots"]),
            fold=str(row["fold"]),
            truth=_rounded_or_none(found.truth[place]) or 0.0,
            inputs={name: _rounded_or_none(row[name]) for name in columns},
            predictions={name: _rounded_or_none(values[place]) for name, values in found.predictions.items()},
            intervals={
                name: {
                    level: Between(low=rounded(ends[place, 0]), high=rounded(ends[place, 1]))
                    for level, ends in by_level.items()
                    if not math.isnan(ends[place, 0])
                }
                for name, by_level in found.intervals.items()
            },
        )
        for place, row in enumerate(problem.frame.to_dict("records"))
    )


def _number_of_shots(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _rounded_or_none(value: float) -> float | None:
    return None if math.isnan(value) else rounded(value)
