"""What stands between transformers and the rest: its noise silenced, its loading reports taken seriously."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import logging as transformers_logging

from bench.errors import ModelError


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers and the hub client; as before when the block ends."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers_logging.set_verbosity(transformers_logging.CRITICAL)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if had_bars:
                transformers_logging.enable_progress_bar()


def check_loading_info(info: Mapping[str, Any], origin: Path, *, n_blocks: int) -> None:
    """See that every weight of the model came from the file, with the right shape, and that no block was left out.

    `info` is what `from_pretrained(..., output_loading_info=True)` returns; a tied output layer is not in it.

    Raises:
        ModelError: naming a tensor.
    """
    if mismatched := sorted(info["mismatched_keys"], key=str):
        name, in_file, in_model = mismatched[0]
        raise ModelError(
            f"{origin}: {name} has the shape {tuple(in_file)}, but config.json makes it {tuple(in_model)}; "
            f"the configuration and the weights belong to different models"
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{origin} lacks {_some_of(missing)}, which would be left at random values; "
            f"expected the complete weights of a causal language model"
        )
    # Weights that the model does not use are common (masks, other heads), but blocks beyond its last must not be.
    if blocks := sorted(key for key in info["unexpected_keys"] if _block_index(key) >= n_blocks):
        raise ModelError(
            f"{origin} has {_some_of(blocks)}, but config.json ends after {n_blocks} blocks; "
            f"the configuration and the weights belong to different models"
        )


def _block_index(key: str) -> int:
    """The number of the block that a weight belongs to; -1 for one outside the blocks."""
    match = re.search(r"(?:^|\.)(?:h|layers?|blocks)\.(\d+)\.", key)
    return int(match[1]) if match else -1


def check_finite(model: nn.Module, origin: Path) -> None:
    """See that no weight is NaN or infinite.

    Raises:
        ModelError: naming the first tensor that has one.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(f"{origin}: the tensor {name} has NaN or infinite values; the weights are damaged")


def _some_of(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
