"""PPO: advantages, losses and gradients by hand and by enumeration, and one measure throughout."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from rlrecbench.baselines.ppo import PPO, estimate, whitened
from scipy.stats import chisquare
from torch import Tensor, nn

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.conformance import Probe, check
from rlrecbench.errors import ConfigError
from rlrecbench.method import Draw, Drawn, Measure, Prompts, Step, methods
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy, T5Shape
from rlrecbench.rewards import rewards
from rlrecbench.seeds import generator

registry.load()

SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
THIRTY = [[1 + a, 4 + b, 9 + c] for a in range(3) for b in range(5) for c in range(2)]
SIX = [[1 + a, 4 + b] for a in range(3) for b in range(2)]
UNEQUAL = [[1, 4], [1, 5, 6], [2, 4, 7, 9], [2, 4, 7, 9], [3], [1, 5, 7], [2, 4, 8], [2, 5, 6, 10]]
HISTORY = torch.tensor([[0, 3]])


def ppo(**settings: object) -> PPO:
    method = build(methods["ppo"], settings, "test")
    assert isinstance(method, PPO)
    return method


def model(paths: list[list[int]], seed: int = 0) -> T5Policy:
    torch.manual_seed(seed)
    return T5Policy(Catalogue(paths, 1 + max(map(max, paths))), SHAPE).eval()


def logged(step: Step) -> dict[str, float]:
    assert step._log is not None
    return step._log


def prompts(n: int = 1) -> Prompts:
    return Prompts("train", torch.arange(n), HISTORY.expand(n, -1))


class Tokens(NamedTuple):
    """What a step takes from its token scores."""

    present: Tensor
    states: Tensor


class Same(nn.Module):
    """A value head that reads the value off the state."""

    def forward(self, states: Tensor) -> Tensor:
        return states


def given(
    logp: Tensor, ref: Tensor, value: Tensor, present: Tensor, reward: Tensor, extra: dict[str, Tensor] | None = None
) -> Step:
    """A step with the given numbers; log-probabilities, values and present are [B, C, L]."""
    items = torch.zeros(present.shape[:2], dtype=torch.int64)
    whole = {"hit": reward, "target": items[:, 0], **(extra or {})}
    step = Step(Drawn(items, reward, whole), prompts(len(items)), model(SIX), "trie", {"value": Same()},
                reference=lambda: ref, log={})  # fmt: skip
    step.__dict__["logp_tokens"] = logp
    step.__dict__["tokens"] = Tokens(present, value[..., None])
    return step


OLD = torch.tensor([[[-1.0, -2.0, -0.5]], [[-1.0, -2.0, 0.0]]])
REF = torch.tensor([[[-1.5, -1.0, -0.5]], [[-1.5, -1.0, 0.0]]])
VALUE = torch.tensor([[[0.2, 0.4, 0.1]], [[0.2, 0.4, 7.0]]])  # the 7 stands behind the second path's end
THERE = torch.tensor([[[True, True, True]], [[True, True, False]]])
REWARD = torch.tensor([[1.0], [1.0]])


def prepared(**settings: object) -> dict[str, Tensor]:
    method = ppo(gamma=0.5, gae_lambda=0.8, kl_weight=0.1, **settings)
    return dict(method.prepare(given(OLD, REF, VALUE, THERE, REWARD)))


def test_advantages_of_two_episodes_by_hand() -> None:
    """Discount 0.5, decay 0.8, KL weight 0.1, reward 1; three tokens, and two.

    log pi - log ref = .5, -1, 0, so r = -.05, .1, 1 with V = .2, .4, .1:
        delta_2 = 1 - .1 = .9                       A_2 = .9
        delta_1 = .1 + .5 * .1 - .4 = -.25          A_1 = -.25 + .4 * .9 = .11
        delta_0 = -.05 + .5 * .4 - .2 = -.05        A_0 = -.05 + .4 * .11 = -.006
    Two tokens: r = -.05, 1.1; delta_1 = 1.1 - .4 = .7 = A_1; A_0 = -.05 + .4 * .7 = .23.
    """
    found = prepared(whiten=False)
    expected = torch.tensor([[[-0.006, 0.11, 0.9]], [[0.23, 0.7, 0.0]]])
    torch.testing.assert_close(found["advantage"], expected)
    torch.testing.assert_close(found["returns"], torch.tensor([[[0.194, 0.51, 1.0]], [[0.43, 1.1, 0.0]]]))
    torch.testing.assert_close(found["value"], torch.tensor([[[0.2, 0.4, 0.1]], [[0.2, 0.4, 0.0]]]))
    torch.testing.assert_close(found["kl"], torch.tensor([[-0.5], [-0.5]]))
    torch.testing.assert_close(found["old"], OLD)


def test_the_absolute_estimate_pays_for_both_directions() -> None:
    """Rewards -.05, -.1, 1: delta_1 = -.1 + .05 - .4 = -.45, A_1 = -.45 + .36 = -.09, A_0 = -.05 - .036."""
    found = prepared(whiten=False, kl="abs")
    assert found["advantage"][0, 0].tolist() == pytest.approx([-0.086, -0.09, 0.9])
    torch.testing.assert_close(found["kl"], torch.tensor([[-0.5], [-0.5]]))  # what is logged keeps its sign


def test_numbers_of_the_whole_batch() -> None:
    """Two prompts and five tokens, so a prompt's tokens weigh 2 / 5 each; spread and fit over the five."""
    found = prepared()
    a, r = [-0.006, 0.11, 0.9, 0.23, 0.7], [0.194, 0.51, 1.0, 0.43, 1.1]
    assert found["weight"].tolist() == pytest.approx([0.4, 0.4])
    assert found["spread"].tolist() == pytest.approx([statistics.pstdev(a)] * 2)
    fit = 1 - statistics.pvariance(a) / statistics.pvariance(r)
    assert found["explained"].tolist() == pytest.approx([fit] * 2, rel=1e-4)
    log = logged(step := given(OLD.clone(), REF, VALUE, THERE, REWARD, found))
    ppo().loss(step)
    assert log["advantage_std"] == pytest.approx(statistics.pstdev(a))


