"""Records -> the bytes of `leaderboard.md`. The same records give the same bytes."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np

from bench.escape import markdown_cell, url_path
from bench.intervals import REFUSED, half_width, mean_over_seeds, shown, with_half_width
from bench.records import (
    ROUNDING_BITS,
    Bits,
    Condition,
    EmergenceRecord,
    ModelInfo,
    RecordKey,
    Refused,
    ShotSummary,
    Term,
)
from bench.store import RejectedFile, StoredRecord
from proxies.kinds import made_from_another
from proxies.markdown import table
from proxies.other_tasks import is_other_task, other_tasks_table
from tasks import RANKED_TASKS

Key = TypeVar("Key", bound=Hashable)

INTRODUCTION = """\
# Leaderboard

Emergence of language models in bits: how much more a transformer block carries about a whole list than about its
tokens one by one (arXiv 2405.12617; estimated as `docs/emergence.md` explains). Generated from the records in
`{results}/` by `bench leaderboard`; edits are lost.

**Read it with its controls.** Emergence says that the sequence got through the block. It does not say that it was
understood: compare each number with its ceiling, with the same architecture untrained, and with lists of random words.
"""

NOTES = """\
- **rank**: among models as published. Derived models (`@int4`: weights of the blocks rounded to 4 bits) and checkpoints
  of a training have a row and no rank.
- **emergence**: mean over blocks and over the tasks {tasks}, at the position that closes the last demonstration,
  ± half the 95 % interval. With one seed the interval holds the Monte-Carlo error of the estimator and nothing else:
  not the choice of names, of random words, or of the twin's weights. With several seeds it is Student's interval from
  their spread where that is wider, and differences say whether they are one.
- **ceiling**: what emergence can be at most, the exact macro term minus the measured micro term.
- **exact**: emergence with both terms counted exactly, as an observer without noise would see it. It is the same for
  every block after block 0 of every model that keeps all lists apart, so nothing can be learned from it. Block 0 knows
  nothing at a separator and is part of the mean over blocks, which is why exact values are lower for shallow models.
- **over twin**: emergence minus that of the same architecture with freshly initialised weights on the same lists.
- **over random words**: emergence minus that of the same model on lists of words drawn from its vocabulary.
- **macro**, **micro**: the two terms that emergence is the difference of. What the micro term loses to the noise raises
  emergence, above its exact value at times (marked *).
- **shuffled**: the macro term with the pairs broken, 0 up to rounding if joint and marginal densities agree.
- **measured**: computed from the model's own activations.
- **saturated**: blocks whose macro term is within half a bit of the most that its estimator can say there (the ceiling,
  for one that takes the lists for the whole population), where it means "at least this much".
- **precision**: of the stored weights, and of the arithmetic where it differs.
- **BOS**: whether a begin-of-sequence token stands before macro and micro inputs alike.
"""

REFUSED_NOTE = """\
- **refused**: the estimator had no answer for a cell that the number needs; its record says why.
"""

ABOVE_NOTE = """\
- **!**: a value above its ceiling, which the information itself cannot be: the estimator of that table bounds nothing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What two numbers must share to be compared in one table."""

    preset: str
    estimator: str
    settings: str
    method_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One ranked row: a model under one setting, over the ranked tasks and all its seeds.

    Numbers in bits; pairs are a value and half its 95 % interval, None where a control was refused.
    """

    model: ModelInfo
    bos: bool
    seeds: tuple[int, ...]
    emergence: tuple[float, float]
    ceiling: float
    over_twin: tuple[float, float] | None
    over_random_words: tuple[float, float] | None
    n_samples: int
    date: str
    records: tuple[StoredRecord, ...]


def render(stored: Sequence[StoredRecord], rejected: Sequence[RejectedFile], *, results: str = "results") -> str:
    """The text of the leaderboard.

    Args:
        results: the results folder as seen from the leaderboard, for the links to the records.
    """
    parts = [INTRODUCTION.format(results=results)]
    ranked: set[str] = set()
    records: list[EmergenceRecord] = []
    for setting, entries in rankings(stored):
        records += [item.record for entry in entries for item in entry.records]
        ranked |= {item.path for entry in entries for item in entry.records}
        parts += [_heading(setting, entries), _table(entries, results), _tasks_table(entries)]
    if not ranked:
        parts.append("No model is ranked yet: run `bench run MODEL`.\n")
    else:
        parts.append("## How to read it\n\n" + _notes(records))
    parts += other_tasks_table(stored, results=results)
    return "\n".join(parts + _apart(stored, rejected, ranked, results))


def _notes(ranked: Sequence[EmergenceRecord]) -> str:
    has_refusals = any(measurement.refusals for record in ranked for measurement in record.measurements.values())
    has_above = any(record.above_ceiling(row) for record in ranked for row in record.summary)
    usual = NOTES.format(tasks=", ".join(RANKED_TASKS))
    return usual + (REFUSED_NOTE if has_refusals else "") + (ABOVE_NOTE if has_above else "")


def rows_as_data(stored: Sequence[StoredRecord]) -> list[dict[str, object]]:
    """The ranked rows for machines, in the order of the leaderboard; numbers in bits, with half their 95 % interval."""
    return [
        {
            "rank": place,
            "preset": setting.preset,
            "estimator": setting.estimator,
            "model": entry.model.model_dump(mode="json"),
            "bos": entry.bos,
            "seeds": entry.seeds,
            "kind": "measured",
            "emergence_bits": entry.emergence[0],
            "emergence_half_width_bits": entry.emergence[1],
            "ceiling_bits": entry.ceiling,
            "over_twin_bits": entry.over_twin and entry.over_twin[0],
            "over_twin_half_width_bits": entry.over_twin and entry.over_twin[1],
            "over_random_words_bits": entry.over_random_words and entry.over_random_words[0],
            "over_random_words_half_width_bits": entry.over_random_words and entry.over_random_words[1],
            "n_samples": entry.n_samples,
            "date": entry.date,
            "records": [item.path for item in entry.records],
        }
        for setting, entries in rankings(stored)
        for place, entry in zip(places(entries), entries, strict=True)
    ]


def places(entries: Sequence[Entry]) -> list[int | None]:
    """The rank of each entry among models as published; None for one made from another."""
    ranks = count(1)
    return [None if made_from_another(entry.model.name) else next(ranks) for entry in entries]


def rankings(stored: Sequence[StoredRecord]) -> list[tuple[Setting, list[Entry]]]:
    """Entries by setting, highest emergence first, ties by name. Settings come in order of their first record.

    Limited runs, those without an emergence at the last shot, older versions of a task and second records of the same
    run take no part.
    """
    whole = [
        item
        for item in stored
        if item.record.is_enumerated
        and item.record.key.limit is None
        and item.record.key.task in RANKED_TASKS
        and item.record.summary[-1].emergence is not None
    ]
    newest: dict[tuple[Setting, str], tuple[int, str]] = {}
    for item in whole:
        key = item.record.key
        place = _setting(item), key.task
        newest[place] = max(newest.get(place, (0, "")), (key.task_version, key.task_hash))
    current = [
        item
        for item in whole
        if newest[_setting(item), item.record.key.task] == (item.record.key.task_version, item.record.key.task_hash)
    ]
    found = []
    for setting, group in _group(current, _setting).items():
        entries = [entry for items in _group(group, _identity).values() if (entry := _entry(items)) is not None]
        if entries:
            order = sorted(entries, key=lambda entry: (-entry.emergence[0], entry.model.name, entry.model.revision))
            found.append((setting, order))
    return found


def _entry(items: Sequence[StoredRecord]) -> Entry | None:
    """The row of one model over the seeds that have every ranked task; None if there is no such seed."""
    by_seed: dict[int, dict[str, StoredRecord]] = {}
    for item in sorted(items, key=lambda item: (item.record.provenance.date, item.path)):
        by_seed.setdefault(item.record.key.seed, {})[item.record.key.task] = item  # the latest stands
    complete = {
        seed: [tasks[task] for task in RANKED_TASKS]
        for seed, tasks in sorted(by_seed.items())
        if set(tasks) == set(RANKED_TASKS)
    }
    if not complete:
        return None
    records = tuple(item for seed_items in complete.values() for item in seed_items)
    first = records[0].record

    def over_seeds(*conditions: Condition) -> tuple[float, float] | None:
        means = [mean for seed_items in complete.values() if (mean := _mean(seed_items, conditions)) is not None]
        return mean_over_seeds(*zip(*means, strict=True)) if len(means) == len(complete) else None

    emergence = over_seeds("trained")
    ceilings = [bits for item in records if (bits := item.record.summary[-1].ceiling_bits) is not None]
    assert emergence is not None and len(ceilings) == len(records), "only records with an emergence are ranked"
    return Entry(
        model=first.model,
        bos=first.bos_token is not None,
        seeds=tuple(complete),
        emergence=emergence,
        ceiling=float(np.mean(ceilings)),
        over_twin=over_seeds("trained", "untrained_twin"),
        over_random_words=over_seeds("trained", "random_words"),
        n_samples=sum(item.record.measurements["trained"].n_sequences for item in records),
        date=max(item.record.provenance.date for item in records)[:10],
        records=records,
    )


