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

from bench.intervals import mean_over_seeds, wilson
from bench.performance import Cell
from bench.records import Bits, Condition, EmergenceRecord, Measurement, ModelInfo, as_array
from bench.store import StoredPerformance, StoredRecord
from proxies.leaderboard import Entry, Setting, rankings
from proxies.performance import by_subject, cells_of
from tasks import RANKED_TASKS

LADDER = ("gpt2-ladder-xs", "gpt2-ladder-s", "gpt2-ladder-m", "gpt2-ladder-l", "gpt2-ladder-xl")
"""One architecture and one training in five sizes, from the smallest."""
ORIGINALS = ("smollm2-135m-instruct", "gemma-3-270m")
"""Published models, of which there are versions in fewer bits."""
N_BITS = (8, 4, 3, 2)

TEXT = "text-sample"
SHOTS_OF_ACCURACY = 4
"""Demonstrations in a prompt whose answer counts: the most that emergence of lists is measured at."""

RESOLUTION = 1e-6
"""Records keep 6 decimals: what is smaller is rounding."""

Runs = Mapping[int, tuple[EmergenceRecord, ...]]
"""By seed, the records that a number is the mean over."""
Reading = Callable[[EmergenceRecord, Condition, int], Bits | None]
"""A number of one record, in one condition at one number of shots; None where it was refused."""
Cells = Mapping[str, Mapping[int, Cell]]
"""Performance by task and number of shots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with both ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is on one side of 0, and 0 where it holds 0."""
        return 1 if self.low > RESOLUTION else -1 if self.high < -RESOLUTION else 0


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
    ranked = rankings(stored)
    setting, entries = max(ranked, key=lambda found: len(found[1]), default=(None, []))
    everywhere = {entry.model.name for _, found in ranked for entry in found}
    chosen: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (len(entry.seeds), entry.date, entry.model.revision)):
        chosen[entry.model.name] = entry
    order = sorted(chosen.values(), key=lambda entry: (entry.model.n_parameters, entry.model.name))
    subjects = {
        entry.model.name: Subject(model=entry.model, lists=_by_seed(entry), text=_text(stored, entry))
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
        performance=_performance(performances),
    )


def combined(*terms: tuple[float, Interval]) -> Interval:
    """The weighted sum of independent numbers: the distances to their ends add up in quadrature, each end by itself.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures" (MOVER). Of symmetric
    intervals it is the usual one; of two proportions with Wilson's it is Newcombe's.
    """
    value = math.fsum(weight * term.value for weight, term in terms)
    below, above = 0.0, 0.0
    for weight, term in terms:
        to_ends = weight * (term.low - term.value), weight * (term.high - term.value)
        below += min(to_ends) ** 2
        above += max(to_ends) ** 2
    return Interval(value=value, low=value - math.sqrt(below), high=value + math.sqrt(above))


def mean_over_blocks(record: EmergenceRecord, condition: Condition, n_shots: int) -> Bits | None:
    """Emergence as the leaderboard has it."""
    return record.summary[n_shots - 1].curve[record.measurements["trained"].headline][condition]


def after_first_block(record: EmergenceRecord, condition: Condition, n_shots: int) -> Bits | None:
    """Emergence over all blocks but the first, which knows nothing at a separator: it weighs most in shallow models."""
    values, errors = by_block(record.measurements[condition], record.summary[n_shots - 1].position)
    if len(values) < 2 or np.isnan(values).any():
        return None
    error = math.sqrt(float(np.square(errors[1:]).sum())) / (len(values) - 1)
    return Bits(value_bits=float(values[1:].mean()), error_bits=error)


def spread_over_blocks(record: EmergenceRecord, condition: Condition, n_shots: int) -> Bits | None:
    """Standard deviation of emergence over all blocks but the first; None where those are fewer than two.

    Its error is what the errors of the blocks make of it. That of the choice of blocks there is none: they are all.
    """
    values, errors = by_block(record.measurements[condition], record.summary[n_shots - 1].position)
    values, errors = values[1:], errors[1:]
    if len(values) < 2 or np.isnan(values).any():
        return None
    deviations, spread = values - values.mean(), float(values.std(ddof=1))
    slopes = deviations / ((len(values) - 1) * spread) if spread > 0 else np.ones_like(values)
    return Bits(value_bits=spread, error_bits=math.sqrt(float(np.square(slopes * errors).sum())))


def by_block(measurement: Measurement, position: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Emergence of every block at one position in bits, and its standard errors; NaN where a cell was refused.

    Equal to a column of `bench.summary.emergence_of`.
    """
    macro, micro = measurement.macro[measurement.headline], measurement.micro[measurement.headline]
    columns = measurement.micro_of_position[: position + 1]
    shares = np.bincount(columns) / len(columns)
    used = np.flatnonzero(shares)
    micro_values, micro_errors = (as_array(part)[:, used] for part in (micro.values_bits, micro.errors_bits))
    values = as_array(macro.values_bits)[:, position] - micro_values @ shares[used]
    variances = np.square(as_array(macro.errors_bits)[:, position]) + np.square(micro_errors) @ np.square(shares[used])
    return values, np.sqrt(variances)


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
                bits = reading(record, term.condition, term.n_shots)
                if bits is None:
                    return None
                share = term.weight / len(records)
                value += share * bits.value_bits
                error_of[record.measurements[term.condition].key.digest(), term.n_shots] += share * bits.error_bits
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


def _by_seed(entry: Entry) -> Runs:
    """The records of a row of the leaderboard, which come seed by seed."""
    runs: dict[int, tuple[EmergenceRecord, ...]] = {}
    for item in entry.records:
        runs[item.record.key.seed] = (*runs.get(item.record.key.seed, ()), item.record)
    return runs


def _text(stored: Sequence[StoredRecord], entry: Entry) -> Runs:
    """Of the same weights and settings, the newest version of the text; the latest record of each seed."""
    first = entry.records[0].record

    def identity(record: EmergenceRecord) -> tuple[object, ...]:
        key = record.key
        settings = json.dumps(key.settings, sort_keys=True)
        return key.model, key.files_sha256, key.dtype, record.bos_token, key.estimator, settings, key.method_version

    found = [
        item.record
        for item in sorted(stored, key=lambda item: (item.record.provenance.date, item.path))
        if item.record.key.task == TEXT and item.record.key.limit is None and identity(item.record) == identity(first)
    ]
    newest = max((record.key.task_version for record in found), default=0)
    return {record.key.seed: (record,) for record in found if record.key.task_version == newest}


def _performance(stored: Sequence[StoredPerformance]) -> dict[str, Cells]:
    """Of several seeds the first."""
    found: dict[str, Cells] = {}
    for subject, tasks in by_subject(stored).items():
        if subject.mode == "completion" and subject.provider == "local":
            found.setdefault(subject.model, {task: cells_of(items) for task, items in tasks.items()})
    return found


def half(interval: Interval) -> float:
    """Half the width of an interval."""
    return (interval.high - interval.low) / 2
