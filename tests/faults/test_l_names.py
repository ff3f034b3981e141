"""Names that are paths, controls, look-alikes, devices and very long: all files inside, none shared, the name kept."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bench.calibration.results import CaseResult
from bench.errors import StorageError
from bench.estimates import EstimateRecord
from bench.fits import FitRecord
from bench.performance import PerformanceRecord, Sample, as_lines, sha256
from bench.probe_records import ProbeRecord
from bench.records import EmergenceRecord
from bench.schemas import KINDS
from bench.store import Store, samples_path, slug
from tests import strategies
from tests.bench.scripted_server import ScriptedServer
from tests.bench.tiny_models import save_list_model
from tests.faults.children import cli, done
from tests.faults.ledger import Cases
from tests.performance_factory import make_performance
from tests.record_factory import make_record

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
SAFE = set("abcdefghijklmnopqrstuvwxyz0123456789._-")
ASKED = ("--tasks", "country-capital", "--shots", "1", "--n-queries", "2")

PARTS = 4
"""Tests among which the fixed names are dealt."""


def names_of(cases: Cases, part: int, quick: int) -> list[str]:
    """Some of the fixed names, as arguments of a process can be; one in `PARTS` of them for the battery."""
    chosen = cases.chosen([f"{place:03d}" for place in range(part, len(strategies.NAMES), PARTS)], quick=quick)
    names = dict.fromkeys((*("../../x", "a\nb")[part : part + 1], *(strategies.NAMES[int(place)] for place in chosen)))
    return [name for name in names if "\0" not in name]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def seen_alike(path: str) -> str:
    """What file systems that ignore case, or write accents in one way, make of a path."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", path).casefold())


def check_portable(relative: str) -> None:
    """A path that every file system takes, and that leads nowhere else."""
    for part in relative.split("/"):
        assert part and not set(part) - SAFE and len(part.encode()) <= 255, relative
        assert part not in (".", "..") and not part.endswith((".", " ")), relative
        assert part.split(".")[0] not in DEVICES, f"{relative}: the name of a device"


def places(store: Store, name: str) -> Iterable[tuple[str, Path]]:
    """Where everything would lie that is called so."""
    rows = {kind: KINDS[kind].type.model_validate_json(strategies.rows()[kind][0]) for kind in (
        "emergence", "performance", "probe", "fit", "estimate", "calibration-case")}  # fmt: skip
    emergence, performance, probe = rows["emergence"], rows["performance"], rows["probe"]
    fit, estimate, case = rows["fit"], rows["estimate"], rows["calibration-case"]
    assert isinstance(emergence, EmergenceRecord) and isinstance(performance, PerformanceRecord)
    assert isinstance(probe, ProbeRecord) and isinstance(fit, FitRecord)
    assert isinstance(estimate, EstimateRecord) and isinstance(case, CaseResult)
    for field in ("model", "task"):
        yield f"emergence by {field}", store.record_path(emergence.key.model_copy(update={field: name}))
        yield f"performance by {field}", store.performance_path(performance.key.model_copy(update={field: name}))
    for field in ("model", "text", "reference"):
        yield f"probe by {field}", store.probe_path(probe.key.model_copy(update={field: name}))
    yield "fit by target", store.fit_path(fit.key.model_copy(update={"target": name}))
    for field in ("model", "proxy"):
        yield f"estimate by {field}", store.estimate_path(estimate.key.model_copy(update={field: name}))
    for field in ("case", "estimator"):
        yield f"case by {field}", store._calibration_path(case.key.model_copy(update={field: name}))


