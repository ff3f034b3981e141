"""A table of published benchmark scores -> rows, and large models beside the small sibling of their family.

Every number here is `published`: somebody else measured it, on prompts that need not be ours.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pandas as pd

from bench.errors import UsageError
from bench.escape import printable
from bench.sources import quoted
from proxies.chance import chance_of
from proxies.published_table import (
    UNITS,
    Column,
    Line,
    amount,
    benchmark_scores,
    check_name,
    content,
    recognised,
    table,
)

SIZE_RANGE = (1e4, 1e14)  # parameters; outside, the unit of the column is wrong
N_TOKENS_LIMIT = 1e14  # the largest training set told of up to 2025, that of Llama 4 Scout, has 4e13 tokens
FLOPS_FACTOR_LIMIT = 30.0  # between FLOPs and 6 * parameters * tokens; sparse models stay below it
SIZE_FACTOR_LIMIT = 1.5  # between the size in a name and the one in its column; names round, 6.7 to 7b

_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])([0-9]+)(?:[._]([0-9]+))?([bm])([0-9]*)(?![A-Za-z0-9])", re.IGNORECASE)
"""7b, 1.3B, 1_6b, 7b1 and 410m; not 8x7B or A14B, which count parts of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One model; `n_parameters`, `n_tokens` and `flops` are plain counts, scores fractions from 0 to 1.

    A benchmark without a published score is not in `scores`; what is not known, or not believable, is None.
    """

    model: str
    family: str
    n_parameters: int
    n_tokens: int | None
    flops: float | None
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A line of the file that is no row, and why."""

    line: int
    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScores:
    """What a file holds; rows by family, then size, then name, whatever their order in the file."""

    rows: tuple[PublishedRow, ...]
    benchmarks: tuple[str, ...]
    excluded: tuple[Exclusion, ...]
    remarks: tuple[str, ...]
    tag: Literal["published"] = "published"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiblingFrame:
    """One row per large model, beside the small sibling of its family; `excluded` and `remarks` in words.

    The columns of `frame`: model, family, n_parameters, score, chance, sibling, sibling_score, sibling_n_parameters,
    log_size_ratio, the natural logarithm of the member's parameters over the sibling's, and tag, always "published".
    """

    frame: pd.DataFrame
    benchmark: str
    excluded: tuple[str, ...]
    remarks: tuple[str, ...]
    tag: Literal["published"] = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A line as read, before anything is left out of it."""

    line: int
    model: str
    family: str
    n_parameters: float | None
    n_tokens: float | None
    flops: float | None
    scores: Mapping[str, float]


def read_scores(path: Path) -> PublishedScores:
    """Read a table of comma-separated values with one model per line.

    `SPELLINGS` and `UNITS` say how the columns of names and sizes are recognised. Any other column of numbers is a
    benchmark: fractions if none is above 1, else percent, which a name such as "MMLU (%)" says outright. A number of
    parameters that is missing is not guessed: the model is in `excluded`. Training tokens and FLOPs are dropped
    where they cannot be right: tokens beyond any known training set, or FLOPs far from 6 * parameters * tokens.

    Raises:
        UsageError: the file cannot be read, or holds something that is no sound score, size or name.
    """
    try:
        header, lines = table(content(path))
        columns = recognised(header)
        benchmarks, scores, remarks = benchmark_scores([column for column in columns if column.role == "other"], lines)
        drafts = [_draft(line, columns, line_scores) for line, line_scores in zip(lines, scores, strict=True)]
        drafts, repeated = _once_each(drafts)
        rows, excluded = _complete(drafts)
        if not rows:
            first = f"; line {excluded[0].line}: {excluded[0].reason}" if excluded else ""
            raise UsageError(f"no model with a name, a family, a size and a score{first}; add what is missing")
    except UsageError as error:
        raise UsageError(f"{printable(str(path))}: {error}") from error
    rows, doubts = _without_traps(rows)
    missing = _missing(rows, benchmarks)
    return PublishedScores(
        rows=tuple(_row(row) for row in sorted(rows, key=lambda row: (row.family, row.n_parameters or 0, row.model))),
        benchmarks=benchmarks,
        excluded=excluded,
        remarks=(*remarks, *missing, *repeated, *doubts),
    )


def sibling_cells(
    scores: PublishedScores, benchmark: str, *, sibling_at_most: float = 2e9, member_at_least: float = 6e9
) -> SiblingFrame:
    """Every model of at least `member_at_least` parameters beside the small sibling of its family.

    The sibling is the largest model of at most `sibling_at_most` parameters that has a score on the benchmark; of
    two equally large ones the first by name, and a remark says so.

    Raises:
        UsageError: nobody has a score on such a benchmark, or the limits overlap.
    """
    if benchmark not in scores.benchmarks:
        raise UsageError(f"no benchmark {quoted(benchmark)}; choose one of {', '.join(scores.benchmarks)}")
    if not 0 < sibling_at_most < member_at_least < math.inf:
        raise UsageError(
            f"a sibling has at most {sibling_at_most:g} parameters and a member at least {member_at_least:g}; "
            "give two positive numbers of which the second is larger"
        )
    level, remarks = _chance(benchmark)
    cells: list[dict[str, object]] = []
    excluded: list[str] = []
    for family, rows in _by_family(scores.rows):
        members = [row for row in rows if row.n_parameters >= member_at_least]
        small = [row for row in rows if row.n_parameters <= sibling_at_most]
        scored = [row for row in small if benchmark in row.scores]
        lacking = [row for row in members if benchmark not in row.scores]
        between = [row for row in rows if sibling_at_most < row.n_parameters < member_at_least]
        if between:
            excluded.append(f"{family}: neither member nor sibling by size: {_names(between)}")
        if not members:
            excluded.append(f"{family}: no model of at least {member_at_least:g} parameters")
        elif not scored:
            which = f"with a score on {benchmark}" if small else "at all"
            excluded.append(
                f"{family}: no sibling of at most {sibling_at_most:g} parameters {which}, so none for {_names(members)}"
            )
        else:
            sibling = min(scored, key=lambda row: (-row.n_parameters, row.model))
            equals = [row for row in scored if row.n_parameters == sibling.n_parameters]
            if len(equals) > 1:
                remarks.append(f"{family}: siblings of equal size, {_names(equals)}; the first by name is taken")
            if lacking:
                excluded.append(f"{family}: no score on {benchmark}: {_names(lacking)}")
            cells += [_cell(row, sibling, benchmark, level) for row in members if row not in lacking]
    frame = pd.DataFrame(cells, columns=list(_CELL_TYPES)).astype(_CELL_TYPES)
    return SiblingFrame(frame=frame, benchmark=benchmark, excluded=tuple(excluded), remarks=tuple(remarks))


_CELL_TYPES = {
    "model": "str",
    "family": "str",
    "n_parameters": "int64",
    "score": "float64",
    "chance": "float64",
    "sibling": "str",
    "sibling_score": "float64",
    "sibling_n_parameters": "int64",
    "log_size_ratio": "float64",
    "tag": "str",
}


def _cell(member: PublishedRow, sibling: PublishedRow, benchmark: str, chance: float) -> dict[str, object]:
    return {
        "model": member.model,
        "family": member.family,
        "n_parameters": member.n_parameters,
        "score": member.scores[benchmark],
        "chance": chance,
        "sibling": sibling.model,
        "sibling_score": sibling.scores[benchmark],
        "sibling_n_parameters": sibling.n_parameters,
        "log_size_ratio": math.log(member.n_parameters / sibling.n_parameters),
        "tag": "published",
    }


def _chance(benchmark: str) -> tuple[float, list[str]]:
    """The score of guessing, 0 where there is none, with the remark that says so."""
    known = chance_of(benchmark)
    if known is None:
        return 0.0, [f"no chance level is known for {benchmark}: 0 stands in its place"]
    if known.level is None:
        return 0.0, [f"{benchmark} has no chance level, so 0 stands in its place: {known.source}"]
    return known.level, [f"chance on {benchmark} is {known.level:g}: {known.source}"]


def _draft(line: Line, columns: Sequence[Column], scores: Mapping[str, float]) -> _Draft:
    by_role = {column.role: column for column in columns if column.role != "other"}
    names: dict[str, str] = {}
    for role in ("model", "family"):
        names[role] = line.cells[by_role[role].index]
        check_name(names[role], line.number, f"column {quoted(by_role[role].name)}", f"rename the {role}")
    return _Draft(
        line=line.number,
        model=names["model"],
        family=names["family"],
        n_parameters=amount(line, by_role["size"], *SIZE_RANGE),
        n_tokens=amount(line, by_role.get("tokens")),
        flops=amount(line, by_role.get("flops")),
        scores=MappingProxyType(dict(scores)),
    )


def _once_each(drafts: Sequence[_Draft]) -> tuple[list[_Draft], tuple[str, ...]]:
    """Each model once, with remarks on those that stood there more often saying the same."""
    kept: dict[str, _Draft] = {}
    remarks = []
    for draft in drafts:
        first = kept.setdefault(draft.model.casefold() or f"\n{draft.line}", draft)
        if first is draft:
            continue
        if replace(draft, line=first.line) != first:
            raise UsageError(
                f"line {draft.line}: {quoted(draft.model)} stands in line {first.line} too, and they differ in "
                f"{_difference(first, draft)}; keep the right one"
            )
        remarks.append(f"line {draft.line}: {quoted(draft.model)} repeats line {first.line}; kept once")
    return list(kept.values()), tuple(remarks)


def _difference(one: _Draft, other: _Draft) -> str:
    """Where two lines of a model first differ, with both values."""
    for what, a, b in (
        ("the spelling of the model", one.model, other.model),
        ("family", one.family, other.family),
        ("parameters", one.n_parameters, other.n_parameters),
        ("tokens", one.n_tokens, other.n_tokens),
        ("FLOPs", one.flops, other.flops),
        *((name, one.scores.get(name), other.scores.get(name)) for name in sorted({*one.scores, *other.scores})),
    ):
        if a != b:
            shown = ["none" if value is None else quoted(str(value)) for value in (a, b)]
            return f"{what}: {shown[0]} and {shown[1]}"
    raise AssertionError("two equal lines")


def _complete(drafts: Iterable[_Draft]) -> tuple[list[_Draft], tuple[Exclusion, ...]]:
    """The lines that have all a row needs, and the others."""
    complete: list[_Draft] = []
    excluded = []
    for draft in drafts:
        reasons = {
            "no name of the model": draft.model,
            "no family": draft.family,
            "no number of parameters, and none is guessed": draft.n_parameters,
            "no score on any benchmark": draft.scores,
        }
        lacks = [reason for reason, value in reasons.items() if not value]
        if lacks:
            excluded.append(Exclusion(line=draft.line, model=draft.model, reason="; ".join(lacks)))
        else:
            complete.append(draft)
    return complete, tuple(excluded)


def _without_traps(drafts: Sequence[_Draft]) -> tuple[list[_Draft], tuple[str, ...]]:
    """The lines without tokens and FLOPs that cannot be right, and remarks on these and on doubtful sizes."""
    sound = []
    remarks = []
    n_computed = n_all_three = 0
    for draft in sorted(drafts, key=lambda draft: draft.model):
        factor = _flops_factor(draft)
        doubt = None
        if draft.n_tokens and draft.n_tokens > N_TOKENS_LIMIT:
            doubt = f"{draft.n_tokens:.4g} training tokens are more than any known training set has"
        elif factor and factor > FLOPS_FACTOR_LIMIT:
            doubt = f"FLOPs are a factor {factor:.4g} off 6 * parameters * tokens"
        if doubt:
            remarks.append(f"line {draft.line}: {draft.model}: {doubt}; tokens and FLOPs left out")
        if mismatch := _size_mismatch(draft):
            remarks.append(f"line {draft.line}: {draft.model}: {mismatch}; kept as in the column")
        n_all_three += factor is not None
        n_computed += factor is not None and factor < 1.001
        sound.append(replace(draft, n_tokens=None, flops=None) if doubt else draft)
    if n_computed:
        remarks.append(
            f"FLOPs are 6 * parameters * tokens in {n_computed} of {n_all_three} models that have all three: "
            "computed from them, so that they confirm neither"
        )
    return sound, tuple(remarks)


def _flops_factor(draft: _Draft) -> float | None:
    """By what factor, at least 1, FLOPs and 6 * parameters * tokens differ."""
    if not (draft.n_parameters and draft.n_tokens and draft.flops):
        return None
    ratio = draft.flops / (6 * draft.n_parameters * draft.n_tokens)
    return max(ratio, 1 / ratio)


def _size_mismatch(draft: _Draft) -> str | None:
    """What the name says of the size, if it says it once and the column says something else."""
    found = _SIZE_IN_NAME.findall(draft.model)
    if len(found) != 1 or not draft.n_parameters:
        return None
    whole, fraction, unit, digits = found[0]
    named = float(f"{whole}.{fraction or digits or 0}") * UNITS[unit.lower()]
    if named and 1 / SIZE_FACTOR_LIMIT <= draft.n_parameters / named <= SIZE_FACTOR_LIMIT:
        return None
    return f"{draft.n_parameters:.4g} parameters, though the name says {named:.4g}"


def _missing(drafts: Sequence[_Draft], benchmarks: Sequence[str]) -> tuple[str, ...]:
    lacking = {name: sum(name not in draft.scores for draft in drafts) for name in benchmarks}
    words = ", ".join(f"{name} for {count}" for name, count in lacking.items() if count)
    return (f"of {len(drafts)} models a score is missing: {words}",) if words else ()


def _row(draft: _Draft) -> PublishedRow:
    assert draft.n_parameters is not None
    return PublishedRow(
        model=draft.model,
        family=draft.family,
        n_parameters=round(draft.n_parameters),
        n_tokens=None if draft.n_tokens is None else round(draft.n_tokens),
        flops=draft.flops,
        scores=draft.scores,
    )


def _by_family(rows: Iterable[PublishedRow]) -> list[tuple[str, list[PublishedRow]]]:
    families: dict[str, list[PublishedRow]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    return sorted(families.items())


def _names(rows: Iterable[PublishedRow]) -> str:
    return ", ".join(sorted(row.model for row in rows))
