"""Reading a results folder: records, frames, blocks, refusals."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlrecbench import results
from rlrecbench.errors import StoreError
from rlrecbench.results.files import read_arrow, read_table
from rlrecbench.stats import Rows

VALUES = {  # (dataset, backbone, method, seed): recall@5 of users a, b, c
    ("beauty", "tiger", "sft", 1): (1, 0, 0),
    ("beauty", "tiger", "sft", 2): (1, 1, 0),
    ("beauty", "tiger", "dpo", 1): (1, 0, 1),
    ("beauty", "tiger", "dpo", 2): (0, 1, 1),
    ("beauty", "letter", "sft", 1): (0, 0, 0),
    ("beauty", "none", "sasrec", 1): (1, 1, 1),
    ("yelp", "none", "sasrec", 1): (0, 1, 1),
}


def put(root: Path, cell: tuple[str, str, str, int], users: dict[str, float], **changes: Any) -> Path:
    dataset, backbone, method, seed = cell
    folder = root / "cells" / dataset / backbone / method / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"user_id": list(users), "target": "i1", "recall@5": np.array(list(users.values()), float)})
    frame["rank"] = pd.array([1 if hit else None for hit in users.values()], dtype="Int32")
    frame.to_parquet(folder / "users.parquet", index=False)
    record: dict[str, Any] = {
        "schema": 1,
        "metrics": {"recall@5": float(np.mean(list(users.values()))), "dgu@5": seed / 4},
        "audit": {"short_entries": 2},
        "cost": {"train_s": 1.5},
        "provenance": {"fingerprint": f"{dataset}1", "protocol": {"dataset": dataset, "limit_users": None}},
    }
    (folder / "metrics.json").write_text(json.dumps(record | changes))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    suite = {
        "name": "small",
        "seeds": [1, 2],
        "metrics": ["recall@5"],
        "datasets": [{"label": "yelp"}, {"label": "beauty"}],
        "backbones": [{"label": "tiger"}, {"label": "letter"}],
        "methods": [{"label": "sft"}, {"label": "sasrec"}, {"label": "dpo"}, {"label": "ppo"}],
    }
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    for cell, (a, b, c) in VALUES.items():
        put(tmp_path, cell, {"a": a, "b": b, "c": c})
    return tmp_path


def test_records_come_in_suite_order(root: Path) -> None:
    found = results.load(root)
    assert [r.name for r in found.records] == [
        "yelp/none/sasrec seed 1",
        "beauty/tiger/sft seed 1",
        "beauty/tiger/sft seed 2",
        "beauty/tiger/dpo seed 1",
        "beauty/tiger/dpo seed 2",
        "beauty/letter/sft seed 1",
        "beauty/none/sasrec seed 1",
    ]
    record = found.records[1]
    assert record.metrics == {"recall@5": pytest.approx(1 / 3), "dgu@5": 0.25}
    assert (record.audit, record.cost, record.fingerprint) == (
        {"short_entries": 2},
        {"train_s": 1.5},
        "beauty1",
    )
    assert record.path == root / "cells/beauty/tiger/sft/seed-1"


def test_a_cell_without_metrics_is_not_done(root: Path) -> None:
    (root / "cells/beauty/tiger/dpo/seed-2/metrics.json").unlink()
    assert len(results.load(root).records) == len(VALUES) - 1


def test_rankers_without_backbone_stand_in_every_block(root: Path) -> None:
    blocks = {
        (b.dataset, b.label): {m: [r.backbone for r in records] for m, records in b.records.items()}
        for b in results.load(root).blocks()
    }
    assert blocks == {
        ("yelp", "none"): {"sft": [], "sasrec": ["none"], "dpo": [], "ppo": []},
        ("beauty", "tiger"): {"sft": ["tiger"] * 2, "sasrec": ["none"], "dpo": ["tiger"] * 2, "ppo": []},
        ("beauty", "letter"): {"sft": ["letter"], "sasrec": ["none"], "dpo": [], "ppo": []},
    }


def test_rows_may_be_backbones(root: Path) -> None:
    """Blocks are then methods, and sasrec, which has no backbone, is a row after them; failures tell ppo is bare."""
    (root / "failures.json").write_text(json.dumps([{"cell": "beauty/none/ppo seed 1", "reason": "x"}]))
    found = results.load(root)
    assert found.axes("backbones") == (["sft", "dpo"], ["tiger", "letter", "sasrec", "ppo"])
    assert found.axes("methods") == (["tiger", "letter"], ["sft", "sasrec", "dpo", "ppo"])
    blocks = {
        (b.dataset, b.label): {row: [r.name for r in records] for row, records in b.records.items()}
        for b in found.blocks("backbones")
    }
    bare = ["beauty/none/sasrec seed 1"]
    assert blocks == {
        ("yelp", "none"): {"tiger": [], "letter": [], "sasrec": ["yelp/none/sasrec seed 1"], "ppo": []},
        ("beauty", "sft"): {
            "tiger": ["beauty/tiger/sft seed 1", "beauty/tiger/sft seed 2"],
            "letter": ["beauty/letter/sft seed 1"],
            "sasrec": bare,
            "ppo": [],
        },
        ("beauty", "dpo"): {
            "tiger": ["beauty/tiger/dpo seed 1", "beauty/tiger/dpo seed 2"],
            "letter": [],
            "sasrec": bare,
            "ppo": [],
        },
    }


def test_a_block_knows_the_names_of_its_cells(root: Path) -> None:
    found = results.load(root)
    names = {rows: [b.cells("x") for b in found.blocks(rows)][1] for rows in get_args(Rows)}
    assert names == {
        "methods": ("beauty/tiger/x", "beauty/none/x"),
        "backbones": ("beauty/x/sft", "beauty/none/x"),
    }


def test_a_method_with_and_without_a_backbone_is_a_block_and_a_row(root: Path) -> None:
    """What an older run left under another kind of folder is shown, not dropped."""
    put(root, ("beauty", "none", "dpo", 1), {"a": 0, "b": 0, "c": 0})
    found = results.load(root)
    assert found.axes("backbones") == (["sft", "dpo", "ppo"], ["tiger", "letter", "sasrec", "dpo"])
    shown = {r.name for b in found.blocks("backbones") for records in b.records.values() for r in records}
    assert shown == {r.name for r in found.records}


def test_frame_is_long(root: Path) -> None:
    frame = results.load(root).frame()
    assert len(frame) == 2 * len(VALUES)
    row = frame[(frame.method == "dpo") & (frame.seed == 2) & (frame.metric == "recall@5")]
    assert row["value"].tolist() == [pytest.approx(2 / 3)]


def test_leaderboard_means_over_seeds(root: Path) -> None:
    board = results.load(root).leaderboard()
    assert list(board.columns) == ["dataset", "backbone", "method", "seeds", "recall@5", "dgu@5"]
    # sft on tiger: (1/3 + 2/3) / 2 and (1/4 + 2/4) / 2.
    rows = {(r.dataset, r.backbone, r.method): r for r in board.itertuples()}
    assert rows["beauty", "tiger", "sft"][4:] == pytest.approx((2, 0.5, 0.375))
    assert rows["beauty", "letter", "sasrec"][4:] == (1, 1, 0.25)
    assert len(rows) == 6


def test_users_are_read_and_not_shared(root: Path) -> None:
    found = results.load(root)
    users = found.users(found.records[1])
    assert users["recall@5"].tolist() == [1, 0, 0]
    assert users["rank"].isna().tolist() == [False, True, True]
    users["recall@5"] = 7.0
    assert found.users(found.records[1])["recall@5"].tolist() == [1, 0, 0]
    assert found.n_users(found.records[1]) == 3


def test_difference_pairs_seeds_and_users(root: Path) -> None:
    put(root, ("beauty", "tiger", "dpo", 2), {"c": 1, "a": 0, "b": 1})  # another order of the same users
    found = results.load(root)
    block = next(b for b in found.blocks() if b.label == "tiger")
    D = found.difference(block.records["dpo"], block.records["sft"], "recall@5")
    assert D.tolist() == [[0, 0, 1], [-1, 0, 1]]
    assert found.difference(block.records["sasrec"], block.records["sft"], "recall@5").tolist() == [[0, 1, 1]]
    assert found.difference(block.records["ppo"], block.records["sft"], "recall@5").shape == (0, 0)
    assert found.has_users(block.records["sft"], "recall@5")
    assert not found.has_users(block.records["sft"], "dgu@5")


def test_different_users_are_refused(root: Path) -> None:
    put(root, ("beauty", "tiger", "dpo", 2), {"a": 0, "b": 1, "d": 1})
    found = results.load(root)
    block = next(b for b in found.blocks() if b.label == "tiger")
    with pytest.raises(StoreError, match=r"dpo.seed-2 and .*dpo.seed-1 were measured on different users"):
        found.difference(block.records["dpo"], block.records["sft"], "recall@5")


def test_a_rewritten_file_is_read_again(root: Path) -> None:
    found = results.load(root)
    assert found.users(found.records[1])["recall@5"].sum() == 1
    put(root, ("beauty", "tiger", "sft", 1), {"a": 1, "b": 1, "c": 1})
    assert found.users(found.records[1])["recall@5"].sum() == 3


def test_methods_no_longer_in_the_suite_come_last(root: Path) -> None:
    put(root, ("beauty", "tiger", "ancient", 9), {"a": 0, "b": 0, "c": 0})
    found = results.load(root)
    assert found.methods == ["sft", "sasrec", "dpo", "ppo", "ancient"]
    assert found.seeds == [1, 2, 9]


def test_mixed_protocols_are_refused_with_what_differs(root: Path) -> None:
    protocol = {"dataset": "beauty", "limit_users": 100, "options": {"last": 1}}
    put(
        root,
        ("beauty", "tiger", "dpo", 2),
        {"a": 0, "b": 1, "c": 1},
        provenance={"fingerprint": "other", "protocol": protocol},
    )
    with pytest.raises(StoreError) as e:
        results.load(root)
    text = str(e.value)
    assert "beauty/tiger/sft seed 1 and beauty/tiger/dpo seed 2" in text
    assert "limit_users is null and 100, options.last is null and 1, in this order" in text
    assert "dataset is" not in text


def test_data_sets_may_have_different_protocols(root: Path) -> None:
    assert {r.fingerprint for r in results.load(root).records} == {"yelp1", "beauty1"}


def test_nan_is_a_value(root: Path) -> None:
    folder = put(root, ("beauty", "tiger", "dpo", 1), {"a": 0, "b": 0, "c": 1})
    record = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(record | {"metrics": {"ttr@5": float("nan")}}))
    found = next(r for r in results.load(root).records if r.method == "dpo")
    assert np.isnan(found.metrics["ttr@5"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", r"metrics\.json is broken"),
        ("[]", r"expected a JSON dict"),
        ('{"schema": 2}', r"schema 2, but this version reads 1"),
        (
            '{"schema": 1, "metrics": {"recall@5": "0.1"}, "provenance": {"fingerprint": "a"}}',
            r"metrics\.recall@5: should be a valid number, found \"0\.1\"",
        ),
        (
            '{"schema": 1, "metrics": {"recall@5": 0.1}, "provenance": {}}',
            r"the key 'provenance\.fingerprint' is missing",
        ),
    ],
)
def test_broken_record(root: Path, text: str, complaint: str) -> None:
    path = root / "cells/beauty/tiger/dpo/seed-2/metrics.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=complaint) as e:
        results.load(root)
    assert str(path) in str(e.value)


def test_not_a_results_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a results folder: it has no suite\.json"):
        results.load(tmp_path)
    with pytest.raises(StoreError, match="there is no such folder"):
        results.load(tmp_path / "nowhere")
    (tmp_path / "suite.json").write_text('{"name": "x"}')
    with pytest.raises(StoreError, match="the key 'seeds' is missing"):
        results.load(tmp_path)


def test_broken_users_file(root: Path) -> None:
    (root / "cells/beauty/tiger/sft/seed-1/users.parquet").write_bytes(b"PAR1")
    found = results.load(root)
    with pytest.raises(StoreError, match=r"seed-1.users\.parquet cannot be read"):
        found.users(found.records[1])
    (root / "cells/beauty/tiger/sft/seed-1/users.parquet").unlink()
    with pytest.raises(StoreError, match=r"users\.parquet cannot be read"):
        found.n_users(found.records[1])


def test_a_text_that_is_none_is_noticed_on_reading(tmp_path: Path) -> None:
    """Whoever sorts or prints it later could not say which file is damaged."""
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": pa.array([b"u1", b"u\x80"]).view(pa.string())}), path)
    for read in (read_table, lambda p: read_arrow(p, ("user_id",))):
        with pytest.raises(StoreError, match=r"users\.parquet.* cannot be read: .*UTF8"):
            read(path)
