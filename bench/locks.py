"""Locks between processes: files that one process at a time holds. What a killed process held is free again."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import StorageError

LOCK_SECONDS = 60.0
"""How long another process is waited for that has to read, draw and write, but not to measure or to fetch."""

PAUSE_SECONDS = 0.02
"""Between two tries."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Held(StorageError):
    """Another process holds a lock."""


@contextmanager
def exclusive(path: Path, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. The file stays: to remove it would be to let two in.

    On a file system without locks the block runs all the same, as one process alone there has to work.

    Args:
        path: made if missing, and its folder too.
        seconds: to wait for another process; 0 to ask once, infinity to wait as long as it takes.

    Raises:
        Held: another process still has it.
        StorageError: it cannot be written.
    """
    lock = FileLock(path, poll_interval=PAUSE_SECONDS, thread_local=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if seconds == math.inf else seconds)
    except Timeout as error:
        waited = f" and kept {path.name} for {seconds:.0f} s" if seconds else ""
        raise Held(f"another process is at work in {path.parent}{waited}; let it finish, then try again") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StorageError(
                f"cannot write {path}: {error.strerror or error}; choose another folder, or free space there"
            ) from error
    try:
        yield
    finally:
        lock.release()
