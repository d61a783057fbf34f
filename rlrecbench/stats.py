"""Is one *method* better than another? Tests on paired differences ``D[seed, user]``, corrections, verdicts.

Every test takes D = metric of A minus metric of B, [S, U], same seeds and same users on both sides, and
returns a :class:`Test`. ``two_way`` and ``t_seeds`` speak of methods (another training seed may come out
differently); ``t_users``, ``permutation`` and ``bootstrap`` speak of the S pairs of checkpoints at hand.

Source: Cameron, Gelbach and Miller (2011) for two-way clustering.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import copysign, inf, sqrt
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from rlrecbench.config import Weight

Floats = NDArray[np.float64]
TestName = Literal["two-way", "t-seeds", "t-users", "permutation", "bootstrap"]
Correction = Literal["holm", "bh", "none"]
Alternative = Literal["two-sided", "greater", "less"]
Direction = Literal["higher", "lower"]
Rows = Literal["methods", "backbones"]
Verdict = Literal["better", "worse", "equivalent", "cannot tell"]

RESAMPLES = 9_999  # smallest p = 1/10,000
CONFIDENCE = 0.95  # of every interval
_CHUNK = 1 << 22  # numbers held at once while resampling
_TIE = 1e-12  # a seed-averaged difference below this is rounding


@dataclass(frozen=True)
class StatsConfig:
    """What a suite declares before it runs: one metric, one baseline, one family of comparisons per block."""

    primary: str = "ndcg@10"  # metric on which rows are compared
    rows: Rows = "methods"  # what is compared in a block: methods on one backbone, or backbones under one method
    baseline: str | None = None  # label of the row that the others are compared with; none: sft, or the first backbone
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.05  # level of the corrected test
    correction: Correction = "holm"  # over all rows of a block against the baseline
    min_effect: Weight = 0.02  # share of the baseline's mean below which a difference does not matter
    test: TestName = "two-way"  # the others exist for comparison with papers


class Variance(NamedTuple):
    """Variance components of D, in squared units of the metric; negative estimates count as 0."""

    users: float
    seeds: float
    interaction: float


@dataclass(frozen=True)
class Test:
    """Outcome of one comparison.

    Attributes:
        name: Which test.
        mean: Mean of D over seeds and users.
        se: Standard error of the mean; infinite where it cannot be estimated.
        t: mean / se.
        df: Degrees of freedom of t; 0 where se cannot be estimated.
        p: Two-sided unless a test says otherwise.
        low: Lower end of the 95 % interval of the mean.
        high: Upper end.
        users: U; 0 where the test does not look at users.
        seeds: S.
        level: What the claim is about.
        variance: Components of D; None where the test cannot tell them apart.
    """

    name: TestName
    mean: float
    se: float
    t: float
    df: float
    p: float
    low: float
    high: float
    users: int
    seeds: int
    level: Literal["methods", "checkpoints"]
    variance: Variance | None = None

    @property
    def checkpoint_only(self) -> bool:
        """Whether one training seed is all there is, so that nothing can be said about methods."""
        return self.seeds == 1


def two_way(difference: ArrayLike) -> Test:
    """Test the mean of D with users and seeds both random and crossed; one seed falls back to ``t_users``.

    MS_user = S var(u), MS_seed = n var(s), MS_int = sum (D - u - s + m)^2 / ((S - 1)(n - 1)), with u the
    means over seeds, s the means over users; the standard error is that of :func:`crossed`. In simulation its
    level is .04 to .07 at a nominal .05 from three seeds on, and up to .11 with two.
    """
    D = _matrix(difference)
    S, n = D.shape
    if S == 1:
        return replace(t_users(D), name="two-way")
    mean = float(D.mean())
    if n == 1:
        return _student("two-way", mean, inf, 0, n, S, "methods")
    u, s = D.mean(0), D.mean(1)
    ms_user, ms_seed = S * float(u.var(ddof=1)), n * float(s.var(ddof=1))
    ms_int = float(((D - u - s[:, None] + mean) ** 2).sum()) / ((S - 1) * (n - 1))
    se, df = crossed(ms_user, ms_seed, ms_int, S, n)
    variance = Variance(max(0.0, (ms_user - ms_int) / S), max(0.0, (ms_seed - ms_int) / n), ms_int)
    return _student("two-way", mean, se, df, n, S, "methods", variance)


def crossed(ms_user: float, ms_seed: float, ms_int: float, S: int, n: int) -> tuple[float, float]:
    """Standard error of the grand mean of a crossed S x n design, and its degrees of freedom.

    v = (MS_user + MS_seed - MS_int) / (S n), not below MS_user / (S n) nor MS_seed / (S n); the degrees of
    freedom are Satterthwaite's, or n - 1 or S - 1 where a floor holds.
    """
    both = ms_user + ms_seed - ms_int
    top = max(both, ms_user, ms_seed)
    if top == 0:
        return 0.0, float(min(S, n) - 1)
    if both == top:
        spread = ms_user**2 / (n - 1) + ms_seed**2 / (S - 1) + ms_int**2 / ((n - 1) * (S - 1))
        df = both**2 / spread
    else:
        df = float(n - 1 if ms_user >= ms_seed else S - 1)
    return sqrt(top / (S * n)), df


def t_users(difference: ArrayLike) -> Test:
    """Paired t over users on seed-averaged differences: are these *checkpoints* different?"""
    D = _matrix(difference)
    S, n = D.shape
    u = D.mean(0)
    se = float(u.std(ddof=1)) / sqrt(n) if n > 1 else inf
    return _student("t-users", float(u.mean()), se, n - 1, n, S, "checkpoints")


def t_seeds(a: ArrayLike, b: ArrayLike, alternative: Alternative = "two-sided") -> Test:
    """Welch's t on the metric's values per seed of A, [S_a], and of B, [S_b]; they need not share seeds.

    ``alternative="greater"`` asks whether A is larger; the interval is two-sided in any case.
    """
    x, y = _matrix(np.atleast_2d(a))[0], _matrix(np.atleast_2d(b))[0]
    mean, seeds = float(x.mean() - y.mean()), min(len(x), len(y))
    if seeds == 1:
        return _student("t-seeds", mean, inf, 0, 0, seeds, "methods")
    vx, vy = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    spread = vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1)
    df = (vx + vy) ** 2 / spread if spread > 0 else float(seeds - 1)
    test = _student("t-seeds", mean, sqrt(vx + vy), df, 0, seeds, "methods")
    if alternative == "two-sided":
        return test
    return replace(test, p=float(stdtr(df, -test.t if alternative == "greater" else test.t)))


def permutation(difference: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Test:
    """Sign-flip permutation over users: p = (b + 1) / (m + 1), b = flips whose |mean| reaches the observed.

    Users without a difference are left out: their sign changes nothing. The interval is that of ``t_users``.
    """
    D = _matrix(difference)
    u = D.mean(0)
    u = u[np.abs(u) > _TIE]
    rng, total, b = np.random.default_rng(seed), float(u.sum()), 0
    width = -(-len(u) // 8)
    reach = abs(total) - _TIE * float(np.abs(u).sum())
    for m in _chunks(resamples, len(u)):
        coins = rng.integers(0, 256, (m, width), dtype=np.uint8)
        heads = np.unpackbits(coins, axis=1, count=len(u)).astype(np.float64) @ u
        b += int((np.abs(2 * heads - total) >= reach).sum())
    return replace(t_users(D), name="permutation", p=(b + 1) / (resamples + 1))


def bootstrap(difference: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Test:
    """Paired percentile bootstrap over users: interval, and p = twice the smaller tail, (b + 1) / (m + 1).

    Resampling users is drawing multinomial counts of the distinct differences, of which there are few.
    """
    D = _matrix(difference)
    n = D.shape[1]
    if n == 1:
        return replace(t_users(D), name="bootstrap")
    values, counts = np.unique(D.mean(0), return_counts=True)
    rng = np.random.default_rng(seed)
    means = np.concatenate([rng.multinomial(n, counts / n, m) @ values / n for m in _chunks(resamples, len(values))])
    tail = min(int((means <= _TIE).sum()), int((means >= -_TIE).sum()))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    p = min(1.0, 2 * (tail + 1) / (resamples + 1))
    return replace(t_users(D), name="bootstrap", se=float(means.std(ddof=1)), p=p, low=float(low), high=float(high))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the family-wise error stays below alpha."""
    return _corrected(p, "holm")


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's correction: the false discovery rate stays below alpha."""
    return _corrected(p, "fdr_bh")


