"""The pacer on a clock that only the test moves, against a server that counts over a sliding second."""

import math
from collections import deque

import pytest

from bench.api.pace import Pacer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent_over(
    pacer: Pacer, clock: Clock, seconds: float, limit: int | None, retry_after: float | None
) -> tuple[int, int]:
    """How many a server with a limit a second takes and refuses over a time."""
    recent: deque[float] = deque()
    n_taken = n_refused = 0
    end = clock.now + seconds
    while clock.now < end:
        clock.now += max(0.002, pacer.wait_seconds())  # 500 a second is all that the client can do
        pacer.sent()
        while recent and recent[0] <= clock.now - 1.0:
            recent.popleft()
        if limit is not None and len(recent) >= limit:
            n_refused += 1
            pacer.refused(retry_after)
        else:
            recent.append(clock.now)
            n_taken += 1
            pacer.accepted()
    return n_taken, n_refused


def test_a_given_rate_is_kept_from_the_first_request_on() -> None:
    clock = Clock()
    n_taken, n_refused = sent_over(Pacer(20, clock=clock), clock, 100, 20, 1.0)
    assert n_refused == 0
    assert 0.85 * 2000 <= n_taken <= 0.93 * 2000


def test_a_rate_that_nobody_gave_is_found() -> None:
    for retry_after in (1.0, None):
        clock = Clock()
        n_taken, n_refused = sent_over(Pacer(None, clock=clock), clock, 100, 20, retry_after)
        assert n_taken >= 0.85 * 2000
        assert n_refused <= 0.05 * n_taken


def test_a_rate_that_was_too_much_is_come_near_to_carefully() -> None:
    clock = Clock()
    pacer = Pacer(None, clock=clock)
    sent_over(pacer, clock, 1.5, 20, None)  # found out
    while pacer.rate_per_second < 19:
        clock.now += 0.1
        pacer.wait_seconds()
    near = clock.now
    while pacer.rate_per_second < 20:
        clock.now += 0.1
        pacer.wait_seconds()
    assert 8 < clock.now - near < 13
    while pacer.rate_per_second < 21:
        clock.now += 0.1
        pacer.wait_seconds()
    assert clock.now - near < 17, "it is beyond what was too much, and slow still"


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    pacer = Pacer(None, clock=clock)
    assert sent_over(pacer, clock, 10, None, None)[0] >= 4990
    assert pacer.rate_per_second == math.inf


def test_a_limit_that_falls_and_rises_is_followed() -> None:
    clock = Clock()
    pacer = Pacer(None, clock=clock)
    sent_over(pacer, clock, 60, 40, None)
    n_taken, n_refused = sent_over(pacer, clock, 120, 10, None)
    assert n_taken >= 0.7 * 1200
    assert n_refused <= 0.2 * n_taken
    sent_over(pacer, clock, 120, 40, None)
    assert sent_over(pacer, clock, 60, 40, None)[0] >= 0.7 * 2400


def test_everybody_waits_as_long_as_the_server_asks() -> None:
    clock = Clock()
    pacer = Pacer(50, clock=clock)
    pacer.sent()
    pacer.refused(7.0)
    assert pacer.wait_seconds() == 7.0
    clock.now += 6.0
    assert abs(pacer.wait_seconds() - 1.0) < 1e-9


def test_a_late_request_is_followed_by_no_burst() -> None:
    clock = Clock()
    pacer = Pacer(10, clock=clock)
    pacer.sent()
    clock.now += 5.0
    assert pacer.wait_seconds() <= 0
    pacer.sent()
    assert abs(pacer.wait_seconds() - 1 / 9.2) < 1e-9


def test_refusals_now_and_then_whatever_the_rate_do_not_stop_the_run() -> None:
    """Every tenth is refused, at any rate: no rate is to blame."""
    clock = Clock()
    pacer, n_sent = Pacer(None, clock=clock), 0
    end = clock.now + 120
    while clock.now < end:
        clock.now += max(0.002, pacer.wait_seconds())
        pacer.sent()
        n_sent += 1
        if n_sent % 10 == 0:
            pacer.refused(0.0)
        else:
            pacer.accepted()
    assert n_sent > 120 * 15


@pytest.mark.parametrize("rate", [None, 20.0])
def test_hours_without_a_request_are_no_error(rate: float | None) -> None:
    clock = Clock()
    pacer = Pacer(rate, clock=clock)
    sent_over(pacer, clock, 5, 10, None)
    for hours in (10, 1000):
        pacer.refused(None)
        clock.now += 3600 * hours
        assert pacer.wait_seconds() <= 0
        assert pacer.rate_per_second > 10


def test_nothing_but_refusals_slows_down_to_the_slowest() -> None:
    clock = Clock()
    pacer = Pacer(100, clock=clock)
    for _ in range(60):
        clock.now += max(1.1, pacer.wait_seconds())
        pacer.sent()
        pacer.refused(None)
    assert abs(pacer.rate_per_second - 1.0) < 0.1
