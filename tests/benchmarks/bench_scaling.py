"""How time grows: fitted exponents against samples, blocks, tasks and workers, each of which should be 1."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.estimators.noisy_channel import NoisyChannel
from bench.measure import measure
from bench.records import METHOD_VERSION, UnitKey

D_MODEL = 256
TOLERANCE = 0.1
EFFICIENCY = 0.8
"""Of two processes on two cores that do nothing else."""


def model(n_blocks: int) -> nn.Module:
    config = GPT2Config(vocab_size=64, n_embd=D_MODEL, n_layer=n_blocks, n_head=4, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def lists(n_names: int, first: int = 0) -> npt.NDArray[np.int64]:
    """Every ordered list of 4 of so many names, each closed by a separator."""
    orders = np.array(list(permutations(range(first, first + n_names), 4)))
    return np.stack([orders, np.full_like(orders, 63)], axis=2).reshape(len(orders), -1)


def measured(of: nn.Module, sequences: npt.NDArray[np.int64]) -> None:
    estimator = NoisyChannel()
    key = UnitKey(
        method_version=METHOD_VERSION, files_sha256="x", dtype="float32", bos=None, sequences_sha256="x",
        estimator=estimator.name, settings=dict(estimator.settings), seed=0, shuffled=False,
    )  # fmt: skip
    extractor = Extractor(of, find_blocks(of), bos=None, sample=sequences[:128])
    measure(
        key=key, names=("a",), sequences=sequences, extractor=extractor, estimator=estimator, device="cpu",
        memory_bytes=4 << 30,
    )  # fmt: skip


def exponent(sizes: Sequence[float], works: Sequence[Callable[[], object]]) -> float:
    """Slope of log time over log size; the best of three rounds, each of which goes through all sizes."""
    best = np.full(len(works), np.inf)
    for _ in range(3):
        for place, work in enumerate(works):
            began = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - began)
    return float(np.polyfit(np.log(sizes), np.log(best), 1)[0])


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("of", ["samples", "blocks", "tasks"])
def test_time_grows_linearly(benchmark: BenchmarkFixture, of: str) -> None:
    torch.set_num_threads(1)
    works: list[Callable[[], object]]
    if of == "samples":
        of_two, populations = model(2), [lists(n) for n in (12, 14, 16)]
        sizes = [float(len(np.unique(one, axis=0))) for one in populations]
        works = [lambda one=one: measured(of_two, one) for one in populations]  # type: ignore[misc]
    elif of == "blocks":
        sizes, population = [2.0, 4.0, 8.0], lists(10)
        models = [model(int(n)) for n in sizes]
        works = [lambda one=one: measured(one, population) for one in models]  # type: ignore[misc]
    else:
        sizes, of_two = [1.0, 2.0, 4.0], model(2)
        tasks = [lists(10, first) for first in (0, 12, 24, 36)]
        works = [lambda n=int(n): [measured(of_two, one) for one in tasks[:n]] for n in sizes]  # type: ignore[misc]
    works[0]()  # what is done once in a process is not part of the growth
    found = exponent(sizes, works)
    benchmark.extra_info["exponent"] = found
    print(f"\ntime against {of}: exponent {found:.2f}")
    assert abs(found - 1) <= TOLERANCE
    benchmark.pedantic(works[0], rounds=1)


WORK = (
    "import torch, time; torch.set_num_threads(1); from tests.benchmarks.bench_scaling import *; one = model(2); "
    "measured(one, lists(9)); print('ready', flush=True); input(); began = time.perf_counter(); "
    "measured(one, lists(12)); print(time.perf_counter() - began, flush=True)"
)


def together(n: int) -> float:
    """Seconds until the last of so many processes has done the same work, which they begin at once."""
    command = [sys.executable, "-c", WORK]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(n)
        ]
        for one in started:
            assert one.stdout is not None and one.stdout.readline().strip() == "ready"
        for one in started:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        return max(float(one.stdout.readline()) for one in started if one.stdout is not None)


@pytest.mark.benchmark(group="growth")
def test_two_workers_do_twice_as_much(benchmark: BenchmarkFixture) -> None:
    """Wall time, so that whatever else the machine does counts against it: the best of three."""
    alone, both = np.inf, np.inf
    for _ in range(3):
        alone, both = min(alone, together(1)), min(both, together(2))
    efficiency = alone / both
    benchmark.extra_info["efficiency"] = efficiency
    print(f"\ntwo processes at once: efficiency {efficiency:.2f}, exponent {1 + np.log2(efficiency):.2f}")
    assert efficiency >= EFFICIENCY
    benchmark.pedantic(lambda: None, rounds=1)
