"""Planted probes of planted models: what was planted comes back, too little is refused, and nothing leaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.fits import TEXT_PROBE
from bench.probe_records import ProbeRecord
from bench.store import Store, StoredFit
from proxies.estimating import estimate_from_text, fit_of_texts
from proxies.features import COLUMNS, Cells, as_frame
from proxies.fit_report import report
from proxies.fits import predict
from proxies.fitting import FitOutcome, FitRequest, RefusedFit, left_out, run, wanted
from proxies.text_regression import probed_alike, text_inputs, texts_problem
from proxies.validation import fold_numbers, held_out, validate
from tasks import RANKED_TASKS
from tests.probe_factory import make_comparison, make_probe


class Silent:
    """Progress that nobody is told of."""

    def stage(self, text: str) -> None: ...

    def plan(self, n_units: int) -> None: ...

    def block(self, text: str) -> None: ...


FAMILIES = ("Alder", "Birch", "Cedar", "Dogwood")
N_OF_FAMILY = 4
SLOPE, ERROR = 6.0, 0.02


def planted_emergence(n_families: int = len(FAMILIES)) -> dict[tuple[str, str], float]:
    """Emergence of each (model, family), unrelated to size."""
    rng = np.random.default_rng(1)
    return {
        (f"{family.lower()}-{number}", family): round(float(rng.uniform(2, 9)), 6)
        for family in FAMILIES[:n_families]
        for number in range(N_OF_FAMILY)
    }


def frame(models: Mapping[tuple[str, str], float], **changes: object) -> pd.DataFrame:
    """The ranked lists of each model at one and at four shots."""
    texts = dict.fromkeys((column.name for column in COLUMNS if column.unit in ("name", "hex")), "")
    return as_frame(
        texts
        | {
            "model": model, "family": family, "kind": "published", "n_bits": 16,
            "n_parameters": 1e6 * 2 ** (number % 5), "n_blocks": 4, "files_sha256": f"files of {model}",
            "dtype": "float32", "task": task, "task_hash": f"hash of {task}", "n_shots": shots, "emergence_error": 0.01,
            "emergence": bits - (0 if shots == 4 else 1),
        } | changes
        for number, ((model, family), bits) in enumerate(models.items())
        for task in RANKED_TASKS
        for shots in (1, 4)
    )  # fmt: skip


def probes(emergence: Mapping[tuple[str, str], float], *, is_informative: bool = True) -> list[ProbeRecord]:
    """Of each writer a difference of emergence in proportion to its own, with a little noise; or of no relation."""
    rng = np.random.default_rng(2)
    return [
        make_probe(
            model,
            comparisons=(
                make_comparison(
                    emergence=(
                        float((bits - 5) / SLOPE + rng.normal(0, ERROR)) if is_informative else float(rng.normal()),
                        0.1,
                    ),
                    perplexity=(float(rng.normal()), 0.1),
                    bag=(float(rng.uniform(0.5, 0.8)), 0.1),
                    counted=(float(rng.normal()), 0.1),
                ),
            ),
        )
        for (model, _), bits in emergence.items()
    ]


MODELS = planted_emergence()


def test_a_planted_relation_comes_back_and_beats_its_baselines_where_families_suffice() -> None:
    problem = texts_problem(frame(MODELS), probes(MODELS), proxy="reader")
    assert len(problem.frame) == 16 and problem.unit == "bits" and problem.fold_unit == "family"
    assert problem.frame["y"].tolist() == pytest.approx([bits for _, bits in sorted(MODELS.items())])
    tested = next(one for one in problem.predictors if one.role == "tested")
    assert (tested.name, tested.columns) == (TEXT_PROBE, ("text_probe",))
    ahead = pd.DataFrame({"text_probe": [0.0, 0.5]})
    low, high = predict(problem, tested, ahead)["predicted"]
    assert (low, high - low) == (pytest.approx(5, abs=0.2), pytest.approx(SLOPE / 2, rel=0.1))
    found = validate(problem, n_permutations=199, seed=0)
    errors = {one.name: one.mean_absolute_error for one in found.errors}
    assert errors[TEXT_PROBE] < 3 * SLOPE * ERROR < min(bits for name, bits in errors.items() if "probe" not in name)
    (alone, _) = found.comparisons
    assert alone.p_value <= 0.05 and alone.n_folds_better == 4
    assert not alone.beats and "4 families are too few for an interval" in alone.verdict


def test_what_says_nothing_does_not_beat_its_baseline() -> None:
    found = validate(
        texts_problem(frame(MODELS), probes(MODELS, is_informative=False), proxy="reader"), n_permutations=199, seed=0
    )
    assert not any(one.beats for one in found.comparisons)
    assert all("does not beat its baseline" in one.verdict for one in found.comparisons)


def test_baselines_are_what_is_cheaper() -> None:
    problem = texts_problem(frame(MODELS), probes(MODELS), proxy="reader")
    assert {one.name: one.columns for one in problem.predictors if one.role == "baseline"} == {
        "the mean": (),
        "parameters": ("log_parameters",),
        "perplexity of the text": ("perplexity_difference",),
        "bag of tokens": ("bag_of_tokens",),
        "counting tokens": ("counted_difference",),
    }
    both = next(one for one in problem.predictors if one.role == "both")
    assert both.columns == ("perplexity_difference", "text_probe") and both.given == ("perplexity_difference",)


def test_nothing_of_a_family_touches_its_prediction() -> None:
    """Other emergence and other texts of one family: its predictions from the others stay as they are, to the bit."""
    changed = {key: bits + (3 if key[1] == "Birch" else 0) for key, bits in MODELS.items()}
    usual = texts_problem(frame(MODELS), probes(MODELS), proxy="reader")
    other = texts_problem(frame(changed), probes(MODELS), proxy="reader")
    is_birch = (usual.frame["family"] == "Birch").to_numpy()
    for one in usual.predictors:
        before, after = (
            held_out(one, problem.frame, fold_numbers(problem.frame["fold"])) for problem in (usual, other)
        )
        assert before[is_birch].tolist() == after[is_birch].tolist(), one.name
        assert not np.allclose(before[~is_birch], after[~is_birch]), one.name


@pytest.mark.parametrize(
    ("n_models", "families", "said"),
    [
        (
            7,
            2,
            r"7 models of 2 families \(Alder, Birch\) have their emergence measured and a text read by reader, and ",
        ),
        (8, 2, "at least 8 models of 3 families are needed; measure more with `bench run MODEL`, collect text"),
    ],
)
def test_too_few_are_refused_with_the_counts(n_models: int, families: int, said: str) -> None:
    few = dict(list(MODELS.items())[:n_models])
    assert len({family for _, family in few}) == families
    with pytest.raises(UsageError, match=said):
        texts_problem(frame(MODELS), probes(few), proxy="reader")
    with pytest.raises(UsageError, match=said):
        texts_problem(frame(few), probes(MODELS), proxy="reader")


def test_what_cannot_be_learned_from_is_refused() -> None:
    alike = frame(MODELS, emergence=5.0)
    alike["emergence_error"] = pd.factorize(alike["model"])[0] / 100  # else they are copies of one record
    with pytest.raises(UsageError, match="the emergence of all models is the same in all 16 rows"):
        texts_problem(alike, probes(MODELS), proxy="reader")
    with pytest.raises(UsageError, match="the text probe is the same in all 16 rows"):
        texts_problem(frame(MODELS), [make_probe(model) for model, _ in MODELS], proxy="reader")
    with pytest.raises(
        UsageError, match=r"no text of a known writer was read by 'xs'.*there are texts read by reader$"
    ):
        texts_problem(frame(MODELS), probes(MODELS), proxy="xs")


def excluded(records: list[ProbeRecord], cells: pd.DataFrame | None = None) -> dict[str, str]:
    problem = texts_problem(frame(MODELS) if cells is None else cells, records, proxy="reader")
    assert not {one.what for one in problem.excluded} & set(problem.frame["model"])
    return {one.what: one.reason for one in problem.excluded}


def test_what_is_in_no_row_is_listed_with_its_reason() -> None:
    usual = probes(MODELS)
    first = usual[0].key.writer or ""
    stranger = make_probe("stranger")
    assert excluded([*usual, stranger])["stranger"] == "its emergence is not measured"
    assert excluded(usual[1:])[first] == "no text of it was read"
    assert "in another way" in excluded([make_probe(first, seed=7), *usual[1:]])[first]
    assert "in another way" in excluded([make_probe(first, reference_sha256="x"), *usual[1:]])[first]
    saturated = make_probe(first, comparisons=(make_comparison(is_saturated=True),))
    assert "is saturated at 200 windows: its emergence says nothing" in excluded([saturated, *usual[1:]])[first]
    copy = make_probe(first, text=usual[1].key.text, comparisons=usual[1].comparisons)
    (reason,) = excluded([copy, *usual[1:]]).values()
    assert reason.endswith("word for word")
    nobody = make_probe(None, text="text:found")
    assert excluded([*usual, nobody]) == {"text:found": "the probe does not say who wrote it"}
    twice = frame(MODELS)
    twice = pd.concat([twice, twice[twice["model"] == first].assign(files_sha256="other", emergence=1.0)])
    assert "several sets of weights" in excluded(usual, twice)[first]
    sizeless = frame(MODELS)
    sizeless.loc[sizeless["model"] == first, "n_parameters"] = math.nan
    assert excluded(usual, sizeless) == {first: "its number of parameters is not known"}


def test_of_several_texts_of_a_writer_the_mean_counts() -> None:
    usual = probes(MODELS)
    first = usual[0].key.writer or ""
    more = make_probe(first, text="text:more", comparisons=(make_comparison(emergence=(2.0, 0.1)),))
    problem = texts_problem(frame(MODELS), [*usual, more], proxy="reader")
    row = problem.frame.set_index("model").loc[first]
    assert row["text_probe"] == pytest.approx((usual[0].headline.difference_bits.value + 2) / 2)
    assert f"of several texts of one writer the mean counts: {first}" in problem.remarks


def test_only_the_largest_number_of_windows_has_to_agree() -> None:
    usual = probes(MODELS)
    finer = make_probe("a", comparisons=(make_comparison(100), make_comparison(200)))
    alike, left = probed_alike([*usual, finer], "reader")
    assert finer in alike and not left
    assert text_inputs(finer) == {
        "text_probe": 0.0, "perplexity_difference": 0.0, "bag_of_tokens": 0.5, "counted_difference": 0.0,
    }  # fmt: skip


def test_the_order_of_the_records_changes_nothing() -> None:
    records = probes(MODELS)
    one, other = (texts_problem(frame(MODELS), given, proxy="reader") for given in (records, records[::-1]))
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert replace(one, frame=None) == replace(other, frame=None)


@pytest.fixture
def request_of_texts(tmp_path: Path) -> FitRequest:
    """A results folder with planted probes, beside planted cells."""
    for record in probes(MODELS):
        Store(tmp_path).write_probe(record)
    found = FitRequest(results=tmp_path, problems=("texts",))
    found.__dict__["frame"] = Cells(frame=frame(MODELS), excluded=())
    return found


def test_texts_are_fitted_once_a_proxy_and_found_again(request_of_texts: FitRequest) -> None:
    (first,) = run(request_of_texts, Silent())
    assert isinstance(first, FitOutcome) and not first.was_there
    key = first.record.key
    assert (key.problem, key.target, key.features, key.mode) == ("texts", "reader", (), "text")
    assert first.record.provenance.command == "bench fit --problem texts --proxies reader"
    (again,) = run(request_of_texts, Silent())
    assert isinstance(again, FitOutcome) and again.was_there and again.record == first.record
    text = report([StoredFit(path="fits/texts/reader.json", record=first.record)], ())
    assert "## Emergence of families not seen, from text read by reader" in text
    assert "features: text probe;" in text and "| Alder | alder-0 | " in text


def test_texts_are_asked_about_where_there_are_probes(request_of_texts: FitRequest, tmp_path: Path) -> None:
    default = replace(request_of_texts, problems=None)
    default.__dict__["frame"] = request_of_texts.frame
    assert wanted(default) == [("models", "all models"), ("emergence", "all models"), ("texts", "reader")]
    empty = replace(request_of_texts, problems=None, results=tmp_path / "none")
    empty.__dict__["frame"] = request_of_texts.frame
    assert wanted(empty) == [("models", "all models"), ("emergence", "all models")]
    with pytest.raises(UsageError, match="no text of a known writer was read by any model; collect text with"):
        wanted(replace(request_of_texts, results=tmp_path / "none"))
    (refused,) = run(_with(request_of_texts, proxies=("xs",)), Silent())
    assert isinstance(refused, RefusedFit) and "was read by 'xs'" in refused.reason
    (tmp_path / "probe" / "reader" / "no.json").write_text("{}")
    assert [one.what for one in left_out(_with(request_of_texts))] == ["probe/reader/no.json"]


def _with(request: FitRequest, **changes: object) -> FitRequest:
    """The same cells under other options."""
    changed = replace(request, **changes)
    changed.__dict__["frame"] = request.frame
    return changed


def test_an_estimate_has_not_seen_the_family_nor_the_text(request_of_texts: FitRequest) -> None:
    target, bits = "birch-1", MODELS["birch-1", "Birch"]
    record = next(item for item in request_of_texts.probes if item.key.writer == target)
    fit = fit_of_texts(request_of_texts, proxy="reader", progress=Silent())
    found = estimate_from_text(request_of_texts, fit, target, record, family=None)
    estimate = found.record
    assert estimate.key.source == "text" and estimate.key.proxy == "reader" and estimate.n_questions == 0
    assert set(estimate.left_out) == {model for model, family in MODELS if family == "Birch"}
    assert set(estimate.trained_on) == {model for model, family in MODELS if family != "Birch"}
    assert estimate.measured_bits == bits and estimate.value_bits == pytest.approx(bits, abs=4 * SLOPE * ERROR)
    row = next(row for row in fit.outcome.record.rows if row.model == target)
    assert estimate.value_bits == pytest.approx(row.predictions[TEXT_PROBE], abs=1e-6)
    assert not estimate.intervals  # three families are left

    alias = make_probe("closed", text=record.key.text, comparisons=record.comparisons)
    unknown = estimate_from_text(request_of_texts, fit, "closed", alias, family=None)
    assert target not in unknown.record.trained_on and len(unknown.record.trained_on) == 15
    assert unknown.record.measured_bits is None and unknown.record.left_out == ()
    named = estimate_from_text(request_of_texts, fit, "closed", alias, family="Birch")
    assert named.record.value_bits == estimate.value_bits


def test_a_text_that_was_read_otherwise_is_no_estimate(request_of_texts: FitRequest) -> None:
    fit = fit_of_texts(request_of_texts, proxy="reader", progress=Silent())
    assert fit.reading.sizes == (200,)
    for record, said in (
        (make_probe("closed", seed=7), "the text of closed was read in another way than those of the fit"),
        (make_probe("closed", comparisons=(make_comparison(is_saturated=True),)), "is saturated at 200 windows"),
    ):
        with pytest.raises(UsageError, match=said):
            estimate_from_text(request_of_texts, fit, "closed", record, family=None)
    with pytest.raises(UsageError, match="no family 'Elm' was measured; there are Alder, Birch"):
        estimate_from_text(request_of_texts, fit, "closed", make_probe("closed"), family="Elm")
    with pytest.raises(UsageError, match="no text of a known writer was read by 'xs'"):
        fit_of_texts(request_of_texts, proxy="xs", progress=Silent())
