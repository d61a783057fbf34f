"""A small results folder, written by arithmetic: every value is a multiple of 1/64."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

SEEDS = (42, 43, 44)
USERS = 64
METRICS = ("recall@10", "ndcg@10", "dgu@10")
METHODS = ("sft", "dpo", "ppo", "most-popular")
STRENGTH = {"sft": 5, "dpo": 9, "ppo": 6, "most-popular": 2}
EXTRA = {"rqvae": 3}  # what a backbone adds


def write_suite(root: Path, **changes: Any) -> None:
    suite = {
        "name": "tiny_suite",
        "seeds": list(SEEDS),
        "datasets": [{"name": n, "label": n} for n in ("beauty", "yelp")],
        "backbones": [{"name": n, "label": n} for n in ("tiger", "letter")],
        "methods": [{"name": n, "label": n} for n in METHODS],
        "metrics": list(METRICS),
        "stats": {"primary": "ndcg@10", "baseline": "sft"},
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "suite.json").write_text(json.dumps(suite | changes))


def write_cell(root: Path, dataset: str, backbone: str, method: str, seed: int, **changes: Any) -> Path:
    """Write one record; user u hits if (11 u + 5 seed) mod 16 < the strength of method and backbone."""
    folder = root / "cells" / dataset / backbone / method / f"seed-{seed}"
    folder.mkdir(parents=True)
    u = np.arange(USERS)
    jitter = (u * u + seed * len(method)) % 3 if method != "most-popular" else 0
    hit = (11 * u + 5 * seed) % 16 < STRENGTH[method] + EXTRA.get(backbone, 0) + jitter
    ndcg = np.where(hit, 1 / 2 ** (u % 3), 0.0)
    users = pd.DataFrame({"user_id": u.astype(str), "target": "7", "recall@10": hit * 1.0, "ndcg@10": ndcg})
    users.to_parquet(folder / "users.parquet", index=False)
    wrong = 3 if method == "dpo" else 0
    record = {
        "schema": 1,
        "metrics": {"recall@10": hit.mean(), "ndcg@10": ndcg.mean(), "dgu@10": STRENGTH[method] / 64},
        "audit": {"users": USERS, "duplicate_users": wrong - wrong // 3, "duplicate_entries": wrong},
        "cost": {"train_s": 120.5, "examples_per_s": 64.0, "rank_s_per_1000": 1.25, "stopped_early": False},
        "provenance": {"fingerprint": f"{dataset:f<64}".replace("y", "0"), "protocol": {"dataset": dataset}},
    }
    (folder / "metrics.json").write_text(json.dumps(record | changes))
    return folder


@pytest.fixture
def cell() -> Callable[..., Path]:
    """The function that writes one record."""
    return write_cell


@pytest.fixture
def suite() -> Callable[..., None]:
    """The function that writes ``suite.json``."""
    return write_suite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All that a table must cope with, in four blocks.

    beauty/tiger: complete but for a failed and a missing cell of ppo. beauty/letter: one seed. yelp/tiger: no
    baseline. yelp/letter: nothing.
    """
    root = tmp_path / "tiny"
    write_suite(root)
    for seed in SEEDS:
        for method in ("sft", "dpo", "ppo"):
            if (method, seed) not in (("ppo", 43), ("ppo", 44)):
                write_cell(root, "beauty", "tiger", method, seed)
        write_cell(root, "beauty", "none", "most-popular", seed)
        write_cell(root, "yelp", "tiger", "dpo", seed)
    for method in ("sft", "dpo"):
        write_cell(root, "beauty", "letter", method, 42)
    failure = {"cell": "beauty/tiger/ppo seed 43", "reason": "out of memory", "log": "x.log"}
    (root / "failures.json").write_text(json.dumps([failure]))
    return root


@pytest.fixture
def transposed(tmp_path: Path) -> Path:
    """Three backbones under three methods, and two rankers without one; rows are backbones.

    beauty/sft: rqvae failed with seed 44, letter is not done. beauty/dpo: one seed, without letter. beauty/ppo:
    nothing. most-popular failed with seed 44, item-graph with every seed. yelp: one cell of most-popular.
    """
    root = tmp_path / "transposed"
    labels = {
        "backbones": ("rkmeans", "rqvae", "letter"),
        "methods": ("most-popular", "item-graph", "sft", "dpo", "ppo"),
    }
    entries = {kind: [{"name": n, "label": n} for n in names] for kind, names in labels.items()}
    write_suite(root, stats={"primary": "ndcg@10", "rows": "backbones"}, **entries)
    for seed in SEEDS:
        write_cell(root, "beauty", "rkmeans", "sft", seed)
        if seed != 44:
            write_cell(root, "beauty", "rqvae", "sft", seed)
            write_cell(root, "beauty", "none", "most-popular", seed)
    for backbone in ("rkmeans", "rqvae"):
        write_cell(root, "beauty", backbone, "dpo", 42)
    write_cell(root, "yelp", "none", "most-popular", 42)
    failed = ["rqvae/sft seed 44", "none/most-popular seed 44", *(f"none/item-graph seed {s}" for s in SEEDS)]
    lines = [{"cell": f"beauty/{cell}", "reason": "out of memory", "log": "x.log"} for cell in failed]
    (root / "failures.json").write_text(json.dumps(lines))
    return root
