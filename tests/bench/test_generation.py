"""Answers against the model's own `generate`, one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from bench import decoding, generation
from bench.catalog import resolve
from bench.completions import Failure, Mode, Reply, Request
from bench.decoding import Answer, Job
from bench.errors import ModelError, UsageError
from bench.generation import LocalCompleter, end_tokens
from bench.models import LoadedModel, load
from bench.sources import FolderSource, ModelEntry
from tests.bench.tiny_models import CONFIGS, D_MODEL, END_OF_TEXT, MORE_CONFIGS, N_LAYERS, tiny_model, tiny_tokenizer

WITHOUT_SHARING = {"bloom", "mpt", "mamba"}
"""They take no positions as an argument."""

HEAD = "the cat and the dog in a house. "
PROMPTS = (
    *(HEAD + tail for tail in ("so", "and so", "a", "the thing is that", "the")),
    HEAD,
    HEAD[:7],
    "x",
    "x the",
    "an entirely other start of it",
    HEAD + "a",  # for the second time
)
N_NEW = 8


def awaken(model: PreTrainedModel, *, seed: int = 1) -> PreTrainedModel:
    """Noise on every weight: at initialisation attention is nearly uniform, and a wrong mask would hardly show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return model


def build(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return awaken(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())


def loaded(model: PreTrainedModel, tokenizer: Tokenizer | None = None) -> LoadedModel:
    entry = ModelEntry(
        name="tiny",
        family="tiny",
        n_parameters=None,
        variant="base",
        precision="float32",
        licence="MIT",
        source=FolderSource(path=Path("tiny")),
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer or tiny_tokenizer(),
        entry=entry,
        revision="",
        weights_sha256="",
        files_sha256="",
        configuration_listing="",
        initializer_range=None,
        n_parameters=model.num_parameters(),
        n_blocks=N_LAYERS,
        d_model=D_MODEL,
        dtype="float32",
        device="cpu",
    )


def awake(architecture: str) -> LoadedModel:
    return loaded(awaken(tiny_model(architecture)))


def ask(prompt: str, *, mode: Mode = "completion", max_tokens: int = N_NEW, stop: tuple[str, ...] = ()) -> Request:
    return Request(prompt=prompt, mode=mode, max_tokens=max_tokens, stop=stop)


def answered(completer: LocalCompleter, requests: Sequence[Request]) -> list[Reply | Failure]:
    pairs = list(completer.complete(requests))
    assert sorted(index for index, _ in pairs) == list(range(len(requests)))
    return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]


def texts(answers: Sequence[Reply | Failure]) -> list[str]:
    return [answer.text for answer in answers if isinstance(answer, Reply)]


def generated(model: LoadedModel, prompt: str, n_new: int = N_NEW) -> list[int]:
    """What the model's own `generate` says to one prompt alone, without the token that ends it."""
    ids = torch.tensor([model.tokenizer(prompt).input_ids])
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=n_new,
        eos_token_id=model.tokenizer.eos_token_id,
        pad_token_id=model.tokenizer.eos_token_id,
    )
    output = model.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    tokens: list[int] = output[0, ids.shape[1] :].tolist()
    return tokens[:-1] if tokens[-1] == model.tokenizer.eos_token_id else tokens


def decoded(model: LoadedModel, tokens: list[int]) -> str:
    text: str = model.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def check_as_alone(model: LoadedModel, *, shares_prefixes: bool = True) -> None:
    completer = LocalCompleter(model)
    answers = answered(completer, [ask(prompt) for prompt in PROMPTS])
    expected = [generated(model, prompt) for prompt in PROMPTS]
    assert texts(answers) == [decoded(model, tokens) for tokens in expected]
    assert [answer.n_completion_tokens for answer in answers if isinstance(answer, Reply)] == list(map(len, expected))
    assert len(set(map(tuple, expected))) > 3  # a model that always says the same would pass any test
    assert completer.shares_prefixes == shares_prefixes
    assert completer.difference < 1e-4


