"""Settings of an estimator, from the command line and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from bench.errors import UsageError
from bench.estimators import ESTIMATORS
from bench.request import changed_settings, make_estimator, split_setting
from tests.bench.picky_estimator import Picky

ALL = "fewest, factor, offsets, advice, is_sample_based"


@pytest.fixture(autouse=True)
def picky(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "picky", Picky)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (("fewest", "7"), {"fewest": 7}),
        (("factor", "5e-4"), {"factor": 5e-4}),
        (("factor", "2"), {"factor": 2.0}),
        (("offsets", "0.1, 2"), {"offsets": (0.1, 2.0)}),
        (("offsets", "3"), {"offsets": (3.0,)}),
        (("advice", "a=b, c"), {"advice": "a=b, c"}),
        (("is_sample_based", "true"), {"is_sample_based": True}),
    ],
)
def test_a_setting_takes_the_type_of_its_field(setting: tuple[str, str], expected: dict[str, Any]) -> None:
    made = make_estimator("picky", (setting,))
    assert made == Picky(**expected)
    ((name, value),) = expected.items()
    assert type(getattr(made, name)) is type(value)


def test_changed_settings_make_the_same_estimator() -> None:
    made = Picky(fewest=3, factor=1e-7, offsets=(0.1, 0.30000000000000004), advice="none", is_sample_based=True)
    assert changed_settings(made) == (
        ("fewest", "3"), ("factor", "1e-07"), ("offsets", "0.1,0.30000000000000004"), ("advice", "none"),
        ("is_sample_based", "True"),
    )  # fmt: skip
    assert make_estimator("picky", changed_settings(made)) == made
    assert changed_settings(make_estimator("picky", (("factor", "1.0"),))) == ()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_a_record_keeps_under_settings_is_what_can_be_set(name: str) -> None:
    assert set(make_estimator(name).settings) == {field.name for field in fields(ESTIMATORS[name])}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((("fewset", "1"),), f"unknown setting 'fewset' of the estimator picky; expected one of {ALL}"),
        ((("name", "x"),), "unknown setting 'name'"),
        ((("", "1"),), "unknown setting ''"),
        (
            (("fewest", "many"),),
            "the setting fewest of the estimator picky got 'many': input should be a valid integer",
        ),
        ((("fewest", "1.5"),), "got '1.5': input should be a valid integer"),
        ((("fewest", "1" * 30),), "input should be less than 9223372036854775808"),
        ((("factor", ""),), "the setting factor of the estimator picky got '': input should be a valid number"),
        ((("factor", "nan"),), "got 'nan': input should be a finite number"),
        ((("factor", "1e10"),), "got '1e10': input should be less than or equal to 1000000000"),
        ((("offsets", "1,two"),), "the setting offsets of the estimator picky got '1,two': input should be a valid"),
        ((("offsets", "1,inf"),), "got '1,inf': input should be a finite number"),
        ((("is_sample_based", "maybe"),), "got 'maybe': input should be a valid boolean"),
        ((("fewest", "1"), ("fewest", "2")), "the setting fewest of the estimator picky is given twice; give it once"),
        ((("fewest", "0"),), "fewest=0 different rows are none; choose at least 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_in_words(settings: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_estimator("picky", settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_estimator_without_settings_says_so() -> None:
    with pytest.raises(UsageError, match="unknown setting 'epochs' of the estimator exact; it has none"):
        make_estimator("exact", (("epochs", "1"),))


def test_a_setting_is_split_at_its_first_equals_sign() -> None:
    assert split_setting("a = b=c ") == ("a", "b=c")
    with pytest.raises(UsageError, match="--setting expects NAME=VALUE, got 'epochs'"):
        split_setting("epochs")
