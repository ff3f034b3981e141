"""A results folder -> everything that the leaderboard is made of, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.progress import Progress
from bench.store import RejectedFile, Store, StoredEstimate, StoredFit, StoredPerformance
from proxies.digests import Digest, StoredDigest, read_digests
from proxies.other_tasks import is_other_task
from proxies.standings import Apart, Found, Standing, standings
from tasks import RANKED_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Records and the rows that they make.

    Attributes:
        found: the rows, and the estimates without one.
        rejected: files that are no valid records.
        tasks: that the rows are means over.
    """

    stored: tuple[StoredDigest, ...]
    performances: tuple[StoredPerformance, ...]
    fits: tuple[StoredFit, ...]
    found: Found
    rejected: tuple[RejectedFile, ...]
    tasks: tuple[str, ...] = RANKED_TASKS

    @property
    def tables(self) -> tuple[Standing, ...]:
        """The rows, one table a setting."""
        return self.found.tables

    @property
    def apart(self) -> tuple[Apart, ...]:
        """Everything that has no row, and why: records, estimates, files that are neither."""
        used = self.used
        records = [
            Apart(
                what=f"{item.record.model.name}, {item.record.key.task}",
                reason=why_not_ranked(item.record, self.tasks),
                path=item.path,
            )
            for item in self.stored
            if item.path not in used and not is_other_task(item.record)
        ]
        files = [
            Apart(what=file.path, reason=f"not a valid record: {file.reason}", path=None) for file in self.rejected
        ]
        return (*records, *self.found.unused, *files)

    @property
    def used(self) -> frozenset[str]:
        """Paths of the emergence records behind the measured rows."""
        return frozenset(item.path for table in self.tables for entry in table.measured for item in entry.records)


def board_of(
    stored: Sequence[StoredDigest],
    *,
    performances: Sequence[StoredPerformance] = (),
    estimates: Sequence[StoredEstimate] = (),
    fits: Sequence[StoredFit] = (),
    rejected: Sequence[RejectedFile] = (),
    tasks: Sequence[str] = RANKED_TASKS,
) -> Board:
    """The board of records that were read already."""
    return Board(
        stored=tuple(stored),
        performances=tuple(performances),
        fits=tuple(fits),
        found=standings(stored, performances, estimates, fits, tasks=tasks),
        rejected=tuple(rejected),
        tasks=tuple(tasks),
    )


def read_board(store: Store, progress: Progress, *, verify: bool = False) -> Board:
    """The board of a results folder.

    Args:
        verify: read every record itself; otherwise what has not changed since it was last read is taken from the index.
    """
    stored, bad_records = read_digests(store, progress, verify=verify)
    performances, bad_performances = store.performances()
    estimates, bad_estimates = store.estimates()
    fits, bad_fits = store.fits()
    return board_of(
        stored,
        performances=performances,
        estimates=estimates,
        fits=fits,
        rejected=(*bad_records, *bad_performances, *bad_estimates, *bad_fits),
    )


def why_not_ranked(record: Digest, tasks: Sequence[str] = RANKED_TASKS) -> str:
    """Why a record is part of no row, in plain text."""
    if record.key.limit is not None or not record.is_enumerated:
        return f"limited to {record.n_sequences:,} lists, for trying things out only"
    last = record.summary[-1]
    if last.emergence is None:
        return (
            f"{record.key.estimator} refused {last.refused_cells} of the cells that emergence at the last shot needs: "
            f"{record.refusal}"
        )
    return (
        f"incomplete or superseded: a row needs {', '.join(tasks)} at one seed, each in the version that is ranked: "
        "that of this software, or that of most models where no record has it"
    )