@pytest.mark.parametrize("architecture", sorted(CONFIGS | MORE_CONFIGS))
def test_answers_are_those_of_each_prompt_alone(architecture: str) -> None:
    check_as_alone(awake(architecture), shares_prefixes=architecture not in WITHOUT_SHARING)


def changed(architecture: str, **changes: Any) -> PreTrainedConfig:
    config = (CONFIGS | MORE_CONFIGS)[architecture]()
    return type(config)(**(config.to_dict() | changes))


SIZES: dict[str, Any] = {
    name: value
    for name, value in CONFIGS["llama"]().to_dict().items()
    if name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")
} | {"num_key_value_heads": 1, "intermediate_size": 32, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
MIXED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}

PECULIAR: dict[str, Callable[[], PreTrainedConfig]] = {
    "every layer slides": lambda: changed("mistral", sliding_window=6),
    "some layers slide": lambda: changed("gemma3", **MIXED),
    "window longer than the prompts": lambda: changed("mistral", sliding_window=33),
    "soft caps": lambda: transformers.Gemma2Config(**SIZES, **MIXED, head_dim=8, final_logit_softcapping=2.0),
    "scaled logits": lambda: transformers.GraniteConfig(**SIZES, logits_scaling=4.0),
    "scaled logits, no norm of its own": lambda: transformers.CohereConfig(**SIZES, logit_scale=0.25),
    "half of the heads": lambda: changed("llama", num_key_value_heads=2),
    "its own way to store": lambda: changed("gpt_bigcode", multi_query=False),
    "local attention": lambda: changed("gpt_neo", window_size=4, attention_layers=["local", "global"]),
    "positions by distance": lambda: changed("falcon", alibi=True),
}


@pytest.mark.parametrize("name", sorted(PECULIAR))
def test_peculiar_architectures(name: str) -> None:
    model = loaded(build(PECULIAR[name]()))
    completer = LocalCompleter(model)
    answers = answered(completer, [ask(prompt) for prompt in PROMPTS])
    assert texts(answers) == [decoded(model, generated(model, prompt)) for prompt in PROMPTS]
    # A window by slot and slopes by slot are not those by depth: noticed, and answered without sharing.
    assert completer.shares_prefixes == (name not in ("local attention", "positions by distance"))


def test_shared_prefixes_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counted(model: PreTrainedModel, **batch: Any) -> Any:
        computed.append(batch["input_ids"].numel())
        return prefilled(model, **batch)

    prefilled = decoding._prefilled
    model = awake("llama")
    completer = LocalCompleter(model)
    monkeypatch.setattr(decoding, "_prefilled", counted)
    answered(completer, [ask(prompt) for prompt in PROMPTS])
    contexts = [tuple(model.tokenizer(prompt).input_ids[:-1]) for prompt in PROMPTS]
    assert sum(computed) == len({context[: n + 1] for context in contexts for n in range(len(context))})


@pytest.mark.parametrize("architecture", ["llama", "bloom"])
def test_order_and_company_change_nothing(architecture: str) -> None:
    model = awake(architecture)
    requests = [ask(prompt, max_tokens=3 + index % 3) for index, prompt in enumerate(PROMPTS)]
    together = answered(LocalCompleter(model), requests)
    assert answered(LocalCompleter(model), requests[::-1]) == together[::-1]
    for limits in ({"batch_size": 1}, {"batch_size": 3}, {"cache_bytes": 1}, {"cache_bytes": 30_000}):
        assert answered(LocalCompleter(model, **limits), requests) == together
    assert [answered(LocalCompleter(model), [request])[0] for request in requests] == together


def test_equal_requests_are_generated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Job] = []
    model = awake("gpt2")

    class Counted(Answer):
        def __init__(self, job: Job, *args: Any) -> None:
            started.append(job)
            super().__init__(job, *args)

    monkeypatch.setattr(generation, "Answer", Counted)
    requests = [ask("the cat")] * 5 + [ask("the cat", max_tokens=2)]
    answers = answered(LocalCompleter(model), requests)
    assert len(started) == 2
    assert len(set(map(id, answers[:5]))) == 1


