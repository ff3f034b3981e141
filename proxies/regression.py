"""The questions that are put to emergence, as rows to be predicted: what goes in, what is held out, against what.

A task is never on both sides of a fit through one model: what a model's emergence on it predicts, or what predicts it,
is its accuracy on other tasks, or the accuracy of other models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.fits import PERFORMANCE, Excluded
from bench.sources import checkpoint_of
from proxies.ability import ability
from proxies.published import PublishedScores, SiblingFrame
from proxies.validation import Predictor, Problem
from tasks import RANKED_TASKS

FEWEST_MODELS, FEWEST_FAMILIES = 8, 3
FEWEST_TASKS = 8

SHOTS = 4
"""Demonstrations in the prompts whose answers make the performance of a model: the most that emergence of lists has."""

FIRST_SHOT = 1

SHOTS_READ = (FIRST_SHOT, SHOTS)
"""What an estimate from performance is of."""

FEWEST_SIZES = 3
"""A slope over two sizes is a difference of two models."""

_CELL = ["task_hash", "n_shots"]
_MODEL = ["model", "files_sha256", "dtype"]

QUESTIONS_OF_A_SCORE = 10_000
"""Published scores do not say how many questions they are of: about as many as the larger benchmarks have."""

ALONE, BESIDE = "emergence", "emergence beside what is cheap"
PERFORMANCE_BESIDE = "performance beside size"


def cells_problem(
    frame: pd.DataFrame, *, target: str, features: Sequence[str], mode: str, proxies: Sequence[str] = ()
) -> Problem:
    """Accuracy of one model on tasks that the fit has not seen, from the emergence of other models on the same prompts.

    Args:
        proxies: the models whose emergence is used; none named: every one. The target and what is made of it never are.

    Raises:
        UsageError: too few models, families or tasks, with the counts.
    """
    asked = only(frame, target, mode)
    asked = asked[(asked["n_shots"] > 0) & asked["ability"].notna()]  # none where guessing is always right
    others, excluded = _proxies(frame, target, proxies)
    _refuse_small(frame, frame["model"].isin([target, *others["model"]]))
    _refuse_identical(others, features)
    own = asked[["model", "family", "task", *_CELL, "accuracy", "chance", "n_answered", "ability"]]
    joined = own.merge(_of_proxies(others, features, mode), on=_CELL, how="left", indicator=True)
    joined = joined.sort_values(["task", "task_hash", "n_shots"], kind="stable")
    lacking = joined[joined["_merge"] == "left_only"]
    found = _cell_inputs(joined[joined["_merge"] == "both"].reset_index(drop=True))
    n_tasks = found["task"].nunique()
    if n_tasks < FEWEST_TASKS:
        raise UsageError(
            f"{target}: {n_tasks} tasks have its accuracy and the emergence of a proxy, and {FEWEST_TASKS} are needed; "
            f"ask it on more tasks with `bench query {target} --tasks all`"
        )
    _refuse_constant(found["y"], f"the accuracy of {target}")
    if len(lacking):
        cells = ", ".join(f"{row.task} at {row.n_shots:g} shots" for row in lacking.itertuples())
        reason = f"no proxy was measured on {len(lacking)} of its cells: {cells}"
        excluded.append(Excluded(what=target, reason=_cut(reason)))
    columns = tuple(
        f"{name}_{part}" for name in features for part in ("mean", "slope") if found[f"{name}_{part}"].notna().any()
    )
    cheap = ("proxies_ability", "log_shots")
    return Problem(
        frame=found,
        unit="accuracy",
        fold_unit="task",
        predictors=(
            Predictor(name="the target's mean", role="baseline"),
            Predictor(name="the target's median", role="baseline", median_of=()),
            Predictor(name="the target's median at these shots", role="baseline", median_of=("n_shots",)),
            Predictor(name="shots", role="baseline", columns=("log_shots",)),
            Predictor(name="chance", role="baseline", as_is="at_chance"),
            Predictor(name="the proxies' accuracy", role="baseline", in_unit="proxies_accuracy"),
            Predictor(name="the proxies' accuracy, fitted", role="baseline", columns=cheap, needs_all=True),
            Predictor(name=ALONE, role="tested", columns=("log_shots", *columns), given=("log_shots",)),
            Predictor(name=BESIDE, role="both", columns=(*cheap, *columns), given=cheap),
        ),
        proxies=tuple(sorted(set(others["model"]))),
        excluded=tuple(excluded),
        remarks=(
            f"a cell has the emergence of {found['n_proxies'].min():g} to {found['n_proxies'].max():g} proxies, each "
            "counted from its own mean",
        ),
    )


def cells_to_come(
    frame: pd.DataFrame, *, target: str, features: Sequence[str], mode: str, proxies: Sequence[str] = ()
) -> pd.DataFrame:
    """Inputs, as in `cells_problem`, of the cells that the target was not asked yet and other models were."""
    asked = only(frame, target, mode)
    others, _ = _proxies(frame, target, proxies)
    known = frame[(frame["mode"] == mode) & (frame["n_shots"] > 0) & frame["chance"].notna()]
    cells = known.groupby(["task", *_CELL], as_index=False).agg(
        chance=("chance", "mean"), n_answered=("n_answered", "max")
    )
    cells = cells.merge(_of_proxies(others, features, mode), on=_CELL)
    is_asked = pd.MultiIndex.from_frame(cells[_CELL]).isin(pd.MultiIndex.from_frame(asked[_CELL]))
    first = asked.iloc[0]
    wanted = cells[~is_asked].assign(model=target, family=first["family"], accuracy=math.nan, ability=math.nan)
    return _cell_inputs(wanted.sort_values(["task", "n_shots"], kind="stable").reset_index(drop=True))


def models_problem(frame: pd.DataFrame, *, features: Sequence[str], mode: str) -> Problem:
    """Performance of the models of a family that the fit has not seen, from their emergence on other tasks.

    Emergence is that of the ranked lists at the last shot; performance that on every other task that all models were
    asked, at four shots.

    Raises:
        UsageError: too few models or families, with the counts.
    """
    emergence, excluded = emergence_of_models(frame, features)
    found, tasks, left = _performance_of_models(emergence, _on_other_tasks(frame, mode))
    excluded += left
    _refuse_small(found, found["n_parameters"].notna())
    _refuse_identical(found, features)
    _refuse_constant(found["y"], "the performance of all models")
    found, unsized = _sized(_with_siblings(found))
    columns = tuple(name for name in features if found[name].notna().any())
    return Problem(
        frame=found,
        unit="accuracy",
        fold_unit="family",
        predictors=(
            Predictor(name="the mean", role="baseline"),
            Predictor(name="the median", role="baseline", median_of=()),
            Predictor(name="parameters", role="baseline", columns=("log_parameters",)),
            Predictor(name="size in bits", role="baseline", columns=("log_bits",)),
            Predictor(name="the small sibling's score", role="baseline", as_is="sibling_ability"),
            Predictor(
                name="the sibling's score and size ratio",
                role="baseline",
                columns=("sibling_ability", "log_ratio"),
                needs_all=True,
            ),
            Predictor(name=ALONE, role="tested", columns=columns),
            Predictor(name=BESIDE, role="both", columns=("log_bits", *columns), given=("log_bits",)),
        ),
        excluded=(*excluded, *unsized),
        tasks=tasks,
        remarks=(f"performance is the mean over {', '.join(tasks)} at {SHOTS} shots", _at_chance(found)),
    )


def emergence_problem(frame: pd.DataFrame, *, mode: str) -> Problem:
    """Emergence of the models of a family that the fit has not seen, from what they get right on other tasks.

    The regression is of emergence on performance, not the other way round and inverted: where performance hardly
    depends on emergence, an inverted line has no end of an interval, and this one says that it does not know.

    Source: Krutchkoff 1967, "Classical and inverse regression methods of calibration".

    Raises:
        UsageError: too few models or families, with the counts.
    """
    emergence, excluded = emergence_of_models(frame, ("emergence",))
    answers = _on_other_tasks(frame, mode)
    found, tasks, left = _performance_of_models(emergence, answers)
    excluded += left
    _refuse_small(found, found["n_parameters"].notna())
    found, unsized = _sized(_with_performance(found, answers, tasks).assign(y=lambda rows: rows["emergence"]))
    _refuse_constant(found["y"], "the emergence of all models")
    columns = tuple(name for name in PERFORMANCE_COLUMNS if found[name].notna().any())
    return Problem(
        frame=found,
        unit="bits",
        fold_unit="family",
        predictors=(
            Predictor(name="the mean", role="baseline"),
            Predictor(name="the median", role="baseline", median_of=()),
            Predictor(name="parameters", role="baseline", columns=("log_parameters",)),
            Predictor(name="size in bits", role="baseline", columns=("log_bits",)),
            Predictor(name=PERFORMANCE, role="tested", columns=columns),
            Predictor(name=PERFORMANCE_BESIDE, role="both", columns=("log_bits", *columns), given=("log_bits",)),
        ),
        excluded=(*excluded, *unsized),
        tasks=tasks,
        remarks=(
            f"performance is that on {', '.join(tasks)}",
            f"emergence is the mean over {', '.join(RANKED_TASKS)} at the last shot",
            _at_chance(found),
        ),
    )


def published_problem(
    siblings: SiblingFrame, frame: pd.DataFrame, *, features: Sequence[str], scores: PublishedScores | None = None
) -> Problem:
    """Published scores of larger models, from a smaller sibling's score, their sizes, and its emergence where measured.

    Args:
        scores: where the siblings are from: what its file leaves out, or remarks on, is told with the fit.

    Raises:
        UsageError: too few models or families, with the counts.
    """
    cells = siblings.frame
    rows = pd.DataFrame(
        {
            "model": cells["model"], "family": cells["family"],
            "n_parameters": cells["n_parameters"].astype(np.float64),
            "task": siblings.benchmark, "n_shots": math.nan, "fold": cells["family"], "unit": cells["model"],
            "block": cells["family"], "accuracy": cells["score"], "chance": cells["chance"],
            "n_answered": float(QUESTIONS_OF_A_SCORE), "sibling": cells["sibling"],
            "y": ability(cells["score"], cells["chance"], QUESTIONS_OF_A_SCORE),
            "sibling_ability": ability(cells["sibling_score"], cells["chance"], QUESTIONS_OF_A_SCORE),
            "log_ratio": cells["log_size_ratio"], "log_parameters": np.log(cells["n_parameters"].astype(np.float64)),
        }
    )  # fmt: skip
    _refuse_small(rows, rows["model"].notna())
    _refuse_constant(rows["y"], f"the scores on {siblings.benchmark}")
    emergence, _ = emergence_of_models(frame, features)
    measured = emergence[["model", *features]].rename(columns={"model": "sibling"}).drop_duplicates("sibling")
    rows = rows.merge(measured, on="sibling", how="left")
    columns = tuple(name for name in features if rows[name].notna().any())
    unread, of_file = (scores.excluded, scores.remarks) if scores else ((), ())
    cheap = ("sibling_ability", "log_ratio")
    known = sorted(set(rows["sibling"]) & set(measured["sibling"]))
    predictors = [
        Predictor(name="the mean", role="baseline"),
        Predictor(name="the median", role="baseline", median_of=()),
        Predictor(name="parameters", role="baseline", columns=("log_parameters",)),
        Predictor(name="the small sibling's score", role="baseline", as_is="sibling_ability"),
        Predictor(name="the sibling's score and size ratio", role="baseline", columns=cheap),
    ]
    wanted = sorted(set(rows["sibling"]))
    remark = f"emergence of {len(known)} of {len(wanted)} siblings is measured"
    if len(rows.loc[rows["sibling"].isin(known), "family"].unique()) >= FEWEST_FAMILIES:
        predictors += [
            Predictor(name=ALONE, role="tested", columns=columns, needs_all=True),
            Predictor(name=BESIDE, role="both", columns=(*cheap, *columns), given=cheap, needs_all=True),
        ]
    else:
        remark += f": too few to say anything of it; measure them with `bench run {' '.join(wanted[:4])} ...`"
    return Problem(
        frame=rows.reset_index(drop=True),
        unit="accuracy",
        fold_unit="family",
        predictors=tuple(predictors),
        proxies=tuple(known),
        excluded=(
            *(Excluded(what=f"line {one.line}: {one.model}"[:300], reason=_cut(one.reason)) for one in unread),
            *(
                Excluded(what=text.partition(":")[0][:300], reason=_cut(text.partition(": ")[2] or text))
                for text in siblings.excluded
            ),
        ),
        remarks=tuple(map(_cut, (remark, *of_file, *siblings.remarks))),
    )


PERFORMANCE_COLUMNS = ("ability", "ability_gain")
"""At `SHOTS` demonstrations, the mean over tasks; and what that is above the ability at one."""


def only(frame: pd.DataFrame, model: str, mode: str, *, served: bool = False) -> pd.DataFrame:
    """The rows of one model asked in one mode: the weights here, or what a service answered where there are none.

    Args:
        served: prefer what a service answered.

    Raises:
        UsageError: there is no such row; several weights have that name.
    """
    rows = frame[(frame["model"] == model) & (frame["mode"] == mode)]
    if rows.empty:
        known = sorted(set(frame.loc[frame["mode"] == mode, "model"]))
        raise UsageError(
            f"no performance of '{model[:80]}' in {mode} mode is in the records; ask it with `bench query {model[:80]}`"
            + (f"; there are {', '.join(known)}" if known else "")
        )
    here, there = rows[rows["files_sha256"] != ""], rows[rows["files_sha256"] == ""]
    chosen = there if len(there) and (served or here.empty) else here
    files = sorted(set(zip(chosen["files_sha256"], chosen["dtype"], strict=True)))
    if len(files) > 1:
        shown = ", ".join(f"{sha[:12]} in {dtype}" if sha else f"a service at {dtype}" for sha, dtype in files)
        raise UsageError(f"{len(files)} different models are called '{model}': {shown}; keep one in the results folder")
    return chosen


def original_of(name: str) -> str:
    """The model that another was made of by rounding, cutting or at a step of its training."""
    bare = name.partition("@")[0]
    checkpoint = checkpoint_of(bare)
    return checkpoint.model if checkpoint else bare


def _proxies(frame: pd.DataFrame, target: str, wanted: Sequence[str]) -> tuple[pd.DataFrame, list[Excluded]]:
    measured = frame[frame["emergence"].notna() & (frame["family"] != "")]
    unknown = [name for name in wanted if name not in set(measured["model"])]
    if unknown:
        raise UsageError(
            f"no emergence of '{unknown[0][:80]}' is in the records; measure it with `bench run {unknown[0][:80]}`; "
            f"there are {', '.join(sorted(set(measured['model'])))}"
        )
    own_files = set(frame.loc[frame["model"].map(original_of) == original_of(target), "files_sha256"]) - {""}
    is_own = (measured["model"].map(original_of) == original_of(target)) | measured["files_sha256"].isin(own_files)
    is_wanted = measured["model"].isin(list(wanted) or set(measured["model"]))
    excluded = [
        Excluded(what=name, reason="no proxy: it is the target, or made of it")
        for name in sorted(set(measured.loc[is_own, "model"]))
    ]
    found = measured[is_wanted & ~is_own]
    if found.empty:
        raise UsageError(f"{target}: no other model has its emergence measured; measure one with `bench run MODEL`")
    return found, excluded


def _of_proxies(others: pd.DataFrame, features: Sequence[str], mode: str) -> pd.DataFrame:
    """By content of the task and shots: each feature's mean over proxies and its slope over their size; their accuracy.

    Cells are not all measured by the same proxies. So that a mean does not tell by whom, each feature counts from the
    proxy's own mean over all cells.

    A slope is that of least squares over the logarithm of parameters; NaN of fewer than three sizes.
    """
    measured = others.drop_duplicates([*_MODEL, *_CELL])
    cells = measured[_CELL].drop_duplicates().set_index(_CELL).sort_index()
    answered = others[(others["mode"] == mode) & others["ability"].notna()]
    of_cells = answered.groupby(_CELL)
    columns = {
        "proxies_ability": of_cells["ability"].mean(),
        "proxies_accuracy": of_cells["accuracy"].mean(),
        "n_proxies": measured.groupby(_CELL)["model"].nunique(),
    }
    features = list(features)
    measured = measured.assign(
        **{name: measured[name] - measured.groupby(_MODEL)[name].transform("mean") for name in features}
    )
    for name in features:
        known = measured[measured[name].notna()]
        columns[f"{name}_mean"] = known.groupby(_CELL)[name].mean()
        sized = known[known["n_parameters"].notna()]
        by_cell = sized.assign(x=np.log(sized["n_parameters"])).groupby(_CELL)
        centred = pd.DataFrame(
            {cell: sized[cell] for cell in _CELL}
            | {"x": np.log(sized["n_parameters"]) - by_cell["x"].transform("mean"), "y": sized[name]}
        )
        sums = centred.assign(xy=centred["x"] * centred["y"], xx=centred["x"] ** 2).groupby(_CELL)[["xy", "xx"]].sum()
        enough = by_cell["n_parameters"].nunique() >= FEWEST_SIZES
        columns[f"{name}_slope"] = (sums["xy"] / sums["xx"]).where(enough)
    return cells.join(pd.DataFrame(columns)).reset_index()


def _cell_inputs(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of cells with everything that a problem needs beside features."""
    return cells.assign(
        fold=cells["task"],
        unit=cells["task"],
        block="",
        y=cells["ability"],
        log_shots=np.log2(1 + cells["n_shots"]),
        at_chance=ability(cells["chance"], cells["chance"], cells["n_answered"]),
    )


