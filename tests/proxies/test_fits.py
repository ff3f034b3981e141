"""Fits: the same rows give the same record, found again or fitted anew; what is held out is not used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.fits import FitKey, FitRecord
from bench.provenance import Start
from bench.store import Store
from proxies.estimating import estimate_from_performance
from proxies.features import feature_names
from proxies.fits import Estimate, estimate_emergence, fit, key_of, predict, rows_sha256
from proxies.fitting import ALL_MODELS, FitOutcome, FitRequest, RefusedFit, asked_enough, fit_one, left_out, run, wanted
from proxies.frames import as_csv
from proxies.regression import emergence_problem, models_problem, performance_features
from proxies.validation import Predictor, Problem
from tests.planted_zoo import (
    N_QUESTIONS,
    TASKS,
    emergence_of,
    frame,
    models,
    performance_of,
    performance_record,
    put,
    write_zoo,
)

FEW = 9
"""Permutations: what is tested here does not depend on how many they are."""


class Quiet:
    def stage(self, text: str) -> None:
        pass

    def plan(self, n_units: int) -> None:
        pass

    def block(self, text: str) -> None:
        pass


def key(problem: Problem, **changes: Any) -> FitKey:
    given: dict[str, Any] = {
        "name": "models", "target": ALL_MODELS, "features": ("emergence",), "estimator": "noisy_channel",
        "mode": "completion", "seed": 0,
    }  # fmt: skip
    return key_of(problem, **(given | changes)).model_copy(update={"n_permutations": FEW})


def fitted(problem: Problem, **changes: Any) -> FitRecord:
    return fit(problem, key(problem, **changes), command="bench fit", start=Start.now(), before=0.0)


def small() -> pd.DataFrame:
    rows = frame()
    return rows[rows["model"].isin([f"f{number}-{size}" for number in range(5) for size in "sm"])]


def models_of(rows: pd.DataFrame) -> Problem:
    return models_problem(rows, features=("emergence",), mode="completion")


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("zoo") / "results", 5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few permutations."""
    import proxies.fitting

    def quick_key(problem: Problem, **given: Any) -> FitKey:
        return key_of(problem, **given).model_copy(update={"n_permutations": FEW})

    monkeypatch.setattr(proxies.fitting, "key_of", quick_key)


def one(request: FitRequest, name: Any = "models", target: str = ALL_MODELS) -> FitOutcome:
    found = fit_one(request, name, target, Store(request.results))
    assert isinstance(found, FitOutcome), found
    return found


# Records


def test_the_same_rows_and_seed_give_the_same_record_apart_from_its_provenance() -> None:
    first, second = fitted(models_of(small())), fitted(models_of(small().sample(frac=1, random_state=0)))
    assert first.model_dump_json(exclude={"provenance"}) == second.model_dump_json(exclude={"provenance"})
    other = fitted(models_of(small()), seed=1)
    assert other.key != first.key and other.rows == first.rows


def test_a_record_says_what_went_in_and_what_came_out() -> None:
    problem = models_of(small())
    record = fitted(problem)
    assert FitRecord.model_validate_json(record.model_dump_json()) == record
    assert (record.n_models, len(record.families), record.fold_unit, record.unit) == (10, 5, "family", "accuracy")
    assert record.provenance.command == "bench fit" and record.provenance.device == "cpu"
    for row, (_, planted) in zip(record.rows, problem.frame.iterrows(), strict=True):
        assert (row.model, row.family, row.fold) == (planted["model"], planted["family"], planted["family"])
        assert row.truth == pytest.approx(planted["accuracy"], abs=1e-6)
        assert row.inputs["emergence"] == pytest.approx(planted["emergence"], abs=1e-6)
        assert set(row.predictions) == {predictor.name for predictor in problem.predictors}
        assert row.task is None and row.n_shots is None
    smallest = next(row for row in record.rows if row.model == "f1-s")
    assert smallest.predictions["the small sibling's score"] is None  # it has none
    assert smallest.inputs["sibling_ability"] is None
    for errors in record.errors:
        known = [row for row in record.rows if row.predictions[errors.name] is not None]
        off = [abs((row.predictions[errors.name] or 0) - row.truth) for row in known]
        assert errors.n_rows == len(known) and errors.mean_absolute_error == pytest.approx(np.mean(off), abs=1e-5)
        assert errors.low is None and errors.high is None  # of five families


def test_intervals_are_there_only_where_rows_allow_them() -> None:
    record = fitted(models_of(small()))  # eight rows in training
    intervals = [row.intervals["emergence"] for row in record.rows]
    assert all(set(by_level) == {"80"} for by_level in intervals)
    assert all(row.intervals.keys() == {"emergence", "emergence beside what is cheap"} for row in record.rows)
    more = fitted(models_of(frame()))
    assert all(set(row.intervals["emergence"]) == {"80", "90"} for row in more.rows)
    for row in more.rows:
        inner, outer = row.intervals["emergence"]["80"], row.intervals["emergence"]["90"]
        assert 0 <= outer.low <= inner.low <= inner.high <= outer.high <= 1


