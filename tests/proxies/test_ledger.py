"""The ledger: its chain, what breaks it, two writers at once, and predictions before and after the score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import RecordError, StorageError, UsageError
from bench.fits import FitRecord, LedgerEntry, Prediction
from bench.locks import Held, exclusive
from bench.provenance import Start
from bench.terminal_estimate import summary
from proxies import ledger
from proxies.features import FEATURES, feature_names
from proxies.fits import fit, key_of
from proxies.ledger import BEGINNING, FILE, append, as_data, predictions, read_ledger, score
from proxies.regression import cells_problem, cells_to_come
from proxies.validation import Problem
from tests.planted_zoo import TASKS, frame, hash_of, performance_record, stored_performances

ROOT = Path(__file__).parent.parent.parent
BEFORE, AT, AFTER = "2026-02-01T00:00:00+00:00", "2026-02-02T00:00:00+00:00", "2026-02-03T00:00:00+00:00"


def said(task: str = "antonym", n_shots: int = 4, predicted: float = 0.6, **changes: Any) -> Prediction:
    given = {"low": 0.5, "high": 0.7} | changes
    return Prediction(task=task, task_hash=hash_of(task), n_shots=n_shots, predicted=predicted, **given)


def add(root: Path, *what: Prediction, date: str = AT, model: str = "big", mode: Any = "completion") -> LedgerEntry:
    return append(root, what or (said(),), date=date, model=model, mode=mode, predictor="shots", fit_sha256="f" * 64)


def filled(root: Path, n: int = 4) -> Path:
    for number in range(n):
        add(root, model=f"model {number}")
    return root / FILE


def damage(root: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_ledger(root)
    with pytest.raises(RecordError):  # nothing is added to it either
        add(root)
    return str(caught.value)


def test_an_empty_ledger_has_no_entries(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == () == read_ledger(tmp_path / "nowhere")
    (tmp_path / FILE).touch()
    assert read_ledger(tmp_path) == () and score((), []) == ()


def test_entries_are_chained_and_come_back_in_order(tmp_path: Path) -> None:
    first, second = add(tmp_path / "new" / "folder", model="a"), add(tmp_path / "new" / "folder", model="b")
    assert first.previous_sha256 == BEGINNING != second.previous_sha256
    assert read_ledger(tmp_path / "new" / "folder") == (first, second)
    lines = (tmp_path / "new" / "folder" / FILE).read_bytes()
    assert lines.count(b"\n") == 2 and lines.endswith(b"\n")


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda lines: [lines[0], lines[1].replace("0.6", "0.7"), *lines[2:]], 3),
        (lambda lines: [lines[0].replace("model 0", "model 9"), *lines[1:]], 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:2], lines[3], lines[2]], 3),
        (lambda lines: [*lines, lines[0]], 5),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[0], " " + lines[1], *lines[2:]], 3),
    ],
    ids=[
        "changed",
        "first changed",
        "removed",
        "first removed",
        "swapped",
        "last swapped",
        "repeated",
        "twice",
        "space",
    ],
)
def test_a_line_that_was_touched_is_found_and_named(
    spoil: Callable[[list[str]], list[str]], number: int, tmp_path: Path
) -> None:
    path = filled(tmp_path)
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    message = damage(tmp_path)
    assert message.startswith(f"{path}, line {number}: it follows another line than it was written behind")
    assert "restore it from version control" in message


@pytest.mark.parametrize("kept", [1, 30, -1])
def test_a_line_that_was_cut_off_is_found(kept: int, tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    assert "the last line is not whole, a write was cut off; delete that line" in damage(tmp_path)
    path.write_bytes(first)  # as it says
    assert add(tmp_path).previous_sha256 != BEGINNING and len(read_ledger(tmp_path)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 2: the line: Invalid JSON"),
        ("{}", "line 2: schema_version: Field required"),
        ("nonsense", "line 2: the line: Invalid JSON"),
        ('{"schema_version": 2}', "line 2: schema_version: Input should be 1"),
    ],
)
def test_a_line_that_is_no_entry_is_named_with_its_field(line: str, message: str, tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    with path.open("a") as file:
        file.write(line + "\n")
    assert message in damage(tmp_path)


def test_line_ends_of_another_system_break_no_chain(tmp_path: Path) -> None:
    path = filled(tmp_path, 3)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_ledger(tmp_path)) == 3
    add(tmp_path)
    assert len(read_ledger(tmp_path)) == 4


def test_the_last_line_has_none_behind_it_that_would_tell(tmp_path: Path) -> None:
    """What a chain cannot show: lines that are missing at the end. Version control can."""
    path = filled(tmp_path, 3)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert len(read_ledger(tmp_path)) == 2


WRITER = """
import sys
from pathlib import Path
from bench.fits import Prediction
from proxies.ledger import append
for number in range(15):
    said = Prediction(task="antonym", task_hash="a" * 64, n_shots=4, predicted=0.5, low=None, high=None)
    append(Path(sys.argv[1]), (said,), date="2026-02-02T00:00:00+00:00", model=f"{sys.argv[2]} {number}",
           mode="completion", predictor="shots", fit_sha256="f" * 64)
