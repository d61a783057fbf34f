"""What accuracy costs: the primary metric against fairness, diversity and the time of training, with the fronts.

A point is a row's means over seeds, with standard deviations. The front joins the points that no other one beats in
both at once.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isnan, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlrecbench.report.figures import style
from rlrecbench.report.figures.labels import annotate
from rlrecbench.report.layouts import aspect
from rlrecbench.report.table import Column, Table
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import Direction

TRAINING = Column("training, s", "lower", "list")  # seconds of training, those of the start included
_NAMED = 12  # rows up to which every point has its name beside it; above, those on a front, and a legend
_EDGE = "0.55"  # grey
_DECADES = 1.0  # from so many powers of ten on the axis is logarithmic


class Point(NamedTuple):
    """A row: means over seeds and standard deviations, 0 with one seed."""

    label: str
    x: float
    y: float
    x_spread: float
    y_spread: float


def draw_pareto(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw ``pareto-<data set>-<label>`` for each block with two rows or more.

    Returns:
        The files written.

    Raises:
        StoreError: A file cannot be written.
    """
    looks, written = style.looks(results, table), []
    y = style.primary(table)
    against = [next((c for c in table.columns if aspect(c) == name), None) for name in ("fairness", "diversity")]
    for block in results.blocks(table.config.rows):
        panels = [(c, found) for c in (*against, TRAINING) if c is not None and len(found := points(block, c, y)) > 1]
        if panels:
            figure = draw(style.place(block), y, panels, looks)
            written += style.save(figure, folder, f"pareto-{style.place(block, dash='-')}")
    return written


def points(block: Block, x: Column, y: Column) -> list[Point]:
    """The rows of a block that have both."""
    out = []
    for label, records in block.records.items():
        xs, ys = ([v for r in records if not isnan(v := _value(r, column))] for column in (x, y))
        if xs and ys:
            spreads = (float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in (xs, ys))
            out.append(Point(label, float(np.mean(xs)), float(np.mean(ys)), *spreads))
    return out


def front(found: Sequence[Point], x: Direction, y: Direction) -> list[Point]:
    """The points that no other one beats in one direction without losing in the other, from the best x on."""
    a, b = (1.0 if better == "higher" else -1.0 for better in (x, y))
    best, out = -np.inf, []
    for point in sorted(found, key=lambda p: (-a * p.x, -b * p.y)):
        if b * point.y > best:
            best = b * point.y
            out.append(point)
    return out


def draw(
    title: str, y: Column, panels: Sequence[tuple[Column, Sequence[Point]]], looks: dict[str, style.Look]
) -> Figure:
    """Draw the panels.

    Args:
        title: What stands above them.
        y: The primary metric.
        panels: What stands on the other axis, and the points.
        looks: By row.
    """
    width = {1: style.COLUMN, 2: 5.2}.get(len(panels), style.TEXT)
    labels = list(dict.fromkeys(p.label for _, found in panels for p in found))
    legend = len(labels) > _NAMED
    figure = style.sheet(
        width, 2.75 + (0.16 * (len(labels) // style.legend_columns(width, labels)) if legend else 0), title
    )
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (x, found) in zip(grid, panels, strict=True):
        _panel(axes, x, y, found, looks)
    grid[0].set_ylabel(style.head(y))
    handles = [Line2D([], [], color=_EDGE, marker="o", markerfacecolor="white", markeredgecolor="black", label="front")]
    if legend:
        handles += [Line2D([], [], color=looks[n].colour, marker=looks[n].marker, ls="", label=n) for n in labels]
    style.legend(figure, handles, spread=any(p.x_spread or p.y_spread for _, found in panels for p in found))
    style.settle(figure)
    for axes, (x, found) in zip(grid, panels, strict=True):
        edge = front(found, x.better, y.better)
        named = {p.label for p in edge} if legend else set(labels)
        order = sorted(found, key=lambda p: p.label not in named)
        lines = [end for p in found for end in _bars(p)] + [
            end for a, b in pairwise(edge) for end in ((a.x, a.y, b.x, a.y), (b.x, a.y, b.x, b.y))
        ]
        annotate(figure, axes, [(p.x, p.y, p.label if p.label in named else "") for p in order], lines)
    return figure


def _panel(axes: Axes, x: Column, y: Column, found: Sequence[Point], looks: dict[str, style.Look]) -> None:
    edge = front(found, x.better, y.better)
    axes.plot([p.x for p in edge], [p.y for p in edge], color=_EDGE, drawstyle="steps-post", zorder=1, label="front")
    for p in found:
        look = looks[p.label]
        rim: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.9} if p in edge else {}
        spreads: dict[str, Any] = {"yerr": p.y_spread or None, "xerr": p.x_spread or None, "elinewidth": 0.6}
        axes.errorbar(p.x, p.y, color=look.colour, marker=look.marker, label=p.label, zorder=2, **spreads, **rim)
    xs = [p.x for p in found]
    if min(xs) > 0 and log10(max(xs) / min(xs)) >= _DECADES:
        axes.set_xscale("log")
    axes.margins(0.16)
    axes.set_xlabel(style.head(x))
    axes.grid()


def _bars(p: Point) -> list[tuple[float, float, float, float]]:
    """Ends of a point's error bars."""
    return [
        (p.x - p.x_spread, p.y, p.x + p.x_spread, p.y),
        (p.x, p.y - p.y_spread, p.x, p.y + p.y_spread),
    ]


def _value(record: Record, column: Column) -> float:
    if column is not TRAINING:
        return record.metrics.get(column.metric, float("nan"))
    own, start = (record.cost.get(name) for name in ("train_s", "start_train_s"))
    return float("nan") if own is None else float(own) + float(start or 0)
