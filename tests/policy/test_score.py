"""Both measures against definitions written out node by node."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from math import log
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy import score as module
from rlrecbench.policy.base import Policy
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy

Make = Callable[..., T5Policy]
Codes = Callable[..., list[list[int]]]
HISTORY = torch.tensor([[3, 1], [0, -1], [-1, -1]])


def by_definition(policy: T5Policy, logits: Tensor, item: int) -> list[tuple[float, float]]:
    """(vocab, trie) log-probability of each token of one item, from its logits [L, V]."""
    catalogue = policy.catalogue
    path = catalogue.paths[item, : catalogue.lengths[item]].tolist()
    out = []
    for depth, token in enumerate(path):
        legal = {
            int(p[depth])
            for p, length in zip(catalogue.paths, catalogue.lengths, strict=True)
            if length > depth and p[:depth].tolist() == path[:depth]
        }
        probability = logits[depth].double().softmax(-1)
        inside = sum(float(probability[t]) for t in legal)
        out.append((float(probability[token].log()), float((probability[token] / inside).log())))
    return out


@pytest.mark.parametrize("chunk", [module.CHUNK, 40])
def test_scores_by_definition(unequal: T5Policy, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With paths of one to four tokens, and with the vocabulary in pieces."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    items = torch.tensor([[0, 1, 2, 3], [4, -1, 5, 6], [7, 1, -1, -1]])
    encoded = unequal.encode(HISTORY)
    tokens = score(unequal, encoded, items)
    logits = unequal.head(unequal.decode(encoded, unequal.trie.paths[items.clamp(min=0)]))
    for b in range(3):
        for c in range(4):
            item = int(items[b, c])
            known = by_definition(unequal, logits[b, c].detach(), item) if item >= 0 else []
            known += [(0.0, 0.0)] * (4 - len(known))
            assert_close(tokens.vocab[b, c], torch.tensor([v for v, _ in known]), atol=1e-5, rtol=1e-5)
            assert_close(tokens.trie[b, c], torch.tensor([t for _, t in known]), atol=1e-5, rtol=1e-5)
    assert_close(tokens.vocab, tokens.trie + tokens.legal, atol=1e-5, rtol=0)
    # Forced: item 4 has brothers; items 2, 3 and 7 end on only children (9 after 2 4 7; 6 and 10 after 2 5).
    forced = [(0, 2, 3), (0, 3, 3), (2, 0, 2), (2, 0, 3)]
    assert all(tokens.trie[at] == 0.0 and tokens.vocab[at] < -1e-3 for at in forced)
    assert tokens.present.sum(-1).tolist() == [[2, 3, 4, 4], [1, 0, 3, 3], [4, 3, 0, 0]]


@pytest.mark.parametrize("measure", ["vocab", "trie", "legal"])
def test_gradients_by_differences(unequal: T5Policy, measure: str) -> None:
    """Central differences in one direction; ragged paths and absent items give no NaN."""
    policy = unequal.double()
    policy.head = lambda states: states @ policy.t5.shared.weight.T * policy.width**-0.5  # type: ignore[method-assign]
    items = torch.tensor([[0, 1, 2, 3], [4, -1, 5, 6], [7, 1, -1, -1]])
    weights = torch.linspace(-1, 1, 48, dtype=torch.float64).view(3, 4, 4)

    def value() -> Tensor:
        tokens: Tensor = getattr(score(policy, policy.encode(HISTORY), items), measure)
        return (tokens * weights).sum()

    parameters = list(policy.parameters())
    slopes = torch.autograd.grad(value(), parameters)
    torch.manual_seed(2)
    direction = [torch.randn_like(p) for p in parameters]
    expected = sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True))
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(sign * 1e-6 * d)
            ends.append(float(value()))
    assert expected == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_pieces_give_the_same_gradient(policy: T5Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    items = torch.arange(15).view(3, 5)

    def slopes() -> tuple[Tensor, ...]:
        tokens = score(policy, policy.encode(HISTORY), items)
        return torch.autograd.grad((tokens.trie * tokens.vocab).sum(), list(policy.parameters()))

    whole = slopes()
    monkeypatch.setattr(module, "CHUNK", 13 * 4)
    for a, b in zip(whole, slopes(), strict=True):
        assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_scores_asked_for_later_remember_no_grad(policy: T5Policy) -> None:
    with torch.no_grad():
        tokens = score(policy, policy.encode(HISTORY), torch.zeros(3, 1, dtype=torch.long))
    assert not tokens.vocab.requires_grad
    assert score(policy, policy.encode(HISTORY), torch.zeros(3, 1, dtype=torch.long)).trie.requires_grad


def test_states_are_those_that_predict(policy: T5Policy) -> None:
    """The last token of a path is not run: nothing follows it."""
    items = torch.arange(6).view(3, 2)
    encoded = policy.encode(HISTORY)
    states = score(policy, encoded, items).states
    assert_close(states, policy.decode(encoded, policy.trie.paths[items])[:, :, :3], atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(items=st.integers(2, 30), levels=st.integers(1, 4), width=st.integers(1, 5), seed=st.integers(0, 999))
def test_leaves_share_the_trie_mass(make: Make, codes: Codes, items: int, levels: int, width: int, seed: int) -> None:
    """One item of every leaf: the trie probabilities sum to one, the vocabulary's to no more."""
    policy = make(codes(items, levels, width, seed), vocab=1 + levels * width, seed=seed)
    _, one_each = torch.unique(policy.trie.leaf_of, return_inverse=True)
    first = torch.tensor([one_each.tolist().index(leaf) for leaf in range(int(one_each.max()) + 1)])
    with torch.no_grad():
        tokens = score(policy, policy.encode(torch.tensor([[0], [1]])), first.expand(2, -1))
    assert_close(tokens.trie.sum(-1).logsumexp(-1), torch.zeros(2), atol=1e-5, rtol=0)
    assert bool((tokens.vocab.sum(-1).logsumexp(-1) < 0).all())
    assert bool((tokens.legal <= 1e-6).all())
    assert bool((tokens.trie <= 1e-6).all())


