"""The text probe on planted texts: the same ones, very different ones, too short ones; its records and its command."""

from __future__ import annotations

import gc
import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from pydantic import ValidationError
from scipy.stats import binom
from typer.testing import CliRunner

from bench.catalog import resolve
from bench.cli_probe import probe as command
from bench.errors import BenchError, UsageError
from bench.models import load
from bench.probe import ProbeRequest, log_losses_bits, probe, text_named, text_sha256
from bench.probe_records import EVIDENCE, Interval, ProbeRecord, Terms
from bench.store import Store
from bench.terminal_probe import probe_tables
from tasks import load_task
from tasks.task import TextTask
from tasks.text import DATA_FOLDER, text_task
from tests.bench.test_one_model_at_a_time import n_alive
from tests.bench.tiny_models import save_tiny
from tests.bench.told import Told

FAST = (("n_draws", "64"), ("scales", "0.32"), ("headline_scale", "0.32"))
FASTEST = (("n_draws", "2"), ("scales", "0.32"), ("headline_scale", "0.32"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer makes a token of every letter."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


def letters(n_sentences: int, *, seed: int, before: str = "") -> TextTask:
    """Sentences of random capital letters, after the same beginning in all of them."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(list(string.ascii_uppercase), size=(n_sentences, 12))
    return text_task(f"letters{seed}{before}", (before + "".join(row) for row in drawn), sources=("a test",))


def request(model: Path, out: Path, **changes: Any) -> ProbeRequest:
    fields: dict[str, Any] = {
        "text": letters(150, seed=1),
        "reference": letters(300, seed=2),
        "proxies": (str(model),),
        "out": out,
        "sizes": (48, 96),
        "n_groups": 4,
        "settings": FAST,
    }
    return ProbeRequest(**(fields | changes))


@pytest.fixture(scope="module")
def record(model: Path, tmp_path_factory: pytest.TempPathFactory) -> ProbeRecord:
    """Random letters against the same kind of random letters."""
    return probe(request(model, tmp_path_factory.mktemp("results")), Told())[0].record


def test_texts_of_one_kind_do_not_separate(record: ProbeRecord) -> None:
    assert record.headline.n_windows == 96
    assert not record.headline.difference_bits.excludes(0.0)
    assert [record.n_needed(evidence) for evidence in EVIDENCE] == [None] * 4


def test_the_reference_against_itself_is_the_control(record: ProbeRecord) -> None:
    assert record.control is not None and record.control.n_windows == 96
    assert record.control.text == record.headline.reference, "its first half is what the text is held against"
    assert not any(record.control.separates(evidence) for evidence in EVIDENCE)


def test_one_text_on_both_sides_is_dealt_between_them(model: Path, tmp_path: Path) -> None:
    same = letters(300, seed=3)
    found = probe(request(model, tmp_path, text=same, reference=same), Told())[0].record
    assert found.n_shared == found.text.n_windows == found.reference.n_windows == 300
    assert found.text.n_dealt + found.reference.n_dealt == 300
    assert not any(found.headline.separates(evidence) for evidence in EVIDENCE)


def test_a_template_separates_from_random_letters(model: Path, tmp_path: Path) -> None:
    """Half of the template's tokens are constant: no micro information there, and the macro term is as large.

    Counted, the difference is half the entropy of the letters that a group of 24 shows of 26, in every block: at the
    first one, which sees one letter, macro and micro terms of random letters are the same, in the others the macro
    terms of both texts are log2 24.
    """
    planted = letters(150, seed=4, before="xyzw")
    found = probe(request(model, tmp_path, text=planted), Told())[0].record
    times = np.arange(1, 25)
    entropy = 26 * binom.pmf(times, 24, 1 / 26) @ (times / 24 * np.log2(24 / times))
    error = (found.headline.counted_bits.high - found.headline.counted_bits.low) / 2
    assert found.headline.counted_bits.value == pytest.approx(entropy / 2, abs=error)
    assert [found.n_needed(evidence) for evidence in ("counted", "bag_of_tokens")] == [48, 48]
    assert found.headline.difference_bits.low > 0


def test_natural_text_separates_from_its_own_words_shuffled(tmp_path: Path) -> None:
    """What only a model can see: order. The words are the same, so what separates is not which tokens there are."""
    sentences = load_task("text-sample")
    assert isinstance(sentences, TextTask)
    rng = np.random.default_rng(5)
    words = [word for sentence in sentences.sentences[:600] for word in sentence.split()]
    order = [words[index] for index in rng.permutation(len(words))]
    shuffled = text_task("shuffled", (" ".join(order[at : at + 12]) for at in range(0, 4800, 12)), sources=("a test",))
    natural = text_task("natural", sentences.sentences[600:1200], sources=("a test",))
    asked = request(Path("gpt2-ladder-s"), tmp_path, text=shuffled, reference=natural, sizes=(96,))
    found = probe(asked, Told())[0].record
    assert found.headline.perplexity.difference_bits.low > 0.5, "shuffled words are harder"
    assert found.headline.perplexity.auc.high < 0.5
    assert found.n_needed("perplexity") == 96


def test_no_macro_term_passes_the_logarithm_of_its_windows(record: ProbeRecord) -> None:
    for comparison in record.comparisons:
        for terms in (comparison.text, comparison.reference):
            assert max(terms.macro_bits) <= max(terms.cap_bits) <= np.log2(comparison.n_windows / 4) + 1e-6
            assert np.array(terms.macro_bits) - terms.micro_bits == pytest.approx(terms.emergence_bits, abs=2e-6)
            assert terms.by_token_bits[-1] == pytest.approx(np.mean(terms.emergence_bits), abs=2e-6)


def test_a_number_above_its_cap_is_no_record() -> None:
    content = {"emergence_bits": (1.0,), "macro_bits": (5.0,), "micro_bits": (4.0,), "cap_bits": (4.5,)}
    with pytest.raises(ValidationError, match=r"a macro term of 5.0 bits is above its cap of 4.5"):
        Terms.model_validate(content | {"by_token_bits": (1.0,), "n_saturated": 0, "n_cells": 1})


def test_saturated_numbers_separate_nothing(record: ProbeRecord) -> None:
    headline = record.headline
    apart = headline.model_copy(update={"difference_bits": Interval(value=2.0, low=1.0, high=3.0)})
    terms = headline.text.model_copy(update={"n_saturated": headline.text.n_cells})
    assert apart.separates("emergence")
    saturated = apart.model_copy(update={"text": terms})
    assert saturated.is_saturated and not saturated.separates("emergence")


def test_fine_noise_is_saturated_and_says_so(model: Path, tmp_path: Path) -> None:
    fine = (("n_draws", "64"), ("scales", "0.01"), ("headline_scale", "0.01"))
    found = probe(request(model, tmp_path, sizes=(48,), settings=fine), Told())[0].record
    assert found.headline.is_saturated
    printed = shown(found)
    assert "saturated: with 48 windows" in printed and "says nothing about the texts" in printed


def test_needed_is_the_size_from_which_on_all_separate(record: ProbeRecord) -> None:
    def at(*lows: float) -> ProbeRecord:
        comparisons = tuple(
            record.headline.model_copy(update={"counted_bits": Interval(value=3.0, low=low, high=4.0)}) for low in lows
        )
        sized = tuple(one.model_copy(update={"n_windows": 100 + i}) for i, one in enumerate(comparisons))
        return record.model_copy(update={"comparisons": sized})

    assert at(-1, 1, 1).n_needed("counted") == 101
    assert at(1, -1, 1).n_needed("counted") == 102
    assert at(1, 1, -1).n_needed("counted") is None


def test_the_same_request_again_does_nothing(model: Path, tmp_path: Path) -> None:
    first, told = probe(small(model, tmp_path), Told()), Told()
    content = first[0].path.read_bytes()
    again = probe(small(model, tmp_path), told)
    assert [outcome.was_there for outcome in first + again] == [False, True]
    assert told.planned == 0 and told.blocks == []
    assert again[0].path.read_bytes() == content
    assert ProbeRecord.model_validate_json(content) == first[0].record
    stored, rejected = Store(tmp_path).probes()
    assert [one.record for one in stored] == [first[0].record] and rejected == ()


def numbers(found: ProbeRecord) -> dict[str, Any]:
    return found.model_dump(exclude={"provenance", "key"})


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    model: Path, record: ProbeRecord, tmp_path: Path
) -> None:
    told = Told()
    again = probe(request(model, tmp_path / "a"), told)[0].record
    assert numbers(again) == numbers(record)
    assert told.planned == len(told.blocks) == 5 * 4 * 2, "two sizes of two texts and half a control; groups; blocks"
    other = probe(request(model, tmp_path / "b", seed=1), Told())[0].record
    assert numbers(other) != numbers(record)


def small(model: Path, out: Path, **changes: Any) -> ProbeRequest:
    """The least that can be asked: too short a reference for a control, and hardly any draws."""
    fields: dict[str, Any] = {"reference": letters(90, seed=7), "sizes": (48,), "settings": FASTEST}
    return request(model, out, **(fields | changes))


def test_what_changes_a_record_changes_its_key(model: Path, tmp_path: Path) -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"writer": "someone"}, {"window": 7}, {"n_groups": 3}, {"seed": 1})
    outcomes = [probe(small(model, tmp_path, **change), Told())[0] for change in changes]
    assert not any(outcome.was_there for outcome in outcomes)
    assert len({outcome.path for outcome in outcomes}) == len(changes)


def test_a_damaged_record_is_made_again(model: Path, tmp_path: Path) -> None:
    path = probe(small(model, tmp_path), Told())[0].path
    path.write_bytes(path.read_bytes()[:-200])
    assert Store(tmp_path).probes()[1][0].path == path.relative_to(tmp_path).as_posix()
    assert not probe(small(model, tmp_path), Told())[0].was_there


def test_sizes_double_up_to_what_is_there(model: Path, tmp_path: Path) -> None:
    asked = small(model, tmp_path, text=letters(130, seed=6), reference=letters(140, seed=7), sizes=())
    assert probe(asked, Told())[0].record.key.sizes == (100, 130)
    assert probe(replace(asked, n_windows=110), Told())[0].record.key.sizes == (110,), "100 would say the same again"
    assert probe(replace(asked, sizes=(48,), n_windows=60), Told())[0].record.key.sizes == (48, 60)


def test_a_short_reference_has_no_control(model: Path, tmp_path: Path) -> None:
    found = probe(small(model, tmp_path), Told())[0].record
    assert found.control is None
    assert "control: none, the 90 windows of the reference do not make two samples" in shown(found)


class Census(Told):
    """Progress that counts the models alive whenever one is about to be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.at_loading: list[int] = []

    def stage(self, text: str) -> None:
        if text.endswith(": loading"):
            self.at_loading.append(n_alive())


def test_one_proxy_is_alive_at_a_time(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        save_tiny(tmp_path / name, seed=seed)
    gc.collect()
    before, census = n_alive(), Census()
    gc.disable()  # cycles then live on, unless the probe itself sees to them
    try:
        names = tuple(str(tmp_path / name) for name in ("one", "two"))
        outcomes = probe(small(tmp_path, tmp_path / "out", proxies=names, sizes=(24,), n_groups=2), census)
    finally:
        gc.enable()
    assert [n - before for n in census.at_loading] == [0, 0]
    assert [outcome.record.model.name for outcome in outcomes] == ["one", "two"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proxies": ()}, "give at least one proxy"),
        ({"proxies": ("no-such-model",)}, "no-such-model"),
        ({"window": 1}, r"--window must be at least 2 .*got 1"),
        ({"n_groups": 1}, r"--groups must be at least 2 .*got 1"),
        ({"seed": -1}, "--seed must be between"),
        ({"writer": ""}, "--writer must have 1 to 300 characters, got 0"),
        ({"sizes": (47,)}, r"expected at least 48 windows a side \(4 groups of 12\), got 47; ask for more"),
        ({"n_windows": 60}, "--sizes may not pass --windows, got 96 and 60"),
        ({"estimator": "mine_paper"}, "expected one of noisy_channel, crossfit_nce, .*got 'mine_paper'"),
        ({"settings": (("n_draw", "3"),)}, "unknown setting 'n_draw'"),
        (
            {"sizes": (160,)},
            "expected at least 160 distinct windows of 8 tokens on each side, got 150 from 150 sentences of "
            "'text:letters1' and 300 from 300 of 'text:letters2'; give longer texts, or lower --windows",
        ),
        (
            {"sizes": (), "text": letters(20, seed=8)},
            "expected at least 48 distinct windows .*got 20 from 20 sentences of .*lower --window or --groups",
        ),
        (
            {"sizes": (), "window": 13},
            "expected at least 48 distinct windows of 13 tokens on each side, got 0 from 150 sentences",
        ),
        (
            {"sizes": (), "text": letters(60, seed=9), "reference": letters(60, seed=9)},
            "got 60 from .*, of which 60 occur in both and were dealt to one; give longer texts",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        probe(request(model, tmp_path, **changes), Told())
    assert not list(tmp_path.rglob("*.json"))


def test_an_estimator_that_has_no_answer_is_told_in_words(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"crossfit_nce has no answer for a group of 12 windows: 5 folds need.*--groups"
    ):
        probe(request(model, tmp_path, sizes=(48,), estimator="crossfit_nce", settings=()), Told())


def test_an_empty_file_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UsageError, match="--text: the text 'empty' holds no sentence"):
        text_named("--text", str(tmp_path / "empty.txt"))
    with pytest.raises(UsageError, match="--reference: .*is no file; give a plain-text file with --reference"):
        text_named("--reference", str(tmp_path / "none.txt"))


def test_the_hash_of_a_text_is_that_of_its_file() -> None:
    content = json.loads((DATA_FOLDER / "text-sample.json").read_text())
    assert text_sha256(text_named("--text", "text-sample")) == content["sha256"]


@pytest.mark.parametrize("bos", [None, 0])
def test_log_losses_are_those_of_one_window_at_a_time(model: Path, bos: int | None) -> None:
    loaded = load(resolve(str(model)))
    windows = np.random.default_rng(6).integers(1, 200, size=(70, 5))  # more than one batch
    slow = []
    for window in windows:
        tokens = [*([] if bos is None else [bos]), *window.tolist()]
        with torch.inference_mode():
            probabilities = loaded.model(torch.tensor([tokens])).logits[0].double().softmax(dim=-1)
        slow.append(np.mean([-np.log2(float(probabilities[at - 1, tokens[at]])) for at in range(1, len(tokens))]))
    assert log_losses_bits(loaded, windows, bos=bos) == pytest.approx(slow, abs=1e-5)


def shown(found: ProbeRecord) -> str:
    from rich.console import Console

    console = Console(width=250, no_color=True)
    with console.capture() as capture:
        for table in probe_tables([found]):
            console.print(table)
    return capture.get()


def test_the_table_says_what_each_kind_of_evidence_needs(record: ProbeRecord) -> None:
    printed = shown(record)
    assert "emergence: does not tell the texts apart with 96 windows a side" in printed
    assert "perplexity of the proxy: does not tell" in printed
    assert "control: the reference does not differ from itself" in printed
    assert "text:letters1: 150 sentences, 150 of them with 8 tokens, 150 distinct windows" in printed
    assert f"{record.headline.bag_of_tokens.value:.2f} [" in printed and "control, 96" in printed


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def test_the_command_prints_json_and_then_finds_its_record(model: Path, tmp_path: Path, app: typer.Typer) -> None:
    for name, task in (("one", letters(60, seed=1)), ("two", letters(60, seed=2))):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(task.sentences))
    arguments = ["--text", str(tmp_path / "one.txt"), "--reference", str(tmp_path / "two.txt"), "--proxy", str(model)]
    arguments += ["--groups", "4", *(part for name, value in FASTEST for part in ("--setting", f"{name}={value}"))]
    arguments += ["--out", str(tmp_path / "out"), "--writer", "a coin"]
    first, second = (json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)[0] for _ in range(2))
    assert (first.pop("was_there"), second.pop("was_there")) == (False, True)
    assert first == second and first["n_windows_needed"]["emergence"] is None
    key = ProbeRecord.model_validate_json(json.dumps(first["record"])).key
    assert (key.writer, key.reference_writer, key.sizes) == ("a coin", "people", (60,))
    table = CliRunner().invoke(app, arguments)
    assert "text:one (a coin) against text:two (people)" in table.stdout and "nothing done" in table.stderr
    assert str(tmp_path) not in json.dumps(first["record"]["provenance"])


def test_the_command_refuses_in_words(model: Path, tmp_path: Path, app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--text", str(tmp_path / "none.txt"), "--proxy", str(model)])
    assert isinstance(result.exception, BenchError) and "--text" in str(result.exception)
