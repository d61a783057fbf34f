"""The flow through every prefix of the candidates' paths, against sums over plain lists of paths."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.method import Draw, Prompts
from rlrecbench.policy.base import Policy

_CPU = torch.device("cpu")
_Paths = list[list[int]]
# Unequal paths that end with 0; equal ones share a leaf.
_PATHS = st.lists(st.lists(st.integers(1, 3), max_size=4).map(lambda p: [*p, 0]), min_size=1, max_size=20)
_SEED = st.integers(0, 2**32 - 1)


def _draw(paths: _Paths, prompts: int = 1) -> Draw:
    rows = torch.arange(prompts)
    policy = cast(Policy, SimpleNamespace(catalogue=Catalogue(paths, 4, terminator=0)))
    given_prompts = Prompts("train", rows, torch.full((prompts, 1), -1))
    return Draw(given_prompts, torch.zeros_like(rows), policy, torch.Generator(), torch.ones(len(paths)))


def _below(paths: _Paths, item: int, length: int) -> list[int]:
    """Items whose path begins like that of ``item``."""
    return [i for i, path in enumerate(paths) if path[:length] == paths[item][:length]]


@given(_PATHS)
def test_spans_hold_exactly_the_items_below_each_node(paths: _Paths) -> None:
    catalogue = Catalogue(paths, 4, terminator=0)
    order, first, last = catalogue.spans(_CPU)
    assert sorted(order.tolist()) == list(range(len(paths)))
    assert (int(first[0]), int(last[0])) == (0, len(paths))
    for item, path in enumerate(paths):
        for depth, node in enumerate(catalogue.nodes[item, : len(path)].tolist()):
            found = order[int(first[node]) : int(last[node])].tolist()
            assert sorted(found) == _below(paths, item, depth + 1)


def test_spans_are_made_once() -> None:
    catalogue = Catalogue([[1, 0], [2, 0]], 4)
    assert catalogue.spans(_CPU) is catalogue.spans(_CPU)


@pytest.mark.parametrize("own", [False, True])
@given(paths=_PATHS, seed=_SEED)
def test_flows_are_sums_over_the_items_below(own: bool, paths: _Paths, seed: int) -> None:
    """One weight per item, or one per prompt and item; behind the end the leaf's flow is repeated."""
    generator = torch.Generator().manual_seed(seed)
    N, B, C = len(paths), 3, 4
    weights = torch.rand((B, N) if own else (N,), generator=generator, dtype=torch.float64)
    items = torch.randint(0, N, (B, C), generator=generator)
    found = _draw(paths, B).flows(items, weights)
    width = max(map(len, paths))
    assert found.shape == (B, C, width + 1)
    assert found.dtype == torch.float64
    for b in range(B):
        mine = weights[b] if own else weights
        for c in range(C):
            item = int(items[b, c])
            expected = [float(mine[_below(paths, item, min(t, len(paths[item])))].sum()) for t in range(width + 1)]
            assert found[b, c].tolist() == pytest.approx(expected, abs=1e-12)


@given(paths=_PATHS, seed=_SEED)
def test_rewards_of_brothers_sum_to_one(paths: _Paths, seed: int) -> None:
    """R_p = F(child) / F(parent) over the distinct tokens behind each prefix (Flower, eq. 10)."""
    weights = 0.1 + torch.rand(len(paths), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    flow = _draw(paths).flows(torch.arange(len(paths))[None], weights)[0]  # [N, L + 1]
    reward = flow[:, 1:] / flow[:, :-1]
    sums: dict[tuple[int, ...], dict[int, float]] = {}
    for item, path in enumerate(paths):
        for t, token in enumerate(path):
            sums.setdefault(tuple(path[:t]), {})[token] = float(reward[item, t])
    assert [sum(brothers.values()) for brothers in sums.values()] == pytest.approx([1.0] * len(sums))


def test_flows_agree_with_the_catalogues() -> None:
    """Of the six-item tree: "1" holds items 0, 1 and 4 with weights 3, 1 and 2."""
    paths = [[1, 2, 0], [1, 3, 0], [3, 0], [2, 0], [1, 0], [2, 0]]
    weights = torch.tensor([3.0, 1.0, 4.0, 5.0, 2.0, 6.0])
    draw = _draw(paths)
    found = draw.flows(torch.arange(6)[None], weights)[0]
    assert found.tolist() == [
        [21, 6, 3, 3],
        [21, 6, 1, 1],
        [21, 4, 4, 4],
        [21, 11, 11, 11],
        [21, 6, 2, 2],
        [21, 11, 11, 11],
    ]
    flow = draw.catalogue.flows(weights.double().numpy())
    assert [flow[n] for n in draw.catalogue.nodes[0]] == found[0, 1:].tolist()


def test_an_absent_candidate_has_the_first_items_flows() -> None:
    draw, weights = _draw([[1, 0], [2, 3, 0]]), torch.tensor([1.0, 2.0])
    items: Tensor = torch.tensor([[-1, 0]])
    found = draw.flows(items, weights)[0]
    assert found[0].tolist() == found[1].tolist() == [3, 1, 1, 1]


def test_small_flows_beside_large_ones_are_exact() -> None:
    """Counts up to 10^7 and halves, 20,000 items: differences of running sums lose nothing in float64."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 10**7, (20_000,), generator=generator).double()
    counts[::7] = 0.5
    paths = [[1 + i // 400, 1 + i // 20 % 20, 1 + i % 20] for i in range(20_000)]
    policy = cast(Policy, SimpleNamespace(catalogue=Catalogue(paths, 60)))
    prompts = Prompts("train", torch.zeros(1, dtype=torch.int64), torch.full((1, 1), -1))
    draw = Draw(prompts, torch.zeros(1, dtype=torch.int64), policy, generator, counts)
    found = draw.flows(torch.arange(20_000)[None], counts)[0]
    assert torch.equal(found[:, 3], counts)
    assert torch.equal(found[:, 2], counts.view(-1, 20).sum(1).repeat_interleave(20))
    assert torch.equal(found[:, 1], counts.view(-1, 400).sum(1).repeat_interleave(400))
