"""Pictures as bytes: the same figure gives the same bytes on every machine, and says in words what it shows.

No pyplot: nothing here is global.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.escape import printable

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
}


def drawn(
    draw: Callable[[Figure], None], *, title: str, description: str, salt: str, width: float, height: float
) -> bytes:
    """The SVG of a figure with its title, and a description for readers who do not see it.

    Args:
        draw: puts axes on an empty white figure.
        salt: of the ids within the picture.
        width, height: in inches.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # names in other scripts show as boxes
        matplotlib.rcdefaults()  # a reader's own matplotlibrc must not change the bytes
        matplotlib.rcParams.update(SETTINGS | {"svg.hashsalt": salt})
        figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, fontsize=11, fontweight="bold")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return _described(buffer.getvalue(), title, description)


def _described(svg: bytes, title: str, description: str) -> bytes:
    """The same picture with a description after its title."""
    mark = f"<title>{escape(title)}</title>".encode()
    assert svg.count(mark) == 1, "the title is where the description goes"
    return svg.replace(mark, mark + f"\n <desc>{escape(printable(description))}</desc>".encode())
