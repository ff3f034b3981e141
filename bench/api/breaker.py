"""When going on makes no sense: the same failure for every question."""

from __future__ import annotations

from bench.api.failures import ServiceError
from bench.completions import Failure, FailureKind

N_HOPELESS = 3
"""Failures in a row of a kind that no other question can escape."""

N_EXHAUSTED = 10
"""Failures in a row, of whatever kind, each after its attempts were used up."""

_HOPELESS: dict[FailureKind, str] = {
    "authentication": "check the variable that holds the key, and that the key may use this model",
    "not found": "check the model name and --base-url, which usually ends in /v1",
    "quota": "add credit to the account, then run the same command again: what was answered is kept",
    "redirect": "give the address that is redirected to as --base-url, if you trust it with the key",
}
_EXHAUSTED: dict[FailureKind, str] = {
    "connection": "check --base-url and that the server runs",
    "timeout": "the server is too slow or hangs; allow more seconds a question, or fewer questions at a time",
    "server error": "the server fails; run the same command again later: what was answered is kept",
    "rate limit": "lower the rate of requests, or run the same command again later: what was answered is kept",
    "invalid reply": "check that --base-url is an OpenAI-compatible address, which usually ends in /v1",
    "no text": "raise --max-tokens for a model that thinks before it answers, or ask another model",
}
_OF_THE_QUESTION: frozenset[FailureKind] = frozenset({"bad request", "no text"})
"""Kinds that say nothing about other questions once any was answered."""

_REFUSED = "every question so far was refused; check the model name and which parameters and modes it takes"


class Breaker:
    """Told what became of every question, in the order in which they end; one for all the runs against a server."""

    def __init__(self) -> None:
        self._in_a_row: list[Failure] = []
        self._has_succeeded = False

    def succeeded(self) -> None:
        """A question was answered."""
        self._in_a_row.clear()
        self._has_succeeded = True

    def note_answered(self) -> None:
        """A question was answered, but not now: the model does answer, whatever the server does at present."""
        self._in_a_row = [one for one in self._in_a_row if one.kind not in _OF_THE_QUESTION]
        self._has_succeeded = True

    def failed(self, failure: Failure) -> ServiceError | None:
        """A question has no answer; the error to end the run with, or None to go on."""
        if failure.kind in _OF_THE_QUESTION and self._has_succeeded:
            return None  # this question's own fault
        self._in_a_row.append(failure)
        hopeless = [one for one in self._in_a_row if one.kind in _HOPELESS]
        if failure.kind in _HOPELESS and len(hopeless) >= N_HOPELESS:
            return _error(hopeless, _HOPELESS[failure.kind])
        if len(self._in_a_row) >= N_EXHAUSTED:
            return _error(self._in_a_row, _EXHAUSTED.get(failure.kind) or _HOPELESS.get(failure.kind) or _REFUSED)
        return None


def _error(failures: list[Failure], advice: str) -> ServiceError:
    kinds = ", ".join(dict.fromkeys(failure.kind for failure in failures))
    last = failures[-1]
    return ServiceError(
        f"{len(failures)} questions in a row have no answer ({kinds}), nothing was answered in between; "
        f"the last one after {last.n_attempts} attempt{'' if last.n_attempts == 1 else 's'}: {last.message}; {advice}"
    )
