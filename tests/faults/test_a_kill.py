"""SIGKILL at named points and at any moment: nothing finished is lost or done again, nothing is torn, it goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import KILLED
from tests.faults.killing import MOST_STEPS, VISITS, killed_at
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, Cases
from tests.faults.scenes import SCENES, Finished, Places, Scene, check_nothing_torn, left_by, places, same
from tests.faults.syncing import noted

AT_ANY_MOMENT = "at any moment"

MOST_KILLS_IN_A_ROW = 3

PLAN: dict[str, tuple[int, tuple[str, ...]]] = {
    "query": (74, ("after a reply is kept", "before a reply is committed", "half of a file")),
    "collect": (34, ()),
    "run": (36, ("half of a file", "after a file is replaced")),
    "convert": (16, ("half of the weights",)),
    "leaderboard": (24, ("before a file is replaced",)),
    "fit": (10, ()),
    "estimate": (8, ()),
    "predict": (10, ("half of a file",)),
    "calibrate": (8, ()),
}
"""Scene -> cases of a full run, which come by every point; a slice."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=NOT_IN_THE_SLICE if name == "predict" else ())
        for name, (_, slice_of) in PLAN.items()
        if slice_of or IS_FULL
    ],
)
def test_a_killed_command_goes_on(
    cases: Cases, name: str, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    full, slice_of = PLAN[name]
    points = [*VISITS[name], AT_ANY_MOMENT]
    wanted = cases.n(quick=len(slice_of), full=full)
    scene = SCENES[name]
    given, server = shared
    quiet = scene.in_folder(tmp_path / "quiet", given)
    before = left_by(quiet)
    began = time.monotonic()
    scene.complete(quiet, given)
    seconds = time.monotonic() - began
    expected = left_by(quiet)
    order = [point for _ in range(4 * wanted) for point in cases.rng.sample(points, len(points))]
    if not IS_FULL:
        order = [*slice_of, *order]
    reached = {AT_ANY_MOMENT}
    for attempt in range(4 * wanted):
        if cases.n_injected >= wanted:
            break
        folder = scene.in_folder(tmp_path / str(attempt), given)
        finished = Finished(scene, folder, server)
        n_in_a_row = cases.rng.randint(1, MOST_KILLS_IN_A_ROW) if IS_FULL else MOST_KILLS_IN_A_ROW
        if IS_FULL and attempt < len(points):  # every point once with all of the work ahead
            n_in_a_row = 1
        for _ in range(n_in_a_row):
            if cases.n_injected >= wanted:
                break
            point = order.pop(0)
            n_visits = 1 if finished.n_ends else VISITS[name].get(point, 1)
            visit = cases.rng.randint((n_visits + 1) // 2, n_visits)
            step = cases.rng.randint(1, MOST_STEPS)
            if _killed(scene, folder, given, point, visit, step, cases.rng.uniform(0, seconds)):
                reached.add(point)
                with cases.case(f"{name}: {point}, visit {visit}"):
                    check_nothing_torn(folder, before, expected)
                    finished.note_end()
        if finished.n_ends:
            _complete(cases, scene, folder, given, finished, expected)
        shutil.rmtree(folder)
    assert cases.n_injected >= wanted
    assert not IS_FULL or reached == set(points), f"never reached: {sorted(set(points) - reached)}"


def _killed(scene: Scene, folder: Path, given: Places, point: str, visit: int, step: int, seconds: float) -> bool:
    """Whether the command was killed, rather than done before the point was reached."""
    if point == AT_ANY_MOMENT:
        with scene.child(folder, given) as child:
            child.process.join(seconds)
            child.kill()
            status = child.wait()
    else:
        with scene.child(folder, given, killed_at, point, visit, step) as child:
            status = child.wait(120)
    assert status == KILLED or scene.has_ended_well(status, child), f"exit status {status}\n{child.text()}"
    return status == KILLED


def _complete(
    cases: Cases, scene: Scene, folder: Path, given: Places, finished: Finished, expected: dict[str, object]
) -> None:
    """The same command to its end. It is part of the last case: it counts for itself only where it fails."""
    try:
        said = scene.complete(folder, given)
        assert "damaged" not in said, said
        same(left_by(folder), expected, scene.name)
        finished.check()
    except Exception as error:
        with cases.case(f"{scene.name}: going on", n=0):
            raise error


@pytest.mark.timeout(600)
def test_everything_is_on_the_disk_before_it_has_its_name(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """And its name before anything else is done: a power cut leaves what a kill leaves."""
    given, _ = shared
    for name in SCENES if IS_FULL else ("features", "convert"):
        scene, notes = SCENES[name], tmp_path / f"{name}.json"
        folder = scene.in_folder(tmp_path / name, given)
        before = left_by(folder)
        with cases.case(f"{name}: the order of syncing and renaming"):
            with scene.child(folder, given, noted, str(notes)) as child:
                assert child.wait(120) == 0, child.text()
            said = json.loads(notes.read_text())
            assert said["named"] and said["wrong"] == [], said
            places_of = [Path(place) for place in said["named"]]
            for path in left_by(folder):
                if path not in before and not path.endswith(".sqlite"):
                    way = (folder / path, *(folder / path).parents)
                    assert any(place in way for place in places_of), f"{path} was written in its place"
