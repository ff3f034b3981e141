"""Where units run: whatever the order in which measurements come back, and whoever made them, records are the same."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.catalog import resolve
from bench.engine import (
    ENGINES,
    EngineOptions,
    LocalEngine,
    Measured,
    Unit,
    UnitsOf,
    Weights,
    facts_of,
    load_weights,
    make_engine,
    measure_unit,
)
from bench.errors import EstimationError, ModelError, UsageError
from bench.models import identify
from bench.progress import Progress
from bench.records import EmergenceRecord
from bench.request import RunRequest, split_shard
from bench.run import run, share
from bench.store import Store
from bench.task_names import find_tasks
from tests.bench.conftest import Answer
from tests.bench.test_run import Told, numbers
from tests.bench.tiny_models import save_list_model

TASKS = ("country", "animal", "colour")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return tuple(str(save_list_model(folder / name, seed=seed)) for seed, name in enumerate(("one", "two")))


def request(models: tuple[str, ...], out: Path, **changes: Any) -> RunRequest:
    return RunRequest(
        **{"models": models, "tasks": find_tasks(TASKS), "out": out, "n_names": 5, "n_shots": 2} | changes
    )


@pytest.fixture(scope="module")
def expected(models: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[EmergenceRecord]:
    return [outcome.record for outcome in run(request(models, tmp_path_factory.mktemp("single")), Told())]


@dataclass
class Backwards:
    """An engine that looks at all weights first and measures the last unit first, as a cluster might.

    Each unit travels as bytes. With `n_until_error`, so many are measured before one fails.
    """

    n_until_error: int | None = None
    measured_units: list[Unit] = field(default_factory=list)

    def measured(self, weights: Sequence[Weights], units_of: UnitsOf, progress: Progress) -> Measured:
        arrived = [pickle.loads(pickle.dumps(one)) for one in reversed(weights)]
        looked_at = [(one, facts_of(load_weights(one))) for one in arrived]
        units = [unit for one, facts in looked_at for unit in units_of(one, facts)]
        for unit in reversed(units):
            if len(self.measured_units) == self.n_until_error:
                raise EstimationError("this one has no answer")
            sent = pickle.dumps(unit)
            assert b"torch" not in sent
            self.measured_units.append(unit)
            yield measure_unit(pickle.loads(sent), load_weights(unit.weights), lambda: progress.block("a block"))


def test_an_engine_that_measures_backwards_gives_the_same_records(
    models: tuple[str, ...], tmp_path: Path, expected: list[EmergenceRecord]
) -> None:
    """Of each of 2 models: 3 tasks, and the random words that these share. The twin of one is the twin of the other."""
    engine, told = Backwards(), Told()
    outcomes = run(request(models, tmp_path), told, engine)
    assert [numbers(outcome.record) for outcome in outcomes] == [numbers(record) for record in expected]
    assert [list(outcome.record.measurements) for outcome in outcomes] == [list(one.measurements) for one in expected]
    assert len(engine.measured_units) == len({unit.key.digest() for unit in engine.measured_units}) == 2 * (3 + 1) + 3
    assert len(told.blocks) == told.planned == 2 * 3 * 3 * 2


def test_what_came_back_before_an_error_is_kept_and_not_asked_for_again(
    models: tuple[str, ...], tmp_path: Path, expected: list[EmergenceRecord]
) -> None:
    with pytest.raises(EstimationError, match="this one has no answer"):
        run(request(models, tmp_path), Told(), Backwards(n_until_error=9))
    assert len(list((tmp_path / ".units").glob("*.json"))) == 9
    engine = Backwards()
    outcomes = run(request(models, tmp_path), Told(), engine)
    assert len(engine.measured_units) == 11 - 9
    assert [numbers(outcome.record) for outcome in outcomes] == [numbers(record) for record in expected]


def test_weights_and_units_are_said_in_a_few_bytes(models: tuple[str, ...], tmp_path: Path) -> None:
    """A unit is its sequences, 20 lists of 4 tokens here, and about 2 kB of words; no weights."""
    engine = Backwards()
    run(request(models, tmp_path), Told(), engine)
    assert {unit.sequences.shape for unit in engine.measured_units} == {(20, 4)}
    assert all(len(pickle.dumps(unit)) < 8 * 20 * 4 + 4000 for unit in engine.measured_units)


@pytest.mark.parametrize("suffix", ["", "@int4", "@blocks=1", "@untrained"])
def test_weights_are_loaded_only_from_the_files_that_were_looked_at(
    models: tuple[str, ...], tmp_path: Path, suffix: str
) -> None:
    """As when a folder on another node has another configuration: that of the twin would be another model."""
    folder = tmp_path / "tiny"
    shutil.copytree(models[0], folder)
    entry = resolve(f"{folder}{suffix}")
    trained, twin = (
        Weights(entry=entry, identity=identify(entry), twin_seed=seed, dtype="float32", device="cpu")
        for seed in (None, 0)
    )
    assert load_weights(trained).files_sha256 == trained.identity.files_sha256
    assert load_weights(twin).files_sha256 != trained.identity.files_sha256
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    for one in (trained, twin):
        with pytest.raises(ModelError, match="changed while it was being measured|is not the one that was found with"):
            load_weights(one)


def test_an_error_of_ours_survives_the_journey() -> None:
    error = pickle.loads(pickle.dumps(EstimationError("no")))
    assert type(error) is EstimationError and str(error) == "no"


def test_engines_by_name() -> None:
    assert list(ENGINES) == ["local", "ray"]
    assert isinstance(make_engine("local", EngineOptions()), LocalEngine)
    with pytest.raises(UsageError, match="unknown engine 'slurm'; expected one of local, ray"):
        make_engine("slurm", EngineOptions())
    with pytest.raises(UsageError, match="are for --engine ray; add it"):
        make_engine("local", EngineOptions(ray_address="head:6379"))


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "bench.engine_ray", raising=False)
    with pytest.raises(UsageError, match="needs Ray, which is not installed: pip install ray, here and"):
        make_engine("ray", EngineOptions())


@pytest.mark.parametrize(("n_records", "n_shares"), [(7, 3), (9, 3), (2, 5), (0, 2), (1, 1), (100, 7)])
def test_shares_are_a_partition_into_neighbours_of_about_equal_size(n_records: int, n_shares: int) -> None:
    records = list(range(n_records))
    shares = [share(records, (number, n_shares)) for number in range(1, n_shares + 1)]
    assert [record for one in shares for record in one] == records
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_there_is_no_such_share(shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="--shard expects I/N with I from 1 to N"):
        share([1, 2], shard)


def test_a_share_is_written_like_a_lane() -> None:
    assert split_shard("3/8") == (3, 8)
    for text in ("3", "3/", "-1/2", "1/2/3", "a/b", ""):
        with pytest.raises(UsageError, match="--shard expects I/N, such as 1/8, got"):
            split_shard(text)


def test_records_of_shares_in_folders_of_their_own_are_together_those_of_one_run(
    models: tuple[str, ...], tmp_path: Path, expected: list[EmergenceRecord]
) -> None:
    """6 records in 4 shares: 1, 2, 1 and 2. What is on disk changes nobody's share."""
    together = tmp_path / "together"
    counts = []
    for number in (2, 1, 4, 3):
        out = tmp_path / str(number)
        outcomes = run(request(models, out, shard=(number, 4)), Told())
        counts.append(len(outcomes))
        assert all(outcome.was_there for outcome in run(request(models, out, shard=(number, 4)), Told()))
        shutil.copytree(out, together, dirs_exist_ok=True)
    assert counts == [2, 1, 2, 1]
    stored, rejected = Store(together).records()
    assert not rejected
    by_key = {one.record.key.digest(): numbers(one.record) for one in stored}
    assert by_key == {record.key.digest(): numbers(record) for record in expected}
    merged = run(request(models, together), Told())
    assert all(outcome.was_there for outcome in merged) and len(merged) == 6


