"""The command `bench zoo`: tells what of the model zoo is missing, and measures it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench import cli_completion
from bench.cli_options import AsJson, print_json, print_tables

if TYPE_CHECKING:
    from bench.query import QueryOutcome
    from bench.run import RunOutcome
    from bench.zoo import JobPlan


def zoo(
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what is missing, and stop; may fetch models, loads none.")
    ] = False,
    only: Annotated[
        Literal["emergence", "performance"] | None, typer.Option(help="Only these records. Default: both kinds.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Only these models of the zoo, separated by commas.", autocompletion=cli_completion.zoo_model_list
        ),
    ] = None,
    lane: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Only the I-th of N shares, about equally long: N processes do the whole together."
        ),
    ] = "1/1",
    as_json: AsJson = False,
) -> None:
    """Measure the model zoo: everything that the committed results hold.

    Tells what is missing and how long it takes, then does it. What is on disk is not measured again, so the command can
    be stopped at any time.
    """
    from bench.errors import BenchError
    from bench.terminal import Bars
    from bench.terminal_zoo import zoo_tables
    from bench.zoo import ZOO, as_data, plan, select

    jobs = select(ZOO, kind=only, models=_names(models), lane=_lane(lane))
    with Bars("models") as bars:
        found = plan(jobs, out, bars)
    if not as_json:
        print_tables(zoo_tables(found))
    work = Work(out=out, is_quiet=as_json)
    try:
        if not dry_run:
            work.do(found.todo)
    finally:  # what was measured before an interruption
        if as_json:
            print_json(as_data(found) | {"written": work.written, "failed": work.failed})
    n_unreachable = len({part.job.model for part in found.jobs if part.problem is not None})
    if not dry_run and (work.failed or n_unreachable):
        raise BenchError(
            f"not everything was measured: {len(work.failed)} jobs failed, {n_unreachable} models cannot be had; "
            "run the same command to try again"
        )


@dataclass(kw_only=True)
class Work:
    """Jobs that are done one after the other, and what has become of them."""

    out: Path
    is_quiet: bool
    device: str = "cpu"
    written: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def do(self, parts: Sequence[JobPlan]) -> None:
        """Do the jobs and print what `bench run` and `bench query` do; one that fails is told, and no more.

        However it ends, the report on performance is then what the records give: no later call does these jobs again.
        """
        from bench.errors import StorageError

        try:
            for number, part in enumerate(parts, 1):
                self._do(part, f"{number}/{len(parts)}: {part.job}")
        except BaseException:  # a signal is no Exception
            with suppress(StorageError):  # what stopped the work is what is told
                self._report()
            raise
        self._report()

    def _do(self, part: JobPlan, title: str) -> None:
        from bench.errors import BenchError, StorageError
        from bench.terminal import Bars, remark
        from bench.zoo import carry_out

        remark(title)
        outcomes: list[RunOutcome | QueryOutcome] = []
        try:
            with Bars("blocks" if part.job.kind == "emergence" else "questions") as bars:
                for outcome in carry_out(part, self.out, bars, device=self.device):
                    outcomes.append(outcome)
        except StorageError:  # nor could anything else be written
            raise
        except BenchError as error:
            self._fail(part, str(error))
        finally:
            self._tell(part, outcomes)

    def _report(self) -> None:
        from bench.store import Store
        from bench.terminal import remark
        from proxies.performance import PICTURE, report

        store = Store(self.out)
        stored, rejected = store.performances()
        text, picture = (self.out / "performance" / name for name in ("report.md", PICTURE))
        if not stored or (_holds(text, report(stored, rejected)) and picture.is_file()):
            return
        from proxies.performance_files import write_performance_report  # here, because it takes a while

        for path in write_performance_report(store):
            remark(f"{path}: written")

    def _tell(self, part: JobPlan, outcomes: list[RunOutcome | QueryOutcome]) -> None:
        from bench.performance import PerformanceRecord
        from bench.records import EmergenceRecord
        from bench.terminal import emergence_tables, remark, without_emergence
        from bench.terminal_performance import performance_tables

        measured = [one.record for one in outcomes if isinstance(one.record, EmergenceRecord)]
        answered = [one.record for one in outcomes if isinstance(one.record, PerformanceRecord)]
        if not self.is_quiet:
            print_tables([*emergence_tables(measured), *performance_tables(answered)])
        for one in outcomes:
            remark(f"{one.path}: {'there by now, nothing done' if one.was_there else 'written'}")
        for line in without_emergence(measured):
            remark(line)
        self.written += [str(one.path) for one in outcomes if not one.was_there]
        if n_failed := sum(cell.n_failed for record in answered for cell in record.cells):
            self._fail(part, f"{n_failed} questions failed and count as failed")

    def _fail(self, part: JobPlan, reason: str) -> None:
        from bench.terminal import remark

        self.failed.append({"job": str(part.job), "reason": reason})
        remark(f"{part.job}: not done: {reason}")


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _names(text: str | None) -> tuple[str, ...]:
    """The names in a list with commas; none for no list."""
    from bench.errors import UsageError

    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:  # out of an empty shell variable, say: not a wish for hours of work
        raise UsageError(f"--models expects names separated by commas, got {text[:80]!r}; leave it out for all models")
    return names


def _lane(text: str) -> tuple[int, int]:
    from bench.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if found is None:
        raise UsageError(f"--lane expects I/N, such as 1/2, got {text[:80]!r}")
    return int(found[1]), int(found[2])
