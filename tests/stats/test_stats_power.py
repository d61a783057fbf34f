"""Power and the smallest effect, against statsmodels and by simulation."""

from math import inf, sqrt

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from rlrecbench import stats

SEEDS_ALONE = stats.Variance(0, 0.01, 0)  # the two-way test is then a t-test of the S seed means, of sd .1


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("effect", [0.0, 0.1, 0.25])
def test_power_of_seeds_alone_is_the_t_tests(seeds: int, effect: float) -> None:
    expected = TTestPower().power(effect / 0.1, nobs=seeds, alpha=0.05)
    assert stats.power_of(effect, SEEDS_ALONE, 1_000, seeds) == pytest.approx(expected, abs=1e-4)
    assert stats.power_of(-effect, SEEDS_ALONE, 1_000, seeds) == pytest.approx(expected, abs=1e-4)


def test_smallest_effect_of_seeds_alone_is_the_t_tests() -> None:
    expected = 0.1 * TTestPower().solve_power(nobs=5, alpha=0.01, power=0.9)
    assert stats.smallest_effect(SEEDS_ALONE, 1_000, 5, alpha=0.01, power=0.9) == pytest.approx(expected, rel=1e-4)


def test_power_of_users_alone_is_the_t_tests() -> None:
    # Every seed alike: the users' floor holds, n - 1 degrees of freedom, and seeds change nothing.
    users = stats.Variance(0.04, 0, 0)
    expected = TTestPower().power(0.02 / 0.2, nobs=900, alpha=0.05)
    assert stats.power_of(0.02, users, 900, 3) == pytest.approx(expected, abs=1e-3)
    assert stats.power_of(0.02, users, 900, 5) == pytest.approx(expected, abs=1e-3)


def test_smallest_effect_is_where_power_is_reached() -> None:
    variance = stats.Variance(0.03, 1e-5, 0.05)
    for users, seeds, alpha in ((2_000, 3, 0.05), (20_000, 5, 0.01), (50, 2, 0.05)):
        least = stats.smallest_effect(variance, users, seeds, alpha, 0.8)
        assert stats.power_of(least, variance, users, seeds, alpha) == pytest.approx(0.8, abs=1e-6)


def test_more_users_and_more_seeds_see_more() -> None:
    variance = stats.Variance(0.03, 1e-5, 0.05)
    by_seeds = [stats.smallest_effect(variance, 2_000, S) for S in (2, 3, 5, 10)]
    by_users = [stats.smallest_effect(variance, n, 3) for n in (500, 2_000, 10_000)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_users == sorted(by_users, reverse=True)


def test_designs_that_see_nothing_or_all() -> None:
    variance = stats.Variance(0.03, 1e-5, 0.05)
    assert stats.smallest_effect(variance, 2_000, 1) == inf
    assert stats.power_of(9.0, variance, 1, 3) == 0
    nothing = stats.Variance(0, 0, 0)
    assert stats.smallest_effect(nothing, 10, 2) == 0
    assert (stats.power_of(0, nothing, 10, 2), stats.power_of(1e-9, nothing, 10, 2)) == (0, 1)


@pytest.mark.parametrize(("users", "seeds", "sd"), [(400, 3, 0.01), (400, 3, 0.04), (300, 5, 0.02)])
def test_power_under_a_known_shift(users: int, seeds: int, sd: float) -> None:
    """Normal users, seeds and interaction: observed as computed, with an effect and without one."""
    rng, runs, variance = np.random.default_rng(0), 1_500, stats.Variance(0.04, sd**2, 0.09)
    shift = stats.smallest_effect(variance, users, seeds, power=0.6)
    found = np.zeros(2)
    for _ in range(runs):
        D = rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 0.2, users) + rng.normal(0, 0.3, (seeds, users))
        found += stats.two_way(D).p < 0.05, stats.two_way(D + shift).p < 0.05
    for share, computed in zip(found / runs, (stats.power_of(0, variance, users, seeds), 0.6), strict=True):
        assert share == pytest.approx(computed, abs=4 * sqrt(computed * (1 - computed) / runs))


def test_little_power_needs_less_than_a_standard_deviation() -> None:
    expected = 0.1 * TTestPower().solve_power(nobs=5, alpha=0.05, power=0.1)
    least = stats.smallest_effect(SEEDS_ALONE, 1_000, 5, power=0.1)
    assert least < 0.1 / sqrt(5)
    assert least == pytest.approx(expected, rel=1e-3)


def test_two_users_and_two_seeds_are_the_least() -> None:
    variance = stats.Variance(0.03, 1e-5, 0.05)
    assert 0 < stats.smallest_effect(variance, 2, 2) < inf
    assert 0 < stats.power_of(0.1, variance, 2, 2) < 1
    assert stats.smallest_effect(variance, 1, 3) == inf
    assert stats.power_of(9.0, variance, 2_000, 1) == 0


def test_levels_and_power_that_are_not_asked_for() -> None:
    variance = stats.Variance(0.03, 1e-5, 0.05)
    assert stats.smallest_effect(variance, 500, 3) == stats.smallest_effect(variance, 500, 3, 0.05, 0.8)
    assert stats.power_of(0.01, variance, 500, 3) == stats.power_of(0.01, variance, 500, 3, 0.05)


def test_an_effect_of_any_size_is_seen_where_nothing_varies() -> None:
    assert stats.power_of(1.0, stats.Variance(0, 0, 0), 10, 2) == 1
    # A standard deviation of 1: seeds vary by 3, of nine.
    assert 0 < stats.power_of(0.1, stats.Variance(0, 9, 0), 10, 9) < 0.1
