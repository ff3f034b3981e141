"""Whether a server was asked again for what it had answered in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.bench.scripted_server import ScriptedServer
from tests.faults.ledger import Lost


def check_none_asked_again(server: ScriptedServer, prompts: Iterable[str]) -> None:
    """Raises Lost: the server sent more whole answers to a prompt than there are questions with it."""
    whole = Counter(one.prompt for one in server.received if one.did == "answer" and one.is_whole)
    if again := whole - Counter(prompts):
        raise Lost(f"{again.total()} whole answers asked for again, such as that to {next(iter(again))!r}")
