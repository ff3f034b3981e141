"""Units of work on a Ray cluster, each in a worker process (a Ray actor) with cores and GPUs of its own.

The process that runs `bench run` looks records up, hands units out and keeps what comes back: workers need no results
folder. A worker loads weights from the cache of its node with the usual loader and keeps the last ones; no task holds
a tensor. What a lost worker had in hand is handed out again.

The only module that imports Ray, which is an optional extra.
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError

from bench.cache import CHOOSE_CACHE, cache_folder
from bench.catalog import CATALOG
from bench.engine import (
    EngineOptions,
    Measured,
    Unit,
    UnitsOf,
    Weights,
    WeightsFacts,
    facts_of,
    load_weights,
    measure_unit,
)
from bench.errors import BenchError, EngineError, ModelError, UsageError
from bench.fetch import fetch
from bench.interruption import tidying_takes
from bench.locks import exclusive
from bench.models import LoadedModel
from bench.progress import Progress
from bench.provenance import library_versions
from bench.records import METHOD_VERSION, Measurement
from bench.sources import FolderSource, GgufSource, ModelEntry

MAX_LOST = 3
"""So often a unit may lose its worker and be handed out again; then it is taken for the cause. Ray's own default."""

PATIENCE_SECONDS = 600.0
"""So long there may be no worker at all: nodes start slowly, and other jobs end."""

POLL_SECONDS = 2.0
"""So often it is looked whether the cluster has grown or shrunk."""

CONNECT_SECONDS = 5.0

SHUTDOWN_SECONDS = 30.0
"""What the end of a cluster that was started here takes at most."""

_NO_NUMBERS = ("openai", "httpx2")  # libraries that measuring does not use


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """A Ray cluster: the one at an address, the one that RAY_ADDRESS names, or one on this machine for the time."""

    options: EngineOptions

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        """See `Engine`.

        Raises:
            UsageError: there is no such cluster, or no node of it has what a worker is to have.
            EngineError: a unit keeps losing its workers, or for long there are none.
        """
        if not weights:
            return
        needs = _needs(self.options, weights[0].device)
        with _connected(self.options.ray_address, progress):
            crew = _Crew(needs=needs, progress=progress)
            try:
                yield from crew.measured([_Job(weights=one, unit=None) for one in weights], units_of)
            except SystemError as error:  # what Ray's compiled code may make of an exception of a signal handler
                if error.__cause__ is None:
                    raise
                raise error.__cause__ from None
            finally:
                crew.dismiss()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What each worker has for itself."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}" + (f" and {self.gpus:g} GPUs" if self.gpus else "")

    def places(self) -> int:
        """Workers that fit on the nodes that are alive, whatever else runs there."""
        n_places = 0
        for node in ray.nodes():
            if node["Alive"]:
                resources = node["Resources"]
                fits = [resources.get("CPU", 0) / self.cpus]
                fits += [resources.get("GPU", 0) / self.gpus] if self.gpus else []
                n_places += int(min(fits) + 1e-6)  # ten tenths of a GPU are one
        return n_places


def _needs(options: EngineOptions, device: str) -> _Needs:
    is_gpu = device.startswith("cuda")
    if is_gpu and device != "cuda":
        raise UsageError(f"Ray gives each worker a GPU of its own: expected --device cuda, got {device[:80]!r}")
    needs = _Needs(
        cpus=1 if options.cpus_per_unit is None else options.cpus_per_unit,
        gpus=float(is_gpu) if options.gpus_per_unit is None else options.gpus_per_unit,
    )
    if needs.cpus < 1 or needs.gpus < 0 or (needs.gpus > 1 and needs.gpus % 1):
        raise UsageError(
            f"a worker needs a whole number of CPUs, and a whole number of GPUs or a share of one; got {needs}"
        )
    if bool(needs.gpus) != is_gpu:
        raise UsageError(f"--gpus-per-unit {needs.gpus:g} and --device {device[:80]} do not fit; GPUs are for cuda")
    return needs


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """What a worker is given: a unit, or weights of which nobody knows yet what they are."""

    weights: Weights
    unit: Unit | None
    n_lost: int = 0

    def __str__(self) -> str:
        return self.unit.text if self.unit else f"loading {self.weights}"


