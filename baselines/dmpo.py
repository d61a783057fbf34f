"""DMPO: the target against the mean of several random items (Bai et al., 2024, arXiv 2405.16127).

With the gain g(y) = log pi(y | x) - log pi_ref(y | x), target w and negatives 1..K:

    loss = -log sigmoid(beta (g(w) - 1/K sum_k g(k)))

With one negative it is DPO. Source of the values: Flower's scripts, which compare S-DPO, DMPO and RosePO alike.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Count, Draw, FineTune, Positive, Step, Weight, method


@method("dmpo", cite="bai2024dmpo")
@dataclass(frozen=True)
class DMPO(FineTune):
    """Direct multi-preference optimisation: the target's gain against the mean gain of several negatives.

    Differs:
        - The paper averages over the negatives; Flower's code sums the K margins, which is the paper's loss with K
          times the beta. ``reduction: sum`` gives it.
        - The authors' own code has only pairs and drops the reference; it is not followed.
        - Flower's code takes the logarithm of an exponential, which overflows; here the margin stays linear.
        - Flower allows negatives from the history; here they are never from it nor the target's leaf.
        - Flower trains one epoch at lr 1e-6 with batches of one prompt; the budget here is that of dpo.
    """

    reference = "start"
    dropout = False  # trl's default: policy and reference then differ only by training
    budget = {"lr": 1e-5, "epochs": 3, "warmup": 0.05}  # as dpo

    beta: Positive = 0.3  # per nat of log-ratio; Flower's script
    negatives: Count = 3  # per prompt; Flower's data
    reduction: Literal["mean", "sum"] = "mean"  # over the negatives: mean as the paper, sum as Flower's code
    sft_weight: Weight = 0.0  # weight of the target's likelihood (nats per item) beside the preference; ours, off

    def candidates(self, draw: Draw) -> Tensor:
        """Draw uniform negatives per prompt, once; never the target, its leaf or the history."""
        return draw.beside_target(draw.uniform(self.negatives))

    def loss(self, step: Step) -> Tensor:
        """Return the mean over the prompts; a prompt without negatives counts as 0."""
        paired = step.present[:, 1:]
        margin = (self.beta * (step.gain[:, :1] - step.gain[:, 1:]) * paired).sum(1)
        if self.reduction == "mean":
            margin = margin / paired.sum(1).clamp(min=1)
        there = paired.any(1)
        step.log_preferences(margin[:, None], there[:, None])
        return (softplus(-margin) * there - self.sft_weight * step.logp[:, 0]).mean()
