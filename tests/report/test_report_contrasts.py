"""What stands beside the primary comparisons: other metrics, the baseline chosen on validation, all blocks together."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlrecbench import report, results, stats
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import evaluate
from rlrecbench.report.captions import caption
from rlrecbench.report.leaderboard import declared
from rlrecbench.report.table import Table

Write = Callable[..., Path]
ENTRIES = ("sft", "dpo", "ppo", "most-popular")


def change(record: results.Record, **metrics: float | None) -> None:
    """Set metrics of a stored record; None removes one."""
    path = record.path / "metrics.json"
    data = json.loads(path.read_text())
    data["metrics"] = {k: v for k, v in (data["metrics"] | metrics).items() if k not in metrics or v is not None}
    path.write_text(json.dumps(data))


def cell(folder: Path, name: str) -> results.Record:
    return next(r for r in results.load(folder).records if r.name == name)


def sentences(table: Table, block: int = 0) -> str:
    return " ".join(caption(table, table.blocks[block]))


def build(folder: Path, **changes: str) -> Table:
    found = results.load(folder)
    return report.build(found, config=declared(found, changes))


def test_lists_read_back_give_the_recorded_metrics(complete: Path) -> None:
    found = results.load(complete)
    for record in found.records[::5]:
        lists = found.lists(record)
        assert lists is not None
        assert evaluate(lists, list(record.metrics)).values == record.metrics


def test_lists_need_the_catalogue(complete: Path) -> None:
    (complete / "data" / "beauty" / "items.parquet").unlink()
    found = results.load(complete)
    assert found.lists(found.records[0]) is None
    assert found.reference("beauty") is None


def test_lists_that_name_an_unknown_item_are_refused(complete: Path) -> None:
    found = results.load(complete)
    record = found.records[0]
    ranked = found.ranked(record)
    ranked.loc[3, "item_id"] = "nothing"
    ranked.to_parquet(record.path / "ranked.parquet", index=False)
    with pytest.raises(StoreError, match=r"seed-42: users.parquet and ranked.parquet do not fit each other"):
        results.load(complete).lists(record)


def test_secondary_metrics_are_corrected_together(complete: Path) -> None:
    """Three rows against sft on seven metrics beside the primary one: 21 comparisons, a family of three per metric."""
    made = build(complete).blocks[0]
    of = [[v.contrast for r in made.rows if (v := r.values[m]) and v.contrast] for m in made.rows[0].values]
    found = [contrast for family in of for contrast in family]
    assert made.contrasts == len(found) == 21
    p = [p for family in of for p in stats.family_p([c.test for c in family])]
    assert [c.corrected_p for c in found] == pytest.approx(stats.benjamini_hochberg(p))
    assert [c.notable for c in found] == [c.corrected_p < 0.05 for c in found]
    primary = [r.values["ndcg@10"] for r in made.rows]
    assert all(v is not None and v.contrast is None for v in primary)


def test_a_per_user_metric_is_tested_like_the_primary_one(complete: Path) -> None:
    found = results.load(complete)
    block = next(found.blocks())
    D = found.difference(block.records["dpo"], block.records["sft"], "recall@5")
    value = next(r for r in build(complete).blocks[0].rows if r.label == "dpo").values["recall@5"]
    assert value is not None
    assert value.contrast is not None
    assert value.contrast.test == stats.two_way(D)


def test_values_of_the_seeds_stand_beside_their_mean(complete: Path) -> None:
    found = results.load(complete)
    block = list(found.blocks())[3]
    assert (block.dataset, block.label) == ("yelp", "letter")
    value = next(r for r in build(complete).blocks[3].rows if r.label == "ppo").values["dgu@10"]
    assert value is not None
    assert value.seeds == tuple(r.metrics["dgu@10"] for r in block.records["ppo"])
    assert len(value.seeds) == 2


def test_the_best_baseline_is_chosen_on_validation(complete: Path) -> None:
    """Half the test value here, so that of dpo; most-popular has none and cannot be chosen."""
    table = build(complete, baseline="best")
    made = table.blocks[0]
    assert made.baseline == "dpo"
    assert [r.comparison is None for r in made.rows] == [False, True, False, False]
    assert any(
        s.startswith("Baseline: dpo, the best on validation of the rows selected by it") for s in caption(table, made)
    )


def test_no_best_baseline_without_validation(folder: Path) -> None:
    table = build(folder, baseline="best")
    assert "No stars: no row has a validation value to choose the baseline by." in caption(table, table.blocks[0])


def test_an_unknown_baseline_is_proposed_another(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no method 'dpo1' in .*; did you mean 'dpo'\?"):
        build(folder, baseline="dpo1")


def test_wins_over_all_blocks(complete: Path) -> None:
    """Dpo beats sft in four blocks out of four: what its list gains is three times sft's."""
    across = build(complete).across
    assert across is not None
    assert (across.rows, across.blocks) == (("sft", "dpo", "ppo", "most-popular"), 4)
    pair, back = across.pairs["dpo", "sft"], across.pairs["sft", "dpo"]
    assert (pair.won, pair.tied, pair.lost) == (back.lost, back.tied, back.won)
    found = results.load(complete)
    effects = []
    for block in found.blocks():
        a, b = (np.mean([r.metrics["ndcg@10"] for r in block.records[m]]) for m in ("dpo", "sft"))
        effects.append(a / b - 1)
    assert pair.relative == pytest.approx(np.mean(effects))
    assert across.ranks is None


