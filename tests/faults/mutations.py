"""`python -m tests.faults.mutations`: takes one safeguard after the other out of a copy, and runs the row against it.

A row that stays green without its safeguard tests nothing. Every change is text that occurs exactly once in its file.
A change counts as noticed if the same tests pass without it, in the same run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from bench.provenance import Start
from tests.faults import report
from tests.faults.__main__ import ROOT
from tests.faults.ledger import THE_TEST_ITSELF


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


MUTATIONS: tuple[Mutation, ...] = (
    # A
    Mutation(
        "a file is written in its place, not beside it and renamed",
        "bench/store.py",
        'descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=".tmp")',
        "descriptor, temporary = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), str(path)",
        "A",
        "query or run or predict",
    ),
    Mutation(
        "answers are not committed one by one",
        "bench/api/cache.py",
        "timeout=TRY_SECONDS, isolation_level=None, check_same_thread=False",
        'timeout=TRY_SECONDS, isolation_level="DEFERRED", check_same_thread=False',
        "A",
        "query",
    ),
    Mutation(
        "a measured condition is measured again",
        "bench/run.py",
        "elif (known := self.store.unit(unit.key)) is not None:",
        "elif (known := None) is not None:",
        "A",
        "run",
    ),
    Mutation(
        "a conversion is built where it will be found",
        "bench/conversion.py",
        'built = work / "converted"',
        "built = target",
        "A",
        "convert",
    ),
    Mutation(
        "a file has its name before its content is on the disk",
        "bench/store.py",
        "            os.fsync(file.fileno())\n",
        "",
        "A",
        "before_it_has_its_name",
    ),
    Mutation(
        "a folder is not synced when a file in it has its name",
        "bench/store.py",
        "        sync(path.parent)\n",
        "",
        "A",
        "before_it_has_its_name",
    ),
    Mutation(
        "a conversion has its name before its files are on the disk",
        "bench/cache.py",
        "        _sync_tree(built)\n",
        "",
        "A",
        "before_it_has_its_name",
    ),
    Mutation(
        "the cache is not synced when a conversion in it has its name",
        "bench/cache.py",
        "        sync(target.parent)\n",
        "",
        "A",
        "before_it_has_its_name",
    ),
    # B
    Mutation(
        "replies under way are given up at a signal",
        "bench/api/asking.py",
        "            await asyncio.wait({work}, timeout=LAST_SECONDS)\n",
        "",
        "B",
        "under_way",
    ),
    Mutation("a signal is not told of in words", "bench/interruption.py", "os.write(2, LINE)", "pass", "B"),
    Mutation(
        "SIGTERM is left to the system",
        "bench/interruption.py",
        "SIGNALS = (signal.SIGINT, signal.SIGTERM)",
        "SIGNALS = (signal.SIGINT,)",
        "B",
    ),
    Mutation(
        "a signal is heard in Python only",
        "bench/interruption.py",
        'threading.Thread(target=_watch, args=(read,), name="bench-signals", daemon=True).start()',
        "pass",
        "B",
        "long",
    ),
    Mutation(
        "a second signal is not heard",
        "bench/interruption.py",
        "        signal.signal(either, _end_at_once)\n",
        "        signal.signal(either, signal.SIG_IGN)\n",
        "B",
        "goes_on",
    ),
    Mutation(
        "an interrupted command ends with status 1",
        "bench/interruption.py",
        "os._exit(128 + number)",
        "os._exit(1)",
        "B",
    ),
    # C
    Mutation(
        "a full disk is not told of in words",
        "bench/store.py",
        "        os.replace(temporary, path)\n        temporary = None",
        "        os.replace(temporary, path)\n        temporary = None\n    except ZeroDivisionError:\n        pass\n"
        "    try:\n        pass",
        "C",
    ),
    Mutation(
        "standard output is not seen to the end",
        "bench/cli.py",
        "                    sys.stdout.flush()  # here, where a full disk can still be told of",
        "                    pass",
        "C",
        "standard_output",
    ),
    Mutation(
        "a device is replaced by a file",
        "bench/store.py",
        "if path.exists() and not path.is_file():",
        "if path.is_dir():",
        "C",
        "no_file",
    ),
    Mutation(
        "a cache of replies that cannot be written counts as damaged",
        "bench/api/cache.py",
        "        return is_forbidden or not _is_of_the_system(error)\n",
        "        return True\n",
        "C",
        "full_disk",
    ),
    Mutation(
        "a file that cannot be written whole stays half written",
        "bench/store.py",
        'descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=".tmp")',
        "descriptor, temporary = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), str(path)",
        "C",
        "limit",
    ),
    # D
    Mutation(
        "a lock is a file that must not be there yet",
        "bench/locks.py",
        "lock = FileLock(path, mode=0o666, poll_interval=PAUSE_SECONDS, thread_local=False, fallback_to_soft=False)",
        "from filelock import SoftFileLock\n\n    lock = SoftFileLock(path, lifetime=None, thread_local=False)",
        "D",
    ),
    Mutation(
        "reports and the leaderboard are not protected from those of fewer records",
        "bench/store.py",
        "with exclusive(self.root / LOCK_FILE):",
        "if True:",
        "D",
        "replaces_nothing",
    ),
    Mutation(
        "a cell is predicted by each of two processes",
        "proxies/ledger.py",
        "said = tuple(one for one in said if (one.task_hash, one.n_shots) not in known)",
        "said = tuple(said)",
        "D",
        "replaces_nothing",
    ),
    # E
    Mutation(
        "a 401 is tried again",
        "bench/api/retry.py",
        "        kind = _FINAL_STATUSES[status]\n",
        "        kind, is_retryable = _FINAL_STATUSES[status], True\n",
        "E",
        "passes or ends",
    ),
    Mutation(
        "an account without credit counts as a rate limit",
        "bench/api/retry.py",
        '        kind = "quota"\n',
        '        kind, is_retryable = "rate limit", True\n',
        "E",
        "passes or ends",
    ),
    Mutation(
        "a run that no question can be answered in goes on",
        "bench/api/breaker.py",
        "N_HOPELESS = 3\n",
        "N_HOPELESS = 3000\n",
        "E",
        "ends",
    ),
    Mutation(
        "a failed attempt is the last one",
        "bench/api/asking.py",
        "            if not came.is_retryable or n_attempts == self._limits.max_attempts:",
        "            if True:",
        "E",
        "passes or always",
    ),
    # F
    Mutation(
        "server errors are not tried again",
        "bench/api/retry.py",
        '        kind, is_retryable = "server error", True\n',
        '        kind, is_retryable = "server error", False\n',
        "F",
    ),
    Mutation(
        "a connection that broke off is not tried again",
        "bench/api/client.py",
        "    return Fault(kind=kind, message=message, is_retryable=True, may_be_billed=may_be_billed)",
        "    return Fault(kind=kind, message=message, is_retryable=False, may_be_billed=may_be_billed)",
        "F",
    ),
    Mutation(
        "a body that is no answer is not tried again",
        "bench/api/client.py",
        "        message=message,\n        is_retryable=True,\n",
        "        message=message,\n        is_retryable=False,\n",
        "F",
    ),
    # G
    Mutation("half of a given rate is used", "bench/api/pace.py", "SAFETY = 0.92\n", "SAFETY = 0.46\n", "G", "True"),
    Mutation(
        "a given rate is not kept",
        "bench/api/pace.py",
        "math.inf if rate_per_second is None else rate_per_second * SAFETY",
        "math.inf",
        "G",
        "True",
    ),
    Mutation(
        "a refusal slows nothing down",
        "bench/api/pace.py",
        "        self._rate = max(min(rate, self._rate), min(SLOWEST_PER_SECOND, self._ceiling))\n",
        "",
        "G",
        "False",
    ),
    # H
    Mutation(
        "what is under way is not reckoned with",
        "bench/api/budget.py",
        "        if self._fits(request, self._under_way):",
        "        if self._fits(request, []):",
        "H",
        "cap_ends or passed",
    ),
    Mutation(
        "a cap on money starts without prices",
        "bench/api/budget.py",
        "        if max_usd is not None and missing:",
        "        if False:",
        "H",
        "refuses",
    ),
    Mutation(
        "usage that is not reported costs nothing",
        "bench/api/budget.py",
        "charge.max_completion_tokens if completion is None else completion",
        "completion or 0",
        "H",
        "cap_ends or passed",
    ),
    Mutation(
        "a failed attempt is no request",
        "bench/api/budget.py",
        "        self.n_requests += 1\n",
        "        pass\n",
        "H",
        "cap_ends or billed",
    ),
    # I
    Mutation(
        "a kept reply is used whatever its checksum",
        "bench/api/cache.py",
        "    if asked != question or checksum != _checksum(digest, asked, reply, created):",
        "    if asked != question:",
        "I",
        "replies or row",
    ),
    Mutation(
        "a damaged reply is not counted",
        "bench/api/cache.py",
        "        if reply is None:\n            self._damaged_keys.add(digest)\n",
        "",
        "I",
        "replies or row",
    ),
    Mutation(
        "a cache of another schema is used",
        "bench/api/cache.py",
        'if not is_new and (shape != [("table", _TABLE)] or version != SCHEMA_VERSION):  # before it is changed',
        "if False:",
        "I",
        "no_cache",
    ),
    Mutation(
        "a digest in the index is used whatever its checksum",
        "proxies/digests.py",
        "    if checksum != _checksum(path, stamp, text):",
        "    if False:",
        "I",
        "index",
    ),
    Mutation(
        "a measured condition is used whatever its checksum",
        "bench/store.py",
        '    if has_more and checksum != f"{sha256(line)}\\n".encode():',
        "    if False:",
        "I",
        "condition",
    ),
    Mutation(
        "the condition of another key is used",
        "bench/store.py",
        "        return unit if unit.key == key else None",
        "        return unit",
        "I",
        "no_measured",
    ),
    # J
    Mutation(
        "a reply answers for any revision",
        "bench/api/keys.py",
        "        for later in (",
        '        del content["revision"]\n        for later in (',
        "J",
        "own",
    ),
    Mutation(
        "a reply answers for any limit on its tokens",
        "bench/query.py",
        "        max_tokens=ask.max_tokens,\n",
        "        max_tokens=1,\n",
        "J",
        "query",
    ),
    Mutation(
        "keys depend on the order of settings",
        "bench/records.py",
        'json.dumps(self.model_dump(mode="json"), sort_keys=True)',
        'json.dumps(self.model_dump(mode="json"))',
        "J",
        "disk",
    ),
    # K
    Mutation(
        "the model may be named after the key",
        "bench/answering.py",
        '        target.check_without_key("the name of the model", model)\n',
        "",
        "K",
        "python",
    ),
    Mutation(
        "prompts may hold the key",
        "bench/collect.py",
        '    target.check_without_key("one of the prompts", "\\n".join(request.prompts))\n',
        "",
        "K",
        "a_key_in_a_prompt",
    ),
    Mutation(
        "the last exception is shown by the framework of the command line",
        "bench/cli.py",
        "                command = typer.main.get_command(app)",
        "                command = app",
        "K",
        "exception or traceback",
    ),
    Mutation(
        "what is shown is not redacted",
        "bench/api/redaction.py",
        "(stream and cast(TextIO, RedactingStream(stream, redact)) for stream in usual)",
        "usual",
        "K",
    ),
    Mutation(
        "a key in an argument is not refused",
        "bench/cli_service.py",
        "        if any(holds(argument, key) for key in keys):",
        "        if False:",
        "K",
        "argument",
    ),
    # L
    Mutation("names of devices are folders", "bench/store.py", " and not _DEVICE.fullmatch(name):", ":", "L", "places"),
    Mutation(
        "a made name has no hash",
        "bench/store.py",
        "'surrogatepass')).hexdigest()[:10]}\"",
        "'surrogatepass')).hexdigest()[:0]}\"",
        "L",
        "places or come_back",
    ),
    Mutation(
        "upper case is a plain name",
        "bench/store.py",
        '_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*(',
        '_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(',
        "L",
        "places",
    ),
    Mutation(
        "links out of a results folder are followed",
        "bench/store.py",
        "if not end.is_relative_to(os.path.realpath(root)):",
        "if False:",
        "L",
        "links_in_a_results",
    ),
    # M
    Mutation(
        "a cell of the leaderboard is as it came",
        "bench/escape.py",
        'return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", printable(text))',
        "return printable(text)",
        "M",
        "stays_text and model",
    ),
    Mutation(
        "controls and directions are shown",
        "bench/escape.py",
        'return _INVISIBLE.sub("\\ufffd", re.sub(r"\\s+", " ", text)).strip()',
        "return text.strip()",
        "M",
        "stays_text and model",
    ),
    Mutation(
        "text in the page is markup",
        "bench/escape.py",
        "return html.escape(printable(text))",
        "return printable(text)",
        "M",
        "stays_text and model",
    ),
    Mutation(
        "formulas in CSV files are formulas",
        "proxies/frames.py",
        '_FORMULA = ("=", "+", "-", "@", "\\t", "\\r")',
        '_FORMULA = ("\\0",)',
        "M",
        "stays_text and model",
    ),
    Mutation(
        "a remark is printed as it came",
        "bench/terminal.py",
        "stderr().print(printable(text), soft_wrap=True)",
        "stderr().print(text, soft_wrap=True)",
        "M",
        "stays_text and reason",
    ),
    Mutation(
        "cells of a table are markup",
        "bench/cli_options.py",
        "console = Console(markup=False, ",
        "console = Console(markup=True, ",
        "M",
        "stays_text and (model or family)",
    ),
    # N
    Mutation(
        "a file of results may have any number of values",
        "bench/store.py",
        "    if has_too_many_values(content):\n",
        "    if False:\n",
        "N",
        "gigabytes",
    ),
    Mutation(
        "every value that is wrong is looked at",
        "bench/records.py",
        "if error.error_count() > MAX_FAULTS:",
        "if False:",
        "N",
        "named_with_its_field",
    ),
    Mutation(
        "unknown fields are ignored",
        "bench/records.py",
        'frozen=True, extra="forbid", strict=True',
        'frozen=True, extra="ignore", strict=True',
        "N",
        "named_with_its_field",
    ),
    Mutation(
        "names of fields are said as they came",
        "bench/records.py",
        "steps = [_cut(printable(str(step)), 80)",
        "steps = [_cut(str(step), 80)",
        "N",
        "named_with_its_field",
    ),
    Mutation(
        "numbers have no bounds",
        "bench/records.py",
        "Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]",
        "Finite = Annotated[float, Field(allow_inf_nan=False)]",
        "N",
        "named_with_its_field",
    ),
    Mutation(
        "a damaged file ends the leaderboard",
        "bench/store.py",
        "        return RejectedFile(path=relative, reason=str(error))",
        "        raise",
        "N",
        "named_with_its_field or mutated",
    ),
    Mutation(
        "a record of a later version takes the place of all others",
        "proxies/standings.py",
        "_version_ranked(place[1], versions) for place",
        "max(versions) for place",
        "N",
        "odd_record",
    ),
    # O
    Mutation(
        "code of a model is trusted",
        "bench/models.py",
        "config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)",
        "config = AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)",
        "O",
        "harmless",
    ),
    Mutation(
        "a model may have any number of blocks",
        "bench/models.py",
        "if isinstance(n_blocks, int) and not 1 <= n_blocks <= _MOST_BLOCKS:",
        "if False:",
        "O",
        "hostile_model_is_refused",
    ),
    Mutation(
        "a configuration may be of a larger model than its weights",
        "bench/models.py",
        "    _check_sizes(folder, config)\n",
        "",
        "O",
        "hostile_model_is_refused",
    ),
    Mutation(
        "weights may be NaN",
        "bench/models.py",
        "    check_finite(model, folder)\n",
        "",
        "O",
        "hostile_model_is_refused",
    ),
    Mutation(
        "a chat template may leave the prompt out",
        "bench/generation.py",
        "        if prompt.strip() not in text:",
        "        if False:",
        "O",
        "chat_template",
    ),
    # P
    Mutation(
        "random streams depend on PYTHONHASHSEED",
        "tasks/seeds.py",
        'digest = hashlib.sha256("\\x1f".join(map(str, labels)).encode()).digest()',
        "digest = hashlib.sha256(str(hash(labels)).encode()).digest()",
        "P",
        "hashes",
    ),
    Mutation(
        "random streams depend on how many were drawn before",
        "tasks/seeds.py",
        '    digest = hashlib.sha256("\\x1f".join(map(str, labels)).encode()).digest()',
        '    vars(generator)["n"] = labels = (vars(generator).get("n", (0,))[0] + 1,)\n'
        '    digest = hashlib.sha256("\\x1f".join(map(str, labels)).encode()).digest()',
        "P",
        "order",
    ),
    Mutation(
        "samples are in the order in which answers came",
        "bench/query.py",
        "return tuple(samples[index] for index in range(len(asked)))",
        "return tuple(samples.values())",
        "P",
        "query",
    ),
    # Q
    Mutation(
        "few models are fitted",
        "proxies/regression.py",
        "if n_models < FEWEST_MODELS or len(families) < FEWEST_FAMILIES:",
        "if False:",
        "Q",
        "few_models",
    ),
    Mutation(
        "what is the same everywhere is fitted",
        "proxies/regression.py",
        "    if values.nunique() < 2:\n",
        "    if False:\n",
        "Q",
        "odd_numbers",
    ),
    Mutation(
        "cells of a file may be what no record can hold",
        "proxies/frames.py",
        "    _refuse_impossible(found, path)\n",
        "",
        "Q",
        "from_a_file",
    ),
    Mutation(
        "a fit that no record holds is a traceback",
        "proxies/fitting.py",
        "    except ValidationError as error:\n",
        "    except ZeroDivisionError as error:\n",
        "Q",
        "odd_numbers",
    ),
    # R
    Mutation(
        "connections are not used again",
        "bench/api/http.py",
        "max_keepalive_connections=limits.max_concurrency",
        "max_keepalive_connections=0",
        "R",
    ),
    Mutation(
        "what came to an end counts as under way",
        "bench/api/budget.py",
        "        self._under_way.remove(charge)\n",
        "",
        "R",
    ),
)


def is_caught(mutation: Mutation, copy: Path) -> bool:
    """Whether the row fails in a copy of this project with the change made; the copy is as before afterwards.

    Raises:
        RuntimeError: the tests cannot be run, or do not come to an end.
    """
    path = copy / mutation.file
    usual = path.read_text()
    assert usual.count(mutation.old) == 1, f"{mutation.what}: not exactly once in {mutation.file}"
    path.write_text(usual.replace(mutation.old, mutation.new))
    try:
        status, said = tested(mutation, copy)
    finally:
        path.write_text(usual)
    # a case failed, not the test itself
    return status == 1 and bool(
        re.search(rf"row {mutation.row}: \d+ of \d+ cases failed, first: (?!{THE_TEST_ITSELF})", said)
    )


def tested(mutation: Mutation, copy: Path) -> tuple[int, str]:
    """Status and output of the tests that have to notice, in a copy of this project, up to the first that fails."""
    tests = [str(test) for test in (copy / "tests" / "faults").glob(f"test_{mutation.row.lower()}_*.py")]
    assert tests, f"row {mutation.row} has no tests"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "faults", "-p", "no:cacheprovider", *tests]
    command += ["-k", mutation.tests] if mutation.tests else []
    environment = os.environ | {
        "FAULTS": "few", "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"
    }  # fmt: skip
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{mutation.what}: its tests came to no end in 10 minutes") from error
    if done.returncode not in (0, 1):  # 1: tests failed
        raise RuntimeError(f"{mutation.what}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}")
    return done.returncode, done.stdout


def copied(copy: Path) -> Path:
    """The files of this project that version control knows, as they are now, in a new folder."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def main() -> int:
    """Try all, and keep what is found of each at once; the exit status is 1 if one was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument(
        "--only", default="", help="those whose description holds this; of the others stays what was found before"
    )
    parser.add_argument("--workers", type=int, default=2, help="how many are tried at the same time")
    arguments = parser.parse_args()
    only = arguments.only
    wanted = [mutation for mutation in MUTATIONS if only in mutation.what]
    start = Start.now()
    kept = report.mutations()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.workers) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(arguments.workers):
            copies.put(copied(Path(folder) / str(number)))

        green: set[tuple[str, str]] = set()

        def verdict(mutation: Mutation) -> str:
            copy = copies.get()
            try:
                if (mutation.row, mutation.tests) not in green:
                    if tested(mutation, copy)[0]:
                        return "TESTS FAIL WITHOUT IT"
                    green.add((mutation.row, mutation.tests))
                return f"caught by {mutation.row}" if is_caught(mutation, copy) else "NOT CAUGHT"
            except RuntimeError as error:
                return f"NOT CAUGHT, {error}"
            finally:
                copies.put(copy)

        for mutation, said in zip(wanted, pool.map(verdict, wanted), strict=True):
            print(f"{said}: {mutation.what}", flush=True)
            kept[mutation.what] = {
                "what": mutation.what, "file": mutation.file, "row": mutation.row,
                "is_caught": said.startswith("caught"), "commit": start.commit, "date": start.date,
            }  # fmt: skip
            report.keep_mutations([kept[one.what] for one in MUTATIONS if one.what in kept])
    return int(not all(kept[mutation.what]["is_caught"] for mutation in wanted))


if __name__ == "__main__":
    sys.exit(main())
