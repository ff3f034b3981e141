"""Estimates on disk: emergence of a model that gives no activations, and the fit behind it. No scikit-learn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from bench.completions import Mode
from bench.fits import Between, Digest, Level, Words
from bench.performance import PerformanceRecord
from bench.records import Count, Error, Finite, Name, Positive, Provenance, Row

ESTIMATE_SCHEMA: Literal[1] = 1
"""Raised when the shape of an estimate changes."""

Source = Literal["performance", "text"]
"""What an estimate is from: the answers of a model, or text that it has written."""


def answers_of(records: Iterable[PerformanceRecord], key: EstimateKey, tasks: Iterable[str]) -> list[PerformanceRecord]:
    """The records with answers that an estimate is from: of these weights or this service, in its mode."""
    wanted = set(tasks)
    return [
        record
        for record in records
        if record.key.task in wanted
        and (record.key.model, record.key.mode) == (key.model, key.mode)
        and (record.key.base_url, record.key.files_sha256) == (key.base_url, key.files_sha256)
    ]


def answers_sha256(records: Iterable[PerformanceRecord]) -> str:
    """Digest of all answers: with one more of them, or another, it is another."""
    return hashlib.sha256("\n".join(sorted(record.samples_sha256 for record in records)).encode()).hexdigest()


SAME_BITS = 0.05
"""A fit whose estimates spread less than that says the same of every model."""


class EstimateKey(Row):
    """What identifies an estimate; a record answers for its key and nothing else."""

    schema_version: int
    model: Name
    base_url: Name | None
    """Of the service that answered; None for weights that are here, and for text."""
    files_sha256: Name | None
    """Of the weights that answered; None for a service, and for text."""
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
    spread_bits: Error
    """Between the lowest and the highest that this fit says of the models that it is over: near 0, it says the same of
    every model, whatever its answers are."""
    inputs: dict[str, Finite]
    tasks: tuple[Name, ...]
    """That the inputs are from; none of an estimate from text."""
    n_questions: Count
    """Answers that the inputs are from; 0 of an estimate from text."""
    answers_sha256: Digest | None
    """Of those answers, see `answers_sha256`; None of an estimate from text."""
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

    @property
    def makes_use_of_inputs(self) -> bool:
        """Whether other answers, or another text, would have given another estimate."""
        return self.spread_bits >= SAME_BITS
