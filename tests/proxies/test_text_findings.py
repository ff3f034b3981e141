"""Planted probes -> the verdicts that were planted; the committed document is what the committed records give."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from bench.probe_records import ProbeRecord
from bench.store import LOCK_FILE, Store
from proxies.text_findings import PICTURE, blocks, contents, headline, main, only_by_emergence, readings_of
from proxies.text_findings_picture import picture
from tests.probe_factory import make_comparison, make_probe

ROOT = Path(__file__).parent.parent.parent
APART = (0.3, 0.1)
NAMES = ("a", "b", "c")


def parts(records: list[ProbeRecord]) -> dict[str, str]:
    return blocks(readings_of(records, {})[0])


def told(records: list[ProbeRecord]) -> str:
    return headline(readings_of(records, {})[0])


def test_texts_that_are_not_told_apart() -> None:
    records = [make_probe(name) for name in NAMES]
    assert told(records).startswith("**Emergence does not tell these texts from the reference**")
    assert "emergence tells 0 of 3 texts from people; counting tokens tells 0" in parts(records)["verdict"]


def test_texts_that_emergence_alone_tells_apart() -> None:
    apart = make_comparison(emergence=APART)
    records = [make_probe("a", comparisons=(apart,)), make_probe("b")]
    assert told(records).startswith(
        "**Emergence tells text from reference in 1 of 2 readings (a text through a proxy), in 1 of them alone**: "
        "nothing cheaper tells a through reader."
    )
    assert only_by_emergence(readings_of(records, {})[0]) == [("a", "reader")]
    assert "Settled, with more emergence than people: a." in parts(records)["verdict"]
    below = [make_probe("a", comparisons=(make_comparison(emergence=(-0.3, 0.1)),))]
    assert "Settled, with less emergence than people: a." in parts(below)["verdict"]


@pytest.mark.parametrize("cheaper", [{"counted": APART}, {"bag": (0.7, 0.1)}, {"perplexity": APART}])
def test_texts_that_something_cheaper_tells_apart_too(cheaper: dict[str, tuple[float, float]]) -> None:
    records = [make_probe(name, comparisons=(make_comparison(emergence=APART, **cheaper),)) for name in NAMES]
    assert told(records).startswith("**Emergence tells nothing that is not cheaper to have**: ")
    assert "in 3 of 3 readings" in told(records)
    assert only_by_emergence(readings_of(records, {})[0]) == []


def test_saturated_texts_say_nothing_however_far_apart() -> None:
    records = [make_probe(name, comparisons=(make_comparison(emergence=APART, is_saturated=True),)) for name in NAMES]
    assert told(records).startswith("**Saturated**")
    found = parts(records)
    assert "emergence tells 0 of 3 texts from people (3 saturated)" in found["verdict"]
    assert "| +0.300 (+0.200 to +0.400) † |" in found["differences"]
    one = [*records[:2], make_probe("c")]
    assert told(one).startswith("**Emergence does not tell")


def test_the_smallest_number_of_windows_is_that_from_which_on_it_is_always_enough() -> None:
    sizes = (
        make_comparison(100, emergence=APART, counted=APART, bag=(0.7, 0.1)),
        make_comparison(200, bag=(0.7, 0.1), counted=APART),
        make_comparison(400, emergence=APART, counted=APART),
    )
    table = parts([make_probe("a", comparisons=sizes)])["windows"]
    assert "| a | reader | 400 | 100 | - | - |" in table
    assert "of 100, 200, 400;" in table


def test_what_separates_is_bold_and_what_does_not_is_not() -> None:
    rows = parts([make_probe("a", comparisons=(make_comparison(counted=(-0.2, 0.1), bag=(0.65, 0.05)),))])[
        "differences"
    ]
    assert (
        "| a | reader | +0.000 (-0.100 to +0.100) | **-0.200** (-0.300 to -0.100) | **0.65** (0.60 to 0.70) | "
        "+0.00 (-0.10 to +0.10) |" in rows
    )


def test_a_control_that_separates_is_told() -> None:
    records = [make_probe(name, control=make_comparison(counted=APART)) for name in NAMES]
    assert "200 a side, is told apart by counting tokens." in parts(records)["verdict"]
    records = [make_probe(name, control=make_comparison()) for name in NAMES]
    assert "is not told apart by anything." in parts(records)["verdict"]
    assert "No control:" in parts([make_probe("a")])["verdict"]


def test_writers_stand_by_family_and_size_and_those_of_unknown_size_last() -> None:
    ranks = {"a": ("Z", 5), "b": ("A", 7), "c": ("A", 3)}
    (reading,) = readings_of([make_probe(name) for name in ("d", *NAMES)], ranks)[0]
    assert [name for name, _ in reading.records] == ["c", "b", "a", "d"]


def test_what_does_not_compare_is_left_out_and_told() -> None:
    records = [*map(make_probe, NAMES), make_probe("d", seed=7), make_probe(None)]
    readings, left_out = readings_of(records, {})
    assert [name for name, _ in readings[0].records] == list(NAMES)
    assert len(left_out) == 2 and any(
        line.startswith("d, read by reader: its text was read in another") for line in left_out
    )


def test_two_texts_of_one_writer_are_named() -> None:
    (reading,) = readings_of([make_probe("a"), make_probe("a", text="text:other"), make_probe("b")], {})[0]
    assert sorted(name for name, _ in reading.records) == ["a (text:a)", "a (text:other)", "b"]


def test_nothing_read_gives_a_whole_document_that_says_so() -> None:
    assert parts([])["verdict"].startswith("No text was read yet")
    assert b"No text was read yet." in picture([])


def test_the_order_of_the_records_changes_no_byte() -> None:
    records = [make_probe(name, proxy=proxy) for name in NAMES for proxy in ("reader", "other")]
    shuffled = random.Random(0).sample(records, len(records))
    assert readings_of(records, {}) == readings_of(shuffled, {})


def test_names_from_data_are_inert() -> None:
    nasty = "a|b\n<script>alert(1)</script> [x](javascript:y)"
    found = parts([make_probe(nasty, proxy=nasty, comparisons=(make_comparison(emergence=APART),))])
    assert not any("<script" in text or "](javascript" in text for text in found.values())
    rows = [line for line in found["differences"].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_the_command_writes_document_and_picture_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    for name in NAMES:
        store.write_probe(make_probe(name))
    (tmp_path / "results" / "probe" / "reader" / "no.json").write_text("{}")
    document = tmp_path / "probe.md"
    document.write_bytes((ROOT / "docs" / "probe.md").read_bytes())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert main([str(store.root), str(document)]) == 0
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert written == {store.root / PICTURE, store.root / LOCK_FILE}
    first = document.read_bytes(), (store.root / PICTURE).read_bytes()
    assert main([str(store.root), str(document)]) == 0
    assert first == (document.read_bytes(), (store.root / PICTURE).read_bytes())
    by_hand = [
        re.sub(r"(?<=-->\n).*?(?=<!-- end)", "", text, flags=re.DOTALL)
        for text in (first[0].decode(), (ROOT / "docs" / "probe.md").read_text(encoding="utf-8"))
    ]
    assert by_hand[0] == by_hand[1]
    assert "left out: probe/reader/no.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("typo",), "expected a results folder with `probe` in it, got typo"),
        (("results", "typo.md"), "there is no document typo.md"),
        (("results", "probe.md", "more"), "at most a results folder and a document, got 3 arguments"),
        (("results", "empty.md"), "expected one line `<!-- begin NAME -->` for each of"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("results/probe").mkdir(parents=True)
    Path("empty.md").write_text("by hand\n")
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert {path.name for path in Path().rglob("*") if path.is_file()} - {LOCK_FILE} == {"empty.md"}


def test_the_committed_document_and_its_picture_are_those_of_the_records() -> None:
    document = (ROOT / "docs" / "probe.md").read_text(encoding="utf-8")
    (filled, image), _ = contents(Store(ROOT / "results"), document)
    assert document.encode() == filled, "run `python -m proxies.text_findings`"
    assert (ROOT / "results" / PICTURE).read_bytes() == image, "run `python -m proxies.text_findings`"
