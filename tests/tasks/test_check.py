"""Problems of task files: each is found, with the line and the key at which it is, whatever else the bytes are."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.check import MAX_DEPTH, MAX_VALUES, Location, check_file, problems, read_document
from tasks.files import MAX_BYTES, Problem

DATA = Path(__file__).resolve().parents[2] / "tasks" / "data"

PAIRS: dict[str, Any] = {
    "schema": 1,
    "name": "number-word",
    "kind": "pairs",
    "version": 1,
    "item_prefix": " ",
    "arrow": ":",
    "answer_prefix": " ",
    "separator": "\n",
    "pairs": {f"{number}": [f"word {number}"] for number in range(60)},
}

LIST: dict[str, Any] = {
    "schema": 1,
    "name": "letter",
    "kind": "list",
    "version": 1,
    "item_prefix": " ",
    "separator": ",",
    "names": list("abcdefghijkl"),
    "members": {letter: [f"the {letter}", letter * 3] for letter in "abcdefghijklm"},
}


def found(content: Any, **changes: Any) -> list[tuple[str, str, str]]:
    """(severity, key, message) of each problem of a document with some keys changed; `...` removes a key."""
    merged = {key: value for key, value in {**content, **changes}.items() if value is not ...}
    return [(one.severity, one.key, one.message) for one in problems(json.dumps(merged))]


@pytest.mark.parametrize("content", [PAIRS, LIST], ids=["pairs", "list"])
def test_a_good_file_has_no_problem(content: Any) -> None:
    assert found(content) == []
    assert found(content, description="A thing.", sources=["me"], licence="CC0-1.0") == []


def test_shipped_tasks_have_no_problem() -> None:
    kinds = {path: json.loads(path.read_text(encoding="utf-8"))["kind"] for path in DATA.glob("*.json")}
    assert {path.stem: check_file(path) for path, kind in kinds.items() if kind != "text" and check_file(path)} == {}


E = "error"
W = "warning"


@pytest.mark.parametrize(
    ("content", "changes", "severity", "key", "message"),
    [
        # keys
        (PAIRS, {"arow": ":", "arrow": ...}, E, "arow", 'unknown key "arow"; did you mean "arrow"?'),
        (PAIRS, {"arrow": ...}, E, "arrow", 'missing; add "arrow": Text between a query and its answer'),
        (PAIRS, {"names": ["a"]}, E, "names", 'unknown key "names"; remove it, a file of kind pairs has schema, name'),
        (PAIRS, {"pairs": ...}, E, "pairs", "missing"),
        (PAIRS, {"kind": ...}, E, "kind", 'missing; add "kind": "list" or "pairs"'),
        (PAIRS, {"kind": "pair"}, E, "kind", 'expected "list" or "pairs", got "pair"; did you mean "pairs"?'),
        (PAIRS, {"kind": ["pairs"]}, E, "kind", 'expected "list" or "pairs", got an array of 1 entry'),
        (PAIRS, {"schema": ...}, E, "schema", "missing"),
        (PAIRS, {"schema": 2}, E, "schema", "schema 2 is newer than 1, which this software reads; update the software"),
        (PAIRS, {"schema": True}, E, "schema", "expected 1, got true"),
        (PAIRS, {"schema": 1.0}, E, "schema", "expected 1, got 1.0"),
        (PAIRS, {"schema": 0}, E, "schema", "expected 1, got 0"),
        # types and sizes
        (PAIRS, {"version": "1"}, E, "version", 'expected a whole number, got "1"'),
        (PAIRS, {"version": True}, E, "version", "expected a whole number, got true"),
        (PAIRS, {"version": 1.0}, E, "version", "expected a whole number, got 1.0"),
        (PAIRS, {"version": 0}, E, "version", "expected at least 1, got 0"),
        (PAIRS, {"version": 10**7}, E, "version", "expected at most 1000000, got 10000000"),
        (PAIRS, {"name": 5}, E, "name", "expected text in quotes, got 5"),
        (PAIRS, {"name": " x"}, E, "name", 'expected a name without blanks at its ends, got " x"'),
        (PAIRS, {"name": "x" * 101}, E, "name", "expected at most 100 characters, got 101"),
        (PAIRS, {"name": "text:x"}, E, "name", 'names that begin with "text:" are of texts'),
        (PAIRS, {"description": None}, E, "description", "expected text in quotes, got null"),
        (PAIRS, {"licence": ""}, E, "licence", "empty; expected at least one character"),
        (PAIRS, {"sources": "me"}, E, "sources", 'expected an array of texts like ["Paris"], got "me"'),
        (PAIRS, {"sources": [""]}, E, "sources[0]", "empty"),
        (PAIRS, {"separator": ""}, E, "separator", "empty; expected at least one character"),
        (PAIRS, {"arrow": ""}, E, "arrow", "empty; expected at least one character"),
        (PAIRS, {"pairs": {}}, E, "pairs", "empty; expected at least one entry"),
        (PAIRS, {"pairs": [["a", "b"]]}, E, "pairs", "expected an object like"),
        (PAIRS, {"pairs": {"a": []}}, E, "pairs.a", "empty; expected at least one entry"),
        (PAIRS, {"pairs": {"a": "b"}}, E, "pairs.a", 'expected an array of texts like ["Paris"], got "b"; put it in'),
        (PAIRS, {"pairs": {"a": ["b", 7]}}, E, "pairs.a[1]", "expected text in quotes, got 7"),
        (PAIRS, {"pairs": {"a": ["b", ""]}}, E, "pairs.a[1]", "empty"),
        (PAIRS, {"pairs": {"": ["b"]}}, E, 'pairs[""]', "empty"),
        (PAIRS, {"pairs": {"[key]": 7}}, E, 'pairs["[key]"]', "expected an array"),
        (PAIRS, {"pairs": {"a": ["b" * 501]}}, E, "pairs.a[0]", "expected at most 500 characters, got 501"),
        (LIST, {"names": ["a"] * 20_001}, E, "names", "expected at most 20,000 entries, got 20001"),
        # rules of pairs
        (PAIRS, {"pairs": {"a": ["b\nc"]}}, E, "pairs.a[0]", r'holds the separator "\n"; remove it, or choose another'),
        (PAIRS, {"separator": " and", "pairs": {"a": ["sand"]}}, E, "pairs.a[0]", 'holds the separator "and"'),
        (PAIRS, {"separator": "; ", "pairs": {"a; b": ["c"]}}, E, 'pairs["a; b"]', 'holds the separator "; "'),
        (PAIRS, {"pairs": {"a:": ["c"]}}, E, 'pairs["a:"]', '"a:" holds the arrow ":"'),
        (PAIRS, {"pairs": {"a": ["b"], "A": ["c"]}}, E, "pairs.A", 'the query "A" is there already as "a"; remove one'),
        (PAIRS, {"pairs": {"a ": ["b"]}}, E, 'pairs["a "]', 'leading, trailing or double blanks in "a "'),
        (PAIRS, {"pairs": {"a": ["b  c"]}}, E, "pairs.a[0]", 'leading, trailing or double blanks in "b  c"'),
        (PAIRS, {"pairs": {"a": ["\a"]}}, E, "pairs.a[0]", "holds U+0007 (control character); expected printable"),
        (PAIRS, {"pairs": {"a": ["b\u00a0c"]}}, E, "pairs.a[0]", "holds U+00A0 (NO-BREAK SPACE)"),
        (PAIRS, {"pairs": {"a": ["b\u202ec"]}}, E, "pairs.a[0]", "holds U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        (PAIRS, {"pairs": {"a": ["\ud800"]}}, E, "pairs.a[0]", r'half of a surrogate pair in "\ud800"'),
        (PAIRS, {"pairs": {"\udfff": ["a"]}}, E, 'pairs["\ufffd"]', r'half of a surrogate pair in "\udfff"'),
        (PAIRS, {"pairs": {"a": ["?"]}}, E, "pairs.a[0]", 'nothing of "?" is left to compare'),
        (PAIRS, {"description": "a\nb"}, E, "description", "holds U+000A (control character)"),
        (PAIRS, {"item_prefix": "\r"}, E, "item_prefix", "holds U+000D (control character)"),
        (PAIRS, {"version": float("nan")}, E, "version", "NaN is not JSON"),
        # rules of lists
        (LIST, {"names": ["a", "z"]}, E, "names[1]", '"z" is no key of members, and every name has to be one; add "z"'),
        (
            LIST,
            {"names": ["a", "BBB"]},
            E,
            "names[1]",
            '"BBB" is no key of members, and every name has to be one; write',
        ),
        (LIST, {"names": ["a", "b", "A"]}, E, "names[2]", '"A" is there twice, first as names[0]; remove one'),
        (LIST, {"names": ["a,b"]}, E, "names[0]", 'holds the separator ","'),
        (LIST, {"names": []}, E, "names", "empty"),
        (
            LIST,
            {"members": {**LIST["members"], "z": ["Aaa"]}},
            E,
            "members.z[0]",
            '"Aaa" belongs to two members, "a" and "z"; remove it from one of them',
        ),
        (LIST, {"members": {**LIST["members"], "A": []}}, E, "members.A", '"A" belongs to two members, "a" and "A"'),
        # warnings
        (
            PAIRS,
            {"pairs": {"a": ["b"], "c": ["d"]}},
            W,
            "pairs",
            "2 pairs; at least 12 are needed to measure emergence",
        ),
        (PAIRS, {"answer_prefix": ""}, W, "answer_prefix", "empty"),
        (PAIRS, {"arrow": "\n"}, W, "arrow", r'the arrow and the separator are both "\n"'),
        (
            PAIRS,
            {"pairs": {"a": ["x"], "b": ["X"], "c": ["y"]}},
            W,
            "pairs",
            '"x" is right for 2 of 3 pairs, so that chance is 67%',
        ),
        (PAIRS, {"pairs": {"a": ["b", "B"]}}, W, "pairs.a[1]", '"B" is there already, but for its case; it can go'),
        (LIST, {"names": ["a"]}, W, "names", "1 names; at least 12 are needed to measure emergence"),
        (
            LIST,
            {"names": ["a b"], "members": {"a b": []}},
            W,
            "names",
            '1 of 1 names have several words ("a b"), so probably several tokens',
        ),
    ],
)
def test_a_problem_is_found(content: Any, changes: Any, severity: str, key: str, message: str) -> None:
    assert [one for one in found(content, **changes) if one[:2] == (severity, key) and message in one[2]]


def test_a_warning_is_no_error() -> None:
    assert {severity for severity, *_ in found(PAIRS, pairs={"a": ["b"]}, answer_prefix="")} == {"warning"}


def test_an_answer_that_half_of_the_pairs_share_is_no_problem() -> None:
    assert not [one for one in found(PAIRS, pairs={"a": ["x"], "b": ["y"]}) if "chance" in one[2]]


def test_of_a_newer_schema_nothing_else_is_said() -> None:
    assert len(found(PAIRS, schema=2, pairs=5, arrow=..., name=" ", separator="\a")) == 1


def test_many_unknown_keys_are_all_named() -> None:
    assert len(found(PAIRS, **{f"key {number}": 1 for number in range(1000)})) == 1000


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "expected a JSON object, got an empty file"),
        (" \n\n", 3, 1, "expected a JSON object, got an empty file"),
        ("[]", 1, 1, "expected an object in {}, got an array of 0 entries"),
        ("\n\n  5", 3, 3, "expected an object in {}, got 5"),
        ('{\n "a": 1,\n}', 3, 1, "remove the comma before the bracket"),
        ("[\n 1,\n ]", 3, 2, "remove the comma before the bracket"),
        ("{'a': 1}", 1, 2, "write double quotes"),
        ("{\n // a\n}", 2, 2, "JSON has no comments"),
        ('{"a": "b\nc"}', 1, 9, r"write \n for a line break"),
        ('{"a": "b\n', 1, 9, r"write \n for a line break"),
        ('{\n "a": "b}', 2, 7, "close the quotes"),
        ('{"a": 1', 1, 8, "the file ends before its last bracket is closed"),
        ('{"a": 1}\n{}', 2, 1, "a file holds one object"),
        ('{"a" 1}', 1, 6, "expecting ':' delimiter, got \"1\""),
        ('{"a": "\\q"}', 1, 8, r"write \\ for a backslash"),
        ("{\n a: 1}", 2, 2, 'got "a"; text stands in double quotes'),
    ],
)
def test_syntax(text: str, line: int, column: int, message: str) -> None:
    first, *others = problems(text)
    assert not others
    assert message in first.message
    if "comma" not in message:  # Python 3.13 points at the comma, older ones at the bracket
        assert (first.line, first.column) == (line, column)


def test_repeated_keys_name_both_lines() -> None:
    text = json.dumps(PAIRS, indent=1).replace('"59"', '"58"').replace('"schema"', '"name": "x",\n "schema"')
    lines = text.splitlines()
    again, first = [place for place, line in enumerate(lines, 1) if '"name"' in line][::-1]
    assert (first, again) == (2, 4)
    one, other = [problem for problem in problems(text) if problem.severity == "error"]
    assert (one.line, one.key, one.message) == (
        again,
        "name",
        f'the key "name" is there twice, also on line {first}; remove one',
    )
    first, again = [place for place, line in enumerate(lines, 1) if line.strip().startswith('"58"')]
    assert (other.line, other.key) == (again, "pairs.58")
    assert f"also on line {first}" in other.message


def test_problems_stand_in_the_order_of_the_file() -> None:
    text = json.dumps({**PAIRS, "version": 0, "name": 1, "pairs": {"b": [""], "a": []}}, indent=1)
    places = [(problem.line, problem.column) for problem in problems(text)]
    assert len(places) > 4 and places == sorted(places, key=lambda place: (place[0], place[1] or 0))


def test_a_problem_prints_as_a_line() -> None:
    assert str(Problem(line=3, column=5, key="pairs.a", message="empty")) == "3:5: error: pairs.a: empty"
    assert str(Problem(line=1, column=None, key="", message="m", severity="warning")) == "1: warning: m"


# Where the values of a document stand, against a writer that puts blanks and line breaks anywhere and keeps count.

blanks = st.text(" \t\r\n", max_size=3)
texts = st.text(max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)


class Writer:
    """Writes JSON and notes the line and column of every value and key."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.text = ""
        self.values: dict[Location, tuple[int, int]] = {}
        self.keys: dict[Location, tuple[int, int]] = {}

    def put(self, text: str) -> None:
        self.text += self.data.draw(blanks) + text + self.data.draw(blanks)

    def here(self) -> tuple[int, int]:
        self.text += self.data.draw(blanks)
        return self.text.count("\n") + 1, len(self.text) - (self.text.rfind("\n") + 1) + 1

    def scalar(self, value: Any) -> None:
        self.text += json.dumps(value, ensure_ascii=self.data.draw(st.booleans()))

    def write(self, value: Any, location: Location = ()) -> None:
        self.values[location] = self.here()
        if not isinstance(value, dict | list):
            self.scalar(value)
            return
        self.text += "{" if isinstance(value, dict) else "["
        for place, step in enumerate(value if isinstance(value, dict) else range(len(value))):
            if place:
                self.put(",")
            if isinstance(value, dict):
                self.keys[(*location, step)] = self.here()
                self.scalar(step)
                self.put(":")
            self.write(value[step], (*location, step))
        self.put("}" if isinstance(value, dict) else "]")


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents, st.data())
def test_every_value_and_key_is_found_where_it_stands(value: Any, data: st.DataObject) -> None:
    writer = Writer(data)
    writer.write(value)
    document = read_document(writer.text)
    assert document.value == json.loads(writer.text)
    assert {location: document.place(offset) for location, offset in document.offsets.items()} == writer.values
    assert {location: document.place(offset) for location, offset in document.key_offsets.items()} == writer.keys


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 60), st.sampled_from([None, 1, 4]))
def test_the_line_of_a_problem(place: int, indent: int | None) -> None:
    """A planted mistake is reported on the line on which a reader finds it."""
    pairs = {**PAIRS["pairs"], f"{place - 1}": ["planted "]}
    text = json.dumps({**PAIRS, "pairs": pairs}, indent=indent)
    (problem,) = problems(text)
    assert "planted" in text.splitlines()[problem.line - 1]
    assert problem.column is not None
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith('"planted "')


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from('{}[]:,"\\ \n1aNull\ud800\u0000'), max_size=40) | st.text(max_size=40))
def test_no_text_breaks_the_check(text: str) -> None:
    assert any(problem.severity == "error" for problem in problems(text))


