"""Ctrl-C and SIGTERM, once and twice: a command ends within two seconds, says how to go on, and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import Child, cli, wait_for
from tests.faults.killing import Fuse, at_point
from tests.faults.ledger import IS_FULL, Cases
from tests.faults.scenes import SCENES, Kept, Places, check_nothing_torn, left_by, places, same

LINE = "interrupted; the same command goes on from here"
SECONDS = 2.0
STARTING = "import bench.interruption, runpy; print(flush=True); runpy.run_module('bench', run_name='__main__')"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


def ends_on(child: Child, numbers: tuple[signal.Signals, ...], pause: float) -> None:
    """Send the signals and see how it ends."""
    began = time.monotonic()
    for place, number in enumerate(numbers):
        time.sleep(pause if place else 0)
        if place == 0 or child.process.exitcode is None:
            child.send(number)
    status = child.wait(30)
    seconds = time.monotonic() - began
    said = child.text()
    assert status in {STATUS[number] for number in numbers}, f"exit status {status}:\n{said}"
    assert said.count(LINE) == 1, said
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert seconds < SECONDS, f"it took {seconds:.1f} s:\n{said}"


def waits_at(point: str, visit: int, is_deaf: bool, marker: str, *arguments: str | Path) -> None:
    """`bench`, which comes to a stop at the n-th visit of a point: asleep, or in a computation that hears nothing."""

    def stop() -> None:
        Path(marker).touch()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if is_deaf:
                _compute()
            else:
                time.sleep(30)

    at_point(point, Fuse(visit, stop))
    cli(*arguments)


def _compute() -> None:
    """Half a minute in one call, within which no signal handler of Python is called."""
    import torch

    torch.linalg.matrix_power(torch.ones(2000, 2000), 1 << 60)


PLAN = {
    "query": ("before a request", "after a reply", "before a file is replaced"),
    "collect": ("while a reply is kept", "half of a file"),
    "run": ("before a file is replaced", "half of a file", "before a file is synced"),
    "convert": ("half of the weights", "before a conversion is installed"),
    "leaderboard": ("before the index", "before a file is replaced"),
    "fit": ("before a file is synced",),
    "predict": ("before a file is replaced",),
    "calibrate": ("before a file is replaced",),
}
WHERE = [f"{name}: {point}" for name, points in PLAN.items() for point in points]


QUICK = [where for where in WHERE if where.split(":")[0] in ("query", "run", "convert")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "twice"),
    [(signal.SIGINT, False), (signal.SIGTERM, True), *([(signal.SIGINT, True), (signal.SIGTERM, False)] * IS_FULL)],
)
def test_a_signal_ends_a_command_that_goes_on(
    cases: Cases, number: signal.Signals, twice: bool, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, _ = shared
    for turn, where in enumerate(cases.rng.sample(WHERE if IS_FULL else QUICK, cases.n(quick=1, full=7))):
        name, point = where.split(": ")
        scene = SCENES[name]
        folder, quiet = (scene.in_folder(tmp_path / f"{turn}-{kind}", given) for kind in ("disturbed", "quiet"))
        before = left_by(quiet)
        scene.complete(quiet, given)
        expected = left_by(quiet)
        kept, marker = Kept(folder), tmp_path / f"{turn}-marker"
        with cases.case(f"{where}, {number.name}{' twice' if twice else ''}"):
            with scene.child(folder, given, waits_at, point, 1, False, str(marker)) as child:
                assert wait_for(marker.exists, 60), child.text()
                ends_on(child, (number,) * (2 if twice else 1), cases.rng.uniform(0, 0.05))
            check_nothing_torn(folder, before, expected)
            kept.look()
            scene.complete(folder, given)
            kept.check()
            same(left_by(folder), expected, where)


@pytest.mark.parametrize("number", [signal.SIGTERM, *([signal.SIGINT] * IS_FULL)])
def test_a_long_computation_that_hears_nothing_is_ended_too(
    cases: Cases, number: signal.Signals, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, _ = shared
    scene, marker = SCENES["run"], tmp_path / "marker"
    for twice in cases.chosen(["once", "twice"], quick=1):
        folder = scene.in_folder(tmp_path / twice, given)
        with cases.case(f"{number.name} {twice} while a matrix is multiplied"):
            with scene.child(folder, given, waits_at, "before a file is synced", 1, True, str(marker)) as child:
                assert wait_for(marker.exists, 60), child.text()
                time.sleep(0.1)  # it is in there now
                ends_on(child, (number,) * (2 if twice == "twice" else 1), 0.05)
        marker.unlink()


def test_a_signal_at_any_moment(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """In the middle of whatever it does, its end included: then it may be done already."""
    given, _ = shared
    wanted = cases.n(quick=1, full=12)
    for turn in range(5 * wanted):  # some are over before the signal
        if cases.n_injected == wanted:
            break
        scene = SCENES[cases.rng.choice(["query", "run", "convert", "leaderboard", "predict"])]
        number = cases.rng.choice(list(STATUS))
        folder = scene.in_folder(tmp_path / str(turn), given)
        moment = cases.rng.uniform(0.0, 0.3)
        with cases.case(f"{scene.name}, {number.name} after {moment:.2f} s"):
            with scene.child(folder, given) as child:
                assert wait_for(lambda: bool(child.text()), 60)  # it has begun: it tells of what it does
                child.process.join(moment)
                if child.process.exitcode is None:
                    child.send(number)
                else:
                    cases.withdraw()  # it was over before
                began = time.monotonic()
                status = child.wait(30)
                assert time.monotonic() - began < SECONDS or status == 0, child.text()
                assert status in (0, STATUS[number]), child.text()
                assert "Exception ignored" not in child.text(), child.text()
            scene.complete(folder, given)


def test_a_signal_while_the_program_starts(cases: Cases, tmp_path: Path) -> None:
    """A real interpreter, from the moment that it runs anything of ours."""
    for turn in range(cases.n(quick=1, full=4)):
        number = cases.rng.choice(list(STATUS))
        with cases.case(f"{number.name} at the start, {turn}"):
            command = [sys.executable, "-c", STARTING, "leaderboard", "--results", str(tmp_path)]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
                assert process.stdout is not None and process.stdout.readline() == b"\n"
                time.sleep(cases.rng.uniform(0.1, 0.3))
                process.send_signal(number)
                out, _ = process.communicate(timeout=60)
            assert process.returncode == STATUS[number] and LINE.encode() in out, (process.returncode, out.decode())
            assert b"Traceback" not in out, out.decode()
