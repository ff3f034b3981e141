"""What batches and shared prefixes save: few-shot prompts answered together, and one prompt at a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config

from bench.cache import cache_folder
from bench.catalog import resolve
from bench.completions import Request
from bench.generation import LocalCompleter
from bench.models import LoadedModel, load
from bench.sources import FolderSource, ModelEntry, WheelSource
from tests.bench.tiny_models import tiny_tokenizer

MODEL = "smollm2-135m-instruct"
N_NEW = 8
WORDS = (
    "cat dog house tree river stone bread chair window garden mountain ocean pencil bottle engine ladder "
    "apple lemon cherry banana orange grape melon carrot onion potato tomato pepper garlic spinach lettuce radish"
).split()
DEMONSTRATIONS = "".join(f"Q: How many letters are in {word}?\nA: {len(word)}\n\n" for word in WORDS[:8])
PROMPTS = [f"{DEMONSTRATIONS}Q: How many letters are in {word}?\nA:" for word in WORDS[8:]]


def random_gpt2() -> LoadedModel:
    config = GPT2Config(vocab_size=8192, n_embd=512, n_layer=8, n_head=8, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    entry = ModelEntry(
        name="random GPT-2",
        family="GPT-2",
        n_parameters=None,
        variant="base",
        precision="float32",
        licence="MIT",
        source=FolderSource(path=Path("nowhere")),
    )
    return LoadedModel(
        model=model,
        tokenizer=tiny_tokenizer(),
        entry=entry,
        revision="",
        weights_sha256="",
        files_sha256="",
        configuration_listing="",
        initializer_range=None,
        n_parameters=model.num_parameters(),
        n_blocks=8,
        d_model=512,
        dtype="float32",
        device="cpu",
    )


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """SmolLM2 where its weights are already here."""
    entry = resolve(MODEL)
    assert isinstance(entry.source, WheelSource)
    is_cached = any(cache_folder().rglob(f"{entry.source.gguf_sha256}-*"))
    return load(entry) if is_cached else random_gpt2()


def answer_together(model: LoadedModel) -> None:
    requests = [Request(prompt=prompt, mode="completion", max_tokens=N_NEW) for prompt in PROMPTS]
    completer = LocalCompleter(model)
    assert sum(1 for _ in completer.complete(requests)) == len(PROMPTS)
    assert completer.shares_prefixes


def answer_alone(model: LoadedModel) -> None:
    settings = GenerationConfig(do_sample=False, max_new_tokens=N_NEW, pad_token_id=0)
    for prompt in PROMPTS:
        ids = torch.tensor([model.tokenizer(prompt).input_ids])
        model.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)


@pytest.mark.benchmark(group="22 few-shot prompts")
def test_few_shot_prompts(benchmark: BenchmarkFixture, model: LoadedModel) -> None:
    """Both in turn, and the best of each: what else the machine does slows down the one as well as the other."""
    alone_seconds: list[float] = []

    def answer_alone_first() -> None:
        start = time.perf_counter()
        answer_alone(model)
        alone_seconds.append(time.perf_counter() - start)

    benchmark.pedantic(lambda: answer_together(model), setup=answer_alone_first, rounds=3)
    if benchmark.disabled:
        return
    ratio = min(alone_seconds) / benchmark.stats.stats.min
    benchmark.extra_info["one by one / together"] = round(ratio, 2)
    print(f"\n{model.entry.name}: one prompt at a time takes {ratio:.1f} times as long as all together")
    assert ratio >= 3
