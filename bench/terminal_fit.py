"""Fits, estimates and the ledger as a person sees them in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.fits import FitRecord, Level, PredictorErrors
from bench.terminal import new_table


def fit_tables(record: FitRecord) -> list[RenderableType]:
    """Held-out errors beside those of the baselines, the verdicts in words, and what the features do."""
    held_out = "tasks" if record.fold_unit == "task" else "families"
    n_labels = len({row.fold for row in record.rows})
    in_parts = "" if record.n_folds == n_labels else f" in {record.n_folds} parts"
    table = new_table(
        f"{title(record)}: held-out errors in {record.unit}",
        caption=f"{rows_shown(record)}; {n_labels} {held_out}{in_parts}, each predicted by fits that have not seen it. "
        f"error: mean absolute, with its 95 % interval over {held_out} drawn anew (- where there are too few). "
        "covered: held-out rows inside their intervals.",
    )
    for column in ("predictor", "what it is"):
        table.add_column(column, overflow="fold")
    for column in ("rows", "error", "covered 80 %", "covered 90 %"):
        table.add_column(column, justify="right")
    for one in record.errors:
        table.add_row(
            printable(one.name),
            ROLES[one.role],
            str(one.n_rows),
            error_shown(one),
            _covered(one, "80"),
            _covered(one, "90"),
        )
    verdicts = [Text(printable(comparison.verdict)) for comparison in record.comparisons]
    if not record.comparisons:
        verdicts = [Text("Baselines only: nothing from emergence is on trial.")]
    remarks = [Text(printable(remark), style="dim") for remark in record.remarks]
    return [table, *verdicts, *_importances(record), *remarks]


ROLES = {"baseline": "baseline", "tested": "on trial", "both": "on trial, beside what is cheap"}


def title(record: FitRecord) -> str:
    """What a fit is about, in a few words."""
    key = record.key
    return printable(
        {
            "cells": f"{key.target} on tasks not seen",
            "models": "Performance of families not seen",
            "emergence": "Emergence of families not seen, from performance",
            "texts": f"Emergence of families not seen, from text read by {key.target}",
            "published": f"{key.target} of larger models, as published",
        }[key.problem]
    )


def rows_shown(record: FitRecord) -> str:
    """How many rows, and of what."""
    if record.key.problem == "cells":
        return f"{len(record.rows)} cells (task and shots); features are of {len(record.proxies)} other models"
    return f"{len(record.rows)} rows, {record.n_models} models of {len(record.families)} families"


def error_shown(one: PredictorErrors) -> str:
    """`error [low, high]`."""
    if one.mean_absolute_error is None:
        return "-"
    between = "[-]" if one.low is None or one.high is None else f"[{one.low:.3f}, {one.high:.3f}]"
    return f"{one.mean_absolute_error:.3f} {between}"


def _covered(one: PredictorErrors, level: Level) -> str:
    found = one.coverage.get(level)
    return "-" if found is None else f"{found.n_inside} of {found.n_rows}"


def _importances(record: FitRecord) -> list[RenderableType]:
    if not record.importances:
        return []
    table = new_table(
        "What the features do",
        caption="coefficient: for one standard deviation, mean over the refits and its range. error without: how much "
        "larger the held-out error is with the feature of another row in its place. survives: one sign in every refit "
        "and an error that grows without it by more than by chance.",
    )
    table.add_column("feature", overflow="fold")
    for column in ("coefficient", "range", "error without", "survives"):
        table.add_column(column, justify="right")
    for one in record.importances:
        table.add_row(
            printable(one.feature),
            f"{one.coefficient:+.2f}",
            f"{one.lowest:+.2f} to {one.highest:+.2f}",
            f"{one.error_increase:+.3f}",
            "yes" if one.survives else "no",
        )
    return [table]


def excluded_lines(record: FitRecord, most: int = 8) -> Sequence[str]:
    """What is in no row, and why; of many the first."""
    lines = [f"left out: {one.what}: {one.reason}" for one in record.excluded]
    if len(lines) > most:
        return [*lines[:most], f"and {len(lines) - most} more; the record has them all"]
    return lines
