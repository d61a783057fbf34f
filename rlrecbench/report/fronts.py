"""Which points nothing else beats, and what stands on their axes: the same for the page and the figures."""

from collections.abc import Sequence
from math import isfinite, isnan

import numpy as np

from rlrecbench.report.table import Column, Row, Table, Value
from rlrecbench.results import Record
from rlrecbench.stats import Direction

Point = tuple[float, float]


def front(points: Sequence[Point | None], better: tuple[Direction, Direction]) -> list[int]:
    """Return the points that no other beats on one axis without losing on the other, from left to right.

    Equal points do not beat each other: all of them are on the front, or none.

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


def quality(table: Table) -> Column:
    """The primary metric's column; the first column where the table does not have it."""
    return next((c for c in table.columns if c.metric == table.config.primary), table.columns[0])


def measured(row: Row, metric: str) -> Value | None:
    """A metric of a row; None where it was not measured, or is undefined with one of the seeds."""
    value = row.values.get(metric)
    return None if value is None or isnan(value.mean) else value


def with_start(records: Sequence[Record]) -> tuple[float, float] | None:
    """Seconds of training with those of the start: mean and standard deviation over seeds, 0 with one seed.

    Returns:
        None where nothing was trained.
    """
    own = [r.cost["train_s"] + (r.cost.get("start_train_s") or 0.0) for r in records if _known(r.cost.get("train_s"))]
    if not own:
        return None
    return float(np.mean(own)), float(np.std(own, ddof=1)) if len(own) > 1 else 0.0


def _known(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and isfinite(seconds)
