"""Paths over the whole vocabulary, legal or not: how they are drawn, scored and followed down the trie."""

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch.testing import assert_close

from rlrecbench.catalogue import Catalogue
from rlrecbench.method import Draw, Prompts
from rlrecbench.policy import score as module
from rlrecbench.policy.score import child, score
from rlrecbench.policy.search import sample_unmasked
from rlrecbench.policy.t5 import T5Policy, T5Shape
from rlrecbench.seeds import generator

Make = Callable[..., T5Policy]
Codes = Callable[..., list[list[int]]]
HISTORY = torch.tensor([[2, 1], [0, -1], [-1, -1]])
SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
RAGGED = [[1, 2], [1, 3, 1], [2, 1, 3], [3], [2, 1, 1]]
TITLES = [[1, 3], [1, 2, 3], [2, 1, 1, 3], [2, 3]]


def tiny(paths: list[list[int]], terminator: int | None) -> T5Policy:
    """Four tokens, one of which is the padding, and random weights."""
    torch.manual_seed(1)
    return T5Policy(Catalogue(paths, 4, terminator=terminator), SHAPE).eval()


@torch.no_grad()
def enumerated(policy: T5Policy, paths: list[list[int]], terminator: int | None) -> dict[tuple[int, ...], Tensor]:
    """Probability [B] of every path, one prefix at a time: it ends with an item, the terminator, or the longest."""
    encoded = policy.encode(HISTORY)
    whole: dict[tuple[int, ...], Tensor] = {}
    open_: dict[tuple[int, ...], Tensor] = {(): torch.ones(3)}
    while open_:
        prefix, mass = open_.popitem()
        states = policy.decode(encoded, torch.tensor(prefix, dtype=torch.int64).expand(3, 1, -1))[:, 0, -1]
        following = policy.head(states).softmax(-1)
        for token in range(4):
            path = (*prefix, token)
            ends = list(path) in paths or token == terminator or len(path) == max(map(len, paths))
            (whole if ends else open_)[path] = mass * following[:, token]
    return whole


@pytest.mark.parametrize(("paths", "terminator"), [(RAGGED, None), (TITLES, 3)])
def test_frequencies_of_unmasked_samples(paths: list[list[int]], terminator: int | None) -> None:
    """Ten thousand draws per prompt against every path's probability, chi-square at 0.1 %."""
    policy = tiny(paths, terminator)
    known = enumerated(policy, paths, terminator)
    n = 10_000
    drawn = sample_unmasked(policy, policy.encode(HISTORY), n, generator=torch.Generator().manual_seed(5))
    for b in range(3):
        found = Counter(tuple(t for t in path if t >= 0) for path in drawn.paths[b].tolist())
        assert found.keys() <= known.keys()
        expected = {path: float(p[b]) * n for path, p in known.items()}
        assert sum(expected.values()) == pytest.approx(n, rel=1e-4)
        rare = {path for path, e in expected.items() if e < 5}
        counts = [float(found[path]) for path in known if path not in rare]
        shares = [expected[path] for path in known if path not in rare]
        counts.append(n - sum(counts))
        shares.append(n - sum(shares))
        assert chisquare(counts, shares).pvalue > 0.001


@pytest.mark.parametrize(("paths", "terminator"), [(RAGGED, None), (TITLES, 3)])
def test_a_sample_has_a_leaf_where_its_path_is_an_items(paths: list[list[int]], terminator: int | None) -> None:
    policy = tiny(paths, terminator)
    drawn = sample_unmasked(policy, policy.encode(HISTORY), 500, generator=torch.Generator().manual_seed(5))
    leaf = {tuple(path): int(policy.catalogue.leaf_of[i]) for i, path in enumerate(paths)}
    found = [tuple(t for t in path if t >= 0) for path in drawn.paths.flatten(0, 1).tolist()]
    assert drawn.leaves.flatten().tolist() == [leaf.get(path, -1) for path in found]
    assert {path in leaf for path in found} == {True, False}
    ends = (drawn.paths < 0).long().diff(dim=-1)
    assert bool((ends >= 0).all())  # no token behind the end
    assert int(drawn.paths.min()) == -1


def test_unmasked_draws_give_the_items_of_their_paths() -> None:
    policy = tiny(RAGGED, None)
    draw = Draw(Prompts("train", torch.arange(3), HISTORY), torch.zeros(3, dtype=torch.int64), policy, generator(0),
                torch.ones(5))  # fmt: skip
    drawn = draw.unmasked(200)
    assert drawn.paths is not None
    for item, path in zip(drawn.items.flatten().tolist(), drawn.paths.flatten(0, 1).tolist(), strict=True):
        tokens = [t for t in path if t >= 0]
        assert item == (RAGGED.index(tokens) if tokens in RAGGED else -1)