def _cut(reason: str) -> str:
    """A reason of the length that a record keeps."""
    return reason if len(reason) <= 1000 else f"{reason[:990]} ..."


def emergence_of_models(frame: pd.DataFrame, features: Sequence[str]) -> tuple[pd.DataFrame, list[Excluded]]:
    """One row a model (files, arithmetic): features on the ranked lists at their last shot, the mean over the lists."""
    lists = _same_content(frame[frame["task"].isin(RANKED_TASKS) & frame["emergence"].notna()])
    rows, excluded = [], []
    names = ["model", "files_sha256", "dtype"]
    for _, cells in lists.groupby(names, sort=True):
        last = cells.sort_values("n_shots").drop_duplicates(["task", "task_hash", "n_shots"]).groupby("task").tail(1)
        model = str(cells["model"].iloc[0])
        if set(last["task"]) != set(RANKED_TASKS) or last["n_shots"].nunique() != 1 or len(last) != len(RANKED_TASKS):
            lacking = sorted(set(RANKED_TASKS) - set(last["task"])) or ["one number of shots"]
            excluded.append(Excluded(what=model, reason=f"its emergence lacks {', '.join(lacking)}"))
            continue
        first = cells.iloc[0]
        rows.append(
            {name: first[name] for name in (*names, "family", "kind", "n_bits", "n_parameters", "n_blocks")}
            | {name: last[name].mean() for name in dict.fromkeys(("emergence", "emergence_error", *features))}
        )
    numbers = list(dict.fromkeys(("emergence", "emergence_error", *features)))
    found = pd.DataFrame(rows, columns=[*names, "family", "kind", "n_bits", "n_parameters", "n_blocks", *numbers])
    is_copy = found.duplicated(numbers)
    excluded += [
        Excluded(what=name, reason="its emergence is that of another model, number for number: a copy")
        for name in found.loc[is_copy, "model"]
    ]
    return found[~is_copy].reset_index(drop=True), excluded


