"""Real commands on small inputs, what each leaves behind, and what must hold of a folder after a disturbance."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.api.cache import _sound
from bench.cache import PARTIAL_PREFIX
from bench.calibration.results import CaseResult
from bench.store import TEMPORARY_PREFIX, Store
from tests.bench.scripted_server import ScriptedServer
from tests.bench.tiny_models import save_list_model, write_tiny_gguf
from tests.faults.children import Child, cli
from tests.faults.ledger import Lost
from tests.planted_zoo import TASKS, write_zoo

MODEL = "big-1"
CONCURRENCY = 4
N_QUESTIONS = 12
N_PROMPTS = 24

VOLATILE = ("provenance", "seconds")
"""Fields that differ between two runs that did the same: times, and where it was done."""

TIMED = ("calibration/report.md",)
"""Files with tables of how long something took; cells that are a number and no more are not compared."""

_NUMBER = re.compile(rb"(?<=\| )[0-9.]+(?= \|)")

HIDDEN = (TEMPORARY_PREFIX, PARTIAL_PREFIX, ".writable")
"""How names begin of what is not finished, and of tries whether a folder can be written; both stand for nothing."""

REPLIES = "results/.replies/replies.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What scenes read and never change."""

    base_url: str
    model: Path
    gguf: Path
    prompts: Path
    zoo: Path
    """Four families, one model of which was not asked one task."""
    small_zoo: Path
    logs: Path
    """Where children write what they say; not in the folders of the scenes, which may be full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A command.

    Attributes:
        arguments: from its folder and what it reads.
        prepare: puts into its folder what it works on.
        asks: whether it asks a server.
        when_done: what it says, with status 2, where there is nothing left to do; None: it ends with status 0 then.
    """

    name: str
    arguments: Callable[[Path, Places], Sequence[str | Path]]
    prepare: Callable[[Path, Places], None] = lambda folder, places: None
    asks: bool = False
    when_done: str | None = None

    def in_folder(self, folder: Path, places: Places) -> Path:
        """The folder, made and filled."""
        folder.mkdir(parents=True)
        self.prepare(folder, places)
        return folder

    def child(self, folder: Path, places: Places, target: Callable[..., object] = cli, *first: Any) -> Child:
        """The command in a process of its own; `target` is called with `first` and the arguments."""
        environment = {"BENCH_CACHE": str(folder / "cache")}
        log = places.logs / uuid4().hex
        return Child(target, *first, *self.arguments(folder, places), log=log, environment=environment)

    def complete(self, folder: Path, places: Places) -> str:
        """The command to its end; what it wrote to the terminal."""
        with self.child(folder, places) as child:
            status = child.wait(120)
            assert self.has_ended_well(status, child), f"{self.name}: exit status {status}\n{child.text()}"
            assert "Traceback" not in child.text(), child.text()
            return child.text()

    def has_ended_well(self, status: int, child: Child) -> bool:
        """Whether everything is done now."""
        return status == 0 or (status == 2 and self.when_done is not None and self.when_done in child.text())


def _asking(folder: Path, places: Places) -> list[str | Path]:
    return ["--base-url", places.base_url, "--max-concurrency", str(CONCURRENCY)]


def _query(folder: Path, places: Places) -> list[str | Path]:
    asked = ["query", MODEL, "--tasks", "antonym", "--shots", "0,2", "--n-queries", str(N_QUESTIONS)]
    return [*asked, "--out", folder / "results", *_asking(folder, places)]


def _collect(folder: Path, places: Places) -> list[str | Path]:
    return ["collect", MODEL, "--prompts", places.prompts, "--results", folder / "results", *_asking(folder, places)]


def _run(folder: Path, places: Places) -> list[str | Path]:
    sizes = ["--n-names", "4", "--n-shots", "2"]
    return ["run", places.model, "--tasks", "country,animal", *sizes, "--out", folder / "results"]


def _convert(folder: Path, places: Places) -> list[str | Path]:
    return ["models", "fetch", places.gguf]


def _leaderboard(folder: Path, places: Places) -> list[str | Path]:
    page = ["--html", folder / "leaderboard.html"]
    return ["leaderboard", "--results", folder / "results", "--out", folder / "leaderboard.md", *page]


def _fit(folder: Path, places: Places) -> list[str | Path]:
    return ["fit", "--problem", "emergence", "--results", folder / "results"]


def _estimate(folder: Path, places: Places) -> list[str | Path]:
    return ["estimate", "f1-m", "--results", folder / "results"]


