"""A completer that asks another one only what is not known yet."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from bench.api.cache import ReplyCache
from bench.api.keys import ReplyKey
from bench.completions import Completer, Failure, Reply, Request

KeyOf = Callable[[Request], ReplyKey]


@runtime_checkable
class Notified(Protocol):
    """A completer that wants to know of answers that it was not asked for."""

    def note_answered(self) -> None:
        """A question has an answer in the cache."""
        ...


class CachedCompleter:
    """Answers from the cache first, then from `inner`; every answer is kept before it is given out, no failure ever is.

    Where another process has kept an answer first, that one is given out: what is given out is what the cache holds.
    Unknown questions are asked in order, unless another process has the cache open.

    Attributes:
        n_from_cache: questions that were answered from the cache.
        n_asked: questions that `inner` was asked; the same one twice in a call is asked once.
    """

    def __init__(self, inner: Completer, cache: ReplyCache, key_of: KeyOf) -> None:
        self._inner, self._cache, self._key_of = inner, cache, key_of
        self.n_from_cache = 0
        self.n_asked = 0

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Completer`.

        Raises:
            BenchError: what `inner` raises; or an answer cannot be kept.
        """
        places: dict[str, list[int]] = {}  # of each unknown question, by the digest of its key
        for index, request in enumerate(requests):
            key = self._key_of(request)
            digest = key.digest()
            if digest in places:
                places[digest].append(index)
            elif (known := self._cache.get(key)) is not None:
                self.n_from_cache += 1
                if isinstance(self._inner, Notified):
                    self._inner.note_answered()
                yield index, known
            else:
                places[digest] = [index]
        groups = list(places.values())
        if not self._cache.is_first:  # two processes that ask in one order would ask everything at the same time
            random.Random(os.getpid()).shuffle(groups)
        if not groups:
            return
        self.n_asked += len(groups)
        answers = self._inner.complete([requests[group[0]] for group in groups])
        try:
            for number, answer in answers:
                if isinstance(answer, Reply):
                    answer = self._cache.put(self._key_of(requests[groups[number][0]]), answer)
                for index in groups[number]:
                    yield index, answer
        finally:
            close = getattr(answers, "close", None)  # a generator has requests under way; a plain iterator has not
            if close is not None:
                close()


def keeper(cache: ReplyCache, key_of: KeyOf) -> Callable[[Request, Reply], Reply]:
    """For `ApiCompleter`, as soon as a reply is there: keeps it, and gives back the one that the cache holds."""
    return lambda request, reply: cache.put(key_of(request), reply)


def look_up(cache: ReplyCache, key_of: KeyOf) -> Callable[[Request], Reply | None]:
    """For `ApiCompleter`, right before it sends: an answer that another process has kept meanwhile."""
    return lambda request: cache.get(key_of(request))
