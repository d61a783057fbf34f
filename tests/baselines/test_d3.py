"""D3: a published value, masses against sums over lists of paths, and the search against enumeration."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rlrecbench.baselines.d3 import flows
from torch import Tensor
from torch.testing import assert_close

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.errors import ConfigError
from rlrecbench.method import Prompts, Ranker, RankJob, methods
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy, T5Shape

registry.load()
SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
# Token 4 ends a title; items 1 and 2 share one, and "1" is the beginning of "1 2" and of "1 3 2".
TITLES = [[1, 2, 4], [2, 3, 4], [2, 3, 4], [1, 4], [1, 3, 2, 4], [3, 1, 4], [2, 1, 4]]
Paths = list[list[int]]
# Unequal paths that end with 0; equal ones share a leaf.
PATHS = st.lists(st.lists(st.integers(1, 3), max_size=4).map(lambda p: [*p, 0]), min_size=1, max_size=20)


def _d3(**given: object) -> Ranker:
    return build(methods["d3"], given, "test")


def _policy(paths: Paths, vocab: int, terminator: int | None = None, seed: int = 0) -> T5Policy:
    torch.manual_seed(seed)
    return T5Policy(Catalogue(paths, vocab, terminator=terminator), SHAPE).eval()


def _job(policy: T5Policy, logits: Tensor | None, **given: Any) -> RankJob:
    """Rank every item for prompts with one item of history each; their collaborative scores are ``logits`` [B, N]."""
    n = policy.catalogue.n_items
    rows = torch.arange(3 if logits is None else len(logits))
    collab = None if logits is None else Collab(torch.eye(n), {"test": logits})
    return RankJob(Prompts("test", rows, rows[:, None] % n), n, n, 0, policy, collab, **given)


def _share(paths: Paths, p: list[float], item: int, t: int) -> float:
    """Mass of the items that share the item's first t + 1 tokens, over that of those that share the first t."""
    inner, outer = (sum(w for path, w in zip(paths, p, strict=True) if path[:n] == paths[item][:n]) for n in (t + 1, t))
    return inner / outer


