"""`python -m tests.faults.mutations`: takes one safeguard after the other out of a copy, and runs the row against it.

A row that stays green without its safeguard tests nothing. Every change is text that occurs exactly once in its file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults import report
from tests.faults.__main__ import ROOT, commit_of_checkout


@dataclass(frozen=True, slots=True)
class Mutation:
    """One safeguard taken out.

    Attributes:
        row: letter of the row that has to notice.
        tests: what of its module is run, as for pytest's -k; all of it if empty.
    """

    what: str
    file: str
    old: str
    new: str
    row: str
    tests: str = ""


MUTATIONS: tuple[Mutation, ...] = ()


def is_caught(mutation: Mutation, copy: Path) -> bool:
    """Whether the row fails in a copy of this project with the change made; the copy is as before afterwards."""
    path = copy / mutation.file
    usual = path.read_text()
    assert usual.count(mutation.old) == 1, f"{mutation.what}: not exactly once in {mutation.file}"
    path.write_text(usual.replace(mutation.old, mutation.new))
    tests = [str(test) for test in (copy / "tests" / "faults").glob(f"test_{mutation.row.lower()}_*.py")]
    assert tests, f"row {mutation.row} has no tests"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "faults", "-p", "no:cacheprovider", *tests]
    command += ["-k", mutation.tests] if mutation.tests else []
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    finally:
        path.write_text(usual)
    if done.returncode not in (0, 1):  # 1: tests failed
        raise RuntimeError(f"{mutation.what}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}")
    return done.returncode == 1


def main() -> int:
    """Try all; the exit status is 1 if one was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="those whose description holds this; nothing is kept then")
    only = parser.parse_args().only
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        for mutation in MUTATIONS:
            if only in mutation.what:
                caught = is_caught(mutation, copy)
                print(f"{'caught by ' + mutation.row if caught else 'NOT CAUGHT'}: {mutation.what}", flush=True)
                found.append({"what": mutation.what, "file": mutation.file, "row": mutation.row, "is_caught": caught})
    if not only:
        result = {"commit": commit_of_checkout(), "date": datetime.now(UTC).date().isoformat(), "mutations": found}
        report.RESULTS.mkdir(exist_ok=True)
        (report.RESULTS / "mutations.json").write_text(json.dumps(result, indent=1) + "\n")
        report.write()
    return int(not all(one["is_caught"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
