"""Performance as the files that lm-evaluation-harness writes with `--output_path` and `--log_samples`.

A run is one model asked in one way. Its results file has one task for each task and number of shots, called
`<task>_<n>shot`, because every part of the file that knows of shots knows them by task. Results and samples of a run
share one date, as the readers of such folders expect.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache

from bench.escape import printable
from bench.performance import Cell, Sample
from bench.store import StoredPerformance, slug
from proxies.export_selection import Answered, Json, Run, Selection, date_id, dumped, samples_of
from tasks import TASKS, load_task
from tasks.queries import Question, question, request_text, stop_strings
from tasks.task import ListTask, PairTask

FILTER = "none"
"""The reply is scored as it came: what the first answer in it is, is up to the scorer."""

NO_ERROR = "N/A"
"""What lm-evaluation-harness writes in place of a standard error that does not exist."""


def lm_eval_files(selection: Selection) -> Iterator[tuple[str, bytes]]:
    """Each file with its path from the folder of the export."""
    for run in selection.runs:
        date = date_id(run.date)
        samples = {path: samples_of(selection.results, item) for path, item in _records(run).items()}
        logged = {task_name(one): _logged(one, samples[one.stored.path][one.cell.n_shots]) for one in run.answered}
        yield f"{run.folder}/results_{date}.json", dumped(_results(run, logged), indent=2)
        for name, lines in logged.items():
            yield f"{run.folder}/samples_{name}_{date}.jsonl", b"".join(dumped(line) + b"\n" for line in lines)


def task_name(one: Answered) -> str:
    """What a task at one number of shots is called: part of a file name, so no other sign than of a slug."""
    return f"{slug(one.task)}_{one.cell.n_shots}shot"


def standard_error(n_right: int, n: int) -> float | str:
    """Of a share, from the sample standard deviation, as lm-evaluation-harness computes it; N/A of a single answer."""
    share = n_right / n
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else NO_ERROR


def _records(run: Run) -> dict[str, StoredPerformance]:
    return {one.stored.path: one.stored for one in run.answered}


def _results(run: Run, logged: dict[str, list[Json]]) -> Json:
    records = [item.record for item in _records(run).values()]
    last = max(records, key=lambda record: (record.provenance.date, record.key.task)).provenance
    named = {task_name(one): one for one in run.answered}
    began = min(datetime.fromisoformat(record.provenance.date) for record in records)
    model_args = {"pretrained": run.weights.model, "revision": run.weights.revision, "dtype": run.weights.dtype}
    return {
        "results": {name: _metrics(name, one) for name, one in named.items()},
        "group_subtasks": {},  # tasks by themselves
        "configs": {name: _config(name, one) for name, one in named.items()},
        "versions": {name: one.key.task_version for name, one in named.items()},
        "n-shot": {name: one.cell.n_shots for name, one in named.items()},
        "higher_is_better": {
            name: {metric: metric == "acc" for metric in _metric_names(one.cell)} for name, one in named.items()
        },
        "n-samples": {
            name: {"original": one.cell.n_questions, "effective": one.cell.n_answered} for name, one in named.items()
        },
        "config": {
            "model": run.provider,
            "model_args": {name: value for name, value in model_args.items() if value},
            **_model_config(run),
            "batch_size": None,
            "batch_sizes": [],
            "device": last.device,
            "use_cache": None,
            "limit": None,
            "bootstrap_iters": 0,
            "gen_kwargs": None,
            "random_seed": run.seed,
            "numpy_seed": run.seed,
            "torch_seed": run.seed,
            "fewshot_seed": run.seed,
        },
        "git_hash": last.commit,
        "date": began.timestamp(),
        "pretty_env_info": ", ".join(f"{name} {version}" for name, version in sorted(last.versions.items())),
        "transformers_version": last.versions.get("transformers", "N/A"),
        "upper_git_hash": None,
        "model_source": run.provider,
        "model_name": run.weights.model,
        "model_name_sanitized": run.folder,
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": False,
        "chat_template": None,
        "chat_template_sha": None,
        "task_hashes": {
            name: _sha256("".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines))
            for name, lines in logged.items()
        },
        "total_evaluation_time_seconds": str(round(math.fsum(record.provenance.seconds for record in records), 3)),
    }


def _model_config(run: Run) -> Json:
    """What is known of the weights, where they were here."""
    if run.info is None:
        return {"model_revision": run.weights.revision}
    return {
        "model_num_parameters": run.info.n_parameters,
        "model_dtype": f"torch.{run.info.dtype}",
        "model_revision": run.info.revision,
        "model_sha": run.info.revision,
    }


def _metric_names(cell: Cell) -> Sequence[str]:
    return ("acc",) if cell.n_repeats is None else ("acc", "repeats")


def _metrics(name: str, one: Answered) -> Json:
    counts = {"acc": one.cell.n_correct, "repeats": one.cell.n_repeats or 0}
    found: Json = {"name": name, "alias": printable(one.task), "sample_len": one.cell.n_answered}
    for metric in _metric_names(one.cell):
        found[f"{metric},{FILTER}"] = counts[metric] / one.cell.n_answered
        found[f"{metric}_stderr,{FILTER}"] = standard_error(counts[metric], one.cell.n_answered)
    return found


def _config(name: str, one: Answered) -> Json:
    key = one.key
    return {
        "task": name,
        "task_alias": printable(one.task),
        "dataset_path": "emergence-bench",
        "dataset_name": one.task,
        "output_type": "generate_until",
        "num_fewshot": one.cell.n_shots,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": metric == "acc"}
            for metric in _metric_names(one.cell)
        ],
        "generation_kwargs": _generation(one),
        "repeats": 1,
        "should_decontaminate": False,
        "metadata": {
            "version": key.task_version,
            "task_sha256": key.task_hash,
            "scoring_version": key.scoring_version,
            "mode": key.mode,
            "seed": key.seed,
            "chance": one.cell.chance,
            "wilson_95_low": one.cell.low,
            "wilson_95_high": one.cell.high,
            "n_cut_off": one.cell.n_cut_off,
            "record": one.stored.path,
        },
    }


def _generation(one: Answered) -> Json:
    """How answers were drawn, as far as it is known: another program may have asked."""
    key, task = one.key, _shipped(one.task, one.key.task_hash)
    found: Json = {}
    if key.provider != "replay" and task is not None:
        found["until"] = [] if key.mode == "chat" else list(stop_strings(task))
    if key.max_tokens is not None:
        found["max_gen_toks"] = key.max_tokens
    if key.temperature is not None:
        found |= {"do_sample": False, "temperature": key.temperature}
    return found


def _logged(one: Answered, samples: Sequence[Sample]) -> list[Json]:
    """The lines of a samples file."""
    generation = _generation(one)
    return [_line(one, sample, generation) for sample in samples]


def _line(one: Answered, sample: Sample, generation: Json) -> Json:
    doc, target = _document(one, sample)
    metrics = {"acc": float(sample.is_correct is True), "repeats": float(sample.is_repeat is True)}
    names = _metric_names(one.cell)
    return {
        "doc_id": sample.index,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": sample.prompt, "arg_1": generation}},
        "resps": [[sample.reply]],
        "filtered_resps": [sample.reply],
        "filter": FILTER,
        "metrics": list(names),
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(sample.prompt),
        "target_hash": _sha256(target),
        **{name: metrics[name] for name in names},
        "answer": sample.answer,
    }


def _document(one: Answered, sample: Sample) -> tuple[Json, str]:
    """What was asked, and the answer that demonstrations would show; none for a list, which has many."""
    asked = _asked(one.task, one.key.task_hash, sample.index, sample.n_shots, sample.seed)
    if asked is None or request_text(asked, is_chat=sample.mode == "chat") != sample.prompt:
        return {"index": sample.index}, ""  # a task of the user's own: its file is not in the records
    if asked.subject is None:
        return {"index": sample.index, "shown": list(asked.shown)}, ""
    answers = _answers(one.task, one.key.task_hash)[asked.subject]
    return {
        "index": sample.index, "shown": list(asked.shown), "query": asked.subject, "answers": list(answers)
    }, answers[0]  # fmt: skip


@cache
def _shipped(name: str, content_hash: str) -> ListTask | PairTask | None:
    """The task of a record, if it comes with this package and has not changed."""
    if name not in TASKS:
        return None
    task = load_task(name)
    return task if isinstance(task, ListTask | PairTask) and task.content_hash == content_hash else None


@cache
def _answers(name: str, content_hash: str) -> dict[str, tuple[str, ...]]:
    task = _shipped(name, content_hash)
    return {pair.query: pair.answers for pair in task.pairs} if isinstance(task, PairTask) else {}


@cache
def _asked(name: str, content_hash: str, index: int, n_shots: int, seed: int) -> Question | None:
    """A question, drawn again: all models were asked the same."""
    task = _shipped(name, content_hash)
    if task is None or n_shots >= (len(task.names) if isinstance(task, ListTask) else len(task.pairs)):
        return None
    return question(task, index=index, n_shots=n_shots, seed=seed)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
