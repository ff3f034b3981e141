"""Small separable critics, cross-fitted: trained and weighed on some rows, to be scored on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from bench.errors import Refusal
from bench.estimators.protocol import Pairs, refuse_constant_columns

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""What critics minimise: from the scores of every x with every y, shape (..., n, n), joint pairs on the diagonal, and
the weights of the pairs, shape (n,), to shape (...)."""

HEADS = ((16, 0.0), (64, 0.0), (64, 0.5), (32, 1.0))
"""What the critics of a fold see: so many principal components, each divided by its variance to this power over 2 (0
keeps their proportions, 1 whitens them). Nobody knows beforehand how many components carry the dependence, or whether
the large ones do; the critics are weighed by what they are worth on the validation rows."""

N_COMPONENTS = max(n for n, _ in HEADS)
HIDDEN_WIDTH = 128
EMBEDDING = 32
WEIGHT_DECAY = 1e-3

VALIDATION_SHARE = 1 / 8
"""Of the distinct inputs outside the held-out fold."""

EVALUATE_EVERY = 25
PATIENCE = 5
"""Evaluations without a better critic in any fold after which training ends."""

MIN_INPUTS_PER_FOLD = 40
"""Distinct inputs that a fold must hold out: below, its scores are mostly chance, and so are its validation rows."""

MAX_HEAD_WEIGHT = 2.0
"""Few validation rows may be told apart without a mistake, and then no weight is too large for them."""

MIN_STEPS = 20
"""Below, the learning rate has no time to rise."""

N_ERRORS_BETTER = 2.0
"""Standard errors by which critics must beat silence on validation rows to be heard."""

POWER_ITERATIONS = 4
"""Of the subspace iteration that finds the principal components: matrix products only, many times faster than `eigh`
when cores are busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How critics are trained; `loss` is both what they minimise and what validation rows judge them by."""

    n_folds: int
    n_steps: int
    batch_size: int
    learning_rate: float
    loss: Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Positions of rows, shapes (n_train,), (n_validation,) and (n_held_out,); no distinct input is in two of them."""

    train: Ints
    validation: Ints
    held_out: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFitted:
    """The critics of every fold, and the rows that each has not seen.

    Attributes:
        rows: the rows of the population in use, shape (n_rows,); folds count along it.
        weights: their weights, shape (n_rows,), sum to 1.
    """

    rows: Ints
    weights: Floats
    folds: tuple[Fold, ...]
    _views: tuple[tuple[View, ...], tuple[View, ...]]
    _critics: Critics
    _stack: tuple[torch.Tensor, ...]

    @torch.no_grad()
    def scores(self, fold: int, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """Scores of every input with every output by the critics of a fold, shape (n_inputs, n_outputs)."""
        x, y = (views[fold].of(rows) for views, rows in zip(self._views, (inputs, outputs), strict=True))
        return combine(self._critics.scores(x, y, fold), self._stack[fold])

    def held_out_scores(self, fold: int, pairs: Pairs) -> torch.Tensor:
        """Scores of the rows that the critics of this fold have not seen, shape (n_held_out, n_held_out)."""
        chosen = torch.from_numpy(self.rows[self.folds[fold].held_out]).to(pairs.inputs.device)
        return self.scores(fold, pairs.inputs[chosen], pairs.outputs[chosen])


@torch.no_grad()
def cross_fit(pairs: Pairs, rows: Ints, weights: Floats, training: Training, rng: np.random.Generator) -> CrossFitted:
    """Train the critics of all folds at once and weigh them.

    Args:
        rows, weights: which rows of the pairs to use, and their weights, shapes (n_rows,).

    Raises:
        Refusal: fewer than `MIN_INPUTS_PER_FOLD` distinct inputs a fold, constant columns, a fold without variation.
    """
    labels = pairs.input_labels[rows]
    folds = deal(labels, training.n_folds, rng)
    refuse_constant_columns(pairs)
    device = pairs.inputs.device
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
    shares = torch.from_numpy(weights).to(device, torch.float32)
    views, features = [], []
    for side in (pairs.inputs, pairs.outputs):
        chosen = side[torch.from_numpy(rows).to(device)]
        views.append(tuple(View.fit(chosen[fold.train], shares[fold.train], generator) for fold in folds))
        features.append(
            torch.stack([view.of(chosen) for view in views[-1]])
        )  # (n_folds, n_heads, n_rows, n_components)
    x, y = features
    critics = Critics(n_folds=training.n_folds, generator=generator, device=device)

    def judge(fold: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores by each head on the validation rows of a fold, (n_heads, n, n), and the weights there, (n,)."""
        here = folds[fold].validation
        return critics.scores(x[fold, :, here], y[fold, :, here], fold), shares[here] / shares[here].sum()

    _train(critics, x, y, weights, folds, judge, training, rng)
    return CrossFitted(
        rows=rows,
        weights=weights,
        folds=folds,
        _views=(views[0], views[1]),
        _critics=critics,
        _stack=tuple(weigh(*judge(index), training.loss, labels[fold.validation]) for index, fold in enumerate(folds)),
    )


