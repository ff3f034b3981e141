"""The page as text: what it says, what it weighs, and that text from data stays text. No browser."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_hex

from bench.escape import printable
from proxies.page import page
from proxies.page_data import Apart, HeatMap, Link, ModelRow, Number
from proxies.page_panel import panel_json
from proxies.page_plot import SHAPES, figure, ticks
from proxies.page_table import identified
from tests.page_factory import make_behind, make_estimate, make_fit, make_page, make_row, page_of
from tests.payloads import PAYLOADS

FILES = Path(__file__).parent.parent.parent / "proxies" / "page_files"
VOID = {"meta", "link", "input", "path", "circle", "rect"}


class Reader(HTMLParser):
    """Elements with their attributes and text, in order; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data))

    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def panels(self) -> list[str]:
        return [text for tag, text in self.texts if tag == "script" and text.startswith("{")]


def cells(*rows: ModelRow) -> list[str]:
    """The text of each row of the table."""
    body = re.search(r"<tbody>\n(.*?)\n</tbody>", page(page_of(*rows)), re.DOTALL)
    assert body
    found = re.findall(r"<tr id=.*?</tr>", body[1], re.DOTALL)
    return [" ".join(text.strip() for _, text in Reader(row).texts) for row in found]


def test_the_same_data_gives_the_same_text() -> None:
    assert page(make_page()) == page(make_page())


