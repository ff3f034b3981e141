"""Keys: read from the environment only, and shown by nothing that prints objects."""

from __future__ import annotations

import os
import re
from typing import NoReturn, final

from bench.errors import UsageError

MIN_CHARACTERS = 8
"""Of a key: every place where it stands is taken out of what a server says, and short ones stand everywhere."""

MAX_NAME_CHARACTERS = 60

MAX_REPEATED_CHARACTERS = 40
"""Of the name of a variable that is not set: what is longer may be a key that was given in place of the name."""


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
        UsageError: this is no name of a variable; or the variable is not set or empty, or holds what cannot be a key.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or len(variable) > MAX_NAME_CHARACTERS:
        raise UsageError(
            "--api-key-env wants the name of an environment variable, such as OPENAI_API_KEY: letters, digits and "
            f"underscores, {MAX_NAME_CHARACTERS} at most; what was given is not repeated, as it may be a key"
        )
    value = os.environ.get(variable, "").strip()
    if not value:
        may_be_key = variable.lower().startswith("sk") or len(variable) > MAX_REPEATED_CHARACTERS
        name = "that --api-key-env names" if may_be_key else variable
        raise UsageError(f"the environment variable {name} holds no key; set it, or name another with --api-key-env")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise UsageError(
            f"the environment variable {variable} holds blanks or characters that no key has; set it to the key alone"
        )
    if len(value) < MIN_CHARACTERS:
        raise UsageError(
            f"the environment variable {variable} holds fewer than {MIN_CHARACTERS} characters, which is no key; "
            "a server that wants no key needs no --api-key-env"
        )
    return Secret(value)
