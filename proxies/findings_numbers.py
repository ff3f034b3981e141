"""Records -> the numbers that published findings are held against, each with its 95 % interval.

Emergence is that of the ranked lists, the mean over them, of every model that has all of them at some seed.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from bench.intervals import Z_95, Interval, combined, mean_over_seeds, wilson
from bench.performance import Cell
from bench.records import Bits, Condition, EmergenceRecord, ModelInfo, RecordKey
from bench.store import StoredPerformance, StoredRecord
from bench.suffixes import BITS
from proxies.digests import Digest, digests_of
from proxies.emergence_by_block import by_block
from proxies.performance import cells_of
from proxies.standings import Entry, Setting, rankings
from tasks import RANKED_TASKS

LADDER = ("gpt2-ladder-xs", "gpt2-ladder-s", "gpt2-ladder-m", "gpt2-ladder-l", "gpt2-ladder-xl")
"""One architecture in five sizes, from the smallest. As in `bench.zoo`, which measures and is not imported here."""
ORIGINALS = ("smollm2-135m-instruct", "gemma-3-270m")
"""Published models, of which there are versions in fewer bits. As in `bench.zoo`."""

TEXT = "text-sample"
SHOTS_OF_ACCURACY = 4
"""Demonstrations in a prompt whose answer counts: the most that emergence of lists is measured at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its standard error, in bits or in what its reading says."""

    value: float
    error: float


Runs = Mapping[int, tuple[EmergenceRecord, ...]]
"""By seed, the records that a number is the mean over."""
Reading = Callable[[EmergenceRecord, Condition, int], Estimate | None]
"""A number of one record, in one condition at one number of shots; None where it was refused."""
Cells = Mapping[str, Mapping[int, Cell]]
"""Performance by task and number of shots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of a sum: a condition of some runs at a number of shots."""

    weight: float = 1.0
    runs: Runs
    condition: Condition = "trained"
    n_shots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with its records; `text` is empty where it was not measured."""

    model: ModelInfo
    lists: Runs
    text: Runs

    @property
    def name(self) -> str:
        """As in the catalog."""
        return self.model.name

    @property
    def n_shots(self) -> int:
        """The most demonstrations that every seed has."""
        return _fewest(self.lists)

    @property
    def n_tokens(self) -> int:
        """The most tokens of text that every seed has; 0 where text was not measured."""
        return _fewest(self.text) if self.text else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that the findings are read from."""

    setting: Setting | None
    subjects: Mapping[str, Subject]
    """By name, from the smallest model."""
    refused: frozenset[str]
    """Models whose emergence on a ranked list was refused at the last shot."""
    elsewhere: frozenset[str]
    """Models that are measured under another setting only."""
    performance: Mapping[str, Cells]
    """By name of the model; asked in process, in completion mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's rank correlation and its exact two-sided permutation p-value; `rho` is None of a constant."""

    n: int
    rho: float | None
    p: float
    smallest_p: float
    """Of a perfect order."""


def read(stored: Sequence[StoredRecord], performances: Sequence[StoredPerformance]) -> Measured:
    """The setting that most models were measured under, and what was measured under it.

    Of several measurements of one name that with the most seeds counts, then the latest.
    """
    ranked = rankings(digests_of(stored))
    by_path = {item.path: item.record for item in stored}
    setting, entries = max(ranked, key=lambda found: len(found[1]), default=(None, []))
    everywhere = {entry.model.name for _, found in ranked for entry in found}
    chosen: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (len(entry.seeds), entry.date, entry.model.revision)):
        chosen[entry.model.name] = entry
    order = sorted(chosen.values(), key=lambda entry: (entry.model.n_parameters, entry.model.name))
    subjects = {
        entry.model.name: Subject(model=entry.model, lists=_by_seed(entry, by_path), text=_text(stored, entry))
        for entry in order
    }
    refused = {
        item.record.model.name
        for item in stored
        if item.record.key.task in RANKED_TASKS
        and item.record.key.limit is None
        and item.record.is_enumerated
        and (setting is None or item.record.key.estimator == setting.estimator)
        and item.record.summary[-1].emergence is None
    }
    return Measured(
        setting=setting,
        subjects=subjects,
        refused=frozenset(refused - everywhere),
        elsewhere=frozenset(everywhere - set(subjects)),
        performance=_performance(performances, {name: entry.records[0].record.key for name, entry in chosen.items()}),
    )


