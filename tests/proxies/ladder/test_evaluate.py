"""Held-out bits per byte against sums worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from proxies.ladder.evaluate import BitsPerByte, HeldOut, compressed_bits_per_byte, token_bits, unigram_bits
from proxies.ladder.sizes import CONTEXT_LENGTH, VOCABULARY_SIZE, Size
from proxies.ladder.train import configuration

TINY = Size("tiny", n_embd=32, n_layer=1, n_head=1)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(configuration(TINY))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # predictions that differ from token to token
    return model.eval()


@pytest.mark.parametrize("n_tokens", [1, 2, 100, CONTEXT_LENGTH, CONTEXT_LENGTH + 1, 3 * CONTEXT_LENGTH + 17])
def test_every_token_counts_once_with_at_least_half_a_context_before_it(model: GPT2LMHeadModel, n_tokens: int) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY_SIZE, n_tokens).astype(np.uint16)
    found = token_bits(model, tokens)
    assert found[0] == math.log2(VOCABULARY_SIZE)
    ids = torch.from_numpy(tokens.astype(np.int64))
    half = CONTEXT_LENGTH // 2
    for place in {1, 5, half - 1, half, half + 1, CONTEXT_LENGTH - 1, CONTEXT_LENGTH, n_tokens - 1}:
        if not 0 < place < n_tokens:
            continue
        # The window is the first one that holds the token.
        start = 0 if place < CONTEXT_LENGTH else ((place - CONTEXT_LENGTH) // half + 1) * half
        assert place - start >= (half if start else 1)
        with torch.inference_mode():
            logits = model(ids[None, start:place]).logits[0, -1]
        expected = -float(nn.functional.log_softmax(logits, -1)[ids[place]]) / math.log(2)
        assert found[place] == pytest.approx(expected, rel=1e-4), place


def test_bits_are_summed_document_by_document(tmp_path: Path) -> None:
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in ("abcd", "ä")), encoding="utf-8")
    held_out = HeldOut.read(path, np.array([5, 6, 0, 7, 0], np.uint16))
    assert held_out.n_bytes.tolist() == [4, 2]
    bits = held_out.per_document(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert bits.tolist() == [6.0, 9.0]
    assert BitsPerByte.of(bits, held_out.n_bytes).value == 2.5


def test_tokens_of_another_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "held-out.jsonl"
    path.write_text('"one"\n"two"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="2 documents, but 1 ends of text"):
        HeldOut.read(path, np.array([5, 0], np.uint16))


def test_the_standard_error_is_the_spread_over_corpora() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        n_bytes = generator.integers(50, 2000, 200)
        bits = n_bytes * generator.normal(2.0, 0.3, 200)
        found.append(BitsPerByte.of(bits, n_bytes))
    spread = np.std([one.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.1)


def test_unigram_and_compression(tmp_path: Path) -> None:
    train = np.zeros(VOCABULARY_SIZE, np.uint16)
    bits = unigram_bits(train, np.array([0, 1], np.uint16))
    assert bits[0] == pytest.approx(-math.log2((VOCABULARY_SIZE + 1) / (2 * VOCABULARY_SIZE)))
    assert bits[1] == pytest.approx(math.log2(2 * VOCABULARY_SIZE))
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps("the same word " * 1000) + "\n", encoding="utf-8")
    assert 0 < compressed_bits_per_byte(path) < 0.2
