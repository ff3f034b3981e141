"""The paper's recipe: what it recovers, its quirks one by one, and the held-out number that it lacks."""

import math

import numpy as np
import pytest
import torch

from bench.errors import EstimationError, Refusal
from bench.estimators import MutualInformation, Pairs, mine_paper, pair_up
from bench.estimators.mine_paper import (
    MinePaper,
    critic_widths,
    decay,
    donsker_varadhan,
    flops_per_epoch,
    full_batch,
    held_out_reading,
    n_draws,
    new_critic,
    split_rows,
    train,
)

BIT = math.log(2)


def correlated(n: int, d: int, correlation: float, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, n, d))
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    return pair_up(torch.from_numpy(x), torch.from_numpy(y))


def estimate(pairs: Pairs, seed: int = 0, **settings: object) -> MutualInformation:
    quick = {"n_epochs": 30, "n_samples": 500, "learning_rate": 5e-3, "hidden_width": 8}
    return MinePaper(**(quick | settings)).estimate(pairs, np.random.default_rng(seed))  # type: ignore[arg-type]


def bits(found: MutualInformation) -> dict[str, float]:
    return {label: reading.value_nats / BIT for label, reading in found.readings.items()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_recovers_a_correlated_gaussian_on_held_out_rows() -> None:
    """-log2(1 - 0.9^2) / 2 = 1.198 bits; 1,000 held-out rows have a standard error of 0.04, the critic lacks 0.05."""
    found = estimate(correlated(4000, 1, 0.9), n_epochs=400, n_samples=3000, hidden_width=32)
    assert bits(found)["held_out"] == pytest.approx(1.198, abs=0.15)
    assert found.value_nats == found.readings["held_out"].value_nats
    assert set(found.readings) == set(MinePaper().labels) == {"train_max", "last_epoch", "held_out"}
    assert found.direction == "none"


def test_the_training_maximum_passes_the_entropy_of_its_own_data_where_there_is_nothing() -> None:
    """Why the paper's number is no information: 300 rows of independent noise, truth 0, log2 300 = 8.2 bits.

    Over four seeds it lies between 16 and 30 bits, and the held-out value of a critic that has learnt noise by heart
    as far below 0.
    """
    found = estimate(correlated(300, 64, 0.0), n_epochs=2000, learning_rate=1e-3, hidden_width=64, n_samples=225)
    assert bits(found)["train_max"] > found.ceiling_nats / BIT + 4
    assert bits(found)["train_max"] > bits(found)["last_epoch"] > 2
    assert bits(found)["held_out"] < 0


@pytest.mark.parametrize(("d", "widths"), [(768, (1536, 768, 384, 192, 96, 48, 24, 12, 6, 3, 1)), (5, (10, 5, 2, 1))])
def test_the_critic_is_halved_down_to_one(d: int, widths: tuple[int, ...]) -> None:
    assert critic_widths(2 * d, d) == widths
    critic = new_critic(widths, generator())
    linears, activations = critic[::2], critic[1::2]
    assert [(layer.in_features, layer.out_features) for layer in linears] == list(
        zip(widths[:-1], widths[1:], strict=True)
    )
    assert all(isinstance(layer, torch.nn.LeakyReLU) and layer.negative_slope == 0.01 for layer in activations)
    assert all(not layer.bias.any() for layer in linears)
    # Xavier: variance 2 / (n_in + n_out), which 50 weights and more show within 30 %.
    for layer in linears:
        if layer.weight.numel() >= 50:
            expected = math.sqrt(2 / (layer.in_features + layer.out_features))
            assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.3)


def test_the_paper_computed_for_four_times_ten_to_the_sixteenth_operations() -> None:
    assert 10_000 * flops_per_epoch(1536, 768, 300_000) == pytest.approx(4.25e16, rel=0.01)
    # By hand, widths 2-2-1: 6 weights, each 3 times 2 in 2 passes of 10 rows, less 4 first-layer weights once.
    assert flops_per_epoch(2, 2, 10) == 2 * 10 * 2 * (3 * 6 - 4)


