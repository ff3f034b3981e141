"""The main job on a tiny model: from a folder of weights to records, again, after a kill, and with bad requests."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import UsageError
from bench.estimators import ESTIMATORS
from bench.records import EmergenceRecord
from bench.request import RunRequest
from bench.run import aligned_pool, run
from bench.store import read_row
from bench.summary import ceiling_of, emergence_of, exact_of
from bench.task_names import find_tasks
from tests.bench.picky_estimator import Picky
from tests.bench.tiny_models import load_list, load_pairs, save_list_model
from tests.bench.told import Told


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_list_model(tmp_path_factory.mktemp("models") / "tiny")


def request(model: Path, out: Path, **changes: Any) -> RunRequest:
    fields: dict[str, Any] = {"models": (str(model),), "tasks": ("country",), "out": out, "n_names": 6, "n_shots": 3}
    fields |= changes
    return RunRequest(**(fields | {"tasks": find_tasks(fields["tasks"])}))


@pytest.fixture(scope="module")
def record(model: Path, tmp_path_factory: pytest.TempPathFactory) -> EmergenceRecord:
    return run(request(model, tmp_path_factory.mktemp("results")), Told())[0].record


def test_ceilings_are_the_entropies_of_the_lists(record: EmergenceRecord) -> None:
    """6 names, 3 shots; block 0 sees only the token before it, every later block the whole prefix."""
    trained = record.measurements["trained"]
    entropies = [math.log2(math.perm(6, shots)) for shots in (1, 1, 2, 2, 3, 3)]
    assert trained.macro_ceiling_bits[1] == pytest.approx(entropies)
    assert trained.macro_ceiling_bits[0] == pytest.approx([math.log2(6), 0] * 3)
    assert trained.micro_ceiling_bits == ((pytest.approx(math.log2(6)), 0.0),) * 2
    assert record.summary[-1].macro_ceiling_bits == pytest.approx(math.log2(120))
    assert exact_of(trained).values[1, 5] == pytest.approx(math.log2(120) - math.log2(6) / 2)


def test_no_estimate_passes_its_ceiling_and_the_shuffled_control_covers_zero(record: EmergenceRecord) -> None:
    for measurement in record.measurements.values():
        for sides, ceiling in (
            (measurement.macro, measurement.macro_ceiling_bits),
            (measurement.micro, measurement.micro_ceiling_bits),
        ):
            for grid in sides.values():
                assert (np.array(grid.values_bits) <= np.array(ceiling) + 1e-5).all()
        assert (emergence_of(measurement).values <= ceiling_of(measurement).values + 1e-5).all()
    shuffled = record.measurements["trained"].shuffled
    assert shuffled is not None
    assert (np.abs(shuffled.values_bits) <= 4 * np.array(shuffled.errors_bits) + 1e-4).all()


def test_block_0_carries_nothing_about_the_list_at_the_separator(record: EmergenceRecord) -> None:
    macro = record.measurements["trained"].macro
    for grid in macro.values():
        assert [grid.values_bits[0][position] for position in (1, 3, 5)] == [0, 0, 0]
        assert grid.values_bits[0][4] <= math.log2(6) + 1e-5


def test_what_is_recorded_is_what_was_measured(record: EmergenceRecord, model: Path) -> None:
    assert record.key.preset == "custom"
    assert (record.n_pool, record.n_survivors) == (len(load_list("country").names), 30)
    trained, twin, words = (record.measurements[name] for name in ("trained", "untrained_twin", "random_words"))
    assert trained.names == twin.names and set(trained.names) <= set(
        aligned_pool(load_list("country"), str(model)).names
    )
    assert not set(words.names) & load_list("country").surface_forms
    assert (
        len({item.key.files_sha256 for item in (trained, twin)}) == 2
        and trained.key.files_sha256 == words.key.files_sha256
    )
    distinct = 2 * (6 + 30 + 120)
    assert distinct <= trained.n_tokens_computed <= 1.05 * distinct and trained.n_tokens_plain == 120 * 6
    assert 0 < trained.forward_difference < 1e-5
    assert record.bos_token is None and record.is_enumerated
    assert record.provenance.versions["torch"] == torch.__version__


def test_the_same_request_again_measures_nothing(model: Path, tmp_path: Path) -> None:
    first = run(request(model, tmp_path), Told())
    told = Told()
    again = run(request(model, tmp_path), told)
    assert [outcome.was_there for outcome in first + again] == [False, True]
    assert again[0].record == first[0].record
    assert told.blocks == [] and told.planned == 0


def numbers(record: EmergenceRecord) -> dict[str, Any]:
    """Everything in a record but the times."""
    content = record.model_dump(exclude={"provenance"})
    for measurement in content["measurements"].values():
        del measurement["seconds"]
    return content


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(model: Path, tmp_path: Path) -> None:
    one, other, third = (
        run(request(model, tmp_path / name, seed=seed), Told())[0].record
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert numbers(one) == numbers(other)
    assert one.summary[0].emergence != third.summary[0].emergence
    weights = {item.measurements["untrained_twin"].key.files_sha256 for item in (one, other, third)}
    assert len(weights) == 2


def test_several_tasks_share_the_random_words_and_keep_their_order(model: Path, tmp_path: Path) -> None:
    told = Told()
    outcomes = run(request(model, tmp_path, tasks=("colour", "country", "animal")), told)
    assert [outcome.record.key.task for outcome in outcomes] == ["colour", "country", "animal"]
    words = {outcome.record.measurements["random_words"].key.digest() for outcome in outcomes}
    assert len(words) == 1
    assert len(told.blocks) == told.planned == 3 * 3 * 2
    assert len(list((tmp_path / ".units").glob("*.json"))) == 3 + 3 + 1


def test_begin_of_sequence_stands_before_macro_and_micro_alike_and_can_be_turned_off(tmp_path: Path) -> None:
    folder = save_list_model(tmp_path / "with-bos", "llama", prepends_bos=True)
    usual, bare = (run(request(folder, tmp_path / bos, bos=bos), Told())[0].record for bos in ("tokenizer", "none"))
    assert (usual.bos_token, bare.bos_token) == (0, None)
    assert usual.measurements["trained"].n_tokens_plain == 120 * 7
    assert numbers(usual)["measurements"] != numbers(bare)["measurements"]
    assert usual.measurements["trained"].macro_ceiling_bits == bare.measurements["trained"].macro_ceiling_bits


def test_a_limited_run_says_so(model: Path, tmp_path: Path) -> None:
    record = run(request(model, tmp_path, limit=50), Told())[0].record
    assert not record.is_enumerated and record.key.limit == 50
    trained = record.measurements["trained"]
    assert trained.n_sequences == 50
    assert trained.macro_ceiling_bits[1][5] == pytest.approx(math.log2(50))
    assert trained.macro_ceiling_bits[1][1] < math.log2(6)  # a subset does not begin equally often with each name


def test_states_beyond_the_memory_budget_change_nothing(model: Path, tmp_path: Path) -> None:
    roomy, tight = (
        run(request(model, tmp_path / name, memory_bytes=size), Told())[0].record
        for name, size in (("a", 1 << 30), ("b", 50_000))
    )
    assert numbers(roomy) == numbers(tight)
    with pytest.raises(UsageError, match="one position of these 120 lists needs .* more than --memory-gb"):
        run(request(model, tmp_path / "c", memory_bytes=1), Told())


QUICK: dict[str, tuple[tuple[str, str], ...]] = {
    "mine_paper": (("n_epochs", "30"), ("n_samples", "300")),
    "crossfit_nce": (("n_steps", "25"),),
    "infonce_anchor": (("n_steps", "25"),),
}
"""Settings under which the estimators that train are done in seconds; the others stay as they are."""


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_runs_end_to_end(model: Path, tmp_path: Path, estimator: str) -> None:
    asked = request(model, tmp_path, estimator=estimator, n_names=4, n_shots=2, settings=QUICK.get(estimator, ()))
    record = run(asked, Told())[0].record
    assert record.key.estimator == estimator
    last = record.summary[-1]
    assert (last.emergence is None) == (last.refused_cells > 0)
    if record.measurements["trained"].is_bounded and last.emergence is not None:
        assert last.ceiling_bits is not None and last.emergence.value_bits <= last.ceiling_bits + 1e-5


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "picky", Picky)


@pytest.mark.usefixtures("picky")
def test_a_refused_cell_does_not_end_the_run_and_is_not_measured_again(model: Path, tmp_path: Path) -> None:
    """A name is one of 6, and so is the list at the first separator; block 0 at a separator is 0 and not asked for."""
    asked = request(model, tmp_path, estimator="picky", settings=(("fewest", "7"),))
    outcome = run(asked, Told())[0]
    assert [row.emergence for row in outcome.record.summary] == [None] * 3
    # The micro terms of names in both blocks, and at the first separator the macro term of block 1.
    assert [row.refused_cells for row in outcome.record.summary] == [3, 2, 2]
    assert [row.shuffled is None for row in outcome.record.summary] == [True, False, False]
    assert read_row(outcome.path, EmergenceRecord) == outcome.record
    told = Told()
    assert run(asked, told)[0].was_there and told.blocks == []


@pytest.mark.usefixtures("picky")
def test_settings_reach_the_estimator_the_key_and_the_recorded_command(model: Path, tmp_path: Path) -> None:
    settings = (("fewest", "1"), ("factor", "0.25"), ("advice", "try twice"), ("offsets", "0,0.5"))
    record = run(request(model, tmp_path, estimator="picky", settings=settings), Told())[0].record
    assert record.key.settings == {
        "fewest": 1, "factor": 0.25, "advice": "try twice", "offsets": (0.0, 0.5), "is_sample_based": False
    }  # fmt: skip
    macro = record.measurements["trained"].macro["plain"].values_bits
    assert macro[1][5] == pytest.approx(math.log2(120) / 4)
    assert record.provenance.command == (
        "bench run tiny --tasks country --n-names 6 --n-shots 3 --estimator picky --setting fewest=1 "
        "--setting factor=0.25 --setting 'advice=try twice' --seed 0"
    )
    other = run(request(model, tmp_path, estimator="picky", settings=settings[:1]), Told())[0]
    assert not other.was_there and other.record.key.settings["factor"] == 1.0


@pytest.mark.usefixtures("picky")
def test_an_estimator_that_bounds_nothing_may_pass_its_ceiling(model: Path, tmp_path: Path) -> None:
    settings = (("fewest", "1"), ("factor", "2"))
    record = run(request(model, tmp_path, estimator="picky", settings=settings), Told())[0].record
    assert record.above_ceiling(record.summary[-1]) >= {"emergence", "macro", "micro"}


def test_a_changed_configuration_is_another_model(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(model, folder)
    before = run(request(folder, tmp_path / "out"), Told())[0]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    after = run(request(folder, tmp_path / "out"), Told())[0]
    assert not after.was_there and after.path != before.path
    assert after.record.model.weights_sha256 == before.record.model.weights_sha256
    assert numbers(after.record)["measurements"] != numbers(before.record)["measurements"]


def test_every_model_is_looked_at_before_any_is_measured(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = Told()
    with pytest.raises(UsageError, match="has no config.json"):
        run(request(model, tmp_path / "out", models=(str(model), str(tmp_path / "empty"))), told)
    assert told.blocks == []


def test_the_recorded_command_measures_the_same(record: EmergenceRecord) -> None:
    assert record.provenance.command == (
        "bench run tiny --tasks country --n-names 6 --n-shots 3 --estimator noisy_channel --seed 0"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("gpt3",)}, "no such model.*did you mean gpt2"),
        ({"tasks": ()}, "nothing to do"),
        ({"preset": "slow"}, "unknown preset 'slow'; expected one of quick, paper"),
        ({"estimator": "magic"}, f"unknown estimator 'magic'; expected one of {', '.join(ESTIMATORS)}"),
        ({"settings": (("draws", "9"),)}, "unknown setting 'draws' .*expected one of scales, headline_scale, n_draws"),
        ({"settings": (("n_draws", "1"),)}, "a standard error needs at least 2 draws, got 1"),
        ({"n_shots": 7}, "list of 7 different names cannot be drawn from 6"),
        ({"limit": 0}, "--limit must leave at least 2 lists, got 0"),
        ({"n_names": 31}, r"30 of its 116 names are a single token under this tokenizer, and 31 are needed"),
        ({"bos": "always"}, "--bos must be tokenizer or none, got 'always'"),
        ({"seed": 2**64}, "--seed must be between 0"),
        ({"device": "warp"}, "device 'warp' cannot be used here"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_words(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        run(replace(request(model, tmp_path), **changes), Told())
    assert caught.value.exit_status == 2
    assert not list(tmp_path.glob("emergence/*/*.json"))


@pytest.mark.real
@pytest.mark.timeout(600)  # the first time it downloads and converts the weights
def test_real_weights_end_to_end(tmp_path: Path) -> None:
    """SmolLM2-135M on 60 lists: the ceilings are the entropies, the trained model differs from its twin."""
    command = RunRequest(
        models=("smollm2-135m-instruct",), tasks=find_tasks(["country"]), out=tmp_path, n_names=5, n_shots=3
    )
    record = run(command, Told())[0].record
    trained = record.measurements["trained"]
    assert (record.model.n_blocks, record.model.d_model, record.model.n_parameters) == (30, 576, 134_515_008)
    assert record.summary[-1].macro_ceiling_bits == pytest.approx(math.log2(60))
    assert all(row[-1] == pytest.approx(math.log2(60)) for row in trained.macro_ceiling_bits[1:])
    assert 0 < trained.forward_difference < 1e-4
    assert record.summary[-1].curve["s=0.64"]["trained"] != record.summary[-1].curve["s=0.64"]["untrained_twin"]


def test_pairs_are_measured_like_lists(model: Path, tmp_path: Path) -> None:
    """4 pairs, 2 shots of query, arrow, answer, separator."""
    (outcome,) = run(request(model, tmp_path, tasks=("antonym",), n_names=4, n_shots=2), Told())
    trained = outcome.record.measurements["trained"]
    entropies = [math.log2(4)] * 4 + [math.log2(12)] * 4
    assert trained.macro_ceiling_bits[1] == pytest.approx(entropies)
    assert len(trained.names) == 4 and all(": " in name for name in trained.names)
    assert outcome.record.demonstration_length == 4 and outcome.record.is_enumerated
    assert [row.position for row in outcome.record.summary] == [3, 7]
    words = outcome.record.measurements["random_words"]
    assert words.macro_ceiling_bits == trained.macro_ceiling_bits
    assert words.micro_ceiling_bits == trained.micro_ceiling_bits
    assert not {part for name in words.names for part in name.split(": ")} & load_pairs("antonym").surface_forms
    assert outcome.record.key.estimator == "noisy_channel"


def test_text_is_measured_on_windows_with_the_estimator_for_samples(model: Path, tmp_path: Path) -> None:
    names = load_list("country").names[:30]
    text = tmp_path / "prose.txt"
    rng = np.random.default_rng(0)
    text.write_text(".\n\n".join(f" {', '.join(rng.permutation(names)[:3])}" for _ in range(80)), encoding="utf-8")
    tasks = find_tasks([], texts=[str(text)])
    settings = (("n_steps", "20"), ("n_folds", "2"))
    asked = replace(request(model, tmp_path, n_names=60, n_shots=2), tasks=tasks, settings=settings)
    (outcome,) = run(asked, Told())
    record = outcome.record
    assert (record.key.task, record.key.estimator) == ("text:prose", "crossfit_nce")
    assert not record.is_enumerated and record.n_pool == 80
    assert [row.position for row in record.summary] == [0, 1]
    trained, words = record.measurements["trained"], record.measurements["random_words"]
    assert trained.names == () and trained.n_sequences == 60
    assert words.macro_ceiling_bits == trained.macro_ceiling_bits
    assert "--text prose.txt" in record.provenance.command
    with pytest.raises(UsageError, match="80 sentences have 2 tokens .* 100 are needed"):
        run(replace(asked, n_names=100), Told())


def test_a_task_that_too_few_items_fit_is_refused_with_the_counts(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"of its 118 pairs have one token count .* and 12 are needed"):
        run(request(model, tmp_path, tasks=("element-symbol",), n_names=12, n_shots=2), Told())
