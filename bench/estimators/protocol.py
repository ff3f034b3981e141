"""What every estimator of mutual information takes and gives back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import EstimationError, Refusal
from bench.records import is_saturated

ROWS_AT_ONCE = 4096
"""Rows that are copied at a time, so that no temporary is as large as the population."""

Direction = Literal["lower bound", "upper bound", "exact", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Paired rows of two representations over a population.

    Attributes:
        inputs: x, shape (n_samples, d_model), float32.
        outputs: y, shape (n_samples, d_model), float32; row i belongs to row i of `inputs`.
        weights: probability of each pair, shape (n_samples,), float64, positive, sums to 1.
        input_labels, output_labels: equal rows have equal labels 0, 1, ..., shape (n_samples,).
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    weights: npt.NDArray[np.float64]
    input_labels: npt.NDArray[np.int64]
    output_labels: npt.NDArray[np.int64]

    @property
    def n_samples(self) -> int:
        """Pairs in the population."""
        return len(self.weights)

    def on(self, device: str) -> Self:
        """The same pairs with their rows on another device; weights and labels stay where they are."""
        return replace(self, inputs=self.inputs.to(device), outputs=self.outputs.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One number of an estimator: I(X; Y) in nats with its standard error; may be slightly negative, never clipped."""

    value_nats: float
    standard_error_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualInformation:
    """An estimate of I(X; Y).

    Attributes:
        readings: every number the estimator gives, by label (the noise scales of `noisy_channel`, say).
        headline: the label of the reading that stands for the estimate.
        direction: which side of I(X; Y) the estimate is on, apart from its standard error. A "lower bound" never
            passes its ceiling; "none" may, and then it says so itself.
        ceiling_nats: the exact mutual information of the rows taken as the whole population. Of an enumerated
            population it is the truth; of samples that are all different it is log(n_samples), what no estimate from
            samples can vouch for (McAllester & Stratos 2020).
        cap_nats: the most that this estimator can say from these rows, at most the ceiling.
    """

    readings: Mapping[str, Reading]
    headline: str
    direction: Direction
    ceiling_nats: float
    cap_nats: float
    n_samples: int
    d_model: int
    seconds: float

    @property
    def value_nats(self) -> float:
        """The headline number."""
        return self.readings[self.headline].value_nats

    @property
    def standard_error_nats(self) -> float:
        """The standard error of the headline number."""
        return self.readings[self.headline].standard_error_nats

    @property
    def is_saturated(self) -> bool:
        """Whether the headline number is within half a bit of the cap: "at least this much"."""
        return bool(is_saturated(self.value_nats / math.log(2), self.cap_nats / math.log(2)))


class Estimator(Protocol):
    """An estimator of mutual information: settings in the constructor, data in `estimate`."""

    @property
    def name(self) -> str:
        """Its name in `ESTIMATORS`."""
        ...

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Everything that changes its answer."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its readings, headline included."""
        ...

    @property
    def headline(self) -> str:
        """The label of the reading that stands for the estimate."""
        ...

    @property
    def is_sample_based(self) -> bool:
        """Whether the rows are a sample to generalise from (True) or the whole population (False)."""
        ...

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Estimate I(X; Y).

        Raises:
            Refusal: the estimator has no answer for rows like these; the message says why and what to do.
        """
        ...


def pair_up(
    inputs: torch.Tensor,
    outputs: torch.Tensor,
    weights: npt.NDArray[np.float64] | None = None,
    *,
    input_labels: npt.NDArray[np.int64] | None = None,
) -> Pairs:
    """The one door for data: check the rows and find which of them are equal.

    Args:
        inputs: shape (n_samples, d_input), any float dtype.
        outputs: shape (n_samples, d_output).
        weights: probability of each pair; None means uniform.
        input_labels: the labels of the input rows where they are known already, as `label_rows` would give them.

    Raises:
        EstimationError: no rows, mismatched shapes, NaN or infinity, weights that are not a distribution.
    """
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs):
        raise EstimationError(
            f"expected two matrices with equally many rows, got shapes {tuple(inputs.shape)} and {tuple(outputs.shape)}"
        )
    if len(inputs) == 0:
        raise EstimationError("expected at least one sample, got 0")
    inputs, outputs = inputs.float().contiguous(), outputs.float().contiguous()
    for side, rows in (("input", inputs), ("output", outputs)):
        starts = range(0, len(rows), ROWS_AT_ONCE)
        if all(math.isfinite(float(rows[start : start + ROWS_AT_ONCE].sum())) for start in starts):
            continue  # no sum with a NaN or an infinity is finite, and summing is twenty times faster than looking
        n_bad = int((~torch.isfinite(rows)).any(dim=1).sum())
        if n_bad:
            raise EstimationError(f"{n_bad} of {len(rows)} {side} rows hold NaN or infinite values")
    if weights is None:
        weights = np.full(len(inputs), 1.0 / len(inputs))
    if weights.shape != (len(inputs),) or not (weights > 0).all() or abs(weights.sum() - 1.0) > 1e-9:
        raise EstimationError(
            f"expected {len(inputs)} positive weights that sum to 1, "
            f"got shape {weights.shape} and sum {weights.sum():.6g}"
        )
    return Pairs(
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        input_labels=label_rows(inputs) if input_labels is None else input_labels,
        output_labels=label_rows(outputs),
    )


def label_rows(rows: torch.Tensor) -> npt.NDArray[np.int64]:
    """Number the distinct rows of a float32 matrix in order of first appearance, shape (n_samples,).

    Rows are equal when they are bit for bit equal (0.0 and -0.0 count as equal), told by a 128-bit hash of each.
    """
    if len(np.unique(_row_numbers(rows))) == len(rows):
        return np.arange(len(rows))
    seen: dict[bytes, int] = {}
    labels = np.empty(len(rows), dtype=np.int64)
    for start, contents in _chunks(rows):
        for index, row in enumerate(contents, start=start):
            labels[index] = seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), len(seen))
    return labels


def _row_numbers(rows: torch.Tensor) -> npt.NDArray[np.int64]:
    """A number for each row, shape (n_samples,): equal for equal rows, and nearly always different for different ones.

    A weighted sum of their bits modulo 2^64: exact, so the order of summation does not matter, and ten times faster
    than a hash that can be relied on. Rows with different numbers are different.
    """
    factors = np.random.default_rng(0).integers(2**63, size=rows.shape[1], dtype=np.int64) | 1
    numbers = []
    for _, contents in _chunks(rows):
        # Two numbers of 32 bits at a time where they come in pairs.
        bits = contents.view(np.int64) if rows.shape[1] % 2 == 0 else contents.view(np.int32).astype(np.int64)
        numbers.append(np.einsum("ij,j->i", bits, factors[: bits.shape[1]]))
    return np.concatenate(numbers)


def _chunks(rows: torch.Tensor) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The contents of a few thousand rows at a time, -0.0 made 0.0, and the index of the first of them."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, (rows[start : start + ROWS_AT_ONCE] + 0.0).cpu().numpy()


def refuse_constant_columns(pairs: Pairs) -> None:
    """For estimators that take the rows for a sample of continuous variables.

    Raises:
        Refusal: with their count.
    """
    for side, rows in (("input", pairs.inputs), ("output", pairs.outputs)):
        n_constant = int((rows.amax(dim=0) == rows.amin(dim=0)).sum())
        if n_constant:
            raise Refusal(f"{n_constant} of {rows.shape[1]} {side} columns are constant; leave them out")
