"""Mutual information of a finite population by counting distinct rows: the ceiling of every other estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.estimators.protocol import MutualInformation, Pairs, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """I(X; Y) = H(X) + H(Y) - H(X, Y) over the distinct rows of the population itself.

    Exact when the pairs *are* the population (an enumerated task), where an injective block has I = H(X) whatever
    the layer. From a sample of a continuous population it is the logarithm of the sample count and means nothing.
    """

    name = "exact"
    is_sample_based = False
    headline = "exact"
    labels = ("exact",)

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Counting has none."""
        return {}

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Count; `rng` is not used."""
        started = time.perf_counter()
        value = exact_information(pairs)
        return MutualInformation(
            readings={self.headline: Reading(value_nats=value, standard_error_nats=0.0)},
            headline=self.headline,
            direction="exact",
            ceiling_nats=value,
            cap_nats=value,
            n_samples=pairs.n_samples,
            d_model=pairs.outputs.shape[1],
            seconds=time.perf_counter() - started,
        )


def exact_information(pairs: Pairs) -> float:
    """H(X) + H(Y) - H(X, Y) in nats over distinct rows."""
    joint = pairs.input_labels * (int(pairs.output_labels.max()) + 1) + pairs.output_labels
    return (
        entropy(pairs.input_labels, pairs.weights)
        + entropy(pairs.output_labels, pairs.weights)
        - entropy(joint, pairs.weights)
    )


def information_of_rows(
    pairs: Pairs, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float64] | None = None
) -> float:
    """Exact information in nats of some rows as a population of their own, repeats included.

    Args:
        rows: shape (n_rows,).
        weights: in proportion, shape (n_rows,); None means equal.
    """
    shares = np.full(len(rows), 1 / len(rows)) if weights is None else weights / weights.sum()
    return exact_information(
        replace(
            pairs,
            inputs=pairs.inputs[:0],  # counting takes the labels
            outputs=pairs.outputs[:0],
            weights=shares,
            input_labels=pairs.input_labels[rows],
            output_labels=pairs.output_labels[rows],
        )
    )


def entropy(labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> float:
    """Shannon entropy in nats of a weighted label, shapes (n_samples,)."""
    index = np.unique(labels, return_inverse=True)[1]
    probabilities = np.bincount(index, weights=weights)
    return float(-np.sum(probabilities * np.log(probabilities)))