def test_published_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below token 1: a (token 1) holds .2 and .1, b (token 2) .05, so the assistant gives a .857143.

    With p(a) = .3 and alpha .7 the step to a scores .7 (-1.203973) + .3 (-.154151) = -.889026. The steps before and
    behind it, with p(token 2) = .5: .7 ln .3 + .3 ln .35 and .7 ln .5 + .3 ln(.2 / .3).
    """
    policy = _policy([[1, 1, 2], [1, 1, 3], [1, 2, 2], [3, 2, 2]], 4)
    p = torch.tensor([0.1, 0.3, 0.5, 0.1])
    monkeypatch.setattr(policy, "head", lambda states: p.log().expand(*states.shape[:-1], -1))
    found = _d3(alpha=0.7).rank(_job(policy, torch.tensor([[0.2, 0.1, 0.05, 0.65]]).log()))
    before, behind = (
        0.7 * math.log(0.3) + 0.3 * math.log(0.35),
        0.7 * math.log(0.5) + 0.3 * math.log(0.2 / 0.3),
    )
    scores = dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))
    assert scores[0] == pytest.approx(before - 0.889026 + behind, abs=1e-5)


@given(paths=PATHS, seed=st.integers(0, 999))
def test_masses_are_sums_over_the_items_below(paths: Paths, seed: int) -> None:
    catalogue = Catalogue(paths, 4, terminator=0)
    weights = torch.rand(2, len(paths), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = flows(catalogue, weights)
    assert found.shape == (2, catalogue.trie.n_nodes)
    for b in range(2):
        assert float(found[b, 0]) == pytest.approx(float(weights[b].sum()))
        for item, path in enumerate(paths):
            for t, node in enumerate(catalogue.nodes[item, : len(path)].tolist()):
                below = [i for i, other in enumerate(paths) if other[: t + 1] == path[: t + 1]]
                assert float(found[b, node]) == pytest.approx(float(weights[b, below].sum()), rel=1e-12)


def test_small_masses_beside_large_ones_are_exact() -> None:
    """Differences of running sums would leave nothing of 3e-20 beside 1."""
    catalogue = Catalogue([[1, 1], [1, 2], [2, 1], [2, 2]], 3)
    found = flows(catalogue, torch.tensor([[0.5, 0.5, 1e-20, 2e-20]], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([1.0, 1.0, 3e-20, 0.5, 0.5, 1e-20, 2e-20], rel=1e-12)


@torch.no_grad()
def _enumerated(policy: T5Policy, paths: Paths, logits: Tensor, alpha: float) -> Tensor:
    """Score of every item by teacher forcing and sums over lists, [B, N]."""
    B, n = logits.shape
    history = (torch.arange(B) % n)[:, None]
    tokens = score(policy, policy.encode(history), torch.arange(n).expand(B, -1)).vocab
    out = torch.zeros(B, n)
    for b, p in enumerate(logits.double().softmax(1).tolist()):
        for item, path in enumerate(paths):
            shares = [math.log(_share(paths, p, item, t)) for t in range(len(path))]
            out[b, item] = alpha * float(tokens[b, item].sum()) + (1 - alpha) * sum(shares)
    return out


@settings(max_examples=25, deadline=None)
@given(
    items=st.integers(1, 25), levels=st.integers(1, 3), seed=st.integers(0, 999),
    alpha=st.sampled_from([0.0, 0.3, 0.7, 0.95]),
)  # fmt: skip
def test_the_search_mixes_both_on_random_tries(items: int, levels: int, seed: int, alpha: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    paths: Paths = (torch.randint(3, (items, levels), generator=rng) + 1 + 3 * torch.arange(levels)).tolist()
    policy = _policy(paths, 1 + 3 * levels, seed=seed)
    logits = 3 * torch.randn(4, items, generator=rng)
    found = _d3(alpha=alpha).rank(_job(policy, logits))
    assert bool((found.items.sort(1).values == torch.arange(items)).all())
    expected = _enumerated(policy, paths, logits, alpha).gather(1, found.items)
    assert_close(found.scores, expected, atol=1e-4, rtol=1e-5)
    assert bool((found.scores.diff(dim=1) <= 0).all())


def test_the_search_mixes_both_on_titles() -> None:
    policy = _policy(TITLES, 5, terminator=4)
    logits = torch.randn(3, len(TITLES), generator=torch.Generator().manual_seed(1))
    found = _d3(alpha=0.6).rank(_job(policy, logits))
    assert_close(found.scores, _enumerated(policy, TITLES, logits, 0.6).gather(1, found.items), atol=1e-4, rtol=1e-5)


def test_narrow_beams_follow_the_mixed_scores() -> None:
    """With one beam, the first token is the best by the mixture, though the backbone alone prefers another."""
    policy = _policy([[1, 1], [1, 2], [2, 1], [2, 2]], 3)
    rows, first = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[1], [2]])
    with torch.no_grad():
        states = policy.decode(policy.encode(rows), first[None])[0, 0, 0]
        likes = int(policy.head(states)[1:].argmax())
    logits = torch.full((1, 4), -20.0)
    logits[0, 2 - 2 * likes] = 20.0  # of an item under the other token
    job = replace(_job(policy, logits), k=1, beams=1)
    assert int(_d3(alpha=0.5).rank(job).items[0, 0]) == 2 - 2 * likes
    assert int(_d3().rank(job).items[0, 0]) // 2 == likes


def test_without_the_backbone_a_title_has_its_collaborative_mass() -> None:
    """With alpha 0 the shares along a path multiply to p_u of its items together."""
    policy = _policy(TITLES, 5, terminator=4)
    logits = 2 * torch.randn(3, len(TITLES), generator=torch.Generator().manual_seed(2))
    found = _d3(alpha=0.0).rank(_job(policy, logits))
    p = logits.softmax(1)
    p[:, 1] = p[:, 2] = p[:, 1] + p[:, 2]
    assert_close(found.scores, p.log().gather(1, found.items), atol=1e-5, rtol=1e-5)


def test_the_published_command_is_the_sum_and_reads_no_scores() -> None:
    """Its default is alpha 1, which is the search without length normalisation whatever the suite says."""
    policy = _policy(TITLES, 5, terminator=4)
    sft = build(methods["sft"], {}, "test")
    summed, averaged = _job(policy, None), _job(policy, None, length_penalty=1.0)
    assert _d3().needs == frozenset()
    for job in (summed, averaged):
        found, expected = _d3().rank(job), sft.rank(summed)
        assert torch.equal(found.items, expected.items)
        assert torch.equal(found.scores, expected.scores)
    assert not torch.equal(sft.rank(averaged).scores, sft.rank(summed).scores)
    assert torch.equal(_d3(length_penalty=1.0).rank(summed).scores, sft.rank(averaged).scores)


def test_assisted_scores_are_sums_too() -> None:
    """The suite's length penalty does not reach them; the method's own divides by the tokens of each title."""
    policy = _policy(TITLES, 5, terminator=4)
    logits = torch.randn(3, len(TITLES), generator=torch.Generator().manual_seed(3))
    expected = _enumerated(policy, TITLES, logits, 0.6)
    lengths = torch.tensor([len(path) for path in TITLES])
    for own, scores in ((0.0, expected), (1.0, expected / lengths)):
        found = _d3(alpha=0.6, length_penalty=own).rank(_job(policy, logits, length_penalty=2.0))
        assert_close(found.scores, scores.gather(1, found.items), atol=1e-4, rtol=1e-5)
        assert bool((found.scores.diff(dim=1) <= 0).all())


def test_scores_are_needed_where_they_weigh() -> None:
    assert _d3(alpha=0.9).needs == {"collab"}
    assert _d3(alpha=0.0).needs == {"collab"}


def test_impossible_items_keep_finite_scores() -> None:
    """A softmax underflows at a gap of 10,000; 1e-20 for each item keeps the search going."""
    policy = _policy([[1, 1], [1, 2], [2, 1], [2, 2]], 3)
    found = _d3(alpha=0.5).rank(_job(policy, torch.tensor([[1e4, 0.0, 0.0, 0.0]])))
    assert found.items[0].sort().values.tolist() == [0, 1, 2, 3]
    assert bool(found.scores.isfinite().all())


@pytest.mark.parametrize("given", [{"alpha": 1.5}, {"alpha": -0.1}, {"length_penalty": -1.0}])
def test_settings_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        _d3(**given)
