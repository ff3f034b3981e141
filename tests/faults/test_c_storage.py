"""A full disk, a folder that cannot be written, a limit on file sizes: the old files stay, and one line says which."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.store import TEMPORARY_PREFIX
from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import Child, cli
from tests.faults.ledger import IS_FULL, Cases
from tests.faults.scenes import SCENES, Places, Scene, left_by, places, same

OLD = b"what was here before\n"

SIZE = 24 << 20
"""Of the small file systems; enough for every scene, and quickly filled."""

KEPT_AS_THEY_ARE = ("collect", "predict", "convert")
"""Scenes that refuse to replace what they did not write, or have no single files."""

ALL = ("query", "collect", "run", "convert", "leaderboard", "fit", "predict", "calibrate", "features")


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


def quiet_run(scene: Scene, folder: Path, given: Places) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is there before an undisturbed run, and after it."""
    scene.in_folder(folder, given)
    before = left_by(folder)
    scene.complete(folder, given)
    return before, left_by(folder)


def with_older_files(scene: Scene, folder: Path, given: Places, expected: dict[str, Any]) -> dict[Path, bytes]:
    """The folder with something in every place that the scene will write to; all files in it as they are."""
    scene.in_folder(folder, given)
    for name in expected:
        path = folder / name
        is_file_of_one_write = scene.name not in KEPT_AS_THEY_ARE and path.suffix != ".sqlite"
        if is_file_of_one_write and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(OLD)
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def check_old_files(files: dict[Path, bytes], folder: Path, expected: dict[str, Any]) -> None:
    """Byte for byte as they were, or whole as they shall be."""
    found = left_by_whole_files(folder, files)
    for path, content in files.items():
        name = path.relative_to(folder).as_posix()
        assert path.exists(), f"{name} is gone"
        if path.read_bytes() != content and not name.endswith(".sqlite"):
            assert name in expected and found[name] == expected[name], f"{name} is neither old nor new"


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
    given, _ = shared
    for name in ALL[half::2] if IS_FULL else ["leaderboard"]:
        scene = SCENES[name]
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
            files = with_older_files(scene, folder, given, expected)
            while True:
                with filled(disk, n_free), scene.child(folder, given) as child:
                    status, said = ended(child)
                if n_free == 0 or not scene.has_ended_well(status, child):
                    break
                n_free //= 2  # there was room for everything
            with cases.case(f"{name}, {n_free} bytes free"):
                check_one_line(status, said, folder)
                check_old_files(files, folder, expected)
                scene.complete(folder, given)
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
    for name in ALL if IS_FULL else ["query"]:
        scene, folder = SCENES[name], disk / name
        _, expected = quiet_run(scene, tmp_path / name, given)
        files = with_older_files(scene, folder, given, expected)
        n_asked = len(server.received)
        with cases.case(name):
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            try:
                with scene.child(folder, given) as child:
                    assert "ead-only" in check_one_line(*ended(child), folder)
            finally:
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            assert len(server.received) == n_asked, "something was asked whose answer could not be kept"
            assert {path: path.read_bytes() for path in files} == files
            scene.complete(folder, given)
            same(left_by(folder), expected, name)


def limited(n_bytes: int, *arguments: str | Path) -> None:
    """`bench` where no file may grow beyond a size; what it says goes on, so that only its errors are in the log."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    cli(*arguments)


@pytest.mark.timeout(600)
def test_a_limit_on_file_sizes(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    given, _ = shared
    for name in ALL if IS_FULL else ["run"]:
        scene, folder = SCENES[name], tmp_path / f"{name}-limited"
        _, expected = quiet_run(scene, tmp_path / name, given)
        files = with_older_files(scene, folder, given, expected)
        n_bytes = cases.rng.randrange(1000, 2000)
        with cases.case(f"{name}, {n_bytes} bytes"):
            with scene.child(folder, given, limited, n_bytes) as child:
                check_one_line(*ended(child), folder)
            check_old_files(files, folder, expected)
            scene.complete(folder, given)
            same(left_by(folder), expected, name)


def to_full_device(*arguments: str | Path) -> None:
    """`bench` whose standard output is on a disk that is full."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    cli(*arguments)


def test_standard_output_on_a_full_disk(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """What was done is kept: only the printing failed."""
    given, _ = shared
    for name in cases.chosen(["query", "run", "leaderboard", "features"], quick=1):
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
