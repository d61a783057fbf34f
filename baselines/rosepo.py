"""RosePO: DPO whose labels are softened prompt by prompt (Liao et al., 2024, arXiv 2410.12519).

With m = beta (g(target) - g(negative)), g the log-ratio to the frozen start policy:

    loss = -(1 - eps) log sigmoid(m) - eps log sigmoid(-m),
    eps = min(smoothing, sigmoid((s(negative) - s(target)) / oracle_temperature))

where s is the score of a frozen recommender, the preference oracle: the more the oracle likes the negative, the less
the pair is trusted. The negative is a popular item, an error of the model itself, or an item whose text is close to
the history's.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Count, Draw, Drawn, FineTune, Positive, Step, Weight, method


@method("rosepo", cite="liao2024rosepo")
@dataclass(frozen=True)
class RosePO(FineTune):
    """Smoothed personalised preference optimisation; without smoothing, DPO against a popular item.

    Differs:
        - The default is Flower's baseline, which has no smoothing; ``smoothing`` above 0 turns it on.
        - The paper has a frozen recommender predict eps; here that is the suite's collaborative model, and the form
          of eps is ours.
        - Flower excludes only the target; here the history and the target's leaf are excluded, too.
        - The model's own error is the best wrong item of a beam search of the start policy, drawn once.
        - Flower trains one epoch at lr 1e-6 with batches of one prompt; the budget here is that of dpo.
    """

    reference = "start"
    dropout = False  # trl's default: policy and reference then differ only by training
    budget = {"lr": 1e-5, "epochs": 3, "warmup": 0.05}  # as dpo

    beta: Positive = 0.3  # per nat of log-ratio; Flower's script
    negatives: Literal["popular", "self-hard", "similar"] = "popular"  # kind of the rejected item; Flower's notebook
    smoothing: Annotated[float, Interval(ge=0, le=0.5)] = 0.0  # upper bound of eps; 0 (no oracle) as Flower's code
    oracle_temperature: Positive = 1.0  # units of the collaborative score; ours
    beams: Count = 20  # width of the search for the model's own errors; ours
    nearest: Count = 100  # items closest to the history's text that a similar negative is drawn from; ours
    sft_weight: Weight = 0.0  # weight of the target's likelihood (nats per item) beside the preference; ours, off

    @property
    def needs(self) -> frozenset[str]:
        """Collaborative scores for the oracle, texts for similar negatives."""
        wanted = {"collab": self.smoothing > 0, "text": self.negatives == "similar"}
        return frozenset(name for name, read in wanted.items() if read)

    def candidates(self, draw: Draw) -> Drawn:
        """Draw one negative per prompt, once, and the share eps by which the oracle doubts the pair, [B]."""
        if self.negatives == "popular":
            rejected = draw.popular(1, draw.frequency)
        elif self.negatives == "self-hard":
            rejected = draw.mistakes(1, self.beams)
        else:
            rejected = draw.similar(1, self.nearest)
        items = draw.beside_target(rejected)
        eps = torch.zeros(len(items), device=items.device)
        if self.smoothing:
            likes = draw.collab(items)
            eps = ((likes[:, 1] - likes[:, 0]) / self.oracle_temperature).sigmoid().clamp(max=self.smoothing)
        return Drawn(items, extra={"eps": eps})

    def loss(self, step: Step) -> Tensor:
        """Return the mean over the prompts; a prompt without a negative counts as 0."""
        margin = self.beta * (step.gain[:, 0] - step.gain[:, 1])
        paired, eps = step.present[:, 1], step.extra["eps"]
        step.log_preferences(margin[:, None], paired[:, None])
        step.log(eps=eps[paired].mean())
        smoothed = (1 - eps) * softplus(-margin) + eps * softplus(margin)
        return (smoothed * paired - self.sft_weight * step.logp[:, 0]).mean()
