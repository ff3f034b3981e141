"""What the pages for people hold: code blocks, commands, headings. For the tests of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n(?:\n(?= {4}))*)+", re.MULTILINE)
SHELLS = ("", "bash", "sh")
PROGRAMS = ("bench", "make", "python")


@dataclass(frozen=True, slots=True)
class Command:
    """One command line of a page, without its comment."""

    page: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return " ".join(self.words)

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [block["code"] for block in FENCE.finditer(read(page)) if block["language"] == language]


def shell_lines(text: str) -> Iterator[str]:
    """What a reader would type: the lines of shell blocks and indented blocks, elsewhere those after a `$`."""
    for block in FENCE.finditer(text):
        lines = block["code"].replace("\\\n", " ").splitlines()
        is_shell = block["language"] in SHELLS
        yield from (line.removeprefix("$ ") for line in lines if is_shell or line.startswith("$ "))
    for found in INDENTED.findall(FENCE.sub("", text)):
        yield from found.replace("\\\n", " ").splitlines()


def commands(page: str) -> list[Command]:
    """The commands of a page that are programs of this project."""
    found = []
    for line in shell_lines(read(page)):
        if line.split(maxsplit=1)[:1] and line.split()[0] in PROGRAMS:
            found.append(Command(page, tuple(shlex.split(line, comments=True))))
    return found


def anchors(page: str) -> set[str]:
    """The anchors of the headings, by the rule of repository browsers; the site's is the same but for odd signs."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", read(page)), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        numbers = (f"{slug}-{number}" for number in range(1, 100))
        found.add(slug if slug not in found else next(one for one in numbers if one not in found))
    return found
