"""Estimators beside what they cannot do without: the noisy channel its two products, the critics theirs."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.estimators import Pairs, pair_up
from bench.estimators.critics import EMBEDDING, HEADS, HIDDEN_WIDTH, N_COMPONENTS
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import Exact
from bench.estimators.gaussian import Gaussian
from bench.estimators.infonce_anchor import InfonceAnchor
from bench.estimators.mine_paper import MinePaper, flops_per_epoch
from bench.estimators.noisy_channel import NoisyChannel
from tests.benchmarks.rates import best_of, one_thread

AT_MOST = 2.0
"""Times the bare products that the noisy channel may take; measured 1.4 to 1.7."""

N_CELLS = 108
"""Of a model of 12 blocks at 9 positions."""

SHARE = 0.25
"""Of the limit that the training of the critics reaches, at least; 30 to 50 % were measured. Their matrices are small,
and between them come logarithms of sums of exponentials, and the optimiser."""

GAUSSIAN_AT_MOST, EXACT_AT_MOST = 6.0, 20.0
"""Times the bare product and the bare copy."""

CONFIGS: dict[str, PreTrainedConfig] = {
    "width 576": LlamaConfig(
        vocab_size=64,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=9,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "width 768": GPT2Config(vocab_size=64, n_layer=2, bos_token_id=0, eos_token_id=0),
}


def activations(config: PreTrainedConfig) -> Pairs:
    """Of the last block at the last position, all 11,880 lists of 4 out of 12 names."""
    orders = np.array(list(permutations(range(12), 4)))
    sequences = np.stack([orders, np.full_like(orders, 12)], axis=2).reshape(len(orders), -1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    extractor = Extractor(model, find_blocks(model), bos=None, sample=sequences[:32])
    for states in extractor.stream(extractor.plant(sequences)):
        last = states
    position = sequences.shape[1] - 1
    return pair_up(last.inputs_at(position), last.outputs_at(position))


@pytest.mark.benchmark(group="noisy channel, 11,880 lists")
@pytest.mark.parametrize("name", CONFIGS)
def test_noisy_channel_beside_its_two_products(benchmark: BenchmarkFixture, name: str) -> None:
    with one_thread():
        pairs = activations(CONFIGS[name])
        codes = pairs.outputs
        draws = codes[: NoisyChannel().n_draws]

        def estimate() -> None:
            NoisyChannel().estimate(pairs, np.random.default_rng(0))

        taken, bare = best_of(estimate, lambda: (draws @ codes.T, draws @ codes.T), n_rounds=6)
        benchmark.pedantic(estimate, rounds=1)
    limit = 2 * 2 * codes.numel() * len(draws) / bare
    benchmark.extra_info |= {"limit GFLOP/s": limit / 1e9, "times the products": taken / bare}
    print(f"\n{taken / bare:.2f} times the two products, which run at {limit / 1e9:.0f} GFLOP/s")
    assert taken / bare < AT_MOST


def step_flops(settings: CrossfitNCE | InfonceAnchor) -> int:
    """Of one step of training: three passes of two towers and of the scores, for every fold and head."""
    tower = N_COMPONENTS * HIDDEN_WIDTH + HIDDEN_WIDTH**2 + (N_COMPONENTS + HIDDEN_WIDTH) * EMBEDDING
    a_row = 2 * 2 * tower + 2 * EMBEDDING * settings.batch_size
    return 3 * settings.n_folds * len(HEADS) * settings.batch_size * a_row


def dependent_rows(n_samples: int, width: int, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sides that share 16 directions, so much stronger than their noise."""
    rng = np.random.default_rng(0)
    latent = np.float32(strength) * rng.standard_normal((n_samples, 16), dtype=np.float32)

    def side() -> torch.Tensor:
        axes = rng.standard_normal((16, width), dtype=np.float32)
        return torch.from_numpy(latent @ axes + rng.standard_normal((n_samples, width), dtype=np.float32))

    return side(), side()


