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


class Assistant(NamedTuple):
    """Another distribution over the children of each node, mixed into a beam search.

    A child's score is alpha * log p(child) + (1 - alpha) * (log_flow[child] - log_flow[its parent]).

    Attributes:
        alpha: Weight of the backbone, in [0, 1].
        log_flow: Logarithm of the assistant's mass below each node of the trie, for each prompt, [B, nodes].

    Source: D3 (Bao et al., 2024).
    """

    alpha: float
    log_flow: Tensor


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
    policy: Policy,
    encoded: Encoded,
    width: int,
    *,
    measure: Measure = "vocab",
    temperature: float = 1.0,
    length_penalty: float = 0.0,
    assistant: Assistant | None = None,
) -> Found:
    """Find the best leaves by a beam search over the legal tokens.

    After n tokens the beams are the best unfinished beginnings of n tokens. Finished paths wait beside the beams and
    take none of their places. A beam that cannot reach the list any more is dropped, which changes no list. Ties go
    to the lower node id.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        width: Beams W.
        measure: What the scores are: published beams use "vocab".
        temperature: Divides the logits.
        length_penalty: A path's score is its sum divided by its number of tokens to this power, 0 or more.
        assistant: Another distribution over the children, mixed in.

    Source: Freitag and Al-Onaizan, 2017; constrained as in LETTER's evaluation.
    """
    trie, longest = policy.trie, policy.catalogue.longest(policy.device)
    lazy = measure == "trie"
    walk = policy.walk(encoded, lazy)
    states = walk.root
    nodes = torch.zeros(encoded.batch, 1, dtype=torch.long, device=states.device)
    scores = torch.zeros_like(nodes, dtype=torch.float32)
    leaves, leaf_scores = nodes[:, :0], scores[:, :0]
    for depth, (n_leaves, n_inner) in enumerate(_kinds(policy.catalogue)):
        below = _children(policy, states, nodes, scores > -torch.inf, depth, measure, temperature, assistant)
        totals = (scores.unsqueeze(-1) + below.scores).flatten(1)
        reached = below.nodes.flatten(1)
        ended = trie.first[reached] == trie.first[reached + 1] if n_leaves and n_inner else None
        if n_leaves:
            new = totals if ended is None else totals.masked_fill(~ended, -torch.inf)
            new = new / (depth + 1) ** length_penalty
            leaf_scores, leaves, _ = _best(torch.cat([leaf_scores, new], 1), torch.cat([leaves, reached], 1), width)
        if n_inner:
            going = totals if ended is None else totals.masked_fill(ended, -torch.inf)
            scores, nodes, at = _best(going, reached, min(width, n_inner))
            if leaves.shape[1] == width:
                bound = scores / longest[nodes] ** length_penalty  # sums only fall, and no path is longer
                scores = scores.masked_fill(bound < leaf_scores[:, -1:], -torch.inf)
            live = scores > -torch.inf
            if not live.any():
                break
            nodes = nodes.masked_fill(~live, 0)  # any node that has children
            tokens = below.tokens.flatten(1).gather(1, at)
            states = walk.go(nodes, tokens, at // below.nodes.shape[2], live & trie.forks[nodes] if lazy else live)
    missing = width - leaves.shape[1]
    leaves = leaves.masked_fill(leaf_scores == -torch.inf, -1)
    return Found(
        torch.nn.functional.pad(leaves, (0, missing), value=-1),
        torch.nn.functional.pad(leaf_scores, (0, missing), value=-torch.inf),
    )


@torch.no_grad()
def beam_all(policy: Policy, history: Tensor, width: int, *, measure: Measure = "vocab") -> Found:
    """Encode and search any number of prompts, in blocks of similar length.

    Args:
        policy: The backbone.
        history: Item numbers, oldest first, -1 on the right, [B, H].
        width: Beams W.
        measure: As in ``beam``.
    """
    lengths = (history >= 0).sum(1)
    order = lengths.argsort(stable=True)
    leaves = torch.full((len(history), width), -1, device=policy.device)
    scores = torch.full((len(history), width), -torch.inf, device=policy.device)
    for rows in torch.split(order, _pick(policy, BLOCK_CPU, BLOCK_GPU)):
        encoded = policy.encode(history[rows, : int(lengths[rows[-1]])])
        found = beam(policy, encoded, width, measure=measure)
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
    trie = policy.trie
    walk = policy.walk(encoded, lazy=True)
    states = walk.root
    nodes = torch.zeros(encoded.batch, 1, dtype=torch.long, device=states.device)
    parents = torch.zeros(encoded.batch, n, dtype=torch.long, device=states.device)
    total = torch.zeros_like(parents, dtype=torch.float32)
    for depth in range(policy.catalogue.max_length):
        going = trie.first[nodes] < trie.first[nodes + 1]
        if not going.any():
            break
        below = _children(policy, states, nodes, going, depth, "trie", temperature)
        # The first state serves all draws.
        logp, reached, tokens = (x.expand(-1, n, -1) for x in (below.scores, below.nodes, below.tokens))
        uniform = torch.rand(logp.shape[:2], generator=generator, device=generator.device, dtype=torch.float64)
        mass = logp.double().exp().cumsum(-1)
        drawn = (mass <= (uniform.to(mass.device) * mass[..., -1]).unsqueeze(-1)).sum(-1, keepdim=True)
        drawn = drawn.clamp(max=logp.shape[-1] - 1)
        total = total + torch.where(going, logp.gather(-1, drawn).squeeze(-1), 0.0)
        nodes = torch.where(going, reached.gather(-1, drawn).squeeze(-1), nodes)
        if depth + 1 < policy.catalogue.max_length:
            states = walk.go(nodes, tokens.gather(-1, drawn).squeeze(-1), parents, trie.forks[nodes])
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
        at = nodes.clamp(min=0)  # who has left the trie counts as at the root, which has children
        open_ = open_ & (trie.first[at] < trie.first[at + 1])
        if policy.catalogue.terminator is not None:
            open_ = open_ & (drawn != policy.catalogue.terminator)
        if depth + 1 < L:
            states, cache = policy.step(cache, drawn, parents)
        parents = torch.arange(n, device=nodes.device).expand_as(nodes)
    at = nodes.clamp(min=0)
    leaf = trie.first[at] == trie.first[at + 1]
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
    step = _options(policy, states.flatten(0, 1), at.expand(B, W).flatten(), policy.catalogue.fan(depth), 1.0)
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


class _Children(NamedTuple):
    """The children of W beams, padded to a fan of M: nodes, tokens and scores (-inf where there is none), [B, W, M]."""

    nodes: Tensor
    tokens: Tensor
    scores: Tensor


def _children(
    policy: Policy,
    states: Tensor,
    nodes: Tensor,
    live: Tensor,
    depth: int,
    measure: Measure,
    temperature: float,
    assistant: Assistant | None = None,
) -> _Children:
    """Score the children of the live ones of some nodes at one depth, [B, W]; the others' scores mean nothing.

    In the trie measure an only child scores 0, and no state is looked at.
    """
    trie, fan = policy.trie, policy.catalogue.fan(depth)
    read = (live & trie.forks[nodes] if measure == "trie" else live).flatten()
    rows = read.nonzero().squeeze(1)
    whole = len(rows) == len(read)
    there = states.flatten(0, 1) if whole else states.flatten(0, 1)[rows]
    found = _options(policy, there, nodes.flatten() if whole else nodes.flatten()[rows], fan, temperature)
    scores = found.logits - (found.every if measure == "vocab" else found.legal).unsqueeze(-1)
    if whole:
        at, tokens = found.nodes, found.tokens
    else:
        first = trie.first[nodes.flatten()].unsqueeze(-1) + torch.arange(fan, device=nodes.device)
        absent = first >= trie.first[nodes.flatten() + 1].unsqueeze(-1)
        at = first.clamp(max=len(trie.token) - 1)
        tokens = trie.token[at].clamp(min=0)
        scores = scores.new_zeros(absent.shape).masked_fill(absent, -torch.inf).index_copy(0, rows, scores)
    at, tokens, scores = (x.view(*nodes.shape, fan) for x in (at, tokens, scores))
    if assistant is not None:
        mass = assistant.log_flow.gather(1, at.flatten(1)).view_as(scores)
        share = mass - assistant.log_flow.gather(1, nodes).unsqueeze(-1)
        mixed = assistant.alpha * scores + (1 - assistant.alpha) * share
        scores = torch.where(scores > -torch.inf, mixed, -torch.inf)
    return _Children(at, tokens, scores)


def _options(policy: Policy, states: Tensor, nodes: Tensor, fan: int, temperature: float) -> Options:
    """``options`` of R nodes, as many at a time as memory allows."""
    rows = max(1, CHUNK // policy.catalogue.vocab)
    chunks = zip(torch.split(states, rows), torch.split(nodes, rows), strict=True)
    done = [options(policy, s, n, fan, temperature=temperature) for s, n in chunks]
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
