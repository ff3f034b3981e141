"""The file format of tasks: a JSON document of kind `list` or `pairs`, read into the types of `tasks.task`.

`docs/tasks.md` explains the format, `tasks/task.schema.json` states it for editors and other programs, `tasks.check`
finds what is wrong with a file and where.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tasks.task import ListTask, Member, Pair, PairTask

MAX_BYTES = 16_000_000
"""Largest file that is read."""

MAX_ENTRIES = 20_000
"""Most names, members or pairs of one task."""

SCHEMA = 1
"""Version of the format."""

_Form = Annotated[str, Field(min_length=1, max_length=500)]
_Mark = Annotated[str, Field(max_length=500)]


class _TaskFile(BaseModel):
    """What files of both kinds have."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    schema_version: Annotated[
        Literal[1], Field(alias="schema", description="Version of the file format: 1 is the only one so far.")
    ]
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            pattern=r"^\S(.*\S)?$",
            description="What the task is called in results: up to 100 printable characters.",
        ),
    ]
    version: Annotated[
        int, Field(ge=1, le=1_000_000, description="Version of the data: 1 at first, higher after every change.")
    ]
    description: Annotated[str, Field(max_length=500, description="What the task asks for, in a sentence.")] = ""
    item_prefix: Annotated[_Mark, Field(description="Text before every name or query, usually one blank.")]
    separator: Annotated[
        str,
        Field(
            min_length=1, max_length=500, description="Text after every demonstration; an answer ends where it does."
        ),
    ]
    sources: Annotated[list[_Form], Field(max_length=100, description="Where the data is from.")] = []
    licence: Annotated[_Form, Field(description="Licence of the data, as an SPDX name where there is one.")] = "unknown"


class ListFile(_TaskFile):
    """A list task: continue a list of different members of one category."""

    model_config = ConfigDict(title="List task")

    kind: Annotated[Literal["list"], Field(description="The kind of task: list.")]
    names: Annotated[
        list[_Form],
        Field(
            min_length=1,
            max_length=MAX_ENTRIES,
            description="The names that prompts are made of, commonest first; each is a member.",
        ),
    ]
    members: Annotated[
        dict[_Form, Annotated[list[_Form], Field(max_length=1000)]],
        Field(
            min_length=1,
            max_length=MAX_ENTRIES,
            description="Everything that counts as a right answer: each member with its other spellings.",
        ),
    ]

    def task(self) -> ListTask:
        """The task that the file describes."""
        return ListTask(
            name=self.name,
            version=self.version,
            description=self.description,
            item_prefix=self.item_prefix,
            separator=self.separator,
            names=tuple(self.names),
            members=tuple(Member(name=name, aliases=tuple(aliases)) for name, aliases in self.members.items()),
            sources=tuple(self.sources),
            licence=self.licence,
        )


class PairsFile(_TaskFile):
    """A pair task: give each query its answer."""

    model_config = ConfigDict(title="Pair task")

    kind: Annotated[Literal["pairs"], Field(description="The kind of task: pairs.")]
    arrow: Annotated[
        str,
        Field(min_length=1, max_length=500, description="Text between a query and its answer; prompts end with it."),
    ]
    answer_prefix: Annotated[_Mark, Field(description="Text between the arrow and the answer, usually one blank.")]
    pairs: Annotated[
        dict[_Form, Annotated[list[_Form], Field(min_length=1, max_length=1000)]],
        Field(
            min_length=1,
            max_length=MAX_ENTRIES,
            description="Each query with its right answers, commonest query first; prompts show the first answer.",
        ),
    ]

    def task(self) -> PairTask:
        """The task that the file describes."""
        return PairTask(
            name=self.name,
            version=self.version,
            description=self.description,
            item_prefix=self.item_prefix,
            arrow=self.arrow,
            answer_prefix=self.answer_prefix,
            separator=self.separator,
            pairs=tuple(Pair(query=query, answers=tuple(answers)) for query, answers in self.pairs.items()),
            sources=tuple(self.sources),
            licence=self.licence,
        )


