"""What goes into a fit and what is kept out of it, on a planted zoo; refusals with their counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from proxies.ability import ability
from proxies.features import FEATURES, cells, feature_names
from proxies.published import read_scores, sibling_cells
from proxies.regression import (
    QUESTIONS_OF_A_SCORE,
    cells_problem,
    cells_to_come,
    emergence_problem,
    models_problem,
    only,
    original_of,
    performance_features,
    published_problem,
)
from proxies.validation import Problem, validate
from tasks import RANKED_TASKS
from tests.planted_zoo import (
    SHARES,
    TASKS,
    Planted,
    correct,
    emergence_record,
    files_of,
    frame,
    models,
    performance_record,
    stored,
    stored_performances,
    task_effect,
)

HEADLINE = feature_names("headline")
TARGET = "f0-m"
ANSWERS = ["accuracy", "n_answered", "chance", "ability", "repeats"]
ZOO = {model.name: model for model in models()}


def cells_fit(rows: pd.DataFrame, target: str = TARGET, **changes: Any) -> Problem:
    given: dict[str, Any] = {"features": HEADLINE, "mode": "completion"} | changes
    return cells_problem(rows, target=target, **given)


def models_fit(rows: pd.DataFrame, features: Sequence[str] = HEADLINE) -> Problem:
    return models_problem(rows, features=features, mode="completion")


def emergence_fit(rows: pd.DataFrame) -> Problem:
    return emergence_problem(rows, mode="completion")


FITS: dict[str, Callable[[pd.DataFrame], Problem]] = {
    "cells": cells_fit,
    "models": models_fit,
    "emergence": emergence_fit,
}
OVER_MODELS = ("models", "emergence")


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        make()
    return str(caught.value)


def reasons(problem: Problem) -> dict[str, str]:
    return {one.what: one.reason for one in problem.excluded}


def of(rows: pd.DataFrame, *names: str) -> pd.DataFrame:
    return rows[rows["model"].isin(names)]


def not_asked(rows: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The rows, without answers where `chosen`."""
    changed = rows.copy()
    changed.loc[chosen, ANSWERS] = np.nan
    changed.loc[chosen, ["mode", "target"]] = ""
    return changed


def renamed(rows: pd.DataFrame, model: str, name: str, *, files: str | None = None, **columns: Any) -> pd.DataFrame:
    copy = of(rows, model).assign(model=name, files_sha256=files or files_of(name), **columns)
    return pd.concat([rows, copy], ignore_index=True)


# Refusals


@pytest.mark.parametrize("fit", FITS)
def test_no_models_are_refused(fit: str) -> None:
    message = refusal(lambda: FITS[fit](frame().iloc[:0]))
    assert ("0 models of 0 families have" in message) or "no performance of 'f0-m' in completion mode" in message


@pytest.mark.parametrize("fit", FITS)
def test_one_model_is_refused(fit: str) -> None:
    message = refusal(lambda: FITS[fit](of(frame(), TARGET)))
    assert "1 models of 1 families (family 0) have" in message or "no other model has its emergence measured" in message


@pytest.mark.parametrize("fit", FITS)
def test_seven_models_are_refused_and_eight_are_enough(fit: str) -> None:
    names = [f"f{number}-m" for number in range(8)]
    message = refusal(lambda: FITS[fit](of(frame(), *names[:7])))
    assert message.startswith("7 models of 7 families (family 0, family 1, ")
    assert "at least 8 models of 3 families are needed; measure more with `bench run MODEL`" in message
    assert FITS[fit](of(frame(), *names)).frame["y"].notna().all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("n_families", [1, 2, 3])
def test_two_families_are_refused_and_three_are_enough(fit: str, n_families: int) -> None:
    rows = of(frame(), *(f"f{number}-{size}" for number in range(6) for size in "sm"))
    rows = rows.assign(family=[f"family {int(name[1]) % n_families}" for name in rows["model"]])
    if n_families == 3:
        assert FITS[fit](rows).frame["family"].nunique() in (1, 3)
        return
    names = ", ".join(f"family {number}" for number in range(n_families))
    assert f" models of {n_families} families ({names}) have" in refusal(lambda: FITS[fit](rows))


