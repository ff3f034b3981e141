"""How fast requests are sent: evenly, and slower when the server says that it is too fast."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

SAFETY = 0.92
"""Share of a given rate that is used: packets arrive less evenly than they are sent, and a server counts arrivals."""

CUT = 0.9
"""Of the rate, or of what the server was seen to take, after a refusal."""

HARD_CUT = 0.5
"""Of the rate, when nothing but refusals comes."""

GROWTH_PER_SECOND = 1.02
"""So that half of what was lost by a cut is there again in less than 3 s."""

CAREFUL_GROWTH_PER_SECOND = 1.005
"""Between `NEAR` of the rate that was too much and that rate, which is tried again after 10 s: to be refused costs a
pause."""

NEAR = 0.95
"""Share of a rate that was too much, above which sending grows carefully."""

QUICK_GROWTH_PER_SECOND = 1.5
"""While refusals come at a rate that the server took before: they are for something else."""

QUICK_SECONDS = 10.0

MOST_GROWTH_SECONDS = 600.0
"""No rate grows for longer at a time: after hours without a request the power would be no number any more."""

LEAST_LEARNED_PER_SECOND = 5.0
"""What the first refusal says about the rate, at least: too little was sent by then to know."""

MEMORY_SECONDS = 30.0
"""How long the best second is remembered."""

SLOWEST_PER_SECOND = 1.0
"""No refusal slows sending down further; a server that needs it slower says so with Retry-After."""

N_REFUSED_IN_A_ROW = 3

N_OUTCOMES = 20

RARE = 0.25
"""Refusals of at most this share of the last requests, at a rate that was fine before, are not for the rate."""

ALIKE = 0.7
"""A second in which the server took this share of the best second was as full as that one."""

FIRST_PAUSE_SECONDS = 1.0
"""After the first refusal, if the server does not say how long: the window that a rate is usually counted over."""

LATER_PAUSE = 0.25
"""Of the first pause, after a later refusal."""


class Pacer:
    """When the next request may be sent; no waiting is done in here.

    A rate that nobody gave is learned: after the first refusal it is what the server was seen to take, and a little
    less. A refusal while the server took clearly less than it did before says nothing about the rate, unless nothing
    but refusals comes.
    """

    def __init__(
        self,
        rate_per_second: float | None,
        *,
        pause_seconds: float = FIRST_PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pause_seconds = pause_seconds
        self._ceiling = math.inf if rate_per_second is None else rate_per_second * SAFETY
        self._rate = self._ceiling
        self._clock = clock
        self._next_turn = self._paused_until = self._grown_at = self._cut_at = clock()
        self._too_much = math.inf  # the rate that the last cut was made for, where that is known
        self._accepted: deque[float] = deque()  # when, over the last second
        self._best: deque[tuple[float, int]] = deque()  # (second, most accepted within one second), newest last
        self._n_refused_in_a_row = 0
        self._quick_until = -math.inf
        self._outcomes: deque[bool] = deque(maxlen=N_OUTCOMES)  # whether refused

    @property
    def rate_per_second(self) -> float:
        """The rate now; infinite where nothing has limited it yet."""
        return self._rate

    def wait_seconds(self) -> float:
        """How long the next request has to wait; 0 or less where it may be sent now."""
        now = self._clock()
        self._grow(now)
        return max(self._next_turn, self._paused_until) - now

    def sent(self) -> None:
        """A request is sent now. The next one waits from here on, so that one that is late is followed by no burst."""
        self._next_turn = self._clock() + 1.0 / self._rate

    def accepted(self) -> None:
        """The server took a request."""
        now = self._clock()
        self._n_refused_in_a_row = 0
        self._outcomes.append(False)
        self._accepted.append(now)
        count = self._n_accepted(now)
        if self._best and self._best[-1][0] == math.floor(now):
            count = max(count, self._best.pop()[1])
        self._best.append((math.floor(now), count))
        while self._best[0][0] < now - MEMORY_SECONDS:
            self._best.popleft()

    def refused(self, wait_seconds: float | None) -> None:
        """The server refused a request as one too many; `wait_seconds` is what it asked everybody to wait."""
        now = self._clock()
        self._grow(now)
        self._n_refused_in_a_row += 1
        self._outcomes.append(True)
        n_accepted, best = self._n_accepted(now), max((count for _, count in self._best), default=0)
        if now - self._cut_at >= 1.0 or self._rate == math.inf:  # not once more for requests sent before the cut
            if wait_seconds is None:
                wait_seconds = self._pause_seconds * (1.0 if self._rate == math.inf else LATER_PAUSE)
            if self._n_refused_in_a_row >= N_REFUSED_IN_A_ROW:
                self._cut(HARD_CUT * min(self._rate, max(best, 1)), now, too_much=math.inf)
            elif self._rate == math.inf:
                self._cut(max(CUT * best, LEAST_LEARNED_PER_SECOND), now, too_much=best)
            elif n_accepted >= ALIKE * best:
                self._cut(CUT * max(self._rate, best), now, too_much=max(self._rate, best))
            elif sum(self._outcomes) > RARE * N_OUTCOMES:  # it takes less than before
                self._best.clear()
                self._cut(CUT * max(n_accepted, 1), now, too_much=max(n_accepted, 1))
            else:
                self._quick_until = now + QUICK_SECONDS
        if wait_seconds is not None:
            self._paused_until = max(self._paused_until, now + wait_seconds)

    def _cut(self, rate: float, now: float, *, too_much: float) -> None:
        self._too_much = too_much
        self._rate = max(min(rate, self._rate), min(SLOWEST_PER_SECOND, self._ceiling))
        self._cut_at = self._grown_at = now
        self._next_turn = min(self._next_turn, now + 1.0 / self._rate)

    def _grow(self, now: float) -> None:
        if now > self._grown_at and self._rate < self._ceiling:
            is_near = NEAR * self._too_much <= self._rate < self._too_much
            growth = CAREFUL_GROWTH_PER_SECOND if is_near else GROWTH_PER_SECOND
            growth = QUICK_GROWTH_PER_SECOND if now < self._quick_until else growth
            seconds = min(now - self._grown_at, MOST_GROWTH_SECONDS)
            self._rate = min(self._ceiling, self._rate * growth**seconds)
        self._grown_at = max(self._grown_at, now)

    def _n_accepted(self, now: float) -> int:
        while self._accepted and self._accepted[0] <= now - 1.0:
            self._accepted.popleft()
        return len(self._accepted)
