"""Residual k-means on points whose clusters are known."""

import numpy as np
from numpy.typing import NDArray

from rlrecbench.identifiers.rkmeans import residual_kmeans


def planted() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """27 vectors = a far centre + a nearer one + a nearest one, 3 x 3 x 3; and those choices, [27, 3]."""
    choice = np.indices((3, 3, 3)).reshape(3, -1).T
    vectors = np.zeros((27, 9))
    for level, scale in enumerate((1.0, 0.2, 0.04)):
        vectors[np.arange(27), 3 * level + choice[:, level]] = scale
    return vectors, choice


def same_partition(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    """Tell whether two labellings put the same items together."""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def test_each_level_finds_the_centres_of_its_scale() -> None:
    vectors, choice = planted()
    ids = residual_kmeans(vectors, levels=3, codes=3, seed=0)
    assert ids.sizes == (3, 3, 3)
    assert ids.report()["prefixes"] == [3, 9, 27]
    assert same_partition(ids.codes[:, 0], choice[:, 0])
    for first in range(3):
        inside = choice[:, 0] == first
        assert same_partition(ids.codes[inside, 1], choice[inside, 1])


def test_equal_vectors_get_equal_codes() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4))
    ids = residual_kmeans(np.concatenate([vectors, vectors[:20]]), levels=3, codes=8, seed=0)
    assert (ids.codes[60:] == ids.codes[:20]).all()


def test_fewer_distinct_vectors_than_codes_use_one_cluster_each() -> None:
    vectors = np.eye(4)[[2, 0, 1, 1, 2, 3]]
    ids = residual_kmeans(vectors, levels=2, codes=256, seed=0)
    assert same_partition(ids.codes[:, 0], np.array([2, 0, 1, 1, 2, 3]))
    assert ids.codes[:, 1].tolist() == [0] * 6
    assert ids.sizes == (256, 256)


def test_zero_vectors_are_one_more_point() -> None:
    ids = residual_kmeans(np.concatenate([np.zeros((3, 4)), np.eye(4)]), levels=1, codes=5, seed=0)
    assert ids.report()["used"] == [5]
    assert len(set(ids.codes[:3, 0])) == 1


def test_a_vector_alone_in_its_cluster_leaves_nothing_over() -> None:
    rng = np.random.default_rng(1)
    alone = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    crowd = -alone.sum(0) + 0.01 * rng.normal(size=(50, 8))
    ids = residual_kmeans(np.concatenate([alone, alone[:3], crowd]), levels=2, codes=9, seed=0)
    assert len(set(ids.codes[:8, 0])) == 8
    assert len(set(ids.codes[:11, 1])) == 1


def test_seed_decides_everything() -> None:
    vectors = np.random.default_rng(2).normal(size=(300, 6))
    first, second, other = (residual_kmeans(vectors, 2, 16, seed).codes for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != other).any()
