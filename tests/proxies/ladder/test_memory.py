"""What the C library does with freed blocks, seen in the page faults of a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

MANY = 50_000
"""Page faults that there is something to gain from; where blocks happen to lie well there are few in either case."""

is_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="needs Linux with glibc"
)

CODE = """
import random, resource, sys
import torch
from proxies.ladder.memory import keep_freed_memory

torch.set_num_threads(1)
taken = keep_freed_memory() if sys.argv[1] == "kept" else None
rng = random.Random(0)

def blocks():  # of 1 to 30 MB, a few at a time, as in a step of training
    live = []
    for _ in range(12):
        live.append(torch.empty(rng.randint(1, 30) * 2**18).fill_(0))
        if len(live) > 4:
            live.pop(rng.randrange(len(live)))

for _ in range(10):
    blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    blocks()
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", CODE, how], cwd=ROOT, capture_output=True, text=True, check=True)
    taken, n_faults = done.stdout.split()
    return taken, int(n_faults)


@is_glibc
def test_freed_blocks_are_used_again() -> None:
    """135,000 page faults and more against 7,000 and fewer in four runs each; where blocks come to lie is chance."""
    usual = max(faults("usual")[1] for _ in range(2))
    found = [faults("kept") for _ in range(2)]
    assert {taken for taken, _ in found} == {"True"}
    if usual < MANY:
        pytest.skip(f"freed blocks are used again by themselves here: {usual} page faults")
    assert min(kept for _, kept in found) < usual / 5


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxies.ladder.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
