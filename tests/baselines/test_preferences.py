"""SFT, DPO, S-DPO and DMPO: their losses by hand, on log-probabilities that are given, and as each other's cases."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import Draw, Drawn, FineTune, Prompts, Step, methods
from rlrecbench.seeds import generator
from rlrecbench.train.loop import Batch, Learner

registry.load()


def _step(
    logp: list[list[float]], ref: list[list[float]], items: list[list[int]], log: dict[str, float] | None = None
) -> Step:
    """A step whose candidates have one token each, with the given log-probabilities."""
    probe = Probe(FineTune())
    prompts = Prompts("train", torch.arange(len(items)), torch.zeros(len(items), 1, dtype=torch.int64))
    drawn = Drawn(torch.tensor(items))
    step = Step(
        drawn, prompts, probe.policy(), "vocab", {}, reference=lambda: torch.tensor(ref)[..., None], log=log
    )  # fmt: skip
    step.__dict__["logp_tokens"] = torch.tensor(logp, requires_grad=True)[..., None]
    return step


def _method(name: str, settings: Mapping[str, object]) -> FineTune:
    method = build(methods[name], dict(settings), "test")
    assert isinstance(method, FineTune)
    return method


def _gradient(loss: Tensor, step: Step) -> list[list[float]]:
    """D loss / d logp, [B, C]."""
    (grad,) = torch.autograd.grad(loss, step.logp_tokens)
    found: list[list[float]] = grad.squeeze(-1).tolist()
    return found


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
    wrong = 1 / (1 + math.exp(1.0))
    assert _gradient(loss, step)[0] == pytest.approx([-0.5 * wrong, 0.5 * wrong], rel=1e-5)


def test_a_prompt_without_a_negative_counts_as_zero() -> None:
    both = _step([[-1.0, -5.0], [-3.0, 0.0]], [[-2.0, -4.0], [-2.0, 0.0]], [[0, 5], [1, -1]])
    alone = math.log1p(math.exp(-1)) / 2
    assert float(_method("dpo", {"beta": 0.5}).loss(both).detach()) == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("name", ["dpo", "s-dpo", "dmpo"])
def test_the_likelihood_of_the_target_can_be_added(name: str) -> None:
    step = _step([[-1.0, -5.0]], [[-2.0, -4.0]], [[0, 5]])
    loss = _method(name, {"beta": 0.5, "sft_weight": 2.0}).loss(step)
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-1)) + 2.0, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("dpo", {}, 0.493249),
        ("s-dpo", {}, 1.158904),
        ("dmpo", {"reduction": "sum"}, 0.300058),
        ("dmpo", {}, 0.533382),
    ],
)
def test_published_values(name: str, settings: dict[str, object], expected: float) -> None:
    """Values computed with the public code at beta 0.3; dpo sees the first negative only.

    Gains: target 1, negatives -0.5, 1, -1; differences -1.5, 0, -2. By hand: S-DPO log(1 + e^-.45 + 1 + e^-.6),
    DMPO log(1 + e^-1.05) for the sum and log(1 + e^-.35) for the mean, DPO log(1 + e^-.45).
    """
    step = _step([[-10.0, -12.0, -9.0, -15.0]], [[-11.0, -11.5, -10.0, -14.0]], [[0, 5, 6, 7]])
    loss = _method(name, {"beta": 0.3, **settings}).loss(step)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)


def test_s_dpo_gradient_shares_the_wrong_probability_by_a_softmax() -> None:
    """D loss / d logp of negative k = beta sigmoid(S) softmax_k, of the target -beta sigmoid(S); one prompt, beta 0.3.

    The logits are -0.45, 0, -0.6 and S is their log-sum-exp.
    """
    step = _step([[-10.0, -12.0, -9.0, -15.0]], [[-11.0, -11.5, -10.0, -14.0]], [[0, 5, 6, 7]])
    loss = _method("s-dpo", {"beta": 0.3}).loss(step)
    total = math.exp(-0.45) + 1 + math.exp(-0.6)
    wrong = total / (1 + total)
    negatives = [0.3 * wrong * math.exp(x) / total for x in (-0.45, 0.0, -0.6)]
    assert _gradient(loss, step)[0] == pytest.approx([-0.3 * wrong, *negatives], rel=1e-5)


def test_dmpo_gradient_is_shared_equally() -> None:
    """D loss / d logp of each negative = beta / 3 sigmoid(-0.35), of the target -beta sigmoid(-0.35)."""
    step = _step([[-10.0, -12.0, -9.0, -15.0]], [[-11.0, -11.5, -10.0, -14.0]], [[0, 5, 6, 7]])
    loss = _method("dmpo", {"beta": 0.3}).loss(step)
    wrong = 1 / (1 + math.exp(0.35))
    assert _gradient(loss, step)[0] == pytest.approx([-0.3 * wrong, *[0.1 * wrong] * 3], rel=1e-5)


@pytest.mark.parametrize(("name", "reduction"), [("s-dpo", None), ("dmpo", "mean"), ("dmpo", "sum")])
def test_an_absent_negative_is_as_if_it_were_not_drawn(name: str, reduction: str | None) -> None:
    """Three negatives of which the second is absent, against a draw of the two others, and a prompt without any."""
    method = _method(name, {"beta": 0.3, **({"reduction": reduction} if reduction else {})})
    step = _step(
        [[-10.0, -12.0, 0.0, -15.0], [-4.0, 0.0, 0.0, 0.0]],
        [[-11.0, -11.5, 0.0, -14.0], [-5.0, 0.0, 0.0, 0.0]],
        [[0, 5, -1, 7], [1, -1, -1, -1]],
    )
    fewer = _step([[-10.0, -12.0, -15.0]], [[-11.0, -11.5, -14.0]], [[0, 5, 7]])
    loss, other = method.loss(step), method.loss(fewer)
    assert float(loss.detach()) == pytest.approx(float(other.detach()) / 2, rel=1e-6)
    first, second = _gradient(loss, step)
    target, a, b = _gradient(other, fewer)[0]
    assert first == pytest.approx([target / 2, a / 2, 0.0, b / 2], rel=1e-6)
    assert second == [0.0] * 4


@pytest.mark.parametrize("name", ["dpo", "s-dpo", "dmpo"])
def test_a_wide_gap_does_not_overflow(name: str) -> None:
    """Where the exponential of the gap is infinite in float32, the loss is the gap: 200 nats at beta 1."""
    step = _step([[-200.0, 0.0]], [[0.0, 0.0]], [[0, 5]])
    loss = _method(name, {"beta": 1.0}).loss(step)
    assert float(loss.detach()) == 200.0
    assert _gradient(loss, step)[0] == [-1.0, 1.0]


def _world(name: str, settings: Mapping[str, object]) -> tuple[Learner, Batch]:
    """A learner and the batch that its method draws."""
    probe = Probe(_method(name, settings))
    learner = probe.learner()
    return learner, probe.batch(learner)


def _losses(learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss, and gradient of all weights."""
    loss = learner(batch)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("s-dpo", {"negatives": 1}),
        ("dmpo", {"negatives": 1}),
        ("dmpo", {"negatives": 1, "reduction": "sum"}),
        ("rosepo", {}),
    ],
)
def test_with_one_negative_and_no_smoothing_all_are_dpo(
    name: str, settings: dict[str, object], sft_weight: float
) -> None:
    """Loss and gradient of every weight are the same numbers on the same draw, one of whose negatives is absent."""
    shared = {"beta": 0.7, "sft_weight": sft_weight}
    dpo, batch = _world("dpo", shared)
    other, theirs = _world(name, {**shared, **settings})
    if name != "rosepo":  # its negative is a popular item
        assert torch.equal(batch.drawn.items, theirs.drawn.items)
    items = batch.drawn.items.clone()
    items[3, 1] = -1
    batch = batch._replace(drawn=replace(batch.drawn, items=items, extra={"eps": torch.zeros(len(items))}))
    (loss, grad), (loss_2, grad_2) = _losses(dpo, batch), _losses(other, batch)
    assert torch.equal(loss, loss_2)
    assert torch.equal(grad, grad_2)
    assert float(grad.abs().max()) > 0


