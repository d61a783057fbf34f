"""Log-probabilities of candidate items, token by token, in both measures.

``vocab``: log-softmax over the whole vocabulary. ``trie``: renormalised over the legal children of the node
reached so far, the measure that masked sampling draws from. ``vocab = trie + legal``, where ``legal`` is the
log-probability that the vocabulary measure gives to the legal children together.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlrecbench.policy.base import Encoded, Policy

CHUNK = 1 << 26  # logits held at a time (256 MiB); beyond, they are computed again in the backward pass


class Options(NamedTuple):
    """What can follow R nodes of one depth, padded to the widest fan M at that depth.

    Attributes:
        nodes: Children in the order of their tokens, [R, M].
        tokens: Token of each child, [R, M].
        logits: -inf behind a node's last child, [R, M].
        every: Log-sum-exp over the vocabulary, [R].
        legal: Log-sum-exp over the children, [R].
        taken: Logit of one given token, [R].
    """

    nodes: Tensor
    tokens: Tensor
    logits: Tensor
    every: Tensor
    legal: Tensor
    taken: Tensor


def options(
    policy: Policy,
    states: Tensor,
    nodes: Tensor,
    depth: int,
    *,
    taken: Tensor | None = None,
    temperature: float = 1.0,
) -> Options:
    """Evaluate the children of nodes of one depth.

    Args:
        policy: The backbone.
        states: State at each node, [R, D].
        nodes: Nodes, [R]; a leaf has no children.
        depth: Their depth (leaves may be shallower).
        taken: Tokens whose logits are wanted too, [R].
        temperature: Divides the logits.
    """
    trie = policy.trie
    levels = policy.catalogue.trie.levels
    fan = int(policy.catalogue.trie.n_children[levels[depth] : levels[depth + 1]].max())
    at = trie.first[nodes].unsqueeze(-1) + torch.arange(fan, device=nodes.device)
    absent = at >= trie.first[nodes + 1].unsqueeze(-1)
    at = at.clamp(max=len(trie.token) - 1)
    tokens = trie.token[at].clamp(min=0)
    logits = policy.head(states)
    if temperature != 1.0:
        logits = logits / temperature
    inside = logits.gather(-1, tokens).masked_fill(absent, -torch.inf)
    wanted = tokens[:, 0] if taken is None else taken
    chosen = logits.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
    return Options(at, tokens, inside, logits.logsumexp(-1), inside.logsumexp(-1), chosen)


@dataclass(frozen=True)
class TokenScores:
    """Scores of the tokens of B x C items, computed when first asked for.

    All scores are 0 behind a path's end and for absent items, in nats, [B, C, L].

    Attributes:
        policy: The backbone.
        items: Item numbers, -1 = absent, [B, C].
        states: State l predicts token l, [B, C, L, D].
    """

    policy: Policy
    items: Tensor
    states: Tensor
    _grad: bool = field(default_factory=torch.is_grad_enabled)

    @cached_property
    def present(self) -> Tensor:
        """Where there is a token, [B, C, L]."""
        trie = self.policy.trie
        lengths = torch.where(self.items >= 0, trie.lengths[self.items.clamp(min=0)], 0)
        return torch.arange(trie.paths.shape[1], device=lengths.device) < lengths.unsqueeze(-1)

    @cached_property
    def vocab(self) -> Tensor:
        """Log-probability over the whole vocabulary."""
        taken, every, _ = self._parts
        return torch.where(self.present, taken - every, 0.0)

    @cached_property
    def trie(self) -> Tensor:
        """Log-probability among the legal children; exactly 0 where there is only one."""
        taken, _, legal = self._parts
        return torch.where(self.present, taken - legal, 0.0)

    @cached_property
    def legal(self) -> Tensor:
        """Log-probability that the vocabulary measure gives to the legal children."""
        _, every, legal = self._parts
        return torch.where(self.present, legal - every, 0.0)

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of each token, log-sum-exp over the vocabulary and over the children, each [B, C, L]."""
        with torch.set_grad_enabled(self._grad):
            levels = [self._level(depth) for depth in range(self.present.shape[2])]
            taken, every, legal = torch.stack(levels, -1).view(3, *self.present.shape)
        return taken, every, legal

    def _level(self, depth: int) -> Tensor:
        """Score the tokens at one depth: [3, B * C]."""
        trie = self.policy.trie
        items = self.items.flatten().clamp(min=0)
        present = self.present[:, :, depth].flatten()
        nodes = trie.nodes[items, depth - 1] if depth else torch.zeros_like(items)
        nodes = torch.where(present, nodes, 0)
        tokens = torch.where(present, trie.paths[items, depth], 0)
        states = self.states[:, :, depth].flatten(0, 1)
        if depth < self.policy.catalogue.lengths.min():
            return self._rows(depth, states, nodes, tokens)
        rows = present.nonzero().squeeze(1)
        scores = self._rows(depth, states[rows], nodes[rows], tokens[rows])
        return scores.new_zeros(3, len(present)).index_copy(1, rows, scores)

    def _rows(self, depth: int, states: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Score one token of each row [R], some rows at a time when the vocabulary is large: [3, R]."""

        def run(states: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
            found = options(self.policy, states, nodes, depth, taken=tokens)
            return torch.stack([found.taken, found.every, found.legal])

        vocab = self.policy.catalogue.vocab
        if self.present.numel() * vocab <= CHUNK:
            return run(states, nodes, tokens)
        rows = max(1, CHUNK // vocab)
        chunks = zip(*(torch.split(x, rows) for x in (states, nodes, tokens)), strict=True)
        return torch.cat([checkpoint(run, *chunk, use_reentrant=False) for chunk in chunks], 1)


def score(policy: Policy, encoded: Encoded, items: Tensor) -> TokenScores:
    """Run candidate items against the encoded prompts they share.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        items: Item numbers, -1 = absent, [B, C].
    """
    items = items.to(policy.device)
    paths = torch.where(items.unsqueeze(-1) >= 0, policy.trie.paths[items.clamp(min=0)], -1)
    return TokenScores(policy, items, policy.decode(encoded, paths[..., :-1]))
