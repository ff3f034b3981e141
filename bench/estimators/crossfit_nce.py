"""Held-out InfoNCE over cross-fitted folds: a lower bound on what dependence can be learned and carries over.

Sources: van den Oord et al. 2018 (InfoNCE, arXiv 1807.03748), Poole et al. 2019 (bounds and separable critics,
arXiv 1905.06922), McAllester & Stratos 2020 (no bound passes the logarithm of the sample, arXiv 1811.04251), Bayle et
al. 2020 (intervals from cross-validation, arXiv 2007.12671). The stack of critics (`critics.py`) is ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import EstimationError
from bench.estimators.critics import MIN_STEPS, CrossFitted, Loss, Training, clustered_error, cross_fit
from bench.estimators.exact import exact_information, information_of_rows
from bench.estimators.noisy_channel import ROUNDING_NATS, stratified_draws
from bench.estimators.protocol import MutualInformation, Pairs, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossfitNCE:
    """I(X; Y) from below: InfoNCE of critics on rows that they were not trained on.

    The distinct inputs are dealt into folds. For each fold, principal components and four small separable critics
    f(x, y) = <g(x), h(y)> are fitted on the other folds, stopped on validation rows, and added up with non-negative
    weights that maximise InfoNCE on those rows; the sum is scored on the fold held out. Equal inputs are never on two
    sides. Nothing is clipped, and no number is taken from rows that a critic has seen.

    The value is a lower bound in expectation: of the information that these critics find with this many rows, not of
    what Shannon's definition counts. A bijection that scrambles its input has all of the information and none that can
    be learned. It cannot pass the exact information of a held-out fold's rows (its `cap_nats`), whatever the truth.

    Where no critic beats silence on the validation rows by two standard errors the value is 0: nothing was found, which
    a lower bound may say of weak dependence too.

    The interval is that of the held-out scores, each row's influence on both sides of the score counted, widened for
    the critics that another sample of the same size would have trained (`held_out_error`).

    Attributes:
        n_folds: folds; each holds out 1/n_folds of the distinct inputs.
        n_samples: rows to use at most, drawn by weight; time and the size of the score matrices go with it.
        n_steps: training steps at most.
        batch_size: rows a step; each row's negatives are the other rows of its batch.
        learning_rate: highest learning rate of the one-cycle schedule of AdamW.
    """

    n_folds: int = 5
    n_samples: int = 8_000
    n_steps: int = 600
    batch_size: int = 256
    learning_rate: float = 2e-3

    name = "crossfit_nce"
    headline = "held_out"
    labels = ("held_out",)
    is_sample_based = True

    def __post_init__(self) -> None:
        is_possible = self.n_folds >= 2 and self.n_samples >= 2 and self.batch_size >= 2 and self.n_steps >= MIN_STEPS
        if not (is_possible and 0 < self.learning_rate < math.inf):
            raise EstimationError(
                f"expected n_folds, n_samples and batch_size of at least 2, n_steps of at least {MIN_STEPS} and a "
                f"positive learning_rate, got {self.n_folds}, {self.n_samples}, {self.batch_size}, {self.n_steps} and "
                f"{self.learning_rate}"
            )

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Everything in the constructor."""
        return asdict(self)

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Estimate the lower bound.

        Raises:
            Refusal: too few distinct inputs for the folds, or constant columns.
        """
        started = time.perf_counter()
        fitted = self.fit(pairs, rng)
        ceiling = exact_information(pairs)
        caps = [
            information_of_rows(pairs, fitted.rows[fold.held_out], fitted.weights[fold.held_out])
            for fold in fitted.folds
        ]
        return MutualInformation(
            readings={self.headline: held_out_reading(fitted, pairs)},
            headline=self.headline,
            direction="lower bound",
            ceiling_nats=ceiling,
            cap_nats=min(ceiling, float(fold_masses(fitted) @ caps)),
            n_samples=len(fitted.rows),
            d_model=pairs.outputs.shape[1],
            seconds=time.perf_counter() - started,
        )

    def fit(self, pairs: Pairs, rng: np.random.Generator, loss: Loss | None = None) -> CrossFitted:
        """The critics of every fold.

        Args:
            loss: what they minimise instead of minus InfoNCE.

        Raises:
            Refusal: see `estimate`.
        """
        rows, weights = draw_rows(pairs.weights, self.n_samples, rng)
        training = Training(
            n_folds=self.n_folds,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            loss=loss or infonce_loss,
        )
        return cross_fit(pairs, rows, weights, training, rng)


def held_out_reading(fitted: CrossFitted, pairs: Pairs) -> Reading:
    """InfoNCE of every fold on the rows that its critics have not seen, folds weighted by their mass."""
    weights = [fitted.weights[fold.held_out] for fold in fitted.folds]
    scored = [infonce(fitted.held_out_scores(index, pairs), share / share.sum()) for index, share in enumerate(weights)]
    value = float(fold_masses(fitted) @ [part.value_nats for part in scored])
    influences = np.concatenate([part.influences_nats for part in scored])
    return Reading(value_nats=value, standard_error_nats=held_out_error(fitted, pairs, influences - value))


def held_out_error(fitted: CrossFitted, pairs: Pairs, deviations: npt.NDArray[np.float64]) -> float:
    """Standard error of a weighted mean over held-out rows from their deviations, fold after fold, shape (n_rows,).

    Rows with equal inputs count as one observation. Given the critics that would be all; but rows that one fold holds
    out train the critics of the others, so fold values are not independent, and another sample trains other critics.
    Nadeau & Bengio 2003, "Inference for the Generalization Error", widen the error for both by sqrt(1 + J n_out / n_in)
    with J folds, n_out rows held out and n_in not: 1.5 with five folds.
    """
    held_out = np.concatenate([fold.held_out for fold in fitted.folds])
    labels = pairs.input_labels[fitted.rows[held_out]]
    n_folds = len(fitted.folds)
    widening = math.sqrt(1 + n_folds / (n_folds - 1))
    return math.hypot(widening * clustered_error(fitted.weights[held_out] * deviations, labels), ROUNDING_NATS)


def fold_masses(fitted: CrossFitted) -> npt.NDArray[np.float64]:
    """The weight of the rows that each fold holds out, shape (n_folds,), sums to 1."""
    return np.array([fitted.weights[fold.held_out].sum() for fold in fitted.folds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """InfoNCE in nats, and the influence of each pair on it, shape (n_samples,), whose mean under the weights it is."""

    value_nats: float
    influences_nats: npt.NDArray[np.float64]


def infonce(scores: torch.Tensor, weights: npt.NDArray[np.float64]) -> Scored:
    """InfoNCE of given scores, the mean of its two directions, with what a standard error needs.

    With f(x_i, y_j) the scores and w the weights of the pairs,
    I = sum_i w_i f_ii - 1/2 sum_i w_i log sum_j w_j exp f_ij - 1/2 sum_j w_j log sum_i w_i exp f_ij.
    The joint pairs are among the terms of both sums, which holds I below the entropy of w. The influence of pair k is
    the derivative of I by w_k, with k as a joint pair, as an x and as a y; its mean is I because I is homogeneous in w
    up to constants.

    Args:
        scores: shape (n_samples, n_samples), row x, column y, joint pairs on the diagonal.
        weights: shape (n_samples,), sums to 1.
    """
    share = torch.from_numpy(weights).to(scores.device)
    logs = share.log()
    scores = scores.double()
    own = scores.diagonal()
    per_x, per_y = ((scores + logs[None]).logsumexp(1), (scores + logs[:, None]).logsumexp(0))
    value = float(share @ (own - (per_x + per_y) / 2))
    as_y = (scores + (logs - per_x)[:, None]).exp().sum(dim=0)  # what pair k adds to the sums of every x
    as_x = (scores + (logs - per_y)[None]).exp().sum(dim=1)
    influences = own - (per_x + per_y + as_x + as_y) / 2 + 1
    return Scored(value_nats=value, influences_nats=influences.cpu().numpy())


def infonce_loss(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Minus InfoNCE, differentiable and for many score matrices at once, shapes (..., n, n) and (n,) to (...)."""
    logs = weights.log()
    per_x, per_y = (scores + logs).logsumexp(-1), (scores + logs[:, None]).logsumexp(-2)
    return ((per_x + per_y) / 2 - scores.diagonal(dim1=-2, dim2=-1)) @ weights


def draw_rows(
    weights: npt.NDArray[np.float64], n_samples: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """At most `n_samples` rows, shape (n_rows,), and their weights: a random part, or draws by weight.

    Rows drawn more than once come once, with the share of the draws.
    """
    if len(weights) <= n_samples:
        return np.arange(len(weights)), weights
    if weights.min() == weights.max():
        return np.sort(rng.choice(len(weights), size=n_samples, replace=False)), np.full(n_samples, 1 / n_samples)
    rows, counts = np.unique(stratified_draws(weights, n_samples, rng), return_counts=True)
    return rows, counts / n_samples
