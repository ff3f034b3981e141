"""What this software is built on: licences of what is installed, and whether a version is one to stay away from.

python -m bench.dependencies licences [--json]    every package that is installed for this one, with its licence
python -m bench.dependencies audit [LOCK]         the versions of a lock file, or those that are installed

The audit asks the advisory service of pip-audit where that is installed and the service answers, and says for how many
packages it did. Without a network it looks at `ADVISORIES` alone, which is no substitute: it is what a new machine must
never fall behind.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PACKAGE = "emergence-bench"
LICENCE_CHARACTERS = 60
"""Some packages put the whole text where the name belongs."""

SERVICE_SECONDS = 120

OWN_BUILDS = ("torch",)
"""Not in the lock file, because there is another file for every kind of accelerator."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """A weakness that was published.

    Attributes:
        versions: those that have it, as in a requirement; all of them if empty.
    """

    name: str
    package: str
    versions: str


ADVISORIES = (
    Advisory("CVE-2023-32309", "pymdown-extensions", "<10"),
    Advisory("CVE-2023-47248", "pyarrow", "<14.0.1"),
    Advisory("CVE-2024-3651", "idna", "<3.7"),
    Advisory("CVE-2024-5206", "scikit-learn", "<1.5"),
    Advisory("CVE-2024-11392", "transformers", "<4.48"),
    Advisory("CVE-2024-34062", "tqdm", "<4.66.3"),
    Advisory("CVE-2024-39689", "certifi", "<2024.7.4"),
    Advisory("CVE-2024-47081", "requests", "<2.32.4"),
    Advisory("CVE-2024-53899", "virtualenv", "<20.26.6"),
    Advisory("CVE-2025-27516", "jinja2", "<3.1.6"),
    Advisory("CVE-2025-32434", "torch", "<2.6"),
    Advisory("CVE-2025-43859", "h11", "<0.16"),
    Advisory("CVE-2025-4565", "protobuf", "<5.29.5"),
    Advisory("CVE-2025-47273", "setuptools", "<78.1.1"),
    Advisory("CVE-2025-48379", "pillow", ">=11.2,<11.3"),
    Advisory("CVE-2025-50181", "urllib3", "<2.5"),
    Advisory("CVE-2025-69872", "diskcache", ""),  # unpickles what lies in its folder
    Advisory("CVE-2026-24747", "torch", "<2.10"),
)


def installed(package: str = PACKAGE) -> dict[str, Distribution]:
    """What is installed of all that a package asks for, its extras included, by name; the package itself is not."""
    found: dict[str, Distribution] = {}
    own = distribution(package)
    waiting = list(_asked_for(own, own.metadata.get_all("Provides-Extra") or ()))
    known = {canonicalize_name(package): set[str]()}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in known and requirement.extras <= known[name]:
            continue
        known[name] = known.get(name, set()) | requirement.extras
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of an extra that nobody asked for
            continue
        waiting += _asked_for(found[name], requirement.extras)
    found.pop(canonicalize_name(package), None)
    return dict(sorted(found.items()))


def _asked_for(package: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    for line in package.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def licence_of(package: Distribution) -> str:
    """The licence that a package states: an SPDX expression, its classifiers, words, or a file; else "unknown"."""
    if stated := package.metadata.get_all("License-Expression"):
        return str(stated[0])
    classifiers = package.metadata.get_all("Classifier") or ()
    names = [line.rsplit(" :: ", 1)[1] for line in classifiers if line.startswith("License :: OSI Approved :: ")]
    if names:
        return ", ".join(sorted(names))
    words = "\n".join(package.metadata.get_all("License") or ()).strip()
    for file in package.files or ():
        if not words and re.match(r"(?i)licen[cs]e|copying", file.name):
            words = file.read_text().strip()
    return words.splitlines()[0].strip()[:LICENCE_CHARACTERS] if words else "unknown"


def locked(path: Path) -> dict[str, str]:
    """The versions of a lock file by name."""
    pins = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def weak(versions: Mapping[str, str]) -> list[str]:
    """In words, the versions that `ADVISORIES` speaks of."""
    return [
        f"{advisory.package} {versions[advisory.package]}: {advisory.name}"
        for advisory in ADVISORIES
        if advisory.package in versions
        and SpecifierSet(advisory.versions).contains(versions[advisory.package], prereleases=True)
    ]


def asked_of_the_service(lock: Path) -> tuple[list[str], int]:
    """What pip-audit says of a lock file, in words, and for how many packages the service had an answer."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--progress-spinner", "off", "--timeout", "5", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SERVICE_SECONDS)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return [], 0
    known = [package for package in packages if "vulns" in package]
    found = [f"{one['name']} {one['version']}: {weakness['id']}" for one in known for weakness in one["vulns"]]
    return found, len(known)


def audit(lock: Path | None) -> int:
    """Print what is known of the versions; the exit status."""
    own = {name: package.version for name, package in installed().items()}
    versions = own if lock is None else {name: own[name] for name in OWN_BUILDS if name in own} | locked(lock)
    found = weak(versions)
    print(f"{len(versions)} packages, {len(ADVISORIES)} advisories that are kept here: {len(found)} apply")
    if lock is None or find_spec("pip_audit") is None:
        print("the advisory service was not asked: that takes a lock file and pip-audit")
    else:
        said, n_known = asked_of_the_service(lock)
        found += said
        print(f"the advisory service answered for {n_known} of {len(versions)} packages: {len(said)} advisories apply")
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


def licences(*, as_json: bool) -> int:
    """Print what is installed, with licences; the exit status is 1 where a package states none."""
    rows = [(name, package.version, licence_of(package)) for name, package in installed().items()]
    if as_json:
        print(json.dumps([dict(zip(("name", "version", "licence"), row, strict=True)) for row in rows], indent=1))
    else:
        width = max(len(name) for name, _, _ in rows)
        for name, version, licence in rows:
            print(f"{name:{width}}  {version:12}  {licence}")
    return int(any(licence == "unknown" for _, _, licence in rows))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.dependencies", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("licences").add_argument("--json", action="store_true")
    commands.add_parser("audit").add_argument("lock", type=Path, nargs="?")
    arguments = parser.parse_args()
    return licences(as_json=arguments.json) if arguments.command == "licences" else audit(arguments.lock)


if __name__ == "__main__":
    sys.exit(main())
