"""Reading, scoring and fitting: bytes and rows a second, beside what parsing the same bytes costs at least."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.performance import Sample
from bench.provenance import Start
from bench.query import scored
from bench.store import Store, samples_path
from proxies.digests import read_digests
from proxies.features import cells
from proxies.fits import fit, key_of
from proxies.regression import emergence_problem
from tasks import load_task
from tasks.queries import Scorer, questions
from tasks.task import PairTask
from tests.planted_zoo import stored, stored_performances, zoo
from tests.proxies.test_digests import Counted

RESULTS = Path(__file__).parent.parent.parent / "results"


def best(work: Callable[[], object], rounds: int = 3) -> float:
    found = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        found = min(found, time.process_time() - began)
    return found


@pytest.mark.benchmark(group="reading the committed records")
@pytest.mark.parametrize("how", ["whole", "digests"])
def test_store(benchmark: BenchmarkFixture, how: str) -> None:
    """Against Python's own JSON parser on the same bytes: what reading them at all costs."""
    store = Store(RESULTS)
    contents = [path.read_bytes() for path in sorted(RESULTS.glob("emergence/*/*.json"))]
    n_bytes = sum(map(len, contents))
    bare = best(lambda: [json.loads(content) for content in contents])
    work: Callable[[], object] = store.records if how == "whole" else lambda: read_digests(store, Counted())
    work()  # the first time makes the index
    found = best(work)
    benchmark.extra_info |= {"MB/s": n_bytes / found / 1e6, "bare": n_bytes / bare / 1e6}
    print(
        f"\n{how}: {len(contents)} records, {n_bytes / 1e6:.0f} MB at {n_bytes / found / 1e6:,.0f} MB/s; json.loads "
        f"alone {n_bytes / bare / 1e6:,.0f} MB/s"
    )
    assert found < (5 * bare if how == "whole" else bare)
    benchmark.pedantic(work, rounds=1)


@pytest.mark.benchmark(group="scoring")
def test_scoring(benchmark: BenchmarkFixture) -> None:
    task = load_task("country-capital")
    assert isinstance(task, PairTask)
    (path,) = (RESULTS / "performance/gemma-3-270m").glob("country-capital.completion.seed0.*.samples.jsonl")
    record = next(item.record for item in Store(RESULTS).performances()[0] if samples_path(RESULTS / item.path) == path)
    samples = [Sample.model_validate_json(line) for line in path.read_bytes().splitlines()]
    asked = {
        shots: questions(task, n_shots=shots, n_questions=record.key.n_questions, seed=record.key.seed)
        for shots in record.key.shots
    }
    scorer = Scorer(task, is_chat=False)
    pairs = [(sample, asked[sample.n_shots][sample.index]) for sample in samples]
    found = best(lambda: [scored(sample, question, scorer) for sample, question in pairs])
    print(f"\nscoring: {len(pairs) / found:,.0f} answers a second")
    assert len(pairs) / found > 2000
    benchmark.pedantic(lambda: scored(*pairs[0], scorer), rounds=3)


@pytest.mark.benchmark(group="features and fits")
def test_features_and_a_fit(benchmark: BenchmarkFixture) -> None:
    emergence, performance = zoo(8)
    records = stored(emergence), stored_performances(performance)
    frame = cells(*records).frame
    features = best(lambda: cells(*records))
    problem = emergence_problem(frame, mode="completion")
    key = key_of(problem, name="emergence", target="all models", features=(), estimator="noisy_channel",
                 mode="completion", seed=0)  # fmt: skip
    began = time.process_time()
    fit(problem, key, command="bench fit", start=Start.now(), before=time.perf_counter())
    fitted = time.process_time() - began
    print(f"\nfeatures: {len(frame) / features:,.0f} cells a second; a fit of {len(problem.frame)} rows {fitted:.1f} s")
    assert fitted < 60
    benchmark.pedantic(lambda: cells(*records), rounds=1)
