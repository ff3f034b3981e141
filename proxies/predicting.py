"""From the records to a line of the ledger: what a target was not asked yet, predicted by its best fit."""

from __future__ import annotations

from bench.completions import MODES
from bench.errors import UsageError
from bench.fits import LedgerEntry
from bench.progress import Progress
from bench.provenance import Start
from bench.store import Store
from proxies.features import feature_names
from proxies.fitting import FitRequest, RefusedFit, fit_one
from proxies.ledger import NOTHING_NEW, append, predicted_cells, predictions, read_ledger
from proxies.regression import cells_to_come


def write_predictions(request: FitRequest, model: str, progress: Progress) -> LedgerEntry:
    """Fit what a model was asked, predict what it was not, and add that to the ledger: each cell once.

    Raises:
        UsageError: it was asked too little, or everything.
        RecordError: the ledger is damaged.
    """
    progress.plan(1)
    progress.stage(f"cells, {model}")
    outcome = fit_one(request, "cells", model, Store(request.results))
    progress.block(f"cells, {model}")
    if isinstance(outcome, RefusedFit):
        raise UsageError(outcome.reason)
    names = feature_names(request.features)
    to_come = cells_to_come(request.frame.frame, target=model, features=names, mode=request.mode)
    known = predicted_cells(read_ledger(request.results), model, request.mode)
    is_new = [(row.task_hash, int(row.n_shots)) not in known for row in to_come.itertuples()]
    if known and not any(is_new):
        raise UsageError(NOTHING_NEW.format(model=model))
    to_come = to_come[is_new].reset_index(drop=True)
    predictor, said = predictions(outcome.problem, outcome.record, to_come)
    return append(
        request.results,
        said,
        date=Start.now().date,
        model=model,
        mode=next(mode for mode in MODES if mode == request.mode),
        predictor=predictor,
        fit_sha256=outcome.record.key.digest(),
    )
