"""In-context-learning tasks: data, templates, prompts. Imports nothing of `bench` and no torch."""

from __future__ import annotations

from functools import cache

from tasks.task import ListTask, PairTask, Task, TextTask
from tasks.text import DATA_FOLDER, load_text_task

LISTS = ("country", "animal", "colour", "element", "us-state")

PAIRS = (
    "country-capital",
    "country-currency",
    "country-demonym",
    "element-symbol",
    "animal-young",
    "object-colour",
    "antonym",
    "singular-plural",
    "present-past",
    "verb-gerund",
    "adjective-comparative",
    "word-first-letter",
    "number-successor",
    "english-french",
    "english-spanish",
    "english-german",
)

TEXTS = ("text-sample",)

TASKS = (*LISTS, *PAIRS, *TEXTS)
"""Every shipped task; its data is `tasks/data/NAME.json`. A new task is one data file and one word here."""

RANKED_TASKS = ("animal", "colour", "country")
"""The tasks of arXiv 2405.12617: a model is ranked when it has all of them, and no random word is a member of one.
Kept apart from `TASKS`, so that a new task changes no number of the others."""

PERFORMANCE_TASKS = ("country-capital", "antonym", "present-past", "singular-plural", "english-spanish", "verb-gerund")
"""Pairs of unlike difficulty, over which the performance of a model is the mean."""

PERFORMANCE_SHOTS = 4
"""Demonstrations in their prompts: the most that emergence of lists is measured at."""


@cache
def load_task(name: str) -> Task:
    """The task of that name.

    Raises:
        KeyError: no task has that name.
    """
    if name in TEXTS:
        return load_text_task(f"{name}.json")
    if name not in TASKS:
        raise KeyError(name)
    from tasks.files import read_task_file  # here, because it takes a while and the names alone do not need it

    return read_task_file(DATA_FOLDER / f"{name}.json")


def shipped_version(name: str) -> tuple[int, str] | None:
    """Version and hash of the content of the task of that name; None where none is shipped."""
    return (load_task(name).version, load_task(name).content_hash) if name in TASKS else None


__all__ = [
    "LISTS",
    "PAIRS",
    "PERFORMANCE_SHOTS",
    "PERFORMANCE_TASKS",
    "RANKED_TASKS",
    "TASKS",
    "TEXTS",
    "ListTask",
    "PairTask",
    "Task",
    "TextTask",
    "load_task",
]
