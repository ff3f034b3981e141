"""Records -> what an export is made of: whole results only, and in words what is not exported."""

from __future__ import annotations

import difflib
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.completions import Mode
from bench.errors import RecordError, UsageError
from bench.escape import printable
from bench.performance import Cell, PerformanceKey, Sample
from bench.performance import sha256 as sha256_of
from bench.progress import Progress
from bench.records import ModelInfo, first_fault, rounded
from bench.sources import quoted
from bench.store import Store, StoredPerformance, read_samples, samples_path, slug
from proxies.board import Board, read_board
from proxies.leaderboard import rows_as_data
from proxies.performance import current

Json = dict[str, Any]

BoardRow = dict[str, Any]
"""A row of `bench leaderboard --json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotExported:
    """A record that is in no export, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Which model: one of two of the same name differs from the other in revision or arithmetic.

    Attributes:
        revision: of the weights; of a model behind a service its address; empty where nobody says.
        dtype: of the arithmetic; empty where nobody says.
    """

    model: str
    revision: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One task at one number of shots, with the record that it is from."""

    task: str
    cell: Cell
    stored: StoredPerformance

    @property
    def key(self) -> PerformanceKey:
        """Of the record."""
        return self.stored.record.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one model was asked in one way.

    Attributes:
        folder: a file name that no other run has.
        answered: by task and shots; of a cell that was asked twice the latest.
    """

    weights: Weights
    provider: str
    mode: Mode
    seed: int
    folder: str
    answered: tuple[Answered, ...]

    @property
    def info(self) -> ModelInfo | None:
        """What is known of the model, where it was here."""
        return self.answered[-1].stored.record.model

    @property
    def date(self) -> str:
        """When the latest of its records was begun; UTC, ISO 8601."""
        return max(one.stored.record.provenance.date for one in self.answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEntry:
    """A row of the leaderboard, numbers rounded as records are; and the settings of its estimator as JSON."""

    weights: Weights
    row: BoardRow
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is exported of a results folder."""

    results: Path
    board: tuple[BoardEntry, ...]
    runs: tuple[Run, ...]
    not_exported: tuple[NotExported, ...]


def select(
    results: Path, models: Sequence[str], progress: Progress, *, with_board: bool, with_answers: bool
) -> Selection:
    """Read a results folder.

    Args:
        models: only these; none: all.
        with_board: whether the rows of the leaderboard are asked for.
        with_answers: whether performance is asked for.

    Raises:
        UsageError: there is no such folder, nothing in it, or no such model.
    """
    if not results.is_dir():
        raise UsageError(
            f"there is no results folder {results}; run `bench run MODEL` first, or name one with --results"
        )
    board = read_board(Store(results), progress)
    folders: tuple[str, ...] = ("emergence/", "estimates/") if with_board else ()
    folders += ("performance/",) if with_answers else ()
    left = [
        NotExported(what=printable(file.path), reason=file.reason)
        for file in board.rejected
        if file.path.startswith(folders)
    ]
    rows: tuple[BoardEntry, ...] = ()
    runs: tuple[Run, ...] = ()
    if with_board:
        rows = _rows(board)
        left += _without_row(board)
    if with_answers:
        runs, unanswered = _runs(results, board.performances)
        left += unanswered
    names = {entry.weights.model for entry in rows} | {run.weights.model for run in runs}
    if not names:
        why = f": {left[0].what}: {left[0].reason}" if left else ""
        needed = "`bench run MODEL`" if not with_answers else "`bench run MODEL` or `bench query MODEL`"
        needed = "`bench query MODEL`" if not with_board else needed
        raise UsageError(f"{results} holds nothing to export{why}; run {needed} first, or name a folder with --results")
    _check_names(models, names)
    if models:
        wanted = {slug(name) for name in models}
        left = [one for one in left if one.what.split("/")[1:2] and one.what.split("/")[1] in wanted]
    return Selection(
        results=results,
        board=tuple(entry for entry in rows if not models or entry.weights.model in models),
        runs=tuple(run for run in runs if not models or run.weights.model in models),
        not_exported=tuple(left),
    )


def by_weights(selection: Selection) -> list[tuple[Weights, str, list[BoardEntry], list[Run]]]:
    """Each model with its folder, its rows of the leaderboard and its runs, in order of names."""
    found: dict[Weights, tuple[list[BoardEntry], list[Run]]] = {}
    asked: dict[str, set[Weights]] = {}
    for run in selection.runs:
        asked.setdefault(run.weights.model, set()).add(run.weights)
    for entry in selection.board:
        weights = entry.weights
        if not weights.revision and len(asked.get(weights.model, ())) == 1:  # estimated: of whatever has answered
            (weights,) = asked[weights.model]
        found.setdefault(weights, ([], []))[0].append(entry)
    for run in selection.runs:
        found.setdefault(run.weights, ([], []))[1].append(run)
    order = sorted(found, key=_order)
    folders = _folders([(weights.model, "", (weights.revision, weights.dtype)) for weights in order])
    return [(weights, folder, *found[weights]) for weights, folder in zip(order, folders, strict=True)]


def date_id(date: str) -> str:
    """A date of a record in the name of a file, as `datetime.isoformat` with microseconds writes it, without colons."""
    return f"{date}T00:00:00"[:19].replace(":", "-") + ".000000"


