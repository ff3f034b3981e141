"""A canary key that must not turn up: not in output, logs, caches, records or the leaderboard, in whatever form."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.store import Store
from tasks import RANKED_TASKS
from tests.bench.api.canary import FORMS, hits
from tests.bench.api.questions import CANARY
from tests.bench.scripted_server import STATUS_FAULTS, Faults, ScriptedServer, always, at
from tests.bench.tiny_models import save_list_model
from tests.faults.children import KILLED, Child, cli, wait_for
from tests.faults.ledger import NOT_IN_THE_SLICE, Cases
from tests.record_factory import make_record

DATA = Path(__file__).parent.parent.parent / "tasks" / "data"
ENVIRONMENT = {"CANARY_KEY": CANARY, "OPENAI_LOG": "debug"}
WITH_KEY = ("--api-key-env", "CANARY_KEY")


def assert_clean(folder: Path, *texts: str) -> None:
    """No form of the key is in a text, in a file of the folder or in the name of one."""
    for text in texts:
        assert hits(text) == []
    for path in folder.rglob("*"):
        assert hits(str(path)) == []
        if path.is_file():
            assert hits(path.read_bytes().decode("latin-1")) == [], path


def debugging(*arguments: str | Path) -> None:
    """The command with everything logged, and its last exception shown as by the interpreter."""
    logging.basicConfig(level=logging.DEBUG)
    try:
        cli(*arguments)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.stderr.flush()
        os._exit(1)


def failing(*arguments: str | Path) -> None:
    """A mistake of our own in the middle, of which the message, a local variable and the cause hold the key."""
    from bench.answering import Asking

    def ask(*_: object) -> None:
        try:
            {}[CANARY]
        except KeyError as error:
            raise RuntimeError(f"failed with {CANARY}") from error

    Asking.ask = ask  # type: ignore[assignment,method-assign]
    debugging(*arguments)


def failing_thread(*arguments: str | Path) -> None:
    """The same in another thread; the command itself goes on."""
    import bench.query

    usual = bench.query.assignments

    def assignments(*given: Any) -> Any:
        thread = threading.Thread(target=lambda: {}[CANARY])
        thread.start()
        thread.join()
        return usual(*given)

    bench.query.assignments = assignments
    debugging(*arguments)


def logging_itself(*arguments: str | Path) -> None:
    """Log records that hold the key in message, arguments and traceback, and a warning."""
    import bench.query

    usual = bench.query.assignments

    def assignments(*given: Any) -> Any:
        logging.getLogger("some.logger").warning("key %s and %r", CANARY, {"a": CANARY})
        print(f"to stdout {CANARY}")
        print(f"to stderr {CANARY}", file=sys.stderr)
        try:
            raise ValueError(f"bad key {CANARY}")
        except ValueError:
            logging.getLogger("openai.some").exception("failed", stack_info=True)
        return usual(*given)

    bench.query.assignments = assignments
    debugging(*arguments)


def shown(
    target: Callable[..., object], *arguments: str | Path, log: Path, environment: Mapping[str, str] = ENVIRONMENT
) -> tuple[int, str]:
    """Exit status and what was shown of a command in a process of its own."""
    with Child(target, *arguments, log=log, environment=environment) as child:
        return child.wait(120), child.text()


def query_of(server: ScriptedServer, out: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "query", "big-1", "--tasks", "antonym", "--shots", "2", "--n-queries", "6", "--base-url", server.base_url,
        "--timeout", "20", "--max-attempts", "2", "--out", out, *WITH_KEY, *more,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a server says, and whether questions fail by it."""

    faults: Faults = field(default=at({}))
    settings: Mapping[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    status: int = 0


def _in_answer(form: str) -> Said:
    return Said(settings={"answer": lambda _: f" hot {FORMS[form]} {FORMS[form]}"})


SAID: dict[str, Said] = {f"{form} in answers": _in_answer(form) for form in FORMS} | {
    "in answer, model and headers": Said(settings={"echo_key": True}),
    "in answer and model, as JSON": Said(settings={"echo_key": True}, more=("--json",)),
    "in chat": Said(settings={"echo_key": True}, more=("--mode", "chat")),
    "as the model": Said(settings={"model_id": CANARY}),
    "as the reason to finish": Said(
        settings={"extra": {"choices": [{"text": " hot", "index": 0, "finish_reason": CANARY}]}}
    ),
    "in other fields": Said(settings={"extra": {"system_fingerprint": CANARY, CANARY: CANARY}}),
    "as usage": Said(settings={"usage": lambda *_: {"prompt_tokens": CANARY, CANARY: 1}}),
    **{
        f"in some of {fault}": Said(
            faults=at({1: fault, 3: fault}), settings={"echo_key": True}, status=int(fault in ("400", "404"))
        )
        for fault in ("400", "404", "429", "500", "html")
    },
    **{
        f"in every {fault}": Said(faults=always(fault), settings={"echo_key": True}, status=1)
        for fault in ("401", "quota", "html", "to the key")
    },
}


@pytest.mark.parametrize("half", [0, 1])
def test_what_a_server_says_of_the_key_is_kept_and_shown_nowhere(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: int
) -> None:
    moved = (302, {"Location": f"http://127.0.0.1:9/{FORMS['url']}/v1?key={CANARY}"}, {"message": CANARY})
    monkeypatch.setitem(STATUS_FAULTS, "to the key", moved)
    for name in cases.chosen(tuple(SAID)[half::2], quick=3):
        with cases.case(name):
            said, folder = SAID[name], tmp_path / name
            folder.mkdir()
            with ScriptedServer(faults=said.faults, **said.settings) as server:
                status, text = shown(
                    debugging, *query_of(server, folder / "out", *said.more), log=tmp_path / f"{name}.log"
                )
                assert server.received[0].headers["authorization"] == f"Bearer {CANARY}"
            assert status == said.status, text
            assert "DEBUG" in text
            assert_clean(folder, text)
            if "answers" in name or "every" in name:
                everything = text + "".join(path.read_text() for path in folder.rglob("*.jsonl"))
                assert "[redacted]" in everything


BY_MISTAKE: dict[str, tuple[str, ...]] = {
    "as the model": ("query", CANARY, *WITH_KEY),
    "as a part of the model": ("query", f"org/{CANARY}", *WITH_KEY),
    "as one argument more": ("query", "big-1", CANARY, *WITH_KEY),
    "as a task": ("query", "big-1", "--tasks", CANARY, *WITH_KEY),
    "as a number": ("query", "big-1", "--seed", CANARY, *WITH_KEY),
    "as a choice": ("query", "big-1", "--mode", CANARY, *WITH_KEY),
    "as an option": ("query", "big-1", f"--{CANARY}", *WITH_KEY),
    "as a folder": ("query", "big-1", "--out", f"out/{FORMS['url']}", *WITH_KEY),
    "as a cache": ("query", "big-1", f"--cache={CANARY}", "--api-key-env=CANARY_KEY"),
    "for the name of the variable": ("query", "big-1", "--api-key-env", CANARY),
    "for the name, joined": ("query", "big-1", f"--api-key-env={CANARY}"),
    "as the user of an address": ("query", "big-1", "--base-url", f"https://{CANARY}@host/v1", *WITH_KEY),
    "as a password, and no key": ("query", "big-1", "--base-url", f"https://user:{CANARY}@host/v1"),
    "in a path": ("query", "big-1", "--base-url", f"https://host/{FORMS['base64']}/v1", *WITH_KEY),
    "in a query": ("query", "big-1", "--base-url", f"https://host/v1?key={CANARY}"),
    "in capitals": ("query", "big-1", "--base-url", f"https://host/{CANARY.upper()}", *WITH_KEY),
    "of collect": ("collect", CANARY, "--prompts", "prompts.txt", *WITH_KEY),
    "of add": ("add", CANARY, "--yes", *WITH_KEY),
}


@pytest.mark.parametrize("half", [0, 1])
def test_a_key_given_as_an_argument_is_refused_and_not_repeated(cases: Cases, tmp_path: Path, half: int) -> None:
    for name in cases.chosen(tuple(BY_MISTAKE)[half::2], quick=2):
        with cases.case(name):
            folder = tmp_path / name
            folder.mkdir()
            target = _Within(folder)
            status, text = shown(target, *BY_MISTAKE[name], log=tmp_path / f"{name}.log")
            assert status == 2, text
            assert "Traceback" not in text
            assert_clean(folder, text)
            assert list(folder.iterdir()) == []


@dataclass(frozen=True, slots=True)
class _Within:
    """The command in a folder; one that can be handed to another process."""

    folder: Path

    def __call__(self, *arguments: str) -> None:
        os.chdir(self.folder)
        cli(*arguments)


def test_a_model_named_after_the_key_is_refused_from_python_too(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.errors import UsageError
    from bench.query import query
    from tests.bench.querying import request, service
    from tests.bench.told import Told

    monkeypatch.setenv("CANARY_KEY", CANARY)
    with cases.case("the name of a model"), ScriptedServer() as server:
        with pytest.raises(UsageError, match="the name of the model holds the key") as caught:
            list(query(request(tmp_path, model=CANARY, service=service(server, key_variable="CANARY_KEY")), Told()))
        assert server.received == []
        assert_clean(tmp_path, str(caught.value))


FAILING = {"a traceback": (failing, 1), "a traceback of a thread": (failing_thread, 0), "logs": (logging_itself, 0)}


def test_tracebacks_logs_and_prints_of_our_own_hold_no_key(cases: Cases, tmp_path: Path) -> None:
    for name in cases.chosen(tuple(FAILING), quick=3):
        target, expected = FAILING[name]
        with cases.case(name), ScriptedServer() as server:
            folder = tmp_path / name
            status, text = shown(target, *query_of(server, folder), log=tmp_path / f"{name}.log")
            assert status == expected, text
            assert "[redacted]" in text
            assert name == "logs" or "Traceback" in text
            assert_clean(folder, text)


PROGRAM = """
import sys
import bench.answering
def ask(*_):
    raise RuntimeError("failed with " + sys.argv[-1][::-1])
bench.answering.Asking.ask = ask
from bench.cli import main
main(sys.argv[1:-1])
"""


def test_the_interpreter_shows_a_last_exception_without_the_key(cases: Cases, tmp_path: Path) -> None:
    with cases.case("a traceback of the interpreter"), ScriptedServer() as server:
        environment = os.environ | ENVIRONMENT
        environment.pop("OPENAI_BASE_URL", None)
        arguments = [str(argument) for argument in query_of(server, tmp_path / "out")]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments, CANARY[::-1]],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 1
        assert "RuntimeError: failed with [redacted]" in done.stderr
        assert_clean(tmp_path, done.stdout, done.stderr)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_a_killed_run_leaves_holds_no_key(cases: Cases, tmp_path: Path, number: signal.Signals) -> None:
    """The log of the database is beside it then, and temporary files may be."""
    with cases.case(number.name), ScriptedServer(echo_key=True, latency_seconds=0.1) as server:
        arguments = query_of(server, tmp_path / "out", "--n-queries", "60")
        with Child(debugging, *arguments, log=tmp_path / "log", environment=ENVIRONMENT) as child:
            assert wait_for(lambda: server.n_answered >= 12, 100)
            child.send(number)
            assert child.wait(20) == (KILLED if number == signal.SIGKILL else 130)
            text = child.text()
        assert (tmp_path / "out" / ".replies" / "replies.sqlite-wal").exists() or number != signal.SIGKILL
        assert_clean(tmp_path, text)


def test_collected_texts_and_the_leaderboard_hold_no_key(cases: Cases, tmp_path: Path) -> None:
    out, board = tmp_path / "out", tmp_path / "leaderboard.md"
    (tmp_path / "prompts.txt").write_text("Once upon a time\nThere was a king\n")
    with ScriptedServer(answer=lambda _: f" and {CANARY} lived there. " * 4, echo_key=True) as server:
        with cases.case("a collected text"):
            status, text = shown(
                debugging, "collect", "big-1", "--prompts", tmp_path / "prompts.txt", "--results", out,
                "--base-url", server.base_url, *WITH_KEY, log=tmp_path / "collect.log",
            )  # fmt: skip
            assert status == 0, text
            assert_clean(tmp_path, text)
            assert "[redacted]" in (out / "texts" / "big-1.txt").read_text()
        with cases.case("the leaderboard and its page"):
            shown(debugging, *query_of(server, out), log=tmp_path / "query.log")
            for task in RANKED_TASKS:
                Store(out).write_record(make_record(model="big-1", task=task))
            status, text = shown(
                cli, "leaderboard", "--results", out, "--out", board, "--html", tmp_path / "board.html",
                log=tmp_path / "board.log",
            )  # fmt: skip
            assert status == 0, text
            assert "| big-1 |" in (text_of_board := board.read_text()) or "| big&#45;1 |" in text_of_board
            assert "big-1" in (tmp_path / "board.html").read_text()
            assert_clean(tmp_path, text)


LIKE_CONFIG = {"api_key": CANARY, CANARY: {"headers": [f"Bearer {CANARY}"]}}
"""What somebody may have left in a file beside a model."""


@NOT_IN_THE_SLICE
def test_a_key_in_the_files_of_a_model_is_not_repeated(cases: Cases, tmp_path: Path) -> None:
    """In entries that no record has: where a model comes from, its family and its licence are shown to everybody."""
    for name in cases.chosen(("config.json", "bench.json", "generation_config.json", "tokenizer_config.json"), quick=1):
        with cases.case(f"in {name}"):
            folder, out = tmp_path / name, tmp_path / f"{name} out"
            save_list_model(folder / "model")
            path = folder / "model" / name
            there = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(there | LIKE_CONFIG))
            text = ""
            for number, command in enumerate(
                (
                    ("run", folder / "model", "--tasks", ",".join(RANKED_TASKS), "--limit", "20", "--n-names", "6",
                     "--n-shots", "2", "--out", out / "results"),
                    ("query", folder / "model", "--tasks", "antonym", "--shots", "1", "--n-queries", "2",
                     "--out", out / "results"),
                    ("leaderboard", "--results", out / "results", "--out", out / "board.md",
                     "--html", out / "board.html"),
                )
            ):  # fmt: skip
                status, said = shown(
                    debugging, *command, log=tmp_path / f"{name} {number}",
                    environment=ENVIRONMENT | {"XDG_CACHE_HOME": str(out / "cache"), "HF_HUB_OFFLINE": "1"},
                )  # fmt: skip
                assert status == 0, said
                text += said
            assert_clean(out, text)
            assert "emergence/model/country." in (out / "board.md").read_text()


