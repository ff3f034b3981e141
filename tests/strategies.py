"""What comes from outside, sound and damaged: names, records, task files and replies of servers.

Everything is drawn by a `random.Random`, which the battery of faults seeds, hypothesis steers and the fuzz targets use
to damage what libFuzzer has found; the strategies at the end are the same for `@given`.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bench.completions import MODES, Mode
from bench.fits import LedgerEntry, Prediction
from bench.performance import FailedReply, Sample
from bench.records import Measurement, Provenance, Row
from bench.schemas import KINDS
from bench.text_records import TextKey, TextRecord, TextSample
from tests.calibration_factory import make_case, make_cost, make_coverage
from tests.estimate_factory import make_estimate
from tests.payloads import PAYLOADS
from tests.performance_factory import make_performance
from tests.probe_factory import make_probe
from tests.proxies.test_fit_report import record as make_fit
from tests.record_factory import make_measurement, make_record, unit_key

DATE = "2026-01-02T03:04:05+00:00"

ROW_TYPES: Mapping[str, type[Row]] = MappingProxyType(
    {kind: found.type for kind, found in KINDS.items()} | {"measurement": Measurement}
)
"""Everything that is read with a check, by its name; a measurement is what `.units` holds."""

NAMES = (
    # ways out of a folder
    "../../x", "..", ".", "../", "/etc/passwd", "//host/share", "~root/.ssh/id", "a/../../b", "./a", "a/./b",
    "..\\..\\x", "C:\\Windows\\x", "C:x", "\\\\host\\share", "file:///etc/passwd", "$HOME/x", "`id`", "$(id)",
    "%2e%2e%2fx", "..%00/x",
    # what a name may be taken for
    "a/b", "a:b", "a__b", "a--b", "a-b", "a b", "a.b", "a..b", "a\\b", "A/B", "a|b", "a;b", "a&b", "a*b", "a?b",
    'a"b',
    "GPT2", "Gpt2", "gpt2", "gPT2",
    # letters that look alike, are written in two ways, or are not seen
    "caf\u00e9", "cafe\u0301", "CAF\u00c9", "\ufb01ne", "fine", "stra\u00dfe", "STRASSE", "\u212aelvin", "kelvin",
    "\u0130stanbul", "i\u0307stanbul", "\u0131", "\u202egnp.exe", "a\u200bb", "\ufeffa", "\U0001f600", "\u4e2d\u6587",
    "\u0430\u0431", "\x00", "a\x00b", "a\nb", "a\r\nb", "a\tb", "\x1b[31mred", "\x7f",
    # names of devices, ends that Windows drops, what a shell or a program takes for an option
    "con", "CON", "nul.txt", "aux", "com1", "LPT1", "prn.json", "a.", "a ", " a", "a. .", "a...", "-rf", "--help", "-",
    ".hidden", ".units", "x.json", "x.samples.jsonl", ".writing-x.tmp",
    # long ones
    "x" * 80, "x" * 81, "x" * 300, "X" * 300, "x" * 299 + "y", "\u4e2d" * 300, "a/" * 150, "." * 300,
    # what no record may be called, and what a made name looks like
    "", "x" * 301, "name--0123456789", "--", "--x",
)  # fmt: skip
"""Names that somebody might give a model or a task, each different from every other one."""

_PIECES = (
    "a", "b", "A", "x" * 40, "gpt2", "/", "\\", ":", "..", ".", "-", "--", "_", "__", " ", "\n", "\r", "\t", "\x00",
    "\x1b[2J", "\u202e", "\u200d", "\u0301", "\u00e9", "\u00c9", "\ufb01", "\u212a", "\u0130", "\u00df",
    "\U0001f600", "\u4e2d", "con", "nul", ".json", "%2f", "~", "$", "|", "<", ">", '"', "'", "*", "?", "\x7f",
    "\u2028", "1",
)  # fmt: skip


def name(rng: random.Random) -> str:
    """A hostile name of 1 to 300 characters, not seldom a near relative of one that was drawn before."""
    draw = rng.randrange(10)
    if draw < 2:
        return rng.choice(NAMES)
    text = rng.choice(NAMES) if draw < 5 else "".join(rng.choices(_PIECES, k=rng.randint(1, 8)))
    if draw == 5:
        text = "".join(chr(rng.randrange(0x20, 0x3000)) for _ in range(rng.randint(1, 20)))
    changes: tuple[Callable[[str], str], ...] = (
        str.upper, str.lower, str.swapcase, lambda old: f"{old}.", lambda old: f"{old} ", lambda old: old[::-1],
        lambda old: unicodedata.normalize("NFC", old), lambda old: unicodedata.normalize("NFD", old),
        lambda old: unicodedata.normalize("NFKC", old), lambda old: old + rng.choice(_PIECES), lambda old: "../" + old,
    )  # fmt: skip
    return rng.choice(changes)(text)[:300] or "x"


@cache
def rows() -> Mapping[str, tuple[bytes, ...]]:
    """Small valid files of every kind, one line each of those that lie together."""
    provenance = Provenance(
        date=DATE, command="bench", commit=None, versions={"bench": "0"}, n_threads=1, device="cpu", seconds=1.0
    )
    failed = FailedReply(kind="timeout", message="not answered in 60 s", n_attempts=3)
    text_key = TextKey(
        schema_version=1, provider="api", model="big-1", base_url="https://api.example/v1", revision=None,
        files_sha256=None, dtype=None, mode="chat", prompts_sha256="p" * 64, n_prompts=3, with_prompts=False,
        first_sentence=False, max_tokens=16, temperature=0.7, top_p=1.0, token_limit_parameter=None, seed=0,
    )  # fmt: skip
    text = TextRecord(
        schema_version=1, key=text_key, model=None, returned_models=("big-1",), text_sha256="t" * 64,
        samples_sha256="s" * 64, n_answered=2, n_failed=1, n_not_asked=0, n_cut_off=1, n_paragraphs=2, n_words=20,
        n_sentences=4, n_prompt_tokens=10, n_completion_tokens=None, licence="CC0-1.0", provenance=provenance,
    )  # fmt: skip
    foretold = Prediction(task="country", task_hash="a" * 64, n_shots=4, predicted=0.5, low=0.4, high=0.6)
    made: dict[str, tuple[Row, ...]] = {
        "emergence": (make_record(), make_record(refused={"trained": [("macro", 1, 3)]}), make_record(level=20.0,
                                                                                                       direction="none")),
        "measurement": (make_measurement(np.random.default_rng(0), unit_key(shuffled=True)),),
        "performance": (make_performance(), make_performance(correct=(3, 5), n_failed=7, mode="chat")),
        "performance-sample": (
            Sample(task="country", n_shots=4, index=0, prompt=" France,", reply=" Spain", is_correct=True),
            Sample(task="country", n_shots=4, index=1, prompt=" Peru,", failure=failed),
        ),
        "fit": (make_fit(), make_fit("cells", target="big-1")),
        "estimate": (make_estimate(),),
        "ledger": (
            LedgerEntry(schema_version=1, date=DATE, model="big-1", mode="chat", predictor="shots", fit_sha256="f" * 64,
                        predictions=(foretold,), previous_sha256="0" * 64),
        ),
        "probe": (make_probe(),),
        "text": (text,),
        "text-sample": (TextSample(prompt="Once", reply=" upon a time."), TextSample(prompt="Then", failure=failed)),
        "calibration-case": (make_case("gaussian", "dense"), make_case("exact", "dense", refusal="too few samples")),
        "calibration-coverage": (make_coverage(n_covered=9, n_seeds=10),),
        "calibration-cost": (make_cost(),),
    }  # fmt: skip
    assert set(made) == set(ROW_TYPES)
    return MappingProxyType({kind: tuple(row.model_dump_json().encode() for row in made[kind]) for kind in made})


@cache
def task_files() -> tuple[bytes, ...]:
    """Small valid task files of both kinds."""
    common = {"schema": 1, "name": "planet", "version": 1, "item_prefix": " ", "separator": "\n"}
    words = ("Mercury", "Venus", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
    members: dict[str, list[str]] = {word: [f"the {word}"] for word in words}
    shipped = sorted(
        Path(__file__).parent.parent.joinpath("tasks", "data").glob("*.json"), key=lambda p: p.stat().st_size
    )
    contents = [
        common | {"kind": "list", "names": list(words), "members": members, "sources": ["me"], "licence": "MIT"},
        common | {"kind": "pairs", "arrow": ":", "answer_prefix": " ", "pairs": {"one": ["1"], "two": ["2", "II"]}},
    ]
    return (*(json.dumps(content).encode() for content in contents), shipped[0].read_bytes())


@cache
def replies() -> tuple[tuple[Mode, bytes], ...]:
    """Valid replies of servers by how they were asked, some of which hold no text."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    common = {"id": "x", "object": "x", "model": "big-1-2026", "created": 1, "usage": usage}
    chats: tuple[dict[str, Any], ...] = (
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": " Spain"}},
        {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": None}},
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "no"}},
    )
    found: list[tuple[Mode, bytes]] = [
        ("chat", json.dumps(common | {"choices": [choice]}).encode()) for choice in chats
    ]
    for reason in ("stop", "length", "content_filter"):
        choice = {"index": 0, "text": " Spain,", "finish_reason": reason, "logprobs": None}
        found.append(("completion", json.dumps(common | {"choices": [choice]}).encode()))
    return tuple(found)


