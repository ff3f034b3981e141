"""Where and when a record was made."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from bench import __version__
from bench.records import Provenance

LIBRARIES = ("torch", "transformers", "numpy", "tokenizers", "safetensors", "gguf", "openai", "httpx2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When a run began, and from which commit: taken then, for the checkout may move on while it runs."""

    date: str
    commit: str | None

    @classmethod
    def now(cls) -> Self:
        """The present moment."""
        return cls(date=datetime.now(UTC).replace(microsecond=0).isoformat(), commit=commit())


def provenance(start: Start, *, command: str, device: str, seconds: float, n_threads: int | None = None) -> Provenance:
    """The provenance of a record that has just been measured, with so many threads; None for those of this process."""
    if n_threads is None:
        n_threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1  # not to load it for this
    return Provenance(
        date=start.date,
        command=command,
        commit=start.commit,
        versions=library_versions(),
        n_threads=n_threads,
        device=device,
        seconds=round(seconds, 1),
    )


def library_versions() -> dict[str, str]:
    """Of this software and of the libraries that make its numbers, as far as they are installed."""
    return {"bench": __version__, **{name: found for name in LIBRARIES if (found := _version(name))}}


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
