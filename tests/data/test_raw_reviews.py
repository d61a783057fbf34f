"""Reviews as arrays, and the k-core against brute force and against the way that S3-Rec's code walks."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrecbench.data.raw_reviews import Review, amazon, amazon_rated, amazon_ratings, collect, k_core, yelp
from rlrecbench.errors import DataError

Pair = tuple[int, int]


def lines(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def core_by_subsets(pairs: list[Pair], k: int) -> list[int]:
    """The largest choice of users and items in which everyone has k interactions, by trying all of them."""
    users, items = sorted({u for u, _ in pairs}), sorted({i for _, i in pairs})
    best: list[int] = []
    for n in range(len(users) + 1):
        for some_users in combinations(users, n):
            for m in range(len(items) + 1):
                for some_items in combinations(items, m):
                    at = [p for p, (u, i) in enumerate(pairs) if u in some_users and i in some_items]
                    by_user, by_item = Counter(pairs[p][0] for p in at), Counter(pairs[p][1] for p in at)
                    whole = len(by_user) == n and len(by_item) == m
                    if whole and min((*by_user.values(), *by_item.values()), default=k) >= k and len(at) > len(best):
                        best = at
    return best


def core_dropping_while_walking(pairs: list[Pair], k: int) -> list[Pair]:
    """S3-Rec's loop in our words: drop from the list that is walked along, so each drop passes over a neighbour."""
    mine: dict[int, list[int]] = {}
    for u, i in pairs:
        mine.setdefault(u, []).append(i)
    while True:
        of_user = {u: len(items) for u, items in mine.items() if items}
        of_item = Counter(i for items in mine.values() for i in items)
        if all(n >= k for n in (*of_user.values(), *of_item.values())):
            return sorted((u, i) for u, items in mine.items() for i in items)
        for u, n in of_user.items():
            if n < k:
                del mine[u]
                continue
            place = 0
            while place < len(mine[u]):
                if of_item[mine[u][place]] < k:
                    mine[u].remove(mine[u][place])
                place += 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=14), st.integers(2, 3))
def test_the_core_is_the_largest_one_by_brute_force(pairs: list[Pair], k: int) -> None:
    user, item = (np.array([p[n] for p in pairs], np.int64) for n in (0, 1))
    assert k_core(user, item, k).tolist() == core_by_subsets(pairs, k)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60), st.integers(2, 5))
def test_dropping_from_the_list_that_is_walked_gives_the_same_core(pairs: list[Pair], k: int) -> None:
    """Semantic ids 1.1 warns of S3-Rec's loop; as it runs until nothing is left to drop, its end is the same."""
    user, item = (np.array([p[n] for p in pairs], np.int64) for n in (0, 1))
    assert sorted(pairs[p] for p in k_core(user, item, k)) == core_dropping_while_walking(pairs, k)


def test_the_core_counts_interactions_not_distinct_pairs() -> None:
    """Titles 1.5: one user with one item, five times, is a 5-core."""
    assert k_core(np.zeros(5, np.int32), np.zeros(5, np.int32), 5).tolist() == [0, 1, 2, 3, 4]
    assert k_core(np.zeros(4, np.int32), np.zeros(4, np.int32), 5).tolist() == []


def test_the_core_needs_several_rounds() -> None:
    # k = 2. Item 2 goes (1 interaction), then user 1 has one left and goes, then item 1 has one left, then user 0.
    user, item = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 1, 2, 3, 4, 3, 4])
    assert k_core(user, item, 2).tolist() == [4, 5, 6, 7]


def test_amazon_reviews_keep_file_order_and_repeats(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"reviewerID": "A2", "asin": "B9", "unixReviewTime": 20, "overall": 1.0, "reviewText": "x"},
        {"reviewerID": "A1", "asin": "B1", "unixReviewTime": "10", "overall": 5.0},
        {"reviewerID": "A2", "asin": "B9", "unixReviewTime": 20, "overall": 1.0},
    ]
    found = collect(tmp_path, amazon(lines(tmp_path / "raw.json", rows)))
    assert (found.users, found.items) == (["A2", "A1"], ["B9", "B1"])
    assert (found.user.tolist(), found.item.tolist(), found.time.tolist()) == ([0, 1, 0], [0, 1, 0], [20, 10, 20])


