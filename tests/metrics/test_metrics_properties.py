"""Every metric against a naive loop over users, on random lists with duplicates, gaps and invalid entries."""

from collections import Counter
from math import log, log2

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.metrics import Lists, Reference, audit, evaluate
from rlrecbench.metrics.distribution import PSEUDO_COUNT, js, kl

WORDS = ["a", "b", "A", "c d", "a  b", "d,", "e", "f", "g h", "i", "j"]


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Dataset, Lists]:
    n = draw(st.integers(1, 14))
    item = st.integers(0, n - 1)
    titles = draw(st.lists(st.sampled_from(WORDS), min_size=n, max_size=n))
    histories = draw(st.lists(st.lists(item, min_size=1, max_size=5), min_size=1, max_size=8))
    depth, U = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    ranked = draw(st.lists(st.lists(st.integers(-2, n), min_size=depth, max_size=depth), min_size=U, max_size=U))
    target = draw(st.lists(item, min_size=U, max_size=U))
    train = Examples.make([0] * len(histories), [np.array(h) for h in histories], [0] * len(histories))
    items = pd.DataFrame({"item_id": [str(i) for i in range(n)], "title": titles, "text": titles})
    dataset = Dataset("toy", "examples", items, np.array(["u"]), train, train, train, {}, "")
    return dataset, Lists(np.array(ranked), np.array(target), Reference.of(dataset))


def naive_groups(dataset: Dataset) -> tuple[dict[str, int], list[float]]:
    """Group of each seen title, and GH."""
    title = dataset.items["title"].tolist()
    seen = Counter(title[i] for row in range(len(dataset.train)) for i in dataset.train.history(row))
    ranked = [name for name, _ in seen.most_common()]  # ties in order of first occurrence
    pieces = np.array_split(np.arange(len(ranked)), 8)
    group = {ranked[i]: g for g, piece in enumerate(pieces) for i in piece}
    share = [sum(seen[ranked[i]] for i in piece) / seen.total() for piece in pieces]
    return group, share


def naive_rank(row: list[int], target: int) -> int:
    return next((place for place, item in enumerate(row, 1) if item == target), 0)


def naive_string_rank(row: list[int], target: int, title: list[str]) -> int:
    place, items, strings = 0, set[int](), set[str]()
    for item in row:
        known = 0 <= item < len(title)
        if not known or item in items or title[item] not in strings:
            place += 1
        if known:
            if title[item] == title[target]:
                return place
            items.add(item)
            strings.add(title[item])
    return 0


def valid(lists: Lists, k: int) -> list[int]:
    """The first k places of all users, invalid and absent ones left out."""
    return [int(i) for row in lists.ranked for i in row[:k] if i >= 0]


@given(rankings(), st.integers(1, 7))
def test_accuracy(case: tuple[Dataset, Lists], k: int) -> None:
    dataset, lists = case
    title = dataset.items["title"].tolist()
    result = evaluate(lists, [f"{m}@{k}{v}" for m in ("hr", "ndcg", "mrr") for v in ("", "-string")])
    rows = [(row.tolist(), int(t)) for row, t in zip(lists.ranked, lists.target, strict=True)]
    plain = [naive_rank(row, t) for row, t in rows]
    string = [naive_string_rank(row, t, title) for row, t in rows]
    assert result.rank.tolist() == plain
    for suffix, ranks, hr in (("", plain, "recall"), ("-string", string, "hr")):
        hit = [1 <= r <= k for r in ranks]
        pairs = list(zip(hit, ranks, strict=True))
        assert result.per_user[f"{hr}@{k}{suffix}"].tolist() == hit
        assert result.per_user[f"ndcg@{k}{suffix}"].tolist() == [1 / log2(r + 1) if h else 0 for h, r in pairs]
        assert result.per_user[f"mrr@{k}{suffix}"].tolist() == [1 / r if h else 0 for h, r in pairs]


@given(rankings(), st.integers(1, 7))
def test_fairness_and_the_published_counting(case: tuple[Dataset, Lists], k: int) -> None:
    dataset, lists = case
    title = dataset.items["title"].tolist()
    group, share = naive_groups(dataset)
    assert lists.reference.group_share == pytest.approx(share)
    plain, published = [0] * 8, [0] * 8
    for item in valid(lists, k):
        plain[group.get(title[item], 7)] += 1
        if title[item] in group:
            published[group[title[item]]] += 1
        else:
            published[7] = 1
    values = evaluate(lists, [f"{m}@{k}{v}" for m in ("dgu", "mgu") for v in ("", "-compat")]).values
    if not sum(plain):
        assert np.isnan(list(values.values())).all()
        return
    for suffix, counts in (("", plain), ("-compat", published)):
        gu = [c / sum(counts) - h for c, h in zip(counts, share, strict=True)]
        assert values[f"dgu@{k}{suffix}"] == pytest.approx(max(gu) - min(gu))
        assert values[f"mgu@{k}{suffix}"] == pytest.approx(sum(map(abs, gu)) / 8)


