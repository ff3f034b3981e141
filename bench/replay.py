"""Scoring replies that another program has fetched: samples in, performance records out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.completions import Mode
from bench.errors import RecordError, UsageError
from bench.performance import PERFORMANCE_SCHEMA, FailedReply, PerformanceKey, Sample
from bench.provenance import Start
from bench.query import Assignment, QueryOutcome, check_name, performance_record, scored
from bench.records import first_fault
from bench.store import Store
from bench.task_names import task_options
from tasks.prompts import PromptError
from tasks.queries import SCORING_VERSION, Question, Scorer, question, questions, request_text
from tasks.task import ListTask, PairTask, Task

MAX_SAMPLES_BYTES = 1 << 30
NO_REPLY = FailedReply(kind="missing", message="neither a reply nor a reason was recorded", n_attempts=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """What one record is made of."""

    task: str
    mode: Mode
    seed: int


def replay(path: Path, *, model: str, tasks: Mapping[str, Task], out: Path) -> tuple[QueryOutcome, ...]:
    """Score a file of samples, one JSON object a line, and write a record for each task, mode and seed in it.

    The questions are drawn again and have to be those of the file, at each number of shots all of them: a line without
    a reply counts as failed, a line that is left out would be a choice of questions. Lines may come in any order.

    Args:
        model: the name under which the records are kept.
        tasks: the tasks that may occur, by name.

    Raises:
        UsageError: the file cannot be read, or is empty; no model is called like that.
        RecordError: a line is not a sample, or not one of these questions, or one is missing; the message says which.
    """
    check_name(model)
    store, start = Store(out), Start.now()
    groups: dict[_Group, dict[tuple[int, int], tuple[Question, Sample]]] = {}
    models: dict[_Group, str] = {}
    scorers: dict[tuple[str, bool], Scorer] = {}
    for number, sample in _read(path):
        task, where, is_chat = tasks.get(sample.task), f"{path.name}:{number}", sample.mode == "chat"
        if not isinstance(task, ListTask | PairTask):
            raise RecordError(f"{where}: there is no task {sample.task[:80]!r} to ask; give its file with --task-file")
        asked = _question(sample, task, where)
        key = _Group(task=task.name, mode=sample.mode, seed=sample.seed)
        if sample.model is not None and models.setdefault(key, sample.model) != sample.model:
            raise RecordError(
                f"{where}: asked of {sample.model[:80]!r}, lines before it of {models[key][:80]!r}; a file holds the "
                "replies of one model"
            )
        group = groups.setdefault(key, {})
        if (sample.n_shots, sample.index) in group:
            raise RecordError(f"{where}: question {sample.index} at {sample.n_shots} shots comes twice")
        if sample.reply is None and sample.failure is None:
            sample = sample.model_copy(update={"failure": NO_REPLY})
        scorer = scorers.setdefault((task.name, is_chat), Scorer(task, is_chat=is_chat))
        group[sample.n_shots, sample.index] = asked, scored(sample, asked, scorer)
    if not groups:
        raise UsageError(f"{path} holds no samples")
    for key, found in groups.items():
        _check_whole(path, key, tasks[key.task], found)
    return tuple(_written(store, start, key, tasks[key.task], found, model) for key, found in groups.items())


def _question(sample: Sample, task: ListTask | PairTask, where: str) -> Question:
    """The question of a sample, drawn again.

    Raises:
        RecordError: the sample is not of this task, or its prompt is another one.
    """
    if sample.task_hash not in (None, task.content_hash):
        raise RecordError(f"{where}: asked with another version of the task {task.name!r}; take that one's file")
    asked = question(task, index=sample.index, n_shots=sample.n_shots, seed=sample.seed)
    if sample.prompt != request_text(asked, is_chat=sample.mode == "chat"):
        raise RecordError(
            f"{where}: the prompt is not question {sample.index} of {task.name!r} at {sample.n_shots} shots, "
            f"seed {sample.seed}; write the prompts with `bench query MODEL --write-prompts FILE`"
        )
    return asked


def _check_whole(path: Path, group: _Group, task: Task, found: Mapping[tuple[int, int], object]) -> None:
    """Refuse a part of the questions.

    Raises:
        RecordError: some are missing, or are none that are asked; the message has examples.
    """
    assert isinstance(task, ListTask | PairTask)
    counts = Counter(n_shots for n_shots, _ in found)
    for n_shots in sorted(counts):
        try:
            whole = questions(task, n_shots=n_shots, n_questions=max(counts.values()), seed=group.seed)
        except PromptError as error:
            raise RecordError(f"{path.name}: {error}") from error
        there, wanted = {index for shots, index in found if shots == n_shots}, {one.index for one in whole}
        if there != wanted:
            what, odd = ("are missing", wanted - there) if wanted - there else ("are none of them", there - wanted)
            examples = ", ".join(map(str, sorted(odd)[:5]))
            raise RecordError(
                f"{path.name}: of the {len(whole)} questions of {task.name!r} at {n_shots} shots, {len(odd)} {what} "
                f"(number {examples}); keep the lines of questions without an answer, they count as failed"
            )


def _read(path: Path) -> Sequence[tuple[int, Sample]]:
    try:
        if path.stat().st_size > MAX_SAMPLES_BYTES:
            raise UsageError(f"{path} is larger than {MAX_SAMPLES_BYTES >> 30} GB; replay it in parts")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            samples.append((number, Sample.model_validate_json(line)))
        except ValidationError as error:
            raise RecordError(f"{path.name}:{number}: {first_fault(error, 'the line')}") from error
    return samples


def _written(
    store: Store,
    start: Start,
    group: _Group,
    task: Task,
    found: Mapping[tuple[int, int], tuple[Question, Sample]],
    model: str,
) -> QueryOutcome:
    assert isinstance(task, ListTask | PairTask)
    in_order = [found[place] for place in sorted(found)]
    shots = tuple(dict.fromkeys(asked.n_shots for asked, _ in in_order))
    asked = tuple(tuple(one for one, _ in in_order if one.n_shots == n_shots) for n_shots in shots)
    samples = [sample for _, sample in in_order]
    key = PerformanceKey(
        schema_version=PERFORMANCE_SCHEMA,
        scoring_version=SCORING_VERSION,
        provider="replay",
        model=model,
        base_url=None,
        revision=None,
        files_sha256=None,
        dtype=None,
        mode=group.mode,
        task=task.name,
        task_version=task.version,
        task_hash=task.content_hash,
        shots=shots,
        n_questions=max(map(len, asked)),
        max_tokens=None,
        temperature=None,
        token_limit_parameter=None,
        seed=group.seed,
    )
    record = performance_record(
        key=key,
        assignment=Assignment(task=task, asked=asked, undefined=()),
        samples=samples,
        info=None,
        start=start,
        command=shlex.join(["bench", "query", model, "--replay", "samples.jsonl", *task_options(task.name)]),
        device="replay",
        seconds=0.0,
    )
    return QueryOutcome(record=record, path=store.write_performance(record, samples), was_there=False)
