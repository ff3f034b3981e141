"""Which rows the leaderboard has: performance beside emergence, estimates beside measurements; and nothing else in."""

import html
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from bench.estimates import answers_of, answers_sha256
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
from tests.proxies.test_fit_report import comparison as make_comparison
from tests.proxies.test_fit_report import record as make_fit
from tests.proxies.test_fit_report import row as make_row
from tests.record_factory import make_record


def fit_of(*models: list[StoredDigest], **changes: Any) -> StoredFit:
    """A fit whose rows are these models."""
    rows = tuple(
        make_row(model=items[0].record.model.name, truth=float(np.mean([bits_of(item) for item in items])))
        for items in models
    )
    return StoredFit(path="fits/emergence/x.json", record=make_fit(rows=rows or (make_row(),), **changes))


def bits_of(item: StoredDigest) -> float:
    """Emergence at the last shot."""
    bits = item.record.summary[-1].emergence
    assert bits is not None
    return bits.value_bits


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


def estimated(model: str = "closed", *, fit: StoredFit, files: str | None = None, **changes: Any) -> StoredEstimate:
    record = make_estimate(model, **changes)
    key = record.key.model_copy(update={"fit_sha256": fit.record.key.digest(), "files_sha256": files})
    if files is not None:
        key = key.model_copy(update={"base_url": None})
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
    (table,) = standings(items, answered(files_sha256=files_of(items))).tables
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
    (table,) = standings(items, others).tables
    assert table.measured[0].performance is None


def test_chat_is_shown_as_such_and_only_where_there_is_no_completion() -> None:
    items = measured()
    files = {"files_sha256": files_of(items)}
    chat, completion = answered(mode="chat", correct=90, **files), answered(**files)
    for performances, shown in ((chat, "0.90 ± 0.03 (chat)"), ([*chat, *completion], "0.80 ± 0.04")):
        assert f"| {shown} |" in leaderboard.render(board(*items, *performances))


def test_an_estimated_row_stands_at_its_place_without_a_rank_and_says_what_it_is_worth() -> None:
    low, high = measured(model="low", level=4.0), measured(model="high", level=9.0, weights="v" * 64)
    fit = fit_of(low, high)
    whole = board(*low, *high, *served(), estimated(fit=fit), fit)
    (table,) = whole.tables
    assert [entry.name for entry in table.entries] == ["high", "closed", "low"]
    assert places(table.entries) == [1, None, 2]
    row = next(line for line in leaderboard.render(whole).splitlines() if "| closed |" in line)
    assert "| 6.50 (80 %: 5.00 to 8.00) |" in row and "| 0.50 ± 0.04 |" in row
    assert (
        "estimated from answers, [fit](results/fits/emergence/x.json): held-out error 1.25 bits, the mean 1.00; "
        "3 models of 2 families; does not beat its baseline" in row.replace("&#58;", ":")
    )
    data = leaderboard.rows_as_data(whole)[1]
    assert data["kind"] == "estimated" and data["rank"] is None and data["beats_baseline"] is False
    assert data["interval_80_bits"] == [5.0, 8.0] and data["performance"] == pytest.approx(0.5)


def test_an_estimate_that_beats_its_baseline_has_a_rank_unless_its_model_was_made_of_another() -> None:
    items = measured(level=4.0)
    fit = fit_of(items)
    for name, ranks in (("closed", [1, 2]), ("closed@int4", [None, 1])):
        (table,) = board(*items, estimated(name, fit=fit, beats_baseline=True), fit).tables
        assert places(table.entries) == ranks


def test_an_estimate_by_a_fit_that_says_the_same_of_every_model_is_called_that() -> None:
    items = measured()
    fit = fit_of(items)
    for spread, is_said in ((0.049, True), (0.05, False)):
        text = leaderboard.render(board(*items, estimated(fit=fit, spread_bits=spread), fit))
        assert ("the fit says the same of every model, whatever it answers" in text) == is_said


def test_an_estimate_without_interval_says_why() -> None:
    items = measured()
    fit = fit_of(items)
    text = leaderboard.render(board(*items, estimated(fit=fit, intervals={}), fit))
    assert "| 6.50 (no interval: 2 families) |" in text


def has_row(whole: Board) -> bool:
    return any(isinstance(entry, EstimatedEntry) for table in whole.tables for entry in table.entries)


def test_an_estimate_of_measured_weights_is_held_against_the_measurement_of_today() -> None:
    items = measured()
    fit = fit_of(items)
    whole = board(*items, estimated("tiny", fit=fit, files=files_of(items), measured_bits=1.0), fit)
    assert not has_row(whole) and not whole.found.unused
    bits = np.mean([bits_of(item) for item in items])
    text = leaderboard.render(whole).partition("## How good are estimates?")[2]
    assert f"| tiny | answers | 6.50 (80 %: 5.00 to 8.00) | {bits:.2f} |" in text and "Not ranked" not in text


