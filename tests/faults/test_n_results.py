"""Files of results that are not what they should be: named with the field, left out, and the rest ranked as before."""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.escape import printable
from bench.records import EmergenceRecord
from bench.schemas import KINDS
from bench.store import MAX_RECORD_BYTES, MAX_RECORD_VALUES, RejectedFile, Store, read_or_reject
from bench.terminal_leaderboard import View, leaderboard_tables
from proxies.board import read_board
from proxies.exports import ExportRequest, export
from proxies.leaderboard import rows_as_data
from proxies.leaderboard_files import write_leaderboard
from proxies.page import page
from proxies.page_fill import page_data
from tasks import RANKED_TASKS
from tests import strategies
from tests.bench.told import Told
from tests.faults.children import cli, done
from tests.faults.ledger import Cases
from tests.fuzz.targets import check_message
from tests.performance_factory import make_performance
from tests.record_factory import make_record

GOOD = ("good-high", "good-low")
N_MUTATED = 640
"""Of each kind of file that a leaderboard is made of, in a full run."""

MUTATED = ("emergence", "performance", "estimate", "fit", "probe", "calibration-case", "ledger", "text-sample")

ALWAYS = ("1e300", "a field too many", "a field whose name goes on", "many unknown fields")
"""One for each part, also in the default suite."""


def edited(*path: str | int, to: Any) -> Callable[[bytes], bytes]:
    """A record with the value there replaced; a function is given the value, `...` removes it."""

    def edit(content: bytes) -> bytes:
        document = json.loads(content)
        place = document
        for step in path[:-1]:
            place = place[step]
        if to is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = to(place[path[-1]]) if callable(to) else to
        return json.dumps(document).encode()

    return edit


