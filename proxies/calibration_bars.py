"""The bars of the project: what must hold of the estimators, and whether it does in the calibration results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bench.calibration.results import CaseResult, CostResult, CoverageResult
from bench.records import Bits
from proxies.calibration_lines import (
    ESTIMATORS,
    HELD_OUT,
    PAPER,
    TRAIN_MAX,
    Line,
    cost_lines,
    n_held,
    ordered,
    owed,
    percent,
    place,
    scales,
    shown,
)

Verdict = Literal["holds", "FAILS", "not measured"]

CODES = ("list-codes-25p1-", "list-codes-16p4-", "list-codes-25p4-")
N_SAMPLES = 8_000
"""Of the bars that name a number of samples."""

QUADRATURE_ERRORS, QUADRATURE_BITS = 4, 0.01
COVERAGE_RANGE, COVERAGE_SEEDS, COVERAGE_SAMPLERS = (0.85, 0.95), 100, 3
TIMES_CHEAPER, COST_WIDTH = 1_000, 768

SEEN_THROUGH = ("list-codes-16p4-16d", "list-codes-16p4-32d")
"""Deterministic codes of full rank and with enough rows, so that only their determinism is left to refuse them for."""

BOUNDED = tuple(
    [f"low-rank-gaussian-{d_model}d-{bits}bit" for d_model in (64, 256, 768, 2048) for bits in (0, 0.5, 2, 5, 10)]
    + ["low-rank-gaussian-half-cube-", "low-rank-gaussian-spiral-", "low-rank-student", "low-rank-uniform-noise-"]
)
"""What the bar "on any case" asks for at least, by the beginnings of names."""

SHUFFLED_ERRORS = 4

SLACK = 1e-9
"""Rounding of the binary fractions that bars are compared in."""


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar of the project: what must hold of an estimator, and whether it does in what was measured.

    It holds if every number that it asks for was measured and none is past it; one number past it is enough to fail.
    """

    estimator: str
    claim: str
    measured: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """One number held against a bar.

    Attributes:
        text: the number and where it was found.
        number: what must not be above the limit of the bar.
    """

    text: str
    number: float


def bars(
    cases: Sequence[CaseResult], coverage: Sequence[CoverageResult], cost: Sequence[CostResult]
) -> tuple[BarRow, ...]:
    """Every bar of the project, always the same rows in the same order."""
    by = {name: [case for case in ordered(cases) if case.key.estimator == name] for name in ESTIMATORS}
    found = (
        _near("exact", "within {} bit of the entropy on codes of 25, 16P4 and 25P4 lists", 0.01, by["exact"], CODES),
        *_noisy_bars(by["noisy_channel"]),
        *_crossfit_bars(by["crossfit_nce"]),
        *_gaussian_bars(by["gaussian"]),
        _paper_bar(by[PAPER]),
        *(_shuffled_bar(name, by[name]) for name in ESTIMATORS),
        *_coverage_bars(ordered(coverage)),
        *_cost_bars(ordered(cost)),
    )
    return tuple(sorted(found, key=lambda bar: place(bar.estimator)))


def allowed(bits: Bits) -> float:
    """How far a noisy channel may be from quadrature."""
    return QUADRATURE_ERRORS * bits.error_bits + QUADRATURE_BITS


def _noisy_bars(cases: Sequence[CaseResult]) -> Iterator[BarRow]:
    name = "noisy_channel"
    found = [
        Finding(f"{bits.error_bits:.4f} at {label} on {case.key.case}", bits.error_bits)
        for case in cases
        for label, bits in case.readings.items()
    ]
    _, everywhere = _demanded(cases, (*CODES, "hypercube-"))
    yield _bar(name, "standard error at most {} bit at every reading of every case", 0.1, found, everywhere)

    found = [_distance(case, scales(case)[0]) for case in cases if _is_codes(case) and scales(case)]
    _, missing = _demanded(cases, CODES)
    yield _bar(name, "within {} bit of the entropy at the smallest noise on codes", 0.02, found, missing)

    rises = [
        (case.readings[after].value_bits - case.readings[before].value_bits, f"{before} to {after} on {case.key.case}")
        for case in cases
        for before, after in pairwise(scales(case))
    ]
    found = [Finding(f"{rise:+.4f} from {where}", rise) for rise, where in rises]
    yield _bar(name, "never rises with the noise by more than {} bit", 0.001, found, everywhere)

    codes, missing = _demanded(cases, ["list-codes-16p4-768d"])
    found = [Finding(f"{case.seconds:.1f} s, {_machine(case)}", case.seconds) for case in codes]
    yield _bar(name, "16P4 codes in 768 dimensions in at most {} s on 2 cores", 20, found, missing)

    cubes, missing = _demanded(cases, ["hypercube-"])
    unknown = [f"{label} on {case.key.case}" for case in cubes for label in case.readings.keys() - case.truth_at_bits]
    known = [(case, label) for case in cubes for label in scales(case) if label in case.truth_at_bits]
    beyond = [(_distance(case, label), allowed(case.readings[label])) for case, label in known]
    found = [Finding(distance.text, distance.number - limit) for distance, limit in beyond]
    claim = f"within {QUADRATURE_ERRORS} standard errors + {QUADRATURE_BITS} bit of quadrature at every scale on a cube"
    yield _bar(name, claim, 0, found, missing + sorted(unknown))


