"""From the records on disk to the leaderboard."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlrecbench.config import build as build_config
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import parse
from rlrecbench.report import table
from rlrecbench.report.comparison import against_baseline
from rlrecbench.report.table import Column, Comparison, Row, Table, Value, marks
from rlrecbench.results import NO_BACKBONE, Block, Record, Results
from rlrecbench.stats import StatsConfig


def build(results: Results, metrics: Sequence[str] | None = None, config: StatsConfig | None = None) -> Table:
    """Build the leaderboard.

    Args:
        results: What is on disk.
        metrics: Columns; None: those of the suite.
        config: Comparisons; None: as the suite declares them.

    Raises:
        ConfigError: A metric is unknown or was not measured.
        StoreError: No cell is done, or a file is broken.
    """
    if not results.records:
        raise StoreError(f"{results.root}: no cell is done yet; run the suite (rlrecbench run) and report again")
    config = config or declared(results, {})
    columns = tuple(_column(name, results) for name in metrics or results.suite["metrics"])
    blocks = tuple(_block(results, block, columns, config) for block in results.blocks())
    shown = {(b.dataset, b.backbone) for b in blocks}
    empty = tuple((d, b) for d in results.datasets for b in results.backbones or [NO_BACKBONE] if (d, b) not in shown)
    return Table(results.name, columns, config, tuple(results.seeds), blocks, empty)


def declared(results: Results, changes: Mapping[str, Any]) -> StatsConfig:
    """Return what the suite declares about comparisons, with changes.

    Raises:
        ConfigError: A setting is wrong, or the changed baseline is no method of the results.
    """
    baseline = changes.get("baseline")
    if baseline is not None and baseline not in results.methods:
        raise ConfigError(f"no method {baseline!r} in {results.root}; methods: {', '.join(results.methods)}")
    settings = {**results.suite.get("stats", {}), **changes}
    return build_config(StatsConfig, settings, f"{results.root / 'suite.json'}: stats")


def _column(name: str, results: Results) -> Column:
    spec = parse(name)
    if not any(str(spec) in r.metrics for r in results.records):
        raise ConfigError(
            f"metric {name!r} is in no record of {results.root}; measured: {', '.join(results.metrics)}; "
            "add it to the suite's metrics and run it again (nothing is trained again)"
        )
    return Column(str(spec), spec.metric.better)


def _block(results: Results, block: Block, columns: Sequence[Column], config: StatsConfig) -> table.Block:
    comparisons, remark = against_baseline(results, block, config)
    values: dict[str, dict[str, Value | None]] = {method: {} for method in block.records}
    for column in columns:
        for method, value in _values(block, column).items():
            values[method][column.metric] = value
    rows = tuple(_row(m, r, values[m], comparisons.get(m)) for m, r in block.records.items())
    done = {m: {r.seed for r in records} for m, records in block.records.items()}
    missing = {m: tuple(s for s in results.suite["seeds"] if s not in seeds) for m, seeds in done.items()}
    one = next(r for records in block.records.values() for r in records)
    names = (
        f"{block.dataset}/{backbone}/{method} seed {seed}"
        for method, seeds in missing.items()
        for seed in seeds
        for backbone in (block.backbone, NO_BACKBONE)
    )
    return table.Block(
        dataset=block.dataset,
        backbone=block.backbone,
        rows=rows,
        users=results.n_users(one),
        fingerprint=one.fingerprint,
        missing={m: seeds for m, seeds in missing.items() if seeds},
        failed=sum(name in results.failures for name in names),
        remark=remark,
    )


def _values(block: Block, column: Column) -> dict[str, Value | None]:
    """One metric of all methods, the best marked over unrounded means."""
    found = {
        m: [r.metrics[column.metric] for r in records if column.metric in r.metrics]
        for m, records in block.records.items()
    }
    means = [float(np.mean(v)) if v else None for v in found.values()]
    return {
        method: None if mean is None else Value(mean, float(np.std(v, ddof=1)) if len(v) > 1 else None, mark)
        for (method, v), mean, mark in zip(found.items(), means, marks(means, column.better), strict=True)
    }


def _row(method: str, records: list[Record], values: dict[str, Value | None], comparison: Comparison | None) -> Row:
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
        method=method,
        seeds=tuple(r.seed for r in records),
        bare=bool(records) and records[0].backbone == NO_BACKBONE,
        values=values,
        comparison=comparison,
        audit=audit,
        cost={name: float(np.mean(found)) for name, found in costs.items()},
    )
