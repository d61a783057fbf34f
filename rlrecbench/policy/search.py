"""Walks down the trie: the best leaves (beam), random leaves (sample), all leaves (exact).

A beam is a node of the trie. All functions run without gradients and in the mode the policy is in: call
``policy.eval()`` first unless dropout is wanted.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.base import Encoded, Policy
from rlrecbench.policy.score import CHUNK, Options, child, options

Measure = Literal["vocab", "trie"]
Ints = NDArray[np.int64]

# Prompts taken together by ``beam_all``: few enough for a CPU's caches (measured on two cores: 16 to 32).
BLOCK_CPU, BLOCK_GPU = 32, 1024
# Prompts that ``exact`` walks together, and nodes that it extends together; they bound its memory.
PROMPTS_CPU, PROMPTS_GPU, NODES = 4, 64, 256
_LOW = 0xFFFFFFFF


class Found(NamedTuple):
    """The best leaves of B prompts, best first.

    Attributes:
        leaves: Node ids, -1 where fewer exist, [B, W].
        scores: Log-probability in nats, -inf where fewer exist, [B, W].
    """

    leaves: Tensor
    scores: Tensor


class Sampled(NamedTuple):
    """Leaves drawn with replacement.

    Attributes:
        leaves: Node ids, [B, n].
        logp: Log-probability of the draw (trie measure, at the temperature asked for), nats, [B, n].
    """

    leaves: Tensor
    logp: Tensor


class Unmasked(NamedTuple):
    """Paths drawn over the whole vocabulary.

    Attributes:
        paths: Token ids, -1 behind the end, [B, n, L].
        leaves: Node ids, -1 where the path is no item's, [B, n].
    """

    paths: Tensor
    leaves: Tensor


class Exact(NamedTuple):
    """The whole distribution.

    Attributes:
        leaves: All leaves of the trie in the order of their ids, [F].
        vocab: Log-probability of each, [B, F].
        trie: The same in the trie measure; sums to one, [B, F].
    """

    leaves: Tensor
    vocab: Tensor
    trie: Tensor


class Ranked(NamedTuple):
    """Items of B prompts, best first.

    Attributes:
        items: Item numbers, -1 where the search found fewer, [B, K].
        scores: Score of the item's leaf, -inf where fewer, [B, K].
    """

    items: Tensor
    scores: Tensor


@torch.no_grad()
def beam(
    policy: Policy, encoded: Encoded, width: int, *, measure: Measure = "vocab", temperature: float = 1.0
) -> Found:
    """Find the best leaves by a beam search over the legal tokens.

    Finished paths wait beside the beams and take none of their places. Ties go to the lower node id.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        width: Beams W.
        measure: What the scores are: published beams use "vocab".
        temperature: Divides the logits.

    Source: Freitag and Al-Onaizan, 2017; constrained as in LETTER's evaluation.
    """
    trie = policy.trie
    states, cache = policy.start(encoded)
    nodes = torch.zeros(encoded.batch, 1, dtype=torch.long, device=states.device)
    scores = torch.zeros_like(nodes, dtype=torch.float32)
    leaves, leaf_scores = nodes[:, :0], scores[:, :0]
    for depth, (n_leaves, n_inner) in enumerate(_kinds(policy.catalogue)):
        step = _options(policy, states, nodes, depth, temperature)
        shape = (encoded.batch, nodes.shape[1], -1)
        mass = step.every if measure == "vocab" else step.legal
        totals = (scores.unsqueeze(-1) + (step.logits - mass.unsqueeze(-1)).view(shape)).flatten(1)
        reached = step.nodes.view(encoded.batch, -1)
        ended = trie.first[reached] == trie.first[reached + 1] if n_leaves and n_inner else None
        if n_leaves:
            new = totals if ended is None else totals.masked_fill(~ended, -torch.inf)
            leaf_scores, leaves, _ = _best(torch.cat([leaf_scores, new], 1), torch.cat([leaves, reached], 1), width)
        if n_inner:
            going = totals if ended is None else totals.masked_fill(ended, -torch.inf)
            scores, nodes, at = _best(going, reached, min(width, n_inner))
            tokens = step.tokens.view(encoded.batch, -1).gather(1, at)
            nodes = nodes.masked_fill(scores == -torch.inf, 0)  # any node that has children
            states, cache = policy.step(cache, tokens, at // (reached.shape[1] // shape[1]))
    missing = width - leaves.shape[1]
    leaves = leaves.masked_fill(leaf_scores == -torch.inf, -1)
    return Found(
        torch.nn.functional.pad(leaves, (0, missing), value=-1),
        torch.nn.functional.pad(leaf_scores, (0, missing), value=-torch.inf),
    )


@torch.no_grad()
def beam_all(
    policy: Policy, history: Tensor, width: int, *, measure: Measure = "vocab", temperature: float = 1.0
) -> Found:
    """Encode and search any number of prompts, in blocks of similar length.

    Args:
        policy: The backbone.
        history: Item numbers, oldest first, -1 on the right, [B, H].
        width: Beams W.
        measure: As in ``beam``.
        temperature: As in ``beam``.
    """
    lengths = (history >= 0).sum(1)
    order = lengths.argsort(stable=True)
    leaves = torch.full((len(history), width), -1, device=policy.device)
    scores = torch.full((len(history), width), -torch.inf, device=policy.device)
    for rows in torch.split(order, _pick(policy, BLOCK_CPU, BLOCK_GPU)):
        encoded = policy.encode(history[rows, : int(lengths[rows[-1]])])
        found = beam(policy, encoded, width, measure=measure, temperature=temperature)
        leaves[rows], scores[rows] = found.leaves, found.scores
    return Found(leaves, scores)


@torch.no_grad()
def sample(
    policy: Policy, encoded: Encoded, n: int, *, generator: torch.Generator, temperature: float = 1.0
) -> Sampled:
    """Draw n leaves per prompt, with replacement, from the policy in the trie measure.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        n: Draws per prompt.
        generator: Source of the randomness; one number per draw and token.
        temperature: Divides the logits.
    """
    states, cache = policy.start(encoded)
    nodes = torch.zeros(encoded.batch, 1, dtype=torch.long, device=states.device)
    parents = torch.zeros(encoded.batch, n, dtype=torch.long, device=states.device)
    total = torch.zeros_like(parents, dtype=torch.float32)
    for depth in range(policy.catalogue.max_length):
        step = _options(policy, states, nodes, depth, temperature)
        # The first state serves all draws.
        logp = (step.logits - step.legal.unsqueeze(-1)).view(*nodes.shape, -1).expand(-1, n, -1)
        uniform = torch.rand(logp.shape[:2], generator=generator, device=generator.device, dtype=torch.float64)
        mass = logp.double().exp().cumsum(-1)
        drawn = (mass <= (uniform.to(mass.device) * mass[..., -1]).unsqueeze(-1)).sum(-1, keepdim=True)
        drawn = drawn.clamp(max=logp.shape[-1] - 1)
        going = step.legal.view(nodes.shape) > -torch.inf
        total = total + torch.where(going, logp.gather(-1, drawn).squeeze(-1), 0.0)
        reached, tokens = (
            x.view(*nodes.shape, -1).expand(-1, n, -1).gather(-1, drawn).squeeze(-1) for x in (step.nodes, step.tokens)
        )
        nodes = torch.where(going, reached, nodes)
        if depth + 1 < policy.catalogue.max_length:
            states, cache = policy.step(cache, tokens, parents)
        parents = torch.arange(n, device=nodes.device).expand_as(nodes)
    return Sampled(nodes, total)


@torch.no_grad()
def sample_unmasked(policy: Policy, encoded: Encoded, n: int, *, generator: torch.Generator) -> Unmasked:
    """Draw n token paths per prompt, with replacement, over the whole vocabulary, illegal tokens included.

    A path ends at a leaf of the trie, at the catalogue's terminator, or with its longest path.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        n: Draws per prompt.
        generator: Source of the randomness.
    """
    trie, L = policy.trie, policy.catalogue.max_length
    states, cache = policy.start(encoded)
    nodes = torch.zeros(encoded.batch, n, dtype=torch.long, device=states.device)
    parents = torch.zeros_like(nodes)
    paths = nodes.new_full((encoded.batch, n, L), -1)
    open_ = torch.ones_like(nodes, dtype=torch.bool)
    for depth in range(L):
        uniform = torch.rand(nodes.shape, generator=generator, device=generator.device, dtype=torch.float64)
        at = states.gather(1, parents.unsqueeze(-1).expand(-1, -1, states.shape[-1])).flatten(0, 1)
        drawn = _inverse(policy, at, uniform.to(at.device).flatten()).view(nodes.shape)
        paths[..., depth] = torch.where(open_, drawn, -1)
        nodes = torch.where(open_, child(policy, nodes, drawn), nodes)
        at = nodes.clamp(min=0)
        open_ = open_ & ((nodes < 0) | (trie.first[at] < trie.first[at + 1]))
        if policy.catalogue.terminator is not None:
            open_ = open_ & (drawn != policy.catalogue.terminator)
        if depth + 1 < L:
            states, cache = policy.step(cache, drawn, parents)
        parents = torch.arange(n, device=nodes.device).expand_as(nodes)
    at = nodes.clamp(min=0)
    leaf = (nodes >= 0) & (trie.first[at] == trie.first[at + 1])
    return Unmasked(paths, torch.where(leaf, nodes, -1))


def _inverse(policy: Policy, states: Tensor, uniform: Tensor) -> Tensor:
    """Turn uniform numbers [R] into tokens [R] by the vocabulary's distribution function at states [R, D]."""
    rows = max(1, CHUNK // policy.catalogue.vocab)
    drawn = []
    for part, u in zip(states.split(rows), uniform.split(rows), strict=True):
        below = policy.head(part).double().softmax(-1).cumsum(-1)
        drawn.append(torch.searchsorted(below, (u * below[:, -1]).unsqueeze(-1), right=True).squeeze(-1))
    return torch.cat(drawn).clamp(max=policy.catalogue.vocab - 1)


@torch.no_grad()
def exact(policy: Policy, encoded: Encoded) -> Exact:
    """Compute the probability of every leaf, walking the trie in pieces that bound the memory."""
    leaves = np.flatnonzero(policy.catalogue.trie.n_children == 0)
    at = torch.as_tensor(leaves, device=policy.device)
    reached = torch.zeros(2, encoded.batch, policy.catalogue.trie.n_nodes, device=policy.device)
    for rows in torch.split(torch.arange(encoded.batch, device=policy.device), _pick(policy, PROMPTS_CPU, PROMPTS_GPU)):
        part = reached[:, rows[0] : rows[-1] + 1]
        states, cache = policy.start(encoded.select(rows))
        _descend(policy, states, cache, np.zeros(1, np.int64), 0, part)
    vocab, trie = reached[..., at]
    return Exact(at, vocab, trie)


def _descend(policy: Policy, states: Tensor, cache: object, nodes: Ints, depth: int, reached: Tensor) -> None:
    """Fill in the log-probability of reaching every node below some nodes: ``reached`` [2, B, nodes]."""
    host, trie = policy.catalogue.trie, policy.trie
    B, W = states.shape[:2]
    at = torch.as_tensor(nodes, device=states.device)
    step = _options(policy, states, at.expand(B, W), depth, 1.0)
    counts = host.n_children[nodes]
    parents = np.repeat(np.arange(W), counts)
    slots = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
    below = host.first[nodes][parents] + slots
    for measure, mass in enumerate((step.every, step.legal)):
        logp = (step.logits - mass.unsqueeze(-1)).view(B, W, -1)[:, parents, slots]
        reached[measure][:, below] = reached[measure][:, nodes[parents]] + logp
    inner = np.flatnonzero(host.n_children[below])
    for piece in np.array_split(inner, math.ceil(len(inner) / NODES)) if len(inner) else ():
        tokens = trie.token[torch.as_tensor(below[piece], device=at.device)].expand(B, -1)
        origin = torch.as_tensor(parents[piece], device=at.device).expand(B, -1)
        _descend(policy, *policy.step(cache, tokens, origin), below[piece], depth + 1, reached)


def rank_items(found: Found, catalogue: Catalogue, users: Ints, k: int, seed: int) -> Ranked:
    """Turn ranked leaves into ranked items.

    Items that share a leaf take as many ranks as they are, in the order of a hash of (seed, user, item), so a
    list does not depend on the batch it was computed in.

    Args:
        found: Leaves of B prompts.
        catalogue: The items.
        users: User numbers, [B].
        k: Length K of the lists.
        seed: Seed of the hash.
    """
    leaves = found.leaves.cpu().numpy()
    sizes = np.where(leaves >= 0, catalogue.leaf_sizes[leaves], 0)
    place = np.repeat(np.arange(leaves.size), sizes.ravel())  # row * W + beam
    items = np.concatenate([catalogue.items_of(leaf) for leaf in leaves.ravel()[sizes.ravel() > 0]] or [place])
    row = place // max(leaves.shape[1], 1)
    order = np.lexsort((items, _hash(seed, users[row], items), place))
    totals = sizes.sum(1)
    rank = np.arange(len(place)) - np.repeat(np.cumsum(totals) - totals, totals)
    kept = rank < k
    ranked = np.full((len(leaves), k), -1, np.int64)
    scores = np.full((len(leaves), k), -np.inf, np.float32)
    ranked[row[kept], rank[kept]] = items[order][kept]
    scores[row[kept], rank[kept]] = found.scores.cpu().numpy().ravel()[place[kept]]
    return Ranked(torch.from_numpy(ranked), torch.from_numpy(scores))


def _pick(policy: Policy, cpu: int, gpu: int) -> int:
    return cpu if policy.device.type == "cpu" else gpu


def _kinds(catalogue: Catalogue) -> list[tuple[int, int]]:
    """Leaves and inner nodes at each depth from 1 on."""
    trie = catalogue.trie
    fans = np.split(trie.n_children, trie.levels[1:-1])[1:]
    return [(int((fan == 0).sum()), int((fan > 0).sum())) for fan in fans]


def _options(policy: Policy, states: Tensor, nodes: Tensor, depth: int, temperature: float) -> Options:
    """``options`` of [B, W] nodes, as many at a time as memory allows."""
    rows = max(1, CHUNK // policy.catalogue.vocab)
    chunks = zip(torch.split(states.flatten(0, 1), rows), torch.split(nodes.flatten(), rows), strict=True)
    done = [options(policy, s, n, depth, temperature=temperature) for s, n in chunks]
    return done[0] if len(done) == 1 else Options(*(torch.cat(x) for x in zip(*done, strict=True)))


def _best(scores: Tensor, nodes: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best of each row [B, M]: scores, nodes, columns; ties go to the lower node.

    One integer holds both: a float's bits, made monotone, above the inverted node id.
    """
    bits = (scores + 0.0).view(torch.int32).long()
    keys = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32) | (_LOW - nodes)
    at = keys.topk(min(k, keys.shape[1])).indices
    return scores.gather(1, at), nodes.gather(1, at), at


def _hash(seed: int, users: Ints, items: Ints) -> NDArray[np.uint64]:
    """One reproducible number per (seed, user, item).

    Source: splitmix64 (Steele, Lea and Flood, 2014).
    """
    mixed = np.full(len(items), seed % 2**64, np.uint64)
    for part in (users, items):
        mixed = _mix(_mix(mixed) ^ part.astype(np.uint64))
    return _mix(mixed)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
