"""What a person sees in the terminal: rich tables and progress bars. Text from data is never read as markup."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bench.escape import printable
from bench.intervals import REFUSED, shown, with_interval
from bench.records import ROUNDING_BITS, Bits, Condition, EmergenceRecord, Refused, Term, as_array
from bench.sources import ModelEntry
from bench.summary import ceiling_of, emergence_of

ALWAYS_ANSWER = ("noisy_channel", "exact")
"""Estimators that take the rows for the whole population and refuse nothing."""

N_REASONS = 3
"""Reasons that are printed for each record; all of them are in the record."""

ABOVE_CEILING = (
    " !: above its ceiling, which the information itself cannot be; this estimator does not promise a bound."
)


def stderr() -> Console:
    """The console for progress and remarks; nothing that is printed to it is read as markup."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def remark(text: str) -> None:
    """One line to stderr."""
    stderr().print(printable(text), soft_wrap=True)


class Bars:
    """Progress on stderr with rate and time left; plain lines where stderr is not a terminal. A context manager."""

    def __init__(self, unit: str = "blocks") -> None:
        self._console = stderr()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._total = 0
        self._text = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        """Something without a count begins."""
        self._say(text)

    def plan(self, n_units: int) -> None:
        """This many more blocks, or whatever the unit is, will be measured."""
        self._total += n_units
        self._progress.update(self._task, total=self._total)

    def block(self, text: str) -> None:
        """One unit has been measured."""
        self._say(text)
        self._progress.advance(self._task)

    def _say(self, text: str) -> None:
        if text == self._text:
            return
        self._text = text
        self._progress.update(self._task, description=printable(text))
        if not self._console.is_terminal:
            remark(text)


