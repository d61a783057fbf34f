"""Soft labels: a part of the target's probability goes to other items, by label smoothing or from a teacher.

    loss = (1 - weight) nll(target) + weight mean_j nll(v_j),    v_j ~ q,  j = 1 .. samples

q is uniform over the other items (label smoothing; Szegedy et al., 2016, section 7) or the collaborative model's
softmax (distillation; Hinton et al., 2015, section 2). The draws estimate the cross-entropy to q without bias, so with
many steps this is cross-entropy to the mixture of the target and q. Both are controls: a method that draws other items
and raises some of them beside the target should gain more than this.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rlrecbench.api import Draw, FineTune, Positive, Share, Size, Step, method


@method("soft-labels", cite="szegedy2016inception")
@dataclass(frozen=True)
class SoftLabels(FineTune):
    """Cross-entropy with a softened target: label smoothing over items, or distillation of the collaborative model.

    Differs:
        - Both papers smooth over the classes of one softmax; an item here is several tokens, so q is over items and is
          sampled, ``samples`` a prompt and step. Smoothing the tokens would spread over illegal ones too.
        - Uniform draws leave out the target, its leaf and the history, draws from the teacher leave out nothing.
        - Hinton et al. soften the student too and scale by the temperature's square; here the teacher alone is divided.
    """

    start = "base"
    redraw = 0

    teacher: Literal["uniform", "collab"] = "uniform"  # what q is
    weight: Share = 0.1  # of q in the label; Szegedy et al.
    samples: Size = 4  # draws from q per prompt; ours
    temperature: Positive = 1.0  # divides the teacher's scores; Hinton et al. try 1 to 20
    reduction: Literal["token", "item"] = "token"  # of a path's tokens: mean, as sft, or sum

    @property
    def needs(self) -> frozenset[str]:
        """The collaborative scores, if it teaches."""
        return frozenset({"collab"}) if self.teacher == "collab" else frozenset()

    @property
    def rollouts(self) -> bool:
        """Draws from the teacher may be the target or stand in the history."""
        return self.teacher == "collab"

    def candidates(self, draw: Draw) -> Tensor:
        """Draw from q, beside the target."""
        if self.teacher == "uniform":
            return draw.beside_target(draw.uniform(self.samples))
        q = (draw.collab_all().double() / self.temperature).softmax(1)
        return draw.beside_target(q.multinomial(self.samples, replacement=True, generator=draw.generator))

    def loss(self, step: Step) -> Tensor:
        """Return the cross-entropy to the softened label, a mean over the prompts."""
        nll = -step.tokens.vocab.sum(-1)
        if self.reduction == "token":
            nll = nll / step.lengths.clamp(min=1)
        others = step.present[:, 1:]
        soft = (nll[:, 1:] * others).sum(1) / others.sum(1).clamp(min=1)
        step.log(nll=nll[:, 0].mean(), nll_soft=soft.mean())
        return ((1 - self.weight) * nll[:, 0] + self.weight * soft).mean()