@pytest.mark.parametrize("fit", OVER_MODELS)
def test_models_of_unknown_size_do_not_count_and_are_listed(fit: str) -> None:
    rows = frame()
    rows.loc[rows["model"] == "f3-s", "n_parameters"] = np.nan
    problem = FITS[fit](rows)
    assert reasons(problem)["f3-s"] == "its number of parameters is not known"
    assert "f3-s" not in set(problem.frame["model"]) and len(problem.frame) == 17
    eight = of(rows, *(f"f{number}-s" for number in range(8)))
    assert refusal(lambda: FITS[fit](eight)).startswith("7 models of 7 families")


def test_a_target_that_was_asked_on_seven_tasks_is_refused() -> None:
    rows = frame()
    rows = rows[(rows["model"] != TARGET) | rows["task"].isin(TASKS[:7])]
    assert refusal(lambda: cells_fit(rows)) == (
        "f0-m: 7 tasks have its accuracy and the emergence of a proxy, and 8 are needed; ask it on more tasks with "
        "`bench query f0-m --tasks all`"
    )
    rows = frame()
    assert cells_fit(rows[(rows["model"] != TARGET) | rows["task"].isin(TASKS[:8])]).frame["task"].nunique() == 8


def test_tasks_that_no_proxy_was_measured_on_do_not_count_and_are_listed() -> None:
    rows = frame()
    rows = rows[(rows["model"] == TARGET) | (rows["task"] != TASKS[0])]
    problem = cells_fit(rows)
    assert problem.frame["task"].nunique() == 8 and TASKS[0] not in set(problem.frame["task"])
    listed = [one.reason for one in problem.excluded if one.what == TARGET]
    assert f"no proxy was measured on 2 of its cells: {TASKS[0]} at 1 shots, {TASKS[0]} at 4 shots" in listed


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ("cells", "the accuracy of f0-m is the same in all 18 rows: there is nothing to predict"),
        ("models", "the performance of all models is the same in all 18 rows: there is nothing to predict"),
    ],
)
def test_constant_targets_are_refused(fit: str, message: str) -> None:
    rows = frame()
    asked = rows["accuracy"].notna()
    rows.loc[asked, "accuracy"], rows.loc[asked, "ability"] = 0.5, 0.0
    assert refusal(lambda: FITS[fit](rows)) == message
    assert emergence_fit(rows).frame["ability"].nunique() == 1  # what is constant there goes in, and says nothing


def test_constant_emergence_is_refused() -> None:
    rows = frame()
    rows["emergence"] = rows["emergence"].where(rows["emergence"].isna(), 3.0)
    rows["emergence_error"] = np.arange(len(rows)) / 1e6
    assert "the emergence of all models is the same in all 18 rows" in refusal(lambda: emergence_fit(rows))


@pytest.mark.parametrize("fit", OVER_MODELS)
def test_models_without_a_task_in_common_are_told_so(fit: str) -> None:
    rows = frame()
    only_one = (rows["model"] == TARGET) & (rows["task"] != TASKS[0])
    all_others = (rows["model"] != TARGET) & (rows["task"] == TASKS[0])
    message = refusal(lambda: FITS[fit](not_asked(rows, only_one | all_others)))
    assert message == ("no task was asked of all models; ask them the same tasks with `bench query MODEL --tasks all`")


@pytest.mark.parametrize("fit", OVER_MODELS)
def test_another_content_of_a_task_is_another_task(fit: str) -> None:
    """Performance is compared on the same prompts only."""
    rows = frame()
    rows.loc[(rows["model"] == TARGET) & (rows["task"] == TASKS[0]), "task_hash"] = "d" * 64
    assert FITS[fit](rows).tasks == tuple(sorted(TASKS[1:]))


def test_emergence_on_another_content_of_a_task_is_not_that_on_the_task() -> None:
    rows = frame()
    rows.loc[(rows["model"] == TARGET) & (rows["task"] == "country"), "task_hash"] = "d" * 64
    assert TARGET not in set(models_fit(rows).frame["model"])


def test_an_unknown_target_gets_the_known_ones() -> None:
    message = refusal(lambda: cells_fit(frame(), "f0_m"))
    assert message.startswith("no performance of 'f0_m' in completion mode is in the records; ask it with `bench query")
    assert "there are f0-m, f0-m-step10, f0-m@int4, f0-s, f1-m" in message
    message = refusal(lambda: cells_fit(frame(), TARGET, mode="chat"))
    assert message == "no performance of 'f0-m' in chat mode is in the records; ask it with `bench query f0-m`"
    assert len(refusal(lambda: cells_fit(frame().iloc[:0], "x" * 5000))) < 400