def test_policy_names_the_style_and_the_script_and_lets_nothing_else_in() -> None:
    text = page(make_page())

    def digest(tag: str) -> str:
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    policy = dict(Reader(text).elements[3][1])["content"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest('style')}'; script-src 'sha256-{digest('script')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_nothing_is_asked_of_anybody_and_nothing_is_inline() -> None:
    reader = Reader(page(make_page()))
    for tag, attributes in reader.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert not set(attributes) & {"src", "srcset", "action", "formaction", "poster", "background", "ping"}
        target = attributes.get("href")
        if target is not None:
            assert re.fullmatch(r"#[\w.-]+|[\w.~%/-]+" if tag == "a" else r"data:,", target)
    assert "url(" not in (FILES / "page.css").read_text() and "@import" not in (FILES / "page.css").read_text()


def test_the_script_has_no_way_to_make_code_of_text() -> None:
    script = (FILES / "page.js").read_text(encoding="utf-8")
    forbidden = "innerHTML outerHTML insertAdjacentHTML document.write eval Function( fetch XMLHttp setTimeout .href </"
    for word in forbidden.split():
        assert word not in script


def hostile(field: str, text: str) -> ModelRow:
    row = make_row(n_blocks=2, n_curves=1, n_tasks=1)
    if field == "task":
        return replace(
            row,
            heat_maps=(replace(row.heat_maps[0], task=text),),
            accuracies=(replace(row.accuracies[0], task=text, mode=text),),
        )
    if field == "verdict":
        return make_estimate(behind=replace(make_behind(text), baseline=text, fit=Link(text=text, path=text)))
    return replace(row, **{field: text})  # type: ignore[arg-type]


FIELDS = ("name", "family", "revision", "task", "verdict", "precision", "date", "source", "licence")


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_text_changes_no_element_and_arrives_as_it_is(field: str) -> None:
    plain = Reader(page(page_of(hostile(field, "plain"), fits=(), notes=()))).skeleton()
    for payload in PAYLOADS:
        text = page(page_of(hostile(field, payload), fits=(), notes=()))
        text.encode()  # no half characters
        assert not set(text) & set("\x1b\x00\x07\x08\r\x9b\u2028\u2029\u202e\u200b")
        reader = Reader(text)
        assert reader.skeleton() == plain
        shown = printable(payload)
        assert any(shown in data for tag, data in reader.texts if tag != "script") or field == "task"
        if field == "task":
            (panel,) = reader.panels()
            assert json.loads(panel)["maps"][0]["task"] == json.loads(panel)["curves"][0]["task"] == shown


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_elsewhere_on_the_page_stays_text(payload: str) -> None:
    def skeleton(text: str) -> list[tuple[str, tuple[str, ...]]]:
        fit = make_fit(text, 1)
        fit = replace(
            fit, unit=text, predictor=text, errors=((text, 1.0),), verdict=text, record=Link(text=text, path=text)
        )
        fit = replace(fit, points=(replace(fit.points[0], label=text, family=text),))
        data = page_of(make_row(n_tasks=0), fits=(fit,), notes=((text, text),), title=text, introduction=text)
        apart = Apart(what=text, reason=text, record=Link(text=text, path=text))
        table = replace(data.tables[0], title=text, remark=text)
        return Reader(page(replace(data, apart=(apart,), tables=(table,)))).skeleton()

    assert skeleton(payload) == skeleton("plain")


def test_a_number_stands_with_its_interval_and_its_ceiling() -> None:
    (row,) = cells(make_row(emergence=Number(value=8.584, half_width=0.052), ceiling=11.694, over_twin=None))
    assert "8.58 ± 0.05 11.69 – none" in row and "measured" in row


def test_an_estimate_says_what_it_is_how_wrong_it_may_be_and_the_verdict() -> None:
    wide = make_behind("It beats nothing.")
    first, second = cells(
        make_estimate(behind=wide), make_estimate(behind=replace(wide, interval_80=(5.2, 7.444), measured_bits=6.5))
    )
    assert "6.30 no interval: too few families" in first and "6.30 80 %: 5.20 to 7.44" in second
    for row in (first, second):
        assert "estimated from its answers; fit on 21 models of 3 families; held-out error 4.11 bits" in row
        assert "(the mean: 3.63)" in row and ". It beats nothing." in row
        assert "no rank: an estimate whose fit beats no baseline" in row
    assert "; measured it is 6.50 bits." in second


def test_a_row_without_a_rank_says_why() -> None:
    ranked, derived, checkpoint = cells(
        make_row(), make_row(rank=None, made_from="derived"), make_row(rank=None, made_from="checkpoint")
    )
    assert ranked.startswith("1 ")
    assert derived.startswith("– no rank: derived from another model")
    assert checkpoint.startswith("– no rank: a checkpoint of a training")


def test_an_empty_page_says_what_to_do() -> None:
    for data in (page_of(), page_of(tables=(), fits=(), apart=(), notes=())):
        text = page(data)
        assert "No model is ranked yet: run <code>bench run MODEL</code>" in text
        assert "<dialog" not in text and "<table aria-labelledby" not in text


def test_without_a_script_a_reader_is_told_what_is_missing() -> None:
    assert "need JavaScript" in page(make_page()).partition("<noscript>")[2].partition("</noscript>")[0]


def unpacked(packed: str, low: int, width: int, n_positions: int) -> list[list[float | None]]:
    """What the script of the page does, the slow way."""
    digits = [packed[at : at + width] for at in range(0, len(packed), width)]
    values = [None if "-" in text else (int(text, 36) + low) / 100 for text in digits]
    return [values[at : at + n_positions] for at in range(0, len(values), n_positions)]


def test_packed_grids_are_the_grids_in_hundredths_of_a_bit() -> None:
    grids = {
        "emergence": ((-1.234, 0.0, None), (5.0, 700.127, -0.004)),
        "ceiling": ((8.0, 8.0, 8.0), (8.0, 8.0, 8.0)),
        "untrained_twin": ((None, None, None), (None, None, None)),
        "random_words": ((0.01, 0.02, 0.03), (0.04, 0.05, 0.06)),
    }
    row = make_row(heat_maps=(HeatMap(task="t", closing=(2,), **grids),))
    (heat_map,) = json.loads(panel_json(row))["maps"]
    assert (heat_map["low"], heat_map["width"], heat_map["n_positions"]) == (-123, 4, 3)
    for name, grid in grids.items():
        expected = [[None if value is None else round(value, 2) for value in line] for line in grid]
        assert unpacked(heat_map["grids"][name], -123, 4, 3) == expected


def test_all_numbers_of_the_panel_have_two_decimals() -> None:
    numbers = re.findall(r"\d+\.(\d+)", panel_json(make_row()))
    assert numbers and max(map(len, numbers)) <= 2


def test_200_models_are_less_than_5_megabytes() -> None:
    """3 maps of 30 blocks and 12 positions, 21 curves of 5 points, 9 records each."""
    text = page(make_page(200, 0, n_tasks=3, n_blocks=30, n_positions=12, n_curves=21))
    assert len(text.encode()) < 5e6


def test_a_link_to_a_model_outlives_other_models() -> None:
    rows = tuple(make_row(index) for index in range(6))
    data = page_of(*rows, rows[0], replace(rows[0], revision="other"))
    ((*fragments, copy, other),) = identified(data.tables)
    assert len({*fragments, copy, other}) == 8 and copy == f"{fragments[0]}-2"
    assert fragments[0].startswith("m-smollm2-0-")
    assert identified(page_of(*rows[:0:-1]).tables) == [fragments[:0:-1]]


def test_every_fragment_is_an_element_and_has_data() -> None:
    reader = Reader(page(make_page()))
    identifiers = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = {attributes["href"] for tag, attributes in reader.elements if tag == "a" and "href" in attributes}
    local = {target[1:] for target in targets if target and target.startswith("#")}
    assert len(local) == 15 and local <= set(identifiers)
    assert {f"{fragment}-data" for fragment in local - {"notes"}} <= set(identifiers)


def test_the_colours_are_viridis() -> None:
    script = (FILES / "page.js").read_text(encoding="utf-8")
    ours = re.findall(r'"([0-9a-f]{6})"', script.partition("VIRIDIS = [")[2].partition("]")[0])
    assert [f"#{colour}" for colour in ours] == [to_hex(matplotlib.colormaps["viridis"](i / 16)) for i in range(17)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (0.8, 3.1, [1, 1.5, 2, 2.5, 3]), (0, 0, None)],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError):
            ticks(low, high)
    else:
        assert ticks(low, high) == pytest.approx(expected)


def test_a_right_prediction_lies_on_the_diagonal_and_families_differ_in_shape() -> None:
    points = tuple(
        replace(point, predicted=point.truth, low=None, high=None, family=str(index))
        for index, point in enumerate(make_fit(n_points=10).points)
    )
    drawing = figure(replace(make_fit(), points=points), 1)
    (ends,) = re.findall(r'class="diagonal" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', drawing)
    left, bottom, right, top = map(float, ends)
    for x, y in re.findall(r"translate\(([\d.]+) ([\d.]+)\)\"", drawing):
        assert (float(x) - left) / (right - left) == pytest.approx((bottom - float(y)) / (bottom - top), abs=1e-3)
    assert len(set(SHAPES)) == 8 and all(shape in drawing for shape in SHAPES)


def test_a_fit_without_predictions_and_one_with_a_single_point_can_be_shown() -> None:
    assert "No held-out prediction." in figure(make_fit(n_points=0), 1)
    assert "<svg" in figure(make_fit(n_points=1), 1)
