"""Caps: reckoned by hand, then over a server: never more than allowed, and nothing that was answered is lost."""

from dataclasses import replace
from typing import Any

import pytest

from bench.api.budget import Budget, prompt_tokens
from bench.api.failures import BudgetReached, ServiceError
from bench.completions import Failure, Reply, Request
from bench.errors import UsageError
from tests.bench.api.questions import HURRIED, asked, completer, questions
from tests.bench.scripted_server import ScriptedServer, always, at

PRICES = {"usd_per_million_input": 1000.0, "usd_per_million_output": 2000.0}
WORST = 4 + 5  # "question 0" has 10 bytes, an answer 5 tokens at most
WORST_USD = (4 * 1000 + 5 * 2000) / 1e6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_requests": 0}, "--max-requests must be a number above 0, got 0"),
        ({"max_requests": -1}, "--max-requests must be a number above 0, got -1"),
        ({"max_tokens_total": 0}, "--max-tokens-total must be a number above 0, got 0"),
        ({"max_tokens_total": -5}, "--max-tokens-total must be a number above 0, got -5"),
        ({"max_usd": 0.0, **PRICES}, "--max-usd must be a number above 0, got 0.0"),
        ({"max_usd": -1.0, **PRICES}, "--max-usd must be a number above 0, got -1.0"),
        ({"max_usd": float("nan"), **PRICES}, "--max-usd must be a number above 0, got nan"),
        ({"max_usd": float("inf"), **PRICES}, "--max-usd must be a number above 0, got inf"),
        ({"usd_per_million_input": -1.0}, "--usd-per-million-input must be a number from 0 on, got -1.0"),
        ({"max_usd": 1.0}, "give --usd-per-million-input and --usd-per-million-output"),
        ({"max_usd": 1.0, "usd_per_million_input": 1.0}, "give --usd-per-million-output "),
        ({"max_usd": 1.0, "usd_per_million_output": 1.0}, "give --usd-per-million-input "),
    ],
)
def test_a_cap_that_makes_no_sense_refuses_to_start(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "mode", "n"),
    [("", "completion", 1), ("abc", "completion", 1), ("abcd", "chat", 42), ("日本", "chat", 42)],
)
def test_tokens_are_estimated_from_bytes(prompt: str, mode: Any, n: int) -> None:
    assert prompt_tokens(Request(prompt=prompt, mode=mode, max_tokens=1)) == n


def test_a_dry_run_reckons_with_the_longest_answers() -> None:
    estimate = Budget(**PRICES).estimate(questions(10))
    assert (estimate.n_requests, estimate.n_prompt_tokens_estimated, estimate.max_completion_tokens) == (10, 40, 50)
    assert estimate.max_usd == pytest.approx(10 * WORST_USD)
    assert Budget().estimate(questions(3)).max_usd is None


def test_what_is_under_way_counts_at_its_worst_until_it_ends() -> None:
    (request,) = questions(1)
    budget = Budget(max_tokens_total=2 * WORST)
    first, second = budget.reserve(request), budget.reserve(request)
    assert budget.verdict(request) == "wait"
    budget.settle(first, Reply(text="", n_prompt_tokens=3, n_completion_tokens=1))
    assert budget.verdict(request) == "wait"
    budget.settle(second, Reply(text="", n_prompt_tokens=3))  # the rest of the usage is missing: stays at its worst
    assert (budget.n_prompt_tokens, budget.n_completion_tokens, budget.n_requests) == (6, 6, 2)
    assert budget.verdict(request) == "stop"
    budget.max_tokens_total = 21
    assert budget.verdict(request) == "send"
    third = budget.reserve(request)
    budget.free(third)
    assert (budget.n_requests, budget.n_prompt_tokens) == (3, 6)
    budget.withdraw(budget.reserve(request))
    assert budget.n_requests == 3


@pytest.mark.parametrize("fault", ["thought", "list-text-usage"])
def test_a_reply_without_text_costs_what_it_reports(fault: str) -> None:
    budget = Budget()
    with ScriptedServer(faults=at({0: fault})) as server:
        (answer,) = asked(server, questions(1, "chat"), budget=budget, limits=replace(HURRIED, max_attempts=1))
    assert isinstance(answer, Failure)
    assert (budget.n_prompt_tokens, budget.n_completion_tokens, budget.n_requests) == (7, 3, 1)


def test_a_budget_counts_over_several_calls() -> None:
    with ScriptedServer() as server:
        asker = completer(server, budget=Budget(max_requests=10))
        assert len(list(asker.complete(questions(6)))) == 6
        with pytest.raises(BudgetReached):
            list(asker.complete(questions(6)))
        assert len(server.received) == 10


def test_what_is_under_way_when_the_run_ends_is_charged() -> None:
    budget = Budget()
    with ScriptedServer(faults=at(dict.fromkeys(range(1, 9), "hang"))) as server:
        answers = completer(server, budget=budget).complete(questions(8))
        next(answers)
        while len(server.received) < 4:
            pass
        answers.close()  # type: ignore[attr-defined]
        n_sent = len(server.received)
    assert budget.n_requests >= n_sent
    assert budget.n_completion_tokens >= 5 * (n_sent - 1)


def test_a_run_that_makes_no_sense_is_not_a_budget() -> None:
    with ScriptedServer(faults=always("401")) as server, pytest.raises(ServiceError):
        list(completer(server, budget=Budget(max_requests=100)).complete(questions(50)))
