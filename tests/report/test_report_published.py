"""The papers' numbers beside ours: the facts, which row stands for which, and what is said of them.

Golden files are rewritten with UPDATE_GOLDEN=1.
"""

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlrecbench import published, report, results, suite
from rlrecbench.errors import StoreError
from rlrecbench.method import FineTune, methods
from rlrecbench.published import UNMATCHED, VARIANTS, Fact, facts, find
from rlrecbench.published.matching import start_of
from rlrecbench.report import published as beside
from rlrecbench.stats.draws import Draws
from rlrecbench.stats.lists import Resampled, intervals

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path(__file__).parents[3] / "shared" / "reference" / "published.csv"
Write = Callable[..., Path]
USERS = ("u1", "u2", "u3", "u4")
MOVIES = {
    "dataset": "movies_and_tv",
    "checksum": "70f59ffd35ff10a3abc4f5df16ea7c55c211a2d8bc18fc72a68dd4d88fb36918",
    "options": {"max_history": 10, "last": None, "titles": None, "rows": 6400},
    "beams": 10,
    "k": 10,
    "limit_users": None,
}
QWEN = {"model": "Qwen/Qwen2.5-1.5B-Instruct", "lora": None}
BUDGET = {"epochs": 7, "lr": 3e-4, "epoch_share": 1.0, "max_steps": None, "max_examples": None}
D3 = {"alpha": 1.0, "length_penalty": 0.0}
FLOWER = {"lam": 0.005, "reward": "div", "form": "paper", "reduction": "sequence", "samples": 1, "sft_weight": 1.0}
LEVELS = {"ndcg@5": "user", "recall@5": "user", "hr@5-string": "user"}


def golden(name: str, text: str) -> str:
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    return (GOLDEN / name).read_text(encoding="utf-8")


def entry(name: str, label: str = "", start: str | None = None, **settings: Any) -> dict[str, Any]:
    return {"name": name, "label": label or name, "settings": settings, "start": start}


def write(root: Path, methods: list[dict[str, Any]], metrics: tuple[str, ...], **changes: Any) -> Path:
    """Write suite.json: Movies on BIGRec's Qwen, with length penalty 1 and SASRec's loss as in the paper."""
    about = {
        "name": "papers",
        "seeds": [42, 43, 44],
        "datasets": [entry("movies_and_tv")],
        "backbones": [entry("bigrec-qwen")],
        "methods": methods,
        "metrics": list(metrics),
        "rank": {"length_penalty": 1},
        "collab": {"loss": "bce"},
        "stats": {"primary": metrics[0], "baseline": "sft"},
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "suite.json").write_text(json.dumps(about | changes))
    return root


def cell(
    root: Path, place: str, method: str, seed: int, values: dict[str, Any], settings: dict[str, Any], **changes: Any
) -> None:
    """Write one record; a list of values is one per user, a number one for all lists."""
    folder = root / "cells" / place / f"seed-{seed}"
    folder.mkdir(parents=True)
    users = {name: v for name, v in values.items() if isinstance(v, (list, np.ndarray))}
    ids = USERS if len(next(iter(users.values()), USERS)) == len(USERS) else range(len(next(iter(users.values()))))
    pd.DataFrame({"user_id": [str(u) for u in ids], **users}).to_parquet(folder / "users.parquet", index=False)
    provenance = {
        "fingerprint": "f" * 64,
        "protocol": MOVIES,
        "method": method,
        "settings": settings,
        "budget": BUDGET,
        "backbone": QWEN,
        "identifiers": {"kind": "titles"},
        **changes,
    }
    means = {name: float(np.mean(v)) for name, v in values.items()}
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, "metrics": means, "provenance": provenance}))


def titles(
    root: Path, label: str, method: str, seed: int, values: dict[str, Any], settings: Any, **changes: Any
) -> None:
    cell(root, f"movies_and_tv/bigrec-qwen/{label}", method, seed, values, settings, **changes)


# The facts


def test_there_are_520_facts_and_they_are_the_shared_ones() -> None:
    assert len(facts()) == 520
    assert Counter(f.table for f in facts()) == {
        "table-1": 144, "table-2": 40, "table-3": 30, "table-4": 108, "table-5": 144, "table-6": 54,
    }  # fmt: skip
    if not SHARED.is_file():
        pytest.skip("the facts' own table does not stand beside the repository")
    rows = list(csv.DictReader(SHARED.read_text().splitlines()))
    own = [
        (f.paper, f.table, f.dataset, f.backbone, f.method, f.metric, f.value, f.significant, f.half_unit)
        for f in facts()
    ]
    stars = {"1": True, "0": False, "": None}
    assert own == [
        (
            *(r[k] for k in ("paper", "table", "dataset", "backbone", "method", "metric")),
            float(r["value"]),
            stars[r["significant"]],
            pytest.approx(0.5 * 0.1 ** len(r["value"].split(".")[1])),
        )
        for r in rows
    ]


@pytest.mark.parametrize(
    ("table", "dataset", "backbone", "method", "metric", "value", "star"),
    [  # read off the papers' tables
        ("table-1", "beauty", "tiger", "gflowgr-tb", "recall@5", 0.0407, True),
        ("table-1", "yelp", "tiger", "gflowgr-db", "ndcg@10", 0.0185, False),
        ("table-1", "beauty", "letter", "gflowgr-db", "recall@10", 0.0630, True),
        ("table-1", "beauty", "letter", "gflowgr-db", "ndcg@5", 0.0266, False),
        ("table-1", "yelp", "letter", "gflowgr-tb", "ndcg@10", 0.0222, True),
        ("table-1", "yelp", "tiger", "ppo", "recall@10", 0.0005, False),
        ("table-2", "beauty", "tiger", "gflowgr-tb:reward=c+sim", "recall@5", 0.0381, False),
        ("table-2", "beauty", "tiger", "gflowgr-tb:weighting=false", "ndcg@10", 0.0327, False),
        ("table-3", "movies_and_tv", "bigrec-qwen-3b", "flower", "title-js", 0.047, None),
        ("table-4", "cds_and_vinyl", "bigrec-qwen", "d3", "ndcg@5", 0.0812, None),
        ("table-4", "movies_and_tv", "bigrec-qwen", "flower", "hr@5", 0.1199, None),
        ("table-5", "video_games", "bigrec-qwen", "s-dpo@bigrec", "hr@5", 0.0900, None),
        ("table-5", "movies_and_tv", "bigrec-qwen", "rosepo@flower", "entropy@10", 9.361, None),
        ("table-6", "video_games", "bigrec-qwen", "flower:reward=frequency", "dgu@10", 0.102, None),
    ],
)
def test_facts_are_as_printed(
    table: str, dataset: str, backbone: str, method: str, metric: str, value: float, star: bool | None
) -> None:
    [fact] = find(dataset, backbone, method, metric, table=table)
    assert (fact.value, fact.significant) == (value, star)
    assert fact.paper == ("gflowgr" if table in ("table-1", "table-2") else "flower")


def test_hit_rate_and_recall_are_one_metric() -> None:
    sets = [find("movies_and_tv", "bigrec-qwen", "bigrec", m) for m in ("hr@5", "recall@5", "hr@5-string")]
    assert [[f.value for f in found] for found in sets] == [[0.1134]] * 3
    assert find("movies_and_tv", "bigrec-qwen", "bigrec", "recall@10") == []
    assert [f.value for f in find("movies_and_tv", "bigrec-qwen", "bigrec", "dgu@10-compat")] == [0.123]


def test_every_published_row_has_a_mapping_or_a_reason() -> None:
    for fact in facts():
        mapped = [
            v
            for v in VARIANTS
            if v.published == fact.method
            and fact.backbone in v.backbones
            and (not v.datasets or fact.dataset in v.datasets)
        ]
        assert bool(mapped) != ((fact.method, fact.backbone) in UNMATCHED), fact
        assert len(mapped) <= 1
    for v in VARIANTS:
        assert any(find(d, b, v.published) for d in (v.datasets or (None,)) for b in v.backbones), v.published


# Which row stands for which


@lru_cache
def shipped(path: str) -> suite.Suite:
    return suite.load(suite.find(path))


def made(path: str, root: Path) -> results.Results:
    """A results folder with every cell of a shipped suite, by the suite's own resolution of settings."""
    one = shipped(path)
    root.mkdir()
    (root / "suite.json").write_text(json.dumps(one.as_json()))
    for data in one.datasets:
        for backbone in one.backbones:
            for method in one.methods:
                settings, budget = suite.resolve(one, method, data.label, backbone.label, one.seeds[0])
                bare = method.name in ("sasrec", "most-popular", "item-graph")
                place = f"{data.label}/{'none' if bare else backbone.label}/{method.label}"
                if (root / "cells" / place).exists():
                    continue
                protocol = MOVIES | {"dataset": data.label}
                about = {"budget": None if bare else budget, "backbone": None if bare else backbone.settings}
                values = dict.fromkeys(one.metrics, 0.5)
                cell(root, place, method.name, one.seeds[0], values, settings, protocol=protocol, **about)
    return results.load(root)


def stands_for(found: results.Results, dataset: str) -> dict[str, list[str]]:
    return {
        r.method: [m.variant.published for m in published.match(found, r)]
        for r in found.records
        if r.dataset == dataset
    }


