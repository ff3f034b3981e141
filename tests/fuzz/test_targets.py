"""Every fuzz target holds for what it begins with, for a few hundred damaged inputs, and for whatever once broke it."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, mutated, seeds

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
