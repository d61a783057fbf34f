"""What a design of so many users and seeds can see, given how users and seeds vary.

The two-way test's critical value moves with the seeds' mean square, which has S - 1 degrees of freedom; those of the
users and of the interaction have thousands and count as known. Power is an average over quantiles of the first. A
noncentral t with Satterthwaite's degrees of freedom, the textbook's way, falls short by up to .08 with three seeds.
"""

from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtrit

from rlrecbench.stats.paired import Floats, Variance, crossed

_QUANTILES = (np.arange(1024) + 0.5) / 1024


class _Design(NamedTuple):
    """How a design's mean difference varies, and from where on it counts."""

    sd: float  # of the mean difference
    edges: Floats  # smallest |mean difference| that is significant, by quantile of the seeds' mean square


def power_of(effect: float, variance: Variance, users: int, seeds: int, alpha: float = 0.05) -> float:
    """Probability that the two-way test rejects at ``alpha`` when the methods differ by ``effect``.

    Without an effect that is the level which the test really has. With one seed or one user it is 0: nothing can be
    said about methods.

    Args:
        effect: Difference of the methods, in units of the metric.
        variance: Of the paired differences, such as ``Test.variance`` of a comparison that has been run.
        users: n.
        seeds: S.
        alpha: Level; divide it by the size of the family to stay on the safe side of Holm.
    """
    if seeds < 2 or users < 2:
        return 0.0
    design = _design(variance, users, seeds, alpha)
    return float(effect != 0) if design.sd == 0 else _rejection(abs(effect) / design.sd, design)


def smallest_effect(variance: Variance, users: int, seeds: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference that the two-way test finds with probability ``power``; infinite with one seed or user.

    Args:
        variance: As in :func:`power_of`.
        users: n.
        seeds: S.
        alpha: As in :func:`power_of`.
        power: Well above ``alpha``; .8 is Cohen's (1988) convention.
    """
    if seeds < 2 or users < 2:
        return inf
    design = _design(variance, users, seeds, alpha)
    if design.sd == 0:
        return 0.0
    from scipy.optimize import brentq

    most = 1.0
    while _rejection(most, design) < power:
        most *= 2
    return design.sd * float(brentq(lambda shift: _rejection(shift, design) - power, 0.0, most))


def _design(variance: Variance, n: int, S: int, alpha: float) -> _Design:
    """Expected mean squares are S users + interaction, n seeds + interaction and interaction."""
    ms_user, ms_seed = S * variance.users + variance.interaction, n * variance.seeds + variance.interaction
    edges = []
    for chi2 in 2 * gammaincinv((S - 1) / 2, _QUANTILES):
        se, df = crossed(ms_user, ms_seed * chi2 / (S - 1), variance.interaction, S, n)
        edges.append(float(stdtrit(df, 1 - alpha / 2)) * se)
    return _Design(sqrt(variance.users / n + variance.seeds / S + variance.interaction / (n * S)), np.array(edges))


def _rejection(shift: float, design: _Design) -> float:
    """Probability that a mean difference of ``shift`` standard deviations counts."""
    edges = design.edges / design.sd
    return float((ndtr(shift - edges) + ndtr(-shift - edges)).mean())
