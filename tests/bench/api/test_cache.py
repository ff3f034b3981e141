"""Keys that never meet, and files that are not what they should be."""

import contextlib
import hashlib
import itertools
import json
import os
import pickle
import random
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
from bench.api.keys import ReplyKey
from bench.api.redaction import Redactor
from bench.api.secret import Secret
from bench.completions import Reply
from bench.errors import StorageError
from tests.bench.api.questions import key_of, questions

BASE = key_of(questions(1)[0])
REPLY = Reply(
    text="Paris\n\x00\u202e", finish_reason="stop", n_prompt_tokens=3, n_completion_tokens=1, returned_model="m"
)

CHANGES: list[dict[str, Any]] = [
    {"provider": "local"}, {"base_url": None}, {"base_url": "http://127.0.0.1:2/v1"}, {"base_url": "https://a.b/v1"},
    {"model": "m2"}, {"model": "M"}, {"model": "m "}, {"model": "a/b"}, {"model": "a__b"}, {"revision": "main"},
    {"revision": "v2"}, {"files_sha256": "f" * 64}, {"files_sha256": "e" * 64}, {"precision": "Q4_K_M"},
    {"precision": "Q8_0"}, {"precision": "float16"}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"mode": "chat"},
    {"prompt": ""}, {"prompt": "question 0 "}, {"prompt": "question 0\n"}, {"prompt": "Question 0"},
    {"prompt": "question\u00a00"}, {"prompt": "question 0\x00"}, {"prompt": "é"}, {"prompt": "e\u0301"},
    {"max_tokens": 4}, {"max_tokens": 6}, {"stop": ()}, {"stop": ("\n", "\n")}, {"stop": ("\n\n",)}, {"stop": ("\\n",)},
    {"stop": ("\n", ",")}, {"stop": (",", "\n")}, {"task": "animal"}, {"task_version": 2}, {"task_hash": "i" * 64},
    {"seed": 1}, {"seed": -1}, {"temperature": None}, {"token_limit_parameter": "max_completion_tokens"},
    {"temperature": 0.5}, {"temperature": 1.0}, {"top_p": 0.5}, {"top_p": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_answer_is_for_its_own_question_only(tmp_path: Path, change: dict[str, Any]) -> None:
    other = ReplyKey(**(BASE.model_dump() | change))
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put(BASE, REPLY)
        assert cache.get(other) is None
        assert cache.get(ReplyKey(**BASE.model_dump())) == REPLY


def test_every_field_of_a_key_is_changed_above_or_fixed() -> None:
    changed = {name for change in CHANGES for name in change}
    assert changed | {"key_version"} == set(ReplyKey.model_fields)


def test_answers_that_were_kept_earlier_stay_known() -> None:
    """The digests of two keys, from before the name of the limit was among their fields."""
    chat = key_of(questions(1, "chat")[0], temperature=None)
    assert BASE.digest() == "d8c772b65de6306f8f42cab7d983665b588125f08f998883e7cd1db373b7fe71"
    assert chat.digest() == "5df0a37fe18cb0979edc777e54141f6d58d603e68b070c18dab122b47eaab0aa"
    assert "token_limit_parameter" not in BASE.canonical()


def test_a_thousand_keys_have_no_false_hit_and_no_false_miss(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = ["", "a", "a ", "b", "ab", '"', "\\", "\n", "null", "é", "日本", "a\x00b", "0"]
    names = [text for text in texts if text] + ["x" * 300]
    choices: dict[str, Any] = {
        "provider": ["local", "api"], "base_url": [None, *names], "model": names, "revision": [None, *names],
        "files_sha256": [None, *names], "precision": [None, *names], "dtype": [None, "float32", "bfloat16"],
        "mode": ["completion", "chat"], "prompt": texts, "max_tokens": [1, 2, 10, 64], "task": names,
        "stop": [(), ("",), ("a",), ("a", "b"), ("ab",), ("b", "a"), ('a","b',)], "task_version": [0, 1, 2],
        "task_hash": names, "seed": [0, 1, -1, 2**62], "temperature": [0, None],
        "token_limit_parameter": [None, "max_completion_tokens"],
    }  # fmt: skip
    drawn = {ReplyKey(**{name: rng.choice(values) for name, values in choices.items()}) for _ in range(1000)}
    keys = sorted(drawn, key=ReplyKey.canonical)
    assert len({key.digest() for key in keys}) == len(keys) > 990
    kept = {key: Reply(text=str(number)) for number, key in enumerate(keys) if number % 2}
    path = tmp_path / "replies.sqlite"
    with ReplyCache(path) as cache:
        for key, reply in kept.items():
            cache.put(key, reply)
    with ReplyCache(path) as cache:
        assert all(cache.get(key) == kept.get(key) for key in keys)
        assert (len(cache), cache.n_damaged) == (len(kept), 0)


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
    filled(path, 1)
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
    filled(path, 1)
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
    with pytest.raises(StorageError, match="cannot use .*replies.sqlite: Is a directory"):
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


def filled(path: Path, n: int = 40) -> dict[ReplyKey, Reply]:
    replies = {key_of(question): Reply(text=f"answer {number} " * 20) for number, question in enumerate(questions(n))}
    with ReplyCache(path) as cache:
        for key, reply in replies.items():
            cache.put(key, reply)
    return replies


def test_no_flipped_bit_makes_a_wrong_answer_or_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    replies = filled(path)
    sound = path.read_bytes()
    rng = random.Random(1)
    n_lost = n_counted = 0
    for number in range(100):
        broken = bytearray(sound)
        for _ in range(rng.choice((1, 3, 30))):
            broken[rng.randrange(100 if number % 4 == 0 else len(sound))] ^= 1 << rng.randrange(8)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "replies.sqlite").write_bytes(broken)
        remarks: list[str] = []
        with ReplyCache(folder / "replies.sqlite", on_damage=remarks.append) as cache:
            for key, reply in replies.items():
                found = cache.get(key)
                assert found in (None, reply)
                if found is None:
                    n_lost += 1
                    cache.put(key, reply)
                    assert cache.get(key) == reply
            n_counted += cache.n_damaged
        assert all("was damaged (" in remark and "answers in it could be kept" in remark for remark in remarks)
    assert n_lost > 0
    assert n_counted > 0


@pytest.mark.parametrize("left", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_used_as_far_as_it_goes(tmp_path: Path, left: float) -> None:
    path = tmp_path / "replies.sqlite"
    replies = filled(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with ReplyCache(path) as cache:
        assert all(cache.get(key) in (None, reply) for key, reply in replies.items())
        for key, reply in replies.items():
            cache.put(key, reply)
    with ReplyCache(path) as cache:
        assert all(cache.get(key) == reply for key, reply in replies.items())


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["text", "pickle", "zeros", "old", "trigger", "other table", "newer", "json"])
def test_a_file_that_is_no_cache_is_moved_aside(tmp_path: Path, kind: str) -> None:
    path, trap = tmp_path / "replies.sqlite", tmp_path / "trap"
    replies = filled(path, 3)
    if kind in ("old", "trigger", "other table", "newer"):
        connection = sqlite3.connect(path)
        connection.execute(
            {
                "old": "ALTER TABLE replies RENAME COLUMN sha256 TO checksum",
                "trigger": "CREATE TRIGGER t AFTER INSERT ON replies BEGIN DELETE FROM replies; END",
                "other table": "CREATE TABLE more (x)",
                "newer": "PRAGMA user_version = 99",
            }[kind]
        )
        connection.commit()
        connection.close()
    else:
        contents = {
            "text": b"hello " * 1000,
            "pickle": pickle.dumps(Planted(trap)),
            "zeros": bytes(8192),
            "json": b'{"replies": []}',
        }
        path.write_bytes(contents[kind])
    content = path.read_bytes()
    remarks: list[str] = []
    with ReplyCache(path, on_damage=remarks.append) as cache:
        n_kept = 3 if kind in ("trigger", "other table", "newer") else 0
        assert len(cache) == n_kept
        assert [cache.get(key) for key in replies] == (list(replies.values()) if n_kept else [None] * 3)
        for key, reply in replies.items():
            cache.put(key, reply)
        assert [cache.get(key) for key in replies] == list(replies.values())
    assert len(remarks) == 1
    assert f"it is now replies.sqlite.damaged-1, and {n_kept} answers in it could be kept" in remarks[0]
    assert not trap.exists()
    if kind in ("text", "pickle", "json"):
        assert (tmp_path / "replies.sqlite.damaged-1").read_bytes() == content


def test_each_damaged_file_gets_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    for _ in range(3):
        path.write_bytes(b"nothing " * 100)
        ReplyCache(path).close()
    assert sorted(file.name for file in tmp_path.glob("*damaged*")) == [
        f"replies.sqlite.damaged-{number}" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"reply": pickle.dumps({"text": "x"})},
        {"reply": '{"text": "wrong"}'},
        {"question": "{}"},
        {"sha256": "0" * 64},
        {"reply": 7},
        {"created": "yesterday"},
    ],
)
def test_a_row_that_was_changed_is_counted_and_asked_again(tmp_path: Path, values: dict[str, object]) -> None:
    path = tmp_path / "replies.sqlite"
    filled(path, 2)
    ((column, value),) = values.items()
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE replies SET {column} = ? WHERE key = ?", (value, BASE.digest()))
    connection.commit()
    connection.close()
    with ReplyCache(path) as cache:
        assert [cache.get(BASE) for _ in range(3)] == [None] * 3
        assert cache.n_damaged == 1
        cache.put(BASE, REPLY)
        assert cache.get(BASE) == REPLY


def test_a_row_under_the_key_of_another_question_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    first, second = itertools.islice(filled(path, 2), 2)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM replies WHERE key = ?", (second.digest(),))
    connection.execute("UPDATE replies SET key = ? WHERE key = ?", (second.digest(), first.digest()))
    connection.commit()
    connection.close()
    with ReplyCache(path) as cache:
        assert cache.get(second) is None
        assert cache.n_damaged == 1


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder, not a file of answers"):
        ReplyCache(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use .*file/replies.sqlite: "):
        ReplyCache(tmp_path / "file" / "replies.sqlite")
    with pytest.raises(StorageError, match="cannot use /proc/nowhere/replies.sqlite: "):
        ReplyCache(Path("/proc/nowhere/replies.sqlite"))


def test_damage_while_in_use_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    filled(path, 200)
    key = key_of(questions(1)[0], seed=5)
    with ReplyCache(path) as cache:
        content = bytearray(path.read_bytes())
        content[100:] = os.urandom(len(content) - 100)
        path.write_bytes(content)
        assert cache.get(BASE) in (None, Reply(text="answer 0 " * 20))
        cache.put(key, REPLY)
        assert cache.get(key) == REPLY
