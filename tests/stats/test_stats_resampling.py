"""Sign flips and the bootstrap, against scipy, enumeration and formulas."""

from itertools import product
from typing import Literal

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.stats import resampling

Kind = Literal["percentile", "bca"]
SKEWED = np.random.default_rng(7).lognormal(0, 1, (2, 60)) - 1.2


def test_permutation_against_every_sign_flip() -> None:
    u = np.array([0.3, -0.1, 0.4, 0.25, 0.0, 0.15, 0.35, -0.05, 0.2])
    flips = np.array(list(product([-1, 1], repeat=len(u)))) @ u
    exact = float((np.abs(flips) >= abs(u.sum()) - 1e-9).mean())
    test = stats.permutation([u], resamples=40_000)
    assert test.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))
    assert test.mean == pytest.approx(u.mean())


def test_permutation_against_scipy() -> None:
    D = np.random.default_rng(2).normal(0.05, 0.5, (3, 300))
    expected = oracle.permutation_test(
        (D.mean(0), np.zeros(300)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(3),
    )
    assert stats.permutation(D, 20_000).p == pytest.approx(expected.pvalue, abs=0.02)


def test_permutation_is_never_zero_and_repeatable() -> None:
    D = np.ones((1, 60))
    assert stats.permutation(D, 999).p == 1 / 1000
    assert stats.permutation(np.zeros((2, 9))).p == 1
    noisy = np.random.default_rng(4).normal(0.02, 0.3, (2, 500))
    assert stats.permutation(noisy, seed=5) == stats.permutation(noisy, seed=5)
    assert stats.permutation(noisy, seed=5).p != stats.permutation(noisy, seed=6).p


def test_permutation_does_not_depend_on_the_size_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = np.random.default_rng(4).normal(0.02, 0.3, (2, 512))
    whole = stats.permutation(noisy)
    monkeypatch.setattr(resampling, "_CHUNK", 512 * 100)
    assert stats.permutation(noisy).p == pytest.approx(whole.p, abs=0.02)
    assert len(resampling._chunks(9_999, 512)) == 100
    assert sum(resampling._chunks(9_999, 512)) == 9_999


def test_bootstrap_against_scipy() -> None:
    D = np.random.default_rng(5).integers(-1, 3, (2, 400)) / 4
    u = D.mean(0)
    expected = oracle.bootstrap((u,), np.mean, n_resamples=9_999, method="percentile", rng=np.random.default_rng(6))
    test = stats.bootstrap(D)
    assert test.low == pytest.approx(expected.confidence_interval.low, abs=0.004)
    assert test.high == pytest.approx(expected.confidence_interval.high, abs=0.004)
    assert test.se == pytest.approx(u.std() / 20, rel=0.03)
    assert test.p == pytest.approx(2 / 10_000)


def test_bootstrap_p_without_an_effect() -> None:
    D = np.array([[1.0, -1.0] * 200])
    assert stats.bootstrap(D).p > 0.9
    assert stats.bootstrap(np.zeros((2, 7))).p == 1
    assert stats.bootstrap([[0.4]]).p == 1


def test_users_without_a_difference_are_drawn_as_well() -> None:
    """Eight of ten users tie: a resampled mean is x / 10 with x ~ Binomial(10, .2), 0 among them."""
    u = np.array([1.0, 1.0] + [0.0] * 8)
    means = resampling._resampled(u, 50_000, np.random.default_rng(8))
    shares = np.bincount((10 * means).round().astype(int), minlength=11) / 50_000
    assert shares == pytest.approx(oracle.binom.pmf(np.arange(11), 10, 0.2), abs=0.01)
    assert set(means.round(12)) <= {x / 10 for x in range(11)}


def test_bca_against_scipy() -> None:
    u = SKEWED.mean(0)
    expected = oracle.bootstrap((u,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(6))
    test, plain = stats.bootstrap(SKEWED, 40_000, kind="bca"), stats.bootstrap(SKEWED, 40_000)
    assert test.low == pytest.approx(expected.confidence_interval.low, abs=0.006)
    assert test.high == pytest.approx(expected.confidence_interval.high, abs=0.012)
    assert test.high > plain.high + 0.02
    assert test.low > plain.low + 0.02


def test_acceleration_from_leaving_users_out() -> None:
    u = SKEWED.mean(0)
    left = np.array([np.delete(u, i).mean() for i in range(len(u))])
    influence = (len(u) - 1) * (left.mean() - left)
    expected = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    bias, acceleration = resampling._corrections(u, np.array([u.mean() - 1, u.mean() + 1, u.mean()]))
    assert acceleration == pytest.approx(expected)
    assert bias == pytest.approx(0)  # one below, and half of the tie: half of three
    assert resampling._corrections(u, np.array([u.mean() - 1, u.mean()]))[0] == pytest.approx(oracle.norm.ppf(2 / 3))


@pytest.mark.parametrize("kind", ["percentile", "bca"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_p_is_alpha_where_the_interval_ends_at_zero(kind: Kind, end: str) -> None:
    test = stats.bootstrap(SKEWED, kind=kind)
    shifted = stats.bootstrap(SKEWED - (test.low if end == "low" else test.high), kind=kind)
    assert (shifted.low if end == "low" else shifted.high) == pytest.approx(0, abs=1e-9)
    assert shifted.p == pytest.approx(0.05, abs=0.002)


def test_bca_degenerate() -> None:
    assert stats.bootstrap(np.zeros((2, 7)), kind="bca").p == 1
    same = stats.bootstrap(np.full((2, 7), 0.25), kind="bca")
    assert (same.low, same.high) == (0.25, 0.25)
    assert same.p < 0.001
    assert stats.bootstrap([[0.4]], kind="bca").p == 1
    assert 0 < stats.bootstrap([[0.0, 1.0]], kind="bca").p <= 1


def test_every_user_has_a_coin_of_its_own() -> None:
    """Sixteen differences of 1 beside 5 and -5: the mean is reached where the two agree, 10 either way, and 11 of 16.

    So p is 1/4 P(X >= 11) from either side, X ~ Binomial(16, 1/2), and next to nothing where the two cancel.
    """
    u = np.array([1.0] * 16 + [5.0, -5.0])
    expected = float(oracle.binom.sf(10, 16, 0.5)) / 2 + 2 / 2**16 / 2
    found = stats.permutation([u], resamples=40_000).p
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 40_000))


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_a_difference_that_no_resample_turns_round(kind: Kind) -> None:
    D = 1 + np.random.default_rng(9).random((1, 30))
    for sign in (1, -1):
        test = stats.bootstrap(sign * D, 999, kind=kind)
        assert 1.999 / 1000 < test.p < (0.01 if kind == "bca" else 2.001 / 1000)
        assert test.low * test.high > 0


def test_standard_error_is_that_of_the_resampled_means() -> None:
    u = np.random.default_rng(11).normal(0.1, 1, 12)
    means = resampling._resampled(u, 30, np.random.default_rng(0))
    assert stats.bootstrap([u], 30, seed=0).se == pytest.approx(means.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("users", [1, 5])
def test_equal_users_have_one_mean_in_every_resample(users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of a chunk included."""
    assert (resampling._resampled(np.ones(users), 40, np.random.default_rng(0)) == 1).all()
    monkeypatch.setattr(resampling, "_CHUNK", 3 * users)
    assert (resampling._resampled(np.ones(users), 40, np.random.default_rng(0)) == 1).all()
