"""What a server answered with status 200, checked strictly: a reply that is wrong in shape is no reply."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.completions import Mode, Reply

MAX_REPLY_BYTES = 8 << 20
"""No answer of a few hundred tokens comes near it."""

MAX_TOKENS_REPORTED = 10**9
"""A server that reports more than that for one answer reports nonsense."""


class InvalidReply(Exception):
    """The body is not an answer; the message says why."""


class _Lenient(BaseModel):
    """Extra fields are ignored, the known ones never converted."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Message(_Lenient):
    content: str


class _Choice(_Lenient):
    index: int = 0
    finish_reason: str | None = None


class _CompletionChoice(_Choice):
    text: str


class _ChatChoice(_Choice):
    message: _Message


AnyChoice = TypeVar("AnyChoice", _CompletionChoice, _ChatChoice)


class _Answer(_Lenient, Generic[AnyChoice]):
    choices: Annotated[tuple[AnyChoice, ...], Field(min_length=1)]
    model: str | None = None
    usage: object = None


class _Usage(_Lenient):
    prompt_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_REPORTED)] | None = None
    completion_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_REPORTED)] | None = None


def parsed(body: bytes, mode: Mode) -> Reply:
    """The reply in a body.

    Raises:
        InvalidReply: it is not JSON, has no choices, no text, or something of the wrong type.
    """
    if not body.strip():
        raise InvalidReply("an empty body")
    try:
        if mode == "chat":
            answer = _Answer[_ChatChoice].model_validate_json(body)
            choice = _first(answer.choices)
            text = choice.message.content
            return _reply(text, choice, answer.model, answer.usage)
        completion = _Answer[_CompletionChoice].model_validate_json(body)
        chosen = _first(completion.choices)
        return _reply(chosen.text, chosen, completion.model, completion.usage)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise InvalidReply(f"{field}: {first['msg']}") from None


def _first(choices: tuple[AnyChoice, ...]) -> AnyChoice:
    for choice in choices:
        if choice.index == 0:
            return choice
    raise InvalidReply(f"choices: none has index 0, got {sorted(choice.index for choice in choices)[:10]}")


def _reply(text: str, choice: _Choice, model: str | None, usage: object) -> Reply:
    try:
        used = _Usage.model_validate(usage)
    except ValidationError:  # missing or nonsense: the answer stands, its cost is not known
        used = _Usage()
    return Reply(
        text=text,
        finish_reason=choice.finish_reason,
        n_prompt_tokens=used.prompt_tokens,
        n_completion_tokens=used.completion_tokens,
        returned_model=model,
    )
