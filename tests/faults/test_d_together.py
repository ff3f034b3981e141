"""Two and four processes on one results folder and one cache, and locks that killed processes held: nothing lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from bench.store import Store
from proxies.ledger import read_ledger
from tasks import RANKED_TASKS
from tests.bench.scripted_server import ScriptedServer
from tests.faults.children import KILLED, Child, cli, wait_for
from tests.faults.killing import MOST_STEPS, killed_at, waiting_at
from tests.faults.ledger import IS_FULL, LONG, NOT_IN_THE_SLICE, Cases, Lost
from tests.faults.scenes import (
    CONCURRENCY,
    N_QUESTIONS,
    REPLIES,
    SCENES,
    Places,
    Scene,
    check_nothing_torn,
    left_by,
    places,
    rows_of,
    same,
)
from tests.record_factory import make_record

TOGETHER = ("query", "collect", "run", "convert", "leaderboard", "fit", "estimate", "predict", "calibrate", "features")

SOON_SECONDS = 20.0
"""What a command with nothing to wait for takes on a busy machine, with room to spare."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, ScriptedServer]]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


def all_end(children: Sequence[Child], is_well: Callable[[int, Child], bool]) -> None:
    for child in children:
        status = child.wait(180)
        assert is_well(status, child), f"exit status {status}\n{child.text()}"
        assert "Traceback" not in child.text() and "was damaged" not in child.text(), child.text()


def check_no_row_twice(folder: Path) -> None:
    """Each model and task has one record, and each cell one prediction in the ledger, which is a chain."""
    records = Counter(
        (key.model, key.task, key.mode, key.seed)
        for key in (stored.record.key for stored in Store(folder / "results").performances()[0])
    )
    assert set(records.values()) <= {1}, "a model was asked a task, and has two records of it"
    cells = Counter(
        (entry.model, entry.mode, said.task_hash, said.n_shots)
        for entry in read_ledger(folder / "results")
        for said in entry.predictions
    )
    assert set(cells.values()) <= {1}, "a cell is predicted twice"


def meets(place: str, n: int, *arguments: str | Path) -> None:
    """`bench`, which begins when `n` processes are there, and notes from when to when it was at work."""
    mine = Path(place) / uuid4().hex
    mine.touch()
    while len(list(Path(place).iterdir())) < n:
        time.sleep(0.001)
    began = time.monotonic()
    try:
        cli(*arguments)
    finally:
        mine.write_text(json.dumps([began, time.monotonic()]))


@contextlib.contextmanager
def meeting(place: Path, n: int) -> Iterator[tuple[str, int]]:
    """Where processes meet, as `meets` takes it; they have been at work at the same time when the block ends."""
    place.mkdir()
    yield str(place), n
    times = sorted(json.loads(path.read_text()) for path in place.iterdir())
    assert len(times) == n, f"{len(times)} processes of {n} began"
    assert times[1][0] < times[0][1], "one process was done before the next one began"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("n", [2, pytest.param(4, marks=LONG)])
