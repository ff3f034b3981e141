"""Performance records: cells count what happened, and nothing inconsistent can be written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench.intervals import wilson
from bench.performance import Cell, FailedReply, PerformanceKey, PerformanceRecord, Sample, as_lines, cell
from tasks.queries import Scorer, question
from tests.bench.tiny_models import load_list, load_pairs
from tests.performance_factory import make_performance, performance_key


def samples(task_name: str, replies: list[str | None], n_shots: int = 2) -> tuple[Any, list[Any], list[Sample]]:
    task = load_pairs(task_name) if task_name == "antonym" else load_list(task_name)
    scorer = Scorer(task)
    asked = [question(task, index=index, n_shots=n_shots, seed=0) for index in range(len(replies))]
    found = []
    for one, reply in zip(asked, replies, strict=True):
        failure = FailedReply(kind="timeout", message="no answer", n_attempts=3) if reply is None else None
        sample = Sample(
            task=task_name, n_shots=n_shots, index=one.index, prompt=one.prompt, reply=reply, failure=failure
        )
        if reply is not None:
            score = scorer.score(one, reply)
            sample = sample.model_copy(
                update={"answer": score.answer, "is_correct": score.is_correct, "is_repeat": score.is_repeat}
            )
        found.append(sample)
    return task, asked, found


def test_a_failed_question_is_neither_right_nor_wrong() -> None:
    task = load_pairs("antonym")
    right = [
        next(pair.answers[0] for pair in task.pairs if pair.query == question(task, index=i, n_shots=2, seed=0).subject)
        for i in range(3)
    ]
    found = cell(*samples("antonym", [*right, "nonsense", None, None]))
    assert (found.n_questions, found.n_answered, found.n_failed, found.n_correct) == (6, 4, 2, 3)
    assert found.accuracy == 0.75
    assert (found.low, found.high) == pytest.approx(wilson(3, 4), abs=1e-6)
    assert found.failures == {"timeout": 2}
    assert found.n_repeats is None


def test_a_cell_without_any_answer_has_no_accuracy() -> None:
    found = cell(*samples("antonym", [None, None]))
    assert (found.accuracy, found.low, found.high) == (None, None, None)


def test_repeats_of_a_list_are_counted_apart() -> None:
    task = load_list("country")
    one, two = (question(task, index=index, n_shots=2, seed=0) for index in (0, 1))
    found = cell(*samples("country", [one.shown[0], "table", two.shown[1]][:2] + [None]))
    assert (found.n_repeats, found.n_correct, found.n_answered, found.chance) == (1, 0, 2, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_failed": 1}, "must add up"),
        ({"n_correct": 11}, "more answers of one kind than answers"),
        ({"accuracy": 0.9}, "accuracy must be n_correct / n_answered"),
        ({"accuracy": None}, "accuracy must be n_correct / n_answered"),
        ({"low": None}, "an accuracy has an interval"),
        ({"failures": {"timeout": 1}}, "must add up"),
        ({"accuracy": 1.5}, "less than or equal to 1"),
        ({"accuracy": float("nan")}, "finite"),
    ],
)
def test_inconsistent_cells_are_refused(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "n_shots": 1, "n_questions": 10, "n_answered": 10, "n_failed": 0, "n_correct": 5, "n_repeats": None,
        "n_cut_off": 0, "accuracy": 0.5, "low": 0.2, "high": 0.8, "chance": 0.1, "failures": {},
    }  # fmt: skip
    Cell(**good)
    with pytest.raises(ValidationError, match=message):
        Cell(**(good | changes))


def test_a_record_has_a_cell_for_each_number_of_shots() -> None:
    record = make_performance()
    with pytest.raises(ValidationError, match="expected a cell for each of 1, 4 shots"):
        PerformanceRecord(**(dict(record) | {"cells": record.cells[:1]}))


def test_records_survive_being_written_and_read() -> None:
    record = make_performance()
    assert PerformanceRecord.model_validate_json(record.model_dump_json()) == record


def test_keys_differ_where_anything_that_changes_a_performance_does() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"provider": "replay"}, {"model": "other"}, {"base_url": "https://x.example/v1"}, {"revision": "abc"},
        {"files_sha256": "f" * 64}, {"dtype": "bfloat16"}, {"mode": "chat"}, {"task": "colour"}, {"task_version": 2},
        {"task_hash": "g" * 64}, {"shots": (1, 2)}, {"n_questions": 5}, {"max_tokens": 5}, {"temperature": None},
        {"token_limit_parameter": "max_completion_tokens"},
        {"seed": 1}, {"scoring_version": 2}, {"schema_version": 2},
    ]  # fmt: skip
    assert set(PerformanceKey.model_fields) == {name for change in changes for name in change}
    assert len({performance_key(**change).digest() for change in changes}) == len(changes)


def test_samples_are_one_line_each_whatever_a_reply_holds() -> None:
    nasty = "a\nb\r\u2028\u0085\x1b[31m\"'\\"
    sample = Sample(task="country", n_shots=1, index=0, prompt="p\n", reply=nasty)
    (line,) = as_lines([sample]).split(b"\n")[:-1]
    assert Sample.model_validate_json(line).reply == nasty
