"""Numbers with intervals -> whether they agree with a published finding, and a sentence that says why.

A number counts as above or below 0 where its whole 95 % interval is; all else is undecided. That something is small
takes a margin that its whole interval is below: see `FLAT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.intervals import Interval, combined, with_half_width
from bench.records import Condition
from bench.suffixes import BITS
from proxies.findings_numbers import (
    LADDER,
    Measured,
    Reading,
    Runs,
    Subject,
    Term,
    above_chance,
    after_first_block,
    ceiling,
    common_tasks,
    contrast,
    gain,
    half,
    mean_over_blocks,
    over,
    rank_correlation,
    tasks_asked,
    variance_over_blocks,
)
from tasks import RANKED_TASKS

Verdict = Literal["agrees", "disagrees", "undecided", "refused", "not measured"]

SIGNIFICANT = 0.05
FLAT = 0.1
"""Of the first gain: a shot that adds less adds next to nothing. Small enough that a curve would be read as flat there,
and several times the error of a gain, which is a few hundredths of a bit where first gains are 2 to 3 bits."""
MOST = 0.5
"""Of the accuracy above chance: a model that keeps more of it has kept the ability, one that keeps less has lost it."""
KEEPS_BITS, LOSES_BITS = 4, 2
"""Where arXiv 2307.08072 finds abilities kept, and where lost."""

CONTROLS: dict[Condition, str] = {"untrained_twin": "untrained twin", "random_words": "random words"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one model says of one finding."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A version in fewer bits minus its original; None where it was not measured, or refused."""

    n_bits: int
    emergence: Interval | None
    over_random_words: Interval | None
    accuracy: Interval | None
    kept: Interval | None
    """Accuracy above chance minus `MOST` of that of the original."""
    has_no_common_seed: bool
    """Whether emergence of both is measured, but at no seed of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flattening:
    """Where a curve has stopped rising, by shots from the second.

    Attributes:
        margin: what a shot must add to count as a rise, `FLAT` of the first gain.
        flat: the last shots, as far back as the whole interval of every gain is below the margin.
        unsettled: all shots with the margin inside the interval of their gain.
    """

    margin: float
    flat: tuple[int, ...]
    unsettled: tuple[int, ...]


REFUSED = Judgement(verdict="refused", reason="the estimator refused a cell that this needs")


def gains(
    runs: Runs, n_shots: int, *, condition: Condition = "trained", reading: Reading = mean_over_blocks
) -> list[Interval | None]:
    """What the second and every further shot adds."""
    return [gain(runs, shot, condition=condition, reading=reading) for shot in range(2, n_shots + 1)]


def rises(steps: Sequence[Interval | None], unit: str) -> Judgement:
    """Whether a reading rises with every shot (or token, as `unit` says)."""
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return REFUSED
    if not known:
        return Judgement(verdict="undecided", reason=f"one {unit} only")
    falls = [place for place, step in enumerate(known, start=2) if step.sign < 0]
    unsettled = [place for place, step in enumerate(known, start=2) if step.sign == 0]
    if falls:
        return Judgement(verdict="disagrees", reason=f"falls at {unit} {_listed(falls)}")
    if unsettled:
        return Judgement(verdict="undecided", reason=f"no settled change at {unit} {_listed(unsettled)}")
    return Judgement(verdict="agrees", reason=f"rises at every {unit} from 2 to {len(known) + 1}")


def flattening(steps: Sequence[Interval]) -> Flattening:
    """Where a curve has stopped rising, from all its gains, of which there is at least one."""
    margin = FLAT * steps[0].value
    places = dict(enumerate(steps, start=2))
    flat: list[int] = []
    for place, step in reversed(places.items()):
        if step.high >= margin:
            break
        flat.insert(0, place)
    return Flattening(
        margin=margin,
        flat=tuple(flat),
        unsettled=tuple(place for place, step in places.items() if step.low <= margin <= step.high),
    )


def flattens(subject: Subject) -> Judgement:
    """Whether emergence stops rising within the shots measured, and for all of those that are left."""
    steps = gains(subject.lists, subject.n_shots)
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return REFUSED
    if not known:
        return Judgement(verdict="undecided", reason="one shot only")
    if known[0].sign <= 0:
        return Judgement(
            verdict="undecided", reason=f"shot 2 adds {signed(known[0])} bits: no rise that could flatten is settled"
        )
    found = flattening(known)
    if found.unsettled:
        return Judgement(
            verdict="undecided",
            reason=f"not settled whether shot {_listed(found.unsettled)} adds more or less than {found.margin:.2f} "
            f"bits, {FLAT:.0%} of the first gain",
        )
    if found.flat:
        first = found.flat[0]
        return Judgement(
            verdict="agrees",
            reason=f"flat after shot {first - 1}: shot {first} adds {signed(known[first - 2])} bits, and neither it "
            f"nor a later one {found.margin:.2f}, {FLAT:.0%} of the first gain",
        )
    ceilings = [ceiling(subject.lists, shot) for shot in (subject.n_shots - 1, subject.n_shots)]
    assert ceilings[0] is not None and ceilings[1] is not None, "a rise without refusals has ceilings"
    slows = " and less than the one before" if len(known) > 1 and _less(known[-1], known[-2]) else ""
    return Judgement(
        verdict="undecided",
        reason=f"still rising at the last shot measured: shot {subject.n_shots} adds {signed(known[-1])} bits{slows}, "
        f"where the ceiling rises by {ceilings[1] - ceilings[0]:.2f}",
    )


def controls_in_words(subject: Subject) -> str:
    """Whether the controls rise too, and on which side of them the model ends."""
    parts = []
    for condition, name in CONTROLS.items():
        too = rises(gains(subject.lists, subject.n_shots, condition=condition), "shot")
        excess = over(subject.lists, condition, subject.n_shots)
        if excess is None or too.verdict == "refused":
            parts.append(f"{name}: refused")
            continue
        side = {1: "above it", -1: "below it", 0: "not settled to either side of it"}[excess.sign]
        parts.append(f"{name}: {too.reason}, and the model ends {side} ({signed(excess)})")
    return "; ".join(parts)


def text_rises(subject: Subject) -> Judgement:
    """Whether emergence of natural text rises token by token."""
    if not subject.text:
        return Judgement(verdict="not measured", reason="no record of the text")
    return rises(gains(subject.text, subject.n_tokens), "token")


def lists_minus_text(subject: Subject) -> tuple[int, Interval | None] | None:
    """The last position that lists and text both have, counted from 1, and the difference in emergence there.

    Args:
        subject: with lists and text at the same seeds.
    """
    if not subject.text:
        return None
    lists, text = (next(iter(runs.values()))[0].summary for runs in (subject.lists, subject.text))
    shared = {row.position: row.n_shots for row in lists if row.position < subject.n_tokens}
    tokens = {row.position: row.n_shots for row in text}
    position = max((place for place in shared if place in tokens), default=None)
    if position is None:
        return None
    return position + 1, contrast(
        Term(runs=subject.lists, n_shots=shared[position]),
        Term(weight=-1, runs=subject.text, n_shots=tokens[position]),
    )


def lists_above_text(subject: Subject) -> Judgement:
    """Whether emergence of lists is above that of natural text of as many tokens, over the seeds that both have."""
    seeds = sorted(set(subject.lists) & set(subject.text))
    lists, text = ({seed: runs[seed] for seed in seeds} for runs in (subject.lists, subject.text))
    subject = replace(subject, lists=lists, text=text)
    found = lists_minus_text(subject)
    if found is None:
        return Judgement(verdict="not measured", reason="no text and lists of one length and seed")
    at, difference = found
    if difference is None:
        return REFUSED
    n_shots = next(row.n_shots for row in next(iter(subject.lists.values()))[0].summary if row.position == at - 1)
    of_lists, of_text = ceiling(subject.lists, n_shots), ceiling(subject.text, at)
    assert of_lists is not None and of_text is not None, "an emergence without refusals has a ceiling"
    is_less = difference.high < of_lists - of_text
    but = ", so lists stay further below theirs" if is_less else ""
    return Judgement(
        verdict=_agrees(difference.sign),
        reason=f"lists minus text at token {at}: {signed(difference)} bits; of their ceilings: "
        f"{of_lists - of_text:+.2f}{but}",
    )


def spread_grows(subject: Subject) -> Judgement:
    """Whether the spread over blocks is larger at the last shot than at the first and falls nowhere between."""
    if subject.model.n_blocks < 3:
        return Judgement(verdict="undecided", reason="too few blocks for a spread")
    return rises(gains(subject.lists, subject.n_shots, reading=variance_over_blocks), "shot")


def spread_grows_where_flat(subject: Subject) -> Judgement:
    """Whether the spread grows at the shots where emergence has stopped rising, as `flattens` has it."""
    if subject.model.n_blocks < 3:
        return Judgement(verdict="undecided", reason="too few blocks for a spread")
    flat = flattens(subject)
    if flat.verdict == "refused":
        return REFUSED
    if flat.verdict != "agrees":
        return Judgement(verdict="undecided", reason="no flattening of emergence is settled")
    known = [step for step in gains(subject.lists, subject.n_shots) if step is not None]
    shots = flattening(known).flat
    spreads = gains(subject.lists, subject.n_shots, reading=variance_over_blocks)
    found = [spread for shot in shots if (spread := spreads[shot - 2]) is not None]
    if len(found) < len(shots):
        return REFUSED
    signs = {spread.sign for spread in found}
    verdict: Verdict = "agrees" if signs == {1} else "disagrees" if -1 in signs else "undecided"
    in_words = {"agrees": "grows", "disagrees": "falls", "undecided": "has no settled change"}[verdict]
    partly = " at some of them" if len(signs) > 1 else ""
    return Judgement(
        verdict=verdict,
        reason=f"where emergence does not rise (shot {_listed(shots)}) the spread {in_words}{partly}",
    )


def ladder(measured: Measured) -> list[Subject]:
    """The sizes that are measured, from the smallest."""
    return sorted(
        (measured.subjects[name] for name in LADDER if name in measured.subjects),
        key=lambda subject: subject.model.n_parameters,
    )


def size_readings(measured: Measured) -> dict[str, list[Interval | None]]:
    """What may grow along the ladder, by name, one number a size."""
    found = ladder(measured)
    names = [subject.name for subject in found]
    tasks = tasks_asked(measured.performance, names)

    def excess(control: Condition) -> list[Interval | None]:
        return [over(subject.lists, control, subject.n_shots, after_first_block) for subject in found]

    return {
        "emergence, mean over blocks": [contrast(Term(runs=one.lists, n_shots=one.n_shots)) for one in found],
        "emergence after block 0": [
            contrast(Term(runs=one.lists, n_shots=one.n_shots), reading=after_first_block) for one in found
        ],
        "over twin, after block 0": excess("untrained_twin"),
        "over random words, after block 0": excess("random_words"),
        "accuracy above chance, ranked lists": [above_chance(measured.performance, one, RANKED_TASKS) for one in names],
        "accuracy above chance, all tasks": [above_chance(measured.performance, one, tasks) for one in names],
    }


def grows(sizes: Sequence[int], numbers: Sequence[Interval | None]) -> Judgement:
    """Whether numbers grow with size: by the order of their values, and by the steps whose intervals settle them."""
    known = [(size, number) for size, number in zip(sizes, numbers, strict=True) if number is not None]
    if len(known) < 2:
        return Judgement(verdict="not measured", reason=f"{len(known)} of {len(LADDER)} sizes")
    values = [round(number.value, 6) for _, number in known]  # as in records, so that rounding breaks no tie
    found = rank_correlation([float(size) for size, _ in known], values)
    steps = [combined((1, after), (-1, before)).sign for (_, before), (_, after) in zip(known, known[1:], strict=False)]
    ups, downs = steps.count(1), steps.count(-1)
    is_settled = found.rho is not None and found.p < SIGNIFICANT
    verdict: Verdict = "undecided" if not is_settled else "agrees" if (found.rho or 0) > 0 else "disagrees"
    rho = "undefined" if found.rho is None else f"{found.rho + 0.0:+.2f}"
    possible = (
        "" if found.smallest_p < SIGNIFICANT else f"; so few that even a perfect order has p = {found.smallest_p:.2f}"
    )
    return Judgement(
        verdict=verdict,
        reason=f"rank correlation {rho}, n = {found.n}, p = {found.p:.3f}{possible}; of {len(steps)} steps up in size "
        f"{ups} rise, {downs} fall, {len(steps) - ups - downs} are not settled",
    )


def changes(measured: Measured, original: str) -> list[Change]:
    """Every version of a model in fewer bits against it, from the most bits."""
    return [_change(measured, original, n_bits) for n_bits in BITS]


def abilities(measured: Measured, original: str) -> Judgement:
    """Whether 4 bits keep most of the accuracy above chance, and 2 bits lose most of it."""
    by_bits = {change.n_bits: change for change in changes(measured, original)}
    keeps, loses = by_bits[KEEPS_BITS].kept, by_bits[LOSES_BITS].kept
    known = [f"{n_bits} bits {_KEPT[kept.sign]}" for n_bits, kept in ((KEEPS_BITS, keeps), (LOSES_BITS, loses)) if kept]
    reason = ", ".join(known) or "no version in fewer bits was asked"
    known_at_all = above_chance(measured.performance, original, common_tasks(measured, original))
    if known_at_all is not None and known_at_all.sign <= 0:
        return Judgement(verdict="undecided", reason="the original is not shown to be above chance: nothing to lose")
    if keeps is None or loses is None:
        missing = " and ".join(f"{n} bits" for n, kept in ((KEEPS_BITS, keeps), (LOSES_BITS, loses)) if kept is None)
        return Judgement(verdict="not measured", reason=f"{reason}; not measured: {missing}" if known else reason)
    if keeps.sign > 0 and loses.sign < 0:
        return Judgement(verdict="agrees", reason=reason)
    return Judgement(verdict="disagrees" if keeps.sign < 0 or loses.sign > 0 else "undecided", reason=reason)


def emergence_follows(measured: Measured, original: str) -> Judgement:
    """Whether emergence changes to the same side as accuracy at every number of bits.

    Only settled changes tell: two that are not settled may be as contrary as they may be alike.
    """
    both = [
        (change.n_bits, change.emergence, change.accuracy)
        for change in changes(measured, original)
        if change.emergence is not None and change.accuracy is not None
    ]
    if not both:
        return Judgement(verdict="not measured", reason="no version has emergence and accuracy")
    reason = "; ".join(
        f"{n_bits} bits: accuracy {_MOVES[accuracy.sign]}, emergence {_MOVES[emergence.sign]}"
        for n_bits, emergence, accuracy in both
    )
    products = [emergence.sign * accuracy.sign for _, emergence, accuracy in both]
    verdict: Verdict = "disagrees" if -1 in products else "undecided" if 0 in products else "agrees"
    return Judgement(verdict=verdict, reason=reason)


def first_changes(measured: Measured, original: str) -> str:
    """At how many bits a change of accuracy and of emergence is first settled, coming from the most."""
    found = changes(measured, original)
    parts = []
    for name, numbers in (
        ("accuracy", [(change.n_bits, change.accuracy) for change in found]),
        ("emergence", [(change.n_bits, change.emergence) for change in found]),
    ):
        known = [(n_bits, number) for n_bits, number in numbers if number is not None]
        first = next(((n_bits, number) for n_bits, number in known if number.sign), None)
        if not known:
            parts.append(f"{name} is not measured yet")
        elif first is None:
            parts.append(f"{name} {_MOVES[0]} at {_listed([n_bits for n_bits, _ in known])} bits")
        else:
            above = [(n_bits, number) for n_bits, number in numbers if n_bits > first[0]]
            unsettled = [n_bits for n_bits, number in above if number is not None]
            missing = [n_bits for n_bits, number in above if number is None]
            remarks = [
                f"{_listed(of)} bits {said}"
                for of, said in ((unsettled, _MOVES[0]), (missing, "not measured yet"))
                if of
            ]
            but = f" ({', '.join(remarks)})" if remarks else ""
            parts.append(f"{name} {_MOVES[first[1].sign]} at {first[0]} bits first{but}")
    return ", ".join(parts)


def signed(number: Interval | None) -> str:
    """With its sign and half its interval."""
    return "refused" if number is None else with_half_width(number.value, half(number), signed=True)


_KEPT = {1: "keep most", -1: "lose most", 0: "not settled"}
_MOVES = {1: "rises", -1: "falls", 0: "not settled"}


def _change(measured: Measured, original: str, n_bits: int) -> Change:
    name = f"{original}@int{n_bits}"
    one, other = measured.subjects.get(original), measured.subjects.get(name)
    emergence = words = None
    if one is not None and other is not None:
        n_shots = min(one.n_shots, other.n_shots)
        now, before = Term(runs=other.lists, n_shots=n_shots), Term(weight=-1, runs=one.lists, n_shots=n_shots)
        emergence = contrast(now, before)
        words = contrast(
            now,
            before,
            Term(weight=-1, runs=other.lists, condition="random_words", n_shots=n_shots),
            Term(runs=one.lists, condition="random_words", n_shots=n_shots),
        )
    tasks = common_tasks(measured, original)
    before_it, after_it = (above_chance(measured.performance, model, tasks) for model in (original, name))
    accuracy = kept = None
    if name in measured.performance and original in measured.performance and before_it and after_it:
        accuracy, kept = (combined((1, after_it), (-share, before_it)) for share in (1, MOST))
    return Change(
        n_bits=n_bits,
        emergence=emergence,
        over_random_words=words,
        accuracy=accuracy,
        kept=kept,
        has_no_common_seed=one is not None and other is not None and not set(one.lists) & set(other.lists),
    )


def _agrees(sign: int) -> Verdict:
    return "agrees" if sign > 0 else "disagrees" if sign < 0 else "undecided"


def _less(one: Interval, other: Interval) -> bool:
    return combined((1, one), (-1, other)).sign < 0


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
