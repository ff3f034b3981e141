"""The model zoo: what is missing, how long it takes, who does it; on tiny models from a folder to the last record."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import bench.models
from bench.catalog import CATALOG, LADDER_FAMILY, resolve
from bench.cli_zoo import zoo
from bench.errors import StorageError, UsageError
from bench.models import identify
from bench.query import QueryOutcome
from bench.records import ModelInfo
from bench.run import RunOutcome
from bench.store import Store
from bench.terminal_zoo import duration
from bench.zoo import (
    CHECKPOINTS,
    LADDER,
    LEAST_SCALE,
    ZOO,
    Job,
    JobPlan,
    Timing,
    as_data,
    carry_out,
    dealt,
    estimated_seconds,
    plan,
    select,
    timings,
)
from bench.zoo_weights import rounded_identity
from tasks import TASKS
from tests.bench.tiny_models import save_list_model
from tests.bench.told import Told
from tests.performance_factory import make_performance
from tests.record_factory import make_record

ROOT = Path(__file__).parent.parent.parent
Answer = tuple[int, str, str]


@pytest.fixture
def bench_zoo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Runs `bench zoo` on a zoo of one's own; gives status, stdout and stderr."""
    from bench.cli import main

    def call(jobs: tuple[Job, ...], *arguments: str) -> Answer:
        monkeypatch.setattr("bench.zoo.ZOO", jobs)
        with pytest.raises(SystemExit) as ended:
            main(("zoo", *arguments))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_list_model(tmp_path_factory.mktemp("models") / "tiny"))


def jobs_of(model: str) -> tuple[Job, ...]:
    return (
        Job(kind="emergence", model=model, tasks=("antonym",)),
        Job(kind="performance", model=model, tasks=("antonym", "country")),
    )


def records(jobs: tuple[Job, ...]) -> list[tuple[str, str, str, str, int]]:
    return [(job.kind, job.model, task, job.method, job.seed) for job in jobs for task in job.tasks]


def test_the_zoo_asks_for_each_record_once_and_for_nothing_unknown() -> None:
    assert max(Counter(records(ZOO)).values()) == 1
    assert {task for job in ZOO for task in job.tasks} == set(TASKS)
    for name in {job.model for job in ZOO}:
        assert resolve(name).name == name


def test_every_committed_record_is_one_of_the_zoo() -> None:
    store = Store(ROOT / "results")
    emergence = [item.record.key for item in store.records()[0]]
    performance = [item.record.key for item in store.performances()[0] if item.record.key.provider == "local"]
    committed = {("emergence", key.model, key.task, key.estimator, key.seed) for key in emergence}
    committed |= {("performance", key.model, key.task, key.mode, key.seed) for key in performance}
    assert committed and committed <= set(records(ZOO))


def test_the_ladder_is_what_the_catalog_says() -> None:
    family = {name for name, entry in CATALOG.items() if entry.family == LADDER_FAMILY}
    assert {*LADDER, *CHECKPOINTS} == family and not set(LADDER) & set(CHECKPOINTS)
    sizes = [CATALOG[name].n_parameters or 0 for name in LADDER]
    assert sizes == sorted(set(sizes))
    assert all(any(name.startswith(f"{size}-") for size in LADDER) for name in CHECKPOINTS)


def test_what_is_missing_is_told_then_measured_then_there(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    jobs, where = jobs_of(model), ("--out", str(tmp_path / "results"))
    status, out, err = bench_zoo(jobs, *where, "--dry-run")
    assert status == 0
    assert "3 of 3 records are missing, about " in out
    assert "(estimated as `bench plan` does), and 2 more of which no record here is like them, time unknown" in out
    assert "1 of 1" in out and "2 of 2" in out and "?" in out
    assert not (tmp_path / "results").exists()
    status, out, err = bench_zoo(jobs, *where)
    assert status == 0
    assert "emergence in bits" in out and "Accuracy with its 95 % interval" in out
    assert "1/2: " in err and "2/2: " in err and err.count(": written") == 5  # with the report and its picture
    assert len(list(tmp_path.glob("results/*/*/*.json"))) == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    status, out, err = bench_zoo(jobs, *where)
    assert (status, out) == (0, "nothing is missing: all 3 records are there\n")
    assert "loading" not in err and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_record_of_a_zoo_holds_the_command_that_makes_it(model: str, tmp_path: Path) -> None:
    found = plan(jobs_of(model)[:1], tmp_path, Told())
    (outcome,) = carry_out(found.jobs[0], tmp_path, Told())
    assert outcome.record.provenance.command == (
        "bench run tiny --tasks antonym --preset quick --estimator noisy_channel --seed 0"
    )


def test_after_a_kill_only_the_rest_is_missing(model: str, tmp_path: Path) -> None:
    jobs = jobs_of(model)
    first, second = plan(jobs, tmp_path, Told()).jobs
    assert (first.missing, second.missing) == (("antonym",), ("antonym", "country"))
    next(carry_out(second, tmp_path, Told()))  # one record of the job, and no more
    left = plan(jobs, tmp_path, Told())
    assert [part.missing for part in left.jobs] == [("antonym",), ("country",)]
    assert (left.n_missing, left.n_records) == (2, 3)
    assert [outcome.record.key.task for outcome in carry_out(left.jobs[1], tmp_path, Told())] == ["country"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), StorageError("disk full")], ids=["signal", "disk"])