@given(rankings(), st.integers(1, 7))
def test_diversity_and_divergence(case: tuple[Dataset, Lists], k: int) -> None:
    dataset, lists = case
    title = dataset.items["title"].tolist()
    items = valid(lists, k)
    names = ["entropy", "ttr", "coverage", "gini", "item-entropy", "kl-popularity", "js-popularity"]
    values = evaluate(lists, [f"{name}@{k}" for name in names]).values
    assert values[f"coverage@{k}"] == pytest.approx(len(set(items)) / len(title))
    if not items:
        return
    words = Counter(word for i in items for word in title[i].split())
    assert values[f"entropy@{k}"] == pytest.approx(scipy_entropy(list(words.values()), base=2))
    assert values[f"ttr@{k}"] == pytest.approx(len(words) / words.total())
    seen = Counter(int(i) for i in dataset.train.values)
    exposure = np.array([items.count(i) for i in range(len(title))])
    training = np.array([seen[i] for i in range(len(title))])
    # Gini as half the relative mean absolute difference
    difference = np.abs(exposure[:, None] - exposure[None]).mean()
    assert values[f"gini@{k}"] == pytest.approx(difference / (2 * exposure.mean()))
    assert values[f"item-entropy@{k}"] == pytest.approx(scipy_entropy(exposure, base=2))
    smoothed = np.where(training == 0, PSEUDO_COUNT, training)
    assert values[f"kl-popularity@{k}"] == pytest.approx(scipy_entropy(exposure, smoothed), abs=1e-12)
    assert values[f"js-popularity@{k}"] == pytest.approx(jensenshannon(exposure, training) ** 2, abs=1e-12)


@given(rankings(), st.integers(1, 7))
def test_audit(case: tuple[Dataset, Lists], k: int) -> None:
    _, lists = case
    invalid, double, short = [], [], []
    for row in lists.ranked.tolist():
        kept = [i for i in row[:k] if i >= 0]
        invalid.append(row[:k].count(-2))
        double.append(len(kept) - len(set(kept)))
        short.append(max(min(k, lists.reference.n_items) - len(kept) - invalid[-1], 0))
    found = audit(lists, k)
    for name, counts in (("invalid", invalid), ("duplicate", double), ("short", short)):
        assert found[f"{name}_entries"] == sum(counts)
        assert found[f"{name}_users"] == sum(c > 0 for c in counts)


@settings(max_examples=50)
@given(rankings(), st.data())
def test_a_broken_entry_never_raises_accuracy(case: tuple[Dataset, Lists], data: st.DataObject) -> None:
    """Overwrite one entry by an invalid one, or by an item that stands before it."""
    _, lists = case
    depth = lists.ranked.shape[1]
    row, column = data.draw(st.integers(0, len(lists) - 1)), data.draw(st.integers(0, depth - 1))
    ranked = lists.ranked.copy()
    ranked[row, column] = data.draw(st.sampled_from([-2, *ranked[row, :column].tolist()]))
    broken = Lists(ranked, lists.target, lists.reference)
    names = [f"{m}@{k}{v}" for m in ("hr", "ndcg", "mrr") for v in ("", "-string") for k in range(1, depth + 1)]
    before, after = evaluate(lists, names).values, evaluate(broken, names).values
    assert all(after[name] <= before[name] + 1e-12 for name in before)


def test_divergence_vector() -> None:
    """The released code on these vectors; the key outside the catalogue is dropped, then kept."""
    epsilon = float(np.finfo(float).eps)
    t, r = np.array([4, 3, 2, 1]), np.array([7, 2, 0, 0])
    assert (kl(t, r, epsilon), kl(r, t), js(t, r)) == pytest.approx((10.744158, 0.450514, 0.137714), abs=1e-6)
    t, r = np.array([4, 3, 2, 1, 0]), np.array([7, 2, 0, 0, 1])
    found = (kl(t, r, epsilon), kl(r, t, epsilon), js(t, r))
    assert found == pytest.approx((10.849519, 3.915003, 0.164379), abs=1e-6)


def test_divergence_is_zero_for_equal_shares_and_ln_2_for_disjoint_ones() -> None:
    assert kl(np.array([1, 2, 3]), np.array([10, 20, 30])) == pytest.approx(0, abs=1e-15)
    assert js(np.array([1, 2, 3]), np.array([10, 20, 30])) == pytest.approx(0, abs=1e-15)
    assert js(np.array([5, 0]), np.array([0, 1])) == pytest.approx(log(2))
