"""Tasks as a person sees them in the terminal, and as data for machines."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table

from bench.escape import printable
from bench.terminal import new_table
from tasks.prompts import AlignedPool
from tasks.task import ListTask, PairTask, Task


def tasks_table(tasks: Iterable[Task]) -> Table:
    """All tasks."""
    table = new_table("Tasks; `bench tasks show NAME` has the items of one")
    for column in ("name", "kind", "version", "items", "example", "description"):
        table.add_column(column)
    for task in tasks:
        kind, n_items = _kind_and_size(task)
        table.add_row(task.name, kind, str(task.version), str(n_items), repr(task.example), task.description)
    return table


def task_as_data(task: Task) -> dict[str, object]:
    """A task for machines, the sentences of a text left out."""
    kind, n_items = _kind_and_size(task)
    content: dict[str, object] = {
        "name": task.name,
        "kind": kind,
        "version": task.version,
        "hash": task.content_hash,
        "description": task.description,
        "example": task.example,
        "n_items": n_items,
        "sources": list(task.sources),
        "licence": task.licence,
    }
    if isinstance(task, ListTask):
        content |= {"names": list(task.names), "n_members": len(task.members)}
    elif isinstance(task, PairTask):
        content |= {"pairs": {pair.query: list(pair.answers) for pair in task.pairs}}
    return content


def task_tables(task: Task, model: str | None, pool: AlignedPool | None) -> list[RenderableType]:
    """One task in full, with the items that a model's tokenizer keeps."""
    table = new_table(f"Task {task.name}", show_header=False)
    table.add_column("field", no_wrap=True)
    table.add_column("value")
    kind, n_items = _kind_and_size(task)
    rows = [
        ("kind", kind),
        ("version", str(task.version)),
        ("hash", task.content_hash),
        ("description", task.description),
        ("example", repr(task.example)),
    ]
    if isinstance(task, ListTask):
        rows += [
            ("names", f"{n_items}: {', '.join(task.names)}"),
            ("members", f"{len(task.members)} with {len(task.surface_forms)} ways to write them"),
        ]
    elif isinstance(task, PairTask):
        shown = ", ".join(f"{pair.query} - {' or '.join(pair.answers)}" for pair in task.pairs)
        rows.append(("pairs", f"{n_items}: {shown}"))
    else:
        rows += [("sentences", str(n_items))]
    rows += [("sources", "; ".join(task.sources)), ("licence", task.licence)]
    if pool is not None:
        tokens = " + ".join(map(str, pool.shape))
        rows.append(
            (
                f"{tokens} token{'s' if sum(pool.shape) > 1 else ''} under {printable(model or '')}",
                f"{len(pool.names)} of {n_items}: {', '.join(pool.names)}",
            )
        )
        rows.append(("other token counts, or unknown", ", ".join(pool.rejected) or "none"))
    for name, value in rows:
        table.add_row(name, printable(value))
    return [table]


def _kind_and_size(task: Task) -> tuple[str, int]:
    if isinstance(task, ListTask):
        return "list", len(task.names)
    return ("pairs", len(task.pairs)) if isinstance(task, PairTask) else ("text", len(task.sentences))