def test_the_key_covers_everything_that_changes_a_fit() -> None:
    problem = models_of(small())
    base = key(problem)
    for change in (
        {"seed": 1}, {"mode": "chat"}, {"estimator": "gaussian"}, {"features": ("peak",)}, {"target": "x"},
        {"name": "cells"},
    ):  # fmt: skip
        other = key(problem, **change)
        assert other != base and Store(Path("x")).fit_path(other) != Store(Path("x")).fit_path(base)
    changed = small()
    changed.loc[changed["task"] == "country", "emergence"] += 1e-3
    other = key(models_of(changed))
    assert other != base and Store(Path("x")).fit_path(other) == Store(Path("x")).fit_path(base)


def test_what_a_fit_is_not_given_does_not_change_its_key() -> None:
    changed = small()
    changed["over_separator"] = 7.0
    assert rows_sha256(models_of(changed)) == rows_sha256(models_of(small()))


def test_permutations_are_fewer_of_many_rows() -> None:
    problem = models_of(small())
    plain = key_of(
        problem, name="models", target="all", features=(), estimator="noisy_channel", mode="completion", seed=0
    )
    assert plain.n_permutations == 999
    many = replace(problem, frame=pd.concat([problem.frame] * 51, ignore_index=True))
    assert key_of(
        many, name="models", target="all", features=(), estimator="noisy_channel", mode="completion", seed=0
    ).n_permutations == 199  # fmt: skip


# On disk