def _gaussian_bars(cases: Sequence[CaseResult]) -> Iterator[BarRow]:
    claim = "within {:.2f} bit on dense Gaussians of 256 dimensions with 8,000 samples at 0, 0.5, 2, 5, 10 bits"
    names = [f"dense-gaussian-256d-{bits}bit" for bits in (0, 0.5, 2, 5, 10)]
    yield _near("gaussian", claim, 0.1, _of_size(cases), names)
    refused = [case.refusal is not None for case in cases if _is_codes(case)]
    _, missing = _demanded(cases, SEEN_THROUGH)
    parts = [f"{sum(refused)} of {len(refused)} refused"] if refused else []
    parts += [f"not measured: {name}" for name in missing] if refused else []
    verdict = _verdict(not all(refused), bool(refused) and not missing)
    yield BarRow("gaussian", "refuses on deterministic codes", "; ".join(parts), verdict)


def _crossfit_bars(cases: Sequence[CaseResult]) -> Iterator[BarRow]:
    name = "crossfit_nce"
    found = [_distance(case, size=float) for case in cases if case.refusal is None]
    _, missing = _demanded(cases, BOUNDED)
    yield _bar(name, "never more than {:.2f} bit above the truth on any case", 0.1, found, missing)

    broken = [case for case in cases if case.is_shuffled]
    gaussians = [case for case in cases if not case.is_shuffled and case.family in ("dense", "low rank")]
    without = [case for case in gaussians if case.truth.value_bits == 0]
    found = [_distance(case) for case in (*broken, *without)]
    missing = [what for what, of in (("broken pairs", broken), ("Gaussians with 0 bits", without)) if not of]
    claim = "0 within {} bit where pairs are broken and on Gaussians without information"
    yield _bar(name, claim, 0.05, found, missing)

    claim = "within {} bit on Gaussians of low rank (5 bits, 256 dimensions, 8,000 samples)"
    yield _near(name, claim, 0.5, _of_size(cases), ["low-rank-gaussian-256d-5bit"])

    claim = "within {} bit after a half-cube and a spiral (5 bits, 256 dimensions, 8,000 samples)"
    bent = [f"low-rank-gaussian-{bend}-256d-5bit" for bend in ("half-cube", "spiral")]
    yield _near(name, claim, 1, _of_size(cases), bent)


def _shuffled_bar(name: str, cases: Sequence[CaseResult]) -> BarRow:
    broken = [(case, case.estimate) for case in cases if case.is_shuffled]
    found = [
        Finding(
            f"{shown(estimate.value_bits, estimate.error_bits, is_signed=True)} on {case.key.case}",
            abs(estimate.value_bits) - SHUFFLED_ERRORS * estimate.error_bits,
        )
        for case, estimate in broken
        if estimate is not None
    ]
    claim = f"0 within {SHUFFLED_ERRORS} standard errors + {{}} bit where pairs are broken"
    return _bar(name, claim, 0.001, found)


def _machine(case: CaseResult) -> str:
    threads = case.provenance.n_threads
    return f"{case.provenance.device}, {threads} thread{'s' if threads > 1 else ''}"


def _paper_bar(cases: Sequence[CaseResult]) -> BarRow:
    """The widest gap is what is shown, whatever the verdict."""
    gaps, lacking = [], []
    for case in cases:
        if case.refusal is None and {TRAIN_MAX, HELD_OUT} <= case.readings.keys():
            gaps.append((case.readings[TRAIN_MAX].value_bits - case.readings[HELD_OUT].value_bits, case.key.case))
        elif case.refusal is None:
            lacking.append(f"not both on {case.key.case}")
    parts = [f"widest gap {max(gaps)[0]:.3f} bits on {max(gaps)[1]}"] if gaps else []
    claim = "training maximum and held-out value are both given"
    return BarRow(PAPER, claim, "; ".join(parts + lacking[:1]), _verdict(bool(lacking), bool(gaps)))


