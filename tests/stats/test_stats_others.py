"""The tests beside the default one, against scipy and enumeration."""

from itertools import product
from math import inf

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats


def test_t_users_is_the_paired_t_on_seed_averages() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    expected = oracle.ttest_rel(a.mean(0), b.mean(0))
    test = stats.t_users(a - b)
    assert (test.t, test.p, test.df) == pytest.approx((expected.statistic, expected.pvalue, 39))
    assert (test.seeds, test.level) == (3, "checkpoints")


def test_t_seeds_is_welch() -> None:
    a, b = [0.051, 0.049, 0.055], [0.048, 0.047, 0.0465, 0.049]
    expected = oracle.ttest_ind(a, b, equal_var=False)
    test = stats.t_seeds(a, b)
    interval = expected.confidence_interval(0.95)
    assert (test.p, test.df) == pytest.approx((expected.pvalue, expected.df))
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high))
    sides: tuple[stats.Alternative, ...] = ("greater", "less")
    for side in sides:
        one = oracle.ttest_ind(a, b, equal_var=False, alternative=side).pvalue
        assert stats.t_seeds(a, b, side).p == pytest.approx(one)
    assert (test.level, test.users, test.seeds) == ("methods", 0, 3)


def test_t_seeds_degenerate() -> None:
    assert stats.t_seeds([0.1], [0.2]).p == 1
    assert stats.t_seeds([0.1], [0.2]).high == inf
    assert stats.t_seeds([0.5, 0.5], [0.5, 0.5]).p == 1
    assert stats.t_seeds([0.5, 0.5], [0.25, 0.25]).p == 0
    assert stats.t_seeds([0.5, 0.5], [0.25, 0.25], "less").p == 1


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
    monkeypatch.setattr(stats, "_CHUNK", 512 * 100)
    assert stats.permutation(noisy).p == pytest.approx(whole.p, abs=0.02)
    assert len(stats._chunks(9_999, 512)) == 100
    assert sum(stats._chunks(9_999, 512)) == 9_999


def test_bootstrap_against_scipy() -> None:
    D = np.random.default_rng(5).integers(-1, 3, (2, 400)) / 4
    u = D.mean(0)
    expected = oracle.bootstrap((u,), np.mean, n_resamples=9_999, method="percentile", rng=np.random.default_rng(6))
    test = stats.bootstrap(D)
    assert test.low == pytest.approx(expected.confidence_interval.low, abs=0.004)
    assert test.high == pytest.approx(expected.confidence_interval.high, abs=0.004)
    assert test.se == pytest.approx(u.std() / 20, rel=0.03)
    assert test.p == 2 / 10_000


def test_bootstrap_p_without_an_effect() -> None:
    D = np.array([[1.0, -1.0] * 200])
    assert stats.bootstrap(D).p > 0.9
    assert stats.bootstrap(np.zeros((2, 7))).p == 1
    assert stats.bootstrap([[0.4]]).p == 1
