"""The files of the leaderboard: its text, its tables by task, its pictures; written, or compared with what is there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.store import StoredFit, write_whole
from proxies import by_task, leaderboard
from proxies.board import Board
from proxies.leaderboard import BY_TASK, CLOSED_PICTURE, FOLDER, SIZE_PICTURE, largest, pretended, title
from proxies.standings import EstimatedEntry, Standing

Drawn = TypeVar("Drawn", Standing, list[StoredFit])

DRAWING_VERSION = 1
"""Raised when the same board would give another picture than before."""

_MARK = re.compile(rb"<!-- drawn ([0-9a-f]{64}) -->\n\Z")


def files_of(board: Board, root: Path, out: Path, *, redraw: bool) -> dict[Path, bytes | None]:
    """The bytes of every file; None for one that has nothing to show.

    Args:
        root: the results folder.
        out: where `leaderboard.md` lies; the files in the results folder do not depend on it.
        redraw: draw pictures whatever is there; otherwise one that says it is of these very numbers stays as it is,
            since drawing takes longer than everything else.
    """
    folder = root / FOLDER
    size, closed = folder / SIZE_PICTURE, folder / CLOSED_PICTURE
    standing, shown = largest(board), pretended(board.fits)
    return {
        out: leaderboard.render(board, results=_from(out.parent, root)).encode(),
        folder / BY_TASK: by_task.render(board, results=_from(folder, root)).encode(),
        size: None if standing is None else _picture(size, _shown_of(standing), standing, _size_picture, redraw),
        closed: _picture(closed, _shown_of_fits(shown), shown, _closed_picture, redraw) if shown else None,
    }


def write_leaderboard(board: Board, root: Path, out: Path) -> tuple[Path, ...]:
    """Write every file that is not what it should be, and say which.

    Raises:
        StorageError: one cannot be written.
    """
    changed = {
        path: content for path, content in files_of(board, root, out, redraw=False).items() if _there(path) != content
    }
    for path, content in changed.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, content)
    return tuple(changed)


def stale(board: Board, root: Path, out: Path) -> list[Path]:
    """The files that are not what the records give."""
    return [path for path, content in files_of(board, root, out, redraw=True).items() if _there(path) != content]


def _picture(path: Path, shown: object, drawn: Drawn, draw: Callable[[Drawn], bytes], redraw: bool) -> bytes:
    """The picture, with a mark of all that it shows at its end."""
    mark = hashlib.sha256(f"{DRAWING_VERSION}\n{shown!r}".encode("utf-8", "surrogatepass")).hexdigest()
    known = _there(path) or b""
    found = _MARK.search(known)
    if not redraw and found is not None and found[1].decode() == mark:
        return known
    return draw(drawn) + f"<!-- drawn {mark} -->\n".encode()


def _shown_of(standing: Standing) -> object:
    measured = [
        (one.name, one.family, one.model.n_parameters, one.emergence, one.ceiling, one.over_twin, one.may_rank)
        for one in standing.measured
    ]
    estimated = [(one.name, one.bits, one.may_rank) for one in standing.entries if isinstance(one, EstimatedEntry)]
    return title(standing), measured, estimated


def _shown_of_fits(fits: list[StoredFit]) -> object:
    return [
        (item.record.key.problem, item.record.key.target, item.record.rows, item.record.errors, item.record.comparisons)
        for item in fits
    ]


def _size_picture(standing: Standing) -> bytes:
    from proxies.leaderboard_picture import size_picture  # here, because matplotlib takes a while

    return size_picture(standing)


def _closed_picture(fits: list[StoredFit]) -> bytes:
    from proxies.leaderboard_picture import closed_picture

    return closed_picture(fits)


def _there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _from(folder: Path, target: Path) -> str:
    """The way from a folder to a file or folder, with forward slashes."""
    return Path(os.path.relpath(target, folder)).as_posix()
