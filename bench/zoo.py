"""The model zoo: everything that is measured for the committed results, what of it is missing, and how long it takes.

The zoo is data. `plan` compares it with a results folder, without loading weights; `carry_out` measures what a job
lacks, the way `bench run` and `bench query` do. No torch before weights are looked at.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.catalog import CATALOG, LADDER_FAMILY, quoted, resolve
from bench.completions import Mode
from bench.errors import ModelError, UsageError
from bench.progress import Progress
from bench.query import QueryOutcome, QueryRequest, query
from bench.query import missing as missing_answers
from bench.sources import ModelEntry, checkpoint_of
from bench.store import Store
from bench.suffixes import BITS
from bench.task_names import find_tasks
from bench.zoo_weights import ZooWeights
from tasks import LISTS, PAIRS, PERFORMANCE_TASKS, RANKED_TASKS, TEXTS

if TYPE_CHECKING:
    from bench.plan import Probed
    from bench.request import RunRequest
    from bench.run import RunOutcome

Kind = Literal["emergence", "performance"]

KINDS: tuple[Kind, ...] = ("emergence", "performance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model on some tasks: one record a task.

    Attributes:
        estimator: of emergence; the mode says nothing there.
        mode: of performance; the estimator says nothing there.
    """

    kind: Kind
    model: str
    tasks: tuple[str, ...]
    seed: int = 0
    estimator: str = "noisy_channel"
    mode: Mode = "completion"

    @property
    def method(self) -> str:
        """Estimator or mode, whichever has a say."""
        return self.estimator if self.kind == "emergence" else self.mode

    def __str__(self) -> str:
        return f"{self.model}, {self.kind} ({self.method}, seed {self.seed}) on {tasks_shown(self.tasks)}"


def tasks_shown(tasks: Sequence[str]) -> str:
    """A few names in full, of many the first and a count."""
    return ", ".join(tasks) if len(tasks) <= 3 else f"{', '.join(tasks[:2])} and {len(tasks) - 2} more"


ORIGINALS = ("smollm2-135m-instruct", "gemma-3-270m")

VARIANTS = tuple(f"{original}@int{bits}" for original in ORIGINALS for bits in BITS)

_LADDER_MODELS = tuple(name for name, entry in CATALOG.items() if entry.family == LADDER_FAMILY)

LADDER = tuple(name for name in _LADDER_MODELS if checkpoint_of(name) is None)
"""The fully trained sizes."""

CHECKPOINTS = tuple(name for name in _LADDER_MODELS if name not in LADDER)
"""Some of the sizes as they were during their training."""

ASKED_TASKS = (*LISTS, *PAIRS)
"""All that can be answered right or wrong."""

OTHER_TASKS = (*PAIRS, "element", "us-state")

BOARD_TASKS = (*RANKED_TASKS, *PERFORMANCE_TASKS)
"""What a row of the leaderboard is made of."""


def _emergence(models: Iterable[str], *task_sets: tuple[str, ...], seed: int = 0) -> Iterator[Job]:
    for model in models:
        for tasks in task_sets:
            yield Job(kind="emergence", model=model, tasks=tasks, seed=seed)


def _performance(models: Iterable[str], tasks: tuple[str, ...], mode: Mode = "completion") -> Iterator[Job]:
    for model in models:
        yield Job(kind="performance", model=model, tasks=tasks, mode=mode)


ZOO: tuple[Job, ...] = (
    *_emergence(ORIGINALS, RANKED_TASKS),
    *_emergence(ORIGINALS[:1], RANKED_TASKS, seed=1),
    *_emergence(ORIGINALS[:1], RANKED_TASKS, seed=2),
    *_emergence(ORIGINALS, OTHER_TASKS, TEXTS),
    *_performance(ORIGINALS, ASKED_TASKS),
    *_performance(ORIGINALS[:1], ASKED_TASKS, mode="chat"),
    *_performance([name for name in VARIANTS if name.endswith(("@int8", "@int4"))], ASKED_TASKS),
    *_performance([name for name in VARIANTS if not name.endswith(("@int8", "@int4"))], BOARD_TASKS),
    *_performance((*LADDER, *CHECKPOINTS), ASKED_TASKS),
    *_emergence((*LADDER, *CHECKPOINTS), RANKED_TASKS, OTHER_TASKS, TEXTS),
    *_emergence(VARIANTS, RANKED_TASKS, (*PERFORMANCE_TASKS, *TEXTS)),
)
"""All jobs, in the order in which they are done."""

