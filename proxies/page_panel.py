"""What the panel of a model needs, as JSON that the script of the page reads when it is opened.

Numbers are rounded to two decimals, and grids are packed: most of the page is grids.
"""

from __future__ import annotations

from bench.escape import json_for_script
from proxies.page_data import AccuracyCurve, Grid, HeatMap, ModelRow, ShotPoint

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Base 36 is the largest that JavaScript's `parseInt` reads."""

REFUSED_DIGIT = "-"


def panel_json(row: ModelRow) -> str:
    """Heat maps, shots and accuracies of one model, safe inside a script element."""
    return json_for_script(
        {
            "maps": [_heat_map(heat_map) for heat_map in row.heat_maps],
            "shots": [_shot(point) for point in row.shots],
            "curves": [_curve(curve) for curve in row.accuracies],
        }
    )


def _heat_map(heat_map: HeatMap) -> dict[str, object]:
    """Every cell is `width` base-36 digits: hundredths of a bit above `low`, or so many `REFUSED_DIGIT`."""
    grids = {
        "emergence": _hundredths(heat_map.emergence),
        "ceiling": _hundredths(heat_map.ceiling),
        "untrained_twin": _hundredths(heat_map.untrained_twin),
        "random_words": _hundredths(heat_map.random_words),
    }
    values = [value for cells in grids.values() for value in cells if value is not None]
    low = min(values, default=0)
    width = len(_base_36(max(values, default=0) - low))
    return {
        "task": heat_map.task,
        "closing": heat_map.closing,
        "n_positions": len(heat_map.emergence[0]) if heat_map.emergence else 0,
        "low": low,
        "width": width,
        "grids": {name: _packed(cells, low, width) for name, cells in grids.items()},
    }


def _hundredths(grid: Grid) -> list[int | None]:
    return [None if value is None else round(100 * value) for line in grid for value in line]


def _packed(cells: list[int | None], low: int, width: int) -> str:
    return "".join(
        REFUSED_DIGIT * width if value is None else _base_36(value - low).rjust(width, "0") for value in cells
    )


def _base_36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = DIGITS[digit] + digits
    return digits


def _shot(point: ShotPoint) -> list[float | None]:
    """Shots, emergence, half its interval, ceiling, twin, random words."""
    half_width = point.emergence.half_width
    numbers = (point.emergence.value, half_width, point.ceiling, point.untrained_twin, point.random_words)
    return [point.n_shots, *(None if number is None else round(number, 2) for number in numbers)]


def _curve(curve: AccuracyCurve) -> dict[str, object]:
    """Each point: shots, accuracy, both ends of its interval, chance, questions."""
    return {
        "task": curve.task,
        "mode": curve.mode,
        "points": [
            [
                point.n_shots,
                *(round(number, 2) for number in (point.accuracy, point.low, point.high, point.chance)),
                point.n_questions,
            ]
            for point in curve.points
        ],
    }