def _mean(items: Sequence[StoredRecord], conditions: tuple[Condition, ...]) -> tuple[float, float] | None:
    """Mean over tasks of the first condition minus the second, with its standard error; None if one was refused.

    A measurement that several tasks share (the random words) counts as one source of error, not as several.
    """
    value = 0.0
    error_of: defaultdict[str, float] = defaultdict(float)
    for sign, condition in zip((1.0, -1.0), conditions, strict=False):
        for item in items:
            measurement = item.record.measurements[condition]
            bits = item.record.summary[-1].curve[measurement.headline][condition]
            if bits is None:
                return None
            value += sign * bits.value_bits / len(items)
            error_of[measurement.key.digest()] += bits.error_bits / len(items)
    return value, math.sqrt(sum(error**2 for error in error_of.values()))


def _heading(setting: Setting, entries: Sequence[Entry]) -> str:
    keys = [item.record.key for entry in entries for item in entry.records]
    sizes = sorted({(key.task, key.n_names, key.n_shots) for key in keys})
    if len({size[1:] for size in sizes}) == 1:
        described = f"{keys[0].n_shots} of {keys[0].n_names} names"
    else:
        described = "; ".join(f"{markdown_cell(task)}: {shots} of {names} names" for task, names, shots in sizes)
    headline = entries[0].records[0].record.measurements["trained"].headline
    return (
        f"## Preset {markdown_cell(setting.preset)}, estimator {markdown_cell(setting.estimator)} "
        f"({markdown_cell(headline)})\n\nEvery ordered list of {described}, fully enumerated."
        f"{_settings_shown(keys[0])}\n"
    )


def _settings_shown(key: RecordKey) -> str:
    """The settings of the estimator, which tell apart tables that are otherwise called the same."""
    shown_as = {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in sorted(key.settings.items())
    }
    listed = ", ".join(f"{markdown_cell(name)} {markdown_cell(value)}" for name, value in shown_as.items())
    return f" Settings: {listed}." if listed else ""


def _table(entries: Sequence[Entry], results: str) -> str:
    header = (
        "rank", "model", "family", "parameters", "type", "precision", "BOS", "revision", "emergence (bits)", "ceiling",
        "over twin", "over random words", "measured / estimated", "n samples", "seeds", "date", "records",
    )  # fmt: skip
    rows = []
    for place, entry in zip(places(entries), entries, strict=True):
        model = entry.model
        precision = model.precision if model.precision == model.dtype else f"{model.precision} in {model.dtype}"
        links = " ".join(_link(item, results, with_seed=len(entry.seeds) > 1) for item in entry.records)
        rows.append(
            (
                "" if place is None else str(place),
                markdown_cell(model.name),
                markdown_cell(model.family),
                f"{model.n_parameters / 1e6:,.1f} M",
                ", ".join(filter(None, (model.variant, made_from_another(model.name)))),
                markdown_cell(precision),
                "yes" if entry.bos else "no",
                markdown_cell(model.revision[:19]),
                with_half_width(*entry.emergence)
                + (" !" if entry.emergence[0] > entry.ceiling + ROUNDING_BITS else ""),
                f"{entry.ceiling:.2f}",
                _compared(entry.over_twin, n_seeds=len(entry.seeds)),
                _compared(entry.over_random_words, n_seeds=len(entry.seeds)),
                "measured",
                f"{entry.n_samples:,}",
                str(len(entry.seeds)),
                markdown_cell(entry.date),
                links,
            )
        )
    return table(header, rows)


