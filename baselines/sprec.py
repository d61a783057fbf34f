"""SPRec: self-play against the model's own errors (Gao et al., 2024, arXiv 2412.09243).

A round is two epochs over the same random subset of the training pairs. Before it, the model's best wrong item is found
for each pair. The first epoch is supervised, the second is DPO with the model after the first as the reference:

    even epochs: loss = -log pi(target), nats per token
    odd epochs:  loss = -log sigmoid(beta (g(target) - g(wrong item))),    g = log pi - log pi_ref

Source: the public code's ``shell/SPRec.sh``, ``train/data_generate.py``, ``train/sft.py`` and ``train/dpo.py``.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Count, Draw, FineTune, Positive, Step, method


@method("sprec", cite="gao2024sprec")
@dataclass(frozen=True)
class SPRec(FineTune):
    """Self-play in rounds: an epoch of SFT on the targets, then one of DPO against the model's own errors.

    Differs:
        - The code starts a new optimiser, schedule and warm-up for every pass; here one optimiser and one schedule run
          through all rounds.
        - The code keeps pairs whose generated item is the target, without gradient; here the next best beam is taken,
          never the target, an item of its leaf, or one of the history.
        - The code decodes greedily; here the wrong item is the best of a beam search (``beams``: 1 is greedy, and pairs
          it answers rightly then have no preference).
        - The code draws 2,048 pairs a round; here a round visits a fifth of the training pairs (``epoch_share``).
        - The model that is kept is the best on the validation part among those after each round
          (``eval_every: 1``: after each pass).
        - Dropout is off in both passes, as trl has it for DPO; the code's SFT pass has it on.
        - The learning rate is for language models; a small backbone may need more.
        - An odd number of epochs ends with an SFT pass.
    """

    redraw = 2
    reference = 1
    budget = {
        "epochs": 10, "epoch_share": 0.2, "batch_size": 128, "lr": 2e-5, "weight_decay": 0.0, "schedule": "linear",
        "warmup": 0.01, "eval_every": 2,
    }  # fmt: skip  # SPRec's script: 5 rounds, 20 warm-up steps; the share is ours

    beta: Positive = 0.1  # per nat of log-ratio; SPRec's script
    dropout: bool = False  # in both passes; trl's default for DPO: policy and reference then differ only by training
    beams: Count = 20  # width of the search for the wrong item; ours
    reduction: Literal["token", "item"] = "token"  # of the SFT pass: mean over tokens as LETTER's code, or sum

    def candidates(self, draw: Draw) -> Tensor:
        """Put the model's best wrong item beside the target, once a round, before its SFT pass."""
        return draw.beside_target(draw.mistakes(1, self.beams))

    def loss(self, step: Step) -> Tensor:
        """Return the pass's loss; in the DPO pass a prompt without a wrong item counts as 0."""
        paired = step.present[:, 1]
        step.log(mistaken=paired.float().mean())
        if step.epoch % 2 == 0:
            return step.nll(self.reduction)
        margin = self.beta * (step.gain[:, 0] - step.gain[:, 1])
        step.log_preferences(margin[:, None], paired[:, None])
        return (softplus(-margin) * paired).mean()
