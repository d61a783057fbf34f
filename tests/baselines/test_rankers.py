"""The rankers without a backbone by hand, and what all methods have in common."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlrecbench import registry
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import FineTune, Prompts, Ranker, RankJob, methods

registry.load()
COUNTS = torch.tensor([2, 7, 0, 7, 5])
LOGITS = torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4], [9.0, -1.0, 0.0, 2.0, 1.0]])


def _ranker(name: str) -> Ranker:
    return build(methods[name], {}, "test")


def _job(k: int, **given: Any) -> RankJob:
    return RankJob(Prompts("test", torch.arange(2), torch.tensor([[3], [-1]])), k, 20, 0, **given)


@pytest.mark.parametrize("k", [2, 5])
def test_the_most_popular_items_are_the_same_for_all(k: int) -> None:
    """Items 1 and 3 tie and come by number; what was seen before is not left out."""
    found = _ranker("most-popular").rank(_job(k, fitted=COUNTS))
    assert found.items.tolist() == [[1, 3, 4, 0, 2][:k]] * 2
    assert found.scores.tolist() == [[7.0, 7.0, 5.0, 2.0, 0.0][:k]] * 2
    assert found.scores.dtype == torch.float32


def test_equal_counts_come_by_number_in_a_large_catalogue() -> None:
    found = _ranker("most-popular").rank(_job(3000, fitted=torch.ones(3000, dtype=torch.int64)))
    assert found.items[1].tolist() == list(range(3000))


def test_what_is_popular_is_what_the_data_set_counts() -> None:
    data = Probe(FineTune()).data
    assert _ranker("most-popular").fit(data).tolist() == data.popularity.tolist()


@pytest.mark.parametrize(("k", "expected"), [(2, [[1, 4], [0, 3]]), (9, [[1, 4, 2, 3, 0], [0, 3, 4, 2, 1]])])
def test_sasrec_sorts_the_catalogue_by_the_collaborative_score(k: int, expected: list[list[int]]) -> None:
    """States are the rows of the scores and items the unit vectors; no list is longer than the catalogue."""
    found = _ranker("sasrec").rank(_job(k, collab=Collab(torch.eye(5), {"test": LOGITS})))
    assert found.items.tolist() == expected
    assert torch.equal(found.scores, LOGITS.gather(1, found.items))


@pytest.mark.parametrize("name", ["most-popular", "sasrec", "item-graph"])
def test_rankers_without_a_backbone_say_so(name: str) -> None:
    ranker = _ranker(name)
    assert not ranker.generative
    assert ranker.needs == (frozenset({"collab"}) if name == "sasrec" else frozenset())


@pytest.mark.parametrize("last", [1, 2, 3])
def test_as_many_of_the_last_items_vote_as_asked_for(last: int) -> None:
    """Items 2, 1, 0, from the last, each lead to another; the d-th last votes with weight 1 / d."""
    method: Any = build(methods["item-graph"], {"last": last}, "test")
    train = SimpleNamespace(values=torch.tensor([0, 1, 2]).numpy(), offsets=torch.arange(4).numpy())
    train.target = torch.tensor([3, 4, 5]).numpy()
    data: Any = SimpleNamespace(train=train, n_items=6, popularity=torch.zeros(6).numpy())
    job = RankJob(Prompts("test", torch.arange(1), torch.tensor([[0, 1, 2]])), 6, 20, 0, fitted=method.fit(data))
    found = method.rank(job)
    scores = dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))
    assert [scores[5], scores[4], scores[3]] == pytest.approx([1, 1 / 2 * (last > 1), 1 / 3 * (last > 2)])


def test_no_popularity_outweighs_a_vote() -> None:
    """The least vote of three items is 1/3, and two sums of votes differ by 1/6 or more; popularity stays below."""
    method: Any = build(methods["item-graph"], {}, "test")
    fill = method.fit(Probe(FineTune()).data).fill
    popular = torch.as_tensor(Probe(FineTune()).data.popularity)
    assert fill.tolist() == pytest.approx((popular / (popular.max() + 1) / 6).tolist())
    assert 0 <= float(fill.max()) < 1 / 6


@pytest.mark.parametrize(
    "entry", [e for e in methods if e.value.__module__.startswith("rlrecbench.")], ids=lambda e: e.name
)
def test_settings_of_a_method_cannot_be_changed(entry: Any) -> None:
    assert entry.value.__dataclass_params__.frozen
