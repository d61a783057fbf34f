"""Tests on paired differences ``D[seed, user]`` without a distribution: sign flips and the bootstrap, over users.

Source: Efron (1987) for BCa.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from rlrecbench.stats.paired import CONFIDENCE, TIE, Floats, Test, matrix, t_users

RESAMPLES = 9_999  # smallest p = 1/10,000
_CHUNK = 1 << 22  # numbers held at once while resampling


def permutation(difference: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Test:
    """Sign-flip permutation over users: p = (b + 1) / (m + 1), b = flips whose |mean| reaches the observed.

    Users without a difference are left out: their sign changes nothing. The interval is that of ``t_users``.
    """
    D = matrix(difference)
    u = D.mean(0)
    u = u[np.abs(u) > TIE]
    rng, total, b = np.random.default_rng(seed), float(u.sum()), 0
    width = -(-len(u) // 8)
    reach = abs(total) - TIE * float(np.abs(u).sum())
    for m in _chunks(resamples, len(u)):
        coins = rng.integers(0, 256, (m, width), dtype=np.uint8)
        heads = np.unpackbits(coins, axis=1, count=len(u)).astype(np.float64) @ u
        b += int((np.abs(2 * heads - total) >= reach).sum())
    return replace(t_users(D), name="permutation", p=(b + 1) / (resamples + 1))


def bootstrap(
    difference: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    kind: Literal["percentile", "bca"] = "percentile",
) -> Test:
    """Paired bootstrap over users: an interval, and the p at which that interval would end at 0.

    With b resampled means at or beyond 0, a tail is (b + 1) / (m + 1), so p is never 0.

    Args:
        difference: D, [S, U].
        resamples: m.
        seed: Of the draws.
        kind: Plain quantiles of the resampled means, or quantiles corrected for their bias and skewness.
    """
    D = matrix(difference)
    u = D.mean(0)
    if len(u) == 1:
        return replace(t_users(D), name="bootstrap")
    means = _resampled(u, resamples, np.random.default_rng(seed))
    bias, acceleration = _corrections(u, means) if kind == "bca" else (0.0, 0.0)
    z = bias + ndtri([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    below, above = ((int(beyond.sum()) + 1) / (resamples + 1) for beyond in (means <= TIE, means >= -TIE))
    away = ndtri([min(below, 1 - TIE), max(1 - above, TIE)]) - bias
    level = ndtr(away / (1 + acceleration * away) - bias)
    p = min(1.0, 2 * min(float(level[0]), 1 - float(level[1])))
    return replace(t_users(D), name="bootstrap", se=float(means.std(ddof=1)), p=p, low=float(low), high=float(high))


def _resampled(u: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of users drawn with replacement; of users without a difference only the number is drawn."""
    n, values = len(u), np.append(u[u != 0], 0.0)
    means = []
    for m in _chunks(resamples, n):
        drawn = rng.binomial(n, (len(values) - 1) / n, m)
        at = rng.integers(0, max(1, len(values) - 1), int(drawn.sum()) + 1)
        at[-1] = -1  # a 0 behind the last
        sums = np.add.reduceat(values[at], np.cumsum(drawn) - drawn)
        means.append(np.where(drawn > 0, sums, 0.0) / n)
    return np.concatenate(means)


def _corrections(u: Floats, means: Floats) -> tuple[float, float]:
    """Bias and acceleration of BCa; the jackknife over users of a mean has influence values u - mean(u)."""
    below = float(((means < u.mean() - TIE) + 0.5 * (np.abs(means - u.mean()) <= TIE)).mean())
    influence = u - u.mean()
    spread = float((influence**2).sum()) ** 1.5
    limit = 1 / (len(means) + 1)
    return float(ndtri(np.clip(below, limit, 1 - limit))), float((influence**3).sum()) / (6 * spread) if spread else 0.0


def _chunks(resamples: int, width: int) -> list[int]:
    """Split the resamples so that a chunk holds about ``_CHUNK`` numbers."""
    size = max(1, _CHUNK // max(1, width))
    return [min(size, resamples - at) for at in range(0, resamples, size)]
