"""Records -> tables, verdicts and pictures of `docs/findings.md`. `python -m proxies.findings [RESULTS [DOCUMENT]]`.

The prose of the document is written by hand; what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is
replaced. The pictures lie in `RESULTS/findings`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.store import Store, write_whole
from proxies.findings_numbers import read
from proxies.findings_picture import pictures
from proxies.findings_tables import blocks
from proxies.markdown import filled

FOLDER = "findings"
"""Of the pictures, in the results folder."""


def write_findings(store: Store, document: Path) -> tuple[Path, ...]:
    """Fill the document and draw its pictures from all records, and say where they lie.

    Raises:
        StorageError: they cannot be written.
        UsageError: the document has other places than there are parts.
    """
    measured = read(store.records()[0], store.performances()[0])
    files = {document: filled(document.read_text(encoding="utf-8"), blocks(measured)).encode()}
    files |= {store.root / FOLDER / name: content for name, content in pictures(measured).items()}
    for path, content in files.items():
        write_whole(path, content)
    return tuple(files)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    results, text, *_ = (*given, *(Path("results"), Path("docs/findings.md"))[len(given) :])
    for written in write_findings(Store(results), text):
        print(written)
