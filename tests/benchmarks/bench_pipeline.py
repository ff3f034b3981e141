"""One condition of a real model from end to end, beside what else one could do with the same activations.

The other two would take hours to days, so a part of each is timed and the rest reckoned from its own counts: epochs of
the paper's recipe, and rows and cells of a nearest-neighbour estimator, which compares every row with every other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.special import digamma
from sklearn.neighbors import NearestNeighbors

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.catalog import resolve
from bench.estimators import pair_up
from bench.estimators.mine_paper import MinePaper
from bench.estimators.noisy_channel import NoisyChannel
from bench.measure import measure
from bench.models import LoadedModel, load
from bench.records import METHOD_VERSION, Measurement, UnitKey
from bench.request import RunRequest
from bench.run import parts_of, populations_of
from bench.task_names import find_tasks

MODEL, TASK = "gpt2-ladder-m", "country"
PAPER_EPOCHS = MinePaper().n_epochs
N_EPOCHS = (6, 16)
N_ROWS = 1500
"""Of the neighbour search that is timed; all rows take the square of their ratio longer."""

PAPER_RATIO, PLAIN_RATIO = 1000, 3


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load(resolve(MODEL))


@pytest.fixture(scope="module")
def sequences(loaded: LoadedModel) -> npt.NDArray[np.int64]:
    request = RunRequest(models=(MODEL,), tasks=find_tasks([TASK]), out=Path())
    (part,) = parts_of(request)
    return populations_of(request, part, loaded.tokenizer)["trained"].sequences


def ours(loaded: LoadedModel, sequences: npt.NDArray[np.int64]) -> Measurement:
    """Activations, pairs, estimates and ceilings of every block and position."""
    estimator = NoisyChannel()
    key = UnitKey(
        method_version=METHOD_VERSION, files_sha256=loaded.files_sha256, dtype="float32", bos=None,
        sequences_sha256=hashlib.sha256(sequences.tobytes()).hexdigest(), estimator=estimator.name,
        settings=dict(estimator.settings), seed=0, shuffled=False,
    )  # fmt: skip
    blocks = find_blocks(loaded.model)
    return measure(
        key=key, names=("a",), sequences=sequences, estimator=estimator, device="cpu", memory_bytes=4 << 30,
        extractor=Extractor(loaded.model, blocks, bos=None, sample=sequences[:128]),
    )  # fmt: skip


def hidden_states(loaded: LoadedModel, sequences: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """The loop that everybody writes first: every list by itself, all layers, at the last position."""
    layers: list[list[torch.Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(sequences), 512):
            batch = torch.from_numpy(sequences[start : start + 512])
            states = loaded.model(batch, output_hidden_states=True).hidden_states
            layers.append([state[:, -1] for state in states])
    return [torch.cat(parts).numpy() for parts in zip(*layers, strict=True)]


def neighbours(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], k: int = 3) -> float:
    """Mutual information in nats by the first estimator of Kraskov, Stögbauer & Grassberger 2004, from scikit-learn."""

    def fitted(rows: npt.NDArray[np.float32]) -> NearestNeighbors:
        return NearestNeighbors(metric="chebyshev").fit(rows)

    distances, _ = fitted(np.hstack([x, y])).kneighbors(n_neighbors=k)
    radius = np.nextafter(distances[:, -1], 0)
    counts = [
        np.array([len(fitted(side).radius_neighbors(row[None], radius=r, return_distance=False)[0])
                  for row, r in zip(side[:50], radius[:50], strict=True)])
        for side in (x, y)
    ]  # fmt: skip
    n = len(x)
    return float(digamma(k) + digamma(n) - np.mean(digamma(counts[0]) + digamma(counts[1])))


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.benchmark(group="one condition from end to end")
def test_beside_the_papers_recipe_and_a_plain_loop(
    benchmark: BenchmarkFixture, loaded: LoadedModel, sequences: npt.NDArray[np.int64]
) -> None:
    found: list[Measurement] = []
    whole = seconds(lambda: found.append(ours(loaded, sequences)))
    n_blocks, n_positions = len(found[0].macro_ceiling_bits), len(found[0].micro_of_position)
    n_cells = n_blocks * n_positions

    layers: list[npt.NDArray[np.float32]] = []
    loop = seconds(lambda: layers.extend(hidden_states(loaded, sequences)))
    middle = n_blocks // 2
    x, y = layers[middle], layers[middle + 1]
    search = seconds(lambda: neighbours(x[:N_ROWS], y[:N_ROWS])) * (len(x) / N_ROWS) ** 2
    plain = loop + n_cells * search

    pairs = pair_up(torch.from_numpy(x), torch.from_numpy(y), np.full(len(x), 1 / len(x)))
    few, more = (seconds(lambda n=n: MinePaper(n_epochs=n).estimate(pairs, np.random.default_rng(0))) for n in N_EPOCHS)
    recipe = loop + n_cells * PAPER_EPOCHS * (more - few) / (N_EPOCHS[1] - N_EPOCHS[0])

    benchmark.extra_info |= {"recipe / ours": recipe / whole, "plain / ours": plain / whole}
    print(
        f"\n{MODEL}, {len(sequences):,} lists, {n_cells} cells, one thread: ours {whole:.1f} s; the paper's recipe "
        f"{recipe / 3600:,.0f} h, {recipe / whole:,.0f} times as long; hidden states and scikit-learn's neighbours "
        f"{plain / 3600:,.2f} h, {plain / whole:,.0f} times as long (the loop over hidden states alone {loop:.1f} s)"
    )
    assert recipe / whole >= PAPER_RATIO and plain / whole >= PLAIN_RATIO
    benchmark.pedantic(lambda: ours(loaded, sequences[:500]), rounds=1)
