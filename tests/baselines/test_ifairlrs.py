"""IFairLRS: the spec's toy numbers, weights counted over lists of titles, and what micro-batches may not change."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rlrecbench.baselines.ifairlrs import group_weights
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.method import Draw, Drawn, FineTune, Prompts, Step, methods
from rlrecbench.metrics import Reference
from rlrecbench.train.loop import Batch, Learner, cut, draw_batch

registry.load()


def _method(reduction: str = "row") -> FineTune:
    method = build(methods["ifairlrs"], {"reduction": reduction}, "test")
    assert isinstance(method, FineTune)
    return method


def _draw(weights: Tensor, method: FineTune, rows: int | None = None) -> tuple[Learner, Draw]:
    """The first prompts of the small world, whose items have the given weights as targets."""
    probe = Probe(method)
    learner = probe.learner()
    prompts, target = probe.prompts()
    prompts = Prompts("train", prompts.rows[:rows], prompts.history[:rows])
    popularity = torch.as_tensor(probe.data.popularity)
    return learner, Draw(prompts, target[:rows], learner.policy, torch.Generator(), popularity, fitted=weights)


def _batch(weights: Tensor, reduction: str) -> tuple[Learner, Batch]:
    learner, draw = _draw(weights, _method(reduction))
    drawn, kept = draw_batch(learner, draw)
    return learner, Batch(drawn, draw.prompts, kept, 0, 0.5, {})


@pytest.mark.parametrize(("reduction", "expected"), [("row", 2.5), ("batch", 3.0)])
def test_published_toy(reduction: str, expected: float) -> None:
    """Cross-entropies 2 and 4, weights 1.5 and .5: intended (3 + 2) / 2, as coded mean(w) mean(CE) = 1 * 3.

    The first target has one token of log-probability -2, the second two of -3 and -5.
    """
    method = _method(reduction)
    learner, draw = _draw(torch.arange(96) * 0.0, method, rows=2)
    draw.fitted[draw.target] = torch.tensor([1.5, 0.5])
    drawn = method.candidates(draw)
    assert isinstance(drawn, Drawn)
    log: dict[str, float] = {}
    step = Step(drawn, draw.prompts, learner.policy, "vocab", {}, log=log)
    vocab = torch.tensor([[[-2.0, 0.0]], [[-3.0, -5.0]]])
    step.__dict__["tokens"] = SimpleNamespace(vocab=vocab, present=vocab < 0)
    assert float(method.loss(step)) == pytest.approx(expected)
    assert log == {"nll": 3.0, "weight": 1.0}


def test_weights_by_hand() -> None:
    """Groups 0 0 1 2 of four items; histories 6 2 8 0 give shares .5 .5 0, targets 1 1 1 1 give .5 .25 .25."""
    group, history = torch.tensor([0, 0, 1, 2]), torch.tensor([6, 2, 8, 0])
    assert group_weights(group, history, torch.tensor([1, 1, 1, 1])).tolist() == [1.0, 2.0, 0.0]


def test_no_share_gives_an_infinite_weight() -> None:
    """A group that is no target has weight 1; one that no history names has 0; without histories all have 1."""
    group, none = torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64)
    one = torch.tensor([1, 0, 0])
    assert group_weights(group, torch.tensor([1, 1, 2]), one).tolist() == [0.25, 1.0, 1.0]
    assert group_weights(group, one, torch.tensor([1, 1, 2])).tolist() == [4.0, 0.0, 0.0]
    assert group_weights(group, none, one).tolist() == [1.0, 1.0, 1.0]
    assert group_weights(group, none, none).tolist() == [1.0, 1.0, 1.0]


def _data(seed: int) -> Dataset:
    """Thirty items under twenty titles, two of which no history names; ties in the frequencies."""
    rng = np.random.default_rng(seed)
    named = [i for i in range(30) if i % 20 not in (3, 9)]
    titles = [f"title {i % 20}" for i in range(30)]
    items = pd.DataFrame({"item_id": [str(i) for i in range(30)], "title": titles, "text": titles})
    histories = [rng.choice(named, size=rng.integers(0, 6)) for _ in range(80)]
    targets = [int(t) for t in rng.integers(0, 30, size=80)]
    train = Examples.make([0] * 80, histories, targets)
    few = Examples.make([0], [[1]], [2])
    return Dataset("test", "examples", items, np.array(["0"]), train, few, few, {}, "")


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_ratios_of_counted_titles(seed: int) -> None:
    """Groups are those of the fairness metrics, equal titles counted as one; every window's item counts."""
    data = _data(seed)
    reference = Reference.of(data)
    group = {title: int(g) for title, g in zip(reference.titles, reference.group_of, strict=True)}
    titles = data.items["title"].tolist()
    assert data.groups.tolist() == [group[t] for t in titles]
    assert len(set(reference.title_of[data.train.values].tolist())) == 18
    history = Counter(group[titles[i]] for row in range(len(data.train)) for i in data.train.history(row).tolist())
    target = Counter(group[titles[i]] for i in data.train.target.tolist())
    expected = [(history[g] / history.total()) / (target[g] / target.total()) for g in range(8)]
    weights = _method().fit(data)
    assert weights.tolist() == pytest.approx([expected[group[t]] for t in titles], rel=1e-6)
    np.testing.assert_allclose(
        reference.group_share, [history[g] / history.total() for g in range(8)], rtol=1e-12
    )  # GH as the metrics have it
    assert float(weights[data.train.target].double().mean()) == pytest.approx(1.0, rel=1e-6)


