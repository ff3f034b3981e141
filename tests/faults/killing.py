"""Points in the software at which a child kills itself: installed in the child, before its command begins."""

from __future__ import annotations

import io
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.children import cli


def die() -> None:
    """SIGKILL of this very process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way


class Fuse:
    """Does something at the n-th visit of a point: as a rule, ends this process by SIGKILL.

    Attributes:
        step: which one, at a point that is made of several: the steps of SQLite within an insert.
    """

    def __init__(self, visit: int, act: Callable[[], None] = die, step: int = 1) -> None:
        self._left = visit
        self.act = act
        self.step = step

    def visit(self) -> None:
        """Count; the last one does not return."""
        if self.is_last():
            self.act()

    def is_last(self) -> bool:
        """Count; whether this is the visit to act at."""
        self._left -= 1
        return self._left == 0


def killed_at(point: str, visit: int, step: int, *arguments: str | Path) -> None:
    """`bench` with these arguments, until the point is visited for the n-th time."""
    at_point(point, Fuse(visit, step=step))
    cli(*arguments)


def waiting_at(point: str, reached: str, gone_on: str, seconds: float, *arguments: str | Path) -> None:
    """`bench`, which waits at a point until a file is there, or for so long; it says by another that it is there."""

    def wait() -> None:
        Path(reached).touch()
        until = time.monotonic() + seconds
        while not Path(gone_on).exists() and time.monotonic() < until:
            time.sleep(0.005)

    at_point(point, Fuse(1, wait))
    cli(*arguments)


def at_point(point: str, fuse: Fuse) -> None:
    """Put a fuse at a point of this process."""
    POINTS[point](fuse)


def _around(
    owner: Any, name: str, fuse: Fuse, *, after: bool = False, counts: Callable[..., bool] = lambda *_: True
) -> None:
    """Visit before or after a function is called, where its arguments count."""
    usual = getattr(owner, name)

    def disturbed(*arguments: Any, **named: Any) -> Any:
        is_visit = counts(*arguments)
        if is_visit and not after:
            fuse.visit()
        result = usual(*arguments, **named)
        if is_visit and after:
            fuse.visit()
        return result

    setattr(owner, name, disturbed)


class _Half(io.FileIO):
    """A file of which half is written before the end; an empty one, of which there is no half, does not count."""

    fuse: Fuse

    def write(self, content: Any) -> int:
        if content and self.fuse.is_last():
            super().write(content[: len(content) // 2])
            self.fuse.act()
        return super().write(content) or 0


def _half_a_file(fuse: Fuse) -> None:
    import bench.store

    def opened(descriptor: int, mode: str) -> _Half:
        file = _Half(descriptor, mode)
        file.fuse = fuse
        return file

    vars(bench.store)["open"] = opened


def _before_sync(fuse: Fuse) -> None:
    _around(os, "fsync", fuse, counts=_is_file_with_content)


def _before_replace(fuse: Fuse) -> None:
    _around(os, "replace", fuse, counts=_is_no_probe)


def _after_replace(fuse: Fuse) -> None:
    _around(os, "replace", fuse, after=True, counts=_is_no_probe)


def _is_file_with_content(descriptor: int) -> bool:
    """Not a folder, nor the empty file that shows that a folder can be written to."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _is_no_probe(source: str | Path, place: str | Path) -> bool:
    """Not the empty file that shows that a folder can be written to, before there is any work."""
    return Path(place).name != ".writable"


def _before_sending(fuse: Fuse) -> None:
    from bench.api.client import ApiCompleter

    _around(ApiCompleter, "_attempt", fuse)


def _is_new(cache: Any, key: Any) -> bool:
    """Not a reply that is kept already: each is given to the cache again when it is read."""
    return cache.get(key) is None


def _before_keeping(fuse: Fuse) -> None:
    from bench.api.cache import ReplyCache

    _around(ReplyCache, "put", fuse, counts=lambda cache, key, reply: _is_new(cache, key))


def _while_keeping(fuse: Fuse) -> None:
    """Between two steps of SQLite within an insert, before it is committed."""
    from bench.api.cache import ReplyCache

    usual = ReplyCache._insert

    def disturbed(cache: ReplyCache, row: Any, key: Any) -> Any:
        if _is_new(cache, key) and fuse.is_last():
            steps = Fuse(fuse.step, fuse.act)
            cache._connection.set_progress_handler(steps.visit, 1)
        return usual(cache, row, key)

    ReplyCache._insert = disturbed  # type: ignore[method-assign]


