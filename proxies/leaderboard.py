"""Records -> the bytes of `leaderboard.md`. The same records give the same bytes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bench.escape import markdown_cell, url_path
from bench.intervals import Z_95, with_interval
from bench.records import Condition, EmergenceRecord, ModelInfo
from bench.store import RejectedFile, StoredRecord

Key = TypeVar("Key", bound=Hashable)

RANKED_TASKS = ("animal", "colour", "country")
"""A model is ranked when it has a complete record of each of these."""

INTRODUCTION = """\
# Leaderboard

Emergence of language models in bits: how much more a transformer block carries about a whole list than about its
tokens one by one (arXiv 2405.12617; estimated as `docs/emergence.md` explains). Generated from the records in
`{results}/` by `bench leaderboard`; edits are lost.

**Read it with its controls.** Emergence says that the sequence got through the block. It does not say that it was
understood: compare each number with its ceiling, with the same architecture untrained, and with lists of random words.
"""

NOTES = """\
- **emergence**: mean over blocks and over the tasks {tasks}, at the position that closes the last demonstration,
  ± half the 95 % interval. With one seed the interval holds the Monte-Carlo error of the estimator and nothing else,
  not the choice of names. With several seeds it is at least their spread.
- **ceiling**: what emergence can be at most, the exact macro term minus the measured micro term.
- **exact**: emergence with both terms counted exactly, as an observer without noise would see it: the same for every
  model that keeps all lists apart, and the reason why nothing can be learned from it.
- **over twin**: emergence minus that of the same architecture with freshly initialised weights on the same lists.
- **over random words**: emergence minus that of the same model on lists of words drawn from its vocabulary.
- **shuffled**: the macro term with the pairs broken; it must cover 0.
- **measured**: computed from the model's own activations.
- **saturated**: blocks whose macro term is within half a bit of its ceiling, where it means "at least this much".
- **precision**: of the stored weights, and of the arithmetic where it differs.
- **BOS**: whether a begin-of-sequence token stands before macro and micro inputs alike.
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
    """One ranked row: a model under one setting, over the ranked tasks and all its seeds."""

    model: ModelInfo
    bos: bool
    seeds: tuple[int, ...]
    emergence: tuple[float, float]
    ceiling: float
    over_twin: tuple[float, float]
    over_random_words: tuple[float, float]
    n_samples: int
    date: str
    records: tuple[StoredRecord, ...]


def render(stored: Sequence[StoredRecord], rejected: Sequence[RejectedFile], *, results: str = "results") -> str:
    """The text of the leaderboard.

    Args:
        results: the results folder as seen from the leaderboard, for the links to the records.
    """
    whole = [entry for entry in stored if entry.record.is_enumerated]
    parts = [INTRODUCTION.format(results=results)]
    ranked: set[str] = set()
    for setting, group in _group(whole, _setting).items():
        entries = rank(group)
        if not entries:
            continue
        ranked |= {item.path for entry in entries for item in entry.records}
        parts += [_heading(setting, group), _table(entries, results), _tasks_table(entries, results)]
    if len(parts) == 1:
        parts.append("No model is ranked yet: run `bench run MODEL`.\n")
    else:
        parts.append("## How to read it\n\n" + NOTES.format(tasks=", ".join(RANKED_TASKS)))
    apart = _apart(stored, rejected, ranked, results)
    return "\n".join(parts + apart)


def rows_as_data(stored: Sequence[StoredRecord]) -> list[dict[str, object]]:
    """The ranked rows for machines, in the order of the leaderboard; numbers in bits, errors are standard errors."""
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
            "emergence_error_bits": entry.emergence[1],
            "ceiling_bits": entry.ceiling,
            "over_twin_bits": entry.over_twin[0],
            "over_twin_error_bits": entry.over_twin[1],
            "over_random_words_bits": entry.over_random_words[0],
            "over_random_words_error_bits": entry.over_random_words[1],
            "n_samples": entry.n_samples,
            "date": entry.date,
            "records": [item.path for item in entry.records],
        }
        for setting, group in _group((item for item in stored if item.record.is_enumerated), _setting).items()
        for place, entry in enumerate(rank(group), start=1)
    ]


