"""The direction of the data flow, read from the import statements themselves."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"openai", "torch", "transformers", "sklearn", "pandas", "huggingface_hub", "matplotlib", "ray", "accelerate"}


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, by full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: relative import"
            is_package = "." not in node.module  # then what is imported from it are modules
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module}
    return names


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: path.name)
def test_tasks_import_nothing_of_ours_and_nothing_heavy(path: Path) -> None:
    assert not packages(path) & ({"bench", "proxies"} | HEAVY)


@pytest.mark.parametrize("path", sorted((ROOT / "bench").rglob("*.py")), ids=lambda path: path.name)
def test_only_the_command_line_sees_proxies_and_nothing_sees_the_command_line(path: Path) -> None:
    shows_what_proxies_find = path.name in ("__main__.py", "terminal_estimate.py", "terminal_leaderboard.py")
    if not path.name.startswith("cli") and not shows_what_proxies_find:
        assert "proxies" not in packages(path)
        assert not {name for name in imported(path) if name.startswith("bench.cli")}


def test_one_module_imports_ray() -> None:
    """It is an optional extra, so that module is itself imported by name where it is asked for."""
    assert [path.name for path in sorted((ROOT / "bench").rglob("*.py")) if "ray" in packages(path)] == [
        "engine_ray.py"
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "proxies").glob("*.py")), ids=lambda path: path.name)
def test_proxies_see_plain_records_and_no_torch(path: Path) -> None:
    assert not packages(path) & {"torch", "transformers"}
    assert "matplotlib.pyplot" not in imported(path)
    assert {name for name in imported(path) if name.startswith("bench")} <= {
        "bench.records",
        "bench.performance",
        "bench.completions",
        "bench.fits",
        "bench.estimates",
        "bench.probe_records",
        "bench.progress",
        "bench.provenance",
        "bench.text_records",
        "bench.calibration.results",
        "bench.store",
        "bench.intervals",
        "bench.errors",
        "bench.escape",
        "bench.locks",
        "bench.sources",
        "bench.suffixes",
    }


@pytest.mark.parametrize(
    "module",
    [
        "bench.cli",
        "bench.catalog",
        "bench.records",
        "bench.store",
        "bench.terminal",
        "proxies.calibration",
        "proxies.leaderboard",
        "proxies.performance",
        "bench.query",
        "bench.collect",
        "bench.fits",
        "bench.probe_records",
        "bench.zoo",
        "bench.task_names",
        "bench.api.client",
        "tasks.check",
    ],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_help_answers_at_once() -> None:
    """Processor time, the best of three: what the command costs, whatever else the machine is doing."""

    def processor_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(processor_seconds() for _ in range(3)) < 0.4
