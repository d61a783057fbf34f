"""The leaderboards: what stands in every cell, how it sorts, and the key of its pop-up."""

from math import isfinite

from rlrecbench.report import words
from rlrecbench.report.captions import NOTABLE, caption, flawed, title
from rlrecbench.report.page.details import cost_detail, detail
from rlrecbench.report.page.origin import COSTS, Json, Origin, finite
from rlrecbench.report.table import Block, Column, Comparison, Row

SHOWN = ("train_s", "rank_s_per_1000")  # costs that are columns
_VERDICTS = {"better": 3.0, "equivalent": 2.0, "cannot tell": 1.0, "worse": 0.0}
_WIDTH = 100  # of the drawn interval


def boards(origin: Origin) -> tuple[list[Json], dict[str, Json]]:
    """Return the blocks as the template shows them, and the pop-ups by key."""
    details: dict[str, Json] = {}
    blocks = [_board(origin, block, f"b{i}", details) for i, block in enumerate(origin.table.blocks)]
    return blocks, details


def _board(origin: Origin, block: Block, name: str, details: dict[str, Json]) -> Json:
    table = origin.table
    bounds, notes = _bounds(block, table.config.min_effect), caption(table, block)
    return {
        "id": name,
        "dataset": block.dataset,
        "label": block.label,
        "title": title(block),
        "caption": [line for line in notes if not line.startswith("†")],
        "flaws": [line for line in notes if line.startswith("†")],
        "baseline": block.baseline,
        "compared": block.family > 0,
        "band": [_place(v, bounds) for v in (-table.config.min_effect, 0.0, table.config.min_effect)],
        "rows": [_row(origin, block, row, f"{name}r{i}", bounds, details) for i, row in enumerate(block.rows)],
        "gaps": [[row.label, seed, why] for row in block.rows for seed, why in origin.gaps(block, row)],
    }


def _row(
    origin: Origin, block: Block, row: Row, name: str, bounds: tuple[float, float], details: dict[str, Json]
) -> Json:
    values = []
    for i, column in enumerate(origin.table.columns):
        details[f"{name}m{i}"] = detail(origin, block, row, column)
        values.append({"key": f"{name}m{i}", **_value(origin, row, column)})
    costs = []
    for i, cost in enumerate(SHOWN):
        details[f"{name}c{i}"] = cost_detail(origin, block, row, cost, COSTS[cost])
        seconds = row.cost.get(cost)
        costs.append({"key": f"{name}c{i}", "text": words.cost(row).split(" · ")[i], "sort": finite(seconds)})
    c = row.comparison
    if c is not None:
        details[f"{name}p"] = detail(origin, block, row, origin.primary)
    wanted = len(row.seeds) + len(block.missing.get(row.label, ()))
    return {
        "label": row.label,
        "flawed": flawed(row.audit),
        "bare": row.bare,
        "baseline": row.label == block.baseline,
        "star": c is not None and c.star,
        "note": "" if len(row.seeds) == wanted else f"{len(row.seeds)} of {wanted} seeds",
        "values": values,
        "costs": costs,
        "compared": None if c is None else {"key": f"{name}p", **_compared(c, bounds)},
    }


def _value(origin: Origin, row: Row, column: Column) -> Json:
    value = row.values.get(column.metric)
    if value is None:
        return {"text": words.ABSENT, "spread": "", "mark": "", "star": "", "sort": None}
    starred = column.metric == origin.table.config.primary and row.comparison is not None and row.comparison.star
    return {
        "text": words.number(value.mean),
        "spread": words.spread(value),
        "mark": value.mark,
        "star": "*" if starred else NOTABLE if value.contrast is not None and value.contrast.notable else "",
        "sort": finite(value.mean),
    }


def _compared(c: Comparison, bounds: tuple[float, float]) -> Json:
    low, mean, high = _effect(c)
    ends = (low, mean, high)
    drawn = [_place(v, bounds) for v in ends] if all(map(isfinite, ends)) else None
    return {
        "effect": words.effect(c),
        "effect_sort": finite(mean),
        "drawn": drawn,
        "p": words.p_value(c.corrected_p),
        "p_sort": finite(c.corrected_p),
        "verdict": words.conclusion(c),
        "verdict_sort": _VERDICTS[c.verdict],
        "users": words.users(c),
        "users_sort": None if c.tally is None else c.tally.users_won - c.tally.users_lost,
    }


def _effect(c: Comparison) -> tuple[float, float, float]:
    """Low end, mean and high end of a difference as it is drawn: a share of the baseline's mean, where there is one."""
    if c.ratio is not None:
        return c.ratio.low, c.ratio.value, c.ratio.high
    low, mean, high = (v if (share := c.relative(v)) is None else share for v in (c.test.low, c.test.mean, c.test.high))
    return low, mean, high


def _bounds(block: Block, margin: float) -> tuple[float, float]:
    """Ends of the scale on which a block's intervals are drawn; 0 and the margin of what matters lie inside."""
    found = [-margin, margin]
    for row in block.rows:
        if row.comparison is not None:
            found += [v for v in _effect(row.comparison) if isfinite(v)]
    pad = 0.03 * (max(found) - min(found)) or 1.0
    return min(found) - pad, max(found) + pad


def _place(value: float, bounds: tuple[float, float]) -> float:
    """Where a value lies on the drawn scale, in units of the drawing."""
    return round(_WIDTH * (value - bounds[0]) / (bounds[1] - bounds[0]), 1)
