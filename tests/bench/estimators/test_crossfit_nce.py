"""InfoNCE against a slow twin and the spread of fresh samples; folds, principal components and the stack of critics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.errors import EstimationError, Refusal
from bench.estimators import Pairs, pair_up
from bench.estimators.critics import HEADS, MIN_INPUTS_PER_FOLD, Training, View, combine, cross_fit, deal, weigh
from bench.estimators.crossfit_nce import CrossfitNCE, draw_rows, held_out_error, infonce, infonce_loss

BIT = math.log(2)

FOUR_SIGMA = 4.0
"""Tolerance in standard errors: one false alarm in 16,000."""


def uniform(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


def some_weights(n: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).uniform(0.2, 1.8, n)
    return weights / weights.sum()


def entropy(weights: np.ndarray) -> float:
    return -float(weights @ np.log(weights))


# --- InfoNCE


def slow_infonce(scores: np.ndarray, weights: np.ndarray) -> float:
    """The mean of the two directions as they are written, one pair after the other."""
    total = 0.0
    for i, weight in enumerate(weights):
        of_x = sum(weights[j] * math.exp(scores[i, j]) for j in range(len(weights)))
        of_y = sum(weights[j] * math.exp(scores[j, i]) for j in range(len(weights)))
        total += weight * (math.log(math.exp(scores[i, i]) / of_x) + math.log(math.exp(scores[i, i]) / of_y)) / 2
    return total


def slow_influence(scores: np.ndarray, weights: np.ndarray, k: int, step: float = 1e-6) -> float:
    """The value, plus its slope as the weights move towards pair k alone (central difference)."""
    ahead, behind = ((1 - move) * weights + move * np.eye(len(weights))[k] for move in (step, -step))
    slope = (slow_infonce(scores, ahead) - slow_infonce(scores, behind)) / (2 * step)
    return slow_infonce(scores, weights) + slope


@pytest.mark.parametrize("weights", [uniform(12), some_weights(12)], ids=["uniform", "weighted"])
def test_infonce_agrees_with_the_slow_twin(weights: np.ndarray) -> None:
    """Both in float64; the twin's derivative is a difference of values that are known to 1e-16, over 2e-6."""
    scores = np.random.default_rng(0).normal(0.3, 2.0, (12, 12))
    found = infonce(torch.from_numpy(scores), weights)
    assert found.value_nats == pytest.approx(slow_infonce(scores, weights), abs=1e-12)
    twin = [slow_influence(scores, weights, k) for k in range(12)]
    np.testing.assert_allclose(found.influences_nats, twin, atol=1e-8)


def test_infonce_by_hand() -> None:
    """A score of log c for the two joint pairs, 0 for the others: log c - log((c + 1) / 2)."""
    scores = math.log(3) * torch.eye(2)
    assert infonce(scores, uniform(2)).value_nats == pytest.approx(math.log(3 / 2))
    assert infonce(torch.zeros(5, 5), some_weights(5)).value_nats == pytest.approx(0, abs=1e-15)
    assert infonce(1e3 * torch.eye(5), some_weights(5)).value_nats == pytest.approx(entropy(some_weights(5)))


@given(
    scores=st.integers(1, 7).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(-1, 1))),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_no_scores_pass_the_entropy_of_the_weights(scores: np.ndarray, scale: float, seed: int) -> None:
    """And the mean influence is the value. Tolerance: a score of 1e6 in float64 is known to 1e-10."""
    weights = some_weights(len(scores), seed)
    found = infonce(torch.from_numpy(scores * scale), weights)
    rounding = 1e-12 + 1e-15 * scale
    assert found.value_nats <= entropy(weights) + rounding
    assert weights @ found.influences_nats == pytest.approx(found.value_nats, abs=1e3 * rounding)


def test_adding_a_constant_to_the_scores_changes_nothing() -> None:
    scores = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    value = infonce(scores, some_weights(20)).value_nats
    assert infonce(scores + 1.5, some_weights(20)).value_nats == pytest.approx(value, abs=1e-6)  # float32 scores


def test_the_loss_is_minus_the_value_for_many_score_matrices_at_once() -> None:
    """float32 against float64: sums of 30 terms of size 10."""
    scores = 3 * torch.randn(2, 4, 30, 30, generator=torch.Generator().manual_seed(0))
    weights = some_weights(30)
    losses = infonce_loss(scores, torch.from_numpy(weights).float())
    assert losses.shape == (2, 4)
    for fold in range(2):
        for head in range(4):
            value = infonce(scores[fold, head], weights).value_nats
            assert float(losses[fold, head]) == pytest.approx(-value, abs=1e-5)


