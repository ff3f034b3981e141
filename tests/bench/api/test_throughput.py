"""How fast: as many at a time as allowed, and no faster than a server takes. Each is given a second chance, as other
work on the machine can hold up either side.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.api.cache import ReplyCache
from bench.api.cached import CachedCompleter, keeper, look_up
from bench.api.retry import Limits
from bench.completions import Reply
from tests.bench.api.questions import asked, completer, key_of, questions
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


@pytest.mark.parametrize("retry_after", ["1", None])
@pytest.mark.parametrize(
    ("given", "n", "least", "most_refused"),
    [
        (20.0, 120, 0.8, 0.05),
        (None, 200, 0.7, 0.10),
        pytest.param(20.0, 500, 0.8, 0.05, marks=pytest.mark.long),
        pytest.param(None, 500, 0.7, 0.10, marks=pytest.mark.long),
    ],
)
def test_an_enforced_rate_is_used_and_kept(
    given: float | None, n: int, least: float, most_refused: float, retry_after: str | None
) -> None:
    """Against 20 a second; with no rate given it has to be found out first."""

    def attempt() -> tuple[bool, str]:
        with ScriptedServer(rate_per_second=20, retry_after=retry_after) as server:
            began = time.monotonic()
            answers = asked(server, questions(n), limits=Limits(rate_per_second=given, backoff_seconds=0.2))
            rate = n / (time.monotonic() - began)
            refused = server.n_refused_for_rate / len(server.received)
        assert all(isinstance(answer, Reply) for answer in answers)
        print(f"{rate:.1f} a second of 20, {refused:.1%} refused")
        return rate >= least * 20 and refused < most_refused, f"{rate:.1f} a second of 20, {refused:.1%} refused"

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


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def n_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_many_questions_take_no_more_memory_and_files_than_few(tmp_path: Path) -> None:
    """2,000 answers from the cache and 500 from a server, after a few that load whatever is loaded once."""
    n_at_a_time, n_cached = 8, 2000
    limits = Limits(max_concurrency=n_at_a_time)
    every = questions(n_cached + 500)
    with ScriptedServer() as server, ReplyCache(tmp_path / "replies.sqlite") as cache:
        asked(server, questions(20), limits=limits)
        cache._connection.execute("PRAGMA synchronous=OFF")  # the test is not about the disk
        for question in every[:n_cached]:
            cache.put(key_of(question), Reply(text=question.prompt[::-1]))
        inner = completer(server, limits=limits, look_again=look_up(cache, key_of), keep=keeper(cache, key_of))
        asker = CachedCompleter(inner, cache, key_of)
        before, n_files, found, most, most_files = resident_mb(), n_open_files(), 0, 0.0, 0
        for index, answer in asker.complete(every):
            assert answer == Reply(text=every[index].prompt[::-1]) or index >= n_cached
            found += 1
            if found % 50 == 0:
                most, most_files = max(most, resident_mb()), max(most_files, n_open_files())
        assert (found, asker.n_from_cache, asker.n_asked) == (2500, n_cached, 500)
        assert most - before < 50
        assert most_files - n_files <= 2 * n_at_a_time + 8  # both ends of a connection are in this process
        time.sleep(0.2)
        assert n_open_files() <= n_files
