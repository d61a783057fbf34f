"""Metrics of exposure: many resamples at once equal each on its own, and what an interval may be made from."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.metrics import Lists, Reference, Spec, evaluate, metrics
from rlrecbench.metrics.diversity import rarefied
from rlrecbench.metrics.exposure import Counts, Exposure, Part

N = 7
REFERENCE = Reference(
    titles=["a b", "b b c", "d", "a", "e f g"],
    title_of=np.array([0, 1, 2, 3, 4, 0, 2]),
    item_frequency=np.array([9, 5, 4, 3, 0, 2, 1]),
    group_of=np.array([0, 1, 2, 3, 7]),
)
EXPOSED = [entry.name for entry in metrics if entry.value.level == "exposure"]


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=N, max_size=N), min_size=2, max_size=5),
    st.sampled_from([np.int64, np.float32, np.float64]),
)
def test_many_at_once_equal_each_on_its_own(rows: list[list[int]], dtype: type) -> None:
    """Logarithms are looked up where there are many; the counts' type does not matter."""
    items: Counts = np.array(rows, dtype)
    many = Exposure.of(items, REFERENCE)
    for name in EXPOSED:
        alone = [float(metrics[name](Exposure.of(np.array(row), REFERENCE))) for row in rows]
        assert metrics[name](many) == pytest.approx(alone, abs=1e-12, nan_ok=True), name


def test_lists_and_counts_agree() -> None:
    """Items 0, 5 and 3 for two users: 5 has the title of 0, so the words are a (3), b (2)."""
    lists = Lists(np.array([[0, 5], [3, -1]]), np.array([0, 1]), REFERENCE)
    assert lists.exposure(2) is lists.exposure(2)
    assert lists.exposure(2).items.tolist() == [1, 0, 0, 1, 0, 1, 0]
    assert lists.exposure(2).groups.tolist() == [2, 0, 0, 1, 0, 0, 0, 0]
    assert sorted(lists.exposure(2).words[lists.exposure(2).words > 0].tolist()) == [2, 3]
    assert evaluate(lists, ["ttr@2"]).values == {"ttr@2": 2 / 5}


def test_smooth_metrics_look_at_groups_only() -> None:
    def groups_only(part: Part) -> Counts:
        assert part == "groups"
        return np.array([[3, 1, 0, 0, 2, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1, 1]])

    smooth = [name for name in EXPOSED if metrics[name].smooth]
    assert smooth == ["dgu", "js-group", "kl-group", "mgu"]
    for name in smooth:
        assert np.shape(metrics[name](Exposure(REFERENCE, groups_only))) == (2,)


def test_rarefied_equals_the_mean_over_all_draws() -> None:
    """Words a, a, a, b, b, c: all C(6, h) draws of h words, and their distinct words."""
    words = "aaabbc"
    for h in (1, 2, 3, 5, 6):
        expected = np.mean([len(set(draw)) / h for draw in combinations(words, h)])
        assert rarefied(np.array([3, 2, 0, 1]), h) == pytest.approx(expected, abs=1e-14)
    assert rarefied(np.array([3, 2, 0, 1]), 100) == 3 / 6
    assert np.isnan(rarefied(np.zeros(3, np.int64), 2))


def test_rarefied_by_hand_and_many_at_once() -> None:
    """Two of {a, a, b}: distinct unless both are a, so (2 - 1/3) / 2; {a, b} and {a, a, a, a} beside it."""
    counts = np.array([[2, 1], [1, 1], [4, 0], [1, 0], [0, 0]])
    assert rarefied(counts, 2) == pytest.approx([5 / 6, 1, 1 / 2, 1, np.nan], nan_ok=True)
    assert rarefied(counts.astype(np.float32), 2) == pytest.approx(rarefied(counts, 2), nan_ok=True)


def test_ttr_at_a_fixed_number_of_words_does_not_depend_on_the_number_of_users() -> None:
    """Ten times the users with the same tastes: the plain ratio falls by more than half, the other hardly moves."""
    rng = np.random.default_rng(0)
    n = 2000
    reference = Reference(
        [f"w{i} w{i % 50} x{i % 400}" for i in range(n)], np.arange(n), np.ones(n, np.int64), np.zeros(n, np.int64)
    )
    weights = 1 / np.arange(1, n + 1)
    few, many = (
        evaluate(
            Lists(rng.choice(n, (users, 10), p=weights / weights.sum()), np.zeros(users, np.int64), reference),
            [Spec("ttr", 10), Spec("ttr-fixed", 10)],
        ).values
        for users in (500, 5000)
    )
    assert many["ttr@10"] < few["ttr@10"] / 2
    assert many["ttr-fixed@10"] == pytest.approx(few["ttr-fixed@10"], rel=0.02)


def test_the_fixed_number_of_words_is_ten_thousand() -> None:
    """One word twenty thousand times: whatever is drawn holds one kind."""
    exposure = Exposure(REFERENCE, lambda part: np.array([20_000, 0]))
    assert float(metrics["ttr-fixed"](exposure)) == pytest.approx(1 / 10_000, rel=1e-9)


def test_type_token_ratio_of_some_users_is_told_as_if_all_were_there() -> None:
    """Two kinds among three words of half of the users: six words of all."""
    words = np.array([2, 1, 0])
    assert float(metrics["ttr"](Exposure(REFERENCE, lambda part: words, share=0.5))) == pytest.approx(2 / 6)
    assert float(metrics["ttr"](Exposure(REFERENCE, lambda part: words))) == pytest.approx(2 / 3)


def test_one_recommendation_is_enough() -> None:
    """Item 1, titled b b c: groups 0 1 0..., one word twice."""
    lists = Lists(np.array([[1]]), np.array([1]), REFERENCE)
    names = ["coverage@1", "gini@1", "item-entropy@1", "ttr@1", "entropy@1"]
    expected = [1 / 7, 6 / 7, 0, 2 / 3, -(2 / 3 * log2(2 / 3) + 1 / 3 * log2(1 / 3))]
    assert list(evaluate(lists, names).values.values()) == pytest.approx(expected)
