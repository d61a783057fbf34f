"""S-DPO: the target against several random items under one softmax (Chen et al., 2024, arXiv 2406.09215).

With the gain g(y) = log pi(y | x) - log pi_ref(y | x), target w and negatives 1..K:

    loss = -log sigmoid(-log sum_k exp(beta (g(k) - g(w)))) = softplus(logsumexp_k beta (g(k) - g(w))),

the cross-entropy of w among {w, 1..K} with logits beta g. With one negative it is DPO.
Source: the public code's ``trainer/softmax_dpo_trainer.py`` and ``softmax_dpo.sh``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Count, Draw, FineTune, Positive, Step, Weight, method


@method("s-dpo", cite="chen2024sdpo")
@dataclass(frozen=True)
class SDPO(FineTune):
    """Softmax DPO: the target against several negatives under one softmax.

    Differs:
        - The code draws negatives from the 20 candidates in its prompt; here there is no such list, so they are
          uniform over the catalogue, without repetition, never from the history nor the target's leaf.
        - The code sums exponentials and takes the logarithm, which overflows; here it is one log-sum-exp.
        - The code's function has beta 0.1, its script 1; here it is 1.
        - Batch and learning rate are the script's, for a language model, while dpo has batches of 256; a small backbone
          may need a larger learning rate.
        - Flower's scripts train S-DPO with beta 0.3, lr 1e-6, one epoch and batches of one prompt; all of these can
          be set.
    """

    reference = "start"
    dropout = False  # trl's default: policy and reference then differ only by training
    budget = {
        "lr": 1e-5, "epochs": 3, "batch_size": 128, "warmup": 0.05, "clip": 0.3, "weight_decay": 0.0,
    }  # fmt: skip  # S-DPO's script

    beta: Positive = 1.0  # per nat of log-ratio; S-DPO's script
    negatives: Count = 3  # per prompt; S-DPO's script
    sft_weight: Weight = 0.0  # weight of the target's likelihood (nats per item) beside the preference; 0 as the paper

    def candidates(self, draw: Draw) -> Tensor:
        """Draw uniform negatives per prompt, once; never the target, its leaf or the history."""
        return draw.beside_target(draw.uniform(self.negatives))

    def loss(self, step: Step) -> Tensor:
        """Return the mean over the prompts; a prompt without negatives counts as 0."""
        margin = self.beta * (step.gain[:, :1] - step.gain[:, 1:])
        paired = step.present[:, 1:]
        step.log_preferences(margin, paired)
        against = (-margin).masked_fill(~paired, -torch.inf).logsumexp(1)
        return (softplus(against) - self.sft_weight * step.logp[:, 0]).mean()