def test_negatives_are_distinct() -> None:
    for name in ("s-dpo", "dmpo"):
        _, batch = _world(name, {"negatives": 5})
        assert batch.drawn.items.shape[1] == 6
        assert all(len(set(row)) == 6 for row in batch.drawn.items.tolist())


@pytest.mark.parametrize(
    ("name", "margin", "accuracy"),
    [("dpo", 0.45, 1.0), ("s-dpo", (0.45 + 0.0 + 0.6) / 3, 2 / 3), ("dmpo", 0.35, 1.0)],
)
def test_diagnostics_by_hand(name: str, margin: float, accuracy: float) -> None:
    """Gains 1 and -0.5, 1, -1: of the differences 1.5, 0 and 2 two are won."""
    log: dict[str, float] = {}
    rows = [-10.0, -12.0, -9.0, -15.0], [-11.0, -11.5, -10.0, -14.0], [0, 5, 6, 7]
    n = 2 if name == "dpo" else 4
    step = _step([rows[0][:n]], [rows[1][:n]], [rows[2][:n]], log)
    _method(name, {"beta": 0.3}).loss(step)
    rejected = -0.5 if name == "dpo" else -0.5 / 3
    assert log == pytest.approx(
        {"margin": margin, "accuracy": accuracy, "chosen_drift": 1.0, "rejected_drift": rejected}, abs=1e-6
    )


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


def test_dpo_may_reject_rarer_items_only() -> None:
    """Of fixed frequencies 0..95 every rejected item lies below its target's."""
    method = _method("dpo", {"negatives": "rarer"})
    probe = Probe(method)
    prompts, target = probe.prompts()
    draw = Draw(prompts, target, probe.policy(), generator(0, "t"), torch.arange(probe.data.n_items))
    items = method.candidates(draw)
    assert isinstance(items, Tensor)
    assert torch.equal(items[:, 0], target)
    assert (items[:, 1] < target).all()
    assert (_method("dpo", {}).candidates(draw)[:, 1] > target).any()  # type: ignore[index]  # a tensor, too
