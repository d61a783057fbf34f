"""The small results folder of the tables, with all that the page shows besides, and text that is markup."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

NASTY = "ppo<img src=x onerror=alert(1)>\"&'"
TITLE = "<script>alert(1)</script> \"Tom\" & 'Jerry'"
REASON = 'out of <b>memory</b> & "more"'
ITEMS = 16
WIDE = 40  # users of the big folder
PROVENANCE: dict[str, Any] = {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "date": "2026-01-02T03:04:05+00:00",
    "device": "cpu (x86_64)",
    "settings": {"beta": 0.1},
    "budget": {"epochs": 2, "lr": 0.001},
    "stages": {"train/abc": {"wall_s": 1.5}, "score/def": {"wall_s": 0.5}},
}


class Hostile(NamedTuple):
    """Text that must arrive on the page as text."""

    label: str = NASTY
    title: str = TITLE
    reason: str = REASON


@pytest.fixture
def hostile() -> Hostile:
    """The hostile label, title and reason of ``page_folder``."""
    return Hostile()


@pytest.fixture
def page_folder(folder: Path) -> Path:
    """Four blocks; beauty has its catalogue, yelp does not; labels, titles and reasons are hostile."""
    for name in ("tiger", "letter"):
        old = folder / "cells" / "beauty" / name / "ppo"
        if old.exists():
            shutil.move(old, old.with_name(NASTY))
    suite = json.loads((folder / "suite.json").read_text())
    suite["methods"][2]["label"] = NASTY
    (folder / "suite.json").write_text(json.dumps(suite))
    failure = {"cell": f"beauty/tiger/{NASTY} seed 43", "reason": REASON, "log": "x.log"}
    (folder / "failures.json").write_text(json.dumps([failure]))
    write_data(folder / "data" / "beauty", users=64)
    for path in sorted(folder.glob("cells/*/*/*/seed-*/metrics.json")):
        record = json.loads(path.read_text())
        record["provenance"] |= PROVENANCE
        path.write_text(json.dumps(record))
        write_lists(path.parent, int(path.parent.name[5:]), users=64)
        if path.parts[-4] != "none":
            write_log(path.parent, int(path.parent.name[5:]))
    return folder


def write_data(folder: Path, users: int) -> None:
    """Write the catalogue, two items a group, and the test rows."""
    folder.mkdir(parents=True)
    n = np.arange(ITEMS)
    titles = [TITLE if i == 7 else f"A title of the usual length, number {i}" for i in n]
    items = pd.DataFrame({"item_id": n.astype(str), "title": titles, "group": n // 2, "frequency": 2 ** (8 - n // 2)})
    items.to_parquet(folder / "items.parquet", index=False)
    histories = [[str((u + i) % ITEMS) for i in range(3)] for u in range(users)]
    rows = pd.DataFrame({"user_id": [str(u) for u in range(users)], "history": histories, "target": "7"})
    rows.to_parquet(folder / "rows.parquet", index=False)


def write_lists(folder: Path, seed: int, users: int) -> None:
    """Write lists of five: place j of user u holds item (u + seed + 3 j) mod 16, and user 5's last is no item."""
    u, j = (grid.ravel() for grid in np.mgrid[0:users, 0:5])
    item = ((u + seed + 3 * j) % ITEMS).astype(str)
    item[(u == 5) & (j == 4)] = ""
    ranked = pd.DataFrame({"user_id": u.astype(str), "rank": j + 1, "item_id": item, "score": -1.0 * j})
    ranked.to_parquet(folder / "ranked.parquet", index=False)


def write_log(folder: Path, seed: int) -> None:
    """Write 300 losses that fall from 3 to 1.005, and three validations whose second is best."""
    lines = [{"step": t, "epoch": 0, "loss": 3 - 2 * t / 301 + (seed - 42) / 64} for t in range(0, 300)]
    valid = ((100, 0.125), (200, 0.25), (300, 0.1875))
    lines += [{"step": t, "epoch": 0, "valid/ndcg@10": v, "seconds": 1.0} for t, v in valid]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def big_folder(tmp_path: Path) -> Path:
    """12 methods x 2 backbones x 2 data sets x 3 seeds, every cell with lists of ten and a log; few users."""
    root = tmp_path / "big"
    names = {"datasets": ["beauty", "yelp"], "backbones": ["tiger", "letter"], "methods": ["sft"]}
    names["methods"] += [f"method-{i}-with-a-long-name" for i in range(11)]
    metrics = [f"{m}@{k}" for k in (5, 10) for m in ("recall", "ndcg", "dgu", "mgu", "entropy", "ttr")]
    entries = {kind: [{"name": n, "label": n} for n in found] for kind, found in names.items()}
    suite = {"name": "big", "seeds": [42, 43, 44], "metrics": metrics, "stats": {"baseline": "sft"}, **entries}
    root.mkdir()
    (root / "suite.json").write_text(json.dumps(suite))
    rng = np.random.default_rng(0)
    for dataset in names["datasets"]:
        _write_wide(root / "data" / dataset)
        for backbone, method, seed in product(names["backbones"], names["methods"], (42, 43, 44)):
            folder = root / "cells" / dataset / backbone / method / f"seed-{seed}"
            folder.mkdir(parents=True)
            users = pd.DataFrame({"user_id": np.arange(WIDE).astype(str), "target": "7"})
            for metric in metrics[:2] + metrics[6:8]:
                users[metric] = rng.random(WIDE)
            users.to_parquet(folder / "users.parquet", index=False)
            u, j = (grid.ravel() for grid in np.mgrid[0:WIDE, 0:10])
            item = rng.integers(0, 2000, len(u)).astype(str)
            ranked = pd.DataFrame({"user_id": u.astype(str), "rank": j + 1, "item_id": item, "score": -1.0 * j})
            ranked.to_parquet(folder / "ranked.parquet", index=False)
            write_log(folder, seed)
            known: dict[str, Any] = {"fingerprint": f"{dataset:f<64}"}
            known["settings"] = {f"setting_{i}": i / 7 for i in range(12)}
            known["stages"] = {f"stage-{i}/{'0123456789abcdef' * 2}": {} for i in range(7)}
            values = {m: float(v) for m, v in zip(metrics, rng.random(12), strict=True)}
            record = {"schema": 1, "metrics": values, "audit": {}, "cost": {"train_s": 100.0 + seed}}
            (folder / "metrics.json").write_text(json.dumps({**record, "provenance": PROVENANCE | known}))
    return root


def _write_wide(folder: Path) -> None:
    """Write 2,000 items with titles of 60 characters and 40 test rows with histories of ten."""
    folder.mkdir(parents=True)
    n = np.arange(2000)
    titles = [f"{i}: {'a title as long as those of a shop are, and then some'}" for i in n]
    items = pd.DataFrame({"item_id": n.astype(str), "title": titles, "group": n % 8, "frequency": 1})
    items.to_parquet(folder / "items.parquet", index=False)
    histories = [[str((50 * u + i) % 2000) for i in range(10)] for u in range(WIDE)]
    rows = pd.DataFrame({"user_id": [str(u) for u in range(WIDE)], "history": histories, "target": "7"})
    rows.to_parquet(folder / "rows.parquet", index=False)
