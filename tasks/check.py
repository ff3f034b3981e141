"""What is wrong with a task file, where, and what to do about it: every problem with its line and key.

`json` says whether a text is JSON, the models of `tasks.files` whether it has the right form, and the rules below
whether it makes a task. One pass over the tokens of a text that `json` accepts finds where every value stands, and the
keys that occur twice, of which `json.loads` keeps the last without a word. Time is linear in the length of the text.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tasks.files import (
    KINDS,
    MAX_BYTES,
    SCHEMA,
    Problem,
    TaskFileError,
    printable,
    read_text,
    too_large,
)
from tasks.queries import normalised
from tasks.task import QUICK

__all__ = ["Document", "Problem", "TaskFileError", "check_file", "problems", "read_document"]

MAX_DEPTH = 16
"""Deepest nesting of a document that is looked into; a task needs 3."""

MAX_VALUES = 200_000
"""Most values of a document that is looked into."""

LEAST_ENTRIES = QUICK.n_names
"""Names or pairs that the smallest preset draws."""

USEFUL_PAIRS = 60
"""A 95% interval of an accuracy over 60 pairs is at most 0.25 wide (Wilson)."""

Location = tuple[str | int, ...]
"""The keys and indices that lead from the whole document to a value; `()` is the document."""

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
"""A token of valid JSON: a string, a mark, or a number, true, false, null, NaN."""

_BRACKET_OR_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
"""Of any text; a string that never ends is one string, or looking for its end from every quote would take for ever."""

_TOO_DEEP = f"brackets nested more than {MAX_DEPTH} deep; a task needs 3, see docs/tasks.md"

_SURROGATE = re.compile("[\ud800-\udfff]")

_TEMPLATE = ("item_prefix", "arrow", "answer_prefix", "separator")
"""The keys whose texts may hold line breaks, tabs, and blanks at the ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A problem by the value that it is of, or by the key of that value."""

    location: Location
    message: str
    at_key: bool = False
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON document and where each of its values stands.

    Attributes:
        value: the document as `json.loads` gives it, with lone surrogates replaced by U+FFFD.
        offsets: of the first character of every value, in characters from the start of the text.
        key_offsets: of the key of every value that has one.
        problems: what is wrong with the document as JSON.
    """

    text: str
    value: Any
    offsets: dict[Location, int]
    key_offsets: dict[Location, int]
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def place(self, offset: int) -> tuple[int, int]:
        """(line, column) of an offset, both from 1."""
        line = bisect_left(self._line_ends, offset)
        return line + 1, offset - (self._line_ends[line - 1] + 1 if line else 0) + 1

    def problem(self, finding: _Finding, offset: int | None = None) -> Problem:
        """A finding with its line and column: those of its value or key, or of the offset."""
        if offset is None:
            offset = (self.key_offsets if finding.at_key else self.offsets).get(
                finding.location, self.offsets.get((), 0)
            )
        line, column = self.place(offset)
        key = _key_path(finding.location)
        return Problem(line=line, column=column, key=key, message=finding.message, severity=finding.severity)


class _TooLargeError(ValueError):
    """The document is nested too deeply, or has too many values."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def check_file(path: Path | str) -> tuple[Problem, ...]:
    """Every problem of a file, in the order of the file; a file that cannot be read is one problem."""
    text = read_text(Path(path))
    return (text,) if isinstance(text, Problem) else problems(text)


def problems(text: str) -> tuple[Problem, ...]:
    """Every problem of a task file with this text, in the order of the text; it reads if none is an error."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_BYTES:
        return (too_large(),)
    blank = Document(text=text, value=None, offsets={}, key_offsets={})
    deep = _too_deep_at(text)  # is found before the parser, whose own limit depends on who calls it
    try:
        json.loads(text[:deep], object_pairs_hook=lambda _: None, parse_int=str, parse_float=str)
        document = read_document(text)
    except json.JSONDecodeError as error:
        line, column = blank.place(error.pos)
        message = _TOO_DEEP if error.pos == deep else _syntax(error)
        return (Problem(line=line, column=column, key="", message=message),)
    except _TooLargeError as error:
        line, column = blank.place(error.offset)
        return (Problem(line=line, column=column, key="", message=str(error)),)
    placed = map(document.problem, (*_shape(document.value), *_rules(document.value)))
    return tuple(sorted((*document.problems, *placed), key=lambda problem: (problem.line, problem.column or 0)))


