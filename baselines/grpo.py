"""GRPO on item identifiers (Shao et al., 2024, eqs. 3 and 4; for recommendation as in MiniOneRec).

Each prompt gets a group of G items from the policy. An item's advantage is its reward against its group's:

    A_i = (r_i - mean_g r) / (std_g r + 1e-4)
    loss = mean_i mean_l [ -min(rho_l A_i, clip(rho_l, 1 - clip_range, 1 + clip_range) A_i)
                           + kl_weight (pi_ref / pi - log(pi_ref / pi) - 1)_l ]

with rho = pi / pi_old, means over the tokens l of an item, the items of a group, and the prompts. With one update per
draw, rho is 1 and only its gradient, that of log pi, counts.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlrecbench.api import (
    Count,
    Draw,
    Drawn,
    FineTune,
    Measure,
    Positive,
    RewardNames,
    Step,
    Weight,
    method,
    needs_of,
    rewards,
    total_reward,
)


@method("grpo", cite="shao2024grpo")
@dataclass(frozen=True)
class GRPO(FineTune):
    """Group-relative policy optimisation: a rollout is judged by the others of its prompt.

    Differs:
        - GFlowGR names GRPO as a baseline without reward or settings; the defaults are MiniOneRec's script where the
          comments say so.
        - MiniOneRec's rollouts are beams: distinct, but no samples of the policy, so the loss is no unbiased
          policy gradient; ``sampler: sample`` draws from the policy, with replacement, and gives one with
          ``scale: false`` and ``measure: trie`` on paths of equal length, times (G - 1) / G.
        - MiniOneRec searches under the trie and takes log-probabilities over the vocabulary; the default has both in
          the trie's measure, ``measure: vocab`` is MiniOneRec's. With ``sampler: sample`` that draws in one measure
          and differentiates the other.
        - The search that ranks the lists scores over the vocabulary as for every method; training in the trie's measure
          gives the legal mass no gradient.
        - A rollout stands for one item of its leaf, drawn at random.
        - The learning rate is for language models; a small backbone may need more.
        - MiniOneRec moves its reference towards the policy during training; here it stays the start.
        - MiniOneRec trains with dropout, if the backbone has any; here there is none, so that policy and reference
          differ by training only.
        - Reward of the rank: MiniOneRec counts places in the group whatever made it, also among samples, and so does
          ``rank-shaped``; beams that the search does not find take no part in mean, standard deviation and places.
        - A group whose rewards are all equal has advantage exactly 0, without rounding.
        - The KL term is in the loss and estimated from the drawn tokens; its gradient is that of
          KL(pi_ref || pi) at each drawn state, not of KL(pi || pi_ref). With beams it is weighted by neither.
        - A token that the trie forces has log-probability 0 in the trie's measure; it counts in the mean over tokens.
    """

    reference = "start"
    redraw = 0
    rollouts = True
    dropout = False
    budget = {  # MiniOneRec's script
        "lr": 1e-5, "epochs": 2, "schedule": "cosine", "warmup": 0.03, "clip": 0.3, "weight_decay": 0.0,
    }  # fmt: skip

    reward: RewardNames = ("hit", "rank-shaped")  # registered rewards, summed; MiniOneRec
    sampler: Literal["beam", "sample"] = "beam"  # the best items (MiniOneRec's script) or draws from the trie policy
    samples: Count = 16  # items G per prompt; MiniOneRec's script
    measure: Measure = "trie"  # of the beams' scores and log pi: the legal tokens or all ("vocab"); ours
    kl_weight: Weight = 1e-3  # weight of the k3 estimate, in nats per token; MiniOneRec's script
    clip_range: Positive = 0.2  # the ratio's distance from 1 at which its gradient stops; trl
    updates: Count = 1  # gradient steps per draw; with 1 nothing is ever clipped; trl
    scale: bool = True  # divide by the group's standard deviation; false: Dr. GRPO (Liu et al., 2025)

    @property
    def needs(self) -> frozenset[str]:
        """What the rewards read."""
        return needs_of(self.reward)

    def candidates(self, draw: Draw) -> Drawn:
        """Search or sample each prompt's group and compute its rewards and advantages."""
        beam = self.sampler == "beam"
        items = draw.beams(self.samples, measure=self.measure) if beam else draw.sampled(self.samples)
        total = total_reward(self.reward, draw, items)
        return Drawn(
            items, total, {"advantage": advantages(total, items >= 0, self.scale), "hit": rewards["hit"](draw, items)}
        )

    def loss(self, step: Step) -> Tensor:
        """Return the mean over tokens, items and prompts; absent items do not count."""
        there, logp, advantage = step.tokens.present, step.logp_tokens, step.extra["advantage"][..., None]
        if step.old_tokens is None:
            gain = advantage * logp  # the gradient of advantage * ratio at ratio 1
        else:
            ratio = (logp - step.old_tokens).exp()
            clipped = advantage * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
            gain = torch.minimum(advantage * ratio, clipped)
            step.log(clip_fraction=(clipped < advantage * ratio)[there].float().mean())
        if self.kl_weight:
            away = step.ref_tokens - logp
            gain = gain - self.kl_weight * (away.exp() - away - 1)
        per_item = torch.where(there, gain, 0.0).sum(-1) / step.lengths.clamp(min=1)
        step.log(
            groups_with_signal=(step.extra["advantage"] != 0).any(1).float().mean(),
            advantage_std=step.extra["advantage"][step.present].std(correction=0),
            hit_rate=step.extra["hit"].amax(1).mean(),
        )
        return -(per_item.sum(1) / step.present.sum(1).clamp(min=1)).mean()


def advantages(reward: Tensor, there: Tensor, scale: bool) -> Tensor:
    """Reward minus the group's mean, by default over its standard deviation; 0 if all are equal: [B, C].

    Args:
        reward: Of each candidate, [B, C].
        there: Which candidates exist, [B, C].
        scale: Divide by the unbiased standard deviation + 1e-4.
    """
    count = there.sum(1, keepdim=True)
    mean = (reward * there).sum(1, keepdim=True) / count.clamp(min=1)
    away = reward - mean
    if scale:
        deviation = ((away * there).square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        away = away / (deviation + 1e-4)
    low = reward.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    high = reward.masked_fill(~there, -torch.inf).amax(1, keepdim=True)
    return torch.where(there & (high > low), away, 0.0)