def test_a_key_in_a_prompt_is_refused(cases: Cases, tmp_path: Path) -> None:
    """It would be sent, and be in the samples of the text."""
    (tmp_path / "prompts.txt").write_text(f"Tell me of a fox\nMy key is {CANARY}\n")
    with cases.case("in a prompt"), ScriptedServer() as server:
        status, text = shown(
            debugging, "collect", "big-1", "--prompts", tmp_path / "prompts.txt", "--base-url", server.base_url,
            "--results", tmp_path / "results", *WITH_KEY, log=tmp_path / "log",
        )  # fmt: skip
        assert status == 2 and "one of the prompts holds the key" in text, text
        assert server.received == []
        assert_clean(tmp_path / "results", text)


def test_a_key_in_a_task_file_is_refused(cases: Cases, tmp_path: Path) -> None:
    """Its words would be in prompts, answers and records."""
    sound = json.loads((DATA / "antonym.json").read_text())
    first = next(iter(sound["pairs"]))
    changes: dict[str, dict[str, Any]] = {
        "its sources": {"sources": [CANARY]},
        "a question": {"pairs": sound["pairs"] | {CANARY: ["x"]}},
        "an answer": {"pairs": sound["pairs"] | {first: [CANARY]}},
    }
    for name in cases.chosen(tuple(changes), quick=2):
        with cases.case(f"in {name} of a task"), ScriptedServer() as server:
            folder, file = tmp_path / name, tmp_path / f"{name}.json"
            folder.mkdir()
            file.write_text(json.dumps(sound | {"name": "mine", "version": 1} | changes[name]))
            status, text = shown(
                debugging, "query", "big-1", "--task-file", file, "--shots", "2", "--n-queries", "6",
                "--base-url", server.base_url, "--out", folder, *WITH_KEY, log=tmp_path / f"{name}.log",
            )  # fmt: skip
            assert status == 2 and "the task 'mine' holds the key" in text, text
            assert server.received == []
            assert_clean(folder, text)
