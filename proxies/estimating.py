"""From the records to the estimated emergence of a model that gives no activations."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from bench.errors import UsageError
from bench.estimates import ESTIMATE_SCHEMA, EstimateKey, EstimateRecord, answers_of, answers_sha256
from bench.fits import PERFORMANCE, TEXT_PROBE
from bench.performance import PerformanceRecord
from bench.probe_records import ProbeKey, ProbeRecord
from bench.progress import Progress
from bench.provenance import provenance
from bench.records import rounded
from bench.store import Store
from proxies.fits import Estimate, estimate_emergence, estimate_without
from proxies.fitting import ALL_MODELS, FitOutcome, FitRequest, RefusedFit, fit_one, problem_of
from proxies.regression import SHOTS_READ, emergence_of_models, only, original_of
from proxies.text_regression import probed_alike, read_alike, text_inputs
from proxies.validation import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """An estimate on disk."""

    path: Path
    record: EstimateRecord
    was_there: bool


def estimate_from_performance(request: FitRequest, model: str, *, family: str | None, progress: Progress) -> Estimated:
    """Estimate from the answers of a model, by a fit over the other families.

    Args:
        family: held out; None: that of the measured models of the same name, if there are any.

    Raises:
        UsageError: it was not asked what the fit is on; too few open models; no such family.
    """
    progress.plan(1)
    progress.stage("emergence from performance")
    outcome = fit_one(request, "emergence", ALL_MODELS, Store(request.results))
    progress.block("emergence from performance")
    if isinstance(outcome, RefusedFit):
        raise UsageError(outcome.reason)
    problem, frame = outcome.problem, request.frame.frame
    rows = problem.frame
    answers = only(frame, model, request.mode, served=True)
    family = _family(rows, rows, model, family or _family_before(request, model, answers))
    if family is None and answers["family"].iloc[0] in set(rows["family"]):
        family = str(answers["family"].iloc[0])  # of weights that are here, and were not measured
    errors = next(one for one in outcome.record.errors if one.name == PERFORMANCE)
    estimate = estimate_emergence(problem, errors, answers, model=model, family=family)
    return _kept(request, estimate, outcome, PERFORMANCE, answers=answers, tasks=problem.tasks)


def check_estimable(request: FitRequest, family: str | None, shots: Sequence[int]) -> tuple[str, ...]:
    """See that answers to these numbers of shots would give an estimate, before they are paid for.

    Returns:
        The tasks that it would be from.

    Raises:
        UsageError: they would not; the message says why.
    """
    lacking = [number for number in SHOTS_READ if number not in shots]
    if lacking:
        raise UsageError(
            f"--shots {','.join(map(str, shots))} lacks {' and '.join(map(str, lacking))}, which the estimate is from"
        )
    try:
        problem = problem_of(request, "emergence", ALL_MODELS)
    except UsageError as error:
        raise UsageError(
            f"emergence cannot be estimated from answers in {request.mode} mode with the records in "
            f"{request.results}: {error}"
        ) from error
    _family(problem.frame, problem.frame, "", family)
    return problem.tasks


def estimate_again(request: FitRequest, progress: Progress) -> tuple[list[Estimated], list[str]]:
    """Estimate anew, from answers, every model whose estimate is by a fit that other records have made void.

    Returns:
        The new estimates, and one line for each that cannot be made any more, or is from text.
    """
    store = Store(request.results)
    current = {item.record.key.digest() for item in store.fits()[0]}
    answered = [item.record for item in store.performances()[0]]
    done, left = [], []
    for item in store.estimates()[0]:
        key = item.record.key
        if key.fit_sha256 in current and _has_same_answers(item.record, answered):
            continue
        if key.source == "text":
            left.append(
                f"{key.model}: estimated from text by a fit of before; run `bench estimate` with the text again"
            )
            continue
        alike = replace(request, mode=key.mode, seed=key.seed, given=request.frame)  # reading them takes seconds
        try:
            done.append(estimate_from_performance(alike, key.model, family=key.family, progress=progress))
        except UsageError as error:
            left.append(f"{key.model}: {error}")
    return done, left


def _has_same_answers(record: EstimateRecord, answered: Sequence[PerformanceRecord]) -> bool:
    return record.answers_sha256 in (None, answers_sha256(answers_of(answered, record.key, record.tasks)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFit:
    """The fit of emergence on texts read by one proxy, and how they were read: another text must be read alike."""

    problem: Problem
    outcome: FitOutcome
    reading: ProbeKey
    """Of one of the texts."""


def fit_of_texts(request: FitRequest, *, proxy: str, progress: Progress) -> TextFit:
    """What text is worth, over the writers whose emergence is measured.

    Raises:
        UsageError: too few writers; no text was read by this proxy.
    """
    progress.plan(1)
    progress.stage(f"emergence from text, {proxy}")
    outcome = fit_one(request, "texts", proxy, Store(request.results))
    progress.block(f"emergence from text, {proxy}")
    if isinstance(outcome, RefusedFit):
        raise UsageError(outcome.reason)
    alike, _ = probed_alike(request.probes, proxy)
    return TextFit(problem=outcome.problem, outcome=outcome, reading=alike[0].key)


def estimate_from_text(
    request: FitRequest, fit: TextFit, model: str, record: ProbeRecord, *, family: str | None
) -> Estimated:
    """Estimate from text that a model has written, by a fit over the other families that has not seen that text.

    Args:
        record: of its text, read as those of the fit were.
        family: held out; None: that of the measured models of the same name, if there are any.

    Raises:
        UsageError: the text was read in another way, or is saturated; too few open models; no such family.
    """
    if not read_alike(record.key, fit.reading):
        raise UsageError(
            f"the text of {model} was read in another way than those of the fit, which are held against "
            f"{fit.reading.reference} in {fit.reading.sizes[-1]} windows a side by {fit.reading.model}"
        )
    frame = request.frame.frame
    measured, _ = emergence_of_models(frame, ("emergence",))
    rows = fit.problem.frame
    family = _family(rows, measured, model, family)
    is_own = rows["texts_sha256"].map(lambda texts: record.key.text_sha256 in texts) & (rows["family"] != family)
    problem = replace(fit.problem, frame=rows[~is_own].reset_index(drop=True))
    errors = next(one for one in fit.outcome.record.errors if one.name == TEXT_PROBE)
    estimate = estimate_without(
        problem, errors, text_inputs(record), model=model, family=family, predictor=TEXT_PROBE, source="text"
    )
    return _kept(request, estimate, fit.outcome, TEXT_PROBE, proxy=fit.reading.model)


def _kept(
    request: FitRequest,
    estimate: Estimate,
    outcome: FitOutcome,
    predictor: str,
    *,
    answers: pd.DataFrame | None = None,
    tasks: tuple[str, ...] = (),
    proxy: str | None = None,
) -> Estimated:
    """The record of an estimate, written unless it is on disk already.

    Raises:
        UsageError: a question that it is from has no answer.
    """
    fit, store = outcome.record, Store(request.results)
    files, address = ("", "") if answers is None else (answers["files_sha256"].iloc[0], answers["dtype"].iloc[0])
    comparison = next(one for one in fit.comparisons if one.predictor == predictor)
    baseline = next(one for one in fit.errors if one.name == comparison.baseline)
    key = EstimateKey(
        schema_version=ESTIMATE_SCHEMA,
        model=estimate.model,
        base_url=None if files else address or None,
        files_sha256=files or None,
        source=estimate.source,
        mode="chat" if request.mode == "chat" else "completion",
        proxy=proxy,
        family=estimate.family,
        estimator=fit.key.estimator,
        seed=request.seed,
        fit_sha256=fit.key.digest(),
    )
    asked = answers_of((item.record for item in store.performances()[0]), key, tasks)
    n_failed = sum(cell.n_failed for one in asked for cell in one.cells)
    if n_failed:  # an estimate from the others would be of a run that failed
        raise UsageError(f"{n_failed} questions to {key.model} have no answer; ask them again with `bench query`")
    record = EstimateRecord(
        schema_version=ESTIMATE_SCHEMA,
        key=key,
        value_bits=estimate.value_bits,
        intervals=estimate.intervals,
        spread_bits=estimate.spread_bits,
        inputs={name: rounded(value) for name, value in estimate.inputs.items()},
        tasks=tasks,
        n_questions=estimate.n_questions,
        answers_sha256=None if answers is None else answers_sha256(asked),
        trained_on=estimate.trained_on,
        left_out=estimate.left_out,
        n_families=estimate.n_families,
        error_bits=estimate.errors.mean_absolute_error,
        baseline=comparison.baseline,
        baseline_error_bits=baseline.mean_absolute_error,
        beats_baseline=comparison.beats,
        verdict=comparison.verdict,
        measured_bits=_measured(request.frame.frame, estimate.model, files, is_text=answers is None),
        fit=outcome.path.relative_to(request.results).as_posix(),
        provenance=provenance(
            request.start, command=_command(request, estimate, proxy), device="cpu", seconds=request.seconds()
        ),
    )
    known = store.estimate(record.key)
    if known is not None and known.model_copy(update={"provenance": record.provenance}) == record:
        return Estimated(path=store.estimate_path(known.key), record=known, was_there=True)
    return Estimated(path=store.write_estimate(record), record=record, was_there=False)


def _command(request: FitRequest, estimate: Estimate, proxy: str | None) -> str:
    """A command that estimates the same, without paths of this machine."""
    parts = ["bench", "estimate", estimate.model]
    parts += [] if proxy is None else ["--from-text", "FILE", "--proxy", proxy]
    parts += [] if estimate.family is None else ["--family", estimate.family]
    parts += [] if request.mode == "completion" else ["--mode", request.mode]
    return shlex.join(parts + ([] if request.seed == 0 else ["--seed", str(request.seed)]))


def _family_before(request: FitRequest, model: str, answers: pd.DataFrame) -> str | None:
    """The family that an earlier estimate of the same model was told."""
    here = {str(answers["files_sha256"].iloc[0]), str(answers["dtype"].iloc[0])}
    for item in Store(request.results).estimates()[0]:
        key = item.record.key
        if (key.model, key.source, key.mode) == (model, "performance", request.mode):
            if key.files_sha256 in here or key.base_url in here:
                return key.family
    return None


def _family(rows: pd.DataFrame, measured: pd.DataFrame, model: str, family: str | None) -> str | None:
    """The family to hold out: the one that was named, or that of the measured models of the same name.

    Raises:
        UsageError: none of the rows is of it.
    """
    if family is None:
        known = measured[measured["model"].map(original_of) == original_of(model)]
        return str(known["family"].iloc[0]) if len(known) else None
    if family not in set(rows["family"]):
        known = sorted(set(rows["family"]))
        near = [name for name in known if name.casefold() == family.casefold()] or get_close_matches(family, known, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no family '{family[:80]}' was measured; {meant}there are {', '.join(known)}")
    return family


def _measured(frame: pd.DataFrame, model: str, files: str, *, is_text: bool) -> float | None:
    """Emergence of the very weights that answered; of a writer of text, of the model of that name."""
    rows, _ = emergence_of_models(frame, ("emergence",))
    own = rows[(rows["model"] == model) & (is_text | (rows["files_sha256"] == files))]
    return None if own.empty else rounded(own["emergence"].iloc[0])