def test_equal_returns_leave_nothing_to_explain() -> None:
    """One prompt, one token: the variance of the returns is 0, and so is the share explained, a number."""
    one = given(OLD[:1, :, :1], REF[:1, :, :1], VALUE[:1, :, :1], THERE[:1, :, :1], REWARD[:1])
    assert ppo().prepare(one)["explained"].tolist() == [0.0]


def test_what_a_batch_has_drawn_is_logged() -> None:
    """Two prompts, two samples each: the first prompt's first sample is the target, the second's last is no item."""
    items, there = torch.tensor([[3, 0], [2, -1]]), torch.ones(2, 2, 1, dtype=torch.bool)
    numbers = {name: torch.zeros(2, 2, 1) for name in ("old", "advantage", "value", "returns")}
    whole = {"spread": torch.zeros(2), "explained": torch.zeros(2), "weight": torch.ones(2), "kl": torch.zeros(2, 2)}
    step = given(torch.zeros(2, 2, 1), torch.zeros(2, 2, 1), torch.zeros(2, 2, 1), there, torch.zeros(2, 2),
                 {**numbers, **whole, "hit": torch.tensor([[1.0, 0.0], [0.0, 0.0]])})  # fmt: skip
    step.items = items
    ppo(sampling="vocab").loss(step)
    assert logged(step)["hit_rate"] == 0.5
    assert logged(step)["illegal"] == 0.25


def test_two_advantages_whiten_by_their_unbiased_variance() -> None:
    """1 and 3: mean 2, variance 2."""
    found = whitened(torch.tensor([1.0, 3.0]), torch.ones(2, dtype=torch.bool))
    assert found.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-5)


