"""The command `bench collect`: parses, asks, prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, Results, print_json, print_tables
from bench.cli_service import (
    SERVICE_OPTIONS,
    ApiKeyEnv,
    BaseUrl,
    Cache,
    Deadline,
    Device,
    Dtype,
    MaxAttempts,
    MaxConcurrency,
    MaxRequests,
    MaxTokensTotal,
    MaxUsd,
    NoTemperature,
    RateLimit,
    Revision,
    Timeout,
    TokenLimitParameter,
    UsdPerMillionInput,
    UsdPerMillionOutput,
    refuse_given,
    service_of,
)

_SERVICE_OPTIONS = (*SERVICE_OPTIONS, "usd_per_million_input", "usd_per_million_output")
_PROCESS_OPTIONS = ("revision", "dtype", "device")
_ASKING_OPTIONS = (
    "prompts", "out", "results", "mode", "max_tokens", "temperature", "top_p", "with_prompts", "first_sentence",
    "licence", "base_url", "api_key_env", "cache", "dry_run", *_SERVICE_OPTIONS, *_PROCESS_OPTIONS,
)  # fmt: skip
_OPENING_OPTIONS = ("write_prompts", "write_reference")

_OPENINGS = "Prompts from a text, without a model"


def collect(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A name, folder or file as for `bench run`, or what a service calls it.",
            autocompletion=cli_completion.models,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='A prompt a line; in a .jsonl file, {"prompt": "..."} a line.'),
    ] = None,
    n_prompts: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.txt", help="The text to write. Default: texts/<model>.txt in the results folder."),
    ] = None,
    results: Results = Path("results"),
    mode: Annotated[
        Literal["completion", "chat"],
        typer.Option(help="completion: the model continues the prompt. chat: it answers it."),
    ] = "completion",
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 64,
    temperature: Annotated[
        float, typer.Option(help="What the logits are divided by; 0 takes the most probable token each time.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option(help="Draw from the most probable tokens that together have this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the tokens, or the openings.")] = 0,
    with_prompts: Annotated[
        bool, typer.Option("--with-prompts", help="Begin every paragraph with its prompt.")
    ] = False,
    first_sentence: Annotated[
        bool,
        typer.Option("--first-sentence", help="Keep of an answer only what ends the sentence that a prompt began."),
    ] = False,
    licence: Annotated[str, typer.Option(help="Licence of the text, for the record.")] = "unknown",
    openings_of: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Take prompts from a plain-text file, or text-sample: the first 6 words of some of its sentences.",
            autocompletion=cli_completion.texts,
            rich_help_panel=_OPENINGS,
        ),
    ] = None,
    write_prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the openings go.", rich_help_panel=_OPENINGS)
    ] = None,
    write_reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the rest of the same sentences goes.", rich_help_panel=_OPENINGS),
    ] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    max_concurrency: MaxConcurrency = 8,
    rate_limit: RateLimit = None,
    timeout: Timeout = 60.0,
    deadline: Deadline = 180.0,
    max_attempts: MaxAttempts = 6,
    max_requests: MaxRequests = None,
    max_tokens_total: MaxTokensTotal = None,
    max_usd: MaxUsd = None,
    usd_per_million_input: UsdPerMillionInput = None,
    usd_per_million_output: UsdPerMillionOutput = None,
    token_limit_parameter: TokenLimitParameter = "max_tokens",
    no_temperature: NoTemperature = False,
    cache: Cache = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be asked and what it costs at most, and stop.")
    ] = False,
    revision: Revision = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Gather the text that a model writes when it continues prompts, here or over the network.

    Without --base-url and --api-key-env the model is loaded here. What has an answer is never asked again.
    """
    from bench.collect import CollectRequest
    from bench.collect import collect as gather
    from bench.collect import dry_run as plan
    from bench.errors import BenchError, UsageError
    from bench.prompt_files import read_prompts
    from bench.terminal import Bars, remark
    from bench.terminal_collect import plan_tables, text_tables

    if openings_of is not None:
        refuse_given(context, _ASKING_OPTIONS, "has no say with --openings-of, where no model is asked")
        if model is not None:
            raise UsageError(f"--openings-of asks no model; leave {model[:80]!r} out")
        _write_openings(openings_of, n_prompts, seed, write_prompts, write_reference, as_json=as_json)
        return
    refuse_given(context, _OPENING_OPTIONS, "is for --openings-of alone; give a text with it, or leave it out")
    if model is None or prompts is None:
        raise UsageError("expected a model and --prompts FILE, or --openings-of with a text to take prompts from")
    is_service = base_url is not None or api_key_env is not None
    if is_service:
        refuse_given(context, _PROCESS_OPTIONS, "only says how a model is loaded here, not which one a service takes")
    else:
        why = "only says how a service is asked; give --base-url or --api-key-env, or leave it out"
        refuse_given(context, _SERVICE_OPTIONS, why)
    service = service_of(context)
    file = read_prompts(prompts)
    if file.n_repeated:
        remark(f"{prompts}: {file.n_repeated} lines repeat a prompt; each is asked once")
    if n_prompts is not None and n_prompts > len(file.prompts):
        raise UsageError(f"--n-prompts {n_prompts} is more than the {len(file.prompts)} prompts of {prompts}")
    request = CollectRequest(
        model=model,
        prompts=file.prompts[:n_prompts],
        prompts_name=file.name,
        out=out,
        results=results,
        mode=mode,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        with_prompts=with_prompts,
        first_sentence=first_sentence,
        licence=licence,
        service=service if is_service else None,
        cache=cache,
        revision=revision,
        dtype=dtype,
        device=device,
    )
    if dry_run:
        with Bars("prompts") as bars:
            planned = plan(request, bars)
        if as_json:
            counts = {"n_prompts": planned.n_prompts, "n_known": planned.n_known, "path": str(planned.path)}
            print_json(asdict(planned.estimate) | counts)
        else:
            print_tables(plan_tables(planned))
        return
    with Bars("prompts") as bars:
        outcome = gather(request, bars)
    record = outcome.record
    if as_json:
        content = {"path": str(outcome.path), "was_there": outcome.was_there, "record": record.model_dump(mode="json")}
        print_json(content)
    else:
        print_tables(text_tables(record))
    remark(f"{outcome.path}: {'already collected, nothing asked' if outcome.was_there else 'written'}")
    if record.n_failed:
        raise BenchError(
            f"{record.n_failed} of {record.key.n_prompts} prompts failed; the text of the {record.n_answered} others "
            "is written; run the same command to ask them again"
        )


def _write_openings(
    text: str, n_openings: int | None, seed: int, prompts: Path | None, reference: Path | None, *, as_json: bool
) -> None:
    from bench.collect import as_paragraphs, openings
    from bench.errors import UsageError
    from bench.store import write_whole
    from bench.task_names import find_tasks
    from bench.terminal import remark
    from tasks.task import TextTask

    if n_openings is None or prompts is None:
        raise UsageError("--openings-of needs --n-prompts with a number and --write-prompts with a file")
    (task,) = find_tasks([], texts=[text])
    assert isinstance(task, TextTask)
    found = openings(task.sentences, n_openings=n_openings, seed=seed)
    write_whole(prompts, "".join(f"{one.prompt}\n" for one in found).encode())
    if reference is not None:
        write_whole(reference, as_paragraphs([one.continuation for one in found]))
    if as_json:
        print_json({"text": task.name, "licence": task.licence, "openings": [asdict(one) for one in found]})
    for path in (prompts, reference):
        if path is not None:
            remark(f"{path}: {len(found)} from {task.name} (licence: {task.licence})")
