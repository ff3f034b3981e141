"""The numbers and verdicts of the findings as Markdown, one block a finding. The same records give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.escape import markdown_cell
from bench.intervals import REFUSED, Interval, with_half_width
from bench.records import Condition
from bench.sources import checkpoint_of
from proxies.findings_numbers import (
    LADDER,
    ORIGINALS,
    SHOTS_OF_ACCURACY,
    Measured,
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
    over,
    repeats,
    spread_over_blocks,
    spread_over_seeds,
    spread_over_tasks,
    tasks_asked,
    variance_over_blocks,
    versions,
)
from proxies.findings_verdicts import (
    MOST,
    Judgement,
    Verdict,
    abilities,
    changes,
    controls_in_words,
    emergence_follows,
    first_changes,
    flattens,
    gains,
    grows,
    ladder,
    lists_above_text,
    rises,
    signed,
    size_readings,
    spread_grows,
    spread_grows_where_flat,
    text_rises,
)
from proxies.kinds import made_from_another
from proxies.markdown import table
from tasks import RANKED_TASKS

NOT_YET = "not measured yet"
ELSEWHERE = "measured under another setting"
NONE = "-"
"""Of a number that cannot be."""


def blocks(measured: Measured) -> dict[str, str]:
    """Every generated part of the document by name."""
    return {
        "setting": _setting(measured),
        "summary": _summary(measured),
        "shots": _shots(measured),
        "size": _size(measured),
        "text": _text(measured),
        "spread": _spread(measured),
        "quantisation": _quantisation(measured),
    }


def plain_names(measured: Measured) -> list[str]:
    """The models that the findings are about, measured or not: no checkpoints, nothing derived."""
    known = (*LADDER, *ORIGINALS)
    return [*known, *(name for name in measured.subjects if name not in known and made_from_another(name) is None)]


def _setting(measured: Measured) -> str:
    if measured.setting is None:
        return "Nothing is measured yet.\n"
    record = next(iter(next(iter(measured.subjects.values())).lists.values()))[0]
    headline = record.measurements["trained"].headline
    parts = [
        f"Emergence: mean over the lists {', '.join(RANKED_TASKS)}, preset {markdown_cell(record.key.preset)}, "
        f"{record.key.n_shots} of {record.key.n_names} names, {markdown_cell(record.key.estimator)} "
        f"({markdown_cell(headline)}). Accuracy: {SHOTS_OF_ACCURACY} shots, completion mode."
    ]
    for said in (NOT_YET, ELSEWHERE, REFUSED):
        if names := [name for name in plain_names(measured) if _missing(measured, name) == said]:
            parts.append(f"{said.capitalize()}: {_names(names)}.")
    return " ".join(parts) + "\n"


def _missing(measured: Measured, name: str) -> str | None:
    """Why a model has no numbers; None if it has."""
    if name in measured.subjects:
        return None
    return REFUSED if name in measured.refused else ELSEWHERE if name in measured.elsewhere else NOT_YET


def _judged(measured: Measured) -> list[tuple[str, list[tuple[str, Judgement]]]]:
    """Every finding with what each model says of it."""
    subjects = [measured.subjects[name] for name in plain_names(measured) if name in measured.subjects]
    sizes = [subject.model.n_parameters for subject in ladder(measured)]
    readings = size_readings(measured)
    originals = [name for name in ORIGINALS if name in measured.subjects or name in measured.performance]
    return [
        (
            "1. Emergence rises with every shot",
            [(one.name, rises(gains(one.lists, one.n_shots), "shot")) for one in subjects],
        ),
        ("1. ... and flattens after some of them", [(one.name, flattens(one)) for one in subjects]),
        *(
            (f"2. Along the ladder grows: {name}", [("the ladder", grows(sizes, numbers))])
            for name, numbers in readings.items()
        ),
        ("3. In natural text emergence rises with every token", [(one.name, text_rises(one)) for one in subjects]),
        ("3. In lists emergence is higher than in text", [(one.name, lists_above_text(one)) for one in subjects]),
        ("4. The spread of emergence grows with every shot", [(one.name, spread_grows(one)) for one in subjects]),
        ("4. ... where emergence stops rising", [(one.name, spread_grows_where_flat(one)) for one in subjects]),
        ("5. 4 bits keep abilities, 2 bits lose them", [(name, abilities(measured, name)) for name in originals]),
        ("5. Emergence changes where accuracy does", [(name, emergence_follows(measured, name)) for name in originals]),
    ]


def _summary(measured: Measured) -> str:
    columns: tuple[Verdict, ...] = ("agrees", "disagrees", "undecided", "refused", "not measured")
    rows = []
    for finding, judgements in _judged(measured):
        by_verdict = {
            verdict: [name for name, judgement in judgements if judgement.verdict == verdict] for verdict in columns
        }
        rows.append([finding, *(_names(by_verdict[verdict]) or NONE for verdict in columns)])
    return table(("finding", *columns), rows)


def _shots(measured: Measured) -> str:
    header = ("model", "shots", "emergence (bits)", "gain", "ceiling", "over twin", "over random words")
    rows, sentences = [], []
    for name in plain_names(measured):
        subject = measured.subjects.get(name)
        if subject is None:
            rows.append(_empty(measured, name, header))
            continue
        runs = subject.lists
        for shot in range(1, subject.n_shots + 1):
            rows.append(
                [
                    markdown_cell(name),
                    str(shot),
                    _bits(contrast(Term(runs=runs, n_shots=shot))),
                    signed(gain(runs, shot)) if shot > 1 else NONE,
                    _plain(ceiling(runs, shot)),
                    signed(over(runs, "untrained_twin", shot)),
                    signed(over(runs, "random_words", shot)),
                ]
            )
        rise, flat = rises(gains(runs, subject.n_shots), "shot"), flattens(subject)
        sentences.append(
            (name, f"rise: {_said(rise)}; flattening: {_said(flat)}. Controls: {controls_in_words(subject)}")
        )
    return table(header, rows) + _listing(sentences)


def _size(measured: Measured) -> str:
    header = (
        "model", "parameters", "blocks", "emergence (bits), mean over blocks", "after block 0",
        "over twin, after block 0", "over random words, after block 0", "accuracy above chance, ranked lists",
        "accuracy above chance, all tasks",
    )  # fmt: skip
    rows = []
    for name in plain_names(measured):
        subject = measured.subjects.get(name)
        rows.append(_empty(measured, name, header) if subject is None else _size_row(measured, subject))
    sizes = [subject.model.n_parameters for subject in ladder(measured)]
    sentences = [(reading, _said(grows(sizes, numbers))) for reading, numbers in size_readings(measured).items()]
    before_end = [(subject, checkpoint_of(name)) for name, subject in measured.subjects.items()]
    checkpoints = sorted(
        ((subject, found.step) for subject, found in before_end if found is not None and found.model in LADDER),
        key=lambda one: (one[0].model.n_parameters, one[1]),
    )
    apart = (
        "\nThe same models before the end of their training, which make no point of the ladder:\n\n"
        + table(header, [_size_row(measured, one) for one, _ in checkpoints])
        if checkpoints
        else ""
    )
    return table(header, rows) + _listing(sentences) + apart


def _size_row(measured: Measured, subject: Subject) -> list[str]:
    runs, shots = subject.lists, subject.n_shots
    tasks = tasks_asked(measured.performance, _asked_group(measured, subject.name))
    return [
        markdown_cell(subject.name),
        f"{subject.model.n_parameters / 1e6:,.2f} M",
        str(subject.model.n_blocks),
        _bits(contrast(Term(runs=runs, n_shots=shots))),
        _bits(contrast(Term(runs=runs, n_shots=shots), reading=after_first_block)),
        signed(over(runs, "untrained_twin", shots, after_first_block)),
        signed(over(runs, "random_words", shots, after_first_block)),
        _accuracy(measured, subject.name, RANKED_TASKS),
        _accuracy(measured, subject.name, tasks),
    ]


def _asked_group(measured: Measured, name: str) -> list[str]:
    """The models whose accuracies over all tasks are shown together: the sizes of the ladder, or the model alone."""
    return [subject.name for subject in ladder(measured)] if name in LADDER else [name]


def _text(measured: Measured) -> str:
    header = ("model", "population", "tokens", "emergence (bits)", "gain", "ceiling", "over twin", "over random words")
    rows, sentences = [], []
    for name in plain_names(measured):
        subject = measured.subjects.get(name)
        if subject is None:
            rows.append(_empty(measured, name, header))
            continue
        if not subject.text:
            rows.append([markdown_cell(name), f"text: {NOT_YET}", *[""] * (len(header) - 2)])
        for population, runs in (("text", subject.text), ("lists", subject.lists)):
            for shot in range(1, (subject.n_tokens if population == "text" else subject.n_shots) + 1):
                position = next(iter(runs.values()))[0].summary[shot - 1].position
                rows.append(
                    [
                        markdown_cell(name),
                        population,
                        str(position + 1),
                        _bits(contrast(Term(runs=runs, n_shots=shot))),
                        signed(gain(runs, shot)) if shot > 1 else NONE,
                        _plain(ceiling(runs, shot)),
                        signed(over(runs, "untrained_twin", shot)),
                        signed(over(runs, "random_words", shot)),
                    ]
                )
        if subject.text:
            sentences.append(
                (name, f"text: {_said(text_rises(subject))}; lists above text: {_said(lists_above_text(subject))}")
            )
    return table(header, rows) + _listing(sentences)


def _spread(measured: Measured) -> str:
    header = (
        "model", "shots", "over blocks", "untrained twin, over blocks", "random words, over blocks", "over tasks",
        "over seeds", "saturated blocks", "repeats",
    )  # fmt: skip
    rows, sentences = [], []
    for name in plain_names(measured):
        subject = measured.subjects.get(name)
        if subject is None:
            rows.append(_empty(measured, name, header))
            continue
        for shot in range(1, subject.n_shots + 1):
            rows.append(
                [
                    markdown_cell(name),
                    str(shot),
                    *(_spread_shown(subject, condition, shot) for condition in _CONDITIONS),
                    _plain(spread_over_tasks(subject.lists, shot)),
                    f"{_plain(spread_over_seeds(subject.lists, shot))} of {len(subject.lists)}"
                    if len(subject.lists) > 1
                    else NONE,
                    _saturated(subject.lists, shot),
                    _share(repeats(measured.performance.get(name, {}), shot)),
                ]
            )
        twin = _controls_spread(subject)
        sentences.append(
            (
                name,
                f"with shots: {_said(spread_grows(subject))}; where emergence stops rising: "
                f"{_said(spread_grows_where_flat(subject))}{twin}",
            )
        )
    return table(header, rows) + _listing(sentences)


_CONDITIONS: tuple[Condition, ...] = ("trained", "untrained_twin", "random_words")


def _spread_shown(subject: Subject, condition: Condition, shot: int) -> str:
    if subject.model.n_blocks < 3:
        return NONE
    found = spread_over_blocks(subject.lists, shot, condition)
    return REFUSED if found is None else _share(found)


def _controls_spread(subject: Subject) -> str:
    if subject.model.n_blocks < 3:
        return ""
    steps = gains(subject.lists, subject.n_shots, condition="untrained_twin", reading=variance_over_blocks)
    return f". That of the untrained twin: {rises(steps, 'shot').reason}"


def _saturated(runs: Runs, shot: int) -> str:
    records = [record for of_seed in runs.values() for record in of_seed]
    share = sum(record.summary[shot - 1].saturated_blocks / record.model.n_blocks for record in records) / len(records)
    return f"{share:.0%}"


def _quantisation(measured: Measured) -> str:
    compared = common_tasks_counted(measured)
    header = (
        "model", "bits", "emergence (bits)", "over twin", "over random words", "accuracy above chance, ranked lists",
        f"accuracy above chance, {compared}",
    )  # fmt: skip
    differences = (
        "model", "bits", "emergence", "over random words", f"accuracy, {compared}",
        f"accuracy minus {MOST:.0%} of the original's",
    )  # fmt: skip
    rows, changed, sentences = [], [], []
    for original in ORIGINALS:
        tasks = common_tasks(measured, original)
        for name in versions(original):
            bits = name.rpartition("@int")[2] if "@" in name else "original"
            rows.append(
                [
                    markdown_cell(original),
                    bits,
                    *_emergence_cells(measured, name),
                    _accuracy(measured, name, RANKED_TASKS),
                    _accuracy(measured, name, tasks),
                ]
            )
        for change in changes(measured, original):
            numbers = (change.emergence, change.over_random_words)
            missing = (_missing(measured, name) for name in (original, f"{original}@int{change.n_bits}"))
            status = next(filter(None, missing), "no common seed" if change.has_no_common_seed else REFUSED)
            changed.append(
                [
                    markdown_cell(original),
                    str(change.n_bits),
                    *(status if number is None else signed(number) for number in numbers),
                    *(
                        NOT_YET if number is None else _signed_share(number)
                        for number in (change.accuracy, change.kept)
                    ),
                ]
            )
        sentences.append(
            (
                original,
                f"{first_changes(measured, original)}. Abilities: {_said(abilities(measured, original))}. "
                f"Emergence beside accuracy: {_said(emergence_follows(measured, original))}",
            )
        )
    return (
        table(header, rows)
        + "\nDifferences from the original on the same seeds and questions:\n\n"
        + table(differences, changed)
        + _listing(sentences)
    )


def common_tasks_counted(measured: Measured) -> str:
    """How many tasks the accuracies of each original and its versions are compared on."""
    counts = {name: len(common_tasks(measured, name)) for name in ORIGINALS}
    known = {name: n for name, n in counts.items() if n}
    if len(set(known.values())) > 1:
        return "common tasks (" + ", ".join(f"{name}: {n}" for name, n in known.items()) + ")"
    return f"{next(iter(known.values()))} common tasks" if known else "common tasks"


def _emergence_cells(measured: Measured, name: str) -> list[str]:
    subject = measured.subjects.get(name)
    if subject is None:
        return [_missing(measured, name) or NONE] * 3
    runs, shots = subject.lists, subject.n_shots
    return [
        _bits(contrast(Term(runs=runs, n_shots=shots))),
        signed(over(runs, "untrained_twin", shots)),
        signed(over(runs, "random_words", shots)),
    ]


def _accuracy(measured: Measured, name: str, tasks: Sequence[str]) -> str:
    if name not in measured.performance or not set(tasks) <= set(measured.performance[name]):
        return NOT_YET
    if not tasks:
        return "no common tasks"
    found = above_chance(measured.performance, name, tasks)
    return "no answers" if found is None else f"{_share(found)}, {len(tasks)} tasks"


def _share(number: Interval | None) -> str:
    return NONE if number is None else f"{_two(number.value)} ({_two(number.low)} to {_two(number.high)})"


def _signed_share(number: Interval) -> str:
    return f"{_two(number.value, '+')} ({_two(number.low, '+')} to {_two(number.high, '+')})"


def _two(number: float, sign: str = "") -> str:
    rounded = round(number, 2)
    return f"{rounded:{sign}.2f}" if rounded else "0.00"


def _bits(number: Interval | None) -> str:
    return REFUSED if number is None else with_half_width(number.value, half(number))


def _plain(number: float | None) -> str:
    return REFUSED if number is None else f"{number:.2f}"


def _empty(measured: Measured, name: str, header: Sequence[str]) -> list[str]:
    return [markdown_cell(name), _missing(measured, name) or NONE, *[""] * (len(header) - 2)]


def _said(judgement: Judgement) -> str:
    return f"**{judgement.verdict}**, {judgement.reason}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(markdown_cell, names))


def _listing(sentences: Sequence[tuple[str, str]]) -> str:
    lines = [f"- {markdown_cell(name)}: {text}." for name, text in sentences]
    return "\n" + "\n".join(lines) + "\n" if lines else ""
