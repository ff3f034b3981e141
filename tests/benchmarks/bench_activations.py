"""What sharing prefixes saves: the quick population through a small GPT-2, with and without, in one process."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import AutoModelForCausalLM, GPT2Config

from bench.activations import Extractor
from bench.blocks import find_blocks


@pytest.mark.benchmark(group="activations of 11,880 lists")
@pytest.mark.parametrize("shares_prefixes", [True, False], ids=["prefixes shared", "every list by itself"])
def test_quick_population(benchmark: BenchmarkFixture, shares_prefixes: bool) -> None:
    orders = np.array(list(permutations(range(12), 4)))
    sequences = np.stack([orders, np.full_like(orders, 12)], axis=2).reshape(len(orders), -1)
    config = GPT2Config(vocab_size=64, n_embd=256, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    extractor = Extractor(model, find_blocks(model), bos=None, sample=sequences[:128])
    extractor.shares_prefixes = shares_prefixes
    forest = extractor.plant(sequences)
    benchmark.extra_info["tokens"] = forest.n_computed
    benchmark.pedantic(lambda: sum(1 for _ in extractor.stream(forest)), rounds=3, warmup_rounds=1)
