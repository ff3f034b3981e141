"""The estimator of the paper on emergence, its quirks included, with the held-out number that it lacks.

Source: Chen, Yang, Zhu & Wang 2024, "Quantifying Emergence in Large Language Models" (arXiv 2405.12617) and its code
(github.com/Zodiark-ch/Emergence-of-LLMs, MINE_for_LLMs.py), after Belghazi et al. 2018, "Mutual Information Neural
Estimation" (arXiv 1801.04062). What that code does and a reader would not expect is marked QUIRK and copied. Two
departures: some inputs are held out, and the critic sees whole states, where that code cuts the states of every model
into slices of 768 dimensions and reports each by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import EstimationError, Refusal
from bench.estimators.critics import clustered_error
from bench.estimators.exact import exact_information, information_of_rows
from bench.estimators.noisy_channel import stratified_draws
from bench.estimators.protocol import MutualInformation, Pairs, Reading, refuse_constant_columns

N_WARM_UP = 5
DECAY_POWER = 3
FINAL_LEARNING_RATE = 1e-8
CLIP_NORM = 1.0

ROWS_AT_ONCE = 16_384
"""Samples that go through the critic together: less than a gigabyte at width 768. Changes nothing but rounding."""

SMALL_POPULATION = 1_000
SMALL_POPULATION_DRAWS = 10_000
"""From fewer rows than the first, so many are drawn, with repeats: one permutation of them is then close to the product
of their marginals (625 pairs for the 25 names of the paper)."""

HELD_OUT_PAIRS = 250_000
HELD_OUT_SHIFTS = 16
"""Held-out inputs meet outputs of others this many times in all, but each at least as often as the second says; up to
500 rows that is every pair there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinePaper:
    """The Donsker-Varadhan value mean f(x, y) - log mean exp f(x, y') of a trained critic f, read in three ways.

    * `train_max`: the largest value of any epoch on the training data, 0 if none is positive. What the paper reports.
      It bounds nothing and may pass the entropy of its own data: in an epoch whose permutation y' leaves no true pair
      in its place, a critic that knows the rows by heart can push the second term down as far as it likes.
    * `last_epoch`: the value of the last epoch, on the training data as well.
    * `held_out`: the value of that last epoch's critic on inputs that it has not seen. Its second term holds the true
      pairs with their weight in the product of the marginals, so it cannot pass the exact information of the held-out
      rows (up to the choice of pairs, where these are not complete): that is `cap_nats`.

    The direction is "none" for each. For a fixed critic E f - log E exp f is a lower bound, but the logarithm of a
    sample's mean is on average too small, which makes the value too large, and the true pairs among few held-out rows
    make it too small.

    The standard errors are the sampling errors of the value with this critic, from its influence function, with as many
    samples as there are different rows. They know nothing of overfitting, of the choice of an epoch, of other seeds.

    Attributes:
        n_epochs: full-batch steps, over which the learning rate decays.
        n_samples: rows drawn for training at most, see `n_draws`; held-out rows in proportion.
        hidden_width: width of the critic's first hidden layer, each next one half of it; None means d_model.
        held_out_share: share of the distinct inputs that are kept from training.
    """

    n_epochs: int = 10_000
    n_samples: int = 300_000
    learning_rate: float = 1e-4
    hidden_width: int | None = None
    held_out_share: float = 0.25

    name = "mine_paper"
    is_sample_based = True
    headline = "held_out"
    labels = ("train_max", "last_epoch", "held_out")

    def __post_init__(self) -> None:
        if self.n_epochs <= N_WARM_UP:
            raise EstimationError(f"expected more epochs than the {N_WARM_UP} of the warm-up, got {self.n_epochs}")
        if self.n_samples < 2:
            raise EstimationError(f"expected at least 2 training rows, got {self.n_samples}")
        if not self.learning_rate > FINAL_LEARNING_RATE:
            raise EstimationError(
                f"expected a learning rate above the {FINAL_LEARNING_RATE:g} it decays to, got {self.learning_rate:g}"
            )
        if self.hidden_width is not None and self.hidden_width < 2:
            raise EstimationError(f"expected a hidden width of at least 2, got {self.hidden_width}")
        if not 0 < self.held_out_share < 1:
            raise EstimationError(f"expected a held-out share between 0 and 1, got {self.held_out_share:g}")

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """What of the recipe is not fixed by it."""
        return {
            "n_epochs": self.n_epochs,
            "n_samples": self.n_samples,
            "learning_rate": self.learning_rate,
            "hidden_width": self.hidden_width or "d_model",
            "held_out_share": self.held_out_share,
        }

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Train one critic; time goes with `n_epochs` x `flops_per_epoch`.

        Raises:
            Refusal: fewer than 2 distinct inputs on a side of the split, constant columns, values that overflow.
        """
        started = time.perf_counter()
        fitted = self.fit(pairs, rng)
        readings = self.read(fitted, pairs)
        ceiling = exact_information(pairs)
        return MutualInformation(
            readings=readings,
            headline=self.headline,
            direction="none",
            ceiling_nats=ceiling,
            cap_nats=min(ceiling, information_of_rows(pairs, fitted.split.held_out)),
            n_samples=len(np.unique(fitted.split.train)) + len(np.unique(fitted.split.held_out)),
            d_model=pairs.outputs.shape[1],
            seconds=time.perf_counter() - started,
        )

    def fit(self, pairs: Pairs, rng: np.random.Generator) -> Fitted:
        """Split the rows and train the critic.

        Raises:
            Refusal: fewer than 2 distinct inputs on a side of the split, constant columns.
        """
        split = split_rows(pairs, self.n_samples, self.held_out_share, rng)
        refuse_constant_columns(pairs)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        d_input, d_model = pairs.inputs.shape[1], pairs.outputs.shape[1]
        critic = new_critic(critic_widths(d_input + d_model, self.hidden_width or d_model), generator)
        critic.to(pairs.inputs.device)
        run = train(critic, pairs, split.train, self.n_epochs, self.learning_rate, generator)
        return Fitted(critic=critic, split=split, run=run, generator=generator)

    def read(self, fitted: Fitted, pairs: Pairs) -> dict[str, Reading]:
        """The three readings of a trained critic.

        Raises:
            Refusal: values that overflow.
        """
        run, split = fitted.run, fitted.split
        held_out = held_out_reading(fitted.critic, pairs, split.held_out, fitted.generator)
        n_train = len(np.unique(split.train))
        train_max = run.best.reading(n_train) if run.best else Reading(value_nats=0.0, standard_error_nats=0.0)
        if run.last is None or not math.isfinite(train_max.value_nats + held_out.value_nats):
            raise Refusal(
                f"the critic's values overflow: {run.n_epochs} of {self.n_epochs} epochs before NaN, maximum "
                f"{train_max.value_nats:g} nats, held out {held_out.value_nats:g}; the recipe takes its inputs "
                f"as they are: lower the learning rate or scale them down"
            )
        return {"train_max": train_max, "last_epoch": run.last.reading(n_train), "held_out": held_out}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A critic as training left it, the rows on either side, and the generator of what is still to be drawn."""

    critic: torch.nn.Sequential
    split: Split
    run: Run
    generator: torch.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows of a population to train on and rows of other inputs, drawn by weight, with repeats where there are few."""

    train: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def split_rows(pairs: Pairs, n_samples: int, held_out_share: float, rng: np.random.Generator) -> Split:
    """Split the distinct inputs at random, then draw rows on either side.

    Raises:
        Refusal: fewer than 2 distinct inputs on either side.
    """
    distinct = rng.permutation(np.unique(pairs.input_labels))
    n_held_out = max(1, round(held_out_share * len(distinct)))
    if min(n_held_out, len(distinct) - n_held_out) < 2:
        raise Refusal(
            f"expected at least 2 distinct inputs to train on and 2 to hold out, got {len(distinct)} distinct inputs, "
            f"{n_held_out} of them held out; use exact or noisy_channel for a population this small"
        )
    is_held_out = np.isin(pairs.input_labels, distinct[:n_held_out])
    sides = (~is_held_out, n_samples), (is_held_out, round(n_samples * held_out_share / (1 - held_out_share)))
    train, held_out = (draw(np.flatnonzero(side), pairs.weights, wanted, rng) for side, wanted in sides)
    return Split(train=train, held_out=held_out)


def draw(
    rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], wanted: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw `n_draws` of some rows by their weights; of a large part with equal weights that is each row once."""
    share = weights[rows] / weights[rows].sum()
    return rows[stratified_draws(share, n_draws(wanted, len(rows)), rng)]


