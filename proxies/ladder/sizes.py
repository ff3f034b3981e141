"""The five sizes: architecture and learning rate of each, and what all have in common. No torch in here."""

from __future__ import annotations

import math
from dataclasses import dataclass

VOCABULARY_SIZE = 8192
CONTEXT_LENGTH = 256
N_TRAINING_TOKENS = 15_000_000
"""All sizes see the same tokens in the same order, each once."""

SEQUENCES_PER_STEP = 16
N_STEPS = N_TRAINING_TOKENS // (SEQUENCES_PER_STEP * CONTEXT_LENGTH)


@dataclass(frozen=True)
class Size:
    """One rung of the ladder: a GPT-2 of `n_layer` blocks and `n_embd` dimensions."""

    name: str
    n_embd: int
    n_layer: int
    n_head: int
    checkpoint_shares: tuple[float, ...] = ()
    """After which shares of its steps the model as it is then is kept as a model of its own."""

    @property
    def n_parameters(self) -> int:
        """All weights, the tied output layer counted once."""
        return (VOCABULARY_SIZE + CONTEXT_LENGTH) * self.n_embd + self.n_parameters_of_blocks

    @property
    def n_parameters_of_blocks(self) -> int:
        """All but the embeddings of tokens and positions."""
        d = self.n_embd
        return self.n_layer * (12 * d * d + 13 * d) + 2 * d

    def kept_steps(self, n_steps: int = N_STEPS) -> list[int]:
        """The steps after which the weights are kept; the last ends the training."""
        return [round(share * n_steps) for share in self.checkpoint_shares] + [n_steps]

    @property
    def learning_rate(self) -> float:
        """The peak of the schedule: falls with the square root of the width."""
        return 3e-3 * math.sqrt(64 / self.n_embd)


SIZES = (
    Size("gpt2-ladder-xs", n_embd=64, n_layer=2, n_head=2),
    Size("gpt2-ladder-s", n_embd=96, n_layer=3, n_head=3, checkpoint_shares=(1 / 32, 1 / 8, 1 / 2)),
    Size("gpt2-ladder-m", n_embd=128, n_layer=5, n_head=4, checkpoint_shares=(1 / 32, 1 / 8, 1 / 2)),
    Size("gpt2-ladder-l", n_embd=192, n_layer=5, n_head=6),
    Size("gpt2-ladder-xl", n_embd=256, n_layer=6, n_head=8),
)
"""From smallest to largest, each about 1.8 times the one before it."""


def size_named(name: str) -> Size:
    """The size of this name, with or without `gpt2-ladder-`.

    Raises:
        ValueError: there is none.
    """
    for size in SIZES:
        if name in (size.name, size.name.removeprefix("gpt2-ladder-")):
            return size
    raise ValueError(f"no ladder model is called {name!r}; there are {', '.join(size.name for size in SIZES)}")