def test_a_share_of_nothing_is_no_error(models: tuple[str, ...], tmp_path: Path) -> None:
    assert run(request(models, tmp_path, shard=(1, 7)), Told()) == ()


def test_shares_and_engines_on_the_command_line(
    bench: Callable[..., Answer], models: tuple[str, ...], tmp_path: Path, expected: list[EmergenceRecord]
) -> None:
    words = (
        "run",
        *models,
        "--tasks",
        ",".join(TASKS),
        "--n-names",
        "5",
        "--n-shots",
        "2",
        "--out",
        tmp_path,
        "--json",
    )
    status, out, _ = bench(*words, "--shard", "6/6")
    (last,) = (EmergenceRecord.model_validate_json(json.dumps(row["record"])) for row in json.loads(out))
    assert status == 0 and numbers(last) == numbers(expected[-1])
    status, out, err = bench(*words, "--shard", "1/7")
    assert (status, json.loads(out)) == (0, []) and "share 1/7 has no records: there are fewer than shares" in err
    status, _, err = bench(*words, "--shard", "8/7")
    assert status == 2 and "--shard expects I/N with I from 1 to N, such as 1/2 or 2/2, got 8/7" in err
    status, _, err = bench(*words, "--ray-address", "auto")
    assert status == 2 and "are for --engine ray; add it" in err
