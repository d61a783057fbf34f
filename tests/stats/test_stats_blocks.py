"""Methods over blocks: counts, ranks, groups; against scipy, enumeration and the literature's numbers."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.errors import ConfigError
from rlrecbench.stats import Judged, blocks


def test_win_tie_loss_by_hand() -> None:
    first = {("a", "b"): Judged("better", 0.25), ("a", "c"): Judged("equivalent", 0.0)}
    second = {("b", "a"): Judged("better", 1.0), ("a", "c"): Judged("cannot tell", None)}
    third = {("a", "b"): Judged("better", 0.5)}
    found = stats.win_tie_loss([first, second, third])
    # b is twice a in the second block, so a is half of b: -.5. Mean (.25 - .5 + .5) / 3.
    assert found["a", "b"] == pytest.approx((2, 0, 1, 0.25 / 3))
    # Mirrored: .8 - 1 = -.2, then 1, then 2/3 - 1.
    assert found["b", "a"] == pytest.approx((1, 0, 2, (-0.2 + 1 - 1 / 3) / 3))
    assert found["a", "c"] == found["c", "a"] == (0, 2, 0, None)
    assert set(found) == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    assert stats.win_tie_loss([]) == {}


def test_a_method_that_scores_nothing_has_no_share() -> None:
    found = stats.win_tie_loss([{("a", "b"): Judged("worse", -1.0)}])
    assert found["a", "b"] == (0, 0, 1, -1.0)
    assert found["b", "a"] == (1, 0, 0, None)


@pytest.mark.parametrize(
    ("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)]
)
def test_nemenyi_has_the_published_critical_values(methods: int, q: float) -> None:
    """Demsar (2006), table 5a: q at .05, of which CD = q sqrt(k (k + 1) / (6 N))."""
    found = stats.critical_difference(np.random.default_rng(0).random((14, methods)))
    assert found.nemenyi == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=3e-4)


def test_nemenyi_of_demsars_example() -> None:
    """Demsar (2006), section 3.2.2: four classifiers on 14 data sets, 1.25 at .05 and 1.12 at .10."""
    scores = np.random.default_rng(0).random((14, 4))
    assert round(stats.critical_difference(scores).nemenyi, 2) == 1.25
    assert round(stats.critical_difference(scores, alpha=0.1).nemenyi, 2) == 1.12


def test_ranks_and_friedman_against_scipy() -> None:
    scores = np.random.default_rng(1).integers(0, 6, (10, 4)) / 10  # with ties
    found = stats.critical_difference(scores)
    expected = oracle.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.ranks == pytest.approx(tuple(oracle.rankdata(-scores, axis=1).mean(0)))
    assert sum(found.ranks) == pytest.approx(10)  # 1 + 2 + 3 + 4
    mirrored = stats.critical_difference(-scores, "lower")
    assert mirrored.ranks == found.ranks
    assert mirrored.cliques == found.cliques


@pytest.mark.parametrize("size", [8, 13, 14, 30])
def test_pairs_are_wilcoxon_and_holm(size: int) -> None:
    scores = np.random.default_rng(2).normal([0, 0.2, 0.6, 1.5], 1, (size, 4))
    pairs = list(combinations(range(4), 2))
    raw = [oracle.wilcoxon(scores[:, i], scores[:, j]).pvalue for i, j in pairs]
    assert stats.critical_difference(scores).pairs == pytest.approx(dict(zip(pairs, stats.holm(raw), strict=True)))


def test_few_blocks_with_ties_are_enumerated() -> None:
    d = np.array([0.1, 0.1, -0.1, 0.1 + 0.2, 0.3, 0.0, 0.5, 0.2])
    ranks = np.array([2, 2, -2, 5.5, 5.5, 7, 4])  # of the absolute values, signed; the zero is left out
    sums = [abs(sum(s * r for s, r in zip(signs, np.abs(ranks), strict=True))) for signs in product((-1, 1), repeat=7)]
    exact = np.mean([s >= abs(ranks.sum()) for s in sums])
    assert blocks._signed_rank(d) == pytest.approx(exact)
    assert blocks._signed_rank(np.zeros(9)) == 1
    assert blocks._signed_rank(np.ones(8)) == 2 / 2**8


def test_groups_of_methods_that_are_not_told_apart() -> None:
    # a and b trade places, c is always behind both, d and e trade places far behind; ten blocks.
    steps = np.arange(10) / 100
    swing = np.where(np.arange(10) % 2, 0.001, -0.001)
    scores = np.stack([0.9 + steps + swing, 0.9 + steps - swing, 0.5 + steps, steps + swing, steps - swing], 1)
    found = stats.critical_difference(scores)
    assert found.ranks == (1.5, 1.5, 3, 4.5, 4.5)
    assert found.cliques == ((0, 1), (3, 4))
    assert found.pairs[0, 2] == pytest.approx(10 * 2 / 2**10)  # the smallest of ten, times ten
    assert found.least_p == pytest.approx(10 * 2 / 2**10)


def test_groups_overlap() -> None:
    assert blocks._cliques([2, 0, 1, 3], {(0, 2), (0, 1), (1, 3)}) == ((2, 0), (0, 1), (1, 3))
    assert blocks._cliques([0, 1, 2], {(0, 2)}) == ((0, 2),)  # not contiguous
    assert blocks._cliques([0, 1, 2], set()) == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_groups_are_all_the_largest(methods: int, random: object) -> None:
    rng = np.random.default_rng(hash(random) % 2**32)
    same = {pair for pair in combinations(range(methods), 2) if rng.random() < 0.5}
    groups = [set(g) for size in range(2, methods + 1) for g in combinations(range(methods), size)]
    whole = [g for g in groups if all(pair in same for pair in combinations(sorted(g), 2))]
    largest = [g for g in whole if not any(g < other for other in whole)]
    found = blocks._cliques(range(methods), same)
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert list(found) == sorted(found)  # best rank first


def test_no_number_of_wins_helps_many_methods_in_few_blocks() -> None:
    scores = np.arange(12) + np.zeros((8, 1))
    found = stats.critical_difference(scores)
    assert found.least_p == pytest.approx(66 * 2 / 2**8)
    assert found.cliques == (tuple(reversed(range(12))),)
    assert found.p < 1e-10


def test_methods_that_are_all_alike() -> None:
    found = stats.critical_difference(np.full((8, 3), 0.5))
    assert (found.statistic, found.p, found.ranks) == (0, 1, (2, 2, 2))
    assert found.cliques == ((0, 1, 2),)


def test_too_little_to_rank() -> None:
    with pytest.raises(ConfigError, match=r"at least 8 blocks .* found 7"):
        stats.critical_difference(np.ones((7, 4)))
    with pytest.raises(ConfigError, match="at least 3 methods, found 2"):
        stats.critical_difference(np.ones((9, 2)))
    with pytest.raises(ValueError, match="finite matrix"):
        stats.critical_difference([[0.1, 0.2, 0.3]] * 8 + [[0.1, np.nan, 0.3]])


def test_tied_differences_are_enumerated_up_to_thirteen_blocks() -> None:
    """All 2^13 signs by hand; with 14 it is scipy's p, which is not that of all signs where blocks tie."""
    d = np.array([1, 1, -1, 2, 2, 3, 3, -3, 4, 5, 5, 6, 7, 7]) / 10

    def exact(values: np.ndarray) -> float:
        ranks = oracle.rankdata(np.abs(values))
        sums = np.abs(np.array(list(product((-1, 1), repeat=len(values)))) @ ranks)
        return float((sums >= abs(np.sign(values) @ ranks)).mean())

    assert blocks._signed_rank(d[:13]) == exact(d[:13])
    assert blocks._signed_rank(d) == oracle.wilcoxon(d).pvalue != exact(d)


def test_a_pair_at_the_level_is_not_told_apart() -> None:
    """Ten blocks, one order of three methods: every corrected p is 3 x 2 / 2^10, the first in Holm's order."""
    scores = np.arange(3.0) + np.zeros((10, 1))
    least = 3 * 2 / 2**10
    assert stats.critical_difference(scores, alpha=least).cliques == ((2, 1, 0),)
    assert stats.critical_difference(scores, alpha=least * 1.001).cliques == ()


def test_methods_of_one_rank_stand_in_their_order() -> None:
    """Methods 1 and 2 trade the first two places, method 0 is last."""
    swing = np.where(np.arange(8) % 2, 1.0, -1.0)
    found = stats.critical_difference(np.stack([np.full(8, -9.0), swing, -swing], 1), alpha=0.5)
    assert found.ranks == (3, 1.5, 1.5)
    assert found.cliques == ((1, 2),)


def test_no_p_is_above_one() -> None:
    """17 methods have 136 pairs, of which 2 / 2^8 each would be 1.06."""
    assert stats.critical_difference(np.arange(17.0) + np.zeros((8, 1))).least_p == 1


def test_scores_are_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"finite matrix .* \(9,\)"):
        stats.critical_difference(np.ones(9))
