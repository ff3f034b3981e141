"""Codes of a tiny model against its own plain forward pass, and what an isometric embedding leaves alone."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.activations import plain_block_states, relative_difference
from bench.calibration.activations import BlockCodes, RealCodes, embedded, place_of, real_codes
from bench.catalog import resolve
from bench.errors import EstimationError, UsageError
from bench.estimators.exact import exact_information
from bench.estimators.noisy_channel import NoisyChannel
from bench.estimators.protocol import label_rows
from bench.models import find_blocks, identify, load
from tasks import load_task
from tasks.prompts import list_population
from tasks.seeds import generator
from tests.bench.tiny_models import D_MODEL, save_list_model

FLOAT32_ROUNDING = 1e-5
"""Of a state relative to the spread of the states, after two blocks."""

N_LISTS = 60


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_list_model(tmp_path_factory.mktemp("models") / "tiny", prepends_bos=True)


@pytest.fixture(scope="module")
def codes(folder: Path) -> RealCodes:
    return real_codes(str(folder), n_lists=N_LISTS, seed=3)


def test_the_codes_are_the_states_of_the_last_position(codes: RealCodes, folder: Path) -> None:
    """Lists made again, put in order, and run through the model as a whole, beginning-of-text token included."""
    loaded = load(resolve(str(folder)))
    population = list_population(
        load_task("country"),
        lambda text: loaded.tokenizer(text, add_special_tokens=False).input_ids,
        n_names=12,
        n_shots=4,
        rng=generator(3, "names", "country"),
        limit=N_LISTS,
    )
    tokens = torch.from_numpy(np.insert(np.unique(population.sequences, axis=0), 0, 0, axis=1))  # 0 begins a text
    expected = plain_block_states(loaded.model, find_blocks(loaded.model), tokens)[:, :, -1]
    assert [block.index for block in codes.blocks] == [0, 1]
    for block in codes.blocks:
        for rows, reference in ((block.inputs, expected[block.index]), (block.outputs, expected[block.index + 1])):
            assert rows.shape == (N_LISTS, D_MODEL) and rows.dtype == torch.float32
            assert relative_difference(rows, reference) < FLOAT32_ROUNDING
    assert torch.equal(codes.block(0).outputs, codes.block(1).inputs)


def test_they_say_which_model_they_are_of(codes: RealCodes, folder: Path) -> None:
    identity = identify(resolve(str(folder)))
    assert (codes.weights_sha256, codes.files_sha256) == (identity.weights_sha256, identity.files_sha256)
    assert (codes.model, codes.task, codes.n_lists) == (folder.name, "country", N_LISTS)
    assert (codes.d_model, codes.n_blocks) == (D_MODEL, 2)


def test_the_same_seed_gives_the_same_codes(codes: RealCodes, folder: Path) -> None:
    again, other = (real_codes(str(folder), n_lists=N_LISTS, seed=seed, blocks=(1,)) for seed in (3, 4))
    assert torch.equal(again.block(1).outputs, codes.block(1).outputs)
    assert not torch.equal(other.block(1).outputs, codes.block(1).outputs)
    assert [block.index for block in again.blocks] == [1]


def test_without_a_limit_every_list_is_there(folder: Path) -> None:
    block = real_codes(str(folder), n_lists=None, seed=0, blocks=(1,)).block(1)
    pairs = block.pairs()
    assert pairs.n_samples == 12 * 11 * 10 * 9
    assert exact_information(pairs) == pytest.approx(math.log(11_880))


@pytest.mark.parametrize(
    ("n_blocks", "expected"), [(30, [7, 15, 29]), (18, [4, 9, 17]), (2, [0, 1, 1]), (1, [0, 0, 0])]
)
def test_places(n_blocks: int, expected: list[int]) -> None:
    assert [place_of(place, n_blocks) for place in ("early", "middle", "last")] == expected


def test_blocks_that_are_not_there_are_refused(codes: RealCodes, folder: Path) -> None:
    assert codes.at("last") is codes.block(1)
    with pytest.raises(UsageError, match="unknown place 'first'; expected one of early, middle, last"):
        codes.at("first")
    with pytest.raises(UsageError, match="block 7 of tiny was not kept; expected one of 0, 1"):
        codes.block(7)
    for blocks in ((2,), (-1,), ()):
        with pytest.raises(UsageError, match="expected blocks between 0 and 1 of tiny, got"):
            real_codes(str(folder), n_lists=N_LISTS, seed=0, blocks=blocks)
    with pytest.raises(UsageError, match="--limit must leave at least 2 lists, got 1"):
        real_codes(str(folder), n_lists=1, seed=0)


@pytest.mark.parametrize("d_model", [D_MODEL, 40])
def test_an_embedding_keeps_gram_matrices_and_information(codes: RealCodes, d_model: int) -> None:
    wide = embedded(codes, d_model, seed=5)
    assert wide.d_model == d_model and [block.index for block in wide.blocks] == [0, 1]
    for before, after in zip(codes.blocks, wide.blocks, strict=True):
        for rows, turned in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
            assert turned.shape == (N_LISTS, d_model) and turned.dtype == torch.float32
            torch.testing.assert_close(turned @ turned.T, rows @ rows.T, rtol=1e-5, atol=1e-5)  # float32 sums
        torch.testing.assert_close(
            after.inputs @ after.outputs.T, before.inputs @ before.outputs.T, rtol=1e-5, atol=1e-5
        )
    before, after = (which.at("last").pairs() for which in (codes, wide))
    assert exact_information(after) == pytest.approx(exact_information(before), abs=1e-12)
    # The same centres, but other noise: 4 standard errors of the difference.
    found = [NoisyChannel(n_draws=2_000).estimate(pairs, np.random.default_rng(0)) for pairs in (before, after)]
    error = math.hypot(*(estimate.standard_error_nats for estimate in found))
    assert abs(found[0].value_nats - found[1].value_nats) <= 4 * error


def test_an_embedding_follows_from_its_seed(codes: RealCodes) -> None:
    one, same, other = (embedded(codes, 40, seed).at("last").inputs for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_equal_rows_stay_equal_and_distinct_ones_distinct(codes: RealCodes) -> None:
    """Wherever in the matrix they are: a product's rounding may depend on the rows around."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((7, D_MODEL), dtype=np.float32))[rng.integers(7, size=10_001)]
    block = BlockCodes(index=0, inputs=rows, outputs=rows)
    (turned,) = embedded(replace(codes, blocks=(block,)), 31, seed=0).blocks
    assert np.array_equal(label_rows(turned.inputs), label_rows(rows))


def test_fewer_dimensions_are_refused(codes: RealCodes) -> None:
    with pytest.raises(EstimationError, match="expected at least the 16 dimensions of the codes, got d_model=15"):
        embedded(codes, 15, seed=0)
