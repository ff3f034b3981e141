"""The summary of a run in which cells were refused: never a mean over those that are left."""

from __future__ import annotations

import numpy as np
import pytest

from bench.records import Condition, EmergenceRecord, Measurement
from bench.summary import ceiling_of, emergence_of, exact_of, summarise
from tests.record_factory import Place, make_record


def of(*refused: Place, condition: Condition = "trained") -> EmergenceRecord:
    return make_record(refused={condition: refused})


WHOLE = make_record()


def test_one_refused_macro_cell_leaves_no_mean_and_no_peak_at_its_shot_only() -> None:
    one, two = of(("macro", 1, 3)).summary
    assert one == WHOLE.summary[0]
    assert (two.refused_cells, two.emergence, two.macro, two.peak, two.peak_block) == (1, None, None, None, None)
    assert (two.excess_over_twin, two.excess_over_random_words) == (None, None)
    assert all(by["trained"] is None and by["untrained_twin"] is not None for by in two.curve.values())
    usual = WHOLE.summary[1]
    assert (two.micro, two.ceiling_bits, two.exact_bits) == (usual.micro, usual.ceiling_bits, usual.exact_bits)
    assert two.shuffled == usual.shuffled and two.macro_ceiling_bits == usual.macro_ceiling_bits


def test_a_refused_micro_cell_leaves_the_macro_term() -> None:
    one, two = of(("micro", 0, 1)).summary  # the population of positions 1 and 3
    for row, usual in zip((one, two), WHOLE.summary, strict=True):
        assert (row.refused_cells, row.emergence, row.micro, row.ceiling_bits) == (1, None, None, None)
        assert (row.macro, row.exact_bits) == (usual.macro, usual.exact_bits)


@pytest.mark.parametrize("condition", ["untrained_twin", "random_words"])
def test_a_refused_control_takes_its_excess_and_nothing_else(condition: Condition) -> None:
    row, usual = of(("macro", 0, 3), condition=condition).summary[1], WHOLE.summary[1]
    assert (row.refused_cells, row.emergence, row.peak) == (0, usual.emergence, usual.peak)
    twin, words = row.excess_over_twin, row.excess_over_random_words
    refused, other = (twin, words) if condition == "untrained_twin" else (words, twin)
    assert refused is None and other is not None
    assert row.curve["s=0.08"][condition] is None


def test_a_refused_shuffled_cell_takes_only_that_control() -> None:
    row, usual = of(("shuffled", 2, 3)).summary[1], WHOLE.summary[1]
    assert row == usual.model_copy(update={"shuffled": None})


def test_a_refused_cell_that_no_shot_needs_changes_nothing() -> None:
    assert of(("macro", 0, 2)).summary == WHOLE.summary  # the demonstrations close at positions 1 and 3


def test_saturated_blocks_are_counted_against_the_cap_without_refused_ones() -> None:
    def low_caps(measurement: Measurement) -> Measurement:
        caps = tuple(tuple(None if bits is None else 2.0 for bits in row) for row in measurement.macro_cap_bits)
        return measurement.model_copy(update={"macro_cap_bits": caps})

    for record, expected in ((WHOLE, 3), (of(("macro", 1, 3)), 2)):
        measurements = record.measurements | {"trained": low_caps(record.measurements["trained"])}
        assert record.summary[1].saturated_blocks == 0
        assert summarise(measurements, n_shots=2, demonstration_length=2)[1].saturated_blocks == expected


def test_fields_over_blocks_and_positions_are_nan_where_they_are_undefined() -> None:
    trained = of(("macro", 1, 3), ("micro", 2, 1)).measurements["trained"]
    undefined = np.zeros((3, 4), dtype=bool)
    undefined[2, 1:] = True
    assert (np.isnan(ceiling_of(trained).values) == undefined).all()
    undefined[1, 3] = True
    assert (np.isnan(emergence_of(trained).values) == undefined).all()
    assert not np.isnan(exact_of(trained).values).any()
