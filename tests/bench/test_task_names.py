"""Tasks as commands name them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import hub_text
from bench.errors import UsageError
from bench.hub_text import HUB_TEXTS, HubText, fetch_text, read_sentences
from bench.task_names import find_tasks, task_options


def test_tasks_come_once_each_in_the_order_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "prose.txt"
    text.write_text("One is here. Two is there.", encoding="utf-8")
    found = find_tasks(["country", "antonym", "country"], texts=[str(text), "text-sample"])
    assert [task.name for task in found] == ["country", "antonym", "text:prose", "text-sample"]


def test_a_file_with_the_name_of_another_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "antonym.json"
    content = {
        "schema": 1, "name": "antonym", "kind": "pairs", "version": 1, "item_prefix": " ", "arrow": ":",
        "answer_prefix": " ", "separator": "\n", "pairs": {"a": ["b"]},
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match="a shipped task is called 'antonym'; give yours another name"):
        find_tasks([], files=[path])
    other = tmp_path / "other.json"
    path.write_text(json.dumps(content | {"name": "mine"}), encoding="utf-8")
    other.write_text(json.dumps(content | {"name": "mine", "version": 2}), encoding="utf-8")
    with pytest.raises(UsageError, match="two different tasks are called 'mine'"):
        find_tasks([], files=[path, other])


@pytest.mark.parametrize(
    ("names", "files", "texts", "message"),
    [
        ((), (), (), "no task to do; give --tasks with some of country"),
        (("cuontry",), (), (), "unknown task 'cuontry'; did you mean country.*expected one of country, animal, colour"),
        ((), ("none.json",), (), "none.json"),
        ((), (), ("none.txt",), "none.txt is no file"),
    ],
)
def test_what_is_no_task_is_refused(
    names: tuple[str, ...], files: tuple[str, ...], texts: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        find_tasks(names, files=[Path(file) for file in files], texts=texts)


def test_a_command_names_a_task_as_it_was_named() -> None:
    assert task_options("country") == ["--tasks", "country"]
    assert task_options("text-sample") == ["--tasks", "text-sample"]
    assert task_options("text:prose") == ["--text", "prose.txt"]
    assert task_options("text:openorca") == ["--text", "openorca"]
    assert task_options("mine") == ["--task-file", "mine.json"]


def test_a_data_set_is_read_by_the_real_library_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local folder in the layout of the hub stands in for the hub, which is not asked."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"question": "?", "response": f"Answer {index} is long. It has two sentences."} for index in range(3)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = HubText(repo=str(folder), licence="MIT", prose=HUB_TEXTS["openorca"].prose)
    monkeypatch.setitem(HUB_TEXTS, "openorca", source)
    task = fetch_text("openorca")
    assert task.name == "text:openorca" and task.licence == "MIT"
    assert task.sentences[:2] == ("Answer 0 is long.", "It has two sentences.") and len(task.sentences) == 4
    (folder / "train.jsonl").unlink()
    monkeypatch.setitem(HUB_TEXTS, "empty", HubText(repo=str(folder), licence="MIT", prose=lambda row: [""]))
    assert fetch_text("openorca") == task  # from the cache
    (folder / "train.jsonl").write_text('{"response": null}', encoding="utf-8")
    with pytest.raises(UsageError, match="holds no sentence"):
        fetch_text("empty")
    assert not (tmp_path / "cache" / "texts" / "empty.txt").exists()
    assert list(HUB_TEXTS["openhermes"].prose({"conversations": [
        {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]})) == ["A"]  # fmt: skip


def test_a_data_set_that_cannot_be_had_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(repo: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(hub_text, "_ask_hub", unreachable)
    with pytest.raises(UsageError, match=r"Open-Orca/OpenOrca cannot be read \(ConnectionError: no route\); without"):
        read_sentences(HUB_TEXTS["openorca"])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"need one more library: pip install datasets"):
        read_sentences(HUB_TEXTS["openorca"])
