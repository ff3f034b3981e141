"""Estimated emergence and the ledger as a person sees them in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.estimates import EstimateRecord, Source
from bench.fits import Level
from bench.terminal import new_table
from proxies.ledger import Scored

FROM: dict[Source, str] = {
    "performance": "From performance alone, by a fit over open models that have both",
    "text": "From text alone, by a fit over open models whose emergence is measured and whose text was read",
}


def estimate_tables(record: EstimateRecord) -> list[RenderableType]:
    """The estimate beside what was measured, and how far such estimates are off."""
    table = new_table(
        f"Estimated emergence of {printable(record.key.model)}, from {record.key.source}",
        caption=f"{FROM[record.key.source]}, without the family held out. The "
        "intervals are jackknife+ over families: 80 % takes four of them, 90 % seven. held-out error: "
        "mean absolute error of the same fit on families that it had not seen.",
    )
    for column in (
        "estimate (bits)",
        "80 % interval",
        "90 % interval",
        "measured (bits)",
        "held-out error",
        "models fitted",
    ):
        table.add_column(column, justify="right")
    table.add_row(
        f"{record.value_bits:.2f}",
        _between(record, "80"),
        _between(record, "90"),
        "-" if record.measured_bits is None else f"{record.measured_bits:.2f}",
        "-" if record.error_bits is None else f"{record.error_bits:.2f}",
        str(len(record.trained_on)),
    )
    held_out = ", ".join(map(printable, record.left_out)) or "none: the model is of no family that was measured"
    lines = [f"held out: {held_out}", record.verdict]
    if not record.makes_use_of_inputs:
        lines.append("the fit says the same of every model, whatever its answers or its text: this is about their mean")
    return [table, *(Text(printable(line)) for line in lines)]


def _between(record: EstimateRecord, level: Level) -> str:
    between = record.intervals.get(level)
    return "none: too few" if between is None else f"{between.low:.2f} to {between.high:.2f}"


def ledger_tables(scored: Sequence[Scored]) -> list[RenderableType]:
    """Predictions beside what came of them."""
    table = new_table(
        "Predictions, written before the model was scored",
        caption="inside: whether the accuracy is in the 80 % interval. late: the answers came before the prediction.",
    )
    for column in ("date", "model", "task"):
        table.add_column(column, overflow="fold")
    for column in ("shots", "predicted", "80 % interval", "measured", "error", "inside"):
        table.add_column(column, justify="right")
    for one in scored:
        said = one.prediction
        table.add_row(
            one.entry.date[:10],
            printable(one.entry.model),
            printable(said.task),
            str(said.n_shots),
            f"{said.predicted:.2f}",
            "-" if said.low is None or said.high is None else f"{said.low:.2f} to {said.high:.2f}",
            "not yet" if one.accuracy is None else f"{one.accuracy:.2f}",
            "" if one.accuracy is None else f"{one.accuracy - said.predicted:+.2f}",
            "late" if not one.is_before else "" if one.is_inside is None else "yes" if one.is_inside else "no",
        )
    return [table, Text(summary(scored))]


def summary(scored: Sequence[Scored]) -> str:
    """How good the predictions were, of those written in time."""
    known = [(one, one.accuracy) for one in scored if one.accuracy is not None and one.is_before]
    late = sum(not one.is_before for one in scored)
    after = f"; {late} were written after the answers and do not count" if late else ""
    if not known:
        which = "none of those written in time is scored yet" if late else "none of them scored yet"
        return f"{len(scored)} predictions, {which}{after}"
    error = sum(abs(accuracy - one.prediction.predicted) for one, accuracy in known) / len(known)
    inside = [one.is_inside for one, _ in known if one.is_inside is not None]
    share = f", {sum(inside)} of {len(inside)} inside their 80 % interval" if inside else ""
    return f"{len(known)} of {len(scored)} predictions scored: mean absolute error {error:.3f}{share}{after}"
