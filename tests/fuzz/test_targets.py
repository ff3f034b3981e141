"""Every fuzz target holds for what it begins with, for a few hundred damaged inputs, and for whatever once broke it."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.api.replies import MAX_REPLY_BYTES
from tests.fuzz.targets import TARGETS, mutated, reply, seeds

N_MUTATED = 150


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_begins_with_holds(target: str) -> None:
    for data in (b"", *seeds(target)):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_inputs_hold(target: str) -> None:
    rng = random.Random(f"damage for {target}")
    for _ in range(N_MUTATED):
        data = mutated(target, rng.choice(seeds(target)), rng.randrange(2**32))
        try:
            TARGETS[target](data)
        except BaseException:
            print(f"input: {data[:2000]!r}")
            raise


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind_hold(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_a_task_as_deep_as_the_parser_can_go_has_one_fault_whoever_asks() -> None:
    """Its limit is a number of calls, and so depends on how many there are already."""
    for depth in range(800, 1100):
        TARGETS["task"](b"\xef\xbb\xbf" + b"[" * depth)


@pytest.mark.parametrize("element", ["{}", "[]", "1", '{"index": 7}'])
def test_a_reply_of_millions_of_choices_is_refused_at_the_first_that_is_one_too_many(element: str) -> None:
    """Eight megabytes of them would take gigabytes, were each looked at."""
    n = (MAX_REPLY_BYTES >> 3) // (len(element) + 1)
    reply(b'\x00{"choices": [' + ",".join([element] * n).encode() + b"]}")
