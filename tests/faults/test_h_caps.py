"""Caps on requests, tokens and money: kept up to what is under way, and none that cannot be kept is taken on."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.api.budget import Budget
from bench.api.failures import BudgetReached
from bench.completions import Failure, Reply
from bench.query import query
from tests.bench.api.questions import HURRIED, asked, completer, questions
from tests.bench.api.test_budget import PRICES, WORST, WORST_USD
from tests.bench.querying import PATIENT, request, right_answer, service
from tests.bench.scripted_server import ScriptedServer, always, at
from tests.bench.told import Told
from tests.faults.children import cli, done
from tests.faults.ledger import Cases, Lost

N = 20

CAPS: dict[str, tuple[dict[str, Any], bool, int]] = {
    # name -> caps, usage reported, how many of 20 questions are answered
    "1 request": ({"max_requests": 1}, True, 1),
    "7 requests": ({"max_requests": 7}, True, 7),
    "7 requests, no usage": ({"max_requests": 7}, False, 7),
    "as many requests as questions": ({"max_requests": N}, True, N),
    "fewer tokens than one question": ({"max_tokens_total": WORST - 1}, True, 0),
    "tokens of one question": ({"max_tokens_total": WORST}, True, 1),
    "tokens of ten, no usage": ({"max_tokens_total": 10 * WORST}, False, 10),
    "tokens of nearly ten, no usage": ({"max_tokens_total": 10 * WORST - 1}, False, 9),
    "tokens as reported": ({"max_tokens_total": 40}, True, 8),  # 4 each as reported; the 9th could reach 41
    "money of three, no usage": ({"max_usd": 3 * WORST_USD, **PRICES}, False, 3),
    "less money than one question": ({"max_usd": WORST_USD / 2, **PRICES}, True, 0),
    "money as reported": ({"max_usd": 0.06, **PRICES}, True, 8),  # 0.006 each; the 9th could reach 0.062
}

# usage that a server reports -> tokens that one answer is charged with
USAGE: dict[str, tuple[dict[str, Any] | None, int]] = {
    "missing": (None, WORST),
    "empty": ({}, WORST),
    "answer missing": ({"prompt_tokens": 4}, WORST),
    "negative": ({"prompt_tokens": -100, "completion_tokens": -100}, WORST),
    "words": ({"prompt_tokens": "none", "completion_tokens": "none"}, WORST),
    "beyond all bounds": ({"prompt_tokens": 10**12, "completion_tokens": 0}, WORST),
    "more than the worst case": ({"prompt_tokens": 4, "completion_tokens": 50}, 54),
}

REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "money without prices": (("--max-usd", "1"), "give --usd-per-million-input and --usd-per-million-output"),
    "money without one price": (("--max-usd", "1", "--usd-per-million-input", "1"), "give --usd-per-million-output"),
    "a price that is none": (
        ("--max-usd", "1", "--usd-per-million-input", "nan", "--usd-per-million-output", "1"),
        "--usd-per-million-input must be a number from 0 on, got nan",
    ),
    "no money": (
        ("--max-usd", "0", "--usd-per-million-input", "1", "--usd-per-million-output", "1"),
        "--max-usd must be a number above 0",
    ),
    "endless money": (
        ("--max-usd", "inf", "--usd-per-million-input", "1", "--usd-per-million-output", "1"),
        "--max-usd must be a number above 0",
    ),
    "no requests": (("--max-requests", "0"), "--max-requests must be a number above 0"),
    "fewer than no tokens": (("--max-tokens-total", "-5"), "--max-tokens-total must be a number above 0"),
}


@pytest.mark.parametrize("n_at_a_time", [1, 4, 16])
def test_a_cap_ends_the_run_and_what_was_answered_stands(cases: Cases, n_at_a_time: int) -> None:
    limits = replace(HURRIED, max_concurrency=n_at_a_time, attempt_seconds=5.0)
    for name in cases.chosen(tuple(CAPS), quick=4):
        caps, has_usage, n_answered = CAPS[name]
        usage = {"prompt_tokens": 2, "completion_tokens": 2} if has_usage else None
        found: dict[int, Reply | Failure] = {}
        budget = Budget(**caps)
        with (
            cases.case(f"{name}, {n_at_a_time} at a time"),
            ScriptedServer(usage=lambda *_, usage=usage: usage, latency_seconds=0.005) as server,
        ):
            answers = completer(server, limits=limits, budget=budget).complete(questions(N))
            if n_answered == N:
                found.update(answers)
            else:
                with pytest.raises(BudgetReached) as caught:
                    for index, answer in answers:
                        found[index] = answer
                assert "the next question needs 1 request and up to 4 + 5 tokens" in str(caught.value)
                assert f"spent {len(server.received)} requests" in str(caught.value)
                assert "raise --max-requests, --max-tokens-total or --max-usd and run the same" in str(caught.value)
            assert len(found) == len(server.received) == budget.n_requests == n_answered
            assert all(isinstance(answer, Reply) for answer in found.values())
            n_spent = budget.n_prompt_tokens + budget.n_completion_tokens
            assert n_spent == n_answered * (4 if has_usage else WORST)
            if budget.max_usd is not None:
                assert budget.usd is not None and budget.usd <= budget.max_usd + 1e-9


@pytest.mark.parametrize("n_at_a_time", [1, 8])
def test_a_cap_is_passed_by_no_more_than_what_is_under_way(cases: Cases, n_at_a_time: int) -> None:
    """Whatever a server reports, or does not; the cap is far from a multiple of anything."""
    limits = replace(HURRIED, max_concurrency=n_at_a_time, attempt_seconds=5.0)
    for name in cases.chosen(tuple(USAGE), quick=3):
        usage, n_tokens = USAGE[name]
        cap = cases.rng.randrange(8 * WORST, 12 * WORST)
        budget = Budget(max_tokens_total=cap)
        with (
            cases.case(f"usage {name}, {n_at_a_time} at a time"),
            ScriptedServer(usage=lambda *_, usage=usage: usage, latency_seconds=0.005) as server,
        ):
            with pytest.raises(BudgetReached):
                list(completer(server, limits=limits, budget=budget).complete(questions(40)))
            n_spent = budget.n_prompt_tokens + budget.n_completion_tokens
            assert n_spent == len(server.received) * n_tokens
            assert n_spent <= cap + n_at_a_time * max(0, n_tokens - WORST)
            assert cap - n_spent < max(WORST, n_tokens)  # what was left is too little for one more


def test_faults_count_against_a_cap_as_far_as_they_may_be_billed(cases: Cases) -> None:
    for fault, is_charged in {
        "500": False, "429-zero": False, "400": False, "hang": True, "reset": True, "html": True, "null-text": True,
    }.items():  # fmt: skip
        budget = Budget()
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        with cases.case(fault), ScriptedServer(faults=at({0: fault}), usage=lambda *_, usage=usage: usage) as server:
            (answer,) = asked(server, questions(1), budget=budget)
            n_replies = int(isinstance(answer, Reply))
            assert budget.n_prompt_tokens == n_replies + (4 if is_charged else 0)
            assert budget.n_completion_tokens == n_replies + (5 if is_charged else 0)
            assert budget.n_requests == n_replies + 1
    with cases.case("attempts are requests"), ScriptedServer(faults=always("500")) as server:
        with pytest.raises(BudgetReached, match="spent 5 requests of 5, 0 tokens"):
            list(completer(server, budget=Budget(max_requests=5)).complete(questions(8)))
        assert len(server.received) == 5


def test_a_cap_that_cannot_be_kept_refuses_to_start(cases: Cases, tmp_path: Path) -> None:
    """The real command; nothing is sent, nothing is written."""
    with ScriptedServer() as server:
        for name in cases.chosen(tuple(REFUSED), quick=3):
            options, words = REFUSED[name]
            with cases.case(name):
                out = tmp_path / name
                arguments = ("query", "big-1", "--tasks", "antonym", "--base-url", server.base_url, "--out", out)
                text = done(cli, *arguments, *options, log=tmp_path / f"{name}.log", status=2)
                assert words in text and "Traceback" not in text
                assert server.received == [] and not out.exists()


@pytest.mark.parametrize("cap", ["requests", "tokens", "money"])
def test_a_run_under_one_cap_after_the_other_asks_nothing_twice(cases: Cases, tmp_path: Path, cap: str) -> None:
    """The same query with a little more each time, until it is done; the end is as without caps."""
    step = cases.rng.randrange(3, 8)
    answer = partial(right_answer, "antonym")
    with cases.case(cap), ScriptedServer(answer=answer, usage=lambda *_: None) as server:
        asking = request(tmp_path / "out", shots=(2,), n_questions=N)
        began = time.monotonic()
        n_runs = 0
        while time.monotonic() - began < 60:
            n_runs += 1
            budget = {
                "requests": Budget(max_requests=step),
                "tokens": Budget(max_tokens_total=step * 40),
                "money": Budget(max_usd=step * 40e-6, usd_per_million_input=1.0, usd_per_million_output=1.0),
            }[cap]
            try:
                (outcome,) = query(replace(asking, service=service(server, budget=budget, limits=PATIENT)), Told())
                break
            except BudgetReached:
                continue
        n_sent, n_different = len(server.received), len({one.prompt for one in server.received})
        if n_sent != n_different:
            raise Lost(f"{n_sent - n_different} questions were asked again")
        assert n_runs > 1 and n_different == N
        assert outcome.record.is_complete and outcome.record.cells[0].accuracy == 1.0
