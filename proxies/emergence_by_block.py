"""Emergence of every block, from the two terms that a record keeps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.records import Measurement, as_array


def by_block(measurement: Measurement, position: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Emergence of every block at one position in bits, and its standard errors; NaN where a cell was refused.

    Equal to a column of `bench.summary.emergence_of`.
    """
    macro, micro = measurement.macro[measurement.headline], measurement.micro[measurement.headline]
    columns = measurement.micro_of_position[: position + 1]
    shares = np.bincount(columns) / len(columns)
    used = np.flatnonzero(shares)
    micro_values, micro_errors = (as_array(part)[:, used] for part in (micro.values_bits, micro.errors_bits))
    values = as_array(macro.values_bits)[:, position] - micro_values @ shares[used]
    variances = np.square(as_array(macro.errors_bits)[:, position]) + np.square(micro_errors) @ np.square(shares[used])
    return values, np.sqrt(variances)


def by_position(measurement: Measurement) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Emergence of every block and position in bits, and what it can be at most; NaN where a cell was refused.

    Shapes (n_blocks, n_positions). Equal to `bench.summary.emergence_of` and `bench.summary.ceiling_of`.
    """
    n_positions = len(measurement.micro_of_position)
    values = np.column_stack([by_block(measurement, position)[0] for position in range(n_positions)])
    macro = as_array(measurement.macro[measurement.headline].values_bits)
    return values, as_array(measurement.macro_ceiling_bits) - (macro - values)
