"""The files of the leaderboard: its text, its tables by task, its pictures; written, or compared with what is there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from bench.store import write_whole
from proxies import by_task, leaderboard
from proxies.board import Board
from proxies.leaderboard import BY_TASK, CLOSED_PICTURE, FOLDER, SIZE_PICTURE, pretended

DRAWING_VERSION = 1
"""Raised when the same board would give another picture than before."""

_MARK = re.compile(rb"<!-- board ([0-9a-f]{64}) -->\n\Z")


def files_of(board: Board, root: Path, out: Path, *, redraw: bool) -> dict[Path, bytes]:
    """The bytes of every file.

    Args:
        root: the results folder.
        out: where `leaderboard.md` lies.
        redraw: draw pictures whatever is there; otherwise one that says it is of this very board stays as it is, since
            drawing takes longer than everything else.
    """
    results, folder = _from(out.parent, root), root / FOLDER
    text = leaderboard.render(board, results=results)
    tables = by_task.render(board, leaderboard=_from(folder, out), results=_from(folder, root))
    files = {out: text.encode(), folder / BY_TASK: tables.encode()}
    mark = hashlib.sha256(f"{DRAWING_VERSION}\n{text}".encode()).hexdigest()
    if any(table.measured for table in board.tables):
        files[folder / SIZE_PICTURE] = _picture(folder / SIZE_PICTURE, mark, _size_picture, board, redraw)
    if pretended(board.fits):
        files[folder / CLOSED_PICTURE] = _picture(folder / CLOSED_PICTURE, mark, _closed_picture, board, redraw)
    return files


def write_leaderboard(board: Board, root: Path, out: Path) -> tuple[Path, ...]:
    """Write every file that is not what it should be, and say which files there are.

    Raises:
        StorageError: one cannot be written.
    """
    files = files_of(board, root, out, redraw=False)
    for path, content in files.items():
        if _there(path) != content:
            write_whole(path, content)
    return tuple(files)


def stale(board: Board, root: Path, out: Path) -> list[Path]:
    """The files that are not what the records give."""
    return [path for path, content in files_of(board, root, out, redraw=True).items() if _there(path) != content]


def _picture(path: Path, mark: str, draw: Callable[[Board], bytes], board: Board, redraw: bool) -> bytes:
    known = _there(path)
    found = _MARK.search(known)
    if not redraw and found is not None and found[1].decode() == mark:
        return known
    return draw(board) + f"<!-- board {mark} -->\n".encode()


def _size_picture(board: Board) -> bytes:
    from proxies.leaderboard_picture import size_picture  # here, because matplotlib takes a while

    return size_picture(board)


def _closed_picture(board: Board) -> bytes:
    from proxies.leaderboard_picture import closed_picture

    return closed_picture(board)


def _there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _from(folder: Path, target: Path) -> str:
    """The way from a folder to a file or folder, with forward slashes."""
    return Path(os.path.relpath(target, folder)).as_posix()
