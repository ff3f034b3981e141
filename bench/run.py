"""The main job: models x tasks -> records. What is on disk is never measured again; a killed run goes on from there."""

from __future__ import annotations

import difflib
import gc
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from bench.activations import Extractor
from bench.catalog import resolve
from bench.errors import UsageError
from bench.estimators import ESTIMATORS, Estimator
from bench.measure import check_memory, measure
from bench.models import (
    LoadedModel,
    Tokenizer,
    WeightsIdentity,
    bos_token_id,
    find_blocks,
    identify,
    load,
    load_tokenizer,
    untrained_twin,
)
from bench.provenance import provenance
from bench.records import (
    CONDITIONS,
    METHOD_VERSION,
    SCHEMA_VERSION,
    Condition,
    EmergenceRecord,
    Measurement,
    ModelInfo,
    Provenance,
    RecordKey,
    UnitKey,
)
from bench.sources import ModelEntry
from bench.store import Store
from bench.summary import summarise
from tasks import TASKS, load_task
from tasks.prompts import (
    AlignedPool,
    Encode,
    ListPopulation,
    PromptError,
    align,
    check_sizes,
    list_population,
    random_word_population,
)
from tasks.seeds import generator
from tasks.task import PRESETS, ListTask, Preset, preset_of

N_CHECKED = 128
"""Neighbouring sequences on which the block-by-block pass is compared with the model's own, once per condition: they
fill a bin of the forest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to measure.

    Attributes:
        models: names, folders, GGUF files or hub ids, as `bench.catalog.resolve` takes them.
        n_names, n_shots: override the preset's sizes; the preset is then called "custom".
        limit: measure only this many lists, drawn at random. For trying things out: never ranked.
        bos: "tokenizer" puts a begin-of-sequence token before macro and micro inputs where the tokenizer does so
            by itself; "none" never does.
        memory_bytes: for the states of the population, the weights come on top. What does not fit is kept in a
            temporary file; the rows of one position have to fit.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    out: Path
    preset: str = "quick"
    n_names: int | None = None
    n_shots: int | None = None
    limit: int | None = None
    estimator: str = "noisy_channel"
    seed: int = 0
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    bos: Literal["tokenizer", "none"] = "tokenizer"
    memory_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One record, and whether it was there before."""

    record: EmergenceRecord
    path: Path
    was_there: bool


