"""How often each popularity group is recommended: the same count for the page and the figures."""

import numpy as np
from numpy.typing import NDArray

from rlrecbench.results import Record, Results

TITLES = "titles.parquet"  # of a cell whose lists are draws from a fitted distribution


def group_shares(results: Results, record: Record, k: int) -> NDArray[np.float64] | None:
    """Shares of the popularity groups in the first k places of a cell's lists, [8].

    Returns:
        None where there is nothing to count: no catalogue, no item of it in the lists, or lists that recommend
        nothing, being draws from a fitted distribution.

    Raises:
        StoreError: The lists cannot be read.
    """
    if (record.path / TITLES).is_file():
        return None
    lists = results.lists(record)
    if lists is None:
        return None
    counts = lists.exposure(k).groups
    return counts / counts.sum() if counts.any() else None
