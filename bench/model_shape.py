"""The sizes of a model from its configuration alone: counted on the architecture, built without memory for weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from bench.activations import decoder_of
from bench.blocks import find_blocks
from bench.derived import cut_blocks
from bench.errors import ModelError
from bench.loading import quiet_libraries
from bench.models import attention_of, read_config
from bench.sources import Derivation

_NOTHING = Derivation()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a model decides what it costs.

    Attributes:
        architecture: the class in transformers.
        n_blocks: blocks of the residual stream.
        d_model: width of the residual stream.
        d_attention: query heads times their width; 0 without attention.
        n_heads: query heads; 0 without attention.
        d_intermediate: width of the feed-forward part; None where the configuration does not say.
        n_vocabulary: rows of the embedding.
        n_parameters: all of them, tied weights counted once.
        n_block_parameters: those inside the blocks, all blocks together.
        takes_positions: whether prefixes can be shared; without positions as an argument they cannot.
    """

    architecture: str
    n_blocks: int
    d_model: int
    d_attention: int
    n_heads: int
    d_intermediate: int | None
    n_vocabulary: int
    n_parameters: int
    n_block_parameters: int
    takes_positions: bool

    @property
    def parameters_per_block(self) -> float:
        """Mean over the blocks."""
        return self.n_block_parameters / self.n_blocks


def shape_of(folder: Path, derivation: Derivation = _NOTHING) -> ModelShape:
    """The sizes of the model of a folder, of which config.json is looked at and nothing else.

    Raises:
        ModelError: it is not the configuration of a causal decoder-only model.
    """
    config = read_config(folder)
    cut_blocks(config, derivation, folder.name)
    with torch.device("meta"):
        model = built(config, folder)
    blocks = find_blocks(model)
    decoder = config.get_text_config(decoder=True)
    d_model = int(decoder.hidden_size)
    n_heads = int(getattr(decoder, "num_attention_heads", 0) or 0)
    d_head = getattr(decoder, "head_dim", None) or (d_model // n_heads if n_heads else 0)
    return ModelShape(
        architecture=type(model).__name__,
        n_blocks=len(blocks),
        d_model=d_model,
        d_attention=n_heads * int(d_head),
        n_heads=n_heads,
        d_intermediate=_intermediate(decoder, d_model),
        n_vocabulary=model.get_input_embeddings().num_embeddings,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_block_parameters=sum(parameter.numel() for parameter in blocks.parameters()),
        takes_positions="position_ids" in inspect.signature(decoder_of(model).forward).parameters,
    )


def small_model(folder: Path, *, n_blocks: int, n_vocabulary: int, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The first blocks of the architecture in their full width with random weights, for a small vocabulary.

    Raises:
        ModelError: the architecture cannot be cut.
    """
    config = read_config(folder)
    cut_blocks(config, Derivation(n_blocks=n_blocks), folder.name)
    decoder = config.get_text_config(decoder=True)
    decoder.vocab_size = n_vocabulary
    decoder.pad_token_id = decoder.bos_token_id = decoder.eos_token_id = None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = built(config, folder)
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def built(config: PreTrainedConfig, folder: Path) -> PreTrainedModel:
    """A model of a configuration on the default device of torch.

    Raises:
        ModelError: transformers builds none.
    """
    with quiet_libraries():
        try:
            return AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attention_of(config), trust_remote_code=False
            )
        except Exception as error:  # a configuration comes from anywhere and fails in any way
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelError(
                f"no model can be built from {folder / 'config.json'} ({type(error).__name__}: {reason})"
            ) from error


def _intermediate(config: PreTrainedConfig, d_model: int) -> int | None:
    """Architectures call it by several names; GPT-2's None means four times the width."""
    for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"):
        if hasattr(config, name):
            value = getattr(config, name)
            return 4 * d_model if value is None else int(value) if isinstance(value, int) else None
    return None
