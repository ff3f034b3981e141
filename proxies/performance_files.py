"""Performance records on disk -> the report and its picture beside them."""

from __future__ import annotations

from pathlib import Path

from bench.store import Store, write_whole
from proxies.performance import PICTURE, report
from proxies.performance_picture import picture


def write_performance_report(store: Store) -> tuple[Path, ...]:
    """Write `performance/report.md` and its picture from all records, and say where they lie.

    Raises:
        StorageError: they cannot be written.
    """
    with store.alone():
        stored, rejected = store.performances()
        folder = store.root / "performance"
        files = {folder / "report.md": report(stored, rejected).encode(), folder / PICTURE: picture(stored)}
        for path, content in files.items():
            write_whole(path, content)
    return tuple(files)
