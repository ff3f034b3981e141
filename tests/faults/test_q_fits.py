"""Fits of too few, equal, constant, missing and outlying numbers: refused in words, or finite through and through."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import proxies.fits
from bench.errors import UsageError
from bench.fits import ProblemName
from bench.store import Store
from proxies.board import read_board
from proxies.estimating import estimate_from_performance
from proxies.features import Cells
from proxies.fit_report import write_fit_report
from proxies.fitting import FitOutcome, FitRequest, RefusedFit, fit_one
from proxies.frames import as_csv
from proxies.leaderboard import rows_as_data
from proxies.leaderboard_files import write_leaderboard
from proxies.page import page
from proxies.page_fill import page_data
from tasks import RANKED_TASKS
from tests.bench.told import Told
from tests.faults.children import cli, done
from tests.faults.ledger import IS_FULL, NOT_IN_THE_SLICE, Cases
from tests.planted_zoo import frame, models, put, write_zoo, zoo

PROBLEMS: tuple[ProblemName, ...] = ("models", "emergence", "cells")
TARGET = "f0-m"
CLOSED = "f7-m"
"""Is not measured, where a leaderboard is written."""
NUMBER = re.compile(r"(?<![\w-])(nan|inf|infinity)(?![\w-])", re.IGNORECASE)


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as for a large frame."""
    monkeypatch.setattr(proxies.fits, "MANY_ROWS", 0)


def of_models(n: int) -> pd.DataFrame:
    """The first of them by size, so that families come in turn."""
    names = [model.name for model in sorted(models(), key=lambda one: (one.n_parameters, one.name))]
    rows = frame()
    return rows[rows["model"].isin(names[:n])].reset_index(drop=True)


def features(rows: pd.DataFrame) -> list[str]:
    """The columns of numbers that emergence gives."""
    known = {"accuracy", "n_answered", "chance", "ability", "repeats", "n_parameters", "n_shots", "n_bits", "n_blocks"}
    return [name for name in rows.columns if name not in known and pd.api.types.is_float_dtype(rows[name])]


def changed(change: Callable[[pd.DataFrame], Any]) -> pd.DataFrame:
    rows = frame().copy()
    change(rows)
    return rows


def set_all(names: Callable[[pd.DataFrame], list[str]] | list[str], value: float) -> Callable[[pd.DataFrame], None]:
    def change(rows: pd.DataFrame) -> None:
        for name in names(rows) if callable(names) else names:
            rows[name] = value

    return change


def set_some(name: str, value: float, *, every: int = 0) -> Callable[[pd.DataFrame], None]:
    """In one model, or in every so many-th row."""

    def change(rows: pd.DataFrame) -> None:
        rows.loc[rows.index % every == 0 if every else rows["model"] == "f3-s", name] = value

    return change


def one_family(rows: pd.DataFrame) -> None:
    rows["family"] = "all of one"


def two_families(rows: pd.DataFrame) -> None:
    rows["family"] = np.where(rows["model"].str.startswith(("f0", "f1", "f2")), "one", "other")


def copies(rows: pd.DataFrame) -> None:
    """Every model has the numbers of the first."""
    first = rows[rows["model"] == "f1-s"].reset_index(drop=True)
    for _, group in rows.groupby("model"):
        for name in (*features(rows), "accuracy", "ability"):
            rows.loc[group.index, name] = np.resize(first[name].to_numpy(), len(group))


def all_right(rows: pd.DataFrame) -> None:
    rows["accuracy"], rows["ability"] = 1.0, rows["ability"].max()


CHANGES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "equal features": set_all(features, 1.0),
    "features of 0": set_all(features, 0.0),
    "no features": set_all(features, math.nan),
    "constant emergence": set_all(["emergence"], 3.0),
    "constant answers": set_all(["accuracy", "ability"], 0.5),
    "all right": all_right,
    "no answers": set_all(["accuracy", "ability"], math.nan),
    "equal features and constant answers": lambda rows: (
        set_all(features, 1.0)(rows), set_all(["accuracy", "ability"], 0.5)(rows)
    ),
    "equal sizes": set_all(["n_parameters"], 1e7),
    "sizes not known": set_all(["n_parameters"], math.nan),
    "models of the same numbers": copies,
    "one family": one_family,
    "two families": two_families,
    "emergence of a model not known": set_some("emergence", math.nan),
    "emergence of half of the rows not known": set_some("emergence", math.nan, every=2),
    "ability of a model not known": set_some("ability", math.nan),
    "ability of half of the rows not known": set_some("ability", math.nan, every=2),
    "emergence of a model a billion": set_some("emergence", 1e9),
    "emergence of a model minus a billion": set_some("emergence", -1e9),
    "one cell in fifty of a billion": set_some("emergence", 1e9, every=50),
    "ability of a model far off": set_some("ability", 1e6),
    "a size beyond all others": set_some("n_parameters", 1e18),
    "a size of 1": set_some("n_parameters", 1.0),
    "tiny differences": lambda rows: rows.update({name: 1.0 + 1e-12 * rows.index for name in features(rows)}),
}  # fmt: skip


