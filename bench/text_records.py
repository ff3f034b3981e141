"""Collected text on disk: which model wrote it, after which prompts, and how its tokens were drawn.

No torch and no network.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.completions import Mode
from bench.performance import FailedReply, Text
from bench.records import Count, ModelInfo, Name, Positive, Provenance, Row

TEXT_SCHEMA: Literal[1] = 1
"""Raised when the shape of a text record or of its samples changes."""

MAX_TEMPERATURE = 10.0
"""At which every model draws nearly at random; services take 2 at most."""

Temperature = Literal[0] | Annotated[float, Field(gt=0, le=MAX_TEMPERATURE)]


class TextKey(Row):
    """Everything that changes a text; a record answers for its key and nothing else."""

    schema_version: int
    provider: Literal["local", "api"]
    model: Name
    """As it was asked for; which model a server says has answered is in the samples."""
    base_url: Name | None
    revision: Name | None
    files_sha256: Name | None
    """Of configuration, tokenizer and weights, where the model is here."""
    dtype: Name | None
    mode: Mode
    prompts_sha256: Name
    """Of the prompts in their order, as a JSON list."""
    n_prompts: Positive
    with_prompts: bool
    """Whether every paragraph begins with its prompt."""
    first_sentence: bool
    """Whether of every answer only the end of the sentence is kept that its prompt began."""
    max_tokens: Positive
    """Of an answer."""
    temperature: Temperature | None
    """0: greedily; None where none was sent."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    """None where nothing was drawn, or no temperature was sent."""
    token_limit_parameter: Literal["max_completion_tokens"] | None
    """What the limit on an answer was called, where not max_tokens."""
    seed: Count | None
    """Of the drawing; None where nothing was drawn."""


class TextSample(Row):
    """One prompt with what came of it: a line of the samples file. Neither reply nor failure: it was not asked yet."""

    prompt: Text
    reply: Text | None = None
    """As it came, the sentence included that the text leaves out."""
    finish_reason: Name | None = None
    returned_model: Name | None = None
    n_prompt_tokens: Count | None = None
    n_completion_tokens: Count | None = None
    failure: FailedReply | None = None

    @model_validator(mode="after")
    def _answered_or_failed(self) -> Self:
        if self.reply is not None and self.failure is not None:
            raise ValueError("a prompt has a reply or a failure, not both")
        return self


class TextRecord(Row):
    """One model's text. The text and its samples lie beside it."""

    kind: Literal["text"] = "text"
    schema_version: Literal[1]
    key: TextKey
    model: ModelInfo | None
    """Which weights answered, where the model is here."""
    returned_models: tuple[Name, ...]
    """Which models a server says have answered."""
    text_sha256: Name
    """Of the text file."""
    samples_sha256: Name
    """Of the samples file."""
    n_answered: Count
    n_failed: Count
    n_not_asked: Count
    """Prompts that were not reached, because the run ended before."""
    n_cut_off: Count
    """Answers that ended because no more tokens were allowed: their last sentence, if incomplete, is left out."""
    n_paragraphs: Count
    """Answers of which anything is left."""
    n_words: Count
    """Of the text, parted by blanks."""
    n_sentences: Count
    n_prompt_tokens: Count | None
    """None where a reply did not say."""
    n_completion_tokens: Count | None
    licence: Name
    """Of the text, as whoever collected it says; "unknown" where nobody did."""
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_answered + self.n_failed + self.n_not_asked != self.key.n_prompts:
            raise ValueError("prompts that were answered, failed and not asked must add up to all")
        if max(self.n_cut_off, self.n_paragraphs) > self.n_answered:
            raise ValueError("more answers of one kind than answers")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether every prompt has an answer."""
        return self.n_answered == self.key.n_prompts
