"""How a command ends on Ctrl-C and SIGTERM: within two seconds, with a line that says how to go on.

A cluster that was started here is given the time that closing it takes; a second signal does not wait for it.

The first signal raises `Interrupted` in the main thread, so that everything open is closed on the way out. A second one
ends the process at once. Where the main thread does not hear the first, because it is inside a long computation that is
not Python, or does not get out, because a disk does not answer, another thread ends the process for it: every write is
whole or not at all, so nothing is left to tidy.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)

LINE = b"bench: interrupted; the same command goes on from here\n"

PATIENCE_SECONDS = 1.2
"""How long the main thread may take to hear of a signal and to leave: a disk may not answer, nor a computation. What is
left of two seconds is for the system, which takes some to end a large process on a busy machine."""


class Interrupted(BaseException):
    """A signal asked the process to end; not an Exception, so that nothing on the way takes it for a failure."""


class _State:
    """Of the one process that there is."""

    is_heard = False
    is_told = False
    tidying_seconds = 0.0


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within the block a signal ends the process as the module says; for the main thread alone."""
    _State.is_heard = _State.is_told = False
    usual = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    usual_hook = sys.unraisablehook
    sys.unraisablehook = _or_end(usual_hook)
    read, write = os.pipe()
    os.set_blocking(write, False)
    usual_descriptor = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="bench-signals", daemon=True).start()
    try:
        yield
    except Interrupted as interruption:
        _tell()
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or never there
            sys.stdout.flush()
        _end_at_once(int(interruption.args[0]))  # a second signal must not meet an interpreter half shut down
    finally:
        signal.set_wakeup_fd(usual_descriptor)
        os.close(write)
        sys.unraisablehook = usual_hook
        for number, handler in usual.items():
            if signal.getsignal(number) is _interrupt:  # not while a second signal may still come
                signal.signal(number, handler)


@contextlib.contextmanager
def tidying_takes(seconds: float) -> Iterator[None]:
    """Within the block there is something open that must be closed, though it takes this long after a signal."""
    _State.tidying_seconds = seconds
    try:
        yield
    finally:
        _State.tidying_seconds = 0.0


def _interrupt(number: int, frame: object) -> None:
    for either in SIGNALS:
        signal.signal(either, _end_at_once)
    _State.is_heard = True
    raise Interrupted(number)


def _end_at_once(number: int, frame: object = None) -> None:
    _tell()
    os._exit(128 + number)


def _tell() -> None:
    """Say the line once; not by print, which a signal may have interrupted."""
    if not _State.is_told:
        _State.is_told = True
        with contextlib.suppress(OSError):
            os.write(2, LINE)


def _or_end(usual: Callable[[sys.UnraisableHookArgs], object]) -> Callable[[sys.UnraisableHookArgs], object]:
    """Python drops what is raised in a destructor or in a callback of a library; a signal must not be lost there."""

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            _end_at_once(int(unraisable.exc_value.args[0]))
        usual(unraisable)

    return hook


class _Over(Exception):
    """The block has ended."""


def _watch(read: int) -> None:
    """Told of signals by the interpreter whatever the main thread does."""
    with contextlib.suppress(_Over):
        try:
            first = _next_signal(read, None)
            second = _next_signal(read, PATIENCE_SECONDS)
            if second is None and _State.is_heard:
                second = _next_signal(read, _State.tidying_seconds)
            if second is not None:
                time.sleep(0.1)  # the main thread ends the process now, if it can
            _end_at_once(second or first or signal.SIGTERM)
        finally:
            os.close(read)


def _next_signal(read: int, seconds: float | None) -> int | None:
    """The number of the next signal, or None if none came in time."""
    while select.select([read], [], [], seconds)[0]:
        number = os.read(read, 1)
        if not number:
            raise _Over
        if number[0] in SIGNALS:
            return number[0]
    return None
