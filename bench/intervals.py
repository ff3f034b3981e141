"""Intervals: from a standard error to what is printed beside a number."""

from __future__ import annotations

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""


def half_width(standard_error: float) -> float:
    """Half the width of the 95 % normal interval."""
    return Z_95 * standard_error


def with_interval(value: float, standard_error: float, *, decimals: int = 2, signed: bool = False) -> str:
    """`value ± half-width of its 95 % interval`.

    A half-width that would round to zero is shown as the last digit it cannot reach: "< 0.01".
    """
    width = half_width(standard_error)
    number = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(number) == 0:
        number = f"{0:.{decimals}f}"
    smallest = 10.0**-decimals
    return f"{number} ± {width:.{decimals}f}" if width >= smallest / 2 else f"{number} ± <{smallest:.{decimals}f}"
