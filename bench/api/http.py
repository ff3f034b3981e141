"""The HTTP connection under the official client: no redirects, no proxy on this machine, error bodies cut short."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from bench.api.address import is_loopback
from bench.api.retry import Limits

MAX_ERROR_BYTES = 64 << 10
"""The official client reads the body of an error whole before it can be looked at."""

CONNECT_SHARE = 0.9
"""Of the seconds for an attempt: a connection that is not made in time is then known not to have sent anything."""


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


def http_client(base_url: str, limits: Limits) -> httpx2.AsyncClient:
    """A client for one address."""
    return httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=not is_loopback(httpx2.URL(base_url).host),  # proxies: never for a server on this machine
        timeout=httpx2.Timeout(limits.attempt_seconds, connect=CONNECT_SHARE * limits.attempt_seconds),
        limits=httpx2.Limits(max_connections=limits.max_concurrency, max_keepalive_connections=limits.max_concurrency),
        headers={"Accept-Encoding": "identity"},  # a small answer that unpacks to gigabytes is none
        event_hooks={"response": [_cut_errors]},
    )
