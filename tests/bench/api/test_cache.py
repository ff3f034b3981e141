"""What is kept and what is not, and waiting for others; damaged files and keys that differ are in tests/faults."""

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.api.cache import ReplyCache
from bench.api.redaction import Redactor
from bench.api.secret import Secret
from bench.completions import Reply
from bench.errors import StorageError
from tests.bench.api.questions import key_of, questions

BASE = key_of(questions(1)[0])
REPLY = Reply(
    text="Paris\n\x00\u202e", finish_reason="stop", n_prompt_tokens=3, n_completion_tokens=1, returned_model="m"
)


def test_answers_that_were_kept_earlier_stay_known() -> None:
    """The digests of two keys, from before the name of the limit was among their fields."""
    chat = key_of(questions(1, "chat")[0], temperature=None)
    assert BASE.digest() == "d8c772b65de6306f8f42cab7d983665b588125f08f998883e7cd1db373b7fe71"
    assert chat.digest() == "5df0a37fe18cb0979edc777e54141f6d58d603e68b070c18dab122b47eaab0aa"
    assert "token_limit_parameter" not in BASE.canonical()


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "deep" / "folder" / "replies.sqlite") as cache:
        assert cache.put(BASE, REPLY) == REPLY
        assert cache.put(BASE, Reply(text="London")) == REPLY
        assert cache.get(BASE) == REPLY
        assert len(cache) == 1


BEYOND: list[dict[str, Any]] = [
    {"text": "a" * 1_000_001}, {"finish_reason": "s" * 301}, {"returned_model": "m" * 301},
    {"returned_model": "m\n"}, {"finish_reason": "\x1b"}, {"n_prompt_tokens": -1}, {"n_completion_tokens": 10**10},
]  # fmt: skip


@pytest.mark.parametrize("beyond", BEYOND, ids=lambda change: next(iter(change)))
def test_a_row_beyond_what_a_server_may_say_is_ignored(tmp_path: Path, beyond: dict[str, Any]) -> None:
    path = tmp_path / "replies.sqlite"
    ReplyCache(path).close()
    content = json.dumps(asdict(REPLY) | beyond, sort_keys=True)
    created = "2026-01-01T00:00:00+00:00"
    row = (BASE.digest(), BASE.canonical(), content)
    checksum = hashlib.sha256(json.dumps((*row, created)).encode()).hexdigest()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", (*row, checksum, created))
        connection.commit()
    with ReplyCache(path) as cache:
        assert cache.get(BASE) is None
        assert cache.n_damaged == 1
        assert cache.put(BASE, REPLY) == cache.get(BASE) == REPLY


def test_what_is_kept_is_within_bounds(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        long = Reply(text="a" * 1_000_001)
        assert cache.put(BASE, long) == long
        assert cache.get(BASE) is None
        kept = cache.put(BASE, Reply(text="a", finish_reason="", returned_model="m\n" * 400))
        assert kept == cache.get(BASE) == Reply(text="a", returned_model=("m " * 150).strip())


class Interrupted(BaseException):
    pass


@pytest.fixture
def interrupted_soon() -> Iterator[Callable[[], None]]:
    """A signal comes 0.3 s after the call, and its handler raises."""

    def handler(*_: object) -> None:
        raise Interrupted

    usual = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.3)  # type: ignore[func-returns-value]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, usual)


