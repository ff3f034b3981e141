"""A model in this process that can be asked: answers in batches, every shared prefix computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from bench.cache import Tell
from bench.completions import Failure, Reply, Request
from bench.decoding import (
    Answer,
    Evidence,
    Job,
    NotFinite,
    bytes_per_token,
    decode_plainly,
    decode_together,
    plain_logits,
    takes_trees,
)
from bench.errors import ModelError, UsageError
from bench.escape import printable
from bench.loading import quiet_libraries
from bench.models import LoadedModel, Tokenizer, bos_token_id

LONGEST_SHARED = 4096
"""Tokens of a prompt; the tree mask of a longer one would take gigabytes, and it is answered without sharing."""

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest accepted difference of the logits to the plain forward pass: root mean square, relative to their standard
deviation. Rounding measures 3e-6 and 0.05 in a model of 30 blocks, a wrong mask or position 0.06 in tiny random models
and 0.3 in that one. A window that is off by a few tokens measures 0.006, which bfloat16 would hide."""

_MARK = "MARK"
_NOT_TAKEN = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class LocalCompleter:
    """A `Completer` on a loaded model.

    An answer does not depend on what else is asked, up to the rounding of batches of another shape: where the two
    best tokens are that close, and more often in bfloat16, the other one may be taken. Drawn tokens come from a
    generator for each prompt, and are as stable (see `bench.drawing`).

    Attributes:
        shares_prefixes: whether answers are decoded together with shared prefixes; checked on answers of every batch
            against the plain forward pass. False: by the model's own `generate`, prompts of one length at a time.
        difference: largest deviation that such a check has found, relative (see `TOLERANCES`).
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        batch_size: int = 64,
        cache_bytes: int = 2 << 30,
        progress: Tell | None = None,
    ) -> None:
        """Look at what the model takes; nothing is generated yet.

        Args:
            batch_size: prompts that are answered together at most, and so lost together when the process is killed.
            cache_bytes: keys and values of a batch at most; one prompt alone may take more.
            progress: told when prefixes cannot be shared.
        """
        self._loaded, self._batch_size, self._cache_bytes = loaded, batch_size, cache_bytes
        self._tell = progress or (lambda line: None)
        self._bos = bos_token_id(loaded.tokenizer)
        self._end_tokens = end_tokens(loaded)
        self._context_length = _context_length(loaded)
        self.shares_prefixes = False
        self.difference = 0.0
        n_bytes = None
        if takes_trees(loaded.model):
            try:
                n_bytes = bytes_per_token(loaded.model)
            except _NOT_TAKEN:
                n_bytes = None  # it does not take this kind of cache
            self.shares_prefixes = n_bytes is not None
        itemsize = next(loaded.model.parameters()).element_size()
        self._bytes_per_token = n_bytes or 2 * loaded.n_blocks * loaded.d_model * itemsize

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Completer.complete`. Equal requests are generated once.

        `n_completion_tokens` counts what was generated, a stop string included, a token that ends the text not.

        Raises:
            UsageError: a request with nothing to go on from, or no token to generate.
            ModelError: chat without a chat template, or logits that are not numbers.
        """
        return self._complete([self._job(request) for request in requests])

    def _complete(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Reply | Failure]]:
        indices: dict[Job, list[int]] = {}
        for index, job in enumerate(jobs):
            if (message := self._too_long(job)) is not None:
                yield index, Failure(kind="bad request", message=message, n_attempts=0)
            else:
                indices.setdefault(job, []).append(index)
        for answers in self._batches(list(indices)):
            for answer in answers:
                reply = Reply(
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    n_prompt_tokens=len(answer.job.tokens),
                    n_completion_tokens=len(answer.tokens),
                    returned_model=self._loaded.entry.name,
                )
                for index in indices[answer.job]:
                    yield index, reply

    def _batches(self, jobs: list[Job]) -> Iterator[list[Answer]]:
        """Every job answered, batch by batch: together while that agrees with the plain forward pass."""
        plain = [job for job in jobs if len(job.tokens) > LONGEST_SHARED or not self.shares_prefixes]
        together = [job for job in jobs if len(job.tokens) <= LONGEST_SHARED and self.shares_prefixes]
        for batch in self._cut(sorted(together, key=lambda job: job.tokens)):  # neighbours share the most
            answers = self._answered_together(batch) if self.shares_prefixes else None
            if answers is None:
                plain += batch
            else:
                yield answers
        plain.sort(key=lambda job: (len(job.tokens), job.max_tokens))
        for _, group in groupby(plain, key=lambda job: len(job.tokens)):
            for batch in self._cut(list(group)):
                answers = self._started(batch)
                try:
                    decode_plainly(self._loaded.model, answers, self._loaded.entry.name)
                except torch.OutOfMemoryError as error:
                    raise self._out_of_memory() from error
                yield answers

    def _answered_together(self, batch: list[Job]) -> list[Answer] | None:
        """None, now and from now on, where that is not what the model itself says."""
        answers = self._started(batch)
        try:
            evidence = decode_together(self._loaded.model, answers)
            difference = max(self._difference(answers[one.answer], one) for one in evidence)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        except _NOT_TAKEN as error:
            self._give_up(type(error).__name__ if not isinstance(error, NotFinite) else "NaN or infinite logits")
            return None
        self.difference = max(self.difference, difference)
        if not difference <= TOLERANCES[self._loaded.dtype]:
            self._give_up(f"logits differ by {difference:.1e}")
            return None
        return answers

    def _give_up(self, reason: str) -> None:
        self.shares_prefixes = False
        self._tell(f"{self._loaded.entry.name}: prefixes cannot be shared ({reason}); answering without")

    def _out_of_memory(self) -> ModelError:
        return ModelError(
            f"the memory of {self._loaded.device} is too small for {self._loaded.entry.name} and a batch of prompts; "
            f"lower batch_size={self._batch_size} or cache_bytes={self._cache_bytes}, or use the cpu"
        )

    def _difference(self, answer: Answer, evidence: Evidence) -> float:
        """Deviation of the logits of a first and a last step from the model's own (see `TOLERANCES`), the larger."""
        prompt = answer.job.tokens
        positions = [len(prompt) - 1 + n for n in evidence.n_generated]
        tokens = [*prompt, *answer.tokens][: positions[-1] + 1]
        expected = plain_logits(self._loaded.model, tokens, positions)  # (n_steps, n_vocabulary)
        deviations = (evidence.logits - expected).square().mean(dim=-1).sqrt()
        return float((deviations / expected.std(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)).max())

    def _cut(self, jobs: list[Job]) -> Iterator[list[Job]]:
        """Batches in the given order, none beyond the limits."""
        batch: list[Job] = []
        longest = room = 0
        for job in jobs:
            longest, room = max(longest, len(job.tokens)), max(room, job.max_tokens)
            n_bytes = (len(batch) + 1) * (longest + room) * self._bytes_per_token
            if batch and (len(batch) == self._batch_size or n_bytes > self._cache_bytes):
                yield batch
                batch, longest, room = [], len(job.tokens), job.max_tokens
            batch.append(job)
        if batch:
            yield batch

    def _started(self, jobs: Sequence[Job]) -> list[Answer]:
        return [Answer(job, self._loaded.tokenizer, self._end_tokens) for job in jobs]

    def _job(self, request: Request) -> Job:
        if request.max_tokens < 1:
            raise UsageError(f"max_tokens={request.max_tokens} leaves nothing to generate; choose at least 1")
        if "" in request.stop:
            raise UsageError("an empty stop string would end every answer at once; leave it out")
        tokens = self._chat_tokens(request.prompt) if request.mode == "chat" else self._tokens(request.prompt)
        if not tokens:
            raise UsageError(
                f"the prompt {request.prompt!r} is no token at all to the tokenizer of {self._loaded.entry.name}, "
                f"which puts none before a text either; a prompt needs at least one"
            )
        return Job(
            tokens=tuple(tokens),
            max_tokens=request.max_tokens,
            stop=tuple(dict.fromkeys(request.stop)),
            sampling=request.sampling,
        )

    def _tokens(self, prompt: str) -> list[int]:
        with quiet_libraries():  # it warns of long texts, which are refused by their length later
            tokens: list[int] = self._loaded.tokenizer(prompt, add_special_tokens=False).input_ids
        return tokens if self._bos is None else [self._bos, *tokens]

    def _chat_tokens(self, prompt: str) -> list[int]:
        tokenizer, name = self._loaded.tokenizer, self._loaded.entry.name
        if not tokenizer.chat_template:
            raise ModelError(
                f"{name} has no chat template, so it cannot be asked as a chat model; use --mode completion"
            )
        message = [{"role": "user", "content": prompt}]
        with quiet_libraries():
            try:
                text: str = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
                tokens: list[int] = tokenizer(text, add_special_tokens=False).input_ids  # the text has its own
            except Exception as error:  # a template is code from anywhere and fails in any way
                raise ModelError(
                    f"the chat template of {name} cannot be used ({type(error).__name__}: "
                    f"{printable(str(error))[:200]}); use --mode completion"
                ) from error
        if prompt.strip() not in text:  # templates may trim it
            raise ModelError(
                f"the chat template of {name} does not show the model the prompt: expected a text with "
                f"{prompt.strip()[:60]!r} in it, got {printable(text[:60])!r}; use --mode completion"
            )
        return tokens

    def _too_long(self, job: Job) -> str | None:
        if self._context_length is None or len(job.tokens) + job.max_tokens <= self._context_length:
            return None
        return (
            f"the prompt has {len(job.tokens)} tokens, which with max_tokens={job.max_tokens} is more than the "
            f"{self._context_length} that {self._loaded.entry.name} can hold"
        )


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end a text or a turn, as the model's settings, the tokenizer and the chat template name them."""
    shipped = getattr(loaded.model.generation_config, "eos_token_id", None)
    ids = {loaded.tokenizer.eos_token_id, *(shipped if isinstance(shipped, list | tuple) else [shipped])}
    return frozenset(int(token) for token in (*ids, _end_of_turn(loaded.tokenizer)) if token is not None)


def _end_of_turn(tokenizer: Tokenizer) -> int | None:
    """The special token that the chat template puts behind what the model says, or None."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _MARK}]
    with quiet_libraries():
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False)
        except Exception:  # a template is code from anywhere; whoever wants to chat is told by `complete`
            return None
    behind = tokenizer(text.rpartition(_MARK)[2].lstrip(), add_special_tokens=False).input_ids
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return behind[0] if behind and behind[0] in special else None


def _context_length(loaded: LoadedModel) -> int | None:
    """Tokens that the model has positions for; None where it has no such limit."""
    length = getattr(loaded.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
