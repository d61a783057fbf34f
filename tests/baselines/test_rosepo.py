"""RosePO: smoothed losses by hand, the oracle's doubt by hand, and whom the three samplers draw."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.method import Draw, Drawn, FineTune, Prompts, Step, methods

registry.load()


def _method(settings: Mapping[str, object]) -> FineTune:
    method = build(methods["rosepo"], dict(settings), "test")
    assert isinstance(method, FineTune)
    return method


def _drawn(method: FineTune, draw: Draw) -> Drawn:
    drawn = method.candidates(draw)
    assert isinstance(drawn, Drawn)
    return drawn


def _step(gains: list[list[float]], eps: list[float], items: list[list[int]]) -> Step:
    """A step whose candidates have one token each and the given log-ratios to a reference at -1 nat."""
    prompts = Prompts("train", torch.arange(len(items)), torch.zeros(len(items), 1, dtype=torch.int64))
    ratio = torch.tensor(gains)
    drawn = Drawn(torch.tensor(items), extra={"eps": torch.tensor(eps)})
    reference = torch.full_like(ratio, -1.0)[..., None]
    step = Step(drawn, prompts, Probe(FineTune()).policy(), "vocab", {}, reference=lambda: reference)
    step.__dict__["logp_tokens"] = (ratio - 1).requires_grad_()[..., None]
    return step


@pytest.mark.parametrize(("eps", "expected"), [(0.0, 0.493249), (0.1, 0.538249), (0.3, 0.628249)])
def test_published_values(eps: float, expected: float) -> None:
    """Gains 1 and -0.5 at beta 0.3: margin 0.45, so (1 - eps) log(1 + e^-.45) + eps log(1 + e^.45)."""
    loss = _method({"smoothing": eps}).loss(_step([[1.0, -0.5]], [eps], [[0, 5]]))
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)


def test_the_mean_doubt_of_the_pairs_is_logged() -> None:
    log: dict[str, float] = {}
    step = _step([[1.0, -0.5], [1.0, 0.0], [0.0, 0.0]], [0.1, 0.4, 0.3], [[0, 5], [1, 6], [2, -1]])
    step._log = log
    _method({"smoothing": 0.5}).loss(step)
    assert log["eps"] == pytest.approx((0.1 + 0.4) / 2)


def test_the_gradient_vanishes_where_the_policy_believes_the_label_as_much_as_the_oracle() -> None:
    """The loss is the cross-entropy of sigmoid(m) with 1 - eps: zero gradient at m = log((1 - eps) / eps)."""
    gain = math.log(0.8 / 0.2) / 0.3
    step = _step([[gain, 0.0], [0.0, 0.0]], [0.2, 0.2], [[0, 5], [1, 6]])
    (grad,) = torch.autograd.grad(_method({"smoothing": 0.5}).loss(step), step.logp_tokens)
    first, second = grad.squeeze(-1).tolist()
    assert first == pytest.approx([0.0, 0.0], abs=1e-7)
    # At m = 0: -beta (0.8 * 0.5 - 0.2 * 0.5) over two prompts.
    assert second == pytest.approx([-0.3 * 0.3 / 2, 0.3 * 0.3 / 2], rel=1e-5)


def test_a_prompt_without_a_negative_counts_as_zero() -> None:
    both = _step([[1.0, -0.5], [1.0, 0.0]], [0.1, 0.4], [[0, 5], [1, -1]])
    assert float(_method({"smoothing": 0.5}).loss(both).detach()) == pytest.approx(0.538249 / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("smoothing", [0.3, 0.5])
def test_the_doubt_is_bounded_and_grows_with_the_oracles_liking(smoothing: float, temperature: float) -> None:
    """Eps = min(smoothing, sigmoid((s(negative) - s(target)) / temperature)), by a loop over the score vectors."""
    probe = Probe(_method({"smoothing": smoothing, "oracle_temperature": temperature}))
    batch = probe.batch(probe.learner())
    states, items = probe.collab._states["train"], probe.collab.items
    expected = []
    for b, (target, negative) in enumerate(batch.drawn.items.tolist()):
        gap = float(states[b] @ items[negative]) - float(states[b] @ items[target])
        expected.append(min(smoothing, 1 / (1 + math.exp(-gap / temperature))))
    eps = batch.drawn.extra["eps"]
    assert eps.tolist() == pytest.approx(expected, rel=1e-4)
    assert not eps.requires_grad
    assert float(eps.max()) == pytest.approx(smoothing)
    assert float(eps.min()) < 0.9 * smoothing


def test_what_is_read_follows_from_the_settings() -> None:
    assert _method({}).needs == frozenset()
    assert _method({"smoothing": 0.1}).needs == {"collab"}
    assert _method({"negatives": "similar"}).needs == {"text"}
    probe = Probe(_method({}))
    prompts, target = probe.prompts()
    draw = Draw(
        prompts, target, probe.policy(), torch.Generator().manual_seed(0), torch.as_tensor(probe.data.popularity)
    )
    assert _drawn(_method({}), draw).extra["eps"].tolist() == [0.0] * len(target)
    with pytest.raises(BenchError, match="collab"):
        _method({"smoothing": 0.1}).candidates(draw)


def test_more_than_half_a_doubt_is_refused() -> None:
    with pytest.raises(ConfigError, match="smoothing"):
        _method({"smoothing": 0.6})


def test_popular_negatives_follow_the_training_histories() -> None:
    """Chi-square of 9,600 draws against the frequency, renormalised without each prompt's target, leaf and history.

    Flower counts every window of the histories; interactions counted once are another distribution.
    """
    probe = Probe(_method({}))
    prompts, target = probe.prompts()
    many = 400
    tiled = Prompts("train", prompts.rows.repeat(many), prompts.history.repeat(many, 1))
    popularity, frequency = torch.as_tensor(probe.data.popularity), torch.as_tensor(probe.data.frequency)
    policy = probe.policy()
    draw = Draw(
        tiled, target.repeat(many), policy, torch.Generator().manual_seed(5), popularity, frequency=frequency
    )  # fmt: skip
    items = _drawn(probe.tuner, draw).items[:, 1]
    seen = torch.bincount(items, minlength=probe.data.n_items).double()

    def distance(counts: Tensor) -> float:
        expected = torch.zeros(probe.data.n_items, dtype=torch.float64)
        leaf = policy.catalogue.leaf_of
        for b in range(len(target)):
            p = counts.double().clone()
            p[torch.as_tensor(leaf == leaf[int(target[b])])] = 0
            p[prompts.history[b][prompts.history[b] >= 0]] = 0
            expected += many * p / p.sum()
        there = expected > 0
        if seen[~there].any():
            return math.inf
        return float(((seen - expected)[there] ** 2 / expected[there]).sum())

    freedom = probe.data.n_items - 1
    assert distance(frequency) < freedom + 4 * math.sqrt(2 * freedom)
    assert distance(popularity) > freedom + 20 * math.sqrt(2 * freedom)


def test_similar_negatives_are_the_closest_texts() -> None:
    """With a window of one, the negative has the largest dot product with the sum of the history's vectors."""
    probe = Probe(_method({"negatives": "similar", "nearest": 1}))
    policy = probe.policy()
    prompts, target = probe.prompts()
    items = _drawn(probe.tuner, probe.draw(policy)).items[:, 1]
    text, leaf = probe.text.numpy(), policy.catalogue.leaf_of
    for b in range(len(target)):
        history = [i for i in prompts.history[b].tolist() if i >= 0]
        close = text @ text[history].sum(0)
        close[leaf == leaf[int(target[b])]] = -np.inf
        close[history] = -np.inf
        assert int(items[b]) == int(close.argmax())


def test_a_wider_window_draws_more_than_the_closest() -> None:
    one, wide = (Probe(_method({"negatives": "similar", "nearest": n})) for n in (1, 10))
    drawn = [_drawn(p.tuner, p.draw(p.policy())).items[:, 1] for p in (one, wide)]
    assert bool((drawn[0] != drawn[1]).float().mean() > 0.5)


def test_the_oracle_is_the_collaborative_model_given() -> None:
    """An oracle that likes all items alike doubts every pair to one half."""
    probe = Probe(_method({"smoothing": 0.5}))
    probe.collab = Collab(torch.zeros(probe.data.n_items, 8), probe.collab._states)
    assert probe.batch(probe.learner()).drawn.extra["eps"].tolist() == [0.5] * 24
