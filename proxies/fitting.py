"""Which fits are asked for, done one after the other: found again, made, or refused in words."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from bench.errors import UsageError
from bench.fits import FitRecord, ProblemName
from bench.probe_records import ProbeRecord
from bench.progress import Progress
from bench.provenance import Start
from bench.records import first_fault
from bench.store import RejectedFile, Store, StoredProbe
from proxies.features import DEFAULT_ESTIMATOR, Cells, Left, cells, feature_names
from proxies.fits import fit, key_of
from proxies.frames import read_cells
from proxies.published import PublishedScores, read_scores, sibling_cells
from proxies.regression import FEWEST_TASKS, cells_problem, emergence_problem, models_problem, published_problem
from proxies.text_regression import texts_problem
from proxies.validation import Problem

ALL_MODELS = "all models"


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What to fit.

    Attributes:
        problems: which questions; None: those that `targets` or `published` ask, or all on the records.
        targets: models of `cells` fits; none: every published model that was asked on enough tasks.
        features: a set of the configuration, or columns with commas.
        cells: a frame to fit instead of the records.
    """

    results: Path
    problems: tuple[ProblemName, ...] | None = None
    targets: tuple[str, ...] = ()
    features: str | None = None
    estimator: str = DEFAULT_ESTIMATOR
    mode: str = "completion"
    proxies: tuple[str, ...] = ()
    published: Path | None = None
    benchmarks: tuple[str, ...] = ()
    cells: Path | None = None
    seed: int = 0
    given: Cells | None = field(default=None, repr=False)
    """The cells, where they were read already."""
    start: Start = field(default_factory=Start.now)
    before: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Since the request was made."""
        return time.perf_counter() - self.before

    @cached_property
    def frame(self) -> Cells:
        """The cells that everything is fitted on."""
        if self.given is not None:
            return self.given
        if self.cells is not None:
            return Cells(frame=read_cells(self.cells), excluded=())
        if not self.results.is_dir():
            raise UsageError(
                f"there is no results folder {self.results}; run `bench run MODEL` and `bench query MODEL` first"
            )
        store = Store(self.results)
        (stored, rejected), (performances, others) = store.records(), store.performances()
        estimators = sorted({item.record.key.estimator for item in stored})
        if stored and self.estimator not in estimators:
            raise UsageError(
                f"no record is measured by '{self.estimator[:60]}'; there are {', '.join(estimators)}; measure with "
                "`bench run MODEL --estimator NAME`, or choose one of these with --estimator"
            )
        return cells(stored, performances, (*rejected, *others), estimator=self.estimator)

    @cached_property
    def scores(self) -> PublishedScores:
        """Published scores, from the file that is named."""
        assert self.published is not None  # `wanted` asks for them with a file only
        return read_scores(self.published)

    @cached_property
    def stored_probes(self) -> tuple[tuple[StoredProbe, ...], tuple[RejectedFile, ...]]:
        """What small models made of texts, and files there that are no records."""
        return Store(self.results).probes()

    @property
    def probes(self) -> tuple[ProbeRecord, ...]:
        """Records of the text probe."""
        return tuple(item.record for item in self.stored_probes[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOutcome:
    """A fit, where it lies, and the rows that it is of."""

    path: Path
    record: FitRecord
    problem: Problem
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFit:
    """A fit that there are not enough data for, in words."""

    problem: ProblemName
    target: str
    reason: str


def wanted(request: FitRequest) -> list[tuple[ProblemName, str]]:
    """The fits of a request: problem, and target or benchmark.

    Raises:
        UsageError: options that do not go together; features that do not exist.
    """
    feature_names(request.features)
    if request.published is not None:
        if request.targets or request.problems not in (None, ("published",)):
            raise UsageError("--published is a fit of its own; leave out --target and --problem")
        if request.proxies or request.mode != "completion":
            raise UsageError("--proxies and --mode have no say in published scores; leave them out")
        scores = request.scores
        unknown = [name for name in request.benchmarks if name not in scores.benchmarks]
        if unknown:
            raise UsageError(
                f"{request.published} has no scores on {unknown[0]!r}; it has {', '.join(scores.benchmarks)}"
            )
        return [("published", name) for name in request.benchmarks or scores.benchmarks]
    if request.benchmarks or "published" in (request.problems or ()):
        raise UsageError("published scores are read from a file; name it with --published FILE")
    problems = request.problems or (("cells",) if request.targets else _problems_of_records(request))
    if request.targets and "cells" not in problems:
        raise UsageError("--target names the model of a `cells` fit; leave it out, or ask for --problem cells")
    if request.proxies and not {"cells", "texts"} & set(problems):
        raise UsageError("--proxies names whose emergence a `cells` or `texts` fit is from; leave it out")
    if request.features is not None and not {"cells", "models"} & set(problems):
        raise UsageError("--features chooses among those of emergence, for `cells` and `models` fits; leave it out")
    found: list[tuple[ProblemName, str]] = []
    for problem in problems:
        found += [(problem, target) for target in _targets(request, problem)]
    return found


def _problems_of_records(request: FitRequest) -> tuple[ProblemName, ...]:
    """Every question on the records; that on texts where there are probes of any."""
    texts: tuple[ProblemName, ...] = ("texts",) if request.probes else ()
    return ("models", "emergence", *texts, "cells")


def _targets(request: FitRequest, problem: ProblemName) -> tuple[str, ...]:
    """What there is one fit each of: models of `cells`, proxies of `texts`."""
    match problem:
        case "cells":
            return request.targets or asked_enough(request.frame.frame, request.mode)
        case "texts":
            readers = sorted({record.key.model for record in request.probes if record.key.writer})
            if not request.problems:
                return tuple(name for name in readers if not request.proxies or name in request.proxies)
            if not (request.proxies or readers):
                raise UsageError(
                    "no text of a known writer was read by any model; collect text with `bench collect MODEL`, and "
                    "read it with `bench probe --text FILE --writer MODEL`"
                )
            return request.proxies or tuple(readers)
        case _:
            return (ALL_MODELS,)


def asked_enough(frame: pd.DataFrame, mode: str) -> tuple[str, ...]:
    """Published models, and those behind services, that were asked on enough tasks for a fit of their own."""
    rows = frame[(frame["mode"] == mode) & frame["kind"].isin(["published", "unknown"]) & frame["accuracy"].notna()]
    n_tasks = rows.groupby("model")["task"].nunique()
    return tuple(sorted(n_tasks[n_tasks >= FEWEST_TASKS].index))


def problem_of(request: FitRequest, problem: ProblemName, target: str) -> Problem:
    """The rows of one fit.

    Raises:
        UsageError: there are not enough, with the counts.
    """
    frame, features = request.frame.frame, feature_names(request.features)
    match problem:
        case "cells":
            return cells_problem(frame, target=target, features=features, mode=request.mode, proxies=request.proxies)
        case "models":
            return models_problem(frame, features=features, mode=request.mode)
        case "emergence":
            return emergence_problem(frame, mode=request.mode)
        case "texts":
            return texts_problem(frame, request.probes, proxy=target)
        case "published":
            scores = request.scores
            return published_problem(sibling_cells(scores, target), frame, features=features, scores=scores)


def run(request: FitRequest, progress: Progress) -> Iterator[FitOutcome | RefusedFit]:
    """Do all fits; what is on disk for the same rows is found again."""
    store, todo = Store(request.results), wanted(request)
    progress.plan(len(todo))
    for name, target in todo:
        progress.stage(f"{name}, {target}")
        outcome = fit_one(request, name, target, store)
        progress.block(f"{name}, {target}")
        yield outcome


def fit_one(request: FitRequest, name: ProblemName, target: str, store: Store) -> FitOutcome | RefusedFit:
    """One fit, from disk where it is that of the same rows."""
    start, before = Start.now(), time.perf_counter()
    try:
        problem = problem_of(request, name, target)
    except UsageError as error:
        return RefusedFit(problem=name, target=target, reason=str(error))
    features = feature_names(request.features) if name not in ("emergence", "texts") else ()
    mode = {"published": "published", "texts": "text"}.get(name, request.mode)
    key = key_of(
        problem,
        name=name,
        target=target,
        features=features,
        estimator=request.estimator,
        mode=mode,
        seed=request.seed,
        proxies=request.proxies if name == "cells" else (),
    )
    found = store.fit(key)
    if found is not None:
        return FitOutcome(path=store.fit_path(key), record=found, problem=problem, was_there=True)
    try:
        record = fit(problem, key, command=_command(request, name, target), start=start, before=before)
    except ValidationError as error:
        fault = first_fault(error, "the fit")
        reason = f"its numbers are beyond those of a record ({fault}); look for an outlier in what it is fitted on"
        return RefusedFit(problem=name, target=target, reason=reason)
    return FitOutcome(path=store.write_fit(record), record=record, problem=problem, was_there=False)


def left_out(request: FitRequest) -> tuple[Left, ...]:
    """Files and records that are in no row of the frame, and probes that are no records."""
    probes = tuple(Left(what=file.path, reason=file.reason) for file in request.stored_probes[1])
    return (*request.frame.excluded, *probes)


def _command(request: FitRequest, name: ProblemName, target: str) -> str:
    parts = ["bench", "fit"]
    if name == "published":
        parts += ["--published", str(request.published and request.published.name), "--benchmark", target]
    else:
        parts += ["--problem", name] + (["--target", target] if name == "cells" else [])
        parts += ["--proxies", target] if name == "texts" else []
    for option, value, default in (
        ("--features", request.features, None),
        ("--estimator", request.estimator, DEFAULT_ESTIMATOR),
        ("--mode", request.mode, "completion"),
        ("--proxies", "" if name == "texts" else ",".join(request.proxies), ""),
        ("--cells", request.cells and request.cells.name, None),
        ("--seed", str(request.seed), "0"),
    ):
        if value != default:
            parts += [option, str(value)]
    return shlex.join(parts)
