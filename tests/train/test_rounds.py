"""What a draw keeps for its updates, shares of an epoch, and the diagnostics of every method."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench.config import Count, build
from rlrecbench.conformance import Probe
from rlrecbench.method import Draw, Drawn, FineTune, Head, Scalar, Step
from rlrecbench.policy.search import exact
from rlrecbench.train import Budget, TrainJob, train
from rlrecbench.train.budget import epoch_batches
from rlrecbench.train.loop import Batch, Learner, draw_batch
from rlrecbench.train.pool import Pool


def _job(folder: Path, method: FineTune, **budget: Any) -> TrainJob:
    probe = Probe(method)
    return TrainJob(
        data=probe.data, policy=probe.policy(), method=method, folder=folder, seed=1, collab=probe.collab,
        budget=build(Budget, {"epochs": 2, "batch_size": 32, "lr": 1e-3, **budget}, "test"), beams=10, device="cpu",
    )  # fmt: skip


def test_what_is_prepared_is_that_of_the_draw(tmp_path: Path) -> None:
    """Three updates per draw: prepare() runs once a draw, on the whole batch, before the first update."""
    calls: list[int] = []
    drift: list[tuple[float, float]] = []

    @dataclass(frozen=True)
    class Inner(FineTune):
        """Keeps its first log-probabilities; the number of updates is a setting."""

        start = "base"
        redraw = 0
        dropout = False
        reference = "start"
        updates: Count = 3

        def prepare(self, step: Step) -> Mapping[str, Tensor]:
            calls.append(len(step.items))
            assert not step.logp.requires_grad
            return {"logp": step.logp}

        def loss(self, step: Step) -> Tensor:
            assert step.old_tokens is not None
            torch.testing.assert_close(step.old_tokens.sum(-1), step.extra["logp"])
            moved = (step.logp - step.extra["logp"]).detach().abs().max()
            drift.append((float(moved), float(step.gain.detach().abs().max())))
            return -step.logp[:, 0].mean()

    train(_job(tmp_path, Inner(updates=3), max_steps=2))
    assert calls == [32, 32]
    assert len(drift) == 6
    assert [moved == pytest.approx(0.0, abs=1e-5) for moved, _ in drift] == [True, False, False] * 2
    assert drift[0][1] == pytest.approx(0.0, abs=1e-5)  # the reference is the start
    assert drift[3][1] > 1e-3


def test_an_epoch_may_visit_a_share_of_the_pairs() -> None:
    """A share of .3 of 256 pairs: 77 rows; the same subset within a round, in another order; another one after it."""
    probe = Probe(FineTune())
    budget = Budget(batch_size=32, epoch_share=0.3)
    assert budget.rows_per_epoch(256) == math.ceil(0.3 * 256) == 77
    assert budget.total_steps(256) == 200 * 3
    rounds = [np.concatenate(epoch_batches(probe.data.train, budget, 5, e, e // 2)) for e in range(4)]
    assert all(len(set(rows.tolist())) == len(rows) == 77 for rows in rounds)
    sets = [set(rows.tolist()) for rows in rounds]
    assert sets[0] == sets[1] != sets[2] == sets[3]
    assert rounds[0].tolist() != rounds[1].tolist()


def test_a_round_draws_for_its_own_rows(tmp_path: Path) -> None:
    """Two epochs a round over a fifth of the pairs: what is drawn is kept for both, and only for them."""
    seen: dict[int, dict[int, int]] = {}

    @dataclass(frozen=True)
    class Rounds(FineTune):
        """Records which candidate each row has."""

        start = "base"
        redraw = 2

        def candidates(self, draw: Draw) -> Tensor:
            return draw.beside_target(draw.uniform(1))

        def loss(self, step: Step) -> Tensor:
            rows = step.prompts.rows.tolist()
            seen.setdefault(step.epoch, {}).update(zip(rows, step.items[:, 1].tolist(), strict=True))
            return -step.logp[:, 0].mean()

    outcome = train(_job(tmp_path, Rounds(), epochs=4, epoch_share=0.2))
    assert outcome.examples == 4 * 52
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert set(seen[0]) != set(seen[2])


def test_diagnostics_by_enumeration(tmp_path: Path) -> None:
    """Legal mass, entropy and the divergence from the reference, against the policy's whole distribution.

    With every leaf once and the log's means weighted by hand: entropy of a path is the sum of the entropies of
    the nodes along it, so P-weighted over all leaves it is the entropy of the leaves; legal mass is P_vocab / P_trie.
    """

    @dataclass(frozen=True)
    class All(FineTune):
        """One item of every leaf."""

        reference = "start"
        measure = "trie"

        def candidates(self, draw: Draw) -> Drawn:
            leaves = torch.as_tensor(np.unique(draw.catalogue.leaf_of, return_index=True)[1])
            items = leaves.expand(len(draw.target), -1)
            return Drawn(items, torch.arange(items.shape[1]).float().expand_as(items))

        def loss(self, step: Step) -> Tensor:
            return step.gain.mean()

    probe = Probe(All())
    learner = probe.learner()
    log: dict[str, float] = {}
    batch = probe.batch(learner)._replace(log=log)
    learner(batch)
    step = learner.step(batch)
    with torch.no_grad():
        found = exact(learner.policy, step.encoded)
        p = found.trie.exp()
        along = step.tokens.entropy().sum(-1)
        torch.testing.assert_close((p * along).sum(1), -(p * found.trie).sum(1), rtol=1e-4, atol=1e-5)
        assert log["entropy"] == pytest.approx(float(along.mean()), rel=1e-5)
        assert log["legal_mass"] == pytest.approx(float((found.vocab - found.trie).exp().mean()), rel=1e-4)
        reference: Any = learner.__dict__["reference"]
        ratio = exact(reference, reference.encode(step.prompts.history)).trie - found.trie
        assert log["kl_reference"] == pytest.approx(float((ratio.exp() - ratio - 1).mean()), rel=1e-3)
    n = p.shape[1]
    assert log["reward_mean"] == pytest.approx((n - 1) / 2)
    assert log["reward_std"] == pytest.approx(math.sqrt((n * n - 1) / 12), rel=1e-5)


def test_diagnostics_do_not_change_the_training(tmp_path: Path) -> None:
    """The log is written every 50 steps; it must not shift a random stream or a gradient."""
    probe = Probe(FineTune())

    @dataclass(frozen=True)
    class Plain(FineTune):
        """Likelihood."""

        start = "base"

        def loss(self, step: Step) -> Tensor:
            return -step.logp[:, 0].mean()

    learner = Learner(probe.policy(), Plain(), None).train()
    batch = Probe(Plain()).batch(learner)
    gradients = []
    logs: tuple[dict[str, float] | None, ...] = ({}, None)
    for log in logs:
        torch.manual_seed(0)
        learner.zero_grad()
        learner(batch._replace(log=log)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]))
    assert torch.equal(*gradients)


def test_unmasked_samples_survive_pool_and_cut(tmp_path: Path) -> None:
    """Paths that are no item's travel with the draw: the same log-probabilities after writing and reading."""

    @dataclass(frozen=True)
    class Free(FineTune):
        """Samples over the whole vocabulary."""

        rollouts = True

        def candidates(self, draw: Draw) -> Drawn:
            return draw.unmasked(2)

        def loss(self, step: Step) -> Tensor:
            return step.logp.mean()

    probe = Probe(Free())
    learner = probe.learner()
    drawn, _ = draw_batch(learner, probe.draw(learner.policy))
    assert drawn.paths is not None
    assert (drawn.items < 0).any()
    assert learner.step(Batch(drawn, probe.prompts()[0], {}, 0, 0.0, None)).present.all()
    pool = Pool(torch.arange(24), {"items": drawn.items, "paths": drawn.paths})
    pool.write(tmp_path / "draws-0.safetensors")
    rows = np.array([7, 3])
    again, _ = Pool.read(tmp_path / "draws-0.safetensors").of(rows, torch.device("cpu"))
    assert again.paths is not None
    assert torch.equal(again.paths, drawn.paths[[7, 3]])


