"""The trie against plain Python dictionaries."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.catalogue import Catalogue, Runs, Trie, TrieTensors

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
    assert catalogue.runs(torch.device("cpu")).item.tolist() == [0, 0, 0]


# Nodes: 0 | 1: "1", 2: "2", 3: "3" | 4: "14", 5: "15", 6: "24", 7: "25" | 8: "156", 9: "157", 10: "247", 11: "248",
# 12: "256" | 13: "2479", 14: "256 10". Items 2 and 3 share leaf 13.
_UNEQUAL = [[1, 4], [1, 5, 6], [2, 4, 7, 9], [2, 4, 7, 9], [3], [1, 5, 7], [2, 4, 8], [2, 5, 6, 10]]


def test_fans_by_hand() -> None:
    catalogue = Catalogue(_UNEQUAL, 11)
    assert [catalogue.fan(depth) for depth in range(5)] == [3, 2, 2, 1, 0]
    assert catalogue.fans == [1, 3]


@pytest.mark.parametrize(
    ("children", "fans"), [(1, [1]), (8, [1, 8]), (9, [1, 8, 9]), (64, [1, 8, 64]), (65, [1, 8, 64, 65])]
)
def test_numbers_of_children_are_rounded_up_to_powers_of_eight(children: int, fans: list[int]) -> None:
    assert Catalogue([[token] for token in range(children)], 65).fans == fans


def test_fans_of_the_largest_vocabularies() -> None:
    """8 ** 6 = 262,144 is the last power."""
    assert Catalogue(np.arange(262_145)[:, None], 262_145).fans == [1, 8, 64, 512, 4096, 32768, 262144, 262145]


def test_longest_path_through_each_node_by_hand() -> None:
    catalogue = Catalogue(_UNEQUAL, 11)
    found = catalogue.longest(torch.device("cpu"))
    assert found.dtype == torch.float32
    assert found.tolist() == [4, 3, 4, 1, 2, 3, 4, 4, 3, 3, 4, 3, 4, 4, 4]
    assert catalogue.longest(torch.device("cpu")) is found


def test_runs_of_only_children_by_hand() -> None:
    """Nodes "25", "256" and "256 10" are a run: its last inner node is "256", of depth 3; the fork above it is "2"."""
    catalogue = Catalogue(_UNEQUAL, 11)
    runs = catalogue.runs(torch.device("cpu"))
    assert catalogue.runs(torch.device("cpu")) is runs
    inner = [0, 1, 2, 5, 6, 7, 10, 12]
    assert runs.end[inner].tolist() == [0, 1, 1, 2, 2, 3, 3, 3]
    assert runs.fork_above.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 5, 5, 6, 6, 2, 6, 2]
    for node in range(1, 15):
        assert node in catalogue.nodes[int(runs.item[node])]


def test_a_run_may_begin_at_the_root() -> None:
    """1, 12, 123 lead to the fork 1234 or 1235; the root is no part of the run, but counts as the fork above it."""
    runs = Catalogue([[1, 2, 3, 4], [1, 2, 3, 5]], 6).runs(torch.device("cpu"))
    assert runs.end[:4].tolist() == [0, 3, 3, 3]
    assert runs.fork_above.tolist() == [0, 0, 0, 0, 3, 3]


def test_forks_have_two_children_or_more() -> None:
    forks = Catalogue(_UNEQUAL, 11).tensors(torch.device("cpu")).forks
    assert forks.nonzero().flatten().tolist() == [0, 1, 2, 5, 6]


def test_sizes_by_hand() -> None:
    catalogue = Catalogue(_UNEQUAL, 11)
    assert (catalogue.n_items, catalogue.vocab, catalogue.max_length, catalogue.collisions) == (8, 11, 4, 2)
    assert catalogue.lengths.tolist() == [2, 3, 4, 4, 1, 3, 3, 4]
    assert catalogue.trie.levels.tolist() == [0, 1, 4, 8, 13, 15]
    assert catalogue.trie.parent.tolist() == [-1, 0, 0, 0, 1, 1, 2, 2, 5, 5, 6, 6, 7, 10, 12]
    assert catalogue.trie.token.tolist() == [-1, 1, 2, 3, 4, 5, 4, 5, 6, 7, 7, 8, 6, 9, 10]
    assert catalogue.leaf_of.tolist() == [4, 8, 13, 13, 3, 9, 11, 14]
    assert catalogue.paths[0].tolist() == [1, 4, -1, -1]
    assert catalogue.nodes[0].tolist() == [1, 4, -1, -1]
    assert (catalogue.content, Catalogue(_UNEQUAL, 11, content=3).content) == (4, 3)


def test_the_smallest_and_the_largest_token() -> None:
    assert Catalogue([[0], [4]], 5).trie.token.tolist() == [-1, 0, 4]
    with pytest.raises(ValueError, match=r"0\.\.4"):
        Catalogue([[0], [5]], 5)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        Catalogue([[0], [-2]], 5)


def test_every_path_ends_with_the_terminator() -> None:
    assert Catalogue([[1, 0], [2, 3, 0]], 5, terminator=0).terminator == 0
    with pytest.raises(ValueError, match="end with the terminator 0"):
        Catalogue([[1, 0], [2, 3]], 5, terminator=0)
    assert Catalogue([[1, 0], [2, 3]], 5).terminator is None


@pytest.mark.parametrize("kind", [Trie, TrieTensors, Runs])
def test_what_is_kept_for_all_cannot_be_changed(kind: type) -> None:
    made = kind(*(np.zeros(1) for _ in fields(kind)))
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(kind)[0].name, np.ones(1))
