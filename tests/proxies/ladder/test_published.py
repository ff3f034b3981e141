"""The published ladder: what the catalog, the sizes and the files in the repository say of each other."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.catalog import CATALOG, LADDER_FAMILY, LADDER_FOLDER, resolve
from bench.models import identify, load
from proxies.ladder import report
from proxies.ladder.corpus import MANIFEST, corpus, ladder_folder
from proxies.ladder.publish import Rung, rungs
from proxies.ladder.report import PowerLaw, Results
from proxies.ladder.sizes import N_STEPS, SIZES
from proxies.ladder.tokenizer import prepare
from proxies.ladder.train import STEPS_PER_POINT, Run

ROOT = Path(__file__).resolve().parents[3]
RUNGS = rungs(SIZES)


def test_the_catalog_has_every_rung_and_no_other() -> None:
    of_ladder = {entry.name: entry.n_parameters for entry in CATALOG.values() if entry.family == LADDER_FAMILY}
    assert of_ladder == {rung.name: rung.size.n_parameters for rung in RUNGS}


def test_sizes_are_spaced_evenly_in_the_logarithm_of_their_parameters() -> None:
    counts = [size.n_parameters for size in SIZES]
    ratios = [larger / smaller for smaller, larger in zip(counts, counts[1:], strict=False)]
    assert max(ratios) / min(ratios) < 1.05


def test_weights_fit_the_budget_and_every_folder_has_a_card() -> None:
    total = sum(path.stat().st_size for path in LADDER_FOLDER.rglob("*") if path.is_file())
    assert total < 60_000_000
    for rung in RUNGS:
        assert rung.name in (rung.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_rung_loads_by_name_in_half_precision(rung: Rung) -> None:
    loaded = load(resolve(rung.name), dtype="bfloat16")
    assert (loaded.n_parameters, loaded.n_blocks, loaded.d_model) == (
        rung.size.n_parameters,
        rung.size.n_layer,
        rung.size.n_embd,
    )
    assert loaded.entry.family == LADDER_FAMILY
    assert loaded.model.dtype == torch.bfloat16


def test_every_rung_has_weights_of_its_own() -> None:
    assert len({identify(resolve(rung.name)).weights_sha256 for rung in RUNGS}) == len(RUNGS)


def test_tables_cards_and_picture_are_those_of_the_measurements() -> None:
    for path, content in report.files(Results.read()).items():
        assert path.read_bytes() == content, f"{path.name} is stale: python -m proxies.ladder report"


def test_larger_models_are_better_and_more_training_too() -> None:
    results = Results.read()
    finished = results.finished
    assert [model.name for model in finished] == [size.name for size in SIZES]
    for smaller, larger in zip(finished, finished[1:], strict=False):
        assert larger.bits_per_byte < smaller.bits_per_byte
        assert larger.below_next_smaller is not None and larger.below_next_smaller_error is not None
        assert larger.below_next_smaller > 5 * larger.below_next_smaller_error, larger.name
    assert finished[0].bits_per_byte > 1.05 * finished[-1].bits_per_byte
    assert finished[0].bits_per_byte < results.unigram_bits_per_byte
    by_name = {model.name: model.bits_per_byte for model in results.models}
    for size in SIZES:
        kept = [by_name[Rung(size, step).name] for step in size.kept_steps()]
        assert kept == sorted(kept, reverse=True)


def test_the_curves_are_whole_and_fall() -> None:
    curves = report.curves()
    assert list(curves) == [size.name for size in SIZES]
    for curve in curves.values():
        assert len(curve) == N_STEPS // STEPS_PER_POINT
        assert curve[0] > 7 and sum(curve[-10:]) / 10 < 5.5
    ends = [sum(curve[-20:]) for curve in curves.values()]
    assert ends == sorted(ends, reverse=True)


def test_the_power_law_of_planted_sizes() -> None:
    sizes = (10**5, 3 * 10**5, 10**6, 4 * 10**6, 10**7)
    law = PowerLaw.fit(sizes, [9.0 * n**-0.1 for n in sizes])
    assert law.exponent == pytest.approx(0.1)
    assert law.factor == pytest.approx(9.0)
    assert law.half_width < 1e-6


def test_the_manifest_names_what_the_cards_name() -> None:
    stated = json.loads(MANIFEST.read_text(encoding="utf-8"))
    card = (RUNGS[0].folder / "README.md").read_text(encoding="utf-8")
    for part in stated["parts"]:
        assert f"- {part['title']} ({part['licence']})" in card


OFFLINE = """
import socket, sys

def refused(*arguments):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.getaddrinfo = refused
from bench.cli import main
sys.argv[0] = "bench"
main()
"""


def test_a_quick_run_takes_less_than_a_minute_without_a_network(tmp_path: Path) -> None:
    """Of processor time, whatever else the machine is doing; all three ranked lists with all controls."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "run", "gpt2-ladder-s", "--out", str(tmp_path / "results"), "--json"],
        cwd=ROOT,
        env=os.environ | {"BENCH_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").rglob("*.json"))) >= 3
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 60


@pytest.mark.long
def test_the_smallest_model_comes_out_of_its_seed_again(tmp_path: Path) -> None:
    """The first points of the published loss curve to three decimals, on the same type of machine."""
    if not (ladder_folder() / "packages").is_dir():
        pytest.skip("needs the corpus: python -m proxies.ladder corpus")
    prepared = prepare(corpus())
    told = json.loads((LADDER_FOLDER / "gpt2-ladder-xs" / "training.json").read_text())
    torch.set_num_threads(1)
    run = Run(SIZES[0], prepared.train, tmp_path)
    assert run.tokens_sha256 == told["tokens_sha256"]
    run.train(until=400)
    assert run.curve == pytest.approx(told["loss"][:20], abs=5e-4)
