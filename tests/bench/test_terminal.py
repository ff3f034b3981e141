"""What a person reads of cells that were refused, and of values above their ceilings."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from bench.estimators import ESTIMATORS, pair_up
from bench.records import EmergenceRecord, Refused
from bench.terminal import ALWAYS_ANSWER, emergence_tables, without_emergence
from tests.record_factory import Place, make_record


def printed(*records: EmergenceRecord) -> str:
    console = Console(width=400, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        for part in emergence_tables(records):
            console.print(part)
    return capture.get()


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_without_refusals_nothing_is_said_of_them() -> None:
    text = printed(make_record())
    assert "refused" not in text and "!" not in text


def test_a_refused_cell_is_shown_as_such_in_its_block_and_in_every_mean_that_needs_it() -> None:
    text = printed(make_record(refused={"trained": (("macro", 1, 3),)}))
    blocks, summary = rows(text)[:3], rows(text)[3:]
    assert [row[2] == "refused" for row in blocks] == [False, True, False]
    assert all("refused" not in row[1] for row in blocks)
    assert "refused" not in summary[0]
    undefined = ("emergence", "macro", "peak block", "over twin", "over random words", "saturated")
    columns = (
        "model", "task", "shots", "emergence", "ceiling", "exact", "macro", "micro", "macro ceiling", "peak block",
        "over twin", "over random words", "shuffled", "saturated",
    )  # fmt: skip
    assert [name for name, cell in zip(columns, summary[1], strict=True) if cell == "refused"] == list(undefined)


def test_refused_controls_are_shown_in_their_columns() -> None:
    record = make_record(refused={"untrained_twin": (("macro", 0, 3),), "trained": (("shuffled", 0, 3),)})
    first, *others = rows(printed(record))[:3]
    assert first[-1] == "refused" and all(row[-1] != "refused" for row in others)
    last = rows(printed(record))[-1]
    assert [index for index, cell in enumerate(last) if cell == "refused"] == [10, 12]


def test_a_refused_micro_term_leaves_no_ceiling() -> None:
    record = make_record(refused={"trained": (("micro", 0, 1),)})
    assert rows(printed(record))[0][-2] == "refused"
    assert rows(printed(record))[-1][4] == "refused"


def test_reasons_are_counted_by_their_words_and_say_who_would_answer() -> None:
    """Reasons that differ in their numbers only are one; the fourth reason is left to the record."""
    cells: tuple[Place, ...] = tuple(("macro", block, position) for block in range(3) for position in range(4))
    record = make_record(refused={"trained": cells})
    reasons = ["n=12 is < 1e-05 d", "n=132 is < 3 d", "a bijection", "a third reason", "the last"]
    trained = record.measurements["trained"].model_copy(
        update={
            "refusals": tuple(
                Refused(side="macro", reason=reason, cells=cells)
                for reason, cells in zip(reasons, [((0, 1),), *[((2, 3), (2, 1))] * 4], strict=True)
            )
        }
    )
    record = record.model_copy(update={"measurements": record.measurements | {"trained": trained}})
    lines = [line.strip() for line in printed(record).splitlines() if line.startswith("tiny, country: ")][1:]
    assert lines == [
        "tiny, country: noisy_channel refused 3 cells, the first (trained, macro, block 0, column 1): "
        "n=12 is < 1e-05 d",
        "tiny, country: noisy_channel refused 2 cells, the first (trained, macro, block 2, column 3): a bijection",
        "tiny, country: noisy_channel refused 2 cells, the first (trained, macro, block 2, column 3): a third reason",
        "tiny, country: further reasons in the record: 1",
        "tiny, country: the estimators noisy_channel and exact answer for every cell (--estimator noisy_channel)",
    ]


def test_a_hostile_reason_stays_text() -> None:
    text = printed(make_record(refused={"trained": (("macro", 0, 0),)}, reason="[bold]x\x1b[31m\u202e"))
    assert "refused 1 cell (trained, macro, block 0, column 0): [bold]x\ufffd[31m\ufffd" in text


def test_a_value_above_its_ceiling_is_marked_and_the_mark_explained() -> None:
    text = printed(make_record(level=20.0, direction="none"), make_record(model="sound"))
    marked, last = rows(text)[0], rows(text)[-3]
    assert marked[2].endswith(" !") and marked[4].endswith(" !")
    assert last[0] == "tiny" and [cell for cell in last if "!" in cell] == [last[3], last[6], last[9]]
    assert not any("!" in cell for cell in rows(text)[-1])
    legend = "!: above its ceiling, which the information itself cannot be; this estimator does not promise a bound."
    assert " ".join(text.split()).count(legend) == 2  # under the blocks of the one, and under the summary


def test_a_record_without_any_emergence_gets_a_remark() -> None:
    every: list[Place] = [("macro", block, position) for block in range(3) for position in (1, 3)]
    every += [("micro", block, column) for block in range(3) for column in range(2)]
    some = make_record(refused={"trained": (("micro", 0, 1),)})
    assert list(without_emergence([make_record(), make_record(refused={"trained": (("macro", 0, 3),)})])) == []
    assert list(without_emergence([make_record(refused={"trained": every}), some])) == [
        "tiny, country: noisy_channel refused all 12 cells that emergence needs, so the record has none at any number "
        "of shots; the estimators noisy_channel and exact answer for every cell (--estimator noisy_channel)",
        "tiny, country: noisy_channel refused 1 of the 12 cells that emergence needs, so the record has none at any "
        "number of shots; the estimators noisy_channel and exact answer for every cell (--estimator noisy_channel)",
    ]


@pytest.mark.parametrize("name", ALWAYS_ANSWER)
def test_the_estimators_that_are_recommended_take_rows_for_the_population_and_answer_for_odd_ones(name: str) -> None:
    import torch

    estimator, rng = ESTIMATORS[name](), np.random.default_rng(0)
    assert not estimator.is_sample_based
    for n_rows in (1, 2, 3):
        for rows in (torch.zeros(n_rows, 4), torch.eye(4)[:n_rows]):
            assert np.isfinite(estimator.estimate(pair_up(rows, rows), rng).value_nats)
