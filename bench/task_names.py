"""Tasks as a command names them: shipped ones, files of the user's, texts. No torch in here."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.hub_text import HUB_TEXTS, fetch_text
from tasks import TASKS, TEXTS, load_task
from tasks.files import TaskFileError, read_task_file
from tasks.task import Task
from tasks.text import TextError, read_text


def find_tasks(names: Sequence[str], *, files: Sequence[Path] = (), texts: Sequence[str] = ()) -> tuple[Task, ...]:
    """Tasks by name, from task files, and texts; each once, in this order.

    Args:
        texts: plain-text files, or names of `bench.hub_text.HUB_TEXTS`.

    Raises:
        UsageError: a name is unknown, a file cannot be used, two tasks of one name differ, or there is none at all.
    """
    found: dict[str, Task] = {}
    for task in (*map(find_task, names), *map(_from_file, files), *map(_from_text, texts)):
        if found.setdefault(task.name, task).content_hash != task.content_hash:
            raise UsageError(f"two different tasks are called {task.name!r}; give the one in your file another name")
    if not found:
        raise UsageError(f"no task to do; give --tasks with some of {', '.join(TASKS)}, --task-file or --text")
    return tuple(found.values())


def find_task(name: str) -> Task:
    """The shipped task of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown task {name[:80]!r}; {meant}expected one of {', '.join(TASKS)}")
    try:
        return load_task(name)
    except TextError as error:  # its file was damaged
        raise UsageError(str(error)) from error


def task_options(name: str) -> list[str]:
    """How a command asks for the task of a record; of a user's own file only the name is known."""
    if name in TASKS:
        return ["--tasks", name]
    kind, colon, rest = name.partition(":")
    if colon and kind == "text":
        return ["--text", rest if rest in HUB_TEXTS else f"{rest}.txt"]
    return ["--task-file", f"{name}.json"]


def _from_file(path: Path) -> Task:
    try:
        task = read_task_file(path)
    except TaskFileError as error:
        raise UsageError(str(error)) from error
    if task.name in TASKS and task.content_hash != load_task(task.name).content_hash:
        raise UsageError(
            f"{path}: a shipped task is called {task.name!r}; give yours another name, or results of the two would mix"
        )
    return task


def _from_text(text: str) -> Task:
    if text in HUB_TEXTS:
        return fetch_text(text)
    if text in TEXTS:
        return find_task(text)
    try:
        return read_text(Path(text))
    except TextError as error:
        raise UsageError(str(error)) from error
