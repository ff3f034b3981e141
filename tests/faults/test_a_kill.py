"""SIGKILL at named points and at any moment: nothing finished is lost or done again, nothing is torn, it goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import KILLED
from tests.faults.killing import CONVERSION_POINTS, FILE_POINTS, INDEX_POINTS, MOST_STEPS, REPLY_POINTS, killed_at
from tests.faults.ledger import IS_FULL, Cases, Lost
from tests.faults.scenes import (
    CONCURRENCY,
    SCENES,
    Kept,
    Places,
    Scene,
    cached_prompts,
    check_nothing_torn,
    left_by,
    places,
    same,
)
from tests.faults.syncing import noted

AT_ANY_MOMENT = "at any moment"

MOST_KILLS_IN_A_ROW = 3

PLAN: dict[str, tuple[dict[str, int], int, tuple[str, ...]]] = {
    "query": (
        dict.fromkeys(REPLY_POINTS, 20) | dict.fromkeys(FILE_POINTS, 5) | {AT_ANY_MOMENT: 0},
        74,
        ("after a reply is kept", "before a reply is committed", "half of a file"),
    ),
    "collect": (dict.fromkeys(REPLY_POINTS, 20) | dict.fromkeys(FILE_POINTS, 3) | {AT_ANY_MOMENT: 0}, 34, ()),
    "run": (dict.fromkeys(FILE_POINTS, 8) | {AT_ANY_MOMENT: 0}, 36, ("half of a file", "after a file is replaced")),
    "convert": (dict.fromkeys(CONVERSION_POINTS, 1) | {AT_ANY_MOMENT: 0}, 16, ("half of the weights",)),
    "leaderboard": (
        dict.fromkeys(FILE_POINTS, 5) | dict.fromkeys(INDEX_POINTS, 1) | {AT_ANY_MOMENT: 0},
        24,
        ("before a file is replaced",),
    ),
    "fit": (dict.fromkeys(FILE_POINTS, 2) | {AT_ANY_MOMENT: 0}, 10, ()),
    "estimate": (dict.fromkeys(FILE_POINTS, 1) | {AT_ANY_MOMENT: 0}, 8, ()),
    "predict": (dict.fromkeys(FILE_POINTS, 2) | {AT_ANY_MOMENT: 0}, 10, ("half of a file",)),
    "calibrate": (dict.fromkeys(FILE_POINTS, 6) | {AT_ANY_MOMENT: 0}, 8, ()),
}
"""Scene -> its points with how often each is visited at most by one undisturbed run; cases of a full run; a slice."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name, (_, _, slice_of) in PLAN.items() if slice_of or IS_FULL])
def test_a_killed_command_goes_on(
    cases: Cases, name: str, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    points, full, slice_of = PLAN[name]
    wanted = cases.n(quick=len(slice_of), full=full)
    scene = SCENES[name]
    given, server = shared
    quiet = scene.in_folder(tmp_path / "quiet", given)
    before = left_by(quiet)
    began = time.monotonic()
    scene.complete(quiet, given)
    seconds = time.monotonic() - began
    expected = left_by(quiet)
    order = list(slice_of) + [point for _ in range(4 * wanted) for point in cases.rng.sample(list(points), len(points))]
    for attempt in range(4 * wanted):
        if cases.n_injected >= wanted:
            break
        folder = scene.in_folder(tmp_path / str(attempt), given)
        after = _After(scene, folder, given, server)
        for _ in range(cases.rng.randint(1, MOST_KILLS_IN_A_ROW) if IS_FULL else MOST_KILLS_IN_A_ROW):
            if cases.n_injected >= wanted:
                break
            point = order.pop(0)
            visit = 1 if after.n_kills else cases.rng.randint(max(1, points[point] // 2), max(1, points[point]))
            step = cases.rng.randint(1, MOST_STEPS)
            if _killed(scene, folder, given, point, visit, step, cases.rng.uniform(0, seconds)):
                with cases.case(f"{name}: {point}, visit {visit}"):
                    check_nothing_torn(folder, before, expected)
                    after.note_kill()
        if after.n_kills:
            _complete(cases, scene, folder, given, after, expected)
        shutil.rmtree(folder)
    assert cases.n_injected >= wanted


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
    cases: Cases, scene: Scene, folder: Path, given: Places, after: _After, expected: dict[str, object]
) -> None:
    """The same command to its end. It is part of the last case: it counts for itself only where it fails."""
    try:
        said = scene.complete(folder, given)
        assert "damaged" not in said, said
        same(left_by(folder), expected, scene.name)
        after.check()
    except Exception as error:
        with cases.case(f"{scene.name}: going on", n=0):
            raise error


class _After:
    """What was finished at the last kill: replies in the cache, records and units."""

    def __init__(self, scene: Scene, folder: Path, given: Places, server: ScriptedServer) -> None:
        self._server = server if scene.asks else None
        self._folder = folder
        self._first = self._since = len(server.received)
        self._known_at: list[tuple[int, set[str]]] = []
        self._kept = Kept(folder)
        self.n_kills = 0

    def note_kill(self) -> None:
        """Look at what is finished now; what was finished at the kill before is there still."""
        self.n_kills += 1
        self._kept.check()
        self._kept.look()
        if self._server is not None:
            known = cached_prompts(self._folder)
            sent = {one.prompt for one in self._server.received[self._since :] if one.is_whole and one.did == "answer"}
            if len(sent - known) > CONCURRENCY:
                raise Lost(f"{len(sent - known)} replies came in full and are not kept; {CONCURRENCY} were under way")
            self._since = len(self._server.received)
            self._known_at.append((self._since, known))

    def check(self) -> None:
        """Raises Lost: something finished was done again; more was asked again than was under way."""
        self._kept.check()
        if self._server is None:
            return
        for place, known in self._known_at:
            again = [one.prompt for one in self._server.received[place:] if one.prompt in known]
            if again:
                raise Lost(f"{len(again)} questions were asked again that had an answer in the cache")
        asked = Counter(one.prompt for one in self._server.received[self._first :])
        n_again = sum(asked.values()) - len(asked)
        if n_again > CONCURRENCY * self.n_kills:
            raise Lost(f"{n_again} questions were asked again; at most {CONCURRENCY} were under way at a kill")


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
