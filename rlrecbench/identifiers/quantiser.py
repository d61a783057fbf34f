"""The network of RQ-VAE: encoder, residual codebooks, decoder, and its two losses.

With residuals r_0 = E(x) and, level by level, the nearest code q_l of r_{l-1}, r_l = r_{l-1} - q_l:

    reconstruction = mean (D(sum_l q_l) - x)^2
    quantisation   = mean_l [ mean (sg[r_{l-1}] - q_l)^2 + commitment * mean (r_{l-1} - sg[q_l])^2 ]

means over batch and dimensions, sg the stopped gradient. Source: TIGER, section 3.1; scale of the terms as in
the code of LC-Rec and LETTER.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, mse_loss

from rlrecbench.identifiers.sinkhorn import assign

StraightThrough = Literal["level", "sum"]


class Quantisation(NamedTuple):
    """What becomes of a batch of latents.

    Attributes:
        codes: Code of each item at each level, [B, L].
        latent: Sum of the codes' vectors, with the gradient passed on to the encoder, [B, E].
        loss: The quantisation loss, a scalar.
    """

    codes: Tensor
    latent: Tensor
    loss: Tensor


class Quantiser(nn.Module):
    """Encoder, L codebooks of K vectors, decoder.

    Args:
        layers: Widths of the encoder from the features' D to the codes' E; the decoder mirrors them.
        levels: Number of levels L.
        codes: Codebook size K.
        commitment: Weight of the encoder's side of the quantisation loss.
        straight_through: "level": each level's code takes the gradient of its residual before the next residual is
            made, so that only the first level's commitment reaches the encoder (LC-Rec, LETTER). "sum": residuals
            are made of the codes themselves and only their sum passes the gradient on.
        batch_norm: Normalise the hidden layers over the batch.
    """

    codebooks: nn.Parameter  # [L, K, E]

    def __init__(
        self,
        layers: tuple[int, ...],
        levels: int,
        codes: int,
        *,
        commitment: float,
        straight_through: StraightThrough,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.encoder = _stack(layers, batch_norm)
        self.decoder = _stack(layers[::-1], batch_norm)
        self.codebooks = nn.Parameter(torch.zeros(levels, codes, layers[-1]))
        self.commitment = commitment
        self.straight_through = straight_through

    def quantise(self, latent: Tensor, epsilon: float = 0.0) -> Quantisation:
        """Quantise latents [B, E], at the last level with a uniform mapping where epsilon is above 0."""
        residual, total, loss = latent, torch.zeros_like(latent), latent.new_zeros(())
        chosen = []
        for level, codebook in enumerate(self.codebooks):
            last = level + 1 == len(self.codebooks)
            codes = nearest(residual, codebook, epsilon if last else 0.0)
            code = embedding(codes, codebook)
            loss = loss + mse_loss(code, residual.detach()) + self.commitment * mse_loss(residual, code.detach())
            if self.straight_through == "level":
                code = residual + (code - residual).detach()
            residual, total = residual - code, total + code
            chosen.append(codes)
        if self.straight_through == "sum":
            total = latent + (total - latent).detach()
        return Quantisation(torch.stack(chosen, 1), total, loss / len(self.codebooks))


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor, epsilon: float = 0.0) -> Tensor:
    """Choose a code for each vector, [B, E] and [K, E] -> [B].

    The nearest one, the first of several; with epsilon above 0 the one that Sinkhorn's uniform mapping gives.
    """
    distance = squared_distances(vectors, codebook)
    return assign(distance, epsilon) if epsilon > 0 else distance.argmin(1)


def squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distances, [B, E] and [K, E] -> [B, K]."""
    return vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)


def _stack(widths: tuple[int, ...], batch_norm: bool) -> nn.Sequential:
    """Linear layers with ReLU between them and none at the end; Xavier-normal weights, biases 0."""
    stack: list[nn.Module] = []
    for at, (into, out) in enumerate(pairwise(widths)):
        linear = nn.Linear(into, out)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        stack.append(linear)
        if at + 2 < len(widths):
            stack += [nn.BatchNorm1d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*stack)
