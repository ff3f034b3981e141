"""The index of digests: what it says is what the records say, whatever happens to either."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from bench.store import Store
from proxies.digests import INDEX, StoredDigest, digest_of, digests_of, read_digests
from tasks import RANKED_TASKS
from tests.record_factory import make_record


class Counted:
    """Progress that counts the records that were read."""

    def __init__(self) -> None:
        self.n_read = 0

    def stage(self, text: str) -> None: ...

    def plan(self, n_units: int) -> None: ...

    def block(self, text: str) -> None:
        self.n_read += 1


def read(root: Path, *, verify: bool = False) -> tuple[tuple[StoredDigest, ...], int]:
    """The digests, and how many records were read for them."""
    counted = Counted()
    return read_digests(Store(root), counted, verify=verify)[0], counted.n_read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for task in RANKED_TASKS:
        Store(tmp_path).write_record(make_record(task=task))
    return tmp_path


def test_a_digest_has_the_numbers_of_its_record() -> None:
    record = make_record(refused={"trained": (("macro", 0, 1),)}, reason="too few")
    digest = digest_of(record)
    assert [row.emergence for row in digest.summary] == [row.emergence for row in record.summary]
    assert [row.curve for row in digest.summary] == [{"s=0.08": row.curve["s=0.08"]} for row in record.summary]
    assert digest.sources["untrained_twin"] == record.measurements["untrained_twin"].key.digest()
    assert digest.above == tuple(record.above_ceiling(row) for row in record.summary)
    assert digest.has_refusals and digest.refusal is None  # at the last shot there is an emergence
    assert len(digest.model_dump_json()) < len(record.model_dump_json()) / 2
    refused = make_record(refused={"trained": (("macro", 0, 0), ("macro", 1, 3))}, reason="too few")
    assert digest_of(refused).refusal == "too few"


def test_records_are_read_once_and_the_second_time_the_index_says_the_same(root: Path) -> None:
    expected = digests_of(Store(root).records()[0])
    assert read(root) == (expected, 3)
    assert read(root) == (expected, 0)
    assert read(root, verify=True) == (expected, 3)


def test_a_record_that_changed_is_read_again_and_one_that_went_is_gone(root: Path) -> None:
    read(root)
    Store(root).write_record(make_record(task="country", level=9.0))  # the same key and path, other numbers
    found, n_read = read(root)
    assert n_read == 1 and found == digests_of(Store(root).records()[0])
    gone = root / found[0].path
    gone.unlink()
    assert read(root) == (found[1:], 0)
    assert len(list(sqlite3.connect(root / INDEX).execute("SELECT * FROM digests"))) == 2


def test_a_write_into_a_file_is_seen_though_size_and_time_stay(root: Path) -> None:
    read(root)
    path = Store(root).record_path(make_record(task="country").key)
    before, content = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(b'"n_survivors": 40', b'"n_survivors": 41'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.read_bytes() != content
    found, n_read = read(root)
    assert n_read == 1 and [item.record.n_survivors for item in found if item.record.key.task == "country"] == [41]


@pytest.mark.parametrize("content", [b"", b"not a database at all, " * 40, b"SQLite format 3\x00" + b"\x7f" * 4000])
def test_a_damaged_index_is_made_anew(root: Path, content: bytes) -> None:
    (root / INDEX).write_bytes(content)
    expected = digests_of(Store(root).records()[0])
    assert read(root) == (expected, 3)
    assert read(root) == (expected, 0)


def test_an_index_damaged_in_the_middle_or_of_another_shape_is_made_anew(root: Path) -> None:
    expected = digests_of(Store(root).records()[0])
    read(root)
    content = bytearray((root / INDEX).read_bytes())
    content[len(content) // 2 :] = b"\x7f" * (len(content) - len(content) // 2)
    (root / INDEX).write_bytes(content)
    assert read(root)[0] == expected
    assert read(root) == (expected, 0)
    (root / INDEX).unlink()
    with sqlite3.connect(root / INDEX) as connection:
        connection.execute("CREATE TABLE digests (other TEXT)")
    assert read(root) == (expected, 3)
    assert read(root) == (expected, 0)


def test_verifying_leaves_no_index(root: Path) -> None:
    assert read(root, verify=True)[1] == 3 and not (root / INDEX).exists()


def test_an_invalid_digest_in_the_index_is_no_digest(root: Path) -> None:
    read(root)
    with sqlite3.connect(root / INDEX) as connection:
        connection.execute("UPDATE digests SET digest = replace(digest, '\"n_sequences\":132', '\"n_sequences\":-1')")
    assert read(root) == (digests_of(Store(root).records()[0]), 3)


def test_a_held_index_and_one_that_cannot_be_made_only_cost_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxies.digests.WAIT_SECONDS", 0.1)
    expected = digests_of(Store(root).records()[0])
    holder = sqlite3.connect(root / INDEX, isolation_level=None)
    read(root)
    for record in root.glob("emergence/*/*.json"):
        record.touch()  # all to be written again
    for lock in ("BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"):
        holder.execute(lock)
        started = time.monotonic()
        assert read(root) == (expected, 3)
        assert time.monotonic() - started < 2.0  # one wait, not one a record
        holder.execute("ROLLBACK")
    holder.close()
    (root / INDEX).unlink(missing_ok=True)
    (root / INDEX).mkdir()
    assert read(root) == (expected, 3)


def test_a_file_that_is_no_record_is_rejected_each_time(root: Path) -> None:
    (root / "emergence" / "tiny" / "bad.json").write_text("{}")
    for _ in range(2):
        found, rejected = read_digests(Store(root), Counted())
        assert len(found) == 3 and [file.path for file in rejected] == ["emergence/tiny/bad.json"]


def test_an_empty_or_absent_folder_has_no_digests(tmp_path: Path) -> None:
    assert read(tmp_path) == ((), 0)
    assert read(tmp_path / "none") == ((), 0)
