"""From the records to the estimated emergence of a model that gives no activations."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.errors import UsageError
from bench.progress import Progress
from bench.store import Store
from proxies.fits import Estimate, estimate_emergence
from proxies.fitting import ALL_MODELS, FitRequest, RefusedFit, fit_one, problem_of
from proxies.regression import PERFORMANCE, only, original_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """An estimate beside what was measured, where the model is one that can be measured too."""

    estimate: Estimate
    measured_bits: float | None
    verdict: str
    """Of the fit behind it."""
    fit: str
    """Where the record of the fit lies."""

    def as_data(self) -> dict[str, object]:
        """For machines."""
        estimate = self.estimate
        return {
            "model": estimate.model,
            "estimate_bits": estimate.value_bits,
            "intervals": {level: between.model_dump() for level, between in estimate.intervals.items()},
            "measured_bits": self.measured_bits,
            "inputs": estimate.inputs,
            "trained_on": list(estimate.trained_on),
            "left_out": list(estimate.left_out),
            "held_out_error_bits": estimate.errors.mean_absolute_error,
            "verdict": self.verdict,
            "fit": self.fit,
        }


def estimate_from_performance(request: FitRequest, model: str, *, family: str | None, progress: Progress) -> Estimated:
    """Estimate from the answers of a model, by a fit over the other families.

    Args:
        family: held out; None: that of the measured models of the same name, if there are any.

    Raises:
        UsageError: it was not asked what the fit is on; too few open models; no such family.
    """
    progress.plan(1)
    progress.stage("emergence from performance")
    outcome = fit_one(request, "emergence", ALL_MODELS, Store(request.results))
    progress.block("emergence from performance")
    if isinstance(outcome, RefusedFit):
        raise UsageError(outcome.reason)
    problem, frame = problem_of(request, "emergence", ALL_MODELS), request.frame.frame
    rows = problem.frame
    known = rows[rows["model"].map(original_of) == original_of(model)]
    if family is None and len(known):
        family = str(known["family"].iloc[0])
    if family is not None and family not in set(rows["family"]):
        raise UsageError(f"no family '{family[:80]}' was measured; there are {', '.join(sorted(set(rows['family'])))}")
    errors = next(one for one in outcome.record.errors if one.name == PERFORMANCE)
    answers = only(frame, model, request.mode, served=True)
    comparison = next(one for one in outcome.record.comparisons if one.predictor == PERFORMANCE)
    return Estimated(
        estimate=estimate_emergence(problem, errors, answers, model=model, family=family),
        measured_bits=_measured(rows, model),
        verdict=comparison.verdict,
        fit=str(outcome.path),
    )


def _measured(rows: pd.DataFrame, model: str) -> float | None:
    own = rows[rows["model"] == model]
    return None if own.empty else round(float(own["emergence"].iloc[0]), 6)
