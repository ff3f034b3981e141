"""The numbers of `docs/scale.md`: what plans say of large models, and how far off plans are where a run can be timed.

    python -m bench.cli_scale errors     # plans and runs some models, writes results/plan/errors.json: some minutes
    python -m bench.cli_scale shapes     # plans models of which there is a configuration only, no weights
    python -m bench.cli_scale page       # writes the tables of the page from both files

`errors` and `shapes` write the page too.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog import CATALOG, LADDER_FOLDER
from bench.errors import BenchError, UsageError
from bench.escape import markdown_cell
from bench.provenance import Start
from bench.store import write_whole
from proxies.markdown import filled, table
from tasks import RANKED_TASKS

if TYPE_CHECKING:
    from bench.costs import RunPlan
    from bench.plan import Probed
    from bench.request import RunRequest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scale.md"
ERRORS, SHAPES_FILE, LONG = (ROOT / "results" / "plan" / name for name in ("errors.json", "shapes.json", "long.json"))

CASES: dict[str, dict[str, Any]] = {
    "gpt2-ladder-xs": {"tasks": RANKED_TASKS},
    "gpt2-ladder-m": {"tasks": RANKED_TASKS[:1]},
    "smollm2-135m-instruct": {"tasks": RANKED_TASKS[:1], "n_names": 8},
}
"""What is planned and then run, by model."""

_LLAMA_3: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}

SHAPES: dict[str, dict[str, Any]] = {
    "2 M (gpt2-ladder-m)": {"model_type": "gpt2", "vocab_size": 8192, "n_positions": 256, "n_embd": 128, "n_layer": 5,
                            "n_head": 4},
    "135 M (SmolLM2)": {"model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
                        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                        "tie_word_embeddings": True},
    "1.2 B (Llama 3.2)": _LLAMA_3 | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                                     "num_attention_heads": 32, "tie_word_embeddings": True},
    "8 B (Llama 3)": _LLAMA_3 | {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
                                 "num_attention_heads": 32},
    "70 B (Llama 3)": _LLAMA_3 | {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80,
                                  "num_attention_heads": 64},
}  # fmt: skip
"""Configurations by what they are shapes of. The tokenizer is that of the ladder: names are one token in any."""

N_OF_EACH = 2_000
"""Models of each shape in the ten thousand on paper."""


class Silent:
    """Progress that nobody looks at."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def plan(self, n_units: int) -> None:
        """Nothing."""

    def block(self, text: str) -> None:
        """Nothing."""


def measured_case(model: str) -> dict[str, Any]:
    """Plan and run one of `CASES` in a process of its own with one thread; processor seconds of both."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli_scale", "case", model],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _case(model: str) -> dict[str, Any]:
    from bench.costs import as_data
    from bench.plan import plan
    from bench.run import run

    with tempfile.TemporaryDirectory() as folder:
        request = _request(model, Path(folder), **CASES[model])
        before = time.process_time()
        planned = plan(request, Silent())
        middle = time.process_time()
        outcomes = run(request, Silent())
        after = time.process_time()
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    assert planned.seconds is not None
    return {
        "model": model,
        "tasks": list(CASES[model]["tasks"]),
        "n_names": CASES[model].get("n_names"),
        "planned_seconds": planned.seconds,
        "run_seconds": after - middle,
        "planning_seconds": middle - before,
        "planned_tokens": planned.models[0].n_tokens,
        "run_tokens": sum(one.record.measurements["trained"].n_tokens_computed for one in outcomes),
        "planned_memory_bytes": planned.memory_bytes,
        "run_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "planned_disk_bytes": planned.disk_bytes,
        "run_disk_bytes": written,
        "plan": as_data(planned),
    }


def _request(model: str, out: Path, *, tasks: Sequence[str] = RANKED_TASKS, **settings: Any) -> RunRequest:
    from bench.request import RunRequest
    from bench.task_names import find_tasks

    return RunRequest(models=(model,), tasks=find_tasks(tasks), out=out, **settings)


def planned_shape(name: str, probed: Probed | None = None) -> RunPlan:
    """The plan of a shape of `SHAPES` on the ranked lists, from a folder with configuration and tokenizer only."""
    from bench.plan import plan

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "shape"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(SHAPES[name]))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(LADDER_FOLDER / "gpt2-ladder-m" / file, model / file)
        return plan(_request(str(model), Path(folder) / "results"), Silent(), probed=probed)


def shape_row(name: str, found: RunPlan) -> dict[str, Any]:
    """What the page says of a shape."""
    (model,) = found.models
    return {
        "name": name,
        "n_parameters": model.shape.n_parameters,
        "n_blocks": model.shape.n_blocks,
        "d_model": model.shape.d_model,
        "n_tokens": model.n_tokens,
        "forward_flops": model.forward_flops,
        "estimator_flops": model.estimator_flops,
        "seconds": found.seconds,
        "forward_seconds": model.seconds.forward,
        "memory_bytes": sum((model.memory.weights, model.memory.states, model.memory.rows, model.memory.tables)),
        "weights_bytes": model.memory.weights,
        "states_bytes": model.memory.states or model.disk.temporary,
        "is_spilt": bool(model.disk.temporary),
        "record_bytes": model.disk.records,
        "is_block_timed": model.rates[0].is_block_timed,
    }


def _written(path: Path, content: Mapping[str, Any], start: Start) -> None:
    """A file of results, with when and where it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(_made_by(start) | dict(content), indent=1) + "\n").encode())


