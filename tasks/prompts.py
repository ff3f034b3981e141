"""Task + tokenizer -> aligned populations of token sequences.

Positions must mean the same thing in every sample, so an item (a name, or a query with its answer) is kept only when
its demonstration has the same token count, part by part, as all the others. How many survive is part of the result.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np
import numpy.typing as npt

from tasks.task import ListTask, PairTask, TextTask

Encode = Callable[[str], Sequence[int]]
"""Text -> token ids, without special tokens."""

Decode = Callable[[Sequence[int]], str]
"""Token ids -> text."""

MAX_SEQUENCES = 5_000_000
"""Largest population that is enumerated; beyond it the token table alone passes hundreds of megabytes."""

MIN_ITEMS = 12
"""Items that `align` looks for when it is not told how many are needed: those of the `quick` preset."""


class PromptError(ValueError):
    """The task cannot be turned into prompts as asked: too few aligned items, k > n, an empty selection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPool:
    """The items of a task whose demonstrations have one and the same shape under one tokenizer.

    Attributes:
        names: survivors, in the order of the task's pool: the names of a list, the queries of pairs.
        demonstrations: token ids of the demonstration of each survivor, all equally long.
        parts: of each survivor, the tokens of its name, or of its query and of its answer.
        rejected: items of another token count, unknown to the tokenizer, or merging with what is around them.
        shape: tokens of a name (one number), or of a query and of an answer (two).
    """

    names: tuple[str, ...]
    demonstrations: tuple[tuple[int, ...], ...]
    parts: tuple[tuple[tuple[int, ...], ...], ...]
    rejected: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Population:
    """Token sequences that are measured together: lists of demonstrations, or windows of a text.

    Attributes:
        names: the n demonstrations that were drawn, by name or as "query: answer"; none for a text.
        sequences: token ids, shape (n_sequences, n_positions), no special tokens.
        n_shots: demonstrations per sequence; the tokens of a window.
        demonstration_length: tokens per demonstration, so that position `k * demonstration_length` closes shot k.
        is_enumerated: whether every possible sequence is there; a text is always a sample.
        n_survivors, n_pool: how many items of the pool are aligned under this tokenizer; how many sentences of a text
            are long enough.
        parts: the tokens of each of the n names, or of its query and of its answer.
    """

    names: tuple[str, ...]
    sequences: npt.NDArray[np.int64]
    n_shots: int
    demonstration_length: int
    is_enumerated: bool
    n_survivors: int
    n_pool: int
    parts: tuple[tuple[tuple[int, ...], ...], ...] = ()


def align(task: ListTask | PairTask, encode: Encode, *, at_least: int = MIN_ITEMS) -> AlignedPool:
    """Keep the items whose demonstrations tokenize part by part, with one token count for each part.

    A name must be one token. Of pairs, the counts (query, answer) with the fewest tokens are taken that `at_least`
    pairs have, or where none are that common, the most common ones. A token that several names or queries share is the
    tokenizer's sign for "unknown": none of them is kept.
    """
    items = _list_items(task, encode) if isinstance(task, ListTask) else _pair_items(task, encode)
    first_parts = Counter(item.parts[0] for item in items)
    sound = [item for item in items if first_parts[item.parts[0]] == 1 and item.is_plain]
    n_by_shape = Counter(item.shape for item in sound if isinstance(task, PairTask) or item.shape == (1,))
    common = [shape for shape, n in n_by_shape.items() if n >= at_least] or [
        shape for shape, n in n_by_shape.items() if n == max(n_by_shape.values())
    ]
    shape = min(common, key=lambda shape: (sum(shape), -n_by_shape[shape], shape), default=items[0].shape)
    kept = [item for item in sound if item.shape == shape and shape in n_by_shape]
    names = {item.name for item in kept}
    return AlignedPool(
        names=tuple(item.name for item in kept),
        demonstrations=tuple(item.tokens for item in kept),
        parts=tuple(item.parts for item in kept),
        rejected=tuple(item.name for item in items if item.name not in names),
        shape=shape,
    )


