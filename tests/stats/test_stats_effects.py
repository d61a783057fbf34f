"""Effect sizes, by hand and in simulation."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.stats.paired import TIE


def test_tally() -> None:
    # User means: (.5, 0, -.5, 0); seed means: (.25, -.25).
    difference = [[1, 0.1, 0, -0.1], [0, -0.1, -1, 0.1]]
    assert stats.tally(difference) == (1, 1, 2, 1)
    assert stats.tally([[1, 1, -1]]) == (2, 1, 0, 1)
    assert stats.tally([[1, 1, -1]], "lower") == (1, 2, 0, 0)


def test_rounding_is_a_tie() -> None:
    assert stats.tally([[0.1 + 0.2 - 0.3]]).users_tied == 1


def test_relative_difference_by_hand() -> None:
    # Means 5 and 4: R = 1.25. The textbook's delta method over n = 4 users:
    # var R = (var A + R^2 var B - 2 R cov) / (mean B)^2 / n, with var A = 20/3, var B = 14/3, cov = 16/3.
    a, b = [[2.0, 4.0, 6.0, 8.0]], [[2.0, 3.0, 4.0, 7.0]]
    assert np.cov(a[0], b[0]) == pytest.approx(np.array([[20 / 3, 16 / 3], [16 / 3, 14 / 3]]))
    half = oracle.t.ppf(0.975, 3) * sqrt((20 / 3 + 1.25**2 * 14 / 3 - 2 * 1.25 * 16 / 3) / 16 / 4)
    assert stats.effect(a, b).relative == pytest.approx((0.25, 0.25 - half, 0.25 + half))


def test_relative_difference_does_not_depend_on_the_unit() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 50)) + 1, rng.random((3, 50)) + 1
    one, hundred = stats.effect(a, b).relative, stats.effect(100 * a, 100 * b).relative
    assert one is not None
    assert hundred == pytest.approx(one)


def test_relative_difference_of_negative_values_keeps_its_sign() -> None:
    found = stats.effect([[-1.0, -1.2, -0.8]], [[-2.0, -2.1, -1.9]]).relative
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_relative_interval_covers_with_users_and_seeds_random() -> None:
    rng, hits, runs, gain = np.random.default_rng(1), 0, 400, 0.05
    for _ in range(runs):
        users = rng.gamma(2, 0.5, 400)
        runs_of = 1 + 0.03 * rng.standard_normal((2, 5, 1))
        b, a = users * runs_of * rng.gamma(4, 0.25, (2, 5, 400)) * np.array([1, 1 + gain])[:, None, None]
        found = stats.effect(a, b).relative
        assert found is not None
        hits += found.low <= gain <= found.high
    assert 0.92 <= hits / runs <= 0.985


def test_standardised_effect_by_hand() -> None:
    # Seed-averaged differences 1, 2, 3: mean 2, standard deviation 1.
    assert stats.effect([[2, 4, 6], [2, 4, 6]], [[1, 2, 4], [1, 2, 2]]).standardised == pytest.approx(2)


def test_improvement_by_hand() -> None:
    # Runs of A: 3 and 1, of B: 2 and 1. 3 > 2, 3 > 1, 1 < 2, 1 = 1: 2.5 of 4.
    a, b = [[3, 3], [1, 1]], [[2, 2], [0, 2]]
    assert stats.effect(a, b).improvement == 2.5 / 4
    assert stats.effect(a, b, "lower").improvement == 1.5 / 4


def test_improvement_is_mann_whitneys_share() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((5, 8)), rng.random((5, 8))
    expected = oracle.mannwhitneyu(a.mean(1), b.mean(1)).statistic / 25
    assert stats.effect(a, b).improvement == pytest.approx(expected)


def test_nothing_to_measure() -> None:
    zero = stats.effect(np.zeros((2, 4)), np.zeros((2, 4)))
    assert (zero.relative, zero.standardised, zero.improvement) == (None, None, 0.5)
    assert stats.effect([[2.0]], [[1.0]]).relative == (1, -inf, inf)
    assert stats.effect([[2.0]], [[1.0]]).standardised is None
    with pytest.raises(ValueError, match="share seeds and users"):
        stats.effect([[1, 2]], [[1]])


def test_two_users_have_a_standardised_effect() -> None:
    # Differences 2 and 0: mean 1, standard deviation sqrt(2).
    assert stats.effect([[3, 1]], [[1, 1]]).standardised == pytest.approx(1 / sqrt(2))


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("size", [TIE, 0.6 * TIE])
def test_up_to_the_size_of_rounding_all_is_a_tie(size: float, better: stats.Direction) -> None:
    """Two users in two seeds, each ahead by as much as counts as rounding, or by .6 of it; sums would count."""
    ahead = np.full((2, 2), size)
    assert stats.tally(ahead, better) == stats.tally(-ahead, better) == (0, 0, 2, 0)
    assert stats.effect(ahead, np.zeros((2, 2)), better).improvement == 0.5
    assert stats.effect(np.zeros((2, 2)), ahead, better).improvement == 0.5
    uneven = np.array([[1.2 * size, 0.0]] * 2)  # a standard deviation of .85 of the size
    assert stats.effect(uneven, np.zeros((2, 2))).standardised is None
    beyond = np.full((2, 2), 1.01 * TIE)
    assert stats.tally(beyond, better)[better == "lower"] == 2


def test_the_tally_of_an_effect_is_that_of_the_difference() -> None:
    """Differences 1 0 -2 and 3 0 0: user means 2 0 -1, seed means -1/3 and 1."""
    a, b = [[2.0, 5.0, 1.0], [4.0, 5.0, 3.0]], [[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]]
    assert stats.effect(a, b).tally == (1, 1, 1, 1)
    assert stats.effect(a, b, "lower").tally == (1, 1, 1, 1)
    assert stats.effect(b, b).tally == (0, 0, 3, 0)
