"""The command line: parses, calls one library function, prints. Data goes to stdout, progress and remarks to stderr.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated. Heavy imports are inside the commands:
`bench --help` must answer at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    name="bench",
    help="Emergence of language models: measured, and predicted from small ones.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="List the named models; fetch their weights.", invoke_without_command=True)
tasks_app = typer.Typer(help="List the tasks; show one; check a file of your own.", invoke_without_command=True)
app.add_typer(models_app, name="models")
app.add_typer(tasks_app, name="tasks")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]
Tasks = Annotated[
    str | None,
    typer.Option(
        help="Tasks, separated by commas; lists, pairs or all for every shipped one. See `bench tasks`.",
    ),
]
TaskFiles = Annotated[
    list[Path] | None, typer.Option("--task-file", metavar="FILE", help="A task of your own, as JSON; repeatable.")
]
RANKED = "country,animal,colour"
Results = Annotated[Path, typer.Option("--results", help="Folder with the records.")]


@app.callback(invoke_without_command=True)
def bench(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Emergence of language models: measured, and predicted from small ones."""
    if version:
        print(f"bench {__version__}")
        raise typer.Exit


@app.command()
def run(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Names (see `bench models`), folders, .gguf files or hub ids."),
    ],
    tasks: Tasks = None,
    task_file: TaskFiles = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Measure on a plain-text file, or on text-sample, openorca or openhermes; repeatable."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick: 12 names, 4 shots (pairs: 3). paper: the sizes of arXiv 2405.12617.")
    ] = "quick",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Draws names, random words, the twin's weights and the noise.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    estimator: Annotated[
        str | None,
        typer.Option(
            help="Estimator of mutual information. Default: noisy_channel for lists and pairs, crossfit_nce for texts."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A setting of the estimator; may be repeated. Tuples: numbers with commas."
        ),
    ] = None,
    n_names: Annotated[
        int | None, typer.Option(help="Names, pairs, or windows of a text, instead of the preset's.")
    ] = None,
    n_shots: Annotated[
        int | None, typer.Option(help="Demonstrations, or tokens of a window, instead of the preset's.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Measure only this many lists. For trying things out: never ranked.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Arithmetic: float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    bos: Annotated[
        Literal["tokenizer", "none"],
        typer.Option(help="tokenizer: a begin-of-sequence token where the tokenizer adds one. none: never."),
    ] = "tokenizer",
    memory_gb: Annotated[
        float,
        typer.Option(
            min=0.1, max=1e6, help="Memory for the states of a population; beyond it a temporary file is used."
        ),
    ] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Measure the emergence of models on tasks, with all controls, and write one record each."""
    from bench.request import RunRequest, split_setting
    from bench.run import run as run_all
    from bench.task_names import find_tasks
    from bench.terminal import Bars, emergence_tables, remark, without_emergence

    request = RunRequest(
        models=tuple(models),
        tasks=find_tasks(_task_names(tasks, RANKED, task_file or text), files=task_file or (), texts=text or ()),
        out=out,
        preset=preset,
        n_names=n_names,
        n_shots=n_shots,
        limit=limit,
        estimator=estimator,
        settings=tuple(map(split_setting, setting or ())),
        seed=seed,
        revision=revision,
        dtype=dtype,
        device=device,
        bos=bos,
        memory_bytes=int(memory_gb * (1 << 30)),
    )
    with Bars() as bars:
        outcomes = run_all(request, bars)
    if as_json:
        _print_json(
            [
                {
                    "path": str(outcome.path),
                    "was_there": outcome.was_there,
                    "record": outcome.record.model_dump(mode="json"),
                }
                for outcome in outcomes
            ]
        )
    else:
        _print_tables(emergence_tables([outcome.record for outcome in outcomes]))
    for outcome in outcomes:
        remark(f"{outcome.path}: {'already measured, nothing done' if outcome.was_there else 'written'}")
    for line in without_emergence([outcome.record for outcome in outcomes]):
        remark(line)


@app.command()
def calibrate(
    estimator: Annotated[
        list[str] | None, typer.Option(help="An estimator to calibrate; may be given several times. Default: all.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="cases: estimates beside known truths. coverage: of the intervals. cost: beside the paper's."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small problems only: a minute or two, no model.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the data and whatever estimators draw.")] = 0,
    model: Annotated[str, typer.Option(help="Model whose activations are used.")] = "smollm2-135m-instruct",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...: where the estimators compute.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Put the estimators to problems whose mutual information is known, and print how far off they are.

    Writes a record a case, and a report and a picture over all records beside them. What is on disk is not done again.
    """
    from bench.calibration.run import CalibrateRequest, calibrate
    from bench.store import Store
    from bench.terminal import Bars, remark
    from proxies.calibration import rows_as_data, tables
    from proxies.calibration_files import write_calibration_report

    out = out / "quick" if quick else out  # not among the records that reports are made of
    defaults = CalibrateRequest(out=out)
    request = CalibrateRequest(
        out=out,
        estimators=tuple(estimator) if estimator else defaults.estimators,
        parts=tuple(part) if part else defaults.parts,
        is_quick=quick,
        seed=seed,
        device=device,
        model=model,
    )
    with Bars("estimates") as bars:
        found = calibrate(request, bars)
    if as_json:
        _print_json(rows_as_data(found.cases, found.coverage, found.cost))
    else:
        _print_tables(tables(found.cases, found.coverage, found.cost))
    for path in write_calibration_report(Store(out)):
        remark(f"{path}: written")


@models_app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the named models."""
    if context.invoked_subcommand is not None:
        return
    from bench.catalog import CATALOG, described
    from bench.terminal import models_table

    if as_json:
        _print_json([described(entry) for entry in CATALOG.values()])
    else:
        _print_tables([models_table(CATALOG.values())])


@models_app.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="A name of the catalog, or a hub id.")],
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download the weights of a model and convert them if need be; prints the local folder."""
    from bench.catalog import resolve
    from bench.fetch import fetch
    from bench.terminal import remark

    folder = fetch(resolve(name, revision), remark)
    if as_json:
        _print_json({"name": name, "folder": str(folder)})
    else:
        print(folder)


@tasks_app.callback()
def tasks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tasks."""
    if context.invoked_subcommand is not None:
        return
    from bench.terminal_tasks import task_as_data, tasks_table
    from tasks import TASKS, load_task

    loaded = [load_task(name) for name in TASKS]
    if as_json:
        _print_json([task_as_data(task) for task in loaded])
    else:
        _print_tables([tasks_table(loaded)])


@tasks_app.command("show")
def tasks_show(
    name: Annotated[str, typer.Argument(help="Name of a task, or a task file.")],
    model: Annotated[str | None, typer.Option(help="Show which items survive under this model's tokenizer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a task: its template, its items, and which of them a model's tokenizer keeps."""
    from bench.errors import UsageError
    from bench.task_names import find_tasks
    from bench.terminal_tasks import task_as_data, task_tables
    from tasks.task import TextTask

    is_file = name.endswith(".json") or "/" in name
    (task,) = find_tasks([] if is_file else [name], files=[Path(name)] if is_file else [])
    pool = None
    if model is not None:
        from bench.run import aligned_pool

        if isinstance(task, TextTask):
            raise UsageError(f"{name} is a text, of which every window is aligned; leave out --model")
        pool = aligned_pool(task, model)
    if as_json:
        content = task_as_data(task)
        if pool is not None:
            content |= {"model": model, "survivors": list(pool.names), "rejected": list(pool.rejected)}
            content |= {"tokens": list(pool.shape)}
        _print_json(content)
    else:
        _print_tables(task_tables(task, model, pool))


@tasks_app.command("check")
def tasks_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Task files.")], as_json: AsJson = False
) -> None:
    """Say what is wrong with a task file, with line and key; exit status 1 if anything is."""
    from bench.terminal import remark
    from tasks.check import check_file

    found = {str(path): check_file(path) for path in files}
    if as_json:
        _print_json({path: [asdict(problem) for problem in problems] for path, problems in found.items()})
    for path, problems in found.items():
        errors = sum(problem.severity == "error" for problem in problems)
        if not as_json:
            for problem in problems:
                print(f"{path}:{problem}")
        counts = f"{errors} errors, {len(problems) - errors} warnings" if problems else "no problems"
        remark(f"{path}: {counts}")
    if any(problem.severity == "error" for problems in found.values() for problem in problems):
        raise typer.Exit(1)


