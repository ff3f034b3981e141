"""What the machine can do, measured beside what the suite does: a share means the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

N_ROUNDS = 3


@contextmanager
def one_thread() -> Iterator[None]:
    """For a limit that does not depend on what else runs on the other cores."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time: that of another program on the same core is not counted."""
    started = time.process_time()
    work()
    return time.process_time() - started


def best_of(*works: Callable[[], object], n_rounds: int = N_ROUNDS) -> list[float]:
    """Least seconds of each, all of them in turn, so that a busy minute is not one's alone."""
    rounds = [[seconds_of(work) for work in works] for _ in range(n_rounds)]
    return [min(times) for times in zip(*rounds, strict=True)]


class Projections:
    """The bare matrix products of one block: random rows times each of its matrices, laid out as in its forward."""

    def __init__(self, block: nn.Module, n_rows: int) -> None:
        weights = []
        for module in block.modules():
            if isinstance(module, nn.Linear):
                weights.append(module.weight.detach().T)
            elif type(module).__name__ == "Conv1D":
                weights.append(module.weight.detach())
        self._work = [(torch.randn(n_rows, len(weight)), weight) for weight in weights]
        self._outputs = [torch.empty(n_rows, weight.shape[1]) for weight in weights]
        self.flops = 2 * n_rows * sum(weight.numel() for weight in weights)

    def __call__(self) -> None:
        """All of them once, into memory that is there already."""
        for (rows, weight), output in zip(self._work, self._outputs, strict=True):
            torch.mm(rows, weight, out=output)
