"""What the shell offers behind TAB, asked for as shells do: through the environment, answered on stdout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from bench import cli_completion
from bench.cli import app, main
from tests.test_imports import HEAVY

Offers = Callable[[str], list[str]]
INSTALLED = Path(sys.executable).with_name("bench")


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offers:
    """What bash is told when the last word of a command line is to be completed."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("_BENCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit) as ended:
            main([])
        assert not ended.value.code
        return capsys.readouterr().out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bench led", "ledger"),
        ("bench ledger pre", "predict"),
        ("bench tasks ", "show check"),
        ("bench run gpt2 --est", "--estimator"),
        ("bench run gpt2 --dtype b", "bfloat16"),
        ("bench run gpt2-ladder-x", "gpt2-ladder-xs gpt2-ladder-xl"),
        ("bench run gpt2 gpt2-ladder-xl", "gpt2-ladder-xl"),
        ("bench run gpt2 --tasks element", "element element-symbol"),
        ("bench run gpt2 --tasks country,col", "country,colour"),
        ("bench run gpt2 --tasks country,country", "country,country-capital country,country-currency "
         "country,country-demonym"),
        ("bench run gpt2 --tasks pa", "pairs"),
        ("bench run gpt2 --preset ", "quick paper"),
        ("bench run gpt2 --estimator n", "noisy_channel"),
        ("bench run gpt2 --text o", "openorca openhermes"),
        ("bench query gemma", "gemma-3-270m"),
        ("bench query gpt2 --tasks us", "us-state"),
        ("bench query gpt2 --mode c", "completion chat"),
        ("bench collect gemma", "gemma-3-270m"),
        ("bench collect --openings-of t", "text-sample"),
        ("bench probe --text t", "text-sample"),
        ("bench probe --reference t", "text-sample"),
        ("bench probe --proxy gpt2-ladder-m,gpt2-ladder-x", "gpt2-ladder-m,gpt2-ladder-xs "
         "gpt2-ladder-m,gpt2-ladder-xl"),
        ("bench probe --estimator c", "crossfit_nce"),
        ("bench features --estimator n", "noisy_channel"),
        ("bench fit --target gemma", "gemma-3-270m"),
        ("bench fit --proxies gemma-3-270m,smoll", "gemma-3-270m,smollm2-135m-instruct"),
        ("bench fit --problem c", "cells"),
        ("bench estimate gemma", "gemma-3-270m"),
        ("bench estimate gpt2 --proxy gpt2-ladder-xl", "gpt2-ladder-xl"),
        ("bench ledger predict gemma", "gemma-3-270m"),
        ("bench export --models gpt2,smoll", "gpt2,smollm2-135m-instruct"),
        ("bench models fetch gemma", "gemma-3-270m"),
        ("bench tasks show us", "us-state"),
        ("bench tasks show colour --model gemma", "gemma-3-270m"),
        ("bench zoo --models smollm2-135m-instruct@int", "smollm2-135m-instruct@int8 smollm2-135m-instruct@int4 "
         "smollm2-135m-instruct@int3 smollm2-135m-instruct@int2"),
        ("bench calibrate --part co", "coverage cost"),
        ("bench calibrate --estimator g", "gaussian"),
        ("bench calibrate --model gemma", "gemma-3-270m"),
        ("bench run ./gpt2", ""),  # then the shell offers files
    ],
)  # fmt: skip
def test_words_are_completed(offers: Offers, line: str, offered: str) -> None:
    assert offers(line) == offered.split()


def commands(group: typer.core.TyperGroup, path: str = "bench") -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, f"{path} {name}")
        elif isinstance(command, typer.core.TyperCommand):
            yield f"{path} {name}", command


def test_no_name_of_ours_is_left_without_completion() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    named = {"model", "models", "target", "proxy", "proxies", "tasks", "text", "preset", "estimator", "part"}
    seen = set()
    for path, command in commands(root):
        context = command.make_context(path, [], resilient_parsing=True)
        for parameter in command.params:
            if parameter.name in named:
                assert parameter.shell_complete(context, ""), f"{path}: {parameter.name}"
                seen.add(parameter.name)
    assert seen == named


def test_names_that_are_written_twice_agree() -> None:
    from bench.calibration.run import PARTS
    from bench.estimators import ESTIMATORS

    assert tuple(ESTIMATORS) == cli_completion.ESTIMATORS
    assert PARTS == cli_completion.PARTS


def test_completion_loads_nothing_heavy() -> None:
    code = f"""
import inspect, sys
from bench import cli, cli_completion
found = [one for name, one in inspect.getmembers(cli_completion, inspect.isfunction) if name[0] != "_"]
assert len(found) > 5 and all(one("") for one in found)
print("loaded", *sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["loaded"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_what_was_installed(tmp_path: Path) -> None:
    """`bench --install-completion` in a home of its own, then what it wrote, in a shell that reads it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("_", "COMP_"))}
    environment |= {"HOME": str(tmp_path), "BENCH": str(INSTALLED)}

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    installed = bash('"$BENCH" --install-completion; exit $?')
    assert installed.returncode == 0, installed.stderr
    script = tmp_path / ".bash_completions" / "bench.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text()
    asked = 'COMP_WORDS=(bench run gpt2 --tasks animal,us); COMP_CWORD=4; _bench_completion "$BENCH"; complete -p bench'
    done = bash(f'. {script}; {asked}; printf "%s\\n" "${{COMPREPLY[@]}}"')
    assert done.stdout.splitlines() == [
        "complete -o default -F _bench_completion bench",
        "animal,us-state",
    ], done.stderr


def test_the_module_completes_as_the_command() -> None:
    """`python -m bench` has the name of the command, in its usage and for completion."""
    environment = os.environ | {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": "bench led", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "bench"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "ledger\n"
