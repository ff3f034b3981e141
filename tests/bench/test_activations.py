"""Block states against the forward pass written out by hand, and against the model's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice, permutations
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from bench.activations import BlockStates, Extractor, plain_block_states, relative_difference
from bench.blocks import find_blocks
from bench.errors import ModelError
from bench.prefix_forest import Integers, PrefixForest
from tests.bench.hand_forward import hand_block_states
from tests.bench.tiny_models import CONFIGS, D_MODEL, MORE_CONFIGS, tiny_model

FLOAT32_ROUNDING = 2e-5
"""Relative to the root mean square of the states at a block. Two blocks of attention measure at most 3.5e-6, two of
Mamba 1.1e-5; a bias, a norm's weight, an angle or a mask that is left out measures above 1e-2."""

BFLOAT16_ROUNDING = 5e-2
"""As above. bfloat16 keeps 8 bits, an error of 4e-3 per rounding, on entries of several times the root mean square;
two blocks measure at most 3e-2."""

BOS = 3
TAKES_NO_TREE_MASK = ("bloom", "mpt", "mamba")


def lists(n: int, k: int) -> Integers:
    """Every ordered choice of k out of n items, each followed by a separator; the ids keep clear of special tokens."""
    orders = np.array(list(permutations(range(n), k)))
    return 5 + np.stack([orders, np.full_like(orders, n)], axis=2).reshape(len(orders), -1)


SEQUENCES = np.concatenate([lists(4, 3), lists(4, 3)[:5]])  # (29, 6), five of them twice
SAMPLE = SEQUENCES[:4]


