"""Every type that is written to disk. No torch here: reading results must stay cheap.

Numbers that a person may read in a record are in bits and say so in their names.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.escape import printable

SCHEMA_VERSION: Literal[2] = 2
"""Raised when the shape of a record changes."""

METHOD_VERSION = 1
"""Raised when the same request would give other numbers than before."""

SATURATION_BITS = 0.5
"""An estimate within half a bit of its cap, the most that it can say, says "at least this much" and nothing more."""

ROUNDING_BITS = 1e-3
"""How far float32 rounding may carry an estimate past its ceiling; a record with more is not one of ours."""

MAX_REASON = 300
"""Characters of a refusal that a record keeps."""

MAX_FAULTS = 1_000
"""Of a document that are looked at one by one; each takes kilobytes of memory."""

Condition = Literal["trained", "untrained_twin", "random_words"]

CONDITIONS: tuple[Condition, ...] = ("trained", "untrained_twin", "random_words")

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Error = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e9)]
Matrix = tuple[tuple[Finite, ...], ...]
"""One row a block."""
MatrixWithGaps = tuple[tuple[Finite | None, ...], ...]
"""One row a block; None where the estimator refused the cell."""
Name = Annotated[str, Field(min_length=1, max_length=300)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Settings = dict[str, Finite | int | bool | str | tuple[Finite, ...]]
Side = Literal["macro", "micro", "shuffled"]
Term = Literal["emergence", "macro", "micro", "peak"]


class Row(BaseModel):
    """Base of everything on disk: immutable, no unknown fields, no silent conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def digest(self) -> str:
        """SHA-256 of the content (64 hex digits); equal content has equal digests in every process."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Grid(Row):
    """Estimates and standard errors in bits, one row a block; both None where the estimator refused the cell."""

    values_bits: MatrixWithGaps
    errors_bits: tuple[tuple[Error | None, ...], ...]

    @model_validator(mode="after")
    def _same_shape(self) -> Self:
        shapes = {tuple(map(len, matrix)) for matrix in (self.values_bits, self.errors_bits)}
        if len(shapes) != 1 or len(set(next(iter(shapes)))) > 1:
            raise ValueError("values_bits and errors_bits must be rectangular and of one shape")
        if gaps(self.values_bits) != gaps(self.errors_bits):
            raise ValueError("values_bits and errors_bits must be null in the same cells")
        return self


class Refused(Row):
    """Cells that an estimator refused in the same words."""

    side: Side
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
    cells: Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1)]
    """(block, column) in the matrices of that side."""


class ModelInfo(Row):
    """Which weights were measured."""

    name: Name
    family: Name
    variant: Literal["base", "instruct", "unknown"]
    precision: Name
    """Precision of the stored weights, quantisation included."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Precision of the arithmetic."""
    revision: Name
    weights_sha256: Name
    source: Name
    licence: Name
    n_parameters: Positive
    n_blocks: Positive
    d_model: Positive
    initializer_range: Finite | None
    """Standard deviation of the untrained twin's weights, where the architecture has one."""


class UnitKey(Row):
    """Everything that changes the numbers of one condition on one population.

    Not the device: numbers on another one agree within float32 rounding.
    """

    method_version: int
    files_sha256: Name
    """Of configuration, tokenizer and weights; for an untrained twin, of its parameters instead of the weights."""
    dtype: Name
    bos: int | None
    sequences_sha256: Name
    estimator: Name
    settings: Settings
    seed: int
    shuffled: bool


