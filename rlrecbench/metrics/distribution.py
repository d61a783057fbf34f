"""Distance of exposure from what people chose: recommendations against training frequencies, in nats.

P is the share of each item (or popularity group) in the top-k lists of all users, Q its share of the
occurrences in the training histories. KL(P || Q) needs Q > 0: whatever never occurs in the training
histories counts as half an occurrence. JS needs no smoothing.
"""

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.exposure import Counts, Exposure, shares, sum_log, total
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric

_LEAST = 1e-300  # a share of 0 adds nothing, and its logarithm must be finite
PSEUDO_COUNT = 0.5  # below the 1 of an item seen once; Source: ours


@metric("kl-popularity", better="lower", level="exposure")
def kl_popularity(exposure: Exposure) -> Floats:
    """KL(exposure || training frequency) over items, in nats."""
    return kl(exposure.items, exposure.reference.item_frequency)


@metric("js-popularity", better="lower", level="exposure")
def js_popularity(exposure: Exposure) -> Floats:
    """Jensen-Shannon divergence of exposure and training frequency over items, in nats (at most ln 2)."""
    return js(exposure.items, exposure.reference.item_frequency)


@metric("kl-group", better="lower", level="exposure", smooth=True)
def kl_group(exposure: Exposure) -> Floats:
    """KL(exposure || training frequency) over the eight popularity groups, in nats."""
    return kl(exposure.groups, exposure.reference.group_frequency)


@metric("js-group", better="lower", level="exposure", smooth=True)
def js_group(exposure: Exposure) -> Floats:
    """Jensen-Shannon divergence of exposure and training frequency over the popularity groups, in nats."""
    return js(exposure.groups, exposure.reference.group_frequency)


def kl(p: Counts, q: Ints, pseudo_count: float = PSEUDO_COUNT) -> Floats:
    """KL(P || Q) of counts in nats over the last axis; NaN where P is all 0.

    Of many P it is (sum p ln p - sum p ln Q) / sum p - ln sum p, where the logarithms of whole numbers are looked up.

    Args:
        p: Counts of P, [..., N].
        q: Counts of Q, [N]; zeros become ``pseudo_count``.
        pseudo_count: Above 0.
    """
    Q = shares(np.where(q == 0, pseudo_count, q))
    if p.ndim == 1:
        return divergence(shares(p), Q)
    n = total(p)[..., 0]
    return np.asarray((sum_log(p) - p @ np.log(Q)) / n - np.log(n))


def js(p: Counts, q: Ints) -> Floats:
    """Jensen-Shannon divergence .5 KL(P || M) + .5 KL(Q || M), M = (P + Q) / 2, of counts [..., N] and [N].

    NaN where either is all 0. Of many P it is (sum P ln P + sum Q ln Q) / 2 - sum M ln M, with logarithms looked up.
    """
    a, b = shares(p), shares(q)
    m = (a + b) / 2
    if p.ndim == 1:
        return np.asarray((divergence(a, m) + divergence(b, m)) / 2)
    n = total(p)[..., 0]
    own = sum_log(p) / n - np.log(n) + divergence(b, np.ones_like(b))
    return np.asarray(own / 2 - np.vecdot(m, np.log(np.maximum(m, _LEAST))))


def divergence(p: Floats, q: Floats) -> Floats:
    """KL of shares in nats over the last axis: sum p ln(p / q) over p > 0; a NaN in p stays."""
    there = (p != 0).any(tuple(range(p.ndim - 1)))
    p, q = p[..., there], q[..., there]
    ratio = np.divide(p, q, out=np.ones(np.broadcast_shapes(p.shape, q.shape)), where=p != 0)
    return np.asarray(np.vecdot(p, np.log(ratio)))
