"""Corrections, verdicts, seeds needed, declarations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from rlrecbench import stats
from rlrecbench.config import build
from rlrecbench.errors import ConfigError

P = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_holm_on_four_tests() -> None:
    # Sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 -> never below the one before, .06.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_on_four_tests() -> None:
    # Sorted: .005 x 4/1 = .02, .01 x 4/2 = .02, .03 x 4/3 = .04, .04 x 4/4 = .04.
    assert stats.benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_corrections_against_statsmodels(size: int) -> None:
    from statsmodels.stats.multitest import multipletests

    p = list(np.random.default_rng(size).random(size) ** 4)
    p[size // 2 :] = [p[-1]] * (size - size // 2)  # ties
    assert stats.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert stats.benjamini_hochberg(p) == pytest.approx(list(multipletests(p, method="fdr_bh")[1]))


@settings(max_examples=12, deadline=None)
@given(P)
def test_corrections_never_lower_p(p: list[float]) -> None:
    bh, holm = stats.benjamini_hochberg(p), stats.holm(p)
    assert all(raw <= b + 1e-12 and b <= h + 1e-12 for raw, b, h in zip(p, bh, holm, strict=True))
    assert stats.CORRECTIONS["none"](p) == p


def test_no_tests_to_correct() -> None:
    assert stats.holm([]) == stats.benjamini_hochberg([]) == []


def test_family_lends_its_variance_of_seeds_to_a_lucky_comparison() -> None:
    # Users agree, so a comparison is a t-test of its three seed means. Variances .01 and .0001, median .00505, which is
    # their mean; two comparisons of two degrees of freedom each share 4 / (1 + 1/4) = 3.2.
    unlucky, lucky = ([0.3, 0.4, 0.5], [0.29, 0.3, 0.31])
    tests = [stats.two_way(np.repeat([[x] for x in seeds], 50, axis=1)) for seeds in (unlucky, lucky)]
    assert tests[1].p == pytest.approx(2 * oracle.t.sf(0.3 / np.sqrt(0.0001 / 3), 2))
    expected = 2 * oracle.t.sf(0.3 / np.sqrt(0.00505 / 3), 3.2)
    assert stats.family_p(tests) == pytest.approx([tests[0].p, expected])


def _of_seeds(variances: list[float], mean: float = 0.3) -> list[stats.Test]:
    """Comparisons in which users agree and three seeds have the variances given."""
    seeds = [[mean - v**0.5, mean, mean + v**0.5] for v in variances]
    return [stats.two_way(np.repeat(np.array(one)[:, None], 50, axis=1)) for one in seeds]


@pytest.mark.parametrize("noise", [0.02, 25.0])
def test_one_noisy_row_changes_nothing_for_the_others(noise: float) -> None:
    """Chi-square with two degrees of freedom has the median 2 ln 2; three comparisons share 2/3 of 6 / (1 + 2/4)."""
    tests = _of_seeds([noise, 0.01, 0.0001])
    square = 0.01 / np.log(2)
    shared = 2 * oracle.t.sf(0.3 / np.sqrt(square / 3), 6 / (1 + 2 / 4) * 2 / 3)
    assert [test.seed_square for test in tests] == pytest.approx([noise, 0.01, 0.0001])
    assert stats.family_p(tests) == pytest.approx([tests[0].p, max(tests[1].p, shared), shared])


def test_most_rows_without_a_variance_of_seeds_still_lend_theirs() -> None:
    """The median is of mean squares, which are above 0 where most components are floored at 0."""
    rng = np.random.default_rng(3)
    tests = [stats.two_way(rng.normal(0.1, 1, (3, 300))) for _ in range(9)]
    assert sum(test.variance is not None and test.variance.seeds == 0 for test in tests) > 4
    assert any(family > test.p for family, test in zip(stats.family_p(tests), tests, strict=True))


def test_a_family_of_one_and_other_tests_keep_their_p() -> None:
    D = np.random.default_rng(5).normal(0.1, 1, (3, 40))
    assert stats.family_p([stats.two_way(D)]) == [stats.two_way(D).p]
    others = [stats.t_users(D), stats.permutation(D, 99), stats.two_way(D[:1])]
    assert stats.family_p(others) == [test.p for test in others]
    assert stats.family_p([*others, stats.two_way(D)])[3] == stats.two_way(D).p
    assert stats.family_p([]) == []


D = np.random.default_rng(0).normal(0, 0.01, (3, 400))


@pytest.mark.parametrize(
    ("shift", "baseline", "better", "expected"),
    [
        (0.05, 1.0, "higher", "better"),  # interval about [.049, .051], margin .02
        (-0.05, 1.0, "higher", "worse"),
        (0.05, 1.0, "lower", "worse"),
        (-0.05, 1.0, "lower", "better"),
        (0.01, 1.0, "higher", "equivalent"),  # significant, and inside +- .02
        (0.0, 1.0, "lower", "equivalent"),
        (0.0, 0.001, "higher", "cannot tell"),  # margin .00002
        (0.0, -1.0, "higher", "equivalent"),  # the margin is a share of |baseline|
    ],
)
def test_verdict(shift: float, baseline: float, better: stats.Direction, expected: stats.Verdict) -> None:
    test = stats.two_way(D - D.mean() + shift)
    assert stats.verdict(test, baseline, 0.02, 0.05, test.p, better) == expected


def test_verdict_uses_the_corrected_p() -> None:
    test = stats.two_way(D - D.mean() + 0.05)
    assert stats.verdict(test, 1.0, 0.02, 0.05, 0.2) == "cannot tell"


def test_one_seed_gives_no_verdict_about_methods() -> None:
    test = stats.two_way(D[:1] + 0.05)
    assert test.p < 1e-6
    assert stats.verdict(test, 1.0, 0.02, 0.05, test.p) == "cannot tell"


def test_seeds_needed_is_where_the_interval_first_excludes_zero() -> None:
    # Seeds alone vary, by sd .1 around a mean of .08; users agree. With S seeds the half width is
    # t(.975, S - 1) x .1 / sqrt(S): S = 8 -> .0836, S = 9 -> .0769 < .08.
    seeds = 0.08 + 0.1 * np.array([-1.0, 0.0, 1.0])
    test = stats.two_way(np.repeat(seeds[:, None], 50, axis=1))
    assert test.variance == pytest.approx((0, 0.01, 0))
    assert test.p > 0.05
    assert stats.seeds_needed(test, 1.0, 0.0, 0.05) == 9
    # To lie inside +- .2 of the baseline instead, the half width must fall below .2 - .08 = .12:
    # S = 5 -> .1242, S = 6 -> .1049.
    assert stats.seeds_needed(test, 1.0, 0.2, 0.05) == 6


def test_seeds_needed_divides_alpha_for_significance_alone() -> None:
    """As above, one of eight: t(1 - .05 / 16, S - 1) x .1 / sqrt(S) is .0830 with S = 15 and .0794 < .08 with 16.

    Equivalence looks at the 95 % interval, however large the family: 6.
    """
    seeds = 0.08 + 0.1 * np.array([-1.0, 0.0, 1.0])
    test = stats.two_way(np.repeat(seeds[:, None], 50, axis=1))
    assert stats.seeds_needed(test, 1.0, 0.0, 0.05 / 8) == 16
    assert stats.seeds_needed(test, 1.0, 0.2, 0.05 / 8) == 6


def test_no_number_of_seeds_replaces_users() -> None:
    users = np.array([[-1.0, 1.0, 0.5, -0.4]])
    assert stats.seeds_needed(stats.two_way(np.repeat(users, 3, axis=0)), 1.0, 0.02, 0.05) is None
    assert stats.seeds_needed(stats.t_users(users), 1.0, 0.02, 0.05) is None


def test_config_from_a_suite() -> None:
    config = build(stats.StatsConfig, {"primary": "recall@5", "test": "t-seeds"}, "s.yaml: stats")
    assert config == stats.StatsConfig(primary="recall@5", test="t-seeds")
    with pytest.raises(ConfigError, match=r"s.yaml: stats\.alpha: should be less than 1"):
        build(stats.StatsConfig, {"alpha": 1.0}, "s.yaml: stats")
    with pytest.raises(ConfigError, match=r"s.yaml: stats\.correction"):
        build(stats.StatsConfig, {"correction": "bonferroni"}, "s.yaml: stats")


def _test(mean: float, low: float, high: float, p: float) -> stats.Test:
    return stats.Test("two-way", mean, 0.01, 1.0, 5.0, p, low, high, 100, 3, "methods")


def test_an_interval_that_ends_at_the_margin_is_inside() -> None:
    margin = 0.25 * 2.0
    assert stats.verdict(_test(0.0, -margin, margin, 1.0), 2.0, 0.25, 0.05, 1.0) == "equivalent"
    assert stats.verdict(_test(0.0, -margin, margin * 1.01, 1.0), 2.0, 0.25, 0.05, 1.0) == "cannot tell"
    assert stats.verdict(_test(0.0, -margin * 1.01, margin, 1.0), 2.0, 0.25, 0.05, 1.0) == "cannot tell"


def test_p_at_the_level_is_not_below_it() -> None:
    test = _test(0.5, 0.1, 0.9, 0.05)
    assert stats.verdict(test, 1.0, 0.02, 0.05, 0.05) == "cannot tell"
    assert stats.verdict(test, 1.0, 0.02, 0.05, 0.049) == "better"


def test_no_more_seeds_than_asked_for_are_considered() -> None:
    """Seeds alone, sd .1: t(.975, S - 1) x .1 / sqrt(S) is .01984 with 100 seeds and .01974 with 101; the mean .0198.

    The example of nine seeds above, around .08, is settled by nine, whatever may follow.
    """
    few, many = (np.repeat((m + 0.1 * np.array([-1.0, 0, 1]))[:, None], 50, axis=1) for m in (0.08, 0.0198))
    assert stats.seeds_needed(stats.two_way(few), 1.0, 0.0, 0.05, most=9) == 9
    assert stats.seeds_needed(stats.two_way(few), 1.0, 0.0, 0.05, most=8) is None
    assert stats.seeds_needed(stats.two_way(many), 1.0, 0.0, 0.05) is None
    assert stats.seeds_needed(stats.two_way(many), 1.0, 0.0, 0.05, most=101) == 101


def test_the_room_to_be_equivalent_is_a_share_of_the_baselines_size() -> None:
    """As above .08 and .1: within .2 of a baseline of -1, six seeds; a difference of -.08 needs as many."""
    for mean in (0.08, -0.08):
        test = stats.two_way(np.repeat((mean + 0.1 * np.array([-1.0, 0, 1]))[:, None], 50, axis=1))
        assert stats.seeds_needed(test, -1.0, 0.2, 0.05) == 6


def test_a_family_of_different_numbers_of_seeds() -> None:
    """Users agree. Seeds' variances .04 of 5 seeds, .01, .0001 of 3; medians of chi-square 3.3567 / 4 and 2 ln 2 / 2.

    Scaled: .04766, .01443, .00014, so the median is .01443; 2/3 of (4 + 2 + 2) / (1 + 2/4) = 3.556 degrees of freedom.
    """
    wide = 0.5 + 0.2 * np.sqrt(4 / 10) * np.array([-2.0, -1, 0, 1, 2])
    tests = [stats.two_way(np.repeat(wide[:, None], 50, axis=1)), *_of_seeds([0.01, 0.0001])]
    assert tests[0].seed_square == pytest.approx(0.04)
    square = 0.01 / np.log(2)
    assert 0.04 * 4 / oracle.chi2.median(4) > square
    shared = 2 * oracle.t.sf(0.3 / np.sqrt(square / 3), 8 / 1.5 * 2 / 3)
    assert stats.family_p(tests) == pytest.approx([tests[0].p, max(tests[1].p, shared), shared])


def test_a_lent_mean_square_stands_beside_the_users_and_the_interaction() -> None:
    """By the sums of squares of D itself: v = (MS_user + n square - MS_int) / (S n), Satterthwaite's df with 3.2 for 2.

    Two comparisons of three seeds share 4 / (1 + 1/4) = 3.2 degrees of freedom and the mean of their squares.
    """
    rng = np.random.default_rng(12)
    own = rng.normal(0, 1, 40) + rng.normal(0, 1, (3, 40))
    calm, wild = (own - own.mean(1, keepdims=True) + np.array(s)[:, None] for s in ([0.1, 0.2, 0.3], [-1.0, 0.2, 1.4]))
    user = 3 * calm.mean(0).var(ddof=1)
    rest = ((calm - calm.mean(0) - calm.mean(1, keepdims=True) + calm.mean()) ** 2).sum() / (2 * 39)
    lent = 40 * (0.01 + 1.44) / 2
    both = user + lent - rest
    df = both**2 / (user**2 / 39 + lent**2 / 3.2 + rest**2 / 78)
    expected = 2 * oracle.t.sf(0.2 / np.sqrt(both / 120), df)
    tests = [stats.two_way(calm), stats.two_way(wild)]
    assert user > rest  # no floor
    assert stats.family_p(tests) == pytest.approx([max(tests[0].p, expected), tests[1].p])
    assert expected > tests[0].p
    others = [stats.t_users(calm), stats.two_way(calm[:1])]
    assert stats.family_p([*tests, *others]) == pytest.approx([expected, *(t.p for t in [tests[1], *others])])


def test_corrections_take_the_familys_p_and_none_takes_each_own() -> None:
    tests = _of_seeds([0.02, 0.01, 0.0001])
    together = stats.family_p(tests)
    assert together != [t.p for t in tests]
    assert stats.corrected(tests, "none") == [t.p for t in tests]
    assert stats.corrected(tests, "holm") == stats.holm(together)
    assert stats.corrected(tests, "bh") == stats.benjamini_hochberg(together) != stats.holm(together)


def test_what_is_settled_is_settled_with_one_seed_more() -> None:
    test = stats.two_way(np.repeat((0.5 + 0.001 * np.array([-1.0, 0, 1]))[:, None], 50, axis=1))
    assert test.p < 0.001
    assert stats.seeds_needed(test, 1.0, 0.0, 0.05) == 4


def test_the_room_is_the_share_times_the_baseline() -> None:
    """As above .08 and .1: a tenth of 2 is .2."""
    test = stats.two_way(np.repeat((0.08 + 0.1 * np.array([-1.0, 0, 1]))[:, None], 50, axis=1))
    assert stats.seeds_needed(test, 2.0, 0.1, 0.05) == 6


def test_users_and_the_interaction_go_with_more_seeds_as_they_should() -> None:
    """With 50 users MS_user = .1 S + .2, MS_seed = 50 x .01 + .2 and MS_int = .2: v = (.1 S + .7) / (50 S)."""
    variance = stats.Variance(0.1, 0.01, 0.2)
    test = stats.Test("two-way", 0.1, 0.1, 1.0, 2.0, 0.4, -0.3, 0.5, 50, 3, "methods", variance, 0.014)

    def half(S: int) -> float:
        both = 0.1 * S + 0.7
        df = both**2 / ((0.1 * S + 0.2) ** 2 / 49 + 0.7**2 / (S - 1) + 0.2**2 / (49 * (S - 1)))
        return float(oracle.t.ppf(0.975, df) * np.sqrt(both / (50 * S)))

    expected = next(S for S in range(4, 100) if half(S) < 0.1)
    assert stats.seeds_needed(test, 1.0, 0.0, 0.05) == expected == 28
