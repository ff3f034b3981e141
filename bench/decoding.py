"""Decoding of token sequences, with shared prefixes or by the model's own `generate`; no requests in here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from bench.activations import BATCH_TOKENS, decoder_of, device_of
from bench.completions import Sampling
from bench.drawing import Drawer
from bench.errors import ModelError
from bench.loading import quiet_libraries
from bench.models import Tokenizer
from bench.prefix_forest import PrefixForest, plant

N_CONTEXT_TOKENS = 8
"""Tokens of the prompt that are decoded with an answer: tokenizers drop a space at the start of what they decode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Tokens to go on from, at least one, where to end, and how to choose what comes; greedily without `sampling`."""

    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...]
    sampling: Sampling | None = None


class Answer:
    """What comes after the tokens of a job, token by token.

    Attributes:
        tokens: generated so far; a token that ends the text is not among them, one that a stop string cuts off is.
        finish_reason: None while there is more to come.
    """

    def __init__(self, job: Job, tokenizer: Tokenizer, end_tokens: frozenset[int]) -> None:
        self.job = job
        self.tokens: list[int] = []
        self.finish_reason: Literal["stop", "length"] | None = None
        self._tokenizer, self._end_tokens = tokenizer, end_tokens
        self._drawer = None if job.sampling is None else Drawer(job.sampling, job.tokens)
        self._context = list(job.tokens[-N_CONTEXT_TOKENS:])
        self._before = self._decoded(self._context)

    @property
    def is_drawn(self) -> bool:
        """Whether tokens are drawn; else the most probable ones are taken."""
        return self._drawer is not None

    def drawn(self, logits: torch.Tensor) -> int:
        """A next token by logits of shape (n_vocabulary,); asked once for each token."""
        assert self._drawer is not None
        return self._drawer.draw(logits.cpu().double().numpy())

    def push(self, token: int) -> None:
        """Take the next token; it may be the one that ends the answer."""
        if token in self._end_tokens:
            self.finish_reason = "stop"
            return
        self.tokens.append(token)
        if self.job.stop and self._first_stop(self._whole_text()) is not None:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.job.max_tokens:
            self.finish_reason = "length"

    @property
    def text(self) -> str:
        """As it reads after the prompt, up to the first stop string."""
        whole = self._whole_text()
        return whole[: self._first_stop(whole)]

    def _first_stop(self, text: str) -> int | None:
        return min((at for stop in self.job.stop if (at := text.find(stop)) >= 0), default=None)

    def _whole_text(self) -> str:
        together = self._decoded(self._context + self.tokens)
        return together[len(self._before) :] if together.startswith(self._before) else self._decoded(self.tokens)

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Logits of one answer's first and last step, float32 on the CPU, by which its decoding can be checked.

    Attributes:
        answer: position of the answer in its batch.
        n_generated: tokens that had been generated before the step, one entry per step.
        logits: shape (n_steps, n_vocabulary).
    """

    answer: int
    n_generated: tuple[int, ...]
    logits: torch.Tensor


class NotFinite(ArithmeticError):
    """The model gives NaN or infinite logits."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values of one block with room for those to come: none is moved when one is added.

    A sliding window is left to the mask, so that every layer holds the same positions.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, *, n_filled: int) -> None:
        """Take over tensors of shape (n_rows, n_heads, n_filled + n_room, d_head)."""
        super().__init__()
        self.keys, self.values, self._n_filled = keys, values, n_filled
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a position; returns everything up to it."""
        end = self._n_filled + key_states.shape[-2]
        self.keys[:, :, self._n_filled : end] = key_states
        self.values[:, :, self._n_filled : end] = value_states
        self._n_filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Positions that are filled."""
        return self._n_filled


def bytes_per_token(model: PreTrainedModel) -> int | None:
    """What a token's keys and values take; None where they do not come as shape (n_rows, n_heads, n_tokens, d_head)."""
    cache = _prefilled(model, input_ids=torch.zeros((2, 3), dtype=torch.int64, device=device_of(model)))
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    is_standard = bool(tensors) and all(type(layer) is DynamicLayer for layer in cache.layers)
    if not is_standard or any(
        tensor is None or tensor.ndim != 4 or tensor.shape[0] != 2 or tensor.shape[2] != 3 for tensor in tensors
    ):
        return None
    return int(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) // 6


