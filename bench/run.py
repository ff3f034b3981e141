"""The main job: models x tasks -> records. What is on disk is never measured again; a killed run goes on from there."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from bench.catalog import resolve
from bench.engine import N_CHECKED, Engine, LocalEngine, Unit, Weights, WeightsFacts
from bench.errors import UsageError
from bench.estimators import Estimator
from bench.measure import check_memory
from bench.models import Tokenizer, WeightsIdentity, bos_token_id, identify, load_tokenizer
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import (
    CONDITIONS,
    METHOD_VERSION,
    SCHEMA_VERSION,
    Condition,
    EmergenceRecord,
    Measurement,
    RecordKey,
    UnitKey,
)
from bench.request import RunRequest, changed_settings, estimator_for, make_estimator, preset_for
from bench.sources import ModelEntry, pinned, source_revision
from bench.store import Store
from bench.summary import summarise
from bench.task_names import task_options
from tasks import RANKED_TASKS, load_task
from tasks.prompts import (
    AlignedPool,
    Encode,
    Population,
    PromptError,
    align,
    list_population,
    random_word_population,
    random_word_windows,
    windows,
)
from tasks.seeds import generator
from tasks.task import ListTask, PairTask, Preset, Task, TextTask

__all__ = ["N_CHECKED", "RunOutcome", "aligned_pool", "encoder", "missing", "run", "share", "undrawable"]


AnyRecord = TypeVar("AnyRecord")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One record, and whether it was there before."""

    record: EmergenceRecord
    path: Path
    was_there: bool


def run(request: RunRequest, progress: Progress, engine: Engine | None = None) -> tuple[RunOutcome, ...]:
    """Measure every model on every task; returns one outcome each, in the order asked for.

    Args:
        engine: where it is measured; by default in this process. What is there is looked up and kept here.

    Raises:
        UsageError: the request cannot be met. Apart from what only the loaded weights can tell (damage, a width that
            does not fit the memory budget), everything is looked at before anything is measured.
        StorageError: the results folder cannot be written.
    """
    job = _Run(request=request, progress=progress, store=Store(request.out), start=Start.now())
    plans = []
    for entry, parts in _work(request).items():
        plans.append(job.plan(entry, parts))
        if plans[-1].missing:
            job.store.check_writable(entry.name)
    return job.carry_out(plans, engine or LocalEngine())


def missing(
    request: RunRequest, progress: Progress, known: Mapping[str, WeightsIdentity] = MappingProxyType({})
) -> tuple[RecordKey, ...]:
    """The records that a run would have to measure; no weights are loaded and nothing is written.

    Args:
        known: identities by the names of models, which saves reading their weights once more.

    Raises:
        UsageError: the request cannot be met, apart from what only the tokenizer tells; see `undrawable`.
    """
    store = Store(request.out)
    keys = []
    for entry, parts in _work(request).items():
        identity = known.get(entry.name) or identify(entry, progress.stage)
        keys += [_record_key(request, entry, identity, part) for part in parts]
    return tuple(key for key in keys if store.record(key) is None)


def undrawable(request: RunRequest, model: str) -> dict[str, str]:
    """Why tasks have no population under the tokenizer of a model, by the name of the task; no weights are loaded."""
    tokenizer = load_tokenizer(resolve(model, request.revision))
    reasons = {}
    for part in parts_of(request):
        try:
            populations_of(request, part, tokenizer)
        except UsageError as error:
            reasons[part.task.name] = str(error)
    return reasons


