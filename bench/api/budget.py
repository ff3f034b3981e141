"""Caps on what a run may cost, checked before every request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.api.failures import BudgetReached
from bench.api.retry import Fault
from bench.completions import Reply, Request
from bench.errors import UsageError

BYTES_PER_TOKEN = 3
"""English has about 4 bytes a token, so that this errs on the high side for most text; rare scripts can need more."""

CHAT_TOKENS = 40
"""What a chat template adds around one message, about: a few tokens of form, and in some a short system message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What questions would cost at most, before any is asked.

    Attributes:
        n_prompt_tokens_estimated: counted without a tokenizer, see `prompt_tokens`.
        max_completion_tokens: if every answer is as long as it may be.
        max_usd: None without both prices.
    """

    n_requests: int
    n_prompt_tokens_estimated: int
    max_completion_tokens: int
    max_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one request is reckoned at before it is sent."""

    n_prompt_tokens: int
    max_completion_tokens: int


class Budget:
    """What was spent, what is under way, and what may be.

    Everything under way is reckoned at its worst case, so that the caps are passed only by as much as the server uses
    beyond the estimate for the requests under way.

    Args:
        max_requests: requests sent, every further attempt at a question among them.
        max_tokens_total: tokens of prompts and answers together.
        max_usd: needs both prices.
    """

    def __init__(
        self,
        *,
        max_requests: int | None = None,
        max_tokens_total: int | None = None,
        max_usd: float | None = None,
        usd_per_million_input: float | None = None,
        usd_per_million_output: float | None = None,
    ) -> None:
        """Raises UsageError: a cap that is not above 0, a price that is none, or a cap on money without both prices."""
        for name, cap in (
            ("--max-requests", max_requests),
            ("--max-tokens-total", max_tokens_total),
            ("--max-usd", max_usd),
        ):
            if cap is not None and not 0 < cap < math.inf:
                raise UsageError(f"{name} must be a number above 0, got {cap}; leave it out for no cap")
        prices = {
            "--usd-per-million-input": usd_per_million_input,
            "--usd-per-million-output": usd_per_million_output,
        }
        for name, price in prices.items():
            if price is not None and not 0 <= price < math.inf:
                raise UsageError(f"{name} must be a number from 0 on, got {price}")
        missing = [name for name, price in prices.items() if price is None]
        if max_usd is not None and missing:
            raise UsageError(
                f"--max-usd needs to know what tokens cost: give {' and '.join(missing)} (see the price list of the "
                f"server), or cap with --max-tokens-total instead"
            )
        self.max_requests, self.max_tokens_total, self.max_usd = max_requests, max_tokens_total, max_usd
        self._input_price, self._output_price = usd_per_million_input, usd_per_million_output
        self.n_requests = 0
        self.n_prompt_tokens = 0
        self.n_completion_tokens = 0
        self._under_way: list[Charge] = []

    @property
    def usd(self) -> float | None:
        """Spent so far, what is under way left out; None without both prices."""
        return self._usd(self.n_prompt_tokens, self.n_completion_tokens)

    @property
    def n_under_way(self) -> int:
        """Requests that are reckoned with and have not ended."""
        return len(self._under_way)

    def verdict(self, request: Request) -> Literal["send", "wait", "stop"]:
        """Whether a request may be sent now, perhaps later when what is under way turns out cheaper, or never."""
        if self._fits(request, self._under_way):
            return "send"
        return "wait" if self._under_way and self._fits(request, []) else "stop"

    def reserve(self, request: Request) -> Charge:
        """Reckon one request as under way, at its worst case."""
        charge = Charge(n_prompt_tokens=prompt_tokens(request), max_completion_tokens=request.max_tokens)
        self._under_way.append(charge)
        return charge

    def settle(self, charge: Charge, came: Reply | Fault | None) -> None:
        """A request ended and costs what was reported; the estimate stays where nothing was, or nothing came."""
        self.free(charge)
        prompt, completion = (came.n_prompt_tokens, came.n_completion_tokens) if came else (None, None)
        self.n_prompt_tokens += charge.n_prompt_tokens if prompt is None else prompt
        self.n_completion_tokens += charge.max_completion_tokens if completion is None else completion

    def free(self, charge: Charge) -> None:
        """A request ended and costs no tokens."""
        self.withdraw(charge)
        self.n_requests += 1

    def withdraw(self, charge: Charge) -> None:
        """A request was not sent after all."""
        self._under_way.remove(charge)

    def reached(self, request: Request) -> BudgetReached:
        """The error for a request that does not fit; call it when nothing is under way any more."""
        spent = [f"{self.n_requests} requests" + _of(self.max_requests)]
        spent.append(f"{self.n_prompt_tokens + self.n_completion_tokens} tokens" + _of(self.max_tokens_total))
        if self.usd is not None:
            spent.append(f"{self.usd:.4f} USD" + _of(self.max_usd))
        needed = f"{prompt_tokens(request)} + {request.max_tokens} tokens"
        price = self._usd(prompt_tokens(request), request.max_tokens)
        if price is not None:
            needed += f", {price:.4f} USD"
        return BudgetReached(
            f"the next question needs 1 request and up to {needed}, which does not fit: spent {', '.join(spent)}; "
            f"raise --max-requests, --max-tokens-total or --max-usd and run the same command again: "
            f"what was answered is kept"
        )

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What asking each question once costs at most; further attempts come on top."""
        n_prompt, n_completion = sum(map(prompt_tokens, requests)), sum(request.max_tokens for request in requests)
        return Estimate(
            n_requests=len(requests),
            n_prompt_tokens_estimated=n_prompt,
            max_completion_tokens=n_completion,
            max_usd=self._usd(n_prompt, n_completion),
        )

    def _fits(self, request: Request, under_way: Sequence[Charge]) -> bool:
        n_prompt = self.n_prompt_tokens + sum(charge.n_prompt_tokens for charge in under_way) + prompt_tokens(request)
        n_completion = (
            self.n_completion_tokens + sum(charge.max_completion_tokens for charge in under_way) + request.max_tokens
        )
        if self.max_requests is not None and self.n_requests + len(under_way) + 1 > self.max_requests:
            return False
        if self.max_tokens_total is not None and n_prompt + n_completion > self.max_tokens_total:
            return False
        usd = self._usd(n_prompt, n_completion)
        return self.max_usd is None or usd is None or usd <= self.max_usd + 1e-12  # rounding of sums of prices

    def _usd(self, n_prompt: int, n_completion: int) -> float | None:
        if self._input_price is None or self._output_price is None:
            return None
        return (n_prompt * self._input_price + n_completion * self._output_price) / 1e6


def prompt_tokens(request: Request) -> int:
    """About how many tokens a prompt has: a third of its bytes, which is rather too many for most text.

    A chat template may add more than CHAT_TOKENS, where it brings a long system message of its own.
    """
    n_bytes = len(request.prompt.encode("utf-8", "surrogatepass"))
    return max(1, math.ceil(n_bytes / BYTES_PER_TOKEN)) + (CHAT_TOKENS if request.mode == "chat" else 0)


def _of(cap: float | None) -> str:
    return "" if cap is None else f" of {cap:g}" if isinstance(cap, float) else f" of {cap}"
