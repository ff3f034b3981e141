"""The page in a real browser: it asks nobody, runs nothing that came with data, needs no mouse and no wide screen."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.escape import printable
from proxies.page import page
from proxies.page_data import Link, ModelRow, PageData
from tests.page_factory import make_behind, make_estimate, make_fit, make_page, make_row, page_of
from tests.payloads import PAYLOADS

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WIDTHS = (360, 768, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: `pip install playwright`")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install it (Debian: `apt-get install chromium`), or set CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """What a page did besides being shown."""

    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Any, folder: Path, data: PageData, *, fragment: str = "", width: int = 1280, **context: Any
) -> Iterator[Any]:
    """The page of this data; afterwards it has asked for nothing but itself, and said nothing to the console."""
    file = folder / "page.html"
    file.write_text(page(data), encoding="utf-8")
    seen = Seen()
    with browser.new_context(viewport={"width": width, "height": 800}, **context) as session:
        shown = session.new_page()
        shown.on("request", lambda request: seen.requests.append(request.url))
        shown.on("console", lambda message: seen.said.append(message.text))
        shown.on("pageerror", lambda error: seen.said.append(str(error)))
        shown.on("dialog", lambda dialog: (seen.said.append(dialog.message), dialog.dismiss()))
        shown.goto(file.as_uri() + fragment)
        yield shown
    asked = [url for url in seen.requests if not url.startswith("data:")]
    assert (asked, seen.said) == ([file.as_uri()], [])


def violations(shown: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    response = axe.Axe().run(shown).response
    assert len(response["passes"]) > 20  # it has looked
    return [f"{item['id']}: {node['html'][:200]}" for item in response["violations"] for node in item["nodes"]]


def column(shown: Any, number: int) -> list[str]:
    """The first words of the cells of the first table in one column, in order."""
    cells = shown.locator(".board tbody tr:not([hidden])").all()
    return [str(cell.locator(":scope > *").nth(number).inner_text()).split("\n")[0] for cell in cells]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_the_page_does_not_scroll_sideways(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    with opened(browser, tmp_path, make_page(), width=width, color_scheme=scheme) as shown:
        assert violations(shown) == []
        shown.locator("a.open").first.click()
        shown.locator("#map-numbers").check()
        assert violations(shown) == []
        for element in ("document.documentElement", "document.getElementById('panel')"):
            assert shown.evaluate(f"{element}.scrollWidth <= {element}.clientWidth")
        shown.keyboard.press("Escape")
        shown.locator("a.open").last.click()  # an estimate
        assert violations(shown) == []


def test_an_empty_page_is_accessible_too(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, page_of(tables=(), fits=(), apart=())) as shown:
        assert violations(shown) == []
        assert "bench run MODEL" in shown.locator("main").inner_text()


def test_sorting_by_keyboard(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, make_page(9, 1)) as shown:
        heading = shown.locator(".board th", has_text="parameters")
        heading.locator("button").focus()
        shown.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "descending"
        sizes = column(shown, 9)
        numbers = [float(size.removesuffix(" M")) for size in sizes if size.endswith("M")]
        assert numbers == sorted(numbers, reverse=True) and sizes[len(numbers) :] == ["–", "–"]
        shown.keyboard.press("Space")
        assert heading.get_attribute("aria-sort") == "ascending"
        sizes = column(shown, 9)
        assert [float(size.removesuffix(" M")) for size in sizes[: len(numbers)]] == numbers[::-1]
        assert sizes[len(numbers) :] == ["–", "–"]
        shown.locator(".board th", has_text="rank").locator("button").click()
        assert column(shown, 0) == ["1", "2", "3", "4", "5", "6", "7", "–", "–", "–"]
        assert shown.locator(".board th[aria-sort]").count() == 1


def test_names_with_numbers_sort_as_people_do(browser: Any, tmp_path: Path) -> None:
    rows = [make_row(index, name=name) for index, name in enumerate(("m-10", "m-9", "M-8"))]
    with opened(browser, tmp_path, page_of(*rows)) as shown:
        shown.locator(".board th", has_text="model").locator("button").click()
        assert column(shown, 1) == ["M-8", "m-9", "m-10"]


def test_filtering_by_name_or_family_and_by_kind(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, make_page(10, 2)) as shown:
        said = shown.locator("#n-shown")
        assert said.inner_text() == "12 of 12 rows"
        shown.locator("#wanted").fill("GEMMA 3")
        assert column(shown, 1) == ["gemma-3-1", "gemma-3-6"] and said.inner_text() == "2 of 12 rows"
        shown.locator("#wanted").fill("closed-1")
        assert column(shown, 1) == ["closed-1"]
        shown.locator("#measured-only").check()
        assert column(shown, 1) == [] and said.inner_text() == "0 of 12 rows"
        shown.locator("#wanted").fill("")
        assert said.inner_text() == "10 of 12 rows"
        shown.locator("#wanted").press("Enter")  # sends no form
        assert said.inner_text() == "10 of 12 rows"


def test_a_panel_opens_and_closes_by_keyboard_and_gives_the_focus_back(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, make_page()) as shown:
        panel = shown.locator("#panel")
        shown.locator("a.open").nth(2).focus()
        shown.keyboard.press("Enter")
        panel.wait_for(state="visible")
        assert shown.locator("#panel-title").inner_text() == "gpt-2-ladder-2"
        assert "#m-gpt-2-ladder-2-" in shown.url
        summary = shown.locator("#panel-summary").inner_text()
        assert summary == (
            "Emergence, measured, in bits: 9.30 ± 0.05; ceiling 12.30; over twin -1.93 ± 0.20; "
            "over random words 0.00 ± <0.01."
        )
        shown.keyboard.press("Escape")
        panel.wait_for(state="hidden")
        assert shown.evaluate("document.activeElement.textContent") == "gpt-2-ladder-2"
        assert "#" not in shown.url
        shown.keyboard.press("Enter")
        panel.wait_for(state="visible")
        shown.go_back()
        panel.wait_for(state="hidden")


def test_an_address_opens_the_panel_of_its_model(browser: Any, tmp_path: Path) -> None:
    data = make_page()
    (start,) = [part.split('"')[0] for part in page(data).split('href="#m-llama-3-4')[1:]]
    with opened(browser, tmp_path, data, fragment=f"#m-llama-3-4{start}") as shown:
        assert shown.locator("#panel-title").inner_text() == "llama-3-4"
        shown.locator("#panel-close").click()
        assert shown.evaluate("document.activeElement.textContent") == "llama-3-4"
    with opened(browser, tmp_path, data, fragment="#%E0%A4%A") as shown:
        assert not shown.locator("#panel").is_visible()


def test_every_cell_of_a_heat_map_can_be_read_without_a_mouse(browser: Any, tmp_path: Path) -> None:
    row = make_row(n_blocks=4, n_positions=8)
    heat_map = row.heat_maps[0]
    with opened(browser, tmp_path, page_of(row)) as shown:
        shown.locator("a.open").click()
        assert shown.locator("#map table").count() == 4
        first = shown.locator("#map td[tabindex='0']").first
        first.focus()
        readout = shown.locator("#map-readout")
        block, position = 0, 0
        for key, step in (("ArrowDown", (1, 0)), ("ArrowRight", (0, 1)), ("End", (0, 6)), ("ArrowRight", (0, 0))):
            shown.keyboard.press(key)
            block, position = block + step[0], position + step[1]
            values = (heat_map.emergence, heat_map.ceiling, heat_map.untrained_twin, heat_map.random_words)
            numbers = [f"{grid[block][position]:.2f}".replace("-0.00", "0.00") for grid in values]
            text = readout.inner_text()
            assert text.startswith(f"block {block}, position {position}")
            assert text.endswith(
                f"emergence {numbers[0]}, ceiling {numbers[1]}, untrained twin {numbers[2]}, "
                f"random words {numbers[3]} bits"
            )
        assert "(closes demonstration 2)" in readout.inner_text()
        shown.locator("#map-view").select_option("ceiling")
        assert shown.locator("#map table").count() == 1
        drawn = shown.locator("#map td[data-block]").all_text_contents()
        expected = [value for line in heat_map.ceiling for value in line if value is not None]
        assert [float(text) for text in drawn] == pytest.approx(expected, abs=0.005001)


def test_a_refused_cell_is_hatched_and_said(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, page_of(make_row(n_blocks=4))) as shown:
        shown.locator("a.open").click()
        refused = shown.locator("#map td.refused")
        assert refused.count() == 1 and refused.inner_text() == "refused"
        assert "repeating-linear-gradient" in refused.evaluate("cell => getComputedStyle(cell).backgroundImage")
        assert "Hatched: 1 cell that the estimator refused." in shown.locator("#map-remark").inner_text()
        refused.hover()
        assert "emergence refused, ceiling" in shown.locator("#map-readout").inner_text()


def test_maps_of_a_task_share_one_scale(browser: Any, tmp_path: Path) -> None:
    """Equal values have equal colours in every map, and the legend ends where the values do."""
    row = make_row()
    grid = ((0.0, 1.0), (2.0, 4.0))
    heat_map = replace(row.heat_maps[0], emergence=grid, ceiling=((4.0, 2.0), (1.0, 0.0)), untrained_twin=grid)
    heat_map = replace(heat_map, random_words=grid, closing=(1,))
    with opened(browser, tmp_path, page_of(replace(row, heat_maps=(heat_map,)))) as shown:
        shown.locator("a.open").click()
        colours = shown.locator("#map td[data-block]").evaluate_all(
            "cells => cells.map((c) => c.style.backgroundColor)"
        )
        assert colours[:4] == colours[7:3:-1] == colours[8:12] == colours[12:]
        assert colours[0] == "rgb(68, 1, 84)" and colours[3] == "rgb(253, 231, 37)"  # both ends of viridis
        assert shown.locator("#map-legend").inner_text().split("\n") == ["0.00 bits", "4.00 bits"]
        assert shown.locator("#map-task").is_hidden()  # one task is no choice


def test_the_task_of_the_accuracy_can_be_chosen_and_its_intervals_read(browser: Any, tmp_path: Path) -> None:
    row = make_row()
    with opened(browser, tmp_path, page_of(row)) as shown:
        shown.locator("a.open").click()
        shown.locator("#accuracy-task").select_option("singular-plural (completion)")
        lines = shown.locator("#accuracy tbody tr").all()
        for line, point in zip(lines, row.accuracies[4].points, strict=True):
            assert line.locator("th, td").all_inner_texts() == [
                str(point.n_shots), f"{point.accuracy:.2f}", f"{point.low:.2f} to {point.high:.2f}", "0.01", "100",
            ]  # fmt: skip
        assert shown.locator("#accuracy svg[role=img] .interval").count() == 5
        shots = shown.locator("#shots tbody tr").last.locator("th, td").all_inner_texts()
        assert shots == ["3", "10.30 ± 0.30", "13.30", "11.30", "10.50"]
        facts = shown.locator("#facts").inner_text()
        assert "Apache-2.0" in facts and "sha256:a672150fb4f9" in facts
        assert shown.locator("#facts a").count() == 9


def test_without_a_script_the_table_is_there_and_says_what_is_not(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, make_page(5, 1), java_script_enabled=False, width=360) as shown:
        text = shown.locator("main").inner_text()
        assert "smollm2-0" in text and "10.30 ± 0.05" in text and "held-out error 4.11 bits" in text
        assert shown.locator("noscript").inner_text().startswith("The panels of models, sorting and filtering need")
        assert not shown.locator("form.filter").is_visible() and shown.locator("thead button").count() == 0


def hostile_rows(payload: str) -> tuple[ModelRow, ...]:
    """One row for each field; what a fit says stands in estimates."""
    row = make_row(n_blocks=2, n_tasks=1, n_curves=2)
    return (
        replace(row, name=payload),
        replace(row, family=payload),
        replace(row, revision=payload, source=payload, licence=payload, records=(Link(text=payload, path=payload),)),
        replace(
            row,
            heat_maps=(replace(row.heat_maps[0], task=payload), *row.heat_maps),
            accuracies=tuple(replace(curve, task=payload, mode=payload) for curve in row.accuracies),
        ),
        make_estimate(behind=replace(make_behind(payload), baseline=payload, fit=Link(text=payload, path=payload))),
    )


def test_hostile_text_runs_nothing_and_asks_for_nothing(browser: Any, tmp_path: Path) -> None:
    """45 payloads in name, family, revision and task, and in verdicts; every panel opened, every link as it was."""
    rows = [row for payload in PAYLOADS for row in hostile_rows(payload)]
    fits = tuple(replace(make_fit(payload, 2), verdict=payload, unit=payload) for payload in PAYLOADS)
    with opened(browser, tmp_path, page_of(*rows, fits=fits)) as shown:
        links = shown.locator("a.open")
        assert links.count() == len(rows) == 5 * 45
        assert links.evaluate_all("links => links.map((link) => link.textContent)") == [
            printable(row.name) for row in rows
        ]
        tasks = shown.evaluate("""() => [...document.querySelectorAll("a.open")].map((link) => {
            history.replaceState(null, "", link.getAttribute("href"));
            window.dispatchEvent(new HashChangeEvent("hashchange"));
            const task = document.getElementById("map-task").options[0];
            for (const id of task ? ["map-task", "map-view", "accuracy-task"] : ["accuracy-task"]) {
                document.getElementById(id).dispatchEvent(new Event("change"));
            }
            document.getElementById("panel").close();
            return task ? task.textContent : null;
        })""")
        expected = [printable(row.heat_maps[0].task) if row.heat_maps else None for row in rows]
        assert tasks == expected
        assert shown.evaluate("window.hit") is None
        assert shown.locator("iframe, object, base, img, main script, main style, main meta").count() == 0
        here = shown.evaluate("location.href").rpartition("/")[0]
        targets = shown.evaluate("[...document.querySelectorAll('a')].map((link) => link.href)")
        assert all(target.startswith(here) for target in targets)
        shown.wait_for_timeout(200)  # for a beacon to be sent
        assert shown.evaluate("window.hit") is None


def test_200_models_open_in_two_seconds(browser: Any, tmp_path: Path) -> None:
    data = make_page(200, 0, n_tasks=3, n_blocks=30, n_positions=12, n_curves=21)
    with opened(browser, tmp_path, data) as shown:
        assert shown.locator("tr.model").count() == 200
        times = json.loads(
            shown.evaluate("""JSON.stringify({
                loaded: performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
                painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
            })""")
        )
        assert times["loaded"] < 2000 and times["painted"] < 2000
        took = shown.evaluate("""() => {
            const begin = performance.now();
            document.querySelector("a.open").click();
            document.getElementById("panel").getBoundingClientRect();
            return performance.now() - begin;
        }""")
        assert took < 1000
        print(f"loaded {times['loaded']:.0f} ms, painted {times['painted']:.0f} ms, panel {took:.0f} ms")
