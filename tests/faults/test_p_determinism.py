"""The same seed in another process, with other hashes, threads, orders and workers: the same prompts, keys, scores."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.bench.scripted_server import ScriptedServer, at
from tests.bench.tiny_models import save_list_model
from tests.faults.children import Child, cli
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, Cases
from tests.faults.scenes import SCENES, Places, left_by, places, same

ROOT = Path(__file__).parent.parent.parent

TOLERANCE = 1e-5
"""Between numbers of threads, which add up in another order."""

MANY = """
import json, sys
from bench.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code, (arguments, ended.code)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places"), latency_seconds=0.0) as found:
        yield found


def carried_out(arguments: Sequence[str | Path], folder: Path, given: Places) -> dict[str, Any]:
    """What a command leaves in a folder."""
    folder.mkdir(exist_ok=True)
    with Child(cli, *arguments, log=given.logs / folder.name) as child:
        assert child.wait(120) == 0, child.text()
    return left_by(folder)


def prompts_of(folder: Path) -> list[str]:
    asked = ["query", "big-1", "--tasks", "antonym,country", "--shots", "1,3", "--n-queries", "20"]
    return [*asked, "--base-url", "http://127.0.0.1:9/v1", "--write-prompts", str(folder / "prompts.jsonl")]


@pytest.mark.timeout(600)
def test_another_interpreter_with_other_hashes(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """Real interpreters: the seed of hashes has a say only when one starts."""
    given, _ = shared
    names = ["query", "run", "collect", "leaderboard", "fit"] if IS_FULL else ["query"]
    expected = {}
    for name in names:
        quiet = SCENES[name].in_folder(tmp_path / f"usual-{name}", given)
        SCENES[name].complete(quiet, given)
        expected[name] = left_by(quiet)
    prompts = carried_out(prompts_of(tmp_path / "usual-prompts"), tmp_path / "usual-prompts", given)
    for seed in cases.chosen(["1", "4294967295", str(cases.rng.randrange(2, 1 << 32))], quick=1):
        folders = {name: SCENES[name].in_folder(tmp_path / f"{seed}-{name}", given) for name in names}
        (tmp_path / f"{seed}-prompts").mkdir()
        commands = [list(map(str, SCENES[name].arguments(folder, given))) for name, folder in folders.items()]
        commands.append(prompts_of(tmp_path / f"{seed}-prompts"))
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "BENCH_CACHE": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", MANY, json.dumps(commands)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        with cases.case(f"prompts, hash seed {seed}"):
            assert done.returncode == 0, done.stderr
            same(left_by(tmp_path / f"{seed}-prompts"), prompts, seed)
        for name, folder in folders.items():
            with cases.case(f"{name}, hash seed {seed}"):
                same(left_by(folder), expected[name], f"{name}, hash seed {seed}")


def threaded(n: int, notes: str, *arguments: str | Path) -> None:
    """`bench` with this many threads; the file `notes` says how many each computation really had."""
    import torch
    from torch.overrides import TorchFunctionMode

    found: set[int] = set()

    class Noting(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), named: Mapping[str, Any] | None = None
        ) -> Any:
            found.add(torch.get_num_threads())
            return function(*arguments, **(named or {}))

    torch.set_num_threads(n)
    try:
        with Noting():
            cli(*arguments)
    finally:
        Path(notes).write_text(json.dumps(sorted(found)))


