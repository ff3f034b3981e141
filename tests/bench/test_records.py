"""What a record holds of cells that its estimator refused, and what no record may claim."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bench.records import EmergenceRecord, Grid, Measurement, RecordKey, as_array, gaps, is_saturated
from tests.record_factory import Place, make_measurement, make_record, unit_key

REFUSED: tuple[Place, ...] = (("macro", 1, 3), ("macro", 2, 0), ("micro", 0, 1), ("shuffled", 2, 2))


def measurement(**changes: Any) -> Measurement:
    return make_measurement(np.random.default_rng(0), unit_key(shuffled=True), **changes)


def changed(row: Measurement | EmergenceRecord, change: Callable[[Any], Any]) -> str:
    content = row.model_dump(mode="json")
    change(content)
    return json.dumps(content)


def test_refused_cells_come_back_with_their_reason() -> None:
    made = measurement(refused=REFUSED)
    again = Measurement.model_validate_json(made.model_dump_json())
    assert again == made
    assert gaps(again.macro["s=0.16"].values_bits) == gaps(again.macro_cap_bits) == [(1, 3), (2, 0)]
    assert [(entry.side, entry.cells) for entry in again.refusals] == [
        ("macro", ((1, 3), (2, 0))), ("micro", ((0, 1),)), ("shuffled", ((2, 2),))
    ]  # fmt: skip
    assert np.isnan(as_array(again.macro_cap_bits)).sum() == 2


def test_refused_cells_count_where_emergence_needs_them() -> None:
    made = measurement(refused=REFUSED)  # positions 0 and 2 have micro population 0, positions 1 and 3 have 1
    assert [made.n_refused(position) for position in range(4)] == [1, 1, 1, 2]


def _drop_reason(content: Any) -> None:
    content["refusals"].pop(0)


def _name_a_cell_twice(content: Any) -> None:
    content["refusals"].append(content["refusals"][0])


def _fill_a_cap(content: Any) -> None:
    content["macro_cap_bits"][1][3] = 1.0


def _refuse_one_reading(content: Any) -> None:
    for matrix in content["macro"]["s=0.16"].values():
        matrix[0][0] = None


def _drop_shuffled(content: Any) -> None:
    content["shuffled"] = None


def _raise_a_cap(content: Any) -> None:
    content["macro_cap_bits"][0][0] = 13.6


def _widen_shuffled(content: Any) -> None:
    for matrix in content["shuffled"].values():
        matrix[0].append(0.0)
        matrix[1].append(0.0)
        matrix[2].append(0.0)


NOT_NAMED = "the cells that are null are not those that the refusals name, each once"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_reason, f"macro: {NOT_NAMED}"),
        (_name_a_cell_twice, f"macro: {NOT_NAMED}"),
        (_fill_a_cap, f"macro: {NOT_NAMED}"),
        (_refuse_one_reading, f"macro: {NOT_NAMED}"),
        (_drop_shuffled, f"shuffled: {NOT_NAMED}"),
        (_raise_a_cap, "a cap is above its ceiling"),
        (_widen_shuffled, "every shuffled matrix must have 3 blocks and 4 columns"),
        (lambda content: content["refusals"][0].update(reason=""), "at least 1 character"),
        (lambda content: content["refusals"][0].update(reason="x" * 301), "at most 300 characters"),
        (lambda content: content["refusals"][0].update(cells=[]), "at least 1 item"),
        (lambda content: content["refusals"][0].update(side="middle"), "'macro', 'micro' or 'shuffled'"),
    ],
)
def test_a_missing_number_needs_one_reason_and_a_reason_a_missing_number(
    change: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Measurement.model_validate_json(changed(measurement(refused=REFUSED), change))


def test_a_value_and_its_error_are_missing_together() -> None:
    with pytest.raises(ValidationError, match="values_bits and errors_bits must be null in the same cells"):
        Grid(values_bits=((1.0, None),), errors_bits=((0.1, 0.1),))


@pytest.mark.parametrize("direction", ["lower bound", "exact"])
def test_a_bound_never_passes_its_ceiling(direction: str) -> None:
    with pytest.raises(ValidationError, match="an estimate is above its ceiling"):
        measurement(level=20.0, direction=direction)


@pytest.mark.parametrize("direction", ["none", "upper bound"])
def test_what_is_no_lower_bound_may_pass_its_ceiling_and_is_told_apart(direction: str) -> None:
    record = make_record(level=20.0, direction=direction)
    assert record.above_ceiling(record.summary[-1]) == {"emergence", "macro", "peak"}
    assert EmergenceRecord.model_validate_json(record.model_dump_json()) == record


def test_a_micro_term_above_its_exact_value_is_told_apart() -> None:
    record = make_record(direction="none")
    assert record.above_ceiling(record.summary[-1]) == frozenset()

    def raise_micro(content: Any) -> None:
        content["summary"][-1]["micro"]["value_bits"] = 9.1  # both exact micro terms are 9

    raised = EmergenceRecord.model_validate_json(changed(record, raise_micro))
    assert raised.above_ceiling(raised.summary[-1]) == {"micro"}


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(refused_cells=0),
        lambda row: row.update(emergence={"value_bits": 1.0, "error_bits": 0.0}),
        lambda row: row.update(peak_block=0),
        lambda row: row.update(excess_over_twin={"value_bits": 1.0, "error_bits": 0.0}),
        lambda row: row["curve"]["s=0.16"].update(trained={"value_bits": 1.0, "error_bits": 0.0}),
        lambda row: row["curve"]["s=0.16"].update(random_words=None),
    ],
)
def test_a_summary_is_null_where_cells_were_refused_and_only_there(change: Callable[[Any], Any]) -> None:
    record = make_record(refused={"trained": REFUSED})
    assert EmergenceRecord.model_validate_json(record.model_dump_json()) == record
    with pytest.raises(ValidationError, match="summary of 2 shots must be null where cells were refused, only there"):
        EmergenceRecord.model_validate_json(changed(record, lambda content: change(content["summary"][1])))


@pytest.mark.parametrize("field", ["emergence", "macro", "micro", "ceiling_bits", "peak", "excess_over_random_words"])
def test_without_refusals_a_summary_has_every_number(field: str) -> None:
    with pytest.raises(ValidationError, match="summary of 1 shots must be null where cells were refused"):
        EmergenceRecord.model_validate_json(
            changed(make_record(), lambda content: content["summary"][0].update({field: None}))
        )


def test_settings_keep_their_types() -> None:
    settings = {"whole": 3, "real": 3.0, "flag": True, "text": "3", "several": (1.0, 2.0)}
    key = make_record(settings=settings).key
    again = RecordKey.model_validate_json(key.model_dump_json())
    assert [type(value) for value in again.settings.values()] == [int, float, bool, str, tuple]
    assert again == key and again.digest() == key.digest()


def test_saturation_is_judged_against_the_cap_and_a_refused_cell_is_not_saturated() -> None:
    values, caps = np.array([3.0, 2.4, 0.3, np.nan]), np.array([3.4, 3.0, 0.4, np.nan])
    assert is_saturated(values, caps).tolist() == [True, False, False, False]
