"""`bench export` and `bench schema` as a person or a script meets them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.schemas import KINDS, schema_text
from bench.store import Store
from proxies.export_table import COLUMNS
from tasks import RANKED_TASKS
from tests.bench.conftest import Answer
from tests.performance_factory import make_performance
from tests.record_factory import make_record

HOSTILE = "[red]=evil[/red]\x1b[31m\n| <b>`x`"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    store = Store(tmp_path / "results")
    for task in RANKED_TASKS:
        store.write_record(make_record(model="tiny", task=task))
        store.write_record(make_record(model="limited", task=task, is_enumerated=False))
    return store.root


def test_a_table_is_written_and_what_is_left_out_is_said_on_stderr(
    bench: Callable[..., Answer], results: Path, tmp_path: Path
) -> None:
    status, out, err = bench("export", "--format", "csv", "--results", results, "--out", tmp_path / "board.csv")
    assert (status, out) == (0, f"{tmp_path / 'board.csv'}: 1 file written, 1 model\n")
    lines = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == len(RANKED_TASKS)
    assert all(line.startswith("left out: emergence/limited/") and "limited to" in line for line in lines)
    with (tmp_path / "board.csv").open(encoding="utf-8", newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["tiny"]


def test_without_out_it_lies_in_exports(
    bench: Callable[..., Answer], results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, where in (("csv", "exports/leaderboard.csv"), ("parquet", "exports/leaderboard.parquet")):
        assert bench("export", "--format", name)[1].startswith(f"{where}: 1 file written")
        assert Path(where).is_file()
    assert bench("export", "--format", "hf")[1] == "exports/hf: 2 files written, 1 model\n"


def test_json_names_files_and_what_is_left_out(bench: Callable[..., Answer], results: Path, tmp_path: Path) -> None:
    status, out, _ = bench("export", "--format", "hf", "--results", results, "--out", tmp_path / "hf", "--json")
    told = json.loads(out)
    assert status == 0 and set(told) == {"files", "not_exported"}
    assert sorted(told["files"]) == sorted(str(path) for path in (tmp_path / "hf").rglob("*") if path.is_file())
    assert len(told["files"]) == 2 and len(told["not_exported"]) == len(RANKED_TASKS)
    assert set(told["not_exported"][0]) == {"what", "reason"}


def test_columns_are_explained(bench: Callable[..., Answer]) -> None:
    status, out, err = bench("export", "--columns")
    assert (status, err) == (0, "")
    for column in COLUMNS:
        assert f" {column.name} " in out
    assert "half the 95 % interval" in out
    told = json.loads(bench("export", "--columns", "--json")[1])
    assert [(entry["name"], entry["unit"]) for entry in told] == [(column.name, column.unit) for column in COLUMNS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--format says in which shape: lm-eval, hf, csv or parquet"),
        (("--format", "csv", "--models", " , "), "--models names no model"),
        (("--format", "csv", "--models", "tinny"), "nothing to export of 'tinny'; did you mean 'tiny'?"),
        (("--format", "csv", "--models", HOSTILE), "nothing to export of '[red]=evil"),
        (("--format", "csv", "--results", "missing"), "there is no results folder missing"),
        (("--format", "lm-eval"), "holds nothing to export; run `bench query MODEL` first"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_status_2(
    bench: Callable[..., Answer],
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(results.parent)
    status, out, err = bench("export", *arguments)
    assert (status, out) == (2, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("bench: ") and message in last and "\x1b" not in err
    assert not Path("exports").exists()


def test_an_unknown_format_names_the_known_ones(bench: Callable[..., Answer]) -> None:
    status, _, err = bench("export", "--format", "xlsx")
    assert status == 2 and "parquet" in err


def test_a_hostile_name_reaches_no_terminal(bench: Callable[..., Answer], results: Path, tmp_path: Path) -> None:
    store = Store(results)
    for task in RANKED_TASKS:
        store.write_record(make_record(model=HOSTILE, task=task))
    store.write_performance(make_performance(model=HOSTILE, n_failed=3), [])
    (results / "emergence" / "x").mkdir()
    (results / "emergence" / "x" / "\x1b[31mred.json").write_text("{}", encoding="utf-8")
    status, out, err = bench("export", "--format", "hf", "--results", results, "--out", tmp_path / "hf")
    assert status == 0 and "6 of" in err and "[31mred.json" in err
    assert not any(letter in out + err for letter in "\x1b\r")
    assert len([line for line in err.splitlines() if line.startswith("left out: ")]) == len(RANKED_TASKS) + 2


def test_schemas_are_listed_and_printed(bench: Callable[..., Answer]) -> None:
    status, out, _ = bench("schema")
    assert status == 0 and all(f" {kind} " in out for kind in (*KINDS, "task"))
    assert [entry["kind"] for entry in json.loads(bench("schema", "--json")[1])] == [*KINDS, "task"]
    assert bench("schema", "fit") == (0, schema_text("fit"), "")
    assert json.loads(bench("schema", "task")[1])["$id"] == "urn:emergence-bench:task-file:1"


def test_schemas_are_written_into_a_folder(bench: Callable[..., Answer], tmp_path: Path) -> None:
    status, out, err = bench("schema", "--out", tmp_path / "new")
    assert (status, out) == (0, "") and err.count(": written") == len(KINDS)
    assert len(list((tmp_path / "new").iterdir())) == len(KINDS)
    assert bench("schema", "fit", "--out", tmp_path)[0] == 2


def test_an_unknown_kind_is_one_line_and_status_2(bench: Callable[..., Answer]) -> None:
    status, out, err = bench("schema", "emergense")
    assert (status, out) == (2, "") and "did you mean emergence?" in err and err.count("\n") == 1


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    heavy = {"pandas", "numpy", "pydantic", "huggingface_hub", "proxies", "bench.schemas"}
    code = f"import sys, bench.cli_export; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
