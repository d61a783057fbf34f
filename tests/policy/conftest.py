"""Small catalogues and a small T5 whose every leaf can be enumerated."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.t5 import T5Policy, T5Shape

SMALL = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)

# Unequal paths: item 4 ends after one token, items 2 and 3 share a leaf, some tokens are forced.
UNEQUAL = [[1, 4], [1, 5, 6], [2, 4, 7, 9], [2, 4, 7, 9], [3], [1, 5, 7], [2, 4, 8], [2, 5, 6, 10]]


@pytest.fixture(scope="session")
def make() -> Callable[..., T5Policy]:
    """Build a T5 with random weights, in eval mode, from paths and a vocabulary size."""

    def build(paths: list[list[int]], vocab: int, seed: int = 0, shape: T5Shape = SMALL) -> T5Policy:
        torch.manual_seed(seed)
        return T5Policy(Catalogue(paths, vocab), shape).eval()

    return build


@pytest.fixture(scope="session")
def codes() -> Callable[..., list[list[int]]]:
    """Draw code paths as the identifiers make them: token = 1 + level * codes + code."""

    def draw(items: int, levels: int, codes: int, seed: int = 1) -> list[list[int]]:
        drawn = np.random.default_rng(seed).integers(codes, size=(items, levels))
        paths: list[list[int]] = (1 + codes * np.arange(levels) + drawn).tolist()
        return paths

    return draw


@pytest.fixture(scope="session")
def pad() -> Callable[[list[list[int]]], Tensor]:
    """Fill rows up with -1 on the right."""

    def fill(rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows), default=0)
        return torch.tensor([row + [-1] * (width - len(row)) for row in rows]).view(len(rows), width)

    return fill


@pytest.fixture
def policy(make: Callable[..., T5Policy], codes: Callable[..., list[list[int]]]) -> T5Policy:
    """Forty items on three levels of four codes; several share a leaf."""
    return make(codes(40, 3, 4), vocab=13)


@pytest.fixture
def unequal(make: Callable[..., T5Policy]) -> T5Policy:
    """Eight items on paths of one to four tokens."""
    return make(UNEQUAL, vocab=11)
