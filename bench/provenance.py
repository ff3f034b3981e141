"""Where and when a record was made."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench import __version__
from bench.records import Provenance

LIBRARIES = ("torch", "transformers", "numpy", "tokenizers", "safetensors", "gguf")


def provenance(*, device: str) -> Provenance:
    """The present moment, code and machine, taken when a run begins; command and duration are filled in at its end."""
    return Provenance(
        date=datetime.now(UTC).replace(microsecond=0).isoformat(),
        command="-",
        commit=commit(),
        versions={"bench": __version__, **{name: found for name in LIBRARIES if (found := _version(name))}},
        n_threads=torch.get_num_threads(),
        device=device,
        seconds=0.0,
    )


def commit() -> str | None:
    """The commit of this checkout, with "+changes" where tracked files differ from it; None outside a checkout."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
