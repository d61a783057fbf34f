"""Flower's windows by hand; every oddity of methods-titles, sections 1.3 to 1.7, has a test that names it."""

import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rlrecbench.data.raw_reviews import Review, Reviews, collect
from rlrecbench.data.raw_windows import Window, WindowSettings, bounds, clean_titles, split, window
from rlrecbench.errors import ConfigError, DataError

SMALL = WindowSettings(min_items=2, k=2)


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def reviews(*rows: str) -> Reviews:
    """Each row is ``user item date``."""
    parts = [row.split() for row in rows]
    return collect(Path("raw"), [Review(n, u, i, day(t)) for n, (u, i, t) in enumerate(parts, 1)])


def grid(users: str, items: str, date: str) -> list[str]:
    return [f"{u} {i} {date}" for u in users for i in items]


def told(made: Window) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {user: [] for user in made.users}
    for user, item in zip(made.user, made.item, strict=True):
        out[made.users[user]].append(made.items[item])
    return out


def titled(*items: str) -> list[tuple[str, str | None]]:
    return [(item, f"Title {item}") for item in items]


def once(*titles: str | None, words: int = 20) -> dict[int, str]:
    return clean_titles(list(enumerate(titles)), words)[1]


def test_1_3_the_window_has_both_ends_and_is_in_utc() -> None:
    start, end = bounds(2017, "UTC")
    assert (start, end) == (1506816000, 1541030400)  # 1 October 2017, 1 November 2018: `date -u -d`
    rows = grid("uv", "ab", "2017-10-01") + grid("uv", "ab", "2018-11-01")
    inside = reviews(*rows)
    assert len(window(inside, titled("a", "b"), SMALL).user) == 8
    late = Reviews(inside.users, inside.items, inside.user, inside.item, inside.time + np.where(np.arange(8) < 4, 0, 1))
    assert len(window(late, titled("a", "b"), SMALL).user) == 4
    early = Reviews(
        inside.users, inside.items, inside.user, inside.item, inside.time - np.where(np.arange(8) < 4, 1, 0)
    )
    assert len(window(early, titled("a", "b"), SMALL).user) == 4


def test_1_3_the_time_zone_is_a_setting() -> None:
    assert bounds(2017, "Asia/Shanghai") == (1506816000 - 8 * 3600, 1541030400 - 8 * 3600)
    for wrong in ("Mars/Base", "../etc/passwd", ""):
        with pytest.raises(ConfigError, match="is not a known time zone"):
            bounds(2017, wrong)
        with pytest.raises(ConfigError, match="is not a known time zone"):
            WindowSettings(time_zone=wrong)


def test_1_3_the_window_opens_until_the_catalogue_is_large_enough() -> None:
    rows = [*grid("uv", "ab", "2018-01-01"), *grid("uv", "cd", "2016-12-01"), *grid("uv", "ef", "2014-12-01")]
    found, meta = reviews(*rows), titled(*"abcdef")

    def outcome(min_items: int) -> tuple[int, int]:
        made = window(found, meta, WindowSettings(min_items=min_items, k=2))
        return made.year, len(made.items)

    assert [outcome(n) for n in (2, 3, 4, 5, 6)] == [(2017, 2), (2016, 4), (2016, 4), (2014, 6), (2014, 6)]
    assert outcome(7) == (1996, 6)  # nothing reaches it: the earliest year is taken as it is


def test_1_3_items_that_fall_out_of_the_core_do_not_count() -> None:
    # In 2017 there are three items, but only two of them in the 2-core.
    rows = [*grid("uv", "ab", "2018-01-01"), "u z 2018-01-01", *grid("uv", "cd", "2016-12-01")]
    made = window(reviews(*rows), titled(*"abcdz"), WindowSettings(min_items=3, k=2))
    assert (made.year, sorted(made.items)) == (2016, list("abcd"))


def test_1_4_titles_are_cleaned_and_dropped() -> None:
    twenty, more = " ".join("x" * 20), " ".join("x" * 21)
    assert once(
        ' "Say &quot;Hi&quot;" ',
        "R&amp;B",
        None,
        'x <span id="a">',
        "Q",
        '"Q"',
        twenty,
        more,
        "a  b" + " x" * 18,
        '<span class="a-size-medium">',
    ) == {
        0: 'Say "Hi',  # the strip takes every double quote at the ends, the inner one included
        1: "R&B",
        6: twenty,
        9: '<span class="a-size-medium">',  # survives: only "<span id" is looked for
    }
    assert once("a  b" + " x" * 17) == {0: "a  b" + " x" * 17}  # two blanks make an empty piece: 20 pieces


def test_1_4_quotes_are_stripped_after_blanks_so_blanks_inside_stay_for_the_next_try() -> None:
    known, titles = clean_titles([(0, ' " Red " ')], 20)
    assert titles == {0: " Red "}
    assert clean_titles(known, 20)[1] == {0: "Red"}


