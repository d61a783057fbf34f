"""GFlowGR's balances: what their optimum is, how they are related, and where their gradients go."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from rlrecbench.baselines.gflowgr import Flow, GFlowGR
from torch import Tensor, nn

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import Drawn, Prompts, Scalar, Step, methods
from rlrecbench.policy.base import Policy
from rlrecbench.policy.search import exact
from rlrecbench.policy.t5 import T5Policy, T5Shape

registry.load()

SHAPE = T5Shape(layers=1, d_model=32, d_ff=64, heads=2, d_kv=16, dropout=0.0)
EQUAL = [(1 + a, 4 + b, 6 + c) for a in range(3) for b in range(2) for c in range(2)]
UNEQUAL = [
    (1, 2), (1, 3, 4), (1, 3, 5), (6,), (7, 8, 9, 10), (7, 8, 9, 11), (7, 8, 12), (7, 13), (14, 2), (14, 3, 2),
    (14, 3, 1), (14, 4),
]  # fmt: skip
BOTH = pytest.mark.parametrize("name", ["gflowgr-tb", "gflowgr-db"])


def gflowgr(name: str, **settings: object) -> GFlowGR:
    method = build(methods[name], settings, "test")
    assert isinstance(method, GFlowGR)
    return method


class World:
    """One prompt, twelve leaves with random rewards, a random policy; every leaf is a candidate."""

    def __init__(self, method: GFlowGR, paths: Sequence[Sequence[int]], seed: int) -> None:
        torch.manual_seed(seed)
        self.method = method
        self.policy = T5Policy(Catalogue(paths, 16), SHAPE)
        self.rewards = torch.empty(1, len(paths)).uniform_(0.2, 5.0)
        self.heads = {name: head.module for name, head in method.heads(SHAPE.d_model).items()}

    def step(self) -> Step:
        ones = torch.ones_like(self.rewards)
        drawn = Drawn(torch.arange(len(ones[0]))[None], self.rewards, {"weight": ones, "collab": ones})
        prompts = Prompts("train", torch.zeros(1, dtype=torch.int64), torch.tensor([[0, 7]]))
        return Step(drawn, prompts, self.policy, self.method.measure, self.heads)

    def solve(self) -> None:
        """Minimise the balance loss alone, by L-BFGS from where the method begins."""
        with torch.no_grad():
            self.method.begin(self.step())
        params = [*self.policy.parameters(), *(p for h in self.heads.values() for p in h.parameters())]
        optimizer = torch.optim.LBFGS(
            params, max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            step = self.step()
            nll = -(step.tokens.vocab[:, 0].sum(-1) / step.lengths[:, 0]).mean()
            loss = self.method.loss(step) - nll
            loss.backward()
            return float(loss.detach())

        optimizer.step(closure)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("paths", [EQUAL, UNEQUAL], ids=["equal lengths", "unequal lengths"])
@BOTH
def test_the_optimum_is_reward_over_the_sum_of_rewards(name: str, paths: list[Sequence[int]], seed: int) -> None:
    """The GFlowNet theorem: with every residual zero, P = R / sum R, and log Z or log F(s_0) = log sum R."""
    world = World(gflowgr(name, policy_measure="trie"), paths, seed)
    world.solve()
    with torch.no_grad():
        step = world.step()
        found = exact(world.policy, step.encoded)
        at = torch.searchsorted(found.leaves, torch.as_tensor(world.policy.catalogue.leaf_of))
        root = world.heads["log_z"]().detach() if name == "gflowgr-tb" else world.heads["log_f"](step.states)[0, 0, 0]
    torch.testing.assert_close(found.trie.exp()[0, at], world.rewards[0] / world.rewards.sum(), atol=1e-4, rtol=0)
    assert float(root) == pytest.approx(math.log(float(world.rewards.sum())), abs=1e-3)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("paths", [EQUAL, UNEQUAL], ids=["equal lengths", "unequal lengths"])
def test_detailed_residuals_add_up_to_the_trajectory_residual(
    paths: list[Sequence[int]], measure: str, head: str
) -> None:
    """sum_l (log F(s_l) + log P_F - log F(s_l+1)) = log F(s_0) + log P - log R; every F in between cancels."""
    world = World(gflowgr("gflowgr-db", policy_measure=measure, flow_head=head), paths, 4)
    for parameter in world.heads["log_f"].parameters():
        nn.init.normal_(parameter)
    trajectory = gflowgr("gflowgr-tb", policy_measure=measure)
    with torch.no_grad():
        step = world.step()
        log_f0 = float(world.heads["log_f"](step.states)[0, 0, 0])
        detailed = world.method.residual(step)
        step.heads = {"log_z": Scalar(log_f0)}
        torch.testing.assert_close(detailed.sum(-1, keepdim=True), trajectory.residual(step), atol=1e-4, rtol=1e-5)
    assert detailed.shape == (1, 12, len(max(paths, key=len)))
    assert float(detailed.std()) > 0.1


def flow_matched(catalogue: Catalogue, rewards: Tensor) -> SimpleNamespace:
    """Token scores of the policy P_F(child) = F(child) / F(parent); its states are the numbers log F."""
    flow = torch.as_tensor(catalogue.flows(rewards[0].double().numpy())).log()
    nodes, there = torch.as_tensor(catalogue.nodes), torch.as_tensor(catalogue.paths) >= 0
    before = nn.functional.pad(nodes, (1, 0))[:, :-1].clamp(min=0)
    logp = torch.where(there, flow[nodes.clamp(min=0)] - flow[before], 0.0)[None]
    return SimpleNamespace(
        trie=logp, vocab=torch.zeros_like(logp), present=there[None], states=flow[before][None, ..., None].float()
    )


@pytest.mark.parametrize("paths", [EQUAL, UNEQUAL], ids=["equal lengths", "unequal lengths"])
@BOTH
def test_a_flow_matched_policy_has_no_loss(name: str, paths: list[Sequence[int]]) -> None:
    """P_F = F(child) / F(parent) and F summed up from the rewards: zero. One reward doubled: log(2)^2."""
    world = World(gflowgr(name, policy_measure="trie"), paths, 5)
    if name == "gflowgr-tb":
        world.heads["log_z"] = Scalar(math.log(float(world.rewards.sum())))
    else:
        flow = world.heads["log_f"] = Flow(1)
        nn.init.ones_(cast("nn.Linear", flow.map).weight)
    tokens = flow_matched(world.policy.catalogue, world.rewards)

    def loss() -> float:
        step = world.step()
        step.__dict__["tokens"] = tokens
        return float(world.method.loss(step).detach())

    assert loss() == pytest.approx(0.0, abs=1e-8)
    world.rewards[0, 3] *= 2
    assert loss() == pytest.approx(math.log(2) ** 2, rel=1e-4)


@pytest.mark.parametrize("paths", [EQUAL, UNEQUAL], ids=["equal lengths", "unequal lengths"])
def test_detailed_balance_begins_with_no_mean_residual_at_any_level(paths: list[Sequence[int]]) -> None:
    world = World(gflowgr("gflowgr-db"), paths, 6)
    with torch.no_grad():
        step = world.step()
        before = world.method.residual(step)
        world.method.begin(step)
        after = world.method.residual(step)
    for level in range(after.shape[-1]):
        there = step.tokens.present[..., level]
        assert abs(float(before[..., level][there].mean())) > 0.05
        assert float(after[..., level][there].mean()) == pytest.approx(0.0, abs=1e-5)


def test_levels_that_the_first_batch_lacks_begin_at_the_mean_log_reward() -> None:
    world = World(gflowgr("gflowgr-db"), EQUAL, 6)
    with torch.no_grad():
        world.method.begin(world.step())
    head = world.heads["log_f"]
    assert isinstance(head, Flow)
    assert head.bias[3:].tolist() == pytest.approx([float(world.rewards.log().mean())] * len(head.bias[3:]), rel=1e-5)


HAND = {"logp": [-1.0, -2.0, -0.5], "state": [0.3, -0.7, 1.1], "bias": [4.0, 2.5, 1.0], "weight": 2.0, "reward": 1.5}


def by_hand(**settings: object) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with regard to biases, states and token log-probabilities of one path of three tokens.

    log F = 2 state + bias = (4.6, 1.1, 3.2), then log R = log 1.5 = 0.405465. Residuals: 4.6 - 1 - 1.1 = 2.5,
    1.1 - 2 - 3.2 = -4.1 and 3.2 - 0.5 - 0.405465 = 2.294535.
    """
    method = gflowgr("gflowgr-db", policy_measure="trie", **settings)
    head = Flow(1)
    nn.init.constant_(cast("nn.Linear", head.map).weight, cast(float, HAND["weight"]))
    head.bias.data[:3] = torch.tensor(HAND["bias"])
    states = torch.tensor(HAND["state"])[None, None, :, None].requires_grad_()
    logp = torch.tensor([[HAND["logp"]]], requires_grad=True)
    one = torch.ones(1, 1)
    drawn = Drawn(torch.zeros(1, 1, dtype=torch.int64), one * 1.5, {"weight": one, "collab": one})
    prompts = Prompts("train", torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))
    step = Step(drawn, prompts, cast("Policy", None), "trie", {"log_f": head})
    zero = torch.zeros(1, 1, 3)
    step.__dict__["tokens"] = SimpleNamespace(trie=logp, vocab=zero, present=zero == 0, states=states)
    method.loss(step).backward()
    assert head.bias.grad is not None
    assert logp.grad is not None
    return head.bias.grad[:3], states.grad if states.grad is not None else zero[..., None], logp.grad


