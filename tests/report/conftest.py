"""Small results folders.

``folder`` and ``transposed`` are written by arithmetic, with values that are multiples of 1/64; ``complete`` has real
lists over a catalogue, training logs and full provenance.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlrecbench.data.groups import popularity_groups
from rlrecbench.metrics import Lists, Reference, audit, evaluate

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


ITEMS, ROWS = 48, 80  # of a complete data set
COMPLETE_METRICS = ("recall@5", "recall@10", "ndcg@10", "dgu@10", "mgu@10", "entropy@10", "ttr@10", "kl-popularity@10")


def write_data(root: Path, dataset: str) -> Reference:
    """Write ``items.parquet`` and ``rows.parquet``: two items share a title, popularity falls with the number."""
    rng = np.random.default_rng(len(dataset))
    titles = [
        f"The {('Red', 'Blue', 'Old', 'New')[i % 4]} {('House', 'River', 'Song')[i % 3]} {i}" for i in range(ITEMS)
    ]
    titles[5] = titles[4]
    ids = np.array([f"i{i}" for i in range(ITEMS)])
    weight = 1 / np.arange(1, ITEMS + 1)
    histories = [rng.choice(ITEMS, rng.integers(2, 9), replace=False, p=weight / weight.sum()) for _ in range(ROWS)]
    flat = np.concatenate(histories)
    title_of, names = pd.factorize(np.array(titles, object))
    groups = popularity_groups(title_of[flat].astype(np.int64), len(names))
    frequency = np.bincount(flat, minlength=ITEMS)
    folder = root / "data" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    items = {"item_id": ids, "title": titles, "group": groups[title_of].astype("int8"), "frequency": frequency}
    pd.DataFrame(items).to_parquet(folder / "items.parquet", index=False)
    target = rng.choice(ITEMS, ROWS, p=weight / weight.sum())
    rows = {
        "user_id": [f"u{i}" for i in range(ROWS)],
        "history": [list(ids[h]) for h in histories],
        "target": ids[target],
    }
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet", index=False)
    return Reference([str(n) for n in names], title_of.astype(np.int64), frequency.astype(np.int64), groups)


def write_lists(
    root: Path, dataset: str, backbone: str, method: str, seed: int, strength: float, **settings: Any
) -> Path:
    """Write a whole cell; the target's score is raised by ``strength``, every item's by its popularity."""
    reference = write_data(root, dataset)
    rows = pd.read_parquet(root / "data" / dataset / "rows.parquet")
    target = np.array([int(i[1:]) for i in rows["target"]])
    rng = np.random.default_rng([seed, len(method), len(backbone)])
    score = rng.normal(size=(ROWS, ITEMS)) + 0.03 * reference.item_frequency
    score[np.arange(ROWS), target] += strength
    ranked = np.argsort(-score, 1, kind="stable")[:, :10]
    lists = Lists(ranked, target, reference)
    found = evaluate(lists, COMPLETE_METRICS)
    folder = root / "cells" / dataset / backbone / method / f"seed-{seed}"
    folder.mkdir(parents=True)
    users = pd.DataFrame({"user_id": rows["user_id"], "target": rows["target"]})
    users["rank"] = pd.array(found.rank, dtype="Int32")
    users.loc[found.rank == 0, "rank"] = pd.NA
    users.assign(**found.per_user).to_parquet(folder / "users.parquet", index=False)
    flat = {
        "user_id": np.repeat(rows["user_id"].to_numpy(), 10),
        "rank": np.tile(np.arange(1, 11, dtype=np.int32), ROWS),
        "item_id": [f"i{i}" for i in ranked.ravel()],
        "score": np.take_along_axis(score, ranked, 1).ravel().astype(np.float32),
    }
    pd.DataFrame(flat).to_parquet(folder / "ranked.parquet", index=False)
    trained = backbone != "none"
    if trained:
        lines: list[dict[str, Any]] = [
            {"step": s, "epoch": s // 50, "loss": 3 / (1 + s / 50), "lr": 1e-3} for s in range(0, 200, 10)
        ]
        lines += [{"step": 200, "epoch": 3, "valid/ndcg@10": found.values["ndcg@10"] / 2, "seconds": 12.0}]
        (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cost = {"rank_s_per_1000": 0.5, "train_s": 60 * strength, "valid_ndcg10": found.values["ndcg@10"] / 2}
    provenance = {
        "key": f"{seed:064x}",
        "fingerprint": f"{len(dataset):064x}",
        "protocol": {"dataset": dataset, "k": 10, "beams": 20, "limit_users": None},
        "method": method,
        "label": method,
        "settings": {"beta": 0.1, **settings},
        "budget": {"epochs": 3, "lr": 1e-3, "batch_size": 64} if trained else None,
        "backbone": {"preset": "tiny"} if trained else None,
        "seed": seed,
        "commit": "0" * 40,
        "device": "cpu (x86_64)",
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"rlrecbench": "0.1.0"},
        "stages": {"train/abc": {"wall_s": 60.0, "date": "2026-01-02T03:04:05+00:00"}},
    }
    record = {
        "schema": 1,
        "metrics": found.values,
        "audit": audit(lists),
        "cost": cost if trained else {"rank_s_per_1000": 0.5},
        "provenance": provenance,
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def whole_cell() -> Callable[..., Path]:
    """The function that writes one record with lists."""
    return write_lists


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """Two data sets, two backbones, three seeds, with everything that ``run`` writes; one failed cell."""
    root = tmp_path / "complete"
    write_suite(root, name="complete", metrics=list(COMPLETE_METRICS))
    for dataset in ("beauty", "yelp"):
        for seed in SEEDS:
            for backbone, extra in (("tiger", 0.0), ("letter", 0.5)):
                for method, strength in (("sft", 1.0), ("dpo", 2.0), ("ppo", 0.8)):
                    if (dataset, backbone, method, seed) != ("yelp", "letter", "ppo", 44):
                        write_lists(root, dataset, backbone, method, seed, strength + extra)
            write_lists(root, dataset, "none", "most-popular", seed, 0.1)
    failure = {"cell": "yelp/letter/ppo seed 44", "reason": "out of memory", "log": "x.log"}
    (root / "failures.json").write_text(json.dumps([failure]))
    return root
