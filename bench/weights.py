"""The files of a model folder: which of them hold weights and tokenizer, whether they are whole, and their hashes."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.cache import sha256_of
from bench.catalog import RECORD_FILE, read_json_object
from bench.errors import ModelError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Any one of these is enough to build a tokenizer from.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What the answer depends on beside the weights. Chat templates and generation_config.json are never used here.
CONFIGURATION_FILES = (
    *("config.json", *TOKENIZER_FILES, "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    # Tokenizers of some architectures, or found by transformers where there is no tokenizer.json.
    *("tekken.json", "tiktoken.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "emoji.json"),
)
# Entries by which transformers would read other files than the ones that are hashed here.
_REDIRECTIONS = {
    "config.json": ("transformers_weights", "configuration_files"),
    "tokenizer_config.json": ("fast_tokenizer_files",),
}


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the weights, in order; empty if the folder names none."""
    if (folder / SINGLE_FILE).is_file():
        return (folder / SINGLE_FILE,)
    shards = read_json_object(folder / INDEX_FILE).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    # A shard is a file of this folder and not a path to somewhere else.
    return tuple(folder / name for name in sorted(n for n in names if isinstance(n, str) and Path(n).name == n))


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files of the folder are there."""
    files = weight_files(folder)
    return bool(files) and all(file.is_file() for file in files)


def n_stored_parameters(folder: Path) -> int:
    """Numbers in the weight files, from their headers alone; a tied matrix is stored once."""
    n = 0
    for file in weight_files(folder):
        with safe_open(file, framework="numpy") as tensors:
            n += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return n


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files that a tokenizer can be built from."""
    return tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())


def check_folder(folder: Path, *, with_weights: bool) -> None:
    """See that a folder has all the parts of a model.

    Raises:
        ModelError: what is missing, and what to do about it.
    """
    has_config = (folder / "config.json").is_file()
    if (folder / "adapter_config.json").is_file():  # applied or not, depending on what else is installed
        what = "an adapter beside its model" if has_config else "an adapter only"
        raise ModelError(f"{folder} holds {what}; merge it into its base model and give that folder")
    if not has_config:
        raise ModelError(f"{folder} has no config.json; give the folder that save_pretrained() wrote")
    if not tokenizer_files(folder):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json or the like); save the tokenizer in it too")
    _check_redirections(folder)
    if not with_weights or has_weights(folder):
        return
    if absent := [file.name for file in weight_files(folder) if not file.is_file()]:
        raise ModelError(f"{folder} lacks {', '.join(absent[:3])}, which its index names; copy the folder again")
    if pickles := sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)):
        raise ModelError(
            f"{folder} has only pickle weights ({', '.join(pickles[:3])}), which are never loaded; "
            f"save them as safetensors with save_pretrained()"
        )
    raise ModelError(f"{folder} has no weights; expected {SINGLE_FILE}, as save_pretrained() writes it")


def _check_redirections(folder: Path) -> None:
    for name, keys in _REDIRECTIONS.items():
        told = read_json_object(folder / name)
        for key in keys:
            if told.get(key) is not None:
                raise ModelError(
                    f"{folder / name} has the entry {key}, which names other files to be read than those that identify "
                    f"the model; take a copy of the folder, give the files their usual names and delete the entry"
                )


def configuration_listing(folder: Path) -> str:
    """What `sha256sum` prints of config.json and of all files that a tokenizer can be read from, sorted by name.

    Raises:
        ModelError: one of the files cannot be read.
    """
    lines = []
    for file in sorted(folder / name for name in CONFIGURATION_FILES if (folder / name).is_file()):
        try:
            lines.append(f"{sha256_of(file)}  {file.name}\n")
        except OSError as error:
            raise ModelError(f"{file} cannot be read ({error.strerror or error})") from error
    return "".join(lines)


def files_sha256(listing: str, weights: str) -> str:
    """Hex sha256 over a `configuration_listing` and the hash of the weights: one hash of all that makes the answer."""
    return hashlib.sha256(f"{listing}{weights}  weights\n".encode()).hexdigest()


def weights_sha256(folder: Path) -> str:
    """Hex sha256 of the weights, each file checked on the way.

    Of a single file it is what `sha256sum` prints; of several, the sha256 of the lines `sha256sum` prints.

    Raises:
        ModelError: a file is cut off, damaged, or not what was downloaded or converted.
    """
    files = weight_files(folder)
    known = _known_hashes(folder, files)
    hashes = {}
    for file in files:
        hashes[file.name] = sha256_of(file)
        _check_header(file)
        expected = known.get(file.name, hashes[file.name])
        if hashes[file.name] != expected:
            raise ModelError(
                f"{file} is damaged: its sha256 is {hashes[file.name][:12]}..., expected {expected[:12]}...; "
                f"delete {folder} and run again"
            )
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
    return hashlib.sha256(listing.encode()).hexdigest()


def _known_hashes(folder: Path, files: tuple[Path, ...]) -> dict[str, str]:
    """What the hashes must be: told by the record of a conversion, or by the names of the hub's cached blobs."""
    recorded = read_json_object(folder / RECORD_FILE).get("files")
    known = {name: str(digest) for name, digest in recorded.items()} if isinstance(recorded, dict) else {}
    for file in files:
        blob = file.resolve()
        if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
            known[file.name] = blob.name
    return known


def _check_header(file: Path) -> None:
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is cut off or damaged ({error}); copy or download it again") from error
