"""What stands beside the primary comparisons: other metrics, the baseline chosen on validation, all blocks together."""

from pathlib import Path

import numpy as np
import pytest

from rlrecbench import report, results, stats
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import evaluate
from rlrecbench.report.captions import caption
from rlrecbench.report.leaderboard import declared
from rlrecbench.report.table import Table


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
    assert any(s.startswith("Baseline: dpo, the best trained row on validation") for s in caption(table, made))


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
