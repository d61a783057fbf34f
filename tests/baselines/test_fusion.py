"""Fusion: the mixed score against enumeration, its two ends, and who is a candidate."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.method import Prompts, Ranker, RankJob, methods
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy, T5Shape

registry.load()
SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
PATHS = [[1 + a, 4 + b, 9 + c] for a in range(3) for b in range(5) for c in range(2)]  # 30 items
PATHS[7] = PATHS[6]  # two items on one leaf
torch.manual_seed(0)
POLICY = T5Policy(Catalogue(PATHS, 11), SHAPE).eval()
LOGITS = 3 * torch.randn(4, 30)
ROWS = torch.arange(4)
JOB = RankJob(Prompts("test", ROWS, ROWS[:, None]), 30, 30, 0, POLICY, Collab(torch.eye(30), {"test": LOGITS}))


def fusion(**settings: object) -> Ranker:
    return build(methods["fusion"], settings, "test")


@torch.no_grad()
def logp() -> Tensor:
    items = torch.arange(30).expand(4, -1)
    return score(POLICY, POLICY.encode(JOB.prompts.history), items).vocab.sum(-1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_with_all_items_as_candidates_it_is_the_order_of_the_mixed_score(alpha: float) -> None:
    expected = (alpha * logp() + (1 - alpha) * LOGITS.log_softmax(1)).sort(1, descending=True)
    found = fusion(alpha=alpha).rank(JOB)
    assert_close(found.scores, expected.values, atol=1e-4, rtol=1e-5)
    for items, scores in zip(found.items.tolist(), found.scores, strict=True):
        assert sorted(items) == list(range(30))
        assert bool((scores.diff() <= 0).all())


def test_candidates_are_the_best_of_both_models_each_once() -> None:
    narrow = replace(JOB, beams=3, k=10)
    found = fusion().rank(narrow)
    searched = fusion().search(replace(narrow, k=3)).items
    liked = LOGITS.topk(3, 1).indices
    for row in range(4):
        best = {*searched[row].tolist(), *liked[row].tolist()}
        items = [i for i in found.items[row].tolist() if i >= 0]
        assert len(items) == len({*items})
        assert {*items} == best
        assert found.items.shape[1] == 6
    assert torch.equal(found.items < 0, found.scores == -torch.inf)


def test_items_of_one_leaf_stand_in_the_collaborative_models_order() -> None:
    found = fusion(alpha=0.9).rank(JOB)
    for row in range(4):
        items = found.items[row].tolist()
        assert (items.index(6) < items.index(7)) == bool(LOGITS[row, 6] > LOGITS[row, 7])


def test_it_needs_the_collaborative_model() -> None:
    assert fusion().needs == frozenset({"collab"})