def test_whitening_by_the_librarys_mean_and_variance() -> None:
    """Over the five tokens that are there; the advantages before it come from the test above."""
    found = prepared()["advantage"]
    a = [-0.006, 0.11, 0.9, 0.23, 0.7]
    mean, deviation = statistics.mean(a), statistics.stdev(a)
    assert found[THERE].tolist() == pytest.approx([(x - mean) / deviation for x in a], rel=1e-5)
    assert found[1, 0, 2] == 0.0
    assert float(found[THERE].mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(found[THERE].var()) == pytest.approx(1.0, abs=1e-5)


def test_one_token_or_equal_advantages_whiten_to_zero() -> None:
    one = whitened(torch.tensor([[[0.7, 0.0]]]), torch.tensor([[[True, False]]]))
    assert one.tolist() == [[[0.0, 0.0]]]
    assert whitened(torch.full((2, 1, 2), 0.5), torch.ones(2, 1, 2, dtype=torch.bool)).abs().max() == 0.0


def test_advantages_without_decay_are_the_returns_to_go() -> None:
    """With gamma = lambda = 1 the values telescope: A_l = sum of the later rewards - V_l."""
    rng = torch.Generator().manual_seed(0)
    reward, value = torch.rand(4, 2, 5, generator=rng), torch.rand(4, 2, 5, generator=rng)
    to_go = reward.flip(-1).cumsum(-1).flip(-1)
    torch.testing.assert_close(estimate(reward, value, 1.0, 1.0), to_go - value)
    shifted = torch.cat([value[..., 1:], torch.zeros(4, 2, 1)], -1)
    torch.testing.assert_close(estimate(reward, value, 0.9, 0.0), reward + 0.9 * shifted - value)


def one_token(logp: float, value: float, advantage: float, old_value: float = 0.0, returns: float = 0.0) -> Step:
    """One prompt, one token whose old log-probability is log 0.5."""
    numbers = {"old": -0.6931472, "advantage": advantage, "value": old_value, "returns": returns}
    extra = {name: torch.tensor([[[x]]]) for name, x in numbers.items()}
    extra |= {"kl": torch.zeros(1, 1), "weight": torch.ones(1), "spread": torch.zeros(1), "explained": torch.zeros(1)}
    lp, v = (torch.tensor([[[x]]], requires_grad=True) for x in (logp, value))
    return given(lp, torch.zeros(1, 1, 1), v, torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1), extra)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope", "loss"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.199, 2.0, -2.398, -2.398),
        (1.201, 2.0, 0.0, -2.4),
        (0.5, 2.0, -1.0, -1.0),  # a good token that has become rare is pulled back without bound
        (0.801, -2.0, 1.602, 1.602),
        (0.799, -2.0, 0.0, 1.6),
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_the_ratio_stops_at_the_clip(ratio: float, advantage: float, slope: float, loss: float) -> None:
    """D loss / d log pi = -A rho inside; 0 beyond 1.2 if A > 0 and below 0.8 if A < 0."""
    step = one_token(float(torch.tensor(0.5 * ratio).log()), 0.0, advantage)
    got = ppo(value_weight=0.0).loss(step)
    (grad,) = torch.autograd.grad(got, step.logp_tokens)
    assert float(got.detach()) == pytest.approx(loss, rel=1e-5)
    assert float(grad) == pytest.approx(slope, rel=1e-5)
    assert logged(step)["clip_fraction"] == float(slope == 0.0)
    assert logged(step)["ratio_mean"] == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "slope", "loss"),
    [
        (0.1, -0.9, 0.405),  # inside: (.1 - 1)^2 / 2
        (0.3, 0.0, 0.32),  # beyond .2 towards the return: (.2 - 1)^2 / 2, no gradient
        (-0.3, -1.3, 0.845),  # beyond it on the wrong side: the larger, unclipped square
    ],
)
def test_the_value_stops_at_its_clip(value: float, slope: float, loss: float) -> None:
    """Old value 0, return 1, clip .2; the weight .1 scales loss and gradient."""
    step = one_token(-0.6931472, value, 0.0, 0.0, 1.0)
    got = ppo().loss(step)
    (grad,) = torch.autograd.grad(got, step.states)
    assert float(got.detach()) == pytest.approx(0.1 * loss, rel=1e-5)
    assert float(grad) == pytest.approx(0.1 * slope, rel=1e-5)
    assert logged(step)["value_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_loss_is_a_mean_over_the_tokens_of_the_batch() -> None:
    """Five tokens of unequal paths count alike: -(.1 * 2 + ... ) / 5, whichever prompt they are of.

    Ratios are 1, so the policy loss is minus the mean advantage, and the value loss the mean of (V - R)^2 / 2.
    """
    found = prepared(whiten=False)
    method = ppo()
    step = given(OLD.clone(), REF, VALUE, THERE, REWARD, found)
    a = [-0.006, 0.11, 0.9, 0.23, 0.7]
    policy, value = -sum(a) / 5, sum(x**2 for x in a) / 10  # V - R is -A at the draw
    assert float(method.loss(step)) == pytest.approx(policy + 0.1 * value, rel=1e-5)
    halves = [
        method.loss(given(OLD[i : i + 1], REF[i : i + 1], VALUE[i : i + 1], THERE[i : i + 1], REWARD[i : i + 1],
                          {name: x[i : i + 1] for name, x in found.items()}))
        for i in (0, 1)
    ]  # fmt: skip
    assert float(sum(halves, torch.zeros(()))) / 2 == pytest.approx(policy + 0.1 * value, rel=1e-5)


def expected_gradient(
    method: PPO, policy: T5Policy, candidates: list[Drawn], reference: Callable[[Drawn], Tensor] | None = None
) -> Tensor:
    """Expectation of the first update's gradient: sum over everything that can be drawn of its probability times
    the loss's gradient, through ``prepare`` and ``loss`` as in training; the value is 0.
    """  # noqa: D205
    head = method.heads(policy.width)["value"].module
    total = torch.zeros(policy.parameters_trained)
    for drawn in candidates:
        drawn = Drawn(drawn.items, drawn.rewards, {"hit": torch.zeros(1, 1), "target": drawn.items[:, 0]}, drawn.paths)

        def step(now: Drawn) -> Step:
            ref = None if reference is None else lambda: reference(now)
            return Step(now, prompts(), policy, method.measure, {"value": head}, reference=ref)

        with torch.no_grad():
            before = step(drawn)
            if reference is None:
                before.__dict__["ref_tokens"] = before.logp_tokens
            extra = method.prepare(before)
            share = float(before.logp.double().exp())
        loss = method.loss(step(Drawn(drawn.items, drawn.rewards, {**drawn.extra, **extra}, drawn.paths)))
        total += share * flat(loss, policy)
    return total


def flat(loss: Tensor, policy: T5Policy) -> Tensor:
    slopes = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    pairs = zip(slopes, policy.parameters(), strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if s is None else s.flatten() for s, p in pairs])