@pytest.mark.parametrize("act", ["put", "open", "get"])
def test_waiting_for_another_process_can_be_interrupted(
    tmp_path: Path, act: str, interrupted_soon: Callable[[], None]
) -> None:
    path = tmp_path / "replies.sqlite"
    with ReplyCache(path) as cache:
        cache.put(BASE, Reply(text="answer"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:

        def block() -> None:
            if act == "put":
                other.execute("BEGIN IMMEDIATE")
            else:  # nobody else can read either
                other.execute("PRAGMA locking_mode=EXCLUSIVE")
                other.execute("BEGIN IMMEDIATE")

        with contextlib.ExitStack() as stack:
            if act == "open":
                block()
                interrupted_soon()
                began = time.monotonic()
                with pytest.raises(Interrupted):
                    ReplyCache(path)
            else:
                cache = stack.enter_context(ReplyCache(path))
                if act == "get":  # its first read comes after the other has taken the file for itself
                    cache._connection.close()
                    block()
                    cache._connection = sqlite3.connect(path, timeout=0.2, isolation_level=None)
                else:
                    block()
                interrupted_soon()
                began = time.monotonic()
                with pytest.raises(Interrupted):
                    cache.get(BASE) if act == "get" else cache.put(BASE, REPLY)
            assert time.monotonic() - began < 2


def test_a_file_that_is_busy_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "replies.sqlite"
    with (
        ReplyCache(path) as cache,
        contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        timer.start()
        assert cache.put(BASE, REPLY) == REPLY
        timer.join()
        monkeypatch.setattr("bench.api.cache.BUSY_SECONDS", 0.3)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="database is locked"):
            cache.put(key_of(questions(2)[1]), REPLY)
        other.execute("ROLLBACK")


def n_open(folder: Path) -> int:
    names = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if number.isdecimal() and os.path.lexists(f"/proc/self/fd/{number}")
    ]
    return sum(name.startswith(str(folder)) for name in names)


def test_a_cache_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "replies.sqlite.first").mkdir()
    with pytest.raises(StorageError, match="cannot write .*replies.sqlite.first: Is a directory"):
        ReplyCache(tmp_path / "replies.sqlite")
    (tmp_path / "text.sqlite").write_bytes(b"nothing " * 100)

    def broken(path: Path) -> Iterator[tuple[str, ...]]:
        raise sqlite3.OperationalError("no space")

    monkeypatch.setattr("bench.api.cache._readable_rows", broken)
    with pytest.raises(StorageError, match="no space"):
        ReplyCache(tmp_path / "text.sqlite")
    assert n_open(tmp_path) == 0


def test_a_closed_cache_is_not_opened_again(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        pass
    with pytest.raises(StorageError, match="is closed"):
        cache.put(BASE, REPLY)
    assert n_open(tmp_path) == 0


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_file_that_another_process_moved_aside_is_not_written_to(tmp_path: Path, n_before: int) -> None:
    path, aside = tmp_path / "replies.sqlite", tmp_path / "replies.sqlite.damaged-1"
    key = key_of(questions(1)[0], seed=5)
    with ReplyCache(path) as cache:
        for question in questions(n_before):
            cache.put(key_of(question), REPLY)
        for ending in ("", "-wal", "-shm"):
            if Path(f"{path}{ending}").exists():
                os.replace(f"{path}{ending}", f"{aside}{ending}")
        with ReplyCache(path) as other:
            assert cache.put(key, REPLY) == REPLY
            assert other.get(key) == REPLY
            assert other.put(BASE, Reply(text="theirs")) == Reply(text="theirs")
            assert cache.get(BASE) == Reply(text="theirs")
    with ReplyCache(path) as cache, ReplyCache(aside) as moved:
        assert (len(cache), len(moved)) == (2, n_before)


def test_secrets_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with ReplyCache(path, redact=Redactor([Secret("sk-canary")])) as cache:
        cache.put(BASE, Reply(text="my key is sk-canary!", returned_model="m-sk-canary"))
        assert cache.get(BASE) == Reply(text="my key is [redacted]!", returned_model="m-[redacted]")
    assert all(b"sk-canary" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder, not a file of answers"):
        ReplyCache(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use .*file/replies.sqlite: "):
        ReplyCache(tmp_path / "file" / "replies.sqlite")
    with pytest.raises(StorageError, match="cannot use /proc/nowhere/replies.sqlite: "):
        ReplyCache(Path("/proc/nowhere/replies.sqlite"))
