"""`bench features`, `fit`, `estimate` and `ledger` as a person or a script meets them, on a planted zoo."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import proxies.fits
from bench.store import Store
from proxies.features import COLUMNS
from proxies.frames import as_csv, as_parquet, read_cells
from tests.bench.conftest import Answer
from tests.planted_zoo import (
    TASKS,
    emergence_record,
    frame,
    hash_of,
    models,
    performance_record,
    put,
    write_zoo,
)

ROOT = Path(__file__).parent.parent.parent
N_FAMILIES = 4
TO_COME = [("f0-m", TASKS[0])]
ASKED_ENOUGH = ("f0-m", "f3-s")
"""Models that were asked on enough tasks for a fit of their own."""
NOT_ASKED = [(model.name, task) for model in models(N_FAMILIES) if model.name not in ASKED_ENOUGH for task in TASKS[7:]]
HOSTILE = "[red]evil[/red]\x1b[31m\n| <b>`x`"


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as for a large frame."""
    monkeypatch.setattr(proxies.fits, "MANY_ROWS", 0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("planted") / "results", N_FAMILIES, without=(*TO_COME, *NOT_ASKED))


@pytest.fixture(scope="module")
def used(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For commands that may find the fits of others there."""
    return Path(shutil.copytree(planted, tmp_path_factory.mktemp("used") / "results"))


@pytest.fixture
def results(planted: Path, tmp_path: Path) -> Path:
    shutil.copytree(planted, tmp_path / "results")
    return tmp_path / "results"


def last_line(err: str) -> str:
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


# bench features


def test_features_are_counted_and_written(bench: Callable[..., Answer], planted: Path, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "cells.csv", tmp_path / "new" / "cells.parquet"
    status, out, err = bench("features", "--results", planted, "--csv", csv, "--parquet", parquet)
    n_rows = 10 * (3 + len(TASKS)) * 4
    n_both = 10 * len(TASKS) * 2 - 2 * len(TO_COME + NOT_ASKED)
    assert status == 0
    assert out == (
        f"{n_rows} cells of 10 models; {n_both} have emergence and accuracy: 10 models of 4 families on 9 tasks\n"
    )
    assert err == f"{csv}: {n_rows} rows written\n{parquet}: {n_rows} rows written\n"
    pd.testing.assert_frame_equal(read_cells(csv), read_cells(parquet), check_exact=True)
    status, out, _ = bench("features", "--results", planted, "--json")
    assert status == 0 and json.loads(out) == {
        "n_rows": n_rows, "n_with_both": n_both, "n_models": 10, "n_models_with_both": 10, "n_families_with_both": 4,
        "n_tasks_with_both": 9, "excluded": [],
    }  # fmt: skip


def test_columns_are_described(bench: Callable[..., Answer], tmp_path: Path) -> None:
    status, out, _ = bench("features", "--columns", "--results", tmp_path / "none")
    assert status == 0 and all(column.name in out for column in COLUMNS)
    status, out, _ = bench("features", "--columns", "--json")
    assert status == 0 and [item["name"] for item in json.loads(out)] == [column.name for column in COLUMNS]


def test_what_is_left_out_of_the_features_is_said_in_words(bench: Callable[..., Answer], tmp_path: Path) -> None:
    store = Store(tmp_path)
    good, odd = (emergence_record(name, "country", curve=(1.0, 2.0)) for name in ("a", "b"))
    put(store.record_path(good.key), good)
    other = emergence_record("c", "country", curve=(1.0, 2.0), preset="full")
    for record in (odd, other):
        put(store.record_path(record.key), record)
    (tmp_path / "emergence" / "a" / "\x1b[31m[b]bad.json").write_text("{}")
    status, out, err = bench("features", "--results", tmp_path)
    assert status == 0 and out.startswith("4 cells of 2 models; 0 have emergence and accuracy: 0 models of 0 families")
    assert "\x1b" not in out + err and "left out: emergence/a/\ufffd[31m[b]bad.json: " in err
    assert "measured in another way (preset, settings, BOS) than most models on this task" in err
    status, out, _ = bench("features", "--results", tmp_path, "--json")
    assert status == 0 and len(json.loads(out)["excluded"]) == 2


# bench fit


def test_all_fits_are_printed_and_found_again(bench: Callable[..., Answer], results: Path) -> None:
    status, out, err = bench("fit", "--results", results)
    assert status == 0, err
    assert "Performance of families not seen: held-out errors in accuracy" in out
    assert "Emergence of families not seen, from performance: held-out errors in bits" in out
    for model in ASKED_ENOUGH:
        assert f"{model} on tasks not seen" in out
    assert out.count("its baseline") == 2 * 4 and "on trial, beside what is cheap" in out
    assert err.count(".json: written") == 2 + 2 and f"{results / 'fits' / 'report.md'}: written" in err
    assert "nan" not in out.lower()
    first = (results / "fits" / "report.md").read_bytes()
    (results / "fits" / "report.md").unlink()
    status, again, err = bench("fit", "--results", results)
    assert status == 0 and again == out
    assert err.count("fitted before, nothing done") == 4
    assert (results / "fits" / "report.md").read_bytes() == first


def test_a_fit_as_json_is_json_and_nothing_else(bench: Callable[..., Answer], results: Path) -> None:
    status, out, err = bench("fit", "--results", results, "--problem", "models", "--json", "--features", "peak,gain")
    content = json.loads(out)
    assert status == 0 and set(content) == {"fits", "refused"} and content["refused"] == []
    (found,) = content["fits"]
    assert found["was_there"] is False and Path(found["path"]).is_file()
    assert found["record"]["key"]["features"] == ["peak", "gain"] and len(found["record"]["rows"]) == 10
    command = found["record"]["provenance"]["command"]
    assert command == "bench fit --problem models --features peak,gain"
    assert json.loads(Path(found["path"]).read_text()) == found["record"]


def test_a_target_and_its_proxies(bench: Callable[..., Answer], results: Path) -> None:
    names = ",".join(f"f{number}-{size}" for number in range(1, 4) for size in "sm") + ",f0-s"
    status, out, err = bench("fit", "--results", results, "--target", "f0-m", "--proxies", names, "--json")
    (found,) = json.loads(out)["fits"]
    assert status == 0 and found["record"]["proxies"] == sorted(names.split(","))
    assert {row["task"] for row in found["record"]["rows"]} == set(TASKS[1:])


def test_published_scores_are_fitted(bench: Callable[..., Answer], results: Path) -> None:
    scores = ROOT / "results" / "published" / "base_llm_benchmark_eval.csv"
    given = ("fit", "--published", scores, "--benchmark", "HellaSwag", "--results", results)
    status, out, err = bench(*given, "--json")
    (found,) = json.loads(out)["fits"]
    assert status == 0 and found["record"]["key"]["target"] == "HellaSwag"
    assert found["record"]["n_models"] >= 8 and found["record"]["comparisons"] == []
    status, out, err = bench(*given)
    assert status == 0 and "Baselines only: nothing from emergence is on trial." in out
    assert "fitted before, nothing done" in err and "emergence of 0 of" in out
    status, out, err = bench(*given[:3], "--benchmark", "HelaSwag", "--results", results)
    assert (status, out) == (2, "") and "has no scores on 'HelaSwag'; it has MMLU, ARC-C, HellaSwag" in last_line(err)


def test_a_fit_that_is_refused_is_status_1_with_its_counts(bench: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    write_zoo(tmp_path / "two", 2)
    status, out, err = bench("fit", "--results", tmp_path / "two", "--problem", "models")
    assert (status, out) == (1, "")
    assert last_line(err).startswith("bench: no fit was made: 6 models of 2 families (family 0, family 1) have")
    status, out, err = bench("fit", "--results", tmp_path / "two", "--problem", "models", "--json")
    assert status == 1 and json.loads(out)["refused"][0]["problem"] == "models"
    status, out, err = bench("fit", "--results", tmp_path / "few", "--problem", "cells")
    assert status == 1 and "no model was asked on enough tasks; ask one with `bench query" in last_line(err)
    status, out, err = bench("fit", "--results", tmp_path / "two", "--target", "nope")
    assert status == 1 and "no performance of 'nope' in completion mode is in the records" in last_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--features", "peek"), "--features: 'peek' is neither a set nor a column"),
        (("fit", "--results", "{tmp}/none"), "there is no results folder"),
        (("features", "--results", "{tmp}/none"), "there is no results folder"),
        (("fit", "--benchmark", "MMLU"), "name it with --published FILE"),
        (("fit", "--target", "f0-m", "--problem", "models"), "--target names the model of a `cells` fit"),
        (("fit", "--cells", "{tmp}/none.csv"), "cannot read {tmp}/none.csv"),
        (("fit", "--published", "{tmp}/none.csv"), "none.csv"),
        (("estimate", "nope"), "no performance of 'nope' in completion mode is in the records"),
        (
            ("estimate", "f0-m", "--family", "family 9"),
            "no family 'family 9' was measured; did you mean family 3? there",
        ),
        (("ledger", "predict", "nope"), "no performance of 'nope' in completion mode is in the records"),
        (("ledger", "predict", "f3-s"), "f3-s was asked everything that its proxies were measured on"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(
    bench: Callable[..., Answer], used: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    given = filled if "--results" in filled else [*filled, "--results", str(used)]
    status, out, err = bench(*given)
    assert (status, out) == (2, "")
    assert last_line(err).startswith("bench: ") and message.format(tmp=tmp_path) in last_line(err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "--problem", "published"), ("fit", "--mode", "talk"), ("fit", "--seed", "-1"), ("estimate",),
        ("ledger", "predict"), ("ledger", "fly"), ("features", "--csv"),
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(bench: Callable[..., Answer], arguments: tuple[str, ...]) -> None:
    assert bench(*arguments)[0] == 2


# bench estimate


def test_an_estimate_is_printed_with_its_error_and_interval(bench: Callable[..., Answer], results: Path) -> None:
    status, out, err = bench("estimate", "f1-m", "--results", results)
    level = next(model.level for model in models() if model.name == "f1-m")
    # The task that one model was not asked is in no fit.
    assert status == 0, err
    assert "Estimated emergence of f1-m" in out and f"{level:.2f}" in out and "held out: f1-m, f1-s" in out
    assert "none: too few" in out  # of families, for intervals
    status, out, _ = bench("estimate", "f1-m", "--results", results, "--json")
    content = json.loads(out)["record"]
    assert content["left_out"] == ["f1-m", "f1-s"] and content["intervals"] == {}
    assert content["measured_bits"] == pytest.approx(level, abs=2e-3)
    assert content["value_bits"] == pytest.approx(level, abs=0.3)
    assert (results / content["fit"]).is_file()
    served = performance_record("closed", TASKS[1], {1: 100, 4: 500}, served=True)
    put(Store(results).performance_path(served.key), served)
    status, out, err = bench("estimate", "closed", "--results", results)
    assert (status, out) == (2, "")
    assert last_line(err).startswith("bench: closed was not asked ") and TASKS[1] not in last_line(err)
    assert "which the estimate is from; ask it with `bench query closed --tasks " in last_line(err)


# bench ledger


def test_an_empty_ledger_says_how_to_fill_it(bench: Callable[..., Answer], tmp_path: Path) -> None:
    assert bench("ledger", "--results", tmp_path) == (
        0, "the ledger is empty; write predictions into it with `bench ledger predict MODEL`\n", "",
    )  # fmt: skip
    status, out, _ = bench("ledger", "--results", tmp_path, "--json")
    assert status == 0 and json.loads(out) == []


def test_predictions_are_written_then_scored(bench: Callable[..., Answer], results: Path) -> None:
    status, out, err = bench("ledger", "predict", "f0-m", "--results", results)
    assert status == 0, err
    assert "2 predictions, none of them scored yet" in out and "not yet" in out
    assert re.search(r'ledger.jsonl: 2 predictions by ".*" added', err)
    counts = {1: 50, 4: 800}
    late = performance_record("f0-m", TASKS[0], counts, family="family 0", date="2999-01-01T00:00:00+00:00")
    put(Store(results).performance_path(late.key), late)
    status, out, _ = bench("ledger", "--results", results, "--json")
    found = json.loads(out)
    assert status == 0 and [item["accuracy"] for item in found] == [0.05, 0.8]
    assert all(item["is_before"] and item["task_hash"] == hash_of(TASKS[0]) for item in found)
    status, out, _ = bench("ledger", "--results", results)
    assert status == 0 and "2 of 2 predictions scored: mean absolute error" in out
    early = late.model_copy(
        update={"provenance": late.provenance.model_copy(update={"date": "2000-01-01T00:00:00+00:00"})}
    )
    put(Store(results).performance_path(late.key), early)
    status, out, _ = bench("ledger", "--results", results)
    assert status == 0 and "2 were written after the answers and do not count" in out and "late" in out


def test_a_damaged_ledger_is_status_1(bench: Callable[..., Answer], results: Path) -> None:
    (results / "ledger.jsonl").write_text("{}\n")
    for arguments in (("ledger",), ("ledger", "predict", "f0-m")):
        status, out, err = bench(*arguments, "--results", results)
        assert (status, out) == (1, "") and "ledger.jsonl, line 1: schema_version: Field required" in last_line(err)


# Names


def test_hostile_names_are_inert(bench: Callable[..., Answer], tmp_path: Path) -> None:
    """Markup and escape sequences in the name of a model, a family and a task."""
    rows = frame(N_FAMILIES)
    rows["model"] = rows["model"].replace("f1-m", HOSTILE)
    rows["family"] = rows["family"].replace("family 1", HOSTILE)
    (tmp_path / "cells.parquet").write_bytes(as_parquet(rows))
    given = ("--cells", tmp_path / "cells.parquet", "--results", tmp_path)
    printed = []
    for arguments in (
        ("fit", "--problem", "models"),
        ("fit", "--target", HOSTILE),
    ):
        status, out, err = bench(*arguments, *given)
        assert status == 0, err
        printed += [out, err]
    for arguments in (("fit", "--target", "nope"), ("fit", "--target", HOSTILE + "2")):
        status, out, err = bench(*arguments, *given)
        assert status == 1 and "[red]evil[/red]" in err
        printed += [out, err]
    assert not any(re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text) for text in printed)
    assert any("[red]evil[/red]\ufffd[31m | <b>`x`" in text for text in printed)
    report = (tmp_path / "fits" / "report.md").read_text()
    assert "\x1b" not in report and "<b>" not in report.partition("## Verdicts")[2] and "&#91;red&#93;evil" in report
    status, out, _ = bench("fit", "--target", HOSTILE, *given, "--json")
    assert status == 0 and json.loads(out)["fits"][0]["record"]["key"]["target"] == HOSTILE


def test_the_names_of_models_in_a_refusal_are_inert(bench: Callable[..., Answer], tmp_path: Path) -> None:
    served = performance_record(HOSTILE, TASKS[0], {4: 5}, served=True)
    put(Store(tmp_path).performance_path(served.key), served)
    for arguments in (("estimate", "nope"), ("ledger", "predict", "nope"), ("fit", "--target", "nope")):
        status, _, err = bench(*arguments, "--results", tmp_path)
        assert status in (1, 2) and "\x1b" not in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n_parameters", 0.0), ("n_parameters", -1.0), ("accuracy", 1.5), ("accuracy", -0.1), ("chance", 2.0),
        ("n_answered", -1.0), ("n_shots", 0.5), ("n_shots", -1.0), ("n_shots", np.nan), ("emergence", 1e300),
        ("model", ""), ("model", "x" * 301), ("family", "x" * 301), ("task", ""), ("n_bits", 0.0),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_are_refused(
    bench: Callable[..., Answer], tmp_path: Path, column: str, value: object
) -> None:
    """Told in words before anything is fitted, not by a traceback on the way."""
    rows = frame(N_FAMILIES)
    place = rows.index[(rows["model"] == "f1-m") & rows["accuracy"].notna()][0]
    rows.loc[place, column] = value
    (tmp_path / "cells.csv").write_bytes(as_csv(rows))
    status, out, err = bench(
        "fit", "--cells", tmp_path / "cells.csv", "--target", "f1-m", "--results", tmp_path / "results"
    )
    assert (status, out) == (2, "")
    assert f"column {column}, row {place + 1}" in last_line(err) and "expected" in last_line(err)


# Size


def test_ten_thousand_cells_are_fitted_in_seconds(tmp_path: Path) -> None:
    """One target and its proxies: 2,000 tasks at five numbers of shots, 10,000 cells of the target.

    The bound is twice what is promised, for machines that are busy.
    """
    rows = many_cells(n_tasks=2000, n_proxies=8)
    (tmp_path / "cells.parquet").write_bytes(as_parquet(rows))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    given = ("fit", "--cells", "cells.parquet", "--target", "big", "--results", "results", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "bench", *given], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(done.stdout)["fits"]
    assert len(found["record"]["rows"]) == 10_000 and len(found["record"]["proxies"]) == 8
    verdicts = {item["predictor"]: item for item in found["record"]["comparisons"]}
    assert verdicts["emergence"]["n_rows"] == 10_000
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 20, f"{seconds:.1f} s of processor time"


def many_cells(n_tasks: int, n_proxies: int, n_shots: int = 5) -> pd.DataFrame:
    """A target whose accuracy follows the emergence of its proxies, and noise."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({column.name: pd.Series(dtype=np.float64) for column in COLUMNS})
    tasks = np.repeat([f"task {number}" for number in range(n_tasks)], n_shots)
    hashes = np.repeat([hash_of(str(number)) for number in range(n_tasks)], n_shots)
    shots = np.tile(np.arange(1.0, n_shots + 1), n_tasks)
    effect = np.repeat(rng.normal(size=n_tasks), n_shots) + 0.3 * shots
    parts = []
    for number in range(n_proxies + 1):
        is_target = number == n_proxies
        emergence = effect + 0.1 * number + rng.normal(scale=0.2, size=len(shots))
        log_odds = effect - 1 + rng.normal(scale=0.5, size=len(shots))
        names = ("over_twin", "over_random_words", "depth_slope", "growth_per_shot")
        part = pd.DataFrame(
            {
                "model": "big" if is_target else f"p{number}", "family": f"family {number % 4}",
                "files_sha256": f"{number}" * 64, "dtype": "float32", "kind": "published", "variant": "base",
                "precision": "float32", "mode": "completion", "task": tasks, "task_hash": hashes, "n_shots": shots,
                "estimator": "noisy_channel", "preset": "quick", "target": "measured", "n_bits": 16.0,
                "n_parameters": 1e6 * 2**number, "n_blocks": 4.0, "accuracy": 1 / (1 + np.exp(-log_odds)),
                "n_answered": 100.0, "chance": 0.0, "ability": log_odds,
                "emergence": np.nan if is_target else emergence,
                **{name: np.nan if is_target else emergence * 0.5 + rng.normal(size=len(shots)) for name in names},
            }
        )  # fmt: skip
        parts.append(part)
    return pd.concat(parts, ignore_index=True).reindex(columns=rows.columns).astype(
        {column.name: object for column in COLUMNS if column.unit in ("name", "hex")}
    )  # fmt: skip
