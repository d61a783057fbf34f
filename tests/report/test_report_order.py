"""Our order of the methods against the papers'. Flower's Table 4 on Movies: D3, IFairLRS, BIGRec, Temp by ndcg@5."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlrecbench import report, results
from rlrecbench.errors import ConfigError
from rlrecbench.report import order as orders

GOLDEN = Path(__file__).parents[1] / "golden"
PROVENANCE = {"fingerprint": "f" * 64, "budget": {}, "backbone": {}, "protocol": {}}
METHODS = {"sft": {}, "temp": {"temperature": 1.5}, "d3": {"alpha": 1.0, "length_penalty": 0.0}, "ifairlrs": {}}
OURS = {"d3": 0.4, "sft": 0.3, "ifairlrs": 0.2, "temp": 0.1}  # the paper has ifairlrs above sft
DGU = {"sft": 0.11, "temp": 0.12, "d3": 0.13, "ifairlrs": 0.14}  # lower is better; the paper's order


def write(
    root: Path, metrics: tuple[str, ...] = ("ndcg@5", "dgu@10"), methods: tuple[str, ...] = (), **stats: Any
) -> Path:
    """Write suite.json; a method's label may have an ending after a dot."""
    root.mkdir(parents=True)
    kinds = {"datasets": ["movies_and_tv"], "backbones": ["bigrec-qwen"], "methods": methods or tuple(METHODS)}
    entries: dict[str, Any] = {
        kind: [{"name": n.partition(".")[0], "label": n, "settings": {}, "start": None} for n in names]
        for kind, names in kinds.items()
    }
    about = {"name": "papers", "seeds": [42, 43, 44], "metrics": list(metrics), **entries}
    stats = {"primary": "ndcg@5", "baseline": "sft"} | stats
    (root / "suite.json").write_text(json.dumps(about | {"stats": stats}))
    return root


def cell(root: Path, label: str, seed: int, users: list[float], dgu: float, **settings: Any) -> None:
    folder = root / "cells/movies_and_tv/bigrec-qwen" / label / f"seed-{seed}"
    folder.mkdir(parents=True)
    ids = [str(u) for u in range(len(users))]
    pd.DataFrame({"user_id": ids, "ndcg@5": users}).to_parquet(folder / "users.parquet", index=False)
    name = label.partition(".")[0]
    provenance = PROVENANCE | {"method": name, "settings": METHODS.get(name, {}) | settings}
    metrics = {"ndcg@5": sum(users) / len(users), "dgu@10": dgu}
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, "metrics": metrics, "provenance": provenance}))


@pytest.fixture
def four(tmp_path: Path) -> results.Results:
    """Four methods whose users and seeds are all alike."""
    root = write(tmp_path / "four")
    for method, value in OURS.items():
        for seed in (42, 43, 44):
            cell(root, method, seed, [value] * 8, DGU[method])
    return results.load(root)


def one(found: results.Results, metric: str | None = None) -> orders.Order:
    [order] = orders.order(found, report.build(found), metric)
    return order


def test_tau_by_hand(four: results.Results) -> None:
    """Of six pairs five agree: (5 - 1) / 6. Of 24 orders 4 agree as well or better; two-sided p = 8 / 24."""
    order = one(four)
    assert order.agreement is not None
    assert order.agreement.tau == pytest.approx(4 / 6)
    assert order.agreement.p == pytest.approx(8 / 24)
    assert (order.agreement.low, order.agreement.high) == pytest.approx((4 / 6, 4 / 6))
    assert [(r.row, r.place, r.published_place, r.fact.value) for r in order.ranked] == [
        ("d3", 1, 1, 0.1007),
        ("sft", 2, 3, 0.093),
        ("ifairlrs", 3, 2, 0.0957),
        ("temp", 4, 4, 0.0852),
    ]
    assert orders.sentence(order) == "ndcg@5: tau .67 [.67, .67] over 4 methods, p = 0.333; 3 seeds."


def test_swapped_pairs_and_what_our_test_says_of_them(four: results.Results) -> None:
    assert [tuple(s) for s in one(four).swaps] == [("sft", "ifairlrs", True)]


def test_a_swap_that_is_not_tested_is_not_marked(tmp_path: Path) -> None:
    root = write(tmp_path / "r")
    for method, value in (OURS | {"temp": 0.25}).items():  # temp above ifairlrs: no pair with the baseline
        for seed in (42, 43, 44):
            cell(root, method, seed, [value] * 8, DGU[method])
    swaps = {(s.better, s.worse): s.told_apart for s in one(results.load(root)).swaps}
    assert swaps == {("sft", "ifairlrs"): True, ("temp", "ifairlrs"): False}


