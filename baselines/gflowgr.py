"""GFlowGR: generative flow networks over the prefix tree of items (arXiv 2506.16114 v1, eqs. 1 to 8).

Every item is a trajectory s_0, .., s_L through the tree, whose probability is pushed towards its reward's
share of all rewards. A state has one parent, so P_B = 1:

    loss = L_GR + lam * sum_k w_k L_GFN(k),    R = r_a + r_c + r_sim,    w = 1 / (r_a - r_c)^2    (eqs. 7, 8)
    trajectory balance: L_GFN = (log Z + sum_l log P_F(s_l+1 | s_l) - log R)^2                    (eq. 6)
    detailed balance:   L_GFN = sum_l (log F(s_l) + log P_F(s_l+1 | s_l) - log F(s_l+1))^2        (eq. 5)

with F(s_L) = R, over the target and ``trajectories`` augmented items, which are drawn easy first and hard
later under the collaborative model. The sum of a path's detailed residuals is its trajectory residual with
log Z = log F(s_0). The paper leaves open what keeps log 0 and 1 / 0 away; ``floor`` and ``clamp`` do.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from rlrecbench.api import (
    Count,
    Draw,
    Drawn,
    FineTune,
    Head,
    Measure,
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
_LEVELS = 512  # biases of a flow head; no identifier is longer
_APART = 1e-6  # |r_a - r_c| is at least this even with clamp 0, for float32's sake


@dataclass(frozen=True)
class GFlowGR(FineTune):
    """What both balances share: reward, weights, sampler, L_GR and how they add up."""

    start = "base"
    redraw = 0
    needs = frozenset({"collab"})

    lam: Weight = 1.0  # weight of the balance loss; GFlowGR 4.3
    trajectories: Size = 1  # augmented items K per prompt; GFlowGR's formulas use one, Fig. 3 sweeps 0..5
    pool: Count = 100  # items N scored per prompt before K are kept; not in the paper
    window: Share = 0.1  # width of the sampler's rank window as a share of the pool; not in the paper
    sampler: Literal["adaptive", "grow", "random", "hard"] = "adaptive"  # window slides from easy to hard; GFlowGR 3.1
    ramp_epochs: Count | None = None  # epochs until the hardest window; none: the whole budget; not in the paper
    reward: Annotated[tuple[Part, ...], MinLen(1)] = ("hit", "collab", "similar")  # parts of R; GFlowGR 3.2, Table 2
    collab_scale: Literal["sigmoid", "minmax", "rank"] = "sigmoid"  # brings r_c to [0, 1]; not in the paper
    similar: Literal["position", "prefix"] = "position"  # r_sim: equal tokens anywhere (GFlowGR 3.2), or leading ones
    floor: Positive = 0.01  # R is at least this, so log R >= -4.6 nats; not in the paper
    weighted: bool = True  # w as above; false: w = 1 (Table 2, "w/o Wt")
    clamp: Weight = 0.2  # |r_a - r_c| is at least this, so w <= 25; not in the paper; 0: eq. 8 as printed
    normalise: bool = True  # divide w by its mean over the batch; ours; false: eq. 8 as printed
    trajectory_reduction: Literal["sum", "mean"] = "sum"  # over the K augmented items; sum as in eq. 8
    policy_measure: Measure = "vocab"  # P_F over the vocabulary (paper) or the legal children
    residual_clip: Positive | None = None  # nats; linear loss beyond it (Huber); none: squared everywhere, as eqs. 5, 6
    reduction: Literal["token", "item"] = "token"  # of L_GR: mean over tokens as LETTER's code, or sum as in eq. 1

    @property
    def measure(self) -> Measure:
        """P_F's; L_GR is over the vocabulary in any case."""
        return self.policy_measure

    def candidates(self, draw: Draw) -> Drawn:
        """Draw the augmented items and compute rewards and weights for the whole batch."""
        augmented = self._augment(draw) if self.lam else None
        items = draw.beside_target(augmented)
        hit = rewards["hit"](draw, items)
        collab = rewards[f"collab-{self.collab_scale}"](draw, items)
        parts = {"hit": hit, "collab": collab}
        if "similar" in self.reward:
            overlap = rewards["token-overlap"] if self.similar == "position" else _shared_prefix
            parts["similar"] = overlap(draw, items)
        total = torch.stack([parts[p] for p in self.reward]).sum(0).clamp(min=self.floor)
        weight = torch.ones_like(total)
        if self.weighted:
            weight = (hit - collab).abs().clamp(min=max(self.clamp, _APART)) ** -2
        weight = weight * (items >= 0)
        if self.normalise:
            weight = weight / (weight.sum() / (items >= 0).sum())
        return Drawn(items, total, {"weight": weight, "collab": collab})

    def residual(self, step: Step) -> Tensor:
        """Return the residuals of each trajectory, in nats, 0 behind its end: [B, 1 + K, 1 or L]."""
        raise NotImplementedError

    def loss(self, step: Step) -> Tensor:
        """Return L_GR + lam * the weighted squared residuals, a mean over the prompts."""
        nll = step.nll(self.reduction)
        if not self.lam:
            return nll
        residual = self.residual(step)
        square = residual**2
        if self.residual_clip is not None:
            far = residual.abs() > self.residual_clip
            square = torch.where(far, self.residual_clip * (2 * residual.abs() - self.residual_clip), square)
        weighted = square.sum(-1) * step.extra["weight"]
        target, augmented = weighted[:, 0], weighted[:, 1:].sum(1)
        if self.trajectory_reduction == "mean":
            augmented = augmented / step.present[:, 1:].sum(1).clamp(min=1)
        step.log(nll=nll, balance_target=target.mean(), balance_augmented=augmented.mean())
        self._diagnose(step, residual.detach())
        return nll + self.lam * (target + augmented).mean()

    def _diagnose(self, step: Step, residual: Tensor) -> None:
        """Log residuals, weights and collaborative scores, and how far the sampler's window has moved."""
        there, path = step.present, residual.sum(-1)
        weight, collab = step.extra["weight"], step.extra["collab"]
        mean = _mean(path, there)
        step.log(
            residual_mean=mean,
            residual_std=_mean((path - mean) ** 2, there).sqrt(),
            weight_target=weight[:, 0].mean(),
            collab_target=collab[:, 0].mean(),
        )
        if self.trajectories:
            step.log(
                weight_augmented=_mean(weight[:, 1:], there[:, 1:]),
                collab_augmented=_mean(collab[:, 1:], there[:, 1:]),
                pushed_up=_mean((path[:, 1:] < 0).float(), there[:, 1:]),
            )
            if self.sampler != "random":
                step.log(window=self._hardness(step.progress, step.epoch))
        if residual.shape[-1] > 1:
            step.log(**{
                f"residual_{level}": _mean(residual[..., level], step.tokens.present[..., level])
                for level in range(residual.shape[-1])
            })  # fmt: skip

    def _hardness(self, progress: float, epoch: int) -> float:
        """Where the window stands, from 0 (the lowest scores) to 1 (the highest)."""
        if self.sampler == "hard":
            return 1.0
        return progress if self.ramp_epochs is None else min(1.0, epoch / self.ramp_epochs)

    def _augment(self, draw: Draw) -> Tensor:
        """Draw K items per prompt from a window of a random pool sorted by collaborative score: [B, K]."""
        K, N = self.trajectories, max(self.pool, self.trajectories)
        if K == 0 or self.sampler == "random":
            return draw.uniform(K)
        pool = draw.uniform(N)
        order = draw.collab(pool).masked_fill(pool < 0, torch.inf).argsort(1)
        there = (pool >= 0).sum(1, keepdim=True)
        width = max(K, round(self.window * N))
        first = ((there - width).clamp(min=0) * self._hardness(draw.progress, draw.epoch)).long()
        rank = torch.arange(N, device=pool.device)
        inside = (rank < (first + width).clamp(max=there)) & ((rank >= first) | (self.sampler == "grow"))
        key = torch.rand(pool.shape, generator=draw.generator, device=pool.device).masked_fill(~inside, -1.0)
        best = key.topk(K, 1)
        return torch.where(best.values < 0, -1, pool.gather(1, order.gather(1, best.indices)))


