"""The delete-d jackknife: exact for means, and its intervals hold what they promise where a bootstrap's do not."""

import numpy as np
import pytest

from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Reference
from rlrecbench.stats_lists import paired

N, U, K = 60, 300, 5
REFERENCE = Reference(
    titles=[f"title{i}" for i in range(N)],
    title_of=np.arange(N),
    item_frequency=np.arange(N, 0, -1),
    group_of=np.arange(N) * 8 // N,
)


def _lists(rng: np.random.Generator, taste: float) -> Lists:
    """U users, each with K items drawn by Zipf's law with the given exponent."""
    weights = np.arange(1, N + 1) ** -taste
    ranked = np.stack([rng.choice(N, K, replace=False, p=weights / weights.sum()) for _ in range(U)])
    return Lists(ranked, np.arange(U) % N, REFERENCE)


def test_standard_error_of_a_mean() -> None:
    """For a mean over users the delete-d jackknife's variance is that of the mean, s^2 / n."""
    rng = np.random.default_rng(0)
    a, b = _lists(rng, 0.5), _lists(rng, 1.5)
    found = paired([a], [b], ["recall@5"], subsets=2000)["recall@5"]
    d = (a.rank > 0).astype(float) - (b.rank > 0).astype(float)
    assert found.mean == pytest.approx(d.mean())
    assert found.se == pytest.approx(d.std(ddof=1) / np.sqrt(U), rel=0.07)
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.se, rel=1e-3)


def test_a_method_against_itself() -> None:
    a = _lists(np.random.default_rng(1), 1.0)
    for value in paired([a], [a], ["coverage@5", "item-entropy@5", "dgu@5"], subsets=20).values():
        assert value == (0.0, 0.0, 0.0, 0.0)


def test_seeds_are_averaged() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (_lists(rng, t) for t in (0.5, 1.0, 1.5))
    both = paired([a, b], [c, c], ["item-entropy@5"], subsets=10)["item-entropy@5"]
    one, two = (paired([x], [c], ["item-entropy@5"], subsets=10)["item-entropy@5"] for x in (a, b))
    assert both.mean == pytest.approx((one.mean + two.mean) / 2)


def test_intervals_hold_the_truth() -> None:
    """80 worlds; the truth is the mean difference at this number of users. A nominal 95 % holds in at least 87 %."""
    rng = np.random.default_rng(3)
    names = ["item-entropy@5", "coverage@5", "kl-popularity@5"]
    worlds = [paired([_lists(rng, 0.9)], [_lists(rng, 1.2)], names, subsets=50) for _ in range(80)]
    for name in names:
        truth = np.mean([w[name].mean for w in worlds])
        held = np.mean([w[name].low <= truth <= w[name].high for w in worlds])
        assert held >= 0.87, name


def test_different_users_are_refused() -> None:
    a = _lists(np.random.default_rng(4), 1.0)
    with pytest.raises(ValueError, match="same users"):
        paired([a], [a.select(np.arange(20))], ["coverage@5"])
