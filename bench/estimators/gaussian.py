"""Mutual information of Gaussian variables from sample covariances, in closed form and without bias.

Source: Cai, Liang & Zhou 2015, "Law of log determinant of sample covariance matrix" (arXiv 1309.0482), for the exact
expectation of a log-determinant; Anderson 2003, "An Introduction to Multivariate Statistical Analysis", chapter 8, for
the law of Wilks' Lambda.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import Refusal
from bench.estimators.exact import exact_information
from bench.estimators.protocol import ROWS_AT_ONCE, MutualInformation, Pairs, Reading, refuse_constant_columns

MAX_CORRELATION = 0.999
"""A canonical correlation above this is a copy with hardly any noise (4.5 bits in one direction): what a deterministic
block gives, where the information in the limit is infinite and the estimate says how far rounding let it get."""

SAMPLES_PER_DIMENSION = 10
"""Below this the correction is as large as the information that it corrects."""

SINGULAR = 1e-10
"""A direction with less than this share of a column's variance (a spread of 1e-5) cannot be told from the rounding of
float32 rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """I(X; Y) = -1/2 sum_i log(1 - r_i^2) over the canonical correlations r_i of X and Y, less its bias.

    Unbiased if (X, Y) is Gaussian: E log|S| is known exactly for every covariance. If it is not, this is the
    information of the Gaussian with the same covariances, on either side of the truth: calibration and screening only.
    A deterministic block is refused where it shows: in a canonical correlation near 1, or in a value above the
    logarithm of the sample count. A non-linear one may hide behind its curvature and get a number below the truth.

    An invertible linear map of either side, and a permutation of the samples, change nothing.
    """

    name = "gaussian"
    is_sample_based = True
    headline = "gaussian"
    labels = ("gaussian",)

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """A closed form has none."""
        return {}

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Estimate from the rows as a sample; `rng` is not used.

        Time goes with n_samples x (d_input + d_output)^2, memory with (d_input + d_output)^2.

        Raises:
            Refusal: weights, repeated pairs, a value above log(n_samples), fewer than
                `SAMPLES_PER_DIMENSION` samples a dimension, constant or
                linearly dependent columns, a canonical correlation above `MAX_CORRELATION`.
        """
        started = time.perf_counter()
        refuse_unless_sample(pairs)
        correlations = canonical_correlations(pairs.inputs, pairs.outputs)
        largest = float(correlations.max())
        if largest > MAX_CORRELATION:
            raise Refusal(
                f"a canonical correlation of {largest:.6g} is above {MAX_CORRELATION}: Y looks like a function of X, "
                f"which carries infinite information as a continuous variable; use noisy_channel for deterministic "
                f"blocks"
            )
        n, d_input, d_output = pairs.n_samples, pairs.inputs.shape[1], pairs.outputs.shape[1]
        plug_in = -0.5 * float(torch.log1p(-correlations.square()).sum())
        ceiling = exact_information(pairs)
        reading = Reading(
            value_nats=plug_in - bias(n, d_input, d_output),
            standard_error_nats=standard_error(float(correlations.square().sum()), n, d_input, d_output),
        )
        if reading.value_nats > ceiling:
            raise Refusal(
                f"{reading.value_nats / math.log(2):.1f} bits is more than the log2(n) = {ceiling / math.log(2):.1f} "
                f"that {n} samples can vouch for: Y looks like a function of X; use noisy_channel for deterministic "
                f"blocks"
            )
        return MutualInformation(
            readings={self.headline: reading},
            headline=self.headline,
            direction="none",
            ceiling_nats=ceiling,
            cap_nats=ceiling,
            n_samples=n,
            d_model=d_output,
            seconds=time.perf_counter() - started,
        )


def refuse_unless_sample(pairs: Pairs) -> None:
    """See that the rows can be independent draws of a continuous variable, and enough of them.

    Raises:
        Refusal: they cannot.
    """
    n, d = pairs.n_samples, max(pairs.inputs.shape[1], pairs.outputs.shape[1])
    if not np.allclose(pairs.weights * n, 1.0):
        raise Refusal(
            f"expected equally weighted samples, got weights from {pairs.weights.min():.3g} to "
            f"{pairs.weights.max():.3g}: a weighted population is not a sample; use noisy_channel"
        )
    n_distinct = len(np.unique(pairs.input_labels * (int(pairs.output_labels.max()) + 1) + pairs.output_labels))
    if n_distinct < n:
        raise Refusal(
            f"expected all pairs of rows to differ, got {n - n_distinct} repeats among {n}: not a sample of a "
            f"continuous variable; use noisy_channel for enumerated populations"
        )
    if n < SAMPLES_PER_DIMENSION * d:
        raise Refusal(
            f"{d} dimensions need at least {SAMPLES_PER_DIMENSION * d} samples, got {n}; "
            f"take more samples or project to fewer dimensions"
        )
    refuse_constant_columns(pairs)


def canonical_correlations(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Sample canonical correlations, shape (min(d_input, d_output),), float64.

    They are the singular values of A^-1 C B^-T with the covariance C between the sides and the Cholesky factors A and
    B of the covariance within each. Equal to those of `sklearn.cross_decomposition.CCA` with all components.

    Raises:
        Refusal: a side's columns are linearly dependent.
    """
    d_input = inputs.shape[1]
    correlation = correlation_matrix(inputs, outputs)
    factors = []
    for side, part in (("input", slice(0, d_input)), ("output", slice(d_input, None))):
        within = correlation[part, part]
        n_dependent = int((torch.linalg.eigvalsh(within) < SINGULAR).sum())
        if n_dependent:
            raise Refusal(
                f"{n_dependent} of {len(within)} directions of the {side} rows have no variance beyond float32 "
                f"rounding: the covariance is singular; leave out columns that are linear combinations of others"
            )
        factors.append(torch.linalg.cholesky(within))
    left, right = factors
    half = torch.linalg.solve_triangular(left, correlation[:d_input, d_input:], upper=False)
    whitened = torch.linalg.solve_triangular(right, half.T, upper=False)  # (d_output, d_input)
    correlations: torch.Tensor = torch.linalg.svdvals(whitened)
    return correlations