def test_two_sets_of_weights_under_one_name_are_refused_as_a_target() -> None:
    rows = frame()
    rows = pd.concat([rows, of(rows, TARGET).assign(files_sha256="c" * 64)])
    assert refusal(lambda: cells_fit(rows)) == (
        f"2 different models are called 'f0-m': {files_of(TARGET)[:12]} in float32, cccccccccccc in float32; "
        "keep one in the results folder"
    )


def test_two_sets_of_weights_under_one_name_are_two_models_with_the_tasks_that_both_were_asked() -> None:
    rows = frame()
    again = of(rows, TARGET).assign(files_sha256="c" * 64)
    again["emergence"] += 0.25
    problem = models_fit(pd.concat([rows, again[again["task"] != TASKS[0]]], ignore_index=True))
    assert len(problem.frame) == 19 and problem.frame["unit"].nunique() == 19
    assert problem.tasks == tuple(sorted(TASKS[1:]))
    assert problem.frame["n_answered"].nunique() == 1


@pytest.mark.parametrize("fit", FITS)
def test_missing_numbers_never_reach_what_is_predicted(fit: str) -> None:
    rng, rows = np.random.default_rng(0), frame()
    for name in (*FEATURES, "accuracy"):
        rows.loc[rng.random(len(rows)) < 0.02, name] = np.nan
    rows["ability"] = rows["ability"].where(rows["accuracy"].notna())
    try:
        found = FITS[fit](rows).frame
    except UsageError as error:
        assert "needed" in str(error) or "no task was asked of all models" in str(error)
    else:
        assert np.isfinite(found["y"]).all() and np.isfinite(found["accuracy"]).all()


@pytest.mark.parametrize("features", [("flattening",), FEATURES])
@pytest.mark.parametrize("fit", [cells_fit, models_fit])
def test_a_feature_that_nobody_has_is_left_out(fit: Callable[..., Problem], features: tuple[str, ...]) -> None:
    """Of two shots none flattens, of items of one token there is no separator."""
    rows = frame().assign(flattening=np.nan)
    if features == ("flattening",):
        assert "flattening" in refusal(lambda: fit(rows, features=features))
        return
    problem = fit(rows, features=features)
    tested = next(one for one in problem.predictors if one.role == "tested")
    assert tested.columns and not any(name.startswith("flattening") for name in tested.columns)


def test_a_target_where_guessing_is_always_right_is_no_row() -> None:
    """Such a cell has an accuracy and no ability: nothing can be said of it on the scale of the fit."""
    rows = frame()
    sure = (rows["model"] == TARGET) & (rows["task"] == TASKS[0]) & rows["accuracy"].notna()
    rows.loc[sure, "chance"], rows.loc[sure, "accuracy"], rows.loc[sure, "ability"] = 1.0, 1.0, np.nan
    found = cells_fit(rows).frame
    assert found["y"].notna().all() and len(found) == 16


@pytest.mark.parametrize("fit", FITS)
def test_copies_of_one_record_are_not_models(fit: str) -> None:
    rows = frame()
    names = [f"f{number}-m" for number in range(8)]
    copies = [
        of(rows, TARGET).assign(model=name, family=f"family {place}", files_sha256=files_of(name))
        for place, name in enumerate(names)
    ]
    message = refusal(lambda: FITS[fit](pd.concat(copies, ignore_index=True)))
    assert "copies of one record" in message or message.startswith("1 models of 1 families")


@pytest.mark.parametrize("fit", OVER_MODELS)
@pytest.mark.parametrize("family", ["family 1", "another family"])
def test_a_copy_under_another_name_is_excluded_in_words(fit: str, family: str) -> None:
    problem = FITS[fit](renamed(frame(), "f1-m", "same again", family=family))
    assert len(problem.frame) == 18 and "number for number: a copy" in reasons(problem)["same again"]


# Emergence and accuracy never meet on the same task through the same model