def mean_over_blocks(record: EmergenceRecord, condition: Condition, n_shots: int) -> Estimate | None:
    """Emergence as the leaderboard has it."""
    bits: Bits | None = record.summary[n_shots - 1].curve[record.measurements["trained"].headline][condition]
    return None if bits is None else Estimate(value=bits.value_bits, error=bits.error_bits)


def after_first_block(record: EmergenceRecord, condition: Condition, n_shots: int) -> Estimate | None:
    """Emergence over all blocks but the first, which knows nothing at a separator: it weighs most in shallow models."""
    values, errors = by_block(record.measurements[condition], record.summary[n_shots - 1].position)
    if len(values) < 2 or np.isnan(values).any():
        return None
    error = math.sqrt(float(np.square(errors[1:]).sum())) / (len(values) - 1)
    return Estimate(value=float(values[1:].mean()), error=error)


def variance_over_blocks(record: EmergenceRecord, condition: Condition, n_shots: int) -> Estimate | None:
    """Variance of emergence over all blocks but the first, in squared bits; None where those are fewer than two."""
    values, errors = by_block(record.measurements[condition], record.summary[n_shots - 1].position)
    if len(values) < 3 or np.isnan(values).any():
        return None
    return variance_of(values[1:], errors[1:])


def variance_of(values: npt.NDArray[np.float64], errors: npt.NDArray[np.float64]) -> Estimate:
    """Sample variance of numbers that are known up to independent normal errors; it may be below 0, and is not clipped.

    The errors alone make estimates differ, by their mean square on average: that much is taken off. The error is what
    the errors of the numbers make of it. That of the choice of numbers there is none: they are all there are.

    Args:
        values: shape (n,), n at least 2.
        errors: standard errors, shape (n,).

    Source: mean and variance of a quadratic form in normal variables, x'Ax with A the centring matrix over n - 1. Its
    variance is 2 tr(AVAV) + 4 m'AVAm; the means m are not known, and x in their place adds 4 tr(AVAV) on average,
    which is taken off, down to what the variance is where all means are equal. Added is what a score interval (as
    Wilson's is one) has more, since it takes the variance at its ends and not in its middle: without it, intervals of
    few numbers whose spread is about twice their error hold the truth in 80 % of cases.
    """
    n = len(values)
    centring = (np.eye(n) - 1 / n) / (n - 1)
    variances = np.square(errors)
    slopes = centring @ values
    noise = 2 * float(np.sum(np.square(centring) * np.outer(variances, variances)))
    at_the_middle = max(4 * float(np.square(slopes) @ variances) - noise, noise)
    at_the_ends = at_the_middle + (2 * Z_95 * float(variances.mean()) / (n - 1)) ** 2
    return Estimate(value=float(values.var(ddof=1) - variances.mean()), error=math.sqrt(at_the_ends))


def spread_over_blocks(runs: Runs, n_shots: int, condition: Condition = "trained") -> Interval | None:
    """Standard deviation of emergence over all blocks but the first: the root of its variance, mean over records.

    The interval is that of the variance, with the roots of its ends: near 0, where a standard deviation is nothing like
    normal, it is as good as elsewhere. What is below 0 has the root 0, for no spread is.
    """
    variance = contrast(Term(runs=runs, condition=condition, n_shots=n_shots), reading=variance_over_blocks)
    if variance is None:
        return None
    value, low, high = (math.sqrt(max(end, 0.0)) for end in (variance.value, variance.low, variance.high))
    return Interval(value=value, low=low, high=high)


def contrast(*terms: Term, reading: Reading = mean_over_blocks) -> Interval | None:
    """A weighted sum of means over records, over the seeds that all terms have; None if a number of it was refused.

    A measurement that several terms share, as the twin of a model and of its rounded version, is one source of error:
    with opposite weights it cancels.
    """
    seeds = sorted(set.intersection(*(set(term.runs) for term in terms)))
    values, errors = [], []
    for seed in seeds:
        value = 0.0
        error_of: defaultdict[tuple[str, int], float] = defaultdict(float)
        for term in terms:
            records = term.runs[seed]
            for record in records:
                found = reading(record, term.condition, term.n_shots)
                if found is None:
                    return None
                share = term.weight / len(records)
                value += share * found.value
                error_of[record.measurements[term.condition].key.digest(), term.n_shots] += share * found.error
        values.append(value)
        errors.append(math.sqrt(math.fsum(error**2 for error in error_of.values())))
    if not seeds:
        return None
    mean, width = mean_over_seeds(values, errors)
    return Interval(value=mean, low=mean - width, high=mean + width)


