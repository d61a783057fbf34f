"""GRPO: advantages, losses and gradients by hand and by enumeration."""

import math
import statistics
from itertools import product
from typing import NamedTuple

import pytest
import torch
from rlrecbench.baselines.grpo import GRPO, advantages
from scipy.stats import chisquare
from torch import Tensor

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.conformance import Probe, check
from rlrecbench.errors import ConfigError
from rlrecbench.method import Draw, Drawn, Measure, Prompts, Step, methods
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy, T5Shape
from rlrecbench.seeds import generator

registry.load()

SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
THIRTY = [[1 + a, 4 + b, 9 + c] for a in range(3) for b in range(5) for c in range(2)]
SIX = [[1 + a, 4 + b] for a in range(3) for b in range(2)]
HISTORY = torch.tensor([[0, 3]])


def grpo(**settings: object) -> GRPO:
    method = build(methods["grpo"], settings, "test")
    assert isinstance(method, GRPO)
    return method


def model(paths: list[list[int]], seed: int = 0) -> T5Policy:
    torch.manual_seed(seed)
    return T5Policy(Catalogue(paths, 1 + max(map(max, paths))), SHAPE).eval()


def logged(step: Step) -> dict[str, float]:
    assert step._log is not None
    return step._log


def prompts(n: int = 1) -> Prompts:
    return Prompts("train", torch.arange(n), HISTORY.expand(n, -1))


def draw_for(policy: T5Policy, target: int = 0) -> Draw:
    return Draw(prompts(), torch.tensor([target]), policy, generator(1), torch.ones(policy.catalogue.n_items))


class Tokens(NamedTuple):
    """What a step takes from its token scores."""

    present: Tensor


def given(
    logp: Tensor, ref: Tensor, there: Tensor, advantage: Tensor, old: Tensor | None = None, hit: Tensor | None = None
) -> Step:
    """A step with the given numbers; log-probabilities and there are [B, C, L]."""
    items = torch.where(there[..., 0], 0, -1)
    extra = {"advantage": advantage, "hit": torch.zeros_like(advantage) if hit is None else hit}
    step = Step(
        Drawn(items, advantage, extra), prompts(len(items)), model(SIX), "trie", {},
        reference=lambda: ref, old_tokens=old, log={},
    )  # fmt: skip
    step.__dict__["logp_tokens"] = logp
    step.__dict__["tokens"] = Tokens(there)
    return step


def group(total: list[float], scale: bool = True, there: list[bool] | None = None) -> list[float]:
    present = torch.tensor([there or [True] * len(total)])
    found: list[float] = advantages(torch.tensor([total]), present, scale)[0].tolist()
    return found


def test_advantages_of_a_pair() -> None:
    """Rewards 1 and 0: mean .5, unbiased deviation sqrt(.5) = .707107, so +-.5 / .707207 = +-.707007."""
    assert group([1.0, 0.0]) == pytest.approx([0.707007, -0.707007], abs=1e-5)
    assert group([1.0, 0.0], scale=False) == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("place", [0, 3, 15])
def test_advantages_of_sixteen_beams_with_one_hit(place: int) -> None:
    """The target earns 1, the item at place i -(1 / log2(i + 2)) / 6.106.

    The table of the published setting: the hit gets +3.7, misses from -.63 (place 0) to -.16 (the last).
    """
    gains = [1 / math.log2(i + 2) for i in range(16)]
    total = [1.0 if i == place else -g / sum(gains) for i, g in enumerate(gains)]
    mean, deviation = statistics.mean(total), statistics.stdev(total)
    found = group(total)
    assert found == pytest.approx([(r - mean) / (deviation + 1e-4) for r in total], rel=1e-4)
    assert found[place] == pytest.approx(3.7, abs=0.06)
    if place == 15:
        assert found[0] == pytest.approx(-0.63, abs=0.01)
        assert found[14] == pytest.approx(-0.16, abs=0.02)


def test_the_method_gives_a_hit_among_its_beams_these_advantages() -> None:
    """All 30 leaves of a trie as the group: rewards, their order and their mean from the beam itself."""
    policy = model(THIRTY)
    drawn = grpo(samples=30).candidates(draw_for(policy, target=7))
    place = drawn.items[0].tolist().index(7)
    assert drawn.items[0].tolist() == draw_for(policy).beams(30, measure="trie")[0].tolist()
    gains = [1 / math.log2(i + 2) for i in range(30)]
    total = [1.0 if i == place else -g / sum(gains) for i, g in enumerate(gains)]
    assert drawn.rewards is not None
    assert drawn.rewards[0].tolist() == pytest.approx(total, rel=1e-5)
    mean, deviation = statistics.mean(total), statistics.stdev(total)
    expected = [(r - mean) / (deviation + 1e-4) for r in total]
    assert drawn.extra["advantage"][0].tolist() == pytest.approx(expected, rel=1e-4)
    assert drawn.extra["hit"][0].tolist() == [float(i == place) for i in range(30)]


