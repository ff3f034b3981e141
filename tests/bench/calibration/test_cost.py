"""The comparison of costs on a tiny model: what is timed, what is extrapolated, and that the numbers are the seed's."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.calibration.activations import RealCodes, embedded, real_codes
from bench.calibration.cost import compare_costs, compare_costs_on, cost_key
from bench.calibration.results import CostKey, CostResult
from bench.errors import UsageError
from bench.estimators.crossfit_nce import CrossfitNCE
from bench.estimators.exact import exact_information
from bench.provenance import Start
from tests.bench.tiny_models import save_list_model

N_LISTS, N_EPOCHS, D_MODEL = 150, 8, 24
START = Start(date="2026-01-01T00:00:00+00:00", commit=None)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_list_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def codes(folder: Path) -> RealCodes:
    return real_codes(str(folder), n_lists=N_LISTS, seed=2)


@pytest.fixture(scope="module")
def key(codes: RealCodes) -> CostKey:
    crossfit = CrossfitNCE(n_folds=2, n_steps=50, batch_size=32)
    return cost_key(
        codes.model,
        codes.files_sha256,
        seed=2,
        n_epochs=N_EPOCHS,
        n_lists=N_LISTS,
        d_model=D_MODEL,
        crossfit=crossfit,
    )


@pytest.fixture(scope="module")
def result(folder: Path, key: CostKey, one_thread: None) -> CostResult:
    return compare_costs(str(folder), key, start=START)


def test_the_defaults_are_all_lists_at_the_paper_s_width() -> None:
    key = cost_key("some-model", "0" * 64)
    assert (key.case, key.n_rows, key.d_model, key.n_epochs) == ("some-model-middle-block-768d", 11_880, 768, 40)
    assert key.estimators["mine_paper"] == {
        "n_epochs": 40,
        "n_samples": 300_000,
        "learning_rate": 1e-4,
        "hidden_width": "d_model",
        "held_out_share": 0.25,
    }
    assert set(key.estimators) == {"mine_paper", "noisy_channel", "crossfit_nce"}


def test_each_reading_is_there(result: CostResult, key: CostKey) -> None:
    assert result.key == key and (result.paper_epochs, result.paper_rows) == (10_000, 300_000)
    assert [(row.estimator, row.reading) for row in result.rows] == [
        ("mine_paper", "train_max"),
        ("mine_paper", "held_out"),
        ("noisy_channel", "s=0.16"),
        ("noisy_channel", "s=0.01"),
        ("crossfit_nce", "held_out"),
    ]
    assert result.provenance.command == "bench calibrate --part cost --model tiny --seed 2"
    assert "8 of the recipe's 10,000 epochs" in result.description and "extrapolated" in result.description


def test_the_recipe_s_full_time_is_that_of_an_epoch_times_all(result: CostResult) -> None:
    """Seconds are rounded to a thousandth, which 10,000 / 8 epochs make a second of."""
    train_max, held_out, *ours = result.rows
    assert 0 < train_max.seconds == held_out.seconds
    assert train_max.full_seconds == held_out.full_seconds
    assert train_max.full_seconds == pytest.approx(train_max.seconds / N_EPOCHS * 10_000, abs=1.0)
    for row in ours:
        assert 0 < row.seconds == row.full_seconds
        assert train_max.full_seconds / row.full_seconds > 0


def test_errors_are_from_the_exact_information_of_the_same_rows(result: CostResult, codes: RealCodes) -> None:
    assert result.exact_bits == pytest.approx(math.log2(N_LISTS), abs=1e-6)
    assert exact_information(embedded(codes, D_MODEL, 2).at("middle").pairs()) == pytest.approx(math.log(N_LISTS))
    for row in result.rows:
        assert row.error_bits == pytest.approx(row.value.value_bits - result.exact_bits, abs=2e-6)  # rounded
        if row.estimator != "mine_paper":
            assert row.error_bits <= 1e-4  # a lower bound, up to float32
    fine, finest = result.rows[2:4]
    assert fine.value.value_bits < finest.value.value_bits


def test_all_but_the_seconds_follows_from_codes_and_key(result: CostResult, codes: RealCodes, key: CostKey) -> None:
    """The name of the model is told and changes no number; a long one still fits the record."""
    told: list[str] = []
    named = replace(codes, model="m" * 150)
    again = compare_costs_on(named, key, start=START, command="any", progress=told.append)
    untimed = {"provenance": True, "description": True, "rows": {"__all__": {"seconds", "full_seconds"}}}
    assert again.model_dump(exclude=untimed) == result.model_dump(exclude=untimed)
    assert again.description == result.description.replace("of tiny,", f"of {named.model},")
    assert [text.split(": ")[-1] for text in told] == ["mine_paper", "noisy_channel", "crossfit_nce"]


def test_another_model_than_the_key_s_is_refused(folder: Path, key: CostKey) -> None:
    other = key.model_copy(update={"weights_sha256": "f" * 64})
    with pytest.raises(UsageError, match="is not the model of the comparison: expected files_sha256 ffffffffffff"):
        compare_costs(str(folder), other, start=START)