class _Literal:
    """Text that stands in a document as it is, where `json.dumps` would not write it."""

    def __init__(self, text: str) -> None:
        self.text = text


def _value(rng: random.Random) -> Any:
    """Anything that a value may be replaced by; a third of it is of a type that the format has somewhere."""
    return rng.choice((
        None, True, False, 0, -1, 1, 2, 3, 99, 1.5, -0.0, 1.0000001, 2**31, 2**63, 2**64, 10**30, -(10**30), 1e300,
        5e-324, float("nan"), float("inf"), _Literal("1e400"), _Literal("-1e400"), _Literal("9" * 400),
        _Literal("9" * 5000), _Literal("1E5"), _Literal("0.1e-9999"), "", " ", "x", "1", "NaN", "x" * 301, "x" * 1001,
        "\ud800", "\x00", rng.choice(PAYLOADS), rng.choice(NAMES), [], {}, [[]], [None], {"a": 1}, [0, 0], {"": ""},
        ["x", "x"], _Literal("[" * 150 + "]" * 150), _Literal("[" * 300 + "]" * 300),
        _Literal('{"a":' * 250 + "1" + "}" * 250),
    ))  # fmt: skip


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a document."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _edit(content: Any, rng: random.Random) -> None:
    places = list(_places(content)) if isinstance(content, dict | list) else []
    if not places:
        return
    container, key = rng.choice(places)
    other, other_key = rng.choice(places)
    draw = rng.randrange(8)
    if draw == 0:
        del container[key]
    elif draw == 1 and isinstance(container, dict):
        container[rng.choice((*PAYLOADS, *container, "x" * 400, ""))] = _value(rng)
    elif draw == 1:
        container.insert(key, _value(rng))
    elif draw == 2 and isinstance(container, list):
        container.append(container[key])
    elif draw == 3:  # shallow copies, so that a document stays a tree
        container[key] = json.loads(json.dumps(other[other_key], default=lambda left: left.text))
    elif draw == 4 and isinstance(container[key], int | float) and abs(container[key]) < 1e300:  # others are no floats
        container[key] = container[key] * rng.choice((-1, 0, 2, 10, 1.0, 1e9))
    else:
        container[key] = _value(rng)


