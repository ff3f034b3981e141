"""The forward pass of seven decoders written out from their weights: what the block states must be.

Nothing of the model but its state dict and its configuration is used. Everything is computed in float64 and rounded
to float32 once at the end, so a difference to the model is the model's own rounding.
Shapes: `tokens` (n_sequences, n_positions), `hidden` (n_sequences, n_positions, d_model), `query`, `key` and `value`
(n_sequences, n_heads, n_positions, d_head).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel


@torch.no_grad()
def hand_block_states(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Input of block 0 and output of every block, before the final norm.

    Returns:
        float32 states, shape (n_blocks + 1, n_sequences, n_positions, d_model).
    """
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    weights = Weights({name: tensor.double() for name, tensor in model.state_dict().items()})
    states = [architecture.embed(weights, config, tokens)]
    for layer in range(config.num_hidden_layers):
        weights_of_block = weights.under(f"{architecture.blocks}.{layer}")
        states.append(architecture.block(weights_of_block, config, layer, states[-1]))
    return torch.stack(states).float()


class Weights:
    """A state dict in which the names may be given from some module on."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def under(self, module: str) -> Weights:
        start = f"{module}."
        return Weights({name.removeprefix(start): t for name, t in self._tensors.items() if name.startswith(start)})

    def linear(self, name: str, x: Tensor) -> Tensor:
        product = x @ self[f"{name}.weight"].T
        return product + self[f"{name}.bias"] if f"{name}.bias" in self else product

    def conv1d(self, name: str, x: Tensor) -> Tensor:
        """GPT-2 keeps its matrices the other way round."""
        return x @ self[f"{name}.weight"] + self[f"{name}.bias"]

    def layer_norm(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def rms_norm(self, name: str, x: Tensor, epsilon: float, *, plus: float = 0.0) -> Tensor:
        """Gemma keeps its weights as deviations from one: `plus=1`."""
        scaled = x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * (plus + self[f"{name}.weight"])


def heads(x: Tensor, d_head: int) -> Tensor:
    """Cut the last dimension into heads: (n_sequences, n_heads, n_positions, d_head)."""
    return x.unflatten(-1, (-1, d_head)).transpose(1, 2)


def rotary(x: Tensor, theta: float, n_rotated: int | None = None) -> Tensor:
    """Turn dimension i against dimension i + n/2 by position * theta^(-2i/n), for the first n = `n_rotated`."""
    n = n_rotated or x.shape[-1]
    frequencies = theta ** (-torch.arange(0, n, 2, dtype=x.dtype) / n)
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * frequencies  # (n_positions, n / 2)
    first, second, rest = x[..., : n // 2], x[..., n // 2 : n], x[..., n:]
    turned = (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin())
    return torch.cat((*turned, rest), dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float, window: int | None = None) -> Tensor:
    """Causal softmax attention over the last `window` positions, heads side by side again at the end."""
    n_grouped = query.shape[1] // key.shape[1]  # queries that share a key and a value
    key, value = key.repeat_interleave(n_grouped, dim=1), value.repeat_interleave(n_grouped, dim=1)
    position = torch.arange(query.shape[2])
    distance = position[:, None] - position  # (n_positions, n_positions)
    is_seen = (distance >= 0) & (distance < (window or len(position)))
    scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~is_seen, -math.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    mixed = exponentials / exponentials.sum(-1, keepdim=True) @ value
    return mixed.transpose(1, 2).flatten(2)  # (n_sequences, n_positions, n_heads * d_head)


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh, "silu": silu, "relu": relu}


def gpt2_embed(weights: Weights, config: PreTrainedConfig, tokens: Tensor) -> Tensor:
    return weights["transformer.wte.weight"][tokens] + weights["transformer.wpe.weight"][: tokens.shape[1]]


def gpt2_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    d_head, epsilon = config.n_embd // config.n_head, config.layer_norm_epsilon
    projected = weights.conv1d("attn.c_attn", weights.layer_norm("ln_1", hidden, epsilon))
    query, key, value = (heads(part, d_head) for part in projected.chunk(3, dim=-1))
    hidden = hidden + weights.conv1d("attn.c_proj", attend(query, key, value, scale=d_head**-0.5))
    inner = weights.conv1d("mlp.c_fc", weights.layer_norm("ln_2", hidden, epsilon))
    return hidden + weights.conv1d("mlp.c_proj", ACTIVATIONS[config.activation_function](inner))


def gpt_neox_embed(weights: Weights, config: PreTrainedConfig, tokens: Tensor) -> Tensor:
    return weights["gpt_neox.embed_in.weight"][tokens]


def gpt_neox_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    d_head, epsilon = config.hidden_size // config.num_attention_heads, config.layer_norm_eps
    theta, n_rotated = config.rope_parameters["rope_theta"], rotated_dimensions(config, d_head)
    normed = weights.layer_norm("input_layernorm", hidden, epsilon)
    # Head by head the rows are query, key, value: not all queries first.
    query, key, value = heads(weights.linear("attention.query_key_value", normed), 3 * d_head).chunk(3, dim=-1)
    query, key = rotary(query, theta, n_rotated), rotary(key, theta, n_rotated)
    attended = hidden + weights.linear("attention.dense", attend(query, key, value, scale=d_head**-0.5))
    read = hidden if config.use_parallel_residual else attended
    inner = weights.linear("mlp.dense_h_to_4h", weights.layer_norm("post_attention_layernorm", read, epsilon))
    return attended + weights.linear("mlp.dense_4h_to_h", ACTIVATIONS[config.hidden_act](inner))


def opt_embed(weights: Weights, config: PreTrainedConfig, tokens: Tensor) -> Tensor:
    decoder = weights.under("model.decoder")
    embedded = decoder["embed_tokens.weight"][tokens]
    if config.word_embed_proj_dim != config.hidden_size:
        embedded = decoder.linear("project_in", embedded)
    return embedded + decoder["embed_positions.weight"][2 : 2 + tokens.shape[1]]  # two rows that OPT never uses


def opt_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    d_head, epsilon = config.hidden_size // config.num_attention_heads, 1e-5  # the default of torch's LayerNorm

    def attention(x: Tensor) -> Tensor:
        query, key, value = (heads(weights.linear(f"self_attn.{name}_proj", x), d_head) for name in "qkv")
        return weights.linear("self_attn.out_proj", attend(query, key, value, scale=d_head**-0.5))

    def mlp(x: Tensor) -> Tensor:
        return weights.linear("fc2", ACTIVATIONS[config.activation_function](weights.linear("fc1", x)))

    for norm, function in (("self_attn_layer_norm", attention), ("final_layer_norm", mlp)):
        if config.do_layer_norm_before:
            hidden = hidden + function(weights.layer_norm(norm, hidden, epsilon))
        else:  # OPT-350m only
            hidden = weights.layer_norm(norm, hidden + function(hidden), epsilon)
    return hidden


def llama_embed(weights: Weights, config: PreTrainedConfig, tokens: Tensor) -> Tensor:
    return weights["model.embed_tokens.weight"][tokens]


def llama_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    """Qwen2's too: that its query, key and value have biases is seen from its weights."""
    d_head, epsilon = config.hidden_size // config.num_attention_heads, config.rms_norm_eps
    theta = config.rope_parameters["rope_theta"]
    normed = weights.rms_norm("input_layernorm", hidden, epsilon)
    query, key, value = (heads(weights.linear(f"self_attn.{name}_proj", normed), d_head) for name in "qkv")
    attended = attend(rotary(query, theta), rotary(key, theta), value, scale=d_head**-0.5)
    hidden = hidden + weights.linear("self_attn.o_proj", attended)
    return hidden + gated_mlp(weights, config.hidden_act, weights.rms_norm("post_attention_layernorm", hidden, epsilon))


