"""The leaderboard as data: who is best, how methods are compared, what is missing."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench import report, results, stats
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.report.captions import caption
from rlrecbench.report.table import Block, Row, Table, marks
from rlrecbench.stats import StatsConfig

Write = Callable[..., Path]
NUMBERS = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(NUMBERS)
def test_marks_are_invariant_under_negation_with_flipped_direction(values: list[float | None]) -> None:
    negated = [None if v is None else -v for v in values]
    assert marks(values, "higher") == marks(negated, "lower")


@given(NUMBERS)
def test_marks_against_counting(values: list[float | None]) -> None:
    known = {v for v in values if v is not None}
    for value, mark in zip(values, marks(values, "higher"), strict=True):
        above = sum(other > value for other in known) if value is not None else 9
        assert mark == ({0: "best", 1: "second"}.get(above, "") if len(known) > 1 else "")


def test_marks_by_hand() -> None:
    assert marks([0.1, 0.3, 0.2, 0.3], "higher") == ["", "best", "second", "best"]
    assert marks([0.1, 0.3, 0.2], "lower") == ["best", "", "second"]
    assert marks([0.12341, 0.12342], "higher") == ["second", "best"]  # equal once rounded
    assert marks([0.5, None, 0.5], "higher") == ["", "", ""]
    assert marks([float("nan"), 0.5, 0.4], "lower") == ["", "second", "best"]


def block(table: Table, dataset: str = "beauty", label: str = "tiger") -> Block:
    return next(b for b in table.blocks if (b.dataset, b.label) == (dataset, label))


def row(of: Block, label: str) -> Row:
    return next(r for r in of.rows if r.label == label)


def test_values_are_mean_and_standard_deviation_over_seeds(folder: Path) -> None:
    found = results.load(folder)
    own = [r.metrics["ndcg@10"] for r in found.records if r.backbone == "tiger" and r.dataset == "beauty"]
    value = row(block(report.build(found)), "sft").values["ndcg@10"]
    assert value is not None
    assert value.mean == pytest.approx(fmean(own[:3]))
    assert value.std == pytest.approx(stdev(own[:3]))


def test_best_follows_the_direction_of_the_metric(folder: Path) -> None:
    rows = block(report.build(results.load(folder))).rows
    marked = {m: [v.mark if (v := r.values[m]) else None for r in rows] for m in ("recall@10", "dgu@10")}
    assert marked == {"recall@10": ["", "best", "second", ""], "dgu@10": ["second", "", "", "best"]}


def test_comparisons_are_the_two_way_test_corrected_by_holm(folder: Path) -> None:
    found = results.load(folder)
    records = next(found.blocks()).records
    made = block(report.build(found))
    assert [r.comparison is None for r in made.rows] == [True, False, False, False]
    tests = []
    for method, seeds in (("dpo", 3), ("ppo", 1), ("most-popular", 3)):
        pairs = zip(records[method], records["sft"][:seeds], strict=True)
        D = [found.users(a)["ndcg@10"] - found.users(b)["ndcg@10"] for a, b in pairs]
        tests.append(stats.two_way(np.array(D)))
        comparison = row(made, method).comparison
        assert comparison is not None
        assert comparison.test == tests[-1]
        assert comparison.tally == stats.tally(np.array(D))
    p = stats.family_p(tests)  # those with three seeds lend each other their variance of seeds
    # most-popular < dpo < ppo, so Holm multiplies by 2, 1 and 3.
    assert p[2] < p[0] < p[1]
    compared = [c for r in made.rows if (c := r.comparison) is not None]
    assert [c.corrected_p for c in compared] == pytest.approx([2 * p[0], p[1], 3 * p[2]])
    assert [c.verdict for c in compared] == ["better", "cannot tell", "worse"]
    assert [c.star for c in compared] == [True, False, True]


def test_one_seed_has_no_star_however_small_p(folder: Path) -> None:
    table = report.build(results.load(folder))
    made = block(table, label="letter")
    comparison = row(made, "dpo").comparison
    assert comparison is not None
    assert comparison.corrected_p < 0.001
    assert (comparison.star, comparison.test.checkpoint_only) == (False, True)
    assert any("Checkpoint-level only, no stars" in s for s in caption(table, made))


def test_no_baseline_no_stars(folder: Path) -> None:
    table = report.build(results.load(folder))
    made = block(table, "yelp")
    assert all(r.comparison is None for r in made.rows)
    assert "No stars: the baseline sft has no result here." in caption(table, made)


def test_missing_and_failed_cells(folder: Path) -> None:
    table = report.build(results.load(folder))
    made = block(table)
    assert (made.missing, made.failed) == ({"ppo": (43, 44)}, 1)
    assert "2 of 12 cells missing, 1 of them failed (seeds of ppo: 43, 44)." in caption(table, made)
    assert row(block(table, label="letter"), "ppo").values == dict.fromkeys(("recall@10", "ndcg@10", "dgu@10"))
    assert table.empty == (("yelp", "letter"),)


def test_audit_is_told(folder: Path) -> None:
    table = report.build(results.load(folder))
    told = [s for s in caption(table, block(table)) if s.startswith("†")]
    assert told == ["† dpo, places that score nothing: 9 duplicate in 6 lists, all seeds together."]


def test_costs_are_means_of_numbers(folder: Path) -> None:
    cost = row(block(report.build(results.load(folder))), "dpo").cost
    assert cost == {"train_s": 120.5, "examples_per_s": 64.0, "rank_s_per_1000": 1.25, "stopped_early": 0.0}


@pytest.mark.parametrize("name", ["t-users", "permutation", "bootstrap"])
def test_tests_over_users_say_what_they_speak_of(folder: Path, name: stats.TestName) -> None:
    table = report.build(results.load(folder), config=StatsConfig(test=name))
    made = block(table)
    comparison = row(made, "dpo").comparison
    assert comparison is not None
    assert (comparison.test.name, comparison.star) == (name, True)
    assert any("these checkpoints, not of the methods" in s for s in caption(table, made))


def test_t_seeds_is_one_sided_towards_better(folder: Path) -> None:
    found = results.load(folder)
    table = report.build(found, config=StatsConfig(test="t-seeds", correction="none"))
    made = block(table)
    values = {m: [r.metrics["ndcg@10"] for r in rs] for m, rs in next(found.blocks()).records.items()}
    up, down = row(made, "dpo").comparison, row(made, "most-popular").comparison
    assert up is not None
    assert down is not None
    assert up.test == stats.t_seeds(values["dpo"], values["sft"], "greater")
    assert up.corrected_p == up.test.p < 0.05
    assert down.test.p > 0.95
    lower = report.build(found, config=StatsConfig(primary="dgu@10", test="t-seeds"))
    fair = row(block(lower), "most-popular").comparison
    assert fair is not None
    assert (fair.test.p, fair.verdict, fair.tally) == (0.0, "better", None)  # the same value with every seed


def test_list_level_primary_needs_t_seeds(folder: Path) -> None:
    table = report.build(results.load(folder), config=StatsConfig(primary="dgu@10"))
    made = block(table)
    assert made.family == 0
    assert any("needs values per user and dgu@10 has none" in s for s in caption(table, made))


def test_other_columns_and_baseline(folder: Path) -> None:
    found = results.load(folder)
    table = report.build(found, ["hr@10"], StatsConfig(baseline="most-popular"))
    assert [(c.metric, c.better) for c in table.columns] == [("recall@10", "higher")]
    assert row(block(table), "most-popular").comparison is None
    assert row(block(table), "sft").comparison is not None


def test_two_seeds_are_warned_about(tmp_path: Path, cell: Write, suite: Callable[..., None]) -> None:
    suite(tmp_path, seeds=[42, 43])
    for seed in (42, 43):
        for method in ("sft", "dpo"):
            cell(tmp_path, "beauty", "tiger", method, seed)
    table = report.build(results.load(tmp_path))
    assert any("With two seeds" in s for s in caption(table, table.blocks[0]))


def test_requests_that_cannot_be_met(folder: Path, tmp_path: Path, suite: Callable[..., None]) -> None:
    found = results.load(folder)
    with pytest.raises(ConfigError, match=r"metric 'mrr@10' is in no record .* measured: recall@10, ndcg@10, dgu@10"):
        report.build(found, ["mrr@10"])
    with pytest.raises(ConfigError, match=r"no method 'grpo' in .*; rows: sft, dpo, ppo, most-popular"):
        report.render(found, "md", changes={"baseline": "grpo"})
    suite(tmp_path / "new")
    with pytest.raises(StoreError, match="no cell is done yet"):
        report.build(results.load(tmp_path / "new"))
