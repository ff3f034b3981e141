"""Whole-or-nothing writes, look-up by key, and files that are not what they should be."""

import json
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest

import bench.store as store_module
from bench.errors import RecordError, StorageError
from bench.performance import Sample
from bench.records import EmergenceRecord
from bench.store import Store, read_row, slug, write_whole
from tests.performance_factory import make_performance
from tests.record_factory import make_measurement, make_record, unit_key


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record()
    path = store.write_record(record)
    assert store.record(record.key) == record
    assert read_row(path, EmergenceRecord) == record
    assert path.relative_to(tmp_path).as_posix().startswith("emergence/tiny/country.quick.noisy_channel.seed0.")
    assert [item.record for item in store.records()[0]] == [record]


def test_a_measured_condition_comes_back_by_its_key(tmp_path: Path) -> None:
    import numpy as np

    store, measurement = Store(tmp_path), make_measurement(np.random.default_rng(0), unit_key())
    assert store.unit(unit_key()) is None
    store.write_unit(measurement)
    assert store.unit(unit_key()) == measurement
    assert store.unit(unit_key(seed=1)) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "the file: Invalid JSON"),
        (lambda text: "", "the file: Invalid JSON"),
        (lambda text: "[]", "the file: "),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 3', 1),
            "schema_version: Input should be 2",
        ),
        (lambda text: text.replace('"n_pool": 60', '"n_pool": "60"', 1), "n_pool: "),
        (lambda text: text.replace('"n_pool": 60', '"n_pool": -60', 1), "n_pool: "),
        (
            lambda text: text.replace('"forward_difference":', '"extra": 1, "forward_difference":', 1),
            "extra: Extra inputs",
        ),
        (
            lambda text: text.replace('"forward_difference":', '"": 1, "forward_difference":', 1),
            "'': Extra inputs",
        ),
        (lambda text: re.sub(r'("forward_difference": )[^,]+', r"\1NaN", text), "forward_difference: "),
        (lambda text: re.sub(r'("forward_difference": )[^,]+', r"\1 1e999", text), "forward_difference: "),
        (
            lambda text: _edited(text, lambda record: record["measurements"].pop("random_words")),
            "expected the conditions",
        ),
        (lambda text: _edited(text, lambda record: record["summary"].pop()), "summary for each of 1 to 2 shots"),
        (
            lambda text: _edited(text, lambda record: record["summary"][1].update(curve={})),
            "every reading and condition",
        ),
        (lambda text: _edited(text, lambda record: record["summary"][1].update(position=9)), "points outside"),
        (
            lambda text: _edited(text, lambda r: r["summary"][1]["emergence"].update(value_bits=999.0)),
            "above its ceiling",
        ),
        (lambda text: _edited(text, lambda r: r["summary"][1]["emergence"].update(error_bits=-5.0)), "error_bits"),
        (lambda text: _edited(text, lambda record: record["provenance"].update(date="# today")), "provenance.date"),
        (lambda text: _edited(text, lambda record: record["model"].update(name="other")), "different models"),
        (lambda text: _edited(text, lambda record: record["model"].update(n_blocks=4)), "expected 4 blocks"),
        (lambda text: _edited(text, lambda record: record["model"].update(n_parameters=10**400)), "n_parameters"),
        (lambda text: _edited(text, lambda r: r["summary"][1]["peak"].update(error_bits=1e200)), "error_bits"),
        (lambda text: _edited(text, _above_its_ceiling), "an estimate is above its ceiling"),
        (
            lambda text: _edited(text, lambda record: record["measurements"]["trained"]["macro_ceiling_bits"].pop()),
            "every macro matrix must have 2 blocks and 4 columns",
        ),
    ],
)
def test_a_damaged_record_is_named_with_its_field_and_counts_as_not_there(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    store, record = Store(tmp_path), make_record()
    path = store.write_record(record)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match=f"^{path.name}: ") as caught:
        read_row(path, EmergenceRecord)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.record(record.key) is None
    good = store.write_record(make_record(task="animal"))
    stored, rejected = store.records()
    assert [item.path for item in stored] == [good.relative_to(tmp_path).as_posix()]
    assert [file.path for file in rejected] == [path.relative_to(tmp_path).as_posix()]


def test_what_is_not_a_regular_file_is_named_and_left_out(tmp_path: Path) -> None:
    folder = Store(tmp_path).write_record(make_record()).parent
    os.mkfifo(folder / "fifo.json")
    (folder / "nowhere.json").symlink_to(tmp_path / "missing")
    (folder / "folder.json").mkdir()
    stored, rejected = Store(tmp_path).records()
    assert len(stored) == 1
    assert [file.reason for file in rejected] == [
        "fifo.json: not a regular file", "folder.json: not a regular file", "nowhere.json: no such file"
    ]  # fmt: skip


def _above_its_ceiling(record: Any) -> None:
    record["measurements"]["trained"]["macro"]["s=0.08"]["values_bits"][1][2] = 1e6


def _edited(text: str, edit: Any) -> str:
    record = json.loads(text)
    edit(record)
    return json.dumps(record)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=rf"cannot write {path}: No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_a_file_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StorageError, match="cannot write .*results.*choose another folder with --out"):
        Store(tmp_path / "results").check_writable()


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(StorageError, match="cannot write /proc/results"):
        Store(Path("/proc/results")).check_writable()


def _write_many(root: Path, first: int) -> None:
    for seed in range(first, first + 10):
        Store(root).write_record(make_record(seed=seed % 15))


def test_two_processes_on_one_folder_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(tmp_path, first)) for first in (0, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    stored, rejected = Store(tmp_path).records()
    assert sorted(item.record.key.seed for item in stored) == list(range(15))
    assert not rejected


def test_plain_names_stay_readable() -> None:
    assert slug("smollm2-135m-instruct") == "smollm2-135m-instruct"
    assert slug("EleutherAI/pythia-70m").startswith("eleutherai-pythia-70m--")


def test_links_that_lead_in_a_circle_are_told(tmp_path: Path) -> None:
    (tmp_path / "performance").symlink_to("performance")
    with pytest.raises(StorageError, match="cannot write .*performance.*: Too many levels of symbolic links"):
        Store(tmp_path).check_writable("big-1", kind="performance")


@pytest.mark.parametrize("bound", ["MAX_SAMPLES", "MAX_SAMPLES_BYTES"])
def test_samples_that_would_not_be_read_again_are_not_written(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, bound, 1)
    samples = [Sample(task="country", n_shots=1, index=index, prompt="x", reply="y") for index in range(2)]
    with pytest.raises(StorageError, match="2 samples .* are more than is read again .*; ask fewer questions"):
        Store(tmp_path).write_performance(make_performance(), samples)
    assert list(tmp_path.rglob("*.json*")) == []
