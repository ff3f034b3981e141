"""How fast: as many at a time as allowed, and evenly. Each is given a second chance, as other work on the machine can
hold up either side.
"""

from collections.abc import Callable

import pytest

from bench.api.retry import Limits
from bench.completions import Reply
from tests.bench.api.questions import asked, questions
from tests.bench.scripted_server import ScriptedServer


def passes_once(attempt: Callable[[], tuple[bool, str]]) -> None:
    for _ in range(2):
        is_good, words = attempt()
        if is_good:
            return
    pytest.fail(words)


def test_connections_are_kept_busy() -> None:
    """200 ms and 8 at a time make 40 a second at best."""

    def attempt() -> tuple[bool, str]:
        with ScriptedServer(latency_seconds=0.2) as server:
            asked(server, questions(8))  # the client is imported, nothing else
            n_before = len(server.received)
            answers = asked(server, questions(80), limits=Limits(max_concurrency=8))
            times = [one.at for one in server.received[n_before:]]
        assert all(isinstance(answer, Reply) for answer in answers)
        rate = 80 / (times[-1] + 0.2 - times[0])
        return rate >= 0.9 * 40, f"{rate:.1f} a second of 40"

    passes_once(attempt)


def test_sending_is_even() -> None:
    """No second may see a burst: at 50 a second no 100 ms see more than 5, and a few that other work held up."""

    def attempt() -> tuple[bool, str]:
        with ScriptedServer() as server:
            asked(server, questions(60), limits=Limits(rate_per_second=50))
            times = [one.at for one in server.received]
        most = max(sum(start <= moment < start + 0.1 for moment in times) for start in times)
        return most <= 7, f"{most} within 100 ms"

    passes_once(attempt)
