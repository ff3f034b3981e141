"""The results folder: whole-or-nothing writes, look-up by key, a schema check on every read.

results/emergence/<model>/<task>.<preset>.<estimator>.seed<seed>.<key>.json     one record a run
results/performance/<model>/<task>.<mode>.seed<seed>.<key>.json                 one record a model and task
results/performance/<model>/<task>.<mode>.seed<seed>.<key>.samples.jsonl        what was asked and answered
results/probe/<proxy>/<text>.<reference>.<estimator>.seed<seed>.<key>.json       one record a pair of texts and proxy
results/fits/<problem>/<target>.<key>.json      one fit each
results/estimates/<model>/<source>.<mode or proxy>.seed<seed>.<key>.json      one record an estimate
results/.units/<key>.json           one measured condition each, shared by runs and reused after a kill; its checksum in
                                    a second line
results/calibration/{cases,coverage}/<estimator>/<case>.seed<seed>.<key>.json and calibration/cost/<case>....json
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from bench.cache import sync
from bench.calibration.results import CaseKey, CaseResult, CostKey, CostResult, CoverageKey, CoverageResult
from bench.errors import RecordError, StorageError
from bench.escape import printable
from bench.estimates import EstimateKey, EstimateRecord
from bench.fits import FitKey, FitRecord
from bench.locks import exclusive
from bench.performance import PerformanceKey, PerformanceRecord, Sample, as_lines, sha256
from bench.probe_records import ProbeKey, ProbeRecord
from bench.records import EmergenceRecord, Measurement, RecordKey, Row, UnitKey, first_fault

MAX_RECORD_BYTES = 64 << 20
"""No record comes near it; a larger file is not one of ours."""

MAX_RECORD_VALUES = 500_000
"""Twenty times the largest record; a value of a type that does not belong there takes up to kilobytes of memory."""

MAX_SAMPLES_BYTES = 256 << 20
MAX_SAMPLES = 500_000
"""Lines of a samples file; 10,000 questions at a dozen numbers of shots are a fourth of it."""

AnyRow = TypeVar("AnyRow", bound=Row)
Keyed = TypeVar(
    "Keyed",
    EmergenceRecord,
    PerformanceRecord,
    FitRecord,
    EstimateRecord,
    ProbeRecord,
    Measurement,
    CaseResult,
    CoverageResult,
    CostResult,
)
AnyKey = RecordKey | PerformanceKey | FitKey | EstimateKey | ProbeKey | UnitKey | CaseKey | CoverageKey | CostKey
Calibrated = CaseResult | CoverageResult | CostResult

Kept = TypeVar("Kept", CaseResult, CoverageResult, CostResult)
CALIBRATION_FOLDERS: dict[type[Calibrated], str] = {
    CaseResult: "cases",
    CoverageResult: "coverage",
    CostResult: "cost",
}

EMERGENCE_FILES = "emergence/*/*.json"
"""Where emergence records lie in a results folder."""

LOCK_FILE = ".reports.lock"

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")

_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?")
"""Names that Windows keeps for devices, in every folder and with every ending."""

TEMPORARY_PREFIX = ".writing-"
STALE_AFTER_SECONDS = 24 * 3600.0
"""No write takes as long; what is older was left by a kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A valid record and where it lies, relative to the results folder, with forward slashes."""

    path: str
    record: EmergenceRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPerformance:
    """A valid performance record and where it lies, relative to the results folder, with forward slashes."""

    path: str
    record: PerformanceRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProbe:
    """A valid record of the text probe and where it lies, relative to the results folder, with forward slashes."""

    path: str
    record: ProbeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFit:
    """A valid fit and where it lies, relative to the results folder, with forward slashes."""

    path: str
    record: FitRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEstimate:
    """A valid estimate and where it lies, relative to the results folder, with forward slashes."""

    path: str
    record: EstimateRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedFile:
    """A file in the results folder that is not a valid record, and why, in one line."""

    path: str
    reason: str


class Store:
    """One results folder.

    Attributes:
        n_damaged_units: conditions measured before that were asked for and are not as they were written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n_damaged_units = 0

    def check_writable(self, *models: str, kind: Literal["emergence", "performance", "probe"] = "emergence") -> None:
        """Make the folders for records of a kind and prove that files can be written there.

        Raises:
            StorageError: they cannot.
        """
        for folder in (self.root / ".units", *(self.root / kind / slug(model) for model in models)):
            probe = folder / ".writable"
            self._write(probe, b"")
            probe.unlink(missing_ok=True)
        for left in self.root.glob(f"**/{TEMPORARY_PREFIX}*"):  # by a process that was killed while writing
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_AFTER_SECONDS:
                    left.unlink()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process is in such a block of this folder meanwhile; one that was killed is no longer in it.

        What is made of all records is read and written in such a block, lest it be replaced by what another process
        has made of fewer. Where nothing can be written, nothing can be replaced either.

        Raises:
            StorageError: another process does not let go.
        """
        if self.root.is_dir() and not os.access(self.root, os.W_OK):
            yield
            return
        with exclusive(self.root / LOCK_FILE):
            yield

    def record_path(self, key: RecordKey) -> Path:
        """Where the record of `key` lies or would lie."""
        name = f"{slug(key.task)}.{slug(key.preset)}.{slug(key.estimator)}.seed{key.seed}.{key.digest()[:8]}.json"
        return self.root / "emergence" / slug(key.model) / name

    def record(self, key: RecordKey) -> EmergenceRecord | None:
        """The finished record of `key`, or None. A damaged file counts as not there and will be measured again."""
        return _answer(self.record_path(key), EmergenceRecord, key)

    def write_record(self, record: EmergenceRecord) -> Path:
        """Write a finished record, whole or not at all."""
        path = self.record_path(record.key)
        self._write(path, record.model_dump_json(indent=1).encode() + b"\n")
        return path

    def unit(self, key: UnitKey) -> Measurement | None:
        """A condition measured before, or None. A damaged one is counted, and will be measured again."""
        path = self._unit_path(key)
        try:
            unit = _validated(path, Measurement, _without_checksum(path, read_content(path)))
        except FileNotFoundError:
            return None
        except RecordError:
            self.n_damaged_units += 1
            return None
        return unit if unit.key == key else None

    def write_unit(self, measurement: Measurement) -> None:
        """Keep a measured condition, so that it is not measured again."""
        content = measurement.model_dump_json().encode()
        self._write(self._unit_path(measurement.key), content + f"\n{sha256(content)}\n".encode())

    def records(self) -> tuple[tuple[StoredRecord, ...], tuple[RejectedFile, ...]]:
        """All records in path order, and the files that are none."""
        found, rejected = self._rows(EMERGENCE_FILES, EmergenceRecord)
        return tuple(StoredRecord(path=path, record=record) for path, record in found), rejected

    def performance_path(self, key: PerformanceKey) -> Path:
        """Where the performance record of `key` lies or would lie."""
        name = f"{slug(key.task)}.{key.mode}.seed{key.seed}.{key.digest()[:8]}.json"
        return self.root / "performance" / slug(key.model) / name

    def performance(self, key: PerformanceKey) -> PerformanceRecord | None:
        """The record of `key`, or None. One whose samples are damaged or gone counts as not there."""
        path = self.performance_path(key)
        record = _answer(path, PerformanceRecord, key)
        if record is None:
            return None
        with contextlib.suppress(FileNotFoundError, RecordError):
            if sha256(read_samples(samples_path(path))) == record.samples_sha256:
                return record
        return None

    def write_performance(self, record: PerformanceRecord, samples: Sequence[Sample]) -> Path:
        """Write a record and its samples, the samples first, each whole or not at all."""
        path = self.performance_path(record.key)
        content = as_lines(samples)
        if len(content) > MAX_SAMPLES_BYTES or len(samples) > MAX_SAMPLES:
            raise StorageError(
                f"cannot write {samples_path(path)}: {len(samples):,} samples of {len(content) >> 20} MB are more than "
                f"is read again ({MAX_SAMPLES:,}, {MAX_SAMPLES_BYTES >> 20} MB); ask fewer questions at a time"
            )
        self._write(samples_path(path), content)
        self._write(path, record.model_dump_json(indent=1).encode() + b"\n")
        return path

    def performances(self) -> tuple[tuple[StoredPerformance, ...], tuple[RejectedFile, ...]]:
        """All performance records in path order, and the files that are none."""
        found, rejected = self._rows("performance/*/*.json", PerformanceRecord)
        return tuple(StoredPerformance(path=path, record=record) for path, record in found), rejected

    def probe_path(self, key: ProbeKey) -> Path:
        """Where the probe record of `key` lies or would lie."""
        texts = f"{slug(key.text)}.{slug(key.reference)}"
        name = f"{texts}.{slug(key.estimator)}.seed{key.seed}.{key.digest()[:8]}.json"
        return self.root / "probe" / slug(key.model) / name

    def probe(self, key: ProbeKey) -> ProbeRecord | None:
        """The finished probe record of `key`, or None. A damaged file counts as not there."""
        return _answer(self.probe_path(key), ProbeRecord, key)

    def write_probe(self, record: ProbeRecord) -> Path:
        """Write a finished probe record, whole or not at all."""
        path = self.probe_path(record.key)
        self._write(path, record.model_dump_json(indent=1).encode() + b"\n")
        return path

    def probes(self) -> tuple[tuple[StoredProbe, ...], tuple[RejectedFile, ...]]:
        """All probe records in path order, and the files that are none."""
        found, rejected = self._rows("probe/*/*.json", ProbeRecord)
        return tuple(StoredProbe(path=path, record=record) for path, record in found), rejected

    def fit_path(self, key: FitKey) -> Path:
        """Where the fit of `key` lies or would lie. One of other rows lies there too: they make an older one void."""
        place = key.model_copy(update={"rows_sha256": "", "schema_version": 0, "fit_version": 0})
        return self.root / "fits" / key.problem / f"{slug(key.target)}.{place.digest()[:8]}.json"

    def fit(self, key: FitKey) -> FitRecord | None:
        """The fit of `key`, or None."""
        return _answer(self.fit_path(key), FitRecord, key)

    def write_fit(self, record: FitRecord) -> Path:
        """Write a fit, whole or not at all."""
        path = self.fit_path(record.key)
        self._write(path, record.model_dump_json(indent=1).encode() + b"\n")
        return path

    def fits(self) -> tuple[tuple[StoredFit, ...], tuple[RejectedFile, ...]]:
        """All fits in path order, and the files there that are none."""
        found, rejected = self._rows("fits/*/*.json", FitRecord)
        return tuple(StoredFit(path=path, record=record) for path, record in found), rejected

    def estimate_path(self, key: EstimateKey) -> Path:
        """Where the estimate of `key` lies or would lie.

        One by another fit, or with another family held out, lies there too: it takes the place of an older one.
        """
        place = key.model_copy(update={"fit_sha256": "", "schema_version": 0, "family": None})
        name = f"{key.source}.{slug(key.proxy or key.mode)}.seed{key.seed}.{place.digest()[:8]}.json"
        return self.root / "estimates" / slug(key.model) / name

    def estimate(self, key: EstimateKey) -> EstimateRecord | None:
        """The estimate of `key`, or None."""
        return _answer(self.estimate_path(key), EstimateRecord, key)

    def write_estimate(self, record: EstimateRecord) -> Path:
        """Write an estimate, whole or not at all."""
        path = self.estimate_path(record.key)
        self._write(path, record.model_dump_json(indent=1).encode() + b"\n")
        return path

    def estimates(self) -> tuple[tuple[StoredEstimate, ...], tuple[RejectedFile, ...]]:
        """All estimates in path order, and the files there that are none."""
        found, rejected = self._rows("estimates/*/*.json", EstimateRecord)
        return tuple(StoredEstimate(path=path, record=record) for path, record in found), rejected

    def calibration_case(self, key: CaseKey) -> CaseResult | None:
        """An estimate of a known information made before, or None."""
        return _answer(self._calibration_path(key), CaseResult, key)

    def calibration_coverage(self, key: CoverageKey) -> CoverageResult | None:
        """A coverage experiment made before, or None."""
        return _answer(self._calibration_path(key), CoverageResult, key)

    def calibration_cost(self, key: CostKey) -> CostResult | None:
        """A comparison of costs made before, or None."""
        return _answer(self._calibration_path(key), CostResult, key)

    def write_calibration(self, result: Calibrated) -> Path:
        """Write a finished result, whole or not at all."""
        path = self._calibration_path(result.key)
        self._write(path, result.model_dump_json(indent=1).encode() + b"\n")
        return path

    def calibrations(self, kind: type[Kept]) -> tuple[tuple[Kept, ...], tuple[RejectedFile, ...]]:
        """All calibration results of one kind in path order, and the files there that are none."""
        found, rejected = self._rows(f"calibration/{CALIBRATION_FOLDERS[kind]}/**/*.json", kind)
        return tuple(result for _, result in found), rejected

    def _rows(
        self, pattern: str, kind: type[AnyRow]
    ) -> tuple[tuple[tuple[str, AnyRow], ...], tuple[RejectedFile, ...]]:
        """The valid files of a kind with their paths from here, in path order, and those that are none."""
        found: list[tuple[str, AnyRow]] = []
        rejected: list[RejectedFile] = []
        for path in sorted(self.root.glob(pattern)):
            relative = path.relative_to(self.root).as_posix()
            row = read_or_reject(path, relative, kind)
            if isinstance(row, RejectedFile):
                rejected.append(row)
            else:
                found.append((relative, row))
        return tuple(found), tuple(rejected)

    def _calibration_path(self, key: CaseKey | CoverageKey | CostKey) -> Path:
        name = f"{slug(key.case)}.seed{key.seed}.{key.digest()[:8]}.json"
        folder = self.root / "calibration"
        if isinstance(key, CostKey):
            return folder / CALIBRATION_FOLDERS[CostResult] / name
        kind: type[Calibrated] = CaseResult if isinstance(key, CaseKey) else CoverageResult
        return folder / CALIBRATION_FOLDERS[kind] / slug(key.estimator) / name

    def _unit_path(self, key: UnitKey) -> Path:
        return self.root / ".units" / f"{key.digest()[:32]}.json"

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all, and nowhere but in this folder, wherever links in it lead.

        Raises:
            StorageError: the folder or the file cannot be written, or is not in here.
        """
        check_inside(self.root, path, path.parent)
        write_whole(path, content)


