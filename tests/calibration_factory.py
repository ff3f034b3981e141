"""Small valid calibration results: single rows to vary, and a set with which every bar holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.calibration.results import (
    CaseKey,
    CaseResult,
    CostKey,
    CostResult,
    CostRow,
    CoverageKey,
    CoverageResult,
)
from bench.records import METHOD_VERSION, Bits, Provenance

HEADLINES = {"exact": "exact", "noisy_channel": "s=0.16", "gaussian": "gaussian", "crossfit_nce": "held_out"}
LOW_RANK = "low-rank-gaussian-256d-5bit"
SHUFFLED, SHUFFLED_CODES = f"{LOW_RANK}-shuffled", "list-codes-16p4-768d-shuffled"
HEAVY_TAILS, UNIFORM_NOISE = "low-rank-student3df-64d", "low-rank-uniform-noise-64d"
HOSTILE = (
    "evil|`x`\n# <script>alert(1)</script> [a](http://b.c) $\\frac{ *b* _c_ www.d.e &#177; \u202e\u00e9\u4e2d :smile:"
)

PROVENANCE = Provenance(
    date="2026-01-02T03:04:05+00:00", command="bench calibrate", commit=None, versions={"bench": "0"}, n_threads=2,
    device="cpu", seconds=3.0,
)  # fmt: skip


def bits(value: float, error: float = 0.0) -> Bits:
    return Bits(value_bits=value, error_bits=error)


def make_case(
    estimator: str, case: str, readings: Mapping[str, Bits] | None = None, *, truth: float = 0.0, estimate: float = 0.0,
    error: float = 0.02, family: Any = "low rank", d_model: int = 256, n_samples: int = 8_000,
    refusal: str | None = None, settings: Mapping[str, Any] | None = None, seed: int = 0, **fields: Any,
) -> CaseResult:  # fmt: skip
    """One row; without `readings` the headline is `estimate` with standard error `error`."""
    headline = HEADLINES.get(estimator, "held_out")
    if refusal is not None:
        readings = {}
    common: dict[str, Any] = {
        "schema_version": 1,
        "key": CaseKey(
            schema_version=1, method_version=METHOD_VERSION, case=case, estimator=estimator,
            settings=dict(settings or {}), n_samples=n_samples, seed=seed, weights_sha256=None,
        ),
        "family": family, "description": f"the case {case}", "is_shuffled": False, "d_model": d_model,
        "n_samples": n_samples, "truth": bits(truth), "truth_at_bits": {},
        "readings": {headline: bits(estimate, error)} if readings is None else dict(readings), "headline": headline,
        "direction": "none", "ceiling_bits": None if refusal else 12.9658, "cap_bits": None if refusal else 12.9658,
        "refusal": refusal, "seconds": 1.5, "provenance": PROVENANCE,
    }  # fmt: skip
    return CaseResult(**(common | fields))


def codes_case(estimator: str, case: str, entropy: float, *readings: float, error: float = 0.01, **fields: Any) -> Any:
    """An enumerated population; of `noisy_channel` with readings at s = 0.01, 0.16 and 0.64, or those given."""
    if estimator != "noisy_channel":
        known = fields.pop("estimate", entropy)
        return make_case(
            estimator, case, truth=entropy, estimate=known, error=0.0 if estimator == "exact" else error,
            family="codes", d_model=768, **({"ceiling_bits": entropy, "cap_bits": entropy} | fields),
        )  # fmt: skip
    values = readings or (entropy, 0.7 * entropy, 0.2 * entropy)
    labels = ("s=0.64", "s=0.01", "s=0.16")  # in no order, as a file may have them
    found = {labels[(index + 1) % 3]: bits(value, error) for index, value in enumerate(values)}
    return make_case(
        estimator, case, found, truth=entropy, family="codes", d_model=768,
        **({"ceiling_bits": entropy, "cap_bits": entropy} | fields),
    )  # fmt: skip


def cube(*readings: float, truths: tuple[float, ...] = (8.0, 6.0, 1.0), error: float = 0.01, **fields: Any) -> Any:
    """The hypercube, whose truth is known at s = 0.01, 0.16 and 0.64."""
    known = dict(zip(("s=0.01", "s=0.16", "s=0.64"), truths, strict=True))
    return codes_case(
        "noisy_channel", "hypercube-8bit-768d", 8.0, *(readings or truths), error=error,
        **({"truth_at_bits": known} | fields),
    )  # fmt: skip


def paper_case(
    case: str = LOW_RANK, *, truth: float = 5.0, held_out: float = 3.0, train_max: float = 9.0, **fields: Any
) -> CaseResult:
    readings = {"held_out": bits(held_out, 0.05), "train_max": bits(train_max, 0.04), "last_epoch": bits(8.5, 0.04)}
    return make_case("mine_paper", case, readings, truth=truth, settings={"n_epochs": 300}, **fields)


def make_coverage(
    estimator: str = "gaussian", case: str = "dense-gaussian-8d-2bit", n_covered: int = 90, *, n_seeds: int = 100,
    reading: str | None = None, target: str = "the truth", n_covered_mean: int | None = None,
    n_truth: int | None = None,
) -> CoverageResult:  # fmt: skip
    """Of `n_truth` seeds, unless given as many as are covered, the interval holds the truth."""
    n_truth = n_covered if n_truth is None else n_truth
    return CoverageResult(
        schema_version=1,
        key=CoverageKey(
            schema_version=1, method_version=METHOD_VERSION, case=case, estimator=estimator, settings={},
            n_samples=2_000, n_seeds=n_seeds, seed=0,
        ),
        reading=reading or HEADLINES.get(estimator, "held_out"), target=target, truth=bits(2.0),
        values_bits=(2.0,) * n_truth + (3.0,) * (n_seeds - n_truth), errors_bits=(0.1,) * n_seeds,
        targets_bits=(2.0,) * n_seeds,
        n_covered=n_covered, n_covered_mean=n_covered if n_covered_mean is None else n_covered_mean, seconds=10.0,
        provenance=PROVENANCE,
    )  # fmt: skip


def make_cost(noisy: float = 9.0, crossfit: float = 20.0, paper: float = 50_000.0, *, d_model: int = 768) -> CostResult:
    """Whole estimates that take so many seconds."""

    def row(estimator: str, reading: str, seconds: float, full: float, value: float) -> CostRow:
        return CostRow(
            estimator=estimator, reading=reading, seconds=seconds, full_seconds=full, value=bits(value, 0.02),
            error_bits=value - 15.4,
        )  # fmt: skip

    return CostResult(
        schema_version=1,
        key=CostKey(
            schema_version=1, method_version=METHOD_VERSION, case="tiny-middle-block", weights_sha256="w" * 64,
            d_model=d_model, n_rows=30_000, n_epochs=10, seed=0,
            estimators={"mine_paper": {"n_epochs": 10}, "noisy_channel": {}},
        ),
        description="states of a middle block", exact_bits=15.4, paper_epochs=10_000, paper_rows=300_000,
        rows=(
            row("noisy_channel", "s=0.16", noisy, noisy, 12.0),
            row("mine_paper", "train_max", paper / 1_000, paper, 0.5),
            row("mine_paper", "held_out", paper / 1_000, paper, 0.4),
            row("crossfit_nce", "held_out", crossfit, crossfit, 10.0),
        ),
        provenance=PROVENANCE,
    )  # fmt: skip


CODES = {"list-codes-25p1-768d": 4.644, "list-codes-16p4-768d": 15.415, "list-codes-25p4-768d": 18.212}


def good_cases() -> list[CaseResult]:
    """Cases with which every bar on cases holds."""
    found: list[CaseResult] = [cube(), paper_case(), *_shuffled_cases()]
    for name, entropy in CODES.items():
        found += [codes_case("exact", name, entropy), codes_case("noisy_channel", name, entropy)]
        found.append(codes_case("gaussian", name, entropy, refusal="a canonical correlation of 1 is above 0.999"))
    for width in (16, 32):
        found.append(codes_case("gaussian", f"list-codes-16p4-{width}d", 15.415, refusal="outputs are determined"))
    for truth in (0.0, 0.5, 2.0, 5.0, 10.0):
        name = f"dense-gaussian-256d-{truth:g}bit"
        found.append(make_case("gaussian", name, truth=truth, estimate=truth + 0.05, error=0.06, family="dense"))
        found.append(make_case("crossfit_nce", name, truth=truth, estimate=0.02, family="dense"))
        for width in (64, 256, 768, 2_048):
            name = f"low-rank-gaussian-{width}d-{truth:g}bit"
            found.append(make_case("crossfit_nce", name, truth=truth, estimate=0.96 * truth + 0.01, d_model=width))
    for name, family in ((HEAVY_TAILS, "heavy tails"), (UNIFORM_NOISE, "uniform noise")):
        found.append(make_case("crossfit_nce", name, truth=2.0, estimate=1.9, family=family))
    for bend in ("half-cube", "spiral"):
        case = f"low-rank-gaussian-{bend}-256d-5bit"
        found.append(make_case("crossfit_nce", case, truth=5, estimate=4.3, family="transformed"))
    return found


def _shuffled_cases() -> list[CaseResult]:
    """Broken pairs for every estimator."""
    entropy, known = CODES["list-codes-16p4-768d"], {"is_shuffled": True}
    caps = {"ceiling_bits": entropy, "cap_bits": entropy}
    return [
        codes_case("exact", SHUFFLED_CODES, 0.0, **known, **caps),
        codes_case("noisy_channel", SHUFFLED_CODES, 0.0, 0.02, 0.01, -0.02, **known, **caps),
        *(
            make_case(estimator, SHUFFLED, estimate=-0.01, **known)
            for estimator in ("crossfit_nce", "infonce_anchor", "gaussian")
        ),
        paper_case(SHUFFLED, truth=0.0, held_out=0.1, train_max=6.0, **known),
    ]


def good_coverage() -> list[CoverageResult]:
    return [
        make_coverage(estimator, f"sampler-{index}")
        for estimator in ("noisy_channel", "crossfit_nce", "infonce_anchor", "gaussian", "mine_paper")
        for index in range(3)
    ]


def hostile() -> tuple[list[CaseResult], list[CoverageResult], list[CostResult]]:
    """Results with markup wherever a text may stand."""
    cases = [
        make_case(
            "gaussian", HOSTILE, {"train_max": bits(1.0), HOSTILE: bits(2.0)}, headline=HOSTILE, description=HOSTILE,
            family="dense", settings={HOSTILE: HOSTILE},
        ),
        make_case(HOSTILE, HOSTILE, refusal=HOSTILE, description=HOSTILE),
    ]  # fmt: skip
    coverage = [
        make_coverage(estimator, HOSTILE, target=HOSTILE, reading=HOSTILE) for estimator in ("gaussian", HOSTILE)
    ]
    return cases, coverage, [make_cost().model_copy(update={"description": HOSTILE})]