def deal(labels: Ints, n_folds: int, rng: np.random.Generator) -> tuple[Fold, ...]:
    """Deal the distinct inputs, and with each all rows that have it, into folds.

    Args:
        labels: of the input of each row, shape (n_rows,).

    Raises:
        Refusal: too few distinct inputs.
    """
    distinct, index = np.unique(labels, return_inverse=True)
    if len(distinct) < n_folds * MIN_INPUTS_PER_FOLD:
        raise Refusal(
            f"{n_folds} folds need at least {n_folds * MIN_INPUTS_PER_FOLD} distinct inputs, got {len(distinct)}; "
            f"use noisy_channel for a small enumerated population, or more samples"
        )
    order = rng.permutation(len(distinct))
    folds = []
    for held_out in np.array_split(order, n_folds):
        rest = rng.permutation(np.setdiff1d(order, held_out))
        role = np.zeros(len(distinct), dtype=np.int64)
        role[rest[: max(2, round(VALIDATION_SHARE * len(rest)))]] = 1
        role[held_out] = 2
        train, validation, out = (np.flatnonzero(role[index] == part) for part in range(3))
        folds.append(Fold(train=train, validation=validation, held_out=out))
    return tuple(folds)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the heads of one fold see of one side.

    Attributes:
        mean: shape (d_model,).
        axes: orthonormal columns, largest variance first, shape (d_model, `N_COMPONENTS`); zeros where the data has
            fewer dimensions.
        scales: factor of each component for each head, shape (n_heads, 1, `N_COMPONENTS`); 0 for those it does not see.
    """

    mean: torch.Tensor
    axes: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def fit(cls, rows: torch.Tensor, weights: torch.Tensor, generator: torch.Generator) -> Self:
        """Principal components of weighted rows by subspace iteration.

        Each head's components are scaled together, so that its effective dimensions (participation ratio of the
        variances) have variance 1: the critics then need no scale of their own, and the scale of the data drops out.
        """
        weights = weights / weights.sum()
        mean = weights @ rows
        centred = (rows - mean) * weights.sqrt()[:, None]  # its Gram matrix is the covariance
        n_components = min(N_COMPONENTS, rows.shape[1])
        start = torch.randn(rows.shape[1], n_components, generator=generator, device=rows.device)
        basis = torch.linalg.qr(start).Q
        for _ in range(POWER_ITERATIONS):
            basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
        _, singular, rotation = torch.linalg.svd(centred @ basis, full_matrices=False)
        axes = basis @ rotation.T
        variances = singular.square()
        if not float(variances[0]) > 0:
            raise Refusal(
                f"all {len(rows)} rows that a fold trains on are equal on one side; use exact or noisy_channel for "
                f"populations with so few distinct rows"
            )
        scales = torch.zeros(len(HEADS), 1, N_COMPONENTS, device=rows.device)
        floor = 1e-6 * variances[0]
        for index, (n_seen, power) in enumerate(HEADS):
            scale = variances[:n_seen].clamp(min=floor).pow(-power / 2)
            seen = variances[:n_seen] * scale.square()
            scales[index, 0, : len(scale)] = scale * (seen.sum() / seen.square().sum()).sqrt()
        return cls(mean=mean, axes=torch.nn.functional.pad(axes, (0, N_COMPONENTS - axes.shape[1])), scales=scales)

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (n_heads, n_rows, `N_COMPONENTS`)."""
        components = (rows - self.mean) @ self.axes  # (n_rows, N_COMPONENTS)
        return components * self.scales


