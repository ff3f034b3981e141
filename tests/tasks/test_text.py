"""Natural text: sentences, and windows of tokens from their beginnings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks import load_task
from tasks.prompts import PromptError, random_word_windows, windows
from tasks.task import TextTask
from tasks.text import TextError, read_text, sentences_of, text_task


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def test_sentences_end_where_a_capital_letter_follows() -> None:
    text = 'It rains.  He said "Stop!" Then, at 3.5 km, it\nstopped? 12 left. e.g. this\n\nA heading\n\nLast one'
    assert sentences_of(text) == [
        "It rains.", 'He said "Stop!', "Then, at 3.5 km, it stopped?", "12 left. e.g. this", "A heading", "Last one",
    ]  # fmt: skip


def test_a_file_of_the_users_is_a_text_task(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("One is here. Two is there. One is here.", encoding="utf-8")
    task = read_text(path)
    assert task.name == "text:notes"
    assert task.sentences == ("One is here.", "Two is there.")
    assert task.content_hash != text_task("notes", ["Other."], sources=()).content_hash


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00bad", "is not UTF-8 text"), (b" \n\n ", "holds no sentence"), (None, "is no file")],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_text(path)


def test_names_of_files_may_be_anything_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"a\xff\nb.txt")
    strange.write_text("\ufeffOne is here.", encoding="utf-8")
    task = read_text(strange)
    assert task.name == "text:a??b" and task.sentences == ("One is here.",)
    assert len(task.content_hash) == 64
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("a\0b")):
        with pytest.raises(TextError, match="is no file|cannot read"):
            read_text(path)


def test_windows_are_the_beginnings_of_sentences_that_are_long_enough() -> None:
    task = text_task("t", ["abcdef", "abcxyz", "ab", "hello you"], sources=())
    found = windows(task, encode, n_windows=3, n_tokens=3, rng=np.random.default_rng(0))
    assert {decode(row) for row in found.sequences.tolist()} == {"abc", "hel"}
    assert (found.n_survivors, found.n_pool, found.is_enumerated, found.demonstration_length) == (3, 4, False, 1)
    with pytest.raises(PromptError, match="3 of its 4 sentences have 3 tokens .* 5 are needed; give a longer text"):
        windows(task, encode, n_windows=5, n_tokens=3, rng=np.random.default_rng(0))
    with pytest.raises(PromptError, match="at least 2 windows"):
        windows(task, encode, n_windows=1, n_tokens=3, rng=np.random.default_rng(0))


def test_random_words_repeat_where_the_text_repeats() -> None:
    vocabulary = [*(f" {first}{second}xx" for first in "abcdefgh" for second in "aeiou"), "Z", "."]

    def word_of(ids: Sequence[int]) -> str:
        return "".join(vocabulary[index] for index in ids)

    task = text_task("t", ["aab", "abb", "bab"], sources=())
    text = windows(task, lambda t: [40 if c == "a" else 41 for c in t], n_windows=3, n_tokens=3,
                   rng=np.random.default_rng(0))  # fmt: skip
    other = random_word_windows(
        text, lambda t: [vocabulary.index(t)] if t else [], word_of, vocabulary_size=42,
        excluded=frozenset({"aaxx"}), rng=np.random.default_rng(0),
    )  # fmt: skip
    same = text.sequences[:, :, None, None] == text.sequences
    assert ((other.sequences[:, :, None, None] == other.sequences) == same).all()
    assert set(other.sequences.flat) <= set(range(1, 40))  # words only, and not the excluded one


def test_where_words_are_too_few_other_tokens_stand_in_but_never_special_ones() -> None:
    vocabulary = [" aaxx", " bbxx", *"ZYXWV", "<end>"]
    task = text_task("t", ["abc", "bcd"], sources=())
    text = windows(task, lambda t: [90 + ord(c) for c in t], n_windows=2, n_tokens=3, rng=np.random.default_rng(0))
    arguments = {"vocabulary_size": 8, "excluded": frozenset[str](), "rng": np.random.default_rng(0)}

    def encode_one(t: str) -> list[int]:
        return [vocabulary.index(t)] if t else []

    other = random_word_windows(
        text, encode_one, lambda ids: vocabulary[ids[0]], special=frozenset({7}), **arguments
    )  # fmt: skip
    assert {0, 1} <= set(other.sequences.flat) <= set(range(7))
    with pytest.raises(PromptError, match="holds 3 tokens for the random-words control of 4"):
        random_word_windows(
            text, encode_one, lambda ids: vocabulary[ids[0]], special=frozenset(range(3, 8)), **arguments
        )  # fmt: skip


def test_the_shipped_text_is_what_it_says() -> None:
    task = load_task("text-sample")
    assert isinstance(task, TextTask)
    assert len(task.sentences) >= 6000
    assert len(task.content_hash) == 64
