"""Agreement of our order of the methods with a published one, against scipy and by hand."""

from time import process_time

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.stats import agreement
from rlrecbench.stats.paired import Floats

RNG = np.random.default_rng(0)
PUBLISHED = [0.031, 0.034, 0.029, 0.04, 0.042, 0.047]
OURS = RNG.random((3, 400, 6)) + np.array([0.0, 0.1, 0.05, 0.3, 0.2, 0.5])


def test_tau_and_p_are_scipys() -> None:
    found, expected = stats.order_agreement(OURS, PUBLISHED), oracle.kendalltau(OURS.mean((0, 1)), PUBLISHED)
    assert (found.tau, found.p, found.methods) == pytest.approx((expected.statistic, expected.pvalue, 6))
    assert found.tau == pytest.approx((13 - 2) / 15)  # methods 0 and 2, and 3 and 4, stand the other way round


def test_p_is_the_share_of_orders_at_least_as_far() -> None:
    # Of the 24 orders of four, one agrees in all six pairs and one in none: p = 2/24.
    ours = np.array([1.0, 2.0, 3.0, 4.0]) + np.zeros((2, 5, 1))
    assert stats.order_agreement(ours, [10, 20, 30, 40]).p == pytest.approx(2 / 24)
    assert stats.order_agreement(ours, [4, 3, 2, 1]).tau == pytest.approx(-1)


def test_ties_are_counted_as_tau_b_does() -> None:
    for published in ([1, 1, 2, 3], [3, 1, 2, 2], [1, 1, 1, 2]):
        ours = np.array([1.0, 2.0, 2.0, 3.0]) + np.zeros((1, 3, 1))
        expected = oracle.kendalltau([1, 2, 2, 3], published).statistic
        assert stats.order_agreement(ours, published).tau == pytest.approx(expected)


def test_direction_of_the_metric_does_not_matter() -> None:
    up, down = stats.order_agreement(OURS, PUBLISHED), stats.order_agreement(-OURS, -np.array(PUBLISHED))
    assert (up.tau, up.low, up.high) == pytest.approx((down.tau, down.low, down.high))


def test_interval_is_a_point_where_nothing_varies() -> None:
    found = stats.order_agreement(np.arange(6.0) + np.zeros((3, 50, 1)), PUBLISHED)
    assert found.low == found.tau == found.high == pytest.approx((13 - 2) / 15)  # method 2 is behind 0 and 1 there


def test_interval_sees_users_and_seeds() -> None:
    """Two close methods: with many users only the seeds can swap them, with one seed only the users."""
    base = np.array([0.0, 1.0, 2.0, 2.05])
    published, users = [1, 2, 3, 4], np.random.default_rng(1).normal(0, 0.02, (1, 5_000, 4))
    calm = stats.order_agreement(base + users, published)
    assert calm.low == calm.tau == calm.high == 1
    luck = np.random.default_rng(3).normal(0, 0.2, (3, 1, 4))
    moved = stats.order_agreement(base + luck - luck.mean(0) + users, published)
    assert (moved.tau, moved.high) == (1, 1)
    assert moved.low == pytest.approx(4 / 6)
    noisy = stats.order_agreement(base + np.random.default_rng(2).normal(0, 1, (1, 200, 4)), published)
    assert noisy.low is not None
    assert noisy.low < 1


def test_resampled_means_vary_as_the_pigeonhole_says() -> None:
    """Owen (2007): over draws of users and seeds, Var = var_users / n + var_seeds / S + (both) / (n S)."""
    S, U = 4, 30
    X = np.random.default_rng(4).normal(0, 1, (S, U, 1)) + np.random.default_rng(5).normal(0, 1, (S, 1, 1))
    X[:, :7] = 0  # users without a value still count
    drawn = agreement._resampled(X, 20_000, np.random.default_rng(6))[:, 0]
    D = X[..., 0]
    users, seeds = D.mean(0).var() / U, D.mean(1).var() / S
    rest = (D - D.mean(0) - D.mean(1)[:, None] + D.mean()).var() / (U * S)
    assert drawn.mean() == pytest.approx(D.mean(), abs=4 * np.sqrt((users + seeds + rest) / 20_000))
    assert drawn.var() == pytest.approx(users + seeds + rest, rel=0.04)


def test_interval_contains_tau_and_is_repeatable() -> None:
    for seed in range(5):
        ours = np.random.default_rng(seed).random((2, 40, 5))
        found = stats.order_agreement(ours, [1, 2, 3, 4, 5], resamples=200, seed=seed)
        assert found == stats.order_agreement(ours, [1, 2, 3, 4, 5], resamples=200, seed=seed)
        assert found.tau is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.tau <= found.high