def slope_of_the_mean(policy: T5Policy, worth: Tensor, measure: str) -> Tensor:
    """Gradient of sum_item P(item) worth(item), by enumeration."""
    tokens = score(policy, policy.encode(HISTORY), torch.arange(len(worth))[None])
    return flat((getattr(tokens, measure).sum(-1).exp() * worth).sum(), policy)


PLAIN: dict[str, Any] = {"whiten": False, "gae_lambda": 1.0, "value_weight": 0.0, "reward": ["hit"]}


def test_the_first_update_is_the_policy_gradient() -> None:
    """Without KL, baseline and whitening its expectation is -(1/3) the gradient of sum_leaf P(leaf) r(leaf).

    The third is the mean over an item's three tokens. 30 leaves, enumerated.
    """
    policy = model(THIRTY)
    worth = torch.rand(30, generator=torch.Generator().manual_seed(2))
    leaves = [Drawn(torch.tensor([[i]]), worth[i].view(1, 1)) for i in range(30)]
    found = expected_gradient(ppo(**PLAIN, kl_weight=0.0), policy, leaves)
    expected, other = (-slope_of_the_mean(policy, worth, measure) / 3 for measure in ("trie", "vocab"))
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()) + 1e-7, rtol=1e-3)
    assert float((other - expected).norm() / expected.norm()) > 0.1  # the other measure's would be another one


def test_the_first_update_is_the_policy_gradient_without_the_trie_too() -> None:
    """All 36 paths of two tokens from a vocabulary of six; only those of an item earn something."""
    policy = model(SIX)
    worth = torch.rand(6, generator=torch.Generator().manual_seed(2))
    every = [[a, b] for a in range(6) for b in range(6)]
    items = [SIX.index(path) if path in SIX else -1 for path in every]
    drawn = [
        Drawn(torch.tensor([[i]]), (worth[i] if i >= 0 else torch.zeros(())).view(1, 1), paths=torch.tensor([[path]]))
        for i, path in zip(items, every, strict=True)
    ]
    found = expected_gradient(ppo(**PLAIN, kl_weight=0.0, sampling="vocab"), policy, drawn)
    expected = -slope_of_the_mean(policy, worth, "vocab") / 2
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()) + 1e-7, rtol=1e-3)


