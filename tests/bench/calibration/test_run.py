"""`bench calibrate`: the quick form as a user runs it, resumed, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.calibration.run import CalibrateRequest, Calibration, calibrate
from bench.calibration.suite import problems
from bench.calibration.tried import TRIED
from bench.cli import main
from bench.errors import UsageError
from bench.estimators import ESTIMATORS


class Silent:
    """Counts what was done."""

    def __init__(self) -> None:
        self.planned, self.done = 0, 0

    def stage(self, text: str) -> None: ...

    def plan(self, n_units: int) -> None:
        self.planned += n_units

    def block(self, text: str) -> None:
        self.done += 1


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibration]:
    out = tmp_path_factory.mktemp("calibration")
    return out, calibrate(CalibrateRequest(out=out, is_quick=True), Silent())


def test_the_quick_form_puts_every_estimator_to_something(quick: tuple[Path, Calibration]) -> None:
    found = quick[1]
    assert {case.key.estimator for case in found.cases} == set(ESTIMATORS)
    assert {item.key.estimator for item in found.coverage} == set(ESTIMATORS) - {"exact"}
    assert all(len(item.values_bits) == 5 for item in found.coverage)
    assert not found.cost


def test_quick_estimates_are_near_what_is_known(quick: tuple[Path, Calibration]) -> None:
    """Closed forms within 4 standard errors; a lower bound not above the truth by more, and most of it found."""
    for case in quick[1].cases:
        if case.estimate is None or case.key.estimator == "mine_paper":
            continue
        error = case.estimate.value_bits - case.truth.value_bits
        allowed = 4 * (case.estimate.error_bits + case.truth.error_bits) + 1e-4
        if case.direction in ("exact", "none") and case.key.estimator != "infonce_anchor":
            assert abs(error) <= allowed, case.key
        else:
            assert error <= allowed + 0.1, case.key
            if case.family == "low rank":
                assert case.estimate.value_bits >= 0.6 * case.truth.value_bits - 0.05, case.key


def test_the_channel_is_within_its_error_of_quadrature_at_every_scale(quick: tuple[Path, Calibration]) -> None:
    (case,) = (case for case in quick[1].cases if case.key.case == "hypercube-8bit-64d" and len(case.readings) > 1)
    assert set(case.truth_at_bits) == set(case.readings)
    for label, reading in case.readings.items():
        assert abs(reading.value_bits - case.truth_at_bits[label]) <= 4 * reading.error_bits + 1e-3, label


def test_what_an_estimator_cannot_answer_is_refused_in_words(quick: tuple[Path, Calibration]) -> None:
    refused = {case.key.estimator: case.refusal for case in quick[1].cases if case.refusal}
    assert set(refused) == {"gaussian", "crossfit_nce"}  # on 25 names
    assert all("25" in reason for reason in refused.values() if reason)


def test_what_is_on_disk_is_not_estimated_again_and_the_rest_is(quick: tuple[Path, Calibration]) -> None:
    out, before = quick
    lost = next((out / "calibration" / "cases" / "crossfit_nce").glob("dense*.json"))
    lost.unlink()  # as after a kill
    progress = Silent()
    after = calibrate(CalibrateRequest(out=out, is_quick=True), progress)
    assert (progress.planned, progress.done) == (1, 1)
    assert lost.is_file()
    assert [case.readings for case in after.cases] == [case.readings for case in before.cases]
    assert [item.values_bits for item in after.coverage] == [item.values_bits for item in before.coverage]


def test_the_command_prints_tables_and_writes_the_report_apart_from_the_records(
    quick: tuple[Path, Calibration], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", "--quick", "--estimator", "exact", "--estimator", "gaussian", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code in (None, 0)
    printed = capsys.readouterr()
    assert "dense" in printed.out and "gaussian" in printed.out and "truth" in printed.out
    assert (tmp_path / "quick" / "calibration" / "report.md").is_file()
    assert (tmp_path / "quick" / "calibration" / "picture.svg").is_file()
    with pytest.raises(SystemExit):
        main([*command, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in rows} == {"bar", "case", "coverage"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"estimators": ("gausian",)}, "unknown estimator 'gausian'; expected one of exact"),
        ({"parts": ("costs",)}, "unknown part 'costs'; expected one of cases, coverage, cost"),
        ({"estimators": ()}, "at least one estimator"),
        ({"parts": ()}, "at least one estimator and one part"),
    ],
)
def test_an_impossible_request_is_refused(tmp_path: Path, changed: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(CalibrateRequest(out=tmp_path, is_quick=True, **changed), Silent())  # type: ignore[arg-type]


def test_the_whole_suite_has_each_problem_once_and_every_estimator() -> None:
    suite = problems((*ESTIMATORS, *TRIED), is_quick=False, real=None, real_id=None)
    planned = [
        (problem.name, problem.n_samples, estimator.name) for problem in suite for estimator in problem.estimators
    ]
    assert len(set(planned)) == len(planned)
    assert {name for *_, name in planned} == {*ESTIMATORS, *TRIED}
    for d_model in (64, 256, 768, 2048):
        for bits in ("0", "0.5", "2", "5", "10"):
            for kind in ("dense-gaussian", "low-rank-gaussian"):
                assert any(name == f"{kind}-{d_model}d-{bits}bit" for name, *_ in planned)