@dataclass(slots=True)
class _Open:
    """An object or array whose closing bracket has not come yet, and the key of the value that comes next."""

    value: Any
    location: Location
    key: str | None = None


def read_document(text: str) -> Document:
    """The values of a text and where they stand.

    Args:
        text: JSON, as `json.loads` accepts it; nothing else.
    """
    document = Document(text=text, value=[], offsets={}, key_offsets={})
    stack = [_Open(document.value, ())]
    for match in _TOKEN.finditer(text):
        token, offset, inside = match[0], match.start(), stack[-1]
        if token in (",", ":"):
            continue
        if token in ("]", "}"):
            stack.pop()
        elif isinstance(inside.value, dict) and inside.key is None:
            inside.key = _read_key(document, token, inside, offset)
        else:
            step = len(inside.value) if inside.key is None else inside.key
            location = (*inside.location, step) if len(stack) > 1 else ()
            document.offsets[location] = offset
            if len(document.offsets) > MAX_VALUES:
                raise _TooLargeError(f"more than {MAX_VALUES:,} values; make the task smaller", offset)
            value: Any = {} if token == "{" else [] if token == "[" else _scalar(document, token, location, offset)
            if inside.key is None:
                inside.value.append(value)
            else:
                inside.value[inside.key] = value
                inside.key = None
            if token in ("[", "{"):
                stack.append(_Open(value, location))
    return replace(document, value=document.value[0])


def _read_key(document: Document, token: str, inside: _Open, offset: int) -> str:
    text: str = json.loads(token)
    key = _SURROGATE.sub("\ufffd", text)
    location = (*inside.location, key)
    messages = []
    if key in inside.value:
        line, _ = document.place(document.key_offsets[location])
        messages.append(f"the key {_shown(key)} is there twice, also on line {line}; remove one")
    if key != text:
        messages.append(_half(text))
    document.key_offsets[location] = offset
    for message in messages:
        document.problems.append(document.problem(_Finding(location=location, message=message), offset))
    return key


def _scalar(document: Document, token: str, location: Location, offset: int) -> Any:
    """The value of a token that is no bracket."""
    if token in ("NaN", "Infinity", "-Infinity"):
        message = f"{token} is not JSON; expected text in quotes or a number"
        document.problems.append(document.problem(_Finding(location=location, message=message), offset))
    if not token.startswith('"'):
        return float(token) if len(token) > 30 else json.loads(token)  # no integers of thousands of digits in Python
    text: str = json.loads(token)
    value = _SURROGATE.sub("\ufffd", text)
    if value != text:
        document.problems.append(document.problem(_Finding(location=location, message=_half(text)), offset))
    return value


def _half(text: str) -> str:
    return f"half of a surrogate pair in {_shown(text)}; write the character itself"


def _syntax(error: json.JSONDecodeError) -> str:
    """A sentence on a syntax error, with a hint for the usual slips."""
    got, before = error.doc[error.pos : error.pos + 1], error.doc[: error.pos].rstrip()[-1:]
    if not error.doc.strip():
        return "expected a JSON object, got an empty file; docs/tasks.md has examples to start from"
    if error.msg.startswith("Unterminated string"):
        hint = "close the quotes"
    elif error.msg.startswith("Invalid control character"):
        hint = r"write \n for a line break and \t for a tab, or close the quotes"
    elif error.msg.startswith("Invalid \\escape"):
        hint = r"write \\ for a backslash"
    elif error.msg.startswith("Extra data"):
        hint = "a file holds one object, remove what comes after it"
    elif not error.doc[error.pos :].strip():
        hint = "the file ends before its last bracket is closed"
    elif "," in (got, before) and error.doc[error.pos :].lstrip(", \t\r\n")[:1] in ("]", "}"):
        hint = "remove the comma before the bracket"
    elif got == "'":
        hint = "write double quotes"
    elif got in ("/", "#"):
        hint = "JSON has no comments, remove it"
    elif "delimiter" in error.msg:
        hint = "put it in before this, or close the quotes of what comes before"
    else:
        hint = "text stands in double quotes"
    came = f", got {_shown(got)}" if got else ""
    wrong = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"not valid JSON: {wrong[:1].lower()}{wrong[1:]}{came}; {hint}"


