"""A server that enforces a rate: nothing is lost, and most of what it allows is used."""

from __future__ import annotations

import time

import pytest

from bench.api.retry import Limits
from bench.completions import Reply
from tests.bench.api.questions import asked, questions
from tests.bench.scripted_server import ScriptedServer, reversed_text
from tests.faults.asked_once import check_none_asked_again
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, Cases, Lost


def reachable(rate: int) -> float:
    """The rate, or half of what this machine does beside its other work without a limit, where that is less."""
    with ScriptedServer() as server:
        asked(server, questions(8), limits=Limits())  # imports the client
        began = time.monotonic()
        asked(server, questions(40), limits=Limits())
        return min(rate, 0.5 * 40 / (time.monotonic() - began))


@pytest.mark.parametrize(
    ("is_given", "most_refused", "retry_after"),
    [
        (True, 0.05, "1"),
        (False, 0.15, None),
        pytest.param(True, 0.05, None, marks=NOT_IN_THE_SLICE),
        pytest.param(False, 0.15, "1", marks=NOT_IN_THE_SLICE),
    ],
)
def test_an_enforced_rate_is_used_and_kept(
    cases: Cases, is_given: bool, most_refused: float, retry_after: str | None
) -> None:
    """A rate that nobody gave is found out first, from refusals: that takes most of the time of few questions."""
    is_enough = IS_FULL or is_given
    rate, n = cases.n(quick=10, full=20), cases.n(quick=50, full=500)
    with cases.case(f"rate {'given' if is_given else 'unknown'}, Retry-After {retry_after}", n=n):
        for chance in range(2):  # other work on the machine can hold up either side
            goal = 0.8 * rate if IS_FULL else (0.8 if is_enough else 0.6) * reachable(rate)
            with ScriptedServer(rate_per_second=rate, retry_after=retry_after) as server:
                limits = Limits(rate_per_second=rate if is_given else None, backoff_seconds=0.2)
                began = time.monotonic()
                answers = asked(server, questions(n), limits=limits)
                used = n / (time.monotonic() - began)
                refused = server.n_refused_for_rate / len(server.received)
            if n_failed := sum(not isinstance(answer, Reply) for answer in answers):
                raise Lost(f"{n_failed} questions have no answer")
            prompts = [question.prompt for question in questions(n)]
            assert [answer.text for answer in answers if isinstance(answer, Reply)] == list(map(reversed_text, prompts))
            check_none_asked_again(server, prompts)
            if used >= goal and refused <= (most_refused if is_enough else 0.4):
                break
            assert chance == 0, f"{used:.1f} a second of {rate}, {refused:.1%} refused"
        known = "given" if is_given else "found out"
        cases.measure(
            f"{used:.1f} requests a second of {rate}, {known}, Retry-After {retry_after}; {refused:.1%} refused, "
            f"attempt {chance + 1}"
        )