CORRECTIONS: dict[Correction, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bh": benjamini_hochberg,
    "none": list,
}


def verdict(
    test: Test,
    baseline: float,
    min_effect: float,
    alpha: float,
    corrected_p: float,
    better: Direction = "higher",
) -> Verdict:
    """Say what a comparison came to.

    Equivalent comes first: an interval inside +- min_effect of the baseline's mean is a difference too small
    to matter, significant or not. With one seed nothing can be said about methods.

    Args:
        test: The comparison of a method with the baseline.
        baseline: The baseline's mean.
        min_effect: Share of ``baseline``.
        alpha: Level for ``corrected_p``.
        corrected_p: The test's p-value after correction over its family.
        better: Direction of the metric.
    """
    if test.checkpoint_only:
        return "cannot tell"
    margin = min_effect * abs(baseline)
    if -margin <= test.low and test.high <= margin:
        return "equivalent"
    if corrected_p >= alpha:
        return "cannot tell"
    return "better" if (test.mean > 0) == (better == "higher") else "worse"


def seeds_needed(test: Test, baseline: float, min_effect: float, alpha: float, most: int = 100) -> int | None:
    """About how many seeds would settle the comparison, were mean and variances to stay as they are.

    Settled: the interval excludes 0 or lies inside +- min_effect of the baseline, whichever comes first.

    Returns:
        None where the test does not split the variance or ``most`` seeds would not do (more users might).
    """
    if test.variance is None:
        return None
    v, n, mean = test.variance, test.users, abs(test.mean)
    half = max(mean, min_effect * abs(baseline) - mean)
    for S in range(test.seeds + 1, most + 1):
        se, df = crossed(S * v.users + v.interaction, n * v.seeds + v.interaction, v.interaction, S, n)
        if float(stdtrit(df, 1 - alpha / 2)) * se < half:
            return S
    return None


