"""What a run costs, told before it runs: operations, seconds on this machine, memory and disk. No weights are loaded.

Populations are drawn and planted as `bench.run` does, so tokens and cells are exact. Their cost is the sum of terms,
each with a rate of its own, which `bench.rates` times on this machine.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bench.catalog import resolve
from bench.conversion import converted
from bench.costs import Disk, Memory, ModelPlan, RecordPlan, RunPlan, Seconds, total
from bench.errors import ModelError
from bench.estimators import Estimator
from bench.fetch import fetch
from bench.measure import check_memory
from bench.model_shape import ModelShape, shape_of
from bench.models import WeightsIdentity, bos_token_id, checked_device, identify, load_tokenizer
from bench.prefix_forest import Integers
from bench.progress import Progress
from bench.rates import Rates, measure_rates
from bench.records import CONDITIONS, Condition
from bench.request import RunRequest
from bench.run import N_CHECKED, missing, parts_of, populations_of
from bench.sources import GgufSource, HubSource, ModelEntry, WheelSource
from bench.weights import has_weights, weight_files
from bench.workload import (
    Workload,
    estimated_cells,
    estimator_flops,
    n_broken_rows,
    position_bytes,
    states_bytes,
    workload,
)
from tasks.prompts import Population

TABLE_COPIES = 12
"""Tables of whole numbers of 8 bytes, as large as the population, that planting holds at a time."""

RECORD_BYTES = 15_500
"""Of a record without its numbers: key, model, provenance, names."""

NUMBER_BYTES = 18.05
"""Of a number in a record, a line each: fits records of 2 to 30 blocks (`tests/bench/test_plan.py`)."""

KEPT_BYTES = 7.0
"""Of a number in the measurements that are kept beside the records for a restart, which have no line breaks."""

LOAD_SECONDS = 0.1
"""Of a model of no size: its configuration and its tokenizer read, the library's own work. About, for any machine."""

RECORD_SECONDS = 0.05
"""Of a record put together and written. About, for any machine."""

