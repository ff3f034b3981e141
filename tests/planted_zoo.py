"""A planted zoo: models of several families whose accuracy is a known function of their emergence, as records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.performance import PerformanceRecord
from bench.records import CONDITIONS, Condition, EmergenceRecord, Measurement
from bench.store import Store, StoredPerformance, StoredRecord
from bench.summary import summarise
from proxies.features import Cells, cells
from tasks import PAIRS, RANKED_TASKS
from tests.performance_factory import make_cell, make_performance
from tests.record_factory import make_measurement, make_record, unit_key

N_SHOTS = 4
SHARES = (0.4, 0.7, 0.9, 1.0)
"""Of the last shot's emergence, after each shot."""
TASKS = PAIRS[:9]
"""Asked of the models, and measured on them, beside the ranked lists."""
ERROR = 0.01
N_QUESTIONS = 1000
DATE = "2026-01-02T03:04:05+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One model of the zoo; `level` is its emergence in bits on an average task, at the last shot."""

    name: str
    family: str
    n_parameters: int
    level: float


def models(n_families: int = 8) -> tuple[Planted, ...]:
    """Two sizes of each family; of the first family a checkpoint and a quantised copy too. Sizes tell no level."""
    rng = np.random.default_rng(11)
    found = []
    for number in range(n_families):
        family = f"family {number}"
        for size, parameters in (("s", 10_000_000), ("m", 40_000_000)):
            level = round(float(rng.uniform(2, 7)), 3)
            found.append(
                Planted(name=f"f{number}-{size}", family=family, n_parameters=parameters + number, level=level)
            )
    first = found[1]
    for suffix in ("-step10", "@int4"):
        level = round(first.level - 0.5 * len(suffix) / 4, 3)
        found.append(Planted(name=first.name + suffix, family=first.family, n_parameters=40_000_000, level=level))
    return tuple(found)


def hash_of(task: str) -> str:
    return hashlib.sha256(task.encode()).hexdigest()


def task_effect(task: str) -> float:
    """By how many bits emergence on a task is above that of the average task."""
    if task in RANKED_TASKS:
        return 0.0
    return round(3 * (int(hash_of(task)[:4], 16) / 0xFFFF) - 1.5, 3)


def correct(model: Planted, task: str, n_shots: int) -> int:
    """Right answers of `N_QUESTIONS`: log odds of emergence in bits minus 4.5."""
    bits = (model.level + task_effect(task)) * SHARES[n_shots - 1]
    return round(N_QUESTIONS / (1 + np.exp(4.5 - bits)))


def with_curve(
    measurement: Measurement, curve: Sequence[float], offsets: Sequence[float], step: int = 2
) -> Measurement:
    """A measurement with emergence `curve` by shots on average, and block by block `offsets` above it.

    Before a shot closes, emergence is half of that after it. The micro term is 1 bit everywhere.
    """
    n_positions = step * len(curve)
    macro = tuple(
        tuple((bits + offset) * (1.0 if place == step - 1 else 0.5) + 1 for bits in curve for place in range(step))
        for offset in offsets
    )
    n_blocks = len(offsets)

    def grid(values: Sequence[Sequence[float]]) -> dict[str, Any]:
        return {"values_bits": values, "errors_bits": tuple((ERROR,) * len(row) for row in values)}

    micro = ((1.0,) * step,) * n_blocks
    fields = measurement.model_dump() | {
        "n_prefixes": (12,) * n_positions,
        "macro": {"s=0.08": grid(macro), "s=0.32": grid(tuple(tuple(v / 2 for v in row) for row in macro))},
        "micro": {"s=0.08": grid(micro), "s=0.32": grid(tuple(tuple(v / 2 for v in row) for row in micro))},
        "micro_of_position": tuple(range(step)) * len(curve),
        "macro_ceiling_bits": ((13.5,) * n_positions,) * n_blocks,
        "micro_ceiling_bits": ((9.0,) * step,) * n_blocks,
        "macro_cap_bits": ((13.5,) * n_positions,) * n_blocks,
        "micro_cap_bits": ((9.0,) * step,) * n_blocks,
        "shuffled": grid(((0.0,) * n_positions,) * n_blocks) if measurement.key.shuffled else None,
    }
    return Measurement.model_validate(fields)


