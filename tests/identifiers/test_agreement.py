"""Agreement of neighbours, against hand-computed values and the laws of chance."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rlrecbench.data.frame import Examples
from rlrecbench.identifiers import Identifiers, deduplicated
from rlrecbench.identifiers.agreement import Agreement, Pairs, agreement, compare

Ints = NDArray[np.int64]
# Items 0..3; the first code splits {0, 1} from {2, 3}, both together {0, 1}, {2} and {3}.
CODES = Identifiers(np.array([[0, 0], [0, 0], [1, 0], [1, 1]]), (2, 2))
FOUR = Pairs(np.array([0, 1, 2, 3]), left=np.array([0, 0, 2, 1]), right=np.array([1, 2, 3, 0]))


def measured(ids: Identifiers, pairs: Pairs, resamples: int = 50, seed: int = 0) -> Agreement:
    found = agreement(ids, pairs, resamples, seed)
    assert found is not None
    return found


def drawn(rng: np.random.Generator, items: int, pairs: int, users: int | None = None) -> Pairs:
    """Pairs of independent items, popular ones more often, equal ones left out."""
    weights = 1 / np.arange(1, items + 1) ** 0.7
    left, right = rng.choice(items, (2, 2 * pairs), p=weights / weights.sum())
    kept = np.flatnonzero(left != right)[:pairs]
    assert len(kept) == pairs
    user = np.arange(pairs) if users is None else np.sort(np.append(rng.integers(users, size=pairs - 1), users - 1))
    return Pairs(user, left[kept], right[kept])


def test_four_pairs_by_hand() -> None:
    """Pairs (0, 1), (0, 2), (2, 3), (1, 0).

    Shares on the left: items 0 1/2, 1 1/4, 2 1/4; on the right: each item 1/4. Equal items by chance:
    same = 1/2 1/4 + 1/4 1/4 + 1/4 1/4 = 4/16.

    First code: equal in pairs 1, 3 and 4: 3/4. Left {0, 1} 3/4, {2, 3} 1/4; right 1/2, 1/2: sum 1/2, so
    chance = (8/16 - 4/16) / (12/16) = 1/3 and kappa = (3/4 - 1/3) / (2/3) = 5/8, lift = 9/4.

    Both codes: equal in pairs 1 and 4: 1/2. Left {0, 1} 3/4, {2} 1/4, {3} 0; right 1/2, 1/4, 1/4: sum 7/16, so
    chance = 3/12 and kappa = (1/4) / (3/4) = 1/3, lift = 2.
    """
    first, both = measured(CODES, FOUR).prefixes
    assert (first.length, both.length) == (1, 2)
    assert (first.agreement, both.agreement) == (0.75, 0.5)
    assert (first.chance, both.chance) == pytest.approx((1 / 3, 1 / 4))
    assert (first.kappa, both.kappa) == pytest.approx((5 / 8, 1 / 3))
    assert (first.lift, both.lift) == pytest.approx((9 / 4, 2))


def test_chance_is_what_random_partners_agree_by() -> None:
    """Match each left item with every right item but itself, weighted by how often both occur."""
    rng = np.random.default_rng(0)
    pairs, codes = drawn(rng, 30, 200), rng.integers(3, size=(30, 2))
    equal = (codes[pairs.left][:, None] == codes[pairs.right][None]).all(-1)  # [M, M]
    other = pairs.left[:, None] != pairs.right[None]
    found = measured(Identifiers(codes, (3, 3)), pairs).prefixes[1]
    assert found.chance == pytest.approx((equal & other).sum() / other.sum())


def test_pairs_are_newest_item_and_target_without_repeats_and_empty_histories() -> None:
    rows = Examples.make([7, 7, 3, 9, 5], [[1, 2], [4], [], [8, 6], [2, 3]], [3, 4, 1, 5, 0])
    pairs = Pairs.of(rows)
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([2, 6, 3], [3, 5, 0])
    assert pairs.user.tolist() == [1, 2, 0]  # users 7, 9, 5
    assert (len(pairs), pairs.users) == (3, 3)


def test_without_a_pair_there_is_nothing_to_measure() -> None:
    assert agreement(CODES, Pairs.of(Examples.make([0], [[]], [1]))) is None
    assert agreement(CODES, Pairs.of(Examples.make([], [], []))) is None


def test_codes_that_are_the_clusters_agree_perfectly() -> None:
    """Every pair stays in its cluster, and so does every resample of them."""
    rng = np.random.default_rng(1)
    cluster = np.arange(40) % 4
    left = rng.integers(40, size=300)
    pairs = Pairs(np.arange(300) // 3, left, (left + 4 * rng.integers(1, 10, size=300)) % 40)
    ids = Identifiers(np.column_stack([cluster, np.arange(40) // 4]), (4, 10))
    first, both = measured(ids, pairs).prefixes
    assert (first.agreement, first.kappa, first.low, first.high) == (1, 1, 1, 1)
    assert (both.agreement, both.chance, both.lift) == (0, 0, None)  # all items differ, so none can agree by chance
    assert (both.kappa, both.low, both.high) == (0, 0, 0)


def test_one_code_for_all_leaves_nothing_beyond_chance() -> None:
    (only,) = measured(Identifiers(np.zeros((4, 1), np.int64), (1,)), FOUR).prefixes
    assert (only.agreement, only.chance, only.lift) == (1, 1, 1)
    assert (only.kappa, only.low, only.high) == (None, None, None)
    json.dumps(measured(Identifiers(np.zeros((4, 1), np.int64), (1,)), FOUR).as_json(), allow_nan=False)


def test_random_codes_agree_by_chance_and_the_interval_says_so() -> None:
    """Left and right are independent, so kappa is 0 for any codes and 95 % of the intervals hold it.

    With 300 data sets the share that do lies within .95 +- 3 sqrt(.95 .05 / 300) = .95 +- .038; the percentile
    bootstrap of 120 clusters costs about .01.
    """
    rng = np.random.default_rng(2)
    held, values = 0, []
    for _ in range(300):
        ids = Identifiers(rng.integers(4, size=(50, 1)), (4,))
        (found,) = measured(ids, drawn(rng, 50, 240, users=120), resamples=200).prefixes
        assert found.kappa is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
        values.append(found.kappa)
    assert 0.90 <= held / 300 <= 0.985
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5


def test_where_each_user_has_one_pair_the_spread_is_binomial() -> None:
    """With hardly any chance kappa is the share a of m agreeing pairs; its standard error is sqrt(a (1 - a) / m)."""
    m = 2_000
    pairs = Pairs(np.arange(m), 2 * np.arange(m), 2 * np.arange(m) + 1)  # 2 m different items
    codes = np.arange(2 * m)
    codes[1::2][: m // 5] = codes[::2][: m // 5]  # a fifth of the pairs agree
    found = measured(Identifiers(codes[:, None], (2 * m,)), pairs, resamples=2_000)
    (prefix,) = found.prefixes
    assert prefix.kappa == pytest.approx(0.2, abs=1e-3)
    assert prefix.low is not None
    assert prefix.high is not None
    expected = (0.2 * 0.8 / m) ** 0.5
    assert found.resampled[:, 0].std() == pytest.approx(expected, rel=0.06)
    assert (prefix.high - prefix.low) / (2 * 1.96) == pytest.approx(expected, rel=0.08)


def test_rows_of_one_user_count_as_one_witness() -> None:
    """Ten copies of each user's pair are no news: the spread stays that of the users, not 1/sqrt(10) of it."""
    rng = np.random.default_rng(3)
    ids, single = Identifiers(rng.integers(3, size=(60, 1)), (3,)), drawn(rng, 60, 200)
    copies = Pairs(*(np.repeat(x, 10) for x in (single.user, single.left, single.right)))
    a, b = measured(ids, single, 400), measured(ids, copies, 400)
    assert a.prefixes == b.prefixes
    assert (a.users, b.users, b.pairs) == (200, 200, 2_000)