def test_the_learning_rate_warms_up_from_zero_and_decays_with_the_third_power() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    schedule = decay(optimizer, 105)
    rates = []
    for _ in range(106):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0
    assert rates[1] == pytest.approx(1e-4 / 5)
    assert rates[5] == pytest.approx(1e-4)
    assert rates[55] == pytest.approx((1e-4 - 1e-8) / 8 + 1e-8)  # half-way
    assert rates[105] == pytest.approx(1e-8)


def test_quirk_no_clip_norm_has_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = correlated(200, 3, 0.8)
    found = []
    for norm in (1e-9, 1.0, 1e9):
        monkeypatch.setattr(mine_paper, "CLIP_NORM", norm)
        found.append(estimate(pairs).readings)
    assert found[0] == found[1] == found[2]


def test_quirk_the_maximum_starts_at_zero() -> None:
    """A critic that is hardly trained loses by Jensen: mean f < log mean exp f. Inputs times 10 make that large."""
    noise = correlated(400, 4, 0.0)
    pairs = pair_up(noise.inputs * 10, noise.outputs * 10)
    found = estimate(pairs, n_epochs=6, learning_rate=1e-7)
    assert found.readings["last_epoch"].value_nats < -0.1
    assert (found.readings["train_max"].value_nats, found.readings["train_max"].standard_error_nats) == (0.0, 0.0)


def constant_critic(value: float) -> torch.nn.Sequential:
    critic = new_critic((2, 1), generator())
    with torch.no_grad():
        critic[0].weight.zero_()
        critic[0].bias.fill_(value)
    return critic


@pytest.mark.parametrize(
    ("value", "n_epochs", "maximum"),
    [
        (-200.0, 1, math.inf),  # exp underflows, log 0: the value is +inf, counts, and its gradient is NaN
        (200.0, 1, None),  # exp overflows: -inf, which is no maximum
        (math.nan, 0, None),
    ],
)
def test_quirk_nan_ends_the_run_and_infinity_does_not(value: float, n_epochs: int, maximum: float | None) -> None:
    run = train(constant_critic(value), correlated(50, 1, 0.5), np.arange(50), 10, 1e-3, generator())
    assert run.n_epochs == n_epochs
    assert (run.best.value_nats if run.best else None) == maximum
    assert run.last is None


def test_after_nan_the_critic_is_that_of_the_last_finite_epoch() -> None:
    pairs, rows = correlated(200, 4, 0.5), np.arange(200)
    critic = new_critic(critic_widths(8, 16), generator(1))
    run = train(critic, pairs, rows, 200, 2.0, generator(2))  # a learning rate that diverges
    assert 5 < run.n_epochs < 200 and run.last is not None
    assert all(bool(torch.isfinite(parameter).all()) for parameter in critic.parameters())
    with torch.no_grad():
        joint = critic(torch.cat([pairs.inputs, pairs.outputs], dim=1)).squeeze(1)
    torch.testing.assert_close(joint, run.last.joint)


def test_values_that_overflow_are_refused_and_not_reported() -> None:
    huge = correlated(100, 3, 0.5)
    with pytest.raises(Refusal, match=r"overflow: [01] of 30 epochs before NaN.*lower the learning rate or scale them"):
        estimate(pair_up(huge.inputs * 1e20, huge.outputs * 1e20))


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    """Up to float32 rounding, 1e-7 of each of the sums."""
    pairs, left = correlated(1000, 6, 0.7), torch.arange(1000)
    right = left[torch.randperm(1000, generator=generator())]
    found = []
    for rows_at_once in (1000, 300, 1):
        critic = new_critic(critic_widths(12, 16), generator(3))
        joint, marginal = full_batch(critic, pairs, left, right, rows_at_once)
        found.append((joint, marginal, *(parameter.grad for parameter in critic.parameters())))
    for other in found[1:]:
        for ours, whole in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-6)
    critic = new_critic(critic_widths(12, 16), generator(3)).double()  # the same by hand: bits, of the whole batch
    x, y = pairs.inputs.double(), pairs.outputs.double()
    joint, marginal = critic(torch.cat([x, y], dim=1)), critic(torch.cat([x, y[right]], dim=1))
    (-math.log2(math.e) * (joint.mean() - marginal.exp().mean().log())).backward()
    for ours, parameter in zip(found[0][2:], critic.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), parameter.grad, rtol=1e-4, atol=1e-6)


