"""Task files: what is read, what is refused, and that the JSON Schema and the page of the docs say the same."""

import copy
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import TASKS, load_task
from tasks.check import problems
from tasks.files import TaskFileError, parse_task, read_task_file, schema_text
from tasks.queries import Scorer, question
from tasks.task import ListTask, Member, Pair, PairTask

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tasks" / "task.schema.json"
PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
SHIPPED = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tasks" / "data").glob("*.json"))
}
SHIPPED = {name: content for name, content in SHIPPED.items() if content["kind"] in ("list", "pairs")}

PAIRS = {
    "schema": 1,
    "name": "capital",
    "kind": "pairs",
    "version": 3,
    "item_prefix": " ",
    "arrow": " ->",
    "answer_prefix": " ",
    "separator": "\n",
    "pairs": {"France": ["Paris"], "Bolivia": ["Sucre", "La Paz"]},
}

LIST = {
    "schema": 1,
    "name": "planet",
    "kind": "list",
    "version": 1,
    "item_prefix": "",
    "separator": "; ",
    "names": ["Venus", "Mars"],
    "members": {"Mars": [], "Venus": ["the morning star"], "Neptune": []},
    "description": "Planets.",
    "sources": ["me"],
    "licence": "MIT",
}


def test_a_file_of_pairs() -> None:
    assert parse_task(json.dumps(PAIRS)) == PairTask(
        name="capital",
        version=3,
        description="",
        item_prefix=" ",
        arrow=" ->",
        answer_prefix=" ",
        separator="\n",
        pairs=(Pair(query="France", answers=("Paris",)), Pair(query="Bolivia", answers=("Sucre", "La Paz"))),
        sources=(),
        licence="unknown",
    )


def test_a_file_of_a_list() -> None:
    assert parse_task(json.dumps(LIST)) == ListTask(
        name="planet",
        version=1,
        description="Planets.",
        item_prefix="",
        separator="; ",
        names=("Venus", "Mars"),
        members=(Member(name="Mars"), Member(name="Venus", aliases=("the morning star",)), Member(name="Neptune")),
        sources=("me",),
        licence="MIT",
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tasks_are_files_of_this_format(name: str) -> None:
    task = read_task_file(ROOT / "tasks" / "data" / f"{name}.json")
    assert task.name == name
    if name in TASKS:
        loaded = load_task(name)
        assert task == loaded and task.content_hash == loaded.content_hash


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps(PAIRS), encoding="utf-8-sig")
    assert read_task_file(str(path)) == parse_task(json.dumps(PAIRS))


def test_warnings_do_not_stop_a_task() -> None:
    assert {problem.severity for problem in problems(json.dumps(LIST))} == {"warning"}


def test_an_error_says_where_and_how_many_more(tmp_path: Path) -> None:
    path = tmp_path / "capital.json"
    bad = {**PAIRS, "version": "3", "arow": ":", "pairs": {"France": [], "Bolivia": "Sucre", "Peru ": ["Lima"]}}
    path.write_text(json.dumps(bad, indent=2), encoding="utf-8")
    with pytest.raises(TaskFileError) as caught:
        read_task_file(path)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).splitlines() == [
        f'{path}:5: version: expected a whole number, got "3"',
        f"{path}:11: pairs.France: empty; expected at least one entry",
        f'{path}:12: pairs.Bolivia: expected an array of texts like ["Paris"], got "Sucre"; put it in square brackets',
        f"and 2 other problems; `bench tasks check {path}` lists all",
    ]
    assert [(problem.line, problem.severity) for problem in caught.value.problems] == [
        (place, "error") for place in (5, 11, 12, 13, 17)
    ]


def test_an_error_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "my\ntask.json"
    with pytest.raises(TaskFileError) as caught:
        read_task_file(path)
    name = str(path).replace("\n", r"\u000a")
    assert str(caught.value) == f"{name}:1: cannot be read: No such file or directory; give the name of a JSON file"


def test_the_models_are_not_loaded_with_the_tasks() -> None:
    code = "import sys, tasks; print(*sorted({'pydantic', 'yaml', 'tasks.files', 'tasks.check'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# The JSON Schema.


