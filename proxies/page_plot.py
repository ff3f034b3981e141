"""Predicted against true, as a static picture in the page and as a table of the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.escape import html_text
from proxies.page_data import FitPlot, FitPoint
from proxies.page_table import link

WIDTH, HEIGHT = 360, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 46
N_COLOURS = 7
"""Classes `c0` to `c6` of page.css. There are eight shapes, so that no two of the first 56 families look the same."""

SHAPES = (
    '<circle r="4.5"/>',
    '<rect x="-4" y="-4" width="8" height="8"/>',
    '<path d="M0-5.4 5 3.6H-5Z"/>',
    '<path d="M0-5.6 5.6 0 0 5.6-5.6 0Z"/>',
    '<path d="M0 5.4 5-3.6H-5Z"/>',
    '<path d="M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4Z"/>',
    '<path d="M0-5.4 5.2-1.6 3.2 4.5h-6.4L-5.2-1.6Z"/>',
    '<path d="M-5-4.5 5 4.5V-4.5L-5 4.5Z"/>',
)
"""Around the origin, about ten units wide."""


def figure(plot: FitPlot, number: int) -> str:
    """The plot with its legend, errors, verdict and record.

    Args:
        number: of the plot on the page, from 1.
    """
    title = f"fit-{number}"
    errors = "".join(
        f'<tr><th scope="row">{html_text(name)}</th><td>{"predicts nothing" if error is None else f"{error:.2f}"}</td>'
        "</tr>"
        for name, error in plot.errors
    )
    return (
        f'<article class="fit" aria-labelledby="{title}">\n<h3 id="{title}">{html_text(plot.title)}</h3>\n'
        f"{_picture(plot) if plot.points else '<p>No held-out prediction.</p>'}\n"
        f'<p class="verdict">{html_text(plot.verdict)}</p>\n'
        f"<table><caption>Held-out mean absolute error, {html_text(plot.unit)}</caption><tbody>{errors}</tbody>"
        "</table>\n"
        f"{_values(plot)}\n<p>{link(plot.record)}</p>\n</article>"
    )


def ticks(low: float, high: float, n_most: int = 8) -> list[float]:
    """Round numbers from low to high, as many as fit into `n_most`; steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / n_most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= n_most)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _families(points: Iterable[FitPoint]) -> dict[str, tuple[str, str]]:
    """Class and shape of each family, in the order of their names."""
    names = sorted({point.family for point in points})
    return {name: (f"c{index % N_COLOURS}", SHAPES[index % len(SHAPES)]) for index, name in enumerate(names)}


def _picture(plot: FitPlot) -> str:
    points = plot.points
    values = [
        value
        for point in points
        for value in (point.truth, point.predicted, point.low, point.high)
        if value is not None
    ]
    margin = 0.04 * (max(values) - min(values)) or 0.5
    low, high = min(values) - margin, max(values) + margin

    def x(value: float) -> str:
        return f"{LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM):.1f}"

    grid = []
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    for tick in marks:
        text = f"{tick + 0.0:.{decimals}f}"  # never -0
        grid.append(f'<path class="grid" d="M{x(tick)} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>')
        grid.append(f'<text x="{x(tick)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
        grid.append(f'<text x="{LEFT - 6}" y="{y(tick)}" dy="4" text-anchor="end">{text}</text>')
    families = _families(points)
    drawn = []
    for point in points:
        colour, shape = families[point.family]
        interval = ""
        if point.low is not None and point.high is not None:
            interval = f'<path class="interval" d="M{x(point.truth)} {y(point.low)}V{y(point.high)}"/>'
        drawn.append(
            f'<g class="{colour}"><title>{html_text(_sentence(point))}</title>{interval}'
            f'<g transform="translate({x(point.truth)} {y(point.predicted)})">{shape}</g></g>'
        )
    unit = html_text(plot.unit)
    label = f"{plot.predictor}: {len(points)} held-out predictions against the truth; the table below has the numbers"
    legend = "".join(
        f'<li><svg class="{colour}" viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true">{shape}</svg> '
        f"{html_text(name)}</li>"
        for name, (colour, shape) in families.items()
    )
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(label)}">{"".join(grid)}'
        f'<path class="diagonal" d="M{x(low)} {y(low)}L{x(high)} {y(high)}"/>{"".join(drawn)}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">truth, {unit}</text>'
        f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"predicted, {unit}</text></svg>\n"
        f'<ul class="legend">{legend}<li><svg viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true">'
        '<path class="diagonal" d="M-6 6L6-6"/></svg> predicted = truth</li></ul>'
    )


def _sentence(point: FitPoint) -> str:
    interval = "" if point.low is None or point.high is None else f" ({point.low:.2f} to {point.high:.2f})"
    return f"{point.label}, {point.family}: predicted {point.predicted:.2f}{interval}, truth {point.truth:.2f}"


def _values(plot: FitPlot) -> str:
    """The same points for readers who do not see the picture."""
    if not plot.points:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{html_text(point.label)}</th><td>{html_text(point.family)}</td><td>{point.truth:.2f}</td>'
        f"<td>{point.predicted:.2f}</td><td>{_ends(point)}</td></tr>"
        for point in plot.points
    )
    headings = "".join(
        f'<th scope="col">{heading}</th>' for heading in ("held out", "family", "truth", "predicted", "interval")
    )
    name = html_text(f"Predictions of {plot.predictor}: {plot.title}")
    return (
        f"<details><summary>{len(plot.points)} predictions of {html_text(plot.predictor)} as a table</summary>\n"
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _ends(point: FitPoint) -> str:
    return "none" if point.low is None or point.high is None else f"{point.low:.2f} to {point.high:.2f}"
