"""What a ranker generates and how well known that is: the diversity analysis of GFlowGR.

The first three metrics look at how evenly a model spreads its probability over the catalogue. a_v is the sum over
users of p(v | user), over the items v of the user's top-k list; p_v = a_v / sum_w a_w, so an item that is in no
list has p_v = 0 and p_v sums to 1 over the N items. p(v | user) is the probability of v's token path, shared
equally by the items that have the same path. Rankers without such probabilities have no value. A flatter model
(a higher temperature) lowers all three by itself.

The others look at the collaborative scores of the recommended items. SASRec's raw scores have no bounds, so each
user's are scaled: 0 is the user's lowest score over the whole catalogue, 1 the highest. A list of well-known
favourites has a high mean; a list that also ventures elsewhere has a larger standard deviation and range.

Source: GFlowGR, section 4.5.

Differs:
    - The paper gives neither the standardisation nor the bins of its divergence from a normal distribution;
      ``kl-normal`` and ``kl-normal-rank`` are two readings of it, so their orders compare with the paper's, their
      values do not.
    - The paper does not say on which scale its collaborative scores lie or whether its range is taken over all
      scores or within each list; ``collab-range`` and ``collab-user-range`` are the two.
"""

from math import erfc, sqrt

import numpy as np

from rlrecbench.metrics.distribution import divergence
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric

BINS, REACH = 100, 5.0  # equal bins on [-5, 5] standard deviations; Source: ours, not in the paper
FLOOR = 1e-10  # added to the share of each bin; Source: ours
EQUAL = 1e-12  # a standard deviation below this share of the mean is rounding; Source: ours
ENDS = 3.0  # the least and the most popular item stand at -3 and 3 standard deviations; Source: ours


@metric("kl-normal", better="lower", level="list", needs="probability", cite="gflowgr")
def kl_normal(lists: Lists, k: int) -> float:
    """KL(generation probabilities || normal), over standardised values, in nats.

    The p_v of all items, standardised to mean 0 and standard deviation 1, are counted in 100 equal bins on
    [-5, 5], the outer ones taking the tails, and compared with the mass of a standard normal in each bin.
    Undefined where all p_v are equal.
    """
    p = _generated(lists, k)
    spread = p.std()
    if not spread > EQUAL * p.mean():
        return float("nan")
    z = np.clip((p - p.mean()) / spread, -REACH, REACH)
    shares = np.histogram(z, BINS, (-REACH, REACH))[0] / len(p) + FLOOR
    return float(divergence(shares / shares.sum(), normal_masses()))


@metric("kl-normal-rank", better="lower", level="list", needs="probability", cite="gflowgr")
def kl_normal_rank(lists: Lists, k: int) -> float:
    """KL(generation probabilities || normal), over the items' popularity ranks, in nats.

    The items in order of their training frequency stand at equal distances on [-3, 3], and q_v is the normal
    density there, normalised over items; items of equal frequency share the density of their places equally. The
    value is sum_v p_v ln(p_v / q_v), where an item of p_v = 0 adds nothing.
    """
    return float(divergence(_generated(lists, k), _bell(lists)))


@metric("generation-std", better="lower", level="list", needs="probability", cite="gflowgr")
def generation_std(lists: Lists, k: int) -> float:
    """Standard deviation of the generation probabilities p_v over all items of the catalogue."""
    return float(_generated(lists, k).std())


@metric("collab-mean", better="higher", level="list", needs="collab", cite="gflowgr")
def collab_mean(lists: Lists, k: int) -> float:
    """Mean collaborative score, in [0, 1], of all recommended (user, item) pairs."""
    scores = _scores(lists, k)
    return float(scores.mean()) if len(scores) else float("nan")


@metric("collab-std", better="higher", level="list", needs="collab", cite="gflowgr")
def collab_std(lists: Lists, k: int) -> float:
    """Standard deviation of the collaborative scores, in [0, 1], of all recommended (user, item) pairs."""
    scores = _scores(lists, k)
    return float(scores.std()) if len(scores) else float("nan")


@metric("collab-range", better="higher", level="list", needs="collab", cite="gflowgr")
def collab_range(lists: Lists, k: int) -> float:
    """Highest minus lowest collaborative score, in [0, 1], of all recommended (user, item) pairs."""
    scores = _scores(lists, k)
    return float(np.ptp(scores)) if len(scores) else float("nan")


@metric("collab-user-range", better="higher", level="user", needs="collab", cite="gflowgr")
def collab_user_range(lists: Lists, k: int) -> Floats:
    """Highest minus lowest collaborative score, in [0, 1], within a user's list; 0 for an empty list."""
    there = lists.ranked[:, :k] >= 0
    scores = lists.beside("collab", k)
    high = np.where(there, scores, -np.inf).max(1, initial=-np.inf)
    low = np.where(there, scores, np.inf).min(1, initial=np.inf)
    return np.asarray(np.maximum(high - low, 0.0))


def normal_masses() -> Floats:
    """Mass of a standard normal in each bin, the tails in the outer ones, [100]."""
    below = [erfc(-edge / sqrt(2)) / 2 for edge in np.linspace(-REACH, REACH, BINS + 1)[1:-1]]
    return np.diff([0.0, *below, 1.0])


def _generated(lists: Lists, k: int) -> Floats:
    """p_v of each item, [N]; NaN if nothing was recommended."""
    top = lists.ranked[:, :k]
    there = top >= 0
    sums = np.bincount(top[there], lists.beside("probability", k)[there], minlength=lists.reference.n_items)
    return np.asarray(sums / (sums.sum() or np.nan))


def _bell(lists: Lists) -> Floats:
    """q_v of each item, [N]."""
    frequency = lists.reference.item_frequency
    density = np.exp(-(np.linspace(-ENDS, ENDS, len(frequency)) ** 2) / 2)
    _, tie, size = np.unique(frequency, return_inverse=True, return_counts=True)
    shared = np.bincount(np.sort(tie), density) / size
    return np.asarray(shared[tie] / density.sum())


def _scores(lists: Lists, k: int) -> Floats:
    """Collaborative scores of all pairs, [P]."""
    return lists.beside("collab", k)[lists.ranked[:, :k] >= 0]
