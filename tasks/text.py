"""Natural text: sentences from a shipped sample, from a file of the user's, or handed in by whoever fetched them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from tasks.task import TextTask

DATA_FOLDER = Path(__file__).parent / "data"

MAX_TEXT_BYTES = 256 << 20
"""A window per sentence is all that is used; no sample needs a larger file."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


class TextError(ValueError):
    """A text cannot be read, or holds no sentence."""


def load_text_task(filename: str) -> TextTask:
    """Read one shipped text: its description in a data file of kind `text`, its sentences in a file of one a line.

    Raises:
        TextError: the sentences are not those of the description.
    """
    content = json.loads((DATA_FOLDER / filename).read_text(encoding="utf-8"))
    raw = (DATA_FOLDER / content["file"]).read_bytes()
    if hashlib.sha256(raw).hexdigest() != content["sha256"]:
        raise TextError(f"{content['file']} is not the text that {filename} describes; reinstall the package")
    return TextTask(
        name=content["name"],
        version=content["version"],
        description=content["description"],
        sentences=tuple(raw.decode("utf-8").splitlines()),
        sources=tuple(content["sources"]),
        licence=content["licence"],
    )


def read_text(path: Path) -> TextTask:
    """A plain-text file of the user's, cut into sentences.

    Raises:
        TextError: it cannot be read, is no UTF-8 text, is too large, or holds no sentence.
    """
    try:
        if not path.is_file():  # a device or a pipe may never end
            raise TextError(f"{_shown(path)} is no file; give a plain-text file with --text")
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise TextError(f"{_shown(path)} is larger than {MAX_TEXT_BYTES >> 20} MB; give a part of it")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"{_shown(path)} is not UTF-8 text (byte {error.start}); convert it first") from error
    except (OSError, ValueError) as error:
        if isinstance(error, TextError):
            raise
        raise TextError(f"cannot read {_shown(path)}: {error}; give a plain-text file with --text") from error
    return text_task(_shown(Path(path.stem))[:80] or "text", sentences_of(text), sources=("a file of the user's",))


def _shown(path: Path) -> str:
    """A path in printable characters, on one line."""
    return "".join(character if character.isprintable() else "?" for character in str(path)).strip()


def text_task(name: str, sentences: Iterable[str], *, sources: tuple[str, ...], licence: str = "unknown") -> TextTask:
    """A text task from sentences; repeated ones are kept once.

    Raises:
        TextError: there is none.
    """
    distinct = tuple(dict.fromkeys(sentence for sentence in sentences if sentence))
    if not distinct:
        raise TextError(f"the text {name!r} holds no sentence; give one with at least a few hundred")
    return TextTask(
        name=f"text:{name}",
        version=1,
        description=f"Natural text: {len(distinct)} sentences.",
        sentences=distinct,
        sources=sources,
        licence=licence,
    )


def sentences_of(text: str) -> list[str]:
    """The sentences of a text: cut after ., ! or ? before a capital letter or a digit, and at empty lines."""
    paragraphs = re.split(r"\n\s*\n", text)
    return [
        sentence
        for paragraph in paragraphs
        for sentence in _SENTENCE_END.split(re.sub(r"\s+", " ", paragraph).strip())
        if sentence
    ]
