"""Every way in which a server can fail: named right, tried again where that helps, listed where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.api.failures import ServiceError
from bench.api.retry import Limits
from bench.completions import Failure, FailureKind, Mode, Reply
from bench.query import query
from bench.store import Store
from tests.bench.api.questions import HURRIED, asked, completer, questions
from tests.bench.querying import request, right_answer, run, samples_of, service
from tests.bench.scripted_server import ScriptedServer, always, at, for_prompts, no_faults, reversed_text
from tests.bench.told import Told
from tests.faults.asked_once import check_none_asked_again
from tests.faults.children import cli, done
from tests.faults.ledger import NOT_IN_THE_SLICE, Cases, Lost

N = 12
N_AT_A_TIME = 4
LIMITS = Limits(
    max_attempts=3, attempt_seconds=1.5, total_seconds=5.0, max_concurrency=N_AT_A_TIME, backoff_seconds=0.02
)

# fault -> its kind, whether it is tried again, words of the message
FAULTS: dict[str, tuple[FailureKind, bool, str]] = {
    "400": ("bad request", False, "status 400: this prompt is refused"),
    "400-parameter": ("bad request", False, "'max_tokens' is not supported, use 'max_completion_tokens'"),
    "401": ("authentication", False, "status 401: Incorrect API key provided"),
    "403": ("authentication", False, "status 403: no access to this model"),
    "404": ("not found", False, "status 404: The model does not exist"),
    "413": ("bad request", False, "status 413: too long"),
    "422": ("bad request", False, "status 422: cannot be processed"),
    "408": ("timeout", True, "status 408: too slow"),
    "429": ("rate limit", True, "status 429: Rate limit reached"),
    "429-zero": ("rate limit", True, "status 429: Rate limit reached"),
    "429-second": ("rate limit", True, "status 429: Rate limit reached"),
    "429-ms": ("rate limit", True, "status 429: Rate limit reached"),
    "429-nonsense": ("rate limit", True, "status 429: Rate limit reached"),
    "429-hour": ("rate limit", False, "the server asks to wait 3600 s, beyond the 5 s that one question may take"),
    "429-ages": ("rate limit", False, "the server asks to wait 1e+308 s, beyond the 5 s"),
    "429-body": ("rate limit", True, "status 429: You exceeded your current quota. Please retry in 0.3s."),
    "quota": ("quota", False, "status 429: You exceeded your current quota"),
    "402": ("quota", False, "status 402: Insufficient Balance"),
    "500": ("server error", True, "status 500: The server had an error"),
    "503": ("server error", True, "status 503: overloaded"),
    "reset": ("connection", True, "the connection broke off: "),
    "truncated": ("connection", True, "peer closed connection without sending complete message body"),
    "hang": ("timeout", True, "no full answer within "),
    "drip": ("timeout", True, "no full answer within "),
    "truncated-json": ("invalid reply", True, "Invalid JSON: EOF while parsing"),
    "thought": ("no text", False, "a model that thinks before it answers needs a higher --max-tokens"),
    "filtered": ("no text", False, "the content filter of the server kept the answer back"),
    "tool": ("no text", False, "the model called a tool instead of answering"),
    "far-index": ("invalid reply", True, "choices.0.index: "),
    "long-text": ("invalid reply", True, "a text of 1000001 characters, which no answer has"),
    "empty": ("invalid reply", True, "an empty body"),
    "html": ("invalid reply", True, "the server sent: <!doctype html>"),
    "empty-object": ("invalid reply", True, "choices: Field required; the server sent: {}"),
    "error-200": ("invalid reply", True, 'the server sent: {"error": {"message": "overloaded"}}'),
    "no-choices": ("invalid reply", True, "choices: Tuple should have at least 1 item"),
    "null-text": ("invalid reply", True, "Input should be a valid string"),
    "missing-text": ("invalid reply", True, "Field required"),
    "list-text": ("invalid reply", True, "Input should be a valid string"),
    "number-text": ("invalid reply", True, "Input should be a valid string"),
    "wrong-type": ("invalid reply", True, "choices: Input should be a valid array"),
    "not-utf8": ("invalid reply", True, "Invalid JSON: invalid unicode"),
    "deep": ("invalid reply", True, "Invalid JSON: recursion limit exceeded"),
    "huge": ("invalid reply", True, "larger than 8 MB, which no answer is"),
    "huge-500": ("server error", True, "status 500: "),
    "redirect": ("redirect", False, "redirects to http://127.0.0.1:9/v1/elsewhere; redirects are not followed"),
}
COMMAND_FAULTS = (
    "400", "401", "404", "429", "429-second", "quota", "500", "reset", "hang", "drip", "truncated", "truncated-json",
    "empty", "html", "empty-object", "no-choices", "null-text", "wrong-type", "huge", "redirect",
)  # fmt: skip
PLACES: dict[str, tuple[int, ...]] = {"first": (0,), "middle": (5,), "last": (N - 1,), "30 %": (1, 4, 7, 10)}

# fault of every question -> failures in a row that end the run, words of the advice
HOPELESS: dict[str, tuple[int, str]] = {
    "401": (3, "3 questions in a row have no answer (authentication)"),
    "404": (3, "check the model name and --base-url"),
    "quota": (3, "add credit to the account"),
    "redirect": (3, "if you trust it with the key"),
    "500": (10, "10 questions in a row have no answer (server error)"),
    "429-zero": (10, "lower the rate of requests"),
    "reset": (10, "check --base-url and that the server runs"),
    "html": (10, "usually ends in /v1"),
    "hang": (10, "the server is too slow or hangs"),
    "400-parameter": (10, "every question so far was refused"),
    "thought": (10, "raise --max-tokens for a model that thinks"),
}


def half_right(prompt: str) -> str:
    return right_answer("antonym", prompt) if len(prompt) % 2 else " nonsense"


def stored(out: Path) -> dict[str, Any]:
    """The one record of a folder, without time and place."""
    (one,), rejected = Store(out).performances()
    assert not rejected
    return one.record.model_dump(exclude={"provenance"})


def completed(server: ScriptedServer, out: Path, failed: set[str], again: Callable[[], object]) -> dict[str, Any]:
    """The record after the same query without faults, which asks what has failed and nothing else."""
    server.received.clear()
    server.faults = no_faults
    again()
    asked_again = {one.prompt for one in server.received}
    if asked_again - failed:
        raise Lost(f"asked again although answered: {sorted(asked_again - failed)}")
    assert asked_again == failed and len(server.received) == len(failed)
    return stored(out)


@pytest.mark.parametrize(
    "place", ["middle", "30 %", *(pytest.param(place, marks=NOT_IN_THE_SLICE) for place in ("first", "last"))]
)
def test_a_fault_that_passes_is_overcome_and_one_that_does_not_is_listed(
    cases: Cases, tmp_path: Path, place: str
) -> None:
    numbers, mode = PLACES[place], "chat" if place == "middle" else "completion"
    with ScriptedServer(answer=half_right, latency_seconds=0.003) as server:
        query_of = request(tmp_path, shots=(2,), n_questions=N, mode=mode, service=service(server, limits=LIMITS))
        run(replace(query_of, out=tmp_path / "plain"))
        plain = stored(tmp_path / "plain")
        for fault in cases.chosen(tuple(FAULTS), quick=5):
            with cases.case(f"{fault}, {place}"):
                kind, is_retryable, words = FAULTS[fault]
                one = replace(query_of, out=tmp_path / fault)
                server.received.clear()
                server.faults = at(dict.fromkeys(numbers, fault))
                began = time.monotonic()
                (outcome,) = run(one)
                assert time.monotonic() - began < 20
                samples = samples_of(outcome)
                check_none_asked_again(server, [each.prompt for each in samples])
                failures = {each.prompt: each.failure for each in samples if each.failure is not None}
                if is_retryable:
                    assert failures == {}
                    assert len(server.received) == N + len(numbers)
                else:
                    assert len(failures) == len(numbers) and len(server.received) == N
                    assert outcome.record.cells[0].failures == {kind: len(numbers)}
                    assert all(failure.kind == kind and words in failure.message for failure in failures.values())
                    assert all(each.n_attempts == 1 and len(each.message) <= 400 for each in failures.values())
                assert completed(server, one.out, set(failures), partial(run, one)) == plain


@pytest.mark.parametrize("half", [0, 1])
def test_a_question_that_always_fails_is_listed_after_its_attempts_and_the_others_are_answered(
    cases: Cases, half: int
) -> None:
    retryable = tuple(name for name, (_, is_retryable, _) in FAULTS.items() if is_retryable)
    for fault in cases.chosen(retryable[half::2], quick=3):
        with cases.case(fault), ScriptedServer(faults=for_prompts({"question 2": fault})) as server:
            kind, _, words = FAULTS[fault]
            answers = asked(server, questions(6), limits=LIMITS)
            failure = answers.pop(2)
            assert isinstance(failure, Failure)
            assert failure.kind == kind
            assert words in failure.message
            assert len(failure.message) <= 400
            assert failure.n_attempts == 3
            others = [f"question {number}" for number in (0, 1, 3, 4, 5)]
            assert [answer.text for answer in answers if isinstance(answer, Reply)] == list(map(reversed_text, others))
            check_none_asked_again(server, others)
            assert sorted(one.prompt for one in server.received) == sorted([*others, *["question 2"] * 3])


def test_the_same_failure_for_every_question_ends_the_run(cases: Cases) -> None:
    limits = replace(HURRIED, max_attempts=1, attempt_seconds=0.3)
    for fault in cases.chosen(tuple(HOPELESS), quick=4):
        n, words = HOPELESS[fault]
        with cases.case(fault), ScriptedServer(faults=always(fault)) as server:
            found: list[Failure] = []
            with pytest.raises(ServiceError) as caught:
                for _, answer in completer(server, limits=limits).complete(questions(400)):
                    assert isinstance(answer, Failure)
                    found.append(answer)
            assert len(server.received) <= n + N_AT_A_TIME
            assert words in str(caught.value)
            assert found[-1].message in str(caught.value)
            assert n <= len(found) <= n + N_AT_A_TIME


def command(server: ScriptedServer, out: Path, mode: Mode) -> tuple[str | Path, ...]:
    return (
        "query", "big-1", "--tasks", "antonym", "--shots", "2", "--n-queries", str(N), "--mode", mode,
        "--base-url", server.base_url, "--max-concurrency", str(N_AT_A_TIME), "--timeout", "1.5", "--deadline", "12",
        "--max-attempts", "4", "--out", out,
    )  # fmt: skip


@pytest.mark.parametrize("half", [0, 1])
def test_the_command_completes_and_tells_what_failed(cases: Cases, tmp_path: Path, half: int) -> None:
    """The real command in a process of its own; then once more, without faults."""
    places = sorted(PLACES)
    done(cli, "--version", log=tmp_path / "version.log")  # the children's imports are none of the command's time
    for index, fault in enumerate(cases.chosen(COMMAND_FAULTS[half::2], quick=1)):
        place = places[(index + cases.rng.randrange(4)) % 4]
        mode: Mode = cases.rng.choice(("completion", "chat"))
        with cases.case(f"{fault}, {place}"), ScriptedServer(answer=half_right, latency_seconds=0.003) as server:
            kind, is_retryable, _ = FAULTS[fault]
            out, plain, n_failed = tmp_path / fault, tmp_path / f"{fault}-plain", len(PLACES[place])
            asked_of = request(plain, shots=(2,), n_questions=N, mode=mode, service=service(server, limits=LIMITS))
            prompts = [sample.prompt for sample in samples_of(*query(asked_of, Told()))]
            server.received.clear()
            server.faults = at(dict.fromkeys(PLACES[place], fault))
            arguments = command(server, out, mode)
            began = time.monotonic()
            text = done(cli, *arguments, log=tmp_path / f"{fault}.log", status=0 if is_retryable else 1)
            assert time.monotonic() - began < 40
            check_none_asked_again(server, prompts)
            assert len(server.received) == N + (n_failed if is_retryable else 0)
            failed = set()
            if not is_retryable:
                assert f"{n_failed} {kind}" in text
                assert f"{n_failed} questions failed and count as failed; run the same command to ask them" in text
                failed = {one.prompt for one in server.received if one.did == fault}
            again = partial(done, cli, *arguments, log=tmp_path / f"{fault}-again.log")
            assert completed(server, out, failed, again) == stored(plain)


def test_the_command_ends_at_once_where_no_question_can_be_answered(cases: Cases, tmp_path: Path) -> None:
    for fault in cases.chosen(("401", "404", "quota", "redirect"), quick=1):
        with cases.case(fault), ScriptedServer(answer=half_right, faults=always(fault)) as server:
            out, (n, words) = tmp_path / fault, HOPELESS[fault]
            arguments = command(server, out, "completion")
            text = done(cli, *arguments, log=tmp_path / f"{fault}.log", status=1)
            assert words in text
            assert "Traceback" not in text
            assert len(server.received) <= n + N_AT_A_TIME
            assert Store(out).performances() == ((), ())
            every = {one.prompt for one in server.received}
            server.received.clear()
            server.faults = no_faults
            done(cli, *arguments, log=tmp_path / f"{fault}-again.log")
            assert len(server.received) == N and every <= {one.prompt for one in server.received}