def test_1_4_each_year_cleans_what_the_year_before_has_cleaned() -> None:
    """CDs and Games are cleaned three times, Movies once, so an entity that was escaped three times is resolved."""
    rows = [*grid("uv", "ab", "2018-01-01"), *grid("uv", "cd", "2015-12-01")]
    meta: list[tuple[str, str | None]] = [("a", "R&amp;amp;amp;B"), ("b", "xx"), ("c", "xx"), ("d", "xx")]
    first = window(reviews(*rows), meta, WindowSettings(min_items=2, k=2))
    third = window(reviews(*rows), meta, WindowSettings(min_items=4, k=2))
    assert (first.year, first.titles[first.items.index("a")]) == (2017, "R&amp;amp;B")
    assert (third.year, third.titles[third.items.index("a")]) == (2015, "R&B")
    assert meta[0][1] == "R&amp;amp;amp;B"


def test_1_4_one_bad_record_drops_an_item_and_the_last_good_one_names_it() -> None:
    records: list[tuple[int, str | None]] = [(0, "Old"), (0, "New"), (1, "Good"), (1, None), (2, None), (2, "Good")]
    assert clean_titles(records, 20)[1] == {0: "New"}


def test_1_4_items_without_metadata_are_dropped() -> None:
    made = window(reviews(*grid("uv", "abc", "2018-01-01")), titled("a", "b"), SMALL)
    assert sorted(made.items) == ["a", "b"]


def test_1_5_repeats_count_and_stay() -> None:
    rows = ["u a 2018-01-01", "u a 2018-01-01", "v b 2018-01-02", "v b 2018-01-01"]
    assert told(window(reviews(*rows), titled("a", "b"), SMALL)) == {"u": ["a", "a"], "v": ["b", "b"]}


def test_1_6_items_are_numbered_by_a_shuffle_of_their_first_appearance() -> None:
    names = [f"i{n}" for n in range(12)]
    rows = [f"{u} {i} 2018-01-01" for u in "uv" for i in names]
    random.seed(42)
    shuffled = list(names)
    random.shuffle(shuffled)
    made = window(reviews("w gone 2018-01-01", *rows), titled(*names, "gone"), SMALL)
    assert made.items == shuffled
    assert made.titles == [f"Title {i}" for i in shuffled]


def test_1_7_users_come_by_their_first_review_that_stays() -> None:
    rows = ["u gone 2018-01-01", *grid("v", "ab", "2018-01-01"), *grid("u", "ab", "2018-01-01")]
    assert window(reviews(*rows), titled("a", "b", "gone"), SMALL).users == ["v", "u"]


def test_1_7_times_order_and_equal_times_keep_the_order_of_the_file() -> None:
    rows = ["u b 2018-01-02", "u a 2018-01-02", "v a 2018-01-01", "v b 2018-01-01", "u b 2018-01-01"]
    assert told(window(reviews(*rows), titled("a", "b"), SMALL)) == {"u": ["b", "b", "a"], "v": ["a", "b"]}


def test_1_7_targets_are_sorted_over_all_users_and_cut_at_8_and_9_tenths() -> None:
    # u has times 0, 5, 5, 9; v has 0, 5, 6. Targets: u's 2nd, 3rd, 4th, v's 2nd, 3rd.
    user, time = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 5, 5, 9, 0, 5, 6])
    position = np.array([0, 1, 2, 3, 0, 1, 2])
    # By time, equal times in the order of users: 1 (u, 5), 2 (u, 5), 5 (v, 5), 6 (v, 6), 3 (u, 9).
    train, valid, test = split(user, time, position)
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([1, 2, 5, 6], [], [3])


@pytest.mark.parametrize(
    ("n", "parts"), [(61564, (49251, 6156, 6157)), (61417, (49133, 6142, 6142)), (27422, (21937, 2742, 2743))]
)
def test_1_8_the_published_sizes_of_the_parts(n: int, parts: tuple[int, int, int]) -> None:
    found = split(np.zeros(n + 1, np.int64), np.arange(n + 1), np.arange(n + 1))
    assert tuple(map(len, found)) == parts


def test_1_9_equal_titles_stay_separate_items() -> None:
    made = window(reviews(*grid("uv", "ab", "2018-01-01")), [("a", "Greatest Hits"), ("b", "Greatest Hits")], SMALL)
    assert (sorted(made.items), made.titles) == (["a", "b"], ["Greatest Hits"] * 2)


def test_nothing_left_is_said() -> None:
    with pytest.raises(DataError, match="no user and item with 2 interactions each is left between October 1996"):
        window(reviews("u a 2018-01-01"), titled("a"), SMALL)
