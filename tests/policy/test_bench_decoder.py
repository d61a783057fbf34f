"""The decoder's benchmarks, on titles and models small enough to run in seconds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench import bench
from rlrecbench.bench import decoder, packed, titles
from rlrecbench.bench.decoder import Generate
from rlrecbench.bench.titles import TitleWorld
from rlrecbench.catalogue import Catalogue
from rlrecbench.method import FineTune
from rlrecbench.policy import decoder as policies
from rlrecbench.policy.base import Policy
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.language import TinyShape
from rlrecbench.policy.score import score
from rlrecbench.policy.search import Found, beam, beam_all

END, VOCAB = 0, 16
SMALL = partial(TitleWorld, prompts=5, length=8, shared=2, size=TinyShape(layers=1, d_model=16, heads=2, d_ff=32))
Change = Callable[[Found], Found]


def _titles(items: int = 40) -> Catalogue:
    """Titles of one to six tokens: some are equal, some begin another, most end in a run of only children."""
    rng = np.random.default_rng(3)
    paths = [[*rng.integers(1, VOCAB, size=rng.integers(1, 7)).tolist(), END] for _ in range(items)]
    return Catalogue([*paths, paths[0], [*paths[1][:-1], 5, END]], VOCAB, terminator=END)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decoder, packed):
        monkeypatch.setattr(module, "TitleWorld", SMALL)
        monkeypatch.setattr(module, "catalogue", lambda data: _titles())
    monkeypatch.setattr(decoder, "BEAMS", 4)
    monkeypatch.setattr(bench, "machine", dict)


@pytest.mark.parametrize("name", ["search/decoder", "score/decoder-packed", "step/s-dpo-titles"])
def test_a_record(name: str) -> None:
    """A real run: both give the same, and the ratio is that of the seconds (of a step: what ours costs)."""
    (line,) = bench.run(name, repeats=1)["benchmarks"]
    assert (line["name"], line["repeats"], line["equal"]) == (name, 1, True)
    gain = line["reference_s"] / line["ours_s"]
    assert line["ratio"] == line["ratio_min"] == line["ratio_max"]
    assert line["ratio"] == pytest.approx(1 / gain if name.startswith("step/") else gain)


def _lower(found: Found) -> Found:
    """All scores a little lower, as of other weights."""
    return found._replace(scores=found.scores - 0.01)


def _shorter(found: Found) -> Found:
    """The last title is missing."""
    last = torch.arange(found.leaves.shape[1]) == found.leaves.shape[1] - 1
    return Found(found.leaves.masked_fill(last, -1), found.scores.masked_fill(last, -torch.inf))


def _twice(found: Found) -> Found:
    """The second title is the first once more."""
    return Found(found.leaves[:, [0, 0, 2, 3]], found.scores[:, [0, 0, 2, 3]])


def _swapped(found: Found) -> Found:
    """Two titles have each other's scores."""
    return found._replace(leaves=found.leaves[:, [1, 0, 2, 3]])


def _others(found: Found) -> Found:
    """The lists of one prompt are another's."""
    return Found(found.leaves.roll(1, 0), found.scores.roll(1, 0))


@pytest.mark.parametrize("change", [_lower, _shorter, _twice, _swapped, _others])
def test_wrong_lists_are_not_equal(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "beam_all", lambda *a: change(beam_all(*a)))
    assert not decoder.search_decoder(None, 1).equal


def test_a_greedier_search_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two beams find other titles than four: their second, padded to four, or what they lead to."""

    def narrow(policy: Policy, history: Tensor, width: int) -> Found:
        found = beam_all(policy, history, 2)
        return Found(*(torch.cat([x, x], 1) for x in found))

    monkeypatch.setattr(decoder, "beam_all", narrow)
    assert not decoder.search_decoder(None, 1).equal


def test_generate_loses_titles_that_we_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """In some list of four, ours has titles that are better than what generate returns; wherever not, they are equal.

    What was lost stood at its step behind four better continuations, finished or not: counted from generate's own
    scores.
    """
    world = SMALL(_titles())
    policy, history = world.policy().eval(), world.prompts.history
    generate, found = Generate(policy, history), beam_all(policy, history, 4)
    assert generate.agrees(found)
    out = generate(noted=True)
    theirs = [
        {generate.leaf[t] for t in map(generate._title, rows) if t in generate.leaf}
        for rows in out.sequences.view(5, 4, -1)
    ]
    path_of = {leaf: path for path, leaf in generate.leaf.items()}
    lost = 0
    for prompt, (ours, kept) in enumerate(zip(found.leaves.tolist(), theirs, strict=True)):
        for leaf in set(ours) - kept:
            path = path_of[leaf]
            step = len(path) - 1
            beams = generate.beams[step * 20 + prompt * 4 :][:4]
            totals = {}
            for row, title in enumerate(beams):
                before = _sum(generate, out.scores, prompt, title)
                for token in generate.legal.get(title, ()):
                    totals[*title, token] = before + float(out.scores[step][prompt * 4 + row, token])
            assert sum(total > totals[path] for total in totals.values()) >= 4
            lost += 1
    assert lost > 0
    assert any(set(ours) == kept for ours, kept in zip(found.leaves.tolist(), theirs, strict=True))


def _sum(generate: Generate, scores: tuple[Tensor, ...], prompt: int, title: tuple[int, ...]) -> float:
    """Score of a beam, gathered backwards from the rows that its beginnings had."""
    total = 0.0
    for step in range(len(title)):
        row = generate.beams[step * 20 + prompt * 4 :][:4].index(title[:step])
        total += float(scores[step][prompt * 4 + row, title[step]])
    return total


@torch.no_grad()
def test_what_wide_beams_come_by_are_all_titles_with_their_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more beams than titles, generate comes by every leaf, and its scores are those of teacher forcing."""
    monkeypatch.setattr(decoder, "BEAMS", 45)
    world = SMALL(_titles())
    policy, history, catalogue = world.policy().eval(), world.prompts.history, world.catalogue
    generate = Generate(policy, history)
    logp = score(policy, policy.encode(history), torch.arange(42).expand(5, -1)).vocab.sum(-1)
    for reached, expected in zip(generate._reached(generate(noted=True).scores), logp.tolist(), strict=True):
        assert reached == pytest.approx(dict(zip(catalogue.leaf_of.tolist(), expected, strict=True)), abs=1e-4)


