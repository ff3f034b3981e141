"""Results in the shapes of other tools: one function a format, each file written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from bench.progress import Progress
from bench.store import write_whole
from proxies.export_hf import hf_files
from proxies.export_lm_eval import lm_eval_files
from proxies.export_selection import NotExported, Selection, by_weights, select
from proxies.export_table import csv_file, parquet_file

Format = Literal["lm-eval", "hf", "csv", "parquet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export.

    Attributes:
        out: a folder, or of `csv` and `parquet` the file; None: that of the format.
        models: only these; none: all.
    """

    results: Path
    format: Format
    out: Path | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and which records have no part in it."""

    out: Path
    files: tuple[Path, ...]
    n_models: int
    not_exported: tuple[NotExported, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a format is made.

    Attributes:
        files: each with its path from `out`, which is empty where that is the file itself.
        out: where it is written, if nobody says.
        with_board: whether it holds rows of the leaderboard.
        with_answers: whether it holds performance.
    """

    files: Callable[[Selection], Iterator[tuple[str, bytes]]]
    out: str
    with_board: bool
    with_answers: bool


FORMATS: Mapping[Format, Shape] = MappingProxyType(
    {
        "lm-eval": Shape(files=lm_eval_files, out="exports/lm-eval", with_board=False, with_answers=True),
        "hf": Shape(files=hf_files, out="exports/hf", with_board=True, with_answers=True),
        "csv": Shape(files=csv_file, out="exports/leaderboard.csv", with_board=True, with_answers=False),
        "parquet": Shape(files=parquet_file, out="exports/leaderboard.parquet", with_board=True, with_answers=False),
    }
)


def export(request: ExportRequest, progress: Progress) -> Exported:
    """Write the records of a results folder in one format; files that are there are replaced, others stay.

    Raises:
        UsageError: there is nothing to export, no such model, or the format needs what is not installed.
        StorageError: a file cannot be written.
    """
    shape = FORMATS[request.format]
    selection = select(
        request.results, request.models, progress, with_board=shape.with_board, with_answers=shape.with_answers
    )
    out = Path(shape.out) if request.out is None else request.out
    progress.stage(f"writing {out}")
    written = []
    for relative, content in shape.files(selection):
        write_whole(out / relative, content)
        written.append(out / relative)
    return Exported(
        out=out, files=tuple(written), n_models=len(by_weights(selection)), not_exported=selection.not_exported
    )
