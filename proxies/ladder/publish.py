"""From a training run to model folders in the repository: half-precision weights, tokenizer, model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from bench.cache import work_folder_beside
from bench.catalog import LADDER_FAMILY, LADDER_FOLDER, RECORD_FILE
from bench.errors import ModelError
from bench.loading import quiet_libraries
from proxies.ladder.corpus import Part, stated_parts
from proxies.ladder.sizes import CONTEXT_LENGTH, N_STEPS, SEQUENCES_PER_STEP, VOCABULARY_SIZE, Size
from proxies.ladder.tokenizer import save_tokenizer
from proxies.ladder.train import Run, configuration

LICENCE = "MIT"
TRAINING_FILE = "training.json"
"""In a model folder: seed, tokens and loss of the training that gave the weights."""


@dataclass(frozen=True)
class Rung:
    """One published model: a size at a step."""

    size: Size
    step: int

    @property
    def name(self) -> str:
        """The catalog's name: that of the size, and the step where training went on afterwards."""
        return self.size.name if self.step == N_STEPS else f"{self.size.name}-step{self.step}"

    @property
    def n_tokens(self) -> int:
        """How many it has seen."""
        return self.step * SEQUENCES_PER_STEP * CONTEXT_LENGTH

    @property
    def folder(self) -> Path:
        """Where it is published."""
        return LADDER_FOLDER / self.name


def rungs(sizes: Sequence[Size]) -> tuple[Rung, ...]:
    """All models that the sizes give: each size at its kept steps."""
    return tuple(Rung(size, step) for size in sizes for step in size.kept_steps())


def publish(rung: Rung, run: Run, tokenizer: Tokenizer) -> None:
    """Write the folder that `transformers` and `bench` load, whole or not at all, with how the weights came about.

    Raises:
        ModelError: the run has no weights of this step, or they do not fit.
        StorageError: the folder cannot be written.
    """
    weights = run.checkpoint(rung.step)
    if not weights.is_file():
        raise ModelError(f"{weights} is missing; move {run.folder} away to train {rung.size.name} anew")
    model = GPT2LMHeadModel(configuration(rung.size))
    lacking = model.load_state_dict(load_file(weights), strict=False)
    if lacking.unexpected_keys or set(lacking.missing_keys) - {"lm_head.weight"}:
        raise ModelError(f"{weights} does not fit {rung.size.name}: {lacking}")
    about = {"family": LADDER_FAMILY, "variant": "base", "precision": "float16", "licence": LICENCE}
    with work_folder_beside(rung.folder) as work:
        fresh = work / rung.name
        with quiet_libraries():
            model.to(torch.float16).save_pretrained(fresh)
        save_tokenizer(tokenizer, fresh)
        (fresh / RECORD_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        (fresh / TRAINING_FILE).write_text(json.dumps(run.told(rung.step)) + "\n", encoding="utf-8")
        (fresh / "README.md").write_text(card(rung, "not measured yet", stated_parts()), encoding="utf-8")
        (fresh / "generation_config.json").unlink(missing_ok=True)  # it says nothing that config.json does not
        if rung.folder.exists():
            rung.folder.rename(work / "former")
        fresh.rename(rung.folder)


def card(rung: Rung, bits_per_byte: str, parts: Sequence[Part]) -> str:
    """The model card of a rung, in Markdown with the header that the hub reads."""
    size = rung.size
    whole = "" if rung.step == N_STEPS else f", taken after {rung.step:,} of {N_STEPS:,} steps of the training"
    sources = "".join(f"- {part.title} ({part.licence})\n" for part in parts)
    return f"""---
language: en
license: {LICENCE.lower()}
pipeline_tag: text-generation
library_name: transformers
---

# {rung.name}

A GPT-2 of {size.n_layer} blocks, {size.n_embd} dimensions and {size.n_parameters:,} parameters, trained from scratch on
{rung.n_tokens:,} tokens of English prose and definitions{whole}. It is one of a ladder of models trained on the same
tokens, made to see how measurements change with size. It writes no useful text.

- Held-out bits per byte: {bits_per_byte}
- Vocabulary: {VOCABULARY_SIZE:,} tokens of byte-level BPE; context: {CONTEXT_LENGTH} tokens
- Weights: float16, computed from float32 weights; training in bfloat16
- Made by: `python -m proxies.ladder train {size.name.removeprefix("gpt2-ladder-")}`

## Training text

Prose and definitions from packages that state a free licence or the public domain. `corpus.json`, two folders up, has
the hash of every package and what was taken from it. Prompts of the benchmark were kept out; what the recipe
missed, and sentences of its text task that are in it, are counted on the page of the ladder. Facts that the tasks ask
for are in it, as in any English text.

{sources}
The weights are under the {LICENCE} licence; the texts are under theirs.
"""
