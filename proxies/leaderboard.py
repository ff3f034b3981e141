"""The board -> the text of `leaderboard.md`. The same records give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from bench.escape import markdown_cell, url_path
from bench.fits import ON_TRIAL, FitRecord
from bench.intervals import REFUSED, with_half_width
from bench.records import ROUNDING_BITS
from bench.store import StoredEstimate, StoredFit
from proxies.board import Board
from proxies.digests import StoredDigest
from proxies.kinds import made_from_another
from proxies.markdown import table
from proxies.standings import (
    SHOWN,
    AnyEntry,
    Entry,
    EstimatedEntry,
    Performance,
    Setting,
    Standing,
    places,
)
from tasks import PERFORMANCE_SHOTS, PERFORMANCE_TASKS, RANKED_TASKS

FOLDER = "leaderboard"
"""Of the pictures and the tables by task, in the results folder."""

SIZE_PICTURE, CLOSED_PICTURE, BY_TASK = "emergence.svg", "estimated.svg", "by-task.md"

NOTHING = "–"

INTRODUCTION = """\
# Leaderboard

Emergence of language models in bits: how much more a transformer block carries about a whole list than about its
tokens one by one (arXiv 2405.12617; estimated as `docs/emergence.md` explains). Generated from the records in
`{results}/` by `bench leaderboard`; edits are lost.

