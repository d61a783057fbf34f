"""Interactions of a raw collection as arrays: 16 bytes a review, whatever its text."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.raw_lines import ratings, records
from rlrecbench.errors import DataError

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

# S3-Rec compares dates as text, so what Yelp's users wrote on the last day after midnight is out.
YELP_DATES = ("2019-01-01 00:00:00", "2019-12-31 00:00:00")


class Review(NamedTuple):
    """One interaction and the line it stands on; ``time`` orders a user's interactions, larger is later."""

    line: int
    user: str
    item: str
    time: int


@dataclass(frozen=True)
class Reviews:
    """All interactions in the order of the file, R of them; users and items numbered by first appearance.

    Attributes:
        users: The collection's own user ids, [U].
        items: Its own item ids, [N].
        user: User number, [R].
        item: Item number, [R].
        time: Seconds since 1970, or any other number that orders, [R].
    """

    users: list[str]
    items: list[str]
    user: Codes
    item: Codes
    time: Ints

    def __len__(self) -> int:
        return len(self.time)


def collect(path: Path, found: Iterable[Review]) -> Reviews:
    """Number users and items.

    Args:
        path: Where the interactions come from, for messages.
        found: The interactions.

    Raises:
        DataError: There are none, an id is empty or has blanks or tabs in it, or a time has more than 63 bits.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, time = array("i"), array("i"), array("q")
    for review in found:
        for text, codes, column in ((review.user, users, user), (review.item, items, item)):
            code = codes.get(text)
            if code is None:
                if not text.isprintable() or text != "".join(text.split()) or not text:
                    raise DataError(f"{path}, line {review.line}: {text[:40]!r} is no id: empty, or with blanks in it")
                code = codes[text] = len(codes)
            column.append(code)
        try:
            time.append(review.time)
        except OverflowError as e:
            raise DataError(f"{path}, line {review.line}: {review.time!s:.24} is no time: more than 63 bits") from e
    if not time:
        raise DataError(f"{path}: there is no interaction to use in it")
    return Reviews(
        list(users),
        list(items),
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        np.frombuffer(time, np.int64),
    )


def amazon(path: Path, show: bool = False) -> Iterator[Review]:
    """Read an Amazon collection's reviews (2014 or 2018); every rating counts, and none is needed, as for Flower.

    Raises:
        DataError: A line is broken or lacks a field.
    """
    return (review for review, _ in _amazon(path, show))


def amazon_rated(path: Path, show: bool = False) -> Iterator[Review]:
    """Read an Amazon collection's reviews as S3-Rec does: those with a rating above 0.

    Raises:
        DataError: A line is broken or lacks a field.
    """
    for review, record in _amazon(path, show):
        try:
            rating = float(record["overall"])
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise _broken(path, review.line, "overall (the rating, a number)", e) from e
        if rating > 0:
            yield review


def _amazon(path: Path, show: bool) -> Iterator[tuple[Review, dict[str, Any]]]:
    for line, record in records(path, show):
        try:
            user, item, time = record["reviewerID"], record["asin"], int(record["unixReviewTime"])
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise _broken(path, line, "reviewerID, asin and unixReviewTime (seconds)", e) from e
        if not (isinstance(user, str) and isinstance(item, str)):
            raise _broken(path, line, "reviewerID and asin as text", None)
        yield Review(line, user, item, time), record


def amazon_ratings(path: Path, show: bool = False) -> Iterator[Review]:
    """Read an Amazon 2018 "ratings only" file: item, user, rating, seconds since 1970.

    Raises:
        DataError: A line is broken.
    """
    for line, (item, user, _, time) in ratings(path, show):
        try:
            yield Review(line, user, item, int(time))
        except ValueError as e:
            raise _broken(path, line, "item,user,rating,time with the time in seconds", e) from e


def yelp(path: Path, show: bool = False) -> Iterator[Review]:
    """Read the Yelp Open Dataset's reviews of 2019 as S3-Rec does; every number of stars counts.

    Raises:
        DataError: A line is broken, lacks a field, or has a date of another form.
    """
    first, last = YELP_DATES
    for line, record in records(path, show):
        try:
            user, item, date = record["user_id"], record["business_id"], record["date"]
            time = int(date.replace("-", "").replace(":", "").replace(" ", ""))
        except (KeyError, AttributeError, ValueError) as e:
            raise _broken(path, line, "user_id, business_id and date (2019-05-31 18:45:00)", e) from e
        if len(date) != len(first) or not (isinstance(user, str) and isinstance(item, str)):
            raise _broken(path, line, "user_id, business_id and date (2019-05-31 18:45:00)", None)
        if first <= date <= last:
            yield Review(line, user, item, time)


def k_core(user: NDArray[np.integer], item: NDArray[np.integer], k: int) -> Ints:
    """Keep users and items with at least k interactions each, until nothing changes.

    Interactions are counted, not distinct pairs. What is left is the largest set with that property, and there is only
    one: so the order in which users and items are dropped does not matter, nor that S3-Rec's code drops from a list
    while it walks along it (and thereby passes over neighbours until the next round).

    Args:
        user: User numbers, [R].
        item: Item numbers, [R].
        k: The least number of interactions.

    Returns:
        Places of the interactions that stay, ascending.
    """
    at = np.arange(len(user))
    while len(at):
        enough_user = np.bincount(user[at]) >= k
        enough_item = np.bincount(item[at]) >= k
        stays = enough_user[user[at]] & enough_item[item[at]]
        if stays.all():
            break
        at = at[stays]
    return at


def _broken(path: Path, line: int, needed: str, error: Exception | None) -> DataError:
    what = f"; {type(error).__name__}: {error}" if error else ""
    return DataError(f"{path}, line {line}: must have {needed}{what}")
