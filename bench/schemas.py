"""JSON Schemas of everything that is written as JSON, made from the types that check it.

A schema says which fields there are, of which type and in which range. What fields say of each other (shapes that must
agree, sums, ceilings that nothing passes) only the types themselves check, when `bench` reads a file.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from bench.calibration.results import CALIBRATION_SCHEMA, CaseResult, CostResult, CoverageResult
from bench.errors import UsageError
from bench.estimates import ESTIMATE_SCHEMA, EstimateRecord
from bench.fits import FIT_SCHEMA, FitRecord, LedgerEntry
from bench.performance import PERFORMANCE_SCHEMA, PerformanceRecord, Sample
from bench.probe_records import PROBE_SCHEMA_VERSION, ProbeRecord
from bench.records import SCHEMA_VERSION, EmergenceRecord, Row
from bench.sources import quoted
from bench.store import write_whole
from bench.text_records import TEXT_SCHEMA, TextRecord, TextSample
from tasks.files import schema_text as task_schema_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"

TASK = "task"
"""The one kind that people write; its schema lies with the tasks, as `tasks/task.schema.json`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: the type that checks it, its version, what it is, and where such files lie."""

    type: type[Row]
    version: int
    what: str
    files: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "emergence": Kind(EmergenceRecord, SCHEMA_VERSION, "emergence of a model on a task", "emergence/*/*.json"),
        "performance": Kind(PerformanceRecord, PERFORMANCE_SCHEMA, "accuracy over shots", "performance/*/*.json"),
        "performance-sample": Kind(Sample, PERFORMANCE_SCHEMA, "a question and its answer, one a line",
                                   "performance/*/*.samples.jsonl"),
        "fit": Kind(FitRecord, FIT_SCHEMA, "a fit with its held-out errors and verdicts", "fits/*/*.json"),
        "estimate": Kind(EstimateRecord, ESTIMATE_SCHEMA, "emergence as a fit has it", "estimates/*/*.json"),
        "ledger": Kind(LedgerEntry, FIT_SCHEMA, "predictions from before a score, one entry a line", "ledger.jsonl"),
        "probe": Kind(ProbeRecord, PROBE_SCHEMA_VERSION, "two texts through a small model", "probe/*/*.json"),
        "text": Kind(TextRecord, TEXT_SCHEMA, "a collected text: who wrote it, and how", "texts/*.json"),
        "text-sample": Kind(TextSample, TEXT_SCHEMA, "a prompt and its continuation, one a line",
                            "texts/*.samples.jsonl"),
        "calibration-case": Kind(CaseResult, CALIBRATION_SCHEMA, "an estimate of a known information",
                                 "calibration/cases/*/*.json"),
        "calibration-coverage": Kind(CoverageResult, CALIBRATION_SCHEMA, "how often intervals hold the truth",
                                     "calibration/coverage/*/*.json"),
        "calibration-cost": Kind(CostResult, CALIBRATION_SCHEMA, "what estimators cost", "calibration/cost/*.json"),
    }
)  # fmt: skip
"""By the name of the schema; files are those in a results folder."""


def schema_text(kind: str) -> str:
    """The JSON Schema of a kind of file, or of task files.

    Raises:
        UsageError: there is no such kind.
    """
    if kind == TASK:
        return task_schema_text()
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, (*KINDS, TASK), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no schema of {quoted(kind)}; {meant}there are {', '.join((*KINDS, TASK))}")
    found = KINDS[kind]
    schema = found.type.model_json_schema(schema_generator=_WithDocstrings)
    head = {
        "$schema": DIALECT,
        "$id": f"urn:emergence-bench:{kind}:{found.version}",
        "title": f"{kind} of emergence-bench",
    }
    schema.pop("title")
    return json.dumps(head | schema, ensure_ascii=False, indent=2) + "\n"


def file_name(kind: str) -> str:
    """What the file with a schema is called."""
    return f"{kind}.schema.json"


def write_schemas(folder: Path) -> list[Path]:
    """Write the schemas of all kinds of record into a folder.

    Raises:
        StorageError: one cannot be written.
    """
    paths = [folder / file_name(kind) for kind in KINDS]
    for kind, path in zip(KINDS, paths, strict=True):
        write_whole(path, schema_text(kind).encode())
    return paths


class _WithDocstrings(GenerateJsonSchema):
    """Describes a field by the docstring under it; pydantic can do that too, but reads the sources at every import."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False  # "Value Bits" says no more than value_bits

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in _docstrings(schema["cls"]).items():
            if name in made.get("properties", {}):
                made["properties"][name].setdefault("description", text)
        return made


def _docstrings(kind: type) -> dict[str, str]:
    """The strings under the fields of a class and of those it inherits from."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if issubclass(owner, Row):
            found |= _of_module(owner.__module__)[owner.__name__]
    return found


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """By class and field; the words of Python are those of JSON."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {
        owner.name: {
            field.target.id: " ".join(re.sub(r"\bNone\b", "null", str(below.value.value)).split())
            for field, below in zip(owner.body, owner.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        }
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
    }
