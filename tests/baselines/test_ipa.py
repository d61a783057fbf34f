"""IPA: who wins and loses among the beams, the loss by hand, the share of pairs, and what a refresh renews."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import Draw, Drawn, FineTune, Measure, Prompts, Step, methods
from rlrecbench.policy.search import beam
from rlrecbench.policy.t5 import PRESETS, T5Policy
from rlrecbench.train import Budget, TrainJob, train

registry.load()


def _probe(**settings: object) -> Probe:
    return Probe(build(methods["ipa"], settings, "test"))


def _drawn(method: FineTune, draw: Draw) -> Drawn:
    drawn = method.candidates(draw)
    assert isinstance(drawn, Drawn)
    return drawn


class Given(Draw):
    """A draw whose beams are given, with scores that are the item numbers, negated for odd prompts."""

    def __init__(self, found: Tensor, target: Tensor, probe: Probe, sign: Tensor | None = None) -> None:
        rows = torch.arange(len(target))
        super().__init__(
            Prompts("train", rows, target[:, None]), target, probe.policy(), torch.Generator().manual_seed(3),
            torch.as_tensor(probe.data.popularity),
        )  # fmt: skip
        self.found = found
        self.sign = torch.ones(len(target)) if sign is None else sign
        self.searched = torch.zeros(len(target), dtype=torch.bool)

    def beams(self, n: int, measure: Measure = "vocab", where: Tensor | None = None) -> Tensor:
        assert where is not None
        self.searched = where
        return torch.where(where[:, None], self.found, -1)

    def collab(self, items: Tensor) -> Tensor:
        return torch.where(items < 0, 0.0, items.float() * self.sign[:, None])


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("best", [[50, 40, 20], [50, 10, 30], [50, -1, -1], [50, -1, -1], [0, 9, 1]]),
        ("target", [[50, 50, 20], [50, 50, 30], [50, -1, -1], [50, 50, 7], [0, -1, -1]]),
    ],
)
def test_winner_and_loser_by_hand(winner: str, expected: list[list[int]]) -> None:
    """Five prompts; the score of an item is its number, of the second prompt its negative; items 0 to 3 share a leaf.

    Prompt 3 finds nothing, prompt 4 one beam, which loses to the target only; in prompt 5 the loser is on the target's
    leaf.
    """
    probe = _probe(share=1.0, winner=winner)
    found = torch.tensor([[30, 20, 40], [30, 10, -1], [-1, -1, -1], [7, -1, -1], [9, 1, -1]])
    target = torch.tensor([50, 50, 50, 50, 0])
    drawn = _drawn(probe.tuner, Given(found, target, probe, torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0])))
    assert drawn.items.tolist() == expected
    signs = [1, -1, 1, 1, 1]
    for row, sign, gap in zip(expected, signs, drawn.extra["collab_gap"].tolist(), strict=True):
        assert gap == (sign * (row[1] - row[2]) if row[1] >= 0 else 0)


@pytest.mark.parametrize(("winner", "expected"), [("best", [50, -1, -1]), ("target", [50, 50, 20])])
def test_where_all_beams_were_seen_only_the_target_can_win(winner: str, expected: list[int]) -> None:
    probe = _probe(share=1.0, winner=winner)
    draw = Given(torch.tensor([[30, 20]]), torch.tensor([50]), probe)
    draw.prompts = Prompts("train", torch.arange(1), torch.tensor([[20, 30]]))
    assert _drawn(probe.tuner, draw).items.tolist() == [expected]


@pytest.mark.parametrize("winner", ["best", "target"])
def test_winner_and_loser_are_the_extremes_of_the_policys_beams(winner: str) -> None:
    """Against a search of its own and the scores of all items; thirty items, each on a leaf of its own, 40 prompts.

    A beam of the history may lose but not win.
    """
    codes = torch.cartesian_prod(torch.arange(3), torch.arange(5), torch.arange(2))
    torch.manual_seed(0)
    policy = T5Policy(Catalogue((1 + codes + torch.tensor([0, 3, 8])).numpy(), 11), PRESETS["tiny"]).eval()
    history, target = torch.randint(0, 30, (40, 3)), torch.randint(0, 30, (40,))
    states, vectors = torch.randn(40, 4), torch.randn(30, 4)
    draw = Draw(
        Prompts("train", torch.arange(40), history), target, policy, torch.Generator().manual_seed(1),
        torch.ones(30), collab=Collab(vectors, {"train": states}),
    )  # fmt: skip
    items = _drawn(_probe(share=1.0, beams=6, winner=winner).tuner, draw).items
    found = beam(policy, policy.encode(history), 6)
    score = states @ vectors.T
    for b, wanted in enumerate(target.tolist()):
        held = [int(policy.catalogue.items_of(int(leaf))[0]) for leaf in found.leaves[b]]
        order = sorted(held, key=lambda i: float(score[b, i]))
        unseen = [i for i in order if i not in history[b].tolist()]
        best, worst = (unseen[-1] if winner == "best" else wanted), order[0]
        assert items[b].tolist() == [wanted, *([best, worst] if best != worst else [-1, -1])]
    assert len({tuple(row) for row in items[:, 1:].tolist()}) > 5


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_the_share_of_prompts_that_are_searched(share: float) -> None:
    """20,000 prompts: within four standard deviations of the share; the others have no pair."""
    n = 20_000
    probe = _probe(share=share)
    draw = Given(torch.tensor([[30, 20]]).expand(n, 2), torch.full((n,), 50), probe)
    items = _drawn(probe.tuner, draw).items
    paired = items[:, 1] >= 0
    assert torch.equal(paired, draw.searched)
    assert torch.equal(paired, items[:, 2] >= 0)
    assert abs(float(paired.float().mean()) - share) <= 4 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize(("mean", "scale"), [("pairs", 4.0), ("prompts", 1.0)])
@pytest.mark.parametrize(("reduction", "length"), [("token", 3), ("item", 1)])
def test_loss_by_hand(mean: str, scale: float, reduction: str, length: int) -> None:
    """Mean over prompts of -log pi(target), plus 0.7 of the pairs' DPO at beta 0.5, over the share 1/4 for "pairs"."""
    settings: Mapping[str, object] = {
        "share": 0.25, "beta": 0.5, "preference_weight": 0.7, "preference_mean": mean, "reduction": reduction,
    }  # fmt: skip
    probe = _probe(**settings)
    learner = probe.learner()
    batch = probe.batch(learner)
    paired = batch.drawn.items[:, 1] >= 0
    assert 0 < int(paired.sum()) < 24
    with torch.no_grad():
        loss = float(learner(batch))
        step = learner.step(batch)
        expected = 0.0
        for b in range(24):
            expected -= float(step.logp[b, 0]) / length
            if paired[b]:
                win, lose = (float(step.logp[b, c]) - float(step.ref_logp[b, c]) for c in (1, 2))
                expected += 0.7 * scale * math.log1p(math.exp(-0.5 * (win - lose)))
    assert loss == pytest.approx(expected / 24, rel=1e-5)


