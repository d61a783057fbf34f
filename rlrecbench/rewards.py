"""Rewards: what a candidate item is worth for a prompt, [B, C]. No gradient flows through them."""

from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, cast

import torch
from annotated_types import MinLen
from pydantic import AfterValidator
from torch import Tensor

from rlrecbench.errors import UnknownNameError
from rlrecbench.method import Draw
from rlrecbench.registry import Registry

Function = Callable[[Draw, Tensor], Tensor]
_GROUPS = 8  # popularity groups; Flower, section 4.1


class Reward(Protocol):
    """A registered function of a draw and its candidates.

    Attributes:
        needs: What it reads of the draw: "collab", "text".
    """

    needs: frozenset[str]

    def __call__(self, draw: Draw, items: Tensor) -> Tensor:
        """Return the rewards of candidates [B, C]; 0 where one is absent."""
        ...


rewards: Registry[Reward] = Registry("reward")


def reward(name: str, *, cite: str = "", needs: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as a reward.

    Args:
        name: What a suite writes.
        cite: Citation key.
        needs: "collab" if it reads collaborative scores, "text" if it reads texts.
    """

    def add(function: Function) -> Function:
        value = cast(Reward, function)
        value.needs = frozenset(needs)
        rewards.register(name, cite=cite)(value)
        return function

    return add


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            rewards.entry(name)
        except UnknownNameError as e:
            raise ValueError(str(e)) from e
    return names


RewardNames = Annotated[tuple[str, ...], MinLen(1), AfterValidator(_known)]


def total_reward(names: Iterable[str], draw: Draw, items: Tensor) -> Tensor:
    """Sum registered rewards of candidates: [B, C]."""
    return torch.stack([rewards[name](draw, items) for name in names]).sum(0)


def needs_of(names: Iterable[str]) -> frozenset[str]:
    """Return what some registered rewards read of the draw."""
    return frozenset[str]().union(*(rewards[name].needs for name in names))


@reward("hit")
def hit(draw: Draw, items: Tensor) -> Tensor:
    """1 for the target, 0 for any other item, others on its leaf included."""
    return (items == draw.target[:, None]).float()


@reward("collab-sigmoid", cite="gflowgr", needs={"collab"})
def collab_sigmoid(draw: Draw, items: Tensor) -> Tensor:
    """Sigmoid of the collaborative score, in (0, 1)."""
    return torch.where(items < 0, 0.0, draw.collab(items).sigmoid())


@reward("collab-minmax", needs={"collab"})
def collab_minmax(draw: Draw, items: Tensor) -> Tensor:
    """Collaborative score scaled to [0, 1] by the lowest and highest score of the catalogue for the prompt."""
    everything = draw.collab_all()
    low, high = everything.amin(1, keepdim=True), everything.amax(1, keepdim=True)
    scaled = (draw.collab(items) - low) / (high - low).clamp(min=1e-12)
    return torch.where(items < 0, 0.0, scaled)


@reward("collab-rank", needs={"collab"})
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


@reward("frequency", cite="flower")
def frequency(draw: Draw, items: Tensor) -> Tensor:
    """Occurrences in the training histories, scaled to [0, 1] by the rarest and the most frequent item.

    Where all items are equally frequent, all get 0.

    Source: the reward of Flower's PPO when it fits a distribution (RQ1).
    """
    low, high = draw.frequency.min(), draw.frequency.max()
    scaled = (draw.frequency - low) / (high - low).clamp(min=1)
    return torch.where(items < 0, 0.0, scaled[items.clamp(min=0)].float())


@reward("rank-shaped", cite="minionerec")
def rank_shaped(draw: Draw, items: Tensor) -> Tensor:
    """Penalty for an item that stands high in a list beside the target, in [-1, 0].

    In a row that contains the target, the item at place i (from 0) of G gets
    -(1 / log2(i + 2)) / sum_{j < G} 1 / log2(j + 2), the target 0; in any other row all get 0. Absent items
    take no place and do not count in G.

    Source: MiniOneRec's ranking reward.
    """
    there = items >= 0
    place = there.cumsum(1) - 1
    gain = torch.where(there, 1 / torch.log2(place.clamp(min=0) + 2), 0.0)
    share = gain / gain.sum(1, keepdim=True).clamp(min=1e-12)
    target = items == draw.target[:, None]
    return torch.where(there & ~target & target.any(1, keepdim=True), -share, 0.0)


@reward("group-balanced")
def group_balanced(draw: Draw, items: Tensor) -> Tensor:
    """Share of the rarest popularity group over that of the item's group, in (0, 1].

    A group's share is its part of all occurrences in the training histories, so a recommender that follows
    the training distribution earns the same from each of the eight groups. Groups are cut as the fairness
    metrics cut them: the items that occur, by descending frequency, in equal parts; items that never occur
    join the last group. A group without any occurrence earns 1, as the rarest does.
    """
    frequency = draw.frequency
    order = frequency.argsort(descending=True, stable=True)
    occurring = int((frequency > 0).sum())
    group = torch.full_like(order, _GROUPS - 1)
    size, rest = divmod(occurring, _GROUPS)
    sizes = size + (torch.arange(_GROUPS, device=order.device) < rest).long()
    group[order[:occurring]] = torch.arange(_GROUPS, device=order.device).repeat_interleave(sizes)
    total = torch.zeros(_GROUPS, dtype=torch.float64, device=order.device).index_add(0, group, frequency.double())
    rarest = torch.where(total > 0, total, torch.inf).min()
    worth = torch.where(total > 0, rarest / total, 1.0).float()
    return torch.where(items < 0, 0.0, worth[group[items.clamp(min=0)]])
