"""`python -m proxies.ladder`: corpus, training, report. Every step goes on where it was when it was stopped."""

from __future__ import annotations

import argparse
import sys

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.cache import CHOOSE_CACHE
from bench.errors import UsageError
from bench.locks import exclusive
from bench.store import write_whole
from proxies.ladder import report
from proxies.ladder.corpus import corpus, ladder_folder, rebuild
from proxies.ladder.measure import measure
from proxies.ladder.memory import keep_freed_memory
from proxies.ladder.publish import publish, rungs
from proxies.ladder.sizes import SIZES, Size, size_named
from proxies.ladder.tokenizer import prepare
from proxies.ladder.train import Run

console = Console(stderr=True)


def main() -> int:
    """Run one of the commands; exit status 2 with one sentence when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m proxies.ladder", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("corpus", help="build the corpus and compare it with the manifest")
    make.add_argument("--write", action="store_true", help="write a new manifest instead of comparing")
    train = commands.add_parser("train", help="train sizes (one thread each) and publish them into the repository")
    train.add_argument("sizes", nargs="*", help="xs, s, m, l, xl; all of them when none is named")
    train.add_argument("--seed", type=int, default=0, help="of the first weights; only seed 0 is published")
    commands.add_parser("report", help="measure all published models on the held-out text; write tables and picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of every sum is fixed, and two sizes can be trained side by side
    keep_freed_memory()
    try:
        if arguments.command == "corpus":
            _corpus(arguments.write)
        elif arguments.command == "train":
            for size in tuple(map(size_named, arguments.sizes)) or SIZES:
                _train(size, arguments.seed)
        else:
            _report()
    except (UsageError, ValueError) as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last save")
        return 130
    return 0


def _corpus(is_written: bool) -> None:
    made = rebuild(console.print) if is_written else corpus(console.print)
    console.print(f"{sum(part.n_train_bytes for part in made.parts) / 1e6:.1f} MB to train on in {made.folder}")


def _train(size: Size, seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2**63 - 1, got {seed}")
    prepared = prepare(corpus(console.print), console.print)
    folder = ladder_folder() / "runs" / f"{size.name}-seed{seed}"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with exclusive(folder / "lock", seconds=0, remedy=CHOOSE_CACHE), Progress(*columns, console=console) as bar:
        run = Run(size, prepared.train, folder, seed=seed)
        shown = bar.add_task(size.name, total=run.n_steps, completed=run.step, loss="-")
        run.train(tell=lambda step, loss: bar.update(shown, completed=step, loss=f"{loss:.3f}"))
        if seed == 0:
            for rung in rungs([size]):
                publish(rung, run, prepared.tokenizer)
                console.print(f"wrote {rung.folder}")


def _report() -> None:
    results = measure(prepare(corpus(console.print), console.print), console.print)
    write_whole(report.MEASURED, results.text().encode())
    report.write(report.Results.read())
    console.print(f"wrote {report.MEASURED}, {report.PICTURE} and {report.README}")


if __name__ == "__main__":
    sys.exit(main())
