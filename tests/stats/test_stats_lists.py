"""Two methods' lists resampled: against loops over resampled lists, all swaps enumerated, scipy, and by hand."""

from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test

from rlrecbench import stats
from rlrecbench.errors import ConfigError
from rlrecbench.metrics import Lists, Reference, evaluate, standard
from rlrecbench.metrics.exposure import Part
from rlrecbench.stats import lists as module
from rlrecbench.stats.draws import DELETED, Draws
from rlrecbench.stats.lists import Resampled, difference, intervals, swapped

N, K = 60, 5
REFERENCE = Reference(
    titles=[f"w{i % 11} w{i % 7} title{i}" for i in range(N)],
    title_of=np.arange(N),
    item_frequency=np.arange(N, 0, -1),
    group_of=np.arange(N) * 8 // N,
)
ALL = [str(s) for s in standard([2, 5], "string") if s.metric.level != "list"]


def _lists(rng: np.random.Generator, taste: float, users: int = 300) -> Lists:
    """Users with K items drawn by Zipf's law with the given exponent; a few places are invalid or absent."""
    ranked = np.argsort(taste * np.log(np.arange(1, N + 1)) - rng.gumbel(size=(users, N)), axis=1)[:, :K]
    ranked[rng.random(ranked.shape) < 0.02] = -1
    ranked[rng.random(ranked.shape) < 0.02] = N
    return Lists(ranked, np.arange(users) % N, REFERENCE)


def _value(lists: Lists, rows: np.ndarray, name: str) -> float:
    return evaluate(lists.select(rows), [name]).values[name]


@pytest.mark.parametrize("users", [30, 1100])
def test_every_resample_equals_its_lists_evaluated(users: int) -> None:
    """Swaps, subsets and users drawn again, by building the lists of each; 1,100 users change sides in bundles."""
    rng = np.random.default_rng(0)
    draws = Draws.of(users, resamples=3, subsets=3, again=3)
    assert draws.bundles == (30 if users == 30 else 128)
    a, b = [_lists(rng, 0.5, users) for _ in "12"], [_lists(rng, 1.0, users) for _ in "12"]
    A, B = ([Resampled(x, ALL, draws) for x in side] for side in (a, b))
    found = swapped(A, B)
    for row, chosen in enumerate(draws.swapped):
        turned = chosen[draws.bundle][:, None]
        one = [Lists(np.where(turned, y.ranked, x.ranked), x.target, REFERENCE) for x, y in zip(a, b, strict=True)]
        two = [Lists(np.where(turned, x.ranked, y.ranked), x.target, REFERENCE) for x, y in zip(a, b, strict=True)]
        for name in ALL:
            sides = [np.mean([evaluate(x, [name]).values[name] for x in side]) for side in (one, two)]
            assert found[name][row] == pytest.approx(sides[0] - sides[1], abs=1e-10), name
    everyone = np.arange(users)
    for name, spec in A[0].specs.items():
        if spec.metric.level == "user" or spec.metric.smooth:
            expected = [_value(a[0], np.repeat(everyone, again), name) for again in draws.again]
        else:
            expected = [_value(a[0], everyone[kept[draws.bundle]], name) for kept in draws.kept]
            if spec.name == "ttr":  # as if the words of all users were counted
                expected = [v * kept.mean() for v, kept in zip(expected, draws.kept, strict=True)]
        assert A[0].resampled[name] == pytest.approx(expected, abs=1e-6), name


def test_p_of_all_swaps_enumerated() -> None:
    """Ten users have 1,024 swaps; drawn at random, the p-values come close to that of all."""
    rng = np.random.default_rng(1)
    a, b = _lists(rng, 0.2, 10), _lists(rng, 1.5, 10)
    some = Draws.of(10, resamples=9_999, subsets=5)
    order = np.argsort(some.bundle)
    every = np.array(list(product([False, True], repeat=10)))
    names = ["coverage@5", "item-entropy@5", "dgu@5"]
    p = {}
    for name in names:
        exact = []
        for row in every:
            turned = row[:, None]
            sides = [np.where(turned, y.ranked, x.ranked) for x, y in ((a, b), (b, a))]
            one, two = (evaluate(Lists(x, a.target, REFERENCE), [name]).values[name] for x in sides)
            exact.append(abs(one - two))
        p[name] = np.mean(np.array(exact) >= exact[0] - 1e-12)
    whole = replace(some, bundle=np.arange(10), swapped=every)
    enumerated = difference([Resampled(a, names, whole)], [Resampled(b, names, whole)])
    drawn = difference([Resampled(a, names, some)], [Resampled(b, names, some)])
    assert sorted(order) == list(range(10))
    for name in names:
        assert enumerated[name].p_swap == p[name]
        assert drawn[name].p_swap == pytest.approx(p[name], abs=0.02)


