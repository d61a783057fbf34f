"""Beam, sample and exact against enumeration by teacher forcing, and against ``transformers.generate``."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch.testing import assert_close

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy import search as module
from rlrecbench.policy.score import score
from rlrecbench.policy.search import Assistant, Found, beam, beam_all, exact, rank_items, sample
from rlrecbench.policy.t5 import PAD, T5Policy, T5Shape

Make = Callable[..., T5Policy]
Codes = Callable[..., list[list[int]]]
Measure = Literal["vocab", "trie"]
HISTORY = torch.tensor([[3, 1], [0, -1], [-1, -1]])


@torch.no_grad()
def enumerated(policy: T5Policy, history: Tensor, measure: str) -> dict[int, Tensor]:
    """Log-probability [B] of each leaf by teacher forcing."""
    items = torch.arange(policy.catalogue.n_items).expand(len(history), -1)
    totals = getattr(score(policy, policy.encode(history), items), measure).sum(-1)
    return {int(leaf): totals[:, i] for i, leaf in enumerate(policy.catalogue.leaf_of)}


def check_all_leaves(policy: T5Policy, history: Tensor, measure: Measure) -> None:
    """A beam as wide as the trie, and the walk, find every leaf with the enumerated probability."""
    known = enumerated(policy, history, measure)
    encoded = policy.encode(history)
    found = beam(policy, encoded, len(known) + 2, measure=measure)
    whole = exact(policy, encoded)
    assert whole.leaves.tolist() == sorted(known)
    assert found.leaves[:, -2:].tolist() == [[-1, -1]] * len(history)
    assert bool((found.scores[:, -2:] == -torch.inf).all())
    for b in range(len(history)):
        assert sorted(found.leaves[b, :-2].tolist()) == sorted(known)
        assert found.scores[b].tolist() == sorted(found.scores[b].tolist(), reverse=True)
        expected = torch.stack([known[leaf][b] for leaf in found.leaves[b, :-2].tolist()])
        assert_close(found.scores[b, :-2], expected, atol=1e-4, rtol=1e-5)
        expected = torch.stack([known[leaf][b] for leaf in whole.leaves.tolist()])
        assert_close(getattr(whole, measure)[b], expected, atol=1e-4, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    items=st.integers(1, 40),
    levels=st.integers(1, 4),
    width=st.integers(1, 5),
    seed=st.integers(0, 999),
    measure=st.sampled_from(["vocab", "trie"]),
)
def test_all_leaves_of_random_tries(
    make: Make, codes: Codes, items: int, levels: int, width: int, seed: int, measure: Measure
) -> None:
    policy = make(codes(items, levels, width, seed), vocab=1 + levels * width, seed=seed)
    check_all_leaves(policy, torch.tensor([[0, 0], [0, -1], [-1, -1]]), measure)


@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("pieces", [(16, 256), (2, 2)])
def test_all_leaves_of_unequal_paths(
    unequal: T5Policy, measure: Measure, pieces: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMPTS_CPU", pieces[0])
    monkeypatch.setattr(module, "NODES", pieces[1])
    monkeypatch.setattr(module, "CHUNK", 11 * pieces[1])
    check_all_leaves(unequal, HISTORY, measure)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_beams_on_unequal_paths(unequal: T5Policy, width: int) -> None:
    """A beam search written out with lists: finished paths wait aside."""
    encoded = unequal.encode(HISTORY)
    for measure in ("vocab", "trie"):
        found = beam(unequal, encoded, width, measure=measure)
        for b in range(3):
            leaves, scores = spelled_out(unequal, HISTORY[b : b + 1], width, measure)
            assert found.leaves[b, : len(leaves)].tolist() == leaves
            assert_close(found.scores[b, : len(leaves)], torch.tensor(scores), atol=1e-4, rtol=1e-5)


def spelled_out(policy: T5Policy, history: Tensor, width: int, measure: str) -> tuple[list[int], list[float]]:
    """Beam search over prefixes, with every prefix's score from an item below it."""
    trie, catalogue = policy.catalogue.trie, policy.catalogue
    items = torch.arange(catalogue.n_items).unsqueeze(0)
    sums = getattr(score(policy, policy.encode(history), items), measure)[0].cumsum(-1).tolist()
    reach = {
        int(node): sums[i][d]
        for i in range(catalogue.n_items)
        for d, node in enumerate(catalogue.nodes[i, : catalogue.lengths[i]])
    }
    active: list[int] = [0]
    done: list[int] = []
    while active:
        below = [n for a in active for n in range(trie.first[a], trie.first[a + 1])]
        done = sorted(done + [n for n in below if trie.n_children[n] == 0], key=lambda n: -reach[n])[:width]
        active = sorted((n for n in below if trie.n_children[n]), key=lambda n: -reach[n])[:width]
    return done, [reach[n] for n in done]


