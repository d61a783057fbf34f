"""Items and their token paths: the trie that every generative backbone walks.

An item is a path from the root to a leaf. Several items may share a leaf (equal titles, colliding codes):
``leaf_of[item]`` and ``items_of(leaf)`` say so explicitly.

Nodes are numbered level by level, brothers side by side in the order of their tokens, so the children of
node ``n`` are exactly the nodes ``first[n] .. first[n + 1] - 1`` and the trie is four flat arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trie:
    """The prefix tree of all paths, node 0 the root.

    Attributes:
        first: Children of node n are ``first[n] .. first[n+1]-1``, [nodes + 1].
        token: Token on the edge into each node; -1 at the root, [nodes].
        parent: Parent of each node; -1 at the root, [nodes].
        depth: Tokens from the root, [nodes].
    """

    first: Ints
    token: Ints
    parent: Ints
    depth: Ints

    @property
    def n_nodes(self) -> int:
        """Number of nodes, root and leaves included."""
        return len(self.token)

    @property
    def n_children(self) -> Ints:
        """Children of each node; 0 at a leaf."""
        return np.diff(self.first)

    @cached_property
    def levels(self) -> Ints:
        """Nodes of depth d are ``levels[d] .. levels[d+1]-1``."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.depth))])


class Catalogue:
    """N items, their paths and the trie.

    Args:
        paths: Token ids of each item's path. Every path must end where no other goes on, so paths of
            unequal length need a terminator of their own.
        vocab: Size of the token vocabulary V; token ids are below it.
        content: Leading tokens of a path that say what the item is; what follows only tells equal items
            apart (a collision code). None: all of them.
        terminator: The token that ends every path, if there is one, as behind a title.

    Raises:
        ValueError: There is no item, a path is empty or a proper prefix of another, a token is out of range,
            or a path does not end with the terminator.
    """

    def __init__(
        self,
        paths: Sequence[Sequence[int]] | Ints,
        vocab: int,
        content: int | None = None,
        terminator: int | None = None,
    ) -> None:
        if len(paths) == 0:
            raise ValueError("a catalogue needs at least one item")
        self.n_items = len(paths)
        self.vocab = vocab
        self.lengths = np.array([len(p) for p in paths], np.int64)
        self.paths = np.full((self.n_items, int(self.lengths.max())), -1, np.int64)  # [N, L], -1 behind the end
        for i, path in enumerate(paths):
            self.paths[i, : len(path)] = path
        inside = np.arange(self.paths.shape[1]) < self.lengths[:, None]
        if (self.lengths == 0).any():
            raise ValueError(f"item {int(np.argmin(self.lengths))} has an empty path")
        if (self.paths[inside] < 0).any() or (self.paths[inside] >= vocab).any():
            raise ValueError(f"token ids must lie in 0..{vocab - 1}")
        if terminator is not None and (self.paths[np.arange(self.n_items), self.lengths - 1] != terminator).any():
            raise ValueError(f"every path must end with the terminator {terminator}")
        self.terminator = terminator
        self.trie, self.nodes = _grow(self.paths)
        self.content = self.paths.shape[1] if content is None else content
        self.leaf_of = self.nodes[np.arange(self.n_items), self.lengths - 1]
        inner = np.flatnonzero(self.trie.n_children[self.leaf_of])
        if len(inner):
            raise ValueError(f"the path of item {int(inner[0])} is the beginning of another item's path")
        order = np.argsort(self.leaf_of, kind="stable")
        counts = np.bincount(self.leaf_of, minlength=self.trie.n_nodes)
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self._items = order

    @property
    def max_length(self) -> int:
        """Longest path L."""
        return self.paths.shape[1]

    def items_of(self, leaf: int) -> Ints:
        """The items on a leaf, in the order of their ids."""
        return self._items[self._start[leaf] : self._start[leaf + 1]]

    def fan(self, depth: int) -> int:
        """Children of the node with most of them at a depth."""
        return int(self.trie.n_children[self.trie.levels[depth] : self.trie.levels[depth + 1]].max())

    @cached_property
    def fans(self) -> list[int]:
        """Widths that the numbers of children are rounded up to: 1, 8, 64, ... and the most there are."""
        most = int(self.trie.n_children.max())
        return [*(8**i for i in range(7) if 8**i < most), most]

    @cached_property
    def leaf_sizes(self) -> Ints:
        """Items on each node; 0 at inner nodes, [nodes]."""
        return np.diff(self._start)

    @cached_property
    def collisions(self) -> int:
        """Number of items that share their leaf with another."""
        return int((self.leaf_sizes[self.leaf_of] > 1).sum())

    def flows(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum leaf weights up the trie: F(n) = sum of the weights of all items below n, [nodes].

        Args:
            weights: Non-negative weight of each item, [N].

        Source: Flower, section 3.2: a node's flow is the sum of its children's.
        """
        flow = np.bincount(self.leaf_of, weights, minlength=self.trie.n_nodes).astype(np.float64)
        for d in range(len(self.trie.levels) - 2, 0, -1):
            level = slice(self.trie.levels[d], self.trie.levels[d + 1])
            flow += np.bincount(self.trie.parent[level], flow[level], minlength=len(flow))
        return flow

    def longest(self, device: torch.device) -> Tensor:
        """Tokens of the longest path through each node, [nodes], float32."""
        cache: dict[torch.device, Tensor] = self.__dict__.setdefault("_longest", {})
        if device not in cache:
            most = self.trie.depth.astype(np.float32)
            for d in range(len(self.trie.levels) - 2, 0, -1):
                level = slice(self.trie.levels[d], self.trie.levels[d + 1])
                np.maximum.at(most, self.trie.parent[level], most[level])
            cache[device] = torch.as_tensor(most, device=device)
        return cache[device]

    def runs(self, device: torch.device) -> "Runs":
        """The runs of only children in the trie; moved to a device once and kept."""
        cache: dict[torch.device, Runs] = self.__dict__.setdefault("_runs", {})
        if device not in cache:
            trie, size = self.trie, self.trie.n_children
            item = np.zeros(trie.n_nodes, np.int64)
            inside = self.nodes >= 0
            item[self.nodes[inside]] = np.broadcast_to(np.arange(self.n_items)[:, None], inside.shape)[inside]
            end, above = trie.depth.copy(), np.zeros(trie.n_nodes, np.int64)
            for d in range(1, len(trie.levels) - 1):
                level = np.arange(trie.levels[d], trie.levels[d + 1])
                parent = trie.parent[level]
                above[level] = np.where((size[parent] > 1) | (parent == 0), parent, above[parent])
            for d in range(len(trie.levels) - 2, 0, -1):
                level = np.arange(trie.levels[d], trie.levels[d + 1])
                only = level[size[level] == 1]
                follows = only[size[trie.first[only]] > 0]
                end[follows] = end[trie.first[follows]]
            cache[device] = Runs(*(torch.as_tensor(a, device=device) for a in (item, end, above)))
        return cache[device]

    def leaf_items(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Items sorted by leaf: those of leaf n are ``items[start[n]:start[n + 1]]``. Returns (start, items)."""
        cache: dict[torch.device, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_leaf_items", {})
        if device not in cache:
            cache[device] = (
                torch.as_tensor(self._start, device=device),
                torch.as_tensor(self._items, device=device),
            )
        return cache[device]

    def spans(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Items in the order of their paths, and where in it each node's items stand.

        The items below node n are ``order[first[n]:last[n]]``. Returns (order [N], first [nodes], last [nodes]).
        """
        cache: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = self.__dict__.setdefault("_spans", {})
        if device not in cache:
            order = np.lexsort(self.paths.T[::-1])
            place = np.empty(self.n_items, np.int64)
            place[order] = np.arange(self.n_items)
            first = np.full(self.trie.n_nodes, self.n_items)
            first[0] = 0
            inside = self.nodes >= 0
            np.minimum.at(first, self.nodes[inside], np.broadcast_to(place[:, None], inside.shape)[inside])
            count = self.flows(np.ones(self.n_items)).astype(np.int64)
            cache[device] = (
                torch.as_tensor(order, device=device),
                torch.as_tensor(first, device=device),
                torch.as_tensor(first + count, device=device),
            )
        return cache[device]

    def tensors(self, device: torch.device) -> "TrieTensors":
        """The arrays as tensors on a device; moved once and kept."""
        cache: dict[torch.device, TrieTensors] = self.__dict__.setdefault("_tensors", {})
        if device not in cache:
            # Padding nodes of short paths point at the root; ``lengths`` says where a path ends.
            arrays = (
                self.trie.first,
                self.trie.token,
                self.trie.parent,
                self.trie.depth,
                self.trie.n_children > 1,
                self.paths,
                self.nodes,
                self.lengths,
                self.leaf_of,
            )
            cache[device] = TrieTensors(*(torch.as_tensor(a, device=device) for a in arrays))
        return cache[device]


@dataclass(frozen=True)
class TrieTensors:
    """The trie on a device.

    Attributes:
        first: [nodes + 1].
        token: [nodes].
        parent: [nodes].
        depth: [nodes].
        forks: Whether a node has several children, [nodes].
        paths: [N, L], -1 behind the end.
        nodes: Node reached after each token of each item's path, -1 behind the end, [N, L].
        lengths: [N].
        leaf_of: [N].
    """

    first: Tensor
    token: Tensor
    parent: Tensor
    depth: Tensor
    forks: Tensor
    paths: Tensor
    nodes: Tensor
    lengths: Tensor
    leaf_of: Tensor


@dataclass(frozen=True)
class Runs:
    """Where the trie leaves no choice, on a device.

    Attributes:
        item: An item whose path goes through each node, [nodes].
        end: Depth of the last inner node that follows each inner node through only children, its own if none, [nodes].
        fork_above: Nearest node above each one that has several children, or the root, [nodes].
    """

    item: Tensor
    end: Tensor
    fork_above: Tensor


def _grow(paths: Ints) -> tuple[Trie, Ints]:
    """Number the distinct prefixes level by level; return the trie and each path's nodes [N, L]."""
    n, width = paths.shape
    nodes = np.full((n, width), -1, np.int64)
    tokens, parents, depths = [np.array([-1])], [np.array([-1])], [np.array([0])]
    at = np.zeros(n, np.int64)
    size = 1
    for d in range(width):
        live = np.flatnonzero(paths[:, d] >= 0)
        pairs = np.stack([at[live], paths[live, d]], 1)
        distinct, index = np.unique(pairs, axis=0, return_inverse=True)
        at[live] = size + index.reshape(-1)
        nodes[live, d] = at[live]
        tokens.append(distinct[:, 1])
        parents.append(distinct[:, 0])
        depths.append(np.full(len(distinct), d + 1))
        size += len(distinct)
    token, parent, depth = (np.concatenate(x).astype(np.int64) for x in (tokens, parents, depths))
    children = np.bincount(parent[1:], minlength=size)
    return Trie(np.concatenate([[1], 1 + np.cumsum(children)]), token, parent, depth), nodes
