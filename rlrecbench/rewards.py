"""Rewards: what a candidate item is worth for a prompt, [B, C]. No gradient flows through them."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlrecbench.method import Draw
from rlrecbench.registry import Registry

Reward = Callable[[Draw, Tensor], Tensor]
rewards: Registry[Reward] = Registry("reward")
reward = rewards.register


@reward("hit")
def hit(draw: Draw, items: Tensor) -> Tensor:
    """1 for the target, 0 for any other item."""
    return (items == draw.target[:, None]).float()


@reward("collab-sigmoid", cite="gflowgr")
def collab_sigmoid(draw: Draw, items: Tensor) -> Tensor:
    """Sigmoid of the collaborative score, in (0, 1)."""
    return torch.where(items < 0, 0.0, draw.collab(items).sigmoid())


@reward("collab-minmax")
def collab_minmax(draw: Draw, items: Tensor) -> Tensor:
    """Collaborative score scaled to [0, 1] by the lowest and highest score of the catalogue for the prompt."""
    everything = draw.collab_all()
    low, high = everything.amin(1, keepdim=True), everything.amax(1, keepdim=True)
    scaled = (draw.collab(items) - low) / (high - low).clamp(min=1e-12)
    return torch.where(items < 0, 0.0, scaled)


@reward("collab-rank")
def collab_rank(draw: Draw, items: Tensor) -> Tensor:
    """Share of the catalogue whose collaborative score is lower, in [0, 1)."""
    everything = draw.collab_all().sort(1).values
    below = torch.searchsorted(everything, draw.collab(items).contiguous())
    return torch.where(items < 0, 0.0, below / everything.shape[1])


@reward("token-overlap", cite="gflowgr")
def token_overlap(draw: Draw, items: Tensor) -> Tensor:
    """Number of positions at which the item's path has the target's token.

    Collision codes do not count: nearly all of them are 0, so they would reward unrelated items.
    """
    paths = draw.catalogue.tensors(items.device).paths[:, : draw.catalogue.content]
    ours, theirs = paths[items.clamp(min=0)], paths[draw.target][:, None]
    same = ((ours == theirs) & (ours >= 0)).sum(-1).float()
    return torch.where(items < 0, 0.0, same)


@reward("inverse-popularity")
def inverse_popularity(draw: Draw, items: Tensor) -> Tensor:
    """Share of the most popular item's interactions that the item lacks, in [0, 1]."""
    most = draw.popularity.max().clamp(min=1)
    return torch.where(items < 0, 0.0, 1 - draw.popularity[items.clamp(min=0)] / most)
