"""A small valid estimate, for everything that reads estimates."""

from __future__ import annotations

from typing import Any

from bench.estimates import ESTIMATE_SCHEMA, EstimateKey, EstimateRecord
from bench.fits import Between
from bench.records import Provenance


def make_estimate(model: str = "closed", **changes: Any) -> EstimateRecord:
    """6.5 bits, 5 to 8, by a fit that is worse than its baseline."""
    fields: dict[str, Any] = {
        "schema_version": ESTIMATE_SCHEMA,
        "key": EstimateKey(
            schema_version=ESTIMATE_SCHEMA, model=model, base_url="https://api.example/v1", files_sha256=None,
            source="performance", mode="completion", proxy=None,
            family=None, estimator="noisy_channel", seed=0, fit_sha256="f" * 64,
        ),
        "value_bits": 6.5, "spread_bits": 2.0, "intervals": {"80": Between(low=5.0, high=8.0)},
        "inputs": {"ability": 0.5},
        "tasks": (), "answers_sha256": None,
        "n_questions": 2000, "trained_on": ("a", "b", "c"), "left_out": (), "n_families": 2, "error_bits": 1.25,
        "baseline": "the mean", "baseline_error_bits": 1.0, "beats_baseline": False, "verdict": "no better",
        "measured_bits": None, "fit": "fits/emergence/x.json",
        "provenance": Provenance(
            date="2026-02-03T04:05:06+00:00", command="bench estimate", commit=None, versions={}, n_threads=1,
            device="cpu", seconds=1.0,
        ),
    }  # fmt: skip
    return EstimateRecord(**(fields | changes))