def test_without_preferences_it_is_sft() -> None:
    one, two = _probe(preference_weight=0.0, share=1.0), Probe(build(methods["sft"], {}, "test"))
    ipa, sft = one.learner(), two.learner()
    with torch.no_grad():
        assert float(ipa(one.batch(ipa))) == pytest.approx(float(sft(two.batch(sft))), rel=1e-6)


def test_a_batch_without_pairs_is_sft_and_logs_no_preferences() -> None:
    probe, other = _probe(share=1e-9), Probe(build(methods["sft"], {}, "test"))
    ipa, sft = probe.learner(), other.learner()
    log: dict[str, float] = {}
    batch = probe.batch(ipa)
    assert not (batch.drawn.items[:, 1:] >= 0).any()
    with torch.no_grad():
        assert float(ipa(batch._replace(log=log))) == pytest.approx(float(sft(other.batch(sft))), rel=1e-6)
    assert log["pairs"] == 0.0
    assert all(math.isfinite(v) for v in log.values())


def test_diagnostics_are_those_of_winner_and_loser() -> None:
    probe = _probe(share=0.5, beta=0.5)
    learner = probe.learner()
    log: dict[str, float] = {}
    batch = probe.batch(learner)
    with torch.no_grad():
        learner(batch._replace(log=log))
        step = learner.step(batch)
        paired = [b for b in range(24) if int(batch.drawn.items[b, 1]) >= 0]
        win, lose = (sum(float(step.gain[b, c]) for b in paired) / len(paired) for c in (1, 2))
    score = probe.collab.score("train", torch.arange(24))
    gaps = [float(score[b, batch.drawn.items[b, 1]] - score[b, batch.drawn.items[b, 2]]) for b in paired]
    right = sum(float(step.gain[b, 1].detach()) > float(step.gain[b, 2].detach()) for b in paired) / len(paired)
    assert log["accuracy"] == pytest.approx(right)
    assert right > 0
    assert log["pairs"] == pytest.approx(len(paired) / 24)
    assert log["chosen_drift"] == pytest.approx(win, abs=1e-5)
    assert log["rejected_drift"] == pytest.approx(lose, abs=1e-5)
    assert log["margin"] == pytest.approx(0.5 * (win - lose), abs=1e-5)
    assert log["collab_gap"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)
    assert min(gaps) > 0


def test_a_refresh_renews_beams_and_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refreshed every two epochs: pairs stay in epochs 0 and 1, change with epoch 2, and log-ratios are 0 again."""
    probe = _probe(refresh=2, share=0.5)
    kind, seen = type(probe.tuner), []
    loss = kind.loss

    def watched(method: FineTune, step: Step) -> Tensor:
        gain = float(step.gain.detach().abs().max())
        seen.append((step.epoch, step.prompts.rows.tolist(), step.items[:, 1:].tolist(), gain))
        return loss(method, step)

    monkeypatch.setattr(kind, "loss", watched)
    budget = build(
        Budget, {**probe.tuner.budget, "epochs": 4, "batch_size": 128, "lr": 1e-3, "eval_examples": 8}, "test"
    )
    train(
        TrainJob(
            data=probe.data, policy=probe.policy(), method=probe.tuner, budget=budget, seed=1, folder=tmp_path,
            collab=probe.collab, beams=10, device="cpu",
        )
    )  # fmt: skip
    pairs = [{r: tuple(p) for s in seen if s[0] == e for r, p in zip(s[1], s[2], strict=True)} for e in range(4)]
    assert all(len(p) == 256 for p in pairs)
    assert pairs[0] == pairs[1]
    assert pairs[2] == pairs[3]
    assert pairs[0] != pairs[2]
    first = [next(s[3] for s in seen if s[0] == e) for e in range(4)]
    assert first[0] == pytest.approx(0.0, abs=1e-5)
    assert first[2] == pytest.approx(0.0, abs=1e-5)
    assert min(first[1], first[3]) > 0.01