def test_absent_beams_take_no_part() -> None:
    assert group([1.0, 0.0, 9.0, 9.0], there=[True, True, False, False]) == [*group([1.0, 0.0]), 0.0, 0.0]
    policy = model(SIX)
    short, whole = grpo(samples=16).candidates(draw_for(policy, 4)), grpo(samples=6).candidates(draw_for(policy, 4))
    assert short.items[0, 6:].tolist() == [-1] * 10
    torch.testing.assert_close(short.extra["advantage"][:, :6], whole.extra["advantage"])
    step = Step(short, prompts(), policy, "trie", {}, reference=lambda: torch.zeros(1, 16, 2))
    other = Step(whole, prompts(), policy, "trie", {}, reference=lambda: torch.zeros(1, 6, 2))
    losses = [float(grpo().loss(x).detach()) for x in (step, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("scale", [True, False])
def test_equal_rewards_give_exactly_zero(scale: bool) -> None:
    """The mean of ten times 0.1 is not 0.1 in float32; a group of one has no deviation at all."""
    assert float(torch.full((10,), 0.1).sum() / 10) != float(torch.tensor(0.1))
    assert group([0.1] * 10, scale) == [0.0] * 10
    assert group([0.7], scale) == [0.0]
    assert group([0.0, 0.0], scale, [False, False]) == [0.0, 0.0]


def test_equal_rewards_give_exactly_no_gradient() -> None:
    """Every item earns 0.1; without KL nothing moves, with KL something does."""
    policy, away, items = model(SIX), torch.full((1, 12, 2), -2.0), torch.arange(12)[None] % 6
    reward = torch.full((1, 12), 0.1)
    drawn = Drawn(items, reward, {"advantage": advantages(reward, items >= 0, True), "hit": torch.zeros(1, 12)})
    sizes = []
    for weight in (0.0, 1.0):
        loss = grpo(kl_weight=weight).loss(Step(drawn, prompts(), policy, "trie", {}, reference=lambda: away))
        sizes.append(float(flat(loss, policy).abs().max()))
    assert sizes[0] == 0.0
    assert sizes[1] > 0.0


def test_the_kl_estimate_by_hand() -> None:
    """One token, log pi = -1, log pi_ref = -1.5: e^-.5 - (-.5) - 1 = .106531; the gradient is 1 - e^-.5 = .393469."""
    logp = torch.tensor([[[-1.0]]], requires_grad=True)
    step = given(logp, torch.tensor([[[-1.5]]]), torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1))
    loss = grpo(kl_weight=2.0).loss(step)
    (slope,) = torch.autograd.grad(loss, logp)
    assert float(loss.detach()) == pytest.approx(2 * 0.106531, abs=1e-6)
    assert float(slope) == pytest.approx(2 * 0.393469, abs=1e-6)


def test_means_over_tokens_then_items_then_prompts() -> None:
    """Two prompts; items of 2 and 1 tokens, and one item of 2 beside an absent one. Ratios e^.1 stay inside the clip.

    Gains per token 1.105171 A: prompt 0 (2 * .. / 2 * 1 + .. * -.5) / 2 = .276293, prompt 1 2 * .. = 2.210342,
    KL k3 of a token with ref = pi is 0. Loss -(.276293 + 2.210342) / 2 = -1.243317.
    """
    there = torch.tensor([[[True, True], [True, False]], [[True, True], [False, False]]])
    advantage = torch.tensor([[1.0, -0.5], [2.0, 0.0]])
    logp = torch.where(there, -0.9, 0.0)
    old = torch.where(there, -1.0, 0.0)
    step = given(logp, logp, there, advantage, old, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert float(grpo(updates=2).loss(step)) == pytest.approx(-1.243317, abs=1e-5)
    assert logged(step)["hit_rate"] == 0.5
    assert logged(step)["groups_with_signal"] == 1.0
    assert logged(step)["advantage_std"] == pytest.approx(statistics.pstdev([1.0, -0.5, 2.0]))
    assert logged(step)["clip_fraction"] == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope", "loss"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.199, 2.0, -2.398, -2.398),
        (1.201, 2.0, 0.0, -2.4),
        (0.5, 2.0, -1.0, -1.0),
        (0.801, -2.0, 1.602, 1.602),
        (0.799, -2.0, 0.0, 1.6),
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_the_ratio_stops_at_the_clip(ratio: float, advantage: float, slope: float, loss: float) -> None:
    """D loss / d log pi = -A rho inside; 0 beyond 1.2 if A > 0 and below 0.8 if A < 0."""
    logp = torch.tensor([[[math.log(0.5 * ratio)]]], requires_grad=True)
    old, there = torch.tensor([[[math.log(0.5)]]]), torch.ones(1, 1, 1, dtype=torch.bool)
    step = given(logp, old, there, torch.tensor([[advantage]]), old)
    got = grpo(kl_weight=0.0, updates=2).loss(step)
    (grad,) = torch.autograd.grad(got, logp)
    assert float(got.detach()) == pytest.approx(loss, rel=1e-5)
    assert float(grad) == pytest.approx(slope, rel=1e-5)
    assert logged(step)["clip_fraction"] == float(slope == 0.0)


def test_one_update_has_the_gradient_of_a_ratio_of_one() -> None:
    """The gradient of -mean A exp(log pi - log pi), the second without gradient, written out, with its KL term."""
    there = torch.tensor([[[True, True], [True, False]], [[True, True], [False, False]]])
    advantage = torch.tensor([[1.0, -0.5], [2.0, 0.0]])
    ref = torch.where(there, -1.3, 0.0)
    slopes = []
    for old in (None, torch.where(there, -0.9, 0.0)):
        logp = torch.where(there, -0.9, 0.0).requires_grad_()
        (slope,) = torch.autograd.grad(grpo(kl_weight=0.1).loss(given(logp, ref, there, advantage, old)), logp)
        slopes.append(slope)
    torch.testing.assert_close(slopes[0], slopes[1])
    pull = 0.1 * (1 - math.exp(-0.4))
    expected = [
        [[(pull - 1.0) / 8, (pull - 1.0) / 8], [(pull + 0.5) / 4, 0]],
        [[(pull - 2) / 4, (pull - 2) / 4], [0, 0]],
    ]
    torch.testing.assert_close(slopes[0], torch.tensor(expected))


def flat(loss: Tensor, policy: T5Policy) -> Tensor:
    slopes = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    pairs = zip(slopes, policy.parameters(), strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if s is None else s.flatten() for s, p in pairs])


def test_the_expected_gradient_is_the_policy_gradient() -> None:
    """Of pairs of samples, unscaled and without KL: -(1 - 1/2) / 2 the gradient of sum_leaf P(leaf) r(leaf).

    The mean of a group holds the item's own reward, hence 1 - 1/G; the other 2 is the tokens of an item. All 36
    pairs of six leaves, with their probabilities.
    """
    policy = model(SIX)
    worth = torch.rand(6, generator=torch.Generator().manual_seed(2))
    method, found = grpo(kl_weight=0.0, scale=False, samples=2), torch.zeros(policy.parameters_trained)
    for pair in product(range(6), repeat=2):
        items = torch.tensor([pair])
        extra = {"advantage": advantages(worth[items], items >= 0, False), "hit": torch.zeros(1, 2)}
        step = Step(Drawn(items, worth[items], extra), prompts(), policy, method.measure, {})
        share = float(step.logp.detach().double().sum().exp())
        found += share * flat(method.loss(step), policy)
    tokens = score(policy, policy.encode(HISTORY), torch.arange(6)[None])
    expected = -flat((tokens.trie.sum(-1).exp() * worth).sum(), policy) / 4
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()) + 1e-7, rtol=1e-3)


