"""Quality against fairness, diversity or cost: the points, and which of them nothing else beats on both axes."""

from math import isfinite
from typing import Literal

from rlrecbench.report import words
from rlrecbench.report.captions import title
from rlrecbench.report.page.boards import ARROW
from rlrecbench.report.page.origin import Json, Origin, finite
from rlrecbench.report.table import Block, Row, Table

Better = Literal["higher", "lower"]
Point = tuple[float, float]
COSTS = {
    "train_s": "training, seconds",
    "with_start_s": "training with its start, seconds",
    "rank_s_per_1000": "ranking 1,000 users, seconds",
    "peak_memory_mb": "peak memory, MB",
    "parameters": "parameters",
}


def tradeoffs(origin: Origin) -> Json:
    """The axes to choose from, and per block the points and the front of every pair of axes."""
    axes = _axes(origin.table)
    return {"axes": axes, "blocks": [_block(block, axes, f"b{i}") for i, block in enumerate(origin.table.blocks)]}


def front(points: list[Point | None], better: tuple[Better, Better]) -> list[int]:
    """Return the points that no other beats on one axis without losing on the other, from left to right.

    Args:
        points: None and what is not finite is left out.
        better: Direction of each axis.
    """
    sign = [1 if direction == "higher" else -1 for direction in better]
    known = {i: (sign[0] * p[0], sign[1] * p[1]) for i, p in enumerate(points) if p and all(map(isfinite, p))}
    best = [
        i for i, (x, y) in known.items() if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in known.values())
    ]
    return sorted(best, key=lambda i: (sign[0] * known[i][0], i))


def _axes(table: Table) -> list[Json]:
    """All measures, the primary metric first: name, direction, and whether it is of users, of lists or a cost."""
    columns = sorted(table.columns, key=lambda c: c.metric != table.config.primary)
    found = [
        {"name": c.metric, "text": f"{c.metric} {ARROW[c.better]}", "better": c.better, "kind": c.level}
        for c in columns
    ]
    present = {name for block in table.blocks for row in block.rows for name in _costs(row)}
    found += [
        {"name": name, "text": f"{text} ↓", "better": "lower", "kind": "cost"}
        for name, text in COSTS.items()
        if name in present
    ]
    return found


def _block(block: Block, axes: list[Json], name: str) -> Json:
    points: list[Json] = [
        {"label": row.label, "baseline": row.label == block.baseline, "bare": row.bare, "values": _values(row, axes)}
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


def _values(row: Row, axes: list[Json]) -> list[Json | None]:
    """Mean, deviation and words of each measure; None where there is none."""
    costs = _costs(row)
    return [_cost(costs.get(a["name"])) if a["kind"] == "cost" else _metric(row, a["name"]) for a in axes]


def _metric(row: Row, name: str) -> Json | None:
    value = row.values.get(name)
    if value is None or not isfinite(value.mean):
        return None
    return {"mean": value.mean, "std": finite(value.std), "text": words.number(value.mean) + words.spread(value)}


def _cost(value: float | None) -> Json | None:
    if value is None:
        return None
    return {"mean": value, "std": None, "text": f"{value:,.0f}" if value >= 100 else f"{value:.3g}"}


def _costs(row: Row) -> dict[str, float]:
    """A row's costs; training with its start is the sum of both."""
    found = {name: row.cost[name] for name in COSTS if isfinite(row.cost.get(name, float("nan")))}
    if "train_s" in found:
        found["with_start_s"] = found["train_s"] + row.cost.get("start_train_s", 0.0)
    return found
