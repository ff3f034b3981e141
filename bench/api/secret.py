"""Keys: read from the environment only, and shown by nothing that prints objects."""

from __future__ import annotations

import os
from typing import NoReturn, final

from bench.errors import UsageError


@final
class Secret:
    """A text that no `str`, `repr`, format, pickle or copy of it shows; `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __str__(self) -> str:
        return "[redacted]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def read_key(variable: str) -> Secret:
    """The key in an environment variable.

    Raises:
        UsageError: the variable is not set or empty, or holds what cannot be a key.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(
            f"the environment variable {variable} holds no key; set it, or name another with --api-key-env"
        )
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise UsageError(
            f"the environment variable {variable} holds blanks or characters that no key has; set it to the key alone"
        )
    return Secret(value)
