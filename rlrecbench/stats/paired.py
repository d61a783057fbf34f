"""Tests on paired differences ``D[seed, user]``: is one *method* better than another?

Every test takes D = metric of A minus metric of B, [S, U], same seeds and same users on both sides, and
returns a :class:`Test`. ``two_way`` and ``t_seeds`` speak of methods (another training seed may come out
differently); ``t_users`` and what :mod:`~rlrecbench.stats.resampling` adds speak of the S pairs of checkpoints at hand.

Source: Cameron, Gelbach and Miller (2011) for two-way clustering.
"""

from dataclasses import dataclass, replace
from math import copysign, inf, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from rlrecbench.stats.settings import TestName

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

CONFIDENCE = 0.95  # of every interval
TIE = 1e-12  # a seed-averaged difference below this is rounding
WARNINGS: dict[TestName, str] = {  # what a caption has to say about a test that exists for comparison with papers
    "wilcoxon": (
        "Wilcoxon's test compares signed ranks, not means: where one row has fewer but higher hits it rejects equal "
        "means, the more often the more users there are."
    ),
}


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
        seed_square: MS_seed / n, the variance of the means by seed; None where ``variance`` is.
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
    seed_square: float | None = None

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
    D = matrix(difference)
    S, n = D.shape
    if S == 1:
        return replace(t_users(D), name="two-way")
    mean = float(D.mean())
    if n == 1:
        return student("two-way", mean, inf, 0, n, S, "methods")
    u, s = D.mean(0), D.mean(1)
    ms_user, ms_seed = S * float(u.var(ddof=1)), n * float(s.var(ddof=1))
    ms_int = float(((D - u - s[:, None] + mean) ** 2).sum()) / ((S - 1) * (n - 1))
    se, df = crossed(ms_user, ms_seed, ms_int, S, n)
    variance = Variance(max(0.0, (ms_user - ms_int) / S), max(0.0, (ms_seed - ms_int) / n), ms_int)
    return student("two-way", mean, se, df, n, S, "methods", variance, ms_seed / n)


def crossed(
    ms_user: float, ms_seed: float, ms_int: float, S: int, n: int, seed_df: float | None = None
) -> tuple[float, float]:
    """Standard error of the grand mean of a crossed S x n design, and its degrees of freedom.

    v = (MS_user + MS_seed - MS_int) / (S n), not below MS_user / (S n) nor MS_seed / (S n); the degrees of
    freedom are Satterthwaite's, or n - 1 or S - 1 where a floor holds. ``seed_df`` stands for S - 1 where more than
    this design's seeds speak in MS_seed.
    """
    seed_df = S - 1 if seed_df is None else seed_df
    both = ms_user + ms_seed - ms_int
    top = max(both, ms_user, ms_seed)
    if top == 0:
        return 0.0, float(min(S, n) - 1)
    if both == top:
        spread = ms_user**2 / (n - 1) + ms_seed**2 / seed_df + ms_int**2 / ((n - 1) * (S - 1))
        df = both**2 / spread
    else:
        df = float(n - 1 if ms_user >= ms_seed else seed_df)
    return sqrt(top / (S * n)), df


def t_users(difference: ArrayLike) -> Test:
    """Paired t over users on seed-averaged differences: are these *checkpoints* different?"""
    D = matrix(difference)
    S, n = D.shape
    u = D.mean(0)
    se = float(u.std(ddof=1)) / sqrt(n) if n > 1 else inf
    return student("t-users", float(u.mean()), se, n - 1, n, S, "checkpoints")


def t_seeds(a: ArrayLike, b: ArrayLike, alternative: Alternative = "two-sided") -> Test:
    """Welch's t on the metric's values per seed of A, [S_a], and of B, [S_b]; they need not share seeds.

    ``alternative="greater"`` asks whether A is larger; the interval is two-sided in any case.
    """
    x, y = matrix(np.atleast_2d(a))[0], matrix(np.atleast_2d(b))[0]
    mean, seeds = float(x.mean() - y.mean()), min(len(x), len(y))
    if seeds == 1:
        return student("t-seeds", mean, inf, 0, 0, seeds, "checkpoints")
    vx, vy = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    spread = vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1)
    df = (vx + vy) ** 2 / spread if spread > 0 else float(seeds - 1)
    test = student("t-seeds", mean, sqrt(vx + vy), df, 0, seeds, "methods")
    if alternative == "two-sided":
        return test
    return replace(test, p=float(stdtr(df, -test.t if alternative == "greater" else test.t)))


def wilcoxon(difference: ArrayLike) -> Test:
    """Signed-rank test over users on seed-averaged differences, as papers run it; see ``WARNINGS``.

    Users without a difference are left out (Wilcoxon's own way); p is exact for up to 50 users without ties,
    normal with a correction for ties beyond. Mean and interval are those of ``t_users``.
    """
    D = matrix(difference)
    u = D.mean(0).round(12)  # so that rounding breaks no tie
    if not u.any():
        return replace(t_users(D), name="wilcoxon", p=1.0)
    from scipy.stats import wilcoxon as signed_rank  # a second to import

    return replace(t_users(D), name="wilcoxon", p=float(signed_rank(u[u != 0]).pvalue))


def student(
    name: TestName,
    mean: float,
    se: float,
    df: float,
    users: int,
    seeds: int,
    level: Literal["methods", "checkpoints"],
    variance: Variance | None = None,
    seed_square: float | None = None,
) -> Test:
    """Two-sided t; without degrees of freedom nothing is known: p = 1 and an unbounded interval."""
    if df <= 0:
        return Test(name, mean, inf, 0.0, 0.0, 1.0, -inf, inf, users, seeds, level, variance, seed_square)
    t = mean / se if se > 0 else copysign(inf, mean) if mean else 0.0
    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * se
    p = 2 * float(stdtr(df, -abs(t)))
    return Test(name, mean, se, t, df, p, mean - half, mean + half, users, seeds, level, variance, seed_square)


def matrix(difference: ArrayLike) -> Floats:
    """Return D as numbers, [S, U]."""
    D = np.asarray(difference, np.float64)
    if D.ndim != 2 or D.size == 0 or not np.isfinite(D).all():
        raise ValueError(f"differences must be a finite matrix [seeds, users], found shape {D.shape}")
    return D
