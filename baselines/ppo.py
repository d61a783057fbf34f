"""PPO on item identifiers (Schulman et al., 2017, eqs. 7, 11 and 12; for language models as in trl's PPOTrainer).

The policy draws an item token by token. Its reward r comes with the last token, and every token pays for leaving
the reference; V is a linear map of the decoder's state, l numbers the tokens of an item:

    r_l = -kl_weight (log pi_old - log pi_ref)_l + [l is the last] r
    A_l = delta_l + gamma gae_lambda A_{l+1},    delta_l = r_l + gamma V(s_{l+1}) - V(s_l),    R_l = A_l + V(s_l)
    loss = mean_l max(-A_l rho_l, -A_l clip(rho_l, 1 - clip_range, 1 + clip_range))
         + value_weight / 2 mean_l max((V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2)

with rho = pi / pi_old, A whitened over the batch, and means over all tokens of the batch. What is drawn, pi, pi_old
and pi_ref are in one measure, that of ``sampling``; V, A and R are computed once per draw and stay for all ``updates``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlrecbench.api import (
    Count,
    Draw,
    Drawn,
    FineTune,
    Head,
    Measure,
    Positive,
    RewardNames,
    Share,
    Step,
    Weight,
    method,
    needs_of,
    rewards,
    total_reward,
)


@method("ppo", cite="schulman2017ppo")
@dataclass(frozen=True)
class PPO(FineTune):
    """Proximal policy optimisation of sampled items with a value head.

    Differs:
        - GFlowGR and Flower name PPO as a baseline. GFlowGR gives neither reward nor settings; the default reward is
          ours: 1 for the target, which one sample rarely hits, plus the collaborative score scaled to [0, 1], which is
          Flower's (``reward: [collab-minmax]``; Flower scales the softmax of the scores, and gives 0 to titles that no
          training history holds).
        - Flower's script sees 1,024 prompts once, in batches of 4 at lr 1e-7 with kl_weight 0.9; all can be set.
        - The learning rate is between trl's and what a small backbone may need.
        - Dropout is off: the ratio would compare two dropout masks.
        - The search that ranks the lists scores over the vocabulary as for every method, also where training is in the
          trie's measure, which gives the legal mass no gradient.
        - A sampled path stands for one item of its leaf, drawn at random.
        - Where the trie forces most tokens, as in titles, the advantage of an early choice decays over them;
          ``gae_lambda: 1`` does not let it.
        - The value starts at the first batch's mean reward.
        - GFlowGR reports a collapse, which sampling without the trie would explain; the default samples from the
          trie, ``sampling: vocab`` over the whole vocabulary, where a path that is no item earns 0.
        - Flower's script samples under the trie and takes log-probabilities over the vocabulary, so its estimate of
          the KL divergence can be negative, and takes absolute values. Here all are in one measure and the estimate
          keeps its sign; ``kl: abs`` takes the absolute value of each token.
        - trl adapts the weight of the KL divergence in the version that Flower uses; here it is fixed.
        - trl samples at temperature 0.7 and Flower at 1; here it is 1, the distribution that the ratio is of.
        - trl's value model is a network of its own, or a head with dropout; here it is a head without dropout on the
          policy's decoder states, whose loss reaches the backbone.
        - trl can split a draw into mini-batches; here each of the ``updates`` takes the whole draw.
        - A token that the trie forces has probability 1 under ``sampling: trie``: its ratio is exactly 1 and it gives
          the policy no gradient, but it counts in the means and in the whitening.
    """

    reference = "start"
    redraw = 0
    rollouts = True
    dropout = False  # the ratio would compare two dropout masks
    budget = {  # lr: ours, trl has 3e-6 for models a thousand times larger; the others as trl
        "lr": 1e-5, "epochs": 1, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0,
    }  # fmt: skip

    reward: RewardNames = ("hit", "collab-minmax")  # registered rewards, summed; ours
    sampling: Literal["trie", "vocab"] = "trie"  # draws among the legal tokens or all, and the measure; ours
    samples: Count = 1  # items drawn per prompt, with replacement; trl
    updates: Count = 4  # gradient steps per draw; trl
    clip_range: Positive = 0.2  # the ratio's distance from 1 at which its gradient stops; PPO 6.1, trl
    value_clip: Positive = 0.2  # distance from the old value at which the value's gradient stops; trl
    value_weight: Weight = 0.1  # weight of the value loss; trl
    gamma: Share = 1.0  # discount per token; trl
    gae_lambda: Share = 0.95  # decay per token of the advantage estimate; trl
    kl_weight: Weight = 0.05  # reward paid per nat of log pi - log pi_ref; trl
    kl: Literal["k1", "abs"] = "k1"  # estimate per token: log-ratio (trl) or its absolute value (Flower's script)
    whiten: bool = True  # advantages get mean 0 and variance 1 over the batch's tokens; trl
    value_lr: Positive = 10.0  # head's learning rate as a multiple; ours: at 1e-5 a head that starts at 0 stays there
    sft_weight: Weight = 0.0  # weight of the target's -log pi over the vocabulary, in nats per item; 0 as trl

    @property
    def needs(self) -> frozenset[str]:
        """What the rewards read."""
        return needs_of(self.reward)

    @property
    def measure(self) -> Measure:
        """The one that is sampled from."""
        return self.sampling

    def heads(self, width: int) -> dict[str, Head]:
        """Return the value, a linear map of the state that starts at 0."""
        linear = torch.nn.Linear(width, 1)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        return {"value": Head(linear, self.value_lr)}

    def begin(self, step: Step) -> None:
        """Start the value at the mean reward."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        head: Any = step.heads["value"]
        head.bias.data.fill_(step.rewards[step.present].mean())

    def candidates(self, draw: Draw) -> Drawn:
        """Sample items, or paths that may be none, and sum their rewards."""
        drawn = draw.unmasked(self.samples) if self.sampling == "vocab" else Drawn(draw.sampled(self.samples))
        items = drawn.items
        total = total_reward(self.reward, draw, items)
        extra = {"hit": rewards["hit"](draw, items), "target": draw.target}
        return Drawn(items, total, extra, drawn.paths)

    def prepare(self, step: Step) -> Mapping[str, Tensor]:
        """Compute old log-probabilities, values and advantages [B, C, L], and the whole batch's numbers [B]."""
        assert step.rewards is not None  # noqa: S101 - candidates() always gives rewards
        there = step.tokens.present
        kl = step.logp_tokens - step.ref_tokens
        last = there & ~pad(there[..., 1:], (0, 1))
        value = self._value(step) * there
        paid = self.kl_weight * (kl.abs() if self.kl == "abs" else kl)
        advantage = estimate(last * step.rewards[..., None] - paid, value, self.gamma, self.gae_lambda)
        returns = advantage + value
        spread, error = advantage[there].std(correction=0), (returns - value)[there].var(correction=0)
        total = returns[there].var(correction=0)
        batch = {
            "weight": len(there) / there.sum(),
            "spread": spread,
            "explained": torch.where(total > 0, 1 - error / total, 0.0),
        }
        return {
            "old": step.logp_tokens,
            "value": value,
            "returns": returns,
            "advantage": whitened(advantage, there) if self.whiten else advantage,
            "kl": kl.sum(-1),
            **{name: number.expand(len(there)) for name, number in batch.items()},
        }

    def loss(self, step: Step) -> Tensor:
        """Return the clipped losses of policy and value, means over all tokens of the batch."""
        extra, there = step.extra, step.tokens.present
        ratio = (step.logp_tokens - extra["old"]).exp()
        free = -extra["advantage"] * ratio
        clipped = -extra["advantage"] * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        value, old = self._value(step), extra["value"]
        near = value.clamp(old - self.value_clip, old + self.value_clip)
        square = torch.maximum((value - extra["returns"]) ** 2, (near - extra["returns"]) ** 2) / 2

        def mean(x: Tensor) -> Tensor:  # a mean over prompts whose sum over micro-batches is the mean over tokens
            return (torch.where(there, x, 0.0).sum((1, 2)) * extra["weight"]).mean()

        policy_loss, value_loss = mean(torch.maximum(free, clipped)), mean(square)
        step.log(
            policy_loss=policy_loss,
            value_loss=value_loss,
            clip_fraction=mean((clipped > free).float()),
            ratio_mean=mean(ratio),
            advantage_std=extra["spread"].mean(),
            explained_variance=extra["explained"].mean(),
            kl_rollout=extra["kl"].mean(),
            hit_rate=extra["hit"].amax(1).mean(),
        )
        if self.sampling == "vocab":
            step.log(illegal=(step.items < 0).float().mean())
        loss = policy_loss + self.value_weight * value_loss
        if not self.sft_weight:
            return loss
        nll = -Step(Drawn(extra["target"][:, None]), step.prompts, step.policy, "vocab", {}).logp.mean()
        step.log(nll=nll)
        return loss + self.sft_weight * nll

    def _value(self, step: Step) -> Tensor:
        """V of the state before each token, [B, C, L]."""
        with torch.autocast(step.states.device.type, enabled=False):
            value: Tensor = step.heads["value"](step.states.float())[..., 0]
        return value


def estimate(reward: Tensor, value: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Estimate advantages backwards from each token's reward and value, 0 behind a path's end: all [..., L].

    Source: generalised advantage estimation (Schulman et al., 2016), eq. 16; PPO, eqs. 11 and 12.
    """
    delta = reward + gamma * pad(value[..., 1:], (0, 1)) - value
    advantage = torch.zeros_like(delta)
    after = torch.zeros_like(delta[..., 0])
    for at in reversed(range(delta.shape[-1])):
        after = delta[..., at] + gamma * gae_lambda * after
        advantage[..., at] = after
    return advantage


def whitened(advantage: Tensor, there: Tensor) -> Tensor:
    """Shift and scale what is there to mean 0 and (unbiased) variance 1; 0 elsewhere."""
    values = advantage[there]
    variance = (values - values.mean()).square().sum() / max(len(values) - 1, 1)
    return torch.where(there, (advantage - values.mean()) * (variance + 1e-8).rsqrt(), 0.0)
