"""SFT: next-token cross-entropy on the target's path (TIGER, Rajput et al., 2023; LETTER, Wang et al., 2024)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rlrecbench.api import FineTune, Step, method


@method("sft", cite="rajput2023tiger")
@dataclass(frozen=True)
class SFT(FineTune):
    """Supervised fine-tuning: the negative log-likelihood of the target."""

    start = "base"
    reduction: Literal["token", "item"] = "token"  # mean over tokens as LETTER's code, or sum as GFlowGR eq. 1

    def loss(self, step: Step) -> Tensor:
        """Return -log pi(target), in nats per token or per item."""
        return step.nll(self.reduction)