def check_inside(root: Path, path: Path, followed: Path) -> None:
    """See that no link leads out of a results folder.

    Args:
        path: what is to be written.
        followed: the part of it in which links are followed.

    Raises:
        StorageError: one does.
    """
    end = Path(os.path.realpath(followed))  # unlike Path.resolve, also where links lead in a circle
    if not end.is_relative_to(os.path.realpath(root)):
        kind = "file" if followed == path else "folder"
        raise StorageError(
            f"cannot write {path}: a link leads out of {root} there, to {end}; put a {kind} in its "
            "place, or name the folder it leads to with --out"
        )


def samples_path(record: Path) -> Path:
    """The samples file beside a performance record."""
    return record.with_suffix(".samples.jsonl")


def read_samples(path: Path) -> bytes:
    """The bytes of a samples file of a results folder.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it cannot be one.
    """
    content = read_bounded(path, MAX_SAMPLES_BYTES, "samples file")
    if content.count(b"\n") > MAX_SAMPLES:
        raise RecordError(f"{printable(path.name)}: more than {MAX_SAMPLES:,} lines, which no samples file has")
    return content


def _answer(path: Path, kind: type[Keyed], key: AnyKey) -> Keyed | None:
    """What lies at `path`, if it is whole and answers for `key`."""
    with contextlib.suppress(FileNotFoundError, RecordError):
        row = read_row(path, kind)
        if row.key == key:
            return row
    return None


