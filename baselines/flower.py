"""Flower: subtrajectory balance on the prefix tree with known flows (Flower, arXiv 2503.07377).

The flow of a prefix is the summed reward of the items below it, so every token has a reward of its own (eqs. 8, 10):

    F(s) = sum of F over the children of s,    F(leaf) = R(item),    R_p(t) = F(y_<=t) / F(y_<t)

The policy is fitted to the tokens' rewards on every piece of a path that it draws itself (eqs. 11, 12):

    d_t = log pi(y_t | x, y_<t) - log R_p(t),    c_0 = 0,    c_t = d_1 + ... + d_t
    loss = sft_weight * L_SFT + lam * L_flow,    L_flow = mean over 0 <= i < j <= T of (c_j - c_i)^2

Pieces of one token are detailed balance, the whole path is trajectory balance. The sum over the pairs of K states is
K * sum_t (c_t - mean c)^2. With every residual zero, pi(item) = R(item) / sum R.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlrecbench.api import Count, Draw, Drawn, FineTune, Measure, Positive, Step, Weight, method

Reward = Literal["div", "add", "frequency", "propagated"]


@method("flower", cite="flower")
@dataclass(frozen=True)
class Flower(FineTune):
    """Subtrajectory balance on the policy's own samples, beside next-token cross-entropy.

    Differs:
        - Eqs. 11 and 12 leave open whether the squares are summed or averaged; they are averaged over the pairs of a
          path here, `reduction: pooled` averages over all pairs of the batch as the public code does.
        - The public code balances a path's states against ending there, and gives -15 nats to ending inside a title;
          `form: code` with `reduction: pooled` gives that. Its discount of long pieces is 1 in every script and is no
          setting here.
        - In a catalogue without a terminator (semantic ids) nothing can end inside a path; `form: code` is then the
          paper's form.
        - The public code punishes ending inside a title even where the prefix is a title itself;
          `inner_ends: true` gives such an end its flow.
        - The public code scores every token after the first without the prompt, because it steps through the path
          with the cache switched off; tokens have their full context here.
        - The public code weighs theta * L_SFT + (1 - theta) * L_flow; that is lam = (1 - theta) / theta up to a
          factor of the whole loss, which AdamW's step ignores (a clipped gradient does not).
        - The public code's "div" and "add" bend a token's reward by the score of the item that was drawn, so rewards
          of brothers no longer sum to 1 and no policy zeroes every residual; `reward: propagated` is ours and puts
          the score into the item's reward before flows are summed.
        - Where all collaborative scores of a prompt are equal the public code divides by zero; the score is 1 here.
        - Of items that share a path one is drawn for its score; the public code takes the last.
        - The public code gives -15 nats to tokens off the tree of seen items; every item is on the tree here, with
          `unseen` as frequency.
        - With `granularity` above 1 the last token of a path is part of its last action; the public code, and
          `form: code`, have the terminator as an action of its own.
        - Items are drawn without dropout and scored with it, so dropout adds to the squares.
        - The paper's collaborative model is trained with binary cross-entropy, the suite's by default with a softmax
          over the catalogue; the suite's ``collab: {loss: bce}`` gives the paper's.
        - lam was chosen for titles; on semantic ids the flow loss is of another size (`flow` and `nll` are logged).
        - For fitting a distribution without histories the public code has no L_SFT (`sft_weight: 0`) and begins with
          items from the catalogue instead of the policy's; candidates are always the policy's own here.
        - Training takes the suite's budget, as for sft; the paper has AdamW with learning rate 3e-4, batches of 128
          and at most 7 epochs with patience 2.
    """

    start = "base"
    redraw = 0
    rollouts = True

    lam: Weight = 0.005  # weight of L_flow; the public scripts' theta .995 on CDs and Movies (Games: .0005)
    sft_weight: Weight = 1.0  # weight of L_SFT; the paper's sum, and 0 in the public code for RQ1
    samples: Count = 1  # items drawn from the policy per prompt and step; the public code
    reward: Reward = "div"  # log R_p / S, the main results; add: + w log S; frequency: log R_p; propagated: ours
    add_weight: Weight = 1.0  # w of "add", per nat of log S; the public code
    unseen: Positive = 0.5  # frequency of an item that no training history holds, whose log is finite so; ours
    granularity: Count | Literal["item"] = 1  # tokens per action; the paper, section 4.5.2. item: the whole path is one
    form: Literal["paper", "code"] = "paper"  # eq. 11, or balance against ending early, as in the public code
    floor: float = -15.0  # log-reward of ending inside a path, in nats, with form: code; the public code
    inner_ends: bool = False  # with form: code, an end inside a path that is an item's has its R_p; false: public code
    reduction: Literal["sequence", "pooled", "sum"] = "sequence"  # over pairs: mean of each path's; ours. pooled: code
    policy_measure: Measure = "vocab"  # log pi over the vocabulary; the public code. trie: over the legal children
    sft_reduction: Literal["token", "item"] = "token"  # of L_SFT: mean over tokens as in eq. 1, or sum

    def __post_init__(self) -> None:
        if not self.lam and not self.sft_weight:
            raise ValueError("lam: 0 and sft_weight: 0 leave nothing to train; one of them must be above 0")
        if self.form == "code" and self.policy_measure == "trie":
            raise ValueError("form: code scores an early end, which is no legal token; use policy_measure: vocab")

    @property
    def needs(self) -> frozenset[str]:
        """Collaborative scores, unless the reward is the frequency alone."""
        return frozenset() if self.reward == "frequency" or not self.lam else frozenset({"collab"})

    @property
    def measure(self) -> Measure:
        """The measure of the flow loss; cross-entropy is over the vocabulary always."""
        return self.policy_measure

    def candidates(self, draw: Draw) -> Tensor | Drawn:
        """Draw items from the policy and look up the rewards of their tokens."""
        if not self.lam:
            return draw.beside_target()
        items = draw.sampled(self.samples)
        weights = torch.where(draw.frequency > 0, draw.frequency.double(), self.unseen)  # [N]
        score = None
        if self.reward != "frequency":
            everyone = preference(draw.collab_all(), from_mean=self.reward != "add")
            score = everyone.gather(1, items.clamp(min=0))
            weights = weights * everyone if self.reward == "propagated" else weights
        flow = draw.flows(items, weights).log()
        extra = {"log_reward": self._bent(flow.diff(dim=-1), score).float()}
        if score is not None:
            extra["score"] = score.float()
        if self._ends(draw.catalogue.terminator):
            extra["log_end"] = self._bent_ends(draw, items, weights, flow, score).float()
        if self.reduction == "pooled":
            lengths = draw.catalogue.tensors(items.device).lengths[items.clamp(min=0)] * (items >= 0)
            states = self._states(lengths, flow.shape[-1] - 1, "log_end" in extra).sum(-1)
            pairs = (states * (states - 1) / 2).sum() / len(items)
            extra["pairs"] = pairs.clamp(min=1e-9).float().expand(len(items))
        return Drawn(draw.beside_target(items), extra=extra)

    def loss(self, step: Step) -> Tensor:
        """Return sft_weight * L_SFT + lam * L_flow, a mean over the prompts."""
        nll = step.nll(self.sft_reduction)
        if not self.lam:
            return self.sft_weight * nll
        inside, present = step.tokens.present[:, 1:], step.present[:, 1:]
        residual = torch.where(inside, step.logp_tokens[:, 1:] - step.extra["log_reward"], 0.0)  # d, [B, C - 1, L]
        at = pad(residual.cumsum(-1), (1, 0))  # c, [B, C - 1, L + 1]
        if "log_end" in step.extra:
            at = at + pad(step.tokens.ended[:, 1:] - step.extra["log_end"], (0, 1))
        states = self._states(step.lengths[:, 1:], inside.shape[-1], "log_end" in step.extra)
        square = pair_squares(at, states)  # [B, C - 1]
        if self.reduction == "pooled":
            flow = (square.sum(1) / step.extra["pairs"]).mean()
        else:
            n = states.sum(-1)
            square = square / (n * (n - 1) / 2).clamp(min=1) if self.reduction == "sequence" else square
            flow = (square.sum(1) / present.sum(1).clamp(min=1)).mean()
        self._log(step, nll, flow, residual)
        return self.sft_weight * nll + self.lam * flow

    def _ends(self, terminator: int | None) -> bool:
        """Whether states are balanced against ending there."""
        return self.form == "code" and terminator is not None

    def _states(self, lengths: Tensor, width: int, ends: bool) -> Tensor:
        """Mark the states between actions, of paths with the given lengths: [B, C] -> [B, C, width + 1].

        State t has t tokens. Where states are balanced against ending, the terminator is no token of theirs.
        """
        last = (lengths - int(ends)).unsqueeze(-1)
        t = torch.arange(width + 1, device=lengths.device)
        every = width + 1 if self.granularity == "item" else self.granularity
        return (lengths.unsqueeze(-1) > 0) & (t <= last) & ((t % every == 0) | (t == last))

    def _bent(self, log_reward: Tensor, score: Tensor | None) -> Tensor:
        """Apply the drawn item's score to its tokens' log-rewards: [B, C, L] and [B, C] -> [B, C, L]."""
        if score is None or self.reward == "propagated":
            return log_reward
        score = score.unsqueeze(-1) + 1e-20
        return log_reward / score if self.reward == "div" else log_reward + self.add_weight * score.log()

    def _bent_ends(self, draw: Draw, items: Tensor, weights: Tensor, flow: Tensor, score: Tensor | None) -> Tensor:
        """Return the log-reward of ending at each state of the drawn paths, state l having l tokens: [B, C, L].

        Args:
            draw: The batch.
            items: The drawn items, [B, C].
            weights: Rewards of all items, [N] or [B, N].
            flow: Logarithm of the flow of each state, [B, C, L + 1].
            score: S of the drawn items, [B, C].
        """
        trie = draw.catalogue.tensors(items.device)
        nodes = pad(trie.nodes[items.clamp(min=0)][..., :-1].clamp(min=0), (1, 0))  # before each token
        closing = torch.full_like(trie.parent, -1)
        closing[trie.parent[trie.leaf_of]] = torch.arange(len(trie.leaf_of), device=items.device)
        closed_by = closing[nodes]  # an item that ends here, [B, C, L]
        if not self.inner_ends:
            t = torch.arange(nodes.shape[-1], device=items.device)
            closed_by = torch.where(t == trie.lengths[items.clamp(min=0)].unsqueeze(-1) - 1, closed_by, -1)
        ended = draw.flows(closed_by.flatten(1), weights)[..., -1].view(closed_by.shape)
        return torch.where(closed_by < 0, self.floor, self._bent(ended.log() - flow[..., :-1], score))

    def _log(self, step: Step, nll: Tensor, flow: Tensor, residual: Tensor) -> None:
        """Keep both losses, the residuals per token and per item, and what was drawn."""
        inside, present = step.tokens.present[:, 1:], step.present[:, 1:]
        there = residual[inside]
        values: Mapping[str, Tensor] = {
            "nll": nll,
            "flow": flow,
            "residual_mean": there.mean(),
            "residual_std": there.std(correction=0),
            "item_log_ratio": residual.sum(-1)[present].mean(),
            "log_reward": (step.extra["log_reward"] * inside).sum(-1)[present].mean(),
            "hit": (step.items[:, 1:] == step.items[:, :1])[present].float().mean(),
        }
        step.log(**values)
        if "score" in step.extra:
            step.log(score=step.extra["score"][present].mean())


def preference(logits: Tensor, from_mean: bool) -> Tensor:
    """Turn collaborative scores into S: the softmax p over the items, scaled by its range, [B, N], float64.

    S = (p - mean) / (max - min) + 1 in (0, 2] with ``from_mean``, else (p - min) / (max - min) in [0, 1].

    Source: the public code's variants "div" and "add".
    """
    p = logits.double().softmax(1)
    low, high = p.amin(1, keepdim=True), p.amax(1, keepdim=True)
    scaled = (p - (p.mean(1, keepdim=True) if from_mean else low)) / (high - low) + float(from_mean)
    return torch.where(high > low, scaled, 1.0)


def pair_squares(x: Tensor, there: Tensor) -> Tensor:
    """Sum (x_j - x_i)^2 over all pairs i < j that are there, in time linear in their number K: [..., T] -> [...].

    It is K times the sum of squared distances from the mean, which loses less to rounding than
    K * sum x^2 - (sum x)^2.
    """
    count = there.sum(-1, keepdim=True)
    mean = torch.where(there, x, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    return count.squeeze(-1) * torch.where(there, (x - mean) ** 2, 0.0).sum(-1)
