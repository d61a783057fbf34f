"""The cells of two rows side by side: values per user, resampled lists, tests. Both rows may be of two folders."""

from collections.abc import Sequence
from math import isfinite, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench import stats
from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import parse
from rlrecbench.report.comparison import PAIRED
from rlrecbench.report.contrasts import SWAPS
from rlrecbench.results import Record, Results, unlike
from rlrecbench.stats import Test, TestName
from rlrecbench.stats.draws import FEWEST, Draws
from rlrecbench.stats.lists import Difference, Resampled, difference

Floats = NDArray[np.float64]


class Values(NamedTuple):
    """Per-user values of one metric of both rows, on their common seeds and users."""

    seeds: tuple[int, ...]
    users: "pd.Index[str]"  # data set's ids of the users, [U]
    a: Floats  # [S, U]
    b: Floats  # [S, U]


def values(results: Results, a: Sequence[Record], b: Sequence[Record], metric: str) -> Values:
    """Per-user values of both rows, in the order of A's users.

    Raises:
        StoreError: The two were measured on different users, or a file lacks the metric.
    """
    seeds = tuple(sorted({r.seed for r in a} & {r.seed for r in b}))
    left, right = ([r for s in seeds for r in side if r.seed == s] for side in (a, b))
    users = pd.Index(results.users(left[0])["user_id"])
    return Values(seeds, users, results.values(left, metric), results.values(right, metric, left[0]))


def same_protocol(a: Record, b: Record) -> None:
    """Refuse two cells that were measured under different protocols.

    Raises:
        StoreError: With the settings that differ.
    """
    if a.fingerprint == b.fingerprint:
        return
    raise StoreError(
        f"{a.path} and {b.path} were measured under different protocols and cannot be compared: {unlike(a, b)}; "
        "run both suites with the same settings"
    )


def check_seeds(wanted: Sequence[int], records: Sequence[Record], where: str) -> None:
    """Refuse a seed that no cell has.

    Args:
        wanted: Seeds that were asked for.
        records: Cells that are done.
        where: How the message names them.

    Raises:
        ConfigError: With the seeds that are done.
    """
    done = [str(s) for s in sorted({r.seed for r in records})]
    for seed in map(str, wanted):
        if seed not in done:
            raise ConfigError(f"no seed {seed} of {where}; {nearest(seed, done, 'done')}")


def defined(records: Sequence[Record], metric: str) -> bool:
    """Tell whether a metric has a value on every one of these cells."""
    return all(isfinite(r.metrics.get(metric, nan)) for r in records)


def of_lists(
    a: tuple[Results, Sequence[Record]], b: tuple[Results, Sequence[Record]], metrics: Sequence[str]
) -> dict[str, Difference]:
    """Compare two rows on the metrics of all lists together, by resampling their users' lists.

    Args:
        a: Cells of A, one for each seed, and where they are.
        b: Cells of B with the same seeds and users.
        metrics: Full names; those of other levels, and those that need more than lists, are left out.

    Returns:
        By metric; empty where a folder has no catalogue to read the lists with, or there are fewer than ten users.

    Raises:
        StoreError: The two were measured on different users, or a file is broken.
    """
    specs = [parse(m) for m in metrics]
    names = [str(s) for s in specs if s.metric.level == "exposure" and s.metric.needs is None]
    results, records = a
    if not names or results.n_users(records[0]) < FEWEST:
        return {}
    first, draws = records[0], Draws.of(results.n_users(records[0]), SWAPS)
    sides: list[list[Resampled]] = []
    for results, records in (a, b):
        found = [results.lists(record, first) for record in records]
        there = [lists for lists in found if lists is not None]
        if len(there) < len(found):
            return {}
        sides.append([Resampled(lists, names, draws) for lists in there])
    return dict(difference(*sides))


def paired_test(name: TestName, a: Floats, b: Floats) -> Test:
    """Test A - B, [S, U], by name; ``t-seeds`` looks at the means of the seeds, two-sided."""
    return stats.t_seeds(a.mean(1), b.mean(1)) if name == "t-seeds" else PAIRED[name](a - b)
