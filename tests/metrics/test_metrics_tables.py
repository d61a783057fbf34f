"""Three users, four items, every metric by hand."""

from collections.abc import Callable
from math import log, log2

import numpy as np
import pytest

from rlrecbench.data.frame import Dataset
from rlrecbench.metrics import Lists, Reference, audit, evaluate

A, B, C, D = range(4)
MakeDataset = Callable[..., Dataset]


@pytest.fixture
def reference(make_dataset: MakeDataset) -> Reference:
    """Titles "red fox", "red hen", "ox", "red fox"; histories A A B, A C, B C A: A 4, B 2, C 2, D 0."""
    titles = ["red fox", "red hen", "ox", "red fox"]
    return Reference.of(make_dataset(titles, [[A, A, B], [A, C], [B, C, A]], [0]))


def values(lists: Lists, *names: str) -> list[float]:
    return list(evaluate(lists, names).values.values())


def test_reference_counts_titles_of_histories(reference: Reference) -> None:
    assert reference.titles == ["red fox", "red hen", "ox"]
    assert reference.title_of.tolist() == [0, 1, 2, 0]
    assert reference.item_frequency.tolist() == [4, 2, 2, 0]
    assert reference.title_frequency.tolist() == [4, 2, 2]
    assert reference.group_of.tolist() == [0, 1, 2]  # hen before ox: equal frequency, first to appear
    assert reference.group_share.tolist() == [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]


def test_accuracy_per_user(reference: Reference) -> None:
    lists = Lists(np.array([[A, B, C], [B, C, D], [D, A, B]]), np.array([A, D, C]), reference)
    result = evaluate(lists, ["recall@1", "recall@3", "ndcg@2", "ndcg@3", "mrr@3"])
    assert result.rank.tolist() == [1, 3, 0]
    # user 0: rank 1; user 1: rank 3; user 2: not in the list
    assert result.per_user["recall@1"].tolist() == [1, 0, 0]
    assert result.per_user["recall@3"].tolist() == [1, 1, 0]
    assert result.per_user["ndcg@2"].tolist() == [1 / log2(2), 0, 0]
    assert result.per_user["ndcg@3"].tolist() == [1 / log2(2), 1 / log2(4), 0]
    assert result.per_user["mrr@3"].tolist() == [1, 1 / 3, 0]
    assert result.values == {
        "recall@1": pytest.approx(1 / 3),
        "recall@3": pytest.approx(2 / 3),
        "ndcg@2": pytest.approx(1 / 3),
        "ndcg@3": pytest.approx((1 + 0.5 + 0) / 3),
        "mrr@3": pytest.approx((1 + 1 / 3) / 3),
    }


def test_duplicates_and_invalid_entries_cost_places(reference: Reference) -> None:
    # user 0: the target's second occurrence changes nothing; user 1: a duplicate in front; user 2: an
    # invalid number in front, then the target
    lists = Lists(np.array([[B, A, A, C], [B, B, A, -1], [99, A, -1, -1]]), np.array([A, A, A]), reference)
    result = evaluate(lists, ["mrr@4"])
    assert result.rank.tolist() == [2, 3, 2]
    assert result.per_user["mrr@4"].tolist() == [1 / 2, 1 / 3, 1 / 2]
    assert lists.ranked.tolist() == [[B, A, A, C], [B, B, A, -1], [-2, A, -1, -1]]
    assert audit(lists) == {
        "users": 3,
        "invalid_users": 1,
        "invalid_entries": 1,
        "duplicate_users": 2,
        "duplicate_entries": 2,
        "short_users": 2,
        "short_entries": 1 + 2,
        "empty_users": 0,
    }


def test_audit_at_a_cut_off(reference: Reference) -> None:
    lists = Lists(np.array([[A, B, B], [A, -1, -1], [-1, -1, -1]]), np.array([A, A, A]), reference)
    shallow, deep = audit(lists, 2), audit(lists, 10)
    assert (shallow["duplicate_entries"], shallow["short_users"], shallow["short_entries"]) == (0, 2, 1 + 2)
    # only 4 items exist, so a list of 10 is complete with 4
    assert (deep["duplicate_entries"], deep["short_users"], deep["short_entries"]) == (1, 3, 1 + 3 + 4)
    assert shallow["empty_users"] == deep["empty_users"] == 1


