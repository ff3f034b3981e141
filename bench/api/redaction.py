"""Secrets taken out of every text that a server, a log or a traceback could carry them in."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus, unquote

from bench.api.secret import Secret

REDACTED = "[redacted]"
MIN_FORM_CHARACTERS = 8
"""Of a secret that is encoded; shorter ones stand in other words too."""

LOGGERS = ("openai", "httpx2", "httpcore2")


class Redactor:
    """Replaces secrets by "[redacted]", in the forms in which texts carry them.

    Those are: as it is, escaped for URLs, JSON, HTML or Python, in base64 (by itself or within more), in hexadecimal.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret.reveal()) if form}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_pattern, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        return self._pattern.sub(REDACTED, text) if self._pattern else text


def holds(text: str, secret: Secret) -> bool:
    """Whether a secret stands in a text in any form, also where case was lost, as in the names of hosts."""
    as_it_is, in_lower_case = Redactor([secret]), Redactor([Secret(secret.reveal().lower())])
    texts = (text, unquote(text))
    return any(as_it_is(text) != text or in_lower_case(text.lower()) != text.lower() for text in texts)


class RedactingStream:
    """A text stream that is written without the secrets; in everything else it is the stream that it stands for."""

    def __init__(self, stream: TextIO, redact: Redactor) -> None:
        self._stream, self._redact = stream, redact

    def write(self, text: str) -> int:
        """Write the redacted text; the length is that of the text as it was."""
        self._stream.write(self._redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class RedactingFilter(logging.Filter):
    """Lets every log record through, with message and traceback redacted."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place; always True."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit; the handler would print them
            message = f"{record.msg} {record.args!r}"
        record.msg, record.args = self._redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = self._redact(record.exc_text)
        if record.stack_info:
            record.stack_info = self._redact(record.stack_info)
        return True


def install_filter(redact: Redactor) -> Callable[[], None]:
    """Redact what the client and its libraries log, and what the root's handlers write; returns what undoes it."""
    own = RedactingFilter(redact)
    loggers = [logging.getLogger(), *map(logging.getLogger, LOGGERS)]
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(tuple(f"{parent}." for parent in LOGGERS)):
            loggers.append(logging.getLogger(name))
    targets: list[logging.Filterer] = [*loggers[1:], *(handler for logger in loggers for handler in logger.handlers)]
    for target in targets:
        target.addFilter(own)

    def undo() -> None:
        for target in targets:
            target.removeFilter(own)

    return undo


def install_excepthook(redact: Redactor) -> Callable[[], None]:
    """Redact the traceback of an exception that ends the program or a thread; returns what undoes it."""
    usual, usual_in_threads = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        print(redact("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr, flush=True)

    def hook_in_threads(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
            hook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook, threading.excepthook = hook, hook_in_threads

    def undo() -> None:
        sys.excepthook, threading.excepthook = usual, usual_in_threads

    return undo


def install(redact: Redactor) -> Callable[[], None]:
    """Redact all that the process shows from here on: output, logs, tracebacks.

    Returns what undoes it, tracebacks apart: the exception that ends the program is shown at its very end.
    """
    usual, unfilter = (sys.stdout, sys.stderr), install_filter(redact)
    install_excepthook(redact)
    sys.stdout, sys.stderr = (stream and cast(TextIO, RedactingStream(stream, redact)) for stream in usual)

    def undo() -> None:
        sys.stdout, sys.stderr = usual
        unfilter()

    return undo


def _pattern(form: str) -> str:
    """The hexadecimal digits of URLs come in either case."""
    return re.sub(r"%[0-9A-F]{2}", lambda match: f"(?i:{match[0]})", re.escape(form))


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    escaped = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms = {secret, *escaped}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret)[1:-1].replace("/", "\\/"), repr(secret)[1:-1]}
    forms |= {html.escape(secret), html.escape(secret, quote=False), raw.hex(), raw.hex().upper()}
    forms |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    for n_before in range(3):  # within a longer text, the characters at both ends depend on the neighbours
        encoded = base64.b64encode(b"\0" * n_before + raw).decode().rstrip("=")
        n_certain = (n_before + len(raw)) * 8 // 6
        inner = encoded[(0, 2, 3)[n_before] : n_certain]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in forms if form == secret or len(form) >= MIN_FORM_CHARACTERS}
