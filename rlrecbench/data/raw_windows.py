"""From Amazon 2018 reviews and metadata to examples split by time, as Flower makes CDs, Games and Movies.

Source: Flower, with_history/code/process.py; section numbers are those of the reference "methods-titles", chapter 1.
Differs: the code's window begins at midnight of the machine's own time zone, ours in a zone that is a setting (1.3).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from rlrecbench.data.raw_reviews import Ints, Reviews, k_core
from rlrecbench.errors import ConfigError, DataError


@dataclass(frozen=True)
class WindowSettings:
    """How the window is found and cut; the sources are sections of the reference.

    Raises:
        ConfigError: There is no such time zone.
    """

    min_items: int = 3000  # a catalogue below it opens the window a year earlier; 1.3 (Movies: 2000)
    first_year: int = 2017  # 1.3
    earliest_year: int = 1996  # taken whatever it holds; 1.3
    time_zone: str = "UTC"  # where 1 October and 1 November begin at midnight; 1.3
    k: int = 5  # 1.5
    words: int = 20  # longest title, in pieces between single blanks; 1.4
    history: int = 10  # items before the target; 1.7
    seed: int = 42  # of the shuffle that numbers the items; 1.6

    def __post_init__(self) -> None:
        _zone(self.time_zone)


@dataclass(frozen=True)
class Window:
    """What is left of the reviews: E interactions user by user, oldest first.

    Attributes:
        year: The window begins on 1 October of it.
        users: The collection's ids by user number: by first appearance among the reviews that are left, [U].
        items: The collection's ids by item number, [N].
        titles: Cleaned titles by item number, [N].
        user: User number, ascending, [E].
        item: Item number, [E].
        time: Seconds since 1970, [E].
        position: Place in the user's sequence, from 0, [E].
    """

    year: int
    users: list[str]
    items: list[str]
    titles: list[str]
    user: Ints
    item: Ints
    time: Ints
    position: Ints


class Split(NamedTuple):
    """Places of the targets in a window, oldest first."""

    train: Ints
    valid: Ints
    test: Ints


def window(reviews: Reviews, metadata: Sequence[tuple[str, str | None]], settings: WindowSettings) -> Window:
    """Open the window year by year until the catalogue is large enough.

    Each year cleans the titles that the year before has already cleaned, so a title that was escaped twice is resolved
    in the second try (1.4). The code leaves a try as soon as a round of the 5-core falls below ``min_items``; as items
    only ever go, that is the same as looking at the end.

    Args:
        reviews: All reviews of the category, whatever their time.
        metadata: Item id and title of every record, in the order of the file; None: no title.
        settings: How.

    Raises:
        DataError: Nothing is left even of the longest window.
    """
    number = {item: n for n, item in enumerate(reviews.items)}
    known = [(number[item], title) for item, title in metadata if item in number]
    for year in range(settings.first_year, settings.earliest_year - 1, -1):
        known, titles = clean_titles(known, settings.words)
        start, end = bounds(year, settings.time_zone)
        titled = np.zeros(len(reviews.items), bool)
        titled[list(titles)] = True
        at = np.flatnonzero((start <= reviews.time) & (reviews.time <= end) & titled[reviews.item])
        at = at[k_core(reviews.user[at], reviews.item[at], settings.k)]
        items = pd.unique(reviews.item[at])
        if len(items) >= settings.min_items or year == settings.earliest_year:
            break
    if not len(at):
        raise DataError(
            f"no user and item with {settings.k} interactions each is left between October {settings.earliest_year} "
            "and October 2018; are reviews and metadata whole, and of the same category?"
        )
    return _numbered(reviews, at, titles, year, settings.seed)


def bounds(year: int, time_zone: str) -> tuple[int, int]:
    """Return the first and the last second of a window, both inside it (1.3).

    Raises:
        ConfigError: There is no such time zone.
    """
    zone = _zone(time_zone)
    return int(datetime(year, 10, 1, tzinfo=zone).timestamp()), int(datetime(2018, 11, 1, tzinfo=zone).timestamp())


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # needs no database of time zones
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as e:
        raise ConfigError(f"{name!r} is not a known time zone; UTC and names such as Asia/Shanghai are") from e


def clean_titles(
    records: Sequence[tuple[int, str | None]], words: int
) -> tuple[list[tuple[int, str | None]], dict[int, str]]:
    """Clean the titles once, as one try of the window does (1.4).

    Args:
        records: Item number and title of every metadata record.
        words: The most pieces between single blanks; two blanks in a row make an empty piece.

    Returns:
        The records with their titles cleaned, for the next try, and the titles of the items that stay. An item goes
        if any one of its records has no title, a title with ``<span id`` in it, one of a single character or none,
        or too long a one; of several good records the last one counts.
    """
    cleaned: list[tuple[int, str | None]] = []
    titles: dict[int, str] = {}
    gone = set()
    for item, title in records:
        if title is not None and "<span id" not in title:
            title = title.replace("&quot;", '"').replace("&amp;", "&").strip(" ").strip('"')
            if len(title) > 1 and len(title.split(" ")) <= words:
                titles[item] = title
            else:
                gone.add(item)
        else:
            gone.add(item)
        cleaned.append((item, title))
    return cleaned, {item: title for item, title in titles.items() if item not in gone}


def split(user: Ints, time: Ints, position: Ints) -> Split:
    """Cut all targets by time: 80, 10 and 10 of a hundred (1.7).

    Every interaction but a user's first is a target. Equal times keep the order of users, then of positions; a user can
    have targets in all three parts.

    Args:
        user: User number, ascending, [E].
        time: [E], not decreasing within a user.
        position: Place in the user's sequence, [E].
    """
    targets = np.flatnonzero(position > 0)
    targets = targets[np.argsort(time[targets], kind="stable")]
    ends = [int(len(targets) * share) for share in (0.8, 0.9)]
    train, valid, test = np.split(targets, ends)
    return Split(train, valid, test)


def _numbered(reviews: Reviews, at: Ints, titles: dict[int, str], year: int, seed: int) -> Window:
    user, users = pd.factorize(reviews.user[at])
    items = pd.unique(reviews.item[at]).tolist()
    random.Random(seed).shuffle(items)
    place = np.zeros(len(reviews.items), np.int64)
    place[items] = np.arange(len(items))
    order = np.lexsort((reviews.time[at], user))
    first = np.unique(user[order], return_index=True)[1]
    return Window(
        year,
        [reviews.users[u] for u in users],
        [reviews.items[i] for i in items],
        [titles[i] for i in items],
        user[order].astype(np.int64),
        place[reviews.item[at][order]],
        reviews.time[at][order],
        np.arange(len(at)) - first[user[order]],
    )
