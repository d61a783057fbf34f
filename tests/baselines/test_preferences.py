"""SFT and DPO: their losses by hand, on log-probabilities that are given."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import Drawn, FineTune, Prompts, Step, methods

registry.load()


def _step(logp: list[list[float]], ref: list[list[float]], items: list[list[int]]) -> Step:
    """A step whose candidates have one token each, with the given log-probabilities."""
    probe = Probe(FineTune())
    prompts = Prompts("train", torch.arange(len(items)), torch.zeros(len(items), 1, dtype=torch.int64))
    step = Step(
        Drawn(torch.tensor(items)), prompts, probe.policy(), "vocab", {}, reference=lambda: torch.tensor(ref)[..., None]
    )
    step.__dict__["logp_tokens"] = torch.tensor(logp, requires_grad=True)[..., None]
    return step


def _method(name: str, settings: Mapping[str, object]) -> FineTune:
    method = build(methods[name], dict(settings), "test")
    assert isinstance(method, FineTune)
    return method


def test_dpo_by_hand() -> None:
    """Two prompts at beta 0.5.

    Gains: (-1 - -2) = 1 and (-5 - -4) = -1, margin 0.5 * 2 = 1, loss log(1 + e^-1) = 0.313262
           (-3 - -3) = 0 and (-2 - -3) = 1, margin 0.5 * -1 = -0.5, loss log(1 + e^0.5) = 0.974077
    """
    step = _step([[-1.0, -5.0], [-3.0, -2.0]], [[-2.0, -4.0], [-3.0, -3.0]], [[0, 5], [1, 6]])
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(0.5))) / 2
    assert float(_method("dpo", {"beta": 0.5}).loss(step).detach()) == pytest.approx(expected, rel=1e-6)


def test_dpo_gradient_is_beta_times_the_wrong_probability() -> None:
    """D loss / d logp of the target = -beta sigmoid(-margin), of the negative the opposite (one prompt)."""
    step = _step([[-1.0, -5.0]], [[-2.0, -4.0]], [[0, 5]])
    loss = _method("dpo", {"beta": 0.5}).loss(step)
    (grad,) = torch.autograd.grad(loss, step.logp_tokens)
    wrong = 1 / (1 + math.exp(1.0))
    assert grad.flatten().tolist() == pytest.approx([-0.5 * wrong, 0.5 * wrong], rel=1e-5)


def test_a_prompt_without_a_negative_counts_as_zero() -> None:
    both = _step([[-1.0, -5.0], [-3.0, 0.0]], [[-2.0, -4.0], [-2.0, 0.0]], [[0, 5], [1, -1]])
    alone = math.log1p(math.exp(-1)) / 2
    assert float(_method("dpo", {"beta": 0.5}).loss(both).detach()) == pytest.approx(alone, rel=1e-6)


def test_dpo_with_likelihood() -> None:
    step = _step([[-1.0, -5.0]], [[-2.0, -4.0]], [[0, 5]])
    loss = _method("dpo", {"beta": 0.5, "sft_weight": 2.0}).loss(step)
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-1)) + 2.0, rel=1e-6)


@pytest.mark.parametrize(("reduction", "share"), [("token", 1 / 3), ("item", 1.0)])
def test_sft_is_the_cross_entropy_of_the_library(reduction: str, share: float) -> None:
    """Against torch's cross_entropy on the logits of the same weights."""
    probe = Probe(_method("sft", {"reduction": reduction}))
    learner = probe.learner()
    policy = probe.policy()
    batch = probe.batch(learner)
    loss: Tensor = learner(batch)
    paths = torch.as_tensor(policy.catalogue.paths)[batch.drawn.items]
    with torch.no_grad():
        states = learner.policy.decode(learner.policy.encode(batch.prompts.history), paths)[:, :, :3]
        logits = learner.policy.head(states)
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 2), paths.flatten(), reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(nll) / len(paths) * share, rel=1e-5)
