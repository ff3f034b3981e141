"""Models that accelerate has spread over several places give the states that they give in one.

There is no second device here: "disk" stands for it. Its weights are brought in by the same hooks, block by block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from bench import placement
from bench.activations import Extractor, device_of, plain_block_states
from bench.blocks import check_causal, find_blocks
from bench.catalog import resolve
from bench.errors import UsageError
from bench.models import load, untrained_twin
from bench.request import RunRequest
from bench.run import run
from bench.task_names import find_tasks
from tests.bench.test_run import Told, numbers
from tests.bench.tiny_models import save_list_model, tiny_model

SEQUENCES = np.array([[first, 5, second, 5] for first in (10, 11, 12) for second in (20, 21, 22)])


def spread_in_two(model: PreTrainedModel, folder: Path) -> None:
    """The first block stays in memory, the second is kept on disk."""
    n_bytes = [4 * sum(one.numel() for one in block.parameters()) for block in find_blocks(model)]
    total = 4 * sum(one.numel() for one in model.parameters())
    # accelerate keeps room for the largest part that it may have to bring in: a block.
    room = total - n_bytes[-1] // 2
    placement.spread(model, "tiny", max_memory={"cpu": room, "disk": 1 << 40}, offload_folder=folder)


def states(model: PreTrainedModel) -> torch.Tensor:
    extractor = Extractor(model, find_blocks(model), bos=None, sample=SEQUENCES)
    assert extractor.difference < 1e-5
    forest = extractor.plant(SEQUENCES)
    return torch.stack([torch.stack([one.inputs, one.outputs]) for one in map(copied, extractor.stream(forest))])


def copied(one: Any) -> Any:
    return type(one)(block=one.block, inputs=one.inputs.clone(), outputs=one.outputs.clone(), forest=one.forest)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "bloom"])
def test_a_model_in_two_places_gives_the_states_of_one_in_one(architecture: str, tmp_path: Path) -> None:
    whole, model = tiny_model(architecture), tiny_model(architecture)
    spread_in_two(model, tmp_path)
    devices = {parameter.device.type for parameter in model.parameters()}
    assert devices == {"cpu", "meta"}, "some weights are elsewhere, or this tests nothing"
    assert device_of(model) == torch.device("cpu")
    check_causal(model, "tiny")
    torch.testing.assert_close(states(model), states(whole), rtol=0, atol=0)
    tokens = torch.from_numpy(SEQUENCES)
    expected = plain_block_states(whole, find_blocks(whole), tokens)
    torch.testing.assert_close(plain_block_states(model, find_blocks(model), tokens), expected, rtol=0, atol=0)


def test_accelerates_hooks_are_there_after_a_stream(tmp_path: Path) -> None:
    model = tiny_model("llama")
    spread_in_two(model, tmp_path)
    before = [vars(block).get("forward") for block in find_blocks(model)]
    assert any(before)
    states(model)
    assert [vars(block).get("forward") for block in find_blocks(model)] == before


def test_a_run_with_a_device_map_gives_the_numbers_of_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_list_model(tmp_path / "tiny", "llama")
    placed: list[str] = []

    def in_two(model: PreTrainedModel, name: str) -> None:
        placed.append(name)
        spread_in_two(model, tmp_path / f"offload{len(placed)}")

    asked = RunRequest(
        models=(str(folder),), tasks=find_tasks(["country"]), out=tmp_path / "whole", n_names=5, n_shots=2
    )
    whole = run(asked, Told())[0].record
    monkeypatch.setattr("bench.models.spread", in_two)
    in_parts = RunRequest(
        models=asked.models, tasks=asked.tasks, out=tmp_path / "parts", n_names=5, n_shots=2, device_map="auto"
    )
    record = run(in_parts, Told())[0].record
    assert placed == ["tiny", "tiny"], "the model and its twin"
    assert numbers(record) == numbers(whole)
    assert (whole.provenance.device, record.provenance.device) == ("cpu", "cpu, device map auto")


def test_on_a_machine_without_gpus_auto_is_its_memory(tmp_path: Path) -> None:
    entry = resolve(str(save_list_model(tmp_path / "tiny")))
    whole, mapped = load(entry), load(entry, device_map="auto")
    twin = untrained_twin(entry, seed=0, device_map="auto")
    assert (mapped.n_parameters, mapped.files_sha256) == (whole.n_parameters, whole.files_sha256)
    assert twin.files_sha256 == untrained_twin(entry, seed=0).files_sha256
    if not torch.cuda.is_available():
        assert {parameter.device.type for parameter in mapped.model.parameters()} == {"cpu"}


def test_a_device_map_needs_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--device-map needs accelerate, which is not installed"):
        placement.spread(tiny_model("gpt2"), "tiny")
