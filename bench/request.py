"""What can be asked of a run, checked at the door: every name and size, before a model is touched."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UsageError
from bench.estimators import ESTIMATORS, Estimator
from tasks import TASKS, load_task
from tasks.prompts import PromptError, check_sizes
from tasks.task import PRESETS, ListTask, Preset, preset_of


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
