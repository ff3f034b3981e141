"""A results folder -> everything that the leaderboard is made of, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.progress import Progress
from bench.store import RejectedFile, Store, StoredEstimate, StoredFit, StoredPerformance
from proxies.digests import StoredDigest, read_digests
from proxies.standings import Apart, Standing, standings
from tasks import RANKED_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Records and the rows that they make.

    Attributes:
        tables: one a setting.
        unused: estimates without a row, and why.
        rejected: files that are no valid records.
        tasks: that the rows are means over.
    """

    stored: tuple[StoredDigest, ...]
    performances: tuple[StoredPerformance, ...]
    estimates: tuple[StoredEstimate, ...]
    fits: tuple[StoredFit, ...]
    tables: tuple[Standing, ...]
    unused: tuple[Apart, ...]
    rejected: tuple[RejectedFile, ...]
    tasks: tuple[str, ...] = RANKED_TASKS

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
    tables, unused = standings(stored, performances, estimates, fits, tasks=tasks)
    return Board(
        stored=tuple(stored),
        performances=tuple(performances),
        estimates=tuple(estimates),
        fits=tuple(fits),
        tables=tuple(tables),
        unused=tuple(unused),
        rejected=tuple(rejected),
        tasks=tuple(tasks),
    )


def read_board(store: Store, progress: Progress, *, verify: bool = False, tasks: Sequence[str] = RANKED_TASKS) -> Board:
    """The board of a results folder.

    Args:
        verify: read every record itself; otherwise what has not changed since it was last read is taken from the index.
        tasks: that the rows are means over.
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
        tasks=tasks,
    )
