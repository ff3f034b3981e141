"""Queries for a scripted server that knows the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.api.retry import Limits
from bench.performance import Sample
from bench.query import QueryOutcome, QueryRequest, Service, query
from bench.store import samples_path
from bench.task_names import find_tasks
from tasks import load_task
from tasks.queries import CHAT_INSTRUCTION
from tasks.task import ListTask, PairTask
from tests.bench.scripted_server import ScriptedServer
from tests.bench.told import Told

HURRIED = Limits(
    max_attempts=3, attempt_seconds=0.5, total_seconds=3.0, max_concurrency=4, backoff_seconds=0.02,
)  # fmt: skip


PATIENT = Limits(max_attempts=3, attempt_seconds=20.0, total_seconds=60.0, max_concurrency=4, backoff_seconds=0.02)
"""For what counts requests: no answer is late here, however busy the machine."""


def right_answer(task_name: str, prompt: str) -> str:
    """What an oracle would say."""
    task = load_task(task_name)
    prompt = prompt.removeprefix(CHAT_INSTRUCTION)
    if isinstance(task, PairTask):
        query = prompt.splitlines()[-1].strip().removesuffix(task.arrow)
        return f" {next(pair.answers[0] for pair in task.pairs if pair.query == query)}"
    assert isinstance(task, ListTask)
    shown = {name.strip() for name in prompt.split(task.separator)}
    return f" {next(name for name in task.names if name not in shown)},"


def oracle(task_name: str) -> Callable[[str], str]:
    return lambda prompt: right_answer(task_name, prompt)


def service(server: ScriptedServer, **changes: Any) -> Service:
    return replace(Service(base_url=server.base_url, limits=HURRIED), **changes)


def request(out: Path, *names: str, **changes: Any) -> QueryRequest:
    fields: dict[str, Any] = {
        "model": "big-1", "tasks": find_tasks(names or ("antonym",)), "out": out, "shots": (0, 2), "n_questions": 10,
    }  # fmt: skip
    return QueryRequest(**(fields | changes))


def run(asked: QueryRequest) -> list[QueryOutcome]:
    return list(query(asked, Told()))


def samples_of(outcome: QueryOutcome) -> list[Sample]:
    return [Sample.model_validate_json(line) for line in samples_path(outcome.path).read_bytes().splitlines()]
