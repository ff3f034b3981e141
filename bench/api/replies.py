"""What a server answered with status 200, checked strictly: a reply that is wrong in shape is no reply."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from bench.completions import Mode, Reply
from bench.escape import printable
from bench.records import first_fault

MAX_REPLY_BYTES = 8 << 20
"""No answer of a few hundred tokens comes near it."""

MAX_TOKENS_REPORTED = 10**9
"""A server that reports more than that for one answer reports nonsense."""


MAX_TEXT_CHARACTERS = 1_000_000
"""No answer of a few thousand tokens comes near it."""

MAX_LABEL_CHARACTERS = 300
"""Of the name of a model and of a reason to finish; the rest is cut off."""

MAX_INDEX = 1000
"""Of a choice, and how many there may be; one is asked for."""

_NO_TEXT = {
    "length": (
        "all tokens were used up before the answer began; a model that thinks before it answers needs a higher "
        "--max-tokens"
    ),
    "content_filter": "the content filter of the server kept the answer back",
    "tool_calls": "the model called a tool instead of answering; ask another model",
}
"""Why a sound reply holds no text, by its reason to finish."""

_REFUSED = "the model, or the content filter of the server, refused to answer"


class InvalidReply(Exception):
    """The body is not an answer; the message says why.

    Attributes:
        n_prompt_tokens: what the server reports all the same; None where it does not.
        n_completion_tokens: the same of the answer.
    """

    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None


class NoText(InvalidReply):
    """The body is well formed, but the model was kept from answering."""


class _Lenient(BaseModel):
    """Extra fields are ignored, the known ones never converted."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Message(_Lenient):
    content: str


class _Choice(_Lenient):
    index: Annotated[int, Field(ge=0, le=MAX_INDEX)] = 0
    finish_reason: str | None = None


class _CompletionChoice(_Choice):
    text: str


class _ChatChoice(_Choice):
    message: _Message


AnyChoice = TypeVar("AnyChoice", bound=_Choice)


class _Answer(_Lenient, Generic[AnyChoice]):
    choices: Annotated[tuple[AnyChoice, ...], Field(min_length=1, max_length=MAX_INDEX), FailFast()]
    model: str | None = None


class _MessageWithoutText(_Lenient):
    content: str | None = None
    refusal: object = None


class _ChoiceWithoutText(_Choice):
    text: str | None = None
    message: _MessageWithoutText | None = None

    def why(self, mode: Mode) -> str | None:
        """Why there is no text, if this is a sound choice without; None if there is, or no reason for it."""
        message = self.message or _MessageWithoutText()
        text = message.content if mode == "chat" else self.text
        is_refused = isinstance(message.refusal, str) and message.refusal != ""
        kept_back = (
            ("content_filter", "length") if mode == "chat" else ("content_filter",)
        )  # thinking may use it all up
        if text or (text == "" and self.finish_reason not in kept_back and not is_refused):
            return None
        return _NO_TEXT.get(self.finish_reason or "") or (_REFUSED if is_refused else None)


class _AnswerWithoutText(_Lenient):
    choices: Annotated[tuple[_ChoiceWithoutText, ...], Field(min_length=1, max_length=MAX_INDEX), FailFast()]


class _Envelope(_Lenient):
    usage: object = None


class _Usage(_Lenient):
    prompt_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_REPORTED)] | None = None
    completion_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_REPORTED)] | None = None


def parsed(body: bytes, mode: Mode, redact: Callable[[str], str] | None = None) -> Reply:
    """The reply in a body.

    Args:
        redact: applied to every text before it is cut.

    Raises:
        NoText: it is sound, but the model was kept from answering.
        InvalidReply: it is not JSON, has no choices, no text, too much of it, or something of the wrong type.
    """
    if not body.strip():
        raise InvalidReply("an empty body")
    used = _usage(body)
    try:
        return _reply(body, mode, used, redact or str)
    except InvalidReply as error:
        error.n_prompt_tokens, error.n_completion_tokens = used.prompt_tokens, used.completion_tokens
        raise


def _usage(body: bytes) -> _Usage:
    """Missing or nonsense: the answer stands, its cost is not known."""
    with contextlib.suppress(ValidationError):
        return _Usage.model_validate(_Envelope.model_validate_json(body).usage)
    return _Usage()


def _reply(body: bytes, mode: Mode, used: _Usage, redact: Callable[[str], str]) -> Reply:
    if why := _why_no_text(body, mode):
        raise NoText(why)
    try:
        if mode == "chat":
            answer = _Answer[_ChatChoice].model_validate_json(body)
            choice = _first(answer.choices)
            text, finish_reason, model = choice.message.content, choice.finish_reason, answer.model
        else:
            completion = _Answer[_CompletionChoice].model_validate_json(body)
            chosen = _first(completion.choices)
            text, finish_reason, model = chosen.text, chosen.finish_reason, completion.model
    except ValidationError as error:
        raise InvalidReply(first_fault(error, "the body")) from None
    text = redact(text)
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidReply(f"a text of {len(text)} characters, which no answer has")
    return Reply(
        text=text,
        finish_reason=label(finish_reason, redact),
        n_prompt_tokens=used.prompt_tokens,
        n_completion_tokens=used.completion_tokens,
        returned_model=label(model, redact),
    )


def _why_no_text(body: bytes, mode: Mode) -> str | None:
    try:
        return _first(_AnswerWithoutText.model_validate_json(body).choices).why(mode)
    except (ValidationError, InvalidReply):
        return None


def _first(choices: tuple[AnyChoice, ...]) -> AnyChoice:
    for choice in choices:
        if choice.index == 0:
            return choice
    raise InvalidReply(f"choices: none has index 0, got {sorted(choice.index for choice in choices)[:10]}")


def label(text: str | None, redact: Callable[[str], str]) -> str | None:
    """The name of a model or a reason to finish, as it is kept: redacted, on one line, cut; None where it is empty."""
    return None if text is None else printable(printable(redact(text))[:MAX_LABEL_CHARACTERS]) or None
