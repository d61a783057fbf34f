"""A distribution to fit: the most frequent titles, drawn in proportion to how often they occur, without histories.

T(title) = occurrences of the title in the history lists of the training rows, equal titles counted as one. Rows are
drawn from T with replacement: training rows as many as asked for, a twentieth as many to validate, and 20 per title
to test. The test rows only say how far a sample of that size lies from T itself.
Source: Flower, section 4.2 and its public code (6,400 training rows and 20 samples per title for 100 titles).

Differs:
    - The public code's counts are of MovieLens' size; here they are those of the data set that is named.
    - Its validation rows are a twentieth of the 6,400; here they come beside the training rows.
    - It draws when the script first runs and keeps what a cache holds; here the draw is fixed.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from rlrecbench.data.frame import PARTS, Dataset, Examples, Ints
from rlrecbench.errors import DataError

PER_TITLE = 20  # test rows per title; Flower's public code
VALID_SHARE = 0.05  # validation rows per training row; Flower's public code


class Counted(NamedTuple):
    """Titles of the training histories, the most frequent first; ties in the order of first appearance.

    Attributes:
        item: The first item of each title, [T].
        weight: Occurrences of each title, [T].
    """

    item: Ints
    weight: Ints


def distribution(data: Dataset, titles: int, rows: int) -> Dataset:
    """Make the data set in which the so many most frequent titles are to be drawn as often as they occur.

    Args:
        data: The data set under its own protocol.
        titles: Number of titles N.
        rows: Training rows.

    Raises:
        DataError: The training histories hold fewer titles.
    """
    counted = count_titles(data)
    if len(counted.item) < titles:
        raise DataError(
            f"data set {data.name}: 'titles' asks for {titles} titles, but the training histories hold "
            f"{len(counted.item)}; lower it"
        )
    item, weight = counted.item[:titles], counted.weight[:titles]
    items = data.items.iloc[item].reset_index(drop=True).assign(weight=weight)
    sizes = (rows, max(1, round(VALID_SHARE * rows)), PER_TITLE * titles)
    train, valid, test = (without_history(draw(weight, n, part)) for part, n in zip(PARTS, sizes, strict=True))
    settings = {**data.settings, "titles": titles, "rows": rows}
    users = np.array(["0"])
    return Dataset(data.name, "distribution", items, users, train, valid, test, settings, data.checksum)


def count_titles(data: Dataset) -> Counted:
    """Count the titles of the training histories."""
    title_of, distinct = pd.factorize(data.items["title"])
    named = title_of[data.train.values]
    weight = np.bincount(named, minlength=len(distinct))
    seen, first = np.unique(named, return_index=True)
    order = seen[np.lexsort((first, -weight[seen]))]
    item = np.unique(title_of, return_index=True)[1]
    return Counted(item[order].astype(np.int64), weight[order].astype(np.int64))


def draw(weight: Ints, n: int, name: str) -> Ints:
    """Draw n titles in proportion to whole weights; the name picks the random stream.

    A whole number below the sum of the weights is drawn, so the shares are exact.
    """
    from rlrecbench.seeds import stream

    below = np.cumsum(weight)
    at = np.random.default_rng(stream(0, "distribution", name)).integers(0, below[-1], n)
    return np.searchsorted(below, at, side="right").astype(np.int64)


def without_history(target: Ints) -> Examples:
    """Make rows of one user that have a target and nothing else."""
    rows = len(target)
    return Examples(np.zeros(rows, np.int64), np.zeros(rows + 1, np.int64), np.zeros(0, np.int64), target)
