"""Activations of a real model as codes: what estimators are for, at the place where a list has been read to its end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bench.activations import Extractor
from bench.cache import Tell
from bench.calibration.samplers import isometry
from bench.catalog import resolve
from bench.errors import EstimationError, UsageError
from bench.estimators.protocol import Pairs, label_rows, pair_up
from bench.models import bos_token_id, find_blocks, load
from bench.run import N_CHECKED, encoder
from bench.task_names import find_task
from tasks.prompts import PromptError, list_population
from tasks.seeds import generator
from tasks.task import QUICK, TextTask

ROWS_AT_ONCE = 4096
"""Rows that are turned in float64 at a time."""

PLACES = ("early", "middle", "last")
"""Blocks by where they are: a quarter of the way, half-way, at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCodes:
    """Inputs and outputs of one block at the last position of every list.

    Attributes:
        index: of the block.
        inputs, outputs: shape (n_lists, d_model), float32; row i of the outputs belongs to row i of the inputs.
    """

    index: int
    inputs: torch.Tensor
    outputs: torch.Tensor

    def pairs(self) -> Pairs:
        """The same rows as an estimator takes them, uniformly weighted."""
        return pair_up(self.inputs, self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealCodes:
    """Some blocks of a model at the position that closes the last demonstration of lists of the quick preset.

    Attributes:
        model: its name.
        files_sha256: of configuration, tokenizer and weights; see `bench.models.LoadedModel`.
        n_lists: rows of each block; the lists differ, and all are there or a random choice of them.
        d_model: their width, embedding included.
        n_blocks: blocks of the model.
        blocks: those that were kept, in order.
    """

    model: str
    weights_sha256: str
    files_sha256: str
    task: str
    n_lists: int
    d_model: int
    n_blocks: int
    blocks: tuple[BlockCodes, ...]

    def at(self, place: str) -> BlockCodes:
        """The block at one of `PLACES`, if it was kept."""
        return self.block(place_of(place, self.n_blocks))

    def block(self, index: int) -> BlockCodes:
        """The block of that index, if it was kept.

        Raises:
            UsageError: it was not.
        """
        for block in self.blocks:
            if block.index == index:
                return block
        kept = ", ".join(str(block.index) for block in self.blocks)
        raise UsageError(f"block {index} of {self.model} was not kept; expected one of {kept}")


def real_codes(
    model: str,
    *,
    task: str = "country",
    n_lists: int | None,
    seed: int,
    blocks: tuple[int, ...] | None = None,
    device: str = "cpu",
    memory_bytes: int = 4 << 30,
    progress: Tell | None = None,
) -> RealCodes:
    """Run the lists of `bench run --preset quick` through a model and keep the last position of some blocks.

    Args:
        model: as `bench.catalog.resolve` takes it.
        n_lists: so many lists, drawn at random; None means all 11,880.
        seed: chooses names and lists; with all lists they are those that `bench run --seed` measures.
        blocks: which to keep; None means those at `PLACES`.
        device: where the model runs; the codes come back to the CPU.

    Raises:
        UsageError: there is no such model, task or block, or the model cannot be used.
    """
    list_task, entry = find_task(task), resolve(model)
    if isinstance(list_task, TextTask):
        raise UsageError(f"{task!r} is a text, whose windows cannot be enumerated; choose a list or pairs")
    loaded = load(entry, device=device, progress=progress)
    if blocks is None:
        blocks = tuple(place_of(place, loaded.n_blocks) for place in PLACES)
    wanted = set(blocks)
    if not wanted or not wanted <= set(range(loaded.n_blocks)):
        raise UsageError(f"expected blocks between 0 and {loaded.n_blocks - 1} of {entry.name}, got {blocks}")

    try:
        population = list_population(
            list_task,
            encoder(loaded.tokenizer),
            n_names=QUICK.n_names,
            n_shots=QUICK.n_shots,
            rng=generator(seed, "names", list_task.name),
            limit=n_lists,
        )
    except PromptError as error:
        raise UsageError(str(error)) from error
    extractor = Extractor(
        loaded.model,
        find_blocks(loaded.model),
        bos=bos_token_id(loaded.tokenizer),
        sample=population.sequences[:N_CHECKED],
    )
    forest = extractor.plant(population.sequences)
    last = forest.n_positions - 1
    kept = []
    for states in extractor.stream(forest, memory_bytes=memory_bytes):
        if states.block in wanted:
            inputs, outputs = states.inputs_at(last), states.outputs_at(last)
            kept.append(BlockCodes(index=states.block, inputs=inputs, outputs=outputs))
        if states.block == max(wanted):
            break
    return RealCodes(
        model=entry.name,
        weights_sha256=loaded.weights_sha256,
        files_sha256=loaded.files_sha256,
        task=list_task.name,
        n_lists=len(forest.rows[last]),
        d_model=extractor.d_model,
        n_blocks=loaded.n_blocks,
        blocks=tuple(kept),
    )


def place_of(place: str, n_blocks: int) -> int:
    """The index of the block at one of `PLACES`: 7, 15 and 29 of 30.

    Raises:
        UsageError: there is no such place.
    """
    if place not in PLACES:
        raise UsageError(f"unknown place {place!r}; expected one of {', '.join(PLACES)}")
    return {"early": n_blocks // 4, "middle": n_blocks // 2, "last": n_blocks - 1}[place]


def embedded(codes: RealCodes, d_model: int, seed: int) -> RealCodes:
    """The same codes in more dimensions: zeros appended, then turned at random, both sides and all blocks alike.

    Distances and angles stay what they were, up to float32 rounding, and with them the information.

    Raises:
        EstimationError: fewer dimensions than the codes have.
    """
    if d_model < codes.d_model:
        raise EstimationError(f"expected at least the {codes.d_model} dimensions of the codes, got d_model={d_model}")
    basis = torch.from_numpy(isometry(codes.d_model, d_model, seed, "x")).double()  # (codes.d_model, d_model)
    blocks = tuple(
        replace(block, inputs=_turned(block.inputs, basis), outputs=_turned(block.outputs, basis))
        for block in codes.blocks
    )
    return replace(codes, d_model=d_model, blocks=blocks)


def _turned(rows: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Each distinct row once, so that equal rows stay equal to the last bit, whatever part of a matrix they are in."""
    labels = label_rows(rows)
    first = np.unique(labels, return_index=True)[1]
    distinct = rows[torch.from_numpy(first)]
    parts = [
        (distinct[start : start + ROWS_AT_ONCE].double() @ basis).float()
        for start in range(0, len(first), ROWS_AT_ONCE)
    ]
    return torch.cat(parts)[torch.from_numpy(labels)]
