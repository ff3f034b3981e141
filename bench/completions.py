"""What every way of asking a model for text takes and gives back: no torch and no network in here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Mode = Literal["completion", "chat"]
"""completion: the model continues the prompt. chat: the prompt is one message of a user, which the model answers."""

MODES: tuple[Mode, ...] = ("completion", "chat")

FailureKind = Literal[
    "authentication",  # 401, 403
    "not found",  # 404: no such model or no such path
    "bad request",  # 400, 413, 422 and the like: this question, asked again, fails again
    "quota",  # out of credit; waiting does not help
    "rate limit",  # 429 until the attempts were used up
    "server error",  # 5xx
    "connection",  # refused, reset, broken off
    "timeout",  # not answered in full within the deadline
    "redirect",  # never followed: a key is sent to the address it was meant for only
    "invalid reply",  # not JSON, no choices, no text, the wrong types, too large
    "no text",  # a sound reply that ends without an answer: tokens used up by thinking, content filter, refusal, tool
    "missing",  # samples of another program that hold neither a reply nor a reason
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the tokens of an answer are drawn.

    Attributes:
        temperature: above 0; what the logits are divided by.
        top_p: only the most probable tokens that together have this probability are drawn from; 1 is all of them.
        seed: an answer here depends on nothing but this, the prompt and the model; a service may not keep to it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question, for one answer.

    Attributes:
        max_tokens: tokens that are generated at most.
        stop: generation ends where one of these would come; an answer may still hold it, not every server cuts it off.
        sampling: None: greedily, the most probable token each time (temperature 0).
    """

    prompt: str
    mode: Mode
    max_tokens: int
    stop: tuple[str, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model answered; None where a server did not say.

    Attributes:
        finish_reason: "stop", "length" or whatever else a server says.
        returned_model: the model that a server says has answered, which may not be the one that was asked.
    """

    text: str
    finish_reason: str | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None
    returned_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question that has no answer, and why: never a wrong answer."""

    kind: FailureKind
    message: str
    n_attempts: int


class Completer(Protocol):
    """A model that can be asked."""

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
        """Ask all; yields (index of the request, what came of it) as they come, one for every request.

        Raises:
            BenchError: nothing can be asked, or going on makes no sense; what was yielded before stands.
        """
        ...


def total_tokens(counts: Sequence[int | None]) -> int | None:
    """The sum of what replies report; None where one of them does not say."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
