"""The command `bench add`: one model onto the leaderboard, with all that a row needs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, numbers, print_json, print_tables
from bench.cli_service import (
    SERVICE_OPTIONS,
    ApiKeyEnv,
    BaseUrl,
    Deadline,
    Device,
    MaxAttempts,
    MaxConcurrency,
    MaxRequests,
    MaxTokensTotal,
    MaxUsd,
    NoTemperature,
    RateLimit,
    Timeout,
    TokenLimitParameter,
    UsdPerMillionInput,
    UsdPerMillionOutput,
    refuse_given,
    service_of,
)

if TYPE_CHECKING:
    from bench.query import QueryRequest
    from proxies.board import Board
    from proxies.estimating import Estimated

ASK_FROM_SECONDS = 60.0
"""Work that takes longer is agreed to first, where there is someone to ask."""


def add(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A name, folder or file as for `bench run`, or what a service calls it.",
            autocompletion=cli_completion.models,
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done and what it costs, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    board: Annotated[Path, typer.Option(help="The leaderboard to rebuild.")] = Path("leaderboard.md"),
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the leaderboard as one page too.")
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Family held out of the estimate. Default: that of the measured models of this name."),
    ] = None,
    device: Device = "cpu",
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    mode: Annotated[
        Literal["completion", "chat"],
        typer.Option(help="How a service is asked. chat: estimated from models that were asked so, too."),
    ] = "completion",
    shots: Annotated[str, typer.Option(help="Demonstrations in the prompts of a service; 1 and 4 count.")] = "1,4",
    n_queries: Annotated[int, typer.Option(min=1, help="Questions to a service for each task and shots.")] = 100,
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
    as_json: AsJson = False,
) -> None:
    """Put a model on the leaderboard: measure it, ask it, estimate it, and rebuild the leaderboard.

    A model that is loaded here is measured on the ranked lists with all controls, and asked the tasks that make its
    performance. One behind a service (--base-url or --api-key-env) is asked only, and its emergence estimated. Says
    first what is to be done and what it costs. What is on disk is not done again: the same command goes on after a
    kill.
    """
    from bench.errors import BenchError

    is_service = base_url is not None or api_key_env is not None
    if is_service:
        refuse_given(context, ("device",), "only says where a model is loaded, not which one a service takes")
        request = _query_request(context, model, out, mode, shots, n_queries, family)
        failed = _ask(request, dry_run=dry_run, yes=yes, as_json=as_json)
    else:
        why = "only says how a service is asked; give --base-url or --api-key-env, or leave it out"
        refuse_given(context, (*SERVICE_OPTIONS, "mode", "shots", "n_queries"), why)
        refuse_given(context, ("family",), "is for a service; a folder says its family in its bench.json")
        failed = _measure(model, out, dry_run=dry_run, yes=yes, as_json=as_json, device=device)
    if dry_run:
        return
    name = _name(model, is_service)
    estimated = _estimate(name, out, mode, family, is_quiet=as_json)
    shown = _rebuild(out, board, html)
    rows = [row for row in rows_of(shown, name) if is_service == (row["kind"] == "estimated")]
    if as_json:
        print_json({"rows": rows, "estimate": estimated and _as_data(estimated), "failed": failed})
    else:
        _tell(shown, rows)
    if failed:
        raise BenchError(f"not everything was done: {'; '.join(failed)}; run the same command to try again")
    if not rows:
        raise BenchError(f"{name} has no row: {why_no_row(shown, name)}")


def rows_of(board: Board, name: str) -> list[dict[str, Any]]:
    """The rows of a model, for machines."""
    from proxies.leaderboard import rows_as_data

    return [row for row in rows_as_data(board) if row["name"] == name]


def why_no_row(board: Board, name: str) -> str:
    """What the leaderboard says of everything else of that name."""
    reasons = [one.reason for one in board.apart if one.what.startswith(f"{name}, ")]
    return "; ".join(dict.fromkeys(reasons)) or "the reason is above: it was neither measured nor estimated"


def _query_request(
    context: typer.Context,
    model: str,
    out: Path,
    mode: Literal["completion", "chat"],
    shots: str,
    n_queries: int,
    family: str | None,
) -> QueryRequest:
    """What a service is asked: the tasks that its performance and its estimate are from.

    Raises:
        UsageError: the answers would give no estimate.
    """
    from bench.query import QueryRequest
    from bench.task_names import find_tasks
    from proxies.estimating import check_estimable
    from proxies.fitting import FitRequest
    from tasks import PERFORMANCE_TASKS

    asked = numbers("--shots", shots)
    tasks = check_estimable(FitRequest(results=out, mode=mode), family, asked)
    return QueryRequest(
        model=model,
        tasks=find_tasks(tuple(dict.fromkeys((*PERFORMANCE_TASKS, *tasks)))),
        out=out,
        shots=asked,
        n_questions=n_queries,
        mode=mode,
        service=service_of(context),
    )


def _ask(request: QueryRequest, *, dry_run: bool, yes: bool, as_json: bool) -> list[str]:
    """Ask a service what is not answered yet; says what failed."""
    from bench.query import dry_run as plan
    from bench.query import query
    from bench.store import Store
    from bench.terminal import Bars, remark
    from bench.terminal_performance import dry_run_tables, performance_tables
    from proxies.performance_files import write_performance_report

    with Bars("questions") as bars:
        planned = plan(request, bars)
    if not as_json:
        print_tables(dry_run_tables(planned))
    elif dry_run:
        print_json(asdict(planned.estimate) | {"n_questions": planned.n_questions, "n_known": planned.n_known})
    if dry_run:
        return []
    if not planned.estimate.n_requests:
        remark("every question is answered already")
        return []
    _agree(yes, f"Send {planned.estimate.n_requests:,} requests to a service?", must_be_told=True)
    records = []
    with Bars("questions") as bars:
        for outcome in query(request, bars):
            records.append(outcome.record)
    if not as_json:
        print_tables(performance_tables(records))
    n_failed = sum(cell.n_failed for record in records for cell in record.cells)
    write_performance_report(Store(request.out))
    return [f"{n_failed} questions failed"] if n_failed else []


def _measure(model: str, out: Path, *, dry_run: bool, yes: bool, as_json: bool, device: str) -> list[str]:
    """Measure and ask a model that is loaded here, as far as that is not done; says what failed."""
    from bench.catalog import resolve
    from bench.cli_zoo import Work
    from bench.errors import ModelError
    from bench.terminal import Bars, remark
    from bench.terminal_zoo import zoo_tables
    from bench.zoo import BOARD_TASKS, Job, as_data, plan
    from tasks import RANKED_TASKS

    jobs = (
        Job(kind="emergence", model=model, tasks=RANKED_TASKS),
        Job(kind="performance", model=model, tasks=BOARD_TASKS),
    )
    with Bars("models") as bars:
        found = plan(jobs, out, bars)
    problem = next((part.problem for part in found.jobs if part.problem is not None), None)
    if problem is not None:
        raise ModelError(f"{problem}; a model behind a service needs --base-url or --api-key-env")
    entry = resolve(model)
    remark(f"{entry.name}: family {entry.family}, {entry.variant}, {entry.precision}, licence {entry.licence}")
    if not as_json:
        print_tables(zoo_tables(found))
    elif dry_run:
        print_json(as_data(found))
    left_out = {task: reason for part in found.jobs for task, reason in part.left_out}
    for task, reason in left_out.items():
        remark(f"{task}: left out, so that there will be no measured row: {reason}")
    if dry_run or not found.todo:
        return []
    if found.seconds > ASK_FROM_SECONDS or found.n_untimed:
        _agree(yes, "Go on?", must_be_told=False)
    work = Work(out=out, is_quiet=as_json, device=device)
    work.do(found.todo)
    return [f"{one['job']}: {one['reason']}" for one in work.failed]


def _agree(yes: bool, question: str, *, must_be_told: bool) -> None:
    """Ask whoever sits there; with nobody there, work that costs money needs --yes."""
    from bench.errors import UsageError

    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(question, default=True, abort=True, err=True)
    elif must_be_told:
        raise UsageError(f"{question} Nobody is there to be asked; say --yes, or look first with --dry-run")


def _name(model: str, is_service: bool) -> str:
    """What the records call the model."""
    if is_service:
        return model
    from bench.catalog import resolve

    return resolve(model).name


def _estimate(name: str, out: Path, mode: str, family: str | None, *, is_quiet: bool) -> Estimated | None:
    """Estimate the model from its answers, and all others whose fit its records have changed; None if refused."""
    from bench.errors import UsageError
    from bench.store import Store
    from bench.terminal import Bars, remark
    from bench.terminal_estimate import estimate_tables
    from proxies.estimating import estimate_again, estimate_from_performance
    from proxies.fit_report import write_fit_report
    from proxies.fitting import FitRequest

    request, found = FitRequest(results=out, mode=mode), None
    with Bars("fits") as bars:
        try:
            found = estimate_from_performance(request, name, family=family, progress=bars)
        except UsageError as error:
            remark(f"not estimated: {error}")
        again, left = estimate_again(request, bars)
    if found is not None and not is_quiet:
        print_tables(estimate_tables(found.record))
    for one in (*filter(None, (found,)), *again):
        remark(f"{one.path}: {'estimated before, nothing done' if one.was_there else 'written'}")
    for line in left:
        remark(f"not estimated again: {line}")
    for path in write_fit_report(Store(out)):
        remark(f"{path}: written")
    return found


def _rebuild(out: Path, board: Path, html: Path | None) -> Board:
    from bench.cli_leaderboard import write_files
    from bench.store import Store
    from bench.terminal import Bars
    from proxies.board import read_board

    store = Store(out)
    with store.alone():
        with Bars("records") as bars:
            found = read_board(store, bars)
        write_files(found, store, board, html)
    return found


def _tell(board: Board, rows: list[dict[str, Any]]) -> None:
    """The table that the model is in, and its place."""
    from bench.terminal_leaderboard import View, leaderboard_tables

    print_tables(leaderboard_tables(board, View()))
    for row in rows:
        place = "has a row and no rank" if row["rank"] is None else f"has rank {row['rank']}"
        print(f"{row['name']} {place}: {row['kind']}, {row['emergence_bits']:.2f} bits")


def _as_data(found: Estimated) -> dict[str, Any]:
    return {"path": str(found.path), "record": found.record.model_dump(mode="json")}
