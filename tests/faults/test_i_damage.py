"""Caches that are not what they should be: replies, the index of records, measured conditions.

Whatever was done to the file, no answer but the right one is used, nothing in it is run, and what is missing is told of
or counted, and asked, read or measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.cache import ReplyCache
from bench.api.keys import ReplyKey
from bench.completions import Reply
from bench.errors import StorageError
from bench.query import query
from bench.records import Measurement
from bench.store import Store
from proxies.digests import INDEX, StoredDigest, digests_of, read_digests
from tests.bench.api.questions import key_of, questions
from tests.bench.querying import PATIENT, request, right_answer, service
from tests.bench.scripted_server import ScriptedServer
from tests.bench.told import Told
from tests.faults.ledger import Cases
from tests.record_factory import make_measurement, make_record, unit_key

N = 20
Damage = Callable[[bytes, random.Random], bytes]


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trap),)


def _flipped(content: bytes, rng: random.Random, n_bits: int, end: int | None = None) -> bytes:
    broken = bytearray(content)
    for _ in range(n_bits):
        broken[rng.randrange(min(end or len(content), len(content)))] ^= 1 << rng.randrange(8)
    return bytes(broken)


def _digit_changed(content: bytes, rng: random.Random) -> bytes:
    """One digit of a number with a fraction is another one: what no parser can notice."""
    places = [
        index
        for index in range(1, len(content) - 1)
        if content[index - 1 : index] == b"." and content[index : index + 1].isdigit()
    ]
    if not places:
        return _flipped(content, rng, 1)
    place = rng.choice(places)
    other = rng.choice([digit for digit in b"0123456789" if digit != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


def _overwritten(content: bytes, rng: random.Random, what: Callable[[int], bytes]) -> bytes:
    start = rng.randrange(len(content))
    length = min(rng.choice((16, 512, 4096)), len(content) - start)
    return content[:start] + what(length) + content[start + length :]


def _pages_swapped(content: bytes, rng: random.Random) -> bytes:
    pages = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    one, other = rng.randrange(len(pages)), rng.randrange(len(pages))
    pages[one], pages[other] = pages[other], pages[one]
    return b"".join(pages)


DAMAGE: dict[str, Damage] = {
    "a bit": lambda content, rng: _flipped(content, rng, 1),
    "three bits": lambda content, rng: _flipped(content, rng, 3),
    "thirty bits": lambda content, rng: _flipped(content, rng, 30),
    "a bit of the head": lambda content, rng: _flipped(content, rng, 1, end=100),
    "a digit": _digit_changed,
    "cut": lambda content, rng: content[: rng.randrange(1, len(content))],
    "zeros": lambda content, rng: _overwritten(content, rng, bytes),
    "junk": lambda content, rng: _overwritten(content, rng, rng.randbytes),
    "pages swapped": _pages_swapped,
    "more at the end": lambda content, rng: content + rng.randbytes(rng.choice((1, 512, 4096))),
}


def damaged(name: str, content: bytes, rng: random.Random) -> bytes:
    """The content with this damage; where that changes nothing, as in zeros that were there already, with one bit."""
    for _ in range(20):
        if (found := DAMAGE[name](content, rng)) != content:
            return found
    return _flipped(content, rng, 1)


N_GONE = {"a digit": 1, "more at the end": 0}
"""Rows of replies that are gone after damage that cannot hit more or less."""


# what lies in place of the file -> its content
OTHERS: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"nothing " * 1000,
    "json": lambda _: b'{"replies": []}',
    "a list": lambda _: b"[]",
    "deep": lambda _: b"[" * 100_000,
    "zeros": lambda _: bytes(8192),
    "pickle": lambda trap: pickle.dumps(Planted(trap)),
    "another database": lambda _: b"SQLite format 3\x00" + b"\x7f" * 4000,
}
SCHEMAS = {
    "an old column": "ALTER TABLE replies RENAME COLUMN sha256 TO checksum",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON replies BEGIN DELETE FROM replies; END",
    "another table": "CREATE TABLE more (x)",
    "a later version": "PRAGMA user_version = 99",
    "an earlier version": "PRAGMA user_version = 0",
}
TRAP = Path("trap")
"""In the folder that a test runs in."""

ROWS: dict[str, tuple[str, object]] = {
    "another text": ("reply", '{"text": "wrong"}'),
    "a pickle for a reply": ("reply", pickle.dumps(Planted(TRAP))),
    "a pickle for a question": ("question", pickle.dumps(Planted(TRAP))),
    "a number for a reply": ("reply", 7),
    "another question": ("question", "{}"),
    "another checksum": ("sha256", "0" * 64),
    "another time": ("created", "yesterday"),
}


def filled(path: Path) -> dict[ReplyKey, Reply]:
    """A cache of several pages."""
    replies = {key_of(one): Reply(text=f"answer {number} 0.{number}5 " * 30) for number, one in enumerate(questions(N))}
    with ReplyCache(path) as cache:
        for key, reply in replies.items():
            cache.put(key, reply)
    return replies


def n_told(remarks: Iterable[str]) -> int:
    """How many of N answers are gone, by what was said of them."""
    text = "\n".join(remarks)
    n_kept = map(int, re.findall(r"was damaged \(.*, and (\d+) answers in it could be kept$", text, re.MULTILINE))
    n_unused = map(int, re.findall(r"^(\d+) answers in .* are damaged and were not used", text, re.MULTILINE))
    return sum(N - kept for kept in n_kept) + sum(n_unused)


def check_replies(path: Path, replies: dict[ReplyKey, Reply], *, is_told: bool = True) -> int:
    """Assert that a cache gives right answers or none and can be filled again; how many were gone."""
    remarks: list[str] = []
    with ReplyCache(path, on_damage=remarks.append) as cache:
        n_gone = 0
        for key, reply in replies.items():
            found = cache.get(key)
            assert found in (None, reply), "a wrong answer"
            n_gone += found is None
            assert cache.put(key, reply) == reply
        assert not is_told or n_gone == n_told(remarks) + cache.n_damaged, "gone without a word, or told and not gone"
        assert all("was damaged (" in remark and "answers in it could be kept" in remark for remark in remarks)
    with ReplyCache(path) as cache:
        assert [cache.get(key) for key in replies] == list(replies.values())
        assert (len(cache), cache.n_damaged) == (len(replies), 0)
    return n_gone


@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_file_of_replies_gives_no_wrong_answer(cases: Cases, tmp_path: Path, part: int) -> None:
    replies = filled(tmp_path / "sound.sqlite")
    sound = (tmp_path / "sound.sqlite").read_bytes()
    n_gone = 0
    for number in range(cases.n(quick=10, full=130)):
        name = list(DAMAGE)[number % len(DAMAGE)]
        with cases.case(f"{name}, {number}"):
            path = tmp_path / str(number) / "replies.sqlite"
            path.parent.mkdir()
            path.write_bytes(damaged(name, sound, cases.rng))
            found = check_replies(path, replies)
            assert found == N_GONE.get(name, found)
            n_gone += found
            shutil.rmtree(path.parent)
    assert 0 < n_gone < (number + 1) * N, "nothing was damaged, or nothing could be kept"


def test_a_damaged_log_of_writes_gives_no_wrong_answer(cases: Cases, tmp_path: Path) -> None:
    """SQLite keeps the last writes in a file of its own beside the first one, until it is closed."""
    path = tmp_path / "sound.sqlite"
    with ReplyCache(path) as cache:
        replies = {key_of(one): Reply(text=f"answer {number} " * 30) for number, one in enumerate(questions(N))}
        for key, reply in replies.items():
            cache.put(key, reply)
        sound, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert len(log) > 10_000
    n_gone = 0
    for number in range(cases.n(quick=3, full=30)):
        name = list(DAMAGE)[number % len(DAMAGE)]
        with cases.case(f"{name}, {number}"):
            copy = tmp_path / str(number) / "replies.sqlite"
            copy.parent.mkdir()
            copy.write_bytes(sound)
            Path(f"{copy}-wal").write_bytes(damaged(name, log, cases.rng))
            n_gone += check_replies(copy, replies, is_told=False)  # SQLite drops the end of a log that is not whole
    assert 0 < n_gone < (number + 1) * N, "nothing was damaged, or nothing could be kept"


def test_a_file_that_is_no_cache_of_replies_is_moved_aside_and_nothing_in_it_is_run(
    cases: Cases, tmp_path: Path
) -> None:
    for name in cases.chosen((*OTHERS, *SCHEMAS), quick=4):
        with cases.case(name):
            path, trap = tmp_path / name / "replies.sqlite", tmp_path / f"{name}.trap"
            replies = filled(path)
            if name in SCHEMAS:
                with contextlib.closing(sqlite3.connect(path)) as connection:
                    connection.execute(SCHEMAS[name])
                    connection.commit()
            else:
                path.write_bytes(OTHERS[name](trap))
            content = path.read_bytes()
            n_gone = check_replies(path, replies, is_told=name != "empty")  # an empty file is what a kill leaves
            assert n_gone == (0 if name in SCHEMAS and name != "an old column" else N)
            assert not trap.exists()
            if name != "empty":
                aside = path.with_name("replies.sqlite.damaged-1")
                assert aside.exists() and (name in SCHEMAS or name == "zeros" or aside.read_bytes() == content)
    with cases.case("a head that forbids writing"):
        path = tmp_path / "forbidden.sqlite"
        replies = filled(path)
        content = path.read_bytes()
        path.write_bytes(content[:18] + b"\x06" + content[19:])
        check_replies(path, replies)
        assert path.with_name("forbidden.sqlite.damaged-1").exists()
    with cases.case("a folder"):
        (tmp_path / "folder.sqlite").mkdir()
        with pytest.raises(StorageError, match="is a folder, not a file of answers"):
            ReplyCache(tmp_path / "folder.sqlite")
    with cases.case("moved aside three times"):
        path = tmp_path / "thrice" / "replies.sqlite"
        for _ in range(3):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"nothing " * 100)
            ReplyCache(path).close()
        found = sorted(file.name for file in path.parent.glob("*damaged*"))
        assert found == [f"replies.sqlite.damaged-{number}" for number in (1, 2, 3)]


def test_a_row_that_was_changed_is_counted_and_asked_again(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in cases.chosen(tuple(ROWS), quick=3):
        with cases.case(name):
            column, value = ROWS[name]
            path = tmp_path / f"{name}.sqlite"
            replies = filled(path)
            first, second, *_ = replies
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(f"UPDATE replies SET {column} = ? WHERE key = ?", (value, first.digest()))
                connection.commit()
            with ReplyCache(path) as cache:
                assert [cache.get(first) for _ in range(3)] == [None] * 3
                assert cache.get(second) == replies[second]
                assert cache.n_damaged == 1
                assert cache.put(first, replies[first]) == cache.get(first) == replies[first]
            assert not TRAP.exists(), "its code was run"
    with cases.case("the answer to another question"):
        path = tmp_path / "swapped.sqlite"
        first, second, *_ = filled(path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM replies WHERE key = ?", (second.digest(),))
            connection.execute("UPDATE replies SET key = ? WHERE key = ?", (second.digest(), first.digest()))
            connection.commit()
        with ReplyCache(path) as cache:
            assert cache.get(first) is None and cache.get(second) is None
            assert cache.n_damaged == 1
    with cases.case("damage while in use"):
        path = tmp_path / "in use.sqlite"
        replies = filled(path)
        key = key_of(questions(1)[0], seed=5)
        with ReplyCache(path) as cache:
            content = path.read_bytes()
            path.write_bytes(content[:100] + cases.rng.randbytes(len(content) - 100))
            assert all(cache.get(known) in (None, reply) for known, reply in replies.items())
            cache.put(key, Reply(text="new"))
            assert cache.get(key) == Reply(text="new")


def gone_from(sound: Path, broken: Path) -> list[str]:
    """The prompts that one cache has answers to and the other, which is changed by opening it, has not."""
    with contextlib.closing(sqlite3.connect(sound)) as connection:
        keys = [ReplyKey.model_validate_json(text) for (text,) in connection.execute("SELECT question FROM replies")]
    with ReplyCache(broken) as cache:
        return sorted(key.prompt for key in keys if cache.get(key) is None)


def test_a_query_goes_on_with_damaged_files_and_asks_only_what_is_gone(cases: Cases, tmp_path: Path) -> None:
    """Replies, record and samples of a finished query; the same query again ends as it did."""
    with ScriptedServer(answer=lambda prompt: right_answer("antonym", prompt)) as server:
        asked = request(tmp_path / "sound", shots=(2,), n_questions=N, service=service(server, limits=PATIENT))
        (sound,) = query(asked, Told())
        for number in range(cases.n(quick=3, full=24)):
            name = cases.rng.choice(sorted(DAMAGE))
            what = ("replies", "samples", "all")[number % 3]
            with cases.case(f"{name} of {what}, {number}"):
                out = tmp_path / str(number)
                shutil.copytree(asked.out, out)
                record = out / sound.path.relative_to(asked.out)
                hurt = {
                    "replies": [out / ".replies" / "replies.sqlite"],
                    "samples": [record.with_suffix(".samples.jsonl")],
                }
                if what == "replies":
                    record.unlink()  # else nothing is asked
                for path in hurt.get(what, [one for group in hurt.values() for one in group]):
                    path.write_bytes(damaged(name, path.read_bytes(), cases.rng))
                copy = tmp_path / f"{number}-replies"
                shutil.copytree(out / ".replies", copy)
                gone = gone_from(asked.out / ".replies" / "replies.sqlite", copy / "replies.sqlite")
                server.received.clear()
                told = Told()
                (again,) = query(replace(asked, out=out), told)
                assert again.record.cells == sound.record.cells
                assert again.record.samples_sha256 == sound.record.samples_sha256
                assert sorted(one.prompt for one in server.received) == gone
                assert len(gone) == n_told(told.stages)
                assert what == "samples" or len(gone) == N_GONE.get(name, len(gone))
                assert what != "samples" or not gone


class Reading(Told):
    """Progress that counts the records that were read."""

    @property
    def n_read(self) -> int:
        return len(self.blocks)


def digests(root: Path, reading: Reading | None = None) -> tuple[StoredDigest, ...]:
    found, rejected = read_digests(Store(root), reading or Reading())
    assert rejected == ()
    return found


@pytest.fixture
def records(tmp_path: Path) -> Path:
    root = tmp_path / "records"
    for seed in range(2):
        for task in ("country", "animal", "colour"):
            Store(root).write_record(make_record(task=task, seed=seed))
    return root


def test_a_damaged_index_of_records_changes_no_number(cases: Cases, records: Path) -> None:
    expected = digests_of(Store(records).records()[0])
    assert digests(records) == expected
    sound = (records / INDEX).read_bytes()
    n_told = 0
    for number in range(cases.n(quick=10, full=150)):
        name = list(DAMAGE)[number % len(DAMAGE)]
        with cases.case(f"{name}, {number}"):
            (records / INDEX).write_bytes(damaged(name, sound, cases.rng))
            reading = Reading()
            assert digests(records, reading) == expected
            assert reading.n_read == 0 or reading.stages, "read again without a word"
            n_told += bool(reading.stages)
            again = Reading()
            assert digests(records, again) == expected
            assert again.n_read == 0
    assert n_told > 0, "nothing was damaged"


def test_an_index_that_is_lost_or_another_file_is_made_anew_from_the_records(
    cases: Cases, records: Path, tmp_path: Path
) -> None:
    expected = digests_of(Store(records).records()[0])
    digests(records)
    sound, trap = (records / INDEX).read_bytes(), tmp_path / "trap"
    others: dict[str, bytes | str | None] = {name: make(trap) for name, make in OTHERS.items()}
    others |= {
        "lost": None,
        "of an earlier version": "CREATE TABLE digests (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT)",
        "a view": "CREATE VIEW digests AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT x AS path, x AS stamp, x AS digest, x AS sha256 FROM n",
    }
    for name in cases.chosen(tuple(others), quick=5):
        with cases.case(name):
            other = others[name]
            (records / INDEX).unlink()
            if isinstance(other, bytes):
                (records / INDEX).write_bytes(other)
            elif other is not None:
                with contextlib.closing(sqlite3.connect(records / INDEX)) as connection:
                    connection.execute(other)
                    connection.commit()
            reading = Reading()
            assert digests(records, reading) == expected
            assert reading.n_read == len(expected)
            assert bool(reading.stages) == (name not in ("lost", "empty"))
            assert digests(records, again := Reading()) == expected and again.n_read == 0
            assert not trap.exists()
    with cases.case("of another folder"):
        make = tmp_path / "other"
        Store(make).write_record(make_record(task="country", level=9.0))
        digests(make)
        shutil.copyfile(make / INDEX, records / INDEX)
        assert digests(records) == expected
    with cases.case("a folder"):
        (records / INDEX).unlink()
        (records / INDEX).mkdir()
        assert digests(records) == expected
        (records / INDEX).rmdir()
    with cases.case("a digest of other numbers"):
        (records / INDEX).write_bytes(sound)
        with contextlib.closing(sqlite3.connect(records / INDEX)) as connection:
            connection.execute(
                """UPDATE digests SET digest = replace(digest, '"n_survivors":40', '"n_survivors":41')"""
            )
            connection.commit()
        assert digests(records, reading := Reading()) == expected
        assert any(f"{len(expected)} of {len(expected)} digests" in stage for stage in reading.stages)


def test_a_damaged_condition_is_counted_and_counts_as_not_measured(cases: Cases, tmp_path: Path) -> None:
    measurement = make_measurement(np.random.default_rng(cases.rng.randrange(2**32)), unit_key())
    Store(tmp_path).write_unit(measurement)
    (path,) = (tmp_path / ".units").iterdir()
    sound = path.read_bytes()
    for number in range(cases.n(quick=20, full=150)):
        name = list(DAMAGE)[number % len(DAMAGE)]
        with cases.case(f"{name}, {number}"):
            store, content = Store(tmp_path), damaged(name, sound, cases.rng)
            path.write_bytes(content)
            found = store.unit(unit_key())
            assert found == (measurement if content == sound else None) or (
                found == measurement and content == sound.splitlines()[0]
            )
            assert store.n_damaged_units == (found is None)


def test_what_is_no_measured_condition_counts_as_none(cases: Cases, tmp_path: Path) -> None:
    measurement = make_measurement(np.random.default_rng(0), unit_key())
    Store(tmp_path).write_unit(measurement)
    (path,) = (tmp_path / ".units").iterdir()
    sound, trap = path.read_bytes(), tmp_path / "trap"
    line = sound.splitlines()[0]

    def sealed(content: dict[str, Any]) -> bytes:
        text = json.dumps(content).encode()
        return text + f"\n{hashlib.sha256(text).hexdigest()}\n".encode()

    content = json.loads(line)
    others = {name: make(trap) for name, make in OTHERS.items()} | {
        "an old schema": sealed({name: value for name, value in content.items() if name != "n_prefixes"}),
        "a later schema": sealed(content | {"more": 1}),
        "not a number": sealed(content | {"seconds": float("nan")}),
    }
    for name in cases.chosen(tuple(others), quick=6):
        with cases.case(name):
            store = Store(tmp_path)
            path.write_bytes(others[name])
            assert store.unit(unit_key()) is None
            assert store.n_damaged_units == 1
            assert not trap.exists()
    with cases.case("another condition"):
        path.write_bytes(sealed(content | {"key": content["key"] | {"seed": 7}}))
        assert Store(tmp_path).unit(unit_key()) is None
    with cases.case("of before there were checksums"):
        path.write_bytes(line)
        assert Store(tmp_path).unit(unit_key()) == measurement
    with cases.case("a folder"):
        path.unlink()
        path.mkdir()
        assert (store := Store(tmp_path)).unit(unit_key()) is None and store.n_damaged_units == 1


def test_a_run_on_damaged_conditions_measures_them_again(cases: Cases, tmp_path: Path) -> None:
    from bench.run import run as measure  # here, as all the other tests do without torch
    from tests.bench.test_run import request as run_request
    from tests.bench.tiny_models import save_list_model

    model = save_list_model(tmp_path / "model" / "tiny")
    asked = run_request(model, tmp_path / "sound", n_names=4, n_shots=2)
    (sound,) = measure(asked, Told())
    units = sorted(path.name for path in (asked.out / ".units").iterdir())
    for number in range(cases.n(quick=1, full=6)):
        name = "a digit" if number % 2 == 0 else cases.rng.choice(sorted(DAMAGE))
        with cases.case(f"{name}, {number}"):
            out = tmp_path / str(number)
            shutil.copytree(asked.out / ".units", out / ".units")
            path = out / ".units" / cases.rng.choice(units)
            path.write_bytes(damaged(name, path.read_bytes(), cases.rng))
            told = Told()
            (again,) = measure(replace(asked, out=out), told)
            assert {name: _numbers(one) for name, one in again.record.measurements.items()} == {
                name: _numbers(one) for name, one in sound.record.measurements.items()
            }
            assert again.record.summary == sound.record.summary
            assert any("damaged, not used and measured again: 1" in stage for stage in told.stages)


def _numbers(measurement: Measurement) -> dict[str, Any]:
    return measurement.model_dump(exclude={"seconds"})