def test_p_of_a_mean_equals_scipys() -> None:
    rng = np.random.default_rng(2)
    a, b = _lists(rng, 0.9), _lists(rng, 1.2)
    draws = Draws.of(300, resamples=9_999, subsets=5)
    found = difference([Resampled(a, ["ndcg@5"], draws)], [Resampled(b, ["ndcg@5"], draws)])["ndcg@5"]
    x, y = (evaluate(lists, ["ndcg@5"]).per_user["ndcg@5"] for lists in (a, b))
    theirs = permutation_test(
        (x, y), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True, rng=0
    )
    assert found.p_swap == pytest.approx(theirs.pvalue, abs=0.02)


def test_standard_errors_of_a_mean() -> None:
    """Bootstrap over users and delete-d jackknife both give s / sqrt(n) for a mean."""
    rng = np.random.default_rng(3)
    a, b = _lists(rng, 0.5), _lists(rng, 1.5)
    draws = Draws.of(300, resamples=9, subsets=2000, again=2000)
    found = difference([Resampled(a, ["recall@5"], draws)], [Resampled(b, ["recall@5"], draws)])["recall@5"]
    d = (a.rank > 0).astype(float) - (b.rank > 0).astype(float)
    se = d.std(ddof=1) / np.sqrt(300)
    assert found.mean == pytest.approx(d.mean())
    assert found.se == pytest.approx(se, rel=0.05)
    assert (found.low, found.high) == pytest.approx((d.mean() - 1.96 * se, d.mean() + 1.96 * se), abs=0.3 * se)
    kept = draws.kept.astype(float)
    means = kept @ d[np.argsort(draws.bundle)] / kept.sum(1)
    assert np.sqrt(draws.scale * means.var()) == pytest.approx(se, rel=0.05)
    assert draws.scale == pytest.approx((1 - DELETED) / DELETED)


def test_users_and_seeds_crossed_as_for_a_mean() -> None:
    """With four seeds the test of a metric of users is nearly that of two_way, whose mean squares are exact."""
    rng = np.random.default_rng(4)
    a, b = [_lists(rng, 0.8) for _ in range(4)], [_lists(rng, t) for t in (0.7, 0.9, 1.1, 1.3)]
    draws = Draws.of(300, resamples=9, subsets=5, again=4000)
    A, B = ([Resampled(x, ["recall@5"], draws) for x in side] for side in (a, b))
    found = difference(A, B)["recall@5"].test
    exact = stats.two_way(
        np.stack([x.per_user["recall@5"] - y.per_user["recall@5"] for x, y in zip(A, B, strict=True)])
    )
    assert (found.level, found.seeds, found.users) == (exact.level, exact.seeds, exact.users)
    assert found.mean == pytest.approx(exact.mean)
    assert found.se == pytest.approx(exact.se, rel=0.03)
    assert found.df == pytest.approx(exact.df, rel=0.15)
    assert found.p == pytest.approx(exact.p, abs=0.02)


@pytest.mark.parametrize("users", [300, 1100])
def test_only_p_of_the_swaps_depends_on_their_number(users: int) -> None:
    few, many = (Draws.of(users, resamples, again=30) for resamples in (9, 199))
    assert all((getattr(few, name) == getattr(many, name)).all() for name in ("bundle", "kept", "again"))
    assert (few.swapped == many.swapped[:10]).all()
    rng = np.random.default_rng(8)
    a, b = ([_lists(rng, taste, users) for _ in "12"] for taste in (0.8, 1.0))
    names = ["dgu@5", "entropy@5"]
    one, other = (
        difference([Resampled(x, names, draws) for x in a], [Resampled(x, names, draws) for x in b])
        for draws in (few, many)
    )
    for name in names:
        assert one[name]._replace(p_swap=0) == other[name]._replace(p_swap=0)


def test_one_seed_speaks_of_checkpoints() -> None:
    rng = np.random.default_rng(5)
    draws = Draws.of(300, 99, 50)
    found = difference(
        [Resampled(_lists(rng, 0.5), ["entropy@5"], draws)], [Resampled(_lists(rng, 1.0), ["entropy@5"], draws)]
    )["entropy@5"]
    assert found.test.level == "checkpoints"
    assert found.test.checkpoint_only
    assert found.test.se == pytest.approx(found.se)
    assert found.low < found.mean < found.high


