"""A model behind a real server, asked over the interface only: its emergence, estimated and held against the measured.

Marked `server`: `make server-test` installs what it needs and runs it; the figures are printed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.catalog import resolve
from bench.models import fetch
from bench.query import QueryRequest, Service, query
from bench.store import Store
from bench.task_names import find_tasks
from proxies.estimating import estimate_from_performance
from proxies.fitting import ALL_MODELS, FitRequest, problem_of
from tests.bench.told import Told

MODEL, FAMILY = "smollm2-135m-instruct", "SmolLM2"
RESULTS = Path(__file__).parent.parent.parent / "results"
UP_SECONDS = 120.0

pytestmark = [pytest.mark.server, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a running server whose model is called as in the catalog: it is named by its folder."""
    home = tmp_path_factory.mktemp("served")
    (home / MODEL).symlink_to(fetch(resolve(MODEL), print), target_is_directory=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "transformers"), "serve", MODEL, "--device", "cpu",
        "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + UP_SECONDS
            while True:
                assert process.poll() is None and time.monotonic() < deadline, (home / "log.txt").read_text()[-2000:]
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                        break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_emergence_of_a_served_model_is_estimated_without_its_family(address: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS / "performance", results / "performance")
    (results / "emergence").symlink_to(RESULTS / "emergence", target_is_directory=True)
    tasks = problem_of(FitRequest(results=results), "emergence", ALL_MODELS).tasks
    asked = QueryRequest(
        model=MODEL, tasks=find_tasks(list(tasks)), out=results, shots=(1, 4), n_questions=40,
        service=Service(base_url=address),
    )  # fmt: skip
    served = [outcome.record for outcome in query(asked, Told())]
    assert {record.key.provider for record in served} == {"api"}
    assert all(record.model is None and record.is_complete for record in served)

    found = estimate_from_performance(FitRequest(results=results), MODEL, family=None, progress=Told())

    estimate = found.record
    print(
        f"\n{MODEL}, served: estimated {estimate.value_bits:.2f} bits, intervals {estimate.intervals}, measured "
        f"{estimate.measured_bits:.2f}; held-out error {estimate.error_bits:.2f}; {estimate.verdict}"
    )
    assert estimate.left_out and all(name.startswith(MODEL) for name in estimate.left_out)
    assert not any(name.startswith(MODEL) for name in estimate.trained_on)
    rows = problem_of(FitRequest(results=results), "emergence", ALL_MODELS).frame
    assert estimate.measured_bits == pytest.approx(float(rows.loc[rows["model"] == MODEL, "emergence"].iloc[0]))
    assert set(rows["files_sha256"]) - {""} == set(rows["files_sha256"])  # the served one is no row of the fit
    here = {
        item.record.key.task: {cell.n_shots: cell.accuracy for cell in item.record.cells}
        for item in Store(RESULTS).performances()[0]
        if item.record.key.model == MODEL and item.record.key.mode == "completion" and item.record.key.seed == 0
    }
    for record in served:  # the same weights: 40 questions of 100 differ by chance alone
        for cell in record.cells:
            assert cell.accuracy == pytest.approx(here[record.key.task][cell.n_shots], abs=0.3)
