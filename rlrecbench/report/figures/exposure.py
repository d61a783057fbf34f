"""What is recommended against what people chose: shares of the eight popularity groups, as Flower's Fig. 2.

A panel per row. Bars are the groups' shares of the top-k lists of all users, k that of the primary metric, as means
over seeds with the standard deviation; black lines are the groups' shares of the training histories.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from rlrecbench.metrics import parse
from rlrecbench.report.figures import style
from rlrecbench.report.shares import group_shares
from rlrecbench.report.table import Table
from rlrecbench.report.words import number
from rlrecbench.results import Block, Record, Results

Floats = NDArray[np.float64]
_COLUMNS = 4


class Panel(NamedTuple):
    """One row."""

    label: str
    shares: Floats  # of the groups in the lists, seed by seed, [S, 8]


def draw_exposure(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw ``exposure-<data set>-<label>`` for each block whose lists can be read.

    Returns:
        The files written.

    Raises:
        StoreError: A file is broken, or cannot be written.
    """
    looks, written = style.looks(results, table), []
    k = parse(table.config.primary).k
    for block in results.blocks(table.config.rows):
        reference = results.reference(block.dataset)
        panels = [Panel(row, found) for row, rs in block.records.items() if len(found := _shares(results, rs, k))]
        if reference is None or not panels:
            continue
        figure = draw(
            f"{style.place(block)}: top {k} by popularity group (0: most popular)", reference.group_share, panels, looks
        )
        written += style.save(figure, folder, f"exposure-{_name(block)}")
    return written


def draw(title: str, history: Floats, panels: Sequence[Panel], looks: dict[str, style.Look]) -> Figure:
    """Draw the panels.

    Args:
        title: What stands above them.
        history: Shares of the groups in the training histories, [8].
        panels: The rows, at least one.
        looks: By row.
    """
    lines = -(-len(panels) // _COLUMNS)
    columns = -(-len(panels) // lines)
    figure = style.sheet(style.COLUMN if columns < 3 else style.TEXT, 1.35 * lines + 0.85, title)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, history, looks[panel.label].colour)
    style.rest(grid, len(panels))
    for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.set_xticks(range(len(history)))
        axes.set_xlabel("popularity group", fontsize=7)
    for axes in grid[:, 0]:
        axes.set_ylabel("share", fontsize=7)
    handles = [
        Patch(color=style.GREY, label="recommended"),
        Line2D([], [], color="black", label="training histories"),
    ]
    style.legend(figure, handles, spread=any(len(panel.shares) > 1 for panel in panels))
    return figure


def _panel(axes: Axes, panel: Panel, history: Floats, colour: str) -> None:
    x = np.arange(len(history))
    spread = panel.shares.std(0, ddof=1) if len(panel.shares) > 1 else None
    axes.bar(x, panel.shares.mean(0), 0.78, color=colour, yerr=spread, error_kw={"elinewidth": 0.7, "ecolor": "0.45"})
    halo = [withStroke(linewidth=2.6, foreground="white")]  # for black bars
    axes.hlines(history, x - 0.46, x + 0.46, color="black", linewidth=1.3, path_effects=halo)
    unfair = float(np.ptp(panel.shares - history, axis=1).mean())
    axes.set_title(f"{panel.label}\nDGU {number(unfair)}", loc="left", fontsize=7)
    axes.grid(axis="y")
    axes.set_xlim(-0.7, len(history) - 0.3)


def _shares(results: Results, records: Sequence[Record], k: int) -> Floats:
    """Shares of the groups in each record's lists, [S, 8]; records that recommend nothing are left out."""
    return np.array([shares for r in records if (shares := group_shares(results, r, k)) is not None])


def _name(block: Block) -> str:
    return style.place(block, dash="-")