def gemma3_embed(weights: Weights, config: PreTrainedConfig, tokens: Tensor) -> Tensor:
    return weights["model.embed_tokens.weight"][tokens] * math.sqrt(config.hidden_size)


def gemma3_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    """Each sub-layer is normed before and after; so are the queries and the keys, head by head."""
    kind = config.layer_types[layer]
    theta = config.rope_parameters[kind]["rope_theta"]
    window = config.sliding_window if kind == "sliding_attention" else None

    def norm(name: str, x: Tensor) -> Tensor:
        return weights.rms_norm(name, x, config.rms_norm_eps, plus=1.0)

    normed = norm("input_layernorm", hidden)
    query, key, value = (heads(weights.linear(f"self_attn.{name}_proj", normed), config.head_dim) for name in "qkv")
    query, key = rotary(norm("self_attn.q_norm", query), theta), rotary(norm("self_attn.k_norm", key), theta)
    attended = attend(query, key, value, scale=config.query_pre_attn_scalar**-0.5, window=window)
    hidden = hidden + norm("post_attention_layernorm", weights.linear("self_attn.o_proj", attended))
    inner = gated_mlp(weights, config.hidden_activation, norm("pre_feedforward_layernorm", hidden))
    return hidden + norm("post_feedforward_layernorm", inner)


def phi_block(weights: Weights, config: PreTrainedConfig, layer: int, hidden: Tensor) -> Tensor:
    """Attention and MLP both read the same normed input."""
    d_head = config.hidden_size // config.num_attention_heads
    theta, n_rotated = config.rope_parameters["rope_theta"], rotated_dimensions(config, d_head)
    normed = weights.layer_norm("input_layernorm", hidden, config.layer_norm_eps)
    query, key, value = (heads(weights.linear(f"self_attn.{name}_proj", normed), d_head) for name in "qkv")
    query, key = rotary(query, theta, n_rotated), rotary(key, theta, n_rotated)
    attended = weights.linear("self_attn.dense", attend(query, key, value, scale=d_head**-0.5))
    inner = ACTIVATIONS[config.hidden_act](weights.linear("mlp.fc1", normed))
    return hidden + attended + weights.linear("mlp.fc2", inner)


def rotated_dimensions(config: PreTrainedConfig, d_head: int) -> int:
    return int(d_head * config.rope_parameters["partial_rotary_factor"])


def gated_mlp(weights: Weights, activation: str, x: Tensor) -> Tensor:
    gate = ACTIVATIONS[activation](weights.linear("mlp.gate_proj", x))
    return weights.linear("mlp.down_proj", gate * weights.linear("mlp.up_proj", x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Where the blocks are in the state dict, and the two formulas."""

    blocks: str
    embed: Callable[[Weights, PreTrainedConfig, Tensor], Tensor]
    block: Callable[[Weights, PreTrainedConfig, int, Tensor], Tensor]


ARCHITECTURES = {
    "gpt2": Architecture(blocks="transformer.h", embed=gpt2_embed, block=gpt2_block),
    "gpt_neox": Architecture(blocks="gpt_neox.layers", embed=gpt_neox_embed, block=gpt_neox_block),
    "opt": Architecture(blocks="model.decoder.layers", embed=opt_embed, block=opt_block),
    "llama": Architecture(blocks="model.layers", embed=llama_embed, block=llama_block),
    "gemma3_text": Architecture(blocks="model.layers", embed=gemma3_embed, block=gemma3_block),
    "qwen2": Architecture(blocks="model.layers", embed=llama_embed, block=llama_block),
    "phi": Architecture(blocks="model.layers", embed=llama_embed, block=phi_block),
}
