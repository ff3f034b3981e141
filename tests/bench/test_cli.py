"""The command line as a person or a script meets it: output, exit status, one clear line for each mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __version__
from bench.escape import markdown_cell, printable
from bench.estimators import ESTIMATORS
from bench.intervals import with_interval
from bench.store import Store
from tasks import TASKS
from tests.bench.conftest import Answer
from tests.bench.picky_estimator import Picky
from tests.bench.tiny_models import save_list_model
from tests.record_factory import make_record


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_list_model(tmp_path_factory.mktemp("models") / "tiny"))


SMALL = ("--tasks", "country", "--n-names", "5", "--n-shots", "2")


def test_version_and_help(bench: Callable[..., Answer]) -> None:
    assert bench("--version") == (0, f"bench {__version__}\n", "")
    status, out, _ = bench("--help")
    assert status == 0
    assert all(command in out for command in ("run", "models", "tasks", "leaderboard"))


def test_run_prints_tables_to_stdout_and_progress_to_stderr(
    bench: Callable[..., Answer], model: str, tmp_path: Path
) -> None:
    status, out, err = bench("run", model, *SMALL, "--out", str(tmp_path))
    assert status == 0
    assert "emergence in bits" in out and "macro ceiling" in out and "4.322" in out  # log2(20)
    assert "tiny, country, untrained twin" in err and ": written" in err
    status, out, err = bench("run", model, *SMALL, "--out", str(tmp_path))
    assert status == 0 and "already measured, nothing done" in err and "4.322" in out


def test_run_as_json_is_json_and_nothing_else(bench: Callable[..., Answer], model: str, tmp_path: Path) -> None:
    status, out, _ = bench("run", model, *SMALL, "--out", str(tmp_path), "--json")
    content = json.loads(out)
    assert status == 0
    assert content[0]["record"]["summary"][-1]["n_shots"] == 2 and content[0]["was_there"] is False
    assert Path(content[0]["path"]).is_file()


def test_settings_are_given_one_by_one(bench: Callable[..., Answer], model: str, tmp_path: Path) -> None:
    given = ("--setting", "n_draws=64", "--setting", "scales=0.1,0.16", "--out", str(tmp_path), "--json")
    status, out, _ = bench("run", model, *SMALL, *given)
    record = json.loads(out)[0]["record"]
    assert status == 0
    assert record["key"]["settings"] == {"scales": [0.1, 0.16], "headline_scale": 0.16, "n_draws": 64}
    assert " --setting scales=0.1,0.16 --setting n_draws=64 " in record["provenance"]["command"]


def test_a_run_of_which_every_cell_with_variation_was_refused_is_written_and_says_so(
    bench: Callable[..., Answer], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ESTIMATORS, "picky", Picky)
    run = ("run", model, *SMALL, "--out", str(tmp_path), "--estimator", "picky", "--setting", "fewest=99")
    for _ in range(2):  # the second time from the record
        status, out, err = bench(*run)
        assert status == 0
        assert len(list(tmp_path.glob("emergence/tiny/*.json"))) == 1
        assert "refused" in out and "nan" not in out.lower()
        assert "needs 99 different rows, got 5; take another" in out
        assert err.splitlines()[-1] == (
            "tiny, country: picky refused 4 of the 8 cells that emergence needs, so the record has none at any number "
            "of shots; the estimators noisy_channel and exact answer for every cell (--estimator noisy_channel)"
        )
    content = json.loads(bench(*run, "--json")[1])[0]["record"]
    assert content["summary"][-1]["emergence"] is None and content["summary"][-1]["refused_cells"] == 3
    board = tmp_path / "leaderboard.md"
    assert bench("leaderboard", "--results", str(tmp_path), "--out", str(board))[0] == 0
    assert "tiny, country: picky refused 3 of the cells that emergence at the last shot needs" in board.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "{model}", "--setting", "n_draws"), "--setting expects NAME=VALUE, got 'n_draws'"),
        (("run", "{model}", "--setting", "n_draws=many"), "the setting n_draws of the estimator noisy_channel got"),
        (("run", "nonsense"), "'nonsense': no such model"),
        (("run", "gtp2"), "did you mean"),
        (("run", "{tmp}"), "has no config.json"),
        (("run", "{model}", "--tasks", "birds"), "unknown task 'birds'"),
        (("run", "{model}", "--n-shots", "13"), "list of 13 different names cannot be drawn from 12"),
        (("run", "{model}", "--limit", "0"), "--limit must leave at least 2 lists"),
        (("run", "{model}", "--out", "/proc/nowhere"), "cannot write /proc/nowhere"),
        (("run", "{model}", "--n-names", "40"), "30 of its 116 names are a single token"),
        (("tasks", "show", "birds"), "unknown task 'birds'"),
        (("tasks", "show", "country", "--model", "nonsense"), "'nonsense': no such model"),
        (("leaderboard", "--results", "{tmp}/none"), "there is no results folder"),
        (("models", "fetch", "../../x"), "no such file or folder"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(
    bench: Callable[..., Answer], model: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = [argument.format(tmp=tmp_path, model=model) for argument in arguments]
    out_folder = [] if "--out" in filled or filled[0] != "run" else ["--out", str(tmp_path / "out")]
    status, out, err = bench(*filled, *out_folder)
    assert (status, out) == (2, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("bench: ") and message in last and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [("run",), ("run", "m", "--seed", "-1"), ("run", "m", "--dtype", "int3"), ("fly",)]
)
def test_wrong_usage_is_status_2(bench: Callable[..., Answer], arguments: tuple[str, ...]) -> None:
    assert bench(*arguments)[0] == 2


def test_an_encoder_is_refused(bench: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 2}))
    (tmp_path / "bert" / "tokenizer.json").write_text("{}")
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    status, _, err = bench("run", str(tmp_path / "bert"), "--out", str(tmp_path))
    assert status == 2
    assert "not a causal one; expected a causal decoder-only language model" in err


def test_models_and_tasks_are_listed(bench: Callable[..., Answer], model: str) -> None:
    status, out, _ = bench("models")
    assert status == 0 and "smollm2-135m-instruct" in out and "Apache-2.0" in out
    listed = json.loads(bench("models", "--json")[1])
    assert {"gpt2", "gemma-3-270m", "smollm2-135m-instruct"} <= {entry["name"] for entry in listed}
    assert [task["name"] for task in json.loads(bench("tasks", "--json")[1])] == list(TASKS)
    assert "' red, blue, green,'" in bench("tasks")[1]
    shown = json.loads(bench("tasks", "show", "colour", "--model", model, "--json")[1])
    assert len(shown["survivors"]) == 30 and shown["survivors"] + shown["rejected"] == shown["names"]


def test_the_leaderboard_is_written_checked_and_found_stale(bench: Callable[..., Answer], tmp_path: Path) -> None:
    results, board = tmp_path / "results", tmp_path / "leaderboard.md"
    for task in ("country", "animal", "colour"):
        Store(results).write_record(make_record(task=task))
    where = ("--results", str(results), "--out", str(board))
    assert bench("leaderboard", *where)[0] == 0
    first = board.read_bytes()
    assert b"(results/emergence/tiny/" in first  # links are relative to the leaderboard
    board.unlink()
    assert bench("leaderboard", *where)[0] == 0
    assert board.read_bytes() == first
    assert bench("leaderboard", *where, "--check")[0] == 0
    Store(results).write_record(make_record(task="country", seed=1))
    status, _, err = bench("leaderboard", *where, "--check")
    assert status == 1 and "rebuild with `bench leaderboard`" in err
    assert json.loads(bench("leaderboard", *where, "--json")[1])[0]["rank"] == 1


def test_an_invalid_record_is_named_and_the_others_still_ranked(bench: Callable[..., Answer], tmp_path: Path) -> None:
    results = tmp_path / "results"
    for task in ("country", "animal", "colour"):
        Store(results).write_record(make_record(task=task))
    (results / "emergence" / "tiny" / "bad.json").write_text('{"schema_version": 99}')
    status, out, err = bench("leaderboard", "--results", str(results), "--out", str(tmp_path / "l.md"))
    assert status == 0 and "tiny" in out
    assert "left out: emergence/tiny/bad.json: bad.json: " in err


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (1.234, 0.5, "1.23 ± 0.98"),
        (1.0, 0.001, "1.00 ± <0.01"),
        (-0.001, 0.1, "0.00 ± 0.20"),
        (1.0, 0.0, "1.00 ± <0.01"),
    ],
)
def test_intervals_are_half_widths_at_95_per_cent(value: float, error: float, shown: str) -> None:
    assert with_interval(value, error) == shown


def test_text_from_data_is_made_safe() -> None:
    assert printable("a\x1b[31m\nb\u202ec") == "a\ufffd[31m b\ufffdc"
    assert markdown_cell("a|b*c_d") == "a&#124;b&#42;c&#95;d"
    assert markdown_cell("gpt2-medium, 1.5 B") == "gpt2-medium, 1.5 B"


def test_tasks_are_listed_with_their_kind(bench: Callable[..., Answer]) -> None:
    status, out, _ = bench("tasks", "--json")
    kinds = {task["name"]: task["kind"] for task in json.loads(out)}
    assert status == 0 and list(kinds) == list(TASKS)
    assert (kinds["country"], kinds["antonym"], kinds["text-sample"]) == ("list", "pairs", "text")


def test_a_task_of_pairs_shows_what_a_tokenizer_keeps(bench: Callable[..., Answer], model: str) -> None:
    status, out, _ = bench("tasks", "show", "antonym", "--model", model, "--json")
    content = json.loads(out)
    assert status == 0
    assert content["pairs"]["big"][0] == "small" and content["tokens"] == [1, 1]
    assert set(content["survivors"]) | set(content["rejected"]) == set(content["pairs"])
    status, out, _ = bench("tasks", "show", "antonym", "--model", model)
    assert "1 + 1 tokens under" in out
    status, _, err = bench("tasks", "show", "text-sample", "--model", model)
    assert status == 2 and "is a text, of which every window is aligned" in err


def own_task(folder: Path, **changes: object) -> str:
    content = {
        "schema": 1, "name": "mine", "kind": "pairs", "version": 1, "item_prefix": " ", "arrow": ":",
        "answer_prefix": " ", "separator": "\n", "pairs": {"big": ["small"], "hot": ["cold"], "up": ["down"]},
    }  # fmt: skip
    path = folder / "mine.json"
    path.write_text(json.dumps(content | changes, indent=1), encoding="utf-8")
    return str(path)


def test_a_bad_task_file_is_told_by_line_and_key(bench: Callable[..., Answer], tmp_path: Path) -> None:
    good = own_task(tmp_path)
    status, out, err = bench("tasks", "check", good)
    assert status == 0 and "0 errors" in err and "warning" in out
    bad = own_task(tmp_path, pairs={"big": ["small"], "hot": "cold"})
    status, out, err = bench("tasks", "check", bad)
    assert status == 1 and "1 errors" in err
    assert "mine.json:14:" in out and "pairs.hot: expected an array" in out
    status, out, _ = bench("tasks", "check", bad, "--json")
    assert status == 1 and [problem["key"] for problem in json.loads(out)[bad] if problem["severity"] == "error"] == [
        "pairs.hot"
    ]
    status, _, err = bench("query", "m", "--task-file", bad, "--base-url", "http://127.0.0.1:9/v1")
    assert status == 2 and "pairs.hot" in err
    status, _, err = bench("tasks", "check", str(tmp_path / "none.json"))
    assert status == 1


def test_a_task_of_ones_own_is_measured_and_asked(bench: Callable[..., Answer], model: str, tmp_path: Path) -> None:
    given = ("--task-file", own_task(tmp_path), "--out", str(tmp_path))
    status, out, err = bench("run", model, *given, "--n-names", "3", "--n-shots", "2", "--json")
    (found,) = json.loads(out)
    assert status == 0 and found["record"]["key"]["task"] == "mine"
    assert found["record"]["measurements"]["trained"]["names"] and "country" not in err
    status, out, _ = bench("query", model, *given, "--shots", "0,2")
    assert status == 0 and "mine" in out and "chance" in out
    stored, rejected = Store(tmp_path).performances()
    assert [item.record.key.task for item in stored] == ["mine"] and not rejected


def test_a_dry_run_tells_what_it_would_ask_and_cost(bench: Callable[..., Answer], tmp_path: Path) -> None:
    given = ("query", "big-1", "--tasks", "antonym,country", "--base-url", "http://127.0.0.1:9/v1", "--dry-run",
             "--out", str(tmp_path), "--shots", "0,1")  # fmt: skip
    status, out, _ = bench(*given)
    assert status == 0
    assert "requests: 300 if none fails" in out and "cost: unknown: give both prices" in out
    assert "left out: a list needs an item" in out
    status, out, _ = bench(*given, "--json", "--usd-per-million-input", "1", "--usd-per-million-output", "2")
    content = json.loads(out)
    assert content["n_requests"] == 300 and content["max_usd"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shots", "one"), "--shots expects whole numbers separated by commas, got 'one'"),
        (("--max-usd", "1", "--api-key-env", "X"), "--max-usd needs to know what tokens cost"),
        (("--base-url", "https://user:secret@x.example/v1"), "--base-url holds a user name or password"),
        (("--tasks", "countryy"), "unknown task 'countryy'; did you mean country?"),
        (("--tasks", "text-sample"), "nothing is asked about it"),
        (("--max-requests", "5"), "--max-requests only says how a service is asked; give --base-url or"),
        (
            ("--dtype", "bfloat16", "--base-url", "http://127.0.0.1:9/v1"),
            "--dtype only says how a model is loaded here",
        ),
        (("--seed", "3", "--replay", "x.jsonl"), "--seed has no say in a replay"),
    ],
)
def test_queries_that_cannot_be_met_are_refused_in_one_line(
    bench: Callable[..., Answer], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = bench("query", "gpt-x", "--out", str(tmp_path), *arguments)
    assert (status, out) == (2, "")
    assert message in err and err.count("\n") == 1 and "secret" not in err


def test_prompts_are_written_answered_elsewhere_and_replayed(bench: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    given = ("--task-file", own_task(tmp_path), "--shots", "1", "--out", str(tmp_path))
    status, _, err = bench("query", "far-away", *given, "--write-prompts", str(file))
    assert status == 0 and '6 questions; put a "reply" into each line' in err
    lines = [json.loads(line) | {"reply": " small"} for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    status, out, err = bench("query", "far-away", *given[:2], *given[4:], "--replay", str(file), "--json")
    (cell,) = json.loads(out)[0]["record"]["cells"]
    assert status == 0 and cell["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
