"""Corrections, verdicts, seeds needed, tallies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=12, deadline=None)
@given(P)
def test_holm_is_the_step_down_maximum(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate([min(1.0, (len(p) - i) * p[j]) for i, j in enumerate(order)])
    expected = np.empty(len(p))
    expected[order] = steps
    assert stats.holm(p) == pytest.approx(list(expected))


@settings(max_examples=12, deadline=None)
@given(P)
def test_corrections_never_lower_p(p: list[float]) -> None:
    bh, holm = stats.benjamini_hochberg(p), stats.holm(p)
    assert all(raw <= b + 1e-12 and b <= h + 1e-12 for raw, b, h in zip(p, bh, holm, strict=True))
    assert stats.CORRECTIONS["none"](p) == p


def test_no_tests_to_correct() -> None:
    assert stats.holm([]) == []


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


def test_no_number_of_seeds_replaces_users() -> None:
    users = np.array([[-1.0, 1.0, 0.5, -0.4]])
    assert stats.seeds_needed(stats.two_way(np.repeat(users, 3, axis=0)), 1.0, 0.02, 0.05) is None
    assert stats.seeds_needed(stats.t_users(users), 1.0, 0.02, 0.05) is None


def test_tally() -> None:
    # User means: (.5, 0, -.5, 0); seed means: (.25, -.25).
    difference = [[1, 0.1, 0, -0.1], [0, -0.1, -1, 0.1]]
    assert stats.tally(difference) == (1, 1, 2, 1)
    assert stats.tally([[1, 1, -1]]) == (2, 1, 0, 1)
    assert stats.tally([[1, 1, -1]], "lower") == (1, 2, 0, 0)


def test_rounding_is_a_tie() -> None:
    assert stats.tally([[0.1 + 0.2 - 0.3]]).users_tied == 1


def test_config_from_a_suite() -> None:
    config = build(stats.StatsConfig, {"primary": "recall@5", "test": "t-seeds"}, "s.yaml: stats")
    assert config == stats.StatsConfig(primary="recall@5", test="t-seeds")
    with pytest.raises(ConfigError, match=r"s.yaml: stats\.alpha: should be less than 1"):
        build(stats.StatsConfig, {"alpha": 1.0}, "s.yaml: stats")
    with pytest.raises(ConfigError, match=r"s.yaml: stats\.correction"):
        build(stats.StatsConfig, {"correction": "bonferroni"}, "s.yaml: stats")
