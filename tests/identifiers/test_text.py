"""Text features, against a dense computation from the definition."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rlrecbench.identifiers.text import tfidf_svd

TEXTS = ["red nail polish", "red lipstick", "nail file", "green nail polish", "green tea shampoo", "tea"]


def weights(texts: list[str]) -> NDArray[np.float64]:
    """TF-IDF from its definition: (1 + ln tf) (1 + ln((1 + N) / (1 + df))), rows of length 1."""
    words = [t.split() for t in texts]
    terms = [w + [f"{a} {b}" for a, b in pairwise(w)] for w in words]
    names = sorted({t for row in terms for t in row})
    counts = np.array([[row.count(name) for name in names] for row in terms], float)
    idf = 1 + np.log((1 + len(texts)) / (1 + (counts > 0).sum(0)))
    out = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * idf
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))


def test_full_width_keeps_all_similarities() -> None:
    ours = tfidf_svd(TEXTS, dim=6, seed=0)
    exact = weights(TEXTS)
    assert ours.dtype == np.float32
    assert np.allclose(ours @ ours.T, exact @ exact.T, atol=1e-5)


def test_fewer_directions_are_those_of_the_singular_value_decomposition() -> None:
    ours = tfidf_svd(TEXTS, dim=2, seed=0)
    exact = weights(TEXTS)
    axes = np.linalg.svd(exact, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])[:, None]
    expected = exact @ axes.T
    assert np.allclose(ours, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)


def test_empty_text_is_zero_and_the_others_have_length_one() -> None:
    ours = tfidf_svd([*TEXTS, "", "!?"], dim=4, seed=0)
    assert np.linalg.norm(ours, axis=1) == pytest.approx([1] * 6 + [0] * 2, abs=1e-6)


def test_equal_texts_are_equal_vectors() -> None:
    ours = tfidf_svd([*TEXTS, "Red lipstick", "red LIPSTICK"], dim=4, seed=0)
    assert (ours[6] == ours[7]).all()
    assert (ours[6] == ours[1]).all()


def test_constant_texts_span_one_direction() -> None:
    ours = tfidf_svd(["nail polish"] * 5, dim=3, seed=0)
    assert np.allclose(ours, [[1, 0, 0]] * 5, atol=1e-6)


def test_fewer_terms_than_dimensions_leave_columns_of_zeros() -> None:
    assert np.allclose(tfidf_svd(["a", "a"], dim=3, seed=0), [[1, 0, 0]] * 2)
    ours = tfidf_svd(["a", "b"], dim=5, seed=0)
    assert ours.shape == (2, 5)
    assert np.allclose(ours @ ours.T, np.eye(2), atol=1e-6)
    assert not ours[:, 2:].any()


@pytest.mark.parametrize("texts", [["", " "], ["--"], []])
def test_no_word_at_all_gives_zeros(texts: list[str]) -> None:
    assert tfidf_svd(texts, dim=3, seed=0).tolist() == [[0.0] * 3] * len(texts)


def test_same_seed_gives_the_same_bytes() -> None:
    texts = [f"word{i % 17} word{i % 23} word{i % 5}" for i in range(200)]
    assert tfidf_svd(texts, dim=8, seed=3).tobytes() == tfidf_svd(texts, dim=8, seed=3).tobytes()
