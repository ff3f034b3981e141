"""What the page of the leaderboard shows: plain values, in the order in which they are shown; nothing is escaped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grid = tuple[tuple[float | None, ...], ...]
"""One row a block, one column a position, in bits; None where the estimator refused the cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A value, half its 95 % interval where it has one, and a word about it that stands behind."""

    value: float
    half_width: float | None
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A path relative to the page, not yet quoted."""

    text: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitBehind:
    """The fit that an estimate comes from.

    Attributes:
        error_bits: held-out mean absolute error; None where it predicts nothing held out.
        baseline_error_bits: of the baseline that it does worst against.
        interval_80: of the estimate, in bits; None where there are too few families for one.
        verdict: in words.
    """

    fit: Link
    source: Literal["answers", "text"]
    error_bits: float | None
    baseline: str
    baseline_error_bits: float | None
    n_models: int
    n_families: int
    beats_baseline: bool
    interval_80: tuple[float, float] | None
    measured_bits: float | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Emergence of every block and position on one task, its ceiling and its controls; all grids of one shape.

    Attributes:
        task: or what it is the mean of, in words.
        closing: position that closes the k-th demonstration, for k = 1, 2, ...
    """

    task: str
    emergence: Grid
    ceiling: Grid
    untrained_twin: Grid
    random_words: Grid
    closing: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotPoint:
    """Emergence after so many demonstrations, mean over blocks and ranked tasks, in bits."""

    n_shots: int
    emergence: Number
    ceiling: float
    untrained_twin: float | None
    random_words: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPoint:
    """Accuracy at one number of demonstrations with Wilson's 95 % interval."""

    n_shots: int
    accuracy: float
    low: float
    high: float
    chance: float
    n_questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyCurve:
    """Accuracy of one task over shots."""

    task: str
    mode: str
    points: tuple[AccuracyPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One row of the table, and the panel that opens for it.

    Attributes:
        rank: None for a row that has none (derived models, checkpoints, estimates whose fit beats no baseline).
        made_from: how it came out of another model, if it did.
        n_parameters: None where nobody says.
        over_twin, over_random_words: emergence minus that of the control; None where there is none.
        performance: accuracy minus chance.
        behind: None for a measured row.
    """

    rank: int | None
    name: str
    family: str
    n_parameters: int | None
    type: Literal["base", "instruct", "unknown"] | None
    made_from: Literal["derived", "checkpoint"] | None
    precision: str | None
    bos: bool | None
    revision: str | None
    kind: Literal["measured", "estimated"]
    emergence: Number
    ceiling: float | None
    over_twin: Number | None
    over_random_words: Number | None
    performance: Number | None
    n_samples: int
    n_seeds: int | None
    date: str
    source: str
    licence: str
    records: tuple[Link, ...]
    behind: FitBehind | None
    heat_maps: tuple[HeatMap, ...]
    shots: tuple[ShotPoint, ...]
    accuracies: tuple[AccuracyCurve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardTable:
    """Rows that may be compared: one preset, one estimator with its settings."""

    title: str
    remark: str
    rows: tuple[ModelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPoint:
    """One held-out prediction beside the truth, in the unit of the plot."""

    label: str
    family: str
    truth: float
    predicted: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlot:
    """Held-out predictions of one fit against the truth, its errors and its verdict."""

    title: str
    unit: str
    predictor: str
    points: tuple[FitPoint, ...]
    errors: tuple[tuple[str, float | None], ...]
    """(predictor or baseline, held-out mean absolute error)."""
    verdict: str
    record: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Something that has no row, and why."""

    what: str
    reason: str
    record: Link | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """The whole page.

    Attributes:
        notes: (column or mark, what it is in one sentence).
    """

    title: str
    introduction: str
    tables: tuple[BoardTable, ...]
    fits: tuple[FitPlot, ...]
    apart: tuple[Apart, ...]
    notes: tuple[tuple[str, str], ...]