@settings(deadline=None, max_examples=300)
@given(documents)
def test_no_document_breaks_the_check(value: Any) -> None:
    for content in (PAIRS, LIST):
        key = sorted(content)[len(repr(value)) % len(content)]
        for problem in problems(json.dumps({**content, key: value})):
            assert problem.message.isprintable() and problem.key.isprintable() and len(problem.message) < 600


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_no_bytes_break_the_check(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "task.json"
    path.write_bytes(content)
    assert any(problem.severity == "error" for problem in check_file(path))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (json.dumps(PAIRS).encode("utf-16"), 1, "expected text in UTF-8, got UTF-16"),
        (json.dumps(PAIRS).encode("utf-16-le"), 1, "expected text in UTF-8, got UTF-16"),
        (json.dumps(PAIRS).encode("utf-32"), 1, "expected text in UTF-8, got UTF-16"),
        ('{\n"name": "Zürich"}'.encode("latin-1"), 2, "expected text in UTF-8, got the byte 0xfc"),
        (b"[" * 100_000, 1, f"brackets nested more than {MAX_DEPTH} deep"),
        (b"[" * 500 + b"]" * 500, 1, f"brackets nested more than {MAX_DEPTH} deep"),
        (b'{"a":' * 100_000, 1, f"brackets nested more than {MAX_DEPTH} deep"),
        (b" " * (MAX_BYTES + 1), 1, "expected at most 16 MB"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", 1, "expected text in UTF-8, got the byte 0x89"),
    ],
    ids=["UTF-16", "UTF-16 LE", "UTF-32", "Latin-1", "brackets", "closed brackets", "objects", "large", "PNG"],
)
def test_bytes_that_are_no_task(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    path = tmp_path / "task.json"
    path.write_bytes(content)
    (problem,) = check_file(path)
    assert problem.line == line and message in problem.message


@pytest.mark.parametrize("text", ['{"a": "' + '\\"' * 500_000, '"\\\n"' * 250_000, "[" + '"' * 1_000_001])
def test_a_megabyte_of_quotes_takes_no_longer_than_other_text(text: str) -> None:
    start = time.process_time()
    (problem,) = problems(text)
    assert problem.severity == "error" and time.process_time() - start < 5


def test_a_bracket_that_does_not_close_what_is_open_is_said_where_it_is() -> None:
    (problem,) = problems('{"pairs": [\n' + '["a", "b"),\n' * 30 + "]}")
    assert (problem.line, problem.column) == (2, 10) and "expecting ','" in problem.message


def test_nesting_up_to_the_limit_is_looked_into() -> None:
    (problem,) = problems("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert "expected an object" in problem.message


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_bytes(json.dumps(PAIRS).encode("utf-8-sig"))
    assert check_file(path) == ()


@pytest.mark.parametrize("name", ["missing.json", "missing/task.json", "", "a\0b", "x" * 5000, "/dev/zero"])
def test_what_cannot_be_read_is_one_problem(tmp_path: Path, name: str) -> None:
    (problem,) = check_file(tmp_path / name)
    assert re.search("cannot be read|expected a file", problem.message)
    assert "give the name of a JSON file" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "kind": "pairs", "pairs": {' + ",".join(f'"{place} ": 1' for place in range(60_000)) + "}}",
        '{"schema": 1, "kind": "pairs",' + ",".join(f'"key{place}": 1' for place in range(60_000)) + "}",
        '{"schema": 1, "kind": "list", "names": [' + ",".join(f'"{place % 9} "' for place in range(60_000)) + "]}",
        '{"schema": 1, "kind": "list", "names": ["' + "\u0315\u0300" * 4_000_000 + '"]}',
        '{"schema": ' + "1" * 4_000_000 + "}",
        '"' + "\\\\" * 4_000_000,
        "\n" * 4_000_000 + "{",
        "[" + "[]," * (MAX_VALUES + 1) + "[]]",
    ],
    ids=["pairs", "keys", "names", "accents", "digits", "backslashes", "lines", "values"],
)
def test_time_is_linear(text: str) -> None:
    """Seconds, where anything quadratic would take hours."""
    before = time.process_time()
    assert problems(text)
    assert time.process_time() - before < 20
