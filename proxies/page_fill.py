"""The board -> what its page shows. Reads the records behind the measured rows once more, for their matrices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from bench.errors import RecordError
from bench.fits import ON_TRIAL, Comparison, FitRecord
from bench.intervals import Interval, mean_over_seeds
from bench.progress import Progress
from bench.records import Condition, EmergenceRecord
from bench.store import Store, StoredFit, StoredPerformance, read_row
from proxies.board import Board
from proxies.digests import StoredDigest
from proxies.emergence_by_block import by_position
from proxies.fit_report import ORDER, heading
from proxies.kinds import made_from_another
from proxies.leaderboard import described, difference_of, is_above, notes, precision_of, record_name, title
from proxies.page_data import (
    AccuracyCurve,
    AccuracyPoint,
    Apart,
    BoardTable,
    FitBehind,
    FitPlot,
    FitPoint,
    Grid,
    HeatMap,
    Link,
    ModelRow,
    Number,
    PageData,
    ShotPoint,
)
from proxies.performance import cells_of
from proxies.standings import SHOWN, AnyEntry, Entry, EstimatedEntry, Performance, mean_over, places
from tasks import PERFORMANCE_TASKS

INTRODUCTION = (
    "Emergence in bits: how much more a transformer block carries about a whole list than about its tokens one by one "
    "(arXiv 2405.12617).\n\nIt says that the sequence got through the block, not that it was understood: compare each "
    "number with its ceiling, with the same architecture untrained, and with lists of random words."
)


def page_data(board: Board, store: Store, out: Path, progress: Progress) -> PageData:
    """Everything on the page.

    Args:
        out: where the page will lie: links are relative to it.
    """
    filler = _Filler(board, store, out, progress)
    return PageData(
        title="Emergence leaderboard",
        introduction=INTRODUCTION,
        tables=tuple(
            BoardTable(
                title=title(standing),
                remark=described(standing),
                rows=tuple(
                    filler.row(place, entry)
                    for place, entry in zip(places(standing.entries), standing.entries, strict=True)
                ),
            )
            for standing in board.tables
        ),
        fits=tuple(filler.plots()),
        apart=tuple(filler.apart()),
        notes=tuple((name, text.replace("`", "")) for name, text in notes(board)),
    )


class _Filler:
    def __init__(self, board: Board, store: Store, out: Path, progress: Progress) -> None:
        self._board, self._store, self._progress = board, store, progress
        self._results = PurePosixPath(Path(os.path.relpath(store.root, out.parent)).as_posix())
        self._answers: dict[tuple[str, str], list[StoredPerformance]] = {}
        for item in board.performances:
            key = item.record.key
            self._answers.setdefault((key.model, key.files_sha256 or ""), []).append(item)
        progress.plan(sum(len(table.measured) for table in board.tables))

    def _link(self, text: str, path: str) -> Link:
        return Link(text=text, path=str(self._results / path))

    def row(self, rank: int | None, entry: AnyEntry) -> ModelRow:
        return self._estimated(rank, entry) if isinstance(entry, EstimatedEntry) else self._measured(rank, entry)

    def _measured(self, rank: int | None, entry: Entry) -> ModelRow:
        model, key = entry.model, entry.records[0].record.key
        maps = tuple(self._heat_map(item) for item in entry.records if item.record.key.seed == entry.seeds[0])
        self._progress.block("heat maps")
        return ModelRow(
            rank=rank,
            name=model.name,
            family=model.family,
            n_parameters=model.n_parameters,
            type=model.variant,
            made_from=made_from_another(model.name),
            precision=precision_of(entry),
            bos=entry.bos,
            revision=model.revision,
            kind="measured",
            emergence=Number(
                value=entry.emergence[0], half_width=entry.emergence[1], remark="!" if is_above(entry) else ""
            ),
            ceiling=entry.ceiling,
            over_twin=_number(entry.over_twin, n_seeds=len(entry.seeds)),
            over_random_words=_number(entry.over_random_words, n_seeds=len(entry.seeds)),
            performance=_performance(entry.performance),
            n_samples=entry.n_samples,
            n_seeds=len(entry.seeds),
            date=entry.date,
            source=model.source,
            licence=model.licence,
            records=tuple(self._link(record_name(item, entry), item.path) for item in entry.records),
            behind=None,
            heat_maps=tuple(one for one in maps if one is not None),
            shots=_shots(entry),
            accuracies=_accuracies(self._answers.get((key.model, key.files_sha256), [])),
        )

    def _estimated(self, rank: int | None, entry: EstimatedEntry) -> ModelRow:
        record = entry.stored.record
        between = record.intervals.get("80")
        key = record.key
        asked = [
            item
            for item in self._answers.get((entry.name, key.files_sha256 or ""), [])
            if item.record.key.base_url == key.base_url
        ]
        return ModelRow(
            rank=rank,
            name=entry.name,
            family=entry.family,
            n_parameters=None,
            type=None,
            made_from=None,
            precision=None,
            bos=None,
            revision=None,
            kind="estimated",
            emergence=Number(value=record.value_bits, half_width=None),
            ceiling=None,
            over_twin=None,
            over_random_words=None,
            performance=_performance(entry.performance),
            n_samples=record.n_questions,
            n_seeds=None,
            date=entry.date,
            source=", ".join(sorted({item.record.key.base_url or item.record.key.provider for item in asked})),
            licence="",
            records=(self._link("estimate", entry.stored.path),),
            behind=FitBehind(
                fit=self._link("fit", record.fit),
                source=SHOWN[record.key.source],
                error_bits=record.error_bits,
                baseline=record.baseline,
                baseline_error_bits=record.baseline_error_bits,
                n_models=len(record.trained_on),
                n_families=record.n_families,
                beats_baseline=record.beats_baseline,
                interval_80=None if between is None else (between.low, between.high),
                measured_bits=record.measured_bits,
                verdict=record.verdict,
            ),
            heat_maps=(),
            shots=(),
            accuracies=_accuracies(asked),
        )

    def _heat_map(self, item: StoredDigest) -> HeatMap | None:
        """None where the record went away since its digest was made."""
        try:
            record = read_row(self._store.root / item.path, EmergenceRecord)
        except (FileNotFoundError, RecordError):
            return None
        grids = {name: by_position(measurement) for name, measurement in record.measurements.items()}
        return HeatMap(
            task=record.key.task,
            emergence=_grid(grids["trained"][0]),
            ceiling=_grid(grids["trained"][1]),
            untrained_twin=_grid(grids["untrained_twin"][0]),
            random_words=_grid(grids["random_words"][0]),
            closing=tuple(row.position for row in record.summary),
        )

    def plots(self) -> list[FitPlot]:
        """Of every fit that has something on trial."""
        fits = sorted(
            (item for item in self._board.fits if item.record.comparisons),
            key=lambda item: (ORDER.index(item.record.key.problem), item.record.key.target, item.path),
        )
        return [self._plot(item) for item in fits]

    def _plot(self, item: StoredFit) -> FitPlot:
        record = item.record
        comparison = _comparison(record)
        predictor = comparison.predictor
        points = []
        for row in record.rows:
            said = row.predictions.get(predictor)
            if said is None:
                continue
            between = row.intervals.get(predictor, {}).get("80")
            cell = f", {row.task} at {row.n_shots} shots" if row.task and record.key.problem == "cells" else ""
            points.append(
                FitPoint(
                    label=row.model + cell,
                    family=row.family
                    if record.fold_unit == "family"
                    else f"{row.n_shots} shot" + ("" if row.n_shots == 1 else "s"),
                    truth=row.truth,
                    predicted=said,
                    low=None if between is None else between.low,
                    high=None if between is None else between.high,
                )
            )
        return FitPlot(
            title=heading(record),
            unit=record.unit,
            predictor=predictor,
            points=tuple(points),
            errors=tuple((one.name, one.mean_absolute_error) for one in record.errors),
            verdict=comparison.verdict,
            record=self._link("record", item.path),
        )

    def apart(self) -> list[Apart]:
        """Everything without a row."""
        return [
            Apart(
                what=one.what,
                reason=one.reason,
                record=None if one.path is None else self._link("record", one.path),
            )
            for one in self._board.apart
        ]


def _comparison(record: FitRecord) -> Comparison:
    """Of what is on trial, alone."""
    wanted = ON_TRIAL.get(record.key.problem)
    return next((one for one in record.comparisons if one.predictor == wanted), record.comparisons[0])


def _grid(values: npt.NDArray[np.float64]) -> Grid:
    return tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in values)


def _number(pair: tuple[float, float] | None, *, n_seeds: int) -> Number | None:
    if pair is None:
        return None
    return Number(value=pair[0], half_width=pair[1], remark=difference_of(pair, n_seeds=n_seeds))


def _performance(performance: Performance | None) -> Number | None:
    if performance is None:
        return None
    above: Interval = performance.above_chance
    mode = "" if performance.mode == "completion" else performance.mode
    return Number(value=above.value, half_width=above.longer_half, remark=mode)


def _shots(entry: Entry) -> tuple[ShotPoint, ...]:
    by_seed: dict[int, list[StoredDigest]] = {}
    for item in entry.records:
        by_seed.setdefault(item.record.key.seed, []).append(item)
    n_shots = min(item.record.key.n_shots for item in entry.records)
    found = [_shot(shots, list(by_seed.values())) for shots in range(1, n_shots + 1)]
    return tuple(point for point in found if point is not None)


def _shot(shots: int, seeds: Sequence[Sequence[StoredDigest]]) -> ShotPoint | None:
    """None where the estimator refused what it needs."""

    def over(condition: Condition) -> tuple[float, float] | None:
        means = [mean for items in seeds if (mean := mean_over(items, (condition,), shots)) is not None]
        return mean_over_seeds(*zip(*means, strict=True)) if len(means) == len(seeds) else None

    trained, twin, words = over("trained"), over("untrained_twin"), over("random_words")
    ceilings = [item.record.summary[shots - 1].ceiling_bits for items in seeds for item in items]
    known = [bits for bits in ceilings if bits is not None]
    if trained is None or len(known) < len(ceilings):
        return None
    return ShotPoint(
        n_shots=shots,
        emergence=Number(value=trained[0], half_width=trained[1]),
        ceiling=float(np.mean(known)),
        untrained_twin=None if twin is None else twin[0],
        random_words=None if words is None else words[0],
    )


def _accuracies(asked: Sequence[StoredPerformance]) -> tuple[AccuracyCurve, ...]:
    """One curve a task and mode; the tasks that make the mean first."""
    groups: dict[tuple[bool, str, str], list[StoredPerformance]] = {}
    for item in sorted(asked, key=lambda item: (item.record.key.seed, item.record.provenance.date, item.path)):
        key = item.record.key
        groups.setdefault((key.task not in PERFORMANCE_TASKS, key.task, key.mode), []).append(item)
    return tuple(
        AccuracyCurve(
            task=task,
            mode=mode,
            points=tuple(
                AccuracyPoint(
                    n_shots=n_shots,
                    accuracy=cell.accuracy,
                    low=cell.low,
                    high=cell.high,
                    chance=cell.chance,
                    n_questions=cell.n_answered,
                )
                for n_shots, cell in sorted(cells_of(items).items())
                if cell.accuracy is not None and cell.low is not None and cell.high is not None
            ),
        )
        for (_, task, mode), items in sorted(groups.items())
    )
