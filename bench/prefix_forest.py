"""Sequences that share prefixes, packed so that (nearly) every distinct prefix is computed once.

A transformer is causal, so the state at a position depends on the prefix that ends there and on nothing else.
The distinct prefixes of a population form a trie. It is cut into *bins* of at most `max_slots` tokens; one bin is one
row of a batch, in which a token attends to its own ancestors only (a tree-attention mask) and its position is its
depth. The prefix above a cut is repeated in every bin that needs it, which costs a few per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_NOTHING = -1  # behind the end of a sequence; below every token id, so that a prefix is sorted before what goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixForest:
    """A population of token sequences as packed prefix trees.

    Attributes:
        tokens: token id of each slot, shape (n_bins, n_slots); unused slots repeat the bin's first token.
        depths: position of each slot in its sequence, same shape.
        parents: slot of the token before it in the same bin, same shape; -1 at a root and in unused slots.
        rows: per position t, the flat slot index of each distinct prefix of length t + 1, in sorted order.
        weights: per position t, the share of the sequences that long that begin with that prefix; each sums to 1.
        paths: flat slot index of each token of each sequence, in the order they came in, BOS included, shape
            (n_sequences, n_offset + n_positions); -1 behind the end of a sequence.
        n_computed: tokens that go through the model: distinct prefixes plus the repetitions at the cuts.
        n_sequences: sequences in the population, repetitions included.
        n_offset: leading positions that every sequence shares and that are not counted (1 with a BOS token, else 0).
    """

    tokens: Integers
    depths: Integers
    parents: Integers
    rows: tuple[Integers, ...]
    weights: tuple[npt.NDArray[np.float64], ...]
    paths: Integers
    n_computed: int
    n_sequences: int
    n_offset: int

    @property
    def n_positions(self) -> int:
        """Positions of the longest sequence, BOS not counted."""
        return len(self.rows)

    @property
    def n_plain(self) -> int:
        """Tokens that go through the model when each sequence is computed by itself."""
        return int(np.count_nonzero(self.paths >= 0))

    def attention(self, bins: slice) -> npt.NDArray[np.bool_]:
        """Which slot may attend to which, shape (n_bins_in_slice, n_slots, n_slots): itself and its ancestors."""
        parents = self.parents[bins]
        n_bins, n_slots = parents.shape
        allowed = np.zeros((n_bins, n_slots, n_slots), dtype=bool)
        bin_index, slot_index = np.indices((n_bins, n_slots))
        current = np.broadcast_to(np.arange(n_slots), (n_bins, n_slots))
        while True:
            alive = current >= 0
            if not alive.any():
                return allowed
            allowed[bin_index[alive], slot_index[alive], current[alive]] = True
            current = np.where(alive, np.take_along_axis(parents, np.maximum(current, 0), axis=1), -1)


def plant(
    sequences: Integers,
    *,
    lengths: Integers | None = None,
    bos: int | None = None,
    max_slots: int = 256,
    share_prefixes: bool = True,
) -> PrefixForest:
    """Pack a population of sequences, shape (n_sequences, n_positions), repetitions allowed.

    Args:
        lengths: tokens of each sequence, shape (n_sequences,), at least 1; what stands behind them is not looked at.
            None: every sequence fills its row.
        bos: a token put before every sequence (not counted as a position), or None.
        max_slots: tokens per bin. Attention costs grow with it, repeated prefixes shrink with it.
        share_prefixes: False gives every distinct sequence a bin of its own, for architectures in which a
            token's state depends on more than a tree-attention mask can express.
    """
    n_sequences = len(sequences)
    n_offset = 0 if bos is None else 1
    if lengths is not None:
        assert lengths.min() >= 1, "a sequence without tokens has no slots"
        columns = np.arange(lengths.max())
        sequences = np.where(columns < lengths[:, None], sequences[:, : len(columns)], _NOTHING)
    if bos is not None:
        sequences = np.concatenate([np.full((n_sequences, 1), bos, dtype=np.int64), sequences], axis=1)
    distinct, index_of, repetitions = np.unique(sequences, axis=0, return_inverse=True, return_counts=True)
    n_distinct, n_depths = distinct.shape  # in sorted order, a sequence before those that go on from it
    ends = np.full(n_distinct, n_depths) if lengths is None else (distinct != _NOTHING).sum(axis=1)
    same = distinct[1:] == distinct[:-1]
    shared = np.concatenate([[0], np.cumprod(same, axis=1).sum(axis=1)])  # tokens shared with the sequence before

    first_depth, bin_of = _assign_bins(shared, ends, max_slots if share_prefixes else 0)
    exists = np.arange(n_depths) < ends[:, None]
    is_new = exists & (np.arange(n_depths) >= first_depth[:, None])  # (n_distinct, n_depths): it brings this node
    node_of = np.where(is_new, np.cumsum(is_new).reshape(is_new.shape) - 1, -1)
    node_of = np.maximum.accumulate(node_of, axis=0)  # node ids grow, so the latest one stands for the shared prefix
    bin_start = np.searchsorted(np.repeat(bin_of, is_new.sum(axis=1)), np.arange(bin_of[-1] + 1))
    slot_of = node_of - bin_start[bin_of][:, None]

    n_slots = int(slot_of.max()) + 1
    shape = (int(bin_of[-1]) + 1, n_slots)
    bins = np.broadcast_to(bin_of[:, None], is_new.shape)
    tokens = np.broadcast_to(distinct[np.searchsorted(bin_of, np.arange(shape[0])), :1], shape).copy()
    depths = np.zeros(shape, dtype=np.int64)
    parents = np.full(shape, -1, dtype=np.int64)
    tokens[bins[is_new], slot_of[is_new]] = distinct[is_new]
    depths[bins[is_new], slot_of[is_new]] = np.broadcast_to(np.arange(n_depths), is_new.shape)[is_new]
    before = np.concatenate([np.full((n_distinct, 1), -1), slot_of[:, :-1]], axis=1)
    parents[bins[is_new], slot_of[is_new]] = before[is_new]

    flat = np.where(exists, bins * n_slots + slot_of, -1)
    rows, weights = [], []
    for depth in range(n_offset, n_depths):
        starts = np.flatnonzero(exists[:, depth] & (shared <= depth))  # whose prefix of length depth + 1 is a new one
        rows.append(flat[starts, depth])
        counts = np.where(exists[:, depth], repetitions, 0)
        weights.append(np.add.reduceat(counts, starts) / counts.sum())
    return PrefixForest(
        tokens=tokens,
        depths=depths,
        parents=parents,
        rows=tuple(rows),
        weights=tuple(weights),
        paths=flat[index_of.reshape(-1)],
        n_computed=int(is_new.sum()),
        n_sequences=n_sequences,
        n_offset=n_offset,
    )


def _assign_bins(shared: Integers, ends: Integers, max_slots: int) -> tuple[Integers, Integers]:
    """Greedy packing in sorted order: per sequence, the depth of its first own node and the bin it goes to."""
    first_depth = np.empty(len(shared), dtype=np.int64)
    bin_of = np.empty(len(shared), dtype=np.int64)
    used, current = 0, 0
    for index, (n_shared, end) in enumerate(zip(shared.tolist(), ends.tolist(), strict=True)):
        if index > 0 and used + end - n_shared > max_slots:
            used, current = 0, current + 1
        first_depth[index] = n_shared if used else 0
        bin_of[index] = current
        used += end - int(first_depth[index])
    return first_depth, bin_of
