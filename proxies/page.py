"""The leaderboard as one HTML file that asks for nothing: tables, a panel for each model, and how well fits predict.

Text from data passes `bench.escape` here and in the modules that this one joins; the script of the page only ever sets
text. Style and script are files of their own beside this module, and the policy of the page names their hashes: nothing
else can run, and nothing at all can be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib.resources import files

from bench.escape import html_text
from proxies.page_data import Apart, PageData
from proxies.page_panel import panel_json
from proxies.page_plot import figure
from proxies.page_table import board, identified, link

EMPTY = (
    "<p>No model is ranked yet: run <code>bench run MODEL</code>, then <code>bench leaderboard --html PATH</code> "
    "again.</p>"
)


def page(data: PageData) -> str:
    """The whole page; the same data gives the same text."""
    style, script = _static("page.css"), _static("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        '<meta name="format-detection" content="telephone=no">\n'
        f"<title>{html_text(data.title)}</title>\n"
        '<link rel="icon" href="data:,">\n'  # or browsers ask the server for one
        f"<style>{style}</style>\n</head>\n<body>\n" + "\n".join(_body(data)) + f"\n<script>{script}</script>\n"
        "</body>\n</html>\n"
    )


def _body(data: PageData) -> Iterator[str]:
    introduction = "".join(f"<p>{html_text(part)}</p>" for part in data.introduction.split("\n\n") if part.strip())
    yield f"<header>\n<h1>{html_text(data.title)}</h1>\n{introduction}"
    tables = [table for table in data.tables if table.rows]
    if tables:
        yield (
            '<p><a href="#notes">What each column is</a></p>\n<noscript><p class="notice">The panels of models, '
            "sorting and filtering need JavaScript. The tables hold all numbers of the ranking.</p></noscript>\n"
            f"</header>\n<main>\n{_static('filter.html')}"
        )
    else:
        yield f"</header>\n<main>\n{EMPTY}"
    notes = dict(data.notes)
    identifiers = identified(tables)
    for number, table in enumerate(tables, 1):
        yield board(table, number, identifiers[number - 1], notes)
    if data.fits:
        plots = "\n".join(figure(plot, number) for number, plot in enumerate(data.fits, 1))
        yield (
            '<section aria-labelledby="fits">\n<h2 id="fits">How well it can be predicted</h2>\n<p>Every point is a '
            "prediction for something that the fit had not seen; on the line it would be right.</p>\n"
            f'<div class="fits">\n{plots}\n</div>\n</section>'
        )
    if data.apart:
        yield (
            '<section aria-labelledby="apart">\n<h2 id="apart">Not ranked</h2>\n<ul>'
            + "".join(f"<li>{_apart(item)}</li>" for item in data.apart)
            + "</ul>\n</section>"
        )
    yield (
        '<section aria-labelledby="notes">\n<h2 id="notes">How to read it</h2>\n<dl class="notes">'
        + "".join(f"<dt>{html_text(name)}</dt><dd>{html_text(text)}</dd>" for name, text in notes.items())
        + "</dl>\n</section>\n</main>"
    )
    if tables:
        yield _static("panel.html")
    for table, fragments in zip(tables, identifiers, strict=True):
        for row, fragment in zip(table.rows, fragments, strict=True):
            yield f'<script type="application/json" id="{fragment}-data">{panel_json(row)}</script>'


def _apart(item: Apart) -> str:
    record = "" if item.record is None else f"; {link(item.record)}"
    return f"<b>{html_text(item.what)}</b>: {html_text(item.reason)}{record}"


def _static(name: str) -> str:
    """A part of the page that no data goes into."""
    return (files("proxies") / "page_files" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
