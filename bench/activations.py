"""Prompts + model -> the input and the output of every block, one block at a time.

Layer by layer, not batch by batch: the states of *all* prefixes go through block l before block l + 1 starts, so
memory holds two layers of the population whatever the depth of the model. Each step is the model's own forward pass
with the other blocks passed over, so embeddings, masks, position encodings and per-layer arguments are the
model's, for any decoder-only architecture.

Block outputs are read at the block. `output_hidden_states` is not used: its last entry is taken after the final norm.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile, gettempdir
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.errors import ModelError, StorageError
from bench.prefix_forest import Integers, PrefixForest, plant

BATCH_TOKENS = 4096
"""Tokens per forward step on an accelerator: enough rows for the matrix multiplications to run at full speed. Prompts
that are answered take steps of as many on every device."""

CPU_BATCH_TOKENS = 1024
"""The same for block states on a CPU. The matrix multiplications are at full speed from 256 rows on, and temporaries
beyond 32 MB (4,096 tokens of the MLP of GPT-2 small take 50 MB) are given back to the system and faulted in anew with
every operation."""

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.02, torch.float16: 0.02}
"""Largest accepted difference of a state to the plain forward pass, relative to the spread of the states (see
`relative_difference`), which is what estimators see. A wrong mask or position measures above 0.1. Half precision rounds
differently in batches of another shape, often by more than this; such a model is computed without sharing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStates:
    """The population on its way through one block.

    Attributes:
        block: index l of the block.
        inputs: h_l of every slot of the forest, shape (n_bins, n_slots, d_model), float32.
        outputs: h_{l+1}, same shape.
    """

    block: int
    inputs: torch.Tensor
    outputs: torch.Tensor
    forest: PrefixForest

    def inputs_at(self, position: int) -> torch.Tensor:
        """h_l of each distinct prefix that ends at `position`, shape (n_prefixes, d_model)."""
        return self._at(self.inputs, position)

    def outputs_at(self, position: int) -> torch.Tensor:
        """h_{l+1} of each distinct prefix that ends at `position`, shape (n_prefixes, d_model)."""
        return self._at(self.outputs, position)

    def _at(self, states: torch.Tensor, position: int) -> torch.Tensor:
        rows = torch.from_numpy(self.forest.rows[position])
        return states.view(-1, states.shape[-1]).index_select(0, rows)  # (n_prefixes, d_model)