@method("gflowgr-tb", cite="gflowgr")
@dataclass(frozen=True)
class GFlowGRTB(GFlowGR):
    """Trajectory balance on the target and augmented items, beside next-token cross-entropy.

    Differs:
        - The paper names no collaborative model and no scale of r_c; it is the suite's SASRec through a
          sigmoid, which is a probability only with the suite's ``collab: {loss: bce}``; ``collab_scale`` gives
          other scales.
        - The paper's reward is 0 for nearly all augmented items when r_c is left out; R is at least ``floor``.
        - The paper's weight is infinite where r_a = r_c; |r_a - r_c| is at least ``clamp``, and the weights
          are divided by their mean over the batch, so that lam keeps its meaning. ``clamp: 0`` with
          ``normalise: false`` is eq. 8 as printed, with w at most 1e12.
        - The paper's ablation of the reward does not say whether the weights change too; they always use
          r_a and r_c.
        - The paper gives neither pool nor schedule of the sampler; a window of ranks slides linearly over the
          progress of the budget, or over ``ramp_epochs``. ``sampler: grow`` keeps the easy items in.
        - The paper only asks that augmented items are not the target; items on its leaf and the history are
          left out too.
        - Collision codes, which only tell equal items apart, do not count in r_sim.
        - The paper does not say where training starts; here from the untrained backbone, as its text on early
          epochs suggests. ``start: sft`` continues from SFT.
        - The paper's L_GR is a sum over tokens (eq. 1), public code takes the mean; the default is the mean,
          so that lam = 0 is SFT, and ``reduction: item`` gives the sum.
        - log Z starts where the mean residual of the first batch is zero and has its own learning rate; the
          paper says neither. It is one number as in the paper, though R depends on the prompt;
          ``log_z: prompt`` makes it linear in the prompt's first state.
        - The paper finds lam = 1 best on Beauty. On a short budget, and with a clipped gradient, the balance can swamp
          L_GR at that weight: the logged nll stays high and, from the untrained backbone, legal_mass low. Search lam
          downwards.
    """

    log_z: Literal["scalar", "prompt"] = "scalar"  # one number (paper) or linear in the prompt's first state
    log_z_lr: Positive = 100.0  # learning rate of log Z as a multiple of the backbone's; torchgfn's advice

    def heads(self, width: int) -> dict[str, Head]:
        """Return log Z: a number, or a linear map of the prompt's first state."""
        return {"log_z": Head(Scalar() if self.log_z == "scalar" else Flow(width), self.log_z_lr)}

    def begin(self, step: Step) -> None:
        """Start log Z where the mean residual is zero; from 0 it would travel for thousands of steps."""
        head: Any = step.heads["log_z"]
        bias = head.value.data if self.log_z == "scalar" else head.bias.data[0]
        bias -= self.residual(step)[step.present].mean()

    def residual(self, step: Step) -> Tensor:
        """Log Z + log P_F - log R: [B, 1 + K, 1]."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        head = step.heads["log_z"]
        log_z: Tensor = head() if self.log_z == "scalar" else head(step.states[:, :1, :1])[..., 0]
        step.log(log_z=log_z.mean())
        return (log_z.to(step.logp.device) + step.logp - step.rewards.log()).unsqueeze(-1)


@method("gflowgr-db", cite="gflowgr")
@dataclass(frozen=True)
class GFlowGRDB(GFlowGR):
    """Detailed balance on the target and augmented items, beside next-token cross-entropy.

    Differs:
        - Everything that stands under gflowgr-tb, but what concerns log Z.
        - The paper does not say what F is; log F(s_l) is a linear map of the decoder state that has read l
          tokens, plus a bias per level. ``flow_head: mlp`` puts a hidden layer between.
        - The biases start where the mean residual of every level is zero on the first batch, with the map
          itself zero; the paper does not say how F starts or how fast it learns.
        - The gradient flows through both sides of eq. 5 and into the backbone's states;
          ``stop_target`` and ``detach_states`` cut one or the other.
    """

    flow_head: Literal["linear", "mlp"] = "linear"  # log F of a state; mlp: D to D, GELU, to 1; not in the paper
    log_f_lr: Positive = 10.0  # learning rate of log F as a multiple of the backbone's; ours
    detach_states: bool = False  # log F does not train the backbone's states; ours
    stop_target: bool = False  # no gradient through log F(s_l+1); ours

    def heads(self, width: int) -> dict[str, Head]:
        """Return log F on decoder states."""
        return {"log_f": Head(Flow(width, hidden=self.flow_head == "mlp"), self.log_f_lr)}

    def begin(self, step: Step) -> None:
        """Set the biases, the deepest level first, such that every level's mean residual is zero."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        head: Any = step.heads["log_f"]
        head.bias.data.fill_(step.rewards.log()[step.present].mean())
        there = step.tokens.present
        for level in reversed(range(there.shape[-1])):
            if there[..., level].any():
                head.bias.data[level] -= self.residual(step)[..., level][there[..., level]].mean()

    def residual(self, step: Step) -> Tensor:
        """Log F(s_l) + log P_F(s_l+1 | s_l) - log F(s_l+1), with log R behind a path's last token: [B, 1 + K, L]."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        log_f = step.heads["log_f"](step.states.detach() if self.detach_states else step.states)
        step.log(log_f0=_mean(log_f[..., 0], step.present))
        after = nn.functional.pad(log_f[..., 1:], (0, 1))
        if self.stop_target:
            after = after.detach()
        last = torch.arange(log_f.shape[-1], device=log_f.device) == step.lengths.unsqueeze(-1) - 1
        after = torch.where(last, step.rewards.log().unsqueeze(-1), after)
        return torch.where(step.tokens.present, log_f + step.logp_tokens - after, 0.0)


class Flow(nn.Module):
    """A number per state, such as log F: a map that starts at zero, and a bias per level.

    Args:
        width: Width D of the states.
        hidden: Put a hidden layer of the same width between.
    """

    def __init__(self, width: int, *, hidden: bool = False) -> None:
        super().__init__()
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.map = nn.Sequential(nn.Linear(width, width), nn.GELU(), last) if hidden else last
        self.bias = nn.Parameter(torch.zeros(_LEVELS))

    def forward(self, states: Tensor) -> Tensor:
        """Map states [B, C, L, D] to [B, C, L], in float32 under autocast too: residuals are differences."""
        with torch.autocast(states.device.type, enabled=False):
            out: Tensor = self.map(states.float()).squeeze(-1) + self.bias[: states.shape[-2]]
        return out


def _shared_prefix(draw: Draw, items: Tensor) -> Tensor:
    """Number of leading tokens that the item's path shares with the target's; collision codes do not count."""
    paths = draw.catalogue.tensors(items.device).paths[:, : draw.catalogue.content]
    ours, theirs = paths[items.clamp(min=0)], paths[draw.target][:, None]
    same = ((ours == theirs) & (ours >= 0)).cumprod(-1).sum(-1).float()
    return torch.where(items < 0, 0.0, same)


def _mean(x: Tensor, where: Tensor) -> Tensor:
    """Mean over the entries that count, without waiting for the device; 0 where none does."""
    return (x * where).sum() / where.sum().clamp(min=1)
