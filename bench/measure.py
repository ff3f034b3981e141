"""One condition on one population: every block, every position, macro and micro, with ceilings and broken pairs."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.activations import Extractor
from bench.controls import break_pairs
from bench.errors import EstimationError, Refusal, UsageError
from bench.estimators import Estimator, MutualInformation, Pairs, Reading, pair_up
from bench.estimators.exact import exact_information
from bench.estimators.protocol import Direction
from bench.records import MAX_REASON, Grid, Matrix, MatrixWithGaps, Measurement, Refused, Side, UnitKey, in_bits
from tasks.seeds import generator

COPIES_OF_ROWS = 3
"""Copies of the rows of one position that an estimate holds: inputs, outputs, normalised outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroPopulation:
    """The tokens that occur at a position, each fed alone."""

    tokens: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


def measure(
    *,
    key: UnitKey,
    names: tuple[str, ...],
    sequences: npt.NDArray[np.int64],
    extractor: Extractor,
    estimator: Estimator,
    device: str,
    memory_bytes: int,
    on_block: Callable[[], None] = lambda: None,
) -> Measurement:
    """Measure one condition.

    Args:
        sequences: token ids of the population, shape (n_sequences, n_positions).
        device: where the rows are put for the estimator.
        on_block: called after each block, for progress.

    Raises:
        EstimationError: the states of a block cannot be estimated from (NaN, say). A `Refusal` does not end the
            measurement: its cell has no number, and the record says why.
        ModelError: the model's own forward pass cannot be followed.
    """
    started = time.perf_counter()
    macro_forest = extractor.plant(sequences)
    populations, micro_of_position = micro_populations(sequences)
    vocabulary = np.unique(sequences)
    micro_forest = extractor.plant(vocabulary[:, None])

    table = _Table(estimator=estimator, key=key, device=device)
    left = memory_bytes - rows_bytes(sequences, extractor.d_model)
    macro_stream = extractor.stream(macro_forest, memory_bytes=left)
    micro_stream = extractor.stream(micro_forest, memory_bytes=memory_bytes)
    labels: dict[int, npt.NDArray[np.int64]] = {}
    for macro, micro in zip(macro_stream, micro_stream, strict=True):
        for position in range(macro_forest.n_positions):
            inputs, outputs = macro.inputs_at(position), macro.outputs_at(position)
            pairs = pair_up(inputs, outputs, macro_forest.weights[position], input_labels=labels.get(position))
            labels[position] = pairs.output_labels  # the outputs of this block are the inputs of the next
            table.add("macro", macro.block, position, pairs)
            if key.shuffled:
                rng = generator(key.seed, key.files_sha256, "shuffled pairs", macro.block, position)
                table.add(
                    "shuffled", macro.block, position, break_pairs(pairs, rng, is_sample=estimator.is_sample_based)
                )
            del inputs, outputs, pairs  # before the next position's rows are gathered
        for index, population in enumerate(populations):
            rows = np.searchsorted(vocabulary, population.tokens)
            inputs, outputs = micro.inputs_at(0)[rows], micro.outputs_at(0)[rows]
            table.add("micro", micro.block, index, pair_up(inputs, outputs, population.weights))
        on_block()
    return Measurement(
        key=key,
        names=names,
        n_sequences=len(sequences),
        n_tokens_computed=macro_forest.n_computed,
        n_tokens_plain=macro_forest.n_plain,
        forward_difference=float(f"{extractor.difference:.2g}"),
        headline=estimator.headline,
        direction=table.direction,
        n_prefixes=tuple(map(len, macro_forest.rows)),
        macro={label: table.grid("macro", label) for label in estimator.labels},
        micro={label: table.grid("micro", label) for label in estimator.labels},
        micro_of_position=tuple(micro_of_position.tolist()),
        macro_ceiling_bits=table.ceilings("macro"),
        micro_ceiling_bits=table.ceilings("micro"),
        macro_cap_bits=table.caps("macro"),
        micro_cap_bits=table.caps("micro"),
        shuffled=table.grid("shuffled", estimator.headline) if key.shuffled else None,
        refusals=table.refusals(),
        seconds=round(time.perf_counter() - started, 3),
    )


def check_memory(sequences: npt.NDArray[np.int64], d_model: int, memory_bytes: int) -> None:
    """Refuse a population of which not even one position fits.

    Raises:
        UsageError: with what it needs.
    """
    needed = rows_bytes(sequences, d_model)
    if needed > memory_bytes:
        raise UsageError(
            f"one position of these {len(sequences):,} lists needs {needed / (1 << 30):.1f} GB at width {d_model}, "
            f"more than --memory-gb {memory_bytes / (1 << 30):g}; raise it, or lower --n-names or --n-shots"
        )


def rows_bytes(sequences: npt.NDArray[np.int64], d_model: int) -> int:
    """Memory that the estimate of one position needs at most: its inputs, its outputs and their normalised copy."""
    return COPIES_OF_ROWS * 4 * len(sequences) * d_model


