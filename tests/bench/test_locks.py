"""Locks between processes: waited for, let go by the dead, never followed out of their folder."""

from __future__ import annotations

import errno
import fcntl
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import StorageError
from bench.locks import QUIET_SECONDS, Held, exclusive

ROOT = Path(__file__).parent.parent.parent

HOLDING = """
import sys, time
from pathlib import Path
from bench.locks import exclusive
with exclusive(Path(sys.argv[1]), seconds=0):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def held(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_sent_away_or_waits(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    process = held(path, 1.0)
    with pytest.raises(Held, match="another process is at work in .*run; let it finish, then try again"):
        with exclusive(path, seconds=0):
            pass
    began = time.monotonic()
    with exclusive(path, seconds=math.inf) as is_locked:
        assert process.communicate(timeout=10)[0] == "" and is_locked
        assert time.monotonic() - began < 10


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    process = held(tmp_path / "lock", 60)
    process.kill()
    process.communicate()
    with exclusive(tmp_path / "lock", seconds=0):
        pass


def test_who_waits_gives_up_after_a_time(tmp_path: Path) -> None:
    process = held(tmp_path / "lock", 60)
    began = time.monotonic()
    with pytest.raises(Held, match="and kept lock for 0 s"), exclusive(tmp_path / "lock", seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - began < 5
    process.kill()
    process.communicate()


def test_who_waits_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = held(tmp_path / "lock", QUIET_SECONDS + 1)
    with exclusive(tmp_path / "lock", seconds=math.inf):
        process.communicate()
    assert caplog.messages == [f"waiting for another process that is at work in {tmp_path}"]


def test_anybody_who_shares_the_folder_may_lock_it(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o666


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "kept")
    with pytest.raises(StorageError, match="cannot write .*lock: "), exclusive(tmp_path / "lock"):
        pass
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_the_work_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    found = []
    with exclusive(tmp_path / "lock") as is_locked:
        found.append(is_locked)
    assert found == [False] and (tmp_path / "lock").exists()


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive(tmp_path / "lock"):
        raise ValueError("inside")
    with exclusive(tmp_path / "lock", seconds=0):
        pass
