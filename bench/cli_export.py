"""The commands `bench export` and `bench schema`: parse, call one function, print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, Results, print_json, print_tables


def export(
    format: Annotated[
        Literal["lm-eval", "hf", "csv", "parquet"] | None,
        typer.Option(
            help="lm-eval: files of lm-evaluation-harness, with samples. hf: result files and model cards of "
            "Hugging Face. csv, parquet: the leaderboard as one table."
        ),
    ] = None,
    results: Results = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder, or of a table the file. Default: exports/lm-eval, exports/hf, exports/leaderboard.csv, "
            "exports/leaderboard.parquet.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="MODELS",
            help="Only these models, with commas. Default: all.",
            autocompletion=cli_completion.model_list,
        ),
    ] = None,
    columns: Annotated[bool, typer.Option("--columns", help="Say what each column of the table is, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write results in the shapes that other tools read. What is limited, incomplete or failed is left out."""
    from bench.errors import UsageError
    from bench.escape import printable
    from bench.terminal import Bars, remark
    from proxies.exports import ExportRequest
    from proxies.exports import export as write_export

    if columns:
        _print_columns(as_json)
        return
    if format is None:
        raise UsageError("--format says in which shape: lm-eval, hf, csv or parquet; `bench export --help` explains")
    names = tuple(name.strip() for name in (models or "").split(",") if name.strip())
    if models is not None and not names:
        raise UsageError("--models names no model; leave it out to export all of them")
    with Bars("records") as bars:
        done = write_export(ExportRequest(results=results, format=format, out=out, models=names), bars)
    for left in done.not_exported:
        remark(f"left out: {left.what}: {left.reason}")
    if as_json:
        print_json(
            {"files": [str(path) for path in done.files], "not_exported": [asdict(left) for left in done.not_exported]}
        )
        return
    where = done.files[0] if len(done.files) == 1 else done.out
    print(f"{printable(str(where))}: {_counted(len(done.files), 'file')} written, {_counted(done.n_models, 'model')}")


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _print_columns(as_json: bool) -> None:
    from bench.terminal import new_table
    from proxies.export_table import COLUMNS

    if as_json:
        print_json([asdict(column) for column in COLUMNS])
        return
    table = new_table("Columns")
    for heading in ("column", "unit", "what"):
        table.add_column(heading, overflow="fold")
    for column in COLUMNS:
        table.add_row(column.name, column.unit, column.what)
    print_tables([table])


def schema(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="A kind of file. Without one: list them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the schemas of all kinds of record into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of a kind of file that bench writes or reads."""
    from bench.errors import UsageError
    from bench.schemas import KINDS, TASK, schema_text, write_schemas
    from bench.terminal import new_table, remark

    if out is not None:
        if kind is not None:
            raise UsageError("--out writes the schemas of all kinds; leave out the kind, or redirect what is printed")
        for path in write_schemas(out):
            remark(f"{path}: written")
        return
    if kind is not None:
        print(schema_text(kind), end="")
        return
    listed = [{"kind": name, "what": one.what, "files": one.files} for name, one in KINDS.items()]
    listed.append({"kind": TASK, "what": "a task of your own", "files": "wherever you keep it"})
    if as_json:
        print_json(listed)
        return
    table = new_table("Schemas")
    for heading in ("kind", "what", "files in the results folder"):
        table.add_column(heading, overflow="fold")
    for row in listed:
        table.add_row(row["kind"], row["what"], row["files"])
    print_tables([table])
