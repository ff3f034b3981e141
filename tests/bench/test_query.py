"""Queries from questions to records: here on a tiny model, and over a loopback socket with the official client."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.api.budget import Budget
from bench.api.failures import BudgetReached, ServiceError
from bench.completions import Mode
from bench.errors import ModelError, RecordError, StorageError, UsageError
from bench.query import QueryOutcome, Service, assignments, dry_run, query, unanswered_samples
from bench.replay import replay
from bench.store import Store, samples_path
from bench.task_names import find_tasks
from tasks import load_task
from tests.bench.querying import HURRIED, oracle, request, right_answer, run, samples_of, service
from tests.bench.scripted_server import ScriptedServer, always, at, for_prompts
from tests.bench.tiny_models import save_list_model
from tests.bench.told import Told

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("mode", ["completion", "chat"])
@pytest.mark.parametrize("task", ["antonym", "country"])
def test_an_oracle_scores_exactly_1(tmp_path: Path, task: str, mode: Mode) -> None:
    with ScriptedServer(answer=oracle(task)) as server:
        (outcome,) = run(request(tmp_path, task, shots=(1, 4), mode=mode, service=service(server)))
    assert [cell.accuracy for cell in outcome.record.cells] == [1.0, 1.0]
    assert [cell.n_questions for cell in outcome.record.cells] == [10, 10]
    assert outcome.record.key.mode == mode
    assert all(sample.is_correct for sample in samples_of(outcome))
    assert {one.path for one in server.received} == {"/v1/chat/completions" if mode == "chat" else "/v1/completions"}


def test_a_model_that_is_always_wrong_scores_exactly_0(tmp_path: Path) -> None:
    with ScriptedServer(answer=lambda prompt: " nonsense\n") as server:
        (outcome,) = run(request(tmp_path, service=service(server)))
    assert [cell.accuracy for cell in outcome.record.cells] == [0.0, 0.0]
    assert outcome.record.cells[0].low == 0


def test_a_half_broken_model_has_its_failures_counted_as_failures(tmp_path: Path) -> None:
    asked = request(tmp_path, shots=(2,), n_questions=20)
    prompts = [sample.prompt for sample in unanswered_samples(asked)]
    with ScriptedServer(answer=oracle("antonym"), faults=for_prompts(dict.fromkeys(prompts[::2], "400"))) as server:
        (outcome,) = run(replace(asked, service=service(server)))
        (cell,) = outcome.record.cells
        assert (cell.n_failed, cell.n_answered, cell.n_correct, cell.accuracy) == (10, 10, 10, 1.0)
        assert cell.failures == {"bad request": 10}
        failed = [sample for sample in samples_of(outcome) if sample.failure is not None]
        assert len(failed) == 10 and all(
            "this prompt is refused" in one.failure.message for one in failed if one.failure
        )
        assert not outcome.record.is_complete
        server.faults = lambda number, prompt: None
        n_before = len(server.received)
        (again,) = run(replace(asked, service=service(server)))
        assert len(server.received) - n_before == 10  # the failed ones and nothing else
    assert not again.was_there and again.record.is_complete
    assert again.record.cells[0].accuracy == 1.0


def test_what_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server:
        (first,) = run(request(tmp_path, service=service(server)))
        n_asked = len(server.received)
        assert n_asked == 20
        (again,) = run(request(tmp_path, service=service(server)))
        assert again.was_there and again.record == first.record
        more = run(request(tmp_path, shots=(0, 2, 4), service=service(server)))
        assert not more[0].was_there
        assert len(server.received) - n_asked == 10  # the new number of shots only
        first.path.unlink()
        run(request(tmp_path, service=service(server)))
        assert len(server.received) - n_asked == 10


def test_two_models_two_servers_and_two_modes_never_share_an_answer(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server, ScriptedServer(answer=lambda prompt: " no") as other:
        right = run(request(tmp_path, service=service(server)))
        assert run(request(tmp_path, service=service(other)))[0].record.cells[0].accuracy == 0
        run(request(tmp_path, model="big-2", service=service(server)))
        run(request(tmp_path, mode="chat", service=service(server)))
        run(request(tmp_path, seed=1, service=service(server)))
        run(request(tmp_path, max_tokens=5, service=service(server)))
        assert len(server.received) == 5 * 20 and len(other.received) == 20
    assert right[0].record.cells[0].accuracy == 1
    stored, rejected = Store(tmp_path).performances()
    assert len(stored) == 6 and not rejected


def test_the_model_that_answered_is_kept_beside_the_one_that_was_asked(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym"), model_id="big-1-2026-11-01") as server:
        (outcome,) = run(request(tmp_path, service=service(server)))
    assert outcome.record.key.model == "big-1"
    assert outcome.record.returned_models == ("big-1-2026-11-01",)
    assert {sample.returned_model for sample in samples_of(outcome)} == {"big-1-2026-11-01"}


def test_tokens_are_added_up_and_unknown_if_a_reply_does_not_say(tmp_path: Path) -> None:
    with ScriptedServer(
        answer=oracle("antonym"), usage=lambda prompt, text: {"prompt_tokens": 3, "completion_tokens": 1}
    ) as server:
        (outcome,) = run(request(tmp_path / "a", service=service(server)))
        assert (outcome.record.n_prompt_tokens, outcome.record.n_completion_tokens) == (60, 20)
    with ScriptedServer(answer=oracle("antonym"), usage=lambda prompt, text: None) as server:
        (outcome,) = run(request(tmp_path / "b", service=service(server)))
        assert (outcome.record.n_prompt_tokens, outcome.record.n_completion_tokens) == (None, None)


def test_a_budget_ends_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server:
        with pytest.raises(BudgetReached, match="--max-requests"):
            run(request(tmp_path, service=service(server, budget=Budget(max_requests=7))))
        assert len(server.received) == 7
        run(request(tmp_path, service=service(server, budget=Budget(max_requests=100))))
        assert len(server.received) == 20


def test_a_server_that_refuses_everything_ends_the_run_at_once(tmp_path: Path) -> None:
    with ScriptedServer(faults=always("401")) as server:
        with pytest.raises(ServiceError, match="Incorrect API key"):
            run(request(tmp_path, n_questions=50, service=service(server)))
        assert len(server.received) <= 3 + HURRIED.max_concurrency
    assert Store(tmp_path).performances() == ((), ())


def test_a_dry_run_sends_nothing_and_knows_what_is_answered(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server:
        asked = request(
            tmp_path, "antonym", "country", service=service(
                server, budget=Budget(usd_per_million_input=1.0, usd_per_million_output=2.0)
            ),
        )  # fmt: skip
        planned = dry_run(asked, Told())
        assert server.received == []
        assert (planned.n_questions, planned.n_known) == (30, 0)  # 0 and 2 shots of pairs, 2 shots of a list
        assert planned.assignments[1].undefined == (0,)
        assert planned.estimate.n_requests == 30
        assert planned.estimate.max_usd == pytest.approx(
            (planned.estimate.n_prompt_tokens_estimated + 2 * 30 * 16) / 1e6
        )
        run(request(tmp_path, "antonym", service=service(server)))
        n_asked = len(server.received)
        assert dry_run(asked, Told()).n_known == 20
        assert len(server.received) == n_asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": ()}, "at least one task and one number of shots"),
        ({"shots": (-1,)}, r"--shots must be numbers from 0 to 64, got -1"),
        ({"shots": (65,)}, "got 65"),
        ({"n_questions": 0}, "--n-queries must be at least 1, got 0"),
        ({"max_tokens": 0}, "--max-tokens must be from 1 to 4096, got 0"),
        ({"seed": -1}, "--seed must be between"),
        ({"mode": "talk"}, "unknown mode 'talk'"),
        ({"tasks": find_tasks(["text-sample"])}, "is a text: nothing is asked about it"),
        ({"tasks": find_tasks(["country"]), "shots": (0,)}, "a list of no items says nothing; ask for 1 shot or more"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        assignments(request(tmp_path, **changes))


def test_a_name_that_is_neither_here_nor_behind_an_address_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give --base-url or --api-key-env"):
        run(request(tmp_path, model="gpt-nonsense"))
    for name in ("", "  ", "a\nb", "x" * 301):
        with pytest.raises(ModelError, match="cannot be the name of a model"):
            run(request(tmp_path, model=name, service=Service(base_url="http://127.0.0.1:9/v1")))


def test_a_missing_key_is_refused_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with ScriptedServer() as server:
        with pytest.raises(UsageError, match="the environment variable NO_SUCH_KEY holds no key"):
            run(request(tmp_path, service=service(server, key_variable="NO_SUCH_KEY")))
        assert server.received == []


def test_a_tiny_model_here_is_asked_once_and_found_again(tmp_path: Path) -> None:
    model = save_list_model(tmp_path / "tiny")
    asked = request(tmp_path / "results", "country", model=str(model), shots=(1, 3))
    (first,) = run(asked)
    assert first.record.model is not None and first.record.model.name == "tiny"
    assert first.record.key.provider == "local" and first.record.key.files_sha256
    assert [cell.n_answered for cell in first.record.cells] == [10, 10]
    assert all(sample.reply is not None for sample in samples_of(first))
    (again,) = run(asked)
    assert again.was_there
    first.path.unlink()
    told = Told()
    (rebuilt,) = query(asked, told)
    assert rebuilt.record.cells == first.record.cells
    other = save_list_model(tmp_path / "other" / "tiny", seed=1)  # the same name, other weights
    (of_other,) = run(replace(asked, model=str(other)))
    assert not of_other.was_there


def test_replayed_samples_give_the_same_cells(tmp_path: Path) -> None:
    tasks = {task.name: task for task in find_tasks(["antonym", "country"])}
    with ScriptedServer(
        answer=lambda prompt: right_answer("antonym" if ":" in prompt else "country", prompt)
    ) as server:
        outcomes = run(request(tmp_path, "antonym", "country", shots=(1, 2), service=service(server)))
    lines = b"".join(samples_path(outcome.path).read_bytes() for outcome in outcomes)
    file = tmp_path / "all.jsonl"
    file.write_bytes(b"\n".join(reversed(lines.splitlines())))
    again = {one.record.key.task: one for one in replay(file, model="big-1", tasks=tasks, out=tmp_path / "again")}
    assert [again[one.record.key.task].record.cells for one in outcomes] == [one.record.cells for one in outcomes]
    assert {one.record.key.provider for one in again.values()} == {"replay"}


def test_prompts_written_for_another_program_can_be_replayed(tmp_path: Path) -> None:
    asked = request(tmp_path, shots=(2,), n_questions=4)
    content = [json.loads(sample.model_dump_json(exclude_none=True)) for sample in unanswered_samples(asked)]
    for line in content[:3]:
        line["reply"] = right_answer("antonym", line["prompt"])
    file = tmp_path / "filled.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in content), encoding="utf-8")
    (outcome,) = replay(file, model="big", tasks={"antonym": load_task("antonym")}, out=tmp_path)
    (cell,) = outcome.record.cells
    assert (cell.n_correct, cell.n_answered, cell.n_failed, cell.failures) == (3, 3, 1, {"missing": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "another"}, r":1: the prompt is not question 0 of 'antonym' at 2 shots, seed 0"),
        ({"task": "nonsense"}, r":1: there is no task 'nonsense' to ask; give its file with --task-file"),
        ({"task_hash": "0" * 64}, ":1: asked with another version of the task"),
        ({"reply": 3}, ":1: reply: "),
        ({"n_shots": -1}, ":1: n_shots: "),
        ({"n_shots": 10**9}, ":1: the prompt is not question 0"),
        ({"failure": {"kind": "timeout", "message": "m", "n_attempts": 1}}, ":1: the line: .*a reply or a failure"),
        ({"index": 10**15}, ":1: "),
        ({"what": 1}, ":1: what: "),
    ],
)
def test_a_line_that_is_no_sample_of_these_questions_is_refused_by_number(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    sample = unanswered_samples(request(tmp_path, shots=(2,), n_questions=1))[0]
    line = json.loads(sample.model_dump_json(exclude_none=True)) | {"reply": "x"} | change
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(line), encoding="utf-8")
    with pytest.raises(RecordError, match="bad.jsonl" + message):
        replay(file, model="m", tasks={"antonym": load_task("antonym")}, out=tmp_path)


def replayed(folder: Path, lines: list[dict[str, Any]], model: str = "m", task: str = "antonym") -> list[QueryOutcome]:
    file = folder / "some.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return list(replay(file, model=model, tasks={task: load_task(task)}, out=folder))


def test_a_part_of_the_questions_and_the_replies_of_two_models_are_refused(tmp_path: Path) -> None:
    whole = unanswered_samples(request(tmp_path, shots=(0, 2), n_questions=5))
    lines = [json.loads(sample.model_dump_json(exclude_none=True)) | {"reply": "x"} for sample in whole]
    assert len(replayed(tmp_path, lines)) == 1
    with pytest.raises(RecordError, match=r"of the 5 questions of 'antonym' at 2 shots, 1 are missing \(number 4\)"):
        replayed(tmp_path, lines[:-1])
    later = [line for line in lines if line["n_shots"] == 0] + [
        json.loads(sample.model_dump_json(exclude_none=True)) | {"reply": "x"}
        for sample in unanswered_samples(request(tmp_path, shots=(2,), n_questions=10))[5:]
    ]
    with pytest.raises(RecordError, match=r"at 2 shots, 5 are missing"):
        replayed(tmp_path, later)
    with pytest.raises(RecordError, match="asked of 'other', lines before it of 'big-1'; a file holds"):
        replayed(tmp_path, [*lines[:-1], lines[-1] | {"model": "other"}])
    with pytest.raises(ModelError, match="cannot be the name of a model"):
        replayed(tmp_path, lines, model=" ")
    empty = {"task": "country", "n_shots": 0, "index": 0, "prompt": "", "reply": "x"}
    with pytest.raises(RecordError, match="an empty list says nothing of its category"):
        replayed(tmp_path, [empty], task="country")


def test_a_complete_record_needs_no_request_even_without_the_replies(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server:
        run(request(tmp_path, service=service(server)))
        shutil.rmtree(tmp_path / ".replies")
        assert dry_run(request(tmp_path, service=service(server)), Told()).estimate.n_requests == 0
        assert run(request(tmp_path, service=service(server), shots=(2, 0)))[0].was_there
        assert len(server.received) == 20


def test_parameters_that_change_an_answer_are_sent_and_kept_apart(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym")) as server:
        for changes in ({}, {"send_temperature": False}, {"token_limit_parameter": "max_completion_tokens"}):
            (outcome,) = run(request(tmp_path, mode="chat", n_questions=2, service=service(server, **changes)))
            assert not outcome.was_there
        bodies = [server.received[index].body for index in (0, 4, 8)]
        assert len(server.received) == 12
    assert [body.get("temperature") for body in bodies] == [0, None, 0]
    assert ["max_completion_tokens" in body for body in bodies] == [False, False, True]
    assert "--token-limit-parameter max_completion_tokens" in outcome.record.provenance.command


def test_a_long_name_of_the_server_loses_no_reply(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym"), model_id="m" * 5000) as server:
        (outcome,) = run(request(tmp_path, service=service(server)))
    assert outcome.record.is_complete


def test_a_file_without_samples_and_one_with_a_question_twice_are_refused(tmp_path: Path) -> None:
    tasks = {"antonym": load_task("antonym")}
    file = tmp_path / "s.jsonl"
    with pytest.raises(UsageError, match="cannot read"):
        replay(file, model="m", tasks=tasks, out=tmp_path)
    file.write_bytes(b"\n\n")
    with pytest.raises(UsageError, match="holds no samples"):
        replay(file, model="m", tasks=tasks, out=tmp_path)
    line = unanswered_samples(request(tmp_path, shots=(2,), n_questions=1))[0].model_dump_json(exclude_none=True)
    file.write_text(f"{line}\n{line}\n")
    with pytest.raises(RecordError, match=r"s.jsonl:2: question 0 at 2 shots comes twice"):
        replay(file, model="m", tasks=tasks, out=tmp_path)


def command(server: ScriptedServer, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "bench", "query", "big-1", "--tasks", "antonym", "--shots", "2", "--n-queries", "60",
        "--base-url", server.base_url, "--max-concurrency", "4", "--out", str(out), *more,
    ]  # fmt: skip


def test_interrupted_no_reply_that_came_in_full_is_lost(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym"), latency_seconds=0.1) as server:
        process = subprocess.Popen(
            command(server, tmp_path, "--max-concurrency", "32"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while len(server.received) < 40 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert process.returncode == 130 and b"the same command goes on from here" in error
        sent = {one.prompt for one in server.received if one.is_whole}
        subprocess.run(command(server, tmp_path), cwd=ROOT, check=True, capture_output=True)
        twice = [prompt for prompt, n in Counter(one.prompt for one in server.received).items() if n > 1]
    assert len(set(twice) & sent) <= 32 // 8, "asked again although it was answered in full"


def test_the_command_line_tells_of_failures_and_ends_with_1(tmp_path: Path) -> None:
    with ScriptedServer(answer=oracle("antonym"), faults=at({2: "400"})) as server:
        done = subprocess.run(command(server, tmp_path), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert "1 bad request" in done.stdout
        assert "1 questions failed and count as failed; run the same command to ask them again" in done.stderr
        done = subprocess.run(command(server, tmp_path, "--json"), cwd=ROOT, capture_output=True, text=True, check=True)
    content = json.loads(done.stdout)
    assert content[0]["record"]["cells"][0]["accuracy"] == 1.0


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "performance").write_text("a file in the way")
    with ScriptedServer() as server:
        with pytest.raises(StorageError, match="cannot write .*performance"):
            run(request(tmp_path, service=service(server)))
        assert server.received == []


def test_replies_are_not_kept_behind_a_link_out_of_the_results_folder(tmp_path: Path) -> None:
    results, outside = tmp_path / "results", tmp_path / "outside"
    results.mkdir()
    outside.mkdir()
    (results / ".replies").symlink_to(outside)
    with ScriptedServer(answer=oracle("antonym")) as server:
        asked = request(results, service=service(server))
        for act in (run, partial(dry_run, progress=Told())):
            with pytest.raises(StorageError, match="a link leads out of .*results there"):
                act(asked)
        assert server.received == [] and list(outside.iterdir()) == []
        run(replace(asked, cache=outside / "chosen.sqlite"))
        assert (outside / "chosen.sqlite").is_file(), "a cache that is named may be anywhere"
