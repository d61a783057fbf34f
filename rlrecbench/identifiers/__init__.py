"""Semantic identifiers: items to codes, by residual k-means over their text or as others released them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlrecbench.config import Count, Size
from rlrecbench.data.frame import Dataset
from rlrecbench.errors import DataError
from rlrecbench.identifiers import released
from rlrecbench.identifiers.codes import Identifiers, deduplicated
from rlrecbench.identifiers.released import released_checksum
from rlrecbench.store import Report

__all__ = ["IdSettings", "Identifiers", "deduplicated", "identify", "released_checksum"]


@dataclass(frozen=True)
class IdSettings:
    """How items get their codes."""

    kind: Literal["rkmeans", "released"] = "rkmeans"  # computed from item text, or LETTER's released index
    levels: Count = 3  # codes per item before the collision code, rkmeans; TIGER
    codes: Count = 256  # codebook size of a level; TIGER, LETTER
    dim: Count = 64  # width of the text features, rkmeans; GRID's latent width
    dedup: bool = True  # append a collision code, rkmeans (TIGER); released codes stay as released
    features: Literal["tfidf-svd"] = "tfidf-svd"  # text features, rkmeans
    seed: Size = 42  # of the features and of k-means; identifiers are the same for all seeds of a suite


def identify(dataset: Dataset, settings: IdSettings, seed: int, dirs: Sequence[Path], report: Report) -> Identifiers:
    """Give every item its codes.

    Args:
        dataset: The items.
        settings: How.
        seed: Seed of the features and of k-means; released codes need none.
        dirs: Data folders: NAME's files are in the folder NAME of one of them, first match first.
        report: Receives progress in levels.

    Returns:
        The codes of items 0..N-1.

    Raises:
        DataError: No item has any text (rkmeans), or the released index is missing or broken (released).
    """
    if settings.kind == "released":
        path = released.find(dataset.name, [d / dataset.name for d in dirs])
        return released.read(path, dataset.items["item_id"].astype(str).tolist(), settings.codes)
    return _computed(dataset, settings, seed, report)


def _computed(dataset: Dataset, settings: IdSettings, seed: int, report: Report) -> Identifiers:
    """Cluster the items' texts."""
    from rlrecbench.identifiers.rkmeans import residual_kmeans  # scikit-learn takes a second to import
    from rlrecbench.identifiers.text import texts_of, tfidf_svd

    texts = texts_of(dataset.items)
    if not any(t.strip() for t in texts):
        raise DataError(
            f"{dataset.name}: no item has any text, so no identifiers can be computed from it; "
            "use released ones (ids: {kind: released}) or another data set"
        )
    report(0, settings.levels + 1, "text features")
    features = tfidf_svd(texts, dim=settings.dim, seed=seed)
    ids = residual_kmeans(features, settings.levels, settings.codes, seed, report)
    report(settings.levels + 1, settings.levels + 1, "")
    return deduplicated(ids) if settings.dedup else ids
