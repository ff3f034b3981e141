"""Small valid performance records, for everything that reads them."""

from __future__ import annotations

from typing import Any

from bench.intervals import wilson
from bench.performance import PERFORMANCE_SCHEMA, Cell, PerformanceKey, PerformanceRecord
from bench.records import Provenance
from tasks.queries import SCORING_VERSION


def performance_key(**changes: Any) -> PerformanceKey:
    fields: dict[str, Any] = {
        "schema_version": PERFORMANCE_SCHEMA, "scoring_version": SCORING_VERSION, "provider": "api", "model": "big-1",
        "base_url": "https://api.example/v1", "revision": None, "files_sha256": None, "dtype": None,
        "mode": "completion", "task": "country", "task_version": 1, "task_hash": "h" * 64, "shots": (1, 4),
        "n_questions": 100, "max_tokens": 16, "temperature": 0, "token_limit_parameter": None,
        "seed": 0,
    }  # fmt: skip
    return PerformanceKey(**(fields | changes))


def make_cell(n_shots: int, n_correct: int, *, n: int = 100, n_failed: int = 0) -> Cell:
    answered = n - n_failed
    low, high = wilson(n_correct, answered)
    return Cell(
        n_shots=n_shots, n_questions=n, n_answered=answered, n_failed=n_failed, n_correct=n_correct, n_repeats=2,
        n_cut_off=0, accuracy=round(n_correct / answered, 6), low=round(low, 6), high=round(high, 6), chance=0.0,
        failures={"timeout": n_failed} if n_failed else {},
    )  # fmt: skip


def make_performance(
    *, correct: tuple[int, ...] = (30, 80), n_failed: int = 0, **key_changes: Any
) -> PerformanceRecord:
    key = performance_key(**key_changes)
    return PerformanceRecord(
        schema_version=PERFORMANCE_SCHEMA,
        key=key,
        model=None,
        returned_models=("big-1-2026",),
        cells=tuple(
            make_cell(shots, count, n_failed=n_failed) for shots, count in zip(key.shots, correct, strict=True)
        ),
        n_prompt_tokens=1000,
        n_completion_tokens=200,
        samples_sha256="s" * 64,
        provenance=Provenance(
            date="2026-01-02T03:04:05+00:00", command="bench query big-1", commit=None, versions={"bench": "0"},
            n_threads=2, device="api", seconds=3.0,
        ),
    )  # fmt: skip
