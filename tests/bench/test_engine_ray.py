"""Real Ray clusters of two nodes on this machine: the records of one process, whatever happens to workers and nodes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bench.catalog import CATALOG, resolve
from bench.engine import Engine, EngineOptions, Measured, UnitsOf, Weights, make_engine
from bench.errors import EngineError, EstimationError, ModelError, UsageError
from bench.estimators import ESTIMATORS, MutualInformation, Pairs
from bench.models import WeightsIdentity
from bench.progress import Progress
from bench.records import Measurement
from bench.request import RunRequest
from bench.run import RunOutcome, run
from bench.sources import ModelEntry
from bench.task_names import find_tasks
from tests.bench.test_run import Told, numbers
from tests.bench.tiny_models import save_list_model, write_tiny_gguf

ROOT = Path(__file__).parent.parent.parent

REASON = "Ray is not installed: `make ray-test` installs it and runs these tests"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@dataclass
class Nodes:
    """A cluster of a head and one more node, one core each, with a cache that is not the driver's."""

    cluster: Any
    second: Any
    cache: Path

    def engine(self, **options: Any) -> Engine:
        return make_engine("ray", EngineOptions(ray_address=self.cluster.address, **options))

    def workers(self, doing: str = "") -> list[int]:
        """Process ids of our workers on both nodes, or of those that are busy with one of their methods."""
        title = b"ray::_Worker" + (b"." + doing.encode() if doing else b"")
        raylets = {
            info.process.pid
            for node in (self.cluster.head_node, self.second)
            for info in node.all_processes.get("raylet", [])
        }
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets and (folder / "cmdline").read_bytes().startswith(title):
                    found.append(int(folder.name))
            except OSError:  # it has ended
                continue
        return found


