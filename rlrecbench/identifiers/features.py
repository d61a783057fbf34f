"""Items to vectors: from their texts by TF-IDF or a sentence-transformers model, or from a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import Dataset
from rlrecbench.errors import DataError
from rlrecbench.identifiers.specs import check, model_folder, parse, resolved, source
from rlrecbench.identifiers.vectors import read_array, read_vectors
from rlrecbench.store import Report

if TYPE_CHECKING:
    import torch  # the command line checks suites without it

__all__ = ["check", "check_files", "duplicates", "embed", "parse", "resolved", "source"]

Floats = NDArray[np.float32]


def nameless(spec: str) -> str:
    """Return a spec without the path in it."""
    return {"file": "file:vectors.npy", "folder": "sentence-transformers:./model"}.get(parse(spec).kind, spec)


def embed(dataset: Dataset, spec: str, *, dim: int, seed: int, device: "torch.device", report: Report) -> Floats:
    """Turn items into vectors.

    Vectors from text have length 1, equal texts have equal vectors bit for bit, and items without text have zeros.
    Vectors from a file stay as they are.

    Args:
        dataset: The items, N of them.
        spec: A resolved features spec.
        dim: Width of ``tfidf-svd``; models and files have their own.
        seed: Seed of ``tfidf-svd``; nothing else here is random.
        device: Where a model computes.
        report: Receives progress.

    Returns:
        Vectors, [N, D].

    Raises:
        ConfigError: The model cannot be loaded.
        DataError: No item has any text, the file does not fit the data set, or a value is not finite.
    """
    ids = dataset.items["item_id"].astype(str).tolist()
    report(0, len(ids), "text features")
    if parse(spec).kind == "file":
        vectors = read_vectors(Path(parse(spec).what), ids, dataset.name)
    else:
        vectors = _from_texts(dataset, spec, dim, seed, device, report)
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise DataError(
            f"{spec}: the vectors of {len(bad)} of {len(ids)} items hold NaN or infinity, the first is that of item "
            f"{ids[bad[0]]!r}; all values must be finite in single precision"
        )
    report(len(ids), len(ids), "text features")
    return vectors


def _from_texts(dataset: Dataset, spec: str, dim: int, seed: int, device: "torch.device", report: Report) -> Floats:
    from rlrecbench.identifiers.text import texts_of, tfidf_svd  # scikit-learn takes a second to import

    texts = texts_of(dataset.items)
    if not any(t.strip() for t in texts):
        raise DataError(
            f"{dataset.name}: no item has any text, so no identifiers can be computed from it; use released ones "
            "(ids: {kind: released}), vectors from elsewhere (features: file:PATH.npy) or another data set"
        )
    kind, what, revision = parse(spec)
    if kind == "tfidf":
        return tfidf_svd(texts, dim=dim, seed=seed)
    from rlrecbench.identifiers.sentences import sentence_vectors  # torch

    return sentence_vectors(texts, what if kind == "hub" else model_folder(kind, what), revision, device, report)


def check_files(spec: str) -> None:
    """Look at the files behind a resolved spec, as far as that goes without the data set.

    Raises:
        ConfigError: A package is not installed or carries no model.
        DataError: A file or folder is missing, broken, or not what it should be.
    """
    source(spec)
    kind, what, _ = parse(spec)
    if kind == "file":
        read_array(Path(what))


def duplicates(vectors: NDArray[np.floating]) -> int:
    """Count the items whose vector another item has bit for bit: no quantiser can tell those apart.

    Args:
        vectors: Item features, [N, D].
    """
    rows = np.ascontiguousarray(vectors).view(np.uint8)
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    return int(counts[counts > 1].sum())
