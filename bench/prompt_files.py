"""Files of prompts: read within bounds, every error with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.escape import printable

MAX_FILE_BYTES = 64 << 20
MAX_PROMPTS = 100_000
MAX_CHARACTERS = 20_000
"""Of a prompt; more than the small models here have room for, and it bounds what a mistaken file can cost."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What no prompt needs and some services refuse; half a surrogate pair cannot be sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """Prompts, each once, in the order of their file.

    Attributes:
        name: of the file, without its folder.
        n_repeated: lines that hold a prompt that another line before them holds too.
    """

    name: str
    prompts: tuple[str, ...]
    n_repeated: int


def read_prompts(path: Path) -> PromptFile:
    """The prompts of a file: one a line, or in a `.jsonl` file one JSON object with a "prompt" a line.

    Blank lines count as none. A line of text is stripped of blanks at both ends, a prompt in JSON is kept as it is.

    Raises:
        UsageError: the file cannot be read, or a line holds no prompt; the message names it.
    """
    shown = printable(str(path))[-200:]
    text = _text(path, shown)
    is_json = path.suffix.lower() == ".jsonl"
    counts: dict[str, int] = {}
    for where, line in _lines(text, shown):
        prompt = _prompt_in(line, where) if is_json else line.strip()
        if len(prompt) > MAX_CHARACTERS:
            raise UsageError(f"{where}: a prompt of {len(prompt)} characters; {MAX_CHARACTERS} is the most, shorten it")
        if found := _CONTROL.search(prompt):
            raise UsageError(f"{where}: holds the control character U+{ord(found[0]):04X}; take it out")
        counts[prompt] = counts.get(prompt, 0) + 1
        if len(counts) > MAX_PROMPTS:
            raise UsageError(f"{where}: more than {MAX_PROMPTS} prompts; give the file in parts")
    if not counts:
        form = '{"prompt": "..."} a line' if is_json else "one a line"
        raise UsageError(f"{shown} holds no prompt; expected {form}")
    return PromptFile(name=printable(path.name), prompts=tuple(counts), n_repeated=sum(counts.values()) - len(counts))


def _text(path: Path, shown: str) -> str:
    try:
        if not path.is_file():  # a device or a pipe may never end
            raise UsageError(f"{shown} is no file; give one with a prompt a line with --prompts")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{shown} is larger than {MAX_FILE_BYTES >> 20} MB; give the file in parts")
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{shown}:{line}: not UTF-8 text (byte {error.start} of the file); convert it first") from None
    except (OSError, ValueError) as error:  # a name with a null character
        raise UsageError(f"cannot read {shown}: {printable(str(error))}; give a file with --prompts") from error


def _lines(text: str, shown: str) -> Iterator[tuple[str, str]]:
    """(where it is, line) of those that are not blank; cut at line feeds only, as JSON may hold other separators."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{shown}:{number}", line


def _prompt_in(line: str, where: str) -> str:
    form = 'expected a JSON object like {"prompt": "..."}'
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({printable(str(error))[:100]}); {form}") from None
    prompt = content.get("prompt") if isinstance(content, dict) else None
    if not isinstance(prompt, str):
        raise UsageError(f'{where}: holds no text under "prompt"; {form}')
    if not prompt.strip():
        raise UsageError(f"{where}: the prompt is empty; fill it in or take the line out")
    return prompt
