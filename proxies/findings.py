"""Records -> tables, verdicts and pictures of `docs/findings.md`. `python -m proxies.findings [RESULTS [DOCUMENT]]`.

The prose of the document is written by hand; what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is
replaced. The pictures lie in `RESULTS/findings`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, UsageError
from bench.escape import printable
from bench.store import RejectedFile, Store, write_whole
from proxies.findings_numbers import read
from proxies.findings_picture import pictures
from proxies.findings_tables import blocks
from proxies.markdown import filled

FOLDER = "findings"
"""Of the pictures, in the results folder."""

DEFAULTS = (Path("results"), Path("docs/findings.md"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files that were written, and those in the results folder that are no valid records and were left out."""

    paths: tuple[Path, ...]
    rejected: tuple[RejectedFile, ...]


def write_findings(store: Store, document: Path) -> Written:
    """Fill the document and draw its pictures from all records.

    Raises:
        StorageError: they cannot be written.
        UsageError: there is no results folder or no document, or it has other places than there are parts. Nothing is
            written then.
    """
    if not any((store.root / kind).is_dir() for kind in ("emergence", "performance")):
        raise UsageError(
            f"expected a results folder, with `emergence` or `performance` in it, got {store.root}; "
            "run `bench run MODEL` first, or name another one"
        )
    if not document.is_file():
        raise UsageError(f"there is no document {document}; its prose is written by hand and cannot be made here")
    with store.alone():
        (stored, bad_records), (performances, bad_performances) = store.records(), store.performances()
        measured = read(stored, performances)
        files = {document: filled(document.read_text(encoding="utf-8"), blocks(measured)).encode()}
        files |= {store.root / FOLDER / name: content for name, content in pictures(measured).items()}
        for path, content in files.items():
            write_whole(path, content)
    return Written(paths=tuple(files), rejected=(*bad_records, *bad_performances))


def main(arguments: Sequence[str]) -> int:
    """Write the findings, say which files they are, and return the exit status."""
    try:
        if len(arguments) > len(DEFAULTS):
            raise UsageError(f"expected at most a results folder and a document, got {len(arguments)} arguments")
        results, document = (*map(Path, arguments), *DEFAULTS[len(arguments) :])
        written = write_findings(Store(results), document)
    except BenchError as error:
        print(printable(f"proxies.findings: {error}"), file=sys.stderr)
        return error.exit_status
    for file in written.rejected:
        print(printable(f"left out: {file.path}: {file.reason}"), file=sys.stderr)
    for path in written.paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
