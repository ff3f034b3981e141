"""Calibration results in order, readings beside their truths, numbers as text: what bars, report and picture share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.calibration.results import CaseResult, CostResult, CoverageResult
from bench.escape import printable
from bench.intervals import Z_90, wilson, with_half_width
from bench.records import ROUNDING_BITS, Bits, is_saturated

Kept = TypeVar("Kept", CaseResult, CoverageResult, CostResult)

ESTIMATORS = ("exact", "noisy_channel", "crossfit_nce", "infonce_anchor", "gaussian", "mine_paper")
"""In the order of the tables; others follow by name."""

FAMILIES = {
    "dense": "Dense Gaussians",
    "low rank": "Gaussians of low rank",
    "transformed": "Gaussians of low rank, bent",
    "heavy tails": "Heavy tails",
    "uniform noise": "Uniform noise",
    "codes": "Codes: enumerated lists and cubes",
    "activations": "Activations of a model",
}
"""The title of each family, in the order of the tables."""

PAPER, HELD_OUT, TRAIN_MAX, LAST_EPOCH = "mine_paper", "held_out", "train_max", "last_epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One reading of a case beside its truth; a refusal is a line without a number. All in bits."""

    case: CaseResult
    reading: str

    @property
    def bits(self) -> Bits | None:
        """The estimate."""
        return self.case.readings.get(self.reading)

    @property
    def truth_without_noise(self) -> float | None:
        """The exact information, beside which a reading of a noisy channel stands that has no truth of its own."""
        case = self.case
        has_its_own = case.key.estimator != "noisy_channel" or case.is_shuffled or self.reading in case.truth_at_bits
        return None if has_its_own else case.ceiling_bits

    @property
    def truth(self) -> float:
        """What the reading should be."""
        if self.truth_without_noise is not None:
            return self.truth_without_noise
        return self.case.truth_at_bits.get(self.reading, self.case.truth.value_bits)

    @property
    def error(self) -> float | None:
        """The estimate minus the truth."""
        return None if self.bits is None else self.bits.value_bits - self.truth

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the number."""
        case, bits, found = self.case, self.bits, []
        if case.refusal is not None:
            found.append(f"refused: {shortened(case.refusal, 120)}")
        if bits is not None:
            if case.direction != "exact" and case.cap_bits is not None and is_saturated(bits.value_bits, case.cap_bits):
                found.append("saturated")
            if bits.value_bits - self.truth - Z_90 * bits.error_bits > ROUNDING_BITS:
                found.append("above truth")
            if self.truth_without_noise is not None:
                found.append("truth without noise")
        if case.key.estimator == PAPER:
            for label, name in ((TRAIN_MAX, "training maximum"), (LAST_EPOCH, "last epoch")):
                if label in case.readings:
                    value = case.readings[label].value_bits
                    found.append(f"{name} {value:.3f} (error {value - self.truth:+.3f})")
        if case.key.seed != 0:
            found.append(f"seed {case.key.seed}")
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One row of a comparison of costs; None where nothing was measured."""

    estimator: str
    reading: str
    n_rows: int
    seconds: float | None = None
    full_seconds: float
    times_cheaper: float | None = None
    value: Bits | None = None
    error: float | None = None


def ordered(results: Iterable[Kept]) -> list[Kept]:
    """Cases by family, problem and estimator, coverage by estimator and case, cost by case.

    Broken pairs are last in their family; numbers in names count as numbers.
    """
    return sorted(results, key=_order)


def _order(result: CaseResult | CoverageResult | CostResult) -> tuple[Any, ...]:
    case = natural(result.key.case)
    if isinstance(result, CostResult):
        return case, result.key.n_rows, result.digest()
    problem, estimator = (case, result.key.n_samples), place(result.key.estimator)
    if isinstance(result, CoverageResult):
        return estimator, *problem, result.reading, result.digest()
    family = list(FAMILIES).index(result.family), result.is_shuffled
    return *family, *problem, estimator, result.key.seed, result.digest()


