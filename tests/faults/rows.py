"""The rows of the battery of faults: what each injects, what must hold, and how many cases a full run has at least."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        id: a letter.
        n_cases: of a full run, at least.
    """

    id: str
    injects: str
    holds: str
    n_cases: int


ROWS = {
    row.id: row
    for row in (
        Row(
            "A",
            "SIGKILL of a child process at named points and at random times",
            "nothing that was finished is lost or done again, no file is torn, the same command goes on",
            200,
        ),
        Row("B", "Ctrl-C and SIGTERM, once and twice", "ends within 2 s with 130 or 143 and says how to go on", 20),
        Row("C", "a full disk, a read-only folder, a limit on file sizes", "the old file stays; one line names it", 24),
        Row("D", "2 and 4 processes on one results folder and one cache; a stale lock", "no row lost or doubled", 40),
        Row(
            "E",
            "faults of a server, each as first, middle and last request and as 30 % of them",
            "classified right, the run completes, failed questions listed as failed, time bounded",
            80,
        ),
        Row(
            "F",
            "a mix of faults over 2,000 questions, three times",
            "all answered, scores as without faults, at most 1.5 requests a question",
            6000,
        ),
        Row(
            "G",
            "a server that enforces 20 requests a second",
            "nothing lost, at least 80 % of that rate, whether it is given or found out",
            500,
        ),
        Row(
            "H",
            "caps on requests, tokens and money; usage not reported; unknown prices",
            "overrun by no more than is under way; no start where a cap on money cannot be kept",
            30,
        ),
        Row(
            "I",
            "a cache with flipped bytes, cut, of another schema, empty, a folder, a planted pickle",
            "no wrong answer used, no crash, no code run; bad rows counted",
            600,
        ),
        Row("J", "keys of the cache that differ in one field", "no false hit, no false miss", 1040),
        Row(
            "K",
            "a canary key in the environment, in addresses and arguments, in files of models and tasks, said by the "
            "server; debug logs; tracebacks",
            "in no output, log, cache, record or leaderboard",
            24,
        ),
        Row(
            "L", "hostile names of models and tasks", "no file outside the folder, no collision, names come back", 2060
        ),
        Row(
            "M",
            "injection into the leaderboard, the page, CSV files and the terminal",
            "rows and columns as expected; no script, no request, no escape sequence",
            180,
        ),
        Row(
            "N", "hostile files of results", "rejected with file and field named, the others ranked, no traceback", 5060
        ),
        Row(
            "O",
            "hostile models: pickles, remote code, templates, damaged weights, absurd configurations",
            "no code run; a clear error each",
            50,
        ),
        Row(
            "P",
            "another process, other hash seeds, thread counts, orders and numbers of workers",
            "the same prompts, identities and keys; the same scores, within 1e-5 across thread counts",
            12,
        ),
        Row("Q", "fits of few, equal, constant, NaN and outlying data", "refused in words; no NaN in a table", 40),
        Row("R", "10,000 cached and 2,000 live requests", "memory grows by less than 50 MB, open files do not", 1),
    )
}
