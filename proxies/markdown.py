"""Markdown that several reports write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.errors import UsageError


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are safe already (see `bench.escape.markdown_cell`)."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def filled(document: str, parts: Mapping[str, str]) -> str:
    """A document written by hand with every part between its markers, `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Raises:
        UsageError: a part has no place, or more than one; or there is a place for none of them.
    """
    places = re.findall(r"^<!-- begin (\S+) -->$", document, flags=re.MULTILINE)
    if sorted(places) != sorted(parts):
        raise UsageError(
            f"expected one line `<!-- begin NAME -->` for each of {', '.join(sorted(parts))}, got "
            f"{', '.join(sorted(places)) or 'none'}"
        )
    for name, text in parts.items():
        beginning, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, _, rest = document.partition(beginning)
        _, found, after = rest.partition(end)
        if not found:
            raise UsageError(f"expected `<!-- end {name} -->` on a line of its own after its beginning")
        document = f"{before}{beginning}\n{text}\n{end}{after}"
    return document
