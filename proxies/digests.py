"""What the leaderboard needs of an emergence record, a fiftieth of it; and how thousands of them are read in a second.

Digests are kept in `.digests.sqlite` in the results folder, each with a stamp of the file that it was made of and a
checksum. A file whose stamp differs is read again; a database with anything damaged in it is made anew from the
records, and the whole of it can be deleted at any time. Where it cannot be written, or another process holds it,
everything is read from the records.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bench.progress import Progress
from bench.records import (
    CONDITIONS,
    Condition,
    Date,
    EmergenceRecord,
    ModelInfo,
    Name,
    Positive,
    RecordKey,
    Refused,
    Row,
    ShotSummary,
    Term,
)
from bench.store import EMERGENCE_FILES, RejectedFile, Store, StoredRecord, read_or_reject

DIGEST_VERSION: Literal[1] = 1
"""Raised when the same record would give another digest than before."""

INDEX = ".digests.sqlite"

KEPT_AT_A_TIME = 500
"""Digests between two commits: what a killed run has to read again."""

WAIT_SECONDS = 2.0
"""For another process that writes; after that the records are read."""

_TABLE = "CREATE TABLE digests (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL, sha256 TEXT NOT NULL)"


class Digest(Row):
    """An emergence record without its matrices.

    `summary` has the curve of the headline reading only. `sources` names each condition's measurement: those of one
    name are one source of error. `above` holds, for each row of `summary`, the numbers that are above their ceilings.
    """

    version: Literal[1]
    key: RecordKey
    model: ModelInfo
    bos_token: int | None
    n_pool: Positive
    n_survivors: Positive
    n_sequences: Positive
    is_text: bool
    is_enumerated: bool
    headline: Name
    summary: tuple[ShotSummary, ...]
    sources: dict[Condition, Name]
    above: tuple[frozenset[Term], ...]
    has_refusals: bool
    refusal: str | None
    """Why emergence at the last shot was refused, if it was."""
    date: Date


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDigest:
    """A digest and where its record lies, relative to the results folder, with forward slashes."""

    path: str
    record: Digest


def digest_of(record: EmergenceRecord) -> Digest:
    """The digest of a record."""
    trained = record.measurements["trained"]
    headline, last = trained.headline, record.summary[-1]
    refusal = None
    if last.emergence is None:
        refusal = next(entry.reason for entry in trained.refusals if _is_needed(entry, last.position))
    return Digest(
        version=DIGEST_VERSION,
        key=record.key,
        model=record.model,
        bos_token=record.bos_token,
        n_pool=record.n_pool,
        n_survivors=record.n_survivors,
        n_sequences=trained.n_sequences,
        is_text=not trained.names,
        is_enumerated=record.is_enumerated,
        headline=headline,
        summary=tuple(row.model_copy(update={"curve": {headline: row.curve[headline]}}) for row in record.summary),
        sources={name: record.measurements[name].key.digest() for name in CONDITIONS},
        above=tuple(record.above_ceiling(row) for row in record.summary),
        has_refusals=any(measurement.refusals for measurement in record.measurements.values()),
        refusal=refusal,
        date=record.provenance.date,
    )


def _is_needed(entry: Refused, position: int) -> bool:
    """Whether one of the refused cells is part of emergence at the last position of the lists."""
    is_macro_cell = entry.side == "macro" and any(column == position for _, column in entry.cells)
    return is_macro_cell or entry.side == "micro"


def digests_of(stored: Iterable[StoredRecord]) -> tuple[StoredDigest, ...]:
    """Digests of records that were read already."""
    return tuple(StoredDigest(path=item.path, record=digest_of(item.record)) for item in stored)


def read_digests(
    store: Store, progress: Progress, *, verify: bool = False
) -> tuple[tuple[StoredDigest, ...], tuple[RejectedFile, ...]]:
    """Digests of all emergence records in path order, and the files that are none.

    Args:
        verify: read every record, and leave the index alone.
    """
    found: list[StoredDigest] = []
    rejected: list[RejectedFile] = []
    index = _Index(None if verify else store.root, progress.stage)
    try:
        known = index.all()
        files = {path.relative_to(store.root).as_posix(): path for path in sorted(store.root.glob(EMERGENCE_FILES))}
        stamps = {path: _stamp(file) for path, file in files.items()}  # before they are read
        progress.plan(sum((path, stamp) not in known for path, stamp in stamps.items()))
        for path, stamp in stamps.items():
            digest = known.get((path, stamp))
            if digest is None:
                record = read_or_reject(files[path], path, EmergenceRecord)
                progress.block("reading records")
                if isinstance(record, RejectedFile):
                    rejected.append(record)
                    continue
                digest = digest_of(record)
                index.keep(path, stamp, digest)
            found.append(StoredDigest(path=path, record=digest))
        index.forget(path for path, _ in known if path not in stamps)
    finally:
        index.close()
    return tuple(found), tuple(rejected)


def _stamp(file: Path) -> str:
    """Differs after every write: a rename over a file changes its inode, a write into it its change time."""
    try:
        found = file.stat()
    except OSError:  # gone meanwhile, or a link to nowhere
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


class _Damaged(Exception):
    """The database is not one of ours, or not as it was written."""


class _Index:
    """The database of digests in a results folder; without a say in what is found, only in how fast.

    The first error ends it: another process at work, a folder that cannot be written, a full disk. A file that is no
    database of ours is made anew once.
    """

    def __init__(self, root: Path | None, tell: Callable[[str], None]) -> None:
        """None: no index at all."""
        self._connection: sqlite3.Connection | None = None
        self._n_unsaved = 0
        self._known: dict[tuple[str, str], Digest] = {}
        if root is None:
            return
        path = root / INDEX
        try:
            self._open(path)
        except (sqlite3.Error, _Damaged, UnicodeDecodeError) as error:  # also of what SQLite says of a damaged schema
            self._end()
            if _is_busy(error) or not (path.is_file() or path.is_symlink()):
                return
            tell(f"{path} is of another version or damaged ({' '.join(str(error).split())}); it is made anew")
            try:
                path.unlink()
                self._open(path)
            except (OSError, sqlite3.Error):
                self._end()

    def _open(self, path: Path) -> None:
        """Read all of it.

        Raises:
            _Damaged: it is something else, or holds something else.
        """
        self._known = {}
        if path.is_symlink():
            raise _Damaged("a link, which may lead to a database of somebody else")
        self._connection = sqlite3.connect(path, timeout=WAIT_SECONDS)
        self._connection.execute("PRAGMA trusted_schema=OFF")
        self._connection.execute(_TABLE.replace("TABLE", "TABLE IF NOT EXISTS", 1))  # which is not kept with the schema
        shape = self._connection.execute("SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if shape != [("table", _TABLE)]:
            raise _Damaged("another schema")
        if (verdict := self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise _Damaged(str(verdict))
        rows = self._connection.execute("SELECT path, stamp, digest, sha256 FROM digests")
        known = {row[:2]: _sound(row) for row in rows}
        if n_damaged := sum(digest is None for digest in known.values()):
            raise _Damaged(f"{n_damaged} of {len(known)} digests")
        self._known = {place: digest for place, digest in known.items() if digest is not None}

    def all(self) -> dict[tuple[str, str], Digest]:
        """Digests by path and stamp."""
        return self._known

    def keep(self, path: str, stamp: str, digest: Digest) -> None:
        """Write a digest; the next one is found without its record."""
        text = digest.model_dump_json()
        row = (path, stamp, text, _checksum(path, stamp, text))
        self._write("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", row)
        self._n_unsaved += 1
        if self._n_unsaved % KEPT_AT_A_TIME == 0:
            self._commit()

    def forget(self, paths: Iterable[str]) -> None:
        """Drop the digests of files that are no more."""
        for path in paths:
            self._write("DELETE FROM digests WHERE path = ?", (path,))

    def close(self) -> None:
        """Keep what was written."""
        self._commit()
        self._end()

    def _write(self, statement: str, values: tuple[str, ...]) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute(statement, values)
        except UnicodeEncodeError:  # a file name that is no text
            return
        except sqlite3.Error:
            self._end()

    def _commit(self) -> None:
        try:
            if self._connection is not None:
                self._connection.commit()
        except sqlite3.Error:
            self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _sound(row: tuple[object, ...]) -> Digest | None:
    """The digest in a row, if the row is as it was written."""
    if not all(isinstance(value, str) for value in row):
        return None
    path, stamp, text, checksum = map(str, row)
    if checksum != _checksum(path, stamp, text):
        return None
    try:
        return Digest.model_validate_json(text)
    except ValidationError:
        return None


def _checksum(*content: str) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
