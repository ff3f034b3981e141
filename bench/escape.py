"""The one place where text from data is made safe for what it is written into."""

from __future__ import annotations

import re
from urllib.parse import quote

_MARKUP = re.compile(r"(?<=www)\.|[^\w .,;/=-]|_", re.IGNORECASE)
"""Everything but letters, digits and plain punctuation; the dot of "www." too, which some renderers make a link."""

_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text on one line, with control and direction characters replaced by U+FFFD."""
    return _INVISIBLE.sub("\ufffd", re.sub(r"\s+", " ", text)).strip()


def markdown_cell(text: str) -> str:
    """The text as inert Markdown for one table cell: no markup, no HTML, no link, no column break."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", printable(text))


def url_path(path: str) -> str:
    """A relative path as the target of a Markdown link."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/._-")
