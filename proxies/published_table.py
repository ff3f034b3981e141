"""A file of comma-separated values -> its lines, and what its columns are: names, sizes, benchmarks.

Whatever cannot be read as what it stands for is refused here, with its line, its column and its value.
"""

from __future__ import annotations

import csv
import io
import re
import stat
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UsageError
from bench.sources import NAME_LENGTH_LIMIT, quoted
from proxies.chance import chance_of

N_BYTES_LIMIT = 10_000_000  # some 50,000 models; a larger file is something else

Role = Literal["model", "family", "size", "tokens", "flops"]

SPELLINGS: Mapping[str, Role] = {
    "model": "model",
    "model name": "model",
    "name": "model",
    "family": "family",
    "model family": "family",
    "model size": "size",
    "size": "size",
    "parameters": "size",
    "params": "size",
    "n parameters": "size",
    "n params": "size",
    "pretraining data size": "tokens",
    "pretraining tokens": "tokens",
    "tokens": "tokens",
    "n tokens": "tokens",
    "flops": "flops",
    "n flops": "flops",
}
"""What a column is, by its name in small letters without the unit; "_", "-", "#" and spaces are one."""

UNITS: Mapping[str, float] = {"m": 1e6, "b": 1e9, "t": 1e12, "1e21": 1e21}
"""The last word of the name of a size, in brackets or not: "Model Size (B)", "parameters_b"."""

_UNITLESS = frozenset({"parameters", "params", "tokens", "flops"})
"""Counts by their name, which need no unit; "size" could be anything."""

_LOOKS_LIKE_A_SIZE = re.compile("size|param|token|flop")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that is read: what it is, and what to multiply its numbers by."""

    index: int
    name: str
    role: Role | Literal["other"]
    factor: float = 1.0

    @property
    def benchmark(self) -> str:
        """The name without the sign of percent."""
        return re.sub(r" *(\(%\)|%)$", "", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the file with its cells, which are as many as there are columns."""

    number: int
    cells: tuple[str, ...]


def content(path: Path) -> str:
    """The text of a file of at most `N_BYTES_LIMIT` bytes of UTF-8, with or without a byte order mark."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise UsageError("no file; name a file of comma-separated values")
        with path.open("rb") as file:
            data = file.read(N_BYTES_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UsageError(f"cannot be read: {error}; name a file of comma-separated values") from error
    if len(data) > N_BYTES_LIMIT:
        raise UsageError(f"more than {N_BYTES_LIMIT:,} bytes; expected a table of models, split it or drop columns")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"line {line}: byte {data[error.start]:#04x} is no UTF-8 text; save the table as UTF-8"
        ) from error


def table(text: str) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """The names of the columns, and the lines below them."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    end = 0  # of the line before: a cell may hold line breaks
    try:
        for cells in reader:
            if cells:
                lines.append(Line(number=end + 1, cells=tuple(cell.strip(" ") for cell in cells)))
            end = reader.line_num
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num}: {error}; save the table as comma-separated values") from error
    if not lines:
        raise UsageError("empty; expected a line with the names of the columns, then one line per model")
    header, *rest = lines
    for name in header.cells:
        check_name(name, header.number, "the name of a column", "rename the column")
    for line in rest:
        if len(line.cells) != len(header.cells):
            raise UsageError(
                f"line {line.number}: {len(line.cells)} cell(s), expected {len(header.cells)} as in the first line; "
                "leave unknown cells empty and quote those with commas"
            )
    return header.cells, tuple(rest)


def check_name(name: str, line: int, column: str, remedy: str) -> None:
    """Refuse what could do harm where it is shown: in a terminal, a report or a spreadsheet."""
    if not name.isprintable():
        expected = "printable characters only"
    elif name.startswith(("=", "+", "-", "@")):
        expected = "no name that a spreadsheet takes for a formula"
    elif len(name) > NAME_LENGTH_LIMIT:
        expected = f"at most {NAME_LENGTH_LIMIT} characters"
    else:
        return
    raise UsageError(f"line {line}, {column}: got {quoted(name)}, expected {expected}; {remedy}")


def recognised(header: Sequence[str]) -> tuple[Column, ...]:
    """What the columns are; model, family and size must be among them, and none may be there twice."""
    if len(header) == 1:
        raise UsageError(f"line 1: one column only, {quoted(header[0])}; separate the columns by commas")
    columns = tuple(_column(index, name) for index, name in enumerate(header))
    for role, words in (("model", "Model"), ("family", "Model Family"), ("size", "Model Size (B)")):
        if all(column.role != role for column in columns):
            known = ", ".join(spelling for spelling, its_role in SPELLINGS.items() if its_role == role)
            raise UsageError(
                f"line 1: no column for the {role} among {', '.join(map(quoted, header))}; "
                f"expected one such as {quoted(words)} ({known})"
            )
    taken: dict[str, Column] = {}
    for column in columns:
        key = column.benchmark.casefold() if column.role == "other" else column.role
        if key in taken:
            raise UsageError(
                f"line 1: columns {quoted(taken[key].name)} and {quoted(column.name)} say the same; keep one of them"
            )
        taken[key] = column
    return columns


