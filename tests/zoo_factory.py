"""Synthetic zoos, where what performance depends on is planted: problems to validate, and frames of cells."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from proxies.ability import ability, accuracy_of
from proxies.features import FEATURES, as_frame
from proxies.published import SiblingFrame
from proxies.regression import ALONE, BESIDE
from proxies.validation import Predictor, Problem
from tasks import RANKED_TASKS

Array = npt.NDArray[np.float64]

MEAN, SIZE, SIBLING, SHOTS, PROXIES = "the mean", "parameters", "the small sibling's score", "shots", "the proxies"


def zoo(
    seed: int, *, n_families: int = 8, n_models: int = 4, coefficients: Sequence[float] = (1.0, 0.0), size: float = 0.0,
    noise: float = 0.5, family_effect: float = 0.0, feature_family_effect: float = 0.0, gaps: float = 0.0,
    level: float = 0.0, chance: float = 0.25,
) -> Problem:  # fmt: skip
    """Models of families, as `models_problem` has them: ability is planted on features and size.

    ability = level + features @ coefficients + size * log_bits + that of the family + noise, in log odds; features and
    log_bits are standard normal within a family. The problem is in bits, so that nothing is lost on a logistic scale;
    `in_accuracy` is the same one in accuracy.

    Args:
        noise: standard deviation.
        family_effect: standard deviation over families of what they add to ability.
        feature_family_effect: the same of what they add to each feature and to log_bits.
        gaps: share of the features that are not known; performance depends on them all the same.
    """
    rng = np.random.default_rng([seed, 17])
    n = n_families * n_models
    family = np.repeat(np.arange(n_families), n_models)
    inputs = rng.normal(size=(n, len(coefficients) + 1))
    inputs += feature_family_effect * rng.normal(size=(n_families, len(coefficients) + 1))[family]
    features, log_bits = inputs[:, :-1], inputs[:, -1]
    y = level + features @ np.asarray(coefficients, dtype=np.float64) + size * log_bits + noise * rng.normal(size=n)
    y += family_effect * rng.normal(size=n_families)[family]
    names = tuple(f"feature_{place}" for place in range(len(coefficients)))
    known = rng.random(features.shape) >= gaps
    labels = [f"family {place:03d}" for place in family]
    models = [f"model {place:04d}" for place in range(n)]
    frame = pd.DataFrame(dict(zip(names, np.where(known, features, np.nan).T, strict=True))).assign(
        model=models, family=labels, task="", n_shots=np.nan, fold=labels, unit=models, block=labels,
        log_bits=log_bits, y=y, accuracy=accuracy_of(y, chance), chance=chance, n_answered=1000.0,
        sibling_ability=[np.nan if place % n_models == 0 else y[place - place % n_models] for place in range(n)],
    )  # fmt: skip
    return Problem(
        frame=frame,
        unit="bits",
        fold_unit="family",
        predictors=(
            Predictor(name=MEAN, role="baseline"),
            Predictor(name=SIZE, role="baseline", columns=("log_bits",)),
            Predictor(name=SIBLING, role="baseline", as_is="sibling_ability"),
            Predictor(name=ALONE, role="tested", columns=names),
            Predictor(name=BESIDE, role="both", columns=("log_bits", *names), given=("log_bits",)),
        ),
    )


def task_zoo(
    seed: int, *, n_tasks: int = 12, n_shots: int = 3, coefficients: Sequence[float] = (1.0, 0.0), shots: float = 0.5,
    noise: float = 0.5, task_effect: float = 0.0, gaps: float = 0.0, chance: float = 0.1,
) -> Problem:  # fmt: skip
    """One target on tasks at several shots, as `cells_problem` has them: ability is planted on features and shots.

    Features have a part that a task keeps over shots and one that it does not, of equal variance.

    Args:
        task_effect: standard deviation over tasks of what they add to ability.
    """
    rng = np.random.default_rng([seed, 18])
    n, n_features = n_tasks * n_shots, len(coefficients)
    task, shot = np.repeat(np.arange(n_tasks), n_shots), np.tile(np.arange(1, n_shots + 1), n_tasks)
    features = (rng.normal(size=(n_tasks, n_features))[task] + rng.normal(size=(n, n_features))) / np.sqrt(2)
    log_shots = np.log2(1 + shot)
    y = features @ np.asarray(coefficients, dtype=np.float64) + shots * log_shots + noise * rng.normal(size=n)
    y += task_effect * rng.normal(size=n_tasks)[task]
    names = tuple(f"feature_{place}" for place in range(n_features))
    known = rng.random(features.shape) >= gaps
    labels = [f"task {place:03d}" for place in task]
    n_answered = np.full(n, 200.0)
    frame = pd.DataFrame(dict(zip(names, np.where(known, features, np.nan).T, strict=True))).assign(
        model="target", family="T", task=labels, n_shots=shot.astype(float), fold=labels, unit=labels, block="",
        log_shots=log_shots, y=y, accuracy=accuracy_of(y, chance), chance=chance, n_answered=n_answered,
        proxies_ability=0.5 * y + rng.normal(size=n), at_chance=ability(np.full(n, chance), chance, n_answered),
    )  # fmt: skip
    return Problem(
        frame=frame,
        unit="accuracy",
        fold_unit="task",
        predictors=(
            Predictor(name=MEAN, role="baseline"),
            Predictor(name=SHOTS, role="baseline", columns=("log_shots",)),
            Predictor(name="chance", role="baseline", as_is="at_chance"),
            Predictor(name=PROXIES, role="baseline", columns=("proxies_ability", "log_shots"), needs_all=True),
            Predictor(name=ALONE, role="tested", columns=("log_shots", *names), given=("log_shots",)),
            Predictor(
                name=BESIDE,
                role="both",
                columns=("proxies_ability", "log_shots", *names),
                given=("proxies_ability", "log_shots"),
            ),
        ),
    )


def in_accuracy(problem: Problem) -> Problem:
    """The same rows as accuracy, between chance and 1."""
    return replace(problem, unit="accuracy")


def only(problem: Problem, *names: str) -> Problem:
    """With these predictors alone: what is not asked for costs time."""
    return replace(problem, predictors=tuple(one for one in problem.predictors if one.name in names))


def cells_frame(
    seed: int, *, n_families: int = 4, n_models: int = 3, n_other_tasks: int = 9, shots: Sequence[int] = (1, 4),
    of_model: float = 1.0, of_task: float = 1.0, noise: float = 0.3, chance: float = 0.0, n_answered: int = 400,
) -> pd.DataFrame:  # fmt: skip
    """Cells of models, tasks and shots, the columns of `proxies.features.COLUMNS`: all measured and all asked.

    Emergence is a level of the model plus one of the task plus what shots add plus noise; ability is these levels times
    `of_model` and `of_task`, plus noise. Sizes grow by 4 within a family.
    """
    rng = np.random.default_rng([seed, 19])
    tasks = (*RANKED_TASKS, *(f"task {place:02d}" for place in range(n_other_tasks)))
    levels_of_tasks = rng.normal(size=len(tasks))
    rows = []
    for family in range(n_families):
        for place in range(n_models):
            name = f"model-{family}-{place}"
            level = rng.normal()
            for task, of_this_task in zip(tasks, levels_of_tasks, strict=True):
                for n_shots in shots:
                    emergence = 8 + level + of_this_task + 0.5 * np.log2(n_shots) + noise * rng.normal()
                    log_odds = of_model * level + of_task * of_this_task + 0.3 * np.log2(n_shots) + noise * rng.normal()
                    accuracy = round(float(accuracy_of(log_odds, chance)) * n_answered) / n_answered
                    features = dict(zip(FEATURES, rng.normal(size=len(FEATURES)), strict=True))
                    rows.append(
                        features
                        | {
                            "model": name, "family": f"family {family}", "kind": "published", "variant": "base",
                            "precision": "float32", "n_bits": 16, "n_parameters": 1e8 * (1 + family) * 4.0**place,
                            "n_blocks": 12, "files_sha256": _digest(name), "dtype": "float32", "mode": "completion",
                            "task": task, "task_hash": _digest(task), "n_shots": n_shots,
                            "estimator": "noisy_channel", "preset": "full", "n_seeds": 1, "emergence": emergence,
                            "emergence_error": 0.05, "ceiling": 16.0, "over_twin": emergence - 7 + noise * rng.normal(),
                            "accuracy": accuracy, "n_answered": n_answered, "chance": chance, "target": "measured",
                            "ability": float(ability(accuracy, chance, n_answered)),
                        }
                    )  # fmt: skip
    return as_frame(rows)


def siblings(seed: int, frame: pd.DataFrame, *, n_members: int = 3) -> SiblingFrame:
    """Large models beside the smallest of each family of a frame of cells; scores follow those of the sibling."""
    rng = np.random.default_rng([seed, 20])
    rows = []
    for family, cells in frame.groupby("family"):
        small = cells.sort_values("n_parameters").iloc[0]
        sibling_score = float(accuracy_of(cells.loc[cells["model"] == small["model"], "ability"].mean(), 0.25))
        for place in range(n_members):
            ratio = 8.0 * 2.0**place
            log_odds = ability(sibling_score, 0.25, 10_000) + 0.3 * np.log(ratio) + 0.3 * rng.normal()
            rows.append(
                {
                    "model": f"large {family} {place}", "family": family,
                    "n_parameters": int(small["n_parameters"] * ratio), "score": float(accuracy_of(log_odds, 0.25)),
                    "chance": 0.25, "sibling": small["model"], "sibling_score": sibling_score,
                    "sibling_n_parameters": int(small["n_parameters"]), "log_size_ratio": float(np.log(ratio)),
                    "tag": "published",
                }
            )  # fmt: skip
    return SiblingFrame(frame=pd.DataFrame(rows), benchmark="Quiz", excluded=(), remarks=())


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
