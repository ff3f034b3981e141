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

from bench.catalog import LADDER_FAMILY, LADDER_FOLDER, RECORD_FILE
from bench.loading import quiet_libraries
from proxies.ladder.corpus import Part
from proxies.ladder.sizes import CONTEXT_LENGTH, N_STEPS, SEQUENCES_PER_STEP, VOCABULARY_SIZE, Size
from proxies.ladder.tokenizer import save_tokenizer
from proxies.ladder.train import configuration

LICENCE = "MIT"


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


def publish(rung: Rung, weights: Path, tokenizer: Tokenizer) -> None:
    """Write the model folder that `transformers` and `bench` load; the card follows with the report."""
    model = GPT2LMHeadModel(configuration(rung.size))
    lacking = model.load_state_dict(load_file(weights), strict=False)
    if lacking.unexpected_keys or set(lacking.missing_keys) - {"lm_head.weight"}:
        raise ValueError(f"{weights} does not fit {rung.size.name}: {lacking}")
    with quiet_libraries():
        model.to(torch.float16).save_pretrained(rung.folder)
    save_tokenizer(tokenizer, rung.folder)
    about = {"family": LADDER_FAMILY, "variant": "base", "precision": "float16", "licence": LICENCE}
    (rung.folder / RECORD_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (rung.folder / "generation_config.json").unlink(missing_ok=True)  # it says nothing that config.json does not


def card(rung: Rung, bits_per_byte: str, parts: Sequence[Part]) -> str:
    """The model card of a rung, in Markdown with the header that the hub reads."""
    size = rung.size
    whole = "" if rung.step == N_STEPS else f", taken after {rung.step:,} of {N_STEPS:,} steps of the training"
    sources = "".join(f"- {part.title} ({part.licence})\n" for part in parts)
    return f"""---
language: en
licence: {LICENCE.lower()}
pipeline_tag: text-generation
library_name: transformers
---

# {rung.name}

A GPT-2 of {size.n_layer} blocks, {size.n_embd} dimensions and {size.n_parameters:,} parameters, trained from scratch on
{rung.n_tokens:,} tokens of English prose and definitions{whole}. It is one of a ladder of models that differ in size
only, made to see how measurements change with size. It writes no useful text.

- Held-out bits per byte: {bits_per_byte}
- Vocabulary: {VOCABULARY_SIZE:,} tokens of byte-level BPE; context: {CONTEXT_LENGTH} tokens
- Weights: float16, computed from float32 weights; training in bfloat16
- Made by: `python -m proxies.ladder train {size.name.removeprefix("gpt2-ladder-")}`

## Training text

Prose and definitions from packages that state a free licence or the public domain. `corpus.json`, two folders up, has
the hash of every package and what was taken from it. Nothing in the format of the benchmark's prompts is in it;
facts that the tasks ask for are, as in any English text.

{sources}
The weights are under the {LICENCE} licence; the texts are under theirs.
"""
