"""An estimator that refuses, with a setting of every type, for everything between it and the screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.errors import EstimationError, Refusal
from bench.estimators import MutualInformation, Pairs, Reading
from bench.estimators.exact import exact_information


@dataclass(frozen=True, slots=True, kw_only=True)
class Picky:
    """`factor` times the exact information; refuses rows of which fewer than `fewest` are different on either side."""

    fewest: int = 2
    factor: float = 1.0
    offsets: tuple[float, ...] = (0.0, 0.5)
    advice: str = "take another"
    is_sample_based: bool = False

    name = "picky"
    labels = ("plain", "more")
    headline = "plain"

    def __post_init__(self) -> None:
        if self.fewest < 1:
            raise EstimationError(f"fewest={self.fewest} different rows are none; choose at least 1")

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        return {
            "fewest": self.fewest,
            "factor": self.factor,
            "offsets": self.offsets,
            "advice": self.advice,
            "is_sample_based": self.is_sample_based,
        }

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        found = 1 + min(int(labels.max()) for labels in (pairs.input_labels, pairs.output_labels))
        if found < self.fewest:
            raise Refusal(f"needs {self.fewest} different rows, got {found}; {self.advice}")
        ceiling = exact_information(pairs)
        return MutualInformation(
            readings={
                label: Reading(value_nats=self.factor * ceiling + offset, standard_error_nats=0.01)
                for label, offset in zip(self.labels, self.offsets, strict=True)
            },
            headline=self.headline,
            direction="none",
            ceiling_nats=ceiling,
            cap_nats=ceiling / 2,
            n_samples=pairs.n_samples,
            d_model=pairs.outputs.shape[1],
            seconds=0.0,
        )
