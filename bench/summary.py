"""What a record says in a few lines: emergence by shots, averaged over blocks, beside its ceiling and its controls.

Inside, a refused cell and everything that needs it is NaN; in a `ShotSummary` it is None.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.emergence import Estimates, emergence, mean_micro
from bench.records import Bits, Condition, Grid, Matrix, Measurement, ShotSummary, as_array, is_saturated, rounded


def emergence_of(measurement: Measurement, label: str | None = None) -> Estimates:
    """Emergence of every (block, position) in bits, from one reading (None: the headline)."""
    label = label or measurement.headline
    return emergence(
        _estimates(measurement.macro[label]),
        _estimates(measurement.micro[label]),
        np.array(measurement.micro_of_position),
    )


def ceiling_of(measurement: Measurement) -> Estimates:
    """What emergence can be at most at each (block, position) in bits: the exact macro term minus the measured micro.

    Not the exact emergence: a micro term that loses information to the noise raises the difference above it.
    """
    macro, micro = _exact(measurement.macro_ceiling_bits), _estimates(measurement.micro[measurement.headline])
    return emergence(macro, micro, np.array(measurement.micro_of_position))


def exact_of(measurement: Measurement) -> Estimates:
    """Exact emergence of every (block, position) in bits, both terms counted on distinct rows."""
    macro, micro = _exact(measurement.macro_ceiling_bits), _exact(measurement.micro_ceiling_bits)
    return emergence(macro, micro, np.array(measurement.micro_of_position))


def summarise(
    measurements: Mapping[Condition, Measurement], *, n_shots: int, demonstration_length: int
) -> tuple[ShotSummary, ...]:
    """One summary for each number of shots, at the position that closes the last demonstration."""
    trained = measurements["trained"]
    curves = {
        label: {name: emergence_of(measurement, label).mean_over_blocks() for name, measurement in measurements.items()}
        for label in trained.macro
    }
    means, field = curves[trained.headline], emergence_of(trained)
    ceilings, exact = (bound.values.mean(axis=0) for bound in (ceiling_of(trained), exact_of(trained)))
    macro_ceilings = as_array(trained.macro_ceiling_bits)
    macro, micro = _estimates(trained.macro[trained.headline]), _estimates(trained.micro[trained.headline])
    saturated = is_saturated(macro.values, as_array(trained.macro_cap_bits)).sum(axis=0)
    micro_term = mean_micro(micro, np.array(trained.micro_of_position)).mean_over_blocks()
    macro_term = macro.mean_over_blocks()
    assert trained.shuffled is not None, "the trained condition is always measured with its pairs broken too"
    shuffled = _estimates(trained.shuffled).mean_over_blocks()
    rows = []
    for shots in range(1, n_shots + 1):
        at = shots * demonstration_length - 1
        peak = None if np.isnan(field.values[:, at]).any() else int(field.values[:, at].argmax())
        rows.append(
            ShotSummary(
                n_shots=shots,
                position=at,
                refused_cells=trained.n_refused(at),
                emergence=_bits(means["trained"], at),
                macro=_bits(macro_term, at),
                micro=_bits(micro_term, at),
                ceiling_bits=None if np.isnan(ceilings[at]) else rounded(ceilings[at]),
                exact_bits=rounded(exact[at]),
                macro_ceiling_bits=rounded(macro_ceilings[:, at].max()),
                peak_block=peak,
                peak=None if peak is None else _bits(field, (peak, at)),
                excess_over_twin=_bits(means["trained"] - means["untrained_twin"], at),
                excess_over_random_words=_bits(means["trained"] - means["random_words"], at),
                shuffled=_bits(shuffled, at),
                saturated_blocks=int(saturated[at]),
                curve={
                    label: {name: _bits(mean, at) for name, mean in by_condition.items()}
                    for label, by_condition in curves.items()
                },
            )
        )
    return tuple(rows)


def _estimates(grid: Grid) -> Estimates:
    return Estimates(values=as_array(grid.values_bits), errors=as_array(grid.errors_bits))


def _exact(matrix: Matrix) -> Estimates:
    values = as_array(matrix)
    return Estimates(values=values, errors=np.zeros_like(values))


def _bits(field: Estimates, at: int | tuple[int, int]) -> Bits | None:
    if np.isnan(field.values[at]):
        return None
    return Bits(value_bits=rounded(field.values[at]), error_bits=rounded(field.errors[at]))
