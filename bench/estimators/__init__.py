"""Estimators of mutual information, one a file, chosen by name."""

from __future__ import annotations

from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import Exact
from bench.estimators.gaussian import Gaussian
from bench.estimators.infonce_anchor import InfonceAnchor
from bench.estimators.mine_paper import MinePaper
from bench.estimators.noisy_channel import NoisyChannel
from bench.estimators.protocol import Estimator, MutualInformation, Pairs, Reading, pair_up

__all__ = ["ESTIMATORS", "Estimator", "MutualInformation", "Pairs", "Reading", "pair_up"]

ESTIMATORS: dict[str, type[Estimator]] = {
    "exact": Exact,
    "noisy_channel": NoisyChannel,
    "crossfit_nce": CrossfitNCE,
    "infonce_anchor": InfonceAnchor,
    "mine_paper": MinePaper,
    "gaussian": Gaussian,
}
"""Every estimator by name. A new one is one file and one line here."""