def test_answers_come_batch_by_batch() -> None:
    answers = LocalCompleter(awake("gpt2"), batch_size=2).complete([ask(prompt) for prompt in PROMPTS[:6]])
    assert len({next(answers)[0], next(answers)[0]}) == 2
    answers.close()  # type: ignore[attr-defined]


def test_prompts_of_one_token_only() -> None:
    model = awake("llama")
    prompts = ["x", "y", "z"]
    expected = [decoded(model, generated(model, prompt)) for prompt in prompts]
    assert texts(answered(LocalCompleter(model), [ask(prompt) for prompt in prompts])) == expected


# --- where an answer ends


@pytest.mark.parametrize("architecture", ["gpt2", "mamba"])
def test_an_answer_ends_before_the_first_stop_string(architecture: str) -> None:
    model = awake(architecture)
    for prompt in PROMPTS:
        tokens = generated(model, prompt)
        whole = decoded(model, tokens)
        stop = (whole[4:6], whole[3:5], "never said")
        cut = min(whole.find(stop[0]), whole.find(stop[1]))
        reply = answered(LocalCompleter(model), [ask(prompt, stop=stop)])[0]
        assert isinstance(reply, Reply)
        assert (reply.text, reply.finish_reason) == (whole[:cut], "stop")
        assert reply.n_completion_tokens == next(
            n for n in range(len(tokens) + 1) if any(one in decoded(model, tokens[:n]) for one in stop)
        )


@pytest.mark.parametrize("architecture", ["gpt2", "mamba"])
def test_an_answer_ends_at_an_end_token(architecture: str) -> None:
    model = awake(architecture)
    tokens = generated(model, HEAD)
    model.model.generation_config.eos_token_id = [5, tokens[3]]
    reply = answered(LocalCompleter(model), [ask(HEAD)])[0]
    at = tokens.index(tokens[3])
    assert reply == Reply(
        text=decoded(model, tokens[:at]),
        finish_reason="stop",
        n_prompt_tokens=len(model.tokenizer(HEAD).input_ids),
        n_completion_tokens=at,
        returned_model="tiny",
    )


def test_an_answer_ends_after_max_tokens() -> None:
    model = awake("llama")
    answers = answered(LocalCompleter(model), [ask("the cat", max_tokens=n) for n in (1, 2, 5)])
    whole = generated(model, "the cat")
    assert texts(answers) == [decoded(model, whole[:n]) for n in (1, 2, 5)]
    assert [answer.finish_reason for answer in answers if isinstance(answer, Reply)] == ["length"] * 3


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_settings_that_a_model_ships_with_do_not_leak_in(architecture: str) -> None:
    model = awake(architecture)
    plain = answered(LocalCompleter(model), [ask(prompt) for prompt in PROMPTS])
    shipped = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0, no_repeat_ngram_size=1, max_length=20
    )
    model.model.generation_config = shipped
    assert answered(LocalCompleter(model), [ask(prompt) for prompt in PROMPTS]) == plain
    assert model.model.generation_config is shipped


# --- what cannot be answered


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_a_prompt_beyond_the_context_fails_alone(architecture: str) -> None:
    answers = answered(LocalCompleter(awake(architecture)), [ask("x" * 57), ask("y" * 56), ask("z", max_tokens=64)])
    assert answers[0] == Failure(
        kind="bad request",
        message="the prompt has 57 tokens, which with max_tokens=8 is more than the 64 that tiny can hold",
        n_attempts=0,
    )
    assert isinstance(answers[1], Reply)
    assert isinstance(answers[2], Failure)


def test_a_prompt_too_long_for_a_tree_mask_is_answered_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "LONGEST_SHARED", 10)
    check_as_alone(awake("llama"))


def test_nothing_to_go_on_from() -> None:
    with pytest.raises(UsageError, match="the prompt '' is no token at all to the tokenizer of tiny"):
        LocalCompleter(awake("gpt2")).complete([ask("x"), ask("")])