STORED_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of a parameter in published weights of a precision; of others it is not known before they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Rates that have been timed, by what they depend on: models of one shape share them."""

    known: dict[object, Rates] = field(default_factory=dict)

    def rates(
        self, folder: Path, shape: ModelShape, estimator: Estimator, sequences: Integers, request: RunRequest
    ) -> Rates:
        """The rates for a shape and an estimator, timed when they are first asked for."""
        key = (shape, estimator.name, tuple(estimator.settings.items()), request.dtype, request.device)
        if key not in self.known:
            self.known[key] = measure_rates(
                folder, shape, estimator, sequences, dtype=getattr(torch, request.dtype), device=request.device
            )
        return self.known[key]


def plan(
    request: RunRequest,
    progress: Progress,
    *,
    probed: Probed | None = None,
    known: Mapping[str, WeightsIdentity] | None = None,
) -> RunPlan:
    """What `bench.run.run` would cost; nothing is written and no weights are loaded.

    Args:
        probed: rates of earlier plans on this machine, added to.
        known: identities by the names of models, which saves reading their weights once more.

    Raises:
        UsageError: the request cannot be met: no population, a position that does not fit.
        ModelError: a model, or what tells its shape, cannot be had.
    """
    checked_device(request.device)
    parts_of(request)
    names = {resolve(name, request.revision): name for name in request.models}
    models = tuple(_planned(request, name, progress, probed or Probed(), known or {}) for name in names.values())
    return RunPlan(models=models, dtype=request.dtype, device=request.device, n_threads=torch.get_num_threads())


def _planned(
    request: RunRequest, name: str, progress: Progress, probed: Probed, known: Mapping[str, WeightsIdentity]
) -> ModelPlan:
    entry = resolve(name, request.revision)
    folder = _configured(entry, progress)
    shape = shape_of(folder, entry.derivation)
    is_there = has_weights(folder) or entry.derivation.untrained_seed is not None
    absent = {part.task.name for part in parts_of(request)}
    if is_there:
        progress.stage(f"{entry.name}: looking for records")
        identity = known.get(entry.name) or identify(entry, progress.stage)
        absent = {key.task for key in missing(replace(request, models=(name,)), progress, {entry.name: identity})}
    started = time.process_time()
    tokenizer = load_tokenizer(entry, progress.stage)
    tokenizer_seconds = time.process_time() - started
    bos = bos_token_id(tokenizer) if request.bos == "tokenizer" else None
    measured: set[object] = set()
    records: list[RecordPlan] = []
    rates: list[Rates] = []
    works: list[Workload] = []
    for part in parts_of(request):
        if part.task.name not in absent:
            continue
        progress.stage(f"{entry.name}: drawing {part.task.name}")
        started = time.process_time()
        populations = populations_of(request, part, tokenizer)
        drawing = time.process_time() - started
        sequences = populations["trained"].sequences
        check_memory(sequences, shape.d_model, request.memory_bytes)
        progress.stage(f"{entry.name}: timing parts of the work on this machine")
        speed = probed.rates(folder, shape, part.estimator, sequences, request)
        new = {
            condition: _counted(population, bos, speed.shares_prefixes, condition)
            for condition, population in populations.items()
            if _is_new(measured, condition, population, part.estimator)
        }
        works += new.values()
        rates.append(speed)
        records.append(_record_plan(part.task.name, part.estimator, new, shape, speed, drawing))
    if not records:
        return ModelPlan(
            model=entry.name, shape=shape, n_there=len(request.tasks), has_weights=is_there, records=(), rates=(),
            model_seconds=Seconds(), memory=_memory(shape, [], 0), disk=Disk(records=0, temporary=0, weights=0),
        )  # fmt: skip
    rows = max(position_bytes(work, shape.d_model) for work in works)
    return ModelPlan(
        model=entry.name,
        shape=shape,
        n_there=len(request.tasks) - len(records),
        has_weights=is_there,
        records=tuple(records),
        model_seconds=Seconds(weights=_weights_seconds(shape, rates[0], _stored_bytes(entry, folder, shape)))
        + Seconds(weights=3 * tokenizer_seconds),
        memory=_memory(shape, works, request.memory_bytes - rows),
        disk=Disk(
            records=sum(record.record_bytes for record in records),
            temporary=max(_spilt(work, shape, request.memory_bytes) for work in works),
            weights=0 if is_there else _download_bytes(entry, shape),
        ),
        rates=tuple(dict.fromkeys(rates)),
    )


def _configured(entry: ModelEntry, progress: Progress) -> Path:
    """The folder with configuration and tokenizer, weights or not.

    Raises:
        ModelError: they come with the weights only, and those are not here.
    """
    if isinstance(entry.source, WheelSource | GgufSource) and converted(entry) is None:
        raise ModelError(
            f"the shape of {entry.name} is in its weights, which are not here yet; run `bench models fetch "
            f"{(entry.original or entry).name}` first" + (f" ({entry.note})" if entry.note else "")
        )
    return fetch(entry, progress.stage, with_weights=False)


def _is_new(measured: set[object], condition: Condition, population: Population, estimator: Estimator) -> bool:
    """Whether a condition has to be measured; what a record before this one has measured is known."""
    weights = "untrained" if condition == "untrained_twin" else "trained"
    digest = hashlib.sha256(population.sequences.tobytes()).hexdigest()
    key = (weights, condition == "trained", digest, estimator.name, tuple(estimator.settings.items()))
    is_new = key not in measured
    measured.add(key)
    return is_new


def _counted(population: Population, bos: int | None, shares_prefixes: bool, condition: Condition) -> Workload:
    return workload(
        population.sequences,
        bos=bos,
        shares_prefixes=shares_prefixes,
        is_shuffled=condition == "trained",
        n_checked=N_CHECKED,
    )


def _record_plan(
    task: str,
    estimator: Estimator,
    works: Mapping[Condition, Workload],
    shape: ModelShape,
    rates: Rates,
    drawing_seconds: float,
) -> RecordPlan:
    cells = {name: estimated_cells(work, shape.n_blocks, is_sample=estimator.is_sample_based)
             for name, work in works.items()}  # fmt: skip
    trained = works["trained"]
    terms = Seconds(pairing=drawing_seconds, records=RECORD_SECONDS)
    for work in works.values():
        terms += condition_seconds(work, shape, rates, estimator)
    return RecordPlan(
        task=task,
        estimator=estimator.name,
        conditions=tuple(works),
        n_sequences=trained.n_sequences,
        n_positions=trained.n_positions,
        n_tokens=trained.macro.n_tokens,
        n_cells=sum(cell.n_times for found in cells.values() for cell in found),
        forward_flops=sum(work.passes.flops(shape) * shape.n_blocks for work in works.values()),
        estimator_flops=total([estimator_flops(estimator, found, shape.d_model) for found in cells.values()]),
        seconds=terms,
        record_bytes=record_bytes(trained, shape, len(estimator.labels)),
    )


def condition_seconds(work: Workload, shape: ModelShape, rates: Rates, estimator: Estimator) -> Seconds:
    """What a condition takes: forward, estimates, pairing."""
    n_blocks, passes = shape.n_blocks, work.passes
    estimates: float | None = 0.0
    for cell in estimated_cells(work, n_blocks, is_sample=estimator.is_sample_based):
        line = {"distinct": rates.estimate, "repeated": rates.repeated, "broken": rates.broken}[cell.kind]
        estimates = None if line is None or estimates is None else estimates + cell.n_times * line.seconds(cell.n_rows)
    return Seconds(
        forward=n_blocks * (passes.flops(shape) / rates.flops_per_second + passes.n_steps * rates.step_seconds),
        estimates=estimates,
        pairing=work.plant_seconds + sum(_pairing(work, n_blocks, rates)),
    )


def _pairing(work: Workload, n_blocks: int, rates: Rates) -> Iterator[float]:
    """Outputs are the inputs of the next block, whose labels are known; micro cells and the first block label both."""
    for column in work.columns:
        yield n_blocks * (rates.gather.seconds(column.n_rows) + rates.label.seconds(column.n_rows))
        yield rates.label.seconds(column.n_rows)
        if work.is_shuffled:
            size = n_broken_rows(column.n_rows)
            yield n_blocks * (rates.gather.seconds(size) + 2 * rates.label.seconds(size))
    for column in work.micro_columns:
        yield n_blocks * (rates.gather.seconds(column.n_rows) + 2 * rates.label.seconds(column.n_rows))


def _weights_seconds(shape: ModelShape, rates: Rates, stored_bytes: int) -> float:
    """Hashed twice, loaded and looked at; a twin drawn in float32 and hashed; what was loaded collected."""
    hashing = (2 * stored_bytes + 4 * shape.n_parameters) / rates.hash_bytes_per_second
    numbers = shape.n_parameters / rates.read_per_second + shape.n_parameters / rates.draw_per_second
    return hashing + numbers + 2 * LOAD_SECONDS + rates.collect_seconds


def record_bytes(trained: Workload, shape: ModelShape, n_labels: int) -> int:
    """A record, and the measurements that are kept beside it for a restart and hold the same numbers."""
    cells = trained.n_positions + len(trained.micro_columns)
    numbers = shape.n_blocks * (len(CONDITIONS) * (2 * n_labels + 2) * cells + 2 * trained.n_positions)
    return int(RECORD_BYTES + (NUMBER_BYTES + KEPT_BYTES) * numbers)


def _spilt(work: Workload, shape: ModelShape, memory_bytes: int) -> int:
    """Bytes of states that do not fit and go to the temporary file."""
    states = states_bytes(work, shape.d_model)
    return states if states > memory_bytes - position_bytes(work, shape.d_model) else 0


def _memory(shape: ModelShape, works: Sequence[Workload], for_states: int) -> Memory:
    states = max((states_bytes(work, shape.d_model) for work in works), default=0)
    tables = max((8 * TABLE_COPIES * work.n_sequences * work.n_positions for work in works), default=0)
    return Memory(
        weights=4 * shape.n_parameters if works else 0,
        states=states if states <= for_states else 0,
        rows=max((position_bytes(work, shape.d_model) for work in works), default=0),
        tables=tables,
        process=_resident_bytes(),
    )


def _resident_bytes() -> int:
    """What this process holds by now, at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _stored_bytes(entry: ModelEntry, folder: Path, shape: ModelShape) -> int:
    if entry.derivation.untrained_seed is not None:
        return 0
    if has_weights(folder):
        return sum(file.stat().st_size for file in weight_files(folder))
    return shape.n_parameters * STORED_BYTES.get(entry.precision, 4)


def _download_bytes(entry: ModelEntry, shape: ModelShape) -> int | None:
    """What the weights take where they are not here; None where nobody says."""
    is_told = isinstance(entry.source, HubSource) and entry.precision in STORED_BYTES
    return shape.n_parameters * STORED_BYTES[entry.precision] if is_told else None
