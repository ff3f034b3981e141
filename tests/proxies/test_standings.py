"""Which rows the leaderboard has: performance beside emergence, estimates beside measurements; and nothing else in."""

import html
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from bench.fits import Between
from bench.store import RejectedFile, StoredEstimate, StoredFit, StoredPerformance
from bench.terminal_leaderboard import View, leaderboard_tables
from proxies import by_task, leaderboard
from proxies.board import Board, board_of
from proxies.digests import StoredDigest, digest_of
from proxies.standings import EstimatedEntry, places, standings
from tasks import PERFORMANCE_TASKS, RANKED_TASKS
from tests.estimate_factory import make_estimate
from tests.payloads import PAYLOADS
from tests.performance_factory import make_performance
from tests.proxies.test_fit_report import record as make_fit
from tests.record_factory import make_record

FIT = StoredFit(path="fits/emergence/x.json", record=make_fit())


def measured(**fields: Any) -> list[StoredDigest]:
    records = [digest_of(make_record(task=task, **fields)) for task in RANKED_TASKS]
    return [StoredDigest(path=f"emergence/x/{item.key.digest()[:8]}.json", record=item) for item in records]


def answered(model: str = "tiny", correct: int = 80, **changes: Any) -> list[StoredPerformance]:
    """Of weights that are here, on every task that counts."""
    here = {"provider": "local", "base_url": None, "revision": "r", "files_sha256": "w" * 64, "dtype": "float32"}
    return [
        StoredPerformance(path=f"performance/{model}/{task}.json", record=record)
        for task in PERFORMANCE_TASKS
        for record in [make_performance(model=model, task=task, correct=(30, correct), **(here | changes))]
    ]


def served(model: str = "closed", correct: int = 50, **changes: Any) -> list[StoredPerformance]:
    nothing = {"provider": "api", "revision": None, "files_sha256": None, "dtype": None}
    return answered(model, correct, **(nothing | {"base_url": "https://api.example/v1"} | changes))


def estimated(model: str = "closed", *, fit: StoredFit = FIT, **changes: Any) -> StoredEstimate:
    record = make_estimate(model, **changes)
    key = record.key.model_copy(update={"fit_sha256": fit.record.key.digest()})
    return StoredEstimate(path=f"estimates/{model}.json", record=record.model_copy(update={"key": key}))


def board(*items: Any, rejected: tuple[RejectedFile, ...] = ()) -> Board:
    def of(kind: type) -> list[Any]:
        return [item for item in items if isinstance(item, kind)]

    return board_of(
        of(StoredDigest), performances=of(StoredPerformance), estimates=of(StoredEstimate), fits=of(StoredFit),
        rejected=rejected,
    )  # fmt: skip


def files_of(items: list[StoredDigest]) -> str:
    return items[0].record.key.files_sha256


def test_performance_is_the_mean_above_chance_with_wilsons_intervals_combined() -> None:
    items = measured()
    ((table,), _) = standings(items, answered(files_sha256=files_of(items)))
    (entry,) = table.measured
    assert entry.performance is not None and entry.performance.n_questions == 600
    above = entry.performance.above_chance
    assert above.value == pytest.approx(0.8)
    low, high = 0.711170, 0.866633  # Wilson, 80 of 100
    n = len(PERFORMANCE_TASKS)
    assert (above.low, above.high) == pytest.approx((0.8 - (0.8 - low) / n**0.5, 0.8 + (high - 0.8) / n**0.5), abs=1e-5)
    assert f"{0.8:.2f} ± {(0.8 - low) / n**0.5:.2f}" in leaderboard.render(
        board(*items, *answered(files_sha256=files_of(items)))
    )