def correlation_matrix(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Correlations of all columns of both sides, in float64 without a copy of the rows in it."""
    chunks = range(0, len(inputs), ROWS_AT_ONCE)

    def rows(start: int) -> torch.Tensor:
        part = slice(start, start + ROWS_AT_ONCE)
        return torch.cat([inputs[part], outputs[part]], dim=1).double()

    mean = torch.stack([rows(start).sum(dim=0) for start in chunks]).sum(dim=0) / len(inputs)
    # Columns of one size before they are multiplied: activations differ by 1e3, their squares by 1e6.
    squares = torch.stack([(rows(start) - mean).square().sum(dim=0) for start in chunks])
    scale = squares.sum(dim=0).sqrt()
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=inputs.device)
    for start in chunks:
        unit = (rows(start) - mean) / scale
        total.addmm_(unit.T, unit)
    return total


def bias(n: int, d_input: int, d_output: int) -> float:
    """What the plug-in estimate is too large by on average, nats: about d_input d_output / (2 n).

    n - 1 times a sample covariance of d dimensions is Wishart, so E log|S| = log|Sigma| + sum_{i=1..d} psi((n - i) / 2)
    + d log(2 / (n - 1)). Summed over X and Y, less that of (X, Y), the last terms cancel.
    """
    return 0.5 * (digammas(n, d_input) + digammas(n, d_output) - digammas(n, d_input + d_output))


def digammas(n: int, d: int) -> float:
    """sum_{i=1..d} psi((n - i) / 2)."""
    return float(torch.special.digamma((n - torch.arange(1, d + 1, dtype=torch.float64)) / 2).sum())


def standard_error(squared_correlations: float, n: int, d_input: int, d_output: int) -> float:
    """Standard error in nats from the sum of squared sample canonical correlations: two variances added.

    Under independence -2 I is the logarithm of a product of independent beta variables (Wilks' Lambda), whose variance
    is a sum of trigammas. What dependence adds is, to first order in 1/n, the variance of the information density:
    sum of rho^2 / n, where n less the fitted dimensions does better (in one dimension a side it gives the n - 3 of
    Fisher's z). The sample's r^2 sum up to d_input d_output / (n - 1) even under independence; that is taken off.
    """
    first = (n - d_output - torch.arange(1, d_input + 1, dtype=torch.float64)) / 2  # (d_input,)
    null = float((torch.special.polygamma(1, first) - torch.special.polygamma(1, first + d_output / 2)).sum()) / 4
    dependence = max(squared_correlations - d_input * d_output / (n - 1), 0.0) / (n - 1 - d_input - d_output)
    return math.sqrt(null + dependence)