def test_rows_of_the_flower_suite(tmp_path: Path) -> None:
    found = made("flower", tmp_path / "flower")
    both = ["flower", "flower:reward=div"]
    expected = {
        "sasrec": ["sasrec"], "sft": ["bigrec"], "temp-1.2": ["temp"], "temp-1.5": ["temp"], "temp-2.0": ["temp"],
        "d3": ["d3"], "d3-sasrec": ["d3"], "ifairlrs": ["ifairlrs"], "ifairlrs-batch": ["ifairlrs"],
        "bigrec-grounding": [], "flower": both, "flower-lp0": [], "flower-code": both,
        "b-ppo-1024": ["ppo@bigrec"], "b-ppo": ["ppo@bigrec"], "b-s-dpo": ["s-dpo@bigrec"],
        "b-rosepo": ["rosepo@bigrec"], "b-dmpo": ["dmpo@bigrec"],
        "f-ppo-1024": ["ppo@flower"], "f-ppo": ["ppo@flower"], "f-s-dpo": ["s-dpo@flower"],
        "f-rosepo": ["rosepo@flower"], "f-dmpo": ["dmpo@flower"],
        "flower-frequency": ["flower:reward=frequency"], "flower-add": ["flower:reward=add"], "flower-propagated": [],
        "flower-tokens-5": [], "flower-tokens-10": [], "flower-titles": [],
        "flower-lam-0.01": [], "flower-lam-0.001": [], "flower-lam-0.0005": [], "flower-lam-0.0001": [],
    }  # fmt: skip
    assert stands_for(found, "movies_and_tv") == stands_for(found, "cds_and_vinyl") == expected
    # on Video Games the public scripts have lambda .0005, and so has the suite
    assert stands_for(found, "video_games") == expected | {"flower-lam-0.0005": both}
    remarks = {r.method: [m.remarks for m in published.match(found, r)][:1] for r in found.records}
    assert remarks["b-ppo-1024"] == [()]
    [[remark]] = remarks["b-ppo"]
    assert remark.text == "ppo: kl_weight 0.05 (published: 0.9), kl k1 (published: abs)."
    [[remark]] = remarks["d3-sasrec"]
    assert remark.text == "d3: alpha 0.8 (published: 1.0)."


def test_rows_of_the_tiny_flower_suite_continue_from_bigrec(tmp_path: Path) -> None:
    found = made("flower-tiny", tmp_path / "flower")
    stands = stands_for(found, "movies_and_tv")
    assert stands["sft-more"] == stands["flower-lp0"] == []
    assert stands["flower"] == ["flower", "flower:reward=div"]
    assert (stands["f-s-dpo"], stands["b-dmpo"]) == (["s-dpo@flower"], ["dmpo@bigrec"])
    records = {r.method: r for r in found.records}
    for method in ("flower", "f-s-dpo"):
        assert "start" in [r.key for r in published.match(found, records[method])[0].remarks]


def test_rows_of_the_ablation_of_gflowgr(tmp_path: Path) -> None:
    found = made("ablations/gflowgr-table2", tmp_path / "gflowgr")
    assert stands_for(found, "beauty") == {
        "sft": ["sft"],
        "r-a": ["gflowgr-tb:reward=a"],
        "r-c": ["gflowgr-tb:reward=c"],
        "r-sim": ["gflowgr-tb:reward=sim"],
        "r-a-r-c": ["gflowgr-tb:reward=a+c"],
        "r-a-r-sim": ["gflowgr-tb:reward=a+sim"],
        "r-c-r-sim": ["gflowgr-tb:reward=c+sim"],
        "without-ada": ["gflowgr-tb:adaptive=false"],
        "without-traj": ["gflowgr-tb:trajectories=0"],
        "without-wt": ["gflowgr-tb:weighting=false"],
        "gflowgr": ["gflowgr-tb"],
    }
    sweep = stands_for(made("ablations/gflowgr-fig3", tmp_path / "fig3"), "beauty")
    assert sweep == {
        "sft": ["sft"], "k-0": ["gflowgr-tb:trajectories=0"], "k-1": ["gflowgr-tb"], "k-3": [], "k-5": [],
        "lambda-0.01": [], "lambda-0.1": [], "lambda-10": [], "lambda-100": [],
    }  # fmt: skip


