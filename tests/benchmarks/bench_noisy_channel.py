"""The noisy channel beside the two distance products it cannot do without, at 16P4 codes of width 768."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.estimators import pair_up
from bench.estimators.noisy_channel import NoisyChannel

CODES = torch.from_numpy(np.random.default_rng(0).standard_normal((43_680, 768), dtype=np.float32))


@pytest.mark.benchmark(group="16P4 codes of width 768")
def test_noisy_channel(benchmark: BenchmarkFixture) -> None:
    pairs = pair_up(CODES, CODES)
    benchmark.pedantic(lambda: NoisyChannel().estimate(pairs, np.random.default_rng(0)), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="16P4 codes of width 768")
def test_bare_products(benchmark: BenchmarkFixture) -> None:
    draws = CODES[: NoisyChannel().n_draws]
    benchmark.pedantic(lambda: (draws @ CODES.T, draws @ CODES.T), rounds=3, warmup_rounds=1)
