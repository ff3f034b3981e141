"""Two hundred models, fifty records each: the leaderboard and its page, as a person waits for them.

Processor time, so that other work on the machine does not count. Records are small here: reading one the first time
takes as long as its matrices are large, three milliseconds for one of 30 blocks; from then on its digest is read.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import Store
from tasks import TASKS
from tests.planted_zoo import put
from tests.record_factory import make_record

N_MODELS, N_RECORDS = 200, 10_000

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results` in it."""
    folder = tmp_path_factory.mktemp("many")
    store, like = Store(folder / "results"), {task: make_record(task=task) for task in TASKS[:20]}
    for number in range(N_RECORDS):
        model, (seed, place) = number % N_MODELS, divmod(number // N_MODELS, 20)
        record, name = like[TASKS[place]], f"model-{model:03d}"
        key = record.key.model_copy(update={"model": name, "seed": seed, "files_sha256": f"{model:064d}"})
        info = record.model.model_copy(
            update={"name": name, "family": f"family {model % 17}", "n_parameters": 10**6 * (model + 1)}
        )
        put(store.record_path(key), record.model_copy(update={"key": key, "model": info}))
    return folder


def processor_seconds(folder: Path, *arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "bench", "leaderboard", *arguments], cwd=folder, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_leaderboard_takes_seconds_and_the_page_is_small(folder: Path) -> None:
    first = processor_seconds(folder)
    again = processor_seconds(folder)
    with_page = processor_seconds(folder, "--html", "board.html")
    size = (folder / "board.html").stat().st_size
    print(f"\nread first {first:.1f} s, again {again:.1f} s, with the page {with_page:.1f} s, {size / 1e6:.2f} MB")
    assert again < 5.0 and size < 5_000_000
    text = (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert text.count("| measured |") == N_MODELS
