"""The ledger: predictions written before a model is scored, each line chained to the one before, and their errors."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from bench.completions import Mode
from bench.errors import RecordError, StorageError, UsageError
from bench.fits import FitRecord, LedgerEntry, Prediction
from bench.locks import exclusive
from bench.performance import PerformanceRecord, sha256
from bench.records import first_fault, rounded
from bench.store import (
    MAX_RECORD_BYTES,
    StoredPerformance,
    check_inside,
    has_too_many_values,
    read_content,
    write_whole,
)
from proxies.fits import predict
from proxies.validation import Predictor, Problem

FILE = "ledger.jsonl"
BEGINNING = "0" * 64
NOTHING_NEW = "everything that {model} was not asked yet is predicted in the ledger; ask it, then `bench ledger`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A prediction of the ledger with what came of it."""

    entry: LedgerEntry
    prediction: Prediction
    accuracy: float | None
    """None while the model is not scored on that task."""
    is_before: bool
    """Whether the prediction was written before the first question was answered."""

    @property
    def is_inside(self) -> bool | None:
        """Whether the accuracy is in the interval; None where either is missing."""
        low, high = self.prediction.low, self.prediction.high
        if self.accuracy is None or low is None or high is None:
            return None
        return low <= self.accuracy <= high


def read_ledger(root: Path) -> tuple[LedgerEntry, ...]:
    """All entries, oldest first.

    Lines that are missing at the end leave no trace here; version control has them.

    Raises:
        RecordError: a line is not valid, or one before it was changed or taken out; the message says which.
    """
    return tuple(entry for _, entry in _lines(root / FILE, _content(root / FILE)))


def predicted_cells(entries: Sequence[LedgerEntry], model: str, mode: str) -> set[tuple[str, int]]:
    """What the ledger says something of, by hash of the task and number of shots."""
    return {
        (said.task_hash, said.n_shots)
        for entry in entries
        if (entry.model, entry.mode) == (model, mode)
        for said in entry.predictions
    }


def append(
    root: Path, said: Sequence[Prediction], *, date: str, model: str, mode: Mode, predictor: str, fit_sha256: str
) -> LedgerEntry:
    """Add an entry behind the last, under a lock, so that two processes keep the chain and write no cell twice.

    The ledger is written whole or not at all: what a killed process or a full disk leaves is the ledger as it was.

    Args:
        said: those of cells that the ledger has a prediction of already are left out.

    Raises:
        UsageError: it has one of every cell.
        RecordError: the ledger is damaged; nothing is added to it.
        StorageError: it cannot be written.
    """
    path = root / FILE
    with exclusive(root / ".ledger.lock"):
        before = _content(path)
        lines = _lines(path, before)
        known = predicted_cells([entry for _, entry in lines], model, mode)
        said = tuple(one for one in said if (one.task_hash, one.n_shots) not in known)
        if not said:
            raise UsageError(NOTHING_NEW.format(model=model))
        previous = sha256(lines[-1][0]) if lines else BEGINNING
        entry = LedgerEntry(
            schema_version=1, date=date, model=model, mode=mode, predictor=predictor, fit_sha256=fit_sha256,
            predictions=said, previous_sha256=previous,
        )  # fmt: skip
        content = before + entry.model_dump_json().encode() + b"\n"
        if len(content) > MAX_RECORD_BYTES or has_too_many_values(content):
            raise StorageError(f"cannot write {path}: it is full; move it away, and a new one begins")
        check_inside(root, path, path)
        write_whole(path.resolve(), content)
    return entry