def rank(stored: Iterable[StoredRecord]) -> list[Entry]:
    """Entries of one setting that have every ranked task, highest emergence first; ties go by name."""
    entries = []
    for group in _group(stored, _identity).values():
        by_seed = _group(group, lambda item: item.record.key.seed)
        complete = {
            seed: items for seed, items in by_seed.items() if {i.record.key.task for i in items} >= set(RANKED_TASKS)
        }
        if complete:
            entries.append(_entry(complete))
    return sorted(entries, key=lambda entry: (-entry.emergence[0], entry.model.name, entry.model.revision))


def _entry(by_seed: dict[int, list[StoredRecord]]) -> Entry:
    ranked = {seed: [item for item in items if item.record.key.task in RANKED_TASKS] for seed, items in by_seed.items()}
    records = tuple(item for items in ranked.values() for item in items)
    first = records[0].record
    trained = [_mean(items, ("trained",)) for items in ranked.values()]
    twin = [_mean(items, ("trained", "untrained_twin")) for items in ranked.values()]
    words = [_mean(items, ("trained", "random_words")) for items in ranked.values()]
    return Entry(
        model=first.model,
        bos=first.bos_token is not None,
        seeds=tuple(sorted(ranked)),
        emergence=_over_seeds(trained),
        ceiling=float(np.mean([item.record.summary[-1].ceiling_bits for item in records])),
        over_twin=_over_seeds(twin),
        over_random_words=_over_seeds(words),
        n_samples=sum(item.record.measurements["trained"].n_sequences for item in records),
        date=max(item.record.provenance.date for item in records)[:10],
        records=records,
    )


def _mean(items: Sequence[StoredRecord], conditions: tuple[Condition, ...]) -> tuple[float, float]:
    """Mean over tasks of the first condition minus the second, with its standard error.

    A measurement that several tasks share (the random words) counts as one source of error, not as several.
    """
    value = 0.0
    error_of: defaultdict[str, float] = defaultdict(float)
    for sign, condition in zip((1.0, -1.0), conditions, strict=False):
        for item in items:
            measurement = item.record.measurements[condition]
            bits = item.record.summary[-1].curve[measurement.headline][condition]
            value += sign * bits.value_bits / len(items)
            error_of[measurement.key.digest()] += bits.error_bits / len(items)
    return value, float(np.sqrt(sum(error**2 for error in error_of.values())))


def _over_seeds(means: Sequence[tuple[float, float]]) -> tuple[float, float]:
    values, errors = np.array(means).T
    within = float(np.sqrt(np.square(errors).sum()) / len(errors))
    between = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), max(within, between)


def _heading(setting: Setting, group: Sequence[StoredRecord]) -> str:
    key = group[0].record.key
    sizes = sorted({(item.record.key.task, item.record.key.n_names, item.record.key.n_shots) for item in group})
    if len({size[1:] for size in sizes}) == 1:
        described = f"{key.n_shots} of {key.n_names} names"
    else:
        described = "; ".join(f"{task}: {shots} of {names} names" for task, names, shots in sizes)
    headline = group[0].record.measurements["trained"].headline
    return (
        f"## Preset {markdown_cell(setting.preset)}, estimator {markdown_cell(setting.estimator)} "
        f"({markdown_cell(headline)})\n\nEvery ordered list of {described}, fully enumerated.\n"
    )


