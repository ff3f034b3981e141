"""Task + tokenizer -> aligned populations of token sequences.

Positions must mean the same thing in every sample, so a name is kept only when its demonstration has the same
token count as all the others: one token for the name. How many survive is part of the result.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np
import numpy.typing as npt

from tasks.task import ListTask

Encode = Callable[[str], Sequence[int]]
"""Text -> token ids, without special tokens."""

Decode = Callable[[Sequence[int]], str]
"""Token ids -> text."""

MAX_SEQUENCES = 5_000_000
"""Largest population that is enumerated; beyond it the token table alone passes hundreds of megabytes."""


class PromptError(ValueError):
    """The task cannot be turned into prompts as asked: too few aligned names, k > n, an empty selection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPool:
    """The names of a task that are one token each under one tokenizer.

    Attributes:
        names: survivors, in the order of the task's pool.
        tokens: one token id per survivor.
        rejected: names of more than one token, unknown to the tokenizer, or merging with the separator.
        separator_tokens: token ids of the separator.
    """

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    rejected: tuple[str, ...]
    separator_tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ListPopulation:
    """All ordered lists of `n_shots` different names out of `names` (or a stated subset of them), as tokens.

    Attributes:
        names: the n names that were drawn.
        sequences: token ids, shape (n_sequences, n_positions), no special tokens.
        n_shots: demonstrations per sequence.
        demonstration_length: tokens per demonstration, so that position `k * demonstration_length` closes shot k.
        is_enumerated: whether every possible list is there.
        n_survivors, n_pool: how many names of the pool are aligned under this tokenizer.
    """

    names: tuple[str, ...]
    sequences: npt.NDArray[np.int64]
    n_shots: int
    demonstration_length: int
    is_enumerated: bool
    n_survivors: int
    n_pool: int


def align(task: ListTask, encode: Encode) -> AlignedPool:
    """Keep the names whose demonstration is one token for the name, its own, followed by the separator's tokens.

    A token that several names share is the tokenizer's sign for "unknown": none of them is kept.
    """
    separator = tuple(encode(task.separator))
    encoded = {name: tuple(encode(task.item_prefix + name)) for name in task.names}
    counts = Counter(encoded.values())
    kept = {
        name: tokens[0]
        for name, tokens in encoded.items()
        if len(tokens) == 1 and counts[tokens] == 1 and tuple(encode(task.demonstration(name))) == tokens + separator
    }
    return AlignedPool(
        names=tuple(kept),
        tokens=tuple(kept.values()),
        rejected=tuple(name for name in task.names if name not in kept),
        separator_tokens=separator,
    )


def list_population(
    task: ListTask,
    encode: Encode,
    *,
    n_names: int,
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None = None,
) -> ListPopulation:
    """Draw n names from the aligned pool and build every ordered list of k of them.

    The pool is put in random order *before* the tokenizer's survivors are taken from it, so that two tokenizers
    with the same seed share most names.

    Args:
        limit: keep only this many lists, drawn at random (for trying things out, never for a ranking).

    Raises:
        PromptError: k > n, fewer than n names survive, no lists asked for, or demonstrations that do not
            tokenize independently of each other.
    """
    check_sizes(n_names=n_names, n_shots=n_shots, limit=limit)
    pool = align(task, encode)
    if len(pool.names) < n_names:
        raise PromptError(
            f"task {task.name!r}: {len(pool.names)} of its {len(task.names)} names are a single token under this "
            f"tokenizer, and {n_names} are needed; lower --n-names to {len(pool.names)} or fewer, or take another task"
        )
    token_of = dict(zip(pool.names, pool.tokens, strict=True))
    shuffled = (task.names[index] for index in rng.permutation(len(task.names)))
    drawn = [name for name in shuffled if name in token_of][:n_names]
    population = _population(
        names=drawn,
        tokens=[token_of[name] for name in drawn],
        pool=pool,
        n_shots=n_shots,
        rng=rng,
        limit=limit,
        n_pool=len(task.names),
    )
    text = "".join(task.demonstration(name) for name in drawn[:n_shots])
    if list(encode(text)) != _interleave([token_of[name] for name in drawn[:n_shots]], pool.separator_tokens):
        raise PromptError(
            f"task {task.name!r}: under this tokenizer the demonstrations of {text!r} merge into each other, so "
            "positions do not mean the same thing in every list; give the task another separator"
        )
    return population


def random_word_population(
    task: ListTask,
    encode: Encode,
    decode: Decode,
    *,
    vocabulary_size: int,
    excluded: frozenset[str],
    n_names: int,
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None = None,
) -> ListPopulation:
    """The same lists over words drawn at random from the vocabulary: the `random words` control.

    A word is a token that decodes to a space and 3 to 12 lower-case Latin letters and encodes back to itself.

    Args:
        excluded: case-folded words that may not be drawn: members of a category.

    Raises:
        PromptError: the vocabulary holds fewer than n such words.
    """
    check_sizes(n_names=n_names, n_shots=n_shots, limit=limit)
    separator = tuple(encode(task.separator))
    names: list[str] = []
    tokens: list[int] = []
    for token in map(int, rng.permutation(vocabulary_size)):
        text = decode([token])
        if not re.fullmatch(r" [a-z]{3,12}", text) or text.strip() in excluded:
            continue
        if tuple(encode(text + task.separator)) != (token, *separator):
            continue
        names.append(text.strip())
        tokens.append(token)
        if len(names) == n_names:
            break
    if len(names) < n_names:
        raise PromptError(
            f"the vocabulary holds {len(names)} single-token words for the random-words control, {n_names} are needed"
        )
    pool = AlignedPool(names=tuple(names), tokens=tuple(tokens), rejected=(), separator_tokens=separator)
    return _population(
        names=names, tokens=tokens, pool=pool, n_shots=n_shots, rng=rng, limit=limit, n_pool=vocabulary_size
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


def _population(
    *,
    names: Sequence[str],
    tokens: Sequence[int],
    pool: AlignedPool,
    n_shots: int,
    rng: np.random.Generator,
    limit: int | None,
    n_pool: int,
) -> ListPopulation:
    every = chain.from_iterable(permutations(range(len(names)), n_shots))
    orders = np.fromiter(every, dtype=np.int64).reshape(-1, n_shots)  # (n_sequences, n_shots)
    is_enumerated = limit is None or limit >= len(orders)
    if not is_enumerated:
        orders = orders[np.sort(rng.choice(len(orders), size=limit, replace=False))]
    separator = np.array(pool.separator_tokens, dtype=np.int64)
    length = 1 + len(separator)
    sequences = np.empty((len(orders), n_shots, length), dtype=np.int64)
    sequences[:, :, 0] = np.array(tokens, dtype=np.int64)[orders]
    sequences[:, :, 1:] = separator
    return ListPopulation(
        names=tuple(names),
        sequences=sequences.reshape(len(orders), n_shots * length),
        n_shots=n_shots,
        demonstration_length=length,
        is_enumerated=is_enumerated,
        n_survivors=len(pool.names),
        n_pool=n_pool,
    )


def _interleave(tokens: Sequence[int], separator: Sequence[int]) -> list[int]:
    return [part for token in tokens for part in (token, *separator)]
