"""Leaderboards whose rows are backbones: the same table, transposed."""

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from rlrecbench import report, results, stats
from rlrecbench.cli.report import report as command
from rlrecbench.errors import ConfigError
from rlrecbench.report.captions import caption, title
from rlrecbench.report.table import Block, Comparison, Row, Table
from rlrecbench.stats import StatsConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "leaderboard-backbones.md"


def swap(root: Path, to: Path) -> Path:
    """Copy a results folder with the roles of backbone and method exchanged; rankers without one keep theirs."""

    def place(cell: str) -> str:
        dataset, backbone, method = cell.split("/")
        return cell if backbone == "none" else f"{dataset}/{method}/{backbone}"

    for path in sorted(root.glob("cells/*/*/*/seed-*/*")):
        *cell, seed, name = path.relative_to(root / "cells").parts
        target = to / "cells" / place("/".join(cell)) / seed / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for line in (failures := json.loads((root / "failures.json").read_text())):
        cell, seed = line["cell"].split(" seed ")
        line["cell"] = f"{place(cell)} seed {seed}"
    (to / "failures.json").write_text(json.dumps(failures))
    suite = json.loads((root / "suite.json").read_text())
    bare = [e for e in suite["methods"] if e["label"] == "most-popular"]
    suite["backbones"], suite["methods"] = (
        [e for e in suite["methods"] if e not in bare],
        [*suite["backbones"], *bare],
    )
    (to / "suite.json").write_text(json.dumps(suite))
    return to


def block(table: Table, label: str, dataset: str = "beauty") -> Block:
    return next(b for b in table.blocks if (b.dataset, b.label) == (dataset, label))


def row(of: Block, label: str) -> Row:
    return next(r for r in of.rows if r.label == label)


def comparison(of: Block, label: str) -> Comparison:
    found = row(of, label).comparison
    assert found is not None
    return found


