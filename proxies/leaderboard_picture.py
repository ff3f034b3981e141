"""The board -> its two pictures: emergence against parameters, and estimated against measured emergence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.escape import printable
from bench.fits import ON_TRIAL, FitRecord
from bench.store import StoredFit
from proxies.leaderboard import title
from proxies.standings import Entry, EstimatedEntry, Standing
from proxies.svg import drawn

WIDTH, HEIGHT, PANEL = 8.4, 4.4, 3.4
"""Inches."""

FAMILIES = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"),
    ("#000000", "X"), ("#999999", "*"),
)  # fmt: skip
"""Colour and marker of each family in turn; colours of Okabe & Ito 2008."""

GREY = "#777777"

MOST_LABELS = 12
"""Models with their name beside them; with more of them names would cover the points."""


def size_picture(standing: Standing) -> bytes:
    """Emergence against parameters, with intervals, ceilings and untrained twins."""
    styles = _styles(entry.model.family for entry in standing.measured)
    estimated = [entry for entry in standing.entries if isinstance(entry, EstimatedEntry)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        sizes = [entry.model.n_parameters for entry in standing.measured]
        axes.set_xlim(min(sizes) / 3, max(sizes) * 2)  # by hand: one size alone has no range
        for entry in standing.measured:
            _draw_model(axes, entry, styles[entry.model.family])
        _label(axes, standing)
        for one in estimated:
            axes.axhline(one.bits, color=GREY, linewidth=0.8, linestyle=":")
            worth = "" if one.may_rank else ", no better than a baseline"
            axes.annotate(
                f"{printable(one.name)[:30]}, estimated{worth}", (1, one.bits), fontsize=6.5, color=GREY,
                xycoords=("axes fraction", "data"), ha="right", va="bottom",
            )  # fmt: skip
        axes.set_xlabel("parameters")
        axes.set_ylabel("emergence (bits)")
        if min(map(_lowest, standing.measured)) >= 0:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1e6:g} M" if n < 1e9 else f"{n / 1e9:g} B"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        families = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=printable(family)[:40])
            for family, (colour, marker) in styles.items()
        ]
        figure.legend(
            handles=[
                *families,
                Line2D([], [], color=GREY, marker="o", markerfacecolor="none", linestyle="", label="made from one"),
                Line2D([], [], color=GREY, marker="_", markersize=10, linestyle="", label="ceiling"),
                Line2D([], [], color=GREY, marker="x", linestyle="", label="untrained twin"),
            ],
            loc="outside lower center", ncols=4, frameon=False, fontsize=7.5,
        )  # fmt: skip

    return drawn(
        draw,
        title=f"Emergence against parameters: {printable(title(standing))}",
        description="; ".join(
            f"{entry.name}, {entry.model.n_parameters / 1e6:.1f} M parameters: {entry.emergence[0]:.2f} ± "
            f"{entry.emergence[1]:.2f} bits, ceiling {entry.ceiling:.2f}"
            for entry in standing.measured
        ),
        salt="leaderboard-size",
        width=WIDTH,
        height=HEIGHT,
    )


def _lowest(entry: Entry) -> float:
    """Of a model and its twin."""
    return min(entry.emergence[0] - entry.emergence[1], entry.emergence[0] - (entry.over_twin or (0.0, 0.0))[0])


def _draw_model(axes: Axes, entry: Entry, style: tuple[str, str]) -> None:
    colour, marker = style
    x = entry.model.n_parameters
    if entry.over_twin is not None:
        axes.plot(x, entry.emergence[0] - entry.over_twin[0], "x", color=GREY, markersize=4, zorder=1)
    axes.plot(x, entry.ceiling, "_", color=GREY, markersize=10, zorder=1)
    axes.errorbar(
        x, entry.emergence[0], yerr=entry.emergence[1], color=colour, marker=marker, markersize=5, capsize=2,
        markerfacecolor=colour if entry.may_rank else "white", linestyle="", zorder=3 if entry.may_rank else 2,
    )  # fmt: skip


def _label(axes: Axes, standing: Standing) -> None:
    """Names of the models as published; what is made of them is near enough."""
    named = [entry for entry in standing.measured if entry.may_rank]
    for entry in named if len(named) <= MOST_LABELS else ():
        axes.annotate(
            printable(entry.name)[:30], (entry.model.n_parameters, entry.bits), xytext=(-6, 0),
            textcoords="offset points", fontsize=6.5, ha="right", va="center",
        )  # fmt: skip


def closed_picture(fits: Sequence[StoredFit]) -> bytes:
    """Estimated against measured emergence, one panel a fit, each family held out in its turn."""
    styles = _styles(row.family for item in fits for row in item.record.rows)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(fits), squeeze=False)[0]
        for axes, item in zip(panels, fits, strict=True):
            _draw_fit(axes, item.record, styles)
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=printable(family)[:40])
            for family, (colour, marker) in styles.items()
        ]
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="as measured"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)

    return drawn(
        draw,
        title="Estimated against measured emergence, each family taken for closed",
        description="; ".join(_fit_in_words(item) for item in fits),
        salt="leaderboard-closed",
        width=max(PANEL * len(fits), WIDTH / 2),
        height=PANEL + 0.6,
    )


def _draw_fit(axes: Axes, record: FitRecord, styles: dict[str, tuple[str, str]]) -> None:
    predictor = ON_TRIAL[record.key.problem]
    points = [(row, said) for row in record.rows if (said := row.predictions.get(predictor)) is not None]
    for row, said in points:
        colour, marker = styles[row.family]
        between = row.intervals.get(predictor, {}).get("80")
        if between is not None:
            axes.vlines(row.truth, between.low, between.high, color=colour, linewidth=0.8)
        axes.plot(row.truth, said, color=colour, marker=marker, markersize=4.5, alpha=0.85)
    ends = [end for row, said in points for end in (row.truth, said)] or [0.0, 1.0]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, linewidth=0.8, zorder=0)
    source = {"emergence": "from answers", "texts": f"from text read by {printable(record.key.target)[:24]}"}
    error, baseline = _errors(record)
    axes.set_title(source[record.key.problem], fontsize=8)
    axes.set_xlabel(f"measured (bits)\nheld-out error {error}, {baseline}", fontsize=7.5)
    axes.set_ylabel("estimated (bits)")


def _errors(record: FitRecord) -> tuple[str, str]:
    """Of what is on trial, and of the baseline that it does worst against."""
    predictor = ON_TRIAL[record.key.problem]
    by_name = {one.name: one.mean_absolute_error for one in record.errors}
    comparison = next((one for one in record.comparisons if one.predictor == predictor), None)

    def shown(name: str) -> str:
        error = by_name.get(name)
        return "none" if error is None else f"{error:.2f}"

    return shown(predictor), "" if comparison is None else f"{comparison.baseline} {shown(comparison.baseline)}"


def _fit_in_words(item: StoredFit) -> str:
    error, baseline = _errors(item.record)
    return f"{item.record.key.problem}, {item.record.key.target}: held-out error {error} bits; {baseline}"


def _styles(families: Iterable[str]) -> dict[str, tuple[str, str]]:
    ordered: Sequence[str] = sorted(set(families))
    return {family: FAMILIES[place % len(FAMILIES)] for place, family in enumerate(ordered)}