def test_intervals_of_one_method_where_the_bootstrap_misses_its_own_estimate() -> None:
    """A resample with replacement has 63 % of the users, so fewer items and words than the estimate."""
    rng = np.random.default_rng(10)
    names = ["coverage@5", "ttr@5", "entropy@5", "item-entropy@5", "kl-popularity@5", "dgu@5"]
    cells = [_lists(rng, 1.5, 40) for _ in range(2)]
    draws = Draws.of(40)
    found = intervals([Resampled(cell, names, draws) for cell in cells])
    naive = [
        [np.mean([_value(cell, np.repeat(np.arange(40), again), name) for cell in cells]) for name in names]
        for again in draws.again[:200]
    ]
    low, high = np.quantile(naive, [0.025, 0.975], axis=0)
    outside = {}
    for i, name in enumerate(names):
        value = np.mean([evaluate(cell, [name]).values[name] for cell in cells])
        assert found[name].mean == pytest.approx(value)
        assert found[name].low < value < found[name].high
        outside[name] = not low[i] < value < high[i]
    assert [name for name in names if outside[name]] == ["coverage@5", "ttr@5", "item-entropy@5", "kl-popularity@5"]


def test_a_method_against_itself() -> None:
    a = Resampled(_lists(np.random.default_rng(6), 1.0), ALL, Draws.of(300, 50, 20))
    for value in difference([a, a], [a, a]).values():
        assert value[:5] == (0.0, 0.0, 0.0, 0.0, 1.0)
        assert value.test.p == 1.0


def test_nothing_recommended_is_undefined() -> None:
    rng = np.random.default_rng(7)
    draws = Draws.of(300, 20, 20)
    empty = Lists(np.full((300, K), -1), np.arange(300) % N, REFERENCE)
    names = ["entropy@5", "dgu@5"]
    for value in difference([Resampled(empty, names, draws)], [Resampled(_lists(rng, 1.0), names, draws)]).values():
        assert np.isnan(value.mean)
        assert (value.p_swap, value.test.p, value.test.df) == (1.0, 1.0, 0.0)


def test_p_of_swaps_is_uniform_when_methods_are_equal() -> None:
    """100 worlds of two equal methods; the discrete p are spread out within their steps of 1/100."""
    rng = np.random.default_rng(8)
    draws = Draws.of(60, resamples=99, subsets=2)
    names = ["entropy@5", "dgu@5", "kl-popularity@5"]
    p: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(100):
        found = difference(
            [Resampled(_lists(rng, 1.0, 60), names, draws)], [Resampled(_lists(rng, 1.0, 60), names, draws)]
        )
        for name in names:
            p[name].append(found[name].p_swap - rng.random() / 100)
    for name in names:
        assert kstest(p[name], "uniform").pvalue > 0.001, name


def test_cells_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(9)
    draws = Draws.of(300, 9, 5)
    a = Resampled(_lists(rng, 1.0), ["coverage@5"], draws)
    shifted = _lists(rng, 1.0)
    shifted = Lists(shifted.ranked, shifted.target[::-1].copy(), REFERENCE)
    with pytest.raises(ValueError, match="lists of the same users"):
        difference([a], [Resampled(shifted, ["coverage@5"], draws)])
    with pytest.raises(ValueError, match="different draws"):
        difference([a], [Resampled(_lists(rng, 1.0), ["coverage@5"], Draws.of(300, 9, 5))])
    with pytest.raises(ValueError, match="found 2 and 1"):
        difference([a, a], [a])
    with pytest.raises(ValueError, match="300 users, the lists of 20"):
        Resampled(_lists(rng, 1.0, 20), ["coverage@5"], draws)
    with pytest.raises(ValueError, match="at least 10 users"):
        Draws.of(9)
    with pytest.raises(ConfigError, match="dgu@5-compat looks at whole lists"):
        Resampled(_lists(rng, 1.0), ["dgu@5-compat"], draws)


def test_users_change_sides_alone_up_to_eight_for_each_bundle() -> None:
    assert [Draws.of(n, 1, 1, 1).bundles for n in (10, 1024, 1025)] == [10, 1024, 128]
    assert set(np.bincount(Draws.of(1025, 1, 1, 1).bundle)) == {8, 9}