KINDS: dict[str, type[ListFile] | type[PairsFile]] = {"list": ListFile, "pairs": PairsFile}
"""Every kind of task file by the value of its key `kind`."""

TASK_FILE: TypeAdapter[ListFile | PairsFile] = TypeAdapter(Annotated[ListFile | PairsFile, Field(discriminator="kind")])
"""A task file of either kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong (an error: the file is refused) or doubtful (a warning).

    Attributes:
        line: from 1.
        column: in characters, from 1; None where a problem is of the file as a whole.
        key: the way to the value, like `pairs.France[0]`; empty for the whole document.
        message: what is wrong, what was expected, what came, what to do.
    """

    line: int
    column: int | None
    key: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """The problem as a line of a report, without the name of the file."""
        where = f"{self.line}" if self.column is None else f"{self.line}:{self.column}"
        return ": ".join(filter(None, (where, self.severity, self.key, self.message)))


class TaskFileError(ValueError):
    """A file is not a task.

    Attributes:
        problems: every error in it, in the order of the file.
    """

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        name = printable(source)
        lines = [
            ": ".join(filter(None, (f"{name}:{problem.line}", problem.key, problem.message)))
            for problem in problems[:3]
        ]
        if len(problems) > 3:
            others = "1 other problem" if len(problems) == 4 else f"{len(problems) - 3} other problems"
            lines.append(f"and {others}; `bench tasks check {name}` lists all")
        super().__init__("\n".join(lines))


def read_task_file(path: Path | str) -> ListTask | PairTask:
    """The task in a file.

    Raises:
        TaskFileError: the file cannot be read, or is not a task; the message says where and why.
    """
    text = read_text(Path(path))
    if isinstance(text, Problem):
        raise TaskFileError(str(path), (text,))
    return parse_task(text, str(path))


def parse_task(text: str, source: str = "<text>") -> ListTask | PairTask:
    """The task that a JSON document describes.

    Args:
        text: the whole document.
        source: what error messages call it, a file name.

    Raises:
        TaskFileError: the document is not a task; the message says where and why.
    """
    from tasks.check import problems  # which needs the models above

    errors = tuple(problem for problem in problems(text) if problem.severity == "error")
    if errors:
        raise TaskFileError(source, errors)
    return TASK_FILE.validate_python(json.loads(text.removeprefix("\ufeff"))).task()


def read_text(path: Path) -> str | Problem:
    """The text of a file, or why it has none."""
    try:
        if path.exists() and not path.is_file():
            return of_the_whole("expected a file, got a folder or a device; give the name of a JSON file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return of_the_whole(f"cannot be read: {reason}; give the name of a JSON file")
    if len(content) > MAX_BYTES:
        return too_large()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        return of_the_whole("expected text in UTF-8, got UTF-16 or no text at all; save it as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        start = content.rfind(b"\n", 0, error.start) + 1
        return Problem(
            line=content.count(b"\n", 0, error.start) + 1,
            column=len(content[start : error.start].decode("utf-8")) + 1,
            key="",
            message=f"expected text in UTF-8, got the byte 0x{content[error.start]:02x}; save the file as UTF-8",
        )


def schema_text() -> str:
    """The text of `tasks/task.schema.json`: the JSON Schema of both kinds of file."""
    schema: dict[str, Any] = TASK_FILE.json_schema()
    schema.pop("discriminator", None)  # of OpenAPI, not of JSON Schema
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:emergence-bench:task-file:{SCHEMA}",
        "title": "Task file of emergence-bench",
        "description": "An in-context-learning task as data plus a template, of kind list or pairs.",
    }
    return json.dumps(head | schema, ensure_ascii=False, indent=2) + "\n"


def of_the_whole(message: str) -> Problem:
    """A problem of a file as a whole."""
    return Problem(line=1, column=None, key="", message=message)


def too_large() -> Problem:
    """The problem of a file that is not looked into because of its size."""
    return of_the_whole(f"expected at most {MAX_BYTES // 1_000_000} MB, got more; make the task smaller")


def printable(text: str) -> str:
    """The text with everything that is no printable character written as an escape."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
