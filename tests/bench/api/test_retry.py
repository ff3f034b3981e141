"""Classification and waiting, without a server."""

import random
from datetime import UTC, datetime

import pytest

from bench.api.retry import Limits, backoff_seconds, excerpt, fault_of_status, retry_after_seconds
from bench.errors import UsageError

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:30 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Thu, 99 Jan 2026 99:00:30 GMT"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "body", "kind", "is_retryable"),
    [
        (400, b'{"error": {"message": "no"}}', "bad request", False),
        (401, b"", "authentication", False),
        (402, b"", "quota", False),
        (403, b'{"error": {"type": "insufficient_quota"}}', "quota", False),
        (405, b"", "bad request", False),
        (409, b"", "server error", True),
        (425, b"", "server error", True),
        (429, b'{"error": {"code": "insufficient_quota", "type": "other"}}', "quota", False),
        (429, b'{"error": {"code": "rate", "type": "billing_not_active"}}', "quota", False),
        (429, b'{"error": {"message": "You exceeded your current quota, see"}}', "quota", False),
        (429, b'{"error": {"code": "billing_whatever"}}', "quota", False),
        (429, b'{"error": {"message": "You exceeded your current quota. Please retry in 17.3s."}}', "rate limit", True),
        (
            429,
            b'[{"error": {"message": "You exceeded your current quota", "details": [{"retryDelay": "17s"}]}}]',
            "rate limit",
            True,
        ),
        (429, b'{"error": {"code": "insufficient_quota", "message": "retry in 17s"}}', "quota", False),
        (429, b'{"error": "slow down"}', "rate limit", True),
        (429, b"<html>", "rate limit", True),
        (429, b"[[[", "rate limit", True),
        (429, b"[" * 100_000, "rate limit", True),
        (429, b'{"error": {"code": 7, "message": ["x"]}}', "rate limit", True),
        (500, b'{"error": {"code": "insufficient_quota"}}', "server error", True),
        (599, b"\xff", "server error", True),
        (301, b"", "redirect", False),
        (304, b"", "redirect", False),
    ],
)
def test_what_a_status_means(status: int, body: bytes, kind: str, is_retryable: bool) -> None:
    fault = fault_of_status(status, {}, body)
    assert (fault.kind, fault.is_retryable) == (kind, is_retryable)
    assert f"status {status}: " in fault.message


GEMINI = b"""[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota%s",
"details": [7, {"@type": "type.googleapis.com/google.rpc.Help"}, %s]}}]"""


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, GEMINI % (b"", b'{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}'), 17.0),
        ({}, GEMINI % (b" " * 2000 + b"Please retry in 17.3s.", b"{}"), 17.3),
        ({"retry-after": "3"}, GEMINI % (b"Please retry in 17.3s.", b"{}"), 3.0),
        ({"retry-after": "3"}, GEMINI % (b"", b"{}"), 3.0),
        ({}, b'{"error": {"message": "Please try again in 20ms."}}', 0.02),
        ({}, b'{"error": {"message": "Please try again in 6m1.5s."}}', 361.5),
        ({}, b'{"error": {"message": "try again", "details": [{"retryDelay": "-1s"}, {"retryDelay": 5}]}}', None),
        ({}, b'{"error": {"message": "try again in 99999999999999999999s", "details": "none"}}', None),
    ],
)
def test_a_wait_that_only_the_body_names(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    fault = fault_of_status(429, headers, body)
    assert (fault.kind, fault.is_retryable, fault.retry_after_seconds) == ("rate limit", True, seconds)


def test_a_message_is_one_short_line_without_escapes() -> None:
    fault = fault_of_status(400, {}, b'{"error": {"message": "a\\n\\u001b[31mb' + b"c" * 10_000 + b'"}}')
    assert fault.message.startswith("status 400: a \ufffd[31mbccc")
    assert len(fault.message) < 400
    assert excerpt("x" * 400) == "x" * 300 + "..."


def test_waits_double_up_to_the_most_and_are_spread_over_all_of_it() -> None:
    limits, rng = Limits(backoff_seconds=0.5, max_backoff_seconds=8.0), random.Random(0)
    for n_failed, most in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (2000, 8.0)):
        waits = [backoff_seconds(n_failed, limits, rng) for _ in range(2000)]
        assert 0 <= min(waits) < 0.05 * most
        assert 0.95 * most < max(waits) <= most
        assert abs(sum(waits) / 2000 - most / 2) < 0.03 * most  # 4 standard errors of a uniform mean
    assert backoff_seconds(3, limits, random.Random(5)) == backoff_seconds(3, limits, random.Random(5))


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_attempts": 0}, "max_attempts must be from 1 to 1000, got 0"),
        ({"max_concurrency": -1}, "max_concurrency must be from 1 to 1000, got -1"),
        ({"attempt_seconds": 0.0}, "attempt_seconds must be a number above 0, got 0.0"),
        ({"total_seconds": float("inf")}, "total_seconds must be a number above 0, got inf"),
        ({"rate_per_second": float("nan")}, "rate_per_second must be a number above 0, got nan"),
        ({"backoff_seconds": 40.0}, "backoff_seconds must be at least 0 and at most max_backoff_seconds"),
    ],
)
def test_limits_with_which_nothing_could_be_asked_are_refused(limit: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Limits(**limit)  # type: ignore[arg-type]