def _column(index: int, name: str) -> Column:
    plain = re.sub(r"[\s_#-]+", " ", name.casefold()).strip()
    noun, _, last = plain.rpartition(" ")
    factor = UNITS.get(last.strip("()"))
    role = SPELLINGS.get(noun)
    if factor and role in ("size", "tokens", "flops"):
        return Column(index=index, name=name, role=role, factor=factor)
    role = SPELLINGS.get(plain)
    if role in ("model", "family") or (role and plain.removeprefix("n ") in _UNITLESS):
        return Column(index=index, name=name, role=role)
    if not name.strip("(%) "):
        raise UsageError(f"line 1: column {index + 1} has no name; give it one, or remove it")
    if _LOOKS_LIKE_A_SIZE.search(plain):
        raise UsageError(
            f"line 1: column {quoted(name)} looks like a size of unknown kind or unit, expected one such as "
            "'Model Size (B)', 'n_parameters', 'Tokens (T)' or 'FLOPs (1E21)'; rename or remove it"
        )
    return Column(index=index, name=name, role="other")


def benchmark_scores(
    columns: Sequence[Column], lines: Sequence[Line]
) -> tuple[tuple[str, ...], list[dict[str, float]], tuple[str, ...]]:
    """The names of the benchmarks, the scores of each line as fractions, and what was decided on each column."""
    scores: list[dict[str, float]] = [{} for _ in lines]
    decided: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        values = _values(column, lines)
        if not values or _is_no_score(column, values):
            decided["ignored, being no scores"].append(column.name)
            continue
        is_percent = _is_percent(column, values)
        decided["taken as percent" if is_percent else "taken as fractions"].append(column.benchmark)
        for line, of_line in zip(lines, scores, strict=True):
            if line.number in values:
                of_line[column.benchmark] = values[line.number] / (100 if is_percent else 1)
    names = tuple(column.benchmark for column in columns if column.name not in decided["ignored, being no scores"])
    if not names:
        raise UsageError("line 1: no column of benchmark scores; expected one such as 'MMLU', from 0 to 1 or 0 to 100")
    return names, scores, tuple(f"columns {what}: {', '.join(whose)}" for what, whose in decided.items() if whose)


def _values(column: Column, lines: Sequence[Line]) -> dict[int, float]:
    """The numbers in a column by line; none if all of it is text."""
    filled = [line for line in lines if line.cells[column.index]]
    if not any(_NUMBER.fullmatch(line.cells[column.index]) for line in filled):
        return {}
    return {line.number: _number(line, column) for line in filled}


def _number(line: Line, column: Column) -> float:
    cell = line.cells[column.index]
    if not _NUMBER.fullmatch(cell):
        raise _wrong(line.number, column, cell, "a number such as 0.25", "leave the cell empty where there is none")
    return float(cell)


def _is_no_score(column: Column, values: Mapping[int, float]) -> bool:
    """Whether this is something else, such as a year; a sound score beside unsound ones is a mistake instead."""
    return chance_of(column.benchmark) is None and not any(0 <= value <= 100 for value in values.values())


def _is_percent(column: Column, values: Mapping[int, float]) -> bool:
    """Whether the scores are percent and not fractions; a column that could be a mixture is refused."""
    remedy = "correct it, or remove a column of no scores"
    for number, value in values.items():
        if not 0 <= value <= 100:
            raise _wrong(number, column, f"{value:g}", "a score from 0 to 1 or from 0 to 100", remedy)
    if column.name != column.benchmark:
        return True
    largest = max(values, key=lambda number: values[number])
    if values[largest] <= 1:
        return False
    for number, value in values.items():
        if 0 < value <= 1:
            raise _wrong(
                number,
                column,
                f"{value:g}",
                f"percent above 1, as line {largest} has {values[largest]:g}",
                f"name the column {quoted(column.name + ' (%)')} if all of it is percent; else {remedy}",
            )
    return True


def _wrong(line: int, column: Column, got: str, expected: str, remedy: str) -> UsageError:
    return UsageError(f"line {line}, column {quoted(column.name)}: got {quoted(got)}, expected {expected}; {remedy}")


def amount(line: Line, column: Column | None, least: float = 1, most: float = 1e40) -> float | None:
    """A count in plain units; None where the cell is empty or there is no such column."""
    if column is None or not line.cells[column.index]:
        return None
    value = _number(line, column) * column.factor
    if not least <= value <= most:
        expected = f"{least / column.factor:g} to {most / column.factor:g} in the unit of the column"
        remedy = "correct it or the unit in the column's name, or leave the cell empty"
        raise _wrong(line.number, column, line.cells[column.index], expected, remedy)
    return value
