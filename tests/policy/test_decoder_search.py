"""Search with the decoder against enumeration, a search written with lists, and ``generate``, all by plain passes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.testing import assert_close
from transformers import GenerationConfig

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.base import Steps
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.language import TinyShape, tiny
from rlrecbench.policy.search import Assistant, Measure, beam, exact, sample

V, EOS = 23, 0
PROMPTS = [[3, 4, 9, 9, 1], [3, 4, 8], [3, 4, 9, 2, 2, 2, 7]]
HISTORY = torch.arange(3)[:, None]
Paths = list[list[int]]
Key = tuple[int, ...]


def titles(seed: int, n: int = 50) -> Paths:
    """Titles of 1 to 7 tokens: some begin others, some are equal, and most go on without a choice."""
    rng = np.random.default_rng(seed)
    made: Paths = []
    while len(made) < n:
        kind = rng.integers(5) if made else 0
        old = made[rng.integers(len(made))][:-1] if made else []
        new = rng.integers(1, V, rng.integers(1, 8)).tolist()
        path = {3: [*old[: rng.integers(1, 5)], *new][:7], 4: [*old, *new][:7]}.get(int(kind), new)
        made.append([*(old if rng.random() < 0.1 and old else path), EOS])
    return made


def build(paths: Paths, seed: int = 0, spread: float = 0.3) -> DecoderPolicy:
    torch.manual_seed(seed)
    model = tiny(TinyShape(layers=2, d_model=16, heads=2, kv_heads=1, d_ff=32), V, EOS, EOS, positions=64)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=spread)
    catalogue = Catalogue(paths, V, terminator=EOS)
    return DecoderPolicy(catalogue, model, lambda history: [PROMPTS[int(row[0])] for row in history]).eval()


@torch.no_grad()
def steps_of(
    policy: DecoderPolicy, prompt: list[int], measure: str = "vocab", temperature: float = 1.0
) -> dict[Key, float]:
    """Score of the last token of every beginning of every title, by one plain pass for each title."""
    paths = {tuple(path[path >= 0].tolist()) for path in policy.catalogue.paths}
    after: dict[Key, set[int]] = {}
    for path in paths:
        for n, token in enumerate(path):
            after.setdefault(path[:n], set()).add(token)
    out: dict[Key, float] = {}
    for path in paths:
        logits = policy.model(input_ids=torch.tensor([prompt + list(path)])).logits[0, len(prompt) - 1 : -1]
        logits = logits.double() / temperature
        for n, token in enumerate(path):
            legal = sorted(after[path[:n]])
            mass = logits[n] if measure == "vocab" else logits[n, legal]
            out[path[: n + 1]] = float(logits[n, token] - mass.logsumexp(-1))
    return out


def enumerated(steps: dict[Key, float], penalty: float) -> dict[Key, float]:
    """Score of every title."""
    return {
        path: sum(steps[path[: n + 1]] for n in range(len(path))) / len(path) ** penalty
        for path in steps
        if path[-1] == EOS
    }


def spelled_out(steps: dict[Key, float], width: int, penalty: float) -> list[tuple[Key, float]]:
    """Beam search with lists: finished titles stand aside, as many as there are, and take no beam's place."""
    below: dict[Key, list[Key]] = {}
    for path in steps:
        below.setdefault(path[:-1], []).append(path)
    beams: dict[Key, float] = {(): 0.0}
    done: dict[Key, float] = {}
    while beams:
        reached = {new: total + steps[new] for old, total in beams.items() for new in below[old]}
        done |= {path: total / len(path) ** penalty for path, total in reached.items() if path[-1] == EOS}
        going = sorted((path for path in reached if path[-1] != EOS), key=lambda path: -reached[path])
        beams = {path: reached[path] for path in going[:width]}
    return sorted(done.items(), key=lambda item: -item[1])[:width]


