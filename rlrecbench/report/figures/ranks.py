"""The critical-difference diagram: average ranks over blocks, and which rows cannot be told apart (Demsar, 2006)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rlrecbench.report import words
from rlrecbench.report.figures import style
from rlrecbench.report.table import Table
from rlrecbench.results import Results
from rlrecbench.stats.blocks import CriticalDifference

_CLEAR = 0.15  # ranks between two bars in one line
_LINE = 0.19  # inches between two labels


def draw_ranks(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw ``ranks``, if there are blocks enough.

    Returns:
        The files written.

    Raises:
        StoreError: A file cannot be written.
    """
    if table.across is None or table.across.ranks is None:
        return []
    figure = draw(table.across.ranks, table.across.ranked, table.config.primary, style.looks(results, table))
    return style.save(figure, folder, "ranks")


def draw(found: CriticalDifference, labels: Sequence[str], metric: str, looks: dict[str, style.Look]) -> Figure:
    """Draw the diagram: the best rank is left, its half of the labels too; a bar's dots are the rows that it joins.

    Args:
        found: Ranks and groups.
        labels: Of the rows, in the order of the ranks.
        metric: Primary metric.
        looks: By row.
    """
    M = len(labels)
    order = sorted(range(M), key=lambda i: (found.ranks[i], i))
    sides = order[: (M + 1) // 2], order[: (M + 1) // 2 - 1 : -1]
    bars = [sorted(found.ranks[i] for i in clique) for clique in found.cliques]
    heights = _stacked(bars)
    top = 0.35 * (max(heights, default=0) + 1)  # bars stand between the axis at 0 and the labels, downwards
    depth = top + max(map(len, sides)) + 0.2
    figure = style.sheet(style.TEXT, _LINE * (depth + 2) + 0.75)
    axes = figure.subplots()
    axes.set(xlim=(1 - 0.03 * (M - 1), M + 0.03 * (M - 1)), ylim=(depth, -1.6))
    axes.set_axis_off()
    axes.plot([1, M], [0, 0], color="black", linewidth=0.8)
    for tick in range(1, M + 1):
        axes.plot([tick, tick], [0, -0.3], color="black", linewidth=0.8)
        axes.text(tick, -0.45, str(tick), ha="center", va="bottom", fontsize=7)
    for side, (members, edge, align) in enumerate(zip(sides, (1, M), ("right", "left"), strict=True)):
        for j, i in enumerate(members):
            y, rank, look = top + j + 0.4, found.ranks[i], looks[labels[i]]
            axes.plot([rank, rank, edge], [0, y, y], color="0.6", linewidth=0.6, zorder=1)
            axes.plot(rank, 0, color=look.colour, marker=look.marker, clip_on=False, zorder=3)
            text = f"{labels[i]}  {rank:.2f}" if side == 0 else f"{rank:.2f}  {labels[i]}"
            gap = -0.01 * (M - 1) if side == 0 else 0.01 * (M - 1)
            axes.text(edge + gap, y, text, ha=align, va="center")
    for ranks, height in zip(bars, heights, strict=True):
        y = 0.35 * height
        axes.plot([ranks[0], ranks[-1]], [y, y], color="black", linewidth=2.2, zorder=2)
        axes.plot(ranks, np.full(len(ranks), y), color="black", marker="o", markersize=3.5, linestyle="", zorder=2)
    axes.set_title(f"average ranks on {metric} over {found.blocks} blocks", fontweight="bold")
    figure.supxlabel(_reading(found), fontsize=7)
    return figure


def _stacked(bars: Sequence[Sequence[float]]) -> list[int]:
    """The line of each bar, 1 the first: the first line in which it stands clear of the bars before it."""
    ends: list[float] = []
    out = []
    for bar in bars:
        line = next((j for j, end in enumerate(ends) if end + _CLEAR < bar[0]), len(ends))
        ends[line : line + 1] = [bar[-1]]
        out.append(line + 1)
    return out


def _reading(found: CriticalDifference) -> str:
    """How to read it."""
    lines = [
        f"A bar joins what Wilcoxon's test over blocks, Holm-corrected over {len(found.pairs)} pairs, does not tell "
        f"apart at {found.alpha:g}.",
        f"Friedman: p {_p(found.p)}. Nemenyi's critical difference, for comparison with papers: {found.nemenyi:.2f}.",
    ]
    if found.least_p >= found.alpha:
        lines.append(f"So few blocks can tell no pair of so many apart: the least p possible is {found.least_p:.3f}.")
    return "\n".join(lines)


def _p(p: float) -> str:
    text = words.p_value(p)
    return text if text.startswith("<") else f"= {text}"