def _shape(value: Any) -> Iterator[_Finding]:
    """Whether the keys are there and have values of the right types and sizes."""
    if not isinstance(value, dict):
        yield _Finding(location=(), message=f"expected an object in {{}}, got {_shown(value)}; see docs/tasks.md")
        return
    version, kind = value.get("schema", SCHEMA), value.get("kind")
    if _is_newer(version):
        message = f"schema {_shown(version)} is newer than {SCHEMA}, which this software reads; update the software"
        yield _Finding(location=("schema",), message=message)
        return
    if type(version) is not int or version != SCHEMA:  # True and 1.0 equal 1
        yield _Finding(location=("schema",), message=f"expected {SCHEMA}, got {_shown(version)}; write {SCHEMA}")
    kinds = " or ".join(f'"{name}"' for name in KINDS)
    if not isinstance(kind, str) or kind not in KINDS:
        message = f"expected {kinds}, got {_shown(kind)}{_meant(kind, KINDS)}"
        yield _Finding(
            location=("kind",),
            message=message if "kind" in value else f'missing; add "kind": {kinds}',
        )
        return
    try:
        KINDS[kind].model_validate({**value, "schema": SCHEMA} if "schema" in value else value)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False):
            yield _explained(value, kind, details["type"], details["loc"], details.get("ctx", {}), details["msg"])


def _is_newer(version: object) -> bool:
    return isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA


def _explained(
    value: dict[str, Any], kind: str, error: str, location: Location, limits: dict[str, Any], message: str
) -> _Finding:
    """One error of pydantic in our words."""
    fields = {entry.alias or name: entry for name, entry in KINDS[kind].model_fields.items()}
    if error == "missing":
        expected = fields[str(location[-1])].description or ""
        return _Finding(location=location, message=f"missing; add {_shown(location[-1])}: {expected}")
    if error == "extra_forbidden":
        free = [name for name in fields if name not in value] if len(value) < 100 else []
        meant = _meant(location[-1], free)
        known = meant or f"; remove it, a file of kind {kind} has {', '.join(fields)}"
        return _Finding(location=location, at_key=True, message=f"unknown key {_shown(location[-1])}{known}")
    at_key = location[-1] == "[key]" and not _holds(value, location)
    if at_key:
        location = location[:-1]
    got = location[-1] if at_key else _value_at(value, location)
    most, length = limits.get("max_length") or 0, len(got) if isinstance(got, str) else 0
    sentence = {
        "string_type": f"expected text in quotes, got {_shown(got)}",
        "int_type": f"expected a whole number, got {_shown(got)}",
        "list_type": f'expected an array of texts like ["Paris"], got {_shown(got)}; put it in square brackets',
        "dict_type": f'expected an object like {{"France": ["Paris"]}}, got {_shown(got)}',
        "string_too_short": "empty; expected at least one character",
        "string_too_long": f"expected at most {most} characters, got {length:,}; shorten it",
        "string_pattern_mismatch": f"expected a name without blanks at its ends, got {_shown(got)}; remove them",
        "too_short": "empty; expected at least one entry",
        "too_long": f"expected at most {most:,} entries, got {limits.get('actual_length') or 'more'}; remove some",
        "greater_than_equal": f"expected at least {limits.get('ge')}, got {_shown(got)}",
        "less_than_equal": f"expected at most {limits.get('le')}, got {_shown(got)}",
    }.get(error, f"{message[:1].lower()}{message[1:]}, got {_shown(got)}")
    return _Finding(location=location, at_key=at_key, message=sentence)


def _value_at(value: Any, location: Location) -> Any:
    for step in location:
        value = value[step]
    return value


