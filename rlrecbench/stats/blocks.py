"""Methods over many blocks (data set x backbone): win / tie / loss, average ranks, critical difference.

Sources: Demsar (2006) for Friedman, Nemenyi and the diagram. Benavoli, Corani and Mangili (2016) for what tells two
methods apart: Wilcoxon's test on these two, not their mean ranks, which depend on the other methods in the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlrecbench.errors import ConfigError
from rlrecbench.stats.families import holm
from rlrecbench.stats.paired import Floats
from rlrecbench.stats.settings import Direction
from rlrecbench.stats.verdicts import Verdict

LEAST_BLOCKS = (
    8  # for a critical-difference diagram; Wilcoxon's p cannot fall below .0078 with 8, nor below .0156 with 7
)
LEAST_METHODS = 3  # of Friedman's test
_ENUMERATED = 13  # blocks whose 2^n signs are enumerated


class Judged(NamedTuple):
    """One method against another in one block."""

    verdict: Verdict  # of the first
    relative: float | None  # difference as a share of the second's mean; None where that mean is 0


class WinTieLoss(NamedTuple):
    """One method against another over the blocks that hold both."""

    won: int  # blocks with verdict "better"
    tied: int  # blocks with verdict "equivalent" or "cannot tell"
    lost: int  # blocks with verdict "worse"
    relative: float | None  # mean over blocks of the relative difference; None where it has no value in one of them


@dataclass(frozen=True)
class CriticalDifference:
    """Ranks of methods over blocks, and which of them cannot be told apart.

    Attributes:
        ranks: Average rank by method, 1 the best; ties share their mean rank, [M].
        statistic: Friedman's chi-squared.
        p: Friedman's p; small: the methods are not all alike.
        nemenyi: Difference of average ranks that Nemenyi's test asks for, for comparison with papers.
        pairs: Holm-corrected p of Wilcoxon's test over blocks, by indices of two methods, the lower first.
        cliques: Largest groups of two or more methods of which no pair is told apart, best rank first. A group need
            not be contiguous in rank.
        blocks: Number of blocks.
        alpha: Level of ``nemenyi`` and ``cliques``.
        least_p: Smallest corrected p that so many blocks can give one pair; above alpha nothing can be told apart.
    """

    ranks: tuple[float, ...]
    statistic: float
    p: float
    nemenyi: float
    pairs: dict[tuple[int, int], float]
    cliques: tuple[tuple[int, ...], ...]
    blocks: int
    alpha: float
    least_p: float


def win_tie_loss(blocks: Sequence[Mapping[tuple[str, str], Judged]]) -> dict[tuple[str, str], WinTieLoss]:
    """Count over blocks, for every pair of methods in both orders.

    Args:
        blocks: By the labels of two methods, in one order, what came of comparing them; a block may lack pairs.
    """
    met: dict[tuple[str, str], list[Judged]] = {}
    for block in blocks:
        for (a, b), judged in block.items():
            met.setdefault((a, b), []).append(judged)
            met.setdefault((b, a), []).append(_mirrored(judged))
    return {pair: _count(judged) for pair, judged in met.items()}


def critical_difference(scores: ArrayLike, better: Direction = "higher", alpha: float = 0.05) -> CriticalDifference:
    """Rank methods over blocks and group those that cannot be told apart.

    Args:
        scores: Mean of each method in each block, [blocks, M].
        better: Direction of the metric.
        alpha: Family-wise level over all pairs.

    Raises:
        ConfigError: Fewer than eight blocks, or fewer than three methods.
    """
    X = np.asarray(scores, np.float64)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise ValueError(f"scores must be a finite matrix [blocks, methods], found shape {X.shape}")
    n, M = X.shape
    if n < LEAST_BLOCKS:
        raise ConfigError(
            f"a critical-difference diagram needs at least {LEAST_BLOCKS} blocks (data set x backbone) in which every "
            f"method has a result, found {n}: average ranks over fewer say nothing; read win / tie / loss instead"
        )
    if M < LEAST_METHODS:
        raise ConfigError(
            f"a critical-difference diagram needs at least {LEAST_METHODS} methods, found {M}: "
            "two methods are compared block by block"
        )
    from scipy.stats import friedmanchisquare, rankdata, studentized_range  # a second to import

    ranks = rankdata(-X if better == "higher" else X, axis=1)
    alike = bool((ranks == ranks[:, :1]).all())
    friedman = (0.0, 1.0) if alike else friedmanchisquare(*ranks.T)
    pairs = _pairs(X)
    same = {pair for pair, p in pairs.items() if p >= alpha}
    average = ranks.mean(0)
    return CriticalDifference(
        ranks=tuple(map(float, average)),
        statistic=float(friedman[0]),
        p=float(friedman[1]),
        nemenyi=float(studentized_range.isf(alpha, M, np.inf)) / sqrt(2) * sqrt(M * (M + 1) / (6 * n)),
        pairs=pairs,
        cliques=_cliques(sorted(range(M), key=lambda i: (average[i], i)), same),
        blocks=n,
        alpha=alpha,
        least_p=min(1.0, comb(M, 2) * 2.0 ** (1 - n)),
    )


def _mirrored(judged: Judged) -> Judged:
    """Turn a judgement round: where A / B - 1 = r, B / A - 1 = -r / (1 + r)."""
    turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    r = judged.relative
    return Judged(turned.get(judged.verdict, judged.verdict), None if r is None or r == -1 else -r / (1 + r))


def _count(judged: Sequence[Judged]) -> WinTieLoss:
    won, lost = (sum(j.verdict == word for j in judged) for word in ("better", "worse"))
    relative = [j.relative for j in judged if j.relative is not None]
    mean = float(np.mean(relative)) if len(relative) == len(judged) else None
    return WinTieLoss(won, len(judged) - won - lost, lost, mean)


def _pairs(X: Floats) -> dict[tuple[int, int], float]:
    """Test every two columns of [blocks, M]; Holm over all pairs."""
    pairs = list(combinations(range(X.shape[1]), 2))
    return dict(zip(pairs, holm([_signed_rank(X[:, i] - X[:, j]) for i, j in pairs]), strict=True))


def _signed_rank(difference: Floats) -> float:
    """Wilcoxon's p, two-sided; blocks without a difference are left out.

    Exact over all signs for up to 13 blocks, which scipy is where no two blocks tie.
    """
    from scipy.stats import rankdata, wilcoxon

    d = difference.round(12)  # so that rounding breaks no tie
    d = d[d != 0]
    if len(d) > _ENUMERATED:
        return float(wilcoxon(d).pvalue)
    ranks = rankdata(np.abs(d))
    flips = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
    return float((np.abs(flips @ ranks) >= abs(np.sign(d) @ ranks)).mean())


def _cliques(order: Sequence[int], same: set[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Largest groups whose pairs are all in ``same``, members and groups in ``order``.

    Source: Bron and Kerbosch, 1973, with the pivot of Tomita et al., 2006.
    """
    beside = {i: {j for j in order if (min(i, j), max(i, j)) in same} for i in order}
    place = {i: at for at, i in enumerate(order)}
    found: list[list[int]] = []

    def grow(group: list[int], candidates: set[int], done: set[int]) -> None:
        if not candidates and not done:
            found.append(sorted(group, key=place.__getitem__))
            return
        pivot = max(candidates | done, key=lambda i: len(candidates & beside[i]))
        for i in candidates - beside[pivot]:
            grow([*group, i], candidates & beside[i], done & beside[i])
            candidates, done = candidates - {i}, done | {i}

    grow([], set(order), set())
    return tuple(tuple(g) for g in sorted(found, key=lambda g: [place[i] for i in g]) if len(g) > 1)