def test_each_variant_is_matched_by_its_method_with_defaults(tmp_path: Path) -> None:
    """What a bare suite would run stands for each published row: its start, its settings, the rest by default."""
    for number, variant in enumerate(VARIANTS):
        names = {"sft": "sft", "bigrec": "sft", "flower": "flower", None: None}
        start = {None: None, "sft": "sft", "bigrec": "sft", "flower": "flower"}[variant.start]
        assert names[variant.start] == start
        bare = variant.method == "sasrec"
        dataset = next(f.dataset for f in facts() if f.method == variant.published and f.backbone in variant.backbones)
        dataset = variant.datasets[0] if variant.datasets else dataset
        method = {variant.method: {"as": "row", **variant.holds, **({} if bare else {"start": start or "base"})}}
        text = {"name": "one", "datasets": [dataset], "backbones": [variant.backbones[0]], "methods": [method]}
        path = tmp_path / f"{number}.yaml"
        path.write_text(json.dumps(text))
        [found] = stands_for(made(str(path), tmp_path / str(number)), dataset).values()
        assert variant.published in found, variant


def test_methods_start_by_default_where_published_rows_do() -> None:
    for variant in VARIANTS:
        cls = methods[variant.method]
        if cls.generative:
            default = cls.start if issubclass(cls, FineTune) else "sft"
            assert start_of({"start": None}, variant) == default, variant


def test_rows_may_be_backbones(tmp_path: Path) -> None:
    backbones = [entry("tiger", "one"), entry("letter", "two")]
    stats = {"primary": "ndcg@5", "rows": "backbones"}
    root = write(
        tmp_path / "r", [entry("sft")], ("ndcg@5",), datasets=[entry("yelp")], backbones=backbones, stats=stats
    )
    for label in ("one", "two"):
        cell(root, f"yelp/{label}/sft", "sft", 42, {"ndcg@5": [0.1] * 4}, {}, protocol={})
    found = results.load(root)
    [section] = beside.beside(found, report.build(found)).sections
    assert [(x.row, x.fact.backbone, x.fact.value) for x in section.lines] == [
        ("one", "tiger", 0.0132),
        ("two", "letter", 0.0131),
    ]


def test_what_is_neither_default_nor_published_stands_for_nothing(tmp_path: Path) -> None:
    methods = [
        entry("sft"),
        entry("s-dpo", "five", negatives=5),
        entry("s-dpo", "likely", sft_weight=0.5),
        entry("s-dpo", "fast", lr=1e-3, epochs=1),
        entry("d3", "long"),
        entry("flower", "other", reward="propagated"),
        entry("s-dpo", "on-other", "other"),
        entry("sft", "twice", "sft"),
        entry("s-dpo", "on-twice", "twice"),
    ]
    root = write(tmp_path / "r", methods, ("ndcg@5",))
    sdpo = {"beta": 0.3, "negatives": 3, "sft_weight": 0.0}
    given = {
        "five": sdpo | {"negatives": 5},
        "likely": sdpo | {"sft_weight": 0.5},
        "long": D3 | {"length_penalty": 1.0},
        "other": FLOWER | {"reward": "propagated"},
    }
    for m in methods:
        usual = sdpo if m["name"] == "s-dpo" else {}
        titles(root, m["label"], m["name"], 42, {"ndcg@5": [0.5] * 4}, given.get(m["label"], usual))
    titles(root, "gone", "sft", 42, {"ndcg@5": [0.5] * 4}, {})
    stands = stands_for(results.load(root), "movies_and_tv")
    assert {k: v for k, v in stands.items() if v} == {"sft": ["bigrec"], "fast": ["s-dpo@bigrec"]}


def test_labels_do_not_matter(tmp_path: Path) -> None:
    root = write(tmp_path / "r", [entry("sft", "flower")], ("ndcg@5",), backbones=[entry("bigrec-qwen", "mine")])
    cell(root, "movies_and_tv/mine/flower", "sft", 42, {"ndcg@5": [0.5] * 4}, {})
    found = results.load(root)
    [match] = published.match(found, found.records[0])
    assert (match.variant.published, match.backbone, match.dataset) == ("bigrec", "bigrec-qwen", "movies_and_tv")


# The values


@pytest.fixture
def movies(tmp_path: Path) -> results.Results:
    """BIGRec with one seed and four users, Flower with three seeds, D3 not measured, SASRec, and a stranger."""
    metrics = ("ndcg@5", "recall@5", "dgu@10", "entropy@10", "ttr@10")
    methods = [entry("sasrec"), entry("sft"), entry("flower"), entry("d3"), entry("grpo")]
    root = write(tmp_path / "movies", methods, metrics)
    once = {"ndcg@5": [0.0, 0.1, 0.1, 0.2], "recall@5": [0.5] * 4, "dgu@10": 0.1, "entropy@10": 9.0, "ttr@10": 0.018}
    titles(root, "sft", "sft", 42, once, {"reduction": "token"})
    bare = {"backbone": None, "budget": None, "identifiers": None}
    cell(root, "movies_and_tv/none/sasrec", "sasrec", 42, once, {}, **bare)
    titles(root, "grpo", "grpo", 42, once, {})
    for seed, ttr in ((42, 0.022), (43, 0.023), (44, 0.024)):
        lists = {"dgu@10": 0.2, "entropy@10": 8.8 + ttr, "ttr@10": ttr}
        users = {"ndcg@5": [seed / 1000] * 4, "recall@5": [0.1, 0.1, 0.1, 0.2]}
        titles(root, "flower", "flower", seed, users | lists, FLOWER)
    return results.load(root)


