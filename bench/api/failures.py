"""Why a whole run ends, as against one question that has no answer."""

from __future__ import annotations

from bench.errors import BenchError


class ServiceError(BenchError):
    """The server answers in a way that no further question can escape."""


class BudgetReached(BenchError):
    """The next question does not fit under a cap on requests, tokens or money."""
