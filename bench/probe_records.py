"""What the text probe writes to disk: two texts through one proxy, with the baselines and a control. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.records import ROUNDING_BITS, Count, Finite, ModelInfo, Name, Positive, Provenance, Row, Settings

PROBE_SCHEMA_VERSION: Literal[1] = 1
"""Raised when the shape of a record changes."""

PROBE_METHOD_VERSION = 1
"""Raised when the same request would give other numbers than before."""

Evidence = Literal["emergence", "counted", "bag_of_tokens", "perplexity"]

EVIDENCE: tuple[Evidence, ...] = ("emergence", "counted", "bag_of_tokens", "perplexity")
"""What is asked whether it tells the two texts apart; all but the first are baselines."""


class ProbeKey(Row):
    """Everything that changes a comparison of two texts; a record answers for its key and nothing else."""

    schema_version: int
    method_version: int
    model: Name
    revision: Name
    files_sha256: Name
    """Of configuration, tokenizer and weights of the proxy."""
    dtype: Name
    bos: Count | None
    """The token put before every window and before every token fed alone."""
    text: Name
    text_sha256: Name
    """Of the text's sentences, each once, one a line."""
    writer: Name | None
    """Who wrote the text, as far as one was told."""
    reference: Name
    reference_sha256: Name
    reference_writer: Name | None
    window: Positive
    """Tokens of a window."""
    sizes: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Numbers of windows on each side at which the texts are compared, ascending; the last one is the headline."""
    n_groups: Annotated[int, Field(ge=2)]
    """Disjoint groups that the windows of each side are dealt into."""
    estimator: Name
    settings: Settings
    seed: Count


class Interval(Row):
    """A number with its 95 % interval."""

    value: Finite
    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high, got {self.low}, {self.value}, {self.high}")
        return self

    def excludes(self, number: float) -> bool:
        """Whether a number lies outside the interval."""
        return not self.low <= number <= self.high


class TextInfo(Row):
    """What one text gave under the tokenizer of the proxy."""

    n_sentences: Positive
    n_full: Count
    """Sentences that are at least a window long."""
    n_windows: Count
    """Distinct windows among them, those included that occur in the other text too."""
    n_dealt: Count
    """Windows left after each that occurs in both texts was dealt to one of them."""


class Terms(Row):
    """Emergence and its two terms of each group of windows, after the last token, means over blocks, in bits."""

    emergence_bits: tuple[Finite, ...]
    macro_bits: tuple[Finite, ...]
    micro_bits: tuple[Finite, ...]
    cap_bits: tuple[Finite, ...]
    """The most that the macro term of each group can be."""
    by_token_bits: tuple[Finite, ...]
    """Emergence after each token of the window, mean over groups and blocks."""
    n_saturated: Count
    """Macro terms (one a group and block) within half a bit of their caps."""
    n_cells: Positive

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({len(self.emergence_bits), len(self.macro_bits), len(self.micro_bits), len(self.cap_bits)}) != 1:
            raise ValueError("every term must have one number a group")
        if self.n_saturated > self.n_cells:
            raise ValueError("more saturated cells than cells")
        for macro, cap in zip(self.macro_bits, self.cap_bits, strict=True):
            if macro > cap + ROUNDING_BITS:
                raise ValueError(f"a macro term of {macro} bits is above its cap of {cap}")
        return self


class Perplexity(Row):
    """How hard the proxy finds each text: mean log-loss of a token given the window before it, in bits."""

    text_bits: Finite
    reference_bits: Finite
    difference_bits: Interval
    auc: Interval
    """How often a window of the text is easier for the proxy than one of the reference; 0.5 is no difference."""


class Comparison(Row):
    """Both texts at one number of windows a side."""

    n_windows: Positive
    text: Terms
    reference: Terms
    difference_bits: Interval
    """Emergence of the text minus that of the reference, Welch's interval over the groups."""
    curve_bits: dict[str, Interval]
    """The same from every reading of the estimator, by label."""
    counted_bits: Interval
    """The same with both terms counted, not estimated: how varied the tokens are, whatever the proxy makes of them."""
    bag_of_tokens: Interval
    """AUC of telling held-out windows apart by which tokens they hold."""
    perplexity: Perplexity

    @property
    def is_saturated(self) -> bool:
        """Whether at least half of the macro terms are at their caps: their difference says nothing then."""
        n_saturated = self.text.n_saturated + self.reference.n_saturated
        return 2 * n_saturated >= self.text.n_cells + self.reference.n_cells

    def separates(self, evidence: Evidence) -> bool:
        """Whether the 95 % interval of a piece of evidence excludes "no difference"."""
        by: dict[Evidence, Callable[[], bool]] = {
            "emergence": lambda: self.difference_bits.excludes(0.0) and not self.is_saturated,
            "counted": lambda: self.counted_bits.excludes(0.0),
            "bag_of_tokens": lambda: self.bag_of_tokens.low > 0.5,
            "perplexity": lambda: self.perplexity.difference_bits.excludes(0.0),
        }
        return by[evidence]()


class ProbeRecord(Row):
    """One text against one reference through one proxy."""

    kind: Literal["probe"] = "probe"
    schema_version: Literal[1]
    key: ProbeKey
    model: ModelInfo
    text: TextInfo
    reference: TextInfo
    n_shared: Count
    """Windows that occur in both texts."""
    comparisons: Annotated[tuple[Comparison, ...], Field(min_length=1)]
    control: Comparison | None
    """The reference against other windows of itself, which must not separate; None where it is too short for that."""
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sizes = tuple(comparison.n_windows for comparison in self.comparisons)
        if sizes != self.key.sizes or list(sizes) != sorted(set(sizes)):
            raise ValueError("expected a comparison for each of the sizes of the key, ascending")
        for comparison in (*self.comparisons, *([self.control] if self.control else [])):
            for terms in (comparison.text, comparison.reference):
                if len(terms.emergence_bits) != self.key.n_groups or len(terms.by_token_bits) != self.key.window:
                    raise ValueError("every term must have the groups and the tokens of the key")
        if (self.model.name, self.model.dtype) != (self.key.model, self.key.dtype):
            raise ValueError("model and key name different models")
        return self

    @property
    def headline(self) -> Comparison:
        """The comparison with the most windows."""
        return self.comparisons[-1]

    def n_needed(self, evidence: Evidence) -> int | None:
        """The smallest number of windows a side from which on a piece of evidence separates the texts, or None."""
        needed = None
        for comparison in reversed(self.comparisons):
            if not comparison.separates(evidence):
                break
            needed = comparison.n_windows
        return needed
