"""The command line on real data, as a user meets it: run, stop, kill, go on, fail, look."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rlrecbench import results
from rlrecbench.cli import _main
from rlrecbench.metrics import audit, evaluate
from tests.durability.runs import ENV

SUITE = """
name: e2e
seeds: [1, 2]
datasets:
  - ml-100k: {last: 12, max_history: 5}
backbones:
  - tiger: {preset: tiny, ids: {kind: rkmeans, levels: 2, codes: 32, dim: 16}}
methods: [most-popular, item-graph, sft]
train: {epochs: 2, batch_size: 128, lr: 2e-3, eval_examples: 50, checkpoint_minutes: 0.001}
rank: {beams: 10}
stats: {baseline: sft}
"""
ONE_SEED = ["--set", "seeds=[1]"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A small suite in a folder of its own."""
    (tmp_path / "x.yaml").write_text(SUITE)
    return tmp_path / "x.yaml"


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "rlrecbench", *map(str, arguments)]


def _call(folder: Path, *arguments: str | Path, env: dict[str, str] = ENV) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(*arguments), cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
    )


def _inside(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The same command line in this process, which has its imports already."""
    status = _main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, out, err)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from beginning to end, for tests that only look."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "x.yaml").write_text(SUITE)
    done = _call(folder, "run", "x.yaml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    return folder / "results" / "e2e"


def test_a_run_writes_the_records_of_the_contract(finished: Path) -> None:
    cells = sorted(str(p.parent.relative_to(finished / "cells")) for p in finished.rglob("metrics.json"))
    assert cells == [
        f"ml-100k/{b}/{m}/seed-{s}"
        for b, m in (("none", "item-graph"), ("none", "most-popular"), ("tiger", "sft"))
        for s in (1, 2)
    ]
    cell = finished / "cells/ml-100k/tiger/sft/seed-1"
    record = json.loads((cell / "metrics.json").read_text())
    assert record["schema"] == 1
    assert set(record["metrics"]) == {
        "recall@5", "recall@10", "ndcg@5", "ndcg@10", "dgu@10", "mgu@10", "entropy@10", "ttr@10",
    }  # fmt: skip
    assert {"invalid", "duplicate", "short"} <= {k.split("_")[0] for k in record["audit"]}
    assert record["cost"]["examples"] > 0
    assert len(record["provenance"]["fingerprint"]) == 64
    users = pd.read_parquet(cell / "users.parquet")
    assert len(users) == 943
    assert users["recall@10"].mean() == pytest.approx(record["metrics"]["recall@10"])
    assert (users["rank"].notna() == (users["recall@10"] == 1)).all()
    ranked = pd.read_parquet(cell / "ranked.parquet")
    assert list(ranked.columns) == ["user_id", "rank", "item_id", "score"]
    assert len(ranked) == 9430
    hits = ranked.merge(users, on="user_id").query("item_id == target")
    assert (hits["rank_x"] == hits["rank_y"]).all()
    assert (cell / "train.jsonl").read_text().count("valid/ndcg@10") == 2


def test_a_results_folder_gives_its_metrics_without_store_or_data(finished: Path) -> None:
    """Titles, groups and frequencies in ``data/`` are those that the metrics were made from."""
    found = results.load(finished)
    for record in found.records:
        lists = found.lists(record)
        assert lists is not None
        assert evaluate(lists, list(record.metrics)).values == record.metrics
        assert {k: v for k, v in audit(lists).items() if v} == {k: v for k, v in record.audit.items() if v}
    rows, users = found.rows("ml-100k"), found.users(found.records[0])
    assert rows is not None
    assert (list(rows["user_id"]), list(rows["target"])) == (list(users["user_id"]), list(users["target"]))
    assert {len(history) for history in rows["history"]} <= set(range(1, 6))


def test_a_finished_suite_computes_nothing_again(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    done = _call(finished.parents[1], "run", "x.yaml")
    assert done.returncode == 0
    assert "nothing to compute" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")} == before


def test_looking_at_a_finished_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.parents[1])
    states = json.loads(_inside(capsys, "status", finished, "--json").stdout)
    assert {s["state"] for s in states} == {"done"}
    assert len(states) == 6
    report = _inside(capsys, "report", finished)
    assert report.returncode == 0
    assert report.stdout == (finished / "leaderboard.md").read_text()
    assert "most-popular" in report.stdout
    plan = json.loads(_inside(capsys, "plan", "x.yaml", "--json").stdout)
    assert all(s["done"] for s in plan["stages"])
    lists = _inside(
        capsys,
        "score",
        finished / "cells/ml-100k/tiger/sft/seed-1/ranked.parquet",
        "--dataset",
        "ml-100k",
        "--max-history",
        "5",
        "--json",
    )
    assert lists.returncode == 0, lists.stderr
    record = json.loads((finished / "cells/ml-100k/tiger/sft/seed-1/metrics.json").read_text())
    assert json.loads(lists.stdout)["metrics"]["recall@10"] == pytest.approx(record["metrics"]["recall@10"])


PLUGIN = '''
from dataclasses import dataclass
from rlrecbench.api import FineTune, Positive, method

@method("hinge")
@dataclass(frozen=True)
class Hinge(FineTune):
    """The target's log-ratio must beat a random item's by a margin."""

    reference = "start"
    margin: Positive = 1.0  # nats

    def candidates(self, draw):
        return draw.beside_target(draw.uniform(1))

    def loss(self, step):
        return (self.margin - step.gain[:, 0] + step.gain[:, 1]).relu().mean()


@method("breaks")
@dataclass(frozen=True)
class Breaks(Hinge):
    """Fails in training."""

    def loss(self, step):
        raise RuntimeError("on purpose")
'''


def test_a_plugin_runs_from_a_suite_and_a_failing_cell_stops_nothing_else(suite: Path) -> None:
    folder = suite.parent
    (folder / "mine.py").write_text(PLUGIN)
    text = SUITE.replace(
        "methods: [most-popular, item-graph, sft]", "methods: [sft, hinge, breaks]\nplugins: [mine.py]"
    )
    suite.write_text(text.replace("seeds: [1, 2]", "seeds: [1]"))
    done = _call(folder, "run", "x.yaml", "--set", "train.epochs=1")
    assert done.returncode == 3, done.stderr
    assert "RuntimeError: on purpose" in done.stderr
    board = (folder / "results/e2e/leaderboard.md").read_text()
    assert "hinge" in board
    assert "breaks" in board
    states = {s["cell"]: s["state"] for s in json.loads(_call(folder, "status", "results/e2e", "--json").stdout)}
    assert states == {
        "ml-100k/tiger/sft seed 1": "done",
        "ml-100k/tiger/hinge seed 1": "done",
        "ml-100k/tiger/breaks seed 1": "failed",
    }
    listed = json.loads(_call(folder, "list", "methods", "--plugin", "mine.py", "--json").stdout)
    assert any(e["name"] == "hinge" and e["origin"].split(":")[0].endswith("mine.py") for e in listed)
    shown = _call(folder, "show", "method", "hinge", "--plugin", "mine.py").stdout
    assert "margin" in shown
    assert "nats" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "did you mean 'quickstart'"),
        (["run", "no.yaml"], "does not exist"),
        (["run", "x.yaml", "--set", "methods.sft.lr=-1"], "methods[2].lr"),
        (["run", "x.yaml", "--only", "method=sfft"], "did you mean 'sft'"),
        (["run", "x.yaml", "--workers", "0"], "--workers"),
        (["run", "x.yaml", "--results", "other"], "holds the results of suite 'other'"),
        (["run", "x.yaml", "--results", "x.yaml"], "not a results folder"),
        (["run", "x.yaml", "--results", "/proc/nowhere"], "cannot be written"),
        (["run", "empty.yaml"], "is empty"),
        (["run", "broken.yaml"], "not valid YAML"),
        (["run", "x.yaml", "--set", "datasets=[beautty]"], "beautty"),
        (["validate", "x.yaml", "--set", "trian.epochs=1"], "did you mean 'train'"),
        (["status", "nowhere"], "not a results folder"),
        (["report", "nowhere"], "nowhere"),
        (["show", "method", "sfft"], "did you mean 'sft'"),
        (["check", "sfft"], "did you mean 'sft'"),
        (["check", "sft", "--plugin", "no.py"], "does not exist"),
        (["score", "no.tsv", "--dataset", "ml-100k"], "no.tsv"),
        (["score", "bad.tsv", "--dataset", "ml-100k"], "item"),
        (["score", "ranks.tsv", "--dataset", "ml-100k"], "rank"),
        (["score", "ok.tsv", "--dataset", "ml-100k", "--k", "0"], "--k"),
        (["score", "ok.tsv", "--dataset", "ml100k"], "ml-100k"),
        (["data", "info", "ml100k"], "ml-100k"),
        (["list", "methodz"], "methodz"),
        (["bench", "--only", "nothing"], "nothing"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_requests_get_one_sentence_and_status_2(
    suite: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = suite.parent
    (folder / "empty.yaml").write_text("")
    (folder / "broken.yaml").write_text("a: [1\n")
    (folder / "bad.tsv").write_text("user_id\trank\titem_id\n1\t1\tnope\n")
    (folder / "ranks.tsv").write_text("user_id\trank\titem_id\n196\t2\t242\n")
    (folder / "ok.tsv").write_text("user_id\trank\titem_id\n196\t1\t242\n")
    (folder / "other").mkdir()
    (folder / "other/suite.json").write_text('{"name": "other"}')
    before = sorted(p.name for p in folder.rglob("*"))
    monkeypatch.chdir(folder)
    status = _main(arguments)
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert message in errors
    assert "Traceback" not in errors
    assert errors.count("\n") <= 6  # click adds its usage lines
    assert sorted(p.name for p in folder.rglob("*") if p.name != "results") == before


SCRIPT = """
import rlrecbench as rb

changes = {"seeds": [1], "train.epochs": 1, "methods": ["sft", {"sft": {"as": "same"}}]}
results = rb.run("x.yaml", set=changes, track=["tensorboard"], quiet=True)
board = results.leaderboard()
print(len(results.records), sorted(r.method for r in results.records), len(board) > 0)
"""


def test_a_plain_script_runs_a_suite_and_equal_settings_give_two_rows(suite: Path) -> None:
    """No main guard in the script, and two labels that share every stage."""
    (suite.parent / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=suite.parent,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["2", "['same', 'sft'] True\n"]
    assert list((suite.parent / "results/e2e/tracking/tensorboard").rglob("events.out.*"))


def test_help_is_quick(tmp_path: Path) -> None:
    """What takes long to import is not: 0.3 s on a quiet machine, where torch alone takes seconds."""
    code = (
        "import sys; from rlrecbench.cli import _main; status = _main(['run', '--help']); "
        "slow = {'torch', 'transformers', 'pandas', 'numpy', 'scipy', 'matplotlib', 'pydantic', 'yaml'}; "
        "print(status, sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Run a suite" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_doctor_lists_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(_inside(capsys, "doctor", "--json", "--quick").stdout)
    assert report["features"]["recbole"]["there"]
    assert "recbole" in report["data"]["ml-100k"]
    for kind in ("methods", "backbones", "datasets", "metrics", "rewards", "suites"):
        assert json.loads(_inside(capsys, "list", kind, "--json").stdout)
    info = json.loads(_inside(capsys, "data", "info", "ml-100k", "--json").stdout)
    assert info["statistics"]["users"]["computed"] == 943
    assert _inside(capsys, "data", "verify", "ml-100k").returncode == 0
