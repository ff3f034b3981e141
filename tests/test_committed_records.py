"""The committed measurements: what they must satisfy whatever the models are, and that the docs quote them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.calibration.results import CaseResult, CostResult, CoverageResult
from bench.performance import Sample, cell, sha256
from bench.query import scored
from bench.records import EmergenceRecord, Measurement
from bench.store import Store, StoredPerformance, samples_path
from bench.summary import ceiling_of, emergence_of, summarise
from proxies.board import read_board
from proxies.calibration import bars_as_markdown, report
from proxies.calibration_picture import picture
from proxies.leaderboard_files import stale
from proxies.noise_scale import render, scale_rows
from proxies.performance import report as performance_report
from proxies.performance_picture import picture as performance_picture
from proxies.standings import EstimatedEntry
from tasks import LISTS, PAIRS, RANKED_TASKS, load_task
from tasks.queries import Scorer, questions, request_text
from tasks.task import ListTask, PairTask
from tests.proxies.test_digests import Counted

ROOT = Path(__file__).parent.parent
STORED, REJECTED = Store(ROOT / "results").records()
RECORDS = {item.path: item.record for item in STORED}
ROUNDING = 1e-4
"""float32 rounding of a sum of 11,880 densities, in bits."""

every_record = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
ENUMERATED = {path: record for path, record in RECORDS.items() if record.is_enumerated}
"""Lists of names or pairs, all equally likely; texts are samples with weights."""
every_list = pytest.mark.parametrize("record", ENUMERATED.values(), ids=ENUMERATED)


def test_both_models_that_need_no_hub_are_there_on_every_ranked_task() -> None:
    assert not REJECTED
    found = {(record.model.name, record.key.task) for record in RECORDS.values()}
    assert found >= {(model, task) for model in ("smollm2-135m-instruct", "gemma-3-270m") for task in RANKED_TASKS}


def first_entropies(record: EmergenceRecord, measurement: Measurement) -> list[float]:
    """The entropy of each token of a demonstration by itself: a name, or query, arrow, answer; then the separator."""
    answers = Counter(name.rpartition(": ")[2] for name in measurement.names)
    shares = np.array(list(answers.values())) / len(measurement.names)
    of_name, of_answer = math.log2(record.key.n_names), float(-(shares * np.log2(shares)).sum())
    return [of_name, 0.0] if record.demonstration_length == 2 else [of_name, 0.0, of_answer, 0.0]


def has_items_of_one_token(record: EmergenceRecord) -> bool:
    """Whether names, queries and answers are one token each, between signs of one token."""
    return record.demonstration_length == (2 if record.key.task in LISTS else 4)


@every_list
def test_ceilings_are_the_entropies_of_the_lists(record: EmergenceRecord) -> None:
    """A block keeps all prefixes apart; block 0 sees the token before it, and nothing at a separator."""
    names, shots, length = record.key.n_names, record.key.n_shots, record.demonstration_length
    entropies = [math.log2(math.perm(names, k)) for k in range(1, shots + 1) for _ in range(length)]
    for measurement in record.measurements.values():
        for ceilings in measurement.macro_ceiling_bits[1:]:
            assert ceilings[length - 1 :: length] == pytest.approx(entropies[length - 1 :: length], abs=1e-5)
            assert (np.array(ceilings) <= np.array(entropies) + 1e-5).all()
            if has_items_of_one_token(record):
                assert ceilings == pytest.approx(entropies, abs=1e-5)
        if not has_items_of_one_token(record):
            continue
        alone = first_entropies(record, measurement)
        assert measurement.macro_ceiling_bits[0] == pytest.approx(alone * shots, abs=1e-5)
        for ceilings in measurement.micro_ceiling_bits:
            assert [ceilings[column] for column in measurement.micro_of_position] == pytest.approx(
                alone * shots, abs=1e-5
            )
    if (names, shots) == (12, 4):
        assert record.summary[-1].macro_ceiling_bits == pytest.approx(13.536, abs=5e-4)


@every_record
def test_no_estimate_passes_its_ceiling(record: EmergenceRecord) -> None:
    for measurement in record.measurements.values():
        for grid in measurement.macro.values():
            assert (np.array(grid.values_bits) <= np.array(measurement.macro_ceiling_bits) + ROUNDING).all()
        for grid in measurement.micro.values():
            assert (np.array(grid.values_bits) <= np.array(measurement.micro_ceiling_bits) + ROUNDING).all()
        assert (emergence_of(measurement).values <= ceiling_of(measurement).values + ROUNDING).all()


@every_record
def test_the_shuffled_control_covers_zero(record: EmergenceRecord) -> None:
    shuffled = record.measurements["trained"].shuffled
    assert shuffled is not None
    assert (np.abs(shuffled.values_bits) <= 4 * np.array(shuffled.errors_bits) + ROUNDING).all()


@every_list
def test_block_0_knows_the_token_before_it_and_nothing_at_a_separator(record: EmergenceRecord) -> None:
    for measurement in record.measurements.values():
        for grid in measurement.macro.values():
            if has_items_of_one_token(record):
                assert not any(grid.values_bits[0][1::2])  # separators, and the arrows of pairs
            assert not any(grid.values_bits[0][record.demonstration_length - 1 :: record.demonstration_length])
            assert max(grid.values_bits[0]) <= math.log2(record.key.n_names) + ROUNDING


@every_list
def test_standard_errors_are_small_beside_what_is_compared(record: EmergenceRecord) -> None:
    """A single cell: at most 0.12 bit at any scale (0.11 in a model of 2 bits). A mean over blocks: 0.02 of many."""
    for measurement in record.measurements.values():
        for sides in (measurement.macro, measurement.micro):
            assert max(np.max(grid.errors_bits) for grid in sides.values()) <= 0.12
    least = max(0.02, 0.1 / math.sqrt(record.model.n_blocks))
    assert max(row.emergence.error_bits for row in record.summary) <= least


@every_list
def test_curves_fall_with_the_noise(record: EmergenceRecord) -> None:
    """Scales share their draws, so the fall shows without noise; rounding aside."""
    for measurement in record.measurements.values():
        curve = np.array([grid.values_bits for grid in measurement.macro.values()])  # (n_scales, n_blocks, n_positions)
        assert (np.diff(curve, axis=0) <= ROUNDING).all()


@every_record
def test_the_summary_is_what_the_measurements_give(record: EmergenceRecord) -> None:
    again = summarise(record.measurements, n_shots=record.key.n_shots, demonstration_length=record.demonstration_length)
    for stored, computed in zip(record.summary, again, strict=True):
        flat = [
            (row.emergence, row.excess_over_twin, row.excess_over_random_words, row.peak) for row in (stored, computed)
        ]
        for one, other in zip(*flat, strict=True):
            assert one.value_bits == pytest.approx(other.value_bits, abs=1e-5)
            assert one.error_bits == pytest.approx(other.error_bits, abs=1e-5)


def test_prefix_sharing_saved_most_of_the_tokens() -> None:
    """Two thirds of them with 4 shots, three fifths with 3."""
    for record in ENUMERATED.values():
        for measurement in record.measurements.values():
            share = measurement.n_tokens_computed / measurement.n_tokens_plain
            assert share < (1 / 3 if record.key.n_shots == 4 else 2 / 5)


def test_the_documented_noise_scales_are_those_of_the_records() -> None:
    rows = scale_rows(STORED)
    assert render(rows) in (ROOT / "docs" / "emergence.md").read_text(encoding="utf-8")
    unsaturated = [row.label for row in rows if row.saturated < 0.5]
    assert {record.measurements["trained"].headline for record in RECORDS.values()} == {unsaturated[0]}


def test_the_readme_quotes_the_leaderboard() -> None:
    """Every table row of the README that names a measured model stands in the leaderboard with the same numbers."""
    board = (ROOT / "leaderboard.md").read_text(encoding="utf-8")
    quoted = [
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "±" in line and "|" in line
    ]
    assert quoted
    for line in quoted:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert any(all(cell in row for cell in cells) for row in board.splitlines()), line


def test_the_readme_tells_what_the_served_model_was_estimated_at() -> None:
    """Its own family left out; in the same breath what the same weights are measured at, and what the fit is worth."""
    board = read_board(Store(ROOT / "results"), Counted())
    (table,) = board.tables
    by_name = {entry.name: entry for entry in table.entries}
    estimated, measured = by_name["smollm2-135m-instruct-served"], by_name["smollm2-135m-instruct"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"The estimate is {estimated.bits:.2f} bits, the measurement {measured.bits:.2f}" in readme
    assert "and the fit does not beat what the size of a model alone says" in readme
    assert isinstance(estimated, EstimatedEntry) and not estimated.may_rank
    record = estimated.stored.record
    assert "it says the same of every model, whatever that answers" in readme and not record.makes_use_of_inputs
    assert record.baseline == "parameters" and not any(name.startswith("smollm2") for name in record.trained_on)


def test_the_committed_leaderboard_is_what_the_committed_records_give() -> None:
    root = ROOT / "results"
    assert stale(read_board(Store(root), Counted(), verify=True), root, ROOT / "leaderboard.md") == []


PERFORMANCES, BROKEN = Store(ROOT / "results").performances()
every_performance = pytest.mark.parametrize(
    "stored", PERFORMANCES, ids=[item.path.removeprefix("performance/") for item in PERFORMANCES]
)


def test_performance_of_both_models_is_there_on_every_task() -> None:
    assert not BROKEN
    found = {(item.record.key.model, item.record.key.mode, item.record.key.task) for item in PERFORMANCES}
    asked = (("smollm2-135m-instruct", "completion"), ("smollm2-135m-instruct", "chat"), ("gemma-3-270m", "completion"))
    assert found >= {(model, mode, task) for model, mode in asked for task in (*LISTS, *PAIRS)}


@every_performance
def test_a_performance_is_what_its_samples_score(stored: StoredPerformance) -> None:
    """From the replies up: the questions are drawn again, the replies scored again, the cells counted again."""
    record = stored.record
    content = samples_path(ROOT / "results" / stored.path).read_bytes()
    assert sha256(content) == record.samples_sha256
    samples = [Sample.model_validate_json(line) for line in content.splitlines()]
    task = load_task(record.key.task)
    assert isinstance(task, ListTask | PairTask)
    assert (task.version, task.content_hash) == (record.key.task_version, record.key.task_hash)
    is_chat = record.key.mode == "chat"
    scorer = Scorer(task, is_chat=is_chat)
    for found in record.cells:
        asked = questions(task, n_shots=found.n_shots, n_questions=record.key.n_questions, seed=record.key.seed)
        own = [sample for sample in samples if sample.n_shots == found.n_shots]
        assert [sample.prompt for sample in own] == [request_text(one, is_chat=is_chat) for one in asked]
        assert own == [scored(sample, one, scorer) for sample, one in zip(own, asked, strict=True)]
        assert found == cell(task, asked, own)
        n_prompts = len(task.names) if isinstance(task, ListTask) and found.n_shots == 1 else math.inf
        assert found.n_failed == 0 and found.n_questions == min(100 if record.model else 50, n_prompts)


def test_capitals_are_known_far_above_chance() -> None:
    """France's capital is no secret to 135 M parameters, but not all are known."""
    for item in PERFORMANCES:
        key = item.record.key
        if (key.model, key.mode, key.task) == ("smollm2-135m-instruct", "completion", "country-capital"):
            at_4 = next(found for found in item.record.cells if found.n_shots == 4)
            assert at_4.low is not None and at_4.low > 10 * at_4.chance and at_4.high is not None and at_4.high < 0.9


def test_the_committed_performance_report_and_picture_are_those_of_the_records() -> None:
    folder = ROOT / "results" / "performance"
    assert (folder / "report.md").read_text(encoding="utf-8") == performance_report(PERFORMANCES, BROKEN)
    assert (folder / "picture.svg").read_bytes() == performance_picture(PERFORMANCES)


CALIBRATION = Store(ROOT / "results")
CASES, COVERAGE, COST = (CALIBRATION.calibrations(kind)[0] for kind in (CaseResult, CoverageResult, CostResult))


def test_the_committed_calibration_report_and_picture_are_those_of_the_results() -> None:
    folder = ROOT / "results" / "calibration"
    assert (folder / "report.md").read_text(encoding="utf-8") == report(CASES, COVERAGE, COST)
    assert (folder / "picture.svg").read_bytes() == picture(CASES, COVERAGE)


def test_the_documented_bars_are_those_of_the_results() -> None:
    assert bars_as_markdown(CASES, COVERAGE, COST) in (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")


def test_no_calibration_file_is_broken() -> None:
    assert not any(CALIBRATION.calibrations(kind)[1] for kind in (CaseResult, CoverageResult, CostResult))
