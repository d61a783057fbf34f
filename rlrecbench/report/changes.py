"""Two results folders, cell by cell: did my change move anything?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np

from rlrecbench import stats
from rlrecbench.errors import StoreError
from rlrecbench.metrics import parse
from rlrecbench.report.cells import check_seeds, defined, of_lists, same_protocol, values
from rlrecbench.results import Record, Results
from rlrecbench.stats import Test
from rlrecbench.stats.lists import Difference

_FILES = ("users.parquet", "ranked.parquet")  # times and dates are in metrics.json alone


class Moved(NamedTuple):
    """One metric of one row: its means over the seeds that are done in both folders, and the test of new - old."""

    metric: str
    old: float
    new: float
    test: Test | None  # None: undefined, or lists that cannot be read and one seed


@dataclass(frozen=True)
class Change:
    """One row of which some cell differs.

    Attributes:
        row: Data set, backbone and method.
        seeds: Seeds that are done in both folders.
        different: Those of which the cells differ.
        users: Test users.
        ranks: Mean over ``different`` of the users whose target has another rank.
        lines: By metric.
    """

    row: str
    seeds: tuple[int, ...]
    different: tuple[int, ...]
    users: int
    ranks: float
    lines: tuple[Moved, ...]


@dataclass(frozen=True)
class Changes:
    """What differs between two folders.

    Attributes:
        old: First folder.
        new: Second folder.
        cells: Cells done in both.
        equal: Those whose metrics, per-user values and lists are the same to the byte.
        changes: Rows with a cell that differs.
        only_old: Names of the cells that only the first folder has.
        only_new: Those that only the second has.
    """

    old: str
    new: str
    cells: int
    equal: int
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


def changes(old: Results, new: Results, metrics: Sequence[str] = (), seeds: Sequence[int] = ()) -> Changes:
    """Compare the cells that two folders share by data set, backbone, method and seed.

    Args:
        old: First folder.
        new: Second folder; differences are new - old.
        metrics: Those to compare; none: all that both records hold.
        seeds: Those to compare; none: all.

    Raises:
        ConfigError: No cell has a seed.
        StoreError: They share no cell, a data set was measured under different protocols or on different users, or
            a file is broken.
    """
    names = [str(parse(m)) for m in metrics]
    check_seeds(seeds, [*old.records, *new.records], f"{old.root} or {new.root}")
    left, right = (_cells(side, seeds) for side in (old, new))
    both = [name for name in left if name in right]
    if not both:
        raise StoreError(
            f"{old.root} and {new.root} share no cell (data set, backbone, method and seed); "
            f"the first has {_some(left)}, the second {_some(right)}"
        )
    for name in both:
        same_protocol(left[name], right[name])
    equal = {name for name in both if _same(left[name], right[name])}
    rows: dict[str, list[str]] = {}
    for name in both:
        rows.setdefault(name.rpartition(" seed ")[0], []).append(name)
    return Changes(
        old=str(old.root),
        new=str(new.root),
        cells=len(both),
        equal=len(equal),
        changes=tuple(
            _change(row, (old, new), [left[n] for n in cells], [right[n] for n in cells], equal, names)
            for row, cells in rows.items()
            if not equal.issuperset(cells)
        ),
        only_old=tuple(name for name in left if name not in right),
        only_new=tuple(name for name in right if name not in left),
    )


def _cells(results: Results, seeds: Sequence[int]) -> dict[str, Record]:
    return {r.name: r for r in results.records if not seeds or r.seed in seeds}


def _some(cells: dict[str, Record]) -> str:
    return f"{next(iter(cells))} and {len(cells) - 1} more" if cells else "none"


def _same(a: Record, b: Record) -> bool:
    if {m: repr(v) for m, v in a.metrics.items()} != {m: repr(v) for m, v in b.metrics.items()}:
        return False
    pairs = [(a.path / name, b.path / name) for name in _FILES]
    try:
        return all(
            x.is_file() == y.is_file() and (not x.is_file() or x.read_bytes() == y.read_bytes()) for x, y in pairs
        )
    except OSError as e:
        raise StoreError(f"{a.path} or {b.path} cannot be read: {e.strerror}") from e


def _change(
    row: str,
    folders: tuple[Results, Results],
    old: Sequence[Record],
    new: Sequence[Record],
    equal: set[str],
    names: Sequence[str],
) -> Change:
    found = [m for m in old[0].metrics if m in new[0].metrics and (not names or m in names)]
    results, moved = folders[0], []
    resampled = of_lists((folders[1], new), (results, old), found)
    for a, b in zip(old, new, strict=True):
        if a.name not in equal:
            ranks = values(results, [b], [a], "rank")
            moved.append(int((np.nan_to_num(ranks.a) != np.nan_to_num(ranks.b)).sum()))
    return Change(
        row=row,
        seeds=tuple(r.seed for r in old),
        different=tuple(r.seed for r in old if r.name not in equal),
        users=results.n_users(old[0]),
        ranks=float(np.mean(moved)),
        lines=tuple(_moved(results, old, new, metric, resampled.get(metric)) for metric in found),
    )


def _moved(
    results: Results, old: Sequence[Record], new: Sequence[Record], metric: str, resampled: Difference | None
) -> Moved:
    before, after = ([r.metrics.get(metric, nan) for r in side] for side in (old, new))
    test = None
    if not defined([*old, *new], metric):
        return Moved(metric, float(np.mean(before)), float(np.mean(after)), None)
    if results.has_users([*old, *new], metric):
        found = values(results, new, old, metric)
        test = stats.two_way(found.a - found.b)
    elif resampled is not None:
        test = resampled.test
    elif len(before) > 1:
        test = stats.t_seeds(after, before)
    return Moved(metric, float(np.mean(before)), float(np.mean(after)), test)
