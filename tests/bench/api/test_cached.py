"""Nothing is asked twice: in one call, in the next, by two processes, after a kill."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.api.cache import ReplyCache
from bench.api.cached import CachedCompleter, keeper, look_up
from bench.completions import Failure, Reply, Request
from tests.bench.api.asking_child import N_AT_A_TIME
from tests.bench.api.questions import completer, key_of, questions
from tests.bench.scripted_server import ScriptedServer, for_prompts


class Scripted:
    """Answers with the prompt backwards; a prompt that holds "bad" has no answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.n_closed = 0

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
        try:
            for index in reversed(range(len(requests))):
                prompt = requests[index].prompt
                self.asked.append(prompt)
                if "bad" in prompt:
                    yield index, Failure(kind="bad request", message="no", n_attempts=1)
                else:
                    yield index, Reply(text=prompt[::-1])
        finally:
            self.n_closed += 1


def test_known_answers_come_first_and_only_the_others_are_asked(tmp_path: Path) -> None:
    inner = Scripted()
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        first = CachedCompleter(inner, cache, key_of)
        assert dict(first.complete(questions(3))) == {
            index: Reply(text=question.prompt[::-1]) for index, question in enumerate(questions(3))
        }
        assert (first.n_from_cache, first.n_asked) == (0, 3)
        inner.asked.clear()
        second = CachedCompleter(inner, cache, key_of)
        order = [index for index, _ in second.complete(tuple(reversed(questions(5))))]
        assert order[:3] == [2, 3, 4]
        assert sorted(inner.asked) == ["question 3", "question 4"]
        assert (second.n_from_cache, second.n_asked) == (3, 2)


def test_the_same_question_is_asked_once_and_a_failure_never_kept(tmp_path: Path) -> None:
    inner = Scripted()
    good, bad = questions(1)[0], Request(prompt="bad", mode="chat", max_tokens=1)
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        asked = CachedCompleter(inner, cache, key_of)
        found = dict(asked.complete((good, bad, good, bad, good)))
        assert sorted(inner.asked) == ["bad", "question 0"]
        assert [type(found[index]) for index in range(5)] == [Reply, Failure, Reply, Failure, Reply]
        assert len(cache) == 1
        inner.asked.clear()
        assert len(dict(asked.complete((good, bad)))) == 2
        assert inner.asked == ["bad"]


def test_an_answer_is_kept_before_it_is_given_out_and_closing_closes(tmp_path: Path) -> None:
    inner = Scripted()
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        answers = CachedCompleter(inner, cache, key_of).complete(questions(5))
        index, reply = next(answers)
        assert cache.get(key_of(questions(5)[index])) == reply
        answers.close()  # type: ignore[attr-defined]
        assert inner.n_closed == 1
        assert len(cache) == 1


def child(server: ScriptedServer, path: Path, *numbers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.bench.api.asking_child", server.base_url, str(path)]
    command += map(str, numbers)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[int, str]:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in out.splitlines()}


def expected(n: int) -> dict[int, str]:
    return {index: question.prompt[::-1] for index, question in enumerate(questions(n))}


def test_two_processes_share_one_cache(tmp_path: Path) -> None:
    n = 150
    with ScriptedServer(latency_seconds=0.02) as server:
        both = [child(server, tmp_path / "replies.sqlite", n) for _ in range(2)]
        for process in both:
            assert finished(process) == expected(n)
        n_sent = len(server.received)
    assert n <= n_sent <= n + n // 5, "what one has kept, the other does not ask"
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert len(cache) == n


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_every_answer_that_was_sent(tmp_path: Path, number: signal.Signals) -> None:
    """32 at a time, so that many answers wait for the reader at any moment."""
    path = tmp_path / "replies.sqlite"
    with ScriptedServer(latency_seconds=0.05) as server:
        process = child(server, path, 5000, 32)
        while len(server.received) < 100 and process.poll() is None:
            time.sleep(0.005)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 3
        assert (process.returncode, err, out.splitlines()[-1]) == (0, "", "interrupted")
        sent = [one.prompt for one in server.received if one.is_whole]
        assert 68 <= len(sent) == len(server.received) < 5000
    with ReplyCache(path) as cache:
        kept = [question.prompt for question in questions(5000) if cache.get(key_of(question)) is not None]
    assert sorted(sent) == sorted(kept)


def test_the_answer_that_another_process_kept_first_is_the_one_that_counts(tmp_path: Path) -> None:
    question = questions(1)[0]
    theirs = Reply(text="theirs")

    class Slow(Scripted):
        def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
            with ReplyCache(tmp_path / "replies.sqlite") as other:
                other.put(key_of(question), theirs)
            yield from super().complete(requests)

    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert list(CachedCompleter(Slow(), cache, key_of).complete((question,))) == [(0, theirs)]
        assert cache.put(key_of(question), Reply(text="late")) == cache.get(key_of(question)) == theirs


def test_a_cache_hit_says_that_the_model_answers(tmp_path: Path) -> None:
    """10 of 20 questions are refused for good; that is no reason to end a later run over more of them."""
    bad = {f"question {index}": "400" for index in range(10, 20)} | {f"question {index}": "400" for index in (20, 21)}
    path = tmp_path / "replies.sqlite"
    with ScriptedServer(faults=for_prompts(bad)) as server:
        for n in (20, 22):
            with ReplyCache(path) as cache:
                inner = completer(server, look_again=look_up(cache, key_of), keep=keeper(cache, key_of))
                found = dict(CachedCompleter(inner, cache, key_of).complete(questions(n)))
                more = dict(CachedCompleter(inner, cache, key_of).complete(questions(n)[10:]))
            assert sum(isinstance(answer, Reply) for answer in found.values()) == 10
            assert all(isinstance(answer, Failure) for answer in more.values())
            assert len(more) == n - 10


@pytest.mark.timeout(200)
def test_a_kill_loses_no_answer_that_was_kept(tmp_path: Path) -> None:
    """At random moments; only what was under way is asked again, and the end is as without a kill."""
    n, n_kills, rng = 60, 8, random.Random(3)
    path = tmp_path / "replies.sqlite"
    kept: set[str] = set()
    with ScriptedServer(latency_seconds=0.02) as server:
        for _ in range(n_kills):
            process = child(server, path, n)
            n_before, began = len(server.received), time.monotonic()
            while len(server.received) == n_before and process.poll() is None and time.monotonic() - began < 30:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.08))
            process.kill()
            process.communicate()
            assert kept.isdisjoint(one.prompt for one in server.received[n_before:])
            with ReplyCache(path) as cache:
                kept = {question.prompt for question in questions(n) if cache.get(key_of(question)) is not None}
                assert (len(kept), cache.n_damaged) == (len(cache), 0)
            answered = {one.prompt for one in server.received if one.is_whole}
            assert len(answered - kept) <= N_AT_A_TIME
        assert 0 < len(kept) < n
        n_before = len(server.received)
        assert finished(child(server, path, n)) == expected(n)
        assert kept.isdisjoint(one.prompt for one in server.received[n_before:])
        n_all = len(server.received)
        assert n <= n_all <= n + n_kills * N_AT_A_TIME
        assert finished(child(server, path, n)) == expected(n)
        assert len(server.received) == n_all, "a finished run asks nothing"
