"""What can be asked of a run, checked at the door: every name and size, before a model is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from bench.errors import EstimationError, UsageError
from bench.estimators import ESTIMATORS, Estimator
from bench.records import Finite
from tasks.prompts import PromptError, check_sizes
from tasks.task import PRESETS, Preset, Task, TextTask, preset_of

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]

_ACCEPTED: dict[Any, Any] = {int: Whole, float: Finite, tuple[float, ...]: tuple[Finite, ...]}
"""What a setting of a type may be: a number that a record can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to measure.

    Attributes:
        models: names, folders, GGUF files or hub ids, as `bench.catalog.resolve` takes them.
        tasks: what to measure on; `bench.task_names.find_tasks` gives them by name and from files.
        n_names, n_shots: override the preset's sizes; the preset is then called "custom".
        estimator: its name; None takes the one that fits the population, see `estimator_for`.
        limit: measure only this many lists, drawn at random. For trying things out: never ranked.
        bos: "tokenizer" puts a begin-of-sequence token before macro and micro inputs where the tokenizer does so
            by itself; "none" never does.
        settings: (name, value) of each setting of the estimator that is not to have its default.
        device_map: "auto" spreads each model over the devices that there are; estimates are made on `device`.
        shard: (i, n): only the i-th of n shares of the records, counted from 1; see `bench.run.share`.
        memory_bytes: for the states of the population, the weights come on top. What does not fit is kept in a
            temporary file; the rows of one position have to fit.
    """

    models: tuple[str, ...]
    tasks: tuple[Task, ...]
    out: Path
    preset: str = "quick"
    n_names: int | None = None
    n_shots: int | None = None
    limit: int | None = None
    estimator: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    device_map: Literal["auto"] | None = None
    shard: tuple[int, int] = (1, 1)
    bos: Literal["tokenizer", "none"] = "tokenizer"
    memory_bytes: int = 4 << 30


def estimator_for(task: Task) -> str:
    """The estimator that fits the population of a task.

    Lists of demonstrations are enumerated, so the channel knows their distribution. Windows of a text are a sample, and
    what is learned from some of them has to hold on others.
    """
    return "crossfit_nce" if isinstance(task, TextTask) else "noisy_channel"


def make_estimator(name: str, settings: tuple[tuple[str, str], ...] = ()) -> Estimator:
    """The estimator of that name.

    Args:
        settings: (name, value) of each setting that is not to have its default, as they are typed on a command line;
            the numbers of a tuple are separated by commas.

    Raises:
        UsageError: there is no such estimator or setting, or a value is not one that it takes.
    """
    if name not in ESTIMATORS:
        raise UsageError(f"unknown estimator {name!r}; expected one of {', '.join(ESTIMATORS)}")
    kind = ESTIMATORS[name]
    hints = {setting: get_type_hints(kind)[setting] for setting in _setting_names(kind)}
    values: dict[str, object] = {}
    for setting, text in settings:
        if setting not in hints:
            expected = f"expected one of {', '.join(hints)}" if hints else "it has none"
            raise UsageError(f"unknown setting {setting[:80]!r} of the estimator {name}; {expected}")
        if setting in values:
            raise UsageError(f"the setting {setting} of the estimator {name} is given twice; give it once")
        values[setting] = _parsed(name, setting, text, hints[setting])
    try:
        return kind(**values)
    except EstimationError as error:
        raise UsageError(str(error)) from error


def split_setting(text: str) -> tuple[str, str]:
    """(name, value) of "NAME=VALUE".

    Raises:
        UsageError: it has no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--setting expects NAME=VALUE, got {text[:80]!r}")
    return name.strip(), value.strip()


def split_shard(text: str) -> tuple[int, int]:
    """(i, n) of "I/N", counted from 1.

    Raises:
        UsageError: it is not of that form.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None:
        raise UsageError(f"--shard expects I/N, such as 1/8, got {text[:80]!r}")
    return int(found[1]), int(found[2])


def changed_settings(estimator: Estimator) -> tuple[tuple[str, str], ...]:
    """The settings of an estimator that are not the defaults, as `make_estimator` takes them."""
    usual = type(estimator)()
    return tuple(
        (name, _as_text(getattr(estimator, name)))
        for name in _setting_names(type(estimator))
        if getattr(estimator, name) != getattr(usual, name)
    )


def _setting_names(kind: type[Estimator]) -> tuple[str, ...]:
    assert is_dataclass(kind), f"{kind.__name__} must be a dataclass, its fields are its settings"
    return tuple(field.name for field in fields(kind))


def _parsed(estimator: str, setting: str, text: str, hint: Any) -> object:
    """A setting from the command line as the type of its field."""
    parts = [part.strip() for part in text.split(",")] if get_origin(hint) is tuple else text
    try:
        return TypeAdapter(_ACCEPTED.get(hint, hint)).validate_python(parts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise UsageError(
            f"the setting {setting} of the estimator {estimator} got {text[:80]!r}: {first[:1].lower()}{first[1:]}"
        ) from error


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def preset_for(request: RunRequest, task: Task) -> Preset:
    """The sizes to use for a task.

    Raises:
        UsageError: no such preset, or sizes from which no population can be built.
    """
    if request.preset not in PRESETS:
        raise UsageError(f"unknown preset {request.preset!r}; expected one of {', '.join(PRESETS)}")
    preset = preset_of(task, request.preset)
    if request.n_names is not None or request.n_shots is not None:
        n_names = preset.n_names if request.n_names is None else request.n_names
        n_shots = preset.n_shots if request.n_shots is None else request.n_shots
        preset = Preset(name="custom", n_names=n_names, n_shots=n_shots)
    if isinstance(task, TextTask):
        return preset  # looked at when the windows are drawn
    try:
        check_sizes(n_names=preset.n_names, n_shots=preset.n_shots, limit=request.limit)
    except PromptError as error:
        raise UsageError(str(error)) from error
    return preset