class Bilinear(torch.nn.Sequential):
    """f(x, y) = c <x, y>, a critic whose values are known."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        x, y = both.chunk(2, dim=1)
        return self.c * (x * y).sum(dim=1, keepdim=True)


def test_the_held_out_value_is_that_of_all_pairs() -> None:
    """A slow readable twin: every input with every output, itself included, in float64."""
    pairs, rows = correlated(60, 3, 0.6), np.arange(10, 50)
    table = 0.7 * pairs.inputs[rows].double() @ pairs.outputs[rows].double().T
    twin = float(table.diag().mean() - table.exp().mean().log())
    found = held_out_reading(Bilinear(0.7), pairs, rows, generator())
    assert found.value_nats == pytest.approx(twin, abs=1e-6)


@pytest.mark.parametrize("n_each", [1, 50])
def test_a_perfect_critic_finds_the_entropy_of_the_held_out_rows_and_no_more(n_each: int) -> None:
    """f = c where x and y belong together, else 0: c - log((exp c + 7) / 8), which tends to log 8.

    With repeats the pairs are complete at 400 rows, so both are exact up to float32 rounding of 60.
    """
    pairs, rows = pair_up(torch.eye(8), torch.eye(8)), np.repeat(np.arange(8), n_each)
    for c in (1.0, 60.0):
        found = held_out_reading(Bilinear(c), pairs, rows, generator())
        assert found.value_nats == pytest.approx(c - math.log((math.exp(c) + 7) / 8), abs=1e-5)


@pytest.mark.parametrize("n", [100, 1000])
def test_standard_errors_match_the_spread_over_fresh_held_out_rows(n: int) -> None:
    """Over 80 samples the spread is known to 8 %; the influence function is of first order in 1/n."""
    critic, runs = Bilinear(0.5), []
    for seed in range(80):
        runs.append(held_out_reading(critic, correlated(n, 2, 0.6, seed), np.arange(n), generator(seed)))
    spread = np.std([run.value_nats for run in runs], ddof=1)
    stated = np.mean([run.standard_error_nats for run in runs])
    assert 0.75 * stated <= spread <= 1.3 * stated


def test_training_standard_errors_are_not_too_small() -> None:
    rng, values, errors = np.random.default_rng(0), [], []
    for seed in range(80):
        pairs = correlated(500, 2, 0.6, seed)
        other = torch.from_numpy(rng.permutation(500))
        joint = 0.5 * (pairs.inputs * pairs.outputs).sum(dim=1)
        marginal = 0.5 * (pairs.inputs * pairs.outputs[other]).sum(dim=1)
        value = float(donsker_varadhan(joint, marginal))
        epoch = mine_paper.Epoch(value_nats=value, joint=joint, marginal=marginal)
        values.append(value)
        errors.append(epoch.reading(500).standard_error_nats)
    assert 0.5 * np.mean(errors) <= np.std(values, ddof=1) <= 1.2 * np.mean(errors)


def test_held_out_rows_share_no_input_with_training() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 300, 2000)
    pairs = pair_up(torch.from_numpy(labels)[:, None], torch.from_numpy(rng.standard_normal((2000, 2))))
    split = split_rows(pairs, 10_000, 0.25, rng)
    assert not set(labels[split.train]) & set(labels[split.held_out])
    n_distinct = len(set(labels))
    assert len(set(labels[split.held_out])) == pytest.approx(n_distinct / 4, abs=1)


def test_a_large_part_of_equal_weights_gives_each_row_once() -> None:
    split = split_rows(correlated(4000, 1, 0.5), 300_000, 0.25, np.random.default_rng(0))
    assert sorted([*split.train, *split.held_out]) == list(range(4000))
    assert len(split.held_out) == 1000


def test_the_paper_s_fifteen_colours_are_drawn_ten_thousand_times_by_their_weights() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(15, 5.0))
    pairs = pair_up(torch.eye(15), torch.eye(15), weights)
    split = split_rows(pairs, 300_000, 0.25, rng)
    for rows, n_names in ((split.train, 11), (split.held_out, 4)):
        names, counts = np.unique(rows, return_counts=True)
        assert (len(rows), len(names)) == (10_000, n_names)
        assert np.abs(counts - 10_000 * weights[names] / weights[names].sum()).max() <= 2  # stratified
    found = MinePaper(n_epochs=6, hidden_width=4).estimate(pairs, rng)
    assert found.cap_nats <= math.log(4) + 1e-9 < found.ceiling_nats


@pytest.mark.parametrize(
    ("wanted", "n_rows", "expected"),
    [(300_000, 5000, 5000), (2000, 5000, 2000), (300_000, 999, 10_000), (500, 40, 500), (1, 40, 2)],
)
def test_how_many_rows_are_drawn(wanted: int, n_rows: int, expected: int) -> None:
    assert n_draws(wanted, n_rows) == expected


def test_the_cap_is_the_information_of_the_held_out_rows() -> None:
    found = estimate(correlated(400, 3, 0.5), held_out_share=0.3, n_samples=280)
    assert found.ceiling_nats == pytest.approx(math.log(400))
    assert found.cap_nats == pytest.approx(math.log(120))


def test_the_same_generator_gives_the_same_numbers_and_no_global_seed_is_touched() -> None:
    pairs = correlated(200, 3, 0.5)
    estimate(pairs)  # imports of libraries may draw
    before = torch.get_rng_state()
    one, other, third = (estimate(pairs, seed).readings for seed in (5, 5, 6))
    assert one == other != third
    assert torch.equal(torch.get_rng_state(), before)


def test_sides_of_different_width_and_rows_made_in_inference_mode() -> None:
    with torch.inference_mode():
        rows = correlated(200, 5, 0.5).inputs
        pairs = pair_up(rows, rows[:, :2] + 1.0)
    found = estimate(pairs, hidden_width=None)
    assert found.d_model == 2 and math.isfinite(found.value_nats)


def constant_columns(pairs: Pairs) -> Pairs:
    inputs = pairs.inputs.clone()
    inputs[:, [0, 2]] = 3.7
    return pair_up(inputs, pairs.outputs)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (constant_columns(correlated(100, 3, 0.5)), "2 of 3 input columns are constant"),
        (pair_up(correlated(100, 3, 0.5).inputs, torch.ones(100, 4)), "4 of 4 output columns are constant"),
        (correlated(1, 3, 0.5), "2 to hold out, got 1 distinct inputs, 1 of them held out"),
        (pair_up(torch.ones(50, 2), torch.ones(50, 2)), "got 1 distinct inputs"),
        (correlated(5, 3, 0.5), "got 5 distinct inputs, 1 of them held out; use exact or noisy_channel"),
    ],
)
def test_it_refuses_in_words(pairs: Pairs, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        estimate(pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_epochs": 5}, "more epochs than the 5 of the warm-up, got 5"),
        ({"n_samples": 1}, "at least 2 training rows, got 1"),
        ({"learning_rate": 1e-8}, "above the 1e-08 it decays to, got 1e-08"),
        ({"hidden_width": 1}, "hidden width of at least 2, got 1"),
        ({"held_out_share": 1.0}, "between 0 and 1, got 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(EstimationError, match=message):
        MinePaper(**settings)  # type: ignore[arg-type]


def test_the_defaults_are_the_paper_s() -> None:
    assert MinePaper().settings == {
        "n_epochs": 10_000,
        "n_samples": 300_000,
        "learning_rate": 1e-4,
        "hidden_width": "d_model",
        "held_out_share": 0.25,
    }
