"""The tables of the page: static HTML that reads without a script, with the values that a script sorts by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.escape import href, html_text
from bench.intervals import with_half_width
from proxies.page_data import BoardTable, FitBehind, Link, ModelRow, Number

NONE = '<span aria-hidden="true">–</span><span class="unseen">none</span>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: what a cell shows (safe HTML), and what it is sorted by; a cell without a value always comes last.

    Attributes:
        sort: texts and ranks begin with the first, numbers with the largest.
    """

    heading: str
    html: Callable[[ModelRow], str]
    value: Callable[[ModelRow], float | str | None]
    sort: Literal["text", "rank", "number"] = "number"


def board(table: BoardTable, number: int, identifiers: Sequence[str], notes: dict[str, str]) -> str:
    """A table in a region of its own that scrolls sideways.

    Args:
        number: of the table on the page, from 1.
        identifiers: of each row; see `identified`.
        notes: what a column is, by its heading.
    """
    columns = _columns(_longest(table))
    headings = "".join(
        f'<th scope="col" data-sort="{column.sort}"'
        + (f' title="{html_text(note)}"' if (note := notes.get(column.heading.partition(" (")[0])) else "")
        + f">{html_text(column.heading)}</th>"
        for column in columns
    )
    rows = "\n".join(_row(row, columns, identifier) for row, identifier in zip(table.rows, identifiers, strict=True))
    title = f"table-{number}"
    return (
        f'<section class="board">\n<h2 id="{title}">{html_text(table.title)}</h2>\n<p>{html_text(table.remark)}</p>\n'
        f'<div class="scroll" role="region" aria-labelledby="{title}" tabindex="0">\n'
        f'<table aria-labelledby="{title}">\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n'
        "</div>\n</section>"
    )


def identified(tables: Sequence[BoardTable]) -> list[list[str]]:
    """The fragment of every row of every table: a readable name, and a digest that other rows do not change."""
    taken: set[str] = set()
    return [[_fragment(table.title, row, taken) for row in table.rows] for table in tables]


def _fragment(title: str, row: ModelRow, taken: set[str]) -> str:
    fit = row.behind.fit.path if row.behind else ""
    key = "\n".join((title, row.name, row.revision or "", row.precision or "", str(row.bos), row.kind, fit))
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9.]+", "-", row.name.lower()).strip("-.")[:60]
    fragment = f"m-{name}-{digest}"
    n_copies = 1
    while fragment in taken:  # rows that differ in nothing that names them
        n_copies += 1
        fragment = f"m-{name}-{digest}-{n_copies}"
    taken.add(fragment)
    return fragment


def link(target: Link) -> str:
    """A relative link."""
    return f'<a href="{href(target.path)}">{html_text(target.text)}</a>'


def number(value: Number | None, *, signed: bool = False) -> str:
    """A number and its 95 % interval; one without says so."""
    if value is None:
        return NONE
    if value.half_width is None:
        return f"{value.value:{'+' if signed else ''}.2f} <small>no interval</small>"
    shown = html_text(with_half_width(value.value, value.half_width, signed=signed))
    return f"{shown} <small>{html_text(value.remark)}</small>" if value.remark else shown


def _row(row: ModelRow, columns: tuple[Column, ...], identifier: str) -> str:
    cells = []
    for column in columns:
        value = column.value(row)
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        key = "" if value is None else f' data-value="{html_text(text)}"'
        if column.heading == "model":
            cells.append(f'<th scope="row"{key}><a class="open" href="#{identifier}">{column.html(row)}</a></th>')
        else:
            name = column.heading if column.heading in ("family", "date") else "text" if column.sort == "text" else "n"
            cells.append(f'<td class="{name}"{key}>{column.html(row)}</td>')
    return f'<tr id="{identifier}" class="model" data-kind="{row.kind}">{"".join(cells)}</tr>'


def _columns(longest: float) -> tuple[Column, ...]:
    """All columns; name and numbers stand first, so that a phone shows them, and how they were measured last."""
    return (
        Column(heading="rank", html=_rank, value=lambda row: row.rank, sort="rank"),
        _text("model", lambda row: row.name),
        Column(
            heading="emergence (bits)",
            html=lambda row: _emergence(row) + _bar(row, longest),
            value=lambda row: row.emergence.value,
        ),
        Column(
            heading="ceiling",
            html=lambda row: NONE if row.ceiling is None else f"{row.ceiling:.2f}",
            value=lambda row: row.ceiling,
        ),
        _number("over twin", lambda row: row.over_twin),
        _number("over random words", lambda row: row.over_random_words),
        _number("performance", lambda row: row.performance),
        Column(heading="measured / estimated", html=_kind, value=lambda row: row.kind, sort="text"),
        _text("family", lambda row: row.family),
        Column(heading="parameters", html=_parameters, value=lambda row: row.n_parameters),
        _text("type", lambda row: f"{row.type}, {row.made_from}" if row.made_from else row.type),
        _text("precision", lambda row: row.precision),
        _text("BOS", lambda row: None if row.bos is None else "yes" if row.bos else "no"),
        _text("revision", lambda row: row.revision),
        Column(heading="n samples", html=lambda row: f"{row.n_samples:,}", value=lambda row: row.n_samples),
        Column(
            heading="seeds",
            html=lambda row: NONE if row.n_seeds is None else str(row.n_seeds),
            value=lambda row: row.n_seeds,
        ),
        _text("date", lambda row: row.date),
        Column(heading="source and records", html=_source, value=lambda row: len(row.records)),
    )


