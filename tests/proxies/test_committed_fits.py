"""The committed fits are those of the committed records, and the report is what they give."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.fits import PERFORMANCE, FitRecord
from bench.provenance import Start
from bench.store import Store, StoredFit
from proxies.fit_report import report
from proxies.fits import fit, rows_sha256
from proxies.fitting import ALL_MODELS, FitRequest, asked_enough, problem_of

RESULTS = Path(__file__).parent.parent.parent / "results"
SCORES = RESULTS / "published" / "base_llm_benchmark_eval.csv"
STORED, REJECTED = Store(RESULTS).fits()


@pytest.fixture(scope="module")
def request_of_all() -> FitRequest:
    return FitRequest(results=RESULTS, published=SCORES)


def problem_name(item: StoredFit) -> str:
    return f"{item.record.key.problem}-{item.record.key.target}"


def test_every_question_has_a_committed_answer(request_of_all: FitRequest) -> None:
    found = {(item.record.key.problem, item.record.key.target) for item in STORED}
    assert {("models", ALL_MODELS), ("emergence", ALL_MODELS)} <= found
    targets = {target for problem, target in found if problem == "cells"}
    assert targets >= set(asked_enough(request_of_all.frame.frame, "completion"))
    assert any(problem == "published" for problem, _ in found)
    assert REJECTED == ()


@pytest.mark.parametrize("item", STORED, ids=problem_name)
def test_a_fit_is_that_of_the_records(item: StoredFit, request_of_all: FitRequest) -> None:
    key = item.record.key
    assert rows_sha256(problem_of(request_of_all, key.problem, key.target)) == key.rows_sha256, "run `bench fit` again"


def test_a_committed_fit_comes_out_again(request_of_all: FitRequest) -> None:
    """The quickest one; linear algebra of another machine may round otherwise, by far less than is asked here."""
    committed = next(item.record for item in STORED if item.record.key.problem == "emergence")
    problem = problem_of(request_of_all, "emergence", ALL_MODELS)
    again = fit(problem, committed.key, command="", start=Start.now(), before=time.perf_counter())
    assert [row.predictions for row in again.rows] == [
        pytest.approx(row.predictions, abs=1e-4) for row in committed.rows
    ]
    assert [one.p_value for one in again.comparisons] == [
        pytest.approx(one.p_value, abs=0.005) for one in committed.comparisons
    ]
    assert [one.beats for one in again.comparisons] == [one.beats for one in committed.comparisons]


def test_the_report_is_what_the_fits_give() -> None:
    assert (RESULTS / "fits" / "report.md").read_text(encoding="utf-8") == report(STORED, REJECTED)


def test_no_verdict_rests_on_families_that_are_too_few() -> None:
    for item in STORED:
        for comparison in item.record.comparisons:
            assert not (comparison.beats and comparison.n_folds < 8)


def test_each_open_family_was_taken_for_closed(request_of_all: FitRequest) -> None:
    record: FitRecord = next(item.record for item in STORED if item.record.key.problem == "emergence")
    assert {row.fold for row in record.rows} == set(record.families) == {row.family for row in record.rows}
    assert all(row.predictions[PERFORMANCE] is not None for row in record.rows)
