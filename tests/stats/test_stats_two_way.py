"""The default test, by hand and in simulation."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats


def test_two_way_by_hand() -> None:
    # Two seeds, three users. Mean 3, user means (2, 2, 5), seed means (2, 4).
    # MS_user = 2 x ((-1)^2 + (-1)^2 + 2^2) / 2 = 6;  MS_seed = 3 x ((-1)^2 + 1^2) / 1 = 6.
    # Residuals D - u - s + m: (0, 1, -1) and (0, -1, 1), so MS_int = 4 / ((2 - 1)(3 - 1)) = 2.
    # v = (6 + 6 - 2) / 6;  df = 10^2 / (6^2 / 2 + 6^2 / 1 + 2^2 / 2) = 100 / 56.
    test = stats.two_way([[1, 2, 3], [3, 2, 7]])
    se = sqrt(10 / 6)
    half = oracle.t.ppf(0.975, 100 / 56) * se
    assert test.mean == pytest.approx(3)
    assert test.se == pytest.approx(se)
    assert test.df == pytest.approx(100 / 56)
    assert test.t == pytest.approx(3 / se)
    assert test.p == pytest.approx(2 * oracle.t.sf(3 / se, 100 / 56))
    assert (test.low, test.high) == pytest.approx((3 - half, 3 + half))
    # Components: (MS_user - MS_int) / S = 2, (MS_seed - MS_int) / n = 4/3, MS_int = 2.
    assert test.variance == pytest.approx((2, 4 / 3, 2))
    assert (test.seeds, test.users, test.level, test.checkpoint_only) == (2, 3, "methods", False)


def test_floor_of_the_users_when_seeds_differ_less_than_the_interaction() -> None:
    # Seed means equal: MS_seed = 0. User means (2, 2, 5): MS_user = 6. MS_int = 2 from the residuals
    # (-1, 1, 0), (1, -1, 0).
    # (6 + 0 - 2) / 6 lies below MS_user / 6, so v = 6 / 6 with n - 1 = 2 degrees of freedom.
    test = stats.two_way([[1, 3, 5], [3, 1, 5]])
    assert (test.se, test.df) == pytest.approx((1, 2))
    assert test.p == pytest.approx(2 * oracle.t.sf(3, 2))
    assert test.variance == pytest.approx((2, 0, 2))


def test_floor_of_the_seeds_when_users_differ_less_than_the_interaction() -> None:
    # User means equal: MS_user = 0. Seed means (1, 4): MS_seed = 3 x 4.5 = 13.5. MS_int = 2 as above.
    test = stats.two_way([[0, 2, 1], [5, 3, 4]])
    assert (test.se, test.df) == pytest.approx((1.5, 1))
    assert test.p == pytest.approx(2 * oracle.t.sf(2.5 / 1.5, 1))
    assert test.p == pytest.approx(oracle.ttest_1samp([1, 4], 0).pvalue)


def test_both_floors_take_the_higher_one() -> None:
    # crossed() on mean squares 3, 2 and 10: 3 + 2 - 10 < 0; the users' floor is higher.
    assert stats.crossed(3, 2, 10, 4, 5) == pytest.approx((sqrt(3 / 20), 4))
    assert stats.crossed(2, 3, 10, 4, 5) == pytest.approx((sqrt(3 / 20), 3))


def test_degrees_of_freedom_by_hand() -> None:
    """Mean squares 8, 6 and 3 of three seeds and four users: both = 11, df = 121 / (64 / 3 + 36 / 2 + 9 / 6)."""
    assert stats.crossed(8, 6, 3, 3, 4) == pytest.approx((sqrt(11 / 12), 121 / (64 / 3 + 18 + 1.5)))
    assert stats.crossed(8, 6, 3, 3, 4, seed_df=5) == pytest.approx((sqrt(11 / 12), 121 / (64 / 3 + 36 / 5 + 1.5)))
    assert stats.crossed(2, 3, 10, 4, 5, seed_df=7.5) == pytest.approx((sqrt(3 / 20), 7.5))
    assert stats.crossed(3, 3, 10, 4, 5) == pytest.approx((sqrt(3 / 20), 4))  # equal floors: that of the users
    assert stats.crossed(0, 0, 0, 3, 5) == (0, 2)  # nothing varies: the fewer of seeds and users, less one
    assert stats.crossed(0, 0, 0, 6, 4) == (0, 3)


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    """Least squares on dummies: what users and seeds explain, and what is left."""
    S, n = 4, 12
    D = np.random.default_rng(10).normal(0, 1, (S, n)) + np.random.default_rng(11).normal(0, 2, (S, 1))
    seeds, users = np.repeat(np.eye(S), n, axis=0), np.tile(np.eye(n), (S, 1))

    def left(*dummies: stats.paired.Floats) -> float:
        X = np.hstack(dummies)
        return float(((D.ravel() - X @ np.linalg.lstsq(X, D.ravel())[0]) ** 2).sum())

    rest = left(seeds, users) / ((S - 1) * (n - 1))
    user = (left(seeds) - left(seeds, users)) / (n - 1)
    seed = (left(users) - left(seeds, users)) / (S - 1)
    test = stats.two_way(D)
    assert test.variance == pytest.approx((max(0, (user - rest) / S), (seed - rest) / n, rest))
    assert (test.se, test.df) == pytest.approx(stats.crossed(user, seed, rest, S, n))


def test_one_seed_is_the_paired_t_over_users() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    test, expected = stats.two_way([a - b]), oracle.ttest_rel(a, b)
    assert test.p == pytest.approx(expected.pvalue)
    assert test.t == pytest.approx(expected.statistic)
    interval = expected.confidence_interval(0.95)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high))
    assert (test.name, test.level, test.checkpoint_only, test.variance) == (
        "two-way",
        "checkpoints",
        True,
        None,
    )


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 2)])
def test_no_difference_at_all(shape: tuple[int, int]) -> None:
    test = stats.two_way(np.zeros(shape))
    assert (test.mean, test.se, test.t, test.p, test.low, test.high) == (0, 0, 0, 1, 0, 0)


def test_the_same_difference_everywhere() -> None:
    test = stats.two_way(np.full((3, 4), -0.25))
    assert (test.mean, test.se, test.t, test.p, test.low, test.high) == (-0.25, 0, -inf, 0, -0.25, -0.25)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1)])
def test_one_user_says_nothing(shape: tuple[int, int]) -> None:
    test = stats.two_way(np.ones(shape))
    assert (test.mean, test.p, test.low, test.high, test.df, test.t, test.se) == (1, 1, -inf, inf, 0, 0, inf)


@pytest.mark.parametrize("bad", [[1.0, 2.0], np.zeros((0, 3)), [[1.0, np.nan]]])
def test_only_finite_matrices(bad: object) -> None:
    with pytest.raises(ValueError, match=r"finite matrix \[seeds, users\]"):
        stats.two_way(np.asarray(bad))


@pytest.mark.parametrize(
    ("seeds", "users", "sd", "most"),
    [(3, 2000, 0.02, 0.09), (3, 500, 0.05, 0.09), (5, 500, 0.05, 0.09), (2, 800, 0.03, 0.13)],
)
def test_level_under_the_null_with_seed_and_user_effects(seeds: int, users: int, sd: float, most: float) -> None:
    """Two equal methods: two-way keeps its 5 %, the per-user test mistakes seeds for methods.

    With two seeds the level is .10 (4,000 repetitions): three are the least that the design allows for.
    """
    rng = np.random.default_rng(7)
    crossed, per_user, runs = 0, 0, 500
    for _ in range(runs):
        D = rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 0.3, (1, users)) + rng.normal(0, 0.5, (seeds, users))
        crossed += stats.two_way(D).p < 0.05
        per_user += stats.t_users(D).p < 0.05
    assert crossed / runs <= most
    assert per_user / runs >= 0.15


def test_power_grows_with_the_effect() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 0.01, (5, 1)) + rng.normal(0, 0.3, (1, 1000)) + rng.normal(0, 0.5, (5, 1000))
    p = [stats.two_way(noise - noise.mean() + effect).p for effect in (0.0, 0.02, 0.05, 0.1)]
    assert p == sorted(p, reverse=True)
    assert p[0] == pytest.approx(1)
    assert p[-1] < 0.001
