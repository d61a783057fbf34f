"""IPA: iterative preference alignment of OneRec (Deng et al., 2025, arXiv 2502.18965, section 3.3).

Every ``refresh`` epochs a share of the prompts is drawn, the model searches beams for them, and a reward model, here
the collaborative model, names the best and the worst beam. Training continues on all prompts:

    loss = L_NTP + preference_weight * L_DPO,
    L_DPO = -log sigmoid(beta (g(winner) - g(loser))),    g = log pi - log pi_ref

with the model that searched the beams as the reference.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench.api import Count, Draw, Drawn, FineTune, Positive, Step, Weight, method


@method("ipa", cite="deng2025onerec")
@dataclass(frozen=True)
class IPA(FineTune):
    """Iterative preference alignment: next-token loss, and DPO between the best and the worst own beam.

    Differs:
        - OneRec's reward model predicts watching and liking of whole sessions; here the reward is the collaborative
          score of an item, as GFlowGR's baseline (its section 4.2).
        - Each pair is part of its own prompt's loss, so L_DPO weighs share * preference_weight in expectation.
          ``preference_mean: pairs`` divides the sum over the pairs by share times the prompts, in expectation a mean
          over the pairs: the share then decides cost and noise, and a pair weighs 1 / share examples.
        - OneRec does not speak of items seen before; here a beam of the history can lose but not win.
        - Dropout is off, for L_NTP too; ``dropout: true`` trains with it.
        - A beam stands for one item of its leaf, drawn at random.
        - OneRec searches 128 beams for each new model; here 20, once every ``refresh`` epochs.
        - The target may win or lose like any other beam; ``winner: target`` makes it the winner.
        - A prompt whose winner and loser share a leaf, or whose search finds one beam only, has no pair.
        - OneRec trains with Adam at lr 2e-4; here it is AdamW at 1e-4.
    """

    rollouts = True
    needs = frozenset({"collab"})
    budget = {
        "lr": 1e-4, "epochs": 3, "batch_size": 256, "schedule": "constant", "weight_decay": 0.0,
    }  # fmt: skip  # ours: three refreshes

    refresh: Count = 1  # epochs between new beams and a new reference; ours
    beams: Count = 20  # width of the search; ours, OneRec has 128
    share: Annotated[float, Interval(gt=0, le=1)] = 0.01  # of the prompts that are searched, at random; OneRec's r_DPO
    winner: Literal["best", "target"] = "best"  # highest collaborative score (OneRec), or the target
    preference_weight: Weight = 1.0  # weight of L_DPO; not in the paper
    preference_mean: Literal["prompts", "pairs"] = "prompts"  # L_DPO within its prompt's loss, or over share; ours
    dropout: bool = False  # trl's default for DPO: policy and reference then differ only by training
    beta: Positive = 0.1  # per nat of log-ratio; trl, not in the paper
    reduction: Literal["token", "item"] = "token"  # of L_NTP: mean over tokens as LETTER's code, or sum

    @property
    def redraw(self) -> int:
        """Beams are searched every ``refresh`` epochs."""
        return self.refresh

    @property
    def reference(self) -> int:
        """The reference is the model that searched the beams."""
        return self.refresh

    def candidates(self, draw: Draw) -> Drawn:
        """Return target, winner and loser, [B, 3]; the last two are -1 where there is no pair."""
        searched = torch.rand(len(draw.target), generator=draw.generator, device=draw.target.device) < self.share
        found = draw.beams(self.beams, where=searched)
        score, missing = draw.collab(found), found < 0
        seen = missing | (found[:, :, None] == draw.history[:, None, :]).any(2)
        best = found.gather(1, score.masked_fill(seen, -torch.inf).argmax(1, keepdim=True))
        loser = found.gather(1, score.masked_fill(missing, torch.inf).argmin(1, keepdim=True))
        winner = best if self.winner == "best" else draw.target[:, None]
        leaf = draw.catalogue.tensors(found.device).leaf_of
        winnable = (~seen).any(1, keepdim=True) | (self.winner == "target")
        pair = searched[:, None] & winnable & (loser >= 0) & (leaf[winner.clamp(min=0)] != leaf[loser.clamp(min=0)])
        items = draw.beside_target(torch.where(pair, torch.cat([winner, loser], 1), -1))
        likes = draw.collab(items)
        return Drawn(items, extra={"collab_gap": likes[:, 1] - likes[:, 2]})

    def loss(self, step: Step) -> Tensor:
        """Return L_NTP over all prompts + preference_weight * L_DPO over the pairs."""
        nll = step.nll(self.reduction)
        paired = step.present[:, 1]
        margin = self.beta * (step.gain[:, 1] - step.gain[:, 2])
        step.log(nll=nll, pairs=paired.float().mean())
        if paired.any():
            drift = step.gain.detach()[paired].mean(0)
            step.log(
                accuracy=(margin > 0)[paired].float().mean(),
                margin=margin[paired].mean(),
                chosen_drift=drift[1],
                rejected_drift=drift[2],
                collab_gap=step.extra["collab_gap"][paired].mean(),
            )
        scale = 1 / self.share if self.preference_mean == "pairs" else 1.0
        return nll + self.preference_weight * scale * (softplus(-margin) * paired).mean()