FEW = ("one family", "two families", "no answers")
REFUSED: dict[str, tuple[str, ...]] = {
    "models": (*FEW, "constant answers", "equal features"),
    "emergence": (*FEW, "constant emergence"),
    "cells": ("constant answers", "no answers"),
}
"""What there is nothing to fit on in; the rest may be fitted."""


def check_text(text: str) -> None:
    """No NaN and no infinity in what is shown of a file."""
    shown = re.sub(r"<[^>]*>", " ", text)
    assert not (found := NUMBER.search(shown)), shown[max(found.start() - 200, 0) : found.end()]


def check(outcome: FitOutcome | RefusedFit, root: Path, *, is_refused: bool | None = None) -> str:
    """Words, or finite numbers in the record and in the report on it."""
    if isinstance(outcome, RefusedFit):
        assert is_refused is not False, outcome.reason
        assert len(outcome.reason.split()) >= 6 and outcome.reason.isprintable(), outcome.reason
        assert not NUMBER.search(outcome.reason), outcome.reason
        return outcome.reason
    assert is_refused is not True, "fitted"
    json.loads(outcome.path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the record"))
    (stored,), rejected = Store(root).fits()
    assert not rejected and stored.record == outcome.record
    for path in write_fit_report(Store(root)):
        check_text(path.read_text())
    for one in outcome.record.comparisons:
        assert 0 < one.p_value <= 1 and one.verdict
    return "fitted"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the zoo but one, measured on the ranked lists; to be copied."""
    store = Store(tmp_path_factory.mktemp("measured"))
    for record in zoo()[0]:
        if record.key.task in RANKED_TASKS and record.key.model != CLOSED:
            put(store.record_path(record.key), record)
    read_board(store, Told())  # which keeps what a board is made of
    return store.root


def check_board(rows: pd.DataFrame, measured: Path, root: Path) -> bool:
    """The leaderboard and its page with a fit, and with an estimate by these rows if there can be one, are finite.

    Returns:
        Whether there is a row that is estimated.
    """
    shutil.copytree(measured, root, dirs_exist_ok=True)
    check_shown(root)
    rows = rows.copy()
    rows.loc[rows["model"] == CLOSED, features(rows)] = math.nan
    request = FitRequest(results=root, given=Cells(frame=rows, excluded=()))
    with contextlib.suppress(UsageError):
        estimate_from_performance(request, CLOSED, family=None, progress=Told())
        return any(row["kind"] == "estimated" for row in check_shown(root))
    return False


def check_shown(root: Path) -> list[dict[str, Any]]:
    board = read_board(Store(root), Told())
    assert board.rejected == () and len(board.fits) > 0
    write_leaderboard(board, root, root / "leaderboard.md")
    shown = rows_as_data(board)
    json.dumps(shown, allow_nan=False)
    assert {model.name for model in models()} - {CLOSED} <= {row["name"] for row in shown}
    files = [root / "leaderboard.md", *(path for path in (root / "leaderboard").iterdir() if path.is_file())]
    for path in files:
        check_text(path.read_text())
    written = page(page_data(board, Store(root), root / "page.html", Told()))
    text, _, data = written.partition("application/json")
    data, _, rest = data.partition("</script>")
    text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", f"{text}>{rest}", flags=re.DOTALL)
    assert not NUMBER.search(text)
    json.loads(data.partition(">")[2], parse_constant=lambda name: pytest.fail(f"{name} in the page"))
    return shown


def fitted(rows: pd.DataFrame, name: ProblemName, root: Path) -> FitOutcome | RefusedFit:
    root.mkdir(parents=True, exist_ok=True)
    request = FitRequest(results=root, given=Cells(frame=rows, excluded=()))
    return fit_one(request, name, TARGET if name == "cells" else "all models", Store(root))


@pytest.mark.parametrize("name", PROBLEMS)
def test_few_models_are_refused_with_their_number(
    cases: Cases, tmp_path: Path, measured: Path, name: ProblemName
) -> None:
    """Where there are just enough, what is fitted is shown beside the leaderboard."""
    for n in dict.fromkeys((7, *map(int, cases.chosen([f"{n:02d}" for n in range(13)], quick=1)))):
        with cases.case(f"{name} of {n} models"):
            rows = of_models(n)
            words = check(fitted(rows, name, tmp_path / str(n)), tmp_path / str(n))
            if n < 8:
                assert re.search(r"\d+ models? of \d+ famil|no performance of|tasks have its", words), words
            if n < 8 and name != "cells":
                assert words.startswith(f"{n} model") or f" {n} model" in words, words
            assert n < 9 or words == "fitted"
            if IS_FULL and words == "fitted":
                check_board(rows, measured, tmp_path / str(n))


@pytest.mark.parametrize("name", PROBLEMS)
def test_odd_numbers_are_refused_or_give_finite_ones(
    cases: Cases, tmp_path: Path, measured: Path, name: ProblemName
) -> None:
    always = {"models": "constant answers", "emergence": "emergence of a model a billion", "cells": "one family"}[name]
    for place, what in enumerate(dict.fromkeys((always, *cases.chosen(sorted(CHANGES), quick=0)))):
        with cases.case(f"{name}: {what}"):
            root = tmp_path / str(place)
            rows = changed(CHANGES[what])
            words = check(fitted(rows, name, root), root)
            if what in REFUSED[name]:
                assert words != "fitted"
            if words == "fitted":
                check_board(rows, measured, root)


@NOT_IN_THE_SLICE
def test_a_model_that_is_not_measured_has_a_finite_row(cases: Cases, tmp_path: Path, measured: Path) -> None:
    """So that the leaderboards of odd numbers have such rows too, where they can be estimated."""
    with cases.case("an estimated row"):
        assert check(fitted(frame(), "emergence", tmp_path), tmp_path) == "fitted"
        assert check_board(frame(), measured, tmp_path)


def _few(*arguments: str) -> None:
    proxies.fits.MANY_ROWS = 0
    cli(*arguments)


@pytest.mark.parametrize("n_families", [0, 1, 4] if IS_FULL else [1])
def test_the_commands_say_it_in_words(cases: Cases, tmp_path: Path, n_families: int) -> None:
    """fit, estimate, leaderboard and features on a zoo that is too small, or just large enough."""
    root = tmp_path / "results"
    root.mkdir()
    if n_families:
        write_zoo(root, n_families)
    else:
        (root / "emergence").mkdir()
    commands: dict[str, tuple[str, ...]] = {
        "fit": ("fit", "--problem", "emergence", "--results", str(root)),
        "fit as data": ("fit", "--problem", "models", "--results", str(root), "--json"),
        "estimate": ("estimate", "f0-m", "--results", str(root)),
        "leaderboard": ("leaderboard", "--results", str(root), "--out", str(tmp_path / "board.md"), "--json"),
    }
    for what, command in commands.items():
        with cases.case(f"{what} of {n_families} families"):
            log = tmp_path / what.replace(" ", "-")
            is_answered = what == "leaderboard" or n_families == 4
            refused = {"fit": 1, "estimate": 2}[command[0]] if not is_answered else 0  # 2: what was asked for cannot be
            said = done(_few, *command, log=log, status=refused)
            assert "Traceback" not in said and not NUMBER.search(said), said
            if what == "leaderboard":
                check_text((tmp_path / "board.md").read_text())
            assert is_answered or re.search(r"\d+ models? of|no model|nothing|needed|there is no|first", said), said


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "abc", "1e12", ""])
def test_cells_from_a_file_are_checked_at_the_door(cases: Cases, tmp_path: Path, value: str) -> None:
    path, results = tmp_path / "cells.csv", tmp_path / "results"
    results.mkdir()
    rows = frame(4).copy()
    rows["emergence"] = rows["emergence"].astype(object)
    rows.loc[5, "emergence"] = "@here@"
    path.write_bytes(as_csv(rows).replace(b"@here@", value.encode()))
    with cases.case(f"a cell of {value!r}"):
        outcome = fit_one(FitRequest(results=results, cells=path), "emergence", "all models", Store(results))
        if value in ("", "nan"):
            check(outcome, results)
        else:
            assert isinstance(outcome, RefusedFit) and f"{path}: column emergence" in outcome.reason, outcome