def _as_bytes(content: Any) -> bytes:
    literals: list[str] = []

    def marked(value: _Literal) -> str:
        literals.append(value.text)
        return f"\ue000{len(literals) - 1}\ue000"

    text = json.dumps(content, default=marked, ensure_ascii=False)
    for number, literal in enumerate(literals):
        text = text.replace(f'"\ue000{number}\ue000"', literal)
    return text.encode("utf-8", "surrogatepass")


def _edited(content: bytes, rng: random.Random) -> bytes:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _spoiled(content, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _edit(document, rng)
    return _as_bytes(document)


def _spoiled(content: bytes, rng: random.Random) -> bytes:
    """Damage below the level of JSON."""
    at = rng.randrange(len(content) + 1)
    key = content.find(b'"', at)
    end = content.find(b",", key)
    return rng.choice((
        content[:at],
        content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
        content[:at] + rng.randbytes(rng.randint(1, 8)) + content[at:],
        content[:at] + content[at + rng.randint(1, 40) :],
        b"\xef\xbb\xbf" + content,
        content.decode("utf-8", "replace").encode("utf-16"),
        content + content,
        content + b"}",
        content[:at] + b"\xff\xfe" + content[at:],
        content[:at] + b"\x00" + content[at:],
        content[:key] + content[key:end] + b"," + content[key:] if 0 <= key < end else b"",
        b"[" * rng.choice((100, 250, 5_000, 100_000)) + content,
        b" " * 100 + content,
        content.replace(b'"', b"'"),
        content.replace(b":", b": -", 1),
    ))  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A JSON document with something changed: values of it three times out of four, else its bytes."""
    return _edited(content, rng) if rng.randrange(4) else _spoiled(content, rng)


def _drawn(draw: Callable[[random.Random], Any]) -> st.SearchStrategy[Any]:
    return st.randoms(use_true_random=False).map(draw)


def names() -> st.SearchStrategy[str]:
    """Names of models and tasks."""
    return _drawn(name)


def valid_rows() -> st.SearchStrategy[tuple[str, bytes]]:
    """(kind, content) of a valid file of results."""
    return st.sampled_from([(kind, content) for kind, contents in rows().items() for content in contents])


def damaged_rows() -> st.SearchStrategy[tuple[str, bytes]]:
    """(kind, content) of a file of results with something changed."""
    return _drawn(lambda rng: (kind := rng.choice(sorted(rows())), damaged(rng.choice(rows()[kind]), rng)))


def damaged_task_files() -> st.SearchStrategy[bytes]:
    """Task files with something changed."""
    return _drawn(lambda rng: damaged(rng.choice(task_files()), rng))


def damaged_replies() -> st.SearchStrategy[tuple[Mode, bytes]]:
    """(mode, body) of a reply with something changed; one in eight was not asked for in this mode."""
    return _drawn(_damaged_reply)


def _damaged_reply(rng: random.Random) -> tuple[Mode, bytes]:
    mode, body = rng.choice(replies())
    return mode if rng.randrange(8) else rng.choice(MODES), damaged(body, rng)
