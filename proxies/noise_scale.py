"""Which noise scale to read: how often each one is saturated, from records. `python -m proxies.noise_scale [RESULTS]`.

A cell is one block (after block 0, whose information is known beforehand) at a position that closes a demonstration, in
one condition, on a ranked task. It is saturated when its macro term is within half a bit of its cap, the most that can
be said there: then it says "at least this much". The headline is the finest scale at which most cells are not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.records import as_array, is_saturated
from bench.store import Store, StoredRecord
from proxies.kinds import made_from_another
from tasks import RANKED_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRow:
    """One reading over all records: the share of saturated cells and the mean emergence by condition, in bits."""

    label: str
    saturated: float
    emergence_bits: dict[str, float]


def scale_rows(stored: Sequence[StoredRecord]) -> list[ScaleRow]:
    """One row a noise scale, over the ranked records of models as published with the curve that most of them have."""
    records = [
        item.record
        for item in stored
        if item.record.key.estimator == "noisy_channel"
        and item.record.key.task in RANKED_TASKS
        and made_from_another(item.record.model.name) is None
        and not any(measurement.refusals for measurement in item.record.measurements.values())
    ]
    if not records:
        return []
    curves = [tuple(record.measurements["trained"].macro) for record in records]
    labels = Counter(curves).most_common(1)[0][0]
    records = [record for record, curve in zip(records, curves, strict=True) if curve == labels]
    rows = []
    for label in labels:
        saturated: list[float] = []
        emergence: dict[str, list[float]] = {}
        for record in records:
            closing = [row.position for row in record.summary]
            for condition, measurement in record.measurements.items():
                macro = as_array(measurement.macro[label].values_bits)[1:, closing]
                cap = as_array(measurement.macro_cap_bits)[1:, closing]
                saturated += is_saturated(macro, cap).ravel().tolist()
                last = record.summary[-1].curve[label][condition]
                assert last is not None, "no cell of these records was refused"
                emergence.setdefault(condition, []).append(last.value_bits)
        means = {condition: float(np.mean(values)) for condition, values in emergence.items()}
        rows.append(ScaleRow(label=label, saturated=float(np.mean(saturated)), emergence_bits=means))
    return rows


def render(rows: Sequence[ScaleRow]) -> str:
    """The rows as a Markdown table."""
    conditions = list(rows[0].emergence_bits) if rows else []
    lines = ["| noise scale | saturated cells | " + " | ".join(c.replace("_", " ") for c in conditions) + " |"]
    lines.append("|---|---|" + "---|" * len(conditions))
    for row in rows:
        cells = " | ".join(f"{row.emergence_bits[condition]:.2f}" for condition in conditions)
        lines.append(f"| {row.label} | {row.saturated:.0%} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(scale_rows(Store(Path(sys.argv[1] if len(sys.argv) > 1 else "results")).records()[0])), end="")
