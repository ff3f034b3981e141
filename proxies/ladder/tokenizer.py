"""The tokenizer of all ladder models: byte-level BPE as GPT-2 has it, of 8,192 tokens, trained on the corpus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2TokenizerFast

from bench.cache import CHOOSE_CACHE
from bench.locks import exclusive
from bench.store import write_whole
from proxies.ladder.corpus import Corpus, documents
from proxies.ladder.sizes import CONTEXT_LENGTH, VOCABULARY_SIZE

END_OF_TEXT = "<|endoftext|>"
"""Ends every document; the first token of the vocabulary."""

TRAINING_DOCUMENTS = 60_000
"""The BPE learns from the first documents of the training part; their order depends on nothing but their text."""


def train_tokenizer(corpus: Corpus) -> Tokenizer:
    """The BPE that this corpus gives."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(documents(corpus.train), TRAINING_DOCUMENTS), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer files that transformers reads."""
    fast = GPT2TokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=CONTEXT_LENGTH,
    )
    fast.save_pretrained(folder)


def encoded(tokenizer: Tokenizer, path: Path) -> npt.NDArray[np.uint16]:
    """All documents of a file of the corpus as one stream of token ids, each ended by `END_OF_TEXT`."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None  # the first of the vocabulary
    pieces = []
    batch: list[str] = []
    for text in documents(path):
        batch.append(text)
        if len(batch) == 4096:
            pieces.append(_ids(tokenizer, batch, end))
            batch = []
    pieces.append(_ids(tokenizer, batch, end))
    return np.concatenate(pieces)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A corpus with its tokenizer and its tokens: streams of shape (n_tokens,)."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: npt.NDArray[np.uint16]
    held_out: npt.NDArray[np.uint16]

    def read_documents(self, n_tokens: int) -> Iterator[str]:
        """The training documents that begin within the first tokens of the stream."""
        n_documents = int((self.train[:n_tokens] == 0).sum()) + 1
        return islice(documents(self.corpus.train), n_documents)


def prepare(corpus: Corpus, tell: Callable[[str], None] = print) -> Prepared:
    """The tokenizer of a corpus and its tokens, kept beside the text so that they always belong together.

    Raises:
        StorageError: they cannot be written.
    """
    with exclusive(corpus.folder.with_suffix(".lock"), seconds=math.inf, remedy=CHOOSE_CACHE):
        path = corpus.folder / "tokenizer.json"
        if not path.is_file():
            tell("training the tokenizer")
            write_whole(path, train_tokenizer(corpus).to_str().encode())
        tokenizer = Tokenizer.from_file(str(path))
        streams = []
        for text in (corpus.train, corpus.held_out):
            tokens = text.with_suffix(".npy")
            if not tokens.is_file():
                tell(f"turning {text.stem} into tokens")
                partial = text.with_suffix(".partial.npy")
                np.save(partial, encoded(tokenizer, text))
                partial.replace(tokens)
            streams.append(np.load(tokens))
    return Prepared(corpus, tokenizer, *streams)


def _ids(tokenizer: Tokenizer, texts: list[str], end: int) -> npt.NDArray[np.uint16]:
    found = tokenizer.encode_batch(texts, add_special_tokens=False)
    return np.concatenate([np.array([*encoding.ids, end], np.uint16) for encoding in found] or [np.zeros(0, np.uint16)])