def generated(cases: Cases, n: int, is_wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Those of the fixed names that are wanted, and as many others, each once."""
    found = dict.fromkeys(filter(is_wanted, strategies.NAMES))
    n_wanted = n + len(found)
    while len(found) < n_wanted:
        if is_wanted(name := strategies.name(cases.rng)):
            found.setdefault(name)
    return list(found)


def is_kept_by_records(name: str) -> bool:
    """Whether a record can hold it: no half of a surrogate pair, neither empty nor endless."""
    return 1 <= len(name) <= 300 and not any("\ud800" <= letter <= "\udfff" for letter in name)


def test_every_name_has_places_of_its_own_inside_the_folder(cases: Cases, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    taken: dict[tuple[str, str], str] = {}
    for name in generated(cases, cases.n(quick=150, full=1500)):
        with cases.case(f"the places of {name!r}"):
            for what, path in places(store, name):
                relative = path.relative_to(store.root).as_posix()
                check_portable(relative)
                assert path.resolve().is_relative_to(store.root.resolve())
                without_digest = seen_alike(re.sub(r"\.[0-9a-f]{8}\.json$", "", relative))
                first = taken.setdefault((what, without_digest), name)
                assert first == name, f"{what}: {name!r} and {first!r} share {without_digest}"


def test_names_come_back_through_the_files_of_one_folder(cases: Cases, tmp_path: Path) -> None:
    """Written and read again, models and tasks alike; nothing lies anywhere else."""
    store = Store(tmp_path / "in" / "results")
    found = generated(cases, cases.n(quick=40, full=2000), is_kept_by_records)
    written: list[str] = []
    before = set(os.listdir("/")) | set(os.listdir(tmp_path.parent))
    for name in found:
        with cases.case(f"{name!r} through its files"):
            samples = [Sample(task=name, n_shots=1, index=0, prompt="x", reply="y")]
            record = make_performance(model=name, task=found[-1] if name == found[0] else name)
            record = record.model_copy(update={"samples_sha256": sha256(as_lines(samples))})
            path = store.write_performance(record, samples)
            written.append(name)
            again = store.performance(record.key)
            assert again is not None and (again.key.model, again.key.task) == (name, record.key.task)
            assert samples_path(path).read_bytes() == as_lines(samples)
            emergence = make_record(model=name, task=name)
            store.write_record(emergence)
            assert store.record(emergence.key) == emergence
    with cases.case("all of them together", n=0):
        stored, rejected = store.performances()
        assert not rejected and sorted(item.record.key.model for item in stored) == sorted(written)
        records, rejected = store.records()
        assert not rejected and sorted(item.record.key.task for item in records) == sorted(written)
        assert all(path.startswith("in/results/") for path in tree(tmp_path))
        paths = [path.removeprefix("in/results/") for path in tree(tmp_path)]
        assert len({seen_alike(path) for path in paths}) == len(paths)
        assert set(os.listdir("/")) | set(os.listdir(tmp_path.parent)) == before


@pytest.mark.parametrize("part", range(PARTS))
def test_bench_query_and_collect_keep_to_the_folder(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """What a service calls its model: any text that can be printed."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "prompts.txt").write_text("Once upon\nThe sun\n")
    results, accepted = tmp_path / "results", []
    with ScriptedServer(answer=lambda prompt: " Paris is there.\n") as server:
        for place, name in enumerate(names_of(cases, part, quick=part // 2)):
            with cases.case(f"bench query and collect {name!r}"):
                is_name = bool(name.strip()) and name.isprintable() and len(name) <= 300
                end = ("--base-url", server.base_url, "--", name)
                status = 0 if is_name else 2
                commands = {
                    "query": ("query", *ASKED, "--out", results),
                    "collect": ("collect", "--prompts", tmp_path / "prompts.txt", "--results", results),
                }
                for what in ("query", "collect") if place % 3 == 0 else ("query",):
                    said = done(cli, *commands[what], *end, log=tmp_path / f"{what}{place}", status=status)
                    assert "Traceback" not in said and "\x1b" not in said
                if is_name:
                    accepted.append(name)
    with cases.case("what is there then", n=0):
        records = [json.loads(path.read_text()) for path in sorted(results.glob("performance/*/*.json"))]
        assert sorted(record["key"]["model"] for record in records) == sorted(accepted)
        texts = [json.loads(path.read_text())["key"]["model"] for path in results.glob("texts/*.json")]
        assert len(set(texts)) == len(texts) and set(texts) <= set(accepted)
        check_tree(tmp_path, results)


def check_tree(tmp_path: Path, results: Path) -> None:
    """Files lie in the results folder, each under a portable name, apart from logs and what the test put there."""
    assert tree(tmp_path / "cwd") == {}
    for path in tree(results):
        check_portable(path.removeprefix("."))  # hidden ones are ours
    assert len({seen_alike(path) for path in tree(results)}) == len(tree(results))


@pytest.mark.parametrize("part", range(2))
def test_names_of_tasks_from_files_keep_to_the_folder(cases: Cases, tmp_path: Path, part: int) -> None:
    """A task file may call its task what it likes; what cannot be printed is refused with line and key."""
    content = json.loads(strategies.task_files()[1])
    content["pairs"] = {f"number {place}": [f"word{place}"] for place in range(12)}
    results, accepted = tmp_path / "results", []
    (tmp_path / "cwd").mkdir()
    with ScriptedServer(answer=lambda prompt: " word1\n") as server:
        for place, name in enumerate(names_of(cases, part, quick=1)[: 13 if part else None]):
            with cases.case(f"a task called {name!r}"):
                path = tmp_path / f"task-{place}.json"
                path.write_text(json.dumps(content | {"name": name}))
                is_name = name == name.strip() and name.isprintable() and 1 <= len(name) <= 100
                said = done(
                    cli, "query", "big-1", "--task-file", path, "--shots", "1", "--n-queries", "2", "--out", results,
                    "--base-url", server.base_url, log=tmp_path / f"log-{place}", status=0 if is_name else 2,
                )  # fmt: skip
                assert "Traceback" not in said
                assert is_name or f"task-{place}.json:1: name: " in said, said
                accepted += [name] if is_name else []
    with cases.case("what is there then", n=0):
        records = [json.loads(path.read_text()) for path in sorted(results.glob("performance/*/*.json"))]
        assert sorted(record["key"]["task"] for record in records) == sorted(accepted)
        check_tree(tmp_path, results)


FOLDERS = (
    "plain", "con", "nul.txt", "UPPER", "upper", "a b", "a:b", "a__b", "a--b", "..a", "-rf", "caf\u00e9", "cafe\u0301",
    "\u202egnp", "x" * 200, "\U0001f600", "a;b|c", "$HOME", "[red]x[/red]", "=cmd", "a.", "a ",
)  # fmt: skip


def test_folders_of_models_keep_to_the_results_folder(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, results, accepted = save_list_model(tmp_path / "model"), tmp_path / "results", []
    before = tree(model)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for place, name in enumerate(cases.chosen(FOLDERS, quick=1)):
        with cases.case(f"bench run a folder called {name!r}"):
            home = tmp_path / f"home-{place}"
            (home / name).parent.mkdir(parents=True)
            (home / name).symlink_to(model, target_is_directory=True)
            is_name = name.isprintable()
            said = done(
                cli, "run", home / name, "--tasks", "country", "--limit", "20", "--n-names", "6", "--n-shots", "2",
                "--out", results, log=tmp_path / f"log-{place}", status=0 if is_name else 2,
            )  # fmt: skip
            assert "Traceback" not in said
            accepted += [name] if is_name else []
    with cases.case("what is there then", n=0):
        records, rejected = Store(results).records()
        assert not rejected and len(records) == len(accepted)
        known = sorted(item.record.key.model for item in records)
        assert known == sorted(Path(name).name for name in accepted)
        assert tree(model) == before, "a model's folder was written to"
        check_tree(tmp_path, results)


@pytest.mark.parametrize("what", ["emergence", "model", "performance", ".units", "file", "samples"])
def test_links_in_a_results_folder_lead_nothing_out_of_it(cases: Cases, tmp_path: Path, what: str) -> None:
    """Folders that are links out of it are refused in words; files that are links are replaced, not followed."""
    outside, store = tmp_path / "outside", Store(tmp_path / "results")
    outside.mkdir()
    (outside / "kept").write_text("kept")
    samples = [Sample(task="country", n_shots=1, index=0, prompt="x", reply="y")]
    answers = make_performance().model_copy(update={"samples_sha256": sha256(as_lines(samples))})
    record = make_record()
    link = {
        "emergence": store.root / "emergence", "model": store.root / "emergence" / slug("tiny"),
        "performance": store.root / "performance", ".units": store.root / ".units",
        "file": store.record_path(record.key), "samples": samples_path(store.performance_path(answers.key)),
    }[what]  # fmt: skip
    link.parent.mkdir(parents=True)
    is_file = what in ("file", "samples")
    link.symlink_to(outside / "kept" if is_file else outside, target_is_directory=not is_file)
    with cases.case(f"a link at {what}"):
        writes = {
            "performance": lambda: store.write_performance(answers, samples),
            "samples": lambda: store.write_performance(answers, samples),
            ".units": lambda: store.write_unit(record.measurements["trained"]),
        }
        write = writes.get(what, lambda: store.write_record(record))
        if is_file:
            write()
            assert store.record(record.key) == record or store.performance(answers.key) == answers
        else:
            with pytest.raises(StorageError, match="a link leads out of .*; put a folder in its place"):
                write()
            with pytest.raises(StorageError, match="a link leads out of "):
                store.check_writable("tiny", kind="performance" if what == "performance" else "emergence")
        assert tree(outside) == {"kept": b"kept"}


def test_a_link_to_the_results_folder_itself_is_followed(cases: Cases, tmp_path: Path) -> None:
    """Results on another disk are no way out."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk", target_is_directory=True)
    with cases.case("the folder is a link"):
        store, record = Store(tmp_path / "results"), make_record()
        store.write_record(record)
        assert store.record(record.key) == record and Store(tmp_path / "disk").record(record.key) == record


LINKED = ("config.json", "tokenizer.json", "model.safetensors", "generation_config.json", "bench.json")


@pytest.mark.parametrize("name", LINKED)
def test_links_in_the_folder_of_a_model_are_read_and_never_shown(cases: Cases, tmp_path: Path, name: str) -> None:
    """A file of a model that is a link to something private: its content is in no message and no record."""
    model = save_list_model(tmp_path / "model")
    private = tmp_path / "private"
    private.write_text("root:x:0:0:canary-of-a-private-file:/root:/bin/sh\n")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(private)
    with cases.case(f"{name} is a link"):
        log = tmp_path / "log"
        try:
            said = done(
                cli, "run", model, "--tasks", "country", "--limit", "20", "--out", tmp_path / "r", log=log, status=2
            )
        except AssertionError:
            if name not in ("generation_config.json", "bench.json"):
                raise
            said = log.read_text()  # which no measurement needs
        assert "Traceback" not in said and "canary" not in said
        assert not any(b"canary" in content for content in tree(tmp_path / "r").values())
        assert private.read_text().startswith("root:")
