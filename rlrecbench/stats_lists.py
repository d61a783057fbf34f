"""Intervals for metrics of all lists together (entropy, coverage, DGU, ...), by leaving users out.

Such a metric has no per-user values, and several of them (coverage, entropy, TTR) grow with the number of users,
so a bootstrap, which sees only 63 % of the users, misses its own estimate. The delete-d jackknife draws subsets
of n - d users and scales their spread: v = (n - d) / d * mean (theta_s - mean theta)^2.

Source: Shao and Wu, 1989.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import Spec, evaluate, parse

DELETED = 0.2  # share d / n of the users left out of a subset; ours, between sqrt(n) / n and 1 as the theory asks
SUBSETS = 400
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """A metric of A minus that of B, both averaged over seeds.

    Attributes:
        mean: With all users.
        se: Jackknife standard error over users; seeds are taken as given.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    mean: float
    se: float
    low: float
    high: float


def paired(
    a: Sequence[Lists], b: Sequence[Lists], names: Sequence[str], *, subsets: int = SUBSETS, seed: int = 0
) -> Mapping[str, Difference]:
    """Compare two methods' lists for the same users, on metrics at list or user level.

    Args:
        a: Lists of A, one for each seed, the same users in the same order.
        b: Lists of B.
        names: Metrics such as ``entropy@10``.
        subsets: Number of subsets.
        seed: Seed of the subsets; the same subsets serve all metrics and both methods.

    Raises:
        ValueError: The lists do not have the same users, or there are fewer than ten.
    """
    n = len(a[0]) if a and b else 0
    if n < 10 or any(not np.array_equal(x.target, a[0].target) for x in (*a, *b)):
        raise ValueError(
            f"both methods need lists of the same users, at least ten; found {[len(x) for x in (*a, *b)]} "
            "users, or users with other targets"
        )
    specs = [parse(name) for name in names]
    deleted = max(1, round(DELETED * n))
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.permutation(n)[: n - deleted]) for _ in range(subsets)]
    whole = _difference(a, b, specs, np.arange(n))
    parts = np.stack([_difference(a, b, specs, r) for r in rows])
    se = np.sqrt((n - deleted) / deleted * ((parts - parts.mean(0)) ** 2).mean(0))
    reach = float(ndtri(0.5 + CONFIDENCE / 2))
    return {
        name: Difference(float(m), float(s), float(m - reach * s), float(m + reach * s))
        for name, m, s in zip(names, whole, se, strict=True)
    }


def _difference(a: Sequence[Lists], b: Sequence[Lists], specs: Sequence[Spec], rows: Ints) -> Floats:
    """Mean over the seeds of each metric of A minus that of B, with some users only, [metrics]."""
    one, two = (np.mean([_values(lists.select(rows), specs) for lists in side], 0) for side in (a, b))
    return np.asarray(one - two)


def _values(lists: Lists, specs: Sequence[Spec]) -> list[float]:
    values = evaluate(lists, specs).values
    return [values[str(spec)] for spec in specs]
