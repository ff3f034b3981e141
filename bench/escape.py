"""The one place where text from data is made safe for what it is written into."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import quote

_MARKUP = re.compile(r"(?<=www)\.|/(?=/)|[^\w .,;/=-]|_", re.IGNORECASE)
"""Everything but letters, digits and plain punctuation; the dot of "www." and the first of two
slashes too, which some renderers make a link."""

_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e0fff]"
)

_NO_FILE_NAME = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
"""Half characters that stand for no byte of a file name; the others do (see `os.fsdecode`)."""


def printable(text: str) -> str:
    """The text on one line, with control and direction characters replaced by U+FFFD."""
    return _INVISIBLE.sub("\ufffd", re.sub(r"\s+", " ", text)).strip()


def markdown_cell(text: str) -> str:
    """The text as inert Markdown for one table cell: no markup, no HTML, no link, no column break."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", printable(text))


def url_path(path: str) -> str:
    """A relative path as the target of a Markdown link."""
    return quote(_NO_FILE_NAME.sub("\ufffd", path).encode("utf-8", "surrogateescape"), safe="/._-")


def html_text(text: str) -> str:
    """The text for the inside of an HTML or SVG element, or of an attribute between quotes."""
    return html.escape(printable(text))


def href(path: str) -> str:
    """A relative path as the value of an `href` between quotes: never a scheme, never another host."""
    quoted = url_path(path)
    return f".{quoted}" if quoted.startswith("/") else quoted  # "//host/x" would be a host


def json_printable(text: str) -> str:
    """The same JSON with an escape for all that does not show, or that a terminal would act on."""
    return _INVISIBLE.sub(lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1], text)


def json_for_script(value: object) -> str:
    """A value as JSON for the inside of a `<script type="application/json">`, in as few bytes as it takes.

    Strings are made printable, keys included; nothing in it can end the element, or begin a comment or another one.
    Lone surrogates, U+2028 and everything else that is not ASCII are escapes.
    """
    text = json.dumps(_printable_strings(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable_strings(value: object) -> object:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _printable_strings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable_strings(item) for item in value]
    return value
