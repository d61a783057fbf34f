"""The tests beside the default one, against scipy and enumeration."""

from dataclasses import is_dataclass
from math import inf
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.config import build
from rlrecbench.stats.draws import Draws


def test_t_users_is_the_paired_t_on_seed_averages() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    expected = oracle.ttest_rel(a.mean(0), b.mean(0))
    test = stats.t_users(a - b)
    assert (test.t, test.p, test.df) == pytest.approx((expected.statistic, expected.pvalue, 39))
    assert (test.seeds, test.level) == (3, "checkpoints")
    interval = expected.confidence_interval(0.95)
    assert (test.mean, test.low, test.high) == pytest.approx(((a - b).mean(), interval.low, interval.high))
    two = stats.t_users(a[:, :2] - b[:, :2])
    assert two.p == pytest.approx(oracle.ttest_rel(a[:, :2].mean(0), b[:, :2].mean(0)).pvalue)


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
    untied = np.random.default_rng(10).normal(0.1, 1, 20)
    alone = oracle.wilcoxon(untied, method="exact").pvalue
    assert stats.wilcoxon([np.append(untied, np.zeros(5))]).p == pytest.approx(alone, rel=1e-12)
    assert stats.wilcoxon(np.zeros((2, 9))).p == 1
    assert stats.wilcoxon([[0.4]]).p == 1


def test_wilcoxon_carries_a_warning() -> None:
    assert set(stats.WARNINGS) == {"wilcoxon"}
    assert stats.WARNINGS["wilcoxon"].endswith(".")
    assert build(stats.StatsConfig, {"test": "wilcoxon"}, "s.yaml: stats").test == "wilcoxon"


def test_runs_without_any_spread_have_the_fewer_seeds_degrees_of_freedom() -> None:
    assert stats.t_seeds([0.5] * 3, [0.5] * 4).df == 2
    assert stats.t_seeds([0.5] * 4, [0.5] * 2).df == 1


def test_one_seed_on_either_side_says_nothing() -> None:
    for a, b in (([0.1], [0.2, 0.3]), ([0.2, 0.3], [0.1])):
        test = stats.t_seeds(a, b)
        assert (test.p, test.low, test.high, test.df, test.users, test.seeds) == (1, -inf, inf, 0, 0, 1)
        assert test.name == "t-seeds"
        assert test.mean == pytest.approx(np.mean(a) - np.mean(b))


def test_what_a_suite_that_says_nothing_declares() -> None:
    config = build(stats.StatsConfig, {}, "s.yaml: stats")
    assert (config.primary, config.rows, config.baseline, config.test) == ("ndcg@10", "methods", None, "two-way")
    assert (config.alpha, config.correction, config.min_effect, stats.BEST) == (0.05, "holm", 0.02, "best")


@pytest.mark.parametrize("kind", [k for k in vars(stats).values() if is_dataclass(k)] + [Draws])
def test_outcomes_cannot_be_changed(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen


def test_draws_begin_with_the_first_seed() -> None:
    D = np.random.default_rng(4).normal(0.02, 0.3, (2, 50))
    assert stats.permutation(D, 99) == stats.permutation(D, 99, seed=0)
    assert stats.bootstrap(D, 99) == stats.bootstrap(D, 99, seed=0) != stats.bootstrap(D, 99, seed=1)
    assert (Draws.of(20, 5, 5, 5).again == Draws.of(20, 5, 5, 5, seed=0).again).all()
