"""Exports: the files of other tools from planted records, read back the way those tools read them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from bench.errors import StorageError, UsageError
from bench.escape import printable
from bench.estimates import EstimateRecord
from bench.performance import PERFORMANCE_SCHEMA, FailedReply, PerformanceRecord, Sample, as_lines, cell, sha256
from bench.query import scored
from bench.records import Provenance
from bench.store import Store, StoredEstimate, samples_path, slug
from bench.terminal import Bars
from proxies.board import board_of, read_board
from proxies.export_hf import hf_files
from proxies.export_lm_eval import lm_eval_files, standard_error
from proxies.export_selection import BoardEntry, Selection, Weights, _rows, date_id, select
from proxies.export_table import COLUMNS, table
from proxies.exports import FORMATS, Exported, ExportRequest, export
from proxies.standings import EstimatedEntry
from tasks import RANKED_TASKS, load_task
from tasks.queries import Question, Scorer, questions, request_text
from tasks.task import ListTask, PairTask
from tests.estimate_factory import make_estimate
from tests.payloads import PAYLOADS
from tests.performance_factory import performance_key
from tests.record_factory import make_record

SHOTS = (1, 4)
RIGHT = {1: 3, 4: 7}
N = 10
HERE: dict[str, Any] = {
    "provider": "local", "base_url": None, "revision": "main", "files_sha256": "w" * 64, "dtype": "float32"
}  # fmt: skip
"""The key of a model that is here, not behind a service: that of the factory's records."""
STORABLE = tuple(text for text in PAYLOADS if not any("\ud800" <= letter <= "\udfff" for letter in text))
"""A record is UTF-8: half a character cannot be in it."""
SPREADSHEET = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1")
HOSTILE = (*STORABLE, *SPREADSHEET, "../../../etc/passwd", "/etc/passwd", "..", ".", "CON", "a/b", "a\\b", "x" * 300)


def right_answer(task: ListTask | PairTask, asked: Question) -> str:
    if isinstance(task, ListTask):
        return f" {next(name for name in task.names if name not in asked.shown)},"
    return " " + next(pair.answers[0] for pair in task.pairs if pair.query == asked.subject)


def put_performance(
    store: Store, model: str, task_name: str = "country-capital", *, n_failed: int = 0, date: str = "2026-01-02",
    shots: tuple[int, ...] = SHOTS, **key_changes: Any,
) -> Path:  # fmt: skip
    """A model that is right 3 times of 10 after one demonstration, and 7 times after four."""
    task = load_task(task_name)
    assert isinstance(task, ListTask | PairTask)
    key = performance_key(
        model=model, task=task_name, task_hash=task.content_hash, shots=shots, n_questions=N, **key_changes
    )
    scorer, cells, all_samples = Scorer(task, is_chat=key.mode == "chat"), [], []
    for n_shots in shots:
        asked = questions(task, n_shots=n_shots, n_questions=N, seed=key.seed)
        samples = []
        for place, one in enumerate(asked):
            sample = Sample(
                model=model, mode=key.mode, task=task_name, task_hash=task.content_hash, seed=key.seed,
                n_shots=n_shots, index=one.index, prompt=request_text(one, is_chat=key.mode == "chat"),
                reply=right_answer(task, one) if place < RIGHT.get(n_shots, 5) else " nonsense",
            )  # fmt: skip
            samples.append(scored(sample, one, scorer))
        for place in range(n_failed):
            failure = FailedReply(kind="timeout", message="no answer", n_attempts=3)
            undone = dict.fromkeys(("reply", "answer", "is_correct", "is_repeat"))
            samples[-1 - place] = samples[-1 - place].model_copy(update={**undone, "failure": failure})
        cells.append(cell(task, asked, samples))
        all_samples += samples
    record = PerformanceRecord(
        schema_version=PERFORMANCE_SCHEMA, key=key, model=None, returned_models=(), cells=tuple(cells),
        n_prompt_tokens=None, n_completion_tokens=None, samples_sha256=sha256(as_lines(all_samples)),
        provenance=Provenance(
            date=f"{date}T03:04:05+00:00", command="bench query", commit="c" * 40, versions={"bench": "0"},
            n_threads=1, device="api", seconds=2.5,
        ),
    )  # fmt: skip
    return store.write_performance(record, all_samples)


