"""Soft labels: the loss by hand, the draws against the teacher's distribution, and weight 0 against sft."""

from typing import Any, cast

import pytest
import torch
from rlrecbench.baselines.soft_labels import SoftLabels
from scipy.stats import chisquare

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe, check
from rlrecbench.method import methods

registry.load()
TEACHERS = pytest.mark.parametrize("teacher", ["uniform", "collab"])


def probe_of(**settings: Any) -> Probe:
    return Probe(build(methods["soft-labels"], settings, "test"))


@TEACHERS
@pytest.mark.parametrize("reduction", ["token", "item"])
def test_the_loss_by_hand(teacher: str, reduction: str) -> None:
    """Paths have three tokens: .7 of the target's nll and .3 of the mean nll of three draws, over the prompts."""
    probe = probe_of(teacher=teacher, weight=0.3, samples=3, reduction=reduction)
    learner = probe.learner()
    batch = probe.batch(learner)
    with torch.no_grad():
        loss = float(learner(batch))
        nll = -learner.step(batch).tokens.vocab.sum(-1) / (3 if reduction == "token" else 1)
    assert nll.shape == (len(batch.drawn.items), 4)
    by_hand = sum(0.7 * float(row[0]) + 0.3 * float(row[1] + row[2] + row[3]) / 3 for row in nll) / len(nll)
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert batch.drawn.items[:, 0].tolist() == probe.prompts()[1].tolist()


@TEACHERS
def test_weight_zero_is_sft(teacher: str) -> None:
    probe, plain = probe_of(teacher=teacher, weight=0.0), Probe(build(methods["sft"], {}, "test"))
    one, other = probe.learner(), plain.learner()
    with torch.no_grad():
        assert float(one(probe.batch(one))) == pytest.approx(float(other(plain.batch(other))), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_teachers_draws_have_its_softmax(temperature: float) -> None:
    probe = probe_of(teacher="collab", samples=4000, temperature=temperature)
    drawn = probe.batch(probe.learner()).drawn.items
    scores = probe.collab.score("train", torch.arange(len(drawn))).double()
    for row in range(3):
        found = torch.bincount(drawn[row, 1:], minlength=scores.shape[1])
        expected = (scores[row] / temperature).softmax(0) * 4000
        often = expected >= 5
        table = [*found[often].tolist(), int(found[~often].sum())]
        hoped = [*expected[often].tolist(), max(float(expected[~often].sum()), 1e-9)]
        assert chisquare(table, hoped).pvalue > 1e-3


def test_uniform_draws_leave_out_the_target_and_the_history() -> None:
    probe = probe_of(samples=5)
    batch = probe.batch(probe.learner())
    history = batch.prompts.history
    for row, drawn in enumerate(batch.drawn.items[:, 1:].tolist()):
        assert not {*drawn} & {*history[row].tolist(), int(batch.drawn.items[row, 0])}
        assert len({*drawn}) == 5


def test_what_is_needed_follows_from_the_teacher() -> None:
    uniform, collab = (cast("SoftLabels", probe_of(teacher=t).tuner) for t in ("uniform", "collab"))
    assert (uniform.needs, uniform.rollouts) == (frozenset(), False)
    assert (collab.needs, collab.rollouts) == (frozenset({"collab"}), True)


@TEACHERS
def test_the_contract_holds(teacher: str) -> None:
    for result in check("soft-labels", {"teacher": teacher}):
        assert result.held, result
