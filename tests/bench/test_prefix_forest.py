"""Packing checked against the definition: walk up the mask, read the prefix."""

from itertools import permutations

import numpy as np
import pytest

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


def test_without_sharing_every_sequence_is_a_bin_of_its_own() -> None:
    forest = plant(lists(4, 2), share_prefixes=False)
    assert forest.tokens.shape == (12, 4)
    assert (forest.attention(slice(None)) == np.tril(np.ones((4, 4), dtype=bool))).all()
