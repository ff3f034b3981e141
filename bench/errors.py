"""The error tree: everything this software raises on purpose.

    BenchError                 exit status 1
    ├── UsageError             exit status 2: what the user asked for cannot be done; the message says what can
    │   ├── ModelError         a named model cannot be found, fetched, read or used
    │   └── StorageError       a folder or file cannot be written
    ├── EstimationError        an estimator was given data it cannot answer for
    │   └── Refusal            sound data that this estimator has no answer for; another may
    ├── EngineError            a cluster does not do the work: no workers, or a unit that ends each of them
    └── RecordError            a file in `results/` is not a valid record

A message names what was expected, the value that came, and what to do about it.
"""

from __future__ import annotations


class BenchError(Exception):
    """Base of every deliberate error; `exit_status` is what the command line returns."""

    exit_status = 1


class UsageError(BenchError):
    """The request itself cannot be met: unknown name, k > n, empty selection."""

    exit_status = 2


class ModelError(UsageError):
    """A model cannot be found, fetched, read or used."""


class EstimationError(BenchError):
    """An estimator was given data it cannot answer for: NaN, mismatched shapes, impossible settings."""


class Refusal(EstimationError):
    """The data is sound, but not such that this estimator has an answer: too few samples, a deterministic block."""


class EngineError(BenchError):
    """A cluster does not do the work that it was given: no workers to be had, or a unit that ends each of them."""


class RecordError(BenchError):
    """A record on disk does not match its schema."""


class StorageError(UsageError):
    """A folder or file cannot be written."""