def read_or_reject(path: Path, relative: str, kind: type[AnyRow]) -> AnyRow | RejectedFile:
    """Read and check one file of a results folder.

    Args:
        relative: its path from that folder.
    """
    try:
        return read_row(path, kind)
    except RecordError as error:
        return RejectedFile(path=relative, reason=str(error))
    except FileNotFoundError:  # a link to nowhere, or deleted meanwhile
        return RejectedFile(path=relative, reason=f"{path.name}: no such file")


def read_row(path: Path, kind: type[AnyRow]) -> AnyRow:
    """Read and check one file.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it is not a valid `kind`; the message names the field.
    """
    return _validated(path, kind, read_content(path))


def read_bounded(path: Path, most_bytes: int, what: str) -> bytes:
    """The bytes of a file of a results folder, which may be anybody's.

    Args:
        what: it should be, for the message.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it is no regular file, larger than that, or cannot be read.
    """
    name = printable(path.name)
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):
            raise RecordError(f"{name}: not a regular file")
        if status.st_size > most_bytes:
            raise RecordError(f"{name}: larger than {most_bytes >> 20} MB, which no {what} is")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{name}: {error.strerror}") from error


def read_content(path: Path, what: str = "record") -> bytes:
    """The bytes of a file that may be a record, or lines of JSON that together are no larger than one.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it cannot be one.
    """
    content = read_bounded(path, MAX_RECORD_BYTES, what)
    if has_too_many_values(content):
        raise RecordError(f"{printable(path.name)}: more than {MAX_RECORD_VALUES:,} values, which no {what} has")
    return content


