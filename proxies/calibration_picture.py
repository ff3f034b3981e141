"""Calibration results -> one picture: estimates against truths, and how often intervals hold what they should.

The same results give the same bytes, in whatever order they come.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.calibration.results import CaseResult, CoverageResult
from bench.escape import printable
from bench.intervals import Z_90
from proxies.calibration_bars import COVERAGE_RANGE
from proxies.calibration_lines import ESTIMATORS, PAPER, TRAIN_MAX, Line, covered, n_held, ordered
from proxies.svg import drawn

TITLE = "Calibration of the estimators of mutual information"

WIDTH, HEIGHT = 9.6, 4.8
"""Inches; the height grows with the coverage experiments beyond `N_AT_HEIGHT`."""
N_AT_HEIGHT = 18
INCHES_A_ROW = 0.2

LABEL_CHARACTERS = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one estimator is drawn; colours of Okabe & Ito 2008, which differ for colour-blind readers too."""

    colour: str
    marker: str
    label: str


STYLES = {
    "noisy_channel": Style(colour="#000000", marker="D", label="noisy_channel"),
    "crossfit_nce": Style(colour="#0072B2", marker="o", label="crossfit_nce"),
    "infonce_anchor": Style(colour="#CC79A7", marker="v", label="infonce_anchor"),
    "gaussian": Style(colour="#009E73", marker="^", label="gaussian"),
    PAPER: Style(colour="#D55E00", marker="s", label="mine_paper, held out"),
}
OTHERS = Style(colour="#666666", marker="P", label="others")
TRAIN_MAX_LABEL = "mine_paper, training maximum"

SAMPLED = ("crossfit_nce", "infonce_anchor", "gaussian", PAPER)
"""Estimators of the left panel, side by side at each truth."""

STEP = 0.13
"""Bits between neighbours at one truth, so that markers do not hide each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One marker of the left panel, in bits; `half_width` is None where the interval means nothing."""

    truth: float
    value: float
    half_width: float | None
    estimator: str
    is_training_maximum: bool


def picture(cases: Sequence[CaseResult], coverage: Sequence[CoverageResult]) -> bytes:
    """An SVG of both panels, with its title and a description for readers who do not see it.

    Left: estimates of sampled cases against their truths with 90 % intervals. Right: coverage of the stated 90 %
    intervals with Wilson's 95 % interval. A panel without results says so.
    """
    points, experiments = _points(cases), ordered(coverage)
    extra = max(0, len(experiments) - N_AT_HEIGHT) * INCHES_A_ROW

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_estimates(left, points)
        _draw_coverage(right, experiments)
        _add_legend(figure, points, experiments)

    return drawn(
        draw,
        title=TITLE,
        description=_description(points, experiments),
        salt="calibration",
        width=WIDTH,
        height=HEIGHT + extra,
    )


def _points(cases: Sequence[CaseResult]) -> list[Point]:
    """Of every sampled case that was answered."""
    found = []
    for case in ordered(cases):
        if case.key.estimator not in SAMPLED or case.family == "codes" or case.refusal is not None:
            continue
        for reading in (TRAIN_MAX, case.headline) if TRAIN_MAX in case.readings else (case.headline,):
            line, bits = Line(case=case, reading=reading), case.readings[reading]
            is_training_maximum = reading == TRAIN_MAX
            found.append(
                Point(
                    truth=line.truth,
                    value=bits.value_bits,
                    half_width=None if is_training_maximum else Z_90 * bits.error_bits,
                    estimator=case.key.estimator,
                    is_training_maximum=is_training_maximum,
                )
            )
    return found


def _draw_estimates(axes: Axes, points: Sequence[Point]) -> None:
    """Estimates against truths; those beyond an end of the axis stand there, the farthest with its value beside it."""
    axes.set_title("Estimate against truth, ± 90 % interval")
    axes.set_xlabel("true information (bits)")
    axes.set_ylabel("estimate (bits)")
    if not points:
        _say_not_measured(axes)
        return
    left, right = min(point.truth for point in points), max(1.0, *(point.truth for point in points))
    low, high = left - 0.3 * right, 1.5 * right
    axes.set_xlim(left - 0.06 * (right - left) - 0.4, right + 0.06 * (right - left) + 0.4)
    axes.set_ylim(low, high)
    axes.plot([low, high], [low, high], color="#666666", linewidth=1, zorder=1)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    beyond: defaultdict[tuple[float, bool], list[Point]] = defaultdict(list)
    for point in points:
        style = STYLES[point.estimator]
        x = point.truth + STEP * (right / 10) * (SAMPLED.index(point.estimator) - (len(SAMPLED) - 1) / 2)
        y = min(max(point.value, low), high)
        if y != point.value:
            beyond[x, point.value > high].append(point)
        axes.errorbar(
            x,
            y,
            yerr=None if point.half_width is None or y != point.value else point.half_width,
            linewidth=1,
            **_marker(style, point.is_training_maximum),
            clip_on=False,
            zorder=3 if point.is_training_maximum else 4,
        )
    for (x, is_above), group in sorted(beyond.items()):
        axes.annotate(
            f"{max((point.value for point in group), key=abs):.1f}",
            (x, high if is_above else low),
            xytext=(5.5, -4 if is_above else 4),
            textcoords="offset points",
            rotation=90,  # narrow enough to stand between neighbours
            ha="center",
            va="top" if is_above else "bottom",
            fontsize=7,
        )


