"""How far our order of the methods agrees with a published one.

Sources: Kendall (1945) for tau-b. Owen (2007) for the pigeonhole bootstrap, which resamples users and seeds at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlrecbench.stats.paired import CONFIDENCE, TIE, Floats

RESAMPLES = 2_000  # ours: the ends of a 95 % interval move by less than a pair of methods
_LEAST = 3  # methods of which an order can be more than a coin's
_CHUNK = 1 << 22  # numbers held at once while resampling


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between our means of M methods and published values.

    Attributes:
        tau: 1 the same order, -1 reversed; None where one side has no order at all.
        low: Lower end of the 95 % interval over our users and seeds; the published values stand as they are. None
            with fewer than three methods.
        high: Upper end.
        p: Two-sided, of orders that have nothing to do with each other; exact without ties. None with fewer than
            three methods.
        methods: M.
    """

    tau: float | None
    low: float | None
    high: float | None
    p: float | None
    methods: int


def order_agreement(ours: ArrayLike, published: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Compare two orders of the same methods by the same metric, whose direction does not matter.

    Users and, if there are several, seeds are drawn with replacement, independently; tau of the resampled means has
    percentile limits, widened to contain tau. Methods keep their seeds and users in common.

    Args:
        ours: Values per user, [S, U, M].
        published: [M].
        resamples: Number of draws.
        seed: Of the draws.
    """
    X, y = np.asarray(ours, np.float64), np.asarray(published, np.float64)
    if (
        X.ndim != 3
        or X[..., 0].size == 0
        or y.shape != X.shape[2:]
        or not (np.isfinite(X).all() and np.isfinite(y).all())
    ):
        raise ValueError(f"found {X.shape} values for {y.shape} published ones: not finite [seeds, users, M] and [M]")
    M = len(y)
    means = X.mean((0, 1))
    tau = float(_tau(means[None], y)[0])
    if np.isnan(tau):
        return Agreement(None, None, None, None, M)
    if M < _LEAST:
        return Agreement(tau, None, None, None, M)
    from scipy.stats import kendalltau  # a second to import

    taus = np.nan_to_num(_tau(_resampled(X, resamples, np.random.default_rng(seed)), y))
    low, high = np.quantile(taus, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    p = float(kendalltau(means.round(12), y).pvalue)
    return Agreement(tau, min(tau, float(low)), max(tau, float(high)), p, M)


def _resampled(X: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of resampled users and seeds, [resamples, M]; a user whose values are all 0 only counts as drawn."""
    S, U, M = X.shape
    hit = X.any((0, 2))
    kept = X[:, hit].transpose(1, 0, 2).reshape(-1, S * M)
    means = []
    for at in range(0, resamples, step := max(1, _CHUNK // U)):
        n = min(step, resamples - at)
        users = _draws(n, U, rng)[:, hit]
        seeds = _draws(n, S, rng) / S
        means.append(np.einsum("ns,nsm->nm", seeds, (users @ kept / U).reshape(n, S, M)))
    return np.concatenate(means)


def _draws(n: int, size: int, rng: np.random.Generator) -> Floats:
    """How often each of ``size`` is drawn in ``size`` draws with replacement, [n, size]."""
    drawn = rng.integers(0, size, (n, size)) + size * np.arange(n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size).astype(np.float64)


def _tau(means: Floats, y: Floats) -> Floats:
    """tau-b of each row of [n, M] with [M]; NaN where one side is all ties."""
    i, j = np.triu_indices(len(y), 1)
    ours = np.sign((d := means[:, i] - means[:, j]) * (np.abs(d) > TIE))
    theirs = np.sign(y[i] - y[j])
    with np.errstate(invalid="ignore"):
        return np.asarray((ours @ theirs) / np.sqrt(np.abs(ours).sum(1) * np.abs(theirs).sum()), np.float64)
