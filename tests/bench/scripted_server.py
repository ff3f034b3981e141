"""An OpenAI-compatible server on a loopback socket that answers as scripted, and fails as scripted.

with ScriptedServer(faults=at({0: "500", 7: "drip"})) as server:
    ...  # ask server.base_url
server.received  # every request, in the order of arrival
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Self

Faults = Callable[[int, str], str | None]
"""(number of the request from 0, its prompt) -> name of the fault, or None for an answer."""

STATUS_FAULTS: dict[str, tuple[int, dict[str, str], dict[str, Any]]] = {
    "400": (400, {}, {"message": "this prompt is refused", "code": "invalid_request"}),
    "400-parameter": (
        400,
        {},
        {"message": "Unsupported parameter: 'max_tokens' is not supported, use 'max_completion_tokens'"},
    ),
    "401": (401, {}, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
    "403": (403, {}, {"message": "no access to this model"}),
    "404": (404, {}, {"message": "The model does not exist", "code": "model_not_found"}),
    "408": (408, {}, {"message": "too slow"}),
    "413": (413, {}, {"message": "too long"}),
    "422": (422, {}, {"message": "cannot be processed"}),
    "429": (429, {}, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}),
    "429-zero": (429, {"Retry-After": "0"}, {"message": "Rate limit reached"}),
    "429-ms": (429, {"retry-after-ms": "50", "Retry-After": "9"}, {"message": "Rate limit reached"}),
    "429-second": (429, {"Retry-After": "1"}, {"message": "Rate limit reached"}),
    "429-hour": (429, {"Retry-After": "3600"}, {"message": "Rate limit reached"}),
    "429-ages": (429, {"Retry-After": "1e308"}, {"message": "Rate limit reached"}),
    "429-body": (429, {}, {"message": "You exceeded your current quota. Please retry in 0.3s."}),
    "429-nonsense": (429, {"Retry-After": "soon"}, {"message": "Rate limit reached"}),
    "quota": (429, {}, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    "402": (402, {}, {"message": "Insufficient Balance"}),
    "500": (500, {}, {"message": "The server had an error"}),
    "503": (503, {"Retry-After": "0"}, {"message": "overloaded"}),
    "redirect": (302, {"Location": "http://127.0.0.1:9/v1/elsewhere"}, {"message": "moved"}),
}
BODY_FAULTS: dict[str, bytes] = {
    "truncated-json": b'{"id": "x", "choices": [{"text": "hal',
    "empty": b"",
    "html": b"<!doctype html><html><body><h1>Welcome</h1></body></html>",
    "empty-object": b"{}",
    "error-200": b'{"error": {"message": "overloaded"}}',
    "no-choices": b'{"choices": [], "usage": {}}',
    "null-text": b'{"choices": [{"index": 0, "text": null, "message": {"content": null}}]}',
    "thought": b'{"choices": [{"text": null, "message": {"content": null}, "finish_reason": "length"}],'
    b' "usage": {"prompt_tokens": 7, "completion_tokens": 3}}',
    "filtered": b'{"choices": [{"text": "", "message": {"content": ""}, "finish_reason": "content_filter"}]}',
    "tool": b'{"choices": [{"text": null, "message": {"tool_calls": []}, "finish_reason": "tool_calls"}]}',
    "refused": b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}, "finish_reason": "stop"}]}',
    "list-text-usage": b'{"choices": [{"text": ["a"], "message": {"content": ["a"]}}],'
    b' "usage": {"prompt_tokens": 7, "completion_tokens": 3}}',
    "nothing-said": b'{"choices": [{"text": "", "message": {"content": ""}, "finish_reason": "stop"}]}',
    "far-index": b'{"choices": [{"index": ' + b"9" * 4200 + b', "text": "a", "message": {"content": "a"}}]}',
    "long-text": json.dumps({"choices": [{"text": "a" * 1_000_001, "message": {"content": "a" * 1_000_001}}]}).encode(),
    "missing-text": b'{"choices": [{"index": 0}]}',
    "list-text": b'{"choices": [{"index": 0, "text": ["a"], "message": {"content": ["a"]}}]}',
    "wrong-type": b'{"choices": "none", "usage": 3}',
    "number-text": b'{"choices": [{"text": 42, "message": {"content": 42}}]}',
    "not-utf8": b'{"choices": [{"text": "\xff\xfe", "message": {"content": "\xff"}}]}',
    "deep": b'{"choices": ' + b"[" * 100_000,
}
BROKEN_FAULTS = ("reset", "truncated", "hang", "drip", "huge", "huge-500", "late-close")


@dataclass(slots=True, kw_only=True)
class Received:
    """One request, and what was done about it."""

    number: int
    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    prompt: str
    did: str = "nothing"
    """Name of the fault, "answer", or "rate" where the enforced rate refused it."""
    is_whole: bool = False
    """Whether everything was sent and the connection was still there."""


def at(faults: Mapping[int, str]) -> Faults:
    """Faults by number of the request."""
    return lambda number, _: faults.get(number)


def share(faults: Mapping[str, float], seed: int) -> Faults:
    """Each fault with its probability, decided by seed and number of the request alone."""

    def pick(number: int, _: str) -> str | None:
        drawn = random.Random(f"{seed}:{number}").random()
        for name, probability in faults.items():
            drawn -= probability
            if drawn < 0:
                return name
        return None

    return pick


def always(name: str) -> Faults:
    return lambda *_: name


def for_prompts(faults: Mapping[str, str]) -> Faults:
    """Faults of certain prompts, however often they are asked."""
    return lambda _, prompt: faults.get(prompt)


def no_faults(number: int, prompt: str) -> str | None:
    return None


def reversed_text(prompt: str) -> str:
    return prompt[::-1]


@dataclass(slots=True, kw_only=True)
class ScriptedServer:
    """See the module; a context manager that closes everything it opened.

    Attributes:
        answer: text by prompt.
        usage: what is reported, by (prompt, text); None reports nothing.
        rate_per_second: enforced over a sliding second, status 429 beyond it, with `retry_after` if given.
        drip_seconds: between two bytes of a dripping answer.
        extra: further fields of the body of every answer.
    """

    answer: Callable[[str], str] = reversed_text
    faults: Faults = no_faults
    usage: Callable[[str, str], dict[str, Any] | None] = lambda prompt, text: {
        "prompt_tokens": len(prompt.split()),
        "completion_tokens": len(text.split()),
    }
    latency_seconds: float = 0.0
    rate_per_second: int | None = None
    retry_after: str | None = None
    drip_seconds: float = 0.05
    echo_key: bool = False
    model_id: str = "scripted-1"
    extra: dict[str, Any] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    connections_opened: int = 0
    port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stopping: asyncio.Event | None = None
    _recent: deque[float] = field(default_factory=deque)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def n_answered(self) -> int:
        return sum(one.did == "answer" and one.is_whole for one in self.received)

    @property
    def n_refused_for_rate(self) -> int:
        return sum(one.did == "rate" for one in self.received)

    def __enter__(self) -> Self:
        is_ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(is_ready)), name="scripted-server")
        self._thread.start()
        assert is_ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None and self._stopping is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self, is_ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections_opened += 1
            task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", self.port, limit=1 << 24)
        self.port = server.sockets[0].getsockname()[1]
        is_ready.set()
        await self._stopping.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request on a connection; whether it stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or b"{}")
        path = head[0].split(" ")[1]
        messages = body.get("messages")
        prompt = messages[0]["content"] if messages else body.get("prompt", "")
        now = time.monotonic()
        one = Received(number=len(self.received), at=now, path=path, headers=headers, body=body, prompt=prompt)
        self.received.append(one)
        if self._is_over_rate(now):
            one.did = "rate"
            extra = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return await self._send(writer, one, 429, {"error": {"message": "Rate limit reached"}}, extra)
        fault = self.faults(one.number, prompt)
        one.did = fault or "answer"
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if fault in STATUS_FAULTS:
            status, extra, error = STATUS_FAULTS[fault]
            if self.echo_key:
                error = {**error, "message": f"{error['message']}: {headers.get('authorization')}"}
                extra = {**extra, "x-request-id": headers.get("authorization", "")}
            return await self._send(writer, one, status, {"error": error}, extra)
        if fault in BODY_FAULTS:
            content = BODY_FAULTS[fault]
            if self.echo_key:
                content = content.replace(b"Welcome", headers.get("authorization", "").encode())
            kind = "text/html" if fault == "html" else "application/json"
            return await self._send(writer, one, 200, content, {"Content-Type": kind})
        if fault is not None:
            return await self._break(reader, writer, one, fault)
        return await self._send(writer, one, 200, self._answer_to(one), {})

    def _answer_to(self, one: Received) -> dict[str, Any]:
        text = self.answer(one.prompt)
        if self.echo_key:
            text += " " + one.headers.get("authorization", "")
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in one.body else {"text": text}
        model = self.model_id + (one.headers.get("authorization", "") if self.echo_key else "")
        answer = {"id": f"x-{one.number}", "object": "answer", "model": model, "choices": [choice]}
        usage = self.usage(one.prompt, text)
        return answer | ({} if usage is None else {"usage": usage}) | self.extra

    async def _break(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Received, fault: str
    ) -> bool:
        whole = json.dumps(self._answer_to(one)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        if fault == "reset":
            writer.transport.abort()
        elif fault == "truncated":
            writer.write(head % (len(whole) + 500) + whole[: len(whole) // 2])
            await writer.drain()
        elif fault == "hang":
            await reader.read(1)  # until the other side goes
        elif fault == "drip":
            writer.write(head % (len(whole) + 100_000) + b" ")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(self.drip_seconds)
        elif fault in ("huge", "huge-500"):
            status = b"200 OK" if fault == "huge" else b"500 Oops"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n\r\n")
            for _ in range(50):
                writer.write(b" " * (1 << 20))
                await writer.drain()
        elif fault == "late-close":  # answers, and closes the connection that it promised to keep
            await self._send(writer, one, 200, self._answer_to(one), {})
        else:
            raise AssertionError(f"no such fault: {fault}")
        return False

    def _is_over_rate(self, now: float) -> bool:
        if self.rate_per_second is None:
            return False
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if len(self._recent) >= self.rate_per_second:
            return True
        self._recent.append(now)
        return False

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        one: Received,
        status: int,
        content: dict[str, Any] | bytes,
        extra: Mapping[str, str],
    ) -> bool:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Date": formatdate(usegmt=True),
        }
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in {**headers, **extra}.items())]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()
        one.is_whole = not writer.is_closing()
        return True