def test_swaps_are_listed_by_the_better_row(tmp_path: Path) -> None:
    root = write(tmp_path / "r")
    for method, value in {"temp": 0.4, "sft": 0.3, "ifairlrs": 0.2, "d3": 0.1}.items():
        cell(root, method, 42, [value] * 4, 0.1)
    text = orders.order_markdown([one(results.load(root))])
    assert "in the paper: temp above sft, ifairlrs, d3; sft above ifairlrs, d3; ifairlrs above d3." in text
    assert "corrected test" not in text  # one seed tells nothing apart


def test_lower_is_better_for_a_metric_of_all_lists(four: results.Results) -> None:
    order = one(four, "dgu@10")
    assert order.agreement is not None
    assert order.agreement.tau == pytest.approx(1.0)
    assert [(r.row, r.place, r.published_place) for r in order.ranked] == [
        ("sft", 1, 1), ("temp", 2, 2), ("d3", 3, 3), ("ifairlrs", 4, 4),
    ]  # fmt: skip
    assert (order.over, order.swaps) == ("seeds", ())
    assert orders.sentence(order) == "dgu@10: tau 1.00 [1.00, 1.00] over 4 methods, p = 0.083; 3 seeds."


def test_the_interval_knows_when_users_disagree(tmp_path: Path) -> None:
    """Two methods that half the users rank one way and half the other: tau is 4/6, its interval reaches 1."""
    root = write(tmp_path / "r")
    for method, value in OURS.items():
        for seed in (42, 43, 44):
            users = {"sft": [0.3, 0.2] * 20, "ifairlrs": [0.2, 0.29] * 20}.get(method, [value] * 40)
            cell(root, method, seed, users, 0.1)
    agreement = one(results.load(root)).agreement
    assert agreement is not None
    assert (agreement.tau, agreement.low, agreement.high) == pytest.approx((4 / 6, 4 / 6, 1.0))


def test_one_seed(tmp_path: Path) -> None:
    root = write(tmp_path / "r")
    for method, value in OURS.items():
        cell(root, method, 42, [value] * 8, DGU[method])
    found = results.load(root)
    assert orders.sentence(one(found)) == "ndcg@5: tau .67 [.67, .67] over 4 methods, p = 0.333; one seed."
    assert one(found).over == "users"
    lists = one(found, "dgu@10")
    assert orders.sentence(lists) == "dgu@10: tau 1.00 over 4 methods, p = 0.083; one seed."
    assert lists.agreement is not None
    assert (lists.agreement.low, lists.agreement.high, lists.over) == (None, None, "")
    rows = list(csv.DictReader(io.StringIO(orders.order_csv([lists, one(found)]))))
    assert [(r["low"] == "", r["over"]) for r in rows] == [(True, "")] * 4 + [(False, "users")] * 4


def test_only_seeds_in_common_count(tmp_path: Path) -> None:
    root = write(tmp_path / "r")
    for method, value in OURS.items():
        for seed in (42, 43) if method == "temp" else (43, 44):
            cell(root, method, seed, [value if seed == 43 else 0.9] * 8, 0.1)
    order = one(results.load(root))
    assert order.seeds == (43,)
    assert [r.mean for r in order.ranked] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_too_little_in_common(tmp_path: Path) -> None:
    root = write(tmp_path / "two", methods=("sft", "d3", "grpo"))
    for method in ("sft", "d3", "grpo"):
        cell(root, method, 42, [0.1] * 4, 0.1)
    order = one(results.load(root))
    assert (order.agreement, len(order.ranked)) == (None, 2)
    assert orders.sentence(order) == "ndcg@5: 2 rows in common; an order needs 3."
    root = write(tmp_path / "apart")
    for seed, method in enumerate(OURS):
        cell(root, method, seed, [0.1] * 4, 0.1)
    assert orders.sentence(one(results.load(root))) == "ndcg@5: The rows in common have no seed in common."
    root = write(tmp_path / "none", methods=("grpo",), baseline="grpo")
    cell(root, "grpo", 42, [0.1] * 4, 0.1)
    assert orders.sentence(one(results.load(root))) == "No row and column of this block are published."


