"""The HTTP connection under the official client: no redirects, no proxy on this machine, error bodies cut short.

What the environment holds for OpenAI itself is sent to nobody else.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

from bench.api.address import DEFAULT_BASE_URL, is_loopback
from bench.api.retry import Limits

MAX_ERROR_BYTES = 64 << 10
"""The official client reads the body of an error whole before it can be looked at."""

CONNECT_SHARE = 0.9
"""Of the seconds for an attempt: a connection that is not made in time is then known not to have sent anything."""


KEPT_HEADERS = frozenset({"authorization", "host", "content-type", "content-length", "accept", "accept-encoding"})


class _Cut(httpx2.AsyncByteStream):
    """The beginning of a stream."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream, self._left = stream, max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cut_errors(response: httpx2.Response) -> None:
    if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Cut(response.stream, MAX_ERROR_BYTES)


def _without(names: frozenset[str]) -> Callable[[httpx2.Request], Awaitable[None]]:
    async def drop(request: httpx2.Request) -> None:
        for name in names & set(request.headers):
            del request.headers[name]

    return drop


def _headers_of_the_environment() -> frozenset[str]:
    """Names of the headers that the official client adds from OPENAI_CUSTOM_HEADERS."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return frozenset(line.split(":", 1)[0].strip().lower() for line in lines if ":" in line) - KEPT_HEADERS


def http_client(base_url: str, limits: Limits) -> httpx2.AsyncClient:
    """A client for one address."""
    return httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=not is_loopback(httpx2.URL(base_url).host),  # proxies: never for a server on this machine
        timeout=httpx2.Timeout(limits.attempt_seconds, connect=CONNECT_SHARE * limits.attempt_seconds),
        limits=httpx2.Limits(max_connections=limits.max_concurrency, max_keepalive_connections=limits.max_concurrency),
        headers={"Accept-Encoding": "identity"},  # a small answer that unpacks to gigabytes is none
        event_hooks={
            "request": [] if base_url == DEFAULT_BASE_URL else [_without(_headers_of_the_environment())],
            "response": [_cut_errors],
        },
    )