@pytest.mark.parametrize("fit", OVER_MODELS)
def test_emergence_and_performance_are_of_different_tasks(fit: str) -> None:
    rows = frame()
    ranked = rows[rows["task"].isin(RANKED_TASKS)]
    asked = ranked.assign(accuracy=0.9, chance=0.0, n_answered=1000.0, ability=2.0, mode="completion")
    problem = FITS[fit](pd.concat([rows[~rows["task"].isin(RANKED_TASKS)], asked], ignore_index=True))
    assert set(problem.tasks) == set(TASKS) and not set(problem.tasks) & set(RANKED_TASKS)
    # Emergence on the pairs has no say, nor have the answers to the lists.
    expected = FITS[fit](rows).frame
    changed = rows.copy()
    changed.loc[~changed["task"].isin(RANKED_TASKS), list(FEATURES)] += 1
    for found in (problem.frame, FITS[fit](changed).frame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_target_and_what_is_made_of_it_are_never_proxies() -> None:
    problem = cells_fit(frame())
    assert set(problem.proxies) == set(ZOO) - {TARGET, "f0-m-step10", "f0-m@int4"}
    own = "no proxy: it is the target, or made of it"
    assert reasons(problem) == {name: own for name in (TARGET, "f0-m-step10", "f0-m@int4")}
    for target in ("f0-m-step10", "f0-m@int4"):
        assert cells_fit(frame(), target).proxies == problem.proxies


def test_no_number_of_the_target_or_its_derivations_goes_in() -> None:
    rows = frame()
    own = rows["model"].map(original_of) == TARGET
    spoiled = rows.copy()
    spoiled.loc[own, list(FEATURES)] = 1e6
    derived = own & (rows["model"] != TARGET)
    spoiled.loc[derived & rows["accuracy"].notna(), ["accuracy", "ability"]] = [0.99, 9.0]
    pd.testing.assert_frame_equal(cells_fit(spoiled).frame, cells_fit(rows).frame, check_exact=True)


def test_the_same_weights_under_another_name_are_no_proxy_either() -> None:
    rows = renamed(frame(), TARGET, "alias", files=files_of(TARGET))
    problem = cells_fit(rows)
    assert "alias" not in problem.proxies and "alias" in reasons(problem)


def test_named_proxies_are_the_only_ones() -> None:
    names = tuple(f"f{number}-s" for number in range(1, 8))
    assert cells_fit(frame(), proxies=(*names, TARGET)).proxies == names
    assert "7 models of 7 families" in refusal(lambda: cells_fit(frame(), proxies=names[1:]))
    message = refusal(lambda: cells_fit(frame(), proxies=("f9-s",)))
    assert message.startswith("no emergence of 'f9-s' is in the records; measure it with `bench run f9-s`; there are")
    assert "no other model has its emergence measured" in refusal(lambda: cells_fit(frame(), proxies=(TARGET,)))


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("a", "a"),
        ("a@int4", "a"),
        ("a-step10", "a"),
        ("a-step10@int4", "a"),
        ("a@blocks=2@int4", "a"),
        ("a-step", "a-step"),
    ],
)
def test_originals_are_told_by_names(name: str, original: str) -> None:
    assert original_of(name) == original


# What the columns hold


def test_features_of_proxies_by_hand() -> None:
    found = cells_fit(frame(), features=("emergence",)).frame
    task = TASKS[2]
    row = found[(found["task"] == task) & (found["n_shots"] == 1)].iloc[0]
    proxies = [model for name, model in ZOO.items() if original_of(name) != TARGET]
    measured = frame()[frame()["emergence"].notna()].drop_duplicates(["model", "task_hash", "n_shots"])
    own = measured.groupby("model")["emergence"].mean()
    bits = [round((model.level + task_effect(task)) * SHARES[0], 3) - own[model.name] for model in proxies]
    sizes = [math.log(model.n_parameters) for model in proxies]
    assert row["emergence_mean"] == pytest.approx(np.mean(bits), abs=1e-6)
    assert row["emergence_slope"] == pytest.approx(np.polyfit(sizes, bits, 1)[0], abs=1e-6)
    abilities = [float(ability(correct(model, task, 1) / 1000, 0.0, 1000)) for model in proxies]
    assert row["proxies_ability"] == pytest.approx(np.mean(abilities), abs=1e-6)
    assert row["y"] == pytest.approx(float(ability(correct(ZOO[TARGET], task, 1) / 1000, 0.0, 1000)))
    assert (row["fold"], row["unit"], row["log_shots"]) == (task, task, 1.0)
    assert row["at_chance"] == pytest.approx(-math.log(2001))
    assert set(found["n_shots"]) == {1, 4} and len(found) == 18


