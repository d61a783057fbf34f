"""Temp: every token's score against log softmax(log p / T) by teacher forcing, and T = 1 against no temperature."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import ConfigError
from rlrecbench.method import FineTune, Ranked, Ranker, RankJob, methods
from rlrecbench.policy.score import score
from rlrecbench.train.loop import prompts_of

registry.load()
PROBE = Probe(FineTune())
POLICY = PROBE.policy().eval()
JOB = RankJob(prompts_of(PROBE.data.test, "test", np.arange(12), torch.device("cpu")), 96, 96, 0, POLICY)


def _temp(temperature: float) -> Ranker:
    return build(methods["temp"], {"temperature": temperature}, "test")


@torch.no_grad()
def _by_teacher_forcing(temperature: float) -> Tensor:
    """The definition: probabilities first, their logarithm divided by T, and a second softmax; [B, N]."""
    items = torch.arange(POLICY.catalogue.n_items).expand(len(JOB.prompts.rows), -1)
    tokens = score(POLICY, POLICY.encode(JOB.prompts.history), items)
    p = POLICY.head(tokens.states).double().softmax(-1)
    twice = (p.log() / temperature).log_softmax(-1)
    return twice.gather(-1, tokens.paths.unsqueeze(-1)).squeeze(-1).sum(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.2, 1.5, 2.0, 20.0])
def test_scores_are_log_softmax_of_log_p_over_t(temperature: float) -> None:
    """The search divides logits, which differ from log p by a constant: all 96 items, with the search as wide."""
    expected = _by_teacher_forcing(temperature)
    found = _temp(temperature).rank(JOB)
    assert bool((found.items.sort(1).values == torch.arange(96)).all())
    assert_close(found.scores.double(), expected.gather(1, found.items), atol=1e-4, rtol=1e-5)
    assert bool((found.scores.diff(dim=1) <= 0).all())


def test_temperature_one_is_the_search_without() -> None:
    def plain(job: RankJob) -> Ranked:
        return build(methods["sft"], {}, "test").rank(job)

    for job in (JOB, replace(JOB, beams=5, k=5), replace(JOB, length_penalty=1.0)):
        one, other = _temp(1.0).rank(job), plain(job)
        assert torch.equal(one.items, other.items)
        assert torch.equal(one.scores, other.scores)


def test_a_temperature_changes_who_is_listed() -> None:
    """Item scores are sums of different normalisers, so T reorders items."""
    narrow = replace(JOB, k=10, beams=20)
    assert not torch.equal(_temp(1.0).rank(narrow).items, _temp(2.0).rank(narrow).items)


def test_the_published_script_has_one_and_a_half() -> None:
    assert torch.equal(build(methods["temp"], {}, "test").rank(JOB).scores, _temp(1.5).rank(JOB).scores)


@pytest.mark.parametrize("temperature", [0.0, -1.0, "warm"])
def test_a_temperature_is_positive(temperature: object) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        build(methods["temp"], {"temperature": temperature}, "test")
