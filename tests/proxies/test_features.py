"""Records with known numbers -> the frame that regressions see, column by column."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.performance import PerformanceRecord
from bench.records import EmergenceRecord
from bench.store import Store
from proxies.ability import ability
from proxies.emergence_features import of_record
from proxies.features import COLUMNS, CONFIG, FEATURES, Cells, as_frame, cells, feature_names
from tests.performance_factory import make_cell
from tests.planted_zoo import (
    ERROR,
    emergence_record,
    files_of,
    hash_of,
    performance_record,
    put,
    stored,
    stored_performances,
    zoo,
)
from tests.record_factory import make_record

CURVE = (2.0, 3.5, 4.25, 4.5)
TWIN = (0.5, 1.0, 1.0, 1.5)
WORDS = (1.0, 2.0, 3.0, 4.0)
OFFSETS = (-1.0, 0.5, 1.5, -0.5, -0.5)
"""Of five blocks, mean 0: the first half is the first three."""


def planted(**changes: Any) -> EmergenceRecord:
    given: dict[str, Any] = {"curve": CURVE, "twin": TWIN, "words": WORDS, "offsets": OFFSETS} | changes
    return emergence_record(given.pop("model", "tiny"), given.pop("task", "country"), **given)


def frame_of(*records: EmergenceRecord | PerformanceRecord, **options: Any) -> Cells:
    return cells(
        stored(item for item in records if isinstance(item, EmergenceRecord)),
        stored_performances(item for item in records if isinstance(item, PerformanceRecord)),
        **options,
    )


def row(*records: EmergenceRecord | PerformanceRecord, n_shots: int = 4, **where: str) -> dict[str, Any]:
    frame = frame_of(*records).frame
    found = frame[frame["n_shots"] == n_shots]
    for name, value in where.items():
        found = found[found[name] == value]
    (only,) = found.to_dict("records")
    return {str(name): value for name, value in only.items()}


def test_every_feature_by_hand() -> None:
    found = row(planted())
    expected = {
        "emergence": 4.5,
        "first_half": 4.5 + (-1 + 0.5 + 1.5) / 3,
        "last_half": 4.5 - 0.5,
        "peak": 6.0,
        "peak_depth": 2 / 4,
        # blocks 0 to 4 at -1, 0.5, 1.5, -0.5, -0.5: sum of step * value is 1, of step squared 10, over 4 steps
        "depth_slope": 4 * ((-2) * -1.0 + (-1) * 0.5 + 1 * -0.5 + 2 * -0.5) / 10,
        # of the two scales, s=0.08 and s=0.32, the coarser has half of everything: one trapezoid
        "noise_area": (4.5 + 2.25) / 2,
        "gain": 0.25,
        # shots 1 to 4 at 2, 3.5, 4.25, 4.5: (-1.5 * 2 - 0.5 * 3.5 + 0.5 * 4.25 + 1.5 * 4.5) / 5
        "growth_per_shot": 0.825,
        "flattening": 1 - 0.25 / 1.5,
        "over_twin": 4.5 - 1.5,
        "over_random_words": 0.5,
        "over_separator": -4.5 / 2,
        "ceiling": 13.5 - 1,
        "n_seeds": 1.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-6)
    assert set(FEATURES) <= set(expected)
    # Of a block: the macro error, and half of that of each of two micro terms; a mean over five independent blocks.
    assert found["emergence_error"] == pytest.approx(ERROR * math.sqrt(1.5 / 5), abs=1e-6)


def test_what_a_row_says_of_its_model() -> None:
    found = row(planted(family="Tiny", n_parameters=1234))
    assert (found["model"], found["family"], found["kind"], found["variant"]) == ("tiny", "Tiny", "published", "base")
    assert (found["precision"], found["n_bits"], found["n_parameters"]) == ("float32", 16.0, 1234.0)
    assert (found["n_blocks"], found["dtype"], found["files_sha256"]) == (5.0, "float32", files_of("tiny"))
    assert (found["task"], found["task_hash"], found["mode"]) == ("country", hash_of("country"), "")
    assert (found["estimator"], found["preset"], found["target"]) == ("noisy_channel", "quick", "")
    assert all(math.isnan(found[name]) for name in ("accuracy", "n_answered", "chance", "repeats", "ability"))


def test_the_first_gain_is_emergence_itself() -> None:
    features = of_record(planted())
    assert [features[shots]["gain"] for shots in (1, 2, 3, 4)] == pytest.approx([2.0, 1.5, 0.75, 0.25])
    assert {features[shots]["growth_per_shot"] for shots in features} == {features[1]["growth_per_shot"]}


def test_of_an_odd_number_of_blocks_the_middle_one_is_with_the_first_half() -> None:
    found = of_record(planted(offsets=(3.0, -3.0, 0.0)))[4]
    assert (found["first_half"], found["last_half"]) == (pytest.approx(4.5), pytest.approx(4.5))
    found = of_record(planted(offsets=(1.0, 2.0, -2.0, -1.0)))[4]
    assert (found["first_half"], found["last_half"]) == (pytest.approx(6.0), pytest.approx(3.0))


def test_what_few_blocks_shots_or_tokens_do_not_say_is_missing() -> None:
    one_block = of_record(planted(offsets=(0.0,)))[4]
    assert one_block["first_half"] == one_block["peak"] == pytest.approx(4.5)
    assert all(math.isnan(one_block[name]) for name in ("last_half", "peak_depth", "depth_slope"))
    one_shot = of_record(planted(curve=(2.0,), twin=(1.0,), words=(1.0,)))[1]
    assert math.isnan(one_shot["growth_per_shot"]) and math.isnan(one_shot["flattening"])
    two_shots = of_record(planted(curve=(2.0, 3.0), twin=(1.0, 1.0), words=(1.0, 1.0)))[2]
    assert two_shots["growth_per_shot"] == pytest.approx(1.0) and math.isnan(two_shots["flattening"])
    one_token = of_record(planted(step=1))[4]
    assert math.isnan(one_token["over_separator"]) and one_token["emergence"] == pytest.approx(4.5)


@pytest.mark.parametrize("second", [2.0, 2.05, 1.0])
def test_a_small_second_gain_has_no_share_to_flatten(second: float) -> None:
    assert math.isnan(of_record(planted(curve=(2.0, second, 4.0, 4.5)))[4]["flattening"])


def test_without_a_noise_scale_there_is_no_area_under_it() -> None:
    record = planted()
    fields = record.model_dump()
    for measurement in fields["measurements"].values():
        measurement["headline"] = "mean"
        for side in ("macro", "micro"):
            measurement[side] = {"mean": measurement[side]["s=0.08"]}
    for summary in fields["summary"]:
        summary["curve"] = {"mean": summary["curve"]["s=0.08"]}
    found = of_record(EmergenceRecord.model_validate(fields))[4]
    assert math.isnan(found["noise_area"]) and found["emergence"] == pytest.approx(4.5)


def test_a_refused_cell_leaves_gaps_and_no_zeros() -> None:
    refused = make_record(refused={"trained": (("macro", 1, 3),)})
    first, second = of_record(refused)[1], of_record(refused)[2]
    needs_it = ("emergence", "emergence_error", "first_half", "peak", "peak_depth", "depth_slope")
    controls = ("over_twin", "over_random_words", "over_separator", "noise_area", "gain")
    assert all(math.isnan(second[name]) for name in (*needs_it, *controls, "growth_per_shot", "flattening"))
    assert not any(math.isnan(first[name]) for name in needs_it)
    assert math.isnan(first["growth_per_shot"])  # over all shots
    twin = of_record(make_record(refused={"untrained_twin": (("macro", 1, 3),)}))[2]
    assert math.isnan(twin["over_twin"]) and not math.isnan(twin["over_random_words"])
    frame = frame_of(refused).frame
    assert frame.loc[frame["n_shots"] == 2, "emergence"].isna().all() and len(frame) == 2


def test_a_refusal_in_the_other_half_leaves_the_first() -> None:
    found = of_record(make_record(refused={"trained": (("macro", 2, 3),)}))[2]
    assert not math.isnan(found["first_half"]) and math.isnan(found["last_half"])


def test_seeds_are_averaged_and_the_error_is_that_of_the_mean() -> None:
    more = tuple(bits + 1 for bits in CURVE)
    alone, found = row(planted()), row(planted(), planted(curve=more, seed=1), planted(curve=more, seed=2))
    assert found["n_seeds"] == 3
    assert found["emergence"] == pytest.approx(4.5 + 2 / 3)
    assert found["peak_depth"] == alone["peak_depth"]
    assert found["emergence_error"] == pytest.approx(alone["emergence_error"] / math.sqrt(3))


@pytest.mark.parametrize(
    "other",
    [
        {"files_sha256": "other files"},
        {"dtype": "bfloat16"},
        {"task_hash": "other content"},
        {"model": "small"},
    ],
)
def test_accuracy_meets_emergence_only_on_the_same_files_arithmetic_and_task(other: dict[str, str]) -> None:
    same = performance_record("tiny", "country", {1: 300, 4: 800})
    met = frame_of(planted(), same).frame
    assert len(met) == 4 and met["accuracy"].notna().tolist() == [True, False, False, True]
    assert met["target"].tolist() == ["measured", "", "", "measured"]
    changes: dict[str, Any] = dict(other)
    model = changes.pop("model", "tiny")
    apart = frame_of(planted(), performance_record(model, "country", {1: 300, 4: 800}, **changes)).frame
    assert len(apart) == 6
    assert not (apart["accuracy"].notna() & apart["emergence"].notna()).any()


def test_answers_by_hand() -> None:
    answers = performance_record("tiny", "antonym", {0: 40, 4: 75}, n=120, n_failed=20, chance=0.2)
    found = frame_of(answers).frame
    zero, four = found.to_dict("records")
    assert (zero["accuracy"], four["accuracy"], four["n_answered"], four["chance"]) == (0.4, 0.75, 100, 0.2)
    assert four["repeats"] == 2 / 100
    assert four["ability"] == pytest.approx(math.log(0.6875 / 0.3125))  # (0.75 - 0.2) / 0.8 and the rest
    assert math.isnan(four["emergence"]) and (four["estimator"], four["preset"]) == ("", "")


def test_a_question_without_an_answer_is_no_wrong_answer() -> None:
    nothing = performance_record("tiny", "antonym", {4: 0}, n=10)
    failed = make_cell(4, 0, n=10).model_dump() | {
        "n_answered": 0, "n_failed": 10, "n_repeats": 0, "accuracy": None, "low": None, "high": None,
        "failures": {"timeout": 10},
    }  # fmt: skip
    all_failed = PerformanceRecord.model_validate(nothing.model_dump() | {"cells": (failed,)})
    assert frame_of(nothing).frame["accuracy"].tolist() == [0.0]
    assert frame_of(all_failed).frame.empty
    both = frame_of(planted(task="antonym"), all_failed).frame
    assert len(both) == 4 and both["accuracy"].isna().all() and (both["mode"] == "").all()


def test_answers_that_guessing_always_gets_right_have_no_ability() -> None:
    """Where one answer is right on every question asked, for instance on a single one, chance is 1."""
    found = frame_of(performance_record("tiny", "antonym", {4: 10}, n=12, chance=1.0)).frame
    assert found["ability"].isna().all()


def test_of_several_records_of_a_cell_the_latest_counts_and_modes_have_rows_of_their_own() -> None:
    early = performance_record("tiny", "country", {4: 100}, date="2026-01-01T00:00:00+00:00", seed=1)
    late = performance_record("tiny", "country", {4: 200}, date="2026-01-03T00:00:00+00:00", seed=2)
    chat = performance_record("tiny", "country", {4: 300}, mode="chat")
    for order in ((early, late, chat), (chat, late, early)):
        found = frame_of(planted(), *order).frame.query("n_shots == 4")
        assert found["mode"].tolist() == ["chat", "completion"]
        assert found["accuracy"].tolist() == [0.3, 0.2]
        assert found["emergence"].tolist() == pytest.approx([4.5, 4.5])


def test_the_way_of_most_models_counts_and_the_others_are_listed() -> None:
    usual = [planted(model=name) for name in ("a", "b")]
    odd = [planted(model="c", preset="full", seed=seed) for seed in (0, 1, 2)]  # more records, fewer models
    other_task = planted(model="c", task="animal", preset="full")
    found = frame_of(*usual, *odd, other_task)
    assert set(found.frame["model"]) == {"a", "b", "c"}
    assert set(found.frame.loc[found.frame["task"] == "country", "model"]) == {"a", "b"}
    assert [left.what for left in found.excluded] == [item.path for item in stored(odd)]
    assert {left.reason for left in found.excluded} == {
        "measured in another way (preset, settings, BOS) than most models on this task"
    }


@pytest.mark.parametrize("change", [{"bos_policy": "none"}, {"settings": {"n_draws": 64}}, {"n_names": 20}])
def test_settings_names_and_the_first_token_are_ways_to_measure(change: dict[str, Any]) -> None:
    found = frame_of(planted(model="a"), planted(model="b"), planted(model="c", **change))
    assert set(found.frame["model"]) == {"a", "b"} and len(found.excluded) == 1


def test_another_estimator_is_listed_and_can_be_asked_for() -> None:
    records = (planted(), planted(estimator="gaussian", model="g"))
    usual = frame_of(*records)
    assert set(usual.frame["model"]) == {"tiny"}
    assert usual.excluded[0].reason == "measured by gaussian, not by noisy_channel"
    assert set(frame_of(*records, estimator="gaussian").frame["model"]) == {"g"}


def test_files_that_are_no_records_are_listed_and_never_a_number(tmp_path: Path) -> None:
    store, good = Store(tmp_path), planted()
    path = put(store.record_path(good.key), good)
    text = path.read_text()
    folder = path.parent
    (folder / "future.json").write_text(text.replace('"schema_version": 2', '"schema_version": 3', 1))
    (folder / "cut.json").write_text(text[: len(text) // 2])
    (folder / "zero.json").write_text("0")
    limited = make_record(is_enumerated=False, model="limited")
    put(store.record_path(limited.key), limited)
    answered = performance_record("tiny", "country", {4: 800})
    damaged = put(store.performance_path(answered.key), answered)
    damaged.write_text(damaged.read_text().replace('"accuracy": 0.8', '"accuracy": 0.9'))
    (records, rejected), (performances, others) = store.records(), store.performances()
    found = cells(records, performances, (*rejected, *others))
    reasons = {left.what.rpartition("/")[2]: left.reason for left in found.excluded}
    assert len(reasons) == 5 and set(found.frame["model"]) == {"tiny"}
    assert "schema_version" in reasons["future.json"] and "Invalid JSON" in reasons["cut.json"]
    assert reasons[store.record_path(limited.key).name] == "limited, for trying things out only"
    assert "accuracy must be n_correct / n_answered" in reasons[damaged.name]
    assert found.frame["accuracy"].isna().all() and found.frame["emergence"].notna().all()


def test_a_service_is_a_family_of_its_own_of_unknown_size() -> None:
    served = [performance_record(name, "country", {4: 500}, served=True) for name in ("tiny", "big")]
    found = frame_of(planted(), *served).frame
    rows = found[found["files_sha256"] == ""].to_dict("records")
    assert [item["family"] for item in rows] == ["service: big", "service: tiny"]
    assert {(item["kind"], item["variant"], item["precision"]) for item in rows} == {("unknown",) * 3}
    assert all(math.isnan(item[name]) for item in rows for name in ("n_parameters", "n_bits", "n_blocks", "emergence"))


@pytest.mark.parametrize(
    ("name", "kind", "bits"),
    [
        ("tiny", "published", 16),
        ("tiny@int4", "derived", 4),
        ("tiny@blocks=2@int8", "derived", 8),
        ("tiny@int3@blocks=2", "derived", 3),
        ("tiny@untrained", "derived", 16),
        ("tiny-step10", "checkpoint", 16),
        ("tiny-step10@int2", "derived", 2),
        ("folder@home", "derived", 16),
    ],
)
def test_kinds_and_bits_are_told_by_the_name(name: str, kind: str, bits: int) -> None:
    found = row(planted(model=name))
    assert (found["kind"], found["n_bits"]) == (kind, bits)


def test_the_columns_are_those_that_are_described_in_order() -> None:
    expected = [column.name for column in COLUMNS]
    for found in (cells([], []), frame_of(planted(), performance_record("tiny", "country", {4: 1}))):
        assert list(found.frame.columns) == expected
        for column in COLUMNS:
            kind = found.frame[column.name].dtype
            assert (kind == np.float64) == (column.unit not in ("name", "hex")), column
    assert len(set(expected)) == len(expected) and set(FEATURES) <= set(expected)
    assert "emergence_error" not in FEATURES and "accuracy" not in FEATURES


def test_a_frame_without_any_text_in_a_column_has_empty_text() -> None:
    names = [column.name for column in COLUMNS if column.unit in ("name", "hex")]
    frame = as_frame([{"model": "a", "mode": math.nan, "n_shots": 1}])
    assert frame[names].loc[0].tolist() == ["a", *[""] * (len(names) - 1)]


def test_the_configuration_names_existing_columns() -> None:
    content = json.loads(CONFIG.read_text(encoding="utf-8"))
    assert set(content) == {"about", "sets"}
    for name, columns in content["sets"].items():
        assert set(columns) <= set(FEATURES) and feature_names(name) == tuple(columns)
    assert feature_names(None) == tuple(content["sets"]["headline"])
    assert set(content["sets"]["all"]) == set(FEATURES)
    assert not set(content["sets"]) & set(FEATURES) - {"emergence"}  # a set wins over the column of its name


def test_features_are_named_by_sets_and_columns_each_once() -> None:
    assert feature_names(" peak , controls,over_twin") == ("peak", "over_twin", "over_random_words", "over_separator")
    for wanted, message in (
        ("peek", "'peek' is neither a set nor a column; sets: headline, emergence, controls, all; columns: emergence"),
        ("accuracy", "'accuracy' is neither a set nor a column"),
        ("", "no name was given"),
        (" , ", "no name was given"),
        ("x" * 500, f"'{'x' * 60}' is neither"),
    ):
        with pytest.raises(UsageError, match="--features: ") as caught:
            feature_names(wanted)
        assert message in str(caught.value)


def test_the_order_of_files_does_not_matter() -> None:
    emergence, performance = zoo()
    files, answers = stored(emergence[::3]), stored_performances(performance[::2])
    expected = cells(files, answers)
    for seed in range(2):
        random.Random(seed).shuffle(files)
        random.Random(seed).shuffle(answers)
        found = cells(files, answers)
        pd.testing.assert_frame_equal(found.frame, expected.frame, check_exact=True)


def test_equally_many_models_measured_in_two_ways_give_one_answer() -> None:
    records = [planted(model="a"), planted(model="b", preset="full")]
    assert set(frame_of(*records).frame["model"]) == set(frame_of(*reversed(records)).frame["model"])


def test_abilities_are_log_odds_above_chance_with_half_a_question_at_the_ends() -> None:
    assert ability(0.5, 0.0, 100) == pytest.approx(0.0)
    assert ability(1.0, 0.5, 9) == pytest.approx(math.log(19))
    assert ability(0.1, 0.5, 9) == ability(0.5, 0.5, 9) == pytest.approx(-math.log(19))
