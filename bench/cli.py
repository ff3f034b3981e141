"""The command line: parses, calls one library function, prints. Data goes to stdout, progress and remarks to stderr.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated. Heavy imports are inside the commands:
`bench --help` must answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from bench import __version__, cli_completion
from bench.cli_add import add
from bench.cli_collect import collect
from bench.cli_export import export, schema
from bench.cli_fit import estimate, features, fit, ledger_app
from bench.cli_leaderboard import leaderboard
from bench.cli_options import RANKED, AsJson, TaskFiles, Tasks, print_json, print_tables, task_names
from bench.cli_plan import plan
from bench.cli_probe import probe
from bench.cli_query import query
from bench.cli_service import guard_keys
from bench.cli_zoo import zoo
from bench.interruption import ending_on_signals

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

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
app.add_typer(ledger_app, name="ledger")


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
        typer.Argument(
            metavar="MODEL...",
            help="Names (see `bench models`), folders, .gguf files or hub ids; each with @int4 or the like.",
            autocompletion=cli_completion.models,
        ),
    ],
    tasks: Tasks = None,
    task_file: TaskFiles = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Measure on a plain-text file, or on text-sample, openorca or openhermes; repeatable.",
            autocompletion=cli_completion.texts,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="quick: 12 names, 4 shots (pairs: 3). paper: the sizes of arXiv 2405.12617.",
            autocompletion=cli_completion.presets,
        ),
    ] = "quick",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Draws names, random words, the twin's weights and the noise.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    estimator: Annotated[
        str | None,
        typer.Option(
            help="Estimator of mutual information. Default: noisy_channel for lists and pairs, crossfit_nce for texts.",
            autocompletion=cli_completion.estimators,
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
    device_map: Annotated[
        Literal["auto"] | None,
        typer.Option(help="auto: spread a model over all GPUs and, where they are full, the machine's memory."),
    ] = None,
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
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where to measure. local: in this process. ray: on the nodes of a Ray cluster."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Ray cluster, or auto. Default: RAY_ADDRESS, else Ray is started on this machine.",
        ),
    ] = None,
    cpus_per_unit: Annotated[
        int | None, typer.Option(min=1, help="Cores, and threads, of each worker under Ray. [default: 1]")
    ] = None,
    gpus_per_unit: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each worker under Ray. [default: 1 with --device cuda, else 0]")
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only the I-th of N shares of the records, for job arrays of a cluster."),
    ] = "1/1",
    as_json: AsJson = False,
) -> None:
    """Measure the emergence of models on tasks, with all controls, and write one record each."""
    from bench.engine import EngineOptions, make_engine
    from bench.request import RunRequest, split_setting, split_shard
    from bench.run import run as run_all
    from bench.task_names import find_tasks
    from bench.terminal import Bars, emergence_tables, remark, without_emergence

    request = RunRequest(
        models=tuple(models),
        tasks=find_tasks(task_names(tasks, RANKED, task_file or text), files=task_file or (), texts=text or ()),
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
        device_map=device_map,
        shard=split_shard(shard),
        bos=bos,
        memory_bytes=int(memory_gb * (1 << 30)),
    )
    place = make_engine(
        engine, EngineOptions(ray_address=ray_address, cpus_per_unit=cpus_per_unit, gpus_per_unit=gpus_per_unit)
    )
    with Bars() as bars:
        outcomes = run_all(request, bars, place)
    if as_json:
        print_json(
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
        print_tables(emergence_tables([outcome.record for outcome in outcomes]))
    for outcome in outcomes:
        remark(f"{outcome.path}: {'already measured, nothing done' if outcome.was_there else 'written'}")
    for line in without_emergence([outcome.record for outcome in outcomes]):
        remark(line)
    if not outcomes:
        remark(f"share {shard} has no records: there are fewer than shares")


app.command()(plan)
app.command()(add)
app.command()(query)
app.command()(collect)
app.command()(probe)
app.command()(zoo)
app.command()(features)
app.command()(fit)
app.command()(estimate)
app.command()(export)
app.command()(schema)


@app.command()
def calibrate(
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            help="An estimator to calibrate; may be given several times. Default: all.",
            autocompletion=cli_completion.estimators,
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="cases: estimates beside known truths. coverage: of the intervals. cost: beside the paper's.",
            autocompletion=cli_completion.calibration_parts,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small problems only: a minute or two, no model.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the data and whatever estimators draw.")] = 0,
    model: Annotated[
        str, typer.Option(help="Model whose activations are used.", autocompletion=cli_completion.models)
    ] = "smollm2-135m-instruct",
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
        print_json(rows_as_data(found.cases, found.coverage, found.cost))
    else:
        print_tables(tables(found.cases, found.coverage, found.cost))
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
        print_json([described(entry) for entry in CATALOG.values()])
    else:
        print_tables([models_table(CATALOG.values())])


@models_app.command("fetch")
def models_fetch(
    name: Annotated[
        str, typer.Argument(help="A name of the catalog, or a hub id.", autocompletion=cli_completion.models)
    ],
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download the weights of a model and convert them if need be; prints the local folder."""
    from bench.catalog import resolve
    from bench.fetch import fetch
    from bench.terminal import remark

    folder = fetch(resolve(name, revision), remark)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
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
        print_json([task_as_data(task) for task in loaded])
    else:
        print_tables([tasks_table(loaded)])