def spelt(old: str, new: str) -> Callable[[bytes], bytes]:
    """A record with other text in it, where it first stands."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content, old
        return content.replace(old.encode(), new.encode("utf-8", "surrogatepass"), 1)

    return change


HEADLINE = ("measurements", "trained", "macro", "s=0.08", "values_bits")
POOL = '"n_pool":60'

EMERGENCE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    # what is not JSON
    "empty": (lambda text: b"", "the file: "),
    "blank": (lambda text: b" \n", "the file: "),
    "cut in the middle": (lambda text: text[: len(text) // 2], "the file: Invalid JSON"),
    "cut before the last bracket": (lambda text: text.rstrip()[:-1], "the file: Invalid JSON"),
    "a bracket too many": (lambda text: text.rstrip() + b"}", "the file: Invalid JSON"),
    "twice": (lambda text: text + text, "the file: Invalid JSON"),
    "byte order mark": (lambda text: b"\xef\xbb\xbf" + text, "the file: Invalid JSON"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "the file: Invalid JSON"),
    "UTF-32": (lambda text: text.decode().encode("utf-32"), "the file: Invalid JSON"),
    "bytes that are no UTF-8": (lambda text: text.replace(b"Tiny", b"T\xff\xfey"), "the file: Invalid JSON"),
    "an overlong byte": (lambda text: text.replace(b"Tiny", b"T\xc0\xafy"), "the file: Invalid JSON"),
    "a null byte": (lambda text: text[:50] + b"\0" + text[50:], "the file: Invalid JSON"),
    "null bytes only": (lambda text: b"\0" * 4096, "the file: Invalid JSON"),
    "half a character": (spelt("Tiny", "T\\ud800y"), "the file: Invalid JSON"),
    "a picture": (lambda text: b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "the file: Invalid JSON"),
    "a pickle": (lambda text: b"\x80\x04cos\nsystem\n(S'touch here'\ntR.", "the file: Invalid JSON"),
    "single quotes": (lambda text: text.replace(b'"', b"'"), "the file: Invalid JSON"),
    "a comment": (lambda text: b"// a comment\n" + text, "the file: Invalid JSON"),
    "YAML": (lambda text: b"kind: emergence\nschema_version: 2\n", "the file: Invalid JSON"),
    "a page": (lambda text: b"<!DOCTYPE html><title>502 Bad Gateway</title>", "the file: Invalid JSON"),
    # another document
    "null": (lambda text: b"null", "the file: "),
    "a number": (lambda text: b"1", "the file: "),
    "a text": (lambda text: b'"record"', "the file: "),
    "an array": (lambda text: b"[]", "the file: "),
    "an array of it": (lambda text: b"[" + text + b"]", "the file: "),
    "an empty object": (lambda text: b"{}", "schema_version: Field required"),
    "a record of another kind": (lambda text: make_performance().model_dump_json().encode(), "kind: "),
    # too deep, too large
    "deep arrays": (lambda text: b"[" * 100_000 + b"]" * 100_000, "the file: Invalid JSON"),
    "deep arrays that never close": (lambda text: b"[" * 1_000_000, "the file: Invalid JSON"),
    "deep objects": (lambda text: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "the file: Invalid JSON"),
    "deep inside a field": (spelt(POOL, '"n_pool":' + "[" * 5000 + "]" * 5000), "the file: Invalid JSON"),
    "larger than any record": (lambda text: b" " * (MAX_RECORD_BYTES + 1), "larger than 64 MB"),
    "50 MB of blanks before it": (lambda text: b" " * 50_000_000 + text[:-1], "the file: Invalid JSON"),
    "50 MB in one text": (spelt("Tiny", "x" * 50_000_000), "model.family: "),
    "50 MB of numbers": (spelt(POOL, f'"n_pool":[{"1," * 25_000_000}1]'), "values, which no record has"),
    "a megabyte of empty arrays": (
        spelt('"summary":[', '"summary":[' + "[]," * (MAX_RECORD_VALUES // 2)), "of its values are wrong"
    ),
    "many unknown fields": (
        spelt(POOL, ",".join(f'"f{number}":1' for number in range(50_000)) + f",{POOL}"), "of its values are wrong"
    ),
    # versions
    "a future schema": (edited("schema_version", to=3), "schema_version: Input should be 2"),
    "a past schema": (edited("schema_version", to=1), "schema_version: Input should be 2"),
    "a schema as text": (edited("schema_version", to="2"), "schema_version: "),
    "no schema": (edited("schema_version", to=...), "schema_version: Field required"),
    # types
    "a number as text": (spelt(POOL, '"n_pool":"60"'), "n_pool: "),
    "a number as a truth": (spelt(POOL, '"n_pool":true'), "n_pool: "),
    "a number as null": (spelt(POOL, '"n_pool":null'), "n_pool: "),
    "a count as a float": (spelt(POOL, '"n_pool":60.5'), "n_pool: "),
    "a count of none": (spelt(POOL, '"n_pool":0'), "n_pool: "),
    "a negative count": (spelt(POOL, '"n_pool":-60'), "n_pool: "),
    "a count beyond 64 bits": (spelt(POOL, f'"n_pool":{2**64}'), "n_pool: "),
    "a count of 400 digits": (spelt(POOL, f'"n_pool":{"9" * 400}'), "n_pool: "),
    "a count of a million digits": (spelt(POOL, f'"n_pool":{"9" * 1_000_000}'), ""),
    "a name that is an object": (edited("model", "family", to={"a": 1}), "model.family: "),
    "an empty name": (edited("model", "family", to=""), "model.family: "),
    "a name of 301 characters": (edited("model", "family", to="x" * 301), "model.family: "),
    "a field too many": (spelt(POOL, f'"extra":1,{POOL}'), "extra: Extra inputs"),
    "a field whose name goes on": (spelt(POOL, f'"\\u001b[31m\\nx: y\\r":1,{POOL}'), ": Extra inputs"),
    "a field with a name of a megabyte": (spelt(POOL, f'"{"x" * 1_000_000}":1,{POOL}'), ": Extra inputs"),
    "a field too few": (edited("provenance", to=...), "provenance: Field required"),
    # numbers
    "NaN": (edited(*HEADLINE, 1, 1, to=float("nan")), "measurements.trained.macro.s=0.08.values_bits.1.1: "),
    "infinity": (edited(*HEADLINE, 1, 1, to=float("inf")), "measurements.trained.macro.s=0.08.values_bits.1.1: "),
    "1e400": (spelt('"forward_difference":', '"forward_difference":1e400,"x":'), "forward_difference: "),
    "minus 1e400": (spelt('"forward_difference":', '"forward_difference":-1e400,"x":'), "forward_difference: "),
    "1e300": (edited(*HEADLINE, 1, 1, to=1e300), "measurements.trained.macro.s=0.08.values_bits.1.1: "),
    "a negative error": (edited("summary", 1, "emergence", "error_bits", to=-1.0), "summary.1.emergence.error_bits: "),
    # what fields say of each other
    "an estimate above its ceiling": (edited(*HEADLINE, 1, 1, to=1e6), "an estimate is above its ceiling"),
    "emergence above its ceiling": (edited("summary", 1, "emergence", "value_bits", to=999.0), "above its ceiling"),
    "a row too short": (edited(*HEADLINE, 1, to=lambda row: row[:-1]), "rectangular"),
    "no rows": (edited(*HEADLINE, to=[]), "measurements.trained"),
    "no positions": (edited("measurements", "trained", "micro_of_position", to=[]), "micro_of_position: "),
    "a column that is not there": (edited("measurements", "trained", "micro_of_position", 3, to=2**62), "micro"),
    "a condition too few": (edited("measurements", "random_words", to=...), "expected the conditions"),
    "a condition too many": (edited("measurements", "x", to={}), "measurements.x"),
    "another name in the key": (edited("key", "model", to="other"), "different models"),
    "a number of blocks of its own": (edited("model", "n_blocks", to=4), "expected 4 blocks"),
    "a shot too few": (edited("summary", to=lambda rows: rows[:1]), "summary for each of 1 to 2 shots"),
    "a position outside": (edited("summary", 1, "position", to=9), "points outside"),
    "a block outside": (edited("summary", 1, "peak_block", to=2**62), "points outside"),
    "an empty curve": (edited("summary", 1, "curve", to={}), "every reading and condition"),
    "a date that is none": (edited("provenance", "date", to="<script>"), "provenance.date: "),
}  # fmt: skip
"""By name: what is done to a valid record, and what the reason for rejecting it says."""


def _score(to: Any, field: str = "accuracy") -> Callable[[bytes], bytes]:
    return edited("cells", 1, field, to=to)


OTHERS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a score above 1": ("performance", _score(1.5), "cells.1.accuracy: "),
    "a score below 0": ("performance", _score(-0.1), "cells.1.accuracy: "),
    "a score that is no number": ("performance", _score(float("nan")), "cells.1.accuracy: "),
    "a score as text": ("performance", _score("0.8"), "cells.1.accuracy: "),
    "a score that is not that of the counts": ("performance", _score(0.9), "accuracy must be n_correct / n_answered"),
    "more right answers than answers": ("performance", _score(101, "n_correct"), "more answers of one kind"),
    "answers that do not add up": ("performance", _score(99, "n_answered"), "must add up"),
    "the same shots twice": ("performance", edited("cells", to=lambda cells: cells[:1] * 2), "a cell for each of"),
    "no cells": ("performance", edited("cells", to=[]), "cells: "),
    "a future schema of performance": ("performance", edited("schema_version", to=2), "schema_version: "),
    "another service in the mode": ("performance", edited("key", "mode", to="batch"), "key.mode: "),
    "an estimate of NaN": ("estimate", edited("value_bits", to=float("nan")), "value_bits: "),
    "an estimate of 1e300": ("estimate", edited("value_bits", to=1e300), "value_bits: "),
    "an estimate by no families": ("estimate", edited("n_families", to=0), "n_families: "),
    "a level that is none": ("estimate", edited("intervals", to={"99": {"low": 0, "high": 1}}), "intervals.99"),
    "a fit without rows": ("fit", edited("rows", to=[]), "rows: "),
    "a fit of another problem": ("fit", edited("key", "problem", to="../x"), "key.problem: "),
    "a p of 0": ("fit", edited("comparisons", 0, "p_value", to=0), "comparisons.0.p_value: "),
    "a claim that is not earned": ("fit", edited("comparisons", 0, "beats", to=True), "beats its baseline only"),
    "a hash that is none": ("fit", edited("key", "rows_sha256", to="A" * 64), "key.rows_sha256: "),
    "a probe of no comparison type": ("probe", edited("comparisons", to=[1]), "comparisons.0: "),
}  # fmt: skip
"""The same of other kinds of file."""


def good(root: Path) -> Store:
    """Two models that are ranked, and answers of one of them."""
    store = Store(root)
    for model, level in zip(GOOD, (8.0, 5.0), strict=True):
        for task in RANKED_TASKS:
            store.write_record(make_record(model=model, task=task, level=level, weights=model[-1] * 64))
    return store


def place(root: Path, kind: str, number: int) -> Path:
    """Where a file of a kind may lie, in a folder that no good one lies in."""
    pattern = KINDS[kind].files.replace("*", "bad")
    path = root / pattern
    path = path.with_name(f"{number:04d}{''.join(path.suffixes)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_rejected(root: Path, path: Path, kind: str, reason: str) -> None:
    relative = path.relative_to(root).as_posix()
    found = read_or_reject(path, relative, KINDS[kind].type)
    assert isinstance(found, RejectedFile), f"taken for a valid file: {found!r:.300}"
    assert found.path == relative
    check_message(found.reason, path.name)
    assert reason in found.reason, found.reason


@pytest.mark.parametrize("part", range(4))
def test_a_hostile_file_is_named_with_its_field_and_the_others_are_ranked(
    cases: Cases, tmp_path: Path, part: int
) -> None:
    root = tmp_path / "results"
    good(root)
    write_leaderboard(read_board(Store(root), Told()), root, tmp_path / "a.md")
    known = {name: ("emergence", *rest) for name, rest in EMERGENCE.items()} | OTHERS
    names = cases.chosen(sorted(known)[part::4], quick=6)
    names = list(dict.fromkeys((ALWAYS[part], *(name for name in names if name not in ALWAYS))))
    valid = {kind: contents[0] for kind, contents in strategies.rows().items()}
    paths: dict[str, Path] = {}
    for number, name in enumerate(names):
        kind, damage, reason = known[name]
        with cases.case(name):
            paths[name] = path = place(root, kind, number)
            path.write_bytes(damage(valid[kind]))
            check_rejected(root, path, kind, reason)
    out = tmp_path / "b.md"
    with cases.case("the leaderboard of all of them", n=0):
        said = done(cli, "leaderboard", "--results", root, "--out", out, log=tmp_path / "2")
        assert "Traceback" not in said
        for name, path in paths.items():
            where = path.relative_to(root).as_posix()
            if where.split("/")[0] != "probe":  # which no leaderboard reads
                assert f"left out: {where}: {path.name}: " in said, f"{name} is not named"
        assert _ranked(out) == _ranked(tmp_path / "a.md") != []


def take_at_most(n_bytes: int) -> None:
    """End this process before it takes more memory, should what guards it be gone."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    there = int(fields["VmData"].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (there + n_bytes, there + n_bytes))