def test_numbers_of_draws_that_are_not_asked_for() -> None:
    """The least p is 1/1,000, an end of an interval rests on 25 draws, and a fifth of 50 users is left out."""
    draws = Draws.of(50)
    assert (draws.swapped.shape, draws.kept.shape, draws.again.shape) == ((1000, 50), (200, 50), (999, 50))
    assert set(draws.kept.sum(1)) == {40}
    assert not draws.swapped[0].any()
    assert draws.swapped[1:].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(999 * 50))
    assert set(draws.again.sum(1)) == {50}


def test_counts_that_single_precision_cannot_hold_are_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 users with 5 items each are some 1,440 recommendations; the limit is lowered to less than that."""
    cell = _lists(np.random.default_rng(11), 1.0)
    draws = Draws.of(300, 5, 5, 5)
    single = Resampled(cell, ALL, draws)
    assert {single.bundles(5, "items").dtype, single.bundles(5, "groups").dtype} == {np.dtype(np.float32)}
    monkeypatch.setattr(module, "_EXACT", 1_000)
    double = Resampled(cell, ALL, draws)
    parts: tuple[Part, ...] = ("items", "groups", "words")
    for part in parts:
        assert double.bundles(5, part).dtype == np.float64
        assert (double.bundles(5, part) == single.bundles(5, part)).all()
    for name, values in single.resampled.items():
        assert double.resampled[name] == pytest.approx(values, abs=1e-6), name


def test_intervals_of_a_single_cell_and_of_cells_that_do_not_fit() -> None:
    rng = np.random.default_rng(12)
    draws = Draws.of(300, 5, 5, 50)
    one = Resampled(_lists(rng, 1.0), ["dgu@5"], draws)
    found = intervals([one])["dgu@5"]
    assert found.mean == one.value["dgu@5"]
    assert found.se == pytest.approx(one.resampled["dgu@5"].std(ddof=1))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(one.resampled["dgu@5"], [0.025, 0.975])))
    with pytest.raises(ValueError, match="different draws"):
        intervals([one, Resampled(_lists(rng, 1.0), ["dgu@5"], Draws.of(300, 5, 5, 50))])


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_variances_of_resamples_say_what_the_users_values_say(seeds: int) -> None:
    """The variance of a mean over samples of n users is s^2 / n, of each seed and of their average: as in two_way."""
    D = np.random.default_rng(13).normal(0.1, 1, (seeds, 30)) + np.random.default_rng(14).normal(0, 0.5, (seeds, 1))
    found = module._crossed(D.mean(1), D.var(1, ddof=1) / 30, float(D.mean(0).var(ddof=1)) / 30, 30)
    expected = stats.two_way(D)
    assert found.variance == (None if expected.variance is None else pytest.approx(expected.variance))
    for field in fields(expected):
        if field.name != "variance":
            assert getattr(found, field.name) == pytest.approx(getattr(expected, field.name)), field.name


@pytest.mark.parametrize(("seeds", "level"), [(1, "checkpoints"), (2, "methods"), (3, "methods")])
def test_an_undefined_difference_says_nothing(seeds: int, level: str) -> None:
    test = module._crossed(np.full(seeds, np.nan), np.ones(seeds), 1.0, 30)
    assert np.isnan(test.mean)
    assert (test.name, test.p, test.df, test.users, test.seeds, test.level) == ("two-way", 1, 0, 30, seeds, level)


def test_a_rough_metric_has_a_normal_interval() -> None:
    draws = Draws.of(300, 5, 40, 5)
    cell = Resampled(_lists(np.random.default_rng(15), 1.0), ["coverage@5"], draws)
    found = intervals([cell])["coverage@5"]
    values = cell.resampled["coverage@5"]
    se = np.sqrt(4 * ((values - values.mean()) ** 2).mean())  # a fifth of the users is left out: (n - d) / d = 4
    assert found.se == pytest.approx(se)
    assert (found.low, found.high) == pytest.approx((found.mean - 1.959964 * se, found.mean + 1.959964 * se))


def test_groups_of_each_users_list_by_hand() -> None:
    """Item 0 is in group 3 and item 1 in group 5; what is absent or invalid is in none."""
    reference = Reference(["a", "b"], np.arange(2), np.ones(2, np.int64), np.array([3, 5]))
    lists = Lists(np.array([[0, 1, 1], [1, -1, 0], [-1, 9, -1]]), np.zeros(3, np.int64), reference)
    assert module._groups_of_users(lists, 2).tolist() == [
        [0, 0, 0, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0] * 8,
    ]
    assert module._groups_of_users(lists, 3)[:2, [3, 5]].tolist() == [[1, 2], [1, 1]]