def n_draws(wanted: int, n_rows: int) -> int:
    """As many as wanted, but not more than rows, or `SMALL_POPULATION_DRAWS` of a small population; at least 2."""
    return max(2, min(wanted, n_rows if n_rows >= SMALL_POPULATION else SMALL_POPULATION_DRAWS))


def critic_widths(d_input: int, hidden_width: int) -> tuple[int, ...]:
    """The critic's layers, halved down to one: 1536-768-384-192-96-48-24-12-6-3-1 for two states of width 768."""
    widths = [d_input]
    while hidden_width > 1:
        widths.append(hidden_width)
        hidden_width //= 2
    return (*widths, 1)


def flops_per_epoch(d_input: int, hidden_width: int, n_rows: int) -> int:
    """Floating-point operations of one full-batch step.

    Each row passes twice, in the joint and in the marginal. Each weight then takes a multiplication and an addition
    forward, as many for its own gradient and, but in the first layer, as many for the gradient of what is below. At
    width 768 that is 9.0 a weight, row and pass. The first pass that `full_batch` takes beyond `ROWS_AT_ONCE`
    rows, 22 % of this, is not counted.
    """
    weights = [below * above for below, above in pairwise(critic_widths(d_input, hidden_width))]
    return 2 * n_rows * 2 * (3 * sum(weights) - weights[0])