def test_one_block_has_nothing_across(complete: Path) -> None:
    found = results.load(complete)
    records = [r for r in found.records if r.dataset == "beauty" and r.backbone != "letter"]
    one = results.Results(complete, found.suite, records, {})
    assert report.build(one).across is None


def test_cells_of_other_users_are_refused_by_name(complete: Path) -> None:
    found = results.load(complete)
    record = next(r for r in found.records if r.name == "beauty/tiger/dpo seed 42")
    users = found.users(record)
    users["user_id"] = ["stranger", *users["user_id"][1:]]
    users.to_parquet(record.path / "users.parquet", index=False)
    with pytest.raises(StoreError, match=r"1 of 80 only in .*\(u0\); 1 of 80 only in .*dpo seed 42 \(stranger\)"):
        build(complete)


def test_a_user_named_twice_is_refused(complete: Path) -> None:
    found = results.load(complete)
    record = next(r for r in found.records if r.name == "beauty/tiger/dpo seed 42")
    users = found.users(record)
    users["user_id"] = ["u1", *users["user_id"][1:]]
    users.to_parquet(record.path / "users.parquet", index=False)
    with pytest.raises(StoreError, match="names a user twice"):
        build(complete)


def test_two_schemas_are_not_mixed(complete: Path) -> None:
    path = next(complete.rglob("metrics.json"))
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))
    with pytest.raises(StoreError, match="schema 0, but this version reads 1"):
        results.load(complete)


def test_the_order_of_users_in_a_file_changes_nothing(complete: Path) -> None:
    before = report.render(results.load(complete), "json")
    record = cell(complete, "beauty/tiger/dpo seed 43")
    for name in ("users.parquet", "ranked.parquet"):
        frame = pd.read_parquet(record.path / name)
        frame.iloc[::-1].to_parquet(record.path / name, index=False)
    assert report.render(results.load(complete), "json") == before


def test_an_undefined_value_of_a_user_leaves_the_row_out(complete: Path) -> None:
    record = cell(complete, "beauty/tiger/ppo seed 42")
    users = pd.read_parquet(record.path / "users.parquet")
    users.loc[0, "ndcg@10"] = np.nan
    users.to_parquet(record.path / "users.parquet", index=False)
    table = build(complete)
    assert [r.comparison is None for r in table.blocks[0].rows] == [True, False, True, False]
    assert "Not compared, without a seed and values in common: ppo." in sentences(table)
    assert table.across is not None
    assert table.across.pairs["dpo", "ppo"].won + table.across.pairs["dpo", "ppo"].tied == 3


def test_a_cell_without_the_primary_metric_leaves_its_row_out(complete: Path) -> None:
    record = cell(complete, "beauty/tiger/ppo seed 43")
    pd.read_parquet(record.path / "users.parquet").drop(columns="ndcg@10").to_parquet(record.path / "users.parquet")
    change(record, **{"ndcg@10": None})
    table = build(complete)
    assert [r.comparison is None for r in table.blocks[0].rows] == [True, False, True, False]
    assert "Not in every cell: ndcg@10 of ppo over 2 of 3 seeds." in sentences(table)


def test_a_list_metric_missing_in_a_cell_is_not_compared(complete: Path) -> None:
    change(cell(complete, "beauty/tiger/ppo seed 43"), **{"dgu@10": None})
    values = {r.label: r.values["dgu@10"] for r in build(complete).blocks[0].rows}
    assert values["ppo"] is not None
    assert values["dpo"] is not None
    assert (values["ppo"].contrast, values["dpo"].contrast is None) == (None, False)