def test_a_list_longer_than_the_catalogue_is_filled_up(make: Make) -> None:
    """Two leaves and five places."""
    policy = make([[1], [2]], 4)
    found = beam(policy, policy.encode(torch.tensor([[0], [1]])), 5)
    assert found.leaves.sort(1).values.tolist() == [[-1, -1, -1, 1, 2]] * 2
    assert found.leaves[:, 2:].tolist() == [[-1, -1, -1]] * 2
    assert bool((found.scores[:, 2:] == -torch.inf).all())
    assert bool(found.scores[:, :2].isfinite().all())


@pytest.mark.parametrize("measure", ["vocab", "trie"])
def test_the_last_node_may_have_fewer_children_than_others(make: Make, measure: Measure) -> None:
    """Nodes 1 and 2 have two children and one, which is the last node of all."""
    policy = make([[1, 1], [1, 2], [2, 1]], 3)
    check_all_leaves(policy, HISTORY.clamp(max=2), measure)


def test_an_assistant_alone_gives_its_shares(make: Make) -> None:
    """Three items of equal mass: 1/3 each, along whatever path; two of five places stay empty."""
    policy = make([[1, 1], [1, 2], [2, 1]], 3)
    log_flow = torch.tensor([[3.0, 2, 1, 1, 1, 1]]).log().expand(3, -1)
    found = beam(policy, policy.encode(HISTORY.clamp(max=2)), 5, assistant=Assistant(0.0, log_flow))
    assert found.leaves.sort(1).values.tolist() == [[-1, -1, 3, 4, 5]] * 3
    assert_close(found.scores[:, :3], torch.full((3, 3), -np.log(3.0)).float())
    assert found.scores[:, 3:].tolist() == [[-torch.inf] * 2] * 3


def test_temperature_divides_the_logits(policy: T5Policy) -> None:
    """At temperature 2 the scores are those of a model whose output is half as large."""
    encoded = policy.encode(HISTORY)
    found = beam(policy, encoded, 5, measure="trie", temperature=2.0)
    head = policy.head
    policy.head = lambda states: head(states) / 2  # type: ignore[method-assign]
    expected = beam(policy, encoded, 5, measure="trie")
    assert torch.equal(found.leaves, expected.leaves)
    assert_close(found.scores, expected.scores)


def test_ties_go_to_the_lower_node(policy: T5Policy) -> None:
    """All logits equal: the beam is the left edge of the trie."""
    policy.head = lambda states: states.new_zeros(*states.shape[:-1], 13)  # type: ignore[method-assign]
    found = beam(policy, policy.encode(HISTORY), 4)
    levels = policy.catalogue.trie.levels
    assert_close(found.scores, torch.full((3, 4), -3 * np.log(13)))
    assert found.leaves.tolist() == [list(range(levels[3], levels[3] + 4))] * 3


def test_order_of_signed_scores() -> None:
    """Mixed signs, zeros of both signs, infinities; equal scores by node."""
    scores = torch.tensor([[0.0, -0.0, 1.5, -2.0, -torch.inf, 1.5, -1e-30, 3e38]])
    nodes = torch.tensor([[9, 4, 8, 0, 1, 7, 3, 2]])
    values, ids, at = module._best(scores, nodes, 8)
    assert ids.tolist() == [[2, 7, 8, 4, 9, 3, 0, 1]]
    assert at.tolist() == [[7, 5, 2, 1, 0, 6, 3, 4]]
    assert torch.equal(values, scores.gather(1, at))