@torch.inference_mode()
def _prefilled(model: PreTrainedModel, **batch: Any) -> DynamicCache:
    cache = DynamicCache()  # without a configuration no layer drops what leaves its sliding window
    decoder_of(model)(**batch, past_key_values=cache, use_cache=True)
    return cache


@torch.inference_mode()
def decode_together(model: PreTrainedModel, answers: Sequence[Answer]) -> list[Evidence]:
    """Finish all answers in one batch; their prompts' shared prefixes are computed once.

    All tokens of the prompts but the last go through the decoder as a packed forest, without the language-model head.
    From the last on, each step is the model's own forward pass with a left-padded cache.

    Raises:
        NotFinite: the logits are not numbers.
    """
    contexts = [answer.job.tokens[:-1] for answer in answers]
    room = max(answer.job.max_tokens for answer in answers)
    cache, checked = _cache_of(model, contexts, room)
    device = device_of(model)
    lengths = torch.tensor([len(context) for context in contexts], device=device)
    width = int(lengths.max())
    mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()  # (n_rows, width)
    tokens = torch.tensor([answer.job.tokens[-1] for answer in answers], device=device)
    positions = lengths
    rows = list(range(len(answers)))
    seen: dict[int, dict[int, torch.Tensor]] = {row: {} for row in checked}
    while rows:
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]  # (n_rows, n_vocabulary)
        if not bool(torch.isfinite(logits).all()):
            raise NotFinite
        tokens = _chosen(logits, [answers[row] for row in rows])
        for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if row in seen:
                n_generated = len(answers[row].tokens)
                seen[row] = {n: kept for n, kept in seen[row].items() if n == 0} | {
                    n_generated: logits[place].float().cpu()
                }
            answers[row].push(token)
        going_on = [place for place, row in enumerate(rows) if answers[row].finish_reason is None]
        positions = positions + 1
        if len(going_on) < len(rows):
            rows = [rows[place] for place in going_on]
            kept = torch.tensor(going_on, dtype=torch.int64, device=device)
            tokens, positions, mask = tokens[kept], positions[kept], mask[kept]
            if rows:
                cache.batch_select_indices(kept)
    return [
        Evidence(answer=row, n_generated=tuple(steps), logits=torch.stack(list(steps.values())))
        for row, steps in seen.items()
    ]


def _chosen(logits: torch.Tensor, answers: Sequence[Answer]) -> torch.Tensor:
    """The next token of each answer that is not finished, by logits of shape (n_answers, n_vocabulary)."""
    tokens = logits.argmax(dim=-1)  # (n_answers,)
    for place, answer in enumerate(answers):
        if answer.is_drawn and answer.finish_reason is None:
            tokens[place] = answer.drawn(logits[place])
    return tokens