def test_a_slope_over_size_needs_three_sizes() -> None:
    rows = frame()
    for n_sizes in (1, 2, 3):
        sizes = {name: 1e6 * (1 + place % n_sizes) for place, name in enumerate(ZOO)}
        found = cells_fit(rows.assign(n_parameters=rows["model"].map(sizes)))
        assert found.frame["emergence_slope"].notna().all() == (n_sizes == 3)
        assert found.frame["emergence_slope"].isna().all() == (n_sizes < 3)
        tested = next(one for one in found.predictors if one.role == "tested")
        assert ("emergence_slope" in tested.columns) == (n_sizes == 3)


def test_proxies_of_unknown_size_have_a_mean_and_no_slope() -> None:
    rows = frame().assign(n_parameters=np.nan)
    found = cells_fit(rows).frame
    assert found["emergence_slope"].isna().all() and found["emergence_mean"].notna().all()


def test_a_model_asked_in_two_modes_counts_once_as_a_proxy() -> None:
    rows = frame()
    chat = rows[(rows["model"] == "f1-m") & rows["accuracy"].notna()].assign(mode="chat")
    both = cells_fit(pd.concat([rows, chat], ignore_index=True)).frame
    pd.testing.assert_frame_equal(both, cells_fit(rows).frame, check_exact=True)