def _predict(folder: Path, places: Places) -> list[str | Path]:
    return ["ledger", "predict", "f0-m", "--results", folder / "results"]


def _calibrate(folder: Path, places: Places) -> list[str | Path]:
    return ["calibrate", "--quick", "--estimator", "gaussian", "--part", "cases", "--out", folder / "results"]


def _features(folder: Path, places: Places) -> list[str | Path]:
    return ["features", "--results", folder / "results", "--csv", folder / "cells.csv"]


def _with_zoo(folder: Path, places: Places) -> None:
    shutil.copytree(places.zoo, folder / "results")


def _with_small_zoo(folder: Path, places: Places) -> None:
    shutil.copytree(places.small_zoo, folder / "results")


SCENES = {
    scene.name: scene
    for scene in (
        Scene(name="query", arguments=_query, asks=True),
        Scene(name="collect", arguments=_collect, asks=True),
        Scene(name="run", arguments=_run),
        Scene(name="convert", arguments=_convert),
        Scene(name="leaderboard", arguments=_leaderboard, prepare=_with_small_zoo),
        Scene(name="fit", arguments=_fit, prepare=_with_zoo),
        Scene(name="estimate", arguments=_estimate, prepare=_with_zoo),
        Scene(name="predict", arguments=_predict, prepare=_with_zoo, when_done="is predicted in the ledger"),
        Scene(name="calibrate", arguments=_calibrate),
        Scene(name="features", arguments=_features, prepare=_with_small_zoo),
    )
}


@contextlib.contextmanager
def places(folder: Path, latency_seconds: float = 0.004) -> Iterator[tuple[Places, ScriptedServer]]:
    """The inputs of the scenes, made once below `folder`, and the server that they ask."""
    folder.mkdir(parents=True, exist_ok=True)
    model, gguf, prompts, zoo, small = (folder / name for name in ("tiny", "tiny.gguf", "prompts.txt", "zoo", "small"))
    if not prompts.exists():
        save_list_model(model)
        write_tiny_gguf(gguf)
        write_zoo(zoo, 4, without=[("f0-m", TASKS[0])])
        write_zoo(small, 1)
        prompts.write_text("".join(f"The story of number {number}\n" for number in range(N_PROMPTS)))
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    with ScriptedServer(answer=_tale, latency_seconds=latency_seconds) as server:
        yield (
            Places(
                base_url=server.base_url, model=model, gguf=gguf, prompts=prompts, zoo=zoo, small_zoo=small, logs=logs
            ),
            server,
        )


def _tale(prompt: str) -> str:
    """Right now and then, so that a score says something."""
    return f" {hashlib.sha256(prompt.encode()).hexdigest()[:6]} begins here. And so on"


def left_by(folder: Path) -> dict[str, Any]:
    """Everything that a command left for others, by path, times aside; what is not finished does not count."""
    found: dict[str, Any] = {}
    for path in finished(folder):
        name = path.relative_to(folder).as_posix()
        if name.endswith(TIMED):
            found[name] = _NUMBER.sub(b"#", path.read_bytes())
        elif path.suffix == ".json":
            content = path.read_bytes()
            found[name] = _without_times(json.loads(content.splitlines()[0] if ".units" in path.parts else content))
        elif path.suffix == ".jsonl" and path.name == "ledger.jsonl":
            found[name] = [_without_dates(json.loads(line)) for line in path.read_bytes().splitlines()]
        elif path.suffix == ".sqlite":
            found[name] = sorted(rows_of(path))
        else:
            found[name] = path.read_bytes()
    return found


def finished(folder: Path) -> list[Path]:
    """Its files, without those that are not finished, locks, and what SQLite keeps beside its own."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)
        and path.suffix not in (".lock", ".first")
        and not path.name.endswith(("-wal", "-shm", "-journal"))
    ]


def _without_times(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _without_times(value) for name, value in content.items() if name not in VOLATILE}
    return [_without_times(value) for value in content] if isinstance(content, list) else content


def _without_dates(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("date", "previous_sha256")}


def rows_of(path: Path) -> list[tuple[str, ...]]:
    """What a database holds, without when and from which files it was made; nothing, where its table is not there."""
    table, columns = ("replies", "key, question, reply") if "replies" in path.name else ("digests", "path, digest")
    with _copied(path) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return []
        rows = [tuple(row) for row in connection.execute(f"SELECT {columns} FROM {table}")]
    if table == "replies":
        return rows
    return [(name, json.dumps(_without_dates(json.loads(digest)), sort_keys=True)) for name, digest in rows]


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A database with its side files, elsewhere: to open one is to recover it, which is up to the software."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            if file.name.removeprefix(path.name) in ("", "-wal", "-journal"):
                shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder) / path.name


def quiet_run(scene: Scene, folder: Path, given: Places) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is there before an undisturbed run, and after it."""
    scene.in_folder(folder, given)
    before = left_by(folder)
    scene.complete(folder, given)
    return before, left_by(folder)


