"""Training of one ladder model: a stream of tokens read once, bfloat16 products, float32 weights, resumable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from bench.errors import ModelError
from proxies.ladder.sizes import CONTEXT_LENGTH, N_STEPS, SEQUENCES_PER_STEP, VOCABULARY_SIZE, Size

Tokens = npt.NDArray[np.uint16]

SEQUENCES_AT_ONCE = 2
"""More are slower: the logits of so many fit into the memory that `keep_freed_memory` keeps."""
WARMUP_STEPS = 100
FINAL_SHARE = 0.1
"""Of the peak learning rate at the last step."""

STEPS_PER_POINT = 20
"""The loss curve has a point, their mean, for so many steps."""

STEPS_PER_SAVE = 100


def configuration(size: Size) -> GPT2Config:
    """The architecture, as transformers states it."""
    return GPT2Config(
        vocab_size=VOCABULARY_SIZE,
        n_positions=CONTEXT_LENGTH,
        n_embd=size.n_embd,
        n_layer=size.n_layer,
        n_head=size.n_head,
        activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, in one kernel
        resid_pdrop=0.0,  # every token is seen once: nothing to regularise
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def learning_rate(size: Size, step: int, n_steps: int = N_STEPS) -> float:
    """Linear warm-up, then half a cosine down to `FINAL_SHARE` of the peak."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    decay = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    return size.learning_rate * warmup * (FINAL_SHARE + (1 - FINAL_SHARE) * decay)