def found_by(policy: DecoderPolicy, width: int, **given: Any) -> list[list[tuple[Key, float]]]:
    """Our lists as titles and scores."""
    found = beam(policy, policy.encode(HISTORY), width, **given)
    paths = {
        int(leaf): tuple(p[p >= 0].tolist())
        for leaf, p in zip(policy.catalogue.leaf_of, policy.catalogue.paths, strict=True)
    }
    return [
        [(paths[leaf], score) for leaf, score in zip(row, scores, strict=True) if leaf >= 0]
        for row, scores in zip(found.leaves.tolist(), found.scores.tolist(), strict=True)
    ]


def check_lists(ours: list[tuple[Key, float]], theirs: list[tuple[Key, float]]) -> None:
    assert len(ours) == len(theirs)
    assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)
    known = dict(theirs)
    assert {path for path, _ in ours} == set(known)
    assert all(score == pytest.approx(known[path], abs=1e-4) for path, score in ours)


# Against enumeration and lists.


@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize(("temperature", "seed"), [(1.0, 0), (1.5, 1)])
def test_a_beam_as_wide_as_the_catalogue_is_enumeration(
    measure: Measure, penalty: float, temperature: float, seed: int
) -> None:
    policy = build(titles(seed), seed)
    trie = policy.catalogue.trie
    assert ((trie.n_children == 1) & (trie.depth > 0)).sum() > 50  # forced tokens
    assert policy.catalogue.collisions > 0
    lists = found_by(policy, 60, measure=measure, length_penalty=penalty, temperature=temperature)
    for prompt, ours in zip(PROMPTS, lists, strict=True):
        known = enumerated(steps_of(policy, prompt, measure, temperature), penalty)
        check_lists(ours, sorted(known.items(), key=lambda item: -item[1]))


@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("width", [1, 3, 10])
def test_narrow_beams_are_those_of_lists(measure: Measure, penalty: float, width: int) -> None:
    """P5, P7: nodes, not last tokens; a title's sum over its tokens, the end of text among them, to the power."""
    policy = build(titles(2), 2)
    lists = found_by(policy, width, measure=measure, length_penalty=penalty)
    for prompt, ours in zip(PROMPTS, lists, strict=True):
        check_lists(ours, spelled_out(steps_of(policy, prompt, measure), width, penalty))


@pytest.mark.parametrize(("width", "penalty"), [(60, 0.0), (60, 1.0), (4, 0.0), (4, 1.0)])
def test_an_assistant_is_mixed_into_every_step(width: int, penalty: float) -> None:
    policy = build(titles(3), 3)
    mass = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.01
    log_flow = torch.stack([torch.from_numpy(policy.catalogue.flows(row.numpy())).log() for row in mass]).float()
    lists = found_by(policy, width, length_penalty=penalty, assistant=Assistant(0.7, log_flow))
    for b, prompt in enumerate(PROMPTS):
        flow: dict[Key, float] = {}
        for i, path in enumerate(policy.catalogue.paths):
            tokens = tuple(path[path >= 0].tolist())
            for n in range(len(tokens) + 1):
                flow[tokens[:n]] = flow.get(tokens[:n], 0.0) + float(mass[b, i])
        steps = {
            path: 0.7 * step + 0.3 * math.log(flow[path] / flow[path[:-1]])
            for path, step in steps_of(policy, prompt).items()
        }
        check_lists(lists[b], spelled_out(steps, width, penalty))