class Progress(Protocol):
    """Told what is going on. `total` may be corrected as models become known."""

    def stage(self, text: str) -> None:
        """Something without a count begins: fetching, loading."""
        ...

    def plan(self, n_blocks: int) -> None:
        """This many blocks will be measured."""
        ...

    def block(self, text: str) -> None:
        """One block has been measured, in the condition `text`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One record to be made: its key, its populations, and the conditions measured so far."""

    key: RecordKey
    task: ListTask
    populations: Mapping[Condition, ListPopulation]
    done: dict[Condition, Measurement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What there is to do for one model: a job or a finished record per task, in the order asked for."""

    entry: ModelEntry
    identity: WeightsIdentity
    bos: int | None
    tasks: tuple[_Job | EmergenceRecord, ...]


def run(request: RunRequest, progress: Progress) -> tuple[RunOutcome, ...]:
    """Measure every model on every task; returns one outcome each, in the order asked for.

    Raises:
        UsageError: the request cannot be met. Apart from what only the loaded weights can tell (damage, a width that
            does not fit the memory budget), everything is looked at before anything is measured.
        StorageError: the results folder cannot be written.
    """
    started = provenance(device=request.device)
    estimator = make_estimator(request.estimator)
    tasks = [find_task(name) for name in request.tasks]
    sizes = [(task, preset_for(request, task)) for task in tasks]
    entries = [resolve(name, request.revision) for name in request.models]
    if not entries or not tasks:
        raise UsageError("nothing to do: give at least one model and one task")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")
    store = Store(request.out)
    store.check_writable()
    plans = [_plan(request, entry, sizes, estimator, store, progress) for entry in entries]
    return tuple(
        outcome for plan in plans for outcome in _carry_out(request, plan, estimator, store, progress, started)
    )


def make_estimator(name: str) -> Estimator:
    """The estimator of that name with its default settings.

    Raises:
        UsageError: there is none.
    """
    if name not in ESTIMATORS:
        raise UsageError(f"unknown estimator {name!r}; expected one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]()


def find_task(name: str) -> ListTask:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown task {name[:80]!r}; {meant}expected one of {', '.join(TASKS)}")
    return load_task(name)


def preset_for(request: RunRequest, task: ListTask) -> Preset:
    """The sizes to use for a task.

    Raises:
        UsageError: no such preset, or sizes from which no population can be built.
    """
    if request.preset not in PRESETS:
        raise UsageError(f"unknown preset {request.preset!r}; expected one of {', '.join(PRESETS)}")
    preset = preset_of(task.name, request.preset)
    if request.n_names is not None or request.n_shots is not None:
        n_names = preset.n_names if request.n_names is None else request.n_names
        n_shots = preset.n_shots if request.n_shots is None else request.n_shots
        preset = Preset(name="custom", n_names=n_names, n_shots=n_shots)
    try:
        check_sizes(n_names=preset.n_names, n_shots=preset.n_shots, limit=request.limit)
    except PromptError as error:
        raise UsageError(str(error)) from error
    return preset


def _plan(
    request: RunRequest,
    entry: ModelEntry,
    sizes: list[tuple[ListTask, Preset]],
    estimator: Estimator,
    store: Store,
    progress: Progress,
) -> _Plan:
    progress.stage(f"{entry.name}: finding the weights")
    identity = identify(entry, progress.stage)
    keys = [
        RecordKey(
            schema_version=SCHEMA_VERSION,
            method_version=METHOD_VERSION,
            model=entry.name,
            revision=identity.revision,
            files_sha256=identity.files_sha256,
            dtype=request.dtype,
            bos=request.bos,
            task=task.name,
            task_version=task.version,
            task_hash=task.content_hash,
            preset=preset.name,
            n_names=preset.n_names,
            n_shots=preset.n_shots,
            limit=request.limit,
            estimator=estimator.name,
            settings=dict(estimator.settings),
            seed=request.seed,
        )
        for task, preset in sizes
    ]
    found = [store.record(key) for key in keys]
    tokenizer = None if all(found) else load_tokenizer(entry, progress.stage)
    return _Plan(
        entry=entry,
        identity=identity,
        bos=bos_token_id(tokenizer) if tokenizer is not None and request.bos == "tokenizer" else None,
        tasks=tuple(
            record or _Job(key=key, task=task, populations=_populations(task, preset, tokenizer, request))
            for record, key, (task, preset) in zip(found, keys, sizes, strict=True)
        ),
    )


def _carry_out(
    request: RunRequest,
    plan: _Plan,
    estimator: Estimator,
    store: Store,
    progress: Progress,
    started: Provenance,
) -> list[RunOutcome]:
    jobs = [task for task in plan.tasks if isinstance(task, _Job)]
    info = _measure_all(request, plan, jobs, estimator, store, progress) if jobs else None
    outcomes = []
    for task in plan.tasks:
        if isinstance(task, EmergenceRecord):
            outcomes.append(RunOutcome(record=task, path=store.record_path(task.key), was_there=True))
        else:
            assert info is not None
            record = _record(request, task, info, plan.bos, started)
            outcomes.append(RunOutcome(record=record, path=store.write_record(record), was_there=False))
    return outcomes


def aligned_pool(task: ListTask, model: str, revision: str | None = None) -> AlignedPool:
    """Which names of a task are one token each under the tokenizer of a model; its weights are not loaded."""
    return align(task, _encoder(load_tokenizer(resolve(model, revision))))


def _encoder(tokenizer: Tokenizer) -> Encode:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return encode


def _populations(
    task: ListTask, preset: Preset, tokenizer: Tokenizer | None, request: RunRequest
) -> dict[Condition, ListPopulation]:
    assert tokenizer is not None, "it is loaded whenever a record is missing"
    encode = _encoder(tokenizer)
    n_names, n_shots, limit = preset.n_names, preset.n_shots, request.limit
    try:
        lists = list_population(
            task,
            encode,
            n_names=n_names,
            n_shots=n_shots,
            limit=limit,
            rng=generator(request.seed, "names", task.name),
        )
        words = random_word_population(
            task,
            encode,
            tokenizer.decode,
            vocabulary_size=len(tokenizer),
            excluded=task.surface_forms.union(*(load_task(name).surface_forms for name in TASKS)),
            n_names=n_names,
            n_shots=n_shots,
            limit=limit,
            rng=generator(request.seed, "random words"),
        )
    except PromptError as error:
        raise UsageError(str(error)) from error
    return {"trained": lists, "untrained_twin": lists, "random_words": words}


def _measure_all(
    request: RunRequest,
    plan: _Plan,
    jobs: list[_Job],
    estimator: Estimator,
    store: Store,
    progress: Progress,
) -> ModelInfo:
    """Fill in the conditions of every job; one model in memory at a time, the trained one first."""
    entry = plan.entry
    progress.stage(f"{entry.name}: loading")
    loaded = load(entry, dtype=request.dtype, device=request.device, progress=progress.stage, expected=plan.identity)
    info = _model_info(loaded)
    for job in jobs:
        check_memory(job.populations["trained"].sequences, loaded.d_model, request.memory_bytes)
    progress.plan(info.n_blocks * len(CONDITIONS) * len(jobs))
    for conditions in (("trained", "random_words"), ("untrained_twin",)):
        if conditions == ("untrained_twin",):
            del loaded
            gc.collect()
            progress.stage(f"{entry.name}: initialising its untrained twin")
            loaded = untrained_twin(entry, seed=request.seed, dtype=request.dtype, device=request.device)
        for job in jobs:
            for condition in conditions:
                text = f"{entry.name}, {job.task.name}, {condition.replace('_', ' ')}"
                job.done[condition] = _measure(
                    request,
                    job.populations[condition],
                    loaded,
                    plan.bos,
                    estimator,
                    store,
                    progress,
                    text,
                    shuffled=condition == "trained",
                )
    return info


def _measure(
    request: RunRequest,
    population: ListPopulation,
    loaded: LoadedModel,
    bos: int | None,
    estimator: Estimator,
    store: Store,
    progress: Progress,
    text: str,
    *,
    shuffled: bool,
) -> Measurement:
    key = UnitKey(
        method_version=METHOD_VERSION,
        files_sha256=loaded.files_sha256,
        dtype=request.dtype,
        bos=bos,
        sequences_sha256=hashlib.sha256(population.sequences.tobytes()).hexdigest(),
        estimator=estimator.name,
        settings=dict(estimator.settings),
        seed=request.seed,
        shuffled=shuffled,
    )
    known = store.unit(key)
    if known is not None:
        for _ in range(loaded.n_blocks):
            progress.block(text)
        return known
    extractor = Extractor(loaded.model, find_blocks(loaded.model), bos=bos, sample=population.sequences[:N_CHECKED])
    measurement = measure(
        key=key,
        names=population.names,
        sequences=population.sequences,
        extractor=extractor,
        estimator=estimator,
        memory_bytes=request.memory_bytes,
        on_block=lambda: progress.block(text),
    )
    store.write_unit(measurement)
    return measurement


def _model_info(loaded: LoadedModel) -> ModelInfo:
    entry = loaded.entry
    return ModelInfo(
        name=entry.name,
        family=entry.family,
        variant=entry.variant,
        precision=entry.precision,
        dtype=loaded.dtype,
        revision=loaded.revision,
        weights_sha256=loaded.weights_sha256,
        source=entry.origin,
        licence=entry.licence,
        n_parameters=loaded.n_parameters,
        n_blocks=loaded.n_blocks,
        d_model=loaded.d_model,
        initializer_range=loaded.initializer_range,
    )


def _record(request: RunRequest, job: _Job, info: ModelInfo, bos: int | None, started: Provenance) -> EmergenceRecord:
    population = job.populations["trained"]
    return EmergenceRecord(
        schema_version=SCHEMA_VERSION,
        key=job.key,
        model=info,
        bos_token=bos,
        n_pool=population.n_pool,
        n_survivors=population.n_survivors,
        demonstration_length=population.demonstration_length,
        is_enumerated=population.is_enumerated,
        measurements=dict(job.done),
        summary=summarise(job.done, n_shots=job.key.n_shots, demonstration_length=population.demonstration_length),
        provenance=started.model_copy(
            update={
                "command": equivalent_command(job.key),
                "seconds": round(sum(measurement.seconds for measurement in job.done.values()), 1),
            }
        ),
    )


def equivalent_command(key: RecordKey) -> str:
    """The command that measures the same, on a machine where the model goes by the same name."""
    command = ["bench", "run", key.model, "--tasks", key.task]
    if key.preset == "custom":
        command += ["--n-names", str(key.n_names), "--n-shots", str(key.n_shots)]
    else:
        command += ["--preset", key.preset]
    command += ["--estimator", key.estimator, "--seed", str(key.seed)]
    command += [] if key.limit is None else ["--limit", str(key.limit)]
    command += [] if key.dtype == "float32" else ["--dtype", key.dtype]
    command += [] if key.bos == "tokenizer" else ["--bos", key.bos]
    return shlex.join(command)
