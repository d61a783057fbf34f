"""Group unfairness: GU(g) = GP(g) - GH(g) over eight popularity groups of titles.

GP(g) is the group's share of the top-k recommendations of all users, GH(g) its share of the occurrences in
the training histories. Invalid entries have no group and are left out of GP.

Source: Flower, section 4.1, and its released metric code.
"""

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.data.groups import GROUPS
from rlrecbench.metrics.exposure import Counts, Exposure, shares
from rlrecbench.metrics.lists import Lists
from rlrecbench.metrics.reference import Floats, Reference
from rlrecbench.metrics.spec import metric


@metric("dgu", better="lower", level="exposure", smooth=True, cite="flower")
def dgu(exposure: Exposure) -> Floats:
    """Largest minus smallest group unfairness: max_g GU(g) - min_g GU(g)."""
    return np.asarray(np.ptp(_unfairness(exposure.groups, exposure.reference), axis=-1))


@metric("mgu", better="lower", level="exposure", smooth=True, cite="flower")
def mgu(exposure: Exposure) -> Floats:
    """Mean absolute group unfairness: mean_g |GU(g)|."""
    return np.asarray(np.abs(_unfairness(exposure.groups, exposure.reference)).mean(-1))


@metric("dgu-compat", better="lower", level="list", cite="flower")
def dgu_compat(lists: Lists, k: int) -> float:
    """DGU as the published code counts: an unseen title resets group 7's counter to 1."""
    return float(np.ptp(_unfairness(_published_counts(lists, k), lists.reference)))


@metric("mgu-compat", better="lower", level="list", cite="flower")
def mgu_compat(lists: Lists, k: int) -> float:
    """MGU as the published code counts: an unseen title resets group 7's counter to 1."""
    return float(np.abs(_unfairness(_published_counts(lists, k), lists.reference)).mean())


def _unfairness(counts: Counts, reference: Reference) -> Floats:
    """GU of each group, [..., 8]; NaN where nothing was recommended."""
    return shares(counts) - reference.group_share


def _published_counts(lists: Lists, k: int) -> Ints:
    """Recommendations of each group, counted row by row with the published reset, [8]."""
    items = lists.ranked[:, :k].ravel()
    titles = lists.reference.title_of[items[items >= 0]]
    unseen = lists.reference.title_frequency[titles] == 0
    group = lists.reference.group_of[titles]
    counts = np.bincount(group, minlength=GROUPS)
    if unseen.any():
        after = np.flatnonzero(unseen)[-1] + 1
        counts[GROUPS - 1] = 1 + (group[after:] == GROUPS - 1).sum()
    return counts
