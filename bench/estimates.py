"""Estimates on disk: emergence of a model that gives no activations, and the fit behind it. No scikit-learn."""

from __future__ import annotations

from typing import Literal

from bench.completions import Mode
from bench.fits import Between, Digest, Level, Words
from bench.records import Count, Error, Finite, Name, Positive, Provenance, Row

ESTIMATE_SCHEMA: Literal[1] = 1
"""Raised when the shape of an estimate changes."""

Source = Literal["performance", "text"]
"""What an estimate is from: the answers of a model, or text that it has written."""


class EstimateKey(Row):
    """What identifies an estimate; a record answers for its key and nothing else."""

    schema_version: int
    model: Name
    source: Source
    mode: Mode
    """How the models were asked. Has no say in an estimate from text."""
    proxy: Name | None
    """The model that read the text; None for an estimate from answers."""
    family: Name | None
    """Held out of the fit; None where the model is of none of the families measured."""
    estimator: Name
    """Of the emergence that the fit is to."""
    seed: Count
    fit_sha256: Digest
    """Key of the fit behind it."""


class EstimateRecord(Row):
    """Emergence of one model as a fit over other families has it, and how far off such estimates are."""

    kind: Literal["estimate"] = "estimate"
    schema_version: Literal[1]
    key: EstimateKey
    value_bits: Finite
    intervals: dict[Level, Between]
    """By level in percent; one is missing where too few families allow none."""
    inputs: dict[str, Finite]
    n_questions: Count
    """Answers that the inputs are from; 0 of an estimate from text."""
    trained_on: tuple[Name, ...]
    left_out: tuple[Name, ...]
    """Models of the family that is held out."""
    n_families: Positive
    """That the estimate is fitted on."""
    error_bits: Error | None
    """Mean absolute error of the same fit on families that it had not seen."""
    baseline: Name
    """What the fit does worst against."""
    baseline_error_bits: Error | None
    beats_baseline: bool
    verdict: Words
    """Of the fit."""
    measured_bits: Finite | None
    """Emergence of the same model, where it is measured as well."""
    fit: Name
    """Where the record of the fit lies, relative to the results folder."""
    provenance: Provenance