@pytest.mark.parametrize("changes", [{}, {"test": "t-seeds", "correction": "bh"}, {"baseline": "dpo"}])
def test_swapped_roles_give_the_same_table_transposed(folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """With the folders' roles exchanged, rows of backbones must be what rows of methods were before.

    Every number, mark, interval, verdict and missing cell is compared, and also the other way round.
    """
    first, second = results.load(folder), results.load(swap(folder, tmp_path / "swapped"))
    for a, b, direction in ((first, second, "methods"), (second, first, "backbones")):
        config = StatsConfig(**{"baseline": "sft", "rows": direction, **changes})
        other = replace(config, rows="backbones" if direction == "methods" else "methods")
        expected, found = report.build(a, config=config), report.build(b, config=other)
        assert replace(found, config=expected.config) == expected
        assert sum(r.comparison is not None for made in expected.blocks for r in made.rows) >= 4


def test_a_backbone_is_compared_with_the_first_one_on_shared_users_and_seeds(transposed: Path) -> None:
    """D is rqvae's users less rkmeans's over the two seeds they share; Holm is over rqvae and most-popular."""
    table = report.build(results.load(transposed))
    sft = block(table, "sft")

    def values(cell: str) -> np.ndarray[Any, Any]:
        found = results.load(transposed)
        records = [r for r in found.records if r.name.startswith(f"beauty/{cell} ") and r.seed != 44]
        return np.array([found.users(r)["ndcg@10"] for r in records])

    base = values("rkmeans/sft")
    tests = {"rqvae": stats.two_way(values("rqvae/sft") - base)}
    tests["most-popular"] = stats.two_way(values("none/most-popular") - base)
    assert table.config.baseline == "rkmeans"
    assert [r.label for r in sft.rows] == ["rkmeans", "rqvae", "letter", "most-popular", "item-graph"]
    assert {r.label: r.comparison.test for r in sft.rows if r.comparison is not None} == tests
    assert tests["most-popular"].p < tests["rqvae"].p < 0.025
    corrected = [comparison(sft, label).corrected_p for label in ("rqvae", "most-popular")]
    assert corrected == pytest.approx(stats.holm(stats.family_p(list(tests.values()))))
    assert [comparison(sft, label).verdict for label in ("most-popular", "rqvae")] == ["worse", "better"]
    assert [r.bare for r in sft.rows] == [False, False, False, True, False]


def test_missing_and_failed_cells_are_those_of_the_block(transposed: Path) -> None:
    """Of beauty's five failures rqvae's is one of sft alone, and those without a backbone stand in both blocks."""
    table = report.build(results.load(transposed))
    bare = {"most-popular": (44,), "item-graph": (42, 43, 44)}
    sft, dpo = block(table, "sft"), block(table, "dpo")
    assert (sft.missing, sft.failed) == ({"rqvae": (44,), "letter": (42, 43, 44), **bare}, 5)
    assert dpo.missing == {"rkmeans": (43, 44), "rqvae": (43, 44), "letter": (42, 43, 44), **bare}
    assert dpo.failed == 4
    assert table.empty == (("beauty", "ppo"), ("yelp", "sft"), ("yelp", "dpo"), ("yelp", "ppo"))


def test_one_seed_cannot_tell_backbones_apart(transposed: Path) -> None:
    table = report.build(results.load(transposed))
    dpo = block(table, "dpo")
    assert (comparison(dpo, "rqvae").star, comparison(dpo, "rqvae").test.checkpoint_only) == (False, True)
    assert any("one seed cannot tell backbones apart" in s for s in caption(table, dpo))


def test_rankers_without_a_backbone_alone_make_one_block(transposed: Path) -> None:
    table = report.build(results.load(transposed))
    yelp = block(table, "none", "yelp")
    assert (title(yelp), yelp.family, yelp.missing["most-popular"]) == ("yelp", 0, (43, 44))
    assert [bool(r.seeds) for r in yelp.rows] == [False, False, False, True, False]
    assert "No stars: the baseline rkmeans has no result here." in caption(table, yelp)


def test_a_suite_without_backbones_has_rankers_as_rows(
    tmp_path: Path, cell: Callable[..., Path], suite: Callable[..., None]
) -> None:
    suite(tmp_path, backbones=[], methods=[{"name": "most-popular", "label": "most-popular"}], stats={})
    cell(tmp_path, "beauty", "none", "most-popular", 42)
    table = report.build(results.load(tmp_path), config=StatsConfig(rows="backbones"))
    assert [(b.label, [r.label for r in b.rows]) for b in table.blocks] == [("none", ["most-popular"])]
    assert table.config.baseline == "most-popular"
    assert table.empty == (("yelp", "none"),)


def test_tests_over_users_do_not_speak_of_backbones(transposed: Path) -> None:
    text = report.render(results.load(transposed), "md", changes={"test": "t-users"})
    assert "This test speaks of these checkpoints, not of the backbones: it takes the seeds as fixed." in text


def test_markdown_golden(transposed: Path) -> None:
    text = report.render(results.load(transposed), "md")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_csv_keeps_its_columns_and_says_backbone_and_method(folder: Path, transposed: Path) -> None:
    default, other = (report.render(results.load(path), "csv") for path in (folder, transposed))
    assert default.splitlines()[0] == other.splitlines()[0]
    lines = list(csv.DictReader(io.StringIO(other)))
    assert [(line["method"], line["backbone"], line["baseline"]) for line in lines if line["dataset"] == "beauty"] == [
        ("sft", "rkmeans", ""),
        ("sft", "rqvae", "rkmeans"),
        ("sft", "letter", ""),
        ("sft", "most-popular", "rkmeans"),
        ("sft", "item-graph", ""),
        ("dpo", "rkmeans", ""),
        ("dpo", "rqvae", "rkmeans"),
        ("dpo", "letter", ""),
        ("dpo", "most-popular", "rkmeans"),
        ("dpo", "item-graph", ""),
    ]


def test_json_says_what_its_rows_are(transposed: Path) -> None:
    data = json.loads(report.render(results.load(transposed), "json"))
    assert (data["config"]["rows"], data["config"]["baseline"]) == ("backbones", "rkmeans")
    assert [(b["dataset"], b["label"]) for b in data["blocks"]] == [
        ("beauty", "sft"),
        ("beauty", "dpo"),
        ("yelp", "none"),
    ]
    assert [r["label"] for r in data["blocks"][0]["rows"]][:2] == ["rkmeans", "rqvae"]


def test_the_terminal_names_backbones(transposed: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.terminal(report.build(results.load(transposed)))[0])
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[0] == ["beauty", "·", "sft"]
    head = next(line for line in lines if "ndcg@10" in line)
    assert (head[0], head[-2:]) == ("backbone", ["vs", "rkmeans"])
    assert ["rqvae", "better"] in [[line[0], line[-1]] for line in lines if line]


def test_other_rows_are_asked_for_on_the_command_line(folder: Path) -> None:
    """The suite's baseline is a method; with rows of backbones the first of them stands in, unless one is named."""

    def run(*options: str) -> str:
        done = CliRunner().invoke(command, [str(folder), *options], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    assert run("--rows", "methods") == run()
    first, named = run("--rows", "backbones"), run("--rows", "backbones", "--baseline", "letter")
    heads = [line for line in first.splitlines() if line.startswith("## ")]
    assert heads == ["## beauty · sft", "## beauty · dpo", "## beauty · ppo", "## yelp · dpo"]
    assert next(line for line in first.splitlines() if "baseline" in line).startswith("| tiger |")
    assert next(line for line in named.splitlines() if "baseline" in line).startswith("| letter |")


def test_rows_of_methods_from_a_suite_of_backbones_compare_with_sft(transposed: Path) -> None:
    found = results.load(transposed)
    root = found.root / "suite.json"
    suite = json.loads(root.read_text())
    root.write_text(json.dumps(suite | {"stats": {**suite["stats"], "baseline": "rqvae"}}))
    found = results.load(transposed)
    assert "comparisons with rqvae." in report.render(found, "md")
    text = report.render(found, "md", changes={"rows": "methods"})
    assert "comparisons with sft." in text
    assert "rqvae's mean" not in text


def test_requests_that_cannot_be_met(
    folder: Path, tmp_path: Path, cell: Callable[..., Path], suite: Callable[..., None]
) -> None:
    found = results.load(folder)
    with pytest.raises(ConfigError, match=r"no backbone 'sft' in .*; rows: tiger, letter, most-popular, best"):
        report.render(found, "md", changes={"rows": "backbones", "baseline": "sft"})
    with pytest.raises(ConfigError, match="rows"):
        report.render(found, "md", changes={"rows": "datasets"})
    root = tmp_path / "twice"
    suite(root, backbones=[{"name": "tiger", "label": "most-popular"}])
    cell(root, "beauty", "most-popular", "sft", 42)
    cell(root, "beauty", "none", "most-popular", 42)
    with pytest.raises(ConfigError, match=r"'most-popular' is a backbone and a ranker without one.*'as: \.\.\.'"):
        report.render(results.load(root), "md", changes={"rows": "backbones"})
    assert report.render(results.load(root), "md").startswith("# tiny")