"""


def test_two_processes_keep_the_chain(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], cwd=ROOT, env=environment)
        for name in ("a", "b")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    models = [entry.model for entry in read_ledger(tmp_path)]
    for name in ("a", "b"):
        assert [model for model in models if model.startswith(name)] == [f"{name} {number}" for number in range(15)]


def test_a_held_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "exclusive", partial(exclusive, seconds=0.05))
    with exclusive(tmp_path / ".ledger.lock"), pytest.raises(Held, match="another process is at work in "):
        add(tmp_path)
    assert read_ledger(tmp_path) == ()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another folder, or free space there"):
        add(tmp_path / "file" / "results")
    (tmp_path / FILE).mkdir()
    assert damage(tmp_path) == f"{FILE}: not a regular file"


@pytest.mark.parametrize(("bound", "value"), [("MAX_RECORD_BYTES", 100), ("has_too_many_values", bool)])
def test_a_ledger_that_would_not_be_read_again_is_left_as_it_is(
    bound: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add(tmp_path)
    monkeypatch.setattr(ledger, bound, value)
    with pytest.raises(StorageError, match="it is full; move it away, and a new one begins"):
        add(tmp_path, said("another"))
    assert read_ledger(tmp_path) == (first,)


def test_a_link_out_of_the_folder_is_read_but_not_written_through(tmp_path: Path) -> None:
    root, outside = tmp_path / "results", tmp_path / "outside.jsonl"
    root.mkdir()
    (root / FILE).symlink_to(outside)
    with pytest.raises(StorageError, match="a link leads out of .* put a file in its place"):
        add(root)
    assert not outside.exists() and read_ledger(root) == ()
    (root / FILE).unlink()
    (root / FILE).symlink_to("inside.jsonl")
    assert (add(root),) == read_ledger(root) and (root / "inside.jsonl").is_file() and (root / FILE).is_symlink()


# Scores


def scored(tmp_path: Path, *records: Any, what: Prediction | None = None) -> Any:
    add(tmp_path, what or said())
    (found,) = score(read_ledger(tmp_path), stored_performances(records))
    return found


def asked(n_correct: int = 650, *, date: str = AFTER, model: str = "big", n_shots: int = 4, **changes: Any) -> Any:
    return performance_record(model, "antonym", {n_shots: n_correct}, served=True, date=date, **changes)


def test_a_prediction_that_came_before_the_answers_counts(tmp_path: Path) -> None:
    found = scored(tmp_path, asked(650))
    assert (found.accuracy, found.is_before, found.is_inside) == (0.65, True, True)
    assert summary([found]) == (
        "1 of 1 predictions scored: mean absolute error 0.050, 1 of 1 inside their 80 % interval"
    )


@pytest.mark.parametrize("date", [BEFORE, AT])
def test_a_prediction_that_came_after_the_answers_does_not_count(date: str, tmp_path: Path) -> None:
    found = scored(tmp_path, asked(650, date=date))
    assert (found.accuracy, found.is_before) == (0.65, False)
    assert summary([found]) == (
        "1 predictions, none of those written in time is scored yet; 1 were written after the answers and do not count"
    )


@pytest.mark.parametrize(("n_correct", "inside"), [(500, True), (700, True), (499, False), (701, False)])
def test_an_interval_holds_its_ends(n_correct: int, inside: bool, tmp_path: Path) -> None:
    assert scored(tmp_path, asked(n_correct)).is_inside is inside


@pytest.mark.parametrize(
    "record",
    [
        asked(model="other"), asked(mode="chat"), asked(n_shots=1), asked(task_hash="0" * 64),
        performance_record("big", "country", {4: 650}, date=AFTER),
    ],
)  # fmt: skip
def test_answers_to_something_else_are_no_score(record: Any, tmp_path: Path) -> None:
    found = scored(tmp_path, record)
    assert (found.accuracy, found.is_before, found.is_inside) == (None, True, None)
    assert summary([found]) == "1 predictions, none of them scored yet"


def test_the_first_of_several_records_is_the_score(tmp_path: Path) -> None:
    """What was measured later could have been chosen, whatever the order of the files."""
    first, second = asked(650), asked(600, date="2026-02-04T00:00:00+00:00", seed=1)
    add(tmp_path)
    for records in ((first, second), (second, first)):
        (found,) = score(read_ledger(tmp_path), stored_performances(records))
        assert found.accuracy == 0.65
    early = asked(600, date=BEFORE, seed=2)
    (found,) = score(read_ledger(tmp_path), stored_performances((first, early)))
    assert (found.accuracy, found.is_before) == (0.6, False)


def test_a_prediction_without_an_interval_is_not_inside_it(tmp_path: Path) -> None:
    found = scored(tmp_path, asked(650), what=said(low=None, high=None))
    assert found.is_inside is None and summary([found]).endswith("mean absolute error 0.050")


def test_predictions_as_data(tmp_path: Path) -> None:
    (found,) = as_data([scored(tmp_path, asked(650))])
    assert json.loads(json.dumps(found)) == {
        "date": AT, "model": "big", "mode": "completion", "predictor": "shots", "task": "antonym",
        "task_hash": hash_of("antonym"), "n_shots": 4, "predicted": 0.6, "low": 0.5, "high": 0.7,
        "accuracy": 0.65, "is_before": True, "is_inside": True,
    }  # fmt: skip


# What is predicted


def fitted(rows: pd.DataFrame) -> tuple[Problem, FitRecord]:
    features = feature_names("headline")
    problem = cells_problem(rows, target="f0-m", features=features, mode="completion")
    key = key_of(
        problem, name="cells", target="f0-m", features=features, estimator="noisy_channel", mode="completion", seed=0
    ).model_copy(update={"n_permutations": 9})
    return problem, fit(problem, key, command="bench fit", start=Start.now(), before=0.0)


def to_come(rows: pd.DataFrame) -> pd.DataFrame:
    return cells_to_come(rows, target="f0-m", features=feature_names("headline"), mode="completion")


def planned(rows: pd.DataFrame) -> tuple[str, tuple[Prediction, ...]]:
    return predictions(*fitted(rows), to_come(rows))


def without_answers(*tasks: str, everyone: bool = False) -> Any:
    rows = frame()
    chosen = rows["task"].isin(tasks) & (everyone | (rows["model"] == "f0-m"))
    rows.loc[chosen, ["accuracy", "ability", "chance", "n_answered"]] = np.nan
    rows.loc[chosen, "mode"] = ""
    return rows


def test_what_was_planted_is_predicted() -> None:
    truth = frame().set_index(["model", "task", "n_shots"])["accuracy"]
    predictor, found = planned(without_answers(TASKS[0]))
    assert [(one.task, one.n_shots) for one in found] == [(TASKS[0], 1), (TASKS[0], 4)]
    for one in found:
        assert one.predicted == pytest.approx(truth["f0-m", one.task, one.n_shots], abs=0.01)
        assert one.low is not None and one.high is not None and one.low <= one.predicted <= one.high
        assert one.task_hash == hash_of(one.task)
    assert predictor in ("the proxies' accuracy, fitted", "emergence", "emergence beside what is cheap")


def test_with_nothing_left_to_ask_there_is_nothing_to_predict() -> None:
    with pytest.raises(UsageError, match="f0-m was asked everything that its proxies were measured on") as caught:
        planned(frame())
    assert "measure proxies on a new task first" in str(caught.value)


def test_a_predictor_that_knows_nothing_of_a_cell_to_come_is_not_taken() -> None:
    """The accuracy of the proxies has the least error here; on the task to come only a service was asked."""
    rows = without_answers(TASKS[0], everyone=True)
    one = rows[rows["task"].eq(TASKS[0]) & rows["model"].eq("f1-m") & rows["n_shots"].eq(4)]
    service = one.assign(
        model="closed", family="service: closed", files_sha256="", dtype="", kind="unknown", mode="completion",
        accuracy=0.5, chance=0.0, n_answered=100.0, ability=0.0, n_parameters=np.nan,
        **dict.fromkeys(FEATURES, np.nan),
    )  # fmt: skip
    rows = pd.concat([rows, service], ignore_index=True)
    wanted = to_come(rows)
    assert len(wanted) == 1 and wanted["proxies_ability"].isna().all()
    problem, record = fitted(rows)
    errors = tuple(
        item.model_copy(update={"mean_absolute_error": 0.0 if item.name == "the proxies' accuracy" else 0.5})
        for item in record.errors
    )
    predictor, found = predictions(problem, record.model_copy(update={"errors": errors}), wanted)
    assert predictor not in ("the proxies' accuracy", "the proxies' accuracy, fitted")
    assert len(found) == 1 and 0 <= found[0].predicted <= 1
