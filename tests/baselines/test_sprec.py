"""SPRec: the two passes of a round are SFT and DPO, and the negatives are the policy's best errors."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import FineTune, Step, methods
from rlrecbench.policy.search import exact
from rlrecbench.train import Budget, TrainJob, train
from rlrecbench.train.loop import Learner

registry.load()


def _probe(name: str, settings: Mapping[str, object]) -> Probe:
    return Probe(build(methods[name], dict(settings), "test"))


def _gradient(learner: Learner) -> Tensor:
    return torch.cat([p.grad.flatten() for p in learner.policy.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("epoch", "other", "settings"),
    [(0, "sft", {}), (0, "sft", {"reduction": "item"}), (4, "sft", {}), (1, "dpo", {}), (3, "dpo", {"beta": 0.4})],
)
def test_even_epochs_are_sft_and_odd_epochs_dpo(epoch: int, other: str, settings: dict[str, object]) -> None:
    """Loss and gradients on the same candidates, one of whose wrong items is absent."""
    one, two = _probe("sprec", settings), _probe(other, settings)
    sprec, baseline = one.learner(), two.learner()
    batch = one.batch(sprec, epoch=epoch)
    items = batch.drawn.items.clone()
    items[3, 1] = -1
    batch = batch._replace(drawn=replace(batch.drawn, items=items))
    if other == "dpo":
        baseline.__dict__["reference"] = sprec.__dict__["reference"]
    loss, expected = sprec(batch), baseline(batch)
    loss.backward()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(_gradient(sprec), _gradient(baseline), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("sprec", {}), ("rosepo", {"negatives": "self-hard"})])
def test_the_wrong_item_is_the_most_probable_one(name: str, settings: dict[str, object]) -> None:
    """Against the exact probability of every leaf, with a search as wide as the catalogue.

    The best leaf that is not the target's and holds no item of the history; leaves with some items in the history
    may be passed over or not, as an item of them is taken at random.
    """
    probe = _probe(name, {"beams": 96, **settings})
    learner = probe.learner()
    items = probe.batch(learner).drawn.items
    assert items.shape == (24, 2)
    prompts, target = probe.prompts()
    policy = learner.policy
    with torch.no_grad():
        found = exact(policy, policy.encode(prompts.history))
    checked = 0
    for b in range(len(items)):
        history = [i for i in prompts.history[b].tolist() if i >= 0]
        for at in found.vocab[b].argsort(descending=True).tolist():
            held = policy.catalogue.items_of(int(found.leaves[at]))
            if int(target[b]) in held or np.isin(held, history).all():
                continue
            if np.isin(held, history).any():
                break
            assert int(items[b, 1]) in held
            checked += 1
            break
    assert checked >= 20


def test_a_search_without_a_wrong_item_gives_no_preference() -> None:
    """One beam that is the target, of its leaf or in the history, leaves column 1 empty; the SFT pass goes on."""
    probe = _probe("sprec", {"beams": 1})
    learner = probe.learner()
    batch = probe.batch(learner)
    target = probe.prompts()[1]
    alone = batch._replace(drawn=replace(batch.drawn, items=torch.stack([target, -torch.ones_like(target)], 1)))
    with torch.no_grad():
        assert float(learner(alone._replace(epoch=1))) == 0.0
        assert float(learner(alone)) > 0.5


class Seen(NamedTuple):
    """What a step was given."""

    epoch: int
    rows: list[int]
    items: list[list[int]]
    gain: float | None  # largest log-ratio, in DPO passes


def _train(folder: Path, epochs: int, monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Train on 128 of 256 pairs a round, 4 steps an epoch."""
    probe, seen = _probe("sprec", {}), []
    kind = type(probe.tuner)
    loss = kind.loss

    def watched(method: FineTune, step: Step) -> Tensor:
        gain = float(step.gain.detach().abs().max()) if step.epoch % 2 else None
        seen.append(Seen(step.epoch, step.prompts.rows.tolist(), step.items.tolist(), gain))
        return loss(method, step)

    monkeypatch.setattr(kind, "loss", watched)
    settings = {
        **probe.tuner.budget,
        "epochs": epochs,
        "batch_size": 32,
        "epoch_share": 0.5,
        "lr": 1e-3,
        "eval_examples": 8,
    }
    job = TrainJob(
        data=probe.data, policy=probe.policy(), method=probe.tuner, budget=build(Budget, settings, "test"), seed=1,
        folder=folder, beams=10, device="cpu",
    )  # fmt: skip
    train(job)
    return seen


def test_a_round_visits_the_same_pairs_twice_against_the_model_between_the_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds of two passes over half of the pairs.

    The rows and their wrong items are those of the round in both passes, and others in the next round. At the first
    step of a DPO pass policy and reference are the same model, so every log-ratio is exactly 0, and later they differ.
    """
    seen = _train(tmp_path, 4, monkeypatch)
    rows, wrong = {}, {}
    for epoch in range(4):
        steps = [s for s in seen if s.epoch == epoch]
        assert len(steps) == 4
        rows[epoch] = sorted(r for s in steps for r in s.rows)
        wrong[epoch] = {r: tuple(items) for s in steps for r, items in zip(s.rows, s.items, strict=True)}
        assert len(set(rows[epoch])) == 128
        gains = [s.gain for s in steps]
        if epoch % 2:
            assert gains[0] == 0.0
            assert all(g is not None and g > 1e-3 for g in gains[1:])
    assert rows[0] == rows[1]
    assert rows[2] == rows[3]
    assert rows[0] != rows[2]
    assert wrong[0] == wrong[1]
    assert wrong[2] == wrong[3]
    both = wrong[0].keys() & wrong[2].keys()
    assert any(wrong[0][r] != wrong[2][r] for r in both)  # the model has changed, and so have its errors


def test_wrong_items_are_those_of_the_model_before_the_sft_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the first round are found by the start policy: the same as without any training."""
    seen = _train(tmp_path, 2, monkeypatch)
    probe = _probe("sprec", {"beams": 20})
    rows = {r: items for s in seen if s.epoch == 1 for r, items in zip(s.rows, s.items, strict=True)}
    untrained = probe.batch(probe.learner()).drawn.items
    leaf = probe.policy().catalogue.leaf_of
    there = [b for b in range(24) if b in rows]
    assert len(there) > 5
    same = [leaf[rows[b][1]] == leaf[int(untrained[b, 1])] for b in there]
    assert np.mean(same) > 0.9  # a leaf with items of the history may be passed over or not


def test_models_are_judged_after_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps a pass: evaluations after steps 8 and 16, none after an SFT pass."""
    _train(tmp_path, 4, monkeypatch)
    log = [json.loads(line) for line in (tmp_path / "train.jsonl").open()]
    assert [line["step"] for line in log if "valid/ndcg@10" in line] == [8, 16]
