"""What a run of the battery did: one JSON line for every test, added up for the report.

The environment steers a run: FAULTS=full for the full counts, FAULTS_SEED for another seed, FAULTS_LEDGER for the file.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = os.environ.get("FAULTS", "slice")
"""slice: some tests with few cases, for the default suite. few: every short test with few cases. full: the battery."""

IS_FULL = SIZE == "full"
LONG = pytest.mark.skipif(not IS_FULL, reason="takes a while: part of the whole battery, `make faults`")
NOT_IN_THE_SLICE = pytest.mark.skipif(SIZE == "slice", reason="takes seconds: part of `make faults`, `make mutations`")

SEED = int(os.environ.get("FAULTS_SEED", "1"))

THE_TEST_ITSELF = "the test itself"
"""The name of the case that stands for a failure outside of cases."""


class Lost(AssertionError):
    """Something that had been finished is gone, or was done again."""


class Cases:
    """The cases of one test of a row: counted as they are injected, told apart by how they ended.

    Attributes:
        row: letter of the row.
        rng: drawn from for every choice, so that a seed repeats a run.
    """

    def __init__(self, row: str, test: str) -> None:
        self.row, self.test = row, test
        self.rng = random.Random(f"{SEED}:{test}")
        self.n_injected = self.n_survived = self.n_lost = self.n_wrong = 0
        self.why_not: list[str] = []
        self.measured: list[str] = []
        self._first: tuple[str, BaseException] | None = None
        self._is_withdrawn = False
        self._began = time.monotonic()

    def n(self, *, quick: int, full: int) -> int:
        """How many cases: of the default suite, or of the battery."""
        return full if IS_FULL else quick

    def chosen(self, names: list[str] | tuple[str, ...], *, quick: int) -> list[str]:
        """All of the names for the battery, some of them, drawn by the seed, for the default suite."""
        return list(names) if IS_FULL else sorted(self.rng.sample(list(names), min(quick, len(names))))

    @contextmanager
    def case(self, name: str, n: int = 1) -> Iterator[None]:
        """One case, or `n` that are checked together. What it raises is counted now and raised by `settle`.

        Args:
            n: 0 for a look at what earlier cases left; if that fails, one of them has not survived.
        """
        self._is_withdrawn = False
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            if str(error).startswith("Timeout "):  # of the whole test, by pytest-timeout
                self.failed(name, error)
                raise
            self.failed(name, error, n)
        else:
            if not self._is_withdrawn:
                self.n_injected += n
                self.n_survived += n

    def withdraw(self) -> None:
        """The case that is under way turned out not to inject anything; unless it fails, it is not counted."""
        self._is_withdrawn = True

    def failed(self, name: str, error: BaseException, n: int = 0) -> None:
        """Count `n` cases that failed; 0 for something that was no case of its own."""
        if n:
            self.n_injected += n
        elif self.n_survived:
            self.n_survived -= 1
        else:
            self.n_injected += 1
        if isinstance(error, Lost):
            self.n_lost += n or 1
        else:
            self.n_wrong += n or 1
        self._first = self._first or (name, error)

    def measure(self, what: str) -> None:
        """A figure that the report gives, with its unit."""
        self.measured.append(what)

    def not_run(self, why: str) -> None:
        """Something of this row cannot be done on this machine; the report says so."""
        self.why_not.append(why)

    def settle(self) -> None:
        """Write the counts down, and raise what the first failed case raised."""
        seconds = time.monotonic() - self._began
        if path := os.environ.get("FAULTS_LEDGER"):
            counts = {"injected": self.n_injected, "survived": self.n_survived}
            counts |= {"lost": self.n_lost, "wrong": self.n_wrong}
            line = {"row": self.row, "test": self.test, **counts, "seconds": seconds}
            line |= {"not_run": self.why_not, "measured": self.measured}
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")  # one write: lines of processes do not mix
            finally:
                os.close(descriptor)
        if self._first is not None:
            name, error = self._first
            n_failed = self.n_lost + self.n_wrong
            raise AssertionError(
                f"row {self.row}: {n_failed} of {self.n_injected} cases failed, first: {name}"
            ) from error
        assert self.n_injected or self.why_not, "a test without a case"


def read(path: Path) -> list[dict[str, object]]:
    """The lines of a ledger."""
    return [json.loads(line) for line in path.read_text().splitlines()]
