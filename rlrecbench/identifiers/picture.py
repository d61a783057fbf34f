"""A picture of the identifiers of one data set: use of the codes, agreement of neighbours, training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rlrecbench.identifiers.agreement import Agreement
from rlrecbench.identifiers.codes import Identifiers

Json = dict[str, Any]
# Source: Okabe and Ito (2008), a palette for all kinds of colour vision; yellow is too pale for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKS, _DASHES = ("o", "s", "^", "D", "v", "P", "X"), ("-", "--", "-.", ":")
_FACETS = 4  # levels beside each other
_GREY = "#666666"


@dataclass(frozen=True)
class Portrait:
    """What the picture shows of one backbone.

    Attributes:
        label: Its name in the legend.
        ids: The codes.
        agreement: Of neighbours in histories, where there are any.
        training: Lines of ``training.jsonl``; none where nothing was trained.
    """

    label: str
    ids: Identifiers
    agreement: Agreement | None
    training: Sequence[Json] = ()


def draw(title: str, portraits: Sequence[Portrait], path: Path) -> None:
    """Draw the identifiers of one data set and write a PNG file, which appears whole or not at all.

    Args:
        title: The data set.
        portraits: The backbones, the first one being what the others are compared with.
        path: The file.
    """
    levels = max(p.ids.described for p in portraits)
    columns = min(levels, _FACETS)
    rows = -(-levels // columns)
    trained = any(p.training for p in portraits)
    heights = [2.5 * rows, 2.3 * rows, *([2.6] if trained else [])]
    figure = Figure(figsize=(max(5.0, 2.75 * columns), 1.0 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights, hspace=0.03)[:, 0]
    figure.suptitle(f"Identifiers of {title}", fontsize=13, fontweight="bold")
    usage = parts[0].subplots(rows, columns, sharey=True, squeeze=False).reshape(-1)
    kappa = parts[1].subplots(rows, columns, squeeze=False).reshape(-1)
    for level in range(rows * columns):
        if level < levels:
            _usage(usage[level], portraits, level)
            _kappa(kappa[level], portraits, level + 1)
        else:
            usage[level].set_axis_off()
            kappa[level].set_axis_off()
    usage[0].set_ylabel("share of all items")
    kappa[0].set_ylabel("κ [95 %], 0 is chance")
    if trained:
        error, collisions = parts[2].subplots(1, 2)
        _curve(error, portraits, "error", "Training: reconstruction error")
        error.set_yscale("log")
        _curve(collisions, portraits, "collision_rate", "Training: collision rate")
        collisions.set_ylim(bottom=0)
        collisions.yaxis.set_major_locator(MaxNLocator(5))
        collisions.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    handles = [Line2D([], [], label=p.label, **_line(i), **_mark(i)) for i, p in enumerate(portraits)]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png", dpi=130)
    temporary.replace(path)


def _line(index: int) -> Json:
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _DASHES[index % len(_DASHES)], "linewidth": 1.6}


def _mark(index: int) -> Json:
    return {"marker": _MARKS[index % len(_MARKS)], "markersize": 5}


def _usage(axes: Axes, portraits: Sequence[Portrait], level: int) -> None:
    """Shares of the codes of one level, the most used first."""
    for i, p in enumerate(portraits):
        if level < p.ids.described:
            share = np.bincount(p.ids.codes[:, level]) / len(p.ids.codes)
            share = np.sort(share[share > 0])[::-1]
            axes.plot(np.arange(1, len(share) + 1), share, **_line(i))
    sizes = {p.ids.sizes[level] for p in portraits if level < p.ids.described}
    if len(sizes) == 1:
        even = 1 / min(sizes)
        axes.axhline(even, color=_GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            "all equal", (0.98, even), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", fontsize=8, color=_GREY,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(0, max(sizes) + 1)
    axes.set_xlabel("codes, most used first", fontsize=9)
    _title(axes, f"Use of level {level + 1}")


def _kappa(axes: Axes, portraits: Sequence[Portrait], length: int) -> None:
    """Agreement of neighbours in histories at one prefix length, with intervals."""
    for i, p in enumerate(portraits):
        prefixes = p.agreement.prefixes if p.agreement is not None else ()
        for x in prefixes[length - 1 : length]:
            if x.kappa is not None and x.low is not None and x.high is not None:
                spread = [[max(x.kappa - x.low, 0)], [max(x.high - x.kappa, 0)]]
                axes.errorbar([i], [x.kappa], yerr=spread, color=_line(i)["color"], capsize=4, **_mark(i))
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set_xlim(-0.6, len(portraits) - 0.4)
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda kappa, _: f"{kappa:.2g}")
    _title(axes, "Neighbours share code 1" if length == 1 else f"Neighbours share codes 1 to {length}")


def _curve(axes: Axes, portraits: Sequence[Portrait], key: str, title: str) -> None:
    """One figure of training.jsonl by epoch."""
    for i, p in enumerate(portraits):
        lines = [x for x in p.training if x.get(key) is not None]
        axes.plot([x["epoch"] for x in lines], [x[key] for x in lines], **_line(i))
    axes.set_xlabel("epoch", fontsize=9)
    _title(axes, title)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
