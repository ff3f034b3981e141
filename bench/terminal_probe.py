"""The text probe as a person sees it in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from bench.escape import printable
from bench.probe_records import EVIDENCE, Comparison, Evidence, Interval, ProbeRecord, Terms
from bench.terminal import new_table

NAMES: dict[Evidence, str] = {
    "emergence": "emergence",
    "counted": "counting distinct tokens (no model)",
    "bag_of_tokens": "bag of tokens (no model)",
    "perplexity": "perplexity of the proxy",
}


def probe_tables(records: Sequence[ProbeRecord]) -> list[RenderableType]:
    """Per record: the texts at every number of windows, with the control and what each kind of evidence needs."""
    return [part for record in records for part in _tables(record)]


def probe_as_data(record: ProbeRecord) -> dict[str, object]:
    """A record for machines, and what each kind of evidence needs beside it."""
    return {
        "n_windows_needed": {evidence: record.n_needed(evidence) for evidence in EVIDENCE},
        "is_saturated": record.headline.is_saturated,
        "record": record.model_dump(mode="json"),
    }


def _tables(record: ProbeRecord) -> Iterator[RenderableType]:
    key = record.key
    table = new_table(
        f"{key.model}: {_shown(key.text, key.writer)} against {_shown(key.reference, key.reference_writer)}, "
        "emergence in bits",
        caption=f"{key.estimator}, windows of {key.window} tokens in {key.n_groups} groups a side, means over blocks. "
        "Differences with their 95 % intervals (Welch, over groups or windows); * where the interval excludes no "
        "difference. Cap: the most that the macro term can be. Counted: the difference with both terms counted on "
        "distinct tokens, no model needed. Bag of tokens: AUC of held-out logistic regressions. Perplexity: difference "
        "of the mean log-loss a token in bits, and the AUC of telling windows apart by it. Control: the reference "
        "against other windows of itself.",
    )
    for column in ("windows a side", "text", "reference", "cap", "saturated", "difference", "counted"):
        table.add_column(column, justify="right")
    for column in ("AUC, bag of tokens", "perplexity", "AUC, perplexity"):
        table.add_column(column, justify="right")
    for comparison in record.comparisons:
        table.add_row(str(comparison.n_windows), *_cells(comparison))
    if record.control:
        table.add_section()
        table.add_row(f"control, {record.control.n_windows}", *_cells(record.control))
    yield table
    yield from (Text(printable(line)) for line in _lines(record))


def _cells(comparison: Comparison) -> Iterator[str]:
    text, reference = comparison.text, comparison.reference
    yield f"{_mean(text.emergence_bits):.3f}"
    yield f"{_mean(reference.emergence_bits):.3f}"
    yield f"{_cap(text, reference):.2f}"
    yield f"{text.n_saturated + reference.n_saturated}/{text.n_cells + reference.n_cells}"
    yield _interval(comparison.difference_bits, 3, is_marked=comparison.separates("emergence"))
    yield _interval(comparison.counted_bits, 3, is_marked=comparison.separates("counted"))
    yield _interval(comparison.bag_of_tokens, 2, is_signed=False, is_marked=comparison.separates("bag_of_tokens"))
    yield _interval(comparison.perplexity.difference_bits, 2, is_marked=comparison.separates("perplexity"))
    yield _interval(comparison.perplexity.auc, 2, is_signed=False)


def _lines(record: ProbeRecord) -> Iterator[str]:
    """What is to be said in words: what each kind of evidence needs, the control, saturation, shared windows."""
    key, headline = record.key, record.headline
    for evidence in EVIDENCE:
        needed = record.n_needed(evidence)
        yield f"{NAMES[evidence]}: " + (
            f"tells the texts apart from {needed} windows a side on"
            if needed
            else f"does not tell the texts apart with {headline.n_windows} windows a side"
        )
    if headline.is_saturated:
        yield (
            f"saturated: with {headline.n_windows} windows most macro terms are within half a bit of their cap of "
            f"{_cap(headline.text, headline.reference):.2f} bits, so their difference says nothing about the texts; "
            "take more windows or fewer --groups"
            + (", or a coarser --setting headline_scale" if key.estimator == "noisy_channel" else "")
        )
    if record.control is None:
        yield (
            f"control: none, the {record.reference.n_dealt} windows of the reference do not make two samples; give a "
            "longer reference"
        )
    else:
        apart = [NAMES[evidence] for evidence in EVIDENCE if record.control.separates(evidence)]
        yield "control: " + (
            f"the reference differs from itself by {', '.join(apart)}, as 1 in 20 controls does by chance; try another "
            "--seed before you believe the difference"
            if apart
            else "the reference does not differ from itself"
        )
    for name, info in ((key.text, record.text), (key.reference, record.reference)):
        yield (
            f"{name}: {info.n_sentences:,} sentences, {info.n_full:,} of them with {key.window} tokens, "
            f"{info.n_windows:,} distinct windows"
        )
    if record.n_shared:
        yield (
            f"{record.n_shared:,} windows occur in both texts; each was dealt to one of them at random, so that none "
            "is on both sides"
        )


def _shown(name: str, writer: str | None) -> str:
    return f"{name} ({writer})" if writer else name


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _cap(text: Terms, reference: Terms) -> float:
    return min(_mean(text.cap_bits), _mean(reference.cap_bits))


def _interval(interval: Interval, decimals: int, *, is_signed: bool = True, is_marked: bool = False) -> str:
    """`value [low, high]`, with a star where it excludes no difference."""
    sign = "+" if is_signed else ""
    value, low, high = (f"{number:{sign}.{decimals}f}" for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]" + (" *" if is_marked else "")