class Tower:
    """x -> linear(x) + two hidden layers, one such map for every head, evaluated together.

    Attributes:
        parameters: all of them, each with the leading axis n_heads; those of several towers, with more axes in front.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = tuple(parameters)

    @classmethod
    def drawn(cls, *leading: int, generator: torch.Generator, device: torch.device) -> Self:
        """At random, with these axes in front."""

        def normal(*shape: int, deviation: float) -> torch.Tensor:
            return torch.randn(*leading, *shape, generator=generator, device=device) * deviation

        def hidden(n_inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
            gain = math.sqrt(2 / n_inputs)
            return normal(n_inputs, HIDDEN_WIDTH, deviation=gain), normal(1, HIDDEN_WIDTH, deviation=0.5)

        linear = normal(N_COMPONENTS, EMBEDDING, deviation=0.5 / math.sqrt(N_COMPONENTS))
        first, second = hidden(N_COMPONENTS), hidden(HIDDEN_WIDTH)
        last = normal(HIDDEN_WIDTH, EMBEDDING, deviation=0.3 / math.sqrt(HIDDEN_WIDTH))
        return cls((linear, *first, *second, last, normal(1, EMBEDDING, deviation=0.0)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """From (n_heads, n, `N_COMPONENTS`) to (n_heads, n, `EMBEDDING`)."""
        linear, first, first_bias, second, second_bias, last, bias = self.parameters
        state = torch.nn.functional.gelu(x @ first + first_bias)
        state = torch.nn.functional.gelu(state @ second + second_bias)
        return x @ linear + state @ last + bias


class Critics:
    """f(x, y) = <g(x), h(y)> for every fold and head. Biases of g and h give terms in x alone and in y alone.

    One fold after the other is evaluated, so that what it leaves in between stays in the cache; one optimiser steps for
    all, because each fold's parameters and their gradients are a part of `parameters`.

    Attributes:
        parameters: those of all folds, each with the leading axes (n_folds, n_heads) and its gradient.
    """

    def __init__(self, *, n_folds: int, generator: torch.Generator, device: torch.device) -> None:
        towers = [Tower.drawn(n_folds, len(HEADS), generator=generator, device=device) for _ in range(2)]
        self.parameters = [parameter for tower in towers for parameter in tower.parameters]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._towers = [[_part(tower, fold) for tower in towers] for fold in range(n_folds)]

    def scores(self, x: torch.Tensor, y: torch.Tensor, fold: int) -> torch.Tensor:
        """Of the heads of a fold: from (n_heads, n, `N_COMPONENTS`), x and y, to (n_heads, n_inputs, n_outputs)."""
        g, h = self._towers[fold]
        return g(x) @ h(y).transpose(-1, -2) / math.sqrt(EMBEDDING)


def _part(tower: Tower, fold: int) -> Tower:
    """The tower of one fold: leaves that share the memory of values and gradients with `tower`."""
    leaves = []
    for parameter in tower.parameters:
        assert parameter.grad is not None, "an optimiser adds to gradients that are there, and replaces none"
        leaves.append(parameter[fold].detach().requires_grad_())
        leaves[-1].grad = parameter.grad[fold]
    return Tower(leaves)


def _train(
    critics: Critics,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: Floats,
    folds: tuple[Fold, ...],
    judge: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
    training: Training,
    rng: np.random.Generator,
) -> None:
    """Leave every critic as it was when its validation rows judged it best."""
    parameters, loss = critics.parameters, training.loss
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=training.n_steps, pct_start=0.1
    )
    batch_size = min(training.batch_size, *(len(fold.train) for fold in folds))
    uniform = torch.full((batch_size,), 1 / batch_size, device=x.device)
    best = torch.full((len(folds), len(HEADS)), math.inf, device=x.device)
    kept = [parameter.clone() for parameter in parameters]
    improved_at = 0
    for step in range(1, training.n_steps + 1):
        optimiser.zero_grad(set_to_none=False)
        for index, fold in enumerate(folds):
            chosen = torch.from_numpy(_batch(fold.train, weights, batch_size, rng)).to(x.device)
            some_x, some_y = (side[index].index_select(1, chosen) for side in (x, y))  # (n_heads, batch_size, ...)
            with torch.enable_grad():
                loss(critics.scores(some_x, some_y, index), uniform).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % EVALUATE_EVERY and step != training.n_steps:
            continue
        now = torch.stack([loss(*judge(fold)) for fold in range(len(folds))])  # (n_folds, n_heads)
        better = now < best  # never where it is NaN
        best = torch.where(better, now, best)
        for parameter, copy in zip(parameters, kept, strict=True):
            copy[better] = parameter[better]
        improved_at = step if bool(better.any()) else improved_at
        if step - improved_at >= PATIENCE * EVALUATE_EVERY:
            break
    n_lost = int((~torch.isfinite(best)).all(dim=1).sum())
    if n_lost:
        raise Refusal(
            f"the critics of {n_lost} of {len(folds)} folds gave no finite value: training diverged; lower the "
            f"learning rate of {training.learning_rate:g}"
        )
    for parameter, copy in zip(parameters, kept, strict=True):
        parameter.copy_(copy)


def _batch(rows: Ints, weights: Floats, size: int, rng: np.random.Generator) -> Ints:
    """Rows of a batch: all different where they weigh the same, else drawn by weight."""
    share = weights[rows]
    if share.min() == share.max():
        return rng.choice(rows, size=size, replace=False, shuffle=False)
    return rng.choice(rows, size=size, p=share / share.sum())


def weigh(scores: torch.Tensor, weights: torch.Tensor, loss: Loss, labels: Ints) -> torch.Tensor:
    """Non-negative weights of the heads that minimise the loss of the sum of their scores, shape (n_heads,).

    Few numbers, fitted on rows apart, though these rows also said when to stop. If the sum does not beat a critic that
    says nothing by `N_ERRORS_BETTER` standard errors there, all weights are 0: the information of unrelated rows then
    mostly comes out as 0 and not somewhat below.

    Args:
        scores: of the validation rows, shape (n_heads, n, n).
        labels: of their inputs, shape (n,).
    """

    def of_mix(values: Floats, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mix = torch.tensor(values, dtype=torch.float32, device=scores.device, requires_grad=True)
        return mix, loss(combine(scores, mix), weights)

    def objective(values: Floats) -> tuple[float, Floats]:
        with torch.enable_grad():
            mix, total = of_mix(values, weights)
        (gradient,) = torch.autograd.grad(total, mix)
        return float(total.detach()), gradient.double().cpu().numpy()

    nothing = np.zeros(len(scores))
    bounds = [(0.0, MAX_HEAD_WEIGHT)] * len(scores)
    found = minimize(objective, nothing + 1 / len(scores), jac=True, method="L-BFGS-B", bounds=bounds)
    with torch.enable_grad():
        varied = weights.clone().requires_grad_()
        gain = of_mix(nothing, varied)[1] - of_mix(found.x, varied)[1]
    (influences,) = torch.autograd.grad(gain, varied)  # of each row on the gain
    deviations = weights * (influences - influences @ weights)
    error = clustered_error(deviations.double().cpu().numpy(), labels)
    is_better = float(gain.detach()) > N_ERRORS_BETTER * error
    return torch.tensor(found.x if is_better else nothing, dtype=torch.float32, device=scores.device)


def clustered_error(deviations: Floats, labels: Ints) -> float:
    """Standard error of a sum of deviations of which those of equal inputs may go together, shapes (n_rows,)."""
    return float(np.sqrt(np.square(np.bincount(labels, weights=deviations)).sum()))


def combine(scores: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    """The sum of the heads' scores under their weights, shapes (n_heads, n, m) and (n_heads,) to (n, m)."""
    combined: torch.Tensor = torch.tensordot(mix, scores, dims=1)
    return combined
