"""Training on disk: what is learned, what a stop or a kill costs, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from bench.errors import ModelError
from proxies.ladder import train
from proxies.ladder.sizes import (
    CONTEXT_LENGTH,
    N_STEPS,
    N_TRAINING_TOKENS,
    SEQUENCES_PER_STEP,
    SIZES,
    Size,
    size_named,
)
from proxies.ladder.train import FINAL_SHARE, WARMUP_STEPS, Run, Tokens, configuration, learning_rate

ROOT = Path(__file__).resolve().parents[3]
TINY = Size("tiny", n_embd=32, n_layer=1, n_head=1, checkpoint_shares=(0.25, 0.5))
N_TINY_STEPS = 60
SMALL = {"VOCABULARY_SIZE": 64, "CONTEXT_LENGTH": 16, "SEQUENCES_PER_STEP": 4, "STEPS_PER_SAVE": 10}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_sizes_are_what_transformers_builds(size: Size) -> None:
    with torch.device("meta"):
        model = GPT2LMHeadModel(configuration(size))
    assert sum(weight.numel() for weight in model.parameters()) == size.n_parameters  # a tied one appears once
    assert size.n_embd % size.n_head == 0


def test_the_sizes_are_a_ladder() -> None:
    ratios = [larger.n_parameters / smaller.n_parameters for smaller, larger in zip(SIZES, SIZES[1:], strict=False)]
    assert all(1.5 < ratio < 2.1 for ratio in ratios)
    assert 0 <= N_TRAINING_TOKENS - N_STEPS * SEQUENCES_PER_STEP * CONTEXT_LENGTH < SEQUENCES_PER_STEP * CONTEXT_LENGTH


def test_sizes_have_short_names() -> None:
    assert size_named("xs") is size_named("gpt2-ladder-xs") is SIZES[0]
    with pytest.raises(ValueError, match="no ladder model is called 'xxl'; there are gpt2-ladder-xs, .*gpt2-ladder-xl"):
        size_named("xxl")


def test_the_learning_rate_warms_up_and_falls_to_its_share() -> None:
    for size in SIZES:
        peak = size.learning_rate
        assert learning_rate(size, 0) == pytest.approx(peak / WARMUP_STEPS)
        assert learning_rate(size, WARMUP_STEPS - 1) == pytest.approx(peak, rel=2e-3)  # the cosine has hardly begun
        assert learning_rate(size, N_STEPS // 2) == pytest.approx(peak * (1 + FINAL_SHARE) / 2)
        assert learning_rate(size, N_STEPS - 1) == pytest.approx(peak * FINAL_SHARE, rel=1e-5)
        assert learning_rate(size, N_STEPS) == pytest.approx(peak * FINAL_SHARE)
        rates = [learning_rate(size, step) for step in range(N_STEPS)]
        top = rates.index(max(rates))
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
    assert SIZES[0].learning_rate == pytest.approx(3e-3)
    assert SIZES[-1].learning_rate == pytest.approx(1.5e-3)  # four times as wide


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a few milliseconds."""
    for name, value in SMALL.items():
        monkeypatch.setattr(train, name, value)


def stream(n_tokens: int = N_TINY_STEPS * 64 + 1) -> Tokens:
    """Tokens of which each tells the next: twice as much and one, modulo 61; now and then it starts anywhere."""
    rng = np.random.default_rng(0)
    tokens = [1]
    while len(tokens) < n_tokens:
        tokens.append(int(rng.integers(61)) if rng.random() < 0.05 else (2 * tokens[-1] + 1) % 61)
    return np.array(tokens, np.uint16)


def tiny_run(folder: Path, *, size: Size = TINY, seed: int = 0, n_steps: int = N_TINY_STEPS) -> Run:
    return Run(size, stream(), folder, seed=seed, n_steps=n_steps)


def results(folder: Path) -> dict[str, tuple[str, dict[str, bytes]]]:
    """What the files of a run say, by name: what is noted in each, and the bytes of its tensors.

    The bytes of the files themselves differ: safetensors writes the notes in any order.
    """
    return {path.name: contents(path) for path in folder.iterdir()}