@dataclass(slots=True, kw_only=True, eq=False)
class _Member:
    """A worker: its handle, and the weights that it holds as far as is known."""

    actor: Any
    node: str = "a node"
    holds: Weights | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Crew:
    """The workers: those that start, those that are idle, and those that have a job in hand."""

    needs: _Needs
    progress: Progress
    starting: dict[Any, _Member] = field(default_factory=dict)
    idle: list[_Member] = field(default_factory=list)
    busy: dict[Any, tuple[_Member, _Job]] = field(default_factory=dict)
    n_failed_starts: int = 0
    last_seen: float = field(default_factory=time.monotonic)

    def measured(self, queue: list[_Job], units_of: UnitsOf) -> Measured:
        """Hand out jobs, and what they lead to, until all are done."""
        if not self.needs.places():
            raise UsageError(
                f"no node of the Ray cluster has {self.needs} for a worker; it has {_shown(ray.cluster_resources())}"
            )
        while queue or self.busy:
            self._hire(len(queue))
            while queue and self.idle:
                self._give(queue)
            for reference in self._wait():
                if reference in self.starting:
                    self._arrive(reference)
                    continue
                member, job = self.busy.pop(reference)
                try:
                    result = ray.get(reference)
                except RayTaskError as error:
                    _raise(error)
                except RayError as error:
                    self._lost(member, job, error)
                    queue.insert(0, job)
                    continue
                self.idle.append(member)
                if isinstance(result, Measurement):
                    for _ in result.macro_ceiling_bits:
                        self.progress.block(str(job))
                    yield result
                else:
                    facts: WeightsFacts = result
                    queue += [_Job(weights=job.weights, unit=unit) for unit in units_of(job.weights, facts)]

    def dismiss(self) -> None:
        """End all workers."""
        for member in (*self.starting.values(), *self.idle, *(member for member, _ in self.busy.values())):
            _end(member)

    def _hire(self, n_queued: int) -> None:
        """Start workers while there are jobs and places for them: also where one was lost, and on nodes that joined."""
        n_places = self.needs.places()
        while (
            len(self.starting) + len(self.idle) < n_queued
            and len(self.starting) + len(self.idle) + len(self.busy) < n_places
        ):
            self.progress.stage(f"starting workers with {self.needs} each")
            actor = (
                ray.remote(_Worker)
                .options(num_cpus=self.needs.cpus, num_gpus=self.needs.gpus, scheduling_strategy="SPREAD")
                .remote(self.needs.cpus)
            )
            self.starting[actor.arrive.remote(METHOD_VERSION, _versions())] = _Member(actor=actor)
        if self.idle or self.busy:
            self.last_seen = time.monotonic()
        elif time.monotonic() - self.last_seen > PATIENCE_SECONDS:
            raise EngineError(
                f"for {PATIENCE_SECONDS:.0f} s the Ray cluster had no worker with {self.needs} to give; it has "
                f"{_shown(ray.available_resources())} free. Run the same command again when it has more"
            )

    def _give(self, queue: list[_Job]) -> None:
        """Give a job to an idle worker: one on the weights that it holds, else on such that no other holds."""
        member = self.idle.pop()
        held = {other.holds for other in (*self.idle, *(busy for busy, _ in self.busy.values()))}
        job = next_job(queue, member.holds, held)
        queue.remove(job)
        member.holds = job.weights
        call = member.actor.look if job.unit is None else member.actor.measure
        self.busy[call.remote(job.unit or job.weights)] = (member, job)

    def _wait(self) -> Sequence[Any]:
        references = [*self.starting, *self.busy]
        if not references:
            time.sleep(POLL_SECONDS)
            return ()
        ready: list[Any] = ray.wait(references, num_returns=1, timeout=POLL_SECONDS, fetch_local=False)[0]
        return ready

    def _arrive(self, reference: Any) -> None:
        member = self.starting.pop(reference)
        try:
            member.node = ray.get(reference)
        except RayTaskError as error:
            _raise(error)
        except RayError as error:
            if isinstance(error, RayActorError) and error.actor_init_failed:
                last = [line for line in str(error).splitlines() if line.strip()][-1:]
                raise EngineError(
                    f"a worker cannot start ({''.join(last)[:300]}); install emergence-bench on every node, as here"
                ) from error
            self.n_failed_starts += 1
            if self.n_failed_starts > MAX_LOST * max(1, self.needs.places()):
                raise EngineError(
                    f"{self.n_failed_starts} workers in a row died as they started ({_line(error)}); see Ray's logs"
                ) from error
            return
        self.n_failed_starts = 0
        self.progress.stage(f"a worker on {member.node} is ready")
        self.idle.append(member)

    def _lost(self, member: _Member, job: _Job, error: RayError) -> None:
        """Count a lost worker against its job, which is to be handed out again.

        Its node may be lost too, and with it others that are idle: they would be lost one by one with this job in hand.

        Raises:
            EngineError: it has lost too many.
        """
        for gone in (member, *(other for other in self.idle if other.node == member.node)):
            _end(gone)
        self.idle = [other for other in self.idle if other.node != member.node]
        job.n_lost += 1
        if job.n_lost > MAX_LOST:
            raise EngineError(
                f"{job}: lost {job.n_lost} workers one after the other, the last on {member.node} ({_line(error)}); "
                f"out of memory, perhaps: lower --memory-gb, or raise --cpus-per-unit so that fewer run on a node"
            ) from error
        self.progress.stage(f"{job}: its worker on {member.node} is lost; it runs again")


def next_job(queue: Sequence[_Job], holds: Weights | None, held: set[Weights | None]) -> _Job:
    """What a worker that `holds` weights does next, so that weights are loaded seldom: the first that fits.

    On its own weights; on such that no other worker has `held`; on any.
    """
    own = (job for job in queue if job.weights == holds)
    new = (job for job in queue if job.weights not in held)
    return next(own, None) or next(new, None) or queue[0]


