"""One condition on a tiny model, with an estimator that has no answer for some of its cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench.activations import Extractor
from bench.blocks import find_blocks
from bench.errors import EstimationError
from bench.estimators import MutualInformation, Pairs, Reading, pair_up
from bench.measure import measure, without_variation
from bench.records import Measurement, gaps
from tests.bench.picky_estimator import Picky
from tests.bench.tiny_models import tiny_model
from tests.record_factory import unit_key

LISTS = np.array([[5 + first, 9, 5 + second, 9] for first, second in permutations(range(4), 2)])
"""All 12 lists of 2 out of 4 names, each name followed by a separator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered(Picky):
    """Looks at what it is given, and changes what it gives."""

    change: Callable[[Pairs, MutualInformation], MutualInformation] = lambda pairs, found: found
    seen: list[Pairs] = field(default_factory=list)

    def estimate(self, pairs: Pairs, rng: np.random.Generator) -> MutualInformation:
        self.seen.append(pairs)
        return self.change(pairs, Picky.estimate(self, pairs, rng))


def measured(
    estimator: Picky, *, device: str = "cpu", shuffled: bool = True, sequences: npt.NDArray[np.int64] = LISTS
) -> Measurement:
    model = tiny_model("gpt2")
    return measure(
        key=unit_key(estimator=estimator.name, settings=dict(estimator.settings), shuffled=shuffled),
        names=("a", "b", "c", "d"),
        sequences=sequences,
        extractor=Extractor(model, find_blocks(model), bos=None, sample=sequences),
        estimator=estimator,
        device=device,
        memory_bytes=1 << 30,
    )


def test_a_refused_cell_has_no_number_but_a_reason_and_its_exact_ceiling() -> None:
    """Names give 4 different rows; so does block 0, which sees no token but its own, and block 1 up to 1 separator."""
    found = measured(Picky(fewest=5))
    macro, micro = ((0, 0), (0, 2), (1, 0), (1, 1)), ((0, 0), (1, 0))
    for grid in found.macro.values():
        assert gaps(grid.values_bits) == gaps(grid.errors_bits) == list(macro)
    for grid in found.micro.values():
        assert gaps(grid.values_bits) == list(micro)
    assert found.shuffled is not None and gaps(found.shuffled.values_bits) == list(macro)
    assert {(entry.side, entry.reason): entry.cells for entry in found.refusals} == {
        (side, "needs 5 different rows, got 4; take another"): cells
        for side, cells in (("macro", macro), ("micro", micro), ("shuffled", macro))
    }
    assert found.macro_ceiling_bits[0] == pytest.approx([2, 0, 2, 0])
    assert found.macro_ceiling_bits[1] == pytest.approx([2, 2, math.log2(12), math.log2(12)])
    assert found.macro_cap_bits == ((None, 0, None, 0), (None, None, *[pytest.approx(math.log2(12) / 2)] * 2))
    assert found.macro["plain"].values_bits[1][2:] == pytest.approx(found.macro_ceiling_bits[1][2:])


def test_where_one_side_is_one_row_the_answer_is_0_whatever_the_estimator() -> None:
    """Block 0 at a separator, and every separator fed alone: nothing to ask an estimator that refuses all there is."""
    estimator = Altered(fewest=99)
    found = measured(estimator)
    assert found.shuffled is not None
    for grid in (*found.macro.values(), found.shuffled):
        assert grid.values_bits[0] == grid.errors_bits[0] == (None, 0, None, 0)
    for grid in found.micro.values():
        assert grid.values_bits == grid.errors_bits == ((None, 0), (None, 0))
    assert found.macro_ceiling_bits[0][1::2] == found.macro_cap_bits[0][1::2] == (0, 0)
    answered = {(side, 0, position) for side in ("macro", "shuffled") for position in (1, 3)}
    answered |= {("micro", block, 1) for block in (0, 1)}
    refused = {(entry.side, *cell) for entry in found.refusals for cell in entry.cells}
    assert not refused & answered and len(refused) == 2 * (2 * 4) + 2 * 2 - len(answered)
    assert all(min(pairs.input_labels.max(), pairs.output_labels.max()) > 0 for pairs in estimator.seen)


@pytest.mark.parametrize("constant", ["inputs", "outputs", "both"])
def test_a_side_without_variation_answers_every_reading_exactly(constant: str) -> None:
    one, many = torch.full((6, 3), 0.1), torch.arange(18.0).reshape(6, 3)
    inputs, outputs = one if constant != "outputs" else many, one if constant != "inputs" else many
    found = without_variation(Picky(fewest=99), pair_up(inputs, outputs))
    assert found is not None and found.direction == "exact" and found.headline == "plain"
    assert found.readings == dict.fromkeys(Picky().labels, Reading(value_nats=0.0, standard_error_nats=0.0))
    assert (found.ceiling_nats, found.cap_nats, found.n_samples, found.d_model) == (0.0, 0.0, 6, 3)


