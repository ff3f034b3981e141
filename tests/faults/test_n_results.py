"""Files of results that are not what they should be: named with the field, left out, and the rest ranked as before."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.errors import BenchError, RecordError, StorageError
from bench.escape import printable
from bench.fits import Prediction
from bench.performance import PerformanceRecord, sha256
from bench.records import EmergenceRecord
from bench.schemas import KINDS
from bench.store import (
    MAX_RECORD_BYTES,
    MAX_RECORD_VALUES,
    MAX_SAMPLES,
    MAX_SAMPLES_BYTES,
    RejectedFile,
    Store,
    StoredPerformance,
    read_or_reject,
    samples_path,
)
from bench.terminal_leaderboard import View, leaderboard_tables
from proxies.board import read_board
from proxies.export_selection import samples_of
from proxies.exports import ExportRequest, export
from proxies.leaderboard import rows_as_data
from proxies.leaderboard_files import write_leaderboard
from proxies.ledger import FILE, append, as_data, read_ledger, score
from proxies.page import page
from proxies.page_fill import page_data
from tasks import RANKED_TASKS, load_task
from tests import strategies
from tests.bench.told import Told
from tests.faults.children import cli, done
from tests.faults.ledger import IS_FULL, Cases
from tests.fuzz.targets import check_message
from tests.performance_factory import make_performance
from tests.proxies.test_exports import put_performance
from tests.record_factory import make_record

GOOD = ("good-high", "good-low")
N_MUTATED = 640
"""Of each kind of file, and of the ledger and of samples, in a full run."""

MUTATED = ("emergence", "performance", "estimate", "fit", "probe", "calibration-case")
"""What lies in files of its own; the ledger and samples are lines of one file."""

FEWEST_REJECTED = 0.88 if IS_FULL else 0.75
"""Of the mutated files of a kind; the others hold another number that may be, or a name more in a list of names. Fewer
draws scatter more."""

TOO_LARGE = ("larger than ", "values, which no record has")
"""Said of the size of a file, which is looked at before any field."""

OF_THE_WHOLE = ("Invalid JSON: ", "Input should be an object", "Value error, ", "of its values are wrong")
"""Why a file is rejected without a field of its own: no JSON, no object, fields that contradict each other, or any
number of fields."""

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
            store.write_record(
                make_record(model=model, task=task, level=level, weights=model[-1] * 64, **shipped(task))
            )
    return store


def shipped(name: str) -> dict[str, Any]:
    """What a key says of a task that comes with this software."""
    task = load_task(name)
    return {"task_version": task.version, "task_hash": task.content_hash}


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
    check_named(found.reason, path.name, kind)
    assert reason in found.reason, found.reason


def check_named(reason: str, file: str, kind: str) -> None:
    """The file and a field of this kind, or one that does not belong there, are named."""
    if any(words in reason for words in TOO_LARGE):
        assert reason.startswith(f"{file}: ") and reason == printable(reason) and len(reason) < 1000, reason
        return
    check_message(reason, file)
    _, field, why = reason.split(": ", 2)
    if field == "the file":
        assert any(words in why for words in OF_THE_WHOLE), reason
    elif not reason.endswith(": Extra inputs are not permitted"):
        assert field.split(".")[0] in KINDS[kind].type.model_fields, reason


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


def check_count(cases: Cases, kind: str, n_accepted: int, n: int) -> None:
    """Not more of the mutated files are accepted than hold what may be."""
    cases.measure(f"mutated {kind}: {n_accepted} of {n} accepted")
    assert n_accepted <= (1 - FEWEST_REJECTED) * n, f"{n_accepted} of {n}"


@pytest.mark.parametrize("kind", MUTATED)
def test_a_mutated_file_is_rejected_or_does_no_harm(cases: Cases, tmp_path: Path, kind: str) -> None:
    """What is accepted is ranked, drawn and exported like any other."""
    root = tmp_path / "results"
    good(root)
    alone = rows_as_data(read_board(Store(root), Told()))
    accepted = []
    n = cases.n(quick=60, full=N_MUTATED)
    for number in range(n):
        seed = cases.rng.randrange(2**32)
        with cases.case(f"{kind} damaged with seed {seed}"):
            rng = random.Random(seed)
            path = place(root, kind, number)
            path.write_bytes(other_document(rng.choice(strategies.rows()[kind]), rng))
            found = read_or_reject(path, path.name, KINDS[kind].type)
            if isinstance(found, RejectedFile):
                check_named(found.reason, path.name, kind)
                if number % 20:
                    path.unlink()
            else:
                accepted.append(path)
    with cases.case(f"the leaderboard with {len(accepted)} odd files of {kind}", n=0):
        check_count(cases, kind, len(accepted), n)
        check_shown(root, tmp_path, alone)
        for path in accepted:
            path.unlink()
        assert rows_as_data(read_board(Store(root), Told())) == alone, "other ranks by files that are left out"


def test_a_mutated_ledger_is_rejected_with_its_line_or_valid(cases: Cases, tmp_path: Path) -> None:
    """Where a line is followed by another one, no other line can be in its place."""
    path = tmp_path / FILE
    for shots in (1, 2, 4):
        said = Prediction(task="country", task_hash="a" * 64, n_shots=shots, predicted=0.5, low=0.4, high=0.6)
        append(
            tmp_path, (said,), date=strategies.DATE, model="big-1", mode="chat", predictor="shots", fit_sha256="f" * 64
        )
    lines, entries = path.read_bytes().splitlines(keepends=True), read_ledger(tmp_path)
    n_accepted, n = 0, cases.n(quick=60, full=N_MUTATED)
    for _ in range(n):
        seed = cases.rng.randrange(2**32)
        with cases.case(f"ledger damaged with seed {seed}"):
            rng = random.Random(seed)
            place = rng.randrange(3)
            path.write_bytes(
                b"".join((*lines[:place], other_document(lines[place].strip(), rng), b"\n", *lines[place + 1 :]))
            )
            try:
                found = read_ledger(tmp_path)
            except RecordError as error:
                said_of = str(error)
                assert re.match(rf"{re.escape(str(path))}, line {place + 1}: .", said_of) or (
                    said_of.startswith(f"{path}, line {place + 2}: it follows another line")
                ), said_of
                assert said_of == printable(said_of) and len(said_of) < 1000, said_of
            else:
                n_accepted += 1
                assert place == 2 and found[:2] == entries[:2], "another line is taken for the one it follows"
                json.dumps(as_data(score(found, ())), allow_nan=False)
    with cases.case("ledgers that are valid", n=0):
        check_count(cases, "ledger", n_accepted, n)


def test_mutated_samples_are_left_out_of_exports_or_add_up(cases: Cases, tmp_path: Path) -> None:
    """As they were counted from, or, where the record has their hash, with as many right answers as it says."""
    store = Store(tmp_path / "results")
    good_path, path = put_performance(store, GOOD[0]), put_performance(store, "bad")
    sound, lines = path.read_bytes(), samples_path(path).read_bytes().splitlines(keepends=True)
    relative = path.relative_to(store.root).as_posix()
    n_accepted, n = 0, cases.n(quick=60, full=N_MUTATED)
    for number in range(n):
        seed = cases.rng.randrange(2**32)
        with cases.case(f"samples damaged with seed {seed}"):
            rng = random.Random(seed)
            place = rng.randrange(len(lines))
            changed = b"".join((*lines[:place], other_document(lines[place].strip(), rng), b"\n", *lines[place + 1 :]))
            samples_path(path).write_bytes(changed)
            has_hash = number % 4 > 0
            digest = sha256(changed).encode() if has_hash else b""
            path.write_bytes(sound.replace(sha256(b"".join(lines)).encode(), digest) if has_hash else sound)
            record = PerformanceRecord.model_validate_json(path.read_bytes())
            reason = ""
            try:
                found = samples_of(store.root, StoredPerformance(path=relative, record=record))
            except RecordError as error:
                reason = str(error)
                file, line = re.escape(samples_path(path).name), place + 1
                said = rf"{file}: (\d+ of \d+ right at|not the samples)" if has_hash else rf"{file}: not the samples"
                assert re.match(said, reason) or (has_hash and re.match(rf"{file}:{line}: .", reason)), reason
                assert reason == printable(reason) and len(reason) < 1000, reason
            else:
                n_accepted += 1
                assert has_hash, "other samples than those that were counted are taken for them"
                assert {cell.n_shots: cell.n_questions for cell in record.cells}.items() <= {
                    n_shots: len(samples) for n_shots, samples in found.items()
                }.items()
            if number % 20 == 0:
                check_exported(store.root, tmp_path / f"export-{number}", path, reason)
    with cases.case("samples that are accepted", n=0):
        check_count(cases, "samples", n_accepted, n)
        assert good_path.exists()


def check_exported(root: Path, out: Path, path: Path, reason: str) -> None:
    """The good model is in the export, and the other one too or named with the reason."""
    with contextlib.redirect_stdout(io.StringIO()):
        done = export(ExportRequest(results=root, format="lm-eval", out=out), Told())
    assert [(one.what, one.reason) for one in done.not_exported] == (
        [(path.relative_to(root).as_posix(), reason)] if reason else []
    )
    exported = {file.relative_to(out).parts[0] for file in out.rglob("*.jsonl")}
    assert exported == {GOOD[0]} | (set() if reason else {"bad"})


def check_shown(root: Path, out: Path, alone: Sequence[Mapping[str, Any]]) -> None:
    """Everything that is made of results can be made, holds no NaN, and has the good models in it as they are alone."""
    store = Store(root)
    board = read_board(store, Told())
    write_leaderboard(board, root, out / "leaderboard.md")
    rows = rows_as_data(board)
    names = [row["name"] for row in alone]
    shown_alone = [row for row in rows if row["name"] in names]
    assert [row | {"rank": None} for row in shown_alone] == [row | {"rank": None} for row in alone]
    assert [row["rank"] for row in shown_alone] == sorted(row["rank"] for row in shown_alone)
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


RANKED_BY = ("summary", 1, "curve", "s=0.08", "trained")
"""Where a record has the number that its model is ranked by."""

ODD: dict[str, Callable[[bytes], bytes]] = {
    "a setting of 400 digits": edited("key", "settings", to={"n_draws": 10**400}),
    "a setting of -0.0": edited("key", "settings", to={"headline_scale": -0.0, "n_draws": True}),
    "no settings": edited("key", "settings", to={}),
    "a setting with a name of a megabyte": edited("key", "settings", to={"x" * 1_000_000: 1}),
    "a seed of 400 digits": edited("key", "seed", to=10**400),
    "a negative seed": edited("key", "seed", to=-(2**70)),
    "a later version": edited("key", "task_version", to=lambda version: version + 1),
    "another content of the same version": edited("key", "task_hash", to="z" * 64),
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
    "emergence of minus a billion": edited(*RANKED_BY, "value_bits", to=-1e9),
    "an error of a billion": edited(*RANKED_BY, "error_bits", to=1e9),
    "an error of 0": edited(*RANKED_BY, "error_bits", to=0.0),
    "the smallest number": edited(*RANKED_BY, "value_bits", to=5e-324),
}
"""Changes to a record that its type has nothing against: shown, ranked or not, and never in the way of the others."""


def test_an_odd_record_that_is_valid_is_in_nobodys_way(cases: Cases, tmp_path: Path) -> None:
    for number, name in enumerate(dict.fromkeys(("a later version", *cases.chosen(sorted(ODD), quick=4)))):
        with cases.case(name):
            root = tmp_path / str(number) / "results"
            good(root)
            alone = rows_as_data(read_board(Store(root), Told()))
            for task in RANKED_TASKS:
                path = root / "emergence" / "odd" / f"{task}.json"
                path.parent.mkdir(exist_ok=True)
                record = make_record(model="odd", task=task, weights="o" * 64, level=3.0, **shipped(task))
                path.write_bytes(ODD[name](record.model_dump_json().encode()))
            check_shown(root, root.parent, alone)


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
    _memory_of(lambda: read_or_reject(Path(path), "large.json", EmergenceRecord))


def _memory_of(read: Callable[[], object]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    take_at_most(2 << 30)
    try:
        found = read()
    except RecordError as error:
        found = RejectedFile(path="", reason=str(error))
    assert isinstance(found, RejectedFile)
    print(found.reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, "MB")


LARGE_LEDGERS: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "more bytes than any": (bytes, MAX_RECORD_BYTES + 1, "larger than 64 MB"),
    "empty lines": (lambda n: b"\n" * n, MAX_RECORD_BYTES, "line 1: "),
    "carriage returns": (lambda n: b"\r" * n + b"\n", MAX_RECORD_BYTES - 1, "line 1: "),
    "numbers": (lambda n: b'{"predictions":[' + b"1," * (n // 2) + b"1]}\n", MAX_RECORD_BYTES - 100, "values"),
}
LARGE_SAMPLES: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "more bytes than any": (lambda n: b"", MAX_SAMPLES_BYTES + 1, "larger than 256 MB"),
    "empty lines": (lambda n: b"\n" * n, MAX_SAMPLES_BYTES, "lines"),
    "one line": (lambda n: b"[" * n, MAX_SAMPLES_BYTES, "not the samples"),
    "small samples": (
        lambda n: b'{"task":"x","n_shots":0,"index":0,"prompt":""}\n' * n, MAX_SAMPLES, "0 of 0 right at 1 shots"
    ),
}  # fmt: skip
"""By name: what a file holds, of which size, and what is said of it."""


def test_a_large_ledger_takes_no_gigabytes(cases: Cases, tmp_path: Path) -> None:
    for name in cases.chosen(tuple(LARGE_LEDGERS), quick=2):
        with cases.case(f"a large ledger: {name}"):
            make, size, expected = LARGE_LEDGERS[name]
            (tmp_path / FILE).write_bytes(make(size))
            said = done(_memory_of_ledger, str(tmp_path), log=tmp_path / name)
            assert expected in said and float(said.split()[-2]) < 500, said


def _memory_of_ledger(root: str) -> None:
    _memory_of(lambda: read_ledger(Path(root)))


def test_a_large_file_of_samples_takes_no_gigabytes(cases: Cases, tmp_path: Path) -> None:
    """Neither where it is exported nor where it is looked at whether there is anything to ask."""
    for name in dict.fromkeys(("more bytes than any", *cases.chosen(tuple(LARGE_SAMPLES), quick=0))):
        with cases.case(f"a large file of samples: {name}"):
            make, size, expected = LARGE_SAMPLES[name]
            path = put_performance(Store(tmp_path), "big-1")
            content = make(size)
            samples_path(path).write_bytes(content)
            os.truncate(samples_path(path), len(content) or size)  # a file of zeros takes no room
            if name == "small samples":
                record = json.loads(path.read_bytes())
                path.write_text(json.dumps(record | {"samples_sha256": sha256(content)}))
            del content
            said = done(_memory_of_samples, str(tmp_path), path.relative_to(tmp_path).as_posix(), log=tmp_path / name)
            assert expected in said and float(said.split()[-2]) < 1500, said


def _memory_of_samples(root: str, relative: str) -> None:
    store = Store(Path(root))
    record = PerformanceRecord.model_validate_json((store.root / relative).read_bytes())
    store.performance(record.key)
    _memory_of(lambda: samples_of(store.root, StoredPerformance(path=relative, record=record)))


def test_a_ledger_is_not_written_through_a_link_that_leads_out(cases: Cases, tmp_path: Path) -> None:
    said = Prediction(task="country", task_hash="a" * 64, n_shots=1, predicted=0.5, low=0.4, high=0.6)
    for name in ("a file", "nowhere", "../nowhere"):
        with cases.case(f"a ledger that is a link to {name}"):
            root, outside = tmp_path / name.replace("/", "_") / "results", tmp_path / "outside" / f"{name}.jsonl"
            root.mkdir(parents=True)
            outside.parent.mkdir(exist_ok=True)
            if name == "a file":
                outside.touch()
            target = Path("..") / ".." / "outside" / "up.jsonl" if name == "../nowhere" else outside
            (root / FILE).symlink_to(target)
            before = sorted(outside.parent.iterdir())
            with pytest.raises(StorageError, match="a link leads out of"):
                append(
                    root, (said,), date=strategies.DATE, model="big-1", mode="chat", predictor="shots",
                    fit_sha256="f" * 64,
                )  # fmt: skip
            assert sorted(outside.parent.iterdir()) == before and (root / FILE).is_symlink()
            assert not outside.exists() or outside.read_bytes() == b""


LESS = edited(*RANKED_BY, "value_bits", to=lambda bits: bits - 0.5)
LATER = edited("provenance", "date", to="2027-01-02T03:04:05+00:00")
EARLIER = edited("provenance", "date", to="2025-01-02T03:04:05+00:00")
COPIES: dict[str, tuple[Callable[[bytes], bytes], str, bool]] = {
    "the same bytes": (lambda content: content, "copied", False),
    "another number": (LESS, "copied", False),
    "another number, later by name": (LESS, "zz", True),
    "another number, later": (lambda content: LATER(LESS(content)), "copied", True),
    "another number, earlier and later by name": (lambda content: EARLIER(LESS(content)), "zz", False),
    "another date": (LATER, "copied", False),
    "other blanks": (lambda content: json.dumps(json.loads(content), indent=4).encode(), "copied", False),
}
"""What is done to a copy of a record, the folder that it is put into, and whether its number stands: the later date's
does, of one date that of the later path."""


def test_two_files_of_one_key_count_once(cases: Cases, tmp_path: Path) -> None:
    """Whoever copies a record under another name, or changes a number in the copy, adds no second row."""
    for name, (change, folder, stands) in COPIES.items():
        with cases.case(name):
            root = tmp_path / name
            store = good(root)
            before = rows_as_data(read_board(store, Told()))
            first = store.records()[0][0]
            copy = root / "emergence" / folder / "x.json"
            copy.parent.mkdir()
            copy.write_bytes(change((root / first.path).read_bytes()))
            rows = rows_as_data(read_board(store, Told()))
            assert [(row["name"], row["rank"], tuple(row["seeds"])) for row in rows] == [
                (model, rank, (0,)) for rank, model in enumerate(GOOD, 1)
            ]
            expected = [row["emergence_bits"] for row in before]
            expected[0] -= 0.5 / len(RANKED_TASKS) if stands else 0.0
            assert [row["emergence_bits"] for row in rows] == pytest.approx(expected, abs=1e-9)
