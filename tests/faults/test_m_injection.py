"""Text that tries to get out of where it is shown: the leaderboard, its page, CSV files, the terminal."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import sys
import threading
import tty
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bench.escape import printable
from bench.store import Store
from proxies.export_table import COLUMNS
from proxies.leaderboard import BY_TASK, FOLDER
from tasks import RANKED_TASKS
from tests.faults.children import cli, done
from tests.faults.ledger import IS_FULL, Cases
from tests.payloads import BEACON, PAYLOADS
from tests.record_factory import make_record

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FIELDS = ("model", "family", "task", "reason")
ALWAYS = (
    "<script>window.hit=1</script>",
    "a|b",
    "\x1b[31mred\x1b[0m",
    "[bold red]x[/bold red] [link=http://evil.example]y[/link]",
    "=cmd|' /C calc'!A0",
)
"""One for each place where text can get out, also in the default suite."""

SPREADSHEET = ("=", "+", "-", "@", "\t", "\r")
"""What a cell must not begin with to be text for a spreadsheet."""


def csv_rows(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.reader(opened))


def check_csv(rows: list[list[str]]) -> None:
    """Every row as wide as the head, nothing raw, nothing that a spreadsheet would reckon with."""
    assert len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(SPREADSHEET) or _is_number(cell), cell
        assert cell == printable(cell), cell


def column(rows: list[list[str]], name: str) -> list[str]:
    """The cells below a head, as they were before they were made safe for a spreadsheet."""
    return [row[rows[0].index(name)].removeprefix("'") for row in rows[1:]]


def is_storable(text: str) -> bool:
    """Whether it can be in a record at all, which is UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def put(store: Store, field: str, number: int, payload: str) -> None:
    """One more model with the payload in a field of its records."""
    name = payload if field == "model" else f"model-{number:02d}"
    weights = f"{number:064x}"
    for task in RANKED_TASKS:
        record = make_record(model=name, task=task, weights=weights, level=4 + 0.1 * number)
        if field == "family":
            record = record.model_copy(update={"model": record.model.model_copy(update={"family": payload})})
        store.write_record(record)
    if field == "task":
        store.write_record(make_record(model=name, task=payload, weights=weights))
    if field == "reason":
        refused = {"trained": [("macro", 0, 3)]}
        store.write_record(
            make_record(model=f"refused-{number:02d}", weights="r" + weights[1:], refused=refused, reason=payload[:300])
        )


def put_rejected(store: Store, number: int, payload: str) -> None:
    """A file that names the payload as its field, under the payload as its name as far as a file can have it."""
    name = payload.replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode()[:60]
    path = store.root / "emergence" / "bad" / f"{number:02d}{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps({"schema_version": 2, payload: 1}).encode())


def markdown_rows(text: str) -> tuple[list[list[str]], list[str], list[str]]:
    """The cells of all tables by row, the targets of links and images, and all HTML."""
    rows: list[list[str]] = []
    targets: list[str] = []
    html: list[str] = []
    before = ""
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": True}).parse(text):
        html += [token.content] if token.type.startswith("html") else []
        if token.type == "tr_open":
            rows.append([])
        for child in token.children or ():
            html += [child.content] if child.type.startswith("html") else []
            for name in ("href", "src"):
                if child.attrGet(name) is not None:
                    targets.append(str(child.attrGet(name)))
        if token.type in ("td_open", "th_open"):
            rows[-1].append("")
        if token.type == "inline" and before in ("td_open", "th_open"):
            rows[-1][-1] = "".join(child.content for child in token.children or ())
        before = token.type
    return rows, targets, html


def check_markdown(text: str) -> None:
    """No markup but ours: links within the results folder, no raw control, every row as wide as its head."""
    assert not [letter for letter in text if letter != "\n" and printable(letter) != letter and letter != " "]
    assert BEACON not in text and "](javascript" not in text
    _, targets, html = markdown_rows(text)
    assert html == []
    ours = ("results/", "emergence/", "../", "docs/", "leaderboard/", "https://arxiv.org/")
    assert not [target for target in targets if not target.startswith(ours)], targets[:9]


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def check_page(text: str) -> None:
    """Nothing in it runs but its own script, nothing is asked for."""
    elements = Elements(text).found
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert len([one for one in scripts if one.get("type") != "application/json"]) == 1
    assert not {tag for tag, _ in elements} & {"iframe", "object", "embed", "base", "img", "template", "textarea"}
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("href", "src", "action", "xlink:href"):
            target = attributes.get(name) or ""
            assert not target.lower().startswith(("javascript:", "data:text", "//", "vbscript:")), (tag, target)
            assert "evil.example" not in target.partition("?")[0].split("/")[:3], (tag, target)
    assert not set(text) & set("\x1b\x00\x07\x08\r\x9b\u2028\u2029\u202e\u200b")


