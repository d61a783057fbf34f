"""Flower: the published numbers, the loss as a double loop, and the optimum that it promises.

The policies here are tables of logits, one row per prompt and prefix, so the optimum can be reached and
every probability written down. "vector 1" and "vector 2" are outputs of the public code on these trees.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rlrecbench.baselines.flower import Flower, pair_squares, preference
from torch import Tensor

from rlrecbench import conformance, registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.errors import ConfigError
from rlrecbench.method import Draw, Prompts, methods
from rlrecbench.policy import score as scoring
from rlrecbench.policy.base import Policy
from rlrecbench.policy.score import child, score
from rlrecbench.train.loop import Batch, Learner, cut, draw_batch

registry.load()
Paths = Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Users:
    """Prompts of a table: the first item of the history is the row of the table, [B]."""

    user: Tensor

    @property
    def batch(self) -> int:
        return len(self.user)

    def select(self, rows: Tensor) -> "_Users":
        return _Users(self.user[rows])


class _Table(Policy):
    """Logits [users * nodes, V], one row for each prompt and prefix."""

    def __init__(self, catalogue: Catalogue, logits: Tensor) -> None:
        super().__init__()
        self.catalogue, self.width = catalogue, len(logits)
        self.logits = torch.nn.Parameter(logits)

    def encode(self, history: Tensor) -> _Users:
        return _Users(history[:, 0])

    def decode(self, encoded: _Users, paths: Tensor) -> Tensor:
        nodes = [torch.zeros_like(paths[..., :1])]
        for t in range(paths.shape[-1]):
            nodes.append(child(self, nodes[-1], paths[..., t : t + 1].clamp(min=0)))
        return self._states(encoded, torch.cat(nodes, -1))

    def head(self, states: Tensor) -> Tensor:
        return states @ self.logits

    def start(self, encoded: _Users) -> tuple[Tensor, Any]:
        nodes = torch.zeros(encoded.batch, 1, dtype=torch.int64)
        return self._states(encoded, nodes), (encoded, nodes)

    def step(self, cache: Any, tokens: Tensor, parents: Tensor) -> tuple[Tensor, Any]:
        encoded, nodes = cache
        nodes = child(self, nodes.gather(1, parents), tokens)
        return self._states(encoded, nodes), (encoded, nodes)

    def _states(self, encoded: _Users, nodes: Tensor) -> Tensor:
        user = encoded.user.view(-1, *[1] * (nodes.ndim - 1))
        row = user * self.catalogue.trie.n_nodes + nodes.clamp(min=0)
        return torch.nn.functional.one_hot(row, self.width).float()


class _Fixed(Draw):
    """A draw whose samples are given, [B, C]."""

    items: Tensor

    def sampled(self, n: int, temperature: float = 1.0) -> Tensor:
        return self.items


def _table(paths: Paths, vocab: int, seed: int, users: int = 1, terminator: int | None = 0) -> _Table:
    catalogue = Catalogue(paths, vocab, terminator=terminator)
    logits = torch.randn(users * catalogue.trie.n_nodes, vocab, generator=torch.Generator().manual_seed(seed))
    return _Table(catalogue, logits)


def _flower(**settings: object) -> Flower:
    method = build(methods["flower"], {"lam": 1.0, **settings}, "test")
    assert isinstance(method, Flower)
    return method


def _batch(
    method: Flower,
    policy: Policy,
    items: Tensor | None,
    frequency: Sequence[float] | Tensor,
    logits: Tensor | None = None,
    log: dict[str, float] | None = None,
    seed: int = 0,
    prompts: int = 1,
) -> Batch:
    """Draw as the training loop does; the target is item 0 and prompt b belongs to user b.

    Args:
        method: The method.
        policy: The policy.
        items: What is "sampled", [B, C]; None: real samples for ``prompts`` prompts.
        frequency: Of each item, [N].
        logits: Collaborative scores, [B, N].
        log: Receives the diagnostics.
        seed: Of the draw.
        prompts: Number of prompts B without ``items``.
    """
    users = torch.arange(prompts if items is None else len(items))
    count = torch.as_tensor(frequency)
    collab = None if logits is None else Collab(torch.eye(logits.shape[1]), {"train": logits})
    kind = Draw if items is None else _Fixed
    draw = kind(
        Prompts("train", users, users[:, None]),
        torch.zeros_like(users),
        policy,
        torch.Generator().manual_seed(seed),
        torch.ones_like(count),
        collab=collab,
        frequency=count,
    )
    if isinstance(draw, _Fixed):
        assert items is not None
        draw.items = items
    drawn, kept = draw_batch(Learner(policy, method, None), draw)
    return Batch(drawn, draw.prompts, kept, 0, 0.0, log)


def _flow(method: Flower, policy: Policy, batch: Batch) -> Tensor:
    """L_flow alone: the loss at lam = 1 without the target's cross-entropy."""
    step = Learner(policy, method, None).step(batch)
    nll = -step.tokens.vocab[:, 0].sum(-1)
    nll = nll / step.lengths[:, 0] if method.sft_reduction == "token" else nll
    flow: Tensor = (method.loss(step) - nll.mean()) / method.lam
    return flow


