"""Semantic identifiers: items to codes, computed from text, trained here, or as others published them.

An index is made once and published; nothing that reads it computes it again.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlrecbench.identifiers.codes import Identifiers, deduplicated
from rlrecbench.identifiers.settings import (
    AnyIds,
    CodeIds,
    FileIds,
    IdSettings,
    LetterIds,
    Quantised,
    ReleasedIds,
    RKMeansIds,
    RQVAEIds,
    TitleIds,
    id_settings,
    or_kind,
    portable_ids,
)
from rlrecbench.store import Report, silent

if TYPE_CHECKING:
    from torch import Tensor, device

    from rlrecbench.identifiers.titles import Titles

__all__ = [
    "AnyIds",
    "CodeIds",
    "FileIds",
    "IdSettings",
    "Identifiers",
    "LetterIds",
    "Quantised",
    "RKMeansIds",
    "RQVAEIds",
    "ReleasedIds",
    "TitleIds",
    "deduplicated",
    "id_settings",
    "identify",
    "or_kind",
    "portable_ids",
    "read",
]


def read(folder: Path) -> "Identifiers | Titles":
    """Read published identifiers, codes or titles.

    Raises:
        StoreError: A file is missing or broken.
    """
    if not (folder / "titles.json").is_file():
        return Identifiers.read(folder)
    from rlrecbench.identifiers.titles import Titles

    return Titles.read(folder)


def identify(
    features: NDArray[np.float32],
    settings: RKMeansIds | Quantised,
    embeddings: "Tensor | None" = None,
    *,
    folder: Path | None = None,
    device: "device | str" = "cpu",
    report: Report = silent,
) -> Identifiers:
    """Compute identifiers from the items' features; equal features give equal codes, the collision code apart.

    Args:
        features: One vector per item, [N, D].
        settings: How.
        embeddings: Collaborative embeddings, [N, latent]; for LETTER's alignment.
        folder: Where a trained quantiser (``model.safetensors``) and its log (``training.jsonl``) are written, and
            a checkpoint meanwhile.
        device: Where to compute.
        report: Receives progress.

    Returns:
        Codes of items 0..N-1.

    Raises:
        BenchError: The loss of a trained quantiser is no longer a number.
    """
    if isinstance(settings, RKMeansIds):
        from rlrecbench.identifiers.rkmeans import residual_kmeans  # scikit-learn takes a second to import

        ids = residual_kmeans(features, settings.levels, settings.codes, settings.seed, report)
    else:
        from rlrecbench.identifiers import rqvae

        made = rqvae.train(features, settings, embeddings, folder=folder, device=device, report=report)
        if folder is not None:
            rqvae.write(made, folder)
        ids = Identifiers(made.codes, (settings.codes,) * settings.levels)
    return deduplicated(ids) if settings.dedup else ids
