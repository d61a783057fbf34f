"""Drawing candidates: distinct, never the target, its leaf or the history, and with the right frequencies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlrecbench.conformance import Probe
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.method import Draw, FineTune, Prompts, Step, check_declarations
from rlrecbench.policy.base import Policy
from rlrecbench.rewards import rewards
from rlrecbench.seeds import generator, stream

PROBE = Probe(FineTune())
POLICY = PROBE.policy().eval()
N = PROBE.data.n_items


def _draw(seed: int = 0, rows: int = 24, policy: Policy = POLICY) -> Draw:
    prompts, target = PROBE.prompts()
    some = Prompts("train", prompts.rows[:rows], prompts.history[:rows])
    popularity = torch.as_tensor(PROBE.data.popularity)
    return Draw(some, target[:rows], policy, generator(seed, "t"), popularity, collab=PROBE.collab)


def _allowed(draw: Draw, row: int) -> set[int]:
    leaf = POLICY.catalogue.leaf_of
    seen = set(draw.history[row].tolist())
    return {i for i in range(N) if leaf[i] != leaf[int(draw.target[row])] and i not in seen}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0, 1, 3, 11, 40, 90, 96, 200]), st.sampled_from(["uniform", "popular"]))
def test_draws_are_distinct_and_allowed(seed: int, n: int, kind: str) -> None:
    draw = _draw(seed)
    items = getattr(draw, kind)(n)
    assert items.shape == (24, n)
    popular = PROBE.data.popularity
    for row in range(24):
        got = [i for i in items[row].tolist() if i >= 0]
        allowed = _allowed(draw, row)
        possible = allowed if kind == "uniform" else {i for i in allowed if popular[i] > 0}
        assert len(set(got)) == len(got)
        assert set(got) <= possible
        assert len(got) == min(n, len(possible))


@pytest.mark.parametrize("n", [1, 40])
def test_uniform_draws_are_uniform(n: int) -> None:
    """One row, many draws: counts of the allowed items against equal expectations (n = 40 takes the exact path)."""
    draw = _draw(1, rows=1)
    counts = np.zeros(N)
    for _ in range(4000 // n):
        for item in draw.uniform(n)[0].tolist():
            counts[item] += 1
    allowed = sorted(_allowed(draw, 0))
    assert chisquare(counts[allowed]).pvalue > 1e-4
    assert counts.sum() == counts[allowed].sum()


def test_popular_draws_follow_popularity() -> None:
    draw = _draw(2, rows=1)
    counts = np.zeros(N)
    for _ in range(6000):
        counts[int(draw.popular(1)[0, 0])] += 1
    allowed = [i for i in sorted(_allowed(draw, 0)) if PROBE.data.popularity[i] > 0]
    weights = PROBE.data.popularity[allowed].astype(float)
    assert chisquare(counts[allowed], weights / weights.sum() * counts.sum()).pvalue > 1e-4


def test_rarer_draws_are_distinct_allowed_and_strictly_less_frequent() -> None:
    """Frequencies repeat, so some items are as frequent as the target; a target of the lowest has nothing below it."""
    prompts, target = PROBE.prompts()
    frequency = torch.arange(N) % 7
    draw = Draw(prompts, target, POLICY, generator(7, "t"), torch.ones(N), frequency=frequency)
    few, all_ = draw.rarer(2), draw.rarer(N + 3)
    assert all_.shape == (24, N + 3)
    for row in range(24):
        below = {i for i in _allowed(draw, row) if frequency[i] < frequency[target[row]]}
        assert sorted(i for i in all_[row].tolist() if i >= 0) == sorted(below)
        got = [i for i in few[row].tolist() if i >= 0]
        assert set(got) <= below
        assert len(set(got)) == len(got) == min(2, len(below))
    assert (few[frequency[target] == 0] == -1).all()
    assert (frequency[target] == 0).any()


def test_rarer_draws_are_uniform() -> None:
    """The target is more frequent than about half of the items, without history; they come up equally often."""
    prompts = Prompts("train", torch.zeros(3000, dtype=torch.int64), torch.full((3000, 1), -1))
    target = torch.full((3000,), N // 2)
    draw = Draw(prompts, target, POLICY, generator(8, "t"), torch.arange(N))
    counts = np.bincount(draw.rarer(1)[:, 0].numpy(), minlength=N)
    leaf = POLICY.catalogue.leaf_of
    below = [i for i in range(N // 2) if leaf[i] != leaf[N // 2]]
    assert counts.sum() == counts[below].sum() == 3000
    assert chisquare(counts[below]).pvalue > 1e-4


def test_hard_draws_come_from_the_band() -> None:
    draw = _draw(3)
    items = draw.hard(3, 0.0, 0.1)
    scores = draw.collab_all()
    for row in range(24):
        allowed = sorted(_allowed(draw, row), key=lambda i: -float(scores[row, i]))
        got = [i for i in items[row].tolist() if i >= 0]
        assert len(got) == 3
        assert set(got) <= set(allowed[: int(0.1 * N)])


def test_sampled_and_beams_are_items_of_their_leaves() -> None:
    draw = _draw(4)
    beams = draw.beams(N)
    leaf = torch.as_tensor(POLICY.catalogue.leaf_of)
    for row in beams:
        leaves = leaf[row[row >= 0]].tolist()
        assert len(set(leaves)) == len(leaves) == len(set(POLICY.catalogue.leaf_of.tolist()))
    sampled = draw.sampled(50)
    assert int(sampled.min()) >= 0
    shared = [i for i in range(N) if POLICY.catalogue.leaf_of[i] == POLICY.catalogue.leaf_of[0]]
    seen = {i for i in draw.sampled(400).flatten().tolist() if i in shared}
    assert len(seen) > 1  # the items of one leaf all come up


def test_similar_items_are_the_nearest_texts() -> None:
    """Scores by hand: the product of an item's text with the sum of the history's texts."""
    prompts, target = PROBE.prompts()
    draw = Draw(prompts, target, POLICY, generator(6, "t"), torch.ones(N), text=PROBE.text)
    items = draw.similar(3, nearest=5)
    for row in range(24):
        seen = [i for i in draw.history[row].tolist() if i >= 0]
        mean = PROBE.text[seen].sum(0)
        order = sorted(_allowed(draw, row), key=lambda i: -float(PROBE.text[i] @ mean))
        got = items[row].tolist()
        assert len(set(got)) == 3
        assert set(got) <= set(order[:5])
    everything = draw.similar(N, nearest=N)
    for row in range(24):
        assert sorted(i for i in everything[row].tolist() if i >= 0) == sorted(_allowed(draw, row))


def test_mistakes_are_the_best_allowed_beams() -> None:
    draw = _draw(5)
    beams, found = draw.beams(N), draw.mistakes(2, width=N)
    leaf = POLICY.catalogue.leaf_of
    for row in range(24):
        seen = {leaf[i] for i in _allowed(draw, row)}
        best = [leaf[i] for i in beams[row].tolist() if i >= 0 and leaf[i] in seen]
        got = [leaf[i] for i in found[row].tolist()]
        assert all(i in _allowed(draw, row) for i in found[row].tolist())
        assert [x for x in best if x in got][:2] == got
    assert draw.mistakes(3, width=1).shape == (24, 3)


def test_beams_for_some_prompts_only() -> None:
    draw = _draw(5)
    where = torch.arange(24) % 3 == 0
    some = draw.beams(4, where=where)
    assert (some[~where] == -1).all()
    leaf = torch.as_tensor(POLICY.catalogue.leaf_of)
    assert torch.equal(leaf[some[where]], leaf[draw.beams(4)[where]])
    assert (draw.beams(4, where=torch.zeros(24, dtype=torch.bool)) == -1).all()


def test_a_history_without_text_has_no_neighbours() -> None:
    prompts, target = PROBE.prompts()
    text = PROBE.text.clone()
    text[prompts.history[0][prompts.history[0] >= 0]] = 0.0
    draw = Draw(prompts, target, POLICY, generator(6, "t"), torch.ones(N), text=text)
    assert draw.similar(2, nearest=5)[0].tolist() == [-1, -1]


def test_a_narrow_band_ends_with_nothing() -> None:
    draw = _draw(3)
    items = draw.hard(5, 0.98, 1.0)
    assert items.shape == (24, 5)
    assert (items[:, 3:] == -1).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("reference", "sft"), ("reference", 0), ("measure", "tree"), ("redraw", -1), ("updates", 0), ("needs", {"txt"})],
)
def test_declarations_that_do_not_exist_are_refused(name: str, value: object) -> None:
    method = type("Odd", (FineTune,), {name: frozenset(value) if isinstance(value, set) else value})()
    with pytest.raises(ConfigError, match=f"Odd declares {name} = .*allowed"):
        check_declarations(method, "here")


def test_rewards_do_not_depend_on_the_policys_precision() -> None:
    draw = _draw(2)
    items = draw.uniform(8)
    with torch.autocast("cpu", torch.bfloat16):
        half = _draw(2)
        for name in ("collab-sigmoid", "collab-minmax", "collab-rank"):
            assert torch.equal(rewards[name](half, items), rewards[name](draw, items))
            assert rewards[name](half, items).dtype == torch.float32


def test_what_was_not_declared_is_refused() -> None:
    prompts, target = PROBE.prompts()
    draw = Draw(prompts, target, POLICY, generator(0), torch.ones(N))
    with pytest.raises(BenchError, match="declare needs"):
        draw.collab_all()
    with pytest.raises(BenchError, match="declare needs"):
        draw.similar(1, 1)
    step = Step(PROBE.batch(PROBE.learner()).drawn, prompts, POLICY, "vocab", {})
    with pytest.raises(BenchError, match="declare reference"):
        _ = step.gain


def test_streams_are_named_not_ordered() -> None:
    assert stream(1, "a") != stream(1, "b") != stream(2, "a")
    assert torch.equal(torch.rand(3, generator=generator(5, "x", 1)), torch.rand(3, generator=generator(5, "x", 1)))
