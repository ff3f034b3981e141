"""The cache folder: where it is, and how a folder in it comes to exist whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from bench.errors import StorageError

Tell = Callable[[str], None]  # told, in one line each, what is about to take a while

CHOOSE_CACHE = "set BENCH_CACHE to a folder that can be written"
PARTIAL_PREFIX = ".partial-"
STALE_AFTER_SECONDS = 24 * 3600.0  # far longer than any download or conversion; older remains were left by a kill


def cache_folder() -> Path:
    """The folder for downloaded and converted weights: `BENCH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("BENCH_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("bench")


def sha256_of(path: Path) -> str:
    """Hex sha256 of the bytes of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def work_folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder on the file system of `target`, removed with all it holds when the block ends.

    Raises:
        StorageError: the folder that is to hold `target` cannot be created or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_work(target.parent)
        work = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=target.parent))
    except OSError as error:
        raise StorageError(
            f"cannot write to the cache folder {target.parent} ({error.strerror or error}); {CHOOSE_CACHE}"
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def install(built: Path, target: Path) -> None:
    """Give the finished folder `built` its place, in one step; if another process was first, its folder stays.

    What it holds is on the disk before it has its name, lest a power cut leave a folder of empty files.

    Raises:
        StorageError: it cannot be written to the end, or not be put there.
    """
    try:
        _sync_tree(built)
        built.rename(target)
        sync(target.parent)
    except OSError as error:
        if not target.is_dir():
            raise StorageError(f"cannot put the finished {target} in its place ({error.strerror or error})") from error


def _sync_tree(folder: Path) -> None:
    """Every file and folder below, and the folder itself after all that it names."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))


def sync(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale_work(parent: Path) -> None:
    """Delete what killed processes left; a work folder in use is never this old."""
    for left in parent.glob(f"{PARTIAL_PREFIX}*"):
        try:
            is_stale = time.time() - left.stat().st_mtime > STALE_AFTER_SECONDS
        except FileNotFoundError:  # its owner has just finished
            continue
        if is_stale:
            shutil.rmtree(left, ignore_errors=True)
