"""Asking a model the questions of tasks: here, or over the network.

Every answer is kept as soon as it is there, so a killed run asks nothing twice; what is on disk in full is not asked
again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from bench.answering import Asking, Target, find_target, replies_file, unusual_token_limit
from bench.answering import Service as Service
from bench.answering import check_name as check_name
from bench.api.budget import Budget, Estimate
from bench.api.cache import ReplyCache
from bench.api.keys import ReplyKey
from bench.completions import MODES, Failure, Mode, Reply, Request, total_tokens
from bench.errors import UsageError
from bench.performance import (
    PERFORMANCE_SCHEMA,
    FailedReply,
    PerformanceKey,
    PerformanceRecord,
    Sample,
    as_lines,
    cell,
    sha256,
)
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import ModelInfo
from bench.sources import source_revision
from bench.store import Store
from bench.task_names import task_options
from tasks.prompts import PromptError
from tasks.queries import SCORING_VERSION, Question, Scorer, questions, request_text, stop_strings
from tasks.task import ListTask, PairTask, Task, TextTask

if TYPE_CHECKING:
    from bench.models import WeightsIdentity

DEFAULT_SHOTS = (0, 1, 2, 4, 8)

MAX_SHOTS = 64
"""Far beyond where accuracy still rises, and prompts are still short."""

MAX_TOKENS: dict[Mode, int] = {"completion": 16, "chat": 24}
"""Longer than any accepted answer of the shipped tasks; a chat model may repeat the query first."""

MAX_ANSWER = 300
"""Characters of a compared answer that a sample keeps; no accepted one comes near it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """What to ask.

    Attributes:
        model: a name as `bench.catalog.resolve` takes it, or what the service calls it.
        shots: numbers of demonstrations, each asked with the same questions.
        n_questions: for each task and number of shots; fewer where a task has no more different prompts.
        max_tokens: of an answer; None takes `MAX_TOKENS` of the mode.
        service: who is asked; None: the model is loaded here.
        cache: file with the replies; None: in the results folder.
    """

    model: str
    tasks: tuple[Task, ...]
    out: Path
    shots: tuple[int, ...] = DEFAULT_SHOTS
    n_questions: int = 100
    mode: Mode = "completion"
    max_tokens: int | None = None
    seed: int = 0
    service: Service | None = None
    cache: Path | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"

    @property
    def token_limit(self) -> int:
        """Tokens of an answer."""
        return MAX_TOKENS[self.mode] if self.max_tokens is None else self.max_tokens

    @property
    def temperature(self) -> Literal[0] | None:
        """0, or None where a service is sent none."""
        return 0 if self.service is None or self.service.send_temperature else None

    @property
    def token_limit_parameter(self) -> Literal["max_completion_tokens"] | None:
        """What a chat service wants the limit called, where not max_tokens."""
        return unusual_token_limit(self.service, self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOutcome:
    """One record, and whether it was there before."""

    record: PerformanceRecord
    path: Path
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The questions of one task.

    Attributes:
        asked: questions by number of shots, in ascending order.
        undefined: numbers of shots left out, because a list of no items says nothing of its category.
    """

    task: ListTask | PairTask
    asked: tuple[tuple[Question, ...], ...]
    undefined: tuple[int, ...]

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots that are asked."""
        return tuple(group[0].n_shots for group in self.asked)

    @property
    def questions(self) -> tuple[Question, ...]:
        """All of them, by shots."""
        return tuple(one for group in self.asked for one in group)


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a query would ask.

    Attributes:
        n_questions: of all tasks, those included whose answers are known already.
        n_known: those.
        n_characters: of the prompts of each assignment.
        estimate: of those that would be sent.
    """

    n_questions: int
    n_known: int
    assignments: tuple[Assignment, ...]
    n_characters: tuple[int, ...]
    estimate: Estimate


def assignments(request: QueryRequest) -> tuple[Assignment, ...]:
    """The questions of a request, in order.

    Raises:
        UsageError: nothing can be asked like that; the message says what can.
    """
    _check(request)
    return tuple(_assignment(request, task) for task in request.tasks)


def _check(request: QueryRequest) -> None:
    check_name(request.model)
    if request.mode not in MODES:
        raise UsageError(f"unknown mode {request.mode!r}; expected one of {', '.join(MODES)}")
    if not request.shots or not request.tasks:
        raise UsageError("nothing to ask: give at least one task and one number of shots")
    wrong = [shots for shots in request.shots if not 0 <= shots <= MAX_SHOTS]
    if wrong:
        raise UsageError(f"--shots must be numbers from 0 to {MAX_SHOTS}, got {wrong[0]}")
    if not 1 <= request.token_limit <= 4096:
        raise UsageError(f"--max-tokens must be from 1 to 4096, got {request.token_limit}")
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {request.seed}")


def _assignment(request: QueryRequest, task: Task) -> Assignment:
    task = _askable(task)
    defined = _defined_shots(request, task)
    try:
        asked = tuple(
            questions(task, n_shots=n_shots, n_questions=request.n_questions, seed=request.seed) for n_shots in defined
        )
    except PromptError as error:
        raise UsageError(str(error)) from error
    return Assignment(task=task, asked=asked, undefined=tuple(sorted(set(request.shots) - set(defined))))


def _askable(task: Task) -> ListTask | PairTask:
    if isinstance(task, TextTask):
        raise UsageError(f"{task.name!r} is a text: nothing is asked about it, so it has no accuracy; leave it out")
    return task


def _defined_shots(request: QueryRequest, task: ListTask | PairTask) -> tuple[int, ...]:
    defined = tuple(n_shots for n_shots in sorted(set(request.shots)) if n_shots or isinstance(task, PairTask))
    if not defined:
        raise UsageError(f"task {task.name!r} is a list, and a list of no items says nothing; ask for 1 shot or more")
    return defined


def query(request: QueryRequest, progress: Progress) -> Iterator[QueryOutcome]:
    """Ask everything that has no answer yet; yields a record for each task as soon as it is written.

    A question that fails is counted as failed, and asked again when the same query is run again.

    Raises:
        UsageError: the request cannot be met.
        BudgetReached, ServiceError: a cap was reached, or the server answers nothing; the replies so far are kept.
    """
    work = assignments(request)
    start = Start.now()
    target = find_target(request.model, request.revision, request.service, progress)
    for part in work:
        target.check_without_key(f"the task '{part.task.name}'", repr(part.task))
    store = Store(request.out)
    keys = [_key(request, target, part.task, part.shots) for part in work]
    found = [store.performance(key) for key in keys]
    done = [_is_complete(record) for record in found]
    if not all(done):
        store.check_writable(target.model, kind="performance")
    progress.plan(sum(len(part.questions) for part, is_done in zip(work, done, strict=True) if not is_done))
    with ExitStack() as stack:
        asking: Asking | None = None
        for assignment, key, record in zip(work, keys, found, strict=True):
            if record is not None and record.is_complete:
                yield QueryOutcome(record=record, path=store.performance_path(key), was_there=True)
                continue
            asking = asking or stack.enter_context(_asking(request, target, progress))
            began = time.perf_counter()
            samples = _asked(asking, request, target, assignment, progress)
            finished = performance_record(
                key=key,
                assignment=assignment,
                samples=samples,
                info=asking.info,
                start=start,
                command=_equivalent_command(request, key),
                device=request.device if asking.info else "api",
                seconds=time.perf_counter() - began,
            )
            yield QueryOutcome(record=finished, path=store.write_performance(finished, samples), was_there=False)


def _is_complete(record: PerformanceRecord | None) -> bool:
    return record is not None and record.is_complete


def dry_run(request: QueryRequest, progress: Progress) -> DryRun:
    """What `query` would ask and cost about; nothing is sent and no weights are loaded.

    Raises:
        UsageError: the request cannot be met.
    """
    work = assignments(request)
    target = find_target(request.model, request.revision, request.service, progress, is_dry=True)
    store, path = Store(request.out), _cache_path(request)
    wanted = [
        (part.task, ask)
        for part in work
        if not _is_complete(store.performance(_key(request, target, part.task, part.shots)))
        for ask in _requests(request, part)
    ]
    if path.exists():
        with ReplyCache(path, on_damage=progress.stage) as cache:
            wanted = [(task, ask) for task, ask in wanted if cache.get(_reply_key(request, target, task, ask)) is None]
    budget = request.service.budget if request.service else Budget()
    n_questions = sum(len(part.questions) for part in work)
    return DryRun(
        n_questions=n_questions,
        n_known=n_questions - len(wanted),
        assignments=work,
        n_characters=tuple(sum(len(ask.prompt) for ask in _requests(request, part)) for part in work),
        estimate=budget.estimate([ask for _, ask in wanted]),
    )


def missing(
    request: QueryRequest, progress: Progress, known: Mapping[str, WeightsIdentity] = MappingProxyType({})
) -> tuple[PerformanceKey, ...]:
    """The records that `query` would have to complete; nothing is sent or written and no weights are loaded.

    Args:
        known: identities by the names of models that are here, which saves reading their weights once more.

    Raises:
        UsageError: the request cannot be met.
    """
    _check(request)
    target = find_target(request.model, request.revision, request.service, progress, is_dry=True, known=known)
    store = Store(request.out)
    tasks = [_askable(task) for task in request.tasks]
    keys = [_key(request, target, task, _defined_shots(request, task)) for task in tasks]
    return tuple(key for key in keys if not _is_complete(store.performance(key)))


def unanswered_samples(request: QueryRequest) -> tuple[Sample, ...]:
    """The questions of a request as samples without replies: for another program to answer, and to be replayed then."""
    return tuple(
        _sample(request, assignment.task, asked, model=request.model, prompt=ask.prompt)
        for assignment in assignments(request)
        for asked, ask in zip(assignment.questions, _requests(request, assignment), strict=True)
    )


def _key(request: QueryRequest, target: Target, task: ListTask | PairTask, shots: tuple[int, ...]) -> PerformanceKey:
    return PerformanceKey(
        schema_version=PERFORMANCE_SCHEMA,
        scoring_version=SCORING_VERSION,
        provider=target.provider,
        model=target.model,
        base_url=target.base_url,
        revision=target.revision,
        files_sha256=target.files_sha256,
        dtype=request.dtype if target.identity else None,
        mode=request.mode,
        task=task.name,
        task_version=task.version,
        task_hash=task.content_hash,
        shots=shots,
        n_questions=request.n_questions,
        max_tokens=request.token_limit,
        temperature=request.temperature,
        token_limit_parameter=request.token_limit_parameter,
        seed=request.seed,
    )


def _reply_key(request: QueryRequest, target: Target, task: Task, ask: Request) -> ReplyKey:
    return ReplyKey(
        provider=target.provider,
        base_url=target.base_url,
        model=target.model,
        revision=target.revision,
        files_sha256=target.files_sha256,
        precision=target.precision,
        dtype=request.dtype if target.identity else None,
        mode=ask.mode,
        prompt=ask.prompt,
        max_tokens=ask.max_tokens,
        stop=ask.stop,
        temperature=request.temperature,
        token_limit_parameter=request.token_limit_parameter,
        task=task.name,
        task_version=task.version,
        task_hash=task.content_hash,
        seed=request.seed,
    )


def _requests(request: QueryRequest, assignment: Assignment) -> list[Request]:
    is_chat = request.mode == "chat"
    return [
        Request(
            prompt=request_text(asked, is_chat=is_chat),
            mode=request.mode,
            max_tokens=request.token_limit,
            stop=() if is_chat else stop_strings(assignment.task),  # a chat model may begin with an empty line
        )
        for asked in assignment.questions
    ]


def _asking(request: QueryRequest, target: Target, progress: Progress) -> Asking:
    return Asking(
        target, request.service, progress, cache=_cache_path(request), dtype=request.dtype, device=request.device
    )


def _asked(
    asking: Asking, request: QueryRequest, target: Target, assignment: Assignment, progress: Progress
) -> tuple[Sample, ...]:
    """The scored samples of a task, in the order of its questions."""
    task, asked = assignment.task, assignment.questions
    scorer = Scorer(task, is_chat=request.mode == "chat")
    requests = _requests(request, assignment)
    samples: dict[int, Sample] = {}
    for index, answer in asking.ask(requests, lambda ask: _reply_key(request, target, task, ask)):
        samples[index] = _sample(
            request,
            task,
            asked[index],
            model=target.model,
            prompt=requests[index].prompt,
            answer=answer,
            scorer=scorer,
        )
        progress.block(f"{target.model}, {task.name}")
    return tuple(samples[index] for index in range(len(asked)))


def _cache_path(request: QueryRequest) -> Path:
    return replies_file(request.cache, request.out)


def _sample(
    request: QueryRequest,
    task: ListTask | PairTask,
    asked: Question,
    *,
    model: str,
    prompt: str,
    answer: Reply | Failure | None = None,
    scorer: Scorer | None = None,
) -> Sample:
    said: dict[str, object] = {}
    if isinstance(answer, Failure):
        said["failure"] = FailedReply(kind=answer.kind, message=answer.message, n_attempts=answer.n_attempts)
    elif answer is not None:
        said = {
            "reply": answer.text,
            "finish_reason": answer.finish_reason,
            "returned_model": answer.returned_model,
            "n_prompt_tokens": answer.n_prompt_tokens,
            "n_completion_tokens": answer.n_completion_tokens,
        }
    sample = Sample.model_validate(
        {
            "model": model,
            "mode": request.mode,
            "task": task.name,
            "task_hash": task.content_hash,
            "seed": request.seed,
            "n_shots": asked.n_shots,
            "index": asked.index,
            "prompt": prompt,
        }
        | said
    )
    return sample if scorer is None else scored(sample, asked, scorer)


def scored(sample: Sample, asked: Question, scorer: Scorer) -> Sample:
    """A sample with what its reply is worth."""
    if sample.reply is None:
        return sample
    found = scorer.score(asked, sample.reply)
    worth = {"answer": found.answer[:MAX_ANSWER], "is_correct": found.is_correct, "is_repeat": found.is_repeat}
    return sample.model_copy(update=worth)


def performance_record(
    *,
    key: PerformanceKey,
    assignment: Assignment,
    samples: Sequence[Sample],
    info: ModelInfo | None,
    start: Start,
    command: str,
    device: str,
    seconds: float,
) -> PerformanceRecord:
    """The record of one task from its scored samples, in the order of its questions."""
    by_shots = {group[0].n_shots: group for group in assignment.asked}
    return PerformanceRecord(
        schema_version=PERFORMANCE_SCHEMA,
        key=key,
        model=info,
        returned_models=tuple(sorted({sample.returned_model for sample in samples if sample.returned_model})),
        cells=tuple(
            cell(assignment.task, group, [sample for sample in samples if sample.n_shots == n_shots])
            for n_shots, group in by_shots.items()
        ),
        n_prompt_tokens=total_tokens([sample.n_prompt_tokens for sample in samples if sample.reply is not None]),
        n_completion_tokens=total_tokens(
            [sample.n_completion_tokens for sample in samples if sample.reply is not None]
        ),
        samples_sha256=sha256(as_lines(samples)),
        provenance=provenance(start, command=command, device=device, seconds=seconds),
    )


def _equivalent_command(request: QueryRequest, key: PerformanceKey) -> str:
    """The command that asks the same, where the model goes by the same name."""
    command = ["bench", "query", key.model, *task_options(key.task), "--shots", ",".join(map(str, key.shots))]
    command += ["--n-queries", str(key.n_questions), "--mode", key.mode, "--seed", str(key.seed)]
    command += [] if request.max_tokens is None else ["--max-tokens", str(request.max_tokens)]
    command += [] if key.temperature is not None else ["--no-temperature"]
    if key.token_limit_parameter is not None:
        command += ["--token-limit-parameter", key.token_limit_parameter]
    command += [] if key.dtype in (None, "float32") else ["--dtype", str(key.dtype)]
    if key.revision is not None and not key.revision.startswith("sha256:"):
        command += ["--revision", source_revision(key.revision)]
    if request.service is not None and key.base_url is not None:
        command += ["--base-url", key.base_url]
        variable = request.service.key_variable
        command += [] if variable is None else ["--api-key-env", variable]
    return shlex.join(command)