def test_string_credit(reference: Reference) -> None:
    # user 0: D carries the title of A, a hit at place 2; user 1: A and D are one string, so C stands at 2;
    # user 2: a repeated item keeps its place, so C stands at 3
    lists = Lists(np.array([[B, D, C], [A, D, C], [A, A, C]]), np.array([A, C, C]), reference)
    result = evaluate(lists, ["hr@2-string", "ndcg@3-string", "mrr@3-string", "hr@2"])
    assert result.per_user["hr@2-string"].tolist() == [1, 1, 0]
    assert result.per_user["ndcg@3-string"].tolist() == [1 / log2(3), 1 / log2(3), 1 / log2(4)]
    assert result.per_user["mrr@3-string"].tolist() == [1 / 2, 1 / 2, 1 / 3]
    assert result.per_user["recall@2"].tolist() == [0, 0, 0]


def test_string_credit_by_leaves(reference: Reference) -> None:
    one_leaf = Lists(np.array([[B, C, D, -1]]), np.array([A]), reference, leaf=np.zeros(4, np.int64))
    assert values(one_leaf, "hr@1-string", "recall@4") == [1, 0]
    two_leaves = Lists(np.array([[A], [C]]), np.array([B, B]), reference, leaf=np.array([1, 1, 0, 0]))
    assert evaluate(two_leaves, ["hr@1-string"]).per_user["hr@1-string"].tolist() == [1, 0]


def test_fairness(reference: Reference) -> None:
    # top 2: A B | B C | D -: groups 0 1 | 1 2 | 0, so GP = 2/5 2/5 1/5, GH = 1/2 1/4 1/4
    lists = Lists(np.array([[A, B, D], [B, C, D], [D, -1, -1]]), np.array([A, A, A]), reference)
    # GU = -.1, +.15, -.05, five times 0
    assert values(lists, "dgu@2", "mgu@2") == pytest.approx([0.15 + 0.1, (0.1 + 0.15 + 0.05) / 8])


def test_published_reset(make_dataset: MakeDataset) -> None:
    titles = [*"abcdefgh", "new"]
    reference = Reference.of(make_dataset(titles, [list(range(8))], [0]))
    assert reference.group_of.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7]
    # h h new h a: counter of group 7 goes 1, 2, set to 1, 2, so the counts are a 1, group 7 2 of 3;
    # corrected they are a 1, group 7 4 of 5
    lists = Lists(np.array([[7, 7, 8], [7, 0, -1]]), np.array([0, 0]), reference)
    compat = [1 / 3 - 1 / 8, *[-1 / 8] * 6, 2 / 3 - 1 / 8]
    plain = [1 / 5 - 1 / 8, *[-1 / 8] * 6, 4 / 5 - 1 / 8]
    assert values(lists, "dgu@3-compat", "dgu@3") == pytest.approx([max(compat) + 1 / 8, max(plain) + 1 / 8])
    assert values(lists, "mgu@3-compat", "mgu@3") == pytest.approx(
        [sum(map(abs, compat)) / 8, sum(map(abs, plain)) / 8]
    )


def test_groups_cut_with_remainder_and_ties_in_file_order(make_dataset: MakeDataset) -> None:
    # 10 seen titles of item numbers 9..0, all once, but item 3 twice; 11 items, item 10 unseen
    dataset = make_dataset([f"t{i}" for i in range(11)], [[9, 8, 7], [6, 5, 4, 3], [2, 1, 0, 3]], [0])
    # order 3 9 8 7 6 5 4 2 1 0; sizes 2 2 1 1 1 1 1 1
    expected = {3: 0, 9: 0, 8: 1, 7: 1, 6: 2, 5: 3, 4: 4, 2: 5, 1: 6, 0: 7, 10: 7}
    assert Reference.of(dataset).group_of.tolist() == [expected[i] for i in range(11)]


def test_words(reference: Reference) -> None:
    # top 2: A B | C A | D -: red fox, red hen | ox, red fox | red fox: red 4, fox 3, hen 1, ox 1
    lists = Lists(np.array([[A, B], [C, A], [D, -1]]), np.array([A, A, A]), reference)
    bits = -(4 / 9 * log2(4 / 9) + 3 / 9 * log2(3 / 9) + 2 * (1 / 9 * log2(1 / 9)))
    assert values(lists, "entropy@2", "ttr@2") == pytest.approx([bits, 4 / 9])


def test_words_keep_case_and_punctuation(make_dataset: MakeDataset) -> None:
    reference = Reference.of(make_dataset(["Red, fox", "red\u00a0fox"], [[0]], [0]))
    lists = Lists(np.array([[0, 1]]), np.array([0]), reference)
    assert values(lists, "ttr@2") == [3 / 4]  # Red, | fox | red | fox