def test_s3_rec_keeps_ratings_above_zero_and_flower_all_of_them(tmp_path: Path) -> None:
    """Semantic ids 1.1, titles 1.5; a user whose only rating is 0 has not appeared yet."""
    rows: list[dict[str, object]] = [
        {"reviewerID": f"A{n}", "asin": "B", "unixReviewTime": n, "overall": stars}
        for n, stars in enumerate((0, 0.5, -1.0, 5.0))
    ]
    file = lines(tmp_path / "raw.json", rows)
    assert collect(file, amazon_rated(file)).users == ["A1", "A3"]
    assert len(list(amazon(file))) == 4
    for wrong in ({}, {"overall": None}, {"overall": "good"}):
        broken = lines(tmp_path / "raw.json", [rows[1], {"reviewerID": "A", "asin": "B", "unixReviewTime": 1} | wrong])
        with pytest.raises(DataError, match=r"raw\.json, line 2: must have overall"):
            list(amazon_rated(broken))


def test_ratings_have_the_item_first(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("B1,A1,5.0,7\nB2,A1,1.0,5\n")
    assert list(amazon_ratings(tmp_path / "r.csv")) == [Review(1, "A1", "B1", 7), Review(2, "A1", "B2", 5)]


def test_yelps_last_day_ends_at_its_first_second(tmp_path: Path) -> None:
    """Semantic ids 1.1: dates are compared as text with 2019-12-31 00:00:00, both ends included."""
    dates = [
        "2018-12-31 23:59:59",
        "2019-01-01 00:00:00",
        "2019-07-04 12:34:56",
        "2019-12-31 00:00:00",
        "2019-12-31 00:00:01",
    ]
    rows = [{"user_id": "u", "business_id": f"b{n}", "date": d, "stars": 1.0} for n, d in enumerate(dates)]
    found = list(yelp(lines(tmp_path / "raw.json", list(rows))))
    assert [review.item for review in found] == ["b1", "b2", "b3"]
    assert found[1].time == 20190704123456


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"asin": "B1", "unixReviewTime": 1}, "must have reviewerID, asin and unixReviewTime"),
        ({"reviewerID": "A", "asin": "B1", "unixReviewTime": "soon"}, "must have reviewerID, asin and unixReviewTime"),
        ({"reviewerID": "A", "asin": "B1", "unixReviewTime": 10**20}, f"{10**20} is no time: more than 63 bits"),
        ({"reviewerID": 7, "asin": "B1", "unixReviewTime": 1}, "must have reviewerID and asin as text"),
        ({"reviewerID": "A 1", "asin": "B1", "unixReviewTime": 1}, "'A 1' is no id: empty, or with blanks in it"),
        ({"reviewerID": "A", "asin": "", "unixReviewTime": 1}, "'' is no id"),
        ({"reviewerID": "A\ud800", "asin": "B", "unixReviewTime": 1}, ".* is no id"),
    ],
)
def test_a_review_without_what_is_needed_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    good = {"reviewerID": "A", "asin": "B", "unixReviewTime": 1}
    file = lines(tmp_path / "raw.json", [good, row])
    with pytest.raises(DataError, match=rf"raw\.json, line 2: {message}"):
        collect(file, amazon(file))


def test_a_yelp_date_of_another_form_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    file = lines(tmp_path / "raw.json", [{"user_id": "u", "business_id": "b", "date": "2019-05-31"}])
    with pytest.raises(DataError, match=r"line 1: must have user_id, business_id and date \(2019-05-31 18:45:00\)"):
        list(yelp(file))
    with pytest.raises(DataError, match="there is no interaction to use in it"):
        collect(file, [])