class BlockRunner:
    """Runs a model one block at a time. The blocks' own forward is replaced for the length of one step only.

    Attributes:
        d_model: width of the residual stream.
    """

    def __init__(self, model: nn.Module, blocks: nn.ModuleList) -> None:
        """Look at one token's forward pass to learn the width and what shape of value each block returns."""
        self._model = decoder_of(model)
        self._blocks = blocks
        self._parameters = set(inspect.signature(self._model.forward).parameters)
        self._live: int | None = None
        self._given: torch.Tensor | None = None
        self._taken: torch.Tensor | None = None
        token = torch.zeros((1, 1), dtype=torch.int64, device=device_of(model))
        hidden, outputs = raw_forward(model, blocks, token)
        self.d_model = int(hidden.shape[-1])
        self._n_returned = [None if isinstance(output, torch.Tensor) else len(output) for output in outputs]
        # Mamba keeps its residual stream in float32 whatever the dtype of its weights.
        self._dtypes = [hidden.dtype, *(main_output(output).dtype for output in outputs[:-1])]

    def embed(self, **batch: torch.Tensor) -> torch.Tensor:
        """h_0: what the model hands to its first block, position embedding included."""
        return self._step(None, None, batch)

    def through(self, block: int, hidden: torch.Tensor, **batch: torch.Tensor) -> torch.Tensor:
        """h_{l+1} from h_l = `hidden`, shape (n_bins, n_slots, d_model)."""
        return self._step(block, hidden.to(self._dtypes[block]), batch)

    @torch.inference_mode()
    def _step(self, live: int | None, hidden: torch.Tensor | None, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self._live, self._given, self._taken = live, hidden, None
        arguments: dict[str, Any] = {name: value for name, value in batch.items() if name in self._parameters}
        own = [vars(block).get("forward") for block in self._blocks]  # set where accelerate has placed the model
        try:
            for index, block in enumerate(self._blocks):
                block.forward = self._controlled(index, block.forward)
            self._model(**arguments, **no_cache(self._parameters))
        finally:
            for block, forward in zip(self._blocks, own, strict=True):
                vars(block).pop("forward", None)  # uncovers the method of the class
                if forward is not None:
                    block.forward = forward
        assert self._taken is not None, "raw_forward has seen every block called"
        return self._taken

    def _controlled(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def controlled(*args: Any, **kwargs: Any) -> Any:
            hidden = first_argument(args, kwargs)
            if self._live is None and index == 0:
                self._taken = hidden
            if index != self._live:
                n_returned = self._n_returned[index]
                return hidden if n_returned is None else (hidden, *[None] * (n_returned - 1))
            if "hidden_states" in kwargs:
                kwargs["hidden_states"] = self._given
            else:
                args = (self._given, *args[1:])
            output = forward(*args, **kwargs)
            self._taken = main_output(output)
            return output

        return controlled


class Extractor:
    """Streams the block states of populations through one model.

    Attributes:
        d_model: width of the residual stream.
        shares_prefixes: whether tree attention reproduces the plain forward pass of this architecture.
        difference: largest deviation from the plain forward pass on the sample, relative (see `TOLERANCES`).
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: nn.ModuleList,
        *,
        bos: int | None,
        sample: Integers,
        batch_tokens: int | None = None,
    ) -> None:
        """Check the model on some sequences and choose how prefixes are shared.

        Args:
            bos: token put before every sequence, macro and micro alike, or None.
            sample: some sequences of the population to check with, shape (n, n_positions): neighbours that share
                prefixes, enough to fill a bin, so that a mask by distance shows.
            batch_tokens: tokens per forward step; None: what is fast on the device of the model.

        Raises:
            ModelError: its blocks cannot be run one by one, or give NaN.
        """
        self._model, self._blocks, self._bos = model, blocks, bos
        is_on_cpu = device_of(model).type == "cpu"
        self._batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if is_on_cpu else BATCH_TOKENS)
        self._runner = BlockRunner(model, blocks)
        self.d_model = self._runner.d_model
        tolerance = TOLERANCES[self._dtype()]
        # Without positions as an argument (Bloom, MPT, Mamba) a token's depth cannot be told apart from its slot.
        self.shares_prefixes = "position_ids" in inspect.signature(decoder_of(model).forward).parameters
        self.difference = math.inf
        if self.shares_prefixes:
            try:
                self.difference = self._difference(sample)
            except torch.OutOfMemoryError:
                raise
            except (IndexError, RuntimeError, TypeError, ValueError):
                self.difference = math.inf  # it does not take a 4-D mask
        if self.difference > tolerance:
            self.shares_prefixes = False
            self.difference = self._difference(sample)
        if self.difference > tolerance:
            raise ModelError(
                f"{type(model).__name__}: states computed block by block differ from its own forward pass by "
                f"{self.difference:.1e} (relative), more than {tolerance:.0e}; "
                "this architecture is not supported"
            )

    def plant(self, sequences: Integers) -> PrefixForest:
        """Pack a population in the way that is right for this model."""
        return plant(sequences, bos=self._bos, share_prefixes=self.shares_prefixes)

    def stream(self, forest: PrefixForest, *, memory_bytes: int = 4 << 30) -> Iterator[BlockStates]:
        """The states of every slot at block 0, 1, ... The tensors are reused: take what you need before the next one.

        Args:
            memory_bytes: two layers of states beyond it are kept in a temporary file instead of in memory.

        Raises:
            StorageError: there is no room for the temporary file.
        """
        runner = self._runner
        shape = (*forest.tokens.shape, self.d_model)
        in_memory = 2 * 4 * int(np.prod(shape)) <= memory_bytes
        inputs, outputs = (allocate(shape, in_memory=in_memory) for _ in range(2))
        bins_per_batch = max(1, self._batch_tokens // forest.tokens.shape[1])
        slices = [slice(start, start + bins_per_batch) for start in range(0, len(forest.tokens), bins_per_batch)]
        device = device_of(self._model)
        for part in slices:
            inputs[part] = runner.embed(**self._batch(forest, part)).float().to("cpu")
        for block in range(len(self._blocks)):
            for part in slices:
                hidden = inputs[part].to(device)
                outputs[part] = runner.through(block, hidden, **self._batch(forest, part)).float().to("cpu")
            yield BlockStates(block=block, inputs=inputs, outputs=outputs, forest=forest)
            inputs, outputs = outputs, inputs

    def _batch(self, forest: PrefixForest, part: slice) -> dict[str, torch.Tensor]:
        device = device_of(self._model)
        batch = {"input_ids": torch.from_numpy(forest.tokens[part]).to(device)}
        if self.shares_prefixes:
            # An additive mask works under every attention implementation; a boolean one only under some.
            allowed = torch.from_numpy(forest.attention(part)).to(device)[:, None]  # (n_bins, 1, n_slots, n_slots)
            lowest = torch.finfo(self._dtype()).min
            batch["attention_mask"] = torch.zeros(allowed.shape, dtype=self._dtype(), device=device).masked_fill_(
                ~allowed, lowest
            )
            batch["position_ids"] = torch.from_numpy(forest.depths[part]).to(device)
        return batch

    def _difference(self, sample: Integers) -> float:
        """Largest deviation of the streamed states from the plain forward pass at the last position, over all blocks.

        The states there depend on those at every earlier position through every block below.
        """
        expected = plain_block_states(self._model, self._blocks, self._with_bos(sample))
        forest = self.plant(sample)
        order = np.unique(sample, axis=0, return_index=True)[1]
        largest = 0.0
        for states in self.stream(forest):
            for hidden, reference in (
                (states.inputs_at(forest.n_positions - 1), expected[states.block]),
                (states.outputs_at(forest.n_positions - 1), expected[states.block + 1]),
            ):
                target = reference[order, -1]  # (n_distinct, d_model)
                if not torch.isfinite(target).all():
                    raise ModelError(
                        f"{type(self._model).__name__} gives NaN or infinite states at block {states.block}; "
                        "its weights are damaged or its dtype overflows (try --dtype float32)"
                    )
                largest = max(largest, relative_difference(hidden, target))
        return largest

    def _with_bos(self, sequences: Integers) -> torch.Tensor:
        if self._bos is not None:
            sequences = np.insert(sequences, 0, self._bos, axis=1)
        return torch.from_numpy(sequences).to(device_of(self._model))

    def _dtype(self) -> torch.dtype:
        return next(self._model.parameters()).dtype


def relative_difference(hidden: torch.Tensor, target: torch.Tensor) -> float:
    """Largest norm of a row's deviation over the spread of the rows of `target`; infinite if `hidden` has a NaN.

    The spread is the root mean squared distance from the mean row, or a hundredth of the root mean squared norm where
    the rows hardly differ. Relative to norms a large common part of all rows would hide any error.
    """
    deviation = float((hidden - target).norm(dim=-1).max())
    if deviation == 0:
        return 0.0
    rows = target.reshape(-1, target.shape[-1]).double()
    spread = float((rows - rows.mean(dim=0)).square().sum(dim=1).mean().sqrt())
    size = float(rows.square().sum(dim=1).mean().sqrt())
    scale = max(spread, 0.01 * size)
    return deviation / scale if math.isfinite(deviation) and scale > 0 else math.inf


@torch.inference_mode()
def plain_block_states(model: nn.Module, blocks: nn.ModuleList, tokens: torch.Tensor) -> torch.Tensor:
    """Input of block 0 and output of every block in one ordinary forward pass: the slow, readable twin.

    Args:
        tokens: shape (n_sequences, n_positions), special tokens included.

    Returns:
        float32 states, shape (n_blocks + 1, n_sequences, n_positions, d_model).
    """
    hidden, outputs = raw_forward(model, blocks, tokens)
    return torch.stack([state.float().cpu() for state in (hidden, *map(main_output, outputs))])


@torch.inference_mode()
def raw_forward(model: nn.Module, blocks: nn.ModuleList, tokens: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    """What block 0 was given and what each block returned, as it returned it, in one ordinary forward pass.

    Raises:
        ModelError: the blocks are not called once each, in order, each on the output of the one before.
    """
    called: list[nn.Module] = []
    given: list[torch.Tensor] = []
    returned: list[Any] = []

    def keep_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        called.append(module)
        given.append(first_argument(args, kwargs))

    def keep_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        returned.append(output)

    hooks = [block.register_forward_pre_hook(keep_input, with_kwargs=True) for block in blocks]
    hooks += [block.register_forward_hook(keep_output) for block in blocks]
    decoder = decoder_of(model)
    try:
        decoder(input_ids=tokens, **no_cache(set(inspect.signature(decoder.forward).parameters)))
    finally:
        for hook in hooks:
            hook.remove()
    is_chain = (
        called == list(blocks)
        and all(
            torch.allclose(
                main_output(output), hidden, rtol=0, atol=0, equal_nan=True
            )  # NaN is reported by block, later
            for output, hidden in zip(returned[:-1], given[1:], strict=True)
        )
    )
    if not is_chain:
        raise ModelError(
            f"{type(model).__name__}: its {len(blocks)} blocks do not run once each, in order, each on the output of "
            "the one before; this architecture cannot be measured block by block"
        )
    return given[0], returned


def decoder_of(model: nn.Module) -> nn.Module:
    """The model without its language-model head."""
    decoder: nn.Module = getattr(model, "base_model", model)
    return decoder


def device_of(model: nn.Module) -> torch.device:
    """Where the model takes its inputs: where its first parameter lies that is not kept elsewhere by accelerate."""
    devices = (parameter.device for parameter in model.parameters())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def no_cache(parameters: set[str]) -> dict[str, bool]:
    """The argument that turns the key-value cache off, for models that have one."""
    return {"use_cache": False} if "use_cache" in parameters else {}


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The hidden states a block was called with."""
    hidden: torch.Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    return hidden


def main_output(output: Any) -> torch.Tensor:
    """The hidden states among what a block returned."""
    hidden: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return hidden


def allocate(shape: tuple[int, ...], *, in_memory: bool) -> torch.Tensor:
    """Uninitialised float32 states on the CPU, in memory or in an unnamed temporary file (`TMPDIR`).

    Raises:
        StorageError: there is no room for the file.
    """
    if in_memory:
        return torch.empty(shape, dtype=torch.float32)
    n_bytes = 4 * int(np.prod(shape))
    try:
        with TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)  # now, with an error: a full disk later kills the process
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="r+", shape=shape))
    except OSError as error:
        raise StorageError(
            f"cannot keep {n_bytes / (1 << 30):.1f} GB of states in {gettempdir()}: {error.strerror}; "
            "point TMPDIR at a folder with room, or raise --memory-gb"
        ) from error