# ---- the published vectors

# "a b" x 3, "a c" x 1, "d" x 4; tokens a b c d = 1 2 3 4, the terminator 0.
_TREE = [[1, 2, 0], [1, 3, 0], [4, 0]]
_COUNTS = [3, 1, 4]
# Probability of each token behind each prefix; the rest of the mass is on tokens that nothing reads.
_PROBABILITIES = {
    (): {1: -1.0, 4: -0.7, 0: -4.0},
    (1,): {2: -0.5, 0: -3.0},
    (1, 2): {0: -0.2},
    (4,): {0: -0.1},
}


def _published() -> tuple[_Table, Tensor]:
    """The table whose log-probabilities are the vectors', for two prompts, and "a b" and "d" as samples."""
    catalogue = Catalogue(_TREE, 5, terminator=0)
    nodes = catalogue.trie.n_nodes
    table = torch.zeros(nodes, 5)
    prefix: dict[int, tuple[int, ...]] = {0: ()}
    for node in range(1, nodes):
        prefix[node] = (*prefix[int(catalogue.trie.parent[node])], int(catalogue.trie.token[node]))
        assert len(prefix) == node + 1
    for node, tokens in prefix.items():
        given_here = _PROBABILITIES.get(tokens, {})
        rest = 1 - sum(math.exp(v) for v in given_here.values())
        for token in range(5):
            table[node, token] = given_here.get(token, math.log(rest / (5 - len(given_here))))
    return _Table(catalogue, table.repeat(2, 1)), torch.tensor([[0], [2]])


def test_the_code_form_gives_vector_1() -> None:
    """A: (.693147, -12.412318, -11.719171), B: -11.106853; the mean of the four squares is 103.811806.

    A's first pair: d_1 = -1 - ln .5 = -.306853, and ending costs tau_1 - tau_0 = -3 + 4 more: .693147.
    """
    policy, items = _published()
    method = _flower(reward="frequency", form="code", reduction="pooled")
    batch = _batch(method, policy, items, _COUNTS)
    assert float(_flow(method, policy, batch).detach()) == pytest.approx(103.811806, rel=1e-6)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sequence", 0.098243), ("pooled", 0.128606), ("sum", (1.135989 + 0.021465) / 2)],
)
def test_the_papers_form_gives_vector_2(reduction: str, expected: float) -> None:
    """Sums 1.135989 over six pairs and .021465 over three; means .189332 and .007155."""
    policy, items = _published()
    method = _flower(reward="frequency", reduction=reduction)
    batch = _batch(method, policy, items, _COUNTS)
    assert float(_flow(method, policy, batch).detach()) == pytest.approx(expected, abs=1e-6)


