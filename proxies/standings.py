"""Records -> the rows of the leaderboard: which numbers may be compared, which model is where, what is left out."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal, TypeVar

import numpy as np

from bench.estimates import Source, answers_of, answers_sha256
from bench.fits import ON_TRIAL
from bench.intervals import Interval, combined, mean_over_seeds
from bench.performance import PerformanceRecord
from bench.records import Condition, ModelInfo
from bench.store import StoredEstimate, StoredFit, StoredPerformance
from proxies.digests import StoredDigest
from proxies.kinds import made_from_another
from proxies.performance import cells_of
from tasks import PERFORMANCE_SHOTS, PERFORMANCE_TASKS, RANKED_TASKS, shipped_version

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What two numbers must share to be compared in one table."""

    preset: str
    estimator: str
    settings: str
    method_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Accuracy minus chance, mean over `PERFORMANCE_TASKS` at `PERFORMANCE_SHOTS` demonstrations."""

    above_chance: Interval
    chance: float
    """Mean over the tasks."""
    mode: str
    n_questions: int
    records: tuple[StoredPerformance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One measured row: a model under one setting, over the ranked tasks and all its seeds.

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
    records: tuple[StoredDigest, ...]
    performance: Performance | None = None

    @property
    def bits(self) -> float:
        """What rows are ordered by."""
        return self.emergence[0]

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name

    @property
    def family(self) -> str:
        """Of the model."""
        return self.model.family

    @property
    def may_rank(self) -> bool:
        """Models as published have a rank; what is made of them has a row only."""
        return made_from_another(self.name) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedEntry:
    """One estimated row: a model whose emergence is not measured."""

    stored: StoredEstimate
    performance: Performance | None = None

    @property
    def bits(self) -> float:
        """What rows are ordered by."""
        return self.stored.record.value_bits

    @property
    def name(self) -> str:
        """Of the model."""
        return self.stored.record.key.model

    @property
    def family(self) -> str:
        """That was held out; a dash where the model is of none that is measured."""
        return self.stored.record.key.family or "–"

    @property
    def date(self) -> str:
        """Of the estimate."""
        return self.stored.record.provenance.date[:10]

    @property
    def may_rank(self) -> bool:
        """An estimate that is worth no more than its baseline puts no model above or below another."""
        return self.stored.record.beats_baseline and made_from_another(self.name) is None


AnyEntry = Entry | EstimatedEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Something without a row, and why; `path` of its record is None for a file that is none."""

    what: str
    reason: str
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An estimate of a model that is measured as well, by a fit that still stands; in bits."""

    stored: StoredEstimate
    measured: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rows of one setting, highest emergence first."""

    setting: Setting
    entries: tuple[AnyEntry, ...]

    @property
    def measured(self) -> tuple[Entry, ...]:
        """The rows from activations."""
        return tuple(entry for entry in self.entries if isinstance(entry, Entry))


