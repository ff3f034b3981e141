"""What several commands share: options, lists of names, printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import cli_completion

if TYPE_CHECKING:
    from rich.console import RenderableType

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]
Tasks = Annotated[
    str | None,
    typer.Option(
        help="Tasks, separated by commas; lists, pairs or all for every shipped one. See `bench tasks`.",
        autocompletion=cli_completion.task_list,
    ),
]
TaskFiles = Annotated[
    list[Path] | None, typer.Option("--task-file", metavar="FILE", help="A task of your own, as JSON; repeatable.")
]
RANKED = "country,animal,colour"
Results = Annotated[Path, typer.Option("--results", help="Folder with the records.")]


def task_names(given: str | None, default: str, others: object) -> list[str]:
    """The names in a list with commas; without one the default, unless files or texts were given."""
    from tasks import LISTS, PAIRS

    text = ("" if others else default) if given is None else given
    sets = {"lists": LISTS, "pairs": PAIRS, "all": (*LISTS, *PAIRS)}
    return [name for part in text.split(",") if part.strip() for name in sets.get(part.strip(), (part.strip(),))]


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers in a list with commas."""
    from bench.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{option} expects whole numbers separated by commas, got {text[:80]!r}") from None


def print_json(content: object) -> None:
    """Data for machines, to stdout; with line breaks where a person may look on, which takes ten times as long."""
    from bench.escape import json_printable

    text = json.dumps(content, indent=1 if sys.stdout.isatty() else None, ensure_ascii=False, allow_nan=False)
    print(json_printable(text))


def print_tables(tables: Sequence[RenderableType]) -> None:
    """Tables for people, to stdout."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width; narrow columns would fold the numbers
    for table in tables:
        console.print(table)