class Measurement(Row):
    """Mutual information of one condition on one population; macro by position, micro by distinct token population."""

    key: UnitKey
    names: tuple[Name, ...]
    """The n names (or random words) of the lists."""
    n_sequences: Positive
    n_tokens_computed: Positive
    """Tokens that went through the model, prefixes shared."""
    n_tokens_plain: Positive
    """Tokens that would have gone through it without sharing."""
    forward_difference: Finite
    """Largest deviation of a state at the last position from the plain forward pass on a sample, relative to the spread
    of the states there."""
    headline: Name
    direction: Literal["lower bound", "upper bound", "exact", "none"]
    """Which side of the true information an estimate is on, apart from its standard error."""
    n_prefixes: tuple[Positive, ...]
    """Distinct prefixes that end at each position: the samples of its macro estimate."""
    macro: dict[str, Grid]
    """By label of the reading; shape (n_blocks, n_positions)."""
    micro: dict[str, Grid]
    """By label of the reading; shape (n_blocks, n_micro)."""
    micro_of_position: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Column of `micro` that belongs to each position."""
    macro_ceiling_bits: Matrix
    """Exact mutual information, shape (n_blocks, n_positions)."""
    micro_ceiling_bits: Matrix
    """Exact mutual information, shape (n_blocks, n_micro)."""
    macro_cap_bits: MatrixWithGaps
    """The most that the estimator can say, at most the ceiling, shape (n_blocks, n_positions)."""
    micro_cap_bits: MatrixWithGaps
    """The most that the estimator can say, at most the ceiling, shape (n_blocks, n_micro)."""
    shuffled: Grid | None
    """Headline reading with the pairs broken, shape (n_blocks, n_positions); must cover 0."""
    refusals: tuple[Refused, ...]
    """Why cells are None: each of them is in exactly one entry."""
    seconds: Finite

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        n_blocks, n_positions = len(self.macro_ceiling_bits), len(self.micro_of_position)
        n_micro = max(self.micro_of_position) + 1
        if self.headline not in self.macro or set(self.macro) != set(self.micro):
            raise ValueError("macro and micro must hold the same readings, the headline among them")
        if len(self.n_prefixes) != n_positions:
            raise ValueError(f"n_prefixes must have {n_positions} entries")
        macro, micro = ([grid.values_bits for grid in grids.values()] for grids in (self.macro, self.micro))
        shuffled = [self.shuffled.values_bits] if self.shuffled else []
        self._check_shapes("macro", n_blocks, n_positions, *macro, self.macro_ceiling_bits, self.macro_cap_bits)
        self._check_shapes("micro", n_blocks, n_micro, *micro, self.micro_ceiling_bits, self.micro_cap_bits)
        self._check_shapes("shuffled", n_blocks, n_positions, *shuffled)
        self._check_gaps("macro", *macro, self.macro_cap_bits)
        self._check_gaps("micro", *micro, self.micro_cap_bits)
        self._check_gaps("shuffled", *shuffled)
        for values, cap, ceiling in (
            (macro, self.macro_cap_bits, self.macro_ceiling_bits),
            (micro, self.micro_cap_bits, self.micro_ceiling_bits),
        ):
            if _passes(cap, ceiling):
                raise ValueError("a cap is above its ceiling")
            if self.is_bounded and any(_passes(matrix, ceiling) for matrix in values):
                raise ValueError("an estimate is above its ceiling")
        return self

    @property
    def is_bounded(self) -> bool:
        """Whether no estimate may pass its ceiling."""
        return self.direction in ("lower bound", "exact")

    def n_refused(self, position: int) -> int:
        """Macro and micro cells that emergence at a position needs, and that the estimator refused."""
        micro_columns = set(self.micro_of_position[: position + 1])
        macro, micro = (grids[self.headline].values_bits for grids in (self.macro, self.micro))
        return sum(column == position for _, column in gaps(macro)) + sum(
            column in micro_columns for _, column in gaps(micro)
        )

    def _check_shapes(self, side: Side, n_blocks: int, width: int, *matrices: MatrixWithGaps) -> None:
        if any(len(matrix) != n_blocks or any(len(row) != width for row in matrix) for matrix in matrices):
            raise ValueError(f"every {side} matrix must have {n_blocks} blocks and {width} columns")

    def _check_gaps(self, side: Side, *matrices: MatrixWithGaps) -> None:
        """Every cell without a number has one reason, and every reason is for cells without a number."""
        refused = sorted(cell for entry in self.refusals if entry.side == side for cell in entry.cells)
        if any(gaps(matrix) != refused for matrix in matrices) or (refused and not matrices):
            raise ValueError(f"{side}: the cells that are null are not those that the refusals name, each once")


class Bits(Row):
    """One number with its standard error, in bits."""

    value_bits: Finite
    error_bits: Error


class ShotSummary(Row):
    """What a run says about k demonstrations: means over blocks at the position that closes the k-th.

    None where a cell that the number needs was refused: there is no mean over those that are left.
    """

    n_shots: Positive
    position: Count
    refused_cells: Count
    """Macro and micro cells that emergence needs, and that the estimator refused."""
    emergence: Bits | None
    macro: Bits | None
    """Mean over blocks of the macro term."""
    micro: Bits | None
    """Mean over blocks of the mean micro term. What it loses to the noise raises emergence."""
    ceiling_bits: Finite | None
    """Mean over blocks of what emergence can be at most: the exact macro term minus the measured micro term."""
    exact_bits: Finite
    """Mean over blocks of the exact emergence, both terms counted on distinct rows: noise at zero."""
    macro_ceiling_bits: Finite
    """Entropy of the prefix: what no macro term may exceed."""
    peak_block: Count | None
    peak: Bits | None
    excess_over_twin: Bits | None
    excess_over_random_words: Bits | None
    shuffled: Bits | None
    saturated_blocks: Count
    """Blocks whose macro term is within half a bit of its cap: "at least this much". A block whose cap is itself within
    half a bit of 0 (block 0 at a separator) does not count, nor does one that was refused."""
    curve: dict[str, dict[Condition, Bits | None]]
    """Emergence by reading and condition."""


class RecordKey(Row):
    """What identifies a run; a record answers for its key and nothing else. Not for a device, see `UnitKey`."""

    schema_version: int
    method_version: int
    model: Name
    revision: Name
    files_sha256: Name
    """Of configuration, tokenizer and weights."""
    dtype: Name
    bos: Literal["tokenizer", "none"]
    task: Name
    task_version: int
    task_hash: Name
    preset: Name
    n_names: Positive
    n_shots: Positive
    limit: int | None
    estimator: Name
    settings: Settings
    seed: int


class Provenance(Row):
    """Where and when: nothing here changes a number."""

    date: Date
    """UTC, ISO 8601: when the run began."""
    command: Annotated[str, Field(max_length=10_000)]
    """A command that measures the same, without paths of this machine."""
    commit: str | None
    versions: dict[str, str]
    n_threads: Positive
    device: Name
    seconds: Finite
    """What its three measurements took, those included that it shares with other records."""


class EmergenceRecord(Row):
    """One (model, task, preset, estimator, seed): the measurement, its controls and its summary."""

    kind: Literal["emergence"] = "emergence"
    schema_version: Literal[2]
    key: RecordKey
    model: ModelInfo
    bos_token: int | None
    """The token put before every sequence, macro and micro alike."""
    n_pool: Positive
    """Names in the task's pool."""
    n_survivors: Positive
    """Names of the pool that are one token under this tokenizer."""
    demonstration_length: Positive
    """Tokens per demonstration."""
    is_enumerated: bool
    """Whether the population is every possible list; a record with False is never ranked."""
    measurements: dict[Condition, Measurement]
    summary: tuple[ShotSummary, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.measurements) != set(CONDITIONS):
            raise ValueError(f"expected the conditions {', '.join(CONDITIONS)}, got {', '.join(self.measurements)}")
        if [row.n_shots for row in self.summary] != list(range(1, self.key.n_shots + 1)):
            raise ValueError(f"expected a summary for each of 1 to {self.key.n_shots} shots")
        trained = self.measurements["trained"]
        n_positions, labels = len(trained.micro_of_position), set(trained.macro)
        for name, measurement in self.measurements.items():
            if len(measurement.macro_ceiling_bits) != self.model.n_blocks:
                raise ValueError(f"{name}: expected {self.model.n_blocks} blocks")
            if set(measurement.macro) != labels or len(measurement.micro_of_position) != n_positions:
                raise ValueError(f"{name}: readings and positions must be those of the trained model")
        for row in self.summary:
            if row.position >= n_positions or (row.peak_block or 0) >= self.model.n_blocks:
                raise ValueError(f"the summary of {row.n_shots} shots points outside the measurement")
            if set(row.curve) != labels or any(set(by) != set(CONDITIONS) for by in row.curve.values()):
                raise ValueError(f"the curve of {row.n_shots} shots does not have every reading and condition")
            if not self._is_null_where_refused(row):
                raise ValueError(
                    f"the summary of {row.n_shots} shots must be null where cells were refused, only there"
                )
            if trained.is_bounded and "emergence" in self.above_ceiling(row):
                raise ValueError(f"the summary of {row.n_shots} shots is above its ceiling")
        if (self.model.name, self.model.dtype) != (self.key.model, self.key.dtype):
            raise ValueError("model and key name different models")
        return self

    def _is_null_where_refused(self, row: ShotSummary) -> bool:
        n_refused = {name: measurement.n_refused(row.position) for name, measurement in self.measurements.items()}
        trained, twin, words = (n_refused[name] > 0 for name in CONDITIONS)
        undefined = [
            (row.emergence, trained),
            (row.peak, trained),
            (row.peak_block, trained),
            (row.excess_over_twin, trained or twin),
            (row.excess_over_random_words, trained or words),
            *((bits, n_refused[name] > 0) for by in row.curve.values() for name, bits in by.items()),
        ]
        return (
            row.refused_cells == n_refused["trained"]
            and all((number is None) == is_undefined for number, is_undefined in undefined)
            and (trained or None not in (row.macro, row.micro, row.ceiling_bits))
        )

    def above_ceiling(self, row: ShotSummary) -> frozenset[Term]:
        """Which numbers of a row of `summary` are above their ceilings; only an estimator that bounds nothing has any.

        Emergence and the macro term pass theirs together: the ceilings differ by the micro term, as they do.
        """
        trained, found = self.measurements["trained"], set[Term]()
        macro_ceilings = [ceilings[row.position] for ceilings in trained.macro_ceiling_bits]
        macro_ceiling = sum(macro_ceilings) / len(macro_ceilings)
        if row.macro is not None and row.macro.value_bits > macro_ceiling + ROUNDING_BITS:
            found.add("macro")
        if row.micro is not None and row.micro.value_bits > macro_ceiling - row.exact_bits + ROUNDING_BITS:
            found.add("micro")
        if row.emergence is not None and row.ceiling_bits is not None:
            if row.emergence.value_bits > row.ceiling_bits + ROUNDING_BITS:
                found.add("emergence")
        if row.peak_block is not None:
            peak = trained.macro[trained.headline].values_bits[row.peak_block][row.position]
            if peak is not None and peak > macro_ceilings[row.peak_block] + ROUNDING_BITS:
                found.add("peak")
        return frozenset(found)


