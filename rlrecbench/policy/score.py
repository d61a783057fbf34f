"""Log-probabilities of candidate items, token by token, in both measures.

``vocab``: log-softmax over the whole vocabulary. ``trie``: renormalised over the legal children of the node
reached so far, the measure that masked sampling draws from. ``vocab = trie + legal``, where ``legal`` is the
log-probability that the vocabulary measure gives to the legal children together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlrecbench.policy.base import Encoded, Policy

Run = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # fan, states, nodes and tokens of R rows -> [n, R]
CHUNK = 1 << 26  # logits held at a time (256 MiB); beyond, they are computed again in the backward pass


class Options(NamedTuple):
    """What can follow R nodes, padded to a fan of M children.

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
    fan: int,
    *,
    taken: Tensor | None = None,
    temperature: float = 1.0,
) -> Options:
    """Evaluate the children of nodes.

    Args:
        policy: The backbone.
        states: State at each node, [R, D].
        nodes: Nodes, [R]; a leaf has no children.
        fan: Children M of the node that has most of them, such as :meth:`Catalogue.fan` of their depth.
        taken: Tokens whose logits are wanted too, [R].
        temperature: Divides the logits.
    """
    trie = policy.trie
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
    """Scores of the tokens of B x C paths, computed when first asked for.

    All scores are 0 behind a path's end and for absent candidates, in nats, [B, C, L].

    Attributes:
        policy: The backbone.
        paths: Token ids, -1 behind the end, [B, C, L].
        nodes: Node of the trie before each token; -1 where the path has left the trie, [B, C, L].
        states: State l predicts token l, [B, C, L, D].
        strays: Whether a path may hold illegal tokens.
    """

    policy: Policy
    paths: Tensor
    nodes: Tensor
    states: Tensor
    strays: bool = False
    _grad: bool = field(default_factory=torch.is_grad_enabled)

    @cached_property
    def present(self) -> Tensor:
        """Where there is a token, [B, C, L]."""
        return self.paths >= 0

    @cached_property
    def vocab(self) -> Tensor:
        """Log-probability over the whole vocabulary."""
        taken, every, _ = self._parts
        return torch.where(self.present, taken - every, 0.0)

    @cached_property
    def trie(self) -> Tensor:
        """Log-probability among the legal children; exactly 0 for an only child, -inf for an illegal token."""
        taken, _, legal = self._parts
        return torch.where(self.present, torch.where(self._lawful, taken - legal, -torch.inf), 0.0)

    @cached_property
    def legal(self) -> Tensor:
        """Log-probability that the vocabulary measure gives to the legal children; -inf off the trie."""
        _, every, legal = self._parts
        return torch.where(self.present, torch.where(self.nodes >= 0, legal - every, -torch.inf), 0.0)

    @cached_property
    def ended(self) -> Tensor:
        """Log-probability over the vocabulary that the path ends here: of the catalogue's terminator.

        Raises:
            ValueError: The catalogue's paths have no terminator.
        """
        terminator = self.policy.catalogue.terminator
        if terminator is None:
            raise ValueError("the paths of this catalogue have no terminator")

        def run(states: Tensor) -> Tensor:
            logits = self.policy.head(states)
            return logits[:, terminator] - logits.logsumexp(-1)

        with torch.set_grad_enabled(self._grad):
            states = self.states[self.present]  # [R, D]
            rows = max(1, CHUNK // self.policy.catalogue.vocab)
            if len(states) <= rows:
                scores = run(states)
            else:
                scores = torch.cat([checkpoint(run, part, use_reentrant=False) for part in states.split(rows)])
            return scores.new_zeros(self.present.shape).masked_scatter(self.present, scores)

    @torch.no_grad()
    def entropy(self) -> Tensor:
        """Entropy of the legal children at each node before a token, in nats, trie measure; without gradient."""

        def run(fan: int, states: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
            found = options(self.policy, states, nodes, fan)
            logp = found.logits - found.legal.unsqueeze(-1)
            return -torch.where(logp > -torch.inf, logp.exp() * logp, 0.0).sum(-1, keepdim=True).T

        return torch.where(self.present & (self.nodes >= 0), self._each(run, 1)[0], 0.0)

    @cached_property
    def _lawful(self) -> Tensor:
        """Where the token is a child of the node before it, [B, C, L]."""
        if not self.strays:
            return self.present
        return child(self.policy, self.nodes, self.paths.clamp(min=0)) >= 0

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of each token, log-sum-exp over the vocabulary and over the children, each [B, C, L]."""

        def run(fan: int, states: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
            found = options(self.policy, states, nodes, fan, taken=tokens)
            return torch.stack([found.taken, found.every, found.legal])

        with torch.set_grad_enabled(self._grad):
            taken, every, legal = self._each(run, 3)
        return taken, every, legal

    def _each(self, run: Run, n: int) -> Tensor:
        """Compute n numbers for every token that is there: [n, B, C, L].

        Paths of one length go depth by depth. Else the tokens go by the number of brothers they have, so that the few
        nodes with hundreds of children do not widen the many that have one.
        """
        catalogue, shape = self.policy.catalogue, self.present.shape
        if catalogue.lengths.min() == catalogue.max_length:
            levels = [self._level(run, n, depth) for depth in range(shape[2])]
            return torch.stack(levels, -1).view(n, *shape)
        rows = self.present.flatten().nonzero().squeeze(1)
        states, nodes, tokens = (x.flatten(0, 2)[rows] for x in (self.states, self.nodes.clamp(min=0), self.paths))
        children = self.policy.trie.first[nodes + 1] - self.policy.trie.first[nodes]
        groups = [
            (((children > low) & (children <= fan)).nonzero().squeeze(1), fan)
            for low, fan in pairwise([-1, *catalogue.fans])
        ]
        scores = torch.cat([self._rows(run, fan, states[at], nodes[at], tokens[at]) for at, fan in groups], 1)
        at = rows[torch.cat([at for at, _ in groups])]
        return scores.new_zeros(n, self.present.numel()).index_copy(1, at, scores).view(n, *shape)

    def _level(self, run: Run, n: int, depth: int) -> Tensor:
        """Score the tokens at one depth: [n, B * C]."""
        present = self.present[:, :, depth].flatten()
        nodes = torch.where(present, self.nodes[:, :, depth].flatten(), 0).clamp(min=0)
        tokens = torch.where(present, self.paths[:, :, depth].flatten(), 0)
        states, fan = self.states[:, :, depth].flatten(0, 1), self.policy.catalogue.fan(depth)
        return self._rows(run, fan, states, nodes, tokens)

    def _rows(self, run: Run, fan: int, states: Tensor, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Score one token of each row [R], some rows at a time when the vocabulary is large: [n, R]."""
        vocab = self.policy.catalogue.vocab
        if self.present.numel() * vocab <= CHUNK:
            return run(fan, states, nodes, tokens)
        rows = max(1, CHUNK // vocab)
        chunks = zip(*(torch.split(x, rows) for x in (states, nodes, tokens)), strict=True)
        return torch.cat([checkpoint(run, fan, *chunk, use_reentrant=False) for chunk in chunks], 1)


def score(policy: Policy, encoded: Encoded, items: Tensor, paths: Tensor | None = None) -> TokenScores:
    """Run candidates against the encoded prompts they share.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        items: Item numbers, -1 = absent, [B, C].
        paths: Token paths of the candidates where they are not the items' own, -1 behind the end, [B, C, L].
    """
    trie = policy.trie
    if paths is None:
        items = items.to(policy.device)
        there = (items >= 0).unsqueeze(-1)
        own = torch.where(there, trie.paths[items.clamp(min=0)], -1)
        nodes = torch.where(there, trie.nodes[items.clamp(min=0)], -1)[..., :-1]
        nodes = torch.nn.functional.pad(nodes, (1, 0))
        return TokenScores(policy, own, nodes, policy.decode(encoded, own[..., :-1]))
    paths = paths.to(policy.device)
    before = [torch.zeros_like(paths[..., 0])]
    for depth in range(paths.shape[-1] - 1):
        before.append(child(policy, before[-1], paths[..., depth].clamp(min=0)))
    states = policy.decode(encoded, paths[..., :-1])
    return TokenScores(policy, paths, torch.stack(before, -1), states, strays=True)


def child(policy: Policy, nodes: Tensor, tokens: Tensor) -> Tensor:
    """Follow one token from each node: the child, or -1 where the token is illegal or the node -1 already."""
    trie = policy.trie
    parents = nodes.clamp(min=0)
    low, high = trie.first[parents], trie.first[parents + 1]
    end = high
    for _ in range(int(policy.catalogue.trie.n_children.max()).bit_length()):
        middle = (low + high) // 2
        below = (low < high) & (trie.token[middle.clamp(max=len(trie.token) - 1)] < tokens)
        low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
    found = (nodes >= 0) & (low < end) & (trie.token[low.clamp(max=len(trie.token) - 1)] == tokens)
    return torch.where(found, low, -1)
