"""The leaderboard as JSON: the table as it is, nothing rounded."""

import json
from math import isfinite
from typing import Any

from rlrecbench.config import plain
from rlrecbench.report.table import Table

SCHEMA = 2  # 1 named a block's label "backbone" and a row's "method"


def as_json(table: Table) -> str:
    """Write the leaderboard as JSON; null stands for what is unknown, undefined or unbounded."""
    return json.dumps({"schema": SCHEMA, **_finite(_named(table))}, indent=1, allow_nan=False) + "\n"


def _named(table: Table) -> Any:
    """Plain values, with named tuples as objects rather than lists."""
    out = plain(table)
    for block, made in zip(table.blocks, out["blocks"], strict=True):
        for row, data in zip(block.rows, made["rows"], strict=True):
            c = row.comparison
            if c is not None:
                data["comparison"]["tally"] = c.tally and c.tally._asdict()
                data["comparison"]["test"]["variance"] = c.test.variance and c.test.variance._asdict()
    return out


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value
