"""What guessing scores on published benchmarks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What guessing scores, as a fraction; None where guessing has no fixed score. `source` says why."""

    level: float | None
    source: str


_FOUR = "four options for each question"
_TWO = "two options for each sentence"
_ARC = Chance(
    level=0.25,
    source="Clark et al. 2018: four options for most questions; fewer than one in a hundred has three or five",
)
_TRUTHFUL = Chance(
    level=None, source="Lin et al. 2022: a share of probability over a number of answers that varies: no fixed chance"
)

CHANCE: Mapping[str, Chance] = {
    "mmlu": Chance(level=0.25, source=f"Hendrycks et al. 2021: {_FOUR}"),
    "arcc": _ARC,
    "arcchallenge": _ARC,
    "hellaswag": Chance(level=0.25, source="Zellers et al. 2019: four endings for each context"),
    "winograd": Chance(level=0.5, source=f"Levesque et al. 2012: {_TWO}"),
    "winogrande": Chance(level=0.5, source=f"Sakaguchi et al. 2020: {_TWO}"),
    "xwinograd": Chance(level=0.5, source=f"Tikhonov and Ryabinin 2021: {_TWO}, in six languages"),
    "truthfulqa": _TRUTHFUL,
    "truthfulqamc2": _TRUTHFUL,
    "gsm8k": Chance(level=0.0, source="Cobbe et al. 2021: a number is written freely"),
    "humaneval": Chance(level=0.0, source="Chen et al. 2021: a program is written freely"),
}
"""By the benchmark's name in small letters, letters and digits only."""


def chance_of(benchmark: str) -> Chance | None:
    """The entry of `CHANCE` for a benchmark in any spelling; None if it is not known."""
    return CHANCE.get(re.sub("[^a-z0-9]", "", benchmark.casefold()))