def test_emergence_of_a_model_is_that_of_the_three_lists_at_the_last_shot() -> None:
    found = models_fit(frame()).frame.set_index("model")
    for name, model in ZOO.items():
        assert found.loc[name, "emergence"] == pytest.approx(model.level, abs=2e-3)
        accuracy = np.mean([correct(model, task, 4) / 1000 for task in TASKS])
        assert found.loc[name, "accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert found.loc[name, "y"] == pytest.approx(float(ability(accuracy, 0.0, 9000)), abs=1e-5)
    assert (found["fold"] == found["family"]).all()


def test_a_model_without_all_lists_at_one_number_of_shots_is_listed() -> None:
    rows = frame()
    lacks = (rows["model"] == "f1-m") & (rows["task"] == "country")
    short = (rows["model"] == "f2-m") & (rows["task"] == "country") & (rows["n_shots"] == 4)
    problem = models_fit(rows[~lacks & ~short])
    assert reasons(problem) == {
        "f1-m": "its emergence lacks country", "f2-m": "its emergence lacks one number of shots",
    }  # fmt: skip


def test_a_model_that_was_not_asked_is_listed() -> None:
    rows = frame()
    problem = models_fit(not_asked(rows, rows["model"] == "f1-m"))
    assert reasons(problem) == {"f1-m": "not asked at 4 shots"} and len(problem.frame) == 17


def test_the_sibling_is_the_smallest_published_one_of_the_family_with_fewer_parameters() -> None:
    found = models_fit(frame()).frame.set_index("model")
    assert found.loc["f1-m", "sibling_ability"] == pytest.approx(found.loc["f1-s", "y"])
    assert found.loc["f1-m", "log_ratio"] == pytest.approx(math.log(40_000_001 / 10_000_001))
    assert found.loc[["f1-s", "f0-s"], ["sibling_ability", "log_ratio"]].isna().all(axis=None)
    for name in ("f0-m", "f0-m@int4"):  # what is made of a model is no sibling, and has those of the model
        assert found.loc[name, "log_ratio"] == pytest.approx(math.log(4))
        assert found.loc[name, "sibling_ability"] == pytest.approx(found.loc["f0-s", "y"])

    rows = frame()
    rows.loc[rows["model"] == "f0-m-step10", "n_parameters"] = 1e6  # a small checkpoint is still none
    found = models_fit(rows[rows["model"] != "f0-m@int4"]).frame.set_index("model")
    assert found.loc["f0-m", "sibling_ability"] == pytest.approx(found.loc["f0-s", "y"])
    assert found.loc["f0-m", "log_parameters"] == pytest.approx(math.log(40_000_000))
    assert found.loc["f0-m", "log_bits"] == pytest.approx(math.log(16 * 40_000_000))


def test_performance_features_by_hand() -> None:
    answers = pd.DataFrame(
        {
            "task": ["a", "a", "b", "c", "c", "d"],
            "n_shots": [1.0, 4.0, 4.0, 1.0, 4.0, 4.0],
            "ability": [0.5, 2.0, 1.0, 1.0, 0.5, 99.0],
        }
    )
    found = performance_features(answers, ("a", "b", "c"))
    assert found == {"ability": pytest.approx(3.5 / 3), "ability_gain": pytest.approx((1.5 - 0.5) / 2)}
    without = performance_features(answers[answers["n_shots"] == 4], ("a", "b"))
    assert without["ability"] == pytest.approx(1.5) and math.isnan(without["ability_gain"])
    assert all(math.isnan(value) for value in performance_features(answers.iloc[:0], ("a",)).values())
    assert all(math.isnan(value) for value in performance_features(answers, ("z",)).values())


def test_emergence_is_predicted_from_performance_in_bits() -> None:
    problem = emergence_fit(frame())
    found = problem.frame.set_index("model")
    assert problem.unit == "bits" and (found["y"] == found["emergence"]).all()
    expected = np.mean([float(ability(correct(ZOO["f2-s"], task, 4) / 1000, 0, 1000)) for task in TASKS])
    assert found.loc["f2-s", "ability"] == pytest.approx(expected, abs=1e-5)


# The models that are behind a service


def served(name: str, tasks: Sequence[str] = TASKS) -> pd.DataFrame:
    records = [
        performance_record(name, task, {1: 300 + 20 * n, 4: 500 + 20 * n}, served=True) for n, task in enumerate(tasks)
    ]
    return cells([], stored_performances(records)).frame


def test_a_service_can_be_a_target() -> None:
    problem = cells_fit(pd.concat([frame(), served("closed")], ignore_index=True), "closed")
    assert set(problem.proxies) == set(ZOO) and len(problem.frame) == 18
    assert set(problem.frame["family"]) == {"service: closed"}


def test_weights_here_count_before_a_service_of_that_name_unless_it_is_asked_for() -> None:
    rows = pd.concat([frame(), served(TARGET)], ignore_index=True)
    assert set(only(rows, TARGET, "completion")["files_sha256"]) == {files_of(TARGET)}
    assert set(only(rows, TARGET, "completion", served=True)["files_sha256"]) == {""}
    assert set(only(frame(), TARGET, "completion", served=True)["files_sha256"]) == {files_of(TARGET)}


# Cells to come


def test_cells_to_come_are_those_that_others_were_asked_and_the_target_was_not() -> None:
    rows = frame()
    new = (rows["model"] == TARGET) & (rows["task"] == TASKS[0])
    half = (rows["model"] == TARGET) & (rows["task"] == TASKS[1]) & (rows["n_shots"] == 4)
    nobody = rows["task"] == TASKS[2]
    rows = not_asked(rows, new | half | nobody)
    to_come = cells_to_come(rows, target=TARGET, features=HEADLINE, mode="completion")
    assert list(zip(to_come["task"], to_come["n_shots"], strict=True)) == sorted(
        [(TASKS[0], 1.0), (TASKS[0], 4.0), (TASKS[1], 4.0)]
    )
    assert set(to_come["model"]) == {TARGET} and to_come["accuracy"].isna().all()
    before = cells_fit(frame()).frame.set_index(["task", "n_shots"])
    for row in to_come.itertuples():
        same = before.loc[(row.task, row.n_shots)]
        assert row.emergence_mean == same["emergence_mean"] and row.proxies_ability == same["proxies_ability"]
    assert cells_to_come(frame(), target=TARGET, features=HEADLINE, mode="completion").empty


def test_cells_to_come_need_a_proxy_that_was_measured() -> None:
    rows = frame()
    rows = not_asked(rows, (rows["model"] == TARGET) & (rows["task"] == TASKS[0]))
    rows.loc[rows["task"] == TASKS[0], list(FEATURES)] = np.nan
    assert cells_to_come(rows, target=TARGET, features=HEADLINE, mode="completion").empty


# Published scores


def published(tmp_path: Any, n_families: int = 5, score: Callable[[int, int], float] | None = None) -> Any:
    lines = ["Model,Model Family,Model Size (B),HellaSwag"]
    for family in range(n_families):
        for size in (1, 7, 13):
            value = score(family, size) if score else 0.3 + 0.04 * family + 0.01 * size
            lines.append(f"p{family}-{size}b,P{family},{size},{value}")
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines) + "\n")
    return sibling_cells(read_scores(path), "HellaSwag")


