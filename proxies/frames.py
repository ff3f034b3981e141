"""The frame of cells as a file, for other programs and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.escape import printable
from proxies.features import COLUMNS, as_frame

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins like this is a formula to a spreadsheet; it gets an apostrophe in front, as spreadsheets do it."""


def as_csv(frame: pd.DataFrame) -> bytes:
    """Bytes of a CSV file, UTF-8, numbers with all their digits, empty where there is none."""
    safe = frame.copy()
    for name in _text_columns():
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
        raise UsageError("Parquet needs pyarrow: `pip install pyarrow`, or use --csv") from error


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
    except (OSError, ValueError, ImportError) as error:
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
        except ValueError as error:
            raise UsageError(
                f"{path}: column {column.name}: {printable(str(error))[:200]}; numbers or nothing are expected"
            ) from error
        endless = np.isinf(frame[column.name].to_numpy())
        if endless.any():
            raise UsageError(
                f"{path}: column {column.name}, row {int(np.argmax(endless)) + 1} is infinite; a number is expected"
            )
    return as_frame(frame.to_dict("records"))


def _text_columns() -> list[str]:
    return [column.name for column in COLUMNS if column.unit in ("name", "hex")]
