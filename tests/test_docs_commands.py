"""The commands that the pages show: all of them parse, what they name exists, and the quick ones run."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bench.cli import app, main
from tests.doc_pages import PAGES, ROOT, Command, blocks, commands

COMMANDS = tuple({command.line: command for page in PAGES for command in commands(page)}.values())
OF_BENCH = tuple(command for command in COMMANDS if command.words[0] == "bench")

RUN = (
    r"bench (models|tasks|ledger|run --help)",
    r"bench features --columns",
    r"bench schema( .*)?",
    r"bench tasks (check|show) counterpart\.json.*",
    r"bench run gpt2-ladder-xs .*--limit 50 --out try",
    r"bench query gpt2-ladder-xs .*--n-queries 10 --out try",
    r"bench plan gpt2-ladder-xs .*",
    r"bench (query|collect) \S+ .*--dry-run",
    r"bench query far-away .*--write-prompts questions\.jsonl",
    r"bench collect --openings-of text-sample .*",
    r"bench leaderboard (--results my-results --out my-leaderboard\.md|--html board\.html)",
)
"""Executed, in the order of the pages, in one folder: no network, no service, seconds."""

ONLY_PARSED = {
    "another test runs it": (r"bench run .*--estimator sign_patterns .*", r"bench export .*"),
    "weights that a test cannot count on: hub, package index, or a model of the reader's own": (
        r"bench (run|query) (MODEL|gpt2|gpt2@\S+|\./my-model-folder|model\.Q4_K_M\.gguf|EleutherAI/\S+|\$model)( .*)?",
        r"bench query smollm2-135m-instruct.*",
        r"bench plan \./my-model-folder.*",
        r"bench (models fetch|tasks show \S+ --model) \S+",
        r"bench add .*",
    ),
    "a service": (r"bench (query|collect) .*--(base-url|api-key-env) .*", r"bench query my-model --tasks all"),
    "files of the reader's own": (
        r"bench tasks check (my|capital)\.json",
        r"bench (query|collect|estimate|ledger predict) (my-model|far-away|big-base).*",
        r"bench probe .*",
        r"bench fit --results my-results",
    ),
    "minutes or more": (
        r"bench calibrate.*",
        r"bench plan \S+ .*--preset paper",
        r"bench (fit|features --csv cells\.csv)( .*)?",
        r"bench collect gpt2-ladder-xs .*",
        r"bench zoo.*",
    ),
    "it writes into the committed results": (r"bench leaderboard",),
    "it changes the reader's shell": (r"bench --install-completion",),
}
"""Why the others are not executed. The first pattern that fits a command decides; `RUN` comes before."""


def reason_not_to_run(command: Command) -> str | None:
    """None for a command that is executed."""
    if any(re.fullmatch(pattern, command.line) for pattern in RUN):
        return None
    for reason, patterns in ONLY_PARSED.items():
        if any(re.fullmatch(pattern, command.line) for pattern in patterns):
            return reason
    raise AssertionError(f"{command}: add it to RUN, or to ONLY_PARSED with the reason why it is not executed")


def parse(words: tuple[str, ...]) -> None:
    """Let the real parser have the words, without running what they ask for.

    Raises:
        Exception: of the parser: no such command or option, too many arguments, a value of the wrong type.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("bench", list(words))
    while hasattr(command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_pages_show_commands() -> None:
    assert len(COMMANDS) > 60
    assert {command.words[0] for command in COMMANDS} == {"bench", "make"}


@pytest.mark.parametrize("command", OF_BENCH, ids=str)
def test_a_command_parses(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where completion is installed
    with contextlib.suppress(typer.Exit, SystemExit):  # of --help, and of what answers while it is parsed
        parse(command.words[1:])


@pytest.mark.parametrize(
    "words", ["fly", "run", "run gpt2 --sede 1", "run gpt2 --seed one", "tasks show a b", "ledger --columns"]
)
def test_the_parser_refuses_what_is_wrong(words: str) -> None:
    with pytest.raises(Exception, match="(?i)no such|missing|is not a valid|unexpected|valid integer"):
        parse(tuple(words.split()))


@pytest.mark.parametrize("command", OF_BENCH, ids=str)
def test_a_command_is_executed_or_there_is_a_reason_why_not(command: Command) -> None:
    reason_not_to_run(command)


def test_no_rule_is_left_over() -> None:
    for pattern in (*RUN, *(pattern for patterns in ONLY_PARSED.values() for pattern in patterns)):
        assert any(re.fullmatch(pattern, command.line) for command in OF_BENCH), pattern


def test_targets_and_modules_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:`| {4})make ([\w-]+)", text)) <= targets, page
        for module in re.findall(r"python -m ([\w.]+)", text):
            assert importlib.util.find_spec(module) is not None, f"{page}: {module}"


def test_files_of_the_repository_exist() -> None:
    """Every path in backticks or commands that begins with one of our folders, patterns and new files aside."""
    written_later = {"results/texts/my-model.txt", "results/texts/big-base.txt", "bench/estimators/sign_patterns.py"}
    passed_over = re.compile(r"results/\.|.*<")  # caches, and paths with a place for a name
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for path in re.findall(r"(?<![\w/.-])((?:bench|docs|proxies|results|tasks|tests)/[\w./<>*-]*\w)", text):
            if path not in written_later and not passed_over.match(path):
                assert (ROOT / path).exists() or list(ROOT.glob(path)), f"{page}: {path}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's folder: the ledger of the project, one record, and the file that the page on tasks says to save."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "results").mkdir()
    (folder / "results" / "ledger.jsonl").symlink_to(ROOT / "results" / "ledger.jsonl")
    (folder / "my-results" / "emergence").mkdir(parents=True)
    record = ROOT / "results" / "emergence" / "gpt2-ladder-xs"
    (folder / "my-results" / "emergence" / record.name).symlink_to(record)
    (folder / "counterpart.json").write_text(blocks("docs/add-a-task.md", "json")[0], encoding="utf-8")
    (folder / "prompts.txt").write_text("The weather is\n", encoding="utf-8")
    with contextlib.chdir(folder):
        yield folder


@pytest.mark.parametrize("command", [one for one in OF_BENCH if reason_not_to_run(one) is None], ids=str)
def test_a_quick_command_runs(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(command.words[1:])
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    assert told.out or told.err