def _before_commit(fuse: Fuse) -> None:
    """The row is written, and the transaction is open."""
    from bench.api.cache import ReplyCache

    usual = ReplyCache._insert

    def disturbed(cache: ReplyCache, row: Any, key: Any) -> Any:
        if _is_new(cache, key) and fuse.is_last():
            cache._connection.execute("BEGIN IMMEDIATE")
            usual(cache, row, key)
            fuse.act()
        return usual(cache, row, key)

    ReplyCache._insert = disturbed  # type: ignore[method-assign]


def _after_keeping(fuse: Fuse) -> None:
    from bench.api.cache import ReplyCache

    _around(ReplyCache, "_insert", fuse, after=True, counts=lambda cache, row, key: _is_new(cache, key))


def _before_index(fuse: Fuse) -> None:
    from proxies.digests import _Index

    _around(_Index, "_commit", fuse)


def _after_index(fuse: Fuse) -> None:
    from proxies.digests import _Index

    _around(_Index, "_commit", fuse, after=True)


def _half_the_weights(fuse: Fuse) -> None:
    import transformers.modeling_utils as owner

    usual = owner.safe_save_file

    def disturbed(tensors: Any, path: Any, *more: Any, **named: Any) -> None:
        usual(tensors, path, *more, **named)
        if fuse.is_last():
            os.truncate(path, os.path.getsize(path) // 2)
            fuse.act()

    vars(owner)["safe_save_file"] = disturbed


def _before_conversion_record(fuse: Fuse) -> None:
    import bench.conversion

    _around(bench.conversion, "_write_record", fuse)


def _before_install(fuse: Fuse) -> None:
    import bench.conversion

    _around(bench.conversion, "install", fuse)


def _after_install(fuse: Fuse) -> None:
    import bench.conversion

    _around(bench.conversion, "install", fuse, after=True)


def _before_prediction(fuse: Fuse) -> None:
    """The ledger was read, and is to be written."""
    import proxies.predicting

    _around(proxies.predicting, "append", fuse)


def _before_picture(fuse: Fuse) -> None:
    """The records of a report were read, and the report is to be written."""
    import proxies.performance_files

    _around(proxies.performance_files, "picture", fuse)


def _before_leaderboard(fuse: Fuse) -> None:
    """All records were read, and the leaderboard is to be written."""
    import proxies.leaderboard_files

    _around(proxies.leaderboard_files, "files_of", fuse)


POINTS: dict[str, Callable[[Fuse], None]] = {
    "half of a file": _half_a_file,
    "before a file is synced": _before_sync,
    "before a file is replaced": _before_replace,
    "after a file is replaced": _after_replace,
    "before a request": _before_sending,
    "after a reply": _before_keeping,
    "while a reply is kept": _while_keeping,
    "before a reply is committed": _before_commit,
    "after a reply is kept": _after_keeping,
    "before the index": _before_index,
    "after the index": _after_index,
    "before a prediction is added": _before_prediction,
    "before a report is drawn": _before_picture,
    "before the leaderboard is written": _before_leaderboard,
    "half of the weights": _half_the_weights,
    "before the record of a conversion": _before_conversion_record,
    "before a conversion is installed": _before_install,
    "after a conversion is installed": _after_install,
}

MOST_STEPS = 12
"""Of SQLite within an insert, that every insert takes."""

FILE_POINTS = tuple(name for name in POINTS if " file" in name)
REPLY_POINTS = tuple(name for name in POINTS if "request" in name or "reply" in name)
INDEX_POINTS = tuple(name for name in POINTS if "index" in name)
CONVERSION_POINTS = tuple(name for name in POINTS if "conversion" in name or "weights" in name)

VISITS: dict[str, dict[str, int]] = {
    "query": dict.fromkeys(REPLY_POINTS, 24) | dict.fromkeys(FILE_POINTS, 4),
    "collect": dict.fromkeys(REPLY_POINTS, 24) | dict.fromkeys(FILE_POINTS, 3),
    "run": dict.fromkeys(FILE_POINTS, 7),
    "convert": dict.fromkeys(CONVERSION_POINTS, 1),
    "leaderboard": dict.fromkeys(FILE_POINTS, 4) | dict.fromkeys(INDEX_POINTS, 1),
    "fit": dict.fromkeys(FILE_POINTS, 2),
    "estimate": dict.fromkeys(FILE_POINTS, 2),
    "predict": dict.fromkeys(FILE_POINTS, 2),
    "calibrate": dict.fromkeys(FILE_POINTS, 7),
}
"""Scene -> its points with how often an undisturbed run visits each."""
