"""Performance as a person sees it in the terminal, and what a query would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.performance import Cell, PerformanceRecord
from bench.query import DryRun
from bench.terminal import new_table


def performance_tables(records: Sequence[PerformanceRecord]) -> list[RenderableType]:
    """Accuracy of each model and task over shots, with Wilson's intervals."""
    if not records:
        return []
    shots = sorted({cell.n_shots for record in records for cell in record.cells})
    table = new_table(
        "Accuracy with its 95 % interval (Wilson), by shots",
        caption="chance: always giving the one best answer; a list cannot be guessed. repeats: answers to a list "
        "that were in the prompt already, at the most shots. n: questions; the same ones at every number of shots, as "
        "far as there are different prompts. A failed question is neither right nor wrong.",
    )
    for column in ("model", "task"):
        table.add_column(column, overflow="fold")
    table.add_column("mode")
    for n_shots in shots:
        table.add_column(f"{n_shots} shots" if n_shots != 1 else "1 shot", justify="right")
    for column in ("chance", "repeats", "n", "failed"):
        table.add_column(column, justify="right")
    for record in records:
        cells = {cell.n_shots: cell for cell in record.cells}
        counts = [cell.n_questions for cell in record.cells]
        last = max(record.cells, key=lambda cell: cell.n_shots)
        table.add_row(
            printable(record.key.model),
            printable(record.key.task),
            record.key.mode,
            *(accuracy_shown(cells.get(n_shots)) for n_shots in shots),
            f"{last.chance:.2f}",
            "" if last.n_repeats is None or not last.n_answered else f"{last.n_repeats / last.n_answered:.2f}",
            str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}",
            str(sum(cell.n_failed for cell in record.cells)),
        )
    return [table, *(Text(printable(line)) for line in _failure_lines(records))]


def accuracy_shown(cell: Cell | None) -> str:
    """`accuracy [low, high]` of a cell."""
    if cell is None:
        return "-"
    if cell.accuracy is None or cell.low is None or cell.high is None:
        return "all failed"
    return f"{cell.accuracy:.2f} [{cell.low:.2f}, {cell.high:.2f}]"


def _failure_lines(records: Sequence[PerformanceRecord]) -> Iterator[str]:
    for record in records:
        kinds = Counter[str]()
        for cell in record.cells:
            kinds.update(cell.failures)
        if kinds:
            told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
            yield f"{record.key.model}, {record.key.task}: {told}; the samples beside the record have the messages"


def dry_run_tables(planned: DryRun) -> list[RenderableType]:
    """What a query would ask, and cost at most."""
    table = new_table("What would be asked")
    table.add_column("task")
    table.add_column("shots")
    for column in ("questions", "characters of prompts"):
        table.add_column(column, justify="right")
    for part, n_characters in zip(planned.assignments, planned.n_characters, strict=True):
        left_out = f" ({', '.join(map(str, part.undefined))} left out: a list needs an item)" if part.undefined else ""
        table.add_row(
            printable(part.task.name),
            ", ".join(map(str, part.shots)) + left_out,
            str(len(part.questions)),
            f"{n_characters:,}",
        )
    estimate = planned.estimate
    usd = (
        "unknown: give both prices, --usd-per-million-input and --usd-per-million-output"
        if estimate.max_usd is None
        else f"about {estimate.max_usd:.4f} USD if no question fails"
    )
    lines = (
        f"questions: {planned.n_questions:,}, of which {planned.n_known:,} are answered already",
        f"requests: {estimate.n_requests:,} if none fails",
        f"tokens: about {estimate.n_prompt_tokens_estimated:,} of prompts (by length, chat template left out), "
        f"at most {estimate.max_completion_tokens:,} of answers",
        f"cost: {usd}",
    )
    return [table, *map(Text, lines)]
