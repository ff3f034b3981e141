"""Children of a test that are really killed: forked from a server that has imported everything, so that each is quick.

with Child(cli, "query", "big-1", "--out", folder, out=tmp_path / "log") as child:
    child.kill()
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PRELOADED = [
    "bench.api.client",
    "bench.api.http",
    "bench.cli",
    "bench.collect",
    "bench.conversion",
    "bench.models",
    "bench.prompt_files",
    "bench.query",
    "bench.run",
    "bench.terminal",
    "bench.terminal_collect",
    "bench.terminal_estimate",
    "bench.terminal_fit",
    "bench.terminal_leaderboard",
    "bench.terminal_performance",
    "gguf",
    "openai.resources.chat.completions",
    "openai.resources.completions",
    "proxies.estimating",
    "proxies.fit_report",
    "proxies.fitting",
    "proxies.leaderboard_files",
    "proxies.leaderboard_picture",
    "proxies.page_fill",
    "proxies.performance_files",
    "proxies.predicting",
    "tests.faults.children",
    "tests.faults.killing",
    "transformers.modeling_gguf_pytorch_utils",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
]
KILLED = -signal.SIGKILL


def context() -> ForkServerContext:
    """Where children come from; the first one waits for the imports, the others take milliseconds."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


class Child:
    """A process of its own that calls `target(*arguments)`; a context manager that leaves none behind.

    Args:
        log: where its standard output and error go, together.
        environment: added to that of this process; None as a value removes a variable.
    """

    def __init__(
        self,
        target: Callable[..., object],
        *arguments: Any,
        log: Path,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self.log = log
        changes = {"PYTHONHASHSEED": "0", "COLUMNS": "200"} | dict(environment or {})
        self.process = context().Process(target=_begin, args=(target, arguments, str(log), changes, os.getcwd()))
        self.process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.kill()
        self.process.close()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        pid = self.process.pid
        assert pid is not None
        os.kill(pid, number)

    def wait(self, seconds: float = 60.0) -> int:
        """The exit status, minus the number of a signal that ended it. A child that does not end is a failure."""
        self.process.join(seconds)
        status = self.process.exitcode
        assert status is not None, f"still there after {seconds} s:\n{self.text()}"
        return status

    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def cli(*arguments: str | Path) -> None:
    """`bench` with these arguments."""
    from bench.cli import main

    main([str(argument) for argument in arguments])


def done(target: Callable[..., object], *arguments: Any, log: Path, seconds: float = 120.0, status: int = 0) -> str:
    """Run to the end in a child; what it wrote. A status other than the expected one is a failure."""
    with Child(target, *arguments, log=log) as child:
        found = child.wait(seconds)
        assert found == status, f"exit status {found}, expected {status}:\n{child.text()}"
        return child.text()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def _begin(
    target: Callable[..., object],
    arguments: Sequence[Any],
    log: str,
    environment: Mapping[str, str | None],
    folder: str,
) -> None:
    import torch

    os.chdir(folder)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)
    faulthandler.enable(file=2)
    torch.set_num_threads(1)
    try:
        target(*arguments)
    finally:
        sys.stdout.flush()
