"""Where codebooks begin, for catalogues of every size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rlrecbench.identifiers import clusters
from rlrecbench.identifiers.clusters import bounded, codebook

Floats = NDArray[np.float64]
CASES = [(12_101, 256, (23, 92)), (1000, 4, (50, 500)), (800, 4, (50, 200))]


def test_codebook_of_separate_heaps_is_their_means() -> None:
    rng = np.random.default_rng(0)
    heaps = np.repeat(10 * np.eye(4), 25, axis=0) + 0.01 * rng.normal(size=(100, 4))
    for bound in (False, True):
        made = codebook(heaps, 4, seed=0, bound=bound)
        means = heaps.reshape(4, 25, 4).mean(1)
        nearest = ((made[:, None] - means) ** 2).sum(2).argmin(1)
        assert sorted(nearest) == [0, 1, 2, 3]
        assert np.allclose(made, means[nearest], atol=1e-6)


def test_few_points_are_codes_themselves_and_the_rest_is_at_their_scale() -> None:
    points = np.array([[3.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    made = codebook(points, 8, seed=0, bound=True)
    assert made.shape == (8, 2)
    assert made[:2].tolist() == [[0, 1], [3, 0]]
    assert len(np.unique(made, axis=0)) == 8
    assert np.abs(made).max() < 20


def test_points_that_are_all_equal_give_a_finite_codebook() -> None:
    made = codebook(np.zeros((50, 3)), 4, seed=0, bound=False)
    assert np.isfinite(made).all()
    assert (made[0] == 0).all()


def test_bounded_clusters_keep_their_bounds_where_plain_ones_would_not() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(size=(90, 2)) * 0.01, [[50.0, 0.0]], [[0.0, 50.0]], rng.normal(size=(8, 2))])
    labels = bounded(points, 4, 20, 30, seed=0)[1]
    counts = np.bincount(labels)
    assert counts.min() >= 20
    assert counts.max() <= 30


def test_a_catalogue_too_large_for_letters_upper_bound_still_gets_a_codebook() -> None:
    """1,000 points and 4 codes: LETTER's bounds of 50 and 200 would hold 800 of them."""
    points = np.random.default_rng(3).normal(size=(1000, 2))
    assert codebook(points, 4, seed=0, bound=True).shape == (4, 2)


@pytest.mark.parametrize(("items", "codes", "bounds"), CASES)
def test_bounds_are_letters_where_those_have_room(
    items: int, codes: int, bounds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """min(N // 2K, 50) and four times that; 50 and 200 hold 800 items in 4 clusters, but not 1,000: then 2N / K."""
    seen = []

    def record(points: Floats, clusters: int, low: int, high: int, seed: int) -> tuple[Floats, None]:
        seen.append((low, high))
        return points[:clusters], None

    monkeypatch.setattr(clusters, "bounded", record)
    codebook(np.random.default_rng(0).normal(size=(items, 2)), codes, seed=0, bound=True)
    assert seen == [bounds]


def test_a_codebook_of_one_code_is_the_mean() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    assert np.allclose(codebook(points, 1, seed=0, bound=True), points.mean(0))


def test_seed_decides_the_codebook() -> None:
    points = np.random.default_rng(2).normal(size=(200, 3))
    first, second, other = (codebook(points, 8, seed, bound=True) for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()
