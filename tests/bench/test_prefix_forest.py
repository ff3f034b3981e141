"""Packing checked against the definition: walk up the mask, read the prefix."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.prefix_forest import PrefixForest, plant


def lists(n: int, k: int) -> np.ndarray:
    orders = np.array(list(permutations(range(n), k)))
    return np.stack([orders, np.full_like(orders, n)], axis=2).reshape(len(orders), -1)


def read_prefix(forest: PrefixForest, row: int) -> list[int]:
    """The tokens that the slot `row` may attend to, by depth."""
    one_bin, slot = divmod(int(row), forest.tokens.shape[1])
    seen = np.flatnonzero(forest.attention(slice(one_bin, one_bin + 1))[0, slot])
    seen = seen[np.argsort(forest.depths[one_bin, seen])]
    assert forest.depths[one_bin, seen].tolist() == list(range(len(seen)))
    return forest.tokens[one_bin, seen].tolist()


@pytest.mark.parametrize("seed", range(40))
def test_every_prefix_is_there_once_with_its_weight_and_sees_itself_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = rng.integers(0, rng.integers(1, 5), size=(rng.integers(1, 40), rng.integers(1, 6)))
    bos = None if rng.random() < 0.5 else 99
    forest = plant(sequences, bos=bos, max_slots=int(rng.integers(1, 20)), share_prefixes=bool(rng.random() < 0.8))
    for position in range(sequences.shape[1]):
        prefixes, counts = np.unique(sequences[:, : position + 1], axis=0, return_counts=True)
        start = [] if bos is None else [bos]
        assert [read_prefix(forest, row) for row in forest.rows[position]] == [start + p.tolist() for p in prefixes]
        np.testing.assert_allclose(forest.weights[position], counts / len(sequences))


def test_the_quick_population_is_computed_almost_without_repetition() -> None:
    forest = plant(lists(12, 4))
    distinct = sum(map(len, forest.rows))
    assert distinct == 2 * (12 + 132 + 1_320 + 11_880)
    assert distinct <= forest.n_computed <= 1.03 * distinct
    assert forest.n_plain == 8 * 11_880
    assert forest.tokens.size <= 1.05 * distinct


def test_the_cost_grows_with_distinct_prefixes_not_with_sequences() -> None:
    once, often = plant(lists(5, 3)), plant(np.repeat(lists(5, 3), 50, axis=0))
    assert often.n_computed == once.n_computed
    assert often.n_plain == 50 * once.n_plain


@pytest.mark.parametrize("seed", range(10))
def test_lengths_that_are_all_the_same_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = rng.integers(0, 3, size=(30, 5))
    bos = None if rng.random() < 0.5 else 99
    forest = plant(sequences, bos=bos, max_slots=17)
    told = plant(np.insert(sequences, 5, 7, axis=1), lengths=np.full(30, 5), bos=bos, max_slots=17)
    for attribute in ("tokens", "depths", "parents", "paths"):
        assert getattr(told, attribute).tobytes() == getattr(forest, attribute).tobytes()
    for ours, theirs in zip(told.rows + told.weights, forest.rows + forest.weights, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert told.n_plain == forest.n_plain == 30 * (5 + (bos is not None))


RAGGED = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=25)


@settings(deadline=None)
@given(RAGGED, st.sampled_from([None, 99]), st.integers(1, 60), st.booleans())
def test_sequences_of_different_lengths(
    sequences: list[list[int]], bos: int | None, max_slots: int, share_prefixes: bool
) -> None:
    lengths = np.array(list(map(len, sequences)))
    padded = np.array([[*sequence, *[1] * (lengths.max() - len(sequence))] for sequence in sequences])
    forest = plant(padded, lengths=lengths, bos=bos, max_slots=max_slots, share_prefixes=share_prefixes)
    start = [] if bos is None else [bos]
    whole = [(*start, *sequence) for sequence in sequences]
    prefixes = {sequence[: n + 1] for sequence in whole for n in range(len(sequence))}
    n_slots = forest.tokens.shape[1]

    for sequence, path in zip(whole, forest.paths, strict=True):
        used = path[: len(sequence)]
        assert (path[len(sequence) :] == -1).all()
        assert len(set(used // n_slots)) == 1  # all in one bin
        for depth, slot in enumerate(used.tolist()):  # each sees what comes before it and nothing else
            assert read_prefix(forest, slot) == list(sequence[: depth + 1])
    for position in range(forest.n_positions):
        n_tokens = len(start) + position + 1
        reaching = [sequence[:n_tokens] for sequence in whole if len(sequence) >= n_tokens]
        distinct = sorted(set(reaching))
        assert [tuple(read_prefix(forest, row)) for row in forest.rows[position]] == distinct
        expected = [reaching.count(prefix) / len(reaching) for prefix in distinct]
        np.testing.assert_allclose(forest.weights[position], expected)

    assert forest.n_plain == sum(map(len, whole))
    n_bins = len(forest.tokens)
    assert n_slots <= max(max_slots, max(map(len, whole)))
    if share_prefixes and len(prefixes) <= max_slots:
        assert (n_bins, forest.n_computed) == (1, len(prefixes))
    if not share_prefixes:
        assert (n_bins, forest.n_computed) == (len(set(whole)), sum(map(len, set(whole))))
    assert len(prefixes) <= forest.n_computed <= forest.n_plain


def test_a_sequence_that_another_goes_on_from_costs_nothing() -> None:
    forest = plant(np.array([[1, 2, 3, 4], [1, 2, 0, 0], [1, 5, 0, 0]]), lengths=np.array([4, 2, 2]))
    assert forest.n_computed == 5
    assert forest.paths[1].tolist() == [*forest.paths[0, :2].tolist(), -1, -1]


def test_without_sharing_every_sequence_is_a_bin_of_its_own() -> None:
    forest = plant(lists(4, 2), share_prefixes=False)
    assert forest.tokens.shape == (12, 4)
    assert (forest.attention(slice(None)) == np.tril(np.ones((4, 4), dtype=bool))).all()
