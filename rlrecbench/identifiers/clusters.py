"""Clusters of vectors: where codebooks begin, and LETTER's clusters of codes, of bounded size."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no type information

from rlrecbench.seeds import stream

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def kmeans(points: Floats, clusters: int, seed: int, iterations: int = 300) -> tuple[NDArray[np.float64], Ints]:
    """Cluster points by Lloyd's algorithm from one k-means++ start, alike on any number of cores.

    Returns:
        Centres [clusters, E] and labels [N].
    """
    with threadpool_limits(1):
        found = KMeans(clusters, init="k-means++", n_init=1, max_iter=iterations, random_state=seed % 2**32).fit(points)
    return found.cluster_centers_, found.labels_.astype(np.int64)


def bounded(points: Floats, clusters: int, low: int, high: int, seed: int) -> tuple[NDArray[np.float64], Ints]:
    """Cluster points so that every cluster has between ``low`` and ``high`` of them.

    Source: constrained k-means (Bradley, Bennett and Demiriz 2000), ten iterations as in LETTER's code; one start
    instead of ten.

    Returns:
        Centres [clusters, E] and labels [N].
    """
    from k_means_constrained import KMeansConstrained  # its solver takes a second to import

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # it does not follow the newest scikit-learn
        found = KMeansConstrained(
            clusters, size_min=low, size_max=high, max_iter=10, n_init=1, random_state=seed % 2**32, n_jobs=1
        ).fit(points.astype(np.float64))
    return np.asarray(found.cluster_centers_), np.asarray(found.labels_).astype(np.int64)


def codebook(points: Floats, codes: int, seed: int, *, bound: bool) -> NDArray[np.float64]:
    """Choose the vectors with which a codebook begins.

    Args:
        points: What it will have to stand for, [N, E].
        codes: Its size K.
        seed: Seed of the clustering.
        bound: Keep the clusters between N / 2K (at most 50) and four times as many points; LETTER. Where that leaves
            no room for all points, up to 2N / K of them. Without effect below 2K points.

    Returns:
        Vectors [K, E]: cluster centres; where there are no more than K distinct points, those, and random
        vectors at their scale for the rest.
    """
    distinct = np.unique(points, axis=0)
    if len(distinct) <= codes:
        rng = np.random.default_rng(stream(seed, "spare"))
        scale = float(points.std()) or 1.0
        spare = distinct.mean(0) + scale * rng.normal(size=(codes - len(distinct), points.shape[1]))
        return np.concatenate([distinct, spare])
    low = min(len(points) // (2 * codes), 50)
    if bound and low and codes > 1:
        high = 4 * low if 4 * low * codes >= len(points) else -(-2 * len(points) // codes)
        return bounded(points, codes, low, high, seed)[0]
    return kmeans(points, codes, seed, iterations=100)[0]
