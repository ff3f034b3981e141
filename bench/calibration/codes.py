"""Finite sets of codes with known mutual information: enumerated, and sampled through Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from bench.calibration.samplers import Population, isometry, structure_suffix
from bench.errors import EstimationError
from bench.estimators.noisy_channel import SCALES, label
from bench.estimators.protocol import Pairs, Reading, pair_up
from tasks.seeds import generator

ROWS_AT_ONCE = 8192
"""Lists that are encoded at a time: a few temporaries of this many rows beside the population itself."""

TRUTH_ERROR_NATS = 0.01 * math.log(2)
"""Draws are added until the standard error of a Monte-Carlo truth is at most this."""

MIN_TRUTH_DRAWS = 4000
"""Draws before the standard error of a Monte-Carlo truth is believed."""

NODES = np.linspace(-12.0, 12.0, 100_001)
"""Trapezoidal nodes for a standard normal: 2e-33 of it lies outside, and a step of 2.4e-4 resolves any kink inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCodes:
    """Every ordered list of `n_items` different names out of `n_names`, as a list task has them; I = its entropy.

    The input is the sum of one random embedding per name and position, the output that input plus a random two-layer
    GELU map of it, as a block with a residual stream would give. Both are injective, which `draw` checks.
    """

    n_names: int
    n_items: int
    d_model: int
    structure_seed: int = 0

    population: ClassVar[Population] = "enumerated"
    truth_error_nats: ClassVar[float] = 0.0  # a closed form

    def __post_init__(self) -> None:
        if not 1 <= self.n_items <= self.n_names:
            raise EstimationError(f"expected 1 to {self.n_names} items of {self.n_names} names, got {self.n_items}")

    @property
    def name(self) -> str:
        """See `Sampler`."""
        return f"list-codes-{self.n_names}p{self.n_items}-{self.d_model}d{structure_suffix(self.structure_seed)}"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        return (
            f"all {self.n_lists:,} ordered lists of {self.n_items} of {self.n_names} names as random codes "
            f"in {self.d_model} dimensions, through a random GELU block"
        )

    @property
    def n_lists(self) -> int:
        """Size of the population."""
        return math.perm(self.n_names, self.n_items)

    @property
    def truth_nats(self) -> float:
        """See `Sampler`: log(n! / (n - k)!)."""
        return math.log(self.n_lists)

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """The whole population, once each; neither argument is used.

        Raises:
            EstimationError: two lists share a code, in too few dimensions for float32.
        """
        structure = generator(
            self.structure_seed, "calibration", "list-codes", self.n_names, self.n_items, self.d_model
        )

        def normal(*shape: int) -> torch.Tensor:
            return torch.from_numpy(structure.standard_normal(shape, dtype=np.float32))

        embeddings = normal(self.n_items, self.n_names, self.d_model) / math.sqrt(self.n_items)
        inner, outer = normal(2, self.d_model, self.d_model) / math.sqrt(self.d_model)
        lists = torch.from_numpy(
            np.fromiter(permutations(range(self.n_names), self.n_items), dtype=np.dtype((np.int64, self.n_items)))
        )  # (n_lists, n_items)
        inputs, outputs = torch.empty(2, self.n_lists, self.d_model)
        for start in range(0, self.n_lists, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            inputs[part] = embeddings[torch.arange(self.n_items), lists[part]].sum(dim=1)
            outputs[part] = inputs[part] + torch.nn.functional.gelu(inputs[part] @ inner) @ outer
        pairs = pair_up(inputs, outputs)
        for side, labels in (("inputs", pairs.input_labels), ("outputs", pairs.output_labels)):
            if (n_distinct := int(labels.max()) + 1) != self.n_lists:
                raise EstimationError(
                    f"expected {self.n_lists} distinct {side}, got {n_distinct}; raise d_model={self.d_model}"
                )
        return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class HypercubeCodes:
    """The 2^k corners of a cube, isometrically embedded; inputs and outputs are the same codes.

    Noise in each dimension acts on each coordinate of the cube apart, so that what survives it is k times what
    survives in a channel with a binary input: the one population here whose noisy reading is known at every scale.
    """

    k: int
    d_model: int
    structure_seed: int = 0

    population: ClassVar[Population] = "enumerated"
    truth_error_nats: ClassVar[float] = 0.0  # a closed form

    def __post_init__(self) -> None:
        if not 1 <= self.k <= min(20, self.d_model):
            raise EstimationError(f"expected 1 <= k <= min(20, d_model={self.d_model}), got k={self.k}")

    @property
    def name(self) -> str:
        """See `Sampler`."""
        return f"hypercube-{self.k}bit-{self.d_model}d{structure_suffix(self.structure_seed)}"

    @property
    def description(self) -> str:
        """See `Sampler`."""
        return f"the {2**self.k:,} corners of a cube in {self.d_model} dimensions, inputs and outputs alike"

    @property
    def truth_nats(self) -> float:
        """See `Sampler`: the exact information of the population, k log 2, without noise."""
        return self.k * math.log(2)

    @property
    def truth_at(self) -> Mapping[str, float]:
        """What each reading of `noisy_channel` should be, in nats by its label."""
        return {label(scale): hypercube_information(self.k, scale) for scale in SCALES}

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """The whole population, once each; neither argument is used."""
        corners = np.arange(2**self.k)[:, None] >> np.arange(self.k) & 1  # (2^k, k)
        basis = isometry(self.k, self.d_model, self.structure_seed, "x")
        codes = torch.from_numpy((2 * corners - 1).astype(np.float32) @ basis)
        return pair_up(codes, codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyCodes:
    """A sampled problem from any table of codes: x = the input of a random row, y = its output in Gaussian noise.

    The outputs are centred and divided by their root mean squared norm, the noise has standard deviation `scale` in
    every dimension: the channel of `noisy_channel`, seen by an estimator that has only samples. x takes few values and
    every one of them comes with many y.

    Attributes:
        name: its slug; the codes have no other.
        inputs: shape (n_codes, d_input); equal rows are one and the same x.
        outputs: shape (n_codes, d_output); row i belongs to row i of `inputs`.
        scale: standard deviation of the noise relative to the spread of the codes.
        truth_nats, truth_error_nats: I(X; Y) by Monte Carlo over the known mixture, made with the sampler.
        structure_seed: the seed of those draws.
    """

    name: str
    inputs: torch.Tensor
    outputs: torch.Tensor
    scale: float
    structure_seed: int = 0
    truth_nats: float = field(init=False)
    truth_error_nats: float = field(init=False)
    _centres: torch.Tensor = field(init=False, repr=False)  # the outputs as the noise meets them, float64

    population: ClassVar[Population] = "sampled"

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise EstimationError(f"expected a positive noise scale, got {self.scale}")
        codes = pair_up(self.inputs, self.outputs)
        if codes.output_labels.max() == 0:
            raise EstimationError("all output codes are equal: they have no spread to set the noise by")
        centred = codes.outputs.double() - codes.outputs.double().mean(dim=0)
        centres = centred / centred.square().sum(dim=1).mean().sqrt()
        rng = generator(self.structure_seed, "calibration", "noisy-codes")
        truth = mixture_information(codes.input_labels, centres, self.scale, rng)
        derived = {
            "truth_nats": truth.value_nats,
            "truth_error_nats": truth.standard_error_nats,
            "_centres": centres,
        }
        for attribute, value in derived.items():
            object.__setattr__(self, attribute, value)  # frozen for everyone else

    @property
    def description(self) -> str:
        """See `Sampler`."""
        n_codes, d_model = self.outputs.shape
        return f"one of {n_codes:,} codes in {d_model} dimensions, seen through Gaussian noise of s={self.scale:g}"

    def draw(self, n_samples: int, rng: np.random.Generator) -> Pairs:
        """See `Sampler`."""
        chosen = torch.from_numpy(rng.integers(len(self.inputs), size=n_samples))
        noise = torch.from_numpy(rng.standard_normal((n_samples, self.outputs.shape[1]), dtype=np.float32))
        return pair_up(self.inputs[chosen], noise.mul_(self.scale).add_(self._centres[chosen].float()))


def hypercube_information(k: int, scale: float) -> float:
    """I(C; C + s Z) in nats for C uniform on the corners of a k-cube of root mean squared norm 1, s = `scale`.

    Each coordinate is +-1/sqrt(k) in noise of standard deviation s, a channel with a binary input and Gaussian noise:
    log 2 - E log(1 + exp(-2 r (r + G))) with r = 1 / (s sqrt(k)) and G standard normal, here by the trapezoidal rule.
    """
    ratio = 1 / (scale * math.sqrt(k))
    density = np.exp(-np.square(NODES) / 2)
    loss = np.logaddexp(0.0, -2 * ratio * (ratio + NODES))
    return k * (math.log(2) - float(density @ loss / density.sum()))


def mixture_information(
    input_labels: npt.NDArray[np.int64], centres: torch.Tensor, scale: float, rng: np.random.Generator
) -> Reading:
    """I(X; Y) = E[log p(y | x) - log p(y)] for y = a uniformly drawn centre + s Z, by plain Monte Carlo in float64.

    Written apart from `bench.estimators.noisy_channel`, as a check on it: independent draws instead of stratified
    ones, log-densities instead of densities, double precision. Each noise is used with both its signs.

    Args:
        input_labels: the x of each centre, shape (n_codes,).
        centres: shape (n_codes, d_model), float64.
        scale: standard deviation s of the noise in every dimension.
        rng: chooses centres and noise.

    Returns:
        Its standard error is at most `TRUTH_ERROR_NATS`. Seconds for 2,000 codes in 768 dimensions.
    """
    labels = torch.from_numpy(input_labels)
    class_sizes = torch.bincount(labels)
    half_norms = centres.square().sum(dim=1) / 2  # (n_codes,)

    def log_ratios(y: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The logarithm of p(y | x) / p(y) for each row of y, its own |y|^2 and the normalising constants cancelled."""
        log_kernel = (y @ centres.T - half_norms) / scale**2  # (n_draws, n_codes)
        is_same_x = labels[chosen][:, None] == labels
        log_given_x = log_kernel.masked_fill(~is_same_x, -math.inf).logsumexp(dim=1) - class_sizes[labels[chosen]].log()
        return log_given_x - (log_kernel.logsumexp(dim=1) - math.log(len(centres)))

    n_at_once = max(16, 2**21 // len(centres))  # 16 MB a matrix
    ratios = torch.empty(0, dtype=torch.float64)
    error = math.inf
    while len(ratios) < MIN_TRUTH_DRAWS or error > TRUTH_ERROR_NATS:
        chosen = torch.from_numpy(rng.integers(len(centres), size=n_at_once))
        noise = scale * torch.from_numpy(rng.standard_normal((n_at_once, centres.shape[1])))
        both_signs = [log_ratios(centres[chosen] + signed, chosen) for signed in (noise, -noise)]
        ratios = torch.cat([ratios, (both_signs[0] + both_signs[1]) / 2])
        error = float(ratios.std() / math.sqrt(len(ratios)))
    return Reading(value_nats=float(ratios.mean()), standard_error_nats=error)