def put_emergence(store: Store, model: str, **changes: Any) -> list[Path]:
    return [store.write_record(make_record(model=model, task=task, **changes)) for task in RANKED_TASKS]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """`tiny` measured and asked; `big-1` asked only, in both modes."""
    store = Store(tmp_path / "results")
    put_emergence(store, "tiny")
    put_performance(store, "tiny", **HERE)
    put_performance(store, "tiny", "animal", date="2026-01-05", **HERE)
    put_performance(store, "big-1")
    put_performance(store, "big-1", mode="chat")
    return store.root


def exported(results: Path, name: Any, out: Path, *models: str) -> Exported:
    with Bars("records") as bars:
        return export(ExportRequest(results=results, format=name, out=out, models=models), bars)


def selected(results: Path, *models: str) -> Selection:
    with Bars("records") as bars:
        return select(results, models, bars, with_board=True, with_answers=True)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


# lm-eval: read back as lm-evaluation-harness does. Folder of the model; `results_<date>.json`; samples of the task
# between the first underscore and the last, of the date after it.


def test_lm_eval_writes_one_results_file_a_run_and_one_samples_file_a_task_and_shots(
    results: Path, tmp_path: Path
) -> None:
    exported(results, "lm-eval", tmp_path / "out")
    found = files(tmp_path / "out")
    assert set(found) == {
        f"{folder}/{name}"
        for folder, date, tasks in (
            ("big-1", "2026-01-02", ("country-capital",)),
            ("big-1+chat", "2026-01-02", ("country-capital",)),
            ("tiny", "2026-01-05", ("animal", "country-capital")),
        )
        for name in (
            f"results_{date}T03-04-05.000000.json",
            *(f"samples_{task}_{n}shot_{date}T03-04-05.000000.jsonl" for task in tasks for n in SHOTS),
        )
    }
    for path in found:
        name = path.rpartition("/")[2]
        if name.startswith("samples_"):
            task, date = name[name.find("_") + 1 : name.rfind("_")], name[name.rfind("_") + 1 :].replace(".jsonl", "")
            folder = path.partition("/")[0]
            assert task in json.loads(found[f"{folder}/results_{date}.json"])["results"]


def test_lm_eval_numbers_are_those_that_were_planted(results: Path, tmp_path: Path) -> None:
    exported(results, "lm-eval", tmp_path / "out", "tiny")
    found = files(tmp_path / "out" / "tiny")
    data = json.loads(found["results_2026-01-05T03-04-05.000000.json"])
    at_4 = data["results"]["country-capital_4shot"]
    assert at_4 == {
        "name": "country-capital_4shot", "alias": "country-capital", "sample_len": N, "acc,none": 0.7,
        "acc_stderr,none": pytest.approx(statistics.stdev([1] * 7 + [0] * 3) / math.sqrt(N)),
    }  # fmt: skip
    assert data["n-shot"] == {f"{task}_{n}shot": n for task in ("animal", "country-capital") for n in SHOTS}
    assert data["higher_is_better"]["animal_4shot"] == {"acc": True, "repeats": False}
    assert data["n-samples"]["animal_1shot"] == {"original": N, "effective": N}
    assert data["model_name"] == data["model_name_sanitized"] == "tiny"
    assert data["config"]["model_args"] == {"pretrained": "tiny", "revision": "main", "dtype": "float32"}
    assert data["date"] == pd.Timestamp("2026-01-02T03:04:05Z").timestamp()  # when the first of its records was begun
    assert data["git_hash"] == "c" * 40
    parts = ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    assert len({frozenset(data[part]) for part in (*parts, "task_hashes")}) == 1


WRITTEN_BY_LM_EVAL = (
    "results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config",
    "git_hash", "date", "pretty_env_info", "transformers_version", "lm_eval_version", "upper_git_hash", "model_source",
    "model_name", "model_name_sanitized", "system_instruction", "system_instruction_sha", "fewshot_as_multiturn",
    "chat_template", "chat_template_sha", "task_hashes", "total_evaluation_time_seconds",
)  # fmt: skip
"""By lm_eval 0.4.13: `simple_evaluate` with its model "dummy" and its `EvaluationTracker`, on a task of three lines."""

