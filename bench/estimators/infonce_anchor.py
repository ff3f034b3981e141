"""A learned log-ratio, averaged over held-out pairs: past the cap of InfoNCE, and no bound.

Source: InfoNCE-anchor, arXiv 2510.25983. The folds and critics are those of `crossfit_nce`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from bench.estimators.critics import CrossFitted
from bench.estimators.crossfit_nce import CrossfitNCE, held_out_error
from bench.estimators.exact import exact_information
from bench.estimators.protocol import MutualInformation, Pairs, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class InfonceAnchor:
    """I(X; Y) as the mean of log p(x, y) / p(x) p(y) over held-out pairs, as critics with an anchor have learned it.

    InfoNCE leaves a constant of its critic free and is held below the logarithm of its batch. One more class in its
    task, "none of these is the partner", fixes the constant: the score itself is then the log-ratio, and its mean
    over joint pairs the information, without a batch to limit it. What it pays is the bound: a critic that is too sure
    of itself puts the value above the truth, and nothing in the value shows it. Read it beside `crossfit_nce`, where
    that one is near its cap.

    Attributes: those of `CrossfitNCE`.
    """

    n_folds: int = 5
    n_samples: int = 8_000
    n_steps: int = 600
    batch_size: int = 256
    learning_rate: float = 2e-3

    name = "infonce_anchor"
    headline = "held_out"
    labels = ("held_out",)
    is_sample_based = True

    def __post_init__(self) -> None:
        CrossfitNCE(**asdict(self))  # which knows what settings are possible

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Everything in the constructor."""
        return asdict(self)

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Estimate; the standard error is that of the mean over held-out pairs, widened as for `CrossfitNCE`.

        Raises:
            Refusal: as `CrossfitNCE` does.
        """
        started = time.perf_counter()
        fitted = self.fit(pairs, rng)
        ceiling = exact_information(pairs)
        return MutualInformation(
            readings={self.headline: mean_log_ratio(fitted, pairs)},
            headline=self.headline,
            direction="none",
            ceiling_nats=ceiling,
            cap_nats=ceiling,
            n_samples=len(fitted.rows),
            d_model=pairs.outputs.shape[1],
            seconds=time.perf_counter() - started,
        )

    def fit(self, pairs: Pairs, rng: np.random.Generator) -> CrossFitted:
        """The critics of every fold; raises as `estimate` does."""
        return CrossfitNCE(**asdict(self)).fit(pairs, rng, anchor_loss)


def mean_log_ratio(fitted: CrossFitted, pairs: Pairs) -> Reading:
    """The weighted mean of the held-out joint pairs' scores, with its standard error."""
    folds = range(len(fitted.folds))
    scores = torch.cat([fitted.held_out_scores(fold, pairs).diagonal() for fold in folds]).double().cpu().numpy()
    weights = np.concatenate([fitted.weights[fold.held_out] for fold in fitted.folds])
    value = float(weights @ scores)
    return Reading(value_nats=value, standard_error_nats=held_out_error(fitted, pairs, scores - value))


def anchor_loss(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """InfoNCE with one more class, "none of these is the partner", which fixes the constant that InfoNCE leaves free.

    Source: InfoNCE-anchor, arXiv 2510.25983; here in both directions of each batch.
    """
    n = scores.shape[-1]
    anchor = torch.tensor(math.log(n), device=scores.device)
    own = scores.diagonal(dim1=-2, dim2=-1)
    others = scores.masked_fill(torch.eye(n, dtype=torch.bool, device=scores.device), -math.inf)
    is_uniform = bool(weights.min() == weights.max())
    shares = (n * weights).log()  # a row is met as another's partner as often as it weighs
    total = torch.zeros_like(own)
    for axis, share in ((-1, shares), (-2, shares[:, None])):
        met = others if is_uniform else others + share
        without_partner = torch.logaddexp(met.logsumexp(dim=axis), anchor)
        with_partner = torch.logaddexp(without_partner, own)
        total = total + (with_partner - own) + (without_partner - anchor)
    return total @ weights / 2
