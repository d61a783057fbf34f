"""How a setting matters: metrics against a number that a suite varies, as GFlowGR's Fig. 3 and Flower's Fig. 6.

Rows make a line if they are the same method, have the same start, and differ in one number of their settings and in
nothing else. Points are means over seeds with standard deviations; the dashed line is the baseline.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlrecbench.report.figures import style
from rlrecbench.report.fronts import measured, quality
from rlrecbench.report.layouts import aspect
from rlrecbench.report.starts import starts
from rlrecbench.report.table import Block as Shown
from rlrecbench.report.table import Column, Row, Table, Value
from rlrecbench.results import Block, Record, Results

_LEAST = 3  # values of a line; two are a comparison
_WIDE = 20.0  # largest over least value above 0 from which on the axis is logarithmic
_PARTS = ("settings", "budget", "backbone")  # of a record's provenance


class Line(NamedTuple):
    """Rows that differ in one number."""

    setting: str  # dotted path, with the part of the provenance only where another part has the same
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
    columns = [quality(table)]
    columns += [c for n in ("fairness", "diversity") for c in [c for c in table.columns if aspect(c) == n][:1]]
    for block, about in zip(results.blocks(table.config.rows), table.blocks, strict=True):
        by: dict[str, list[Line]] = {}
        for line in lines(block, begin):
            by.setdefault(line.setting, []).append(line)
        for setting, found in by.items():
            figure = draw(about, setting, found, columns, looks)
            written += style.save(figure, folder, f"sweep-{setting}-{style.place(block, dash='-')}")
    return written


def lines(block: Block, begin: Mapping[str, str]) -> list[Line]:
    """Find the rows of a block that differ in one number.

    Args:
        block: The records.
        begin: Where each method begins.
    """
    flat = {label: _settings(records[0], begin) for label, records in block.records.items() if records}
    names = _names(list(dict.fromkeys(key for settings in flat.values() for key in settings)))
    out = []
    for setting, name in names.items():
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
                out.append(Line(name, method, label, values, tuple(found[v] for v in values)))
    return out


def draw(
    block: Shown,
    setting: str,
    found: Sequence[Line],
    columns: Sequence[Column],
    looks: Mapping[str, style.Look],
) -> Figure:
    """Draw a panel per metric.

    Args:
        block: Of the leaderboard; its baseline is a dashed line.
        setting: What is varied.
        found: The lines.
        columns: Metrics; those that were not measured are left out.
        looks: By row.
    """
    rows = {row.label: row for row in block.rows}
    columns = [c for c in columns if any(_value(rows, label, c) for line in found for label in line.rows)]
    width = {1: style.COLUMN, 2: 5.2}.get(len(columns), style.TEXT)
    figure = style.sheet(width, 2.5, f"{style.place(block)}: {setting}")
    grid = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(grid, columns, strict=True):
        for line in found:
            seen = [(x, v) for x, row in zip(line.values, line.rows, strict=True) if (v := _value(rows, row, column))]
            look, alone = looks[line.label], sum(other.method == line.method for other in found) == 1
            x, y, spread = [x for x, _ in seen], [v.mean for _, v in seen], [v.std or 0.0 for _, v in seen]
            axes.errorbar(
                x,
                y,
                spread if any(spread) else None,
                color=look.colour,
                marker=look.marker,
                elinewidth=0.7,
                label=line.method if alone else line.label,
            )
        level = _value(rows, block.baseline, column)
        if level and not any(block.baseline in line.rows for line in found):
            axes.axhline(level.mean, color="0.4", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label=block.baseline)
        _scale(axes, sorted({v for line in found for v in line.values}))
        axes.set_xlabel(setting)
        axes.set_title(style.head(column), loc="left")
        axes.grid(axis="y")
    handles, _ = grid[0].get_legend_handles_labels()
    several = any(len(rows[label].seeds) > 1 for line in found for label in line.rows)
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


def _value(rows: Mapping[str, Row], label: str, column: Column) -> Value | None:
    return measured(rows[label], column.metric) if label in rows else None


def _settings(record: Record, begin: Mapping[str, str]) -> dict[str, Any]:
    """A record's settings as dotted keys that begin with their part, less seeds; with its method and start."""
    out: dict[str, Any] = {"": [record.provenance.get("method"), begin.get(record.method, "")]}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{key}.{name}", inner)
        elif key.rpartition(".")[2] != "seed":
            out[key] = value

    for part in _PARTS:
        add(part, record.provenance.get(part, {}))
    return out


def _names(keys: Sequence[str]) -> dict[str, str]:
    """How settings are shown: without their part, unless another part has the same."""
    short = {key: key.partition(".")[2] for key in keys}
    alike = Counter(short.values())
    return {key: name if name and alike[name] == 1 else key for key, name in short.items()}