def _coverage_bars(coverage: Sequence[CoverageResult]) -> Iterator[BarRow]:
    """One for each estimator that states an interval; of the paper's, the interval of its held-out value."""
    low, high = COVERAGE_RANGE
    for name in ESTIMATORS[1:]:
        claim = (
            f"its 90 % interval holds {owed(name)} {100 * low:.0f} to {100 * high:.0f} % of the time, on at least "
            f"{COVERAGE_SEEDS} seeds of {COVERAGE_SAMPLERS} samplers each (settings of the coverage table)"
        )
        found = [
            (n_held(item) / item.key.n_seeds, item.key.case)
            for item in coverage
            if item.key.estimator == name
            and item.key.n_seeds >= COVERAGE_SEEDS
            and (name != PAPER or item.reading == HELD_OUT)
        ]
        lacking = COVERAGE_SAMPLERS - len({case for _, case in found})
        is_outside = any(max(low - share, share - high) > SLACK for share, _ in found)
        parts = [f"{percent(share)} on {case}" for share, case in found]
        if found and lacking > 0:
            parts.append(f"not measured: {lacking} more")
        yield BarRow(name, claim, ", ".join(parts), _verdict(is_outside, lacking <= 0))


def _cost_bars(cost: Sequence[CostResult]) -> Iterator[BarRow]:
    lines = [line for result in cost if result.key.d_model == COST_WIDTH for line in cost_lines(result)]
    claim = (
        f"at least {TIMES_CHEAPER:,} times cheaper than the paper's recipe for one block and position "
        f"of {COST_WIDTH} dimensions"
    )
    for name in ("noisy_channel", "crossfit_nce"):
        times = [line.times_cheaper for line in lines if line.estimator == name and line.times_cheaper is not None]
        yield _bar(name, claim, -TIMES_CHEAPER, [Finding(f"{number:,.0f} times", -number) for number in times])


def _near(estimator: str, claim: str, limit: float, cases: Sequence[CaseResult], names: Sequence[str]) -> BarRow:
    """The headlines of all these cases are no farther than the limit from their truths."""
    found, missing = _demanded(cases, names)
    return _bar(estimator, claim, limit, [_distance(case) for case in found], missing)


def _bar(estimator: str, claim: str, limit: float, found: Sequence[Finding], missing: Sequence[str] = ()) -> BarRow:
    """The verdict over all findings, and the worst of them.

    Args:
        claim: with the limit left open.
    """
    n_past = sum(finding.number - limit > SLACK for finding in found)
    parts = []
    if found:
        worst = max(found, key=lambda finding: finding.number)
        count = f"{n_past} of {len(found)} fail, worst: " if n_past else f"worst of {len(found)}: "
        parts.append((count if len(found) > 1 else "") + worst.text)
        parts += [f"not measured: {name.rstrip('-')}" for name in missing]
    verdict = _verdict(n_past > 0, bool(found) and not missing)
    return BarRow(estimator, claim.format(limit), "; ".join(parts), verdict)


def _verdict(is_past: bool, is_complete: bool) -> Verdict:
    return "FAILS" if is_past else "holds" if is_complete else "not measured"


def _demanded(cases: Sequence[CaseResult], names: Sequence[str]) -> tuple[list[CaseResult], list[str]]:
    """The cases, pairs not broken, whose names begin like one of these, and the beginnings that none has."""
    found = [case for case in cases if case.key.case.startswith(tuple(names)) and not case.is_shuffled]
    return found, [name for name in names if not any(case.key.case.startswith(name) for case in found)]


def _of_size(cases: Sequence[CaseResult]) -> list[CaseResult]:
    return [case for case in cases if case.n_samples == N_SAMPLES]


def _is_codes(case: CaseResult) -> bool:
    """Whether the outputs are a function of the inputs, all of them enumerated."""
    return case.key.case.startswith(("list-codes-", "hypercube-")) and not case.is_shuffled


def _distance(case: CaseResult, reading: str | None = None, size: Callable[[float], float] = abs) -> Finding:
    """How far a reading, else the headline, is from its truth, in bits; a refusal is farther than any bar."""
    line = Line(case=case, reading=reading or case.headline)
    if line.error is None or line.bits is None:
        return Finding(f"refused on {case.key.case}", math.inf)
    where = case.key.case if reading is None else f"{case.key.case}, {reading}"
    return Finding(f"{shown(line.error, line.bits.error_bits, is_signed=True)} on {where}", size(line.error))
