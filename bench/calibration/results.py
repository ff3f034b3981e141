"""What calibration writes to disk: one case, one coverage experiment, one comparison of costs. No torch here.

Everything a person reads is in bits.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.records import Bits, Count, Error, Finite, Name, Positive, Provenance, Row, Settings

CALIBRATION_SCHEMA: Literal[1] = 1
"""Raised when the shape of these rows changes."""


class CaseKey(Row):
    """What identifies one estimate of a known information."""

    schema_version: int
    method_version: int
    case: Name
    """Name of the sampler."""
    estimator: Name
    settings: Settings
    n_samples: Positive
    """Rows asked of the sampler; an enumerated population has its own number."""
    seed: int
    weights_sha256: str | None
    """Of the model whose activations the case is made of."""


class CaseResult(Row):
    """One estimator on one case, or its refusal in words."""

    kind: Literal["calibration case"] = "calibration case"
    schema_version: Literal[1]
    key: CaseKey
    family: Literal["dense", "low rank", "transformed", "heavy tails", "uniform noise", "codes", "activations"]
    description: Annotated[str, Field(min_length=1, max_length=500)]
    is_shuffled: bool
    """Whether the pairs were broken, so that the truth is 0."""
    d_model: Positive
    n_samples: Positive
    """Rows that the estimator was given."""
    truth: Bits
    """Of the headline reading; the error is that of quadrature or Monte Carlo, 0 for closed forms."""
    truth_at_bits: dict[str, Finite]
    """Truth of each reading whose truth is known."""
    readings: dict[str, Bits]
    """Empty if refused."""
    headline: Name
    direction: Literal["lower bound", "upper bound", "exact", "none"]
    ceiling_bits: Finite | None
    cap_bits: Finite | None
    refusal: Annotated[str, Field(min_length=1, max_length=500)] | None
    seconds: Finite
    provenance: Provenance

    @model_validator(mode="after")
    def _number_or_refusal(self) -> Self:
        if (self.refusal is None) != (self.headline in self.readings):
            raise ValueError("expected either readings with the headline among them, or a refusal")
        return self

    @property
    def estimate(self) -> Bits | None:
        """The headline reading."""
        return self.readings.get(self.headline)


class CoverageKey(Row):
    """What identifies one coverage experiment."""

    schema_version: int
    method_version: int
    case: Name
    estimator: Name
    settings: Settings
    n_samples: Positive
    n_seeds: Positive
    seed: int
    """The first one."""


class CoverageResult(Row):
    """How often the stated 90 % interval holds what it should, over many seeds: data and estimator both drawn anew."""

    kind: Literal["calibration coverage"] = "calibration coverage"
    schema_version: Literal[1]
    key: CoverageKey
    reading: Name
    target: Annotated[str, Field(min_length=1, max_length=300)]
    """What the interval should hold, in words."""
    truth: Bits
    values_bits: tuple[Finite, ...]
    errors_bits: tuple[Error, ...]
    targets_bits: tuple[Finite, ...]
    n_covered: Count
    """Seeds whose interval holds their target."""
    n_covered_mean: Count
    """Seeds whose interval holds the mean of all values: what another sample and other critics would give."""
    seconds: Finite
    provenance: Provenance

    @model_validator(mode="after")
    def _one_entry_a_seed(self) -> Self:
        if {len(self.values_bits), len(self.errors_bits), len(self.targets_bits)} != {self.key.n_seeds}:
            raise ValueError(f"expected {self.key.n_seeds} values, errors and targets")
        if max(self.n_covered, self.n_covered_mean) > self.key.n_seeds:
            raise ValueError("more intervals covered than there are")
        return self


class CostKey(Row):
    """What identifies one comparison of costs."""

    schema_version: int
    method_version: int
    case: Name
    weights_sha256: str
    d_model: Positive
    n_rows: Positive
    n_epochs: Positive
    seed: int
    estimators: dict[str, Settings]


class CostRow(Row):
    """One estimator in the comparison."""

    estimator: Name
    reading: Name
    seconds: Finite
    """Measured; of the paper's recipe for the epochs that were run."""
    full_seconds: Finite
    """What the whole estimate takes: for the paper's recipe extrapolated to all its epochs, on the same rows."""
    value: Bits
    error_bits: Finite
    """Value minus the exact information of the same rows."""


class CostResult(Row):
    """The paper's recipe and ours in one process on the same activations of a real model."""

    kind: Literal["calibration cost"] = "calibration cost"
    schema_version: Literal[1]
    key: CostKey
    description: Annotated[str, Field(min_length=1, max_length=500)]
    exact_bits: Finite
    paper_epochs: Positive
    paper_rows: Positive
    """Rows of the paper; costs go with rows, and ours are measured on `n_rows` too."""
    rows: tuple[CostRow, ...]
    provenance: Provenance
