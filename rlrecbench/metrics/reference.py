"""What metrics know about a data set: titles, popularity groups and training frequencies."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    def titles_in(self, items: Ints) -> Ints:
        """Turn counts of items [N] into counts of titles [T]."""
        return _sums(self.title_of, items, len(self.titles))

    def groups_in(self, items: Ints) -> Ints:
        """Turn counts of items [N] into counts of groups [8]."""
        return _sums(self.group_of, self.titles_in(items), GROUPS)

    def words_in(self, items: Ints) -> Ints:
        """Turn counts of items [N] into counts of the distinct words of all titles."""
        word, title, n_words = self._words
        return _sums(word, self.titles_in(items)[title], n_words)

    @cached_property
    def _words(self) -> tuple[Ints, Ints, int]:
        """Word number and title number of each word of each title; number of distinct words."""
        pieces = [title.split() for title in self.titles]
        title = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
        flat = np.array([w for p in pieces for w in p], dtype=object)
        word, distinct = pd.factorize(flat)
        return word.astype(np.int64), title, len(distinct)


def _sums(index: Ints, counts: Ints, size: int) -> Ints:
    return np.bincount(index, counts, minlength=size).astype(np.int64)