def list_population(
    task: ListTask | PairTask,
    encode: Encode,
    *,
    n_names: int,
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None = None,
) -> Population:
    """Draw n items from the aligned pool and build every ordered list of k of their demonstrations.

    The pool is put in random order *before* the tokenizer's survivors are taken from it, so that two tokenizers
    with the same seed share most items.

    Args:
        limit: keep only this many lists, drawn at random (for trying things out, never for a ranking).

    Raises:
        PromptError: k > n, fewer than n items survive, no lists asked for, or demonstrations that do not
            tokenize independently of each other.
    """
    check_sizes(n_names=n_names, n_shots=n_shots, limit=limit)
    pool = align(task, encode, at_least=n_names)
    shown = _shown_demonstrations(task)
    if len(pool.names) < n_names:
        what = "names are a single token" if isinstance(task, ListTask) else "pairs have one token count"
        least = 2 if n_shots <= 2 else n_shots
        remedy = (
            f"lower --n-names to {len(pool.names)} or fewer, or take another task"
            if len(pool.names) >= least
            else "take another task"
        )
        raise PromptError(
            f"task {task.name!r}: {len(pool.names)} of its {len(shown)} {what} under this tokenizer, "
            f"and {n_names} are needed; {remedy}"
        )
    demonstration_of = dict(zip(pool.names, pool.demonstrations, strict=True))
    parts_of = dict(zip(pool.names, pool.parts, strict=True))
    names = list(shown)
    shuffled = (names[index] for index in rng.permutation(len(names)))
    drawn = [name for name in shuffled if name in demonstration_of][:n_names]
    text = "".join(shown[name] for name in drawn)
    if list(encode(text)) != [token for name in drawn for token in demonstration_of[name]]:
        raise PromptError(
            f"task {task.name!r}: under this tokenizer the demonstrations of {text[:80]!r} merge into each other, so "
            "positions do not mean the same thing in every list; give the task another separator"
        )
    return _enumerated(
        names=tuple(name if isinstance(task, ListTask) else shown[name].strip() for name in drawn),
        demonstrations=[demonstration_of[name] for name in drawn],
        n_shots=n_shots,
        rng=rng,
        limit=limit,
        n_survivors=len(pool.names),
        n_pool=len(names),
        parts=tuple(parts_of[name] for name in drawn),
    )


def random_word_population(
    task: ListTask | PairTask,
    encode: Encode,
    decode: Decode,
    *,
    vocabulary_size: int,
    excluded: frozenset[str],
    n_names: int,
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None = None,
    like: Sequence[tuple[tuple[int, ...], ...]] = (),
) -> Population:
    """The same lists over words drawn at random from the vocabulary: the `random words` control.

    A word is a token that decodes to a space and 3 to 12 lower-case Latin letters and encodes back to itself, followed
    by tokens of letters where the task's own items have more than one. In pairs every distinct query and answer of
    `like`, the demonstrations of the task itself, gets a word, always the same one, so that what repeats there repeats
    here and every ceiling is the same.

    Args:
        excluded: case-folded words that may not be drawn: members of a category.
        like: the tokens of the query and of the answer of each pair that the task's own population was drawn from.

    Raises:
        PromptError: the vocabulary holds too few such words.
    """
    check_sizes(n_names=n_names, n_shots=n_shots, limit=limit)
    template = _Template.of(task, encode)
    words = _Words(encode, decode, excluded, [int(token) for token in rng.permutation(vocabulary_size)])
    if isinstance(task, ListTask):
        texts, parts = _drawn(words.followed_by(1, task.separator), n_names)
        demonstrations = [template.demonstration(part) for part in parts]
    else:
        queries, answers = (tuple(dict.fromkeys(pair[place] for pair in like)) for place in (0, 1))
        others = tuple(answer for answer in answers if answer not in queries)
        found: dict[tuple[int, ...], tuple[str, tuple[int, ...]]] = {}
        for parts_of_kind, after in ((queries, task.arrow), (others, task.separator)):
            drawn = words.followed_by(len(parts_of_kind[0]) if parts_of_kind else 1, after)
            found |= dict(zip(parts_of_kind, zip(*_drawn(drawn, len(parts_of_kind)), strict=True), strict=True))
        texts = [found[query][0] + task.arrow + found[answer][0] for query, answer in like]
        demonstrations = [template.demonstration(found[query][1], found[answer][1]) for query, answer in like]
    return _enumerated(
        names=tuple(text.strip() for text in texts),
        demonstrations=demonstrations,
        n_shots=n_shots,
        rng=rng,
        limit=limit,
        n_survivors=n_names,
        n_pool=vocabulary_size,
    )


def windows(
    task: TextTask, encode: Encode, *, n_windows: int, n_tokens: int, rng: np.random.Generator, limit: int | None = None
) -> Population:
    """The first tokens of sentences drawn at random: a sample of natural text, aligned because every window is full.

    Raises:
        PromptError: sizes that make no sample, or fewer sentences of that length than windows.
    """
    if n_tokens < 1 or n_windows < 2 or (limit is not None and limit < 2):
        raise PromptError(
            f"expected at least 2 windows of at least 1 token, got {n_windows} of {n_tokens} and --limit {limit}; "
            "raise --n-names (windows), --n-shots (tokens of a window) or --limit"
        )
    encoded = (tuple(encode(sentence)[:n_tokens]) for sentence in task.sentences)
    full = [tokens for tokens in encoded if len(tokens) == n_tokens]
    if len(full) < n_windows:
        raise PromptError(
            f"text {task.name!r}: {len(full)} of its {len(task.sentences)} sentences have {n_tokens} tokens under this "
            f"tokenizer, and {n_windows} are needed; give a longer text, or lower --n-names (windows) or --n-shots "
            "(tokens of a window)"
        )
    chosen = rng.permutation(len(full))[: n_windows if limit is None else min(limit, n_windows)]
    return Population(
        names=(),
        sequences=np.array([full[index] for index in np.sort(chosen)], dtype=np.int64),
        n_shots=n_tokens,
        demonstration_length=1,
        is_enumerated=False,
        n_survivors=len(full),
        n_pool=len(task.sentences),
    )


