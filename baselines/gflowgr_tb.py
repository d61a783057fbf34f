"""GFlowGR with trajectory balance (GFlowGR, arXiv 2506.16114 v1, eqs. 3 to 8).

Every item is a trajectory through the prefix tree; its probability is pushed towards reward / Z:

    loss = L_GR + lam * sum_k w_k (log Z + log P_F(k) - log R(k))^2,    R = r_a + r_c + r_sim,
    w = 1 / (r_a - r_c)^2

over the target and ``trajectories`` augmented items, which are drawn easy first and hard later under the
collaborative model. The paper leaves open what keeps log 0 and 1 / 0 away; ``floor`` and ``clamp`` do.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from rlrecbench.api import (
    Count,
    Draw,
    Drawn,
    FineTune,
    Head,
    Positive,
    Scalar,
    Share,
    Size,
    Step,
    Weight,
    method,
    rewards,
)

Part = Literal["hit", "collab", "similar"]


@method("gflowgr-tb", cite="gflowgr")
@dataclass(frozen=True)
class GFlowGRTB(FineTune):
    """Trajectory balance on the target and augmented items, beside next-token cross-entropy."""

    start = "base"
    redraw = 0
    needs = frozenset({"collab"})

    lam: Weight = 1.0  # weight of the balance loss; GFlowGR 4.4
    trajectories: Size = 1  # augmented items K per prompt; GFlowGR's formulas use one, Fig. 3 sweeps 0..5
    pool: Count = 100  # items N scored per prompt before K are kept; not in the paper
    window: Share = 0.1  # width of the sampler's rank window as a share of the pool; not in the paper
    sampler: Literal["adaptive", "grow", "random", "hard"] = "adaptive"  # window slides from easy to hard; GFlowGR 3.3
    ramp_epochs: Count | None = None  # epochs until the hardest window; none: the whole budget
    reward: Annotated[tuple[Part, ...], MinLen(1)] = ("hit", "collab", "similar")  # parts of R; GFlowGR Table 2
    collab_scale: Literal["sigmoid", "minmax", "rank"] = (
        "sigmoid"  # brings r_c to [0, 1]; not in the paper. sigmoid is a probability only with collab: {loss: bce}
    )
    floor: Positive = 0.01  # R is at least this, so log R >= -4.6 nats; not in the paper
    weighted: bool = True  # w as above; false: w = 1 (Table 2, "w/o Wt")
    clamp: Positive = 0.2  # |r_a - r_c| is at least this, so w <= 25; not in the paper
    normalise: bool = True  # divide w by its mean over the batch; false: literal
    policy_measure: Literal["vocab", "trie"] = "vocab"  # P_F over the vocabulary (paper) or the legal children
    log_z: Literal["scalar", "prompt"] = "scalar"  # one number (paper) or linear in the prompt's first state
    log_z_lr: Positive = 100.0  # learning rate of log Z as a multiple of the backbone's; torchgfn's advice
    residual_clip: Positive | None = None  # nats; linear loss beyond it (Huber); none: squared everywhere
    reduction: Literal["token", "item"] = "token"  # of L_GR: mean over tokens, or sum as in eq. 1

    def heads(self, width: int) -> dict[str, Head]:
        """Return log Z: a number, or a linear map of the prompt's first state."""
        if self.log_z == "scalar":
            return {"log_z": Head(Scalar(), self.log_z_lr)}
        linear = torch.nn.Linear(width, 1)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        return {"log_z": Head(linear, self.log_z_lr)}

    def candidates(self, draw: Draw) -> Drawn:
        """Draw the augmented items and compute rewards and weights for the whole batch."""
        augmented = self._augment(draw) if self.lam else None
        items = draw.beside_target(augmented)
        hit = rewards["hit"](draw, items)
        collab = rewards[f"collab-{self.collab_scale}"](draw, items)
        parts = {"hit": hit, "collab": collab}
        if "similar" in self.reward:
            parts["similar"] = rewards["token-overlap"](draw, items)
        total = torch.stack([parts[p] for p in self.reward]).sum(0).clamp(min=self.floor)
        weight = torch.ones_like(total)
        if self.weighted:
            weight = (hit - collab).abs().clamp(min=self.clamp) ** -2
        weight = weight * (items >= 0)
        if self.normalise:
            weight = weight / (weight.sum() / (items >= 0).sum())
        return Drawn(items, total, {"weight": weight})

    def begin(self, step: Step) -> None:
        """Start log Z where the mean residual is zero; from 0 it would travel for thousands of steps."""
        residual = self._residual(step, torch.zeros(())).detach()[step.present]
        head: Any = step.heads["log_z"]
        (head.value if self.log_z == "scalar" else head.bias).data.fill_(float(-residual.mean()))

    def loss(self, step: Step) -> Tensor:
        """Return L_GR + lam * the weighted squared residuals, a mean over the prompts."""
        nll = -step.tokens.vocab[:, 0].sum(-1)
        nll = (nll / step.lengths[:, 0] if self.reduction == "token" else nll).mean()
        if not self.lam:
            return nll
        log_z = step.heads["log_z"]() if self.log_z == "scalar" else step.heads["log_z"](step.states[:, :1, 0])[..., 0]
        residual = self._residual(step, log_z)
        square = residual**2
        if self.residual_clip is not None:
            far = residual.abs() > self.residual_clip
            square = torch.where(far, self.residual_clip * (2 * residual.abs() - self.residual_clip), square)
        weighted = square * step.extra["weight"]
        there = residual[step.present]
        step.log(
            nll=nll,
            balance_target=weighted[:, 0].mean(),
            balance_augmented=weighted[:, 1:].sum(1).mean(),
            residual_mean=there.mean(),
            residual_std=there.std(correction=0),
            log_z=log_z.mean(),
        )
        return nll + self.lam * weighted.sum(1).mean()

    def _residual(self, step: Step, log_z: Tensor) -> Tensor:
        """Log Z + log P_F - log R, [B, 1 + K]."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        logp = (step.tokens.trie if self.policy_measure == "trie" else step.tokens.vocab).sum(-1)
        return log_z.to(logp.device) + logp - step.rewards.log()

    def _augment(self, draw: Draw) -> Tensor:
        """Draw K items per prompt from a window of a random pool sorted by collaborative score: [B, K]."""
        K, N = self.trajectories, max(self.pool, self.trajectories)
        if K == 0 or self.sampler == "random":
            return draw.uniform(K)
        pool = draw.uniform(N)
        order = draw.collab(pool).masked_fill(pool < 0, torch.inf).argsort(1)
        there = (pool >= 0).sum(1, keepdim=True)
        width = max(K, round(self.window * N))
        p = draw.progress if self.ramp_epochs is None else min(1.0, draw.epoch / self.ramp_epochs)
        first = ((there - width).clamp(min=0) * (1.0 if self.sampler == "hard" else p)).long()
        rank = torch.arange(N, device=pool.device)
        inside = (rank < (first + width).clamp(max=there)) & ((rank >= first) | (self.sampler == "grow"))
        key = torch.rand(pool.shape, generator=draw.generator, device=pool.device).masked_fill(~inside, -1.0)
        best = key.topk(K, 1)
        return torch.where(best.values < 0, -1, pool.gather(1, order.gather(1, best.indices)))
