"""The leaderboard as a person sees it in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.intervals import with_half_width
from bench.terminal import new_table
from proxies.board import Board
from proxies.leaderboard import (
    NOTHING,
    compared,
    described,
    estimate_shown,
    is_above,
    kind_of,
    performance_shown,
    title,
    worth,
)
from proxies.standings import AnyEntry, Entry, EstimatedEntry, Standing, places
from tasks import RANKED_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Which rows are shown, in which order."""

    family: str | None = None
    measured_only: bool = False
    sort: str = "emergence"
    reverse: bool = False


def leaderboard_tables(board: Board, view: View) -> list[RenderableType]:
    """One table a setting; under it what the estimates in it are worth."""
    if not any(table.measured for table in board.tables):
        what = "" if board.tasks == RANKED_TASKS else f" with all of {', '.join(map(printable, board.tasks))}"
        return [Text(f"No model is ranked{what} yet: run `bench run MODEL`")]
    parts: list[RenderableType] = []
    for standing in board.tables:
        parts += _table(standing, board.tasks, view)
    parts.append(Text("± half the 95 % interval; read emergence with its ceiling and its controls (docs/concepts.md)"))
    return parts


def _table(standing: Standing, tasks: Sequence[str], view: View) -> list[RenderableType]:
    ranked = list(zip(places(standing.entries), standing.entries, strict=True))
    rows = [
        (place, entry)
        for place, entry in ranked
        if view.family in (None, entry.family) and (isinstance(entry, Entry) or not view.measured_only)
    ]
    if not rows:
        return []
    table = new_table(
        f"{printable(title(standing))}: emergence in bits, mean over {', '.join(map(printable, tasks))}",
        caption=printable(described(standing)),
    )
    table.add_column("rank", justify="right")
    for name in ("model", "family"):
        table.add_column(name, overflow="fold")
    for name in ("parameters", "emergence", "ceiling", "over twin", "over random words", "performance"):
        table.add_column(name, justify="right")
    table.add_column("kind", overflow="fold")
    for place, entry in _sorted(rows, view):
        table.add_row(NOTHING if place is None else str(place), *_cells(entry))
    worths = [
        Text(printable(f"{entry.name}, estimated: {worth(entry.stored)}"))
        for _, entry in rows
        if isinstance(entry, EstimatedEntry)
    ]
    return [table, *worths]


def _cells(entry: AnyEntry) -> tuple[str, ...]:
    if isinstance(entry, EstimatedEntry):
        return (
            printable(entry.name), printable(entry.family), NOTHING, estimate_shown(entry.stored), NOTHING, NOTHING,
            NOTHING, performance_shown(entry.performance), "estimated",
        )  # fmt: skip
    return (
        printable(entry.name),
        printable(entry.family),
        f"{entry.model.n_parameters / 1e6:,.1f} M",
        with_half_width(*entry.emergence) + (" !" if is_above(entry) else ""),
        f"{entry.ceiling:.2f}",
        compared(entry.over_twin, n_seeds=len(entry.seeds)),
        compared(entry.over_random_words, n_seeds=len(entry.seeds)),
        performance_shown(entry.performance),
        f"measured, {kind_of(entry)}",
    )


Row = tuple[int | None, AnyEntry]

_TEXTS: dict[str, Callable[[AnyEntry], str]] = {
    "model": lambda entry: entry.name,
    "family": lambda entry: entry.family,
    "date": lambda entry: entry.date,
}
_NUMBERS: dict[str, Callable[[AnyEntry], float | None]] = {
    "emergence": lambda entry: entry.bits,
    "parameters": lambda entry: entry.model.n_parameters if isinstance(entry, Entry) else None,
    "ceiling": lambda entry: entry.ceiling if isinstance(entry, Entry) else None,
    "over-twin": lambda entry: entry.over_twin[0] if isinstance(entry, Entry) and entry.over_twin else None,
    "over-random-words": lambda entry: (
        entry.over_random_words[0] if isinstance(entry, Entry) and entry.over_random_words else None
    ),
    "performance": lambda entry: entry.performance.above_chance.value if entry.performance else None,
}


def _sorted(rows: Sequence[Row], view: View) -> list[Row]:
    """Numbers from the largest, text from A to Z; rows without the number come last, whichever way it goes."""
    if view.sort in _TEXTS:
        text = _TEXTS[view.sort]
        return sorted(rows, key=lambda row: text(row[1]), reverse=view.reverse)
    number = _NUMBERS[view.sort]
    known = [(value, row) for row in rows if (value := number(row[1])) is not None]
    ordered = sorted(known, key=lambda pair: pair[0], reverse=not view.reverse)
    return [row for _, row in ordered] + [row for row in rows if number(row[1]) is None]