@pytest.mark.parametrize("shift", [1e-3, 0.0])
def test_other_candidates_are_not_equal(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities that are off by 1e-3, and gradients that are half as long at the same log-probabilities."""
    apart = packed.apart

    def other(policy: DecoderPolicy, history: Tensor, items: Tensor) -> Tensor:
        logp = apart(policy, history, items)
        return logp + shift if shift else (logp + logp.detach()) / 2

    monkeypatch.setattr(packed, "apart", other)
    assert not packed.score_packed(None, 1).equal


def test_a_step_of_s_dpo_is_of_three_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, FineTune]] = []

    def step(name: str, method: FineTune, world: Any, repeats: int) -> None:
        seen.append((name, method))

    monkeypatch.setattr(packed, "step", step)
    packed.step_s_dpo(None, 1)
    ((name, method),) = seen
    made: Any = method
    assert (name, made.negatives, packed.candidates(SMALL(_titles())).shape) == ("s-dpo-titles", 3, (5, 4))


def test_the_world_is_as_large_as_promised() -> None:
    """16 prompts of 160 tokens, of which they share the first 52; six layers of width 256."""
    world = TitleWorld(_titles())
    policy = world.policy()
    encoded = policy.encode(world.prompts.history)
    assert (encoded.tokens.shape, len(encoded.shared), bool(encoded.there.all())) == ((16, 108), 52, True)
    config: Any = policy.model
    assert (config.config.num_hidden_layers, config.config.hidden_size) == (6, 256)


def test_titles_are_those_of_movies_and_tv(shared_data: Callable[[str], Path]) -> None:
    catalogue = titles.catalogue(shared_data("movies_and_tv"))
    assert (catalogue.n_items, catalogue.vocab) == (2653, 4096)


def test_titles_are_those_of_ml_100k_elsewhere(tmp_path: Path) -> None:
    assert titles.catalogue(tmp_path).n_items == 1682


@pytest.mark.parametrize("ahead", [1, 3, 1000])
@pytest.mark.parametrize("measure", ["vocab", "trie"])
@torch.no_grad()
def test_what_is_run_ahead_changes_no_list(measure: Any, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one step per token; and of the prompts only those are run that ask for something."""
    world = SMALL(_titles(), prompts=7)
    policy = world.policy().eval()
    encoded = policy.encode(world.prompts.history)
    run, sizes = policy._run, []

    def noted(tokens: Tensor, *rest: Any) -> Any:
        sizes.append(tuple(tokens.shape))
        return run(tokens, *rest)

    with monkeypatch.context() as step_by_step:
        step_by_step.setattr(DecoderPolicy, "walk", Policy.walk)
        expected = beam(policy, encoded, 6, measure=measure)
    monkeypatch.setattr(policies, "AHEAD", ahead)
    monkeypatch.setattr(policy, "_run", noted)
    found = beam(policy, encoded, 6, measure=measure)
    assert torch.equal(found.leaves, expected.leaves)
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    assert sizes[:2] == [(1, 2), (7, 6)]  # what all prompts begin with, and the rest of each
    if measure == "vocab":
        assert min(rows for rows, _ in sizes[1:]) < 7


@pytest.mark.parametrize(("lazy", "ahead", "kept"), [(False, 2, 3), (False, 4, 4), (False, 9, 5), (True, 1, 5)])
@torch.no_grad()
def test_a_prompt_with_many_only_children_does_not_keep_the_others_waiting(
    lazy: bool, ahead: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompt 0 asks for nodes 0 (alone) and 1 (three follow), prompt 1 for node 2.

    There are 6 nodes for 2 prompts, 3 each: of prompt 0 the two that were asked for and one more are run, or as many
    as ``ahead`` says if that is more. A lazy walk runs what it needs, all of it.
    """
    monkeypatch.setattr(policies, "AHEAD", ahead)
    policy = SMALL(_titles()).policy()
    walk = policy.walk(policy.encode(torch.zeros(2, 1, dtype=torch.long)), lazy)
    of, step, column = walk._ration(
        torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 2, 3, 0])
    )
    assert of.tolist() == [*[0, 1, 1, 1, 1][:kept], 2]
    assert step.tolist() == [*[0, 0, 1, 2, 3][:kept], 0]
    assert column.tolist() == [*[0, 1, 2, 3, 4][:kept], 0]