def emergence_record(
    model: str, task: str, *, curve: Sequence[float], twin: Sequence[float] | None = None,
    words: Sequence[float] | None = None, offsets: Sequence[float] = (-0.5, 0.0, 0.5), seed: int = 0,
    family: str = "Tiny", n_parameters: int = 1_000_000, step: int = 2, **key_changes: Any,
) -> EmergenceRecord:  # fmt: skip
    """A record with a given emergence by shots (bits, mean over blocks) of the model and its controls."""
    nothing = (0.5,) * len(curve)
    curves: Mapping[Condition, Sequence[float]] = {
        "trained": curve, "untrained_twin": twin or nothing, "random_words": words or nothing,
    }  # fmt: skip
    measurements = {
        condition: with_curve(
            make_measurement(
                np.random.default_rng(0),
                unit_key(
                    files_sha256=f"twin of {model}"[:64] if condition == "untrained_twin" else files_of(model),
                    sequences_sha256=f"{task} {condition}",
                    shuffled=condition == "trained",
                    seed=seed,
                ),
            ),
            curves[condition],
            offsets,
            step,
        )
        for condition in CONDITIONS
    }
    key = {"weights": files_of(model), "task_hash": hash_of(task), "n_shots": 2} | key_changes
    like = make_record(model=model, task=task, seed=seed, **key)  # type: ignore[arg-type]
    info = like.model.model_dump() | {"family": family, "n_parameters": n_parameters, "n_blocks": len(offsets)}
    fields = like.model_dump() | {
        "key": like.key.model_dump() | {"n_shots": len(curve)},
        "model": info,
        "demonstration_length": step,
        "measurements": {name: measurement.model_dump() for name, measurement in measurements.items()},
        "summary": tuple(
            row.model_dump() for row in summarise(measurements, n_shots=len(curve), demonstration_length=step)
        ),
    }
    return EmergenceRecord.model_validate(fields)


def files_of(model: str) -> str:
    return hashlib.sha256(f"files of {model}".encode()).hexdigest()


def performance_record(
    model: str, task: str, counts: Mapping[int, int], *, family: str = "Tiny", n_parameters: int = 1_000_000,
    served: bool = False, n: int = N_QUESTIONS, n_failed: int = 0, chance: float = 0.0, date: str = DATE,
    **key_changes: Any,
) -> PerformanceRecord:  # fmt: skip
    """Right answers of `n` by number of shots, of weights that are here or of a service."""
    here = {
        "provider": "local", "base_url": None, "revision": "main", "files_sha256": files_of(model), "dtype": "float32",
    }  # fmt: skip
    key = ({} if served else here) | {"task_hash": hash_of(task), "n_questions": n} | key_changes
    like = make_performance(
        model=model, task=task, shots=tuple(counts), correct=tuple(0 for _ in counts), **key  # type: ignore[arg-type]
    )  # fmt: skip
    found = tuple(
        make_cell(shots, count, n=n, n_failed=n_failed).model_copy(update={"chance": chance})
        for shots, count in counts.items()
    )
    info = make_record(model=model, weights=str(key.get("files_sha256"))).model.model_dump()
    fields = like.model_dump() | {
        "model": None
        if served
        else info | {"family": family, "n_parameters": n_parameters, "dtype": key.get("dtype") or "float32"},
        "cells": tuple(cell.model_dump() for cell in found),
        "provenance": like.provenance.model_dump() | {"date": date},
    }
    return PerformanceRecord.model_validate(fields)


def emergence_of(model: Planted, task: str) -> EmergenceRecord:
    level = model.level + task_effect(task)
    return emergence_record(
        model.name,
        task,
        curve=tuple(round(level * share, 3) for share in SHARES),
        family=model.family,
        n_parameters=model.n_parameters,
    )


def performance_of(model: Planted, task: str, **changes: Any) -> PerformanceRecord:
    counts = {shots: correct(model, task, shots) for shots in (1, N_SHOTS)}
    own = {"family": model.family, "n_parameters": model.n_parameters}
    return performance_record(model.name, task, counts, **(own | changes))


def stored(records: Iterable[EmergenceRecord]) -> list[StoredRecord]:
    return [StoredRecord(path=f"emergence/x/{item.key.digest()}.json", record=item) for item in records]


def stored_performances(records: Iterable[PerformanceRecord]) -> list[StoredPerformance]:
    return [
        StoredPerformance(path=f"performance/x/{item.key.digest()}{number}.json", record=item)
        for number, item in enumerate(records)
    ]


@cache
def zoo(n_families: int = 8) -> tuple[tuple[EmergenceRecord, ...], tuple[PerformanceRecord, ...]]:
    """Emergence on the ranked lists and the pairs, and the answers to the pairs, of every model."""
    every = models(n_families)
    return (
        tuple(emergence_of(model, task) for model in every for task in (*RANKED_TASKS, *TASKS)),
        tuple(performance_of(model, task) for model in every for task in TASKS),
    )


@cache
def _cells(n_families: int) -> Cells:
    emergence, performance = zoo(n_families)
    return cells(stored(emergence), stored_performances(performance))


def frame(n_families: int = 8) -> pd.DataFrame:
    """The cells of the zoo, to be changed freely."""
    return _cells(n_families).frame.copy()


def write_zoo(root: Path, n_families: int = 8, *, without: Iterable[tuple[str, str]] = ()) -> Path:
    """The zoo as a results folder.

    Args:
        without: (model, task) pairs that were not asked.
    """
    store = Store(root)
    emergence, performance = zoo(n_families)
    for item in emergence:
        put(store.record_path(item.key), item)
    for answered in performance:
        if (answered.key.model, answered.key.task) not in set(without):
            put(store.performance_path(answered.key), answered)
    return root


def put(path: Path, record: EmergenceRecord | PerformanceRecord) -> Path:
    """Write a record where it belongs; not by the store, which waits for the disk at each of hundreds of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.model_dump_json(indent=1).encode() + b"\n")
    return path
