"""Diversity of words and of items over the top-k lists of all users.

Words are the pieces of the recommended titles, split on whitespace, case and punctuation kept.
"""

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.spec import metric


@metric("entropy", better="higher", level="list", cite="flower")
def entropy(lists: Lists, k: int) -> float:
    """Entropy of the recommended words in bits: -sum p_w log2 p_w."""
    return bits(lists.words(k))


@metric("ttr", better="higher", level="list", cite="flower")
def ttr(lists: Lists, k: int) -> float:
    """Type-token ratio: distinct words / words; comparable only at equal numbers of users and equal k."""
    words = lists.words(k)
    return float(np.count_nonzero(words) / (words.sum() or np.nan))


@metric("coverage", better="higher", level="list")
def coverage(lists: Lists, k: int) -> float:
    """Share of the catalogue that is recommended at least once."""
    return float(np.count_nonzero(lists.items(k)) / lists.reference.n_items)


@metric("gini", better="lower", level="list")
def gini(lists: Lists, k: int) -> float:
    """Gini coefficient of exposure over the whole catalogue: sum_i (2i - N - 1) x_(i) / (N sum_i x_i)."""
    exposure = np.sort(lists.items(k))
    n = len(exposure)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights @ exposure) / (n * exposure.sum() or np.nan))


@metric("item-entropy", better="higher", level="list")
def item_entropy(lists: Lists, k: int) -> float:
    """Entropy of the recommended items in bits: -sum p_i log2 p_i."""
    return bits(lists.items(k))


def bits(counts: Ints) -> float:
    """Entropy of counts in bits; NaN if all are 0."""
    if not counts.any():
        return float("nan")
    p = counts[counts > 0] / counts.sum()
    return float(np.log2(1 / p) @ p)