def test_unmasked_samples_repeat_with_their_seed(policy: T5Policy) -> None:
    encoded = policy.encode(HISTORY)
    a, b, c = (sample_unmasked(policy, encoded, 50, generator=torch.Generator().manual_seed(s)) for s in (7, 7, 8))
    assert torch.equal(a.paths, b.paths)
    assert not torch.equal(a.paths, c.paths)


def _same_scores(policy: T5Policy, items: Tensor) -> None:
    encoded = policy.encode(HISTORY)
    own = torch.where((items >= 0).unsqueeze(-1), policy.trie.paths[items.clamp(min=0)], -1)
    one, two = score(policy, encoded, items), score(policy, encoded, torch.full_like(items, -1), own)
    for name in ("present", "vocab", "trie", "legal", "states"):
        assert_close(getattr(two, name), getattr(one, name), atol=0, rtol=0)
    assert_close(two.entropy(), one.entropy(), atol=0, rtol=0)


@settings(max_examples=15, deadline=None)
@given(items=st.integers(3, 30), levels=st.integers(1, 4), width=st.integers(1, 5), seed=st.integers(0, 999))
def test_a_legal_path_scores_as_its_item(
    make: Make, codes: Codes, items: int, levels: int, width: int, seed: int
) -> None:
    policy = make(codes(items, levels, width, seed), vocab=1 + levels * width, seed=seed)
    drawn = torch.randint(-1, items, (3, 4), generator=torch.Generator().manual_seed(seed))
    _same_scores(policy, drawn)


def test_a_legal_path_of_any_length_scores_as_its_item(unequal: T5Policy) -> None:
    _same_scores(unequal, torch.tensor([[0, 1, 2, 3], [4, -1, 5, 6], [7, 1, -1, -1]]))


def _strays(policy: T5Policy, seed: int) -> Tensor:
    """Items' paths with one token changed, cut where a path of the catalogue ends: [3, 6, L]."""
    rng = torch.Generator().manual_seed(seed)
    own = policy.catalogue.paths.tolist()
    whole = {tuple(t for t in path if t >= 0) for path in own}
    L = policy.catalogue.max_length
    out = torch.full((18, L), -1)
    for row in range(18):
        path = [t for t in own[int(torch.randint(len(own), (1,), generator=rng))] if t >= 0]
        path += torch.randint(policy.catalogue.vocab, (L - len(path),), generator=rng).tolist()
        path[int(torch.randint(L, (1,), generator=rng))] = int(
            torch.randint(policy.catalogue.vocab, (1,), generator=rng)
        )
        end = next((i for i in range(1, L + 1) if tuple(path[:i]) in whole), L)
        out[row, :end] = torch.tensor(path[:end])
    return out.view(3, 6, L)


@pytest.mark.parametrize("seed", range(6))
def test_illegal_paths_by_definition(unequal: T5Policy, seed: int) -> None:
    """Each token from the logits and the set of legal tokens behind its prefix.

    ``vocab`` is the log-softmax. ``legal`` is the log of the legal tokens' mass, -inf behind a prefix of no item.
    ``trie`` is vocab - legal for a legal token, else -inf. ``entropy`` is that of the renormalised legal tokens.
    """
    paths = _strays(unequal, seed)
    encoded = unequal.encode(HISTORY)
    with torch.no_grad():
        tokens = score(unequal, encoded, torch.full((3, 6), -1), paths)
        logits = unequal.head(unequal.decode(encoded, paths))[:, :, :4].double()
        entropy = tokens.entropy()
    catalogue = unequal.catalogue
    after: dict[tuple[int, ...], set[int]] = {}
    for path, length in zip(catalogue.paths.tolist(), catalogue.lengths.tolist(), strict=True):
        for depth in range(length):
            after.setdefault(tuple(path[:depth]), set()).add(path[depth])
    off = 0
    for b, c, depth in itertools.product(range(3), range(6), range(4)):
        at, token = (b, c, depth), int(paths[b, c, depth])
        got = [float(x[at]) for x in (tokens.vocab, tokens.legal, tokens.trie, entropy)]
        if token < 0:
            assert got == [0.0] * 4
            continue
        logp = logits[at].log_softmax(-1)
        legal = sorted(after.get(tuple(paths[b, c, :depth].tolist()), ()))
        mass = logp[legal].logsumexp(-1)
        inside = logp[legal] - mass
        share = float(logp[token] - mass) if token in legal else -torch.inf
        assert got == pytest.approx(
            [float(logp[token]), float(mass), share, float(-(inside.exp() * inside).sum())], abs=1e-5
        )
        off += not legal
    assert off > 0
    assert tokens.strays


