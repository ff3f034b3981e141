"""What is installed: the contents of a wheel against the checkout, and the command in a folder with nothing in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from pathlib import Path

import pytest

from bench import __version__
from bench.cli import main

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "proxies", "tasks")
DIST_INFO = f"emergence_bench-{__version__}.dist-info"
GENERATED = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
"""What a wheel holds besides its packages."""

_BUILD_SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"


def in_checkout(*where: str) -> list[str]:
    """The files of the checkout that git has or would take, those of this machine alone left out."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout: git says which files belong to the packages")
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *where],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    return sorted({name for name in found if name and (ROOT / name).is_file()})  # one may be deleted and not yet told


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """Every file of the packages; none is left out of a wheel."""
    found = in_checkout(*PACKAGES)
    assert {"bench/cli.py", "bench/py.typed", "tasks/data/country.json", "proxies/features.json"} <= set(found)
    assert sum(name.endswith("/model.safetensors") for name in found) == 11
    assert {"proxies/ladder/README.md", "proxies/ladder/corpus.json"} <= set(found)  # with the licences of the corpus
    return found


@pytest.fixture(scope="module")
def source(expected: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the clutter of one that was worked in, so that nothing is built in the real one."""
    copy = tmp_path_factory.mktemp("source")
    for name in (*expected, "pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for clutter in (
        "tests/__init__.py", "tests/test_it.py", "tests/bench/__init__.py", "results/emergence/m/t.json",
        "docs/bench.md", "demo/results/a.json", "bench/__pycache__/cli.cpython-311.pyc",
        "tasks/data/__pycache__/x.cpython-311.pyc", ".mypy_cache/bench/cli.json", ".venv/lib/bench/__init__.py",
    ):  # fmt: skip
        (copy / clutter).parent.mkdir(parents=True, exist_ok=True)
        (copy / clutter).write_text("")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """Built without network, by the tools of this environment."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, check=True, timeout=120)
    (built,) = (source / "dist").iterdir()
    return built


def test_a_wheel_holds_the_packages_and_nothing_else(wheel: Path, expected: list[str]) -> None:
    assert wheel.name == f"emergence_bench-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
        assert sorted(held) == sorted([*expected, *(f"{DIST_INFO}/{name}" for name in GENERATED)])
        for name in expected:
            assert archive.read(name) == (ROOT / name).read_bytes(), name
    assert wheel.stat().st_size < 60e6  # a package index takes 100 MB; of these the ladder's weights are 45


def test_a_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        told = message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))
        entry_points = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        licence = archive.read(f"{DIST_INFO}/licenses/LICENSE")
    assert (told["Name"], told["Version"], told["Requires-Python"]) == ("emergence-bench", __version__, ">=3.11")
    assert (told["License-Expression"], told.get_all("License-File")) == ("MIT", ["LICENSE"])
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert entry_points.split("\n") == ["[console_scripts]", "bench = bench.__main__:main", ""]
    required = told.get_all("Requires-Dist") or []
    assert "torch>=2.10" in required and any("gguf" in one and "extra" in one for one in required)
    assert not [one for one in required if "pytest" in one and "extra" not in one]


def test_a_source_distribution_holds_what_a_wheel_is_built_from(source: Path, expected: list[str]) -> None:
    (source / "sdist").mkdir()
    subprocess.run([sys.executable, "-c", _BUILD_SDIST, "sdist"], cwd=source, check=True, timeout=120,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    with tarfile.open(source / "sdist" / f"emergence_bench-{__version__}.tar.gz") as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {*expected, "pyproject.toml", "README.md", "LICENSE"} <= held
    assert not [name for name in held if "__pycache__" in name or name.startswith(("results", "demo", ".venv"))]


@pytest.mark.parametrize(
    "command",
    [
        "features",
        "fit",
        "fit --target gpt2",
        "fit --problem texts",
        "estimate gpt2",
        "ledger predict gpt2",
        "leaderboard",
    ],
)
def test_a_command_that_needs_records_says_how_to_get_some(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("bench: ") and any(f"`bench {verb} " in last for verb in ("run", "query", "collect"))
    assert not list(tmp_path.iterdir())


def test_features_of_a_folder_without_records_says_how_to_get_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["features", "--results", str(tmp_path)])
    assert not ended.value.code
    out, err = capsys.readouterr()
    assert out.startswith("0 cells of 0 models")
    assert err == f"nothing in {tmp_path} to fit on; measure with `bench run MODEL` and `bench query MODEL`\n"


class Installed:
    """A new environment with the wheel and all that it needs, and a home and a folder with nothing in them."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.environment = folder / "environment"
        self.home, self.here = folder / "home", folder / "here"
        for made in (self.home, self.here):
            made.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True, timeout=120)
        options = ["--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
        pip = [str(self.environment / "bin" / "python"), "-m", "pip", "install", *options]
        for wanted in ("torch", f"{wheel}[gguf]"):  # torch first, as `make` does
            subprocess.run([*pip, wanted], check=True, timeout=900)

    def __call__(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command there; what of this process's environment could lead to the checkout is left out."""
        path = f"{self.environment / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=280, check=False
        )

    def files(self) -> Mapping[str, tuple[int, int]]:
        """Size and time of every file of the environment."""
        found = {str(path): path.stat() for path in self.environment.rglob("*") if path.is_file()}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}

    def written(self) -> set[str]:
        """What lies in the folder that commands are run in, two levels deep at most."""
        return {str(path.relative_to(self.here)) for path in (*self.here.glob("*"), *self.here.glob("*/*"))}


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Iterator[Installed]:
    yield Installed(tmp_path, wheel)
    shutil.rmtree(tmp_path)  # pytest would keep gigabytes


@pytest.mark.package
@pytest.mark.timeout(1500)
def test_an_installed_wheel_works_in_an_empty_folder(installed: Installed) -> None:
    bench = installed
    before = bench.files()

    where = bench(
        "python", "-c", "import bench, proxies, tasks; print(bench.__file__, proxies.__file__, tasks.__file__)"
    )
    assert where.stdout.count(str(bench.environment)) == 3, where.stderr
    version = bench("bench", "--version")
    assert (version.returncode, version.stdout.splitlines()[0]) == (0, f"bench {__version__}")
    usage = bench("python", "-m", "bench", "--help")
    assert usage.returncode == 0 and "Usage: bench " in usage.stdout and "leaderboard" in usage.stdout
    names = bench("bench", "tasks")
    assert names.returncode == 0 and all(name in names.stdout for name in ("country-capital", "text-sample", "antonym"))
    nothing = bench("bench", "leaderboard")
    assert nothing.returncode == 2 and "run `bench run MODEL` first" in nothing.stderr
    assert bench.written() == set()

    measured = bench("bench", "run", "gpt2-ladder-xs", "--limit", "50")
    assert measured.returncode == 0, measured.stderr
    assert "emergence in bits" in measured.stdout
    assert {"results", "results/emergence"} <= bench.written()
    board = bench("bench", "leaderboard")
    assert board.returncode == 0, board.stderr
    assert "gpt2-ladder-xs" in (bench.here / "leaderboard.md").read_text()

    completed = bench("bench", _BENCH_COMPLETE="complete_bash", COMP_WORDS="bench run gpt2-ladder-x", COMP_CWORD="2")
    assert completed.stdout.split() == ["gpt2-ladder-xs", "gpt2-ladder-xl"], completed.stderr
    assert bench.files() == before  # nothing is ever written where it is installed
