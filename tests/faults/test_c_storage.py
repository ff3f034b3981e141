"""A full disk, a folder that cannot be written, a limit on file sizes: the old files stay, and one line says which."""

from __future__ import annotations

import ctypes
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bench.store import TEMPORARY_PREFIX
from tests.bench.scripted_server import ScriptedServer
from tests.bench.tiny_models import write_tiny_gguf
from tests.faults.children import KILLED, Child, cli, done
from tests.faults.killing import killed_at
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, Cases, Lost
from tests.faults.scenes import (
    REPLIES,
    SCENES,
    Places,
    Scene,
    cached_prompts,
    finished,
    left_by,
    places,
    quiet_run,
    rows_of,
    same,
)
from tests.planted_zoo import TASKS, write_zoo

OLD = b"what was here before\n"

SIZE = 24 << 20
"""Of the small file systems; enough for every scene, and quickly filled."""

KEPT_AS_THEY_ARE = ("collect", "predict", "convert")
"""Scenes that refuse to replace what they did not write, or have no single files: see `EARLIER` and `BEGUN`."""

ALL = ("query", "collect", "run", "convert", "leaderboard", "fit", "estimate", "predict", "calibrate", "features")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places"), latency_seconds=0.0) as found:
        yield found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, if one can be mounted."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(point)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        yield tmp_path / "none"
        return
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def _with_another_prediction(folder: Path, given: Places) -> None:
    write_zoo(folder / "results", 4, without=[(model, TASKS[0]) for model in ("f0-m", "f2-m")])
    other = ["ledger", "predict", "f2-m", "--results", folder / "results"]
    done(cli, *other, log=given.logs / uuid4().hex)


def _with_another_conversion(folder: Path, given: Places) -> None:
    write_tiny_gguf(folder / "other.gguf", seed=7)
    other = replace(SCENES["convert"], arguments=lambda folder, given: ["models", "fetch", folder / "other.gguf"])
    other.complete(folder, given)


EARLIER = {"predict": _with_another_prediction, "convert": _with_another_conversion}
"""What was there before the command first began."""

BEGUN = {
    "query": ("after a reply is kept", 10),
    "collect": ("after a reply is kept", 10),
    "run": ("after a file is replaced", 3),
    "calibrate": ("after a file is replaced", 2),
}
"""Where the command had been killed at its first try: it goes on from there."""


def scene_of(name: str) -> Scene:
    """The scene, in a folder in which other work was done."""
    scene = SCENES[name]
    return replace(scene, prepare=EARLIER.get(name, scene.prepare))


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """What is in a folder before the disturbance.

    Attributes:
        files: all that are finished.
        rows: of its databases.
        prompts: that have an answer in the cache.
    """

    files: dict[Path, bytes]
    rows: dict[Path, list[tuple[str, ...]]]
    prompts: set[str]

    def check(self, folder: Path, expected: dict[str, Any]) -> None:
        """Files are byte for byte as they were, or whole as they shall be; databases have their rows."""
        found = left_by_whole_files(folder, self.files)
        for path, content in self.files.items():
            name = path.relative_to(folder).as_posix()
            if not path.exists():
                raise Lost(f"{name} is gone")
            if path in self.rows:
                if missing := set(self.rows[path]) - set(rows_of(path)):
                    raise Lost(f"{name}: {len(missing)} rows are gone")
            elif path.read_bytes() != content:
                assert name in expected and found[name] == expected[name], f"{name} is neither old nor new"

    def go_on(self, scene: Scene, folder: Path, given: Places, server: ScriptedServer, n_asked: int) -> None:
        """The same command to its end; since `n_asked` no question was asked that had an answer."""
        check_not_asked(server, n_asked, self.prompts)
        known, n_asked = cached_prompts(folder), len(server.received)
        scene.complete(folder, given)
        check_not_asked(server, n_asked, known | self.prompts)


def check_not_asked(server: ScriptedServer, since: int, known: set[str]) -> None:
    """Raises Lost: an answer was in the cache, and was asked for again."""
    if again := [one.prompt for one in server.received[since:] if one.prompt in known]:
        raise Lost(f"{len(again)} questions were asked again that had an answer in the cache")


