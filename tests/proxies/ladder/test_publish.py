"""From a training run to a model folder, on a model of one small block; and two processes at one run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bench.catalog import resolve
from bench.errors import ModelError
from bench.models import load
from proxies.ladder import publish as publishing
from proxies.ladder import train
from proxies.ladder.corpus import stated_parts
from proxies.ladder.publish import Rung, card, publish, rungs
from proxies.ladder.sizes import N_STEPS, SIZES, Size
from proxies.ladder.train import Run

ROOT = Path(__file__).resolve().parents[3]
TINY = Size("gpt2-ladder-tiny", n_embd=32, n_layer=1, n_head=1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(rungs(SIZES)[0].folder / "tokenizer.json"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Two steps of training, published into a folder of its own."""
    monkeypatch.setattr(publishing, "LADDER_FOLDER", tmp_path / "models")
    monkeypatch.setattr(train, "SEQUENCES_PER_STEP", 2)
    tokens = np.random.default_rng(0).integers(0, 8192, 2 * 2 * 256 + 1).astype(np.uint16)
    run = Run(TINY, tokens, tmp_path / "run", n_steps=2)
    run.train()
    return run


def published(run: Run, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> Path:
    monkeypatch.setattr(publishing, "N_STEPS", 2)
    rung = Rung(TINY, 2)
    publish(rung, run, tokenizer)
    return rung.folder


def test_a_published_model_has_the_weights_of_the_run_in_half_precision(
    run: Run, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    folder = published(run, monkeypatch, tokenizer)
    loaded = load(resolve(str(folder)))
    weights = dict(loaded.model.named_parameters())
    for name, weight in run.named_weights().items():
        assert torch.equal(weights[name].detach(), weight.half().float()), name
    assert (loaded.entry.family, loaded.entry.variant, loaded.entry.precision) == ("GPT-2 ladder", "base", "float16")
    assert loaded.tokenizer("Of the same page.").input_ids == tokenizer.encode("Of the same page.").ids
    told = json.loads((folder / "training.json").read_text())
    assert (told["seed"], told["step"], told["tokens_sha256"]) == (0, 2, run.tokens_sha256)


def test_publishing_again_replaces_the_whole_folder(
    run: Run, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    folder = published(run, monkeypatch, tokenizer)
    (folder / "stale").write_text("of before")
    (folder / "README.md").write_text("bits per byte of other weights")
    published(run, monkeypatch, tokenizer)
    assert not (folder / "stale").exists()
    assert "not measured yet" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing left beside it


def test_nothing_is_published_of_a_run_without_weights(
    run: Run, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    folder = published(run, monkeypatch, tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run.checkpoint(2).unlink()
    with pytest.raises(ModelError, match="step-2.safetensors is missing; move .* away to train gpt2-ladder-tiny anew"):
        published(run, monkeypatch, tokenizer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_rungs_are_named_by_size_and_step() -> None:
    names = [rung.name for rung in rungs(SIZES)]
    assert names[:3] == ["gpt2-ladder-xs", "gpt2-ladder-s-step114", "gpt2-ladder-s-step458"]
    assert Rung(SIZES[0], N_STEPS).n_tokens == 14_999_552


def test_a_card_has_the_header_that_the_hub_reads() -> None:
    header = card(Rung(SIZES[0], N_STEPS), "2.000", stated_parts()).split("---\n")[1]
    assert "license: mit\n" in header and "library_name: transformers\n" in header
