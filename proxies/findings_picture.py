"""The numbers of the findings -> pictures, one a finding: small panels, one a model, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.escape import printable
from bench.intervals import Interval
from bench.records import Condition
from bench.suffixes import BITS
from proxies.findings_numbers import (
    LADDER,
    ORIGINALS,
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
    mean_over_blocks,
    spread_over_blocks,
    tasks_asked,
    versions,
)
from proxies.findings_tables import common_tasks_counted, plain_names
from proxies.findings_verdicts import ladder
from proxies.svg import drawn
from tasks import RANKED_TASKS

N_COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 2.4, 2.1
WIDE_WIDTH, WIDE_HEIGHT = 4.8, 3.2
"""Inches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one kind of number is drawn; colours of Okabe & Ito 2008, which differ for colour-blind readers too."""

    colour: str
    marker: str
    label: str


STYLES: dict[Condition, Style] = {
    "trained": Style(colour="#0072B2", marker="o", label="model"),
    "untrained_twin": Style(colour="#D55E00", marker="s", label="untrained twin"),
    "random_words": Style(colour="#009E73", marker="^", label="random words"),
}
TEXT_STYLE = Style(colour="#CC79A7", marker="D", label="natural text")
LISTS_STYLE = Style(colour="#0072B2", marker="o", label="lists")
ACCURACY_STYLES = (
    Style(colour="#000000", marker="o", label="accuracy, ranked lists"),
    Style(colour="#E69F00", marker="s", label="accuracy, all tasks"),
)
CEILING_COLOUR = "#777777"

Points = list[tuple[float, Interval]]
Lines = list[tuple[Style, Points]]


def pictures(measured: Measured) -> dict[str, bytes]:
    """Every picture by its file name."""
    return {
        "shots.svg": _shots(measured),
        "size.svg": _size(measured),
        "text.svg": _text(measured),
        "spread.svg": _spread(measured),
        "quantisation.svg": _quantisation(measured),
    }


def _plain_subjects(measured: Measured) -> list[Subject]:
    return [measured.subjects[name] for name in plain_names(measured) if name in measured.subjects]


def _shots_of(subject: Subject) -> range:
    return range(1, subject.n_shots + 1)


def _curve(runs: Runs, n_shots: int, condition: Condition = "trained") -> Points:
    """Emergence against the number of shots; what was refused is left out."""
    return _numbers(
        (shot, contrast(Term(runs=runs, condition=condition, n_shots=shot))) for shot in range(1, n_shots + 1)
    )


def _shots(measured: Measured) -> bytes:
    panels: dict[str, Lines] = {
        subject.name: [
            (style, _curve(subject.lists, subject.n_shots, condition)) for condition, style in STYLES.items()
        ]
        for subject in _plain_subjects(measured)
    }
    ceilings = {
        subject.name: [(CEILING_COLOUR, _ceilings(subject.lists, subject.n_shots))]
        for subject in _plain_subjects(measured)
    }
    return _small_panels(
        panels, ceilings, title="Emergence over shots, with 95 % intervals", salt="findings-shots",
        x="shots", y="emergence (bits)", styles=tuple(STYLES.values()), ceiling_label="ceiling of the model",
    )  # fmt: skip


def _text(measured: Measured) -> bytes:
    panels: dict[str, Lines] = {}
    ceilings: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
    for subject in _plain_subjects(measured):
        if subject.text:
            kinds = ((LISTS_STYLE, subject.lists, subject.n_shots), (TEXT_STYLE, subject.text, subject.n_tokens))
            panels[subject.name] = [
                (style, [(_tokens(runs, shot), number) for shot, number in _curve(runs, n)]) for style, runs, n in kinds
            ]
            ceilings[subject.name] = [
                (style.colour, [(_tokens(runs, shot), bits) for shot, bits in _ceilings(runs, n)])
                for style, runs, n in kinds
            ]
    return _small_panels(
        panels, ceilings, title="Emergence over tokens of lists and of natural text, with 95 % intervals",
        salt="findings-text", x="tokens", y="emergence (bits)", styles=(LISTS_STYLE, TEXT_STYLE),
        ceiling_label="ceiling of either",
    )  # fmt: skip


def _spread(measured: Measured) -> bytes:
    panels: dict[str, Lines] = {
        subject.name: [
            (style, _numbers((shot, spread_over_blocks(subject.lists, shot, condition)) for shot in _shots_of(subject)))
            for condition, style in STYLES.items()
        ]
        for subject in _plain_subjects(measured)
        if subject.model.n_blocks > 2
    }
    return _small_panels(
        panels, {}, title="Spread of emergence over the blocks of a model, with 95 % intervals",
        salt="findings-spread", x="shots", y="standard deviation (bits)", styles=tuple(STYLES.values()),
    )  # fmt: skip


def _size(measured: Measured) -> bytes:
    subjects = _plain_subjects(measured)
    on_ladder = ladder(measured)
    others = [subject for subject in subjects if subject.name not in LADDER]
    tasks = tasks_asked(measured.performance, [subject.name for subject in subjects])

    def emergence(group: Sequence[Subject], condition: Condition) -> Points:
        return _known(group, lambda one: _last(one, condition, after_first_block))

    def accuracy(group: Sequence[Subject], of: Sequence[str]) -> Points:
        return _known(group, lambda one: above_chance(measured.performance, one.name, of))

    left: dict[str, Lines] = {
        kind: [(style, emergence(group, condition)) for condition, style in STYLES.items()]
        for kind, group in (("ladder", on_ladder), ("others", others))
    }
    right: dict[str, Lines] = {
        kind: [(style, accuracy(group, of)) for style, of in zip(ACCURACY_STYLES, (RANKED_TASKS, tasks), strict=True)]
        for kind, group in (("ladder", on_ladder), ("others", others))
    }

    def draw(figure: Figure) -> None:
        if not subjects:
            _say_not_measured(figure)
            return
        for axes, by_kind, name in zip(
            figure.subplots(1, 2),
            (left, right),
            ("emergence after block 0 (bits)", "accuracy above chance"),
            strict=True,
        ):
            axes.set_xscale("log")
            axes.set_xlabel("parameters (millions)")
            axes.set_ylabel(name)
            axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
            for kind, lines in by_kind.items():
                for style, points in lines:
                    _draw_points(axes, style, points, is_hollow=kind == "others", is_line=kind == "ladder")
            _whole_millions(axes, subjects)
        for axes in figure.axes:
            for subject in others:
                at = subject.model.n_parameters / 1e6
                axes.annotate(
                    _plain(subject.name), (at, 1.01), xycoords=("data", "axes fraction"),
                    rotation=20, ha="left", va="bottom", fontsize=6.5, color="#555555",
                )  # fmt: skip
        apart = Line2D([], [], color="#555555", marker="o", linestyle="none", markerfacecolor="white")
        apart.set_label("not of the ladder")
        handles = [*_handles((*STYLES.values(), *ACCURACY_STYLES)), apart]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)

    return drawn(
        draw,
        title="Emergence and accuracy against size, with 95 % intervals",
        description=_described(_both(left, right), "million parameters"),
        salt="findings-size",
        width=2 * WIDE_WIDTH,
        height=WIDE_HEIGHT,
    )


def _quantisation(measured: Measured) -> bytes:
    places = ("original", *map(str, BITS))
    of_lists, of_all = ACCURACY_STYLES
    accuracy_styles = of_lists, replace(of_all, label=f"accuracy, {common_tasks_counted(measured)}")
    above: dict[str, Lines] = {}
    below: dict[str, Lines] = {}
    for original in ORIGINALS:
        names = versions(original)
        tasks = common_tasks(measured, original)
        found = [(place, measured.subjects[name]) for place, name in enumerate(names) if name in measured.subjects]
        above[original] = [
            (style, _numbers((place, _last(subject, condition)) for place, subject in found))
            for condition, style in STYLES.items()
        ]
        below[original] = [
            (style, _numbers((place, above_chance(measured.performance, name, of)) for place, name in enumerate(names)))
            for style, of in zip(accuracy_styles, (RANKED_TASKS, tasks), strict=True)
        ]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, len(ORIGINALS), sharex=True, sharey="row", squeeze=False)
        for row, by_model in enumerate((above, below)):
            for axes, (name, lines) in zip(grid[row], by_model.items(), strict=True):
                axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
                axes.set_xticks(range(len(places)), places)
                axes.set_xlim(-0.4, len(places) - 0.6)
                axes.axhline(0, color="#999999", linewidth=0.8, zorder=0)
                if row == 0:
                    axes.set_title(_plain(name))
                for style, points in lines:
                    _draw_points(axes, style, points)
        for axes, name in zip(grid[:, 0], ("emergence (bits)", "accuracy above chance"), strict=True):
            axes.set_ylabel(name)
        for axes in grid[1]:
            axes.set_xlabel("bits a weight of the blocks")
        figure.legend(
            handles=_handles((*STYLES.values(), *accuracy_styles)), loc="outside lower center", ncols=5, frameon=False
        )

    return drawn(
        draw,
        title="Emergence and accuracy with weights in fewer bits, with 95 % intervals",
        description=_described(_both(above, below), "(0: original, then fewer and fewer bits)"),
        salt="findings-quantisation",
        width=2 * WIDE_WIDTH,
        height=1.6 * WIDE_HEIGHT,
    )


def _small_panels(
    panels: dict[str, Lines],
    ceilings: dict[str, list[tuple[str, list[tuple[float, float]]]]],
    *,
    title: str,
    salt: str,
    x: str,
    y: str,
    styles: Sequence[Style],
    ceiling_label: str | None = None,
) -> bytes:
    """One panel a model, all on the same scales; ceilings are dashed lines."""
    n_columns = max(1, min(N_COLUMNS, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / N_COLUMNS))

    def draw(figure: Figure) -> None:
        if not panels:
            _say_not_measured(figure)
            return
        grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        for axes, (name, lines) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(_plain(name))
            axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
            for colour, line in ceilings.get(name, ()):
                axes.plot([at for at, _ in line], [bits for _, bits in line], color=colour, linestyle="--", linewidth=1)
            for style, points in lines:
                _draw_points(axes, style, points)
            steps = sorted({int(at) for _, points in lines for at, _ in points})
            axes.set_xticks(steps)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(y)
        for axes in list(grid.flat)[max(0, len(panels) - n_columns) : len(panels)]:
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
        handles = _handles(styles)
        if ceiling_label is not None:
            handles.append(Line2D([], [], color=CEILING_COLOUR, linestyle="--", linewidth=1, label=ceiling_label))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)

    return drawn(
        draw, title=title, description=_described(panels, x), salt=salt,
        width=max(6.4, PANEL_WIDTH * n_columns), height=max(2.6, PANEL_HEIGHT * n_rows) + 0.8,
    )  # fmt: skip


def _draw_points(axes: Axes, style: Style, points: Points, *, is_hollow: bool = False, is_line: bool = True) -> None:
    if not points:
        return
    axes.errorbar(
        [at for at, _ in points],
        [number.value for _, number in points],
        yerr=[
            [number.value - number.low for _, number in points],
            [number.high - number.value for _, number in points],
        ],
        color=style.colour,
        marker=style.marker,
        markersize=4,
        markerfacecolor="white" if is_hollow else style.colour,
        linestyle="-" if is_line else "none",
        linewidth=1.2,
        elinewidth=1,
        capsize=2,
    )


def _whole_millions(axes: Axes, subjects: Sequence[Subject]) -> None:
    """Ticks at powers of ten within what is shown, as plain numbers."""
    sizes = [subject.model.n_parameters / 1e6 for subject in subjects]
    low, high = min(sizes) / 1.6, max(sizes) * 1.6
    axes.set_xlim(low, high)
    ticks = [digit * 10.0**power for power in range(-2, 7) for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _known(group: Sequence[Subject], number_of: Callable[[Subject], Interval | None]) -> Points:
    return _numbers((subject.model.n_parameters / 1e6, number_of(subject)) for subject in group)


def _last(subject: Subject, condition: Condition, reading: Reading = mean_over_blocks) -> Interval | None:
    """A reading at the last shot."""
    return contrast(Term(runs=subject.lists, condition=condition, n_shots=subject.n_shots), reading=reading)


def _numbers(found: Iterable[tuple[float, Interval | None]]) -> Points:
    return [(float(at), number) for at, number in found if number is not None]


def _ceilings(runs: Runs, n_shots: int) -> list[tuple[float, float]]:
    found = [(float(shot), ceiling(runs, shot)) for shot in range(1, n_shots + 1)]
    return [(shot, bits) for shot, bits in found if bits is not None]


def _tokens(runs: Runs, shot: float) -> float:
    return float(next(iter(runs.values()))[0].summary[int(shot) - 1].position + 1)


def _handles(styles: Sequence[Style]) -> list[Line2D]:
    return [
        Line2D([], [], color=style.colour, marker=style.marker, markersize=4, label=style.label) for style in styles
    ]


def _say_not_measured(figure: Figure) -> None:
    figure.text(0.5, 0.4, "not measured yet", ha="center", color="#666666")


def _plain(text: str) -> str:
    """In characters that the font has."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in printable(text))
    return shown if len(shown) <= 30 else f"{shown[:27]}..."


def _both(emergence: dict[str, Lines], accuracy: dict[str, Lines]) -> dict[str, Lines]:
    """Two rows or columns of panels as one list of them."""
    sides = (("emergence", emergence), ("accuracy", accuracy))
    return {f"{name}, {side}": lines for side, by_name in sides for name, lines in by_name.items()}


def _described(panels: dict[str, Lines], unit: str) -> str:
    """Every line in words."""
    parts = [
        f"{name}, {style.label}: " + ", ".join(f"{number.value:.2f} at {at:g} {unit}" for at, number in points) + "."
        for name, lines in panels.items()
        for style, points in lines
        if points
    ]
    return " ".join(parts) or "Nothing was measured."
