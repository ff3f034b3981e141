"""Progress for tests of long work."""

from __future__ import annotations


class Told:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.planned = 0
        self.blocks: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def plan(self, n_blocks: int) -> None:
        self.planned += n_blocks

    def block(self, text: str) -> None:
        self.blocks.append(text)
