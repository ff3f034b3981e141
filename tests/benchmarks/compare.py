"""What the benchmarks found beside a saved baseline: `python -m tests.benchmarks.compare FOUND [--save]`.

Only numbers without a unit of time are kept: shares of a limit, ratios, exponents. Seconds of one machine say nothing
of another, and little of the same one an hour later.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

BASELINE = Path(__file__).parent / "baseline.json"


def read(path: Path) -> dict[str, float]:
    """The numbers of a file that pytest-benchmark wrote, by test and name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        f"{one['name']}: {name}": round(float(value), 3)
        for one in content["benchmarks"]
        for name, value in one["extra_info"].items()
        if isinstance(value, int | float) and not name.endswith(("/s", "limit", "bare", "tokens", "seconds a cell"))
    }


def main(arguments: Sequence[str]) -> int:
    """Print both, or save what was found as the baseline."""
    found = read(Path(arguments[0]))
    if "--save" in arguments:
        BASELINE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{BASELINE}: {len(found)} numbers saved")
        return 0
    known = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    print(f"{'now':>12} {'baseline':>12}  what")
    for name in sorted({*found, *known}):
        now, before = (f"{numbers[name]:,.3g}" if name in numbers else "-" for numbers in (found, known))
        print(f"{now:>12} {before:>12}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
