"""How large a difference is, and on how many users and seeds it rests."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlrecbench.stats.paired import TIE, Floats, matrix, two_way
from rlrecbench.stats.settings import Direction


class Tally(NamedTuple):
    """Users and seeds for which A did better, worse or the same, by their mean difference."""

    users_won: int
    users_lost: int
    users_tied: int
    seeds_won: int


class Interval(NamedTuple):
    """A figure with its 95 % interval; infinite ends where it cannot be estimated."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """Sizes of one comparison, beside its :class:`~rlrecbench.stats.paired.Test`.

    Attributes:
        relative: Mean difference as a share of B's mean; None where that is 0.
        standardised: Cohen's d_z: mean over standard deviation of the users' seed-averaged differences; None where
            the users do not differ.
        improvement: Share of the pairs (a run of A, a run of B) in which A is better, ties half; .5 says nothing.
        tally: Users and seeds won.
    """

    relative: Interval | None
    standardised: float | None
    improvement: float
    tally: Tally


def effect(a: ArrayLike, b: ArrayLike, better: Direction = "higher") -> Effect:
    """Measure how much A and B differ.

    Args:
        a: Values of A, [S, U].
        b: Values of B, [S, U], same seeds and users.
        better: Direction of the metric; the signs of ``relative`` and ``standardised`` do not depend on it.

    Source: Agarwal et al. (2021) for the probability of improvement.
    """
    A, B = matrix(a), matrix(b)
    if A.shape != B.shape:
        raise ValueError(f"A and B must share seeds and users, found shapes {A.shape} and {B.shape}")
    u = (A - B).mean(0)
    spread = float(u.std(ddof=1)) if len(u) > 1 else 0.0
    return Effect(
        relative=_relative(A, B),
        standardised=float(u.mean()) / spread if spread > TIE else None,
        improvement=_improvement(A.mean(1), B.mean(1), better),
        tally=tally(A - B, better),
    )


def tally(difference: ArrayLike, better: Direction = "higher") -> Tally:
    """Count won, lost and tied users, and won seeds."""
    D = matrix(difference) * (1 if better == "higher" else -1)
    u, s = D.mean(0), D.mean(1)
    won, lost = int((u > TIE).sum()), int((u < -TIE).sum())
    return Tally(won, lost, len(u) - won - lost, int((s > TIE).sum()))


def _relative(A: Floats, B: Floats) -> Interval | None:
    """Delta method: with R = mean A / mean B, R varies as the mean of (A - R B) / mean B, which is crossed like D."""
    scale = abs(float(B.mean()))
    if scale == 0:
        return None
    value = float(A.mean() - B.mean()) / scale
    around = two_way((A - float(A.mean() / B.mean()) * B) / scale)
    return Interval(value, value + around.low, value + around.high)


def _improvement(a: Floats, b: Floats, better: Direction) -> float:
    ahead = (a[:, None] - b) * (1 if better == "higher" else -1)
    return float(((ahead > TIE) + 0.5 * (np.abs(ahead) <= TIE)).mean())
