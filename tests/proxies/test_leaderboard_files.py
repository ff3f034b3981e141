"""The files of the leaderboard: written when something changed, found stale when they are not what the records give."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import Store
from proxies.board import Board, read_board
from proxies.leaderboard_files import stale, write_leaderboard
from tasks import RANKED_TASKS
from tests.proxies.test_digests import Counted
from tests.proxies.test_fit_report import record as make_fit
from tests.proxies.test_fit_report import row as make_row
from tests.record_factory import make_record

SVG = ("emergence.svg", "estimated.svg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for task in RANKED_TASKS:
        Store(root).write_record(make_record(task=task))
    Store(root).write_fit(make_fit())
    return root


def board(root: Path) -> Board:
    return read_board(Store(root), Counted())


def names(paths: object) -> list[str]:
    assert isinstance(paths, (list, tuple))
    return [path.name for path in paths]


def test_files_are_written_once(root: Path) -> None:
    out = root.parent / "leaderboard.md"
    assert names(write_leaderboard(board(root), root, out)) == ["leaderboard.md", "by-task.md", *SVG]
    assert write_leaderboard(board(root), root, out) == () and stale(board(root), root, out) == []


def test_a_number_that_only_a_picture_shows_changes_the_picture(root: Path) -> None:
    out = root.parent / "leaderboard.md"
    write_leaderboard(board(root), root, out)
    Store(root).write_fit(make_fit(rows=(make_row(predictions={"performance": 4.75, "the mean": None}),)))
    assert names(stale(board(root), root, out)) == ["estimated.svg"]
    assert names(write_leaderboard(board(root), root, out)) == ["estimated.svg"]
    assert stale(board(root), root, out) == []


@pytest.mark.parametrize("name", SVG)
def test_a_picture_that_somebody_changed_is_found(root: Path, name: str) -> None:
    out = root.parent / "leaderboard.md"
    write_leaderboard(board(root), root, out)
    path = root / "leaderboard" / name
    path.write_bytes(path.read_bytes().replace(b"bits", b"nats"))
    assert names(stale(board(root), root, out)) == [name]


def test_a_picture_of_nothing_goes(root: Path) -> None:
    out = root.parent / "leaderboard.md"
    write_leaderboard(board(root), root, out)
    shutil.rmtree(root / "fits")
    assert names(stale(board(root), root, out)) == ["leaderboard.md", "estimated.svg"]
    write_leaderboard(board(root), root, out)
    assert not (root / "leaderboard" / "estimated.svg").exists() and stale(board(root), root, out) == []


def test_the_files_in_the_results_folder_do_not_depend_on_where_anything_lies(root: Path, tmp_path: Path) -> None:
    write_leaderboard(board(root), root, root.parent / "leaderboard.md")
    before = {path.name: path.read_bytes() for path in (root / "leaderboard").iterdir()}
    write_leaderboard(board(root), root, tmp_path / "else" / "where.md")
    assert "](../results/emergence/" in (tmp_path / "else" / "where.md").read_text()
    shutil.copytree(root, tmp_path / "other" / "place")
    moved = tmp_path / "other" / "place"
    shutil.rmtree(moved / "leaderboard")
    write_leaderboard(board(moved), moved, tmp_path / "other" / "leaderboard.md")
    for folder in (root, moved):
        assert {path.name: path.read_bytes() for path in (folder / "leaderboard").iterdir()} == before


def test_another_process_with_other_hashes_writes_the_same_bytes(root: Path) -> None:
    out = root.parent / "leaderboard.md"
    write_leaderboard(board(root), root, out)
    code = (
        "import sys; from pathlib import Path; from tests.proxies.test_leaderboard_files import board, stale; "
        "root = Path(sys.argv[1]); assert stale(board(root), root, root.parent / 'leaderboard.md') == []; "
        "from proxies.leaderboard_files import write_leaderboard; "
        "assert write_leaderboard(board(root), root, root.parent / 'leaderboard.md') == ()"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(root)], check=True, env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parent.parent.parent,
        )  # fmt: skip