def test_groups_of_a_data_set_without_histories() -> None:
    """Nothing occurs, so every title is in the last group and every row counts alike."""
    data = _data(0)
    bare = Dataset(
        data.name, data.protocol, data.items, data.users, Examples.make([0, 0], [[], []], [3, 4]), data.valid,
        data.test, {}, "",
    )  # fmt: skip
    assert bare.groups.tolist() == [7] * 30
    assert _method().fit(bare).tolist() == [1.0] * 30


@pytest.mark.parametrize("reduction", ["row", "batch"])
def test_equal_weights_are_plain_fine_tuning(reduction: str) -> None:
    learner, batch = _batch(torch.ones(96), reduction)
    sft = Probe(build(methods["sft"], {}, "test"))
    other = sft.learner()
    assert float(learner(batch).detach()) == pytest.approx(float(other(sft.batch(other)).detach()), rel=1e-6)


@pytest.mark.parametrize("reduction", ["row", "batch"])
def test_a_weight_scales_its_row_or_the_batch(reduction: str) -> None:
    """Two prompts at weights 3 and 0: by row the second is ignored, by batch both count 1.5."""
    learner, draw = _draw(torch.zeros(96), _method(reduction), rows=2)
    assert int(draw.target[0]) != int(draw.target[1])
    draw.fitted[draw.target[0]] = 3.0
    drawn, kept = draw_batch(learner, draw)
    batch = Batch(drawn, draw.prompts, kept, 0, 0.5, {})
    plain = batch._replace(drawn=Drawn(drawn.items, extra={"weight": torch.ones(2)}))
    one, two = (float(learner(cut(plain, slice(row, row + 1))).detach()) for row in range(2))
    expected = 3 * one / 2 if reduction == "row" else 1.5 * (one + two) / 2
    assert float(learner(batch).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["row", "batch"])
def test_micro_batches_and_order_change_nothing(reduction: str) -> None:
    """The mean weight is that of the whole batch, however it is cut."""
    weights = torch.rand(96, generator=torch.Generator().manual_seed(4)) * 3
    learner, batch = _batch(weights, reduction)
    whole = float(learner(batch).detach())
    parts = [cut(batch, slice(i, i + 4)) for i in range(0, 24, 4)]
    losses = [float(learner(part).detach()) for part in parts]
    assert sum(losses) / 6 == pytest.approx(whole, rel=1e-5)
    shuffled = cut(batch, torch.randperm(24, generator=torch.Generator().manual_seed(0)))
    assert float(learner(shuffled).detach()) == pytest.approx(whole, rel=1e-5)


def test_the_batchs_weight_is_looked_up_at_every_step() -> None:
    """Draws that are made ahead come in other batches than those that are trained on."""
    assert _method("batch").redraw == 0
    assert _method("row").redraw is None
