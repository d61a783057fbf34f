"""The tests beside the default one, against scipy and enumeration."""

from math import inf

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.config import build


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
    assert stats.t_seeds([0.1], [0.2, 0.3]).level == "checkpoints"
    assert stats.t_seeds([0.5, 0.5], [0.5, 0.5]).p == 1
    assert stats.t_seeds([0.5, 0.5], [0.25, 0.25]).p == 0
    assert stats.t_seeds([0.5, 0.5], [0.25, 0.25], "less").p == 1


@pytest.mark.parametrize("size", [30, 200])  # exact, and normal
def test_wilcoxon_is_scipys(size: int) -> None:
    D = np.random.default_rng(9).normal(0.1, 0.5, (2, size))
    test = stats.wilcoxon(D)
    assert test.p == pytest.approx(oracle.wilcoxon(D.mean(0)).pvalue)
    assert (test.mean, test.low, test.high) == (stats.t_users(D).mean, stats.t_users(D).low, stats.t_users(D).high)
    assert (test.name, test.level) == ("wilcoxon", "checkpoints")


def test_wilcoxon_leaves_out_ties_and_rounding() -> None:
    u = np.array([0.3, 0.1 + 0.2, -0.3, 0.5, 0.25, 0.1 + 0.2 - 0.3, 0, 0])
    exact = oracle.wilcoxon([0.3, 0.3, -0.3, 0.5, 0.25]).pvalue
    assert stats.wilcoxon([u]).p == pytest.approx(exact)
    assert stats.wilcoxon(np.zeros((2, 9))).p == 1
    assert stats.wilcoxon([[0.4]]).p == 1


def test_wilcoxon_carries_a_warning() -> None:
    assert set(stats.WARNINGS) == {"wilcoxon"}
    assert stats.WARNINGS["wilcoxon"].endswith(".")
    assert build(stats.StatsConfig, {"test": "wilcoxon"}, "s.yaml: stats").test == "wilcoxon"