class _Rate(ProgressColumn):
    """Blocks per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "")


def emergence_tables(records: Sequence[EmergenceRecord]) -> list[RenderableType]:
    """Per record: E of every block at the position that closes each shot; then one summary of all records.

    Under the tables: why cells were refused.
    """
    if not records:
        return []
    lines = [line for record in records for line in _refusal_lines(record)]
    return [*map(_blocks_table, records), _summary_table(records), *(Text(printable(line)) for line in lines)]


def without_emergence(records: Sequence[EmergenceRecord]) -> Iterator[str]:
    """One line for each record of which no number of shots has an emergence."""
    for record in records:
        if any(row.emergence is not None for row in record.summary):
            continue
        trained = record.measurements["trained"]
        closing = [row.position for row in record.summary]
        macro = as_array(trained.macro[trained.headline].values_bits)[:, closing]
        micro = as_array(trained.micro[trained.headline].values_bits)
        n_refused, n_needed = np.isnan(macro).sum() + np.isnan(micro).sum(), macro.size + micro.size
        share = f"all {n_needed}" if n_refused == n_needed else f"{n_refused} of the {n_needed}"
        yield (
            f"{record.model.name}, {record.key.task}: {record.key.estimator} refused {share} cells that emergence "
            f"needs, so the record has none at any number of shots; {_who_answers()}"
        )


def _refusal_lines(record: EmergenceRecord) -> Iterator[str]:
    """The first few reasons for which cells of a record were refused, with their counts; none without refusals.

    Reasons that differ only in their numbers count as one, and the first stands for all.
    """
    entries = [(condition, entry) for condition, found in record.measurements.items() for entry in found.refusals]
    kinds: dict[str, list[tuple[Condition, Refused]]] = {}
    for condition, entry in entries:
        kinds.setdefault(re.sub(r"\d[\d.,]*(e[-+]?\d+)?", "0", entry.reason), []).append((condition, entry))
    for same in list(kinds.values())[:N_REASONS]:
        n_cells = sum(len(entry.cells) for _, entry in same)
        condition, entry = same[0]
        block, column = entry.cells[0]
        where = f"{condition.replace('_', ' ')}, {entry.side}, block {block}, column {column}"
        yield (
            f"{record.model.name}, {record.key.task}: {record.key.estimator} refused {n_cells} "
            f"cell{'s, the first' if n_cells > 1 else ''} ({where}): {entry.reason}"
        )
    if len(kinds) > N_REASONS:
        yield f"{record.model.name}, {record.key.task}: further reasons in the record: {len(kinds) - N_REASONS}"
    if kinds:
        yield f"{record.model.name}, {record.key.task}: {_who_answers()}"


def _who_answers() -> str:
    return f"the estimators {' and '.join(ALWAYS_ANSWER)} answer for every cell (--estimator {ALWAYS_ANSWER[0]})"


def _blocks_table(record: EmergenceRecord) -> Table:
    trained, twin = record.measurements["trained"], record.measurements["untrained_twin"]
    fields, ceilings, twins = emergence_of(trained), ceiling_of(trained), emergence_of(twin)
    last = record.summary[-1].position
    is_above, is_twin_above = (
        found.values > bound.values + ROUNDING_BITS for found, bound in ((fields, ceilings), (twins, ceiling_of(twin)))
    )
    shown_above = [*is_above[:, [row.position for row in record.summary]].flat, *is_twin_above[:, last]]
    table = new_table(
        f"{record.model.name}, {record.key.task}: emergence in bits ± half its 95 % interval, by block and shots",
        caption=f"{trained.key.estimator} ({trained.headline}), {_population_shown(record)}. "
        "Ceiling (exact macro term minus measured micro term) and untrained twin: at the last shot."
        + (ABOVE_CEILING if any(shown_above) else ""),
    )
    for column in ("block", *(f"{row.n_shots} shots" if row.n_shots > 1 else "1 shot" for row in record.summary)):
        table.add_column(column, justify="right")
    table.add_column("ceiling", justify="right")
    table.add_column("untrained twin", justify="right")
    for block in range(record.model.n_blocks):
        table.add_row(
            str(block),
            *(
                Text(
                    _interval(fields.values[block, row.position], fields.errors[block, row.position])
                    + _mark(is_above[block, row.position]),
                    style="bold" if block == row.peak_block else "",
                )
                for row in record.summary
            ),
            _number(ceilings.values[block, last]),
            _number(twins.values[block, last]) + _mark(is_twin_above[block, last]),
        )
    return table


def _population_shown(record: EmergenceRecord) -> str:
    trained, counts = record.measurements["trained"], f"{record.n_survivors} of {record.n_pool}"
    if not trained.names:
        return f"{trained.n_sequences:,} windows of {record.key.n_shots} tokens ({counts} sentences are that long)"
    lists = f"{trained.n_sequences:,} lists of {record.key.n_shots} out of {record.key.n_names} demonstrations"
    return f"{lists} ({counts} in the pool have one token count under this tokenizer)"


def _summary_table(records: Sequence[EmergenceRecord]) -> Table:
    has_above = any(record.above_ceiling(row) for record in records for row in record.summary)
    table = new_table(
        "Mean over blocks, in bits ± half the 95 % interval (Monte-Carlo error only)",
        caption="Ceiling: the exact macro term minus the measured micro term. Exact: both terms without noise. Macro "
        "ceiling: the entropy of the lists, which no macro term may pass. Shuffled must cover 0. "
        "Saturated: blocks whose macro term is within half a bit of the most that the estimator can say: "
        '"at least this much".' + (ABOVE_CEILING if has_above else ""),
    )
    for column in ("model", "task"):
        table.add_column(column, overflow="fold")
    for column in (
        "shots", "emergence", "ceiling", "exact", "macro", "micro", "macro ceiling", "peak block",
        "over twin", "over random words", "shuffled", "saturated",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for record in records:
        for row in record.summary:
            mark: dict[Term, str] = dict.fromkeys(record.above_ceiling(row), " !")
            table.add_row(
                printable(record.model.name),
                record.key.task + ("" if record.is_enumerated else " (limited)"),
                str(row.n_shots),
                shown(row.emergence) + mark.get("emergence", ""),
                _number(row.ceiling_bits),
                _number(row.exact_bits),
                _value(row.macro) + mark.get("macro", ""),
                _value(row.micro) + mark.get("micro", ""),
                f"{row.macro_ceiling_bits:.3f}",
                REFUSED if row.peak is None else f"{row.peak_block} ({_value(row.peak)}{mark.get('peak', '')})",
                shown(row.excess_over_twin, signed=True),
                shown(row.excess_over_random_words, signed=True),
                shown(row.shuffled),
                REFUSED if row.macro is None else f"{row.saturated_blocks}/{record.model.n_blocks}",
            )
    return table


def _mark(is_above: bool) -> str:
    return " !" if is_above else ""


def _value(bits: Bits | None) -> str:
    return _number(None if bits is None else bits.value_bits)


def _interval(value: float, error: float) -> str:
    return REFUSED if math.isnan(value) else with_interval(float(value), float(error))


def _number(value: float | None) -> str:
    return REFUSED if value is None or math.isnan(value) else f"{value:.2f}"


def models_table(entries: Iterable[ModelEntry]) -> Table:
    """The catalog."""
    table = new_table("Models by name; a folder, a .gguf file or an owner/name of the hub works too")
    table.add_column("name", no_wrap=True)
    table.add_column("family")
    table.add_column("parameters", justify="right")
    for column in ("type", "precision", "licence"):
        table.add_column(column)
    table.add_column("source", overflow="fold")
    for entry in entries:
        n_parameters = "" if entry.n_parameters is None else f"{entry.n_parameters / 1e6:,.1f} M"
        table.add_row(
            entry.name, entry.family, n_parameters, entry.variant, entry.precision, entry.licence, entry.origin
        )
    return table


def new_table(title: str, *, caption: str | None = None, show_header: bool = True) -> Table:
    """An empty table; title and caption are never read as markup."""
    return Table(
        title=Text(printable(title)),
        caption=Text(printable(caption)) if caption else None,
        title_justify="left",
        caption_justify="left",
        show_header=show_header,
    )
