"""Models derived from another one, as a `Derivation` says: fewer blocks, fresh weights, weights in fewer bits."""

from __future__ import annotations

import hashlib

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.blocks import find_blocks
from bench.errors import ModelError
from bench.sources import GROUP_SIZE, Derivation

DERIVATION_VERSION = 1
"""Raised when the same suffix would give other weights than before."""


def recipe_sha256(source_sha256: str, derivation: Derivation) -> str:
    """Hex sha256 that stands for derived weights: of the hash of what they are made from and of how they are made.

    Not of the parameters themselves: so it can be told without loading or drawing them.
    """
    recipe = f"{derivation.suffix} group size {GROUP_SIZE} version {DERIVATION_VERSION}"
    return hashlib.sha256(f"{source_sha256}  original\n{recipe}\n".encode()).hexdigest()


def round_to_nearest(weights: torch.Tensor, *, n_bits: int, group_size: int = GROUP_SIZE) -> torch.Tensor:
    """Weights in `n_bits`, written back as numbers of their own dtype.

    Each group of `group_size` neighbouring inputs of an output has 2**n_bits levels, evenly spaced from its least to
    its greatest weight, and every weight goes to the nearest: by half a step at most. The levels are asymmetric
    because symmetric ones around 0 leave one of 2**n_bits unused, which of 2 bits is a quarter. Least and greatest
    weight stay as they are, so rounding a second time changes nothing (in float32; a narrower dtype rounds the levels
    themselves).

    Args:
        weights: shape (n_outputs, n_inputs), any floating dtype; computed in float32.
        n_bits: 1 to 8.
        group_size: inputs in a group; the last group is shorter where it does not divide n_inputs.
    """
    n_steps = 2**n_bits - 1
    rounded = []
    for group in torch.split(weights.float(), group_size, dim=1):  # (n_outputs, <= group_size)
        low, high = group.amin(dim=1, keepdim=True), group.amax(dim=1, keepdim=True)
        step = (high - low) / n_steps
        codes = ((group - low) / step.where(step > 0, torch.ones_like(step))).round()
        levels = low + codes * step
        rounded.append(high.where(codes == n_steps, levels))  # exactly, which the sum may miss by its last digit
    return torch.cat(rounded, dim=1).to(weights.dtype)


def quantise(model: PreTrainedModel, *, n_bits: int, name: str) -> None:
    """Round the weight matrices of the blocks in place (see `round_to_nearest`).

    That is every weight of a linear layer inside a block; embeddings, output layer, norms and biases stay.

    Raises:
        ModelError: that is less than half of the blocks' weights, which keep them in other ways, as stacked experts.
    """
    blocks = find_blocks(model)
    layers = [module for module in blocks.modules() if isinstance(module, nn.Linear | Conv1D)]
    n_rounded = sum(parameter.numel() for parameter in {layer.weight for layer in layers})
    n_weights = sum(parameter.numel() for parameter in blocks.parameters() if parameter.ndim >= 2)
    if not layers or 2 * n_rounded < n_weights:
        raise ModelError(
            f"{name}: only {n_rounded:,} of the {n_weights:,} weights of its blocks are in linear layers, which is all "
            f"that can be rounded; leave out @int{n_bits}"
        )
    with torch.no_grad():
        for layer in layers:
            # Conv1D keeps its matrix as (n_inputs, n_outputs).
            weights = layer.weight.T if isinstance(layer, Conv1D) else layer.weight  # (n_outputs, n_inputs)
            weights.copy_(round_to_nearest(weights, n_bits=n_bits))


def cut_blocks(config: PreTrainedConfig, derivation: Derivation, name: str) -> int:
    """Make a configuration that of the blocks that are kept, in place; returns how many are left out.

    What it lists layer by layer is cut too.

    Raises:
        ModelError: there are fewer blocks than are to be kept, or the first ones cannot do without the others.
    """
    n_kept = derivation.n_blocks
    if n_kept is None:
        return 0
    decoder = config.get_text_config(decoder=True)
    n_blocks = int(decoder.num_hidden_layers)
    if n_kept > n_blocks:
        raise ModelError(
            f"{name}: @blocks={n_kept} asks for more than the {n_blocks} blocks there are; choose 1 to {n_blocks}"
        )
    if getattr(decoder, "num_kv_shared_layers", 0):
        raise ModelError(f"{name}: its blocks share keys and values, counted from the last one; leave out @blocks")
    for key, value in list(vars(decoder).items()):  # such as layer_types or attention_layers
        if "layer" in key and isinstance(value, list | tuple) and len(value) == n_blocks:
            setattr(decoder, key, value[:n_kept])
    decoder.num_hidden_layers = n_kept
    return n_blocks - n_kept
