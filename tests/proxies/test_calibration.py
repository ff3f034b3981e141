"""Report, tables and data from calibration results: bytes, notes, and hostile names."""

import json
import random
import re
from typing import get_args

import pytest
from rich.console import Console

from bench.calibration.results import CaseResult
from bench.store import RejectedFile
from proxies import calibration
from proxies.calibration import INTRODUCTION, report, rows_as_data, tables
from proxies.calibration_bars import bars
from proxies.calibration_lines import FAMILIES
from tests.calibration_factory import (
    HOSTILE,
    LOW_RANK,
    codes_case,
    cube,
    good_cases,
    good_coverage,
    hostile,
    make_case,
    make_cost,
    make_coverage,
    paper_case,
)

CODE = "list-codes-16p4-768d"


def markdown_tables(text: str) -> dict[str, list[list[str]]]:
    """The cells of every table by its heading, header first, without the ruler."""
    found = {}
    for section in text.split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        found[section.splitlines()[0]] = [line.strip("|").split("|") for line in (lines[0], *lines[2:])]
    return {title: [[cell.strip() for cell in row] for row in rows] for title, rows in found.items()}


def test_without_results_there_are_only_bars() -> None:
    n_bars = len(bars([], [], []))
    assert f"**Bars that hold: 0, that fail: 0, not measured: {n_bars}.**" in report([], [], [])
    assert len(tables([], [], [])) == 1
    assert [row["kind"] for row in rows_as_data([], [], [])] == ["bar"] * n_bars


def test_every_family_has_a_title() -> None:
    assert set(FAMILIES) == set(get_args(CaseResult.model_fields["family"].annotation))


def test_the_order_of_the_results_changes_no_byte() -> None:
    cases, coverage, cost = good_cases(), good_coverage(), [make_cost(), make_cost(d_model=64)]
    cases += [cases[0].model_copy(update={"seconds": 2.5}), paper_case("again")]
    text, data = report(cases, coverage, cost), rows_as_data(cases, coverage, cost)
    for seed in range(5):
        for found in (cases, coverage, cost):
            random.Random(seed).shuffle(found)
        assert report(cases, coverage, cost) == text
        assert rows_as_data(cases, coverage, cost) == data


