"""What a run would cost, as a person sees it in the terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from bench.costs import ModelPlan, RunPlan
from bench.escape import printable
from bench.terminal import new_table
from bench.terminal_zoo import duration


def plan_tables(plan: RunPlan) -> list[RenderableType]:
    """A row for each model, the total, and where the time goes."""
    table = new_table(
        "What it would cost", caption=f"{plan.n_there} records are there already." if plan.n_there else ""
    )
    table.add_column("model", overflow="fold")
    columns = ("parameters", "records", "tokens", "forward FLOP", "estimator FLOP", "time", "memory", "disk")
    for column in columns:
        table.add_column(column, justify="right")
    for model in plan.models:
        table.add_row(
            printable(model.model),
            count(model.shape.n_parameters),
            str(len(model.records)),
            f"{model.n_tokens:,}",
            count(model.forward_flops),
            count(model.estimator_flops),
            told(model.seconds.total),
            size(model.memory.total) if model.records else "",
            size(model.disk.total),
        )
    if len(plan.models) > 1:
        table.add_row(
            "all, one after the other", "", str(plan.n_records), f"{sum(one.n_tokens for one in plan.models):,}",
            count(plan.forward_flops), count(plan.estimator_flops), told(plan.seconds), size(plan.memory_bytes),
            size(plan.disk_bytes), style="bold",
        )  # fmt: skip
    return [table, *(Text(printable(line)) for line in lines(plan))]


def lines(plan: RunPlan) -> list[str]:
    """What the table has no room for."""
    found = []
    for model in plan.models:
        if model.records:
            found += [f"{model.model}: {shares(model)}", f"{model.model}: {places(model)}"]
        if not model.has_weights:
            found.append(
                f"{model.model}: its weights are not here, so that every record counts as missing"
                + ("; what they take on disk is not known" if model.disk.weights is None else "")
            )
    rates = [rate for model in plan.models for rate in model.rates]
    if rates:
        found.append(
            f"rates timed on this machine in {sum(rate.seconds for rate in set(rates)):.1f} s: {plan.device}, "
            f"{rates[0].n_threads} threads, {plan.dtype}; time is what it takes when nothing else runs"
        )
    return found


def shares(model: ModelPlan) -> str:
    """Where the time goes."""
    terms = model.seconds
    estimates = "? (no cost model of this estimator)" if terms.estimates is None else duration(terms.estimates)
    return (
        f"forward {duration(terms.forward)}, estimates {estimates}, pairing {duration(terms.pairing)}, "
        f"weights {duration(terms.weights)}, records {duration(terms.records)}"
    )


def places(model: ModelPlan) -> str:
    """Where the bytes go."""
    memory, disk = model.memory, model.disk
    states = f"states {size(memory.states)}" if memory.states else f"states in a file of {size(disk.temporary)}"
    return (
        f"weights {size(memory.weights)}, {states}, rows of a position {size(memory.rows)}, tables "
        f"{size(memory.tables)}, libraries {size(memory.process)}; on disk records {size(disk.records)}"
    )


def told(seconds: float | None) -> str:
    """A length of time, or that it is not known."""
    if seconds is None:
        return "?"
    days = seconds / 86_400
    return duration(seconds) if days < 2 else f"{days:,.0f} days" if days < 730 else f"{days / 365.25:,.0f} years"


def count(number: float | None) -> str:
    """A large number in three digits and a letter."""
    if number is None:
        return "?"
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:.3g}"


def size(n_bytes: int | None) -> str:
    """Bytes as one says them."""
    if n_bytes is None:
        return "?"
    for power, letter in ((40, "TB"), (30, "GB"), (20, "MB"), (10, "kB")):
        if n_bytes >= 1 << power:
            return f"{n_bytes / (1 << power):.3g} {letter}"
    return f"{n_bytes} B"