CORRELATION = 0.8
TRUTH_NATS = -math.log1p(-(CORRELATION**2))
"""Of two dimensions a side."""


def correlated(n: int, rng: np.random.Generator, copies: int = 1, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    x = np.repeat(rng.standard_normal((n // copies, d)), copies, axis=0)
    return x, CORRELATION * x + math.sqrt(1 - CORRELATION**2) * rng.standard_normal((n, d))


def log_ratios(x: np.ndarray, y: np.ndarray) -> torch.Tensor:
    """The optimal critic of `correlated`: log p(x, y) / p(x) p(y) of every x with every y, shape (n, n)."""
    r2 = CORRELATION**2
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    exponent = (2 * CORRELATION * x @ y.T - r2 * squares) / (2 * (1 - r2))
    return torch.from_numpy(exponent - x.shape[1] / 2 * math.log1p(-r2))


def test_the_standard_error_is_the_spread_over_fresh_samples_of_a_fixed_score() -> None:
    """200 samples show a spread to 5 %, so 15 % are three standard errors; the influence function is of first order in
    1 / n besides. The value of 300 pairs is on average a little below the truth, as a lower bound should be."""
    rng, n = np.random.default_rng(0), 300
    values, stated = [], []
    for _ in range(200):
        scored = infonce(log_ratios(*correlated(n, rng)), uniform(n))
        values.append(scored.value_nats)
        stated.append(scored.influences_nats.std() / math.sqrt(n))
    spread = float(np.std(values, ddof=1))
    assert np.mean(stated) == pytest.approx(spread, rel=0.15)
    assert TRUTH_NATS - 0.05 <= np.mean(values) <= TRUTH_NATS + FOUR_SIGMA * spread / math.sqrt(200)


# --- rows and folds


def test_few_rows_are_all_used_with_their_own_weights() -> None:
    weights = some_weights(50)
    rows, shares = draw_rows(weights, 50, np.random.default_rng(0))
    assert rows.tolist() == list(range(50)) and shares is weights


def test_many_rows_are_drawn_by_weight() -> None:
    """Stratified: a row gets the draws of the strata that it fills, and by chance those of the two that it ends in."""
    weights = np.random.default_rng(1).dirichlet(np.full(5_000, 0.3)) + 1e-12
    weights /= weights.sum()
    rows, shares = draw_rows(weights, 1_000, np.random.default_rng(2))
    assert len(np.unique(rows)) == len(rows) == len(shares) <= 1_000
    assert shares.sum() == pytest.approx(1)
    counts = np.zeros(5_000)
    counts[rows] = shares * 1_000
    assert np.abs(counts - np.round(counts)).max() < 1e-9
    assert np.abs(counts - 1_000 * weights).max() <= 2 + 1e-9
    other, _ = draw_rows(weights, 1_000, np.random.default_rng(3))
    assert set(other) != set(rows)


@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("copies", [1, 4])
def test_every_row_is_in_one_part_of_a_fold_and_no_input_in_two(n_folds: int, copies: int) -> None:
    n_distinct = 203  # no multiple of the folds
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(n_distinct), copies))
    folds = deal(labels, n_folds, np.random.default_rng(1))
    assert len(folds) == n_folds
    for fold in folds:
        parts = [fold.train, fold.validation, fold.held_out]
        assert sorted(np.concatenate(parts)) == list(range(len(labels)))
        inputs = [set(labels[part]) for part in parts]
        assert sum(map(len, inputs)) == n_distinct  # so none is in two parts
        assert abs(len(inputs[2]) - n_distinct / n_folds) < 1
        assert len(inputs[1]) == round((n_distinct - len(inputs[2])) / 8)
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(len(labels)))


def test_too_few_distinct_inputs_are_refused_however_many_rows_there_are() -> None:
    labels = np.arange(10_000) % (5 * MIN_INPUTS_PER_FOLD - 1)
    with pytest.raises(
        Refusal, match="5 folds need at least 200 distinct inputs, got 199; use noisy_channel .* samples"
    ):
        deal(labels, 5, np.random.default_rng(0))
    assert len(deal(np.arange(200), 5, np.random.default_rng(0))) == 5


def training(n_folds: int = 2, n_steps: int = 20) -> Training:
    return Training(n_folds=n_folds, n_steps=n_steps, batch_size=32, learning_rate=4e-3, loss=infonce_loss)


def gaussian_pairs(n: int, d: int = 4, seed: int = 0) -> Pairs:
    return pair_up(*map(torch.from_numpy, correlated(n, np.random.default_rng(seed), d=d)))


def test_what_a_fold_holds_out_has_no_part_in_its_critics() -> None:
    """Other outputs in the held-out rows of fold 0 leave every score of its critics what it was, bit for bit."""
    pairs = gaussian_pairs(120)
    before = cross_fit(pairs, np.arange(120), uniform(120), training(), np.random.default_rng(0))
    held_out = before.folds[0].held_out
    outputs = pairs.outputs.clone()
    outputs[held_out] = 100 * outputs[held_out].flip(0)
    damaged = replace(pairs, outputs=outputs)
    after = cross_fit(damaged, np.arange(120), uniform(120), training(), np.random.default_rng(0))
    assert (after.folds[0].held_out == held_out).all()
    same = pairs.inputs[:10], pairs.outputs[:10]
    assert torch.equal(before.scores(0, *same), after.scores(0, *same))
    assert not torch.equal(before.scores(1, *same), after.scores(1, *same))  # which was trained on them


def grouped(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """250 random inputs of 8 dimensions in 4 copies each."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.standard_normal((250, 8)), 4, axis=0), rng


QUICK = CrossfitNCE(n_folds=2, n_steps=75, batch_size=64, learning_rate=6e-3)


def quick_bits(pairs: Pairs) -> tuple[float, float]:
    """The value, and four standard errors of it."""
    found = QUICK.estimate(pairs, np.random.default_rng(0))
    return found.value_nats / BIT, FOUR_SIGMA * found.standard_error_nats / BIT


def test_copies_of_inputs_with_unrelated_outputs_carry_nothing() -> None:
    """0.05 bits for the weights of the heads, which are fitted on 16 validation inputs: see `test_protocol`."""
    x, rng = grouped(0)
    value, error = quick_bits(pair_up(torch.from_numpy(x), torch.from_numpy(rng.standard_normal((1_000, 8)))))
    assert abs(value) <= 0.05 + error


def test_a_code_that_no_other_input_tells_is_not_found_and_would_be_with_copies_on_two_sides() -> None:
    """What "usable information" means. y is a random code of the input, plus a little noise: of Shannon's information
    nearly all of log2 250 = 8 bits is there, but nothing that other inputs tell about this one. Folds of distinct
    inputs say so; folds of rows, in which the copies of an input are strangers, let critics learn codes by heart and
    find more than a bit of them.

    The honest value may be a little below 0: the 4 copies of a validation input agree by construction, so a critic that
    agrees with them by chance looks surer than it is.
    """
    x, rng = grouped(1)
    code = np.repeat(rng.standard_normal((250, 8)), 4, axis=0)
    pairs = pair_up(torch.from_numpy(x), torch.from_numpy(code + 0.1 * rng.standard_normal(code.shape)))
    honest, error = quick_bits(pairs)
    leaking, _ = quick_bits(replace(pairs, input_labels=np.arange(1_000)))
    assert -0.2 - error <= honest <= 0.05 + error
    assert leaking >= 0.7


# --- principal components


def decaying(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Rows with variances 1, 1/4, 1/9, ... along random axes, off the origin."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) / np.arange(1, d + 1)
    return torch.from_numpy(rows @ np.linalg.qr(rng.standard_normal((d, d)))[0] + 5).float()


def fitted_view(rows: torch.Tensor, weights: np.ndarray) -> View:
    return View.fit(rows, torch.from_numpy(weights).float(), torch.Generator().manual_seed(0))


def twin_view(rows: torch.Tensor, weights: np.ndarray, n_seen: int, power: float) -> np.ndarray:
    """What a head should see, up to the sign of each component, from numpy's SVD in float64: shape (n, n_seen)."""
    centred = rows.double().numpy() - weights @ rows.double().numpy()
    _, singular, axes = np.linalg.svd(np.sqrt(weights)[:, None] * centred, full_matrices=False)
    variances = np.square(singular[:n_seen])
    seen = variances ** (1 - power)
    return centred @ axes[:n_seen].T * np.sqrt(variances**-power * seen.sum() / np.square(seen).sum())


@pytest.mark.parametrize("d", [3, 40, 200])
@pytest.mark.parametrize("head", [0, 3])
def test_the_leading_components_are_those_of_numpy(d: int, head: int) -> None:
    """Inner products of all rows, which know no signs, and the variances. Of 200 dimensions the iteration finds 64:
    a component's error falls as (variance 65 / its variance)^4, to below 1e-3 for the 32 that these heads see."""
    rows, weights = decaying(400, d), some_weights(400)
    found = fitted_view(rows, weights).of(rows)[head].double().numpy()  # (400, 64)
    twin = twin_view(rows, weights, *HEADS[head])
    n_seen = twin.shape[1]
    assert n_seen == min(d, HEADS[head][0]) and not found[:, n_seen:].any()
    difference = np.linalg.norm(found @ found.T - twin @ twin.T) / np.linalg.norm(twin @ twin.T)
    assert difference <= 2e-3
    np.testing.assert_allclose(weights @ np.square(found[:, :n_seen]), weights @ np.square(twin), rtol=1e-3)


@pytest.mark.parametrize(("head", "power"), [(index, power) for index, (_, power) in enumerate(HEADS)])
def test_the_effective_dimensions_of_a_head_have_variance_1(head: int, power: float) -> None:
    rows, weights = decaying(400, 100), some_weights(400)
    variances = weights @ np.square(fitted_view(rows, weights).of(rows)[head].double().numpy())
    assert np.square(variances).sum() / variances.sum() == pytest.approx(1, rel=1e-4)
    assert not variances[HEADS[head][0] :].any()
    if power == 1:  # whitened
        assert variances[: HEADS[head][0]] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("factor", "offset"), [(1e3, 0.0), (1e-3, 0.0), (1.0, 30.0)])
def test_scale_and_position_of_the_rows_drop_out(factor: float, offset: float) -> None:
    """Up to the sign of each component, and the rounding of float32: 4e-6 of rows that are 35 from the origin."""
    rows, weights = decaying(300, 20), uniform(300)
    moved = rows * factor + offset
    one, other = (fitted_view(each, weights).of(each).double() for each in (rows, moved))
    np.testing.assert_allclose(other @ other.transpose(1, 2), one @ one.transpose(1, 2), atol=2e-2)


def test_directions_without_variance_are_not_blown_up() -> None:
    """Rows of rank 2 in 6 dimensions: what is left of the others is float32 rounding, and stays below 1 % of a unit."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((200, 2)) @ rng.standard_normal((2, 6))).float()
    variances = fitted_view(rows, uniform(200)).of(rows).square().mean(dim=1)  # (n_heads, N_COMPONENTS)
    assert torch.isfinite(variances).all()
    assert variances[:, 2:].max() <= 1e-2 and (variances[:, :2] > 0.1).all()


# --- the stack of heads


def test_only_heads_that_carry_over_get_weight() -> None:
    """One head knows the first coordinate, one the second with the wrong sign, two are noise of deviation 3.

    The wrong one gets 0 exactly, as its weight would be negative. Noise has a mean of 3 / sqrt(n) on the diagonal by
    chance, worth a weight of 1 / (3 sqrt(n)) on either side of 0. The sum is never worse than saying nothing.
    """
    n, generator = 300, torch.Generator().manual_seed(0)
    x, y = correlated(n, np.random.default_rng(0))
    first, second = (log_ratios(x[:, [column]], y[:, [column]]).float() for column in (0, 1))
    noise = 3 * torch.randn(2, n, n, generator=generator)
    scores = torch.stack([first, -second, *noise])
    weights = torch.full((n,), 1 / n)
    found = weigh(scores, weights, infonce_loss, np.arange(len(weights)))
    assert found[1] == 0
    assert found[0] == pytest.approx(1, abs=0.25)  # the optimal critic, less chance
    assert 0 <= found[2:].min() and found[2:].max() <= FOUR_SIGMA / (3 * math.sqrt(n))
    assert infonce_loss(combine(scores, found), weights) < infonce_loss(first / 2, weights) < 0


def test_if_no_head_carries_over_the_sum_says_nothing() -> None:
    """Heads that are wrong, and one of noise with its chance mean on the diagonal taken off and a little more."""
    n, generator = 200, torch.Generator().manual_seed(0)
    x, y = correlated(n, np.random.default_rng(0))
    noise = 30 * torch.randn(n, n, generator=generator)
    noise -= torch.diag(noise.diagonal().mean() + torch.full((n,), 10.0))
    scores = torch.stack([-log_ratios(x, y).float(), noise])
    found = weigh(scores, torch.full((n,), 1 / n), infonce_loss, np.arange(n))
    assert found.tolist() == [0.0, 0.0]


def test_heads_that_fit_chance_are_not_heard() -> None:
    """The best weight of z / (s sqrt(n)) for noise of deviation s gains z^2 / 2n, with an error of |z| / n: two errors
    are a z of 4, which 4 heads together pass once in 300 times. Without that rule half of all noise is heard."""
    n, generator = 100, torch.Generator().manual_seed(0)
    heard = [
        weigh(3 * torch.randn(4, n, n, generator=generator), torch.full((n,), 1 / n), infonce_loss, np.arange(n)).any()
        for _ in range(20)
    ]
    assert sum(map(bool, heard)) <= 1


def test_combined_scores_are_the_weighted_sum() -> None:
    scores = torch.arange(12.0).reshape(3, 2, 2)
    assert torch.equal(combine(scores, torch.tensor([1.0, 0.0, 0.5])), scores[0] + scores[2] / 2)


# --- the estimator


def test_the_cap_is_the_entropy_of_the_held_out_folds() -> None:
    """Two folds of 60 rows: log 60, whatever log 120 the ceiling is. Under weights it is less."""
    small = CrossfitNCE(n_folds=2, n_steps=20, batch_size=32)
    pairs = gaussian_pairs(120)
    found = small.estimate(pairs, np.random.default_rng(0))
    assert (found.cap_nats, found.ceiling_nats) == (pytest.approx(math.log(60)), pytest.approx(math.log(120)))
    assert found.direction == "lower bound" and found.value_nats <= found.cap_nats
    weighted = small.estimate(replace(pairs, weights=some_weights(120)), np.random.default_rng(0))
    assert weighted.cap_nats < math.log(60) - 0.05


def test_no_more_rows_than_asked_for_are_used() -> None:
    found = replace(QUICK, n_samples=160, n_steps=20, batch_size=16).estimate(
        gaussian_pairs(500), np.random.default_rng(0)
    )
    assert found.n_samples == 160
    assert found.cap_nats == pytest.approx(math.log(80)) and found.ceiling_nats == pytest.approx(math.log(500))


@pytest.mark.parametrize(
    "changed",
    [
        {"n_folds": 1},
        {"batch_size": 1},
        {"n_steps": 10},
        {"n_samples": -1},
        {"learning_rate": math.inf},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
    ],
)
def test_impossible_settings_are_refused(changed: dict[str, float]) -> None:
    all_settings = CrossfitNCE().settings | changed
    expected = "{n_folds}, {n_samples}, {batch_size}, {n_steps} and {learning_rate}".format(**all_settings)
    with pytest.raises(EstimationError, match=f"n_steps of at least 20 and a positive learning_rate, got {expected}"):
        CrossfitNCE(**changed)  # type: ignore[arg-type]


def test_copies_of_an_input_count_as_one_observation() -> None:
    """Every pair four times over says nothing new: with a row's own error the interval would be half as wide."""
    once = gaussian_pairs(400)
    copied = pair_up(once.inputs.repeat(4, 1), once.outputs.repeat(4, 1))
    errors = []
    for pairs in (once, copied):
        fitted = CrossfitNCE(n_steps=60, batch_size=64).fit(pairs, np.random.default_rng(0))
        deviations = np.random.default_rng(1).standard_normal(400)
        rows = fitted.rows[np.concatenate([fold.held_out for fold in fitted.folds])]
        errors.append(held_out_error(fitted, pairs, deviations[pairs.input_labels[rows]]))
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)


def test_a_side_that_hardly_varies_is_refused_and_never_nan() -> None:
    outputs = torch.zeros(400, 4)
    outputs[0] = 1.0
    with pytest.raises(Refusal, match="rows that a fold trains on are equal on one side; use exact or noisy_channel"):
        CrossfitNCE(n_steps=20).estimate(pair_up(gaussian_pairs(400).inputs, outputs), np.random.default_rng(0))


def test_few_validation_rows_cannot_make_the_critics_reckless() -> None:
    """20 validation rows of 8 bits can be told apart without a mistake; unbounded weights gave values below -1 bit."""
    n, d = 200, 16
    x, y = correlated(n, np.random.default_rng(3), d=d)
    pairs = pair_up(torch.from_numpy(x), torch.from_numpy(y))
    found = CrossfitNCE(n_steps=100, batch_size=64).estimate(pairs, np.random.default_rng(0))
    assert -0.5 * math.log(2) <= found.value_nats <= found.cap_nats