def test_heads_are_initialised_before_anything_is_computed_with_them(tmp_path: Path) -> None:
    """begin() sees the first batch's draw, and prepare() of that draw sees what begin() left."""
    order: list[tuple[str, float]] = []

    @dataclass(frozen=True)
    class Headed(FineTune):
        """A head that starts at 7."""

        start = "base"
        redraw = 0

        def heads(self, width: int) -> dict[str, Head]:
            return {"seven": Head(Scalar())}

        def begin(self, step: Step) -> None:
            value: Any = step.heads["seven"]
            value.value.data.fill_(7.0)
            order.append(("begin", 7.0))

        def prepare(self, step: Step) -> Mapping[str, Tensor]:
            order.append(("prepare", round(float(step.heads["seven"]()))))
            return {}

        def loss(self, step: Step) -> Tensor:
            loss: Tensor = step.nll() + 0 * step.heads["seven"]()
            return loss

    train(_job(tmp_path, Headed(), max_steps=2))
    assert order == [("begin", 7.0), ("prepare", 7), ("prepare", 7)]


def test_pieces_give_the_same_entropy_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows at a time, as with a large vocabulary, or all at once."""
    learner = Probe(FineTune()).learner()
    draw = Probe(FineTune()).draw(learner.policy)
    whole = draw.unmasked(3)
    entropy = learner.step(Batch(whole, draw.prompts, {}, 0, 0.0, None)).tokens.entropy()
    monkeypatch.setattr("rlrecbench.policy.score.CHUNK", 5 * learner.policy.catalogue.vocab)
    monkeypatch.setattr("rlrecbench.policy.search.CHUNK", 5 * learner.policy.catalogue.vocab)
    pieces = Probe(FineTune()).draw(learner.policy).unmasked(3)
    assert pieces.paths is not None
    assert whole.paths is not None
    assert torch.equal(pieces.paths, whole.paths)
    again = learner.step(Batch(whole, draw.prompts, {}, 0, 0.0, None)).tokens.entropy()
    torch.testing.assert_close(again, entropy)