def test_the_kl_term_pulls_as_the_forward_divergence_of_each_state() -> None:
    """Its expected gradient is that of sum_l KL(pi_ref || pi) at the states that the policy reaches, over the tokens.

    Six leaves: the root with P = 1, and three nodes with the probability of their token. The states' own
    probabilities have no gradient here, nor in the loss.
    """
    policy, other = model(SIX), model(SIX, seed=1)
    with torch.no_grad():
        ref = score(other, other.encode(HISTORY), torch.arange(6)[None]).trie[0]
    method, found = grpo(kl_weight=1.0), torch.zeros(policy.parameters_trained)
    for leaf in range(6):
        extra = {"advantage": torch.zeros(1, 1), "hit": torch.zeros(1, 1)}
        step = Step(Drawn(torch.tensor([[leaf]]), torch.zeros(1, 1), extra), prompts(), policy, method.measure, {},
                    reference=lambda leaf=leaf: ref[leaf].view(1, 1, 2))  # type: ignore[misc]  # fmt: skip
        found += float(step.logp.detach().double().exp()) * flat(method.loss(step), policy)
    logp = score(policy, policy.encode(HISTORY), torch.arange(6)[None]).trie[0]
    root = sum(ref[2 * a, 0].exp() * (ref[2 * a, 0] - logp[2 * a, 0]) for a in range(3))
    below = sum(float(logp[i, 0].detach().exp()) * ref[i, 1].exp() * (ref[i, 1] - logp[i, 1]) for i in range(6))
    expected = flat((root + below) / 2 + torch.zeros(()), policy)
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()) + 1e-7, rtol=1e-3)


