"""What proxies made of texts -> a picture: a row a proxy, emergence on the left, what is cheaper on the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.escape import printable
from bench.probe_records import Interval
from proxies.svg import drawn

WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 9.6, 0.9, 0.3
"""Inches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One text through one proxy: two differences in bits and two areas under the curve."""

    name: str
    emergence: Interval
    is_saturated: bool
    counted: Interval
    bag_of_tokens: Interval
    perplexity: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """All texts through one proxy."""

    proxy: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One kind of evidence: how it is drawn (colours of Okabe & Ito 2008) and which number it is."""

    label: str
    colour: str
    marker: str
    is_hollow: bool
    number: Callable[[Point], Interval]


LEFT = (
    Series(label="emergence", colour="#0072B2", marker="o", is_hollow=False, number=lambda point: point.emergence),
    Series(label="counting tokens", colour="#D55E00", marker="s", is_hollow=True, number=lambda point: point.counted),
)
RIGHT = (
    Series(
        label="bag of tokens", colour="#009E73", marker="D", is_hollow=True, number=lambda point: point.bag_of_tokens
    ),
    Series(label="perplexity", colour="#CC79A7", marker="^", is_hollow=True, number=lambda point: point.perplexity),
)
SATURATED = "#999999"
SIDES = ((LEFT, 0.0, "text minus reference (bits)"), (RIGHT, 0.5, "AUC of telling windows apart"))


def picture(panels: Sequence[Panel]) -> bytes:
    """The SVG: points with their 95 % intervals, one line a text, and where there is no difference."""

    def draw(figure: Figure) -> None:
        if not panels:
            figure.text(0.5, 0.4, "no text was read yet", ha="center", color="#666666")
            return
        grid = figure.subplots(len(panels), len(SIDES), sharex="col", sharey="row", squeeze=False)
        for row, panel in zip(grid, panels, strict=True):
            for axes, (series, nothing, label) in zip(row, SIDES, strict=True):
                axes.axvline(nothing, color="#999999", linewidth=0.8, zorder=0)
                axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
                axes.set_xlabel(label)
                axes.tick_params(labelbottom=True)
                _draw(axes, panel, series)
            row[0].set_title(f"read by {_plain(panel.proxy)}")
            row[0].set_yticks(range(len(panel.points)), [_plain(point.name) for point in panel.points])
            row[0].set_ylim(len(panel.points) - 0.5, -0.5)
        figure.legend(handles=_handles(panels), loc="outside lower center", ncols=5, frameon=False)

    n_rows = sum(len(panel.points) for panel in panels)
    return drawn(
        draw,
        title="Text of models against text of people, with 95 % intervals",
        description=_described(panels),
        salt="text-findings",
        width=WIDTH,
        height=0.9 + PANEL_HEIGHT * len(panels) + ROW_HEIGHT * n_rows,
    )


def _draw(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    for place, one in enumerate(series):
        offset = 0.28 * (place - (len(series) - 1) / 2)
        for line, point in enumerate(panel.points):
            number = one.number(point)
            colour = SATURATED if one is LEFT[0] and point.is_saturated else one.colour
            axes.errorbar(
                [number.value],
                [line + offset],
                xerr=[[number.value - number.low], [number.high - number.value]],
                color=colour,
                marker=one.marker,
                markersize=4.5,
                markerfacecolor="white" if one.is_hollow else colour,
                linestyle="none",
                elinewidth=1.1,
                capsize=2,
            )


def _handles(panels: Sequence[Panel]) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], color=one.colour, marker=one.marker, markersize=4.5, linestyle="none", label=one.label,
            markerfacecolor="white" if one.is_hollow else one.colour,
        )
        for one in (*LEFT, *RIGHT)
    ]  # fmt: skip
    if any(point.is_saturated for panel in panels for point in panel.points):
        handles.append(
            Line2D([], [], color=SATURATED, marker="o", markersize=4.5, linestyle="none", label="emergence, saturated")
        )
    return handles


def _described(panels: Sequence[Panel]) -> str:
    """Every number in words."""
    parts = [
        f"{point.name} read by {panel.proxy}: "
        + ", ".join(
            f"{one.label} {number.value:.2f} ({number.low:.2f} to {number.high:.2f})"
            for one in (*LEFT, *RIGHT)
            for number in (one.number(point),)
        )
        + (", saturated" if point.is_saturated else "")
        + "."
        for panel in panels
        for point in panel.points
    ]
    return " ".join(parts) or "No text was read yet."


def _plain(text: str) -> str:
    """In characters that the font has."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in printable(text))
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