def test_a_tokenizer_that_puts_a_token_first_makes_an_empty_prompt_one() -> None:
    model = loaded(awaken(tiny_model("gpt2")), tiny_tokenizer(prepends_bos=True))
    assert model.tokenizer("x").input_ids[0] == 0
    answers = answered(LocalCompleter(model), [ask(""), ask("x")])
    assert texts(answers) == [decoded(model, generated(model, prompt)) for prompt in ("", "x")]
    assert [answer.n_prompt_tokens for answer in answers if isinstance(answer, Reply)] == [1, 2]


@pytest.mark.parametrize(
    ("request_", "message"),
    [(ask("x", max_tokens=0), "max_tokens=0 leaves nothing to generate"), (ask("x", stop=("",)), "empty stop string")],
)
def test_requests_without_sense(request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LocalCompleter(awake("gpt2")).complete([request_])


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_logits_that_are_not_numbers(architecture: str) -> None:
    model = awake(architecture)
    with torch.no_grad():
        model.model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(ModelError, match="tiny answers with NaN or infinite logits"):
        list(LocalCompleter(model).complete([ask("the cat")]))


@pytest.mark.parametrize("wrong", ["position_ids", "attention_mask"])
def test_a_wrong_shared_path_is_noticed(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    def disturbed(*args: Any) -> dict[str, Any]:
        made = batch(*args)
        return made | {wrong: torch.zeros_like(made[wrong])}

    batch = decoding._batch
    monkeypatch.setattr(decoding, "_batch", disturbed)
    model, told = awake("llama"), list[str]()
    completer = LocalCompleter(model, progress=told.append)
    answers = answered(completer, [ask(prompt) for prompt in PROMPTS])
    assert not completer.shares_prefixes
    assert told[0].startswith("tiny: prefixes cannot be shared (logits differ by")
    assert texts(answers) == [decoded(model, generated(model, prompt)) for prompt in PROMPTS]


# --- how a prompt becomes tokens, and tokens a text

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chatting(architecture: str = "llama") -> LoadedModel:
    model = awake(architecture)
    model.tokenizer.chat_template = TEMPLATE
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    return model


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_chat_is_one_message_in_the_template(architecture: str) -> None:
    model = chatting(architecture)
    reply = answered(LocalCompleter(model), [ask("the cat", mode="chat")])[0]
    prompt = "<user>the cat<|end|>\n<assistant>"
    tokens = generated(model, prompt)
    end = model.tokenizer.convert_tokens_to_ids("<|end|>")
    assert end_tokens(model) == {0, end}
    assert reply == Reply(
        text=decoded(model, tokens),
        finish_reason="length",
        n_prompt_tokens=len(model.tokenizer(prompt).input_ids),
        n_completion_tokens=N_NEW,
        returned_model="tiny",
    )


def test_chat_without_a_template() -> None:
    with pytest.raises(ModelError, match="tiny has no chat template.*--mode completion"):
        LocalCompleter(awake("gpt2")).complete([ask("x", mode="chat")])


def test_chat_with_a_broken_template() -> None:
    model = chatting()
    model.tokenizer.chat_template = "{{ raise_exception('no users here') }}"
    with pytest.raises(ModelError, match="the chat template of tiny cannot be used.*no users here"):
        LocalCompleter(model).complete([ask("x", mode="chat")])


@pytest.mark.parametrize(
    "shown", ["", "x" * 10**6, "{{ messages[0].content | upper }}", "{{ messages[0].content[2:] }}"]
)
def test_chat_with_a_template_that_does_not_show_the_prompt(shown: str) -> None:
    model = chatting()
    model.tokenizer.chat_template = f"<user>{shown}<|end|>"
    with pytest.raises(
        ModelError, match="the chat template of tiny does not show.*'the cat' in it, got '<user>.*'; use"
    ):
        LocalCompleter(model).complete([ask(" the cat", mode="chat")])


def test_chat_with_a_template_that_trims_the_prompt() -> None:
    model = chatting()
    model.tokenizer.chat_template = TEMPLATE.replace("m['content']", "m['content'] | trim")
    trimmed, plain = (answered(LocalCompleter(model), [ask(x, mode="chat")]) for x in (" the cat\n", "the cat"))
    assert trimmed == plain


def metaspace_tokenizer() -> Tokenizer:
    """In the manner of SentencePiece: what it decodes loses a space at its start."""
    pieces = {piece: i for i, piece in enumerate([END_OF_TEXT, "?", "▁of", "▁France", "▁Paris", ".", "▁"])}
    inner = tokenizers.Tokenizer(models.WordLevel(pieces, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    return Tokenizer(tokenizer_object=inner, eos_token=END_OF_TEXT)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "reply"),
    [
        (metaspace_tokenizer(), "of France", " Paris Paris"),
        (metaspace_tokenizer(), "of " * 20 + "France", " of"),
        (tiny_tokenizer(), "of France", " the cat"),
        (tiny_tokenizer(), "of Fr", "ance, été"),
        (tiny_tokenizer(), "of 1\n", "\n 2 , 3 . 4"),
    ],
)
def test_prompt_and_reply_read_as_one_text(tokenizer: Tokenizer, prompt: str, reply: str) -> None:
    tokens = tokenizer(prompt, add_special_tokens=False).input_ids
    both = tokenizer(prompt + reply, add_special_tokens=False).input_ids
    assert both[: len(tokens)] == tokens
    answer = Answer(Job(tokens=tuple(tokens), max_tokens=100, stop=()), tokenizer, frozenset())
    for token in both[len(tokens) :]:
        answer.push(token)
    assert answer.text == reply


def test_a_space_at_the_start_counts_for_stop_strings() -> None:
    tokenizer = metaspace_tokenizer()
    answer = Answer(Job(tokens=(2, 3), max_tokens=9, stop=(" ",)), tokenizer, frozenset())
    answer.push(4)
    assert (answer.text, answer.finish_reason) == ("", "stop")


def test_bfloat16() -> None:
    model = loaded(awaken(tiny_model("llama")).to(torch.bfloat16))
    completer = LocalCompleter(replace(model, dtype="bfloat16"))
    answers = answered(completer, [ask(prompt) for prompt in PROMPTS])
    alone = [decoded(model, generated(model, prompt)) for prompt in PROMPTS]
    assert sum(ours == theirs for ours, theirs in zip(texts(answers), alone, strict=True)) >= len(PROMPTS) - 2
    assert completer.shares_prefixes


# --- the real thing


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LoadedModel]:
    yield load(resolve("smollm2-135m-instruct"))


@pytest.mark.real
@pytest.mark.timeout(600)  # the first time it downloads and converts the weights
def test_real_few_shot_prompts(smollm2: LoadedModel) -> None:
    words = (
        "cat dog house tree river stone bread chair window garden mountain ocean pencil bottle engine ladder".split()
    )
    demonstrations = "".join(f"Q: How many letters are in {word}?\nA: {len(word)}\n" for word in words[:4])
    prompts = [demonstrations + f"Q: How many letters are in {word}?\nA:" for word in words[4:]]
    prompts += [f"{demonstrations}Q: Which word comes after {word}?\nA:" for word in words[4:]]
    completer = LocalCompleter(smollm2)
    answers = answered(completer, [ask(prompt, max_tokens=8) for prompt in prompts])
    assert len(prompts) == 24
    assert completer.shares_prefixes
    assert texts(answers) == [decoded(smollm2, generated(smollm2, prompt)) for prompt in prompts]


@pytest.mark.real
@pytest.mark.timeout(600)
def test_real_chat_ends_with_its_turn(smollm2: LoadedModel) -> None:
    reply = answered(LocalCompleter(smollm2), [ask("What is the capital of France?", mode="chat", max_tokens=40)])[0]
    assert isinstance(reply, Reply)
    assert reply.text.startswith("The capital of France is Paris.")
    assert reply.finish_reason == "stop"