@pytest.mark.usefixtures("quick")
def test_a_fit_is_found_again_and_fitted_anew_when_a_record_changes(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    first = one(FitRequest(results=results))
    content = first.path.read_bytes()
    again = one(FitRequest(results=results))
    assert not first.was_there and again.was_there and again.path == first.path
    assert again.record == first.record and first.path.read_bytes() == content

    changed = performance_of(models(5)[0], TASKS[0])
    path = Store(results).performance_path(changed.key)
    assert path.is_file()
    put(path, performance_record("f0-s", TASKS[0], {1: 1, 4: 2}, family="family 0", n_parameters=10_000_000))
    anew = one(FitRequest(results=results))
    assert not anew.was_there and anew.path == first.path and anew.path.read_bytes() != content
    assert len(list((results / "fits").rglob("*.json"))) == 1

    anew.path.write_text("damaged")
    assert not one(FitRequest(results=results)).was_there


@pytest.mark.usefixtures("quick")
def test_a_model_that_is_left_out_of_an_old_fit_is_listed_in_it(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    first = one(FitRequest(results=results))
    for task in ("animal", "colour"):
        record = emergence_of(replace(models()[0], name="half"), task)
        put(Store(results).record_path(record.key), record)
    again = one(FitRequest(results=results))
    assert "half" not in {item.what for item in first.record.excluded}
    assert {item.what: item.reason for item in again.record.excluded}["half"] == "its emergence lacks country"
    assert again.record.rows == first.record.rows


@pytest.mark.usefixtures("quick")
def test_fits_of_chosen_proxies_do_not_replace_those_of_all(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    few = FitRequest(results=results, proxies=tuple(f"f{n}-{size}" for n in range(1, 5) for size in "sm"))
    first = one(FitRequest(results=results), "cells", "f0-m")
    second = one(few, "cells", "f0-m")
    assert second.path != first.path
    assert one(FitRequest(results=results), "cells", "f0-m").was_there


@pytest.mark.usefixtures("quick")
def test_a_frame_in_a_file_gives_the_fit_of_the_records(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    expected = one(FitRequest(results=results))
    (tmp_path / "cells.csv").write_bytes(as_csv(FitRequest(results=results).frame.frame))
    found = one(FitRequest(results=tmp_path / "elsewhere", cells=tmp_path / "cells.csv"))
    assert found.record.rows == expected.record.rows and found.record.errors == expected.record.errors
    assert found.record.provenance.command == "bench fit --problem models --cells cells.csv"


@pytest.mark.usefixtures("quick")
def test_all_fits_are_made_or_refused_one_by_one(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    closed = [performance_record("closed", task, {1: 10 * n, 4: 20 * n}, served=True) for n, task in enumerate(TASKS)]
    for record in closed[:8]:
        put(Store(results).performance_path(record.key), record)
    few = performance_record("few", TASKS[0], {4: 5}, served=True)
    put(Store(results).performance_path(few.key), few)
    request = FitRequest(results=results)
    targets = [target for problem, target in wanted(request) if problem == "cells"]
    assert targets == sorted(["closed", *(f"f{n}-{size}" for n in range(5) for size in "sm")])
    found = list(run(replace(request, problems=("cells",), targets=("closed", "few")), Quiet()))
    assert isinstance(found[0], FitOutcome) and found[0].record.key.target == "closed"
    assert isinstance(found[1], RefusedFit) and "few: 1 tasks have its accuracy" in found[1].reason
    assert left_out(request) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problems": ("published",)}, "published scores are read from a file; name it with --published FILE"),
        ({"benchmarks": ("MMLU",)}, "name it with --published FILE"),
        ({"targets": ("x",), "problems": ("models",)}, "--target names the model of a `cells` fit"),
        ({"published": Path("x.csv"), "targets": ("x",)}, "--published is a fit of its own"),
        ({"published": Path("x.csv"), "problems": ("cells",)}, "--published is a fit of its own"),
    ],
)
def test_options_that_do_not_go_together_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        wanted(FitRequest(results=tmp_path, **change))
    assert message in str(caught.value)


def test_a_missing_results_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no results folder .*; run `bench run MODEL`"):
        wanted(FitRequest(results=tmp_path / "none"))


def test_derived_models_and_checkpoints_are_no_targets_by_themselves() -> None:
    assert not {"f0-m@int4", "f0-m-step10"} & set(asked_enough(frame(), "completion"))
    assert asked_enough(frame(), "chat") == ()


# Predictions for other rows


def test_predictions_of_a_fit_on_all_rows() -> None:
    problem = models_of(frame())
    emergence = next(predictor for predictor in problem.predictors if predictor.name == "emergence")
    wanted_rows = problem.frame.drop(columns=["accuracy", "y"])
    found = predict(problem, emergence, wanted_rows)
    assert np.abs(found["predicted"] - problem.frame["accuracy"]).max() < 0.02
    assert (found["low_90"] <= found["low_80"]).all() and (found["low_80"] <= found["predicted"]).all()
    as_it_is = Predictor(name="as it is", role="baseline", as_is="sibling_ability")
    found = predict(problem, as_it_is, wanted_rows)
    assert found["predicted"].isna().equals(wanted_rows["sibling_ability"].isna()) and found["low_80"].isna().all()


def test_the_mean_is_what_no_columns_give() -> None:
    problem = emergence_problem(frame(), mode="completion")
    mean = next(predictor for predictor in problem.predictors if predictor.name == "the mean")
    found = predict(problem, mean, problem.frame.head(2))
    assert found["predicted"].tolist() == pytest.approx([problem.frame["y"].mean()] * 2)


# Estimated emergence


@cache
def _errors() -> Any:
    record = fitted(emergence_problem(frame(), mode="completion"), name="emergence", features=())
    return next(item for item in record.errors if item.name == "performance")


def estimated(rows: pd.DataFrame, model: str = "f2-m", family: str | None = "family 2", **changes: Any) -> Estimate:
    problem = emergence_problem(rows, mode="completion")
    answers = frame()[lambda all_rows: (all_rows["model"] == model) & all_rows["accuracy"].notna()]
    return estimate_emergence(problem, _errors(), changes.get("answers", answers), model=model, family=family)


def test_planted_emergence_is_estimated_without_the_family() -> None:
    found = estimated(frame())
    level = next(model.level for model in models() if model.name == "f2-m")
    assert found.value_bits == pytest.approx(level, abs=0.05)
    assert found.left_out == ("f2-m", "f2-s") and len(found.trained_on) == 16
    assert not set(found.left_out) & set(found.trained_on)
    assert set(found.intervals) == {"80", "90"}
    assert all(between.low <= found.value_bits <= between.high for between in found.intervals.values())


def test_the_family_held_out_is_not_used_at_all() -> None:
    """Its emergence and its answers changed, the estimate is the same to the bit."""
    expected = estimated(frame())
    rows = frame()
    own = rows["family"] == "family 2"
    rows.loc[own, "emergence"] = rows.loc[own, "emergence"] * -3 + 1
    asked = own & rows["accuracy"].notna()
    rows.loc[asked, "accuracy"], rows.loc[asked, "ability"] = 0.123, 5.0
    assert estimated(rows) == expected
    rows = frame()
    rows.loc[rows["family"] == "family 3", "emergence"] += 0.5
    assert estimated(rows).value_bits != expected.value_bits


def test_of_a_family_that_was_not_measured_nothing_is_held_out() -> None:
    answers = frame()[lambda rows: (rows["model"] == "f2-m") & rows["accuracy"].notna()]
    problem = emergence_problem(frame(), mode="completion")
    found = estimate_emergence(problem, _errors(), answers, model="closed", family=None)
    assert found.left_out == () and len(found.trained_on) == 18


def test_a_model_is_never_in_its_own_estimate_whatever_family_is_named() -> None:
    found = estimated(frame(), family="family 1")
    assert "f2-m" in found.left_out and "f2-m" not in found.trained_on


def test_tasks_that_were_not_asked_are_named_with_the_command() -> None:
    answers = frame()[lambda rows: (rows["model"] == "f2-m") & rows["accuracy"].notna()]
    with pytest.raises(UsageError) as caught:
        estimated(frame(), answers=answers[~answers["task"].isin(TASKS[:2])])
    assert str(caught.value) == (
        "f2-m was not asked country-capital, country-currency, which the estimate is from; ask it with "
        "`bench query f2-m --tasks country-capital,country-currency`"
    )
    for shots in (1, 4):  # of the one the level is missing, of the other the gain
        with pytest.raises(UsageError, match="with 1 and 4 shots.*--shots 1,4"):
            estimated(frame(), answers=answers[answers["n_shots"] == shots])


def test_with_one_family_left_there_is_no_estimate() -> None:
    problem = emergence_problem(frame(), mode="completion")
    two = replace(problem, frame=problem.frame[problem.frame["family"].isin(["family 1", "family 2"])])
    answers = frame()[lambda rows: (rows["model"] == "f2-m") & rows["accuracy"].notna()]
    with pytest.raises(UsageError, match="without the family family 2, 1 families are left, and 2 are needed"):
        estimate_emergence(two, _errors(), answers, model="f2-m", family="family 2")


@pytest.mark.parametrize(
    ("n_models", "n_families", "levels"),
    [(5, 4, set()), (6, 4, {"80"}), (12, 3, set()), (12, 4, {"80"}), (12, 7, {"80", "90"})],
)
def test_an_estimate_has_the_intervals_that_its_models_and_families_allow(
    n_models: int, n_families: int, levels: set[str]
) -> None:
    problem = emergence_problem(frame(), mode="completion")
    chosen = problem.frame[problem.frame["family"] != "family 2"].tail(n_models).reset_index(drop=True)
    chosen["fold"] = chosen["family"] = [f"family of {place % n_families}" for place in range(n_models)]
    answers = frame()[lambda rows: (rows["model"] == "f2-m") & rows["accuracy"].notna()]
    found = estimate_emergence(replace(problem, frame=chosen), _errors(), answers, model="f2-m", family=None)
    assert set(found.intervals) == levels and len(found.trained_on) == n_models


@pytest.mark.usefixtures("quick")
def test_estimates_from_the_records(zoo_folder: Path, tmp_path: Path) -> None:
    results = _copy(zoo_folder, tmp_path)
    for n, task in enumerate(TASKS):
        record = performance_record("closed", task, {1: 100 + n, 4: 400 + 10 * n}, served=True)
        put(Store(results).performance_path(record.key), record)
        own = performance_of(replace(models(5)[3], name="f1-l"), task)  # of a family that was measured; itself was not
        put(Store(results).performance_path(own.key), own)
    estimate: Callable[..., Any] = lambda model, family=None: estimate_from_performance(  # noqa: E731
        FitRequest(results=results), model, family=family, progress=Quiet()
    )
    known = estimate("f1-m")
    assert known.record.left_out == ("f1-m", "f1-s")
    assert known.record.measured_bits == pytest.approx(models(5)[3].level, abs=2e-3)
    assert estimate("f0-m@int4").record.left_out == ("f0-m", "f0-m-step10", "f0-m@int4", "f0-s")
    closed = estimate("closed")
    assert closed.record.measured_bits is None and closed.record.left_out == ()
    record = closed.record
    assert record.key.family is None and record.n_questions == 2 * N_QUESTIONS * len(TASKS)
    assert estimate("closed").was_there and Store(results).estimates()[0][0].path.startswith("estimates/closed/")
    assert estimate("closed", "family 3").record.left_out == ("f3-m", "f3-s")
    with pytest.raises(
        UsageError, match="no family 'family 9' was measured; did you mean family .. there are family 0, "
    ):
        estimate("closed", "family 9")
    with pytest.raises(UsageError, match="no performance of 'unknown' in completion mode is in the records"):
        estimate("unknown")
    # The family of weights that are here is known, whether or not they were measured.
    assert estimate("f1-l").record.left_out == ("f1-m", "f1-s")


def test_the_inputs_of_an_estimate_are_the_performance_features() -> None:
    answers = frame()[lambda rows: (rows["model"] == "f2-m") & rows["accuracy"].notna()]
    assert estimated(frame()).inputs == performance_features(answers, TASKS)
    assert feature_names(None)[0] == "emergence"


def _copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to / "results")
    return to / "results"
