"""IFairLRS: cross-entropy whose rows are weighted by popularity group (Jiang et al., 2024, arXiv 2402.15215).

With g(n) the group of row n's target, GH(g) the share of the group in the training histories and GT(g) its share
among the training targets:

    loss = mean_n w_{g(n)} CE_n,    w_g = GH(g) / GT(g)

so a group that is a target more often than it stands in histories counts less; over the training rows of a data set
whose every group is a target, the mean weight is 1. Source: the public code's ``finetune_gen_weight_popularity.py``
and that of Flower's baseline, ``item_side_reweight.py``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlrecbench.api import Dataset, Draw, Drawn, FineTune, Step, method


@method("ifairlrs", cite="jiang2024ifairlrs")
@dataclass(frozen=True)
class IFairLRS(FineTune):
    """Supervised fine-tuning on rows that are weighted by the popularity group of their target.

    Differs:
        - Both public codes average the cross-entropy over the micro-batch before they multiply it with the weights, so
          only the batch's mean weight acts; ``reduction: batch`` gives that, over the whole batch, not over eight rows.
        - Both average over every position, padding included, which makes Flower's loss some ten times smaller; AdamW's
          step ignores that (a clipped gradient does not).
        - Groups are the eight of the fairness metrics, as in Flower's baseline; the paper has five, or genres.
        - A group that is no training target has weight 1, and where the data has no histories at all every group has.
        - The public codes select the checkpoint by the loss on validation, Flower's by the weighted one; here it is
          ndcg@10, as for all methods.
        - The paper's second part, re-ranking by the groups' exposure, is in neither code and not here.
    """

    start = "base"
    reduction: Literal["row", "batch"] = "row"  # weight each row, as the paper; batch: all rows alike, public code

    @property
    def redraw(self) -> int | None:
        """At every step where the weight is that of the batch; else a row's weight never changes."""
        return 0 if self.reduction == "batch" else None

    def fit(self, data: Dataset) -> Tensor:
        """Compute the weight of each item as a target, [N]."""
        group = torch.as_tensor(data.groups)
        target = torch.as_tensor(data.train.target).bincount(minlength=data.n_items)
        return group_weights(group, torch.as_tensor(data.frequency), target)[group]

    def candidates(self, draw: Draw) -> Drawn:
        """Take the target alone and the weight of its row, or of all the batch's rows, [B]."""
        weight = draw.fitted.to(draw.target.device)[draw.target]
        if self.reduction == "batch":
            weight = weight.mean().expand_as(weight)
        return Drawn(draw.beside_target(), extra={"weight": weight})

    def loss(self, step: Step) -> Tensor:
        """Return the weighted mean of the targets' cross-entropies, each a mean over the target's tokens."""
        nll = -step.tokens.vocab[:, 0].sum(-1) / step.lengths[:, 0]
        weight = step.extra["weight"]
        step.log(nll=nll.mean(), weight=weight.mean())
        return (weight * nll).mean()


def group_weights(group: Tensor, history: Tensor, target: Tensor) -> Tensor:
    """Divide each group's share of the training histories by its share of the training targets, [G].

    Args:
        group: Group of each item, [N].
        history: Occurrences of each item in the training histories, [N].
        target: How often each item is a training target, [N].
    """
    total = torch.zeros(2, int(group.max()) + 1, dtype=torch.float64)
    total.index_add_(1, group, torch.stack([history, target]).double())
    if not total[0].any():
        return torch.ones_like(total[0], dtype=torch.float32)
    shares = total / total.sum(1, keepdim=True)
    return torch.where(total[1] > 0, shares[0] / shares[1], 1.0).float()
