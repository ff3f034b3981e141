"""The only loader of models: safetensors only, no code from outside, every weight accounted for."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from bench.blocks import check_causal, find_blocks
from bench.cache import Tell
from bench.catalog import quoted, read_json_object
from bench.derived import cut_blocks, quantise, recipe_sha256
from bench.errors import ModelError, UsageError
from bench.fetch import fetch
from bench.loading import check_finite, check_loading_info, quiet_libraries
from bench.placement import spread
from bench.records import ModelInfo
from bench.sources import HubSource, ModelEntry
from bench.weights import configuration_listing, files_sha256, n_stored_parameters, weights_sha256

__all__ = [
    "LoadedModel",
    "Tokenizer",
    "WeightsIdentity",
    "bos_token_id",
    "fetch",
    "find_blocks",
    "identify",
    "load",
    "load_tokenizer",
    "model_info",
    "untrained_twin",
]

DType = Literal["float32", "bfloat16"]
_TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LARGEST_SEED = 2**63 - 1
_MOST_BLOCKS = 2_000  # Llama 3.1 405B has 126; building a model takes a millisecond a block and more
_MOST_BEYOND_STORED = 16  # parameters to a stored number; eight numbers of 4 bits are packed into one
_EXPECTED = "expected a causal decoder-only language model, such as GPT-2, Llama or Pythia"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A model ready for the forward pass (eval mode, no gradients), with what identifies its weights.

    `revision` is the hub's commit, `sha256:` and the first 12 digits of `weights_sha256`, or `untrained:` and the
    seed. `files_sha256` covers configuration and tokenizer too (their hashes are the lines of
    `configuration_listing`): two models with the same one give the same answers. `n_parameters` counts tied weights
    once; `initializer_range` is the standard deviation of fresh weights that the configuration states, if any.

    A derived model has the revision of its original with the suffix, as in `sha256:0123456789ab@int4`, and as
    `weights_sha256` the hash of its original's weights and of the recipe (see `recipe_sha256`). Where the recipe begins
    with fresh weights, the hash of `configuration_listing` stands for the original's weights, which are not needed.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    entry: ModelEntry
    revision: str
    weights_sha256: str
    files_sha256: str
    configuration_listing: str
    initializer_range: float | None
    n_parameters: int
    n_blocks: int
    d_model: int
    dtype: DType
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsIdentity:
    """Which weights these are; the fields mean what they mean in `LoadedModel`."""

    revision: str
    weights_sha256: str
    files_sha256: str


def identify(entry: ModelEntry, progress: Tell | None = None) -> WeightsIdentity:
    """Fetch the weights and say which they are, without loading them; `load` gives the same.

    Raises:
        ModelError: they cannot be had, or a file is missing or damaged.
    """
    folder = fetch(entry, progress, with_weights=_has_trained_weights(entry))
    if entry.derivation.n_blocks is not None:  # said before anything is measured
        cut_blocks(read_config(folder), entry.derivation, entry.name)
    return _identity(entry, folder, configuration_listing(folder))


def load_tokenizer(entry: ModelEntry, progress: Tell | None = None) -> Tokenizer:
    """The tokenizer of a model, without loading its weights (a hub model's are not even downloaded).

    Raises:
        ModelError: it cannot be had or read, or the model it belongs to is not a causal decoder-only one.
    """
    folder = fetch(entry, progress, with_weights=False)
    read_config(folder)  # said before a tokenizer that nobody needs is looked into
    return _read_tokenizer(folder)


def load(
    entry: ModelEntry,
    *,
    dtype: DType = "float32",
    device: str = "cpu",
    device_map: Literal["auto"] | None = None,
    progress: Tell | None = None,
    expected: WeightsIdentity | None = None,
) -> LoadedModel:
    """Fetch and load a model; with `expected`, only if it still is the one that `identify` told of.

    Args:
        device_map: "auto" spreads the model over the GPUs that there are and this machine's memory, for what is too
            large for one of them; see `bench.placement`. It passes through this machine's memory as a whole.

    Raises:
        ModelError: it cannot be had; it is not a causal decoder-only model; a file is missing, damaged or does not
            fit the others; a weight is NaN or infinite; it needs code from outside; it does not fit the device; it is
            not the expected one.
        UsageError: no such dtype or device.
    """
    target = checked_device(device)
    torch_dtype = _checked_dtype(dtype)
    folder = fetch(entry, progress, with_weights=_has_trained_weights(entry))
    listing = configuration_listing(folder)
    config = read_config(folder)
    n_left_out = cut_blocks(config, entry.derivation, entry.name)
    tokenizer = _read_tokenizer(folder)
    identity = _identity(entry, folder, listing)
    if expected is not None and expected != identity:
        raise ModelError(
            f"{entry.name} changed while it was being measured: expected {_told(expected)}, found {_told(identity)}; "
            f"leave its files alone and run again"
        )
    derivation = entry.derivation
    if derivation.untrained_seed is None:
        model = _trained(folder, config, torch_dtype, n_left_out=n_left_out)
    else:
        model = _untrained(config, derivation.untrained_seed, entry.name)
        model.to(torch_dtype)
    if derivation.n_bits is not None:
        quantise(model, n_bits=derivation.n_bits, name=entry.name)
    return _ready(model, tokenizer, entry, identity, listing, dtype=dtype, device=target, device_map=device_map)


def untrained_twin(
    trained: LoadedModel | ModelEntry,
    *,
    seed: int,
    dtype: DType | None = None,
    device: str | None = None,
    device_map: Literal["auto"] | None = None,
    progress: Tell | None = None,
) -> LoadedModel:
    """The same architecture and tokenizer with fresh random weights, those that training would have started from.

    From a `ModelEntry` the trained weights are never read; from a `LoadedModel` dtype and device are taken over
    unless told otherwise. The weights are drawn in float32 on the CPU, so that one seed means the same weights
    everywhere, and the global random state is left as it was.

    The twin of a derived model has as many blocks as it; its weights are never rounded, so with the same seed
    `NAME@int4` has the twin of `NAME`. The twin of an untrained model is another draw: the next seed, should `seed` be
    its own.

    Raises:
        ModelError: the model cannot be had, or none can be built from its configuration.
        UsageError: no such dtype or device, or a seed outside 0..2**63-1.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise UsageError(f"seed={seed} cannot be a seed of random weights; choose one in 0..2**63-1")
    if isinstance(trained, LoadedModel):
        entry, tokenizer, config = trained.entry, trained.tokenizer, copy.deepcopy(trained.model.config)
        listing = trained.configuration_listing
        dtype, device = dtype or trained.dtype, device or trained.device
    else:
        entry, folder = trained, fetch(trained, progress, with_weights=False)
        listing = configuration_listing(folder)
        tokenizer, config = _read_tokenizer(folder), read_config(folder)
    dtype = dtype or "float32"
    target = checked_device(device or "cpu")
    torch_dtype = _checked_dtype(dtype)
    if seed == entry.derivation.untrained_seed:
        seed = (seed + 1) % (_LARGEST_SEED + 1)
    cut_blocks(config, entry.derivation, entry.name)
    model = _untrained(config, seed, entry.name)
    model.to(torch_dtype)
    digest = _parameters_sha256(model)
    identity = WeightsIdentity(
        revision=f"untrained:{seed}", weights_sha256=digest, files_sha256=files_sha256(listing, digest)
    )
    return _ready(model, tokenizer, entry, identity, listing, dtype=dtype, device=target, device_map=device_map)


def model_info(loaded: LoadedModel) -> ModelInfo:
    """What a record says of the weights."""
    entry = loaded.entry
    return ModelInfo(
        name=entry.name,
        family=entry.family,
        variant=entry.variant,
        precision=entry.precision,
        dtype=loaded.dtype,
        revision=loaded.revision,
        weights_sha256=loaded.weights_sha256,
        source=entry.origin,
        licence=entry.licence,
        n_parameters=loaded.n_parameters,
        n_blocks=loaded.n_blocks,
        d_model=loaded.d_model,
        initializer_range=loaded.initializer_range,
    )


def bos_token_id(tokenizer: Tokenizer) -> int | None:
    """The token that the tokenizer itself puts before a text, or None: the policy for the start of every prompt."""
    with_special = tokenizer("x").input_ids
    bare = tokenizer("x", add_special_tokens=False).input_ids
    if not with_special or with_special[: len(bare)] == bare:
        # Also when "x" is nothing to this tokenizer: then only its own beginning-of-text token is one put before.
        is_bos = not bare and with_special[:1] == [tokenizer.bos_token_id]
        return int(with_special[0]) if is_bos else None
    return int(with_special[0])


def _has_trained_weights(entry: ModelEntry) -> bool:
    return entry.derivation.untrained_seed is None


def _trained(folder: Path, config: PreTrainedConfig, dtype: torch.dtype, *, n_left_out: int) -> PreTrainedModel:
    """The weights of a folder, apart from those of the `n_left_out` last blocks."""
    _check_sizes(folder, config)
    with quiet_libraries():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention_of(config),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
        except Exception as error:  # configuration and weights come from anywhere and fail in any way
            raise ModelError(f"{folder} cannot be loaded ({_reason(error)})") from error
    check_loading_info(info, folder, n_blocks=len(find_blocks(model)) + n_left_out)
    check_finite(model, folder)
    return model


def _check_sizes(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse the configuration of a far larger model than the weights are of, before memory is taken for it."""
    with torch.device("meta"):
        model = _untrained(config, 0, str(folder))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    n_stored = n_stored_parameters(folder)
    if n_parameters > _MOST_BEYOND_STORED * n_stored:
        raise ModelError(
            f"{folder / 'config.json'} is of a model of {n_parameters:,} parameters, but the weights beside it hold "
            f"{n_stored:,} numbers; they belong to different models"
        )


def _untrained(config: PreTrainedConfig, seed: int, name: str) -> PreTrainedModel:
    """Fresh weights in float32 on the CPU, drawn without touching the global random state."""
    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        try:
            return AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attention_of(config), trust_remote_code=False
            )
        except Exception as error:  # a configuration comes from anywhere and fails in any way
            raise ModelError(f"no model can be built from the configuration of {name} ({_reason(error)})") from error


def _ready(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    entry: ModelEntry,
    identity: WeightsIdentity,
    listing: str,
    *,
    dtype: DType,
    device: torch.device,
    device_map: Literal["auto"] | None,
) -> LoadedModel:
    """Check what can only be checked on the model itself, and describe it."""
    n_rows = model.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > n_rows:
        raise ModelError(
            f"the tokenizer of {entry.name} has {tokenizer.vocab_size} tokens, but the model only {n_rows}; "
            f"the tokenizer belongs to a different model"
        )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())  # a tied one appears once
    model.eval()
    model.requires_grad_(False)
    if device_map is not None:
        spread(model, entry.name)
    else:
        _move(model, entry.name, device)
    blocks = find_blocks(model)
    check_causal(model, entry.name)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        entry=entry,
        revision=identity.revision,
        weights_sha256=identity.weights_sha256,
        files_sha256=identity.files_sha256,
        configuration_listing=listing,
        initializer_range=_initializer_range(model.config),
        n_parameters=n_parameters,
        n_blocks=len(blocks),
        d_model=int(model.config.get_text_config(decoder=True).hidden_size),
        dtype=dtype,
        device=str(device),
    )


def _move(model: PreTrainedModel, name: str, device: torch.device) -> None:
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{name} does not fit into the memory of {device}; spread it with --device-map auto, or use the cpu"
        ) from error


def _identity(entry: ModelEntry, folder: Path, listing: str) -> WeightsIdentity:
    derivation = entry.derivation
    is_trained = _has_trained_weights(entry)
    digest = weights_sha256(folder) if is_trained else hashlib.sha256(listing.encode()).hexdigest()
    is_snapshot = isinstance(entry.source, HubSource)  # whose folder is named after the commit
    revision = folder.name if is_snapshot else f"sha256:{digest[:12]}"
    if derivation.suffix:
        digest = recipe_sha256(digest, derivation)
    return WeightsIdentity(
        revision=f"{revision}{derivation.suffix}", weights_sha256=digest, files_sha256=files_sha256(listing, digest)
    )


def _told(identity: WeightsIdentity) -> str:
    return f"{identity.revision} with files_sha256 {identity.files_sha256[:12]}..."


def _initializer_range(config: PreTrainedConfig) -> float | None:
    """What most architectures call `initializer_range` and OPT `init_std`; the order is that of transformers."""
    decoder = config.get_text_config(decoder=True)
    for name in ("initializer_range", "init_std"):
        value = getattr(decoder, name, None)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a folder, if it is one of a causal decoder-only model that transformers knows."""
    path = folder / "config.json"
    raw = read_json_object(path)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ModelError(f"{path} is not the configuration of a model: it is no JSON object with a model_type")
    if model_type not in CONFIG_MAPPING:
        wants_code = "asks for code of its own, which is never run" if "auto_map" in raw else "is unknown"
        raise ModelError(f"{path}: the architecture {quoted(model_type)} {wants_code}; {_EXPECTED}")
    with quiet_libraries():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # a configuration comes from anywhere and fails in any way
            raise ModelError(f"{path} cannot be used ({_reason(error)})") from error
    n_blocks = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    if isinstance(n_blocks, int) and not 1 <= n_blocks <= _MOST_BLOCKS:
        raise ModelError(f"{path} asks for {n_blocks} blocks; from 1 to {_MOST_BLOCKS:,} are expected")
    # Encoders such as BERT load without complaint as causal models: they may have been turned into decoders.
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or is_encoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = (
            "an encoder-decoder"
            if config.is_encoder_decoder
            else "an encoder-only"
            if is_encoder
            else "another kind of"
        )
        raise ModelError(f"{folder} is {kind} model ({model_type}), not a causal one; {_EXPECTED}")
    return config


def _read_tokenizer(folder: Path) -> Tokenizer:
    with quiet_libraries():
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # tokenizer files come from anywhere and fail in any way
            raise ModelError(f"the tokenizer in {folder} cannot be used ({_reason(error)})") from error


def attention_of(config: PreTrainedConfig) -> str:
    """`sdpa` is the fast attention that every device has; some architectures only have the plain one."""
    return "sdpa" if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_supports_sdpa", False) else "eager"


def _checked_dtype(dtype: str) -> torch.dtype:
    if dtype not in _TORCH_DTYPES:
        raise UsageError(f"unknown dtype {quoted(dtype)}; choose from {', '.join(_TORCH_DTYPES)}")
    return _TORCH_DTYPES[dtype]


def checked_device(device: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: it cannot be used here.
    """
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch without CUDA asserts
        raise UsageError(f"the device {quoted(device)} cannot be used here ({_reason(error)})") from error
    if target.type == "meta":
        raise UsageError("the device 'meta' holds no numbers; choose cpu or cuda")
    return target


def _parameters_sha256(model: PreTrainedModel) -> str:
    """Hex sha256 of the names and the bytes of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _reason(error: BaseException) -> str:
    """One short line of what a library said."""
    line = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
