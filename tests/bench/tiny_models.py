"""Tiny randomly initialised models of many architectures, whole model folders of them, and a tiny GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tasks import load_task
from tasks.task import ListTask, PairTask

N_LAYERS = 2
D_MODEL = 16
END_OF_TEXT = "<|endoftext|>"
_MERGES = ("t h", "th e", "a n", "i n", "Ġ the", "Ġ a")  # enough for words of more than one length
_SYMBOLS = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))  # the 256 bytes, as printable characters
_PIECES = (END_OF_TEXT, *_SYMBOLS, *(merge.replace(" ", "") for merge in _MERGES))
VOCABULARY_SIZE = 272  # rounded up, as trained models do: more rows than the tokenizer has tokens

_SIZES = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY_SIZE,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_GPT2_SIZES = {
    "n_embd": D_MODEL,
    "n_layer": N_LAYERS,
    "n_head": 2,
    "n_positions": 64,
    "vocab_size": VOCABULARY_SIZE,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_GROUPED = {"num_key_value_heads": 1, "intermediate_size": 32}

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: transformers.GPT2Config(**_GPT2_SIZES),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_SIZES, intermediate_size=32),
    "opt": lambda: transformers.OPTConfig(**_SIZES, ffn_dim=32, word_embed_proj_dim=8, pad_token_id=1),
    "llama": lambda: transformers.LlamaConfig(**_SIZES, **_GROUPED),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SIZES, **_GROUPED, head_dim=8, pad_token_id=0),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZES, **_GROUPED),
    "phi": lambda: transformers.PhiConfig(**_SIZES, intermediate_size=32),
}

# Further architectures in which the blocks must be found; some name their list or their sizes in ways of their own.
MORE_CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bloom": lambda: transformers.BloomConfig(
        hidden_size=D_MODEL, n_layer=N_LAYERS, n_head=2, vocab_size=VOCABULARY_SIZE
    ),
    "falcon": lambda: transformers.FalconConfig(**_SIZES),
    "mpt": lambda: transformers.MptConfig(d_model=D_MODEL, n_layers=N_LAYERS, n_heads=2, vocab_size=VOCABULARY_SIZE),
    "gptj": lambda: transformers.GPTJConfig(**_GPT2_SIZES, rotary_dim=4),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        hidden_size=D_MODEL,
        num_layers=N_LAYERS,
        num_heads=2,
        attention_types=[[["global", "local"], N_LAYERS // 2]],
        vocab_size=VOCABULARY_SIZE,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "mistral": lambda: transformers.MistralConfig(**_SIZES, **_GROUPED),
    # As many experts as blocks: the lists of experts must not be taken for the list of blocks.
    "mixtral": lambda: transformers.MixtralConfig(
        **_SIZES, **_GROUPED, num_local_experts=N_LAYERS, num_experts_per_tok=1
    ),
    "mamba": lambda: transformers.MambaConfig(
        hidden_size=D_MODEL, num_hidden_layers=N_LAYERS, state_size=4, vocab_size=VOCABULARY_SIZE
    ),
    "stablelm": lambda: transformers.StableLmConfig(**_SIZES, **_GROUPED),
    "gpt_bigcode": lambda: transformers.GPTBigCodeConfig(**_GPT2_SIZES),
}


def tiny_model(architecture: str, *, seed: int = 0) -> PreTrainedModel:
    """A model with random weights, in eval mode; the global random state is left alone."""
    config = (CONFIGS | MORE_CONFIGS)[architecture]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def tiny_tokenizer(*, prepends_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in the manner of GPT-2: any text is tokens, and back again."""
    merges = [tuple(merge.split()) for merge in _MERGES]
    inner = tokenizers.Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(_PIECES)}, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if prepends_bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", pair=f"{END_OF_TEXT} $A $B", special_tokens=[(END_OF_TEXT, 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def save_tiny(
    folder: Path,
    architecture: str = "gpt2",
    *,
    seed: int = 0,
    with_tokenizer: bool = True,
    prepends_bos: bool = False,
) -> PreTrainedModel:
    """Write a model folder as `save_pretrained` does, and return the model that is in it."""
    model = tiny_model(architecture, seed=seed)
    model.save_pretrained(folder)
    if with_tokenizer:
        tiny_tokenizer(prepends_bos=prepends_bos).save_pretrained(folder)
    return model


def write_tiny_gguf(path: Path, *, seed: int = 0) -> PreTrainedModel:
    """Write a tiny Llama as llama.cpp's converter would, in float32, and return the same model."""
    model = tiny_model("llama", seed=seed)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(_PIECES) + [f"<unused{i}>" for i in range(VOCABULARY_SIZE - len(_PIECES))])
    writer.add_token_types([3] + [1] * (VOCABULARY_SIZE - 1))  # control, normal
    writer.add_token_merges(list(_MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, array in _gguf_tensors(model):
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _gguf_tensors(model: PreTrainedModel) -> list[tuple[str, npt.NDArray[np.float32]]]:
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    inside_block = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    tensors = [
        ("token_embd.weight", weights["model.embed_tokens.weight"]),
        ("output_norm.weight", weights["model.norm.weight"]),
        ("output.weight", weights["lm_head.weight"]),
    ]
    n_heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    for layer in range(model.config.num_hidden_layers):
        for theirs, ours in inside_block.items():
            array = weights[f"model.layers.{layer}.{ours}.weight"]
            if theirs in n_heads:  # llama.cpp keeps the two halves of each rotary pair side by side
                array = array.reshape(n_heads[theirs], 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            tensors.append((f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(array)))
    return tensors


LIST_TASKS = ("country", "animal", "colour")


def load_list(name: str) -> ListTask:
    task = load_task(name)
    assert isinstance(task, ListTask)
    return task


def load_pairs(name: str) -> PairTask:
    task = load_task(name)
    assert isinstance(task, PairTask)
    return task


def list_tokenizer(*, prepends_bos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer in which the first 30 names of three list tasks and 40 invented words are one token each.

    So are the marks of pair tasks and the words of the first 30 antonyms that are none of these.
    """
    names = [f" {name}" for task in LIST_TASKS for name in load_list(task).names[:30]]
    invented = [f" {first}{second}" for first in ("blor", "fren", "gask", "mip", "tund") for second in "aeiouxyz"]
    antonyms = [f" {word}" for pair in load_pairs("antonym").pairs[:30] for word in (pair.query, pair.answers[0])]
    pieces = dict.fromkeys([END_OF_TEXT, "?", ",", *names, *invented, ":", "\n", *antonyms])
    inner = tokenizers.Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r" ?\w+|,|:|\n"), "isolated")
    inner.decoder = decoders.Fuse()
    if prepends_bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", pair=f"{END_OF_TEXT} $A $B", special_tokens=[(END_OF_TEXT, 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def save_list_model(folder: Path, architecture: str = "gpt2", *, seed: int = 0, prepends_bos: bool = False) -> Path:
    """A model folder on which the list tasks can be measured in a second."""
    save_tiny(folder, architecture, seed=seed, with_tokenizer=False)
    list_tokenizer(prepends_bos=prepends_bos).save_pretrained(folder)
    return folder
