"""DPO: the target against one random item (Rafailov et al., 2023, eq. 7; as a recommender baseline, GFlowGR 4.2).

With the gain g(y) = log pi(y | x) - log pi_ref(y | x) of an item y over the frozen start policy:

    loss = -log sigmoid(beta (g(target) - g(negative)))
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Draw, FineTune, Positive, Step, Weight, method


@method("dpo", cite="rafailov2023dpo")
@dataclass(frozen=True)
class DPO(FineTune):
    """Direct preference optimisation: -log sigmoid(beta (gain of the target - gain of the negative)).

    Differs:
        - GFlowGR only says that rejected items are random and fixed; here one is drawn uniformly per training pair,
          never from the history nor the target's leaf.
        - S-DPO's DPO baseline makes three pairs of each example; here there is one.
        - To fit a distribution (Flower, section 4.2) ``negatives: rarer`` rejects an item that is less frequent than
          the target, as the public code does. It chooses titles uniformly; here the target is the training row's, so
          it comes in proportion to its frequency.
        - trl's learning rate is 1e-6, made for language models; S-DPO's baseline takes 1e-5, and so does this.
    """

    reference = "start"
    dropout = False  # trl's default: policy and reference then differ only by training
    budget = {"lr": 1e-5, "epochs": 3, "warmup": 0.05}  # S-DPO's scripts

    beta: Positive = 0.1  # per nat of log-ratio; trl
    negatives: Literal["uniform", "rarer"] = "uniform"  # of all items, or of those less frequent; GFlowGR, Flower's RQ1
    sft_weight: Weight = 0.0  # weight of the target's likelihood (nats per item) beside the preference; 0 as the paper

    def candidates(self, draw: Draw) -> Tensor:
        """Draw one negative per prompt, once; never the target, its leaf or the history."""
        return draw.beside_target(draw.rarer(1) if self.negatives == "rarer" else draw.uniform(1))

    def loss(self, step: Step) -> Tensor:
        """Return the mean over the prompts; a prompt without a negative counts as 0."""
        margin = self.beta * (step.gain[:, 0] - step.gain[:, 1])
        paired = step.present[:, 1]
        step.log_preferences(margin[:, None], paired[:, None])
        return (softplus(-margin) * paired - self.sft_weight * step.logp[:, 0]).mean()