def line(found: beside.Beside, row: str, metric: str, table: str) -> Any:
    [one] = [x for x in found.sections[0].lines if (x.row, x.metric, x.fact.table) == (row, metric, table)]
    return one


def test_mean_interval_and_difference_by_hand(movies: results.Results) -> None:
    found = beside.beside(movies, report.build(movies))
    sft = line(found, "sft", "ndcg@5", "table-4")
    # sd of (0, .1, .1, .2) is .0816497, over sqrt 4; t(.975, 3) = 3.182446
    half = 3.182446 * 0.0816497 / 2
    assert (sft.mean, sft.low, sft.high) == pytest.approx((0.1, 0.1 - half, 0.1 + half), rel=1e-5)
    assert (sft.difference, sft.relative) == pytest.approx((0.007, 0.007 / 0.093))
    assert (sft.within, sft.level, sft.seeds, sft.fact.value) == (True, "users", 1, 0.093)
    hits = line(found, "sft", "recall@5", "table-4")
    assert (hits.low, hits.high, hits.within, hits.fact.metric) == (0.5, 0.5, False, "hr@5")
    # a metric of all lists: t over the seeds' values, sd .001 over sqrt 3; t(.975, 2) = 4.302653
    ttr = line(found, "flower", "ttr@10", "table-4")
    half = 4.302653 * 0.001 / 3**0.5
    assert (ttr.mean, ttr.low, ttr.high) == pytest.approx((0.023, 0.023 - half, 0.023 + half), rel=1e-5)
    assert (ttr.within, ttr.level) == (True, "seeds")
    assert line(found, "flower", "dgu@10", "table-4").within is False  # .2 with every seed, .076 published
    one = line(found, "sft", "ttr@10", "table-4")
    assert (one.low, one.high, one.within) == (None, None, None)
    # users alike, seeds .042, .043, .044: the seeds' variance is all there is
    crossed = line(found, "flower", "ndcg@5", "table-4")
    half = 4.302653 * 0.001 / 3**0.5
    assert (crossed.low, crossed.high) == pytest.approx((0.043 - half, 0.043 + half), rel=1e-5)
    assert (crossed.level, crossed.within) == ("users and seeds", False)