TREE = Catalogue([[0, 2], [0, 3], [0, 4], [1], [5, 2]], 6)  # nodes: 0 | 1: "0", 2: "1", 3: "5" | 4, 5, 6: "0x", 7: "52"


def _plain(logits: list[list[float]]) -> tuple[Policy, Tensor]:
    """A policy over ``TREE`` whose states are its logits."""
    trie = TREE.tensors(torch.device("cpu"))
    return cast(Policy, SimpleNamespace(catalogue=TREE, trie=trie, head=lambda states: states)), torch.tensor(logits)


def test_options_by_hand() -> None:
    """Weights 1 2 3 4 5 6 by token: of the root 0 1 5 (1 + 2 + 6), of "0" 2 3 4 (3 + 4 + 5), of "5" 2, of "1" none."""
    policy, states = _plain([[log(v) for v in (1, 2, 3, 4, 5, 6)]] * 4)
    found = module.options(policy, states, torch.tensor([0, 1, 3, 2]), 3)
    assert found.nodes[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert int(found.nodes[2, 0]) == 7
    assert found.tokens[:2].tolist() == [[0, 1, 5], [2, 3, 4]]
    assert int(found.tokens[2, 0]) == 2
    expected = torch.tensor([[1, 2, 6], [3, 4, 5], [3, 0, 0], [0, 0, 0]])
    assert_close(found.logits.exp(), expected.float())
    assert_close(found.every.exp(), torch.full((4,), 21.0))
    assert_close(found.legal.exp(), torch.tensor([9.0, 12, 3, 0]))
    assert_close(found.taken[:3].exp(), torch.tensor([1.0, 3, 3]))
    chosen = module.options(policy, states, torch.tensor([0, 1, 3, 2]), 3, taken=torch.tensor([5, 0, 2, 1]))
    assert_close(chosen.taken.exp(), torch.tensor([6.0, 1, 3, 2]))


def test_options_at_a_temperature_by_hand() -> None:
    """At temperature 2 the weights are square roots: 1 and 2 of 4 and 9, all being 1 4 9 16 25 36."""
    policy, states = _plain([[log(v) for v in (1, 4, 9, 16, 25, 36)]])
    found = module.options(policy, states, torch.tensor([0]), 3, temperature=2.0)
    assert_close(found.logits.exp(), torch.tensor([[1.0, 2, 6]]))
    assert_close(found.every.exp(), torch.tensor([21.0]))


def test_scores_cannot_be_changed(policy: T5Policy) -> None:
    scores = score(policy, policy.encode(HISTORY), torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(FrozenInstanceError):
        scores.paths = scores.nodes  # type: ignore[misc]
