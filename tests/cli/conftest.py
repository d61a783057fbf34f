"""A results folder of 24 users, 16 items and lists of four, made by arithmetic, with the data that it rests on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rlrecbench.metrics import Lists, Reference, evaluate

U, N, K, GROUPS = 24, 16, 4, 8
SEEDS = (42, 43, 44)
METRICS = ("recall@4", "ndcg@4", "dgu@4", "coverage@4")
SHIFT = {"sft": 1, "dpo": 5, "most-popular": 0}  # where a method's lists begin, times the seed
STRENGTH = {"sft": 6, "dpo": 9, "most-popular": 0}  # a user is hit if (11 u + 5 seed) mod 16 is below

Ints = NDArray[np.int64]
USERS = np.array([f"u{u}" for u in range(U)])
ITEMS = np.array([f"i{i}" for i in range(N)])
TARGET: Ints = (5 * np.arange(U) + 2) % N
HISTORY = [1 + u % 12 if u % 4 else 21 for u in range(U)]  # lengths


def lists_of(method: str, seed: int) -> Ints:
    """Item numbers, [U, K]: consecutive items, the target moved to place u mod 3 of the users that are hit."""
    u = np.arange(U)
    start = 0 * u if method == "most-popular" else 3 * u + SHIFT[method] * seed
    ranked = (start[:, None] + np.arange(K)) % N
    for user in u[(11 * u + 5 * seed) % 16 < STRENGTH[method]]:
        rest = [i for i in ranked[user] if i != TARGET[user]]
        ranked[user] = [*rest[: user % 3], TARGET[user], *rest[user % 3 :]][:K]
    return ranked.astype(np.int64)


def reference() -> Reference:
    titles = [f"Title {i}" for i in range(N)]
    return Reference(titles, np.arange(N), np.arange(N, 0, -1), np.arange(N) // 2)


def write_cell(root: Path, backbone: str, method: str, seed: int, **changes: Any) -> Path:
    """Write one record; ``like`` takes the lists of another (method, seed), ``keep`` leaves users out."""
    ranked = lists_of(*changes.pop("like", (method, seed)))
    keep = changes.pop("keep", np.arange(U))
    found = evaluate(Lists(ranked[keep], TARGET[keep], reference()), METRICS)
    folder = root / "cells" / "toy" / backbone / method / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rank = pd.array(np.where(found.rank > 0, found.rank, -1), dtype="Int32")
    rank[found.rank == 0] = pd.NA
    users = pd.DataFrame({"user_id": USERS[keep], "target": ITEMS[TARGET[keep]], "rank": rank, **found.per_user})
    users.to_parquet(folder / "users.parquet", index=False)
    flat = {
        "user_id": np.repeat(USERS[keep], K),
        "rank": np.tile(np.arange(1, K + 1), len(keep)),
        "item_id": ITEMS[ranked[keep].ravel()],
        "score": np.tile(-np.arange(K) * 0.5, len(keep)),
    }
    pd.DataFrame(flat).to_parquet(folder / "ranked.parquet", index=False)
    protocol = {"dataset": "toy", "k": K, "options": {"max_history": 20}, **changes.pop("protocol", {})}
    provenance = {
        "fingerprint": json.dumps(protocol, sort_keys=True),
        "protocol": protocol,
        "date": f"2026-01-0{seed - 41}",
    }
    record = {"schema": 1, "metrics": found.values, "audit": {}, "cost": {}, "provenance": provenance}
    (folder / "metrics.json").write_text(json.dumps(record | changes))
    return folder


def write_data(root: Path) -> None:
    folder = root / "data" / "toy"
    folder.mkdir(parents=True)
    known = reference()
    items = {"item_id": ITEMS, "title": known.titles, "group": np.arange(N) // 2, "frequency": known.item_frequency}
    pd.DataFrame(items).to_parquet(folder / "items.parquet", index=False)
    histories = [[str(ITEMS[(u + j) % N]) for j in range(length)] for u, length in enumerate(HISTORY)]
    rows = {"user_id": USERS, "history": histories, "target": ITEMS[TARGET]}
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet", index=False)


def write_folder(root: Path) -> Path:
    """Write three methods on one backbone, three seeds each."""
    root.mkdir(parents=True)
    suite = {
        "name": "toys",
        "seeds": list(SEEDS),
        "datasets": [{"name": "toy", "label": "toy"}],
        "backbones": [{"name": "tiger", "label": "tiger"}],
        "methods": [{"name": name, "label": name} for name in SHIFT],
        "metrics": list(METRICS),
        "stats": {"primary": "ndcg@4", "baseline": "sft"},
    }
    (root / "suite.json").write_text(json.dumps(suite))
    for seed in SEEDS:
        for method in SHIFT:
            write_cell(root, "none" if method == "most-popular" else "tiger", method, seed)
    write_data(root)
    return root


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A results folder."""
    return write_folder(tmp_path / "toys")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same folder once more."""
    return write_folder(tmp_path / "other")


@pytest.fixture
def cell() -> Callable[..., Path]:
    """The function that writes one record."""
    return write_cell


@pytest.fixture
def ranking() -> Callable[[str, int], Ints]:
    """The function that makes a cell's lists."""
    return lists_of