@pytest.mark.parametrize("items", [300])
def test_beams_equal_transformers_generate(make: Make, codes: Codes, items: int) -> None:
    shape = T5Shape(layers=2, d_model=32, d_ff=64, heads=2, d_kv=16, dropout=0.0)
    policy = make(codes(items, 4, 8), vocab=33, shape=shape)
    catalogue = policy.catalogue
    rng = np.random.default_rng(4)
    lengths = rng.integers(1, 9, 24)
    drawn = rng.integers(items, size=(24, 8))
    history = torch.from_numpy(np.where(np.arange(8) < lengths[:, None], drawn, -1))
    prompt = torch.where(history[..., None] >= 0, policy.trie.paths[history.clamp(min=0)], PAD).flatten(1)

    def allowed(_: int, tokens: Tensor) -> list[int]:
        path = tokens[1:]
        match = (policy.trie.paths[:, : len(path)] == path).all(1)
        return sorted(set(policy.trie.paths[match, len(path)].tolist()))

    model: Any = policy.t5
    out = model.generate(
        input_ids=prompt,
        attention_mask=(prompt != PAD).long(),
        num_beams=10,
        num_return_sequences=10,
        max_new_tokens=4,
        length_penalty=0.0,
        do_sample=False,
        prefix_allowed_tokens_fn=allowed,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = beam(policy, policy.encode(history), 10)
    paths = map(tuple, catalogue.paths.tolist())
    where = dict(zip(paths, catalogue.leaf_of.tolist(), strict=True))
    leaves = torch.tensor([where[tuple(path)] for path in out.sequences[:, 1:].tolist()]).view(24, 10)
    assert torch.equal(found.leaves.sort(1).values, leaves.sort(1).values)
    assert_close(found.scores, out.sequences_scores.view(24, 10), atol=1e-4, rtol=0)


def test_blocks_give_what_one_batch_gives(policy: T5Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    history = torch.tensor([[3, 1, 4], [0, -1, -1], [-1, -1, -1], [5, 6, 7], [8, 9, -1]])
    whole = beam(policy, policy.encode(history), 6)
    monkeypatch.setattr(module, "BLOCK_CPU", 2)
    parts = beam_all(policy, history, 6)
    assert torch.equal(parts.leaves, whole.leaves)
    assert_close(parts.scores, whole.scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_frequencies_of_samples(unequal: T5Policy, temperature: float) -> None:
    """Twenty thousand draws per prompt against the exact distribution, chi-square at 0.1 %."""
    head = unequal.head
    encoded = unequal.encode(HISTORY)
    drawn = sample(unequal, encoded, 20_000, generator=torch.Generator().manual_seed(3), temperature=temperature)
    unequal.head = lambda states: head(states) / temperature  # type: ignore[method-assign]
    whole = exact(unequal, encoded)
    for b in range(3):
        counts = (drawn.leaves[b, :, None] == whole.leaves).sum(0).numpy()
        assert counts.sum() == 20_000
        share = whole.trie[b].double().exp().numpy()
        assert chisquare(counts, share / share.sum() * 20_000).pvalue > 0.001
        at = torch.searchsorted(whole.leaves, drawn.leaves[b])
        assert_close(drawn.logp[b], whole.trie[b][at], atol=1e-4, rtol=1e-4)


def test_samples_repeat_with_their_seed(policy: T5Policy) -> None:
    encoded = policy.encode(HISTORY)
    a, b, c = (sample(policy, encoded, 50, generator=torch.Generator().manual_seed(s)) for s in (7, 7, 8))
    assert torch.equal(a.leaves, b.leaves)
    assert not torch.equal(a.leaves, c.leaves)


SHARED = Catalogue([[1, 3], [1, 3], [1, 3], [2, 4], [2, 5], [2, 5]], vocab=6)


def leaves_of(*items: int) -> list[int]:
    return [int(SHARED.leaf_of[i]) if i >= 0 else -1 for i in items]


def test_items_that_share_a_leaf_take_ranks_of_their_own() -> None:
    found = Found(
        torch.tensor([leaves_of(3, 0, 4), leaves_of(4, -1, -1)]),
        torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -torch.inf, -torch.inf]]),
    )
    ranked = rank_items(found, SHARED, np.array([10, 11]), 5, seed=0)
    assert ranked.items[0, 0] == 3
    assert sorted(ranked.items[0, 1:4].tolist()) == [0, 1, 2]
    assert ranked.items[0, 4] in (4, 5)
    assert ranked.scores[0].tolist() == [-1.0, -2.0, -2.0, -2.0, -3.0]
    assert sorted(ranked.items[1, :2].tolist()) == [4, 5]
    assert ranked.items[1, 2:].tolist() == [-1, -1, -1]
    assert ranked.scores[1].tolist() == [-0.5, -0.5, -torch.inf, -torch.inf, -torch.inf]


def test_lists_depend_on_seed_and_user_alone() -> None:
    users = np.arange(50)
    found = Found(torch.tensor([leaves_of(0, 4)] * 50), torch.zeros(50, 2))
    lists = rank_items(found, SHARED, users, 4, seed=3).items
    few = Found(found.leaves[:7], found.scores[:7])
    back = rank_items(few, SHARED, users[:7][::-1].copy(), 4, seed=3).items
    assert torch.equal(back.flip(0), lists[:7])
    assert not torch.equal(rank_items(found, SHARED, users, 4, seed=4).items, lists)


def test_every_item_of_a_leaf_leads_equally_often() -> None:
    """6,000 users, three items on one leaf: first places against one third each, chi-square at 0.1 %."""
    users = np.arange(6000)
    found = Found(torch.tensor([leaves_of(0)] * 6000), torch.zeros(6000, 1))
    first = rank_items(found, SHARED, users, 1, seed=0).items[:, 0]
    assert chisquare(np.bincount(first, minlength=3)).pvalue > 0.001


def test_known_values_of_the_hash() -> None:
    """First outputs of splitmix64 with state 0, as its authors publish them."""
    states = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert module._mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_no_leaves_no_items() -> None:
    found = Found(torch.full((2, 3), -1), torch.full((2, 3), -torch.inf))
    ranked = rank_items(found, SHARED, np.arange(2), 2, seed=0)
    assert ranked.items.tolist() == [[-1, -1], [-1, -1]]


def test_any_whole_number_is_a_seed() -> None:
    """Modulo 2^64, and no less."""
    users, items = np.arange(3), np.array([4, 4, 5])

    def hashed(seed: int) -> list[int]:
        found: list[int] = module._hash(seed, users, items).tolist()
        return found

    assert hashed(-1) == hashed(2**64 - 1)
    assert hashed(2**64 + 5) == hashed(5)
    assert hashed(5) != hashed(5 + 128)
    assert hashed(5) != hashed(5 + 2**63)