R = (2.5, -4.1, 3.2 - 0.5 - math.log(1.5))


def test_gradients_of_detailed_balance_by_hand() -> None:
    """Each log F stands in its own residual with +1 and in the one before with -1: 2 r_l - 2 r_{l-1}."""
    bias, states, logp = by_hand()
    expected = [2 * R[0], 2 * (R[1] - R[0]), 2 * (R[2] - R[1])]
    assert bias.tolist() == pytest.approx(expected, rel=1e-5)
    assert states.flatten().tolist() == pytest.approx([2.0 * g for g in expected], rel=1e-5)
    assert logp.flatten().tolist() == pytest.approx([2 * r for r in R], rel=1e-5)


def test_a_stopped_target_leaves_each_flow_its_own_residual() -> None:
    bias, states, logp = by_hand(stop_target=True)
    assert bias.tolist() == pytest.approx([2 * r for r in R], rel=1e-5)
    assert states.flatten().tolist() == pytest.approx([4 * r for r in R], rel=1e-5)
    assert logp.flatten().tolist() == pytest.approx([2 * r for r in R], rel=1e-5)


def test_detached_states_get_no_gradient_from_the_flows() -> None:
    bias, states, _ = by_hand(detach_states=True)
    assert bias.tolist() == pytest.approx([2 * R[0], 2 * (R[1] - R[0]), 2 * (R[2] - R[1])], rel=1e-5)
    assert states.abs().max() == 0


