"""DPO: the target against one random item (Rafailov et al., 2023; as a recommender baseline, GFlowGR 4.2)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Draw, FineTune, Positive, Step, Weight, method


@method("dpo", cite="rafailov2023dpo")
@dataclass(frozen=True)
class DPO(FineTune):
    """Direct preference optimisation: -log sigmoid(beta (gain of the target - gain of the negative))."""

    reference = "start"
    dropout = False  # trl's default: policy and reference then differ only by training
    budget = {"lr": 1e-5, "epochs": 3, "warmup": 0.05}  # lr: S-DPO's and trl's order of magnitude

    beta: Positive = 0.1  # per nat of log-ratio; trl
    sft_weight: Weight = 0.0  # weight of the target's likelihood beside the preference; 0 as in the paper

    def candidates(self, draw: Draw) -> Tensor:
        """Draw one uniform negative per prompt, once; never the target, its leaf or the history."""
        return draw.beside_target(draw.uniform(1))

    def loss(self, step: Step) -> Tensor:
        """Return the mean over the prompts; a prompt without a negative counts as 0."""
        margin = self.beta * (step.gain[:, 0] - step.gain[:, 1])
        paired = step.present[:, 1]
        step.log(
            accuracy=(margin > 0)[paired].float().mean(),
            margin=margin[paired].mean(),
            chosen_drift=step.gain[:, 0].mean(),
            rejected_drift=step.gain[:, 1].mean(),
        )
        return (softplus(-margin) * paired - self.sft_weight * step.logp[:, 0]).mean()
