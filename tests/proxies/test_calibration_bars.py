"""Bars from calibration results: verdicts at their limits, and what is missing."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import bench.estimators
from bench.calibration.results import CaseResult, CostResult, CoverageResult
from proxies.calibration_bars import bars
from proxies.calibration_lines import ESTIMATORS
from tests.calibration_factory import (
    HEAVY_TAILS,
    LOW_RANK,
    SHUFFLED,
    SHUFFLED_CODES,
    UNIFORM_NOISE,
    bits,
    codes_case,
    cube,
    good_cases,
    good_coverage,
    make_case,
    make_cost,
    make_coverage,
    paper_case,
)

N_BARS = 26


def verdict(estimator: str, claim: str, *found: CaseResult | CoverageResult | CostResult) -> str:
    """Of the one bar of an estimator whose claim holds these words, from the results given and no others."""
    cases = [item for item in found if isinstance(item, CaseResult)]
    coverage = [item for item in found if isinstance(item, CoverageResult)]
    cost = [item for item in found if isinstance(item, CostResult)]
    (bar,) = [bar for bar in bars(cases, coverage, cost) if bar.estimator == estimator and claim in bar.claim]
    return bar.verdict


def without(found: Sequence[CaseResult], estimator: str, *names: str) -> list[CaseResult]:
    return [case for case in found if case.key.estimator != estimator or case.key.case not in names]


def with_changed(*changed: CaseResult) -> list[CaseResult]:
    """The good cases with some of them replaced."""
    found = good_cases()
    for case in changed:
        found = [*without(found, case.key.estimator, case.key.case), case]
    return found


def test_everything_holds_on_results_that_are_good_enough() -> None:
    found = bars(good_cases(), good_coverage(), [make_cost()])
    assert [bar.verdict for bar in found] == ["holds"] * N_BARS
    assert {bar.estimator for bar in found} == set(ESTIMATORS)
    assert all(bar.measured for bar in found)


def test_without_results_nothing_is_measured() -> None:
    assert [(bar.verdict, bar.measured) for bar in bars([], [], [])] == [("not measured", "")] * N_BARS


SHUFFLED_BAR = "0 within 4 standard errors + 0.001 bit where pairs are broken"
NO_INFORMATION = ("dense-gaussian-256d-0bit", *(f"low-rank-gaussian-{width}d-0bit" for width in (64, 256, 768, 2_048)))

DENSE = {"truth": 5.0, "family": "dense"}
CODE = "list-codes-16p4-768d"

LIMITS: list[tuple[str, str, Callable[[float], CaseResult], float, float]] = [
    ("exact", "of the entropy", lambda x: codes_case("exact", CODE, 15.0, estimate=x), 15.01, 15.011),
    ("exact", "of the entropy", lambda x: codes_case("exact", CODE, 15.0, estimate=x), 14.99, 14.989),
    ("noisy_channel", "standard error at most", lambda x: cube(error=x), 0.1, 0.101),
    ("noisy_channel", "smallest noise", lambda x: codes_case("noisy_channel", CODE, 15.0, x, 9.0, 2.0), 14.98, 14.979),
    ("noisy_channel", "smallest noise", lambda x: cube(x, 6.0, 1.0), 8.02, 8.021),
    ("noisy_channel", "never rises", lambda x: codes_case("noisy_channel", CODE, 15.0, 15.0, 9.0, x), 9.001, 9.0011),
    ("noisy_channel", "16P4 codes", lambda x: codes_case("noisy_channel", CODE, 15.0, seconds=x), 20.0, 20.1),
    ("noisy_channel", "of quadrature", lambda x: cube(8.0, 6.0, x), 1.05, 1.051),
    ("noisy_channel", "of quadrature", lambda x: cube(8.0, x, 1.0), 5.95, 5.949),
    (
        "gaussian",
        "dense Gaussians",
        lambda x: make_case("gaussian", "dense-gaussian-256d-5bit", estimate=x, **DENSE),
        5.1,
        5.101,
    ),
    (
        "gaussian",
        "dense Gaussians",
        lambda x: make_case("gaussian", "dense-gaussian-256d-5bit", estimate=x, **DENSE),
        4.9,
        4.899,
    ),
    (
        "crossfit_nce",
        "above the truth",
        lambda x: make_case("crossfit_nce", HEAVY_TAILS, truth=2.0, estimate=x, family="heavy tails"),
        2.1,
        2.101,
    ),
    (
        "crossfit_nce",
        "0 within 0.05",
        lambda x: make_case("crossfit_nce", SHUFFLED, estimate=x, is_shuffled=True),
        -0.05,
        -0.051,
    ),
    (
        "crossfit_nce",
        "0 within 0.05",
        lambda x: make_case("crossfit_nce", "dense-gaussian-256d-0bit", estimate=x, family="dense"),
        0.05,
        0.051,
    ),
    (
        "crossfit_nce",
        "of low rank",
        lambda x: make_case("crossfit_nce", LOW_RANK, truth=5.0, estimate=x),
        4.5,
        4.499,
    ),
    (
        "crossfit_nce",
        "half-cube and a spiral",
        lambda x: make_case(
            "crossfit_nce", "low-rank-gaussian-spiral-256d-5bit", truth=5.0, estimate=x, family="transformed"
        ),
        4.0,
        3.999,
    ),
    ("exact", SHUFFLED_BAR, lambda x: codes_case("exact", SHUFFLED_CODES, x, is_shuffled=True), 0.001, 0.0011),
    (
        "noisy_channel",
        SHUFFLED_BAR,
        lambda x: codes_case("noisy_channel", SHUFFLED_CODES, 0.0, 0.2, x, -0.1, is_shuffled=True),
        -0.041,
        -0.0411,
    ),
    ("mine_paper", SHUFFLED_BAR, lambda x: paper_case(SHUFFLED, held_out=x, is_shuffled=True), 0.201, 0.2011),
    *[
        (name, SHUFFLED_BAR, lambda x, name=name: make_case(name, SHUFFLED, estimate=x, is_shuffled=True), *limits)
        for name, limits in (
            ("crossfit_nce", (0.081, 0.0811)),
            ("infonce_anchor", (-0.081, -0.0811)),
            ("gaussian", (0.081, 0.0811)),
        )
    ],
]


@pytest.mark.parametrize(("estimator", "claim", "case", "inside", "outside"), LIMITS)
def test_a_verdict_turns_where_the_number_crosses_its_bar(
    estimator: str, claim: str, case: Callable[[float], CaseResult], inside: float, outside: float
) -> None:
    assert verdict(estimator, claim, *with_changed(case(inside))) == "holds"
    assert verdict(estimator, claim, *with_changed(case(outside))) == "FAILS"
    others = [bar for bar in bars(with_changed(case(outside)), [], []) if bar.verdict == "FAILS"]
    assert any(estimator == bar.estimator and claim in bar.claim for bar in others)


@pytest.mark.parametrize(
    ("estimator", "claim", "names"),
    [
        ("exact", "of the entropy", ("list-codes-25p4-768d",)),
        ("noisy_channel", "standard error at most", ("list-codes-25p4-768d",)),
        ("noisy_channel", "standard error at most", ("hypercube-8bit-768d",)),
        ("noisy_channel", "never rises", ("list-codes-25p1-768d",)),
        ("noisy_channel", "never rises", ("hypercube-8bit-768d",)),
        ("noisy_channel", "smallest noise", ("list-codes-25p1-768d",)),
        ("noisy_channel", "16P4 codes", (CODE,)),
        ("noisy_channel", "of quadrature", ("hypercube-8bit-768d",)),
        ("gaussian", "dense Gaussians", ("dense-gaussian-256d-0.5bit",)),
        ("gaussian", "refuses on", ("list-codes-16p4-16d",)),
        ("gaussian", "refuses on", ("list-codes-16p4-32d",)),
        ("crossfit_nce", "above the truth", ("low-rank-gaussian-2048d-10bit",)),
        ("crossfit_nce", "above the truth", ("low-rank-gaussian-64d-0.5bit",)),
        ("crossfit_nce", "above the truth", ("low-rank-gaussian-half-cube-256d-5bit",)),
        ("crossfit_nce", "above the truth", ("low-rank-gaussian-spiral-256d-5bit",)),
        ("crossfit_nce", "above the truth", (HEAVY_TAILS,)),
        ("crossfit_nce", "above the truth", (UNIFORM_NOISE,)),
        ("crossfit_nce", "0 within 0.05", (SHUFFLED,)),
        ("crossfit_nce", "0 within 0.05", NO_INFORMATION),
        ("crossfit_nce", "of low rank", (LOW_RANK,)),
        ("crossfit_nce", "half-cube and a spiral", ("low-rank-gaussian-half-cube-256d-5bit",)),
        ("mine_paper", "both given", (LOW_RANK, SHUFFLED)),
        *[(name, SHUFFLED_BAR, (SHUFFLED, SHUFFLED_CODES)) for name in ESTIMATORS],
    ],
)
def test_a_bar_does_not_hold_while_one_of_its_cases_is_missing(
    estimator: str, claim: str, names: tuple[str, ...]
) -> None:
    assert verdict(estimator, claim, *good_cases()) == "holds"
    assert verdict(estimator, claim, *without(good_cases(), estimator, *names)) == "not measured"


def test_one_number_past_the_bar_fails_it_whatever_is_missing() -> None:
    assert verdict("exact", "of the entropy", codes_case("exact", CODE, 15.0, estimate=14.0)) == "FAILS"
    assert verdict("exact", "of the entropy", codes_case("exact", CODE, 15.0)) == "not measured"


def test_a_refusal_where_a_number_is_demanded_fails_the_bar() -> None:
    refused = make_case("crossfit_nce", LOW_RANK, truth=5.0, refusal="too few distinct inputs")
    assert verdict("crossfit_nce", "of low rank", *with_changed(refused)) == "FAILS"
    assert verdict("crossfit_nce", "above the truth", *with_changed(refused)) == "holds"


def test_the_gaussian_fails_if_it_answers_for_one_deterministic_code() -> None:
    answered = codes_case("gaussian", CODE, 15.0, estimate=15.0)
    assert verdict("gaussian", "refuses on", *with_changed(answered)) == "FAILS"


@pytest.mark.parametrize("changes", [{"n_samples": 4_000}, {"is_shuffled": True}])
def test_other_sizes_and_broken_pairs_do_not_answer_for_a_bar(changes: dict[str, Any]) -> None:
    other = make_case("crossfit_nce", LOW_RANK, truth=5.0, estimate=5.0, **changes)
    assert verdict("crossfit_nce", "of low rank", *with_changed(other)) == "not measured"


def test_every_scale_of_a_cube_needs_a_known_truth() -> None:
    assert verdict("noisy_channel", "of quadrature", cube(truth_at_bits={"s=0.01": 8.0})) == "not measured"


def test_the_gaussian_bar_shows_its_worst_error_with_the_interval_of_that_case() -> None:
    """1.645 standard errors of 0.07."""
    worst = make_case("gaussian", "dense-gaussian-256d-10bit", truth=10, estimate=9.91, error=0.07, family="dense")
    (bar,) = [bar for bar in bars(with_changed(worst), [], []) if "dense Gaussians" in bar.claim]
    assert "-0.090 ± 0.115 on dense-gaussian-256d-10bit" in bar.measured


def test_the_paper_must_show_both_numbers_and_the_widest_gap_is_named() -> None:
    only_one = make_case("mine_paper", "other", {"held_out": bits(3.0)})
    assert verdict("mine_paper", "both given", paper_case(), only_one) == "FAILS"
    (bar,) = [
        bar for bar in bars([paper_case(), paper_case("wide", train_max=20.0)], [], []) if "both given" in bar.claim
    ]
    assert bar.measured == "widest gap 17.000 bits on wide"


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
@pytest.mark.parametrize(("n_covered", "expected"), [(85, "holds"), (84, "FAILS"), (95, "holds"), (96, "FAILS")])
def test_coverage_must_lie_between_its_limits_on_three_samplers(estimator: str, n_covered: int, expected: str) -> None:
    good = [make_coverage(estimator, f"sampler-{index}") for index in range(2)]
    assert verdict(estimator, "interval holds", *good) == "not measured"
    assert verdict(estimator, "interval holds", *good, make_coverage(estimator, "third", n_covered)) == expected
    same_again = make_coverage(estimator, "sampler-1", 91)
    assert verdict(estimator, "interval holds", *good, same_again) == "not measured"
    few = make_coverage(estimator, "third", 50, n_seeds=99)
    assert verdict(estimator, "interval holds", *good, few) == "not measured"


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_coverage_of_the_truth_counts_but_for_the_learned_lower_bound(estimator: str) -> None:
    """A lower bound owes its own large-sample value only."""
    is_judged_by_truth = estimator != "crossfit_nce"
    good = [make_coverage(estimator, f"sampler-{index}") for index in range(2)]
    for n_truth, expected in ((84, "FAILS"), (85, "holds"), (95, "holds"), (96, "FAILS")):
        third = make_coverage(estimator, "third", 90, n_truth=n_truth)
        assert verdict(estimator, "interval holds", *good, third) == (expected if is_judged_by_truth else "holds")
        third = make_coverage(estimator, "third", n_truth, n_truth=90)
        assert verdict(estimator, "interval holds", *good, third) == ("holds" if is_judged_by_truth else expected)
    (bar,) = [bar for bar in bars([], [], []) if bar.estimator == estimator and "interval holds" in bar.claim]
    assert ("holds the truth" in bar.claim) == is_judged_by_truth


@pytest.mark.parametrize(("n_threads", "shown"), [(1, "1 thread"), (2, "2 threads")])
def test_the_time_of_the_codes_names_the_machine_that_took_it(n_threads: int, shown: str) -> None:
    case = codes_case("noisy_channel", CODE, 15.0)
    case = case.model_copy(update={"provenance": case.provenance.model_copy(update={"n_threads": n_threads})})
    (bar,) = [bar for bar in bars([case], [], []) if "16P4 codes" in bar.claim]
    assert bar.measured == f"1.5 s, cpu, {shown}"


def test_the_paper_states_its_interval_for_the_held_out_value_only() -> None:
    found = [make_coverage("mine_paper", f"sampler-{index}") for index in range(3)]
    on_training_rows = make_coverage("mine_paper", "sampler-0", 0, reading="train_max")
    assert verdict("mine_paper", "interval holds", *found, on_training_rows) == "holds"


def test_cost_turns_at_a_thousand_times_and_only_at_the_width_of_the_bar() -> None:
    for estimator, name in (("noisy_channel", "noisy"), ("crossfit_nce", "crossfit")):
        assert verdict(estimator, "times cheaper", make_cost(**{name: 50.0})) == "holds"
        assert verdict(estimator, "times cheaper", make_cost(**{name: 50.1})) == "FAILS"
        assert verdict(estimator, "times cheaper", make_cost(d_model=64)) == "not measured"
    without_the_paper = make_cost().model_copy(update={"rows": make_cost().rows[:1]})
    assert verdict("noisy_channel", "times cheaper", without_the_paper) == "not measured"


def test_every_estimator_has_its_place() -> None:
    assert set(ESTIMATORS) == set(bench.estimators.ESTIMATORS)
