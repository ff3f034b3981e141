"""The leaderboard from records: bytes, order, controls, and nothing that a hostile name can do to it."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from bench.store import RejectedFile
from proxies import by_task, leaderboard
from proxies.board import board_of
from proxies.digests import StoredDigest, digest_of
from proxies.standings import Entry, rankings
from tasks import RANKED_TASKS, load_task
from tests.record_factory import make_record

ROOT = Path(__file__).parent.parent.parent


def stored(**fields: object) -> StoredDigest:
    record = digest_of(make_record(**fields))  # type: ignore[arg-type]
    return StoredDigest(path=f"emergence/{fields.get('model', 'tiny')}/{record.key.digest()[:8]}.json", record=record)


def render(items: list[StoredDigest], rejected: list[RejectedFile]) -> str:
    return leaderboard.render(board_of(items, rejected=rejected))


def tables(items: list[StoredDigest]) -> str:
    """The tables by task."""
    return by_task.render(board_of(items), results="..")


def rows_as_data(items: list[StoredDigest]) -> list[dict[str, object]]:
    return leaderboard.rows_as_data(board_of(items))


def complete(**fields: object) -> list[StoredDigest]:
    return [stored(task=task, **fields) for task in RANKED_TASKS]


def table(text: str, number: int = 0) -> list[list[str]]:
    """The cells of the n-th Markdown table, header first, without the ruler."""
    blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
    lines = [line for line in blocks[number].splitlines() if line.strip()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def rank(items: list[StoredDigest]) -> list[Entry]:
    """The entries of the first setting."""
    return rankings(items)[0][1]


def test_models_are_ranked_by_mean_emergence_over_the_tasks() -> None:
    items = complete(model="low", level=4.0) + complete(model="high", level=9.0) + complete(model="mid", level=6.0)
    assert [entry.model.name for entry in rank(items)] == ["high", "mid", "low"]
    entry = rank(items)[0]
    expected = np.mean([item.record.summary[-1].emergence.value_bits for item in entry.records])
    assert entry.emergence[0] == pytest.approx(expected)
    assert entry.over_twin[0] == pytest.approx(3, abs=1.0)
    errors = [item.record.summary[-1].emergence.error_bits for item in entry.records]
    assert entry.emergence[1] == pytest.approx(1.96 * np.sqrt(np.square(errors).sum()) / 3, rel=1e-3)


def test_a_control_that_tasks_share_counts_once_in_the_error() -> None:
    items = complete()
    assert len({item.record.sources["random_words"] for item in items}) == 1
    trained = np.array([item.record.summary[-1].curve["s=0.08"]["trained"].error_bits for item in items])
    words = np.array([item.record.summary[-1].curve["s=0.08"]["random_words"].error_bits for item in items])
    expected = 1.96 * np.sqrt(np.square(trained / 3).sum() + words.mean() ** 2)
    assert rank(items)[0].over_random_words[1] == pytest.approx(expected, rel=1e-3)


def test_several_seeds_give_students_interval_of_their_spread() -> None:
    seeds = [complete(seed=seed) for seed in range(4)]
    means = [np.mean([item.record.summary[-1].emergence.value_bits for item in items]) for items in seeds]
    entry = rank([item for items in seeds for item in items])[0]
    assert entry.emergence[0] == pytest.approx(np.mean(means))
    assert entry.emergence[1] == pytest.approx(3.182 * np.std(means, ddof=1) / 2)
    assert entry.seeds == (0, 1, 2, 3)


def test_a_run_counts_once_and_only_with_the_newest_version_of_its_task() -> None:
    items = complete()
    again = stored(task="country", revision="another name for the same weights")
    old = stored(task="country", task_version=0, task_hash="o" * 64)
    entry = rank([*items, again, old])[0]
    assert len(entry.records) == 3 and entry.n_samples == 3 * 132
    assert "country: incomplete or superseded" in render([*items, old], []).split("## Not ranked")[1]


def test_no_record_displaces_others_by_the_version_it_names() -> None:
    """The shipped version stands where it is; else that of most models, the newest of several."""

    def of(model: str, **fields: object) -> list[StoredDigest]:
        return complete(model=model, weights=model * 64, **fields)

    def ranked(*models: list[StoredDigest]) -> list[str]:
        return sorted(entry.model.name for entry in rank([item for items in models for item in items]))

    later = {"task_version": 10**6, "task_hash": "z" * 64}
    assert ranked(of("a"), of("b"), of("c", **later)) == ["a", "b"]
    assert ranked(of("a"), of("c", **later)) == ["c"]
    tasks = [load_task(name) for name in RANKED_TASKS]
    shipped = [
        stored(model="a", task=task.name, weights="a" * 64, task_version=task.version, task_hash=task.content_hash)
        for task in tasks
    ]
    assert ranked(shipped, of("b", **later), of("c", **later)) == ["a"]


def test_a_limited_record_of_a_newer_task_unranks_nobody() -> None:
    stray = stored(model="other", task="country", task_version=2, task_hash="n" * 64, is_enumerated=False)
    assert len(rank([*complete(), stray])) == 1


def test_a_limit_keeps_a_record_from_the_ranking_even_if_it_limits_nothing() -> None:
    text = render(complete(limit=20_000), [])
    assert "No model is ranked yet" in text and text.count("for trying things out only") == 3


def test_the_policy_for_a_token_that_a_model_does_not_have_makes_no_second_row() -> None:
    assert len(rank(complete() + complete(bos_policy="none"))) == 1


def test_limited_incomplete_and_invalid_records_are_listed_apart_and_never_ranked() -> None:
    items = [
        *complete(model="whole"),
        stored(model="partial", task="country"),
        *complete(model="limited", is_enumerated=False),
    ]
    text = render(items, [RejectedFile(path="emergence/x/y.json", reason="y.json: seed: wrong | type")])
    assert [row[1] for row in table(text)[1:]] == ["whole"]
    apart = text.split("## Not ranked")[1]
    assert "partial, country: incomplete or superseded" in apart
    assert apart.count("limited to 132 lists") == 3
    assert "emergence/x/y.json: not a valid record&#58; y.json&#58; seed&#58; wrong &#124; type" in apart


def test_other_presets_and_settings_have_tables_of_their_own() -> None:
    items = complete(model="a") + complete(model="b", preset="paper") + complete(model="c", settings={"n_draws": 9})
    text = render(items, [])
    assert [table(text, number)[1][1] for number in (0, 1, 2)] == ["a", "b", "c"]


def test_the_order_of_the_files_does_not_matter() -> None:
    items = complete(model="a") + complete(model="b", seed=1)
    texts = {render([items[index] for index in order], []) for order in permutations(range(6))}
    assert len(texts) == 1


def test_without_records_it_says_what_to_do() -> None:
    assert "No model is ranked yet: run `bench run MODEL`" in render([], [])
    assert rows_as_data([]) == []


def test_a_record_without_emergence_at_the_last_shot_is_listed_apart_with_the_reason() -> None:
    """Its model has no row then: a row needs all tasks."""
    refused = {"trained": (("macro", 0, 1), ("macro", 1, 3), ("macro", 2, 3))}
    first, *others = RANKED_TASKS
    items = [
        *complete(model="whole"),
        stored(model="partly", task=first, refused=refused, reason="n=132 | fewer than 160"),
        *(stored(model="partly", task=task) for task in others),
    ]
    text = render(items, [])
    assert [row[1] for row in table(text)[1:]] == ["whole"]
    apart = text.split("## Not ranked")[1]
    assert (
        f"- partly, {first}: noisy&#95;channel refused 2 of the cells that emergence at the last shot needs&#58; "
        "n=132 &#124; fewer than 160; [record](" in apart
    )
    assert apart.count("partly, ") == 3 and apart.count("incomplete or superseded") == 2
    assert "**refused**" not in text  # no ranked row shows it
    assert [row["model"]["name"] for row in rows_as_data(items)] == ["whole"]  # type: ignore[index]


def test_a_refusal_at_an_earlier_shot_is_shown_and_does_not_unrank() -> None:
    items = complete(refused={"trained": (("macro", 0, 1),)})
    text = tables(items)
    first, last = table(text)[1:3]
    assert [first[column] for column in (4, 7, 9, 10, 11, 13)] == ["refused"] * 6
    assert "refused" not in last and "refused" not in table(render(items, []))[1]
    assert "- **refused**: the estimator had no answer for a cell that the number needs" in text
    assert "**refused**" not in tables(complete())


def test_a_refused_control_is_shown_as_such_and_null_for_machines() -> None:
    """One refused cell of one task leaves no mean over tasks."""
    first, *others = RANKED_TASKS
    items = [
        stored(task=first, refused={"untrained_twin": (("macro", 1, 3),)}),
        *(stored(task=task) for task in others),
    ]
    cells = table(render(items, []))[1]
    assert cells[10] == "refused" and "±" in cells[11]
    (row,) = rows_as_data(items)
    assert row["over_twin_bits"] is None and row["over_twin_half_width_bits"] is None
    assert isinstance(row["over_random_words_bits"], float)
    assert rank([*items, *complete(seed=1)])[0].over_twin is None


def test_a_value_above_its_ceiling_is_marked_and_the_mark_explained() -> None:
    items = complete(level=20.0, direction="none")
    text = render(items, [])
    assert table(text)[1][8].endswith(" !")
    row = table(tables(items))[1]
    assert [column for column, cell in enumerate(row) if "!" in cell] == [4, 7, 9]
    assert "- **!**: a value above its ceiling" in text and "- **!**: a value above its ceiling" in tables(items)
    assert "- **!**" not in render(complete(direction="none"), []) and "!" not in tables(complete(direction="none"))


def test_the_settings_of_the_estimator_are_in_the_heading() -> None:
    text = render(complete(settings={"n_draws": 9, "scales": (0.1, 0.2)}), [])
    assert "names, fully enumerated. Settings&#58; n&#95;draws 9, scales 0.1 0.2.\n\n" in text
    assert "Settings" not in render(complete(settings={}), [])


HOSTILE = [
    "a|b", "a\nb", "`code`", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://evil.example/a.png)",
    "\x1b[31mred\x1b[0m", "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "[bold]x[/bold]", "=cmd|' /C calc'!A0",
    "# heading", "* star *", "_under_", "~~gone~~", "http://evil.example", "www.evil.example", "a@evil.example",
    "&lt;b&gt;",
    "\\|", "$x$", "\u202etxt.exe", "<!-- -->", ":smile:", "- item", "1. item", "> quote", "\x00", "\ud83d\ude00",
    "a\r\n| b | c |",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [name.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for name in HOSTILE]
)
def test_a_hostile_name_stays_text_in_its_cell(name: str) -> None:
    rows = table(render(complete(model=name), []))
    assert len(rows) == 2
    assert {len(row) for row in rows} == {len(rows[0])}
    text = "|".join(cell for cell in rows[1] if "](" not in cell)
    assert not set(text) & set("<>[]`*~\x1b\x00\n\\$@_!")
    assert "http:" not in text and "www." not in text.lower()


def test_a_verdict_needs_several_seeds() -> None:
    def cells(n_seeds: int) -> str:
        items = [item for seed in range(n_seeds) for item in complete(seed=seed)]
        return table(render(items, []))[1][10]

    assert "(" not in cells(1)
    assert cells(6).endswith("(above)")


@pytest.mark.parametrize("field", ["family", "revision", "precision", "source", "licence"])
def test_other_hostile_fields_stay_text_too(field: str) -> None:
    items = complete()
    for name in HOSTILE[:10]:
        model = items[0].record.model.model_copy(update={field: name})
        changed = [replace(item, record=item.record.model_copy(update={"model": model})) for item in items]
        rows = table(render(changed, []))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert not set("|".join(cell for cell in rows[1] if "](" not in cell)) & set("<>[]`*~\x1b\x00\n\\$@_!")


def test_a_file_name_that_is_no_text_can_be_linked() -> None:
    items = [replace(item, path=f"emergence/\udcff/{index}.json") for index, item in enumerate(complete())]
    assert "%FF" in render(items, [])


def test_records_of_other_tasks_have_a_table_of_their_own_and_make_no_rank() -> None:
    records = [
        *(stored(task=task) for task in RANKED_TASKS),
        stored(task="antonym"),
        stored(task="element", is_enumerated=False),
    ]
    ranked, _, others = tables(records).partition("## Other tasks")
    assert "antonym" not in ranked and "| antonym | tiny | noisy&#95;channel | 0 | 132 (2 of 12) | 40 of 60 |" in others
    assert "element" not in others and "element: limited to 132 lists" in render(records, [])


def test_derived_models_and_checkpoints_have_a_row_and_no_rank() -> None:
    levels = {"best@int4": 9.0, "good": 8.0, "good-step114": 7.0, "weak": 5.0}
    items = [item for name, level in levels.items() for item in complete(model=name, level=level)]
    rows = {row[1].replace("&#64;", "@"): row for row in table(render(items, []))[1:]}
    assert {name: row[0] for name, row in rows.items()} == {
        "best@int4": "",
        "good": "1",
        "good-step114": "",
        "weak": "2",
    }
    assert list(rows) == list(levels)
    assert [rows[name][4].rpartition(", ")[2] for name in ("best@int4", "good-step114")] == ["derived", "checkpoint"]
    assert [row["rank"] for row in rows_as_data(items)] == [None, 1, None, 2]
