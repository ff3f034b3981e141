"""The hub's cache as huggingface_hub lays it out, filled with tiny GPT-2s under the names of the real ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from tests.bench.tiny_models import END_OF_TEXT, LIST_TASKS, load_list, tiny_model

N_POSITIONS = 64


def put_in_cache(cache_folder: Path, repo: str, commit: str, files: Mapping[str, bytes]) -> Path:
    """Blobs named by their hash, the branch, and a snapshot of links to the blobs; returns the snapshot."""
    storage = cache_folder / f"models--{repo.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for folder in (storage / "blobs", storage / "refs", snapshot):
        folder.mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    for name, content in files.items():
        # Large files go by their sha256, the others by the hash that git gives them.
        is_large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = hashlib.sha256(content).hexdigest() if is_large else git
        (storage / "blobs" / blob).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    return snapshot


def gpt2_files(folder: Path, *, seed: int = 0, is_prefixed: bool = False) -> dict[str, bytes]:
    """The files of a GPT-2 repository, with the tensors of a tiny model of this seed.

    Args:
        folder: to work in.
        seed: of the weights.
        is_prefixed: whether names of tensors begin with `transformer.`, as in distilgpt2; gpt2 has them without.
    """
    tokenizer = gpt2_tokenizer()
    folder.mkdir(parents=True)
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = gpt2_tensors(seed=seed, vocabulary_size=tokenizer.get_vocab_size())
    if is_prefixed:
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return files | {
        "config.json": json.dumps(gpt2_config(tokenizer.get_vocab_size())).encode(),
        "generation_config.json": json.dumps({"bos_token_id": 0, "eos_token_id": 0}).encode(),
        "tokenizer_config.json": json.dumps({"model_max_length": N_POSITIONS}).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def gpt2_config(vocabulary_size: int) -> dict[str, object]:
    """Every field that gpt2's own configuration has, with small numbers."""
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 0,
        "embd_pdrop": 0.1,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": N_POSITIONS,
        "n_embd": 16,
        "n_head": 2,
        "n_layer": 2,
        "n_positions": N_POSITIONS,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": vocabulary_size,
    }


def gpt2_tensors(*, seed: int, vocabulary_size: int) -> dict[str, Tensor]:
    """Weights under the names that gpt2's file has, with the masks that older releases stored beside them."""
    model = tiny_model("gpt2", seed=seed)
    tensors = {
        name.removeprefix("transformer."): weight.detach().clone()
        for name, weight in model.named_parameters()  # the tied output layer is not among them
    }
    rows = torch.randn(vocabulary_size, model.config.n_embd, generator=torch.Generator().manual_seed(seed)) * 0.02
    tensors["wte.weight"] = rows
    for block in range(model.config.n_layer):
        tensors[f"h.{block}.attn.bias"] = torch.tril(torch.ones(1, 1, N_POSITIONS, N_POSITIONS))
    return tensors


@cache
def gpt2_tokenizer() -> Tokenizer:
    """A byte-level BPE of the kind of GPT-2, which knows the names of the list tasks and invented words."""
    names = [name for task in LIST_TASKS for name in load_list(task).names]
    invented = [f"{first}{second}" for first in ("blor", "fren", "gask", "mip", "tund") for second in "aeiouxyz"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in (*names, *invented)], trainer)
    return tokenizer
