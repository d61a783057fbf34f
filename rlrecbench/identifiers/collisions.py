"""Items that share all their codes: another last code for each, as far as their vectors differ."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench.identifiers.quantiser import squared_distances
from rlrecbench.identifiers.sinkhorn import assign

Ints = NDArray[np.int64]


def reassigned(codes: Ints, residual: Tensor, codebook: Tensor, epsilon: float, rounds: int) -> Ints:
    """Map each group of colliding items uniformly onto the last codebook, again and again.

    Items with equal vectors stay together: the mapping gives them equal codes. Source: LC-Rec and LETTER's code.

    Args:
        codes: Code of each item at each level, [N, L].
        residual: What the items' first L - 1 codes leave over, [N, E].
        codebook: The last one, [K, E].
        epsilon: Regularisation of the mapping.
        rounds: At most so many; it ends before when nothing collides or nothing changes.

    Returns:
        Codes, [N, L].
    """
    codes = codes.copy()
    for _ in range(rounds):
        moved = False
        for items in colliding(codes):
            rows = residual[torch.from_numpy(items).to(residual.device)]
            distinct, row_of = rows.unique(dim=0, return_inverse=True)  # products round by the row's place
            last = assign(squared_distances(distinct, codebook)[row_of], epsilon).cpu().numpy()
            moved |= bool((codes[items, -1] != last).any())
            codes[items, -1] = last
        if not moved:
            break
    return codes


def colliding(codes: Ints) -> list[Ints]:
    """Groups of at least two items with the same codes, each a list of item numbers."""
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    items = np.flatnonzero(counts[group] > 1)
    order = items[np.argsort(group[items], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []
