"""Small valid records of the text probe with planted numbers, for everything that reads them."""

from __future__ import annotations

from typing import Any

from bench.probe_records import (
    PROBE_METHOD_VERSION,
    PROBE_SCHEMA_VERSION,
    Comparison,
    Interval,
    Perplexity,
    ProbeKey,
    ProbeRecord,
    Terms,
    TextInfo,
)
from bench.records import ModelInfo, Provenance

N_GROUPS, WINDOW, CAP = 2, 3, 6.0
NOTHING = (0.0, 0.1)


def interval(value: float, half_width: float) -> Interval:
    return Interval(value=value, low=value - half_width, high=value + half_width)


def make_terms(emergence: float, *, is_saturated: bool) -> Terms:
    macro = CAP if is_saturated else CAP - 1
    return Terms(
        emergence_bits=(emergence,) * N_GROUPS,
        macro_bits=(macro,) * N_GROUPS,
        micro_bits=(macro - emergence,) * N_GROUPS,
        cap_bits=(CAP,) * N_GROUPS,
        by_token_bits=(0.0, 0.5, emergence),
        n_saturated=N_GROUPS if is_saturated else 0,
        n_cells=N_GROUPS,
    )


def make_comparison(
    n_windows: int = 200, *, emergence: tuple[float, float] = NOTHING, counted: tuple[float, float] = NOTHING,
    bag: tuple[float, float] = (0.5, 0.1), perplexity: tuple[float, float] = NOTHING, is_saturated: bool = False,
) -> Comparison:  # fmt: skip
    """Every kind of evidence as (value, half the width of its interval); without difference where none is given."""
    return Comparison(
        n_windows=n_windows,
        text=make_terms(2.0 + emergence[0], is_saturated=is_saturated),
        reference=make_terms(2.0, is_saturated=is_saturated),
        difference_bits=interval(*emergence),
        curve_bits={"s=0.32": interval(*emergence)},
        counted_bits=interval(*counted),
        bag_of_tokens=interval(*bag),
        perplexity=Perplexity(
            text_bits=5.0 + perplexity[0],
            reference_bits=5.0,
            difference_bits=interval(*perplexity),
            auc=interval(0.5 - perplexity[0] / 10, 0.05),
        ),
    )


def make_probe(
    writer: str | None = "tiny", *, proxy: str = "reader", comparisons: tuple[Comparison, ...] | None = None,
    control: Comparison | None = None, text: str | None = None, **key_changes: Any,
) -> ProbeRecord:  # fmt: skip
    """A record of one text; what is not given shows no difference."""
    comparisons = (make_comparison(),) if comparisons is None else comparisons
    name = f"text:{writer}" if text is None else text
    key: dict[str, Any] = {
        "schema_version": PROBE_SCHEMA_VERSION, "method_version": PROBE_METHOD_VERSION, "model": proxy,
        "revision": "main", "files_sha256": "p" * 64, "dtype": "float32", "bos": None, "text": name,
        "text_sha256": f"sha of {name}", "writer": writer, "reference": "text:people", "reference_sha256": "r" * 64,
        "reference_writer": "people", "window": WINDOW, "sizes": tuple(one.n_windows for one in comparisons),
        "n_groups": N_GROUPS, "estimator": "noisy_channel", "settings": {"headline_scale": 0.32}, "seed": 0,
    }  # fmt: skip
    info = TextInfo(n_sentences=500, n_full=450, n_windows=440, n_dealt=430)
    return ProbeRecord(
        schema_version=PROBE_SCHEMA_VERSION,
        key=ProbeKey(**(key | key_changes)),
        model=ModelInfo(
            name=proxy, family="Tiny", variant="base", precision="float32", dtype="float32", revision="main",
            weights_sha256="p" * 64, source="a test", licence="MIT", n_parameters=1_234_567, n_blocks=3, d_model=16,
            initializer_range=0.02),
        text=info,
        reference=info,
        n_shared=0,
        comparisons=comparisons,
        control=control,
        provenance=Provenance(
            date="2026-01-02T03:04:05+00:00", command="bench probe", commit=None, versions={"bench": "0"},
            n_threads=1, device="cpu", seconds=3.0,
        ),
    )  # fmt: skip