def _text(heading: str, read: Callable[[ModelRow], str | None]) -> Column:
    def html(row: ModelRow) -> str:
        text = read(row)
        return NONE if text is None else html_text(text)

    return Column(heading=heading, html=html, value=read, sort="text")


def _number(heading: str, read: Callable[[ModelRow], Number | None]) -> Column:
    """A difference with its interval."""

    def value(row: ModelRow) -> float | None:
        difference = read(row)
        return None if difference is None else difference.value

    return Column(heading=heading, html=lambda row: number(read(row), signed=True), value=value)


def _rank(row: ModelRow) -> str:
    if row.rank is not None:
        return str(row.rank)
    reason = "no rank"
    if row.made_from is not None:
        why = {"derived": "derived from another model", "checkpoint": "a checkpoint of a training"}
        reason = f"no rank: {why[row.made_from]}"
    elif row.behind and not row.behind.beats_baseline:
        reason = "no rank: an estimate whose fit beats no baseline"
    return f'<span title="{reason}" aria-hidden="true">–</span><span class="unseen">{reason}</span>'


def _parameters(row: ModelRow) -> str:
    if row.n_parameters is None:
        return '<span aria-hidden="true">–</span><span class="unseen">not known</span>'
    return f"{row.n_parameters / 1e6:,.1f} M"


def _emergence(row: ModelRow) -> str:
    """A measured number with its 95 % interval, an estimate with that of its fit."""
    if row.behind is None:
        return number(row.emergence)
    if row.behind.interval_80 is None:
        return f"{row.emergence.value:.2f} <small>no interval: too few families</small>"
    low, high = row.behind.interval_80
    return f"{row.emergence.value:.2f} <small>80 %: {low:.2f} to {high:.2f}</small>"


def _longest(table: BoardTable) -> float:
    """What the full width of a bar stands for."""
    return max([1e-9, *(max(row.emergence.value, row.ceiling or 0.0) for row in table.rows)])


def _bar(row: ModelRow, longest: float) -> str:
    """Emergence within its ceiling, in hundredths of the longest; the cell says both in numbers."""
    full = min(max(row.emergence.value, 0.0) / longest, 1.0)
    most = min(max(row.ceiling or 0.0, 0.0) / longest, 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="most" width="{100 * most:.1f}" height="6"/>'
        f'<rect class="full" width="{100 * full:.1f}" height="6"/></svg>'
    )


def _kind(row: ModelRow) -> str:
    if row.behind is None:
        return f'<span class="{row.kind}">{row.kind}</span>'
    return f'<span class="{row.kind}">{row.kind}</span> {_behind(row.behind)}'


def _behind(behind: FitBehind) -> str:
    """The fit behind an estimate: what from, held-out error against the baseline's, and the verdict."""
    what = {"answers": "from its answers", "text": "from text that it wrote"}[behind.source]
    if behind.error_bits is None:
        error = "predicts nothing held out"
    else:
        error = f"held-out error {behind.error_bits:.2f} bits"
    if behind.baseline_error_bits is not None:
        error += f" ({html_text(behind.baseline)}: {behind.baseline_error_bits:.2f})"
    if behind.measured_bits is not None:
        error += f"; measured it is {behind.measured_bits:.2f} bits"
    count = f"{behind.n_models} models of {behind.n_families} families"
    verdict = html_text(behind.verdict)
    return f'<small class="behind">{what}; {link(behind.fit)} on {count}; {error}. {verdict}</small>'


def _source(row: ModelRow) -> str:
    records = "".join(f"<li>{link(record)}</li>" for record in row.records) or "<li>none</li>"
    count = "1 record" if len(row.records) == 1 else f"{len(row.records)} records"
    return (
        f"<details><summary>{count}</summary><dl><dt>source</dt><dd>{html_text(row.source)}</dd>"
        f"<dt>licence</dt><dd>{html_text(row.licence)}</dd><dt>records</dt><dd><ul>{records}</ul></dd></dl></details>"
    )
