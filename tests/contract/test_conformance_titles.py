"""Every registered method keeps the plug-in contract on titles too, where a language model reads the prompts."""

import numpy as np
import pytest
import torch

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe, check, improves, micro_batches, permutation, scalar_loss
from rlrecbench.method import FineTune, methods
from rlrecbench.policy.decoder import DecoderPolicy

registry.load()


@pytest.mark.parametrize("name", [e.name for e in methods if issubclass(e.value, FineTune)])
def test_loss_and_gradient_of_a_method_hold_on_titles(name: str) -> None:
    probe = Probe(build(methods[name], {}, name), "titles")
    for law in (scalar_loss, permutation, micro_batches, improves):
        law(probe)  # raises where it does not hold


@pytest.mark.parametrize("name", [e.name for e in methods if not issubclass(e.value, FineTune)])
def test_ranker_keeps_the_contract_on_titles(name: str) -> None:
    assert all(r.held for r in check(name, kind="titles"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [e.name for e in methods if issubclass(e.value, FineTune)])
def test_method_keeps_the_whole_contract_on_titles(name: str) -> None:
    results = list(check(name, kind="titles"))
    assert not [r for r in results if not r.held]
    assert len(results) == 11


def test_rankers_that_read_texts_are_checked_on_titles_unasked() -> None:
    assert all(r.held for r in check("bigrec-grounding"))
    broken = [r.detail for r in check("bigrec-grounding", kind="codes") if not r.held]
    assert len(broken) == 2
    assert all("use a backbone of titles" in detail for detail in broken)


@pytest.mark.parametrize("settings", [{"injection": "collab", "gamma": 1.0}, {"injection": "popularity", "gamma": 1.0}])
def test_injected_statistics_keep_the_contract(settings: dict[str, object]) -> None:
    assert all(r.held for r in check("bigrec-grounding", settings))


def test_an_assisted_search_keeps_the_contract() -> None:
    assert all(r.held for r in check("d3", {"alpha": 0.7, "length_penalty": 1.0}, "titles"))


def test_the_world_of_titles_is_what_the_checks_ask_for() -> None:
    """Four items share a title, titles begin others but for their newline, lengths differ, prompts are the titles'."""
    probe = Probe(build(methods["sft"], {}, "sft"), "titles")
    policy = probe.policy()
    assert isinstance(policy, DecoderPolicy)
    catalogue = policy.catalogue
    assert catalogue.collisions == 4
    assert len(set(catalogue.lengths.tolist())) > 1
    assert catalogue.terminator == probe.titles.eos
    asked = probe.titles.text(policy.prompts(np.array([[5, 17]]))[0])
    assert "title 5, title 17" in asked
    again = probe.policy()
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), again.parameters(), strict=True))
