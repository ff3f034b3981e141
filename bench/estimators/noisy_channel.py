"""Information through a Gaussian channel, over an enumerated population: no training, a standard error, a curve.

Source: Goldfeld et al. 2019, "Estimating Information Flow in Deep Neural Networks" (arXiv 1810.05728). There the noise
is part of the network; here it is added to the codes after they are centred and scaled, so that one scale means
the same thing at every layer and in every model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import EstimationError
from bench.estimators.exact import entropy, exact_information
from bench.estimators.protocol import MutualInformation, Pairs, Reading

SCALES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
HEADLINE_SCALE = 0.16
"""The finest scale at which most cells are not saturated (`python -m proxies.noise_scale`): finer scales say "at least
this much" almost everywhere, coarser ones throw away differences that could be measured."""

COLUMNS = 2048
"""Codes per tile: a tile of 640 draws x 2,048 codes in float32 is 5 MB and stays in the last-level cache."""

CPU_DRAWS = 64
"""Draws of a tile that go through all scales together on a CPU: four temporaries of 0.5 MB stay near the core."""

ROUNDING_NATS = 1e-5
"""float32 rounding of a sum of densities, part of every standard error: draws that all agree are not exact."""

NEGLIGIBLE = -80.0
"""Log-densities below this are raised to it, or left out: e^-80 changes no sum, but below e^-87 float32 is subnormal,
and `exp` 30 times slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyChannel:
    """I(X; Y + s Z) with Y centred and divided by its root mean squared norm, Z standard normal in every dimension.

    Y + s Z is a Gaussian mixture whose centres are known, so both densities in I = E[log p(y | x) - log p(y)] are
    closed forms and only the expectation is estimated, by Monte Carlo over centres and noise. The result depends on
    the codes only through their Gram matrix divided by s^2: rotation, translation, rescaling, a permutation of the
    samples and an isometric embedding into more dimensions change nothing.

    It is at most the exact mutual information, falls as s grows and tends to the exact value as s tends to 0. Read it
    as the information that survives noise whose standard deviation *along any one direction* is s times the
    spread of the codes: differences between codes much smaller than s do not count.

    Attributes:
        scales: noise scales s of the curve, ascending.
        headline_scale: the scale that stands for the estimate; one of `scales`.
        n_draws: Monte-Carlo draws of a centre and a noise z, each used with z and with -z (antithetic, which takes
            out most of the noise's own variance), and at all scales.
    """

    scales: tuple[float, ...] = SCALES
    headline_scale: float = HEADLINE_SCALE
    n_draws: int = 640

    name = "noisy_channel"
    is_sample_based = False

    def __post_init__(self) -> None:
        if (
            self.headline_scale not in self.scales
            or list(self.scales) != sorted(set(self.scales))
            or self.scales[0] <= 0
        ):
            raise EstimationError(
                f"expected ascending positive noise scales that hold the headline scale, got {self.scales} and "
                f"{self.headline_scale}"
            )
        if self.n_draws < 2:
            raise EstimationError(f"a standard error needs at least 2 draws, got {self.n_draws}")

    @property
    def settings(self) -> Mapping[str, float | int | str | tuple[float, ...]]:
        """Noise scales, headline scale and number of draws."""
        return {"scales": self.scales, "headline_scale": self.headline_scale, "n_draws": self.n_draws}

    @property
    def labels(self) -> tuple[str, ...]:
        """One label a scale."""
        return tuple(label(scale) for scale in self.scales)

    @property
    def headline(self) -> str:
        """The label of the headline scale."""
        return label(self.headline_scale)

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        """Estimate the curve. Time goes with n_draws x n_samples x d_model, memory with n_draws x `COLUMNS`.

        The standard error is that of independent draws; the draws are stratified over the population, so it is on
        the large side. A population without variation in X or in Y has I = 0 exactly.
        """
        started = time.perf_counter()
        codes = normalise(pairs.outputs, pairs.weights)
        values, errors = np.zeros((2, len(self.scales)))
        if codes is not None and pairs.input_labels.max() > 0:
            losses = self._losses(codes, pairs, rng)
            values = entropy(pairs.input_labels, pairs.weights) - losses.mean(axis=1)
            errors = np.hypot(losses.std(axis=1, ddof=1) / np.sqrt(self.n_draws), ROUNDING_NATS)
        ceiling = exact_information(pairs)
        return MutualInformation(
            readings={
                name: Reading(value_nats=float(value), standard_error_nats=float(error))
                for name, value, error in zip(self.labels, values, errors, strict=True)
            },
            headline=self.headline,
            direction="lower bound",
            ceiling_nats=ceiling,
            cap_nats=ceiling,
            n_samples=pairs.n_samples,
            d_model=pairs.outputs.shape[1],
            seconds=time.perf_counter() - started,
        )

    def _losses(self, codes: torch.Tensor, pairs: Pairs, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """What the noise costs: -log p(x | y) at each scale of each draw, its two signs averaged.

        I = H(X) - E[-log p(x | y)]: the entropy is exact, the loss never negative, so no estimate passes H(X).

        With centre i, noise z and another centre j, p(x | y) is the sum over the j of class x of w_j exp(e_j), over the
        sum over all j, where e_j = (<c_i, c_j> - |c_i|^2 / 2 - |c_j|^2 / 2) / s^2 + (<z, c_j> - <z, c_i>) / s is the
        log-density of the draw under centre j relative to its own centre. Two matrix products serve every scale, and
        no maximum has to be subtracted: e_j <= g^2 / 2 for a standard normal g, far below overflow.

        Returns:
            Shape (n_scales, n_draws), nats.
        """
        chosen = stratified_draws(pairs.weights, self.n_draws, rng)
        noise = torch.from_numpy(rng.standard_normal((self.n_draws, codes.shape[1]), dtype=np.float32))
        noise = noise.to(codes.device)
        rows = torch.from_numpy(chosen).to(codes.device)
        centres = codes[rows]  # (n_draws, d_model)
        half_norms = squared_norms(codes) / 2  # (n_samples,)
        own_half_norm = half_norms[rows][:, None]
        own_noise = (noise * centres).sum(dim=1, keepdim=True)  # (n_draws, 1)

        weights = torch.from_numpy(pairs.weights).to(device=codes.device, dtype=torch.float32)
        labels = torch.from_numpy(pairs.input_labels).to(codes.device)
        own_label = labels[rows][:, None]
        is_injective = len(np.unique(pairs.input_labels)) == pairs.n_samples
        shape = (len(self.scales), 2, self.n_draws)  # scale, sign of the noise, draw
        marginal = torch.zeros(shape, dtype=torch.float64, device=codes.device)
        joint = torch.zeros_like(marginal)
        n_together = CPU_DRAWS if codes.device.type == "cpu" else self.n_draws
        for start in range(0, len(codes), COLUMNS):
            part = slice(start, start + COLUMNS)
            signal = (centres @ codes[part].T).sub_(half_norms[part]).sub_(own_half_norm)  # (n_draws, n_columns)
            jitter = (noise @ codes[part].T).sub_(own_noise)
            here = torch.nonzero((rows >= start) & (rows < start + COLUMNS))[:, 0]
            signal[here, rows[here] - start] = -math.inf  # added below exactly, not up to rounding divided by s^2
            jitter[here, rows[here] - start] = 0.0
            for first in range(0, self.n_draws, n_together):
                draws = slice(first, first + n_together)
                same_class = None if is_injective else (own_label[draws] == labels[part]).float()
                self._add_densities(
                    signal[draws], jitter[draws], weights[part], same_class, marginal[..., draws], joint[..., draws]
                )
        marginal += weights[rows]  # the draw's own centre: exp(0) times its weight
        joint += weights[rows]
        losses = marginal.log() - joint.log()
        return losses.mean(dim=1).cpu().numpy()

    def _add_densities(
        self,
        signal: torch.Tensor,
        jitter: torch.Tensor,
        weights: torch.Tensor,
        same_class: torch.Tensor | None,
        marginal: torch.Tensor,
        joint: torch.Tensor,
    ) -> None:
        """Add what the other centres of a tile contribute to the densities of some draws.

        Args:
            signal, jitter: of each draw with each centre, shape (n, n_columns).
            weights: of the centres, shape (n_columns,).
            same_class: 1 where a centre has the input of the draw, else 0; None: nowhere.
            marginal, joint: sums to add to, shape (n_scales, 2, n).
        """
        nearest, loudest = float(signal.amax()), float(jitter.abs().amax())
        scaled, density = torch.empty_like(signal), torch.empty_like(signal)
        for index, scale in enumerate(self.scales):
            if nearest / scale**2 + loudest / scale <= NEGLIGIBLE:
                continue
            torch.mul(signal, scale**-2, out=scaled)
            for sign in (0, 1):
                torch.add(scaled, jitter, alpha=1 / scale if sign else -1 / scale, out=density)
                density.clamp_(min=NEGLIGIBLE).exp_()
                marginal[index, sign] += density @ weights
                if same_class is not None:
                    joint[index, sign] += density.mul_(same_class) @ weights


def label(scale: float) -> str:
    """The name of a reading: `s=0.08`."""
    return f"s={scale:g}"


def normalise(outputs: torch.Tensor, weights: npt.NDArray[np.float64]) -> torch.Tensor | None:
    """Centre the codes and divide by their root mean squared norm, shape (n_samples, d_model); None if all are equal.

    Statistics are taken in float64, the codes stay in float32.
    """
    share = torch.from_numpy(weights).to(outputs.device)
    mean = torch.zeros(outputs.shape[1], dtype=torch.float64, device=outputs.device)
    for start in range(0, len(outputs), COLUMNS):
        mean += share[start : start + COLUMNS] @ outputs[start : start + COLUMNS].double()
    codes = outputs - mean.float()
    squares = squared_norms(codes).double()
    mean_square = float(squares @ share)
    if mean_square <= (1e-6 * float(mean.norm())) ** 2:  # all rows equal up to float32 rounding
        return None
    return codes.div_(mean_square**0.5)


def squared_norms(codes: torch.Tensor) -> torch.Tensor:
    """Squared norm of each row, shape (n_samples,), without a temporary as large as the codes."""
    parts = [codes[start : start + COLUMNS].square().sum(dim=1) for start in range(0, len(codes), COLUMNS)]
    return torch.cat(parts)


def stratified_draws(weights: npt.NDArray[np.float64], n_draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices drawn with probability `weights`, one from each of `n_draws` equal strata of the cumulated weight."""
    uniform = (np.arange(n_draws) + rng.random(n_draws)) / n_draws
    return np.minimum(np.searchsorted(np.cumsum(weights), uniform, side="right"), len(weights) - 1)
