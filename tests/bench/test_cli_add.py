"""`bench add`: told before, done once, and a row at the end; for a model that is here and for one behind a service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.store import Store
from tasks import PERFORMANCE_TASKS, RANKED_TASKS
from tests.bench.conftest import Answer
from tests.bench.querying import oracle
from tests.bench.scripted_server import ScriptedServer, always, at
from tests.bench.tiny_models import save_list_model

ROOT = Path(__file__).parent.parent.parent
Bench = Callable[..., Answer]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The committed records that an estimate needs, to be added to; emergence is only read."""
    folder = tmp_path / "results"
    shutil.copytree(
        ROOT / "results/performance", folder / "performance", ignore=shutil.ignore_patterns("*.jsonl", "*.svg")
    )
    shutil.copytree(ROOT / "results/fits", folder / "fits")
    (folder / "emergence").symlink_to(ROOT / "results/emergence", target_is_directory=True)
    return folder


@pytest.fixture
def knowing() -> ScriptedServer:
    """A service that answers every question right."""
    oracles = {task: oracle(task) for task in PERFORMANCE_TASKS}

    def answer(prompt: str) -> str:
        for one in oracles.values():
            try:
                return one(prompt)
            except (KeyError, IndexError, StopIteration):
                continue
        return " nonsense"

    return ScriptedServer(answer=answer)


def where(results: Path) -> tuple[str, ...]:
    return "--out", str(results), "--board", str(results.parent / "leaderboard.md")


@pytest.mark.timeout(600)
def test_a_served_model_gets_an_estimated_row(
    bench: Bench,
    results: Path,
    knowing: ScriptedServer,
) -> None:
    with knowing as server:
        asked = ("add", "closed", "--base-url", server.base_url, "--n-queries", "10", *where(results))
        status, out, _ = bench(*asked, "--dry-run", "--usd-per-million-input", "1", "--usd-per-million-output", "2")
        assert status == 0 and "requests: 120 if none fails" in out and "USD if no question fails" in out
        assert json.loads(bench(*asked, "--dry-run", "--json")[1])["n_requests"] == 120
        assert not (results / "performance/closed").exists() and not server.received

        status, _, err = bench(*asked)
        assert status == 2 and "Send 120 requests to a service? Nobody is there to be asked; say --yes" in err
        assert not server.received

        page = results.parent / "board.html"
        status, out, err = bench(*asked, "--yes", "--html", str(page))
        assert status == 0, err
        assert len(server.received) == 120
        assert "Estimated emergence of closed, from performance" in out
        assert "closed has a row and no rank: estimated, " in out and "closed" in page.read_text()
        (estimate,) = [item.record for item in Store(results).estimates()[0]]
        assert estimate.key.model == "closed" and estimate.n_questions == 120 and not estimate.beats_baseline
        assert f"| {estimate.value_bits:.2f} (" in (results.parent / "leaderboard.md").read_text()

        status, out, err = bench(*asked, "--json")  # nothing is left that costs: nobody need agree
        assert status == 0 and len(server.received) == 120
        content = json.loads(out)
        assert [row["name"] for row in content["rows"]] == ["closed"] and content["failed"] == []
        assert "every question is answered already" in err and "estimated before, nothing done" in err


@pytest.mark.timeout(600)
def test_a_service_that_calls_itself_like_a_measured_model_is_told_its_own_row(
    bench: Bench, results: Path, knowing: ScriptedServer
) -> None:
    with knowing as server:
        asked = ("add", "gpt2-ladder-xs", "--base-url", server.base_url, "--n-queries", "10", "--yes", *where(results))
        status, out, err = bench(*asked)
    assert status == 0, err
    assert out.strip().splitlines()[-1].startswith("gpt2-ladder-xs has a row and no rank: estimated, ")
    (estimate,) = [item.record for item in Store(results).estimates()[0]]
    assert estimate.measured_bits is None and estimate.key.base_url == server.base_url


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mode", "chat"), "emergence cannot be estimated from answers in chat mode with the records in"),
        (("--shots", "1,2"), "--shots 1,2 lacks 4, which the estimate is from"),
        (("--family", "Nope"), "no family 'Nope' was measured; there are "),
    ],
)
@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
def test_what_could_not_be_estimated_is_not_asked(
    bench: Bench, results: Path, knowing: ScriptedServer, options: tuple[str, ...], message: str, how: str
) -> None:
    with knowing as server:
        status, _, err = bench("add", "closed", "--base-url", server.base_url, how, *options, *where(results))
        assert status == 2 and message in err, err
        assert not server.received and not (results / "performance/closed").exists()


@pytest.mark.timeout(600)
def test_a_service_that_fails_now_and_then_is_asked_again_by_the_same_command(
    bench: Bench,
    results: Path,
    knowing: ScriptedServer,
) -> None:
    with knowing as server:
        server.faults = at({number: "400" for number in range(40, 120, 4)})
        asked = ("add", "closed", "--base-url", server.base_url, "--n-queries", "10", "--yes", *where(results))
        status, _, err = bench(*asked)
        assert status == 1 and "20 questions failed; run the same command to try again" in err
        assert "not estimated: 20 questions to closed have no answer" in err
        assert "| closed |" not in (results.parent / "leaderboard.md").read_text()
        status, out, _ = bench(*asked)
    assert status == 0 and len(server.received) == 140 and "closed has a row and no rank" in out


def test_a_service_that_answers_nothing_changes_no_leaderboard(bench: Bench, results: Path) -> None:
    with ScriptedServer(faults=always("400")) as server:
        status, _, err = bench("add", "closed", "--base-url", server.base_url, "--yes", *where(results))
    assert status == 1 and "every question so far was refused" in err
    assert not (results.parent / "leaderboard.md").exists()


@pytest.mark.timeout(600)
def test_a_model_that_is_here_gets_a_measured_row(bench: Bench, tmp_path: Path) -> None:
    model, results = str(save_list_model(tmp_path / "tiny")), tmp_path / "results"
    status, out, _ = bench("add", model, "--dry-run", *where(results))
    assert status == 0 and "What is missing" in out and not (results / "emergence").exists()
    assert json.loads(bench("add", model, "--dry-run", "--json", *where(results))[1])["n_missing"] == 12
    status, out, err = bench("add", model, *where(results))
    assert status == 0, err
    assert "tiny has rank 1: measured, " in out and "not estimated: " in err
    store = Store(results)
    assert {item.record.key.task for item in store.records()[0]} == set(RANKED_TASKS)
    assert {item.record.key.task for item in store.performances()[0]} == {*RANKED_TASKS, *PERFORMANCE_TASKS}
    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*/*.json")}
    status, out, err = bench("add", model, *where(results))
    assert status == 0 and "nothing is missing" in out.lower() and "tiny has rank 1" in out
    assert {path: path.stat().st_mtime_ns for path in results.glob("*/*/*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpt3",), "no such model, folder or .gguf file"),
        (("gpt2", "--max-usd", "1"), "--max-usd only says how a service is asked; give --base-url"),
        (("gpt2", "--mode", "chat"), "--mode only says how a service is asked"),
        (("big", "--base-url", "http://127.0.0.1:9/v1", "--device", "cpu"), "--device only says where a model is"),
        (("big", "--base-url", "http://127.0.0.1:9/v1", "--shots", "x"), "--shots expects whole numbers"),
    ],
)
def test_what_cannot_be_added_is_refused(
    bench: Bench,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    status, _, err = bench("add", *arguments, *where(tmp_path / "results"))
    assert status == 2 and message in err, err
    assert not (tmp_path / "results").exists()
