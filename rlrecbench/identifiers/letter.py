"""What LETTER adds to RQ-VAE: a contrast with collaborative embeddings, and one within clusters of codes.

    alignment = -mean_i log softmax_j(z_i . h_j)[i]      z: an item's summed codes, h: its collaborative embedding,
                                                         j over the items of the batch
    diversity = -mean_l mean_i log softmax_k(c_l[k_i] . c_l[k])[k+]
                                                         k over all codes of level l but k_i itself,
                                                         k+ a random other code of k_i's cluster

The first moves the encoder, the second the codebooks. Source: LETTER, section 3.2, equations 3 and 4, and its code.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlrecbench.identifiers.clusters import bounded
from rlrecbench.seeds import stream


def alignment(latent: Tensor, embeddings: Tensor) -> Tensor:
    """Contrast quantised latents with collaborative embeddings, both [B, E]: a scalar, nats."""
    return cross_entropy(latent @ embeddings.T, torch.arange(len(latent), device=latent.device))


def diversity(codebooks: Tensor, codes: Tensor, partners: Tensor) -> Tensor:
    """Contrast each item's codes with other codes of the same clusters: a scalar, nats.

    Args:
        codebooks: [L, K, E] with K > 1.
        codes: Code of each item at each level, [B, L].
        partners: Another code of the same cluster for each, [B, L].
    """
    logits = codebooks @ codebooks.transpose(1, 2)  # [L, K, K]
    itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    logp = logits.masked_fill(itself, -math.inf).log_softmax(2)
    level = torch.arange(len(codebooks), device=codes.device)
    return -logp[level, codes, partners].mean()


class Clusters:
    """Clusters of the codes of every level.

    Attributes:
        labels: Cluster of each code, [L, K].
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self._order = labels.argsort(dim=1, stable=True)  # codes, cluster by cluster
        counts = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.int64, device=labels.device)
        counts.scatter_add_(1, labels, torch.ones_like(labels))
        starts = counts.cumsum(1) - counts
        self._size, self._start = counts.gather(1, labels), starts.gather(1, labels)
        self._place = self._order.argsort(dim=1) - self._start

    @classmethod
    def of(cls, codebooks: Tensor, clusters: int, seed: int) -> "Clusters":
        """Cluster codes [L, K, E] level by level into clusters of bounded size.

        Every cluster has at least two codes. Bounds as in LETTER's code: at least K / 20 codes but no more than
        10, at most 60; where the codebook is too small or too large for that, as near as can be.
        """
        size = codebooks.shape[1]
        clusters = max(1, min(clusters, size // 2))
        low = min(max(2, min(size // 20, 10)), size // clusters)
        high = max(60, -(-size // clusters))
        labels = [
            bounded(codebook, clusters, low, min(high, size), stream(seed, "clusters", level))[1]
            if clusters > 1
            else np.zeros(size, np.int64)
            for level, codebook in enumerate(codebooks.detach().cpu().numpy())
        ]
        return cls(torch.from_numpy(np.stack(labels)).to(codebooks.device))

    def partners(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw another code of the same cluster for each, uniformly, [B, L] -> [B, L]."""
        level = torch.arange(len(self.labels), device=codes.device)
        size, start, place = (x[level, codes] for x in (self._size, self._start, self._place))
        share = torch.rand(codes.shape, generator=generator, dtype=torch.float64).to(codes.device)
        shift = 1 + (share * (size - 1)).long()
        return self._order[level, start + (place + shift) % size]