def with_older_files(scene: Scene, folder: Path, given: Places, expected: dict[str, Any]) -> Older:
    """The folder with the command half done, and something in every other place that it will write to."""
    scene.in_folder(folder, given)
    if scene.name in BEGUN:
        with scene.child(folder, given, killed_at, *BEGUN[scene.name], 1) as child:
            assert child.wait(120) == KILLED, child.text()
    if scene.name == "query":
        with closing(sqlite3.connect(folder / REPLIES)) as connection:  # as one that ended well: its log is gone
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in expected:
        path = folder / name
        is_file_of_one_write = scene.name not in KEPT_AS_THEY_ARE and path.suffix != ".sqlite"
        if is_file_of_one_write and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(OLD)
    files = {path: path.read_bytes() for path in finished(folder)}
    rows = {path: rows_of(path) for path in files if path.suffix == ".sqlite"}
    older = Older(files=files, rows=rows, prompts=cached_prompts(folder))
    assert scene.name not in BEGUN or any(content != OLD for content in files.values()), "nothing was begun"
    assert bool(older.prompts) == scene.asks, "no answer was kept"
    return older


def ended(child: Child) -> tuple[int, str]:
    """How it ended, and what it said."""
    return child.wait(120), child.text()


def check_one_line(status: int, said: str, folder: Path) -> str:
    """A refusal in words that names a file below the folder."""
    lines = [line for line in said.splitlines() if line.startswith("bench: ")]
    assert status == 2, f"exit status {status}:\n{said}"
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert len(lines) == 1 and said.rstrip().endswith(lines[0]), said
    assert str(folder) in lines[0] and TEMPORARY_PREFIX not in lines[0], lines[0]
    return lines[0]


def left_by_whole_files(folder: Path, files: dict[Path, bytes]) -> dict[str, Any]:
    """What `left_by` finds, without the files that are as they were: those need not be of our making."""
    still_old = [path for path, content in files.items() if path.exists() and path.read_bytes() == content]
    moved = {path: path.with_name(f".writing-{path.name}") for path in still_old}
    try:
        for path, aside in moved.items():
            path.rename(aside)
        return left_by(folder)
    finally:
        for path, aside in moved.items():
            aside.rename(path)


@contextmanager
def filled(disk: Path, n_bytes_free: int) -> Iterator[None]:
    """The file system with this much room left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - n_bytes_free))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("half", [0, 1] if IS_FULL else [0])
def test_a_full_disk(
    cases: Cases, half: int, tmp_path: Path, disk: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    if not disk.is_dir():
        cases.not_run("a file system of its own to fill up: mounting needs rights that this user does not have")
        return
    given, server = shared
    for name in ALL[half::2] if IS_FULL else ["query"]:
        scene = scene_of(name)
        before, expected = quiet_run(scene, tmp_path / name, given)
        written = [
            path.stat().st_size
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.relative_to(tmp_path / name).as_posix() not in before
        ]
        room = [
            cases.rng.randrange(4096, max(8192, sum(written))),
            max(written) + 8192,
        ]  # the largest fits, and no more
        for turn, n_free in enumerate([0, *room[: cases.n(quick=0, full=2 if name == "convert" else 1)]]):
            folder = disk / f"{name}-{turn}"
            while True:
                older, n_asked = with_older_files(scene, folder, given, expected), len(server.received)
                with filled(disk, n_free), scene.child(folder, given) as child:
                    status, said = ended(child)
                if n_free == 0 or not scene.has_ended_well(status, child):
                    break
                n_free //= 2  # there was room for everything
                subprocess.run(["rm", "-r", str(folder)], check=True)
            with cases.case(f"{name}, {n_free} bytes free"):
                check_one_line(status, said, folder)
                older.check(folder, expected)
                older.go_on(scene, folder, given, server, n_asked)
                same(left_by(folder), expected, name)
            subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.mark.timeout(600)
def test_a_folder_that_cannot_be_written(
    cases: Cases, tmp_path: Path, disk: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    if not disk.is_dir():
        cases.not_run("a file system that is read-only: mounting needs rights that this user does not have")
        return
    given, server = shared
    for name in ALL if IS_FULL else ["features"]:
        scene, folder = scene_of(name), disk / name
        _, expected = quiet_run(scene, tmp_path / name, given)
        older = with_older_files(scene, folder, given, expected)
        n_asked = len(server.received)
        with cases.case(name):
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            try:
                with scene.child(folder, given) as child:
                    assert "ead-only" in check_one_line(*ended(child), folder)
            finally:
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            assert len(server.received) == n_asked, "something was asked whose answer could not be kept"
            assert {path: path.read_bytes() for path in older.files} == older.files
            older.go_on(scene, folder, given, server, n_asked)
            same(left_by(folder), expected, name)


def without_rights(*arguments: str | Path) -> None:
    """`bench` of one whom the modes of files and folders stop: who is root has no power over them here."""
    version, this_process, no_rights = 0x20080522, 0, (ctypes.c_uint32 * 6)()  # see capset(2)
    if ctypes.CDLL(None, use_errno=True).capset((ctypes.c_uint32 * 2)(version, this_process), no_rights) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    cli(*arguments)


@contextmanager
def nobody_may_write(folder: Path) -> Iterator[None]:
    """The folder and all below it for reading only."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.timeout(600)
