"""A picture of how well methods fit a distribution over titles: a panel per method, as Flower's Fig. 4.

Each record of such a cell has a ``titles.parquet``: item_id, title and weight (occurrences in the distribution), how
often the title was ``sampled`` from the policy and how often it is in the ``floor``, a sample of the same size from the
distribution, and the policy's ``exact`` probability of it.

Titles stand from the most to the least frequent. The grey area is their share of the distribution; beside it stand,
for every seed, what the policy gives each title and its share of what the policy drew. A title that was never drawn
has no dot.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rlrecbench.errors import StoreError
from rlrecbench.metrics.fitting import js
from rlrecbench.report.figures import style
from rlrecbench.report.leaderboard import declared
from rlrecbench.report.shares import TITLES
from rlrecbench.report.words import number
from rlrecbench.results import Block, Record, Results

Floats = NDArray[np.float64]
# Source: Okabe and Ito (2008), a palette for all kinds of colour vision.
_EXACT, _SAMPLED, _TARGET = "#0072B2", "#D55E00", style.GREY
_COLUMNS = 3
_LINES = 200  # titles up to which a policy's shares are joined to a line
_BELOW = 20.0  # the axis begins so many times below the least share of the distribution


@dataclass(frozen=True, eq=False)
class Panel:
    """One method.

    Attributes:
        label: Its name.
        sampled: How often each title was drawn, seed by seed, [S, T].
        exact: Probability that the policy gives each title, seed by seed, [S, T].
    """

    label: str
    sampled: Floats
    exact: Floats


def draw_fits(results: Results, folder: Path) -> list[Path]:
    """Draw ``fit-<data set>-<label>`` for each block of the leaderboard in which a distribution was fitted.

    Returns:
        The files written.

    Raises:
        StoreError: A file is broken, or cannot be written.
    """
    written = []
    for block in results.blocks(declared(results, {}).rows):
        fitted = {row: there for row, records in block.records.items() if (there := [r for r in records if _has(r)])}
        if fitted:
            with style.styled():
                written += style.save(_draw_block(block, fitted), folder, f"fit-{style.place(block, dash='-')}")
    return written


def _has(record: Record) -> bool:
    return (record.path / TITLES).is_file()


def _draw_block(block: Block, fitted: Mapping[str, list[Record]]) -> Figure:
    tables = {row: [_read(record.path / TITLES) for record in records] for row, records in fitted.items()}
    panels = [
        Panel(row, *(np.stack([t[name].to_numpy(np.float64) for t in seeds]) for name in ("sampled", "exact")))
        for row, seeds in tables.items()
    ]
    first = next(iter(tables.values()))[0]
    weight = first["weight"].to_numpy(np.float64)
    floor = js(weight, first["floor"].to_numpy(np.float64))
    return draw(f"{style.place(block)}: {len(weight)} titles", weight, panels, floor=floor)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=["weight", "sampled", "floor", "exact"])
    except (OSError, KeyError, pa.ArrowException) as e:
        raise StoreError(f"{path} cannot be read: {e}; remove the cell's folder and run the suite again") from e


def draw(title: str, weight: Floats, panels: Sequence[Panel], *, floor: float | None = None) -> Figure:
    """Draw the panels.

    Args:
        title: What stands above them.
        weight: The distribution: occurrences of each title, above 0, [T].
        panels: The methods, at least one.
        floor: Jensen-Shannon divergence of one sample of the same size from the distribution itself.
    """
    order = np.argsort(-weight, kind="stable")
    share = weight[order] / weight.sum()
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(panels))))
    rows = -(-len(panels) // columns)
    width = style.COLUMN if columns == 1 else style.TEXT
    figure = style.sheet(width, 0.62 * width / columns * rows + 0.8, title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    style.rest(grid, len(panels))
    bottom = share[-1] / _BELOW
    top = max(share[0], *(float(_shares(p.sampled).max()) for p in panels), *(float(p.exact.max()) for p in panels))
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, share, order, weight, bottom)
    grid[0, 0].set_ylim(bottom, 1.5 * top)
    grid[0, 0].set_xlim(0.5, len(share) + 0.5)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axes in grid[:, 0]:
        axes.set_ylabel("share")
    for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("titles, most frequent first")
        axes.xaxis.set_tick_params(labelbottom=True)
    handles = [
        Patch(color=_TARGET, label="distribution"),
        Line2D([], [], color=_EXACT, label="policy, exact", **_exact(len(share))),
        Line2D([], [], color=_SAMPLED, linestyle="", marker=".", label="policy, sampled"),
    ]
    foot = "JS in nats, mean over seeds" + (
        "" if floor is None else f"; one sample of the distribution: {number(floor)}"
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=foot, title_fontsize=7)
    return figure


def _shares(counts: Floats) -> Floats:
    """Turn counts into shares of each row, [S, T]."""
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1))


def _exact(titles: int) -> dict[str, Any]:
    """How a policy's shares are drawn: a line, or dots where there are too many of them."""
    if titles <= _LINES:
        return {"linewidth": 1.0}
    return {"linestyle": "", "marker": ".", "markersize": 3.0, "markeredgewidth": 0}


def _panel(axes: Axes, panel: Panel, share: Floats, order: NDArray[np.int64], weight: Floats, bottom: float) -> None:
    """Draw one method over the distribution."""
    x = np.arange(1, len(share) + 1)
    axes.fill_between(x, bottom / 10, share, color=_TARGET, linewidth=0, step="mid")
    drawn = _shares(panel.sampled)[:, order]
    size = 14.0 if len(share) <= _LINES else 4.0
    for exact, sampled in zip(panel.exact[:, order], drawn, strict=True):
        there = sampled > 0
        axes.scatter(x[there], sampled[there], s=size, color=_SAMPLED, alpha=0.45, linewidths=0)
        axes.plot(x, np.maximum(exact, bottom / 10), color=_EXACT, alpha=0.9, **_exact(len(share)))
    of_sample = np.mean([js(weight, counts) for counts in panel.sampled])
    of_policy = np.mean([js(weight, p) for p in panel.exact])
    axes.set_yscale("log")
    axes.set_title(
        f"{panel.label}\nJS {number(float(of_policy))} exact, {number(float(of_sample))} sampled",
        loc="left",
        fontsize=7,
    )
    axes.grid(axis="y")
