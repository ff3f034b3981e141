"""From a catalog entry to a local folder of safetensors, whatever the weights come as."""

from __future__ import annotations

from pathlib import Path

from bench.cache import Tell
from bench.conversion import fetch_gguf
from bench.errors import ModelError
from bench.hub import fetch_from_hub
from bench.loading import quiet_libraries
from bench.sources import FolderSource, HubSource, ModelEntry
from bench.weights import check_folder


def fetch(entry: ModelEntry, progress: Tell | None = None, *, with_weights: bool = True) -> Path:
    """The local folder with a model's configuration, tokenizer and safetensors weights.

    Args:
        entry: what `resolve` returned.
        progress: told what takes a while, one line each.
        with_weights: False when configuration and tokenizer are enough; saves the download of a hub model's weights.

    Raises:
        ModelError: the model cannot be had, or a part of it is missing.
        StorageError: the cache cannot be written.
    """
    progress = progress or _untold
    entry = entry.original or entry  # whose files they are: a conversion writes its name beside them
    match entry.source:
        case FolderSource(path=folder):
            if not folder.is_dir():
                raise ModelError(f"the folder {folder} is no longer there")
        case HubSource() as source:
            with quiet_libraries():
                folder = fetch_from_hub(source, progress, with_weights=with_weights)
        case _:
            folder = fetch_gguf(entry, progress)
    check_folder(folder, with_weights=with_weights)
    return folder


def _untold(line: str) -> None:
    """Progress for those who do not ask."""
