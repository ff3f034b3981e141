"""The board -> the text of `by-task.md`: every task and number of shots, and the tasks that make no rank."""

from __future__ import annotations

from bench.escape import markdown_cell, url_path
from bench.intervals import REFUSED, half_width, shown
from bench.records import Bits, ShotSummary, Term
from proxies.board import Board
from proxies.leaderboard import ABOVE_NOTE, REFUSED_NOTE, heading
from proxies.markdown import table
from proxies.other_tasks import other_tasks_table
from proxies.standings import Standing
from tasks import PERFORMANCE_SHOTS

INTRODUCTION = """\
# Emergence by task and shots

Behind the leaderboard, whose rows are means over tasks. Generated from the records in this results
folder by `bench leaderboard`; edits are lost. All numbers are in bits, means over blocks, ± half the 95 % Monte-Carlo
interval of one seed.

- **exact**: emergence with both terms counted exactly, as an observer without noise would see it. It is the same for
  every block after block 0 of every model that keeps all lists apart, so nothing can be learned from it. Block 0 knows
  nothing at a separator and is part of the mean over blocks, which is why exact values are lower for shallow models.
- **macro**, **micro**: the two terms that emergence is the difference of. What the micro term loses to the noise raises
  emergence, above its exact value at times (marked *).
- **shuffled**: the macro term with the pairs broken, 0 up to rounding if joint and marginal densities agree.
- **saturated**: blocks whose macro term is within half a bit of the most that its estimator can say there (the ceiling,
  for one that takes the lists for the whole population), where it means "at least this much".
"""


def render(board: Board, *, results: str) -> str:
    """The text of the tables by task.

    Args:
        results: the results folder as seen from here.
    """
    records = [item.record for standing in board.tables for entry in standing.measured for item in entry.records]
    notes = [("refused", REFUSED_NOTE)] if any(record.has_refusals for record in records) else []
    notes += [("!", ABOVE_NOTE)] if any(above for record in records for above in record.above) else []
    parts = [INTRODUCTION + "".join(f"- **{name}**: {text}\n" for name, text in notes)]
    for standing in board.tables:
        parts += [heading(standing), _tasks_table(standing)]
    return "\n".join([*parts, *other_tasks_table(board.stored, results=results), *_performance_table(board, results)])


def _performance_table(board: Board, results: str) -> list[str]:
    """What the performance of each row is the mean of."""
    rows = [
        (
            markdown_cell(entry.name),
            performance.mode,
            markdown_cell(item.record.key.task),
            f"{cell.accuracy:.2f} [{cell.low:.2f}, {cell.high:.2f}]",
            f"{cell.chance:.2f}",
            str(cell.n_answered),
            f"[record]({url_path(f'{results}/{item.path}')})",
        )
        for standing in board.tables
        for entry in standing.entries
        if (performance := entry.performance) is not None
        for item in performance.records
        for cell in item.record.cells
        if cell.n_shots == PERFORMANCE_SHOTS and cell.accuracy is not None
    ]
    heading = (
        f"## Performance\n\nAccuracy at {PERFORMANCE_SHOTS} demonstrations with Wilson's 95 % interval; a row of the "
        "leaderboard is the mean of these minus the mean of chance.\n\n"
    )
    header = ("model", "mode", "task", "accuracy", "chance", "answers", "record")
    return [heading + table(header, rows)] if rows else []


def _tasks_table(standing: Standing) -> str:
    header = (
        "model", "task", "seed", "shots", "emergence (bits)", "ceiling", "exact", "macro", "micro", "peak block",
        "over twin", "over random words", "shuffled", "saturated",
    )  # fmt: skip
    rows = []
    for entry in standing.measured:
        for item in entry.records:
            record = item.record
            for row, above in zip(record.summary, record.above, strict=True):
                mark: dict[Term, str] = dict.fromkeys(above, " !")
                rows.append(
                    (
                        markdown_cell(record.model.name),
                        markdown_cell(record.key.task),
                        str(record.key.seed),
                        str(row.n_shots),
                        _emergence_shown(row) + mark.get("emergence", ""),
                        REFUSED if row.ceiling_bits is None else f"{row.ceiling_bits:.2f}",
                        f"{row.exact_bits:.2f}",
                        _value(row.macro) + mark.get("macro", ""),
                        _value(row.micro) + mark.get("micro", ""),
                        REFUSED if row.peak is None else f"{row.peak_block} ({_value(row.peak)}{mark.get('peak', '')})",
                        shown(row.excess_over_twin, signed=True),
                        shown(row.excess_over_random_words, signed=True),
                        shown(row.shuffled),
                        REFUSED if row.macro is None else f"{row.saturated_blocks} of {record.model.n_blocks}",
                    )
                )
    return table(header, rows)


def _value(bits: Bits | None) -> str:
    return REFUSED if bits is None else f"{bits.value_bits:.2f}"


def _emergence_shown(row: ShotSummary) -> str:
    """With its interval, and a star where it is above the exact emergence."""
    if row.emergence is None:
        return REFUSED
    is_above = row.emergence.value_bits > row.exact_bits + half_width(row.emergence.error_bits)
    return shown(row.emergence) + (" *" if is_above else "")