def test_the_optimum_is_the_tilted_reference() -> None:
    """At pi = pi_ref exp(r / w) / Z the expected gradient is 0, and only there.

    The reference is made from the policy: its leaves have pi exp(-r / w), and a token of it the flow through its
    node over the flow through the node before. Every reward then pays for its KL divergence exactly.
    """
    policy, weight = model(THIRTY), 0.3
    worth = torch.rand(30, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logp = score(policy, policy.encode(HISTORY), torch.arange(30)[None]).trie.sum(-1)[0]
    draw = Draw(prompts(), torch.zeros(1, dtype=torch.int64), policy, generator(0), torch.ones(30))
    flows = draw.flows(torch.arange(30)[None], (logp - worth / weight).exp())[0]
    reference = (flows[:, 1:] / flows[:, :-1]).log().float()
    leaves = [Drawn(torch.tensor([[i]]), worth[i].view(1, 1)) for i in range(30)]

    def norm(kl_weight: float) -> float:
        method = ppo(**PLAIN, kl_weight=kl_weight)
        return float(expected_gradient(method, policy, leaves, lambda drawn: reference[drawn.items]).norm())

    assert norm(weight) < 1e-4 * norm(0.5 * weight)


def measures_agree(method: PPO) -> None:
    """What is drawn has the frequencies of exp(log pi) in the method's measure, over all that can be drawn."""
    policy, n = model(THIRTY if method.sampling == "trie" else SIX), 4000
    draw = Draw(prompts(), torch.zeros(1, dtype=torch.int64), policy, generator(1), torch.ones(30))
    drawn = method.candidates(draw)
    if drawn.paths is None:
        possible, where = Drawn(torch.arange(30)[None]), {i: i for i in range(30)}
        keys = drawn.items[0].tolist()
    else:
        every = [[a, b] for a in range(6) for b in range(6)]
        possible, where = Drawn(torch.full((1, 36), -1), paths=torch.tensor([every])), {i: i for i in range(36)}
        keys = (6 * drawn.paths[0, :, 0] + drawn.paths[0, :, 1]).tolist()
    with torch.no_grad():
        share = Step(possible, prompts(), policy, method.measure, {}).logp[0].double().exp()
    assert float(share.sum()) == pytest.approx(1.0, abs=1e-4)
    counts = torch.bincount(torch.tensor([where[k] for k in keys]), minlength=len(share))
    assert bool((share[counts > 0] > 0).all())
    assert chisquare(counts.numpy(), (share / share.sum() * n).numpy()).pvalue > 0.001


@pytest.mark.parametrize("sampling", ["trie", "vocab"])
def test_samples_have_the_probabilities_that_the_ratio_is_of(sampling: str) -> None:
    measures_agree(ppo(sampling=sampling, samples=4000, reward=["hit"]))


@pytest.mark.parametrize(("sampling", "other"), [("trie", "vocab"), ("vocab", "trie")])
def test_a_mixture_of_measures_would_be_found(sampling: str, other: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails for a method whose log-probabilities are of the other measure."""
    monkeypatch.setattr(PPO, "measure", other)
    with pytest.raises(AssertionError):
        measures_agree(ppo(sampling=sampling, samples=4000, reward=["hit"]))


@pytest.mark.parametrize("sampling", ["trie", "vocab"])
def test_the_first_ratio_is_one(sampling: str) -> None:
    probe = Probe(ppo(sampling=sampling, samples=2))
    learner = probe.learner()
    step = learner.step(probe.batch(learner)._replace(log={}))
    probe.tuner.loss(step)
    torch.testing.assert_close(step.logp_tokens.exp() / step.extra["old"].exp(), torch.ones(24, 2, 3))
    assert logged(step)["ratio_mean"] == pytest.approx(1.0, abs=1e-6)
    assert logged(step)["clip_fraction"] == 0.0


def test_a_forced_token_has_ratio_one_whatever_is_learnt() -> None:
    """Items 2 and 7 end on only children: 9 behind 2 4 7, and 6, 10 behind 2 5. Padding behaves the same."""
    policy, items = model(UNEQUAL), torch.tensor([[2, 7, 4]])
    with torch.no_grad():
        old = Step(Drawn(items), prompts(), policy, ppo().measure, {}).logp_tokens
        for p in policy.parameters():
            p.add_(0.3 * torch.randn_like(p))
        ratio = (Step(Drawn(items), prompts(), policy, ppo().measure, {}).logp_tokens - old).exp()[0]
    forced = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]], dtype=torch.bool)
    assert bool((ratio[forced] == 1.0).all())
    assert bool((ratio[~forced] != 1.0).all())


def test_unequal_paths_pay_with_their_last_token() -> None:
    """Items of one, two and four tokens, reward 1, no KL: with gamma .5 and V = 0, A falls by half per token."""
    policy = model(UNEQUAL)
    method = ppo(**{**PLAIN, "gamma": 0.5, "kl_weight": 0.0})
    items = torch.tensor([[4, 0, 2]])
    step = Step(Drawn(items, torch.ones(1, 3)), prompts(), policy, "trie",
                {"value": method.heads(policy.width)["value"].module})  # fmt: skip
    step.__dict__["ref_tokens"] = torch.zeros(1, 3, 4)
    with torch.no_grad():
        found = method.prepare(step)
    expected = [[1.0, 0, 0, 0], [0.5, 1, 0, 0], [0.125, 0.25, 0.5, 1]]
    torch.testing.assert_close(found["advantage"][0], torch.tensor(expected))
    assert found["weight"].tolist() == pytest.approx([1 / 7])


def test_rewards_are_summed_and_a_path_that_is_no_item_earns_nothing() -> None:
    probe = Probe(ppo(sampling="vocab", samples=200))
    draw = probe.draw(probe.policy().eval())
    drawn = probe.tuner.candidates(draw)
    assert isinstance(drawn, Drawn)
    assert drawn.rewards is not None
    found = drawn.items >= 0
    assert 0 < int(found.sum()) < found.numel()
    assert float(drawn.rewards[~found].abs().max()) == 0.0
    both = rewards["hit"](draw, drawn.items) + rewards["collab-minmax"](draw, drawn.items)
    torch.testing.assert_close(drawn.rewards, both)
    assert float(drawn.rewards[found].max()) > 0.0


def test_the_share_of_illegal_paths_is_logged() -> None:
    probe = Probe(ppo(sampling="vocab", samples=4))
    learner = probe.learner()
    batch = probe.batch(learner)._replace(log={})
    step = learner.step(batch)
    probe.tuner.loss(step)
    illegal = sum(i < 0 for row in batch.drawn.items.tolist() for i in row) / 96
    assert logged(step)["illegal"] == pytest.approx(illegal)


def test_collaborative_scores_are_asked_for_only_where_a_reward_reads_them() -> None:
    assert ppo().needs == {"collab"}
    assert ppo(reward=["collab-rank"]).needs == {"collab"}
    assert ppo(reward=["hit", "token-overlap"]).needs == frozenset()


@pytest.mark.parametrize("reward", [["hits"], ["hit", "collab-rnk"]])
def test_an_unknown_reward_is_refused(reward: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"no reward '{reward[-1]}'; did you mean"):
        ppo(reward=reward)


def test_the_targets_likelihood_is_added() -> None:
    """0.5 times the mean over prompts of -log pi(target) over the vocabulary, summed over its tokens."""
    one, two = Probe(ppo()), Probe(ppo(sft_weight=0.5))
    learner, other = one.learner(), two.learner()
    with torch.no_grad():
        log: dict[str, float] = {}
        difference = float(other(two.batch(other)._replace(log=log))) - float(learner(one.batch(learner)))
        history, target = one.prompts()
        policy = learner.policy
        logp = score(policy, policy.encode(history.history), target[:, None]).vocab.sum()
    assert difference == pytest.approx(-0.5 * float(logp) / 24, rel=1e-4)
    assert log["nll"] == pytest.approx(-float(logp) / 24, rel=1e-5)


def test_the_value_starts_at_zero_and_learns_faster() -> None:
    head = ppo(value_lr=7.0).heads(16)["value"]
    assert head.module(torch.randn(3, 16)).tolist() == [[0.0]] * 3
    assert (head.lr, head.decay) == (7.0, 0.0)


def test_the_value_begins_at_the_mean_reward_of_what_was_drawn() -> None:
    """Three paths earn 1, 0.5 and 0.3; the fourth is no item's and does not count."""
    linear = nn.Linear(16, 1)
    drawn = Drawn(torch.tensor([[0, 1], [2, -1]]), torch.tensor([[1.0, 0.5], [0.3, 9.0]]))
    ppo().begin(Step(drawn, prompts(2), model(SIX), "trie", {"value": linear}))
    assert float(linear.bias.detach()) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "settings", [{"sampling": "vocab"}, {"samples": 3, "updates": 1, "kl": "abs", "sft_weight": 1.0}]
)
def test_variants_keep_the_contract(settings: dict[str, object]) -> None:
    laws = ("finite scalar", "Permuting", "Micro-batches", "improve the objective")
    for result in check("ppo", settings):
        assert result.held, result
        if laws[-1] in result.name:
            break