@pytest.mark.benchmark(group="critics, 8,000 samples of width 768")
@pytest.mark.parametrize("kind", [CrossfitNCE, InfonceAnchor], ids=lambda kind: kind.name)
def test_cross_fitted_critics_beside_their_products(
    benchmark: BenchmarkFixture, kind: type[CrossfitNCE | InfonceAnchor]
) -> None:
    """A cell is told from 75 and from 125 steps, evaluations included; training that ends early takes less."""
    short, longer, whole = kind(n_steps=75), kind(n_steps=125), kind()
    with one_thread():
        pairs = pair_up(*dependent_rows(whole.n_samples, 768))
        x = torch.randn(len(HEADS), whole.batch_size, HIDDEN_WIDTH)
        weight = torch.randn(len(HEADS), HIDDEN_WIDTH, HIDDEN_WIDTH)
        few, more, bare = best_of(
            lambda: short.estimate(pairs, np.random.default_rng(0)),
            lambda: longer.estimate(pairs, np.random.default_rng(0)),
            lambda: [x @ weight for _ in range(100)],
            n_rounds=2,
        )
        benchmark.pedantic(short.estimate, args=(pairs, np.random.default_rng(0)), rounds=1)
    step = (more - few) / (longer.n_steps - short.n_steps)
    cell = few + step * (whole.n_steps - short.n_steps)
    rate, limit = step_flops(whole) / step, 100 * 2 * x.numel() * HIDDEN_WIDTH / bare
    benchmark.extra_info |= {"GFLOP/s": rate / 1e9, "limit": limit / 1e9, "share": rate / limit, "seconds a cell": cell}
    print(
        f"\n{rate / 1e9:.0f} GFLOP/s of {limit / 1e9:.0f}: {rate / limit:.0%}; at most {cell:.0f} s a cell, "
        f"{N_CELLS * cell / 2 / 60:.0f} minutes for {N_CELLS} on two cores"
    )
    assert rate / limit >= SHARE


@pytest.mark.benchmark(group="gaussian, 8,000 samples of width 256")
def test_gaussian_beside_the_product_of_its_rows(benchmark: BenchmarkFixture) -> None:
    """What it cannot do without is all columns of both sides times each other, in float64."""
    with one_thread():
        pairs = pair_up(*dependent_rows(8_000, 256, strength=0.02))
        both = torch.cat([pairs.inputs, pairs.outputs], dim=1).double()

        def estimate() -> None:
            Gaussian().estimate(pairs, np.random.default_rng(0))

        taken, bare = best_of(estimate, lambda: both.T @ both)
        benchmark.pedantic(estimate, rounds=1)
    flops = 2 * len(both) * both.shape[1] ** 2
    benchmark.extra_info |= {
        "GFLOP/s": flops / taken / 1e9, "limit GFLOP/s": flops / bare / 1e9, "times the product": taken / bare
    }  # fmt: skip
    print(f"\n{taken / bare:.2f} times the product, which runs at {flops / bare / 1e9:.0f} GFLOP/s")
    assert taken / bare < GAUSSIAN_AT_MOST


@pytest.mark.benchmark(group="exact, 11,880 lists of width 768")
def test_exact_beside_a_copy_of_its_rows(benchmark: BenchmarkFixture) -> None:
    """Equal rows have to be found, which takes reading all of them; counting the labels is little beside it."""
    with one_thread():
        sides = dependent_rows(11_880, 768)

        def count() -> None:
            Exact().estimate(pair_up(*sides), np.random.default_rng(0))

        room = [torch.empty_like(side) for side in sides]
        taken, bare = best_of(count, lambda: [there.copy_(side) for there, side in zip(room, sides, strict=True)])
        benchmark.pedantic(count, rounds=1)
    n_bytes = sum(side.numel() * side.element_size() for side in sides)
    benchmark.extra_info |= {
        "GB/s": n_bytes / taken / 1e9, "limit GB/s": n_bytes / bare / 1e9, "times the copy": taken / bare
    }  # fmt: skip
    print(f"\n{n_bytes / taken / 1e9:.1f} GB/s; a copy of the rows runs at {n_bytes / bare / 1e9:.1f}")
    assert taken / bare < EXACT_AT_MOST


@pytest.mark.benchmark(group="mine_paper, 4,000 samples of width 128")
def test_an_epoch_of_mine_paper_beside_its_first_product(benchmark: BenchmarkFixture) -> None:
    """The recipe of the paper, kept for comparison: its epochs are matrix products and an optimiser."""
    few, more = (MinePaper(n_epochs=n, n_samples=4_000, hidden_width=128) for n in (6, 26))
    with one_thread():
        pairs = pair_up(*dependent_rows(4_000, 128))
        x = torch.randn(pairs.n_samples, 256)
        weight = torch.randn(256, 128)
        short, longer, bare = best_of(
            lambda: few.estimate(pairs, np.random.default_rng(0)),
            lambda: more.estimate(pairs, np.random.default_rng(0)),
            lambda: [x @ weight for _ in range(10)],
            n_rounds=2,
        )
        benchmark.pedantic(few.estimate, args=(pairs, np.random.default_rng(0)), rounds=1)
    n_rows = round(pairs.n_samples * (1 - few.held_out_share))
    rate = flops_per_epoch(256, 128, n_rows) * (more.n_epochs - few.n_epochs) / (longer - short)
    limit = 10 * 2 * x.numel() * 128 / bare
    benchmark.extra_info |= {"GFLOP/s": rate / 1e9, "limit": limit / 1e9, "share": rate / limit}
    print(f"\n{rate / 1e9:.0f} GFLOP/s of {limit / 1e9:.0f}: {rate / limit:.0%}")
    assert rate / limit >= SHARE