def test_identical_identifiers_differ_by_exactly_nothing() -> None:
    rng = np.random.default_rng(4)
    ids, pairs = Identifiers(rng.integers(5, size=(50, 3)), (5,) * 3), drawn(rng, 50, 300)
    for line in compare(measured(ids, pairs), measured(replace(ids), pairs)):
        assert (line.difference, line.low, line.high) == (0, 0, 0)


def test_the_difference_is_paired() -> None:
    """The indices differ in 40 of 2,000 pairs; p = .02 of the users vary, with standard error sqrt(p (1 - p) / m).

    Unpaired it would be sqrt(.2 .8 / m + .18 .82 / m), four times as much.
    """
    m = 2_000
    pairs, codes = Pairs(np.arange(m), 2 * np.arange(m), 2 * np.arange(m) + 1), np.arange(2 * m)
    a, b = codes.copy(), codes.copy()
    a[1::2][:400], b[1::2][:360] = codes[::2][:400], codes[::2][:360]
    (line,) = compare(*(measured(Identifiers(c[:, None], (2 * m,)), pairs, 2_000) for c in (a, b)))
    assert line.difference is not None
    assert line.difference == pytest.approx(0.02, abs=1e-4)
    assert line.low is not None
    assert line.high is not None
    assert line.low < line.difference < line.high
    assert (line.high - line.low) / (2 * 1.96) == pytest.approx((0.02 * 0.98 / m) ** 0.5, rel=0.08)


def test_a_collision_code_is_not_looked_at() -> None:
    assert measured(deduplicated(CODES), FOUR).prefixes == measured(CODES, FOUR).prefixes


def test_only_lengths_that_both_have_are_compared() -> None:
    short = Identifiers(CODES.codes[:, :1], CODES.sizes[:1])
    assert [line.length for line in compare(measured(CODES, FOUR), measured(short, FOUR))] == [1]


def test_what_was_measured_otherwise_is_not_compared() -> None:
    found = measured(CODES, FOUR)
    for other in (measured(CODES, FOUR, seed=1), measured(CODES, FOUR, 49)):
        with pytest.raises(ValueError, match="same"):
            compare(found, other)


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(6)
    ids, pairs = Identifiers(rng.integers(5, size=(50, 2)), (5, 5)), drawn(rng, 50, 300)
    assert measured(ids, pairs) == measured(ids, pairs)
    assert measured(ids, pairs, seed=1).prefixes[0].low != measured(ids, pairs).prefixes[0].low
    assert json.loads(json.dumps(measured(ids, pairs).as_json()))["prefixes"][0]["length"] == 1
