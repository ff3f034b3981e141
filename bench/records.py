"""Every type that is written to disk. No torch here: reading results must stay cheap.

Numbers that a person may read in a record are in bits and say so in their names.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION: Literal[1] = 1
"""Raised when the shape of a record changes."""

METHOD_VERSION = 1
"""Raised when the same request would give other numbers than before."""

SATURATION_BITS = 0.5
"""An estimate within half a bit of its ceiling says "at least this much" and nothing more."""

ROUNDING_BITS = 1e-3
"""How far float32 rounding may carry an estimate past its ceiling; a record with more is not one of ours."""

Condition = Literal["trained", "untrained_twin", "random_words"]

CONDITIONS: tuple[Condition, ...] = ("trained", "untrained_twin", "random_words")

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Error = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e9)]
Matrix = tuple[tuple[Finite, ...], ...]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]


class Row(BaseModel):
    """Base of everything on disk: immutable, no unknown fields, no silent conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def digest(self) -> str:
        """SHA-256 of the content (64 hex digits); equal content has equal digests in every process."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Grid(Row):
    """Estimates and standard errors in bits, one row a block."""

    values_bits: Matrix
    errors_bits: tuple[tuple[Error, ...], ...]

    @model_validator(mode="after")
    def _same_shape(self) -> Self:
        shapes = {tuple(map(len, matrix)) for matrix in (self.values_bits, self.errors_bits)}
        if len(shapes) != 1 or len(set(next(iter(shapes)))) > 1:
            raise ValueError("values_bits and errors_bits must be rectangular and of one shape")
        return self


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
    settings: dict[str, Finite | int | str | tuple[Finite, ...]]
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
    micro_of_position: tuple[Count, ...]
    """Column of `micro` that belongs to each position."""
    macro_ceiling_bits: Matrix
    """Exact mutual information, shape (n_blocks, n_positions)."""
    micro_ceiling_bits: Matrix
    """Exact mutual information, shape (n_blocks, n_micro)."""
    shuffled: Grid | None
    """Headline reading with the pairs broken, shape (n_blocks, n_positions); must cover 0."""
    seconds: Finite

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        n_blocks, n_positions = len(self.macro_ceiling_bits), len(self.micro_of_position)
        n_micro = max(self.micro_of_position) + 1
        if self.headline not in self.macro or set(self.macro) != set(self.micro):
            raise ValueError("macro and micro must hold the same readings, the headline among them")
        macro = [grid.values_bits for grid in self.macro.values()] + [self.macro_ceiling_bits]
        macro += [self.shuffled.values_bits] if self.shuffled else []
        micro = [grid.values_bits for grid in self.micro.values()] + [self.micro_ceiling_bits]
        if len(self.n_prefixes) != n_positions:
            raise ValueError(f"n_prefixes must have {n_positions} entries")
        for grids, ceilings in ((self.macro, self.macro_ceiling_bits), (self.micro, self.micro_ceiling_bits)):
            for grid in grids.values():
                for values, bounds in zip(grid.values_bits, ceilings, strict=False):
                    if any(value > bound + ROUNDING_BITS for value, bound in zip(values, bounds, strict=False)):
                        raise ValueError("an estimate is above its ceiling")
        for matrices, width, side in ((macro, n_positions, "macro"), (micro, n_micro, "micro")):
            if any(len(matrix) != n_blocks or any(len(row) != width for row in matrix) for matrix in matrices):
                raise ValueError(f"every {side} matrix must have {n_blocks} blocks and {width} columns")
        return self


class Bits(Row):
    """One number with its standard error, in bits."""

    value_bits: Finite
    error_bits: Error


class ShotSummary(Row):
    """What a run says about k demonstrations: means over blocks at the position that closes the k-th."""

    n_shots: Positive
    position: Count
    emergence: Bits
    macro: Bits
    """Mean over blocks of the macro term."""
    micro: Bits
    """Mean over blocks of the mean micro term. What it loses to the noise raises emergence."""
    ceiling_bits: Finite
    """Mean over blocks of what emergence can be at most: the exact macro term minus the measured micro term."""
    exact_bits: Finite
    """Mean over blocks of the exact emergence, both terms counted on distinct rows: noise at zero."""
    macro_ceiling_bits: Finite
    """Entropy of the prefix: what no macro term may exceed."""
    peak_block: Count
    peak: Bits
    excess_over_twin: Bits
    excess_over_random_words: Bits
    shuffled: Bits
    saturated_blocks: Count
    """Blocks whose macro term is within half a bit of its ceiling: "at least this much". A block whose ceiling is
    itself within half a bit of 0 (block 0 at a separator) does not count."""
    curve: dict[str, dict[Condition, Bits]]
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
    settings: dict[str, Finite | int | str | tuple[Finite, ...]]
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
    schema_version: Literal[1]
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
        for row in self.summary:
            if row.position >= n_positions or row.peak_block >= self.model.n_blocks:
                raise ValueError(f"the summary of {row.n_shots} shots points outside the measurement")
            if row.emergence.value_bits > row.ceiling_bits + ROUNDING_BITS:
                raise ValueError(f"the summary of {row.n_shots} shots is above its ceiling")
            if set(row.curve) != labels or any(set(by) != set(CONDITIONS) for by in row.curve.values()):
                raise ValueError(f"the curve of {row.n_shots} shots does not have every reading and condition")
        for name, measurement in self.measurements.items():
            if len(measurement.macro_ceiling_bits) != self.model.n_blocks:
                raise ValueError(f"{name}: expected {self.model.n_blocks} blocks")
            if set(measurement.macro) != labels or len(measurement.micro_of_position) != n_positions:
                raise ValueError(f"{name}: readings and positions must be those of the trained model")
        if (self.model.name, self.model.dtype) != (self.key.model, self.key.dtype):
            raise ValueError("model and key name different models")
        return self


def rounded(bits: float) -> float:
    """A number as records keep it: 6 decimals, far below every standard error, so that rounding noise does not show."""
    return round(float(bits), 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def is_saturated(value_bits: npt.ArrayLike, ceiling_bits: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether estimates are within half a bit of their ceilings; never if the ceiling itself is that close to 0."""
    ceiling = np.asarray(ceiling_bits)
    return (np.asarray(value_bits) > ceiling - SATURATION_BITS) & (ceiling > SATURATION_BITS)