def predictions(problem: Problem, record: FitRecord, to_come: pd.DataFrame) -> tuple[str, tuple[Prediction, ...]]:
    """What the predictor with the least held-out error says of cells that were not asked yet, and its name.

    Raises:
        UsageError: there is no such cell.
    """
    if to_come.empty:
        raise UsageError(
            f"{record.key.target} was asked everything that its proxies were measured on: there is nothing to predict; "
            "measure proxies on a new task first"
        )
    n_rows = max(one.n_rows for one in record.errors)
    by_name = {one.name: one for one in problem.predictors}
    everywhere = [one for one in record.errors if one.n_rows == n_rows and _knows_all(by_name[one.name], to_come)]
    best = min(everywhere, key=lambda one: (one.mean_absolute_error, one.name)).name
    said = predict(problem, by_name[best], to_come)
    return best, tuple(
        Prediction(
            task=str(row["task"]),
            task_hash=str(row["task_hash"]),
            n_shots=int(row["n_shots"]),
            predicted=rounded(row["predicted"]),
            low=None if pd.isna(row["low_80"]) else rounded(row["low_80"]),
            high=None if pd.isna(row["high_80"]) else rounded(row["high_80"]),
        )
        for _, row in said.iterrows()
    )


def _knows_all(predictor: Predictor, to_come: pd.DataFrame) -> bool:
    """Whether a predictor has what it needs for every cell to come."""
    alone = predictor.as_is or predictor.in_unit
    needed = [alone] if alone else list(predictor.columns) if predictor.needs_all else []
    return bool(to_come[needed].notna().all(axis=None))


def score(entries: Sequence[LedgerEntry], performances: Sequence[StoredPerformance]) -> tuple[Scored, ...]:
    """Every prediction with the accuracy that was measured since, in the order of the ledger.

    Of several records of a cell the first counts: what was measured later could have been chosen.
    """
    found = []
    for entry in entries:
        records = sorted(
            (
                item.record
                for item in performances
                if (item.record.key.model, item.record.key.mode) == (entry.model, entry.mode)
            ),
            key=lambda record: record.provenance.date,
        )
        for prediction in entry.predictions:
            measured = next(filter(None, (_measured(record, prediction) for record in records)), None)
            found.append(
                Scored(
                    entry=entry,
                    prediction=prediction,
                    accuracy=None if measured is None else measured[0],
                    is_before=measured is None or entry.date < measured[1],
                )
            )
    return tuple(found)


def _measured(record: PerformanceRecord, prediction: Prediction) -> tuple[float, str] | None:
    """Accuracy on the cell of a prediction, and when the run began that measured it."""
    if record.key.task_hash != prediction.task_hash:
        return None
    cell = next((cell for cell in record.cells if cell.n_shots == prediction.n_shots), None)
    return None if cell is None or cell.accuracy is None else (cell.accuracy, record.provenance.date)


def _content(path: Path) -> bytes:
    """The bytes of the ledger; none where there is none yet."""
    try:
        return read_content(path, "ledger")
    except FileNotFoundError:
        return b""


def _lines(path: Path, content: bytes) -> list[tuple[bytes, LedgerEntry]]:
    if content and not content.endswith(b"\n"):
        raise RecordError(f"{path}: the last line is not whole, a write was cut off; delete that line")
    found: list[tuple[bytes, LedgerEntry]] = []
    previous = BEGINNING
    for number, line in enumerate(io.BytesIO(content), 1):
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            entry = LedgerEntry.model_validate_json(line)
        except ValidationError as error:
            raise RecordError(f"{path}, line {number}: {first_fault(error, 'the line')}") from error
        if entry.previous_sha256 != previous:
            raise RecordError(
                f"{path}, line {number}: it follows another line than it was written behind; a line before it was "
                "changed or taken out, and a ledger proves nothing then; restore it from version control"
            )
        previous = sha256(line)
        found.append((line, entry))
    return found


def as_data(scored: Sequence[Scored]) -> list[dict[str, object]]:
    """For machines, one object a prediction."""
    return [
        {
            "date": one.entry.date,
            "model": one.entry.model,
            "mode": one.entry.mode,
            "predictor": one.entry.predictor,
            **json.loads(one.prediction.model_dump_json()),
            "accuracy": one.accuracy,
            "is_before": one.is_before,
            "is_inside": one.is_inside,
        }
        for one in scored
    ]
