"""Locks between processes: files that one process at a time holds. What a killed process held is free again."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from bench.errors import StorageError
from bench.escape import printable

LOCK_SECONDS = 600.0
"""How long another process is waited for that has to read, draw and write, but not to measure or to fetch."""

QUIET_SECONDS = 2.0
"""How long one waits without a word."""

PAUSE_SECONDS = 0.02
"""Between two tries."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_log = logging.getLogger(__name__)


class Held(StorageError):
    """Another process holds a lock."""


@contextmanager
def exclusive(
    path: Path, *, seconds: float = LOCK_SECONDS, remedy: str = "choose another folder, or free space there"
) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs. The file stays: to remove it would be to let two in.

    On a file system without locks the block runs all the same, as one process alone there has to work. Users who share
    a folder share its locks: anybody may open one.

    Args:
        path: made if missing, and its folder too.
        seconds: to wait for another process; 0 to ask once, infinity to wait as long as it takes.
        remedy: said where the file cannot be written.

    Yields:
        Whether the file is locked: it is, but where there are no locks.

    Raises:
        Held: another process still has it.
        StorageError: it cannot be written.
    """
    lock = FileLock(path, mode=0o666, poll_interval=PAUSE_SECONDS, thread_local=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, seconds)
    except Timeout as error:
        waited = f" and kept {path.name} for {seconds:.0f} s" if seconds else ""
        raise Held(f"another process is at work in {path.parent}{waited}; let it finish, then try again") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, seconds: float) -> None:
    try:
        lock.acquire(timeout=min(seconds, QUIET_SECONDS))
    except Timeout:
        if seconds <= QUIET_SECONDS:
            raise
        _log.warning("waiting for another process that is at work in %s", printable(str(path.parent)))
        lock.acquire(timeout=-1 if seconds == math.inf else seconds - QUIET_SECONDS)
