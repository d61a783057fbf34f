"""What metrics know about a data set: titles, popularity groups and training frequencies."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rlrecbench.data.frame import Dataset, Ints
from rlrecbench.data.groups import GROUPS, popularity_groups

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """Titles, groups and frequencies; T distinct titles, N items.

    Frequencies count occurrences in the history lists of the training rows, so each sliding window counts.

    Attributes:
        titles: Distinct titles in the order of the items, [T].
        title_of: Title number of each item, [N].
        item_frequency: Occurrences of each item, [N].
        group_of: Popularity group of each title, 0 the most popular; unseen titles are in group 7, [T].

    Source: Flower's released groups8 files, which this reproduces.
    """

    titles: list[str]
    title_of: Ints
    item_frequency: Ints
    group_of: Ints

    @staticmethod
    def of(dataset: Dataset) -> "Reference":
        """Read titles and training histories of a data set; equal titles count as one."""
        codes, distinct = pd.factorize(dataset.items["title"])
        title_of = codes.astype(np.int64)
        history = dataset.train.values
        return Reference(
            titles=[str(title) for title in distinct],
            title_of=title_of,
            item_frequency=dataset.frequency,
            group_of=popularity_groups(title_of[history], len(distinct)),
        )

    @property
    def n_items(self) -> int:
        """Number of items N."""
        return len(self.title_of)

    @cached_property
    def title_frequency(self) -> Ints:
        """Occurrences of each title in the training histories, [T]."""
        return _sums(self.title_of, self.item_frequency, len(self.titles))

    @cached_property
    def group_frequency(self) -> Ints:
        """Occurrences of each group's titles in the training histories, [8]."""
        return _sums(self.group_of, self.title_frequency, GROUPS)

    @cached_property
    def group_share(self) -> Floats:
        """GH(g): each group's share of the occurrences in the training histories, [8]."""
        return self.group_frequency / max(int(self.group_frequency.sum()), 1)

    @cached_property
    def group_of_item(self) -> Ints:
        """Popularity group of each item's title, [N]."""
        return self.group_of[self.title_of]

    def groups_in(self, items: NDArray[Any]) -> NDArray[Any]:
        """Turn counts of items [..., N] into counts of groups [..., 8]."""
        return _mapped(items, self._group_map)

    def words_in(self, items: NDArray[Any]) -> NDArray[Any]:
        """Turn counts of items [..., N] into counts of the distinct words of all titles [..., W]."""
        return _mapped(items, self._word_map)

    @cached_property
    def _group_map(self) -> csr_array:
        """1 at each item's group, [8, N]."""
        n = self.n_items
        return csr_array((np.ones(n, np.int64), (self.group_of_item, np.arange(n))), shape=(GROUPS, n))

    @cached_property
    def _word_map(self) -> csr_array:
        """How often each word stands in each item's title, [W, N]."""
        pieces = [title.split() for title in self.titles]
        title = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
        word, distinct = pd.factorize(np.array([w for p in pieces for w in p], dtype=object))
        shape = (len(distinct), len(pieces))
        return csr_array((np.ones(len(word), np.int64), (word, title)), shape=shape)[:, self.title_of]


def _mapped(items: NDArray[Any], by: csr_array) -> NDArray[Any]:
    """Counts of items [..., N] through a map [P, N], in the counts' own type, [..., P]."""
    flat = items.reshape(-1, items.shape[-1])
    return np.asarray((by.astype(items.dtype) @ flat.T).T).reshape(*items.shape[:-1], by.shape[0])


def _sums(index: Ints, counts: Ints, size: int) -> Ints:
    return np.bincount(index, counts, minlength=size).astype(np.int64)
