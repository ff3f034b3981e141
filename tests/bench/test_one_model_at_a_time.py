"""Weights are loaded one model after the other: a run never holds two, its untrained twins included."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

from bench.request import RunRequest
from bench.run import run
from bench.task_names import find_tasks
from tests.bench.tiny_models import save_list_model


class Census:
    """Progress that counts the models alive whenever it is told something; nothing is collected for the occasion."""

    def __init__(self) -> None:
        self.at_stages: list[tuple[str, int]] = []
        self.at_blocks: list[int] = []

    def stage(self, text: str) -> None:
        self.at_stages.append((text, n_alive()))

    def plan(self, n_blocks: int) -> None:
        """The model that is loaded has been counted."""

    def block(self, text: str) -> None:
        self.at_blocks.append(n_alive())


def n_alive() -> int:
    return sum(type(thing) is GPT2LMHeadModel for thing in gc.get_objects())


@pytest.mark.parametrize("collects", [True, False], ids=["collector", "no collector"])
def test_a_run_never_holds_two_models(tmp_path: Path, collects: bool) -> None:
    names = tuple(str(save_list_model(tmp_path / name, seed=seed)) for seed, name in enumerate(("one", "two")))
    request = RunRequest(
        models=names, tasks=find_tasks(("country", "animal")), out=tmp_path / "out", n_names=6, n_shots=3
    )
    gc.collect()
    before = n_alive()
    census = Census()
    if not collects:  # cycles then live on, unless the run itself sees to them
        gc.disable()
    try:
        run(request, census)
    finally:
        gc.enable()
    # 2 models of 2 blocks, on 2 tasks, under 3 conditions.
    assert [n - before for n in census.at_blocks] == [1] * (2 * 2 * 2 * 3)
    beginnings = [(text, n - before) for text, n in census.at_stages if "loading" in text or "initialising" in text]
    assert [n for _, n in beginnings] == [0] * 4, beginnings  # before a model is read, the one before it is gone