def contents(path: Path) -> tuple[str, dict[str, bytes]]:
    with safe_open(path, framework="pt") as file:
        noted = json.dumps(file.metadata(), sort_keys=True)
        return noted, {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}


@pytest.fixture
def uninterrupted(small: None, tmp_path: Path) -> Run:
    run = tiny_run(tmp_path / "uninterrupted")
    run.train()
    return run


@pytest.mark.usefixtures("small")
def test_the_loss_falls_from_that_of_chance(tmp_path: Path) -> None:
    n_steps = 400
    told: list[tuple[int, float]] = []
    run = Run(TINY, stream(n_steps * 64 + 1), tmp_path, n_steps=n_steps)
    run.train(tell=lambda step, loss: told.append((step, loss)))
    assert len(run.curve) == n_steps / train.STEPS_PER_POINT
    assert run.curve[0] == pytest.approx(math.log(64), abs=0.2)  # small weights make every token alike
    # The least possible is the entropy of the source: 5 % of the time any of 61 tokens.
    least = -(0.95 + 0.05 / 61) * math.log(0.95 + 0.05 / 61) - 60 * 0.05 / 61 * math.log(0.05 / 61)
    assert least - 0.1 < run.curve[-1] < run.curve[0] / 2
    assert told == list(zip(range(20, n_steps + 1, 20), run.curve, strict=True))


def test_a_finished_run_has_all_its_files(uninterrupted: Run) -> None:
    assert set(results(uninterrupted.folder)) == {"state.safetensors"} | {
        f"step-{step}.safetensors" for step in (15, 30, 60)
    }
    assert uninterrupted.kept_steps == [15, 30, 60]
    kept = load_file(uninterrupted.checkpoint(60))
    assert kept.keys() == uninterrupted.named_weights().keys()
    assert all(torch.equal(kept[name], weight) for name, weight in uninterrupted.named_weights().items())
    assert all(weight.dtype == torch.float32 for weight in kept.values())
    early = load_file(uninterrupted.checkpoint(15))
    assert not torch.equal(early["transformer.wte.weight"], kept["transformer.wte.weight"])