def test_two_rows_that_differ_in_the_last_bit_are_variation() -> None:
    rows = torch.tensor([[1.0], [1.0 + 2**-23]])
    assert without_variation(Picky(), pair_up(rows, rows)) is None


def test_the_ceiling_of_a_refused_cell_is_that_of_an_answered_one() -> None:
    refused, answered = measured(Picky(fewest=99)), measured(Picky(fewest=1))
    assert refused.macro_ceiling_bits == answered.macro_ceiling_bits
    assert refused.micro_ceiling_bits == answered.micro_ceiling_bits
    assert answered.refusals == ()


def test_all_cells_with_variation_may_be_refused() -> None:
    """All but the two separators of block 0."""
    found = measured(Picky(fewest=99))
    assert len(gaps(found.macro["plain"].values_bits)) == len(gaps(found.macro_cap_bits)) == 2 * 4 - 2
    assert found.direction == "exact"
    assert {entry.reason for entry in found.refusals if entry.side == "macro"} == {
        f"needs 99 different rows, got {n}; take another" for n in (4, 12)
    }


def test_without_any_answer_no_direction_is_promised() -> None:
    """Lists without separators: every cell has variation."""
    found = measured(Picky(fewest=99), sequences=LISTS[:, ::2])
    assert len(gaps(found.macro["plain"].values_bits)) == 2 * 2 and len(gaps(found.micro["plain"].values_bits)) == 2
    assert found.direction == "none"


def test_a_long_reason_is_cut_and_put_on_one_line() -> None:
    found = measured(Picky(fewest=5, advice="line\n" * 100))
    assert {len(entry.reason) for entry in found.refusals} == {299}
    assert found.refusals[0].reason.startswith("needs 5 different rows, got 4; line line line")
    assert found.refusals[0].reason.endswith("line ...")


def test_the_rows_are_put_on_the_device_and_broken_as_a_population() -> None:
    """On `meta` there are no numbers at all, so nothing but labels and weights can have been used."""
    estimator = Altered()
    found = measured(estimator, device="meta")
    assert {pairs.inputs.device.type for pairs in estimator.seen} == {"meta"}
    assert {pairs.outputs.device.type for pairs in estimator.seen} == {"meta"}
    assert max(pairs.n_samples for pairs in estimator.seen) == 12 * 12  # every input with every output
    assert found.macro_ceiling_bits == measured(Picky()).macro_ceiling_bits


def test_the_pairs_of_a_sample_are_broken_by_drawing_outputs() -> None:
    estimator = Altered(is_sample_based=True)
    measured(estimator)
    assert max(pairs.n_samples for pairs in estimator.seen) == 12


def test_an_error_that_is_no_refusal_ends_the_measurement() -> None:
    def fail(pairs: Pairs, found: MutualInformation) -> MutualInformation:
        raise EstimationError("these rows are damaged")

    with pytest.raises(EstimationError, match="these rows are damaged"):
        measured(Altered(change=fail))


@pytest.mark.parametrize("reading", [(math.nan, 0.1), (1.0, math.inf)])
def test_a_reading_that_is_no_number_ends_the_measurement_with_its_cell(reading: tuple[float, float]) -> None:
    def spoil(pairs: Pairs, found: MutualInformation) -> MutualInformation:
        value, error = reading
        spoiled = {"more": Reading(value_nats=value, standard_error_nats=error)}
        return replace(found, readings={**found.readings, **spoiled})

    with pytest.raises(
        EstimationError,
        match=f"picky gave {reading[0]} ± {reading[1]} nats as more of the macro term in block 0, column 0; "
        "expected a number, or a refusal in words",
    ):
        measured(Altered(change=spoil))


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        (("lower bound", "lower bound"), "lower bound"),
        (("exact", "lower bound"), "lower bound"),
        (("none", "exact"), "none"),
        (("lower bound", "none"), "none"),
    ],
)
def test_the_direction_is_what_all_cells_promise(directions: tuple[Any, Any], expected: str) -> None:
    def direct(pairs: Pairs, found: MutualInformation) -> MutualInformation:
        return replace(found, direction=directions[pairs.n_samples > 4])

    assert measured(Altered(change=direct, offsets=(0.0, 0.0)), shuffled=False).direction == expected