def places(entries: Sequence[AnyEntry]) -> list[int | None]:
    """The rank of each entry among those that may have one."""
    ranks = count(1)
    return [next(ranks) if entry.may_rank else None for entry in entries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything that records make of rows.

    Attributes:
        tables: measured and estimated rows by setting.
        compared: estimates of models that are measured as well.
        unused: estimates that no longer stand, and why.
        stale_fits: paths of fits of emergence whose rows are no longer what the records say.
    """

    tables: tuple[Standing, ...]
    compared: tuple[Compared, ...]
    unused: tuple[Apart, ...]
    stale_fits: frozenset[str]


def standings(
    stored: Sequence[StoredDigest],
    performances: Sequence[StoredPerformance] = (),
    estimates: Sequence[StoredEstimate] = (),
    fits: Sequence[StoredFit] = (),
    *,
    tasks: Sequence[str] = RANKED_TASKS,
) -> Found:
    """Measured and estimated rows by setting.

    An estimate stands in the largest table of its estimator: that is what fits are made of. It has a row there if its
    model is not measured, the fit behind it is the one on disk and still of these records, its answers are those on
    disk, and the tasks are the ranked ones.
    """
    by_weights, by_name = _performance_index(performances)
    rows: list[tuple[Setting, list[AnyEntry]]] = [
        (setting, [_with_performance(entry, by_weights) for entry in entries])
        for setting, entries in rankings(stored, tasks=tasks)
    ]
    truths = _truths(stored)
    stale = {item.path for item in fits if not _is_current(item, truths.get(item.record.key.estimator, {}))}
    standing_fits = {(item.path, item.record.key.digest()) for item in fits if item.path not in stale}
    answered = [item.record for item in performances]
    compared, unused = [], []
    for item in estimates if tuple(tasks) == RANKED_TASKS else ():
        table = _table_of(item, rows)
        reason = _why_void(item, table, standing_fits, answered)
        if reason is not None or table is None:
            what = f"{item.record.key.model}, estimated from {SHOWN[item.record.key.source]}"
            unused.append(Apart(what=what, reason=str(reason), path=item.path))
        elif (measured := _measured(item, table)) is not None:
            compared.append(Compared(stored=item, measured=measured))
        else:
            key = item.record.key
            table.append(EstimatedEntry(stored=item, performance=by_name.get((key.model, key.base_url, key.mode))))
    return Found(
        tables=tuple(Standing(setting=setting, entries=tuple(_ordered(entries))) for setting, entries in rows),
        compared=tuple(compared),
        unused=tuple(unused),
        stale_fits=frozenset(stale),
    )


SHOWN: dict[Source, Literal["answers", "text"]] = {"performance": "answers", "text": "text"}


def _ordered(entries: Iterable[AnyEntry]) -> list[AnyEntry]:
    return sorted(entries, key=lambda entry: (-entry.bits, entry.name, isinstance(entry, EstimatedEntry), repr(entry)))


def _table_of(item: StoredEstimate, rows: Sequence[tuple[Setting, list[AnyEntry]]]) -> list[AnyEntry] | None:
    tables = [entries for setting, entries in rows if setting.estimator == item.record.key.estimator]
    return max(tables, key=lambda entries: sum(isinstance(entry, Entry) for entry in entries), default=None)


def _why_void(
    item: StoredEstimate,
    table: Sequence[AnyEntry] | None,
    standing_fits: set[tuple[str, str]],
    answered: Sequence[PerformanceRecord],
) -> str | None:
    record = item.record
    again = f"run `bench estimate {record.key.model}` again"
    if table is None:
        return f"no model is measured by {record.key.estimator}"
    if (record.fit, record.key.fit_sha256) not in standing_fits:
        return f"by a fit of other records than are here now; {again}"
    if record.answers_sha256 not in (None, answers_sha256(answers_of(answered, record.key, record.tasks))):
        return f"from other answers than are here now; {again}"
    return None


def _measured(item: StoredEstimate, table: Sequence[AnyEntry]) -> float | None:
    """Emergence of the very weights that answered; of a writer of text, of the model of that name."""
    key = item.record.key
    for entry in table:
        if isinstance(entry, Entry) and entry.name == key.model:
            if key.source == "text" or entry.records[0].record.key.files_sha256 == key.files_sha256:
                return entry.bits
    return None


def _truths(stored: Sequence[StoredDigest]) -> dict[str, dict[str, list[float]]]:
    """By estimator and model, emergence as fits have it: the mean over the ranked lists of that over their seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for setting, items in _group(_ranked(stored, RANKED_TASKS), _setting).items():
        for (model, *_), own in _group(items, _identity).items():
            by_task = _group(own, lambda item: item.record.key.task)
            means = [
                float(np.mean([bits.value_bits for item in same if (bits := item.record.summary[-1].emergence)]))
                for same in by_task.values()
            ]
            found.setdefault(setting.estimator, {}).setdefault(model, []).append(float(np.mean(means)))
    return found


TRUTH_BITS = 1e-3
"""How far a fit's truth may be from a record's: rounding, of means of numbers with six decimals."""


def _is_current(item: StoredFit, truths: Mapping[str, Sequence[float]]) -> bool:
    """Whether the rows of a fit of emergence are those of the records; of other fits that cannot be told here."""
    record = item.record
    if record.key.problem not in ON_TRIAL:
        return True
    rows_stand = all(
        any(abs(row.truth - bits) < TRUTH_BITS for bits in truths.get(row.model, ())) for row in record.rows
    )
    known = {row.model for row in record.rows} | {one.what for one in record.excluded}
    return rows_stand and (record.key.problem != "emergence" or known >= set(truths))


def rankings(
    stored: Sequence[StoredDigest], *, tasks: Sequence[str] = RANKED_TASKS
) -> list[tuple[Setting, list[Entry]]]:
    """Measured entries by setting, highest emergence first, ties by name. Settings come in order of their first record.

    Limited runs, those without an emergence at the last shot, other versions of a task and second records of the same
    run take no part.
    """
    found = []
    for setting, group in _group(_ranked(stored, tasks), _setting).items():
        entries = [entry for items in _group(group, _identity).values() if (entry := _entry(items, tasks)) is not None]
        if entries:
            order = sorted(entries, key=lambda entry: (-entry.emergence[0], entry.model.name, entry.model.revision))
            found.append((setting, order))
    return found


def _ranked(stored: Sequence[StoredDigest], tasks: Sequence[str]) -> list[StoredDigest]:
    """The records that rows are made of, whether or not there are enough of them for one.

    Of a task they all have one version: the one that is shipped with this software if any record has it, else the one
    of most models, the newest of several. So no record displaces all others by what it says of its version.
    """
    whole = [
        item
        for item in stored
        if item.record.is_enumerated
        and item.record.key.limit is None
        and item.record.key.task in tasks
        and item.record.summary[-1].emergence is not None
    ]
    models: dict[tuple[Setting, str], dict[tuple[int, str], set[str]]] = {}
    for item in whole:
        key = item.record.key
        of_task = models.setdefault((_setting(item), key.task), {})
        of_task.setdefault((key.task_version, key.task_hash), set()).add(key.model)
    ranked = {place: _version_ranked(place[1], versions) for place, versions in models.items()}
    return [
        item
        for item in whole
        if ranked[_setting(item), item.record.key.task] == (item.record.key.task_version, item.record.key.task_hash)
    ]


def _version_ranked(task: str, versions: Mapping[tuple[int, str], set[str]]) -> tuple[int, str]:
    """The version and the hash that count, of those that records of a task have, each with its models."""
    if len(versions) > 1 and (shipped := shipped_version(task)) is not None and shipped in versions:
        return shipped
    return max(versions, key=lambda version: (len(versions[version]), version))


def _entry(items: Sequence[StoredDigest], tasks: Sequence[str]) -> Entry | None:
    """The row of one model over the seeds that have every task; None if there is no such seed."""
    by_seed: dict[int, dict[str, StoredDigest]] = {}
    for item in sorted(items, key=lambda item: (item.record.date, item.path)):
        by_seed.setdefault(item.record.key.seed, {})[item.record.key.task] = item  # the latest stands
    complete = {
        seed: [found[task] for task in tasks] for seed, found in sorted(by_seed.items()) if set(found) == set(tasks)
    }
    if not complete:
        return None
    records = tuple(item for seed_items in complete.values() for item in seed_items)
    first = records[0].record

    def over_seeds(*conditions: Condition) -> tuple[float, float] | None:
        means = [mean for seed_items in complete.values() if (mean := mean_over(seed_items, conditions)) is not None]
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
        n_samples=sum(item.record.n_sequences for item in records),
        date=max(item.record.date for item in records)[:10],
        records=records,
    )


