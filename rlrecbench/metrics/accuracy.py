"""Accuracy of one relevant item per user: r is its rank, absent means no credit.

Items are ranked, not strings; the ``-string`` variants give the papers' convention under their own name.
"""

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric


@metric("recall", better="higher", level="user")
def recall(lists: Lists, k: int) -> Floats:
    """Share of users whose target is in the top k: [r <= k]; also called hr."""
    return _hit(lists.rank, k)


@metric("ndcg", better="higher", level="user")
def ndcg(lists: Lists, k: int) -> Floats:
    """Normalised discounted cumulative gain: [r <= k] / log2(r + 1)."""
    return _gain(lists.rank, k)


@metric("mrr", better="higher", level="user")
def mrr(lists: Lists, k: int) -> Floats:
    """Mean reciprocal rank: [r <= k] / r."""
    return _reciprocal(lists.rank, k)


@metric("hr-string", better="higher", level="user")
def hr_string(lists: Lists, k: int) -> Floats:
    """Hit rate in which any item with the target's string is a hit and a string counts once."""
    return _hit(lists.string_rank, k)


@metric("ndcg-string", better="higher", level="user")
def ndcg_string(lists: Lists, k: int) -> Floats:
    """NDCG in which any item with the target's string is a hit and a string counts once."""
    return _gain(lists.string_rank, k)


@metric("mrr-string", better="higher", level="user")
def mrr_string(lists: Lists, k: int) -> Floats:
    """MRR in which any item with the target's string is a hit and a string counts once."""
    return _reciprocal(lists.string_rank, k)


def _hit(rank: Ints, k: int) -> Floats:
    return ((rank > 0) & (rank <= k)).astype(np.float64)


def _gain(rank: Ints, k: int) -> Floats:
    return np.asarray(_hit(rank, k) / np.log2(np.maximum(rank, 1) + 1))


def _reciprocal(rank: Ints, k: int) -> Floats:
    return _hit(rank, k) / np.maximum(rank, 1)
