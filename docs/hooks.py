"""What mkdocs asks while it builds: which files belong to the site, and where they go.

The site has the folders of the repository. It holds what lies in `docs/` and everything that its pages link to,
wherever that is, under the same path: so a relative link is right in both, and none is rewritten. Records alone stay
out, because they are many and of use to programs only; a link to one becomes its text, with the path on hover.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("docs/*.md", "docs/*.css", "docs/*.js")
START = "docs/index.html"

_FENCED = re.compile(r"^(```|~~~).*?^\1 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")


def links(markdown: str) -> Iterator[re.Match[str]]:
    """The inline links and pictures of a page, with the groups `text` and `target`; none of fenced code."""
    prose = _FENCED.sub(lambda block: " " * len(block[0]), markdown)
    return _LINK.finditer(prose)


def linked_file(page: str, target: str) -> str | None:
    """The path from the root of the repository that a link of a page leads to; None if it leads elsewhere."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))


def is_record(path: str) -> bool:
    """Whether a file is a record of the results."""
    return path.startswith("results/") and path.endswith((".json", ".jsonl"))


def site_files(root: Path = ROOT) -> list[str]:
    """Every file of the site, from the root of the repository: `PAGES`, and what their links lead to."""
    waiting = sorted(path.relative_to(root).as_posix() for pattern in PAGES for path in root.glob(pattern))
    found: dict[str, None] = {}
    while waiting:
        page = waiting.pop(0)
        if page in found or is_record(page) or not (root / page).is_file():  # mkdocs says what is missing
            continue
        found[page] = None
        if page.endswith(".md"):
            targets = (linked_file(page, link["target"]) for link in links((root / page).read_text(encoding="utf-8")))
            waiting += [target for target in targets if target and not target.startswith("../")]
    return list(found)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put the files of the site into the place of what mkdocs has found in `docs/`."""
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    own = [File(path, str(ROOT), config.site_dir, config.use_directory_urls) for path in site_files()]
    return Files([*of_theme, *own])


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links to records."""

    def shown(link: re.Match[str]) -> str:
        path = linked_file(page.file.src_uri, link["target"])
        if path is None or not is_record(path):
            return link[0]
        return f'<span title="{html.escape(path)}">{link["text"]}</span>'

    return _LINK.sub(shown, markdown) if ".json" in markdown else markdown


def on_post_build(*, config: MkDocsConfig) -> None:
    """Let the root of the site lead to its first page."""
    move = f'<meta http-equiv="refresh" content="0; url={START}">'
    start = f'<!doctype html><title>bench</title>{move}<a href="{START}">bench</a>\n'
    (Path(config.site_dir) / "index.html").write_text(start, encoding="utf-8")
