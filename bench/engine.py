"""Where units of work run: in this process, or on a cluster (`bench.engine_ray`).

A unit is one measurement: some weights on one population, which is what the store keeps. The caller asks for units and
keeps what comes back, the same way for every engine.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from bench.activations import Extractor
from bench.cache import Tell
from bench.errors import ModelError, UsageError
from bench.estimators import Estimator
from bench.measure import measure
from bench.models import DType, LoadedModel, WeightsIdentity, find_blocks, load, model_info, untrained_twin
from bench.progress import Progress
from bench.records import Measurement, ModelInfo, UnitKey
from bench.sources import ModelEntry
from bench.weights import files_sha256

N_CHECKED = 128
"""Neighbouring sequences on which the block-by-block pass is compared with the model's own, once per condition: they
fill a bin of the forest."""

DeviceMap = Literal["auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What units are measured on, said in so few words that it can be sent anywhere; no tensors.

    Attributes:
        identity: of the trained weights; they are loaded only if they still are these.
        twin_seed: of the untrained twin; None for the trained weights.
        device_map: "auto" spreads the model over the devices that there are, see `bench.placement`.
    """

    entry: ModelEntry
    identity: WeightsIdentity
    twin_seed: int | None
    dtype: DType
    device: str
    device_map: DeviceMap | None = None

    def __str__(self) -> str:
        return self.entry.name if self.twin_seed is None else f"the untrained twin of {self.entry.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What only the loaded weights tell.

    Attributes:
        files_sha256: as in `LoadedModel`; of a twin it is known only once its weights are drawn.
        n_threads: of the process that holds them.
    """

    info: ModelInfo
    files_sha256: str
    n_threads: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """One measurement to be made.

    Attributes:
        names: as in `Measurement`.
        sequences: token ids, shape (n_sequences, n_positions).
        text: what progress is told.
    """

    weights: Weights
    key: UnitKey
    names: tuple[str, ...]
    sequences: npt.NDArray[np.int64]
    estimator: Estimator
    memory_bytes: int
    text: str


UnitsOf = Callable[[Weights, WeightsFacts], Iterable[Unit]]
"""Which units are wanted of weights, once it is known which these are; taken one by one, when they can be measured."""


Measured = Generator[Measurement, None, None]
"""What comes back, while the rest is under way; to be closed by who stops listening."""


class Engine(Protocol):
    """Where units run."""

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        """The measurement of every unit that is wanted of the weights, in the order in which they are done.

        Progress is told of each block of each unit, and of what takes a while.

        Raises:
            BenchError: of loading or measuring, as it was raised; what was handed out before is whole.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What engines other than the local one may be told.

    Attributes:
        ray_address: of a running cluster; None starts Ray on this machine, unless RAY_ADDRESS names a cluster.
        cpus_per_unit: cores, and so threads, of each worker.
        gpus_per_unit: of each worker; None is one if the device is a GPU.
    """

    ray_address: str | None = None
    cpus_per_unit: int | None = None
    gpus_per_unit: float | None = None


class LocalEngine:
    """This process: one model in memory at a time, in the order asked for."""

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        """See `Engine`."""
        for one in weights:
            name, is_twin = one.entry.name, one.twin_seed is not None
            progress.stage(f"{name}: initialising its untrained twin" if is_twin else f"{name}: loading")
            loaded = load_weights(one, progress.stage)
            for unit in units_of(one, facts_of(loaded)):
                yield measure_unit(unit, loaded, lambda text=unit.text: progress.block(text))  # type: ignore[misc]
            del loaded
            gc.collect()


def _local(options: EngineOptions) -> Engine:
    if options != EngineOptions():
        raise UsageError("--ray-address, --cpus-per-unit and --gpus-per-unit are for --engine ray; add it")
    return LocalEngine()


def _ray(options: EngineOptions) -> Engine:
    try:
        from bench.engine_ray import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError(
            "--engine ray needs Ray, which is not installed: pip install ray, here and on every node"
        ) from error
    return RayEngine(options=options)


ENGINES: Mapping[str, Callable[[EngineOptions], Engine]] = {"local": _local, "ray": _ray}


def make_engine(name: str, options: EngineOptions) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: there is none, it is not installed, or the options are not for it.
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}; expected one of {', '.join(ENGINES)}")
    return ENGINES[name](options)


def load_weights(weights: Weights, progress: Tell | None = None) -> LoadedModel:
    """The model that units are measured on.

    Raises:
        ModelError: as of `load` and `untrained_twin`; or the configuration is not that of the trained weights.
    """
    entry, identity = weights.entry, weights.identity
    dtype, device, device_map = weights.dtype, weights.device, weights.device_map
    if weights.twin_seed is None:
        return load(entry, dtype=dtype, device=device, device_map=device_map, progress=progress, expected=identity)
    twin = untrained_twin(
        entry, seed=weights.twin_seed, dtype=dtype, device=device, device_map=device_map, progress=progress
    )
    if files_sha256(twin.configuration_listing, identity.weights_sha256) != identity.files_sha256:
        raise ModelError(
            f"the configuration or the tokenizer of {entry.name} is not the one that was found with its weights; see "
            f"that its files are the same everywhere, leave them alone, and run again"
        )
    return twin


def facts_of(loaded: LoadedModel) -> WeightsFacts:
    """What is told of loaded weights."""
    return WeightsFacts(info=model_info(loaded), files_sha256=loaded.files_sha256, n_threads=torch.get_num_threads())


def measure_unit(unit: Unit, loaded: LoadedModel, on_block: Callable[[], None] = lambda: None) -> Measurement:
    """Make one measurement.

    Raises:
        EstimationError, ModelError: as of `measure`.
    """
    return measure(
        key=unit.key,
        names=unit.names,
        sequences=unit.sequences,
        extractor=Extractor(
            loaded.model, find_blocks(loaded.model), bos=unit.key.bos, sample=unit.sequences[:N_CHECKED]
        ),
        estimator=unit.estimator,
        device=unit.weights.device,
        memory_bytes=unit.memory_bytes,
        on_block=on_block,
    )