def test_a_service_that_calls_itself_like_a_measured_model_is_another_one() -> None:
    items = measured()
    fit = fit_of(items)
    whole = board(*items, *served("tiny"), estimated("tiny", fit=fit), fit)
    assert sorted((entry.name, isinstance(entry, EstimatedEntry)) for entry in whole.tables[0].entries) == [
        ("tiny", False), ("tiny", True),
    ]  # fmt: skip
    assert not whole.found.compared


def void(whole: Board) -> str:
    """Why the one estimate of a board no longer stands."""
    assert not has_row(whole) and not whole.found.compared
    (one,) = whole.found.unused
    assert one.reason in leaderboard.render(whole).replace("&#96;", "`").replace("&#58;", ":")
    return one.reason


@pytest.mark.parametrize("files", [None, "w" * 64], ids=["of a service", "of measured weights"])
def test_an_estimate_by_a_fit_of_other_records_no_longer_stands(files: str | None) -> None:
    items, more = measured(), measured(model="more", weights="m" * 64)
    fit, other = fit_of(items), fit_of(items, rows_sha256="b" * 64)
    name = "tiny" if files else "closed"
    estimate = estimated(name, fit=fit, files=files)
    assert "by a fit of other records than are here now; run `bench estimate" in void(board(*items, estimate, other))
    assert "by a fit of other records" in void(board(*items, *more, estimate, fit))  # a model that it has not seen
    assert "by a fit of other records" in void(board(*more, estimate, fit))  # a model that is gone
    changed = measured(level=4.0)
    assert "by a fit of other records" in void(board(*changed, estimate, fit))
    text = leaderboard.render(board(*changed, estimate, fit))
    assert "(of other records than are here now" in html.unescape(text)
    assert void(board(*items, estimate)) and has_row(board(*items, estimated(fit=fit), fit))


def test_an_estimate_from_other_answers_no_longer_stands() -> None:
    items, asked = measured(), served()
    fit = fit_of(items)
    key = estimated(fit=fit).record.key
    digest = answers_sha256(answers_of([item.record for item in asked], key, PERFORMANCE_TASKS))
    estimate = estimated(fit=fit, tasks=PERFORMANCE_TASKS, answers_sha256=digest)
    assert has_row(board(*items, *asked, estimate, fit))
    more = replace(asked[0], record=asked[0].record.model_copy(update={"samples_sha256": "t" * 64}))
    assert "from other answers than are here now" in void(board(*items, more, *asked[1:], estimate, fit))
    assert "from other answers" in void(board(*items, *asked[1:], estimate, fit))


def test_an_estimate_stands_where_its_estimator_measured_most() -> None:
    few = measured(model="a", estimator="exact")
    models = [
        measured(model="b"),
        measured(model="c", weights="c" * 64, settings={"n_draws": 9}),
        measured(model="d", weights="d" * 64, settings={"n_draws": 9}),
    ]
    fit = fit_of(*models)
    many = [item for items in models for item in items]
    tables = board(*few, *many, estimated(fit=fit), fit).tables
    (found,) = [table for table in tables if any(isinstance(entry, EstimatedEntry) for entry in table.entries)]
    assert {entry.name for entry in found.entries} == {"c", "d", "closed"}


def test_the_terminal_shows_sorts_and_filters() -> None:
    low, high = measured(model="low", level=4.0), measured(model="high", level=9.0, weights="v" * 64)
    fit = fit_of(low, high)
    whole = board(*low, *high, *answered("low", 90, files_sha256=files_of(low)), estimated(fit=fit), fit)

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
    fit = fit_of(items, comparisons=(make_comparison(verdict=payload),) if field == "verdict" else ())
    closed = estimated(
        payload if field == "model" else "closed", fit=fit, verdict=payload if field == "verdict" else "no",
        baseline=payload if field == "verdict" else "the mean", intervals={"80": Between(low=5.0, high=8.0)},
    )  # fmt: skip
    beside = estimated(items[0].record.model.name, fit=fit, files=files_of(items), baseline=closed.record.baseline)
    old = estimated(closed.record.key.model, fit=fit_of(items, rows_sha256="b" * 64))
    bad = RejectedFile(path=f"emergence/{payload}.json", reason=payload)
    asked = served(payload if field == "model" else "closed")
    return board(*items, *asked, closed, beside, old, fit, rejected=(bad,))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_payload_stays_text_after_a_markdown_parser(payload: str, field: str) -> None:
    whole = hostile_board(payload, field)
    texts = leaderboard.render(whole), by_task.render(whole, results="..")
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
