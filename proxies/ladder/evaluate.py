"""Held-out bits per byte of a model, document by document, and what simpler models of the text reach."""

from __future__ import annotations

import bz2
import lzma
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from proxies.ladder.corpus import documents
from proxies.ladder.sizes import CONTEXT_LENGTH, VOCABULARY_SIZE
from proxies.ladder.train import Tokens

WINDOWS_AT_ONCE = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents as tokens, and how many bytes of UTF-8 each has."""

    tokens: Tokens
    n_bytes: npt.NDArray[np.int64]

    @classmethod
    def read(cls, path: Path, tokens: Tokens) -> HeldOut:
        """The documents of a file of the corpus with their tokens, each ended by token 0."""
        n_bytes = np.array([len(text.encode()) for text in documents(path)], np.int64)
        if int((tokens == 0).sum()) != len(n_bytes):
            raise ValueError(f"{len(n_bytes)} documents, but {int((tokens == 0).sum())} ends of text in their tokens")
        return cls(tokens, n_bytes)

    def per_document(self, bits: Floats) -> Floats:
        """Sums over the tokens of each document, its end of text included; shape (n_documents,)."""
        ends = np.flatnonzero(self.tokens == 0)
        return np.add.reduceat(bits, np.concatenate([[0], ends[:-1] + 1]))


@dataclass(frozen=True)
class BitsPerByte:
    """Bits per byte of UTF-8 over all held-out documents, with its standard error (documents drawn anew)."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, bits: Floats, n_bytes: npt.NDArray[np.int64]) -> BitsPerByte:
        """The ratio of two sums over documents; its error by the delta method."""
        total = float(n_bytes.sum())
        value = float(bits.sum()) / total
        spread = float(((bits - value * n_bytes) ** 2).sum())
        n = len(n_bytes)
        return cls(value, math.sqrt(spread * n / (n - 1)) / total)


def token_bits(model: GPT2LMHeadModel, tokens: Tokens) -> Floats:
    """Surprisal of every token in bits, given at least half a context before it (but at the start); shape (n,).

    The stream is read in windows of `CONTEXT_LENGTH` that overlap by half. The first token of all has nothing before
    it and counts as one of `VOCABULARY_SIZE` equals.
    """
    half = CONTEXT_LENGTH // 2
    bits = np.zeros(len(tokens))
    bits[0] = math.log2(VOCABULARY_SIZE)
    ids = torch.from_numpy(tokens.astype(np.int64))
    starts = list(range(0, max(1, len(tokens) - half), half))
    whole = [start for start in starts if start + CONTEXT_LENGTH <= len(tokens)]
    batches = [whole[i : i + WINDOWS_AT_ONCE] for i in range(0, len(whole), WINDOWS_AT_ONCE)]
    batches += [[start] for start in starts if start not in set(whole)]
    with torch.inference_mode():
        for batch in batches:
            windows = torch.stack([ids[start : start + CONTEXT_LENGTH] for start in batch])
            logits = model(windows).logits[:, :-1]
            nats = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none")
            for start, row in zip(batch, nats.view(len(batch), -1).double().numpy() / math.log(2), strict=True):
                skipped = 0 if start == 0 else half - 1  # those that the window before has predicted
                bits[start + 1 + skipped : start + 1 + len(row)] = row[skipped:]
    return bits


def unigram_bits(train: Tokens, tokens: Tokens) -> Floats:
    """Surprisal of every token under its frequency in the training stream (plus one); shape (n,)."""
    counts = np.bincount(train, minlength=VOCABULARY_SIZE) + 1.0
    surprisal: Floats = -np.log2(counts / counts.sum())
    return surprisal[tokens]


def compressed_bits_per_byte(path: Path) -> float:
    """Of the held-out text under LZMA or bzip2, whichever is better."""
    text = "\n".join(documents(path)).encode()
    packed = (lzma.compress(text, preset=9 | lzma.PRESET_EXTREME), bz2.compress(text))
    return 8 * min(map(len, packed)) / len(text)