def _performance_of_models(
    emergence: pd.DataFrame, answers: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[str, ...], list[Excluded]]:
    """Emergence beside the mean accuracy over the tasks that all these models were asked; those tasks; who was not."""
    names = ["model", "files_sha256", "dtype"]
    answers = answers[answers["n_shots"] == SHOTS]
    both = emergence.merge(
        answers.drop_duplicates([*names, "task"], keep="last")[[*names, "task", "accuracy", "chance", "n_answered"]],
        on=names,
    )
    absent = sorted(set(emergence["model"]) - set(both["model"]))
    excluded = [Excluded(what=name, reason=f"not asked at {SHOTS} shots") for name in absent]
    asked_by = both.groupby("task").size()
    tasks = tuple(sorted(asked_by[asked_by == len(both[names].drop_duplicates())].index))
    if len(both) and not tasks:
        raise UsageError(
            "no task was asked of all models; ask them the same tasks with `bench query MODEL --tasks all`"
        )
    shared = both[both["task"].isin(tasks)]
    rows = (
        shared.groupby(names, sort=True)[["accuracy", "chance", "n_answered"]]
        .agg({"accuracy": "mean", "chance": "mean", "n_answered": "sum"})
        .reset_index()
    )
    found = emergence.merge(rows, on=names)
    found = found.assign(
        y=ability(found["accuracy"], found["chance"], found["n_answered"]), task="", n_shots=math.nan,
        fold=found["family"], unit=found["model"] + found["files_sha256"] + found["dtype"], block=found["family"],
    )  # fmt: skip
    return found, tasks, excluded


