"""Options of the commands that ask a model, here or over the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bench.answering import Service

SERVICE, BUDGET, HERE = "A service", "What this run may cost", "A model that is loaded here"
"""Headings in the help."""

BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Ask a service: its address up to the version, as https://api.openai.com/v1.", rich_help_panel=SERVICE
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="VAR", help="Ask a service: the environment variable that holds the key.", rich_help_panel=SERVICE
    ),
]
MaxConcurrency = Annotated[int, typer.Option(min=1, help="Requests under way at a time.", rich_help_panel=SERVICE)]
RateLimit = Annotated[float | None, typer.Option(help="Requests a second at most.", rich_help_panel=SERVICE)]
Timeout = Annotated[float, typer.Option(help="Seconds for one attempt, to its last byte.", rich_help_panel=SERVICE)]
Deadline = Annotated[
    float, typer.Option(help="Seconds for one request, all its attempts included.", rich_help_panel=SERVICE)
]
MaxAttempts = Annotated[int, typer.Option(min=1, help="Attempts at one request.", rich_help_panel=SERVICE)]
MaxRequests = Annotated[int | None, typer.Option(help="Stop this run before more requests.", rich_help_panel=BUDGET)]
MaxTokensTotal = Annotated[
    int | None, typer.Option(help="Stop this run before more tokens, prompts and answers.", rich_help_panel=BUDGET)
]
MaxUsd = Annotated[
    float | None, typer.Option(help="Stop this run before it costs more; needs prices.", rich_help_panel=BUDGET)
]
UsdPerMillionInput = Annotated[
    float | None, typer.Option(help="Price of a million prompt tokens.", rich_help_panel=BUDGET)
]
UsdPerMillionOutput = Annotated[
    float | None, typer.Option(help="Price of a million answer tokens.", rich_help_panel=BUDGET)
]
TokenLimitParameter = Annotated[
    Literal["max_tokens", "max_completion_tokens"],
    typer.Option(help="What the service calls the limit.", rich_help_panel=SERVICE),
]
NoTemperature = Annotated[
    bool,
    typer.Option("--no-temperature", help="Send no temperature, for models that refuse one.", rich_help_panel=SERVICE),
]
Cache = Annotated[Path | None, typer.Option(help="File with all replies. Default: in the results folder.")]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.", rich_help_panel=HERE)]
Dtype = Annotated[
    Literal["float32", "bfloat16"], typer.Option(help="Arithmetic: float32 or bfloat16.", rich_help_panel=HERE)
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...", rich_help_panel=HERE)]


_KEY_OPTION = "--api-key-env"

SERVICE_OPTIONS = (
    "max_concurrency", "rate_limit", "timeout", "deadline", "max_attempts", "max_requests", "max_tokens_total",
    "max_usd", "token_limit_parameter", "no_temperature",
)  # fmt: skip
"""Names of the options that say how a service is asked."""


def refuse_given(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that would be passed over in silence."""
    from bench.errors import UsageError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} {why}")


def service_of(context: typer.Context) -> Service:
    """The service that the options of a command describe; its budget holds for a model that is loaded here too."""
    from bench.answering import Service
    from bench.api.budget import Budget
    from bench.api.retry import Limits

    given = context.params
    return Service(
        base_url=given["base_url"],
        key_variable=given["api_key_env"],
        limits=Limits(
            max_attempts=given["max_attempts"],
            attempt_seconds=given["timeout"],
            total_seconds=given["deadline"],
            max_concurrency=given["max_concurrency"],
            rate_per_second=given["rate_limit"],
        ),
        budget=Budget(
            max_requests=given["max_requests"],
            max_tokens_total=given["max_tokens_total"],
            max_usd=given["max_usd"],
            usd_per_million_input=given["usd_per_million_input"],
            usd_per_million_output=given["usd_per_million_output"],
        ),
        token_limit_parameter=given["token_limit_parameter"],
        send_temperature=not given["no_temperature"],
    )


def guard_keys(arguments: Sequence[str]) -> Callable[[], None]:
    """Keep the keys that --api-key-env names out of all that this process shows; returns what undoes it.

    Raises:
        UsageError: a key was given as an argument too, which would go into records, file names and messages.
    """
    following = (after for name, after in pairwise(arguments) if name == _KEY_OPTION)
    joined = (one.removeprefix(f"{_KEY_OPTION}=") for one in arguments if one.startswith(f"{_KEY_OPTION}="))
    values = {os.environ.get(variable, "").strip() for variable in (*following, *joined)} - {""}
    if not values:
        return lambda: None
    from bench.api.redaction import Redactor, holds, install
    from bench.api.secret import MIN_CHARACTERS, Secret
    from bench.errors import UsageError

    # others are refused when they are read
    keys = [Secret(value) for value in values if len(value) >= MIN_CHARACTERS and value.isascii()]
    for number, argument in enumerate(arguments, start=1):
        if any(holds(argument, key) for key in keys):
            raise UsageError(
                f"argument {number} holds the key, which belongs into the environment variable alone; it is not "
                f"repeated here. A server that wants no key needs no {_KEY_OPTION}"
            )
    return install(Redactor(keys))