def over(runs: Runs, control: Condition, n_shots: int, reading: Reading = mean_over_blocks) -> Interval | None:
    """Emergence of the model minus that of a control."""
    return contrast(
        Term(runs=runs, n_shots=n_shots),
        Term(weight=-1, runs=runs, condition=control, n_shots=n_shots),
        reading=reading,
    )


def gain(
    runs: Runs, n_shots: int, *, condition: Condition = "trained", reading: Reading = mean_over_blocks
) -> Interval | None:
    """What the n-th shot adds to a reading."""
    return contrast(
        Term(runs=runs, condition=condition, n_shots=n_shots),
        Term(weight=-1, runs=runs, condition=condition, n_shots=n_shots - 1),
        reading=reading,
    )


def ceiling(runs: Runs, n_shots: int) -> float | None:
    """What emergence can be at most, the mean over records."""
    found = [record.summary[n_shots - 1].ceiling_bits for records in runs.values() for record in records]
    known = [bits for bits in found if bits is not None]
    return math.fsum(known) / len(known) if len(known) == len(found) else None


def spread_over_tasks(runs: Runs, n_shots: int) -> float | None:
    """Standard deviation over the tasks of their emergence, each the mean over seeds."""
    tasks = list(zip(*runs.values(), strict=True))  # every seed has the same tasks in the same order
    means = [contrast(Term(runs={0: records}, n_shots=n_shots)) for records in tasks]  # the mean over its seeds
    known = [mean.value for mean in means if mean is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(means) > 1 else None


def spread_over_seeds(runs: Runs, n_shots: int) -> float | None:
    """Standard deviation over seeds of emergence; None where one seed has it only."""
    means = [contrast(Term(runs={seed: records}, n_shots=n_shots)) for seed, records in runs.items()]
    known = [mean.value for mean in means if mean is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(means) > 1 else None


def tasks_asked(performance: Mapping[str, Cells], names: Iterable[str]) -> tuple[str, ...]:
    """The tasks on which all these models were asked with as many demonstrations as count."""
    asked = [
        {task for task, cells in performance[name].items() if SHOTS_OF_ACCURACY in cells}
        for name in names
        if name in performance
    ]
    return tuple(sorted(set.intersection(*asked))) if asked else ()


def versions(original: str) -> tuple[str, ...]:
    """A model and what is made of it in fewer bits, from the most."""
    return original, *(f"{original}@int{n_bits}" for n_bits in BITS)


def common_tasks(measured: Measured, original: str) -> tuple[str, ...]:
    """The one set of tasks that accuracies of a model and its versions are compared on: all that are there have it."""
    return tasks_asked(measured.performance, versions(original))


def above_chance(performance: Mapping[str, Cells], name: str, tasks: Sequence[str]) -> Interval | None:
    """Accuracy minus chance, mean over tasks, from Wilson's intervals; None if a task has no answers."""
    found = []
    for task in tasks:
        cell = performance.get(name, {}).get(task, {}).get(SHOTS_OF_ACCURACY)
        if cell is None or cell.accuracy is None or cell.low is None or cell.high is None:
            return None
        accuracy = Interval(value=cell.accuracy, low=cell.low, high=cell.high)
        found.append((1 / len(tasks), accuracy, cell.chance))
    if not found:
        return None
    mean = combined(*((weight, accuracy) for weight, accuracy, _ in found))
    chance = math.fsum(weight * by_chance for weight, _, by_chance in found)
    return Interval(value=mean.value - chance, low=mean.low - chance, high=mean.high - chance)


def repeats(cells: Cells, n_shots: int) -> Interval | None:
    """Share of answers to the ranked lists that were in the prompt already, pooled; None where they were not asked."""
    found = [cells.get(task, {}).get(n_shots) for task in RANKED_TASKS]
    counts = [
        (cell.n_repeats, cell.n_answered)
        for cell in found
        if cell is not None and cell.n_repeats is not None and cell.n_answered
    ]
    if len(counts) < len(RANKED_TASKS):
        return None
    n_repeats, n_answered = (sum(column) for column in zip(*counts, strict=True))
    low, high = wilson(n_repeats, n_answered)
    return Interval(value=n_repeats / n_answered, low=low, high=high)


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> RankCorrelation:
    """Over all orders of up to 8 numbers, which are few enough to be tried one by one."""
    n = len(xs)
    assert n == len(ys) <= 8, "more orders than are tried one by one"
    ranks = [rankdata(numbers) - (n + 1) / 2 for numbers in (xs, ys)]
    scale = math.sqrt(float((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    smallest = min(1.0, 2 / math.factorial(n))
    if scale == 0:
        return RankCorrelation(n=n, rho=None, p=1.0, smallest_p=smallest)
    rho = float(ranks[0] @ ranks[1]) / scale
    others = [float(ranks[0] @ np.array(order)) / scale for order in itertools.permutations(ranks[1])]
    p = sum(abs(other) >= abs(rho) - 1e-9 for other in others) / len(others)
    return RankCorrelation(n=n, rho=rho, p=p, smallest_p=smallest)


def _fewest(runs: Runs) -> int:
    return min(record.key.n_shots for records in runs.values() for record in records)


def _by_seed(entry: Entry, by_path: Mapping[str, EmergenceRecord]) -> Runs:
    """The records of a row of the leaderboard, which come seed by seed."""
    runs: dict[int, tuple[EmergenceRecord, ...]] = {}
    for item in entry.records:
        runs[item.record.key.seed] = (*runs.get(item.record.key.seed, ()), by_path[item.path])
    return runs


def _text(stored: Sequence[StoredRecord], entry: Entry) -> Runs:
    """Of the same weights and settings, one population of text at one size; the latest record of each seed.

    Of several the newest version of the text counts, then the preset of the lists, then that with the most seeds, then
    the latest.
    """
    first = entry.records[0].record

    def identity(record: EmergenceRecord | Digest) -> tuple[object, ...]:
        key = record.key
        settings = json.dumps(key.settings, sort_keys=True)
        return key.model, key.files_sha256, key.dtype, record.bos_token, key.estimator, settings, key.method_version

    found: defaultdict[tuple[object, ...], dict[int, EmergenceRecord]] = defaultdict(dict)
    for item in sorted(stored, key=lambda item: (item.record.provenance.date, item.path)):
        key = item.record.key
        if key.task == TEXT and key.limit is None and identity(item.record) == identity(first):
            population = key.task_version, key.task_hash, key.preset, key.n_names, key.n_shots
            found[population].pop(key.seed, None)  # so that the latest is the last
            found[population][key.seed] = item.record

    def preference(population: tuple[object, ...]) -> tuple[object, ...]:
        runs = list(found[population].values())
        last = runs[-1]
        is_alike = last.key.preset == first.key.preset
        return last.key.task_version, is_alike, len(runs), last.provenance.date, population

    chosen = found[max(found, key=preference)] if found else {}
    return {seed: (record,) for seed, record in sorted(chosen.items())}


def _performance(stored: Sequence[StoredPerformance], measured: Mapping[str, RecordKey]) -> dict[str, Cells]:
    """By model, the answers of the files whose emergence is measured; where there are none of those, the latest.

    Of several seeds of the same files the first.

    Args:
        measured: by model, a key of its emergence.
    """
    by_files: defaultdict[str, defaultdict[tuple[object, ...], list[StoredPerformance]]]
    by_files = defaultdict(lambda: defaultdict(list))
    for item in sorted(stored, key=lambda item: (item.record.provenance.date, item.path)):
        key = item.record.key
        if key.mode == "completion" and key.provider == "local":
            by_files[key.model][key.files_sha256, key.dtype, key.seed].append(item)

    def preference(items: Sequence[StoredPerformance]) -> tuple[object, ...]:
        last = items[-1]
        key, wanted = last.record.key, measured.get(last.record.key.model)
        is_same = wanted is not None and key.files_sha256 == wanted.files_sha256
        is_same_dtype = wanted is not None and key.dtype == wanted.dtype
        return is_same, is_same and is_same_dtype, -key.seed if is_same else 0, last.record.provenance.date, last.path

    found: dict[str, Cells] = {}
    for model, groups in sorted(by_files.items()):
        by_task: defaultdict[str, list[StoredPerformance]] = defaultdict(list)
        for item in max(groups.values(), key=preference):
            by_task[item.record.key.task].append(item)
        found[model] = {task: cells_of(items) for task, items in sorted(by_task.items())}
    return found


def half(interval: Interval) -> float:
    """Half the width of an interval."""
    return (interval.high - interval.low) / 2
