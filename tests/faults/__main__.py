"""`python -m tests.faults --seed 1`: the whole battery with its full counts. A green result is kept, and shown."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.provenance import Start
from tests.faults import report
from tests.faults.ledger import read

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Run, add up, write; the exit status of the tests, or 1 where a row stays under its count."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of every choice that the cases leave to chance")
    parser.add_argument("--rows", default="", help="only these, such as ACD; nothing is kept then")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests")
    arguments = parser.parse_args()
    start = Start.now()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        ledger.touch()
        environment = os.environ | {"FAULTS": "full", "FAULTS_SEED": str(arguments.seed), "FAULTS_LEDGER": str(ledger)}
        environment |= {"OMP_NUM_THREADS": "1"}
        tests = sorted(
            str(path)
            for path in Path(__file__).parent.glob("test_*.py")
            if not arguments.rows or path.name.removeprefix("test_").split("_")[0].upper() in arguments.rows.upper()
        )
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-m", "faults", "--timeout", "900", *tests]
        command += ["-n", str(arguments.workers), "--dist", "worksteal"]
        status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        result = {
            "seed": arguments.seed,
            "commit": start.commit,
            "date": start.date,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}",
            "exit_status": status,
            "seconds": round(time.monotonic() - began, 1),
            "rows": report.added_up(read(ledger)),
        }
    if arguments.rows:
        print(json.dumps(result["rows"], indent=1))
        return status
    if short := report.below_floor(result):
        print("\n".join(short), file=sys.stderr)
    if status or short:
        print(f"not kept, docs/faults.md is as it was: {json.dumps(result['rows'])}", file=sys.stderr)
        return status or 1
    report.keep(result)
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