def first_fault(error: ValidationError, whole: str) -> str:
    """The first thing that is wrong with a document: its field and why, on one line that is not too long.

    Args:
        whole: what stands for the field where it is the document itself that is wrong.
    """
    if error.error_count() > MAX_FAULTS:
        return f"{whole}: {error.error_count():,} of its values are wrong"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    steps = [_cut(printable(str(step)), 80) or "''" for step in first["loc"]]
    return f"{_cut('.'.join(steps), 200) or whole}: {_cut(printable(first['msg']), 300)}"


def _cut(text: str, n_characters: int) -> str:
    return text if len(text) <= n_characters else f"{text[: n_characters - 3]}..."


def rounded(bits: float) -> float:
    """A number as records keep it: 6 decimals, far below every standard error, so that rounding noise does not show."""
    return round(float(bits), 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def as_array(matrix: MatrixWithGaps | tuple[tuple[Error | None, ...], ...]) -> npt.NDArray[np.float64]:
    """A matrix of a record to calculate with, NaN where a cell was refused."""
    return np.array(matrix, dtype=np.float64)


def gaps(matrix: tuple[tuple[float | None, ...], ...]) -> list[tuple[int, int]]:
    """The cells (block, column) without a number, in order."""
    return [(block, column) for block, row in enumerate(matrix) for column, value in enumerate(row) if value is None]


def in_bits(nats: float) -> float:
    """Nats as records keep them."""
    return rounded(nats / math.log(2))


def is_saturated(value_bits: npt.ArrayLike, cap_bits: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether estimates are within half a bit of their caps; never if the cap itself is that close to 0, nor if NaN."""
    cap = np.asarray(cap_bits)
    return (np.asarray(value_bits) > cap - SATURATION_BITS) & (cap > SATURATION_BITS)


def _passes(values: MatrixWithGaps, bounds: Matrix) -> bool:
    """Whether any number is above its bound by more than rounding."""
    return any(
        value is not None and value > bound + ROUNDING_BITS
        for value_row, bound_row in zip(values, bounds, strict=True)
        for value, bound in zip(value_row, bound_row, strict=True)
    )
