"""Derived models: rounded, cut and untrained ones, from the name to the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bench.activations import plain_block_states
from bench.blocks import find_blocks
from bench.catalog import CATALOG, resolve
from bench.cli import main
from bench.derived import quantise, round_to_nearest
from bench.errors import ModelError, UsageError
from bench.escape import markdown_cell
from bench.fetch import fetch
from bench.models import LoadedModel, WeightsIdentity, identify, load, load_tokenizer, untrained_twin
from bench.query import query
from bench.records import RecordKey
from bench.run import run
from bench.sources import HubSource, ModelEntry, pinned, source_revision
from bench.store import Store
from proxies.board import board_of
from proxies.digests import digests_of
from proxies.leaderboard import render
from proxies.standings import rankings
from tests.bench.querying import request as query_request
from tests.bench.test_run import request as run_request
from tests.bench.tiny_models import (
    CONFIGS,
    N_LAYERS,
    save_list_model,
    save_tiny,
    tiny_model,
    tiny_tokenizer,
    write_tiny_gguf,
)
from tests.bench.told import Told

ARCHITECTURES = ("gpt2", "llama", "gemma3", "gpt_neox", "mistral")
BITS = (8, 4, 3, 2)
TOKENS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_list_model(tmp_path_factory.mktemp("models") / "tiny")


def load_named(folder: Path, suffix: str = "", **options: Any) -> LoadedModel:
    return load(resolve(f"{folder}{suffix}"), **options)


def identity_of(loaded: LoadedModel) -> WeightsIdentity:
    return WeightsIdentity(
        revision=loaded.revision, weights_sha256=loaded.weights_sha256, files_sha256=loaded.files_sha256
    )


def parameters(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return dict(loaded.model.named_parameters())


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(input_ids=TOKENS).logits


def rounded_weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """The matrices of the blocks by name, as (n_outputs, n_inputs)."""
    found = {}
    for name, module in find_blocks(loaded.model).named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            found[name] = module.weight.T if isinstance(module, Conv1D) else module.weight
    return found


# --- round to nearest


def test_rounding_by_hand() -> None:
    """Two bits are four levels: 0 1 2 3 in the first group of the first row, -1 0 1 2 in the second, and so on."""
    weights = torch.tensor([[0.0, 0.4, 1.6, 3.0, -1.0, 2.0, 0.9], [5.0, 5.0, 5.0, 5.0, -6.0, 0.0, 6.0]])
    expected = torch.tensor([[0.0, 0.0, 2.0, 3.0, -1.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0, -6.0, -2.0, 6.0]])
    found = round_to_nearest(weights, n_bits=2, group_size=4)
    # 0.0 lies half way between the levels -2 and 2; torch rounds 1.5 steps to the even 2.
    expected[1, 5] = 2.0
    assert torch.equal(found, expected)


@pytest.mark.parametrize("n_bits", BITS)
@pytest.mark.parametrize("n_inputs", [1, 63, 64, 65, 200])
def test_an_error_is_half_a_step_at_most_and_a_group_has_so_many_levels(n_bits: int, n_inputs: int) -> None:
    weights = torch.randn(16, n_inputs, generator=torch.Generator().manual_seed(n_inputs)) ** 3
    found = round_to_nearest(weights, n_bits=n_bits)
    for start in range(0, n_inputs, 64):
        group, levels = weights[:, start : start + 64], found[:, start : start + 64]
        low, high = group.amin(dim=1, keepdim=True), group.amax(dim=1, keepdim=True)
        half_step = (high - low) / (2**n_bits - 1) / 2
        rounding = 1e-6 * group.abs().amax()  # a few last digits of float32
        assert ((levels - group).abs() <= half_step + rounding).all()
        assert torch.equal(levels.amin(dim=1, keepdim=True), low) and torch.equal(
            levels.amax(dim=1, keepdim=True), high
        )
        assert max(len(row.unique()) for row in levels) <= 2**n_bits


@pytest.mark.parametrize("n_bits", BITS)
def test_rounding_again_changes_nothing(n_bits: int) -> None:
    weights = torch.randn(32, 150, generator=torch.Generator().manual_seed(0))
    weights[0] = 0.25  # a group without width
    once = round_to_nearest(weights, n_bits=n_bits)
    assert torch.equal(round_to_nearest(once, n_bits=n_bits), once)
    assert torch.equal(once[0], weights[0])


def test_rounding_agrees_with_a_slow_twin() -> None:
    weights = torch.randn(5, 70, generator=torch.Generator().manual_seed(1))
    found = round_to_nearest(weights, n_bits=3)
    for row, rounded in zip(weights.double().numpy(), found.numpy(), strict=True):
        for start in (0, 64):
            group = row[start : start + 64]
            levels = np.linspace(group.min(), group.max(), 8)
            nearest = levels[np.abs(group[:, None] - levels).argmin(axis=1)]
            assert rounded[start : start + 64] == pytest.approx(nearest, abs=1e-6)


def test_a_narrow_dtype_is_rounded_in_float32() -> None:
    weights = torch.randn(4, 64, generator=torch.Generator().manual_seed(2)).bfloat16()
    found = round_to_nearest(weights, n_bits=4)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, round_to_nearest(weights.float(), n_bits=4).bfloat16())


# --- models in fewer bits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_matrices_of_the_blocks_are_rounded_and_nothing_else(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    whole, derived = load_named(tmp_path), load_named(tmp_path, "@int3")
    originals, matrices = rounded_weights(whole), rounded_weights(derived)
    assert len(matrices) >= 4 * N_LAYERS
    for name, weights in matrices.items():
        assert torch.equal(weights, round_to_nearest(originals[name], n_bits=3))
        assert not torch.equal(weights, originals[name])
    rounded = {id(layer.weight) for layer in derived.model.modules() if isinstance(layer, nn.Linear | Conv1D)}
    rounded -= {id(derived.model.get_output_embeddings().weight)}
    for name, parameter in parameters(derived).items():
        assert torch.equal(parameter, parameters(whole)[name]) == (id(parameter) not in rounded), name
    assert derived.n_parameters == whole.n_parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fewer_bits_are_further_from_the_original(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture, seed=3)
    whole = load_named(tmp_path)
    derived = [load_named(tmp_path, f"@int{bits}") for bits in BITS]
    on_weights = [
        sum(float((weights - rounded_weights(whole)[name]).square().sum()) for name, weights in matrices.items())
        for matrices in map(rounded_weights, derived)
    ]
    assert on_weights == sorted(on_weights) and on_weights[0] > 0
    spread = logits(whole).std()
    on_logits = [float((logits(loaded) - logits(whole)).square().mean().sqrt() / spread) for loaded in derived]
    assert on_logits == sorted(on_logits)
    # Of the spread of the logits; measured 0.001 to 0.010, as a step is 1/255 of a group's range. With 2 bits a step is
    # 85 times as wide.
    assert on_logits[0] < 0.02 and on_logits[-1] > 20 * on_logits[0]


def test_rounding_a_model_twice_changes_nothing(folder: Path) -> None:
    derived = load_named(folder, "@int4")
    before = {name: parameter.clone() for name, parameter in parameters(derived).items()}
    quantise(derived.model, n_bits=4, name="tiny")
    assert all(torch.equal(parameter, before[name]) for name, parameter in parameters(derived).items())


def test_blocks_that_keep_their_weights_in_other_ways_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, "mixtral")  # whose experts are one stack
    with pytest.raises(ModelError, match=r"@int4: only .* of the .* weights of its blocks are in linear .*; leave out"):
        load_named(tmp_path, "@int4")
    assert load_named(tmp_path, "@blocks=1").n_blocks == 1


# --- the first blocks


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt_neo", "qwen2"])
def test_the_first_blocks_compute_what_they_did(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    whole, first = load_named(tmp_path), load_named(tmp_path, "@blocks=1")
    of_whole, of_first = (plain_block_states(m.model, find_blocks(m.model), TOKENS) for m in (whole, first))
    assert (first.n_blocks, first.model.config.num_hidden_layers, len(of_first)) == (1, 1, 2)  # an input, an output
    assert torch.equal(of_first, of_whole[:2])
    in_block = sum(p.numel() for p in find_blocks(whole.model)[1].parameters())
    assert first.n_parameters == whole.n_parameters - in_block
    for name, parameter in parameters(first).items():  # the last norm and the output layer too
        assert torch.equal(parameter, parameters(whole)[name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_blocks_are_the_whole_model(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    whole, kept = load_named(tmp_path), load_named(tmp_path, f"@blocks={N_LAYERS}")
    assert torch.equal(logits(kept), logits(whole))
    assert kept.files_sha256 != whole.files_sha256  # it is asked for by another name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cut_model_generates(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    model = load_named(tmp_path, "@blocks=1").model
    cached, plain = (
        model.generate(input_ids=TOKENS, max_new_tokens=4, do_sample=False, use_cache=cache, pad_token_id=0)
        for cache in (True, False)
    )
    assert torch.equal(cached, plain)


# --- untrained


def test_an_untrained_model_is_the_twin_of_seed_0(folder: Path) -> None:
    twin = untrained_twin(resolve(str(folder)), seed=0)
    fresh, other = load_named(folder, "@untrained"), load_named(folder, "@untrained=1")
    assert all(torch.equal(parameter, parameters(twin)[name]) for name, parameter in parameters(fresh).items())
    assert not torch.equal(logits(fresh), logits(other))
    assert load_named(folder, "@untrained=0").entry == fresh.entry


def test_an_untrained_model_needs_no_weights(tmp_path: Path) -> None:
    save_tiny(tmp_path / "m", "llama")
    entry = resolve(f"{tmp_path / 'm'}@untrained@int8")
    before = identify(entry)
    (tmp_path / "m" / "model.safetensors").unlink()
    assert identify(entry) == before == identity_of(load(entry))


# --- twins of derived models


@pytest.mark.parametrize("bits", BITS)
def test_the_twin_of_a_rounded_model_is_that_of_the_original(folder: Path, bits: int) -> None:
    derived = untrained_twin(resolve(f"{folder}@int{bits}"), seed=3)
    assert identity_of(derived) == identity_of(untrained_twin(resolve(str(folder)), seed=3))
    assert identity_of(derived) == identity_of(untrained_twin(load_named(folder, f"@int{bits}"), seed=3))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_twin_of_the_first_blocks_has_as_many(tmp_path: Path, architecture: str) -> None:
    save_tiny(tmp_path, architecture)
    entry = resolve(f"{tmp_path}@blocks=1")
    twin, loaded = untrained_twin(entry, seed=0), load(entry)
    assert (twin.n_blocks, twin.n_parameters) == (1, loaded.n_parameters)
    assert identity_of(twin) == identity_of(untrained_twin(loaded, seed=0))
    assert twin.files_sha256 != untrained_twin(resolve(str(tmp_path)), seed=0).files_sha256


@pytest.mark.parametrize(("own", "asked", "drawn"), [(0, 0, 1), (0, 1, 1), (5, 5, 6), (2**63 - 1, 2**63 - 1, 0)])
def test_the_twin_of_an_untrained_model_is_another_draw(folder: Path, own: int, asked: int, drawn: int) -> None:
    twin = untrained_twin(resolve(f"{folder}@untrained={own}"), seed=asked)
    assert twin.revision == f"untrained:{drawn}"


# --- labels and identity


@pytest.mark.parametrize(
    ("suffix", "precision"),
    [
        ("@int4", "int4 (group 64) of float32"),
        ("@blocks=1", "float32"),
        ("@untrained", "float32"),
        ("@untrained=7", "float32"),
        ("@blocks=1@int2", "int2 (group 64) of float32"),
        ("@blocks=1@untrained=3@int8", "int8 (group 64) of float32"),
    ],
)
def test_a_derived_model_is_labelled_and_identified_without_loading(folder: Path, suffix: str, precision: str) -> None:
    original, entry = resolve(str(folder)), resolve(f"{folder}{suffix}")
    assert (entry.name, entry.precision) == (f"tiny{suffix}", precision)
    assert (entry.family, entry.variant, entry.licence, entry.origin) == (
        *(original.family, original.variant, original.licence, original.origin),
    )
    loaded = load(entry, expected=identify(entry))
    assert identity_of(loaded) == identify(entry) == identify(resolve(f"{folder}{suffix}"))
    assert loaded.revision.endswith(suffix) and loaded.revision.startswith("sha256:")
    if "untrained" not in suffix:
        assert loaded.revision == f"{identify(original).revision}{suffix}"
    assert load_tokenizer(entry).get_vocab() == load_tokenizer(original).get_vocab()


def test_every_derived_model_is_another_one(folder: Path) -> None:
    suffixes = ("", "@int8", "@int4", "@int3", "@int2", "@blocks=1", "@blocks=2", "@untrained", "@untrained=1")
    suffixes += ("@blocks=1@int4", "@untrained@int4", "@blocks=1@untrained", "@blocks=1@untrained@int4")
    identities = [identify(resolve(f"{folder}{suffix}")) for suffix in suffixes]
    for field in ("files_sha256", "weights_sha256"):
        assert len({getattr(identity, field) for identity in identities}) == len(suffixes)
    assert len({identity.revision for identity in identities}) == len(suffixes)


def test_the_hash_of_derived_weights_can_be_had_by_hand(folder: Path) -> None:
    original, derived = identify(resolve(str(folder))), identify(resolve(f"{folder}@int4"))
    text = f"{original.weights_sha256}  original\n@int4 group size 64 version 1\n"
    assert derived.weights_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_suffixes_and_their_spelling_make_no_other_model(folder: Path) -> None:
    names = ("@blocks=1@untrained@int4", "@untrained@blocks=1@int4", "@UNTRAINED=0@int4@Blocks=1")
    entries = {resolve(f"{folder}{suffix}") for suffix in names}
    assert {entry.name for entry in entries} == {"tiny@blocks=1@untrained@int4"} and len(entries) == 1


def test_suffixes_combine(folder: Path) -> None:
    both, cut = load_named(folder, "@blocks=1@int4"), load_named(folder, "@blocks=1")
    quantise(cut.model, n_bits=4, name="tiny")
    assert torch.equal(logits(both), logits(cut))


def test_names_of_the_catalog_and_the_hub_take_suffixes() -> None:
    entry = resolve("SmolLM2-135M-Instruct@blocks=10@int4")
    assert (entry.name, entry.family, entry.variant, entry.n_parameters, entry.precision) == (
        *("smollm2-135m-instruct@blocks=10@int4", "SmolLM2", "instruct", None, "int4 (group 64) of Q4_1"),
    )
    assert entry.original == CATALOG["smollm2-135m-instruct"]
    assert resolve("gpt2@int2").n_parameters == CATALOG["gpt2"].n_parameters
    hub = resolve("someone/model@untrained", "abc123")
    assert (hub.name, hub.source) == ("someone/model@untrained", HubSource(repo="someone/model", revision="abc123"))


def test_a_hub_model_is_pinned_at_the_commit_of_its_original() -> None:
    entry = pinned(resolve("someone/model@int4"), "c0ffee@int4")
    assert isinstance(entry.source, HubSource) and entry.source.revision == "c0ffee"
    assert entry.original is not None and entry.original.source == entry.source
    local = ModelEntry(**{name: getattr(CATALOG["gemma-3-270m"], name) for name in ModelEntry.__slots__})
    assert pinned(local, "sha256:0123@int4") == local
    assert source_revision("sha256:0123") == "sha256:0123"


def test_a_conversion_keeps_the_name_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "tiny-f32.gguf"
    write_tiny_gguf(path)
    converted = fetch(resolve(f"{path}@int4"))
    assert converted == fetch(resolve(str(path)))
    told = json.loads((converted / "bench.json").read_text())
    assert (told["name"], told["precision"]) == ("tiny-f32", "F32")
    assert load(resolve(f"{path}@int4")).entry.precision == "int4 (group 64) of F32"


def test_a_path_with_an_at_sign_is_a_path(tmp_path: Path) -> None:
    for name in ("a@int4", "a@b", "a"):
        save_tiny(tmp_path / name, "gpt2")
    inner = tmp_path / "x@y" / "inner"
    save_tiny(inner, "gpt2")
    assert resolve(str(tmp_path / "a@int4")).derivation.suffix == ""
    assert resolve(str(tmp_path / "a@b")).original is None
    assert resolve(str(tmp_path / "a@b@int2")).name == "a@b@int2"
    assert resolve(str(tmp_path / "a@int4@int2")).derivation.suffix == "@int2"
    assert resolve(str(inner)).name == "inner" and resolve(f"{inner}@int8").name == "inner@int8"
    for absent in (tmp_path / "x@y" / "other", tmp_path / "a@int4.gguf"):
        with pytest.raises(ModelError, match="no such file or folder"):
            resolve(str(absent))


def test_a_folder_cannot_pass_for_a_derived_model_of_the_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "gpt2@int4"
    folder.mkdir()
    assert resolve(str(folder)).name == str(folder)


def test_a_long_name_keeps_its_suffix(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["gpt2".ljust(100, "x")] * 4, "gpt2")
    folder.mkdir(parents=True)
    entry = resolve(f"{folder}@blocks=12@int4")
    assert len(entry.name) == 300 and entry.name.startswith("...") and entry.name.endswith("/gpt2@blocks=12@int4")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (
            "@int5",
            r"'gpt2@int5': '@int5' is no way to derive a model; expected @int8, @int4, @int3, @int2, @untrained,",
        ),
        ("@int5", r"did you mean @int\d\?"),
        ("@int44", r"did you mean @int4\?"),
        ("@untraind", r"did you mean @untrained\?"),
        ("@block=3", r"did you mean @blocks=K\?"),
        ("@", "'@' is no way"),
        ("@int4=1", "'@int4=1' is no way"),
        ("@blocks", "'@blocks' needs the number of blocks to keep, from 1"),
        ("@blocks=0", "'@blocks=0' needs the number of blocks"),
        ("@blocks=-1", "needs the number"),
        ("@blocks=all", "needs the number"),
        ("@blocks=\u0663", "needs the number"),
        ("@untrained=", "has '' for a seed; choose one in 0"),
        ("@untrained=x", r"has 'x' for a seed; choose one in 0\.\.2\*\*63-1, such as @untrained=1"),
        (f"@untrained={2**63}", f"has '{2**63}' for a seed"),
        ("@int8@int4", "'gpt2@int8@int4': both @int8 and @int4; leave one of them out"),
        ("@untrained@untrained=1", "both @untrained and @untrained=1"),
        ("@blocks=3@int4@blocks=2", "both .* leave one of them out"),
        ("@int4@untrained=2", "fresh weights undo @int4; to round fresh weights write @untrained=2@int4"),
    ],
)
def test_a_wrong_suffix_is_refused_in_words(suffix: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(f"gpt2{suffix}")


def test_a_wrong_name_before_a_suffix_is_refused_as_without() -> None:
    with pytest.raises(ModelError, match=r"'smollm2-135': no such model.*did you mean smollm2-135m-instruct\?"):
        resolve("smollm2-135@int4")
    with pytest.raises(ModelError, match="'@int4' stands behind no name"):
        resolve("@int4")
    with pytest.raises(UsageError, match="is not on the hub and has no revisions"):
        resolve("smollm2-135m-instruct@int4", "main")


@pytest.mark.parametrize("use", [identify, load, lambda entry: untrained_twin(entry, seed=0)])
def test_more_blocks_than_there_are_are_refused(folder: Path, use: Callable[[ModelEntry], object]) -> None:
    with pytest.raises(ModelError, match=r"tiny@blocks=3: @blocks=3 asks for more than the 2 blocks .* choose 1 to 2"):
        use(resolve(f"{folder}@blocks=3"))


def test_blocks_that_lean_on_later_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    tiny_model("gpt2").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_kv_shared_layers": 1}))
    with pytest.raises(ModelError, match="its blocks share keys and values"):
        identify(resolve(f"{tmp_path}@blocks=1"))


def test_a_configuration_lists_as_many_layers_as_are_left(tmp_path: Path) -> None:
    save_tiny(tmp_path, "gemma3")
    assert len(CONFIGS["gemma3"]().layer_types) == N_LAYERS
    assert len(load_named(tmp_path, "@blocks=1").model.config.layer_types) == 1


# --- records


def test_records_of_a_model_and_what_is_derived_from_it_stand_side_by_side(folder: Path, tmp_path: Path) -> None:
    names = tuple(f"{folder}{suffix}" for suffix in ("", "@int2", "@blocks=1", "@untrained"))
    tasks = ("country", "animal", "colour")
    asked = run_request(folder, tmp_path, models=names, tasks=tasks, n_names=5, n_shots=2)
    outcomes = run(asked, Told())
    assert not any(outcome.was_there for outcome in outcomes)
    keys: list[RecordKey] = [outcome.record.key for outcome in outcomes]
    assert len({key.digest() for key in keys}) == 12
    whole, rounded, cut, fresh = (outcome.record for outcome in outcomes[::3])
    assert [record.model.n_blocks for record in (whole, rounded, cut, fresh)] == [2, 2, 1, 2]
    assert whole.summary[-1].emergence != rounded.summary[-1].emergence
    # A rounded model has the very twin of its original, which is measured once; the others have their own.
    twins = [record.measurements["untrained_twin"].key.files_sha256 for record in (whole, rounded, cut, fresh)]
    assert twins[0] == twins[1] and len(set(twins)) == 3
    trained = [record.measurements["trained"].key.files_sha256 for record in (whole, rounded, cut, fresh)]
    assert len(set(trained + twins)) == 7
    (ranking,) = rankings(digests_of(Store(tmp_path).records()[0]))
    assert {entry.model.name for entry in ranking[1]} == {"tiny", "tiny@int2", "tiny@blocks=1", "tiny@untrained"}
    board = render(board_of(digests_of(Store(tmp_path).records()[0])))
    for text in ("tiny@int2", "tiny@blocks=1", "tiny@untrained", "int2 (group 64) of float32"):
        assert f"| {markdown_cell(text)} " in board
    again = run(asked, Told())
    assert all(outcome.was_there for outcome in again)


def test_run_and_query_by_derived_names(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def status_of(*arguments: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--out", str(tmp_path)])
        return ended.value.code or 0

    small = ("--tasks", "country", "--n-names", "5", "--n-shots", "2")
    assert status_of("run", f"{folder}@int4", *small, "--json") == 0
    record = json.loads(capsys.readouterr().out)[0]["record"]
    assert (record["key"]["model"], record["model"]["precision"]) == ("tiny@int4", "int4 (group 64) of float32")
    assert record["key"]["revision"].startswith("sha256:") and record["key"]["revision"].endswith("@int4")
    assert record["provenance"]["command"].startswith("bench run tiny@int4 ")
    assert "--revision" not in record["provenance"]["command"]
    few = ("--tasks", "antonym", "--shots", "0,1", "--n-queries", "4")
    assert status_of("query", f"{folder}@blocks=1", *few) == 0
    (stored,) = Store(tmp_path).performances()[0]
    assert stored.record.model is not None
    assert (stored.record.key.model, stored.record.model.n_blocks) == ("tiny@blocks=1", 1)
    assert status_of("run", f"{folder}@int5", *small) == 2
    assert "is no way to derive a model; expected @int8" in capsys.readouterr().err


def test_answers_of_derived_models_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    asked = [query_request(tmp_path, model=f"{folder}{suffix}") for suffix in ("", "@int2", "@blocks=1", "@int2")]
    outcomes = [next(iter(query(request, Told()))) for request in asked]
    assert [outcome.was_there for outcome in outcomes] == [False, False, False, True]
    told = Told()
    (outcomes[1].path).unlink()  # the record alone: the replies are found in the cache
    (again,) = query(asked[1], told)
    assert again.record.cells == outcomes[1].record.cells
    assert len({outcome.record.samples_sha256 for outcome in outcomes[:3]}) == 3


@pytest.mark.real
def test_smollm2_in_fewer_bits() -> None:
    whole = load(resolve("smollm2-135m-instruct"))
    prompt = whole.tokenizer("The capital of France is", return_tensors="pt")
    expected = whole.model(**prompt).logits
    errors = []
    for bits in (8, 2):
        derived = load(resolve(f"smollm2-135m-instruct@int{bits}"))
        assert (derived.n_parameters, derived.n_blocks) == (whole.n_parameters, 30)
        errors.append(float((derived.model(**prompt).logits - expected).square().mean().sqrt() / expected.std()))
    assert errors[0] < 0.05 < 0.5 < errors[1]
    cut = load(resolve("smollm2-135m-instruct@blocks=10"))
    assert (cut.n_blocks, cut.n_parameters) == (10, 134_515_008 - 20 * 3_540_096)
