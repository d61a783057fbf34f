"""How far a policy lies from a distribution: published vectors, small tables by hand, scipy, and what must hold."""

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from rlrecbench.metrics import Fit, Lists, Reference, evaluate, metrics
from rlrecbench.metrics.fitting import EPSILON, js, kl, kl_reverse, smoothed, token_counts, tv

TITLES = ["fit-kl", "fit-kl-reverse", "fit-js", "fit-tv"]
TOKENS = ["fit-token-kl", "fit-token-kl-reverse", "fit-token-js"]
COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=9)


def counts(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


def table(drawn: Sequence[int], exact: Sequence[float], targets: Sequence[int]) -> Lists:
    """Weights A 2, B 1, C 1, D 0 under titles one, two, two, three; paths 5 6 | 5 7 | 5 7 8 | 9."""
    reference = Reference(
        ["one", "two", "three"], np.array([0, 1, 1, 2]), np.array([2, 1, 1, 0]), np.zeros(3, np.int64)
    )
    paths = np.array([[5, 6, -1], [5, 7, -1], [5, 7, 8], [9, -1, -1]])
    fit = Fit(np.array(exact), paths)
    return Lists(np.array([drawn]).T, np.array(targets), reference, fit=fit)


def value(lists: Lists, name: str) -> float:
    return evaluate(lists, [f"{name}@1"]).values[f"{name}@1"]


@pytest.mark.parametrize(
    ("t", "r", "expected"),
    [
        ((4, 3, 2, 1, 0), (7, 2, 0, 0, 1), (10.849519, 3.915003, 0.164379)),
        ((4, 3, 2, 1), (7, 2, 0, 0), (10.744158, 0.450514, 0.137714)),
    ],
    ids=["with the key of what is no title", "without it"],
)
def test_published_code(t: tuple[float, ...], r: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """T = A 4, B 3, C 2, D 1 and R = A 7, B 2, X 1, run through the public notebook."""
    found = [distance(counts(*t), counts(*r)) for distance in (kl, kl_reverse, js)]
    assert found == pytest.approx(expected, abs=5e-7)


def test_total_variation_is_half_of_all_differences() -> None:
    """.4 .3 .2 .1 0 against .7 .2 0 0 .1: (.3 + .1 + .2 + .1 + .1) / 2 = .4."""
    assert tv(counts(4, 3, 2, 1, 0), counts(7, 2, 0, 0, 1)) == pytest.approx(0.4)


def test_a_missing_title_counts_epsilon_occurrences() -> None:
    """T = 1/2, 1/2 and R = 4, 0: the missing half adds 1/2 (ln 1/2 + 36.04 + ln 4), the other 1/2 ln 1/2."""
    assert pytest.approx(2**-52) == EPSILON
    expected = 0.5 * log(0.5) + 0.5 * (log(0.5) + 52 * log(2) + log(4))
    assert kl(counts(1, 1), counts(4, 0)) == pytest.approx(expected, rel=1e-12)


def test_what_neither_has_is_no_key() -> None:
    p, q = smoothed(counts(3, 0, 1), counts(0, 0, 2))
    assert len(p) == len(q) == 2
    assert (p[0], q[0]) == (0.75, pytest.approx(EPSILON / 2))


@pytest.mark.parametrize("distance", [kl, kl_reverse, js, tv])
def test_nothing_drawn_is_undefined(distance: Any) -> None:
    assert np.isnan(distance(counts(1, 2), counts(0, 0)))
    assert np.isnan(distance(counts(0, 0), counts(1, 2)))


@given(COUNTS, st.integers(1, 9))
def test_bounds_symmetry_and_scale(pairs: list[tuple[int, int]], factor: int) -> None:
    t, r = (np.array(x, np.float64) for x in zip(*pairs, strict=True))
    if not (t.any() and r.any()):
        return
    assert kl(t, r) >= -1e-12
    assert -1e-12 <= js(t, r) <= log(2) + 1e-12
    assert js(t, r) == pytest.approx(js(r, t), abs=1e-12)
    assert 0 <= tv(t, r) <= 1
    assert (js(t, factor * t), tv(t, factor * t)) == pytest.approx((0, 0), abs=1e-12)
    assert tv(t, r) ** 2 / 2 <= js(t, r) + 1e-12  # Lin (1991) with Pinsker's inequality: TV^2 / 2 <= JS


@given(COUNTS)
def test_against_scipy(pairs: list[tuple[int, int]]) -> None:
    t, r = (np.array(x, np.float64) + 1 for x in zip(*pairs, strict=True))
    assert kl(t, r) == pytest.approx(entropy(t, r), abs=1e-12)
    assert js(t, r) == pytest.approx(jensenshannon(t, r) ** 2, abs=1e-12)


def test_titles_by_hand() -> None:
    """T = one 2, two 2. Drawn one, two, two, two: 1/4, 3/4. Exact .3 + (.4 + .2) + .1; floor three ones, one two."""
    lists = table([0, 1, 2, 2], [0.3, 0.4, 0.2, 0.1], [0, 0, 1, 0])
    assert value(lists, "fit-tv") == pytest.approx(1 / 4)
    assert value(lists, "fit-kl") == pytest.approx(0.5 * log(2) + 0.5 * log(2 / 3))
    assert value(lists, "fit-kl-reverse") == pytest.approx(0.25 * log(1 / 2) + 0.75 * log(3 / 2))
    assert value(lists, "fit-tv-exact") == pytest.approx(0.2)
    assert value(lists, "fit-js-exact") == pytest.approx(js(counts(2, 2, 0), counts(0.3, 0.6, 0.1)))
    assert value(lists, "fit-tv-floor") == pytest.approx(1 / 4)
    assert value(lists, "fit-kl-floor") == pytest.approx(0.5 * log(2 / 3) + 0.5 * log(2))
    assert value(lists, "fit-js") == pytest.approx(value(lists, "fit-js-floor"))  # 1, 3 mirrors 3, 1


def test_tokens_by_hand() -> None:
    """T: 5 in all four, 6 in two, 7 in two, 8 in one, of nine. Drawn A, B, C, D: 5 3, 6 1, 7 2, 8 1, 9 1, of eight."""
    lists = table([0, 1, 2, 3], [1, 0, 0, 0], [0, 0, 0, 0])
    t, r = counts(4, 2, 2, 1, 0), counts(3, 1, 2, 1, 1)
    assert value(lists, "fit-token-kl") == pytest.approx(kl(t, r))
    assert value(lists, "fit-token-kl-reverse") == pytest.approx(kl(r, t))
    assert value(lists, "fit-token-js") == pytest.approx(jensenshannon(t, r) ** 2, abs=1e-12)
    floor = counts(4, 4, 0, 0)  # four times A: 5 and 6
    assert value(lists, "fit-token-kl-floor") == pytest.approx(kl(counts(4, 2, 2, 1), floor))


def test_a_token_that_stands_twice_in_a_title_counts_twice() -> None:
    assert token_counts(np.array([3, 1]), np.array([[1, 1], [2, -1]])).tolist() == [0, 6, 1]


def test_token_0_counts_like_any_other() -> None:
    assert token_counts(np.array([3, 1]), np.array([[0, 2], [0, -1]])).tolist() == [4, 0, 3]


def test_a_perfect_policy_fits() -> None:
    lists = table([0, 0, 1, 2], [0.5, 0.25, 0.25, 0], [0, 0, 1, 2])
    names = [e.name for e in metrics if e.value.needs == "fit"]
    assert len(names) == 18
    assert [value(lists, name) for name in names] == pytest.approx([0] * 18, abs=1e-12)


def test_undefined_for_recommendations() -> None:
    lists = table([0], [1, 0, 0, 0], [0])
    bare = Lists(lists.ranked, lists.target, lists.reference)
    assert np.isnan([value(bare, name) for name in TITLES + TOKENS]).all()
    assert not bare.has("fit")
    with pytest.raises(ValueError, match="the lists have no fit"):
        metrics["fit-token-js"](bare, 1)


def test_some_rows_keep_the_fit() -> None:
    lists = table([0, 1, 2, 2], [0.3, 0.4, 0.2, 0.1], [0, 0, 1, 0])
    some = lists.select(np.array([0, 1]))
    assert value(some, "fit-tv") == 0
    assert value(some, "fit-tv-exact") == pytest.approx(0.2)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"exact must be \[N\] and paths \[N, L\]"):
        Fit(np.ones(3), np.ones((2, 1), np.int64))
    reference = Reference(["a"], np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="fit must be of N = 1 items, not of 2"):
        Lists(np.zeros((1, 1), np.int64), np.zeros(1, np.int64), reference, fit=Fit(np.ones(2), np.ones((2, 1), int)))
