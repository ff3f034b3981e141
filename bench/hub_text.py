"""Natural text from data sets of the hub: those of arXiv 2405.12617, through the `datasets` library (an extra).

What was fetched is kept in the cache, one sentence a line, so that every later run has the same windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.cache import cache_folder
from bench.errors import UsageError
from bench.store import write_whole
from tasks.task import TextTask
from tasks.text import sentences_of, text_task

N_ROWS = 50_000
"""Rows of a data set that are read: several sentences each, enough for the paper's 300,000 windows."""

ANSWER_DEADLINE_SECONDS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubText:
    """A data set and where its prose is.

    Attributes:
        repo: repository on the hub, or a local folder with the same files.
        prose: the texts of one row.
    """

    repo: str
    licence: str
    prose: Callable[[Mapping[str, Any]], Iterable[str]]


def _answer(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["response"] or ""


def _turns_of_the_assistant(row: Mapping[str, Any]) -> Iterator[str]:
    for turn in row["conversations"]:
        if turn.get("from") == "gpt":
            yield turn["value"] or ""


HUB_TEXTS = {
    "openorca": HubText(repo="Open-Orca/OpenOrca", licence="MIT", prose=_answer),
    "openhermes": HubText(
        repo="teknium/OpenHermes-2.5", licence="see the card of the data set", prose=_turns_of_the_assistant
    ),
}
"""By the name that `--text` takes."""


def fetch_text(name: str) -> TextTask:
    """The sentences of a data set, from the cache or the hub.

    Raises:
        UsageError: the `datasets` extra is missing, or the hub does not answer.
    """
    source = HUB_TEXTS[name]
    kept = cache_folder() / "texts" / f"{name}.txt"
    if not kept.is_file():
        sentences = read_sentences(source)
        if not sentences:
            raise UsageError(f"the data set {source.repo} holds no sentence; give a text of your own with --text FILE")
        write_whole(kept, "\n".join(sentences).encode())
    sentences = kept.read_text(encoding="utf-8").split("\n")
    return text_task(
        name, sentences, sources=(f"https://huggingface.co/datasets/{source.repo}",), licence=source.licence
    )


def read_sentences(source: HubText) -> list[str]:
    """The distinct sentences of the first rows of a data set.

    Raises:
        UsageError: the `datasets` extra is missing, or the data set cannot be had.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UsageError(
            "texts from the hub need one more library: pip install datasets; "
            "--text FILE takes any plain-text file, and text-sample comes with the package"
        ) from error
    from pathlib import Path

    try:
        if not Path(source.repo).is_dir():
            _ask_hub(source.repo)
        rows = itertools.islice(load_dataset(source.repo, split="train", streaming=True), N_ROWS)
        texts = (text for row in rows for text in source.prose(row))
        return list(dict.fromkeys(sentence for text in texts for sentence in sentences_of(text)))
    except UsageError:
        raise
    except Exception as error:  # the library fails in any way when the hub or the files are not as it expects
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UsageError(
            f"the data set {source.repo} cannot be read ({type(error).__name__}: {reason}); without the hub there are "
            "text-sample and any plain-text file (--text FILE)"
        ) from error


def _ask_hub(repo: str) -> None:
    """See that the hub answers before a library waits for it at length."""
    from huggingface_hub import HfApi

    HfApi().dataset_info(repo, timeout=ANSWER_DEADLINE_SECONDS)