def random_word_windows(
    text: Population,
    encode: Encode,
    decode: Decode,
    *,
    vocabulary_size: int,
    excluded: frozenset[str],
    special: frozenset[int] = frozenset(),
    rng: np.random.Generator,
) -> Population:
    """The same windows with every token replaced by a random word, always the same one for the same token.

    What repeats in the text repeats here, so every ceiling is the same, but the windows mean nothing. Where the
    vocabulary holds fewer words than the text has tokens, other tokens of the vocabulary stand in.

    Args:
        special: tokens that stand for no text, which never stand in.
    """
    tokens, inverse = np.unique(text.sequences, return_inverse=True)
    order = [int(token) for token in rng.permutation(vocabulary_size)]
    found = _Words(encode, decode, excluded, order).followed_by(1, "")
    words = [part[0] for _, (_, part) in zip(range(len(tokens)), found, strict=False)]
    used = special.union(words)
    others = (token for token in order if token not in used)
    chosen = [*words, *itertools.islice(others, len(tokens) - len(words))]
    if len(chosen) < len(tokens):
        raise PromptError(f"the vocabulary holds {len(chosen)} tokens for the random-words control of {len(tokens)}")
    return Population(
        names=(),
        sequences=np.array(chosen, dtype=np.int64)[inverse].reshape(text.sequences.shape),
        n_shots=text.n_shots,
        demonstration_length=1,
        is_enumerated=False,
        n_survivors=text.n_survivors,
        n_pool=text.n_pool,
    )


