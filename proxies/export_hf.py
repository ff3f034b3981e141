"""Results as Hugging Face reads them: result files of leaderboards, and the metadata of model cards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from proxies.export_selection import Answered, BoardEntry, Json, Run, Selection, Weights, by_weights, date_id, dumped

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SOURCE = "emergence-bench"
"""What data sets of a card and tasks of a result file begin with; it is no data set of the hub."""

EMERGENCE_NUMBERS = (
    "emergence_bits", "emergence_half_width_bits", "ceiling_bits", "over_twin_bits", "over_twin_half_width_bits",
    "over_random_words_bits", "over_random_words_half_width_bits", "held_out_error_bits", "baseline_error_bits",
)  # fmt: skip

EMERGENCE_SETTING = (
    "kind", "estimator", "preset", "bos", "n_samples", "date", "fit", "baseline", "beats_baseline", "verdict",
    "n_models", "n_families",
)  # fmt: skip

CARD = """\
---
{metadata}
---

Measured with `bench`. The block above goes into the README.md of the model: its `model-index` holds emergence in bits
(not an accuracy: read it with its ceiling and its controls, in the `args` of each metric) and accuracy on the tasks of
the same package, each with its 95 % interval.
"""


def hf_files(selection: Selection) -> Iterator[tuple[str, bytes]]:
    """Each file with its path from the folder of the export."""
    for weights, folder, board, runs in by_weights(selection):
        dates = [entry.row["date"] for entry in board] + [run.date for run in runs]
        yield (
            f"results/{folder}/results_{date_id(max(dates))}.json",
            dumped(_results(weights, board, runs), indent=2) + b"\n",
        )
        yield f"cards/{folder}/README.md", _card(weights, board, runs)


def emergence_tasks(board: Sequence[BoardEntry]) -> dict[str, BoardEntry]:
    """What the rows of one model are called in its result file: the same for all models that can be compared.

    Rows that differ in something else (begin-of-sequence tokens) are numbered.
    """
    found: dict[str, BoardEntry] = {}
    for entry in board:
        row, settings = entry.row, hashlib.sha256(entry.settings.encode()).hexdigest()[:8]
        name = f"{SOURCE}|emergence|{row['preset']}|{row['estimator']}|{row['kind']}|settings-{settings}"
        n_alike = sum(other.startswith(name) for other in found)
        found[f"{name} ({n_alike + 1})" if n_alike else name] = entry
    return found


def accuracy_task(run: Run, one: Answered) -> str:
    """What a task at one number of shots is called in a result file; no such name is part of another.

    Readers take every task whose name holds the one that they look for, so names end with what begins no number.
    """
    return f"{SOURCE}|{one.task}|{run.mode}|seed {run.seed}|{one.cell.n_shots}-shot"


def _results(weights: Weights, board: list[BoardEntry], runs: list[Run]) -> Json:
    results: Json = {}
    versions: Json = {}
    emergence: Json = {}
    for name, entry in emergence_tasks(board).items():
        results[name] = _emergence_numbers(entry)
        emergence[name] = _emergence_setting(entry)
    for run in runs:
        for one in run.answered:
            name = accuracy_task(run, one)
            results[name] = _accuracy_numbers(one)
            versions[name] = one.key.task_version
    return {
        "config": _config(weights, board, runs) | {"emergence": emergence},
        "results": results,
        "versions": versions,
    }


def _config(weights: Weights, board: list[BoardEntry], runs: list[Run]) -> Json:
    infos = [entry.row["model"] for entry in board]
    infos += [run.info.model_dump(mode="json") for run in runs if run.info is not None]
    info: Json = infos[0] if infos else {}
    return {
        "model_name": weights.model,
        "model_dtype": f"torch.{weights.dtype}" if weights.dtype else "unknown",
        "model_sha": weights.revision,
        "model_precision": info.get("precision"),
        "model_num_parameters": info.get("n_parameters"),
        "model_licence": info.get("licence"),
    }


def _emergence_numbers(entry: BoardEntry) -> dict[str, float]:
    """In bits; what a row does not have (a control that was refused, say) is left out."""
    row = entry.row
    low, high = row.get("interval_80_bits") or (None, None)
    found = {name: row.get(name) for name in EMERGENCE_NUMBERS}
    found |= {"interval_80_low_bits": low, "interval_80_high_bits": high}
    return {name: value for name, value in found.items() if value is not None}


def _emergence_setting(entry: BoardEntry) -> Json:
    """What the numbers of a row are worth nothing without."""
    row = entry.row
    found = {name: row.get(name) for name in EMERGENCE_SETTING}
    found |= {"settings": entry.settings, "n_seeds": len(row.get("seeds") or ()), "estimated_from": row.get("source")}
    return {name: value for name, value in found.items() if value not in (None, "")}


def _accuracy_numbers(one: Answered) -> dict[str, float]:
    cell = one.cell
    shares = {"acc": cell.accuracy, "acc_low_95": cell.low, "acc_high_95": cell.high, "chance": cell.chance}
    if cell.n_repeats is not None:
        shares["repeats"] = cell.n_repeats / cell.n_answered
    return {name: share for name, share in shares.items() if share is not None} | {"n_questions": cell.n_questions}


def _card(weights: Weights, board: list[BoardEntry], runs: list[Run]) -> bytes:
    from huggingface_hub import ModelCardData

    results = [_emergence_result(name, entry) for name, entry in emergence_tasks(board).items()]
    results += [_accuracy_result(run, one) for run in runs for one in run.answered]
    data = ModelCardData(model_name=weights.model, eval_results=results)
    return CARD.format(metadata=data.to_yaml(line_break="\n")).encode()


def _emergence_result(name: str, entry: BoardEntry) -> EvalResult:
    from huggingface_hub import EvalResult

    row, numbers = entry.row, _emergence_numbers(entry)
    return EvalResult(
        task_type="text-generation",
        task_name="emergence",
        dataset_type=f"{SOURCE}/ranked-lists",
        dataset_name=f"Ranked lists, preset {row['preset']}",
        dataset_config=name,
        metric_type="emergence",
        metric_name="Emergence (bits)" if row["kind"] == "measured" else "Emergence (bits), estimated",
        metric_value=numbers.pop("emergence_bits"),
        metric_config=row["estimator"],
        metric_args={**numbers, **_emergence_setting(entry)},
    )


def _accuracy_result(run: Run, one: Answered) -> EvalResult:
    from huggingface_hub import EvalResult

    numbers = _accuracy_numbers(one)
    return EvalResult(
        task_type="text-generation",
        task_name=f"{one.cell.n_shots}-shot {run.mode}",
        dataset_type=f"{SOURCE}/{one.task}",
        dataset_name=one.task,
        dataset_config=accuracy_task(run, one),
        dataset_revision=one.key.task_hash,
        metric_type="accuracy",
        metric_name="Accuracy",
        metric_value=numbers.pop("acc"),
        metric_args={**numbers, "n_shots": one.cell.n_shots, "mode": run.mode, "seed": run.seed},
    )
