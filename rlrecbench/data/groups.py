"""Popularity groups: titles cut into eight parts by how often the training histories name them."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GROUPS = 8  # Source: Flower, section 4.1 (groups8 files)


def popularity_groups(occurrences: Ints, n_titles: int) -> Ints:
    """Cut titles into 8 groups of equal size by descending frequency, [T].

    Ties keep the order of first appearance; of n titles the first n mod 8 groups hold one more; titles that
    never occur join group 7.

    Args:
        occurrences: Title numbers in the order in which the training histories name them.
        n_titles: Number of titles T.
    """
    frequency = np.bincount(occurrences, minlength=n_titles)
    first = np.full(n_titles, len(occurrences))
    first[occurrences[::-1]] = np.arange(len(occurrences))[::-1]
    order = np.lexsort((first, -frequency))[: np.count_nonzero(frequency)]
    share, rest = divmod(len(order), GROUPS)
    group_of = np.full(n_titles, GROUPS - 1, np.int64)
    group_of[order] = np.repeat(np.arange(GROUPS), share + (np.arange(GROUPS) < rest))
    return group_of