def _ranked(file: Path) -> list[str]:
    return [
        line.rpartition("|")[0] for line in file.read_text().splitlines() if "| good&#45;" in line or "| good-" in line
    ]


def other_document(content: bytes, rng: random.Random) -> bytes:
    """A damaged file that is not the same document in another form."""
    while True:
        found = strategies.damaged(content, rng)
        with contextlib.suppress(ValueError, RecursionError):
            if json.loads(found) == json.loads(content):
                continue
        return found


@pytest.mark.parametrize("kind", MUTATED)
def test_a_mutated_file_is_rejected_or_does_no_harm(cases: Cases, tmp_path: Path, kind: str) -> None:
    """What is accepted is ranked, drawn and exported like any other."""
    root = tmp_path / "results"
    good(root)
    accepted = 0
    for number in range(cases.n(quick=60, full=N_MUTATED)):
        seed = cases.rng.randrange(2**32)
        with cases.case(f"{kind} damaged with seed {seed}"):
            rng = random.Random(seed)
            path = place(root, kind, number)
            path.write_bytes(other_document(rng.choice(strategies.rows()[kind]), rng))
            found = read_or_reject(path, path.name, KINDS[kind].type)
            if isinstance(found, RejectedFile):
                check_message(found.reason, path.name)
                if number % 20:
                    path.unlink()
            else:
                accepted += 1
    with cases.case(f"the leaderboard with {accepted} odd files of {kind}", n=0):
        check_shown(root, tmp_path)


