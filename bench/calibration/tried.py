"""Estimators that were tried beside `crossfit_nce` and are not offered, kept so that the reasons can be checked.

All but the last have the folds, critics and held-out rows of `crossfit_nce`. They differ in what the critics minimise,
and they read the information off as the mean of the learned log-ratio over held-out pairs: a plug-in, no bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from sklearn.neighbors import KDTree, NearestNeighbors

from bench.errors import EstimationError
from bench.estimators.critics import Loss, View
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import exact_information
from bench.estimators.infonce_anchor import mean_log_ratio
from bench.estimators.protocol import Estimator, MutualInformation, Pairs, Reading, refuse_constant_columns

N_NEIGHBOURS = 3
"""The k of Kraskov et al. 2004, within the range they advise."""


def classifier_loss(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logistic loss of telling joint pairs from all others, equally many of each: its minimum is the log-ratio.

    Source: probabilistic classifier of Tsai et al. 2020, arXiv 2006.05553, section 3.2.
    """
    joint = torch.nn.functional.softplus(-scores.diagonal(dim1=-2, dim2=-1)) @ weights
    return joint + _mean_of_others(torch.nn.functional.softplus(scores), weights)


def ratio_loss(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Least squares between exp f and the density ratio: E_product[r^2] / 2 - E_joint[r].

    Source: density-ratio fitting of Tsai et al. 2020, arXiv 2006.05553, section 3.2, after Sugiyama et al. 2012. The
    ratio is exp f, held below e^15 so that one pair cannot be infinite.
    """
    ratio = scores.clamp(max=15.0).exp()
    return _mean_of_others(ratio.square(), weights) / 2 - ratio.diagonal(dim1=-2, dim2=-1) @ weights


def _mean_of_others(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over all pairs of different rows under the product of the weights."""
    product = weights[:, None] * weights
    product = product - torch.diag(product.diagonal())
    return (values * (product / product.sum())).sum(dim=(-2, -1))


LOSSES: dict[str, Loss] = {
    "tried-classifier": classifier_loss,
    "tried-ratio-fitting": ratio_loss,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugIn:
    """The mean of a learned log-ratio over held-out pairs."""

    name: str
    crossfit: CrossfitNCE = field(default_factory=CrossfitNCE)

    headline = "held_out"
    labels = ("held_out",)
    is_sample_based = True

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise EstimationError(f"expected a name out of {', '.join(LOSSES)}, got {self.name!r}")

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Those of the cross-fitting."""
        return self.crossfit.settings

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """See `Estimator`."""
        started = time.perf_counter()
        fitted = self.crossfit.fit(pairs, rng, LOSSES[self.name])
        reading = mean_log_ratio(fitted, pairs)
        return _answer(self.headline, reading, pairs, started)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbourInformation:
    """Kraskov, Stoegbauer & Grassberger 2004 (first algorithm) on the leading principal components of each side.

    What is left of a latent-space estimator (arXiv 2409.02732) when its latent space is linear.
    """

    n_components: int = 8

    name = "tried-nearest-neighbours"
    headline = "ksg"
    labels = ("ksg",)
    is_sample_based = True

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """See the class."""
        return {"n_components": self.n_components, "n_neighbours": N_NEIGHBOURS}

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """See `Estimator`. The standard error is that of the mean of the local terms."""
        started = time.perf_counter()
        refuse_constant_columns(pairs)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        share = torch.full((pairs.n_samples,), 1 / pairs.n_samples)
        sides = []
        for rows in (pairs.inputs.cpu(), pairs.outputs.cpu()):
            view = View.fit(rows, share, generator)
            sides.append(((rows - view.mean) @ view.axes[:, : self.n_components]).double().numpy())
        both = NearestNeighbors(n_neighbors=N_NEIGHBOURS, metric="chebyshev").fit(np.hstack(sides))
        radius = np.nextafter(both.kneighbors()[0][:, -1], 0)
        counts = [
            KDTree(side, metric="chebyshev").query_radius(side, radius, count_only=True) for side in sides
        ]  # each point counts itself, which is the "+ 1" of the formula
        digamma = torch.special.digamma
        n, k = torch.tensor(float(pairs.n_samples)), torch.tensor(float(N_NEIGHBOURS))
        terms = digamma(k) + digamma(n) - sum(digamma(torch.from_numpy(count).double()) for count in counts)
        error = float(terms.std()) / math.sqrt(pairs.n_samples)
        reading = Reading(value_nats=float(terms.mean()), standard_error_nats=error)
        return _answer(self.headline, reading, pairs, started)


def _answer(headline: str, reading: Reading, pairs: Pairs, started: float) -> MutualInformation:
    ceiling = exact_information(pairs)
    return MutualInformation(
        readings={headline: reading},
        headline=headline,
        direction="none",
        ceiling_nats=ceiling,
        cap_nats=ceiling,
        n_samples=pairs.n_samples,
        d_model=pairs.outputs.shape[1],
        seconds=time.perf_counter() - started,
    )


TRIED: dict[str, Callable[[], Estimator]] = {
    **{name: partial(PlugIn, name=name) for name in LOSSES},
    NearestNeighbourInformation.name: NearestNeighbourInformation,
}
"""Every one by name."""
