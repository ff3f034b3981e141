"""Ctrl-C and SIGTERM, once and twice: a command ends within two seconds, says how to go on, and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import interruption
from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import Child, cli, wait_for
from tests.faults.killing import MOST_STEPS, VISITS, Fuse, at_point
from tests.faults.ledger import IS_FULL, Cases
from tests.faults.scenes import (
    CONCURRENCY,
    SCENES,
    Finished,
    Places,
    Scene,
    check_nothing_torn,
    left_by,
    places,
    quiet_run,
    same,
)

LINE = "interrupted; the same command goes on from here"
SECONDS = 2.0
AT_ONCE_SECONDS = 1.0
"""After a second signal; without it a process that does not get out ends 1.2 s after the first."""

SLOW_SECONDS = 0.1
"""Of a server that is certain to have questions under way, and well below the half second that they are given."""

STARTING = "import bench.interruption, runpy; print(flush=True); runpy.run_module('bench', run_name='__main__')"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


def ends_on(child: Child, number: signal.Signals, again: float | None = None, heard: Path | None = None) -> None:
    """Send a signal and see how it ends.

    Args:
        again: seconds after which it is sent a second time, to a process that is still there.
        heard: a file that is there from when the process has heard of the first; the seconds are counted from then on.
    """
    began = time.monotonic()
    child.send(number)
    if again is not None:
        assert heard is None or wait_for(heard.exists, SECONDS), child.text()
        time.sleep(again)
        assert child.process.exitcode is None, f"it was gone before the second signal:\n{child.text()}"
        sent = time.monotonic()
        child.send(number)
    check_end(child.wait(30), child.text(), number, time.monotonic() - began)
    if again is not None:
        seconds = time.monotonic() - sent
        assert seconds < AT_ONCE_SECONDS, f"it took {seconds:.1f} s after the second signal:\n{child.text()}"


def check_end(status: int, said: str, number: signal.Signals, seconds: float) -> None:
    """What holds of every command that a signal ended, whenever it came."""
    assert status == STATUS[number], f"exit status {status}:\n{said}"
    assert said.count(LINE) == 1, said
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert seconds < SECONDS, f"it took {seconds:.1f} s:\n{said}"


def waits_at(
    point: str, visit: int, step: int, is_deaf: bool, marker: str, heard: str | None, *arguments: str | Path
) -> None:
    """`bench`, which comes to a stop at a point: asleep, or in a computation that hears nothing.

    Args:
        heard: a file that it makes when it hears of a signal; it then takes half a minute to tidy. None: it does not.
    """

    def stop() -> None:
        Path(marker).touch()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if is_deaf:
                _compute()
            else:
                time.sleep(30)

    at_point(point, Fuse(visit, stop, step))
    if heard is not None:
        slow_to_tidy(Path(heard))
    cli(*arguments)


def slow_to_tidy(heard: Path) -> None:
    """What is open where the signal came takes long to close, as on a disk that hardly answers."""
    usual = interruption._interrupt

    def interrupt(number: int, frame: object) -> None:
        try:
            usual(number, frame)
        finally:
            heard.touch()
            time.sleep(30)

    vars(interruption)["_interrupt"] = interrupt


def _compute() -> None:
    """Half a minute in one call, within which no signal handler of Python is called."""
    import torch

    torch.linalg.matrix_power(torch.ones(2000, 2000), 1 << 60)


def goes_on(
    scene: Scene, folder: Path, given: Places, finished: Finished, before: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The same command again: nothing finished is done again, and in the end all is as if nothing had been."""
    check_nothing_torn(folder, before, expected)
    finished.note_end()
    scene.complete(folder, given)
    finished.check()
    same(left_by(folder), expected, scene.name)