def on_terminal(where: Path, *arguments: str | Path) -> None:
    """`bench` with a terminal for its standard output; what that is sent is kept."""
    os.environ.pop("NO_COLOR", None)
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": "2000"}
    ours, terminal = pty.openpty()
    tty.setraw(terminal)  # else it makes two characters of each line break
    file = os.dup(1)
    os.dup2(terminal, 1)
    os.close(terminal)
    reader = threading.Thread(target=_keep, args=(ours, where))
    reader.start()
    try:
        cli(*arguments)
    finally:
        sys.stdout.flush()
        os.dup2(file, 1)  # nobody has the terminal then, which ends the reader
        reader.join()


def _keep(terminal: int, where: Path) -> None:
    with where.open("wb") as file:
        try:
            while sent := os.read(terminal, 1 << 16):
                file.write(sent)
        except OSError:  # so Linux says that nobody writes any more
            pass


def cells_on_terminal(sent: str) -> list[list[str]]:
    """The cells of every line of a table; colours and weights are all that a terminal is told to do."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    assert sent != text, "not taken for a terminal"
    assert not [letter for letter in text if letter != "\n" and printable(f"x{letter}x") != f"x{letter}x"], text
    return [[" ".join(cell.split()) for cell in line.split("│")] for line in text.split("\n")]


@pytest.mark.parametrize("field", FIELDS)
def test_a_payload_stays_text_wherever_it_is_shown(cases: Cases, tmp_path: Path, field: str) -> None:
    """One folder of results with a model for each payload, through the commands that show it."""
    drawn = [PAYLOADS[int(number)] for number in cases.chosen([f"{n:02d}" for n in range(len(PAYLOADS))], quick=3)]
    chosen = list(dict.fromkeys((*ALWAYS, *drawn)))
    store = Store(tmp_path / "results")
    store.root.mkdir()
    storable = [payload for payload in chosen if is_storable(payload)]
    for number, payload in enumerate(chosen):
        if is_storable(payload):
            put(store, field, number, payload)
        else:
            with pytest.raises(ValueError):  # nothing that is written as UTF-8 can hold it
                put(store, field, number, payload)
        if field == "reason" or payload not in storable:
            put_rejected(store, number, payload)
    out, html = tmp_path / "leaderboard.md", tmp_path / "page.html"
    table, frame = tmp_path / "board.csv", tmp_path / "cells.csv"
    said = done(
        cli, "leaderboard", "--results", store.root, "--out", out, "--html", html, log=tmp_path / "said"
    )  # fmt: skip
    said += done(
        cli, "export", "--format", "csv", "--results", store.root, "--out", table, log=tmp_path / "exported"
    )  # fmt: skip
    said += done(cli, "features", "--results", store.root, "--csv", frame, log=tmp_path / "features")
    data = done(cli, "leaderboard", "--results", store.root, "--out", out, "--json", log=tmp_path / "data")
    said += data
    done(on_terminal, tmp_path / "sent", "leaderboard", "--results", store.root, "--out", out, log=tmp_path / "ended")
    with cases.case("nothing but colours for a terminal", n=0):
        on_screen = cells_on_terminal((tmp_path / "sent").read_text())
    text = out.read_text()
    by_task = (store.root / FOLDER / BY_TASK).read_text()
    shown, tables = markdown_rows(text)[0], markdown_rows(by_task)[0]
    with cases.case("no markup but ours", n=0):
        check_markdown(text)
        check_markdown(by_task)
    with cases.case("no element but ours", n=0):
        check_page(html.read_text())
    exported, cells = csv_rows(table), csv_rows(frame)
    ranked = [row for row in shown if len(row) > 10 and row[1] != "model"]
    with cases.case("rows and columns", n=0):
        assert len({len(row) for row in shown if len(row) > 10}) == 1
        n_measured = len(storable if field in ("model", "family") else chosen)  # the others have sound records too
        assert len(ranked) == n_measured == len(exported) - 1
        assert exported[0] == [one.name for one in COLUMNS]
        assert not [letter for letter in said if letter != "\n" and printable(letter) != letter and letter != " "]
        assert "Traceback" not in said
        rows = json.loads(next(line for line in data.splitlines() if line.startswith("[")))
        if field in ("model", "family"):
            assert {(row["model"]["name"] if field == "model" else row["family"]) for row in rows} == set(storable)
        if field == "task":
            assert len([row for row in tables if row[1:2] and row[1].startswith("model-")]) >= len(storable)
    with cases.case("CSV files", n=0):
        check_csv(exported)
        check_csv(cells)
    for payload in chosen:
        with cases.case(f"{payload!r} as {field}"):
            inert = printable(payload)
            if field in ("model", "family") and payload in storable:
                place = 1 if field == "model" else 2
                assert " ".join(inert.split()) in [" ".join(row[place].split()) for row in ranked]
                assert " ".join(inert.split()) in [row[place + 1] for row in on_screen if len(row) > place + 1]
                assert inert.removeprefix("'") in column(exported, field)
                assert inert.removeprefix("'") in column(cells, field)
            elif field == "task" and payload in storable:
                words = " ".join(inert.split())
                assert [row for row in tables if words in (" ".join(cell.split()) for cell in row)], words
                assert inert.removeprefix("'") in column(cells, "task")
            elif payload in storable:
                assert " ".join(inert.split()) in _words(text), inert
                assert inert in said
            else:
                assert "half a character.json" in said and "half a character.json" in text
    if not IS_FULL:
        return
    if CHROMIUM is None or find_spec("playwright") is None:
        cases.not_run("no Chromium: pages were parsed, not opened")
        return
    with cases.case(f"the page in a browser, {field}", n=0):
        check_in_browser(html)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _words(markdown: str) -> str:
    """All that is shown of a file, with one blank between words."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": True}).parse(markdown)
    return " ".join("\n".join("".join(one.content for one in token.children or ()) for token in tokens).split())


