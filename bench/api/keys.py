"""What an answer depends on: questions that differ in any of it never share an answer."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field

from bench.completions import Mode
from bench.records import Name, Row

KEY_VERSION: Literal[1] = 1
"""Raised when the same question would be asked in another way than before."""


class ReplyKey(Row):
    """Everything that changes an answer."""

    key_version: Literal[1] = KEY_VERSION
    provider: Literal["local", "api"]
    base_url: Name | None
    """As `checked_base_url` returns it; None for a local model."""
    model: Name
    """As it was asked for."""
    revision: Name | None
    files_sha256: Name | None
    precision: Name | None
    """Of the stored weights, quantisation included."""
    dtype: Name | None
    mode: Mode
    prompt: str
    max_tokens: Annotated[int, Field(ge=1)]
    stop: tuple[str, ...]
    temperature: Literal[0] | Annotated[float, Field(gt=0, le=100)] | None = 0
    """None where none is sent: some models take none, and their answers may differ from time to time."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """None where nothing is drawn; left out of the text then."""
    token_limit_parameter: Literal["max_completion_tokens"] | None = None
    """What the limit on an answer is called, where not max_tokens. Left out of the text where it is None."""
    task: Name
    task_version: int
    task_hash: Name
    seed: int
    """Draws the questions of a task, or the tokens of an answer."""

    def canonical(self) -> str:
        """The content as text; equal content has equal text in every process."""
        content = self.model_dump(mode="json")
        for later in ("token_limit_parameter", "top_p"):  # these came later, and older answers stay known
            if content[later] is None:
                del content[later]
        return json.dumps(content, sort_keys=True)

    def digest(self) -> str:
        """SHA-256 of the text (64 hex digits)."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
