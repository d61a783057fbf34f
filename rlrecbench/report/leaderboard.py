"""From the records on disk to the leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum, nan
from typing import Any

import numpy as np

from rlrecbench.config import build as build_config
from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import parse
from rlrecbench.report import table, words
from rlrecbench.report.across import across
from rlrecbench.report.comparison import against_baseline, baseline_of
from rlrecbench.report.contrasts import contrasts
from rlrecbench.report.table import Column, Comparison, Contrast, Row, Table, Value, marks
from rlrecbench.results import NO_BACKBONE, Block, Record, Results
from rlrecbench.stats import BEST, StatsConfig


def build(results: Results, metrics: Sequence[str] | None = None, config: StatsConfig | None = None) -> Table:
    """Build the leaderboard.

    Args:
        results: What is on disk.
        metrics: Columns; None: those of the suite.
        config: Comparisons; None: as the suite declares them.

    Raises:
        ConfigError: A metric is unknown or was not measured, or two rows have the same label.
        StoreError: No cell is done, or a file is broken.
    """
    if not results.records:
        raise StoreError(f"{results.root}: no cell is done yet; run the suite (rlrecbench run) and report again")
    config = config or declared(results, {})
    columns = tuple(_column(name, results) for name in metrics or results.suite["metrics"])
    axes = results.axes(config.rows)
    if config.baseline is None:
        config = replace(config, baseline="sft" if config.rows == "methods" else axes.rows[0])
    blocks = tuple(_block(results, block, columns, config) for block in results.blocks(config.rows))
    shown = {(b.dataset, b.label) for b in blocks}
    empty = tuple((d, b) for d in results.datasets for b in axes.blocks or [NO_BACKBONE] if (d, b) not in shown)
    together = across(results, config)
    return Table(results.name, columns, config, tuple(results.seeds), blocks, empty, together)


def declared(results: Results, changes: Mapping[str, Any]) -> StatsConfig:
    """Return what the suite declares about comparisons, with changes; with other rows its baseline does not hold.

    Raises:
        ConfigError: A setting is wrong, or the changed baseline is no row of the results.
    """
    suite = results.suite.get("stats", {})
    config = build_config(StatsConfig, {**suite, **changes}, f"{results.root / 'suite.json'}: stats")
    if changes.get("baseline") is None:
        return config if config.rows == suite.get("rows", "methods") else replace(config, baseline=None)
    labels = results.axes(config.rows).rows
    if config.baseline not in (*labels, BEST):
        noun = words.ROW[config.rows]
        hint = nearest(str(config.baseline), [*labels, BEST], "rows")
        raise ConfigError(f"no {noun} {config.baseline!r} in {results.root}; {hint}")
    return config


def _column(name: str, results: Results) -> Column:
    spec = parse(name)
    if not any(str(spec) in r.metrics for r in results.records):
        raise ConfigError(
            f"metric {name!r} is in no record of {results.root}; measured: {', '.join(results.metrics)}; "
            "add it to the suite's metrics and run it again (nothing is trained again)"
        )
    return Column(str(spec), spec.metric.better, "user" if spec.metric.level == "user" else "list")


def _block(results: Results, block: Block, columns: Sequence[Column], config: StatsConfig) -> table.Block:
    baseline = baseline_of(block, config)
    comparisons, remark = against_baseline(results, block, baseline, config)
    beside = contrasts(results, block, baseline, columns, config)
    values: dict[str, dict[str, Value | None]] = {label: {} for label in block.records}
    for column in columns:
        for label, value in _values(block, column, beside).items():
            values[label][column.metric] = value
    rows = tuple(_row(name, found, values[name], comparisons.get(name)) for name, found in block.records.items())
    done = {label: {r.seed for r in records} for label, records in block.records.items()}
    missing = {label: tuple(s for s in results.suite["seeds"] if s not in seeds) for label, seeds in done.items()}
    one = next(r for records in block.records.values() for r in records)
    names = (f"{cell} seed {s}" for label, seeds in missing.items() for cell in block.cells(label) for s in seeds)
    return table.Block(
        dataset=block.dataset,
        label=block.label,
        rows=rows,
        users=results.n_users(one),
        fingerprint=one.fingerprint,
        missing={label: seeds for label, seeds in missing.items() if seeds},
        failed=sum(name in results.failures for name in names),
        baseline=baseline,
        remark=remark,
        contrasts=len(beside),
    )


def _values(block: Block, column: Column, beside: Mapping[tuple[str, str], Contrast]) -> dict[str, Value | None]:
    """One metric of all rows, the best marked over unrounded means."""
    metric = column.metric
    known = {
        label: found
        for label, records in block.records.items()
        if (found := [r.metrics[metric] for r in records if metric in r.metrics])
    }
    means = {label: fsum(found) / len(found) for label, found in known.items()}
    best = dict(zip(means, marks(list(means.values()), column.better), strict=True))
    out: dict[str, Value | None] = dict.fromkeys(block.records)
    for label, found in known.items():
        std = float(np.std(found, ddof=1)) if len(found) > 1 else None
        seeds = tuple(r.metrics.get(metric, nan) for r in block.records[label])
        out[label] = Value(means[label], std, best[label], seeds, beside.get((label, metric)))
    return out


def _row(label: str, records: list[Record], values: dict[str, Value | None], comparison: Comparison | None) -> Row:
    audit: dict[str, int] = {}
    for record in records:
        for name, count in record.audit.items():
            audit[name] = audit.get(name, 0) + count
    costs: dict[str, list[float]] = {}
    for record in records:
        for name, cost in record.cost.items():
            if isinstance(cost, (int, float)):
                costs.setdefault(name, []).append(cost)
    return Row(
        label=label,
        seeds=tuple(r.seed for r in records),
        bare=bool(records) and records[0].backbone == NO_BACKBONE,
        values=values,
        comparison=comparison,
        audit=audit,
        cost={name: float(np.mean(found)) for name, found in costs.items()},
    )
