"""The command `bench plan`: what a run would cost, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import RANKED, AsJson, TaskFiles, Tasks, print_json, print_tables, task_names


def plan(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="As for `bench run`; of a folder config.json and tokenizer are enough.",
            autocompletion=cli_completion.models,
        ),
    ],
    tasks: Tasks = None,
    task_file: TaskFiles = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="As for `bench run`; repeatable.", autocompletion=cli_completion.texts),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick or paper, as for `bench run`.", autocompletion=cli_completion.presets)
    ] = "quick",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="As for `bench run`.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder with the records; what it holds costs nothing.")] = Path("results"),
    estimator: Annotated[
        str | None, typer.Option(help="Estimator of mutual information.", autocompletion=cli_completion.estimators)
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A setting of the estimator; may be repeated.")
    ] = None,
    n_names: Annotated[int | None, typer.Option(help="Names, pairs, or windows of a text.")] = None,
    n_shots: Annotated[int | None, typer.Option(help="Demonstrations, or tokens of a window.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only this many lists.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Arithmetic: float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    bos: Annotated[Literal["tokenizer", "none"], typer.Option(help="As for `bench run`.")] = "tokenizer",
    memory_gb: Annotated[float, typer.Option(min=0.1, max=1e6, help="As for `bench run`.")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Tell what a run would cost: operations, seconds on this machine, memory and disk.

    Nothing is measured and no weights are loaded: tokens and cells are counted, and parts of the work are timed here
    for about two seconds a model. What is on disk already is left out. Takes the options of `bench run`.
    """
    from bench.costs import as_data
    from bench.plan import plan as planned
    from bench.request import RunRequest, split_setting
    from bench.task_names import find_tasks
    from bench.terminal import Bars
    from bench.terminal_plan import plan_tables

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
        bos=bos,
        memory_bytes=int(memory_gb * (1 << 30)),
    )
    with Bars("models") as bars:
        found = planned(request, bars)
    if as_json:
        print_json(as_data(found))
    else:
        print_tables(plan_tables(found))
