"""Which failures are tried again, how often, and after how long."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bench.completions import FailureKind
from bench.errors import UsageError
from bench.escape import printable

MAX_EXCERPT = 300
"""Characters of a server's words that a message keeps."""

MAX_MESSAGE = 400
"""Characters of the message of a failure."""

_RETRYABLE_STATUSES: dict[int, FailureKind] = {
    408: "timeout",
    409: "server error",  # a lock that was not free in time; the official client tries it again too
    425: "server error",
    429: "rate limit",
}
_FINAL_STATUSES: dict[int, FailureKind] = {
    401: "authentication",
    402: "quota",
    403: "authentication",
    404: "not found",
    407: "authentication",
}
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "quota_exceeded",
        "insufficient_credits",
        "insufficient_balance",
    }
)
_OUT_OF_QUOTA = "exceeded your current quota"
"""What OpenAI says of an account without credit, and Gemini of a rate limit, with the time to wait."""

_DELAY = re.compile(r"try (?:again )?(?:in|after) (?:(\d{1,6})m)?(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|sec|seconds?)\b", re.I)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How hard a server is asked.

    Attributes:
        max_attempts: times that one question is sent at most.
        attempt_seconds: from the sending of a request to the last byte of its answer.
        total_seconds: from the first sending of a question to the end of its last attempt, waiting included.
        max_concurrency: questions under way at a time.
        rate_per_second: requests sent a second at most; None: as many as the server takes.
        backoff_seconds: the first wait before another attempt is at most this long, each next one up to twice as long.
        max_backoff_seconds: no wait that the server did not ask for is longer.
    """

    max_attempts: int = 6
    attempt_seconds: float = 60.0
    total_seconds: float = 180.0
    max_concurrency: int = 8
    rate_per_second: float | None = None
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Raises UsageError: a limit with which nothing could be asked."""
        for name, count in (("max_attempts", self.max_attempts), ("max_concurrency", self.max_concurrency)):
            if not 1 <= count <= 1000:
                raise UsageError(f"{name} must be from 1 to 1000, got {count}")
        for name, number in (
            ("attempt_seconds", self.attempt_seconds),
            ("total_seconds", self.total_seconds),
            ("rate_per_second", self.rate_per_second),
        ):
            if number is not None and not 0 < number < math.inf:
                raise UsageError(f"{name} must be a number above 0, got {number}")
        if not 0 <= self.backoff_seconds <= self.max_backoff_seconds < math.inf:
            raise UsageError("backoff_seconds must be at least 0 and at most max_backoff_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What went wrong with one attempt.

    Attributes:
        retry_after_seconds: how long the server asked to wait; None where it did not.
        may_be_billed: whether the server may have done the work all the same.
        n_prompt_tokens: what the server reports to have used; None where it does not say.
        n_completion_tokens: the same of the answer.
    """

    kind: FailureKind
    message: str
    is_retryable: bool
    may_be_billed: bool
    retry_after_seconds: float | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None


def fault_of_status(status: int, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None) -> Fault:
    """The fault that an answer with a status other than 2xx is.

    Args:
        headers: names in lower case, or a mapping that ignores case.
    """
    code, words, said_seconds = _said(body)
    asked_seconds = retry_after_seconds(headers, now=now)
    if asked_seconds is None:
        asked_seconds = said_seconds
    if 300 <= status < 400:
        location = printable(headers.get("location", "nowhere"))[:MAX_EXCERPT]
        return Fault(
            kind="redirect",
            message=f"status {status}: the server redirects to {location}; redirects are not followed",
            is_retryable=False,
            may_be_billed=False,
        )
    kind: FailureKind
    is_retryable = False
    is_out_of_quota = _is_of_quota(code) or (_OUT_OF_QUOTA in words.lower() and asked_seconds is None)
    if 400 <= status < 500 and is_out_of_quota:
        kind = "quota"
    elif status in _RETRYABLE_STATUSES:
        kind, is_retryable = _RETRYABLE_STATUSES[status], True
    elif status in _FINAL_STATUSES:
        kind = _FINAL_STATUSES[status]
    elif status >= 500:
        kind, is_retryable = "server error", True
    else:
        kind = "bad request"
    return Fault(
        kind=kind,
        message=f"status {status}: {excerpt(words) or 'no message'}",
        is_retryable=is_retryable,
        may_be_billed=False,
        retry_after_seconds=asked_seconds if is_retryable else None,
    )


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """How long the server asks to wait: `retry-after-ms`, else `retry-after` in seconds or as a date; else None.

    What is not a number of seconds that a clock can wait counts as not said; a date that has passed is 0.
    """
    with_unit = (("retry-after-ms", 0.001), ("retry-after", 1.0))
    for name, unit in with_unit:
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        if 0 <= seconds < math.inf:
            return seconds
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def backoff_seconds(n_failed: int, limits: Limits, rng: random.Random) -> float:
    """How long to wait after the `n_failed`-th failed attempt: exponential with full jitter.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """
    ceiling = min(limits.max_backoff_seconds, limits.backoff_seconds * 2.0 ** min(n_failed - 1, 60))
    return rng.uniform(0.0, ceiling)


def excerpt(body: bytes | str) -> str:
    """The beginning of what a server sent, on one line."""
    head = body[: 8 * MAX_EXCERPT]
    text = printable(head if isinstance(head, str) else head.decode("utf-8", "replace"))
    return text if len(text) <= MAX_EXCERPT else text[:MAX_EXCERPT] + "..."


def shortened(text: str, max_characters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= max_characters else text[: max_characters - 3] + "..."


def _is_of_quota(code: str) -> bool:
    return code in _QUOTA_CODES or code.startswith("billing_")


def _said(body: bytes) -> tuple[str, str, float | None]:
    """The error code, the words and the seconds to wait in an error body, whatever its shape."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "", excerpt(body), None
    if isinstance(content, list) and content:  # Gemini wraps the error in a list
        content = content[0]
    error = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(error, dict):
        return "", excerpt(error if isinstance(error, str) else body), None
    codes = [value for value in (error.get("code"), error.get("type")) if isinstance(value, str)]
    code = next((value for value in codes if _is_of_quota(value)), codes[0] if codes else "")
    words = error.get("message")
    if not isinstance(words, str):
        return code, excerpt(body), _delay_in(error, "")
    return code, words, _delay_in(error, words)


def _delay_in(error: dict[str, object], words: str) -> float | None:
    """The seconds to wait that an error body names: as a RetryInfo (Gemini), or in words."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        said = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(said, str) and (duration := _DURATION.fullmatch(said)):
            return float(duration[1])
    if not (named := _DELAY.search(words)):
        return None
    minutes, number, unit = named.groups()
    return 60.0 * int(minutes or 0) + float(number) * (0.001 if unit.lower() == "ms" else 1.0)