def mean_over(
    items: Sequence[StoredDigest], conditions: tuple[Condition, ...], shots: int | None = None
) -> tuple[float, float] | None:
    """Mean over tasks of the first condition minus the second, with its standard error; None if one was refused.

    A measurement that several tasks share (the random words) counts as one source of error, not as several.

    Args:
        shots: after so many demonstrations; None: after the last.
    """
    value = 0.0
    error_of: defaultdict[str, float] = defaultdict(float)
    for sign, condition in zip((1.0, -1.0), conditions, strict=False):
        for item in items:
            row = item.record.summary[-1 if shots is None else shots - 1]
            bits = row.curve[item.record.headline][condition]
            if bits is None:
                return None
            value += sign * bits.value_bits / len(items)
            error_of[item.record.sources[condition]] += bits.error_bits / len(items)
    return value, math.sqrt(sum(error**2 for error in error_of.values()))


_Weights = tuple[str, str, str]
_Service = tuple[str, str | None, str]
_Index = tuple[dict[_Weights, Performance], dict[_Service, Performance]]


def _performance_index(performances: Sequence[StoredPerformance]) -> _Index:
    """By (model, files, dtype) of weights asked here, and by (model, address or None, mode) of whatever was asked."""
    wanted = [item for item in performances if item.record.key.task in PERFORMANCE_TASKS]

    def identity(item: StoredPerformance) -> tuple[str, str, str, str, str, int]:
        key = item.record.key
        return key.model, key.files_sha256 or "", key.dtype or "", key.mode, key.base_url or "", key.seed

    by_weights: dict[_Weights, Performance] = {}
    by_name: dict[_Service, Performance] = {}
    for (model, files, dtype, mode, address, _), items in sorted(_group(wanted, identity).items()):
        found = _performance(items, mode)
        if found is None:
            continue
        if files:
            known = by_weights.get((model, files, dtype))  # completion before chat, the first seed before others
            if known is None or (known.mode, mode) == ("chat", "completion"):
                by_weights[model, files, dtype] = found
        by_name.setdefault((model, address or None, mode), found)  # the first seed
    return by_weights, by_name


