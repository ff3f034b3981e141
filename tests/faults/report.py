"""docs/faults.md from what is kept in tests/faults/results: battery-seed<N>.json and mutations.json.

`python -m tests.faults.report` writes the page from there, without a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.escape import markdown_cell
from tests.faults.rows import ROWS

RESULTS = Path(__file__).parent / "results"
MUTATIONS_FILE = RESULTS / "mutations.json"
PAGE = Path(__file__).parent.parent.parent / "docs" / "faults.md"
COUNTS = ("injected", "survived", "lost", "wrong")

INTRODUCTION = """# Faults

What this software is put through, and what became of it. Every figure on this page was counted by the run that it
tells of; `make faults` makes a run and writes the page again. A few cases of each row are part of `make test`.

A case has survived if everything that must hold did hold; where a run was disturbed, that includes running the same
command again to the end and finding what an undisturbed run leaves, times aside. *Lost* counts cases in which something
that had been finished was gone or was done again, *wrong* every other failure. Seconds are of the tests of a row, of
which several run at the same time.
"""


def added_up(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The counts of a ledger by row."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = rows.setdefault(line["row"], dict.fromkeys(COUNTS, 0) | {"seconds": 0.0, "not_run": [], "measured": []})
        for name in COUNTS:
            row[name] += line[name]
        row["seconds"] = round(row["seconds"] + line["seconds"], 1)
        for name in ("not_run", "measured"):
            row[name] = sorted({*row[name], *line[name]})
    return dict(sorted(rows.items()))


def below_floor(result: Mapping[str, Any]) -> list[str]:
    """In words, the rows that had fewer cases than they should."""
    found = []
    for row in ROWS.values():
        n = result["rows"].get(row.id, {"injected": 0})["injected"]
        if n < row.n_cases:
            found.append(f"row {row.id}: {n} cases, expected at least {row.n_cases}")
    return found


def keep(result: Mapping[str, Any]) -> None:
    """Write the result of a run; one of the same seed takes the place of an older one."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"battery-seed{result['seed']}.json").write_text(json.dumps(result, indent=1) + "\n")


def mutations() -> dict[str, dict[str, Any]]:
    """What was found of each mutation the last time, by what it takes out."""
    return {one["what"]: one for one in json.loads(MUTATIONS_FILE.read_text())} if MUTATIONS_FILE.exists() else {}


def keep_mutations(found: Sequence[Mapping[str, Any]]) -> None:
    """Write what was found of the mutations, and the page."""
    RESULTS.mkdir(exist_ok=True)
    MUTATIONS_FILE.write_text(json.dumps(found, indent=1) + "\n")
    write()


def write() -> None:
    """Write the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page from what is kept."""
    parts = [INTRODUCTION]
    for path in sorted(RESULTS.glob("battery-seed*.json")):
        parts.append(_battery(json.loads(path.read_text())))
    if found := mutations():
        parts.append(_mutations(list(found.values())))
    return "\n".join(parts)


def _battery(result: Mapping[str, Any]) -> str:
    minutes = result["seconds"] / 60
    lines = [
        f"## Seed {result['seed']}",
        "",
        f"{_made(result)}, {minutes:.1f} minutes, {result['machine']}.",
        "",
        *_table(
            ("row", "what is injected", "what must hold", "asked for", *COUNTS, "seconds"),
            (
                (
                    row.id,
                    row.injects,
                    row.holds,
                    f"{row.n_cases:,}",
                    *(f"{result['rows'].get(row.id, {}).get(name, 0):,}" for name in COUNTS),
                    f"{result['rows'].get(row.id, {}).get('seconds', 0.0):.0f}",
                )
                for row in ROWS.values()
            ),
            right=(3, 4, 5, 6, 7, 8),
        ),
    ]
    for name, head in (("measured", "Measured on the way:"), ("not_run", "Not run on this machine:")):
        said = [f"- {row}: {markdown_cell(one)}" for row, counts in result["rows"].items() for one in counts[name]]
        lines += ["", head, "", *said] if said else []
    return "\n".join(lines) + "\n"


def _mutations(found: Sequence[Mapping[str, Any]]) -> str:
    caught = sum(one["is_caught"] for one in found)
    lines = [
        "## Can the battery fail?",
        "",
        f"Each of these changes takes one safeguard out of the software; the battery found {caught} of {len(found)} "
        "(`make mutations`).",
        "",
        *_table(
            ("what was taken out", "file", "found by", "tried at"),
            ((one["what"], one["file"], one["row"] if one["is_caught"] else "nothing", _made(one)) for one in found),
            code=(1,),
        ),
    ]
    return "\n".join(lines) + "\n"


def _made(result: Mapping[str, Any]) -> str:
    head, plus, changes = (result["commit"] or "unknown").partition("+")
    return f"commit {head[:12]}{plus}{changes}, {result['date'][:10]}"


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = (), code: Sequence[int] = ()
) -> list[str]:
    """Lines of a table.

    Args:
        right: columns of numbers.
        code: columns of names of this project, shown as they are.
    """
    rule = ["---:" if index in right else "---" for index in range(len(heads))]
    shown = ([f"`{cell}`" if n in code else markdown_cell(cell) for n, cell in enumerate(row)] for row in rows)
    cells = [heads, rule, *shown]
    return [f"| {' | '.join(row)} |" for row in cells]


if __name__ == "__main__":
    write()
