"""Records -> tidy rows, one a cell (model, task, shots): what regressions see, with unit and source of each column."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from bench.errors import ModelError, UsageError
from bench.performance import Cell, PerformanceRecord
from bench.records import EmergenceRecord, ModelInfo
from bench.store import RejectedFile, StoredPerformance, StoredRecord
from bench.suffixes import split_suffix
from proxies.ability import ability
from proxies.emergence_features import of_record
from proxies.kinds import made_from_another

CONFIG = Path(__file__).with_name("features.json")

DEFAULT_ESTIMATOR = "noisy_channel"

FULL_PRECISION_BITS = 16
"""Bits of a weight that no suffix rounds. What a published file rounds by itself is not reckoned: it is only a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the frame: what it says, in which unit, and where it comes from."""

    name: str
    unit: str
    source: Literal["key", "model", "emergence record", "performance record"]
    what: str


COLUMNS = (
    Column("model", "name", "key", "the model, as it was asked for"),
    Column("family", "name", "model", "of its publisher; a service's model is a family of its own"),
    Column("kind", "name", "model", "published, derived (`@int4`), checkpoint, or unknown"),
    Column("variant", "name", "model", "base, instruct or unknown"),
    Column("precision", "name", "model", "of the stored weights"),
    Column("n_bits", "bits", "model", "a weight of a block is rounded to by a suffix; 16 without one"),
    Column("n_parameters", "count", "model", "tied weights once; NaN where it is not known"),
    Column("n_blocks", "count", "model", "transformer blocks"),
    Column("files_sha256", "hex", "key", "configuration, tokenizer and weights; empty for a service"),
    Column("dtype", "name", "key", "of the arithmetic; empty for a service"),
    Column("mode", "name", "key", "completion or chat: how it was asked; empty where it was not"),
    Column("task", "name", "key", "the task"),
    Column("task_hash", "hex", "key", "content of the task: emergence and accuracy share it"),
    Column("n_shots", "count", "key", "demonstrations before the question"),
    Column("estimator", "name", "key", "of mutual information; empty where there is no emergence"),
    Column("preset", "name", "key", "size of the population that emergence was measured on"),
    Column("n_seeds", "count", "emergence record", "seeds that emergence is the mean over"),
    Column("emergence", "bits", "emergence record", "mean over blocks, at the end of the k-th shot"),
    Column("emergence_error", "bits", "emergence record", "standard error of it"),
    Column("ceiling", "bits", "emergence record", "what emergence can be at most"),
    Column("first_half", "bits", "emergence record", "mean over the first half of the blocks"),
    Column("last_half", "bits", "emergence record", "mean over the other half"),
    Column("peak", "bits", "emergence record", "of the block with the most"),
    Column("peak_depth", "0 to 1", "emergence record", "where that block is: 0 first, 1 last"),
    Column("depth_slope", "bits", "emergence record", "last minus first block on a fitted line"),
    Column("noise_area", "bits", "emergence record", "mean over the logarithm of the noise scale"),
    Column("gain", "bits", "emergence record", "what the k-th shot added; at one shot, emergence itself"),
    Column("growth_per_shot", "bits", "emergence record", "slope over all shots that were measured"),
    Column("flattening", "share", "emergence record", "of the second shot's gain, lost by the last"),
    Column("over_twin", "bits", "emergence record", "minus the same architecture untrained"),
    Column("over_random_words", "bits", "emergence record", "minus the same model on random words"),
    Column("over_separator", "bits", "emergence record", "at the answer's last token, minus at the separator"),
    Column("accuracy", "share", "performance record", "right answers of those given"),
    Column("n_answered", "count", "performance record", "questions with an answer"),
    Column("chance", "share", "performance record", "what guessing scores"),
    Column("repeats", "share", "performance record", "of a list: answers that stood in the prompt"),
    Column("ability", "log odds", "performance record", "accuracy above chance on the logistic scale"),
    Column("target", "name", "performance record", "`measured` here; `published` by others"),
)  # fmt: skip

FEATURES = tuple(
    column.name
    for column in COLUMNS
    if column.source == "emergence record" and column.name not in ("n_seeds", "emergence_error", "ceiling")
)
"""What a regression may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that is in no row, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The frame, columns and order as in `COLUMNS`; and what is left out of it, in words."""

    frame: pd.DataFrame
    excluded: tuple[Left, ...]


def feature_names(wanted: str | None) -> tuple[str, ...]:
    """Columns of a set in the configuration, or named one by one with commas; None: the set `headline`.

    Raises:
        UsageError: there is no such set or column.
    """
    sets: dict[str, list[str]] = json.loads(CONFIG.read_text(encoding="utf-8"))["sets"]
    names = [name.strip() for name in (wanted if wanted is not None else "headline").split(",") if name.strip()]
    found = [name for part in names for name in sets.get(part, [part])]
    unknown = [name for name in found if name not in FEATURES]
    if unknown or not found:
        shown = f"'{unknown[0][:60]}' is neither a set nor a column" if unknown else "no name was given"
        raise UsageError(f"--features: {shown}; sets: {', '.join(sets)}; columns: {', '.join(FEATURES)}")
    return tuple(dict.fromkeys(found))


class _Key(NamedTuple):
    """What emergence and accuracy share. Of a service, files are empty and dtype is its address."""

    model: str
    files_sha256: str
    dtype: str
    task: str
    task_hash: str
    n_shots: int


def cells(
    stored: Sequence[StoredRecord],
    performances: Sequence[StoredPerformance],
    rejected: Sequence[RejectedFile] = (),
    *,
    estimator: str = DEFAULT_ESTIMATOR,
) -> Cells:
    """One row a (model, files, dtype, task, shots, mode): emergence beside accuracy, NaN for what was not measured.

    Emergence is the mean over seeds. Of a task that was measured in several ways (preset, settings of the estimator,
    begin-of-sequence token) the way of most models counts; of several performance records of a cell the latest.
    Emergence and accuracy meet where the files, the arithmetic and the content of the task are the same.
    """
    excluded = [Left(what=file.path, reason=file.reason) for file in rejected]
    chosen, left = _measured_alike(stored, estimator)
    measured = _emergence(chosen)
    answered = _answers(performances)
    infos = _infos(stored, performances)
    rows = []
    for key in sorted({*measured, *answered}):
        shared = key._asdict() | _of_model(key.model, infos.get((key.model, key.files_sha256))) | measured.get(key, {})
        rows += [shared | cell for _, cell in sorted(answered.get(key, {"": {"mode": ""}}).items())]
    return Cells(frame=as_frame(rows), excluded=(*excluded, *left))


def as_frame(rows: pd.DataFrame | Iterable[dict[str, object]]) -> pd.DataFrame:
    """Rows as a frame with exactly the columns of `COLUMNS`: names as text, numbers as float64, NaN for none."""
    names = [column.name for column in COLUMNS]
    if isinstance(rows, pd.DataFrame):
        frame = rows[names].reset_index(drop=True)
    else:
        frame = pd.DataFrame(list(rows), columns=names)
    for column in COLUMNS:
        if column.unit in ("name", "hex"):
            frame[column.name] = frame[column.name].astype(object).fillna("").astype(str)
        else:
            frame[column.name] = frame[column.name].astype(np.float64)
    return frame


def _measured_alike(stored: Sequence[StoredRecord], estimator: str) -> tuple[list[EmergenceRecord], list[Left]]:
    """The records of an estimator; of each task those measured in the way of most models. And those left out."""
    left, by_task = [], defaultdict(list)
    for item in stored:
        key = item.record.key
        if key.estimator != estimator:
            left.append(Left(what=item.path, reason=f"measured by {key.estimator}, not by {estimator}"))
        elif key.limit is not None:
            left.append(Left(what=item.path, reason="limited, for trying things out only"))
        else:
            by_task[key.task, key.task_hash].append(item)
    chosen = []
    for items in by_task.values():
        models = Counter(way for way, _ in {(_way(item.record), item.record.key.model) for item in items})
        usual = max(models, key=lambda way: (models[way], way))
        chosen += [item.record for item in items if _way(item.record) == usual]
        left += [
            Left(what=item.path, reason="measured in another way (preset, settings, BOS) than most models on this task")
            for item in items
            if _way(item.record) != usual
        ]
    return chosen, left


def _way(record: EmergenceRecord) -> str:
    key = record.key
    return json.dumps([key.method_version, key.preset, key.n_names, key.n_shots, key.settings, key.bos], sort_keys=True)


def _emergence(records: Iterable[EmergenceRecord]) -> dict[_Key, dict[str, object]]:
    """Features by cell, each the mean over seeds; the error is that of the mean."""
    by_cell: defaultdict[_Key, list[dict[str, float]]] = defaultdict(list)
    presets = {}
    for record in records:
        for n_shots, features in of_record(record).items():
            key = record.key
            cell = _Key(key.model, key.files_sha256, key.dtype, key.task, key.task_hash, n_shots)
            by_cell[cell].append(features)
            presets[cell] = {"preset": key.preset, "estimator": key.estimator}
    found: dict[_Key, dict[str, object]] = {}
    for cell, seeds in by_cell.items():
        features = {name: float(np.mean([seed[name] for seed in seeds])) for name in seeds[0]}
        features["emergence_error"] = float(np.linalg.norm([seed["emergence_error"] for seed in seeds])) / len(seeds)
        found[cell] = {**presets[cell], "n_seeds": len(seeds), **features}
    return found


def _answers(performances: Sequence[StoredPerformance]) -> dict[_Key, dict[str, dict[str, object]]]:
    """Accuracy by cell and mode."""
    found: defaultdict[_Key, dict[str, dict[str, object]]] = defaultdict(dict)
    for item in sorted(performances, key=lambda item: (item.record.provenance.date, item.path)):
        key = item.record.key
        for cell in item.record.cells:
            at = _Key(
                key.model,
                key.files_sha256 or "",
                key.dtype or key.base_url or "",
                key.task,
                key.task_hash,
                cell.n_shots,
            )
            if cell.accuracy is not None:
                found[at][key.mode] = {"mode": key.mode, "target": "measured"} | _of_cell(cell)
    return found


def _of_cell(cell: Cell) -> dict[str, object]:
    return {
        "accuracy": cell.accuracy,
        "n_answered": cell.n_answered,
        "chance": cell.chance,
        "repeats": None if cell.n_repeats is None else cell.n_repeats / cell.n_answered,
        # Where guessing is always right there is nothing above chance.
        "ability": float(ability(cell.accuracy or 0.0, cell.chance, cell.n_answered)) if cell.chance < 1 else None,
    }


def _infos(
    stored: Sequence[StoredRecord], performances: Sequence[StoredPerformance]
) -> dict[tuple[str, str], ModelInfo]:
    records: list[EmergenceRecord | PerformanceRecord] = [item.record for item in stored]
    records += [item.record for item in performances]
    return {
        (record.key.model, record.key.files_sha256 or ""): record.model
        for record in records
        if record.model is not None
    }


def _of_model(name: str, info: ModelInfo | None) -> dict[str, object]:
    """What is known of a model. One that a service serves may be of any family: it is its own, of unknown size."""
    if info is None:
        return {"family": f"service: {name}", "kind": "unknown", "variant": "unknown", "precision": "unknown"}
    return {
        "family": info.family,
        "kind": made_from_another(name) or "published",
        "variant": info.variant,
        "precision": info.precision,
        "n_bits": _bits(name),
        "n_parameters": info.n_parameters,
        "n_blocks": info.n_blocks,
    }


def _bits(name: str) -> int:
    """Bits that the suffixes of a name round weights to."""
    while True:
        try:
            part = split_suffix(name)
        except ModelError:  # an @ of another meaning
            return FULL_PRECISION_BITS
        if part is None:
            return FULL_PRECISION_BITS
        if part.step.n_bits is not None:
            return part.step.n_bits
        name = part.rest