def _at_chance(found: pd.DataFrame) -> str:
    n = int((found["accuracy"] <= found["chance"]).sum())
    return f"{n} of {len(found)} models are at chance or below it, where performance does not tell them apart"


def _with_performance(found: pd.DataFrame, answers: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    names = ["model", "files_sha256", "dtype"]
    rows = [
        dict(zip(names, key, strict=True)) | performance_features(cells, tasks)
        for key, cells in answers.groupby(names, sort=True)
    ]
    return found.merge(pd.DataFrame(rows, columns=[*names, *PERFORMANCE_COLUMNS]), on=names)


def performance_features(answers: pd.DataFrame, tasks: Sequence[str]) -> dict[str, float]:
    """What the answers of one model say, one row a task and shots: the columns of `PERFORMANCE_COLUMNS`.

    NaN where it was not asked; a gain is the mean over the tasks that were asked at both numbers of shots.
    """
    of_tasks = answers[answers["task"].isin(list(tasks))]
    by_shots = of_tasks.pivot_table(index="task", columns="n_shots", values="ability")
    last, first = (by_shots.get(n, pd.Series(dtype=np.float64)) for n in (SHOTS, FIRST_SHOT))
    return {"ability": float(last.mean()), "ability_gain": float((last - first).mean())}


def _on_other_tasks(frame: pd.DataFrame, mode: str) -> pd.DataFrame:
    """Answers to the tasks that are not ranked: emergence is measured on those that are."""
    asked = (frame["mode"] == mode) & frame["ability"].notna() & ~frame["task"].isin(RANKED_TASKS)
    return _same_content(frame[asked])


def _same_content(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each task the rows with the content that most models have; of another, answers are to other prompts."""
    contents = ["task", "task_hash"]
    usual = rows.groupby(contents, sort=True)["model"].nunique().groupby("task").idxmax()
    return rows[pd.MultiIndex.from_frame(rows[contents]).isin(list(usual))]


def _with_siblings(found: pd.DataFrame) -> pd.DataFrame:
    """Beside each model the smallest published one of its family with fewer parameters."""
    sizes = found["n_parameters"]
    scores, ratios = [], []
    for place, row in found.iterrows():
        smaller = (found["family"] == row["family"]) & (sizes < sizes[place]) & (found["kind"] == "published")
        sibling = sizes[smaller].idxmin() if smaller.any() else None
        scores.append(math.nan if sibling is None else float(found.at[sibling, "y"]))
        ratios.append(math.nan if sibling is None else math.log(sizes[place] / sizes[sibling]))
    return found.assign(sibling_ability=scores, log_ratio=ratios)


def _sized(found: pd.DataFrame) -> tuple[pd.DataFrame, list[Excluded]]:
    """Rows of models whose size is known, with its logarithms; the others by name."""
    known = found["n_parameters"].notna()
    excluded = [
        Excluded(what=name, reason="its number of parameters is not known") for name in found.loc[~known, "model"]
    ]
    sized = found[known].reset_index(drop=True)
    parameters = np.log(sized["n_parameters"])
    return sized.assign(log_parameters=parameters, log_bits=parameters + np.log(sized["n_bits"])), excluded


def _refuse_small(frame: pd.DataFrame, chosen: pd.Series) -> None:
    n_models = frame.loc[chosen, "model"].nunique()
    families = sorted(set(frame.loc[chosen, "family"]))
    if n_models < FEWEST_MODELS or len(families) < FEWEST_FAMILIES:
        shown = f" ({', '.join(families)})" if families else ""
        raise UsageError(
            f"{n_models} models of {len(families)} families{shown} have everything that this fit needs, and at least "
            f"{FEWEST_MODELS} models of {FEWEST_FAMILIES} families are needed; measure more with `bench run MODEL` and "
            "`bench query MODEL`"
        )


def _refuse_constant(values: pd.Series, what: str) -> None:
    if values.nunique() < 2:
        raise UsageError(f"{what} is the same in all {len(values)} rows: there is nothing to predict")


def _refuse_identical(frame: pd.DataFrame, features: Sequence[str]) -> None:
    """Of a copied record under another name, say: models are not as many as they seem."""
    known = [name for name in features if frame[name].notna().any()]
    if not known:
        raise UsageError(f"no model has {', '.join(features)}; name other columns with --features")
    different = {rows[known].to_numpy().tobytes() for _, rows in frame.groupby("model", sort=True)}
    if len(different) < 2:
        raise UsageError(
            "all models have the same features of emergence, number for number: they are copies of one record"
        )