def test_a_folder_that_this_user_may_not_write(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, server = shared
    for name in ALL if IS_FULL else ["query"]:
        scene, folder = scene_of(name), tmp_path / f"{name}-theirs"
        _, expected = quiet_run(scene, tmp_path / name, given)
        older = with_older_files(scene, folder, given, expected)
        n_asked = len(server.received)
        with cases.case(name):
            with nobody_may_write(folder), scene.child(folder, given, without_rights) as child:
                said = check_one_line(*ended(child), folder)
            assert "ermission denied" in said or "readonly" in said, said
            assert len(server.received) == n_asked, "something was asked whose answer could not be kept"
            assert {path: path.read_bytes() for path in older.files} == older.files
            older.go_on(scene, folder, given, server, n_asked)
            same(left_by(folder), expected, name)


def limited(n_bytes: int, *arguments: str | Path) -> None:
    """`bench` where no file may grow beyond a size; what it says goes on, so that only its errors are in the log."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    cli(*arguments)


@NOT_IN_THE_SLICE
@pytest.mark.timeout(600)
def test_a_limit_on_file_sizes(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    given, server = shared
    for name in ALL if IS_FULL else ["run"]:
        scene, folder = scene_of(name), tmp_path / f"{name}-limited"
        _, expected = quiet_run(scene, tmp_path / name, given)
        older, n_asked = with_older_files(scene, folder, given, expected), len(server.received)
        n_bytes = cases.rng.randrange(1000, 2000)
        with cases.case(f"{name}, {n_bytes} bytes"):
            with scene.child(folder, given, limited, n_bytes) as child:
                check_one_line(*ended(child), folder)
            older.check(folder, expected)
            older.go_on(scene, folder, given, server, n_asked)
            same(left_by(folder), expected, name)


def to_full_device(*arguments: str | Path) -> None:
    """`bench` whose standard output is on a disk that is full."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    cli(*arguments)


def test_standard_output_on_a_full_disk(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """What was done is kept: only the printing failed."""
    given, _ = shared
    for name in ALL if IS_FULL else ["features"]:  # which ends in one print
        scene, folder = SCENES[name], tmp_path / f"{name}-full"
        _, expected = quiet_run(scene, tmp_path / name, given)
        scene.in_folder(folder, given)
        with cases.case(f"{name} to /dev/full"):
            with scene.child(folder, given, to_full_device) as child:
                status, said = ended(child)
            assert status == 2 and "Traceback" not in said and "Exception ignored" not in said, said
            assert said.rstrip().endswith("bench: cannot write to standard output: No space left on device"), said
            scene.complete(folder, given)
            same(left_by(folder), expected, name)


def test_what_is_no_file_is_never_replaced(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """Writing to /dev/null as root by putting a file in its place would break the machine."""
    given, _ = shared
    scene = SCENES["features"]
    folder = scene.in_folder(tmp_path / "results", given)
    fifo = folder / "cells.csv"
    os.mkfifo(fifo)
    with cases.case("a pipe with a name"):
        with scene.child(folder, given) as child:
            assert "not a regular file" in check_one_line(*ended(child), folder)
        assert fifo.is_fifo()
