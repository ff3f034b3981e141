"""Performance records -> one picture: accuracy over shots with intervals, one panel a task, one line a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.escape import printable
from bench.performance import Cell
from bench.store import StoredPerformance
from proxies.kinds import made_from_another
from proxies.performance import Subject, by_subject, cells_of
from proxies.svg import drawn

TITLE = "Accuracy over shots, with 95 % intervals"

N_COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 2.5, 1.75
"""Inches."""

MAX_LINES = 8
"""Lines that can be told apart in one panel; the tables of the report have all."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#666666")
"""Okabe & Ito 2008, which differ for colour-blind readers too; so do the markers."""
MARKERS = "osD^vPX*"

CHANCE_COLOUR = "#999999"


def picture(stored: Sequence[StoredPerformance]) -> bytes:
    """An SVG with a panel for each task; shots are evenly spaced, a dashed line is chance.

    Derived models (`NAME@int4` and the like) and checkpoints of a training are left to the tables.
    """
    originals = [one for one in by_subject(stored).items() if made_from_another(one[0].model) is None]
    subjects = dict(originals[:MAX_LINES])
    tasks = sorted({task for by_task in subjects.values() for task in by_task})
    curves = {
        task: {subject: cells_of(by_task[task]) for subject, by_task in subjects.items() if task in by_task}
        for task in tasks
    }
    shots = sorted({n_shots for lines in curves.values() for cells in lines.values() for n_shots in cells})
    n_rows = max(1, math.ceil(len(tasks) / N_COLUMNS))

    def draw(figure: Figure) -> None:
        if not tasks:
            figure.text(0.5, 0.4, "nothing was asked", ha="center", color="#666666")
            return
        grid = figure.subplots(n_rows, N_COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, task in zip(grid.flat, tasks, strict=False):
            _draw_task(axes, task, curves[task], list(subjects), shots)
        for axes in list(grid.flat)[len(tasks) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy")
        for axes in list(grid.flat)[max(0, len(tasks) - N_COLUMNS) : len(tasks)]:
            axes.set_xlabel("shots")
            axes.tick_params(labelbottom=True)
        handles = [
            Line2D([], [], color=COLOURS[place], marker=MARKERS[place], markersize=4, label=_plain(subject.label))
            for place, subject in enumerate(subjects)
        ]
        handles.append(Line2D([], [], color=CHANCE_COLOUR, linestyle="--", linewidth=0.8, label="chance"))
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)

    return drawn(
        draw,
        title=TITLE,
        description=_description(curves),
        salt="performance",
        width=PANEL_WIDTH * N_COLUMNS,
        height=PANEL_HEIGHT * n_rows + 0.9,
    )


def _draw_task(
    axes: Axes,
    task: str,
    lines: Mapping[Subject, Mapping[int, Cell]],
    subjects: Sequence[Subject],
    shots: Sequence[int],
) -> None:
    axes.set_title(_plain(task))
    axes.set_xticks(range(len(shots)), [str(n_shots) for n_shots in shots])
    axes.set_xlim(-0.3, len(shots) - 0.7)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    for subject, cells in lines.items():
        place = subjects.index(subject)
        known = [cells[n_shots] for n_shots in sorted(cells) if cells[n_shots].accuracy is not None]
        at = [shots.index(cell.n_shots) for cell in known]
        values = [cell.accuracy or 0.0 for cell in known]
        axes.fill_between(
            at, [cell.low or 0.0 for cell in known], [cell.high or 0.0 for cell in known],
            color=COLOURS[place], alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot(at, values, color=COLOURS[place], marker=MARKERS[place], markersize=3.5, linewidth=1.3)
    chance = [cell.chance for cells in lines.values() for cell in cells.values()]
    if chance and max(chance) > 0:
        axes.axhline(sum(chance) / len(chance), color=CHANCE_COLOUR, linestyle="--", linewidth=0.8)


def _plain(text: str) -> str:
    """In characters that the font has."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in printable(text))
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _description(curves: Mapping[str, Mapping[Subject, Mapping[int, Cell]]]) -> str:
    """Every line in words."""
    parts = [
        f"{task}, {subject.label}: "
        + ", ".join(f"{cells[n].accuracy:.2f} at {n} shots" for n in sorted(cells) if cells[n].accuracy is not None)
        + "."
        for task, lines in curves.items()
        for subject, cells in lines.items()
    ]
    return " ".join(parts) or "Nothing was asked."
