"""GFlowGR with trajectory balance: the laws it must obey."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench import conformance, registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.method import Drawn, FineTune, Prompts, Scalar, Step, methods
from rlrecbench.policy.search import exact
from rlrecbench.policy.t5 import PRESETS, T5Policy
from rlrecbench.train.loop import Learner

registry.load()


def test_trajectory_balance_converges_to_rewards_and_their_sum() -> None:
    """The GFlowNet theorem: with every residual zero, P = R / sum R and log Z = log sum R.

    30 leaves under a 3-level trie, one prompt, trie measure, only the balance loss, every leaf in each batch.
    """
    rng = np.random.default_rng(0)
    codes = np.array([(a, b, c) for a in range(3) for b in range(5) for c in range(2)])
    torch.manual_seed(0)
    policy = T5Policy(Catalogue(1 + codes + np.array([0, 3, 8]), 11), replace(PRESETS["tiny"], dropout=0.0))
    rewards = torch.as_tensor(rng.uniform(0.2, 5.0, size=(1, 30)), dtype=torch.float32)
    method = build(methods["gflowgr-tb"], {"policy_measure": "trie"}, "test")
    assert isinstance(method, FineTune)
    items = torch.arange(30)[None]
    prompts = Prompts("train", torch.zeros(1, dtype=torch.int64), torch.tensor([[0, 7]]))
    log_z = Scalar(0.0)

    def step() -> Step:
        drawn = Drawn(items, rewards, {"weight": torch.ones_like(rewards)})
        return Step(drawn, prompts, policy, "vocab", {"log_z": log_z})

    method.begin(step())
    optimizer = torch.optim.Adam(
        [{"params": policy.parameters(), "lr": 3e-3}, {"params": log_z.parameters(), "lr": 3e-2}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        now = step()
        nll = -now.tokens.vocab[:, 0].sum(-1) / 3
        optimizer.zero_grad()
        (method.loss(now) - nll.mean()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = exact(policy, policy.encode(prompts.history))
    at = torch.searchsorted(found.leaves, torch.as_tensor(policy.catalogue.leaf_of))
    p = found.trie.exp()[0, at]
    torch.testing.assert_close(p, rewards[0] / rewards.sum(), atol=1e-3, rtol=0)
    assert float(log_z.value.detach()) == pytest.approx(math.log(float(rewards.sum())), abs=1e-3)


def log_z_of(learner: Learner) -> Tensor:
    head = learner.heads["log_z"]
    assert isinstance(head, Scalar)
    return head.value


def _probe(**settings: object) -> conformance.Probe:
    return conformance.Probe(build(methods["gflowgr-tb"], settings, "test"))


def test_loss_by_hand() -> None:
    """Two prompts, one augmented item each, log Z = 2, unit weights: mean over prompts of the summed squares."""
    probe = _probe(normalise=False, weighted=False)
    learner = probe.learner()
    log_z_of(learner).data.fill_(2.0)
    batch = probe.batch(learner)
    with torch.no_grad():
        loss = float(learner(batch))
        step = learner.step(batch)
        logp = step.tokens.vocab.sum(-1)
        assert step.rewards is not None
        expected = 0.0
        for b in range(len(logp)):
            expected += -float(logp[b, 0]) / 3
            for c in range(2):
                expected += (2.0 + float(logp[b, c]) - math.log(float(step.rewards[b, c]))) ** 2
    assert loss == pytest.approx(expected / len(logp), rel=1e-5)


def test_reward_and_weight_by_hand() -> None:
    """R = r_a + sigmoid(score) + equal tokens, w = 1 / max(|r_a - r_c|, 0.2)^2."""
    probe = _probe(normalise=False)
    policy = probe.policy()
    drawn = probe.batch(probe.learner()).drawn
    _, target = probe.prompts()
    assert drawn.rewards is not None
    for b in range(5):
        for c in range(2):
            item = int(drawn.items[b, c])
            hit = float(item == int(target[b]))
            score = float(probe.collab.score("train", torch.tensor([b]))[0, item])
            collab = 1 / (1 + math.exp(-score))
            same = sum(
                int(x == y)
                for x, y in zip(policy.catalogue.paths[item], policy.catalogue.paths[int(target[b])], strict=True)
            )
            assert float(drawn.rewards[b, c]) == pytest.approx(hit + collab + same, rel=1e-5)
            assert float(drawn.extra["weight"][b, c]) == pytest.approx(max(abs(hit - collab), 0.2) ** -2, rel=1e-4)


def test_normalised_weights_have_mean_one() -> None:
    probe = _probe()
    drawn = probe.batch(probe.learner()).drawn
    assert float(drawn.extra["weight"].mean()) == pytest.approx(1.0)


def test_without_lambda_it_is_sft() -> None:
    probe, sft = _probe(lam=0.0), conformance.Probe(build(methods["sft"], {}, "test"))
    one, two = probe.learner(), sft.learner()
    assert float(one(probe.batch(one)).detach()) == float(two(sft.batch(two)).detach())


def test_without_augmented_items_the_target_remains() -> None:
    probe = _probe(trajectories=0)
    assert probe.batch(probe.learner()).drawn.items.shape[1] == 1


@pytest.mark.parametrize(("progress", "harder_than"), [(0.0, 0.0), (1.0, 0.9)])
def test_the_sampler_moves_from_easy_to_hard(progress: float, harder_than: float) -> None:
    """At the end of training the augmented item comes from the top tenth of its random pool."""
    probe = _probe(pool=60, trajectories=4)
    drawn = probe.batch(probe.learner(), progress=progress).drawn
    everything = probe.collab.score("train", torch.arange(len(drawn.items)))
    share = (everything[:, None, :] < everything.gather(1, drawn.items[:, 1:])[:, :, None]).float().mean(-1)
    if progress == 0.0:
        assert float(share.mean()) < 0.2
    else:
        assert float(share.mean()) > harder_than - 0.1


def test_log_z_starts_where_the_mean_residual_is_zero() -> None:
    probe = _probe()
    learner = probe.learner()
    batch = probe.batch(learner)
    with torch.no_grad():
        step = learner.step(batch)
        probe.tuner.begin(step)
        residual = log_z_of(learner) + step.tokens.vocab.sum(-1) - step.rewards.log()  # type: ignore[union-attr]
    assert float(residual.mean()) == pytest.approx(0.0, abs=1e-4)


def test_a_clipped_residual_grows_linearly() -> None:
    """Huber: beyond the clip d, the square becomes d (2 |r| - d)."""
    probe, free = (
        _probe(residual_clip=0.5, weighted=False, normalise=False),
        _probe(weighted=False, normalise=False),
    )
    one, two = probe.learner(), free.learner()
    for learner in (one, two):
        log_z_of(learner).data.fill_(10.0)
    batch = free.batch(two)
    with torch.no_grad():
        step = two.step(batch)
        assert step.rewards is not None
        r = 10.0 + step.tokens.vocab.sum(-1) - step.rewards.log()
        nll = -step.tokens.vocab[:, 0].sum(-1).mean() / 3
        huber = torch.where(r.abs() <= 0.5, r**2, 0.5 * (2 * r.abs() - 0.5))
        assert (r.abs() > 0.5).any()
        assert float(one(batch)) == pytest.approx(float(nll + huber.sum(1).mean()), rel=1e-5)
