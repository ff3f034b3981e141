"""Fits on disk: what was predicted, from what, how far off held out, and what it was held against. No scikit-learn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.records import Count, Date, Error, Finite, Name, Positive, Provenance, Row

FIT_SCHEMA: Literal[1] = 1
"""Raised when the shape of a fit changes."""

FIT_VERSION = 2
"""Raised when the same rows would give another fit than before."""

ProblemName = Literal["cells", "models", "emergence", "texts", "published"]
"""cells: one target model on tasks never seen in the fit. models: a family never seen. emergence: that of a model which
gives no activations, from its performance. texts: the same, from text that it has written. published: scores by others,
from a smaller sibling."""

PERFORMANCE, TEXT_PROBE = "performance", "text probe"
"""Predictors of emergence that are on trial."""

ON_TRIAL: dict[str, str] = {"emergence": PERFORMANCE, "texts": TEXT_PROBE}
"""What emergence is estimated from, by problem, where it is."""

Role = Literal["baseline", "tested", "both"]
"""tested: what is on trial, alone. both: that beside what is cheap."""

Unit = Literal["accuracy", "bits"]

Level = Literal["80", "90"]

P = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FitKey(Row):
    """What identifies a fit; a record answers for its key and nothing else."""

    schema_version: int
    fit_version: int
    problem: ProblemName
    target: Name
    """The model of a `cells` fit, the benchmark of a `published` one, the proxy that read the texts; else what all rows
    share."""
    features: tuple[Name, ...]
    proxies: tuple[Name, ...]
    """Models whose emergence was asked for by name; none: every one."""
    estimator: Name
    mode: Name
    n_permutations: Positive
    seed: Count
    rows_sha256: Digest
    """Of all rows with their features, folds and targets."""


class Excluded(Row):
    """Something that is in no row, and why."""

    what: Name
    reason: Words


class Between(Row):
    """An interval of a prediction."""

    low: Finite
    high: Finite


class FitRow(Row):
    """One unit of observation: what went in, the truth, and what was said of it by fits that had not seen its fold."""

    model: Name
    family: Name
    task: Name | None
    n_shots: Count | None
    fold: Name
    truth: Finite
    """In the unit of the fit."""
    inputs: dict[str, Finite | None]
    predictions: dict[str, Finite | None]
    """By predictor; None where it has nothing to go by."""
    intervals: dict[str, dict[Level, Between]]
    """By predictor and level in percent; a level is missing where too few rows allow none."""


class Covered(Row):
    """How many of the held-out rows that have an interval are inside it."""

    n_inside: Count
    n_rows: Count


class PredictorErrors(Row):
    """How far off the held-out predictions of one predictor are."""

    name: Name
    role: Role
    columns: tuple[Name, ...]
    n_rows: Count
    mean_absolute_error: Error | None
    """None where it predicts no row."""
    low: Error | None
    """95 % interval over folds drawn anew; None where there are too few of them."""
    high: Error | None
    root_mean_squared_error: Error | None
    """On the scale of the fit: log odds for accuracy, bits for emergence. None where nothing is fitted."""
    coverage: dict[Level, Covered]


class Comparison(Row):
    """One predictor from emergence against the baseline that it does worst against."""

    predictor: Name
    baseline: Name
    n_rows: Positive
    n_folds: Positive
    difference: Finite
    """Mean absolute error minus that of the baseline: below 0 is better."""
    low: Finite | None
    """95 % interval over folds drawn anew; None where there are too few of them."""
    high: Finite | None
    n_folds_better: Count
    p_value: P
    """Permutations that do as well, with the features of emergence at random among what may be exchanged."""
    beats: bool
    verdict: Words

    @model_validator(mode="after")
    def _earned(self) -> Self:
        if self.beats and (self.high is None or self.high >= 0 or self.p_value > 0.05):
            raise ValueError("a predictor beats its baseline only with an interval below 0 and p of at most 0.05")
        return self


class Importance(Row):
    """What one feature does, over the refits with each fold left out."""

    feature: Name
    coefficient: Finite
    """Mean over refits, on the scale of the fit for one standard deviation of the feature."""
    lowest: Finite
    highest: Finite
    error_increase: Finite
    """Of the held-out mean absolute error, with the feature at random among the held-out rows."""
    survives: bool
    """One sign in every refit, and an error that increases without it by more than it may by chance (Student's interval
    over the folds)."""


class FitRecord(Row):
    """A fit: its rows, held-out predictions, errors, baselines and verdicts."""

    kind: Literal["fit"] = "fit"
    schema_version: Literal[1]
    key: FitKey
    unit: Unit
    fold_unit: Literal["task", "family"]
    n_folds: Positive
    """Parts that were left out in turn: one a task or family, or of many several together."""
    n_models: Count
    families: tuple[Name, ...]
    proxies: tuple[Name, ...]
    """Models that gave the features; none of them is the target."""
    rows: Annotated[tuple[FitRow, ...], Field(min_length=1)]
    errors: Annotated[tuple[PredictorErrors, ...], Field(min_length=1)]
    comparisons: tuple[Comparison, ...]
    importances: tuple[Importance, ...]
    """Of the predictor on trial, alone."""
    remarks: tuple[Words, ...]
    excluded: tuple[Excluded, ...]
    provenance: Provenance


class Prediction(Row):
    """One number said before it is known."""

    task: Name
    task_hash: Digest
    n_shots: Count
    predicted: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)] | None
    high: Annotated[float, Field(ge=0, le=1)] | None
    """80 % interval."""


class LedgerEntry(Row):
    """A line of the ledger: predictions of a model's accuracy from before it was scored, chained to the line before."""

    schema_version: Literal[1]
    date: Date
    model: Name
    mode: Name
    predictor: Name
    fit_sha256: Digest
    """Key of the fit that it comes from."""
    predictions: Annotated[tuple[Prediction, ...], Field(min_length=1)]
    previous_sha256: Digest
    """Of the line before; zeros in the first."""
