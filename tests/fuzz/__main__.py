"""`python -m tests.fuzz record --seconds 60`: looks for inputs that break a target, and keeps them in its corpus.

Guided by coverage with atheris where that is installed, which only its own environment has to be:
`python -m venv FOLDER`, `FOLDER/bin/pip install atheris`, and PYTHONPATH with the packages of the usual one. Without it
hypothesis looks, with the inputs that it keeps itself.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NAMES = ("record", "task", "reply")
MAX_BYTES = 1 << 16
"""Of an input; a record of the tests has 10,000."""

CRASHES = "crashes"
"""Folder in the corpus of a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of one target.

    Attributes:
        corpus: of this target alone.
    """

    target: str
    seconds: float
    seed: int
    corpus: Path

    @property
    def crashes(self) -> Path:
        """Where inputs that broke the target are kept."""
        return self.corpus / CRASHES

    def n_crashes(self) -> int:
        """Inputs that are there now."""
        return len(list(self.crashes.glob("*.input")))


def main() -> int:
    """Run one target, or all; the exit status is 1 if an input broke one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*NAMES, "all"))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--corpus", type=Path, default=Path(".fuzz"), help="folder; each target has one of its own in it"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_new = 0
    for target in NAMES if arguments.target == "all" else (arguments.target,):
        corpus = arguments.corpus.resolve() / target
        session = Session(target=target, seconds=arguments.seconds, seed=arguments.seed, corpus=corpus)
        session.crashes.mkdir(parents=True, exist_ok=True)
        if arguments.inside:
            with_atheris(session)
        before = session.n_crashes()
        run = watched if importlib.util.find_spec("atheris") else with_hypothesis
        print(f"{target}: {run(session)}, {session.n_crashes() - before} new crashes in {session.crashes}", flush=True)
        n_new += session.n_crashes() - before
    return int(n_new > 0)


def watched(session: Session) -> str:
    """Run atheris in a process of its own, which never returns; what it says of itself at the end."""
    command = [sys.executable, "-m", "tests.fuzz", session.target, "--inside", "--seconds", str(session.seconds)]
    command += ["--seed", str(session.seed), "--corpus", str(session.corpus.parent)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    inited = re.search(r"INITED\s+cov: (\d+) ft: (\d+)", done.stderr)
    ended = re.search(r"DONE\s+cov: (\d+) ft: (\d+)", done.stderr)
    ran = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    if not (inited and ended and ran):
        (session.crashes / f"of-the-fuzzer-{session.seed}.input").write_text(done.stderr[-10_000:])
        return f"the fuzzer ended with {done.returncode}:\n{done.stderr[-3000:]}\n"
    new, features = (int(ended[place]) - int(inited[place]) for place in (1, 2))
    n_runs, n_seconds = int(ran[1]), int(ran[2])
    coverage = f"coverage {int(ended[1]):,} of which {new:,} new, {features:,} new features"
    return f"{n_runs:,} executions in {n_seconds} s, {coverage}"


def with_atheris(session: Session) -> None:
    """Instrument what reads, then look until the time is over; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["bench", "tasks", "tests.fuzz.targets"]):
        from tests.fuzz import targets

    rng = random.Random(session.seed)

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 3:
            with contextlib.suppress(ValueError, RecursionError):
                return targets.mutated(session.target, data, seed)[:max_size]
        return bytes(atheris.Mutate(data, max_size)) or rng.randbytes(1)

    for data in targets.seeds(session.target):
        (session.corpus / f"{hashlib.sha1(data).hexdigest()}.seed").write_bytes(data)
    settings = [f"-max_total_time={session.seconds:.0f}", f"-seed={session.seed}", f"-max_len={MAX_BYTES}"]
    settings += ["-timeout=60", "-rss_limit_mb=4096", "-verbosity=1", f"-artifact_prefix={session.crashes}/"]
    keep = kept(targets.TARGETS[session.target], session)
    atheris.Setup([sys.argv[0], *settings, str(session.corpus)], keep, custom_mutator=mutated)
    atheris.Fuzz()


def with_hypothesis(session: Session) -> str:
    """Damaged and random inputs until the time is over."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from hypothesis.database import DirectoryBasedExampleDatabase

    from tests.fuzz import targets

    keep = kept(targets.TARGETS[session.target], session)
    began = list(targets.seeds(session.target))
    damaged = st.tuples(st.sampled_from(began), st.integers(0, 2**32 - 1)).map(
        lambda pair: targets.mutated(session.target, *pair)
    )
    until, n_runs, round_ = time.monotonic() + session.seconds, 0, 0

    def one(data: bytes) -> None:
        nonlocal n_runs
        n_runs += 1
        keep(data)

    while time.monotonic() < until:
        profile = settings(
            max_examples=500, deadline=None, suppress_health_check=list(HealthCheck),
            database=DirectoryBasedExampleDatabase(session.corpus / "hypothesis"),
        )  # fmt: skip
        profile(seeded(session.seed * 1_000_003 + round_)(given(damaged | st.binary(max_size=500))(one)))()
        round_ += 1
    return f"{n_runs:,} executions, coverage not measured (atheris is not installed)"


def kept(target: Callable[[bytes], None], session: Session) -> Callable[[bytes], None]:
    """The target, with each new way to break it written down beside its traceback instead of raised."""
    seen: set[str] = set()

    def run(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
            name = hashlib.sha1(f"{type(error).__name__} {where}".encode()).hexdigest()[:12]
            if name not in seen:
                seen.add(name)
                (session.crashes / f"{name}.input").write_bytes(data)
                (session.crashes / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    return run


if __name__ == "__main__":
    sys.exit(main())
