"""Residual k-means: each level clusters what the levels before left over."""

import numpy as np
from numpy.typing import NDArray

from rlrecbench.identifiers.clusters import kmeans
from rlrecbench.identifiers.codes import Identifiers
from rlrecbench.seeds import stream
from rlrecbench.store import Report, silent

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def residual_kmeans(
    vectors: NDArray[np.floating], levels: int, codes: int, seed: int, report: Report = silent
) -> Identifiers:
    """Give each vector the number of its cluster at every level; equal vectors get equal codes.

    Residuals are scaled to length 1 before each level; without that the later codebooks spend themselves on
    few long residuals. Source: GRID's residual k-means. Differs: Lloyd's algorithm to convergence instead of
    gradient steps.

    Args:
        vectors: Item features, [N, D].
        levels: Number of levels L.
        codes: Codebook size of a level; where a level has fewer distinct vectors, only so many are used.
        seed: Seed of k-means++; the same seed gives the same codes on any number of cores.
        report: Receives progress in levels.

    Returns:
        Codes [N, L]; every codebook has size ``codes``.
    """
    residual = vectors.astype(np.float64)
    columns = []
    for level in range(levels):
        report(level + 1, levels + 1, f"level {level + 1} of {levels}")
        column, residual = _level(residual, codes, stream(seed, "rkmeans", level))
        columns.append(column)
    return Identifiers(np.column_stack(columns), (codes,) * levels)


def _level(vectors: Floats, codes: int, seed: int) -> tuple[Ints, Floats]:
    """Cluster once: codes [N] and what is left over [N, D]."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(norm > 0, norm, 1)
    distinct, number = np.unique(vectors, axis=0, return_inverse=True)
    if len(distinct) <= codes:
        return number.reshape(-1).astype(np.int64), np.zeros_like(vectors)
    centres, labels = kmeans(vectors, codes, seed)
    left = vectors - centres[labels]
    left[np.abs(left).max(1) < 1e-9] = 0  # alone in its cluster: what is left is rounding
    return labels, left
