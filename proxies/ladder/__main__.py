"""`python -m proxies.ladder`: corpus, training, report. Every step goes on where it was when it was stopped."""

from __future__ import annotations

import argparse
import shutil
import sys

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from bench.errors import UsageError
from bench.loading import quiet_libraries
from bench.memory import keep_freed_memory
from proxies.ladder import report
from proxies.ladder.corpus import MANIFEST, Corpus, build, corpus, ladder_folder, manifest, n_known_sentences
from proxies.ladder.evaluate import BitsPerByte, HeldOut, compressed_bits_per_byte, token_bits, unigram_bits
from proxies.ladder.publish import publish, rungs
from proxies.ladder.sizes import SIZES, Size, size_named
from proxies.ladder.tokenizer import encoded, train_tokenizer
from proxies.ladder.train import Progress as TrainingProgress
from proxies.ladder.train import Run, Tokens

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
            sizes = tuple(map(size_named, arguments.sizes)) or SIZES
            for size in sizes:
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
    if is_written:
        folder = ladder_folder() / "corpus-new"
        shutil.rmtree(folder, ignore_errors=True)
        built = build(folder, console.print)
        target = ladder_folder() / f"corpus-{built.train_sha256[:12]}"
        shutil.rmtree(target, ignore_errors=True)
        folder.replace(target)
        MANIFEST.write_text(manifest(built), encoding="utf-8")
    made = corpus(console.print)
    console.print(f"{sum(part.n_train_bytes for part in made.parts) / 1e6:.1f} MB to train on in {made.folder}")


def _tokens(made: Corpus, tokenizer: Tokenizer, name: str) -> Tokens:
    """The tokens of `train` or `held-out`, kept beside the text."""
    path = made.folder / f"{name}.npy"
    if not path.is_file():
        console.print(f"turning {name} into tokens")
        partial = path.with_suffix(".partial.npy")
        np.save(partial, encoded(tokenizer, made.folder / f"{name}.jsonl"))
        partial.replace(path)
    tokens: Tokens = np.load(path)
    return tokens


def _run(size: Size, seed: int, tokens: Tokens) -> Run:
    return Run(size, tokens, ladder_folder() / "runs" / f"{size.name}-seed{seed}", seed=seed)


def _train(size: Size, seed: int) -> None:
    made = corpus(console.print)
    tokenizer = train_tokenizer(made)
    run = _run(size, seed, _tokens(made, tokenizer, "train"))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(size.name, total=run.n_steps, completed=run.step, loss="-")

        def tell(progress: TrainingProgress) -> None:
            bar.update(shown, completed=progress.step, loss=f"{progress.loss:.3f}")

        run.train(tell=tell)
    if seed == 0:
        for rung in rungs([size]):
            publish(rung, run.checkpoint(rung.step), tokenizer)
            console.print(f"wrote {rung.folder}")


def _report() -> None:
    made = corpus(console.print)
    tokenizer = train_tokenizer(made)
    train = _tokens(made, tokenizer, "train")
    held_out = HeldOut.read(made.held_out, _tokens(made, tokenizer, "held-out"))
    models = []
    smaller: npt.NDArray[np.float64] | None = None
    for rung in rungs(SIZES):
        console.print(f"measuring {rung.name}")
        with quiet_libraries():
            model = GPT2LMHeadModel.from_pretrained(rung.folder, dtype=torch.float32).eval()
        bits = held_out.per_document(token_bits(model, held_out.tokens))
        is_finished = rung.name == rung.size.name
        below = BitsPerByte.of(smaller - bits, held_out.n_bytes) if is_finished and smaller is not None else None
        models.append(report.measured(rung, BitsPerByte.of(bits, held_out.n_bytes), below))
        smaller = bits if is_finished else smaller
    results = report.Results(
        models=tuple(models),
        unigram_bits_per_byte=float(unigram_bits(train, held_out.tokens).sum() / held_out.n_bytes.sum()),
        lzma_bits_per_byte=compressed_bits_per_byte(made.held_out),
        n_held_out_documents=len(held_out.n_bytes),
        n_held_out_bytes=int(held_out.n_bytes.sum()),
        n_known_sentences=n_known_sentences(made.train),
        curves={size.name: _run(size, 0, train).curve for size in SIZES},
        seed=0,
    )
    report.MEASURED.write_text(results.text(), encoding="utf-8")
    report.write(report.Results.read())
    console.print(f"wrote {report.MEASURED}, {report.PICTURE} and {report.README}")


if __name__ == "__main__":
    sys.exit(main())