@app.command()
def query(
    model: Annotated[
        str, typer.Argument(help="A name, folder or file as for `bench run`, or what a service calls it.")
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
    base_url: Annotated[
        str | None, typer.Option(help="Ask a service: its address up to the version, as https://api.openai.com/v1.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Ask a service: the environment variable that holds the key.")
    ] = None,
    max_concurrency: Annotated[int, typer.Option(min=1, help="Questions under way at a time.")] = 8,
    rate_limit: Annotated[float | None, typer.Option(help="Requests a second at most.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one attempt, to its last byte.")] = 60.0,
    deadline: Annotated[float, typer.Option(help="Seconds for one question, all its attempts included.")] = 180.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="Attempts at one question.")] = 6,
    max_requests: Annotated[int | None, typer.Option(help="Stop before more requests than this.")] = None,
    max_tokens_total: Annotated[int | None, typer.Option(help="Stop before more tokens than this.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Stop before it costs more; needs both prices.")] = None,
    usd_per_million_input: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")] = None,
    usd_per_million_output: Annotated[float | None, typer.Option(help="Price of a million answer tokens.")] = None,
    token_limit_parameter: Annotated[
        Literal["max_tokens", "max_completion_tokens"], typer.Option(help="What the service calls the limit.")
    ] = "max_tokens",
    no_temperature: Annotated[
        bool, typer.Option("--no-temperature", help="Send no temperature, for models that refuse one.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="File with all replies. Default: in the results folder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be asked and what it costs at most, and stop.")
    ] = False,
    write_prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the questions for another program to answer, and stop.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Score replies that another program has fetched.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Arithmetic: float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Ask a model the questions of tasks, here or over the network, and write its accuracy over shots.

    Without --base-url and --api-key-env the model is loaded here. What has an answer is never asked again.
    """
    from bench.api.budget import Budget
    from bench.api.retry import Limits
    from bench.errors import BenchError, UsageError
    from bench.query import QueryOutcome, QueryRequest, Service, unanswered_samples
    from bench.query import dry_run as plan
    from bench.query import query as ask
    from bench.store import Store
    from bench.task_names import find_tasks
    from bench.terminal import Bars, remark
    from bench.terminal_performance import dry_run_tables, performance_tables

    service = None
    budget = Budget(
        max_requests=max_requests,
        max_tokens_total=max_tokens_total,
        max_usd=max_usd,
        usd_per_million_input=usd_per_million_input,
        usd_per_million_output=usd_per_million_output,
    )
    if base_url is not None or api_key_env is not None:
        service = Service(
            base_url=base_url,
            key_variable=api_key_env,
            limits=Limits(
                max_attempts=max_attempts,
                attempt_seconds=timeout,
                total_seconds=deadline,
                max_concurrency=max_concurrency,
                rate_per_second=rate_limit,
            ),
            budget=budget,
            token_limit_parameter=token_limit_parameter,
            send_temperature=not no_temperature,
        )
    elif max_requests or max_tokens_total or max_usd:
        raise UsageError("caps are for services: give --base-url or --api-key-env, or leave the caps out")
    request = QueryRequest(
        model=model,
        tasks=find_tasks(_task_names(tasks, "all", task_file), files=task_file or ()),
        out=out,
        shots=_numbers("--shots", shots),
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
            _print_json(asdict(planned.estimate) | {"n_questions": planned.n_questions, "n_cached": planned.n_cached})
        else:
            _print_tables(dry_run_tables(planned))
        return
    if api_key_env is not None:
        from bench.api.redaction import Redactor, install_excepthook
        from bench.api.secret import read_key

        install_excepthook(Redactor((read_key(api_key_env),)))
    outcomes: list[QueryOutcome] = []
    try:
        if replay is not None:
            from bench.replay import replay as score_again

            outcomes += score_again(replay, model=model, tasks={task.name: task for task in request.tasks}, out=out)
        else:
            with Bars("questions") as bars:
                outcomes.extend(ask(request, bars))
    finally:  # what was answered before a cap or a failing service
        records = [outcome.record for outcome in outcomes]
        if as_json:
            _print_json(
                [
                    {"path": str(one.path), "was_there": one.was_there, "record": one.record.model_dump(mode="json")}
                    for one in outcomes
                ]
            )
        elif outcomes:
            _print_tables(performance_tables(records))
        for outcome in outcomes:
            remark(f"{outcome.path}: {'already answered, nothing done' if outcome.was_there else 'written'}")
    from proxies.performance_files import write_performance_report  # here, because it takes a while

    for path in write_performance_report(Store(out)):
        remark(f"{path}: written")
    n_failed = sum(cell.n_failed for record in records for cell in record.cells)
    if n_failed:
        raise BenchError(f"{n_failed} questions failed and count as failed; run the same command to ask them again")


@app.command()
def leaderboard(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the file is not what the records give.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild leaderboard.md from the records."""
    from bench.errors import BenchError, UsageError
    from bench.store import Store, write_whole
    from bench.terminal import remark
    from proxies.leaderboard import render, rows_as_data

    if not results.is_dir():
        raise UsageError(
            f"there is no results folder {results}; run `bench run MODEL` first, or name one with --results"
        )
    stored, rejected = Store(results).records()
    text = render(stored, rejected, results=os.path.relpath(results, out.parent).replace(os.sep, "/")).encode()
    for file in rejected:
        remark(f"left out: {file.path}: {file.reason}")
    if check:
        current = out.read_bytes() if out.is_file() else b""
        if current != text:
            raise BenchError(f"{out} is not what the records in {results} give; rebuild it with `bench leaderboard`")
    else:
        write_whole(out, text)
    if as_json:
        _print_json(rows_as_data(stored))
    else:
        print(f"{out}: {'up to date' if check else 'written'}, {len(stored)} records")


class _Interrupted(BaseException):
    """A signal asked the process to end; not an Exception, so that nothing on the way takes it for a failure."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns a deliberate error into one line and its exit status."""
    from bench.errors import BenchError

    usual = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        app(args=None if arguments is None else list(arguments))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except _Interrupted as interruption:
        print("bench: interrupted; the same command goes on from here", file=sys.stderr, flush=True)
        _end_at_once(int(interruption.args[0]), None)  # a second signal must not meet an interpreter half shut down
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is _interrupt:  # not while a second signal may still come
                signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    for either in (signal.SIGINT, signal.SIGTERM):
        signal.signal(either, _end_at_once)
    raise _Interrupted(number)


def _end_at_once(number: int, frame: object) -> None:
    os._exit(128 + number)  # every write is whole or not at all, so nothing is left to tidy


def _task_names(given: str | None, default: str, others: object) -> list[str]:
    """The names in a list with commas; without one the default, unless files or texts were given."""
    from tasks import LISTS, PAIRS

    text = ("" if others else default) if given is None else given
    sets = {"lists": LISTS, "pairs": PAIRS, "all": (*LISTS, *PAIRS)}
    return [name for part in text.split(",") if part.strip() for name in sets.get(part.strip(), (part.strip(),))]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from bench.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{option} expects whole numbers separated by commas, got {text[:80]!r}") from None


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _print_tables(tables: Sequence[RenderableType]) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width; narrow columns would fold the numbers
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
