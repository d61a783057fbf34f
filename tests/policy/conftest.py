"""Small catalogues and a small T5 whose every leaf can be enumerated."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.t5 import T5Policy, T5Shape

SMALL = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)


def policy_of(paths: list[list[int]], vocab: int, seed: int = 0, shape: T5Shape = SMALL) -> T5Policy:
    """A T5 with random weights, in eval mode."""
    torch.manual_seed(seed)
    return T5Policy(Catalogue(paths, vocab), shape).eval()


def random_paths(rng: np.random.Generator, items: int, levels: int, codes: int) -> list[list[int]]:
    """Code paths as the identifiers make them: token = 1 + level * codes + code."""
    drawn = rng.integers(codes, size=(items, levels))
    paths: list[list[int]] = (1 + codes * np.arange(levels) + drawn).tolist()
    return paths


def histories(rows: list[list[int]]) -> Tensor:
    """Fill up with -1."""
    width = max(map(len, rows), default=0)
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows]).view(len(rows), width)


@pytest.fixture
def policy() -> T5Policy:
    """Forty items on three levels of four codes; several share a leaf."""
    return policy_of(random_paths(np.random.default_rng(1), 40, 3, 4), vocab=13)


# Unequal paths: item 4 ends after one token, items 2 and 3 share a leaf, 7 follows a forced token.
UNEQUAL = [[1, 4], [1, 5, 6], [2, 4, 7, 9], [2, 4, 7, 9], [3], [1, 5, 7], [2, 4, 8], [2, 5, 6, 10]]


@pytest.fixture
def unequal() -> T5Policy:
    """Eight items on paths of one to four tokens."""
    return policy_of(UNEQUAL, vocab=11)