def dumped(content: Json, indent: int | None = None) -> bytes:
    """JSON in UTF-8; half a character, which has no UTF-8 (a file name may hold one), as an escape."""
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def samples_of(results: Path, stored: StoredPerformance) -> dict[int, list[Sample]]:
    """The scored samples of a record by number of shots.

    Raises:
        RecordError: they are gone, or not those that the record was counted from.
    """
    path = samples_path(results / stored.path)
    try:
        content = read_samples(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path.name}: {error.strerror}") from error
    if sha256_of(content) != stored.record.samples_sha256:
        raise RecordError(f"{path.name}: not the samples that the record was counted from")
    found: dict[int, list[Sample]] = {}
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            sample = Sample.model_validate_json(line)
        except ValidationError as error:
            raise RecordError(f"{path.name}:{number}: {first_fault(error, 'the line')}") from error
        found.setdefault(sample.n_shots, []).append(sample)
    for cell in stored.record.cells:
        samples = found.get(cell.n_shots, [])
        n_correct = sum(sample.is_correct is True for sample in samples)
        if (len(samples), n_correct) != (cell.n_questions, cell.n_correct):
            raise RecordError(
                f"{path.name}: {n_correct} of {len(samples)} right at {cell.n_shots} shots, but the record has "
                f"{cell.n_correct} of {cell.n_questions}"
            )
    return found


def _rows(board: Board) -> tuple[BoardEntry, ...]:
    """The rows of the leaderboard in its order."""
    tables = [table for table in board.tables for _ in table.entries]
    return tuple(_entry(row, table.setting.settings) for table, row in zip(tables, rows_as_data(board), strict=True))


def _entry(row: BoardRow, settings: str) -> BoardEntry:
    model = row["model"]
    row = {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}
    weights = Weights(model=model["name"], revision=model.get("revision") or "", dtype=model.get("dtype") or "")
    return BoardEntry(weights=weights, row=row, settings=settings)


def _without_row(board: Board) -> list[NotExported]:
    """Records that are part of no row, those of tasks aside that make no rank."""
    return [NotExported(what=printable(one.path), reason=one.reason) for one in board.apart if one.path is not None]


def _runs(results: Path, stored: Sequence[StoredPerformance]) -> tuple[tuple[Run, ...], list[NotExported]]:
    """What was answered in full, and the records that were not."""
    left, whole = [], []
    for item in stored:
        reason = _why_not_answered(results, item)
        if reason is None:
            whole.append(item)
        else:
            left.append(NotExported(what=printable(item.path), reason=reason))
    groups: dict[tuple[Weights, str, Mode, int], list[StoredPerformance]] = {}
    for item in sorted(whole, key=lambda item: (item.record.provenance.date, item.path)):
        key = item.record.key
        weights = Weights(model=key.model, revision=key.revision or key.base_url or key.provider, dtype=key.dtype or "")
        groups.setdefault((weights, key.provider, key.mode, key.seed), []).append(item)
    order = sorted(groups, key=lambda group: (_order(group[0]), *group[1:]))
    folders = _folders([(weights.model, _way(mode, seed), (weights.revision, weights.dtype, provider))
                        for weights, provider, mode, seed in order])  # fmt: skip
    runs = []
    for group, folder in zip(order, folders, strict=True):
        answered, superseded = _latest(groups[group])
        weights, provider, mode, seed = group
        runs.append(
            Run(weights=weights, provider=provider, mode=mode, seed=seed, folder=folder, answered=tuple(answered))
        )
        left += [
            NotExported(what=printable(path), reason="superseded by a later record of the same") for path in superseded
        ]
    return tuple(runs), left


def _why_not_answered(results: Path, item: StoredPerformance) -> str | None:
    n_failed = sum(cell.n_failed for cell in item.record.cells)
    if n_failed:
        n_questions = sum(cell.n_questions for cell in item.record.cells)
        return f"{n_failed:,} of {n_questions:,} questions failed; the same `bench query` asks them again"
    try:
        samples_of(results, item)
    except RecordError as error:
        return str(error)
    return None


def _latest(items: Iterable[StoredPerformance]) -> tuple[list[Answered], list[str]]:
    """The latest cell of each task (in its current version) and number of shots, and the records without one."""
    items = list(items)
    by_task: dict[str, list[StoredPerformance]] = {}
    for item in items:
        by_task.setdefault(item.record.key.task, []).append(item)
    found = {
        (task, cell.n_shots): Answered(task=task, cell=cell, stored=item)
        for task, of_task in by_task.items()
        for item in current(of_task)
        for cell in item.record.cells
    }
    used = {one.stored.path for one in found.values()}
    return [found[place] for place in sorted(found)], [item.path for item in items if item.path not in used]


def _way(mode: Mode, seed: int) -> str:
    """What tells the runs of one model apart in the name of a folder; nothing for the usual one."""
    return ("" if mode == "completion" else f"+{mode}") + (f"+seed{seed}" if seed else "")


def _folders(named: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[str]:
    """A folder for each (model, way, rest): the rest has a say where model and way are the same. No slug has a plus."""
    plain = [slug(model) + way for model, way, _ in named]
    counts = Counter(plain)
    return [
        name if counts[name] == 1 else f"{name}+{sha256(json.dumps(rest).encode()).hexdigest()[:8]}"
        for name, (_, _, rest) in zip(plain, named, strict=True)
    ]


def _order(weights: Weights) -> tuple[str, str, str]:
    return weights.model, weights.revision, weights.dtype


def _check_names(wanted: Sequence[str], names: set[str]) -> None:
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.4)
            meant = f"did you mean {quoted(near[0])}? " if near else ""
            listed = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
            raise UsageError(f"--models: nothing to export of {quoted(name)}; {meant}there are {listed}")