SAMPLE_OF_LM_EVAL = (
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "exact_match",
)  # fmt: skip


def test_lm_eval_files_have_the_keys_of_its_own(results: Path, tmp_path: Path) -> None:
    """All but the version of lm_eval, which has not written them; of samples the metric, and the compared answer."""
    exported(results, "lm-eval", tmp_path / "out", "tiny")
    (path,) = (tmp_path / "out").rglob("results_*.json")
    assert set(WRITTEN_BY_LM_EVAL) - set(json.loads(path.read_text(encoding="utf-8"))) == {"lm_eval_version"}
    assert set(json.loads(path.read_text(encoding="utf-8"))) <= set(WRITTEN_BY_LM_EVAL)
    (path,) = (tmp_path / "out").rglob("samples_country-capital_4shot_*")
    for line in lines(path.read_bytes()):
        assert set(SAMPLE_OF_LM_EVAL) - set(line) == {"exact_match"}
        assert set(line) - set(SAMPLE_OF_LM_EVAL) == {"acc", "answer"}


def test_lm_eval_samples_give_the_accuracies_and_the_hashes(results: Path, tmp_path: Path) -> None:
    exported(results, "lm-eval", tmp_path / "out")
    n_lines = 0
    for path in (tmp_path / "out").rglob("results_*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        date = path.name.removeprefix("results_").removesuffix(".json")
        for name, numbers in data["results"].items():
            logged = lines((path.parent / f"samples_{name}_{date}.jsonl").read_bytes())
            n_lines += len(logged)
            for metric in (entry["metric"] for entry in data["configs"][name]["metric_list"]):
                assert statistics.mean(line[metric] for line in logged) == numbers[f"{metric},none"]
                assert all(metric in line["metrics"] for line in logged)
            hashes = ""
            for line in logged:
                prompt = line["arguments"]["gen_args_0"]["arg_0"]
                for key, text in (
                    ("doc_hash", json.dumps(line["doc"], indent=2, ensure_ascii=False)),
                    ("prompt_hash", prompt),
                    ("target_hash", line["target"]),
                ):
                    assert line[key] == hashlib.sha256(text.encode()).hexdigest()
                    hashes += line[key]
                assert line["resps"] == [line["filtered_resps"]]
            assert data["task_hashes"][name] == hashlib.sha256(hashes.encode()).hexdigest()
    assert n_lines == 4 * len(SHOTS) * N


def test_lm_eval_documents_say_what_was_asked(results: Path, tmp_path: Path) -> None:
    exported(results, "lm-eval", tmp_path / "out")
    found = files(tmp_path / "out")
    capitals = lines(found["tiny/samples_country-capital_4shot_2026-01-05T03-04-05.000000.jsonl"])
    chat = lines(found["big-1+chat/samples_country-capital_4shot_2026-01-02T03-04-05.000000.jsonl"])
    for line in (*capitals, *chat):
        assert line["arguments"]["gen_args_0"]["arg_0"].endswith(f" {line['doc']['query']}:")
        assert line["target"] == line["doc"]["answers"][0] and len(line["doc"]["shown"]) == 4
    assert [line["acc"] for line in capitals] == [1] * 7 + [0] * 3
    assert [line["filtered_resps"][0].strip() for line in capitals[:7]] == [line["target"] for line in capitals[:7]]
    assert (
        capitals[0]["arguments"]["gen_args_0"]["arg_1"]["until"]
        and not chat[0]["arguments"]["gen_args_0"]["arg_1"]["until"]
    )
    animals = lines(found["tiny/samples_animal_4shot_2026-01-05T03-04-05.000000.jsonl"])
    assert {line["target"] for line in animals} == {""} and {len(line["doc"]["shown"]) for line in animals} == {4}


def test_a_task_that_is_not_shipped_has_no_documents_and_no_target(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    path = put_performance(store, "big-1")
    text = path.read_text(encoding="utf-8")
    record = PerformanceRecord.model_validate_json(text)
    changed = record.model_copy(update={"key": record.key.model_copy(update={"task_hash": "0" * 64})})
    path.write_text(changed.model_dump_json(), encoding="utf-8")
    exported(store.root, "lm-eval", tmp_path / "out")
    (found,) = (tmp_path / "out").rglob("samples_*_4shot_*")
    logged = lines(found.read_bytes())
    assert [line["doc"] for line in logged] == [{"index": index} for index in range(N)]
    assert {line["target"] for line in logged} == {""}
    assert [line["acc"] for line in logged] == [1] * 7 + [0] * 3


def test_the_standard_error_is_that_of_the_sample() -> None:
    for right, n in ((0, 5), (5, 5), (2, 5), (1, 2)):
        answers = [1.0] * right + [0.0] * (n - right)
        assert standard_error(right, n) == pytest.approx(statistics.stdev(answers) / math.sqrt(n))
    assert standard_error(1, 1) == "N/A"


def test_one_name_for_several_weights_and_seeds_is_several_folders(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put_performance(store, "big-1")
    put_performance(store, "big-1", seed=3)
    put_performance(store, "big-1", base_url="https://other.example/v1")
    exported(store.root, "lm-eval", tmp_path / "out")
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(folders) == 3 and "big-1+seed3" in folders
    assert all(name.startswith("big-1+") for name in folders)


def test_the_latest_answers_of_a_task_stand(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put_performance(store, "big-1", date="2026-01-02", max_tokens=16)
    older = put_performance(store, "big-1", date="2026-01-01", max_tokens=32)
    put_performance(store, "big-1", shots=(8,), date="2026-01-03")
    done = exported(store.root, "lm-eval", tmp_path / "out")
    assert [left.what for left in done.not_exported] == [older.relative_to(store.root).as_posix()]
    assert "superseded" in done.not_exported[0].reason
    (path,) = (tmp_path / "out").rglob("results_*.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert set(data["results"]) == {f"country-capital_{n}shot" for n in (1, 4, 8)}
    assert data["configs"]["country-capital_4shot"]["generation_kwargs"]["max_gen_toks"] == 16


# What is no result.


@pytest.mark.parametrize("name", ["lm-eval", "hf"])
def test_failed_and_damaged_answers_are_left_out_and_named(results: Path, tmp_path: Path, name: str) -> None:
    store = Store(results)
    failed = put_performance(store, "failing", n_failed=2)
    gone, changed = put_performance(store, "gone"), put_performance(store, "changed")
    samples_path(gone).unlink()
    samples_path(changed).write_bytes(samples_path(changed).read_bytes() + b"\n")
    (results / "performance" / "junk").mkdir()
    (results / "performance" / "junk" / "x.json").write_text("{}", encoding="utf-8")
    done = exported(results, name, tmp_path / "out")
    reasons = {left.what.split("/")[1]: left.reason for left in done.not_exported}
    assert set(reasons) == {"failing", "gone", "changed", "junk"}
    assert reasons["failing"].startswith("4 of 20 questions failed")
    assert failed.name in [left.what.rpartition("/")[2] for left in done.not_exported]
    assert "No such file" in reasons["gone"] and "not the samples" in reasons["changed"]
    assert not any(word in path for path in files(tmp_path / "out") for word in reasons)


def test_samples_that_do_not_add_up_are_left_out(results: Path, tmp_path: Path) -> None:
    path = put_performance(Store(results), "liar")
    content = samples_path(path).read_bytes().replace(b'"is_correct":true', b'"is_correct":false', 1)
    samples_path(path).write_bytes(content)
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"samples_sha256": sha256(content)}), encoding="utf-8")
    done = exported(results, "lm-eval", tmp_path / "out")
    (left,) = done.not_exported
    assert "2 of 10 right at 1 shots, but the record has 3 of 10" in left.reason


@pytest.mark.parametrize("name", ["hf", "csv", "parquet"])
def test_limited_incomplete_and_refused_emergence_is_left_out_and_named(
    results: Path, tmp_path: Path, name: str
) -> None:
    store = Store(results)
    put_emergence(store, "limited", is_enumerated=False)
    store.write_record(make_record(model="incomplete", task="country"))
    refused = {"trained": [("macro", 1, 3)]}
    put_emergence(store, "refused", refused=refused)
    store.write_record(make_record(model="tiny", task="element"))  # of a task that makes no rank: nothing is missing
    done = exported(results, name, tmp_path / "out")
    found = Counter(left.what.split("/")[1] for left in done.not_exported)
    assert found == {"limited": 3, "incomplete": 1, "refused": 3}
    reasons = {left.what.split("/")[1]: left.reason for left in done.not_exported}
    assert "limited to" in reasons["limited"] and "incomplete" in reasons["incomplete"]
    assert "refused" in reasons["refused"]
    written = b"".join(path.read_bytes() for path in done.files)
    assert b"tiny" in written and not any(model.encode() in written for model in reasons if model != "refused")


def test_of_chosen_models_alone_it_is_said_what_is_left_out(results: Path, tmp_path: Path) -> None:
    put_performance(Store(results), "failing", n_failed=2)
    assert exported(results, "lm-eval", tmp_path / "out", "tiny").not_exported == ()
    assert len(exported(results, "lm-eval", tmp_path / "out", "big-1").files) == 6


# Hugging Face: a leaderboard walks through the folder, takes files that end in .json, and of each the mean of a metric
# over the tasks whose names hold the one that it looks for.


def leaderboard_scores(folder: Path, task: str, metric: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for path in folder.rglob("*"):
        assert path.is_dir() or path.suffix == ".json"
        if path.is_file():
            data = json.loads(path.read_text(encoding="utf-8"))
            name = f"{data['config']['model_name']}_{data['config']['model_dtype']}_{data['config']['model_sha']}"
            found[name] = [numbers[metric] for key, numbers in data["results"].items() if task in key]
    return found


def test_a_leaderboard_reads_each_number_once(results: Path, tmp_path: Path) -> None:
    exported(results, "hf", tmp_path / "out")
    folder = tmp_path / "out" / "results"
    big, tiny = "big-1_unknown_https://api.example/v1", "tiny_torch.float32_main"
    assert leaderboard_scores(folder, "emergence-bench|country-capital|completion|seed 0|1-shot", "acc") == {
        big: [0.3], tiny: [0.3]
    }  # fmt: skip
    assert leaderboard_scores(folder, "emergence-bench|country-capital|chat|seed 0|4-shot", "acc") == {
        big: [0.7], tiny: []
    }  # fmt: skip
    (entry,) = selected(results).board
    assert leaderboard_scores(folder, "|emergence|quick|noisy_channel|measured|", "emergence_bits") == {
        big: [], tiny: [entry.row["emergence_bits"]]
    }  # fmt: skip
    for scores in (leaderboard_scores(folder, "emergence-bench|animal|completion|seed 0|1-shot", "repeats"),):
        assert scores[tiny] == [0.0]


def test_no_name_of_a_task_is_part_of_another(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put_emergence(store, "tiny")
    put_emergence(store, "tiny", settings={"n_draws": 1024, "headline_scale": 0.08})
    put_performance(store, "tiny", shots=(1, 4, 16))
    put_performance(store, "tiny", "country", shots=(1, 16), seed=1)
    names = []
    for relative, content in hf_files(selected(store.root)):
        if relative.endswith(".json"):
            names += list(json.loads(content)["results"])
    assert len(names) == 2 + 3 + 2
    assert [(one, other) for one in names for other in names if one != other and one in other] == []


def test_a_model_card_comes_back_with_interval_ceiling_and_estimator(results: Path, tmp_path: Path) -> None:
    exported(results, "hf", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "cards" / "tiny" / "README.md")
    assert card.data.model_name == "tiny"
    (entry,) = selected(results, "tiny").board
    (emergence,) = [one for one in card.data.eval_results if one.metric_type == "emergence"]
    assert emergence.metric_value == entry.row["emergence_bits"] and emergence.metric_config == "noisy_channel"
    assert emergence.metric_args["emergence_half_width_bits"] == entry.row["emergence_half_width_bits"] > 0
    assert emergence.metric_args["ceiling_bits"] == entry.row["ceiling_bits"] > emergence.metric_value
    assert emergence.metric_args["kind"] == "measured" and emergence.metric_args["n_seeds"] == 1
    assert json.loads(emergence.metric_args["settings"])["n_draws"] == 512
    accuracies = {
        (one.dataset_name, one.metric_args["n_shots"]): one.metric_value
        for one in card.data.eval_results
        if one.metric_type == "accuracy"
    }
    assert accuracies == {(task, n): RIGHT[n] / N for task in ("animal", "country-capital") for n in SHOTS}
    for one in card.data.eval_results[1:]:
        assert one.metric_args["acc_low_95"] < one.metric_value < one.metric_args["acc_high_95"]
        assert one.dataset_revision == load_task(one.dataset_name).content_hash


def with_estimate(results: Path, record: EstimateRecord) -> Selection:
    """What is selected, with an estimated row in the first table."""
    with Bars("records") as bars:
        board = read_board(Store(results), bars)
    row = EstimatedEntry(stored=StoredEstimate(path="estimates/x.json", record=record))
    first = board.tables[0]
    tables = (replace(first, entries=(*first.entries, row)), *board.tables[1:])
    board = replace(board, found=replace(board.found, tables=tables))
    return replace(selected(results), board=_rows(board))


def test_estimated_rows_are_told_apart_and_bring_their_fit(results: Path) -> None:
    selection = with_estimate(results, make_estimate())
    found = table(selection).set_index("model")
    assert list(found["kind"]) == ["measured", "estimated"]
    row = found.loc["closed"]
    assert (row["emergence_bits"], row["interval_80_low_bits"], row["interval_80_high_bits"]) == (6.5, 5.0, 8.0)
    assert (row["held_out_error_bits"], row["baseline_error_bits"], row["beats_baseline"]) == (1.25, 1.0, False)
    assert (row["estimated_from"], row["source"], row["n_families"], row["n_samples"]) == ("performance", "", 2, 2000)
    assert pd.isna(row["rank"]) and pd.isna(row["emergence_half_width_bits"]) and pd.isna(row["bos"])
    assert found.loc["tiny", "source"] == "a test" and found.loc["tiny", "verdict"] == ""
    contents = dict(hf_files(selection))
    data = json.loads(contents["results/closed/results_2026-02-03T00-00-00.000000.json"])
    ((name, numbers),) = data["results"].items()
    assert "|estimated|" in name and data["config"]["emergence"][name]["verdict"] == "no better"
    assert numbers == {
        "emergence_bits": 6.5, "held_out_error_bits": 1.25, "baseline_error_bits": 1.0,
        "interval_80_low_bits": 5.0, "interval_80_high_bits": 8.0,
    }  # fmt: skip
    (result,) = ModelCard(contents["cards/closed/README.md"].decode()).data.eval_results
    assert result.metric_name == "Emergence (bits), estimated" and result.metric_args["fit"] == "fits/emergence/x.json"


def test_an_estimate_joins_the_answers_of_the_model(results: Path) -> None:
    contents = dict(hf_files(with_estimate(results, make_estimate("big-1"))))
    assert {name.split("/")[1] for name in contents} == {"big-1", "tiny"}
    data = json.loads(contents["results/big-1/results_2026-02-03T00-00-00.000000.json"])
    assert len(data["results"]) == 1 + 2 * len(SHOTS)


# The table.


def test_the_table_is_the_leaderboard(results: Path, tmp_path: Path) -> None:
    put_emergence(Store(results), "other", level=9.0)
    put_emergence(Store(results), "other@int4", level=10.0)
    exported(results, "csv", tmp_path / "board.csv")
    exported(results, "parquet", tmp_path / "board.parquet")
    with (tmp_path / "board.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [column.name for column in COLUMNS]
    assert [(row["rank"], row["model"]) for row in rows] == [("", "other@int4"), ("1", "other"), ("2", "tiny")]
    entries = selected(results).board
    for row, entry in zip(rows, entries, strict=True):
        for name in ("emergence_bits", "emergence_half_width_bits", "ceiling_bits", "over_twin_bits"):
            assert float(row[name]) == entry.row[name]
        assert (row["bos"], row["n_seeds"], row["seeds"], row["n_parameters"]) == ("False", "1", "0", "1234567")
        assert len(row["records"].split(" ")) == 3
    frame = pd.read_parquet(tmp_path / "board.parquet")
    assert list(frame.columns) == list(rows[0]) and list(frame["model"]) == [row["model"] for row in rows]
    assert [float(row["emergence_bits"]) for row in rows] == list(frame["emergence_bits"])
    assert frame["emergence_bits"].is_monotonic_decreasing


def test_every_column_has_a_unit_and_bits_say_so_in_their_names() -> None:
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    for column in COLUMNS:
        assert column.what and (column.unit == "bits") == column.name.endswith("_bits")
        assert column.unit != "count" or column.name == "rank" or column.name.startswith(("n_", "d_"))


def test_without_pyarrow_it_is_said_what_to_install(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(
        pd.DataFrame, "to_parquet", lambda *_, **__: (_ for _ in ()).throw(ImportError("no pyarrow here"))
    )
    with pytest.raises(UsageError, match="pip install pyarrow"):
        exported(results, "parquet", tmp_path / "board.parquet")
    assert not (tmp_path / "board.parquet").exists()


# Hostile names.


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each hostile name, measured and asked."""
    store = Store(tmp_path_factory.mktemp("hostile") / "results")
    for name in HOSTILE:
        put_emergence(store, name)
        put_performance(store, name, shots=(1,), **HERE)
    return store.root


def test_hostile_names_stay_in_their_cells(hostile: Path, tmp_path: Path) -> None:
    exported(hostile, "csv", tmp_path / "board.csv")
    content = (tmp_path / "board.csv").read_bytes().decode()
    rows = list(csv.reader(io.StringIO(content)))
    assert len(rows) == 1 + len(HOSTILE) and {len(row) for row in rows} == {len(COLUMNS)}
    assert content.count("\n") == len(rows)  # one line a row, whatever splits it
    place = [column.name for column in COLUMNS].index("model")
    texts = [index for index, column in enumerate(COLUMNS) if column.unit == "text"]
    assert not any(row[index].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for index in texts)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for row in rows for cell in row for letter in cell)
    shown = {printable(name) for name in HOSTILE}
    assert {row[place].removeprefix("'") if row[place][1:] in shown else row[place] for row in rows[1:]} == shown
    assert sum(row[place].startswith("'") for row in rows[1:]) >= len(SPREADSHEET) + 2


def test_hostile_names_come_back_from_parquet_as_they_are(hostile: Path, tmp_path: Path) -> None:
    exported(hostile, "parquet", tmp_path / "board.parquet")
    assert sorted(pd.read_parquet(tmp_path / "board.parquet")["model"]) == sorted(HOSTILE)


def test_hostile_names_neither_leave_the_folder_nor_meet(hostile: Path, tmp_path: Path) -> None:
    for name in ("lm-eval", "hf"):
        out = tmp_path / "a" / "b" / "c" / name
        done = exported(hostile, name, out)
        assert all(path.resolve().is_relative_to(out.resolve()) for path in done.files)
        assert len(set(map(str, done.files))) == len(done.files) == 2 * len(HOSTILE)
        assert all(part.isascii() and part.isprintable() for path in done.files for part in path.parts)
    assert sorted(path.name for path in (tmp_path / "a" / "b" / "c").iterdir()) == ["hf", "lm-eval"]
    names = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("results_*.json")]
    assert sorted(data["model_name"] for data in names if "model_name" in data) == sorted(HOSTILE)
    assert sorted(data["config"]["model_name"] for data in names if "model_name" not in data) == sorted(HOSTILE)


def test_hostile_names_come_back_from_cards(hostile: Path, tmp_path: Path) -> None:
    exported(hostile, "hf", tmp_path / "out")
    for name in HOSTILE:
        card = ModelCard.load(tmp_path / "out" / "cards" / slug(name) / "README.md")
        assert card.data.model_name == name and len(card.data.eval_results) == 2


def test_half_a_character_is_an_escape(results: Path) -> None:
    """No record holds one, but the name of its file may."""
    (entry,) = selected(results).board
    row = entry.row | {"model": entry.row["model"] | {"name": "half \ud83d"}, "records": ["emergence/\udcff.json"]}
    broken = BoardEntry(weights=Weights(model="half \ud83d", revision="", dtype=""), row=row, settings="{}")
    selection = Selection(results=results, board=(broken,), runs=(), not_exported=())
    contents = dict(hf_files(selection))
    assert len(contents) == 2
    assert {json.loads(text)["config"]["model_name"] for name, text in contents.items() if name.endswith(".json")} == {
        "half \ud83d"
    }
    assert table(selection)["records"].tolist() == ["emergence/?.json"]


def test_hostile_names_of_tasks_are_slugs_in_file_names(results: Path) -> None:
    selection = selected(results, "big-1")
    (run, *_) = selection.runs
    hostile = tuple(replace(one, task="../../x/y_z") for one in run.answered)
    contents = dict(lm_eval_files(replace(selection, runs=(replace(run, answered=hostile),))))
    assert len(contents) == 1 + len(SHOTS)
    assert all(name.count("/") == 1 and ".." not in name for name in contents)
    assert set(json.loads(next(iter(contents.values())))["results"]) == {
        f"{slug('../../x/y_z')}_{n}shot" for n in SHOTS
    }


# What holds for all formats.


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_records_give_the_same_bytes_and_replace_what_is_there(
    results: Path, tmp_path: Path, name: str
) -> None:
    def written(out: Path) -> Iterator[bytes]:
        return (path.read_bytes() for path in exported(results, name, out).files)

    first = list(written(tmp_path / "one"))
    assert first and all(first) and list(written(tmp_path / "two")) == first
    for path in exported(results, name, tmp_path / "one").files:
        path.write_bytes(b"older")
    assert list(written(tmp_path / "one")) == first


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_to_export_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds nothing to export; run `bench (run|query) MODEL`"):
        exported(tmp_path / "empty", name, tmp_path / "out")
    with pytest.raises(UsageError, match="there is no results folder"):
        exported(tmp_path / "missing", name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_if_everything_is_left_out_the_error_says_why(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put_performance(store, "failing", n_failed=1)
    with pytest.raises(UsageError, match="nothing to export: performance/failing/.*: 2 of 20 questions failed"):
        exported(store.root, "lm-eval", tmp_path / "out")


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_model_is_an_error_with_the_nearest(results: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="nothing to export of 'tinny'; did you mean 'tiny'") as error:
        exported(results, name, tmp_path / "out", "tinny")
    assert "there are" in str(error.value) and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=r"'\\x1b\[31mred'"):
        exported(results, name, tmp_path / "out", "\x1b[31mred")


@pytest.mark.parametrize("name", FORMATS)
def test_a_place_that_cannot_be_written_is_an_error(results: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        exported(results, name, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b""


def test_an_empty_board_is_empty(tmp_path: Path) -> None:
    assert _rows(board_of(())) == () and table(Selection(results=tmp_path, board=(), runs=(), not_exported=())).empty


def test_the_documentation_quotes_what_the_committed_records_give() -> None:
    root = Path(__file__).parent.parent.parent
    text = (root / "docs" / "exports.md").read_text(encoding="utf-8")
    selection = selected(root / "results", "smollm2-135m-instruct")
    contents = dict(hf_files(selection))
    (name,) = [name for name in contents if name.endswith(".json")]
    quoted = [line.split("  ")[2] for line in text.splitlines() if line.startswith("    emergence-bench|")]
    assert len(quoted) == 2 and set(quoted) <= set(json.loads(contents[name])["results"])
    folders = {run.folder: run for run in selection.runs}
    assert set(folders) == {"smollm2-135m-instruct", "smollm2-135m-instruct+chat"}
    assert f"smollm2-135m-instruct/results_{date_id(folders['smollm2-135m-instruct'].date)}.json" in text