**Read it with its controls.** Emergence says that the sequence got through the block. It does not say that it was
understood: compare each number with its ceiling, with the same architecture untrained, and with lists of random words.
"""

COLUMNS: dict[str, str] = {
    "rank": "place among measured models as published and estimates whose fit beats its baseline; derived models "
    "(`@int4`: weights of the blocks rounded to 4 bits), checkpoints of a training and other estimates have a row and "
    "no rank.",
    "model, family": "as in the catalog, or the name of the folder and its architecture; a service as it calls itself, "
    "and the family that was held out of its estimate.",
    "parameters": f"as counted in the weights; {NOTHING} where nobody says.",
    "type": "base or instruct, and how it came out of another model, if it did.",
    "precision": "of the stored weights, and of the arithmetic where it differs.",
    "BOS": "whether a begin-of-sequence token stands before macro and micro inputs alike.",
    "revision": "which weights: the beginning of a commit of the hub, or of a hash of the files.",
    "emergence": f"mean over blocks and over the tasks {', '.join(RANKED_TASKS)}, at the position that closes the last "
    "demonstration, ± half the 95 % interval: with one seed of the Monte-Carlo error of the estimator and nothing "
    "else, with several Student's interval from their spread where that is wider.",
    "ceiling": "what emergence can be at most, the exact macro term minus the measured micro term.",
    "over twin": "emergence minus that of the same architecture with freshly initialised weights on the same lists; "
    "with several seeds it says whether that is a difference.",
    "over random words": "emergence minus that of the same model on lists of words drawn from its vocabulary.",
    "performance": f"accuracy minus chance of generated answers, mean over {', '.join(PERFORMANCE_TASKS)} at "
    f"{PERFORMANCE_SHOTS} demonstrations, ± the longer half of the 95 % interval (Wilson's, combined){{chance}}.",
    "measured / estimated": "measured: computed from the model's own activations; estimated: from its answers or its "
    "text by a fit over other families, with the held-out error of that fit beside its baseline's, the models and "
    "families that it is over, and its verdict.",
    "n samples": "lists that were measured, over tasks and seeds; of an estimate, answers that it is from.",
    "seeds": "independent draws of names, random words, the twin's weights and the noise.",
    "date": "when the last of them was measured.",
    "records": "the files that the row is made of, each with every block, position and noise scale.",
}
"""What each column holds, in one sentence."""

ABOVE_NOTE = (
    "a value above its ceiling, which the information itself cannot be: the estimator of that table bounds nothing."
)

REFUSED_NOTE = "the estimator had no answer for a cell that the number needs; its record says why."


def render(board: Board, *, results: str = "results") -> str:
    """The text of the leaderboard.

    Args:
        results: the results folder as seen from the leaderboard, for links and pictures.
    """
    parts = [INTRODUCTION.format(results=results)]
    if not any(table.measured for table in board.tables):
        parts.append("No model is ranked yet: run `bench run MODEL`.\n")
    else:
        parts.append(_picture(results, SIZE_PICTURE, "Emergence against parameters, with intervals and ceilings"))
        for standing in board.tables:
            parts += [heading(standing), _table(standing, results)]
        parts.append(f"Every task and number of shots: [{BY_TASK}]({url_path(f'{results}/{FOLDER}/{BY_TASK}')}).\n")
        parts.append("## How to read it\n\n" + _notes(board))
    return "\n".join(parts + _estimates(board, results) + _apart(board, results))


def notes(board: Board) -> list[tuple[str, str]]:
    """What each column and mark of this board is, in one sentence."""
    entries = [entry for table in board.tables for entry in table.entries]
    chances = sorted({f"{entry.performance.chance:.2f}" for entry in entries if entry.performance is not None})
    said = f"; guessing has {chances[0]}" if len(chances) == 1 else ""
    if len(chances) > 1:
        said = f"; guessing has {chances[0]} to {chances[-1]}"
    found = [(name, text.replace("{chance}", said)) for name, text in COLUMNS.items()]
    measured = [entry for entry in entries if isinstance(entry, Entry)]
    if any(None in (entry.over_twin, entry.over_random_words) for entry in measured):
        found.append((REFUSED, REFUSED_NOTE))
    if any(is_above(entry) for entry in measured):
        found.append(("!", ABOVE_NOTE))
    return found


def rows_as_data(board: Board) -> list[dict[str, object]]:
    """The rows for machines, in the order of the leaderboard; numbers in bits, with half their 95 % interval."""
    return [
        {
            "rank": place,
            "name": entry.name,
            "family": entry.family,
            "preset": standing.setting.preset,
            "estimator": standing.setting.estimator,
        }
        | _as_data(entry)
        for standing in board.tables
        for place, entry in zip(places(standing.entries), standing.entries, strict=True)
    ]


def _as_data(entry: AnyEntry) -> dict[str, object]:
    performance = entry.performance
    shared = {
        "performance": performance and performance.above_chance.value,
        "performance_low": performance and performance.above_chance.low,
        "performance_high": performance and performance.above_chance.high,
        "performance_mode": performance and performance.mode,
    }
    if isinstance(entry, EstimatedEntry):
        record = entry.stored.record
        low_high = record.intervals.get("80")
        return {
            "kind": "estimated",
            "model": {"name": entry.name, "family": record.key.family},
            "emergence_bits": record.value_bits,
            "interval_80_bits": low_high and [low_high.low, low_high.high],
            "source": record.key.source,
            "fit": record.fit,
            "held_out_error_bits": record.error_bits,
            "baseline": record.baseline,
            "baseline_error_bits": record.baseline_error_bits,
            "beats_baseline": record.beats_baseline,
            "verdict": record.verdict,
            "n_models": len(record.trained_on),
            "n_families": record.n_families,
            "n_samples": record.n_questions,
            "date": entry.date,
            "records": [entry.stored.path],
        } | shared
    return {
        "kind": "measured",
        "model": entry.model.model_dump(mode="json"),
        "bos": entry.bos,
        "seeds": entry.seeds,
        "emergence_bits": entry.emergence[0],
        "emergence_half_width_bits": entry.emergence[1],
        "ceiling_bits": entry.ceiling,
        "over_twin_bits": entry.over_twin and entry.over_twin[0],
        "over_twin_half_width_bits": entry.over_twin and entry.over_twin[1],
        "over_random_words_bits": entry.over_random_words and entry.over_random_words[0],
        "over_random_words_half_width_bits": entry.over_random_words and entry.over_random_words[1],
        "n_samples": entry.n_samples,
        "date": entry.date,
        "records": [item.path for item in entry.records],
    } | shared


def heading(standing: Standing) -> str:
    """The heading of a table and what its rows have in common."""
    return f"## {markdown_cell(title(standing))}\n\n{markdown_cell(described(standing))}\n"


def title(standing: Standing) -> str:
    """What a table is called, in plain text."""
    setting = standing.setting
    headline = standing.measured[0].records[0].record.headline
    return f"Preset {setting.preset}, estimator {setting.estimator} ({headline})"


def described(standing: Standing) -> str:
    """What the rows of a table have in common, in plain text."""
    keys = [item.record.key for entry in standing.measured for item in entry.records]
    sizes = sorted({(key.task, key.n_names, key.n_shots) for key in keys})
    if len({size[1:] for size in sizes}) == 1:
        lists = f"{keys[0].n_shots} of {keys[0].n_names} names"
    else:
        lists = "; ".join(f"{task}: {shots} of {names} names" for task, names, shots in sizes)
    return f"Every ordered list of {lists}, fully enumerated.{_settings_shown(standing.setting)}"


def _settings_shown(setting: Setting) -> str:
    """The settings of the estimator, which tell apart tables that are otherwise called the same."""
    shown_as = {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in sorted(json.loads(setting.settings).items())
    }
    listed = ", ".join(f"{name} {value}" for name, value in shown_as.items())
    return f" Settings: {listed}." if listed else ""


def _picture(results: str, name: str, alternative: str) -> str:
    return f"![{alternative}]({url_path(f'{results}/{FOLDER}/{name}')})\n"


def _table(standing: Standing, results: str) -> str:
    header = (
        "rank", "model", "family", "parameters", "type", "precision", "BOS", "revision", "emergence (bits)", "ceiling",
        "over twin", "over random words", "performance", "measured / estimated", "n samples", "seeds", "date",
        "records",
    )  # fmt: skip
    rows = []
    for place, entry in zip(places(standing.entries), standing.entries, strict=True):
        row = _estimated_row(entry, results) if isinstance(entry, EstimatedEntry) else _measured_row(entry, results)
        rows.append(("" if place is None else str(place), *row))
    return table(header, rows)


def _measured_row(entry: Entry, results: str) -> tuple[str, ...]:
    model = entry.model
    return (
        markdown_cell(model.name),
        markdown_cell(model.family),
        f"{model.n_parameters / 1e6:,.1f} M",
        kind_of(entry),
        markdown_cell(precision_of(entry)),
        "yes" if entry.bos else "no",
        markdown_cell(model.revision[:19]),
        with_half_width(*entry.emergence) + (" !" if is_above(entry) else ""),
        f"{entry.ceiling:.2f}",
        compared(entry.over_twin, n_seeds=len(entry.seeds)),
        compared(entry.over_random_words, n_seeds=len(entry.seeds)),
        performance_shown(entry.performance),
        "measured",
        f"{entry.n_samples:,}",
        str(len(entry.seeds)),
        markdown_cell(entry.date),
        " ".join(_link(record_name(item, entry), item.path, results) for item in entry.records),
    )


def _estimated_row(entry: EstimatedEntry, results: str) -> tuple[str, ...]:
    record = entry.stored.record
    fit = _link("fit", record.fit, results)
    return (
        markdown_cell(entry.name),
        markdown_cell(entry.family),
        NOTHING, NOTHING, NOTHING, NOTHING, NOTHING,
        estimate_shown(entry.stored),
        NOTHING, NOTHING, NOTHING,
        performance_shown(entry.performance),
        f"estimated from {SHOWN[record.key.source]}, {fit}: {markdown_cell(worth(entry.stored))}",
        f"{record.n_questions:,}" if record.n_questions else NOTHING,
        NOTHING,
        markdown_cell(entry.date),
        _link("estimate", entry.stored.path, results),
    )  # fmt: skip


def kind_of(entry: Entry) -> str:
    """Base or instruct, and what it was made from."""
    return ", ".join(filter(None, (entry.model.variant, made_from_another(entry.model.name))))


def precision_of(entry: Entry) -> str:
    """Of the weights, and of the arithmetic where it differs."""
    model = entry.model
    return model.precision if model.precision == model.dtype else f"{model.precision} in {model.dtype}"


def is_above(entry: Entry) -> bool:
    """Whether emergence is above its ceiling, which an estimator that bounds nothing may say."""
    return entry.emergence[0] > entry.ceiling + ROUNDING_BITS


def performance_shown(performance: Performance | None) -> str:
    """With the longer half of its interval, and the mode where it is not the usual one."""
    if performance is None:
        return NOTHING
    mode = "" if performance.mode == "completion" else f" ({performance.mode})"
    return with_half_width(performance.above_chance.value, performance.above_chance.longer_half) + mode


def estimate_shown(stored: StoredEstimate) -> str:
    """The estimate with its 80 % interval, or why there is none."""
    record = stored.record
    between = record.intervals.get("80")
    if between is None:
        return f"{record.value_bits:.2f} (no interval: {record.n_families} families)"
    return f"{record.value_bits:.2f} (80 %: {between.low:.2f} to {between.high:.2f})"


def worth(stored: StoredEstimate) -> str:
    """What an estimate is worth, in words: the held-out error of its fit, and whether that beats the baseline."""
    record = stored.record
    error = NOTHING if record.error_bits is None else f"{record.error_bits:.2f}"
    baseline = NOTHING if record.baseline_error_bits is None else f"{record.baseline_error_bits:.2f}"
    blind = "" if record.makes_use_of_inputs else "; the fit says the same of every model, whatever it answers"
    return (
        f"held-out error {error} bits, {record.baseline} {baseline}; {len(record.trained_on)} models of "
        f"{record.n_families} families; {'beats' if record.beats_baseline else 'does not beat'} its baseline{blind}"
    )


def compared(difference: tuple[float, float] | None, *, n_seeds: int) -> str:
    """The difference with its interval and, where several seeds tell, whether it is one."""
    if difference is None:
        return REFUSED
    said = difference_of(difference, n_seeds=n_seeds)
    return with_half_width(*difference, signed=True) + (f" ({said})" if said else "")


def difference_of(difference: tuple[float, float], *, n_seeds: int) -> str:
    """Whether it is one, in a word; one seed does not tell."""
    value, width = difference
    return "" if n_seeds == 1 else "above" if value > width else "below" if value < -width else "no difference"


def record_name(item: StoredDigest, entry: Entry) -> str:
    """What a link to a record says."""
    return item.record.key.task + (f" {item.record.key.seed}" if len(entry.seeds) > 1 else "")


def _notes(board: Board) -> str:
    return "".join(f"- **{name}**: {text}\n" for name, text in notes(board))


def largest(board: Board) -> Standing | None:
    """The table with the most measured rows, which the picture is of."""
    return max((one for one in board.tables if one.measured), key=lambda one: len(one.measured), default=None)


def pretended(fits: Sequence[StoredFit]) -> list[StoredFit]:
    """The fits that estimate emergence, whose held-out predictions are of open models taken for closed ones."""
    return [item for item in fits if item.record.key.problem in ON_TRIAL]


def verdict_of(record: FitRecord) -> str:
    """Of what is on trial, alone."""
    predictor = ON_TRIAL[record.key.problem]
    return next((one.verdict for one in record.comparisons if one.predictor == predictor), "nothing is on trial")


def _estimates(board: Board, results: str) -> list[str]:
    """How good estimates are, shown on models that are measured as well."""
    shown = pretended(board.fits)
    if not shown and not board.found.compared:
        return []
    parts = [
        "## How good are estimates?\n\nEach open model is taken for a closed one: its family is left out, its "
        "emergence estimated from what is left, and held against what was measured.\n"
    ]
    if shown:
        parts.append(_picture(results, CLOSED_PICTURE, "Estimated against measured emergence, each family held out"))
        parts += [
            f"- {_link(FROM[item.record.key.problem], item.path, results)}: "
            f"{markdown_cell(verdict_of(item.record) + (STALE if item.path in board.found.stale_fits else ''))}"
            for item in shown
        ]
        parts.append("")
    if board.found.compared:
        parts.append(
            table(
                ("model", "from", "estimated (bits)", "measured (bits)", "worth", "estimate"),
                [
                    (
                        markdown_cell(one.stored.record.key.model),
                        SHOWN[one.stored.record.key.source],
                        estimate_shown(one.stored),
                        f"{one.measured:.2f}",
                        markdown_cell(worth(one.stored)),
                        _link("record", one.stored.path, results),
                    )
                    for one in board.found.compared
                ],
            )
        )
    return parts


STALE = " (of other records than are here now: run `bench fit`)"

FROM = {"emergence": "from answers", "texts": "from text"}


def _apart(board: Board, results: str) -> list[str]:
    lines = [
        f"- {markdown_cell(one.what)}: {markdown_cell(one.reason)}"
        + ("" if one.path is None else f"; {_link('record', one.path, results)}")
        for one in board.apart
    ]
    return ["## Not ranked\n\n" + "\n".join(lines) + "\n"] if lines else []


def _link(text: str, path: str, results: str) -> str:
    return f"[{markdown_cell(text)}]({url_path(str(PurePosixPath(results) / path))})"