def check_shown(root: Path, out: Path) -> None:
    """Everything that is made of results can be made, holds no NaN, and has the good models in it."""
    store = Store(root)
    board = read_board(store, Told())
    write_leaderboard(board, root, out / "leaderboard.md")
    rows = rows_as_data(board)
    assert {*GOOD} <= {row["model"]["name"] for row in rows}
    json.dumps(rows, allow_nan=False)
    text = (out / "leaderboard.md").read_text()
    assert not [letter for letter in text if letter != "\n" and printable(f"x{letter}x") != f"x{letter}x"]
    assert " nan" not in text.lower() and " inf " not in text.lower()
    written = page(page_data(board, store, out / "page.html", Told()))
    assert "NaN" not in written.partition("application/json")[2].partition("</script>")[0]
    shown = Console(file=io.StringIO(), width=200)
    for table in leaderboard_tables(board, View()):
        shown.print(table)
    for form in ("csv", "hf", "lm-eval"):
        if form != "lm-eval" or list(root.glob("performance/*/*.json")):
            with contextlib.suppress(BenchError):
                export(ExportRequest(results=root, format=form, out=out / f"export-{form}"), Told())  # type: ignore[arg-type]


ODD: dict[str, Callable[[bytes], bytes]] = {
    "a setting of 400 digits": edited("key", "settings", to={"n_draws": 10**400}),
    "a setting of -0.0": edited("key", "settings", to={"headline_scale": -0.0, "n_draws": True}),
    "no settings": edited("key", "settings", to={}),
    "a setting with a name of a megabyte": edited("key", "settings", to={"x" * 1_000_000: 1}),
    "a seed of 400 digits": edited("key", "seed", to=10**400),
    "a negative seed": edited("key", "seed", to=-(2**70)),
    "a version of 400 digits": edited("key", "task_version", to=10**400),
    "a limit of 400 digits": edited("key", "limit", to=-(10**400)),
    "a token of 400 digits": edited("bos_token", to=10**400),
    "2**63 - 1 parameters": edited("model", "n_parameters", to=2**63 - 1),
    "1 parameter": edited("model", "n_parameters", to=1),
    "a day that is none": edited("provenance", "date", to="9999-99-99T99:99:99+00:00"),
    "the year 0": edited("provenance", "date", to="0000-00-00T00:00:00+00:00"),
    "seconds below 0": edited("provenance", "seconds", to=-1e9),
    "a preset of another name": edited("key", "preset", to="../x | y"),
    "an estimator of another name": edited("key", "estimator", to="<script>"),
    "a hash that is none": edited("model", "weights_sha256", to="\u202e|"),
    "emergence of minus a billion": edited("summary", 1, "emergence", "value_bits", to=-1e9),
    "an error of a billion": edited("summary", 1, "emergence", "error_bits", to=1e9),
    "an error of 0": edited("summary", 1, "emergence", "error_bits", to=0.0),
    "the smallest number": edited("summary", 1, "emergence", "value_bits", to=5e-324),
}
"""Changes to a record that its type has nothing against: shown, ranked or not, and never in the way of the others."""


