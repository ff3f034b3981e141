"""The frame of cells as a file, for other programs and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.escape import printable
from proxies.features import COLUMNS, as_frame

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins like this is a formula to a spreadsheet; it gets an apostrophe in front, as spreadsheets do it."""


def as_csv(frame: pd.DataFrame, text_columns: Sequence[str] | None = None) -> bytes:
    """Bytes of a CSV file, UTF-8, numbers with all their digits, empty where there is none.

    Args:
        text_columns: those that hold text; None for a frame of cells.
    """
    safe = frame.copy()
    for name in _text_columns() if text_columns is None else text_columns:
        safe[name] = [f"'{text}" if text.startswith(_FORMULA) else text for text in map(printable, safe[name])]
    return bytes(safe.to_csv(index=False, lineterminator="\n").encode())


def as_parquet(frame: pd.DataFrame) -> bytes:
    """Bytes of a Parquet file.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        return bytes(frame.to_parquet(index=False))
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: `pip install pyarrow`, or write CSV") from error


def read_cells(path: Path) -> pd.DataFrame:
    """A frame that `bench features` has written.

    Raises:
        UsageError: it cannot be read, lacks a column, or holds what is no number.
    """
    try:
        frame = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype=dict.fromkeys(_text_columns(), str), keep_default_na=False, na_values=[""])
        )
    except Exception as error:  # a damaged Parquet file makes its reader raise almost anything, KeyError included
        raise UsageError(
            f"cannot read {path}: {printable(str(error))[:200]}; write it with `bench features --csv`"
        ) from error
    names = {column.name for column in COLUMNS}
    lacking, unknown = sorted(names - set(frame.columns)), sorted(set(map(str, frame.columns)) - names)
    if lacking or unknown:
        what = (
            f"lacks the columns {', '.join(lacking)}"
            if lacking
            else f"has the columns {printable(', '.join(unknown))[:200]}, which mean nothing here"
        )
        raise UsageError(f"{path} {what}; write it with `bench features`")
    for column in COLUMNS:
        if column.name in _text_columns():
            frame[column.name] = frame[column.name].astype(object)
            continue
        try:
            frame[column.name] = frame[column.name].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: column {column.name}: {printable(str(error))[:200]}; numbers or nothing are expected"
            ) from error
        endless = np.isinf(frame[column.name].to_numpy())
        if endless.any():
            raise UsageError(
                f"{path}: column {column.name}, row {int(np.argmax(endless)) + 1} is infinite; a number is expected"
            )
    found = as_frame(frame)
    _refuse_impossible(found, path)
    return found


_BOUNDS = {
    "n_parameters": (1, 1e18), "n_bits": (1, 64), "n_blocks": (1, 1e9), "n_shots": (0, 1e9), "n_seeds": (1, 1e9),
    "n_answered": (1, 1e18), "accuracy": (0, 1), "chance": (0, 1), "repeats": (0, 1),
}  # fmt: skip
_NEEDED = ("model", "task", "n_shots")
_LARGEST = 1e9
"""The largest number of a record, whatever its unit."""
_LONGEST = 300
"""Characters of a name in a record."""


def _refuse_impossible(frame: pd.DataFrame, path: Path) -> None:
    """Numbers that no record can hold, and rows without a key."""
    for column in COLUMNS:
        values = frame[column.name]
        if column.name in _text_columns():
            wrong = values.str.len() > _LONGEST
            expected = f"at most {_LONGEST} characters are expected"
        else:
            low, high = _BOUNDS.get(column.name, (-_LARGEST, _LARGEST))
            wrong = (values < low) | (values > high)
            expected = f"a number from {low:g} to {high:g} is expected"
            if column.name == "n_shots":
                wrong |= values % 1 > 0
        if column.name in _NEEDED:
            wrong |= values.isna() | (values == "")
            expected += ", in every row"
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UsageError(
                f"{path}: column {column.name}, row {row + 1} has {printable(str(values[row]))[:60]!r}; {expected}"
            )


def _text_columns() -> list[str]:
    return [column.name for column in COLUMNS if column.unit in ("name", "hex")]