def test_the_closest_row_stands_for_a_published_one(tmp_path: Path) -> None:
    root = write(tmp_path / "r", methods=(*METHODS, "d3.sasrec", "temp.hot"))
    for method, value in OURS.items():
        cell(root, method, 42, [value] * 4, 0.1, **({"alpha": 0.5} if method == "d3" else {}))
    cell(root, "d3.sasrec", 42, [0.05] * 4, 0.1, alpha=1.0)  # as published, where the row before is not
    cell(root, "temp.hot", 42, [0.9] * 4, 0.1, temperature=2.0)  # no closer than the row before
    order = one(results.load(root))
    assert [r.row for r in order.ranked] == ["sft", "ifairlrs", "temp", "d3.sasrec"]
    assert order.twice == ("d3", "temp.hot")


def test_all_alike_is_no_order(tmp_path: Path) -> None:
    root = write(tmp_path / "r")
    for method in METHODS:
        cell(root, method, 42, [0.1] * 4, 0.1)
    order = one(results.load(root))
    assert orders.sentence(order) == "ndcg@5: One of the two sides has no order: all values are equal."
    assert [r.place for r in order.ranked] == [1] * 4


def test_where_the_paper_lacks_the_primary_metric_the_first_column_it_has(tmp_path: Path) -> None:
    root = write(tmp_path / "r", ("dgu@10", "ndcg@5"), primary="ndcg@10")
    for method in METHODS:
        cell(root, method, 42, [0.1] * 4, DGU[method])
    assert one(results.load(root)).metric == "dgu@10"


def test_a_wrong_metric(four: results.Results) -> None:
    with pytest.raises(ConfigError, match=r"metric 'recall@10' is in no record of .*; measured: ndcg@5, dgu@10"):
        one(four, "recall@10")
    with pytest.raises(ConfigError, match="did you mean"):
        one(four, "ndgc@5")


def test_markdown(four: results.Results) -> None:
    assert orders.FORMATS["md"]([one(four)]).splitlines() == [
        "# Our order of the methods and the papers'",
        "",
        "## movies\\_and\\_tv · bigrec-qwen",
        "",
        "ndcg@5: tau .67 [.67, .67] over 4 methods, p = 0.333; 3 seeds.",
        "",
        "| ours | value | Flower | value |",
        "| --- | ---: | --- | ---: |",
        "| 1. d3 | 0.4000 | 1. d3 | 0.1007 |",
        "| 2. sft | 0.3000 | 2. ifairlrs | 0.0957 |",
        "| 3. ifairlrs | 0.2000 | 3. sft (bigrec) | 0.0930 |",
        "| 4. temp | 0.1000 | 4. temp | 0.0852 |",
        "",
        r"The other way round in the paper: sft above ifairlrs\*.  ",
        r"\* our corrected test tells the two apart; it only looks at pairs with the baseline.  ",
        "Interval: 95 %, over our users and seeds; the published values are taken as they are.",
    ]


def test_csv_and_json(four: results.Results) -> None:
    order = one(four)
    rows = list(csv.DictReader(io.StringIO(orders.FORMATS["csv"]([order]))))
    assert [(r["row"], r["published_as"], float(r["published"]), r["place"], r["published_place"]) for r in rows] == [
        ("d3", "d3", 0.1007, "1", "1"),
        ("sft", "bigrec", 0.093, "2", "3"),
        ("ifairlrs", "ifairlrs", 0.0957, "3", "2"),
        ("temp", "temp", 0.0852, "4", "4"),
    ]
    assert [float(r["tau"]) for r in rows] == pytest.approx([4 / 6] * 4)
    [data] = json.loads(json.dumps(orders.as_dicts([order]), allow_nan=False))
    assert data == json.loads(json.dumps(orders.as_dicts([order])))[0]
    assert (data["agreement"]["methods"], data["ranked"][1]["fact"]["method"]) == (4, "bigrec")
    assert data["swaps"] == [{"better": "sft", "worse": "ifairlrs", "told_apart": True}]


def test_markdown_golden(complete: Path) -> None:
    """``--compare-order`` of a whole folder; rewritten with UPDATE_GOLDEN=1."""
    found = results.load(complete)
    text = orders.FORMATS["md"](orders.order(found, report.build(found)))
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / "order.md").write_text(text, encoding="utf-8")
    assert text == (GOLDEN / "order.md").read_text(encoding="utf-8")