@tasks_app.command("show")
def tasks_show(
    name: Annotated[str, typer.Argument(help="Name of a task, or a task file.", autocompletion=cli_completion.tasks)],
    model: Annotated[
        str | None,
        typer.Option(
            help="Show which items survive under this model's tokenizer.", autocompletion=cli_completion.models
        ),
    ] = None,
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
        print_json(content)
    else:
        print_tables(task_tables(task, model, pool))


@tasks_app.command("check")
def tasks_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Task files.")], as_json: AsJson = False
) -> None:
    """Say what is wrong with a task file, with line and key; exit status 1 if anything is."""
    from bench.escape import printable
    from bench.terminal import remark
    from tasks.check import check_file

    found = {str(path): check_file(path) for path in files}
    if as_json:
        print_json({path: [asdict(problem) for problem in problems] for path, problems in found.items()})
    for path, problems in found.items():
        errors = sum(problem.severity == "error" for problem in problems)
        if not as_json:
            for problem in problems:
                print(printable(f"{path}:{problem}"))
        counts = f"{errors} errors, {len(problems) - errors} warnings" if problems else "no problems"
        remark(f"{path}: {counts}")
    if any(problem.severity == "error" for problems in found.values() for problem in problems):
        raise typer.Exit(1)


app.command()(leaderboard)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns a deliberate error into one line and its exit status."""
    from bench.errors import BenchError

    given = sys.argv[1:] if arguments is None else list(arguments)
    with ending_on_signals(), contextlib.ExitStack() as ending:
        try:
            try:
                ending.callback(guard_keys(given))
                command = typer.main.get_command(app)  # called by itself, the app takes the place of `sys.excepthook`
                command(args=given, prog_name="bench")  # of `python -m bench` as well
            finally:
                if sys.stdout is not None:  # where it was closed from the beginning
                    sys.stdout.flush()  # here, where a full disk can still be told of
        except BenchError as error:
            _fail(str(error), error.exit_status)
        except BrokenPipeError:  # as where click meets one: whoever reads has enough
            _discard_output()
            sys.exit(1)
        except OSError as error:
            if error.filename is not None or error.errno not in _NO_ROOM:
                raise
            _discard_output()  # of files a StorageError tells, so this is of what is printed
            _fail(f"cannot write to standard output: {error.strerror}", 2)


def _fail(message: str, status: int) -> NoReturn:
    from bench.escape import printable

    print("\n".join(map(printable, f"bench: {message}".splitlines())), file=sys.stderr)
    sys.exit(status)


def _discard_output() -> None:
    """Nothing more is to be had of standard output; what waits there would fail once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
