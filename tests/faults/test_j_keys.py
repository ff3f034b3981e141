"""Keys that differ in one field: an answer is for its own question alone, and found again by an equal key."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.cache import ReplyCache
from bench.api.keys import ReplyKey
from bench.completions import Reply
from bench.performance import PerformanceKey, Sample, as_lines, sha256
from bench.query import query
from bench.records import RecordKey, Row, UnitKey
from bench.store import Store
from bench.task_names import find_tasks
from tests.bench.api.questions import key_of, questions
from tests.bench.querying import PATIENT, request, service
from tests.bench.scripted_server import ScriptedServer
from tests.bench.told import Told
from tests.faults.ledger import Cases, Lost
from tests.performance_factory import make_performance
from tests.record_factory import make_measurement, make_record, unit_key

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
    {"prompt": "\ud800"}, {"max_tokens": 4}, {"max_tokens": 6}, {"stop": ()}, {"stop": ("\n", "\n")},
    {"stop": ("\n\n",)}, {"stop": ("\\n",)}, {"stop": ("\n", ",")}, {"stop": (",", "\n")}, {"task": "animal"},
    {"task_version": 2}, {"task_hash": "i" * 64}, {"seed": 1}, {"seed": -1}, {"temperature": None},
    {"token_limit_parameter": "max_completion_tokens"}, {"temperature": 0.5}, {"temperature": 1.0}, {"top_p": 0.5},
    {"top_p": 1.0},
]  # fmt: skip

TEXTS = [
    "",
    "a",
    "a ",
    " a",
    "b",
    "ab",
    '"',
    "\\",
    "\n",
    "\\n",
    "null",
    "é",
    "e\u0301",
    "日本",
    "a\x00b",
    "0",
    "\ud800",
]
NAMES = [text for text in TEXTS if text and text.isprintable()] + ["a\x00b", "\n", "x" * 300]
VALUES: dict[str, list[Any]] = {
    "provider": ["local", "api"], "base_url": [None, *NAMES], "model": NAMES, "revision": [None, *NAMES],
    "files_sha256": [None, *NAMES], "precision": [None, *NAMES], "dtype": [None, "float32", "bfloat16"],
    "mode": ["completion", "chat"], "prompt": TEXTS, "max_tokens": [1, 2, 10, 64], "task": NAMES,
    "stop": [(), ("",), ("a",), ("a", "b"), ("ab",), ("b", "a"), ('a","b',)], "task_version": [0, 1, 2],
    "task_hash": NAMES, "seed": [0, 1, -1, 2**62], "temperature": [0, None, 0.5, 1.0, 0.1, 0.1 + 2**-53],
    "top_p": [None, 0.5, 1.0], "token_limit_parameter": [None, "max_completion_tokens"],
}  # fmt: skip


def test_an_answer_is_for_its_own_question_only(cases: Cases, tmp_path: Path) -> None:
    with cases.case("every field is changed"):
        changed = {name for change in CHANGES for name in change}
        assert changed == set(VALUES) == set(ReplyKey.model_fields) - {"key_version"}
    indices = cases.chosen([str(index) for index in range(len(CHANGES))], quick=20)
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put(BASE, REPLY)
        for change in (CHANGES[int(index)] for index in indices):
            with cases.case(str(change)):
                other = ReplyKey(**(BASE.model_dump() | change))
                assert cache.get(other) is None
                assert other.digest() != BASE.digest()
                if cache.get(ReplyKey(**dict(reversed(BASE.model_dump().items())))) != REPLY:
                    raise Lost("a false miss")


def test_no_two_of_many_keys_share_an_answer_and_none_misses_its_own(cases: Cases, tmp_path: Path) -> None:
    """Pairs that differ in one field, of which one has an answer: all in one file, which is opened again."""
    path, kept, pairs = tmp_path / "replies.sqlite", dict[str, Reply](), list[tuple[ReplyKey, ReplyKey]]()
    with ReplyCache(path) as cache:
        cache._connection.execute("PRAGMA synchronous=OFF")  # the test is not about the disk
        for number in range(cases.n(quick=150, full=1000)):
            one = {name: cases.rng.choice(values) for name, values in VALUES.items()}
            name = cases.rng.choice(sorted(VALUES))
            value = cases.rng.choice([value for value in VALUES[name] if value != one[name]])
            pairs.append((ReplyKey(**one), ReplyKey(**(one | {name: value}))))
            reply = Reply(text=str(number))
            assert cache.put(pairs[-1][0], reply) == kept.setdefault(_content(pairs[-1][0]), reply)
    with ReplyCache(path) as cache:
        for number, (one, other) in enumerate(pairs):
            with cases.case(f"pair {number}"):
                again = ReplyKey.model_validate(_shuffled(one.model_dump(), cases.rng))
                assert cache.get(again) == kept[_content(one)]
                assert cache.get(other) == kept.get(_content(other)), "an answer to another question"
                assert one.digest() != other.digest()
        assert (len(cache), cache.n_damaged) == (len(kept), 0)


def _content(key: ReplyKey) -> str:
    """A key as text, in another way than the cache has it."""
    return repr(sorted(key.model_dump().items()))


def _shuffled(content: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    names = list(content)
    rng.shuffle(names)
    return {name: content[name] for name in names}


def test_another_process_finds_what_this_one_kept(cases: Cases, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from bench.api.cache import ReplyCache\n"
        "from bench.api.keys import ReplyKey\n"
        "with ReplyCache(Path(sys.argv[1])) as cache:\n"
        "    key = ReplyKey.model_validate_json(sys.argv[2])\n"
        "    print(json.dumps([key.digest(), cache.get(key).text]))"
    )
    with cases.case("another hash seed"):
        path = tmp_path / "replies.sqlite"
        with ReplyCache(path) as cache:
            cache.put(BASE, REPLY)
        done = subprocess.run(
            [sys.executable, "-R", "-c", code, str(path), BASE.model_dump_json()],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        assert json.loads(done.stdout) == [BASE.digest(), REPLY.text]


OTHER_CHOICES: dict[str, Any] = {
    "bos": "none", "dtype": "bfloat16", "limit": 5, "mode": "chat", "provider": "local", "temperature": None,
    "token_limit_parameter": "max_completion_tokens",
}  # fmt: skip


def _another(name: str, value: Any) -> Any:
    """A value near the one that a field has."""
    if name == "bos" and value is None:
        return 0
    if name in OTHER_CHOICES:
        return OTHER_CHOICES[name]
    if value is None or isinstance(value, str):
        return f"{value or ''}x"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return value | {"one_more": 1}
    assert isinstance(value, tuple)
    return (*value, 1)


@pytest.mark.parametrize("kind", ["record", "condition", "performance"])
def test_what_is_on_disk_answers_for_its_own_key_only(cases: Cases, tmp_path: Path, kind: str) -> None:
    store, record = Store(tmp_path), make_record()
    measurement = make_measurement(np.random.default_rng(0), unit_key())
    samples = [Sample(task="country", n_shots=1, index=0, prompt="x", reply="y")]
    answers = make_performance().model_copy(update={"samples_sha256": sha256(as_lines(samples))})
    keys: dict[str, Row] = {"record": record.key, "condition": measurement.key, "performance": answers.key}
    found: dict[str, Callable[[Any], object]] = {
        "record": store.record, "condition": store.unit, "performance": store.performance
    }  # fmt: skip
    store.write_record(record)
    store.write_unit(measurement)
    store.write_performance(answers, samples)
    key = keys[kind]
    for name in cases.chosen(tuple(type(key).model_fields), quick=6):
        with cases.case(f"{kind}, {name}"):
            other = key.model_copy(update={name: _another(name, getattr(key, name))})
            assert other.digest() != key.digest()
            assert found[kind](other) is None
            assert found[kind](key.model_copy()) is not None
            if isinstance(key, RecordKey) and isinstance(other, RecordKey):
                assert store.record_path(other) != store.record_path(key)
            if isinstance(key, PerformanceKey) and isinstance(other, PerformanceKey):
                assert store.performance_path(other) != store.performance_path(key)
    if isinstance(key, RecordKey | UnitKey):
        with cases.case(f"{kind}, settings in another order"):
            same = key.model_copy(update={"settings": dict(reversed(key.settings.items()))})
            assert found[kind](same) is not None


def test_a_query_with_one_thing_changed_asks_everything_and_the_same_query_nothing(
    cases: Cases, tmp_path: Path
) -> None:
    """In one folder, over a socket: what the questions are sent with, and what is sent."""
    with ScriptedServer(answer=lambda _: " x") as server, ScriptedServer(answer=lambda _: " x") as elsewhere:
        chat = request(
            tmp_path / "out", mode="chat", shots=(2,), n_questions=4, service=service(server, limits=PATIENT)
        )
        changes: dict[str, Any] = {
            "model": replace(chat, model="big-2"),
            "address": replace(chat, service=service(elsewhere, limits=PATIENT)),
            "mode": replace(chat, mode="completion"),
            "seed": replace(chat, seed=1),
            "tokens of an answer": replace(chat, max_tokens=7),
            "task": replace(chat, tasks=find_tasks(["present-past"])),
            "shots": replace(chat, shots=(3,)),
            "no temperature": replace(chat, service=service(server, limits=PATIENT, send_temperature=False)),
            "name of the limit": replace(
                chat, service=service(server, limits=PATIENT, token_limit_parameter="max_completion_tokens")
            ),
        }
        list(query(chat, Told()))
        assert len(server.received) == 4
        for name in cases.chosen(tuple(changes), quick=4):
            with cases.case(name):
                for n_expected in (4, 0):
                    n_before = len(server.received) + len(elsewhere.received)
                    list(query(changes[name], Told()))
                    n_asked = len(server.received) + len(elsewhere.received) - n_before
                    assert n_asked == n_expected
                (tmp_path / "out" / "performance").rename(tmp_path / f"{name}.records")
                list(query(changes[name], Told()))
                if len(server.received) + len(elsewhere.received) != n_before:
                    raise Lost("asked again, although the replies are there")
