"""Performance on disk: what was asked, what came back, and how much of it was right. No torch and no network."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.completions import FailureKind, Mode
from bench.intervals import wilson
from bench.records import Count, ModelInfo, Name, Positive, Provenance, Row
from tasks.queries import Question, Scorer
from tasks.task import ListTask, PairTask

PERFORMANCE_SCHEMA: Literal[1] = 1
"""Raised when the shape of a performance record or of a sample changes."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1_000_000)]


class PerformanceKey(Row):
    """Everything that changes a performance; a record answers for its key and nothing else."""

    schema_version: int
    scoring_version: int
    provider: Literal["local", "api", "replay"]
    model: Name
    """As it was asked for; which model a server says has answered is in the record."""
    base_url: Name | None
    revision: Name | None
    files_sha256: Name | None
    """Of configuration, tokenizer and weights, where the model is here."""
    dtype: Name | None
    mode: Mode
    task: Name
    task_version: int
    task_hash: Name
    shots: Annotated[tuple[Count, ...], Field(min_length=1)]
    n_questions: Positive
    """Asked for at each number of shots; a task may have fewer different prompts."""
    max_tokens: Positive | None
    """Of an answer; None where another program asked."""
    temperature: Literal[0] | None
    """None where none was sent, or another program asked."""
    token_limit_parameter: Literal["max_completion_tokens"] | None
    """What the limit on an answer was called, where not max_tokens."""
    seed: Count


class FailedReply(Row):
    """Why a question has no answer."""

    kind: FailureKind
    message: Text
    n_attempts: Count


class Sample(Row):
    """One question with what came of it: a line of the samples file.

    Of a line that is to be replayed, `task`, `n_shots`, `index`, `prompt` and `reply` are enough.
    """

    model: Name | None = None
    mode: Mode = "completion"
    task: Name
    task_hash: Name | None = None
    seed: Count = 0
    n_shots: Count
    index: Count
    prompt: Text
    """What was sent, the instruction for chat models included."""
    reply: Text | None = None
    """None where the question failed, or was not asked yet."""
    finish_reason: Name | None = None
    returned_model: Name | None = None
    n_prompt_tokens: Count | None = None
    n_completion_tokens: Count | None = None
    failure: FailedReply | None = None
    answer: Text | None = None
    """The first answer of the reply, normalised."""
    is_correct: bool | None = None
    is_repeat: bool | None = None

    @model_validator(mode="after")
    def _answered_or_failed(self) -> Self:
        if self.reply is not None and self.failure is not None:
            raise ValueError("a question has a reply or a failure, not both")
        return self


class Cell(Row):
    """Accuracy at one number of shots. A failed question is neither right nor wrong."""

    n_shots: Count
    n_questions: Positive
    n_answered: Count
    n_failed: Count
    n_correct: Count
    n_repeats: Count | None
    """Of a list: answers that were in the prompt already, the hallucination signal of arXiv 2405.12617."""
    n_cut_off: Count
    """Answers that ended because no more tokens were allowed."""
    accuracy: Share | None
    low: Share | None
    """Wilson's 95 % interval of the accuracy."""
    high: Share | None
    chance: Share
    """The accuracy of guessing: pairs, always the one answer that is right most often; lists, 0."""
    failures: dict[str, Positive]
    """Failed questions by kind."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_answered + self.n_failed != self.n_questions or sum(self.failures.values()) != self.n_failed:
            raise ValueError("answered and failed questions must add up to all")
        if max(self.n_correct, self.n_repeats or 0, self.n_cut_off) > self.n_answered:
            raise ValueError("more answers of one kind than answers")
        expected = None if self.n_answered == 0 else self.n_correct / self.n_answered
        if (self.accuracy is None) != (expected is None) or abs((self.accuracy or 0) - (expected or 0)) > 1e-6:
            raise ValueError(f"accuracy must be n_correct / n_answered = {expected}")
        if (self.low is None or self.high is None) != (expected is None):
            raise ValueError("an accuracy has an interval, and nothing else has one")
        return self


class PerformanceRecord(Row):
    """One model on one task: accuracy over shots. Its samples lie beside it."""

    kind: Literal["performance"] = "performance"
    schema_version: Literal[1]
    key: PerformanceKey
    model: ModelInfo | None
    """Which weights answered, where the model is here."""
    returned_models: tuple[Name, ...]
    """Which models a server says have answered."""
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]
    n_prompt_tokens: Count | None
    """None where a reply did not say."""
    n_completion_tokens: Count | None
    samples_sha256: Name
    """Of the samples file."""
    provenance: Provenance

    @model_validator(mode="after")
    def _one_cell_a_number_of_shots(self) -> Self:
        if tuple(cell.n_shots for cell in self.cells) != self.key.shots:
            raise ValueError(f"expected a cell for each of {', '.join(map(str, self.key.shots))} shots, in order")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether every question has an answer."""
        return all(cell.n_failed == 0 for cell in self.cells)


def cell(task: ListTask | PairTask, asked: Sequence[Question], samples: Sequence[Sample]) -> Cell:
    """The cell of one number of shots from its questions and their scored samples."""
    answered = [sample for sample in samples if sample.reply is not None]
    n_correct = sum(sample.is_correct is True for sample in answered)
    low, high = wilson(n_correct, len(answered)) if answered else (None, None)
    return Cell(
        n_shots=asked[0].n_shots,
        n_questions=len(asked),
        n_answered=len(answered),
        n_failed=len(samples) - len(answered),
        n_correct=n_correct,
        n_repeats=sum(sample.is_repeat is True for sample in answered) if isinstance(task, ListTask) else None,
        n_cut_off=sum(sample.finish_reason == "length" for sample in answered),
        accuracy=_share(n_correct / len(answered)) if answered else None,
        low=_share(low),
        high=_share(high),
        chance=round(Scorer(task).chance(asked), 6),
        failures=dict(sorted(Counter(sample.failure.kind for sample in samples if sample.failure).items())),
    )


def as_lines(samples: Sequence[Sample]) -> bytes:
    """Samples as a file of one JSON object a line."""
    return b"".join(sample.model_dump_json(exclude_none=True).encode() + b"\n" for sample in samples)


def sha256(content: bytes) -> str:
    """Hex sha256 of the bytes."""
    return hashlib.sha256(content).hexdigest()


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