def aligned_pool(task: ListTask | PairTask, model: str, revision: str | None = None) -> AlignedPool:
    """Which names of a task are one token each under the tokenizer of a model; its weights are not loaded."""
    return align(task, encoder(load_tokenizer(resolve(model, revision))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of a request does not depend on the model: a task, its sizes and the estimator that fits it."""

    task: Task
    preset: Preset
    estimator: Estimator


def parts_of(request: RunRequest) -> list[Part]:
    """The parts of a request, all of which is looked at apart from its models."""
    parts = [
        Part(
            task=task,
            preset=preset_for(request, task),
            estimator=make_estimator(request.estimator or estimator_for(task), request.settings),
        )
        for task in request.tasks
    ]
    if not request.models or not parts:
        raise UsageError("nothing to do: give at least one model and one task")
    if request.bos not in ("tokenizer", "none"):
        raise UsageError(f"--bos must be tokenizer or none, got {request.bos!r}")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")
    return parts


def _work(request: RunRequest) -> dict[ModelEntry, list[Part]]:
    """What of a request falls to this share, in the order asked for."""
    parts = parts_of(request)
    entries = dict.fromkeys(resolve(name, request.revision) for name in request.models)
    work: dict[ModelEntry, list[Part]] = {}
    for entry, part in share([(entry, part) for entry in entries for part in parts], request.shard):
        work.setdefault(entry, []).append(part)
    return work


def share(records: Sequence[AnyRecord], shard: tuple[int, int]) -> Sequence[AnyRecord]:
    """The i-th of n shares of a list: neighbours stay together, and shares differ by one record at most.

    What is on disk plays no part, so that processes that start at different times agree on who does what. The tasks of
    one model are neighbours: few shares load it, and few measure the random words that its tasks have in common.

    Args:
        shard: (i, n), counted from 1.

    Raises:
        UsageError: there is no such share.
    """
    number, n_shares = shard
    if not 1 <= number <= n_shares:
        raise UsageError(f"--shard expects I/N with I from 1 to N, such as 1/2 or 2/2, got {number}/{n_shares}")
    return records[(number - 1) * len(records) // n_shares : number * len(records) // n_shares]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Missing:
    """A record to be made: its key, its populations, and the conditions that have come in so far, in any order."""

    key: RecordKey
    estimator: Estimator
    populations: Mapping[Condition, Population]
    bos: int | None
    done: dict[Condition, Measurement] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, eq=False)
class _Plan:
    """What there is to do for one model: a finished or a missing record per task, in the order asked for.

    `n_blocks` is known once any of its weights are loaded, the `trained` facts once the trained ones are.
    """

    entry: ModelEntry
    identity: WeightsIdentity
    records: tuple[EmergenceRecord | _Missing, ...]
    n_blocks: int | None = None
    trained: WeightsFacts | None = None

    @property
    def missing(self) -> tuple[_Missing, ...]:
        return tuple(record for record in self.records if isinstance(record, _Missing))


_CONDITIONS_OF: Mapping[bool, tuple[Condition, ...]] = {False: ("trained", "random_words"), True: ("untrained_twin",)}
"""What is measured on weights, by whether they are the twin's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One request on its way; what all its steps share.

    Attributes:
        waiting: who wants a unit that is under way, by the digest of its key. Tasks share their random words.
        outcomes: the records made by this run, by the digests of their keys.
    """

    request: RunRequest
    progress: Progress
    store: Store
    start: Start
    waiting: dict[str, list[tuple[_Plan, _Missing, Condition]]] = field(default_factory=dict)
    outcomes: dict[str, RunOutcome] = field(default_factory=dict)

    def plan(self, entry: ModelEntry, parts: list[Part]) -> _Plan:
        """Look at a model without loading it: which records are there, and what lists the others need."""
        self.progress.stage(f"{entry.name}: finding the weights")
        identity = identify(entry, self.progress.stage)
        entry = pinned(entry, identity.revision)
        keys = [_record_key(self.request, entry, identity, part) for part in parts]
        found = [self.store.record(key) for key in keys]
        if all(found):
            return _Plan(entry=entry, identity=identity, records=tuple(filter(None, found)))
        tokenizer = load_tokenizer(entry, self.progress.stage)
        bos = bos_token_id(tokenizer) if self.request.bos == "tokenizer" else None
        return _Plan(
            entry=entry,
            identity=identity,
            records=tuple(
                record
                or _Missing(
                    key=key,
                    estimator=part.estimator,
                    populations=populations_of(self.request, part, tokenizer),
                    bos=bos,
                )
                for record, key, part in zip(found, keys, parts, strict=True)
            ),
        )

    def carry_out(self, plans: Sequence[_Plan], engine: Engine) -> tuple[RunOutcome, ...]:
        """Measure what is missing and write it, each record as soon as its last condition has come in."""
        seeds = (None, self.request.seed)  # the trained weights first
        plan_of = {self._weights(plan, seed): plan for plan in plans if plan.missing for seed in seeds}

        def units_of(weights: Weights, facts: WeightsFacts) -> Iterator[Unit]:
            return self._units(plan_of[weights], weights, facts)

        with closing(engine.measured(tuple(plan_of), units_of, self.progress)) as measured:
            for measurement in measured:
                self.store.write_unit(measurement)
                first, *others = self.waiting.pop(measurement.key.digest())
                self._keep(measurement, *first)
                for other in others:
                    self._keep_known(measurement, *other)
        if n_damaged := self.store.n_damaged_units:
            self.progress.stage(f"conditions on disk that were damaged, not used and measured again: {n_damaged}")
        return tuple(self._outcome(record) for plan in plans for record in plan.records)

    def _weights(self, plan: _Plan, twin_seed: int | None) -> Weights:
        request = self.request
        return Weights(
            entry=plan.entry,
            identity=plan.identity,
            twin_seed=twin_seed,
            dtype=request.dtype,
            device=request.device,
            device_map=request.device_map,
        )

    def _units(self, plan: _Plan, weights: Weights, facts: WeightsFacts) -> Iterator[Unit]:
        """What is to be measured on weights that have been loaded: not what is in the store, or under way."""
        if weights.twin_seed is None:
            plan.trained = facts
        if plan.n_blocks is None:
            for record in plan.missing:
                check_memory(record.populations["trained"].sequences, facts.info.d_model, self.request.memory_bytes)
            plan.n_blocks = facts.info.n_blocks
            self.progress.plan(plan.n_blocks * len(CONDITIONS) * len(plan.missing))
        for record in plan.missing:
            for condition in _CONDITIONS_OF[weights.twin_seed is not None]:
                unit = self._unit(record, condition, weights, facts)
                digest = unit.key.digest()
                if digest in self.waiting:
                    self.waiting[digest].append((plan, record, condition))
                elif (known := self.store.unit(unit.key)) is not None:
                    self._keep_known(known, plan, record, condition)
                else:
                    self.waiting[digest] = [(plan, record, condition)]
                    yield unit

    def _unit(self, record: _Missing, condition: Condition, weights: Weights, facts: WeightsFacts) -> Unit:
        population, estimator = record.populations[condition], record.estimator
        key = UnitKey(
            method_version=METHOD_VERSION,
            files_sha256=facts.files_sha256,
            dtype=self.request.dtype,
            bos=record.bos,
            sequences_sha256=hashlib.sha256(population.sequences.tobytes()).hexdigest(),
            estimator=estimator.name,
            settings=dict(estimator.settings),
            seed=self.request.seed,
            shuffled=condition == "trained",
        )
        return Unit(
            weights=weights,
            key=key,
            names=population.names,
            sequences=population.sequences,
            estimator=estimator,
            memory_bytes=self.request.memory_bytes,
            text=_text(record, condition),
        )

    def _keep_known(self, measurement: Measurement, plan: _Plan, record: _Missing, condition: Condition) -> None:
        """Keep what need not be measured; its blocks count as done."""
        for _ in measurement.macro_ceiling_bits:
            self.progress.block(_text(record, condition))
        self._keep(measurement, plan, record, condition)

    def _keep(self, measurement: Measurement, plan: _Plan, record: _Missing, condition: Condition) -> None:
        """Add a condition to a record; write the record if it is the last one."""
        record.done[condition] = measurement
        if len(record.done) == len(CONDITIONS):
            assert plan.trained is not None, "a trained condition is among them, so its weights have been loaded"
            finished = self._finished(record, plan.trained)
            path = self.store.write_record(finished)
            self.outcomes[record.key.digest()] = RunOutcome(record=finished, path=path, was_there=False)

    def _outcome(self, record: EmergenceRecord | _Missing) -> RunOutcome:
        if isinstance(record, _Missing):
            return self.outcomes[record.key.digest()]
        return RunOutcome(record=record, path=self.store.record_path(record.key), was_there=True)

    def _finished(self, record: _Missing, trained: WeightsFacts) -> EmergenceRecord:
        population, request = record.populations["trained"], self.request
        return EmergenceRecord(
            schema_version=SCHEMA_VERSION,
            key=record.key,
            model=trained.info,
            bos_token=record.bos,
            n_pool=population.n_pool,
            n_survivors=population.n_survivors,
            demonstration_length=population.demonstration_length,
            is_enumerated=population.is_enumerated,
            measurements={condition: record.done[condition] for condition in _ORDER},
            summary=summarise(
                record.done, n_shots=record.key.n_shots, demonstration_length=population.demonstration_length
            ),
            provenance=provenance(
                self.start,
                command=_equivalent_command(record.key, changed_settings(record.estimator)),
                device=request.device + ("" if request.device_map is None else f", device map {request.device_map}"),
                seconds=sum(measurement.seconds for measurement in record.done.values()),
                n_threads=trained.n_threads,
            ),
        )


_ORDER: tuple[Condition, ...] = tuple(condition for group in _CONDITIONS_OF.values() for condition in group)
"""In which order conditions stand in a record, whichever came in first."""


def _text(record: _Missing, condition: Condition) -> str:
    return f"{record.key.model}, {record.key.task}, {condition.replace('_', ' ')}"


def _record_key(request: RunRequest, entry: ModelEntry, identity: WeightsIdentity, part: Part) -> RecordKey:
    task, preset = part.task, part.preset
    return RecordKey(
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
        estimator=part.estimator.name,
        settings=dict(part.estimator.settings),
        seed=request.seed,
    )


def populations_of(request: RunRequest, part: Part, tokenizer: Tokenizer) -> dict[Condition, Population]:
    """The population of every condition under a tokenizer.

    Raises:
        UsageError: there is none.
    """
    task, encode, seed = part.task, encoder(tokenizer), request.seed
    excluded = task.surface_forms.union(*(load_task(name).surface_forms for name in RANKED_TASKS))
    try:
        if isinstance(task, TextTask):
            lists = windows(
                task,
                encode,
                n_windows=part.preset.n_names,
                n_tokens=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "windows", task.name),
            )
            words = random_word_windows(
                lists,
                encode,
                tokenizer.decode,
                vocabulary_size=len(tokenizer),
                excluded=excluded,
                special=frozenset(tokenizer.all_special_ids),
                rng=generator(seed, "random words"),
            )
        else:
            lists = list_population(
                task,
                encode,
                n_names=part.preset.n_names,
                n_shots=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "names", task.name),
            )
            words = random_word_population(
                task,
                encode,
                tokenizer.decode,
                vocabulary_size=len(tokenizer),
                excluded=excluded,
                n_names=part.preset.n_names,
                n_shots=part.preset.n_shots,
                limit=request.limit,
                rng=generator(seed, "random words"),
                like=lists.parts,
            )
    except PromptError as error:
        raise UsageError(str(error)) from error
    return {"trained": lists, "untrained_twin": lists, "random_words": words}


def encoder(tokenizer: Tokenizer) -> Encode:
    """From text to token ids, nothing added."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return encode


def _equivalent_command(key: RecordKey, settings: tuple[tuple[str, str], ...]) -> str:
    """The command that measures the same, on a machine where the model goes by the same name."""
    command = ["bench", "run", key.model, *task_options(key.task)]
    if key.preset == "custom":
        command += ["--n-names", str(key.n_names), "--n-shots", str(key.n_shots)]
    else:
        command += ["--preset", key.preset]
    command += ["--estimator", key.estimator]
    command += [part for name, value in settings for part in ("--setting", f"{name}={value}")]
    command += ["--seed", str(key.seed)]
    command += [] if key.revision.startswith("sha256:") else ["--revision", source_revision(key.revision)]
    command += [] if key.limit is None else ["--limit", str(key.limit)]
    command += [] if key.dtype == "float32" else ["--dtype", key.dtype]
    command += [] if key.bos == "tokenizer" else ["--bos", key.bos]
    return shlex.join(command)
