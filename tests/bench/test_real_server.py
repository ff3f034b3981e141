"""The same model in process and behind a real OpenAI-compatible server, `transformers serve`, on loopback.

Marked `server`: `make server-test` installs what it needs and runs it; figures are printed, differences listed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.api.retry import Limits
from bench.catalog import resolve
from bench.completions import Mode
from bench.models import fetch
from bench.performance import Sample
from bench.query import QueryRequest, Service, query
from bench.store import samples_path
from bench.task_names import find_tasks
from tests.bench.told import Told

MODEL = "smollm2-135m-instruct"
TASKS = ("country", "antonym", "country-capital", "present-past", "english-french")
N_PROMPTS = 200
UP_SECONDS = 120.0

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, name of the model) of a running server."""
    folder = fetch(resolve(MODEL), print)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [
        str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--device", "cpu",
        "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_up(process, port, log)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.mark.parametrize("mode", ["completion", "chat"])
def test_in_process_and_over_the_wire_agree(
    server: tuple[str, str], mode: Mode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At least 95 % of 200 prompts get the same answer; the others are listed."""
    base_url, folder = server
    asked = QueryRequest(
        model=MODEL, tasks=find_tasks(TASKS), out=tmp_path, shots=(1, 4), n_questions=N_PROMPTS // (2 * len(TASKS)),
        mode=mode,
    )  # fmt: skip
    patient = Limits(attempt_seconds=120, total_seconds=300, max_concurrency=2)
    remote = QueryRequest(
        model=folder, tasks=asked.tasks, out=tmp_path, shots=asked.shots, n_questions=asked.n_questions, mode=mode,
        service=Service(base_url=base_url, limits=patient),
    )  # fmt: skip
    here, there = samples_of(asked), samples_of(remote)
    assert len(here) == len(there) == N_PROMPTS
    assert [one.prompt for one in here] == [one.prompt for one in there]
    assert all(one.failure is None for one in (*here, *there))
    differences = [(one, other) for one, other in zip(here, there, strict=True) if one.answer != other.answer]
    with capsys.disabled():
        print(f"\n{mode}: {N_PROMPTS - len(differences)} of {N_PROMPTS} answers are the same")
        for one, other in differences:
            print(f"  {one.task}, {one.n_shots} shots, question {one.index}: {one.reply!r} / {other.reply!r}")
    assert len(differences) <= 0.05 * N_PROMPTS


def samples_of(asked: QueryRequest) -> list[Sample]:
    return [
        Sample.model_validate_json(line)
        for outcome in query(asked, Told())
        for line in samples_path(outcome.path).read_bytes().splitlines()
    ]
