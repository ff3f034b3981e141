"""Committed records measured again: faster code must give the numbers that are published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.records import Grid, Measurement
from bench.request import RunRequest
from bench.run import run
from bench.store import Store
from bench.task_names import find_tasks
from tests.bench.told import Told

RESULTS = Path(__file__).parent.parent.parent / "results"

ROUNDING_BITS = 1e-4
"""Another order of float32 sums moves estimates by a few 1e-6 bits."""


@pytest.mark.parametrize("task", ["country", "country-capital"])
def test_a_committed_record_is_found_again(task: str, tmp_path: Path) -> None:
    """All cells of all conditions: 11,880 lists, or 1,320 lists of pairs, of the smallest model of the ladder."""
    (outcome,) = run(RunRequest(models=("gpt2-ladder-xs",), tasks=find_tasks((task,)), out=tmp_path), Told())
    committed = Store(RESULTS).record(outcome.record.key)
    assert committed is not None, "the run has another key than every committed record"
    for condition, expected in committed.measurements.items():
        found = outcome.record.measurements[condition]
        assert found.n_tokens_computed == expected.n_tokens_computed
        for name, one, other in grids(found, expected):
            for cells, published in ((one.values_bits, other.values_bits), (one.errors_bits, other.errors_bits)):
                for block, (row, as_published) in enumerate(zip(cells, published, strict=True)):
                    assert row == pytest.approx(as_published, abs=ROUNDING_BITS), f"{condition}, {name}, block {block}"
        assert found.macro_ceiling_bits == expected.macro_ceiling_bits
        assert found.micro_ceiling_bits == expected.micro_ceiling_bits


def grids(found: Measurement, expected: Measurement) -> Iterator[tuple[str, Grid, Grid]]:
    """The same grids of two measurements, each with its name."""
    for scale, grid in expected.macro.items():
        yield f"macro {scale}", found.macro[scale], grid
    for scale, grid in expected.micro.items():
        yield f"micro {scale}", found.micro[scale], grid
    if expected.shuffled is not None:
        assert found.shuffled is not None
        yield "shuffled", found.shuffled, expected.shuffled