def test_a_clipped_detailed_residual_grows_linearly() -> None:
    """Huber with clip 3, per level: gradients 2 * 2.5, then -2 * 3 for -4.1, then 2 * 2.294535."""
    _, _, logp = by_hand(residual_clip=3.0)
    assert logp.flatten().tolist() == pytest.approx([2 * R[0], -6.0, 2 * R[2]], rel=1e-5)


def test_flow_heads_start_at_zero_and_learn_ten_times_as_fast_without_decay() -> None:
    states = torch.randn(2, 3, 4, 8)
    for kind in ("linear", "mlp"):
        head = gflowgr("gflowgr-db", flow_head=kind).heads(8)["log_f"]
        assert (head.lr, head.decay) == (10.0, 0.0)
        assert head.module(states).abs().max() == 0


def test_the_mlp_flow_is_one_hidden_layer() -> None:
    """W2 gelu(W1 h + c) + b_l, gelu(x) = x Phi(x)."""
    head = Flow(8, hidden=True)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    w1, c, w2 = (p.detach() for p in cast("nn.Sequential", head.map).parameters())
    states = torch.randn(2, 3, 4, 8)
    inner = states @ w1.T + c
    expected = (inner * (1 + torch.erf(inner / math.sqrt(2))) / 2) @ w2[0] + head.bias.detach()[:4]
    torch.testing.assert_close(head(states).detach(), expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_measures_differ_by_the_legal_mass(name: str) -> None:
    """Residuals over the vocabulary minus those over the legal children are the legal log-mass; L_GR stays."""
    probes = {m: Probe(gflowgr(name, policy_measure=m)) for m in ("vocab", "trie")}
    found = {}
    for measure, probe in probes.items():
        learner = probe.learner()
        batch = probe.batch(learner)
        with torch.no_grad():
            step = learner.step(batch)
            residual = cast("GFlowGR", probe.tuner).residual(step)
            nll = -step.tokens.vocab[:, 0].sum(-1).mean() / 3
            loss = float(probe.tuner.loss(step))
        balance = (residual.square().sum(-1) * step.extra["weight"]).sum(1).mean()
        assert loss == pytest.approx(float(nll + balance), rel=1e-5)
        found[measure] = residual
        legal = step.tokens.legal
    expected = legal.sum(-1, keepdim=True) if name == "gflowgr-tb" else legal
    assert float(expected.abs().min()) > 0.1
    torch.testing.assert_close(found["vocab"] - found["trie"], expected, atol=1e-4, rtol=1e-5)
