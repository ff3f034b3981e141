"""A process that asks a server through a cache, for tests that kill it or run two of it.

Arguments: base URL, cache file, how many questions, and how many at a time. Prints one line for every answer, and
"interrupted" where a signal ends it.
"""

import signal
import sys
from pathlib import Path

from bench.api.cache import ReplyCache
from bench.api.cached import CachedCompleter, keeper, look_up
from bench.api.client import ApiCompleter
from bench.api.retry import Limits
from bench.completions import Reply
from tests.bench.api.questions import key_of, questions

N_AT_A_TIME = 4


class Interrupted(BaseException):
    pass


def interrupt(*_: object) -> None:
    raise Interrupted


def main() -> None:
    base_url, path, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    n_at_a_time = int(sys.argv[4]) if len(sys.argv) > 4 else N_AT_A_TIME
    with ReplyCache(path) as cache:
        inner = ApiCompleter(
            model="m",
            key=None,
            base_url=base_url,
            limits=Limits(max_concurrency=n_at_a_time),
            look_again=look_up(cache, key_of),
            keep=keeper(cache, key_of),
        )
        asked = CachedCompleter(inner, cache, key_of)
        for index, answer in asked.complete(questions(n)):
            assert isinstance(answer, Reply)
            print(index, answer.text, flush=True)
        assert cache.n_damaged == 0


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        main()
    except Interrupted:
        print("interrupted", flush=True)