def test_rows_say_what_a_reader_must_know() -> None:
    cases = [
        paper_case(),
        make_case("crossfit_nce", LOW_RANK, truth=5.0, estimate=5.2),
        make_case("crossfit_nce", f"{LOW_RANK}-again", truth=10.0, estimate=9.6, cap_bits=10.0, seed=3),
        make_case("gaussian", LOW_RANK, truth=5.0, refusal=f"too few samples {'x' * 300}"),
    ]
    rows = markdown_tables(report(cases, [], []))["Gaussians of low rank"]
    by = {(row[4], row[0]): dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    over = by["crossfit&#95;nce", f"the case {LOW_RANK}"]
    assert (over["truth"], over["estimate"], over["error"]) == ("5.000", "5.200 ± 0.033", "+0.200")
    assert over["note"] == "above truth"
    assert by["crossfit&#95;nce", f"the case {LOW_RANK}-again"]["note"] == "saturated; seed 3"
    refused = by["gaussian", f"the case {LOW_RANK}"]
    assert (refused["estimate"], refused["error"], refused["cap"]) == ("-", "-", "-")
    assert re.fullmatch(r"refused: too few samples x+…", refused["note"]) and len(refused["note"]) < 140
    paper = by["mine&#95;paper", f"the case {LOW_RANK}"]
    assert paper["estimate"] == "3.000 ± 0.082"
    assert paper["note"] == "training maximum 9.000 (error +4.000); last epoch 8.500 (error +3.500)"


def test_the_noisy_channel_is_shown_at_its_finest_scale_and_at_its_headline() -> None:
    """Where the truth of a scale is not known, the exact information stands there, and the row says so."""
    text = report([codes_case("noisy_channel", CODE, 15.0), cube()], [], [])
    rows = [row[3:7] + row[9:] for row in markdown_tables(text)["Codes: enumerated lists and cubes"][1:]]
    assert rows == [
        ["8.000", "noisy&#95;channel, s=0.01", "8.000 ± 0.016", "+0.000", "saturated"],
        ["6.000", "noisy&#95;channel, s=0.16", "6.000 ± 0.016", "+0.000", ""],
        ["15.000", "noisy&#95;channel, s=0.01", "15.000 ± 0.016", "+0.000", "saturated; truth without noise"],
        ["15.000", "noisy&#95;channel, s=0.16", "10.500 ± 0.016", "-4.500", "truth without noise"],
    ]
    known = markdown_tables(text)["The noisy channel where its value is known"]
    assert [row[3] for row in known[1:]] == ["s=0.01", "s=0.16", "s=0.64"]
    assert {row[7] for row in known[1:]} == {"0.050"}  # 4 x 0.01 + 0.01


def test_estimators_with_several_settings_are_told_apart() -> None:
    cases = [
        make_case("crossfit_nce", LOW_RANK, settings={"n_steps": n_steps, "scales": (0.5, 1.0)})
        for n_steps in (150, 600)
    ]
    found = markdown_tables(report(cases, [], []))
    assert {row[4] for row in found["Gaussians of low rank"][1:]} == {
        "crossfit&#95;nce &#35;1", "crossfit&#95;nce &#35;2"
    }  # fmt: skip
    assert [row[1] for row in found["Settings"][1:]] == [
        "n&#95;steps 150, scales 0.5 1",
        "n&#95;steps 600, scales 0.5 1",
    ]


def test_the_cost_table_compares_on_the_same_rows_and_extrapolates_the_paper() -> None:
    (title,) = [name for name in markdown_tables(report([], [], [make_cost()])) if name.startswith("Cost")]
    rows = markdown_tables(report([], [], [make_cost()]))[title][1:]
    assert [row[5] for row in rows] == ["5,556", "2,500", "-", "-", "-"]
    assert rows[-1][1:5] == ["extrapolated", "300,000", "-", "500,000"]  # ten times the rows, ten times 50,000 s


def test_coverage_comes_with_wilsons_interval() -> None:
    found = [make_coverage(n_covered_mean=80, n_truth=70)]
    header, row = markdown_tables(report([], found, []))["Coverage of the 90 % intervals"]
    assert header[6:] == ["coverage", "of the target", "of the mean", "of the truth"]
    assert row[6:] == ["70.0 % (60.4 % to 78.1 %)", "90.0 %", "80.0 %", "70.0 %"]


def test_data_for_machines_holds_every_row_and_is_json() -> None:
    found = rows_as_data(good_cases(), good_coverage(), [make_cost()])
    assert json.loads(json.dumps(found, allow_nan=False))
    kinds = [row["kind"] for row in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "bar": len(bars([], [], [])),
        "case": len(good_cases()) + 5,  # two rows for each of the five cases of the noisy channel
        "coverage": 15,
        "cost": 5,
    }
    (refused, *_) = [row for row in found if row.get("refusal")]
    assert refused["value_bits"] is None and refused["error_bits"] is None


def test_hostile_names_are_text_and_nothing_else() -> None:
    rejected = [RejectedFile(path=HOSTILE, reason=HOSTILE)]
    text = report(*hostile(), rejected).removeprefix(INTRODUCTION)
    for markup in ("<", "`x`", "](", "http:", "*b*", "_c_", "www.d", ":smile:", "\u202e", "$"):
        assert markup not in text, markup
    for lines in (section.splitlines() for section in text.split("\n## ")[1:]):
        widths = {line.count("|") for line in lines if line.startswith("|")}
        assert len(widths) == 1, "a cell broke its row"
    assert text.count("\n#") == text.count("\n## ")
    assert "## Not valid records" in text


def test_the_terminal_shows_the_same_cells_and_reads_no_markup() -> None:
    cases, coverage, cost = hostile()
    cases.append(make_case("gaussian", "plain", description="[red]plain[/red]", estimate=1.0))
    console = Console(width=4_000)
    with console.capture() as capture:
        for table in tables(cases, coverage, cost):
            console.print(table)
    text = capture.get()
    assert "[red]plain[/red]" in text and "1.000 ± 0.033" in text and "\u202e" not in text
    assert [table.row_count for table in tables(cases, coverage, cost)] == [
        len(rows) - 1 for rows in markdown_tables(report(cases, coverage, cost)).values()
    ]


def test_everything_in_the_tables_is_escaped_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(calibration, "markdown_cell", lambda text: seen.append(text) or "x")
    text = report(good_cases(), good_coverage(), [make_cost()])
    assert all(set(row) == {"x"} for rows in markdown_tables(text).values() for row in rows)
    assert "list-codes" not in text and any("list-codes" in item for item in seen)
