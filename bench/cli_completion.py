"""What a shell offers when TAB is pressed: names of models, tasks, texts, presets and estimators.

Each function takes the beginning of a word and gives the words that begin so; where there is none the shell offers
files. It must answer at once, so nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterable

ESTIMATORS = ("exact", "noisy_channel", "crossfit_nce", "infonce_anchor", "mine_paper", "gaussian")
"""The names in `bench.estimators.ESTIMATORS`, which takes seconds to import."""

PARTS = ("cases", "coverage", "cost")
"""`bench.calibration.run.PARTS`, for the same reason."""


def models(incomplete: str) -> list[str]:
    """Names of the catalog."""
    from bench.catalog import CATALOG

    return _beginning(incomplete, CATALOG)


def model_list(incomplete: str) -> list[str]:
    """Names of the catalog with commas between them."""
    from bench.catalog import CATALOG

    return _continuing(incomplete, CATALOG)


def zoo_model_list(incomplete: str) -> list[str]:
    """Models of the zoo with commas between them."""
    from bench.zoo import ZOO

    return _continuing(incomplete, dict.fromkeys(job.model for job in ZOO))


def tasks(incomplete: str) -> list[str]:
    """Names of the shipped tasks."""
    from tasks import TASKS

    return _beginning(incomplete, TASKS)


def task_list(incomplete: str) -> list[str]:
    """Shipped tasks, and the words for several of them, with commas between them."""
    from tasks import TASKS

    return _continuing(incomplete, ("lists", "pairs", "all", *TASKS))


def texts(incomplete: str) -> list[str]:
    """Texts that have a name."""
    from bench.hub_text import HUB_TEXTS
    from tasks import TEXTS

    return _beginning(incomplete, (*TEXTS, *HUB_TEXTS))


def presets(incomplete: str) -> list[str]:
    """Names of sizes."""
    from tasks.task import PRESETS

    return _beginning(incomplete, PRESETS)


def estimators(incomplete: str) -> list[str]:
    """Names of estimators."""
    return _beginning(incomplete, ESTIMATORS)


def calibration_parts(incomplete: str) -> list[str]:
    """Parts of the calibration."""
    return _beginning(incomplete, PARTS)


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _continuing(incomplete: str, words: Iterable[str]) -> list[str]:
    """The list with its last word completed, by a word that is not in it yet."""
    before, comma, last = incomplete.rpartition(",")
    there = before.split(",")
    return [f"{before}{comma}{word}" for word in _beginning(last, words) if word not in there]