def place(estimator: str) -> tuple[int, str]:
    """Where an estimator stands among the others."""
    return (ESTIMATORS.index(estimator) if estimator in ESTIMATORS else len(ESTIMATORS)), estimator


def natural(text: str) -> list[str | float]:
    """The text cut so that its numbers compare as numbers: names and numbers by turns."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [float(part) if index % 2 else part for index, part in enumerate(parts)]


def scales(case: CaseResult) -> list[str]:
    """The labels of a noisy channel's readings, finest first."""
    found = [label for label in case.readings if re.fullmatch(r"s=\d+(\.\d+)?(e-\d+)?", label)]
    return sorted(found, key=lambda label: (float(label[2:]), label))


def lines(cases: Iterable[CaseResult]) -> list[Line]:
    """The readings that are shown: the headline, and of the noisy channel the finest scale before it."""
    return [
        Line(case=case, reading=reading)
        for case in ordered(cases)
        for reading in dict.fromkeys((*scales(case)[:1], case.headline))
    ]


def cost_lines(result: CostResult) -> list[CostLine]:
    """The measured rows, then the paper's recipe on all its rows; `times_cheaper` compares on the same rows."""
    paper_seconds = min((row.full_seconds for row in result.rows if row.estimator == PAPER), default=None)
    found = []
    for row in sorted(result.rows, key=lambda row: (place(row.estimator), row.reading)):
        is_compared = row.estimator != PAPER and row.full_seconds > 0
        found.append(
            CostLine(
                estimator=row.estimator,
                reading=row.reading,
                n_rows=result.key.n_rows,
                seconds=row.seconds,
                full_seconds=row.full_seconds,
                times_cheaper=paper_seconds / row.full_seconds if is_compared and paper_seconds is not None else None,
                value=row.value,
                error=row.error_bits,
            )
        )
    if paper_seconds is not None:
        full = paper_seconds * result.paper_rows / result.key.n_rows
        found.append(CostLine(estimator=PAPER, reading="extrapolated", n_rows=result.paper_rows, full_seconds=full))
    return found


NO_BOUND = (PAPER, "infonce_anchor")
"""Estimators of the information itself, neither bounds nor unbiased."""

LARGE_SAMPLE = ("crossfit_nce",)
"""Lower bounds that are learned."""


def holds_truth(item: CoverageResult) -> int:
    """Seeds whose 90 % interval holds the truth."""
    return sum(
        abs(value - item.truth.value_bits) <= Z_90 * error
        for value, error in zip(item.values_bits, item.errors_bits, strict=True)
    )


def owed(estimator: str) -> str:
    """What the interval of an estimator has to hold, in words."""
    if estimator in NO_BOUND:
        return "the truth, as it is no bound,"
    if estimator in LARGE_SAMPLE:
        return "its large-sample value, the mean over samples and critics,"
    return "the truth"


def n_held(item: CoverageResult) -> int:
    """Seeds whose interval holds what it has to."""
    return item.n_covered_mean if item.key.estimator in LARGE_SAMPLE else holds_truth(item)


def covered(item: CoverageResult) -> tuple[float, float, float]:
    """The share of seeds whose interval holds what it has to, and both ends of Wilson's 95 % interval for it."""
    return n_held(item) / item.key.n_seeds, *wilson(n_held(item), item.key.n_seeds)


def shown(value: float, standard_error: float, *, is_signed: bool = False) -> str:
    """With half its 90 % interval; without one where the standard error is 0."""
    if standard_error > 0:
        return with_half_width(value, Z_90 * standard_error, decimals=3, signed=is_signed)
    return signed(value) if is_signed else f"{value:.3f}"


def signed(value: float | None) -> str:
    """With its sign; 0 has +."""
    return "-" if value is None else f"{round(value, 3) + 0.0:+.3f}"  # + 0.0 turns -0.0 into 0.0


def percent(share: float) -> str:
    """Of a share between 0 and 1."""
    return f"{100 * share:.1f} %"


def shortened(text: str, n_characters: int) -> str:
    """One line of at most so many characters."""
    text = printable(text)
    return text if len(text) <= n_characters else text[: n_characters - 1].rstrip() + "…"
