"""Diversity of words and of items over the top-k lists of all users.

Words are the pieces of the recommended titles, split on whitespace, case and punctuation kept.
"""

from functools import lru_cache
from math import log

import numpy as np

from rlrecbench.metrics.exposure import Counts, Exposure, shares, sum_log, total
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric

DRAWN = 10_000  # words; fewer than any data set's lists of 10 items have; Source: ours


@metric("entropy", better="higher", level="exposure", cite="flower")
def entropy(exposure: Exposure) -> Floats:
    """Entropy of the recommended words in bits: -sum p_w log2 p_w."""
    return bits(exposure.words)


@metric("ttr", better="higher", level="exposure", cite="flower")
def ttr(exposure: Exposure) -> Floats:
    """Type-token ratio: distinct words / words; comparable only at equal numbers of users and equal k."""
    words = exposure.words
    return np.asarray(np.count_nonzero(words, axis=-1) / (total(words)[..., 0] / exposure.share))


@metric("ttr-fixed", better="higher", level="exposure")
def ttr_fixed(exposure: Exposure) -> Floats:
    """Type-token ratio of 10,000 words drawn from all recommended ones; comparable between numbers of users.

    The expected number of distinct words among n drawn without replacement, divided by n. Where fewer than 10,000
    words are recommended it is that of all of them.
    """
    return rarefied(exposure.words, DRAWN)


@metric("coverage", better="higher", level="exposure")
def coverage(exposure: Exposure) -> Floats:
    """Share of the catalogue that is recommended at least once."""
    return np.asarray(np.count_nonzero(exposure.items, axis=-1) / exposure.reference.n_items)


@metric("gini", better="lower", level="exposure")
def gini(exposure: Exposure) -> Floats:
    """Gini coefficient of exposure over the whole catalogue: sum_i (2i - N - 1) x_(i) / (N sum_i x_i)."""
    ordered = np.sort(exposure.items)
    n = exposure.reference.n_items
    weights = 2 * np.arange(1, n + 1, dtype=np.float64) - n - 1
    return np.asarray(ordered @ weights / (n * total(ordered)[..., 0]))


@metric("item-entropy", better="higher", level="exposure")
def item_entropy(exposure: Exposure) -> Floats:
    """Entropy of the recommended items in bits: -sum p_i log2 p_i."""
    return bits(exposure.items)


def bits(counts: Counts) -> Floats:
    """Entropy of counts over the last axis in bits; NaN where all are 0.

    Of many sets of counts it is log2 n - sum c log2 c / n, where the logarithms of whole numbers are looked up.
    """
    if counts.ndim == 1:
        p = shares(counts[counts > 0])
        return np.asarray(np.log2(1 / p) @ p if len(p) else np.nan)
    n = total(counts)[..., 0]
    return np.asarray(np.log2(n) - sum_log(counts) / (n * log(2)))


def rarefied(counts: Counts, drawn: int) -> Floats:
    """Expected share of distinct kinds among some things drawn without replacement, over the last axis.

    A kind that c of n things have is not among h drawn with probability C(n - c, h) / C(n, h), the product of
    (i - h) / i over i = n - c + 1..n.

    Args:
        counts: Things of each kind, [..., W]; NaN where there are none.
        drawn: How many are drawn; all, where there are fewer.

    Source: Hurlbert, 1971.
    """
    n = counts.sum(-1, keepdims=True).astype(np.int64)
    left = (n - counts).astype(np.intp)
    table = _log_missed(drawn, 1 << int(n.max(initial=0)).bit_length())
    missed = np.where(left < drawn, 0.0, np.exp(table[n] - table[left]))
    seen = ((1 - missed) * (counts > 0)).sum(-1)
    return np.asarray(seen / np.minimum(total(counts), drawn)[..., 0])


@lru_cache(maxsize=4)
def _log_missed(drawn: int, size: int) -> Floats:
    """Sum of ln((i - drawn) / i) over i = drawn + 1..n, at n, [size]; 0 up to ``drawn``."""
    out = np.zeros(size)
    i = np.arange(drawn + 1, size)
    out[drawn + 1 :] = np.cumsum(np.log1p(-drawn / i))
    return out