def test_preferences_are_those_of_the_public_code() -> None:
    """P = softmax(2, 1, 0, -1) = (.643914, .236883, .087144, .032059), mean .25, range .611855."""
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    expected = torch.tensor([[1.643803, 0.978562, 0.733833, 0.643803]]).double()
    torch.testing.assert_close(preference(logits, from_mean=True), expected, atol=1e-6, rtol=0)
    expected = torch.tensor([[1.0, 0.334759, 0.090031, 0.0]]).double()
    torch.testing.assert_close(preference(logits, from_mean=False), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("from_mean", [True, False])
def test_equal_scores_prefer_nothing(from_mean: bool) -> None:
    assert preference(torch.full((1, 5), 3.0), from_mean).tolist() == [[1.0] * 5]


# Two prefixes of flow 4, each with a token of reward .75 and one of .25; items 0 and 3 have the .75.
_FOUR = [[1, 2, 0], [1, 3, 0], [4, 2, 0], [4, 1, 0]]
_FOUR_COUNTS = [3, 1, 1, 3]
_SCORES = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def test_div_divides_every_log_reward_by_the_drawn_items_score() -> None:
    """Ln .75 / 1.643803 = -.175010 and ln .75 / .643803 = -.446848; the terminator's is 0 / S = 0."""
    policy = _table(_FOUR, 5, 0)
    drawn = _batch(_flower(), policy, torch.tensor([[0, 3]]), _FOUR_COUNTS, _SCORES).drawn
    half = math.log(0.5)
    expected = [[half / 1.643803, -0.175010, 0], [half / 0.643803, -0.446848, 0]]
    torch.testing.assert_close(drawn.extra["log_reward"][0], torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.extra["score"][0], torch.tensor([1.643803, 0.643803]), atol=1e-6, rtol=0)


def test_add_adds_the_score_to_every_token() -> None:
    """Item 1 has S = .334759: ln .5, ln .25 and ln 1 each plus 2 ln S; item 3 has S = 0, whose log is that of 1e-20."""
    policy = _table(_FOUR, 5, 0)
    method = _flower(reward="add", add_weight=2.0)
    drawn = _batch(method, policy, torch.tensor([[1, 3]]), _FOUR_COUNTS, _SCORES).drawn
    s, none = 2 * math.log(0.334759), 2 * math.log(1e-20)
    logs = torch.tensor(
        [[math.log(0.5) + s, math.log(0.25) + s, s], [math.log(0.5) + none, math.log(0.75) + none, none]]
    )
    torch.testing.assert_close(drawn.extra["log_reward"][0], logs, atol=1e-4, rtol=0)


def test_propagated_sums_flows_of_personal_rewards() -> None:
    """R = 3 * 1.643803, .978562, .733833, 3 * .643803; item 0: (R_0 + R_1) / sum R, then R_0 / (R_0 + R_1)."""
    policy = _table(_FOUR, 5, 0)
    drawn = _batch(_flower(reward="propagated"), policy, torch.tensor([[0]]), _FOUR_COUNTS, _SCORES).drawn
    r = [3 * 1.643803, 0.978562, 0.733833, 3 * 0.643803]
    expected = torch.tensor([math.log((r[0] + r[1]) / sum(r)), math.log(r[0] / (r[0] + r[1])), 0.0])
    torch.testing.assert_close(drawn.extra["log_reward"][0, 0], expected, atol=1e-5, rtol=0)


def test_an_unseen_item_has_the_given_frequency() -> None:
    """Item 1 has been seen never: F(a) = 3 + .1, F(root) = 7.1."""
    policy = _table(_TREE, 5, 0)
    method = _flower(reward="frequency", unseen=0.1)
    drawn = _batch(method, policy, torch.tensor([[1]]), [3, 0, 4]).drawn
    expected = torch.tensor([math.log(3.1 / 7.1), math.log(0.1 / 3.1), 0.0])
    torch.testing.assert_close(drawn.extra["log_reward"][0, 0], expected)


# ---- the loss as a double loop


@st.composite
def _potentials(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Numbers [3, T] and which of them count."""
    T = draw(st.integers(1, 7))
    numbers = st.lists(st.floats(-20, 20), min_size=3 * T, max_size=3 * T)
    marks = st.lists(st.booleans(), min_size=3 * T, max_size=3 * T)
    return torch.tensor(draw(numbers), dtype=torch.float64).view(3, T), torch.tensor(draw(marks)).view(3, T)


@given(_potentials())
def test_the_closed_form_is_the_double_loop_and_so_is_its_gradient(given_: tuple[Tensor, Tensor]) -> None:
    x, there = given_
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = pair_squares(one, there)
    rows = []
    for b in range(len(x)):
        at = [two[b, t] for t in range(x.shape[1]) if there[b, t]]
        rows.append(sum(((q - p) ** 2 for i, p in enumerate(at) for q in at[i + 1 :]), torch.zeros((), dtype=x.dtype)))
    expected = torch.stack(rows)
    torch.testing.assert_close(found, expected)
    weight = torch.tensor([1.0, -2.0, 3.0], dtype=x.dtype)
    (found * weight).sum().backward()
    (expected * weight).sum().backward() if expected.requires_grad else None
    assert one.grad is not None
    torch.testing.assert_close(one.grad, torch.zeros_like(x) if two.grad is None else two.grad)


_UNEQUAL = [[1, 2, 3, 1, 0], [1, 2, 0], [1, 3, 0], [2, 0], [1, 2, 3, 0], [2, 1, 2, 1, 2, 0], [1, 3, 0], [3, 3, 0]]
_UNEQUAL_COUNTS = [5, 2, 7, 1, 3, 4, 2, 0]


def _tree(weights: Sequence[float], paths: Paths) -> Callable[[Sequence[int]], float]:
    """Return the flow of a prefix, from plain lists."""
    return lambda prefix: sum(w for w, p in zip(weights, paths, strict=True) if list(p[: len(prefix)]) == list(prefix))


def _by_loops(method: Flower, policy: _Table, items: Tensor, logits: Tensor | None) -> float:
    """L_flow written out: flows by enumeration, Delta(i, j) = phi_i + sum u - phi_j for every pair of states."""
    catalogue = policy.catalogue
    own = [[int(t) for t in row if t >= 0] for row in catalogue.paths]
    log_pi = policy.logits.detach().double().log_softmax(-1).view(-1, catalogue.trie.n_nodes, catalogue.vocab)
    ends = method.form == "code" and catalogue.terminator is not None
    per_prompt, pooled, pairs_of_all = [], 0.0, 0
    for b in range(len(items)):
        counts = [c if c > 0 else method.unseen for c in _UNEQUAL_COUNTS]
        s = [1.0] * len(own)
        if method.reward != "frequency":
            assert logits is not None
            p = logits[b].double().softmax(0)
            shift = (
                (p - p.mean()) / (p.max() - p.min()) + 1
                if method.reward != "add"
                else (p - p.min()) / (p.max() - p.min())
            )
            s = shift.tolist()
        if method.reward == "propagated":
            counts = [c * x for c, x in zip(counts, s, strict=True)]
        flow = _tree(counts, own)
        values = []
        for item in items[b].tolist():
            if item < 0:
                continue
            path, score_of = own[item], s[item]

            def bent(r: float, score_of: float = score_of) -> float:
                if method.reward == "div":
                    return r / score_of
                return r + method.add_weight * math.log(score_of + 1e-20) if method.reward == "add" else r

            nodes = [0, *[int(n) for n in catalogue.nodes[item, : len(path)]]]
            u, r = [], []
            for t, token in enumerate(path):
                mass = 0.0
                if method.policy_measure == "trie":
                    brothers = sorted({q[t] for q in own if q[:t] == path[:t] and len(q) > t})
                    mass = float(log_pi[b, nodes[t], brothers].logsumexp(0))
                u.append(float(log_pi[b, nodes[t], token]) - mass)
                r.append(bent(math.log(flow(path[: t + 1]) / flow(path[:t]))))
            T = len(path) - ends
            step = len(path) + 1 if method.granularity == "item" else method.granularity
            states = sorted({*range(0, T, step), T})
            phi = {}
            for k in states:
                phi[k] = sum(r[:k])
                if ends:
                    closed = [*path[:k], catalogue.terminator]
                    known = closed in own and (method.inner_ends or k == T)
                    phi[k] += bent(math.log(flow(closed) / flow(path[:k]))) if known else method.floor
                    phi[k] -= float(log_pi[b, nodes[k], catalogue.terminator])
            squares = [(phi[i] + sum(u[i:j]) - phi[j]) ** 2 for i in states for j in states if i < j]
            values.append(sum(squares) if method.reduction == "sum" else sum(squares) / max(1, len(squares)))
            pooled += sum(squares)
            pairs_of_all += len(squares)
        per_prompt.append(sum(values) / max(1, len(values)))
    return pooled / pairs_of_all if method.reduction == "pooled" else sum(per_prompt) / len(per_prompt)


_VARIANTS: list[dict[str, object]] = [
    {},
    {"reward": "frequency", "granularity": 2, "reduction": "sum"},
    {"reward": "frequency", "granularity": 5, "policy_measure": "trie"},
    {"reward": "frequency", "granularity": "item", "reduction": "pooled"},
    {"reward": "add", "add_weight": 0.3, "reduction": "pooled", "granularity": 3},
    {"reward": "propagated", "policy_measure": "trie", "sft_reduction": "item"},
    {"form": "code", "reduction": "pooled"},
    {"form": "code", "inner_ends": True, "reward": "frequency"},
    {"form": "code", "inner_ends": True, "reward": "propagated", "granularity": 2, "reduction": "pooled"},
    {"form": "code", "reward": "div", "inner_ends": True, "floor": -7.0, "reduction": "sum"},
    {"form": "code", "reward": "frequency", "granularity": "item"},
]


@pytest.mark.parametrize("settings", _VARIANTS, ids=str)
@pytest.mark.parametrize("terminator", [0, None])
def test_every_variant_is_its_double_loop(settings: dict[str, object], terminator: int | None) -> None:
    """Four prompts, three items each of unequal lengths, one absent, shared leaves, an unseen item."""
    method = _flower(**settings)
    policy = _table(_UNEQUAL, 5, 3, users=4, terminator=terminator)
    items = torch.tensor([[0, 1, 5], [3, 3, 7], [4, -1, 6], [2, 5, 1]])
    logits = torch.randn(4, len(_UNEQUAL), generator=torch.Generator().manual_seed(5))
    batch = _batch(method, policy, items, _UNEQUAL_COUNTS, logits if "collab" in method.needs else None)
    expected = _by_loops(method, policy, items, logits)
    assert expected > 0.01
    assert float(_flow(method, policy, batch).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [{"reduction": "pooled"}, {"form": "code", "reduction": "pooled"}, {}], ids=str)
def test_micro_batches_of_unequal_paths_give_the_same_gradient(settings: dict[str, object]) -> None:
    method = _flower(reward="frequency", **settings)
    policy = _table(_UNEQUAL, 5, 3, users=4)
    batch = _batch(method, policy, torch.tensor([[0], [3], [4], [5]]), _UNEQUAL_COUNTS)
    learner = Learner(policy, method, None)
    learner(batch).backward()
    assert policy.logits.grad is not None
    whole = policy.logits.grad.clone()
    policy.logits.grad = None
    for part in (torch.tensor([0]), torch.tensor([1, 2, 3])):
        (learner(cut(batch, part)) * len(part) / 4).backward()
    torch.testing.assert_close(policy.logits.grad, whole)


def test_one_action_per_item_is_trajectory_balance_with_known_z() -> None:
    """(log P - log(R / Z))^2 with Z = 8: item 0 of the tree has P = e^(-1 - .5 - .2) and R / Z = 3 / 8."""
    policy, items = _published()
    method = _flower(reward="frequency", granularity="item")
    batch = _batch(method, policy, items, _COUNTS)
    expected = ((-1.7 - math.log(3 / 8)) ** 2 + (-0.8 - math.log(4 / 8)) ** 2) / 2
    assert float(_flow(method, policy, batch).detach()) == pytest.approx(expected, rel=1e-5)


def test_inner_ends_have_the_flow_of_the_item_that_ends_there() -> None:
    """The path "1 2" is an item (flow 2 of 10) inside "1 2 3 1": log .2 at its state, the floor at the others."""
    policy = _table(_UNEQUAL, 5, 0)
    method = _flower(form="code", inner_ends=True, reward="frequency")
    drawn = _batch(method, policy, torch.tensor([[0]]), _UNEQUAL_COUNTS).drawn
    expected = [-15.0, -15.0, math.log(2 / 10), math.log(3 / 8), 0.0]
    torch.testing.assert_close(drawn.extra["log_end"][0, 0, :5], torch.tensor(expected))


def test_the_log_probability_of_ending_is_exact_in_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind every prefix the terminator's share of the softmax; scored three states at a time it is the same."""
    policy = _table(_UNEQUAL, 5, 2)
    items = torch.tensor([[0, -1, 3, 5]])
    found: list[Tensor] = []
    gradients: list[Tensor] = []
    for rows in (100, 3):
        monkeypatch.setattr(scoring, "CHUNK", rows * 5)
        ended = score(policy, policy.encode(torch.zeros(1, 1, dtype=torch.int64)), items).ended
        policy.logits.grad = None
        (ended**2).sum().backward()
        assert policy.logits.grad is not None
        found.append(ended.detach())
        gradients.append(policy.logits.grad.clone())
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    share = policy.logits.detach().log_softmax(-1)[:, 0]
    for c, item in enumerate(items[0].tolist()):
        length = 0 if item < 0 else len(_UNEQUAL[item])
        nodes = [0, *policy.catalogue.nodes[item][: length - 1].tolist()] if length else []
        torch.testing.assert_close(found[0][0, c, :length], share[nodes])
        assert not found[0][0, c, length:].any()


# ---- the optimum


def _fit(method: Flower, policy: _Table, batch: Batch) -> float:
    """Minimise L_flow alone on one batch; return its smallest value."""
    optimizer = torch.optim.LBFGS(
        policy.parameters(), max_iter=100, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        flow = _flow(method, policy, batch)
        flow.backward()
        return float(flow.detach())

    optimizer.step(closure)
    return closure()


def _leaf_probabilities(policy: _Table, users: int, measure: str) -> Tensor:
    """Probability of each item's leaf for each user, [users, N]."""
    with torch.no_grad():
        items = torch.arange(policy.catalogue.n_items).expand(users, -1)
        found = score(policy, policy.encode(torch.arange(users)[:, None]), items)
        return (found.trie if measure == "trie" else found.vocab).sum(-1).exp()


_DISTINCT = [p for i, p in enumerate(_UNEQUAL) if i != 6]
_DISTINCT_COUNTS = [5, 2, 7, 1, 3, 4, 2]


@pytest.mark.parametrize("measure", ["vocab", "trie"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_optimum_is_proportional_to_the_frequency(measure: str, seed: int) -> None:
    """GFlowNets' promise: with every residual zero, pi = R / sum R, over the vocabulary with no mass off the tree."""
    method = _flower(reward="frequency", policy_measure=measure)
    policy = _table(_DISTINCT, 5, seed)
    batch = _batch(method, policy, torch.arange(7)[None], _DISTINCT_COUNTS)
    assert _fit(method, policy, batch) < 1e-5
    expected = torch.tensor(_DISTINCT_COUNTS)[None] / 24
    torch.testing.assert_close(_leaf_probabilities(policy, 1, measure), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_its_own_samples_lead_to_the_optimum(seed: int) -> None:
    """Nothing but real samples, 32 a step, redrawn from the policy as it is."""
    method = _flower(reward="frequency", policy_measure="trie", samples=32)
    policy = _table(_TREE, 5, seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    for step in range(120):
        flow = _flow(method, policy, _batch(method, policy, None, _COUNTS, seed=step))
        optimizer.zero_grad()
        flow.backward()
        optimizer.step()
    expected = torch.tensor(_COUNTS)[None] / 8
    torch.testing.assert_close(_leaf_probabilities(policy, 1, "trie"), expected, atol=5e-3, rtol=0)


_PERSONAL = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 0.5, 2.0]])


def test_propagated_rewards_are_reached_by_every_user() -> None:
    """Pi_u = R_u / sum R_u with R_u = frequency * S_u, for two users with different tastes."""
    method = _flower(reward="propagated")
    policy = _table(_TREE, 5, 0, users=2)
    batch = _batch(method, policy, torch.arange(3).expand(2, -1), _COUNTS, _PERSONAL)
    assert _fit(method, policy, batch) < 1e-5
    reward = torch.tensor(_COUNTS) * preference(_PERSONAL, from_mean=True)
    expected = (reward / reward.sum(1, keepdim=True)).float()
    torch.testing.assert_close(_leaf_probabilities(policy, 2, "vocab"), expected, atol=2e-3, rtol=0)


def test_no_policy_zeroes_the_residuals_of_div() -> None:
    """Items 0 and 1 share the first token, whose log-reward is ln .5 / S_0 for one and ln .5 / S_1 for the other.

    Whatever u the policy gives it, (u - a)^2 + (u - b)^2 >= (a - b)^2 / 2, and these are two of the squares that
    L_flow sums over the three samples, so L_flow >= (a - b)^2 / 6.
    """
    method = _flower(reward="div", reduction="sum")
    policy = _table(_TREE, 5, 0)
    batch = _batch(method, policy, torch.arange(3)[None], _COUNTS, _PERSONAL[:1])
    s = preference(_PERSONAL, from_mean=True)[0].tolist()
    bound = (math.log(0.5) / s[0] - math.log(0.5) / s[1]) ** 2 / 6
    assert bound > 0.01
    assert _fit(method, policy, batch) >= bound


# ---- beside cross-entropy


def test_without_lam_it_is_sft_and_needs_no_scores() -> None:
    probe, sft = conformance.Probe(_flower(lam=0.0)), conformance.Probe(build(methods["sft"], {}, "test"))
    one, two = probe.learner(), sft.learner()
    assert float(one(probe.batch(one)).detach()) == float(two(sft.batch(two)).detach())
    assert probe.method.needs == frozenset()


@pytest.mark.parametrize(("reduction", "expected"), [("token", 1.7 / 3), ("item", 1.7)])
def test_cross_entropy_of_the_target_stands_beside_it(reduction: str, expected: float) -> None:
    """The target "a b" has log-probability -1 - .5 - .2 over three tokens; lam weighs the flow loss alone."""
    policy, items = _published()
    method = _flower(reward="frequency", lam=0.25, sft_reduction=reduction, reduction="sum")
    log: dict[str, float] = {}
    batch = _batch(method, policy, items, _COUNTS, log=log)
    loss = float(Learner(policy, method, None)(batch).detach())
    assert log["nll"] == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(expected + 0.25 * (1.135989 + 0.021465) / 2, rel=1e-5)


@pytest.mark.parametrize(("weight", "lam"), [(0.0, 0.25), (2.0, 0.25), (2.0, 0.0)])
def test_cross_entropy_has_a_weight_of_its_own(weight: float, lam: float) -> None:
    """It is 1.7 / 3 and the flow loss (1.135989 + .021465) / 2, as above."""
    policy, items = _published()
    method = _flower(reward="frequency", lam=lam, sft_weight=weight, reduction="sum")
    loss = float(Learner(policy, method, None)(_batch(method, policy, items, _COUNTS)).detach())
    assert loss == pytest.approx(weight * 1.7 / 3 + lam * (1.135989 + 0.021465) / 2, rel=1e-5)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="lam: 0 and sft_weight: 0 leave nothing to train"):
        _flower(lam=0.0, sft_weight=0.0)


def test_diagnostics_say_how_far_from_the_reward_the_samples_are() -> None:
    """Residuals (-.306853, -.212318, -.2) and (-.006853, -.1); item 0 is the target, of prompt 0 only."""
    policy, items = _published()
    log: dict[str, float] = {}
    method = _flower(reward="frequency")
    batch = _batch(method, policy, items, _COUNTS, log=log)
    Learner(policy, method, None)(batch)
    residuals = torch.tensor([-0.306853, -0.212318, -0.2, -0.006853, -0.1])
    assert log["flow"] == pytest.approx(0.098243, abs=1e-6)
    assert log["residual_mean"] == pytest.approx(float(residuals.mean()), abs=1e-5)
    assert log["residual_std"] == pytest.approx(float(residuals.std(correction=0)), abs=1e-5)
    assert log["item_log_ratio"] == pytest.approx((-0.719171 - 0.106853) / 2, abs=1e-5)
    assert log["log_reward"] == pytest.approx((math.log(3 / 8) + math.log(4 / 8)) / 2, abs=1e-5)
    assert log["hit"] == 0.5
    assert "score" not in log


def test_diagnostics_leave_out_what_is_behind_the_end_or_absent() -> None:
    """Of "add" only the two tokens of "d" count: log R = ln .5 + 2 ln S, log pi = -.7 - .1."""
    policy, _ = _published()
    log: dict[str, float] = {}
    method = _flower(reward="add")
    logits = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.0, 0.5]])
    batch = _batch(method, policy, torch.tensor([[2], [-1]]), _COUNTS, logits, log=log)
    Learner(policy, method, None)(batch)
    s = float(preference(logits, from_mean=False)[0, 2])
    log_reward = math.log(0.5) + 2 * math.log(s)
    assert log["score"] == pytest.approx(s, rel=1e-5)
    assert log["log_reward"] == pytest.approx(log_reward, rel=1e-5)
    assert log["item_log_ratio"] == pytest.approx(-0.8 - log_reward, rel=1e-5)
    assert log["residual_mean"] == pytest.approx((-0.8 - log_reward) / 2, rel=1e-5)
    assert log["hit"] == 0


def test_only_the_frequency_needs_no_scores() -> None:
    needs = {reward: _flower(reward=reward).needs for reward in ("div", "add", "propagated", "frequency")}
    collab = frozenset({"collab"})
    assert needs == {"div": collab, "add": collab, "propagated": collab, "frequency": frozenset()}


def test_the_code_form_refuses_the_trie_measure() -> None:
    with pytest.raises(ConfigError, match="policy_measure: vocab"):
        _flower(form="code", policy_measure="trie")


@pytest.mark.parametrize("granularity", [0, "title", 1.5])
def test_a_granularity_is_a_count_or_item(granularity: object) -> None:
    with pytest.raises(ConfigError):
        _flower(granularity=granularity)
