"""Which models were made from another one, told by their names."""

from __future__ import annotations

from typing import Literal

from bench.sources import checkpoint_of


def made_from_another(name: str) -> Literal["derived", "checkpoint"] | None:
    """How a model came out of another: `NAME@int4` and the like are derived, `NAME-step114` is a checkpoint.

    None for a model as published.
    """
    if "@" in name:
        return "derived"
    return "checkpoint" if checkpoint_of(name) else None
