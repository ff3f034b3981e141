"""Thousands of questions in one process: memory and open files stay as they are."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from bench.api.budget import Budget
from bench.api.cache import ReplyCache
from bench.api.cached import CachedCompleter, keeper, look_up
from bench.api.client import ApiCompleter
from bench.api.retry import Limits
from bench.completions import Reply
from tests.bench.api.questions import key_of, questions
from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import done
from tests.faults.ledger import Cases

N_AT_A_TIME = 8
MAX_GROWTH_MB = 50


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def n_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def asks(base_url: str, path: str, n_cached: int, n_live: int, report: str) -> None:
    """Ask all, the first of which have answers already, and write down what that took."""
    every = questions(n_cached + n_live)
    budget = Budget(max_requests=10 * n_live)
    with ReplyCache(Path(path)) as cache:
        limits = Limits(max_concurrency=N_AT_A_TIME, attempt_seconds=10.0, total_seconds=40.0)
        arguments = {"look_again": look_up(cache, key_of), "keep": keeper(cache, key_of), "budget": budget}
        inner = ApiCompleter(model="m", key=None, base_url=base_url, limits=limits, **arguments)  # type: ignore[arg-type]
        asker = CachedCompleter(inner, cache, key_of)
        dict(asker.complete(questions(n_cached + 40)[-40:]))  # whatever is loaded once
        before, n_files, n_found, most, most_files = resident_mb(), n_open_files(), 0, 0.0, 0
        for index, answer in asker.complete(every):
            assert isinstance(answer, Reply) and answer.text == every[index].prompt[::-1]
            n_found += 1
            if n_found % 50 == 0:
                most, most_files = max(most, resident_mb()), max(most_files, n_open_files())
        time.sleep(0.2)
        found = {
            "n_found": n_found,
            "n_asked": asker.n_asked,
            "growth_mb": most - before,
            "more_files": most_files - n_files,
            "more_files_at_the_end": n_open_files() - n_files,
            "n_under_way": budget.n_under_way,
        }
    Path(report).write_text(json.dumps(found))


@pytest.mark.timeout(600)
def test_memory_and_open_files_do_not_grow_with_the_number_of_questions(cases: Cases, tmp_path: Path) -> None:
    n_cached, n_live = cases.n(quick=1000, full=10_000), cases.n(quick=200, full=2_000)
    path, report = tmp_path / "replies.sqlite", tmp_path / "report.json"
    with cases.case(f"{n_cached} from the cache, {n_live} from a server"), ScriptedServer() as server:
        with ReplyCache(path) as cache:
            cache._connection.execute("PRAGMA synchronous=OFF")  # the test is not about the disk
            for question in questions(n_cached):
                cache.put(key_of(question), Reply(text=question.prompt[::-1]))
        done(asks, server.base_url, str(path), n_cached, n_live, str(report), log=tmp_path / "log", seconds=500)
        found = json.loads(report.read_text())
        assert found["n_found"] == n_cached + n_live
        assert len(server.received) == found["n_asked"] == n_live
        assert found["growth_mb"] < MAX_GROWTH_MB
        assert found["more_files"] <= N_AT_A_TIME + 4  # connections, and what an event loop has open
        assert found["more_files_at_the_end"] <= 0
        assert found["n_under_way"] == 0
        assert server.connections_opened <= 2 * N_AT_A_TIME  # of the first few questions, and of the others
        cases.measure(f"memory grew by {found['growth_mb']:.0f} MB, open files by {found['more_files']}")