def test_exposure(reference: Reference) -> None:
    # A 3, B 1, C 1, D 0 of 5
    lists = Lists(np.array([[A, B], [A, -1], [C, A]]), np.array([A, A, A]), reference)
    # sorted 0 1 1 3 with weights -3 -1 1 3 over 4 * 5
    gini = (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 3) / (4 * 5)
    bits = -(3 / 5 * log2(3 / 5) + 2 * (1 / 5 * log2(1 / 5)))
    assert values(lists, "coverage@2", "gini@2", "item-entropy@2") == pytest.approx([3 / 4, gini, bits])


def test_gini_extremes(make_dataset: MakeDataset) -> None:
    reference = Reference.of(make_dataset(list("abcd"), [[0]], [0]))
    equal, one = (Lists(np.array([row]), np.array([0]), reference) for row in ([0, 1, 2, 3], [0, 0, 0, 0]))
    assert values(equal, "gini@4", "coverage@4", "item-entropy@4") == pytest.approx([0, 1, 2])
    assert values(one, "gini@4", "coverage@4", "item-entropy@4") == pytest.approx([3 / 4, 1 / 4, 0])


def test_popularity_divergence(reference: Reference) -> None:
    # exposure A 1/3, D 2/3; training A 4, B 2, C 2, D 0 -> half an occurrence: of 8.5
    lists = Lists(np.array([[A], [D], [D]]), np.array([A, A, A]), reference)
    kl = 1 / 3 * log((1 / 3) / (4 / 8.5)) + 2 / 3 * log((2 / 3) / (0.5 / 8.5))
    # JS without smoothing: P = 1/3 0 0 2/3, Q = 1/2 1/4 1/4 0, M = 5/12 1/8 1/8 1/3
    p = 1 / 3 * log((1 / 3) / (5 / 12)) + 2 / 3 * log((2 / 3) / (1 / 3))
    q = 1 / 2 * log((1 / 2) / (5 / 12)) + 2 * (1 / 4 * log((1 / 4) / (1 / 8)))
    assert values(lists, "kl-popularity@1", "js-popularity@1") == pytest.approx([kl, (p + q) / 2])


def test_group_divergence(reference: Reference) -> None:
    # every recommendation is of group 0: P = 1; training 4 2 2, five empty groups at half each: of 10.5
    lists = Lists(np.array([[A], [D], [D]]), np.array([A, A, A]), reference)
    p, q = log(1 / 0.75), 1 / 2 * log((1 / 2) / 0.75) + 2 * (1 / 4 * log(2))
    assert values(lists, "kl-group@1", "js-group@1") == pytest.approx([log(10.5 / 4), (p + q) / 2])


def test_nothing_recommended_has_no_list_values(reference: Reference) -> None:
    lists = Lists(np.full((3, 2), -1), np.array([A, B, C]), reference)
    assert values(lists, "recall@2", "ndcg@2", "coverage@2") == [0, 0, 0]
    undefined = values(lists, "dgu@2", "mgu@2", "entropy@2", "ttr@2", "gini@2", "item-entropy@2", "kl-group@2")
    assert np.isnan(undefined).all()
    assert np.isnan(values(lists, "js-popularity@2", "dgu@2-compat")).all()


def test_shapes_must_fit(reference: Reference) -> None:
    with pytest.raises(ValueError, match="target"):
        Lists(np.zeros((2, 3), np.int64), np.zeros(3, np.int64), reference)
    with pytest.raises(ValueError, match="N = 4"):
        Lists(np.zeros((1, 3), np.int64), np.zeros(1, np.int64), reference, leaf=np.zeros(3, np.int64))


def test_lists_without_a_place_or_without_a_user(reference: Reference) -> None:
    lists = Lists(np.zeros((2, 0), np.int64), np.array([A, B]), reference)
    assert lists.rank.tolist() == [0, 0]
    assert values(lists, "recall@1", "coverage@1") == [0, 0]
    nobody = evaluate(Lists(np.zeros((0, 3), np.int64), np.zeros(0, np.int64), reference), ["recall@1", "ttr@1"])
    assert np.isnan(list(nobody.values.values())).all()


def test_shares_of_a_single_occurrence_and_of_none(make_dataset: MakeDataset) -> None:
    one, none = (Reference.of(make_dataset(["a", "b"], [history], [0])) for history in (np.ones(1), np.zeros(0)))
    assert one.group_share.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert none.group_share.tolist() == [0] * 8


def test_numbers_outside_the_catalogue_are_no_items(reference: Reference) -> None:
    """Four items: 3 is the last; -1 is absent, and everything else is invalid."""
    lists = Lists(np.array([[3, 4, -1, -2, -7, 0]]), np.array([A]), reference)
    assert lists.ranked.tolist() == [[3, -2, -1, -2, -2, 0]]
