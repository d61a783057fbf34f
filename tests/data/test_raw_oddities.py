"""Whole raw collections with every oddity of the references in them, against the described loops written plainly.

Sections 1.2 to 1.9 are those of methods-titles; 1.1 is that of methods-semantic-ids. The loops follow the words of the
sections, one review after the other; nothing of the package is used in them.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlrecbench.data.datasets import spec_of
from rlrecbench.data.frame import PARTS
from rlrecbench.data.from_raw import Job, make, window_settings
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.data.raw_windows import WindowSettings
from rlrecbench.data.readers import read_atomic

Row = dict[str, Any]
DAY = 86400


class Event(NamedTuple):
    """Who did what when."""

    user: str
    item: str
    time: int


class Line(NamedTuple):
    """One example: a user's items before the target, the target, and when that was."""

    user: str
    before: tuple[str, ...]
    target: str
    time: int


class Split(NamedTuple):
    """What the sections say comes out."""

    year: int
    rounds: int  # of the 5-core
    items: list[tuple[str, str]]  # id and title by number
    events: list[Event]  # user by user, oldest first
    parts: list[list[Line]]


def utc(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def core(events: list[Event], k: int) -> tuple[list[Event], int]:
    """1.5: count what is left, mark all who have too little, and begin again until nobody is marked."""
    rounds = 0
    while True:
        rounds += 1
        of_user, of_item = Counter(e.user for e in events), Counter(e.item for e in events)
        left = [e for e in events if of_user[e.user] >= k and of_item[e.item] >= k]
        if len(left) == len(events):
            return left, rounds
        events = left


def by_user(events: list[Event]) -> dict[str, list[Event]]:
    """Users by their first appearance; each one's events by time, equal times as they come in the file."""
    mine: dict[str, list[Event]] = {}
    for event in events:
        mine.setdefault(event.user, []).append(event)
    return {user: sorted(his, key=lambda e: e.time) for user, his in mine.items()}


def split_by_time(reviews: list[Row], metadata: list[Row], least: int, year: int) -> Split:
    """1.3 to 1.7; the titles in ``metadata`` are cleaned where they stand, once for each year that is tried."""
    titles: dict[str, str] = {}
    refused = set()
    for record in metadata:
        if record.get("title") is None or "<span id" in record["title"]:
            refused.add(record["asin"])
            continue
        title = record["title"].replace("&quot;", '"').replace("&amp;", "&").strip(" ").strip('"')
        record["title"] = title
        if len(title) > 1 and len(title.split(" ")) <= 20:
            titles[record["asin"]] = title
        else:
            refused.add(record["asin"])
    inside = []
    for r in reviews:
        known = r["asin"] in titles and r["asin"] not in refused
        if known and utc(year, 10, 1) <= r["unixReviewTime"] <= utc(2018, 11, 1):
            inside.append(Event(r["reviewerID"], r["asin"], r["unixReviewTime"]))
    left, rounds = core(inside, 5)
    order = list(dict.fromkeys(e.item for e in left))
    if len(order) < least:
        return split_by_time(reviews, metadata, least, year - 1)
    random.Random(42).shuffle(order)
    mine = by_user(left)
    lines = []
    for user, his in mine.items():
        for i in range(1, len(his)):
            before = tuple(e.item for e in his[max(i - 10, 0) : i])
            lines.append(Line(user, before, his[i].item, his[i].time))
    lines.sort(key=lambda line: line.time)
    a, b = int(0.8 * len(lines)), int(0.9 * len(lines))
    events = [event for his in mine.values() for event in his]
    return Split(year, rounds, [(i, titles[i]) for i in order], events, [lines[:a], lines[a:b], lines[b:]])


def review(user: str, item: str, time: int) -> Row:
    return {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": 0.0}  # no threshold: 1.5


def chain() -> list[tuple[str, str]]:
    """Who goes one after the other: W1 (4 reviews), then with it X (4 left), then the other users of X (4 left)."""
    users = {"W1": 3} | {f"W{n}": 4 for n in range(2, 6)}
    return [(user, item) for user, n in users.items() for item in ("X", *(f"B{i}" for i in (0, 1, 5, 6)[:n]))]


def raw_games() -> tuple[list[Row], list[Row]]:
    """Reviews in shuffled order; B0 to B9 are of 2018, B8 to B19 of 2017, before October."""
    draw = random.Random(7)
    rows: list[Row] = []
    for user in (f"A{n}" for n in range(14)):
        for first, items, n in ((utc(2018, 1, 1), range(10), 16), (utc(2017, 2, 1), range(8, 20), 20)):
            days = [draw.randrange(30) for _ in range(n)]
            rows += [review(user, f"B{draw.choice(items)}", first + day * DAY) for day in days]
    rows += draw.sample(rows, 20)  # repeated as they are
    rows += [review(user, item, utc(2018, 3, 1)) for user, item in chain()]
    # The first and the last second of the window, and those that no longer belong to it.
    rows += [review("A0", "B19", utc(2016, 10, 1)), review("A1", "B0", utc(2018, 11, 1))]
    rows += [review(f"A{n}", "B18", utc(2016, 10, 1) - 1) for n in range(14)]
    rows += [review(f"A{n}", "B1", utc(2018, 11, 1) + 1) for n in range(14)]
    draw.shuffle(rows)
    meta: list[Row] = [{"asin": f"B{n}", "title": f"Game {n}"} for n in range(16, 20)]
    meta += [
        {"asin": "X", "title": "Reviewed five times"},
        {"asin": "B0", "title": "Pong &amp;amp; Pang"},  # is "Pong & Pang" in the second year that is tried
        {"asin": "B1", "title": ' "Say &quot;Hi&quot;" '},
        {"asin": "B2"},
        {"asin": "B3", "title": None},
        {"asin": "B4", "title": '<span id="productTitle">Pong'},
        {"asin": "B5", "title": '<span class="a-size-medium">'},
        {"asin": "B6", "title": "Old"},
        {"asin": "B6", "title": "New"},
        {"asin": "B7", "title": "Good"},
        {"asin": "B7", "title": " ".join("x" * 21)},
        {"asin": "B8", "title": "Greatest Hits"},
        {"asin": "B9", "title": "Greatest Hits"},
        {"asin": "B10", "title": "Pong &amp; Pang"},
        {"asin": "B11", "title": '"Q"'},
        {"asin": "B12", "title": " ".join("x" * 20)},
        {"asin": "B13", "title": "a  b" + " x" * 18},  # two blanks make an empty piece, the 21st
        {"asin": "B15", "title": '" " Red " "'},  # blanks go before quotes, so those inside stay for the next year
        {"asin": "never reviewed", "title": "Good"},
    ]  # B14 has no record
    return rows, meta


def write(file: Path, rows: Sequence[Row]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(name: str, folder: Path, window: WindowSettings | None = None) -> Path:
    return make(Job(name, spec_of(name, []).sources, "raw", folder / "out", window), [folder])


def test_1_2_to_1_9_games_come_out_as_the_loops_say(tmp_path: Path) -> None:
    reviews, metadata = raw_games()
    write(tmp_path / "Video_Games.json", reviews)
    write(tmp_path / "Video_Games_5.json", reviews[:100])  # 1.2: never the 5-core, though the script prefers it
    write(tmp_path / "meta_Video_Games.json", metadata)
    said = split_by_time(reviews, metadata, 8, 2017)
    folder = made("video_games", tmp_path, WindowSettings(min_items=8))

    assert json.loads((folder / "provenance.json").read_text())["settings"]["year"] == said.year == 2016
    items = read_atomic(folder / "video_games.item", ["asin", "title"])
    assert list(zip(items["asin"], items["title"], strict=True)) == said.items
    number = {asin: str(n) for n, (asin, _) in enumerate(said.items)}
    inter = read_atomic(folder / "video_games.inter", ["user_id", "item_id", "timestamp"])
    assert list(inter.itertuples(index=False, name=None)) == [(u, number[i], t) for u, i, t in said.events]
    data = prepare("video_games", DataOptions(), [tmp_path / "out"])
    for part, lines in zip(PARTS, said.parts, strict=True):
        rows = data.part(part)
        found = [
            (data.users[u], tuple(items["asin"][rows.history(r)]), items["asin"][t])
            for r, (u, t) in enumerate(zip(rows.user, rows.target, strict=True))
        ]
        assert found == [line[:3] for line in lines]
        file = read_atomic(folder / f"video_games.{part}.inter", ["item_id_list", "timestamp"])
        assert file["timestamp"].tolist() == [line.time for line in lines]
        assert file["item_id_list"].tolist() == [" ".join(number[i] for i in line.before) for line in lines]

    # What the comparison would not see if it were not in the data.
    assert said.rounds > 3
    assert {"X", *(f"B{n}" for n in (2, 3, 4, 7, 11, 13, 14))}.isdisjoint(number)
    titles = Counter(data.items["title"])
    assert (titles["Greatest Hits"], titles["Pong & Pang"], titles["New"], titles['Say "Hi']) == (2, 2, 1, 1)
    assert max(Counter(said.events).values()) > 1
    assert any(a.user == b.user and a.time == b.time and a.item > b.item for a, b in pairwise(said.events))
    assert {utc(2016, 10, 1), utc(2018, 11, 1)} <= {e.time for e in said.events}


def test_1_3_to_1_7_the_papers_thresholds(tmp_path: Path) -> None:
    """Five reviews stay and four go, twenty words stay and twenty-one go, and a history has the ten newest items."""
    papers = {name: window_settings(name) for name in ("cds_and_vinyl", "video_games", "movies_and_tv")}
    assert all(papers.values())
    for name, least in (("cds_and_vinyl", 3000), ("video_games", 3000), ("movies_and_tv", 2000)):
        s = papers[name]
        assert s is not None
        found = (s.min_items, s.first_year, s.time_zone, s.k, s.words, s.history, s.seed)
        assert found == (least, 2017, "UTC", 5, 20, 10, 42)
    assert window_settings("beauty") is None

    names = [f"B{n}" for n in range(13)]
    rows = [review(f"A{u}", i, utc(2018, 1, 1) + n * DAY) for u in range(5) for n, i in enumerate(names)]
    rows += [review("five", i, utc(2018, 1, 1)) for i in names[:5]] + [review("four", i, 1520000000) for i in names[:4]]
    rows += [review(f"A{u}", "four", utc(2018, 2, 1)) for u in range(4)]
    write(tmp_path / "Video_Games.json", rows)
    words = {"B11": " ".join("x" * 20), "B12": " ".join("x" * 21)}
    write(tmp_path / "meta_Video_Games.json", [{"asin": i, "title": words.get(i, i)} for i in (*names, "four")])
    made("video_games", tmp_path)
    data = prepare("video_games", DataOptions(), [tmp_path / "out"])
    assert sorted(data.items["title"]) == sorted([*names[:11], words["B11"]])
    assert sorted(data.users) == ["A0", "A1", "A2", "A3", "A4", "five"]
    title = data.items["title"]
    assert [title[i] for i in data.test.history(len(data.test) - 1)] == names[1:11]


def plain_sequences(events: list[Event]) -> tuple[dict[str, list[str]], int]:
    """1.1: each user's events by time, then the 5-core; who came first in the file stays first."""
    left, rounds = core([event for his in by_user(events).values() for event in his], 5)
    found: dict[str, list[str]] = {}
    for event in left:
        found.setdefault(event.user, []).append(event.item)
    return found, rounds


def odd_events(times: Sequence[int]) -> list[Event]:
    """Ties, repeats and a chain of drops, in shuffled order."""
    draw = random.Random(11)
    events: list[Event] = []
    for user in (f"A{n}" for n in range(12)):
        events += [Event(user, f"B{draw.randrange(9)}", draw.choice(times)) for _ in range(draw.randrange(5, 14))]
    events += draw.sample(events, 10)
    events += [Event(user, item, times[0]) for user, item in chain()]
    draw.shuffle(events)
    return events


def check_sequences(folder: Path, name: str, key: str, said: dict[str, list[str]]) -> None:
    """Compare what was made with the sequences; users and items are numbered by first appearance in them."""
    items = list(dict.fromkeys(item for his in said.values() for item in his))
    assert read_atomic(folder / f"{name}.user", ["reviewer_id"])["reviewer_id"].tolist() == list(said)
    assert read_atomic(folder / f"{name}.item", [key])[key].tolist() == items
    rows = read_atomic(folder / f"{name}.inter", ["user_id", "item_id", "timestamp"])
    wanted = [(str(u), str(items.index(i)), n) for u, his in enumerate(said.values()) for n, i in enumerate(his)]
    assert list(rows.itertuples(index=False, name=None)) == wanted
    data = prepare(name, DataOptions(), [folder.parent])
    assert [items[i] for i in data.test.target] == [his[-1] for his in said.values()]
    assert any(len(set(his)) < len(his) for his in said.values())


@pytest.mark.parametrize("seed", range(3))
def test_1_1_beauty_comes_out_as_the_loops_say(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    events = odd_events([utc(2014, 1, 1) + n * DAY for n in range(6)])
    stars = [draw.choice((0.0, 1.0, 5.0, 5.0, 5.0)) for _ in events]
    rows: list[Row] = [
        {"reviewerID": e.user, "asin": e.item, "unixReviewTime": e.time, "overall": s}
        for e, s in zip(events, stars, strict=True)
    ]
    write(tmp_path / "reviews_Beauty_5.json", rows)
    write(tmp_path / "meta_Beauty.json", [{"asin": "B0", "title": "Soap"}])
    said, _ = plain_sequences([e for e, s in zip(events, stars, strict=True) if s > 0])
    check_sequences(made("beauty", tmp_path), "beauty", "asin", said)
    assert said != plain_sequences(events)[0]


def test_1_1_yelp_comes_out_as_the_loops_say(tmp_path: Path) -> None:
    """Dates are 20190104101500 and so on; those outside the year are on its edges, and every number of stars counts."""
    days = ("20190101000000", "20190104101500", "20190104101501", "20191231000000")
    outside = ("20181231235959", "20191231000001")
    events = odd_events([int(day) for day in days])
    late = [Event(f"A{n}", f"B{n % 9}", int(outside[n % 2])) for n in range(12)]
    rows: list[Row] = [
        {
            "user_id": e.user,
            "business_id": e.item,
            "stars": n % 6,
            "date": f"{datetime.strptime(str(e.time), '%Y%m%d%H%M%S').replace(tzinfo=UTC):%Y-%m-%d %H:%M:%S}",
        }
        for n, e in enumerate([*late, *events])
    ]
    write(tmp_path / "yelp_academic_dataset_review.json", rows)
    write(tmp_path / "yelp_academic_dataset_business.json", [{"business_id": "B0", "name": "Sal's"}])
    said, rounds = plain_sequences(events)
    assert rounds > 3
    check_sequences(made("yelp", tmp_path), "yelp", "business_id", said)
