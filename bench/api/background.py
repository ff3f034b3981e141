"""Asynchronous work in a thread of its own, read like any iterator.

An event loop in the thread of the reader would stand still, its deadlines running out, while the reader is busy; and an
exception that a signal handler raises within a loop can be swallowed by it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

STOP_SECONDS = 1.5
"""How long the end of work that was given up is awaited; what hangs longer, such as the look-up of a name, is left."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class _Delivery(Generic[Item]):
    item: Item
    loop: asyncio.AbstractEventLoop
    is_taken: asyncio.Event


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class Outlet(Generic[Item]):
    """Where the work puts what it has for the reader."""

    def __init__(self) -> None:
        self._deliveries: queue.SimpleQueue[_Delivery[Item] | _End] = queue.SimpleQueue()

    async def put(self, item: Item) -> None:
        """Hand over an item; returns when the reader comes for the next one, so that nothing piles up."""
        delivery = _Delivery(item, asyncio.get_running_loop(), asyncio.Event())
        self._deliveries.put(delivery)
        await delivery.is_taken.wait()

    def tell(self, item: Item) -> None:
        """Hand over an item without waiting."""
        self._deliveries.put(_Delivery(item, asyncio.get_running_loop(), asyncio.Event()))


def in_background(work: Callable[[Outlet[Item]], Awaitable[None]], *, name: str) -> Generator[Item, None, None]:
    """Do the work in another thread and yield what it puts out; an exception that it ends with is raised here.

    Closing the iterator cancels the work and waits until it has ended.
    """
    outlet: Outlet[Item] = Outlet()
    started: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None] = queue.SimpleQueue()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        started.put((asyncio.get_running_loop(), task))
        await work(outlet)

    def run() -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(main())
        except BaseException as error:  # whatever it is, the reader has to learn of it
            started.put(None)
            outlet._deliveries.put(_End(error))
        else:
            outlet._deliveries.put(_End(None))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    has_ended = False
    try:
        while True:
            delivery = outlet._deliveries.get()
            if isinstance(delivery, _End):
                has_ended = True
                if delivery.error is not None:
                    raise delivery.error
                return
            yield delivery.item
            _call(delivery.loop, delivery.is_taken.set)
    finally:
        if not has_ended:
            if (under_way := started.get()) is not None:
                _call(under_way[0], under_way[1].cancel)
        thread.join(STOP_SECONDS)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop has ended meanwhile
        pass
