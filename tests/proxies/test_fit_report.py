"""Fits on disk -> their report: the same bytes from the same records, and inert whatever the names."""

from __future__ import annotations

import html
import random
import re
from pathlib import Path
from typing import Any

import pytest

from bench.fits import Between, Comparison, Covered, Excluded, FitKey, FitRecord, FitRow, Importance, PredictorErrors
from bench.records import Provenance
from bench.store import RejectedFile, Store, StoredFit
from proxies.features import feature_names
from proxies.fit_report import INTRODUCTION, report, write_fit_report

HOSTILE = (
    "[click](javascript:alert(1))",
    "<script>alert(1)</script>",
    "a | b | c",
    "# heading",
    "**bold** _em_ `code`",
    "![x](https://evil.example/x.png)",
    "\x1b[31mred\x1b[0m",
    "a\n\n## Verdicts\n\n- all is well",
    "www.evil.example",
    "\u202egnp.exe",
    "{target} {0}",
)


def row(model: str = "tiny", family: str = "Tiny", **changes: Any) -> FitRow:
    given: dict[str, Any] = {
        "model": model, "family": family, "task": None, "n_shots": None, "fold": family, "truth": 3.0,
        "inputs": {"ability": 1.0}, "predictions": {"performance": 3.25, "the mean": None},
        "intervals": {"performance": {"80": Between(low=3.0, high=3.5)}},
    } | changes  # fmt: skip
    return FitRow(**given)


def record(problem: str = "emergence", target: str = "all models", **changes: Any) -> FitRecord:
    names = {name: field for name, field in FitKey.model_fields.items()}
    key: dict[str, Any] = {
        "schema_version": 1, "fit_version": 1, "problem": problem, "target": target,
        "features": () if problem in ("emergence", "texts") else feature_names(None),
        "estimator": "noisy_channel", "mode": "completion", "n_permutations": 9, "seed": 0, "rows_sha256": "a" * 64,
    }  # fmt: skip
    key |= {name: () for name in names if name not in key}
    key |= {name: changes.pop(name) for name in list(changes) if name in names}
    given: dict[str, Any] = {
        "schema_version": 1, "key": FitKey(**key), "unit": "bits", "fold_unit": "family", "n_folds": 1, "n_models": 1,
        "families": ("Tiny",), "proxies": (), "rows": (row(),),
        "errors": (
            errors("the mean", role="baseline", mean_absolute_error=1.0),
            errors("performance", low=0.1, high=0.4, coverage={"80": Covered(n_inside=3, n_rows=4)}),
            errors("nothing", role="baseline", n_rows=0, mean_absolute_error=None, root_mean_squared_error=None),
        ),
        "comparisons": (comparison(),),
        "importances": (), "remarks": ("a remark",),
        "excluded": (Excluded(what="big", reason="not asked at 4 shots"),),
        "provenance": Provenance(
            date="2026-01-02T03:04:05+00:00", command="bench fit", commit=None, versions={}, n_threads=1, device="cpu",
            seconds=1.0,
        ),
    } | changes  # fmt: skip
    return FitRecord(**given)


def errors(name: str, **changes: Any) -> PredictorErrors:
    given: dict[str, Any] = {
        "name": name, "role": "tested", "columns": (), "n_rows": 4, "mean_absolute_error": 0.25, "low": None,
        "high": None, "root_mean_squared_error": 0.3, "coverage": {},
    } | changes  # fmt: skip
    return PredictorErrors(**given)


def comparison(verdict: str = "performance does not beat its baseline (the mean)", **changes: Any) -> Comparison:
    given: dict[str, Any] = {
        "predictor": "performance", "baseline": "the mean", "n_rows": 4, "n_folds": 4, "difference": 0.1, "low": None,
        "high": None, "n_folds_better": 1, "p_value": 0.5, "beats": False, "verdict": verdict,
    } | changes  # fmt: skip
    return Comparison(**given)


def stored(*records: FitRecord) -> list[StoredFit]:
    return [StoredFit(path=f"fits/{item.key.problem}/x.{item.key.digest()[:8]}.json", record=item) for item in records]


def test_a_report_says_verdicts_errors_and_what_was_left_out() -> None:
    text = report(stored(record()), ())
    assert text.startswith(INTRODUCTION)
    assert "- **Emergence of families not seen, from performance**: performance does not beat its baseline" in text
    assert "| the mean | 4 | 1.000 |  |  |" in text
    assert "| performance (on trial) | 4 | 0.250 (0.100 to 0.400) | 3 of 4 |  |" in text
    assert "| nothing | 0 | - |  |  |" in text
    assert "- left out (1):\n  - big: not asked at 4 shots" in text and "- a remark" in text
    assert "| Tiny | tiny | 3.00 | 3.25 | 3.00 to 3.50 |  | - |" in text
    assert re.search(r"\[record\]\(emergence/x\.[0-9a-f]{8}\.json\)", text)
    assert text.endswith("\n") and "nan" not in text.lower()