def test_comparisons_say_on_how_many_seeds_they_rest(complete: Path) -> None:
    for path in (complete / "cells" / "beauty" / "tiger" / "sft" / "seed-44").iterdir():
        path.unlink()
    table = build(complete)
    assert "Compared on the seeds in common with sft: dpo 2 of 3, ppo 2 of 3, most-popular 2 of 3." in sentences(table)
    line = report.render(results.load(complete), "csv").splitlines()
    at = line[0].split(",").index("seeds_compared")
    assert [row.split(",")[at] for row in line[1:5]] == ["", "2", "2", "2"]


def test_two_rankers_without_a_backbone_meet_once_per_data_set(complete: Path, whole_cell: Write, suite: Write) -> None:
    methods = [{"name": n, "label": n} for n in (*ENTRIES, "item-graph")]
    suite(complete, name="complete", metrics=["ndcg@10"], methods=methods)
    for dataset in ("beauty", "yelp"):
        for seed in (42, 43, 44):
            whole_cell(complete, dataset, "none", "item-graph", seed, 3.0)
    across = build(complete).across
    assert across is not None
    pair, other = across.pairs["item-graph", "most-popular"], across.pairs["item-graph", "sft"]
    assert (pair.won + pair.tied + pair.lost, other.won + other.tied + other.lost) == (2, 4)
    assert across.ranked == ("sft", "dpo", "ppo")


def test_the_papers_test_is_one_sided_on_the_primary_metric_alone(complete: Path) -> None:
    """most-popular is worse by far: never told apart on ndcg@10, told apart on recall@5."""
    table = build(complete, test="t-seeds")
    row = next(r for r in table.blocks[0].rows if r.label == "most-popular")
    value = row.values["recall@5"]
    assert row.comparison is not None
    assert row.comparison.test.p > 0.95
    assert value is not None
    assert value.contrast is not None
    assert value.contrast.test.p < 0.05
    assert "is better than (one-sided: a worse row is never told apart) sft" in sentences(table)


def test_the_relative_interval_knows_that_the_baseline_varies(complete: Path) -> None:
    found = results.load(complete)
    block = next(found.blocks())
    a, b = (found.values(block.records[m], "ndcg@10") for m in ("dpo", "sft"))
    comparison = build(complete).blocks[0].rows[1].comparison
    assert comparison is not None
    assert comparison.ratio == stats.effect(a, b).relative
    assert comparison.ratio is not None
    assert comparison.ratio.value == pytest.approx(comparison.relative(comparison.test.mean))


def test_an_unknown_layout_is_refused_in_every_format(complete: Path) -> None:
    with pytest.raises(ConfigError, match="no layout 'dataset' of a LaTeX table; did you mean 'datasets'"):
        report.render(results.load(complete), "md", extras=report.Extras(layout="dataset"))


def test_two_csv_tables_do_not_share_a_text(complete: Path) -> None:
    made = report.Report.of(results.load(complete), extras=report.Extras(published=True, order=True))
    assert list(made.texts("csv")) == ["leaderboard.csv", "published.csv", "order.csv"]
    with pytest.raises(ConfigError, match="a CSV file holds one table"):
        made.text("csv")
    with pytest.raises(ConfigError, match="LaTeX tables hold our own numbers"):
        made.texts("latex")


def test_a_catalogue_without_a_column_is_named(complete: Path) -> None:
    path = complete / "data" / "beauty" / "items.parquet"
    pd.read_parquet(path).drop(columns="group").to_parquet(path)
    with pytest.raises(
        StoreError, match=r"items.parquet \(columns item_id, title, group, frequency\) cannot be read.*beauty"
    ):
        build(complete)


def test_equal_means_are_marked_alike_however_they_were_added(folder: Path) -> None:
    """.1 + .2 + .3 and .3 + .2 + .1 differ in the last bit."""
    for seed, a, b in ((42, 0.1, 0.3), (43, 0.2, 0.2), (44, 0.3, 0.1)):
        for method, value in (("sft", a), ("dpo", b)):
            path = folder / "cells" / "beauty" / "tiger" / method / f"seed-{seed}" / "metrics.json"
            data = json.loads(path.read_text())
            data["metrics"]["recall@10"] = value
            path.write_text(json.dumps(data))
    marks = {r.label: v.mark for r in build(folder).blocks[0].rows if (v := r.values["recall@10"])}
    assert marks["sft"] == marks["dpo"]
