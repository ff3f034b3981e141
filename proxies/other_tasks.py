"""Records of tasks that make no rank -> their table among those by task."""

from __future__ import annotations

from collections.abc import Sequence

from bench.escape import markdown_cell, url_path
from bench.intervals import REFUSED, shown
from proxies.digests import Digest, StoredDigest
from proxies.markdown import table
from tasks import RANKED_TASKS

HEADING = """\
## Other tasks

Pairs, more lists and texts; they make no rank. Emergence is the mean over blocks at the last shot (of a text: at the
last token of its windows), ± half the 95 % Monte-Carlo interval of one seed. *lists*: how many, of how many
demonstrations out of how many. *fit*: how many items of the task have one token count under the model's tokenizer, so
that positions mean the same in every list; of a text, how many sentences are long enough. Random words stand in the
same places and repeat where the task repeats.

"""


def is_other_task(record: Digest) -> bool:
    """Whether a record is whole, but of a task that makes no rank."""
    return record.key.task not in RANKED_TASKS and record.key.limit is None and record.summary[-1].emergence is not None


def other_tasks_table(stored: Sequence[StoredDigest], *, results: str) -> list[str]:
    """The heading and the table, or nothing where there are no such records.

    Args:
        results: the results folder as seen from the leaderboard, for the links to the records.
    """
    found = sorted(
        (item for item in stored if is_other_task(item.record)),
        key=lambda item: (item.record.key.task, item.record.model.name, item.record.key.seed, item.path),
    )
    header = (
        "task", "model", "estimator", "seed", "lists", "fit", "emergence (bits)", "ceiling", "over twin",
        "over random words", "saturated", "record",
    )  # fmt: skip
    rows = [_row(item, results) for item in found]
    return [HEADING + table(header, rows)] if rows else []


def _row(item: StoredDigest, results: str) -> tuple[str, ...]:
    record, last = item.record, item.record.summary[-1]
    sizes = f"{record.key.n_shots} tokens" if record.is_text else f"{record.key.n_shots} of {record.key.n_names}"
    return (
        markdown_cell(record.key.task),
        markdown_cell(record.model.name),
        markdown_cell(record.key.estimator),
        str(record.key.seed),
        f"{record.n_sequences:,} ({sizes})",
        f"{record.n_survivors} of {record.n_pool}",
        shown(last.emergence),
        REFUSED if last.ceiling_bits is None else f"{last.ceiling_bits:.2f}",
        shown(last.excess_over_twin, signed=True),
        shown(last.excess_over_random_words, signed=True),
        f"{last.saturated_blocks} of {record.model.n_blocks}",
        f"[record]({url_path(f'{results}/{item.path}')})",
    )
