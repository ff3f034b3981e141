"""The life of a question: its turn, its attempts, its end. Which server and which client is not known in here."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence

from bench.api.background import Outlet
from bench.api.breaker import Breaker
from bench.api.budget import Budget, Charge
from bench.api.failures import ServiceError
from bench.api.pace import Pacer
from bench.api.retry import MAX_MESSAGE, Fault, Limits, backoff_seconds, shortened
from bench.completions import Failure, Reply, Request

Send = Callable[[Request], Awaitable[Reply | Fault]]
LookAgain = Callable[[Request], Reply | None]
Keep = Callable[[Request, Reply], Reply]
Found = tuple[int, Reply | Failure] | str
"""What became of one question, or a remark for the user."""

GRACE_SECONDS = 5.0
"""How long requests under way may still end when the run makes no sense any more; what they cost is not lost so."""

LAST_SECONDS = 0.5
"""The same when the reader goes: what the server sent by then is kept, and nobody waits long after Ctrl-C."""

WORTH_A_REMARK_SECONDS = 5.0


class Asker:
    """Asks many questions once each, a limited number at a time, sent in order; the answers come in any order.

    An object is for one call of `run`.

    Args:
        breaker: told what became of every question; the same one for all runs against a server.
        look_again: asked right before a request is sent for an answer that came to be known meanwhile.
        keep: told of a reply as soon as it is there, whether or not it is read any more; what it returns counts.
    """

    def __init__(
        self,
        *,
        send: Send,
        limits: Limits,
        pacer: Pacer,
        budget: Budget,
        rng: random.Random,
        breaker: Breaker,
        look_again: LookAgain | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._send, self._limits, self._pacer, self._budget, self._rng = send, limits, pacer, budget, rng
        self._breaker, self._look_again, self._keep = breaker, look_again, keep
        self._row = asyncio.Lock()  # waits for the pacer in the order of arrival
        self._has_ended = asyncio.Event()  # replaced whenever a request ends
        self._workers: list[asyncio.Task[None]] = []
        self._waiting: set[asyncio.Task[None]] = set()  # workers with nothing under way at the server
        self._handing_over: set[asyncio.Task[None]] = set()  # workers that wait for the reader
        self._is_read = True
        self._end: ServiceError | Request | None = None  # why nothing more is asked; a request that does not fit
        self._told_until = -math.inf

    async def run(self, requests: Sequence[Request], outlet: Outlet[Found]) -> None:
        """Put out what becomes of every question as it comes.

        When this is cancelled, nothing more is sent; what is under way may still come and be kept for LAST_SECONDS.

        Raises:
            ServiceError: no further question could be answered.
            BudgetReached: the next one does not fit.
        """
        work = asyncio.create_task(self._all_done(requests, outlet))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_read = False
            for task in self._waiting | self._handing_over:
                task.cancel()
            await asyncio.wait({work}, timeout=LAST_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise
        if isinstance(self._end, Request):
            raise self._budget.reached(self._end)
        if self._end is not None:
            raise self._end

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is sent."""
        return self._end is not None or not self._is_read

    async def _all_done(self, requests: Sequence[Request], outlet: Outlet[Found]) -> None:
        todo = iter(range(len(requests)))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._limits.max_concurrency, len(requests))):
                    self._workers.append(group.create_task(self._work(requests, todo, outlet)))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, requests: Sequence[Request], todo: Iterator[int], outlet: Outlet[Found]) -> None:
        for index in todo:
            answer = await self._answer(requests[index], outlet)
            if answer is None:
                return
            if isinstance(answer, Reply):
                self._breaker.succeeded()
            elif error := self._breaker.failed(answer):
                self._stop(error, GRACE_SECONDS)
            if self._is_read:
                with self._among(self._handing_over):
                    await outlet.put((index, answer))
            if self._is_over:
                return

    async def _answer(self, request: Request, outlet: Outlet[Found]) -> Reply | Failure | None:
        """What becomes of one question; None where the run ends before it is known."""
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        last: Fault | None = None
        for n_attempts in range(1, self._limits.max_attempts + 1):
            try:
                async with asyncio.timeout_at(deadline):
                    charge = await self._admitted(request)
            except TimeoutError:
                assert last is not None
                return _failure(last, n_attempts - 1, f"no time was left of {self._limits.total_seconds:g} s")
            if charge is None:
                return None
            if (known := self._found_meanwhile(request, charge)) is not None:
                return known
            now = clock()
            deadline = now + self._limits.total_seconds if deadline is None else deadline
            came = await self._attempt(request, charge, min(self._limits.attempt_seconds, deadline - now))
            if isinstance(came, Reply):
                return came if self._keep is None else self._keep(request, came)
            if not came.is_retryable or n_attempts == self._limits.max_attempts:
                return _failure(came, n_attempts)
            wait = self._wait_seconds(came, n_attempts)
            if clock() + wait >= deadline:
                return _failure(came, n_attempts, self._why_no_more(came, wait))
            if self._is_over:
                return None
            self._tell(came, clock(), outlet)
            with self._among(self._waiting):
                await asyncio.sleep(wait)
            last = came
        raise AssertionError("the last attempt returns")

    async def _admitted(self, request: Request) -> Charge | None:
        """Wait until a request fits the budget and it is its turn; None where the run ends."""
        with self._among(self._waiting):
            while not self._is_over and (verdict := self._budget.verdict(request)) != "send":
                if verdict == "stop":
                    self._stop(request, None)
                else:
                    await self._has_ended.wait()
            if self._is_over:
                return None
            charge = self._budget.reserve(request)
            try:
                async with self._row:
                    while (wait := self._pacer.wait_seconds()) > 0:
                        await asyncio.sleep(wait)
                    self._pacer.sent()
            except BaseException:
                self._budget.withdraw(charge)
                self._announce_end()
                raise
            return charge

    def _found_meanwhile(self, request: Request, charge: Charge) -> Reply | None:
        """An answer that came to be known while the request waited; it is not sent then, and costs nothing."""
        known = None
        is_sent = False
        try:
            known = None if self._look_again is None else self._look_again(request)
            is_sent = known is None
        finally:
            if not is_sent:
                self._budget.withdraw(charge)
                self._announce_end()
        return known

    async def _attempt(self, request: Request, charge: Charge, seconds: float) -> Reply | Fault:
        came: Reply | Fault | None = None
        try:
            async with asyncio.timeout(seconds):
                came = await self._send(request)
        except TimeoutError:
            came = Fault(
                kind="timeout", message=f"no full answer within {seconds:.3g} s", is_retryable=True, may_be_billed=True
            )
        finally:
            if isinstance(came, Fault) and not came.may_be_billed:
                self._budget.free(charge)
            else:
                self._budget.settle(charge, came)
            self._announce_end()
        if isinstance(came, Fault) and came.kind == "rate limit":
            wait = came.retry_after_seconds
            self._pacer.refused(wait if wait is not None and wait <= self._limits.total_seconds else None)
        elif isinstance(came, Reply) or came.kind not in ("connection", "timeout"):
            self._pacer.accepted()
        return came

    def _wait_seconds(self, fault: Fault, n_failed: int) -> float:
        """As long as the server says, and a little spread; else by our own reckoning."""
        if fault.retry_after_seconds is None:
            return backoff_seconds(n_failed, self._limits, self._rng)
        return fault.retry_after_seconds + self._rng.uniform(0.0, 0.05)

    def _why_no_more(self, fault: Fault, wait: float) -> str:
        asker = "the server asks to wait" if fault.retry_after_seconds is not None else "the next attempt would be in"
        return f"{asker} {round(wait):.6g} s, beyond the {self._limits.total_seconds:g} s that one question may take"

    def _tell(self, fault: Fault, now: float, outlet: Outlet[Found]) -> None:
        wait = fault.retry_after_seconds
        if wait is not None and wait >= WORTH_A_REMARK_SECONDS and now >= self._told_until:
            self._told_until = now + wait
            outlet.tell(f"{shortened(fault.message, MAX_MESSAGE)}; waiting {wait:.0f} s, as the server asks")

    def _announce_end(self) -> None:
        self._has_ended.set()
        self._has_ended = asyncio.Event()

    @contextlib.contextmanager
    def _among(self, tasks: set[asyncio.Task[None]]) -> Iterator[None]:
        """Count this task among those that can be cancelled without losing an answer."""
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            yield
        finally:
            tasks.discard(task)

    def _stop(self, end: ServiceError | Request, grace_seconds: float | None) -> None:
        """Ask nothing more; what is under way may end, within the grace if there is one."""
        if self._end is not None:
            return
        self._end = end
        for task in self._waiting - {asyncio.current_task()}:
            task.cancel()
        if grace_seconds is not None:
            asyncio.get_running_loop().call_later(grace_seconds, self._give_up)

    def _give_up(self) -> None:
        for task in self._workers:
            task.cancel()


def _failure(fault: Fault, n_attempts: int, why_no_more: str | None = None) -> Failure:
    ending = "" if why_no_more is None else f"; {why_no_more}"
    message = shortened(fault.message, MAX_MESSAGE - len(ending)) + ending
    return Failure(kind=fault.kind, message=message, n_attempts=n_attempts)
