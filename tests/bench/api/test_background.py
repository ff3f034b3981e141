"""Work in another thread: read to the end, given up, failing, interrupted by a signal."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bench.api.background import Outlet, in_background
from bench.completions import Reply
from tests.bench.api.questions import HURRIED, completer, questions
from tests.bench.scripted_server import ScriptedServer, always


async def counting(outlet: Outlet[int]) -> None:
    for number in range(1000):
        await outlet.put(number)


def n_threads() -> int:
    return sum(thread.name == "counting" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(in_background(counting, name="counting")) == list(range(1000))
    assert n_threads() == 0


def test_the_work_is_never_ahead_of_the_reader() -> None:
    made: list[int] = []

    async def work(outlet: Outlet[int]) -> None:
        for number in range(10):
            made.append(number)
            await outlet.put(number)

    for number in in_background(work, name="counting"):
        time.sleep(0.002)
        assert made[-1] == number


def test_an_exception_is_raised_at_the_reader_after_what_came_before() -> None:
    async def work(outlet: Outlet[int]) -> None:
        await outlet.put(1)
        outlet.tell(2)
        raise KeyError("three")

    found = []
    with pytest.raises(KeyError, match="three"):
        for item in in_background(work, name="counting"):
            found.append(item)
    assert found == [1, 2]
    assert n_threads() == 0


def test_closing_cancels_and_waits() -> None:
    ended: list[str] = []

    async def work(outlet: Outlet[int]) -> None:
        try:
            await outlet.put(1)
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            ended.append("tidied up")

    items = in_background(work, name="counting")
    assert next(items) == 1
    items.close()
    assert ended == ["tidied up"]
    assert n_threads() == 0


def test_giving_up_a_run_leaves_nothing_open() -> None:
    with ScriptedServer(latency_seconds=0.05) as server:
        began = time.monotonic()
        answers = completer(server).complete(questions(1000))
        index, answer = next(answers)
        assert isinstance(answer, Reply)
        answers.close()  # type: ignore[attr-defined]
        n_sent = len(server.received)
        assert time.monotonic() - began < 3
        time.sleep(0.2)
        assert len(server.received) == n_sent <= 12
    assert not [thread for thread in threading.enumerate() if thread.name == "bench-api"]


def test_a_slow_reader_costs_no_question_its_deadline() -> None:
    with ScriptedServer() as server:
        answers = completer(server).complete(questions(12))
        found = [next(answers)]
        time.sleep(2 * HURRIED.attempt_seconds)
        found.extend(answers)
    assert all(isinstance(answer, Reply) for _, answer in found)
    assert len(server.received) == 12


CHILD = """
import signal, sys
from tests.bench.api.questions import questions
from bench.api.client import ApiCompleter
class Interrupted(BaseException): pass
def interrupt(number, frame): raise Interrupted
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, interrupt)
asked = ApiCompleter(model="m", key=None, base_url=sys.argv[1])
try:
    for index, answer in asked.complete(questions(1000)):
        print(index, flush=True)
except Interrupted:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_hanging", [False, True])
def test_a_signal_ends_a_run_at_once(number: signal.Signals, is_hanging: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
    faults = {"faults": always("hang")} if is_hanging else {}
    with ScriptedServer(latency_seconds=0.05, **faults) as server:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", CHILD, server.base_url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        while len(server.received) < 8 and process.poll() is None:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 2
    assert process.returncode == 0
    assert out.splitlines()[-1] == "interrupted"
    assert (
        "never retrieved" not in err and "was destroyed" not in err and "Traceback" not in err and "Warning" not in err
    )