@pytest.mark.parametrize("seeds", [1, 2])
def test_lists_of_one_seed_have_an_interval_over_users(tmp_path: Path, seeds: int) -> None:
    """One seed: the interval of ``stats.lists``; two: t over seeds."""
    root, rng, users = write(tmp_path / "r", [entry("sft")], ("dgu@10",)), np.random.default_rng(0), 40
    about = root / "data" / "movies_and_tv"
    about.mkdir(parents=True)
    items = [f"i{i}" for i in range(30)]
    made = {"item_id": items, "title": items, "group": np.arange(30) * 8 // 30, "frequency": np.arange(30)[::-1]}
    pd.DataFrame(made).to_parquet(about / "items.parquet", index=False)
    for seed in range(42, 42 + seeds):
        titles(root, "sft", "sft", seed, {"rank": [1] * users, "dgu@10": 0.1}, {})
        top = np.array([rng.permutation(30)[:10] for _ in range(users)])
        place = {"user_id": np.repeat([str(u) for u in range(users)], 10), "rank": np.tile(np.arange(1, 11), users)}
        flat = pd.DataFrame({**place, "item_id": [items[i] for i in top.ravel()]})
        folder = root / f"cells/movies_and_tv/bigrec-qwen/sft/seed-{seed}"
        flat.to_parquet(folder / "ranked.parquet", index=False)
        pd.read_parquet(folder / "users.parquet").assign(target="i3").to_parquet(folder / "users.parquet", index=False)
    found = results.load(root)
    dgu = line(beside.beside(found, report.build(found)), "sft", "dgu@10", "table-4")
    lists = found.lists(found.records[0])
    assert lists is not None
    expected = intervals([Resampled(lists, ["dgu@10"], Draws.of(users))])["dgu@10"]
    assert expected.low < expected.high
    own = (expected.low, expected.high, "users") if seeds == 1 else (0.1, 0.1, "seeds")
    assert (dgu.low, dgu.high, dgu.level) == own
    assert dgu.within == (dgu.low - 0.0005 <= dgu.fact.value <= dgu.high + 0.0005)


def test_a_published_value_stands_for_all_that_round_to_it(tmp_path: Path) -> None:
    root = write(tmp_path / "r", [entry("sft")], ("ttr@10", "dgu@10"))
    for seed in (42, 43, 44):  # published: .018 and .123
        titles(root, "sft", "sft", seed, {"ttr@10": 0.0184, "dgu@10": 0.1236}, {})
    found = results.load(root)
    lines = beside.beside(found, report.build(found)).sections[0].lines
    assert [(x.metric, x.within) for x in lines] == [("ttr@10", True), ("dgu@10", False)]
    for x, value in zip(lines, (0.0184, 0.1236), strict=True):
        assert (x.low, x.high) == pytest.approx((value, value))


def test_rows_and_tables_in_order(movies: results.Results) -> None:
    [section] = beside.beside(movies, report.build(movies)).sections
    assert list(dict.fromkeys((x.row, x.fact.method, x.fact.table) for x in section.lines)) == [
        ("sasrec", "sasrec", "table-4"),
        ("sft", "bigrec", "table-4"),
        ("flower", "flower", "table-4"),
        ("flower", "flower:reward=div", "table-6"),
    ]
    assert section.rest == ("grpo",)
    assert len(section.lines) == 20


def texts(found: results.Results, row: str, metric: str = "ndcg@5") -> list[str]:
    made = beside.beside(found, report.build(found))
    return [r.text for r in line(made, row, metric, made.sections[0].lines[0].fact.table).reasons]


def test_reasons_of_titles(movies: results.Results) -> None:
    credit = "Counts the one item; the papers count any of equal string."
    assert texts(movies, "sft") == [credit, "One seed."]
    assert texts(movies, "flower") == [credit]
    assert texts(movies, "flower", "ttr@10") == []
    assert texts(movies, "flower", "dgu@10") == ["The public code resets group 7's count at unseen titles."]
    assert texts(movies, "sasrec") == ["One seed."]
    assert texts(movies, "sasrec", "ttr@10") == ["The paper's code counts SASRec's first item only.", "One seed."]


def test_every_reason_is_found_in_the_record(tmp_path: Path) -> None:
    methods = [entry("sft"), entry("flower", start="sft", lam=0.005), entry("s-dpo", start="flower"), entry("sasrec")]
    methods += [entry("ppo"), entry("temp")]
    overrides = [{"when": {"method": ["s-dpo"]}, "set": {"beta": 1.0}}]
    metrics = ("hr@5-string", "dgu@10-compat")
    root = write(tmp_path / "r", methods, metrics, rank={}, collab={}, overrides=overrides)
    protocol = MOVIES | {
        "checksum": "0" * 64, "beams": 20, "limit_users": 500,
        "options": {"max_history": 5, "last": 30, "titles": None, "rows": 6400},
    }  # fmt: skip
    short = BUDGET | {"epochs": 6, "max_steps": 9000}
    spent = {"protocol": protocol, "budget": short, "backbone": {"model": "tiny", "lora": {"rank": 8}}}
    values = {"hr@5-string": [0.1] * 4, "dgu@10-compat": 0.1}
    for seed in (42, 43):
        titles(root, "sft", "sft", seed, values, {}, **spent)
        titles(root, "flower", "flower", seed, values, FLOWER, **spent)
        titles(root, "temp", "temp", seed, values, {"temperature": 1.5}, **spent)
        share = spent | {"budget": BUDGET | {"epochs": 1, "epoch_share": 0.15}}
        titles(root, "s-dpo", "s-dpo", seed, values, {"beta": 1.0, "negatives": 3}, **share)
        titles(root, "ppo", "ppo", seed, values, {"kl": "abs"}, **(spent | {"budget": BUDGET | {"max_examples": 99}}))
        bare = {"protocol": protocol, "backbone": None, "budget": None, "identifiers": None}
        cell(root, "movies_and_tv/none/sasrec", "sasrec", seed, values, {}, **bare)
    found = results.load(root)
    model = [
        "The model is tiny; the paper's is Qwen2.5-1.5B-Instruct.",
        "Trains an adapter; the paper trains all weights.",
    ]
    epochs = ["6 epochs at most; the paper has 7.", "9,000 steps at most."]
    start = "Continues from BIGRec; the paper begins with the language model."
    data = [
        "The files are not the released ones.",
        "The data are cut otherwise: max_history 5, last 30.",
        "Only the first 500 test users.",
    ]
    lists = ["Searched with 20 beams; the paper's code with 10.", "Length penalty 0; the paper's lists have 1."]
    assert texts(found, "sft", metrics[0]) == texts(found, "temp", metrics[0]) == [*model, *epochs, *data, *lists]
    assert texts(found, "sft", metrics[1]) == texts(found, "sft", metrics[0])
    of_start = [f"Its start sft: {text}" for text in epochs]
    assert texts(found, "flower", metrics[0]) == [*model, *epochs, *of_start, start, *data, *lists]
    sdpo = [r.text for r in line_of(found, "s-dpo", metrics[0]).reasons]
    assert sdpo == [
        *model,
        "15 % of the training pairs in an epoch.",
        *(f"Its start flower: {text}" for text in epochs),
        "s-dpo: beta 1.0 (published: 0.3).",
        start,
        *data,
        *lists,
    ]
    assert "99 training examples at most." in [r.text for r in line_of(found, "ppo", metrics[0]).reasons]
    loss = "SASRec's loss is a softmax; the paper's is binary cross-entropy."
    equal = "Counts equal titles; the paper's SASRec counts items."
    assert texts(found, "sasrec", metrics[0]) == [*data, loss, equal]


def test_only_what_continues_has_a_start(tmp_path: Path) -> None:
    """Flower begins with the backbone unless the suite says otherwise; a start of few epochs is not its."""
    methods = [entry("sft"), entry("flower"), entry("flower", "more", "sft"), entry("ifairlrs"), entry("d3")]
    root = write(tmp_path / "r", methods, ("ttr@10",))
    for m in methods:
        for seed in (42, 43):
            settings = {"flower": FLOWER, "d3": D3}.get(m["name"], {})
            budget = BUDGET | {"epochs": 1 if m["name"] in ("sft", "d3") else 7}  # a ranker has its start's
            titles(root, m["label"], m["name"], seed, {"ttr@10": 0.1}, settings, budget=budget)
    found = results.load(root)
    few = "1 epoch at most; the paper has 7."
    tuned = "Continues from BIGRec; the paper begins with the language model."
    expected = {"sft": [few], "flower": [], "more": [f"Its start sft: {few}", tuned], "ifairlrs": [], "d3": [few]}
    assert {row: texts(found, row, "ttr@10") for row in expected} == expected


def line_of(found: results.Results, row: str, metric: str) -> Any:
    return next(
        x for x in beside.beside(found, report.build(found)).sections[0].lines if (x.row, x.metric) == (row, metric)
    )


def codes(tmp_path: Path, ids: dict[str, Any], preset: str = "paper", **budget: Any) -> list[str]:
    kind = {"letter": "letter", "released": "letter"}.get(ids["kind"], "tiger")
    root = write(
        tmp_path / "c",
        [entry("sft")],
        ("ndcg@10",),
        datasets=[entry("beauty")],
        backbones=[entry(kind)],
        seeds=[42, 43],
    )
    protocol = {
        "checksum": "54632de5777f86fdb53fe4578592511dfd03c8254661d7bafefbc83f5c64c5d0",
        "options": {"max_history": 20, "last": None, "titles": None, "rows": 6400}, "beams": 20,
    }  # fmt: skip
    for seed in (42, 43):
        about = {"backbone": {"preset": preset}, "identifiers": ids, "budget": BUDGET | {"epochs": 200} | budget}
        cell(root, f"beauty/{kind}/sft", "sft", seed, {"ndcg@10": [0.1] * 4}, {}, protocol=protocol, **about)
    return texts(results.load(root), "sft", "ndcg@10")


def test_reasons_of_codes(tmp_path: Path) -> None:
    silent = "The paper gives no training budget and no collaborative model."
    assert codes(tmp_path / "1", {"kind": "rqvae", "dedup": True, "features": "file:t5.npy"}) == [silent]
    tfidf = {"dedup": True, "features": "tfidf-svd"}
    assert codes(tmp_path / "2", {"kind": "rkmeans", **tfidf}, "tiny", epochs=20) == [
        "The T5 is tiny; TIGER's has 4 + 4 layers of width 128.",
        "Codes by rkmeans; TIGER's by rqvae.",
        "Codes from TF-IDF vectors; TIGER's from Sentence-T5.",
        "20 epochs at most; LETTER's script has 200.",
        silent,
    ]
    credit = "Counts the one item; the papers count any of equal string."
    own = codes(tmp_path / "3", {"kind": "letter", "dedup": False, "features": "tfidf-svd"})
    assert own == ["Codes from TF-IDF vectors; LETTER's from LLaMA-7B.", credit, silent]
    released = codes(tmp_path / "4", {"kind": "released", "dedup": True})
    assert released == ["LETTER's released codes; those of the paper are not public.", credit, silent]


def test_reasons_are_short(tmp_path: Path) -> None:
    for suite_name in ("flower-tiny", "ablations/gflowgr-table2"):
        found = made(suite_name, tmp_path / suite_name.replace("/", "-"))
        made_of = {r for s in beside.beside(found, report.build(found)).sections for x in s.lines for r in x.reasons}
        assert made_of
        for reason in made_of:
            assert reason.text.endswith(".")
            if reason.key != "settings":
                assert len(reason.text.split()) <= 14, reason.text


def test_strangers_among_the_seeds_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "r", [entry("sft")], ("ndcg@5",))
    titles(root, "sft", "sft", 42, {"ndcg@5": [0.1, 0.2, 0.3, 0.4]}, {})
    titles(root, "sft", "sft", 43, {"ndcg@5": [0.1, 0.2, 0.3, 0.4, 0.5]}, {})
    found = results.load(root)
    with pytest.raises(StoreError, match=r"seed-43 and .*seed-42 were measured on different users"):
        beside.beside(found, report.build(found))


