"""One emergence record -> the features of its cells, one set a number of shots."""

from __future__ import annotations

import math

import numpy as np

from bench.records import Bits, EmergenceRecord
from proxies.emergence_by_block import by_block

STEEP_BITS = 0.05
"""A second gain below it is too small to say what share of it is left at the last shot."""


def of_record(record: EmergenceRecord) -> dict[int, dict[str, float]]:
    """Features by number of shots; names and units as in `proxies.features.COLUMNS`, NaN where one was refused."""
    trained = record.measurements["trained"]
    values = [_bits(row.emergence) for row in record.summary]
    shared = {"growth_per_shot": _slope(values), "flattening": _flattening(values)}
    found = {}
    for number, row in enumerate(record.summary):
        blocks, _ = by_block(trained, row.position)
        half = (len(blocks) + 1) // 2  # of an odd number the middle one is with the first
        peak = int(np.argmax(blocks)) if not np.isnan(blocks).any() else None
        found[row.n_shots] = shared | {
            "emergence": values[number],
            "emergence_error": math.nan if row.emergence is None else row.emergence.error_bits,
            "ceiling": math.nan if row.ceiling_bits is None else row.ceiling_bits,
            "first_half": float(blocks[:half].mean()),
            "last_half": float(blocks[half:].mean()) if len(blocks) > 1 else math.nan,
            "peak": math.nan if peak is None else float(blocks[peak]),
            "peak_depth": math.nan if peak is None or len(blocks) < 2 else peak / (len(blocks) - 1),
            "depth_slope": _slope(blocks.tolist()) * (len(blocks) - 1),
            "noise_area": _noise_area({label: by["trained"] for label, by in row.curve.items()}),
            "gain": values[number] - (values[number - 1] if number else 0.0),
            "over_twin": _bits(row.excess_over_twin),
            "over_random_words": _bits(row.excess_over_random_words),
            "over_separator": _over_separator(record, row.position),
        }
    return found


def _bits(bits: Bits | None) -> float:
    return math.nan if bits is None else bits.value_bits


def _slope(values: list[float]) -> float:
    """Least-squares slope over equal steps; NaN of fewer than two numbers, or with one missing."""
    if len(values) < 2 or any(map(math.isnan, values)):
        return math.nan
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    return float(steps @ np.asarray(values) / (steps @ steps))


def _flattening(values: list[float]) -> float:
    """1 minus the last shot's gain over the second's; NaN of fewer than three shots, or where that is small."""
    if len(values) < 3 or not values[1] - values[0] > STEEP_BITS:
        return math.nan
    return 1 - (values[-1] - values[-2]) / (values[1] - values[0])


def _noise_area(curve: dict[str, Bits | None]) -> float:
    """Mean of emergence over the logarithm of the noise scale, by trapezoids; NaN without such a curve."""
    points = sorted(
        (math.log2(float(label.removeprefix("s="))), _bits(bits))
        for label, bits in curve.items()
        if label.startswith("s=")
    )
    if len(points) < 2:
        return math.nan
    scales, bits = np.array(points).T
    return float(np.trapezoid(bits, scales) / (scales[-1] - scales[0]))


def _over_separator(record: EmergenceRecord, position: int) -> float:
    """Emergence at the last token of the answer minus that at the separator behind it; NaN where there is none."""
    if record.demonstration_length < 2:
        return math.nan
    trained = record.measurements["trained"]
    before, at = (float(by_block(trained, place)[0].mean()) for place in (position - 1, position))
    return before - at
