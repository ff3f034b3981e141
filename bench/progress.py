"""What long work tells of itself while it is under way."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is going on; a unit is what the work is counted in: a block of layers, a question."""

    def stage(self, text: str) -> None:
        """Something without a count begins: fetching, loading, waiting."""
        ...

    def plan(self, n_units: int) -> None:
        """This many more units will be done."""
        ...

    def block(self, text: str) -> None:
        """One unit has been done, or has failed; `text` says which, or of what kind."""
        ...