def check_in_browser(file: Path) -> None:
    """Open the page and every panel of it: it asks for nothing, says nothing and runs nothing."""
    playwright = import_module("playwright.sync_api")
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    requests: list[str] = []
    said: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        shown = browser.new_page()
        shown.on("request", lambda request: requests.append(request.url))
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        shown.goto(file.as_uri())
        n_opened = shown.evaluate("""() => [...document.querySelectorAll("a.open")].map((link) => {
            history.replaceState(null, "", link.getAttribute("href"));
            window.dispatchEvent(new HashChangeEvent("hashchange"));
            document.getElementById("panel").close();
        }).length""")
        shown.wait_for_timeout(200)  # for a beacon to be sent
        hit = shown.evaluate("window.hit === undefined ? null : window.hit")
        browser.close()
    assert n_opened > 0 and hit is None and said == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]


@pytest.mark.parametrize("where", ["error", "model", "task file"])
def test_a_payload_in_an_argument_reaches_no_terminal_raw(cases: Cases, tmp_path: Path, where: str) -> None:
    """What a person, or a script of theirs, names comes back in an error as text."""
    for number in cases.chosen([f"{n:02d}" for n in range(len(PAYLOADS))], quick=3):
        payload = PAYLOADS[int(number)].replace("\0", "")
        with cases.case(f"{payload!r} as {where}"):
            status = 1 if where == "task file" and is_storable(payload) else 2  # half a character is no argument
            arguments = {
                "error": ("leaderboard", "--results", f"{tmp_path}/{payload}"),
                "model": ("run", f"./{payload}", "--out", tmp_path / "results"),
                "task file": ("tasks", "check", f"{tmp_path}/{payload}"),
            }[where]
            said = done(cli, *arguments, log=tmp_path / number, status=status)
            assert "Traceback" not in said, said
            assert not [
                letter for letter in said if letter != "\n" and printable(letter) != letter and letter != " "
            ], said
            assert not (tmp_path / "results").exists() or not list((tmp_path / "results").rglob("*.json"))
