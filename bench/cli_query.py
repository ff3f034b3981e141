"""The command `bench query`: parses, asks, prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, TaskFiles, Tasks, numbers, print_json, print_tables, task_names
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

_PROCESS_OPTIONS = ("revision", "dtype", "device")
_QUESTION_OPTIONS = ("shots", "n_queries", "mode", "seed", "max_tokens", "base_url", "api_key_env", "cache")
_OF_PROCESS = ("only says how a service is asked; give --base-url or --api-key-env, or leave it out", SERVICE_OPTIONS)
_OF_SERVICE = ("only says how a model is loaded here, not which one a service takes", _PROCESS_OPTIONS)
_OF_REPLAY = (
    "has no say in a replay, where the file decides",
    (*_QUESTION_OPTIONS, *_PROCESS_OPTIONS, *SERVICE_OPTIONS),
)


_INSTEAD = "Instead of asking"


def query(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A name, folder or file as for `bench run`, or what a service calls it.",
            autocompletion=cli_completion.models,
        ),
    ],
    tasks: Tasks = None,
    task_file: TaskFiles = None,
    shots: Annotated[str, typer.Option(help="Numbers of demonstrations, separated by commas.")] = "0,1,2,4,8",
    n_queries: Annotated[int, typer.Option(min=1, help="Questions for each task and number of shots.")] = 100,
    mode: Annotated[
        Literal["completion", "chat"],
        typer.Option(
            help="completion: the model continues the prompt. chat: it answers it. Two different measurements."
        ),
    ] = "completion",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws questions and demonstrations.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of an answer. Default: 16, in chat mode 24.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
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
        bool,
        typer.Option(
            "--dry-run", help="Print what would be asked and what it costs at most, and stop.", rich_help_panel=_INSTEAD
        ),
    ] = False,
    write_prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the questions for another program to answer, and stop.",
            rich_help_panel=_INSTEAD,
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Score replies that another program has fetched.", rich_help_panel=_INSTEAD),
    ] = None,
    revision: Revision = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Ask a model the questions of tasks, here or over the network, and write its accuracy over shots.

    Without --base-url and --api-key-env the model is loaded here. What has an answer is never asked again.
    """
    from bench.errors import BenchError
    from bench.query import QueryOutcome, QueryRequest, unanswered_samples
    from bench.query import dry_run as plan
    from bench.query import query as ask
    from bench.store import Store
    from bench.task_names import find_tasks
    from bench.terminal import Bars, remark
    from bench.terminal_performance import dry_run_tables, performance_tables

    why, names = _OF_REPLAY if replay else _OF_SERVICE if base_url or api_key_env else _OF_PROCESS
    refuse_given(context, names, why)
    asked = service_of(context)  # its caps are looked at even where they have no say
    service = asked if base_url is not None or api_key_env is not None else None
    request = QueryRequest(
        model=model,
        tasks=find_tasks(task_names(tasks, "all", task_file), files=task_file or ()),
        out=out,
        shots=numbers("--shots", shots),
        n_questions=n_queries,
        mode=mode,
        max_tokens=max_tokens,
        seed=seed,
        service=service,
        cache=cache,
        revision=revision,
        dtype=dtype,
        device=device,
    )
    if write_prompts is not None:
        from bench.performance import as_lines
        from bench.store import write_whole

        samples = unanswered_samples(request)
        write_whole(write_prompts, as_lines(samples))
        remark(f'{write_prompts}: {len(samples)} questions; put a "reply" into each line, then --replay the file')
        return
    if dry_run:
        with Bars("questions") as bars:
            planned = plan(request, bars)
        if as_json:
            print_json(asdict(planned.estimate) | {"n_questions": planned.n_questions, "n_known": planned.n_known})
        else:
            print_tables(dry_run_tables(planned))
        return
    outcomes: list[QueryOutcome] = []
    try:
        if replay is not None:
            from bench.replay import replay as score_again

            outcomes += score_again(replay, model=model, tasks={task.name: task for task in request.tasks}, out=out)
        else:
            with Bars("questions") as bars:
                for outcome in ask(request, bars):
                    outcomes.append(outcome)
    finally:  # what was answered before a cap or a failing service
        records = [outcome.record for outcome in outcomes]
        if as_json:
            print_json(
                [
                    {"path": str(one.path), "was_there": one.was_there, "record": one.record.model_dump(mode="json")}
                    for one in outcomes
                ]
            )
        elif outcomes:
            print_tables(performance_tables(records))
        for outcome in outcomes:
            remark(f"{outcome.path}: {'already answered, nothing done' if outcome.was_there else 'written'}")
    from proxies.performance_files import write_performance_report  # here, because it takes a while

    for path in write_performance_report(Store(out)):
        remark(f"{path}: written")
    n_failed = sum(cell.n_failed for record in records for cell in record.cells)
    if n_failed:
        again = "" if replay else "; run the same command to ask them again"
        raise BenchError(f"{n_failed} questions failed and count as failed{again}")
