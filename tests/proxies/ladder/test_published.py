"""The published ladder: what the catalog, the sizes and the files in the repository say of each other."""

from __future__ import annotations

import json

import pytest
import torch

from bench.catalog import CATALOG, LADDER_FAMILY, LADDER_FOLDER, resolve
from bench.models import identify, load
from proxies.ladder import report
from proxies.ladder.corpus import MANIFEST
from proxies.ladder.publish import Rung, rungs
from proxies.ladder.report import Measured, PowerLaw, Results
from proxies.ladder.sizes import N_STEPS, SIZES
from proxies.ladder.train import STEPS_PER_POINT

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
        expected = content if isinstance(content, bytes) else content.encode()
        assert path.read_bytes() == expected, f"{path.name} is stale: python -m proxies.ladder report"


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
    curves = Results.read().curves
    assert list(curves) == [size.name for size in SIZES]
    for curve in curves.values():
        assert len(curve) == N_STEPS // STEPS_PER_POINT
        assert curve[0] > 7 and sum(curve[-10:]) / 10 < 5.5
    ends = [sum(curve[-20:]) for curve in curves.values()]
    assert ends == sorted(ends, reverse=True)


def test_the_power_law_of_planted_sizes() -> None:
    planted = [
        Measured(f"m{n}", n, 1, 9.0 * n**-0.1, 0.01, None, None) for n in (10**5, 3 * 10**5, 10**6, 4 * 10**6, 10**7)
    ]
    law = PowerLaw.fit(tuple(planted))
    assert law.exponent == pytest.approx(0.1)
    assert law.factor == pytest.approx(9.0)
    assert law.half_width < 1e-6


def test_the_manifest_names_what_the_cards_name() -> None:
    stated = json.loads(MANIFEST.read_text(encoding="utf-8"))
    card = (RUNGS[0].folder / "README.md").read_text(encoding="utf-8")
    for part in stated["parts"]:
        assert f"- {part['title']} ({part['licence']})" in card
