"""Questions for a scripted server, and a completer that asks it in a hurry."""

from typing import Any

from bench.api.client import ApiCompleter
from bench.api.keys import ReplyKey
from bench.api.retry import Limits
from bench.api.secret import Secret
from bench.completions import Failure, Mode, Reply, Request
from tests.bench.scripted_server import ScriptedServer

CANARY = "sk-canary/0123456789+abcdef=ghij"

HURRIED = Limits(
    max_attempts=3,
    attempt_seconds=0.5,
    total_seconds=5.0,
    max_concurrency=4,
    backoff_seconds=0.02,
    rate_per_second=500,
)


def questions(n: int, mode: Mode = "completion") -> tuple[Request, ...]:
    stop = ("\n",) if mode == "completion" else ()
    return tuple(Request(prompt=f"question {index}", mode=mode, max_tokens=5, stop=stop) for index in range(n))


def completer(server: ScriptedServer, **arguments: Any) -> ApiCompleter:
    settings: dict[str, Any] = {"model": "m", "key": Secret(CANARY), "base_url": server.base_url, "limits": HURRIED}
    return ApiCompleter(**(settings | arguments))


def asked(server: ScriptedServer, requests: tuple[Request, ...], **arguments: Any) -> list[Reply | Failure]:
    """What came of every question, in order; asserts that each is answered for once."""
    found: dict[int, Reply | Failure] = {}
    for index, answer in completer(server, **arguments).complete(requests):
        assert index not in found
        found[index] = answer
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def key_of(request: Request, **changes: Any) -> ReplyKey:
    content: dict[str, Any] = {
        "provider": "api",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "revision": None,
        "files_sha256": None,
        "precision": None,
        "dtype": None,
        "mode": request.mode,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "stop": request.stop,
        "task": "country",
        "task_version": 1,
        "task_hash": "h" * 64,
        "seed": 0,
    }
    return ReplyKey(**(content | changes))
