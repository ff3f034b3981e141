"""The frame of cells as CSV and Parquet, there and back; and files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from proxies.features import COLUMNS, as_frame
from proxies.frames import as_csv, as_parquet, read_cells

NUMBERS = [column.name for column in COLUMNS if column.unit not in ("name", "hex")]
TEXTS = [column.name for column in COLUMNS if column.unit in ("name", "hex")]
FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {"csv": as_csv, "parquet": as_parquet}


def frame(n: int = 40, **columns: Any) -> pd.DataFrame:
    """Numbers of every size that their columns may have, some of them missing; plain names."""
    rng = np.random.default_rng(5)
    found = {name: [f"{name} {place}" for place in range(n)] for name in TEXTS}
    for name in NUMBERS:
        if name in ("accuracy", "chance", "repeats"):
            numbers = rng.random(n)
        elif name.startswith("n_"):
            numbers = rng.integers(1, 60, n).astype(np.float64)
        else:
            numbers = rng.normal(size=n) * 10.0 ** rng.integers(-30, 8, n)
        if name != "n_shots":
            numbers[rng.random(n) < 0.1] = np.nan
        found[name] = numbers.tolist()
    found |= columns
    return as_frame({name: values[place] for name, values in found.items()} for place in range(n))


def there_and_back(given: pd.DataFrame, kind: str, folder: Path) -> pd.DataFrame:
    path = folder / f"cells.{kind}"
    path.write_bytes(FORMATS[kind](given))
    return read_cells(path)


def written(folder: Path, text: str | bytes, name: str = "cells.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_cells(path)
    message = str(caught.value)
    assert message.count("\n") == 0 and str(path) in message and "Traceback" not in message
    return message


@pytest.mark.parametrize("kind", FORMATS)
def test_numbers_and_names_come_back_to_the_last_digit(kind: str, tmp_path: Path) -> None:
    given = frame(400)
    given.loc[0, "emergence"] = 0.1 + 0.2
    given.loc[1, "emergence"] = 5e-324
    given.loc[2, "emergence"] = -0.0
    given.loc[3, "n_parameters"] = 2.0**53 + 2
    pd.testing.assert_frame_equal(there_and_back(given, kind, tmp_path), given, check_exact=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows_and_empty_columns_come_back(kind: str, tmp_path: Path) -> None:
    """Where nothing was asked, the mode of every row is empty."""
    empty = frame(3, mode=("", "", ""), target=("", "", ""), accuracy=(np.nan,) * 3)
    pd.testing.assert_frame_equal(there_and_back(empty, kind, tmp_path), empty)
    nothing = as_frame([])
    found = there_and_back(nothing, kind, tmp_path)
    assert found.empty and list(found.columns) == list(nothing.columns)


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "1.0", "True", "a,b", 'a"b', "x@int4", "É", "'"])
@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_look_like_something_else_stay_names(kind: str, name: str, tmp_path: Path) -> None:
    given = frame(3, model=(name, "b", "c"))
    assert there_and_back(given, kind, tmp_path)["model"].tolist() == [name, "b", "c"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_spreadsheet_takes_no_name_for_a_formula(start: str, tmp_path: Path) -> None:
    name = f"{start}1+cmd|' /C calc'!A0"
    lines = as_csv(frame(2, model=(name, "b"))).decode().splitlines()
    assert len(lines) == 3 and lines[1].startswith(f"'{name},")
    assert there_and_back(frame(2, model=(name, "b")), "parquet", tmp_path)["model"].tolist() == [name, "b"]


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\r\nb", "a\x1b[31mb", "a\u202eb", "\t=1", "\r=1", "a\x00b"])
def test_control_characters_neither_break_a_line_nor_reach_a_terminal(name: str, tmp_path: Path) -> None:
    content = as_csv(frame(2, model=(name, "b"))).decode()
    assert content.count("\n") == 3 and not any(character in content for character in "\t\r\x1b\u202e\x00")
    assert not content.splitlines()[1].startswith("=")
    assert there_and_back(frame(2, model=(name, "b")), "csv", tmp_path)["model"].tolist()[1] == "b"


def test_the_same_frame_gives_the_same_bytes() -> None:
    for kind in FORMATS:
        assert FORMATS[kind](frame()) == FORMATS[kind](frame())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "", "No columns to parse"),
        (lambda text: text.replace("emergence,", "emergency,", 1), "lacks the columns emergence"),
        (lambda text: text.replace("\n", ",extra\n", 1).replace("4\n", "4,1\n"), "extra"),
        (lambda text: text.partition("\n")[2], "lacks the columns"),
        (lambda text: text.replace(",", ";"), "lacks the columns"),
        (lambda text: text + '"open', "EOF inside string"),
        (lambda text: text + "," * 99 + "\n", "Expected 38 fields"),
        (lambda text: text.replace("\n", ",\x1b[31mred\n", 1), "red, which mean nothing here"),
    ],
)
def test_a_file_of_another_shape_is_refused(spoil: Callable[[str], str], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, spoil(as_csv(frame(5)).decode()))
    found = refusal(path)
    assert message in found and "write it with `bench features" in found and "\x1b" not in found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("four", "could not convert string to float: 'four'"),
        ("inf", "row 2 is infinite; a number is expected"),
        ("-Infinity", "row 2 is infinite"),
        ("1e999", "row 2 is infinite"),
        ("1,5", "Expected 38 fields"),
        ("0x10", "could not convert"),
        ("\x1b[31m", "numbers or nothing are expected"),
    ],
)
def test_what_is_no_number_is_refused(value: str, message: str, tmp_path: Path) -> None:
    lines = as_csv(frame(4)).decode().splitlines()
    cells = lines[2].split(",")
    cells[[column.name for column in COLUMNS].index("emergence")] = value
    found = refusal(written(tmp_path, "\n".join([*lines[:2], ",".join(cells), *lines[3:]])))
    assert message in found and "\x1b" not in found
    assert "column emergence" in found or "," in value


@pytest.mark.parametrize(
    "values",
    [
        [{"a": 1}] * 3,
        [[1.0]] * 3,
        ["a"] * 3,
        pd.to_datetime(["2026-01-01"] * 3),
        pd.to_timedelta([1, 2, 3]),
        [1.0, np.inf, 2.0],
    ],
    ids=["objects", "lists", "text", "dates", "durations", "infinity"],
)
def test_parquet_with_something_else_than_numbers_is_refused(values: Any, tmp_path: Path) -> None:
    given = frame(3)
    given["emergence"] = values
    given.to_parquet(tmp_path / "cells.parquet", index=False)
    assert "column emergence" in refusal(tmp_path / "cells.parquet")


def test_parquet_with_other_columns_is_refused(tmp_path: Path) -> None:
    frame(3).drop(columns="peak").to_parquet(tmp_path / "less.parquet")
    assert "lacks the columns peak; write it with `bench features`" in refusal(tmp_path / "less.parquet")
    frame(3).assign(more=1).to_parquet(tmp_path / "more.parquet")
    assert "has the columns more, which mean nothing here" in refusal(tmp_path / "more.parquet")


@pytest.mark.parametrize("kind", FORMATS)
def test_no_file_at_all_is_refused(kind: str, tmp_path: Path) -> None:
    missing, folder, empty = (tmp_path / f"{name}.{kind}" for name in ("missing", "folder", "empty"))
    folder.mkdir()
    empty.write_bytes(b"")
    assert "write it with `bench features" in refusal(missing)
    assert "write it with `bench features" in refusal(folder)
    assert "write it with `bench features" in refusal(empty)


def test_damaged_parquet_is_refused_or_read_and_never_breaks(tmp_path: Path) -> None:
    """Bytes changed at random and files cut short: a refusal in words, whatever the reader makes of them."""
    whole, rng = as_parquet(frame(20)), np.random.default_rng(1)
    path = tmp_path / "cells.parquet"
    for trial in range(120):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(whole) * 3 // 4 if trial % 2 else 0, len(whole))] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(whole))] if trial % 5 == 0 else bytes(content))
        try:
            found = read_cells(path)
        except UsageError as error:
            assert str(path) in str(error)
        else:
            assert list(found.columns) == [column.name for column in COLUMNS]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(written(tmp_path, b"\xe9" + as_csv(frame(2))))
    assert "cannot read" in refusal(written(tmp_path, bytes(range(256)) * 9))


def test_line_ends_and_marks_of_other_systems_are_read(tmp_path: Path) -> None:
    text = as_csv(frame(3)).decode()
    for changed in (text.replace("\n", "\r\n"), "\ufeff" + text, text.rstrip("\n")):
        pd.testing.assert_frame_equal(read_cells(written(tmp_path, changed)), frame(3), check_exact=True)


def test_the_order_of_columns_in_a_file_does_not_matter(tmp_path: Path) -> None:
    given = frame(3)
    given[list(reversed(given.columns))].to_csv(tmp_path / "cells.csv", index=False)
    pd.testing.assert_frame_equal(read_cells(tmp_path / "cells.csv"), given, check_exact=True)
