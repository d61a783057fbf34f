"""How figures look: sizes in print, and a colour and a marker of its own for every row of the leaderboard."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rlrecbench.report import words
from rlrecbench.report.table import Block as Shown
from rlrecbench.report.table import Column, Table
from rlrecbench.results import NO_BACKBONE, Block, Results
from rlrecbench.store import unwritable

COLUMN, TEXT = 3.4, 7.0  # inches: a column and the width of the text of a two-column paper
GREY = "#BBBBBB"
# Source: Okabe and Ito (2008), a palette for all kinds of colour vision; yellow is too light for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")  # 7 and 11 share no factor: 77 pairs
_MOST = 5  # columns of a legend
_SIZE = 8.0  # points; Source: footnotes of a two-column paper
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": _SIZE,
    "axes.titlesize": _SIZE,
    "axes.labelsize": _SIZE,
    "xtick.labelsize": _SIZE - 1,
    "ytick.labelsize": _SIZE - 1,
    "legend.fontsize": _SIZE - 1,
    "figure.titlesize": _SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "errorbar.capsize": 1.5,
    "pdf.fonttype": 42,  # fonts as TrueType, which conferences ask for
    "axes.unicode_minus": True,
}
SPREAD = "error bars: standard deviation over seeds"


@dataclass(frozen=True)
class Look:
    """How a row is drawn, in every figure of a results folder."""

    colour: str  # of the palette
    marker: str  # tells rows apart in grey


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def looks(results: Results, table: Table) -> dict[str, Look]:
    """Give every row its look, by label."""
    labels = results.axes(table.config.rows).rows
    return {label: Look(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]) for i, label in enumerate(labels)}


def sheet(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of some inches, its parts kept apart."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontweight="bold")
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.pdf`` and ``<name>.png``; each appears whole or not at all, and the same bytes every time.

    Raises:
        StoreError: The folder cannot be written.
    """
    dates: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    settle(figure)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for form, metadata in dates.items():
            path = folder / f"{name}.{form}"
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            figure.savefig(temporary, format=form, dpi=150, metadata=metadata)
            temporary.replace(path)
            written.append(path)
    except OSError as e:
        raise unwritable(folder, e) from e
    return written


def settle(figure: Figure) -> None:
    """Put the parts of a figure in their final places."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


def place(block: Block | Shown, *, dash: str = " · ") -> str:
    """Data set and label of a block."""
    return block.dataset if block.label == NO_BACKBONE else f"{block.dataset}{dash}{block.label}"


def head(column: Column) -> str:
    """A metric with the direction that is better."""
    return f"{column.metric} {words.ARROW[column.better]}"


def legend(figure: Figure, handles: Sequence[Any], *, spread: bool) -> None:
    """Write a legend under a figure, as wide as fits; it says what error bars are if there are any."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_columns(figure.get_figwidth(), [h.get_label() for h in handles]),
        title=SPREAD if spread else None,
        title_fontsize=_SIZE - 1,
    )


def legend_columns(width: float, labels: Sequence[str]) -> int:
    """How many columns of labels stand side by side in some inches; at least one."""
    letter, gap = 0.58 * (_SIZE - 1), 34.0  # points
    for columns in range(min(len(labels), _MOST), 1, -1):
        lines = -(-len(labels) // columns)
        widest = [max(map(len, labels[i : i + lines])) for i in range(0, len(labels), lines)]
        if letter * sum(widest) + gap * columns <= 72 * width:
            return columns
    return 1


def rest(grid: NDArray[Any], used: int) -> None:
    """Hide the axes of a grid in which nothing is drawn."""
    for axes in grid.flat[used:]:
        axes.set_axis_off()