def test_users_are_paired_by_name(tmp_path: Path) -> None:
    root = write(tmp_path / "r", [entry("sft")], ("ndcg@5",))
    values = [0.0, 0.1, 0.2, 0.4]
    for seed in (42, 43):
        titles(root, "sft", "sft", seed, {"ndcg@5": values}, {})
    path = root / "cells/movies_and_tv/bigrec-qwen/sft/seed-43/users.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    found = results.load(root)
    assert found.values(found.records, "ndcg@5").tolist() == [values, values]


# The texts


def test_markdown_golden(movies: results.Results) -> None:
    text = beside.published_markdown(beside.beside(movies, report.build(movies)))
    assert text == golden("published.md", text)


def test_a_block_without_a_counterpart_says_so_once(folder: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "r", [entry("grpo")], ("ndcg@5",), stats={"primary": "ndcg@5", "baseline": "grpo"})
    titles(root, "grpo", "grpo", 42, {"ndcg@5": [0.1] * 4}, {})
    found = results.load(root)
    made_of = beside.beside(found, report.build(found))
    assert made_of.sections[0].lines == ()
    text = beside.published_markdown(made_of)
    assert text.splitlines()[2:] == [
        "## movies\\_and\\_tv · bigrec-qwen", "", "No row of this block has a published counterpart.",
    ]  # fmt: skip
    # records that do not say what they are stand for nothing
    other = results.load(folder)
    assert not any(s.lines for s in beside.beside(other, report.build(other)).sections)


