"""What a task is: data plus a template, frozen, with a version and a content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a category: its canonical name and every other way people write it."""

    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ListTask:
    """Continue a list of different members of one category.

    A demonstration is `item_prefix + name + separator`; a prompt is k demonstrations with k different
    names out of n, in random order: " France, Spain, Italy,".

    Attributes:
        names: the sampling pool, most common word first.
        members: everything that counts as a member of the category when an answer is scored.
    """

    name: str
    version: int
    description: str
    item_prefix: str
    separator: str
    names: tuple[str, ...]
    members: tuple[Member, ...]
    sources: tuple[str, ...]
    licence: str

    def demonstration(self, name: str) -> str:
        """The text of one demonstration."""
        return f"{self.item_prefix}{name}{self.separator}"

    @property
    def example(self) -> str:
        """A prompt of three demonstrations."""
        return "".join(map(self.demonstration, self.names[:3]))

    @cached_property
    def surface_forms(self) -> frozenset[str]:
        """Every name and alias of every member, case-folded."""
        return frozenset(form.casefold() for member in self.members for form in (member.name, *member.aliases))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything in the task that can change a prompt or a score (64 hex digits)."""
        return _content_hash(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A query and its accepted answers; demonstrations show the first."""

    query: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PairTask:
    r"""Give each query its answer, after seeing it done for others.

    A demonstration is `item_prefix + query + arrow + answer_prefix + answer + separator`; a prompt is k demonstrations
    of different pairs and one more query up to and including the arrow: " France: Paris\n Italy:".

    Attributes:
        pairs: commonest query first; no query occurs twice.
    """

    name: str
    version: int
    description: str
    item_prefix: str
    arrow: str
    answer_prefix: str
    separator: str
    pairs: tuple[Pair, ...]
    sources: tuple[str, ...]
    licence: str

    def question(self, pair: Pair) -> str:
        """The query as a prompt ends with it."""
        return f"{self.item_prefix}{pair.query}{self.arrow}"

    def demonstration(self, pair: Pair) -> str:
        """The text of one demonstration."""
        return f"{self.question(pair)}{self.answer_prefix}{pair.answers[0]}{self.separator}"

    @property
    def example(self) -> str:
        """A prompt of two demonstrations and a query."""
        return "".join(map(self.demonstration, self.pairs[:2])) + "".join(map(self.question, self.pairs[2:3]))

    @cached_property
    def surface_forms(self) -> frozenset[str]:
        """Every query and every answer, case-folded."""
        return frozenset(form.casefold() for pair in self.pairs for form in (pair.query, *pair.answers))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything in the task that can change a prompt or a score (64 hex digits)."""
        return _content_hash(self)


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Natural text: windows of tokens from the start of sentences. Nothing is asked, so it has no accuracy."""

    name: str
    version: int
    description: str
    sentences: tuple[str, ...]
    sources: tuple[str, ...]
    licence: str

    @property
    def example(self) -> str:
        """How the first sentence begins."""
        return " ".join(self.sentences[0].split()[:8]) if self.sentences else ""

    @cached_property
    def surface_forms(self) -> frozenset[str]:
        """No word of a text is an answer."""
        return frozenset()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything in the task that can change a window (64 hex digits)."""
        return _content_hash(self)


Task = ListTask | PairTask | TextTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How many items are drawn from the pool, and how many demonstrations a full prompt has.

    Of a text: how many windows, and how many tokens each has.
    """

    name: str
    n_names: int
    n_shots: int


QUICK = Preset(name="quick", n_names=12, n_shots=4)
"""12 names, 4 shots: all 11,880 lists, small enough to enumerate on two cores."""

QUICK_PAIRS = Preset(name="quick", n_names=12, n_shots=3)
"""12 pairs, 3 shots: all 1,320 lists; a demonstration of a pair is twice as long and there are many such tasks."""

QUICK_TEXT = Preset(name="quick", n_names=1024, n_shots=8)
"""1,024 windows of 8 tokens."""

PAPER = {
    "country": Preset(name="paper", n_names=25, n_shots=4),
    "animal": Preset(name="paper", n_names=16, n_shots=5),
    "colour": Preset(name="paper", n_names=15, n_shots=5),
}
"""The population sizes of arXiv 2405.12617: 303,600, 524,160 and 360,360 lists."""

PAPER_TEXT = Preset(name="paper", n_names=300_000, n_shots=8)
"""The windows of arXiv 2405.12617."""

PRESETS = ("quick", "paper")


def preset_of(task: Task, preset: str) -> Preset:
    """The sizes of `preset` for a task; what the paper does not have takes its country sizes for `paper`."""
    if isinstance(task, TextTask):
        return QUICK_TEXT if preset == "quick" else PAPER_TEXT
    if preset == "quick":
        return QUICK_PAIRS if isinstance(task, PairTask) else QUICK
    return PAPER.get(task.name, PAPER["country"])


def _content_hash(task: Task) -> str:
    content = {field: value for field, value in asdict(task).items() if field not in ("sources", "licence")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
