"""What a comparison came to, and how many seeds would settle it."""

from typing import Literal

from scipy.special import stdtrit

from rlrecbench.stats.paired import CONFIDENCE, Test, crossed
from rlrecbench.stats.settings import Direction

Verdict = Literal["better", "worse", "equivalent", "cannot tell"]


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

    Settled, whichever comes first: p falls below ``alpha``, or the 95 % interval lies inside +- min_effect of the
    baseline.

    Args:
        test: The comparison of a method with the baseline.
        baseline: The baseline's mean.
        min_effect: Share of ``baseline``.
        alpha: Level for p of this comparison alone: that of the family, divided by its size as in Holm's first step.
        most: Largest number of seeds to consider.

    Returns:
        None where the test does not split the variance or ``most`` seeds would not do (more users might).
    """
    if test.variance is None:
        return None
    v, n, mean = test.variance, test.users, abs(test.mean)
    room = min_effect * abs(baseline) - mean
    for S in range(test.seeds + 1, most + 1):
        se, df = crossed(S * v.users + v.interaction, n * v.seeds + v.interaction, v.interaction, S, n)
        significant = float(stdtrit(df, 1 - alpha / 2)) * se < mean
        if significant or float(stdtrit(df, (1 + CONFIDENCE) / 2)) * se < room:
            return S
    return None
