"""Two methods compared on metrics of all lists together (DGU, entropy, coverage, ...), which have no values per user.

Every such metric is a function of counts, and counts add up over users, so a thousand resamples are one matrix product.

- p: a paired permutation. Under the hypothesis that it does not matter which method made a user's lists, swapping the
  user's lists, all seeds together, between A and B changes nothing: p = (b + 1) / (m + 1). Users are swapped in
  random bundles fixed beforehand, which leaves the test exact.
- Interval: a metric that looks at popularity groups only is smooth, and so are means over users: percentile bootstrap.
  Numbers of distinct items or words grow with the number of users, and a bootstrap, which sees 63 % of the users,
  misses its own estimate; so may entropies and divergences of items and words. For these the delete-d jackknife draws
  subsets of n - d users and scales their spread: v = (n - d) / d * mean (theta_s - mean theta)^2.
- Both speak of the checkpoints at hand. Of methods speaks a test with users and seeds crossed, as in
  :func:`~rlrecbench.stats.paired.two_way`, whose mean squares come from the resampled variances.

Source: Shao and Wu, 1989 (jackknife).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from math import inf, isfinite
from os import cpu_count
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no type information

from rlrecbench.data.groups import GROUPS
from rlrecbench.errors import ConfigError
from rlrecbench.metrics.exposure import Counts, Exposure, Part, parts
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import Spec, evaluate, parse
from rlrecbench.stats.draws import Draws
from rlrecbench.stats.paired import CONFIDENCE, TIE, Test, Variance, crossed, student

_ROWS = 100  # resamples of one matrix product
_FEW = 25  # resamples of one evaluation: their counts stay near the processor
_THREADS = min(4, cpu_count() or 1)  # each holds some 30 MB
_EXACT = 1 << 23  # the sum of two whole numbers below this is exact in single precision


class Difference(NamedTuple):
    """A metric of A minus that of B, both averaged over seeds.

    Attributes:
        mean: With all users.
        se: Standard error over users; seeds are taken as given.
        low: Lower end of the 95 % interval over users.
        high: Upper end.
        p_swap: Of the permutation: do these checkpoints differ?
        test: Users and seeds crossed: do the methods differ? With one seed it speaks of checkpoints.
    """

    mean: float
    se: float
    low: float
    high: float
    p_swap: float
    test: Test


class Interval(NamedTuple):
    """A metric averaged over seeds.

    Attributes:
        mean: With all users.
        se: Standard error over users; seeds are taken as given.
        low: Lower end of the 95 % interval over users.
        high: Upper end.
    """

    mean: float
    se: float
    low: float
    high: float


class Resampled:
    """The lists of one method and seed, evaluated with all users and with some of them.

    Holds B (N + W) numbers for each cut-off, 28 MB on Beauty: let go of a cell after its comparisons.

    Args:
        lists: One row for each user.
        names: Metrics such as ``entropy@10``, of users or of exposure.
        draws: The same for all cells with these users.

    Attributes:
        value: Value of each metric.
        resampled: Values of each metric with users drawn again, [m], or with some left out, [R].

    Raises:
        ConfigError: A metric looks at whole lists, or there is none of this name.
        ValueError: The draws are of another number of users.
    """

    def __init__(self, lists: Lists, names: Sequence[str], draws: Draws) -> None:
        if len(lists) != draws.users:
            raise ValueError(f"the draws are of {draws.users} users, the lists of {len(lists)}")
        self.specs = {str(spec): spec for spec in map(parse, names)}
        for name, spec in self.specs.items():
            if spec.metric.level == "list":
                raise ConfigError(f"{name} looks at whole lists; only metrics of users and of exposure are resampled")
        self.lists, self.draws = lists, draws
        found = evaluate(lists, list(self.specs.values()))
        self.value, self.per_user = found.values, found.per_user
        self._counts: dict[tuple[int, Part], Counts] = {}
        self.resampled = self._drawn_again() | self._left_out()

    def bundles(self, k: int, part: Part) -> Counts:
        """Counts of each bundle of users, [B, P]; made once."""
        if (k, part) not in self._counts:
            B, N, top = self.draws.bundles, self.lists.reference.n_items, self.lists.ranked[:, :k]
            at = (top * B + self.draws.bundle[:, None])[top >= 0]
            items = np.bincount(at, minlength=N * B).reshape(N, B).T
            counts = parts(items.astype(np.float32), self.lists.reference, part)
            exact = counts.sum(dtype=np.float64) < _EXACT
            self._counts[k, part] = counts if exact else parts(items.astype(np.float64), self.lists.reference, part)
        return self._counts[k, part]

    def _drawn_again(self) -> dict[str, Floats]:
        """Means over users and smooth metrics, each [m]."""
        smooth = _chosen(self.specs, smooth=True)
        cutoffs = sorted({spec.k for spec in smooth.values()})
        columns = [_groups_of_users(self.lists, k) for k in cutoffs]
        columns += [values[:, None] for values in self.per_user.values()]
        if not columns:
            return {}
        X = np.concatenate(columns, 1).astype(np.float32 if self.lists.ranked.size < _EXACT else np.float64)
        again = self.draws.again
        sums = np.concatenate([_product(again[at : at + 256], X) for at in range(0, len(again), 256)])
        groups = {k: sums[:, GROUPS * i : GROUPS * (i + 1)] for i, k in enumerate(cutoffs)}
        means = sums[:, GROUPS * len(cutoffs) :].T / self.draws.users
        reference = self.lists.reference
        return dict(zip(self.per_user, means.astype(np.float64), strict=True)) | {
            name: np.asarray(spec.metric(Exposure(reference, {"groups": groups[spec.k]}.__getitem__)))
            for name, spec in smooth.items()
        }

    def _left_out(self) -> dict[str, Floats]:
        """The other metrics, each [R]."""
        rough = _chosen(self.specs, smooth=False)
        if not rough:
            return {}
        kept, reference = self.draws.kept, self.lists.reference
        share = float(kept.mean())

        def evaluated(rows: slice) -> Floats:
            counts = cache(lambda k, part: _product(kept[rows], self.bundles(k, part)))
            return _by_few(rough, lambda few, k: Exposure(reference, lambda part: counts(k, part)[few], share), rows)

        return dict(zip(rough, _by_rows(evaluated, len(kept)).T, strict=True))


def difference(a: Sequence[Resampled], b: Sequence[Resampled]) -> Mapping[str, Difference]:
    """Compare two methods, cell by cell, on all metrics that their cells were resampled for.

    Args:
        a: Cells of A, one for each seed.
        b: Cells of B with the same seeds, draws and metrics.

    Raises:
        ValueError: The cells do not fit each other.
    """
    p = {name: _reached(values) for name, values in swapped(a, b).items()}
    draws, out = a[0].draws, {}
    for name, spec in a[0].specs.items():
        means = np.array([x.value[name] - y.value[name] for x, y in zip(a, b, strict=True)])
        drawn = np.stack([x.resampled[name] - y.resampled[name] for x, y in zip(a, b, strict=True)])
        mean, se, low, high = _interval(spec, means, drawn, draws)
        test = _crossed(means, _variance(spec, drawn, draws), se**2, draws.users)
        out[name] = Difference(mean, se, low, high, p[name], test)
    return out


def intervals(cells: Sequence[Resampled]) -> Mapping[str, Interval]:
    """Each metric of one method, averaged over its cells of different seeds, and how far users make it uncertain.

    Raises:
        ValueError: The cells do not fit each other.
    """
    _check(cells, cells)
    values = {name: np.array([cell.value[name] for cell in cells]) for name in cells[0].specs}
    drawn = {name: np.stack([cell.resampled[name] for cell in cells]) for name in cells[0].specs}
    draws = cells[0].draws
    return {name: _interval(spec, values[name], drawn[name], draws) for name, spec in cells[0].specs.items()}


def _interval(spec: Spec, values: Floats, drawn: Floats, draws: Draws) -> Interval:
    """Interval of the mean over seeds of values [S] that are [S, R] if resampled."""
    mean, averaged = float(values.mean()), drawn.mean(0)
    se = float(np.sqrt(_variance(spec, averaged, draws)))
    if _bootstrapped(spec):
        low, high = np.quantile(averaged, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Interval(mean, se, float(low), float(high))
    reach = float(ndtri(0.5 + CONFIDENCE / 2)) * se
    return Interval(mean, se, mean - reach, mean + reach)


def _variance(spec: Spec, drawn: Floats, draws: Draws) -> Floats:
    """Variance over users of values that are [..., R] if resampled, [...]."""
    return np.asarray(drawn.var(-1, ddof=1) if _bootstrapped(spec) else draws.scale * drawn.var(-1))


def _bootstrapped(spec: Spec) -> bool:
    return spec.metric.level == "user" or spec.metric.smooth


def _crossed(means: Floats, per_seed: Floats, averaged: float, n: int) -> Test:
    """Users and seeds crossed: differences by seed [S], their variances over users [S], that of their mean.

    sigma_int^2 / n = (mean of per_seed - averaged) S / (S - 1), MS_user = S n averaged, MS_seed = n var(means).
    """
    S, mean = len(means), float(means.mean())
    if not isfinite(mean + averaged):
        return student("two-way", mean, inf, 0, n, S, "methods" if S > 1 else "checkpoints")
    if S == 1:
        return student("two-way", mean, averaged**0.5, n - 1, n, S, "checkpoints")
    ms_user, ms_seed = S * n * averaged, n * float(means.var(ddof=1))
    ms_int = max(0.0, n * (float(per_seed.mean()) - averaged) * S / (S - 1))
    se, df = crossed(ms_user, ms_seed, ms_int, S, n)
    variance = Variance(max(0.0, (ms_user - ms_int) / S), max(0.0, (ms_seed - ms_int) / n), ms_int)
    return student("two-way", mean, se, df, n, S, "methods", variance, ms_seed / n)


def swapped(a: Sequence[Resampled], b: Sequence[Resampled]) -> dict[str, Floats]:
    """Each metric of A minus that of B, averaged over seeds, if some users' lists change sides, [m + 1].

    The first is the difference itself, with nobody's lists swapped.
    """
    _check(a, b)
    specs, draws = _chosen(a[0].specs), a[0].draws
    out = {name: np.zeros(len(draws.swapped)) for name in a[0].specs}
    for x, y in zip(a, b, strict=True):
        for name in x.per_user:
            d = np.bincount(draws.bundle, x.per_user[name] - y.per_user[name], draws.bundles)
            out[name] += (d.sum() - 2 * (draws.swapped @ d)) / draws.users
        if specs:
            values = _by_rows(partial(_Pair(x, y).difference, specs), len(draws.swapped))
            for name, column in zip(specs, values.T, strict=True):
                out[name] += column
    return {name: values / len(a) for name, values in out.items()}


def _reached(values: Floats) -> float:
    """Share of the swaps whose difference is at least as large as the first; 1 where the metric is undefined."""
    return float(np.mean(~(np.abs(values) < abs(values[0]) - TIE)))


class _Pair:
    """Two cells of one seed whose users change sides."""

    def __init__(self, a: Resampled, b: Resampled) -> None:
        self.a, self.b = a, b
        self._moved: dict[tuple[int, Part], tuple[Counts, Counts, Counts]] = {}

    def difference(self, specs: Mapping[str, Spec], rows: slice) -> Floats:
        """Each metric of the one side minus that of the other, [rows, M]."""
        swapped, reference = self.a.draws.swapped[rows], self.a.lists.reference
        gained = cache(lambda k, part: _product(swapped, self.moved(k, part)[2]))

        def one(few: slice, k: int) -> Exposure:
            return Exposure(reference, lambda part: self.moved(k, part)[0] + gained(k, part)[few])

        def two(few: slice, k: int) -> Exposure:
            return Exposure(reference, lambda part: self.moved(k, part)[1] - gained(k, part)[few])

        return _by_few(specs, one, rows) - _by_few(specs, two, rows)

    def moved(self, k: int, part: Part) -> tuple[Counts, Counts, Counts]:
        """Counts of A and of B, [P], and what A gains where a bundle changes sides, [B, P]; made once."""
        if (k, part) not in self._moved:
            a, b = self.a.bundles(k, part), self.b.bundles(k, part)
            total_a, total_b = a.sum(0), b.sum(0)
            there = (total_a + total_b > 0) | (part != "words")
            self._moved[k, part] = total_a[there], total_b[there], (b - a).T[there].T
        return self._moved[k, part]


def _chosen(specs: Mapping[str, Spec], smooth: bool | None = None) -> dict[str, Spec]:
    """Metrics of exposure; only the smooth or the other ones, unless None."""
    exposed = {name: spec for name, spec in specs.items() if spec.metric.level == "exposure"}
    return {name: spec for name, spec in exposed.items() if smooth in (None, spec.metric.smooth)}


def _by_few(specs: Mapping[str, Spec], exposure: Callable[[slice, int], Exposure], rows: slice) -> Floats:
    """Metrics of the exposure of a few resamples at a cut-off, for all the rows, [rows, M]."""
    out = []
    for at in range(0, rows.stop - rows.start, _FEW):
        here = cache(lambda k, few=slice(at, at + _FEW): exposure(few, k))
        out.append(np.stack([np.asarray(spec.metric(here(spec.k))) for spec in specs.values()], -1))
    return np.concatenate(out)


def _by_rows(function: Callable[[slice], Floats], rows: int) -> Floats:
    """Evaluate a function of rows, in threads; the first row alone, which fills caches."""
    with _libraries().limit(limits=1), ThreadPoolExecutor(_THREADS) as pool:
        first = function(slice(0, 1))
        rest = pool.map(function, [slice(at, min(at + _ROWS, rows)) for at in range(1, rows, _ROWS)])
        return np.concatenate([first, *rest])


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of matrix products, whose threads would get in the way of ours."""
    return ThreadpoolController()


def _product(draws: Counts, counts: Counts) -> Counts:
    """Counts of resamples, [m, ...]."""
    return np.asarray(draws.astype(counts.dtype) @ counts)


def _groups_of_users(lists: Lists, k: int) -> Counts:
    """Recommendations of each popularity group to each user, [U, 8]."""
    top = lists.ranked[:, :k]
    group = lists.reference.group_of_item[np.maximum(top, 0)] + GROUPS * np.arange(len(top))[:, None]
    return np.bincount(group[top >= 0], minlength=GROUPS * len(top)).reshape(-1, GROUPS)


def _check(a: Sequence[Resampled], b: Sequence[Resampled]) -> None:
    cells = [*a, *b]
    if not a or len(a) != len(b):
        raise ValueError(f"both methods need cells of the same seeds, at least one; found {len(a)} and {len(b)}")
    if any(not np.array_equal(x.lists.target, cells[0].lists.target) for x in cells):
        raise ValueError(f"both methods need lists of the same users; found {[len(x.lists) for x in cells]} of them")
    if any(x.draws is not cells[0].draws or x.specs != cells[0].specs for x in cells):
        raise ValueError("the cells were resampled by different draws or for different metrics")