def _cache_of(model: PreTrainedModel, contexts: Sequence[tuple[int, ...]], room: int) -> tuple[DynamicCache, set[int]]:
    """A left-padded cache of all contexts, and the rows by which a wrong mask or position shows best."""
    lengths = np.array([len(context) for context in contexts])
    width = int(lengths.max())
    filled = np.flatnonzero(lengths).tolist()
    if not filled:
        return DynamicCache(), {0}
    padded = np.array([[*contexts[row], *[0] * (width - lengths[row])] for row in filled])
    forest = plant(padded, lengths=lengths[filled], max_slots=max(256, width + min(width, 1024)))
    n_slots = forest.tokens.shape[1]
    paths = np.full((len(contexts), width), -1)
    for row, path in zip(filled, forest.paths, strict=True):
        paths[row, width - lengths[row] :] = path[: lengths[row]]
    bin_of = np.where(lengths > 0, paths[:, -1] // n_slots, 0)  # an empty context takes its (masked) fill from bin 0
    slots = np.where(paths >= 0, paths % n_slots, 0)  # (n_rows, width)

    layers: list[RoomyLayer] = []
    bins_per_step = max(1, BATCH_TOKENS // n_slots)
    for start in range(0, len(forest.tokens), bins_per_step):
        part = slice(start, start + bins_per_step)
        step = _prefilled(model, **_batch(model, forest, part))
        rows = np.flatnonzero((bin_of >= start) & (bin_of < part.stop))
        take = torch.from_numpy(bin_of[rows] - start)[:, None], slice(None), torch.from_numpy(slots[rows])
        for index, layer in enumerate(step.layers):
            if index == len(layers):
                shapes = [
                    (len(contexts), tensor.shape[1], width + room, tensor.shape[3])
                    for tensor in (layer.keys, layer.values)
                ]
                layers.append(RoomyLayer(*(layer.keys.new_zeros(shape) for shape in shapes), n_filled=width))
            for whole, packed in ((layers[index].keys, layer.keys), (layers[index].values, layer.values)):
                whole[torch.from_numpy(rows), :, :width] = packed[take].transpose(1, 2)
    detours = np.where(lengths > 0, slots[:, -1] - lengths, -1)  # how much further slots lie apart than positions
    cache = DynamicCache()
    cache.layers = layers
    return cache, {int(lengths.argmax()), int(detours.argmax())}


def _batch(model: PreTrainedModel, forest: PrefixForest, part: slice) -> dict[str, Any]:
    """Tokens, positions and the tree as an additive mask: one for each kind of layer where a window matters."""
    device, dtype = device_of(model), next(model.parameters()).dtype
    allowed = forest.attention(part)  # (n_bins, n_slots, n_slots)
    depths = forest.depths[part]

    def additive(allowed: np.ndarray[Any, np.dtype[np.bool_]]) -> torch.Tensor:
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
        forbidden = torch.from_numpy(~allowed).to(device)
        return mask.masked_fill_(forbidden, torch.finfo(dtype).min)[:, None]  # (n_bins, 1, n_slots, n_slots)

    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    masks: Any = additive(allowed)
    if window is not None and int(depths.max()) >= window and "sliding_attention" in kinds:
        is_near = depths[:, :, None] - depths[:, None, :] < window
        windowed = additive(allowed & is_near)
        is_mixed = len(kinds) > 1
        masks = {"full_attention": masks, "sliding_attention": windowed} if is_mixed else windowed
    return {
        "input_ids": torch.from_numpy(forest.tokens[part]).to(device),
        "attention_mask": masks,
        "position_ids": torch.from_numpy(depths).to(device),
    }


@torch.inference_mode()
def plain_logits(model: PreTrainedModel, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
    """The model's own logits at some positions of one sequence, float32 on the CPU, (n_positions, n_vocabulary)."""
    device = device_of(model)
    wanted = torch.tensor(positions, device=device)
    is_chosen = "logits_to_keep" in _parameters(model.forward)
    chosen = {"logits_to_keep": wanted} if is_chosen else {}
    logits: torch.Tensor = model(input_ids=torch.tensor([tokens], device=device), **chosen).logits[0]
    return (logits if is_chosen else logits[wanted]).float().cpu()


def decode_plainly(model: PreTrainedModel, answers: Sequence[Answer], name: str) -> None:
    """Finish answers to prompts of one length by the model's own `generate`, as it was made and without padding.

    Raises:
        ModelError: the logits are not numbers.
    """
    device = device_of(model)
    tokens = torch.tensor([answer.job.tokens for answer in answers], device=device)  # (n_answers, n_tokens)

    def choose(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not bool(torch.isfinite(scores).all()):
            raise ModelError(
                f"{name} answers with NaN or infinite logits; its weights are damaged or its dtype overflows "
                f"(try --dtype float32)"
            )
        if not any(answer.is_drawn for answer in answers):
            return scores
        tokens = _chosen(scores, answers)[:, None]  # (n_answers, 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)  # `generate` takes the largest

    def are_finished(input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        for answer, token in zip(answers, input_ids[:, -1].tolist(), strict=True):
            if answer.finish_reason is None:
                answer.push(token)
        return torch.tensor([answer.finish_reason is not None for answer in answers], device=device)

    settings = GenerationConfig(do_sample=False, max_new_tokens=max(answer.job.max_tokens for answer in answers))
    with _without_shipped_settings(model), quiet_libraries():
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            generation_config=settings,
            logits_processor=[choose],
            stopping_criteria=[are_finished],
        )


@contextmanager
def _without_shipped_settings(model: PreTrainedModel) -> Iterator[None]:
    """`generate` fills in what is not set from the settings that a model ships with, repetition_penalty for one."""
    shipped = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = shipped


def takes_trees(model: PreTrainedModel) -> bool:
    """Whether mask, positions and cache are arguments at all; Bloom, MPT and Mamba lack one."""
    wanted = {"attention_mask", "position_ids", "past_key_values", "use_cache"}
    return wanted <= _parameters(model.forward) and wanted <= _parameters(decoder_of(model).forward)


def _parameters(forward: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(forward).parameters)
