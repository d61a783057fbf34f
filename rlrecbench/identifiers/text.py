"""Item texts to vectors: TF-IDF and a truncated singular value decomposition."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no type information

Floats = NDArray[np.float32]


def texts_of(items: pd.DataFrame) -> list[str]:
    """All there is to say about each item, "" where there is nothing, [N]."""
    return items["text"].fillna("").astype(str).tolist()


def tfidf_svd(texts: Sequence[str], *, dim: int, seed: int) -> Floats:
    """Turn texts into unit vectors: TF-IDF of words and pairs of words, projected on ``dim`` directions.

    A text without a word is a zero vector, equal texts are equal vectors. Where the texts span fewer than
    ``dim`` directions the remaining columns are 0. Signs are fixed: each direction's largest entry over the
    terms is positive.

    Args:
        texts: One text per item, [N].
        dim: Width of the vectors.
        seed: Seed of the randomised decomposition; the same seed gives the same bytes on any number of cores.

    Returns:
        Vectors, [N, dim].
    """
    out = np.zeros((len(texts), dim), np.float32)
    if not len(texts):
        return out
    words = r"(?u)\b\w+\b"  # scikit-learn's own pattern drops words of one letter
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=words)
    try:
        weights = vectorizer.fit_transform(texts)  # [N, terms], sparse
    except ValueError:  # scikit-learn's "empty vocabulary": no text has a word
        return out
    width = min(dim, *weights.shape)
    with threadpool_limits(1):
        _, values, axes = randomized_svd(weights, width, n_iter=7, random_state=seed)  # [width], [width, terms]
        axes *= np.sign(axes[np.arange(width), np.abs(axes).argmax(1)])[:, None]
        axes = axes[values > 1e-6 * values[0]]
        vectors = weights @ axes.T
    vectors[weights.getnnz(1) == 0] = 0
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    out[:, : len(axes)] = vectors / np.where(norm > 1e-6, norm, 1)
    return out