@pytest.mark.parametrize(
    "others",
    [
        [],
        answered(files_sha256="x" * 64),  # of other weights under the same name
        served("tiny"),  # nobody knows which weights
        "lacking one task",
        "with a failed question",
    ],
)  # fmt: skip
def test_no_performance_is_shown_that_is_not_the_whole_one_of_these_weights(others: Any) -> None:
    items = measured()
    if others == "lacking one task":
        others = answered(files_sha256=files_of(items))[1:]
    if others == "with a failed question":
        others = answered(files_sha256=files_of(items))
        failed = make_performance(n_failed=1, **others[0].record.key.model_dump(exclude={"schema_version"}))
        others[0] = replace(others[0], record=failed)
    ((table,), _) = standings(items, others)
    assert table.measured[0].performance is None


def test_chat_is_shown_as_such_and_only_where_there_is_no_completion() -> None:
    items = measured()
    files = {"files_sha256": files_of(items)}
    chat, completion = answered(mode="chat", correct=90, **files), answered(**files)
    for performances, shown in ((chat, "0.90 ± 0.03 (chat)"), ([*chat, *completion], "0.80 ± 0.04")):
        assert f"| {shown} |" in leaderboard.render(board(*items, *performances))


def test_an_estimated_row_stands_at_its_place_without_a_rank_and_says_what_it_is_worth() -> None:
    low, high = measured(model="low", level=4.0), measured(model="high", level=9.0, weights="v" * 64)
    whole = board(*low, *high, *served(), estimated(), FIT)
    (table,) = whole.tables
    assert [entry.name for entry in table.entries] == ["high", "closed", "low"]
    assert places(table.entries) == [1, None, 2]
    row = next(line for line in leaderboard.render(whole).splitlines() if "| closed |" in line)
    assert "6.50 &#40;" not in row and "| 6.50 (80 %: 5.00 to 8.00) |" in row and "| 0.50 ± 0.04 |" in row
    assert (
        "estimated from answers, [fit](results/fits/emergence/x.json): held-out error 1.25 bits, the mean 1.00; "
        "3 models of 2 families; does not beat its baseline" in row.replace("&#58;", ":")
    )
    data = leaderboard.rows_as_data(whole)[1]
    assert data["kind"] == "estimated" and data["rank"] is None and data["beats_baseline"] is False
    assert data["interval_80_bits"] == [5.0, 8.0] and data["performance"] == pytest.approx(0.5)


def test_an_estimate_that_beats_its_baseline_has_a_rank() -> None:
    (table,) = board(*measured(level=4.0), estimated(beats_baseline=True), FIT).tables
    assert places(table.entries) == [1, 2]


def test_an_estimate_without_interval_says_why() -> None:
    text = leaderboard.render(board(*measured(), estimated(intervals={}), FIT))
    assert "| 6.50 (no interval: 2 families) |" in text


def test_an_estimate_of_a_measured_model_or_by_a_fit_of_before_has_no_row() -> None:
    other = StoredFit(path=FIT.path, record=make_fit(rows_sha256="b" * 64))
    both = board(*measured(), estimated("tiny", measured_bits=5.0), estimated("old", fit=other), FIT)
    assert not [entry for entry in both.tables[0].entries if isinstance(entry, EstimatedEntry)]
    text = leaderboard.render(both)
    beside, _, apart = text.partition("## How good are estimates?")[2].partition("## Not ranked")
    assert "| tiny | answers | 6.50 (80 %: 5.00 to 8.00) | 5.00 |" in beside and "tiny" not in apart
    assert "old, estimated from answers: by a fit that has been made anew since" in apart.replace("&#58;", ":")
    assert "bench estimate old" in apart


def test_an_estimate_stands_where_its_estimator_measured_most() -> None:
    few = measured(model="a", estimator="exact")
    many = measured(model="b") + measured(model="c", weights="c" * 64, settings={"n_draws": 9}) + measured(
        model="d", weights="d" * 64, settings={"n_draws": 9}
    )  # fmt: skip
    tables = board(*few, *many, estimated(), FIT).tables
    assert [[entry.name for entry in table.entries if isinstance(entry, EstimatedEntry)] for table in tables].count(
        ["closed"]
    ) == 1
    (found,) = [table for table in tables if any(isinstance(entry, EstimatedEntry) for entry in table.entries)]
    assert {entry.name for entry in found.entries} == {"c", "d", "closed"}