SAME_SIZE = 2.0
"""A model of up to so many times the parameters is taken to need as long: the two originals, one twice as large as the
other, differ by less than their seeds do."""

LEAST_SCALE = 0.05
"""What does not depend on the size (prompts, sampling the noise, writing) is put at a twentieth of the time that a
model of 135 M parameters needs."""

TIMED_SECONDS = 1.0
"""A record that took less came out of the cache of replies, and says nothing about the time that asking takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a record took."""

    kind: Kind
    task: str
    method: str
    model: str
    n_parameters: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a job lacks.

    Attributes:
        missing: tasks without a record.
        left_out: (task, why) of those that cannot be measured with the tokenizer of the model.
        problem: why nothing can be told of the job: its model cannot be had. None where it can.
        seconds: what the missing records take, without those of which that cannot be told.
        n_untimed: missing records whose time cannot be told, since no record is like them.
        n_counted: missing records that no record is like, whose time was told by `bench.plan` instead.
    """

    job: Job
    missing: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    problem: str | None = None
    seconds: float = 0.0
    n_untimed: int = 0
    n_counted: int = 0

    @property
    def n_records(self) -> int:
        """Records that the job has when it is done."""
        return len(self.job.tasks) - len(self.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooPlan:
    """What a results folder lacks."""

    jobs: tuple[JobPlan, ...]

    @property
    def n_records(self) -> int:
        """Records that there are when all is done."""
        return sum(part.n_records for part in self.jobs)

    @property
    def n_missing(self) -> int:
        """Records that are known to be missing."""
        return sum(len(part.missing) for part in self.jobs)

    @property
    def n_unknown(self) -> int:
        """Records of models that cannot be had: it cannot be told which of them are there."""
        return sum(part.n_records for part in self.jobs if part.problem is not None)

    @property
    def n_untimed(self) -> int:
        """Missing records whose time cannot be told."""
        return sum(part.n_untimed for part in self.jobs)

    @property
    def n_counted(self) -> int:
        """Missing records whose time was told without a record like them."""
        return sum(part.n_counted for part in self.jobs)

    @property
    def seconds(self) -> float:
        """What the other missing records take."""
        return sum(part.seconds for part in self.jobs)

    @property
    def todo(self) -> tuple[JobPlan, ...]:
        """The jobs with missing records."""
        return tuple(part for part in self.jobs if part.missing)


def select(
    jobs: Sequence[Job], *, kind: Kind | None = None, models: Sequence[str] = (), lane: tuple[int, int] = (1, 1)
) -> tuple[Job, ...]:
    """Some of the jobs, in their order.

    Args:
        models: names of the zoo; none of them means all.
        lane: (i, n): the i-th of n shares, counted from 1; see `dealt`.

    Raises:
        UsageError: no model of the zoo has that name, or there is no such lane.
    """
    names = dict.fromkeys(job.model for job in jobs)
    for name in models:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{quoted(name)} is not in the zoo; {meant}expected some of {', '.join(names)}")
    number, n_lanes = lane
    if not 1 <= number <= n_lanes:
        raise UsageError(f"--lane expects I/N with I from 1 to N, such as 1/2 or 2/2, got {number}/{n_lanes}")
    chosen = [job for job in jobs if kind in (None, job.kind) and (not models or job.model in models)]
    return dealt(chosen, n_lanes)[number - 1]


def dealt(jobs: Sequence[Job], n_lanes: int) -> tuple[tuple[Job, ...], ...]:
    """The jobs in as many shares, about equally long: each goes to the share that has the least so far.

    What is on disk plays no part, so that processes which start at different times agree on who does what. Shares are
    balanced over any stretch of the jobs, and so over what is missing when the first part is done.
    """
    shares: list[list[Job]] = [[] for _ in range(n_lanes)]
    loads = [0.0] * n_lanes
    for job in jobs:
        least = loads.index(min(loads))
        shares[least].append(job)
        loads[least] += _load(job)
    return tuple(map(tuple, shares))


def _load(job: Job) -> float:
    """About how long a whole job takes, in the time of one task of pairs on the smaller original.

    A list has nine times the sequences of a task of pairs and took four times as long; the questions of a task took a
    third.
    """
    whole = len(job.tasks) / 3 if job.kind == "performance" else sum(4 if task in LISTS else 1 for task in job.tasks)
    entry, usual = CATALOG.get(job.model.partition("@")[0]), CATALOG[ORIGINALS[0]].n_parameters
    size = entry.n_parameters if entry else None
    return whole * (_scale(size, usual) if size and usual else 1.0)


def plan(jobs: Sequence[Job], out: Path, progress: Progress) -> ZooPlan:
    """What `out` lacks of the jobs, and how long that takes; no weights are loaded, though a model may be fetched."""
    weights = ZooWeights(progress=progress)
    parts = [_looked_at(job, out, weights, progress) for job in jobs]
    if any(part.missing for part in parts):
        progress.stage("reading how long records took")
        known = timings(Store(out))
        probes = _Probes(out=out, weights=weights, progress=progress)
        parts = [_timed(part, known, probes) for part in parts]
    return ZooPlan(jobs=tuple(parts))


def carry_out(
    part: JobPlan, out: Path, progress: Progress, *, device: str = "cpu"
) -> Iterator[RunOutcome | QueryOutcome]:
    """Measure what a job lacks.

    Raises:
        UsageError: it cannot be measured.
    """
    if part.job.kind == "performance":
        yield from query(replace(_query_request(part.job, part.missing, out), device=device), progress)
    else:
        from bench.run import run

        yield from run(replace(_run_request(part.job, part.missing, out), device=device), progress)


def as_data(found: ZooPlan) -> dict[str, object]:
    """A plan for machines; `seconds` is null where it is known of no missing record."""
    return {
        "n_records": found.n_records,
        "n_missing": found.n_missing,
        "n_unknown": found.n_unknown,
        "n_untimed": found.n_untimed,
        "n_counted": found.n_counted,
        "seconds": _told_seconds(found.seconds, found.n_missing, found.n_untimed),
        "jobs": [
            {
                "kind": part.job.kind,
                "model": part.job.model,
                "method": part.job.method,
                "seed": part.job.seed,
                "tasks": list(part.job.tasks),
                "missing": None if part.problem else list(part.missing),
                "left_out": dict(part.left_out),
                "problem": part.problem,
                "seconds": _told_seconds(part.seconds, len(part.missing), part.n_untimed),
                "n_untimed": part.n_untimed,
                "n_counted": part.n_counted,
            }
            for part in found.jobs
        ],
    }


def _told_seconds(seconds: float, n_missing: int, n_untimed: int) -> float | None:
    return None if 0 < n_missing == n_untimed else round(seconds, 1)


def timings(store: Store) -> tuple[Timing, ...]:
    """How long the records of a results folder took that are like those of the zoo: same sizes, measured here."""
    measured = [
        Timing(
            kind="emergence",
            task=record.key.task,
            method=record.key.estimator,
            model=record.key.model,
            n_parameters=record.model.n_parameters,
            seconds=record.provenance.seconds,
        )
        for record in (stored.record for stored in store.records()[0])
        if record.key.preset == "quick" and record.key.limit is None
    ]
    usual = QueryRequest.__dataclass_fields__["n_questions"].default
    measured += [
        Timing(
            kind="performance",
            task=record.key.task,
            method=record.key.mode,
            model=record.key.model,
            n_parameters=record.model.n_parameters,
            seconds=record.provenance.seconds,
        )
        for record in (stored.record for stored in store.performances()[0])
        if record.model is not None and record.key.n_questions == usual
    ]
    return tuple(timing for timing in measured if timing.seconds >= TIMED_SECONDS)


def estimated_seconds(known: Sequence[Timing], job: Job, task: str, entry: ModelEntry) -> float | None:
    """What one record takes: as long as the record of that task whose model is nearest in size; None without any.

    A record of the model itself comes first, then one of the model it is derived from. Of several seeds the mean.

    Args:
        entry: the model of the job.
    """
    like = [item for item in known if (item.kind, item.task, item.method) == (job.kind, task, job.method)]
    names = (entry.name, (entry.original or entry).name)
    for name in names:
        if own := [item for item in like if item.model == name]:
            return _mean(own)
    n_parameters = entry.n_parameters or next((item.n_parameters for item in known if item.model in names), None)
    if not like or n_parameters is None:
        return None
    nearest = min((item.n_parameters for item in like), key=lambda n: abs(math.log(n / n_parameters)))
    return _mean([item for item in like if item.n_parameters == nearest]) * _scale(n_parameters, nearest)


def _mean(known: Sequence[Timing]) -> float:
    return sum(item.seconds for item in known) / len(known)


def _scale(n_parameters: int, n_recorded: int) -> float:
    """How much longer a model takes than one of another size."""
    ratio = n_parameters / n_recorded
    return 1.0 if 1 / SAME_SIZE <= ratio <= SAME_SIZE else max(ratio, LEAST_SCALE)


@dataclass(kw_only=True)
class _Probes:
    """Times of measurements of which there is no like record: counted, and timed in parts; see `bench.plan`."""

    out: Path
    weights: ZooWeights
    progress: Progress
    probed: Probed | None = None

    def seconds(self, job: Job, tasks: tuple[str, ...]) -> float | None:
        """What these records take; None where that cannot be told."""
        from bench.plan import Probed, plan

        self.probed = self.probed or Probed()
        entry = resolve(job.model)
        known = {entry.name: self.weights.identity(entry)}
        try:
            return plan(_run_request(job, tasks, self.out), self.progress, probed=self.probed, known=known).seconds
        except UsageError:  # the run itself says what is wrong
            return None


def _timed(part: JobPlan, known: Sequence[Timing], probes: _Probes) -> JobPlan:
    if not part.missing:
        return part
    entry = resolve(part.job.model)
    entry = replace(entry, n_parameters=probes.weights.n_parameters(entry))
    estimates = {task: estimated_seconds(known, part.job, task, entry) for task in part.missing}
    seconds = sum(told for told in estimates.values() if told is not None)
    untold = tuple(task for task, told in estimates.items() if told is None)
    counted = probes.seconds(part.job, untold) if untold and part.job.kind == "emergence" else None
    if counted is not None:
        return replace(part, seconds=seconds + counted, n_counted=len(untold))
    return replace(part, seconds=seconds, n_untimed=len(untold))


def _looked_at(job: Job, out: Path, weights: ZooWeights, progress: Progress) -> JobPlan:
    try:
        entry = resolve(job.model)
        known = {entry.name: weights.identity(entry)}
        if job.kind == "performance":
            absent = {key.task for key in missing_answers(_query_request(job, job.tasks, out), progress, known)}
            return JobPlan(job=job, missing=tuple(task for task in job.tasks if task in absent))
        from bench.run import missing as missing_measurements

        absent = {key.task for key in missing_measurements(_run_request(job, job.tasks, out), progress, known)}
        tasks = tuple(task for task in job.tasks if task in absent)
        reasons = weights.undrawable(entry, job.model, tasks, job.seed)
    except ModelError as error:
        return JobPlan(job=job, problem=str(error))
    return JobPlan(
        job=job,
        missing=tuple(task for task in tasks if task not in reasons),
        left_out=tuple((task, reasons[task]) for task in job.tasks if task in reasons),
    )


def _run_request(job: Job, tasks: tuple[str, ...], out: Path) -> RunRequest:
    from bench.request import RunRequest

    return RunRequest(models=(job.model,), tasks=find_tasks(tasks), out=out, estimator=job.estimator, seed=job.seed)


def _query_request(job: Job, tasks: tuple[str, ...], out: Path) -> QueryRequest:
    return QueryRequest(model=job.model, tasks=find_tasks(tasks), out=out, mode=job.mode, seed=job.seed)