def awaken(model: PreTrainedModel, *, seed: int = 1) -> PreTrainedModel:
    """Noise on every weight. At initialisation biases are 0, norms are 1 and attention is nearly uniform, so that a
    forgotten bias or a wrong position would drown in rounding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def build(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return awaken(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())


def awake(architecture: str) -> PreTrainedModel:
    return awaken(tiny_model(architecture))


def sliding_gemma3(window: int) -> PreTrainedModel:
    """One block of each kind, whose rotary angles differ, with a window that can be shorter than the sequences."""
    config = CONFIGS["gemma3"]()
    settings = config.to_dict() | {
        "sliding_window": window,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
    }
    return build(transformers.Gemma3TextConfig(**settings))


HALF_ROTARY = {"rope_theta": 100.0, "partial_rotary_factor": 0.5, "rope_type": "default"}


def changed(architecture: str, **settings: Any) -> PreTrainedModel:
    config = CONFIGS[architecture]()
    for name, value in settings.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    return build(config)


def with_bos(sequences: Integers, bos: int | None) -> torch.Tensor:
    return torch.from_numpy(sequences if bos is None else np.insert(sequences, 0, bos, axis=1))


def extractor_of(model: PreTrainedModel, *, bos: int | None = None, **settings: Any) -> Extractor:
    return Extractor(model, find_blocks(model), bos=bos, sample=SAMPLE, **settings)


def plain(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    return plain_block_states(model, find_blocks(model), tokens)


def assert_same(states: torch.Tensor, expected: torch.Tensor, tolerance: float = FLOAT32_ROUNDING) -> None:
    """States of all blocks, shape (n_blocks + 1, ..., d_model); every block has a scale of its own."""
    assert states.shape == expected.shape
    for block, (one, other) in enumerate(zip(states, expected, strict=True)):
        difference = relative_difference(one, other)
        assert difference <= tolerance, f"h_{block} differs by {difference:.1e}"


def assert_streams(
    extractor: Extractor, sequences: Integers, expected: torch.Tensor, tolerance: float = FLOAT32_ROUNDING
) -> None:
    """Every distinct prefix at every position and block against `expected`, BOS not included,
    shape (n_blocks + 1, n_sequences, n_positions, d_model)."""
    forest = extractor.plant(sequences)
    n_blocks = 0
    for states in extractor.stream(forest):
        assert states.block == n_blocks
        n_blocks += 1
        for position in range(sequences.shape[1]):
            first = np.unique(sequences[:, : position + 1], axis=0, return_index=True)[1]
            streamed = torch.stack([states.inputs_at(position), states.outputs_at(position)])
            assert_same(streamed, expected[states.block : states.block + 2, first, position], tolerance)
    assert n_blocks == len(expected) - 1


def take(stream: Iterator[BlockStates]) -> torch.Tensor:
    """All that a stream gives, shape (n_blocks, 2, n_bins, n_slots, d_model)."""
    return torch.stack([torch.stack([states.inputs, states.outputs]) for states in stream])


# The hand-written forward pass.


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_plain_states_are_those_of_the_forward_pass_written_out_by_hand(architecture: str) -> None:
    model, tokens = awake(architecture), torch.from_numpy(SEQUENCES)
    by_hand = hand_block_states(model, tokens)
    assert by_hand.shape == (3, 29, 6, D_MODEL)
    assert_same(plain(model, tokens), by_hand)


@pytest.mark.parametrize("bos", [None, BOS])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_streamed_states_are_those_of_the_forward_pass_written_out_by_hand(
    architecture: str, bos: int | None
) -> None:
    model = awake(architecture)
    by_hand = hand_block_states(model, with_bos(SEQUENCES, bos))
    extractor = extractor_of(model, bos=bos)
    assert extractor.shares_prefixes
    assert extractor.difference <= FLOAT32_ROUNDING
    assert extractor.plant(SEQUENCES).n_computed < 29 * 6 / 2
    assert_streams(extractor, SEQUENCES, by_hand[:, :, 0 if bos is None else 1 :])


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: changed("gpt_neox", use_parallel_residual=False), id="gpt_neox one after the other"),
        pytest.param(lambda: changed("gpt_neox", rope_parameters=HALF_ROTARY), id="gpt_neox of two frequencies"),
        pytest.param(lambda: changed("opt", do_layer_norm_before=False), id="opt-350m"),
        pytest.param(lambda: changed("opt", word_embed_proj_dim=D_MODEL), id="opt without projection"),
        pytest.param(
            lambda: changed("llama", num_attention_heads=4, num_key_value_heads=2, head_dim=4),
            id="llama of two groups of heads",
        ),
        pytest.param(lambda: sliding_gemma3(64), id="gemma3 of both kinds of block"),
    ],
)
def test_variants_of_an_architecture_too(model: Callable[[], PreTrainedModel]) -> None:
    variant = model()
    by_hand = hand_block_states(variant, torch.from_numpy(SEQUENCES))
    extractor = extractor_of(variant)
    assert extractor.shares_prefixes
    assert_streams(extractor, SEQUENCES, by_hand)


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [
        ("gpt2", lambda model: model.transformer.ln_f),
        ("llama", lambda model: model.model.norm),
        ("gemma3", lambda model: model.model.norm),
    ],
)
@torch.inference_mode()
def test_the_last_of_output_hidden_states_is_not_a_block_output_but_its_final_norm(
    architecture: str, norm: Any
) -> None:
    model, tokens = awake(architecture), torch.from_numpy(SEQUENCES)
    states = plain(model, tokens)
    theirs = torch.stack(model(tokens, output_hidden_states=True).hidden_states)
    assert_same(states[:-1], theirs[:-1])
    assert relative_difference(states[-1], theirs[-1]) > 0.1
    last, weight = states[-1], norm(model).weight
    if architecture == "gpt2":
        centred = last - last.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + norm(model).bias
    else:
        scaled = last / (last.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        normed = scaled * (weight + 1 if architecture == "gemma3" else weight)
    assert relative_difference(normed, theirs[-1]) <= FLOAT32_ROUNDING


def test_the_first_input_of_gpt2_contains_the_position() -> None:
    model = awake("gpt2")
    sequences = np.array([[7, 8, 7], [8, 7, 7]])
    extractor = extractor_of(model)
    first = next(iter(extractor.stream(extractor.plant(sequences))))
    seven_at = [first.inputs_at(0)[0], first.inputs_at(1)[1], first.inputs_at(2)[0]]  # prefixes come sorted
    places = model.transformer.wpe.weight.detach()
    for position in (1, 2):
        moved = places[position] - places[0]
        assert moved.abs().max() > 0.1
        # Two roundings of numbers of order 1.
        torch.testing.assert_close(seven_at[position] - seven_at[0], moved, rtol=0, atol=1e-6)


# Other architectures.


@pytest.mark.parametrize("bos", [None, BOS])
@pytest.mark.parametrize("architecture", MORE_CONFIGS)
def test_other_architectures_stream_their_own_forward_pass(architecture: str, bos: int | None) -> None:
    model = awake(architecture)
    extractor = extractor_of(model, bos=bos)
    assert extractor.shares_prefixes == (architecture not in TAKES_NO_TREE_MASK)
    if not extractor.shares_prefixes:
        assert extractor.plant(SEQUENCES).tokens.shape == (24, 6 if bos is None else 7)
    expected = plain(model, with_bos(SEQUENCES, bos))[:, :, 0 if bos is None else 1 :]
    assert_streams(extractor, SEQUENCES, expected)


def test_a_window_shorter_than_the_sequences_is_noticed_and_kept() -> None:
    model = sliding_gemma3(4)
    extractor = extractor_of(model)
    assert not extractor.shares_prefixes
    assert_streams(extractor, SEQUENCES, hand_block_states(model, torch.from_numpy(SEQUENCES)))


def test_a_tree_mask_that_gives_nan_is_not_taken() -> None:
    """A NaN compares as no larger than any difference."""
    model = awake("llama")

    def poison(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        return output if kwargs["attention_mask"] is None else (output[0] * torch.nan, *output[1:])

    model.model.layers[1].self_attn.register_forward_hook(poison, with_kwargs=True)
    extractor = extractor_of(model)
    assert not extractor.shares_prefixes
    assert extractor.difference <= FLOAT32_ROUNDING


def test_states_that_are_all_zero_can_be_compared() -> None:
    """The last token of every sequence may be one whose embedding is zero, as that of a padding token is."""
    model = awake("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[SEQUENCES[0, -1]] = 0
    assert extractor_of(model).shares_prefixes


# The micro view.


@pytest.mark.parametrize("bos", [None, BOS])
@pytest.mark.parametrize("architecture", [*CONFIGS, *TAKES_NO_TREE_MASK])
def test_a_vocabulary_is_streamed_token_by_token_at_the_first_position(architecture: str, bos: int | None) -> None:
    model = awake(architecture)
    vocabulary = np.unique(SEQUENCES)
    extractor = extractor_of(model, bos=bos)
    alone = [plain(model, with_bos(np.array([[token]]), bos))[:, :, -1] for token in vocabulary]
    expected = torch.cat(alone, dim=1)  # (n_blocks + 1, n_tokens, d_model)
    assert_streams(extractor, vocabulary[:, None], expected[:, :, None])


# The model is left as it was.


def is_untouched(model: PreTrainedModel) -> bool:
    return not any("forward" in vars(block) or block._forward_hooks for block in find_blocks(model))


@torch.inference_mode()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(torch.from_numpy(SEQUENCES)).logits


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "mpt"])
def test_a_stream_leaves_the_model_as_it_was(architecture: str) -> None:
    model = awake(architecture)
    before = logits(model)
    extractor = extractor_of(model)
    take(extractor.stream(extractor.plant(SEQUENCES)))
    assert is_untouched(model)
    assert torch.equal(logits(model), before)


def test_a_stream_abandoned_half_way_leaves_the_model_as_it_was() -> None:
    model = awake("gpt2")
    before = logits(model)
    extractor = extractor_of(model)
    stream = extractor.stream(extractor.plant(SEQUENCES))
    next(stream)
    assert torch.equal(logits(model), before)  # also while the stream is open
    stream.close()
    assert is_untouched(model)
    assert torch.equal(logits(model), before)


def test_an_exception_inside_a_block_leaves_the_model_as_it_was() -> None:
    model = awake("gpt2")
    before = logits(model)
    extractor = extractor_of(model)
    stream = extractor.stream(extractor.plant(SEQUENCES))
    next(stream)

    def fail(module: nn.Module, args: Any) -> None:
        raise KeyboardInterrupt

    hook = model.transformer.h[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    hook.remove()
    assert is_untouched(model)
    assert torch.equal(logits(model), before)


def test_an_exception_between_two_blocks_leaves_the_model_as_it_was() -> None:
    model = awake("gpt2")
    before = logits(model)
    extractor = extractor_of(model)
    with pytest.raises(ZeroDivisionError):
        for states in extractor.stream(extractor.plant(SEQUENCES)):
            states.block // 0
    assert is_untouched(model)
    assert torch.equal(logits(model), before)


def test_a_forward_that_was_set_on_a_block_is_there_again() -> None:
    """accelerate places models so."""
    model = awake("gpt2")
    block = model.transformer.h[0]
    own = block.forward
    block.forward = own
    extractor = extractor_of(model)
    take(extractor.stream(extractor.plant(SEQUENCES)))
    assert vars(block)["forward"] is own


@pytest.mark.parametrize("architecture", ["gpt2", "mpt"])
def test_two_streams_on_one_model_do_not_disturb_each_other(architecture: str) -> None:
    model = awake(architecture)
    extractor = extractor_of(model)
    macro, micro = extractor.plant(SEQUENCES), extractor.plant(np.unique(SEQUENCES)[:, None])
    alone = take(extractor.stream(macro)), take(extractor.stream(micro))
    pairs = zip(extractor.stream(macro), extractor.stream(micro), strict=True)
    together = [tuple(torch.stack([s.inputs, s.outputs]) for s in pair) for pair in pairs]
    for expected, streamed in zip(alone, zip(*together, strict=True), strict=True):
        assert torch.equal(torch.stack(streamed), expected)


# What may not matter.


@pytest.mark.parametrize("architecture", ["llama", "bloom"])
def test_states_in_a_temporary_file_are_those_in_memory_bit_for_bit(architecture: str) -> None:
    extractor = extractor_of(awake(architecture))
    forest = extractor.plant(SEQUENCES)
    on_disk = extractor.stream(forest, memory_bytes=1)
    assert torch.equal(take(on_disk), take(extractor.stream(forest)))


def test_the_file_is_used_when_two_layers_take_more_than_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = extractor_of(awake("llama"))
    forest = extractor.plant(SEQUENCES)
    two_layers = 2 * 4 * forest.tokens.size * D_MODEL  # bytes of float32
    used: list[bool] = []

    def allocate(shape: tuple[int, ...], *, in_memory: bool) -> torch.Tensor:
        used.append(in_memory)
        return torch.empty(shape)

    monkeypatch.setattr("bench.activations.allocate", allocate)
    for memory_bytes in (two_layers, two_layers - 1):
        next(extractor.stream(forest, memory_bytes=memory_bytes))
    assert used == [True, True, False, False]


@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_the_size_of_a_batch_does_not_matter(architecture: str) -> None:
    model = awake(architecture)
    sequences = lists(7, 3)  # 210 sequences: more than one bin
    streams = []
    for batch_tokens in (1, 7, 10_000):
        extractor = extractor_of(model, batch_tokens=batch_tokens)
        forest = extractor.plant(sequences)
        assert len(forest.tokens) > 1
        streams.append(take(extractor.stream(forest))[:, :, used_slots(forest)])
    for stream in streams[1:]:
        assert_same(stream.flatten(0, 1), streams[0].flatten(0, 1))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_tokens_that_go_through_a_block_are_the_distinct_prefixes(architecture: str) -> None:
    """A slice of the population of 25 names and 4 shots: 1,000 lists, and the same lists five times over."""
    model = awake(architecture)
    n_tokens = 0

    def count(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        nonlocal n_tokens
        n_tokens += output.shape[:-1].numel()

    extractor = extractor_of(model)
    find_blocks(model)[1].mlp.register_forward_hook(count)
    orders = np.array(list(islice(permutations(range(25), 4), 1000)))
    once = 5 + np.stack([orders, np.full_like(orders, 25)], axis=2).reshape(1000, 8)
    n_distinct = sum(len(np.unique(once[:, : depth + 1], axis=0)) for depth in range(8))
    for sequences in (once, np.tile(once, (5, 1))):
        n_tokens = 0
        forest = extractor.plant(sequences)
        take(extractor.stream(forest))
        assert n_tokens == forest.tokens.size
        assert n_distinct <= n_tokens <= 1.15 * n_distinct < 0.35 * once.size  # bins repeat a little and are padded


def used_slots(forest: PrefixForest) -> torch.Tensor:
    """Mask of the slots that hold a prefix, shape (n_bins, n_slots)."""
    mask = np.zeros(forest.tokens.size, dtype=bool)
    mask[np.concatenate(forest.rows)] = True
    return torch.from_numpy(mask.reshape(forest.tokens.shape))


@pytest.mark.parametrize("architecture", [*CONFIGS, *MORE_CONFIGS])
def test_a_bfloat16_model_streams_its_own_forward_pass(architecture: str) -> None:
    model = awake(architecture).to(torch.bfloat16)
    expected = plain(model, torch.from_numpy(SEQUENCES))
    assert expected.dtype == torch.float32
    assert_streams(extractor_of(model), SEQUENCES, expected, BFLOAT16_ROUNDING)


# Models that cannot be measured.


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("architecture", ["gpt2", "bloom"])
def test_weights_that_are_nan_are_refused_by_block(architecture: str, block: int) -> None:
    model = awake(architecture)
    with torch.no_grad():
        next(find_blocks(model)[block].mlp.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match=f"gives NaN or infinite states at block {block}; its weights are damaged"):
        extractor_of(model)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_blocks_in_another_order_than_they_run_are_refused(architecture: str) -> None:
    model = awake(architecture)
    backwards = nn.ModuleList(reversed(list(find_blocks(model))))
    with pytest.raises(ModelError, match="its 2 blocks do not run once each, in order"):
        Extractor(model, backwards, bos=None, sample=SAMPLE)


def test_blocks_that_are_not_a_chain_are_refused() -> None:
    """Something happens to the residual stream between two blocks, and would be lost."""
    model = awake("llama")
    model.model.layers[1].register_forward_pre_hook(lambda block, args: (2 * args[0], *args[1:]))
    with pytest.raises(ModelError, match="each on the output of the one before; this architecture cannot be measured"):
        extractor_of(model)


def test_a_block_that_remembers_is_refused() -> None:
    """Its output depends on how often it ran, so block by block it is not what it is in one pass."""
    model = awake("llama")
    calls = iter(range(1_000))
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: output * next(calls))
    with pytest.raises(ModelError, match="states computed block by block differ from its own forward pass by"):
        extractor_of(model)


def test_states_that_no_disk_can_hold_are_refused_before_they_are_written() -> None:
    """With a limit on file sizes standing in for a full disk; without the reservation the process dies of SIGBUS."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from bench.activations import allocate\n"
        "from bench.errors import StorageError\n"
        "try:\n    allocate((1 << 20,), in_memory=False)\n"
        "except StorageError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot keep 0.0 GB of states in" in said and "point TMPDIR at a folder with room" in said
