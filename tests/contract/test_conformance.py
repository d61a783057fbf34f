"""Every registered method keeps the plug-in contract, and a method that breaks it is caught."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.conformance import check
from rlrecbench.method import Draw, FineTune, Ranked, Ranker, RankJob, Step, methods

registry.load()


@pytest.mark.parametrize("name", [e.name for e in methods])
def test_method_keeps_the_contract(name: str) -> None:
    broken = [r for r in check(name) if not r.held]
    assert not broken


class _Breaks(FineTune):
    """Base of methods that break one law each."""

    start = "base"
    redraw = 0


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        ("leak", "No candidate but the first column"),
        ("vector", "finite scalar"),
        ("constant", "gradient reaches the backbone"),
        ("sum", "Micro-batches"),
        ("order", "Permuting"),
        ("random", "same stream"),
        ("ascent", "improve the objective"),
    ],
)
def test_a_broken_method_is_caught(kind: str, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Broken(_Breaks):
        """Broken on purpose."""

        def candidates(self, draw: Draw) -> Tensor:
            if kind == "leak":
                return draw.beside_target(draw.target[:, None])
            if kind == "random":
                return draw.beside_target(torch.randint(0, 90, (len(draw.target), 1)))
            return draw.beside_target()

        def loss(self, step: Step) -> Tensor:
            nll = -step.logp[:, 0]
            weights = torch.arange(len(nll)) / len(nll)
            return {
                "vector": nll,
                "constant": nll.mean().detach() * torch.ones((), requires_grad=True),
                "sum": nll.sum(),
                "order": (nll * weights).sum(),
                "ascent": 2 * nll.mean().detach() - nll.mean(),
            }.get(kind, nll.mean())

    monkeypatch.setitem(methods._entries, f"broken-{kind}", registry.Entry(f"broken-{kind}", Broken, "", "here:1"))
    first = next(r.name for r in check(f"broken-{kind}") if not r.held)
    assert law in first


def test_a_broken_ranker_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Twice(Ranker):
        """Gives every item twice."""

        generative = False

        def rank(self, job: RankJob) -> Ranked:
            items = torch.arange(5).repeat_interleave(2).expand(len(job.prompts.rows), -1)
            return Ranked(items, torch.zeros(items.shape))

    monkeypatch.setitem(methods._entries, "twice", registry.Entry("twice", Twice, "", "here:1"))
    assert [r.name for r in check("twice") if not r.held] == ["Lists are [B, K], of distinct items, best first"]
