"""A small world with a pattern to learn: after item i comes i + 1, mostly."""

import numpy as np
import pandas as pd
import pytest

from rlrecbench.data.frame import Dataset, Examples

N_ITEMS = 40


def sequences(rng: np.random.Generator, users: int) -> list[list[int]]:
    """Walks around a ring of items that go on by one step, and now and then jump."""
    out = []
    for _ in range(users):
        walk = [int(rng.integers(N_ITEMS))]
        while len(walk) < 12:
            step = 1 if rng.random() < 0.9 else int(rng.integers(N_ITEMS))
            walk.append((walk[-1] + step) % N_ITEMS)
        out.append(walk)
    return out


def part(walks: list[list[int]], ends: range) -> Examples:
    """The rows that predict position ``end`` from at most 6 items before it."""
    rows = [(user, walk[max(0, end - 6) : end], walk[end]) for user, walk in enumerate(walks) for end in ends]
    user, history, target = zip(*rows, strict=True)
    return Examples.make(list(user), list(history), list(target))


@pytest.fixture(scope="session")
def ring() -> Dataset:
    walks = sequences(np.random.default_rng(0), 150)
    ids = [str(i) for i in range(N_ITEMS)]
    return Dataset(
        "ring",
        "leave-one-out",
        pd.DataFrame({"item_id": ids, "title": ids, "text": ids}),
        np.arange(150).astype(str),
        part(walks, range(1, 10)),
        part(walks, range(10, 11)),
        part(walks, range(11, 12)),
        {"max_history": 6},
        "",
    )
