"""In-context-learning tasks: data, templates, prompts. Imports nothing of `bench` and no torch."""

from __future__ import annotations

from functools import cache

from tasks.lists import load_list_task
from tasks.task import ListTask

TASKS = {
    "country": "country.json",
    "animal": "animal.json",
    "colour": "colour.json",
}
"""Every task by name, with its file in `tasks/data/`. A new task is one data file and one line here."""

RANKED_TASKS = ("animal", "colour", "country")
"""The tasks of arXiv 2405.12617: a model is ranked when it has all of them, and no random word is a member of one.
Kept apart from `TASKS`, so that a new task changes no number of the others."""


@cache
def load_task(name: str) -> ListTask:
    """The task of that name.

    Raises:
        KeyError: no task has that name.
    """
    return load_list_task(TASKS[name])