def check_sizes(*, n_names: int, n_shots: int, limit: int | None = None) -> None:
    """Refuse sizes from which no population can be built.

    Raises:
        PromptError: with the value, the expectation and the remedy.
    """
    if n_shots < 1:
        raise PromptError(f"--n-shots must be at least 1, got {n_shots}")
    if n_names < 2:
        raise PromptError(f"--n-names must be at least 2 (one name carries no information), got {n_names}")
    if n_shots > n_names:
        raise PromptError(
            f"a list of {n_shots} different names cannot be drawn from {n_names}; "
            f"lower --n-shots to {n_names} or fewer, or raise --n-names"
        )
    if limit is not None and limit < 2:
        raise PromptError(f"--limit must leave at least 2 lists, got {limit}")
    size = math.perm(n_names, n_shots)
    if size > MAX_SEQUENCES:
        raise PromptError(
            f"{n_names} names and {n_shots} shots make {size:,} lists, more than the {MAX_SEQUENCES:,} that are "
            "enumerated; lower --n-names or --n-shots"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One demonstration under one tokenizer; `parts` are the tokens of what differs between items."""

    name: str
    parts: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    is_plain: bool
    """Whether the parts and what is between them tokenize independently of each other."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """What is the same in every demonstration, as tokens; the blank at the end of a prefix belongs to what follows."""

    before_item: tuple[int, ...]
    arrow: tuple[int, ...]
    before_answer: tuple[int, ...]
    separator: tuple[int, ...]

    @classmethod
    def of(cls, task: ListTask | PairTask, encode: Encode) -> _Template:
        arrow, answer_prefix = (task.arrow, task.answer_prefix) if isinstance(task, PairTask) else ("", "")
        return cls(
            before_item=_tokens(encode, task.item_prefix.rstrip(" ")),
            arrow=_tokens(encode, arrow),
            before_answer=_tokens(encode, answer_prefix.rstrip(" ")),
            separator=_tokens(encode, task.separator),
        )

    def demonstration(self, item: tuple[int, ...], answer: tuple[int, ...] = ()) -> tuple[int, ...]:
        return (*self.before_item, *item, *self.arrow, *self.before_answer, *answer, *self.separator)


def _tokens(encode: Encode, text: str) -> tuple[int, ...]:
    return tuple(encode(text)) if text else ()


def _blanks(prefix: str) -> str:
    """The blanks at the end of a prefix."""
    return prefix[len(prefix.rstrip(" ")) :]


def _list_items(task: ListTask, encode: Encode) -> list[_Item]:
    template, blanks = _Template.of(task, encode), _blanks(task.item_prefix)
    items = []
    for name in task.names:
        part = tuple(encode(blanks + name))
        tokens = template.demonstration(part)
        is_plain = bool(part) and tuple(encode(task.demonstration(name))) == tokens
        items.append(_Item(name=name, parts=(part,), tokens=tokens, is_plain=is_plain))
    return items


def _pair_items(task: PairTask, encode: Encode) -> list[_Item]:
    template = _Template.of(task, encode)
    before_query, before_answer = _blanks(task.item_prefix), _blanks(task.answer_prefix)
    forms_of: dict[tuple[int, ...], set[str]] = {}  # answers that share their tokens without being equal: unknown ones
    for pair in task.pairs:
        forms_of.setdefault(tuple(encode(before_answer + pair.answers[0])), set()).add(pair.answers[0])
    items = []
    for pair in task.pairs:
        query, answer = tuple(encode(before_query + pair.query)), tuple(encode(before_answer + pair.answers[0]))
        tokens = template.demonstration(query, answer)
        is_plain = (
            bool(query and answer)
            and len(forms_of[answer]) == 1
            and tuple(encode(task.demonstration(pair))) == tokens
            and tuple(encode(task.question(pair))) == (*template.before_item, *query, *template.arrow)
        )
        items.append(_Item(name=pair.query, parts=(query, answer), tokens=tokens, is_plain=is_plain))
    return items


def _shown_demonstrations(task: ListTask | PairTask) -> dict[str, str]:
    """The text of each demonstration, by name or query, in the order of the pool."""
    if isinstance(task, ListTask):
        return {name: task.demonstration(name) for name in task.names}
    return {pair.query: task.demonstration(pair) for pair in task.pairs}


class _Words:
    """Random words of a vocabulary, without repetition: each comes once, whoever asks."""

    def __init__(self, encode: Encode, decode: Decode, excluded: frozenset[str], order: list[int]) -> None:
        self._encode, self._decode, self._excluded = encode, decode, excluded
        self._starts = iter(order)
        self._order = order

    def followed_by(self, n_tokens: int, after: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Words of that many tokens, as text and tokens, that keep their tokens when `after` follows."""
        tail = _tokens(self._encode, after)
        for start in self._starts:
            text = self._decode([start])
            if not re.fullmatch(r" [a-z]{3,12}", text) or text.strip() in self._excluded:
                continue
            longer = self._longer(text, start, n_tokens)
            if longer is None:
                continue
            text, tokens = longer
            if tuple(self._encode(text + after)) == (*tokens, *tail) and text.strip() not in self._excluded:
                yield text, tokens

    def _longer(self, text: str, start: int, n_tokens: int) -> tuple[str, tuple[int, ...]] | None:
        """The word with random tokens of letters appended, if some keep their tokens."""
        tokens: tuple[int, ...] = (start,)
        for place in range(1, n_tokens):
            turned = (start * 7919 + place * 104729) % len(self._order)  # another place in the random order each time
            for token in chain(self._order[turned:], self._order[:turned]):
                more = self._decode([token])
                if re.fullmatch(r"[a-z]{1,8}", more) and tuple(self._encode(text + more)) == (*tokens, token):
                    text, tokens = text + more, (*tokens, token)
                    break
            else:
                return None
        return text, tokens


def _drawn(words: Iterator[tuple[str, tuple[int, ...]]], n: int) -> tuple[list[str], list[tuple[int, ...]]]:
    found = [word for _, word in zip(range(n), words, strict=False)]
    if len(found) < n:
        raise PromptError(f"the vocabulary holds {len(found)} words for the random-words control, {n} are needed")
    return [text for text, _ in found], [tokens for _, tokens in found]


def _enumerated(
    *,
    names: tuple[str, ...],
    demonstrations: Sequence[tuple[int, ...]],
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None,
    n_survivors: int,
    n_pool: int,
    parts: tuple[tuple[tuple[int, ...], ...], ...] = (),
) -> Population:
    every = chain.from_iterable(permutations(range(len(names)), n_shots))
    orders = np.fromiter(every, dtype=np.int64).reshape(-1, n_shots)  # (n_sequences, n_shots)
    is_enumerated = limit is None or limit >= len(orders)
    if not is_enumerated:
        orders = orders[np.sort(rng.choice(len(orders), size=limit, replace=False))]
    tokens = np.array(demonstrations, dtype=np.int64)  # (n_names, demonstration_length)
    return Population(
        names=names,
        sequences=tokens[orders].reshape(len(orders), -1),  # (n_sequences, n_shots * demonstration_length)
        n_shots=n_shots,
        demonstration_length=tokens.shape[1],
        is_enumerated=is_enumerated,
        n_survivors=n_survivors,
        n_pool=n_pool,
        parts=parts,
    )
