"""`bench estimate --from-text` on planted records: a real text through a tiny proxy, estimated and held against."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bench.catalog import resolve
from bench.cli import app
from bench.errors import UsageError
from bench.performance import Sample
from bench.probe import ProbeRequest, probe, text_named
from bench.probe_records import ProbeRecord
from bench.store import Store
from proxies.regression import FEWEST_MODELS
from tasks import RANKED_TASKS
from tests.bench.tiny_models import save_tiny
from tests.bench.told import Told
from tests.performance_factory import make_performance
from tests.record_factory import make_record

FAMILIES = {"alder-0": "Alder", "alder-1": "Alder", "birch-0": "Birch", "birch-1": "Birch", "birch-2": "Birch"} | {
    f"cedar-{number}": "Cedar" for number in range(4)
}
SETTINGS = (("n_draws", "2"), ("scales", "1.28"), ("headline_scale", "1.28"))
"""Coarse enough that groups of 12 windows are not saturated."""


def write_letters(path: Path, n_sentences: int, *, seed: int) -> Path:
    """Sentences of random capital letters; the tiny tokenizer makes a token of each."""
    drawn = np.random.default_rng(seed).choice(list(string.ascii_uppercase), size=(n_sentences, 12))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("".join(row) + "." for row in drawn) + "\n")
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a proxy, texts, and the results of nine writers in proportion to whose emergence the probe is."""
    root = tmp_path_factory.mktemp("planted")
    save_tiny(root / "tiny")
    results = root / "results"
    store = Store(results)
    people = write_letters(results / "texts" / "people.txt", 150, seed=1)
    read = probe(
        ProbeRequest(
            text=text_named("--text", str(write_letters(root / "alder-0.txt", 150, seed=2))),
            reference=text_named("--reference", str(people)),
            proxies=(str(root / "tiny"),),
            out=root / "elsewhere",
            sizes=(48,),
            n_groups=4,
            settings=SETTINGS,
            writer="alder-0",
        ),
        Told(),
    )[0].record
    for number, (model, family) in enumerate(FAMILIES.items()):
        for task in RANKED_TASKS:
            record = make_record(model=model, task=task, weights=f"files of {model}", level=4.0 + number / 2)
            info = record.model.model_copy(update={"family": family, "n_parameters": 1000 * (number + 1)})
            store.write_record(record.model_copy(update={"model": info}))
        store.write_probe(read if model == "alder-0" else planted_like(read, model, float(number)))
    store.write_performance(make_performance(), [Sample(task="country", n_shots=1, index=0, prompt="p", reply="r")])
    write_letters(root / "closed.txt", 150, seed=3)
    write_letters(root / "short.txt", 20, seed=4)
    return root


def planted_like(read: ProbeRecord, writer: str, difference: float) -> ProbeRecord:
    """The record of another writer's text, with another difference of emergence."""
    content: dict[str, Any] = read.model_dump()
    content["key"] |= {"writer": writer, "text": f"text:{writer}", "text_sha256": f"sha of {writer}"}
    last = content["comparisons"][-1]
    last["difference_bits"] = {"value": difference, "low": difference - 0.1, "high": difference + 0.1}
    return ProbeRecord.model_validate(content)


@pytest.fixture
def root(planted: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    shutil.copytree(planted, tmp_path / "planted")
    return tmp_path / "planted"


def estimate(root: Path, model: str, text: str = "closed.txt", *options: str) -> Result:
    arguments = ["estimate", model, "--from-text", str(root / text), "--results", str(root / "results")]
    return CliRunner().invoke(app, [*arguments, "--proxy", str(root / "tiny"), *options])


def test_the_proxy_goes_by_the_name_of_its_folder(planted: Path) -> None:
    assert resolve(str(planted / "tiny")).name == "tiny" and len(FAMILIES) > FEWEST_MODELS


def test_an_estimate_from_text_for_machines_and_for_people(root: Path) -> None:
    found = estimate(root, "closed", "closed.txt", "--family", "Birch", "--json")
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout)["record"]
    assert (data["key"]["model"], data["key"]["source"], data["measured_bits"]) == ("closed", "text", None)
    assert data["left_out"] == ["birch-0", "birch-1", "birch-2"] and len(data["trained_on"]) == 6
    assert data["trained_on"] == sorted(name for name, family in FAMILIES.items() if family != "Birch")
    assert data["intervals"] == {}  # two families allow none
    assert "beat its baseline" in data["verdict"] and data["error_bits"] > 0
    read = [item.record for item in Store(root / "results").probes()[0] if item.record.key.writer == "closed"]
    assert len(read) == 1 and read[0].headline.n_windows == 48 and read[0].key.sizes == (48,)
    assert data["inputs"]["text_probe"] == read[0].headline.difference_bits.value
    assert (root / "results" / data["fit"]).is_file() and data["fit"].startswith("fits/texts/")

    again = estimate(root, "closed", "closed.txt", "--family", "Birch")
    assert again.exit_code == 0 and "read before" in again.stderr
    assert "Estimated emergence of closed, from text" in again.stdout and "From text alone" in again.stdout
    assert "held out: birch-0, birch-1, birch-2" in again.stdout and "performance" not in again.stdout
    assert f"{data['value_bits']:.2f}" in again.stdout and data["verdict"][:60] in again.stdout


def test_a_measured_model_is_held_out_with_its_family_and_stands_beside_its_estimate(root: Path) -> None:
    found = estimate(root, "alder-0", "alder-0.txt", "--json")
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout)["record"]
    assert data["left_out"] == ["alder-0", "alder-1"] and data["measured_bits"] is not None
    assert not {"alder-0", "alder-1"} & set(data["trained_on"])


def test_two_kinds_of_estimate_exclude_each_other(root: Path) -> None:
    found = estimate(root, "closed", "closed.txt", "--from-performance")
    assert isinstance(found.exception, UsageError)
    assert "--from-performance and --from-text are two estimates" in str(found.exception)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("none.txt", (), "--from-text: "),
        ("short.txt", (), "expected at least 48 distinct windows of 8 tokens on each side, got 20 from 20 sentences"),
        ("closed.txt", ("--reference", "closed.txt"), "which they call text:people; name that one"),
        ("closed.txt", ("--proxy", "gpt2-ladder-s"), "was read by 'gpt2-ladder-s'; read some with `bench probe --text"),
        ("closed.txt", ("--family", "Elm"), "no family 'Elm' was measured; there are Alder, Birch, Cedar"),
    ],
)
def test_what_cannot_be_estimated_is_refused(
    text: str, options: tuple[str, ...], said: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    found = estimate(root, "closed", text, *options)
    assert isinstance(found.exception, UsageError) and said in str(found.exception)


def test_a_reference_needs_a_text(root: Path) -> None:
    found = CliRunner().invoke(app, ["estimate", "closed", "--reference", "x.txt", "--results", str(root / "results")])
    assert isinstance(found.exception, UsageError) and "name the text with --from-text FILE" in str(found.exception)


def test_too_few_writers_are_refused_before_anything_is_read(root: Path) -> None:
    store = Store(root / "results")
    for item in store.probes()[0]:
        if item.record.key.writer in ("cedar-0", "cedar-1"):
            (root / "results" / item.path).unlink()
    found = estimate(root, "closed")
    assert isinstance(found.exception, UsageError) and "7 models of 3 families" in str(found.exception)
    assert not any(item.record.key.writer == "closed" for item in store.probes()[0])