def test_kept_weights_are_those_of_a_model_of_transformers(uninterrupted: Run) -> None:
    model = GPT2LMHeadModel(configuration(TINY))
    missing, unexpected = model.load_state_dict(load_file(uninterrupted.checkpoint(60)), strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied


@pytest.mark.parametrize("stops", [(1,), (10,), (15,), (19, 20), (37,), (59,), (5, 25, 45), (60,)])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    uninterrupted: Run, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        tiny_run(tmp_path / "stopped").train(until=stop)
    run = tiny_run(tmp_path / "stopped")
    assert run.step == stops[-1] // SMALL["STEPS_PER_SAVE"] * SMALL["STEPS_PER_SAVE"]  # where it last saved
    run.train()
    assert run.step == N_TINY_STEPS
    assert run.curve == uninterrupted.curve
    assert results(run.folder) == results(uninterrupted.folder)  # to the bit


def test_a_stop_within_one_object_changes_nothing(uninterrupted: Run, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "stopped")
    for stop in (7, 7, 23, None):
        run.train(until=stop)
    assert results(run.folder) == results(uninterrupted.folder)


def test_a_finished_run_is_not_trained_again(uninterrupted: Run) -> None:
    before = results(uninterrupted.folder)
    again = tiny_run(uninterrupted.folder)
    assert (again.step, again.curve) == (N_TINY_STEPS, uninterrupted.curve)
    again.train()
    assert results(uninterrupted.folder) == before


def test_the_seed_is_all_that_differs_between_runs(uninterrupted: Run, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # what else happens in the process does not matter
    same, other = tiny_run(tmp_path / "same"), tiny_run(tmp_path / "other", seed=1)
    for run in (same, other):
        torch.rand(3)
        run.train(until=15)
    assert contents(same.checkpoint(15)) == contents(uninterrupted.checkpoint(15))
    assert contents(other.checkpoint(15)) != contents(uninterrupted.checkpoint(15))


KILLED = """
import os, signal, sys
from pathlib import Path
from proxies.ladder import train
from tests.proxies.ladder.test_train import SMALL, tiny_run

for name, value in SMALL.items():
    setattr(train, name, value)
save_file, n_saved = train.save_file, 0

def dying(tensors, path, metadata):
    global n_saved
    n_saved += 1
    save_file(tensors, path, metadata=metadata)
    if n_saved == int(sys.argv[2]):
        if sys.argv[3] == "half":
            os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

train.save_file = dying
tiny_run(Path(sys.argv[1])).train()
"""


# Files are written in this order: the state of 10, step 15, the state of 20, step 30, the state of 30 ...
@pytest.mark.parametrize(("n_th", "how", "expected"), [(1, "half", 0), (3, "half", 10), (4, "whole", 20)])
def test_a_kill_while_saving_costs_only_the_steps_since_the_last_save(
    uninterrupted: Run, tmp_path: Path, n_th: int, how: str, expected: int
) -> None:
    folder = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(n_th), how], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (-9, b"")
    assert list(folder.glob("*.partial"))
    run = tiny_run(folder)
    assert run.step == expected
    run.train()
    assert results(folder) == results(uninterrupted.folder)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"size": Size("other", n_embd=32, n_layer=1, n_head=1)}, {"n_steps": 50}],
    ids=["seed", "size", "steps"],
)
def test_the_folder_of_another_run_is_refused(tmp_path: Path, other: dict[str, int]) -> None:
    tiny_run(tmp_path).train(until=10)
    before = results(tmp_path)
    with pytest.raises(ModelError) as caught:
        tiny_run(tmp_path, **other)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{tmp_path} holds the training of another size, seed or corpus than ")
    assert message.endswith("; move it away to train anew")
    assert results(tmp_path) == before


@pytest.mark.usefixtures("small")
def test_the_run_of_another_corpus_is_refused(tmp_path: Path) -> None:
    tiny_run(tmp_path).train(until=10)
    tokens = stream()
    tokens[-2] += 1
    with pytest.raises(ModelError, match="another size, seed or corpus than tiny with seed 0"):
        Run(TINY, tokens, tmp_path, n_steps=N_TINY_STEPS)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("content", [b"", b"half a file", b"\xff" * 100])
def test_a_damaged_state_is_refused_with_what_to_delete(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"state\.safetensors is damaged .*; delete it to train anew"):
        tiny_run(tmp_path)


def test_what_is_told_of_a_run(uninterrupted: Run) -> None:
    told = json.loads(json.dumps(uninterrupted.told(40)))
    assert (told["seed"], told["step"], told["n_steps"], told["size"]["name"]) == (0, 40, N_TINY_STEPS, "tiny")
    assert told["loss"] == [round(loss, 5) for loss in uninterrupted.curve[:2]]
    assert len(told["tokens_sha256"]) == 64


@pytest.mark.usefixtures("small")
def test_too_few_tokens_are_refused(tmp_path: Path) -> None:
    Run(TINY, stream(641), tmp_path / "enough", n_steps=10).train()
    with pytest.raises(ModelError) as caught:
        Run(TINY, stream(640), tmp_path / "short", n_steps=10)
    assert str(caught.value) == "the corpus has 640 tokens, 10 steps need 641"
    assert not (tmp_path / "short").exists()


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_no_number_is_refused_with_its_step(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    run.train(until=12)
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)  # as a step too large would leave it
    with pytest.raises(ModelError, match=r"^the loss of tiny is nan at step 12; lower its learning rate$"):
        run.train()
    again = tiny_run(tmp_path)  # what was saved is sound
    assert again.step == 10
    assert all(bool(torch.isfinite(weight).all()) for weight in again.named_weights().values())