@pytest.mark.parametrize("measure", ["vocab", "trie", "legal"])
def test_illegal_tokens_leave_no_hole_in_the_gradient(unequal: T5Policy, measure: str) -> None:
    """What is finite has a finite gradient, though -inf stands beside it."""
    values: Tensor = getattr(
        score(unequal, unequal.encode(HISTORY), torch.full((3, 6), -1), _strays(unequal, 0)), measure
    )
    assert (measure == "vocab") == bool(values.isfinite().all())
    slopes = torch.autograd.grad(values[values.isfinite()].sum(), list(unequal.parameters()))
    assert all(bool(s.isfinite().all()) for s in slopes)


@settings(max_examples=20, deadline=None)
@given(items=st.integers(1, 40), levels=st.integers(1, 4), width=st.integers(1, 6), seed=st.integers(0, 999))
def test_child_walks_as_a_dictionary_does(
    make: Make, codes: Codes, items: int, levels: int, width: int, seed: int
) -> None:
    _walks(make(codes(items, levels, width, seed), vocab=1 + levels * width))


def test_child_walks_on_unequal_paths(unequal: T5Policy) -> None:
    _walks(unequal)


def _walks(policy: T5Policy) -> None:
    """Every node, and no node at all (-1), under every token of the vocabulary."""
    catalogue = policy.catalogue
    edges = {}
    for path, nodes, length in zip(catalogue.paths, catalogue.nodes, catalogue.lengths, strict=True):
        for depth in range(int(length)):
            edges[int(nodes[depth - 1]) if depth else 0, int(path[depth])] = int(nodes[depth])
    pairs = list(itertools.product(range(-1, catalogue.trie.n_nodes), range(catalogue.vocab)))
    nodes, tokens = torch.tensor(pairs).T
    assert child(policy, nodes, tokens).tolist() == [edges.get(pair, -1) for pair in pairs]


@pytest.mark.parametrize("chunk", [module.CHUNK, 16, 3])
def test_the_chance_to_end_is_that_of_the_terminator(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each state on a present token, all at once, by four and one by one; 0 behind the end and for absent items."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    policy = tiny(TITLES, 3)
    items = torch.tensor([[0, 1], [2, -1], [3, 2]])
    encoded = policy.encode(HISTORY)
    tokens = score(policy, encoded, items)
    known = policy.head(policy.decode(encoded, policy.trie.paths[items.clamp(min=0)])).log_softmax(-1)[:, :, :4, 3]
    lengths = torch.tensor([[2, 3], [4, 0], [2, 4]])
    expected = torch.where(torch.arange(4) < lengths[..., None], known, 0.0)
    assert_close(tokens.ended, expected, atol=1e-6, rtol=1e-5)
    weights = [policy.t5.shared.weight]
    ours, theirs = (torch.autograd.grad(x.square().sum(), weights, retain_graph=True) for x in (tokens.ended, expected))
    assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert_close(tokens.ended[0, 0, 1], tokens.vocab[0, 0, 1])  # the last token is the terminator
    with torch.no_grad():
        assert not score(policy, encoded, items).ended.requires_grad


def test_without_a_terminator_no_path_can_end_early(unequal: T5Policy) -> None:
    tokens = score(unequal, unequal.encode(HISTORY), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="no terminator"):
        _ = tokens.ended


def test_entropy_has_no_gradient_and_is_zero_where_a_token_is_forced(unequal: T5Policy) -> None:
    """Items 2, 3 and 7 end on only children: 9 behind 2 4 7; 6 and 10 behind 2 5."""
    tokens = score(unequal, unequal.encode(HISTORY), torch.tensor([[2, 3, 7]] * 3))
    entropy = tokens.entropy()
    assert not entropy.requires_grad
    assert entropy[:, :2, 3].tolist() == [[0.0, 0.0]] * 3
    assert entropy[:, 2, 2:].tolist() == [[0.0, 0.0]] * 3
    assert bool((entropy[:, :, :2] > 0.01).all())
