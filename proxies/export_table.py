"""The leaderboard as a flat table: one row a model and setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from proxies.export_selection import BoardEntry, Selection
from proxies.frames import as_csv, as_parquet


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table: its unit, and what it says."""

    name: str
    unit: Literal["text", "count", "bits", "share", "yes or no"]
    what: str


COLUMNS = (
    TableColumn("rank", "count", "among models as published; empty for derived models, checkpoints, some estimates"),
    TableColumn("preset", "text", "size of the population that was measured"),
    TableColumn("estimator", "text", "of mutual information"),
    TableColumn("settings", "text", "of the estimator, as JSON; rows of other settings are not comparable"),
    TableColumn("model", "text", "its name"),
    TableColumn("family", "text", "of its publisher"),
    TableColumn("variant", "text", "base, instruct or unknown"),
    TableColumn("precision", "text", "of the stored weights"),
    TableColumn("dtype", "text", "of the arithmetic"),
    TableColumn("revision", "text", "of the weights: a commit, or a hash of the files"),
    TableColumn("weights_sha256", "text", "of the weights"),
    TableColumn("source", "text", "where the weights come from"),
    TableColumn("licence", "text", "of the weights"),
    TableColumn("n_parameters", "count", "tied weights once"),
    TableColumn("n_blocks", "count", "transformer blocks"),
    TableColumn("d_model", "count", "width of the hidden states"),
    TableColumn("bos", "yes or no", "whether a begin-of-sequence token stands before all inputs"),
    TableColumn("kind", "text", "measured, from the model's own activations; or estimated, by a fit over families"),
    TableColumn("emergence_bits", "bits", "mean over blocks and ranked tasks at the last shot"),
    TableColumn("emergence_half_width_bits", "bits", "half the 95 % interval of it; empty for estimates"),
    TableColumn("interval_80_low_bits", "bits", "lower end of the 80 % interval of an estimate"),
    TableColumn("interval_80_high_bits", "bits", "upper end of it; both empty where too few families allow none"),
    TableColumn("ceiling_bits", "bits", "what emergence can be at most"),
    TableColumn("over_twin_bits", "bits", "emergence minus that of the same architecture untrained"),
    TableColumn("over_twin_half_width_bits", "bits", "half the 95 % interval of it"),
    TableColumn("over_random_words_bits", "bits", "emergence minus that of the same model on lists of random words"),
    TableColumn("over_random_words_half_width_bits", "bits", "half the 95 % interval of it"),
    TableColumn("performance", "share", "accuracy minus chance of generated answers, mean over some tasks of pairs"),
    TableColumn("performance_low", "share", "lower end of the 95 % interval of it"),
    TableColumn("performance_high", "share", "upper end of it"),
    TableColumn("performance_mode", "text", "completion or chat: how the model was asked"),
    TableColumn("estimated_from", "text", "performance: from its answers; text: from text that it has written"),
    TableColumn("fit", "text", "the file of the fit behind an estimate, in the results folder"),
    TableColumn("held_out_error_bits", "bits", "mean absolute error of that fit on families that it had not seen"),
    TableColumn("baseline", "text", "what the fit does worst against"),
    TableColumn("baseline_error_bits", "bits", "held-out error of that baseline"),
    TableColumn("beats_baseline", "yes or no", "whether the fit is better than it"),
    TableColumn("verdict", "text", "of the fit, in words"),
    TableColumn("n_models", "count", "that the estimate is fitted on"),
    TableColumn("n_families", "count", "that they are of"),
    TableColumn("n_samples", "count", "lists that were measured, over tasks and seeds; of an estimate, answers"),
    TableColumn("n_seeds", "count", "seeds that the numbers are means over"),
    TableColumn("seeds", "text", "which ones, with blanks between"),
    TableColumn("date", "text", "of the latest record, UTC"),
    TableColumn("records", "text", "the files behind the row, in the results folder, with blanks between"),
)  # fmt: skip

_DTYPES = {"text": "object", "count": "Int64", "bits": "float64", "share": "float64", "yes or no": "boolean"}


def csv_file(selection: Selection) -> Iterator[tuple[str, bytes]]:
    """The table as CSV."""
    yield "", as_csv(table(selection), [column.name for column in COLUMNS if column.unit == "text"])


def parquet_file(selection: Selection) -> Iterator[tuple[str, bytes]]:
    """The table as Parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    yield "", as_parquet(table(selection))


def table(selection: Selection) -> pd.DataFrame:
    """One row a row of the leaderboard, in its order; columns and units as in `COLUMNS`."""
    rows = [_row(entry) for entry in selection.board]
    return pd.DataFrame(
        {
            column.name: pd.array([row.get(column.name) for row in rows], dtype=_DTYPES[column.unit])
            if column.unit != "text"
            else pd.Series([_text(row.get(column.name)) for row in rows], dtype="object")
            for column in COLUMNS
        }
    )


def _text(value: object) -> str:
    """As it is, but for half a character, which no file in UTF-8 can hold."""
    return str(value or "").encode("utf-8", "replace").decode()


def _row(entry: BoardEntry) -> dict[str, object]:
    row = entry.row
    seeds = tuple(row.get("seeds") or ())
    low, high = row.get("interval_80_bits") or (None, None)
    return {
        **{name: value for name, value in row.items() if name not in ("model", "source")},
        **row["model"],
        "interval_80_low_bits": low,
        "interval_80_high_bits": high,
        "estimated_from": row.get("source"),
        "model": row["model"]["name"],
        "settings": entry.settings,
        "n_seeds": len(seeds) or None,
        "seeds": " ".join(map(str, seeds)),
        "records": " ".join(row["records"]),
    }
