"""What a measurement has to do, counted before it is done: tokens, floating-point operations, cells, bytes.

Counts are exact: populations are planted as `bench.measure` plants them, and nothing is timed here but the planting.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.activations import BATCH_TOKENS
from bench.controls import N_SHUFFLED
from bench.estimators import Estimator
from bench.estimators.noisy_channel import NoisyChannel
from bench.measure import micro_populations, rows_bytes
from bench.model_shape import ModelShape
from bench.prefix_forest import Integers, PrefixForest, plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Tokens on their way through one block.

    Attributes:
        n_tokens: tokens that are computed.
        n_slots: places in the batches that they fill, unused ones included: what is multiplied.
        n_attended: pairs of places between which attention is computed.
        n_steps: forward steps, of at most `BATCH_TOKENS` places each.
    """

    n_tokens: int
    n_slots: int
    n_attended: int
    n_steps: int

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            n_tokens=self.n_tokens + other.n_tokens,
            n_slots=self.n_slots + other.n_slots,
            n_attended=self.n_attended + other.n_attended,
            n_steps=self.n_steps + other.n_steps,
        )

    def flops(self, shape: ModelShape) -> float:
        """Operations in one block: two for each parameter and place, four for each dimension of an attended pair."""
        return 2 * shape.parameters_per_block * self.n_slots + 4 * shape.d_attention * self.n_attended


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The cells of one position in all blocks.

    Attributes:
        n_rows: distinct prefixes that end there, or distinct tokens of a micro population.
        n_first_inputs: distinct inputs of the first block there: the token, for the prefix is not known yet.
    """

    n_rows: int
    n_first_inputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One condition of one record, measured on one population.

    Attributes:
        n_sequences, n_positions: of the population.
        macro: the passes of the population; `macro.n_tokens` is what a record calls `n_tokens_computed`.
        micro: those of its distinct tokens, each alone.
        check: those of the comparison with the model's own forward pass.
        columns: the macro cells, by position.
        micro_columns: the micro cells, by distinct token distribution.
        is_shuffled: whether broken pairs are measured beside every macro cell.
        plant_seconds: what planting the population took here.
    """

    n_sequences: int
    n_positions: int
    macro: Passes
    micro: Passes
    check: Passes
    columns: tuple[Column, ...]
    micro_columns: tuple[Column, ...]
    is_shuffled: bool
    plant_seconds: float

    @property
    def passes(self) -> Passes:
        """All that goes through a block."""
        return self.macro + self.micro + self.check


def workload(
    sequences: Integers, *, bos: int | None, shares_prefixes: bool, is_shuffled: bool, n_checked: int
) -> Workload:
    """Count what a population asks for.

    Args:
        sequences: token ids, shape (n_sequences, n_positions).
        n_checked: neighbouring sequences that are compared with the model's own forward pass.
    """
    started = time.process_time()
    forest = plant(sequences, bos=bos, share_prefixes=shares_prefixes)
    populations, _ = micro_populations(sequences)
    seconds = time.process_time() - started
    alone = plant(np.unique(sequences)[:, None], bos=bos, share_prefixes=shares_prefixes)
    sample = sequences[:n_checked]
    n_plain = sequences.shape[1] + (bos is not None)
    plain = Passes(
        n_tokens=sample.shape[0] * n_plain,
        n_slots=sample.shape[0] * n_plain,
        n_attended=sample.shape[0] * n_plain**2,
        n_steps=1,
    )
    return Workload(
        n_sequences=len(sequences),
        n_positions=sequences.shape[1],
        macro=passes_of(forest),
        micro=passes_of(alone),
        check=plain + passes_of(plant(sample, bos=bos, share_prefixes=shares_prefixes)),
        columns=tuple(
            Column(n_rows=len(rows), n_first_inputs=len(np.unique(sequences[:, position])))
            for position, rows in enumerate(forest.rows)
        ),
        micro_columns=tuple(
            Column(n_rows=len(population.tokens), n_first_inputs=len(population.tokens)) for population in populations
        ),
        is_shuffled=is_shuffled,
        plant_seconds=seconds,
    )


def passes_of(forest: PrefixForest) -> Passes:
    """What `Extractor.stream` makes of a forest, for each block."""
    n_bins, n_slots = forest.tokens.shape
    return Passes(
        n_tokens=forest.n_computed,
        n_slots=n_bins * n_slots,
        n_attended=n_bins * n_slots**2,
        n_steps=math.ceil(n_bins / max(1, BATCH_TOKENS // n_slots)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Cells that cost the same.

    Attributes:
        n_rows: pairs that the estimator is given.
        kind: "distinct" where all inputs differ; "repeated" where some are equal, so that a channel sums over classes;
            "broken" where pairs have nothing to do with each other.
        n_times: how many such cells there are.
    """

    n_rows: int
    kind: Literal["distinct", "repeated", "broken"]
    n_times: int


def estimated_cells(work: Workload, n_blocks: int, *, is_sample: bool) -> tuple[Cell, ...]:
    """The cells that an estimator is asked, with those of the broken pairs; one without variation costs nothing.

    The first block sees tokens and not yet prefixes: where every sequence has the same token there, nothing varies.

    Args:
        is_sample: whether the estimator takes rows for a sample, see `bench.controls.break_pairs`.
    """
    cells = []
    for column in work.columns:
        n, n_first = column.n_rows, column.n_first_inputs
        if n > 1:
            cells.append(Cell(n_rows=n, kind="distinct", n_times=n_blocks - 1 + (n_first == n)))
            cells.append(Cell(n_rows=n, kind="repeated", n_times=int(1 < n_first < n)))
            if work.is_shuffled:
                n_broken = n if is_sample else n_broken_rows(n)
                cells.append(Cell(n_rows=n_broken, kind="broken", n_times=n_blocks - (n_first == 1)))
    for column in work.micro_columns:
        if column.n_rows > 1:
            cells.append(Cell(n_rows=column.n_rows, kind="distinct", n_times=n_blocks))
    return tuple(cell for cell in cells if cell.n_times)


def n_broken_rows(n_rows: int) -> int:
    """Rows of the broken pairs of a whole population, see `bench.controls.break_pairs`."""
    return min(N_SHUFFLED, n_rows) ** 2


def estimator_flops(estimator: Estimator, cells: tuple[Cell, ...], d_model: int) -> float | None:
    """Operations of the matrix products of an estimator; None where nobody has counted them.

    The noisy channel multiplies its draws and its noise with every row: two products of two operations each.
    """
    if not isinstance(estimator, NoisyChannel):
        return None
    return sum(4.0 * estimator.n_draws * d_model * cell.n_rows * cell.n_times for cell in cells)


def states_bytes(work: Workload, d_model: int) -> int:
    """Two layers of the states of a population, float32."""
    return 2 * 4 * work.macro.n_slots * d_model


def position_bytes(work: Workload, d_model: int) -> int:
    """The rows of one position, see `bench.measure.rows_bytes`."""
    return rows_bytes(np.empty((work.n_sequences, 0), dtype=np.int64), d_model)
