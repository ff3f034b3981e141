"""Intervals: from standard errors to what is printed beside a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import EstimationError
from bench.records import Bits

REFUSED = "refused"
"""Shown in place of a number that does not exist, because a cell that it needs was refused."""

Z_90 = 1.6448536269514722
"""Two-sided 90 % quantile of the standard normal."""

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Two-sided 95 % quantiles of Student's t for 1 to 15 degrees of freedom."""


RESOLUTION = 1e-6
"""Records keep 6 decimals: what is smaller is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with both ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def longer_half(self) -> float:
        """What is printed where there is room for one number only."""
        return max(self.high - self.value, self.value - self.low)

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is on one side of 0, and 0 where it holds 0."""
        return 1 if self.low > RESOLUTION else -1 if self.high < -RESOLUTION else 0


def half_width(standard_error: float) -> float:
    """Half the width of the 95 % normal interval."""
    return Z_95 * standard_error


def mean_over_seeds(values: Sequence[float], standard_errors: Sequence[float]) -> tuple[float, float]:
    """Mean of one number per seed and half its 95 % interval.

    With one seed the interval holds the standard error that came with the number. With several it is the wider of
    that and Student's interval from their spread, which holds everything that a seed draws.
    """
    n_seeds = len(values)
    mean = math.fsum(values) / n_seeds
    within = half_width(math.sqrt(math.fsum(error**2 for error in standard_errors)) / n_seeds)
    if n_seeds == 1:
        return mean, within
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n_seeds - 1))
    quantile = T_95[min(n_seeds - 1, len(T_95)) - 1]
    return mean, max(within, quantile * spread / math.sqrt(n_seeds))


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Both ends of Wilson's interval for a probability, within [0, 1] and never of width 0.

    Args:
        z: two-sided quantile of the standard normal.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference". Equal to
    `scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")`.
    """
    if not 0 <= successes <= n or n == 0:
        raise EstimationError(f"expected 0 to n successes in n > 0 trials, got {successes} in {n}")
    share, scale = successes / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    width = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return max(0.0, centre - width), min(1.0, centre + width)


def combined(*terms: tuple[float, Interval]) -> Interval:
    """The weighted sum of independent numbers: the distances to their ends add up in quadrature, each end by itself.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures" (MOVER). Of symmetric
    intervals it is the usual one; of two proportions with Wilson's it is Newcombe's.
    """
    value = math.fsum(weight * term.value for weight, term in terms)
    below, above = 0.0, 0.0
    for weight, term in terms:
        to_ends = weight * (term.low - term.value), weight * (term.high - term.value)
        below += min(to_ends) ** 2
        above += max(to_ends) ** 2
    return Interval(value=value, low=value - math.sqrt(below), high=value + math.sqrt(above))


def with_interval(value: float, standard_error: float, *, decimals: int = 2, signed: bool = False) -> str:
    """`value ± half-width of its 95 % interval`, from a standard error."""
    return with_half_width(value, half_width(standard_error), decimals=decimals, signed=signed)


def shown(bits: Bits | None, *, signed: bool = False) -> str:
    """A number of a record with its interval; one that was refused says so."""
    return REFUSED if bits is None else with_interval(bits.value_bits, bits.error_bits, signed=signed)


def with_half_width(value: float, width: float, *, decimals: int = 2, signed: bool = False) -> str:
    """`value ± width`; a width that would round to zero is shown as the last digit it cannot reach: "< 0.01"."""
    number = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(number) == 0:
        number = f"{0:.{decimals}f}"
    smallest = 10.0**-decimals
    return f"{number} ± {width:.{decimals}f}" if width >= smallest / 2 else f"{number} ± <{smallest:.{decimals}f}"