def _add_legend(figure: Figure, points: Sequence[Point], experiments: Sequence[CoverageResult]) -> None:
    """One entry for each kind of marker that is there, under both panels."""
    used = {(point.estimator, point.is_training_maximum) for point in points}
    used |= {(item.key.estimator if item.key.estimator in STYLES else OTHERS.label, False) for item in experiments}
    handles = [Line2D([], [], color="#666666", linewidth=1, label="truth; 90 %")] if used else []
    for name, style in (*STYLES.items(), (OTHERS.label, OTHERS)):
        for is_training_maximum in (False, True):
            if (name, is_training_maximum) in used:
                label = TRAIN_MAX_LABEL if is_training_maximum else style.label
                handles.append(Line2D([], [], linestyle="none", label=label, **_marker(style, is_training_maximum)))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)


def _marker(style: Style, is_hollow: bool) -> dict[str, Any]:
    return {
        "color": style.colour,
        "marker": style.marker,
        "markersize": 5.5 if is_hollow else 4.5,
        "markerfacecolor": "white" if is_hollow else style.colour,
        "markeredgewidth": 1,
    }


def _draw_coverage(axes: Axes, experiments: Sequence[CoverageResult]) -> None:
    """One row an experiment, the first on top."""
    axes.set_title("Coverage of the stated 90 % interval")
    axes.set_xlabel("share of runs (%), ± Wilson's 95 % interval")
    if not experiments:
        _say_not_measured(axes)
        return
    low, high = (100 * share for share in COVERAGE_RANGE)
    axes.axvspan(low, high, color="#e8e8e8", linewidth=0, zorder=0)
    axes.axvline(90, color="#666666", linewidth=1, zorder=1)
    lowest = 100.0
    for row, item in enumerate(experiments):
        style = STYLES.get(item.key.estimator, OTHERS)
        share, low_end, high_end = (100 * part for part in covered(item))
        lowest = min(lowest, low_end)
        axes.errorbar(
            share,
            row,
            xerr=[[max(0.0, share - low_end)], [max(0.0, high_end - share)]],
            linewidth=1,
            **_marker(style, False),
            clip_on=False,
            zorder=3,
        )
    axes.set_xlim(min(70.0, 10 * math.floor(lowest / 10)), 100)
    axes.set_ylim(len(experiments) - 0.4, -0.6)
    axes.set_yticks(range(len(experiments)), [_label(item) for item in experiments], fontsize=7.5)
    axes.tick_params(axis="y", length=0)


def _label(item: CoverageResult) -> str:
    """The case in characters that the font has."""
    text = "".join(character if " " <= character <= "~" else "?" for character in printable(item.key.case))
    half = LABEL_CHARACTERS // 2
    return text if len(text) <= LABEL_CHARACTERS else f"{text[: half - 3]}...{text[-half:]}"


def _say_not_measured(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#666666")


def _description(points: Sequence[Point], experiments: Sequence[CoverageResult]) -> str:
    """Both panels in words, with the numbers that matter most."""
    parts = list(_points_in_words(points))
    parts += [
        f"{item.key.estimator} on {item.key.case}: {n_held(item)} of {item.key.n_seeds} intervals hold what they owe."
        for item in experiments
    ]
    return " ".join(parts) or "Nothing was measured."


def _points_in_words(points: Sequence[Point]) -> Iterator[str]:
    for estimator in ESTIMATORS:
        for is_training_maximum in (False, True):
            errors = [
                point.value - point.truth
                for point in points
                if (point.estimator, point.is_training_maximum) == (estimator, is_training_maximum)
            ]
            if errors:
                name = TRAIN_MAX_LABEL if is_training_maximum else STYLES[estimator].label
                yield (
                    f"{name}: estimate minus truth from {min(errors):+.2f} to {max(errors):+.2f} bits, "
                    f"cases: {len(errors)}."
                )