def same(found: Mapping[str, Any], expected: Mapping[str, Any], what: str = "") -> None:
    """Raises Lost: something is missing; AssertionError: something is different or too much."""
    if missing := sorted(set(expected) - set(found)):
        raise Lost(f"{what} missing: {missing}")
    assert set(found) == set(expected), f"{what} too much: {sorted(set(found) - set(expected))}"
    for name, content in expected.items():
        if isinstance(content, list) and isinstance(found[name], list) and len(found[name]) < len(content):
            raise Lost(f"{what} {name}: {len(found[name])} rows, expected {len(content)}")
        assert found[name] == content, f"{what} {name} differs: {_difference(found[name], content)}"


def _difference(one: Any, other: Any) -> str:
    first, second = repr(one), repr(other)
    place = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    return f"{first[max(0, place - 80) : place + 80]!r} against {second[max(0, place - 80) : place + 80]!r}"


def check_nothing_torn(folder: Path, before: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every file is what it was or what an undisturbed run leaves, and everything in the folder can be read."""
    store = Store(folder / "results")
    for rejected in (
        store.records()[1], store.performances()[1], store.fits()[1], store.estimates()[1],
        store.calibrations(CaseResult)[1],
    ):  # fmt: skip
        assert not rejected, rejected
    found = left_by(folder)  # fails at JSON that is cut off, and at a database that is damaged
    for name, content in found.items():
        if name.endswith(".sqlite"):
            assert set(content) <= set(expected.get(name, content)), f"{name} has rows that nobody asked for"
        else:
            assert content in (before.get(name), expected.get(name)), f"{name} is neither old nor new"
    for path in folder.rglob("replies.sqlite"):
        if rows_of(path):
            with _copied(path) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
                for row in connection.execute("SELECT key, question, reply, sha256, created FROM replies"):
                    assert _sound(row, row[1]) is not None, f"a damaged row in {path}"


def cached_prompts(folder: Path) -> set[str]:
    """The prompts that the cache of replies has an answer to."""
    path = folder / REPLIES
    return {json.loads(question)["prompt"] for _, question, _ in rows_of(path)} if path.exists() else set()


@dataclass(slots=True)
class Kept:
    """Records and measured units as they lay there, so that one that is written again is noticed."""

    folder: Path
    stamps: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """Note what is there."""
        self.stamps = {path: self._stamp(path) for path in self._records()}

    def check(self) -> None:
        """Raises Lost: one of them is gone or was made again."""
        for path, stamp in self.stamps.items():
            if not path.exists():
                raise Lost(f"{path.name} was there and is gone")
            if self._stamp(path) != stamp:
                raise Lost(f"{path.name} was finished and was made again")

    def _records(self) -> list[Path]:
        """A collection's record is written before its text, and so again after a kill in between."""
        return [
            path
            for path in finished(self.folder)
            if path.suffix == ".json" and "texts" not in path.parts and ".json" in path.name
        ]

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int]:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns


class Finished:
    """What a command had finished whenever it ended before its time: replies in the cache, records and units.

    Args:
        n_under_way: replies that may be missing after such an end, though the server sent them; they are asked again.
    """

    def __init__(self, scene: Scene, folder: Path, server: ScriptedServer, n_under_way: int = CONCURRENCY) -> None:
        self._server = server if scene.asks else None
        self._folder = folder
        self._n_under_way = n_under_way
        self._first = self._since = len(server.received)
        self._known_at: list[tuple[int, set[str]]] = []
        self._kept = Kept(folder)
        self.n_ends = 0

    def note_end(self) -> None:
        """Look at what is finished now; what was finished at the end before is there still."""
        self.n_ends += 1
        self._kept.check()
        self._kept.look()
        if self._server is not None:
            known = cached_prompts(self._folder)
            sent = {one.prompt for one in self._server.received[self._since :] if one.is_whole and one.did == "answer"}
            if len(sent - known) > self._n_under_way:
                raise Lost(f"{len(sent - known)} replies came in full and are not kept; {self._n_under_way} may be")
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
        if n_again > self._n_under_way * self.n_ends:
            raise Lost(f"{n_again} questions were asked again; at most {self._n_under_way} were under way at an end")
