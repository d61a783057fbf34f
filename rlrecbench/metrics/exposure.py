"""How often each item, popularity group and word is recommended: all that exposure metrics look at.

One ranking has counts [N]; resampled users give counts [..., N], and a metric is evaluated on all of them at once.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlrecbench.metrics.reference import Floats, Reference

Part = Literal["items", "groups", "words"]
Counts = NDArray[Any]  # whole numbers, as integers, or as floats whose type holds their sums exactly


class Exposure:
    """Counts over the top-k lists of some users; leading axes are resamples.

    Args:
        reference: The data set's titles, groups and frequencies.
        count: Gives the counts of items [..., N], groups [..., 8] or words [..., W]; asked once for each, and only
            if a metric wants them. Words that no list has may be missing.
        share: Share of the users that the counts are of, where some were left out; for metrics such as the
            type-token ratio, whose value is inversely proportional to the number of users.
    """

    def __init__(self, reference: Reference, count: Callable[[Part], Counts], share: float = 1.0) -> None:
        self.reference, self.share = reference, share
        self._count = count

    @staticmethod
    def of(items: Counts, reference: Reference) -> "Exposure":
        """Exposure by the counts of the items, [..., N]."""
        return Exposure(reference, lambda part: parts(items, reference, part))

    @cached_property
    def items(self) -> Counts:
        """How often each item is recommended, [..., N]."""
        return self._count("items")

    @cached_property
    def groups(self) -> Counts:
        """How often each popularity group is recommended, [..., 8]."""
        return self._count("groups")

    @cached_property
    def words(self) -> Counts:
        """How often each word stands in the recommended titles, [..., W]."""
        return self._count("words")


def parts(items: Counts, reference: Reference, part: Part) -> Counts:
    """Turn counts of items [..., N] into counts of the part."""
    if part == "items":
        return items
    return reference.groups_in(items) if part == "groups" else reference.words_in(items)


def total(counts: Counts) -> Floats:
    """Sum over the last axis, which stays with length 1; NaN where all counts are 0."""
    sums = counts.sum(-1, keepdims=True).astype(np.float64)
    return np.asarray(np.where(sums > 0, sums, np.nan))


def shares(counts: Counts) -> Floats:
    """Counts divided by their sum over the last axis; NaN where all are 0."""
    return np.asarray(counts / total(counts), np.float64)


def sum_log(counts: Counts) -> Floats:
    """Sum of c ln c over the last axis; looked up, since counts repeat and logarithms are slow."""
    index = counts.astype(np.intp)
    table = _c_log_c(1 << int(index.max(initial=0)).bit_length())
    return np.asarray(table.take(index).sum(-1))


@lru_cache(maxsize=2)
def _c_log_c(size: int) -> Floats:
    c = np.arange(size, dtype=np.float64)
    return c * np.log(np.maximum(c, 1))
