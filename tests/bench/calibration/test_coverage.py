"""Coverage experiments: what is counted, what the targets are, and that everything follows from the seed."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.calibration.codes import HypercubeCodes, hypercube_information
from bench.calibration.coverage import (
    EXPERIMENTS,
    N_QUICK_SEEDS,
    Experiment,
    RandomCodes,
    coverage_experiments,
    n_covered,
    noisy_truth,
    run_experiment,
)
from bench.calibration.results import CoverageResult
from bench.calibration.samplers import DenseGaussian, GaussianLatents, LowRank
from bench.errors import EstimationError, Refusal
from bench.estimators import ESTIMATORS, Estimator, Pairs
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import exact_information
from bench.estimators.gaussian import Gaussian
from bench.estimators.mine_paper import MinePaper
from bench.estimators.noisy_channel import NoisyChannel
from bench.provenance import Start

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""

START = Start(date="2026-01-01T00:00:00+00:00", commit=None)

CROSSFIT = CrossfitNCE(n_folds=2, n_steps=25, batch_size=64)
MINE = MinePaper(n_epochs=150, n_samples=225, learning_rate=5e-3, hidden_width=8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of critics this small a second thread makes ten times the work when another program holds its core."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def small(estimator: Estimator, n_seeds: int, bits: float = 2.0) -> Experiment:
    sampler = LowRank(latents=GaussianLatents(truth_bits=bits, rank=2), d_model=4)
    return Experiment(sampler=sampler, estimator=estimator, n_samples=300, n_seeds=n_seeds, reading=estimator.headline)


def run(experiment: Experiment, first_seed: int = 0) -> CoverageResult:
    return run_experiment(experiment, first_seed=first_seed, start=START)


def numbers(result: CoverageResult) -> dict[str, object]:
    return result.model_dump(exclude={"seconds", "provenance"})


def test_every_estimator_with_an_interval_has_three_samplers_and_a_hundred_seeds() -> None:
    assert set(EXPERIMENTS) <= set(ESTIMATORS)
    full = coverage_experiments(False, tuple(EXPERIMENTS))
    for name in ("noisy_channel", "gaussian", "crossfit_nce", "mine_paper"):
        own = [experiment for experiment in full if experiment.estimator.name == name]
        assert len({experiment.case for experiment in own}) == len(own) == 3
        assert all(experiment.n_seeds >= 100 for experiment in own)
    assert len({experiment.key(0).digest() for experiment in full}) == len(full)
    assert all(experiment.reading in experiment.estimator.labels for experiment in full)


def test_quick_experiments_are_one_of_the_full_ones_with_twelve_seeds() -> None:
    for name, experiments in EXPERIMENTS.items():
        (quick,) = coverage_experiments(True, (name,))
        assert quick.n_seeds == N_QUICK_SEEDS
        assert replace(quick, n_seeds=experiments[0].n_seeds) == experiments[0]
        assert quick.command(3) == f"bench calibrate --part coverage --estimator {name} --seed 3 --quick"
        assert experiments[0].command(3) == f"bench calibrate --part coverage --estimator {name} --seed 3"
    assert coverage_experiments(True, ("exact",)) == coverage_experiments(False, ()) == ()


def test_enumerated_populations_are_as_large_as_stated_and_lose_some_information_to_the_noise() -> None:
    for experiment in EXPERIMENTS["noisy_channel"]:
        pairs = experiment.sampler.draw(1, np.random.default_rng(0))
        assert pairs.n_samples == experiment.n_samples
        assert exact_information(pairs) == pytest.approx(experiment.sampler.truth_nats)
        found = experiment.estimator.estimate(pairs, np.random.default_rng(0)).readings[experiment.reading]
        assert 0.3 < found.value_nats / experiment.sampler.truth_nats < 0.97


@pytest.mark.parametrize("name", ["noisy_channel", "gaussian"])
def test_quick_experiments_give_twelve_values_around_the_truth(name: str) -> None:
    (experiment,) = coverage_experiments(True, (name,))
    result = run(experiment)
    assert len(result.values_bits) == len(set(result.values_bits)) == N_QUICK_SEEDS
    assert set(result.targets_bits) == {result.truth.value_bits}
    errors = np.array(result.values_bits) - result.truth.value_bits
    spread = np.array(result.errors_bits)
    assert (np.abs(errors) <= FOUR_SIGMA * spread).all()
    assert abs(errors.mean()) <= FOUR_SIGMA * spread.mean() / math.sqrt(N_QUICK_SEEDS)
    assert result.n_covered == int((np.abs(errors) <= 1.644854 * spread).sum())
    assert result.key == experiment.key(0) and result.reading == experiment.reading
    assert result.provenance.command == experiment.command(0) and result.provenance.date == START.date


@pytest.mark.parametrize("estimator", [NoisyChannel(n_draws=50), Gaussian(), CROSSFIT, MINE], ids=lambda it: it.name)
def test_everything_follows_from_the_seeds(estimator: Estimator) -> None:
    """Seeds 1 and 2 give the same numbers whether they come first or second."""
    experiment = small(estimator, 2)
    if isinstance(estimator, NoisyChannel):
        experiment = replace(experiment, sampler=HypercubeCodes(k=4, d_model=8), n_samples=16)
    first, again, later = run(experiment), run(experiment), run(experiment, first_seed=1)
    assert numbers(first) == numbers(again)
    assert first.values_bits[1] == later.values_bits[0] != first.values_bits[0]
    assert first.targets_bits[1] == later.targets_bits[0]
    assert later.key.seed == 1


@pytest.mark.parametrize("estimator", [CROSSFIT, MINE], ids=lambda it: it.name)
def test_trained_critics_are_held_to_their_own_value_and_not_to_the_truth(estimator: Estimator) -> None:
    """A lower bound in expectation, so no target passes the truth by more than the error of 25 fresh batches."""
    result = run(small(estimator, 12))
    values, errors, targets = map(np.array, (result.values_bits, result.errors_bits, result.targets_bits))
    assert len(set(targets)) == 12 and result.truth.value_bits == pytest.approx(2)
    assert (targets <= result.truth.value_bits + FOUR_SIGMA * errors / 5).all()
    assert targets.mean() < result.truth.value_bits - 0.05  # few steps: they do not find all
    assert targets.mean() > 0.1  # but something
    # Values scatter about their targets with the stated errors, known to 1 / sqrt(24) = 20 % from 12 seeds.
    scores = (values - targets) / errors
    assert abs(scores.mean()) <= FOUR_SIGMA / math.sqrt(12)
    assert scores.std(ddof=1) <= 1 + FOUR_SIGMA * 0.2
    assert result.n_covered == n_covered(values, errors, targets) >= 6  # of 12 at 90 %: below in one of 20,000


def test_where_there_is_nothing_critics_are_held_to_nothing() -> None:
    """A fixed critic expects at most 0 of unrelated rows; the best that it can say is nothing at all."""
    result = run(small(CROSSFIT, 4, bits=0.0))
    assert (np.array(result.targets_bits) <= FOUR_SIGMA * np.array(result.errors_bits) / 5).all()


def test_intervals_are_counted() -> None:
    """value ± 1.6449 errors: the second and the last miss their targets; 2 of 4 hold the mean 2.5."""
    values, errors = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.1, 1.0, 0.5])
    targets = np.array([2.6, 2.17, 1.4, 4.9])
    assert n_covered(values, errors, targets) == 2
    assert n_covered(values, errors, np.full(4, values.mean())) == 2


class SilentCube:
    """A cube that does not say what survives the noise, so that it has to be integrated."""

    def __init__(self, cube: HypercubeCodes) -> None:
        self._cube = cube

    name = "silent-cube"
    description = "a cube"
    population = "enumerated"
    truth_error_nats = 0.0

    @property
    def truth_nats(self) -> float:
        return self._cube.truth_nats

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        return self._cube.draw(n_samples, rng)


@pytest.mark.parametrize("scale", [0.16, 0.32])
def test_an_integrated_truth_is_that_in_closed_form(scale: float) -> None:
    cube = HypercubeCodes(k=6, d_model=8)
    closed, integrated = (noisy_truth(sampler, NoisyChannel(), f"s={scale}") for sampler in (cube, SilentCube(cube)))
    assert closed.value_nats == hypercube_information(6, scale) and closed.standard_error_nats == 0
    assert 0 < integrated.standard_error_nats <= 0.005 * math.log(2) * 1.01
    assert abs(integrated.value_nats - closed.value_nats) <= FOUR_SIGMA * integrated.standard_error_nats


def test_random_codes_share_inputs() -> None:
    codes = RandomCodes(n_inputs=5, n_codes=20, d_model=3)
    pairs = codes.draw(1, np.random.default_rng(0))
    assert np.bincount(pairs.input_labels).tolist() == [4] * 5 and pairs.output_labels.max() == 19
    assert exact_information(pairs) == pytest.approx(codes.truth_nats) == pytest.approx(math.log(5))
    assert torch.equal(pairs.outputs, codes.draw(7, np.random.default_rng(1)).outputs)
    other = RandomCodes(n_inputs=5, n_codes=20, d_model=3, structure_seed=1)
    assert not (pairs.outputs == other.draw(1, np.random.default_rng(0)).outputs).any()
    assert (codes.name, other.name) == ("random-codes-20of5-3d", "random-codes-20of5-3d-structure1")
    with pytest.raises(EstimationError, match="equally many codes each, got 20 codes of 6"):
        RandomCodes(n_inputs=6, n_codes=20, d_model=3)


def test_a_refusal_ends_the_experiment() -> None:
    sampler = DenseGaussian(d_model=16, truth_bits=2)
    experiment = Experiment(sampler=sampler, estimator=Gaussian(), n_samples=50, n_seeds=2, reading="gaussian")
    with pytest.raises(Refusal, match="16 dimensions need at least 160 samples, got 50"):
        run(experiment)


def test_progress_is_told_of_each_seed() -> None:
    told: list[str] = []
    run_experiment(small(Gaussian(), 3), start=START, progress=told.append)
    assert told == [f"low-rank-gaussian-4d-2bit-rank2, gaussian: seed {seed} of 3" for seed in (1, 2, 3)]