def write_long(name: str, content: Mapping[str, Any], start: Start) -> None:
    """Keep what a long run took beside those of other names, and write the page."""
    kept = json.loads(LONG.read_text(encoding="utf-8")) if LONG.is_file() else {}
    write_whole(LONG, (json.dumps(kept | {name: _made_by(start) | dict(content)}, indent=1) + "\n").encode())
    write_whole(PAGE, page().encode())


def _made_by(start: Start) -> dict[str, Any]:
    import torch

    return {
        "date": start.date,
        "commit": start.commit,
        "machine": machine(),
        "n_threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def machine() -> str:
    """The processor in words, and how many of them."""
    name = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = " ".join(line.partition(":")[2].split())
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} processors"


def blocks(errors: Mapping[str, Any], shapes: Mapping[str, Any], long: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the page that are written from results, by name."""
    return {
        "plan-errors": _errors_block(errors),
        "long-runs": _long_block(long),
        "plan-shapes": _shapes_block(shapes),
        "shape-70b": _config_block(),
    }


def _errors_block(errors: Mapping[str, Any]) -> str:
    from bench.terminal_plan import size

    header = ("model", "tasks", "planned", "run", "error of time", "tokens planned / run", "memory planned / run",
              "disk planned / run")  # fmt: skip
    rows = []
    for case in errors["cases"]:
        sizes = f", {case['n_names']} names" if case["n_names"] else ""
        error = case["planned_seconds"] / case["run_seconds"] - 1
        rows.append(
            (
                f"`{case['model']}`",
                markdown_cell(", ".join(case["tasks"]) + sizes),
                f"{case['planned_seconds']:.1f} s",
                f"{case['run_seconds']:.1f} s",
                f"{100 * error:+.0f} %",
                f"{case['planned_tokens']:,} / {case['run_tokens']:,}",
                f"{size(case['planned_memory_bytes'])} / {size(case['run_memory_bytes'])}",
                f"{size(case['planned_disk_bytes'])} / {size(case['run_disk_bytes'])}",
            )
        )
    return f"{_made(errors)}\n\n{table(header, rows)}"


def _long_block(long: Mapping[str, Any]) -> str:
    from bench.terminal_plan import size

    lines = []
    if paper := long.get("paper"):
        lines.append(
            f"- `bench run {paper['model']} --preset paper --tasks {paper['task']}`: {paper['n_conditions']} "
            f"conditions of {paper['n_lists']:,} lists in {paper['seconds'] / 60:.0f} minutes "
            f"({paper['processor_seconds'] / 60:.0f} of processor time), {size(paper['max_rss_bytes'])} of memory at "
            f"most. {paper['n_tokens_computed']:,} tokens went through each block, where list by list it would have "
            f"been {paper['n_tokens_plain']:,}. {_made(paper)}"
        )
    if critics := long.get("critics"):
        lines.append(
            f"- `crossfit_nce` in all {critics['n_cells']} cells of {critics['n_blocks']} blocks and "
            f"{critics['n_positions']} positions, {critics['n_samples']:,} samples of width {critics['d_model']}, in "
            f"{critics['n_workers']} processes: {critics['processor_seconds'] / critics['n_workers'] / 60:.0f} "
            f"minutes of processor time on each core, {critics['slowest_cell_seconds']:.0f} s the slowest cell. "
            f"{_made(critics)}"
        )
    return "\n".join(lines) + "\n"


def _shapes_block(shapes: Mapping[str, Any]) -> str:
    from bench.terminal_plan import count, size, told

    header = ("shape", "blocks", "width", "forward FLOP", "estimator FLOP", "one core", "of it forward", "weights",
              "states", "records")  # fmt: skip
    found = [*shapes["shapes"]]
    rows = [
        (
            markdown_cell(one["name"]),
            str(one["n_blocks"]),
            f"{one['d_model']:,}",
            count(one["forward_flops"]),
            count(one["estimator_flops"]),
            told(one["seconds"]),
            f"{100 * one['forward_seconds'] / one['seconds']:.0f} %",
            size(one["weights_bytes"]),
            size(one["states_bytes"]) + (" in a file" if one["is_spilt"] else ""),
            size(one["record_bytes"]),
        )
        for one in found
    ]

    def all_of(key: str, which: Sequence[Mapping[str, Any]]) -> float:
        return sum(N_OF_EACH * float(one[key]) for one in which)

    for words, which in ((f"{N_OF_EACH:,} of each", found), (f"{N_OF_EACH:,} of the first three each", found[:3])):
        share = all_of("forward_seconds", which) / all_of("seconds", which)
        rows.append(
            (
                words, "", "", count(all_of("forward_flops", which)), count(all_of("estimator_flops", which)),
                told(all_of("seconds", which)), f"{100 * share:.0f} %", size(int(all_of("weights_bytes", which))),
                "", size(int(all_of("record_bytes", which))),
            )
        )  # fmt: skip
    return f"{_made(shapes)}\n\n{table(header, rows)}"


def _config_block() -> str:
    return f"```json\n{json.dumps(SHAPES['70 B (Llama 3)'], indent=1)}\n```\n"


def _made(content: Mapping[str, Any]) -> str:
    commit = (content["commit"] or "no commit")[:8]
    threads = f"{content['n_threads']} thread{'s' if content['n_threads'] > 1 else ''}"
    return f"{content['machine']}, {threads}, {content['date'][:10]}, commit {commit}."


def page() -> str:
    """The text of the page, its tables from the results."""
    results = (json.loads(path.read_text(encoding="utf-8")) for path in (ERRORS, SHAPES_FILE, LONG))
    return filled(PAGE.read_text(encoding="utf-8"), blocks(*results))


def _errors() -> None:
    start = Start.now()
    cases = []
    for model in CASES:
        cases.append(measured_case(model))
        print(f"{model}: planned {cases[-1]['planned_seconds']:.1f} s, run {cases[-1]['run_seconds']:.1f} s")
    _written(ERRORS, {"cases": cases}, start)


def _shapes() -> None:
    start = Start.now()
    _written(SHAPES_FILE, {"shapes": [shape_row(name, planned_shape(name)) for name in SHAPES]}, start)


def main(arguments: Sequence[str]) -> None:
    """See the module.

    Raises:
        UsageError: none of its words was given.
    """
    parts: dict[str, Callable[[], None]] = {"errors": _errors, "shapes": _shapes, "page": lambda: None}
    match arguments:
        case ("case", model) if model in CATALOG:
            print(json.dumps(_case(model)))
            return
        case (word,) if word in parts:
            parts[word]()
        case _:
            raise UsageError(f"expected one of {', '.join(parts)}, got {' '.join(arguments) or 'nothing'}")
    if ERRORS.is_file() and SHAPES_FILE.is_file():
        write_whole(PAGE, page().encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"bench: {error}")
