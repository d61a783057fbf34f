"""Distance of exposure from what people chose: recommendations against training frequencies, in nats.

P is the share of each item (or popularity group) in the top-k lists of all users, Q its share of the
occurrences in the training histories. KL(P || Q) needs Q > 0: whatever never occurs in the training
histories counts as half an occurrence. JS needs no smoothing.
"""

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric

PSEUDO_COUNT = 0.5  # below the 1 of an item seen once; Source: ours


@metric("kl-popularity", better="lower", level="list")
def kl_popularity(lists: Lists, k: int) -> float:
    """KL(exposure || training frequency) over items, in nats."""
    return kl(lists.items(k), lists.reference.item_frequency)


@metric("js-popularity", better="lower", level="list")
def js_popularity(lists: Lists, k: int) -> float:
    """Jensen-Shannon divergence of exposure and training frequency over items, in nats (at most ln 2)."""
    return js(lists.items(k), lists.reference.item_frequency)


@metric("kl-group", better="lower", level="list")
def kl_group(lists: Lists, k: int) -> float:
    """KL(exposure || training frequency) over the eight popularity groups, in nats."""
    return kl(lists.groups(k), lists.reference.group_frequency)


@metric("js-group", better="lower", level="list")
def js_group(lists: Lists, k: int) -> float:
    """Jensen-Shannon divergence of exposure and training frequency over the popularity groups, in nats."""
    return js(lists.groups(k), lists.reference.group_frequency)


def kl(p: Ints, q: Ints, pseudo_count: float = PSEUDO_COUNT) -> float:
    """KL(P || Q) of two vectors of counts in nats; NaN if p is all 0.

    Args:
        p: Counts of P.
        q: Counts of Q; zeros become ``pseudo_count``.
        pseudo_count: Above 0.
    """
    return divergence(_shares(p), _shares(np.where(q == 0, pseudo_count, q)))


def js(p: Ints, q: Ints) -> float:
    """Jensen-Shannon divergence .5 KL(P || M) + .5 KL(Q || M), M = (P + Q) / 2; NaN if either is all 0."""
    a, b = _shares(p), _shares(q)
    m = (a + b) / 2
    return (divergence(a, m) + divergence(b, m)) / 2


def _shares(counts: Floats | Ints) -> Floats:
    return np.asarray(counts / (counts.sum() or np.nan), np.float64)


def divergence(p: Floats, q: Floats) -> float:
    """KL of two vectors of shares in nats: sum p ln(p / q) over p > 0; a NaN in p stays."""
    there = p != 0
    return float(p[there] @ np.log(p[there] / q[there]))