def test_features_that_survive_are_named() -> None:
    one = Importance(
        feature="over_twin", coefficient=0.5, lowest=0.4, highest=0.6, error_increase=0.1, survives=True
    )  # fmt: skip
    text = report(stored(record("models", importances=(one,))), ())
    assert "- features that keep their sign in all refits and help by more than chance: over&#95;twin (+0.50)" in text
    none = one.model_copy(update={"survives": False})
    assert "- no feature keeps its sign in all refits and helps" in report(
        stored(record("models", importances=(none,))), ()
    )


def test_baselines_alone_are_said_to_be_alone() -> None:
    text = report(stored(record("published", "HellaSwag", comparisons=())), ())
    assert "baselines only, nothing is on trial" in text


def test_without_fits_there_is_an_introduction_only() -> None:
    assert report((), ()) == INTRODUCTION


def test_files_that_are_no_fits_are_listed() -> None:
    text = report((), [RejectedFile(path="fits/cells/<b>.json", reason="no | fit")])
    assert "## Files that are no fits\n\n- fits/cells/&#60;b&#62;.json: no &#124; fit" in text


def test_the_order_of_records_does_not_matter() -> None:
    items = stored(
        record(), record("models"), record("published", "MMLU"), record("published", "HellaSwag"),
        *(record("cells", f"model {number}") for number in range(5)),
    )  # fmt: skip
    expected = report(items, ())
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert report(items, ()) == expected
    headings = re.findall(r"^## (.*)$", expected, flags=re.MULTILINE)
    assert headings[0] == "Verdicts" and headings[1].startswith("Emergence of families")
    assert [heading.split()[1] for heading in headings[3:8]] == [str(number) for number in range(5)]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_records_are_inert(name: str) -> None:
    hostile = record(
        "emergence",
        name,
        rows=(row(name, name),),
        families=(name,),
        proxies=(name,),
        errors=(errors(name), errors("performance"), errors("the mean")),
        comparisons=(comparison(name),),
        importances=(
            Importance(feature=name, coefficient=0, lowest=0, highest=0, error_increase=1, survives=True),
        ),
        remarks=(name,),
        excluded=(Excluded(what=name, reason=name),),
    )  # fmt: skip
    cells = record("cells", name)
    text = report(stored(hostile, cells), [RejectedFile(path=name, reason=name)])
    plain = report(stored(record()), ())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    body = text.removeprefix(INTRODUCTION)
    for markup in ("<", "javascript:", "https:", "![", "`", "www."):
        assert markup not in body, markup
    assert [link for link in re.findall(r"\]\(([^)]*)\)", body)] == [
        f"{item.path.removeprefix('fits/')}" for item in sorted(stored(hostile, cells), key=lambda x: x.path)[::-1]
    ]
    for line in body.splitlines():
        assert line.count("|") in (0, 6, 8), line  # the columns of the two tables
    shown = re.sub(r"\s+", " ", name).replace("\x1b", "\ufffd").replace("\u202e", "\ufffd").strip()
    assert shown in html.unescape(text) and plain.count("\n## ") + 3 >= body.count("\n## ")


def test_a_written_report_is_the_same_bytes_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for item in (record(), record("cells", "x/../y"), record("cells", "\x1b[31m")):
        store.write_fit(item)
    (path,) = write_fit_report(store)[:1]
    assert path == tmp_path / "fits" / "report.md"
    first = path.read_bytes()
    path.unlink()
    write_fit_report(store)
    assert path.read_bytes() == first and b"x/../y" in first
    assert not (tmp_path / "y").exists() and all(
        item.is_relative_to(tmp_path / "fits") for item in tmp_path.rglob("*.json")
    )
    (tmp_path / "fits" / "cells" / "bad.json").write_text("{}")
    write_fit_report(store)
    assert b"## Files that are no fits" in path.read_bytes()


def test_fits_with_other_settings_have_other_headings() -> None:
    usual = record("models", features=feature_names(None))
    other = record("models", features=("emergence",), seed=1)
    text = report(stored(usual, other), ())
    assert "\n## Performance of families not seen, from emergence\n" in text
    assert "## Performance of families not seen, from emergence &#40;features emergence; seed 1&#41;\n" in text


def test_p_values_are_counted_and_corrected_for_their_number() -> None:
    fits = [
        record(comparisons=(comparison(p_value=p),), seed=place) for place, p in enumerate((0.001, 0.02, 0.04, 0.6))
    ]
    text = report(stored(*fits), ())
    # Holm: 0.001 <= 0.05 / 4, and 0.02 > 0.05 / 3 ends it
    assert "4 comparisons are on this page. By chance alone about 0.2 of their p-values would be 0.05 or less" in text
    assert "; 3 such p-values there are, and 1 after Holm's correction" in text
