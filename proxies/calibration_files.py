"""Calibration results on disk -> the report and its picture beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.calibration.results import CaseResult, CostResult, CoverageResult
from bench.records import METHOD_VERSION
from bench.store import Store, write_whole
from proxies.calibration import PICTURE, report
from proxies.calibration_lines import Kept
from proxies.calibration_picture import picture


def write_calibration_report(store: Store) -> tuple[Path, ...]:
    """Write `calibration/report.md` and its picture from all results of the newest method, and say where they lie.

    Raises:
        StorageError: they cannot be written.
    """
    with store.alone():
        cases, bad_cases = store.calibrations(CaseResult)
        coverage, bad_coverage = store.calibrations(CoverageResult)
        costs, bad_costs = store.calibrations(CostResult)
        newest = _newest(cases), _newest(coverage)
        text = report(*newest, _newest(costs), (*bad_cases, *bad_coverage, *bad_costs))
        folder = store.root / "calibration"
        files = {folder / "report.md": text.encode(), folder / PICTURE: picture(*newest)}
        for path, content in files.items():
            write_whole(path, content)
    return tuple(files)


def _newest(results: Iterable[Kept]) -> list[Kept]:
    return [result for result in results if result.key.method_version == METHOD_VERSION]
