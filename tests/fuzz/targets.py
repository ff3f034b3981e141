"""What must hold for any bytes at all: the documented error or a sound value, in bounded time, and nothing else."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType

from bench.api.replies import (
    MAX_LABEL_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    MAX_TOKENS_REPORTED,
    InvalidReply,
    parsed,
)
from bench.completions import MODES
from bench.errors import RecordError
from bench.escape import printable
from bench.store import read_row
from tasks.check import check_file
from tasks.files import TaskFileError, read_task_file
from tests import strategies

SECONDS = 10.0
"""Of processor time: inputs of some kilobytes take milliseconds."""

MAX_MESSAGE = 1000
"""Characters of a message that are still read."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if what is inside takes too long."""
    before = time.process_time()
    yield
    spent = time.process_time() - before
    assert spent < SECONDS, f"{spent:.1f} s of processor time"


def check_message(message: str, file: str) -> None:
    """One line of things that can be shown, with the file first, then the field, then the reason."""
    name, _, rest = message.partition(": ")
    assert name == file, f"the message does not begin with the file: {message!r}"
    field, colon, reason = rest.partition(": ")
    assert field and colon and reason, f"the message names no field or gives no reason: {message!r}"
    assert message == printable(message), f"the message is not one line of printable characters: {message!r}"
    assert len(message) <= MAX_MESSAGE, f"the message has {len(message)} characters"


def record(data: bytes) -> None:
    """A file of results; the first byte says of which kind."""
    if not data:
        return
    kinds = sorted(strategies.ROW_TYPES)
    kind = strategies.ROW_TYPES[kinds[data[0] % len(kinds)]]
    path = _file("record.json", data[1:])
    with bounded():
        try:
            row = read_row(path, kind)
        except RecordError as error:
            check_message(str(error), path.name)
            return
        again = kind.model_validate_json(row.model_dump_json())
        assert again == row and again.digest() == row.digest(), "it does not come back as it was"


def task_file(data: bytes) -> None:
    """A task file: what reads has no error, what does not has one with its place."""
    path = _file("task.json", data)
    with bounded():
        found = check_file(path)
        for problem in found:
            assert problem.line >= 1 and (problem.column is None or problem.column >= 1), problem
            assert problem.message.isprintable() and problem.key.isprintable(), str(problem)
            assert len(problem.message) <= MAX_MESSAGE, str(problem)
        errors = [problem for problem in found if problem.severity == "error"]
        try:
            task = read_task_file(path)
        except TaskFileError as error:
            assert errors and error.problems == tuple(errors), (errors, error.problems)
            assert str(error).startswith(f"{path}:{errors[0].line}: "), str(error)
            return
        assert not errors, errors
        assert task.example and task.surface_forms and len(task.content_hash) == 64


def reply(data: bytes) -> None:
    """The body of an answer of a server; the first byte says how it was asked."""
    if not data:
        return
    with bounded():
        try:
            found = parsed(data[1:], MODES[data[0] % len(MODES)])
        except InvalidReply as error:
            assert str(error) == printable(str(error)) and 0 < len(str(error)) <= MAX_MESSAGE, repr(str(error))
            counts = (error.n_prompt_tokens, error.n_completion_tokens)
        else:
            assert len(found.text) <= MAX_TEXT_CHARACTERS and found.text.encode() is not None
            counts = (found.n_prompt_tokens, found.n_completion_tokens)
            for label in (found.finish_reason, found.returned_model):
                assert label is None or 0 < len(label) <= MAX_LABEL_CHARACTERS, label
        assert all(count is None or 0 <= count <= MAX_TOKENS_REPORTED for count in counts), counts


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType({"record": record, "task": task_file, "reply": reply})


def seeds(target: str) -> list[bytes]:
    """Valid inputs of a target to begin with."""
    if target == "record":
        kinds = sorted(strategies.rows())
        return [bytes([place]) + content for place, kind in enumerate(kinds) for content in strategies.rows()[kind]]
    if target == "task":
        return list(strategies.task_files())
    return [bytes([MODES.index(mode)]) + body for mode, body in strategies.replies()]


def mutated(target: str, data: bytes, seed: int) -> bytes:
    """Another input of a target, made from one with the structure of its document in mind."""
    rng = random.Random(seed)
    if target == "task":
        return strategies.damaged(data, rng)
    if rng.randrange(10) == 0:
        return bytes([rng.randrange(256)]) + data[1:]
    return data[:1] + strategies.damaged(data[1:], rng)


@cache
def _folder(process: int) -> Path:
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"fuzz-{process}-", dir=parent))


def _file(name: str, content: bytes) -> Path:
    path = _folder(os.getpid()) / name
    path.write_bytes(content)
    return path