def test_the_papers_stars_are_kept(tmp_path: Path) -> None:
    methods = [entry("gflowgr-db"), entry("gflowgr-tb")]
    root = write(tmp_path / "r", methods, ("ndcg@5",), datasets=[entry("beauty")], backbones=[entry("letter")])
    for m in methods:
        cell(root, f"beauty/letter/{m['name']}", m["name"], 42, {"ndcg@5": [0.1] * 4}, {}, protocol={})
    found = results.load(root)
    text = beside.published_markdown(beside.beside(found, report.build(found)))
    rows = [r.split(" | ") for r in text.splitlines() if r.startswith("| gflowgr")]
    assert [(r[1], r[4]) for r in rows] == [
        ("gflowgr-db, GFlowGR Table 1", "0.0266"),
        ("gflowgr-tb, GFlowGR Table 1", r"0.0276\*"),
    ]
    assert "better than its best baseline" in text


def test_csv_and_json_are_unrounded(movies: results.Results) -> None:
    found = beside.beside(movies, report.build(movies))
    rows = list(csv.DictReader(io.StringIO(beside.FORMATS["csv"](found))))
    first = next(r for r in rows if (r["row"], r["metric"]) == ("sft", "ndcg@5"))
    own = line(found, "sft", "ndcg@5", "table-4")
    assert (float(first["mean"]), float(first["low"]), float(first["published"])) == (own.mean, own.low, 0.093)
    assert (first["within"], first["published_as"], first["significant"]) == ("True", "bigrec", "")
    assert next(r for r in rows if (r["row"], r["metric"]) == ("sft", "ttr@10"))["low"] == ""
    data = json.loads(json.dumps(beside.as_dict(found), allow_nan=False))
    assert data == json.loads(json.dumps(beside.as_dict(found)))
    assert data["sections"][0]["lines"][5]["fact"]["method"] == "bigrec"
    assert data["sections"][0]["lines"][5]["reasons"][1] == {"key": "seed", "text": "One seed."}


def test_printed_digits() -> None:
    def shown(value: float, half: float) -> str:
        return beside.printed(Fact("flower", "table-4", "", "", "", "", value, None, half))

    assert [shown(0.002, 0.00005), shown(0.19, 0.0005), shown(9.1, 0.05)] == ["0.0020", "0.190", "9.1"]
    assert {beside.printed(f) for f in find("beauty", "tiger", "ppo")} == {"0.0020", "0.0032", "0.0013", "0.0017"}


def test_reading_the_facts_needs_no_torch() -> None:
    code = "import sys, rlrecbench.report.order, rlrecbench.report.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
