"""What a power cut would leave: a child notes what it syncs and renames, in which order, and what is in its way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.cache import PARTIAL_PREFIX
from bench.store import TEMPORARY_PREFIX
from tests.faults.children import cli

State = tuple[int, int, int]
"""Inode, size, time of the last change."""


def noted(notes: str, *arguments: str | Path) -> None:
    """`bench`; what was put in its place, and what was wrong with the order, is in the file `notes` at the end."""
    order = _Order()
    order.watch("fsync", before=order.synced)
    for name in ("rename", "replace"):
        order.watch(name, before=order.will_be_named, after=order.named)
    try:
        cli(*arguments)
    finally:
        order.end()
        Path(notes).write_text(json.dumps({"named": order.places, "wrong": order.wrong}))


class _Order:
    """The calls so far.

    Attributes:
        places: paths that were given to something finished.
        wrong: in words, where a power cut could leave a name without its content, or take the name away later.
    """

    def __init__(self) -> None:
        self.places: list[str] = []
        self.wrong: list[str] = []
        self._synced: set[State] = set()
        self._unsynced_folders: dict[int, str] = {}

    def watch(self, name: str, before: Callable[..., None], after: Callable[..., None] | None = None) -> None:
        """Be told of the calls of a function of `os`."""
        usual = getattr(os, name)

        def told(*arguments: Any, **named: Any) -> Any:
            before(*arguments)
            result = usual(*arguments, **named)
            if after is not None:
                after(*arguments)
            return result

        setattr(os, name, told)

    def synced(self, descriptor: int) -> None:
        """Its content, or the names in it, are on the disk from now on."""
        state = _state(os.fstat(descriptor))
        self._synced.add(state)
        self._unsynced_folders.pop(state[0], None)

    def will_be_named(self, source: str | Path, place: str | Path) -> None:
        """All that gets a name has to be on the disk, as it is now."""
        if _is_hidden(place):
            return
        for path in _below(Path(source)):
            if _state(path.stat()) not in self._synced:
                self.wrong.append(f"{path} was not synced before it was renamed to {place}")

    def named(self, source: str | Path, place: str | Path) -> None:
        """The folder with the name has to be synced next."""
        if _is_hidden(place):
            return
        self.places.append(str(place))
        folder = Path(place).parent
        self._unsynced_folders[folder.stat().st_ino] = f"{folder} was not synced after {Path(place).name} was put in it"

    def end(self) -> None:
        """Nothing is synced later."""
        self.wrong += self._unsynced_folders.values()


def _state(status: os.stat_result) -> State:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_hidden(place: str | Path) -> bool:
    return any(part.startswith((TEMPORARY_PREFIX, PARTIAL_PREFIX)) for part in Path(place).parts)


def _below(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from path.rglob("*")
