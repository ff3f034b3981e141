"""Runs that take half an hour and more, each done once and in full; `docs/scale.md` shows what they took.

    python -m tests.benchmarks.long_runs paper FOLDER      # SmolLM2 with the preset `paper`: about an hour
    python -m tests.benchmarks.long_runs critics FOLDER    # crossfit_nce in 108 cells of width 768: about half an hour

Both go on where an earlier one in the same folder was killed, and add up. `paper` wants a machine that does nothing
else; `critics` counts processor time of one thread each, which other work lengthens little.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.cli_scale import LONG, write_long
from bench.estimators import pair_up
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.provenance import Start
from bench.store import Store

MODEL, TASK = "smollm2-135m-instruct", "country"
N_TOKENS = 9
N_WORKERS = 2
VOCABULARY_SIZE = 8192


def paper(out: Path) -> dict[str, Any]:
    """The preset `paper` to the end, and what the processes took that it needed."""
    usage = out / "usage.jsonl"
    command = [sys.executable, "-m", "bench", "run", MODEL, "--preset", "paper", "--tasks", TASK, "--out", str(out)]
    out.mkdir(parents=True, exist_ok=True)
    records, _ = Store(out).records()
    if not records:
        began = time.monotonic()
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        line = {
            "seconds": time.monotonic() - began,
            "processor_seconds": used.ru_utime + used.ru_stime,
            "max_rss_bytes": used.ru_maxrss * 1024,
        }
        with usage.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if status:
            sys.exit(f"ended with {os.waitstatus_to_exitcode(status)}; the same command goes on from here")
        records, _ = Store(out).records()
    (stored,) = records
    parts = [json.loads(line) for line in usage.read_text().splitlines()]
    trained = stored.record.measurements["trained"]
    return {
        "model": MODEL,
        "task": TASK,
        "seconds": sum(part["seconds"] for part in parts),
        "processor_seconds": sum(part["processor_seconds"] for part in parts),
        "max_rss_bytes": max(part["max_rss_bytes"] for part in parts),
        "date": stored.record.provenance.date,
        "commit": stored.record.provenance.commit,
        "n_conditions": len(stored.record.measurements),
        "n_lists": trained.n_sequences,
        "n_tokens_plain": trained.n_tokens_plain,
        "n_tokens_computed": trained.n_tokens_computed,
    }


def critics(out: Path) -> dict[str, Any]:
    """Every block and position of a GPT-2 small with random weights, on windows of random tokens, on two processes."""
    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(N_WORKERS) as pool:
        cells = [cell for part in pool.starmap(_cells, [(worker, out) for worker in range(N_WORKERS)]) for cell in part]
    seconds = [cell["processor_seconds"] for cell in cells]
    return {
        "n_cells": len(cells),
        "n_blocks": GPT2Config().n_layer,
        "n_positions": N_TOKENS,
        "n_samples": CrossfitNCE().n_samples,
        "d_model": GPT2Config().n_embd,
        "n_workers": N_WORKERS,
        "processor_seconds": sum(seconds),
        "slowest_cell_seconds": max(seconds),
    }


def _cells(worker: int, out: Path) -> list[dict[str, Any]]:
    """The cells of one worker, every N_WORKERS-th block; a line each, written at once."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kept = out / f"cells-{worker}.jsonl"
    cells = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(cell["block"], cell["position"]) for cell in cells}
    config = GPT2Config(vocab_size=VOCABULARY_SIZE, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tokens = np.random.default_rng(0).integers(1, VOCABULARY_SIZE, size=(CrossfitNCE().n_samples, N_TOKENS))
    extractor = Extractor(model, find_blocks(model), bos=None, sample=tokens[:32])
    for block, states in enumerate(extractor.stream(extractor.plant(tokens))):
        for position in range(N_TOKENS) if block % N_WORKERS == worker else ():
            if (block, position) in known:
                continue
            began = time.process_time()
            pairs = pair_up(states.inputs_at(position), states.outputs_at(position))
            found = CrossfitNCE().estimate(pairs, np.random.default_rng(block))
            cells.append(
                {
                    "block": block,
                    "position": position,
                    "held_out_nats": found.readings["held_out"].value_nats,
                    "processor_seconds": time.process_time() - began,
                }
            )
            with kept.open("a") as file:
                file.write(json.dumps(cells[-1]) + "\n")
    return cells


def main() -> None:
    """See the module."""
    start = Start.now()
    match sys.argv[1:]:
        case ("paper", folder):
            write_long("paper", paper(Path(folder)), start)
        case ("critics", folder):
            write_long("critics", critics(Path(folder)), start)
        case _:
            sys.exit(__doc__)
    print(LONG.read_text())


if __name__ == "__main__":
    main()