def test_the_report_holds_what_was_answered_before_an_interruption(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    first = jobs_of(model)[1]

    def stopped(part: JobPlan, *rest: Any, device: str) -> Iterator[RunOutcome | QueryOutcome]:
        if part.job != first:
            raise stop
        yield from carry_out(part, *rest, device=device)

    monkeypatch.setattr("bench.zoo.ZOO", (first, replace(first, seed=1)))
    monkeypatch.setattr("bench.zoo.carry_out", stopped)
    with pytest.raises(type(stop)) as raised:
        zoo(out=tmp_path)
    assert raised.value is stop
    assert "## tiny, completion" in (tmp_path / "performance/report.md").read_text()
    assert (tmp_path / "performance/picture.svg").exists()


def test_what_stopped_the_work_is_told_also_where_no_report_can_be_written(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(part: JobPlan, *rest: Any, device: str) -> Iterator[RunOutcome | QueryOutcome]:
        yield from carry_out(part, *rest, device=device)
        (tmp_path / "performance/report.md").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.zoo.ZOO", jobs_of(model)[1:])
    monkeypatch.setattr("bench.zoo.carry_out", stopped)
    with pytest.raises(KeyboardInterrupt):
        zoo(out=tmp_path)


def test_a_report_that_a_kill_left_behind_is_brought_up_to_date_though_nothing_is_missing(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    jobs, where = jobs_of(model)[1:], ("--out", str(tmp_path))
    list(carry_out(plan(jobs, tmp_path, Told()).jobs[0], tmp_path, Told()))  # and killed before the report
    report, picture = (tmp_path / "performance" / name for name in ("report.md", "picture.svg"))
    assert bench_zoo(jobs, *where, "--dry-run")[0] == 0
    assert not report.exists()  # a dry run writes nothing
    assert bench_zoo(jobs, *where)[:2] == (0, "nothing is missing: all 2 records are there\n")
    right = report.read_bytes()
    assert b"## tiny, completion" in right
    report.write_text("as it was before")
    picture.unlink()
    _, _, err = bench_zoo(jobs, *where)
    assert err.count(": written") == 2 and report.read_bytes() == right and picture.exists()
    assert ": written" not in bench_zoo(jobs, *where)[2]


def test_a_record_that_was_deleted_is_missing_again(model: str, tmp_path: Path) -> None:
    (job,) = jobs_of(model)[:1]
    (outcome,) = carry_out(plan([job], tmp_path, Told()).jobs[0], tmp_path, Told())
    assert plan([job], tmp_path, Told()).n_missing == 0
    assert plan([replace(job, seed=1)], tmp_path, Told()).n_missing == 1
    outcome.path.unlink()
    assert plan([job], tmp_path, Told()).n_missing == 1


def test_nothing_is_loaded_to_tell_and_weights_are_read_once(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(entry: Any, progress: Any = None) -> Any:
        read.append(entry.name)
        return identify(entry, progress)

    def never(*given: object, **also: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(bench.models, "identify", counted)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", never)
    rounded = replace(jobs_of(model)[1], model=f"{model}@int4")
    assert plan((*jobs_of(model), rounded), tmp_path, Told()).n_missing == 5
    assert read == ["tiny"]


def test_a_rounded_model_is_identified_as_the_loader_does(model: str) -> None:
    for name in (f"{model}@int4", f"{model}@int2"):
        assert rounded_identity(resolve(name), identify(resolve(model))) == identify(resolve(name))


def test_a_task_that_the_tokenizer_has_too_few_names_for_is_left_out(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    job = replace(jobs_of(model)[0], tasks=("element", "antonym"))
    status, out, _ = bench_zoo((job,), "--out", str(tmp_path), "--dry-run")
    assert "1 of 1 records are missing" in out and "left out: " in out
    assert "task 'element': 3 of its 71 names" in out
    assert bench_zoo((job,), "--out", str(tmp_path))[0] == 0
    assert "nothing is missing: all 1 records are there" in bench_zoo((job,), "--out", str(tmp_path))[1]


def test_a_model_that_cannot_be_had_stops_no_other(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    gone = shutil.copytree(model, tmp_path / "gone")
    (gone / "model.safetensors").unlink()
    jobs = (replace(jobs_of(model)[0], model=str(gone)), jobs_of(model)[0])
    status, out, err = bench_zoo(jobs, "--out", str(tmp_path / "results"))
    assert "cannot tell" in out and "has no weights; expected model.safetensors" in out
    assert "1 of 2 records are missing" in out and "of 1 records it cannot be told whether they are there" in out
    assert status == 1 and len(list(tmp_path.glob("results/emergence/tiny/*.json"))) == 1
    assert "not everything was measured: 0 jobs failed, 1 models cannot be had" in err
    status, out, _ = bench_zoo(jobs, "--out", str(tmp_path / "results"), "--dry-run")
    assert status == 0 and "nothing is missing" not in out  # a dry run has nothing to fail at


def test_a_job_that_fails_is_told_and_the_next_is_done(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "bad")
    damaged = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        damaged.transformer.ln_f.weight[0] = math.nan
    damaged.save_pretrained(folder)
    jobs = (replace(jobs_of(model)[0], model=str(folder)), jobs_of(model)[0])
    status, out, err = bench_zoo(jobs, "--out", str(tmp_path / "results"), "--json")
    content = json.loads(out)
    assert status == 1 and "1 jobs failed, 0 models cannot be had" in err
    assert [Path(path).parent.name for path in content["written"]] == ["tiny"]
    (failure,) = content["failed"]
    assert "bad, emergence" in failure["job"] and "nan" in failure["reason"].lower()


def test_help_says_that_a_dry_run_may_fetch_models(bench_zoo: Callable[..., Answer]) -> None:
    status, out, _ = bench_zoo(ZOO, "--help")
    shown = " ".join(re.findall(r"[\w,;.]+", out))  # without the frame and its line breaks
    assert status == 0 and "Tell what is missing, and stop; may fetch models, loads none." in shown


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("failing", ["", "zoo", "leaderboard", "proxies.findings"])
def test_make_measure_writes_the_reports_and_keeps_the_status(failing: str, tmp_path: Path) -> None:
    ready, log = tmp_path / "venv/.ready", tmp_path / "log"
    (tmp_path / "venv/bin").mkdir(parents=True)
    ready.touch()
    for name in ("bench", "python"):
        program = tmp_path / "venv/bin" / name
        program.write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase " $* " in *" {failing or "none"} "*) exit 7 ;; esac\n')
        program.chmod(0o755)
    made = subprocess.run(
        ["make", "measure", f"VENV={tmp_path / 'venv'}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert log.read_text().splitlines() == ["zoo --out results", "leaderboard", "-m proxies.findings"]
    assert (made.returncode, "Error 7" in made.stderr) == ((2, True) if failing else (0, False))


def test_json_tells_every_job(bench_zoo: Callable[..., Answer], model: str, tmp_path: Path) -> None:
    status, out, _ = bench_zoo(jobs_of(model), "--out", str(tmp_path), "--dry-run", "--json")
    content = json.loads(out)
    assert status == 0
    assert content["seconds"] == content["jobs"][0]["seconds"] > 0  # counted and timed in parts
    assert {name: content[name] for name in content if name not in ("jobs", "seconds")} == {
        "n_records": 3, "n_missing": 3, "n_unknown": 0, "n_untimed": 2, "n_counted": 1, "written": [], "failed": [],
    }  # fmt: skip
    assert content["jobs"][1] == {
        "kind": "performance", "model": model, "method": "completion", "seed": 0, "tasks": ["antonym", "country"],
        "missing": ["antonym", "country"], "left_out": {}, "problem": None, "seconds": None, "n_untimed": 2,
        "n_counted": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "smollm2-135m"), "'smollm2-135m' is not in the zoo; did you mean smollm2-135m-instruct?"),
        (("--lane", "3/2"), "--lane expects I/N with I from 1 to N, such as 1/2 or 2/2, got 3/2"),
        (("--lane", "0/2"), "such as 1/2 or 2/2, got 0/2"),
        (("--lane", "0/0"), "such as 1/2 or 2/2, got 0/0"),
        (("--lane", "1/0"), "such as 1/2 or 2/2, got 1/0"),
        (("--lane", "half"), "--lane expects I/N, such as 1/2, got 'half'"),
        (("--only", "speed"), "speed"),
    ],
)
def test_a_mistake_is_status_2(bench_zoo: Callable[..., Answer], arguments: tuple[str, ...], message: str) -> None:
    status, out, err = bench_zoo(ZOO, *arguments)
    assert (status, out) == (2, "") and message in err


def test_jobs_are_chosen_by_kind_and_model() -> None:
    chosen = select(ZOO, kind="performance", models=["gemma-3-270m", "gemma-3-270m@int2"])
    assert [(job.kind, job.model) for job in chosen] == [
        ("performance", "gemma-3-270m"), ("performance", "gemma-3-270m@int2"),
    ]  # fmt: skip
    assert select(ZOO) == ZOO


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_an_empty_list_of_models_is_not_all_models(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path, text: str
) -> None:
    status, out, err = bench_zoo(jobs_of(model), "--out", str(tmp_path), "--dry-run", "--models", text)
    assert (status, out) == (2, "")
    assert err == f"bench: --models expects names separated by commas, got {text!r}; leave it out for all models\n"


@pytest.mark.parametrize("lane", [(0, 0), (1, 0), (-1, -1), (-1, 2)])
def test_a_lane_that_cannot_be_is_refused_in_python_too(lane: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="expects I/N with I from 1 to N"):
        select(ZOO, lane=lane)


def test_a_lane_without_jobs_says_so(bench_zoo: Callable[..., Answer], model: str, tmp_path: Path) -> None:
    answer = bench_zoo(jobs_of(model), "--out", str(tmp_path), "--lane", "9999/9999")
    assert answer[:2] == (0, "this lane has no jobs\n")


@pytest.mark.parametrize("n_lanes", [1, 2, 3, 7, len(ZOO) + 5])
def test_every_job_is_in_one_lane(n_lanes: int) -> None:
    lanes = [select(ZOO, lane=(number, n_lanes)) for number in range(1, n_lanes + 1)]
    assert Counter(job for lane in lanes for job in lane) == Counter(ZOO)
    assert all(sorted(lane, key=ZOO.index) == list(lane) for lane in lanes)


def test_lanes_are_about_equally_long_over_all_jobs_and_over_the_last_of_them() -> None:
    """The shortest lane gets the next job, so two lanes are never further apart than the longest job (here of 9 tasks);

    nor are they over a later stretch than twice that: the difference at its end and the one at its beginning.
    """
    jobs = [Job(kind="emergence", model="m", tasks=("antonym",) * n) for n in (9, 1, 2, 6, 3, 1, 5, 2, 4, 3)]
    lanes = dealt(jobs, 3)
    assert [len(job.tasks) for job in lanes[0]][0] == 9
    lengths = [sum(len(job.tasks) for job in lane) for lane in lanes]
    assert sum(lengths) == 36 and max(lengths) - min(lengths) <= 9
    late = [sum(len(job.tasks) for job in lane if job in jobs[5:]) for lane in lanes]
    assert max(late) - min(late) <= 2 * 9


def timing(model: str, n_parameters: int, seconds: float, **changes: Any) -> Timing:
    fields: dict[str, Any] = {"kind": "emergence", "task": "antonym", "method": "noisy_channel"}
    return Timing(**(fields | changes), model=model, n_parameters=n_parameters, seconds=seconds)


SMOLLM2, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
N_SMOLLM2, N_GEMMA = (CATALOG[name].n_parameters or 0 for name in (SMOLLM2, GEMMA))


@pytest.mark.parametrize(
    ("model", "known", "expected"),
    [
        (SMOLLM2, [timing(SMOLLM2, N_SMOLLM2, 60), timing(SMOLLM2, N_SMOLLM2, 80)], 70),  # two seeds
        (f"{SMOLLM2}@int3", [timing(SMOLLM2, N_SMOLLM2, 60), timing(f"{SMOLLM2}@int4", N_SMOLLM2, 90)], 60),
        (f"{SMOLLM2}@int3", [timing(f"{SMOLLM2}@int4", N_SMOLLM2, 90)], 90),  # nearest in size
        (SMOLLM2, [timing(GEMMA, N_GEMMA, 100)], 100),  # 1.99 times the size
        (SMOLLM2, [timing("a", N_SMOLLM2 // 3, 10), timing("b", N_SMOLLM2 * 4, 500)], 30),
        (SMOLLM2, [timing("a", N_SMOLLM2 * 10, 500)], 50),
        (SMOLLM2, [timing("a", N_SMOLLM2 * 1000, 500)], 500 * LEAST_SCALE),
        (SMOLLM2, [timing(SMOLLM2, N_SMOLLM2, 60, task="country")], None),
        (SMOLLM2, [timing(SMOLLM2, N_SMOLLM2, 60, method="gaussian")], None),
        (SMOLLM2, [timing(SMOLLM2, N_SMOLLM2, 60, kind="performance", method="completion")], None),
        ("a-folder", [timing(SMOLLM2, N_SMOLLM2, 60)], None),  # nothing is known of its size
        ("a-folder", [timing(SMOLLM2, N_SMOLLM2, 60), timing("a-folder", N_GEMMA, 9, task="country")], 60),
        (SMOLLM2, [], None),
    ],
)
def test_a_record_takes_as_long_as_that_of_the_nearest_model(
    model: str, known: list[Timing], expected: float | None
) -> None:
    entry = replace(resolve(SMOLLM2), name=model, n_parameters=None) if model == "a-folder" else resolve(model)
    estimate = estimated_seconds(known, Job(kind="emergence", model=model, tasks=("antonym",)), "antonym", entry)
    assert estimate == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_times_come_from_records_like_those_of_the_zoo(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for record in (make_record(), make_record(seed=1, preset="custom"), make_record(is_enumerated=False)):
        store.write_record(record)
    info = ModelInfo.model_validate(make_record().model.model_dump())
    for task, seconds in (("country", 30.0), ("animal", 0.4)):  # the second out of the cache of replies
        asked = make_performance(task=task, provider="local", model="tiny")
        asked = asked.model_copy(
            update={"model": info, "provenance": asked.provenance.model_copy(update={"seconds": seconds})}
        )
        store.write_performance(asked.model_copy(update={"samples_sha256": EMPTY}), [])
    store.write_performance(make_performance(model="far").model_copy(update={"samples_sha256": EMPTY}), [])
    assert [(item.kind, item.task, item.method, item.seconds) for item in timings(store)] == [
        ("emergence", "country", "noisy_channel", 3.0), ("performance", "country", "completion", 30.0),
    ]  # fmt: skip


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Hex sha256 of no samples."""


def test_times_of_missing_records_are_added_up_and_the_rest_is_counted_or_said_to_be_unknown(
    bench_zoo: Callable[..., Answer], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs_of(model)[0]
    for seed in (1, 2):
        tiny = replace(job, seed=seed)
        (outcome,) = carry_out(plan([tiny], tmp_path, Told()).jobs[0], tmp_path, Told())
        slow = outcome.record.provenance.model_copy(update={"seconds": 90.0})
        outcome.path.write_text(outcome.record.model_copy(update={"provenance": slow}).model_dump_json())
    jobs = (replace(job, tasks=("antonym", "country")), replace(job, model=f"{model}@int4"))
    found = plan(jobs, tmp_path, Told())
    assert (found.n_missing, found.n_untimed, found.n_counted) == (3, 0, 1)
    assert found.seconds > 180 and found.jobs[1].seconds == 90
    assert (
        bench_zoo(jobs, "--out", str(tmp_path), "--dry-run")[1]
        .splitlines()[-1]
        .endswith("(estimated from the seconds in the records that are there and 1 of them as `bench plan` does)")
    )
    monkeypatch.setattr("bench.zoo._Probes.seconds", lambda *given: None)  # an estimator without a cost model
    found = plan(jobs, tmp_path, Told())
    assert (found.n_missing, found.seconds, found.n_untimed) == (3, 180.0, 1)
    assert as_data(found)["seconds"] == 180.0
    assert bench_zoo(jobs, "--out", str(tmp_path), "--dry-run")[1].splitlines()[-1] == (
        "3 of 3 records are missing, about 3 min on this machine (estimated from the seconds in the records that are "
        "there), and 1 more of which no record here is like them, time unknown"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (720, "12 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_unknown_model_is_refused_in_python_too() -> None:
    with pytest.raises(UsageError, match="'llama' is not in the zoo; expected some of smollm2-135m-instruct"):
        select(ZOO, models=["llama"])