def nearly(found: Any, expected: Any, where: str = "") -> None:
    """Equal, and numbers within the tolerance."""
    if isinstance(expected, Mapping):
        assert set(found) == set(expected), where
        for name, value in expected.items():
            nearly(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            nearly(one, other, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE), f"{where}: {found} against {expected}"
    else:
        assert found == expected, f"{where}: {found!r} against {expected!r}"


@NOT_IN_THE_SLICE
@pytest.mark.timeout(600)
def test_other_numbers_of_threads(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    given, _ = shared
    for name in ["run", "calibrate"][: cases.n(quick=1, full=2)]:
        scene = SCENES[name]
        quiet = scene.in_folder(tmp_path / name, given)
        scene.complete(quiet, given)
        expected = {path: content for path, content in left_by(quiet).items() if path.endswith(".json")}
        for n in (2, 5)[: cases.n(quick=1, full=2)]:
            folder = scene.in_folder(tmp_path / f"{name}-{n}", given)
            with cases.case(f"{name}, {n} threads"):
                notes = tmp_path / f"{name}-{n}.json"
                with scene.child(folder, given, threaded, n, str(notes)) as child:
                    assert child.wait(120) == 0, child.text()
                assert json.loads(notes.read_text()) == [n], "computed with another number of threads"
                nearly({path: content for path, content in left_by(folder).items() if path in expected}, expected)


def run_of(models: Sequence[Path], tasks: str, folder: Path, share: str = "1/1") -> list[str | Path]:
    sizes = ["--n-names", "4", "--n-shots", "2", "--shard", share]
    return ["run", *models, "--tasks", tasks, *sizes, "--out", folder / "results"]


@pytest.mark.timeout(600)
def test_another_order_and_other_numbers_of_workers_of_a_run(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, _ = shared
    tasks = ["country", "animal", "colour"][: cases.n(quick=2, full=3)]
    models = [given.model]
    if IS_FULL:
        models.append(save_list_model(tmp_path / "other", "llama", seed=3))
    expected = carried_out(run_of(models, ",".join(tasks), tmp_path / "usual"), tmp_path / "usual", given)
    for turn in range(cases.n(quick=1, full=2)):
        mixed = (tasks[::-1], models[::-1])
        if turn:
            mixed = (cases.rng.sample(tasks, len(tasks)), cases.rng.sample(models, len(models)))
        folder = tmp_path / f"shuffled-{turn}"
        with cases.case(f"tasks in the order {mixed[0]}"):
            same(carried_out(run_of(mixed[1], ",".join(mixed[0]), folder), folder, given), expected, "shuffled")
    if IS_FULL:
        folder = tmp_path / "workers"
        folder.mkdir()
        with cases.case("3 workers"):
            with contextlib.ExitStack() as stack:
                workers = [
                    stack.enter_context(
                        Child(cli, *run_of(models, ",".join(tasks), folder, f"{i}/3"), log=given.logs / f"worker-{i}")
                    )
                    for i in (1, 2, 3)
                ]
                for worker in workers:
                    assert worker.wait(180) == 0, worker.text()
            same(left_by(folder), expected, "3 workers")


def query_of(tasks: str, concurrency: int, folder: Path, given: Places, seed: int = 0) -> list[str | Path]:
    asked = ["query", "big-1", "--tasks", tasks, "--shots", "1,2", "--n-queries", "10", "--seed", str(seed)]
    service = ["--base-url", given.base_url, "--max-concurrency", str(concurrency)]
    return [*asked, "--out", folder / "results", *service]


@NOT_IN_THE_SLICE
@pytest.mark.timeout(600)
def test_another_order_and_other_numbers_of_workers_of_a_query(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, server = shared
    now_and_then = at(dict.fromkeys(range(0, 10_000, 4), "503"))
    monkeypatch.setattr(server, "faults", now_and_then)  # asked again later: answers change places
    usual, n_before = tmp_path / "usual", len(server.received)
    expected = carried_out(query_of("antonym,country", 1, usual, given), usual, given)
    sent = {one.prompt for one in server.received[n_before:]}
    for tasks, concurrency in (("antonym,country", 3), ("country,antonym", 1), ("country,antonym", 8)):
        folder = tmp_path / f"{tasks}-{concurrency}"
        n_before = len(server.received)
        with cases.case(f"{tasks}, {concurrency} at a time"):
            same(carried_out(query_of(tasks, concurrency, folder, given), folder, given), expected, tasks)
            assert {one.prompt for one in server.received[n_before:]} == sent
        if not IS_FULL:
            break
    n_before = len(server.received)
    with cases.case("another seed asks something else"):
        carried_out(query_of("antonym,country", 3, tmp_path / "seed", given, seed=1), tmp_path / "seed", given)
        assert {one.prompt for one in server.received[n_before:]} != sent
