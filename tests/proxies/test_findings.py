"""Planted records -> the verdicts that were planted; the committed document is what the committed records give."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import zoo
from bench.errors import UsageError
from bench.intervals import Interval, combined
from bench.performance import Sample
from bench.records import CONDITIONS, Condition, EmergenceRecord, Measurement
from bench.sources import checkpoint_of
from bench.store import Store, StoredPerformance, StoredRecord
from bench.summary import emergence_of, summarise
from proxies.emergence_by_block import by_block
from proxies.findings import FOLDER, main, write_findings
from proxies.findings_numbers import (
    LADDER,
    ORIGINALS,
    Measured,
    Term,
    above_chance,
    after_first_block,
    contrast,
    over,
    rank_correlation,
    read,
    spread_over_blocks,
    spread_over_tasks,
    variance_of,
)
from proxies.findings_picture import pictures
from proxies.findings_tables import blocks
from proxies.findings_verdicts import (
    FLAT,
    abilities,
    changes,
    emergence_follows,
    first_changes,
    flattening,
    flattens,
    gains,
    grows,
    ladder,
    lists_above_text,
    rises,
    size_readings,
    spread_grows,
    spread_grows_where_flat,
    text_rises,
)
from proxies.kinds import made_from_another
from proxies.markdown import filled
from tasks import RANKED_TASKS
from tests.performance_factory import make_cell, make_performance
from tests.record_factory import make_measurement, make_record, unit_key

ROOT = Path(__file__).parent.parent.parent
SMALL, BASE = "smollm2-135m-instruct", "gemma-3-270m"
ERROR = 0.001
"""Standard error of every planted cell, in bits: planted steps are 0.1 or more."""
RISING = (2.0, 4.0, 5.5, 6.5)


def grid(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    errors = tuple((ERROR,) * len(row) for row in values)
    return {"s=0.08": {"values_bits": tuple(map(tuple, values)), "errors_bits": errors}}


def planted_measurement(
    key: Any, curve: Sequence[float], spread: Sequence[float], n_blocks: int, step: int
) -> Measurement:
    """Emergence `curve` on average over all blocks but the first, which has -1, with a standard deviation of `spread`.

    The micro term is 1 bit at every position that counts.
    """
    offsets = np.linspace(-1, 1, n_blocks - 1) if n_blocks > 2 else np.zeros(1)
    offsets = offsets / (offsets.std(ddof=1) if n_blocks > 2 else 1)
    macro = [[0.0] * (step * len(curve))]
    for offset in offsets:
        closing = [bits + 1 + offset * width for bits, width in zip(curve, spread, strict=True)]
        macro.append(
            [2.0 if place % step != step - 1 else closing[place // step] for place in range(step * len(curve))]
        )
    n_positions = step * len(curve)
    micro = [[2.0, 0.0][:step] if step == 2 else [1.0]] * n_blocks
    like = make_measurement(np.random.default_rng(0), key)
    fields = like.model_dump() | {
        "names": like.names if step == 2 else (),
        "n_prefixes": (12,) * n_positions,
        "macro": grid(macro),
        "micro": grid(micro),
        "micro_of_position": tuple(place % step for place in range(n_positions)),
        "macro_ceiling_bits": ((13.5,) * n_positions,) * n_blocks,
        "micro_ceiling_bits": ((9.0,) * step,) * n_blocks,
        "macro_cap_bits": ((13.5,) * n_positions,) * n_blocks,
        "micro_cap_bits": ((9.0,) * step,) * n_blocks,
        "shuffled": grid([[0.0] * n_positions] * n_blocks)["s=0.08"] if key.shuffled else None,
    }
    return Measurement.model_validate(fields)


def planted(
    model: str, task: str = "country", *, trained: Sequence[float] = RISING, twin: Sequence[float] = RISING,
    words: Sequence[float] = RISING, spread: Sequence[float] | None = None, n_blocks: int = 4,
    n_parameters: int = 1_000_000, seed: int = 0, twin_of: str | None = None, **key_changes: Any,
) -> EmergenceRecord:  # fmt: skip
    step = 1 if task == "text-sample" else 2
    curves: Mapping[Condition, Sequence[float]] = {"trained": trained, "untrained_twin": twin, "random_words": words}
    measurements = {
        condition: planted_measurement(
            unit_key(
                files_sha256=f"twin of {twin_of or model}" if condition == "untrained_twin" else model,
                sequences_sha256=f"{task} {condition}" if condition == "random_words" else task,
                shuffled=condition == "trained",
                seed=seed,
            ),
            curves[condition],
            spread or (0.5,) * len(trained),
            n_blocks,
            step,
        )
        for condition in CONDITIONS
    }
    like = make_record(model=model, task=task, weights=model, seed=seed, n_shots=2, **key_changes)
    fields = like.model_dump() | {
        "key": like.key.model_dump() | {"n_shots": len(trained)},
        "model": like.model.model_dump() | {"n_blocks": n_blocks, "n_parameters": n_parameters},
        "demonstration_length": step,
        "is_enumerated": step == 2,
        "measurements": {name: measurement.model_dump() for name, measurement in measurements.items()},
        "summary": [
            row.model_dump() for row in summarise(measurements, n_shots=len(trained), demonstration_length=step)
        ],
    }
    fields["summary"] = tuple(fields["summary"])
    return EmergenceRecord.model_validate(fields)


def lists(model: str, **changes: Any) -> list[EmergenceRecord]:
    return [planted(model, task, **changes) for task in RANKED_TASKS]


def asked(model: str, n_correct: int, *, tasks: Sequence[str] = (*RANKED_TASKS, "antonym")) -> list[StoredPerformance]:
    found = [
        make_performance(
            model=model, task=task, shots=(1, 4), correct=(n_correct, n_correct), provider="local", base_url=None,
            revision="main", files_sha256="w" * 64, dtype="float32",
        )
        for task in tasks
    ]  # fmt: skip
    return [StoredPerformance(path=f"performance/{item.key.digest()}.json", record=item) for item in found]


def measured(records: Sequence[EmergenceRecord], performances: Sequence[StoredPerformance] = ()) -> Measured:
    return read([StoredRecord(path=f"{item.key.digest()}.json", record=item) for item in records], performances)


def one(records: Sequence[EmergenceRecord]) -> Any:
    (subject,) = measured(records).subjects.values()
    return subject


def test_emergence_by_block_is_that_of_the_pipeline() -> None:
    """Against `bench.summary`, which the records were summarised with; refused cells are missing in both."""
    for record in (make_record(), make_record(refused={"trained": (("macro", 1, 3), ("micro", 2, 1))})):
        for measurement in record.measurements.values():
            expected = emergence_of(measurement)
            for position in range(4):
                values, errors = by_block(measurement, position)
                np.testing.assert_allclose(values, expected.values[:, position], rtol=1e-12)
                defined = ~np.isnan(values)
                np.testing.assert_allclose(errors[defined], expected.errors[defined, position], rtol=1e-12)


def test_planted_numbers_come_back() -> None:
    subject = one(lists("tiny", spread=(0.1, 0.2, 0.3, 0.4), twin=(1.0, 3.0, 5.0, 7.0)))
    for shot, bits in enumerate(RISING, start=1):
        mean = contrast(Term(runs=subject.lists, n_shots=shot))
        after = contrast(Term(runs=subject.lists, n_shots=shot), reading=after_first_block)
        spread = spread_over_blocks(subject.lists, shot)
        assert mean is not None and after is not None and spread is not None
        assert mean.value == pytest.approx((3 * bits - 1) / 4, abs=1e-6)  # block 0 has -1
        assert after.value == pytest.approx(bits, abs=1e-6)
        noise = 1.5 * ERROR**2  # of the macro and the mean of two micro terms
        assert spread.value == pytest.approx(np.sqrt((0.1 * shot) ** 2 - noise), abs=1e-6)
    excess = over(subject.lists, "untrained_twin", 4, after_first_block)
    assert excess is not None and excess.value == pytest.approx(-0.5, abs=1e-6) and excess.sign == -1
    # Three tasks, three blocks after the first; macro and micro errors of each side, independent.
    per_block = np.sqrt(ERROR**2 + 2 * (ERROR / 2) ** 2)
    assert (excess.high - excess.low) / 2 == pytest.approx(1.96 * np.sqrt(2) * per_block / np.sqrt(9), rel=1e-3)


def test_the_spread_over_tasks_is_that_of_their_means() -> None:
    records = [
        planted("tiny", task, trained=(shift + 1.0, shift + 2.0, shift + 3.0, shift + 4.0), seed=seed)
        for seed in (0, 1)
        for task, shift in zip(RANKED_TASKS, (0.0, 1.0, 2.0), strict=True)
    ]
    assert spread_over_tasks(one(records).lists, 4) == pytest.approx(0.75, abs=1e-6)  # of 0, 1 and 2 in 3 of 4 blocks


def test_a_shared_measurement_cancels_in_a_difference() -> None:
    records = lists(SMALL) + lists(f"{SMALL}@int4", twin_of=SMALL, trained=(2.0, 4.0, 5.5, 6.0))
    found = measured(records).subjects
    runs, rounded = found[SMALL].lists, found[f"{SMALL}@int4"].lists
    twins = contrast(
        Term(runs=rounded, condition="untrained_twin", n_shots=4),
        Term(weight=-1, runs=runs, condition="untrained_twin", n_shots=4),
    )
    assert twins is not None and twins.sign == 0
    assert (twins.value, twins.low, twins.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_difference_of_proportions_has_the_interval_of_newcombe() -> None:
    """Newcombe 1998, "Interval estimation for the difference between independent proportions", his example (a)."""
    one, other = make_cell(4, 56, n=70), make_cell(4, 48, n=80)
    first, second = (
        Interval(value=cell.accuracy or 0, low=cell.low or 0, high=cell.high or 0) for cell in (one, other)
    )
    difference = combined((1, first), (-1, second))
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_rank_correlation_counts_every_order() -> None:
    """5! = 120 orders: two are perfect, ten are at least as good as one pair of neighbours swapped."""
    perfect = rank_correlation([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    assert (perfect.rho, perfect.p) == (pytest.approx(1), pytest.approx(2 / 120))
    swapped = rank_correlation([1, 2, 3, 4, 5], [10, 20, 30, 50, 40])
    assert (swapped.rho, swapped.p) == (pytest.approx(0.9), pytest.approx(10 / 120))
    assert rank_correlation([1, 2, 3], [5, 5, 5]).rho is None
    ties = [Interval(value=0.3 + 1e-12 * place, low=0.2, high=0.4) for place in range(5)]
    assert "rank correlation undefined" in grows([1, 2, 3, 4, 5], ties).reason


@pytest.mark.parametrize(
    ("curve", "rise", "flat"),
    [
        (RISING, "agrees", "undecided"),
        ((2.0, 4.0, 4.0, 6.0), "undecided", "undecided"),  # a rest is no flattening
        ((2.0, 4.0, 4.0, 4.0), "undecided", "agrees"),
        ((2.0, 4.0, 5.5, 5.0), "disagrees", "agrees"),
        ((2.0, 4.0, 6.0, 6.1), "agrees", "agrees"),  # settled, but next to nothing
        ((2.0, 4.0, 6.0, 6.2), "agrees", "undecided"),  # on the margin
        ((2.0, 2.0, 2.0, 2.0), "undecided", "undecided"),  # no rise to flatten
    ],
)
def test_rise_and_flattening_as_planted(curve: Sequence[float], rise: str, flat: str) -> None:
    subject = one(lists("tiny", trained=curve))
    assert (rises(gains(subject.lists, 4), "shot").verdict, flattens(subject).verdict) == (rise, flat)


def test_where_it_flattens_or_that_it_did_not_is_said_with_the_numbers() -> None:
    assert (
        "flat after shot 3: shot 4 adds -0.38 ± <0.01 bits, and neither it nor a later one 0.15, 10% of the first gain"
        in flattens(one(lists("t", trained=(2.0, 4.0, 5.5, 5.0)))).reason
    )
    on_margin = flattens(one(lists("t", trained=(2.0, 4.0, 6.0, 6.2)))).reason
    assert "not settled whether shot 4 adds more or less than 0.15 bits" in on_margin
    still = flattens(one(lists("tiny"))).reason
    assert "shot 4 adds +0.75 ± <0.01 bits and less than the one before, where the ceiling rises by 0.00" in still


def around(value: float, width: float) -> Interval:
    return Interval(value=value, low=value - width, high=value + width)


def test_a_step_is_flat_only_if_its_whole_interval_and_all_later_ones_are_below_the_margin() -> None:
    assert FLAT == 0.1, "planted for a tenth"
    first = around(2.0, 0.1)
    assert flattening([first, around(0.0, 0.1), around(0.1, 0.05)]).flat == (3, 4)
    assert flattening([first, around(0.0, 0.1), around(1.0, 0.1), around(0.1, 0.05)]).flat == (5,)
    assert flattening([first, around(0.0, 0.1), around(1.0, 0.1)]).flat == ()
    noisy = flattening([first, around(0.0, 0.5), around(0.1, 0.05)])
    assert noisy.unsettled == (3,) and noisy.flat == (4,)


def test_text_and_lists_as_planted() -> None:
    rising = tuple(0.1 * token for token in range(1, 9))
    with_text = one([*lists("tiny"), planted("tiny", "text-sample", trained=rising, twin=rising, words=rising)])
    assert text_rises(with_text).verdict == "agrees"
    higher = lists_above_text(with_text)
    assert higher.verdict == "agrees" and "lists minus text at token 8: +4.28 ± <0.01 bits" in higher.reason
    falling = rising[:4] + (0.1,) + rising[5:]
    falls = one([*lists("tiny"), planted("tiny", "text-sample", trained=falling, twin=rising, words=rising)])
    assert (text_rises(falls).verdict, text_rises(falls).reason) == ("disagrees", "falls at token 5")
    assert text_rises(one(lists("tiny"))).verdict == "not measured"


def with_ceilings(record: EmergenceRecord, bits: float) -> EmergenceRecord:
    summary = tuple(row.model_copy(update={"ceiling_bits": bits}) for row in record.summary)
    return record.model_copy(update={"summary": summary})


def test_lists_and_text_and_their_ceilings_are_of_the_same_seeds() -> None:
    text = with_ceilings(planted("tiny", "text-sample", trained=(1.0,) * 8, twin=(1.0,) * 8, words=(1.0,) * 8), 5.0)
    same = [with_ceilings(record, 8.0) for record in lists("tiny")]
    other_seed = [with_ceilings(record, 80.0) for record in lists("tiny", seed=1)]
    judged = lists_above_text(one([*same, *other_seed, text]))
    assert judged == lists_above_text(one([*same, text])) and "of their ceilings: +3.00" in judged.reason
    apart = text.model_copy(update={"key": text.key.model_copy(update={"seed": 7})})
    assert lists_above_text(one([*same, apart])).verdict == "not measured"


def test_texts_of_different_sizes_are_not_mixed() -> None:
    curve = (0.5,) * 8

    def text(seed: int, **changes: Any) -> EmergenceRecord:
        return planted("tiny", "text-sample", trained=curve, twin=curve, words=curve, seed=seed, **changes)

    quick = [text(seed, n_names=1024) for seed in (0, 1)]
    others = [text(2, n_names=512), text(3, n_names=1024, preset="full"), text(4, n_names=1024, task_hash="other")]
    short = planted("tiny", "text-sample", trained=curve[:4], twin=curve[:4], words=curve[:4], seed=5, n_names=1024)
    assert sorted(one([*lists("tiny"), *others, short, *quick]).text) == [0, 1]
    alike = [text(0, preset="full"), text(1, preset="full"), text(2)]
    assert sorted(one([*lists("tiny"), *alike]).text) == [2], "the preset of the lists comes first"


@pytest.mark.parametrize("n_blocks", [2, 5, 29])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.2, 1.0])
def test_the_variance_over_blocks_is_unbiased_and_its_interval_covers(n_blocks: int, spread: float) -> None:
    """Estimates drawn around planted numbers, errors of 0.1 on average: spreads from none to ten times the error.

    Near 0 the interval may cover more than 95 %, elsewhere within what 4000 draws can tell (1 %) and 2 % for what the
    normal approximation of a quadratic form costs.
    """
    rng = np.random.default_rng([n_blocks, round(100 * spread)])
    truth = np.linspace(-1, 1, n_blocks)
    truth *= spread / truth.std(ddof=1)
    errors = np.linspace(0.05, 0.15, n_blocks)
    found = [variance_of(truth + errors * rng.standard_normal(n_blocks), errors) for _ in range(4000)]
    values, own_errors = np.array([(one.value, one.error) for one in found]).T
    assert abs(values.mean() - spread**2) < 4 * values.std() / np.sqrt(len(values))
    ends = [np.sqrt(np.maximum(values + side * 1.96 * own_errors, 0)) for side in (-1, 1)]
    covered = np.mean((ends[0] <= spread) & (spread <= ends[1]))
    assert covered > 0.95 - 0.03
    if spread > 0.5:
        assert covered < 0.95 + 0.01


def test_equal_blocks_with_noisy_estimates_have_no_spread() -> None:
    """The mean over 300 sets of 5 equal numbers: a standard deviation as such would be the error, 0.1."""
    rng = np.random.default_rng(0)
    errors = np.full(5, 0.1)
    found = [variance_of(errors * rng.standard_normal(5), errors) for _ in range(300)]
    mean = np.mean([one.value for one in found])
    assert abs(mean) < 4 * 0.1**2 * np.sqrt(2 / 4 / 300)  # variance of a chi-squared variable with 4 degrees of freedom
    assert variance_of(np.zeros(5), errors).value == pytest.approx(-(0.1**2)), "not clipped"


def test_spread_as_planted() -> None:
    growing, flat = (0.1, 0.3, 0.6, 1.0), (2.0, 4.0, 5.5, 5.5)
    assert spread_grows(one(lists("tiny", spread=growing))).verdict == "agrees"
    assert spread_grows(one(lists("tiny", spread=growing[::-1]))).verdict == "disagrees"
    assert spread_grows(one(lists("tiny", n_blocks=2))).reason == "too few blocks for a spread"
    assert spread_grows_where_flat(one(lists("tiny", spread=growing))).verdict == "undecided"
    assert spread_grows_where_flat(one(lists("tiny", spread=growing, trained=flat))).verdict == "agrees"
    assert spread_grows_where_flat(one(lists("tiny", spread=(0.1, 0.3, 0.6, 0.2), trained=flat))).verdict == "disagrees"
    resting = (2.0, 4.0, 4.0, 6.0)
    assert spread_grows_where_flat(one(lists("tiny", spread=growing, trained=resting))).verdict == "undecided"
    held = spread_grows_where_flat(one(lists("tiny", spread=(0.1, 0.3, 0.6, 0.6), trained=flat)))
    assert held.verdict == "undecided" and "(shot 4) the spread has no settled change" in held.reason


def ladder_of(levels: Sequence[float], **changes: Any) -> list[EmergenceRecord]:
    found = []
    for place, (name, level) in enumerate(zip(LADDER, levels, strict=False)):
        curve = tuple(bits + level for bits in RISING)
        found += lists(name, trained=curve, n_blocks=2 + place, n_parameters=10**6 * 2**place, **changes)
    return found


def size_verdicts(records: Sequence[EmergenceRecord], performances: Sequence[StoredPerformance] = ()) -> dict[str, str]:
    found = measured(records, performances)
    sizes = [subject.model.n_parameters for subject in ladder(found)]
    return {name: grows(sizes, numbers).verdict for name, numbers in size_readings(found).items()}


def test_growth_with_size_as_planted() -> None:
    grown = [item for place, name in enumerate(LADDER) for item in asked(name, 10 + 15 * place)]
    verdicts = size_verdicts(ladder_of((0.0, 0.5, 1.0, 1.5, 2.0)), grown)
    assert set(verdicts.values()) == {"agrees"}
    assert size_verdicts(ladder_of((2.0, 1.5, 1.0, 0.5, 0.0)))["emergence after block 0"] == "disagrees"
    found = measured(ladder_of((0.0, 0.5, 1.5, 1.0, 2.0)))
    judged = grows([1, 2, 3, 4, 5], size_readings(found)["emergence after block 0"])
    assert (
        judged.verdict == "undecided"
        and "+0.90, n = 5, p = 0.083; of 4 steps up in size 3 rise, 1 fall" in judged.reason
    )


def test_a_growth_that_comes_from_depth_alone_is_seen_in_the_mean_over_blocks_only() -> None:
    verdicts = size_verdicts(ladder_of((0.0,) * 5))
    assert verdicts["emergence, mean over blocks"] == "agrees"
    assert verdicts["emergence after block 0"] == verdicts["over twin, after block 0"] == "undecided"


def test_too_few_sizes_can_decide_nothing_and_say_so() -> None:
    found = measured(ladder_of((0.0, 0.5, 1.0)))
    judged = grows([1, 2, 3], size_readings(found)["emergence after block 0"])
    assert judged.verdict == "undecided" and "even a perfect order has p = 0.33" in judged.reason
    assert grows([], []).verdict == "not measured"


def test_checkpoints_and_derived_models_make_no_point_of_the_ladder() -> None:
    records = ladder_of((0.0, 0.5, 1.0, 1.5, 2.0))
    more = records + lists("gpt2-ladder-s-step500") + lists("gpt2-ladder-s-step1000") + lists("gpt2-ladder-s@untrained")
    assert size_verdicts(more) == size_verdicts(records)
    text = blocks(measured(more))
    apart = text["size"].partition("before the end of their training")[2]
    assert re.findall(r"^\| (gpt2\S+)", apart, flags=re.MULTILINE) == [
        "gpt2-ladder-s-step500",
        "gpt2-ladder-s-step1000",
    ]
    assert "step500" not in text["shots"] and "untrained |" not in text["shots"]


def quantised(by_bits: Mapping[int, tuple[float, int]]) -> Measured:
    """An original with emergence 6.5 and 80 of 100 right, and versions as given: emergence and how many are right."""
    records, performances = lists(SMALL), asked(SMALL, 80)
    for n_bits, (level, n_correct) in by_bits.items():
        name = f"{SMALL}@int{n_bits}"
        records += lists(name, trained=(*RISING[:3], level), twin_of=SMALL)
        performances += asked(name, n_correct)
    return measured(records, performances)


def test_a_loss_at_2_bits_as_planted() -> None:
    found = quantised({8: (6.5, 80), 4: (6.5, 78), 3: (6.5, 60), 2: (6.5, 3)})
    assert abilities(found, SMALL).verdict == "agrees"
    assert [change.accuracy.sign for change in changes(found, SMALL) if change.accuracy] == [0, 0, -1, -1]
    assert first_changes(found, SMALL) == (
        "accuracy falls at 3 bits first (8, 4 bits not settled), emergence not settled at 8, 4, 3, 2 bits"
    )
    follows = emergence_follows(found, SMALL)
    assert follows.verdict == "undecided" and "3 bits: accuracy falls, emergence not settled" in follows.reason
    assert "does not change" not in blocks(found)["quantisation"]


def test_emergence_follows_accuracy_only_where_both_changes_are_settled() -> None:
    falling = {8: (6.0, 60), 4: (5.5, 10), 3: (5.4, 5), 2: (5.0, 3)}
    assert emergence_follows(quantised(falling), SMALL).verdict == "agrees"
    assert emergence_follows(quantised(falling | {8: (6.5, 80)}), SMALL).verdict == "undecided"
    assert emergence_follows(quantised({4: (6.5, 80)}), SMALL).verdict == "undecided"
    assert emergence_follows(quantised({8: (6.5, 80), 4: (7.0, 10)}), SMALL).verdict == "disagrees"


EXTRA = ("antonym", "present-past", "verb-gerund", "english-french", "country-capital")


def test_versions_are_compared_on_the_tasks_that_all_of_them_were_asked() -> None:
    """On all its tasks `@int4` loses most, on those that `@int2` was asked too it loses nothing."""
    records = lists(SMALL) + lists(f"{SMALL}@int4") + lists(f"{SMALL}@int2")
    performances = [
        *asked(SMALL, 80, tasks=(*RANKED_TASKS, *EXTRA)),
        *asked(f"{SMALL}@int4", 80, tasks=RANKED_TASKS),
        *asked(f"{SMALL}@int4", 0, tasks=EXTRA),
        *asked(f"{SMALL}@int2", 3, tasks=(*RANKED_TASKS, "element")),
    ]
    found = measured(records, performances)
    assert abilities(found, SMALL).verdict == "agrees"
    text = blocks(found)["quantisation"]
    assert text.count("accuracy above chance, 3 common tasks |") == text.count("| accuracy, 3 common tasks |") == 1
    cells = [line.split(" | ")[-1] for line in text.splitlines() if line.startswith(f"| {SMALL} | ")]
    assert cells[0].endswith("3 tasks |") and cells[2].startswith("0.80") and cells[4].startswith("0.03")
    assert b"accuracy, 3 common tasks: 0.80 at 0" in pictures(found)["quantisation.svg"]
    both = measured(records + lists(BASE), performances + asked(BASE, 80))
    assert f"common tasks ({SMALL}: 3, {BASE}: 4)" in blocks(both)["quantisation"]


def test_names_of_models_are_those_of_the_zoo() -> None:
    assert (LADDER, ORIGINALS) == (zoo.LADDER, zoo.ORIGINALS)
    assert all(made_from_another(name) == "checkpoint" for name in zoo.CHECKPOINTS)
    assert all(made_from_another(name) == "derived" for name in zoo.VARIANTS)


@pytest.mark.parametrize(
    ("name", "model", "step"),
    [("gpt2-ladder-s-step114", "gpt2-ladder-s", 114), ("a-step1-step2", "a-step1", 2), ("a-stepmother", None, None),
     ("a-step5-chat", None, None), ("-step5", None, None), ("a-step5@int4", None, None)],
)  # fmt: skip
def test_a_checkpoint_is_told_by_its_name(name: str, model: str | None, step: int | None) -> None:
    found = checkpoint_of(name)
    assert (found.model, found.step) == (model, step) if found is not None else model is None


def test_performance_is_of_the_files_whose_emergence_is_measured() -> None:
    """Two sets of files of one name: the revision that sorts first, and the latest, are those not measured."""

    def answers(n_correct: int, files: str, revision: str, date: str, seed: int = 0) -> StoredPerformance:
        item = make_performance(
            model="tiny", task="country", correct=(n_correct, n_correct), provider="local", base_url=None,
            revision=revision, files_sha256=files, dtype="float32", seed=seed,
        )  # fmt: skip
        dated = item.model_copy(update={"provenance": item.provenance.model_copy(update={"date": date})})
        return StoredPerformance(path=f"performance/{item.key.digest()}.json", record=dated)

    stored = [
        answers(10, "other", "a", "2026-03-01T00:00:00+00:00"),
        answers(50, "tiny", "b", "2026-01-01T00:00:00+00:00"),
        answers(60, "tiny", "b", "2026-04-01T00:00:00+00:00", seed=1),
        answers(20, "third", "c", "2026-02-01T00:00:00+00:00"),
    ]
    assert measured(lists("tiny"), stored).performance["tiny"]["country"][4].n_correct == 50
    assert measured([], stored[:2]).performance["tiny"]["country"][4].n_correct == 10
    assert measured(lists("tiny", files_sha256="new"), stored[::3]).performance["tiny"]["country"][4].n_correct == 10


def test_a_loss_at_4_bits_already_and_emergence_that_falls_with_it() -> None:
    found = quantised({8: (6.5, 80), 4: (5.5, 10), 3: (5.4, 5), 2: (5.0, 3)})
    assert abilities(found, SMALL).verdict == "disagrees" and emergence_follows(found, SMALL).verdict == "undecided"
    assert first_changes(found, SMALL) == (
        "accuracy falls at 4 bits first (8 bits not settled), emergence falls at 4 bits first (8 bits not settled)"
    )


def test_versions_that_are_not_measured_are_named() -> None:
    found = quantised({4: (6.5, 78)})
    judged = abilities(found, SMALL)
    assert judged.verdict == "not measured" and judged.reason == "4 bits keep most; not measured: 2 bits"
    text = blocks(found)["quantisation"]
    assert f"| {SMALL} | 2 | not measured yet | not measured yet |" in text
    assert f"| {BASE} | original | not measured yet |" in text
    assert first_changes(found, BASE) == "accuracy is not measured yet, emergence is not measured yet"


def test_versions_of_a_model_that_is_not_there_or_has_other_seeds_are_not_called_refused() -> None:
    row = f"| {SMALL} | 4 | {{0}} | {{0}} | not measured yet |"
    without = blocks(measured(lists(f"{SMALL}@int4")))["quantisation"]
    assert row.format("not measured yet") in without and "refused" not in without
    apart = blocks(measured(lists(SMALL) + lists(f"{SMALL}@int4", seed=1)))["quantisation"]
    assert row.format("no common seed") in apart


def test_a_model_under_another_setting_is_named() -> None:
    found = measured([*lists(SMALL), *lists("tiny"), *lists(BASE, preset="custom", n_names=9)])
    assert f"| {BASE} | measured under another setting |" in blocks(found)["shots"]
    assert f"Measured under another setting: {BASE}." in blocks(found)["setting"]


def test_a_model_at_chance_has_nothing_to_lose() -> None:
    found = measured([], asked(SMALL, 0) + asked(f"{SMALL}@int4", 0) + asked(f"{SMALL}@int2", 0))
    assert abilities(found, SMALL).verdict == "undecided"


def test_accuracy_is_over_all_tasks_given_or_none() -> None:
    found = measured([], asked(SMALL, 50, tasks=RANKED_TASKS))
    mean = above_chance(found.performance, SMALL, RANKED_TASKS)
    assert mean is not None and mean.value == pytest.approx(0.5)
    wilson = make_cell(4, 50)  # three tasks of 100 questions: the interval is narrower by the root of 3
    assert mean.high - 0.5 == pytest.approx(((wilson.high or 0) - 0.5) / np.sqrt(3), abs=1e-6)
    assert (
        above_chance(found.performance, SMALL, ("antonym",)) is None
        and above_chance(found.performance, "x", ()) is None
    )


def test_chat_and_other_servers_are_not_mixed_in() -> None:
    others = [make_performance(model=SMALL), make_performance(model=SMALL, mode="chat", provider="local")]
    stored = [StoredPerformance(path=f"performance/{item.key.digest()}.json", record=item) for item in others]
    assert read([], stored).performance == {}


def test_an_empty_store_gives_a_whole_document_that_says_so() -> None:
    nothing = measured([])
    text = blocks(nothing)
    assert text["setting"] == "Nothing is measured yet.\n" and "not measured yet" in text["shots"]
    assert all(
        b"not measured" in image.lower() or b"Nothing was measured" in image for image in pictures(nothing).values()
    )


def test_one_model_alone_fills_what_it_can() -> None:
    text = blocks(measured(lists(SMALL)))
    assert f"| {SMALL} | 4 | 4.62 ± <0.01 | +0.75 ± <0.01 |" in text["shots"]
    assert f"| {BASE} | not measured yet |" in text["shots"] and f"| {SMALL} | text: not measured yet |" in text["text"]
    assert b"<desc>" in pictures(measured(lists(SMALL)))["shots.svg"]


def test_refused_numbers_are_shown_as_refused_and_judged_as_such() -> None:
    whole = [make_record(model=SMALL, task=task) for task in RANKED_TASKS]
    no_twin = [
        make_record(model=SMALL, task=task, refused={"untrained_twin": (("macro", 1, 3),)}) for task in RANKED_TASKS
    ]
    text = blocks(measured(no_twin))["shots"]
    row = next(line for line in text.splitlines() if line.startswith(f"| {SMALL} | 2 |"))
    assert row.split(" | ")[5] == "refused" and "untrained twin: refused" in text
    early = [make_record(model=SMALL, task=task, refused={"trained": (("macro", 1, 1),)}) for task in RANKED_TASKS]
    assert rises(gains(one(early).lists, 2), "shot").verdict == flattens(one(early)).verdict == "refused"
    late = whole[:2] + [make_record(model=SMALL, task=RANKED_TASKS[2], refused={"trained": (("macro", 1, 3),)})]
    alone = measured(late)
    assert not alone.subjects and f"| {SMALL} | refused |" in blocks(alone)["shots"]
    assert "nan" not in " ".join(blocks(measured(early)).values()).lower() and pictures(measured(early))


def test_of_two_measurements_of_one_name_that_with_more_seeds_counts() -> None:
    more = lists(SMALL, seed=0) + lists(SMALL, seed=1)
    other = [
        planted(SMALL, task, trained=(1.0, 1.5, 2.0, 2.5), n_blocks=4, revision="other", bos_policy="none")
        for task in RANKED_TASKS
    ]
    subject = one(more + other)
    assert sorted(subject.lists) == [0, 1]


def test_the_order_of_the_records_changes_no_byte() -> None:
    records = ladder_of((0.0, 0.5, 1.0, 1.5, 2.0)) + lists(SMALL) + lists(f"{SMALL}@int4")
    performances = asked(SMALL, 80) + asked(f"{SMALL}@int4", 70)
    generator = random.Random(0)
    first = measured(records, performances)
    again = measured(generator.sample(records, len(records)), generator.sample(performances, len(performances)))
    assert blocks(first) == blocks(again) and pictures(first) == pictures(again)


def test_names_from_data_are_inert() -> None:
    nasty = "a|b\n<script>alert(1)</script> [x](javascript:y)"
    found = measured(lists(nasty))
    assert not any("<script" in text or "](javascript" in text for text in blocks(found).values())
    assert not any(b"<script" in image for image in pictures(found).values())
    rows = [line for line in blocks(found)["shots"].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_only_what_is_between_the_markers_is_replaced() -> None:
    document = "by hand\n<!-- begin a -->\nold\n<!-- end a -->\nmore\n<!-- begin b -->\n<!-- end b -->\n"
    once = filled(document, {"a": "A\n", "b": r"\1 B" + "\n"})
    assert (
        once == "by hand\n<!-- begin a -->\n\nA\n\n<!-- end a -->\nmore\n<!-- begin b -->\n\n\\1 B\n\n<!-- end b -->\n"
    )
    assert filled(once, {"a": "A\n", "b": r"\1 B" + "\n"}) == once
    with pytest.raises(UsageError, match="for each of a, got a, b"):
        filled(document, {"a": "A\n"})
    with pytest.raises(UsageError, match="expected `<!-- end a -->`"):
        filled("<!-- begin a -->\n", {"a": "A\n"})


def test_the_command_writes_document_and_pictures_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for record in lists(SMALL):
        store.write_record(record)
    sample = Sample(task="country", n_shots=1, index=0, prompt="p", reply="r")
    for item in asked(SMALL, 80):
        store.write_performance(item.record, [sample])
    document = tmp_path / "findings.md"
    document.write_bytes((ROOT / "docs" / "findings.md").read_bytes())
    paths = write_findings(store, document).paths
    before = [path.read_bytes() for path in paths]
    assert write_findings(store, document).paths == paths and [path.read_bytes() for path in paths] == before
    assert {path.name for path in (tmp_path / "results" / FOLDER).iterdir()} == {path.name for path in paths[1:]}
    by_hand = [
        re.sub(r"(?<=-->\n).*?(?=<!-- end)", "", text, flags=re.DOTALL)
        for text in (before[0].decode(), (ROOT / "docs" / "findings.md").read_text(encoding="utf-8"))
    ]
    assert by_hand[0] == by_hand[1]
    for name in re.findall(r"\]\(\.\./results/findings/(\S+)\)", before[0].decode()):
        assert tmp_path / "results" / FOLDER / name in paths


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("typo",), "expected a results folder, with `emergence` or `performance` in it, got typo"),
        (("elsewhere",), "got elsewhere; run `bench run MODEL` first"),
        (("results", "typo.md"), "there is no document typo.md"),
        (("results", "results"), "there is no document results"),
        (("results", "docs/findings.md", "more"), "at most a results folder and a document, got 3 arguments"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for folder in ("docs", "results/emergence", "elsewhere"):
        Path(folder).mkdir(parents=True)
    by_hand = (ROOT / "docs" / "findings.md").read_bytes()
    Path("docs/findings.md").write_bytes(by_hand)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert Path("docs/findings.md").read_bytes() == by_hand
    assert [path.name for path in Path().rglob("*") if path.is_file()] == ["findings.md"]


def test_files_that_are_no_records_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("emergence", "performance"):
        folder = tmp_path / "results" / kind / "m"
        folder.mkdir(parents=True)
        (folder / f"{kind}.json").write_text("{}")
    document = tmp_path / "findings.md"
    document.write_bytes((ROOT / "docs" / "findings.md").read_bytes())
    assert main([str(tmp_path / "results"), str(document)]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert [line.partition(".json")[0] for line in lines] == [
        "left out: emergence/m/emergence",
        "left out: performance/m/performance",
    ]
    assert printed.out.splitlines()[0] == str(document)


def test_the_committed_document_and_its_pictures_are_those_of_the_records() -> None:
    store = Store(ROOT / "results")
    found = read(store.records()[0], store.performances()[0])
    document = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert document == filled(document, blocks(found)), "run `python -m proxies.findings`"
    for name, image in pictures(found).items():
        assert (ROOT / "results" / FOLDER / name).read_bytes() == image, "run `python -m proxies.findings`"