def test_the_same_command_several_times_at_once(
    cases: Cases, n: int, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, server = shared
    for name in TOGETHER if IS_FULL else ("query", "convert"):
        scene = SCENES[name]
        quiet, folder = (scene.in_folder(tmp_path / f"{name}-{kind}", given) for kind in ("quiet", "together"))
        before = left_by(quiet)
        scene.complete(quiet, given)
        expected = left_by(quiet)
        n_before = len(server.received)
        with cases.case(f"{n} times {name}"):
            with contextlib.ExitStack() as stack, meeting(tmp_path / f"{name}-meeting", n) as met:
                started = [stack.enter_context(scene.child(folder, given, meets, *met)) for _ in range(n)]
                all_end(started, scene.has_ended_well)
            if scene.asks:
                check_all_kept(folder, server, n_before)
            same(left_by(folder), expected, name)
            check_nothing_torn(folder, before, expected)
            check_no_row_twice(folder)


def check_all_kept(folder: Path, server: ScriptedServer, since: int) -> None:
    """Every answer that came in full is in the cache, once, and nothing else is.

    Raises:
        Lost: one is not.
    """
    sent = {one.prompt for one in server.received[since:] if one.is_whole and one.did == "answer"}
    kept = Counter(json.loads(question)["prompt"] for _, question, _ in rows_of(folder / REPLIES))
    if missing := sent - set(kept):
        raise Lost(f"{len(missing)} answers came in full and are not kept")
    assert set(kept) == sent and set(kept.values()) == {1}, "a question has two answers, or one that nobody sent"


def query_of(model: str, folder: Path, given: Places) -> list[str | Path]:
    asked = ["query", model, "--tasks", "antonym", "--shots", "0,2", "--n-queries", str(N_QUESTIONS)]
    return [*asked, "--out", folder / "results", "--base-url", given.base_url, "--max-concurrency", str(CONCURRENCY)]


@LONG
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [2, 4])
def test_several_models_asked_at_once_are_all_there(
    cases: Cases, n: int, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """In the cache, in the records, and in the report that each of the processes writes."""
    given, server = shared
    names = [f"big-{number}" for number in range(n)]
    for turn in range(4):
        folder = tmp_path / str(turn)
        folder.mkdir()
        n_before = len(server.received)
        with cases.case(f"{n} models at once, {turn}"):
            with contextlib.ExitStack() as stack, meeting(tmp_path / f"meeting-{turn}", n) as met:
                started = [
                    stack.enter_context(
                        Child(meets, *met, *query_of(name, folder, given), log=given.logs / f"{turn}-{name}")
                    )
                    for name in names
                ]
                all_end(started, lambda status, _: status == 0)
            found = left_by(folder)
            report = found["results/performance/report.md"].decode()
            if missing := [name for name in names if name not in report]:
                raise Lost(f"the report is without {missing}")
            assert len(found[REPLIES]) == n * 2 * N_QUESTIONS == len(server.received) - n_before
            assert sum(name.endswith(".json") for name in found) == n
            check_no_row_twice(folder)


OVERTAKEN = {
    "before a report is drawn": ("query", "another model"),
    "before the leaderboard is written": ("leaderboard", "one more record"),
    "before a prediction is added": ("predict", "the same"),
    "before a conversion is installed": ("convert", "the same"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=() if point == "before a conversion is installed" else NOT_IN_THE_SLICE)
        for point in OVERTAKEN
    ],
)
def test_what_was_read_before_another_process_wrote_replaces_nothing(
    cases: Cases, point: str, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """One process comes to a stop between reading and writing, until another is done with the same.

    Or, where the other has to wait for it, for some seconds.
    """
    given, _ = shared
    name, other = OVERTAKEN[point]
    scene = SCENES[name]
    quiet, folder = (scene.in_folder(tmp_path / kind, given) for kind in ("quiet", "overtaken"))
    commands = {where: [scene.arguments(where, given)] * 2 for where in (quiet, folder)}
    if other == "another model":
        commands = {where: [query_of(model, where, given) for model in ("big-0", "big-1")] for where in (quiet, folder)}

    def meanwhile(where: Path) -> None:
        for task in RANKED_TASKS if other == "one more record" else ():
            Store(where / "results").write_record(make_record(model="late", task=task, weights="l" * 64, level=3.0))

    with cases.case(point):
        for place, command in enumerate(commands[quiet]):
            environment = {"BENCH_CACHE": str(quiet / "cache")}
            with Child(cli, *command, log=given.logs / f"{name}-in-turn-{place}", environment=environment) as child:
                all_end([child], scene.has_ended_well)
            meanwhile(quiet)
        reached, gone_on = str(tmp_path / "reached"), str(tmp_path / "gone on")
        environment = {"BENCH_CACHE": str(folder / "cache")}
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(
                Child(
                    waiting_at,
                    point,
                    reached,
                    gone_on,
                    4.0,
                    *commands[folder][0],
                    log=given.logs / f"{name}-waiting",
                    environment=environment,
                )  # fmt: skip
            )
            assert wait_for(Path(reached).exists, 60), waiting.text()
            meanwhile(folder)
            overtaking = stack.enter_context(
                Child(cli, *commands[folder][1], log=given.logs / f"{name}-overtaking", environment=environment)
            )
            overtaking.process.join(8.0)  # where it may not overtake, it goes on when the first is done
            Path(gone_on).touch()
            all_end([waiting, overtaking], scene.has_ended_well)
        same(left_by(folder), left_by(quiet), point)
        check_no_row_twice(folder)


def run_share(share: str, folder: Path, given: Places) -> list[str | Path]:
    sizes = ["--n-names", "4", "--n-shots", "2"]
    tasks = ["--tasks", "country,animal,colour,antonym"]
    return ["run", given.model, *tasks, *sizes, "--shard", share, "--out", folder / "results"]


@LONG
@pytest.mark.timeout(600)
def test_shares_of_a_run_at_once_are_the_whole_run(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """Also where two processes measure the random words that their tasks have in common at the same time."""
    given, _ = shared
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    with Child(cli, *run_share("1/1", quiet, given), log=given.logs / "quiet-run") as child:
        all_end([child], lambda status, _: status == 0)
    expected = left_by(quiet)
    for n in ["2", "3", "4"]:
        folder = tmp_path / n
        folder.mkdir()
        shares = [f"{number}/{n}" for number in range(1, int(n) + 1)]
        with cases.case(f"{n} shares"):
            with contextlib.ExitStack() as stack, meeting(tmp_path / f"meeting-{n}", int(n)) as met:
                started = [
                    stack.enter_context(
                        Child(meets, *met, *run_share(share, folder, given), log=given.logs / share.replace("/", "-"))
                    )
                    for share in shares
                ]
                all_end(started, lambda status, _: status == 0)
            same(left_by(folder), expected, f"{n} shares")


@LONG
@pytest.mark.timeout(600)
def test_one_of_two_is_killed_and_the_other_goes_on(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, server = shared
    points = {
        "query": ("while a reply is kept", "before a reply is committed", "before a file is replaced"),
        "run": ("half of a file", "after a file is replaced"),
        "convert": ("half of the weights", "after a conversion is installed"),
        "leaderboard": ("before the index",),
        "predict": ("before a file is replaced",),
    }
    wanted = [f"{name}: {point}" for name, found in points.items() for point in found]
    for turn, one in enumerate(wanted):
        name, point = one.split(": ")
        scene = SCENES[name]
        quiet, folder = (scene.in_folder(tmp_path / f"{turn}-{kind}", given) for kind in ("quiet", "together"))
        scene.complete(quiet, given)
        with cases.case(one):
            with (
                scene.child(folder, given, killed_at, point, 1, cases.rng.randint(1, MOST_STEPS)) as killed,
                scene.child(folder, given) as other,
            ):
                was_killed = killed.wait(120) == KILLED
                assert was_killed or scene.has_ended_well(killed.wait(), killed), killed.text()
                all_end([other], scene.has_ended_well)
            scene.complete(folder, given)
            same(left_by(folder), left_by(quiet), one)
            check_no_row_twice(folder)
            if not was_killed:  # the other one had done the work before
                cases.withdraw()


def holds(path: str, marker: str) -> None:
    """Take the lock of a file and keep it."""
    file = Path(path).open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    Path(marker).touch()
    time.sleep(600)


def holds_database(path: str, marker: str) -> None:
    """Write into a database, and come to no end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, stamp TEXT, digest TEXT)")
    Path(marker).touch()
    time.sleep(600)


LOCKS: dict[str, tuple[str, str, Callable[..., object]]] = {
    "the lock of the replies": ("query", f"{REPLIES}.lock", holds),
    "the mark of the first at the replies": ("query", f"{REPLIES}.first", holds),
    "the transaction of the replies": ("query", REPLIES, holds_database),
    "the lock of the reports": ("query", "results/.reports.lock", holds),
    "the lock of the ledger": ("predict", "results/.ledger.lock", holds),
    "the transaction of the digests": ("leaderboard", "results/.digests.sqlite", holds_database),
}
OUTPUTS = {"query": "results/performance", "predict": "results/ledger.jsonl"}
"""Without it, a command that was done opens its files again."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("was_there", [False, pytest.param(True, marks=LONG)], ids=["fresh", "used"])
def test_a_lock_that_a_killed_process_held_holds_nobody_up(
    cases: Cases, was_there: bool, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    given, server = shared
    for turn, what in enumerate(cases.chosen(list(LOCKS), quick=1)):
        name, relative, target = LOCKS[what]
        scene = SCENES[name]
        quiet, folder = (scene.in_folder(tmp_path / f"{turn}-{kind}", given) for kind in ("quiet", "held"))
        scene.complete(quiet, given)
        if was_there:
            scene.complete(folder, given)
            if name in OUTPUTS:
                (folder / OUTPUTS[name]).rename(tmp_path / f"{turn}-output")
        lock, marker = folder / relative, tmp_path / f"{turn}-marker"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with cases.case(what):
            with Child(target, str(lock), str(marker), log=given.logs / f"{turn}-{was_there}") as holder:
                assert wait_for(marker.exists, 60), holder.text()
                holder.kill()
            n_before, began = len(server.received), time.monotonic()
            said = scene.complete(folder, given)
            assert time.monotonic() - began < SOON_SECONDS, said
            if was_there and len(server.received) != n_before:
                raise Lost(f"{len(server.received) - n_before} questions asked again behind a lock of nobody")
            assert (quiet / relative).exists(), "the command makes no such file"
            same(left_by(folder), left_by(quiet), what)


@NOT_IN_THE_SLICE
def test_a_leaderboard_does_not_wait_for_who_holds_its_index(
    cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]
) -> None:
    """The index is only for speed: where another process has it, the records are read."""
    given, _ = shared
    scene = SCENES["leaderboard"]
    quiet, folder = (scene.in_folder(tmp_path / kind, given) for kind in ("quiet", "held"))
    scene.complete(quiet, given)
    index, marker = folder / "results" / ".digests.sqlite", tmp_path / "marker"
    with cases.case("an index in use"):
        with Child(holds_database, str(index), str(marker), log=given.logs / "holder") as holder:
            assert wait_for(marker.exists, 60), holder.text()
            began = time.monotonic()
            scene.complete(folder, given)
            assert time.monotonic() - began < SOON_SECONDS
        expected = left_by(quiet)
        del expected["results/.digests.sqlite"]
        found = left_by(folder)
        del found["results/.digests.sqlite"]
        same(found, expected)


@LONG
@pytest.mark.timeout(600)
def test_different_commands_at_once(cases: Cases, tmp_path: Path, shared: tuple[Places, ScriptedServer]) -> None:
    """A query, a run, a fit and a leaderboard in one folder; afterwards everything is as if done in turn."""
    given, _ = shared
    scene = Scene(name="leaderboard", arguments=SCENES["leaderboard"].arguments, prepare=SCENES["fit"].prepare)
    commands = [SCENES[name].arguments for name in ("query", "run", "fit")]
    quiet = scene.in_folder(tmp_path / "quiet", given)
    for number, command in enumerate(commands):
        with Child(cli, *command(quiet, given), log=given.logs / f"in-turn-{number}") as child:
            all_end([child], lambda status, _: status == 0)
    scene.complete(quiet, given)
    expected = left_by(quiet)
    for turn in range(3):
        folder = scene.in_folder(tmp_path / str(turn), given)
        with cases.case(f"four commands, {turn}"):
            with contextlib.ExitStack() as stack, meeting(tmp_path / f"meeting-{turn}", 4) as met:
                every = [*commands, scene.arguments]
                cases.rng.shuffle(every)
                started = [
                    stack.enter_context(
                        Child(meets, *met, *command(folder, given), log=given.logs / f"at-once-{turn}-{number}")
                    )
                    for number, command in enumerate(every)
                ]
                all_end(started, lambda status, _: status == 0)
            scene.complete(folder, given)
            same(left_by(folder), expected)