def drawn_visit(cases: Cases, name: str, point: str) -> int:
    """One in the second half of the work, where the point is visited more than once."""
    n_visits = VISITS[name][point]
    return cases.rng.randint(n_visits // 2 + 1, n_visits)


PLAN = {
    "query": ("before a request", "after a reply", "before a file is replaced"),
    "collect": ("while a reply is kept", "half of a file"),
    "run": ("before a file is replaced", "half of a file", "before a file is synced"),
    "convert": ("half of the weights", "before a conversion is installed"),
    "leaderboard": ("before the index", "before a file is replaced"),
    "fit": ("before a file is synced",),
    "estimate": ("before a file is replaced",),
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
    given, server = shared
    for turn, where in enumerate(cases.rng.sample(WHERE if IS_FULL else QUICK, cases.n(quick=1, full=7))):
        name, point = where.split(": ")
        scene = SCENES[name]
        before, expected = quiet_run(scene, tmp_path / f"{turn}-quiet", given)
        folder = scene.in_folder(tmp_path / f"{turn}-disturbed", given)
        marker, heard = tmp_path / f"{turn}-marker", tmp_path / f"{turn}-heard"
        visit, step = drawn_visit(cases, name, point), cases.rng.randint(1, MOST_STEPS)
        stop = (point, visit, step, False, str(marker), str(heard) if twice else None)
        with cases.case(f"{where}, visit {visit}, {number.name}{' twice' if twice else ''}"):
            finished = Finished(scene, folder, server)
            with scene.child(folder, given, waits_at, *stop) as child:
                assert wait_for(marker.exists, 60), child.text()
                ends_on(child, number, cases.rng.uniform(0, 0.05) if twice else None, heard)
            assert visit == 1 or left_by(folder) != before, "nothing was finished before the signal"
            goes_on(scene, folder, given, finished, before, expected)


def _have_come(server: ScriptedServer, n_requests: int) -> bool:
    return len(server.received) >= n_requests


@pytest.mark.timeout(600)
def test_replies_under_way_are_kept(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server sends them soon after the signal, none is lost and none is asked for again."""
    given, server = shared
    monkeypatch.setattr(server, "latency_seconds", SLOW_SECONDS)
    for name in cases.chosen(["query", "collect"], quick=1):
        scene = SCENES[name]
        before, expected = quiet_run(scene, tmp_path / f"{name}-quiet", given)
        for turn in range(cases.n(quick=1, full=3)):
            number = cases.rng.choice(list(STATUS))
            folder = scene.in_folder(tmp_path / f"{name}-{turn}", given)
            n_asked = cases.rng.randint(CONCURRENCY + 1, 20)
            with cases.case(f"{name}, {number.name} after {n_asked} questions"):
                finished = Finished(scene, folder, server, n_under_way=0)
                are_asked = partial(_have_come, server, len(server.received) + n_asked)
                with scene.child(folder, given) as child:
                    assert wait_for(are_asked, 60), child.text()
                    ends_on(child, number)
                goes_on(scene, folder, given, finished, before, expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, *([signal.SIGINT] * IS_FULL)])
def test_a_long_computation_that_hears_nothing_is_ended_too(
    cases: Cases, number: signal.Signals, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, server = shared
    scene, marker, point = SCENES["run"], tmp_path / "marker", "before a file is synced"
    before, expected = quiet_run(scene, tmp_path / "quiet", given)
    for twice in cases.chosen(["once", "twice"], quick=1):
        folder = scene.in_folder(tmp_path / twice, given)
        with cases.case(f"{number.name} {twice} while a matrix is multiplied"):
            finished, visit = Finished(scene, folder, server), drawn_visit(cases, "run", point)
            with scene.child(folder, given, waits_at, point, visit, 1, True, str(marker), None) as child:
                assert wait_for(marker.exists, 60), child.text()
                time.sleep(0.1)  # it is in there now
                ends_on(child, number, 0.05 if twice == "twice" else None)
            assert left_by(folder) != before, "nothing was finished before the signal"
            goes_on(scene, folder, given, finished, before, expected)
        marker.unlink()


def test_a_signal_at_any_moment(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """In the middle of whatever it does."""
    given, server = shared
    wanted = cases.n(quick=1, full=12)
    names = cases.chosen(["query", "run", "convert", "leaderboard", "estimate", "predict"], quick=1)
    quiet = {name: quiet_run(SCENES[name], tmp_path / name, given) for name in names}
    for turn in range(5 * wanted):  # some are over before the signal
        if cases.n_injected == wanted:
            break
        scene = SCENES[cases.rng.choice(names)]
        number = cases.rng.choice(list(STATUS))
        folder = scene.in_folder(tmp_path / str(turn), given)
        moment = cases.rng.uniform(0.0, 0.3)
        with cases.case(f"{scene.name}, {number.name} after {moment:.2f} s"):
            finished = Finished(scene, folder, server)
            with scene.child(folder, given) as child:
                assert wait_for(lambda: bool(child.text()), 60)  # it has begun: it tells of what it does
                child.process.join(moment)
                if child.process.exitcode is None:
                    child.send(number)
                began = time.monotonic()
                status = child.wait(30)
                is_done = scene.has_ended_well(status, child)
                if not is_done:
                    check_end(status, child.text(), number, time.monotonic() - began)
            goes_on(scene, folder, given, finished, *quiet[scene.name])
            if is_done:  # the signal came too late
                cases.withdraw()


def test_a_signal_while_the_program_starts(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """A real interpreter, from the moment that it runs anything of ours."""
    given, server = shared
    scene = SCENES["leaderboard"]
    before, expected = quiet_run(scene, tmp_path / "quiet", given)
    for turn in range(cases.n(quick=1, full=4)):
        number = cases.rng.choice(list(STATUS))
        folder = scene.in_folder(tmp_path / str(turn), given)
        with cases.case(f"{number.name} at the start, {turn}"):
            finished = Finished(scene, folder, server)
            command = [sys.executable, "-c", STARTING, *map(str, scene.arguments(folder, given))]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
                assert process.stdout is not None and process.stdout.readline() == b"\n"
                time.sleep(cases.rng.uniform(0.1, 0.3))
                began = time.monotonic()
                process.send_signal(number)
                out, _ = process.communicate(timeout=60)
            check_end(process.returncode, out.decode(), number, time.monotonic() - began)
            goes_on(scene, folder, given, finished, before, expected)
