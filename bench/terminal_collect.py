"""Collected text as a person sees it in the terminal, and what collecting would cost."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from bench.collect import CollectPlan
from bench.escape import printable
from bench.terminal import new_table
from bench.text_records import TextRecord


def text_tables(record: TextRecord) -> list[RenderableType]:
    """How much text there is, and of how many prompts."""
    key = record.key
    table = new_table(
        "Collected text",
        caption="cut off: answers that ended at the limit on tokens, of which the last sentence is left out.",
    )
    for column in ("model", "mode", "temperature"):
        table.add_column(column, overflow="fold")
    for column in ("prompts", "answered", "failed", "not asked", "cut off", "paragraphs", "sentences", "words"):
        table.add_column(column, justify="right")
    counts = (
        key.n_prompts, record.n_answered, record.n_failed, record.n_not_asked, record.n_cut_off, record.n_paragraphs,
        record.n_sentences, record.n_words,
    )  # fmt: skip
    temperature = "none sent" if key.temperature is None else f"{key.temperature:g}"
    table.add_row(printable(key.model), key.mode, temperature, *(f"{count:,}" for count in counts))
    return [table]


def plan_tables(planned: CollectPlan) -> list[RenderableType]:
    """What would be asked, and cost at most."""
    estimate = planned.estimate
    usd = "unknown: give both prices" if estimate.max_usd is None else f"about {estimate.max_usd:.4f} USD if none fails"
    lines = (
        f"prompts: {planned.n_prompts:,} of {planned.n_characters:,} characters, of which {planned.n_known:,} are "
        "answered already",
        f"requests: {estimate.n_requests:,} if none fails",
        f"tokens: about {estimate.n_prompt_tokens_estimated:,} of prompts (by length, chat template left out), "
        f"at most {estimate.max_completion_tokens:,} of answers",
        f"cost: {usd}",
        f"would write: {printable(str(planned.path))}",
    )
    return [*map(Text, lines)]
