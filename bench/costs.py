"""What a plan says that a run costs: the types, their sums, and the same as data for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.model_shape import ModelShape
from bench.rates import Rates
from bench.records import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """The terms of the time, in seconds; an estimator of which there is no cost model makes its term None.

    Attributes:
        forward: tokens through the blocks.
        estimates: the estimator, cell by cell.
        pairing: rows gathered, checked and numbered, populations drawn and planted.
        weights: hashed, loaded, drawn for the twin.
        records: put together and written.
    """

    forward: float = 0.0
    estimates: float | None = 0.0
    pairing: float = 0.0
    weights: float = 0.0
    records: float = 0.0

    @property
    def total(self) -> float | None:
        """Their sum."""
        if self.estimates is None:
            return None
        return self.forward + self.estimates + self.pairing + self.weights + self.records

    def __add__(self, other: Seconds) -> Seconds:
        estimates = None if self.estimates is None or other.estimates is None else self.estimates + other.estimates
        return Seconds(
            forward=self.forward + other.forward,
            estimates=estimates,
            pairing=self.pairing + other.pairing,
            weights=self.weights + other.weights,
            records=self.records + other.records,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """A record that is missing.

    Attributes:
        conditions: those that it makes a run measure; random words that another record has too are measured once.
        n_tokens: through the model in its trained condition, per block; a record calls it `n_tokens_computed`.
        forward_flops, estimator_flops: of all its conditions; None where the estimator's are not counted.
    """

    task: str
    estimator: str
    conditions: tuple[Condition, ...]
    n_sequences: int
    n_positions: int
    n_tokens: int
    n_cells: int
    forward_flops: float
    estimator_flops: float | None
    seconds: Seconds
    record_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at the peak, term by term.

    Attributes:
        weights: in float32, in which a twin is drawn whatever the dtype.
        states: two layers of the largest population; 0 where they go to the temporary file.
        rows: of one position.
        tables: token ids and packing.
        process: this process with its libraries, as it is now.
    """

    weights: int
    states: int
    rows: int
    tables: int
    process: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.states + self.rows + self.tables + self.process


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes on disk.

    Attributes:
        records: written into the results, with the measurements kept for a restart.
        temporary: the file of states in `TMPDIR`, removed at the end.
        weights: to be downloaded; None where nobody says before. 0 where they are there, or are never needed.
    """

    records: int
    temporary: int
    weights: int | None

    @property
    def total(self) -> int | None:
        """Their sum."""
        return None if self.weights is None else self.records + self.temporary + self.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What one model costs.

    Attributes:
        n_there: records that are on disk, and cost nothing.
        has_weights: whether they are here; only then it can be told which records are.
        records: those that are missing.
        model_seconds: what is spent once for the model.
        rates: None where nothing is missing.
    """

    model: str
    shape: ModelShape
    n_there: int
    has_weights: bool
    records: tuple[RecordPlan, ...]
    model_seconds: Seconds
    memory: Memory
    disk: Disk
    rates: tuple[Rates, ...]

    @property
    def seconds(self) -> Seconds:
        """Of all its records."""
        return sum((record.seconds for record in self.records), self.model_seconds)

    @property
    def n_tokens(self) -> int:
        """Through each block, in the trained condition of all missing records."""
        return sum(record.n_tokens for record in self.records)

    @property
    def forward_flops(self) -> float:
        """Of all its records."""
        return sum(record.forward_flops for record in self.records)

    @property
    def estimator_flops(self) -> float | None:
        """Of all its records."""
        return total([record.estimator_flops for record in self.records])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run costs, model by model; models are measured one after the other."""

    models: tuple[ModelPlan, ...]
    dtype: str
    device: str
    n_threads: int

    @property
    def seconds(self) -> float | None:
        """Of all models."""
        return total([model.seconds.total for model in self.models])

    @property
    def forward_flops(self) -> float:
        """Of all models."""
        return sum(model.forward_flops for model in self.models)

    @property
    def estimator_flops(self) -> float | None:
        """Of all models."""
        return total([model.estimator_flops for model in self.models])

    @property
    def n_records(self) -> int:
        """Missing ones."""
        return sum(len(model.records) for model in self.models)

    @property
    def n_there(self) -> int:
        """Records on disk."""
        return sum(model.n_there for model in self.models)

    @property
    def memory_bytes(self) -> int:
        """The peak: that of the largest model."""
        return max(model.memory.total for model in self.models)

    @property
    def disk_bytes(self) -> int | None:
        """What stays, and the largest temporary file."""
        weights = total([model.disk.weights for model in self.models])
        if weights is None:
            return None
        kept = sum(model.disk.records for model in self.models)
        return int(weights) + kept + max(model.disk.temporary for model in self.models)


def total(parts: Sequence[float | None]) -> float | None:
    """A sum; None where a part is not known."""
    told = [part for part in parts if part is not None]
    return sum(told) if len(told) == len(parts) else None


def as_data(found: RunPlan) -> dict[str, object]:
    """A plan for machines: all fields, and the sums."""
    return {
        **asdict(found),
        "models": [
            asdict(model)
            | {
                "n_tokens": model.n_tokens,
                "forward_flops": model.forward_flops,
                "estimator_flops": model.estimator_flops,
                "total_seconds": model.seconds.total,
                "seconds": asdict(model.seconds),
                "memory_bytes": model.memory.total,
                "disk_bytes": model.disk.total,
            }
            for model in found.models
        ],
        "n_records": found.n_records,
        "n_there": found.n_there,
        "forward_flops": found.forward_flops,
        "estimator_flops": found.estimator_flops,
        "total_seconds": found.seconds,
        "memory_bytes": found.memory_bytes,
        "disk_bytes": found.disk_bytes,
    }
