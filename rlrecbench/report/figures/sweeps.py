"""How a setting matters: metrics against a number that a suite varies, as GFlowGR's Fig. 3 and Flower's Fig. 6.

Rows make a line if they are the same method, have the same start, and differ in one number of their settings and in
nothing else. Points are means over seeds with standard deviations; the dashed line is the baseline.
"""

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlrecbench.report.figures import style
from rlrecbench.report.layouts import aspect
from rlrecbench.report.starts import starts
from rlrecbench.report.table import Column, Table
from rlrecbench.results import Block, Record, Results

_LEAST = 3  # values of a line; two are a comparison
_WIDE = 20.0  # largest over least value above 0 from which on the axis is logarithmic
_PARTS = ("settings", "budget", "backbone")  # of a record's provenance


class Line(NamedTuple):
    """Rows that differ in one number."""

    setting: str  # dotted path below the parts of the provenance
    method: str  # that all of them are
    label: str  # of the first of the rows, whose look the line has
    values: tuple[float, ...]  # of the setting, rising
    rows: tuple[str, ...]  # labels, in the order of the values


def draw_sweeps(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw ``sweep-<setting>-<data set>-<label>`` for each block and setting that is varied.

    Returns:
        The files written.

    Raises:
        StoreError: A file cannot be written.
    """
    looks, written = style.looks(results, table), []
    begin = {label: start.start for label, start in starts(results).items()}
    columns = [style.primary(table)]
    columns += [c for n in ("fairness", "diversity") for c in [c for c in table.columns if aspect(c) == n][:1]]
    baselines = {(b.dataset, b.label): b.baseline for b in table.blocks}
    for block in results.blocks(table.config.rows):
        by: dict[str, list[Line]] = {}
        for line in lines(block, begin):
            by.setdefault(line.setting, []).append(line)
        for setting, found in by.items():
            baseline = baselines.get((block.dataset, block.label), "")
            figure = draw(block, setting, found, columns, baseline, looks)
            written += style.save(figure, folder, f"sweep-{setting}-{style.place(block, dash='-')}")
    return written


def lines(block: Block, begin: Mapping[str, str]) -> list[Line]:
    """Find the rows of a block that differ in one number.

    Args:
        block: The records.
        begin: Where each method begins.
    """
    flat = {label: _settings(records[0], begin) for label, records in block.records.items() if records}
    out = []
    for setting in dict.fromkeys(key for settings in flat.values() for key in settings):
        by: dict[str, dict[float, str]] = {}
        for label, settings in flat.items():
            value = settings.get(setting)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                others = json.dumps({k: v for k, v in settings.items() if k != setting}, sort_keys=True)
                by.setdefault(others, {}).setdefault(float(value), label)
        for found in by.values():
            if len(found) >= _LEAST:
                values = tuple(sorted(found))
                label = next(iter(found.values()))
                method = str(block.records[label][0].provenance.get("method", label))
                out.append(Line(setting, method, label, values, tuple(found[v] for v in values)))
    return out


def draw(
    block: Block,
    setting: str,
    found: Sequence[Line],
    columns: Sequence[Column],
    baseline: str,
    looks: Mapping[str, style.Look],
) -> Figure:
    """Draw a panel per metric.

    Args:
        block: The records.
        setting: What is varied.
        found: The lines.
        columns: Metrics; those that were not measured are left out.
        baseline: Label of the row that is a dashed line; "" for none.
        looks: By row.
    """
    columns = [c for c in columns if any(_means(block, row, c) for line in found for row in line.rows)]
    width = {1: style.COLUMN, 2: 5.2}.get(len(columns), style.TEXT)
    figure = style.sheet(width, 2.5, f"{style.place(block)}: {setting}")
    grid = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(grid, columns, strict=True):
        for line in found:
            seen = [(x, m) for x, row in zip(line.values, line.rows, strict=True) if (m := _means(block, row, column))]
            look, alone = looks[line.label], sum(other.method == line.method for other in found) == 1
            x, y, spread = ([x for x, _ in seen], [m[0] for _, m in seen], [m[1] for _, m in seen])
            axes.errorbar(
                x,
                y,
                spread if any(spread) else None,
                color=look.colour,
                marker=look.marker,
                elinewidth=0.7,
                label=line.method if alone else line.label,
            )
        level = _means(block, baseline, column)
        if level and not any(baseline in line.rows for line in found):
            axes.axhline(level[0], color="0.4", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label=baseline)
        _scale(axes, sorted({v for line in found for v in line.values}))
        axes.set_xlabel(setting)
        axes.set_title(style.head(column), loc="left")
        axes.grid(axis="y")
    handles, _ = grid[0].get_legend_handles_labels()
    several = any(len(block.records[row]) > 1 for line in found for row in line.rows)
    style.legend(figure, handles, spread=several)
    return figure


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Show the values that were tried, on a logarithmic axis where they span much; 0 has its place there too."""
    above = [v for v in values if v > 0]
    if above and values[-1] / above[0] >= _WIDE and values[0] >= 0:
        axes.set_xscale("symlog" if values[0] == 0 else "log", **({"linthresh": above[0]} if values[0] == 0 else {}))
    axes.set_xticks(values, [f"{v:g}" for v in values])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)


def _means(block: Block, row: str, column: Column) -> tuple[float, float] | None:
    """Mean and standard deviation over seeds (0 with one) of a row; None where there are none."""
    values = [v for r in block.records.get(row, []) if not isnan(v := r.metrics.get(column.metric, float("nan")))]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _settings(record: Record, begin: Mapping[str, str]) -> dict[str, Any]:
    """A record's settings as dotted keys, less seeds; with its method and start."""
    out: dict[str, Any] = {"": [record.provenance.get("method"), begin.get(record.method, "")]}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else key, inner)
        elif prefix.rpartition(".")[2] != "seed":
            out[prefix] = value

    for part in _PARTS:
        add("", record.provenance.get(part, {}))
    return out
