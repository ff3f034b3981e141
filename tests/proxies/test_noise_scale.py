"""The share of saturated cells by noise scale, from records."""

from __future__ import annotations

import pytest

from bench.records import EmergenceRecord
from bench.store import StoredRecord
from proxies.noise_scale import render, scale_rows
from tests.record_factory import make_record


def stored(record: EmergenceRecord) -> StoredRecord:
    return StoredRecord(path=f"{record.key.digest()}.json", record=record)


def with_caps(record: EmergenceRecord, bits: float) -> EmergenceRecord:
    caps = ((bits,) * 4,) * 3
    measurements = {
        name: measurement.model_copy(update={"macro_cap_bits": caps})
        for name, measurement in record.measurements.items()
    }
    return record.model_copy(update={"measurements": measurements})


def test_saturation_is_judged_against_the_cap() -> None:
    for bits, expected in ((13.5, 0.0), (2.0, 1.0)):  # macro terms are about 20 and 17 standard deviations away
        rows = scale_rows([stored(with_caps(make_record(level=8.0), bits))])
        assert [(row.label, row.saturated) for row in rows] == [("s=0.08", expected), ("s=0.16", expected)]


def test_records_with_refused_cells_of_other_estimators_and_of_other_scales_are_left_out() -> None:
    plain = make_record()
    refused = make_record(seed=1, refused={"untrained_twin": (("macro", 1, 3),)})
    other = make_record(seed=2, estimator="exact")
    trained = plain.measurements["trained"]
    few = trained.model_copy(update={"macro": {"s=0.08": trained.macro["s=0.08"]}})
    odd = plain.model_copy(update={"measurements": plain.measurements | {"trained": few}})
    rows = scale_rows([stored(odd), stored(plain), stored(make_record(seed=3)), stored(refused), stored(other)])
    expected = scale_rows([stored(plain), stored(make_record(seed=3))])
    assert rows == expected and len(rows) == 2
    assert rows[0].emergence_bits["trained"] == pytest.approx(7, abs=2)
    assert render(rows).startswith("| noise scale | saturated cells | trained | untrained twin | random words |")
    assert scale_rows([stored(refused)]) == []