def micro_populations(
    sequences: npt.NDArray[np.int64],
) -> tuple[tuple[MicroPopulation, ...], npt.NDArray[np.int64]]:
    """The distinct token distributions over positions, and which of them each position has, shape (n_positions,)."""
    found: dict[tuple[bytes, bytes], int] = {}
    populations: list[MicroPopulation] = []
    of_position = np.empty(sequences.shape[1], dtype=np.int64)
    for position, column in enumerate(sequences.T):
        tokens, counts = np.unique(column, return_counts=True)
        identity = (tokens.tobytes(), counts.tobytes())
        if identity not in found:
            found[identity] = len(populations)
            populations.append(MicroPopulation(tokens=tokens, weights=counts / len(column)))
        of_position[position] = found[identity]
    return tuple(populations), of_position


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoAnswer:
    """What is known of a cell that the estimator refused."""

    reason: str
    ceiling_nats: float


def without_variation(estimator: Estimator, pairs: Pairs) -> MutualInformation | None:
    """The answer where one side is one and the same row (a separator fed alone): 0, whatever estimator was asked."""
    if pairs.input_labels.max() > 0 and pairs.output_labels.max() > 0:
        return None
    nothing = Reading(value_nats=0.0, standard_error_nats=0.0)
    return MutualInformation(
        readings=dict.fromkeys(estimator.labels, nothing),
        headline=estimator.headline,
        direction="exact",
        ceiling_nats=0.0,
        cap_nats=0.0,
        n_samples=pairs.n_samples,
        d_model=pairs.outputs.shape[1],
        seconds=0.0,
    )


class _Table:
    """Collects estimates cell by cell."""

    def __init__(self, *, estimator: Estimator, key: UnitKey, device: str) -> None:
        self._estimator, self._key, self._device = estimator, key, device
        self._cells: dict[Side, list[list[MutualInformation | _NoAnswer]]] = {}

    @property
    def direction(self) -> Direction:
        """The one direction of all estimates; "exact" is any, and "none" promises nothing."""
        cells = [cell for rows in self._cells.values() for row in rows for cell in row]
        found: set[Direction] = {cell.direction for cell in cells if isinstance(cell, MutualInformation)}
        if len(found) > 1:
            found.discard("exact")
        return found.pop() if len(found) == 1 else "none"

    def add(self, side: Side, block: int, column: int, pairs: Pairs) -> None:
        rows = self._cells.setdefault(side, [])
        if len(rows) <= block:
            rows.append([])
        rng = generator(self._key.seed, self._key.files_sha256, self._key.sequences_sha256, side, block, column)
        try:
            estimate = without_variation(self._estimator, pairs) or self._estimator.estimate(
                pairs.on(self._device), rng
            )
        except Refusal as refusal:
            reason = textwrap.shorten(str(refusal), MAX_REASON, placeholder=" ...") or "no reason given"
            rows[block].append(_NoAnswer(reason=reason, ceiling_nats=exact_information(pairs)))
            return
        for label, reading in estimate.readings.items():
            if not (math.isfinite(reading.value_nats) and math.isfinite(reading.standard_error_nats)):
                raise EstimationError(
                    f"{self._estimator.name} gave {reading.value_nats} ± {reading.standard_error_nats} nats as {label} "
                    f"of the {side} term in block {block}, column {column}; expected a number, or a refusal in words"
                )
        rows[block].append(estimate)

    def grid(self, side: Side, label: str) -> Grid:
        readings = [
            [cell.readings[label] if isinstance(cell, MutualInformation) else None for cell in row]
            for row in self._cells[side]
        ]
        return Grid(
            values_bits=tuple(tuple(in_bits(cell.value_nats) if cell else None for cell in row) for row in readings),
            errors_bits=tuple(
                tuple(in_bits(cell.standard_error_nats) if cell else None for cell in row) for row in readings
            ),
        )

    def ceilings(self, side: Side) -> Matrix:
        return tuple(tuple(in_bits(cell.ceiling_nats) for cell in row) for row in self._cells[side])

    def caps(self, side: Side) -> MatrixWithGaps:
        return tuple(
            tuple(in_bits(cell.cap_nats) if isinstance(cell, MutualInformation) else None for cell in row)
            for row in self._cells[side]
        )

    def refusals(self) -> tuple[Refused, ...]:
        """The cells without a number, by side and reason, in order of the first of each."""
        cells_of: dict[tuple[Side, str], list[tuple[int, int]]] = {}
        for side, rows in self._cells.items():
            for block, row in enumerate(rows):
                for column, cell in enumerate(row):
                    if isinstance(cell, _NoAnswer):
                        cells_of.setdefault((side, cell.reason), []).append((block, column))
        return tuple(
            Refused(side=side, reason=reason, cells=tuple(cells)) for (side, reason), cells in cells_of.items()
        )