def has_too_many_values(content: bytes) -> bool:
    """Whether JSON has more values than is read."""
    return content.count(b",") > MAX_RECORD_VALUES


def _validated(path: Path, kind: type[AnyRow], content: bytes) -> AnyRow:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{printable(path.name)}: {first_fault(error, 'the file')}") from error


def _without_checksum(path: Path, content: bytes) -> bytes:
    """The first line, if the second one is its checksum. Units of earlier versions have one line and no checksum.

    Raises:
        RecordError: the checksum is another one.
    """
    line, has_more, checksum = content.partition(b"\n")
    if has_more and checksum != f"{sha256(line)}\n".encode():
        raise RecordError(f"{path.name}: not as it was written")
    return line


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, synced, renamed over it, and the folder synced.

    Raises:
        StorageError: the folder or the file cannot be written; an older file at `path` stays as it was. So does what is
            no file: a device such as /dev/null would be replaced by one.
    """
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"cannot write {path}: it is there, and not a regular file; choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=".tmp")
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {error.strerror}; choose another folder with --out, or free space there")


def slug(name: str) -> str:
    """A file name for any name: itself if it is a plain one, else its plain letters and a hash of the whole.

    Two names never share a slug, not on file systems that ignore case either, and none is that of a device.
    """
    if _PLAIN.fullmatch(name) and len(name) <= 80 and "--" not in name and not _DEVICE.fullmatch(name):
        return name
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{plain or 'name'}--{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
