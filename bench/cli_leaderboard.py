"""The command `bench leaderboard`: rebuilds the leaderboard, shows it, writes it as a page."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import cli_completion
from bench.cli_options import AsJson, Results, print_json, print_tables, task_names

if TYPE_CHECKING:
    from bench.store import Store
    from proxies.board import Board


class SortBy(StrEnum):
    """Columns that the table in the terminal can be sorted by."""

    EMERGENCE = "emergence"
    MODEL = "model"
    FAMILY = "family"
    PARAMETERS = "parameters"
    CEILING = "ceiling"
    OVER_TWIN = "over-twin"
    OVER_RANDOM_WORDS = "over-random-words"
    PERFORMANCE = "performance"
    DATE = "date"


_SHOWN = "What is shown here (the files always hold everything)"


def leaderboard(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard.md"),
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the leaderboard as one page for a browser too.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write and show nothing; fail if a file is not what the records give.")
    ] = False,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Rows as means over these tasks, separated by commas.",
            autocompletion=cli_completion.task_list,
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.", rich_help_panel=_SHOWN)] = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="Only measured rows, no estimated ones.", rich_help_panel=_SHOWN)
    ] = False,
    sort: Annotated[
        SortBy, typer.Option(help="Column to sort by, the largest first.", rich_help_panel=_SHOWN)
    ] = SortBy.EMERGENCE,
    reverse: Annotated[bool, typer.Option("--reverse", help="The smallest first.", rich_help_panel=_SHOWN)] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild leaderboard.md with its tables and pictures from the records, and show it."""
    from bench.errors import BenchError, UsageError
    from bench.store import Store
    from bench.terminal import Bars, remark
    from bench.terminal_leaderboard import View, leaderboard_tables
    from proxies.board import board_of, read_board
    from proxies.leaderboard import rows_as_data
    from proxies.leaderboard_files import stale

    if not results.is_dir():
        raise UsageError(
            f"there is no results folder {results}; run `bench run MODEL` first, or name one with --results"
        )
    store = Store(results)
    with contextlib.nullcontext() if check else store.alone():
        with Bars("records") as bars:
            board = read_board(store, bars, verify=check)
        for file in board.rejected:
            remark(f"left out: {file.path}: {file.reason}")
        shown = board
        if tasks is not None:
            from bench.task_names import find_tasks

            names = tuple(dict.fromkeys(task.name for task in find_tasks(task_names(tasks, "", None))))
            shown = board_of(board.stored, performances=board.performances, tasks=names)
        kinds = ("measured",) if measured else ("measured", "estimated")
        view = View(family=family, measured_only=measured, sort=sort.value, reverse=reverse)
        families = sorted({entry.family for table in shown.tables for entry in table.entries})
        if family is not None and family not in families:
            raise UsageError(f"--family: no row is of '{family[:80]}'; there are {', '.join(families) or 'none'}")
        if not check:
            write_files(board, store, out, html)
    if check:
        old = stale(board, results, out)
        if old:
            raise BenchError(
                f"{', '.join(map(str, old))}: not what the records in {results} give; rebuild with `bench leaderboard`"
            )
        remark(f"{out}: up to date, {len(board.stored)} records")
    if as_json:
        rows = rows_as_data(shown)
        print_json([row for row in rows if family in (None, row["family"]) and row["kind"] in kinds])
    elif not check:
        print_tables(leaderboard_tables(shown, view))


def write_files(board: Board, store: Store, out: Path, html: Path | None) -> None:
    """Write the leaderboard, what lies beside it as far as it has changed, and the page; say what was done."""
    from bench.terminal import remark
    from proxies.leaderboard_files import write_leaderboard

    changed = write_leaderboard(board, store.root, out)
    for path in changed:
        remark(f"{path}: {'written' if path.exists() else 'removed, nothing is left to show'}")
    if out not in changed:
        remark(f"{out}: up to date, {len(board.stored)} records")
    if html is not None:
        _write_page(board, store, html)


def _write_page(board: Board, store: Store, path: Path) -> None:
    from bench.store import write_whole
    from bench.terminal import Bars, remark
    from proxies.page import page
    from proxies.page_fill import page_data

    with Bars("models") as bars:
        write_whole(path, page(page_data(board, store, path, bars)).encode())
    remark(f"{path}: written")
