"""A model behind an OpenAI-compatible server, asked with the official client."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.api.address import DEFAULT_BASE_URL, checked_base_url
from bench.api.asking import Asker, Found, Keep, LookAgain
from bench.api.background import Outlet, in_background
from bench.api.breaker import Breaker
from bench.api.budget import Budget
from bench.api.pace import FIRST_PAUSE_SECONDS, Pacer
from bench.api.redaction import Redactor, install_filter
from bench.api.replies import MAX_REPLY_BYTES, InvalidReply, NoText, parsed
from bench.api.retry import Fault, Limits, excerpt, fault_of_status
from bench.api.secret import Secret
from bench.completions import Failure, Reply, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "no-key"
"""What is sent as the key to a server that wants none; the client refuses to send nothing."""


class ApiCompleter:
    """Asks one model behind one address.

    Args:
        base_url: None for OpenAI's own; see `checked_base_url`.
        key: None for a server that wants none.
        budget: counts over all calls of `complete`.
        on_wait: told, in one line each, when the server asks to wait.
        look_again: asked right before every request for an answer that came to be known meanwhile. It is called in
            another thread than `complete`.
        keep: told of every reply as soon as it is there, in that other thread too, even when nobody reads on; the reply
            that it returns is the one that counts.
        token_limit_parameter: how a chat server wants the limit on tokens called.
        send_temperature: False for models that take no temperature.
        seed: of the waits between attempts.
    """

    def __init__(
        self,
        *,
        model: str,
        key: Secret | None,
        base_url: str | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        on_wait: Callable[[str], None] | None = None,
        look_again: LookAgain | None = None,
        keep: Keep | None = None,
        token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        send_temperature: bool = True,
        seed: int = 0,
    ) -> None:
        """Raises UsageError: the address is none, or none that a key may be sent to."""
        self.model = model
        self.base_url = checked_base_url(base_url, key)
        self.budget = budget or Budget()
        self.redact = Redactor(() if key is None else (key,))
        self._key = key
        self._limits = limits or Limits()
        self._pacer = Pacer(
            self._limits.rate_per_second, pause_seconds=min(FIRST_PAUSE_SECONDS, 2.0 * self._limits.backoff_seconds)
        )
        self._on_wait = on_wait or (lambda _: None)
        self._look_again, self._keep = look_again, keep
        self._breaker = Breaker()
        self._token_limit_parameter, self._send_temperature = token_limit_parameter, send_temperature
        self._rng = random.Random(seed)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Completer`.

        Raises:
            ServiceError: no further question could be answered.
            BudgetReached: the next one does not fit under a cap.
        """
        if not requests:
            return
        import openai  # noqa: F401 (it sets up its log when it is imported, which the filter below has to find)

        async def work(outlet: Outlet[Found]) -> None:
            async with self._client() as client:
                asker = Asker(
                    send=lambda request: self._asked(client, request),
                    limits=self._limits,
                    pacer=self._pacer,
                    budget=self.budget,
                    rng=self._rng,
                    breaker=self._breaker,
                    look_again=self._look_again,
                    keep=self._keep,
                )
                await asker.run(requests, outlet)

        undo = install_filter(self.redact)
        answers = in_background(work, name="bench-api")
        try:
            for found in answers:
                if isinstance(found, str):
                    self._on_wait(found)
                else:
                    yield found
        finally:
            answers.close()
            undo()

    def note_answered(self) -> None:
        """A question about this model has an answer that was not asked for here: the model does answer."""
        self._breaker.note_answered()

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI

        from bench.api.http import http_client

        key = NO_KEY if self._key is None else self._key.reveal()
        client = AsyncOpenAI(
            api_key=key,
            admin_api_key="",  # not from the environment
            default_headers={"Authorization": f"Bearer {key}"},  # nor this one from OPENAI_CUSTOM_HEADERS
            base_url=self.base_url,
            max_retries=0,
            http_client=http_client(self.base_url, self._limits),
        )
        if self.base_url != DEFAULT_BASE_URL:  # OPENAI_ORG_ID and the like are nobody else's business
            client.organization = client.project = None
        return client

    async def _asked(self, client: AsyncOpenAI, request: Request) -> Reply | Fault:
        """One attempt; nothing of the key is left in what it returns."""
        came = await self._attempt(client, request)
        if isinstance(came, Fault):
            return dataclasses.replace(came, message=self.redact(came.message))
        return came

    async def _attempt(self, client: AsyncOpenAI, request: Request) -> Reply | Fault:
        import httpx2
        import openai

        body = b""
        try:
            body = await self._body(client, request)
            return parsed(body, request.mode, self.redact)
        except NoText as error:
            return dataclasses.replace(_unusable("no text", str(error), error), is_retryable=False)
        except InvalidReply as error:
            sent = f"; the server sent: {excerpt(self._readable(body))}" if body else ""
            return _unusable("invalid reply", f"{error}{sent}", error)
        except openai.APIStatusError as error:
            answer = error.response
            headers = {name.lower(): self.redact(value) for name, value in answer.headers.items()}
            return fault_of_status(answer.status_code, headers, self._readable(answer.content).encode())
        except openai.APIConnectionError as error:  # timeouts of the connection included
            return _connection_fault(error.__cause__ or error)
        except httpx2.HTTPError as error:
            return _connection_fault(error)
        except UnicodeEncodeError:
            message = "the prompt holds half a surrogate pair, which no request can carry"
            return dataclasses.replace(_fault("bad request", message, may_be_billed=False), is_retryable=False)

    async def _body(self, client: AsyncOpenAI, request: Request) -> bytes:
        async with self._created(client, request) as response:
            body = bytearray()
            announced = response.headers.get("content-length", "")
            is_too_large = announced.isdecimal() and int(announced[:20]) > MAX_REPLY_BYTES
            if not is_too_large:
                async for chunk in response.iter_bytes():
                    body += chunk
                    is_too_large = len(body) > MAX_REPLY_BYTES
                    if is_too_large:
                        break
            if is_too_large:
                raise InvalidReply(f"larger than {MAX_REPLY_BYTES >> 20} MB, which no answer is")
            return bytes(body)

    def _created(self, client: AsyncOpenAI, request: Request) -> contextlib.AbstractAsyncContextManager[Any]:
        parameters: dict[str, Any] = {"model": self.model}
        sampling = request.sampling
        if self._send_temperature:
            parameters["temperature"] = 0.0 if sampling is None else sampling.temperature
        if sampling is not None:
            parameters["seed"] = sampling.seed
            if self._send_temperature and sampling.top_p < 1:  # who refuses the one refuses the other
                parameters["top_p"] = sampling.top_p
        if request.mode == "chat":
            messages = [{"role": "user", "content": request.prompt}]
            parameters |= {"messages": messages, self._token_limit_parameter: request.max_tokens}
            return client.chat.completions.with_streaming_response.create(**parameters)
        parameters |= {"prompt": request.prompt, "max_tokens": request.max_tokens}
        if request.stop:
            parameters["stop"] = list(request.stop)
        return client.completions.with_streaming_response.create(**parameters)

    def _readable(self, body: bytes) -> str:
        """Redacted before it is cut, lest half a key be left."""
        return self.redact(body.decode("utf-8", "replace"))


def _fault(kind: Literal["connection", "bad request"], message: str, *, may_be_billed: bool) -> Fault:
    return Fault(kind=kind, message=message, is_retryable=True, may_be_billed=may_be_billed)


def _unusable(kind: Literal["invalid reply", "no text"], message: str, error: InvalidReply) -> Fault:
    return Fault(
        kind=kind,
        message=message,
        is_retryable=True,
        may_be_billed=True,
        n_prompt_tokens=error.n_prompt_tokens,
        n_completion_tokens=error.n_completion_tokens,
    )


def _connection_fault(error: BaseException) -> Fault:
    import httpx2

    never_sent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
    what = "no connection" if never_sent else "the connection broke off"
    words = excerpt(str(error)) or type(error).__name__
    return _fault("connection", f"{what}: {words}", may_be_billed=not never_sent)