def new_critic(widths: tuple[int, ...], generator: torch.Generator) -> torch.nn.Sequential:
    """An MLP with LeakyReLU (slope 0.01), Xavier-normal weights and zero biases."""
    layers: list[torch.nn.Module] = []
    for n_below, n_above in pairwise(widths):
        linear = torch.nn.Linear(n_below, n_above, device="meta").to_empty(device="cpu")  # no draw from the global seed
        torch.nn.init.xavier_normal_(linear.weight, generator=generator)
        torch.nn.init.zeros_(linear.bias)
        layers += [linear, torch.nn.LeakyReLU()]
    return torch.nn.Sequential(*layers[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The value of one epoch on the training data, and what the critic says there of true pairs and of others.

    Attributes:
        value_nats: the Donsker-Varadhan value, in float32 as the recipe takes it.
        joint: f(x, y), shape (n_rows,).
        marginal: f(x, y') with y' the permutation of the epoch, shape (n_rows,).
    """

    value_nats: float
    joint: torch.Tensor
    marginal: torch.Tensor

    def reading(self, n_samples: int) -> Reading:
        """The value with the standard error sqrt((var f + var(exp f) / mean(exp f)^2) / n_samples).

        On the large side: f and exp f of the same rows mostly rise together, which is left out.
        """
        marginal, log_n = self.marginal.double(), math.log(len(self.marginal))
        ratio = (2 * marginal).logsumexp(dim=0) + log_n - 2 * marginal.logsumexp(dim=0)  # log mean square / mean^2
        variance = self.joint.double().var(correction=0) + torch.expm1(ratio).clamp(min=0)
        return Reading(value_nats=self.value_nats, standard_error_nats=math.sqrt(float(variance) / n_samples))


def donsker_varadhan(joint: torch.Tensor, marginal: torch.Tensor) -> torch.Tensor:
    """The value mean f(x, y) - log mean exp f(x, y'), shape ()."""
    # QUIRK: no log-sum-exp, so the second term is infinite where exp leaves float32 (f > 88, or all f < -103).
    return joint.mean() - marginal.exp().mean().log()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        n_epochs: epochs before NaN.
        best: the epoch with the largest value, None if no value is above 0.
        last: the last epoch with a finite value, None if there is none.
    """

    n_epochs: int
    best: Epoch | None
    last: Epoch | None


def train(
    critic: torch.nn.Sequential,
    pairs: Pairs,
    rows: npt.NDArray[np.int64],
    n_epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Run:
    """Train a critic on the drawn rows as one batch, and leave it as it was in the last epoch with a finite value."""
    parameters = list(critic.parameters())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = decay(optimizer, n_epochs)
    left = torch.from_numpy(rows).to(pairs.inputs.device)
    best, last, kept, n_done = None, None, list[torch.Tensor](parameters), 0
    for _ in range(n_epochs):
        # QUIRK: a permutation leaves one true pair in its place on average, and in every third epoch none.
        order = torch.randperm(len(rows), generator=generator).to(left.device)
        # QUIRK: clipped before it is computed, so only the last epoch's gradient is, which zero_grad then forgets.
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.zero_grad()
        joint, marginal = full_batch(critic, pairs, left, left[order])
        epoch = Epoch(value_nats=float(donsker_varadhan(joint, marginal)), joint=joint, marginal=marginal)
        if math.isnan(epoch.value_nats):  # QUIRK: an infinite value does not end the run, but its gradient is NaN
            break
        if epoch.value_nats > (best.value_nats if best else 0.0):  # QUIRK: the maximum starts at 0
            best = epoch
        if math.isfinite(epoch.value_nats):
            last, kept = epoch, [parameter.detach().clone() for parameter in parameters]
        optimizer.step()
        schedule.step()
        n_done += 1
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return Run(n_epochs=n_done, best=best, last=last)


def decay(optimizer: torch.optim.Optimizer, n_epochs: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up, then polynomial decay. QUIRK: the warm-up starts from 0, so the first epoch changes nothing."""
    from transformers import get_polynomial_decay_schedule_with_warmup

    schedule: torch.optim.lr_scheduler.LRScheduler = get_polynomial_decay_schedule_with_warmup(
        optimizer, N_WARM_UP, n_epochs, lr_end=FINAL_LEARNING_RATE, power=DECAY_POWER
    )
    return schedule


def full_batch(
    critic: torch.nn.Sequential,
    pairs: Pairs,
    left: torch.Tensor,
    right: torch.Tensor,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of minus the Donsker-Varadhan value in bits (the unit of the recipe's loss) to the parameters'.

    A batch of more than `rows_at_once` goes in parts. The gradient of log mean exp f is the mean of exp f / mean exp f
    times the gradient of f, so a first pass finds the mean, and a second adds up the parts' gradients: the same sum.

    Args:
        left: rows of the inputs x and of their own outputs y, shape (n_rows,).
        right: rows of the outputs y' that stand for independent ones, a permutation of `left`.

    Returns:
        f(x, y) and f(x, y'), each of shape (n_rows,).
    """
    if len(left) <= rows_at_once:
        joint, marginal = score(critic, pairs, left.repeat(2), torch.cat([left, right])).chunk(2)
        (-donsker_varadhan(joint, marginal) / math.log(2)).backward()  # type: ignore[no-untyped-call]
        return joint.detach(), marginal.detach()
    mean_exp = score_all(critic, pairs, left, right, rows_at_once).exp().mean()
    parts = []
    for x, y in zip(torch.split(left, rows_at_once), torch.split(right, rows_at_once), strict=True):
        joint, marginal = score(critic, pairs, x.repeat(2), torch.cat([x, y])).chunk(2)
        loss = ((marginal.exp() / mean_exp).sum() - joint.sum()) / (len(left) * math.log(2))
        loss.backward()  # type: ignore[no-untyped-call]
        parts.append((joint.detach(), marginal.detach()))
    joints, marginals = zip(*parts, strict=True)
    return torch.cat(joints), torch.cat(marginals)


def score(critic: torch.nn.Sequential, pairs: Pairs, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """f(x, y) for rows `left` of the inputs with rows `right` of the outputs, shape (n_rows,)."""
    values: torch.Tensor = critic(torch.cat([pairs.inputs[left], pairs.outputs[right]], dim=1))  # (n_rows, 1)
    return values.squeeze(dim=1)


@torch.no_grad()
def score_all(
    critic: torch.nn.Sequential,
    pairs: Pairs,
    left: torch.Tensor,
    right: torch.Tensor,
    rows_at_once: int = ROWS_AT_ONCE,
) -> torch.Tensor:
    """The same in parts and without gradients."""
    parts = zip(torch.split(left, rows_at_once), torch.split(right, rows_at_once), strict=True)
    return torch.cat([score(critic, pairs, x, y) for x, y in parts])


def held_out_reading(
    critic: torch.nn.Sequential, pairs: Pairs, rows: npt.NDArray[np.int64], generator: torch.Generator
) -> Reading:
    """The value on held-out rows, in float64 and by log-sum-exp.

    The product of the marginals is made of each row with itself, of weight 1/n, and of each row with others. The first
    part is known; for the second, whole cyclic shifts of the rows in random order are taken, so that each input and
    each output occurs equally often.

    The standard error is that of the mean influence of a row: f(x, y) less what exp f says of x with every output and
    of y with every input, both in units of mean exp f. Rows with equal inputs count as one.
    """
    n = len(rows)
    drawn = torch.from_numpy(rows)[torch.randperm(n, generator=generator)]
    order = drawn.to(pairs.inputs.device)
    n_shifts = min(n - 1, max(HELD_OUT_SHIFTS, HELD_OUT_PAIRS // n))
    shifts = (1 + torch.randperm(n - 1, generator=generator)[:n_shifts]).tolist()
    own = score_all(critic, pairs, order, order).double()  # (n,)
    others = torch.stack([score_all(critic, pairs, order, order.roll(shift)) for shift in shifts]).double()
    log_own = own - math.log(n)  # exp f times the share of such pairs; summed over (n_shifts + 1), averaged over n
    log_others = others + math.log((n - 1) / n / n_shifts)  # (n_shifts, n)
    terms = torch.cat([log_own[None], log_others])  # (n_shifts + 1, n)
    log_mean = terms.flatten().logsumexp(dim=0) - math.log(n)
    ratios = (terms - log_mean).exp()
    by_input = ratios.sum(dim=0)  # (n,)
    by_output = sum(ratio.roll(-shift) for shift, ratio in zip([0, *shifts], ratios, strict=True))
    influence = own - by_input - by_output
    deviations = ((influence - influence.mean()) / n).cpu().numpy()
    return Reading(
        value_nats=float(own.mean() - log_mean),
        standard_error_nats=clustered_error(deviations, pairs.input_labels[drawn.numpy()]),
    )