def test_the_terminal_shows_sorts_and_filters() -> None:
    low, high = measured(model="low", level=4.0), measured(model="high", level=9.0, weights="v" * 64)
    whole = board(*low, *high, *answered("low", 90, files_sha256=files_of(low)), estimated(), FIT)

    def names(**view: Any) -> list[str]:
        table = leaderboard_tables(whole, View(**view))[0]
        return list(table.columns[1].cells)  # type: ignore[attr-defined]

    assert names() == ["high", "closed", "low"]
    assert names(reverse=True) == ["low", "closed", "high"]
    assert names(sort="model") == ["closed", "high", "low"]
    assert names(sort="performance") == ["low", "high", "closed"]  # those without one last,
    assert names(sort="performance", reverse=True) == ["low", "high", "closed"]  # whichever way it goes
    assert names(measured_only=True) == ["high", "low"]
    assert names(family="Tiny") == ["high", "low"]
    worth = [str(part) for part in leaderboard_tables(whole, View())]
    assert any("closed, estimated: held-out error 1.25 bits, the mean 1.00" in line for line in worth)


# Injection: every payload in every field that comes from outside, through a real Markdown parser.

FIELDS = ("model", "family", "revision", "verdict")


def hostile_board(payload: str, field: str) -> Board:
    payload = payload.encode("utf-8", "replace").decode()[:300] or "x"  # a record holds no half characters
    items = measured(model=payload if field == "model" else "tiny")
    changed = {name: payload for name in ("family", "revision") if name == field}
    items = [
        replace(item, record=item.record.model_copy(update={"model": item.record.model.model_copy(update=changed)}))
        for item in items
    ]
    closed = estimated(
        payload if field == "model" else "closed", verdict=payload if field == "verdict" else "no",
        baseline=payload if field == "verdict" else "the mean", measured_bits=5.0 if field == "verdict" else None,
        intervals={"80": Between(low=5.0, high=8.0)},
    )  # fmt: skip
    bad = RejectedFile(path=f"emergence/{payload}.json", reason=payload)
    return board(*items, *served(payload if field == "model" else "closed"), closed, FIT, rejected=(bad,))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_payload_stays_text_after_a_markdown_parser(payload: str, field: str) -> None:
    whole = hostile_board(payload, field)
    texts = leaderboard.render(whole), by_task.render(whole, leaderboard="../../leaderboard.md", results="..")
    parser = MarkdownIt("gfm-like", {"html": True})
    for text in texts:
        assert not set(text) & {"\x1b", "\x07", "\x00", "\x9b", "\u202e", "\u2028"}
        tokens = parser.parse(text)
        inline = [child for token in tokens for child in token.children or ()]
        assert not [token for token in (*tokens, *inline) if token.type.startswith("html")]
        links = [token.attrGet("href") for token in inline if token.type == "link_open"]
        images = [token.attrGet("src") for token in inline if token.type == "image"]
        assert not [link for link in links if not str(link).startswith(("results/", "../"))]
        assert set(images) <= {"results/leaderboard/emergence.svg", "results/leaderboard/estimated.svg"}
        assert text.count("\n# ") == 0 and "<h1>" not in parser.render(text).partition("</h1>")[2]
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert len(rows) == (len(RANKED_TASKS) and sum(token.type == "tr_open" for token in tokens))
    head, *rest = [line.count("|") for line in texts[0].splitlines() if line.startswith("| ")]
    assert head == 19 and set(rest) <= {19, 7}
    if field == "family":
        shown = html.unescape(parser.render(texts[0]))
        assert np.all([part in shown for part in payload.split()[:1] if part.isalnum()])