def _performance(items: Sequence[StoredPerformance], mode: str) -> Performance | None:
    """None unless every question of every task has an answer."""
    by_task: dict[str, list[StoredPerformance]] = {}
    for item in sorted(items, key=lambda item: (item.record.provenance.date, item.path)):
        by_task.setdefault(item.record.key.task, []).append(item)
    parts, chances, n_questions, used = [], [], 0, []
    for task in PERFORMANCE_TASKS:
        cell = cells_of(by_task[task]).get(PERFORMANCE_SHOTS) if task in by_task else None
        if cell is None or cell.n_failed or cell.accuracy is None or cell.low is None or cell.high is None:
            return None
        parts.append((1 / len(PERFORMANCE_TASKS), Interval(value=cell.accuracy, low=cell.low, high=cell.high)))
        chances.append(cell.chance)
        n_questions += cell.n_questions
        used.append(by_task[task][-1])
    mean, chance = combined(*parts), float(np.mean(chances))
    return Performance(
        above_chance=Interval(value=mean.value - chance, low=mean.low - chance, high=mean.high - chance),
        chance=chance,
        mode=mode,
        n_questions=n_questions,
        records=tuple(used),
    )


def _with_performance(entry: Entry, by_weights: dict[_Weights, Performance]) -> Entry:
    key = entry.records[0].record.key
    return replace(entry, performance=by_weights.get((key.model, key.files_sha256, key.dtype)))


def _setting(item: StoredDigest) -> Setting:
    key = item.record.key
    return Setting(
        preset=key.preset if key.preset != "custom" else f"custom {key.n_shots} of {key.n_names}",
        estimator=key.estimator,
        settings=json.dumps(key.settings, sort_keys=True),
        method_version=key.method_version,
    )


def _identity(item: StoredDigest) -> tuple[str, str, str, int | None]:
    key = item.record.key
    return key.model, key.files_sha256, key.dtype, item.record.bos_token


Item = TypeVar("Item")


def _group(items: Iterable[Item], key_of: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key_of(item), []).append(item)
    return groups
