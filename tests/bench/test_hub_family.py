"""The GPT-2 family by name, without the network: what the hub's cache holds is all that the command line needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.catalog import CATALOG
from bench.records import EmergenceRecord
from bench.sources import HubSource
from bench.store import Store
from tests.bench.hub_cache import gpt2_files, gpt2_tensors, put_in_cache

ROOT = Path(__file__).parent.parent.parent
FAMILY = ("distilgpt2", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")


def source(name: str) -> HubSource:
    found = CATALOG[name].source
    assert isinstance(found, HubSource)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `HF_HOME` names, with every GPT-2 of the catalog at its pinned commit."""
    folder = tmp_path_factory.mktemp("home")
    for seed, name in enumerate(FAMILY):
        files = gpt2_files(folder / "work", seed=seed, is_prefixed=name == "distilgpt2")
        put_in_cache(folder / "hub", source(name).repo, source(name).revision, files)
    return folder


def bench(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "BENCH_CACHE": str(home / "bench")}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


def records(out: Path) -> dict[str, EmergenceRecord]:
    found, rejected = Store(out).records()
    assert not rejected
    return {stored.record.model.name: stored.record for stored in found}


def test_the_repositories_are_those_of_the_hub() -> None:
    assert [source(name).repo for name in FAMILY] == [
        "distilbert/distilgpt2",
        "openai-community/gpt2",
        "openai-community/gpt2-medium",
        "openai-community/gpt2-large",
        "openai-community/gpt2-xl",
    ]
    assert {CATALOG[name].family for name in FAMILY} == {"GPT-2"}


def test_every_model_of_the_family_is_measured_by_its_name(home: Path, tmp_path: Path) -> None:
    done = bench(home, "run", *FAMILY, "--tasks", "country", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = records(tmp_path)
    assert found.keys() == set(FAMILY)
    for name, record in found.items():
        assert (record.model.family, record.model.dtype) == (CATALOG[name].family, "float32")
        assert (record.model.revision, record.key.revision) == (source(name).revision,) * 2
        assert (record.key.preset, record.key.n_names, record.key.n_shots) == ("quick", 12, 4)
        assert record.model.n_blocks == 2
        assert record.measurements.keys() == {"trained", "untrained_twin", "random_words"}
        assert f"--revision {source(name).revision}" in record.provenance.command
    assert len({record.model.weights_sha256 for record in found.values()}) == len(FAMILY)


def test_half_precision_is_bfloat16(home: Path, tmp_path: Path) -> None:
    done = bench(home, "run", "gpt2", "--tasks", "country", "--dtype", "bfloat16", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    record = records(tmp_path)["gpt2"]
    assert (record.model.dtype, record.key.dtype, record.model.revision) == (
        "bfloat16",
        "bfloat16",
        source("gpt2").revision,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so `--device cuda` works")
def test_a_gpu_that_is_not_there_is_told_in_one_sentence(home: Path, tmp_path: Path) -> None:
    done = bench(home, "run", "gpt2", "--tasks", "country", "--device", "cuda", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bench: the device 'cuda' cannot be used here (")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_the_weights_are_those_of_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from bench.catalog import resolve
    from bench.models import load

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    for seed, name in enumerate(FAMILY):
        loaded = load(resolve(name))
        own = dict(loaded.model.named_parameters())
        stored = gpt2_tensors(seed=seed, vocabulary_size=len(loaded.tokenizer))
        weights = {name: tensor for name, tensor in stored.items() if not name.endswith(".attn.bias")}
        assert {f"transformer.{name}" for name in weights} == own.keys()
        assert all(torch.equal(own[f"transformer.{name}"], tensor) for name, tensor in weights.items())
        assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight
