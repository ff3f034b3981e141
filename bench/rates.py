"""How fast this machine does each part of a measurement: parts of it are done, small, and timed. About two seconds."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.controls import N_SHUFFLED
from bench.errors import ModelError, Refusal
from bench.estimators import Estimator, Pairs, pair_up
from bench.estimators.critics import EVALUATE_EVERY, MIN_INPUTS_PER_FOLD
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import Exact
from bench.estimators.infonce_anchor import InfonceAnchor
from bench.estimators.noisy_channel import COLUMNS, NoisyChannel
from bench.estimators.protocol import label_rows
from bench.model_shape import ModelShape, small_model
from bench.prefix_forest import Integers
from bench.workload import passes_of

LARGEST_BLOCK = 1 << 26
"""Parameters of a block that is still built to be timed: 256 MB, half a second to draw. A larger one is taken to run at
the speed of one matrix product of its width."""

PROBE_FLOPS = 2e10
"""Operations of a part that is timed, at most about: some tenths of a second on one core."""

TRAINING_STEPS = 575
"""Steps after which critics stop, of at most 600, where there is something to learn: seen on natural text in the
smallest ladder model."""

BROKEN_STEPS = 150
"""The same of broken pairs, where there is nothing: seen in every cell there."""

LINEAR = (NoisyChannel, Exact)
"""Estimators whose time is a fixed part and a part for each row."""

TRAINED = (CrossfitNCE, InfonceAnchor)
"""Estimators that train critics: a fixed part and a part for each row, and a part for each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Seconds as a line over rows; `least_rows`: with fewer the estimator refuses at once."""

    fixed_seconds: float
    row_seconds: float
    least_rows: int = 0

    def seconds(self, n_rows: int) -> float:
        """What so many rows take."""
        return self.fixed_seconds + self.row_seconds * n_rows if n_rows >= self.least_rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was timed on this machine for one shape, estimator, dtype and device.

    Attributes:
        flops_per_second: of a forward pass, all that a block does counted to its matrix products.
        step_seconds: of a forward step through one block, however few its tokens.
        shares_prefixes: whether tree attention works for this architecture and dtype.
        is_block_timed: whether one of its blocks was run; else the speed is that of a matrix product.
        gather: rows of a position taken out of the states and looked at.
        label: equal rows found, on one side.
        estimate, repeated, broken: cells by kind, see `bench.workload.Cell`; None: no cost model.
        hash_bytes_per_second: sha256 of weights.
        draw_per_second: parameters of a twin drawn.
        read_per_second: parameters loaded and looked at.
        collect_seconds: a collection of garbage.
        seconds: what the probe itself took.
    """

    flops_per_second: float
    step_seconds: float
    shares_prefixes: bool
    is_block_timed: bool
    gather: Line
    label: Line
    estimate: Line | None
    repeated: Line | None
    broken: Line | None
    hash_bytes_per_second: float
    draw_per_second: float
    read_per_second: float
    collect_seconds: float
    n_threads: int
    device: str
    seconds: float


class Clock:
    """Seconds of work. On one core processor time, which other work does not lengthen; else the time that passes."""

    def __init__(self, device: str) -> None:
        self._is_gpu = torch.device(device).type == "cuda"
        is_alone = torch.device(device).type == "cpu" and torch.get_num_threads() == 1
        self._now = time.process_time if is_alone else time.perf_counter

    def now(self) -> float:
        """A point in time, all work on a GPU done."""
        if self._is_gpu:
            torch.cuda.synchronize()
        return self._now()

    def least(self, call: Callable[[], object], n_times: int = 3) -> float:
        """The shortest of some repetitions after one to warm up; one that takes long is not repeated."""
        found = []
        for _ in range(n_times + 1):
            started = self.now()
            call()
            found.append(self.now() - started)
            if found[-1] > 0.25:
                break
        return max(min(found[1:] or found), 1e-9)


def measure_rates(
    folder: Path,
    shape: ModelShape,
    estimator: Estimator,
    sequences: Integers,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Rates:
    """Time the parts of a measurement.

    Args:
        folder: with the config.json of the model; weights are not looked at.
        sequences: some of what will be measured, shape (n_sequences, n_positions).
    """
    clock = Clock(device)
    started = clock.now()
    rng = np.random.default_rng(0)
    speed = _product_speed(clock, shape, dtype, device)
    step, shares, is_timed = 0.0, shape.takes_positions, False
    if shape.parameters_per_block <= LARGEST_BLOCK:
        try:
            step, speed, shares = _block_speed(clock, folder, shape, sequences, speed, dtype, device)
            is_timed = True
        except ModelError:  # it cannot be cut, or differs: what else a run says of it is said by the run
            pass
    rows = torch.from_numpy(rng.standard_normal((_rows_at_most(shape), shape.d_model), dtype=np.float32))
    estimate, repeated, broken = _estimates(clock, estimator, rows, device, rng)
    content = b"\0" * (1 << 24)
    drawn, generator = torch.empty(1 << 20), torch.Generator().manual_seed(0)
    return Rates(
        flops_per_second=speed,
        step_seconds=step,
        shares_prefixes=shares,
        is_block_timed=is_timed,
        gather=_line(len(rows), lambda n: clock.least(lambda: _gathered(rows, n))),
        label=_line(len(rows), lambda n: clock.least(lambda: label_rows(rows[:n]))),
        estimate=estimate,
        repeated=repeated,
        broken=broken,
        hash_bytes_per_second=len(content) / clock.least(lambda: hashlib.sha256(content).digest(), 1),
        draw_per_second=len(drawn) / clock.least(lambda: drawn.normal_(generator=generator), 1),
        read_per_second=len(drawn) / clock.least(lambda: bool(torch.isfinite(drawn.clone()).all()), 1),
        collect_seconds=clock.least(gc.collect, 1),
        n_threads=torch.get_num_threads(),
        device=device,
        seconds=clock.now() - started,
    )


def _product_speed(clock: Clock, shape: ModelShape, dtype: torch.dtype, device: str) -> float:
    """Operations a second of one matrix product as wide as the model, cut where it is very wide."""
    n_rows, n_inner = 512, shape.d_model
    n_columns = max(16, min(shape.d_intermediate or 4 * n_inner, int(PROBE_FLOPS / 8 / (2 * n_rows * n_inner))))
    left = torch.ones((n_rows, n_inner), dtype=dtype, device=device)
    right = torch.ones((n_inner, n_columns), dtype=dtype, device=device)
    return 2 * n_rows * n_inner * n_columns / clock.least(lambda: left @ right)


def _block_speed(
    clock: Clock,
    folder: Path,
    shape: ModelShape,
    sequences: Integers,
    speed: float,
    dtype: torch.dtype,
    device: str,
) -> tuple[float, float, bool]:
    """Seconds of the shortest step through a block, operations a second of full steps, whether prefixes are shared.

    Some of the sequences go through the first two blocks of the architecture; the second is timed, for what happens
    before the first has nothing to do with it.
    """
    tokens = np.unique(sequences, return_inverse=True)[1].reshape(sequences.shape)
    n_blocks = min(2, shape.n_blocks)
    model = small_model(
        folder, n_blocks=n_blocks, n_vocabulary=max(512, int(tokens.max()) + 1), dtype=dtype, device=device
    )
    extractor = Extractor(model, find_blocks(model), bos=None, sample=tokens[:128])
    n_tokens = int(min(8192, max(256, 0.15 * speed / (2 * shape.parameters_per_block))))
    whole = extractor.plant(tokens)
    some = extractor.plant(tokens[: max(2, len(tokens) * n_tokens // max(1, whole.n_computed))])
    few = extractor.plant(tokens[:1])

    def timed(forest: object) -> float:
        marks = [clock.now()]
        for _ in extractor.stream(forest):  # type: ignore[arg-type]
            marks.append(clock.now())
        return marks[-1] - marks[-2]

    least = min(timed(few) for _ in range(6))
    seconds = min(timed(some) for _ in range(3))
    passes = passes_of(some)
    working = max(seconds - least * passes.n_steps, 0.2 * seconds)
    return least, passes.flops(shape) / working, extractor.shares_prefixes


def _rows_at_most(shape: ModelShape) -> int:
    """So many rows that one cell of the noisy channel with its usual draws takes tenths of a second at most."""
    return int(min(COLUMNS, max(256, PROBE_FLOPS / 4 / (4 * 640 * shape.d_model))))


def _line(n_rows: int, seconds: Callable[[int], float], least: int = 12) -> Line:
    """The line through few rows and many."""
    few, many = seconds(least), seconds(n_rows)
    slope = max(0.0, (many - few) / (n_rows - least))
    return Line(fixed_seconds=max(0.0, few - slope * least), row_seconds=slope)


def _gathered(rows: torch.Tensor, n: int) -> None:
    index = torch.arange(n)
    for _ in range(2):
        assert bool(torch.isfinite(rows.index_select(0, index)).all())


def _pairs(rows: torch.Tensor, n: int, n_equal: int, rng: np.random.Generator) -> Pairs:
    pairs = pair_up(rows[:n], rows[:n].flip(1), input_labels=np.arange(n))
    return pairs if n_equal == 1 else replace(pairs, input_labels=np.arange(n) // min(n_equal, max(1, n // 2)))


def _estimates(
    clock: Clock, estimator: Estimator, rows: torch.Tensor, device: str, rng: np.random.Generator
) -> tuple[Line | None, Line | None, Line | None]:
    """What a cell of each kind takes; None where there is no model of it."""
    try:
        if isinstance(estimator, TRAINED):
            learned, broken = _training(clock, estimator, rows, device, rng)
            return learned, learned, broken
        if isinstance(estimator, LINEAR):
            plain, repeated = (_linear(clock, estimator, rows, device, rng, n) for n in (1, N_SHUFFLED))
            return plain, repeated, plain if estimator.is_sample_based else repeated
    except Refusal:
        pass
    return None, None, None


def _linear(
    clock: Clock, estimator: Estimator, rows: torch.Tensor, device: str, rng: np.random.Generator, n_equal: int
) -> Line:
    def seconds(n: int) -> float:
        pairs = _pairs(rows, n, n_equal, rng).on(device)
        return clock.least(lambda: estimator.estimate(pairs, rng), 2)

    return _line(len(rows), seconds)


def _training(
    clock: Clock, estimator: CrossfitNCE | InfonceAnchor, rows: torch.Tensor, device: str, rng: np.random.Generator
) -> tuple[Line, Line]:
    """A round of steps is timed as the difference of two trainings, and taken as often as training usually lasts."""
    settings, n = asdict(estimator), min(len(rows), 1024)
    pairs = _pairs(rows, n, 1, rng).on(device)

    def seconds(n_steps: int) -> float:
        trained = type(estimator)(**settings | {"n_steps": n_steps})
        return clock.least(lambda: trained.estimate(pairs, rng), 1)

    short, longer = seconds(EVALUATE_EVERY), seconds(2 * EVALUATE_EVERY)
    step = max(0.0, longer - short) / EVALUATE_EVERY
    learned, broken = (
        Line(
            fixed_seconds=step * min(n_steps, estimator.n_steps),
            row_seconds=max(0.0, short - step * EVALUATE_EVERY) / n,
            least_rows=estimator.n_folds * MIN_INPUTS_PER_FOLD,
        )
        for n_steps in (TRAINING_STEPS, BROKEN_STEPS)
    )
    return learned, broken