class Tally(NamedTuple):
    """Users and seeds for which A did better, worse or the same, by their mean difference."""

    users_won: int
    users_lost: int
    users_tied: int
    seeds_won: int


def tally(difference: ArrayLike, better: Direction = "higher") -> Tally:
    """Count won, lost and tied users, and won seeds."""
    D = _matrix(difference) * (1 if better == "higher" else -1)
    u, s = D.mean(0), D.mean(1)
    won, lost = int((u > _TIE).sum()), int((u < -_TIE).sum())
    return Tally(won, lost, len(u) - won - lost, int((s > _TIE).sum()))


def _student(
    name: TestName,
    mean: float,
    se: float,
    df: float,
    users: int,
    seeds: int,
    level: Literal["methods", "checkpoints"],
    variance: Variance | None = None,
) -> Test:
    """Two-sided t; without degrees of freedom nothing is known: p = 1 and an unbounded interval."""
    if df <= 0:
        return Test(name, mean, inf, 0.0, 0.0, 1.0, -inf, inf, users, seeds, level, variance)
    t = mean / se if se > 0 else copysign(inf, mean) if mean else 0.0
    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * se
    p = 2 * float(stdtr(df, -abs(t)))
    return Test(name, mean, se, t, df, p, mean - half, mean + half, users, seeds, level, variance)


def _matrix(difference: ArrayLike) -> Floats:
    D = np.asarray(difference, np.float64)
    if D.ndim != 2 or D.size == 0 or not np.isfinite(D).all():
        raise ValueError(f"differences must be a finite matrix [seeds, users], found shape {D.shape}")
    return D


def _chunks(resamples: int, width: int) -> list[int]:
    """Split the resamples so that a chunk holds about ``_CHUNK`` numbers."""
    size = max(1, _CHUNK // max(1, width))
    return [min(size, resamples - at) for at in range(0, resamples, size)]


def _corrected(p: Sequence[float], method: str) -> list[float]:
    if not p:
        return []
    from statsmodels.stats.multitest import multipletests  # a second to import; only tables need it

    return [float(x) for x in multipletests(p, method=method)[1]]