class Run:
    """A training run on disk: it begins, goes on after a kill where it last saved, and ends with all its files.

    The folder holds `state.safetensors` (weights, optimizer and curve so far) and, as they come to be,
    `step-N.safetensors`: the weights of a checkpoint, of the finished model at the last step.

    Args:
        size: what to train.
        tokens: the stream to train on, at least `n_steps` batches and one token more.
        folder: of this run alone; created if needed.
        seed: of the first weights.
        n_steps: after how many steps the schedule ends.

    Raises:
        ModelError: there are too few tokens, or the folder holds another run.
    """

    def __init__(self, size: Size, tokens: Tokens, folder: Path, *, seed: int = 0, n_steps: int = N_STEPS) -> None:
        needed = n_steps * SEQUENCES_PER_STEP * CONTEXT_LENGTH + 1
        if len(tokens) < needed:
            raise ModelError(f"the corpus has {len(tokens):,} tokens, {n_steps:,} steps need {needed:,}")
        self.size, self.tokens, self.folder, self.seed, self.n_steps = size, tokens, folder, seed, n_steps
        self.tokens_sha256 = hashlib.sha256(tokens[:needed].tobytes()).hexdigest()
        self.step = 0
        self.curve: list[float] = []
        self._losses: list[float] = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.model = GPT2LMHeadModel(configuration(size))
        self._names = [name for name, _ in self.model.named_parameters()]
        # The optimizer sees float32 weights; the products use a bfloat16 copy of them.
        self.weights = [nn.Parameter(weight.detach().clone()) for weight in self.model.parameters()]
        self.model.to(torch.bfloat16)
        decayed = [weight for weight in self.weights if weight.ndim > 1]
        others = [weight for weight in self.weights if weight.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            betas=(0.9, 0.95),
            fused=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / "state.safetensors"
        if self._state.is_file():
            self._load()

    def checkpoint(self, step: int) -> Path:
        """Where the weights after so many steps are kept, if they are."""
        return self.folder / f"step-{step}.safetensors"

    @property
    def kept_steps(self) -> list[int]:
        """The steps after which the weights are kept; the last ends the run."""
        return self.size.kept_steps(self.n_steps)

    def train(self, until: int | None = None, tell: Callable[[int, float], None] = lambda step, loss: None) -> None:
        """Train up to step `until` (the last one when None), saving on the way.

        Args:
            tell: given the step and the loss (nats per token) at every point of the curve.
        """
        while self.step < (self.n_steps if until is None else until):
            self._losses.append(self._one_step())
            self.step += 1
            if len(self._losses) == STEPS_PER_POINT:
                self.curve.append(sum(self._losses) / len(self._losses))
                self._losses = []
                tell(self.step, self.curve[-1])
            if self.step in self.kept_steps:
                _save(self.named_weights(), self.checkpoint(self.step))
            if self.step % STEPS_PER_SAVE == 0 or self.step == self.n_steps:
                self._save()

    def named_weights(self) -> dict[str, Tensor]:
        """The float32 weights under the names transformers gives them, the tied output layer left out."""
        return {name: weight.detach() for name, weight in zip(self._names, self.weights, strict=True)}

    def _one_step(self) -> float:
        """One update; the loss before it, nats per token."""
        length = SEQUENCES_PER_STEP * CONTEXT_LENGTH
        start = self.step * length
        piece = torch.from_numpy(self.tokens[start : start + length + 1].astype(np.int64))
        inputs = piece[:-1].view(SEQUENCES_PER_STEP, CONTEXT_LENGTH)
        targets = piece[1:].view(SEQUENCES_PER_STEP, CONTEXT_LENGTH)
        total = 0.0
        for first in range(0, SEQUENCES_PER_STEP, SEQUENCES_AT_ONCE):
            rows = slice(first, first + SEQUENCES_AT_ONCE)
            logits = self.model(inputs[rows]).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets[rows].flatten())
            loss = loss * (SEQUENCES_AT_ONCE / SEQUENCES_PER_STEP)
            torch.autograd.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise ModelError(f"the loss of {self.size.name} is {total} at step {self.step}; lower its learning rate")
        for weight, copy in zip(self.weights, self.model.parameters(), strict=True):
            assert copy.grad is not None  # every weight of GPT-2 is used
            weight.grad = copy.grad.float()
            copy.grad = None
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.size, self.step, self.n_steps)
        self.optimizer.step()
        self._copy_weights()
        return total

    def _copy_weights(self) -> None:
        with torch.no_grad():
            for weight, copy in zip(self.weights, self.model.parameters(), strict=True):
                copy.copy_(weight)

    def _identity(self) -> dict[str, Any]:
        """What two runs must share to go on from each other's state."""
        return {
            "size": json.loads(json.dumps(asdict(self.size))),  # as it comes back from the file
            "learning_rate": self.size.learning_rate,
            "batch": [SEQUENCES_PER_STEP, CONTEXT_LENGTH],
            "seed": self.seed,
            "n_steps": self.n_steps,
            "tokens_sha256": self.tokens_sha256,
        }

    def told(self, step: int) -> dict[str, Any]:
        """What is published beside the weights of a step: how they came about, and the loss on the way."""
        return {**self._identity(), "step": step, "steps_per_point": STEPS_PER_POINT, "loss": self._points(step)}

    def _points(self, step: int) -> list[float]:
        return [round(loss, 5) for loss in self.curve[: step // STEPS_PER_POINT]]

    def _save(self) -> None:
        state = self.optimizer.state
        tensors = {f"weight.{name}": weight for name, weight in self.named_weights().items()}
        for name, weight in zip(self._names, self.weights, strict=True):
            tensors[f"mean.{name}"] = state[weight]["exp_avg"]
            tensors[f"square.{name}"] = state[weight]["exp_avg_sq"]
        about = {**self._identity(), "step": self.step, "curve": self.curve, "losses": self._losses}
        _save(tensors, self._state, about)  # one file, so that a kill leaves the state before or the state after

    def _load(self) -> None:
        try:
            with safe_open(self._state, framework="pt") as file:
                about = json.loads(file.metadata()["about"])
        except (SafetensorError, TypeError, KeyError, ValueError) as error:
            raise ModelError(f"{self._state} is damaged ({error}); delete it to train anew") from error
        if {key: about.get(key) for key in self._identity()} != self._identity():
            raise ModelError(
                f"{self.folder} holds the training of another size, seed or corpus than {self.size.name} with seed "
                f"{self.seed} on this one; move it away to train anew"
            )
        tensors = load_file(self._state)
        self.step = about["step"]
        self.curve, self._losses = about["curve"], about["losses"]
        for name, weight in zip(self._names, self.weights, strict=True):
            weight.data.copy_(tensors[f"weight.{name}"])
            self.optimizer.state[weight] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": tensors[f"mean.{name}"],
                "exp_avg_sq": tensors[f"square.{name}"],
            }
        self._copy_weights()


def _save(tensors: dict[str, Tensor], path: Path, about: dict[str, Any] | None = None) -> None:
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"about": json.dumps(about or {})})
    partial.replace(path)