def _table(entries: Sequence[Entry], results: str) -> str:
    header = (
        "rank", "model", "family", "parameters", "type", "precision", "BOS", "revision", "emergence (bits)", "ceiling",
        "over twin", "over random words", "measured / estimated", "n samples", "seeds", "date", "records",
    )  # fmt: skip
    rows = []
    for place, entry in enumerate(entries, start=1):
        model = entry.model
        precision = model.precision if model.precision == model.dtype else f"{model.precision} in {model.dtype}"
        links = " ".join(f"[{item.record.key.task}]({url_path(f'{results}/{item.path}')})" for item in entry.records)
        rows.append(
            (
                str(place),
                markdown_cell(model.name),
                markdown_cell(model.family),
                f"{model.n_parameters / 1e6:,.1f} M",
                model.variant,
                markdown_cell(precision),
                "yes" if entry.bos else "no",
                markdown_cell(model.revision[:19]),
                with_interval(*entry.emergence),
                f"{entry.ceiling:.2f}",
                _compared(entry.over_twin),
                _compared(entry.over_random_words),
                "measured",
                f"{entry.n_samples:,}",
                str(len(entry.seeds)),
                entry.date,
                links,
            )
        )
    return _markdown_table(header, rows)


def _tasks_table(entries: Sequence[Entry], results: str) -> str:
    header = (
        "model", "task", "shots", "emergence (bits)", "ceiling", "exact", "peak block", "over twin",
        "over random words", "shuffled", "saturated",
    )  # fmt: skip
    rows = []
    for entry in entries:
        for item in entry.records:
            for row in item.record.summary:
                rows.append(
                    (
                        markdown_cell(item.record.model.name),
                        markdown_cell(item.record.key.task),
                        str(row.n_shots),
                        with_interval(row.emergence.value_bits, row.emergence.error_bits),
                        f"{row.ceiling_bits:.2f}",
                        f"{row.exact_bits:.2f}",
                        f"{row.peak_block} ({row.peak.value_bits:.2f})",
                        with_interval(row.excess_over_twin.value_bits, row.excess_over_twin.error_bits, signed=True),
                        with_interval(
                            row.excess_over_random_words.value_bits,
                            row.excess_over_random_words.error_bits,
                            signed=True,
                        ),
                        with_interval(row.shuffled.value_bits, row.shuffled.error_bits),
                        f"{row.saturated_blocks} of {item.record.model.n_blocks}",
                    )
                )
    return "### By task and shots\n\n" + _markdown_table(header, rows)


def _apart(
    stored: Sequence[StoredRecord], rejected: Sequence[RejectedFile], ranked: set[str], results: str
) -> list[str]:
    lines = []
    for item in stored:
        if item.path in ranked:
            continue
        reason = _why_not_ranked(item.record)
        link = f"[record]({url_path(f'{results}/{item.path}')})"
        lines.append(
            f"- {markdown_cell(item.record.model.name)}, {markdown_cell(item.record.key.task)}: {reason}; {link}"
        )
    lines += [f"- {markdown_cell(item.path)}: not a valid record: {markdown_cell(item.reason)}" for item in rejected]
    return ["## Not ranked\n\n" + "\n".join(lines) + "\n"] if lines else []


def _why_not_ranked(record: EmergenceRecord) -> str:
    if not record.is_enumerated:
        return f"limited to {record.measurements['trained'].n_sequences:,} lists, for trying things out only"
    if record.key.task not in RANKED_TASKS:
        return "not one of the ranked tasks"
    return f"incomplete: the ranked tasks are {', '.join(RANKED_TASKS)}"


def _compared(difference: tuple[float, float]) -> str:
    """The difference with its interval, and in a word whether it is one."""
    value, error = difference
    verdict = "above" if value > Z_95 * error else "below" if value < -Z_95 * error else "no difference"
    return f"{with_interval(value, error, signed=True)} ({verdict})"


def _setting(item: StoredRecord) -> Setting:
    key = item.record.key
    return Setting(
        preset=key.preset if key.preset != "custom" else f"custom {key.n_shots} of {key.n_names}",
        estimator=key.estimator,
        settings=json.dumps(key.settings, sort_keys=True),
        method_version=key.method_version,
    )


def _identity(item: StoredRecord) -> tuple[str, str, str, str]:
    key = item.record.key
    return key.model, key.weights_sha256, key.dtype, key.bos


def _group(items: Iterable[StoredRecord], key_of: Callable[[StoredRecord], Key]) -> dict[Key, list[StoredRecord]]:
    groups: dict[Key, list[StoredRecord]] = {}
    for item in items:
        groups.setdefault(key_of(item), []).append(item)
    return groups


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"
