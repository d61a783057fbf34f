"""Quality against fairness, diversity or cost: the points, and which of them nothing else beats on both axes."""

from math import isfinite

from rlrecbench.report import words
from rlrecbench.report.captions import title
from rlrecbench.report.fronts import Point, front, measured, with_start
from rlrecbench.report.page.origin import COSTS, Json, Origin, finite
from rlrecbench.report.table import Block, Row


def tradeoffs(origin: Origin) -> Json:
    """The axes to choose from, and per block the points and the front of every pair of axes."""
    axes = _axes(origin)
    return {
        "axes": axes,
        "blocks": [_block(origin, block, axes, f"b{i}") for i, block in enumerate(origin.table.blocks)],
    }


def _axes(origin: Origin) -> list[Json]:
    """All measures, the primary metric first: name, direction, and whether it is of users, of lists or a cost."""
    table = origin.table
    columns = sorted(table.columns, key=lambda c: c.metric != table.config.primary)
    found = [
        {"name": c.metric, "text": f"{c.metric} {words.ARROW[c.better]}", "better": c.better, "kind": c.level}
        for c in columns
    ]
    present = {name for block in table.blocks for row in block.rows for name in _costs(origin, block, row)}
    found += [
        {"name": name, "text": f"{text} ↓", "better": "lower", "kind": "cost"}
        for name, text in COSTS.items()
        if name in present
    ]
    return found


def _block(origin: Origin, block: Block, axes: list[Json], name: str) -> Json:
    points: list[Json] = [
        {
            "label": row.label,
            "baseline": row.label == block.baseline,
            "bare": row.bare,
            "values": _values(row, _costs(origin, block, row), axes),
        }
        for row in block.rows
        if row.seeds
    ]
    fronts = {}
    for y in range(len(axes)):
        for x in range(len(axes)):
            if x != y and axes[y]["kind"] != "cost":
                pairs = [_pair(p["values"][x], p["values"][y]) for p in points]
                fronts[f"{x},{y}"] = front(pairs, (axes[x]["better"], axes[y]["better"]))
    return {
        "id": name,
        "dataset": block.dataset,
        "label": block.label,
        "title": title(block),
        "points": points,
        "fronts": fronts,
    }


def _pair(x: Json | None, y: Json | None) -> Point | None:
    return None if x is None or y is None else (x["mean"], y["mean"])


def _values(row: Row, costs: dict[str, float], axes: list[Json]) -> list[Json | None]:
    """Mean, deviation and words of each measure; None where there is none."""
    return [_cost(costs.get(a["name"])) if a["kind"] == "cost" else _metric(row, a["name"]) for a in axes]


def _metric(row: Row, name: str) -> Json | None:
    value = measured(row, name)
    if value is None:
        return None
    return {"mean": value.mean, "std": finite(value.std), "text": words.number(value.mean) + words.spread(value)}


def _cost(value: float | None) -> Json | None:
    if value is None:
        return None
    return {"mean": value, "std": None, "text": f"{value:,.0f}" if value >= 100 else f"{value:.3g}"}


def _costs(origin: Origin, block: Block, row: Row) -> dict[str, float]:
    """A row's costs; training with its start is the sum of both."""
    found = {name: row.cost[name] for name in COSTS if isfinite(row.cost.get(name, float("nan")))}
    total = with_start(list(origin.records(block, row).values()))
    return found if total is None else {**found, "with_start_s": total[0]}
