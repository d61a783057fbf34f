"""The cells of two rows side by side: values per user, resampled lists, tests. Both rows may be of two folders."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench import stats
from rlrecbench.errors import StoreError
from rlrecbench.metrics import parse
from rlrecbench.report.comparison import PAIRED
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
    results.difference(records, b[1], "rank")  # refuses different users, and names them
    users = pd.Index(results.users(records[0])["user_id"])
    draws = Draws.of(len(users))
    sides: list[list[Resampled]] = []
    for results, records in (a, b):
        side = []
        for record in records:
            lists = results.lists(record)
            if lists is None:
                return {}
            order = pd.Index(results.users(record)["user_id"]).get_indexer(users)
            side.append(Resampled(lists.select(order.astype(np.int64)), names, draws))
        sides.append(side)
    return dict(difference(*sides))


def paired_test(name: TestName, a: Floats, b: Floats) -> Test:
    """Test A - B, [S, U], by name; ``t-seeds`` looks at the means of the seeds, two-sided."""
    return stats.t_seeds(a.mean(1), b.mean(1)) if name == "t-seeds" else PAIRED[name](a - b)