class _Worker:
    """What runs on a node, in a process of its own; an actor."""

    def __init__(self, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._held: tuple[Weights, LoadedModel] | None = None

    def arrive(self, method_version: int, versions: dict[str, str]) -> str:
        """The name of the node, if what is installed there gives the numbers that are asked for.

        Raises:
            UsageError: it does not, and what the records say of it would be wrong.
        """
        theirs = {"method": str(METHOD_VERSION), **_versions()}
        ours = {"method": str(method_version), **versions}
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if differing:
            told = ", ".join(
                f"{name} {theirs.get(name, 'none')} instead of {ours.get(name, 'none')}" for name in differing
            )
            raise UsageError(f"the node {_node()} has {told}; install the same versions on every node")
        return _node()

    def look(self, weights: Weights) -> WeightsFacts:
        """Load weights and say which they are."""
        return facts_of(self._loaded(weights))

    def measure(self, unit: Unit) -> Measurement:
        """Make one measurement; Ray shares arrays read-only, so this works on a copy."""
        return measure_unit(replace(unit, sequences=np.array(unit.sequences)), self._loaded(unit.weights))

    def _loaded(self, weights: Weights) -> LoadedModel:
        """The model, loaded unless it is the last one that was asked for; never two in memory."""
        if self._held is not None and self._held[0] == weights:
            return self._held[1]
        self._held = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            loaded = load_weights(replace(weights, entry=_here(weights.entry)))
        except BenchError as error:
            raise type(error)(f"on the node {_node()}: {error}") from error
        self._held = (weights, loaded)
        return loaded


def _here(entry: ModelEntry) -> ModelEntry:
    """A model as this node has it, fetched by one worker of the node while the others wait.

    Raises:
        ModelError: it is a folder or file that this node does not have.
    """
    original = entry.original or entry
    source = original.source
    if isinstance(source, FolderSource) and original.name in CATALOG:
        own = CATALOG[original.name].source  # it comes with the package, which may be installed elsewhere here
        return replace(entry, source=own, original=entry.original and replace(entry.original, source=own))
    if isinstance(source, FolderSource | GgufSource) and not source.path.exists():
        raise ModelError(
            f"{source.path} is not there; a model that is given as a folder or file must have the same path on every "
            f"node: put it on a file system that they share, or copy it to each"
        )
    if not isinstance(source, FolderSource):
        digest = hashlib.sha256(repr(source).encode()).hexdigest()[:16]
        with exclusive(cache_folder() / f".fetching-{digest}", seconds=math.inf, remedy=CHOOSE_CACHE):
            fetch(entry)
    return entry


def _versions() -> dict[str, str]:
    """What the numbers depend on; not whether torch is built for GPUs (2.13.0+cpu): that may differ between nodes."""
    return {name: version.partition("+")[0] for name, version in library_versions().items() if name not in _NO_NUMBERS}


def _node() -> str:
    return f"{socket.gethostname()} ({ray.get_runtime_context().get_node_id()[:8]})"


def _end(member: _Member) -> None:
    with suppress(RayError, ValueError):  # it is gone already
        ray.kill(member.actor)


def _raise(error: RayTaskError) -> NoReturn:
    """An error of ours as it was raised in the worker, which is the cause; any other with Ray's account of it."""
    if isinstance(error.cause, BenchError):
        raise error.cause from error
    raise error


def _line(error: RayError) -> str:
    """What Ray says, in one line."""
    return " ".join(str(error).split())[:200]


def _shown(resources: dict[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


@contextmanager
def _connected(address: str | None, progress: Progress) -> Iterator[None]:
    """A connection to a cluster, ended when the block ends; one that this process has already is used and stays.

    Raises:
        UsageError: there is no such cluster.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    progress.stage(f"connecting to the Ray cluster at {address}" if address else "starting Ray on this machine")
    _check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        with _own_signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        line = " ".join(str(error).split())[:300]
        raise UsageError(
            f"Ray cannot be used ({line}); start it here as a node of the cluster, with the same versions of Python "
            f"and Ray: ray start --address=HOST:6379"
        ) from error
    with tidying_takes(SHUTDOWN_SECONDS):
        try:
            with redirect_stdout(sys.stderr):  # where Ray tells of lost workers; stdout is for data
                yield
        finally:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts handlers of its own in the place of those that there are; undone when the block ends.

    Its handler of SIGTERM exits with a status that means nothing here, so the signal is raised once more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    is_terminated = False
    try:
        yield
    except SystemExit as error:
        is_terminated = error.code == signal.SIGTERM
        if not is_terminated:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if is_terminated:
        signal.raise_signal(signal.SIGTERM)


def _check_address(address: str | None) -> None:
    """See that someone answers, for Ray itself tries for minutes."""
    if address is None or address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise UsageError(f"--ray-address expects HOST:PORT, such as head-node:6379, or auto; got {address[:80]!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address[:80]} ({error}); start one with ray start --head"
        ) from error