def test_an_odd_record_that_is_valid_is_in_nobodys_way(cases: Cases, tmp_path: Path) -> None:
    for number, name in enumerate(cases.chosen(sorted(ODD), quick=5)):
        with cases.case(name):
            root = tmp_path / str(number) / "results"
            good(root)
            for task in RANKED_TASKS:
                path = root / "emergence" / "odd" / f"{task}.json"
                path.parent.mkdir(exist_ok=True)
                record = make_record(model="odd", task=task, weights="o" * 64, level=3.0)
                path.write_bytes(ODD[name](record.model_dump_json().encode()))
            check_shown(root, root.parent)


def test_a_large_file_takes_no_gigabytes(cases: Cases, tmp_path: Path) -> None:
    for what in cases.chosen(("[],", "1,", '"a":1,', '"",'), quick=1):
        with cases.case(f"60 MB of {what}"):
            inside = what * ((MAX_RECORD_BYTES - 1000) // len(what))
            close = '"z":1}' if ":" in what else f"{what[:-1]}]}}"
            path = tmp_path / "large.json"
            path.write_text(("{" if ":" in what else '{"summary":[') + inside + close)
            said = done(_memory_of_reading, str(path), log=tmp_path / "log")
            assert float(said.split()[-2]) < 500, said


def _memory_of_reading(path: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    take_at_most(2 << 30)
    found = read_or_reject(Path(path), "large.json", EmergenceRecord)
    assert isinstance(found, RejectedFile)
    print(found.reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, "MB")


def test_two_files_of_one_key_count_once(cases: Cases, tmp_path: Path) -> None:
    """Whoever copies a record under another name, or changes a number in the copy, adds no second row."""
    for name, change in {
        "the same bytes": lambda content: content,
        "another number": edited("summary", 1, "emergence", "value_bits", to=lambda bits: bits - 0.5),
        "another date": edited("provenance", "date", to="2027-01-02T03:04:05+00:00"),
        "other blanks": lambda content: json.dumps(json.loads(content), indent=4).encode(),
    }.items():
        with cases.case(name):
            root = tmp_path / name
            store = good(root)
            first = store.records()[0][0]
            copy = root / "emergence" / "copied" / "x.json"
            copy.parent.mkdir()
            copy.write_bytes(change((root / first.path).read_bytes()))
            rows = rows_as_data(read_board(store, Told()))
            assert sorted(row["model"]["name"] for row in rows) == sorted(GOOD)
            assert all(row["seeds"] == [0] or tuple(row["seeds"]) == (0,) for row in rows)
