"""The battery of faults as a whole: what it counts, what it kept, and that its page says just that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults import ledger, report
from tests.faults.mutations import MUTATIONS, Mutation
from tests.faults.rows import ROWS

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
BATTERIES = sorted(report.RESULTS.glob("battery-seed*.json"))


def test_the_page_is_what_the_kept_results_say() -> None:
    assert report.PAGE.read_text() == report.page()


def test_two_runs_with_other_choices_were_kept() -> None:
    assert len({json.loads(path.read_text())["seed"] for path in BATTERIES}) >= 2


@pytest.mark.parametrize("path", BATTERIES, ids=lambda path: path.stem)
def test_a_kept_run_was_whole_and_nothing_was_lost_or_wrong(path: Path) -> None:
    result = json.loads(path.read_text())
    assert result["exit_status"] == 0 and report.below_floor(result) == []
    assert result["commit"] and "+" not in result["commit"], "run it on what is committed"
    for row in result["rows"].values():
        assert row["injected"] == row["survived"] and row["lost"] == row["wrong"] == 0


def test_every_mutation_that_was_tried_was_found() -> None:
    kept = report.mutations()
    assert list(kept) == [mutation.what for mutation in MUTATIONS] and len(kept) >= 15
    assert all(one["is_caught"] and one["commit"] and "+" not in one["commit"] for one in kept.values())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_still_changes_one_place(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.old != mutation.new and mutation.row in ROWS


def test_every_row_has_its_tests() -> None:
    for row in ROWS:
        assert list((ROOT / "tests" / "faults").glob(f"test_{row.lower()}_*.py")), row


def test_cases_are_told_apart_by_how_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "ledger.jsonl"
    monkeypatch.setenv("FAULTS_LEDGER", str(kept))
    cases = ledger.Cases("A", "test")
    for error in (None, ledger.Lost("gone"), AssertionError("other"), ValueError("crash")):
        with cases.case("one"):
            if error is not None:
                raise error
    with cases.case("nothing injected"):
        cases.withdraw()
    with cases.case("many", n=10):
        pass
    with pytest.raises(AssertionError, match="row A: 3 of 14 cases failed, first: one") as raised:
        cases.settle()
    assert isinstance(raised.value.__cause__, ledger.Lost)
    (line,) = ledger.read(kept)
    assert [line[name] for name in report.COUNTS] == [14, 11, 1, 2]


def test_a_look_at_what_cases_left_that_fails_is_one_that_did_not_survive() -> None:
    cases = ledger.Cases("A", "test")
    with cases.case("many", n=5):
        pass
    with cases.case("what they left", n=0):
        raise ledger.Lost("gone")
    with cases.case("withdrawn, and failed"):
        cases.withdraw()
        raise ValueError("crash")
    assert (cases.n_injected, cases.n_survived, cases.n_lost, cases.n_wrong) == (6, 4, 1, 1)
    with pytest.raises(AssertionError, match="row A: 2 of 6 cases failed, first: what they left"):
        cases.settle()


def test_a_test_that_runs_out_of_time_is_over() -> None:
    cases = ledger.Cases("A", "test")
    with pytest.raises(pytest.fail.Exception), cases.case("one"):
        pytest.fail("Timeout (>900.0s) from pytest-timeout.")
    assert (cases.n_injected, cases.n_wrong) == (1, 1)


def test_a_failure_outside_of_a_case_is_counted(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "faults" / "conftest.py").read_text())
    pytester.makepyfile(
        test_b_x="""
        def test_two(cases):
            with cases.case("one"):
                pass
            assert False
    """
    )
    kept = pytester.path / "kept.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTS_LEDGER", str(kept))
        assert pytester.runpytest_inprocess("-p", "no:benchmark").parseoutcomes() == {"failed": 1, "errors": 1}
    (line,) = ledger.read(kept)
    assert [line[name] for name in report.COUNTS] == [1, 0, 0, 1]


def test_a_test_without_a_case_fails() -> None:
    with pytest.raises(AssertionError, match="without a case"):
        ledger.Cases("A", "test").settle()


def test_counts_of_several_tests_are_added_up_and_held_against_what_was_asked_for() -> None:
    line = {"row": "B", "injected": 12, "survived": 12, "lost": 0, "wrong": 0, "seconds": 1.25, "not_run": ["no disk"]}
    line["measured"] = ["3 MB"]
    rows = report.added_up([line, line | {"row": "A"}, line])
    assert list(rows) == ["A", "B"]
    assert rows["B"] | {"seconds": 0} == {
        "injected": 24, "survived": 24, "lost": 0, "wrong": 0, "seconds": 0, "not_run": ["no disk"],
        "measured": ["3 MB"],
    }  # fmt: skip
    short = report.below_floor({"rows": rows})
    assert "row A: 12 cases, expected at least 200" in short and not [one for one in short if one.startswith("row B")]


def test_the_same_seed_chooses_the_same_and_another_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int) -> list[float]:
        monkeypatch.setattr(ledger, "SEED", seed)
        return [ledger.Cases("A", "test").rng.random() for _ in range(3)]

    assert drawn(1) == drawn(1) != drawn(2)
