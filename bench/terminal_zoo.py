"""What of the model zoo is missing, as a person sees it in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.terminal import new_table
from bench.zoo import JobPlan, ZooPlan, tasks_shown


def zoo_tables(plan: ZooPlan) -> list[RenderableType]:
    """The jobs that lack something, and the totals under them."""
    shown = [part for part in plan.jobs if part.missing or part.problem is not None]
    parts: list[RenderableType] = []
    if shown:
        n_complete = len(plan.jobs) - len(shown)
        table = new_table("What is missing", caption=f"{n_complete} further jobs lack nothing." if n_complete else None)
        table.add_column("model", overflow="fold")
        for column in ("kind", "method"):
            table.add_column(column)
        table.add_column("seed", justify="right")
        table.add_column("tasks", overflow="fold")
        for column in ("missing", "time"):
            table.add_column(column, justify="right")
        for part in shown:
            job = part.job
            table.add_row(
                printable(job.model),
                job.kind,
                job.method,
                str(job.seed),
                tasks_shown(part.missing or job.tasks),
                f"{len(part.missing)} of {part.n_records}" if part.problem is None else "cannot tell",
                _time_of(part),
            )
        parts.append(table)
    return [*parts, *(Text(printable(line)) for line in _totals(plan))]


def duration(seconds: float) -> str:
    """A length of time as one says it: "1 h 20 min", "12 min", "40 s"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _time_of(part: JobPlan) -> str:
    if part.problem is not None or part.n_untimed == len(part.missing):
        return "?"
    return duration(part.seconds) + (" + ?" if part.n_untimed else "")


def _totals(plan: ZooPlan) -> Iterator[str]:
    if plan.n_missing:
        yield f"{plan.n_missing} of {plan.n_records} records are missing, {_time_of_all(plan)}"
    elif not plan.jobs:
        yield "this lane has no jobs"
    elif not plan.n_unknown:
        yield f"nothing is missing: all {plan.n_records} records are there"
    if plan.n_unknown:
        yield f"of {plan.n_unknown} records it cannot be told whether they are there:"
        for model, problem in dict((part.job.model, part.problem) for part in plan.jobs if part.problem).items():
            yield f"  {model}: {problem}"
    reasons = dict.fromkeys((part.job.model, reason) for part in plan.jobs for _, reason in part.left_out)
    for model, reason in reasons:
        yield f"left out: {model}: {reason}"


def _time_of_all(plan: ZooPlan) -> str:
    if plan.n_untimed == plan.n_missing:
        return "time unknown: no record here is like them"
    untimed = f", and {plan.n_untimed} more of which no record here is like them" if plan.n_untimed else ""
    n_like = plan.n_missing - plan.n_untimed - plan.n_counted
    told = ["from the seconds in the records that are there"] if n_like else []
    told += [f"{plan.n_counted} of them as `bench plan` does" if n_like else "as `bench plan` does"] * bool(
        plan.n_counted
    )
    return f"about {duration(plan.seconds)} on this machine (estimated {' and '.join(told)})" + (
        untimed and f"{untimed}, time unknown"
    )
