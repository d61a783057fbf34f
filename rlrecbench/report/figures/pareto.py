"""What accuracy costs: the primary metric against fairness, diversity and the time of training, with the fronts.

A point is a row's means over seeds, with standard deviations. The front joins the points that no other one beats in
both at once. Rows without a point are named below the panel.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log10
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlrecbench.report.figures import style
from rlrecbench.report.figures.labels import annotate
from rlrecbench.report.fronts import front, measured, quality, with_start
from rlrecbench.report.layouts import aspect
from rlrecbench.report.table import Column, Row, Table
from rlrecbench.results import Block, Record, Results

TRAINING = Column("training with its start, s", "lower", "list")
_NAMED = 12  # rows up to which every point has its name beside it; above, those on a front, and a legend
_EDGE = "0.55"  # grey
_LETTER = 5.0  # points, the mean width of a letter of an axis' name
_DECADES = 1.0  # from so many powers of ten on the axis is logarithmic


class Point(NamedTuple):
    """A row: means over seeds and standard deviations, 0 with one seed."""

    label: str
    x: float
    y: float
    x_spread: float
    y_spread: float


class Panel(NamedTuple):
    """What stands against the primary metric."""

    x: Column
    points: list[Point]
    left_out: dict[str, list[str]]  # labels of the rows without a point, by the reason


def draw_pareto(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw ``pareto-<data set>-<label>`` for each block with two rows or more.

    Returns:
        The files written.

    Raises:
        StoreError: A file cannot be written.
    """
    looks, written = style.looks(results, table), []
    y = quality(table)
    against = [next((c for c in table.columns if aspect(c) == name), None) for name in ("fairness", "diversity")]
    for block, about in zip(results.blocks(table.config.rows), table.blocks, strict=True):
        drawn = [panel(block, about.rows, c, y) for c in (*against, TRAINING) if c is not None and c != y]
        panels = [p for p in drawn if len(p.points) > 1]
        if panels:
            figure = draw(style.place(block), y, panels, looks)
            written += style.save(figure, folder, f"pareto-{style.place(block, dash='-')}")
    return written


def panel(block: Block, rows: Sequence[Row], x: Column, y: Column) -> Panel:
    """Put the rows that have both in their places."""
    found, left_out = [], dict[str, list[str]]()
    for row in rows:
        a, b = (_value(row, block.records[row.label], column) for column in (x, y))
        if a is not None and b is not None:
            found.append(Point(row.label, a[0], b[0], a[1], b[1]))
        elif row.seeds:
            lacks = x if a is None else y
            left_out.setdefault("no training" if lacks is TRAINING else f"no {lacks.metric}", []).append(row.label)
    return Panel(x, found, left_out)


def edge(found: Sequence[Point], x: Column, y: Column) -> list[Point]:
    """The points on the front, from the best x on."""
    kept = [found[i] for i in front([(p.x, p.y) for p in found], (x.better, y.better))]
    return kept if x.better == "lower" else kept[::-1]


def draw(title: str, y: Column, panels: Sequence[Panel], looks: dict[str, style.Look]) -> Figure:
    """Draw the panels.

    Args:
        title: What stands above them.
        y: The primary metric.
        panels: What stands on the other axis, the points, and the rows without one.
        looks: By row.
    """
    width = {1: style.COLUMN, 2: 5.2}.get(len(panels), style.TEXT)
    labels = list(dict.fromkeys(p.label for panel in panels for p in panel.points))
    legend = len(labels) > _NAMED
    notes = [_note(panel, width / len(panels)) for panel in panels]
    height = 2.75 + 0.14 * max(map(len, notes))
    figure = style.sheet(
        width, height + (0.16 * (len(labels) // style.legend_columns(width, labels)) if legend else 0), title
    )
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (x, found, _), note in zip(grid, panels, notes, strict=True):
        _panel(axes, x, y, found, looks)
        axes.set_xlabel("\n".join([style.head(x), *note]))
    grid[0].set_ylabel(style.head(y))
    handles = [Line2D([], [], color=_EDGE, marker="o", markerfacecolor="white", markeredgecolor="black", label="front")]
    if legend:
        handles += [Line2D([], [], color=looks[n].colour, marker=looks[n].marker, ls="", label=n) for n in labels]
    style.legend(figure, handles, spread=any(p.x_spread or p.y_spread for panel in panels for p in panel.points))
    style.settle(figure)
    for axes, (x, found, _) in zip(grid, panels, strict=True):
        best = edge(found, x, y)
        named = {p.label for p in best} if legend else set(labels)
        order = sorted(found, key=lambda p: p.label not in named)
        lines = [end for p in found for end in _bars(p)] + [
            end for a, b in pairwise(best) for end in ((a.x, a.y, b.x, a.y), (b.x, a.y, b.x, b.y))
        ]
        annotate(figure, axes, [(p.x, p.y, p.label if p.label in named else "") for p in order], lines)
    return figure


def _panel(axes: Axes, x: Column, y: Column, found: Sequence[Point], looks: dict[str, style.Look]) -> None:
    best = edge(found, x, y)
    axes.plot([p.x for p in best], [p.y for p in best], color=_EDGE, drawstyle="steps-post", zorder=1, label="front")
    for p in found:
        look = looks[p.label]
        rim: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.9} if p in best else {}
        spreads: dict[str, Any] = {"yerr": p.y_spread or None, "xerr": p.x_spread or None, "elinewidth": 0.6}
        axes.errorbar(p.x, p.y, color=look.colour, marker=look.marker, label=p.label, zorder=2, **spreads, **rim)
    xs = [p.x for p in found]
    if min(xs) > 0 and log10(max(xs) / min(xs)) >= _DECADES:
        axes.set_xscale("log")
    axes.margins(0.16)
    axes.grid()


def _bars(p: Point) -> list[tuple[float, float, float, float]]:
    """Ends of a point's error bars."""
    return [
        (p.x - p.x_spread, p.y, p.x + p.x_spread, p.y),
        (p.x, p.y - p.y_spread, p.x, p.y + p.y_spread),
    ]


def _note(panel: Panel, width: float) -> list[str]:
    """Lines of some inches that name the rows without a point."""
    letters = int(72 * width * 0.8 / _LETTER)
    texts = [f"{why}: {', '.join(rows)}" for why, rows in panel.left_out.items()]
    return [line for text in texts for line in wrap(text, letters, break_on_hyphens=False)]


def _value(row: Row, records: Sequence[Record], column: Column) -> tuple[float, float] | None:
    """Mean and standard deviation over seeds, 0 with one seed; None where there is none."""
    if column is TRAINING:
        return with_start(records)
    value = measured(row, column.metric)
    return None if value is None else (value.mean, value.std or 0.0)
