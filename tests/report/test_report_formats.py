"""The leaderboard in each format; golden files are rewritten with UPDATE_GOLDEN=1."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from rlrecbench import report, results
from rlrecbench.report import words

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str, text: str) -> str:
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    return (GOLDEN / name).read_text(encoding="utf-8")


def test_markdown_golden(folder: Path) -> None:
    text = report.render(results.load(folder), "md")
    assert text == golden("leaderboard.md", text)


def test_csv_golden(folder: Path) -> None:
    """Numbers to 1e-9: the last digit of a mean is the processor's."""
    text = report.render(results.load(folder), "csv")
    found, expected = (list(csv.reader(io.StringIO(t))) for t in (text, golden("leaderboard.csv", text)))
    assert [len(line) for line in found] == [len(found[0])] * 13
    for line, other in zip(found, expected, strict=True):
        for a, b in zip(line, other, strict=True):
            assert a == b or float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-15)


def test_csv_reads_back_unrounded(folder: Path) -> None:
    found = results.load(folder)
    table = report.build(found)
    first = next(csv.DictReader(io.StringIO(report.render(found, "csv"))))
    value = table.blocks[0].rows[0].values["ndcg@10"]
    assert value is not None
    assert (float(first["ndcg@10"]), float(first["ndcg@10 std"])) == (value.mean, value.std)
    assert (first["method"], first["seeds"], first["train_s"], first["p"]) == ("sft", "3", "120.5", "")


def test_json_holds_the_whole_table(folder: Path) -> None:
    found = results.load(folder)
    table = report.build(found)
    data = json.loads(report.render(found, "json"))
    dpo = data["blocks"][0]["rows"][1]
    comparison = table.blocks[0].rows[1].comparison
    assert comparison is not None
    assert data["schema"] == 3
    assert data["config"]["baseline"] == "sft"
    assert dpo["comparison"]["test"]["p"] == comparison.test.p
    assert dpo["comparison"]["tally"] == {"users_won": 48, "users_lost": 0, "users_tied": 16, "seeds_won": 3}
    assert set(dpo["comparison"]["test"]["variance"]) == {"users", "seeds", "interaction"}


def test_json_has_no_infinity(folder: Path) -> None:
    text = report.render(results.load(folder), "json", changes={"test": "t-seeds"})
    ppo = json.loads(text)["blocks"][0]["rows"][2]
    assert (ppo["comparison"]["test"]["low"], ppo["comparison"]["test"]["p"]) == (None, 1.0)


def test_reports_are_regenerated_byte_for_byte(folder: Path) -> None:
    _, paths = report.write_reports(results.load(folder))
    assert [p.name for p in paths][:3] == ["leaderboard.md", "leaderboard.csv", "leaderboard.html"]
    assert {p.parent.name for p in paths[3:]} == {"tables", "figures"}
    before = [p.read_bytes() for p in paths]
    report.write_reports(results.load(folder))
    assert [p.read_bytes() for p in paths] == before
    assert report.render(results.load(folder), "md").encode() == before[0]


@pytest.mark.parametrize("n_metrics", [1, 3, 8])
def test_terminal_fits_100_columns(
    n_metrics: int, tmp_path: Path, cell: Callable[..., Path], suite: Callable[..., None]
) -> None:
    names = [f"{m}@10" for m in ("recall", "mrr", "entropy", "ttr", "coverage", "gini", "mgu", "ndcg")][-n_metrics:]
    long = "s-dpo-from-flower-with-many-words"
    methods = [{"name": m, "label": m} for m in ("sft", "dpo", long)]
    suite(tmp_path, metrics=names, methods=methods)
    for seed in (42, 43, 44):
        values = dict.fromkeys(names, 0.1 + seed / 1000)
        cell(tmp_path, "beauty", "tiger", "sft", seed, metrics=values)
        cell(tmp_path, "beauty", "tiger", "dpo", seed, metrics={k: 2 * v for k, v in values.items()})
    (grid,) = report.terminal(report.build(results.load(tmp_path)))
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(grid)
    lines = [Text.from_ansi(line) for line in capture.get().splitlines()]
    text = "\n".join(line.plain.rstrip() for line in lines)
    assert max(map(len, text.splitlines())) <= 100
    assert "ndcg@10 ↑" in text
    assert long in text
    assert "…" not in text
    best = next(line for line in lines if line.plain.strip().startswith("dpo"))
    assert [best.plain[s.start : s.end] for s in best.spans if "bold" in str(s.style)] == ["0.2860"] * shown(text)
    assert ("more metrics in leaderboard.md" in text) == (n_metrics == 8)


def shown(text: str) -> int:
    """Columns of metrics whose higher values are better."""
    return text.count("@10 ↑")


def test_terminal_lines_are_at_most_100_wide(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    for grid in report.terminal(report.build(results.load(folder))):
        console.print(grid)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "0.3477*" in text
    assert "+75.7 % better" in text
    assert "checkpoint-level only" in text


def test_words() -> None:
    assert words.number(float("nan")) == "n/a"
    assert words.number(0.03545) == "0.0355"
    assert (words.p_value(0.0), words.p_value(0.0316)) == ("< 0.001", "0.032")


def test_a_report_needs_no_torch() -> None:
    code = "import sys, rlrecbench.report, rlrecbench.stats, rlrecbench.results; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