def _tasks_table(entries: Sequence[Entry]) -> str:
    header = (
        "model", "task", "seed", "shots", "emergence (bits)", "ceiling", "exact", "macro", "micro", "peak block",
        "over twin", "over random words", "shuffled", "saturated",
    )  # fmt: skip
    rows = []
    for entry in entries:
        for item in entry.records:
            for row in item.record.summary:
                mark: dict[Term, str] = dict.fromkeys(item.record.above_ceiling(row), " !")
                rows.append(
                    (
                        markdown_cell(item.record.model.name),
                        markdown_cell(item.record.key.task),
                        str(item.record.key.seed),
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
                        REFUSED if row.macro is None else f"{row.saturated_blocks} of {item.record.model.n_blocks}",
                    )
                )
    return "### By task and shots\n\n" + table(header, rows)


def _value(bits: Bits | None) -> str:
    return REFUSED if bits is None else f"{bits.value_bits:.2f}"


def _emergence_shown(row: ShotSummary) -> str:
    """With its interval, and a star where it is above the exact emergence."""
    if row.emergence is None:
        return REFUSED
    is_above = row.emergence.value_bits > row.exact_bits + half_width(row.emergence.error_bits)
    return shown(row.emergence) + (" *" if is_above else "")


def _apart(
    stored: Sequence[StoredRecord], rejected: Sequence[RejectedFile], ranked: set[str], results: str
) -> list[str]:
    lines = []
    for item in stored:
        if item.path in ranked or is_other_task(item.record):
            continue
        reason = _why_not_ranked(item.record)
        link = f"[record]({url_path(f'{results}/{item.path}')})"
        lines.append(
            f"- {markdown_cell(item.record.model.name)}, {markdown_cell(item.record.key.task)}: {reason}; {link}"
        )
    lines += [f"- {markdown_cell(item.path)}: not a valid record: {markdown_cell(item.reason)}" for item in rejected]
    return ["## Not ranked\n\n" + "\n".join(lines) + "\n"] if lines else []


def _why_not_ranked(record: EmergenceRecord) -> str:
    if record.key.limit is not None or not record.is_enumerated:
        return f"limited to {record.measurements['trained'].n_sequences:,} lists, for trying things out only"
    last = record.summary[-1]
    if last.emergence is None:
        refusal = next(entry for entry in record.measurements["trained"].refusals if _is_needed(entry, last.position))
        return (
            f"{markdown_cell(record.key.estimator)} refused {last.refused_cells} of the cells that emergence at the "
            f"last shot needs: {markdown_cell(refusal.reason)}"
        )
    return f"incomplete or superseded: a row needs the newest version of {', '.join(RANKED_TASKS)} at one seed"


def _is_needed(entry: Refused, position: int) -> bool:
    """Whether one of the refused cells is part of emergence at the last position of the lists."""
    is_macro_cell = entry.side == "macro" and any(column == position for _, column in entry.cells)
    return is_macro_cell or entry.side == "micro"


def _link(item: StoredRecord, results: str, *, with_seed: bool) -> str:
    text = markdown_cell(item.record.key.task) + (f" {item.record.key.seed}" if with_seed else "")
    return f"[{text}]({url_path(f'{results}/{item.path}')})"


def _compared(difference: tuple[float, float] | None, *, n_seeds: int) -> str:
    """The difference with its interval and, where several seeds tell, whether it is one."""
    if difference is None:
        return REFUSED
    value, width = difference
    text = with_half_width(value, width, signed=True)
    if n_seeds == 1:
        return text
    return f"{text} ({'above' if value > width else 'below' if value < -width else 'no difference'})"


def _setting(item: StoredRecord) -> Setting:
    key = item.record.key
    return Setting(
        preset=key.preset if key.preset != "custom" else f"custom {key.n_shots} of {key.n_names}",
        estimator=key.estimator,
        settings=json.dumps(key.settings, sort_keys=True),
        method_version=key.method_version,
    )


def _identity(item: StoredRecord) -> tuple[str, str, str, int | None]:
    key = item.record.key
    return key.model, key.files_sha256, key.dtype, item.record.bos_token


def _group(items: Iterable[StoredRecord], key_of: Callable[[StoredRecord], Key]) -> dict[Key, list[StoredRecord]]:
    groups: dict[Key, list[StoredRecord]] = {}
    for item in items:
        groups.setdefault(key_of(item), []).append(item)
    return groups