def test_the_schema_is_current() -> None:
    """If not: `python -c "from tasks.files import *; print(schema_text(), end='')" > tasks/task.schema.json`."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_every_field_is_described() -> None:
    schema = json.loads(schema_text())
    assert schema["$id"] and schema["title"] and schema["description"]
    for definition in schema["$defs"].values():
        assert definition["description"] and definition["additionalProperties"] is False
        assert [name for name, field in definition["properties"].items() if not field.get("description")] == []


@cache
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="`pip install jsonschema` to check files against the schema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_shipped_tasks_and_examples_agree_with_the_schema() -> None:
    accepts = validator().is_valid
    assert [name for name, content in SHIPPED.items() if not accepts(content)] == []
    assert all(accepts(json.loads(example)) for example in EXAMPLES)


def accepted(content: Any) -> bool:
    try:
        parse_task(json.dumps(content))
    except TaskFileError:
        return False
    return True


def ways(value: Any, *way: str | int) -> list[tuple[str | int, ...]]:
    """The ways to all values inside a value."""
    steps = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [way, *(found for step in steps for found in ways(value[step], *way, step))]


other_values = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from(["list", "pairs", "x" * 100, "x" * 101, "x" * 501, " x", "x\n", "\x1c", "\x85", "\ud800", 10**30])
    | st.lists(st.text(max_size=3) | st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=2), max_size=3)
)
keys = st.sampled_from(["names", "members", "pairs", "arrow", "schema_version", "$schema", "x", "", "x" * 501])


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good file in which one to three values are replaced, removed or added."""
    content = copy.deepcopy(draw(st.sampled_from([PAIRS, LIST])))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([found for found in ways(content) if found]))
        inside: Any = content
        for step in way:
            inside = inside[step]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            inside[last] = draw(other_values)
        elif change == "remove":
            del inside[last]
        elif isinstance(inside, dict):
            inside[draw(keys)] = draw(other_values)
        else:
            inside.append(draw(other_values))
        if not content:
            break
    return content


@settings(deadline=None, max_examples=600)
@given(mutated())
def test_what_the_schema_refuses_is_refused(content: Any) -> None:
    if not validator().is_valid(content):
        assert not accepted(content)


@settings(deadline=None, max_examples=300)
@given(mutated())
def test_what_the_check_passes_is_read_and_nothing_else(content: Any) -> None:
    is_good = not [problem for problem in problems(json.dumps(content)) if problem.severity == "error"]
    assert accepted(content) == is_good


names = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=6)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(names, st.lists(names, min_size=1, max_size=3), min_size=2, max_size=6))
def test_every_answer_of_a_task_that_is_read_is_scored_as_right(pairs: dict[str, list[str]]) -> None:
    content = {**PAIRS, "pairs": pairs}
    if not accepted(content):
        return
    task = parse_task(json.dumps(content))
    scorer = Scorer(task)
    for index in range(len(pairs)):
        asked = question(task, index=index, n_shots=1, seed=0)
        assert asked.subject is not None
        for answer in pairs[asked.subject]:
            assert scorer.score(asked, f" {answer}\n Next").is_correct
        assert not scorer.score(asked, "").is_correct


# The page of the docs.


def test_the_page_has_an_example_of_each_kind() -> None:
    assert [json.loads(example)["kind"] for example in EXAMPLES] == ["list", "pairs"]


@pytest.mark.parametrize("example", EXAMPLES, ids=["list", "pairs"])
def test_the_examples_of_the_page_are_tasks(example: str) -> None:
    task = parse_task(example)
    assert set(json.loads(example)) == set(SHIPPED["country" if isinstance(task, ListTask) else "country-capital"])


def test_the_prompts_of_the_page() -> None:
    planets, capitals = map(parse_task, EXAMPLES)
    assert isinstance(planets, ListTask) and isinstance(capitals, PairTask)
    france, bolivia, italy = capitals.pairs
    shown = re.findall(r"^```text\n(.*?)\n```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert shown[:3] == [
        planets.demonstration("Saturn") + planets.demonstration("Mars"),
        capitals.question(italy),
        capitals.demonstration(france) + capitals.demonstration(bolivia) + capitals.question(italy),
    ]


def test_the_problem_of_the_page() -> None:
    (problem,) = (one for one in problems(EXAMPLES[1].replace('"kind": "pairs"', '"kind": "pair"')))
    assert f"capital.json:{problem}" in PAGE.splitlines()


def test_the_page_names_every_key() -> None:
    fields = {name for one in json.loads(schema_text())["$defs"].values() for name in one["properties"]}
    assert [name for name in sorted(fields) if f"`{name}`" not in PAGE] == []
