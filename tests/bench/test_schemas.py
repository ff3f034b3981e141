"""The published JSON Schemas: current, true of what is committed, and no friend of anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import tasks.files
from bench.errors import UsageError
from bench.estimates import EstimateRecord
from bench.records import EmergenceRecord
from bench.schemas import DIALECT, KINDS, TASK, file_name, schema_text, write_schemas
from tests.estimate_factory import make_estimate
from tests.record_factory import make_record

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "schemas"
SMALLEST = 4
"""Files of a kind that are looked into: the smallest of each folder, so that it takes seconds."""


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema_text(kind)))


@cache
def committed(kind: str) -> tuple[Any, ...]:
    """Contents of some files of a kind."""
    paths = sorted(ROOT.joinpath("results").glob(KINDS[kind].files), key=lambda path: (path.stat().st_size, path))
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    chosen = [path for folder in sorted(by_folder) for path in by_folder[folder][:1]][: 2 * SMALLEST] + paths[:SMALLEST]
    if KINDS[kind].files.endswith(".jsonl"):
        texts = [line for path in chosen for line in path.read_text(encoding="utf-8").split("\n")[:10] if line]
    else:
        texts = [path.read_text(encoding="utf-8") for path in dict.fromkeys(chosen)]
    if KINDS[kind].type is EstimateRecord:
        texts.append(make_estimate().model_dump_json())
    return tuple(map(json.loads, texts))


def places(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every object in a document by its path, the first element of each array only."""
    if isinstance(content, dict):
        yield path
        for name, value in content.items():
            yield from places(value, (*path, name))
    elif isinstance(content, list) and content:
        yield from places(content[0], (*path, 0))


def at(content: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        content = content[step]
    return content


def mutants(content: Any) -> Iterator[tuple[str, Any]]:
    """The document with one thing wrong, each in turn: a field too many, too few, of another type, out of its range.

    Of objects with the same fields only the first is changed. A mutant is the document itself until the next one.
    """
    seen = set()
    for path in list(places(content)):
        place = at(content, path)
        if frozenset(place) in seen:
            continue
        seen.add(frozenset(place))
        place["no such field"] = 1
        yield f"a field more in {path}", content
        del place["no such field"]
        for name, value in list(place.items()):
            for wrong in ([{}], {"a": [1]}, -1_000_000_000.5, "\ud7ff" * 1001):
                place[name] = wrong
                yield f"{name} in {path} as {str(wrong)[:9]}", content
            del place[name]
            yield f"no {name} in {path}", content
            place[name] = value


def faults(kind: str, content: Any) -> set[str]:
    """What the type finds wrong; "value_error" is what fields say of each other."""
    try:
        KINDS[kind].type.model_validate_json(json.dumps(content))
    except ValidationError as error:
        return {fault["type"] for fault in error.errors()}
    return set()


@pytest.mark.parametrize("kind", KINDS)
def test_the_committed_schema_is_current(kind: str) -> None:
    """If not: `bench schema --out docs/schemas`."""
    assert (FOLDER / file_name(kind)).read_text(encoding="utf-8") == schema_text(kind)


def test_the_folder_holds_the_schemas_and_nothing_else(tmp_path: Path) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(map(file_name, KINDS))
    for path in write_schemas(tmp_path / "new"):
        assert path.read_bytes() == (FOLDER / path.name).read_bytes()


@pytest.mark.parametrize("kind", [*KINDS, TASK])
def test_a_schema_is_one_and_says_what_it_is_of(kind: str) -> None:
    schema = json.loads(schema_text(kind))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT and schema["title"] and schema["description"]
    assert schema["$id"].startswith("urn:emergence-bench:")


def test_every_schema_has_an_id_of_its_own_with_its_version() -> None:
    ids = [json.loads(schema_text(kind))["$id"] for kind in (*KINDS, TASK)]
    assert len(set(ids)) == len(ids)
    for kind, entry in KINDS.items():
        assert f"urn:emergence-bench:{kind}:{entry.version}" in ids
        version = json.loads(schema_text(kind))["properties"].get("schema_version")
        assert version is None or version["const"] == entry.version


def test_fields_are_described_by_the_words_under_them_and_none_is_called_null_in_python() -> None:
    emergence = json.loads(schema_text("emergence"))
    assert emergence["description"].startswith("One (model, task, preset, estimator, seed)")
    assert emergence["properties"]["n_pool"]["description"] == "Names in the task's pool."
    keys = emergence["$defs"]["RecordKey"]["properties"]
    assert keys["files_sha256"]["description"] == "Of configuration, tokenizer and weights."
    sample = json.loads(schema_text("performance-sample"))["properties"]
    assert sample["reply"]["description"] == "null where the question failed, or was not asked yet."
    assert not any("description" in sample[name] for name in ("task", "seed"))


def test_the_schema_of_tasks_is_the_one_of_the_tasks() -> None:
    assert schema_text(TASK) == tasks.files.schema_text()
    assert schema_text(TASK) == (ROOT / "tasks" / "task.schema.json").read_text(encoding="utf-8")
    assert not (FOLDER / file_name(TASK)).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_committed_files_agree_with_their_schema(kind: str) -> None:
    contents = committed(kind)
    assert contents
    for content in contents:
        assert [error.message for error in validator(kind).iter_errors(content)][:3] == []
        assert faults(kind, content) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_kind_is_of_no_other(kind: str) -> None:
    for other in KINDS:
        if other != kind:
            assert not validator(other).is_valid(committed(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_rejects_exactly_what_the_type_finds_wrong_with_single_fields(kind: str) -> None:
    content = min(committed(kind), key=lambda content: len(json.dumps(content)))
    if KINDS[kind].type is EmergenceRecord:  # a committed one has a thousand times the numbers
        content = json.loads(make_record().model_dump_json())
    n_all, n_rejected, found = 0, 0, set[str]()
    for what, mutant in mutants(content):
        wrong = faults(kind, mutant) - {"value_error"}
        assert validator(kind).is_valid(mutant) == (not wrong), (what, wrong)
        n_all, n_rejected, found = n_all + 1, n_rejected + bool(wrong), found | wrong
    assert n_all > 20 and n_rejected > 0.75 * n_all
    assert found >= {"extra_forbidden", "missing", "string_type"}


def test_an_unknown_kind_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no schema of 'performence'; did you mean performance"):
        schema_text("performence")
    with pytest.raises(UsageError, match=r"no schema of '\\x1b\[31m'; there are emergence, "):
        schema_text("\x1b[31m")
