"""The smallest difference that a suite can find: from records, from assumptions, and where there is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rlrecbench import stats
from rlrecbench.cli.plan import notes, plan
from rlrecbench.execute import runner
from rlrecbench.execute.detectable import SCALES, Detectable, assumed, detectable
from rlrecbench.stats import StatsConfig

U = 40


def suite(folder: Path, **changes: Any) -> Path:
    """A suite with two backbones, three methods on them and one without."""
    content = {
        "name": "x",
        "seeds": [1, 2, 3],
        "datasets": [{"ml-100k": {"last": 10}}],
        "backbones": [{"tiger": {"preset": "tiny", "as": name}} for name in ("one", "two")],
        "methods": ["most-popular", "sft", {"dpo": {"epochs": 1}}],
        "train": {"epochs": 1, "max_steps": 10},
        "stats": {"primary": "ndcg@10", "baseline": "sft"},
    }
    path = folder / "x.yaml"
    path.write_text(json.dumps(content | changes))
    return path


def found(folder: Path, **options: Any) -> list[Detectable]:
    changes = options.pop("changes", {})
    planned = runner.plan(str(suite(folder, **changes)), runner.Options(results=folder / "results/x", **options))
    return detectable(planned)


def write(folder: Path, backbone: str, method: str, values: "np.ndarray[Any, Any]") -> None:
    """Write records with values of ndcg@10, [S, U]."""
    root = folder / "results/x"
    names = {"datasets": ["ml-100k"], "backbones": ["one", "two"], "methods": ["most-popular", "sft", "dpo"]}
    entries = {kind: [{"name": n, "label": n} for n in labels] for kind, labels in names.items()}
    root.mkdir(parents=True, exist_ok=True)
    (root / "suite.json").write_text(json.dumps({"name": "x", "seeds": [1, 2, 3], "metrics": ["ndcg@10"], **entries}))
    for seed, row in enumerate(values, 1):
        cell = root / "cells/ml-100k" / backbone / method / f"seed-{seed}"
        cell.mkdir(parents=True)
        users = {"user_id": [str(u) for u in range(U)], "target": "1", "ndcg@10": row}
        pd.DataFrame(users).to_parquet(cell / "users.parquet", index=False)
        record = {"schema": 1, "metrics": {"ndcg@10": row.mean()}, "provenance": {"fingerprint": "f"}}
        (cell / "metrics.json").write_text(json.dumps(record))


def test_without_records_it_is_assumed(tmp_path: Path) -> None:
    blocks = found(tmp_path)
    assert [b.label for b in blocks] == ["one", "two"]
    one = blocks[0]
    assert (one.users, one.seeds, one.comparisons, one.baseline) == (943, 3, 2, "sft")
    scale = SCALES["ndcg"]
    variance = stats.Variance(scale.users**2 * 0.03, (scale.seeds * 0.03) ** 2, scale.interaction**2 * 0.03)
    assert one.absolute == pytest.approx(stats.smallest_effect(variance, 943, 3, 0.05 / 2, 0.8))
    assert one.absolute is not None
    assert one.relative == pytest.approx(one.absolute / 0.03)
    assert "assumed" in one.source


def test_the_smallest_difference_is_found_with_the_stated_power(tmp_path: Path) -> None:
    """The answer put back into the power of the test."""
    one = found(tmp_path)[0]
    assert one.absolute is not None
    _, variance = assumed("ndcg")
    assert stats.power_of(one.absolute, variance, 943, 3, one.alpha) == pytest.approx(0.8, abs=1e-3)


def test_with_records_it_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base, dpo = (rng.random((3, U)) for _ in range(2))
    write(tmp_path, "one", "sft", base)
    write(tmp_path, "one", "dpo", dpo)
    one, two = found(tmp_path)
    variance = stats.two_way(dpo - base).variance
    assert variance is not None
    assert one.mean == pytest.approx(base.mean())
    assert one.absolute == pytest.approx(stats.smallest_effect(variance, 943, 3, 0.025, 0.8))
    assert "1 comparison with sft over 3 seeds" in one.source
    assert (two.mean, "assumed" in two.source) == (SCALES["ndcg"].mean, True)


def test_the_baseline_alone_gives_the_mean(tmp_path: Path) -> None:
    write(tmp_path, "one", "sft", np.full((1, U), 0.2))
    one = found(tmp_path)[0]
    assert one.mean == pytest.approx(0.2)
    assert one.absolute == pytest.approx(stats.smallest_effect(assumed("ndcg", 0.2)[1], 943, 3, 0.025, 0.8))
    assert "the mean from sft's records" in one.source


def test_more_is_better(tmp_path: Path) -> None:
    """More seeds, fewer comparisons: a smaller difference is found; fewer users: only a larger one."""

    def smallest(**options: Any) -> float:
        effect = found(tmp_path, **options)[0].absolute
        assert effect is not None
        return effect

    usual = smallest()
    assert smallest(changes={"seeds": [1, 2, 3, 4, 5]}) < usual
    assert smallest(only=("method=sft,dpo",)) < usual
    assert smallest(limit_users=100) > usual


@pytest.mark.parametrize(
    ("config", "alpha", "words"),
    [
        ({}, 0.025, "by the two-way test at 0.05 / compared (Holm's first step)"),
        ({"correction": "bh"}, 0.025, "/ compared (Benjamini and Hochberg's first step; at most these, as later"),
        ({"correction": "none"}, 0.05, "by the two-way test at 0.05, uncorrected"),
        ({"test": "wilcoxon"}, 0.025, "The suite compares with wilcoxon; what that finds is not computed."),
    ],
)
def test_level_and_words_follow_the_suite(tmp_path: Path, config: dict[str, Any], alpha: float, words: str) -> None:
    stated: dict[str, Any] = {"primary": "ndcg@10", "baseline": "sft", **config}
    effects = found(tmp_path, changes={"stats": stated})
    assert effects[0].alpha == pytest.approx(alpha)
    assert effects[0].absolute == pytest.approx(stats.smallest_effect(assumed("ndcg")[1], 943, 3, alpha, 0.8))
    assert words in " ".join(notes(effects, StatsConfig(**stated)))


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"seeds": [1]}, "one seed: nothing can be said about methods, only about checkpoints"),
        ({"stats": {"primary": "dgu@10", "baseline": "sft"}, "metrics": ["dgu@10"]}, "dgu@10 has no value per user"),
        ({"methods": ["sft"]}, "no row to compare with the baseline"),
        ({"methods": ["dpo"], "stats": {"primary": "ndcg@10"}}, "no row to compare with the baseline"),
    ],
)
def test_where_there_is_none(tmp_path: Path, changes: dict[str, Any], remark: str) -> None:
    one = found(tmp_path, changes=changes)[0]
    assert (one.absolute, one.relative, one.remark) == (None, None, remark)


def test_rows_can_be_backbones(tmp_path: Path) -> None:
    changes = {"stats": {"primary": "ndcg@10", "rows": "backbones"}}
    blocks = found(tmp_path, changes=changes)
    assert [(b.label, b.baseline, b.comparisons) for b in blocks] == [("sft", "one", 2), ("dpo", "one", 2)]


def test_the_best_baseline_is_not_known_yet(tmp_path: Path) -> None:
    one = found(tmp_path, changes={"stats": {"primary": "ndcg@10", "baseline": "best"}})[0]
    assert (one.baseline, one.comparisons) == ("", 2)
    assert one.absolute is not None


def test_names_without_a_scale_count_as_recall() -> None:
    assert assumed("recall") == assumed("something")
    mean, variance = assumed("recall", 0.1)
    assert variance == pytest.approx((0.44**2 * 0.1, (0.075 * 0.1) ** 2, 0.75**2 * 0.1))
    assert mean == 0.1


def test_plan_prints_it(tmp_path: Path) -> None:
    path = suite(tmp_path, seeds=[1, 2], methods=["sft", {"dpo": {"epochs": 1}}])
    arguments = [str(path), "--results", str(tmp_path / "results/x"), "--only", "backbone=one", "--until", "prepare"]
    text = CliRunner().invoke(plan, arguments).output
    assert "Smallest difference from sft in ndcg@10 that the suite can find" in text
    assert "80 % probability" in text
    assert "assumed, as in our own runs" in text
    (one,) = json.loads(CliRunner().invoke(plan, [*arguments, "--json"]).output)["detectable"]
    assert (one["label"], one["users"], one["seeds"]) == ("one", 943, 2)


def test_plan_says_why_there_is_none(tmp_path: Path) -> None:
    effects = found(tmp_path, changes={"seeds": [1]}, only=("backbone=one",))
    (note,) = notes(effects, StatsConfig())
    assert note == "No smallest difference: one seed: nothing can be said about methods, only about checkpoints."