def test_interval_is_widened_to_tau() -> None:
    """Equal methods in perfect order by a hair: hardly a resample keeps it."""
    noise = np.random.default_rng(8).normal(0, 1, (2, 100, 12))
    ours = noise - noise.mean((0, 1)) + 1e-6 * np.arange(12)
    same, reverse = stats.order_agreement(ours, np.arange(12)), stats.order_agreement(ours, -np.arange(12))
    assert same.tau == same.high == pytest.approx(1)
    assert reverse.tau == reverse.low == pytest.approx(-1)
    assert same.low is not None
    assert same.low < 0


def test_too_few_methods_or_no_order() -> None:
    assert stats.order_agreement(OURS[..., :2], PUBLISHED[:2]) == stats.Agreement(1, None, None, None, 2)
    assert stats.order_agreement(OURS[..., :1], PUBLISHED[:1]) == stats.Agreement(None, None, None, None, 1)
    assert stats.order_agreement(OURS, [0.5] * 6).tau is None
    with pytest.raises(ValueError, match=r"\(3, 400, 6\) values for \(2,\)"):
        stats.order_agreement(OURS, [1, 2])


@pytest.mark.slow
def test_a_papers_table_takes_seconds() -> None:
    ours, start = np.random.default_rng(7).random((5, 22_363, 12)), process_time()
    stats.order_agreement(ours, range(12))
    assert process_time() - start < 10


def test_three_methods_have_an_interval_and_a_p() -> None:
    """Of the six orders of three, one agrees in all three pairs and one in none: p = 2/6."""
    found = stats.order_agreement(np.array([1.0, 2.0, 3.0]) + np.zeros((2, 5, 1)), [1, 2, 3])
    assert (found.tau, found.low, found.high, found.p) == pytest.approx((1, 1, 1, 2 / 6))


def test_interval_ends_at_the_quantiles_of_the_draws() -> None:
    """Of 20 seeds three are odd, drawn X ~ Binomial(20, .15) times: P(X >= 6) = .067 and P(X >= 7) = .022.

    An odd seed lowers methods 1 and 3. With six of them method 1 falls below method 0 and with seven method 3 below 2.
    So the .025 quantile of tau has one of the six pairs turned round: tau = 4/6.
    """
    assert oracle.binom.sf([5, 6], 20, 0.15) == pytest.approx([0.0673, 0.0219], abs=1e-4)
    ours = np.zeros((20, 3, 4)) + np.array([0, 5.5, 100, 106.5])
    ours[:3] -= np.array([0, 20, 0, 20])
    found = stats.order_agreement(ours, [1, 2, 3, 4], resamples=20_000)
    assert (found.low, found.tau, found.high) == pytest.approx((4 / 6, 1, 1))
    found = stats.order_agreement(ours, [4, 3, 2, 1], resamples=20_000)
    assert (found.low, found.tau, found.high) == pytest.approx((-1, -1, -4 / 6))


@pytest.mark.parametrize("chunk", [1, 40, 70, 1 << 22])
def test_as_many_resamples_as_asked_for(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one, by four, by seven of ten users at a time, and all at once."""
    monkeypatch.setattr(agreement, "_CHUNK", chunk)
    means = agreement._resampled(np.ones((2, 10, 3)), 30, np.random.default_rng(0))
    assert means == pytest.approx(np.ones((30, 3)))


@pytest.mark.parametrize(
    ("ours", "published"),
    [
        (np.array([[[0.5, 0.5, 0.5], [0.5, np.nan, 0.5]]]), [1.0, 2.0, 3.0]),
        (np.ones((1, 2, 3)), [1.0, np.nan, 3.0]),
        (np.ones((1, 0, 3)), [1.0, 2.0, 3.0]),
        (np.ones((2, 3)), [1.0, 2.0, 3.0]),
    ],
    ids=["ours unknown", "published unknown", "no users", "no seeds' axis"],
)
def test_values_must_be_there_and_finite(ours: Floats, published: list[float]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        stats.order_agreement(ours, published)


def test_means_within_rounding_tie_however_many_users() -> None:
    """Steps of 1e-13 between means of 100 users, whose sums are 1e-11 apart."""
    assert stats.order_agreement(1e-13 * np.arange(3) + np.zeros((2, 50, 1)), [1, 2, 3]).tau is None


def test_two_thousand_draws_from_the_first_seed_unless_asked_otherwise() -> None:
    ours = np.random.default_rng(9).normal(0, 1, (2, 30, 40))
    assert stats.order_agreement(ours, range(40)) == stats.order_agreement(ours, range(40), resamples=2_000, seed=0)
    assert stats.order_agreement(ours, range(40)) != stats.order_agreement(ours, range(40), seed=1)