def test_published_scores_by_hand(tmp_path: Any) -> None:
    problem = published_problem(published(tmp_path), frame(), features=HEADLINE)
    found = problem.frame.set_index("model")
    assert len(found) == 10 and set(found["sibling"]) == {f"p{family}-1b" for family in range(5)}
    assert found.loc["p2-13b", "log_ratio"] == pytest.approx(math.log(13))
    assert found.loc["p2-13b", "accuracy"] == pytest.approx(0.51) and found.loc["p2-13b", "chance"] == 0.25
    expected = float(ability(0.39, 0.25, QUESTIONS_OF_A_SCORE))
    assert found.loc["p2-13b", "sibling_ability"] == pytest.approx(expected)
    assert all(one.role == "baseline" for one in problem.predictors)
    assert "emergence of 0 of 5 siblings is measured: too few to say anything of it" in problem.remarks[0]
    assert "measure them with `bench run p0-1b p1-1b p2-1b p3-1b ...`" in problem.remarks[0]


def test_siblings_that_are_measured_are_on_trial(tmp_path: Any) -> None:
    measured = [
        emergence_record(f"p{family}-1b", task, curve=(1.0, 2.0, 2.5, 3.0 + family / 10), family=f"P{family}")
        for family in range(4)
        for task in RANKED_TASKS
    ]
    rows = cells(stored(measured), []).frame
    problem = published_problem(published(tmp_path), rows, features=("emergence",))
    assert [one.name for one in problem.predictors if one.role != "baseline"] == [
        "emergence", "emergence beside what is cheap",
    ]  # fmt: skip
    assert problem.proxies == tuple(f"p{family}-1b" for family in range(4))
    found = problem.frame.set_index("model")["emergence"]
    assert found["p1-7b"] == pytest.approx(3.1) and math.isnan(found["p4-7b"])
    few = published_problem(published(tmp_path), rows[rows["family"].isin(["P0", "P1"])], features=("emergence",))
    assert all(one.role == "baseline" for one in few.predictors)


def test_few_or_constant_published_scores_are_refused(tmp_path: Any) -> None:
    assert "6 models of 3 families" in refusal(
        lambda: published_problem(published(tmp_path, 3), frame(), features=HEADLINE)
    )
    same = published(tmp_path, 5, lambda family, size: 0.5)
    assert "the scores on HellaSwag is the same in all 10 rows" in refusal(
        lambda: published_problem(same, frame(), features=HEADLINE)
    )


# What was planted is found


def test_planted_performance_is_predicted_from_emergence_and_noise_is_not() -> None:
    found = validate(models_fit(frame()), n_permutations=99, seed=0)
    alone = found.comparisons[0]
    assert alone.beats and alone.p_value <= 0.05 and "emergence beats its baseline" in alone.verdict
    rows, rng = frame(), np.random.default_rng(3)
    levels = dict(zip(ZOO, rng.permutation(len(ZOO)), strict=True))
    lists = rows["task"].isin(RANKED_TASKS)
    for name in FEATURES:
        rows.loc[lists, name] = rng.normal(size=len(ZOO))[rows.loc[lists, "model"].map(levels)]
    noise = validate(models_fit(rows), n_permutations=99, seed=0)
    assert not any(one.beats for one in noise.comparisons) and "does not beat" in noise.comparisons[0].verdict


def test_planted_emergence_is_estimated_from_performance() -> None:
    found = validate(emergence_fit(frame()), n_permutations=99, seed=0)
    assert found.comparisons[0].beats
    error = next(one for one in found.errors if one.name == "performance")
    assert error.mean_absolute_error < 0.02  # accuracies are rounded to 1 in 1000


def test_the_zoo_is_what_it_says() -> None:
    names = [model.name for model in models()]
    assert len(set(names)) == 18 and isinstance(models()[0], Planted)
    assert len(frame()) == 18 * (3 + 9) * 4