def _holds(value: Any, location: Location) -> bool:
    try:
        _value_at(value, location)
    except (LookupError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """A text by which something is called, and where it stands."""

    text: str
    location: Location
    at_key: bool = False

    @property
    def folded(self) -> str:
        """As answers are compared; what is too long to be read at all is left alone."""
        return normalised(self.text) if len(self.text) <= 500 else self.text

    def finding(self, message: str, severity: Literal["error", "warning"] = "error") -> _Finding:
        return _Finding(location=self.location, at_key=self.at_key, message=message, severity=severity)


def _forms(value: object, *location: str) -> list[_Form]:
    """The texts of an array, whatever else is in it."""
    texts = value if isinstance(value, list) else []
    return [
        _Form(text=text, location=(*location, index))
        for index, text in enumerate(texts)
        if isinstance(text, str) and text
    ]


def _groups(value: dict[str, Any], key: str) -> list[list[_Form]]:
    """A key of an object, then the texts of its array, for each key."""
    entries = value.get(key)
    if not isinstance(entries, dict):
        return []
    return [
        [_Form(text=name, location=(key, name), at_key=True), *_forms(texts, key, name)]
        for name, texts in entries.items()
        if name
    ]


def _rules(value: Any) -> Iterator[_Finding]:
    """What the form does not say; values of a wrong type are passed over."""
    if not isinstance(value, dict) or _is_newer(value.get("schema")) or value.get("kind") not in ("list", "pairs"):
        return
    for key in ("name", "description", "licence"):
        if isinstance(value.get(key), str):
            yield from _printed(_Form(text=value[key], location=(key,)))
    if isinstance(value.get("name"), str) and value["name"].startswith("text:"):
        yield _Finding(location=("name",), message='names that begin with "text:" are of texts; choose another name')
    for source in _forms(value.get("sources"), "sources"):
        yield from _printed(source)
    for key in _TEMPLATE:
        if isinstance(value.get(key), str):
            yield from _printed(_Form(text=value[key], location=(key,)), allowed="\n\t")
    yield from _list_rules(value) if value["kind"] == "list" else _pair_rules(value)


def _printed(form: _Form, allowed: str = "") -> Iterator[_Finding]:
    if form.text.isprintable():
        return
    strange = next((letter for letter in form.text if not letter.isprintable() and letter not in allowed), None)
    if strange is not None:
        kind = "control character" if unicodedata.category(strange) == "Cc" else "unassigned"
        name = unicodedata.name(strange, kind)
        yield form.finding(f"holds U+{ord(strange):04X} ({name}); expected printable characters, remove or replace it")


def _spelling(form: _Form) -> Iterator[_Finding]:
    """Whether a text is written as it would be in a prompt."""
    bad = list(_printed(form))
    yield from bad
    if not bad and form.text != " ".join(form.text.split()):
        yield form.finding(f"leading, trailing or double blanks in {_shown(form.text)}; remove them")


def _holding(form: _Form, key: str, mark: object) -> Iterator[_Finding]:
    """Whether a text holds a mark of the template."""
    if isinstance(mark, str) and mark and mark in form.text:
        message = f"{_shown(form.text)} holds the {key} {_shown(mark)}; remove it, or choose another {key}"
        yield form.finding(f"a prompt could be read in two ways: {message}")


def _answerable(form: _Form, separator: object) -> Iterator[_Finding]:
    """Whether an answer that is this text would be found right; an answer ends where the separator, stripped, comes."""
    yield from _spelling(form)
    yield from _holding(form, "separator", (separator.strip() or separator) if isinstance(separator, str) else None)
    if not form.folded:
        message = (
            f"nothing of {_shown(form.text)} is left to compare: quotes and punctuation around answers do not count"
        )
        yield form.finding(f"{message}; write it in words")


def _list_rules(value: dict[str, Any]) -> Iterator[_Finding]:
    pool, members = _forms(value.get("names"), "names"), _groups(value, "members")
    for form in [*pool, *(form for group in members for form in group)]:
        yield from _answerable(form, value.get("separator"))
    seen: dict[str, _Form] = {}
    for form in pool:
        first = seen.setdefault(form.folded, form)
        if first is not form:
            yield form.finding(f"{_shown(form.text)} is there twice, first as {_key_path(first.location)}; remove one")
    owners: dict[str, _Form] = {}
    for member, *aliases in members:
        for form in (member, *aliases):
            owner = owners.setdefault(form.folded, member)
            if owner is not member:
                yield form.finding(
                    f"{_shown(form.text)} belongs to two members, {_shown(owner.text)} and {_shown(member.text)}; "
                    "remove it from one of them"
                )
        yield from _said_twice(member, *aliases)
    entries = value.get("members")
    if isinstance(entries, dict):
        for form in pool:
            if form.text not in entries:
                meant = owners.get(form.folded)
                add = f"write {_shown(meant.text)}" if meant else f"add {_shown(form.text)}: [] to the members"
                yield form.finding(f"{_shown(form.text)} is no key of members, and every name has to be one; {add}")
    if 0 < len(pool) < LEAST_ENTRIES:
        yield _Finding(
            location=("names",),
            at_key=True,
            message=f"{len(pool)} names; at least {LEAST_ENTRIES} are needed to measure emergence, add some",
            severity="warning",
        )
    several = [form for form in pool if " " in form.text.strip()]
    if several:
        examples = ", ".join(_shown(form.text) for form in several[:3])
        message = f"{len(several)} of {len(pool)} names have several words ({examples}), so probably several tokens; "
        yield _Finding(
            location=("names",),
            at_key=True,
            message=f"{message}emergence is measured with names of one token",
            severity="warning",
        )


def _pair_rules(value: dict[str, Any]) -> Iterator[_Finding]:
    groups = _groups(value, "pairs")
    arrow, separator = value.get("arrow"), value.get("separator")
    seen: dict[str, _Form] = {}
    right: Counter[str] = Counter()
    for query, *answers in groups:
        yield from (*_spelling(query), *_holding(query, "arrow", arrow), *_holding(query, "separator", separator))
        for answer in answers:
            yield from _answerable(answer, separator)
        first = seen.setdefault(query.text.casefold(), query)
        if first is not query:
            yield query.finding(f"the query {_shown(query.text)} is there already as {_shown(first.text)}; remove one")
        yield from _said_twice(*answers)
        right.update({answer.folded for answer in answers})
    if value.get("answer_prefix") == "":
        yield _Finding(
            location=("answer_prefix",),
            message='empty, so that the answer follows the arrow without a blank; most models expect " "',
            severity="warning",
        )
    if arrow and arrow == separator:
        message = f"the arrow and the separator are both {_shown(arrow)}; two different ones are easier to tell apart"
        yield _Finding(location=("arrow",), message=message, severity="warning")
    if 0 < len(groups) < USEFUL_PAIRS:
        yield _Finding(
            location=("pairs",),
            at_key=True,
            message=f"{len(groups)} pairs; at least {LEAST_ENTRIES} are needed to measure emergence, "
            f"{USEFUL_PAIRS} give useful intervals",
            severity="warning",
        )
    commonest, n_right = right.most_common(1)[0] if right else ("", 0)
    if len(groups) > 1 and n_right > len(groups) / 2:
        yield _Finding(
            location=("pairs",),
            at_key=True,
            message=f"{_shown(commonest)} is right for {n_right} of {len(groups)} pairs, so that chance is "
            f"{n_right / len(groups):.0%}; add pairs with other answers",
            severity="warning",
        )


def _said_twice(*forms: _Form) -> Iterator[_Finding]:
    """Warnings of what is there more than once among the forms of one thing."""
    seen: set[str] = set()
    for form in forms:
        folded = form.text.casefold()
        if folded in seen:
            yield form.finding(f"{_shown(form.text)} is there already, but for its case; it can go", "warning")
        seen.add(folded)


def _too_deep_at(text: str) -> int | None:
    """Where brackets are nested deeper than in any task, strings apart; None if nowhere."""
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            return match.start()
    return None


def _meant(word: object, known: Any) -> str:
    """A question like `; did you mean "pairs"?`, or nothing."""
    near = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) and len(word) <= 40 else []
    return f'; did you mean "{near[0]}"?' if near else ""


def _shown(value: object) -> str:
    """A value as it stands in the file, on one line and not too long."""
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "an array"
        return f"{kind} of {len(value):,} {'entry' if len(value) == 1 else 'entries'}"
    if isinstance(value, str):
        short = value if len(value) <= 60 else f"{value[:57]}..."
        return printable(json.dumps(short, ensure_ascii=False))
    return json.dumps(value)


def _key_path(location: Location) -> str:
    """`pairs.France[0]`; a key that would be misread is quoted: `pairs["St. Lucia"][0]`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif re.fullmatch(r"[\w' -]{1,60}", step) and step == step.strip() and step.isprintable():
            path += f".{step}" if path else step
        else:
            path += f"[{_shown(step)}]"
    return path
