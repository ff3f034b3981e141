"""The page `docs/cli.md` from the commands themselves: `python -m bench.cli_reference [FILE]` writes it.

What `--help` says, as Markdown: the same words in the same order, whatever the width and colours of a terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from bench.cli import app
from proxies.markdown import table

PAGE = Path("docs/cli.md")

INTRODUCTION = """\
# Commands

What `bench --help` and the help of every command say, on one page. Written by `python -m bench.cli_reference`; edits
are lost. Data goes to stdout, progress and remarks to stderr. Exit status: 0 done, 1 failed, 2 wrong usage,
130 interrupted, 143 terminated.
"""


def reference() -> str:
    """The text of the page."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("bench", [], resilient_parsing=True)
    rows = [
        (f"[`{' '.join(path)}`](#{'-'.join(path)})", _cell(command.get_short_help_str(limit=1000)))
        for path, command, _ in _commands(group, context)
    ]
    parts = [INTRODUCTION, table(("command", "what it does"), rows), *_sections(group, context)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _commands(group: Any, context: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every command below a group, in the order of its help, with its words and its context."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = command.context_class(command, info_name=name, parent=context, **command.context_settings)
        yield tuple(inner.command_path.split()), command, inner
        if hasattr(command, "list_commands"):
            yield from _commands(command, inner)


def _sections(group: Any, context: Any) -> Iterator[str]:
    """The text on the program itself, and on each of its commands."""
    for path, command, inner in (("bench",), group, context), *_commands(group, context):
        shown = [one for one in command.get_params(inner) if not one.hidden]
        arguments = [one for one in shown if one.param_type_name == "argument"]
        usage = [
            *path,
            "[OPTIONS]",
            *map(_usage, arguments),
            *(["COMMAND"] if hasattr(command, "list_commands") else []),
        ]
        parts = [f"## {' '.join(path)}", f"```text\n{' '.join(usage)}\n```", _paragraphs(command.help)]
        if arguments:
            rows = [(_code(one.display_name_raw), _cell(one.get_help_record(inner)[1])) for one in arguments]
            parts.append(table(("argument", "what it is"), rows))
        options = [one for one in shown if one not in arguments]
        for panel in dict.fromkeys(one.rich_help_panel for one in options):
            records = [one.get_help_record(inner) for one in options if one.rich_help_panel == panel]
            rows = [(_code(names), _cell(text)) for names, text in records]
            parts.append(table((_cell(panel or "option"), "what it does"), rows))
        yield "\n\n".join(part.rstrip("\n") for part in parts if part)


def _usage(argument: Any) -> str:
    name: str = argument.display_name_raw
    return name if argument.required else f"[{name}]"


def _paragraphs(text: str | None) -> str:
    """A docstring, one line a paragraph."""
    return "\n\n".join(_prose(" ".join(part.split())) for part in re.split(r"\n\s*\n", text or ""))


def _prose(text: str) -> str:
    """Text of ours, in which only what is between backticks is markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\<>*_\[\]])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text.replace('|', ' or ')}`"  # renderers disagree on how a table holds a pipe in code


def main(arguments: list[str]) -> None:
    """Write the page."""
    page = Path(arguments[0]) if arguments else PAGE
    page.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