@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("seed", range(4))
def test_the_walk_over_one_cache_is_one_step_per_token(
    measure: Measure, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager (all states) and lazy (forks only) against the walk of every backbone."""
    policy = build(titles(10 + seed), seed)
    encoded = policy.encode(HISTORY)

    def run() -> list[Tensor]:
        found = [beam(policy, encoded, w, measure=measure, length_penalty=p) for w in (2, 7, 60) for p in (0.0, 1.0)]
        drawn = sample(policy, encoded, 40, generator=torch.Generator().manual_seed(seed))
        return [x for f in found for x in f] + list(drawn)

    ours = run()
    monkeypatch.setattr(policy, "walk", lambda encoded, lazy=False: Steps(policy, encoded))
    for one, two in zip(ours, run(), strict=True):
        assert_close(one, two, atol=1e-4, rtol=0)


def test_exact_and_samples_in_the_trie_measure() -> None:
    """Ten thousand draws for each prompt against enumeration, chi-square at 0.1 %."""
    policy = build(titles(5, 12), 5)
    encoded = policy.encode(HISTORY)
    drawn = sample(policy, encoded, 10_000, generator=torch.Generator().manual_seed(2))
    whole = exact(policy, encoded)
    paths = {
        tuple(p[p >= 0].tolist()): int(n) for n, p in zip(policy.catalogue.leaf_of, policy.catalogue.paths, strict=True)
    }
    for b, prompt in enumerate(PROMPTS):
        for measure in ("vocab", "trie"):
            known = enumerated(steps_of(policy, prompt, measure), 0.0)
            expected = torch.zeros(policy.catalogue.trie.n_nodes)
            for path, value in known.items():
                expected[paths[path]] = value
            assert_close(getattr(whole, measure)[b], expected[whole.leaves], atol=1e-4, rtol=0)
        assert_close(drawn.logp[b], expected[drawn.leaves[b]], atol=1e-4, rtol=0)
        counts = (drawn.leaves[b, :, None] == whole.leaves).sum(0).numpy()
        share = expected[whole.leaves].double().exp().numpy()
        assert chisquare(counts, share / share.sum() * 10_000).pvalue > 0.001


# What is computed.


def _passes(policy: DecoderPolicy, run: Callable[[], object]) -> int:
    """Forward passes of the model behind what the prompts begin with."""
    calls: list[int] = []
    hook = policy._bare.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    run()
    hook.remove()
    return len(calls) - 1


def test_forced_tokens_take_no_pass_of_their_own() -> None:
    """Three titles that differ in their first token: the prompts are all there is to run in the trie measure.

    In the vocabulary measure a title's tokens, all forced, are run in one pass behind its first one.
    """
    policy = build([[5, 6, 7, 8, 0], [6, 7, 0], [7, 5, 6, 0]])
    encoded = policy.encode(HISTORY)
    stream = torch.Generator().manual_seed(0)
    assert _passes(policy, lambda: beam(policy, encoded, 3, measure="trie")) == 1
    assert _passes(policy, lambda: sample(policy, encoded, 9, generator=stream)) == 1
    assert _passes(policy, lambda: beam(policy, encoded, 3, measure="vocab")) == 2


def test_a_beam_out_of_reach_is_run_no_further() -> None:
    """The end of text and token 5 are nearly all there is, so behind [5] the title [5 EOS] fills the list's one place.

    The longer ones can only fall, and are not run: the prompts and [5] are. A list of two runs them, once more.
    """
    policy = build([[5, 0], [5, 6, 7, 8, 0], [5, 6, 9, 0]])
    logits = torch.full((V,), -30.0)
    logits[5], logits[0] = 5.0, 5.0
    policy.head = lambda states: logits.expand(*states.shape[:-1], -1)  # type: ignore[method-assign]
    encoded = policy.encode(HISTORY)
    for penalty in (0.0, 1.0):
        assert _passes(policy, lambda p=penalty: beam(policy, encoded, 1, length_penalty=p)) == 2  # type: ignore[misc]
    assert _passes(policy, lambda: beam(policy, encoded, 2)) > 2
    assert found_by(policy, 1)[0][0][0] == (5, 0)


# Against transformers.


def generated(policy: DecoderPolicy, prompt: list[int], width: int, penalty: float) -> list[tuple[Key, float]]:
    """The lists of ``generate`` with every key set, so that no file of a model can say otherwise (P2, P4)."""
    known = {tuple(path[path >= 0].tolist()) for path in policy.catalogue.paths}
    after: dict[Key, list[int]] = {}
    for path in known:
        for n, token in enumerate(path):
            after.setdefault(path[:n], []).append(token)
    config = GenerationConfig(
        num_beams=width, num_return_sequences=width, do_sample=False, early_stopping=False, length_penalty=penalty,
        max_new_tokens=policy.catalogue.max_length, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0,
        no_repeat_ngram_size=0, renormalize_logits=False, eos_token_id=EOS, pad_token_id=EOS,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    out = policy.model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        generation_config=config,
        prefix_allowed_tokens_fn=lambda _, ids: after.get(tuple(ids[len(prompt) :].tolist()), [EOS]),
    )
    lists = []
    for row, score in zip(out.sequences[:, len(prompt) :].tolist(), out.sequences_scores.tolist(), strict=True):
        path = tuple(row[: row.index(EOS) + 1]) if EOS in row else ()
        if path in known and score > -1e8:
            lists.append((path, score))
    return lists


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_list_of_generate_is_better(penalty: float, seed: int) -> None:
    """Place by place our score is no lower than that of ``generate``, whose titles have the scores that we know.

    Where its list is as good as ours, it holds the same titles.
    """
    policy = build(titles(20 + seed), seed)
    for prompt, ours in zip(PROMPTS, found_by(policy, 10, length_penalty=penalty), strict=True):
        theirs = generated(policy, prompt, 10, penalty)
        known = enumerated(steps_of(policy, prompt), penalty)
        assert theirs
        assert all(score == pytest.approx(known[path], abs=1e-4) for path, score in theirs)
        assert all(a[1] >= b[1] - 1e-4 for a, b in zip(ours, theirs, strict=False))
        assert len(ours) >= len(theirs)
        if len(ours) == len(theirs) and ours[-1][1] <= theirs[-1][1] + 1e-6:
            assert {path for path, _ in ours} == {path for path, _ in theirs}


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_lists_equal_generate_where_all_titles_end_together(penalty: float, seed: int) -> None:
    """Titles of one length leave nothing to a rule about those that end early, so the lists must be equal."""
    rng = np.random.default_rng(seed)
    paths = [[*rng.integers(1, 7, 3).tolist(), EOS] for _ in range(60)]
    policy = build(paths, seed)
    for prompt, ours in zip(PROMPTS, found_by(policy, 10, length_penalty=penalty), strict=True):
        check_lists(ours, sorted(generated(policy, prompt, 10, penalty), key=lambda item: -item[1]))


def test_generate_loses_a_title_that_ends_when_others_lead() -> None:
    """By hand, two beams, every step's probabilities the same whatever stands before: 1 has .4, 2 .35, EOS .05.

    Titles [1 EOS], [1 1 EOS] and so on to four ones or twos. In the second step four beginnings of two tokens lead
    (.16, .14, .14, .1225) and [1 EOS] with .02 is the fifth: ``generate`` looks at the four best and drops it, though
    it is the best title there is. Ours has it first, then [2 EOS] with .0175.
    """
    ones = [[1] * n + [EOS] for n in range(1, 5)]
    paths = ones + [[a, b, c, EOS] for a in (1, 2) for b in (1, 2) for c in (1, 2)][1:] + [[2, EOS]]
    policy = build(paths)
    p = torch.full((V,), 0.2 / (V - 3))
    p[EOS], p[1], p[2] = 0.05, 0.4, 0.35
    head = policy._bare.get_output_embeddings()
    policy._bare.set_output_embeddings(_Constant(p.log(), head.weight))
    ours, theirs = found_by(policy, 2)[0], generated(policy, PROMPTS[0], 2, 0.0)
    assert [path for path, _ in ours] == [(1, EOS), (2, EOS)]
    assert [math.exp(score) for _, score in ours] == pytest.approx([0.02, 0.0175], rel=1e-3)
    assert not {(1, EOS), (2, EOS)} & {path for path, _ in theirs}
    assert theirs[0][1] < ours[1][1]


class _Constant(torch.nn.Module):
    """An output layer with the same logits everywhere."""

    def __init__(self, logits: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.logits, self.weight = logits, weight

    def forward(self, states: Tensor) -> Tensor:
        return self.logits.expand(*states.shape[:-1], -1)
