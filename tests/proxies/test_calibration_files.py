"""Calibration results on disk -> report and picture beside them."""

from pathlib import Path

from bench.records import METHOD_VERSION
from bench.store import Store
from proxies.calibration import PICTURE, report
from proxies.calibration_files import write_calibration_report
from proxies.calibration_picture import picture
from tests.calibration_factory import good_cases, good_coverage, make_case, make_cost


def test_the_report_is_over_all_results_of_the_newest_method_and_names_the_files_that_are_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    later = make_case("gaussian", "later")
    later = later.model_copy(update={"key": later.key.model_copy(update={"method_version": METHOD_VERSION + 1})})
    for result in (*good_cases(), *good_coverage(), make_cost(), later):
        store.write_calibration(result)
    damaged = tmp_path / "calibration" / "coverage" / "gaussian" / "damaged.json"
    damaged.write_text("{}")
    paths = write_calibration_report(store)
    assert paths == (tmp_path / "calibration" / "report.md", tmp_path / "calibration" / PICTURE)
    text = paths[0].read_text(encoding="utf-8")
    good, apart, rejected = text.partition("\n## Not valid records\n")
    assert good == report(good_cases(), good_coverage(), [make_cost()])
    assert apart and "calibration/coverage/gaussian/damaged.json" in rejected and "later" not in text
    assert paths[1].read_bytes() == picture(good_cases(), good_coverage())
    assert text.startswith("# Calibration of the estimators (`bench calibrate`)\n\n![") and f"]({PICTURE})" in text


def test_a_folder_without_results_gives_a_report_that_says_so(tmp_path: Path) -> None:
    text, svg = (path.read_text(encoding="utf-8") for path in write_calibration_report(Store(tmp_path)))
    assert "**Bars that hold: 0, that fail: 0" in text and "Not valid records" not in text and "Nothing was" in svg
