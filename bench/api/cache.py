"""Answers kept on disk, so that no question is paid for twice: one SQLite file, shared by any number of processes.

Nothing in the file is trusted. A row counts only if its checksum holds and its question is the one that is asked; a
file that is not such a cache is moved aside, whole, and the rows of it that can be read are taken over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from bench.api.keys import ReplyKey
from bench.api.redaction import Redactor
from bench.api.replies import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_TOKENS_REPORTED, label
from bench.completions import Reply
from bench.errors import StorageError
from bench.escape import printable
from bench.locks import Held, exclusive
from bench.records import Row

SCHEMA_VERSION = 1

BUSY_SECONDS = 30.0
"""How long the file is tried while other processes have it."""

TRY_SECONDS = 0.2
"""How long SQLite itself waits; it hears no signal meanwhile."""

PAUSE_SECONDS = 0.02
"""Between two tries."""

MAX_ROW_BYTES = 64 << 20

_TABLE = (
    "CREATE TABLE replies (key TEXT PRIMARY KEY, question TEXT NOT NULL, reply TEXT NOT NULL, sha256 TEXT NOT NULL, "
    "created TEXT NOT NULL)"
)
_SIDE_FILES = ("", "-wal", "-shm")


def _on_one_line(text: str) -> str:
    if printable(text) != text:
        raise ValueError("a label on one line was expected")
    return text


_Label = Annotated[str, Field(max_length=MAX_LABEL_CHARACTERS), AfterValidator(_on_one_line)]
_Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS_REPORTED)]


Result = TypeVar("Result")


class _Kept(Row):
    """A reply within the bounds of what a server may say."""

    text: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
    finish_reason: _Label | None
    n_prompt_tokens: _Tokens | None
    n_completion_tokens: _Tokens | None
    returned_model: _Label | None


class _Damaged(Exception):
    """The file is not a sound cache of this version."""


class ReplyCache:
    """A file of answers; a context manager.

    Attributes:
        is_first: whether nobody else had the file open when it was opened here.

    Args:
        path: made if missing, and its folder too.
        redact: applied to what is stored of an answer.
        on_damage: told in one line that a file was moved aside.
    """

    def __init__(
        self, path: Path, *, redact: Redactor | None = None, on_damage: Callable[[str], None] | None = None
    ) -> None:
        """Raises StorageError: the file cannot be read or written."""
        self.path = path
        self._redact = redact or Redactor()
        self._on_damage = on_damage or (lambda _: None)
        self._damaged_keys: set[str] = set()
        self._lock = threading.RLock()  # one question may be looked up while another is kept
        self._is_closed = False
        self._in_use = contextlib.ExitStack()
        self._connection, self._identity = self._opened()
        try:
            try:
                self.is_first = self._in_use.enter_context(exclusive(self._name(".first"), seconds=0))
            except Held:
                self.is_first = False
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the cache cannot be used any more."""
        self._is_closed = True  # another thread may be waiting to write
        with self._lock:
            self._connection.close()
        self._in_use.close()

    @property
    def n_damaged(self) -> int:
        """Rows that were found unusable, and not used."""
        return len(self._damaged_keys)

    def get(self, key: ReplyKey) -> Reply | None:
        """The answer to exactly this question, or None."""
        digest = key.digest()
        try:
            row = self._patiently(
                lambda: self._connection.execute("SELECT * FROM replies WHERE key = ?", (digest,)).fetchone()
            )
        except sqlite3.DatabaseError as error:
            if _is_of_the_system(error):
                raise self._unusable(error) from error
            self._damaged_keys.add(digest)
            return None
        if row is None:
            return None
        reply = _sound(row, key.canonical())
        if reply is None:
            self._damaged_keys.add(digest)
        return reply

    def put(self, key: ReplyKey, reply: Reply) -> Reply:
        """Keep an answer and return what is kept; one that is there already stays, unless it is damaged.

        An answer beyond the bounds of `bench.api.replies` is not kept.

        Raises:
            StorageError: the disk is full or the file cannot be written.
        """
        try:
            kept = _Kept(
                text=self._redact(reply.text),
                finish_reason=label(reply.finish_reason, self._redact),
                n_prompt_tokens=reply.n_prompt_tokens,
                n_completion_tokens=reply.n_completion_tokens,
                returned_model=label(reply.returned_model, self._redact),
            )
        except ValidationError:
            return reply
        row = _row(key.digest(), key.canonical(), kept, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            return self._patiently(lambda: self._insert(row, key))
        except sqlite3.DatabaseError as error:
            if _is_of_the_system(error):
                raise self._unusable(error) from error
        self._reopen()  # damaged under our hands: move it aside, once
        try:
            return self._patiently(lambda: self._insert(row, key))
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def __len__(self) -> int:
        return int(self._patiently(lambda: self._connection.execute("SELECT count(*) FROM replies").fetchone())[0])

    def _patiently(self, act: Callable[[], Result]) -> Result:
        """Act, again and again while another process has the file; signals are heard in between."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            with self._lock:
                if self._is_closed:
                    raise StorageError(f"{self.path} is closed")
                try:
                    return act()
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or time.monotonic() >= until:
                        raise
            time.sleep(PAUSE_SECONDS)

    def _reopen(self) -> None:
        with self._lock:
            self._connection.close()
            self._connection, self._identity = self._opened()

    def _insert(self, row: tuple[str, ...], key: ReplyKey) -> Reply:
        if _identity(self.path) != self._identity:  # another process has moved it aside
            self._reopen()
        insert = "INTO replies (key, question, reply, sha256, created) VALUES (?, ?, ?, ?, ?)"
        self._connection.execute(f"INSERT OR IGNORE {insert}", row)
        if (kept := self.get(key)) is None:  # the row is damaged
            self._connection.execute(f"INSERT OR REPLACE {insert}", row)
            if (kept := self.get(key)) is None:
                raise sqlite3.DatabaseError("a row cannot be replaced: the index is damaged")
        return kept

    def _opened(self) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        """A connection, and which file it is to."""
        if self.path.is_dir():
            raise StorageError(f"{self.path} is a folder, not a file of answers; name a file, or move the folder away")
        with self._in_words():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self._name(".lock")):  # nobody else opens, makes or moves the file
                try:
                    connection = self._patiently(self._connected)
                except _Damaged as damage:
                    connection = self._renewed(str(damage))
                return connection, _identity(self.path)

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot use {self.path}: {error.strerror or error}; choose another folder") from error
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _connected(self) -> sqlite3.Connection:
        """The file as a sound cache; made if there is none.

        Raises:
            _Damaged: it is something else.
        """
        connection = _connect(self.path)
        try:
            shape = connection.execute("SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            is_new = not shape and version == 0
            if not is_new and (shape != [("table", _TABLE)] or version != SCHEMA_VERSION):  # before it is changed
                raise _Damaged(f"it has another schema than version {SCHEMA_VERSION}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            if is_new:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("COMMIT")
            _try_to_write(connection)
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _Damaged(" ".join(str(verdict).split()))
            return connection
        except BaseException as error:
            connection.close()
            is_damage = isinstance(error, sqlite3.DatabaseError) and self._is_damage(error)
            if is_damage or isinstance(error, UnicodeDecodeError):  # in what SQLite says of a damaged schema
                raise _Damaged(str(error)) from error
            raise

    def _renewed(self, reason: str) -> sqlite3.Connection:
        """A new file with the rows that can still be read, the old one beside it."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        for ending in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{aside}{ending}")
        connection = self._patiently(self._connected)
        n_rows = 0
        try:
            connection.execute("BEGIN IMMEDIATE")
            for row in _readable_rows(aside):
                n_rows += connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row).rowcount
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._on_damage(
            f"{self.path} was damaged ({reason}); it is now {aside.name}, and {n_rows} answers in it could be kept"
        )
        return connection

    def _is_damage(self, error: sqlite3.DatabaseError) -> bool:
        """Whether the content of the file is to blame; it is for a file that the system would let us write."""
        is_forbidden = getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY" and os.access(self.path, os.W_OK)
        return is_forbidden or not _is_of_the_system(error)

    def _name(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def _unusable(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"cannot use {self.path}: {error}; free space there, or choose another folder")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a name stands for; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """Used by one thread at a time, but not always by the one that opened it."""
    connection = sqlite3.connect(path, timeout=TRY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")  # what was damaged fails its checksum
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _try_to_write(connection: sqlite3.Connection) -> None:
    """A flipped bit in the head of a file can forbid writing it. Where somebody else is writing, it does not."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
        return
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("ROLLBACK")


def _readable_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """The sound rows of a damaged file, as far as it can be read."""
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_connect(path)) as connection:
        rows = connection.execute("SELECT key, question, reply, sha256, created FROM replies NOT INDEXED")
        for row in rows:
            if isinstance(row[1], str) and _sound(row, row[1]) is not None:
                yield row


def _row(digest: str, question: str, kept: _Kept, created: str) -> tuple[str, str, str, str, str]:
    reply = json.dumps(kept.model_dump(mode="json"), sort_keys=True)
    return digest, question, reply, _checksum(digest, question, reply, created), created


def _sound(row: tuple[object, ...], question: str) -> Reply | None:
    """The answer in a row, if the row is as it was written and answers this question."""
    if len(row) != 5 or not all(isinstance(value, str) for value in row):
        return None
    digest, asked, reply, checksum, created = map(str, row)
    if asked != question or checksum != _checksum(digest, asked, reply, created):
        return None
    if digest != hashlib.sha256(asked.encode()).hexdigest():
        return None
    try:
        kept = _Kept.model_validate_json(reply)
    except ValidationError:
        return None
    return Reply(**kept.model_dump())


def _checksum(*content: str) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _is_of_the_system(error: sqlite3.DatabaseError) -> bool:
    """Whether the machine refuses, not the content of the file: no space, no permission, busy for too long."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(
        ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR")
    ) or name in ("SQLITE_PERM", "SQLITE_NOMEM", "SQLITE_AUTH")
