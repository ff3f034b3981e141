"""The lock file, the advisories that are kept here, and the licences of what is installed."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from bench.dependencies import ADVISORIES, audit, installed, licence_of, licences, locked, weak

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements.lock"


def test_the_lock_file_has_the_tested_versions_of_all_that_is_asked_for() -> None:
    pins, tested = locked(LOCK), locked(ROOT / "constraints.txt")
    assert {name: version for name, version in pins.items() if tested.get(name) not in (None, version)} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in ("gguf", "dev"))
    for requirement in map(Requirement, chain(project["dependencies"], *extras)):
        if requirement.name != "torch":  # another file for every kind of accelerator
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_every_file_that_may_be_installed_has_a_hash() -> None:
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK.read_text())[1:]
    assert len(entries) == len(locked(LOCK)) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)


def test_no_version_of_the_lock_file_is_one_that_an_advisory_speaks_of() -> None:
    assert weak(locked(LOCK) | {"torch": locked(ROOT / "constraints.txt")["torch"]}) == []


@pytest.mark.parametrize(
    ("package", "version", "is_weak"),
    [
        ("torch", "2.9.1", True),
        ("torch", "2.13.0+cpu", False),
        ("diskcache", "99", True),
        ("pillow", "11.2.1", True),
        ("pillow", "11.1.0", False),
        ("h11", "0.14.0", True),
    ],
)
def test_old_versions_are_found(package: str, version: str, is_weak: bool) -> None:
    assert bool(weak({package: version})) == is_weak


def test_advisories_can_be_read() -> None:
    for advisory in ADVISORIES:
        assert advisory.package == canonicalize_name(advisory.package)
        SpecifierSet(advisory.versions)
        assert re.fullmatch(r"CVE-20\d\d-\d{4,}", advisory.name)


def test_a_weak_version_is_named_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.dependencies.find_spec", lambda _: None)  # no question to a service from a test
    lock = tmp_path / "requirements.lock"
    lock.write_text("h11==0.14.0 \\\n    --hash=sha256:" + "0" * 64 + "\nrich==15.0.0\n")
    assert audit(lock) == 1
    out, err = capsys.readouterr()
    assert "3 packages" in out and "1 apply" in out and "was not asked" in out
    assert err == "h11 0.14.0: CVE-2025-43859\n"
    lock.write_text("rich==15.0.0\n")
    assert audit(lock) == 0


def test_everything_that_is_installed_states_a_licence(capsys: pytest.CaptureFixture[str]) -> None:
    found = installed()
    assert {"numpy", "torch", "tokenizers", "certifi"} <= set(found)  # certifi: of a package of a package
    assert "emergence-bench" not in found
    assert licence_of(found["numpy"]).startswith("BSD-3-Clause")
    assert licences(as_json=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(found) and rows["torch"]["version"] == found["torch"].version
    assert licences(as_json=False) == 0
    assert "Apache" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("openai "))
