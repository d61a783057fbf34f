"""From reviews to one sequence per user: Beauty and Yelp as S3-Rec makes them, Instruments as LC-Rec does.

Both: a user's interactions stand in the order of time, equal times in the order of the file; users and items with fewer
than five interactions go, again and again (:func:`~rlrecbench.data.raw_reviews.k_core`); users are numbered by their
first appearance in the file (that of a review which is dropped later counts too), items by their first appearance when
the sequences are read user by user. Numbers start with 0, as LETTER's do; S3-Rec's start with 1.

S3-Rec keeps repeated interactions. LC-Rec keeps the first one of a user with an item and drops items without metadata,
both before it counts.
Source: S3-Rec, data/data_process.py; LC-Rec, data_process/amazon18_data_process.py.
Differs: LC-Rec's code reads the ratings into a set, so its order of users and of equal times changes from run to run;
here it is the order of the file.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlrecbench.data.raw_reviews import Ints, Reviews, k_core


@dataclass(frozen=True)
class SequenceSettings:
    """How sequences are cut."""

    k: int = 5  # S3-Rec and LC-Rec
    first_of_repeats: bool = False  # True: LC-Rec
    needs_metadata: bool = False  # True: LC-Rec


@dataclass(frozen=True)
class Sequences:
    """Interactions user by user, oldest first, E of them.

    Attributes:
        users: The collection's ids by user number, [U].
        items: The collection's ids by item number, [N].
        user: User number, ascending, [E].
        item: Item number, [E].
        position: Place in the user's sequence, from 0, [E].
    """

    users: list[str]
    items: list[str]
    user: Ints
    item: Ints
    position: Ints


def sequences(reviews: Reviews, settings: SequenceSettings, described: set[str]) -> Sequences:
    """Make the sequences.

    Args:
        reviews: All interactions.
        settings: How.
        described: Items that have metadata; looked at only where ``settings.needs_metadata``.

    Returns:
        What is left; it may be nothing.
    """
    at = np.lexsort((reviews.time, reviews.user))
    if settings.first_of_repeats:
        pair = reviews.user[at].astype(np.int64) * len(reviews.items) + reviews.item[at]
        at = at[~pd.Series(pair).duplicated().to_numpy()]
    if settings.needs_metadata:
        known = np.array([item in described for item in reviews.items])
        at = at[known[reviews.item[at]]]
    at = at[k_core(reviews.user[at], reviews.item[at], settings.k)]
    # at is sorted by user number, so factorize numbers users by first appearance in the file, too.
    user, users = pd.factorize(reviews.user[at])
    item, items = pd.factorize(reviews.item[at])
    first = np.unique(user, return_index=True)[1]
    return Sequences(
        [reviews.users[u] for u in users],
        [reviews.items[i] for i in items],
        user.astype(np.int64),
        item.astype(np.int64),
        np.arange(len(at)) - first[user],
    )
