"""Where the weights of a model lie: on one device, or, with accelerate's device map, spread over several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.blocks import find_blocks
from bench.errors import ModelError, UsageError

KEPT_FREE = 0.1
"""Share of each GPU's free memory that is not given to weights: the states of a batch, and the rows of an estimate."""


def spread(
    model: PreTrainedModel,
    name: str,
    *,
    max_memory: Mapping[int | str, int] | None = None,
    offload_folder: Path | None = None,
) -> None:
    """Give each block of a model in the memory of this machine its device: GPUs first, what is left stays here.

    A block is never split. What lies elsewhere than its device while it waits is brought there by accelerate's hooks,
    and so are the inputs of each block; `bench.activations` keeps these hooks.

    Args:
        max_memory: bytes of weights by device, as accelerate takes it. Default: the GPUs' free memory, less a tenth;
            and all that is left in this machine's, which has held the weights up to now.
        offload_folder: where weights are kept that are to lie on "disk".

    Raises:
        UsageError: accelerate is not installed.
        ModelError: it does not fit.
    """
    if find_spec("accelerate") is None:
        raise UsageError("--device-map needs accelerate, which is not installed: pip install accelerate")
    from accelerate import dispatch_model, infer_auto_device_map

    block_classes = sorted({type(block).__name__ for block in find_blocks(model)})
    try:
        device_map = infer_auto_device_map(
            model, max_memory=dict(max_memory or _room()), no_split_module_classes=block_classes
        )
        dispatch_model(model, device_map, offload_dir=offload_folder)
    except (torch.OutOfMemoryError, ValueError) as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"{name} cannot be spread over the devices of this machine ({line})") from error


def _room() -> dict[int | str, int]:
    """Bytes of weights that each device takes, in the order in which they are filled."""
    gpus = range(torch.cuda.device_count())
    room: dict[int | str, int] = {
        index: math.floor((1 - KEPT_FREE) * torch.cuda.mem_get_info(index)[0]) for index in gpus
    }
    return room | {"cpu": 1 << 62}