def samples_agree(method: GRPO) -> None:
    """Samples have the frequencies of exp(log pi) in the method's measure."""
    policy, n = model(THIRTY), 4000
    drawn = method.candidates(draw_for(policy)).items[0]
    with torch.no_grad():
        share = Step(Drawn(torch.arange(30)[None]), prompts(), policy, method.measure, {}).logp[0].double().exp()
    assert float(share.sum()) == pytest.approx(1.0, abs=1e-4)
    counts = torch.bincount(drawn, minlength=30)
    assert chisquare(counts.numpy(), (share / share.sum() * n).numpy()).pvalue > 0.001


def test_samples_have_the_probabilities_that_the_loss_is_of() -> None:
    samples_agree(grpo(sampler="sample", samples=4000))


def test_over_the_vocabulary_they_have_not() -> None:
    """MiniOneRec's choice: drawn under the trie, scored over the vocabulary."""
    with pytest.raises(AssertionError):
        samples_agree(grpo(sampler="sample", samples=4000, measure="vocab"))


@pytest.mark.parametrize("measure", ["trie", "vocab"])
def test_beams_are_the_best_items_of_the_measure(measure: Measure) -> None:
    policy = model(THIRTY)
    with torch.no_grad():
        tokens = score(policy, policy.encode(HISTORY), torch.arange(30)[None])
    totals: Tensor = getattr(tokens, measure).sum(-1)[0]
    found = grpo(samples=30, measure=measure).candidates(draw_for(policy)).items[0]
    assert found.tolist() == totals.argsort(descending=True).tolist()


def test_collaborative_scores_are_asked_for_only_where_a_reward_reads_them() -> None:
    assert grpo().needs == frozenset()
    assert grpo(reward=["hit", "collab-rank"]).needs == {"collab"}


def test_an_unknown_reward_is_refused() -> None:
    with pytest.raises(ConfigError, match="no reward 'hits'; did you mean 'hit'"):
        grpo(reward=["hits"])


@pytest.mark.parametrize("settings", [{"sampler": "sample", "updates": 2}, {"measure": "vocab", "scale": False}])
def test_variants_keep_the_contract(settings: dict[str, object]) -> None:
    for result in check("grpo", settings):
        assert result.held, result
        if "improve the objective" in result.name:
            break


def test_two_updates_clip_against_the_draw() -> None:
    """After the weights have moved, the ratio is against the log-probabilities of the draw, and some tokens clip."""
    probe = Probe(grpo(updates=2))
    learner = probe.learner()
    batch = probe.batch(learner)._replace(log={})
    with torch.no_grad():
        for p in learner.policy.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        step = learner.step(batch)
        probe.tuner.loss(step)
        ratio = (step.logp_tokens - batch.kept["old_tokens"]).exp()
        advantage = step.extra["advantage"][..., None]
    clipped = ((advantage > 0) & (ratio > 1.2)) | ((advantage < 0) & (ratio < 0.8))
    assert float(clipped.float().mean()) > 0
    assert logged(step)["clip_fraction"] == pytest.approx(float(clipped[step.tokens.present].float().mean()))


def test_equal_rewards_have_no_advantage_beside_an_absent_candidate() -> None:
    """The mean of seven times .1 is not .1 in single precision; what rounding leaves would be scaled up."""
    reward = torch.tensor([[0.1] * 7 + [9.0]])
    assert advantages(reward, torch.tensor([[True] * 7 + [False]]), True).tolist() == [[0.0] * 8]
