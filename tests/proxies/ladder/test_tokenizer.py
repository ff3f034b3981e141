"""The tokenizer of the ladder, trained on a few lines in the format of the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from proxies.ladder.corpus import Corpus
from proxies.ladder.sizes import CONTEXT_LENGTH, VOCABULARY_SIZE
from proxies.ladder.tokenizer import END_OF_TEXT, encoded, save_tokenizer, train_tokenizer

LINES = (
    "The quick brown fox jumps over the lazy dog and the dog does not mind.",
    "A tokenizer learns the pieces that words are made of: the, ing, tion.\nA second paragraph.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
)


def write(path: Path, texts: tuple[str, ...]) -> Path:
    path.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    write(folder / "train.jsonl", LINES * 3)
    return Corpus(folder, "0" * 64, "0" * 64, ())


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return train_tokenizer(corpus)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_the_end_of_text_is_token_0_and_every_byte_has_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert 257 < tokenizer.get_vocab_size() <= VOCABULARY_SIZE
    assert len(ids(tokenizer, " the dog")) == 2


def test_the_same_text_gives_the_same_tokenizer(tokenizer: Tokenizer, corpus: Corpus) -> None:
    assert train_tokenizer(corpus).to_str() == tokenizer.to_str()


def test_any_text_comes_back(tokenizer: Tokenizer) -> None:
    @given(st.text().filter(lambda text: END_OF_TEXT not in text))
    def comes_back(text: str) -> None:
        assert tokenizer.decode(ids(tokenizer, text)) == text

    comes_back()
    every_byte = "".join(map(chr, [*range(0x800), 0xFFFD, 0x10FFFF, 0x1F600]))
    assert tokenizer.decode(ids(tokenizer, every_byte)) == every_byte


def test_transformers_reads_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True, trust_remote_code=False)
    texts = (
        *LINES,
        "",
        " ",
        "  two  blanks \n\n a tab\t",
        "\U0001f600 caf\u00e9 \u4e2d\u6587",
        f"a{END_OF_TEXT}b",
        "It 's . , fine",
    )
    for text in texts:
        assert loaded(text).input_ids == ids(tokenizer, text)  # nothing is put before or after
        assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.bos_token_id, loaded.eos_token_id) == (0, 0)
    assert (loaded.model_max_length, len(loaded)) == (CONTEXT_LENGTH, tokenizer.get_vocab_size())


@pytest.mark.parametrize("n_documents", [0, 1, 4095, 4096, 4097, 8192])
def test_documents_are_joined_by_the_end_of_text_across_batches(
    tokenizer: Tokenizer, tmp_path: Path, n_documents: int
) -> None:
    texts = tuple(f"dog {i}" for i in range(n_documents))
    stream = encoded(tokenizer, write(tmp_path / "held-out.jsonl", texts))
    assert stream.dtype == np.uint16
    expected = [token for text in texts for token in (*ids(tokenizer, text), 0)]
    assert stream.tolist() == expected


def test_all_ids_of_a_full_vocabulary_fit_the_stream() -> None:
    assert VOCABULARY_SIZE <= np.iinfo(np.uint16).max + 1