def start(folder: Path) -> Nodes:
    pytest.importorskip("ray", reason=REASON)
    from ray.cluster_utils import Cluster

    def node() -> dict[str, Any]:
        environment = {"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(folder / "cache-of-nodes"), "OMP_NUM_THREADS": "1"}
        return {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False, "env_vars": environment}

    cluster = Cluster(initialize_head=True, head_node_args=node())
    return Nodes(cluster=cluster, second=cluster.add_node(**node()), cache=folder / "cache-of-nodes")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = start(tmp_path_factory.mktemp("cluster"))
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as a worker has: another number may round differently."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    architectures = ("gpt2", "llama")
    return tuple(str(save_list_model(folder / one, one, seed=seed)) for seed, one in enumerate(architectures))


def request(models: Sequence[str], out: Path, *tasks: str, **changes: Any) -> RunRequest:
    fields: dict[str, Any] = {"n_names": 6, "n_shots": 3} | changes
    return RunRequest(models=tuple(models), tasks=find_tasks(tasks or ("country", "animal")), out=out, **fields)


def all_numbers(outcomes: Sequence[RunOutcome]) -> list[dict[str, Any]]:
    return [numbers(outcome.record) for outcome in outcomes]


class Then(Told):
    """Progress that does something once, after so many units; a unit of a model with two blocks is told in two."""

    def __init__(self, action: Callable[[], object], *, after_blocks: int) -> None:
        super().__init__()
        self._action, self._after = action, after_blocks

    def block(self, text: str) -> None:
        super().block(text)
        if len(self.blocks) == self._after:
            self._action()


@dataclass
class Counting:
    """An engine that counts what another one measures."""

    inner: Engine
    texts: list[str] = field(default_factory=list)

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        for measurement in self.inner.measured(weights, units_of, progress):
            self.texts.append(measurement.key.digest())
            yield measurement


def test_two_nodes_give_the_records_of_one_process(
    nodes: Nodes, models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random models, a ladder model with real weights, and one derived from it: equal in every number and key."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    names = (*models, "gpt2-ladder-xs", "gpt2-ladder-xs@int4")
    expected = run(request(names, tmp_path / "single"), Told())
    told, engine = Told(), Counting(nodes.engine())
    outcomes = run(request(names, tmp_path / "ray"), told, engine)
    assert all_numbers(outcomes) == all_numbers(expected)
    assert [one.path.relative_to(tmp_path / "ray") for one in outcomes] == [
        one.path.relative_to(tmp_path / "single") for one in expected
    ]
    for one, other in zip(outcomes, expected, strict=True):
        ours, theirs = (outcome.record.provenance.model_dump(exclude={"date", "seconds"}) for outcome in (one, other))
        assert ours == theirs
    names_of = [{path.name for path in (tmp_path / one / ".units").iterdir()} for one in ("single", "ray")]
    assert names_of[0] == names_of[1] and len(names_of[0]) == len(engine.texts) == len(set(engine.texts))
    assert len(told.blocks) == told.planned
    ready = {text.split("(")[1].split(")")[0] for text in told.stages if text.endswith("is ready")}
    assert len(ready) == 2, "both nodes had a worker"
    deadline = time.monotonic() + 30
    while nodes.workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert nodes.workers() == []


def test_workers_fetch_once_into_the_cache_of_their_node(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GGUF file is converted by the process that asks, and once more on the nodes, whose cache is another."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    write_tiny_gguf(tmp_path / "tiny.gguf")
    text = tmp_path / "prose.txt"
    text.write_text(".\n\n".join(f"{number} in the end {number * 7}" for number in range(80)), encoding="utf-8")
    asked = RunRequest(
        models=(str(tmp_path / "tiny.gguf"),),
        tasks=find_tasks([], texts=[str(text)]),
        out=tmp_path / "single",
        n_names=60,
        n_shots=2,
        settings=(("n_steps", "20"), ("n_folds", "2")),
    )
    expected = run(asked, Told())
    assert not nodes.cache.exists()
    outcomes = run(replace(asked, out=tmp_path / "ray"), Told(), nodes.engine())
    assert all_numbers(outcomes) == all_numbers(expected)
    assert len(list(nodes.cache.rglob("model.safetensors"))) == 1


def test_two_workers_of_a_node_do_not_fetch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason=REASON)
    import bench.engine_ray

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    fetching: list[str] = []
    at_once: list[int] = []

    def slow_fetch(entry: ModelEntry) -> None:
        fetching.append(entry.name)
        time.sleep(0.2)
        at_once.append(len(fetching))
        fetching.pop()

    monkeypatch.setattr(bench.engine_ray, "fetch", slow_fetch)
    entry = resolve("smollm2-135m-instruct")
    threads = [threading.Thread(target=bench.engine_ray._here, args=(entry,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1, 1, 1]


def test_a_killed_worker_costs_one_repetition(
    nodes: Nodes, models: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL while it measures; its unit runs again, and the records are those of a quiet run."""
    asked = {"n_names": 8, "n_shots": 4}
    expected = run(request(models, tmp_path / "single", **asked), Told())
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            for pid in nodes.workers("measure")[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.005)

    killer = threading.Thread(target=kill, daemon=True)
    told = Told()
    killer.start()
    engine = Counting(nodes.engine())
    outcomes = run(request(models, tmp_path / "ray", **asked), told, engine)
    assert "(raylet)" not in capsys.readouterr().out  # Ray tells of the loss too, but not where data goes
    assert len(killed) == 1
    assert sum("is lost; it runs again" in text for text in told.stages) == 1
    assert all_numbers(outcomes) == all_numbers(expected)
    assert len(engine.texts) == len(set(engine.texts))


def test_a_lost_node_costs_what_its_worker_had_in_hand(models: tuple[str, ...], tmp_path: Path) -> None:
    """The second node goes away in the middle; the first one does the rest."""
    asked = {"n_names": 8, "n_shots": 4}
    expected = run(request(models, tmp_path / "single", **asked), Told())
    nodes = start(tmp_path)
    try:
        told = Then(lambda: nodes.cluster.remove_node(nodes.second, allow_graceful=False), after_blocks=2)
        engine = Counting(nodes.engine())
        outcomes = run(request(models, tmp_path / "ray", **asked), told, engine)
        n_ready = sum(text.endswith("is ready") for text in told.stages)
        n_lost = sum("is lost; it runs again" in text for text in told.stages)
        print(f"\nready {n_ready}, lost {n_lost}")
        assert n_lost <= 2 and (n_ready < 2 or n_lost >= 1)
        assert all_numbers(outcomes) == all_numbers(expected)
        assert len(engine.texts) == len(set(engine.texts))
    finally:
        nodes.cluster.shutdown()


def test_an_interrupted_run_goes_on_and_repeats_nothing(nodes: Nodes, models: tuple[str, ...], tmp_path: Path) -> None:
    class Stopped(BaseException):
        pass

    def stop() -> None:
        raise Stopped

    first = Counting(nodes.engine())
    with pytest.raises(Stopped):
        run(request(models, tmp_path), Then(stop, after_blocks=7), first)  # while the fourth unit is handed out
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / ".units").glob("*.json")}
    assert len(kept) == len(first.texts) == 3
    second = Counting(nodes.engine())
    outcomes = run(request(models, tmp_path), Told(), second)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not set(first.texts) & set(second.texts)
    third = Counting(nodes.engine())
    assert all(outcome.was_there for outcome in run(request(models, tmp_path), Told(), third))
    assert third.texts == [] and len(outcomes) == 4


@dataclass(frozen=True, slots=True)
class Failing:
    """An estimator that fails, or ends its process, and notes each time that it was asked."""

    name: ClassVar[str] = "failing"
    labels: ClassVar[tuple[str, ...]] = ("plain",)
    headline: ClassVar[str] = "plain"
    is_sample_based: bool = False
    diary: str = ""
    ends_its_process: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return {"diary": self.diary, "ends_its_process": self.ends_its_process}

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        with open(self.diary, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        if self.ends_its_process:
            os.kill(os.getpid(), signal.SIGKILL)
        raise EstimationError("these states have no information")


@pytest.mark.parametrize(
    ("ends", "error", "message", "n_asked"),
    [
        (False, EstimationError, "^these states have no information$", 1),
        (True, EngineError, "gpt2, country, .*: lost 4 workers one after the other, the last on .*out of memory", 4),
    ],
    ids=["an error of ours is not tried again", "a unit that ends each worker is named"],
)
def test_what_cannot_be_measured(
    nodes: Nodes,
    models: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: bool,
    error: type[Exception],
    message: str,
    n_asked: int,
) -> None:
    monkeypatch.setitem(ESTIMATORS, "failing", Failing)
    settings = (("diary", str(tmp_path / "diary")), ("ends_its_process", str(ends)))
    asked = request(models[:1], tmp_path, "country", estimator="failing", settings=settings, limit=10)
    with pytest.raises(error, match=message):
        run(asked, Told(), nodes.engine())
    of_one_unit = (tmp_path / "diary").read_text().split()
    assert n_asked <= len(of_one_unit) <= 3 * n_asked  # there are three units, and two workers


def test_a_folder_that_a_node_does_not_have(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=REASON)
    from bench.engine_ray import _here

    entry = resolve(str(save_list_model(tmp_path / "tiny")))
    assert _here(entry) == entry
    (tmp_path / "tiny").rename(tmp_path / "gone")
    with pytest.raises(ModelError, match="tiny is not there; a model that is given as a folder .* same path on every"):
        _here(entry)
    elsewhere = {"gpt2-ladder-xs": CATALOG["gpt2-ladder-xs"], "gpt2-ladder-xs@int4": resolve("gpt2-ladder-xs@int4")}
    for name, own in elsewhere.items():
        source = replace(own.source, path=tmp_path / "another environment")
        original = own.original and replace(own.original, source=source)
        assert _here(replace(own, source=source, original=original)) == own, name


def test_idle_workers_of_a_lost_node_do_not_count_against_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 20 workers, of which one had a job in hand, goes away."""
    pytest.importorskip("ray", reason=REASON)
    from ray.exceptions import RayActorError

    import bench.engine_ray
    from bench.engine_ray import _Crew, _Job, _Member, _Needs

    ended: list[str] = []
    monkeypatch.setattr(bench.engine_ray, "_end", lambda member: ended.append(member.node))
    told = Told()
    crew = _Crew(needs=_Needs(cpus=1, gpus=0), progress=told)
    crew.idle = [_Member(actor=None, node=name) for name in ["lost"] * 19 + ["other"]]
    job = _Job(weights=weights("gpt2-ladder-xs"), unit=None)
    crew._lost(_Member(actor=None, node="lost"), job, RayActorError())
    assert [member.node for member in crew.idle] == ["other"] and ended == ["lost"] * 20
    assert job.n_lost == 1
    assert told.stages == ["loading gpt2-ladder-xs: its worker on lost is lost; it runs again"]


def weights(name: str) -> Weights:
    identity = WeightsIdentity(revision="", weights_sha256="", files_sha256="")
    return Weights(entry=resolve(name), identity=identity, twin_seed=None, dtype="float32", device="cpu")


def test_a_worker_prefers_the_weights_that_it_holds() -> None:
    pytest.importorskip("ray", reason=REASON)
    from bench.engine_ray import _Job, next_job

    a, b, c = map(weights, ("gpt2-ladder-xs", "gpt2-ladder-s", "gpt2-ladder-m"))
    queue = [_Job(weights=one, unit=None) for one in (a, b, c, b)]
    assert next_job(queue, b, {a, c}) is queue[1]
    assert next_job(queue, None, {a, None}) is queue[1]
    assert next_job(queue, None, {a, b, c}) is queue[0]


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"cpus_per_unit": 2}, {}, "no node of the Ray cluster has 2 CPUs for a worker; it has 2 CPUs and 0 GPUs"),
        ({}, {"device": "cuda"}, "no node of the Ray cluster has 1 CPU and 1 GPUs for a worker"),
        ({}, {"device": "cuda:1"}, "expected --device cuda, got 'cuda:1'"),
        ({"gpus_per_unit": 1}, {}, "--gpus-per-unit 1 and --device cpu do not fit"),
        ({"gpus_per_unit": 1.5}, {"device": "cuda"}, "a whole number of GPUs or a share of one"),
    ],
)
def test_what_no_node_has_is_said(
    nodes: Nodes,
    models: tuple[str, ...],
    tmp_path: Path,
    options: dict[str, Any],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        run(request(models, tmp_path, **changes), Told(), nodes.engine(**options))


def test_nodes_with_other_versions_are_refused(
    nodes: Nodes, models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bench.engine_ray

    usual = bench.engine_ray._versions()
    monkeypatch.setattr(bench.engine_ray, "_versions", lambda: usual | {"torch": "2.10.0"})
    with pytest.raises(UsageError, match=r"has torch [\d.]+ instead of 2\.10\.0; install the same versions"):
        run(request(models, tmp_path), Told(), nodes.engine())


@pytest.mark.parametrize(
    ("address", "message"),
    [("localhost:1", "no Ray cluster answers at localhost:1"), ("ray://head:10001", "expects HOST:PORT")],
)
def test_no_cluster_there_is_said_in_seconds(
    models: tuple[str, ...], tmp_path: Path, address: str, message: str
) -> None:
    pytest.importorskip("ray", reason=REASON)
    began = time.monotonic()
    with pytest.raises(UsageError, match=message):
        run(request(models, tmp_path), Told(), make_engine("ray", EngineOptions(ray_address=address)))
    assert time.monotonic() - began < 30


def command(nodes: Nodes, model: str, out: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "bench", "run", model, "--tasks", "country,animal", "--out", str(out), *more]
    return [*words, "--engine", "ray", "--ray-address", nodes.cluster.address]


def test_the_command_line(nodes: Nodes, models: tuple[str, ...], tmp_path: Path) -> None:
    expected = run(request(models[:1], tmp_path / "single"), Told())
    words = command(nodes, models[0], tmp_path / "ray", "--n-names", "6", "--n-shots", "3", "--json")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [row["record"] for row in json.loads(done.stdout)]
    assert [row["summary"] for row in found] == [one.record.model_dump(mode="json")["summary"] for one in expected]
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_a_signal_ends_the_command_and_its_workers(nodes: Nodes, models: tuple[str, ...], tmp_path: Path) -> None:
    words = command(nodes, models[0], tmp_path, "--preset", "paper")
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.rstrip().endswith("is ready"):
            break
    child.send_signal(signal.SIGTERM)
    rest = child.stderr.read()
    assert child.wait() == 143
    assert "interrupted; the same command goes on from here" in rest and "Traceback" not in rest
    child.stderr.close()
    deadline = time.monotonic() + 60
    while nodes.workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert nodes.workers() == []


class Clock(Told):
    """When the last worker was ready; what was done before, or after the last unit, is not timed."""

    ready = 0.0

    def stage(self, text: str) -> None:
        super().stage(text)
        if text.endswith("is ready"):
            self.ready = time.monotonic()


@dataclass
class Timed:
    """An engine that notes when each unit came in, by its digest, and how long the worker took over it."""

    inner: Engine
    arrivals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        for measurement in self.inner.measured(weights, units_of, progress):
            self.arrivals[measurement.key.digest()] = (time.monotonic(), measurement.seconds)
            yield measurement


def test_a_signal_while_ray_starts_is_ours() -> None:
    """Ray's handler of SIGTERM exits with 15 for a status; whoever set a handler before is to get the signal."""
    pytest.importorskip("ray", reason=REASON)
    from bench.engine_ray import _own_signals

    got: list[int] = []

    def ours(number: int, frame: object) -> None:
        got.append(number)

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with _own_signals():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)
        assert got == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(SystemExit), _own_signals():
            sys.exit(3)
        assert got == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_inside_of_ray_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: "SystemError: CoreWorker.wait returned a result with an exception set", with the interruption as cause."""
    pytest.importorskip("ray", reason=REASON)
    import bench.engine_ray

    class Interrupted(BaseException):
        pass

    def measured(*given: object) -> Iterator[Measurement]:
        try:
            raise Interrupted
        except Interrupted as interruption:
            raise SystemError("returned a result with an exception set") from interruption
        yield

    monkeypatch.setattr(bench.engine_ray, "_connected", lambda *given: contextlib.nullcontext())
    monkeypatch.setattr(bench.engine_ray._Crew, "measured", measured)
    engine = make_engine("ray", EngineOptions())
    with pytest.raises(Interrupted):
        list(engine.measured([weights("gpt2-ladder-xs")], lambda weights, facts: (), Told()))


def test_two_workers_are_nearly_twice_as_fast_as_one(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 units of four small models, two of which share their twins with the others.

    Efficiency is the time of one worker over twice that of two; 1 is perfect.

    Only printed, for it falls when others use the machine. That workers measure, and do not wait for units or load
    weights, most of the time, does not.
    """
    pytest.importorskip("ray", reason=REASON)
    import bench.engine_ray

    names = tuple(f"gpt2-ladder-{size}{suffix}" for size in ("xs", "s") for suffix in ("", "@int4"))
    rates = {}
    alone: dict[str, float] = {}
    for n_workers in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(bench.engine_ray._Needs, "places", lambda needs, n_workers=n_workers: n_workers)
            clock, engine = Clock(), Timed(nodes.engine())
            asked = request(names, tmp_path / str(n_workers), "country", "animal", "colour", n_names=10, n_shots=4)
            run(asked, clock, engine)
        later = {digest: one for digest, one in engine.arrivals.items() if one[0] > clock.ready}
        elapsed = max(arrival for arrival, _ in later.values()) - clock.ready
        alone = alone or {digest: seconds for digest, (_, seconds) in engine.arrivals.items()}
        rates[n_workers] = sum(alone[digest] for digest in later) / elapsed
        share_measuring = sum(seconds for _, seconds in later.values()) / elapsed / n_workers
        load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(
            f"\n{n_workers} workers: {len(later)} of {len(engine.arrivals)} units in {elapsed:.1f} s from when the last"
        )
        print(f"was ready, {share_measuring:.0%} of the time measuring; {load}")
        assert len(engine.arrivals) == 22
        assert share_measuring > 0.5
    print(f"efficiency of 2 workers: {rates[2] / rates[1] / 2:.2f}")
    assert rates[2] / rates[1] / 2 > 0.25
