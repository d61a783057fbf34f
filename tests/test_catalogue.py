"""The trie against plain Python dictionaries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.catalogue import Catalogue

_PATHS = st.lists(st.lists(st.integers(1, 4), min_size=0, max_size=3), min_size=1, max_size=25)


def _terminated(paths: list[list[int]]) -> list[list[int]]:
    """Paths of unequal length end with a token of their own."""
    return [[*p, 0] for p in paths]


@given(_PATHS)
def test_children_are_the_distinct_continuations(raw: list[list[int]]) -> None:
    paths = _terminated(raw)
    catalogue = Catalogue(paths, 5)
    trie = catalogue.trie
    prefix = {0: ()}
    for n in range(1, trie.n_nodes):
        prefix[n] = (*prefix[int(trie.parent[n])], int(trie.token[n]))  # type: ignore[assignment]
    assert sorted(prefix.values()) == sorted({tuple(p[:i]) for p in paths for i in range(len(p) + 1)})
    for n, path in prefix.items():
        children = list(range(trie.first[n], trie.first[n + 1]))
        assert all(trie.parent[c] == n for c in children)
        expected = sorted({p[len(path)] for p in paths if tuple(p[: len(path)]) == path and len(p) > len(path)})
        assert [int(trie.token[c]) for c in children] == expected
        assert trie.depth[n] == len(path)


@given(_PATHS)
def test_leaves_and_items(raw: list[list[int]]) -> None:
    paths = _terminated(raw)
    catalogue = Catalogue(paths, 5)
    for i, path in enumerate(paths):
        same = [j for j, other in enumerate(paths) if other == path]
        assert catalogue.items_of(int(catalogue.leaf_of[i])).tolist() == same
        nodes = catalogue.nodes[i, : len(path)]
        assert catalogue.trie.token[nodes].tolist() == path
    assert catalogue.leaf_sizes.sum() == len(paths)
    assert catalogue.collisions == sum(paths.count(p) > 1 for p in paths)


@given(_PATHS, st.integers(0, 2**32 - 1))
def test_flows_are_sums_over_the_items_below(raw: list[list[int]], seed: int) -> None:
    paths = _terminated(raw)
    catalogue = Catalogue(paths, 5)
    weights = np.random.default_rng(seed).random(len(paths))
    flow = catalogue.flows(weights)
    assert flow[0] == pytest.approx(weights.sum())
    for i in range(len(paths)):
        for d, node in enumerate(catalogue.nodes[i, : len(paths[i])]):
            below = [j for j, p in enumerate(paths) if p[: d + 1] == paths[i][: d + 1]]
            assert flow[node] == pytest.approx(weights[below].sum())


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "at least one item"),
        ([[1, 2], []], "item 1 has an empty path"),
        ([[1, 2], [1]], "item 1 is the beginning"),
        ([[1, 9]], r"0\.\.4"),
    ],
)
def test_paths_that_make_no_trie(paths: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalogue(paths, 5)


def test_one_item_and_tensors() -> None:
    catalogue = Catalogue([[3, 1]], 5)
    tensors = catalogue.tensors(torch.device("cpu"))
    assert catalogue.tensors(torch.device("cpu")) is tensors
    assert tensors.first.tolist() == [1, 2, 3, 3]
    start, items = catalogue.leaf_items(torch.device("cpu"))
    assert items[start[2] : start[3]].tolist() == [0]
