"""Text from data in HTML, in links and in JSON inside a script."""

import html
import json
import re

import pytest

from bench.escape import href, html_text, json_for_script, printable
from tests.payloads import PAYLOADS


def test_there_are_45_payloads() -> None:
    assert len(set(PAYLOADS)) == 45


@pytest.mark.parametrize("text", PAYLOADS)
def test_html_says_the_text_and_nothing_else(text: str) -> None:
    safe = html_text(text)
    assert not set(safe) & set("<>\"'\x1b\x00\r\n\u2028\u202e")
    assert not re.search(r"&(?!(amp|lt|gt|quot|#x27);)", safe)
    assert html.unescape(safe) == printable(text)
    safe.encode()


@pytest.mark.parametrize("text", PAYLOADS)
def test_json_for_a_script_is_the_same_value_without_a_way_out(text: str) -> None:
    value = {text: [text, {"nested": (text, 1, 0.25, None)}]}
    safe = json_for_script(value)
    assert not set(safe) & set("<>&\u2028\u2029") and safe.isascii() and safe.isprintable()
    shown = printable(text)
    assert json.loads(safe) == {shown: [shown, {"nested": [shown, 1, 0.25, None]}]}


def test_json_for_a_script_has_no_numbers_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        json_for_script(float("nan"))


@pytest.mark.parametrize("text", PAYLOADS)
def test_a_link_stays_below_the_page(text: str) -> None:
    target = href(text)
    assert re.fullmatch(r"[\w.~%/-]*", target, re.ASCII)
    assert not target.startswith("/")


def test_a_plain_path_stays_as_it_is() -> None:
    assert href("results/a-b_c/d.e.json") == "results/a-b_c/d.e.json"
    assert href("//host/x") == ".//host/x"
    assert href("javascript:alert(1)") == "javascript%3Aalert%281%29"
